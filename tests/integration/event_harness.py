"""Events of a share, read back and checked."""
import base64
import json
import os
import threading

import pytest

from harness import WORMCTL, run, wait_for


def ctl(share, verb, *args, **kwargs):
    return run(WORMCTL, 'events', verb, *args, '--state-dir', share.state, **kwargs)


def replay(share, *args):
    """Events of the ring, each with its Seq and a Name (bytes)."""
    out = ctl(share, 'replay', '--json', *args, check=False).stdout
    return [event_of(line) for line in out.splitlines()]


def event_of(line):
    root = json.loads(line.decode('utf-8'))		# strictly UTF-8
    event = dict(root['Event'], Seq=root['Seq'], Session=root['Session'])
    event['Name'] = exact(event, 'Path').lstrip(b'/')
    event['Target'] = exact(event, 'TargetPath')
    return event


def exact(event, key):
    if key + 'Base64' in event:
        return base64.b64decode(event[key + 'Base64'], validate=True)
    return event[key].encode('utf-8')


def make_many(share, n=8000):
    """Directories, whose events are in the ring: 8,000 are more than 1 MiB has room for. What its stats say."""
    for i in range(n):
        os.mkdir(share.at(str(i)))
    share.must('sync')
    return json.loads(ctl(share, 'stats', '--json').out)


def check_numbers(events, first=1):
    """Without a gap, none twice."""
    for event in events:
        assert event['Seq'] == first
        first += event.get('Lost', 1)
    return first


def brief(event):
    return (event['Type'], event['Path']) + ((event['Error'],) if 'Error' in event else ())


class Load:
    """Threads that make and remove directories until told to stop; `count` events in all."""
    def __init__(self, share, threads=2):
        self.share, self.count, self.lock, self.stopping = share, 0, threading.Lock(), False
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]

    def run(self, i):
        n = 0
        while not self.stopping:
            for _ in range(10):
                os.mkdir(self.share.at('t%d-%d' % (i, n)))
                n += 1
            with self.lock:
                self.count += 10

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stopping = True
        for t in self.threads:
            t.join()

    def after(self, more):
        want = self.count + more
        wait_for('%d more events' % more, lambda: self.count >= want)


@pytest.fixture
def socket_path(tmp_path):
    return str(tmp_path / 's')	# sun_path has 108 bytes
