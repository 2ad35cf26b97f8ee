"""Full filesystems and used-up quotas below the mount: who ran out is told, counted, and a flood of it is a few lines."""
import errno
import json
import os

import pytest

from harness import ALICE, WORMCTL, as_user, errno_of, injected, opened, run, wait_for, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)

SMALL = ('-N', '32', '-m', '0')


def quota_events(share):
    out = run(WORMCTL, 'events', 'replay', '--json', '--type', 'Quota', '--state-dir', share.state, check=False).stdout
    return [json.loads(line)['Event'] for line in out.splitlines()]


@pytest.fixture
def small(mount, bases, request, tmp_path):
    """A share on a filesystem of its own with 4 MiB and a few inodes."""
    def make(given='', **kwargs):
        name = 'shortage-' + request.node.name.replace('[', '-').replace(']', '')[:60]
        point = bases.make('ext4', name, size='8M', mkfs=SMALL, **kwargs)
        # The ring of events and the ledger are not on the filesystem that runs full.
        return mount(given, base=point, lower_mode=0o777, state=str(tmp_path / 'state'))
    return make


def fill(path, uid=0, times=1):
    """Writes until there is no room, then `times` more: the errnos of those."""
    def go():
        seen = []
        with opened(path, os.O_CREAT | os.O_WRONLY) as fd:
            while len(seen) < times:
                try:
                    os.write(fd, b'x' * 65536)
                except OSError as e:
                    seen.append(errno.errorcode[e.errno])
        return seen
    return as_user(uid, go)


def test_who_fills_the_filesystem_is_told_with_path_and_device(small):
    share = small('events=on,passthrough=no,commit=never')
    assert fill(share.at('big'), uid=ALICE) == ['ENOSPC']
    device = os.stat(share.lower).st_dev
    events = quota_events(share)
    assert len(events) == 1
    event = events[0]
    assert (event['Path'], event['Uid'], event['Error'], event['Quota'], event['Warning'], event['Count']) == (
        '/big', ALICE, 'ENOSPC', 'filesystem', 'refused', 1)
    assert (event['DeviceMajor'], event['DeviceMinor']) == (os.major(device), os.minor(device))
    assert event['Command'] and event['Detail'].startswith('Write: No space left on device')
    assert share.info()['shortage'] == {'edquot': 0, 'enospc': 1, 'full_at_close': 0, 'untold': 0}
    assert 'ran out' in run(WORMCTL, 'status', check=False).out


def test_names_that_cannot_be_made_are_told_as_well(small):
    share = small('events=on,commit=never')
    n = 0
    while errno_of(os.mkdir, share.at('d%d' % n)) == 'OK':
        n += 1
    assert errno_of(write_file, share.at('f'), b'x') == 'ENOSPC'
    assert errno_of(os.symlink, 'x', share.at('l')) == 'ENOSPC'
    assert share.info()['shortage']['enospc'] == 3
    assert quota_events(share)[0]['Path'] == '/d%d' % n
    share.stop()
    last = quota_events(share)[-1]
    assert (last['Path'], last['Count']) == ('/l', 2)


def test_a_flood_is_one_event_and_one_sum_a_user(small):
    share = small('events=on,passthrough=no,commit=never')
    assert fill(share.at('big'), times=200) == ['ENOSPC'] * 200
    assert fill(share.at('hers'), uid=ALICE, times=100) == ['ENOSPC'] * 100
    assert share.info()['shortage']['enospc'] == 300
    assert [(e['Uid'], e['Count']) for e in quota_events(share)] == [(0, 1), (ALICE, 1)]
    share.stop()	# what was not told yet is told now
    assert sorted((e['Uid'], e['Count']) for e in quota_events(share)) == [(0, 1), (0, 199), (ALICE, 1), (ALICE, 99)]


