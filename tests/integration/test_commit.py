"""What locks a file besides close(2): chmod, chattr, requests, idle time; and what commit=explicit and never mean."""
import os
import stat
import threading

import pytest

from harness import (ALICE, BOB, FS_IMMUTABLE_FL, LOCKED, as_user, errno_of, get_flags, in_child, look, open_errno, opened, read_file,
                     run, set_flags, wait_for, write_file)


def ask_commit(path, value=b'1'):
    return errno_of(os.setxattr, path, 'user.worm.commit', value)


@pytest.fixture
def explicit(mount):
    """A share that locks only when asked, with a written file `a`."""
    share = mount('commit=chmod')
    write_file(share.at('a'), b'report', 0o664)
    share.settle(share.at('a'))     # the kernel lets go of it after close(2) has returned: EBUSY until then
    return share, share.at('a')


TRIGGERS = {
    'chmod a-w': lambda share, path: os.chmod(path, 0o444),
    'fchmod a-w': lambda share, path: fchmod(path, 0o444),
    'chattr +i': lambda share, path: set_flags(path, FS_IMMUTABLE_FL),
    'user.worm.commit': lambda share, path: os.setxattr(path, 'user.worm.commit', b'1'),
    'control socket': lambda share, path: control_commit(share, path),
}


def fchmod(path, mode):
    with opened(path, os.O_RDONLY) as fd:
        os.fchmod(fd, mode)


def control_commit(share, path):
    answer = share.control('commit', os.path.relpath(path, share.mnt))
    if not answer['ok']:
        import errno
        raise OSError(getattr(errno, answer['errno']), answer['error'])


def test_chmod_means_that_close_does_not_lock(explicit):
    share, path = explicit
    assert share.shows(path) in ('open', 'pending')
    write_file(path, b' more', flags=os.O_APPEND)
    os.rename(path, share.at('b'))
    assert read_file(share.below('b')) == b'report more'


def test_explicit_means_that_neither_close_nor_chmod_locks_but_a_request_does(mount):
    share = mount('commit=explicit')
    write_file(share.at('a'))
    os.chmod(share.at('a'), 0o444)
    share.settle(share.at('a'))
    assert share.shows('a') == 'open' and os.stat(share.below('a')).st_mode & 0o777 == 0o444
    os.chmod(share.at('a'), 0o644)
    share.must('commit', 'a')
    assert share.shows('a') == 'retained'


@pytest.mark.parametrize('trigger', TRIGGERS)
def test_each_trigger_locks_at_once_and_for_good(explicit, trigger):
    share, path = explicit
    TRIGGERS[trigger](share, path)
    assert share.shows(path) == 'retained'
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    assert errno_of(os.chmod, path, 0o666) == 'EPERM'
    assert get_flags(path) & FS_IMMUTABLE_FL
    share.kill9()
    share.start()
    assert share.shows(path) == 'retained'
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    assert errno_of(os.unlink, path) == 'EPERM'


@pytest.mark.parametrize('trigger', TRIGGERS)
def test_each_trigger_is_EBUSY_beside_a_writer_and_changes_nothing(explicit, trigger):
    share, path = explicit
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        before = look(share.below('a'))
        assert in_child(errno_of, TRIGGERS[trigger], share, path) == 'EBUSY'
        assert look(share.below('a')) == before
        os.write(fd, b' more')
    wait_for('the writer to be gone', lambda: share.info()['writers'] == 0)
    assert share.shows(path) not in LOCKED
    TRIGGERS[trigger](share, path)
    assert share.shows(path) == 'retained'
    assert read_file(share.below('a')) == b'report more'


@pytest.mark.parametrize('trigger', TRIGGERS)
def test_each_trigger_is_answered_and_does_nothing_on_a_locked_file(explicit, trigger):
    share, path = explicit
    TRIGGERS['user.worm.commit'](share, path)
    before = look(share.below('a')), share.shows(path, 'serial'), share.shows(path, 'committed')
    TRIGGERS[trigger](share, path)
    assert (look(share.below('a')), share.shows(path, 'serial'), share.shows(path, 'committed')) == before


@pytest.mark.parametrize('where', ['the same thread', 'another thread'])
def test_a_writer_may_take_the_write_bits_away_itself_and_the_lock_comes_with_its_close(explicit, where):
    """cp -p, tar and git do so; programs in Go or Java from whichever thread."""
    share, path = explicit
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b' more')
        results = []
        call = threading.Thread(target=lambda: results.append(errno_of(os.fchmod, fd, 0o444)))
        call.run() if where == 'the same thread' else call.start() or call.join()
        assert results == ['OK']
        os.write(fd, b' and more')
        assert share.shows(path) not in LOCKED
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    share.wait_state(path, 'retained')
    assert read_file(share.below('a')) == b'report more and more'
    assert stat.S_IMODE(os.stat(share.below('a')).st_mode) == 0o444


