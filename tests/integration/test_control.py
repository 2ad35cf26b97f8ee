"""The control socket: nothing that is sent to it stops the daemon, and only root or its own user is heard."""
import json
import os
import random
import re
import socket
import stat
import threading
import time

import pytest

from harness import ALICE, DEADLINE_S, Control, as_user, errno_of, wait_for, write_file

LINE_MAX = 65536


def ask(share, data, lines=1):
    """Sends bytes; the answers as dicts; None where the daemon closed the connection."""
    with Control(share) as c:
        try:
            c.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        out = []
        for _ in range(lines):
            line = c.line()
            out.append(json.loads(line) if line else None)
        return out[0] if lines == 1 else out


def logged(share, uid=0, pid=None):
    """What the log has of requests that were refused; every line has to name who asked."""
    who = 'uid %d (pid %d) ' % (uid, pid or os.getpid())
    lines = re.findall(r'^wormfs: warning: control: (.*)$', share.log_text(), re.M)
    assert [l for l in lines if not l.startswith(who)] == []
    return [l[len(who):] for l in lines]


def works(share):
    return share.alive() and share.must('mount')['mount']['pid'] == share.proc.pid


def assert_refused(share, data, *errnos):
    answer = ask(share, data)
    assert answer is None or (answer['ok'] is False and answer['error'] and (not errnos or answer['errno'] in errnos)), answer
    assert works(share)


MALFORMED = {
    'no JSON': b'hello\n', 'an empty line': b'\n', 'half an object': b'{"verb":"mount"\n', 'an array': b'["mount"]\n',
    'a number': b'1\n', 'a string': b'"mount"\n', 'null': b'null\n', 'true': b'true\n', 'no verb': b'{}\n',
    'an unknown verb': b'{"verb":"format"}\n', 'a verb that is no string': b'{"verb":1}\n', 'a verb that is null': b'{"verb":null}\n',
    'a verb that is an object': b'{"verb":{"verb":"mount"}}\n', 'no path': b'{"verb":"commit"}\n',
    'a path that is a number': b'{"verb":"commit","path":1}\n', 'a path that is an array': b'{"verb":"hold","path":["a"],"case":"x"}\n',
    'no case': b'{"verb":"hold","path":"a"}\n', 'a case that is a number': b'{"verb":"hold","path":"a","case":1}\n',
    'no until': b'{"verb":"extend","path":"a"}\n', 'an until that is a number': b'{"verb":"extend","path":"a","until":1}\n',
    'two objects': b'{"verb":"mount"}{"verb":"mount"}\n', 'NUL bytes': b'\0\0\0\n', 'a NUL in a string': b'{"verb":"mou\\u0000nt"}\n',
    'bytes that are not UTF-8': b'{"verb":"\xff\xfe"}\n', 'deep nesting': b'[' * 30000 + b'\n',
    'deep objects': b'{"a":' * 10000 + b'\n', 'a huge number': b'{"verb":"extend","path":"a","until":' + b'9' * 400 + b'}\n',
    'a huge exponent': b'{"verb":1e999999}\n',
    'a long verb': b'{"verb":"' + b'x' * 60000 + b'"}\n',
    'a verb that would be a line of the log': b'{"verb":"x\\nwormfs: info: forged"}\n',
}
CASE = 'a name for a hold (1-128 bytes of UTF-8, no \'/\', no control character)'
SAID = {	# of all others: what is not a request
    'an unknown verb': "asked for the unknown verb 'format', refused",
    'a long verb': "asked for the unknown verb '%s', refused" % ('x' * 40),
    'a verb that would be a line of the log': r"asked for the unknown verb 'x\x0awormfs: info: forged', refused",
    'no path': "asked for 'commit' wrongly, refused: \"path\" is missing: a path below the share",
    'a path that is a number': "asked for 'commit' wrongly, refused: \"path\" is not a path below the share",
    'a path that is an array': "asked for 'hold' wrongly, refused: \"path\" is not a path below the share",
    'no case': "asked for 'hold' wrongly, refused: \"case\" is missing: " + CASE,
    'a case that is a number': "asked for 'hold' wrongly, refused: \"case\" is not " + CASE,
    'no until': "asked for 'extend' wrongly, refused: \"until\" is missing: a date or period",
    'an until that is a number': "asked for 'extend' wrongly, refused: \"until\" is not a date or period",
}


