"""-o quota=FILE: limits of wormfs's own for directories, users and rules, on real mounts; and what is kept of them."""
import errno
import json
import os
import shutil
import signal
import sqlite3
import threading

import pytest

from harness import (ALICE, BOB, FALLOC, RENAME_EXCHANGE, WORMCTL, Refused, as_user, errno_of, fallocate, injected, link_descriptor, opened,
                     renameat2, run, wait_for, write_file)
from test_posix_mount import handle_of, open_handle

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)

KIB = 1024
EDQUOT = 'EDQUOT'


class Limited:
    """A share with a file of limits beside it."""
    def __init__(self, mount, text, options='commit=never', dirs=('a', 'b'), **kwargs):
        self.share = mount('', start=False, lower_mode=0o777, **kwargs)
        for name in dirs:
            os.makedirs(self.share.below(name), exist_ok=True)
            os.chmod(self.share.below(name), 0o777)
        self.file = os.path.join(self.share.dir, 'limits')
        self.write(text)
        self.share.start(','.join(filter(None, [self.share.options, options, 'quota=' + self.file])))
        self.at, self.below = self.share.at, self.share.below

    def write(self, text):
        with open(self.file, 'w') as f:
            f.write(text)

    def ctl(self, *args, check=False):
        return run(WORMCTL, 'quota', *args, '--state-dir', self.share.state, self.share.mnt if self.share.proc else self.share.share, check=check)

    def sections(self):
        out = self.ctl('list', '--json')
        assert out.returncode in (0, 1), out.stderr
        return {s['section']: s for s in map(json.loads, out.stdout.splitlines())}

    def used(self, section='directory /a'):
        s = self.sections()[section]
        return s['bytes']['used'], s['files']['used']

    def state(self, section='directory /a'):
        return self.sections()[section]['state']

    def events(self):
        out = run(WORMCTL, 'events', 'replay', '--json', '--type', 'Quota', '--state-dir', self.share.state, check=False).stdout
        return [json.loads(line)['Event'] for line in out.splitlines()]


@pytest.fixture
def limited(mount):
    return lambda text='[directory /a]\nhard = 64K\n', *args, **kwargs: Limited(mount, text, *args, **kwargs)


def put(path, size, flags=os.O_CREAT | os.O_WRONLY):
    with opened(path, flags) as fd:
        os.write(fd, b'x' * size)


def counted_anew(share):
    return share.log_text().count('quota: counted ')


def test_a_hard_limit_refuses_every_way_to_grow_and_the_file_keeps_its_bytes(limited):
    q = limited()
    put(q.at('a/f'), 60 * KIB)
    put(q.at('b/source'), 100 * KIB)
    with opened(q.at('a/f'), os.O_RDWR) as fd:
        assert errno_of(os.pwrite, fd, b'y' * 8 * KIB, 60 * KIB) == EDQUOT
        assert errno_of(os.pwrite, fd, b'y', 1 << 30) == EDQUOT	# a hole counts
        assert errno_of(os.ftruncate, fd, 65 * KIB) == EDQUOT
        assert errno_of(fallocate, fd, 0, 0, 65 * KIB) == EDQUOT
        assert errno_of(fallocate, fd, FALLOC['zero-range'], 0, 65 * KIB) == EDQUOT
        fallocate(fd, FALLOC['keep-size'], 0, 80 * KIB)	# the size is what counts
        with opened(q.at('b/source'), os.O_RDONLY) as source:
            assert errno_of(os.copy_file_range, source, fd, 8 * KIB, 0, 60 * KIB) == EDQUOT
            assert os.copy_file_range(source, fd, 2 * KIB, 0, 0) == 2 * KIB	# within what is there
        os.pwrite(fd, b'z', 0)
    assert errno_of(os.truncate, q.at('a/f'), 65 * KIB) == EDQUOT
    with opened(q.at('a/f'), os.O_WRONLY | os.O_APPEND) as fd:
        assert errno_of(os.write, fd, b'y' * 8 * KIB) == EDQUOT
        os.write(fd, b'y' * 4 * KIB)
    assert os.stat(q.below('a/f')).st_size == 64 * KIB
    with open(q.below('a/f'), 'rb') as f:
        assert f.read() == b'z' + b'x' * (60 * KIB - 1) + b'y' * 4 * KIB
    assert q.used() == (64 * KIB, 1)
    assert errno_of(write_file, q.at('a/g'), b'x') == EDQUOT
    assert q.used() == (64 * KIB, 2)	# it has a name and no byte
    assert q.state() == 'over'
    assert errno_of(write_file, q.at('b/h'), b'x' * 100) == 'OK'


