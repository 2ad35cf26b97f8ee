"""POSIX without exception, with commit=never: each test does the same in a directory of the mount and in one of the
lower filesystem (`pair.same`) and wants the same answers. The list is what FUSE peers get wrong, see
facts/outside-world.md."""
import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import random
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

from harness import (ALICE, AT_FDCWD, BOB, DEADLINE_S, FALLOC, FILES, MS_RDONLY, MS_REMOUNT, RENAME_EXCHANGE, RENAME_NOREPLACE,
                     RENAME_WHITEOUT, TEAM, UTIME_NOW, UTIME_OMIT, WORMFS, as_user, daemon_environment, errno_of, fallocate, in_child, libc, link_descriptor,
                     linkat, mount_call, mounts, need_program, open_errno, opened, read_file, renameat2, run, scaled, tool,
                     utimensat, wait_for, write_file)


def attributes(path, *more):
    st = os.lstat(path)
    what = {'mode': oct(st.st_mode), 'uid': st.st_uid, 'gid': st.st_gid, 'nlink': st.st_nlink}
    if not stat.S_ISDIR(st.st_mode):
        what['size'] = st.st_size
    for m in more:
        what[m] = getattr(st, 'st_' + m)
    return what


# ---- the caller's ids ---------------------------------------------------------------------------

def make_all_kinds(d):
    """Something of every kind in directory d; their attributes."""
    write_file(d + '/file', b'x', 0o666)
    os.mkdir(d + '/dir', 0o777)
    os.symlink('file', d + '/link')
    os.mkfifo(d + '/fifo', 0o666)
    os.mknod(d + '/socket', stat.S_IFSOCK | 0o666)
    os.mknod(d + '/regular', stat.S_IFREG | 0o666)
    os.link(d + '/file', d + '/hard')
    return {n: attributes(d + '/' + n) for n in sorted(os.listdir(d))}


@pytest.mark.parametrize('uid,groups', [(0, ()), (ALICE, ()), (ALICE, (TEAM,)), (BOB, (TEAM, 4, 27))])
@pytest.mark.parametrize('umask', [0, 0o022, 0o077])
def test_what_is_made_belongs_to_the_caller(pair, uid, groups, umask):
    kinds = pair.same(lambda d: as_user(uid, make_all_kinds, d, groups=groups, umask=umask))
    assert {k['uid'] for k in kinds.values()} == {uid}
    assert kinds['file']['mode'] == oct(stat.S_IFREG | 0o666 & ~umask)


def test_supplementary_groups_open_directories_and_others_stay_outside(pair):
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/team')
        os.chown(d + '/team', 0, TEAM)
        os.chmod(d + '/team', 0o770)
    assert pair.same(lambda d: as_user(ALICE, make_all_kinds, d + '/team', groups=(TEAM,)))['file']['uid'] == ALICE
    assert pair.same(lambda d: as_user(BOB, open_errno, d + '/team/file', os.O_RDONLY)) == 'EACCES'
    assert pair.same(lambda d: as_user(BOB, errno_of, os.mkdir, d + '/team/x')) == 'EACCES'
    assert pair.same(lambda d: as_user(BOB, errno_of, os.listdir, d + '/team')) == 'EACCES'


def test_many_supplementary_groups_count_all(pair):
    groups = tuple(range(30000, 30200))
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/g')
        os.chown(d + '/g', 0, groups[-1])
        os.chmod(d + '/g', 0o070)
    assert pair.same(lambda d: as_user(ALICE, errno_of, write_file, d + '/g/x', groups=groups)) == 'OK'
    assert pair.same(lambda d: as_user(ALICE, errno_of, write_file, d + '/g/y', groups=groups[:-1])) == 'EACCES'


def test_setgid_directories_hand_their_group_down(pair):
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/sg')
        os.chown(d + '/sg', 0, TEAM)
        os.chmod(d + '/sg', 0o2777)
    kinds = pair.same(lambda d: as_user(ALICE, make_all_kinds, d + '/sg', umask=0o022))
    assert {k['gid'] for k in kinds.values()} == {TEAM}
    assert kinds['dir']['mode'] == oct(stat.S_IFDIR | 0o2755)


def test_a_setgid_file_made_in_a_setgid_directory_by_somebody_outside_its_group_loses_the_bit(pair):
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/sg')
        os.chown(d + '/sg', 0, TEAM)
        os.chmod(d + '/sg', 0o2777)

    def make(d, groups):
        def go():
            os.close(os.open(d + '/sg/f%d' % len(groups), os.O_CREAT | os.O_WRONLY, 0o2777))
            with opened(d + '/sg', os.O_TMPFILE | os.O_RDWR, 0o2777) as fd:
                return oct(os.stat(d + '/sg/f%d' % len(groups)).st_mode), oct(os.fstat(fd).st_mode)
        return as_user(ALICE, go, groups=groups, umask=0)
    outside = pair.same(make, ())
    inside = pair.same(make, (TEAM,))
    assert outside[0] == oct(stat.S_IFREG | 0o777) and inside[0] == oct(stat.S_IFREG | 0o2777)


@pytest.mark.parametrize('uid,gid', [(-1, TEAM), (-1, 4), (BOB, -1), (0, 0), (-1, -1), (ALICE, ALICE)])
@pytest.mark.parametrize('groups', [(), (TEAM,)])
def test_chown_and_chgrp_are_judged_by_the_callers_groups(pair, uid, gid, groups):
    def go(d):
        as_user(ALICE, write_file, d + '/f')
        return as_user(ALICE, errno_of, os.chown, d + '/f', uid, gid, groups=groups), attributes(d + '/f')
    pair.same(go)


def test_chmod_by_others_than_the_owner_is_EPERM_and_setgid_needs_the_group(pair):
    def go(d):
        as_user(ALICE, write_file, d + '/f')
        os.chown(d + '/f', ALICE, TEAM)
        out = [as_user(BOB, errno_of, os.chmod, d + '/f', 0o777)]
        out.append(as_user(ALICE, errno_of, os.chmod, d + '/f', 0o2755))
        out.append(attributes(d + '/f'))
        out.append(as_user(ALICE, errno_of, os.chmod, d + '/f', 0o2755, groups=(TEAM,)))
        return out + [attributes(d + '/f')]
    out = pair.same(go)
    assert out[0] == 'EPERM' and out[2]['mode'] == oct(stat.S_IFREG | 0o755) and out[4]['mode'] == oct(stat.S_IFREG | 0o2755)


def test_mode_bits_decide_for_owner_group_and_others(pair):
    def go(d):
        out = []
        for mode in (0o000, 0o400, 0o040, 0o004, 0o200, 0o020, 0o002, 0o111, 0o640, 0o777):
            write_file(d + '/f', b'x')
            os.chown(d + '/f', ALICE, TEAM)
            os.chmod(d + '/f', mode)
            for uid, groups in ((ALICE, ()), (BOB, (TEAM,)), (BOB, ()), (0, ())):
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    out.append(as_user(uid, open_errno, d + '/f', flags, groups=groups))
                out.append(as_user(uid, os.access, d + '/f', os.X_OK, groups=groups))
            os.unlink(d + '/f')
        return out
    out = pair.same(go)
    assert 'EACCES' in out and 'OK' in out


def test_a_file_made_without_rights_is_open_all_the_same_for_who_made_it(pair):
    def go(d):
        def make():
            with opened(d + '/f', os.O_CREAT | os.O_RDWR, 0o000) as fd:
                os.write(fd, b'written')
                os.lseek(fd, 0, 0)
                return os.read(fd, 10), open_errno(d + '/f', os.O_RDONLY)
        return as_user(ALICE, make)
    assert pair.same(go) == (b'written', 'EACCES')


