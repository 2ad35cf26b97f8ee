"""Digests of locked files: taken once, of what the last writer left, shown everywhere alike."""
import json
import os

import pytest

from harness import errno_of, injected, opened, read_file, sanitizer, wait_for, write_file
from verify_harness import digests, sha, verify, wait_all_digests, wait_digest


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


def held_up(pid):
    """Threads that strace keeps in a system call."""
    found = set()
    for thread in os.listdir('/proc/%d/task' % pid):
        with open('/proc/%d/task/%s/stat' % (pid, thread)) as f:
            if f.read().rsplit(')', 1)[1].split()[0] == 't':
                found.add(thread)
    return found


def test_the_daemon_ends_also_while_a_file_is_about_to_be_read(wormfs):
    """It has been chosen, and its reader is told to end before it gets it: strace holds the open(2) between the two."""
    if sanitizer():
        pytest.skip('strace and a sanitizer do not go together')
    with injected(wormfs, 'open_by_handle_at', 'delay_enter=1500ms'):
        wormfs.lock('a')
        seen = []

        def stays():
            seen.append(held_up(wormfs.proc.pid))
            return len(seen) > 20 and set.intersection(*seen[-20:])
        wait_for('the open of what is to be read', stays)
        wormfs.stop()	# fails when it does not end


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
