"""-o quota_notify: who runs out of quota or room is told to a program, on stdout, by HTTP; none of them is waited for."""
import errno
import fcntl
import http.server
import json
import os
import re
import socket
import threading

import pytest

from event_harness import check_numbers
from harness import ALICE, Refused, as_user, opened, run, wait_for

FILLERS = 6


@pytest.fixture
def small(mount, bases, request, tmp_path):
    """A share on a filesystem of its own with 4 MiB."""
    def make(given, **kwargs):
        point = bases.make('ext4', 'notify-' + request.node.name[:60], size='8M', mkfs=('-N', '64', '-m', '0'))
        return mount('passthrough=no,commit=never,' + given, base=point, lower_mode=0o777, state=str(tmp_path / 'state'), **kwargs)
    return make


def fill(path, uid=0):
    def go():
        with opened(path, os.O_CREAT | os.O_WRONLY) as fd:
            while True:
                try:
                    os.write(fd, b'x' * 65536)
                except OSError as e:
                    return errno.errorcode[e.errno]
    return as_user(uid, go)


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def notified(share):
    return share.info()['quota_notify']


def wait_told(share, want):
    wait_for('%r of the providers' % (want,), lambda: [(p['told'], p['failed']) for p in notified(share)['providers']] == want)


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            self.server.got.append((self.path, self.headers['Content-Type'], body))
            self.send_response(self.server.status)
            self.send_header('Content-Length', '0')
            self.end_headers()

        def log_message(self, *args):
            pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as s:
        s.got, s.status = [], 200
        thread = threading.Thread(target=s.serve_forever)
        thread.start()
        yield s
        s.shutdown()
        thread.join()


def test_a_program_has_the_fields_in_its_environment_and_nothing_else_of_the_daemon(small, tmp_path):
    out = tmp_path / 'out'
    prog = program(tmp_path / 'tell $(touch oops);', '''#!/usr/bin/python3
import json, os, sys
fds = []
for fd in os.listdir('/proc/self/fd'):
    try:
        fds.append(os.readlink('/proc/self/fd/' + fd))
    except FileNotFoundError:
        pass	# the listing's own
with open(%r, 'w') as f:
    json.dump([dict(os.environ), sys.argv, fds,
               [l for l in open('/proc/self/status') if l.startswith('SigBlk')]], f)
os.rename(%r, %r)
''' % (str(out) + '~', str(out) + '~', str(out)))
    share = small('quota_notify=command:' + prog)
    name = 'a "b"\n$(id)'
    assert fill(share.at(name), uid=ALICE) == 'ENOSPC'
    wait_told(share, [(1, 0)])
    env, argv, fds, blocked = json.loads(out.read_text())
    device = os.stat(share.lower).st_dev
    assert argv == [prog]
    assert (env['QUOTA_KIND'], env['QUOTA_WARNING'], env['QUOTA_ERROR'], env['QUOTA_PATH'], env['QUOTA_UID'], env['QUOTA_COUNT']) == (
        'filesystem', 'refused', 'ENOSPC', '/' + name, str(ALICE), '1')
    assert env['QUOTA_DEVICE'] == '%d:%d' % (os.major(device), os.minor(device))
    assert json.loads(env['QUOTA_EVENT'])['Event']['Path'] == '/' + name
    assert {k for k in env if not k.startswith('QUOTA_')} <= {'PATH', 'LC_CTYPE'}, env	# LC_CTYPE is Python's own
    assert fds[:2] == ['/dev/null', '/dev/null']
    assert len(fds) == 3, fds
    assert blocked == ['SigBlk:\t0000000000000000\n']


def test_so_many_programs_at_once_and_none_outlives_the_mount(small, tmp_path):
    pids = tmp_path / 'pids'
    prog = program(tmp_path / 'slow', '#!/bin/sh\necho $$ >>%s\nsleep 1000 &\nwait\n' % pids)
    share = small('quota_notify=command:' + prog)
    assert fill(share.at('f')) == 'ENOSPC'
    for uid in range(ALICE, ALICE + FILLERS):
        fill(share.at('f%d' % uid), uid=uid)
    wait_for('four programs', lambda: pids.exists() and len(pids.read_text().split()) == 4)
    assert notified(share)['providers'][0] == {'kind': 'command', 'told': 0, 'failed': 0}
    groups = [int(p) for p in pids.read_text().split()]
    share.stop()
    assert [int(p) for p in pids.read_text().split()] == groups	# no fifth one was started
    for group in groups:
        wait_for('group %d to be gone' % group, lambda g=group: not alive(g))
    assert re.search(r'quota_notify: unmounted with [1-9]\d* notices not told and 4 programs not ended', share.log_text())


