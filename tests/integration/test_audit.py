"""The audit log on a mount: who did, or was refused, what; a chain that shows every change of it (T43), a bound under a
flood (T47), and a log that cannot be written (T33)."""
import fcntl
import hashlib
import json
import os
import re
import sqlite3
import subprocess

import pytest

from harness import (ALICE, BOB, DAY, WORMCTL, Refused, as_user, errno_of, fallocate, open_errno, opened, read_file, run, set_flags,
                     wait_for, write_file)

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


def log_of(share):
    return os.path.join(share.state, 'audit.log')


def lines(share, sync=True):
    if sync:
        share.must('sync')
    with open(log_of(share), encoding='utf-8') as f:
        return [json.loads(line) for line in f]


def events(share, name, **keys):
    return [l for l in lines(share, share.alive()) if l['event'] == name and all(l[k] == v for k, v in keys.items())]


def audit(share, *args):
    return run(WORMCTL, 'audit', *args, '--state-dir', share.state, check=False)


def verify(share, *args):
    return audit(share, 'verify', *args)


# ---- who did what -------------------------------------------------------------------------------

REFUSALS = [
    ('deny_open_write', 'open-write', lambda p: os.open(p, os.O_WRONLY)),
    ('deny_open_write', 'open-append', lambda p: os.open(p, os.O_WRONLY | os.O_APPEND)),
    ('deny_truncate', 'truncate', lambda p: os.truncate(p, 0)),
    ('deny_unlink', 'unlink', os.unlink),
    ('deny_rename', 'rename', lambda p: os.rename(p, p + '2')),
    ('deny_link', 'link', lambda p: os.link(p, p + '2')),
    ('deny_setattr', 'chmod-writable', lambda p: os.chmod(p, 0o666)),
    ('deny_setattr', 'chmod', lambda p: os.chmod(p, 0o755)),
    ('deny_setattr', 'chown', lambda p: os.chown(p, 0, 1)),
    ('deny_setattr', 'utimens', lambda p: os.utime(p, (1, 1))),
    ('deny_setattr', 'setflags', lambda p: set_flags(p, 0x40)),
    ('deny_xattr', 'setxattr', lambda p: os.setxattr(p, 'user.note', b'x')),
    ('deny_request', 'append-only', lambda p: os.setxattr(p, 'user.worm.append', b'1')),
]


def test_each_refusal_is_one_line_with_who_what_and_why(mount):
    share = mount('retention=1d')
    path = share.lock('a')
    serial = share.explain('a')['serial']
    for _, _, fn in REFUSALS:
        assert errno_of(fn, path) == 'EPERM'
    with open('/proc/self/comm') as f:
        comm = f.read().strip()
    for event, op, _ in REFUSALS:
        found = [l for l in events(share, event, path='a') if l['detail'].startswith(op + ':')]
        assert (op, len(found)) == (op, 1)
        line = found[0]
        assert line['uid'] == 0 and line['gid'] == 0 and line['pid'] == os.getpid() and line['comm'] == comm
        assert line['result'] == 'EPERM' and line['detail'] == op + ': retained' and line['count'] == 1
        assert line['serial'] == serial and re.fullmatch('[0-9a-f]{8,}', line['key'])


def test_other_users_are_named(mount):
    share = mount('retention=1d')
    path = share.lock('a', mode=0o666)
    assert as_user(ALICE, errno_of, os.open, path, os.O_WRONLY) == 'EPERM'
    assert as_user(BOB, errno_of, os.open, path, os.O_WRONLY) == 'EPERM'
    assert sorted(l['uid'] for l in events(share, 'deny_open_write')) == [ALICE, BOB]


def test_a_refused_rename_of_a_directory_above_a_locked_file_is_a_line(mount):
    share = mount('retention=1d')
    os.mkdir(share.at('d'))
    share.lock('d/a')
    assert errno_of(os.rename, share.at('d'), share.at('e')) == 'EPERM'
    line, = events(share, 'deny_rename')
    assert line['path'] == 'd' and line['detail'] == 'rename-dir: pinned'


def test_a_forged_record_through_the_mount_is_a_line(mount):
    share = mount('retention=1d')
    path = share.lock('a')
    assert errno_of(os.setxattr, path, 'trusted.wormfs', b'x') == 'EPERM'
    line, = events(share, 'deny_xattr')
    assert 'trusted.wormfs' in line['detail']


