"""T42: append-only files. What was written is locked at once, the end may grow, and one day they are made final."""
import errno
import fcntl
import mmap
import os
import stat
import subprocess
import threading

import pytest

from harness import (ALICE, BOB, DAY, FALLOC, FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NODUMP_FL, RENAME_EXCHANGE, as_user, errno_of,
                     fallocate, get_flags, need_program, open_errno, opened, read_file, renameat2, run, scaled, set_flags,
                     set_fsxattr_flags, wait_for, write_file)

APPEND = os.O_WRONLY | os.O_APPEND
FS_XFLAG_APPEND = 0x10


def snaplock(share, path):
    os.chmod(path, 0o444)
    os.chmod(path, 0o644)


def control_append(share, path):
    answer = share.control('append', os.path.relpath(path, share.mnt))
    if not answer['ok']:
        raise OSError(getattr(errno, answer['errno']), answer['error'])


ON_OPEN_FILES = {
    'user.worm.append': lambda share, path: os.setxattr(path, 'user.worm.append', b'1'),
    'chattr +a': lambda share, path: set_flags(path, get_flags(path) | FS_APPEND_FL),
    'xfs_io chattr +a': lambda share, path: set_fsxattr_flags(path, FS_XFLAG_APPEND),
    'control socket': control_append,
    'wormctl append': lambda share, path: share.ctl('append', path),
}
WAYS = {'chmod -w, chmod +w': snaplock, **ON_OPEN_FILES}


def make(share, name='log', data=b''):
    """An append-only file with `data` in it; its path."""
    path = write_file(share.at(name), b'')
    os.setxattr(path, 'user.worm.append', b'1')
    if data:
        append(path, data)
    return path


def append(path, data):
    with opened(path, APPEND) as fd:
        assert os.write(fd, data) == len(data)


# ---- how a file becomes one ---------------------------------------------------------------------

@pytest.mark.parametrize('way', WAYS)
def test_T42_each_way_makes_an_empty_file_append_only_for_good(mount, way):
    share = mount()
    path = write_file(share.at('log'), b'', 0o644)
    WAYS[way](share, path)
    for round_number in range(3):
        assert share.shows(path) == 'appendable'
        assert get_flags(path) & (FS_APPEND_FL | FS_IMMUTABLE_FL) == FS_APPEND_FL
        append(path, b'line\n')
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
        assert open_errno(path, os.O_RDWR) == 'EPERM'
        assert open_errno(path, APPEND | os.O_TRUNC) == 'EPERM'
        assert errno_of(os.unlink, path) == 'EPERM'
        assert read_file(path) == read_file(share.below('log')) == b'line\n' * (round_number + 1)
        if round_number == 0:
            share.remount()
        elif round_number == 1:
            share.kill9()
            share.start()
    assert share.problems() == []
    assert share.listed()['log']['state'] == 'appendable'
    assert stat.S_IMODE(os.stat(share.below('log')).st_mode) == 0o644


@pytest.mark.parametrize('way', ON_OPEN_FILES)
def test_what_an_unlocked_file_has_is_locked_when_it_becomes_append_only(mount, way):
    share = mount(start=False)
    write_file(share.below('old'), b'from before\n', 0o644)
    share.start()
    path = share.at('old')
    ON_OPEN_FILES[way](share, path)
    assert share.shows(path) == 'appendable'
    append(path, b'more\n')
    with opened(path, APPEND) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        assert errno_of(os.pwrite, fd, b'X', 0) == 'EPERM'
    assert read_file(path) == b'from before\nmore\n'


@pytest.mark.parametrize('way', ON_OPEN_FILES)
def test_a_locked_file_does_not_become_append_only(wormfs, way):
    path = wormfs.lock('a')
    if way == 'wormctl append':
        p = wormfs.ctl('append', path, check=False)
        assert p.returncode == 2 and 'it is locked already' in p.err
    else:
        assert errno_of(ON_OPEN_FILES[way], wormfs, path) == 'EPERM'
    assert wormfs.shows(path) == 'retained'