def test_chmod_sets_the_mode_it_locks_with(explicit):
    share, path = explicit
    os.chmod(path, 0o444)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444 == stat.S_IMODE(os.stat(share.below('a')).st_mode)


@pytest.mark.parametrize('mode', [0o644, 0o600, 0o200, 0o755, 0o662])
def test_chmod_that_leaves_a_write_bit_locks_nothing(explicit, mode):
    share, path = explicit
    os.chmod(path, mode)
    assert share.shows(path) not in LOCKED
    assert open_errno(path, os.O_WRONLY) == 'OK'


def test_chmod_locks_no_directory(explicit):
    share, path = explicit
    os.mkdir(share.at('d'))
    os.chmod(share.at('d'), 0o555)
    os.rename(share.at('d'), share.at('e'))


def test_an_empty_file_is_locked_when_that_is_asked_for(explicit):
    share, path = explicit
    write_file(share.at('empty'), b'')
    assert ask_commit(share.at('empty')) == 'OK'
    assert share.shows('empty') == 'retained'
    assert open_errno(share.at('empty'), os.O_WRONLY) == 'EPERM'


def test_a_staging_file_is_locked_under_its_own_name_when_that_is_asked_for(wormfs):
    write_file(wormfs.at('a.part'), b'report')
    assert ask_commit(wormfs.at('a.part')) == 'OK'
    assert wormfs.shows('a.part') == 'retained'
    assert errno_of(os.rename, wormfs.at('a.part'), wormfs.at('a')) == 'EPERM'


@pytest.mark.parametrize('value', [b'', b'0', b'yes', b'11', b'1\n', b'\0'])
def test_a_commit_request_is_the_digit_1_and_nothing_else(explicit, value):
    share, path = explicit
    assert ask_commit(path, value) in ('EINVAL', 'EPERM')
    assert share.shows(path) not in LOCKED


def test_directories_and_links_cannot_be_committed(explicit):
    share, path = explicit
    os.mkdir(share.at('d'))
    os.symlink('a', share.at('s'))
    assert ask_commit(share.at('d')) in ('EINVAL', 'EISDIR')
    assert share.refused('commit', 'd') in ('EINVAL', 'EISDIR')
    assert share.refused('commit', '') in ('EINVAL', 'EISDIR')
    assert share.refused('commit', 's') in ('EINVAL', 'ELOOP')
    assert share.refused('commit', 'missing') == 'ENOENT'
    assert share.shows('a') not in LOCKED
    os.rename(share.at('d'), share.at('e'))


def test_the_owner_may_ask_for_the_lock_of_his_file_and_others_may_not(mount):
    share = mount('commit=explicit', lower_mode=0o777)
    as_user(ALICE, write_file, share.at('a'), b'report', 0o644)
    assert as_user(BOB, ask_commit, share.at('a')) in ('EPERM', 'EACCES')
    assert share.shows('a') not in LOCKED
    assert as_user(ALICE, ask_commit, share.at('a')) == 'OK'
    assert share.shows('a') == 'retained'


def test_a_writer_of_another_owners_file_may_not_lock_it_by_chmod(mount):
    share = mount('commit=explicit', lower_mode=0o777)
    as_user(ALICE, write_file, share.at('a'), b'report', 0o666, umask=0)
    as_user(ALICE, os.chmod, share.at('a'), 0o666)
    assert as_user(BOB, errno_of, os.chmod, share.at('a'), 0o444) == 'EPERM'
    assert share.shows('a') not in LOCKED
    assert stat.S_IMODE(os.stat(share.below('a')).st_mode) == 0o666


def test_triggers_work_under_commit_close_on_files_that_were_there_before(mount):
    share = mount(start=False)
    for n in range(3):
        write_file(share.below('old%d' % n), b'from before', 0o644)
    share.start()
    os.chmod(share.at('old0'), 0o444)
    set_flags(share.at('old1'), FS_IMMUTABLE_FL)
    assert ask_commit(share.at('old2')) == 'OK'
    for n in range(3):
        assert share.shows('old%d' % n) == 'retained'
        assert open_errno(share.at('old%d' % n), os.O_WRONLY) == 'EPERM'


def test_never_locks_nothing_at_close_and_keeps_what_is_locked(mount):
    share = mount()
    share.lock('locked')
    share.remount('commit=never')
    write_file(share.at('a'), b'one')
    write_file(share.at('a'), b'two', flags=os.O_TRUNC)
    os.rename(share.at('a'), share.at('b'))
    os.unlink(share.at('b'))
    assert open_errno(share.at('locked'), os.O_WRONLY) == 'EPERM'
    assert errno_of(os.unlink, share.at('locked')) == 'EPERM'