def test_unlink_truncate_and_replacement_give_back(limited):
    q = limited()
    put(q.at('a/f'), 60 * KIB)
    os.truncate(q.at('a/f'), 10 * KIB)
    assert q.used() == (10 * KIB, 1)
    put(q.at('a/g'), 20 * KIB)
    os.rename(q.at('a/f'), q.at('a/g'))
    assert q.used() == (10 * KIB, 1)
    put(q.at('a/g'), 30 * KIB, os.O_WRONLY | os.O_TRUNC)
    assert q.used() == (30 * KIB, 1)
    with opened(q.at('a/g'), os.O_WRONLY | os.O_TRUNC):
        assert q.used() == (0, 1)
        os.unlink(q.at('a/g'))
    assert q.used() == (0, 0)
    with opened(q.at('a/h'), os.O_CREAT | os.O_WRONLY) as fd:	# what has no name is not counted
        os.write(fd, b'x' * KIB)
        os.unlink(q.at('a/h'))
        os.write(fd, b'x' * KIB)
        assert q.used() == (0, 0)
    assert q.ctl('check').returncode == 0


def test_hard_links_count_once_and_a_name_for_an_unnamed_file_counts(limited):
    q = limited('[directory /a]\nhard = 64K\nfiles_hard = 3\n')
    put(q.at('a/f'), 10 * KIB)
    os.link(q.at('a/f'), q.at('a/g'))
    assert q.used() == (10 * KIB, 1)
    os.unlink(q.at('a/f'))
    assert q.used() == (10 * KIB, 1)
    os.unlink(q.at('a/g'))
    assert q.used() == (0, 0)
    with opened(q.at('a'), os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'x' * 20 * KIB)
        assert q.used() == (0, 0)
        link_descriptor(fd, q.at('a/t'))
        assert q.used() == (20 * KIB, 1)
    with opened(q.at('a'), os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'x' * 50 * KIB)
        assert errno_of(link_descriptor, fd, q.at('a/u')) == EDQUOT
    assert os.listdir(q.below('a')) == ['t']
    write_file(q.at('a/1'), b'')
    os.mknod(q.at('a/2'))
    assert errno_of(write_file, q.at('a/3'), b'') == EDQUOT
    assert errno_of(os.mknod, q.at('a/3')) == EDQUOT
    os.mkdir(q.at('a/dir'))	# only regular files count
    assert q.used() == (20 * KIB, 3)
    assert q.ctl('check').returncode == 0


def test_all_directories_around_a_file_are_charged(limited):
    q = limited('[directory /]\nhard = 1M\n[directory /a]\nhard = 64K\n[directory /a/in/deep]\nhard = 16K\n', dirs=('a/in/deep', 'b', 'ab'))
    put(q.at('a/in/deep/f'), 10 * KIB)
    put(q.at('a/in/g'), 20 * KIB)
    put(q.at('ab/h'), 100 * KIB)
    assert q.used('directory /a/in/deep') == (10 * KIB, 1)
    assert q.used('directory /a') == (30 * KIB, 2)
    assert q.used('directory /') == (130 * KIB, 3)
    assert errno_of(put, q.at('a/in/deep/f'), 20 * KIB) == EDQUOT
    put(q.at('a/in/g'), 50 * KIB)
    assert errno_of(put, q.at('a/in/deep/f'), 15 * KIB) == EDQUOT	# the outer one is full
    os.makedirs(q.at('a/new/below'))
    assert errno_of(put, q.at('a/new/below/f'), 15 * KIB) == EDQUOT
    assert q.ctl('check').returncode == 0