@pytest.mark.parametrize('what', MALFORMED)
def test_a_malformed_request_is_refused_and_logged_with_who_sent_it_and_the_daemon_lives(wormfs, what):
    wormfs.lock('a')
    assert_refused(wormfs, MALFORMED[what])
    assert logged(wormfs) == [SAID.get(what, 'sent what is not a request, refused')]
    assert wormfs.shows('a', 'holds') == '' and wormfs.shows('a', 'until') == 'unspecified'


@pytest.mark.parametrize('path', ['a/' * 20000 + 'a', 'a' * 60000])
def test_a_path_that_no_file_can_have_is_refused_and_the_daemon_lives(wormfs, path):
    assert_refused(wormfs, b'{"verb":"commit","path":"%s"}\n' % path.encode(), 'ENAMETOOLONG', 'ENOENT')


def test_every_line_of_what_is_no_request_is_refused_and_logged(wormfs):
    answers = ask(wormfs, b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 3)
    assert [a['ok'] for a in answers] == [False] * 3
    assert logged(wormfs) == ['sent what is not a request, refused'] * 3


@pytest.mark.parametrize('size', [LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, 1 << 20])
def test_an_oversized_line_is_refused_and_logged_with_who_sent_it_and_the_daemon_lives(wormfs, size):
    line = b'{"verb":"mount","pad":"'
    line += b'x' * (size - len(line) - 3) + b'"}\n'
    assert len(line) == size
    answer = ask(wormfs, line)
    if size <= LINE_MAX:
        assert answer['ok'] is True
    else:
        assert answer is None or answer['ok'] is False
    assert logged(wormfs) == (['sent a line of more than %d bytes, refused' % LINE_MAX] if size > LINE_MAX else [])
    assert works(wormfs)


def test_a_line_without_an_end_takes_no_memory_for_ever(wormfs):
    with Control(wormfs) as c:
        try:
            for _ in range(64):
                c.send(b'x' * (1 << 20))
        except (BrokenPipeError, ConnectionResetError, socket.timeout):
            pass
    assert logged(wormfs) == ['sent a line of more than %d bytes, refused' % LINE_MAX]
    assert works(wormfs)
    with open('/proc/%d/status' % wormfs.proc.pid) as f:
        rss = next(int(l.split()[1]) for l in f if l.startswith('VmRSS'))
    assert rss < 500 * 1024


def test_several_requests_on_one_connection_are_answered_in_order(wormfs):
    wormfs.lock('a')
    with Control(wormfs) as c:
        c.send(b'{"verb":"hold","path":"a","case":"x"}\n{"verb":"nonsense"}\n{"verb":"explain","path":"a"}\n{"verb":"sync"}\n')
        answers = [json.loads(c.line()) for _ in range(4)]
    assert [a['ok'] for a in answers] == [True, False, True, True]
    assert answers[2]['file']['holds'] == ['x']


def test_a_request_in_pieces_is_put_together(wormfs):
    with Control(wormfs) as c:
        for byte in b'{"verb":"mount"}\n':
            c.send(bytes([byte]))
        assert json.loads(c.line())['ok'] is True


def test_the_socket_is_for_its_owner_only(wormfs):
    path = os.path.join(wormfs.state, 'control')
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(wormfs.state).st_mode) & 0o077 == 0


