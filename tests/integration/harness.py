"""What the integration tests are written with: real mounts of the real daemon, other users, raw system
calls, and looks at the lower tree. No test lives here.

Environment (defaults in brackets):
  WORMFS, WORMCTL         the programs [build/wormfs, build/wormctl]
  WORMFS_TEST_BIN         directory of the C helpers [tests/ beside WORMFS]
  WORMFS_TEST_OPTIONS     appended to the options of every mount: how the suite is run in each transport,
                          e.g. `io_uring=no,passthrough=no,splice=no`
  WORMFS_TEST_ROUNDS      rounds of the races [100000]
  WORMFS_TEST_KILLS       rounds of SIGKILL under eight writers [40]
  WORMFS_TEST_FILES       files of the scale tests [100000]
  WORMFS_TEST_DEADLINE    seconds that a condition may take [15]
  WORMFS_TEST_TIMEOUT     seconds that a test may take before its daemons are killed [240]
  WORMFS_TEST_APART       1: every mount on a directory of its own instead of over its share
  WORMFS_TEST_MODEL_S     seconds of random sequences against the model [25; 900 with SOAK]
  WORMFS_TEST_SEED        repeats a run of them
  WORMFS_TEST_SOAK        1: also what takes minutes
  WORMFS_TEST_TMP         where the loop images are made [/var/tmp]
"""
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORMFS = os.path.abspath(os.environ.get('WORMFS', os.path.join(ROOT, 'build/wormfs')))
WORMCTL = os.path.abspath(os.environ.get('WORMCTL', os.path.join(os.path.dirname(WORMFS), 'wormctl')))
BIN = os.path.abspath(os.environ.get('WORMFS_TEST_BIN', os.path.join(os.path.dirname(WORMFS), 'tests')))
OPTIONS = os.environ.get('WORMFS_TEST_OPTIONS', '')
ROUNDS = int(os.environ.get('WORMFS_TEST_ROUNDS', 100000))
KILLS = int(os.environ.get('WORMFS_TEST_KILLS', 40))
FILES = int(os.environ.get('WORMFS_TEST_FILES', 100000))
DEADLINE_S = float(os.environ.get('WORMFS_TEST_DEADLINE', 15))
TIMEOUT_S = float(os.environ.get('WORMFS_TEST_TIMEOUT', 240))
APART = os.environ.get('WORMFS_TEST_APART') == '1'
SOAK = os.environ.get('WORMFS_TEST_SOAK') == '1'

ALICE, BOB = 1000, 1001		# nobody of the machine's need exist under these numbers
TEAM = 2000			# a supplementary group of ALICE's

LOCKED = ('retained', 'expired')
DAY = 86400

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MS_RDONLY, MS_REMOUNT, MS_PRIVATE, MS_REC = 1, 32, 1 << 18, 1 << 14
MNT_DETACH = 2
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801c581f, 0x401c5820
FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL = 0x10, 0x20, 0x40
FICLONE, FIDEDUPERANGE = 0x40049409, 0xc0189436
FALLOC = {				# every mode of linux/falloc.h
    'plain': 0, 'keep-size': 1, 'punch-hole': 3, 'collapse-range': 8,
    'zero-range': 0x10, 'zero-range-keep-size': 0x11, 'insert-range': 0x20, 'unshare-range': 0x40,
}


# ---- system calls that Python lacks -------------------------------------------------------------

def _call(name, *args):
    r = getattr(libc, name)(*args)
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), name)
    return r


def _path(path):
    return ctypes.c_char_p(os.fsencode(path))


def renameat2(old, new, flags, old_dir=AT_FDCWD, new_dir=AT_FDCWD):
    _call('renameat2', old_dir, _path(old), new_dir, _path(new), ctypes.c_uint(flags))


def linkat(old_dir, old, new, flags, new_dir=AT_FDCWD):
    _call('linkat', old_dir, _path(old), new_dir, _path(new), flags)


def link_descriptor(fd, path):
    """Gives a name to an O_TMPFILE descriptor."""
    linkat(AT_FDCWD, '/proc/self/fd/%d' % fd, path, AT_SYMLINK_FOLLOW)


def fallocate(fd, mode, offset, length):
    _call('fallocate', fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))


class Timespec(ctypes.Structure):
    _fields_ = [('sec', ctypes.c_long), ('nsec', ctypes.c_long)]