def test_no_name_goes_from_one_limit_to_another_and_mv_copies(limited):
    q = limited('[directory /a]\nhard = 64K\n[directory /a/in]\nhard = 32K\n', dirs=('a/in', 'b', 'c'))
    put(q.at('a/f'), 10 * KIB)
    os.mkdir(q.at('a/d'))
    for old, new in (('a/f', 'b/f'), ('a/f', 'a/in/f'), ('a/d', 'b/d')):
        assert errno_of(os.rename, q.at(old), q.at(new)) == 'EXDEV'
    assert errno_of(os.link, q.at('a/f'), q.at('b/f')) == 'EXDEV'
    put(q.at('b/g'), 1)
    assert errno_of(renameat2, q.at('a/f'), q.at('b/g'), RENAME_EXCHANGE) == 'EXDEV'
    os.rename(q.at('a/f'), q.at('a/d/f'))
    os.rename(q.at('b/g'), q.at('c/g'))
    for name in ('a', 'a/in'):	# a limited one, and one around a limited one
        assert errno_of(os.rename, q.at(name), q.at('x')) == 'EBUSY'
    assert errno_of(os.rmdir, q.at('a/in')) == 'EBUSY'
    os.mkdir(q.at('a/empty'))
    assert errno_of(os.rename, q.at('a/empty'), q.at('a/in')) == 'EBUSY'
    assert q.used() == (10 * KIB, 1)
    run('mv', q.at('a/d/f'), q.at('b/f'))
    assert os.stat(q.below('b/f')).st_size == 10 * KIB and q.used() == (0, 0)
    run('mv', q.at('b/f'), q.at('a/in/f'))
    assert q.used() == (10 * KIB, 1) and q.used('directory /a/in') == (10 * KIB, 1)


def test_soft_refuses_when_grace_is_over_and_not_before(limited):
    q = limited('[directory /a]\nsoft = 32K\nhard = 64K\ngrace = 1h\n', 'commit=never,events=on', clocked=True)
    put(q.at('a/f'), 33 * KIB)
    assert q.state() == 'soft'
    q.share.now(3000)
    put(q.at('a/f'), 34 * KIB)
    q.share.remount()	# which does not begin grace again
    assert q.state() == 'soft'
    q.share.now(3700)
    assert q.state() == 'over'
    assert errno_of(put, q.at('a/f'), 35 * KIB) == EDQUOT
    put(q.at('a/f'), 10)	# what does not grow is no matter
    os.truncate(q.at('a/f'), 31 * KIB)
    assert q.state() == 'ok'
    put(q.at('a/f'), 33 * KIB)
    assert q.state() == 'soft'	# and anew
    q.share.stop()
    assert [(e['Quota'], e['Warning'], e['Path']) for e in q.events()] == [
        ('directory', 'bytes-soft', '/a/f'), ('directory', 'bytes-grace', '/a/f'), ('directory', 'bytes-soft-below', '/a/f'),
        ('directory', 'bytes-soft', '/a/f')]
    assert q.events()[1]['Error'] == EDQUOT and 'Error' not in q.events()[0]


def test_grace_goes_on_after_a_kill(limited):
    q = limited('[directory /a]\nsoft = 32K\ngrace = 1h\n', clocked=True)
    put(q.at('a/f'), 33 * KIB)

    def kept():
        with sqlite3.connect('file:%s/ledger.db?mode=ro' % q.share.state, uri=True) as db:
            return db.execute('SELECT bytes_since_s FROM quota_usage').fetchone()[0]
    since = wait_for('the moment in the ledger', kept)
    q.share.kill9()
    q.share.now(3700)
    q.share.start()
    assert kept() == since and q.state() == 'over'
    assert errno_of(put, q.at('a/f'), 34 * KIB) == EDQUOT


