"""T45: what is shown is what is enforced. One table of states; in each of them `explain` lists what is refused, and
every operation is tried: refused when and only when it is listed."""
import ctypes
import os

import pytest

from harness import BOB, DAY, FS_IMMUTABLE_FL, FS_NODUMP_FL, LOCKED, as_user, errno_of, get_flags, libc, set_flags, write_file


# ---- states: each makes `a` in a fresh directory of its own and returns its path --------------------

def make_open(share, d):
    path = d + '/a'
    write_file(path, b'')
    return path


def make_old(share, d):
    below = d.replace(share.mnt, share.lower)
    write_file(below + '/a', b'from before')
    return d + '/a'


def make_staging(share, d):
    return write_file(d + '/a.part', b'staging')


def make_retained(share, d):
    write_file(d + '/a', b'report')
    share.wait_state(d + '/a', 'retained')
    return d + '/a'


def make_dated(share, d):
    path = make_retained(share, d)
    os.setxattr(path, 'user.worm.until', b'2090-01-01')
    return path


def make_infinite(share, d):
    path = make_retained(share, d)
    os.setxattr(path, 'user.worm.until', b'infinite')
    return path


def make_held(share, d):
    path = make_retained(share, d)
    os.setxattr(path, 'user.worm.until', b'1d')
    share.must('hold', os.path.relpath(path, share.mnt), case='case-1')
    share.now(2 * DAY)
    return path


def make_expired(share, d):
    path = make_retained(share, d)
    os.setxattr(path, 'user.worm.until', b'1d')
    share.now(2 * DAY)
    return path


def make_closing(share, d):
    path = d + '/a'
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    share.keep.append(os.dup(fd))
    os.write(fd, b'report')
    os.close(fd)
    return path


def make_unreadable(share, d):
    path = make_retained(share, d)
    share.must('sync')
    share.stop()
    share.expect_log('record')
    os.setxattr(path.replace(share.mnt, share.lower), 'trusted.wormfs', b'damaged')
    share.start()
    return path


def make_appendable(share, d):
    path = write_file(d + '/a', b'')
    os.setxattr(path, 'user.worm.append', b'1')
    with open(path, 'ab') as f:
        f.write(b'report')
    return path


def make_settling(share, d):
    write_file(d + '/a', b'report')
    share.wait_state(d + '/a', 'settling')
    return d + '/a'


STATES = {
    # name: (how it comes about, what is shown, errno of what is refused)
    'empty': (make_open, 'open', 'EPERM'),
    'there before': (make_old, 'open', 'EPERM'),
    'staging': (make_staging, 'staging', 'EPERM'),
    'closing': (make_closing, 'closing', 'EPERM'),
    'settling': (make_settling, 'settling', 'EPERM'),
    'retained, unspecified': (make_retained, 'retained', 'EPERM'),
    'retained, a date': (make_dated, 'retained', 'EPERM'),
    'retained, infinite': (make_infinite, 'retained', 'EPERM'),
    'retained, a hold only': (make_held, 'retained', 'EPERM'),
    'expired': (make_expired, 'expired', 'EPERM'),
    'appendable': (make_appendable, 'appendable', 'EPERM'),
    'unreadable': (make_unreadable, 'unreadable', 'EIO'),
}


# ---- operations ---------------------------------------------------------------------------------

def replace(path):
    source = os.path.dirname(path) + '/source.part'
    write_file(source, b'x')
    try:
        os.rename(source, path)
    finally:
        if os.path.lexists(source):
            os.unlink(source)


def close_open(path, flags):
    os.close(os.open(path, flags))


OPERATIONS = {
    'open-read': lambda p: close_open(p, os.O_RDONLY),
    'open-write': lambda p: close_open(p, os.O_WRONLY),
    'open-append': lambda p: close_open(p, os.O_WRONLY | os.O_APPEND),
    'truncate': lambda p: os.truncate(p, os.stat(p).st_size),
    'unlink': lambda p: os.unlink(p),
    'rename': lambda p: os.rename(p, p + '2'),
    'replace': replace,
    'link': lambda p: os.link(p, p + '2'),
    'chmod': lambda p: os.chmod(p, 0o777),
    'chmod-readonly': lambda p: os.chmod(p, 0o444),
    'chmod-writable': lambda p: os.chmod(p, 0o666),
    'chown': lambda p: os.chown(p, 1000, 1000),
    'utimens': lambda p: os.utime(p, (1, 1)),
    'setxattr': lambda p: os.setxattr(p, 'user.x', b'x'),
    'setflags': lambda p: set_flags(p, 0 if get_flags(p) & FS_IMMUTABLE_FL else get_flags(p) ^ FS_NODUMP_FL),
    'append-only': lambda p: os.setxattr(p, 'user.worm.append', b'1'),
    'commit': lambda p: os.setxattr(p, 'user.worm.commit', b'1'),
    'extend': lambda p: os.setxattr(p, 'user.worm.until', b'90y'),
}


def fresh(mount, state):
    share = mount('settle=3600' if state == 'settling' else '', clocked=True)
    share.keep = []
    return share


