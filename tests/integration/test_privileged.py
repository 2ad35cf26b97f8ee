"""Privileged delete and shorten: off, on, never; never past a hold or compliance; the audit line first; the second person."""
import json
import os
import sqlite3
import subprocess

import pytest

from harness import (ALICE, BOB, DAY, WORMCTL, Refused, as_user, encode_path, errno_of, is_traced, open_errno, opened, read_file, run, wait_for,
                     write_file)

REASON = 'ticket 7'


def delete(share, path, reason=REASON):
    return share.control('delete', path, reason=reason)


def shorten(share, path, until, reason=REASON):
    return share.control('shorten', path, until=until, reason=reason)


def errno(answer):
    return 'OK' if answer['ok'] else answer['errno']


def audit(share, *events):
    share.must('sync')
    lines = [json.loads(l) for l in share.ctl('audit', 'show', '--json', '--state-dir', share.state, share.mnt).out.splitlines()]
    return [l for l in lines if l['event'] in events]


# ---- T30 ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('privdel', ['', 'privdel=off', 'privdel=never'])
def test_T30_privileged_delete_is_off_until_it_is_switched_on(mount, privdel):
    share = mount(','.join(filter(None, ['retention=30d', privdel])))
    path = share.lock('a')
    assert errno(delete(share, 'a')) == errno(shorten(share, 'a', '1d')) == 'EPERM'
    assert ('for ever' if 'never' in privdel else 'privdel=on') in delete(share, 'a')['error']
    assert read_file(path) == b'report\n' and share.shows('a') == 'retained'


def test_T30_with_privdel_on_root_deletes_before_the_end_and_the_log_says_who_what_and_why(mount):
    share = mount('retention=30d,privdel=on')
    os.mkdir(share.at('d'))
    path = share.lock('d/a')
    assert errno_of(os.unlink, path) == 'EPERM'         # through the mount nothing changes
    serial = int(share.shows('d/a', 'serial'))
    p = share.ctl('delete', '--reason', REASON, 'd/a', cwd=share.mnt)
    assert p.out == 'd/a: deleted\n'
    assert not os.path.exists(path) and os.listdir(share.at('d')) == [] and os.listdir(share.below('d')) == []
    assert 'd/a' not in share.listed()
    line, = audit(share, 'delete_privileged')
    assert (line['uid'], line['path'], line['serial'], line['result']) == (0, 'd/a', serial, 'OK')
    assert 'reason: ' + REASON in line['detail']
    write_file(path, b'again')                          # the name is free, for the kernel, too
    assert read_file(path) == b'again'


def test_an_append_only_file_is_not_deleted_while_somebody_adds_to_it(mount):
    share = mount('retention=30d,privdel=on')
    path = write_file(share.at('log'), b'')
    os.setxattr(path, 'user.worm.append', b'1')
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'line')
        assert errno(delete(share, 'log')) == errno(shorten(share, 'log', '1d')) == 'EBUSY'
    wait_for('the deletion', lambda: errno(delete(share, 'log')) == 'OK')
    assert not os.path.exists(path)


def test_T30_never_past_a_hold_in_any_form(mount):
    share = mount('retention=30d,privdel=on')
    os.mkdir(share.at('d'))
    for name in ('by-name', 'd/tree'):
        share.lock(name)
    share.must('hold', 'by-name', case='c1')
    share.ctl('hold', 'c2', '--future', 'd', cwd=share.mnt)
    share.lock('d/later')
    for name in ('by-name', 'd/tree', 'd/later'):
        assert (name, errno(delete(share, name)), errno(shorten(share, name, '1d'))) == (name, 'EPERM', 'EPERM')
        assert 'hold' in delete(share, name)['error']
        assert share.shows(name) == 'retained'
    share.must('release', 'by-name', case='c1')
    assert errno(delete(share, 'by-name')) == 'OK'


