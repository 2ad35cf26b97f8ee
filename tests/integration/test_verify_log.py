"""`wormctl verify` and its fourth witness, the audit log: what only that still knows is found."""
import json
import os

import pytest

from harness import DAY, WORMCTL, read_file, run, write_file
from verify_harness import RECORD, hide, logged, sha, some_locked, sql, verify, when		# noqa: F401


def rewrite_log(share, change):
    """Rewrites the log as its author could have: change(line) gives a line or None; numbers, chain and the head follow."""
    prev, seq, text = '0' * 64, 0, b''
    for line in logged(share):
        line = change(line)
        if line is None:
            continue
        seq += 1
        line['seq'], line['prev'] = seq, prev
        del line['hash']
        body = json.dumps(line, separators=(',', ':')).encode()[:-1]
        prev = sha(body)
        text += body + b',"hash":"' + prev.encode() + b'"}\n'
    write_file(os.path.join(share.state, 'audit.log'), text, flags=os.O_TRUNC)
    sql(share, "UPDATE meta SET value = '%d:%s' WHERE name = 'audit_head'" % (seq, prev))


def forget(share, name):
    os.unlink(share.below(name))
    sql(share, "DELETE FROM file WHERE CAST(path AS TEXT) = '%s'" % name)


@pytest.fixture
def aged(mount):
    """A share whose log covers 'a' and 'd/b': they were locked an hour after its mount, and an hour ago."""
    share = mount('retention=30d', clocked=True)
    share.now(3600)
    some_locked(share, 'a', 'd/b')
    share.now(7200)
    some_locked(share, 'late')
    assert verify(share, check=0)[1] == {}
    return share


def test_a_file_that_was_removed_with_its_row_is_found_by_the_audit_log_alone(aged, when):
    seq = [line['seq'] for line in logged(aged) if line['path'] == 'd/b' and line['event'] == 'commit'][0]
    if when == 'stopped':
        aged.stop()
        forget(aged, 'd/b')
    else:
        aged.stop()
        forget(aged, 'd/b')
        aged.start()
    assert verify(aged)[:2] == (1, {'d/b': {'missing'}})
    p = aged.ctl('verify', '--state-dir', aged.state, aged.mnt, check=False)
    assert 'd/b: missing: line %d of the audit log says' % seq in p.out
    assert verify(aged, path=aged.below('a') if when == 'stopped' else aged.at('a'), check=0)[1] == {}


def test_a_date_that_was_put_back_in_record_and_ledger_is_found_by_the_audit_log(aged):
    """By somebody who has the key: with an older record of the same file."""
    old = os.getxattr(aged.below('a'), RECORD)
    row = "SELECT until_s FROM file WHERE CAST(path AS TEXT) = 'a'"
    import sqlite3
    os.setxattr(aged.at('a'), 'user.worm.until', b'2090-01-01')
    aged.must('sync')
    assert verify(aged, check=0)[1] == {}
    aged.stop()
    os.setxattr(aged.below('a'), RECORD, old)
    until_s = int.from_bytes(old[16:24], 'little')
    sql(aged, "UPDATE file SET until_s = %d WHERE CAST(path AS TEXT) = 'a'" % until_s)
    db = sqlite3.connect(os.path.join(aged.state, 'ledger.db'))
    assert db.execute(row).fetchone() == (until_s,)
    db.close()
    assert verify(aged)[:2] == (1, {'a': {'differs'}})
    p = aged.ctl('verify', '--state-dir', aged.state, aged.below('a'), check=False)
    assert 'on the file and in the ledger, and 2090-01-01T00:00:00Z by line' in p.out


def test_a_date_that_was_shortened_by_privilege_is_no_finding(mount):
    share = mount('retention=30d,privdel=on', clocked=True)
    some_locked(share, 'a', 'b')
    share.now(100)
    share.must('shorten', 'a', until='2d', reason='a court says so')
    share.must('delete', 'b', reason='a court says so')
    share.must('sync')
    assert verify(share, check=0)[1] == {}
    share.stop()
    assert verify(share, check=0)[1] == {}


def test_a_lock_that_the_log_should_have_and_has_not_is_found(aged):
    aged.stop()
    rewrite_log(aged, lambda line: None if line['path'] == 'a' else line)
    assert run(WORMCTL, 'audit', 'verify', '--state-dir', aged.state).returncode == 0
    assert verify(aged)[:2] == (1, {'a': {'unlogged'}})