def test_sticky_directories_protect_other_peoples_files(pair):
    def go(d):
        os.mkdir(d + '/t')
        os.chmod(d + '/t', 0o1777)
        as_user(ALICE, write_file, d + '/t/a')
        as_user(BOB, write_file, d + '/t/b')
        return [as_user(BOB, errno_of, os.unlink, d + '/t/a'), as_user(BOB, errno_of, os.rename, d + '/t/a', d + '/t/c'),
                as_user(BOB, errno_of, os.rename, d + '/t/b', d + '/t/a'), as_user(ALICE, errno_of, os.unlink, d + '/t/a'),
                as_user(0, errno_of, os.unlink, d + '/t/b')]
    assert pair.same(go) == ['EPERM', 'EPERM', 'EPERM', 'OK', 'OK']


# ---- ACLs ---------------------------------------------------------------------------------------

def acl_text(path):
    return [l for l in run('getfacl', '-p', '-n', '--omit-header', path).out.splitlines() if l]


@pytest.mark.parametrize('umask', [0, 0o022, 0o077])
def test_default_ACLs_are_inherited_and_overrule_the_umask(pair, umask):
    need_program('setfacl')
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/d')
        run('setfacl', '-d', '-m', 'u::rwx,g::r-x,o::---,u:%d:rw-,m::rwx' % BOB, d + '/d')
        os.chmod(d + '/d', 0o777)

    def go(d):
        def make():
            write_file(d + '/d/f', b'x', 0o666)
            os.mkdir(d + '/d/sub', 0o777)
            os.mknod(d + '/d/fifo', stat.S_IFIFO | 0o660)
            with opened(d + '/d', os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
                link_descriptor(fd, d + '/d/tmp')
        as_user(ALICE, make, umask=umask)
        return {n: (acl_text(d + '/d/' + n), attributes(d + '/d/' + n)) for n in ('f', 'sub', 'fifo', 'tmp')}
    out = pair.same(go)
    assert out['f'][1]['mode'] == oct(stat.S_IFREG | 0o660) and 'default:user:%d:rw-' % BOB in out['sub'][0]


def test_ACLs_decide_who_may(pair):
    need_program('setfacl')

    def go(d):
        write_file(d + '/f', b'x', 0o600)
        run('setfacl', '-m', 'u:%d:r,g:%d:rw' % (BOB, TEAM), d + '/f')
        return [as_user(uid, open_errno, d + '/f', flags, groups=groups)
                for uid, groups in ((BOB, ()), (BOB, (TEAM,)), (ALICE, (TEAM,)), (ALICE, ()))
                for flags in (os.O_RDONLY, os.O_WRONLY)] + [attributes(d + '/f'), acl_text(d + '/f')]
    assert pair.same(go)[:4] == ['OK', 'EACCES', 'OK', 'EACCES']


def test_chmod_changes_the_mask_and_an_ACL_changes_the_mode(pair):
    need_program('setfacl')

    def go(d):
        write_file(d + '/f', b'x', 0o640)
        run('setfacl', '-m', 'u:%d:rwx' % BOB, d + '/f')
        first = attributes(d + '/f'), acl_text(d + '/f')
        os.chmod(d + '/f', 0o600)
        second = attributes(d + '/f'), acl_text(d + '/f')
        run('setfacl', '-b', d + '/f')
        return first, second, attributes(d + '/f'), os.listxattr(d + '/f')
    first, second, third, names = pair.same(go)
    assert first[0]['mode'] == oct(stat.S_IFREG | 0o670) and names == []


def test_an_ACL_set_by_somebody_outside_the_group_clears_setgid(pair):
    need_program('setfacl')

    def go(d):
        write_file(d + '/f', b'x')
        os.chown(d + '/f', ALICE, TEAM)
        os.chmod(d + '/f', 0o2755)
        as_user(ALICE, lambda: run('setfacl', '-m', 'u:%d:r' % BOB, d + '/f') and None)
        return attributes(d + '/f')
    pair.same(go)


# ---- setuid and setgid --------------------------------------------------------------------------

def by_mapping(path):
    with opened(path, os.O_RDWR) as fd:
        m = mmap.mmap(fd, 4096)
        m[0:1] = b'y'
        m.flush()
        m.close()


def by_copy(path):
    with opened(path, os.O_RDONLY) as source, opened(path, os.O_WRONLY) as target:
        os.copy_file_range(source, target, 10, 0, 100)


def by_direct(path):
    buffer = mmap.mmap(-1, 4096)
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd:
        os.preadv(fd, [buffer], 0)
        os.pwritev(fd, [buffer], 0)


def with_fd(fn):
    def go(path):
        with opened(path, os.O_RDWR) as fd:
            fn(fd)
    return go


STRIPPING = {
    'write': with_fd(lambda fd: os.write(fd, b'x')),
    'write of nothing': with_fd(lambda fd: os.write(fd, b'')),
    'append': lambda p: write_file(p, b'x', flags=os.O_APPEND),
    'direct write': by_direct,
    'O_TRUNC': lambda p: os.close(os.open(p, os.O_WRONLY | os.O_TRUNC)),
    'truncate': lambda p: os.truncate(p, 10),
    'ftruncate': with_fd(lambda fd: os.ftruncate(fd, 10)),
    'truncate to the same size': lambda p: os.truncate(p, os.stat(p).st_size),
    'fallocate': with_fd(lambda fd: fallocate(fd, 0, 0, 8192)),
    'punch hole': with_fd(lambda fd: fallocate(fd, FALLOC['punch-hole'], 0, 4096)),
    'copy_file_range': by_copy,
    'mapping': by_mapping,
    'read': with_fd(lambda fd: os.read(fd, 1)),
    'utimes': lambda p: os.utime(p),
    'chown to itself': lambda p: os.chown(p, os.stat(p).st_uid, os.stat(p).st_gid),
    'setxattr': lambda p: os.setxattr(p, 'user.x', b'x'),
}


@pytest.mark.parametrize('mode', [0o6777, 0o2767, 0o4666, 0o2666])
@pytest.mark.parametrize('how', STRIPPING)
def test_setuid_and_setgid_go_when_somebody_unprivileged_changes_the_file(pair, how, mode):
    def go(d):
        out = {}
        for uid, groups in ((BOB, ()), (ALICE, ()), (ALICE, (TEAM,)), (0, ())):
            path = d + '/f'
            write_file(path, b'x' * 4096)
            os.chown(path, ALICE, TEAM)
            os.chmod(path, mode)
            os.stat(path)
            result = as_user(uid, errno_of, STRIPPING[how], path, groups=groups)
            out[uid, groups] = result, oct(os.stat(path).st_mode)
            os.unlink(path)
        return out
    out = pair.same(go)
    if how == 'write' and mode == 0o6777:
        assert out[BOB, ()] == ('OK', oct(stat.S_IFREG | 0o777)) and out[0, ()] == ('OK', oct(stat.S_IFREG | 0o6777))


def test_chown_by_root_clears_setuid(pair):
    def go(d):
        out = []
        for mode in (0o6755, 0o2745, 0o4755):
            for uid, gid in ((BOB, -1), (-1, BOB), (BOB, BOB)):
                write_file(d + '/f')
                os.chmod(d + '/f', mode)
                os.chown(d + '/f', uid, gid)
                out.append(attributes(d + '/f'))
                os.unlink(d + '/f')
        os.mkdir(d + '/d')
        os.chmod(d + '/d', 0o2755)
        os.chown(d + '/d', BOB, BOB)
        return out + [attributes(d + '/d')]
    out = pair.same(go)
    assert out[0]['mode'] == oct(stat.S_IFREG | 0o755)


def test_a_capability_of_a_file_goes_with_a_write_and_a_chown(pair):
    value = struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0)

    def go(d):
        out = []
        for change in (lambda p: as_user(ALICE, write_file, p, b'x', 0o666, os.O_APPEND), lambda p: os.chown(p, BOB, BOB),
                       lambda p: os.truncate(p, 3)):
            write_file(d + '/f', b'program', 0o777)
            os.chmod(d + '/f', 0o777)
            os.setxattr(d + '/f', 'security.capability', value)
            change(d + '/f')
            out.append(errno_of(os.getxattr, d + '/f', 'security.capability'))
            os.unlink(d + '/f')
        return out
    assert pair.same(go)[0] == 'ENODATA'


