"""pytest fixture: a tape archive of one's own for each test. Copy this file beside your tests, or install it, and say in conftest.py

    from pytest_mockarchive import mockarchive, mockarchive_options

Then a test has `mockarchive`: its .mount is a directory whose files go to "tape" when they are closed, time stands still until
.advance() or .settle(), and .fault() makes things go wrong for as long as a `with` lasts. Only Python's own library is needed, and
the program `mockarchive` in $PATH or in $MOCKARCHIVE.

    def test_we_wait_for_the_tape(mockarchive):
        path = mockarchive.write('run1/data', b'one')
        mockarchive.settle()                                    # archived, and gone from disk
        with mockarchive.fault(op='read', errno='EIO', first=2) as fault:
            assert our_reader(path) == b'one'                   # which has to try again
        assert fault.hits == 2
"""
import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

import pytest

MATCH = {'path', 'regex', 'op', 'phase', 'uid', 'pid', 'comm', 'copy', 'min_size', 'max_size'}
WHEN = {'probability', 'seed', 'first', 'after', 'every', 'from', 'until', 'offset', 'length'}
WHOLE = {'id', 'note', 'enabled', 'ttl'}


class MockarchiveError(Exception):
    """An answer that is an error: .status, and .problem as the server sent it (RFC 7807)."""
    def __init__(self, status, problem):
        super().__init__('%s: %s' % (status, problem.get('detail') if isinstance(problem, dict) else problem))
        self.status, self.problem = status, problem
        self.errno = problem.get('errno') if isinstance(problem, dict) else None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('localhost', timeout=timeout)
        self.socket_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.socket_path)


class Fault:
    """A rule that is switched on; see Mockarchive.fault()."""
    def __init__(self, archive, rule):
        self.archive, self.id, self._last = archive, rule['id'], rule

    def get(self):
        self._last = self.archive.get('/v1/faults/' + self.id)
        return self._last

    @property
    def hits(self):
        with contextlib.suppress(MockarchiveError):		# removed: as it was then
            self.get()
        return self._last['hits']

    def wait(self, hits=1, timeout=10):
        """Waits until it has fired so often."""
        self._last = self.archive.get('/v1/wait?fault=%s&hits=%d&timeout=%d' % (self.id, hits, timeout))

    def change(self, **fields):
        self._last = self.archive.request('PATCH', '/v1/faults/' + self.id, fields)

    def clear(self):
        with contextlib.suppress(MockarchiveError):
            self.get()
            self.archive.request('DELETE', '/v1/faults/' + self.id)


