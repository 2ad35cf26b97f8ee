"""The control port of mockarchive: every answer is held against /openapi.json (archive_harness.py)."""
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
from archive_harness import MOCKARCHIVE, OPENAPI, MockarchiveError, archive, read_errno, shared, start		# noqa: F401
from harness import ROOT


def status(archive, method, path, body=None, headers=()):
    return archive.status_of(method, path, body, headers)


# ---- files and orders ---------------------------------------------------------------------------

def test_the_way_of_a_file_is_seen_from_outside(archive):
    path = archive.write('dir/report', b'one')
    seen = archive.file(path)
    assert (seen['state'], seen['copies'], seen['size'], seen['online']) == ('archiving', {'tape': 'none', 'replica': 'none'}, 3, True)
    archive.settle()
    seen = archive.file(path)
    assert (seen['state'], seen['copies'], seen['flag'], seen['online']) == (
        'released', {'tape': 'good', 'replica': 'good'}, {'final': True, 'replica': True}, False)
    assert seen['sha256'] == '7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed' and seen['adler32'] == '02910143'
    assert read_errno(path) == 'EIO'
    assert archive.wait(path, 'recalling')['state'] == 'recalling'
    archive.settle()
    assert open(path).read() == 'one'
    assert [(e['from'], e['to']) for e in archive.journal() if e['kind'] == 'state'] == [
        ('resident', 'writing'), ('writing', 'resident'), ('resident', 'archiving'), ('archiving', 'dual'), ('dual', 'released'),
        ('released', 'recalling'), ('recalling', 'dual')]


def test_every_order_does_what_it_says(archive):
    path = archive.archived('a')
    assert archive.act('recall', path, pin=100, request_id='mine')['request_id'] == 'mine'
    archive.settle()
    assert archive.file(path)['pinned']
    with pytest.raises(MockarchiveError) as refused:
        archive.act('release', path)
    assert (refused.value.status, refused.value.errno) == (409, 'EBUSY')
    assert archive.act('release', path, force=True)['state'] == 'released'
    assert archive.act('recall', path)['state'] == 'recalling'
    assert archive.act('cancel', path)['state'] == 'released'
    assert archive.act('unavailable', path)['state'] == 'unavailable'
    assert read_errno(path) == 'EIO'
    assert archive.act('unavailable', path, unavailable=False)['state'] == 'released'
    assert archive.act('damage', path)['state'] == 'damaged'
    assert archive.act('mend', path)['state'] == 'released'
    assert archive.act('lose', path, copy='both')['state'] == 'lost'
    assert archive.post('/v1/files/delete', {'path': '/a'}) == ''
    assert not os.path.exists(path)
    path = archive.write('b', b'data')
    archive.settle()
    archive.act('pin', path, pin=60)
    archive.settle()
    assert archive.file(path)['state'] == 'dual'
    assert archive.act('evict', path)['state'] == 'released'
    assert archive.act('archive', archive.write('c', b'x'))['state'] == 'archiving'
    answer = archive.post('/v1/files/recall', {'paths': ['/b', '/nosuch']})
    assert [r['errno'] for r in answer['results']] == [None, 'ENOENT'] and answer['failed'] == 1


def test_corrupting_a_copy_shows_in_what_is_read_back(archive):
    path = archive.archived('a', b'x' * 1000)
    archive.act('corrupt', path, copy='tape', corrupt={'how': 'zero', 'offset': 10, 'length': 5})
    archive.act('recall', path)
    archive.settle()
    assert open(path, 'rb').read() == b'x' * 10 + b'\0' * 5 + b'x' * 985


def test_lists_are_filtered_and_come_in_pages(archive):
    for name in ('a/1', 'a/2', 'b/1', 'a2/1'):
        archive.write(name, b'x')
    archive.settle()
    archive.write('a/3', b'x')

    def names(query):
        return [f['path'] for f in archive.get('/v1/files?' + query)['files']]
    assert sorted(names('')) == ['/a/1', '/a/2', '/a/3', '/a2/1', '/b/1']
    assert sorted(names('prefix=/a')) == ['/a/1', '/a/2', '/a/3']
    assert names('state=archiving') == ['/a/3']
    assert sorted(names('state=released,archiving&prefix=a/')) == ['/a/1', '/a/2', '/a/3']
    pages, after = [], 0
    while after is not None:
        answer = archive.get('/v1/files?limit=2&after=%d' % after)
        pages.append([f['path'] for f in answer['files']])
        after = answer['next']
    assert sum(pages, []) == names('') and all(len(p) <= 2 for p in pages)


