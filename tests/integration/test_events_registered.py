"""Registered consumers of the ring: a name, a place that outlives consumer and daemon, and an explicit clear."""
import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from harness import WORMCTL, daemon_environment, run, scaled, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


def ctl(share, *args, **kwargs):
    return run(WORMCTL, 'events', *args, '--state-dir', share.state, **kwargs)


def consumer(share, verb, *args, **kwargs):
    return ctl(share, 'consumer', verb, *args, **kwargs)


def listed(share):
    return {c['consumer']: c for c in map(json.loads, consumer(share, 'list', '--json', check=False).out.splitlines())}


def read(share, name):
    return [json.loads(line) for line in ctl(share, 'replay', '--json', '--consumer', name, check=False).stdout.splitlines()]


# Does each event by a line in a file of its own, and clears it afterwards, some at a time.
CONSUMER = r'''
import json, os, subprocess, sys
wormctl, state, done = sys.argv[1:]
last = 0
if os.path.exists(done):
    lines = open(done).read().splitlines()
    last = int(lines[-1]) if lines else 0
with open(done, 'a', 1) as out:
    tail = subprocess.Popen([wormctl, 'events', 'tail', '--json', '--consumer', 'worker', '--state-dir', state], stdout=subprocess.PIPE)
    for line in tail.stdout:
        event = json.loads(line)
        if event['Seq'] <= last:
            print('again', event['Seq'], flush=True)
            continue
        assert event['Event']['Type'] != 'Gap', event
        out.write('%d\n' % event['Seq'])
        last = event['Seq']
        if last % 25 == 0:
            subprocess.run([wormctl, 'events', 'consumer', 'clear', '--to', str(last), 'worker', '--state-dir', state], check=True,
                           stdout=subprocess.DEVNULL)
'''


def test_a_registered_consumer_that_is_killed_goes_on_without_loss_or_repeat(mount):
    share = mount('commit=never,events=on')
    done = os.path.join(share.dir, 'done')
    consumer(share, 'register', '--from', 1, 'worker')
    made = 0

    def count():
        return len(open(done).read().splitlines()) if os.path.exists(done) else 0
    for round in range(4):
        p = subprocess.Popen([sys.executable, '-c', CONSUMER, WORMCTL, share.state, done], stdout=subprocess.DEVNULL,
                             env=daemon_environment(), start_new_session=True)
        before = count()
        for _ in range(60 + 17 * round):
            os.mkdir(share.at('d%d' % made))
            made += 1
        wait_for('the consumer to work', lambda: count() > before + 40)
        os.killpg(p.pid, signal.SIGKILL)	# with its wormctl
        p.wait()
        if round == 1:
            share.remount()	# and the place is kept
        if round == 2:
            share.kill9()
            share.start()
    p = subprocess.Popen([sys.executable, '-c', CONSUMER, WORMCTL, share.state, done], stdout=subprocess.DEVNULL, env=daemon_environment(),
                         start_new_session=True)
    share.must('sync')
    last = json.loads(ctl(share, 'stats', '--json').out)['next'] - 1
    try:
        wait_for('everything', lambda: count() >= last)
    finally:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
    assert [int(n) for n in open(done).read().split()] == list(range(1, last + 1))
    place = listed(share)['worker']
    # The last clears may have died with it; never more than it had done.
    assert 100 < place['seq'] <= last + 1 and place['cleared'] == place['seq'] - 1 and place['dropped'] == 0


def test_each_consumer_has_its_own_place_and_keeps_it_over_everything(mount):
    share = mount('commit=never,events=on')
    os.mkdir(share.at('a'))
    share.must('sync')
    assert 'one next ' in consumer(share, 'register', 'one').out
    consumer(share, 'register', '--from', '1', 'two.2_x-y')
    os.mkdir(share.at('b'))
    first = [e['Event']['Path'] for e in read(share, 'one')]
    assert first == ['/b'] and len(read(share, 'two.2_x-y')) == read(share, 'one')[0]['Seq']
    assert read(share, 'one') == read(share, 'one')	# to read is not to clear
    seq = read(share, 'one')[0]['Seq']
    consumer(share, 'clear', '--to', seq, 'one')
    consumer(share, 'clear', '--to', 1, 'one')		# backwards: it is done already
    assert read(share, 'one') == [] and listed(share)['one'] == {'consumer': 'one', 'seq': seq + 1, 'behind': 0, 'cleared': 1, 'dropped': 0}
    share.remount('commit=never,events=on,events_ring=2')	# another file
    share.stop()
    assert listed(share)['one']['seq'] == seq + 1 and listed(share)['two.2_x-y']['seq'] == 1
    assert [e['Event']['Type'] for e in read(share, 'one')][-1] == 'Unmount'
    consumer(share, 'deregister', 'one')
    assert list(listed(share)) == ['two.2_x-y']
    assert 'two.2_x-y next 1' in ctl(share, 'consumers').out


@pytest.mark.parametrize('args, says', [
    (('register', 'bad/name'), 'no name of a consumer'), (('register', '-x'), 'unknown option'), (('register', 'x' * 65), 'no name of a consumer'),
    (('register', 'there'), "there is a consumer 'there' already"), (('clear', '--to', 99999, 'there'), 'no event has the number 99999 yet'),
    (('register', '--from', 99999, 'new'), 'no event has the number 99999 yet'), (('clear', 'there'), '--to SEQ'),
    (('clear', '--to', 1, 'nobody'), "there is no consumer 'nobody'"), (('deregister', 'nobody'), "there is no consumer 'nobody'"),
    (('dance',), "there is no 'events consumer dance'"), (('register',), 'which NAME'),
])
def test_what_cannot_be_is_refused_and_said(mount, args, says):
    share = mount('commit=never,events=on')
    consumer(share, 'register', 'there')
    p = consumer(share, *args, check=False)
    assert p.returncode == 2 and says in p.err, p.err
    p = ctl(share, 'tail', '--consumer', 'nobody', check=False)
    assert p.returncode == 2 and "there is no consumer 'nobody'" in p.err


