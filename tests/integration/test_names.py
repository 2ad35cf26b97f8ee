"""T51: names of any bytes, of 255 bytes, below PATH_MAX, and what only looks like the same path."""
import errno
import json
import os

import pytest

from harness import WORMCTL, Control, errno_of, in_child, open_errno, read_file, run, wait_for, write_file

ODD = [b'new\nline', b'\xff\xfe not UTF-8', b'tab\there', b'100%', b'%41', b'a b', b' leading', b'trailing ', b'"quoted"',
       b"it's", b'back\\slash', b'$HOME', b'*', b'?', b'-rf', b'\x01\x02\x7f', 'äöü€'.encode(), b'...', b'a:b', b'a,b', b'{}',
       b'\xed\xa0\x80', b'[x]', b';', b'#', b'~', b'x' * 255, b'\xc3\xa4' * 127]


@pytest.fixture
def odd(wormfs):
    for n, name in enumerate(ODD):
        path = os.path.join(wormfs.mnt.encode(), name)
        write_file(path, b'%d' % n)
        wait_for('the lock', lambda p=path: os.getxattr(p, 'user.worm.state') == b'retained')
    return wormfs


def test_T51_a_file_of_any_name_is_locked_also_after_SIGKILL(odd):
    for again in range(2):
        for n, name in enumerate(ODD):
            path = os.path.join(odd.mnt.encode(), name)
            assert read_file(path) == b'%d' % n
            assert (name, open_errno(path, os.O_WRONLY)) == (name, 'EPERM')
            assert (name, errno_of(os.unlink, path)) == (name, 'EPERM')
            assert (name, errno_of(os.rename, path, path[:-1] + b'_')) == (name, 'EPERM')
        if not again:
            odd.kill9()
            odd.start()
    assert sorted(os.listdir(odd.lower.encode())) == sorted(ODD)


def test_T51_a_directory_of_any_name_is_pinned(wormfs):
    for name in ODD:
        d = os.path.join(wormfs.mnt.encode(), name)
        os.mkdir(d)
        write_file(d + b'/a', b'x')
        wait_for('the lock', lambda p=d: os.getxattr(p + b'/a', 'user.worm.state') == b'retained')
        assert (name, errno_of(os.rename, d, os.path.join(wormfs.mnt.encode(), b'moved'))) == (name, 'EPERM')
        assert os.getxattr(d, 'user.worm.state') == b'pinned'


def test_T51_every_name_is_listed_as_it_is_and_found_by_it(odd):
    rows = odd.listed()
    assert len(rows) == len(ODD)
    for n, name in enumerate(ODD):
        odd.must('hold', name, case='case-%d' % n)
        assert os.getxattr(os.path.join(odd.mnt.encode(), name), 'user.worm.holds') == b'case-%d' % n
        assert odd.must('explain', name)['file']['holds'] == ['case-%d' % n]
    assert sorted(h for row in odd.listed().values() for h in row['holds']) == sorted('case-%d' % n for n in range(len(ODD)))


def test_T51_a_and_a1_are_different_names(wormfs):
    os.mkdir(wormfs.at('a'))
    os.mkdir(wormfs.at('a1'))
    os.mkdir(wormfs.at('a.b'))
    wormfs.lock('a1/x')
    wormfs.lock('a.b/x')
    os.rename(wormfs.at('a'), wormfs.at('renamed'))
    for pinned in ('a1', 'a.b'):
        assert errno_of(os.rename, wormfs.at(pinned), wormfs.at('other')) == 'EPERM'
    os.mkdir(wormfs.at('a'))
    wormfs.lock('a/x')
    p = wormfs.ctl('list', '--json', wormfs.at('a'), check=False)
    if p.returncode == 0:
        assert 'a/x' in p.out and 'a1/x' not in p.out and 'a.b/x' not in p.out


@pytest.mark.parametrize('path', ['/a', 'a/', '//a', 'd//b', './a', 'd/./b', 'd/../a', '..', '.', '../outside', 'a/../../outside',
                                  'a/b', '/', 'a\0b'])
def test_T51_a_path_that_is_not_plain_reaches_no_file(wormfs, path):
    wormfs.lock('a')
    os.mkdir(wormfs.at('d'))
    wormfs.lock('d/b')
    write_file(os.path.join(wormfs.dir, 'outside'), b'x')
    for verb, keys in (('hold', {'case': 'x'}), ('explain', {}), ('commit', {}), ('extend', {'until': '1d'})):
        got = wormfs.refused(verb, path, **keys)
        assert (verb, got) in ((verb, 'EINVAL'), (verb, 'ENOTDIR'), (verb, 'ENOENT'))
    assert (wormfs.shows('a', 'holds'), wormfs.shows('d/b', 'holds')) == ('', '')


def test_T51_a_control_path_does_not_follow_symbolic_links_out_of_the_share(wormfs):
    outside = os.path.join(wormfs.dir, 'outside')
    os.mkdir(outside)
    write_file(outside + '/a', b'x')
    os.symlink(outside, wormfs.at('link'))
    os.symlink(outside + '/a', wormfs.at('file'))
    for path in ('link/a', 'file'):
        assert wormfs.refused('commit', path) in ('ENOTDIR', 'EINVAL', 'ELOOP', 'EXDEV', 'ENOENT')
    assert os.listxattr(outside + '/a') == []
    write_file(outside + '/a', b'y')