def test_chmod_plus_w_of_a_locked_file_is_SnapLocks_way_only_when_it_is_empty_and_not_held(mount):
    share = mount('commit=chmod,retention=1d', lower_mode=0o777, clocked=True)
    for name, data in (('full', b'x'), ('held', b''), ('expired', b''), ('more', b''), ('hers', b'')):
        write_file(share.at(name), data, 0o644)
        if name == 'hers':
            os.chown(share.at(name), ALICE, ALICE)
        os.chmod(share.at(name), 0o444)
    share.must('hold', 'held', case='c')
    assert errno_of(os.chmod, share.at('full'), 0o644) == 'EPERM'
    assert errno_of(os.chmod, share.at('held'), 0o644) == 'EPERM'
    assert errno_of(os.chmod, share.at('more'), 0o755) == 'EPERM'       # changes more than write bits
    assert as_user(BOB, os.chmod, share.at('hers'), 0o644) == 'EPERM'
    assert [share.shows(n) for n in ('full', 'held', 'more', 'hers')] == ['retained'] * 4
    assert as_user(ALICE, errno_of, os.chmod, share.at('hers'), 0o644) == 'OK'
    assert share.shows('hers') == 'appendable'
    share.now(2 * DAY)
    assert errno_of(os.chmod, share.at('expired'), 0o644) == 'EPERM'


