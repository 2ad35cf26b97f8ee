"""Files on tape that are deleted while somebody has them open: he reads them, as he reads any deleted file."""
import os

import pytest

from harness import errno_of, opened, read_file, wait_for

DATA = bytes(range(256)) * 1000


def on_tape(a):
    return os.listdir(os.path.join(a.store, 'tape'))


def offline_and_open(archive, **settings):
    """(archive, descriptor) of a file that is on tape only, opened and then deleted."""
    a = archive(**settings)
    a.archived('d/f', DATA)
    fd = os.open(a.at('d/f'), os.O_RDONLY)
    os.unlink(a.at('d/f'))
    return a, fd


def drain(fd):
    return os.pread(fd, len(DATA) + 1, 0)


@pytest.mark.parametrize('profile, answer', [('lustre-nonblocking', 'ENODATA'), ('samba', 'EACCES')])
def test_the_profile_s_answer_and_then_the_data_or_again_the_answer(archive, profile, answer):
    a, fd = offline_and_open(archive, profile=profile, trigger='explicit' if profile == 'samba' else 'read')
    try:
        assert errno_of(drain, fd) == answer
        assert os.fstat(fd).st_size == len(DATA) and os.fstat(fd).st_nlink == 0
        a.settle()
        if profile == 'samba':				# nobody can ask for it any more: it has no name
            assert errno_of(drain, fd) == answer
        else:
            assert drain(fd) == DATA
    finally:
        os.close(fd)
    wait_for('an empty tape', lambda: on_tape(a) == [])


def test_a_new_file_of_that_name_has_its_own_data_and_copies(archive):
    a, fd = offline_and_open(archive, profile='lustre-nonblocking')
    a.archived('d/f', b'new')
    assert len(on_tape(a)) == 2
    assert errno_of(drain, fd) == 'ENODATA' and errno_of(read_file, a.at('d/f')) == 'ENODATA'
    a.settle()
    assert drain(fd) == DATA and read_file(a.at('d/f')) == b'new'
    assert read_file(os.path.join(a.replica, 'd/f')) == b'new'
    os.close(fd)
    wait_for('one copy', lambda: len(on_tape(a)) == 1)
    assert [f['path'] for f in a.api('GET', '/v1/files')['files']] == ['/d/f'] and read_file(a.at('d/f')) == b'new'


def test_a_rename_over_it_counts_as_deleting_it(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', DATA)
    with opened(a.at('f'), os.O_RDONLY) as fd:
        a.put('g', b'g')
        os.rename(a.at('g'), a.at('f'))
        assert errno_of(drain, fd) == 'ENODATA'
        a.settle()
        assert drain(fd) == DATA


def test_deleted_in_the_middle_of_its_recall(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', DATA)
    with opened(a.at('f'), os.O_RDONLY) as fd:
        assert errno_of(drain, fd) == 'ENODATA'
        a.advance(1)
        assert a.is_now('f') == 'recalling'
        os.unlink(a.at('f'))
        a.settle()
        assert drain(fd) == DATA
    wait_for('an empty tape', lambda: on_tape(a) == [])


def test_closed_in_the_middle_of_its_recall_nothing_is_left(archive):
    a, fd = offline_and_open(archive, profile='lustre-nonblocking', drives=1)
    assert errno_of(drain, fd) == 'ENODATA'
    a.advance(1)
    os.close(fd)
    wait_for('an empty tape', lambda: on_tape(a) == [])
    a.settle()
    assert a.api('GET', '/v1/state')['queue'] == {'archive': 0, 'recall': 0, 'waiting': 0}
    a.archived('g', DATA)						# the drive is free


def test_what_only_the_replica_has_is_kept_for_the_reader(archive):
    a = archive(profile='lustre-nonblocking', recall__from='any')
    a.archived('f', DATA)
    a.ask('lose', 'f', copy='tape')
    with opened(a.at('f'), os.O_RDONLY) as fd:
        os.unlink(a.at('f'))
        assert os.listdir(a.replica) == []
        assert errno_of(drain, fd) == 'ENODATA'
        a.settle()
        assert drain(fd) == DATA


def test_a_lost_one_stays_lost(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', DATA)
    a.ask('lose', 'f', copy='tape')
    with opened(a.at('f'), os.O_RDONLY) as fd:
        os.unlink(a.at('f'))
        assert errno_of(drain, fd) == 'EPERM'


def test_killed_meanwhile_nothing_is_left_of_it(archive):
    a, fd = offline_and_open(archive, profile='lustre-nonblocking')
    a.kill9()
    os.close(fd)
    a.start()
    assert on_tape(a) == [] and a.api('GET', '/v1/files')['files'] == []