def test_every_lock_is_a_line_that_says_why_and_until_when(mount):
    share = mount('retention=2030-01-01', base='ext4')
    path = share.lock('a')
    line, = events(share, 'commit', path='a')
    assert line['detail'] == 'close: until 2030-01-01T00:00:00Z, governance' and line['result'] == 'OK'
    assert line['serial'] == share.explain('a')['serial'] and line['pid'] == os.getpid()
    write_file(share.at('b.part'), b'x')
    os.rename(share.at('b.part'), share.at('b'))
    assert [l['detail'].split(':')[0] for l in events(share, 'commit', path='b')] == ['renamed from a staging name']
    with opened(share.at('c'), os.O_CREAT | os.O_WRONLY):
        pass
    share.must('commit', 'c')
    assert [l['detail'].split(':')[0] for l in events(share, 'commit', path='c')] == ['asked for']
    with opened(share.at('e'), os.O_CREAT | os.O_WRONLY):
        pass
    os.chmod(share.at('e'), 0o444)
    assert [l['detail'].split(':')[0] for l in events(share, 'commit', path='e')] in (['chmod'], [])
    assert path


def test_every_file_that_is_made_is_a_line_with_who_made_it(mount):
    share = mount('retention=1d', lower_mode=0o777)
    share.lock('a')
    os.mknod(share.at('b'), 0o600)
    as_user(ALICE, write_file, share.at('c.part'), b'x')
    write_file(share.at('a2'), b'x')
    write_file(share.at('c.part'), b'y')	# it is there already
    assert open_errno(share.at('a'), os.O_CREAT | os.O_EXCL | os.O_WRONLY) == 'EEXIST'
    os.mkdir(share.at('d'))
    made = events(share, 'create')
    assert [(l['path'], l['uid'], l['result']) for l in made] == [('a', 0, 'OK'), ('b', 0, 'OK'), ('c.part', ALICE, 'OK'), ('a2', 0, 'OK')]
    assert {l['pid'] for l in made if l['uid'] == 0} == {os.getpid()} and all(re.fullmatch('[0-9a-f]{8,}', l['key']) for l in made)
    share.remount('retention=1d,audit_success=commit:extend')
    share.lock('later')
    assert events(share, 'create', path='later') == [] and len(events(share, 'commit', path='later')) == 1


BAD_REQUESTS = {
    'a commit that is not 1': (lambda p: os.setxattr(p, 'user.worm.commit', b'yes'), 'EINVAL', 'commit'),
    'a date that is none': (lambda p: os.setxattr(p, 'user.worm.until', b'soon'), 'EINVAL', 'extend'),
    'a date that is long': (lambda p: os.setxattr(p, 'user.worm.until', b'1' * 4000), 'EINVAL', 'extend'),
    'an append that is not 1': (lambda p: os.setxattr(p, 'user.worm.append', b''), 'EINVAL', 'append-only'),
    'what cannot be set': (lambda p: os.setxattr(p, 'user.worm.state', b'open'), 'EPERM', 'setxattr'),
    'what cannot be removed': (lambda p: os.removexattr(p, 'user.worm.until'), 'EPERM', 'setxattr'),
    'a commit of a directory': (lambda p: os.setxattr(os.path.dirname(p), 'user.worm.commit', b'1'), 'EINVAL', 'commit'),
}


@pytest.mark.parametrize('what', BAD_REQUESTS)
def test_a_bad_request_is_one_line_of_a_refusal(mount, what):
    call, errno, op = BAD_REQUESTS[what]
    share = mount('retention=1d')
    path = share.lock('a')
    for _ in range(2):
        assert errno_of(call, path) == errno
    refused = events(share, 'deny_xattr' if op == 'setxattr' else 'deny_request')
    assert [(l['result'], l['detail'].split(':')[0], l['uid'], l['pid']) for l in refused] == [(errno, op, 0, os.getpid())]
    share.remount('retention=1d,audit_failure=none')
    assert errno_of(call, path) == errno
    assert len(events(share, refused[0]['event'])) == 2		# and the one that was a repeat, told at the unmount


