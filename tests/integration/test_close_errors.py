"""A lock that cannot be recorded is an error of close(2), or of what else locks, and the file does not pretend to be locked."""
import errno
import os

import pytest

from harness import LOCKED, WORMCTL, errno_of, injected, need_program, open_errno, read_file, run, sanitizer, write_file, xattrs

pytestmark = pytest.mark.skipif(bool(sanitizer()), reason='strace and a sanitizer do not go together')


@pytest.fixture
def share(wormfs):
    need_program('strace')
    wormfs.lock('there')		# pins, serial numbers and journal are there already
    wormfs.expect_log(r'its close failed, it is not locked', r'cannot (lock|commit)')
    return wormfs


def written(path):
    """Opened where strace runs already: a child that is made closes what it inherits, which is a close."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(fd, b'report\n')
    return fd


def is_not_locked(share, path):
    assert share.shows(path) not in LOCKED + ('closing',)
    assert open_errno(path, os.O_WRONLY) == 'OK'
    assert read_file(path) == b'report\n'


@pytest.mark.parametrize('error', ['EIO', 'ENOSPC', 'EDQUOT'])
def test_close_returns_the_error_of_a_record_that_cannot_be_written(share, error):
    path = share.at('a')
    with injected(share, 'fsetxattr', 'error=' + error):
        assert errno_of(os.close, written(path)) == error
    is_not_locked(share, path)
    assert 'its close failed, it is not locked' in share.log_text() and os.strerror(getattr(errno, error)) in share.log_text()
    assert share.info()['locked'] == 1
    run(WORMCTL, 'commit', path)
    share.wait_state(path, 'retained')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_the_next_close_tries_again(share):
    path = share.at('a')
    with injected(share, 'fsetxattr', 'error=EIO'):
        assert errno_of(os.close, written(path)) == 'EIO'
    with open(path, 'ab') as f:
        f.write(b'more\n')
    share.wait_state(path, 'retained')
    assert read_file(path) == b'report\nmore\n'


def test_a_duplicate_whose_close_failed_leaves_the_other_to_lock(share):
    path = share.at('a')
    with injected(share, 'fsetxattr', 'error=EIO'):
        fd = written(path)
        assert errno_of(os.close, os.dup(fd)) == 'EIO'
    assert share.shows(path) not in LOCKED
    os.write(fd, b'more\n')
    os.close(fd)
    share.wait_state(path, 'retained')
    assert read_file(path) == b'report\nmore\n'


def test_a_directory_that_cannot_be_pinned_fails_the_close(share):
    os.makedirs(share.at('x/y'))
    path = share.at('x/y/a')
    with injected(share, 'fsetxattr', 'error=EIO:when=1'):		# the first is that of a directory above
        assert errno_of(os.close, written(path)) == 'EIO'
    is_not_locked(share, path)
    run(WORMCTL, 'commit', path)
    share.wait_state(path, 'retained')
    assert errno_of(os.rename, share.at('x'), share.at('z')) == 'EPERM'


def test_a_rename_of_a_staging_name_that_cannot_lock_fails_and_the_name_stays(share):
    write_file(share.at('a.part'), b'report\n')
    share.wait_state(share.at('a.part'), 'staging')
    with injected(share, 'fsetxattr', 'error=EIO'):
        assert errno_of(os.rename, share.at('a.part'), share.at('a')) == 'EIO'
    assert sorted(os.listdir(share.mnt)) == ['a.part', 'there']
    assert share.shows(share.at('a.part')) == 'staging'
    os.rename(share.at('a.part'), share.at('a'))
    share.wait_state(share.at('a'), 'retained')


RENAME = 'renameat,renameat2'		# glibc makes the first of renameat2() without flags


def test_a_rename_of_a_staging_name_that_fails_below_is_its_error_and_takes_the_lock_back(share):
    write_file(share.at('a.part'), b'report\n')
    share.wait_state(share.at('a.part'), 'staging')
    with injected(share, RENAME, 'error=EIO'):
        assert errno_of(os.rename, share.at('a.part'), share.at('a')) == 'EIO'
    assert sorted(os.listdir(share.mnt)) == ['a.part', 'there']
    assert share.shows(share.at('a.part')) == 'staging' and xattrs(share.below('a.part')) == {}
    is_not_locked(share, share.at('a.part'))
    assert sorted(share.listed()) == ['there']
    os.rename(share.at('a.part'), share.at('a'))
    share.wait_state(share.at('a'), 'retained')
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'


def test_a_lock_that_a_failed_rename_cannot_take_back_stays_under_the_old_name_and_is_logged(share):
    share.expect_log(r'cannot take back the lock of the failed rename of .a\.part.')
    write_file(share.at('a.part'), b'report\n')
    share.wait_state(share.at('a.part'), 'staging')
    with injected(share, RENAME + ',fremovexattr,removexattr', 'error=EIO'):
        assert errno_of(os.rename, share.at('a.part'), share.at('a')) == 'EIO'
    assert 'cannot take back the lock of the failed rename of' in share.log_text()
    assert sorted(os.listdir(share.mnt)) == ['a.part', 'there']
    for _ in range(2):
        assert share.shows(share.at('a.part')) in LOCKED and open_errno(share.at('a.part'), os.O_WRONLY) == 'EPERM'
        assert errno_of(os.unlink, share.at('a.part')) == 'EPERM'
        assert sorted(share.listed()) == ['a.part', 'there']
        share.remount()


@pytest.mark.parametrize('by', ['chmod', 'wormctl', 'xattr'])
def test_each_other_trigger_says_so_and_locks_the_next_time(mount, by):
    need_program('strace')
    share = mount('commit=idle:3600')		# with commit=explicit chmod is no trigger
    share.expect_log(r'cannot (lock|commit)')
    path = share.at('a')
    write_file(path, b'report\n')

    def trigger():
        if by == 'chmod':
            return errno_of(os.chmod, path, 0o444)
        if by == 'xattr':
            return errno_of(os.setxattr, path, 'user.worm.commit', b'1')
        return 'OK' if run(WORMCTL, 'commit', path, check=False).returncode == 0 else 'EIO'
    with injected(share, 'fsetxattr', 'error=EIO'):
        assert trigger() == 'EIO'
    is_not_locked(share, path)
    os.chmod(path, 0o644)
    assert trigger() == 'OK'
    share.wait_state(path, 'retained')
