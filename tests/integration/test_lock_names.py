"""The names of a locked file and the directories above it: T11 to T17 of facts/worm-semantics.md. lock_harness.py says how a
refusal is looked at."""
import os

import pytest

from harness import (RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, errno_of, link_descriptor, linkat, open_errno, opened, read_file,
                     renameat2, run, write_file)
from lock_harness import locked, untouched		# noqa: F401


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
