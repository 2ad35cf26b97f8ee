"""Digests of locked files, and `wormctl verify` (T34, T44): whatever of file, record and ledger was changed behind our
back is found and named, and nothing else is."""
import hashlib
import json
import os
import shutil
import signal
import subprocess

import pytest

from harness import WORMCTL, errno_of, look, mounts, opened, read_file, run, wait_for, write_file

RECORD = 'trusted.wormfs'


def sha(data):
    return hashlib.sha256(data).hexdigest()


def wait_digest(share, *names):
    """Waits until the daemon has taken the digests of these files."""
    for name in names:
        wait_for('the digest of %r' % (name,), lambda: share.shows(name, 'sha256'))


def digests(share):
    return share.info()['digest']


def wait_all_digests(share):
    wait_for('all digests', lambda: share.must('sync') and digests(share)['pending'] == 0)


# ---- the worker ---------------------------------------------------------------------------------

def test_the_digest_of_a_locked_file_is_taken_and_shown_everywhere_alike(wormfs):
    data = os.urandom(3 * 1024 * 1024 + 17)
    wormfs.lock('a', data)
    wormfs.lock('4k', b'x' * 4096)
    assert errno_of(wormfs.shows, 'nothing') == 'ENOENT'
    wait_digest(wormfs, 'a', '4k')
    want = sha(data)
    assert wormfs.shows('a', 'sha256') == want
    assert wormfs.explain('a')['sha256'] == want
    assert wormfs.listed()['a']['sha256'] == want
    assert json.loads(wormfs.ctl('status', '--json', wormfs.at('a')).out)['sha256'] == want
    assert '  sha256     %s\n' % want in wormfs.ctl('status', wormfs.at('a')).out
    assert wormfs.shows('4k', 'sha256') == sha(b'x' * 4096)
    assert digests(wormfs) == {'enabled': True, 'pending': 0, 'done': 2, 'failed': 0}
    wormfs.stop()
    assert json.loads(wormfs.ctl('status', '--json', '--state-dir', wormfs.state, wormfs.at('a')).out)['sha256'] == want


def test_an_open_file_has_no_digest(wormfs):
    write_file(wormfs.at('empty'), b'')
    assert wormfs.shows('empty', 'sha256') is None
    assert wormfs.explain('empty')['sha256'] is None


def test_the_digest_is_of_what_the_last_writer_left(wormfs):
    """Not taken while a duplicate of the descriptor, or a mapping, can still write."""
    path = wormfs.at('a')
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(fd, b'first')
    other = os.dup(fd)
    os.close(fd)
    assert wormfs.shows('a') == 'closing'
    wormfs.lock('b')
    wait_digest(wormfs, 'b')
    assert wormfs.shows('a', 'sha256') is None
    os.write(other, b' and last')
    os.close(other)
    wormfs.wait_state('a', 'retained')
    wait_digest(wormfs, 'a')
    assert wormfs.shows('a', 'sha256') == sha(b'first and last')


def test_an_extension_keeps_the_digest(wormfs):
    wormfs.lock('a')
    wait_digest(wormfs, 'a')
    os.setxattr(wormfs.at('a'), 'user.worm.until', b'2090-01-01')
    wormfs.must('hold', 'a', case='x')
    wormfs.must('sync')
    assert wormfs.shows('a', 'sha256') == sha(b'report\n')


def test_digests_go_on_after_SIGKILL_until_none_is_missing(mount):
    share = mount('digest_rate=1')
    names = ['f%d' % n for n in range(12)]
    for name in names:
        write_file(share.at(name), os.urandom(300000))
    share.settle(*names)
    wait_for('the first digests', lambda: digests(share)['done'] > 0)
    share.kill9()
    share.start('digest_rate=0')
    wait_all_digests(share)
    rows = share.listed()
    for name in names:
        assert rows[name]['sha256'] == sha(read_file(share.below(name)))


