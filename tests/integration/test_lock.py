"""A closed file is locked: T1 to T6, T9 and T10 of facts/worm-semantics.md, where the record lies, and which mount it is.
lock_harness.py says how a refusal is looked at."""
import os
import subprocess

import pytest

from harness import ALICE, BOB, LOCKED, as_user, errno_of, open_errno, opened, read_file, run, write_file
from lock_harness import locked, untouched		# noqa: F401

WRITING = {
    'O_WRONLY': os.O_WRONLY, 'O_RDWR': os.O_RDWR, 'O_WRONLY|O_APPEND': os.O_WRONLY | os.O_APPEND,
    'O_RDWR|O_CREAT': os.O_RDWR | os.O_CREAT, 'O_WRONLY|O_DIRECT': os.O_WRONLY | os.O_DIRECT,
}
TRUNCATING = {
    'O_RDONLY|O_TRUNC': os.O_RDONLY | os.O_TRUNC, 'O_WRONLY|O_TRUNC': os.O_WRONLY | os.O_TRUNC,
    'O_RDWR|O_TRUNC': os.O_RDWR | os.O_TRUNC, 'O_WRONLY|O_CREAT|O_TRUNC': os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
}


# ---- T1, T2: opening ----------------------------------------------------------------------------

@pytest.mark.parametrize('base', ['ext4', 'xfs', 'btrfs', 'tmpfs'])
def test_T1_a_closed_file_opens_for_reading_and_refuses_every_writer_also_after_a_remount(mount, base):
    share = mount(base=base)
    path = share.lock('a', b'report\n', 0o666)
    for _ in range(2):
        with untouched(share.below('a')):
            assert {n: open_errno(path, f) for n, f in WRITING.items()} == dict.fromkeys(WRITING, 'EPERM')
            assert read_file(path) == b'report\n'
        share.remount()
    assert read_file(share.below('a')) == b'report\n'


def test_T1_nobody_may_write_the_owner_as_little_as_others_and_root(wormfs):
    os.chmod(wormfs.mnt, 0o777)
    path = wormfs.at('a')
    as_user(ALICE, write_file, path, b'report\n', 0o666, umask=0)
    wormfs.wait_state(path, 'retained')
    with untouched(wormfs.below('a')):
        for uid in (ALICE, BOB, 0):
            for name, flags in WRITING.items():
                assert (uid, name, as_user(uid, open_errno, path, flags)) == (uid, name, 'EPERM')
            assert as_user(uid, read_file, path) == b'report\n'


def test_T1_who_may_not_write_by_the_mode_gets_EACCES_as_ever(wormfs):
    path = wormfs.lock('a', mode=0o644)
    with untouched(wormfs.below('a')):
        assert as_user(BOB, open_errno, path, os.O_WRONLY) == 'EACCES'


def test_T1_exclusive_creation_of_a_locked_name_is_EEXIST(locked):
    share, path, below = locked
    with untouched(below):
        assert open_errno(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) == 'EEXIST'


@pytest.mark.parametrize('how', TRUNCATING)
def test_T2_a_refused_O_TRUNC_has_not_truncated(locked, how):
    share, path, below = locked
    with untouched(below):
        assert open_errno(path, TRUNCATING[how]) == 'EPERM'
    assert os.stat(path).st_size == 7


def test_T2_a_refused_shell_redirection_leaves_the_file(locked):
    share, path, below = locked
    with untouched(below):
        p = run('sh', '-c', 'echo x >"$0"', path, check=False)
        assert p.returncode != 0 and 'Operation not permitted' in p.err
        p = run('sh', '-c', 'echo x >>"$0"', path, check=False)
        assert p.returncode != 0 and 'Operation not permitted' in p.err


# ---- T3 to T6: descriptors ----------------------------------------------------------------------

def test_T3_a_second_writer_from_before_may_finish_and_nobody_new_may_start(wormfs):
    path = wormfs.at('a')
    first = os.open(path, os.O_CREAT | os.O_WRONLY)
    with opened(path, os.O_WRONLY | os.O_APPEND) as second:
        os.write(first, b'one ')
        os.close(first)
        assert wormfs.shows(path) == 'closing'
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
        assert errno_of(os.truncate, path, 0) == 'EPERM'
        os.write(second, b'two')
        assert wormfs.shows(path) == 'closing'
    wormfs.wait_state(path, 'retained')
    assert read_file(wormfs.below('a')) == b'one two'


