"""mockqumulo for tests: starts it on a free port, and speaks to it over HTTP as a test wants. It is ended with the test, also
when the test fails; `mockqumulo` is the fixture (conftest.py)."""
import http.client
import json
import os
import selectors
import signal
import ssl
import subprocess
import time
import urllib.parse

import harness

MOCKQUMULO = os.environ.get('MOCKQUMULO') or os.path.join(os.path.dirname(harness.WORMFS), 'mockqumulo')
START_S = 30
END_S = 30


def ref(path):
    """A path as the interface names it: one segment, every slash as %2F."""
    return urllib.parse.quote(path, safe='')


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error_class(self):
        return self.json.get('error_class')

    def __repr__(self):
        return '<%d %r>' % (self.status, self.body[:300])


class MockQumulo:
    """tree: a directory, None for one in memory. Attributes: url, ca_file (None: plain HTTP), token_file, token, user,
    password_file, password, tree, port."""
    def __init__(self, *options, tree=None, http=False, log=None):
        self.log = log or subprocess.DEVNULL
        args = [MOCKQUMULO] + (['--tree', tree] if tree else []) + (['--http'] if http else []) + list(options)
        self.args = args
        self.connection = None
        self.proc = None
        self.start()

    def start(self):
        err = open(self.log, 'a') if isinstance(self.log, str) else self.log
        self.proc = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err)
        said = self.read_start()
        self.url, self.tree, self.user = said.get('url'), said['tree'], said['user']
        self.socket = said.get('socket')
        self.ca_file, self.token_file, self.password_file = said.get('ca-file'), said['token-file'], said['password-file']
        self.token = open(self.token_file).read().strip()
        self.password = open(self.password_file).read().strip()
        if self.url:
            parts = urllib.parse.urlsplit(self.url)
            self.host, self.port = parts.hostname, parts.port

    def read_start(self):
        """What it says until the empty line."""
        text, deadline = b'', time.monotonic() + START_S
        with selectors.DefaultSelector() as sel:
            sel.register(self.proc.stdout, selectors.EVENT_READ)
            while not text.endswith(b'\n\n'):
                if not sel.select(deadline - time.monotonic()):
                    self.end()
                    raise AssertionError('mockqumulo does not start: %r' % text)
                piece = os.read(self.proc.stdout.fileno(), 4096)
                if not piece:
                    raise AssertionError('mockqumulo ended with %d: %r' % (self.proc.wait(END_S), text))
                text += piece
        return dict(line.split(' ', 1) for line in text.decode().splitlines() if ' ' in line)

    def end(self):
        """Ends it as an administrator would, and checks that it went well."""
        if self.proc is None:
            return
        proc, self.proc = self.proc, None
        self.close()
        if proc.poll() is None:
            proc.send_signal(signal.SIGTERM)
        try:
            code = proc.wait(END_S)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()
            raise
        finally:
            proc.stdout.close()
        assert code == 0, 'mockqumulo ended with %d' % code

    def kill(self):
        proc, self.proc = self.proc, None
        self.close()
        proc.kill()
        proc.wait(END_S)
        proc.stdout.close()

    # ---- speaking to it ----

    def connect(self, timeout=60):
        if self.ca_file:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout,
                                               context=ssl.create_default_context(cafile=self.ca_file))
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def request(self, method, target, body=None, token='', headers=(), connection=None):
        """token '': the access token; None: no such header. body: bytes, or what becomes JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        head = dict(headers)
        if token is not None:
            head['Authorization'] = 'Bearer ' + (token or self.token)
        if body is not None:
            head.setdefault('Content-Type', 'application/json')
        if connection is None:
            if self.connection is None:
                self.connection = self.connect()
            connection = self.connection
        try:
            connection.request(method, target, body=body, headers=head)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException):
            self.close()
            connection.close()
            raise

    def get(self, target, **kwargs):
        return self.request('GET', target, **kwargs)

    def login(self):
        reply = self.request('POST', '/v1/session/login', {'username': self.user, 'password': self.password}, token=None)
        assert reply.status == 200, reply
        return reply.json['bearer_token']

    def attributes(self, path, lock=True, **kwargs):
        return self.get('/v1/files/%s/info/attributes%s' % (ref(path), '?retrieve-file-lock=true' if lock else ''), **kwargs)

    def lock(self, path, headers=(), **change):
        return self.request('PATCH', '/v1/files/%s/file-lock' % ref(path), change, headers=headers)

    def entries(self, path, query=''):
        return self.get('/v1/files/%s/entries/%s' % (ref(path), query))

    def make(self, directory, name, action='CREATE_FILE', **more):
        return self.request('POST', '/v1/files/%s/entries/' % ref(directory), dict(name=name, action=action, **more))

    # ---- the stand-in itself ----

    def control(self, method, what, body=None):
        reply = self.request(method, '/mock/' + what, body, token=None)
        assert reply.status == 200, reply
        return reply.json

    def switch(self, **values):
        """switch(latency_ms=5, same_end='409:fs_already_read_only_error')"""
        return self.control('PUT', 'switches', {name.replace('_', '-'): value for name, value in values.items()})

    def clock(self, **change):
        """clock() tells; clock(advance_s=60), clock(now='2030-01-01T00:00:00Z'), clock(frozen=True), clock(wall=True) set."""
        return self.control('PUT', 'clock', change) if change else self.control('GET', 'clock')

    def fault(self, kind, **spec):
        """fault('503', times=2, method='PATCH', path='*/file-lock', retry_after=1); returns its id."""
        return self.control('POST', 'faults', dict(kind=kind, **spec))['id']

    def faults(self):
        return self.control('GET', 'faults')

    def clear_faults(self):
        self.control('DELETE', 'faults')

    def journal(self, method=None, path=None, since=0):
        """Requests since the last reset: dicts of number, time, connection, status, method, path (raw), query, headers, body (text)."""
        query = '&'.join(filter(None, ['since=%d' % since, method and 'method=' + method, path and 'path=' + ref(path)]))
        return self.control('GET', 'journal?' + query)['requests']

    def reset_journal(self):
        self.control('DELETE', 'journal')

    def counts(self):
        """{'PATCH /v1/files/{ref}/file-lock 200': 3, ...} since the last reset of the journal."""
        return self.control('GET', 'counts')

    def locks(self):
        """{path: {'legal_hold': ..., 'retention_period': ...}}"""
        return {entry['path']: entry['lock'] for entry in self.control('GET', 'locks')}

    def expire_sessions(self, tokens=False):
        self.control('DELETE', 'sessions' + ('?tokens=true' if tokens else ''))