def test_digest_off_takes_none_and_a_later_mount_takes_all(mount):
    share = mount('digest=off')
    share.lock('a')
    share.must('sync')
    assert digests(share) == {'enabled': False, 'pending': 1, 'done': 0, 'failed': 0}
    assert idle_threads(share) == []
    assert share.shows('a', 'sha256') is None
    assert '  sha256     not taken: digest is off on this mount\n' in share.ctl('status', share.at('a')).out
    share.stop()
    share.start('digest=on')
    wait_digest(share, 'a')


def idle_threads(share):
    return [tid for tid in map(int, os.listdir('/proc/%d/task' % share.proc.pid))
            if os.sched_getscheduler(tid) == os.SCHED_IDLE]


def test_one_thread_reads_with_idle_priority_and_holds_no_lock(wormfs):
    """All else of the daemon has the priority it was started with: who is idle may keep what he holds for long."""
    wait_for('the thread', lambda: len(idle_threads(wormfs)) == 1)


@pytest.mark.parametrize('option', ['digest=maybe', 'digest_rate=-1', 'digest_rate=x'])
def test_a_wrong_digest_option_is_named(mount, option):
    from harness import Refused
    share = mount(start=False)
    with pytest.raises(Refused) as refused:
        share.start(option)
    assert refused.value.code == 2 and option.split('=')[0] in refused.value.text


def test_a_file_that_was_changed_below_gets_no_digest_that_calls_it_good(mount):
    share = mount('digest=off')
    share.lock('a', b'0123456789')
    share.lock('b')
    share.must('sync')
    share.stop()
    write_file(share.below('a'), b'forged', flags=os.O_APPEND)
    share.start('digest=on')
    wait_digest(share, 'b')
    wait_for('the file to be left out', lambda: digests(share)['failed'] == 1)
    assert share.shows('a', 'sha256') is None
    assert share.explain('a')['suspect']


def test_digests_do_not_change_access_times(mount):
    share = mount('digest=off')
    share.lock('a')
    share.must('sync')
    os.utime(share.below('a'), ns=(1, os.stat(share.below('a')).st_mtime_ns))
    share.stop()
    share.start('digest=on')
    wait_digest(share, 'a')
    st = os.stat(share.below('a'))
    assert st.st_atime_ns == 1


# ---- verify -------------------------------------------------------------------------------------

def verify(share, *args, path=None, check=None):
    """(exit code, {path: {kind, ...}}, summary) of a run; nothing but findings, and complaints on stderr."""
    p = share.ctl('verify', '--json', '--state-dir', share.state, *args, share.mnt if path is None else path, check=False)
    lines = [json.loads(line) for line in p.out.splitlines()]
    found = {}
    for line in lines:
        if 'summary' not in line:
            assert line['what'] and line['do']
            found.setdefault(line['path'], set()).add(line['kind'])
    summary = lines[-1]['summary'] if lines and 'summary' in lines[-1] else None
    if check is not None:
        assert (p.returncode, p.err) == (check, ''), p.out
    return p.returncode, found, summary


def some_locked(share, *names):
    for name in names:
        os.makedirs(os.path.dirname(share.at(name)), exist_ok=True)
        share.lock(name, ('this is ' + name + '\n').encode() * 50)
    wait_all_digests(share)


def hide(share, name, data):
    """Changes the data below the mount and puts the times back, as good as root can."""
    below = share.below(name)
    st = os.stat(below)
    with opened(below, os.O_WRONLY) as fd:
        os.pwrite(fd, data, 0)
    os.utime(below, ns=(st.st_atime_ns, st.st_mtime_ns))


@pytest.fixture(params=['mounted', 'stopped'])
def when(request):
    return request.param


@pytest.fixture
def damaged(mount, when):
    """damaged(share, fn): does something below the mount, while it is mounted or stopped, and verifies."""
    def go(share, fn, *args):
        if when == 'stopped':
            share.stop()
        fn()
        return verify(share, *args)
    return go


