"""wormctl expire: lists what is expired, deletes it only when told to, and never anything else."""
import json
import os
import time

import pytest

from harness import ALICE, DAY, WORMCTL, as_user, injected, opened, read_file, wait_for, write_file


def expire(share, *args, check=True, **kwargs):
    return share.ctl('expire', *args, check=check, cwd=share.mnt, **kwargs)


@pytest.fixture
def share(mount):
    """old, d/old2, d1/old3 are expired; held is, but for its hold; new is not; open.part is not locked; gone is expired."""
    s = mount('retention=30d', clocked=True)
    for d in ('d', 'd1'):
        os.mkdir(s.at(d))
    for name in ('old', 'd/old2', 'd1/old3', 'held'):
        s.lock(name)
    s.must('hold', 'held', case='c1')
    s.now(60 * DAY)
    s.lock('new')
    write_file(s.at('open.part'))
    s.must('sync')
    return s


def names(share):
    return sorted(os.path.relpath(os.path.join(d, f), share.mnt) for d, _, files in os.walk(share.mnt) for f in files)


ALL = ['d/old2', 'd1/old3', 'held', 'new', 'old', 'open.part']


def test_without_delete_nothing_is_deleted(share):
    for args in ((), ('--list',), ('--json',), ('--list', '.')):
        p = expire(share, *args)
        assert p.returncode == 0 and 'old2' in p.out and 'held' not in p.out and 'new' not in p.out
        assert names(share) == ALL
    assert '3 expired, 21 bytes; nothing was deleted' in expire(share).out


def test_delete_takes_what_is_expired_and_nothing_else_with_a_line_each(share):
    assert expire(share, '--delete').out.splitlines()[-1] == '3 expired, 3 deleted, 0 failed'
    assert names(share) == ['held', 'new', 'open.part']
    assert sorted(share.listed()) == ['held', 'new']
    share.must('sync')
    lines = [json.loads(l) for l in share.ctl('audit', 'show', '--json', share.mnt).out.splitlines()]
    deleted = [l for l in lines if l['event'] == 'delete_expired']
    assert sorted(l['path'] for l in deleted) == ['d/old2', 'd1/old3', 'old'] and {l['uid'] for l in deleted} == {0}
    assert expire(share, '--delete', check=False).returncode == 1


def test_T51_a_path_bounds_it(share):
    assert expire(share, '--delete', 'd').out.splitlines()[-1] == '1 expired, 1 deleted, 0 failed'
    assert names(share) == [n for n in ALL if n != 'd/old2']
    assert expire(share, '--delete', 'd1/old3').out.splitlines()[-1] == '1 expired, 1 deleted, 0 failed'


def test_before_bounds_it(mount):
    share = mount('retention=1d', clocked=True)
    share.lock('older')
    share.now(20 * DAY)
    share.lock('newer')
    share.now(30 * DAY)
    rows = [json.loads(l) for l in expire(share, '--json', '--before', '15d').out.splitlines()]
    assert [r['path'] for r in rows[:-1]] == ['./older'] and rows[-1]['found'] == 1
    assert expire(share, '--json', '--before', '1999-01-01', check=False).returncode == 1


def test_what_is_extended_or_held_meanwhile_stays(share):
    """The ledger that wormctl reads says expired; the daemon looks at the file."""
    os.setxattr(share.at('old'), 'user.worm.until', b'2090-01-01')
    share.must('hold', 'd/old2', case='c1')
    assert share.refused('expire', 'old') == share.refused('expire', 'd/old2') == 'EPERM'
    assert share.refused('expire', 'held') == share.refused('expire', 'new') == share.refused('expire', 'open.part') == 'EPERM'
    assert expire(share, '--delete').out.splitlines()[-1] == '1 expired, 1 deleted, 0 failed'
    assert names(share) == [n for n in ALL if n != 'd1/old3']


def test_all_names_of_an_expired_file_go(mount):
    share = mount('retention=1d', clocked=True)
    with opened(share.at('a'), os.O_CREAT | os.O_WRONLY):
        os.link(share.at('a'), share.at('b'))
    share.lock('a')
    share.now(2 * DAY)
    assert expire(share, '--delete').out.splitlines()[-1] == '1 expired, 1 deleted, 0 failed'
    assert names(share) == [] and os.listdir(share.below()) == []


def test_rate_bounds_how_fast_it_goes(share):
    start = time.monotonic()
    expire(share, '--delete', '--rate', '10/s')
    assert time.monotonic() - start >= 0.2      # three files, two pauses
    for bad in ('0', '-1', 'x', '10/m', '9999999'):
        assert expire(share, '--rate', bad, check=False).returncode == 2


def test_compliance_mode_is_no_obstacle_once_it_is_over(mount):
    share = mount('retention=1s')
    write_file(share.at('a'))
    share.wait_state('a', 'expired')
    share.remount('mode=compliance,min=1s,retention=1d,max=1y')
    assert expire(share, '--delete').out.splitlines()[-1] == '1 expired, 1 deleted, 0 failed'


def test_it_is_for_root_and_the_daemons_user(share):
    import subprocess

    def ask():
        return subprocess.run([WORMCTL, 'expire', '--delete'], cwd=share.mnt, capture_output=True).returncode
    assert as_user(ALICE, ask) == 2
    assert names(share) == ALL


def test_without_the_line_in_the_audit_log_nothing_is_deleted(share):
    """The line comes first, and on the disk: strace makes every sync fail."""
    share.expect_log('audit log', 'ledger')
    with injected(share, 'fdatasync', 'error=EIO'):
        answer = share.control('expire', 'old')
        assert (answer['ok'], answer['errno']) == (False, 'EIO') and 'audit' in answer['error']
        assert read_file(share.at('old')) == b'report\n' and share.shows('old') == 'expired'
        assert expire(share, '--delete', 'd', check=False).returncode == 2
        assert names(share) == ALL
    wait_for('the log to be written again', lambda: share.control('expire', 'old')['ok'])
    assert names(share) == [n for n in ALL if n != 'old']
