"""A mount that is exported over NFS (T40): nfs-ganesha serves it in user mode, libnfs is the client. Between the two there are
only handles: the server opens and closes the file when it likes, so closes mean little, and `commit=idle` is for it."""
import contextlib
import ctypes
import ctypes.util
import os
import re
import signal
import socket
import subprocess

import pytest

from harness import errno_name, need_program, read_file, run, wait_for

RULES = os.path.join(os.path.dirname(__file__), '../../docs/rules/nfs-export.rules')
IDLE_S = 3


class Nfs:
    """Calls of libnfs, each an OSError when the server refuses it."""
    def __init__(self, port):
        name = ctypes.util.find_library('nfs')
        if not name:
            pytest.skip('needs libnfs')
        self.lib = ctypes.CDLL(name)
        for f in ('nfs_init_context', 'nfs_parse_url_dir', 'nfs_get_error'):
            getattr(self.lib, f).restype = ctypes.c_void_p
        self.ctx = ctypes.c_void_p(self.lib.nfs_init_context())
        url = ctypes.c_void_p(self.lib.nfs_parse_url_dir(self.ctx, b'nfs://127.0.0.1/x?version=4&nfsport=%d' % port))
        assert url.value, self.error()
        self.call('nfs_mount', b'127.0.0.1', b'/x')
        self.lib.nfs_destroy_url(url)

    def error(self):
        return ctypes.string_at(self.lib.nfs_get_error(self.ctx)).decode()

    def call(self, name, *args):
        r = getattr(self.lib, name)(self.ctx, *args)
        if r < 0:
            raise OSError(-r, '%s: %s' % (name, self.error()))
        return r

    @contextlib.contextmanager
    def opened(self, path, flags):
        fh = ctypes.c_void_p()
        if flags & os.O_CREAT:
            self.call('nfs_open2', path, flags, 0o644, ctypes.byref(fh))
        else:
            self.call('nfs_open', path, flags, ctypes.byref(fh))
        try:
            yield fh
        finally:
            self.call('nfs_close', fh)

    def write(self, path, flags, data, offset=0):
        with self.opened(path, flags) as fh:
            self.call('nfs_pwrite', fh, ctypes.c_uint64(offset), ctypes.c_uint64(len(data)), data)

    def read(self, path):
        buf = ctypes.create_string_buffer(8192)
        with self.opened(path, os.O_RDONLY) as fh:
            n = self.call('nfs_pread', fh, ctypes.c_uint64(0), ctypes.c_uint64(1000), buf)
            return buf.raw[:n]

    def end(self):
        self.lib.nfs_destroy_context(self.ctx)


def answers(port):
    with contextlib.closing(socket.socket()) as s:
        return s.connect_ex(('127.0.0.1', port)) == 0


def flusher_may_fail():
    """From release 5 on the server ends where it has no CAP_SYS_RESOURCE, unless it is told not to; those before do not know the word."""
    release = re.search(r'V(\d+)', run('ganesha.nfsd', '-v', check=False).out)
    return 'allow_set_io_flusher_fail = true; ' if release and int(release[1]) >= 5 else ''


@pytest.fixture
def export(mount, tmp_path):
    """export(options): (share, client) of a mount that a server of its own exports."""
    need_program('ganesha.nfsd')
    ended = contextlib.ExitStack()

    def go(options):
        share = mount(options)
        os.chmod(share.mnt, 0o777)
        with contextlib.closing(socket.socket()) as s:		# the server cannot be told to choose one
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        conf = tmp_path / 'ganesha.conf'
        (tmp_path / 'recovery').mkdir()
        # The lease is longer than a test: libnfs does not renew it. After a COMMIT the server keeps a descriptor for writing, in a
        # cache: with that a file is never idle (docs/recipes.md).
        conf.write_text('''
NFS_CORE_PARAM { Protocols = 4; NFS_Port = %d; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; %s}
NFSV4 { Grace_Period = 1; Lease_Lifetime = 60; Graceless = true; RecoveryBackend = fs; RecoveryRoot = "%s"; Only_Numeric_Owners = true; }
MDCACHE { FD_LWMark_Percent = 0; LRU_Run_Interval = 1; }
EXPORT { Export_Id = 1; Path = %s; Pseudo = /x; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4;
	Transports = TCP; FSAL { Name = VFS; } Filesystem_id = 192.168; }
''' % (port, flusher_may_fail(), tmp_path / 'recovery', share.mnt))
        server = subprocess.Popen(['ganesha.nfsd', '-F', '-L', tmp_path / 'log', '-f', conf, '-p', tmp_path / 'pid'],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ended.callback(end, server)
        wait_for('the NFS server', lambda: server.poll() is not None or answers(port))
        assert server.poll() is None, (tmp_path / 'log').read_text()
        client = Nfs(port)
        ended.callback(client.end)
        return share, client

    def end(server):
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    with ended:
        yield go


def refused(fn, *args):
    with pytest.raises(OSError) as e:
        fn(*args)
    return errno_name(e.value.errno)


def everything_is_refused(client, path):
    """Who has locked a file over NFS gets for each way to change it what a local program gets."""
    assert refused(client.write, path, os.O_WRONLY, b'forged') in ('EPERM', 'EACCES')
    assert refused(client.call, 'nfs_truncate', path, ctypes.c_uint64(1)) in ('EPERM', 'EACCES')
    assert refused(client.call, 'nfs_unlink', path) in ('EPERM', 'EACCES')
    assert refused(client.call, 'nfs_rename', path, b'/other') in ('EPERM', 'EACCES')
    client.write(b'/new', os.O_WRONLY | os.O_CREAT, b'onto')
    assert refused(client.call, 'nfs_rename', b'/new', path) in ('EPERM', 'EACCES')


def test_T40_over_NFS_commit_idle_lets_a_client_come_back_and_locks_what_is_left_alone(export, tmp_path):
    with open(RULES, encoding='utf-8') as f:
        rules = f.read()
    assert 'commit = idle:60' in rules
    path = tmp_path / 'nfs-export.rules'		# the template, in less time
    path.write_text(rules.replace('commit = idle:60', 'commit = idle:%d' % IDLE_S))
    share, client = export('rules=%s' % path)
    client.write(b'/report', os.O_WRONLY | os.O_CREAT, b'first ')
    client.write(b'/report', os.O_WRONLY, b'and second ', 6)		# a close does not lock it
    client.write(b'/report', os.O_WRONLY, b'and last', 17)
    assert client.read(b'/report') == b'first and second and last'
    share.wait_state('report', 'retained')
    everything_is_refused(client, b'/report')
    assert client.read(b'/report') == b'first and second and last' == read_file(share.below('report'))


def test_T40_over_NFS_commit_close_locks_at_the_first_close_as_documented(export):
    """Which is why the man page says commit=idle: who writes in two goes does not come to the second one."""
    share, client = export('commit=close,retention=1d')
    client.write(b'/report', os.O_WRONLY | os.O_CREAT, b'first ')
    share.wait_state('report', 'closing', 'retained')		# the server may keep a descriptor of its own
    assert refused(client.write, b'/report', os.O_WRONLY, b'and last', 6) in ('EPERM', 'EACCES')
    everything_is_refused(client, b'/report')
    assert client.read(b'/report') == b'first ' == read_file(share.below('report'))