def test_an_expired_and_deleted_file_is_no_finding_of_the_log(mount, when):
    share = mount('retention=1d', clocked=True)
    share.now(3600)
    some_locked(share, 'a', 'b', 'c')
    share.now(3 * 86400)
    os.unlink(share.at('a'))
    share.must('expire', 'b')
    share.must('sync')
    if when == 'stopped':
        share.stop()
    code, found, summary = verify(share, check=0)
    assert found == {} and summary['files'] == 1


@pytest.mark.parametrize('options', ['audit=off', 'audit_success=none', 'audit_success=mount:unmount', 'shared=yes'])
def test_what_the_log_does_not_cover_is_no_finding(mount, options):
    """Off, without the lines of locks, or one of several gateways: for all or for a while only."""
    share = mount('retention=30d,' + options, clocked=True)
    share.now(3600)
    some_locked(share, 'a')
    share.now(7200)
    some_locked(share, 'b')
    assert verify(share, check=0)[1] == {}
    share.stop()
    assert verify(share, check=0)[1] == {}
    share.start('retention=30d,audit=on,shared=no,clock=file:' + share.clock_file)
    share.now(9000)
    some_locked(share, 'c')
    share.now(12000)
    some_locked(share, 'd')
    assert verify(share, check=0)[1] == {}
    share.stop()
    assert verify(share, check=0)[1] == {}
    forget(share, 'c')
    assert verify(share)[:2] == (1, {'c': {'missing'}})


def test_what_was_deleted_while_the_log_was_off_is_no_finding(aged):
    aged.stop()
    aged.start('retention=30d,audit=off,clock=file:' + aged.clock_file)
    aged.now(31 * DAY)
    os.unlink(aged.at('a'))
    aged.must('sync')
    aged.stop()
    aged.now(7200)		# by the log it is still retained
    assert verify(aged, check=0)[1] == {}
    aged.start('retention=30d,clock=file:' + aged.clock_file)
    assert verify(aged, check=0)[1] == {}


def test_a_damaged_log_is_one_finding_that_says_where_and_what_to_run(aged):
    aged.stop()
    log = os.path.join(aged.state, 'audit.log')
    text = read_file(log)
    write_file(log, text.replace(b'"path":"a"', b'"path":"x"'), flags=os.O_TRUNC)
    line = [n for n, l in enumerate(text.splitlines(), 1) if b'"path":"a"' in l][0]
    assert verify(aged)[:2] == (1, {log: {'log'}})
    p = aged.ctl('verify', '--state-dir', aged.state, aged.lower, check=False)
    assert 'at line %d: ' % line in p.out and 'run wormctl audit verify' in p.out
    os.unlink(log)
    assert verify(aged)[:2] == (1, {log: {'log'}})       # the ledger remembers that there was one
    os.mkdir(log)
    assert verify(aged)[0] == 2


def test_a_log_of_several_files_is_read_through_all_of_them(mount):
    share = mount('retention=30d,audit_rotate=1', clocked=True)
    share.now(3600)
    some_locked(share, 'a')
    share.now(7200)
    name = 'n' * 250
    for n in range(2500):
        write_file(share.at('%s%04d' % (name, n)), b'x')
    share.must('sync')
    assert os.path.exists(share.state + '/audit.log.1')
    assert verify(share, check=0)[1] == {}
    share.stop()
    forget(share, 'a')
    assert verify(share)[:2] == (1, {'a': {'missing'}})
    os.rename(share.state + '/audit.log.1', share.dir + '/elsewhere')      # moved away: it does not cover that any more
    assert verify(share, check=0)[1] == {}


def test_a_run_beside_a_daemon_is_a_line_of_the_audit_log(aged):
    assert [line['event'] for line in logged(aged)].count('verify') == 1       # of the fixture
    hide(aged, 'a', b'T')
    verify(aged, path=aged.at('a'))
    aged.must('sync')
    line = [line for line in logged(aged) if line['event'] == 'verify'][-1]
    assert (line['result'], line['uid']) == ('EBADMSG', 0)
    assert line['detail'].startswith('files 1, bytes ') and line['detail'].endswith(', findings 1, errors 0, data 1; below a')
    assert aged.refused('verified') == 'EINVAL'
    count = len(logged(aged))
    aged.stop()
    verify(aged)
    assert len(logged(aged)) == count + 1       # unmount
