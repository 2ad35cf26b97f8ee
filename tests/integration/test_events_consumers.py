"""Consumers of events that stall, die or come back hold up nobody; what is missing is counted."""
import contextlib
import json
import os
import subprocess
import threading
import time

import pytest

from event_harness import Load, check_numbers, ctl, event_of, replay, socket_path		# noqa: F401
from conftest import Mounter
from harness import ALICE, BOB, WORMCTL, as_user, daemon_environment, errno_of, read_file, run, wait_for, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


# ---- consumers ----------------------------------------------------------------------------------

def test_a_consumer_that_is_killed_goes_on_without_loss_or_repeat(mount):
    share = mount('commit=never,events=on')
    got, last = [], 0
    with Load(share) as load:
        for round in range(5):
            p = subprocess.Popen([WORMCTL, 'events', 'tail', '--json', '--from', str(last + 1), '--state-dir', share.state],
                                 stdout=subprocess.PIPE, env=daemon_environment())
            for _ in range(200):
                line = p.stdout.readline()
                got.append(event_of(line))
                last = got[-1]['Seq']
            load.after(100)
            p.kill()
            p.stdout.close()
            p.wait()
    got += replay(share, '--from', str(last + 1))
    check_numbers(got)
    assert len([e for e in got if e['Type'] == 'MKdir']) == load.count


def test_a_file_is_whole_after_the_daemon_was_killed(mount):
    share = mount('commit=never', start=False)
    lines = os.path.join(share.dir, 'lines')
    share.start('commit=never,events=json:%s' % lines)
    made = 0
    for round in range(4):
        with contextlib.suppress(OSError):
            for n in range(300 + round * 111):
                os.mkdir(share.at('r%d-%d' % (round, n)))
                made += 1
        share.kill9()
        with open(lines, 'ab') as f:	# and it died within a line
            f.write(b'{"VersionMajor":1,"Seq":9')
        share.start()
    share.stop()
    with open(lines, 'rb') as f:
        events = [event_of(line) for line in f]
    check_numbers(events)
    told = len([e for e in events if e['Type'] == 'MKdir'])
    lost = sum(e['Lost'] for e in events if e['Type'] == 'Gap')
    assert told + lost >= made and told <= made and lost < 2000
    assert events == replay(share)


def test_a_file_that_is_rotated_is_made_anew(mount):
    share = mount('commit=never', start=False)
    lines = os.path.join(share.dir, 'lines')
    share.start('commit=never,events=json:%s' % lines)
    os.mkdir(share.at('a'))
    wait_for('a line', lambda: os.path.exists(lines) and b'"/a"' in read_file(lines))
    os.rename(lines, lines + '.1')

    def turned():
        with contextlib.suppress(FileExistsError):
            os.mkdir(share.at('d%d' % time.monotonic_ns()))
        return os.path.exists(lines) and os.path.getsize(lines)
    wait_for('a new file', turned)
    share.stop()
    with open(lines + '.1', 'rb') as f, open(lines, 'rb') as g:
        check_numbers([event_of(line) for line in f.readlines() + g.readlines()])


def test_a_fifo_without_a_reader_holds_up_nobody_and_gets_all_of_it(mount):
    share = mount('commit=never', start=False)
    fifo = os.path.join(share.dir, 'fifo')
    os.mkfifo(fifo)
    share.allowed.append('nobody is there')
    share.start('commit=never,events=json:%s' % fifo)
    for n in range(2000):		# some 10 times what a pipe holds
        os.mkdir(share.at(str(n)))
    with open(fifo, 'rb') as f:
        events = [event_of(f.readline()) for _ in range(2001)]
    check_numbers(events)
    assert len([e for e in events if e['Type'] == 'MKdir']) >= 1998


def test_stdout_gets_lines_in_the_foreground_only(mount):
    share = mount('commit=never,events=json:-')
    os.mkdir(share.at('a'))
    wait_for('a line on stdout', lambda: '"/a"' in share.log_text())
    share.stop()
    p = run(*share.argv(foreground=False), check=False)
    assert p.returncode == 2 and 'add -f' in p.err


# ---- the ring, and who is told ------------------------------------------------------------------

@pytest.mark.parametrize('filters, wanted', [
    (['--path', '/d'], ['MKdir /d', 'MKdir /d/x', 'Create /d/f', 'Unlink /d/f', 'MKdir /d/last']),
    (['--path', 'd/*'], ['MKdir /d/x', 'Create /d/f', 'Unlink /d/f', 'MKdir /d/last']),
    (['--path', '/nowhere'], []),
    (['--type', 'Create:Unl*'], ['Create /d/f', 'Unlink /d/f', 'Create /dd/alice']),
    (['--type', 'Symlink'], []),
    (['--uid', str(ALICE)], ['Create /dd/alice']),
    (['--uid', str(BOB)], []),
    (['--refused'], ['Unlink /d/f']),
    (['--refused', '--path', '/dd'], []),
    (['--refused', '--uid', str(ALICE)], []),
    (['--uid', '0', '--type', 'MKdir', '--path', '/d/x'], ['MKdir /d/x']),
])
def test_tail_shows_what_is_asked_for_and_nothing_else(told, filters, wanted):
    share, last = told
    p = ctl(share, 'tail', '--json', '--from', '1', '--to', str(last), *filters, check=False)		# ends there: what it leaves out it never shows
    events = [json.loads(line)['Event'] for line in p.stdout.splitlines()]
    assert ['%s %s' % (e['Type'], e['Path']) for e in events if e['Type'] in ('MKdir', 'Create', 'Unlink', 'Symlink')] == wanted
    assert all(e.get('Refused') for e in events) or '--refused' not in filters
    assert p.returncode == (0 if events else 1)


