"""A closed file is locked: T1 to T6 and T9 to T22 of facts/worm-semantics.md. After every refusal the lower
file is looked at: content, mode, owner, times (ctime too), links and xattrs are what they were."""
import contextlib
import fcntl
import os
import stat
import struct
import subprocess

import pytest

from harness import (ALICE, BOB, FALLOC, FICLONE, FIDEDUPERANGE, FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NODUMP_FL,
                     LOCKED, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, UTIME_NOW, UTIME_OMIT, as_user, errno_of,
                     fallocate, get_flags, link_descriptor, linkat, look, need_program, open_errno, opened, read_file,
                     renameat2, run, set_flags, set_fsxattr_flags, utimensat, write_file)

WRITING = {
    'O_WRONLY': os.O_WRONLY, 'O_RDWR': os.O_RDWR, 'O_WRONLY|O_APPEND': os.O_WRONLY | os.O_APPEND,
    'O_RDWR|O_CREAT': os.O_RDWR | os.O_CREAT, 'O_WRONLY|O_DIRECT': os.O_WRONLY | os.O_DIRECT,
}
TRUNCATING = {
    'O_RDONLY|O_TRUNC': os.O_RDONLY | os.O_TRUNC, 'O_WRONLY|O_TRUNC': os.O_WRONLY | os.O_TRUNC,
    'O_RDWR|O_TRUNC': os.O_RDWR | os.O_TRUNC, 'O_WRONLY|O_CREAT|O_TRUNC': os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
}


@contextlib.contextmanager
def untouched(*paths):
    """What is done inside changes nothing of these lower files."""
    before = [look(p) for p in paths]
    yield
    assert [look(p) for p in paths] == before


@pytest.fixture
def locked(wormfs):
    """A locked file `a` in a share: (share, path in the mount, path below)."""
    return wormfs, wormfs.lock('a', b'report\n', 0o666), wormfs.below('a')


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


# ---- T11 to T17: names --------------------------------------------------------------------------

def test_T11_unlink_is_refused_for_root_too(locked):
    share, path, below = locked
    with untouched(below):
        assert errno_of(os.unlink, path) == 'EPERM'
        assert run('rm', '-f', path, check=False).returncode != 0
    assert os.path.exists(path)


def test_T11_every_name_of_a_locked_file_is_locked(wormfs):
    os.mkdir(wormfs.at('d'))
    a, b = wormfs.at('a'), wormfs.at('d', 'b')
    write_file(a, b'')
    os.link(a, b)
    write_file(b, b'report')
    wormfs.wait_state(a, 'retained')
    with untouched(wormfs.below('a'), wormfs.below('d', 'b')):
        for path in (a, b):
            assert wormfs.shows(path) == 'retained'
            assert os.stat(path).st_nlink == 2
            assert errno_of(os.unlink, path) == 'EPERM'
            assert errno_of(os.rename, path, wormfs.at('c')) == 'EPERM'
            assert open_errno(path, os.O_WRONLY) == 'EPERM'
    assert errno_of(os.rename, wormfs.at('d'), wormfs.at('e')) == 'EPERM'    # pinned by its second name


def test_T11_rm_r_of_a_directory_leaves_the_locked_files(wormfs):
    os.makedirs(wormfs.at('d', 'e'))
    wormfs.lock('d/e/a')
    write_file(wormfs.at('d', 'empty'), b'')
    assert run('rm', '-rf', wormfs.at('d'), check=False).returncode != 0
    assert read_file(wormfs.below('d', 'e', 'a')) == b'report\n'
    assert errno_of(os.rmdir, wormfs.at('d', 'e')) == 'ENOTEMPTY'


@pytest.mark.parametrize('where', ['b', 'd/b', 'b.part'])
def test_T12_rename_away_is_refused(locked, where):
    share, path, below = locked
    os.mkdir(share.at('d'))
    with untouched(below, share.below('d')):
        assert errno_of(os.rename, path, share.at(where)) == 'EPERM'
        assert errno_of(renameat2, path, share.at(where), RENAME_NOREPLACE) == 'EPERM'
        assert not os.path.exists(share.at(where))


def test_T12_mv_to_another_filesystem_leaves_the_file(locked, tmp_path):
    share, path, below = locked
    with untouched(below):
        assert run('mv', path, tmp_path / 'stolen', check=False).returncode != 0
    assert os.path.exists(path)