def test_T30_never_past_a_hold_whose_name_or_count_alone_is_left(mount):
    share = mount('retention=30d,privdel=on')
    for name in ('a', 'b'):
        share.lock(name)
    share.must('sync')
    without = os.getxattr(share.below('b'), 'trusted.wormfs')
    for name in ('a', 'b'):
        share.must('hold', name, case='c1')
    share.must('sync')
    share.stop()
    os.setxattr(share.below('b'), 'trusted.wormfs', without)
    with sqlite3.connect(os.path.join(share.state, 'ledger.db')) as db:      # b lost its count, a its name
        db.execute("DELETE FROM hold WHERE file = (SELECT id FROM file WHERE path = x'61')")
        db.execute("UPDATE file SET holds = 0, rec_holds = 0 WHERE path = x'61'")
    db.close()
    share.start()
    assert errno(delete(share, 'a')) == errno(delete(share, 'b')) == 'EPERM'


def test_T30_never_while_the_ledger_cannot_say_whether_a_hold_is_on_it(mount):
    share = mount('retention=30d,privdel=on')
    path = share.lock('a')
    share.must('sync')
    share.expect_log('ledger')

    def rename(old, new):
        db = sqlite3.connect(os.path.join(share.state, 'ledger.db'), timeout=30)
        db.execute('ALTER TABLE %s RENAME TO %s' % (old, new))
        db.close()
    rename('file', 'elsewhere')
    for answer in (delete(share, 'a'), shorten(share, 'a', '1d')):
        assert errno(answer) == 'EIO' and 'nobody knows whether a hold is on it' in answer['error']
    assert read_file(path) == b'report\n'
    rename('elsewhere', 'file')
    assert errno(delete(share, 'a')) == 'OK'


def test_T30_never_in_compliance_mode(mount):
    share = mount('mode=compliance,min=1d,retention=30d,max=1y')
    share.lock('a')
    assert errno(delete(share, 'a')) == 'EPERM'
    share.remount('retention=30d,privdel=on')           # a record says what it is, whatever the mount says today
    assert errno(delete(share, 'a')) == errno(shorten(share, 'a', '1d')) == 'EPERM'
    assert 'compliance' in delete(share, 'a')['error']
    share.lock('b')
    share.stop()
    with pytest.raises(Refused) as e:
        share.start('mode=compliance,min=1d,retention=30d,max=1y,privdel=on')
    assert e.value.code == 2 and 'privdel=on' in e.value.text
    share.start('mode=compliance,min=1d,retention=30d,max=1y')
    assert errno(delete(share, 'b')) == 'EPERM'


def test_T30_never_in_compliance_mode_when_the_record_or_the_ledger_alone_says_so(mount):
    share = mount('mode=compliance,min=1d,retention=30d,max=1y')
    share.lock('record')
    share.remount('retention=30d,privdel=on')
    share.lock('ledger')
    share.must('sync')
    share.stop()
    with sqlite3.connect(os.path.join(share.state, 'ledger.db')) as db:
        assert db.execute('UPDATE file SET mode = 1 - mode').rowcount == 2
    db.close()
    share.start()
    for name in ('record', 'ledger'):
        for answer in (delete(share, name), shorten(share, name, '1d')):
            assert (name, errno(answer)) == (name, 'EPERM') and 'compliance' in answer['error']


@pytest.mark.parametrize('lost', ['nothing', 'the ledger', 'the mark on the share'])
def test_T30_never_is_for_ever_also_when_one_of_its_marks_is_lost(mount, lost):
    share = mount('retention=30d,privdel=never')
    share.lock('a')
    assert share.info()['privdel'] == 'never'
    share.stop()
    def lose(what):
        if what == 'the ledger':
            for name in os.listdir(share.state):
                if name.startswith('ledger.db'):
                    os.unlink(os.path.join(share.state, name))
            share.expect_log('ledger')
        if what == 'the mark on the share':
            os.removexattr(share.below(), 'trusted.wormfs.privdel')
    lose(lost)
    with pytest.raises(Refused) as e:
        share.start('retention=30d,privdel=on')
    assert e.value.code == 2 and 'privdel=never' in e.value.text and len(e.value.text.strip().splitlines()) == 1
    share.start('retention=30d')
    assert share.info()['privdel'] == 'never'
    assert errno(delete(share, 'a')) == 'EPERM'
    # The one that was lost is there again: the other may go, too.
    share.stop()
    lose({'the ledger': 'the mark on the share', 'the mark on the share': 'the ledger'}.get(lost))
    with pytest.raises(Refused, match='privdel=never'):
        share.start('retention=30d,privdel=on')
    share.start('retention=30d')
    assert share.info()['privdel'] == 'never'