def hold_open(path, how, then='true'):
    """Another process that has it open until it is sent a line."""
    p = subprocess.Popen(['bash', '-c', 'exec 5%s"$0"; echo; read; %s' % (how, then), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    p.stdout.readline()
    return p


@pytest.mark.parametrize('way', WAYS)
def test_a_file_that_somebody_has_open_is_EBUSY(mount, way):
    share = mount('commit=chmod')
    for flags in (os.O_RDONLY, os.O_WRONLY):
        path = write_file(share.at('f%d' % flags), b'', 0o644)
        if way.startswith('chmod'):
            os.chmod(path, 0o444)
            if flags == os.O_WRONLY:
                continue
        holder = hold_open(path, '>>' if flags else '<')
        try:
            if way == 'wormctl append':
                assert share.ctl('append', path, check=False).returncode == 2
            elif way.startswith('chmod'):
                assert errno_of(os.chmod, path, 0o644) == 'EBUSY'
            else:
                assert errno_of(WAYS[way], share, path) == 'EBUSY'
            assert share.shows(path) != 'appendable'
        finally:
            holder.communicate(b'\n')


def test_what_cannot_become_append_only_says_so(mount):
    share = mount('commit=never')
    path = write_file(share.at('a'), b'')
    assert errno_of(os.setxattr, path, 'user.worm.append', b'1') == 'EOPNOTSUPP'
    share.remount('')
    os.mkdir(share.at('d'))
    assert share.refused('append', 'd') == 'EINVAL' and share.refused('append', 'missing') == 'ENOENT'
    for value in (b'', b'0', b'11', b'yes'):
        assert errno_of(os.setxattr, path, 'user.worm.append', value) == 'EINVAL'
    assert errno_of(os.getxattr, path, 'user.worm.append') == 'ENODATA'
    assert share.shows(path) == 'open'


def test_an_append_only_file_pins_its_directories(wormfs):
    os.mkdir(wormfs.at('d'))
    make(wormfs, 'd/log')
    assert errno_of(os.rename, wormfs.at('d'), wormfs.at('e')) == 'EPERM'


def test_T22_chattr_plus_a_on_it_is_nothing_new_and_minus_a_is_refused(wormfs):
    path = make(wormfs, data=b'line\n')
    set_flags(path, get_flags(path))
    assert errno_of(set_flags, path, get_flags(path) ^ FS_NODUMP_FL) == 'EPERM'
    assert errno_of(set_flags, path, 0) == 'EPERM'
    assert errno_of(set_flags, path, FS_NODUMP_FL) == 'EPERM'
    assert wormfs.shows(path) == 'appendable'
    if need_program('lsattr'):
        assert 'a' in run('lsattr', path).out.split()[0]
    set_flags(path, FS_IMMUTABLE_FL)
    assert wormfs.shows(path) == 'retained' and 'i' in run('lsattr', path).out.split()[0]


# ---- what may be done with it -------------------------------------------------------------------

def test_T42_no_write_but_at_the_end_also_when_fcntl_took_O_APPEND_away(wormfs):
    path = make(wormfs, data=b'0123456789')
    for flags in (APPEND, os.O_RDWR | os.O_APPEND):
        with opened(path, flags) as fd:
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            size = os.fstat(fd).st_size
            for offset in (0, 1, size - 1, size + 1, size + 4096):
                assert (offset, errno_of(os.pwrite, fd, b'XYZ', offset)) == (offset, 'EPERM')
            assert errno_of(os.pwritev, fd, [b'X', b'Y'], 0) == 'EPERM'
            os.lseek(fd, 0, os.SEEK_SET)
            assert errno_of(os.write, fd, b'XYZ') == 'EPERM'
            assert os.pwrite(fd, b'end', size) == 3
    assert read_file(wormfs.below('log')) == b'0123456789endend'


def test_an_O_APPEND_pwrite_goes_to_the_end_whatever_its_offset(wormfs):
    path = make(wormfs, data=b'0123456789')
    with opened(path, APPEND) as fd:
        assert os.pwrite(fd, b'X', 0) == 1         # as Linux has it (pwrite(2), BUGS)
    assert read_file(path) == b'0123456789X'


def rename_exchange(path):
    write_file(path + '.part', b'other')
    renameat2(path + '.part', path, RENAME_EXCHANGE)


def replace(path):
    write_file(path + '.part', b'other')
    os.rename(path + '.part', path)


REFUSED = {
    'truncate': lambda p: os.truncate(p, 0), 'truncate to the same size': lambda p: os.truncate(p, 10),
    'truncate up': lambda p: os.truncate(p, 100), 'O_TRUNC': lambda p: os.close(os.open(p, os.O_RDONLY | os.O_TRUNC)),
    'open O_WRONLY': lambda p: os.close(os.open(p, os.O_WRONLY)), 'open O_RDWR': lambda p: os.close(os.open(p, os.O_RDWR)),
    'rename': lambda p: os.rename(p, p + '2'), 'replace': replace, 'exchange': rename_exchange, 'unlink': os.unlink,
    'link': lambda p: os.link(p, p + '2'), 'chmod +x': lambda p: os.chmod(p, 0o755), 'chown': lambda p: os.chown(p, 1, 1),
    'utimens': lambda p: os.utime(p, (1, 1)), 'setxattr': lambda p: os.setxattr(p, 'user.x', b'x'),
}


@pytest.mark.parametrize('what', REFUSED)
def test_T42_whatever_shrinks_rewrites_or_moves_it_is_EPERM(wormfs, what):
    path = make(wormfs, data=b'0123456789')
    assert errno_of(REFUSED[what], path) == 'EPERM'
    assert read_file(wormfs.below('log')) == b'0123456789'


def test_T42_ftruncate_and_copy_file_range_into_it_are_refused(wormfs):
    path = make(wormfs, data=b'0123456789')
    write_file(wormfs.at('source.part'), b'ABC')
    with opened(path, os.O_RDWR | os.O_APPEND) as fd, opened(wormfs.at('source.part'), os.O_RDONLY) as source:
        for size in (0, 5, 10, 20):
            assert errno_of(os.ftruncate, fd, size) == 'EPERM'
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        for offset in (0, 5):
            assert errno_of(os.copy_file_range, source, fd, 3, 0, offset) == 'EPERM'
    assert read_file(wormfs.below('log')) == b'0123456789'


def test_T19_fallocate_of_it_only_adds(wormfs):
    """P13: mode 0 and KEEP_SIZE from the end on; nothing else, nowhere."""
    path = make(wormfs, data=b'0123456789')
    with opened(path, APPEND) as fd:
        for name, mode in FALLOC.items():
            for offset in (0, 4096):
                if name == 'plain' and offset:
                    continue
                result = errno_of(fallocate, fd, mode, offset, 4096)
                if name == 'keep-size' and offset:
                    assert (name, offset, result) in ((name, offset, 'OK'), (name, offset, 'EOPNOTSUPP'))
                else:                                       # FUSE itself knows only some of the modes
                    result = 'EPERM' if result == 'EOPNOTSUPP' else result
                    assert (name, offset, result) == (name, offset, 'EPERM')
        assert os.fstat(fd).st_size == 10
        fallocate(fd, 0, 10, 5)
        assert os.fstat(fd).st_size == 15
        os.write(fd, b'end')
    assert read_file(wormfs.below('log')) == b'0123456789' + b'\0' * 5 + b'end'


def test_a_shared_mapping_of_it_is_refused_and_a_private_one_reads(wormfs):
    path = make(wormfs, data=b'0123456789')
    with opened(path, os.O_RDWR | os.O_APPEND) as fd:
        assert errno_of(mmap.mmap, fd, 10, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) == 'ENODEV'
        m = mmap.mmap(fd, 10, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        assert m[:10] == b'0123456789'
        m[0:1] = b'X'
        m.close()
    assert read_file(path) == read_file(wormfs.below('log')) == b'0123456789'


def test_a_writer_from_before_O_APPEND_was_all_there_is_cannot_come_back_through_proc(wormfs):
    path = make(wormfs, data=b'0123456789')
    with opened(path, APPEND) as fd:
        assert open_errno('/proc/self/fd/%d' % fd, os.O_WRONLY) == 'EPERM'
        assert open_errno('/proc/self/fd/%d' % fd, APPEND) == 'OK'


def test_others_may_add_to_it_as_its_mode_says(mount):
    share = mount(lower_mode=0o777)
    path = write_file(share.at('log'), b'')
    os.chmod(path, 0o622)
    os.setxattr(path, 'user.worm.append', b'1')
    assert as_user(BOB, append, path, b'bob\n') is None
    os.chmod(path, 0o600)                              # takes write bits away, not the last
    assert as_user(BOB, append, path, b'bob\n') == 'EACCES'
    assert share.shows(path) == 'appendable' and read_file(share.below('log')) == b'bob\n'


# ---- appenders and readers ----------------------------------------------------------------------

APPENDER = '''
import os, sys
path, who, count = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
for n in range(count):
    line = b'%s %d %s\\n' % (who, n, b'x' * ((n * 7919) % 9000))
    assert os.write(fd, line) == len(line)
os.close(fd)
'''


def test_T42_of_several_appenders_no_byte_is_lost(wormfs):
    path, count = make(wormfs), scaled(400)
    writers = [subprocess.Popen(['/usr/bin/python3', '-c', APPENDER, path, 'w%d' % w, str(count)]) for w in range(4)]
    assert [w.wait(60) for w in writers] == [0] * 4
    seen = {}
    for line in read_file(path).split(b'\n')[:-1]:
        who, n, x = line.split(b' ')
        assert (int(n), len(x)) == (seen.get(who, -1) + 1, (int(n) * 7919) % 9000)
        seen[who] = int(n)
    assert seen == {b'w%d' % w: count - 1 for w in range(4)}
    assert wormfs.problems() == []


def test_a_write_of_several_megabytes_is_one_piece(wormfs):
    path, data = make(wormfs), os.urandom(5 << 20)
    append(path, data)
    append(path, b'end')
    assert read_file(path) == data + b'end'


def test_an_appender_sees_its_size_at_once_and_readers_see_what_was_written_at_once(wormfs):
    path = make(wormfs)
    expected = b''
    with opened(path, os.O_RDWR | os.O_APPEND) as fd, opened(path, os.O_RDONLY) as reader:
        for n in range(scaled(300)):
            line = b'%d\n' % n * (n % 50 + 1)
            os.write(fd, line)
            expected += line
            assert os.fstat(fd).st_size == os.stat(path).st_size == os.fstat(reader).st_size == len(expected)
            assert os.pread(reader, len(line) + 10, len(expected) - len(line)) == line
            assert os.pread(fd, 4, 0) == expected[:4]
        assert read_file(path) == expected


def test_a_reader_beside_an_appender_never_sees_bytes_that_were_not_written(wormfs):
    path, done, bad = make(wormfs), threading.Event(), []

    def read():
        with opened(path, os.O_RDONLY) as fd:
            while not done.is_set():
                data = os.pread(fd, 1 << 20, 0)
                if data.strip(b'A'):
                    bad.append(data)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    with opened(path, APPEND) as fd:
        for n in range(scaled(1500)):
            os.write(fd, b'A' * 37)
    done.set()
    for r in readers:
        r.join()
    assert bad == []


def test_a_reader_from_before_it_was_append_only_makes_writers_wait_and_then_EBUSY(wormfs):
    path = write_file(wormfs.at('log'), b'')
    with opened(path, os.O_RDONLY) as fd:
        os.setxattr(path, 'user.worm.append', b'1')      # the same process: chattr does it so
        assert open_errno(path, APPEND) == 'EBUSY'
        assert os.read(fd, 10) == b''
    append(path, b'line')
    assert read_file(path) == b'line'


# ---- crashes, and what is done below --------------------------------------------------------------

def test_T32_what_was_appended_is_there_and_locked_after_SIGKILL_and_more_can_be_added(wormfs):
    path = make(wormfs, data=b'first\n')
    fd = os.open(path, APPEND)
    for n in range(100):
        os.write(fd, b'line %d\n' % n)
    wormfs.kill9(unmount=False)
    assert errno_of(os.write, fd, b'x') != 'OK'
    errno_of(os.close, fd)
    wormfs.unmount_dead()
    wormfs.start()
    wormfs.wait_state('log', 'appendable')
    expected = b'first\n' + b''.join(b'line %d\n' % n for n in range(100))
    assert read_file(path) == expected
    assert wormfs.explain('log')['suspect'] is None and wormfs.problems() == []
    for what in ('truncate', 'open O_WRONLY', 'unlink'):
        assert errno_of(REFUSED[what], path) == 'EPERM'
    append(path, b'after\n')
    assert read_file(path) == expected + b'after\n'
    assert wormfs.listed()['log']['size'] == len(expected) + 6


def test_growth_below_the_mount_is_not_suspect_and_a_cut_is(wormfs):
    path = make(wormfs, data=b'0123456789')
    wormfs.must('sync')
    wormfs.stop()
    write_file(wormfs.below('log'), b'more', flags=os.O_APPEND)
    wormfs.start()
    assert read_file(path) == b'0123456789more' and wormfs.explain('log')['suspect'] is None
    wormfs.stop()
    os.truncate(wormfs.below('log'), 5)
    wormfs.start()
    assert read_file(path) == b'01234' and wormfs.explain('log')['suspect'] is not None
    assert wormfs.shows('log') == 'appendable'


def test_with_shared_yes_an_appender_finds_the_end_that_another_gateway_made(mount):
    share = mount('shared=yes')
    path = make(share, data=b'one\n')
    with opened(path, APPEND) as fd:
        os.write(fd, b'two\n')
        write_file(share.below('log'), b'other\n', flags=os.O_APPEND)
        os.write(fd, b'three\n')
    assert read_file(share.below('log')) == b'one\ntwo\nother\nthree\n'


def test_a_failed_close_of_an_append_only_file_loses_no_lock(wormfs):
    """The record cannot be brought up to date (it is immutable below): said in the log, locked all the same."""
    path = make(wormfs, data=b'one\n')
    wormfs.expect_log('note the new size of an append-only file')
    with opened(path, APPEND) as fd:
        os.write(fd, b'two\n')
        set_flags(wormfs.below('log'), FS_IMMUTABLE_FL)
    wait_for('the writer to be gone', lambda: wormfs.info()['writers'] == 0)
    set_flags(wormfs.below('log'), 0)
    assert 'note the new size' in wormfs.log_text()
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    append(path, b'three\n')
    assert read_file(path) == b'one\ntwo\nthree\n' and wormfs.shows('log') == 'appendable'


def test_a_share_without_xattrs_has_append_only_files_too(mount):
    share = mount(base='ramfs')
    if share.info()['lower']['xattr']:
        pytest.skip('ramfs has xattrs here')
    path = write_file(share.at('log'), b'')
    snaplock(share, path)
    append(path, b'line\n')
    share.settle('log')
    share.remount()
    assert share.shows('log') == 'appendable'
    append(path, b'line\n')
    os.chmod(path, 0o444)
    assert share.shows('log') == 'retained' and read_file(path) == b'line\nline\n'


# ---- made final ---------------------------------------------------------------------------------

FINALISE = {
    'chmod -w': lambda share, path: os.chmod(path, 0o444),
    'chattr +i': lambda share, path: set_flags(path, FS_IMMUTABLE_FL),
    'user.worm.commit': lambda share, path: os.setxattr(path, 'user.worm.commit', b'1'),
    'wormctl commit': lambda share, path: share.ctl('commit', path),
}


@pytest.mark.parametrize('way', FINALISE)
def test_T42_it_is_made_final_and_never_appended_to_again(mount, way):
    share = mount('commit=chmod,retention=10d', clocked=True)
    path = make(share, data=b'line\n')
    made = share.shows(path, 'until'), share.shows(path, 'serial')
    share.now(5 * DAY)
    FINALISE[way](share, path)
    for again in (share.remount, lambda: (share.kill9(), share.start()), lambda: None):
        assert share.shows(path) == 'retained'
        assert open_errno(path, APPEND) == 'EPERM'
        assert errno_of(os.setxattr, path, 'user.worm.append', b'1') == 'EPERM'
        assert errno_of(os.chmod, path, 0o666) == 'EPERM'
        again()
    assert share.shows(path, 'serial') == made[1]
    assert share.shows(path, 'until') > made[0]         # its retention began when it was made final
    assert get_flags(path) & (FS_APPEND_FL | FS_IMMUTABLE_FL) == FS_IMMUTABLE_FL
    row = share.listed()['log']
    assert (row['state'], row['size'], row['until']) == ('retained', 5, share.shows(path, 'until'))
    assert share.explain(path)['suspect'] is None and share.problems() == []
    share.now(5 * DAY + 11 * DAY)
    assert share.shows(path) == 'expired'
    os.unlink(path)


def test_a_date_it_was_given_before_is_not_lost_when_it_is_made_final(mount):
    share = mount('commit=chmod,retention=10d', clocked=True)
    path = make(share, data=b'line\n')
    os.setxattr(path, 'user.worm.until', b'2090-01-01')
    os.chmod(path, 0o444)
    assert share.shows(path, 'until') == '2090-01-01T00:00:00Z'


@pytest.mark.parametrize('way', FINALISE)
def test_it_is_not_made_final_beside_an_appender(wormfs, way):
    path = make(wormfs)
    holder = hold_open(path, '>>', 'echo line >&5')
    if way == 'wormctl commit':
        assert wormfs.ctl('commit', path, check=False).returncode == 2
    else:
        assert errno_of(FINALISE[way], wormfs, path) == 'EBUSY'
    assert wormfs.shows(path) == 'appendable'
    holder.communicate(b'\n')
    FINALISE[way](wormfs, path)
    assert wormfs.shows(path) == 'retained' and read_file(path) == b'line\n'


def test_an_appender_may_take_the_write_bits_away_itself_and_it_is_final_with_its_close(wormfs):
    path = make(wormfs)
    with opened(path, APPEND) as fd:
        os.write(fd, b'one\n')
        os.fchmod(fd, 0o444)
        os.write(fd, b'two\n')
        assert wormfs.shows(path) == 'appendable'
    wormfs.wait_state(path, 'retained')
    assert read_file(path) == b'one\ntwo\n' and open_errno(path, APPEND) == 'EPERM'


def test_T42_idle_makes_it_final_when_nobody_has_added_to_it_for_that_long(mount):
    share = mount('commit=idle:60', clocked=True)
    path = make(share, data=b'one\n')
    share.settle('log')
    share.now(50)
    append(path, b'two\n')
    share.settle('log')
    share.must('hold', 'log', case='c')                 # rewrites its row, and takes nothing from the list
    share.now(100)
    assert share.shows(path) == 'appendable'
    share.now(3600)
    assert open_errno(path, APPEND) == 'EPERM'          # from the moment it is due
    share.wait_state(path, 'retained')
    assert read_file(path) == b'one\ntwo\n' and errno_of(os.unlink, path) == 'EPERM'


def test_an_append_only_file_is_kept_however_old_it_is(mount):
    share = mount('retention=1d', clocked=True)
    path = make(share, data=b'one\n')
    share.now(10 * DAY)
    assert share.shows(path) == 'appendable' and errno_of(os.unlink, path) == 'EPERM'
    append(path, b'two\n')


def test_an_append_only_file_is_extended_and_held_like_any_other(wormfs):
    path = make(wormfs, data=b'one\n')
    wormfs.ctl('extend', '2090-01-01', path)
    wormfs.must('hold', 'log', case='c')
    append(path, b'two\n')
    wormfs.settle('log')
    assert wormfs.shows(path, 'until') == '2090-01-01T00:00:00Z' and wormfs.shows(path, 'holds') == 'c'
    row = wormfs.listed()['log']
    assert (row['state'], row['until'], row['holds'], row['size']) == ('appendable', '2090-01-01T00:00:00Z', ['c'], 8)
    wormfs.must('release', 'log', case='c')
    assert wormfs.shows(path) == 'appendable'


def test_with_sync_close_what_was_appended_is_on_stable_storage_when_close_returns(mount):
    point = mount.bases.make('ext4', 'power-append', size='400M', options=('commit=600',))
    share = mount('sync=close', base=point)
    path = make(share)
    run('sync', '-f', point)
    append(path, b'line\n')
    share.expect_log('note the new size')               # its release may come when the power has gone
    mount.bases.cut_power(share, 'power-append')
    share.start()
    assert read_file(path) == b'line\n'
    share.wait_state('log', 'appendable')
    assert share.problems() == []


def test_commit_right_after_another_programs_close_is_not_EBUSY(mount):
    """The kernel sends RELEASE after close(2) has returned: who commits next waits for it."""
    share = mount('commit=chmod')
    for n in range(scaled(200)):
        path = share.at('f%d' % n)
        run('bash', '-c', 'echo x >"$0"', path) if n % 20 == 0 else write_file(path, b'x')
        (os.chmod(path, 0o444) if n % 2 else os.setxattr(path, 'user.worm.commit', b'1'))
        assert share.shows(path) == 'retained'