@pytest.mark.parametrize('kind', ['empty file', 'staging file', 'old file', 'symbolic link', 'fifo', 'locked file'])
def test_T13_rename_onto_a_locked_file_is_refused(mount, kind):
    share = mount(start=False)
    write_file(share.below('old'), b'from before')
    share.start()
    path = share.lock('a')
    source = share.at({'staging file': 's.part', 'old file': 'old'}.get(kind, 's'))
    {'empty file': lambda: write_file(source, b''), 'staging file': lambda: write_file(source, b'new'),
     'old file': lambda: None, 'symbolic link': lambda: os.symlink('x', source), 'fifo': lambda: os.mkfifo(source),
     'locked file': lambda: share.lock('s', b'other')}[kind]()
    with untouched(share.below('a'), source.replace(share.mnt, share.lower)):
        assert errno_of(os.rename, source, path) == 'EPERM'
    assert read_file(path) == b'report\n'


def test_T13_a_directory_does_not_replace_a_locked_file(locked):
    share, path, below = locked
    os.mkdir(share.at('d'))
    with untouched(below):
        assert errno_of(os.rename, share.at('d'), path) == 'ENOTDIR'


def test_T14_EXCHANGE_is_refused_on_either_side(mount):
    share = mount(start=False)
    write_file(share.below('old'), b'from before')
    share.start()
    path = share.lock('a')
    os.mkdir(share.at('d'))
    for other in ('old', 'd'):
        with untouched(share.below('a'), share.below(other)):
            assert errno_of(renameat2, path, share.at(other), RENAME_EXCHANGE) == 'EPERM'
            assert errno_of(renameat2, share.at(other), path, RENAME_EXCHANGE) == 'EPERM'


def test_T14_NOREPLACE_and_WHITEOUT_move_no_locked_file(locked):
    share, path, below = locked
    write_file(share.at('empty'), b'')
    with untouched(below):
        assert errno_of(renameat2, share.at('empty'), path, RENAME_NOREPLACE) == 'EEXIST'
        assert errno_of(renameat2, path, share.at('b'), RENAME_NOREPLACE) == 'EPERM'
        # The whiteout flag is refused as such by some kernels; nothing may happen either way.
        assert errno_of(renameat2, path, share.at('b'), RENAME_WHITEOUT) in ('EPERM', 'EINVAL')
        assert errno_of(renameat2, share.at('empty'), path, RENAME_WHITEOUT) in ('EPERM', 'EINVAL')
        assert errno_of(renameat2, path, share.at('b'), 8) == 'EINVAL'
    assert not os.path.lexists(share.at('b')) and os.path.exists(share.at('empty'))


def test_T15_a_directory_with_a_locked_file_is_neither_exchanged_nor_replaced(wormfs):
    os.makedirs(wormfs.at('d', 'e'))
    os.mkdir(wormfs.at('free'))
    wormfs.lock('d/e/a')
    write_file(wormfs.at('empty'), b'')
    with untouched(wormfs.below('d'), wormfs.below('d', 'e'), wormfs.below('d', 'e', 'a')):
        for pinned in ('d', 'd/e'):
            for other in ('free', 'empty'):
                assert errno_of(renameat2, wormfs.at(pinned), wormfs.at(other), RENAME_EXCHANGE) == 'EPERM'
                assert errno_of(renameat2, wormfs.at(other), wormfs.at(pinned), RENAME_EXCHANGE) == 'EPERM'
            assert errno_of(os.rename, wormfs.at('free'), wormfs.at(pinned)) in ('ENOTEMPTY', 'EPERM')


def test_T16_no_directory_above_a_locked_file_is_renamed(wormfs):
    os.makedirs(wormfs.at('d', 'e', 'f'))
    os.makedirs(wormfs.at('other'))
    wormfs.lock('d/e/f/a')
    for pinned in ('d/e/f', 'd/e', 'd'):
        assert wormfs.shows(pinned) == 'pinned'
        with untouched(wormfs.below('d', 'e', 'f', 'a'), wormfs.below(pinned)):
            for target in ('moved', 'other/moved', 'other'):
                assert (pinned, target, errno_of(os.rename, wormfs.at(pinned), wormfs.at(target))) \
                    == (pinned, target, 'EPERM')
    assert read_file(wormfs.at('d', 'e', 'f', 'a')) == b'report\n'


