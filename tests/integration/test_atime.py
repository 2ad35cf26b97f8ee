"""atime_api=on: what is written for SnapLock and for Gluster's worm translator works unchanged. docs/recipes.md has the table; each of
its lines has a test here."""
import json
import os
import time

import pytest

from harness import (ALICE, BOB, DAY, Refused, UTIME_NOW, UTIME_OMIT, as_user, errno_of, look, open_errno, opened, read_file, run, utimensat,
                     write_file)

LATER = 4102444800          # 2100-01-01
MAX = 'max=200y'


def touch(path, when):
    run('touch', '-a', '-d', '@%d' % when, path)


def shown(path):
    return os.stat(path).st_atime_ns


def until(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


@pytest.fixture
def snaplock(mount):
    """A share as a SnapLock volume is: nothing is locked until chmod -w."""
    return mount('commit=chmod,retention=1y,atime_api=on,' + MAX, lower_mode=0o777)


def test_touch_before_chmod_minus_w_is_the_retention_that_it_gets(snaplock):
    path = write_file(snaplock.at('a'), b'report', 0o644)
    touch(path, LATER)
    assert snaplock.shows(path, 'until') is None and shown(path) == LATER * 10**9      # not locked: the file's own
    run('chmod', '-w', path)
    assert snaplock.shows(path) == 'retained' and snaplock.shows(path, 'until') == until(LATER)
    assert shown(path) == LATER * 10**9
    assert [x for x in os.listxattr(snaplock.below('a')) if 'until' in x] == []        # it is in the record now


def test_an_extension_by_the_access_time_and_its_refusal_are_lines_of_the_audit_log(snaplock):
    path = write_file(snaplock.at('a'), b'report', 0o644)
    os.chmod(path, 0o444)
    was = snaplock.shows(path, 'until')
    os.utime(path, (LATER, os.stat(path).st_mtime))
    assert errno_of(os.utime, path, (LATER - 1, os.stat(path).st_mtime)) == 'EPERM'
    snaplock.must('sync')
    with open(os.path.join(snaplock.state, 'audit.log'), encoding='utf-8') as f:
        lines = [json.loads(line) for line in f]
    assert [(l['event'], l['detail'], l['pid']) for l in lines if l['event'] in ('extend', 'deny_request')] == [
        ('extend', 'until %s, was %s' % (until(LATER), was), os.getpid()),
        ('deny_request', 'extend: its retention ends later already', os.getpid())]


def test_the_wish_outlives_remount_and_SIGKILL_and_is_no_attribute_of_the_mount(snaplock):
    path = write_file(snaplock.at('a'), b'report', 0o644)
    touch(path, LATER)
    assert os.listxattr(path) == []
    assert errno_of(os.setxattr, path, 'trusted.wormfs.until', b'1') == 'EPERM'
    snaplock.remount()
    snaplock.kill9()
    snaplock.start()
    os.chmod(path, 0o444)
    assert snaplock.shows(path, 'until') == until(LATER)


def test_without_a_wish_or_with_one_taken_back_it_gets_the_mounts_retention(snaplock):
    for name in ('none', 'past', 'now'):
        path = write_file(snaplock.at(name), b'report', 0o644)
        if name != 'none':
            touch(path, LATER)
            touch(path, 1) if name == 'past' else utimensat(path, (int(time.time()) - 1, 0), (0, UTIME_OMIT))
        os.chmod(path, 0o444)
        left = os.stat(path).st_atime - time.time()
        assert 364 * DAY < left < 367 * DAY, name


@pytest.mark.parametrize('wish, got', [(3600, 'min'), (400 * 366 * DAY, 'max')])
def test_a_wish_out_of_min_and_max_is_moved_into_them(mount, wish, got):
    share = mount('commit=chmod,atime_api=on,min=10d,max=20d,retention=15d')
    path = write_file(share.at('a'), b'report', 0o644)
    touch(path, time.time() + wish)
    os.chmod(path, 0o444)
    left = os.stat(path).st_atime - time.time()
    assert abs(left - (10 if got == 'min' else 20) * DAY) < 60


def test_the_wish_counts_at_every_kind_of_lock(mount):
    share = mount('retention=1y,atime_api=on,' + MAX)
    with opened(share.at('close'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'report')
        os.utime(fd, (LATER, time.time()))
    write_file(share.at('rename.part'), b'report')
    touch(share.at('rename.part'), LATER)
    os.rename(share.at('rename.part'), share.at('rename'))
    for name in ('close', 'rename'):
        share.wait_state(name, 'retained')
        assert (name, share.shows(name, 'until')) == (name, until(LATER))


def test_touch_of_a_locked_file_extends_it_and_never_shortens_it(snaplock):
    path = write_file(snaplock.at('a'), b'report', 0o644)
    os.chmod(path, 0o444)
    touch(path, LATER)
    assert snaplock.shows(path, 'until') == until(LATER)
    before = look(snaplock.below('a'))
    touch(path, LATER)                                                     # equal
    for earlier in (LATER - 1, time.time() + 3600, 1, 0):
        assert errno_of(utimensat, path, (int(earlier), 0), (0, UTIME_OMIT)) == 'EPERM'
    assert errno_of(utimensat, path, (0, UTIME_NOW), (0, UTIME_OMIT)) == 'EPERM'
    assert errno_of(os.utime, path) == 'EPERM'                             # touch without a date
    assert errno_of(utimensat, path, (LATER * 3, 0), (0, UTIME_OMIT)) == 'EINVAL'      # past max
    assert look(snaplock.below('a')) == before
    touch(path, LATER + DAY)
    assert snaplock.shows(path, 'until') == until(LATER + DAY) and shown(path) == (LATER + DAY) * 10**9
    snaplock.remount()
    assert shown(path) == (LATER + DAY) * 10**9


def test_utime_with_the_mtime_that_the_file_has_is_an_extension_too(snaplock):
    """utime(2), and os.utime() with floats: the mtime comes along, rounded."""
    path = write_file(snaplock.at('a'), b'report', 0o644)
    os.chmod(path, 0o444)
    st = os.stat(path)
    os.utime(path, (LATER, st.st_mtime))
    os.utime(path, (LATER + 1, int(st.st_mtime)))
    assert snaplock.shows(path, 'until') == until(LATER + 1) and os.stat(path).st_mtime_ns == st.st_mtime_ns
    assert errno_of(os.utime, path, (LATER + 2, st.st_mtime + 5)) == 'EPERM'


def test_a_fraction_of_a_second_counts_as_a_whole_one(snaplock):
    path = write_file(snaplock.at('a'), b'report', 0o644)
    os.chmod(path, 0o444)
    utimensat(path, (LATER, 1), (0, UTIME_OMIT))
    assert snaplock.shows(path, 'until') == until(LATER + 1)


def test_only_the_owner_extends(snaplock):
    as_user(ALICE, write_file, snaplock.at('a'), b'report', 0o644)
    assert as_user(ALICE, errno_of, os.chmod, snaplock.at('a'), 0o444) == 'OK'
    assert as_user(BOB, errno_of, utimensat, snaplock.at('a'), (LATER, 0), (0, UTIME_OMIT)) == 'EPERM'
    assert as_user(ALICE, errno_of, utimensat, snaplock.at('a'), (LATER, 0), (0, UTIME_OMIT)) == 'OK'
    assert snaplock.shows('a', 'until') == until(LATER)


def test_stat_shows_the_retention_by_every_call_and_reading_does_not_change_it(snaplock):
    os.mkdir(snaplock.at('d'))
    path = write_file(snaplock.at('d', 'a'), b'report' * 100000, 0o644)
    touch(path, LATER)
    os.chmod(path, 0o444)
    for _ in range(3):
        assert read_file(path) == b'report' * 100000
        with opened(path, os.O_RDONLY) as fd:
            os.read(fd, 10)
            assert os.fstat(fd).st_atime == LATER
        assert shown(path) == LATER * 10**9
        assert [e.stat().st_atime for e in os.scandir(snaplock.at('d'))] == [LATER]
        assert run('stat', '-c', '%X', path).out == '%d\n' % LATER
        assert run('find', snaplock.at('d'), '-type', 'f', '-printf', '%A@').out.startswith(str(LATER))
        snaplock.remount()
    os.setxattr(path, 'user.worm.until', b'@%d' % (LATER + 5))            # whoever extends it
    assert shown(path) == (LATER + 5) * 10**9
    snaplock.ctl('extend', '@%d' % (LATER + 9), path)
    assert shown(path) == (LATER + 9) * 10**9


def test_a_lock_without_an_end_shows_the_last_second_of_9999(mount):
    share = mount('atime_api=on')
    path = share.lock('a')
    assert share.shows(path, 'until') == 'unspecified' and time.gmtime(os.stat(path).st_atime)[:6] == (9999, 12, 31, 23, 59, 59)
    touch(path, time.time() + DAY)                                         # an end is set
    assert abs(os.stat(path).st_atime - time.time() - DAY) < 60
    os.setxattr(path, 'user.worm.until', b'infinite')
    assert time.gmtime(os.stat(path).st_atime)[:6] == (9999, 12, 31, 23, 59, 59)


def test_an_expired_file_is_deleted_or_extended(mount):
    share = mount('commit=chmod,retention=1d,atime_api=on', clocked=True)
    for name in ('a', 'b'):
        os.chmod(write_file(share.at(name), b'report', 0o644), 0o444)
    assert errno_of(os.unlink, share.at('a')) == 'EPERM'
    share.now(2 * DAY)
    os.unlink(share.at('a'))
    touch(share.at('b'), time.time() + 10 * DAY)
    assert share.shows('b') == 'retained' and errno_of(os.unlink, share.at('b')) == 'EPERM'


def test_chmod_plus_w_of_an_empty_locked_file_makes_it_append_only(snaplock):
    path = snaplock.at('log')
    run('bash', '-c', 'touch "$0" && chmod -w "$0" && chmod u+w "$0" && echo line >>"$0"', path)
    assert snaplock.shows(path) == 'appendable' and open_errno(path, os.O_WRONLY) == 'EPERM'
    touch(path, LATER)
    run('chmod', '-w', path)
    assert snaplock.shows(path) == 'retained' and shown(path) == LATER * 10**9


def test_an_idle_file_is_locked_until_the_date_it_wished(mount):
    share = mount('commit=idle:60,atime_api=on', clocked=True)
    path = write_file(share.at('a'), b'report', 0o644)
    touch(path, time.time() + 10 * DAY)
    share.settle('a')
    share.now(3600)
    share.wait_state('a', 'retained')
    assert abs(os.stat(path).st_atime - time.time() - 10 * DAY) < 60


def test_with_atime_api_off_access_times_are_access_times(mount):
    share = mount('retention=1y')
    path = write_file(share.at('a.part'), b'report')
    touch(path, LATER)
    assert [x for x in os.listxattr(share.below('a.part')) if 'until' in x] == []
    os.rename(path, share.at('a'))
    assert shown(share.at('a')) == LATER * 10**9 and share.shows('a', 'until') < until(LATER)
    assert errno_of(utimensat, share.at('a'), (LATER + DAY, 0), (0, UTIME_OMIT)) == 'EPERM'


def test_a_damaged_wish_locks_nothing_and_close_says_so(mount):
    share = mount('atime_api=on')
    share.expect_log('lock')
    fd = os.open(share.at('a'), os.O_CREAT | os.O_WRONLY)
    os.write(fd, b'report')
    os.utime(fd, (LATER, time.time()))
    os.setxattr(share.below('a'), 'trusted.wormfs.until', b'soon')
    assert errno_of(os.close, fd) == 'EIO'
    assert share.shows('a') != 'retained'


def test_a_share_without_xattrs_says_that_it_cannot(mount):
    with pytest.raises(Refused, match='atime_api=on needs a share with xattrs') as e:
        mount('atime_api=on', base='ramfs')
    assert e.value.code == 2