def test_another_user_is_refused_and_logged_by_the_daemon_also_when_the_socket_is_open_to_him(wormfs):
    wormfs.lock('a')
    path = os.path.join(wormfs.state, 'control')
    os.chmod(wormfs.state, 0o755)
    os.chmod(path, 0o666)

    def knock(request):
        fd = os.open(wormfs.state, os.O_PATH)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(DEADLINE_S)
            s.connect('/proc/self/fd/%d/control' % fd)
            try:
                s.sendall(request)
                return os.getpid(), s.recv(65536).decode()
            except (BrokenPipeError, ConnectionResetError):
                return os.getpid(), ''
    lines = []
    for request in (b'{"verb":"hold","path":"a","case":"x"}\n', b'{"verb":"release","path":"a","case":"x"}\n',
                    b'{"verb":"extend","path":"a","until":"infinite"}\n', b'{"verb":"commit","path":"a"}\n',
                    b'{"verb":"mount"}\n', b'{"verb":"reindex"}\n'):
        pid, answer = as_user(ALICE, knock, request)
        assert answer == '' or json.loads(answer)['errno'] in ('EPERM', 'EACCES'), answer
        lines.append('wormfs: warning: control: uid %d (pid %d) may not ask, refused' % (ALICE, pid))
    # The daemon closes before it has read: the client may be gone before the line is there.
    wait_for('a line of each', lambda: [l for l in wormfs.log_text().splitlines() if 'control: ' in l] == lines)
    assert (wormfs.shows('a', 'holds'), wormfs.shows('a', 'until')) == ('', 'unspecified')
    assert works(wormfs)


def test_who_has_a_role_is_refused_and_logged_when_he_asks_for_what_it_does_not_cover(mount):
    share = mount('retention=1d,hold_role=%d' % ALICE, lower_mode=0o777)
    share.lock('a')
    pid, answer = as_user(ALICE, lambda: (os.getpid(), share.control('delete', 'a', reason='x')))
    assert (answer['ok'], answer['errno']) == (False, 'EPERM')
    assert logged(share, ALICE, pid) == ["may not ask for 'delete', refused"]
    assert share.shows('a') == 'retained' and works(share)


def test_who_asks_is_taken_from_the_socket_not_from_the_request(wormfs):
    wormfs.lock('a')
    answer = ask(wormfs, b'{"verb":"hold","path":"a","case":"x","by":1000,"uid":1000}\n')
    assert answer['ok'] is True
    p = wormfs.ctl('status', '--json', wormfs.at('a'))
    assert '"by": 1000' not in p.out and '"by":1000' not in p.out


def test_idle_and_slow_clients_do_not_keep_others_out(wormfs):
    wormfs.lock('a')
    idle = []
    try:
        for _ in range(8):
            idle.append(Control(wormfs))
            idle[-1].send(b'{"verb":"mou')
        start = time.monotonic()
        assert works(wormfs)
        assert time.monotonic() - start < 5
        os.stat(wormfs.at('a'))
    finally:
        for c in idle:
            c.socket.close()
    assert works(wormfs)