def test_T30_without_the_line_in_the_audit_log_nothing_is_deleted(mount):
    share = mount('retention=30d,privdel=on,sync=close')
    path = share.lock('a')
    share.expect_log('audit log')
    share.must('sync')
    # Its descriptor is ours to break: the filesystem of the state directory has no room.
    share.stop()
    room = os.path.join(share.dir, 'small')
    os.mkdir(room)
    run('mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', room)
    try:
        run('cp', '-a', share.state + '/.', room)
        old, share.state = share.state, room
        os.chmod(room, 0o700)
        share.start()
        with opened(os.path.join(room, 'fill'), os.O_CREAT | os.O_WRONLY) as fd:
            while errno_of(os.write, fd, b'x' * 4096) == 'OK':
                pass
        # The last line may still fit into the page that the log has.
        for hours in range(690, 590, -1):
            answer = shorten(share, 'a', '%dh' % hours)
            if not answer['ok'] and answer['errno'] == 'ENOSPC':
                break
        assert answer['errno'] == 'ENOSPC' and 'audit' in answer['error']
        assert errno(delete(share, 'a')) == 'ENOSPC'
        assert read_file(path) == b'report\n' and share.shows('a') == 'retained'
        os.unlink(os.path.join(room, 'fill'))
        wait_for('the log to be written again', lambda: delete(share, 'a')['ok'])
        assert not os.path.exists(path)
        share.stop()
        share.state = old
    finally:
        if share.alive():
            share.kill9()
        run('umount', '-l', room)


@pytest.mark.parametrize('options', ['audit=off', 'commit=never'])
def test_T30_where_there_is_no_audit_log_nothing_is_deleted_or_shortened(mount, options):
    share = mount('retention=30d,privdel=on')
    path = share.lock('a')
    share.remount('retention=30d,privdel=on,' + options)
    for answer in (delete(share, 'a'), shorten(share, 'a', '1d')):
        assert errno(answer) == 'EPERM' and 'no audit log' in answer['error']
    assert read_file(path) == b'report\n'


def test_T30_a_reason_is_needed(mount):
    share = mount('retention=30d,privdel=on')
    share.lock('a')
    for reason in ('', None, 7, 'x' * 1025):
        assert errno(delete(share, 'a', reason)) == errno(shorten(share, 'a', '1d', reason)) == 'EINVAL'
    p = share.ctl('delete', share.at('a'), check=False)
    assert p.returncode == 2 and '--reason' in p.err


def test_T30_an_expired_file_may_be_deleted_so_too_and_an_unlocked_one_not(mount):
    share = mount('retention=1d,privdel=on', clocked=True)
    share.lock('a')
    write_file(share.at('open.part'))
    share.settle()
    assert errno(delete(share, 'open.part')) == 'EINVAL'
    share.now(2 * DAY)
    assert errno(delete(share, 'a')) == 'OK'


def test_a_file_that_is_written_or_unreadable_is_not_deleted(mount):
    share = mount('retention=1d,privdel=on')
    share.lock('a')
    share.stop()
    os.setxattr(share.below('a'), 'trusted.wormfs', b'x' * 64)
    share.start()
    assert errno(delete(share, 'a')) == 'EIO'
    assert os.path.exists(share.below('a'))


