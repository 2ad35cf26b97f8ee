"""Ways round the lock by what names and descriptors can be made into: /proc, bind mounts, user namespaces, sockets, flags of a write."""
import array
import ctypes
import ctypes.util
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from harness import ALICE, errno_of, mount_call, need_program, open_errno, opened, read_file, umount_call, wait_for, write_file
from lock_harness import locked, untouched		# noqa: F401
from test_append import APPEND, make

MS_BIND = 4096
RWF_APPEND, RWF_NOAPPEND = 0x10, 0x20
libc = ctypes.CDLL(ctypes.util.find_library('c'), use_errno=True)


def pwritev2(fd, data, offset, flags):
    """Whether the kernel took it; where it put it is what the tests look at."""
    class Iovec(ctypes.Structure):
        _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
    return libc.pwritev2(fd, ctypes.byref(Iovec(data, len(data))), 1, ctypes.c_long(offset), flags)


def test_a_reading_descriptor_is_not_opened_again_for_writing_through_proc(locked):
    share, path, below = locked
    with untouched(below):
        for flags in (os.O_RDONLY, os.O_PATH):
            with opened(path, flags) as fd:
                for again in (os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_TRUNC):
                    assert (again, errno_of(os.open, '/proc/self/fd/%d' % fd, again)) == (again, 'EPERM')
                assert errno_of(os.truncate, '/proc/self/fd/%d' % fd, 0) == 'EPERM'
                assert errno_of(os.chmod, '/proc/self/fd/%d' % fd, 0o777) == 'EPERM'


def test_the_debugger_door_does_not_store_into_a_mapping_of_a_locked_file(locked):
    share, path, below = locked
    with untouched(below), opened(path, os.O_RDONLY) as fd:
        shared = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        # Its address: of the only mapping of this file.
        with open('/proc/self/maps') as maps:
            at = [int(line.split('-')[0], 16) for line in maps if line.rstrip().endswith(path)]
        assert at, 'the mapping is not in /proc/self/maps'
        with opened('/proc/self/mem', os.O_RDWR) as mem:
            assert errno_of(os.pwrite, mem, b'XXXX', at[0]) == 'EIO'
        assert libc.mprotect(ctypes.c_void_p(at[0]), 4096, mmap.PROT_READ | mmap.PROT_WRITE) == -1
        shared.close()


def test_a_second_mount_of_the_mount_point_refuses_as_well(locked, tmp_path):
    share, path, below = locked
    point = str(tmp_path)
    mount_call(share.mnt, point, '', MS_BIND)
    try:
        other = os.path.join(point, os.path.relpath(path, share.mnt))
        with untouched(below):
            assert errno_of(os.open, other, os.O_RDWR) == 'EPERM'
            assert errno_of(os.unlink, other) == 'EPERM'
            assert errno_of(os.rename, other, other + 'x') == 'EPERM'
            assert errno_of(os.rename, other, path) != 'OK' and os.path.exists(path)
    finally:
        umount_call(point)


def test_root_of_a_user_namespace_is_no_more_than_its_user(locked):
    share, path, below = locked
    need_program('unshare')
    script = 'echo x > "$1"; rm -f "$1"; mv -f "$1" "$1.x"; chmod 777 "$1"; truncate -s 0 "$1"; ln "$1" "$1.y"; true'
    if subprocess.run(['unshare', '-Ur', 'true'], capture_output=True).returncode != 0:
        pytest.skip('this machine makes no user namespaces')
    with untouched(below):
        for user in ([], ['setpriv', '--reuid=%d' % ALICE, '--regid=%d' % ALICE, '--clear-groups']):
            out = subprocess.run([*user, 'unshare', '-Ur', 'sh', '-c', script, 'sh', path], capture_output=True, text=True, timeout=20)
            assert out.returncode == 0 and len(out.stderr.splitlines()) == 6, out.stderr	# each of the six was refused
    assert os.listdir(share.mnt) == [os.path.basename(path)]


