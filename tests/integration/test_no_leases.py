"""Where leases do not work, as on NFS, nobody can tell whether a mapping that the kernel serves alone still writes: so writers get no
passthrough, and what is shown as locked does not change there either. The filesystem below is one that has both; the
daemon alone is told no, with the errno that such a filesystem gives."""
import contextlib
import ctypes
import json
import os
import platform
import select
import signal
import struct
import sys

import pytest

from harness import WORMCTL, errno_of, libc, look, open_errno, opened, read_file, run, wait_for
from test_mapping import PAGE, mapper, never_locked_while, padded		# noqa: F401
from test_transports import need

DATA = b'report\n' * 1000

FCNTL = {'x86_64': 72, 'aarch64': 25, 'riscv64': 25, 'ppc64le': 55, 's390x': 55}
F_SETLEASE = 1024
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, EINVAL = 0x7fff0000, 0x00050000, 22
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06


class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_char_p)]


def forbid_leases():
    """From here on fcntl(F_SETLEASE) of this process and of those that come from it is EINVAL."""
    low = 0 if sys.byteorder == 'little' else 4		# where the lower half of the second argument is
    rules = b''.join(struct.pack('=HBBI', *rule) for rule in (
        (LOAD, 0, 0, 0), (EQUAL, 0, 3, FCNTL[platform.machine()]),
        (LOAD, 0, 0, 16 + 8 + low), (EQUAL, 0, 1, F_SETLEASE),
        (RETURN, 0, 0, SECCOMP_RET_ERRNO | EINVAL), (RETURN, 0, 0, SECCOMP_RET_ALLOW)))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(6, rules))) != 0:
        raise OSError(ctypes.get_errno(), 'PR_SET_SECCOMP')


@pytest.fixture
def leaseless(mount):
    """leaseless(options): a share whose daemon gets no leases."""
    if platform.machine() not in FCNTL:
        pytest.skip('the number of fcntl(2) on %s is not known here' % platform.machine())

    def go(options=''):
        share = mount(start=False, prepare=forbid_leases)
        share.start(options)
        assert share.info()['lower']['leases'] is False
        return share
    return go


def stopped(pid):
    for task in os.listdir('/proc/%d/task' % pid):
        with contextlib.suppress(FileNotFoundError), open('/proc/%d/task/%s/stat' % (pid, task), encoding='ascii') as f:
            if f.read().rpartition(')')[2].split()[0] not in 'Tt':
                return False
    return True


def done_without_the_daemon(share, fn, wait_s):
    """Whether fn, in another process, comes to its end while the daemon is stopped. When the daemon goes on it has to, in any case."""
    done, told = os.pipe()
    pid = None
    os.kill(share.proc.pid, signal.SIGSTOP)
    try:
        wait_for('the daemon to stand', lambda: stopped(share.proc.pid))
        pid = os.fork()
        if pid == 0:
            try:
                os.write(told, b'1' if fn() else b'0')          # its exit is a close, which the daemon is asked about
            finally:
                os._exit(0)
        alone = bool(select.select([done], [], [], wait_s)[0])
    finally:
        os.kill(share.proc.pid, signal.SIGCONT)
        if pid:
            os.waitpid(pid, 0)
        os.close(told)
    with os.fdopen(done, 'rb') as f:
        assert f.read() == b'1'
    return alone


def new_file_is_written_without_the_daemon(share, name, wait_s):
    """Before the first write of an inode the kernel asks for its security.capability, once."""
    with opened(share.at(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY) as fd:
        os.write(fd, b'first')
        alone = done_without_the_daemon(share, lambda: os.pwrite(fd, DATA, 0) == len(DATA), wait_s)
    share.wait_state(name, 'retained')
    assert read_file(share.at(name)) == DATA == read_file(share.below(name))
    return alone


def test_status_and_log_say_that_there_are_no_leases_and_what_that_costs(mount, leaseless):
    assert mount().info()['lower']['leases'] is True
    share = leaseless()
    status = json.loads(run(WORMCTL, 'status', '--json', '--state-dir', share.state, check=False).out)
    assert status['lower']['leases'] is False
    need(share, 'passthrough', (3, 17), (6, 9))
    status = run(WORMCTL, 'status', '--state-dir', share.state, check=False).out
    t = share.transport()
    assert t['passthrough'] is True and t['passthrough_why'] == 'only for locked files: the share has no leases'
    for said in (status, share.log_text()):
        assert 'only for locked files: the share has no leases' in said


def test_without_leases_writers_get_no_passthrough_and_readers_of_locked_files_do(leaseless):
    share = leaseless()
    need(share, 'passthrough', (3, 17), (6, 9))
    assert not new_file_is_written_without_the_daemon(share, 'a', 0.5)
    big = share.lock('big', DATA * 40)          # too big for the page cache's way
    with opened(big, os.O_RDONLY) as fd:
        assert done_without_the_daemon(share, lambda: os.pread(fd, len(DATA), len(DATA)) == DATA, 15)


def test_T8_without_leases_a_store_after_close_reaches_the_file_only_while_it_is_closing(leaseless, mapper):		# noqa: F811
    share = leaseless()
    path = share.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'store 0 before', 'close')
    for n in range(100):
        mapper.do('store 0 %06d' % n, 'msync')
        assert share.shows(path) == 'closing'
        assert open_errno(path, os.O_WRONLY) == errno_of(os.truncate, path, 0) == errno_of(os.unlink, path) == 'EPERM'
    never_locked_while(share, path, 1)
    mapper.do('unmap')
    share.wait_state(path, 'retained')
    before = look(share.below('a'))
    assert read_file(share.below('a')) == padded('000099') == read_file(path)
    assert look(share.below('a')) == before and share.explain('a')['suspect'] is None


def test_T8_without_leases_a_mapping_of_a_child_and_one_that_was_joined_keep_the_file_closing(leaseless, mapper):		# noqa: F811
    share = leaseless()
    path = share.at('a')
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with opened(path, os.O_RDONLY):             # a reader from before, who stays
        os.write(fd, padded('first'))
        mapper.do('open ' + path, 'map shared %d' % PAGE, 'store 0 before', 'close', 'fork')
        os.close(fd)
        never_locked_while(share, path, 0.3)
        mapper.do('unmap')
        never_locked_while(share, path, 0.5)
        assert share.shows(path) == 'closing'
        mapper.do('reap')
        share.wait_state(path, 'retained')
    assert read_file(share.below('a')) == padded('before')


def test_T8_without_leases_a_mapping_that_outlives_the_daemon_changes_nothing_that_is_locked(leaseless, mapper):		# noqa: F811
    """The lower file is not in the mapping: what is stored after the daemon is gone goes nowhere."""
    share = leaseless()
    path = share.at('a')
    mapper.do('open ' + path, 'size %d' % PAGE, 'map shared %d' % PAGE, 'store 0 before', 'msync', 'close')
    share.kill9()
    share.start()
    share.wait_state(path, 'retained')
    before = look(share.below('a'))
    with contextlib.suppress(BrokenPipeError):
        mapper.ask('store 0 AFTER!')            # SIGBUS, or a page that nobody writes back
        mapper.ask('msync')
    assert read_file(share.below('a')) == padded('before') == read_file(path)
    assert look(share.below('a')) == before and share.explain('a')['suspect'] is None