def test_names_of_any_bytes_are_shown_and_taken(archive):
    name = b'line\nend "\xff<b>&'
    path = os.fsencode(archive.mount) + b'/' + name
    with open(path, 'wb') as out:
        out.write(b'x')
    archive.settle()
    seen, = archive.get('/v1/files')['files']
    assert seen['path'] == '/line\nend "\ufffd<b>&' and seen['path_b64'] == base64.b64encode(name).decode()
    assert archive.post('/v1/files/recall', {'path_b64': seen['path_b64']})['state'] == 'recalling'
    assert archive.get('/v1/files/line%0Aend%20%22%FF%3Cb%3E%26')['state'] == 'recalling'


# ---- time ---------------------------------------------------------------------------------------

def test_advance_answers_when_what_is_due_is_done(archive):
    path = archive.write('a', b'x')
    clock = archive.get('/v1/clock')
    assert clock['mode'] == 'manual' and clock['next_due'] == pytest.approx(clock['now'] + 5)
    assert archive.advance(4.5)['clock']['now'] == pytest.approx(clock['now'] + 4.5, abs=1e-3)
    assert archive.state(path) == 'archiving'
    moved = archive.advance(0.5)
    assert moved['done'] >= 1 and archive.state(path) == 'released'


def test_a_thousand_files_go_to_tape_and_back_in_5_s(start):
    archive = start('--profile', 'eth-lts')

    def go(directory):
        os.mkdir(archive.path(directory))
        names = [archive.path('%s/f%d' % (directory, i)) for i in range(1000)]
        begin = time.monotonic()
        for name in names:
            with open(name, 'wb') as out:
                out.write(name.encode())
        archive.settle()
        assert all(read_errno(name) == 'EIO' for name in names)
        archive.settle()
        assert all(open(name, 'rb').read() == name.encode() for name in names)
        return time.monotonic() - begin
    limit = 60 if harness.sanitizer_known() or 'san' in MOCKARCHIVE else 5
    took = go('a')
    if took >= limit:		# the machine may have had something else to do
        took = go('b')
    assert took < limit, '%.1f s' % took


def test_the_clock_is_changed_while_it_runs(archive):
    assert archive.request('PATCH', '/v1/clock', {'mode': 'scaled:1000'})['rate'] == 1000
    path = archive.write('a', b'x')
    assert archive.wait(path, 'released')['state'] == 'released'		# 5 s of the archive's are 5 ms
    assert archive.request('PATCH', '/v1/clock', {'mode': 'real'})['mode'] == 'real'
    assert status(archive, 'PATCH', '/v1/clock', {'mode': 'backwards'}) == 400


# ---- waiting ------------------------------------------------------------------------------------

def test_wait_answers_when_it_is_so_and_not_before(archive):
    path = archive.write('a', b'x')
    answers = []
    thread = threading.Thread(target=lambda: answers.append(archive.wait(path, 'released', timeout=20)))
    thread.start()
    assert archive.status_of('GET', '/v1/wait?path=/a&state=released&timeout=0') == 504
    assert not answers
    archive.settle()
    thread.join()
    assert answers[0]['state'] == 'released'


def test_wait_knows_callers_and_rules(archive):
    archive.request('PATCH', '/v1/settings', {'profile': 'lustre'})
    path = archive.archived('a', b'data')
    reader = subprocess.Popen(['cat', path], stdout=subprocess.PIPE)
    assert archive.wait(path, waiting=1)['waiting'] == 1
    archive.settle()
    assert reader.communicate()[0] == b'data'
    with archive.fault(op='unlink', errno='EBUSY') as fault:
        threading.Timer(0.1, lambda: harness.errno_of(os.unlink, path)).start()
        fault.wait(hits=1)
        assert fault.hits == 1
    for query in ('path=/a', 'state=dual', 'path=/a&state=none', 'fault=x&path=/a', 'path=/../a&state=dual', 'path=/a&state=dual&timeout=-1'):
        assert archive.status_of('GET', '/v1/wait?' + query) == 400, query
    assert archive.status_of('GET', '/v1/wait?path=/nosuch&state=dual') == 404
    assert archive.status_of('GET', '/v1/wait?fault=nosuch') == 404