def utimensat(path, atime, mtime, flags=0):
    """Each time is (sec, nsec); nsec may be UTIME_NOW or UTIME_OMIT."""
    _call('utimensat', AT_FDCWD, _path(path), (Timespec * 2)(Timespec(*atime), Timespec(*mtime)), flags)


def mount_call(source, target, fstype, flags, data=None):
    _call('mount', _path(source) if source else None, _path(target), _path(fstype) if fstype else None,
          ctypes.c_ulong(flags), _path(data) if data else None)


def umount_call(target, flags=0):
    _call('umount2', _path(target), flags)


def get_flags(path):
    """chattr flags, through FS_IOC_GETFLAGS."""
    import fcntl
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
        return struct.unpack('i', fcntl.ioctl(fd, FS_IOC_GETFLAGS, b'\0' * 4))[0]


def set_flags(path, flags):
    import fcntl
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack('i', flags))


def set_fsxattr_flags(path, xflags):
    import fcntl
    with opened(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, struct.pack('IIII', xflags, 0, 0, 0) + b'\0' * 12)


# ---- errnos -------------------------------------------------------------------------------------

_NAMES = {errno.EOPNOTSUPP: 'EOPNOTSUPP', errno.EAGAIN: 'EAGAIN', errno.EDEADLK: 'EDEADLK'}


def errno_name(number):
    return _NAMES.get(number) or errno.errorcode.get(number, str(number))


def errno_of(fn, *args, **kwargs):
    """'OK', or the name of the errno that the call failed with."""
    try:
        fn(*args, **kwargs)
    except OSError as e:
        if e.errno is None:
            raise
        return errno_name(e.errno)
    return 'OK'


def open_errno(path, flags, mode=0o644):
    """Likewise for open(2); what was opened is closed again."""
    def go():
        os.close(os.open(path, flags, mode))
    return errno_of(go)