# ---- limits -------------------------------------------------------------------------------------

def test_RLIMIT_FSIZE_holds_for_every_way_to_grow_a_file(pair):
    def go(d):
        def child():
            out = []
            with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
                out.append(os.write(fd, b'x' * 3000))
                out.append(os.write(fd, b'x' * 3000))           # what fits
                out.append(errno_of(os.write, fd, b'x'))
                out.append(errno_of(os.pwrite, fd, b'x', 5000))
                out.append(errno_of(os.ftruncate, fd, 4097))
                out.append(errno_of(os.truncate, d + '/f', 5000))
                out.append(errno_of(fallocate, fd, 0, 0, 5000))
                out.append(errno_of(os.ftruncate, fd, 4096))
                out.append(os.fstat(fd).st_size)
            with opened(d + '/f', os.O_WRONLY | os.O_APPEND) as fd:
                out.append(errno_of(os.write, fd, b'x'))
            return out
        return as_user(ALICE, child, rlimits=((resource.RLIMIT_FSIZE, 4096),))
    out = pair.same(go)
    assert out[:5] == [3000, 1096, 'EFBIG', 'EFBIG', 'EFBIG'] and out[8] == 4096


def test_PATH_MAX_is_that_of_the_kernel(pair):
    def go(d):
        def child():
            for _ in range(15):
                os.mkdir('x' * 255)
                os.chdir('x' * 255)
            write_file('f', b'deep')
            os.chdir(d)
            base = '/'.join(['x' * 255] * 15) + '/'
            longest = base + 'y' * (4095 - len(base))
            out = [read_file(base + 'f'), errno_of(write_file, longest, b'longest'), errno_of(os.stat, longest),
                   errno_of(os.stat, longest + 'y'), errno_of(os.mkdir, longest[:-1]), sorted(os.listdir(base)) and len(os.listdir(base))]
            out.append(errno_of(os.symlink, longest, 's'))
            out.append(os.readlink('s') == longest)
            return out
        return in_child(child, cwd=d)
    out = pair.same(go)
    assert out[0] == b'deep' and out[1] == 'OK' and out[3] == 'ENAMETOOLONG' and out[-1] is True


def test_directories_deeper_than_PATH_MAX_are_walked(pair):
    def go(d):
        def child():
            for n in range(60):
                os.mkdir('%02d' % n + 'x' * 98)
                os.chdir('%02d' % n + 'x' * 98)
            write_file('f', b'deep')
            os.rename('f', 'g')
            os.mkdir('sub')
            os.rename('sub', 'sub2')
            up = 0
            while not os.path.samefile('.', d) and up < 100:
                os.chdir('..')
                up += 1
            return up
        return in_child(child, cwd=d)
    assert pair.same(go) == 60
    count = run('find', pair.lower, '-name', 'g').out.count('\n')
    assert count == 1


def test_names_have_255_bytes(pair):
    def go(d):
        return [errno_of(fn, d + '/' + 'x' * n) for n in (254, 255, 256) for fn in
                (write_file, os.stat, os.unlink, os.mkdir, os.rmdir, os.mkfifo, os.readlink)]
    assert 'ENAMETOOLONG' in pair.same(go)


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


# ---- rename, link, times, nodes -----------------------------------------------------------------

def test_renameat2_knows_all_its_flags(pair):
    def go(d):
        write_file(d + '/a', b'a')
        write_file(d + '/b', b'b')
        os.mkdir(d + '/d')
        write_file(d + '/d/x', b'x')
        out = [errno_of(renameat2, d + '/a', d + '/b', RENAME_NOREPLACE), errno_of(renameat2, d + '/a', d + '/c', RENAME_NOREPLACE),
               errno_of(renameat2, d + '/c', d + '/b', RENAME_EXCHANGE), read_file(d + '/b'), read_file(d + '/c'),
               errno_of(renameat2, d + '/b', d + '/d', RENAME_EXCHANGE), read_file(d + '/d'), os.listdir(d + '/b'),
               errno_of(renameat2, d + '/b', d + '/missing', RENAME_EXCHANGE), errno_of(renameat2, d + '/c', d + '/w', RENAME_WHITEOUT),
               attributes(d + '/c', 'rdev'), read_file(d + '/w'), errno_of(renameat2, d + '/w', d + '/v', 16),
               errno_of(renameat2, d + '/w', d + '/v', RENAME_NOREPLACE | RENAME_EXCHANGE),
               errno_of(renameat2, d + '/w', d + '/v', RENAME_WHITEOUT | RENAME_NOREPLACE)]
        return out + [sorted(os.listdir(d))]
    out = pair.same(go)
    assert out[0] == 'EEXIST' and out[2] == 'OK' and out[3] == b'a' and out[9] == 'OK'


def test_rename_answers_as_the_lower_filesystem_does(pair):
    def go(d):
        for n in ('empty', 'full', 'full/sub', 'other'):
            os.mkdir(d + '/' + n)
        write_file(d + '/f', b'f')
        write_file(d + '/g', b'g')
        os.link(d + '/f', d + '/hard')
        os.symlink('f', d + '/s')
        out = []
        for a, b in (('f', 'empty'), ('empty', 'f'), ('empty', 'full'), ('full', 'full/sub/x'), ('full', 'full'), ('missing', 'x'),
                     ('f', 'missing/x'), ('f', 'g/x'), ('f', 'hard'), ('s', 's2'), ('other', 'empty'), ('f', 'g'), ('full/sub', 'sub'),
                     ('.', 'x'), ('full/..', 'x'), ('g/', 'h'), ('full/', 'full2')):
            out.append((a, b, errno_of(os.rename, d + '/' + a, d + '/' + b)))
        return out, sorted(os.listdir(d)), attributes(d + '/full2')
    pair.same(go)


def test_files_keep_their_inode_and_content_over_renames_of_their_directories(pair):
    def go(d):
        os.makedirs(d + '/a/b/c')
        path = write_file(d + '/a/b/c/f', b'one')
        ino = os.stat(path).st_ino
        with opened(path, os.O_RDWR) as fd:
            os.rename(d + '/a/b', d + '/b')
            os.rename(d + '/b/c', d + '/a/c')
            os.write(fd, b'two')
            same = os.fstat(fd).st_ino == ino == os.stat(d + '/a/c/f').st_ino
        return same, read_file(d + '/a/c/f'), errno_of(os.stat, path)
    assert pair.same(go) == (True, b'two', 'ENOENT')


def test_link_counts_are_right_on_every_name_at_once(pair):
    def go(d):
        write_file(d + '/a', b'x')
        os.mkdir(d + '/d')
        out = [os.stat(d + '/a').st_nlink]
        names = [d + '/a']
        for n in range(5):
            new = d + ('/d/l%d' % n if n % 2 else '/l%d' % n)
            os.link(names[n], new)
            names.append(new)
            out.append([os.stat(x).st_nlink for x in names])
        out.append(len({os.stat(x).st_ino for x in names}))
        with opened(names[3], os.O_RDONLY) as fd:
            os.unlink(names.pop(0))
            os.rename(names[0], names[0] + 'r')
            names[0] += 'r'
            out.append([os.stat(x).st_nlink for x in names] + [os.fstat(fd).st_nlink])
            while names:
                os.unlink(names.pop())
                out.append([os.stat(x).st_nlink for x in names] + [os.fstat(fd).st_nlink])
        return out
    out = pair.same(go)
    assert out[5] == [6] * 6 and out[6] == 1 and out[-1] == [0]