def test_never_leaves_nothing_of_ours_on_files(mount):
    share = mount('commit=never')
    os.mkdir(share.at('d'))
    write_file(share.at('d', 'a'), b'x')
    os.chmod(share.at('d', 'a'), 0o444)
    assert share.shows('d/a') == 'open'
    assert os.listxattr(share.below('d', 'a')) == [] and os.listxattr(share.below('d')) == []
    os.unlink(share.at('d', 'a'))


# ---- idle ---------------------------------------------------------------------------------------

def test_idle_locks_a_file_when_nobody_has_changed_it_for_that_long(mount):
    share = mount('commit=idle:60', clocked=True)
    write_file(share.at('a'), b'one')
    share.settle('a')
    assert share.shows('a') == 'pending'
    share.now(50)
    write_file(share.at('a'), b' two', flags=os.O_APPEND)       # an NFS server opens and closes around each write
    share.settle('a')
    share.now(100)                                              # 50 s after the last change
    assert share.shows('a') == 'pending'
    share.now(200)
    share.wait_state('a', 'retained')
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
    assert read_file(share.below('a')) == b'one two'


def test_idle_is_enforced_from_the_moment_a_file_is_due_not_from_the_next_sweep(mount):
    share = mount('commit=idle:60', clocked=True)
    write_file(share.at('a'), b'report')
    share.settle('a')
    share.now(61)
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
    assert errno_of(os.unlink, share.at('a')) == 'EPERM'


def test_idle_does_not_lock_beside_a_writer(mount):
    share = mount('commit=idle:60', clocked=True)
    write_file(share.at('b'), b'beside')
    with opened(share.at('a'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'one')
        share.settle('b', writers=1)
        share.now(3600)
        share.wait_state('b', 'retained')
        assert share.shows('a') not in LOCKED
        os.write(fd, b' two')
    assert read_file(share.below('a')) == b'one two'


def test_idle_files_are_remembered_over_a_remount_and_SIGKILL(mount):
    share = mount('commit=idle:60', clocked=True)
    write_file(share.at('a'), b'report')
    share.remount()
    write_file(share.at('b'), b'report')
    share.kill9()
    share.start()
    share.wait_state('a', 'pending')
    share.now(3600)
    for name in ('a', 'b'):
        share.wait_state(name, 'retained')


def test_a_pending_file_that_is_deleted_is_forgotten(mount):
    share = mount('commit=idle:60', clocked=True)
    write_file(share.at('a'), b'report')
    os.unlink(share.at('a'))
    write_file(share.at('b'), b'report')
    share.settle('b')
    share.now(3600)
    share.wait_state('b', 'retained')
    share.must('sync')
    assert share.problems() == []


# ---- durability ---------------------------------------------------------------------------------

@pytest.mark.parametrize('sync', ['follow', 'close'])
@pytest.mark.parametrize('base', ['ext4', 'xfs'])
def test_a_lock_is_as_durable_as_the_data_and_with_sync_close_always(mount, sync, base):
    """follow: the writers call fsync; close: they do not. Then the lower filesystem loses its power."""
    name = 'power-%s-%s' % (sync, base)
    point = mount.bases.make(base, name, size='400M', options=('commit=600',) if base == 'ext4' else ())
    share = mount('sync=' + sync, base=point)       # its state directory loses its power as well
    os.mkdir(share.at('d'))
    run('sync', '-f', point)
    names = ['d/f%d' % n for n in range(20)]
    for n in names:
        with opened(share.at(n), os.O_CREAT | os.O_WRONLY) as fd:
            os.write(fd, b'report of ' + n.encode())
            if sync == 'follow':
                os.fsync(fd)
    mount.bases.cut_power(share, name)
    share.start()
    for n in names:
        assert read_file(share.at(n)) == b'report of ' + n.encode()
        assert (n, open_errno(share.at(n), os.O_WRONLY)) == (n, 'EPERM')
    assert errno_of(os.rename, share.at('d'), share.at('e')) == 'EPERM'
    assert share.problems() == []


def test_chmod_minus_w_right_after_the_own_close_locks_at_once_empty_files_too(mount):
    """Its release is still on the way: it is waited for, not taken for a writer that goes on."""
    share = mount('io_uring=no,passthrough=no')
    for n in range(200):
        path = write_file(share.at('f%d' % n), b'' if n % 2 else b'x')
        os.chmod(path, 0o444)	# EBUSY, if it were taken for one
        assert share.shows(path) in ('closing', 'retained')
        share.wait_state(path, 'retained')
