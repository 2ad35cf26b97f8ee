"""PUT of files that are larger than what a request may have in memory."""
import hashlib
import http.client
import os
import socket

from harness import read_file, sanitizer

MB = 1 << 20


def put(a, name, pieces, length=None):
    """(status, body) of a PUT whose body is sent piece by piece; without a length, chunked."""
    c = http.client.HTTPConnection('localhost', timeout=60)
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.settimeout(60)
    c.sock.connect(a.socket)
    headers = {} if length is None else {'Content-Length': str(length)}
    try:
        c.request('PUT', '/' + name, body=pieces, headers=headers, encode_chunked=length is None)
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def memory(a, key):
    with open('/proc/%d/status' % a.proc.pid, encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key + ':')) * 1024


def test_a_big_file_is_stored_with_little_memory(archive):
    a = archive()
    piece, n = os.urandom(MB), 96
    wanted = hashlib.sha256(piece * n).digest()
    before = memory(a, 'VmHWM')
    assert put(a, 'big', (piece for _ in range(n)), n * MB)[0] == 201
    assert hashlib.sha256(read_file(a.at('big'))).digest() == wanted
    assert sanitizer() or memory(a, 'VmHWM') - before < 48 * MB		# a sanitizer keeps what is freed
    a.settle()
    assert a.is_now('big') == 'released'
    assert put(a, 'big', (piece for _ in range(20)))[0] == 204		# chunked: its length is known at its end
    assert os.stat(a.at('big')).st_size == 20 * MB
    assert sorted(os.listdir(a.store)) == ['data', 'stage', 'state', 'tape'], 'what came is gone, and had no name'


def test_an_empty_and_a_small_file(archive):
    a = archive()
    assert put(a, 'empty', b'', 0)[0] == 201 and read_file(a.at('empty')) == b''
    assert put(a, 'small', b'one\n', 4)[0] == 201 and read_file(a.at('small')) == b'one\n'


def test_what_does_not_fit_is_told(archive):
    a = archive(cache__size='1M')
    status, text = put(a, 'f', b'x' * (2 * MB), 2 * MB)
    assert status >= 400 and b'ENOSPC' in text


def test_more_than_anybody_has_is_refused_by_its_length_alone(archive):
    a = archive()
    c = socket.socket(socket.AF_UNIX)
    c.connect(a.socket)
    c.sendall(b'PUT /f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2199023255552\r\n\r\n')
    c.settimeout(10)
    assert c.recv(100).startswith(b'HTTP/1.1 413')
    c.close()
    assert not os.path.exists(a.at('f'))
