"""One share with one daemon: mounted, asked, unmounted, killed, and watched."""
import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from calls import MNT_DETACH, errno_of, libc, mount_call, opened, umount_call
from programs import is_traced, run, wait_for
from settings import APART, DEADLINE_S, OPTIONS, WORMCTL, WORMFS

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
    prepare() is called in each daemon's process before it is one.
    """
    live = set()

    def __init__(self, base, options='', apart=APART, state=None, make_state=True, lower_mode=0o755, log=None, prepare=None):
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
        self.prepare = prepare
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

    def start(self, options=None, user=None, stdout=None):
        """Mounts; raises Refused when the daemon ends instead. stdout: a file or descriptor instead of the log."""
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
            if self.prepare:
                self.prepare()
        with open(self.log, 'ab') as log:
            mark = log.tell()
            self.proc = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log if stdout is None else stdout, stderr=log,
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
            where = stacks(proc.pid)
            self.kill9()
            pytest.fail('the daemon did not end after %s; its log:\n%s\n%s' % (after, self.log_text(), where))
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


def stacks(pid):
    """Where each thread of it is in the kernel, with its name."""
    said = ''
    for task in sorted(os.listdir('/proc/%d/task' % pid)):
        with contextlib.suppress(OSError), open('/proc/%d/task/%s/comm' % (pid, task)) as comm, \
                open('/proc/%d/task/%s/stack' % (pid, task)) as stack:
            said += 'thread %s of %d, %s:\n%s' % (task, pid, comm.read().strip(), stack.read())
    return said


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
            sys.stderr.write(stacks(share.proc.pid))
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
                return is_traced(pid)
            except (FileNotFoundError, ProcessLookupError):
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
