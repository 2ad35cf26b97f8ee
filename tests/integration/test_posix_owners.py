"""POSIX without exception: the ids of the caller, modes, ACLs, setuid and setgid. posix_harness.py says how it is compared."""
import mmap
import os
import stat
import struct

import pytest

from harness import (ALICE, BOB, FALLOC, TEAM, as_user, errno_of, fallocate, link_descriptor, need_program, open_errno, opened, run,
                     write_file)
from posix_harness import attributes, make_all_kinds


# ---- the caller's ids ---------------------------------------------------------------------------

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
            return oct(os.stat(d + '/sg/f%d' % len(groups)).st_mode)
        return as_user(ALICE, go, groups=groups, umask=0)
    assert pair.same(make, ()) == oct(stat.S_IFREG | 0o777)
    assert pair.same(make, (TEAM,)) == oct(stat.S_IFREG | 0o2777)


def test_nameless_files_lose_the_setgid_bit_likewise(pair):
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/sg')
        os.chown(d + '/sg', 0, TEAM)
        os.chmod(d + '/sg', 0o2777)

    def make(d, groups):
        def go():
            with opened(d + '/sg', os.O_TMPFILE | os.O_RDWR, 0o2777) as fd:
                return oct(os.fstat(fd).st_mode)
        return as_user(ALICE, go, groups=groups, umask=0)
    pair.same(make, ())
    pair.same(make, (TEAM,))


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


def make_directories_with_a_default_ACL(pair):
    need_program('setfacl')
    for d in (pair.mnt, pair.native):
        os.mkdir(d + '/d')
        run('setfacl', '-d', '-m', 'u::rwx,g::r-x,o::---,u:%d:rw-,m::rwx' % BOB, d + '/d')
        os.chmod(d + '/d', 0o777)


@pytest.mark.parametrize('umask', [0, 0o022, 0o077])
def test_default_ACLs_are_inherited_and_overrule_the_umask(pair, umask):
    make_directories_with_a_default_ACL(pair)

    def go(d):
        def make():
            write_file(d + '/d/f', b'x', 0o666)
            os.mkdir(d + '/d/sub', 0o777)
            os.mknod(d + '/d/fifo', stat.S_IFIFO | 0o660)
        as_user(ALICE, make, umask=umask)
        return {n: (acl_text(d + '/d/' + n), attributes(d + '/d/' + n)) for n in ('f', 'sub', 'fifo')}
    out = pair.same(go)
    assert out['f'][1]['mode'] == oct(stat.S_IFREG | 0o660) and 'default:user:%d:rw-' % BOB in out['sub'][0]


@pytest.mark.parametrize('umask', [0, 0o022, 0o077])
def test_nameless_files_inherit_default_ACLs_likewise(pair, umask):
    make_directories_with_a_default_ACL(pair)

    def go(d):
        def make():
            with opened(d + '/d', os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
                link_descriptor(fd, d + '/d/tmp')
        as_user(ALICE, make, umask=umask)
        return acl_text(d + '/d/tmp'), attributes(d + '/d/tmp')
    assert pair.same(go)[1]['mode'] == oct(stat.S_IFREG | 0o660)


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


def test_access_follows_the_callers_rights(pair):
    def go(d):
        write_file(d + '/f', b'#!/bin/sh\necho ran\n', 0o750)
        os.chown(d + '/f', ALICE, TEAM)
        return [as_user(uid, os.access, d + '/f', how, groups=groups) for uid, groups in ((ALICE, ()), (BOB, (TEAM,)), (BOB, ()), (0, ()))
                for how in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)] + \
            [as_user(uid, lambda: run(d + '/f').out if os.access(d + '/f', os.X_OK) else '', groups=groups)
             for uid, groups in ((ALICE, ()), (BOB, (TEAM,)), (BOB, ()))]
    assert pair.same(go)[-3:] == ['ran\n', 'ran\n', '']
