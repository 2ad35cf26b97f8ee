"""Events as server-sent events: curl -N and a browser's EventSource read them, and go on where they were after the server or they
themselves died; filters; Qumulo's payload; a client that does not read."""
import http.client
import json
import os
import socket
import subprocess
import time

import pytest

import browser
from event_harness import make_many
from harness import WORMCTL, daemon_environment, run, wait_for, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)
TOKEN = 'a-token-of-the-tests'


class Server:
    def __init__(self, share, directory, listen='127.0.0.1:0'):
        self.token_file = os.path.join(directory, 'token')
        fd = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, TOKEN.encode() + b'\n')
        os.close(fd)
        self.process = subprocess.Popen(
            [WORMCTL, 'events', 'sse', '--json', '--listen', listen, '--token-file', self.token_file, '--state-dir', share.state],
            stdout=subprocess.PIPE, env=daemon_environment())
        self.told = json.loads(self.process.stdout.readline())
        self.address, self.url = self.told['address'], self.told['url']
        self.port = int(self.address.rsplit(':', 1)[1])
        assert self.told['token'] is None

    def get(self, query='', headers=(), path='/v1/events'):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=15)
        connection.request('GET', path + query, headers=dict({'Authorization': 'Bearer ' + TOKEN}, **dict(headers)))
        return connection.getresponse()

    def stop(self, kill=False):
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        code = self.process.wait(15)
        self.process.stdout.close()
        assert kill or code == 0


@pytest.fixture
def server(tmp_path):
    made = []

    def make(share, **kwargs):
        made.append(Server(share, str(tmp_path), **kwargs))
        return made[-1]
    yield make
    for one in made:
        if one.process.returncode is None:
            one.stop()


def messages(response):
    """(id, object) of each message; comments and retry: are passed over."""
    number = None
    for line in response:
        line = line.decode('utf-8').rstrip('\n')
        if line.startswith('id: '):
            number = int(line[4:])
        elif line.startswith('data: '):
            yield number, json.loads(line[6:])


def take(response, count):
    source = messages(response)
    return [next(source) for _ in range(count)]


def brief(got):
    return [(e['Event']['Type'], e['Event']['Path']) for _, e in got]


def test_curl_reads_the_stream_and_goes_on_with_the_last_event_id(mount, server, tmp_path):
    share = mount('commit=never,events=on')
    there = server(share)
    lines = [json.loads(line) for line in run(WORMCTL, 'events', 'replay', '--json', '--state-dir', share.state).out.splitlines()]
    got, last = [], 0
    for round in range(3):
        p = subprocess.Popen(['curl', '-sN', '-H', 'Authorization: Bearer ' + TOKEN, '-H', 'Last-Event-ID: %d' % last, there.url],
                             stdout=subprocess.PIPE)
        for n in range(100):
            os.mkdir(share.at('%d-%d' % (round, n)))
        new = take(p.stdout, 60)
        got += new
        last = got[-1][0]
        p.kill()
        p.wait()
        p.stdout.close()
        if round == 1:		# and the server dies
            there.stop(kill=True)
            there = server(share, listen=there.address)
    share.must('sync')
    want = [json.loads(line) for line in run(WORMCTL, 'events', 'replay', '--json', '--state-dir', share.state).out.splitlines()]
    got += take(there.get(headers={'Last-Event-ID': str(last)}), len(want) - len(got))
    assert [n for n, _ in got] == [e['Seq'] for e in want] and [e for _, e in got] == want
    assert want[:len(lines)] == lines


@pytest.mark.skipif(not browser.CHROMIUM, reason='needs chromium')
def test_an_EventSource_of_a_browser_comes_again_by_itself_and_misses_nothing(mount, server):
    share = mount('commit=never,events=on')
    there = server(share)
    page = browser.Browser()
    try:
        page.open('http://%s/' % there.address)
        page.wait("document.body && document.body.innerText.includes('/v1/events')")
        page.evaluate('''(() => { window.got = []; window.source = new EventSource('/v1/events?from=1&type=MKdir&access_token=%s');
            source.onmessage = m => got.push([m.lastEventId, JSON.parse(m.data).Event.Path]); return 1; })()''' % TOKEN)
        for n in range(50):
            os.mkdir(share.at('a%d' % n))
        page.wait('got.length == 50')
        there.stop(kill=True)
        for n in range(50):
            os.mkdir(share.at('b%d' % n))
        there = server(share, listen=there.address)
        page.wait('got.length == 100')
        os.mkdir(share.at('c'))
        page.wait('got.length == 101')
        got = page.evaluate('got')
    finally:
        page.close()
    assert [path for _, path in got] == ['/a%d' % n for n in range(50)] + ['/b%d' % n for n in range(50)] + ['/c']
    numbers = [int(n) for n, _ in got]
    assert numbers == sorted(set(numbers))