def test_T51_bad_escapes_in_a_control_path_are_EINVAL(wormfs):
    wormfs.lock('a')
    for path in ('%', '%4', '%zz', '%00', 'a%', 'a%2', '%2Fa', '%2e%2e', 'a%00b'):
        with Control(wormfs) as c:
            c.send(json.dumps({'verb': 'commit', 'path': path}).encode() + b'\n')
            answer = json.loads(c.line())
        assert (path, answer.get('errno')) in ((path, 'EINVAL'), (path, 'ENOENT'), (path, 'ENOTDIR'))


def test_T51_a_name_of_256_bytes_is_refused_and_one_of_255_is_not(wormfs):
    assert errno_of(write_file, wormfs.at('x' * 256)) == 'ENAMETOOLONG'
    wormfs.lock('x' * 255)
    assert os.listdir(wormfs.lower) == ['x' * 255]


def test_T51_files_far_below_PATH_MAX_are_locked_also_after_SIGKILL(wormfs):
    """Forty directories of 200 bytes: no single path reaches the file, only steps of chdir do."""
    levels = 40

    def down(make):
        os.chdir(wormfs.mnt)
        for n in range(levels):
            name = ('%02d' % n) + 'x' * 198
            if make:
                os.mkdir(name)
            os.chdir(name)

    def make():
        down(True)
        write_file('a', b'report')
        return [open_errno('a', os.O_WRONLY), errno_of(os.unlink, 'a'), errno_of(os.rename, '../' + '39' + 'x' * 198, '../y')]

    def again():
        down(False)
        return [open_errno('a', os.O_WRONLY), errno_of(os.unlink, 'a'), read_file('a').decode(),
                os.getxattr('a', 'user.worm.state').decode()]
    assert in_child(make) == ['EPERM', 'EPERM', 'EPERM']
    assert in_child(again)[:3] == ['EPERM', 'EPERM', 'report']
    assert errno_of(os.rename, wormfs.at('00' + 'x' * 198), wormfs.at('y')) == 'EPERM'
    wormfs.kill9()
    wormfs.start()
    assert in_child(again) == ['EPERM', 'EPERM', 'report', 'retained']
    assert errno_of(os.rename, wormfs.at('00' + 'x' * 198), wormfs.at('y')) == 'EPERM'
    assert wormfs.must('reindex')['stats']['locked'] == 1


def test_T51_the_root_of_the_share_itself(wormfs):
    wormfs.lock('a')
    assert wormfs.shows(wormfs.mnt) in ('pinned', 'open')
    assert errno_of(os.rmdir, wormfs.mnt) == 'EBUSY'
    assert wormfs.refused('hold', '', case='x') == 'EINVAL'
    assert wormfs.refused('commit', '') in ('EINVAL', 'EISDIR')


# ---- a file that was only looked at, and whose name goes to another --------------------------------------

def only_looked_at(share, name):
    """A descriptor that the daemon hears nothing of but a look-up: no handle of the file is known yet."""
    return os.open(share.at(name), os.O_PATH)


def seen(what, fd):
    """What he gets who looks through his descriptor: nothing, or that it is gone, and never what has the name now."""
    try:
        return what('/proc/self/fd/%d' % fd)
    except OSError as e:
        assert e.errno in (errno.ESTALE, errno.ENOENT), e
        return None


@pytest.mark.parametrize('how', ['unlink', 'rename'])
def test_who_has_a_file_whose_name_another_takes_does_not_get_that(mount, how):
    share = mount('commit=explicit,audit=off')		# a line of the log would ask for its handle
    os.mknod(share.at('a'), 0o600)
    write_file(share.at('new'), b'another', 0o644)
    fd = only_looked_at(share, 'a')
    try:
        if how == 'unlink':
            os.unlink(share.at('a'))
        os.rename(share.at('new'), share.at('a'))
        assert seen(read_file, fd) in (b'', None)
        assert seen(lambda p: os.chmod(p, 0o777), fd) is None
        st = os.stat(share.below('a'))
        assert (st.st_mode & 0o777, st.st_size) == (0o644, 7) and read_file(share.at('a')) == b'another'
    finally:
        os.close(fd)


def test_who_has_a_directory_whose_name_another_takes_does_not_get_that(mount):
    share = mount('commit=explicit,audit=off')
    os.mkdir(share.at('d'), 0o700)
    os.mkdir(share.at('new'), 0o755)
    write_file(share.at('new/f'), b'another')
    fd = only_looked_at(share, 'd')
    try:
        os.rmdir(share.at('d'))
        os.rename(share.at('new'), share.at('d'))
        assert seen(lambda p: os.chmod(p, 0o777), fd) is None
        assert seen(lambda p: os.stat(p + '/f'), fd) is None
        assert os.stat(share.below('d')).st_mode & 0o777 == 0o755
    finally:
        os.close(fd)


@pytest.mark.parametrize('taken', [False, True])
def test_a_staging_file_from_before_is_locked_as_itself_by_its_rename(mount, taken):
    """It was opened by its old name only, so no handle of it is known when it gets the new one and is locked."""
    share = mount('audit=off,digest=off')
    write_file(share.below('a.part'), b'report')
    if taken:
        write_file(share.below('a'), b'old one')
    assert read_file(share.at('a.part')) == b'report'
    os.rename(share.at('a.part'), share.at('a'))
    assert read_file(share.at('a')) == b'report' and open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
    assert share.shows('a') == 'retained'
    share.stop()
    share.start()
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
    assert share.must('reindex')['stats']['locked'] == 1
    run(WORMCTL, 'verify', share.share)