def test_only_root_and_the_daemons_user_may(mount):
    share = mount('retention=1d,privdel=on,hold_role=%d' % ALICE)
    share.lock('a')

    def ask():
        return subprocess.run([WORMCTL, 'delete', '--reason', 'x', 'a'], cwd=share.mnt, capture_output=True).stderr.decode()
    assert 'only root' in as_user(ALICE, ask)
    assert os.path.exists(share.at('a'))


# ---- names, caches, crashes ---------------------------------------------------------------------

def test_all_names_of_a_file_go_and_it_is_read_to_the_end_by_who_has_it_open(mount):
    share = mount('retention=30d,privdel=on')
    os.mkdir(share.at('d'))
    with opened(share.at('a'), os.O_CREAT | os.O_WRONLY):
        os.link(share.at('a'), share.at('d/b'))
        os.link(share.at('a'), share.at('c'))
    write_file(share.at('a'), b'three names')
    share.wait_state('a', 'retained')
    for name in ('a', 'd/b', 'c'):
        assert read_file(share.at(name)) == b'three names'
    share.remount()                                     # only one of them is known to the daemon
    with opened(share.at('c'), os.O_RDONLY) as fd:
        assert errno(delete(share, 'c')) == 'OK'
        for name in ('a', 'd/b', 'c'):
            assert not os.path.lexists(share.at(name)) and not os.path.lexists(share.below(name))
        assert os.read(fd, 100) == b'three names'
    assert share.listed() == {}


def answers(share):
    try:
        return share.control('mount')['ok']
    except (OSError, ValueError):
        return False


def test_a_crash_between_any_two_steps_leaves_the_file_locked_or_gone(mount):
    """strace kills the daemon at its Nth call on the way."""
    if run('which', 'strace', check=False).returncode:
        pytest.skip('needs strace')
    share = mount('retention=30d,privdel=on')
    hit = []
    for call in ('unlinkat', 'fdatasync', 'write', 'pwrite64'):
        for when in (1, 2, 3):
            name = '%s%d' % (call, when)
            share.lock(name)
            share.must('sync')
            tracer = subprocess.Popen(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=' + call, '-e',
                                       'inject=%s:signal=KILL:when=%d' % (call, when), '-p', str(share.proc.pid)],
                                      stderr=subprocess.DEVNULL)
            wait_for('strace', lambda: is_traced(share.proc.pid))
            try:
                delete(share, name)
            except (OSError, ValueError):
                pass
            tracer.kill()       # not terminate: it may wait for ever for a daemon that is gone
            tracer.wait()
            if not answers(share):
                hit.append(name + (' left' if os.path.lexists(share.below(name)) else ' gone'))
                share.kill9()
                share.start()
            if os.path.lexists(share.below(name)):
                assert (name, share.shows(name), errno_of(os.unlink, share.at(name))) == (name, 'retained', 'EPERM')
            else:
                assert not os.path.exists(share.at(name))
    assert len(hit) >= 3 and any('left' in h for h in hit), hit


# ---- shorten ------------------------------------------------------------------------------------

def test_shorten_makes_the_date_earlier_and_nothing_else_does(mount):
    share = mount('retention=2050-01-01,privdel=on')
    path = share.lock('a')
    p = share.ctl('shorten', '--reason', REASON, '2040-01-01', 'a', cwd=share.mnt)
    assert p.out == 'a: locked until 2040-01-01T00:00:00Z\n'
    assert share.shows('a', 'until') == '2040-01-01T00:00:00Z'
    line, = audit(share, 'shorten')
    assert 'until 2040-01-01T00:00:00Z, was 2050-01-01T00:00:00Z; reason: ' + REASON in line['detail']
    assert errno_of(os.setxattr, path, 'user.worm.until', b'2039-01-01') == 'EPERM'
    assert errno(shorten(share, 'a', '2041-01-01')) == 'EINVAL'
    assert errno(shorten(share, 'a', 'infinite')) == errno(shorten(share, 'a', 'unspecified')) == 'EINVAL'
    os.setxattr(path, 'user.worm.until', b'2045-01-01')         # extended again, as ever
    assert share.shows('a', 'until') == '2045-01-01T00:00:00Z'
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_an_infinite_retention_can_be_shortened_and_an_unspecified_one_is_extended(mount):
    share = mount('retention=infinite,privdel=on')
    share.lock('a')
    assert errno(shorten(share, 'a', '2040-01-01')) == 'OK'
    assert share.shows('a', 'until') == '2040-01-01T00:00:00Z'
    share.remount('privdel=on')
    share.lock('b')
    assert errno(shorten(share, 'b', '2040-01-01')) == 'EINVAL'


