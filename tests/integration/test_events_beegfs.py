"""The events as BeeGFS's listeners hear them. Decoders of its packets here are written from the format alone."""
import contextlib
import json
import os
import socket
import struct
import subprocess
import time

import pytest

from event_harness import Load, replay, socket_path		# noqa: F401
from harness import WORMCTL, daemon_environment, errno_of, open_errno, run, wait_for, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


def strings(data, at, count):
    out = []
    for _ in range(count):
        n, = struct.unpack_from('<I', data, at)
        out.append(data[at + 4:at + 4 + n])
        assert data[at + 4 + n] == 0
        at += 5 + n
    return out, at


def decode7(data):
    major, minor, size, dropped, missed, kind = struct.unpack_from('<HHIQQI', data)
    assert (major, minor, size) == (1, 0, len(data))
    texts, end = strings(data, 28, 5)
    assert end == len(data)
    return kind, dropped, missed, texts


def decode8(data):
    assert data[1:8] == b'events\0'
    kind, body = data[0], data[8:]
    if kind != 8:
        return kind, body
    msn, n = struct.unpack_from('<QH', body)
    assert n == len(body) - 10 and len(data) <= 1024
    version, flags, links, what = struct.unpack_from('<HIQI', body, 10)
    assert version == 2 and flags == 0
    texts, end = strings(body, 28, 5)
    uid, when = struct.unpack_from('<Iq', body, end)
    assert end + 12 == len(body) and abs(when / 1e9 - time.time()) < 600
    return kind, (msn, what, links, texts, uid)


HELLO, NEWEST, RANGE, START = b'\x01events\0', b'\x03events\0', b'\x05events\0', b'\x07events\0'


def stream8(listener, msn=1):
    """A connection of version 8 whose stream begins at this number."""
    peer = listener.accept()
    assert decode8(peer.recv(1024))[0] == 2
    peer.send(HELLO + struct.pack('<HH', 2, 0))
    peer.send(START + struct.pack('<Q', msn))
    return peer


class Listener:
    """A listener as BeeGFS has it: binds, and one metadata server connects."""
    def __init__(self, path):
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(path)
        self.socket.listen(1)
        self.socket.settimeout(15)

    def accept(self):
        peer = self.socket.accept()[0]
        peer.settimeout(15)
        return peer

    def close(self):
        self.socket.close()
        os.unlink(self.path)