def test_T44_a_share_in_order_has_no_findings(wormfs, when):
    some_locked(wormfs, 'a', 'd/b', 'd/e/c')
    write_file(wormfs.at('open'), b'')
    wormfs.must('hold', 'a', case='x')
    os.setxattr(wormfs.at('d/b'), 'user.worm.until', b'2090-01-01')
    os.chmod(wormfs.at('d/b'), 0o444)
    if when == 'stopped':
        wormfs.stop()
    code, found, summary = verify(wormfs, check=0)
    assert found == {} and summary['files'] == 3 and summary['pending'] == 0
    assert summary['bytes'] == sum(os.stat(wormfs.below(n)).st_size for n in ('a', 'd/b', 'd/e/c'))
    assert verify(wormfs, path=wormfs.at('d'), check=0)[2]['files'] == 2
    assert verify(wormfs, path=wormfs.at('d/b'), check=0)[2]['files'] == 1


def test_T44_an_edit_that_put_size_and_time_back_is_found(wormfs, damaged):
    some_locked(wormfs, 'a', 'b')
    assert damaged(wormfs, lambda: hide(wormfs, 'a', b'T'))[:2] == (1, {'a': {'data'}})
    assert wormfs.explain('a')['suspect'] is None if wormfs.alive() else True     # nothing else sees it


def image_of(share):
    """The image file and the loop device below a share on a Bases filesystem."""
    point = max((m[0] for m in mounts() if share.lower.startswith(m[0] + '/') and m[1] == 'ext4'), key=len)
    return point, point + '.img'


def test_T44_a_bit_that_flips_on_the_disk_is_found_although_the_cache_is_good(mount):
    """The bit is flipped in the image below ext4: neither the page cache of the lower filesystem nor that of the mount
    knows of it, so every program still reads the good data."""
    point = mount.bases.make('ext4', 'flip', size='64M')
    share = mount(base=point, state=os.path.join(mount.bases.root, 'state-flip'))
    needle = b'needle' + os.urandom(32)
    share.lock('a', os.urandom(8192) + needle + os.urandom(5000))
    share.lock('small', b'x' * 100)
    wait_all_digests(share)
    run('sync', '-f', share.lower)
    good = read_file(share.at('a'))
    assert verify(share, check=0)[1] == {}
    with open(point + '.img', 'r+b') as image:
        at = image.read().index(needle)
        image.seek(at)
        image.write(bytes([needle[0] ^ 1]))
        image.flush()
        os.fsync(image.fileno())
    assert read_file(share.at('a')) == good == read_file(share.below('a'))       # out of the caches
    code, found, _ = verify(share)
    assert (code, found) == (1, {'a': {'data'}})
    share.stop()
    assert verify(share)[:2] == (1, {'a': {'data'}})


@pytest.mark.parametrize('how', ['appended', 'truncated', 'touched', 'overwritten'])
def test_T34_an_edited_file_is_found(wormfs, damaged, how):
    some_locked(wormfs, 'a', 'b')

    def edit():
        below = wormfs.below('a')
        if how == 'appended':
            write_file(below, b'forged', flags=os.O_APPEND)
        elif how == 'truncated':
            os.truncate(below, 3)
        elif how == 'touched':
            os.utime(below, (1, 1))
        else:
            with opened(below, os.O_WRONLY) as fd:
                os.pwrite(fd, b'forged', 0)
    want = {'edited', 'data'} if how == 'overwritten' else {'edited'}
    assert damaged(wormfs, edit)[:2] == (1, {'a': want})


def test_T34_a_replaced_file_is_found(wormfs, damaged):
    some_locked(wormfs, 'a', 'b')

    def replace():
        write_file(wormfs.below('new'), read_file(wormfs.below('a')))
        os.rename(wormfs.below('new'), wormfs.below('a'))
    assert damaged(wormfs, replace)[:2] == (1, {'a': {'replaced'}})


def test_T34_a_missing_and_a_moved_file_are_told_apart(wormfs, damaged):
    some_locked(wormfs, 'a', 'b', 'd/c')

    def remove():
        os.unlink(wormfs.below('a'))
        os.rename(wormfs.below('b'), wormfs.below('b2'))
        os.rename(wormfs.below('d'), wormfs.below('d2'))
    assert damaged(wormfs, remove)[:2] == (1, {'a': {'missing'}, 'b': {'moved'}, 'd/c': {'moved'}})