def test_a_commit_beside_a_writer_is_a_line_by_whatever_door_it_came(mount):
    share = mount('retention=1d')
    for name, call in (('a', lambda p: os.setxattr(p, 'user.worm.commit', b'1')), ('b', lambda p: share.control('commit', 'b')),
                       ('c', lambda p: set_flags(p, 0x10)), ('d', lambda p: os.setxattr(p, 'user.worm.append', b'1'))):
        with opened(share.at(name), os.O_CREAT | os.O_WRONLY) as fd:
            os.write(fd, b'x')
            errno_of(call, share.at(name))
            line, = [l for l in events(share, 'deny_request') if l['path'] == name]
            assert line['result'] == 'EBUSY' and 'open or mapped for writing' in line['detail']
    writer = subprocess.Popen(['sh', '-c', 'exec cat >"$1"', 'sh', share.at('e')], stdin=subprocess.PIPE)
    try:
        wait_for('the writer', lambda: os.path.exists(share.at('e')) and share.info()['writers'] == 1)
        assert errno_of(os.chmod, share.at('e'), 0o444) == 'EBUSY'
    finally:
        writer.communicate(b'')
    line, = events(share, 'deny_setattr')
    assert (line['path'], line['result']) == ('e', 'EBUSY')


def test_who_may_not_ask_is_a_line(mount):
    share = mount('retention=1d,hold_role=%d' % ALICE, lower_mode=0o777)
    share.lock('a')
    share.expect_log('may not ask')
    assert as_user(ALICE, share.control, 'commit', 'a')['errno'] == 'EPERM'
    assert [(l['uid'], l['result'], l['detail']) for l in events(share, 'deny_request')] == [(ALICE, 'EPERM', 'commit: not for this user')]


def test_what_happens_to_an_append_only_file_is_a_line(mount):
    share = mount('retention=1d')
    path = write_file(share.at('log'), b'')
    os.setxattr(path, 'user.worm.append', b'1')
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'line')
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        assert errno_of(os.pwrite, fd, b'X', 0) == 'EPERM'
        assert errno_of(fallocate, fd, 0, 0, 10) == 'EPERM'
    share.must('commit', 'log')
    assert [l['detail'].split(':')[0] for l in events(share, 'commit', path='log')] == ['made append-only', 'made final']
    denied = events(share, 'deny_write', path='log')
    assert [l['detail'] for l in denied] == ['write: appendable', 'fallocate: appendable'] and {l['pid'] for l in denied} == {os.getpid()}
    path = write_file(share.at('empty'), b'', 0o644)
    os.chmod(path, 0o444)
    os.chmod(path, 0o644)
    assert [l['detail'].split(':')[0] for l in events(share, 'commit', path='empty')] == ['chmod', 'made append-only']


def test_requests_deletions_mounts_and_tampering_are_lines(mount):
    share = mount('retention=1d', clocked=True)
    path = share.lock('a')
    os.setxattr(path, 'user.worm.until', b'2d')
    assert errno_of(os.setxattr, path, 'user.worm.until', b'1s') == 'EPERM'
    share.must('hold', 'a', case='case-1')
    share.must('release', 'a', case='case-1')
    share.now(3 * DAY)
    os.unlink(path)
    extend, = events(share, 'extend')
    assert re.fullmatch(r'until \S+Z, was \S+Z', extend['detail']) and extend['path'] == 'a'
    assert [l['detail'] for l in events(share, 'deny_request')] == ['extend: its retention ends later already']
    assert [l['detail'] for l in events(share, 'hold_add') + events(share, 'hold_release')] == ['case case-1', 'case case-1']
    deleted, = events(share, 'delete_expired')
    assert deleted['path'] == 'a' and deleted['pid'] == os.getpid()
    # The clock of retention is in the line, the wall clock beside it.
    assert deleted['clock'][:10] != deleted['wall'][:10]
    share.lock('b')
    share.stop()
    with open(share.below('b'), 'w') as f:
        f.write('another')
    share.start()
    assert read_file(share.at('b')) == b'another'
    tamper, = events(share, 'tamper')
    assert tamper['path'] == 'b' and 'changed below the mount' in tamper['detail']
    assert len(events(share, 'mount')) == 2 and len(events(share, 'unmount')) == 1


def test_a_name_of_any_bytes_is_in_the_line_exactly(mount):
    share = mount('retention=1d')
    name = b'a "b"\n\xff'
    with open(os.path.join(os.fsencode(share.mnt), name), 'wb') as f:
        f.write(b'x')
    share.wait_state(os.path.join(os.fsencode(share.mnt), name), 'retained')
    line, = events(share, 'commit')
    assert line['path'] == 'a "b"\n\ufffd' and line['path_encoded'] == 'a%20"b"%0A%FF'
    assert verify(share).returncode == 0


# ---- a chain: T43 -------------------------------------------------------------------------------

@pytest.fixture
def stopped(mount):
    share = mount('retention=1d')
    for i in range(5):
        share.lock('f%d' % i)
    share.stop()
    with open(log_of(share), 'rb') as f:
        share.chain = f.read().splitlines(keepends=True)
    return share


