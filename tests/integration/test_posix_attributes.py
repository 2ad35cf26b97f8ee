"""POSIX without exception: times, xattrs, counts. posix_harness.py says how it is compared."""
import ctypes
import hashlib
import mmap
import os
import time

import pytest

from harness import (ALICE, BOB, UTIME_NOW, UTIME_OMIT, as_user, errno_of, fallocate, libc, open_errno, opened, read_file, utimensat,
                     write_file)
from posix_harness import flags_of, make_all_kinds


# ---- xattrs -------------------------------------------------------------------------------------

@pytest.mark.parametrize('base', ['ext4', 'xfs', 'btrfs', 'tmpfs'])
def test_xattrs_reach_the_limits_of_the_lower_filesystem(mount, base):
    share = mount('commit=never', base=base)
    os.mkdir(share.at('m'))
    os.mkdir(share.below('n'))

    def go(d):
        write_file(d + '/f')
        out = []
        for size in (0, 1, 100, 1000, 3000, 3900, 4000, 5000, 16000, 60000, 65535, 65536, 65537):
            if base == 'btrfs' and size == 16000:
                continue    # as large as a leaf: whether it fits depends on what else is in there
            out.append((size, errno_of(os.setxattr, d + '/f', 'user.big', b'v' * size)))
            out.append((size, hashlib.md5(os.getxattr(d + '/f', 'user.big')).hexdigest()))
        os.removexattr(d + '/f', 'user.big')
        n = 0
        while errno_of(os.setxattr, d + '/f', 'user.%04d' % n, b'value') == 'OK' and n < 2500:
            n += 1
        names = os.listxattr(d + '/f')
        out += [n, len(names), names == sorted(names) or sorted(names)[:3]]
        out.append(errno_of(os.setxattr, d + '/f', 'user.' + 'n' * 250, b''))
        out.append(errno_of(os.setxattr, d + '/f', 'user.' + 'n' * 251, b''))
        return out
    assert go(share.at('m')) == go(share.below('n'))


def test_xattr_calls_answer_as_the_lower_ones_do(pair):
    def go(d):
        write_file(d + '/f')
        os.mkdir(d + '/d')
        os.symlink('f', d + '/s')
        out = []
        for path in (d + '/f', d + '/d'):
            out += [errno_of(os.setxattr, path, 'user.a', b'1', os.XATTR_REPLACE), errno_of(os.setxattr, path, 'user.a', b'1', os.XATTR_CREATE),
                    errno_of(os.setxattr, path, 'user.a', b'2', os.XATTR_CREATE), errno_of(os.setxattr, path, 'user.a', b'3', os.XATTR_REPLACE),
                    os.getxattr(path, 'user.a'), errno_of(os.getxattr, path, 'user.b'), errno_of(os.removexattr, path, 'user.b'),
                    errno_of(os.setxattr, path, 'trusted.t', b'1'), errno_of(os.setxattr, path, 'nonsense.x', b'1'),
                    errno_of(os.setxattr, path, 'user.', b'1'), errno_of(os.setxattr, path, 'security.x', b'1'),
                    sorted(os.listxattr(path)), as_user(BOB, lambda p=path: sorted(os.listxattr(p))),
                    as_user(BOB, errno_of, os.setxattr, path, 'user.b', b'1'), as_user(BOB, errno_of, os.getxattr, path, 'trusted.t'),
                    errno_of(os.removexattr, path, 'user.a'), sorted(os.listxattr(path))]
        out.append(errno_of(os.setxattr, d + '/s', 'user.a', b'1', 0, follow_symlinks=False))
        out.append(errno_of(os.setxattr, d + '/s', 'trusted.a', b'1', 0, follow_symlinks=False))
        out.append(os.listxattr(d + '/s', follow_symlinks=False))
        buffer = ctypes.create_string_buffer(4)
        os.setxattr(d + '/f', 'user.long', b'12345678')
        out.append((libc.getxattr(os.fsencode(d + '/f'), b'user.long', buffer, 4), ctypes.get_errno()))
        out.append((libc.listxattr(os.fsencode(d + '/f'), buffer, 4), ctypes.get_errno()))
        return out
    pair.same(go)


# ---- times --------------------------------------------------------------------------------------