class Mockarchive:
    """A running mockarchive. options: as on its command line. By default its clock stands still (clock='manual')."""
    def __init__(self, *options, program=None, directory=None, clock='manual', prefix=()):
        self.program = program or os.environ.get('MOCKARCHIVE') or 'mockarchive'
        self.directory = directory or tempfile.mkdtemp(prefix='mockarchive.')
        self.keep = directory is not None
        self.mount, self.store, self.replica = (os.path.join(self.directory, name) for name in ('final', 'store', 'replica'))
        for path in (self.mount, self.store, self.replica):
            os.makedirs(path, exist_ok=True)
        # A socket's name must be short, whatever the directory's is.
        self.run_directory = tempfile.mkdtemp(prefix='mockarchive.')
        self.socket = os.path.join(self.run_directory, 'http')
        self.log = os.path.join(self.run_directory, 'log')
        self.options, self.clock, self.prefix = list(options), clock, list(prefix)
        self.process = None

    # ---- life ----

    def start(self, deadline_s=30):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                self.prefix + [self.program, self.mount, '--store', self.store, '--replica', self.replica, '--http', 'unix:' + self.socket,
                               '--http', '127.0.0.1:0', '--clock', self.clock, '--foreground'] + self.options,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ, MOCKARCHIVE_RUN_DIR=self.run_directory))
        end = time.monotonic() + deadline_s
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, MockarchiveError):	# 503: not mounted yet
                if self.get('/healthz')['status'] == 'ok':
                    break
            if self.process.poll() is not None:
                raise RuntimeError('mockarchive ended with %s:\n%s' % (self.process.returncode, self.log_text()))
            if time.monotonic() > end:
                self.kill()
                raise RuntimeError('mockarchive does not answer:\n' + self.log_text())
            time.sleep(0.005)
        self.url = 'http://' + next(a for a in self.get('/v1/state')['http'] if not a.startswith('unix:'))
        return self

    def kill(self, number=signal.SIGKILL):
        """Ends it the hard way; the mount is taken away, store and replica stay, and start() goes on with them."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait()
            self.process = None
        subprocess.run(['fusermount3', '-uzq', self.mount], stderr=subprocess.DEVNULL, check=False)

    def stop(self, deadline_s=30):
        """Ends it, and takes its directories away. Its exit status."""
        status = None
        if self.process:
            with contextlib.suppress(OSError, http.client.HTTPException, MockarchiveError):
                self.request('DELETE', '/v1/faults')		# who hangs in one can go
            self.process.send_signal(signal.SIGTERM)
            try:
                status = self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None
        subprocess.run(['fusermount3', '-uzq', self.mount], stderr=subprocess.DEVNULL, check=False)
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.run_directory, ignore_errors=True)
        return status

    def log_text(self):
        with open(self.log, errors='replace') as log:
            return log.read()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # ---- requests ----

    def request(self, method, path, body=None, timeout=60):
        """The answer, from JSON where it is that. An error is a MockarchiveError."""
        connection = _Connection(self.socket, timeout)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body), headers={'Content-Type': 'application/json'})
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        kind = reply.headers.get_content_type()
        answer = json.loads(text) if text and kind.endswith('json') else text.decode(errors='replace')
        if reply.status >= 400:
            raise MockarchiveError(reply.status, answer)
        return answer

    def get(self, path, timeout=60):
        return self.request('GET', path, timeout=timeout)

    def post(self, path, body=None, timeout=60):
        return self.request('POST', path, {} if body is None else body, timeout=timeout)

    # ---- files ----

    def name(self, path):
        """A path of the mount, as the archive knows it."""
        path = os.fspath(path)
        return path[len(self.mount):] if path.startswith(self.mount + '/') else path

    def path(self, name):
        return os.path.join(self.mount, name.lstrip('/'))

    def write(self, name, data=b''):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as out:
            out.write(data)
        return path

    def file(self, path):
        """All that the archive knows of it: 'state', 'copies', 'flag'..."""
        return self.get('/v1/files/' + urllib.parse.quote(self.name(path).lstrip('/')))

    def state(self, path):
        return self.file(path)['state']

    def act(self, order, path, **fields):
        """'archive', 'release', 'recall', 'evict', 'cancel', 'pin', 'lose', 'damage', 'corrupt', 'unavailable', 'mend' or 'delete'."""
        name = self.name(path)
        try:
            name.encode()
        except UnicodeEncodeError:
            return self.post('/v1/files/' + order, dict(fields, path_b64=base64.b64encode(os.fsencode(name)).decode()))
        return self.post('/v1/files/' + order, dict(fields, path=name))

    def wait(self, path, *states, timeout=10, waiting=0):
        """Waits, in real time, until the file is in one of these states, or has so many callers waiting."""
        return self.get('/v1/wait?path=%s&state=%s&waiting=%d&timeout=%d' % (
            urllib.parse.quote(self.name(path)), ','.join(states), waiting, timeout), timeout=timeout + 10)

    # ---- time ----

    def advance(self, seconds):
        """Moves the archive's time on; what is due is done when it returns."""
        return self.post('/v1/clock/advance', {'seconds': seconds}, timeout=300)

    def settle(self):
        """Likewise, until nothing is under way."""
        return self.post('/v1/clock/settle', {}, timeout=300)

    # ---- faults ----

    @contextlib.contextmanager
    def fault(self, **fields):
        """A rule for as long as the `with` lasts: fault(op='read', path='*.dat', errno='EIO', first=3). Keys go where they belong;
        all others are what it does. yields a Fault."""
        rule = {'match': {}, 'when': {}, 'do': {}}
        for key, value in fields.items():
            key = 'from' if key == 'from_' else key
            if key in WHOLE:
                rule[key] = value
            else:
                rule['match' if key in MATCH else 'when' if key in WHEN else 'do'][key] = value
        fault = Fault(self, self.post('/v1/faults', rule))
        try:
            yield fault
        finally:
            fault.clear()

    def journal(self, after=0):
        events = []
        while True:
            answer = self.get('/v1/journal?after=%d' % after)
            if not answer['events']:
                return events
            events += answer['events']
            after = answer['last']


@pytest.fixture
def mockarchive_options():
    """Override it to start with other options: `return ['--profile', 'lustre']`."""
    return []


@pytest.fixture
def mockarchive(mockarchive_options):
    archive = Mockarchive(*mockarchive_options)
    try:
        yield archive.start()
    finally:
        archive.stop()