def test_advisory_tells_and_nothing_else(limited):
    q = limited('[directory /a]\nadvisory = 32K\nfiles_advisory = 1\n', 'commit=never,events=on')
    put(q.at('a/f'), 100 * KIB)
    put(q.at('a/g'), 100 * KIB)
    assert q.state() == 'advisory' and q.ctl('list').returncode == 0
    os.unlink(q.at('a/f'))
    os.unlink(q.at('a/g'))
    assert q.state() == 'ok'
    q.share.stop()
    assert {e['Warning'] for e in q.events()} == {'bytes-advisory', 'files-advisory', 'files-advisory-below', 'bytes-advisory-below'}


def test_a_user_has_his_limit_and_root_is_not_bound_by_it(limited):
    q = limited('[user %d]\nhard = 64K\nfiles_hard = 2\n[user %d]\nhard = 8K\n' % (ALICE, BOB), 'commit=never,events=on,quota_notify=stdout')
    hers = 'user %d' % ALICE
    as_user(ALICE, put, q.at('b/f'), 60 * KIB)
    assert as_user(ALICE, errno_of, put, q.at('b/f'), 65 * KIB) == EDQUOT
    put(q.at('b/f'), 70 * KIB)	# root, and it counts for her
    assert q.used(hers) == (70 * KIB, 1)
    assert as_user(ALICE, errno_of, put, q.at('a/g'), 1) == EDQUOT
    assert as_user(BOB, errno_of, put, q.at('a/h'), 8 * KIB) == 'OK'
    assert errno_of(os.chown, q.at('b/f'), BOB, -1) == EDQUOT	# this binds root as well
    assert q.used(hers) == (70 * KIB, 2)
    os.chown(q.at('b/f'), 0, 0)
    assert q.used(hers) == (0, 1)
    os.chown(q.at('a/h'), ALICE, -1)
    assert q.used(hers) == (8 * KIB, 2) and q.used('user %d' % BOB) == (0, 0)
    assert as_user(ALICE, errno_of, write_file, q.at('a/3'), b'') == EDQUOT
    assert q.ctl('check').returncode == 0
    events = q.events()
    assert (events[0]['Quota'], events[0]['QuotaId'], events[0]['Warning'], events[0]['Uid'], events[0]['Error']) == (
        'user', ALICE, 'bytes-hard', ALICE, EDQUOT)
    assert (events[0]['Used'], events[0]['Limit'], events[0]['Path']) == (60 * KIB, 64 * KIB, '/b/f')
    wait_for('the provider', lambda: q.share.info()['quota_notify']['providers'][0]['told'] == len(events))
    assert '"Warning":"bytes-hard","QuotaId":%d' % ALICE in q.share.log_text()
    assert q.share.info()['shortage']['edquot'] == 0	# those are of the lower filesystem