def test_a_descriptor_that_travelled_over_a_socket_is_asked_after_its_writer_was_killed(wormfs):
    """The last writer is a message in a queue: the file is not open for writing by any process, and it is locked when that goes."""
    path = wormfs.at('a')
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        os.write(fd, b'report')
        theirs.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    theirs.close()
    assert errno_of(os.unlink, path) == 'EPERM'	# its first close was the kill
    _, control, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    fd = array.array('i', control[0][2])[0]
    os.write(fd, b' goes on')
    assert errno_of(os.open, path, os.O_WRONLY) == 'EPERM'
    os.close(fd)
    ours.close()
    wormfs.wait_state(path, 'retained')
    assert read_file(path) == b'report goes on'
    assert errno_of(os.truncate, path, 0) == 'EPERM'


GIVEN_AWAY = '''
import array, mmap, os, socket, sys
s = socket.socket(fileno=0)
_, anc, _, _ = s.recvmsg(1, socket.CMSG_LEN(4))
fd = array.array('i', anc[0][2])[0]
s.send(b'.')
s.recv(1)		# its first owner has closed it, and is gone
try:
    os.pwrite(fd, b'LATE', 0)
    wrote = b'y'
except PermissionError:
    wrote = b'n'
s.send(wrote)
s.recv(1)
os.close(fd)
s.send(b'.')
s.recv(1)
'''


@pytest.mark.parametrize('options', ['', 'settle=60'])
def test_a_descriptor_given_away_keeps_the_file_from_being_shown_as_retained_while_it_can_write(mount, options):
    """closing(2) of the first owner locks; who was given a duplicate may finish, and until then nobody is told that it stands."""
    share = mount('retention=30d' + (options and ',' + options))
    ours, theirs = socket.socketpair()
    with subprocess.Popen([sys.executable, '-c', GIVEN_AWAY], stdin=theirs):
        theirs.close()
        fd = os.open(share.at('a'), os.O_CREAT | os.O_RDWR, 0o644)
        os.write(fd, b'data of the first owner')
        ours.sendmsg([b'.'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
        ours.recv(1)
        os.close(fd)
        assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM', 'locked for everybody else'
        assert share.shows('a') == 'closing'
        ours.send(b'.')
        wrote = ours.recv(1)
        assert share.shows('a') == 'closing'
        ours.send(b'.')
        ours.recv(1)
        wait_for('the lock to stand', lambda: share.shows('a') in ('retained', 'settling'))
        data = read_file(share.at('a'))
        assert data[:4] == (b'LATE' if wrote == b'y' else b'data')
        share.must('sync')
        row = share.ctl('list', '--json', share.mnt).out
        assert '"size":%d' % len(data) in row
        ours.send(b'.')
    ours.close()
    assert read_file(share.at('a')) == data and open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'


@pytest.mark.parametrize('flags', [RWF_NOAPPEND, RWF_APPEND, 0])
def test_no_flag_of_a_write_puts_it_before_the_end_of_an_append_only_file(wormfs, flags):
    path = make(wormfs, data=b'kept ')
    with opened(path, APPEND) as fd:
        for _ in range(3):
            pwritev2(fd, b'XX', 0, flags)
    data = read_file(path)
    assert data.startswith(b'kept ') and data[5:] in (b'', b'XX' * 3)
    assert read_file(wormfs.below('log')) == data


def test_writes_of_many_threads_around_the_close_stay_out_of_a_file_once_it_is_retained(wormfs):
    path = write_file(wormfs.at('b'), b'')
    fd = os.open(path, os.O_RDWR)
    spare = os.dup(fd)
    stop = threading.Event()

    def scribble():
        while not stop.is_set():
            try:
                os.pwrite(spare, b'y' * 512, 0)
            except OSError:
                return
    threads = [threading.Thread(target=scribble) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        os.write(fd, b'x' * 512)
        os.close(fd)
        assert errno_of(os.unlink, path) == 'EPERM'
    finally:
        stop.set()
        for t in threads:
            t.join()
        os.close(spare)
    wormfs.wait_state(path, 'retained')
    with untouched(wormfs.below('b')):
        assert errno_of(os.open, path, os.O_WRONLY) == 'EPERM'
