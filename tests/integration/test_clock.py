"""The clock of its own on a mount (T31; what moving the system's date gains is a unit test, which has a machine to set)."""
import hashlib
import hmac
import json
import os
import sqlite3
import struct
import time

import pytest

from harness import DAY, WORMCTL, Refused, errno_of, read_file, run, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)
NS = 10 ** 9


def state_file(share):
    return os.path.join(share.state, 'clock.state')


def set_back(share, seconds, budget_s=0):
    """Leaves a state as if the clock had stood so far behind the system's date, sealed with the share's key."""
    with open('/proc/sys/kernel/random/boot_id') as f:
        boot_id = f.read().strip().encode()
    body = b'wormfs clock 1\n\0' + struct.pack('=Qqqqq40s', 1 << 40, time.time_ns() - seconds * NS, time.time_ns(),
                                              time.clock_gettime_ns(time.CLOCK_BOOTTIME), budget_s * NS, boot_id)
    mac = hmac.new(read_file(os.path.join(share.state, 'key')), body, hashlib.sha256).digest()[:16]
    with open(state_file(share), 'r+b') as f:
        f.write(body + mac)
    ledger = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    with ledger:
        ledger.execute("DELETE FROM meta WHERE name='clock'")      # which knows better
    ledger.close()


def clock(share, *args):
    return run(WORMCTL, 'clock', *args, '--state-dir', share.state, check=False)


def events(share, prefix):
    share.must('sync')
    with open(os.path.join(share.state, 'audit.log')) as f:
        return [l for l in map(json.loads, f) if l['event'].startswith(prefix)]


def test_it_goes_with_the_systems_date_and_survives_kills_and_remounts(mount):
    share = mount('retention=1d')
    for how in (None, share.kill9, share.stop):
        if how:
            share.must('sync')      # a kill loses the last lines of the audit log
            how()
            share.start()
        info = share.info()
        assert info['clock'] == 'own' and info['clock_state']['state'] == 'ok' and abs(info['clock_state']['behind']) <= 1
    assert [l['detail'].split(';')[0] for l in events(share, 'clock_start')] == [
        "began with the system's date", 'went on within the same boot', 'went on within the same boot']
    p = clock(share, 'status')
    assert p.returncode == 0 and p.out.split()[1] == 'ok'
    p = run(WORMCTL, 'clock', 'status', '--json', share.mnt)
    assert json.loads(p.out)['clock_state']['budget'] == 86400


def test_T31_a_date_that_is_ahead_ends_no_retention(mount):
    share = mount('retention=1d')
    path = share.lock('a')
    share.stop()
    set_back(share, 30 * DAY)           # seen from the clock: the date was moved a month ahead
    share.start('retention=2d')
    share.lock('b')
    assert share.shows('a') == 'retained' and errno_of(os.unlink, path) == 'EPERM'
    assert share.shows('b', 'committed') < share.shows('a', 'committed')
    wait_for('the skew to be said', lambda: any('differ by' in p for p in share.problems()))
    assert share.info()['clock_state']['state'] == 'skewed'
    wait_for('the event', lambda: events(share, 'clock_skewed'))
    p = clock(share, 'status')
    assert p.returncode == 1 and '(30.0 days)' in p.out and p.out.split()[1] == 'skewed'


def test_accept_takes_the_date_over_and_is_in_the_audit_log_first(mount):
    share = mount('retention=1d')
    share.lock('a')
    assert share.refused('clock_accept', reason='none') == 'EALREADY'
    share.stop()
    set_back(share, 10 * DAY)
    share.start()
    assert clock(share, 'accept').returncode == 2               # no reason
    assert share.refused('clock_accept') == 'EINVAL'
    p = clock(share, 'accept', '--reason', 'was off for ten days')
    assert p.returncode == 0 and '864000 s later' in p.out
    assert abs(share.info()['clock_state']['behind']) <= 1 and share.info()['clock_state']['state'] == 'ok'
    line, = events(share, 'clock_accept')
    assert line['result'] == 'OK' and line['detail'].endswith('reason: was off for ten days') and line['comm'] == 'wormctl'
    p = clock(share, 'accept', '--reason', 'again')
    assert p.returncode == 2 and 'never goes back' in p.err
    share.stop()
    share.start()
    assert abs(share.info()['clock_state']['behind']) <= 1


def test_in_compliance_mode_only_a_synchronised_date_is_taken_over(mount):
    share = mount('mode=compliance,min=1d,retention=1d,max=2d')
    share.stop()
    set_back(share, 10 * DAY)
    share.start()
    if share.info()['clock_state']['synchronised']:
        share.must('clock_accept', reason='by NTP')
        return
    assert share.refused('clock_accept', reason='trust me') == 'EPERM'
    assert share.info()['clock_state']['behind'] > 9 * DAY
    line, = events(share, 'clock_accept')
    assert line['result'] == 'EPERM' and 'trust me' in line['detail']


@pytest.mark.parametrize('how', ['missing', 'damaged'])
def test_a_state_that_is_lost_begins_with_what_the_ledger_knows_and_says_so(mount, how):
    share = mount('retention=1d')
    share.lock('a')
    share.stop()
    if how == 'missing':
        os.unlink(state_file(share))
    else:
        with open(state_file(share), 'r+b') as f:
            f.write(b'\x5a' * 8000)
    share.start()
    assert 'missing or damaged' in share.log_text()
    assert abs(share.info()['clock_state']['behind']) <= 2
    assert [l['result'] for l in events(share, 'clock_start')] == ['OK', 'EBADMSG']


def test_a_clock_that_can_be_moved_is_said_aloud_and_refused_in_compliance_mode(mount):
    share = mount('clock=wall')
    assert 'clock=wall: who sets' in share.log_text()
    assert any('can be moved (-o clock=wall)' in p for p in share.info()['problems'])
    assert share.info()['clock_state']['state'] == 'movable' and clock(share, 'status').returncode == 1
    assert share.refused('clock_accept', reason='x') == 'EOPNOTSUPP'
    share.stop()
    with pytest.raises(Refused) as e:
        share.start('mode=compliance,min=1d,retention=1d,max=2d,clock=wall')
    assert e.value.code == 2 and 'clock=wall can be moved' in e.value.text


def test_idle_files_are_locked_also_when_the_clock_is_behind(mount):
    share = mount('commit=idle:1')
    share.stop()
    set_back(share, 10 * DAY)
    share.start()
    with open(share.at('a'), 'w') as f:
        f.write('x')
    share.wait_state('a', 'retained')


def test_the_status_of_a_clock_without_a_daemon_is_not_known(mount):
    share = mount()
    share.stop()
    p = clock(share, 'status')
    assert p.returncode == 2 and 'no daemon' in p.err