@pytest.fixture(scope='module')
def told(bases):
    """A share, and the number of its last event."""
    m = Mounter(bases)
    share = m('retention=1y,commit=close,events=on', lower_mode=0o777)
    for name in ('d', 'd/x', 'dd'):
        os.mkdir(share.at(name))
    os.chmod(share.at('dd'), 0o777)
    write_file(share.at('d/f'))
    with pytest.raises(PermissionError):
        os.unlink(share.at('d/f'))
    assert as_user(ALICE, errno_of, write_file, share.at('dd/alice')) == 'OK'
    os.mkdir(share.at('d/last'))
    share.must('sync')
    yield share, json.loads(ctl(share, 'stats', '--json').out)['next'] - 1
    m.end()


@pytest.mark.parametrize('wrong', [['--type', 'Nothing'], ['--uid', 'nobody-of-that-name'], ['--uid', '-1'], ['--from', 'x']])
def test_a_filter_that_means_nothing_is_refused_and_not_passed_over(told, wrong):
    p = ctl(told[0], 'tail', *wrong, check=False)
    assert p.returncode == 2 and wrong[0] in p.err and not p.stdout


def test_an_overwritten_event_is_a_gap_and_stats_add_up(mount):
    share = mount('commit=never,events=on,events_ring=1')
    for n in range(8000):
        os.mkdir(share.at(str(n)))
    share.must('sync')
    stats = json.loads(ctl(share, 'stats', '--json').out)
    assert stats['noted'] == stats['next'] - 1 >= 8000 and stats['dropped'] == 0 and stats['oldest'] > 1
    p = ctl(share, 'replay', '--from', '1', '--json', check=False)
    events = [event_of(line) for line in p.stdout.splitlines()]
    assert p.returncode == 1 and events[0]['Type'] == 'Gap' and events[0]['Detail'] == 'overwritten'
    assert check_numbers(events) == stats['next']
    first = replay(share)[0]['Seq']
    assert first == stats['oldest'] == events[0]['Lost'] + 1


def test_consumers_and_state_are_shown(mount, socket_path):
    share = mount('commit=never', start=False)
    lines = os.path.join(share.dir, 'lines')
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=json:%s,events=beegfs7:%s' % (lines, socket_path))
    os.mkdir(share.at('a'))
    share.must('sync')
    following = json.loads(ctl(share, 'stats', '--json').out)['next']

    def consumers():
        return {c['consumer']: c for c in map(json.loads, ctl(share, 'consumers', '--json').out.splitlines())}
    wait_for('both to be at the end', lambda: all(c['behind'] == 0 for c in consumers().values()))
    c = consumers()
    assert c['json:' + lines]['state'] == 'connected' and c['json:' + lines]['sent'] == following - 1
    assert c['beegfs7:' + socket_path]['state'] == 'ENOENT' and c['beegfs7:' + socket_path]['dropped'] == 1
    events = share.info()['events']
    assert (events['state'], events['strict'], events['next']) == ('ok', False, following) and len(events['sinks']) == 2
    share.stop()
    assert consumers()['json:' + lines]['state'] == 'unused'
    assert 'closed' in ctl(share, 'stats').out


def test_strict_waits_for_a_reader_and_loses_nothing(mount):
    share = mount('commit=never', start=False)
    fifo = os.path.join(share.dir, 'fifo')
    os.mkfifo(fifo)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=json:%s,events=strict,events_ring=1' % fifo)
    total = 45000		# more than queue, ring and pipe hold
    maker = threading.Thread(target=lambda: [os.mkdir(share.at(str(n))) for n in range(total)])
    maker.start()

    def stats():		# not through the mount: whoever waits there holds up others
        return json.loads(run(WORMCTL, 'events', 'stats', '--json', '--state-dir', share.state).out)

    def stalls():
        before = stats()['noted']
        time.sleep(0.3)
        return stats()['noted'] == before > 10000
    wait_for('the writer to be held up', stalls, 60)
    assert maker.is_alive() and stats()['dropped'] == 0
    with open(fifo, 'rb') as f:
        numbers, made = [], 0
        while made < total:
            line = f.readline()
            numbers.append(json.loads(line)['Seq'])
            made += b'"MKdir"' in line
    maker.join()
    assert numbers == list(range(1, len(numbers) + 1))