def test_shorten_respects_min_from_when_the_file_was_locked(mount):
    share = mount('min=10d,retention=30d,privdel=on', clocked=True)
    share.lock('a')
    assert errno(shorten(share, 'a', '5d')) == 'EINVAL'
    share.now(8 * DAY)
    assert errno(shorten(share, 'a', '1d')) == 'EINVAL'
    assert errno(shorten(share, 'a', '3d')) == 'OK'


@pytest.mark.parametrize('stale', ['nothing', 'an old ledger', 'reindex', 'SIGKILL', 'the record of before'])
def test_a_shortened_date_does_not_come_back_and_a_record_of_before_does_not_count(mount, stale):
    share = mount('retention=2050-01-01,privdel=on', clocked=True)
    share.lock('a')
    share.must('sync')
    old_record = os.getxattr(share.below('a'), 'trusted.wormfs')
    share.stop()
    old = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    copy = os.path.join(share.dir, 'old.db')
    with sqlite3.connect(copy) as db:
        old.backup(db)
    db.close()
    old.close()
    share.start()
    assert errno(shorten(share, 'a', '2d')) == 'OK'
    if stale == 'SIGKILL':
        share.kill9()
    else:
        share.must('sync')
        share.stop()
    if stale == 'an old ledger':
        run('cp', copy, os.path.join(share.state, 'ledger.db'))
    if stale == 'the record of before':
        os.setxattr(share.below('a'), 'trusted.wormfs', old_record)
    share.start()
    if stale == 'reindex':
        share.must('reindex')
    share.now(3 * DAY)
    # The record of before says 2050: it is ours and verifies, so the file is kept until then. It never frees anything.
    assert share.shows('a') == ('retained' if stale == 'the record of before' else 'expired')
    share.must('reindex')
    until = sqlite3.connect(os.path.join(share.state, 'ledger.db')).execute('SELECT until_s FROM file').fetchone()[0]
    assert until < 2524608000
    assert errno_of(os.unlink, share.at('a')) == ('EPERM' if stale == 'the record of before' else 'OK')


def test_an_extension_after_a_shortening_is_not_undone_by_the_shortened_record(mount):
    share = mount('retention=2050-01-01,privdel=on', clocked=True)
    path = share.lock('a')
    assert errno(shorten(share, 'a', '2d')) == 'OK'
    share.must('sync')
    short = os.getxattr(share.below('a'), 'trusted.wormfs')
    os.setxattr(path, 'user.worm.until', b'2050-01-01')
    share.must('sync')
    share.stop()
    os.setxattr(share.below('a'), 'trusted.wormfs', short)      # replayed
    share.start()
    share.now(3 * DAY)
    assert share.shows('a') == 'retained' and errno_of(os.unlink, path) == 'EPERM'


# ---- the second person --------------------------------------------------------------------------