@pytest.mark.parametrize('which', ['file', 'dir', 'link'])
def test_utimensat_sets_each_time_leaves_it_or_takes_now(pair, which):
    def go(d):
        write_file(d + '/file')
        os.mkdir(d + '/dir')
        os.symlink('file', d + '/link')
        path, out = d + '/' + which, []
        for times in (((1000000000, 123456789), (1500000000, 987654321)), ((0, UTIME_OMIT), (1600000000, 5)),
                      ((1700000000, 7), (0, UTIME_OMIT)), ((0, UTIME_OMIT), (0, UTIME_OMIT)), ((-1000, 1), (-2000, 999999999)),
                      ((4294967296, 0), (5000000000, 1))):
            out.append(errno_of(utimensat, path, *times, 0x100))
            st = os.lstat(path)
            out.append((st.st_atime_ns, st.st_mtime_ns))
        for times in (((0, UTIME_NOW), (1, 1)), ((1, 1), (0, UTIME_NOW)), ((0, UTIME_NOW), (0, UTIME_NOW))):
            before = time.time_ns()
            out.append(errno_of(utimensat, path, *times, 0x100))
            st = os.lstat(path)
            out.append(tuple(t if t < 10**10 else before - 10**9 < t < before + 10**10 for t in (st.st_atime_ns, st.st_mtime_ns)))
        out.append(errno_of(utimensat, path, (0, 10**9), (0, 0), 0x100))
        return out
    pair.same(go)


def test_times_may_be_set_by_whom_POSIX_lets_set_them(pair):
    now, omit, date = (0, UTIME_NOW), (0, UTIME_OMIT), (1000000000, 1)

    def go(d):
        write_file(d + '/f')
        os.chown(d + '/f', ALICE, ALICE)
        out = []
        for mode in (0o644, 0o666, 0o444):
            os.chmod(d + '/f', mode)
            for uid in (ALICE, BOB, 0):
                for times in ((date, date), (now, now), (omit, date), (now, omit), (omit, omit)):
                    out.append((mode, uid, times, as_user(uid, errno_of, utimensat, d + '/f', *times)))
        return out
    out = pair.same(go)
    assert (0o666, BOB, (now, now), 'OK') in out and (0o666, BOB, (date, date), 'EPERM') in out


def test_times_move_when_and_only_when_they_should(pair):
    def go(d):
        write_file(d + '/f', b'x')
        os.mkdir(d + '/d')
        out = []

        def step(name, fn, *paths):
            old = 10**18
            for p in paths:
                os.utime(p, ns=(old, old))
            before = {p: os.stat(p).st_ctime_ns for p in paths}
            time.sleep(0.012)           # one tick of a filesystem's clock
            fn()
            for p in paths:
                st = os.stat(p)
                out.append((name, os.path.relpath(p, d), st.st_mtime_ns != old, st.st_ctime_ns != before[p]))
        f, dd = d + '/f', d + '/d'
        step('write', lambda: write_file(f, b'y', flags=os.O_APPEND), f, d)
        step('truncate', lambda: os.truncate(f, 1), f)
        step('truncate to the same', lambda: os.truncate(f, 1), f)
        step('O_TRUNC', lambda: write_file(f, b'', flags=os.O_TRUNC), f)
        step('chmod', lambda: os.chmod(f, 0o600), f, d)
        step('chown', lambda: os.chown(f, BOB, BOB), f)
        step('link', lambda: os.link(f, d + '/l'), f, d)
        step('unlink', lambda: os.unlink(d + '/l'), f, d)
        step('rename', lambda: os.rename(f, dd + '/f'), d, dd)
        step('rename inside', lambda: os.rename(dd + '/f', dd + '/g'), dd)
        step('setxattr', lambda: os.setxattr(dd + '/g', 'user.x', b'x'), dd + '/g')
        step('fallocate', with_fd_of(dd + '/g', lambda fd: fallocate(fd, 0, 0, 100)), dd + '/g')
        step('mkdir', lambda: os.mkdir(dd + '/sub'), dd)
        step('create', lambda: write_file(dd + '/new', b''), dd)
        step('read', lambda: read_file(dd + '/g'), dd + '/g')
        return out
    pair.same(go)


def with_fd_of(path, fn):
    def go():
        with opened(path, os.O_RDWR) as fd:
            fn(fd)
    return go


# ---- counts -------------------------------------------------------------------------------------

