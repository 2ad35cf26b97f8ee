"""wormctl serve: the page in a real browser, the metrics as Prometheus' own programs read them, and who may look."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import browser
from browser import Browser
from harness import ALICE, ROOT, WORMCTL, as_user, daemon_environment, errno_of, need_program, read_file, run, wait_for, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)

TOKEN = 'a-token-for-the-tests-0123456789'
HEADERS = {'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer'}


class Serve:
    def __init__(self, share, *options):
        self.share = share
        self.process = subprocess.Popen(['setpriv', '--pdeathsig', 'TERM', WORMCTL, 'serve', '--state-dir', share.state, *options],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=daemon_environment())
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.stderr.read()
        self.host, _, rest = self.url[len('http://'):].partition('/')
        self.token = rest.partition('#token=')[2] or TOKEN

    def ask(self, path, method='GET', token='', host=None, body=None):
        """(status, headers, bytes). token '': ours; None: none."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader('Host', host or self.host)
            if token is not None:
                connection.putheader('Authorization', 'Bearer ' + (token or self.token))
            if body is not None:
                connection.putheader('Content-Length', str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def status(self, path, **kwargs):
        return self.ask(path, **kwargs)[0]

    def json(self, path):
        status, _, data = self.ask(path)
        assert status == 200, data
        return json.loads(data)

    def state(self):
        return self.json('/api/state')

    def wait(self, what, condition):
        return wait_for(what, lambda: condition(self.state()))

    def events(self, after=None):
        return self.json('/api/events' + ('' if after is None else '?after=%d' % after))

    def end(self, signum=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=30)
        assert (self.process.returncode, out, err) == (0, '', '')


@pytest.fixture
def serve(mount):
    """After the share's fixture, so that it ends before it."""
    running = []

    def start(share, *options):
        running.append(Serve(share, *options))
        return running[-1]
    yield start
    for one in running:
        one.end()


@pytest.fixture(scope='module')
def chromium():
    if not browser.CHROMIUM:
        pytest.skip('needs chromium, which scripts/setup.sh test installs')
    b = Browser()
    yield b
    b.close()


def metrics_of(text):
    """{name: {labels: value}}, read by Prometheus' own parser."""
    parser = pytest.importorskip('prometheus_client.parser', reason='needs python3-prometheus-client')
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation and family.type in ('counter', 'gauge'), family
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {})
            found[sample.name][labels] = sample.value
    return found


# ---- the page -----------------------------------------------------------------------------------

