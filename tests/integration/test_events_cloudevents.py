"""Events as CloudEvents over HTTP POST: valid by the rules of CloudEvents 1.0 and its JSON format, each delivered, in order, also
when the receiver or the daemon dies. The rules are written out here, and the SDK of CloudEvents for Node.js (scripts/setup.sh test gets it) parses them, too."""
import base64
import contextlib
import http.server
import json
import os
import re
import socket
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from harness import ROOT, WORMCTL, Refused, run, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)
ALLOWED = 'not delivered|refused again'


class Receiver:
    """Answers with the statuses of `answers`, then 204; keeps what it acknowledged."""
    def __init__(self, port=0, answers=(), silent=False, limit=0, poison=None, poison_status=400):
        self.requests, self.events, self.types, self.answers, self.lock = 0, [], set(), list(answers), threading.Lock()
        self.silent, self.limit, self.poison, self.released, self.headers = silent, limit, poison, threading.Event(), []
        self.poison_status, self.refused = poison_status, []
        self.connections, receiver = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def setup(self):
                super().setup()
                receiver.connections.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers['Content-Length']))
                status, headers = receiver.take(self, body)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for header in headers:
                        self.send_header(*header)
                    self.send_header('Content-Length', '0')
                    self.end_headers()

            def do_GET(self):		# what a POST becomes that follows a redirect
                receiver.requests += 1
                self.send_error(405)

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def take(self, request, body):
        kind = request.headers['Content-Type'].split(';')[0].strip()
        events = json.loads(body.decode('utf-8'))
        events = events if kind == 'application/cloudevents-batch+json' else [events]
        if self.silent:
            self.released.wait(30)
        with self.lock:
            self.requests += 1
            self.types.add(kind)
            self.headers.append(dict(request.headers))
            if self.answers:
                return self.answers.pop(0)
            if self.limit and len(events) > self.limit:
                return 413, ()
            if self.poison and any(e.get('subject') == self.poison for e in events):
                self.refused.append((time.monotonic(), [e['id'] for e in events]))
                return self.poison_status, ()
            self.events += events
            return 204, ()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        for connection in self.connections:	# kept alive, as by a process they end with it
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def receiver():
    made = []

    def make(**kwargs):
        made.append(Receiver(**kwargs))
        return made[-1]
    yield make
    for one in made:
        one.close()


def start(mount, port, kind='cloudevents', options=''):
    share = mount('commit=never', start=False)
    share.allowed.append(ALLOWED)
    share.start('commit=never,audit=off,events=%s:http://127.0.0.1:%d/in%s' % (kind, port, options))
    return share


def numbers(events):
    return [int(e['id']) for e in events]


def last_number(share):
    share.must('sync')
    return json.loads(run(WORMCTL, 'events', 'stats', '--json', '--state-dir', share.state).out)['next'] - 1


def check_cloudevent(event):
    """CloudEvents 1.0.2: required attributes, their types and names (3), and the JSON format (3, 3.1)."""
    for name in ('id', 'source', 'specversion', 'type'):
        assert isinstance(event[name], str) and event[name]
    assert event['specversion'] == '1.0'
    assert re.fullmatch(r'[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&\'()*+,;=%-]*', event['source'])
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)', event['time'])
    assert event['datacontenttype'] == 'application/json'
    assert not ('data' in event and 'data_base64' in event)
    for name, value in event.items():
        if name == 'data':
            continue
        assert re.fullmatch(r'[a-z0-9]{1,20}', name) or name in ('specversion', 'datacontenttype'), name
        assert isinstance(value, (str, bool, int)) and value != ''
        if isinstance(value, str):
            assert not re.search('[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]', value)
    assert event['type'] == 'wormfs.' + event['data']['Event']['Type'] and event['data']['Seq'] == int(event['id'])
    assert event['sequence'] == '%020d' % int(event['id'])


SDK = os.path.join(ROOT, 'build', 'cloudevents', 'node_modules')


@contextlib.contextmanager
def sdk_receiver():
    """Its port, and the events as the SDK of CloudEvents gives them, as they come."""
    if not shutil.which('node') or not os.path.isdir(os.path.join(SDK, 'cloudevents')):
        pytest.skip('the SDK of CloudEvents is not there: scripts/setup.sh test --retry gets it where npm can')
    got = []
    proc = subprocess.Popen(['node', os.path.join(ROOT, 'tests/integration/tools/cloudevents/receiver.js')], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            env={**os.environ, 'NODE_PATH': SDK})
    port = int(proc.stdout.readline())
    reader = threading.Thread(target=lambda: got.extend(json.loads(line) for line in proc.stdout))
    reader.start()
    try:
        yield port, got
    finally:
        proc.kill()
        proc.wait()
        reader.join()
        proc.stdout.close()


