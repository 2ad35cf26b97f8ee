"""Mappings that outlive close(2): T8, and the lingering mapping of kernel passthrough. A file that a store can
still reach is `closing`, never shown as locked; what is shown as locked never changes."""
import os
import subprocess
import time

import pytest

from harness import LOCKED, errno_of, look, open_errno, opened, read_file, tool, wait_for, write_file

PAGE = 4096


class Mapper:
    """tools/mapstore: another process, driven line by line."""
    def __init__(self):
        self.p = subprocess.Popen([tool('mapstore')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, line):
        self.p.stdin.write(line + '\n')
        self.p.stdin.flush()
        return self.p.stdout.readline().rstrip('\n')

    def do(self, *lines):
        for line in lines:
            answer = self.ask(line)
            assert answer.startswith('ok'), '%s: %s' % (line, answer)
        return answer[3:]

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()


@pytest.fixture
def mapper():
    m = Mapper()
    yield m
    m.end()


def padded(text):
    return text.encode().ljust(PAGE, b'\0')


def never_locked_while(share, path, seconds):
    """The state is watched for a while, as long as something that may not happen would need to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert share.shows(path) not in LOCKED
        time.sleep(0.02)


def test_T8_a_store_after_close_reaches_the_file_only_while_it_is_closing(wormfs, mapper):
    path = wormfs.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'store 0 before', 'close')
    assert wormfs.shows(path) == 'closing'
    mapper.do('store 0 after!', 'msync')
    never_locked_while(wormfs, path, 1.5)
    assert wormfs.shows(path) == 'closing'
    mapper.do('unmap')
    wormfs.wait_state(path, 'retained')
    before = look(wormfs.below('a'))
    assert read_file(wormfs.below('a')) == padded('after!') == read_file(path)
    assert look(wormfs.below('a')) == before


def test_T8_while_a_mapping_lingers_nobody_new_may_write_rename_or_delete(wormfs, mapper):
    path = wormfs.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'write report', 'close')
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        assert open_errno(path, flags) == 'EPERM'
    assert errno_of(os.truncate, path, 0) == 'EPERM'
    assert errno_of(os.unlink, path) == 'EPERM'
    assert errno_of(os.rename, path, path + '2') == 'EPERM'
    write_file(wormfs.at('x.part'), b'x')
    assert errno_of(os.rename, wormfs.at('x.part'), path) == 'EPERM'
    assert read_file(path).startswith(b'report')


def test_T8_what_is_shown_as_locked_never_changes_again(wormfs, mapper):
    """Stores go on in a loop until the mapping goes; the first moment that says `retained` has the last bytes."""
    path = wormfs.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'write start', 'close')
    for n in range(200):
        mapper.do('store 0 %06d' % n)
        assert wormfs.shows(path) == 'closing'
    mapper.do('unmap')
    wormfs.wait_state(path, 'retained')
    first = read_file(wormfs.below('a'))
    assert first == padded('000199')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_T8_the_record_has_the_size_and_time_of_the_last_store(wormfs, mapper):
    path = wormfs.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'write start', 'close', 'store 0 later', 'msync',
              'unmap')
    wormfs.wait_state(path, 'retained')
    file = wormfs.explain('a')
    assert file['size'] == PAGE and file['suspect'] is None
    wormfs.remount()
    assert wormfs.explain('a')['suspect'] is None


def test_T8_a_file_changed_through_its_mapping_only_is_locked_when_the_mapping_goes(mount, mapper):
    share = mount(start=False)
    write_file(share.below('a'), padded('from before'))
    share.start()
    path = share.at('a')
    mapper.do('open ' + path, 'map shared %d' % PAGE, 'close', 'store 0 FROM', 'msync')
    never_locked_while(share, path, 0.5)
    mapper.do('unmap')
    share.wait_state(path, 'retained')
    assert read_file(share.below('a')) == padded('FROM before')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_T8_a_mapping_that_stores_nothing_locks_nothing(mount, mapper):
    share = mount(start=False)
    write_file(share.below('a'), padded('from before'))
    share.start()
    path = share.at('a')
    mapper.do('open ' + path, 'map shared %d' % PAGE, 'close', 'unmap')
    wait_for('the writer to be forgotten', lambda: share.info()['writers'] == 0)
    assert share.shows(path) == 'open'
    assert open_errno(path, os.O_WRONLY) == 'OK'


def test_T8_a_mapping_in_a_child_process_keeps_the_file_closing(wormfs, mapper):
    path = wormfs.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'write report', 'close', 'fork', 'unmap')
    never_locked_while(wormfs, path, 0.5)
    assert wormfs.shows(path) == 'closing'
    mapper.do('reap')
    wormfs.wait_state(path, 'retained')


def test_T8_a_reading_mapping_does_not_delay_the_lock(wormfs, mapper):
    path = wormfs.at('a')
    write_file(path, b'')
    mapper.do('openro ' + path)
    write_file(path, padded('report'))
    wormfs.wait_state(path, 'retained')
    mapper.do('map read %d' % PAGE, 'close')
    assert mapper.do('load 0 6') == 'report'
    assert wormfs.shows(path) == 'retained'


def test_T8_explicit_commit_is_EBUSY_while_a_mapping_can_store(mount, mapper):
    share = mount('commit=chmod')
    path = share.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'write report', 'close')
    assert errno_of(os.setxattr, path, 'user.worm.commit', b'1') == 'EBUSY'
    assert errno_of(os.chmod, path, 0o444) == 'EBUSY'
    assert os.stat(path).st_mode & 0o222                # refused, and nothing was changed
    assert share.refused('commit', 'a') == 'EBUSY'
    mapper.do('store 0 REPORT', 'unmap')
    wait_for('the mapping to be forgotten', lambda: errno_of(os.setxattr, path, 'user.worm.commit', b'1') == 'OK')
    share.wait_state(path, 'retained')
    assert read_file(share.below('a')) == padded('REPORT')


def test_T8_a_mapping_that_outlives_the_daemon_keeps_its_file_from_being_shown_as_locked(wormfs, mapper):
    """With kernel passthrough the mapping holds the lower file, which the death of the daemon does not touch."""
    path = wormfs.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'write report', 'close')
    passthrough = wormfs.transport()['passthrough']
    wormfs.kill9()
    wormfs.start()
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    if passthrough:
        never_locked_while(wormfs, path, 0.5)
        mapper.do('store 0 REPORT', 'msync')
        assert read_file(wormfs.below('a')).startswith(b'REPORT')
        assert wormfs.shows(path) == 'closing'
    mapper.do('unmap')
    wormfs.wait_state(path, 'retained')
    before = look(wormfs.below('a'))
    assert wormfs.explain('a')['suspect'] is None
    assert look(wormfs.below('a')) == before


def test_T8_ten_mappings_of_ten_files_each_wait_for_their_own(wormfs):
    mappers = [Mapper() for _ in range(10)]
    try:
        for n, m in enumerate(mappers):
            m.do('open ' + wormfs.at('f%d' % n), 'size %d' % PAGE, 'map shared %d' % PAGE, 'write report', 'close')
        assert [wormfs.shows('f%d' % n) for n in range(10)] == ['closing'] * 10
        assert wormfs.info()['closing'] == 10
        for n, m in enumerate(mappers):
            if n % 2:
                m.do('unmap')
        for n in range(1, 10, 2):
            wormfs.wait_state('f%d' % n, 'retained')
        assert [wormfs.shows('f%d' % n) for n in range(0, 10, 2)] == ['closing'] * 5
    finally:
        for m in mappers:
            m.end()
    for n in range(10):
        wormfs.wait_state('f%d' % n, 'retained')


# ---- writers that cannot map: the kernel keeps a reference of the first writer's description for all handles ----

def test_a_reader_that_stays_does_not_keep_a_file_from_being_locked(wormfs):
    path = wormfs.at('a')
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with opened(path, os.O_RDONLY) as reader:
        os.write(fd, b'report\n')
        os.close(fd)
        wormfs.wait_state(path, 'retained')
        assert os.pread(reader, 100, 0) == b'report\n'


def test_a_reader_that_stays_does_not_keep_a_staging_file_from_its_rename_nor_an_empty_one_from_its_commit(wormfs):
    path = wormfs.at('a.part')
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with opened(path, os.O_RDONLY) as reader:
        os.write(fd, b'report\n')
        os.close(fd)
        wormfs.settle(writers=0)
        os.rename(path, wormfs.at('a'))
        assert wormfs.shows(wormfs.at('a')) == 'retained'
        assert os.pread(reader, 100, 0) == b'report\n'
    path = wormfs.at('empty')
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with opened(path, os.O_RDONLY):
        os.close(fd)
        wormfs.settle(writers=0)
        wormfs.ctl('commit', path)
        assert wormfs.shows(path) == 'retained'


def test_T8_who_joins_a_writer_that_cannot_map_and_maps_is_waited_for(wormfs, mapper):
    path = wormfs.at('a')
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, padded('first'))
    mapper.do('open ' + path, 'map shared %d' % PAGE, 'store 0 before', 'close')
    os.close(fd)
    never_locked_while(wormfs, path, 0.5)
    mapper.do('store 0 after!', 'msync')
    never_locked_while(wormfs, path, 0.5)
    mapper.do('unmap')
    wormfs.wait_state(path, 'retained')
    assert read_file(wormfs.below('a')).startswith(b'after!')
