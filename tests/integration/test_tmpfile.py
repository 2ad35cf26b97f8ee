"""T24: files that have no name at first, O_TMPFILE and linkat."""
import os
import stat

import pytest

from harness import ALICE, as_user, errno_of, link_descriptor, look, open_errno, opened, read_file, wait_for


def test_T24_a_nameless_file_gets_a_name_before_its_close_and_is_locked_by_it(wormfs):
    with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'report')
        link_descriptor(fd, wormfs.at('a'))
        os.write(fd, b' more')
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'EPERM'
    wormfs.wait_state('a', 'retained')
    assert read_file(wormfs.below('a')) == b'report more'
    wormfs.kill9()
    wormfs.start()
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'EPERM'


def test_T24_a_nameless_file_that_gets_no_name_leaves_nothing(wormfs):
    for n in range(20):
        with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
            os.write(fd, b'x' * 10000)
    assert os.listdir(wormfs.lower) == []
    wait_for('the writers to be gone', lambda: wormfs.info()['writers'] == 0)
    wormfs.must('sync')
    assert wormfs.problems() == []
    wormfs.remount()
    assert wormfs.listed() == {}


def test_T24_a_nameless_file_whose_duplicate_was_closed_is_not_hidden_from_its_name(wormfs):
    """Programs that fork close a duplicate: the file has no name yet, so there is nothing to lock; the name
    must still be possible and the last close must lock."""
    with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'report')
        os.close(os.dup(fd))
        assert errno_of(link_descriptor, fd, wormfs.at('a')) == 'OK'
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'EPERM'
    wormfs.wait_state('a', 'retained')


def test_T24_with_O_EXCL_it_never_gets_a_name(wormfs):
    with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR | os.O_EXCL) as fd:
        os.write(fd, b'x')
        assert errno_of(link_descriptor, fd, wormfs.at('a')) == 'ENOENT'
    assert os.listdir(wormfs.lower) == []


def test_T24_a_name_does_not_replace_a_locked_file(wormfs):
    wormfs.lock('a')
    before = look(wormfs.below('a'))
    with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'forged')
        assert errno_of(link_descriptor, fd, wormfs.at('a')) == 'EEXIST'
    assert look(wormfs.below('a')) == before


def test_T24_named_as_staging_it_waits_for_its_rename(wormfs):
    with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'report')
        link_descriptor(fd, wormfs.at('a.part'))
    wait_for('the writer to be gone', lambda: wormfs.info()['writers'] == 0)
    assert wormfs.shows('a.part') == 'staging'
    os.rename(wormfs.at('a.part'), wormfs.at('a'))
    wormfs.wait_state('a', 'retained')


def test_T24_an_empty_one_stays_open(wormfs):
    with opened(wormfs.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        link_descriptor(fd, wormfs.at('a'))
    assert wormfs.shows('a') == 'open'
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'OK'


@pytest.mark.parametrize('umask', [0o022, 0o077, 0])
def test_T24_owner_and_mode_are_the_callers(plain_share, umask):
    def go():
        with opened(plain_share.mnt, os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
            st = os.fstat(fd)
            link_descriptor(fd, plain_share.at('t%o' % umask))
            return st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), st.st_nlink
    assert as_user(ALICE, go, umask=umask) == (ALICE, ALICE, 0o666 & ~umask, 0)
    st = os.stat(plain_share.below('t%o' % umask))
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (ALICE, ALICE, 0o666 & ~umask)