def test_places_are_bounded_and_sinks_do_not_take_them(mount):
    share = mount('commit=never,events=on')
    for n in range(8):
        consumer(share, 'register', 'c%d' % n)
    p = consumer(share, 'register', 'c8', check=False)
    assert p.returncode == 2 and 'there are 8 consumers already' in p.err
    for round in range(3):		# 24 sinks, one after the other, in 8 slots
        share.remount('commit=never,' + ','.join('events=json:%s/s%d-%d' % (share.dir, round, n) for n in range(8)))
        assert len(share.info()['events']['sinks']) == 8
    assert list(listed(share)) == ['c%d' % n for n in range(8)]
    assert all(c['dropped'] == 0 for c in listed(share).values())


def test_what_was_overwritten_before_it_was_cleared_is_a_gap_and_counted(mount):
    share = mount('commit=never,events=on,events_ring=1')
    consumer(share, 'register', '--from', 1, 'slow')
    for n in range(8000):
        os.mkdir(share.at(str(n)))
    events = read(share, 'slow')
    oldest = json.loads(ctl(share, 'stats', '--json').out)['oldest']
    gap = events[0]
    assert (gap['Event']['Type'], gap['Seq'], gap['Event']['Lost']) == ('Gap', 1, oldest - 1) and events[1]['Seq'] == oldest
    assert read(share, 'slow')[0]['Event'] == gap['Event']	# until it is cleared it stands there
    assert listed(share)['slow']['dropped'] == oldest - 1		# counted once
    consumer(share, 'clear', '--to', events[-1]['Seq'], 'slow')
    assert listed(share)['slow']['dropped'] == oldest - 1
    os.mkdir(share.at('next'))
    assert [e['Event']['Path'] for e in read(share, 'slow')] == ['/next']
    # What was gone before it came is no loss of who comes late.
    consumer(share, 'register', '--from', 1, 'late')
    oldest = json.loads(ctl(share, 'stats', '--json').out)['oldest']
    assert oldest > 1 and listed(share)['late']['dropped'] == 0 and read(share, 'late')[0]['Seq'] == oldest


def test_strict_waits_until_a_registered_consumer_clears(mount):
    share = mount('commit=never,events=on,events=strict,events_ring=1')
    consumer(share, 'register', '--from', 1, 'slow')
    total = 45000		# more than queue and ring hold
    pid = os.fork()
    if pid == 0:
        for n in range(total):
            os.mkdir(share.at(str(n)))
        os._exit(0)

    def stats():
        return json.loads(ctl(share, 'stats', '--json').out)

    def stalls():
        before = stats()['noted']
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(['sleep', '1'], timeout=0.3)
        return stats()['noted'] == before > 10000
    wait_for('the writer to be held up', stalls, 60)
    assert stats()['oldest'] == 1 and stats()['dropped'] == 0

    def problems():
        return [l for l in share.ctl('status', '--state-dir', share.state).out.splitlines() if 'events=strict' in l]
    wait_for('the status to say who is waited for', lambda: len(problems()) == 1 and "waits for 'slow' since 20" in problems()[0]
             and 'consumer deregister' in problems()[0])
    wait_for('the log to say so', lambda: "whoever changes something waits for 'slow' (events=strict)" in share.log_text())
    got = 0
    with subprocess.Popen([WORMCTL, 'events', 'tail', '--json', '--from', '1', '--state-dir', share.state], stdout=subprocess.PIPE,
                          env=daemon_environment()) as tail:
        while got < total:
            event = json.loads(tail.stdout.readline())
            got += event['Event']['Type'] == 'MKdir'
            assert event['Event']['Type'] != 'Gap'
            if event['Seq'] % 1000 == 0 or got == total:
                consumer(share, 'clear', '--to', event['Seq'], 'slow')
        tail.kill()
    assert os.waitpid(pid, 0)[1] == 0
    assert listed(share)['slow']['dropped'] == 0
    wait_for('nobody to wait', lambda: problems() == [])


def test_a_ring_that_cannot_be_written_is_a_problem_that_the_status_tells(mount):
    share = mount('commit=never,audit=off', start=False)
    run('mount', '-t', 'tmpfs', '-o', 'size=6m,mode=700', 'tmpfs', share.state)
    try:
        share.allowed.append('cannot write the ring|ledger|is full|No space')
        share.start('commit=never,audit=off,events=on,events_ring=2')
        ring, full = os.path.join(share.state, 'events.ring'), os.path.join(share.state, 'full')
        assert not [p for p in share.info()['problems'] if 'event' in p]
        share.must('sync')
        run('fallocate', '--punch-hole', '--offset', 1 << 16, '--length', 1 << 20, ring)
        with open(full, 'wb', 0) as f, contextlib.suppress(OSError):
            while True:
                f.write(b'x' * 4096)

        def failing():
            for n in range(100):
                os.mkdir(share.at('%s-%d' % (os.urandom(8).hex(), n)))
            return any('the ring of events cannot be written: No space left' in p for p in share.info()['problems'])
        wait_for('the ring to fail', failing)
        assert share.info()['events']['state'] == 'failing'
        os.unlink(full)
        wait_for('it to go on', lambda: not [p for p in share.info()['problems'] if 'ring of events' in p])
        numbers = [json.loads(line)['Seq'] for line in ctl(share, 'replay', '--json').out.splitlines()]
        assert numbers == list(range(1, len(numbers) + 1))
    finally:
        share.stop()
        run('umount', '-l', share.state)