def wormctl(share, *args):
    p = subprocess.run([WORMCTL, *args], cwd=share.mnt, capture_output=True, stdin=subprocess.DEVNULL)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def test_with_approve_a_deletion_waits_for_somebody_else_who_is_named(mount):
    share = mount('retention=30d,privdel=on,approve=%d' % ALICE)
    path = share.lock('a')
    out = share.ctl('delete', '--reason', REASON, 'a', cwd=share.mnt).out
    assert 'request 1 waits' in out and os.path.exists(path)
    rows = [json.loads(l) for l in share.ctl('requests', '--json', share.mnt).out.splitlines()]
    assert [(r['id'], r['verb'], r['path'], r['by'], r['reason']) for r in rows] == [(1, 'delete', 'a', 0, REASON)]
    code, _, err = wormctl(share, 'approve', '1')       # root asked, and is not named
    assert code == 2 and 'approve option' in err
    assert as_user(BOB, wormctl, share, 'approve', '1')[0] == 2
    assert os.path.exists(path)
    share.remount()                                     # it waits in the ledger
    assert as_user(ALICE, wormctl, share, 'requests')[0] == 0
    assert as_user(ALICE, wormctl, share, 'approve', '1') == (0, '1: approved and done\n', '')
    assert not os.path.exists(path)
    assert as_user(ALICE, wormctl, share, 'approve', '1')[0] == 2
    assert share.ctl('requests', share.mnt, check=False).returncode == 1
    asked, done = audit(share, 'delete_privileged')
    assert 'waits for approval' in asked['detail'] and 'uid 0, approved by uid %d (request 1)' % ALICE in done['detail']
    assert (asked['uid'], done['uid']) == (0, ALICE)


def test_nobody_approves_his_own_request(mount):
    share = mount('retention=30d,privdel=on,approve=0:%d' % ALICE)
    share.lock('a')
    assert delete(share, 'a')['pending'] == 1
    assert share.refused('approve', id=1) == 'EPERM'
    assert os.path.exists(share.at('a'))


def test_a_request_ends_after_a_day_and_what_was_asked_is_looked_at_again(mount):
    share = mount('retention=30d,privdel=on,approve=%d' % ALICE, clocked=True)
    for name in ('late', 'held', 'replaced'):
        share.lock(name)
    ids = {name: delete(share, name)['pending'] for name in ('late', 'held', 'replaced')}
    share.must('hold', 'held', case='c1')
    assert 'hold' in as_user(ALICE, wormctl, share, 'approve', str(ids['held']))[2]
    share.stop()
    os.unlink(share.below('replaced'))
    share.start()
    share.lock('replaced', b'another one')
    assert 'another file' in as_user(ALICE, wormctl, share, 'approve', str(ids['replaced']))[2]
    share.now(DAY + 60)
    assert 'time is over' in as_user(ALICE, wormctl, share, 'approve', str(ids['late']))[2]
    assert sorted(os.listdir(share.mnt)) == ['held', 'late', 'replaced']
    assert share.ctl('requests', share.mnt, check=False).returncode == 1


def test_what_may_not_be_done_is_not_asked_for_either(mount):
    share = mount('retention=30d,privdel=on,approve=%d' % ALICE)
    share.lock('a')
    share.must('hold', 'a', case='c1')
    assert errno(delete(share, 'a')) == 'EPERM'
    assert share.ctl('requests', share.mnt, check=False).returncode == 1


def test_with_approve_shorten_waits_too(mount):
    share = mount('retention=2050-01-01,privdel=on,approve=%d' % ALICE)
    share.lock('a')
    assert shorten(share, 'a', '2040-01-01')['pending'] == 1
    assert share.shows('a', 'until') == '2050-01-01T00:00:00Z'
    assert as_user(ALICE, wormctl, share, 'approve', '1')[0] == 0
    assert share.shows('a', 'until') == '2040-01-01T00:00:00Z'


@pytest.mark.parametrize('verb', ['delete', 'shorten', 'expire', 'approve', 'requests'])
def test_garbage_is_refused_and_the_daemon_lives(mount, verb):
    share = mount('retention=30d,privdel=on')
    share.lock('a')
    for keys in ({}, {'path': '../a'}, {'path': encode_path('gone'), 'reason': 'x', 'until': '1d'}, {'id': 'x'}, {'id': -1},
                 {'path': 'a', 'reason': 'x', 'until': 'soon'} if verb == 'shorten' else {'path': ''}):
        answer = share.control(verb, **keys)
        assert answer['ok'] is False or verb == 'requests', answer
    assert share.alive() and os.path.exists(share.at('a'))