def test_what_is_written_by_one_name_is_read_by_the_other_at_once(pair):
    def go(d):
        write_file(d + '/a', b'one')
        os.link(d + '/a', d + '/b')
        os.stat(d + '/b'), read_file(d + '/b')
        out = []
        for n in range(20):
            write_file(d + '/a', b'%d' % n * (n + 1), flags=os.O_TRUNC)
            out.append((read_file(d + '/b'), os.stat(d + '/b').st_size))
            os.chmod(d + '/b', 0o600 + n % 8)
            out.append(oct(os.stat(d + '/a').st_mode))
        return out
    pair.same(go)


def test_link_answers_as_the_lower_filesystem_does(pair):
    def go(d):
        write_file(d + '/f')
        os.mkdir(d + '/d')
        os.symlink('f', d + '/s')
        out = [errno_of(os.link, d + '/d', d + '/d2'), errno_of(os.link, d + '/f', d + '/d'), errno_of(os.link, d + '/missing', d + '/x'),
               errno_of(linkat, AT_FDCWD, d + '/s', d + '/ls', 0), errno_of(linkat, AT_FDCWD, d + '/s', d + '/lf', 0x400),
               attributes(d + '/ls'), attributes(d + '/lf'), errno_of(linkat, AT_FDCWD, d + '/f', d + '/f', 0)]
        with opened(d + '/f', os.O_RDONLY) as fd:
            out.append(errno_of(linkat, fd, '', d + '/by-fd', 0x1000))
        return out
    pair.same(go)


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


def test_mknod_makes_every_kind_of_file(pair):
    def go(d):
        out = []
        for kind in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            for device in (os.makedev(1, 3), os.makedev(240, 300000), 0):
                name = d + '/n%d-%d' % (kind, device)
                out.append(errno_of(os.mknod, name, kind | 0o640, device))
                out.append(attributes(name, 'rdev'))
                out.append(as_user(ALICE, errno_of, os.mknod, name + 'u', kind | 0o640, device))
        out.append(errno_of(os.mknod, d + '/dir', stat.S_IFDIR | 0o755))
        out.append(errno_of(os.mknod, d + '/n%d-%d' % (stat.S_IFREG, 0), stat.S_IFREG | 0o640))
        return out
    out = pair.same(go)
    assert 'EPERM' in out and out[0] == 'OK'


def test_devices_fifos_and_sockets_work(pair):
    def go(d):
        os.mknod(d + '/null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(d + '/zero', stat.S_IFCHR | 0o666, os.makedev(1, 5))
        with opened(d + '/null', os.O_RDWR) as null, opened(d + '/zero', os.O_RDONLY) as zero:
            out = [os.write(null, b'x' * 100), os.read(null, 10), os.read(zero, 4)]
        os.mkfifo(d + '/fifo')
        with opened(d + '/fifo', os.O_RDWR) as fd:
            os.write(fd, b'through')
            out.append(os.read(fd, 10))

        def talk():
            os.chdir(d)
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind('sock')
                server.listen()
                client.connect('sock')
                other, _ = server.accept()
                with other:
                    client.send(b'hello')
                    return other.recv(10), attributes('sock')
        return out + [in_child(talk)]
    assert pair.same(go)[3] == b'through'


def test_symbolic_links_of_any_target(pair):
    def go(d):
        out = []
        for n, target in enumerate(('x', '/', '../' * 100, 'y' * 4095, 'y' * 4096, '', 'a\nb', '\udcff')):
            out.append(errno_of(os.symlink, target, d + '/s%d' % n))
            if os.path.lexists(d + '/s%d' % n):
                out.append((os.readlink(d + '/s%d' % n) == target, attributes(d + '/s%d' % n)))
        os.symlink('loop', d + '/loop')
        out += [errno_of(os.stat, d + '/loop'), errno_of(os.readlink, d), open_errno(d + '/s0', os.O_RDONLY | os.O_NOFOLLOW)]
        return out
    pair.same(go)


def test_errors_are_those_of_the_lower_filesystem(pair):
    def go(d):
        write_file(d + '/f', b'x')
        os.mkdir(d + '/d')
        write_file(d + '/d/x')
        os.symlink('f', d + '/s')
        D = os.O_DIRECTORY
        calls = [(open_errno, '/missing', os.O_RDONLY), (open_errno, '/f/x', os.O_RDONLY), (open_errno, '/d', os.O_WRONLY),
                 (open_errno, '/f', os.O_RDONLY | D), (open_errno, '/f', os.O_CREAT | os.O_EXCL), (open_errno, '/d', os.O_CREAT),
                 (open_errno, '/s', os.O_RDONLY | os.O_NOFOLLOW), (open_errno, '/s', os.O_CREAT | os.O_EXCL), (open_errno, '/missing/x', os.O_CREAT),
                 (open_errno, '/f/', os.O_RDONLY), (open_errno, '/new/', os.O_CREAT), (open_errno, '/d', os.O_TMPFILE),
                 (open_errno, '/f', os.O_TMPFILE | os.O_RDWR), (open_errno, '/d', os.O_RDONLY | os.O_TRUNC)]
        out = [(p, fl, fn(d + p, fl)) for fn, p, fl in calls]
        for fn in (os.unlink, os.rmdir, os.mkdir, os.listdir, os.readlink, os.stat, lambda p: os.truncate(p, 0), lambda p: os.chmod(p, 0o600),
                   lambda p: os.truncate(p, -1)):
            out += [errno_of(fn, d + p) for p in ('/missing', '/f/x', '/d', '/f/', '/d/.', '/d/..', '/')]
        return out
    pair.same(go)


def test_access_follows_the_callers_rights(pair):
    def go(d):
        write_file(d + '/f', b'#!/bin/sh\necho ran\n', 0o750)
        os.chown(d + '/f', ALICE, TEAM)
        return [as_user(uid, os.access, d + '/f', how, groups=groups) for uid, groups in ((ALICE, ()), (BOB, (TEAM,)), (BOB, ()), (0, ()))
                for how in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)] + \
            [as_user(uid, lambda: run(d + '/f').out if os.access(d + '/f', os.X_OK) else '', groups=groups)
             for uid, groups in ((ALICE, ()), (BOB, (TEAM,)), (BOB, ()))]
    assert pair.same(go)[-3:] == ['ran\n', 'ran\n', '']


def test_a_running_program_is_not_written_and_a_written_one_is_not_run(pair):
    def go(d):
        run('cp', '/bin/sleep', d + '/prog')
        p = subprocess.Popen([d + '/prog', '60'])
        try:
            wait_for('exec', lambda: os.readlink('/proc/%d/exe' % p.pid).endswith('prog'))
            out = [open_errno(d + '/prog', os.O_WRONLY)]
        finally:
            p.kill()
            p.wait()
        with opened(d + '/prog', os.O_WRONLY):
            out.append(errno_of(subprocess.run, [d + '/prog', '0']))
        return out + [subprocess.run([d + '/prog', '0']).returncode]
    assert pair.same(go) == ['ETXTBSY', 'ETXTBSY', 0]


# ---- data ---------------------------------------------------------------------------------------

def test_offsets_have_64_bits(pair):
    def go(d):
        far = (5 << 30) + 3
        out = []
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            out += [os.pwrite(fd, b'far', far), os.pread(fd, 10, far), os.fstat(fd).st_size, os.pread(fd, 3, 1 << 32)]
            os.ftruncate(fd, 9 << 30)
            out += [os.fstat(fd).st_size, os.lseek(fd, far, os.SEEK_DATA) == far, os.pread(fd, 4, (9 << 30) - 2)]
            os.ftruncate(fd, far + 1)
            out += [os.pread(fd, 10, far), os.lseek(fd, -1, os.SEEK_END)]
        with opened(d + '/f', os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b'end')
        with opened(d + '/f', os.O_RDONLY) as fd:
            m = mmap.mmap(fd, 7, mmap.MAP_SHARED, mmap.PROT_READ, offset=5 << 30)
            out.append(m[:])
            m.close()
        return out + [os.stat(d + '/f').st_size, os.stat(d + '/f').st_blocks < 1000]
    out = pair.same(go)
    assert out[1] == b'far' and out[-2] == (5 << 30) + 7