def test_a_rule_counts_what_it_has_locked_and_never_breaks_a_lock(limited, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[scans]\npath = /a/**\nretention = 1d\n[other]\nretention = 1d\n')
    q = limited('[rule scans]\nhard = 10K\n', 'rules=%s,events=on' % rules, clocked=True)
    put(q.at('a/f'), 8 * KIB)
    q.share.wait_state('a/f', 'retained')
    assert q.used('rule scans') == (8 * KIB, 1)
    put(q.at('a/g'), 8 * KIB)	# locked, and that is told
    q.share.wait_state('a/g', 'retained')
    assert q.used('rule scans') == (16 * KIB, 2) and q.state('rule scans') == 'over'
    assert errno_of(put, q.at('a/h'), 1) == EDQUOT
    assert not os.path.exists(q.below('a/h'))
    put(q.at('b/h'), 100 * KIB)	# of another rule
    q.share.wait_state('b/h', 'retained')
    assert q.ctl('check').returncode == 0
    assert errno_of(put, q.at('a/f'), 1, os.O_WRONLY) == 'EPERM'
    q.share.now(2 * 86400)
    os.unlink(q.at('a/f'))
    assert q.used('rule scans') == (8 * KIB, 1)
    put(q.at('a/h'), 1)
    q.share.stop()
    refused = [e for e in q.events() if e.get('Error') == EDQUOT]
    assert [(e['Quota'], e['Path']) for e in refused] == [('rule', '/a/h')]
    q.share.start()
    assert counted_anew(q.share) == 1 and q.used('rule scans') == (8 * KIB + 1, 2)


def test_a_lock_that_is_taken_back_counts_for_no_rule(limited, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[scans]\npath = /a/**\nretention = 1d\n')
    q = limited('[rule scans]\nhard = 100K\n', 'rules=%s' % rules)
    put(q.at('a/f.part'), 8 * KIB)
    with injected(q.share, 'renameat', 'error=EIO'):	# glibc makes that of renameat2() without flags
        assert errno_of(os.rename, q.at('a/f.part'), q.at('a/f')) == 'EIO'
    assert q.share.shows('a/f.part') == 'staging' and q.used('rule scans') == (0, 0)
    os.rename(q.at('a/f.part'), q.at('a/f'))
    assert q.share.shows('a/f') == 'retained' and q.used('rule scans') == (8 * KIB, 1)


def test_a_file_whose_directory_nobody_knows_is_counted_at_the_next_mount(limited):
    q = limited('[directory /a]\nhard = 64K\n[user 0]\nhard = 1M\n')
    put(q.at('a/f'), 10 * KIB)
    handle = handle_of(q.at('a/f'))
    q.share.remount()
    fd = open_handle(q.share.mnt, handle, os.O_WRONLY)	# as an NFS server does it
    try:
        os.pwrite(fd, b'x' * 5 * KIB, 10 * KIB)
    finally:
        os.close(fd)
    assert q.used('user 0') == (15 * KIB, 1)
    assert q.used() == (10 * KIB, 1) and q.share.info()['quota']['recount'] is True
    assert 'some numbers may be wrong' in run(WORMCTL, 'status', '--state-dir', q.share.state, check=False).out
    q.share.remount()
    assert q.used() == (15 * KIB, 1) and counted_anew(q.share) == 2


def test_a_file_locked_under_limits_stays_locked_when_they_are_used_up(limited):
    q = limited('[directory /a]\nhard = 8K\n', 'retention=1d')
    with opened(q.at('a/f'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x' * 8 * KIB)
        assert errno_of(os.write, fd, b'y') == EDQUOT
    q.share.wait_state('a/f', 'retained')	# its close was no matter of limits
    assert errno_of(os.unlink, q.at('a/f')) == 'EPERM'
    q.share.remount()
    assert q.share.shows('a/f') == 'retained' and q.used() == (8 * KIB, 1)


def test_many_writers_never_pass_a_hard_limit_together(limited):
    q = limited('[directory /a]\nhard = 1M\n')
    refused, top = [], []

    def write(n):
        with opened(q.at('a/f%d' % n), os.O_CREAT | os.O_WRONLY) as fd:
            while True:
                try:
                    os.write(fd, b'x' * 3000)
                except OSError as e:
                    refused.append(e.errno)
                    return
    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        top.append(sum(os.stat(e.path).st_size for e in os.scandir(q.below('a'))))
    for t in threads:
        t.join()
    used = sum(os.stat(e.path).st_size for e in os.scandir(q.below('a')))
    assert refused == [errno.EDQUOT] * 4
    assert max(top + [used]) <= 1 << 20 and used > (1 << 20) - 4 * 3000
    assert q.used() == (used, 4)


def test_after_a_kill_it_is_counted_anew_and_after_a_clean_end_it_is_not(limited):
    q = limited()
    assert counted_anew(q.share) == 1	# the first time
    put(q.at('a/f'), 10 * KIB)
    q.share.remount()
    assert counted_anew(q.share) == 1 and q.used() == (10 * KIB, 1)
    put(q.at('a/g'), 10 * KIB)
    q.share.kill9()
    assert 'these numbers may be old' in q.ctl('list').err
    put(q.below('a/h'), 10 * KIB)	# while nothing is mounted
    q.share.start()
    assert counted_anew(q.share) == 2 and q.used() == (30 * KIB, 3)
    with_limits = q.share.options
    q.share.remount('commit=never')	# nobody counts
    assert q.ctl('list').returncode == 2
    put(q.at('a/i'), 10 * KIB)
    q.share.remount(with_limits)
    assert counted_anew(q.share) == 3 and q.used() == (40 * KIB, 4)
    q.share.stop()
    q.write('[directory /a]\nhard = 64K\n[directory /b]\nhard = 1M\n')
    q.share.start()
    assert counted_anew(q.share) == 4 and q.used('directory /b') == (0, 0)


def test_a_file_that_was_made_for_who_got_an_error_is_counted_at_the_next_mount(limited):
    q = limited()
    with injected(q.share, 'statx,newfstatat,fstat', 'error=EIO', q.at('a/f')):	# by its descriptor, which there is once it is made
        assert errno_of(put, q.at('a/f'), 0) == 'EIO'
    there = len(os.listdir(q.below('a')))
    assert there > 0, 'no look failed after a file was made'
    q.share.stop()
    q.share.start()
    assert counted_anew(q.share) == 2 and q.used() == (0, there)


def test_check_finds_a_wrong_number_and_puts_it_right(limited):
    q = limited()
    put(q.at('a/f'), 10 * KIB)
    assert q.ctl('check').returncode == 0
    q.share.stop()
    with sqlite3.connect(q.share.state + '/ledger.db') as db:
        db.execute('UPDATE quota_usage SET bytes = 5, files = 7')
    assert '5 bytes, 7 files' in q.ctl('list').out.replace(' (hard 65536)', '')	# with nothing mounted
    out = q.ctl('check')
    assert (out.returncode, out.out) == (1, 'directory /a: kept are 5 bytes in 7 files, there are 10240 bytes in 1 files\n')
    q.share.start()
    out = q.ctl('check', '--json')
    assert out.returncode == 1
    assert json.loads(out.stdout)['counted'] == {'bytes': 10 * KIB, 'files': 1}
    assert q.ctl('check', '--fix').returncode == 1
    q.share.remount()
    assert q.used() == (10 * KIB, 1) and counted_anew(q.share) == 2
    q.share.stop()
    with sqlite3.connect(q.share.state + '/ledger.db') as db:
        db.execute('UPDATE quota_usage SET bytes = 5')
    assert q.ctl('check', '--fix').returncode == 1
    assert q.ctl('check').returncode == 0
    q.share.start()
    assert q.used() == (10 * KIB, 1) and counted_anew(q.share) == 2


@pytest.mark.parametrize('mounted', [True, False])
def test_after_a_reindex_the_next_mount_counts_anew(limited, mounted):
    q = limited()
    put(q.at('a/f'), 10 * KIB)
    q.share.stop()
    shutil.copy(q.share.state + '/ledger.db', q.file + '.old')
    q.share.start()
    put(q.at('a/g'), 20 * KIB)
    q.share.stop()
    shutil.copy(q.file + '.old', q.share.state + '/ledger.db')	# from a backup
    if mounted:
        q.share.start()
        assert q.used() == (10 * KIB, 1) and q.ctl('check').returncode == 1
    run(WORMCTL, 'reindex', '--state-dir', q.share.state, q.share.mnt if mounted else q.share.share)
    if mounted:
        q.share.stop()
    q.share.start()
    assert q.used() == (30 * KIB, 2) and counted_anew(q.share) == 2


def test_more_given_back_than_was_kept_is_counted_anew(limited):
    q = limited()
    put(q.at('a/f'), 10 * KIB)
    put(q.at('a/g'), 1)
    q.share.stop()
    with sqlite3.connect(q.share.state + '/ledger.db') as db:
        db.execute('UPDATE quota_usage SET bytes = 5')
    q.share.start()
    os.unlink(q.at('a/f'))
    assert q.used() == (0, 1)
    assert q.share.info()['quota']['recount'] is True
    q.share.remount()
    assert q.used() == (1, 1)


def test_files_that_are_not_locked_get_no_passthrough_and_status_says_so(limited):
    q = limited('[directory /a]\nhard = 64K\n', 'retention=1d')
    with opened(q.at('a/f'), os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b'x' * KIB)
        with opened(q.at('a/f'), os.O_RDONLY) as reader:
            assert os.read(reader, 10) == b'x' * 10
    status = run(WORMCTL, 'status', '--state-dir', q.share.state, check=False).out
    assert 'limits     1 from ' in status and 'no passthrough' in status
    assert 'get no kernel passthrough' in q.share.log_text()
    info = q.share.info()['quota']
    assert (info['sections'], info['over'], info['refused'], info['recount']) == (1, 0, 0, False)


@pytest.mark.parametrize('text, says', [
    ('hard = 1\n', "limits:1: 'hard' stands before the first section"),
    ('[directory a]\n', "limits:1: directory 'a': give its path"),
    ('[directory /a/../b]\n', "limits:1: directory '/a/../b'"),
    ('[dir /a]\n', 'limits:1: [dir /a]: a section is'),
    ('[directory /a]\nhard = 10X\n', 'limits:2: hard is a number'),
    ('[directory /a]\nhard = 0\n', 'limits:2: hard is a number'),
    ('[directory /a]\nsoft = 2K\nhard = 1K\n', 'limits:1: [directory /a]: soft is more than hard'),
    ('[directory /a]\nhard = 1\nhard = 2\n', 'limits:3: hard is given twice'),
    ('[directory /a]\nlimit = 1\n', "limits:2: there is no key 'limit'"),
    ('[directory /a]\ngrace = 1mo\n', 'limits:2: grace is a time'),
    ('[directory /a]\n[directory /a/]\n', 'limits:2: [directory /a] is there already, at line 1'),
    ('[user nobody-here]\n', "limits:1: there is no user 'nobody-here'"),
    ('[directory /none]\n', 'limits:1: [directory /none]: it is not in the share'),
    ('[rule x]\n', 'limits:1: [rule x]: there are no rules'),
    ('\n', 'there is no section in it'),
])
def test_a_bad_file_of_limits_is_no_mount(limited, text, says):
    with pytest.raises(Refused) as e:
        limited(text)
    assert e.value.code == 2 and says in e.value.text
    assert len(e.value.text.strip().splitlines()) == 1


def test_the_example_of_the_docs_is_good(limited, tmp_path):
    with open(os.path.join(os.path.dirname(__file__), '../../docs/quota.md')) as f:
        text = f.read().split('```ini\n')[1].split('```')[0]
    rules = tmp_path / 'rules'
    rules.write_text('[scans]\npath = /scans/**\n')
    q = limited(text.replace('user alice', 'user %d' % ALICE), 'rules=%s' % rules, dirs=('projects/film',))
    sections = q.sections()
    assert sections['directory /projects/film']['files'] == {'used': 0, 'since': 0, 'advisory': None, 'soft': None, 'hard': 1000000}
    assert sections['rule scans']['bytes']['hard'] == 2 << 40 and len(sections) == 4


def test_the_file_is_nobody_elses_to_write(limited):
    q = limited()
    q.share.stop()
    os.chmod(q.file, 0o666)
    with pytest.raises(Refused) as e:
        q.share.start()
    assert 'others may write it' in e.value.text
    shutil.copy(q.file, q.share.lower + '/limits')
    with pytest.raises(Refused) as e:
        q.share.start('commit=never,quota=%s/limits' % q.share.share)
    assert 'lie in the share' in e.value.text


def test_a_term_signal_keeps_what_was_counted(limited):
    q = limited()
    put(q.at('a/f'), 10 * KIB)
    q.share.terminate(signal.SIGTERM)
    q.share.start()
    assert counted_anew(q.share) == 1 and q.used() == (10 * KIB, 1)


def test_mockarchive_has_none(archive, tmp_path):
    file = tmp_path / 'limits'
    file.write_text('[directory /]\nhard = 1M\n')
    a = archive(start=False)
    out = run(*a.argv(), '-o', 'quota=%s' % file, check=False)
    assert out.returncode == 2 and 'mockarchive has no limits of this kind' in out.err