def test_the_page_shows_what_happens_in_a_browser_and_asks_nobody_else(mount, serve, chromium, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[invoices]\npath = /invoices/\nretention = 10d\n\n[default]\nretention = infinite\n')
    share = mount('events=on,rules=%s' % rules)
    os.mkdir(share.at('invoices'))
    share.lock('invoices/<b>bold')
    share.lock('other')
    s = serve(share)
    chromium.events.clear()
    chromium.open(s.url)
    chromium.wait('document.body.dataset.ready')
    assert s.token not in chromium.evaluate('location.href')
    text = 'document.querySelector(%r).textContent'
    assert chromium.evaluate('document.body.dataset.daemon') == 'mounted'
    chromium.wait('document.querySelector(\'[data-rule="invoices"] .number\').textContent === "1"')
    chromium.wait('document.querySelector(\'[data-end="no end"] .number\').textContent === "1"')
    until = share.explain('invoices/<b>bold')['until']
    assert chromium.evaluate('[...document.querySelectorAll("#days .some")].map(e => e.dataset.day)') == [until[:10]]
    chromium.wait('[...document.querySelectorAll("#events td")].some(e => e.textContent === "/invoices/<b>bold")')
    assert chromium.evaluate('document.querySelectorAll("#events b").length') == 0
    assert chromium.evaluate('document.querySelector("#push").dataset.state') == 'off'
    assert chromium.evaluate('document.querySelector("#clock").dataset.state') == 'ok'
    # live: a refusal comes while somebody looks
    assert errno_of(os.unlink, share.at('other')) == 'EPERM'
    chromium.wait('document.querySelector("#events tr.refused[data-type=Unlink]")')
    chromium.wait('document.querySelectorAll("#refusals .some").length === 1 && ' + text % '#refused-hour' + '.startsWith("1 ")')
    share.stop()
    chromium.wait('document.body.dataset.daemon === "not mounted" && ' + text % '#daemon' + '.includes("nothing is enforced")')
    assert chromium.evaluate('document.querySelector(\'[data-rule="default"] .number\').textContent') == '1'
    assert chromium.complaints() == []
    assert [u for u in chromium.requests() if not u.startswith(('http://%s/' % s.host, 'data:'))] == []
    assert not [u for u in chromium.requests() if s.token in u]


def test_without_the_token_the_page_asks_for_it_and_shows_nothing(wormfs, serve, chromium):
    s = serve(wormfs)
    chromium.open('http://localhost:%s/' % s.host.split(':')[1])
    chromium.wait('!document.querySelector("#ask").hidden')
    assert wormfs.mnt not in chromium.evaluate('document.body.innerText')
    chromium.evaluate('document.querySelector("#token").value = %r' % s.token)
    chromium.evaluate('document.querySelector("#ask button").click()')
    chromium.wait('document.body.dataset.ready && document.querySelector("#ask").hidden')
    assert wormfs.mnt in chromium.evaluate('document.body.innerText')


# ---- who may ------------------------------------------------------------------------------------

def test_only_the_token_opens_what_shows_the_share(wormfs, serve):
    s = serve(wormfs)
    assert re.fullmatch(r'http://127\.0\.0\.1:\d+/#token=[0-9a-f]{64}', s.url)
    for path in ('/api/state', '/api/events', '/metrics'):
        assert s.status(path) == 200
        for token in (None, 'x', s.token[:-1], s.token + '0', s.token.upper()):
            status, headers, body = s.ask(path, token=token)
            assert (status, headers['WWW-Authenticate']) == (401, 'Bearer realm="wormctl serve"')
            assert wormfs.mnt.encode() not in body
    for path in ('/', '/app.js', '/style.css'):
        status, _, body = s.ask(path, token=None)
        assert status == 200 and wormfs.mnt.encode() not in body
    assert serve(wormfs).token != s.token


def test_it_is_read_only_and_knows_no_other_paths(wormfs, serve):
    s = serve(wormfs)
    for method in ('POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'BREW'):
        status, headers, _ = s.ask('/api/state', method=method, body=b'x')
        assert (status, headers['Allow']) == (405, 'GET, HEAD')
    for path in ('/x', '/api', '/api/state/', '//', '/../etc/passwd', '/%2e%2e/etc/passwd', '/app.js%00', '/index.html'):
        assert (path, s.status(path)) == (path, 404)
    for query in ('after=', 'after=x', 'after=-1', 'after=1x', 'after=99999999999999999999', 'a', 'after=1&x=2'):
        assert (query, s.status('/api/events?' + query)) == (query, 400)
    status, headers, body = s.ask('/metrics', method='HEAD')
    assert (status, body) == (200, b'') and int(headers['Content-Length']) > 100
    assert s.status('/' + 'x' * 30000) in (404, 414, 431)


@pytest.mark.parametrize('host, status', [
    ('localhost', 200), ('LOCALHOST:1', 200), ('127.0.0.1', 200), ('[::1]:80', 200), ('192.0.2.1:80', 200), ('watch.example:80', 200),
    ('evil.example', 403), ('127.0.0.1.evil.example', 403), ('localhost.evil.example:1', 403), ('[::1', 403), ('[::1]evil', 403), ('x' * 300, 403),
    ('2130706433', 403),
])
def test_a_foreign_name_is_refused_with_the_token_too(plain_share, host, status):
    s = Serve(plain_share, '--host', 'watch.example')
    try:
        assert s.status('/api/state', host=host) == status
        assert s.status('/', host=host, token=None) == status
    finally:
        s.end()


def test_every_answer_has_the_headers_that_keep_it_in_the_browser(wormfs, serve):
    s = serve(wormfs)
    for path, kwargs in (('/', {}), ('/app.js', {}), ('/api/state', {}), ('/metrics', {}), ('/x', {}), ('/api/state', {'token': 'x'}),
                         ('/', {'method': 'POST'}), ('/', {'host': 'evil'})):
        _, headers, _ = s.ask(path, **kwargs)
        assert {name: headers[name] for name in HEADERS} == HEADERS
        policy = headers['Content-Security-Policy']
        assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
        assert not re.search(r'https?:|unsafe|\*', policy)
        assert 'Access-Control-Allow-Origin' not in headers


def test_it_listens_on_this_machine_only_unless_it_is_told(plain_share):
    p = plain_share.ctl('serve', '--state-dir', plain_share.state, '--listen', '0.0.0.0:0', check=False)
    assert p.returncode == 2 and '--allow-remote' in p.err and 'token' not in p.err
    s = Serve(plain_share, '--listen', '0.0.0.0:0', '--allow-remote')
    s.end(signal.SIGINT)
    assert s.url.startswith('http://0.0.0.0:')
    for wrong in ('nowhere', '127.0.0.1', 'example.com:80', ':'):
        assert plain_share.ctl('serve', '--state-dir', plain_share.state, '--listen', wrong, check=False).returncode == 2


def test_a_token_from_a_file_is_taken_and_never_printed(plain_share, tmp_path):
    path = tmp_path / 'token'
    path.write_text(TOKEN + '\n')
    path.chmod(0o640)
    argv = ['serve', '--state-dir', plain_share.state, '--token-file', str(path)]
    p = plain_share.ctl(*argv, check=False)
    assert p.returncode == 2 and 'chmod 600' in p.err
    path.chmod(0o600)
    s = Serve(plain_share, '--token-file', str(path))
    try:
        assert TOKEN not in s.url and s.status('/metrics') == 200 and s.status('/metrics', token='x' * 32) == 401
    finally:
        s.end()
    for content in ('short\n', 'a token with spaces in it\n', '', 'x' * 513):
        path.write_text(content)
        p = plain_share.ctl(*argv, check=False)
        assert p.returncode == 2 and 'is no token' in p.err
    path.unlink()
    assert 'No such file' in plain_share.ctl(*argv, check=False).err


def test_another_user_cannot_serve_it(wormfs):
    p = as_user(ALICE, lambda: subprocess.run([WORMCTL, 'serve', wormfs.mnt], capture_output=True, text=True, timeout=30).__dict__)
    assert p['returncode'] == 2 and p['stdout'] == '' and ('only root' in p['stderr'] or 'Permission denied' in p['stderr'])


def test_connections_are_bounded(wormfs, serve):
    s = serve(wormfs)
    with contextlib.ExitStack() as stack:
        address = (s.host.split(':')[0], int(s.host.split(':')[1]))
        idle = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(200)]

        def served():
            n = 0
            for fd in os.listdir('/proc/%d/fd' % s.process.pid):
                with contextlib.suppress(OSError):		# one that was closed meanwhile
                    n += os.readlink('/proc/%d/fd/%s' % (s.process.pid, fd)).startswith('socket:')
            return n
        wait_for('it takes some', lambda: served() >= 64)
        with pytest.raises(TimeoutError):		# the others wait their turn
            idle[-1].settimeout(0.3)
            idle[-1].sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
            idle[-1].recv(1)
        assert served() <= 64 + 3			# its own: where it listens, the control socket
    wait_for('it answers again', lambda: errno_of(s.status, '/') == 'OK')


def test_no_secret_and_no_place_of_one_is_shown(mount, serve, mockqumulo, tmp_path):
    share = mount(start=False)
    cluster = mockqumulo(tree=share.lower, http=True)
    key = tmp_path / 'key-of-the-share'
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    share.options = 'retention=30d,key=%s,events=on,push=qumulo:%s,push_root=/,push_credentials=%s' % (key, cluster.url, cluster.token_file)
    share.start()
    s = serve(share)
    share.lock('a')
    s.wait('the lock', lambda state: state['locks']['files'] == 1)
    s.wait('the push', lambda state: state['push']['told'] == 1)
    assert s.state()['push']['state'] == 'ok'
    shown = b''.join(s.ask(path)[2] for path in ('/', '/app.js', '/api/state', '/api/events', '/metrics'))
    for secret in (str(key), os.path.basename(key), key.read_bytes().hex(), s.token, cluster.token_file, read_file(cluster.token_file).decode().strip()):
        assert secret.encode() not in shown
    assert b'key' not in json.dumps(list(s.state()['daemon'])).encode()


# ---- what is shown ------------------------------------------------------------------------------

def test_the_metrics_are_what_Prometheus_wants_and_what_the_daemon_says(mount, serve):
    share = mount('events=on,events=json:/dev/null')
    s = serve(share)
    for name in ('a', 'b', 'c'):
        share.lock(name)
    for _ in range(3):
        assert errno_of(os.unlink, share.at('a')) == 'EPERM'
    share.ctl('hold', 'case', share.at('b'))
    s.wait('what was done', lambda state: state['locks']['held'] == 1 and state['daemon']['refused'].get('unlink') == 3)
    status, headers, text = s.ask('/metrics')
    assert headers['Content-Type'].startswith('text/plain; version=0.0.4')
    metrics = metrics_of(text.decode())
    assert metrics['wormfs_up'] == {(): 1} and metrics['wormfs_census_complete'] == {(): 1}
    assert metrics['wormfs_locked_files_total'] == {(): 3}
    assert metrics['wormfs_refused_requests_total'][(('operation', 'unlink'),)] == 3
    assert metrics['wormfs_locks'] == {(('rule', ''),): 3} and metrics['wormfs_locks_held'] == {(): 1}
    assert metrics['wormfs_ledger_state'][(('state', 'ok'),)] == 1 and sum(metrics['wormfs_ledger_state'].values()) == 1
    assert metrics['wormfs_clock_state'][(('state', 'ok'),)] == 1
    assert abs(metrics['wormfs_clock_timestamp_seconds'][()] - time.time()) < 60
    assert metrics['wormfs_audit_last_seq'][()] >= 3 and metrics['wormfs_events_noted_total'][()] >= 10
    assert (('sink', 'json:/dev/null'),) in metrics['wormfs_events_sink_sent_total']
    promtool = need_program('promtool')
    p = subprocess.run([promtool, 'check', 'metrics'], input=text, capture_output=True, timeout=60)
    assert (p.returncode, p.stdout, p.stderr) == (0, b'', b'')


NO_METRIC = {		# numbers that say what was asked for, or who it is
    'pid', 'uid', 'push.wait',
}


def numbers_of(mount, above=''):
    """'ledger.queued' and so on; of a list: its fields."""
    if isinstance(mount, dict):
        return set().union(*(numbers_of(v, above + '.' + k if above else k) for k, v in mount.items()))
    if isinstance(mount, list):
        return set().union(*(numbers_of(v, above) for v in mount))
    return {above} if isinstance(mount, (int, float)) and not isinstance(mount, bool) else set()


def test_every_number_of_the_daemon_is_a_metric(mount, serve, tmp_path):
    """As many samples as numbers, each with a name from the source's own table or function."""
    limits = tmp_path / 'limits'
    limits.write_text('[user 1000]\nhard = 1G\n')
    share = mount('events=json:/dev/null,quota_listen,quota_notify=stdout,quota=%s' % limits)
    run(WORMCTL, 'events', 'consumer', 'register', 'worker', '--state-dir', share.state)
    s = serve(share)
    share.lock('a')
    assert errno_of(os.unlink, share.at('a')) == 'EPERM'
    s.wait('what was done', lambda state: state['daemon']['refused'].get('unlink') == 1)
    source = read_file(os.path.join(ROOT, 'lockstore/wormctl/lookout_metrics.c')).decode()
    told = {'.'.join(filter(None, (None if o == 'NULL' else o.strip('"'), f)))
            for o, f in re.findall(r'(NULL|"\w+"),\s*"(\w+)" \}', source)}
    told |= {'refused.unlink', 'events.sinks.seq'} | {'events.sinks.' + f for f in ('sent', 'dropped', 'missed')}
    told |= {'quota_notify.providers.' + f for f in ('told', 'failed')}
    assert numbers_of(share.info()) - NO_METRIC <= told
    text = s.ask('/metrics')[2]
    metrics = metrics_of(text.decode())
    p = subprocess.run([need_program('promtool'), 'check', 'metrics'], input=text, capture_output=True, timeout=60)
    assert (p.returncode, p.stdout, p.stderr) == (0, b'', b'')
    for name in re.findall(r'\{ (?:"\w+", )?"(wormfs_\w+)", "', source):
        if not name.startswith(('wormfs_push', 'wormfs_clock_b')):		# no cluster here
            assert name in metrics, name
    assert metrics['wormfs_events_consumer_behind'][(('consumer', 'worker'),)] > 0
    assert metrics['wormfs_events_sink_behind'][(('sink', 'json:/dev/null'),)] >= 0
    assert metrics['wormfs_quota_notify_told_total'] == {(('kind', 'stdout'), ('provider', '1')): 0}


def test_names_that_break_labels_and_JSON_do_not(mount, serve, tmp_path):
    share = mount('events=on,events=json:%s/a"\\b' % tmp_path)
    s = serve(share)
    name = b'q"uote\\new\nline\xff<!--<script>'
    write_file(os.path.join(os.fsencode(share.mnt), name))
    events = wait_for('its events', lambda: [e for e in s.events()['events'] if e['Event']['Type'] == 'Create'])
    assert events[0]['Event']['Path'] == '/q"uote\\new\nline\ufffd<!--<script>'
    wait_for('the sink', lambda: 'wormfs_events_sink_sent_total' in s.ask('/metrics')[2].decode())
    assert (('sink', 'json:%s/a"\\b' % tmp_path),) in metrics_of(s.ask('/metrics')[2].decode())['wormfs_events_sink_sent_total']


def test_events_come_once_each_in_answers_that_are_bounded(mount, serve):
    share = mount('events=on')
    s = serve(share)
    seen, after = [], s.events()['next']
    began, skipped = after, 0
    for i in range(300):
        write_file(share.at('f%d' % i))
    last = wait_for('the last', lambda: [e['Seq'] for e in s.events()['events'] if e['Event'].get('Path') == '/f299'])
    while True:
        answer = s.events(after)
        assert len(answer['events']) <= 200
        if not answer['events']:
            break
        skipped += answer['skipped']
        seen += [e['Seq'] for e in answer['events']]
        after = answer['next']
    assert answer['missed'] == 0 and seen == sorted(set(seen)) and seen[-1] >= last[-1]
    assert len(seen) == 500 and seen == list(range(seen[0], seen[-1] + 1))		# what it keeps
    assert skipped == seen[0] - began - 1
    assert s.events(10 ** 18) == {'missed': 0, 'skipped': 0, 'events': [], 'next': 10 ** 18}


def test_refusals_of_the_past_hour_are_there_when_it_starts(mount, serve):
    share = mount('events=on')
    share.lock('a')
    for _ in range(5):
        assert errno_of(os.unlink, share.at('a')) == 'EPERM'
    s = serve(share)
    state = s.wait('the refusals', lambda state: sum(state['refusals']['minutes']) == 5 and state)
    assert state['refusals']['source'] == 'events' and len(state['refusals']['minutes']) == 60


def test_without_events_refusals_are_counted_from_the_daemon(wormfs, serve):
    wormfs.lock('a')
    s = serve(wormfs)
    s.wait('the daemon', lambda state: state['daemon']['state'] == 'mounted')
    for _ in range(4):
        assert errno_of(os.unlink, wormfs.at('a')) == 'EPERM'
    state = s.wait('the refusals', lambda state: sum(state['refusals']['minutes']) == 4 and state)
    assert state['refusals']['source'] == 'counters' and state['events']['ring'] is False and state['events']['state'] == 'off'


def test_it_goes_on_while_nothing_is_mounted_and_across_mounts(mount, serve):
    share = mount('events=on,retention=30d')
    share.lock('a')
    share.stop()
    s = serve(share)
    state = s.wait('the ledger', lambda state: state['locks']['complete'] and state)
    assert state['daemon']['state'] == 'not mounted' and 'nothing is enforced' in state['daemon']['why']
    assert (state['locks']['files'], state['clock'], state['push']) == (1, None, None)
    assert sum(d['files'] for d in state['locks']['days']) == sum(m['files'] for m in state['locks']['months']) == 1
    assert [e for e in s.events()['events'] if e['Event']['Type'] == 'Committed']
    text = s.ask('/metrics')[2].decode()
    assert metrics_of(text)['wormfs_up'] == {(): 0} and 'wormfs_locks{rule=""} 1' in text
    after = s.events()['next']
    share.start()
    s.wait('the new daemon', lambda state: state['daemon']['state'] == 'mounted')
    share.lock('b')
    s.wait('the new lock', lambda state: state['locks']['files'] == 2)
    wait_for('its events', lambda: [e for e in s.events(after)['events'] if e['Event']['Type'] == 'Committed'])


def test_a_daemon_that_hangs_is_shown_and_holds_up_nobody(mount, serve):
    share = mount()
    s = serve(share)
    s.wait('the daemon', lambda state: state['daemon']['state'] == 'mounted')
    os.kill(share.proc.pid, signal.SIGSTOP)
    try:
        s.wait('that it is silent', lambda state: state['daemon']['state'] == 'silent')
        assert metrics_of(s.ask('/metrics')[2].decode())['wormfs_up'] == {(): 0}
        began = time.monotonic()
        s.end()
        assert time.monotonic() - began < 10
    finally:
        os.kill(share.proc.pid, signal.SIGCONT)


def test_a_share_that_was_never_mounted_is_no_share_to_watch(tmp_path):
    p = run(WORMCTL, 'serve', '--state-dir', str(tmp_path / 'nothing'), check=False)
    assert p.returncode == 2 and 'was it ever mounted' in p.err