def test_holes_and_data_are_found(pair):
    def go(d):
        out = []
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            for offset in (0, 1 << 20, 5 << 20):
                os.pwrite(fd, b'x' * 65536, offset)
            os.ftruncate(fd, 8 << 20)
            os.fsync(fd)
            for offset in (0, 1, 65535, 65536, 100000, 1 << 20, 3 << 20, 5 << 20, 6 << 20, (8 << 20) - 1, 8 << 20, 9 << 20, -1):
                for how in (os.SEEK_DATA, os.SEEK_HOLE):
                    try:
                        out.append((offset, how, os.lseek(fd, offset, how)))
                    except OSError as e:
                        out.append((offset, how, errno.errorcode[e.errno]))
        return out
    out = pair.same(go)
    assert (65536, os.SEEK_DATA, 1 << 20) in out and (0, os.SEEK_HOLE, 65536) in out


@pytest.mark.parametrize('mode', FALLOC)
def test_fallocate_does_in_every_mode_what_the_lower_one_does(pair, mode):
    unsupported = mode in ('collapse-range', 'insert-range', 'unshare-range')     # the kernel's FUSE refuses these itself

    def go(d):
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            os.write(fd, os.urandom(0) + bytes(range(256)) * 256)
            result = errno_of(fallocate, fd, FALLOC[mode], 8192, 16384)
            more = errno_of(fallocate, fd, FALLOC[mode], 60000, 20000)
            bad = errno_of(fallocate, fd, FALLOC[mode], 0, 0), errno_of(fallocate, fd, FALLOC[mode], -1, 10)
        with opened(d + '/f', os.O_RDONLY) as fd:
            readonly = errno_of(fallocate, fd, FALLOC[mode], 0, 4096)
        return result, more, bad, readonly, hashlib.md5(read_file(d + '/f')).hexdigest(), os.stat(d + '/f').st_size
    if unsupported:
        out = go(pair.mnt)
        assert out[0] in ('OK', 'EOPNOTSUPP')
        if out[0] == 'OK':
            assert out == go(pair.native)
        else:
            assert out[4:] == (hashlib.md5(bytes(range(256)) * 256).hexdigest(), 65536)
    else:
        assert pair.same(go)[0] == 'OK'


def test_fallocate_really_takes_the_blocks(pair):
    def go(d):
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            os.posix_fallocate(fd, 0, 1 << 20)
            os.fsync(fd)
            first = os.stat(d + '/f').st_blocks >= 2048
            fallocate(fd, FALLOC['punch-hole'], 0, 1 << 19)
            os.fsync(fd)
            return first, os.stat(d + '/f').st_blocks < 2048, os.stat(d + '/f').st_size
    assert pair.same(go) == (True, True, 1 << 20)


def test_copy_file_range_copies_and_says_how_much(pair):
    data = random.Random(1).randbytes(3 << 20)

    def go(d):
        write_file(d + '/a', data)
        out = []
        with opened(d + '/a', os.O_RDONLY) as a, opened(d + '/b', os.O_CREAT | os.O_RDWR) as b:
            done = 0
            while done < len(data):
                n = os.copy_file_range(a, b, len(data) - done)
                if n == 0:
                    break
                done += n
            out += [done, os.copy_file_range(a, b, 10), os.copy_file_range(a, b, 100, len(data) - 50, 0), os.fstat(b).st_size,
                    errno_of(os.copy_file_range, b, a, 10, 0, 0), os.lseek(a, 0, os.SEEK_CUR)]
            out.append(errno_of(os.copy_file_range, b, b, 1000, 0, 500))        # overlapping
            os.ftruncate(b, 0)
            out.append(os.copy_file_range(a, b, 10, 5, 1000))
        return out + [hashlib.md5(read_file(d + '/b')).hexdigest()]
    assert pair.same(go)[0] == len(data)


def test_copy_file_range_into_and_out_of_the_mount(pair):
    write_file(pair.native + '/a', b'from below')
    write_file(pair.mnt + '/b', b'from the mount')
    for source, target in ((pair.native + '/a', pair.mnt + '/copy'), (pair.mnt + '/b', pair.native + '/copy')):
        with opened(source, os.O_RDONLY) as a, opened(target, os.O_CREAT | os.O_WRONLY) as b:
            assert errno_of(os.copy_file_range, a, b, 100) in ('OK', 'EXDEV')
        run('cp', source, target)
        assert read_file(source) == read_file(target)


@pytest.mark.parametrize('flags', [0, os.O_DIRECT, os.O_SYNC, os.O_DSYNC, os.O_APPEND, os.O_DIRECT | os.O_SYNC])
def test_random_reads_writes_and_truncates_leave_the_bytes_they_should(pair, flags):
    """A small fsx: the same seeded operations in both and in memory."""
    def go(d):
        rng, model = random.Random(7), bytearray()
        unit = 4096 if flags & os.O_DIRECT else 1
        buffer = mmap.mmap(-1, 1 << 17)
        with opened(d + '/f', os.O_CREAT | os.O_RDWR | flags) as fd:
            for n in range(400):
                offset, length = rng.randrange(0, 200000) // unit * unit, rng.randrange(1, 60000) // unit * unit or unit
                what = rng.randrange(8)
                if what < 4:
                    data = rng.randbytes(length)
                    if flags & os.O_APPEND:
                        offset = len(model)
                    if len(model) < offset:
                        model.extend(bytes(offset - len(model)))
                    model[offset:offset + length] = data
                    buffer[:length] = data
                    assert os.pwritev(fd, [memoryview(buffer)[:length]], offset) == length
                elif what < 6:
                    got = os.preadv(fd, [memoryview(buffer)[:length]], offset)
                    assert buffer[:got] == model[offset:offset + length], n
                elif what == 6:
                    size = rng.randrange(0, 200000) // unit * unit
                    os.ftruncate(fd, size)
                    if size < len(model):
                        del model[size:]
                    else:
                        model.extend(bytes(size - len(model)))
                else:
                    assert os.fstat(fd).st_size == len(model)
        assert read_file(d + '/f') == model
        return hashlib.md5(model).hexdigest()
    pair.same(go)


def test_a_write_in_one_process_is_read_and_mapped_in_another_at_once(pair):
    def go(d):
        path = write_file(d + '/f', b'\0' * 8192)
        with opened(path, os.O_RDWR) as a, opened(path, os.O_RDWR) as b:
            m = mmap.mmap(b, 8192)
            out = []
            for n in range(50):
                os.pwrite(a, b'%05d' % n, n)
                out.append(in_child(lambda: os.pread(b, 5, n)) == b'%05d' % n)
                out.append(m[n:n + 5] == b'%05d' % n)
                m[4096:4101] = b'%05d' % (n * 7)
                out.append(in_child(lambda: read_file(path)[4096:4101]) == b'%05d' % (n * 7))
            m.close()
        return all(out)
    assert pair.same(go) is True


def test_two_processes_append_and_no_line_is_lost_or_torn(pair):
    lines = 2000

    def go(d):
        def appender(letter):
            with opened(d + '/log', os.O_CREAT | os.O_WRONLY | os.O_APPEND) as fd:
                for n in range(lines):
                    os.write(fd, b'%s%06d%s\n' % (letter, n, letter * 50))
        children = []
        for letter in (b'a', b'b'):
            pid = os.fork()
            if pid == 0:
                try:
                    appender(letter)
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitpid(c, 0)[1] for c in children] == [0, 0]
        got = read_file(d + '/log').split(b'\n')
        return sorted(set(len(l) for l in got)), [[l for l in got if l.startswith(c)] == [
            b'%s%06d%s' % (c, n, c * 50) for n in range(lines)] for c in (b'a', b'b')]
    assert pair.same(go) == ([0, 57], [True, True])


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


