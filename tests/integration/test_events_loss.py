"""Events that a consumer does not get any more are counted once, and told by a gap, whoever it is and however he comes back."""
import json
import os
import signal
import socket
import struct
import subprocess
import threading

import pytest

from event_harness import check_numbers, ctl, event_of, make_many, replay, socket_path		# noqa: F401
from harness import WORMCTL, daemon_environment, wait_for
from test_events_beegfs import Listener, decode7, decode8
from test_events_cloudevents import ALLOWED, receiver		# noqa: F401

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


def dropped_of(share, name):
    told = [json.loads(line) for line in ctl(share, 'consumers', '--json', check=False).out.splitlines()]
    return {c['consumer']: c['dropped'] for c in told}[name]


class Lines:
    """Reads lines from a FIFO or the first connection to a socket."""
    def __init__(self, stream):
        self.got = []
        self.thread = threading.Thread(target=self.run, args=(stream,))
        self.thread.start()

    def run(self, stream):
        with stream() as f:
            for line in f:
                self.got.append(event_of(line))
                if self.got[-1]['Path'] == '/last':
                    return


def lines_of_a_fifo(path):
    return lambda: open(path, 'rb')


def lines_of_a_socket(path):
    def accept():
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.listen(1)
            return s.accept()[0].makefile('rb')
    return accept


@pytest.mark.parametrize('kind', ['fifo', 'socket'])
def test_who_is_away_while_the_ring_goes_round_gets_one_gap_for_it(mount, tmp_path, kind):
    path = str(tmp_path / 's')
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    if kind == 'fifo':
        os.mkfifo(path)
    sink = 'json:' + ('unix:' if kind == 'socket' else '') + path
    share.start('commit=never,audit=off,events_ring=1,events=' + sink)
    oldest = make_many(share)['oldest']
    assert oldest > 1 and dropped_of(share, sink) == 0		# nobody was passed over yet
    lines = Lines((lines_of_a_fifo if kind == 'fifo' else lines_of_a_socket)(path))
    wait_for('the reader', lambda: lines.got)
    os.mkdir(share.at('last'))
    lines.thread.join()
    assert [e['Seq'] for e in lines.got if e['Type'] == 'Gap'] == [1]
    assert lines.got[0]['Lost'] == lines.got[1]['Seq'] - 1 >= oldest - 1 and lines.got[0]['Detail'] == 'overwritten'
    check_numbers(lines.got)
    assert dropped_of(share, sink) == lines.got[0]['Lost']


def test_a_receiver_that_comes_back_gets_the_gap_once_and_it_is_counted_once(mount, receiver):		# noqa: F811
    http = receiver()
    share = mount('commit=never', start=False)
    share.allowed.append(ALLOWED)
    sink = 'cloudevents-batch:http://127.0.0.1:%d/' % http.port
    http.close()
    share.start('commit=never,audit=off,events_ring=1,events=' + sink)
    make_many(share)
    again = receiver(port=http.port, answers=[503, 503])	# the gap is sent three times
    os.mkdir(share.at('last'))
    wait_for('the last', lambda: again.events and again.events[-1]['data']['Event']['Path'] == '/last')
    events = [event_of(json.dumps(e['data']).encode()) for e in again.events]
    check_numbers(events)
    gaps = [e for e in events if e['Type'] == 'Gap']
    assert len(gaps) == 1 and events[0] == gaps[0] and dropped_of(share, sink) == gaps[0]['Lost']


def test_a_listener_of_7_is_told_of_what_a_killed_daemon_lost(mount, socket_path):		# noqa: F811
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    listener = Listener(socket_path)
    listener.socket.listen(4)
    sink = 'beegfs7:unix:' + socket_path
    names, reader = set(), None

    def read():
        for _ in range(4):
            peer = listener.accept()
            while True:
                try:
                    data = peer.recv(65536)
                except OSError:
                    break
                if not data:
                    break
                names.add(decode7(data)[3][2])
                if names >= {b'/last'}:
                    return
    reader = threading.Thread(target=read)
    reader.start()
    share.start('commit=never,audit=off,events=' + sink)
    for round in range(3):
        made = [0]

        def make(round=round, made=made):
            try:
                while True:
                    os.mkdir(share.at('r%d-%d' % (round, made[0])))
                    made[0] += 1
            except OSError:
                pass
        thread = threading.Thread(target=make)
        thread.start()
        wait_for('load', lambda made=made: made[0] > 800)
        share.kill9(unmount=False)
        thread.join()
        share.unmount_dead()
        share.start()
    os.mkdir(share.at('last'))
    reader.join()
    share.must('sync')
    ring = replay(share)
    lost = sum(e['Lost'] for e in ring if e['Type'] == 'Gap')
    assert lost > 0, 'no kill lost anything: nothing was tested'
    assert names == {e['Name'] and b'/' + e['Name'] for e in ring if e['Type'] == 'MKdir'}
    assert dropped_of(share, sink) == lost
    listener.close()