def test_more_users_than_are_told_of_at_once_are_counted_and_a_sum_comes_without_an_unmount(small):
    """64 are told of in 10 s."""
    share = small('events=on,passthrough=no,commit=never')
    assert fill(share.at('big'), times=5) == ['ENOSPC'] * 5
    with opened(share.at('theirs'), os.O_CREAT | os.O_WRONLY) as fd:
        for uid in range(ALICE, ALICE + 70):
            os.fchown(fd, uid, -1)
            assert fill(share.at('theirs'), uid=uid) == ['ENOSPC']
    info = share.info()['shortage']
    told = [e for e in quota_events(share) if e['Count'] == 1]
    assert info['enospc'] == 75 and info['untold'] == 71 - 64 and len(told) == 64
    wait_for('the sum', lambda: [e for e in quota_events(share) if (e['Uid'], e['Count']) == (0, 4)])


def test_writes_of_the_kernel_are_known_at_close_only(small):
    share = small('events=on')
    if not share.transport()['passthrough']:
        pytest.skip('no kernel passthrough here: %s' % share.transport()['passthrough_why'])
    assert fill(share.at('big'), uid=ALICE) == ['ENOSPC']
    share.settle()
    info = share.info()['shortage']
    assert (info['full_at_close'], info['enospc']) == (1, 0), os.statvfs(share.lower)
    event = quota_events(share)[0]
    assert (event['Uid'], event['Path'], event['Quota']) == (ALICE, '/big', 'filesystem')
    assert 'closed' in event['Detail']


def test_hits_are_counted_on_the_file_if_asked(small):
    share = small('quota_hit_count,passthrough=no,commit=never')
    assert fill(share.at('big'), times=3) == ['ENOSPC'] * 3
    assert os.getxattr(share.at('big'), 'user.quota_hit_count') == b'3'
    os.truncate(share.at('big'), 0)
    os.setxattr(share.at('big'), 'user.quota_hit_count', b'nonsense')
    assert fill(share.at('big')) == ['ENOSPC']
    assert os.getxattr(share.at('big'), 'user.quota_hit_count') == b'1'


def test_hits_are_not_counted_unless_asked(small):
    share = small('passthrough=no,commit=never')
    assert fill(share.at('big')) == ['ENOSPC']
    assert os.listxattr(share.at('big')) == []


def test_counting_a_hit_is_no_change_of_the_data(small):
    share = small('quota_hit_count,passthrough=no')
    fill(share.below('filler'))
    with opened(share.at('empty'), os.O_CREAT | os.O_WRONLY) as fd:
        assert errno_of(os.write, fd, b'x' * 65536) == 'ENOSPC'
    share.settle()
    assert share.shows('empty') == 'open'		# empty: nothing to lock
    assert os.getxattr(share.below('empty'), 'user.quota_hit_count') == b'1'


def test_edquot_from_below_is_told_as_a_quota(mount):
    """Whatever quotas the kernel has: strace makes the lower call fail."""
    share = mount('events=on,commit=never', lower_mode=0o777)
    with injected(share, 'mkdirat', 'error=EDQUOT'):
        assert as_user(ALICE, errno_of, os.mkdir, share.at('d')) == 'EDQUOT'
    event = quota_events(share)[0]
    assert (event['Path'], event['Uid'], event['Error'], event['Quota']) == ('/d', ALICE, 'EDQUOT', 'some')
    assert share.info()['shortage']['edquot'] == 1


def test_a_used_up_kernel_quota_is_told_as_one(small, bases):
    try:
        share = small('events=on,passthrough=no,commit=never', options=('usrquota',))
        run('quotacheck', '-cum', os.path.dirname(share.dir))
        run('quotaon', '-u', os.path.dirname(share.dir))
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        pytest.skip('kernel without quota formats (or no quota tools): %s' % str(e).splitlines()[-1])
    run('setquota', '-u', ALICE, 0, 1000, 0, 0, os.path.dirname(share.dir))
    assert fill(share.at('big'), uid=ALICE) == ['EDQUOT']
    event = quota_events(share)[0]
    assert (event['Uid'], event['Error'], event['Quota'], event['Path']) == (ALICE, 'EDQUOT', 'some', '/big')
    assert share.info()['shortage']['edquot'] == 1
    run('quotaoff', '-u', os.path.dirname(share.dir))