def test_T3_while_a_writer_is_left_the_name_is_locked_already(wormfs):
    path = wormfs.at('a')
    first = os.open(path, os.O_CREAT | os.O_WRONLY)
    with opened(path, os.O_WRONLY):
        os.write(first, b'report')
        os.close(first)
        assert errno_of(os.unlink, path) == 'EPERM'
        assert errno_of(os.rename, path, path + '2') == 'EPERM'
        assert errno_of(os.link, path, path + '2') == 'EPERM'
        write_file(wormfs.at('b.part'), b'x')
        assert errno_of(os.rename, wormfs.at('b.part'), path) == 'EPERM'
    wormfs.wait_state(path, 'retained')


def test_T3_no_explicit_commit_beside_a_writer_so_no_writer_meets_a_locked_file(wormfs):
    path = wormfs.at('a')
    with opened(path, os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b'one')
        assert errno_of(os.setxattr, path, 'user.worm.commit', b'1') == 'EBUSY'
        os.write(fd, b' two')
        assert wormfs.shows(path) == 'open'
    wormfs.wait_state(path, 'retained')
    assert read_file(wormfs.below('a')) == b'one two'


def test_T3_a_reader_from_before_goes_on_reading(wormfs):
    path = wormfs.at('a')
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    with opened(path, os.O_RDONLY) as reader:
        os.write(fd, b'report')
        os.close(fd)
        wormfs.wait_state(path, 'retained')
        assert os.pread(reader, 10, 0) == b'report'
        assert errno_of(os.write, reader, b'x') == 'EBADF'
        assert errno_of(os.ftruncate, reader, 0) == 'EINVAL'


def test_T4_a_descriptor_cannot_be_reopened_for_writing_through_proc(locked):
    share, path, below = locked
    with untouched(below):
        for flags in (os.O_RDONLY, os.O_PATH):
            with opened(path, flags) as fd:
                for name, writing in {**WRITING, **TRUNCATING}.items():
                    assert (name, open_errno('/proc/self/fd/%d' % fd, writing)) == (name, 'EPERM')
                assert errno_of(os.truncate, '/proc/self/fd/%d' % fd, 0) == 'EPERM'


def test_T5_a_duplicate_still_writes_after_the_first_close_and_the_last_close_locks(wormfs):
    path = wormfs.at('a')
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    copy = os.dup(fd)
    os.write(fd, b'one ')
    os.close(fd)
    assert wormfs.shows(path) == 'closing'
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    assert os.write(copy, b'two') == 3
    os.close(copy)
    wormfs.wait_state(path, 'retained')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'
    assert read_file(wormfs.below('a')) == b'one two'


def test_T6_all_commands_of_a_shell_group_write_into_one_file(wormfs):
    path = wormfs.at('a')
    run('sh', '-c', '{ echo one; /bin/echo two; ( echo three ); /bin/echo four; } >"$0"', path)
    wormfs.wait_state(path, 'retained')
    assert read_file(wormfs.below('a')) == b'one\ntwo\nthree\nfour\n'
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_T6_a_forked_child_that_writes_after_its_parent_closed_keeps_the_file_closing(wormfs):
    path = wormfs.at('a')
    with open(path, 'wb', buffering=0) as f:
        f.write(b'parent ')
        child = subprocess.Popen(['sh', '-c', 'read go; /bin/echo child >&3'], stdin=subprocess.PIPE,
                                 pass_fds=(), close_fds=False, preexec_fn=lambda: os.dup2(f.fileno(), 3))
    try:
        assert wormfs.shows(path) == 'closing'
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
    finally:
        child.communicate(b'go\n')
    wormfs.wait_state(path, 'retained')
    assert read_file(wormfs.below('a')) == b'parent child\n'


# ---- T9, T10: size ------------------------------------------------------------------------------

def test_T9_an_empty_file_is_not_locked_and_takes_its_content_later(wormfs):
    path = wormfs.at('a')
    write_file(path, b'')
    assert wormfs.shows(path) == 'open'
    assert open_errno(path, os.O_WRONLY) == 'OK'
    assert wormfs.shows(path) == 'open'
    write_file(path, b'report')
    wormfs.wait_state(path, 'retained')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_T9_an_empty_file_may_be_renamed_and_deleted(wormfs):
    write_file(wormfs.at('a'), b'')
    os.rename(wormfs.at('a'), wormfs.at('b'))
    os.unlink(wormfs.at('b'))
    assert os.listdir(wormfs.lower) == []


def test_T9_a_handle_that_changed_nothing_locks_nothing(mount):
    share = mount(start=False)
    write_file(share.below('old'), b'from before')
    share.start()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        assert open_errno(share.at('old'), flags) == 'OK'
        assert share.shows('old') == 'open'
    with opened(share.at('old'), os.O_RDWR) as fd:
        os.pwrite(fd, b'F', 0)
    share.wait_state('old', 'retained')
    assert read_file(share.below('old')) == b'From before'