def test_hundreds_wait_at_once(archive):
    path = archive.archived('a')
    sockets = []
    for _ in range(300):
        s = socket.socket(socket.AF_UNIX)
        s.connect(archive.socket)
        s.sendall(b'GET /v1/wait?path=/a&state=dual&timeout=30 HTTP/1.1\r\nHost: localhost\r\n\r\n')
        sockets.append(s)
    archive.act('recall', path)
    archive.settle()
    for s in sockets:
        assert b'"state":"dual"' in s.recv(4096)
        s.close()


def test_events_are_pushed_and_taken_up_again_where_they_were_left(archive):
    def listen(header):
        s = socket.socket(socket.AF_UNIX)
        s.connect(archive.socket)
        s.sendall(b'GET /v1/events HTTP/1.1\r\nHost: localhost\r\n' + header + b'\r\n')
        return s.makefile('rb')

    def events(stream, n):
        found = []
        while len(found) < n:
            line = stream.readline()
            assert line, 'the stream ended'
            if line.startswith(b'data: '):
                found.append(json.loads(line[6:]))
        return found
    stream = listen(b'')
    while not stream.readline().startswith(b': mockarchive'):
        pass
    archive.write('a', b'x')
    first = events(stream, 3)
    assert [e['to'] for e in first] == ['writing', 'resident', 'archiving']
    stream.close()
    archive.settle()
    again = listen(b'Last-Event-ID: %d\r\n' % first[-1]['seq'])
    assert [e['seq'] for e in events(again, 3)] == [first[-1]['seq'] + i for i in (1, 2, 3)]
    again.close()


# ---- drives, library, settings, reset -----------------------------------------------------------

def test_drives_and_library_go_down_and_come_back(archive):
    drives = archive.get('/v1/drives')['drives']
    for drive in drives:
        assert archive.request('PATCH', '/v1/drives/%d' % drive['number'], {'up': False})['up'] is False
    path = archive.write('a', b'x')
    archive.settle()
    assert archive.state(path) == 'archiving' and archive.get('/v1/state')['queue']['archive'] == 1
    archive.request('PATCH', '/v1/drives/0', {'up': True})
    archive.settle()
    assert archive.state(path) == 'released'
    assert archive.request('PATCH', '/v1/library', {'up': False}) == {'up': False} == archive.get('/v1/library')
    archive.request('PATCH', '/v1/library', {'up': True})
    assert status(archive, 'PATCH', '/v1/drives/99', {'up': True}) == 404
    assert status(archive, 'PATCH', '/v1/drives/x', {'up': True}) == 404
    assert status(archive, 'PATCH', '/v1/drives/0', {'up': 1}) == 400


def test_settings_are_changed_and_what_is_wrong_changes_nothing(archive):
    def value(key):
        return next(s['value'] for s in archive.get('/v1/settings')['settings'] if s['key'] == key)
    assert archive.request('PATCH', '/v1/settings', {'drives': 2, 'profile': 'baker', 'recall.delay': '7s'})['profile'] == 'baker'
    assert (value('drives'), value('flag'), value('recall.delay')) == ('2', 'replica', '7s')
    assert len(archive.get('/v1/drives')['drives']) == 2
    assert status(archive, 'PATCH', '/v1/settings', {'drives': 3, 'nosuch': 1}) == 404
    assert status(archive, 'PATCH', '/v1/settings', {'profile': 'nosuch'}) == 404
    assert status(archive, 'PATCH', '/v1/settings', {'flag': 'both', 'drives': [1]}) == 400
    assert status(archive, 'PATCH', '/v1/settings', {'drives': 'many'}) == 400
    assert (value('drives'), value('flag')) == ('2', 'replica')
    assert 'eth-lts' in [p['name'] for p in archive.get('/v1/profiles')['profiles']]


def test_reset_makes_it_as_it_was_at_the_start(archive):
    archive.archived('dir/a')
    archive.post('/v1/faults', {'do': {'errno': 'EIO'}})
    archive.request('PATCH', '/v1/settings', {'drives': 1})
    archive.request('PATCH', '/v1/drives/0', {'up': False})
    archive.post('/v1/reset', {'what': ['faults']})
    assert archive.get('/v1/faults')['faults'] == [] and archive.state('/dir/a') == 'released'
    archive.post('/v1/reset')
    state = archive.get('/v1/state')
    assert state['files_total'] == 0 and os.listdir(archive.mount) == [] and all(d['up'] for d in state['drives'])
    assert len(state['drives']) == 4 and state['faults']['rules'] == 0
    assert status(archive, 'POST', '/v1/reset', {'what': ['everything']}) == 400