def write_log(share, chain):
    with open(log_of(share), 'wb') as f:
        f.write(b''.join(chain))


def test_T43_what_nobody_changed_verifies_also_with_the_daemon_running(stopped):
    p = verify(stopped)
    assert p.returncode == 0 and p.out.endswith('as it was written\n')
    stopped.start()
    stopped.lock('later')
    p = verify(stopped)
    assert p.returncode == 0, p.out
    assert run(WORMCTL, 'audit', 'verify', stopped.mnt, '--state-dir', stopped.state).returncode == 0


@pytest.mark.parametrize('promise, change, kind, line', [
    ('a flipped byte', lambda c: [*c[:2], c[2].replace(b'"uid":0', b'"uid":1'), *c[3:]], 'changed', 3),
    ('a dropped line', lambda c: [*c[:2], *c[3:]], 'missing', 3),
    ('a line moved', lambda c: [*c[:2], c[3], c[2], *c[4:]], 'missing', 3),
    ('the last line cut', lambda c: c[:-1], 'cut', 12),
    ('half of it cut', lambda c: c[:3], 'cut', 3),
    ('a foreign line', lambda c: [*c[:2], b'{"seq":3}\n', *c[3:]], 'not a line', 3),
])
def test_T43_a_change_of_the_log_is_found_and_located(stopped, promise, change, kind, line):
    write_log(stopped, change(stopped.chain))
    p = verify(stopped)
    assert p.returncode == 1 and p.out.startswith('audit.log line %d' % line) and ': %s: ' % kind in p.out.splitlines()[0], p.out
    rows = [json.loads(l) for l in verify(stopped, '--json').out.splitlines()]
    assert rows[0]['finding'] == kind and rows[0]['line'] == line and rows[-1]['ok'] is False


def test_T43_a_log_that_was_cut_is_said_at_the_next_mount_and_found_for_ever(stopped):
    write_log(stopped, stopped.chain[:3])
    stopped.start()
    assert 'lines are missing at its end' in stopped.log_text()
    tamper, = events(stopped, 'tamper')
    assert 'lines 4 to 13 are missing' in tamper['detail']
    stopped.stop()
    p = verify(stopped)
    assert p.returncode == 1 and 'lines 4 to 13 are missing' in p.out


def test_a_head_kept_outside_shows_a_log_and_ledger_that_went_back_together(mount):
    share = mount('retention=1d')
    anchor = os.path.join(share.dir, 'anchor')
    share.stop()
    share.start('retention=1d,audit_anchor=' + anchor)
    for name in 'abc':
        share.lock(name)
    share.stop()
    assert verify(share, '--anchor', anchor).returncode == 0
    head = re.findall(r'head (\d+:[0-9a-f]{64})', share.log_text())[-1]
    assert read_file(anchor).decode().split()[-2] == head
    with open(log_of(share), 'rb') as f:
        chain = f.read().splitlines(keepends=True)
    write_log(share, chain[:-2])
    link = json.loads(chain[-3])
    ledger = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    with ledger:
        ledger.execute("UPDATE meta SET value=? WHERE name='audit_head'", ('%d:%s' % (link['seq'], link['hash']),))
    ledger.close()
    assert verify(share).returncode == 0            # nobody here can know
    for option in (('--anchor', anchor), ('--head', head)):
        p = verify(share, *option)
        assert p.returncode == 1 and ': cut: ' in p.out


def test_what_a_kill_tore_is_kept_and_is_no_tampering(stopped):
    with open(log_of(stopped), 'ab') as f:
        f.write(stopped.chain[-1][:50])
    p = verify(stopped)
    assert p.returncode == 0 and ': torn: ' in p.out
    stopped.start()
    torn, = events(stopped, 'log_torn')
    assert '50 bytes' in torn['detail']
    p = verify(stopped)
    assert p.returncode == 0 and 'torn:' not in p.out


def test_after_SIGKILL_the_log_verifies_and_has_every_lock(mount):
    share = mount('retention=1d')
    for i in range(200):
        write_file(share.at('f%d' % i), b'x')
    share.kill9()
    share.start()
    share.must('sync')
    assert verify(share).returncode == 0
    assert {l['path'] for l in events(share, 'commit')} == {'f%d' % i for i in range(200)}