def test_a_file_deleted_while_open_lives_on_without_a_name(pair):
    def go(d):
        out = []
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            os.write(fd, b'still here')
            os.unlink(d + '/f')
            out += [os.listdir(d), os.fstat(fd).st_nlink, os.pread(fd, 20, 0), os.pwrite(fd, b'STILL', 0), os.pread(fd, 20, 0)]
            os.ftruncate(fd, 5)
            os.fchmod(fd, 0o600)
            os.fchown(fd, BOB, BOB)
            os.setxattr(fd, 'user.x', b'y')
            os.utime(fd, (1, 1))
            out += [os.fstat(fd).st_size, oct(os.fstat(fd).st_mode), os.fstat(fd).st_uid, os.getxattr(fd, 'user.x'), os.fstat(fd).st_mtime]
            out.append(open_errno('/proc/self/fd/%d' % fd, os.O_RDONLY))
        return out
    out = pair.same(go)
    assert out[0] == [] and out[1] == 0 and out[4] == b'STILL here'
    assert os.listdir(pair.lower) == []         # no .fuse_hidden


def test_a_file_replaced_while_open_keeps_its_old_content_for_who_has_it_open(pair):
    def go(d):
        write_file(d + '/f', b'old')
        with opened(d + '/f', os.O_RDWR) as fd:
            write_file(d + '/new', b'new')
            os.rename(d + '/new', d + '/f')
            return os.pread(fd, 10, 0), os.pwrite(fd, b'OLD', 0), read_file(d + '/f'), os.fstat(fd).st_nlink, os.listdir(d)
    assert pair.same(go) == (b'old', 3, b'new', 0, ['f'])