# ---- the old interface, health, metrics ---------------------------------------------------------

def test_the_first_mock_archive_s_two_calls_work(start):
    archive = start('--profile', 'baker')
    path = archive.archived('myfile')
    assert status(archive, 'GET', '/delete/myfile') == 204
    assert not os.path.exists(path) and status(archive, 'GET', '/delete/myfile') == 404
    assert status(archive, 'GET', '/exit') == 204
    assert archive.process.wait(20) == 0
    assert not os.path.ismount(archive.mount)


def test_metrics_are_what_prometheus_reads(archive):
    archive.archived('a')
    archive.post('/v1/faults', {'id': 'rule', 'do': {'lose': True}})
    text = archive.get('/metrics')
    names = {}
    for line in text.splitlines():
        if line.startswith('# TYPE '):
            name, kind = line.split()[2:]
            assert name not in names, 'twice: ' + name
            names[name] = kind
        elif not line.startswith('#'):
            name, number = line.rsplit(' ', 1)
            float(number)
            assert name.split('{')[0] in names, line
    assert names['mockarchive_files'] == 'gauge' and names['mockarchive_archived_total'] == 'counter'
    assert 'mockarchive_files{state="released"} 1\n' in text and 'mockarchive_fault_hits{rule="rule"} 0\n' in text


# ---- who may, and what is no request ------------------------------------------------------------

def test_what_is_no_request_is_told_why(archive):
    for method, path, body, want in (
            ('GET', '/v1/nosuch', None, 404), ('PUT', '/v1/state', None, 405), ('DELETE', '/v1/clock', None, 405),
            ('POST', '/v1/faults', b'{', 400), ('POST', '/v1/faults', b'[]', 400), ('POST', '/v1/faults', b'{"a": 1, "a": 2}', 400),
            ('POST', '/v1/files/recall', {}, 400), ('POST', '/v1/files/recall', {'path': '/../x'}, 400),
            ('POST', '/v1/files/recall', {'path': '/x', 'colour': 1}, 400), ('POST', '/v1/files/fly', {'path': '/x'}, 404),
            ('POST', '/v1/files/recall', {'path': '/nosuch'}, 404), ('POST', '/v1/files/recall', {'path_b64': '!'}, 400),
            ('GET', '/v1/files?state=nosuch', None, 400), ('GET', '/v1/files?limit=0', None, 400), ('GET', '/v1/files?after=x', None, 400),
            ('GET', '/v1/files/%zz', None, 400), ('POST', '/v1/clock/advance', {'seconds': -1}, 400), ('POST', '/v1/clock/advance', {}, 400),
            ('POST', '/v1/files/pin', {'path': '/x', 'pin': 'long'}, 400), ('GET', '/v1/journal?limit=5000', None, 400)):
        got, headers, text = archive.raw(method, path, body)
        assert (got, headers.get_content_type()) == (want, 'application/problem+json'), (method, path, body, text)
        assert json.loads(text)['status'] == want
        if want == 405:
            assert headers['Allow']


