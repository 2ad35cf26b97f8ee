"""A mockarchive to test with: a real one, in directories of its own, with a clock that only the test moves."""
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import urllib.parse

import harness
from harness import DEADLINE_S, PR_SET_PDEATHSIG, Share, daemon_environment, fuse_mounted, libc, run, wait_for

MOCKARCHIVE = os.path.abspath(os.environ.get('MOCKARCHIVE', os.path.join(os.path.dirname(harness.WORMFS), 'mockarchive')))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('localhost', timeout=DEADLINE_S * 2)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ApiError(AssertionError):
    def __init__(self, status, body):
        super().__init__('%d %s' % (status, body))
        self.status, self.errno = status, body.get('errno') if isinstance(body, dict) else None


class Archive(Share):
    """.mnt the mount (FINAL), .store, .replica, .data (the lower files). What a share can do besides
    (log, kill9, check_log) it does as well."""

    def __init__(self, base, *args, clock='manual', **settings):
        self.dir = tempfile.mkdtemp(prefix='a', dir=base)
        os.chmod(self.dir, 0o755)
        self.mnt, self.store, self.replica = (os.path.join(self.dir, d) for d in ('final', 'store', 'replica'))
        self.data = os.path.join(self.store, 'data')
        self.lower, self.state = self.data, os.path.join(self.store, 'state')
        self.log, self.socket = os.path.join(self.dir, 'log'), os.path.join(self.dir, 's')
        self.args, self.clock = args, clock
        self.settings = {k.replace('__', '.'): v for k, v in settings.items()}
        self.proc, self.allowed = None, []

    def argv(self):
        argv = [MOCKARCHIVE, '-f', self.mnt, '--store', self.store, '--replica', self.replica, '--clock', self.clock,
                '--http', 'unix:' + self.socket, *self.args]
        for key, value in self.settings.items():
            argv += ['--profile', value] if key == 'profile' else ['--set', '%s=%s' % (key, value)]
        return argv

    def start(self, *args):
        if args:
            self.args = args
        env = daemon_environment()
        env['MOCKARCHIVE_RUN_DIR'] = os.path.join(self.dir, 'run')
        with open(self.log, 'ab') as log:
            mark = log.tell()
            self.proc = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                         preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
        Share.live.add(self)
        wait_for('the mount of %s' % self.mnt, lambda: self.proc.poll() is not None or fuse_mounted(self.mnt))
        if self.proc.poll() is not None:
            code, self.proc = self.proc.returncode, None
            Share.live.discard(self)
            with open(self.log, 'rb') as log:
                log.seek(mark)
                raise harness.Refused(code, log.read().decode('utf-8', 'replace'))
        os.stat(self.mnt)
        return self

    def restart(self, *args):
        self.stop()
        return self.start(*args)

    # -- the control port

    def api(self, method, route, /, **body):
        c = UnixConnection(self.socket)
        try:
            c.request(method, route, json.dumps(body) if body else None, {'Content-Type': 'application/json'} if body else {})
            r = c.getresponse()
            text = r.read()
        finally:
            c.close()
        answer = json.loads(text) if text else None
        if r.status >= 400:
            raise ApiError(r.status, answer)
        return answer

    def advance(self, seconds=0):
        return self.api('POST', '/v1/clock/advance', seconds=seconds)

    def settle(self):
        """Moves time on until nothing is queued or under way."""
        return self.api('POST', '/v1/clock/settle')

    def file(self, path):
        return self.api('GET', '/v1/files/' + urllib.parse.quote(path))

    def is_now(self, path):
        return self.file(path)['state']

    def wait(self, path, state, timeout=10):
        return self.api('GET', '/v1/wait?' + urllib.parse.urlencode({'path': path, 'state': state, 'timeout': timeout}))

    def wait_callers(self, path, n=1):
        """Until n callers wait for the file."""
        wait_for('%d callers that wait for %s' % (n, path), lambda: self.file(path)['waiting'] >= n)

    def ask(self, what, path, **more):
        return self.api('POST', '/v1/files/' + what, path=path, **more)

    def fault(self, match=None, when=None, **do):
        rule = {'match': match or {}, 'do': do}
        if when:
            rule['when'] = when
        return self.api('POST', '/v1/faults', **rule)['id']

    def set(self, **settings):
        self.api('PATCH', '/v1/settings', **{k.replace('__', '.'): v for k, v in settings.items()})

    def journal(self, kind=None, path=None):
        out = []
        after = 0
        while True:
            page = self.api('GET', '/v1/journal?after=%d&limit=1000' % after)
            out += page['events']
            if not page['events']:
                break
            after = page['events'][-1]['seq']
        return [e for e in out if kind in (None, e['kind']) and path in (None, e.get('path'))]

    def states(self, path):
        """The states that it went through."""
        return [e['to'] for e in self.journal('state', '/' + path)]

    # -- doing things

    def put(self, name, data=b'one\n'):
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return harness.write_file(path, data)

    def archived(self, name, data=b'one\n', state='released'):
        """Written, and on tape. Its path."""
        path = self.put(name, data)
        self.settle()
        assert self.is_now(name) == state
        return path

    def blocks(self, name):
        return os.stat(os.path.join(self.data, name)).st_blocks


BIG = 3 << 20
OPENBIS_T_FLAG = "ls -l '%s' | awk '{printf substr($1,10,1)}'"	# MultiDataSetArchivingUtils.java, isTFlagSet


def noise(n, seed=1):
    out = b''
    block = hashlib.sha256(b'%d' % seed).digest()
    while len(out) < n:
        block = hashlib.sha256(block).digest()
        out += block * 64
    return out[:n]


def t_flag(path):
    return run('sh', '-c', OPENBIS_T_FLAG % path).out


def reader(path, program='cat'):
    """A program that reads the file, started."""
    return subprocess.Popen([program, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
