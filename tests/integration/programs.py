"""Other programs and other users: started, waited for, and what the daemon was built with."""
import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import time
import traceback

import pytest

from calls import errno_name
from settings import BIN, DEADLINE_S, WORMFS


def is_traced(pid):
    """Every thread of it; one that ends meanwhile is not there to be traced."""
    for thread in os.listdir('/proc/%d/task' % pid):
        try:
            with open('/proc/%d/task/%s/status' % (pid, thread), encoding='ascii', errors='replace') as f:
                if 'TracerPid:\t0' in f.read():
                    return False
        except (FileNotFoundError, ProcessLookupError):
            pass
    return True


@contextlib.contextmanager
def injected(share, call, what, path=None):
    """Each such system call of the daemon (on that file only) is what strace's inject= says: 'error=EROFS', 'delay_enter=1s'."""
    need_program('strace')
    pid = share.proc.pid
    tracer = subprocess.Popen(['strace', '-f', '-qq', '-p', str(pid), *(['-P', path] if path else []), '-e', 'trace=' + call, '-e', 'inject=%s:%s' % (call, what),
                               '-o', '/dev/null'], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        def traced():
            if tracer.poll() is not None:
                pytest.skip('strace cannot attach: %s' % tracer.stderr.read().decode())
            return is_traced(pid)
        wait_for('strace to attach', traced)
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)
        tracer.stderr.close()


def wait_for(what, condition, deadline_s=None):
    """Waits until `condition()` is true and returns it; fails with `what` at the deadline."""
    end = time.monotonic() + (deadline_s or DEADLINE_S)
    pause = 0.0005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail('waited %g s in vain for: %s' % (deadline_s or DEADLINE_S, what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


# ---- other users --------------------------------------------------------------------------------

class Died(Exception):
    pass


def as_user(uid, fn, *args, gid=None, groups=(), umask=None, rlimits=(), cwd=None):
    """Runs fn in a child with the ids of another user and returns what it returned (a plain value).
    An OSError comes back as the name of its errno, the way errno_of() gives it."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read_fd)
            import resource
            for what, limit in rlimits:
                resource.setrlimit(what, (limit, limit))
                if what == resource.RLIMIT_FSIZE:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if uid != 0 or groups or gid:
                os.setgroups(list(groups))
                os.setgid(uid if gid is None else gid)
                os.setuid(uid)
            if umask is not None:
                os.umask(umask)
            if cwd:
                os.chdir(cwd)
            try:
                result = ('value', fn(*args))
            except OSError as e:
                result = ('value', errno_name(e.errno))
            except BaseException:
                result = ('trace', traceback.format_exc())
            with os.fdopen(write_fd, 'wb') as out:
                pickle.dump(result, out)
            code = 0
        finally:
            os._exit(code)
    os.close(write_fd)
    with os.fdopen(read_fd, 'rb') as source:
        data = source.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise Died('the child died with status %#x' % status)
    kind, value = pickle.loads(data)
    if kind == 'trace':
        raise AssertionError('in the child of uid %d:\n%s' % (uid, value))
    return value


def in_child(fn, *args, **kwargs):
    """As root, in a child of its own: for what must not happen to the test process (umask, chdir, limits)."""
    return as_user(0, fn, *args, **kwargs)


# ---- programs ---------------------------------------------------------------------------------

def run(*argv, check=True, timeout=60, **kwargs):
    """A program; its output is in what is returned, and in the failure."""
    kwargs.setdefault('stdin', subprocess.DEVNULL)
    p = subprocess.run([str(a) if isinstance(a, int) else os.fspath(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
               timeout=timeout, **kwargs)
    p.out, p.err = p.stdout.decode('utf-8', 'surrogateescape'), p.stderr.decode('utf-8', 'surrogateescape')
    if check and p.returncode != 0:
        pytest.fail('%s: exit %d\n%s%s' % (' '.join(map(str, argv)), p.returncode, p.out, p.err))
    return p


def need_program(name):
    path = shutil.which(name) or shutil.which(name, path='/usr/sbin:/sbin')
    if not path:
        pytest.skip('needs the program %s' % name)
    return path


def tool(name):
    path = os.path.join(BIN, name)
    if not os.path.exists(path):
        pytest.fail('%s is missing: make tests-bin' % path)
    return path


def sanitizer():
    """'address', 'thread', 'undefined' or None: what the daemon was built with."""
    if sanitizer.known is None:
        with open(WORMFS, 'rb') as f:
            data = f.read()
        sanitizer.known = ('address' if b'__asan_init' in data else 'thread' if b'__tsan_init' in data
                   else 'undefined' if b'__ubsan_handle' in data else '')
    return sanitizer.known or None
sanitizer.known = None


def sanitizer_known():
    return os.path.exists(WORMFS) and sanitizer()


def scaled(n):
    """A number of rounds, less where a sanitizer makes each of them slow."""
    return max(1, n // 10) if sanitizer() else n