def test_beegfs_7_gets_its_packets_and_what_nobody_heard_is_counted_exactly(mount, socket_path):
    share = mount('commit=never,audit=off', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,audit=off,events=beegfs7:unix:%s' % socket_path)
    received, dropped, names = 0, 0, set()
    with Load(share) as load:
        for round in range(4):
            load.after(50)
            listener = Listener(socket_path)
            peer = listener.accept()
            for _ in range(300):
                kind, dropped, missed, texts = decode7(peer.recv(65536))
                assert kind == 5 and missed == 0	# MKdir of version 7
                names.add(texts[2])
                received += 1
            # It goes away under load: what has come is read, what comes now is nobody's.
            peer.shutdown(socket.SHUT_RDWR)
            while True:
                data = peer.recv(65536)
                if not data:
                    break
                names.add(decode7(data)[3][2])
                received += 1
            peer.close()
            listener.close()
    share.must('sync')
    listener = Listener(socket_path)
    peer = listener.accept()
    os.mkdir(share.at('last'))
    while b'/last' not in names:
        kind, dropped, missed, texts = decode7(peer.recv(65536))
        names.add(texts[2])
        received += 1
    assert received + dropped == load.count + 1
    assert received == len(names) and dropped > 0
    peer.close()
    listener.close()


def test_beegfs_8_goes_on_where_a_killed_listener_left_off(mount, socket_path):
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=beegfs8:%s' % socket_path)
    listener = Listener(socket_path)
    following, names = 1, []

    def hello(peer):
        kind, body = decode8(peer.recv(1024))
        assert kind == 2 and struct.unpack('<HHIH', body)[:2] == (2, 0)
        peer.send(b'\x01events\0' + struct.pack('<HH', 2, 0))
        peer.send(b'\x05events\0')
        kind, body = decode8(peer.recv(1024))
        newest, oldest = struct.unpack('<QQ', body)
        assert kind == 6 and oldest == 1 and newest >= following
        peer.send(b'\x07events\0' + struct.pack('<Q', following))
    with Load(share) as load:
        for round in range(3):
            peer = listener.accept()
            hello(peer)
            for _ in range(400):
                kind, (msn, what, links, texts, uid) = decode8(peer.recv(1024))
                assert kind == 8 and msn == following and what == 6 and uid == 0
                following += 1
                names.append(texts[2])
            peer.close()	# with unread packets in it, as by a kill
    peer = listener.accept()
    hello(peer)
    while len(names) < load.count:
        kind, (msn, what, links, texts, uid) = decode8(peer.recv(1024))
        assert msn == following
        following += 1
        names.append(texts[2])
    assert len(set(names)) == load.count
    peer.send(b'\x09events\0')
    assert decode8(peer.recv(1024)) == (10, b'\0')
    assert peer.recv(10) == b''
    peer.close()
    listener.close()


@pytest.mark.parametrize('version', [7, 8])
def test_wormctl_listens_as_the_listener_of_beegfs_does(mount, socket_path, version):
    share = mount('retention=1y', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('retention=1y,events=beegfs%d:%s' % (version, socket_path))
    p = subprocess.Popen([WORMCTL, 'events', 'listen', '--count', '4', socket_path], stdout=subprocess.PIPE, env=daemon_environment())
    connected = lambda: share.info()['events']['sinks'][0]['error'] is None
    wait_for('the daemon to connect', connected)
    time.sleep(0)
    share.must('sync')
    if version == 8:	# it has asked for what comes when it has its answer
        wait_for('the stream', lambda: mkdir_until(share, p))
    else:
        os.mkdir(share.at('d'))
        os.rename(share.at('d'), share.at('e\nf'))
        os.mkdir(share.at('g'))
        os.rmdir(share.at('g'))
    out = p.communicate(timeout=20)[0]
    lines = [json.loads(line) for line in out.splitlines()]
    assert p.returncode == 0 and len(lines) == 4
    assert all(l['VersionMajor'] == (1 if version == 7 else 2) and l['VersionMinor'] == 0 for l in lines)
    if version == 7:
        assert [l['Event']['Type'] for l in lines] == ['MKdir', 'Rename', 'MKdir', 'RMdir']
        assert lines[1]['Event']['TargetPath'] == '/e\nf' and lines[0]['Event']['ParentEntryId'] == 'root'
        assert lines[0]['Event']['EntryId'] == lines[1]['Event']['EntryId']
    else:
        assert [l['Msn'] for l in lines] == list(range(lines[0]['Msn'], lines[0]['Msn'] + 4))
        for line in lines:
            assert list(line) == ['VersionMajor', 'VersionMinor', 'PacketSize', 'Msn', 'Links', 'UserId', 'Timestamp', 'Flags', 'Event']
            assert (line['UserId'], line['Flags'], line['Links']) == (os.getuid(), 0, 2)	# a directory, and its "."
            assert abs(line['Timestamp'] / 1e9 - time.time()) < 600
            # The header of a packet, number and length of the event; what is fixed in it; five strings.
            names = ('EntryId', 'ParentEntryId', 'Path', 'TargetPath', 'TargetParentId')
            assert line['PacketSize'] == 18 + 30 + sum(5 + len(line['Event'][name]) for name in names)
    assert not os.path.exists(socket_path)


def test_wormctl_listens_from_the_message_that_it_is_told(mount, socket_path):
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=beegfs8:%s' % socket_path)
    for n in range(8):
        os.mkdir(share.at('d%d' % n))
    share.must('sync')

    def listen(*options):
        p = subprocess.run([WORMCTL, 'events', 'listen', *options, socket_path], stdout=subprocess.PIPE, env=daemon_environment(), timeout=30)
        assert p.returncode == 0
        return [(line['Msn'], line['Event']['Path']) for line in map(json.loads, p.stdout.splitlines())]
    all_of = listen('--from', '1', '--count', '8')
    assert [msn for msn, _ in all_of] == list(range(1, 9)) and [path for _, path in all_of] == ['/d%d' % n for n in range(8)]
    assert listen('--from', '5', '--count', '3') == all_of[4:7]		# not from 1, and not what comes
    assert listen('--from', '1', '--count', '1') == all_of[:1]		# who asks again gets it again


def mkdir_until(share, p):
    os.mkdir(share.at('d%d' % time.monotonic_ns()))
    return p.poll() is not None


def test_a_refused_open_is_blocked_for_beegfs_8_and_locks_are_not_its_business(mount, socket_path):
    share = mount('retention=1y', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('retention=1y,events=beegfs8:%s' % socket_path)
    listener = Listener(socket_path)
    peer = stream8(listener)
    write_file(share.at('f'))
    assert open_errno(share.at('f'), os.O_RDWR) == 'EPERM'
    assert errno_of(os.unlink, share.at('f')) == 'EPERM'	# did not happen: not told
    os.mkdir(share.at('d'))
    got = [decode8(peer.recv(1024))[1] for _ in range(4)]
    assert [(msn, what, texts[2]) for msn, what, links, texts, uid in got] == [(1, 5, b'/f'), (2, 16, b'/f'), (3, 17, b'/f'), (4, 6, b'/d')]
    peer.close()
    listener.close()


def test_what_a_listener_of_8_says_wrong_is_passed_over_or_ends_the_connection_with_a_word(mount, socket_path):
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    listener = Listener(socket_path)
    share.start('commit=never,audit=off,events=beegfs8:%s' % socket_path)

    def meet(*packets):
        peer = listener.accept()
        assert decode8(peer.recv(1024))[0] == 2
        for packet in packets:
            peer.send(packet)
        return peer
    os.mkdir(share.at('a'))
    share.must('sync')
    # Another version is no reason to part, nor is a packet that nobody knows, nor one that only the server says.
    peer = meet(HELLO + struct.pack('<HH', 9, 9), b'\x63events\0what', b'\x04events\0' + bytes(8), NEWEST)
    kind, body = decode8(peer.recv(1024))
    assert (kind, struct.unpack('<Q', body)[0]) == (4, 2) and 'speaks another version' in share.log_text()
    # A number that the ring does not have yet, or had: the stream has crashed, and the connection stays.
    for msn in (99, 0):
        peer.send(START + struct.pack('<Q', msn))
        assert decode8(peer.recv(1024)) == (10, b'\x01')
    peer.send(START + struct.pack('<Q', 1))
    assert decode8(peer.recv(1024))[1][3][2] == b'/a'
    # What is no packet at all is the end.
    for wrong in (b'\x05event', b'\x07events\0\1', b''.join((HELLO, bytes(100)))):
        peer.send(wrong)
        assert decode8(peer.recv(1024)) == (10, b'\x03') and peer.recv(1024) == b''
        peer.close()
        peer = meet(HELLO + struct.pack('<HH', 2, 0))
    peer.close()
    peer = meet(NEWEST)		# before the handshake
    assert decode8(peer.recv(1024)) == (10, b'\x03') and peer.recv(1024) == b''
    peer.close()
    listener.close()


def test_what_is_longer_than_a_packet_of_8_is_counted_and_goes_to_a_long_one(mount, tmp_path):
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    usual, long = Listener(str(tmp_path / 'u')), Listener(str(tmp_path / 'l'))
    share.start('commit=never,audit=off,events=beegfs8:%s,events=beegfs8-long:%s' % (usual.path, long.path))
    peers = stream8(usual), stream8(long)
    deep = share.mnt
    for n in range(5):
        deep += '/' + chr(97 + n) * 240
        os.mkdir(deep)
    os.mkdir(share.at('last'))

    def names(peer):
        got = []
        while got[-1:] != [b'/last']:
            data = peer.recv(65536)
            texts, _ = strings(data[8:], 28, 3)
            got.append(texts[2])
        return got
    got = names(peers[0]), names(peers[1])
    assert [len(name) for name in got[1]] == [241 * n for n in range(1, 6)] + [5]
    assert got[0] == [name for name in got[1] if len(name) < 900]
    told = {c['consumer']: c['dropped'] for c in map(json.loads, run(
        WORMCTL, 'events', 'consumers', '--json', '--state-dir', share.state, check=False).out.splitlines())}
    assert told == {'beegfs8:' + usual.path: 6 - len(got[0]), 'beegfs8-long:' + long.path: 0} and len(got[0]) < 6
    for peer, listener in zip(peers, (usual, long)):
        peer.close()
        listener.close()


def test_changes_of_a_file_with_other_names_are_missed_for_7_and_have_their_links_for_8(mount, tmp_path):
    """Counted are setattr, truncate, flush, open and close, as BeeGFS does; what changes names is not."""
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    seven, eight = Listener(str(tmp_path / '7')), Listener(str(tmp_path / '8'))
    share.start('commit=never,audit=off,events_types=*,events=beegfs7:%s,events=beegfs8:%s' % (seven.path, eight.path))
    peers = seven.accept(), stream8(eight)
    a, b = share.at('a'), share.at('b')
    write_file(a)			# Create, LastWriterClosed: one name
    os.link(a, b)			# Hardlink
    os.chmod(a, 0o600)			# SetAttr: 1
    os.setxattr(b, 'user.x', b'x')	# SetAttr: 2
    os.truncate(a, 3)			# Truncate: 3
    with open(a, 'rb'):			# OpenRead: 4
        pass
    with open(b, 'r+b') as f:		# OpenReadWrite: 7 has none
        f.write(b'more')
        f.flush()
        os.fsync(f.fileno())		# Flush: 5
    with open(a, 'wb') as f:		# LastWriterClosed: 6; Truncate: 7; OpenWrite: 7 has none
        f.write(b'anew')		# LastWriterClosed: 8
    wait_for('the close', lambda: [e['Type'] for e in replay(share)].count('LastWriterClosed') == 3)
    os.unlink(b)			# Unlink: the name of one
    os.chmod(a, 0o640)			# SetAttr: no other name
    os.mkdir(share.at('last'))
    told, missed = [], []
    while told[-1:] != [(6, 'last')]:
        kind, (msn, what, links, texts, uid) = decode8(peers[1].recv(1024))
        told.append((what, 'last' if texts[2] == b'/last' else links))
    assert told == [(5, 1), (16, 1), (11, 2), (3, 2), (3, 2), (2, 2), (13, 2), (15, 2), (1, 2), (16, 2), (2, 2), (14, 2), (16, 2), (10, 1), (3, 1),
                    (6, 'last')]
    while missed[-1:] != [b'/last']:
        kind, dropped, count, texts = decode7(peers[0].recv(65536))
        missed.append(texts[2] if texts[2] == b'/last' else (kind, count))
    assert missed == [(4, 0), (3, 0), (10, 0), (2, 1), (2, 2), (1, 3), (12, 4), (0, 5), (3, 6), (1, 7), (3, 8), (9, 8), (2, 8), b'/last']
    for peer in peers:
        peer.close()
    for listener in (seven, eight):
        listener.close()


def test_decode_prints_golden_packets_and_says_what_is_none(tmp_path):
    golden = ('010000004d000000000000000000000000000000000000000b0000000c000000302d35413945423041372d310004000000726f6f74000200'
              '00002f61000200''00002f620004000000726f6f7400')
    raw = tmp_path / 'packet'
    raw.write_bytes(bytes.fromhex(golden))
    p = run(WORMCTL, 'events', 'decode', '--raw', raw)
    assert json.loads(p.out) == {
        'VersionMajor': 1, 'VersionMinor': 0, 'PacketSize': 77, 'Dropped': 0, 'Missed': 0,
        'Event': {'Type': 'Rename', 'Path': '/a', 'EntryId': '0-5A9EB0A7-1', 'ParentEntryId': 'root', 'TargetPath': '/b',
                  'TargetParentId': 'root'}}
    lines = tmp_path / 'lines'
    lines.write_text(golden + '\n0a6576656e74730001\nnothing\n0102\n')
    p = run(WORMCTL, 'events', 'decode', lines, check=False)
    assert p.returncode == 1 and len(p.out.splitlines()) == 2
    assert json.loads(p.out.splitlines()[1]) == {'Packet': 'Close', 'PacketSize': 9, 'Reason': 1}
    assert 'line 3: write a packet a line, in hexadecimal' in p.err and 'line 4: 2 bytes' in p.err