def test_T16_directories_without_a_locked_file_are_renamed_as_ever(wormfs):
    os.makedirs(wormfs.at('d', 'e'))
    os.makedirs(wormfs.at('sibling', 'deep'))
    write_file(wormfs.at('sibling', 'empty'), b'')
    write_file(wormfs.at('sibling', 'x.part'), b'staging')
    wormfs.lock('d/e/a')
    os.rename(wormfs.at('sibling'), wormfs.at('d', 'sibling'))      # into a pinned one
    os.rename(wormfs.at('d', 'sibling'), wormfs.at('back'))         # and out again
    os.rename(wormfs.at('back'), wormfs.at('sibling2'))
    assert sorted(os.listdir(wormfs.below('sibling2'))) == ['deep', 'empty', 'x.part']
    assert wormfs.shows('sibling2') == 'open'


def test_T16_the_pin_holds_after_a_remount_and_after_SIGKILL(wormfs):
    os.makedirs(wormfs.at('d', 'e'))
    wormfs.lock('d/e/a')
    wormfs.remount()
    assert errno_of(os.rename, wormfs.at('d'), wormfs.at('x')) == 'EPERM'
    wormfs.kill9()
    wormfs.start()
    assert errno_of(os.rename, wormfs.at('d'), wormfs.at('x')) == 'EPERM'
    assert errno_of(os.rename, wormfs.at('d/e'), wormfs.at('x')) == 'EPERM'