@contextlib.contextmanager
def opened(path, flags, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


# ---- waiting ------------------------------------------------------------------------------------

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


# ---- looking at files ---------------------------------------------------------------------------

OURS = ('trusted.wormfs', 'user.wormfs')	# namespaces of what wormfs writes on lower files


def xattrs(path, ours=True):
    out = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if ours or not name.startswith(OURS):
            out[name] = os.getxattr(path, name, follow_symlinks=False)
    return out


def digest(path):
    h = hashlib.sha256()
    with open(path, 'rb') as f:
        for chunk in iter(lambda: f.read(1 << 20), b''):
            h.update(chunk)
    return h.hexdigest()


def look(path):
    """Everything about a file that a refused call must leave as it was, its own xattrs and ctime included."""
    st = os.lstat(path)
    what = {
        'type': stat.S_IFMT(st.st_mode), 'mode': oct(stat.S_IMODE(st.st_mode)), 'uid': st.st_uid, 'gid': st.st_gid,
        'nlink': st.st_nlink, 'ino': st.st_ino, 'mtime': st.st_mtime_ns, 'ctime': st.st_ctime_ns, 'rdev': st.st_rdev,
        'xattrs': xattrs(path),
    }
    if stat.S_ISREG(st.st_mode):
        what.update(size=st.st_size, blocks=st.st_blocks, sha256=digest(path))
    elif stat.S_ISLNK(st.st_mode):
        what['target'] = os.readlink(path)
    elif stat.S_ISDIR(st.st_mode):
        what['names'] = sorted(os.listdir(path))
    return what


def write_file(path, data=b'report\n', mode=0o644, flags=0):
    """Creates, writes, closes; an error of close(2) comes out."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | flags, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return path


def read_file(path):
    with open(path, 'rb') as f:
        return f.read()


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


# ---- the daemon ---------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1
_ERROR_LINE = re.compile(r'(^|wormfs: )error: ')
_SANITIZER = re.compile(r'ERROR: \w*Sanitizer|WARNING: ThreadSanitizer|runtime error: |SUMMARY: \w+Sanitizer')


FUSECTL = '/sys/fs/fuse/connections'


def abort_connection(point):
    """Fails every request of the mount: for a daemon that waits for itself, which SIGKILL does not end."""
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as f:
        numbers = [line.split()[2].split(':')[1] for line in f if line.split()[4] == point and ' - fuse' in line]
    for number in numbers[-1:]:
        if not os.path.exists(FUSECTL + '/' + number):
            mount_call('none', FUSECTL, 'fusectl', 0)
        with open('%s/%s/abort' % (FUSECTL, number), 'w') as f:
            f.write('1')


def mounts():
    """[(mount point, type, options, super options)] of this namespace, in order."""
    out = []
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as f:
        for line in f:
            left, right = line.rstrip('\n').split(' - ', 1)
            fields, tail = left.split(' '), right.split(' ')
            point = re.sub(r'\\([0-7]{3})', lambda m: chr(int(m.group(1), 8)), fields[4])
            out.append((point, tail[0], fields[5].split(','), tail[2].split(',')))
    return out


def fuse_mounted(point):
    return sum(1 for m in mounts() if m[0] == point and m[1].startswith('fuse'))


def daemon_environment():
    env = dict(os.environ)
    env['ASAN_OPTIONS'] = 'detect_leaks=1:abort_on_error=0:exitcode=97:' + env.get('ASAN_OPTIONS', '')
    env['UBSAN_OPTIONS'] = 'print_stacktrace=1:' + env.get('UBSAN_OPTIONS', '')
    env['TSAN_OPTIONS'] = 'halt_on_error=0:exitcode=98:' + env.get('TSAN_OPTIONS', '')
    return env


class Refused(Exception):
    """The daemon ended instead of mounting."""
    def __init__(self, code, text):
        super().__init__('exit %s: %s' % (code, text))
        self.code, self.text = code, text


class Share:
    """One share with one daemon, in directories of its own:
    .mnt      the share, with wormfs mounted over it (or the mount point that was asked for)
    .lower    the same directory seen through a bind mount that was there before
    .state    the state directory; .log the path of the daemon's log; .proc the daemon
    """
    live = set()

    def __init__(self, base, options='', apart=APART, state=None, make_state=True, lower_mode=0o755, log=None):
        self.dir = tempfile.mkdtemp(prefix='t', dir=base)
        os.chmod(self.dir, 0o755)
        self.share = os.path.join(self.dir, 'share')
        self.lower = os.path.join(self.dir, 'lower')
        self.state = state or os.path.join(self.dir, 'state')
        self.log = log or os.path.join(self.dir, 'log')
        self.clock_file = os.path.join(self.dir, 'clock')
        for d in (self.share, self.lower):
            os.mkdir(d)
        os.chmod(self.share, lower_mode)
        if make_state:
            os.makedirs(self.state, 0o700, exist_ok=True)
        self.mnt = self.share
        if apart:
            self.mnt = os.path.join(self.dir, 'mnt')
            os.mkdir(self.mnt)
        self.bind()
        self.options = options
        self.proc = None
        self.allowed = []
        self.scanned = 0

    def __repr__(self):
        return '<Share %s>' % self.dir

    def bind(self):
        run('mount', '--bind', self.share, self.lower)
        # Private: else the mount over the share would also cover the bind mount.
        run('mount', '--make-private', self.lower)

    # -- paths

    def at(self, *names):
        return os.path.join(self.mnt, *names)

    def below(self, *names):
        return os.path.join(self.lower, *names)

    # -- life

    def argv(self, options=None, foreground=True):
        opts = ['state=' + self.state.replace(',', '\\,')]
        opts += [o for o in (self.options if options is None else options, OPTIONS) if o]
        argv = [WORMFS] + (['-f'] if foreground else []) + [self.share]
        if self.mnt != self.share:
            argv.append(self.mnt)
        return argv + ['-o', ','.join(opts)]

    def start(self, options=None, user=None):
        """Mounts; raises Refused when the daemon ends instead."""
        assert self.proc is None
        if options is not None:
            self.options = options
        before = fuse_mounted(self.mnt)

        def child():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)	# no daemon outlives the test run
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
        with open(self.log, 'ab') as log:
            mark = log.tell()
            self.proc = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             preexec_fn=child, env=daemon_environment())
        Share.live.add(self)

        def up():
            return self.proc.poll() is not None or fuse_mounted(self.mnt) > before
        try:
            wait_for('the mount of %s' % self.mnt, up)
            if self.proc.poll() is not None:
                code, self.proc = self.proc.returncode, None
                Share.live.discard(self)
                with open(self.log, 'rb') as log:
                    log.seek(mark)
                    raise Refused(code, log.read().decode('utf-8', 'replace'))
            os.stat(self.mnt)
        except Refused:
            raise
        except BaseException:
            self.kill9()
            raise
        return self

    def stop(self):
        """Unmounts, and fails unless the daemon ends with 0 and its log is clean."""
        if self.proc is None:
            return
        proc = self.proc

        def gone():
            if proc.poll() is not None:
                return True
            try:
                umount_call(self.mnt)
                return True
            except OSError as e:
                if e.errno == errno.EBUSY:
                    return False
                if e.errno == errno.EINVAL:	# unmounted by the daemon itself
                    return True
                raise
        try:
            wait_for('umount of %s (a test left something open there)' % self.mnt, gone, 5)
        except BaseException:
            self.kill9()
            raise
        self._ended(proc, 'umount')

    def _ended(self, proc, after):
        try:
            code = proc.wait(DEADLINE_S * 2)
        except subprocess.TimeoutExpired:
            self.kill9()
            pytest.fail('the daemon did not end after %s; its log:\n%s' % (after, self.log_text()))
        self.proc = None
        Share.live.discard(self)
        if code != 0:
            pytest.fail('the daemon ended with %d after %s; its log:\n%s' % (code, after, self.log_text()))
        self.check_log()

    def terminate(self, signum=signal.SIGTERM):
        """Ends the daemon by a signal; it unmounts itself and exits with 0."""
        proc = self.proc
        proc.send_signal(signum)
        self._ended(proc, signal.Signals(signum).name)

    def remount(self, options=None):
        self.stop()
        return self.start(options)

    def kill9(self, unmount=True):
        """SIGKILL, and the dead mount is taken away: from then on its path leads to the lower directory, so who
        still writes there has to end first (unmount=False, then unmount_dead())."""
        proc, self.proc = self.proc, None
        Share.live.discard(self)
        if proc is not None:
            proc.kill()
            try:
                proc.wait(3)
            except subprocess.TimeoutExpired:
                abort_connection(self.mnt)
                proc.wait()
        if unmount:
            self.unmount_dead()

    def unmount_dead(self):
        while fuse_mounted(self.mnt):
            umount_call(self.mnt, MNT_DETACH)

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def end(self):
        """Everything away, whatever the test did."""
        try:
            if self.proc is not None:
                if not self.alive():
                    code = self.proc.returncode
                    self.kill9()
                    pytest.fail('the daemon died with %s; its log:\n%s' % (code, self.log_text()))
                self.stop()
            else:
                self.check_log()
        finally:
            self.unmount_dead()
            for point in (self.lower,):
                with contextlib.suppress(OSError):
                    umount_call(point, MNT_DETACH)
            self.remove()

    def remove(self):
        if any(m[0].startswith(self.dir + '/') for m in mounts()):
            return		# never below a mount
        run('rm', '-rf', '--one-file-system', self.dir, check=False)

    # -- log

    def log_text(self):
        if not os.path.exists(self.log):
            return ''
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()

    def expect_log(self, *patterns):
        """Error lines that match are part of the test."""
        self.allowed += [re.compile(p) for p in patterns]

    def check_log(self):
        text = self.log_text()
        found = _SANITIZER.search(text)
        if found:
            pytest.fail('a sanitizer reports:\n' + text[max(0, found.start() - 500):][:6000])
        bad = [line for line in text.splitlines()
               if _ERROR_LINE.search(line) and not any(p.search(line) for p in self.allowed)]
        if bad:
            pytest.fail('unexpected in the log of the daemon:\n' + '\n'.join(bad[:20]))

    # -- what it says

    def shows(self, path, name='state'):
        """user.worm.NAME as text. None: not there (ENODATA)."""
        try:
            return os.getxattr(self._abs(path), 'user.worm.' + name).decode('utf-8', 'surrogateescape')
        except OSError as e:
            if e.errno == errno.ENODATA:
                return None
            raise

    def _abs(self, path):
        path = os.fspath(path)
        if isinstance(path, bytes):
            return path if path.startswith(b'/') else os.path.join(os.fsencode(self.mnt), path)
        return path if path.startswith('/') else self.at(path)

    def explain(self, path=''):
        return json.loads(self.shows(path, 'explain'))

    def info(self):
        return json.loads(self.shows(self.mnt, 'mount'))

    def problems(self, pending=False):
        """What needs a person, without what the test itself asked for. pending: files not locked yet are fine."""
        return [p for p in self.info()['problems'] if 'clock can be moved' not in p
                and not (pending and 'not locked yet' in p)]

    def transport(self):
        return self.info()['transport']

    def wait_state(self, path, *states):
        """Waits for one of the states; fails at once, saying so, when the file is lost."""
        seen = []

        def there():
            seen[:] = [self.shows(path)]
            return seen[0] in states and seen[0]
        try:
            return wait_for('state %s of %r' % (' or '.join(states), path), there)
        except pytest.fail.Exception as e:
            raise AssertionError('%s (it is %s)' % (e, seen[0])) from None

    # -- doing things

    def lock(self, name, data=b'report\n', mode=0o644, state='retained'):
        """Writes a file through the mount and waits until it is shown as locked. Returns its path."""
        path = self.at(name)
        with opened(path, os.O_CREAT | os.O_WRONLY) as fd:
            os.fchmod(fd, mode)         # whatever the umask
            os.write(fd, data)
        self.wait_state(path, state)
        return path

    def now(self, offset_s):
        """Moves the clock of a share that was mounted with clocked() options: seconds from the wall clock."""
        with open(self.clock_file + '.new', 'w') as f:
            f.write('%d\n' % offset_s)
        os.rename(self.clock_file + '.new', self.clock_file)

    def settle(self, *paths, writers=0):
        """Waits until what was closed is over in the daemon and in the ledger: RELEASE comes after close(2) has
        returned."""
        wait_for('%d writers' % writers, lambda: self.info()['writers'] == writers)
        for path in paths:
            self.shows(path)        # takes its turn behind the release of this file
        self.must('sync')

    def ctl(self, *args, check=True, **kwargs):
        if not os.path.exists(WORMCTL):
            pytest.skip('needs wormctl: %s is not built' % WORMCTL)
        return run(WORMCTL, *args, check=check, **kwargs)

    def control(self, verb, path=None, **keys):
        """One privileged request. Returns the answer as a dict."""
        request = dict(verb=verb, **keys)
        if path is not None:
            request['path'] = encode_path(path)
        with Control(self) as c:
            c.send(json.dumps(request).encode() + b'\n')
            while True:
                answer = json.loads(c.line())
                if 'progress' not in answer:
                    return answer

    def must(self, verb, path=None, **keys):
        answer = self.control(verb, path, **keys)
        assert answer.get('ok') is True, '%s %r: %s' % (verb, path, answer)
        return answer

    def refused(self, verb, path=None, **keys):
        """The errno that a request is refused with; 'OK' when it is not."""
        answer = self.control(verb, path, **keys)
        return 'OK' if answer.get('ok') else answer['errno']

    def listed(self):
        """{path: row} of everything that `wormctl list` says, after the ledger has caught up."""
        if self.alive():
            self.must('sync')
        p = self.ctl('list', '--json', '--state-dir', self.state, self.mnt, check=False)
        if p.returncode not in (0, 1) or p.err:         # 1: none was found
            pytest.fail('wormctl list: exit %d, %s' % (p.returncode, p.err))
        return {row['path']: row for row in map(json.loads, p.out.splitlines())}


def encode_path(path):
    """control_path_encode() of lockstore/control.h."""
    return ''.join(chr(b) if 0x21 <= b <= 0x7e and b != 0x25 else '%%%02X' % b for b in os.fsencode(path))


class Control:
    """A connection to the control socket."""
    def __init__(self, share):
        self.path = os.path.join(share.state, 'control')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_S)
        # sun_path has 108 bytes; a state directory may be deeper.
        fd = os.open(share.state, os.O_PATH)
        try:
            self.socket.connect('/proc/self/fd/%d/control' % fd)
        finally:
            os.close(fd)
        self.rest = b''

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """One line of the answer; b'' when the daemon has closed the connection."""
        while b'\n' not in self.rest:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return b''
            if not data:
                return b''
            self.rest += data
        line, self.rest = self.rest.split(b'\n', 1)
        return line


# ---- base filesystems ---------------------------------------------------------------------------

class Bases:
    """Filesystems to put shares on, each mounted once a session, when it is first asked for."""
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix='wormfs-test-', dir=os.environ.get('WORMFS_TEST_TMP', '/var/tmp'))
        os.chmod(self.root, 0o755)
        self.points = {}
        self.shares = 0

    def get(self, kind):
        if kind not in self.points:
            self.points[kind] = self.make(kind, kind)
        return self.points[kind]

    def make(self, kind, name, size='12G', options=(), mkfs=()):
        """A fresh filesystem; the path of its root."""
        point = os.path.join(self.root, name)
        os.mkdir(point)
        if kind in ('tmpfs', 'ramfs'):
            run('mount', '-t', kind, *(['-o', ','.join(options)] if options else []), 'wormfs-test', point)
        else:
            image = point + '.img'
            programs = {'ext4': ['mkfs.ext4', '-q', '-F', '-i', '8192', '-E', 'lazy_itable_init=1,nodiscard'],
                'xfs': ['mkfs.xfs', '-q', '-f', '-K'], 'btrfs': ['mkfs.btrfs', '-q', '-f', '-K']}
            need_program(programs[kind][0])
            run('truncate', '-s', size, image)
            run(*programs[kind], *mkfs, image)
            # noinit_itable: no thread that fills the sparse image while tests measure.
            opts = list(options) + (['noinit_itable'] if kind == 'ext4' else [])
            p = run('mount', '-t', kind, '-o', ','.join(['loop'] + opts), image, point, check=False)
            if p.returncode != 0:
                pytest.skip('this kernel cannot mount %s: %s' % (kind, p.err.strip()))
        run('mount', '--make-private', point)
        os.chmod(point, 0o755)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(point, 'lost+found'))
        return point

    def end(self):
        for point, _, _, _ in reversed(mounts()):
            if point.startswith(self.root + '/'):
                with contextlib.suppress(OSError):
                    umount_call(point, MNT_DETACH)
        run('rm', '-rf', '--one-file-system', self.root, check=False)

    def cut_power(self, share, name):
        """Power loss of a filesystem made with make(): the shutdown ioctl of ext4 and xfs cuts it off with
        nothing written any more, and it is mounted again with what had reached the disk; the share too."""
        import fcntl
        point = os.path.join(self.root, name)
        kind = [m[1] for m in mounts() if m[0] == point][-1]
        with opened(point, os.O_RDONLY) as fd:
            fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))     # FS_IOC_SHUTDOWN, NOLOGFLUSH
        share.kill9()
        # What the kernel had open for the dead daemon's passthrough goes a moment after it.
        for mounted in (share.lower, point):
            wait_for('umount of ' + mounted, lambda: errno_of(umount_call, mounted) == 'OK')
        run('mount', '-t', kind, '-o', 'loop', point + '.img', point)
        run('mount', '--make-private', point)
        share.bind()


class Watchdog:
    """Kills the daemons of a test that hangs, so that its calls return and it fails."""
    def __init__(self, name, seconds):
        self.name = name
        self.timer = threading.Timer(seconds, self.bark)
        self.timer.daemon = True
        self.barked = False

    def bark(self):
        self.barked = True
        sys.stderr.write('\n%s hangs; its daemons are killed\n' % self.name)
        for share in list(Share.live):
            if share.proc is None:
                continue
            for task in sorted(os.listdir('/proc/%d/task' % share.proc.pid)):
                with contextlib.suppress(OSError), open('/proc/%d/task/%s/stack' % (share.proc.pid, task)) as f:
                    sys.stderr.write('thread %s of %d:\n%s' % (task, share.proc.pid, f.read()))
            share.proc.kill()
            with contextlib.suppress(OSError):
                abort_connection(share.mnt)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *exc):
        self.timer.cancel()


def killed_at(share, call, nth, deed):
    """Kills the daemon when it enters its nth call. None: it never made that many. Else what the deed came to."""
    pid = share.proc.pid
    tracer = subprocess.Popen(['strace', '-f', '-qq', '-p', str(pid), '-e', 'trace=' + call,
                               '-e', 'inject=%s:signal=SIGKILL:when=%d' % (call, nth), '-o', '/dev/null'],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        def dead():
            return 'State:\tZ' in open('/proc/%d/status' % pid).read()      # ours to wait for: it is still there

        def traced():
            gone = tracer.poll() is not None
            if dead():
                return True         # an idle thread was the first to make that call
            if gone:
                pytest.skip('strace cannot attach: %s' % tracer.stderr.read().decode())
            try:
                tasks = os.listdir('/proc/%d/task' % pid)
                return all('TracerPid:\t0' not in open('/proc/%d/task/%s/status' % (pid, t)).read() for t in tasks)
            except FileNotFoundError:
                return dead()
        wait_for('strace to attach', traced)
        result = errno_of(deed)
        if result == 'OK':
            time.sleep(0.01)        # what follows close(2) may be the call that kills
        died = dead()
    finally:
        # SIGKILL: it may wait for ever for threads of a daemon that is gone, which stays a zombie until then.
        tracer.kill()
        tracer.wait()
        tracer.stderr.close()
    return result if died or result != 'OK' else None