def test_a_store_into_a_mapping_moves_the_times_seen_through_the_mount(pair):
    old = 10**18

    def go(d):
        path = write_file(d + '/f', b'\0' * 4096)
        out = []
        with opened(path, os.O_RDWR) as fd:
            m = mmap.mmap(fd, 4096)
            os.utime(path, ns=(old, old))
            os.stat(path)
            ctime = os.stat(path).st_ctime_ns
            time.sleep(0.02)
            m[0:5] = b'store'
            m.flush()
            out += [os.stat(path).st_mtime_ns != old, os.fstat(fd).st_mtime_ns != old, os.stat(path).st_ctime_ns != ctime]
            m.close()
        return out + [os.stat(path).st_mtime_ns != old, read_file(path)[:5]]
    assert pair.same(go) == [True, True, True, True, b'store']
    assert os.stat(pair.mnt + '/f').st_mtime_ns == os.stat(pair.lower + '/f').st_mtime_ns


def test_what_is_stat_ed_is_what_the_lower_file_has(pair):
    make_all_kinds(pair.mnt)
    for name in os.listdir(pair.mnt):
        ours, lower = os.lstat(os.path.join(pair.mnt, name)), os.lstat(os.path.join(pair.lower, name))
        for field in ('ino', 'mode', 'nlink', 'uid', 'gid', 'size', 'blocks', 'rdev', 'mtime_ns', 'ctime_ns', 'atime_ns', 'blksize'):
            assert (name, field, getattr(ours, 'st_' + field)) == (name, field, getattr(lower, 'st_' + field))
        assert ours.st_dev != lower.st_dev
    with os.scandir(pair.mnt) as entries:
        for e in entries:
            assert (e.name, e.inode()) == (e.name, os.lstat(e.path).st_ino)


def test_directories_count_their_subdirectories(pair):
    def go(d):
        os.mkdir(d + '/d')
        out = [os.stat(d + '/d').st_nlink]
        for n in range(3):
            os.mkdir(d + '/d/s%d' % n)
            out.append(os.stat(d + '/d').st_nlink)
        os.rename(d + '/d/s0', d + '/s0')
        out += [os.stat(d + '/d').st_nlink, os.stat(d).st_nlink]
        os.rmdir(d + '/d/s1')
        return out + [os.stat(d + '/d').st_nlink]
    assert pair.same(go)[:4] == [2, 3, 4, 5]


def test_statfs_is_that_of_the_lower_filesystem(plain_share):
    os.sync()
    ours, lower = os.statvfs(plain_share.mnt), os.statvfs(plain_share.lower)
    for field in ('f_bsize', 'f_frsize', 'f_blocks', 'f_files', 'f_namemax'):
        assert (field, getattr(ours, field)) == (field, getattr(lower, field))
    for field in ('f_bfree', 'f_bavail', 'f_ffree', 'f_favail'):
        assert abs(getattr(ours, field) - getattr(lower, field)) < 2000


def test_noatime_leaves_access_times_alone_and_without_it_they_move_as_below(mount):
    share = mount(start=False)
    for d in ('native', 'm'):
        os.mkdir(share.below(d))

    def access(d):
        path = write_file(d + '/f', b'x' * 10000)
        os.utime(path, (1, 1))
        read_file(path)
        return os.stat(path).st_atime > 1
    share.start('commit=never')
    native = access(share.below('native'))
    assert access(share.at('m')) == native is True
    assert (os.stat(share.below('m/f')).st_atime > 1) is True
    share.remount('commit=never,noatime')
    os.utime(share.below('m/f'), (1, 1))
    read_file(share.at('m/f'))
    os.listdir(share.at('m'))
    assert os.stat(share.below('m/f')).st_atime == 1
    assert os.stat(share.at('m/f')).st_atime == 1
    assert 'noatime' in flags_of(share.mnt)[0]


def test_O_NOATIME_is_honoured(pair):
    def go(d):
        path = write_file(d + '/f', b'x' * 10000)
        os.utime(path, (1, 1))
        with opened(path, os.O_RDONLY | os.O_NOATIME) as fd:
            os.read(fd, 10000)
        return os.stat(path).st_atime, as_user(BOB, open_errno, path, os.O_RDONLY | os.O_NOATIME)
    pair.same(go)