def test_an_expired_file_that_lost_one_of_its_names_is_in_order_under_the_other(mount):
    share = mount('retention=1d', clocked=True)
    for name in 'ab':
        write_file(share.below(name), b'from before')
        os.link(share.below(name), share.below(name + '2'))
    for name in ('a', 'a2', 'b', 'b2'):
        os.stat(share.at(name))
    for name in ('a', 'b2'):
        share.must('commit', name)
    share.now(3 * 86400)
    os.unlink(share.at('a'))
    os.unlink(share.at('b2'))
    share.must('sync')
    assert ', 0 findings' in share.ctl('verify', share.mnt).out
    assert sorted(share.listed()) == ['a2', 'b']


def test_a_file_whose_other_name_was_replaced_or_moved_is_locked_under_the_one_it_has(wormfs):
    for name in 'bd':
        write_file(wormfs.below(name), b'from before')
        os.stat(wormfs.at(name))
        os.link(wormfs.at(name), wormfs.at(name + '2'))
    write_file(wormfs.at('other.part'), b'other')
    os.rename(wormfs.at('other.part'), wormfs.at('b'))
    os.rename(wormfs.at('d2'), wormfs.at('d3'))
    os.unlink(wormfs.at('d'))
    for name in ('b2', 'd3'):
        write_file(wormfs.at(name), b'written', flags=os.O_TRUNC)
    assert sorted(wormfs.listed()) == ['b', 'b2', 'd3']
    assert ', 0 findings' in wormfs.ctl('verify', wormfs.mnt).out


def test_T34_a_removed_and_a_forged_record_are_found(wormfs, damaged):
    some_locked(wormfs, 'a', 'b', 'c')
    wormfs.expect_log('record')

    def forge():
        os.removexattr(wormfs.below('a'), RECORD)
        record = os.getxattr(wormfs.below('b'), RECORD)
        os.setxattr(wormfs.below('b'), RECORD, record[:16] + b'\0' * 8 + record[24:])
        os.setxattr(wormfs.below('c'), RECORD, b'short')
    assert damaged(wormfs, forge)[:2] == (1, {'a': {'stripped'}, 'b': {'unverifiable'}, 'c': {'unverifiable'}})


def sql(share, statement):
    import sqlite3
    db = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize('change', ['until_s = until_s - 86400', 'until_s = until_s + 86400', 'mode = 1', 'serial = 99', 'size_bytes = 1',
                                    'committed_s = 1', 'holds = 3'])
def test_a_record_that_disagrees_with_the_ledger_is_found(mount, change):
    share = mount('retention=30d')
    some_locked(share, 'a', 'b')
    share.stop()
    sql(share, "UPDATE file SET %s WHERE CAST(path AS TEXT) = 'a'" % change)
    code, found, _ = verify(share)
    assert code == 1 and set(found) == {'a'} and 'differs' in found['a']


def test_a_row_with_another_digest_is_found(wormfs):
    some_locked(wormfs, 'a')
    wormfs.stop()
    sql(wormfs, "UPDATE file SET sha256 = zeroblob(32)")
    assert verify(wormfs)[:2] == (1, {'a': {'data'}})


def test_a_locked_file_that_the_ledger_does_not_know_is_foreign(wormfs):
    some_locked(wormfs, 'a', 'd/b')
    wormfs.stop()
    sql(wormfs, "DELETE FROM file WHERE CAST(path AS TEXT) = 'd/b'")
    assert verify(wormfs)[:2] == (1, {'d/b': {'foreign'}})
    assert verify(wormfs, path=wormfs.below('d/b'))[:2] == (1, {'d/b': {'foreign'}})
    assert verify(wormfs, path=wormfs.below('a'))[:2] == (0, {})
    wormfs.start()
    wormfs.must('reindex')
    assert verify(wormfs)[:2] == (0, {})


