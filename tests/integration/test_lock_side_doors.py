"""Attributes of a locked file, and the calls that would reach its data otherwise: T18 to T22 of facts/worm-semantics.md.
lock_harness.py says how a refusal is looked at."""
import fcntl
import os
import stat
import struct

import pytest

from harness import (ALICE, BOB, FALLOC, FICLONE, FIDEDUPERANGE, FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NODUMP_FL, UTIME_NOW, UTIME_OMIT,
                     as_user, errno_of, fallocate, get_flags, need_program, open_errno, opened, read_file, run, set_flags,
                     set_fsxattr_flags, utimensat, write_file)
from lock_harness import locked, untouched		# noqa: F401


# ---- T18: attributes ----------------------------------------------------------------------------

@pytest.mark.parametrize('mode', [0o777, 0o667, 0o4666, 0o2666, 0o1666, 0o400 | 0o1000, 0o266, 0o464 | 0o100])
def test_T18_chmod_that_gives_rights_is_refused(locked, mode):
    share, path, below = locked
    with untouched(below):
        assert errno_of(os.chmod, path, mode) == 'EPERM'
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(os.fchmod, fd, mode) == 'EPERM'


@pytest.mark.parametrize('mode', [0o666, 0o644, 0o444, 0o664])
def test_T18_chmod_that_only_removes_write_bits_is_answered_and_changes_nothing(locked, mode):
    share, path, below = locked
    with untouched(below):
        assert errno_of(os.chmod, path, mode) == 'OK'
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


def test_T18_chown_is_refused(locked):
    share, path, below = locked
    with untouched(below):
        for uid, gid in ((ALICE, -1), (-1, ALICE), (ALICE, ALICE), (0, 0)):
            assert (uid, gid, errno_of(os.chown, path, uid, gid)) == (uid, gid, 'EPERM')


def test_T18_times_are_refused(locked):
    share, path, below = locked
    now, omit, date = (0, UTIME_NOW), (0, UTIME_OMIT), (1000000000, 1)
    with untouched(below):
        for times in ((date, date), (now, now), (omit, date), (date, omit), (omit, now), (now, omit)):
            assert (times, errno_of(utimensat, path, *times)) == (times, 'EPERM')
        assert run('touch', path, check=False).returncode != 0
        atime = os.stat(below).st_atime_ns
        assert errno_of(utimensat, path, date, omit) == 'EPERM'
        assert os.stat(below).st_atime_ns == atime


def test_T18_xattrs_are_neither_set_replaced_nor_removed(wormfs):
    path = wormfs.at('a')
    with opened(path, os.O_CREAT | os.O_WRONLY) as fd:
        os.setxattr(fd, 'user.kept', b'value')
        os.write(fd, b'report')
    wormfs.wait_state(path, 'retained')
    with untouched(wormfs.below('a')):
        for name in ('user.kept', 'user.new', 'trusted.new', 'security.new'):
            assert (name, errno_of(os.setxattr, path, name, b'x')) == (name, 'EPERM')
        assert errno_of(os.removexattr, path, 'user.kept') == 'EPERM'
        assert errno_of(os.removexattr, path, 'user.absent') in ('EPERM', 'ENODATA')
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(os.setxattr, fd, 'user.new', b'x') == 'EPERM'
    assert os.getxattr(path, 'user.kept') == b'value'


def test_T18_the_record_itself_is_neither_seen_nor_touched_through_the_mount(locked):
    share, path, below = locked
    assert os.listxattr(path) == []
    record = [n for n in os.listxattr(below) if 'wormfs' in n]
    assert record, 'there is no record on the lower file'
    with untouched(below):
        for name in record:
            assert errno_of(os.getxattr, path, name) in ('ENODATA', 'EPERM')
            assert errno_of(os.setxattr, path, name, b'') == 'EPERM'
            assert errno_of(os.removexattr, path, name) in ('EPERM', 'ENODATA')


def test_T18_a_forged_record_cannot_be_set_on_an_open_file(wormfs):
    write_file(wormfs.at('a'), b'')
    for name in ('trusted.wormfs', 'user.wormfs', 'trusted.wormfs.pin', 'trusted.wormfs.share'):
        assert (name, errno_of(os.setxattr, wormfs.at('a'), name, b'x' * 64)) == (name, 'EPERM')
        assert (name, errno_of(os.setxattr, wormfs.mnt, name, b'x' * 64)) == (name, 'EPERM')
    assert os.listxattr(wormfs.below('a')) == []


def test_T18_an_ACL_is_refused(locked):
    setfacl = need_program('setfacl')
    share, path, below = locked
    with untouched(below):
        assert run(setfacl, '-m', 'u:%d:rwx' % BOB, path, check=False).returncode != 0
        assert run(setfacl, '-b', path, check=False).returncode in (0, 1)     # nothing to remove: no call at all
    acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in (
        (1, 7, 0xffffffff), (2, 7, BOB), (4, 6, 0xffffffff), (0x10, 7, 0xffffffff), (0x20, 6, 0xffffffff)))
    with untouched(below):
        assert errno_of(os.setxattr, path, 'system.posix_acl_access', acl) == 'EPERM'


