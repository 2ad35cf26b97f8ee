"""Holds before all four witnesses of `wormctl verify`: the ledger has their names, the record on the file counts them, and the
audit log has a line of each that was placed or released. Who takes a hold away in ledger and record together is found by the log."""
import hashlib
import json
import os
import subprocess
import time

import pytest

from harness import WORMCTL, wait_for
from test_holds import REASON, hold, is_busy, many, order_of, release, tree
from verify_harness import RECORD, sql, verify


def whats(share):
    out = share.ctl('verify', '--json', '--state-dir', share.state, share.mnt, check=False).out
    return [line['what'] for line in map(json.loads, out.splitlines()) if 'what' in line]


def chain_again(share, change):
    """As somebody would who can write all that is on this machine: other lines, a chain and a head that are right again."""
    log = os.path.join(share.state, 'audit.log')
    with open(log, 'rb') as f:
        lines = change(f.read().splitlines())
    prev, out = '0' * 64, []
    for n, line in enumerate(lines, 1):
        entry = json.loads(line)
        body = line[:line.rindex(b',"prev":')].replace(b'{"seq":%d,' % entry['seq'], b'{"seq":%d,' % n, 1)
        body += b',"prev":"%s"' % prev.encode()
        prev = hashlib.sha256(body).hexdigest()
        out.append(body + b',"hash":"%s"}\n' % prev.encode())
    with open(log, 'wb') as f:
        f.write(b''.join(out))
    sql(share, "UPDATE meta SET value = '%d:%s' WHERE name = 'audit_head'" % (len(out), prev))


def next_second():
    """The clock of retention counts whole ones."""
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    wait_for('another second', lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > began + 1.05)


@pytest.fixture
def held(mount):
    """Two files, one of them under two holds, the other released from its one; ended in order."""
    share = mount('retention=30d,digest=off')
    for name in ('a', 'b'):
        share.lock(name)
    share.unheld = os.getxattr(share.below('a'), RECORD)
    next_second()	# the seconds in which a mount begins or ends are not relied on
    share.must('hold', 'a', case='x')
    share.must('hold', 'a', case='y')
    share.must('hold', 'b', case='x')
    share.must('release', 'b', case='x', reason='over')
    next_second()
    share.stop()
    assert verify(share)[:2] == (0, {})
    return share


def test_a_hold_that_was_deleted_from_ledger_and_record_is_found_by_the_log(held):
    sql(held, "DELETE FROM hold WHERE name = 'y'")
    sql(held, "UPDATE file SET holds = 1, rec_holds = 1 WHERE CAST(path AS TEXT) = 'a'")
    before = os.getxattr(held.below('a'), RECORD)
    code, found, _ = verify(held)
    assert code == 1 and found == {'a': {'differs'}}
    assert any("hold 'y' was placed by line" in what and 'the ledger does not have it' in what for what in whats(held))
    sql(held, "DELETE FROM hold")
    sql(held, "UPDATE file SET holds = 0, rec_holds = 0")
    os.setxattr(held.below('a'), RECORD, held.unheld)		# a good record: of the time before the holds
    assert os.getxattr(held.below('a'), RECORD) != before
    code, found, _ = verify(held)
    assert code == 1 and found == {'a': {'differs'}}
    what, = whats(held)
    assert "hold 'x' was placed by line" in what and '1 more holds disagree' in what


def test_a_hold_that_was_renamed_in_the_ledger_is_found_by_the_log(held):
    sql(held, "UPDATE hold SET name = 'z' WHERE name = 'y'")
    assert verify(held)[:2] == (1, {'a': {'differs'}})
    assert "hold 'y' was placed by line" in whats(held)[0]


def test_a_line_of_a_hold_that_was_taken_out_of_a_log_that_is_whole_again_is_found(held):
    chain_again(held, lambda lines: [l for l in lines if b'"detail":"case y"' not in l])
    assert held.ctl('audit', 'verify', '--state-dir', held.state, check=False).returncode == 0
    assert verify(held)[:2] == (1, {'a': {'differs'}})
    assert "hold 'y' is in the ledger, and the audit log has no line that placed it" in whats(held)[0]


def test_a_release_that_was_forged_into_the_log_is_found(held):
    def forge(lines):
        release, = [l for l in lines if b'"hold_release"' in l]
        placed, = [l for l in lines if b'"detail":"case y"' in l]
        forged = placed.replace(b'"hold_add"', b'"hold_release"')
        assert release != forged
        return [*lines[:-1], forged, lines[-1]]
    chain_again(held, forge)
    assert verify(held)[:2] == (1, {'a': {'differs'}})
    assert "hold 'y' is in the ledger, and was released by line" in whats(held)[0]