def test_a_copied_record_is_found_before_and_after_the_ledger_knows_the_copy(wormfs):
    some_locked(wormfs, 'a', 'b')
    shutil.copy2(wormfs.below('a'), wormfs.below('copy'))       # xattrs come along
    assert os.getxattr(wormfs.below('copy'), RECORD) == os.getxattr(wormfs.below('a'), RECORD)
    assert verify(wormfs)[:2] == (1, {'copy': {'copied'}})
    os.setxattr(wormfs.at('copy'), 'user.worm.until', b'2090-01-01')
    wormfs.must('reindex')
    assert verify(wormfs)[:2] == (1, {'a': {'copied'}, 'copy': {'copied'}})
    assert verify(wormfs, path=wormfs.at('copy'))[:2] == (1, {'copy': {'copied'}})


def test_a_restored_share_is_foreign_until_reindex_and_then_in_order(wormfs):
    """Every file has another inode and the same record: no file is missing, and none is a copy."""
    some_locked(wormfs, 'a', 'd/b')
    wormfs.stop()
    for name in ('a', 'd/b'):
        shutil.copy2(wormfs.below(name), wormfs.below(name + '.copy'))
        os.rename(wormfs.below(name + '.copy'), wormfs.below(name))
    assert verify(wormfs)[:2] == (1, {'a': {'foreign'}, 'd/b': {'foreign'}})
    wormfs.start()
    wormfs.must('reindex')
    assert verify(wormfs)[:2] == (0, {})


def test_an_expired_file_that_is_gone_is_no_finding(mount):
    share = mount('retention=1d', clocked=True)
    some_locked(share, 'a', 'b')
    share.now(2 * 86400)
    os.unlink(share.below('a'))
    code, found, summary = verify(share, check=0)
    assert found == {} and summary['gone'] == 1


def test_the_wrong_key_is_said_for_every_record_and_a_missing_one_at_once(wormfs):
    some_locked(wormfs, 'a')
    key = write_file(wormfs.dir + '/other', os.urandom(32), 0o600)
    assert verify(wormfs, '--key', key)[:2] == (1, {'a': {'unverifiable'}})
    p = wormfs.ctl('verify', '--state-dir', wormfs.state, '--key', wormfs.dir + '/none', wormfs.mnt, check=False)
    assert p.returncode == 2 and 'no key' in p.err


def test_verify_finds_nothing_wrong_while_files_are_locked_extended_and_deleted(mount):
    """Online: what is in the middle of a change is no finding."""
    share = mount('retention=0s')
    stop = []
    import threading

    def busy():
        n = 0
        while not stop:
            path = write_file(share.at('f%d' % n), b'x' * (n * 97 % 5000 + 1))
            if n % 3 == 0:
                os.setxattr(path, 'user.worm.until', b'1d')
            elif n % 3 == 1:
                errno_of(os.unlink, path)
            n += 1
            if n == 20000:
                return
    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(6):
            code, found, summary = verify(share, check=0)
            assert found == {}
    finally:
        stop.append(1)
        thread.join()


def test_a_lost_ledger_is_said_and_is_exit_2(mount):
    share = mount()
    some_locked(share, 'a', 'b')
    share.stop()
    os.rename(share.state + '/ledger.db', share.state + '/elsewhere')
    p = share.ctl('verify', '--state-dir', share.state, share.below(), check=False)
    assert p.returncode == 2 and 'no ledger' in p.err and p.out == ''


def test_text_findings_are_one_line_each_with_what_to_do(wormfs):
    some_locked(wormfs, 'a', 'new\nline')
    hide(wormfs, 'new\nline', b'T')
    p = wormfs.ctl('verify', '--quiet', '--state-dir', wormfs.state, wormfs.mnt, check=False)
    assert p.returncode == 1 and p.err == ''
    assert p.out.startswith('new\\nline: data: ') and p.out.count('\n') == 1 and '; compare' in p.out
    p = wormfs.ctl('verify', '--state-dir', wormfs.state, wormfs.mnt, check=False)
    assert p.out.splitlines()[-1].startswith('2 files verified, ') and '1 findings' in p.out


def test_since_looks_at_what_was_locked_later_only(mount):
    share = mount(clocked=True)
    some_locked(share, 'old')
    share.now(10 * 86400)
    some_locked(share, 'new')
    date = share.explain('new')['committed'][:10]
    assert verify(share, '--since', date, check=0)[2]['files'] == 1
    assert verify(share, '--since', '2000-01-01', check=0)[2]['files'] == 2


