"""A daemon that is killed under load, with a consumer of each kind: what each of them got has no hole that a gap does not tell."""
import json
import os
import socket
import threading

import pytest

from event_harness import check_numbers, ctl, event_of, replay
from harness import WORMCTL, wait_for
from test_events_cloudevents import ALLOWED, receiver		# noqa: F401
from test_events_sse import messages, server			# noqa: F401

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)
THREADS = 3


class Listener:
    """A stream socket; whole lines of each connection, in order. What a connection ends with is half a line or nothing. It reads
    while `reading` is set."""
    def __init__(self, path):
        self.lines, self.halves, self.reading = [], [], threading.Event()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(4)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            with connection, connection.makefile('rb') as f:
                for line in f:
                    self.reading.wait()
                    if line == b'end\n':
                        return
                    (self.lines if line.endswith(b'\n') else self.halves).append(line)

    def close(self, path):
        self.reading.set()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b'end\n')
            self.thread.join()
        self.socket.close()


def make_until_it_is_gone(share, prefix):
    """Directories that were made, as far as they were answered."""
    made = [0] * THREADS

    def run(i):
        try:
            while True:
                os.mkdir(share.at('%s-%d-%d' % (prefix, i, made[i])))
                made[i] += 1
        except OSError:
            pass
    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for t in threads:
        t.start()
    return made, threads


def without_repeats(events):
    """Each once; one that comes again is one that was there."""
    out = {}
    for event in events:
        assert out.setdefault(event['Seq'], event) == event
    return list(out.values())


def test_after_kills_under_load_no_consumer_has_a_hole_that_no_gap_tells(mount, receiver, server, tmp_path):		# noqa: F811
    share = mount('commit=never', start=False)
    lines, path, http = os.path.join(share.dir, 'lines'), str(tmp_path / 's'), receiver()
    listener = Listener(path)
    try:
        share.allowed += [ALLOWED, 'connection is gone']
        share.start('commit=never,audit=off,events=json:%s,events=json:unix:%s,events=cloudevents-batch:http://127.0.0.1:%d/' % (
            lines, path, http.port))
        ctl(share, 'consumer', 'register', '--from', '1', 'worker')
        sse, streamed = server(share), []
        response = sse.get('?from=1')

        def stream():
            for number, event in messages(response):
                streamed.append(event)
        streaming = threading.Thread(target=stream)
        streaming.start()
        made = 0
        for round in range(3):
            listener.reading.clear()		# more than a socket holds, so that it dies with lines of its own
            counts, threads = make_until_it_is_gone(share, 'r%d' % round)
            wait_for('load', lambda c=counts: sum(c) > 1500 + 150 * round)
            share.kill9(unmount=False)		# else they would go on in the directory below
            for t in threads:
                t.join()
            share.unmount_dead()
            listener.reading.set()
            made += sum(counts)
            share.start()
        os.mkdir(share.at('last'))
        share.must('sync')
        last = json.loads(ctl(share, 'stats', '--json').out)['next'] - 1
        wait_for('HTTP', lambda: http.events and int(http.events[-1]['id']) >= last)
        wait_for('SSE', lambda: streamed and streamed[-1]['Seq'] >= last)
        registered = [event_of(line) for line in ctl(share, 'replay', '--json', '--consumer', 'worker', check=False).stdout.splitlines()]
        share.stop()
        sse.stop()
        streaming.join()
    finally:
        if share.proc:
            share.kill9()
        listener.close(path)
    with open(lines, 'rb') as f:
        in_file = [event_of(line) for line in f]
    ring = replay(share)
    assert check_numbers(ring) > last
    gaps = [e for e in ring if e['Type'] == 'Gap']
    told = len([e for e in ring if e['Type'] == 'MKdir'])
    assert told + sum(e['Lost'] for e in gaps) >= made + 1
    assert in_file == ring
    assert without_repeats(event_of(line) for line in listener.lines) == ring and len(listener.halves) <= 3
    for got in (http.events, streamed):
        root = [e.get('data', e) for e in got]
        events = without_repeats(event_of(json.dumps(e).encode()) for e in root)
        assert events == ring[:len(events)] and events[-1]['Seq'] >= last
    assert registered == ring[:len(registered)] and registered[-1]['Seq'] >= last