def test_T18_an_ACL_from_before_the_lock_stays(wormfs):
    setfacl = need_program('setfacl')
    path = wormfs.at('a')
    write_file(path, b'')
    run(setfacl, '-m', 'u:%d:rw' % BOB, path)
    write_file(path, b'report')
    wormfs.wait_state(path, 'retained')
    with untouched(wormfs.below('a')):
        assert run(setfacl, '-b', path, check=False).returncode != 0
        assert run(setfacl, '-x', 'u:%d' % BOB, path, check=False).returncode != 0
        assert as_user(BOB, open_errno, path, os.O_WRONLY) == 'EPERM'


# ---- T19 to T22: side doors ---------------------------------------------------------------------

@pytest.mark.parametrize('mode', FALLOC)
def test_T19_fallocate_reaches_no_locked_file(locked, mode):
    share, path, below = locked

    def go(flags):
        with opened(path, flags) as fd:
            fallocate(fd, FALLOC[mode], 0, 4096)
    with untouched(below):
        assert errno_of(go, os.O_RDWR) == 'EPERM'
        assert errno_of(go, os.O_RDONLY) in ('EBADF', 'EOPNOTSUPP')     # the second: a mode that FUSE lacks


def test_T20_copy_file_range_copies_from_a_locked_file_and_never_into_one(locked):
    share, path, below = locked
    with untouched(below):
        with opened(path, os.O_RDONLY) as source:
            with opened(share.at('copy'), os.O_CREAT | os.O_WRONLY) as target:
                assert os.copy_file_range(source, target, 7) == 7
            with opened(share.at('copy'), os.O_RDONLY) as other:
                assert errno_of(os.copy_file_range, other, source, 3, 0, 0) == 'EBADF'
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
    share.wait_state('copy', 'retained')
    assert read_file(share.below('copy')) == b'report\n'
    assert open_errno(share.at('copy'), os.O_WRONLY) == 'EPERM'


@pytest.mark.parametrize('base', ['ext4', 'xfs', 'btrfs'])
def test_T21_neither_FICLONE_nor_deduplication_changes_a_locked_file(mount, base):
    share = mount(base=base)
    data = b'a' * 65536
    path = share.lock('a', data)
    share.lock('same', data)
    share.lock('other', b'b' * 65536)
    with untouched(share.below('a')):
        with opened(path, os.O_RDONLY) as target:
            for name in ('same', 'other'):
                with opened(share.at(name), os.O_RDONLY) as source:
                    assert errno_of(fcntl.ioctl, target, FICLONE, source) != 'OK'
                    request = bytearray(struct.pack('QQHHI', 0, 65536, 1, 0, 0) + struct.pack('qQQiI', target, 0, 0, 0, 0))
                    result = errno_of(fcntl.ioctl, source, FIDEDUPERANGE, request, True)
                    status = struct.unpack_from('i', request, 24 + 24)[0]
                    assert result != 'OK' or status < 0
    assert read_file(share.below('a')) == data


def test_T22_lsattr_shows_a_locked_file_as_immutable_and_chattr_does_not_change_that(locked):
    share, path, below = locked
    assert get_flags(path) & FS_IMMUTABLE_FL
    with untouched(below):
        for flags in (0, FS_APPEND_FL, FS_NODUMP_FL, FS_NODUMP_FL | FS_APPEND_FL):
            assert (flags, errno_of(set_flags, path, flags)) == (flags, 'EPERM')
        assert errno_of(set_flags, path, FS_IMMUTABLE_FL) == 'OK'       # is so already
    assert get_flags(path) & FS_IMMUTABLE_FL
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_T22_chattr_minus_i_and_plus_a_fail_for_root(locked):
    chattr = need_program('chattr')
    share, path, below = locked
    with untouched(below):
        assert run(chattr, '-i', path, check=False).returncode != 0
        run(chattr, '+a', path, check=False)        # i stays set: whether it complains is its own affair
    assert get_flags(path) & FS_IMMUTABLE_FL
    assert open_errno(path, os.O_WRONLY | os.O_APPEND) == 'EPERM'


def test_T22_the_other_ioctls_reach_no_locked_file(locked):
    share, path, below = locked
    with untouched(below):
        assert errno_of(set_fsxattr_flags, path, 0) in ('EPERM', 'ENOTTY')
        with opened(path, os.O_RDONLY) as fd:
            for name, number in {'FS_IOC_ENABLE_VERITY': 0x40806685, 'FS_IOC_SETVERSION': 0x40087602,
                                 'EXT4_IOC_MOVE_EXT': 0xc028660f, 'EXT4_IOC_SWAP_BOOT': 0x6611,
                                 'FS_IOC_SET_ENCRYPTION_POLICY': 0x800c6613}.items():
                buffer = bytearray(256)
                assert (name, errno_of(fcntl.ioctl, fd, number, buffer)) in ((name, 'ENOTTY'), (name, 'EPERM'))
