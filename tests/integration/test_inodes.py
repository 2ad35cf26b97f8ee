"""Files that were only looked at: the daemon keeps their names, and gets a handle when it needs one."""
import os
import threading

import pytest

from harness import errno_of, look, read_file, renameat2, write_file

RENAME_EXCHANGE = 2


@pytest.fixture
def known(wormfs):
    """A tree that was there before the mount: the daemon has looked names up, and nothing more."""
    wormfs.stop()
    os.makedirs(wormfs.below('d/e'))
    for name in ('a', 'b', 'd/c', 'd/e/f'):
        write_file(wormfs.below(name), name.encode())
    os.link(wormfs.below('a'), wormfs.below('d/a2'))
    wormfs.start()
    for name in ('a', 'b', 'd/c', 'd/e/f', 'd/a2'):
        os.stat(wormfs.at(name))
    return wormfs


def same(share, above, below):
    there, here = os.stat(share.at(above)), os.stat(share.below(below))
    assert (there.st_ino, there.st_size, there.st_nlink) == (here.st_ino, here.st_size, here.st_nlink)
    assert read_file(share.at(above)) == read_file(share.below(below))


def test_a_file_that_was_only_looked_at_is_found_after_its_rename_and_that_of_its_directories(known):
    fd = os.open(known.at('d/c'), os.O_PATH)
    os.rename(known.at('d/c'), known.at('c2'))
    os.rename(known.at('d'), known.at('d2'))
    same(known, 'c2', 'c2')
    same(known, 'd2/e/f', 'd2/e/f')
    assert os.fstat(fd).st_ino == os.stat(known.below('c2')).st_ino
    os.close(fd)


def test_exchanged_files_that_were_only_looked_at_keep_who_they_are(known):
    a, b = os.open(known.at('b'), os.O_PATH), os.open(known.at('d/c'), os.O_PATH)
    renameat2(known.at('b'), known.at('d/c'), RENAME_EXCHANGE)
    same(known, 'b', 'b')
    same(known, 'd/c', 'd/c')
    assert os.fstat(a).st_ino == os.stat(known.below('d/c')).st_ino
    assert os.fstat(b).st_ino == os.stat(known.below('b')).st_ino
    os.close(a)
    os.close(b)


def test_the_other_name_of_a_file_is_found_when_the_first_is_gone_or_replaced(known):
    fd = os.open(known.at('a'), os.O_PATH)
    os.unlink(known.at('a'))
    write_file(known.at('new'), b'another')
    assert os.fstat(fd).st_nlink == 1
    same(known, 'd/a2', 'd/a2')
    os.close(fd)


def test_what_replaces_a_file_is_never_taken_for_it(known):
    with open(known.at('b'), 'rb') as old:
        write_file(known.at('b.part'), b'newer')
        os.rename(known.at('b.part'), known.at('b'))
        assert old.read() == b'b'
        assert os.fstat(old.fileno()).st_nlink == 0
        assert os.fstat(old.fileno()).st_ino != os.stat(known.at('b')).st_ino
    assert read_file(known.at('b')) == b'newer'


def test_a_directory_that_was_only_looked_at_can_be_removed_and_made_again(known):
    os.mkdir(known.below('x'))
    os.stat(known.at('x'))
    os.rmdir(known.at('x'))
    os.mkdir(known.at('x'))
    write_file(known.at('x/y'))
    assert look(known.below('x/y'))
    assert errno_of(os.rmdir, known.at('x')) == 'ENOTEMPTY'


def test_names_that_move_while_others_look_at_them_lead_to_their_own_files(known):
    names = ['n%d' % i for i in range(20)]
    of = {}
    for n in names:
        with open(known.below(n), 'wb') as f:
            f.write(n.encode())
        of[os.stat(known.below(n)).st_ino] = n.encode()
    wrong, stop = [], threading.Event()

    def opener():
        while not stop.is_set():
            for n in names:
                with open(known.at(n), 'rb') as f:
                    if of[os.fstat(f.fileno()).st_ino] != f.read():
                        wrong.append(n)

    def looker():
        while not stop.is_set():
            for n in names:
                if os.lstat(known.at(n)).st_ino not in of:
                    wrong.append(n)

    threads = [threading.Thread(target=t) for t in (looker, opener)]
    for t in threads:
        t.start()
    for i in range(400):
        renameat2(known.at(names[i % 20]), known.at(names[(i * 7 + 1) % 20]), RENAME_EXCHANGE)
        # Other files come and go beside them, and take the numbers that become free.
        write_file(known.at('t.part'), b'x')
        os.unlink(known.at('t.part'))
        if i % 20 == 0 and os.geteuid() == 0:
            with open('/proc/sys/vm/drop_caches', 'w') as f:
                f.write('2')        # what was looked at is forgotten, here and in the daemon
    stop.set()
    for t in threads:
        t.join()
    assert wrong == []


def test_what_replaces_a_symbolic_link_is_never_taken_for_it(known):
    os.symlink('one', known.below('s'))
    fd = os.open(known.at('s'), os.O_PATH | os.O_NOFOLLOW)
    old = os.lstat(known.at('s')).st_ino
    os.rename(known.at('s'), known.at('moved'))
    assert os.fstat(fd).st_ino == old
    os.unlink(known.at('moved'))
    os.mkdir(known.at('filler'))  # takes the number
    os.symlink('another', known.at('moved'))
    shown = errno_of(os.fstat, fd)
    os.close(fd)
    assert shown in ('ESTALE', 'EIO')  # nobody below holds it any more
    assert os.readlink(known.at('moved')) == 'another'