def test_T16_a_file_moved_into_a_directory_before_it_was_locked_pins_that_one(wormfs):
    os.mkdir(wormfs.at('old'))
    os.mkdir(wormfs.at('new'))
    with opened(wormfs.at('old', 'a'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'report')
        os.rename(wormfs.at('old', 'a'), wormfs.at('new', 'a'))
    wormfs.wait_state('new/a', 'retained')
    assert errno_of(os.rename, wormfs.at('new'), wormfs.at('x')) == 'EPERM'
    os.rename(wormfs.at('old'), wormfs.at('x'))


def test_T16_a_directory_renamed_while_its_file_is_written_is_pinned_at_its_new_place(wormfs):
    os.makedirs(wormfs.at('d', 'e'))
    os.mkdir(wormfs.at('top'))
    with opened(wormfs.at('d', 'e', 'a'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'report')
        os.rename(wormfs.at('d'), wormfs.at('top', 'd'))
    wormfs.wait_state('top/d/e/a', 'retained')
    for pinned in ('top', 'top/d', 'top/d/e'):
        assert (pinned, errno_of(os.rename, wormfs.at(pinned), wormfs.at('x'))) == (pinned, 'EPERM')


def test_T17_no_new_name_for_a_locked_file(locked):
    share, path, below = locked
    os.mkdir(share.at('d'))
    with untouched(below):
        assert errno_of(os.link, path, share.at('b')) == 'EPERM'
        assert errno_of(os.link, path, share.at('d', 'b')) == 'EPERM'
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(link_descriptor, fd, share.at('b')) == 'EPERM'
            assert errno_of(linkat, fd, '', share.at('b'), 0x1000) == 'EPERM'
    assert sorted(os.listdir(share.lower)) == ['a', 'd']


def test_T17_a_symbolic_link_to_a_locked_file_opens_no_door(locked):
    share, path, below = locked
    os.symlink('a', share.at('s'))
    with untouched(below):
        assert open_errno(share.at('s'), os.O_WRONLY) == 'EPERM'
        assert errno_of(os.truncate, share.at('s'), 0) == 'EPERM'
    os.unlink(share.at('s'))


# ---- T18: attributes ----------------------------------------------------------------------------

@pytest.mark.parametrize('mode', [0o777, 0o667, 0o4666, 0o2666, 0o1666, 0o400 | 0o1000, 0o266, 0o464 | 0o100])
def test_T18_chmod_that_gives_rights_is_refused(locked, mode):
    share, path, below = locked
    with untouched(below):
        assert errno_of(os.chmod, path, mode) == 'EPERM'
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(os.fchmod, fd, mode) == 'EPERM'


@pytest.mark.parametrize('mode', [0o666, 0o644, 0o444, 0o664])
def test_T18_chmod_that_only_removes_write_bits_is_answered_and_changes_nothing(locked, mode):
    share, path, below = locked
    with untouched(below):
        assert errno_of(os.chmod, path, mode) == 'OK'
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


def test_T18_chown_is_refused(locked):
    share, path, below = locked
    with untouched(below):
        for uid, gid in ((ALICE, -1), (-1, ALICE), (ALICE, ALICE), (0, 0)):
            assert (uid, gid, errno_of(os.chown, path, uid, gid)) == (uid, gid, 'EPERM')


def test_T18_times_are_refused(locked):
    share, path, below = locked
    now, omit, date = (0, UTIME_NOW), (0, UTIME_OMIT), (1000000000, 1)
    with untouched(below):
        for times in ((date, date), (now, now), (omit, date), (date, omit), (omit, now), (now, omit)):
            assert (times, errno_of(utimensat, path, *times)) == (times, 'EPERM')
        assert run('touch', path, check=False).returncode != 0
        atime = os.stat(below).st_atime_ns
        assert errno_of(utimensat, path, date, omit) == 'EPERM'
        assert os.stat(below).st_atime_ns == atime


def test_T18_xattrs_are_neither_set_replaced_nor_removed(wormfs):
    path = wormfs.at('a')
    with opened(path, os.O_CREAT | os.O_WRONLY) as fd:
        os.setxattr(fd, 'user.kept', b'value')
        os.write(fd, b'report')
    wormfs.wait_state(path, 'retained')
    with untouched(wormfs.below('a')):
        for name in ('user.kept', 'user.new', 'trusted.new', 'security.new'):
            assert (name, errno_of(os.setxattr, path, name, b'x')) == (name, 'EPERM')
        assert errno_of(os.removexattr, path, 'user.kept') == 'EPERM'
        assert errno_of(os.removexattr, path, 'user.absent') in ('EPERM', 'ENODATA')
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(os.setxattr, fd, 'user.new', b'x') == 'EPERM'
    assert os.getxattr(path, 'user.kept') == b'value'


def test_T18_the_record_itself_is_neither_seen_nor_touched_through_the_mount(locked):
    share, path, below = locked
    assert os.listxattr(path) == []
    record = [n for n in os.listxattr(below) if 'wormfs' in n]
    assert record, 'there is no record on the lower file'
    with untouched(below):
        for name in record:
            assert errno_of(os.getxattr, path, name) in ('ENODATA', 'EPERM')
            assert errno_of(os.setxattr, path, name, b'') == 'EPERM'
            assert errno_of(os.removexattr, path, name) in ('EPERM', 'ENODATA')


def test_T18_a_forged_record_cannot_be_set_on_an_open_file(wormfs):
    write_file(wormfs.at('a'), b'')
    for name in ('trusted.wormfs', 'user.wormfs', 'trusted.wormfs.pin', 'trusted.wormfs.share'):
        assert (name, errno_of(os.setxattr, wormfs.at('a'), name, b'x' * 64)) == (name, 'EPERM')
        assert (name, errno_of(os.setxattr, wormfs.mnt, name, b'x' * 64)) == (name, 'EPERM')
    assert os.listxattr(wormfs.below('a')) == []


def test_T18_an_ACL_is_refused(locked):
    setfacl = need_program('setfacl')
    share, path, below = locked
    with untouched(below):
        assert run(setfacl, '-m', 'u:%d:rwx' % BOB, path, check=False).returncode != 0
        assert run(setfacl, '-b', path, check=False).returncode in (0, 1)     # nothing to remove: no call at all
    acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in (
        (1, 7, 0xffffffff), (2, 7, BOB), (4, 6, 0xffffffff), (0x10, 7, 0xffffffff), (0x20, 6, 0xffffffff)))
    with untouched(below):
        assert errno_of(os.setxattr, path, 'system.posix_acl_access', acl) == 'EPERM'


def test_T18_an_ACL_from_before_the_lock_stays(wormfs):
    setfacl = need_program('setfacl')
    path = wormfs.at('a')
    write_file(path, b'')
    run(setfacl, '-m', 'u:%d:rw' % BOB, path)
    write_file(path, b'report')
    wormfs.wait_state(path, 'retained')
    with untouched(wormfs.below('a')):
        assert run(setfacl, '-b', path, check=False).returncode != 0
        assert run(setfacl, '-x', 'u:%d' % BOB, path, check=False).returncode != 0
        assert as_user(BOB, open_errno, path, os.O_WRONLY) == 'EPERM'


# ---- T19 to T22: side doors ---------------------------------------------------------------------

@pytest.mark.parametrize('mode', FALLOC)
def test_T19_fallocate_reaches_no_locked_file(locked, mode):
    share, path, below = locked

    def go(flags):
        with opened(path, flags) as fd:
            fallocate(fd, FALLOC[mode], 0, 4096)
    with untouched(below):
        assert errno_of(go, os.O_RDWR) == 'EPERM'
        assert errno_of(go, os.O_RDONLY) in ('EBADF', 'EOPNOTSUPP')     # the second: a mode that FUSE lacks


def test_T20_copy_file_range_copies_from_a_locked_file_and_never_into_one(locked):
    share, path, below = locked
    with untouched(below):
        with opened(path, os.O_RDONLY) as source:
            with opened(share.at('copy'), os.O_CREAT | os.O_WRONLY) as target:
                assert os.copy_file_range(source, target, 7) == 7
            with opened(share.at('copy'), os.O_RDONLY) as other:
                assert errno_of(os.copy_file_range, other, source, 3, 0, 0) == 'EBADF'
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
    share.wait_state('copy', 'retained')
    assert read_file(share.below('copy')) == b'report\n'
    assert open_errno(share.at('copy'), os.O_WRONLY) == 'EPERM'


@pytest.mark.parametrize('base', ['ext4', 'xfs', 'btrfs'])
def test_T21_neither_FICLONE_nor_deduplication_changes_a_locked_file(mount, base):
    share = mount(base=base)
    data = b'a' * 65536
    path = share.lock('a', data)
    share.lock('same', data)
    share.lock('other', b'b' * 65536)
    with untouched(share.below('a')):
        with opened(path, os.O_RDONLY) as target:
            for name in ('same', 'other'):
                with opened(share.at(name), os.O_RDONLY) as source:
                    assert errno_of(fcntl.ioctl, target, FICLONE, source) != 'OK'
                    request = bytearray(struct.pack('QQHHI', 0, 65536, 1, 0, 0) + struct.pack('qQQiI', target, 0, 0, 0, 0))
                    result = errno_of(fcntl.ioctl, source, FIDEDUPERANGE, request, True)
                    status = struct.unpack_from('i', request, 24 + 24)[0]
                    assert result != 'OK' or status < 0
    assert read_file(share.below('a')) == data


def test_T22_lsattr_shows_a_locked_file_as_immutable_and_chattr_does_not_change_that(locked):
    share, path, below = locked
    assert get_flags(path) & FS_IMMUTABLE_FL
    with untouched(below):
        for flags in (0, FS_APPEND_FL, FS_NODUMP_FL, FS_NODUMP_FL | FS_APPEND_FL):
            assert (flags, errno_of(set_flags, path, flags)) == (flags, 'EPERM')
        assert errno_of(set_flags, path, FS_IMMUTABLE_FL) == 'OK'       # is so already
    assert get_flags(path) & FS_IMMUTABLE_FL
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


def test_T22_chattr_minus_i_and_plus_a_fail_for_root(locked):
    chattr = need_program('chattr')
    share, path, below = locked
    with untouched(below):
        assert run(chattr, '-i', path, check=False).returncode != 0
        run(chattr, '+a', path, check=False)        # i stays set: whether it complains is its own affair
    assert get_flags(path) & FS_IMMUTABLE_FL
    assert open_errno(path, os.O_WRONLY | os.O_APPEND) == 'EPERM'


def test_T22_the_other_ioctls_reach_no_locked_file(locked):
    share, path, below = locked
    with untouched(below):
        assert errno_of(set_fsxattr_flags, path, 0) in ('EPERM', 'ENOTTY')
        with opened(path, os.O_RDONLY) as fd:
            for name, number in {'FS_IOC_ENABLE_VERITY': 0x40806685, 'FS_IOC_SETVERSION': 0x40087602,
                                 'EXT4_IOC_MOVE_EXT': 0xc028660f, 'EXT4_IOC_SWAP_BOOT': 0x6611,
                                 'FS_IOC_SET_ENCRYPTION_POLICY': 0x800c6613}.items():
                buffer = bytearray(256)
                assert (name, errno_of(fcntl.ioctl, fd, number, buffer)) in ((name, 'ENOTTY'), (name, 'EPERM'))


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