def test_a_log_that_cannot_be_verified_is_not_called_good(mount):
    share = mount('retention=1d')
    share.stop()
    for name in os.listdir(share.state):
        if name.startswith('ledger.db'):
            os.unlink(os.path.join(share.state, name))
    p = verify(share)
    assert p.returncode == 2 and 'cannot know where the log ended' in p.err
    os.unlink(log_of(share))
    p = audit(share, 'show')
    assert p.returncode == 2 and 'there is no audit log' in p.err


# ---- a flood, a full disk -----------------------------------------------------------------------

def test_T47_a_flood_of_refusals_leaves_a_bounded_log_that_counts_them_all(mount):
    share = mount('retention=1d')
    path = share.lock('a')
    many = 20000
    for _ in range(many):
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
    names = ['f%d' % i for i in range(1500)]
    for name in names:
        write_file(share.at(name), b'x')
    for name in names:
        assert errno_of(os.unlink, share.at(name)) == 'EPERM'
    before = share.info()['audit']
    assert before['lost'] == 0 and before['repeats'] >= many - 10
    share.stop()
    assert sum(l['count'] for l in events(share, 'deny_open_write')) == many
    assert len(events(share, 'deny_open_write')) < 50
    assert sum(l['count'] for l in events(share, 'deny_unlink')) == len(names)
    assert len(events(share, 'deny_unlink')) < 1200
    assert verify(share).returncode == 0


def test_T33_a_full_disk_stops_no_request_of_a_user_and_what_waited_is_written(mount, bases):
    small = bases.make('tmpfs', 'small-audit', options=['size=8m'])
    share = mount('retention=1d', state=os.path.join(small, 'state'))
    share.lock('before')
    share.must('hold', 'before', case='case-1')
    share.must('sync')
    filler = os.path.join(small, 'filler')
    share.expect_log('ledger', 'audit log')
    with open(filler, 'wb', buffering=0) as f:
        with pytest.raises(OSError):
            while True:
                f.write(b'\0' * 65536)
        with pytest.raises(OSError):
            while True:
                f.write(b'\0' * 512)
    for i in range(50):
        assert errno_of(os.unlink, share.at('before')) == 'EPERM'
        write_file(share.at('f%d' % i), b'x')
    wait_for('the state to say so', lambda: share.info()['audit']['state'] == 'failing')
    assert any('audit log cannot be written' in p for p in share.problems())
    # By privilege nothing is done that nobody could prove.
    answer = share.control('release', 'before', case='case-1')
    assert answer['ok'] is False and answer['errno'] == 'ENOSPC' and 'audit log' in answer['error']
    assert share.shows('before', 'holds') == 'case-1'
    wait_for('the log to say so', lambda: 'cannot write the audit log' in share.log_text())
    os.unlink(filler)
    wait_for('the log to be written again', lambda: share.info()['audit']['state'] == 'ok')
    share.lock('after')
    assert len(events(share, 'commit')) == 52 and share.info()['audit']['lost'] == 0
    wait_for('the ledger to be written again', lambda: len(events(share, 'ledger_ok')) == 1)
    assert len(events(share, 'ledger_failing')) == 1
    share.must('release', 'before', case='case-1')
    assert len(events(share, 'hold_release')) == 1
    assert verify(share).returncode == 0


def test_a_log_that_cannot_be_opened_stops_the_mount(mount):
    share = mount(start=False)
    os.mkdir(log_of(share))
    with pytest.raises(Refused) as e:
        share.start()
    assert e.value.code == 2 and 'cannot open the audit log' in e.value.text and '-o audit=off' in e.value.text
    share.start('audit=off')
    assert share.info()['audit'] == {'state': 'off'}


def test_a_start_that_fails_leaves_no_log_behind(mount):
    share = mount(start=False)
    with pytest.raises(Refused):
        share.start('audit_anchor=/nowhere/at/all')
    assert not os.path.exists(log_of(share))


# ---- options and wormctl ------------------------------------------------------------------------

@pytest.mark.parametrize('options', ['audit=off', 'commit=never'])
def test_without_an_audit_there_is_no_log(mount, options):
    share = mount(options)
    write_file(share.at('a'), b'x')
    share.stop()
    assert not os.path.exists(log_of(share))


