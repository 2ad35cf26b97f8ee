"""The disk cache of the archive when it is full: who writes, who recalls, what goes and what stays."""
import errno
import os
import subprocess

import pytest

from harness import errno_of, opened, read_file, wait_for

KB = 1000
SIZE = 250 * KB


def free(a):
    st = os.statvfs(a.mnt)
    return st.f_bavail * st.f_frsize


def waiting(a):
    return a.api('GET', '/v1/state')['queue']['waiting']


def full(archive, **more):
    """A cache of 250,000 bytes with a pinned file of 200,000 in it."""
    a = archive(release__when='pressure', cache__size=str(SIZE), **more)
    a.put('kept', b'k' * 200 * KB)
    a.settle()
    a.ask('pin', 'kept', pin=3600)
    assert a.is_now('kept') == 'dual'
    return a


def writer(a, name, data):
    """A process that writes the file; it says what came of it."""
    a.put(name, b'')
    return subprocess.Popen(['python3', '-c', 'import os, sys\n'
                   'fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)\n'
                   'print(os.write(fd, b"w" * int(sys.argv[2])), flush=True)\n', a.at(name), str(data)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_writer_gets_ENOSPC_when_nothing_can_go_and_statvfs_said_so(archive):
    a = full(archive)
    assert free(a) <= 50 * KB
    with opened(a.at('f'), os.O_WRONLY | os.O_CREAT) as fd:
        assert os.write(fd, b'f' * 40 * KB) == 40 * KB
        assert free(a) <= 10 * KB					# it counts before it is closed
        with pytest.raises(OSError) as e:				# the kernel sends it in pieces: some may still fit
            for _ in range(10):
                os.write(fd, b'f' * 20 * KB)
        assert e.value.errno == errno.ENOSPC
        assert 40 * KB <= os.fstat(fd).st_size <= 50 * KB
        assert os.pwrite(fd, b'g' * 40 * KB, 0) == 40 * KB		# what is there can be written again
    assert errno_of(os.truncate, a.at('f'), 300 * KB) == 'ENOSPC'
    with opened(a.at('f'), os.O_WRONLY) as fd:
        assert errno_of(os.posix_fallocate, fd, 0, 100 * KB) == 'ENOSPC'
        assert errno_of(os.ftruncate, fd, 100 * KB) == 'ENOSPC'
        with opened(a.at('kept'), os.O_RDONLY) as source:
            assert errno_of(os.copy_file_range, source, fd, 100 * KB, 0, 0) == 'ENOSPC'
    assert a.is_now('kept') == 'dual'					# pinned


def test_what_can_go_goes_for_a_writer_oldest_first(archive):
    a = archive(release__when='pressure', cache__size=str(SIZE))
    for name in 'abc':
        a.put(name, name.encode() * 80 * KB)
        a.settle()
        a.advance(1)
    with opened(a.at('d'), os.O_WRONLY | os.O_CREAT) as fd:
        assert os.write(fd, b'd' * 100 * KB) == 100 * KB
        assert [a.is_now(n) for n in 'abc'] == ['released', 'released', 'dual']	# 80 and 80 of 240, for 100 in 250
        assert 60 * KB < free(a) <= 70 * KB
        os.ftruncate(fd, 10 * KB)
        assert 150 * KB < free(a) <= 160 * KB
    os.unlink(a.at('d'))
    assert 160 * KB < free(a) <= 170 * KB


def test_what_is_deleted_and_open_takes_its_room_until_it_is_closed(archive):
    a = full(archive)
    a.set(archive__when='explicit')
    a.put('f', b'f' * 40 * KB)
    with opened(a.at('f'), os.O_RDONLY):
        os.unlink(a.at('f'))
        assert free(a) <= 10 * KB
    wait_for('its room', lambda: free(a) > 45 * KB)


@pytest.mark.parametrize('how', ['unpinned', 'deleted', 'bigger', 'pin ends', 'errno'])
def test_a_writer_waits_for_room_where_the_switch_says(archive, how):
    a = full(archive, cache__full='wait')
    p = writer(a, 'f', 100 * KB)
    a.wait_callers('f')
    assert waiting(a) == 1 and p.poll() is None
    if how == 'unpinned':
        a.ask('pin', 'kept', pin=0)
    elif how == 'deleted':
        os.unlink(a.at('kept'))
    elif how == 'bigger':
        a.set(cache__size='400000')
    elif how == 'pin ends':
        a.advance(3600 + 20)
    else:
        a.set(cache__full='errno')
    out = p.communicate(timeout=20)
    assert (p.returncode, out[0].strip()) == ((0, b'100000') if how != 'errno' else (1, b'')), out
    assert how != 'errno' or b'No space left' in out[1]
    if how in ('unpinned', 'pin ends'):
        assert a.is_now('kept') == 'released'


def test_a_writer_that_waits_for_room_can_be_killed(archive):
    a = full(archive, cache__full='wait')
    p = writer(a, 'f', 100 * KB)
    a.wait_callers('f')
    p.kill()
    assert p.wait(5) == -9
    wait_for('nobody', lambda: waiting(a) == 0)


def test_what_can_never_fit_is_refused_at_once_even_where_writers_wait(archive):
    a = full(archive, cache__full='wait')
    assert errno_of(os.truncate, a.put('f', b'f'), 2 * SIZE) == 'ENOSPC'


def test_a_recall_without_room_fails_and_one_that_waits_goes_on(archive):
    a = archive(profile='lustre', release__when='pressure', cache__size=str(SIZE))
    a.put('f', b'f' * 100 * KB)
    a.settle()
    a.ask('release', 'f')
    a.put('kept', b'k' * 200 * KB)
    a.settle()
    a.ask('pin', 'kept', pin=7200)
    a.ask('recall', 'f')
    a.settle()
    assert a.is_now('f') == 'failed-recall' and a.file('f')['error']['errno'] == 'ENOSPC'
    a.set(cache__full='wait')
    a.ask('recall', 'f')
    a.advance(60)
    assert a.is_now('f') == 'recalling'
    a.ask('pin', 'kept', pin=0)
    a.advance(120)
    assert a.is_now('f') == 'dual' and a.is_now('kept') == 'released'
    assert read_file(a.at('f')) == b'f' * 100 * KB
    assert 140 * KB < free(a) <= 150 * KB


def test_a_restart_counts_what_is_on_disk(archive):
    a = full(archive)
    a.restart()
    assert 40 * KB < free(a) <= 50 * KB
    assert a.is_now('kept') == 'dual'


def test_writers_may_go_over_the_size_and_what_is_on_tape_goes_afterwards(archive):
    a = full(archive, cache__full='over')
    a.put('f', b'f' * 100 * KB)
    assert free(a) == 0
    a.ask('pin', 'kept', pin=0)
    a.settle()
    assert a.is_now('kept') == 'released' and a.is_now('f') == 'dual'


def about_to_go(archive):
    """An archive whose file f goes in an hour, whatever pins it then."""
    a = archive(release__when='pressure', cache__size=str(SIZE))
    a.put('f', b'f' * 100 * KB)
    a.settle()
    a.ask('release', 'f')
    rule = a.fault({'phase': 'evict', 'path': 'f'}, evict=True, delay=3600)
    a.ask('recall', 'f')
    a.advance(60)
    assert a.is_now('f') == 'dual'
    a.api('DELETE', '/v1/faults/' + rule)
    return a


@pytest.mark.parametrize('written', [False, True])
def test_who_opens_a_file_that_was_about_to_go_takes_it_out_of_what_makes_room(archive, written):
    a = about_to_go(archive)
    with opened(a.at('f'), os.O_WRONLY) as fd:
        if written:
            os.pwrite(fd, b'g', 0)
    a.advance(60)
    assert a.is_now('f') == 'dual'
    # It does not go any more, so who wants its room has to see to it.
    p = writer(a, 'g', 200 * KB)
    out = p.communicate(timeout=20)
    assert (p.returncode, out[0].strip()) == (0, b'200000'), out
    assert a.is_now('f') == 'released'


def test_who_opens_a_file_that_was_about_to_go_may_pin_it(archive):
    a = about_to_go(archive)
    with opened(a.at('f'), os.O_WRONLY):
        pass
    a.ask('pin', 'f', pin=2 * 3600)
    a.advance(3600)
    assert a.is_now('f') == 'dual'
