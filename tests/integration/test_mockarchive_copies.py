"""Copies that are lost or damaged, and what makes them: drives, queues, the cache, pins."""
import os

import pytest

from harness import errno_of, opened, read_file
from tape import ApiError, noise


# ---- copies -------------------------------------------------------------------------------------

def test_a_lost_file_keeps_its_size_and_cannot_be_read(archive):
    a = archive(profile='lustre')
    a.archived('f')
    a.ask('lose', 'f', copy='both')
    assert a.is_now('f') == 'lost' and os.stat(a.at('f')).st_size == 4
    assert errno_of(read_file, a.at('f')) == 'EPERM'
    assert not os.path.exists(os.path.join(a.replica, 'f'))


def test_a_lost_tape_copy_is_mended_from_the_replica(archive):
    a = archive()
    a.archived('f')
    a.ask('lose', 'f', copy='tape')
    assert errno_of(read_file, a.at('f')) == 'EIO' and a.is_now('f') == 'lost'
    a.ask('mend', 'f')
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'one\n'
    a.ask('release', 'f')
    a.ask('lose', 'f', copy='tape')
    a.set(recall__from='any')
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'one\n'


def test_damaged_and_unavailable_copies(archive):
    a = archive(unavailable__errno='ENOMEDIUM', damaged__errno='EBADMSG')
    a.archived('f')
    a.ask('unavailable', 'f')
    assert a.is_now('f') == 'unavailable' and errno_of(read_file, a.at('f')) == 'ENOMEDIUM'
    a.ask('mend', 'f')
    a.ask('damage', 'f', copy='tape')
    assert a.is_now('f') == 'damaged' and errno_of(read_file, a.at('f')) == 'EBADMSG'
    a.ask('mend', 'f')
    assert a.is_now('f') == 'released'


def test_a_corrupted_copy_comes_back_with_its_size_and_other_data(archive):
    a = archive()
    data = noise(100000)
    a.archived('f', data)
    a.ask('corrupt', 'f', copy='tape', corrupt={'how': 'flip', 'offset': 5000})
    errno_of(read_file, a.at('f'))
    a.settle()
    got = read_file(a.at('f'))
    assert len(got) == len(data) and [i for i in range(len(data)) if got[i] != data[i]] == [5000]


# ---- resources ----------------------------------------------------------------------------------

def test_drives_mount_seek_rewind_and_rate_take_their_time(archive):
    a = archive(drives=1, archive__delay='0', recall__delay='0', tape__mount='60s', tape__seek='10s', tape__rewind='30s', tape__rate='1',
                tape__files=1)
    a.put('f', noise(2000000))
    a.advance(71.9)
    assert a.is_now('f') == 'archiving'
    a.advance(0.1)                      # 60 + 10 + 2 MB at 1 MB/s
    assert a.is_now('f') == 'released'
    a.put('g', noise(1000000))
    a.advance(100.9)                    # another tape: 30 + 60 + 10 + 1
    assert a.is_now('g') == 'archiving'
    a.advance(0.1)
    assert a.is_now('g') == 'released'
    errno_of(read_file, a.at('g'))
    a.advance(11)                       # its tape is in the drive
    assert a.is_now('g') == 'dual'


def test_few_drives_make_a_queue_and_a_drive_that_is_down_takes_nothing(archive):
    a = archive(drives=2)
    for i in range(6):
        a.put('f%d' % i)
    a.advance(0)
    state = a.api('GET', '/v1/state')
    assert state['queue']['archive'] == 4
    a.advance(5)
    assert a.api('GET', '/v1/state')['files']['released'] == 2
    a.api('PATCH', '/v1/drives/0', up=False)
    a.advance(5)
    assert a.api('GET', '/v1/state')['files']['released'] == 3
    a.api('PATCH', '/v1/drives/1', up=False)
    a.advance(3600)
    assert a.api('GET', '/v1/state')['files']['released'] == 3
    a.api('PATCH', '/v1/drives/0', up=True)
    a.settle()
    assert a.api('GET', '/v1/state')['files']['released'] == 6


def test_recalls_go_before_archive_jobs(archive):
    a = archive(drives=1)
    a.archived('old')
    a.put('x')
    a.put('y')
    errno_of(read_file, a.at('old'))
    a.advance(10)
    assert (a.is_now('old'), a.is_now('x'), a.is_now('y')) == ('dual', 'released', 'archiving')


def test_a_full_queue_refuses(archive):
    a = archive(drives=1, queue__limit=1)
    for name in ('f', 'g', 'h'):
        a.put(name)
        a.advance(0)
    assert a.is_now('h') == 'failed-archive' and a.file('h')['error']['errno'] == 'EAGAIN'
    a.settle()
    a.ask('archive', 'h')
    a.settle()
    assert a.is_now('h') == 'released'


def test_the_library_down_is_unavailable_and_starts_nothing(archive):
    a = archive()
    a.archived('f')
    a.api('PATCH', '/v1/library', up=False)
    assert a.is_now('f') == 'unavailable' and errno_of(read_file, a.at('f')) == 'EIO'
    a.put('g')
    a.advance(100)
    assert a.is_now('g') == 'archiving'
    a.api('PATCH', '/v1/library', up=True)
    a.settle()
    assert a.is_now('g') == 'released' and a.is_now('f') == 'released'


def test_the_cache_evicts_the_oldest_but_what_is_pinned(archive):
    a = archive(release__when='pressure', cache__size='250000')
    a.archived('a', noise(100000), state='dual')
    a.ask('pin', 'a', pin=3600)
    a.advance(1)
    a.archived('b', noise(100000), state='dual')
    a.advance(1)
    st = os.statvfs(a.mnt)
    assert st.f_blocks * st.f_frsize <= 250000 and st.f_bavail * st.f_frsize <= 50000
    a.put('c', noise(100000))
    a.settle()
    assert [a.is_now(n) for n in 'abc'] == ['dual', 'released', 'dual']
    a.set(statvfs__free='0')
    assert os.statvfs(a.mnt).f_bavail == 0


def test_a_recalled_copy_goes_after_its_time_unless_it_is_pinned(archive):
    a = archive(recall__keep='60s')
    a.archived('f')
    a.ask('recall', 'f')
    a.advance(5)
    assert a.is_now('f') == 'dual'
    a.advance(60)
    assert a.is_now('f') == 'released'
    a.ask('recall', 'f', pin=600)
    a.advance(5)
    a.advance(300)
    assert a.is_now('f') == 'dual'
    a.advance(300)
    assert a.is_now('f') == 'released'


def test_evict_takes_one_pin_at_a_time(archive):
    a = archive()
    a.archived('f')
    a.ask('recall', 'f', pin=600)
    a.settle()
    a.ask('pin', 'f', pin=600)
    assert a.file('f')['evict_counter'] == 2
    a.ask('evict', 'f')
    assert a.is_now('f') == 'dual'
    a.ask('evict', 'f')
    assert a.is_now('f') == 'released'


def test_release_is_refused_where_it_would_lose_data(archive):
    a = archive(archive__when='explicit')
    a.put('f')
    with pytest.raises(ApiError) as e:
        a.ask('release', 'f')
    assert e.value.errno == 'ENODATA'
    with opened(a.at('f'), os.O_WRONLY):
        with pytest.raises(ApiError) as e:
            a.ask('archive', 'f')
        assert e.value.errno == 'EBUSY'