def test_filters_by_place_type_and_refusal(mount, server):
    share = mount('retention=1y,events=on')
    there = server(share)
    for d in ('d', 'd/e', 'dd', 'ü x'):
        os.mkdir(share.at(d))
    write_file(share.at('d/f'))
    write_file(share.at('d/e/g'))
    os.mkdir(share.at('d/h'))
    os.rename(share.at('d/h'), share.at('dd/h'))
    os.rmdir(share.at('dd/h'))
    with pytest.raises(OSError):
        os.unlink(share.at('d/f'))
    share.must('sync')

    def all_of(query):
        os.mkdir(share.at('d/%s' % all_of.n))	# matches each of them but for the refusals
        all_of.n += 1
        return brief(take(there.get('?from=1&' + query), all_of.want))
    all_of.n, all_of.want = 0, 5
    assert all_of('path=/d&recursive=false&type=MKdir,Rename') == [
        ('MKdir', '/d'), ('MKdir', '/d/e'), ('MKdir', '/d/h'), ('Rename', '/d/h'), ('MKdir', '/d/0')]
    all_of.want = 3
    assert all_of('path=d/e/')[:3] == [('MKdir', '/d/e'), ('Create', '/d/e/g'), ('Committed', '/d/e/g')]
    all_of.want = 1
    assert all_of('refused=true') == [('Unlink', '/d/f')]
    assert all_of('path=%C3%BC%20x') == [('MKdir', '/ü x')]
    all_of.want = 3
    assert all_of('path=/dd&type=R*:MKdir') == [('MKdir', '/dd'), ('Rename', '/d/h'), ('RMdir', '/dd/h')]


@pytest.mark.parametrize('path, headers, status', [
    ('/v1/events', {'Authorization': 'Bearer wrong'}, 401), ('/v1/events', {'Authorization': 'Basic ' + TOKEN}, 401),
    ('/v1/events?access_token=' + TOKEN[:-1], {'Authorization': ''}, 401), ('/v1/events?type=Nothing', {}, 400),
    ('/v1/events?from=x', {}, 400), ('/v1/events?recursive=maybe', {}, 400), ('/v1/events?path=%zz', {}, 400),
    ('/v1/events', {'Last-Event-ID': '-1'}, 400), ('/v1/events', {'Last-Event-ID': '99999999999999999999999'}, 400),
    ('/v1/files/2/notify', {}, 404), ('/v1/files/%2F/notify?filter=child_dog_added', {}, 400), ('/v1/files//notify', {}, 404), ('/etc', {}, 404),
    ('/v1/events?path=' + 'x' * 9000, {}, 400), ('/', {}, 200),
])
def test_what_is_wrong_is_refused(mount, server, path, headers, status):
    share = mount('commit=never,events=on')
    response = server(share).get(headers=headers, path=path)
    assert response.status == status
    response.read()


def test_a_server_of_this_machine_only_and_a_token_that_nobody_else_reads(mount, tmp_path):
    share = mount('commit=never,events=on')
    p = run(WORMCTL, 'events', 'sse', '--listen', '0.0.0.0:0', '--state-dir', share.state, check=False)
    assert p.returncode == 2 and '--allow-remote' in p.err
    token = tmp_path / 'token'
    token.write_text(TOKEN)
    token.chmod(0o644)
    p = run(WORMCTL, 'events', 'sse', '--token-file', token, '--state-dir', share.state, check=False)
    assert p.returncode == 2 and 'chmod 600' in p.err


def test_the_payload_of_qumulo_if_asked(mount, server):
    share = mount('commit=never,events=on')
    there = server(share)
    os.mkdir(share.at('d'))
    response = there.get('?filter=child_file_added,child_dir_added,child_file_moved_from,child_dir_moved_to,child_file_removed,child_data_written,'
                         'self_removed', path='/v1/files/%2Fd/notify')
    assert response.headers['Content-Type'] == 'text/event-source'
    assert response.readline() == b': watching\n'
    write_file(share.at('d/f'))
    ino = str(os.stat(share.at('d/f')).st_ino)
    os.mkdir(share.at('e'))
    os.mkdir(share.at('e/x'))
    os.rename(share.at('e/x'), share.at('d/x'))
    os.mkdir(share.at('d/x/deep'))	# not recursive
    os.rename(share.at('d/f'), share.at('e/f'))
    os.rmdir(share.at('d/x/deep'))
    os.rmdir(share.at('d/x'))		# child_dir_removed was not asked for
    os.rmdir(share.at('d'))
    got = [data for _, data in messages(response)]	# and the stream ends
    assert [(e['type'], e['path']) for list_ in got for e in list_] == [
        ('child_file_added', 'f'), ('child_data_written', 'f'), ('child_dir_moved_to', 'x'), ('child_file_moved_from', 'f'), ('self_removed', '')]
    assert got[0][0]['spine'][-1] == ino and got[0][0]['stream_name'] is None
    assert got[0][0]['spine'][0].isdigit()


