"""settle=N: for so long after the lock what a copying program sets after its last close is let in, and the data never."""
import json
import os
import shutil
import subprocess
import zipfile

import pytest

from harness import errno_of, killed_at, need_program, open_errno, read_file, scaled, write_file

HOUR = 3600


def settled(mount, options='settle=3600', **kwargs):
    return mount(options + ',retention=1d', clocked=True, **kwargs)


def lock(share, name, data=b'report'):
    path = write_file(share.at(name), data)
    share.wait_state(path, 'settling')
    return path


def assert_clean(share):
    share.must('sync')
    assert ', 0 findings' in share.ctl('verify', share.mnt).out
    assert [p for p in share.info()['problems'] if 'clock' not in p] == []


def test_while_it_settles_all_but_the_data_can_be_set_and_the_record_follows(mount):
    share = settled(mount)
    path = lock(share, 'a')
    os.utime(path, (1000, 2000))
    os.chmod(path, 0o640)
    os.chmod(path, 0o440)
    os.chown(path, 1000, 1000)
    os.setxattr(path, 'user.origin', b'scanner 7')
    st = os.stat(path)
    assert (st.st_mtime, st.st_mode & 0o7777, st.st_uid, st.st_gid) == (2000, 0o440, 1000, 1000)
    assert os.getxattr(path, 'user.origin') == b'scanner 7'
    assert open_errno(path, os.O_WRONLY) == 'EPERM' and errno_of(os.truncate, path, 3) == 'EPERM'
    assert errno_of(os.unlink, path) == 'EPERM' and errno_of(os.link, path, path + '2') == 'EPERM'
    assert share.explain(path)['suspect'] is None
    assert_clean(share)
    share.remount()
    assert share.shows(path) == 'settling' and share.explain(path)['suspect'] is None
    assert (share.listed()['a']['uid'], share.listed()['a']['state']) == (1000, 'settling')


def test_when_it_has_settled_it_is_as_any_locked_file_also_after_a_remount(mount):
    share = settled(mount)
    path = lock(share, 'a')
    share.now(HOUR - 60)
    assert share.shows(path) == 'settling'
    share.remount()
    os.utime(path, (1000, 2000))
    share.now(HOUR)
    assert share.shows(path) == 'retained'
    for call in (lambda: os.utime(path, (5, 5)), lambda: os.chmod(path, 0o666), lambda: os.setxattr(path, 'user.x', b'x'),
                 lambda: os.rename(path, path + '2'), lambda: os.chown(path, 5, 5)):
        assert errno_of(call) == 'EPERM'
    assert os.stat(path).st_mtime == 2000
    assert_clean(share)


def test_another_settle_time_of_the_mount_changes_no_lock_that_was_made(mount):
    share = settled(mount, 'settle=60')
    path = lock(share, 'a')
    share.now(100)
    share.remount('settle=3600,retention=1d,clock=file:' + share.clock_file)
    assert share.shows(path) == 'retained' and errno_of(os.utime, path, (1, 1)) == 'EPERM'
    share.remount('settle=0,retention=1d,clock=file:' + share.clock_file)
    share.now(30)
    os.utime(path, (1, 1))


def test_right_after_close_the_times_can_be_set_without_waiting(mount):
    """RELEASE comes after close(2) has returned: nobody must meet the state in between."""
    share = settled(mount)
    for i in range(300):
        path = share.at('f%d' % i)
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        os.write(fd, b'data')
        os.close(fd)
        os.utime(path, (i, i))
        os.chmod(path, 0o600)
    assert [os.stat(share.at('f%d' % i)).st_mtime for i in (0, 150, 299)] == [0, 150, 299]
    assert_clean(share)


def test_without_settle_nothing_of_it_is_let_in(mount):
    share = mount('retention=1d')
    path = share.lock('a')
    assert share.shows(path) == 'retained' and errno_of(os.utime, path, (1, 1)) == 'EPERM'


def test_a_rename_while_it_settles_is_followed_by_pins_and_ledger(mount):
    share = settled(mount)
    for d in ('in', 'out', 'out/deep'):
        os.mkdir(share.at(d))
    path = lock(share, 'in/a')
    os.rename(path, share.at('out/deep/b'))
    path = share.at('out/deep/b')
    assert share.shows(path) == 'settling' and read_file(path) == b'report'
    assert errno_of(os.rename, share.at('out'), share.at('other')) == 'EPERM'
    assert errno_of(os.rename, share.at('out/deep'), share.at('deep')) == 'EPERM'
    os.rename(share.at('in'), share.at('in2'))	# nothing is below it any more
    share.must('sync')
    assert set(share.listed()) == {'out/deep/b'}
    # Not onto what is locked, and not by an exchange.
    other = lock(share, 'other')
    assert errno_of(os.rename, path, other) == 'EPERM' and errno_of(os.rename, other, path) == 'EPERM'
    assert_clean(share)
    share.remount()
    assert share.shows(path) == 'settling' and set(share.listed()) == {'out/deep/b', 'other'}