def test_more_clients_than_are_served_at_once_are_all_answered_in_the_end(wormfs):
    answers = []

    def one():
        for _ in range(5):
            answers.append(wormfs.must('mount')['mount']['pid'])
    threads = [threading.Thread(target=one) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [wormfs.proc.pid] * 200


def test_a_client_that_goes_away_before_its_answer_harms_nobody(wormfs):
    for n in range(200):
        c = Control(wormfs)
        c.send(b'{"verb":"mount"}\n' * (n % 20 + 1))
        c.socket.close()
    assert works(wormfs)


def test_a_client_that_never_reads_its_answers_does_not_block_the_mount(wormfs):
    with Control(wormfs) as c:
        c.socket.settimeout(1)
        try:
            for _ in range(20000):
                c.send(b'{"verb":"mount"}\n')
        except (socket.timeout, BrokenPipeError, ConnectionResetError):
            pass
        start = time.monotonic()
        wormfs.lock('a')
        assert works(wormfs)
        assert time.monotonic() - start < DEADLINE_S
    assert works(wormfs)


def test_random_bytes_never_stop_the_daemon(wormfs):
    rng = random.Random(1)
    words = [b'{"verb":"', b'mount', b'explain', b'"', b',', b'"path":"', b'%', b'%2F', b'..', b'}', b'{', b'[', b'\n', b'\\u0000',
             b'\\ud800', b'1e999', b'"case":"', b'"until":"', b'a', b'\xff', b'null', b':', b'\\', b'hold', b'extend']
    for n in range(300):
        data = b''.join(rng.choice(words) for _ in range(rng.randrange(40)))
        data += os.urandom(rng.randrange(20)) + b'\n'
        with Control(wormfs) as c:
            try:
                c.send(data)
                c.socket.shutdown(socket.SHUT_WR)
                while c.line():
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
    assert works(wormfs)


def test_requests_during_unmount_do_not_hinder_it(wormfs):
    stop = threading.Event()

    def hammer():
        while not stop.is_set():
            try:
                wormfs.control('mount')
            except (OSError, ValueError):
                pass
    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for _ in range(5):
            wormfs.remount()
    finally:
        stop.set()
        for t in threads:
            t.join()


def test_reindex_and_writers_go_on_side_by_side(wormfs):
    stop, count = threading.Event(), [0]

    def write():
        while not stop.is_set():
            write_file(wormfs.at('w%d' % count[0]), b'x')
            count[0] += 1
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            wormfs.must('reindex')
    finally:
        stop.set()
        thread.join()
    wormfs.must('sync')
    assert len(wormfs.listed()) == count[0]


VERBS = ['mount', 'explain', 'commit', 'append', 'extend', 'hold', 'release', 'order-new', 'order-add', 'order-run', 'order-drop',
         'delete', 'shorten', 'expire', 'requests', 'approve', 'sync', 'verified', 'nothing', '']


def random_value(rng, depth=0):
    return rng.choice([
        lambda: rng.choice(['a', 'dir', 'dir/a', '', '/', '..', 'a/..', '%00', '%2F', '%zz', 'missing', '\u0000', '\ud800', 'x' * 300]),
        lambda: rng.choice(['1d', '2090-01-01', 'infinite', '@9999999999999999999', '-1s', '9' * 50 + 'y', 'case-1']),
        lambda: rng.choice([0, -1, 1 << 62, 1e300, True, False, None]),
        lambda: [random_value(rng, depth + 1)] if depth < 5 else [], lambda: {'path': random_value(rng, depth + 1)} if depth < 5 else {},
    ])()


def test_random_requests_of_every_verb_are_answered_and_never_unlock(wormfs):
    """Well-formed JSON, and now and then a byte of it changed: one answer a line, and what is locked stays so."""
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    print('seed %d' % seed)
    os.mkdir(wormfs.at('dir'))
    for name in ('a', 'dir/a'):
        wormfs.lock(name)
    end = time.monotonic() + (60 if os.environ.get('WORMFS_TEST_SOAK') == '1' else 3)
    while time.monotonic() < end:
        request = {key: random_value(rng) for key in rng.sample(['path', 'until', 'case', 'order', 'reason', 'id', 'files', 'kinds',
                                                                 'below', 'verb', 'x'],
                                                                rng.randrange(7))}
        if rng.random() < 0.9:
            request['verb'] = rng.choice(VERBS)
        data = bytearray(json.dumps(request).encode())
        if rng.random() < 0.3:
            data[rng.randrange(len(data))] = rng.choice(b'{}[]",:\\\0\xff0a')
        answer = ask(wormfs, bytes(data).replace(b'\n', b' ') + b'\n')
        assert answer is not None and isinstance(answer['ok'], bool) and (answer['ok'] or answer['errno'] and answer['error']), request
    assert works(wormfs)
    for name in ('a', 'dir/a'):
        assert wormfs.shows(name) == 'retained' and errno_of(os.unlink, wormfs.at(name)) == 'EPERM'
