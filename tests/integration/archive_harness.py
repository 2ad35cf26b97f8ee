"""mockarchive for the tests: the fixture that users copy (scripts/mockarchive/), with the program that was built, and with every
answer of its control port held against the description that it serves itself (/openapi.json)."""
import json
import os
import re
import sys

import jsonschema
import pytest

import harness
from harness import ROOT, WORMFS

sys.path.insert(0, os.path.join(ROOT, 'scripts/mockarchive'))
from pytest_mockarchive import Mockarchive, MockarchiveError, _Connection		# noqa: E402: found through the line above

MOCKARCHIVE = os.path.abspath(os.environ.get('MOCKARCHIVE', os.path.join(os.path.dirname(WORMFS), 'mockarchive')))
os.environ['MOCKARCHIVE'] = MOCKARCHIVE
with open(os.path.join(ROOT, 'mockarchive/web/openapi.json')) as f:
    OPENAPI = json.load(f)
PATTERNS = []
for template in OPENAPI['paths']:
    # The last parameter may have slashes in it, as paths have.
    pattern = re.sub(r'\\{[^/]*\\}', '[^/]+', re.escape(template))
    if template.endswith('{path}'):
        pattern = pattern[:-len('[^/]+')] + '.+'
    PATTERNS.append((re.compile(pattern + '/?'), template))
PATTERNS.sort(key=lambda p: '{' in p[1])


def described_as(method, path):
    path = path.split('?')[0]
    for pattern, template in PATTERNS:
        if pattern.fullmatch(path):
            return template
    return None


def check_answer(method, path, status, kind, text):
    """Fails unless the answer is one that the description has."""
    template = described_as(method, path)
    if template is None:
        return
    operation = OPENAPI['paths'][template].get(method.lower())
    if operation is None:
        assert status in (404, 405), '%s %s is described nowhere and answered with %d' % (method, path, status)
        return
    answer = operation['responses'].get(str(status))
    if answer is None:
        assert status >= 400, '%s %s: the description has no %d' % (method, path, status)
        answer = operation['responses']['default']
    if 'content' not in answer:
        assert not text, '%s %s: a body that is not described: %r' % (method, path, text)
        return
    if not text and '204' in operation['responses'] and status == 204:
        return
    (wanted, content), = answer['content'].items()
    assert kind == wanted, '%s %s: %s instead of %s' % (method, path, kind, wanted)
    if wanted.endswith('json'):
        schema = dict(content['schema'], components=OPENAPI['components'])
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


class Checked(Mockarchive):
    def __init__(self, *options, **kwargs):
        # It does not outlive the test run.
        super().__init__(*options, program=MOCKARCHIVE, prefix=['setpriv', '--pdeathsig', 'TERM'], **kwargs)

    # What harness.Watchdog looks at, when a test hangs.
    proc = property(lambda self: self.process)
    mnt = property(lambda self: self.mount)

    def start(self, deadline_s=30):
        harness.Share.live.add(self)
        return super().start(deadline_s)

    def raw(self, method, path, body=None, headers=(), timeout=60):
        """(status, headers, bytes), whatever it is; checked all the same. body: bytes, or what becomes JSON."""
        connection = _Connection(self.socket, timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, body=data, headers=dict(headers))
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        if method != 'HEAD':
            check_answer(method, path, reply.status, reply.headers.get_content_type(), text)
        return reply.status, reply.headers, text

    def request(self, method, path, body=None, timeout=60):
        status, headers, text = self.raw(method, path, body, timeout=timeout)
        answer = json.loads(text) if text and headers.get_content_type().endswith('json') else text.decode(errors='replace')
        if status >= 400:
            raise MockarchiveError(status, answer)
        return answer

    def status_of(self, method, path, body=None, headers=()):
        return self.raw(method, path, body, headers)[0]

    def stop(self, deadline_s=30):
        harness.Share.live.discard(self)
        log = self.log_text() if os.path.exists(self.log) else ''
        status = super().stop(deadline_s)
        assert status in (0, None), 'it ended with %s:\n%s' % (status, log)
        bad = [line for line in log.splitlines() if ': error: ' in line or 'ERROR: ' in line or 'runtime error' in line]
        assert not bad, 'unexpected lines in the log:\n' + '\n'.join(bad)
        return status

    def archived(self, name, data=b'some bytes'):
        """A file that is on tape only. Its path."""
        path = self.write(name, data)
        self.settle()
        assert self.state(path) == 'released'
        return path


def read_errno(path):
    """'OK', or the name of the errno that reading the whole file ended with."""
    def go():
        with open(path, 'rb', buffering=0) as file:
            while file.read(1 << 20):
                pass
    return harness.errno_of(go)


@pytest.fixture
def start():
    """Makes archives, as Checked() does, and ends them."""
    archives = []

    def go(*options, **kwargs):
        archive = Checked(*options, **kwargs)
        archives.append(archive)
        return archive.start()
    yield go
    for archive in reversed(archives):
        archive.stop()


@pytest.fixture(scope='module')
def shared():
    """One archive for a module. Tests that use it begin with everything as at the start: see `archive`."""
    with Checked() as archive:
        yield archive


@pytest.fixture
def archive(shared):
    shared.post('/v1/reset')
    shared.request('PATCH', '/v1/clock', {'mode': 'manual'})
    return shared