def test_a_log_that_was_changed_by_hand_is_a_finding_and_no_hold_is_made_one(held):
    log = os.path.join(held.state, 'audit.log')
    with open(log, 'rb') as f:
        text = f.read()
    with open(log, 'wb') as f:
        f.write(text.replace(b'"detail":"case y"', b'"detail":"case q"'))
    code, found, _ = verify(held)
    assert code == 1 and set.union(*found.values()) == {'log'}


@pytest.mark.parametrize('what', ['hold', 'release'])
def test_a_kill_in_the_middle_of_an_order_leaves_no_hold_that_ledger_and_log_disagree_about(mount, what):
    share = mount('retention=30d,digest=off')
    many(share, 2000)
    middle = 0
    for pause in [.03, .08]:
        if what == 'release':
            assert hold(share, 'c1', '-r', 'd').returncode == 0
        next_second()
        argv = [WORMCTL] + (['hold', 'c1', '-r', 'd'] if what == 'hold' else ['release', *REASON, 'c1', '-r', 'd'])
        p = subprocess.Popen(argv, cwd=share.mnt, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(pause)       # not waited for: any instant will do
        share.kill9()
        p.communicate()
        share.start()
        middle += is_busy(share)
        wait_for('the order to end', lambda: not is_busy(share))
        next_second()
        share.must('sync')
        assert [w for w in whats(share) if 'hold' in w] == []
        release(share, 'c1', '-r', 'd', check=False)    # of what is there
    share.stop()
    assert verify(share)[:2] == (0, {})
    print('%d of 2 kills came in the middle' % middle)


def test_lines_that_a_kill_took_from_an_order_are_written_when_it_goes_on(mount):
    """As if the daemon had been killed behind the names in the ledger, and before the lines of the log."""
    share = mount('retention=30d,digest=off')
    tree(share, 'd/a', 'd/b')
    next_second()
    for name in ('d/a', 'd/b'):
        share.must('hold', name, case='c1')
    next_second()
    order = order_of(share, 'hold', ['d'])
    share.stop()
    chain_again(share, lambda lines: [l for l in lines if b'"detail":"case c1"' not in l])
    assert verify(share)[:2] == (1, {'d/a': {'differs'}, 'd/b': {'differs'}})
    sql(share, 'UPDATE hold_order SET state = 1 WHERE id = %d' % order)
    share.start()
    wait_for('the order to end', lambda: not is_busy(share))
    share.stop()
    assert verify(share)[:2] == (0, {})


def test_a_release_that_is_done_again_takes_one_hold_and_not_another(mount):
    """As if the daemon had been killed behind the count in the record, and before the name in the ledger: of four holds, three of which
    only the record still knows, one goes."""
    share = mount('retention=30d,digest=off')
    tree(share, 'd/a')
    for case in ('b1', 'b2', 'b3'):
        share.must('hold', 'd/a', case=case)
    share.stop()
    for end in ('', '-wal', '-shm'):
        if os.path.exists(os.path.join(share.state, 'ledger.db' + end)):
            os.unlink(os.path.join(share.state, 'ledger.db' + end))
    three = os.getxattr(share.below('d/a'), RECORD)
    share.start()
    share.ctl('reindex', share.mnt)
    share.must('hold', 'd/a', case='c1')
    order = order_of(share, 'release', ['d'], reason='over')
    share.stop()
    assert os.getxattr(share.below('d/a'), RECORD) != three
    os.setxattr(share.below('d/a'), RECORD, three)
    sql(share, 'UPDATE hold_order SET state = 3 WHERE id = %d' % order)
    share.start()
    wait_for('the order to end', lambda: not is_busy(share))
    assert 'c1' not in (share.shows('d/a', 'holds') or '')
    assert os.getxattr(share.below('d/a'), RECORD) == three
    assert '3 holds whose names the ledger does not have' in share.ctl('status', share.at('d/a')).out


def test_a_hold_that_was_answered_has_its_line_after_a_kill_at_once(mount):
    share = mount('retention=30d,digest=off')
    share.lock('a')
    for n in range(5):
        share.must('hold', 'a', case='c%d' % n)
        share.kill9()
        share.start()
    with open(os.path.join(share.state, 'audit.log'), encoding='utf-8') as f:
        placed = [line['detail'] for line in map(json.loads, f) if line['event'] == 'hold_add']
    assert placed == ['case c%d' % n for n in range(5)]