@pytest.mark.parametrize('kind', ['cloudevents', 'cloudevents-batch'])
def test_the_SDK_of_cloudevents_parses_and_validates_every_event(mount, kind):
    with sdk_receiver() as (port, got):
        share = start(mount, port, kind)
        names = [b'plain', b'new\nline', b'"q\\"', b'\xff\xfe', 'größe 😀'.encode()]
        for name in names:
            os.mkdir(os.path.join(os.fsencode(share.at()), name))
            os.rmdir(os.path.join(os.fsencode(share.at()), name))
        last = last_number(share)
        wait_for('all of them', lambda: len(got) >= last or any('error' in e for e in got))
        assert [e for e in got if 'error' in e] == [] and numbers(got) == list(range(1, last + 1))
        for event in got:
            check_cloudevent(event)
        assert [e.get('subject') for e in got if e['type'] == 'wormfs.MKdir'] == ['/plain', None, '/"q\\"', None, '/größe 😀']
        share.stop()


@pytest.mark.parametrize('kind, media', [('cloudevents', 'application/cloudevents+json'),
                                         ('cloudevents-batch', 'application/cloudevents-batch+json')])
def test_each_event_is_a_valid_cloudevent_in_order(mount, receiver, kind, media):
    there = receiver()
    share = start(mount, there.port, kind)
    names = [b'plain', b'new\nline', b'"q\\"', b'\xff\xfe', 'größe 😀'.encode(), b'\x7f', '\x85'.encode(), '\ufffe'.encode(), '\U0001ffff'.encode(), b'x' * 255]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(share.at()), name))
    last = last_number(share)
    wait_for('all of them', lambda: len(there.events) >= last)
    assert numbers(there.events) == list(range(1, last + 1)) and there.types == {media}
    for event in there.events:
        check_cloudevent(event)
    made = [e for e in there.events if e['type'] == 'wormfs.MKdir']
    exact = [base64.b64decode(e['data']['Event']['PathBase64']) if 'PathBase64' in e['data']['Event'] else e['data']['Event']['Path'].encode()
             for e in made]
    assert exact == [b'/' + n for n in names]
    assert [e.get('subject') for e in made] == ['/plain', None, '/"q\\"', None, '/größe 😀', None, None, None, None, '/' + 'x' * 255]
    assert {e['source'] for e in there.events} == {made[0]['source']} and made[0]['source'].endswith(share.share)
    if kind == 'cloudevents-batch':
        assert there.requests < last


@pytest.mark.parametrize('kind', ['cloudevents', 'cloudevents-batch'])
def test_receiver_and_daemon_may_die_and_nothing_is_lost(mount, receiver, kind):
    there = receiver()
    share = start(mount, there.port, kind)
    got, made = [], 0

    def make(n):
        nonlocal made
        for _ in range(n):
            os.mkdir(share.at('d%d' % made))
            made += 1
    make(50)
    wait_for('the first', lambda: len(there.events) >= 20)
    there.close()			# in the middle
    make(50)
    problems = lambda: [p for p in share.info()['problems'] if 'events do not reach' in p]
    wait_for('the status to say so', problems)
    assert 'Connection refused' in problems()[0]
    share.stop()			# while nobody is there
    got += there.events
    again = receiver(port=there.port, answers=[(503, [('Retry-After', '1')]), (500, ())])
    share.start()
    make(30)
    share.kill9()
    share.start()
    make(1)
    last = last_number(share)
    wait_for('the rest', lambda: again.events and int(again.events[-1]['id']) >= last)
    got += again.events
    seen, following, repeats = set(), 1, 0
    for event in got:
        n = int(event['id'])
        assert n <= following, 'lost: %d to %d' % (following, n - 1)
        repeats += n in seen
        seen.add(n)
        if n == following:
            following += event['data']['Event'].get('Lost', 1)
    assert following == last + 1
    assert repeats <= (2 if kind == 'cloudevents' else 200)	# what was on its way when one of them died
    wait_for('the status to be clean', lambda: not problems())


def test_a_receiver_that_does_not_answer_holds_up_nobody(mount, receiver):
    there = receiver(silent=True)
    share = start(mount, there.port)
    os.mkdir(share.at('first'))
    begin = time.monotonic()
    for n in range(2000):
        os.mkdir(share.at(str(n)))
    assert time.monotonic() - begin < 10
    begin = time.monotonic()
    share.stop()			# and not the unmount
    assert time.monotonic() - begin < 8
    assert there.events == []