def test_a_hold_ends_it_at_once(mount):
    share = settled(mount)
    path = lock(share, 'a')
    share.must('hold', 'a', case='smith')
    assert share.shows(path) == 'retained'
    assert errno_of(os.utime, path, (1, 1)) == 'EPERM' and errno_of(os.rename, path, path + '2') == 'EPERM'


def test_an_append_only_file_does_not_settle(mount):
    share = settled(mount)
    path = write_file(share.at('log'), b'')
    os.setxattr(path, 'user.worm.append', b'1')
    assert share.shows(path) == 'appendable' and errno_of(os.utime, path, (1, 1)) == 'EPERM'


def test_a_rule_says_how_long(mount, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[scans]\npath = /scans\nsettle = 120\n\n[rest]\nsettle = 0\n')
    share = settled(mount, 'settle=3600,rules=%s' % rules)
    os.mkdir(share.at('scans'))
    path = lock(share, 'scans/a')
    other = write_file(share.at('b'), b'x')
    share.wait_state(other, 'retained')
    assert share.explain(path)['settles'] and share.explain(other)['settles'] is None
    assert '  settles    ' in share.ctl('status', path).out
    share.now(120)
    assert share.shows(path) == 'retained'
    for wrong in ('61', '7200', '-1', '1m', ''):
        rules.write_text('[scans]\npath = /scans\nsettle = %s\n' % wrong)
        assert share.ctl('policy', 'check', str(rules), check=False).returncode == 1


def test_what_was_set_is_in_the_audit_log(mount):
    share = settled(mount)
    path = lock(share, 'a')
    os.utime(path, (1, 2))
    os.chmod(path, 0o600)
    os.setxattr(path, 'user.origin', b'x')
    os.rename(path, share.at('b'))
    share.must('sync')
    with open(os.path.join(share.state, 'audit.log'), encoding='utf-8') as f:
        lines = [(l['detail'], l['path']) for l in map(json.loads, f) if l['event'] == 'adjust']
    assert lines == [('times set', 'a'), ('mode set', 'a'), ("attribute 'user.origin' set", 'a'), ('renamed', 'b')]


def unzip(share, tmp_path):
    archive = tmp_path / 'a.zip'
    with zipfile.ZipFile(archive, 'w') as z:
        z.writestr(zipfile.ZipInfo('doc.txt', (2001, 2, 3, 4, 5, 6)), 'text')
    subprocess.run([need_program('unzip'), '-q', str(archive), '-d', share.mnt], check=True, env={'TZ': 'UTC', 'PATH': os.environ['PATH']})
    return 'doc.txt', 981173106


def copy2(share, tmp_path):
    source = tmp_path / 'doc.txt'
    source.write_bytes(b'text')
    os.utime(source, (1e9, 1e9))
    shutil.copy2(source, share.at('doc.txt'))		# utime(2) and chmod(2) by name, after its close
    return 'doc.txt', 1e9


@pytest.mark.parametrize('program', [unzip, copy2])
def test_programs_that_set_times_after_their_last_close_succeed(mount, tmp_path, program):
    share = settled(mount)
    name, mtime = program(share, tmp_path)
    share.wait_state(share.at(name), 'settling')
    assert os.stat(share.at(name)).st_mtime == mtime and read_file(share.at(name)) == b'text'
    assert open_errno(share.at(name), os.O_WRONLY) == 'EPERM'
    assert_clean(share)


ADJUSTMENTS = {
    'times': lambda d, e: os.utime(d + '/a', (7, 7)),
    'a rename': lambda d, e: os.rename(d + '/a', e + '/a'),
}


@pytest.mark.parametrize('what', ADJUSTMENTS)
def test_killed_at_each_system_call_of_an_adjustment_it_is_locked_and_not_called_changed(mount, what):
    need_program('strace')
    if scaled(10) == 1:
        pytest.skip('strace and a sanitizer do not go together')
    share = settled(mount)
    hit = []
    for call, nth in (('utimensat', 1), ('renameat2', 1), ('fsetxattr', 1), ('fsetxattr', 2), ('setxattr', 1), ('setxattr', 2), ('setxattr', 3),
                      ('pwrite64', 1)):
        d, e = share.at('d %s %d' % (call, nth)), share.at('e %s %d' % (call, nth))
        os.mkdir(d)
        os.mkdir(e)
        lock(share, d + '/a')
        share.must('sync')
        result = killed_at(share, call, nth, lambda: ADJUSTMENTS[what](d, e))
        if result is None:
            continue
        hit.append(call)
        share.kill9()
        share.start()
        path = d + '/a' if os.path.exists(d + '/a') else e + '/a'
        share.wait_state(path, 'settling')
        assert share.explain(path)['suspect'] is None and open_errno(path, os.O_WRONLY) == 'EPERM'
        assert errno_of(os.rename, os.path.dirname(path), share.at('x')) == 'EPERM'
        assert_clean(share)
    assert len(hit) >= 2, 'hardly any crash point was reached: %s' % hit