def test_a_client_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(mount, server):
    share = mount('commit=never,events=on,events_ring=1')
    there = server(share)
    first = json.loads(run(WORMCTL, 'events', 'stats', '--json', '--state-dir', share.state).out)['next']
    query = b'GET /v1/events?from=%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n' % (first, TOKEN.encode())
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(('127.0.0.1', there.port))
    slow.sendall(query)
    strict = there.get('?recursive=true', path='/v1/files/%2F/notify')	# Qumulo's: an error instead of a gap
    for n in range(20000):		# more than buffer and ring hold
        os.mkdir(share.at(str(n)))
    share.must('sync')
    assert brief(take(there.get('?from=1'), 1))[0][0] == 'Gap'	# others are served
    last = json.loads(run(WORMCTL, 'events', 'stats', '--json', '--state-dir', share.state).out)['next'] - 1
    slow.settimeout(20)
    following = first
    response = http.client.HTTPResponse(slow)
    response.begin()
    gaps = 0
    for number, event in messages(response):
        assert event['Seq'] == following
        following += event['Event'].get('Lost', 1)
        gaps += event['Event']['Type'] == 'Gap'
        assert number == following - 1
        if number == last:
            break
    assert gaps > 0
    slow.close()
    strict.close()


def test_who_comes_with_a_Last_Event_ID_that_was_overwritten_is_told_how_many_are_gone(mount, server):
    share = mount('commit=never,events=on,events_ring=1')
    there = server(share)
    oldest = make_many(share)['oldest']
    assert oldest > 6
    response = there.get(headers={'Last-Event-ID': '5'})
    (gap_id, gap), (next_id, first) = take(response, 2)
    assert (gap['Event']['Type'], gap['Seq'], gap['Event']['Lost'], gap_id) == ('Gap', 6, oldest - 6, oldest - 1)
    assert (first['Seq'], next_id) == (oldest, oldest)
    response.close()
    response = there.get(headers={'Last-Event-ID': str(gap_id)})		# the gap's own id is behind it: nothing is told twice
    assert take(response, 1) == [(oldest, first)]
    response.close()
    # Qumulo's form has no word for it: it says why, and ends.
    response = there.get('?recursive=true', headers={'Last-Event-ID': '5'}, path='/v1/files/%2F/notify')
    assert [response.readline() for _ in range(5)] == [b': watching\n', b'\n', b': events are missing, read the directory again\n', b'\n', b'']
    response = there.get('?recursive=true&filter=child_dir_added', headers={'Last-Event-ID': str(gap_id)}, path='/v1/files/%2F/notify')
    assert take(response, 1)[0][1][0]['type'] == 'child_dir_added'		# and who misses nothing is served
    response.close()


CLIENTS_MAX = 64


def test_one_client_more_than_there_is_room_for_is_told_to_come_again(mount, server):
    share = mount('commit=never,events=on')
    there = server(share)
    clients = []
    try:
        for _ in range(CLIENTS_MAX):
            clients.append(there.get('?from=1'))
            assert clients[-1].status == 200
        response = there.get('?from=1')
        assert (response.status, response.headers['Retry-After']) == (503, '5')
        assert response.read() == b'too many clients\n'
        assert there.get(path='/').status == 200		# it still answers
        take(clients[-1], 1)		# nobody was sent away for it
        clients.pop().close()

        def served():
            response = there.get('?from=1')
            clients.append(response)
            return response.status == 200
        wait_for('the place to be free', served)
    finally:
        for client in clients:
            client.close()


def test_keepalives_come_when_nothing_happens_and_places_go_on_over_what_is_not_for_us(mount, server):
    share = mount('commit=never,events=on')
    there = server(share)
    make_many(share, 6000)
    response = there.get('?from=1&type=Symlink')
    lines = []
    begin = time.monotonic()
    while b': keepalive\n' not in lines:
        lines.append(response.readline())
    assert time.monotonic() - begin < 20
    assert lines[0] == b': watching\n'
    assert [line for line in lines if line.startswith(b'id: ')] and not [line for line in lines if line.startswith(b'data: ')]