# ---- the audit log, the fourth witness ----------------------------------------------------------

def logged(share):
    with open(os.path.join(share.state, 'audit.log')) as f:
        return [json.loads(line) for line in f]


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
    aged.start('retention=30d,privdel=on,audit=off,clock=file:' + aged.clock_file)
    aged.must('delete', 'a', reason='a court says so')
    aged.must('sync')
    aged.stop()
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


# ---- stopped and gone on with -------------------------------------------------------------------

def start_verify(share, *args):
    return subprocess.Popen([WORMCTL, 'verify', '--json', '--state-dir', share.state, *args, share.mnt], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def cursor(share):
    try:
        with open(share.state + '/verify.cursor') as f:
            return json.load(f)
    except OSError:
        return None


def many(share):
    names = ['f%02d' % n for n in range(24)]
    for name in names:
        write_file(share.at(name), os.urandom(1 << 20))
    share.settle(*names)
    wait_all_digests(share)
    return names


@pytest.mark.parametrize('how', ['SIGINT', 'SIGKILL'])
def test_a_stopped_run_goes_on_where_it_was(wormfs, how):
    names = many(wormfs)
    hide(wormfs, names[0], b'forged')
    hide(wormfs, names[-1], b'forged')
    p = start_verify(wormfs, '--rate', '4', '--jobs', '2')
    try:
        wait_for('a cursor', lambda: cursor(wormfs) and cursor(wormfs)['totals']['files'] > 2)
    finally:
        p.send_signal(getattr(signal, how))
    out, err = p.communicate()
    first = {json.loads(line)['path'] for line in out.splitlines() if 'path' in json.loads(line)}
    assert first == {names[0]}
    if how == 'SIGINT':
        assert p.returncode == 2 and '--resume' in err
    done = cursor(wormfs)['totals']
    assert 2 < done['files'] < 24
    code, found, summary = verify(wormfs, '--resume')
    assert (code, found) == (1, {names[-1]: {'data'}})
    assert summary['files'] == 24 and summary['findings'] == 2       # of both runs
    assert summary['bytes'] == 26 << 20         # what differs is read twice before it is told
    assert cursor(wormfs) is None
    p = wormfs.ctl('verify', '--resume', '--state-dir', wormfs.state, wormfs.mnt, check=False)
    assert p.returncode == 2 and 'no run to go on with' in p.err


def test_SIGTSTP_keeps_where_it_is_and_SIGCONT_goes_on(wormfs):
    many(wormfs)
    p = start_verify(wormfs, '--rate', '8')
    try:
        wait_for('it to run', lambda: os.path.exists(wormfs.state + '/verify.lock'))
        wait_for('its handlers', lambda: int([line.split()[1] for line in open('/proc/%d/status' % p.pid)
                                              if line.startswith('SigCgt')][0], 16) >> (signal.SIGTSTP - 1) & 1)
        p.send_signal(signal.SIGTSTP)
        wait_for('it to stop', lambda: open('/proc/%d/stat' % p.pid).read().split(') ')[1][0] == 'T')
        assert cursor(wormfs) is not None
        other = wormfs.ctl('verify', '--state-dir', wormfs.state, wormfs.mnt, check=False)
        assert other.returncode == 2 and 'another wormctl verify' in other.err
    finally:
        p.send_signal(signal.SIGCONT)
    out, err = p.communicate(timeout=60)
    assert (p.returncode, err) == (0, '') and json.loads(out)['summary']['files'] == 24


def test_the_rate_is_kept(wormfs):
    import time
    for n in range(4):
        write_file(wormfs.at('f%d' % n), os.urandom(1 << 20))
    wormfs.settle('f0', 'f1', 'f2', 'f3')
    wait_all_digests(wormfs)
    began = time.monotonic()
    verify(wormfs, '--rate', '4', '--jobs', '4', check=0)
    assert time.monotonic() - began >= 0.9      # 4 MiB at 4 MiB/s


def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(wormfs):
    import pty
    many(wormfs)
    master, slave = pty.openpty()
    try:
        p = subprocess.Popen([WORMCTL, 'verify', '--rate', '40', '--state-dir', wormfs.state, wormfs.mnt], stdout=subprocess.PIPE,
                             stderr=slave, stdin=subprocess.DEVNULL)
        out, _ = p.communicate(timeout=60)
        shown = os.read(master, 1 << 16).decode()
    finally:
        os.close(slave)
        os.close(master)
    assert p.returncode == 0 and b'24 files verified' in out
    assert '%' in shown and ' of 24 files' in shown and '[' in shown and '#' in shown
    assert shown.endswith('\r\x1b[K')


@pytest.mark.parametrize('args', [['--rate', '0'], ['--rate', 'x'], ['--jobs', '0'], ['--jobs', '65'], ['--since', '3d'], ['a', 'b']])
def test_wrong_use_of_verify_is_said(args):
    p = run(WORMCTL, 'verify', *args, check=False)
    assert p.returncode == 2 and p.err.startswith('wormctl: ') and p.err.count('\n') == 1


def test_only_the_daemons_user_gets_a_descriptor_of_what_is_below(wormfs):
    from harness import ALICE, as_user
    some_locked(wormfs, 'a')
    os.chmod(wormfs.dir, 0o755)

    def try_it():
        return subprocess.run([WORMCTL, 'verify', '--state-dir', wormfs.state, wormfs.mnt], capture_output=True, text=True).returncode
    assert as_user(ALICE, try_it) == 2


def test_the_weekly_run_is_a_timer_that_systemd_takes(tmp_path):
    from harness import ROOT, need_program
    analyze = need_program('systemd-analyze')
    run('make', '-C', ROOT, 'install', 'SETUP=true', 'programs=', 'DESTDIR=%s' % tmp_path, 'BUILD=' + os.path.dirname(WORMCTL))
    found = [os.path.join(d, n) for d, _, names in os.walk(tmp_path) for n in names if n.startswith('wormfs-verify@')]
    assert sorted(map(os.path.basename, found)) == ['wormfs-verify@.service', 'wormfs-verify@.timer']
    for path in found:
        with open(path) as f:
            text = f.read()
        assert '@BINDIR@' not in text
    here = os.path.dirname(found[0])
    for name in ('wormfs-verify@.service', 'wormfs-verify@.timer'):
        os.rename(os.path.join(here, name), os.path.join(here, name.replace('@', '@srv-share')))
    p = run(analyze, 'verify', '--man=no', os.path.join(here, 'wormfs-verify@srv-share.timer'), check=False,
            env={**os.environ, 'SYSTEMD_UNIT_PATH': here + ':'})
    complaints = [line for line in p.err.splitlines() if 'wormfs-verify' in line and 'not executable' not in line
                  and 'is not absolute' not in line]
    assert complaints == []


def test_an_append_only_file_has_the_digest_of_what_was_appended_and_is_no_finding_while_it_grows(mount):
    share = mount('retention=1d')
    path = write_file(share.at('log'), b'')
    os.setxattr(path, 'user.worm.append', b'1')
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'one\n')
    wait_for('the digest of one line', lambda: share.shows('log', 'sha256') == sha(b'one\n'))
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        for _ in range(20):
            os.write(fd, b'x' * 100000)
            assert verify(share, check=0)[1] == {}
    data = read_file(path)
    share.remount()         # the worker begins its round anew, as it does each minute
    wait_for('the digest of all', lambda: share.shows('log', 'sha256') == sha(data))
    share.must('commit', 'log')
    wait_all_digests(share)
    assert share.shows('log') == 'retained' and share.shows('log', 'sha256') == sha(data) and verify(share, check=0)[1] == {}


def test_an_append_only_file_that_grows_is_none_that_could_not_be_digested(mount):
    share = mount('retention=1d')
    path = write_file(share.at('log'), b'')
    os.setxattr(path, 'user.worm.append', b'1')
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'one\n')
        for name in ('a', 'b'):         # two rounds of the worker
            share.lock(name)
            wait_digest(share, name)
        assert digests(share)['failed'] == 0 and share.shows('log', 'sha256') is None
