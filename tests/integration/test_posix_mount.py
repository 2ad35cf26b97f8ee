"""POSIX without exception: what a mount is asked for, handles, dropped caches, changes below. posix_harness.py says how it is compared."""
import ctypes
import os
import stat
import struct
import subprocess

from harness import (ALICE, AT_FDCWD, MS_RDONLY, MS_REMOUNT, WORMFS, as_user, daemon_environment, errno_of, libc, mount_call, open_errno,
                     opened, read_file, run, wait_for, write_file)
from posix_harness import flags_of


# ---- filesystem and mount -----------------------------------------------------------------------

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
