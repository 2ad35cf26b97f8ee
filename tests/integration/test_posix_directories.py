"""POSIX without exception: directories that are read, changed and deleted at once. posix_harness.py says how it is compared."""
import json
import os

import pytest

from harness import FILES, errno_of, opened, read_file, run, scaled, tool, write_file


def test_a_directory_deleted_while_open_is_empty(pair):
    def go(d):
        os.mkdir(d + '/d')
        with opened(d + '/d', os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.rmdir(d + '/d')
            return os.listdir(fd), os.fstat(fd).st_nlink, errno_of(os.stat, d + '/d'), \
                errno_of(os.mkdir, '/proc/self/fd/%d/x' % fd)
    pair.same(go)


@pytest.mark.timeout(600)
def test_a_directory_of_a_hundred_thousand_names_is_read_whole_and_seekable(plain_share):
    n = scaled(FILES)
    os.mkdir(plain_share.at('big'))
    run(tool('mkfiles'), plain_share.below('big'), n, 0)
    out = json.loads(run(tool('dirwalk'), plain_share.at('big'), timeout=300).out)
    assert (out['names'], out['duplicates'], out['seek_errors'], out['after_rewind']) == (n + 2, 0, 0, n + 2)
    assert out['seeks'] > n / 100


@pytest.mark.parametrize('base', ['xfs', 'btrfs', 'tmpfs'])
def test_directories_are_seekable_on_other_filesystems_too(mount, base):
    share = mount('commit=never', base=base)
    run(tool('mkfiles'), share.below(), 3000, 0)
    out = json.loads(run(tool('dirwalk'), share.mnt).out)
    assert (out['names'], out['duplicates'], out['seek_errors'], out['after_rewind']) == (3002, 0, 0, 3002)


def test_reading_a_directory_while_it_changes_shows_what_stays_exactly_once(pair):
    def go(d):
        stay = {'stay%d' % n for n in range(2000)}
        for name in stay:
            write_file(d + '/' + name, b'')
        for n in range(500):
            write_file(d + '/go%d' % n, b'')
        seen = []
        with os.scandir(d) as entries:
            for k, e in enumerate(entries):
                seen.append(e.name)
                if k % 5 == 0 and k // 5 < 500:
                    os.unlink(d + '/go%d' % (k // 5))
                    write_file(d + '/new%d' % k, b'')
        kept = [s for s in seen if s.startswith('stay')]
        return len(kept) == len(set(kept)), set(kept) == stay
    assert pair.same(go) == (True, True)


def test_rm_r_deletes_a_tree_while_it_reads_it(pair):
    run(tool('mkfiles'), pair.mnt, 5000, 0, 500)
    run('rm', '-rf', *[pair.mnt + '/d%d' % n for n in range(10)])
    assert os.listdir(pair.lower) == []


def test_dot_and_dotdot_have_the_right_inodes(pair):
    def go(d):
        os.makedirs(d + '/a/b')
        out = run('ls', '-ai', d + '/a/b').out.split()
        return int(out[0]) == os.stat(d + '/a/b').st_ino, int(out[2]) == os.stat(d + '/a').st_ino, os.path.samefile(d + '/a/b/..', d + '/a')
    assert pair.same(go)[2] is True


def test_eight_processes_making_renaming_and_deleting_at_once_leave_what_they_should(pair):
    children = []
    for c in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                d = '%s/c%d' % (pair.mnt, c)
                os.mkdir(d)
                for n in range(150):
                    write_file('%s/t%d' % (d, n), b'%d-%d' % (c, n))
                    os.rename('%s/t%d' % (d, n), '%s/shared-%d-%d' % (pair.mnt, c, n))
                    os.link('%s/shared-%d-%d' % (pair.mnt, c, n), '%s/l%d' % (d, n))
                    assert read_file('%s/l%d' % (d, n)) == b'%d-%d' % (c, n)
                    if n % 2:
                        os.unlink('%s/shared-%d-%d' % (pair.mnt, c, n))
                    os.rename('%s/l%d' % (d, n), '%s/common' % pair.mnt)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(c, 0)[1] for c in children] == [0] * 8
    names = os.listdir(pair.lower)
    assert sorted(n for n in names if n.startswith('shared')) == sorted('shared-%d-%d' % (c, n) for c in range(8) for n in range(0, 150, 2))
    assert sorted(os.listdir(pair.mnt)) == sorted(names)