@pytest.mark.parametrize('state', STATES)
def test_T45_what_is_shown_as_refused_is_refused_and_nothing_else_is(mount, state):
    make, shown, errno = STATES[state]
    share = fresh(mount, state)
    try:
        for number, (name, operation) in enumerate(OPERATIONS.items()):
            share.now(0)
            d = share.at('d%d' % number)
            os.mkdir(d)
            path = make(share, d)
            assert share.shows(path) == shown
            file = share.explain(path)
            assert file['state'] == shown and file['why']
            assert set(file['refused']) & set(file['allowed']) == set()
            assert name in file['refused'] or name in file['allowed'], '%s is not listed' % name
            result = errno_of(operation, path)
            if name in file['refused']:
                assert (name, result) in ((name, errno), (name, 'EINVAL' if name == 'extend' else errno))
            elif not (state in ('empty', 'there before', 'staging', 'closing') and name in ('extend', 'setflags')
                      and result in ('EBUSY', 'EINVAL', 'EOPNOTSUPP', 'ENOTTY')) and \
                    not (name in ('commit', 'chmod-readonly') and state == 'closing' and result == 'EBUSY') and \
                    not (name == 'extend' and 'infinite' in state and result == 'EPERM'):
                assert (name, result) == (name, 'OK')
    finally:
        for fd in share.keep:
            os.close(fd)


@pytest.mark.parametrize('state', STATES)
def test_T45_list_status_and_xattrs_say_the_same(mount, state):
    make, shown, _ = STATES[state]
    share = fresh(mount, state)
    d = share.at('d')
    os.mkdir(d)
    path = make(share, d)
    try:
        name = os.path.relpath(path, share.mnt)
        file = share.explain(path)
        assert file == share.must('explain', name)['file']
        assert file['path'] == name
        assert file['size'] == os.stat(path).st_size
        for key in ('state', 'until', 'mode', 'committed', 'rule'):
            assert (key, share.shows(path, key)) == (key, file[key])
        if shown in LOCKED + ('appendable', 'settling'):
            assert share.shows(path, 'serial') == str(file['serial'])
            assert [h for h in share.shows(path, 'holds').split('\n') if h] == file['holds']
            row = share.listed()[name]
            assert (row['state'], row['until'], row['mode'], row['size']) == (shown, file['until'], file['mode'], file['size'])
            status = share.ctl('status', '--json', path).out
            assert '"state"' in status and shown in status
        elif shown == 'unreadable':
            assert get_flags(path) & FS_IMMUTABLE_FL
        else:
            assert name not in share.listed()
        assert bool(get_flags(path) & FS_IMMUTABLE_FL) == (shown in LOCKED + ('closing', 'settling', 'unreadable'))
    finally:
        for fd in share.keep:
            os.close(fd)


def test_T45_a_directory_is_shown_as_pinned_when_and_only_when_it_cannot_be_renamed(wormfs):
    os.makedirs(wormfs.at('d', 'e'))
    os.mkdir(wormfs.at('free'))
    wormfs.lock('d/e/a')
    for name in ('d', 'd/e'):
        assert wormfs.shows(name) == 'pinned'
        file = wormfs.explain(name)
        assert file['state'] == 'pinned' and 'rename-dir' in file['refused']
        assert errno_of(os.rename, wormfs.at(name), wormfs.at('x')) == 'EPERM'
    assert wormfs.shows('free') == 'open'
    assert wormfs.explain('free')['refused'] == []
    os.rename(wormfs.at('free'), wormfs.at('free2'))


def test_T45_the_mount_reports_its_numbers(wormfs):
    for n in range(5):
        wormfs.lock('f%d' % n)
    info = wormfs.info()
    assert info['locked'] == 5
    assert (info['writers'], info['closing']) == (0, 0)
    assert info['descriptors']['open'] <= info['descriptors']['limit']
    assert info['inodes'] >= 1
    wormfs.must('sync')
    assert wormfs.info()['ledger']['queued'] == 0
    assert wormfs.info()['ledger']['written'] >= 5


def test_T45_explain_of_the_root_and_of_what_is_no_file(wormfs):
    os.symlink('x', wormfs.at('s'))
    os.mkfifo(wormfs.at('p'))
    assert wormfs.must('explain', '')['file']['path'] == ''
    for name in ('s', 'p'):
        assert wormfs.must('explain', name)['file']['state'] == 'open'
    assert wormfs.refused('explain', 'missing') == 'ENOENT'


def test_state_is_shown_to_everybody_who_may_reach_the_file(wormfs):
    path = wormfs.lock('a', mode=0o600)
    assert as_user(BOB, os.getxattr, path, 'user.worm.state') in (b'retained', 'EACCES')
    open_to_all = wormfs.lock('b', mode=0o644)
    for name in ('state', 'until', 'mode', 'holds', 'committed', 'serial', 'rule', 'explain', 'mount'):
        assert isinstance(as_user(BOB, os.getxattr, open_to_all, 'user.worm.' + name), bytes)


def test_xattr_sizes_and_short_buffers_are_answered_as_the_kernel_wants_it(wormfs):
    path = wormfs.lock('a').encode()
    buffer = ctypes.create_string_buffer(4)
    assert libc.getxattr(path, b'user.worm.state', None, 0) == len('retained')
    assert libc.getxattr(path, b'user.worm.state', buffer, 4) == -1
    assert ctypes.get_errno() == 34                 # ERANGE
    assert libc.getxattr(path, b'user.worm.nothing', buffer, 4) == -1
    assert ctypes.get_errno() == 61                 # ENODATA


def test_a_directory_says_that_files_are_locked_and_not_it(wormfs):
    os.mkdir(wormfs.at('d'))
    for path in (wormfs.mnt, wormfs.at('d')):
        file = wormfs.explain(path)
        assert file['state'] == 'open' and file['why'].startswith('a directory: what is in it is locked')