def test_too_large_a_batch_is_sent_in_parts_and_a_poisonous_event_is_passed_over_and_counted(mount, receiver):
    there = receiver(limit=7, poison='/bad')
    share = start(mount, there.port, 'cloudevents-batch')
    for name in ['a%d' % n for n in range(40)] + ['bad'] + ['b%d' % n for n in range(40)]:
        os.mkdir(share.at(name))
    last = last_number(share)
    wait_for('all but one', lambda: there.events and int(there.events[-1]['id']) == last, 60)
    want = [n for n in range(1, last + 1)]
    got = numbers(there.events)
    missing = sorted(set(want) - set(got))
    assert got == sorted(got) and len(missing) == 1
    sink = share.info()['events']['sinks'][0]
    assert sink['dropped'] == 1 and sink['error'] is None


@pytest.mark.parametrize('status', [413, 422])
def test_a_single_event_that_is_refused_as_it_is_four_times_is_passed_over_and_the_rest_comes(mount, receiver, status):
    there = receiver(poison='/bad', poison_status=status)
    share = start(mount, there.port)
    for name in ('a', 'bad', 'b'):
        os.mkdir(share.at(name))
    last = last_number(share)
    wait_for('all but one', lambda: there.events and int(there.events[-1]['id']) == last)
    bad = {ids[0] for _, ids in there.refused}
    assert len(there.refused) == 4 and len(bad) == 1
    assert numbers(there.events) == [n for n in range(1, last + 1) if str(n) not in bad]
    times = [at for at, _ in there.refused]
    for pause, want in zip([b - a for a, b in zip(times, times[1:])], (0.5, 1, 2)):
        assert want * 0.75 - 0.02 <= pause		# how much later depends on the machine
    sink = share.info()['events']['sinks'][0]
    assert sink['dropped'] == 1 and sink['error'] is None
    assert 'passed over and counted' in share.log_text()


def test_other_statuses_are_never_a_reason_to_pass_an_event_over(mount, receiver):
    answers = [(status, [('Retry-After', '1')] if status == 503 else []) for status in (503, 404, 500)]
    there = receiver(answers=answers)
    share = start(mount, there.port)
    begin = time.monotonic()
    last = last_number(share)
    wait_for('all of them', lambda: len(there.events) >= last)
    assert time.monotonic() - begin > 0.9		# as Retry-After said: more than the half second that it would have been
    assert numbers(there.events) == list(range(1, last + 1))
    assert share.info()['events']['sinks'][0]['dropped'] == 0


def test_who_we_are_is_read_from_a_file(mount, receiver, tmp_path):
    there = receiver()
    secret = tmp_path / 'secret'
    secret.write_text('token = s3cr3t\n')
    secret.chmod(0o644)
    with pytest.raises(Refused, match='others can read|events_credentials'):
        start(mount, there.port, options=',events_credentials=%s' % secret)
    secret.chmod(0o600)
    share = start(mount, there.port, options=',events_credentials=%s' % secret)
    os.mkdir(share.at('a'))
    wait_for('an event', lambda: there.events)
    assert there.headers[0]['Authorization'] == 'Bearer s3cr3t'
    assert 's3cr3t' not in share.log_text()


@pytest.mark.parametrize('status', [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_what_happens_here_is_told_nobody_else(mount, receiver, tmp_path, status):
    elsewhere = receiver()
    there = receiver(answers=[(status, [('Location', 'http://127.0.0.1:%d/in' % elsewhere.port)])])
    secret = tmp_path / 'secret'
    secret.write_text('token = s3cr3t\n')
    secret.chmod(0o600)
    share = start(mount, there.port, options=',events_credentials=%s' % secret)
    os.mkdir(share.at('a'))
    last = last_number(share)
    wait_for('all of them', lambda: len(there.events) >= last)
    assert numbers(there.events) == list(range(1, last + 1)) and there.requests == last + 1
    share.stop()
    assert elsewhere.requests == 0


@pytest.mark.parametrize('where', ['ftp://h/x', 'http://user:pw@127.0.0.1/', 'nothing', '', 'http://h/' + 'x' * 120])
def test_a_wrong_url_is_refused(mount, where):
    with pytest.raises(Refused, match='cannot use'):
        mount('events=cloudevents:' + where)


def test_https_is_verified_and_plain_http_stays_on_this_machine(mount, tmp_path, receiver):
    there = receiver()
    key, cert = str(tmp_path / 'key'), str(tmp_path / 'cert')
    run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert,
        '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    there.server.socket = context.wrap_socket(there.server.socket, server_side=True)
    share = mount('commit=never', start=False)
    share.allowed.append(ALLOWED)
    options = 'commit=never,events=cloudevents:https://127.0.0.1:%d/' % there.port
    share.start(options + ',events=cloudevents:http://192.0.2.1/')
    errors = lambda: [s['error'] for s in share.info()['events']['sinks']]
    wait_for('both to fail', lambda: all(errors()))
    assert errors() == ['EKEYREJECTED', 'ECONNREFUSED'] and there.events == []
    share.stop()
    share.start(options + ',events_ca=' + cert)
    wait_for('an event', lambda: there.events)