def alive(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


def test_a_program_that_fails_is_counted_and_logged_once(small, tmp_path):
    share = small('quota_notify=command:' + program(tmp_path / 'false', '#!/bin/sh\nexit 3\n'))
    fill(share.at('f'))
    wait_told(share, [(0, 1)])
    fill(share.at('g'), uid=ALICE)
    wait_told(share, [(0, 2)])
    assert share.log_text().count("quota_notify: '") == 1
    children = '/proc/%d/task/%d/children' % (share.proc.pid, share.proc.pid)
    if os.path.exists(children):
        assert open(children).read() == ''	# reaped


def test_stdout_gets_lines_of_json(small):
    share = small('quota_notify=stdout')
    fill(share.at('big'), uid=ALICE)
    wait_told(share, [(1, 0)])
    lines = [json.loads(line) for line in share.log_text().splitlines() if line.startswith('{')]
    assert [(x['Event']['Type'], x['Event']['Path'], x['Event']['Uid'], x['Event']['Error']) for x in lines] == [
        ('Quota', '/big', ALICE, 'ENOSPC')]


@pytest.mark.parametrize('kind', ['pipe', 'file'])
def test_events_and_quota_on_one_stdout_are_whole_lines(small, tmp_path, kind):
    share = small('quota_notify=stdout', start=False)
    data, users = [], range(ALICE, ALICE + 25)
    if kind == 'pipe':
        reader, out = os.pipe()
        fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)	# no line of this test fits
    else:
        reader, out = None, os.open(str(tmp_path / 'out'), os.O_WRONLY | os.O_CREAT)	# without O_APPEND, as a shell's >
    share.start('passthrough=no,commit=never,quota_notify=stdout,events=json:-', stdout=out)
    os.close(out)

    def read():
        while data[-1:] != [b'']:
            data.append(os.read(reader, 1500))
    reading = threading.Thread(target=read)
    if reader is not None:
        reading.start()
    try:
        where = os.fsencode(share.at())
        for _ in range(13):
            where += b'/' + b'\xff' * 250
            os.mkdir(where)
            os.chmod(where, 0o777)
        big, stopping = where + b'/big', threading.Event()
        assert fill(big) == 'ENOSPC'
        os.chmod(big, 0o666)

        def more():
            with opened(big, os.O_WRONLY | os.O_APPEND) as fd:
                return os.write(fd, b'x' * 65536)

        def load():
            while not stopping.wait(0.001):
                os.utime(big)
        loading = threading.Thread(target=load)
        loading.start()
        try:
            assert [as_user(uid, more) for uid in users] == ['ENOSPC'] * len(users)
            wait_told(share, [(1 + len(users), 0)])
        finally:
            stopping.set()
            loading.join()
        share.stop()
    finally:
        if share.proc:
            share.kill9()
        if reader is not None:
            reading.join()
            os.close(reader)
    lines = [json.loads(line) for line in (b''.join(data) if reader is not None else (tmp_path / 'out').read_bytes()).splitlines()]
    told, events = [x for x in lines if x['Seq'] == 0], [x for x in lines if x['Seq']]
    assert [x['Event']['Uid'] for x in told] == [0, *users]
    check_numbers([dict(x['Event'], Seq=x['Seq']) for x in events])
    assert len(events) > 100
    assert max(len(x['Event']['PathBase64']) for x in told) > 4096


def test_http_gets_a_post_of_json(small, server):
    share = small('quota_notify=http://127.0.0.1:%d/quota?x=1' % server.server_address[1])
    fill(share.at('big'), uid=ALICE)
    wait_told(share, [(1, 0)])
    (path, kind, body), = server.got
    assert (path, kind) == ('/quota?x=1', 'application/json')
    assert json.loads(body)['Event']['Path'] == '/big'


def test_an_http_server_that_refuses_is_counted_and_logged_once_and_others_are_told(small, server):
    server.status = 503
    share = small('quota_notify=http://127.0.0.1:%d/,quota_notify=stdout' % server.server_address[1])
    fill(share.at('f'))
    wait_told(share, [(0, 1), (1, 0)])
    fill(share.at('g'), uid=ALICE)
    wait_told(share, [(0, 2), (2, 0)])
    assert share.log_text().count('HTTP status 503') == 1
    server.status = 204
    fill(share.at('h'), uid=ALICE + 1)
    wait_told(share, [(1, 2), (3, 0)])
    assert 'takes notices again' in share.log_text()
    lines = [line.split(None, 1) for line in share.ctl('status', '--state-dir', share.state).out.splitlines() if line.strip()]
    assert dict(line for line in lines if len(line) == 2)['notified'] == 'http 1 (failed 2), stdout 3'


def test_nobody_waits_for_an_http_server_that_hangs(small):
    with socket.socket() as deaf:
        deaf.bind(('127.0.0.1', 0))
        deaf.listen(8)
        share = small('quota_notify=http://127.0.0.1:%d/' % deaf.getsockname()[1])
        fill(share.at('f'))
        assert fill(share.at('g'), uid=ALICE) == 'ENOSPC'
        assert notified(share)['providers'][0] == {'kind': 'http', 'told': 0, 'failed': 0}	# on its way still
        share.stop()
    assert share.log_text().count("quota_notify: '") == 1


@pytest.mark.parametrize('value', ['stdouts', 'command:prog', 'ftp://h/', 'http://', 'http://user:secret@h/', 'command:/no/such/program',
                                   'command:/etc'])
def test_a_provider_that_cannot_be_is_no_mount(mount, value):
    with pytest.raises(Refused) as e:
        mount('quota_notify=' + value)
    assert str(e.value).startswith('exit 2: ') and 'quota_notify' in str(e.value)


def test_stdout_is_for_the_foreground(mount):
    share = mount('commit=never')
    share.stop()
    p = run(*share.argv('quota_notify=stdout', foreground=False), check=False)
    assert p.returncode == 2 and 'quota_notify=stdout' in p.err and '-f' in p.err