def test_success_and_failure_are_chosen_separately(mount):
    share = mount('retention=1d,audit_success=commit:mount,audit_failure=deny_un*')
    path = share.lock('a')
    os.setxattr(path, 'user.worm.until', b'2d')
    assert open_errno(path, os.O_WRONLY) == 'EPERM' and errno_of(os.unlink, path) == 'EPERM'
    share.stop()
    assert [l['event'] for l in lines(share, False)] == ['mount', 'commit', 'deny_unlink']
    for wrong in ('audit_success=comit', 'audit_failure=', 'audit=maybe', 'audit_rotate=-1'):
        with pytest.raises(Refused) as e:
            share.start(wrong)
        assert e.value.code == 2 and wrong.split('=')[0] in e.value.text
    share.start('audit_success=none,audit_failure=none')
    share.lock('b')
    share.stop()
    assert len(lines(share, False)) == 3


def test_show_filters_by_user_path_event_and_time(mount):
    share = mount('retention=30d', clocked=True)
    os.mkdir(share.at('d'))
    share.lock('d/a', mode=0o666)
    share.lock('d1', mode=0o666)
    as_user(ALICE, errno_of, os.open, share.at('d/a'), os.O_WRONLY)
    share.must('sync')
    share.now(10 * DAY)
    assert errno_of(os.unlink, share.at('d1')) == 'EPERM'

    def shown(*args, path=None):
        p = run(WORMCTL, 'audit', 'show', '--json', *args, *([path] if path else []), '--state-dir', share.state, check=False)
        assert not p.err
        return p.returncode, [(l['event'], l['path']) for l in map(json.loads, p.out.splitlines())]
    assert shown('--denied') == (0, [('deny_open_write', 'd/a'), ('deny_unlink', 'd1')])
    assert shown('--uid', str(ALICE)) == (0, [('deny_open_write', 'd/a')])
    assert shown('--path', 'd') == (0, [('create', 'd/a'), ('commit', 'd/a'), ('deny_open_write', 'd/a')])
    assert shown(path=share.at('d')) == shown('--path', 'd')
    assert shown('--event', 'commit:mount', '--path', 'd1') == (0, [('commit', 'd1')])
    assert shown('--since', '5d', '--denied') == (0, [('deny_unlink', 'd1')])
    assert shown('--until', '5d', '--denied') == (0, [('deny_open_write', 'd/a')])
    assert shown('--event', 'shorten') == (1, [])
    p = audit(share, 'show', '--denied')
    assert p.returncode == 0 and 'deny_unlink EPERM d1  (unlink: retained)' in p.out
    share.stop()
    assert shown('--denied')[0] == 0
    for args, word in ((('--since', 'soon'), 'soon'), (('--uid', 'nobody-of-that-name'), '--uid'), (('frob',), 'frob')):
        p = run(WORMCTL, 'audit', *(() if args == ('frob',) else ('show',)), *args, check=False)
        assert p.returncode == 2 and word in p.err and p.err.count('\n') == 1


def test_an_export_is_verified_without_wormfs(mount):
    share = mount('retention=1d')
    for name in 'abc':
        share.lock(name)
    target = os.path.join(share.dir, 'export.jsonl')
    p = audit(share, 'export', target)
    assert p.returncode == 0 and p.out.startswith('8 lines, 1 to 8, head 8:')
    prev = '0' * 64
    with open(target, 'rb') as f:
        for raw in f:
            line = json.loads(raw)
            assert line['prev'] == prev
            prev = line['hash']
            assert hashlib.sha256(raw[:raw.rindex(b',"hash":')]).hexdigest() == prev
    assert p.out.strip().endswith(prev)
    assert run(WORMCTL, 'audit', 'verify', '--file', target).returncode == 0
    p = audit(share, 'export', target)
    assert p.returncode == 2 and 'exists already' in p.err
    with open(target, 'r+b') as f:
        f.seek(7)
        f.write(b'9')
    assert run(WORMCTL, 'audit', 'verify', '--file', target, check=False).returncode == 1


def test_only_root_and_the_daemons_user_read_the_log(mount):
    share = mount('retention=1d')
    share.lock('a')
    assert os.stat(log_of(share)).st_mode & 0o777 == 0o600
    p = run('setpriv', '--reuid', str(ALICE), '--regid', str(ALICE), '--clear-groups', WORMCTL, 'audit', 'show', share.mnt, check=False)
    assert p.returncode == 2 and 'only root' in p.err


def test_status_tells_how_the_log_is(mount):
    share = mount('retention=1d')
    share.lock('a')
    share.must('sync')
    info = share.info()['audit']
    assert info['state'] == 'ok' and info['seq'] == 4 and info['lost'] == 0 and info['error'] is None
    assert 'audit log  ok, 4 lines' in run(WORMCTL, 'status', '--state-dir', share.state).out
