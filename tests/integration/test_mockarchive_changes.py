"""Names and contents that change while a file is on its way to tape or back."""
import os
import subprocess

import pytest

from harness import errno_of, opened, read_file, wait_for
from tape import noise, reader


@pytest.mark.parametrize('phase', ['archiving', 'released', 'recalling'])
def test_renamed_in_each_phase(archive, phase):
    a = archive(profile='lustre-nonblocking')
    data = noise(100000)
    a.put('d/f', data)
    if phase != 'archiving':
        a.settle()
    if phase == 'recalling':
        errno_of(read_file, a.at('d/f'))
    assert a.is_now('d/f') == phase
    os.rename(a.at('d/f'), a.at('d/g'))
    os.rename(a.at('d'), a.at('e'))
    assert a.is_now('e/g') == phase
    a.settle()
    errno_of(read_file, a.at('e/g'))
    a.settle()
    assert read_file(a.at('e/g')) == data == read_file(os.path.join(a.replica, 'e/g'))
    assert not os.path.exists(os.path.join(a.replica, 'd'))


@pytest.mark.parametrize('phase', ['archiving', 'dual', 'released', 'recalling'])
def test_removed_in_each_phase(archive, phase):
    a = archive(profile='lustre-nonblocking', release__when='explicit' if phase == 'dual' else 'archived')
    a.put('f', noise(100000))
    if phase != 'archiving':
        a.settle()
    if phase == 'recalling':
        errno_of(read_file, a.at('f'))
    assert a.is_now('f') == phase
    os.unlink(a.at('f'))
    a.settle()
    assert errno_of(os.stat, a.at('f')) == 'ENOENT'
    assert os.listdir(os.path.join(a.store, 'tape')) == [] and os.listdir(a.replica) == []
    assert a.api('GET', '/v1/files')['files'] == []
    a.archived('f', b'another', state='dual' if phase == 'dual' else 'released')


def test_removed_while_somebody_waits_for_it(archive):
    a = archive(profile='lustre')
    a.archived('f')
    p = reader(a.at('f'))
    a.wait_callers('f')
    os.unlink(a.at('f'))
    a.settle()
    out, _ = p.communicate(timeout=10)
    assert (p.returncode, out) == (0, b'one\n')			# as any file that is deleted while it is read


def test_a_file_that_replaces_another_has_its_own_copies(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', b'old')
    a.put('g', b'new!')
    os.rename(a.at('g'), a.at('f'))
    a.settle()
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'new!' == read_file(os.path.join(a.replica, 'f'))
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == 1


@pytest.mark.parametrize('phase', ['archiving', 'dual'])
def test_written_again_it_is_archived_again(archive, phase):
    a = archive(release__when='explicit')
    a.put('f', b'old')
    if phase == 'dual':
        a.settle()
    with opened(a.at('f'), os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b' and new')
    a.settle()
    assert a.is_now('f') == 'dual'
    assert read_file(os.path.join(a.replica, 'f')) == b'old and new'
    assert a.file('f')['copies'] == {'tape': 'good', 'replica': 'good'}
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == 1


def test_opened_for_writing_and_not_changed_it_stays_as_it_is(archive):
    a = archive(release__when='explicit')
    a.archived('f', state='dual')
    with opened(a.at('f'), os.O_RDWR):
        assert a.is_now('f') == 'writing'
    wait_for('dual again', lambda: a.is_now('f') == 'dual')
    assert a.api('GET', '/v1/clock')['events'] == 0


def test_opening_an_offline_file_for_writing_recalls_it_first(archive):
    a = archive(profile='lustre')
    a.archived('f', b'old')
    p = subprocess.Popen(['sh', '-c', 'echo " and new" >> "$0"', a.at('f')])
    a.wait_callers('f')
    a.settle()
    assert p.wait(10) == 0
    a.settle()
    assert read_file(os.path.join(a.replica, 'f')) == b'old and new\n'


@pytest.mark.parametrize('phase', ['archiving', 'released', 'recalling'])
@pytest.mark.parametrize('how', ['open', 'path'])
def test_truncated_to_nothing_needs_no_recall(archive, phase, how):
    a = archive(profile='lustre-nonblocking')
    a.put('f', noise(100000))
    if phase != 'archiving':
        a.settle()
    if phase == 'recalling':
        errno_of(read_file, a.at('f'))
    if how == 'open':
        with opened(a.at('f'), os.O_WRONLY | os.O_TRUNC) as fd:
            os.write(fd, b'new')
    else:
        os.truncate(a.at('f'), 0)
        assert os.stat(a.at('f')).st_size == 0
        with opened(a.at('f'), os.O_WRONLY) as fd:
            os.write(fd, b'new')
    a.settle()
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'new' == read_file(os.path.join(a.replica, 'f'))


def test_truncated_to_a_part_is_recalled_first(archive):
    a = archive(profile='lustre')
    data = noise(100000)
    a.archived('f', data)
    p = subprocess.Popen(['truncate', '-s', '5000', a.at('f')])
    a.wait_callers('f')
    a.settle()
    assert p.wait(10) == 0
    a.settle()
    assert read_file(os.path.join(a.replica, 'f')) == data[:5000]


def test_a_second_name_leads_to_the_same_copies(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', b'both')
    os.link(a.at('f'), a.at('g'))
    assert a.is_now('g') == 'released'
    os.unlink(a.at('f'))
    assert errno_of(read_file, a.at('g')) == 'ENODATA'
    a.settle()
    assert read_file(a.at('g')) == b'both' == read_file(os.path.join(a.replica, 'g'))