def test_T9_emptying_a_file_that_was_there_before_leaves_it_open(mount):
    share = mount(start=False)
    write_file(share.below('old'), b'from before')
    share.start()
    write_file(share.at('old'), b'', flags=os.O_TRUNC)
    assert share.shows('old') == 'open'
    assert os.stat(share.below('old')).st_size == 0


@pytest.mark.parametrize('size', [0, 3, 7, 100, 5 << 30])
def test_T10_truncate_is_refused_down_up_and_to_the_same_size(locked, size):
    share, path, below = locked
    with untouched(below):
        assert errno_of(os.truncate, path, size) == 'EPERM'
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(os.ftruncate, fd, size) == 'EINVAL'     # the kernel: not open for writing
    assert os.stat(path).st_size == 7


def test_T10_a_file_that_only_grew_by_ftruncate_is_locked_too(wormfs):
    path = wormfs.at('a')
    with opened(path, os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 1 << 20)
    wormfs.wait_state(path, 'retained')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


# ---- where the record cannot lie on the file ----------------------------------------------------

def test_a_lower_filesystem_without_xattrs_locks_all_the_same_also_through_SIGKILL(mount):
    share = mount(base='ramfs')
    path = share.lock('a')
    assert share.info()['lower']['xattr'] is False
    with untouched(share.below('a')):
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
        assert errno_of(os.unlink, path) == 'EPERM'
    share.kill9()
    share.start()
    with untouched(share.below('a')):
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
        assert errno_of(os.unlink, path) == 'EPERM'
        assert errno_of(os.rename, path, share.at('b')) == 'EPERM'


def test_the_record_can_be_kept_in_the_user_namespace(mount):
    share = mount('xattr=user')
    path = share.lock('a')
    assert any(n.startswith('user.wormfs') for n in os.listxattr(share.below('a')))
    assert share.info()['lower']['namespace'] == 'user'
    share.kill9()
    share.start()
    with untouched(share.below('a')):
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
        assert errno_of(os.removexattr, path, 'user.wormfs') in ('EPERM', 'ENODATA')
    assert os.listxattr(path) == []


# ---- mounts that are not over the share ---------------------------------------------------------

def test_a_mount_apart_from_its_share_locks_as_well(mount):
    share = mount(apart=True)
    path = share.lock('a')
    with untouched(share.below('a')):
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
    assert os.listdir(share.share) == ['a']


def test_two_shares_do_not_know_each_other(mount):
    one, two = mount(), mount()
    one.lock('a')
    write_file(two.at('a'), b'')
    assert two.shows('a') == 'open'
    os.unlink(two.at('a'))
    assert errno_of(os.unlink, one.at('a')) == 'EPERM'


def test_the_lock_is_counted_and_refusals_are_too(locked):
    share, path, below = locked
    before = share.info()['refused']
    open_errno(path, os.O_WRONLY)
    errno_of(os.unlink, path)
    after = share.info()['refused']
    assert after['open-write'] == before.get('open-write', 0) + 1
    assert after['unlink'] == before.get('unlink', 0) + 1
    assert share.info()['locked'] == 1


def test_close_returns_an_error_when_the_lock_cannot_be_recorded_and_never_0_without_a_lock(mount):
    """Inodes of 128 bytes have no room for an xattr, so the record needs a block, and there is none left."""
    base = mount.bases.make('ext4', 'full%d' % os.getpid(), size='24M', mkfs=('-I', '128', '-m', '0'))
    share = mount(base=base, state=os.path.join(mount.bases.root, 'state-of-full'))
    share.expect_log(r'No space left')
    path = share.at('a')
    first = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(first, b'report')
    os.fsync(first)
    filler = os.open(share.below('filler'), os.O_CREAT | os.O_WRONLY)
    try:
        size = 1 << 20
        while size:
            if errno_of(os.write, filler, b'x' * size) == 'ENOSPC':
                size //= 2
        verdict = errno_of(os.close, first)
        if verdict == 'OK':
            assert open_errno(path, os.O_WRONLY) == 'EPERM'
        else:
            assert verdict in ('ENOSPC', 'EIO')
            # Not locked, and it does not pretend to be.
            assert (share.shows(path) in LOCKED) == (open_errno(path, os.O_WRONLY) == 'EPERM')
        os.ftruncate(filler, 0)
    finally:
        os.close(filler)
    assert read_file(share.below('a')) == b'report'
