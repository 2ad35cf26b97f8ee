"""A lower filesystem with locks of its own, as a mount of the cluster is: what it refuses with EROFS on a locked file is EPERM."""
import os

from harness import errno_of, injected, open_errno, read_file, run, wait_for, write_file


def refusals(share):
    share.must('sync')
    with open(os.path.join(share.state, 'audit.log')) as f:
        return [line for line in f if 'a lock of the filesystem below' in line]


def test_an_expired_file_that_the_cluster_keeps_is_refused_with_EPERM_and_told(mount):
    share = mount('retention=1h', clocked=True)
    share.lock('a')
    share.now(7200)
    share.wait_state('a', 'expired')
    with injected(share, 'unlinkat', 'error=EROFS'):
        assert errno_of(os.unlink, share.at('a')) == 'EPERM'
        write_file(share.at('b.part'), b'x')
        assert errno_of(os.unlink, share.at('b.part')) == 'EROFS', 'not locked: not ours to explain'
    wait_for('the line', lambda: len(refusals(share)) == 1)
    assert read_file(share.at('a')) == b'report\n' and share.shows('a') == 'expired'
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
    os.unlink(share.at('a'))


def test_a_lower_filesystem_that_is_read_only_as_a_whole_stays_EROFS(mount):
    point = mount.bases.make('tmpfs', 'lower-lock')
    share = mount('retention=1h', clocked=True, base=point, state=os.path.join(mount.bases.root, 'state-of-lower-lock'))
    share.lock('a')
    share.now(7200)
    share.wait_state('a', 'expired')
    share.must('sync')
    run('mount', '-o', 'remount,ro', point)
    try:
        assert errno_of(os.unlink, share.at('a')) == 'EROFS'
    finally:
        run('mount', '-o', 'remount,rw', point)
    os.unlink(share.at('a'))