def test_a_stream_of_8_that_is_overtaken_is_closed_and_what_it_missed_is_counted(mount, socket_path):		# noqa: F811
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    sink = 'beegfs8:unix:' + socket_path
    listener = Listener(socket_path)
    share.start('commit=never,audit=off,events_ring=1,events=' + sink)

    def hello(following):
        peer = listener.accept()
        assert decode8(peer.recv(1024))[0] == 2
        peer.send(b'\x01events\0' + struct.pack('<HH', 2, 0))
        peer.send(b'\x05events\0')
        kind, body = decode8(peer.recv(1024))
        newest, oldest = struct.unpack('<QQ', body)
        peer.send(b'\x07events\0' + struct.pack('<Q', oldest if following is None else following))
        return peer, oldest
    peer, _ = hello(1)
    os.mkdir(share.at('first'))
    assert decode8(peer.recv(1024))[1][0] == 1
    make_many(share)		# it does not read: its socket is full, and the ring goes round
    last = 1
    while True:
        kind, body = decode8(peer.recv(1024))
        if kind != 8:
            break
        assert body[0] == last + 1
        last = body[0]
    assert kind == 10 and body == b'\x01'	# Send_Close: the stream has crashed
    peer.close()
    peer, oldest = hello(None)
    assert decode8(peer.recv(1024))[1][0] == oldest > last + 1
    # All events of this share have numbers of BeeGFS but its mount.
    assert dropped_of(share, sink) == oldest - last - 1
    peer.close()
    listener.close()


def test_a_reader_with_a_place_that_is_overtaken_is_counted_though_he_clears_all(mount):
    share = mount('commit=never,events=on,events_ring=1,audit=off')
    ctl(share, 'consumer', 'register', '--from', '1', 'slow')
    out = open(os.path.join(share.dir, 'out'), 'w+b')
    p = subprocess.Popen([WORMCTL, 'events', 'tail', '--json', '--consumer', 'slow', '--state-dir', share.state], stdout=out,
                         env=daemon_environment())

    def got():
        return [event_of(line) for line in open(out.name, 'rb').read().splitlines(keepends=True) if line.endswith(b'\n')]
    os.mkdir(share.at('first'))
    wait_for('the first', lambda: got() and got()[-1]['Path'] == '/first')
    p.send_signal(signal.SIGSTOP)
    make_many(share)
    p.send_signal(signal.SIGCONT)
    os.mkdir(share.at('last'))
    wait_for('the last', lambda: got()[-1]['Path'] == '/last')
    p.kill()
    p.wait()
    events = got()
    check_numbers(events)
    lost = sum(e['Lost'] for e in events if e['Type'] == 'Gap')
    assert lost > 0
    ctl(share, 'consumer', 'clear', '--to', str(events[-1]['Seq']), 'slow')
    listed = [json.loads(line) for line in ctl(share, 'consumer', 'list', '--json', check=False).out.splitlines()]
    assert [c['dropped'] for c in listed] == [lost]


def test_a_file_with_lines_of_another_ring_gets_those_of_this_one_once(mount):
    share = mount('commit=never', start=False)
    share.allowed.append('of another ring')
    lines = os.path.join(share.dir, 'lines')
    share.start('commit=never,events=json:' + lines)
    for n in range(20):
        os.mkdir(share.at('old%d' % n))
    share.stop()
    before = open(lines, 'rb').read().splitlines()
    os.rename(share.state + '/events.ring', share.state + '/events.away')		# as the message of a mount that finds no room advises
    share.start('commit=never,events=on')
    for n in range(60):
        os.mkdir(share.at('unheard%d' % n))
    share.stop()
    share.start('commit=never,events=json:' + lines)
    os.mkdir(share.at('new'))
    share.stop()
    after = open(lines, 'rb').read().splitlines()
    assert after[:len(before)] == before
    told = [event_of(line) for line in after[len(before):]]
    assert [e['Path'] for e in told if e['Type'] == 'MKdir'] == ['/new'] and told[0]['Type'] == 'Mount'
    check_numbers(told, told[0]['Seq'])