def test_a_directory_deleted_while_open_is_empty(pair):
    def go(d):
        os.mkdir(d + '/d')
        with opened(d + '/d', os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.rmdir(d + '/d')
            return os.listdir(fd), os.fstat(fd).st_nlink, errno_of(os.stat, d + '/d'), \
                errno_of(os.mkdir, '/proc/self/fd/%d/x' % fd)
    pair.same(go)


def test_descriptors_of_the_O_PATH_kind_work(pair):
    def go(d):
        write_file(d + '/f', b'content')
        os.mkdir(d + '/d')
        write_file(d + '/d/x', b'x')
        with opened(d + '/f', os.O_PATH) as f, opened(d + '/d', os.O_PATH | os.O_DIRECTORY) as dd:
            out = [os.fstat(f).st_size, read_file('/proc/self/fd/%d' % f), errno_of(os.read, f, 1), os.stat('x', dir_fd=dd).st_size,
                   errno_of(os.chmod, '/proc/self/fd/%d' % f, 0o600), oct(os.stat(d + '/f').st_mode)]
            os.rename(d + '/d', d + '/e')
            out.append(os.stat('x', dir_fd=dd).st_size)
        return out
    pair.same(go)


# ---- directories --------------------------------------------------------------------------------

@pytest.mark.timeout(600)
def test_a_directory_of_a_hundred_thousand_names_is_read_whole_and_seekable(plain_share):
    n = scaled(FILES)
    os.mkdir(plain_share.at('big'))
    run(tool('mkfiles'), plain_share.below('big'), n, 0)
    out = json.loads(run(tool('dirwalk'), plain_share.at('big'), timeout=300).out)
    assert (out['names'], out['duplicates'], out['seek_errors'], out['after_rewind']) == (n + 2, 0, 0, n + 2)
    assert out['seeks'] > n / 100


@pytest.mark.parametrize('base', ['xfs', 'btrfs', 'tmpfs'])
def test_directories_are_seekable_on_other_filesystems_too(mount, base):
    share = mount('commit=never', base=base)
    run(tool('mkfiles'), share.below(), 3000, 0)
    out = json.loads(run(tool('dirwalk'), share.mnt).out)
    assert (out['names'], out['duplicates'], out['seek_errors'], out['after_rewind']) == (3002, 0, 0, 3002)


def test_reading_a_directory_while_it_changes_shows_what_stays_exactly_once(pair):
    def go(d):
        stay = {'stay%d' % n for n in range(2000)}
        for name in stay:
            write_file(d + '/' + name, b'')
        for n in range(500):
            write_file(d + '/go%d' % n, b'')
        seen = []
        with os.scandir(d) as entries:
            for k, e in enumerate(entries):
                seen.append(e.name)
                if k % 5 == 0 and k // 5 < 500:
                    os.unlink(d + '/go%d' % (k // 5))
                    write_file(d + '/new%d' % k, b'')
        kept = [s for s in seen if s.startswith('stay')]
        return len(kept) == len(set(kept)), set(kept) == stay
    assert pair.same(go) == (True, True)


def test_rm_r_deletes_a_tree_while_it_reads_it(pair):
    run(tool('mkfiles'), pair.mnt, 5000, 0, 500)
    run('rm', '-rf', *[pair.mnt + '/d%d' % n for n in range(10)])
    assert os.listdir(pair.lower) == []


def test_dot_and_dotdot_have_the_right_inodes(pair):
    def go(d):
        os.makedirs(d + '/a/b')
        out = run('ls', '-ai', d + '/a/b').out.split()
        return int(out[0]) == os.stat(d + '/a/b').st_ino, int(out[2]) == os.stat(d + '/a').st_ino, os.path.samefile(d + '/a/b/..', d + '/a')
    assert pair.same(go)[2] is True


# ---- filesystem and mount -----------------------------------------------------------------------

def test_statfs_is_that_of_the_lower_filesystem(plain_share):
    os.sync()
    ours, lower = os.statvfs(plain_share.mnt), os.statvfs(plain_share.lower)
    for field in ('f_bsize', 'f_frsize', 'f_blocks', 'f_files', 'f_namemax'):
        assert (field, getattr(ours, field)) == (field, getattr(lower, field))
    for field in ('f_bfree', 'f_bavail', 'f_ffree', 'f_favail'):
        assert abs(getattr(ours, field) - getattr(lower, field)) < 2000


def drop_caches():
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('3')


def handle_of(path):
    """name_to_handle_at: the struct, as bytes."""
    buffer = ctypes.create_string_buffer(struct.pack('Ii', 128, 0), 136)
    mount_id = ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount_id), 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw


def open_handle(mount, handle, flags):
    with opened(mount, os.O_RDONLY | os.O_DIRECTORY) as m:
        fd = libc.open_by_handle_at(m, handle, flags)
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return fd


def test_handles_open_their_file_also_when_caches_were_dropped(mount):
    share = mount('commit=never')
    handles = {}
    for n in range(20):
        os.makedirs(share.at('d%d' % n, 'e'))
        path = write_file(share.at('d%d' % n, 'e', 'f'), b'content %d' % n)
        handles[path] = handle_of(path)
        handles[os.path.dirname(path)] = handle_of(os.path.dirname(path))
    for dropped in (False, True, True):
        if dropped:
            before = share.info()['inodes']
            drop_caches()
            wait_for('inodes to be forgotten', lambda: share.info()['inodes'] < before or before < 10)
        for path, handle in handles.items():
            fd = open_handle(share.mnt, handle, os.O_RDONLY)
            try:
                if path.endswith('/f'):
                    assert os.read(fd, 100) == read_file(path)
                assert os.fstat(fd).st_ino == os.stat(path).st_ino
            finally:
                os.close(fd)
    gone = share.at('d0', 'e', 'f')
    os.unlink(gone)
    drop_caches()
    assert errno_of(open_handle, share.mnt, handles[gone], os.O_RDONLY) == 'ESTALE'


def test_a_handle_of_a_locked_file_opens_it_for_reading_only(mount):
    share = mount()
    path = share.lock('a')
    handle = handle_of(path)
    drop_caches()
    os.close(open_handle(share.mnt, handle, os.O_RDONLY))
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        assert errno_of(lambda: os.close(open_handle(share.mnt, handle, flags))) == 'EPERM'
    assert read_file(share.below('a')) == b'report\n'


def test_names_and_descriptors_survive_dropped_caches(pair):
    with opened(pair.mnt + '/f', os.O_CREAT | os.O_RDWR) as fd, opened(pair.mnt, os.O_RDONLY | os.O_DIRECTORY) as d:
        os.write(fd, b'one')
        for n in range(3):
            drop_caches()
            assert os.pread(fd, 10, 0) == b'one'
            assert os.fstat(fd).st_size == 3
            assert os.stat('f', dir_fd=d).st_ino == os.fstat(fd).st_ino
            assert read_file(pair.mnt + '/f') == b'one'


def flags_of(point):
    return [m for m in mounts() if m[0] == point][-1][2:]


def test_remounting_read_only_and_back_takes_effect_at_once(mount):
    share = mount('commit=never')
    write_file(share.at('f'), b'x')
    mount_call(None, share.mnt, None, MS_REMOUNT | MS_RDONLY)
    assert open_errno(share.at('f'), os.O_WRONLY) == 'EROFS'
    assert errno_of(os.mkdir, share.at('d')) == 'EROFS'
    assert read_file(share.at('f')) == b'x'
    mount_call(None, share.mnt, None, MS_REMOUNT)
    write_file(share.at('f'), b'y', flags=os.O_APPEND)
    assert read_file(share.below('f')) == b'xy'


def test_remount_by_the_program_itself_changes_ro_and_rw(mount):
    share = mount('commit=never')
    write_file(share.at('f'), b'x')
    run(WORMFS, share.share, share.mnt, '-o', 'remount,ro', env=daemon_environment())
    assert open_errno(share.at('f'), os.O_WRONLY) == 'EROFS'
    run(WORMFS, share.share, share.mnt, '-o', 'remount,rw', env=daemon_environment())
    assert open_errno(share.at('f'), os.O_WRONLY) == 'OK'
    assert share.alive()


def test_nodev_nosuid_and_noexec_are_honoured(mount):
    share = mount(start=False)
    os.mknod(share.below('null'), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(share.below('null'), 0o666)
    run('cp', '/usr/bin/id', share.below('id'))
    os.chmod(share.below('id'), 0o4755)
    share.start('commit=never,nodev,nosuid')
    assert open_errno(share.at('null'), os.O_RDWR) == 'EACCES'
    assert as_user(ALICE, lambda: run(share.at('id'), '-u').out) == '%d\n' % ALICE
    options = flags_of(share.mnt)[0]
    assert 'nodev' in options and 'nosuid' in options
    share.remount('commit=never,noexec')
    assert errno_of(subprocess.run, [share.at('id')]) == 'EACCES'
    share.remount('commit=never,dev,suid,exec')
    assert open_errno(share.at('null'), os.O_RDWR) == 'OK'
    assert as_user(ALICE, lambda: run(share.at('id'), '-u').out) == '0\n'


def test_devices_and_setuid_are_those_of_the_shares_own_mount(mount):
    point = mount.bases.make('tmpfs', 'nodev', options=('nodev', 'nosuid'))
    share = mount('commit=never', base=point)
    options = flags_of(share.mnt)[0]
    assert 'nodev' in options and 'nosuid' in options


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


@pytest.mark.parametrize('base', ['ext4', 'xfs'])
def test_fsync_of_a_directory_puts_its_names_on_the_disk(mount, base):
    """Power loss by the shutdown ioctl: a rename that fsync of the directory has acknowledged is there."""
    name = 'fsyncdir-' + base
    point = mount.bases.make(base, name, size='400M', options=('commit=600',) if base == 'ext4' else ())
    share = mount('commit=never', base=point, state=os.path.join(mount.bases.root, 'state-' + name))
    os.mkdir(share.at('d'))
    run('sync', '-f', point)
    with opened(share.at('d'), os.O_RDONLY | os.O_DIRECTORY) as d:
        for n in range(10):
            with opened(share.at('d', 't%d' % n), os.O_CREAT | os.O_WRONLY) as fd:
                os.write(fd, b'content %d' % n)
                os.fsync(fd)
            os.rename(share.at('d', 't%d' % n), share.at('d', 'f%d' % n))
        os.fsync(d)
    mount.bases.cut_power(share, name)
    share.start()
    assert sorted(os.listdir(share.at('d'))) == ['f%d' % n for n in range(10)]
    assert [read_file(share.at('d', 'f%d' % n)) for n in range(10)] == [b'content %d' % n for n in range(10)]


def test_without_fsync_the_same_power_loss_does_lose_names(mount):
    """So that the test above means something."""
    name = 'nofsync'
    point = mount.bases.make('ext4', name, size='400M', options=('commit=600',))
    share = mount('commit=never', base=point, state=os.path.join(mount.bases.root, 'state-' + name))
    os.mkdir(share.at('d'))
    run('sync', '-f', point)
    for n in range(10):
        write_file(share.at('d', 'f%d' % n))
    mount.bases.cut_power(share, name)
    assert os.listdir(share.below('d')) == []


@pytest.mark.parametrize('how', ['fsync', 'fdatasync', 'O_SYNC', 'O_DSYNC', 'msync'])
def test_what_was_synced_survives_the_power(mount, how):
    name = 'sync-' + how
    point = mount.bases.make('ext4', name, size='200M', options=('commit=600',))
    share = mount('commit=never', base=point, state=os.path.join(mount.bases.root, 'state-' + name))
    write_file(share.at('f'), b'\0' * 8192)
    run('sync', '-f', point)
    flags = {'O_SYNC': os.O_SYNC, 'O_DSYNC': os.O_DSYNC}.get(how, 0)
    with opened(share.at('f'), os.O_RDWR | flags) as fd:
        if how == 'msync':
            m = mmap.mmap(fd, 8192)
            m[:8] = b'content!'
            m.flush()
            m.close()
        else:
            os.pwrite(fd, b'content!', 0)
            if how == 'fsync':
                os.fsync(fd)
            elif how == 'fdatasync':
                os.fdatasync(fd)
    mount.bases.cut_power(share, name)
    assert read_file(share.below('f'))[:8] == b'content!'


def test_a_users_disk_quota_holds_through_the_mount(mount):
    need_program('setquota')
    try:
        point = mount.bases.make('ext4', 'quota', size='200M', options=('usrquota',), mkfs=('-O', 'quota'))
    except pytest.skip.Exception:
        pytest.skip('needs quota formats in the kernel (suites/uml.sh quota has them)')
    p = run('setquota', '-u', str(ALICE), '0', '200', '0', '0', point, check=False)
    if p.returncode != 0:
        pytest.skip('needs quota formats in the kernel (suites/uml.sh quota has them): ' + p.err.strip())
    share = mount('commit=never', base=point, lower_mode=0o777)
    assert as_user(ALICE, errno_of, write_file, share.at('f'), b'x' * 400000) == 'EDQUOT'
    assert os.stat(share.below('f')).st_size <= 204800


# ---- changes below ------------------------------------------------------------------------------

def test_with_shared_yes_changes_below_are_seen_soon(mount):
    share = mount('commit=never,shared=yes')
    write_file(share.at('f'), b'one')
    assert read_file(share.at('f')) == b'one'
    os.listdir(share.mnt)
    write_file(share.below('f'), b'two, longer', flags=os.O_TRUNC)
    wait_for('new content', lambda: read_file(share.at('f')) == b'two, longer', 5)
    wait_for('new size', lambda: os.stat(share.at('f')).st_size == 11, 5)
    os.chmod(share.below('f'), 0o600)
    wait_for('new mode', lambda: stat.S_IMODE(os.stat(share.at('f')).st_mode) == 0o600, 5)
    write_file(share.below('new'), b'x')
    wait_for('a new name', lambda: os.path.exists(share.at('new')) and 'new' in os.listdir(share.mnt), 5)
    os.rename(share.below('f'), share.below('g'))
    wait_for('a renamed name', lambda: not os.path.exists(share.at('f')) and read_file(share.at('g')) == b'two, longer', 5)
    os.unlink(share.below('g'))
    wait_for('a deleted name', lambda: not os.path.exists(share.at('g')), 5)
    write_file(share.below('g'), b'another file')
    wait_for('its successor', lambda: os.path.exists(share.at('g')) and read_file(share.at('g')) == b'another file', 5)


# ---- locks --------------------------------------------------------------------------------------

LOCKS = {
    'flock': (lambda fd: fcntl.flock(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
              lambda fd: fcntl.flock(fd, fcntl.LOCK_UN)),
    'fcntl': (lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
              lambda fd: fcntl.lockf(fd, fcntl.LOCK_UN)),
}


class Waiter:
    """A child that opens the file, says so, waits for the lock, says so, and keeps it until it is told to go."""
    def __init__(self, path, take):
        self.out, out = os.pipe()
        stop, self.stop = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.out)
                os.close(self.stop)
                interrupted = []
                signal.signal(signal.SIGUSR1, lambda *a: interrupted.append(1) or (_ for _ in ()).throw(InterruptedError()))
                fd = os.open(path, os.O_RDWR)
                os.write(out, b'o')
                try:
                    take(fd)
                    os.write(out, b'l')
                except InterruptedError:
                    os.write(out, b'i')
                os.read(stop, 1)
            finally:
                os._exit(0)
        os.close(out)
        os.close(stop)
        assert self.says() == 'o'

    def says(self, deadline_s=DEADLINE_S):
        ready, _, _ = select.select([self.out], [], [], deadline_s)
        return os.read(self.out, 1).decode() if ready else 'nothing'

    def end(self, signum=signal.SIGKILL):
        if self.pid:
            os.kill(self.pid, signum)
            wait_for('the waiter to die', lambda: os.waitpid(self.pid, os.WNOHANG)[0])
            self.pid = 0
            os.close(self.out)
            os.close(self.stop)


@pytest.mark.parametrize('kind', LOCKS)
def test_a_lock_excludes_other_processes_and_is_handed_on(pair, kind):
    take, try_take, release = LOCKS[kind]
    path = write_file(pair.mnt + '/f')
    with opened(path, os.O_RDWR) as fd:
        take(fd)
        assert in_child(lambda: errno_of(lambda: try_take(os.open(path, os.O_RDWR)))) == 'EAGAIN'
        waiter = Waiter(path, take)
        try:
            assert waiter.says(0.2) == 'nothing'
            release(fd)
            assert waiter.says() == 'l'
            assert errno_of(try_take, fd) == 'EAGAIN'
            waiter.end()                # a lock goes with its process
            assert errno_of(try_take, fd) == 'OK'
        finally:
            waiter.end()


@pytest.mark.parametrize('kind', LOCKS)
def test_many_blocked_lockers_do_not_hang_the_mount_and_can_be_interrupted(pair, kind):
    take, try_take, release = LOCKS[kind]
    path = write_file(pair.mnt + '/f')
    waiters = []
    with opened(path, os.O_RDWR) as fd:
        take(fd)
        try:
            for _ in range(80):         # more than the daemon has threads
                waiters.append(Waiter(path, take))
            start = time.monotonic()
            for n in range(20):
                write_file(pair.mnt + '/other%d' % n, b'x')
                os.stat(pair.mnt + '/other%d' % n)
            os.listdir(pair.mnt)
            assert time.monotonic() - start < 5
            for w in waiters[:5]:
                os.kill(w.pid, signal.SIGUSR1)
            assert [w.says() for w in waiters[:5]] == ['i'] * 5
            for w in waiters[5:40]:
                w.end(signal.SIGKILL)
            for w in waiters[40:79]:
                w.end(signal.SIGTERM)
            release(fd)
            assert waiters[79].says() == 'l'
        finally:
            for w in waiters:
                w.end()


def test_ranges_of_fcntl_locks_and_deadlocks_are_as_below(pair):
    def lock(fd, kind, start, length, command=fcntl.F_SETLK):
        return errno_of(fcntl.fcntl, fd, command, struct.pack('hhqqi4x', kind, 0, start, length, 0))

    def go(d):
        path = write_file(d + '/f', b'x' * 100)
        with opened(path, os.O_RDWR) as fd:
            out = [lock(fd, fcntl.F_WRLCK, 0, 10), lock(fd, fcntl.F_RDLCK, 50, 10)]

            def other():
                with opened(path, os.O_RDWR) as fd2:
                    got = struct.unpack('hhqqi4x', fcntl.fcntl(fd2, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)))
                    return [lock(fd2, fcntl.F_WRLCK, 5, 10), lock(fd2, fcntl.F_WRLCK, 10, 10), lock(fd2, fcntl.F_RDLCK, 50, 10),
                            lock(fd2, fcntl.F_WRLCK, 50, 10), lock(fd2, fcntl.F_WRLCK, 60, 0), got[0], got[2:4], got[4] == os.getppid()]
            out.append(in_child(other))
            out.append(lock(fd, fcntl.F_UNLCK, 0, 0))
            out.append(in_child(other))
            out.append(lock(fd, fcntl.F_WRLCK, 0, 10, 37))          # F_OFD_SETLK
            with opened(path, os.O_RDWR) as fd2:
                out.append(lock(fd2, fcntl.F_WRLCK, 0, 10, 37))
        return out
    assert pair.same(go)[-1] == 'EAGAIN'


def test_locks_go_when_their_descriptor_is_closed(pair):
    def go(d):
        path = write_file(d + '/f')
        out = []
        for kind, (take, try_take, release) in LOCKS.items():
            fd = os.open(path, os.O_RDWR)
            take(fd)
            out.append(in_child(lambda: errno_of(lambda: try_take(os.open(path, os.O_RDWR)))))
            os.close(fd)
            out.append(in_child(lambda: errno_of(lambda: try_take(os.open(path, os.O_RDWR)))))
        return out
    assert pair.same(go) == ['EAGAIN', 'OK', 'EAGAIN', 'OK']


# ---- many at once -------------------------------------------------------------------------------

def test_eight_processes_making_renaming_and_deleting_at_once_leave_what_they_should(pair):
    children = []
    for c in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                d = '%s/c%d' % (pair.mnt, c)
                os.mkdir(d)
                for n in range(150):
                    write_file('%s/t%d' % (d, n), b'%d-%d' % (c, n))
                    os.rename('%s/t%d' % (d, n), '%s/shared-%d-%d' % (pair.mnt, c, n))
                    os.link('%s/shared-%d-%d' % (pair.mnt, c, n), '%s/l%d' % (d, n))
                    assert read_file('%s/l%d' % (d, n)) == b'%d-%d' % (c, n)
                    if n % 2:
                        os.unlink('%s/shared-%d-%d' % (pair.mnt, c, n))
                    os.rename('%s/l%d' % (d, n), '%s/common' % pair.mnt)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(c, 0)[1] for c in children] == [0] * 8
    names = os.listdir(pair.lower)
    assert sorted(n for n in names if n.startswith('shared')) == sorted('shared-%d-%d' % (c, n) for c in range(8) for n in range(0, 150, 2))
    assert sorted(os.listdir(pair.mnt)) == sorted(names)


def test_O_APPEND_can_be_taken_away_and_given_back(pair):
    def go(d):
        path = write_file(d + '/a', b'0123456789')
        with opened(path, os.O_RDWR | os.O_APPEND) as fd:
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.pwrite(fd, b'X', 0)
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
            os.pwrite(fd, b'Y', 0)
            with mmap.mmap(fd, 0) as m:
                m[1:2] = b'Z'
                m.flush()
            return read_file(path)
    assert pair.same(go) == b'XZ23456789Y'