def tcp(archive, method, path, **headers):
    host, port = archive.url[len('http://'):].rsplit(':', 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request(method, path, headers={k.replace('_', '-'): v for k, v in headers.items()})
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return reply.status, text


def test_no_page_of_another_site_can_steer_it(archive):
    assert tcp(archive, 'GET', '/v1/state')[0] == 200
    assert tcp(archive, 'GET', '/v1/state', Host='evil.example')[0] == 403
    assert tcp(archive, 'POST', '/v1/reset', Origin='http://evil.example')[0] == 403
    assert tcp(archive, 'GET', '/exit', Sec_Fetch_Site='cross-site')[0] == 403
    assert tcp(archive, 'GET', '/v1/state', Origin=archive.url)[0] == 200
    assert tcp(archive, 'GET', '/', Sec_Fetch_Site='cross-site')[0] == 200		# a link to the page
    assert archive.process.poll() is None


def test_nothing_but_loopback_unless_told(start):
    program = [MOCKARCHIVE, '--foreground', '--http', '0.0.0.0:0']
    archive = start()
    os.mkdir(archive.directory + '/other')
    refused = subprocess.run(program + [archive.directory + '/other'], capture_output=True, text=True,
                             env=dict(os.environ, MOCKARCHIVE_RUN_DIR=archive.run_directory))
    assert refused.returncode == 2 and '0.0.0.0:0' in refused.stderr and not os.path.ismount(archive.directory + '/other')
    assert os.stat(archive.socket).st_mode & 0o777 == 0o600


@pytest.mark.parametrize('where', ['argument', 'file'])
def test_with_a_token_only_who_has_it_may_ask(start, where, tmp_path):
    (tmp_path / 'token').write_text('open sesame\n')
    archive = start('--token', 'open sesame' if where == 'argument' else '@%s/token' % tmp_path)
    assert tcp(archive, 'GET', '/v1/state')[0] == 401
    assert tcp(archive, 'GET', '/v1/state', Authorization='Bearer open')[0] == 401
    assert tcp(archive, 'GET', '/api/v1/stage/x')[0] == 401
    assert tcp(archive, 'GET', '/v1/state', Authorization='Bearer open sesame')[0] == 200
    assert tcp(archive, 'GET', '/healthz')[0] == 200


def test_the_description_is_served_and_every_route_of_it_was_asked(archive):
    assert archive.get('/openapi.json') == OPENAPI
    for path, item in OPENAPI['paths'].items():
        for method in item:
            # Whatever is described is there: with nonsense for its parameters it is refused, not unknown.
            answer = archive.raw(method.upper(), path.replace('{path}', 'zz').replace('{id}', 'zz').replace('{number}', '77'), b'[]'
                                 if method in ('post', 'patch') else None) if path not in ('/exit', '/v1/events', '/v1/reset') else None
            assert answer is None or answer[0] not in (405,) and b'/openapi.json lists' not in answer[2], (method, path, answer)


# ---- the command --------------------------------------------------------------------------------

def ctl(archive, *args, want=0, **kwargs):
    done = subprocess.run([MOCKARCHIVE, 'ctl', '--url', 'unix:' + archive.socket] + list(args), capture_output=True, text=True, timeout=60, **kwargs)
    assert done.returncode == want, done
    assert (want == 0) == (done.stderr == ''), done
    return done.stdout


def test_ctl_does_what_the_port_does(archive):
    path = archive.write('dir/a b', b'one')
    assert 'archiving 1' in ctl(archive, 'state')
    ctl(archive, 'settle')
    assert ctl(archive, 'files').split() == ['released', '3', 'tape', 'good', 'replica', 'good', 'T--', '/dir/a', 'b']
    assert json.loads(ctl(archive, '--json', 'file', '/dir/a b'))['state'] == 'released'
    ctl(archive, 'recall', '--pin', '60', path)			# as it is named from here
    ctl(archive, 'recall', 'a b', cwd=archive.path('dir'))
    ctl(archive, 'advance', '5')
    ctl(archive, 'wait', path, 'dual')
    assert 'released' in ctl(archive, 'wait', '--timeout', '0', path, 'released', want=1) + 'released'
    assert ctl(archive, 'fault', 'add', 'id=x', 'op=read', 'path=a b', 'errno=EIO', 'first=1').strip() == 'x'
    assert read_errno(path) == 'EIO' and read_errno(path) == 'OK'
    assert 'hits 1/' in ctl(archive, 'faults')
    ctl(archive, 'fault', 'off', 'x')
    assert json.loads(ctl(archive, '--json', 'fault', 'show', 'x'))['enabled'] is False
    ctl(archive, 'fault', 'add', '{"id": "y", "do": {"lose": true}}')
    ctl(archive, 'fault', 'clear')
    assert ctl(archive, 'faults') == ''
    ctl(archive, 'drive', '1', 'down')
    assert 'down' in ctl(archive, 'drives')
    ctl(archive, 'library', 'down')
    ctl(archive, 'library', 'up')
    ctl(archive, 'set', 'drives=2', 'flag=none')
    ctl(archive, 'profile', 'lustre')
    assert 'lustre' in ctl(archive, 'profile') and 'drives' in ctl(archive, 'settings')
    assert 'manual' in ctl(archive, 'clock', 'manual')
    assert 'dual -> ' not in ctl(archive, 'journal', '--after', '99999') and 'recalling -> dual' in ctl(archive, 'journal')
    assert 'mockarchive_files' in ctl(archive, 'metrics')
    ctl(archive, 'delete', path)
    ctl(archive, 'recall', path, want=2)
    ctl(archive, 'fly', want=2)
    ctl(archive, 'drive', '0', 'sideways', want=2)
    ctl(archive, 'fault', 'add', 'errno=EWHAT', want=2)
    ctl(archive, 'reset')
    assert 'files    0:' in ctl(archive, 'state')


def test_ctl_shows_files_as_real_archives_do(archive):
    archive.archived('gone', b'x' * 2048)
    archive.write('here', b'x' * 2048)
    lines = {view: sorted(ctl(archive, 'files', '--as', view).splitlines()) for view in ('hsm_state', 'dsmls', 'dmattr', 'eos')}
    assert lines['hsm_state'] == ['/gone: (0x0000000d) released exists archived, archive_id:1', '/here: (0x00000000)']
    assert [line.split() for line in lines['dsmls']] == [['2048', '0', '0', 'm', '/gone'], ['2048', '2048', '2', 'r', '/here']]
    assert sorted(line.split()[0] for line in lines['dmattr']) == ['MIG', 'OFL']
    assert [line.split()[0] for line in lines['eos']] == ['d0::t1', 'd1::t0']


def test_ctl_finds_the_one_that_runs_here(start):
    one, two = start(), start()
    shared_dir = one.run_directory
    two.stop()
    env = dict(os.environ, MOCKARCHIVE_RUN_DIR=shared_dir)
    env.pop('MOCKARCHIVE_URL', None)

    def run(*args):
        return subprocess.run([MOCKARCHIVE, 'ctl'] + list(args), capture_output=True, text=True, env=env, timeout=60)
    assert one.mount in run('state').stdout
    assert one.mount in run('--mount', one.mount, 'state').stdout
    missing = run('--mount', '/nowhere', 'state')
    assert missing.returncode == 2 and '/nowhere' in missing.stderr
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 0
    gone = run('state')
    assert gone.returncode == 2 and gone.stderr.count('\n') == 1


def test_ctl_journal_follows(archive):
    follower = subprocess.Popen([MOCKARCHIVE, 'ctl', '--url', 'unix:' + archive.socket, 'journal', '--follow', '--after', '0'],
                                stdout=subprocess.PIPE, text=True)
    try:
        archive.write('a', b'x')
        lines = []
        while not any('-> archiving' in line for line in lines):
            lines.append(follower.stdout.readline())
            assert lines[-1], lines
    finally:
        follower.kill()
        follower.wait()


# ---- the fixture and the shell library that users take --------------------------------------------

def test_the_fixture_that_users_copy_works_as_its_page_says(tmp_path):
    test = tmp_path / 'test_mine.py'
    test.write_text('''
import pytest
from pytest_mockarchive import mockarchive, mockarchive_options

def our_reader(path):
    for attempt in range(5):
        try:
            return open(path, 'rb').read()
        except OSError:
            pass

def test_we_wait_for_the_tape(mockarchive):
    path = mockarchive.write('run1/data', b'one')
    mockarchive.settle()
    assert our_reader(path) is None
    mockarchive.settle()
    with mockarchive.fault(op='read', errno='EIO', first=2) as fault:
        assert our_reader(path) == b'one'
    assert fault.hits == 2
''')
    done = subprocess.run(['/usr/bin/python3', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(test)], capture_output=True, text=True,
                          cwd=tmp_path, env=dict(os.environ, PYTHONPATH=ROOT + '/scripts/mockarchive', MOCKARCHIVE=MOCKARCHIVE))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('shell', ['sh', 'bash'])
def test_the_shell_library_works_as_its_page_says(shell):
    done = subprocess.run([shell, '-eu', '-c', '''
. "$0/scripts/mockarchive/mockarchive.sh"
trap mockarchive_stop EXIT
mockarchive_start --profile eth-lts
echo one >"$MOCKARCHIVE_MOUNT/myfile"
mockarchive_ctl settle >/dev/null
if cat "$MOCKARCHIVE_MOUNT/myfile" 2>/dev/null; then exit 9; fi
mockarchive_ctl settle >/dev/null
cat "$MOCKARCHIVE_MOUNT/myfile"
echo "$MOCKARCHIVE_HTTP"
dir=$MOCKARCHIVE_DIR
trap - EXIT
mockarchive_stop
[ ! -e "$dir" ]
''', ROOT], capture_output=True, text=True, timeout=60, env=dict(os.environ, MOCKARCHIVE=MOCKARCHIVE))
    assert done.returncode == 0, done
    assert done.stdout.startswith('one\nhttp://127.0.0.1:')
