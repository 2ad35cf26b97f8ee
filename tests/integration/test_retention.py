"""Until when: T25 to T28. The clock is a file (clock=file:PATH), so no test waits for time."""
import calendar
import itertools
import os
import re
import time

import pytest

from harness import (ALICE, BOB, DAY, FS_IMMUTABLE_FL, as_user, errno_of, get_flags, look, open_errno, read_file, wait_for,
                     write_file)

YEAR = 365 * DAY


def rfc3339(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


def seconds(text):
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', text), text
    return calendar.timegm(time.strptime(text, '%Y-%m-%dT%H:%M:%SZ'))


def ask_until(path, value):
    """The request user.worm.until = value."""
    return errno_of(os.setxattr, path, 'user.worm.until', value.encode())


def write_errno(path):
    return open_errno(path, os.O_WRONLY)


# ---- what a commit gives ------------------------------------------------------------------------

def test_without_options_a_lock_has_no_end_until_somebody_sets_one(wormfs):
    wormfs.lock('a')
    assert wormfs.shows('a', 'until') == 'unspecified'
    assert wormfs.shows('a', 'mode') == 'governance'
    assert wormfs.shows('a', 'holds') == ''
    assert wormfs.shows('a', 'rule') == 'mount options'
    assert abs(seconds(wormfs.shows('a', 'committed')) - time.time()) < 60
    assert int(wormfs.shows('a', 'serial')) > 0


@pytest.mark.parametrize('option,length', [
    ('90s', 90), ('12h', 12 * 3600), ('30d', 30 * DAY), ('2w', 14 * DAY), ('1d12h', DAY + 12 * 3600)])
def test_a_period_counts_from_the_moment_of_the_close(mount, option, length):
    share = mount('retention=' + option)
    before = int(time.time())
    share.lock('a')
    committed = seconds(share.shows('a', 'committed'))
    assert before <= committed <= time.time() + 1
    assert seconds(share.shows('a', 'until')) == committed + length


@pytest.mark.parametrize('option,shown', [
    ('2090-01-01', '2090-01-01T00:00:00Z'), ('2090-01-01T12:30:00+02:00', '2090-01-01T10:30:00Z'),
    ('2090-01-01T00:00:00.5Z', '2090-01-01T00:00:01Z'), ('@3786912000', '2090-01-01T00:00:00Z'),
    ('unspecified', 'unspecified'), ('infinite', 'infinite')])
def test_a_date_is_taken_as_it_is(mount, option, shown):
    share = mount('retention=' + option)
    share.lock('a')
    assert share.shows('a', 'until') == shown


@pytest.mark.parametrize('at,option,until', [
    ('2028-02-29T12:00:00Z', '1y', '2029-03-01'), ('2028-02-29T12:00:00Z', '4y', '2032-02-29'),
    ('2027-01-31T12:00:00Z', '1mo', '2027-03-01'), ('2027-12-31T12:00:00Z', '2mo', '2028-03-01'),
    ('2027-05-15T12:00:00Z', '7y', '2034-05-15'), ('2027-01-31T12:00:00Z', '1y6mo', '2028-07-31')])
def test_T25_years_and_months_are_calendar_ones_and_round_up(mount, at, option, until):
    share = mount('retention=' + option, clocked=True)
    share.now(seconds(at) - int(time.time()))
    share.lock('a')
    got = seconds(share.shows('a', 'until'))
    assert rfc3339(got)[:10] == until
    assert got - seconds(until + 'T12:00:00Z') < 300     # the time of day is that of the close


def test_min_and_max_clamp_what_a_commit_gives(mount):
    share = mount('retention=1d,min=10d,max=20d')
    share.lock('short')
    assert seconds(share.shows('short', 'until')) - seconds(share.shows('short', 'committed')) == 10 * DAY
    share.remount('retention=1y,min=10d,max=20d')
    share.lock('long')
    assert seconds(share.shows('long', 'until')) - seconds(share.shows('long', 'committed')) == 20 * DAY


def test_options_changed_later_do_not_change_what_is_locked_already(mount):
    share = mount('retention=30d')
    share.lock('a')
    was = share.shows('a', 'until'), share.shows('a', 'serial'), share.shows('a', 'committed'), share.shows('a', 'mode')
    share.remount('retention=1d,max=2d')
    assert (share.shows('a', 'until'), share.shows('a', 'serial'), share.shows('a', 'committed'), share.shows('a', 'mode')) == was
    share.remount('commit=never')
    assert share.shows('a', 'until') == was[0]
    assert write_errno(share.at('a')) == 'EPERM'


def test_serial_numbers_are_never_given_twice_also_after_SIGKILL(wormfs):
    serials = []
    for n in range(30):
        wormfs.lock('f%d' % n)
        serials.append(int(wormfs.shows('f%d' % n, 'serial')))
        if n % 10 == 4:
            wormfs.kill9()
            wormfs.start()
        elif n % 10 == 9:
            wormfs.remount()
    assert serials == sorted(set(serials))


# ---- T25: requests ------------------------------------------------------------------------------

def test_T25_extend_equal_shorten(mount):
    share = mount('retention=2050-01-01')
    path = share.lock('a')
    assert ask_until(path, '2051-06-01') == 'OK'
    assert share.shows('a', 'until') == '2051-06-01T00:00:00Z'
    assert ask_until(path, '2051-06-01') == 'OK'                        # equal: no change
    assert ask_until(path, '2051-05-31T23:59:59Z') == 'EPERM'           # shorter, by a second
    assert ask_until(path, '2050-01-01') == 'EPERM'
    assert ask_until(path, '1d') == 'EPERM'                             # a period counts from now
    assert ask_until(path, 'unspecified') == 'EPERM'
    assert share.shows('a', 'until') == '2051-06-01T00:00:00Z'
    share.remount()
    assert share.shows('a', 'until') == '2051-06-01T00:00:00Z'


def test_T25_an_extension_leaves_everything_else_as_it_was(mount):
    share = mount('retention=2050-01-01')
    path = share.lock('a')

    def rest():
        state = look(share.below('a'))
        return {k: v for k, v in state.items() if k not in ('xattrs', 'ctime')}, \
            [share.shows('a', n) for n in ('state', 'mode', 'holds', 'committed', 'serial', 'rule')]
    before = rest()
    assert ask_until(path, '2051-01-01') == 'OK'
    assert rest() == before


def test_T25_from_unspecified_to_a_date_and_to_infinite(wormfs):
    path = wormfs.lock('a')
    assert ask_until(path, 'unspecified') == 'OK'                       # equal
    assert ask_until(path, '1d') == 'OK'
    assert 0 < seconds(wormfs.shows('a', 'until')) - time.time() <= DAY + 1
    assert ask_until(path, 'unspecified') == 'EPERM'
    other = wormfs.lock('b')
    assert ask_until(other, 'infinite') == 'OK'
    assert wormfs.shows('b', 'until') == 'infinite'
    for value in ('2090-01-01', 'unspecified', '50y'):
        assert (value, ask_until(other, value)) == (value, 'EPERM')
    assert ask_until(other, 'infinite') == 'OK'
    wormfs.remount()
    assert wormfs.shows('b', 'until') == 'infinite'


@pytest.mark.parametrize('date', ['2038-01-19T03:14:07Z', '2038-01-19T03:14:08Z', '2071-01-01T00:00:00Z',
                                  '2106-02-07T06:28:15Z', '2106-02-07T06:28:16Z'])
def test_T25_dates_beyond_the_ends_of_narrow_integers(wormfs, date):
    path = wormfs.lock('a')
    assert ask_until(path, date) == 'OK'
    assert wormfs.shows('a', 'until') == date
    wormfs.kill9()
    wormfs.start()
    assert wormfs.shows('a', 'until') == date
    wormfs.must('sync')
    if os.path.exists(os.path.join(os.path.dirname(__import__('harness').WORMFS), 'wormctl')):
        assert wormfs.listed()['a']['until'] == date


@pytest.mark.parametrize('value', ['', 'x', '1', '-1d', '1d ', ' 1d', '30', '1q', '2030-13-01', '2030-02-30', '10000-01-01',
                                   '@99999999999999999999', '@-1', '@9223372036854775807', '9999999999y', '1d\n', 'Infinite',
                                   '2030-01-01T25:00:00Z', 'x' * 5000, '\xff\xfe'])
def test_T25_what_is_no_date_is_EINVAL_and_changes_nothing(wormfs, value):
    path = wormfs.lock('a')
    before = look(wormfs.below('a'))
    assert ask_until(path, value) in ('EINVAL',) + (('E2BIG', 'ERANGE') if len(value) > 4096 else ())
    assert wormfs.shows('a', 'until') == 'unspecified'
    assert look(wormfs.below('a')) == before


def test_an_explicit_request_out_of_min_and_max_is_EINVAL(mount):
    share = mount('retention=15d,min=10d,max=20d')
    path = share.lock('a')
    until = share.shows('a', 'until')
    assert ask_until(path, '21d') == 'EINVAL'
    assert ask_until(path, '5000d') == 'EINVAL'
    assert share.shows('a', 'until') == until
    assert ask_until(path, '19d') == 'OK'
    other = share.lock('b')
    share.remount('min=10d,max=20d')
    unspecified = share.lock('c')
    assert ask_until(unspecified, '1d') == 'EINVAL'
    assert ask_until(unspecified, '12d') == 'OK'
    assert other


def test_an_open_file_has_no_date_to_ask_for_or_to_show(wormfs):
    write_file(wormfs.at('a'), b'')
    for name in ('until', 'mode', 'holds', 'committed', 'serial', 'rule'):
        assert wormfs.shows('a', name) is None
    assert ask_until(wormfs.at('a'), '1d') in ('EINVAL', 'EPERM')
    assert ask_until(wormfs.mnt, '1d') in ('EINVAL', 'EPERM')
    assert wormfs.shows('a') == 'open'


def test_nothing_else_below_user_worm_can_be_set_or_removed(wormfs):
    path = wormfs.lock('a')
    write_file(wormfs.at('open'), b'')
    for name in ('state', 'mode', 'holds', 'committed', 'serial', 'rule', 'explain', 'mount', 'new', ''):
        for p in (path, wormfs.at('open'), wormfs.mnt):
            assert (name, p, errno_of(os.setxattr, p, 'user.worm.' + name, b'open')) == (name, p, 'EPERM')
    for name in ('state', 'until', 'commit', 'holds', 'explain', 'new'):
        for p in (path, wormfs.at('open')):
            assert (name, p, errno_of(os.removexattr, p, 'user.worm.' + name)) == (name, p, 'EPERM')
    assert wormfs.shows('a') == 'retained' and wormfs.shows('open') == 'open'
    assert os.listxattr(path) == [] and os.listxattr(wormfs.at('open')) == []


def test_the_owner_may_extend_and_others_may_not(mount):
    share = mount(lower_mode=0o777)
    as_user(ALICE, write_file, share.at('a'), b'report', 0o644)
    share.wait_state('a', 'retained')
    assert as_user(BOB, ask_until, share.at('a'), '1d') in ('EPERM', 'EACCES')
    assert share.shows('a', 'until') == 'unspecified'
    assert as_user(ALICE, ask_until, share.at('a'), '1d') == 'OK'
    assert share.shows('a', 'until') != 'unspecified'
    assert as_user(BOB, os.getxattr, share.at('a'), 'user.worm.state') == b'retained'


def test_the_owner_of_a_file_without_write_bits_is_refused_by_the_kernel(mount):
    """user.* xattrs are for who may write the file (xattr(7)): the daemon is never asked."""
    share = mount(lower_mode=0o777)
    as_user(ALICE, write_file, share.at('a'), b'report', 0o444)
    share.wait_state('a', 'retained')
    assert as_user(ALICE, ask_until, share.at('a'), '1d') == 'EACCES'
    assert ask_until(share.at('a'), '1d') == 'OK'


# ---- T26: expiry --------------------------------------------------------------------------------

def expired(mount, options='retention=30d'):
    share = mount(options, clocked=True)
    os.mkdir(share.at('d'))
    path = share.lock('d/a', mode=0o666)
    share.now(31 * DAY)
    assert share.shows(path) == 'expired'
    return share, path


def test_T26_a_second_before_its_end_a_file_is_retained_and_then_expired(mount):
    share = mount('retention=30d', clocked=True)
    path = share.lock('a')
    left = seconds(share.shows('a', 'until')) - int(time.time())
    share.now(left - 60)
    assert share.shows('a') == 'retained'
    assert errno_of(os.unlink, path) == 'EPERM'
    share.now(left + 1)
    assert share.shows('a') == 'expired'
    share.now(0)                                # and back: the state follows the clock, nothing was changed
    assert share.shows('a') == 'retained'
    assert errno_of(os.unlink, path) == 'EPERM'


def test_T26_after_expiry_a_file_is_read_and_deleted(mount):
    share, path = expired(mount)
    assert read_file(path) == b'report\n'
    os.unlink(path)
    assert os.listdir(share.below('d')) == []
    share.must('sync')
    write_file(path, b'')                       # the name is free again
    assert share.shows(path) == 'open'


def test_T26_after_expiry_a_file_is_still_not_written_renamed_linked_or_changed(mount):
    share, path = expired(mount)
    before = look(share.below('d/a'))
    for name, errno in {
            'write': write_errno(path), 'truncating': open_errno(path, os.O_RDONLY | os.O_TRUNC),
            'truncate': errno_of(os.truncate, path, 0), 'rename': errno_of(os.rename, path, path + '2'),
            'link': errno_of(os.link, path, path + '2'), 'chmod': errno_of(os.chmod, path, 0o777),
            'chown': errno_of(os.chown, path, ALICE, -1), 'utimes': errno_of(os.utime, path),
            'setxattr': errno_of(os.setxattr, path, 'user.x', b'x')}.items():
        assert (name, errno) == (name, 'EPERM')
    write_file(share.at('d', 'x.part'), b'x')
    assert errno_of(os.rename, share.at('d', 'x.part'), path) == 'EPERM'
    assert get_flags(path) & FS_IMMUTABLE_FL
    assert look(share.below('d/a')) == before


def test_T26_after_expiry_the_directory_is_still_pinned_until_the_file_is_deleted(mount):
    share, path = expired(mount)
    assert errno_of(os.rename, share.at('d'), share.at('e')) == 'EPERM'
    os.unlink(path)
    wait_for('the stale pin to be seen through', lambda: errno_of(os.rename, share.at('d'), share.at('e')) == 'OK')
    assert os.listdir(share.lower) == ['e']


def test_T26_an_expired_file_is_extended_and_retained_again(mount):
    share, path = expired(mount)
    assert ask_until(path, '1d') == 'OK'
    assert share.shows(path) == 'retained'
    assert errno_of(os.unlink, path) == 'EPERM'
    share.now(33 * DAY)
    assert share.shows(path) == 'expired'
    os.unlink(path)


def test_T26_expiry_is_the_same_after_a_remount_and_SIGKILL(mount):
    share, path = expired(mount)
    for again in (share.remount, lambda: (share.kill9(), share.start())):
        again()
        assert share.shows(path) == 'expired'
        assert write_errno(path) == 'EPERM'
    os.unlink(path)


def test_T26_infinite_and_unspecified_never_expire(mount):
    share = mount(clocked=True)
    a, b = share.lock('a'), share.lock('b')
    assert ask_until(b, 'infinite') == 'OK'
    share.now(200 * YEAR)
    for path in (a, b):
        assert share.shows(path) == 'retained'
        assert errno_of(os.unlink, path) == 'EPERM'


def test_T26_every_name_of_an_expired_file_may_be_deleted(mount):
    share = mount('retention=1d', clocked=True)
    write_file(share.at('a'), b'')
    os.link(share.at('a'), share.at('b'))
    share.lock('a')
    assert errno_of(os.unlink, share.at('b')) == 'EPERM'
    share.now(2 * DAY)
    os.unlink(share.at('a'))
    assert share.shows('b') == 'expired'
    assert write_errno(share.at('b')) == 'EPERM'
    os.unlink(share.at('b'))
    assert os.listdir(share.lower) == []


def test_T26_a_deleted_file_that_is_still_open_cannot_be_brought_back(mount):
    share = mount('retention=1d', clocked=True)
    path = share.lock('a')
    fd = os.open(path, os.O_RDONLY)
    try:
        share.now(2 * DAY)
        os.unlink(path)
        assert os.pread(fd, 10, 0) == b'report\n'
        assert open_errno('/proc/self/fd/%d' % fd, os.O_WRONLY) == 'EPERM'
        from harness import link_descriptor
        assert errno_of(link_descriptor, fd, share.at('b')) in ('EPERM', 'ENOENT')
    finally:
        os.close(fd)
    assert os.listdir(share.lower) == []


def test_T26_compliance_mode_expires_by_the_real_clock(mount):
    share = mount('mode=compliance,min=1s,retention=3s,max=1d')
    path = share.lock('a')
    assert share.shows('a', 'mode') == 'compliance'
    assert errno_of(os.unlink, path) == 'EPERM'
    share.wait_state('a', 'expired')
    assert write_errno(path) == 'EPERM'
    os.unlink(path)


def test_a_clock_file_that_disappears_lets_no_time_pass(mount):
    share = mount('retention=30d', clocked=True)
    share.lock('a')
    share.now(31 * DAY)
    assert share.shows('a') == 'expired'
    os.unlink(share.clock_file)
    assert share.shows('a') == 'retained'
    assert errno_of(os.unlink, share.at('a')) == 'EPERM'


# ---- T27, T28: holds ----------------------------------------------------------------------------

@pytest.mark.parametrize('over,held', itertools.product([False, True], [False, True]))
def test_T27_a_file_is_deleted_only_when_retention_is_over_and_no_hold_is_left(mount, over, held):
    share = mount('retention=30d', clocked=True)
    path = share.lock('a')
    if held:
        share.must('hold', 'a', case='case-1')
    share.now(31 * DAY if over else 0)
    free = over and not held
    assert share.shows('a') == ('expired' if free else 'retained')
    assert errno_of(os.unlink, path) == ('OK' if free else 'EPERM')
    assert os.path.exists(path) == (not free)


def test_T27_a_hold_neither_moves_the_date_nor_hinders_an_extension(mount):
    share = mount('retention=2050-01-01')
    path = share.lock('a')
    share.must('hold', 'a', case='case-1')
    assert share.shows('a', 'until') == '2050-01-01T00:00:00Z'
    assert ask_until(path, '2051-01-01') == 'OK'
    share.must('release', 'a', case='case-1')
    assert share.shows('a', 'until') == '2051-01-01T00:00:00Z'


def test_T27_a_released_hold_on_an_expired_file_frees_it(mount):
    share = mount('retention=1d', clocked=True)
    path = share.lock('a')
    share.must('hold', 'a', case='case-1')
    share.now(2 * DAY)
    assert errno_of(os.unlink, path) == 'EPERM'
    share.must('release', 'a', case='case-1')
    assert share.shows('a') == 'expired'
    os.unlink(path)


def test_T28_with_two_holds_the_release_of_one_keeps_the_file(mount):
    share = mount('retention=1d', clocked=True)
    path = share.lock('a')
    share.must('hold', 'a', case='alpha')
    share.must('hold', 'a', case='beta')
    assert share.shows('a', 'holds').split('\n') == ['alpha', 'beta']
    share.now(2 * DAY)
    share.must('release', 'a', case='alpha')
    assert share.shows('a', 'holds') == 'beta'
    assert share.shows('a') == 'retained'
    assert errno_of(os.unlink, path) == 'EPERM'
    share.must('release', 'a', case='beta')
    assert share.shows('a', 'holds') == ''
    os.unlink(path)


def test_T28_holds_survive_a_remount_and_SIGKILL(mount):
    share = mount('retention=1d', clocked=True)
    path = share.lock('a')
    share.must('hold', 'a', case='alpha')
    share.must('hold', 'a', case='beta')
    share.now(2 * DAY)
    for again in (share.remount, lambda: (share.kill9(), share.start())):
        again()
        assert share.shows('a', 'holds').split('\n') == ['alpha', 'beta']
        assert errno_of(os.unlink, path) == 'EPERM'


def test_T28_a_hold_twice_and_a_release_of_none_are_named(wormfs):
    wormfs.lock('a')
    wormfs.must('hold', 'a', case='alpha')
    assert wormfs.refused('hold', 'a', case='alpha') == 'EEXIST'
    assert wormfs.refused('release', 'a', case='beta') == 'ENOENT'
    wormfs.must('release', 'a', case='alpha')
    assert wormfs.refused('release', 'a', case='alpha') == 'ENOENT'


def test_only_what_is_locked_can_be_held(wormfs):
    write_file(wormfs.at('a'), b'')
    os.mkdir(wormfs.at('d'))
    assert wormfs.refused('hold', 'a', case='x') == 'EINVAL'
    assert wormfs.refused('hold', 'd', case='x') == 'EINVAL'
    assert wormfs.refused('hold', 'missing', case='x') == 'ENOENT'


@pytest.mark.parametrize('case', ['', 'a/b', 'a\nb', 'x' * 129, '\x00', '\x7f'])
def test_a_bad_name_of_a_case_is_EINVAL(wormfs, case):
    wormfs.lock('a')
    assert wormfs.refused('hold', 'a', case=case) == 'EINVAL'
    assert wormfs.shows('a', 'holds') == ''


@pytest.mark.parametrize('case', ['x' * 128, 'Fall Müller', '2024-17 (b)', '"quoted\\"'])
def test_any_printable_name_of_a_case_is_kept(wormfs, case):
    wormfs.lock('a')
    wormfs.must('hold', 'a', case=case)
    wormfs.remount()
    assert wormfs.shows('a', 'holds') == case
    assert wormfs.explain('a')['holds'] == [case]


def test_hold_as_a_mount_option_is_put_on_every_file_that_is_locked_from_then_on(mount):
    share = mount('retention=1d', clocked=True)
    share.lock('before')
    share.options = share.options.replace('retention=1d', 'retention=1d,hold=case-7')
    share.remount()
    path = share.lock('after')
    assert share.shows('before', 'holds') == ''
    assert share.shows('after', 'holds') == 'case-7'
    share.now(2 * DAY)
    os.unlink(share.at('before'))
    assert errno_of(os.unlink, path) == 'EPERM'
    share.kill9()
    share.start()
    assert share.shows('after', 'holds') == 'case-7'
    assert errno_of(os.unlink, path) == 'EPERM'
    share.must('release', 'after', case='case-7')
    os.unlink(path)


def test_extending_by_the_control_socket_follows_the_same_rules(mount):
    share = mount('retention=2050-01-01,max=100y')
    share.lock('a')
    assert share.must('extend', 'a', until='2051-01-01')['until'] == '2051-01-01T00:00:00Z'
    assert share.must('extend', 'a', until='2051-01-01')['until'] == '2051-01-01T00:00:00Z'
    assert share.refused('extend', 'a', until='2050-06-01') == 'EPERM'
    assert share.refused('extend', 'a', until='nonsense') == 'EINVAL'
    assert share.refused('extend', 'a', until='9000-01-01') == 'EINVAL'
    assert share.refused('extend', 'missing', until='1d') == 'ENOENT'
    assert share.shows('a', 'until') == '2051-01-01T00:00:00Z'
