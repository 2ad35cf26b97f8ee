"""Programs that write under a name of their own and rename it (T23, T39), and staging names."""
import functools
import http.server
import os
import threading

import pytest

from harness import DAY, errno_of, look, need_program, open_errno, opened, read_file, run, wait_for, write_file

PATTERNS = ['.a.Xy12Zz', 'a.part', 'a.partial', 'a.filepart', 'a.crdownload', '.a.swp', '.a.swo', '~$a.docx', '.~lock.a.odt#',
            '.nfs0000000000000001']


@pytest.fixture
def tree(tmp_path):
    """A small tree of files outside, with times of its own."""
    for name, data in {'a': b'report\n', 'sub/b': b'x' * 100000, 'sub/deep/c': b'y'}.items():
        path = tmp_path / 'tree' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1500000000, 1500000001))
    return tmp_path / 'tree'


FILES = ('a', 'sub/b', 'sub/deep/c')


def assert_arrived(share, tree, prefix='', times=True):
    for name in FILES:
        path = os.path.join(prefix, name)
        share.wait_state(path, 'retained')
        assert open_errno(share.at(path), os.O_WRONLY) == 'EPERM'
        assert read_file(share.below(path)) == (tree / name).read_bytes()
        if times:
            assert os.stat(share.below(path)).st_mtime_ns == 1500000001 * 10**9


def names_below(share):
    return sorted(os.path.relpath(os.path.join(d, f), share.lower) for d, _, fs in os.walk(share.lower) for f in fs)


# ---- T23: programs ------------------------------------------------------------------------------

def test_T23_rsync_copies_a_tree_and_finds_nothing_to_do_the_second_time(wormfs, tree):
    rsync = need_program('rsync')
    run(rsync, '-a', str(tree) + '/', wormfs.mnt + '/')
    assert_arrived(wormfs, tree)
    assert run(rsync, '-aic', str(tree) + '/', wormfs.mnt + '/').out == ''
    assert names_below(wormfs) == sorted(FILES)


def test_T23_rsync_cannot_change_what_has_arrived_and_says_so(wormfs, tree):
    rsync = need_program('rsync')
    run(rsync, '-a', str(tree) + '/', wormfs.mnt + '/')
    assert_arrived(wormfs, tree)
    (tree / 'a').write_bytes(b'changed later\n')
    before = look(wormfs.below('a'))
    p = run(rsync, '-a', str(tree) + '/', wormfs.mnt + '/', check=False)
    assert p.returncode == 23 and 'Operation not permitted' in p.err
    assert look(wormfs.below('a')) == before
    p = run(rsync, '-a', '--delete', '--ignore-times', str(tree / 'sub') + '/', wormfs.mnt + '/', check=False)
    assert p.returncode in (23, 25)
    assert look(wormfs.below('a')) == before


def test_T23_rsync_inplace_delivers_whole_locked_files_and_complains_of_what_it_sets_later(wormfs, tree):
    """rsync --inplace sets mode and times by name after its close: the data is there, the rest is refused and said."""
    p = run(need_program('rsync'), '-a', '--inplace', str(tree) + '/', wormfs.mnt + '/', check=False)
    assert p.returncode == 23 and 'Operation not permitted' in p.err
    assert_arrived(wormfs, tree, times=False)


def test_T23_rsync_with_a_temp_dir_on_the_share_and_its_names_as_staging_names(mount, tree):
    """In a --temp-dir the names have no dot in front, so the built-in list does not know them."""
    share = mount('staging=*.??????')
    os.mkdir(share.at('tmp'))
    run(need_program('rsync'), '-a', '--temp-dir=' + share.at('tmp'), str(tree) + '/', share.mnt + '/')
    assert_arrived(share, tree)
    assert os.listdir(share.below('tmp')) == []


def test_T23_cp_p_keeps_the_times(wormfs, tree):
    run('cp', '-rp', tree, wormfs.at('copy'))
    assert_arrived(wormfs, tree, 'copy')


def test_T23_cp_onto_a_locked_file_fails_and_leaves_it(wormfs, tree):
    wormfs.lock('a')
    before = look(wormfs.below('a'))
    for argv in (['cp'], ['cp', '-f'], ['cp', '--remove-destination'], ['install'], ['ln', '-f'], ['ln', '-sf'], ['mv', '-f']):
        p = run(*argv, tree / 'sub' / 'b', wormfs.at('a'), check=False)
        assert (argv, p.returncode != 0) == (argv, True)
    assert look(wormfs.below('a')) == before


def test_T23_tar_unpacks_with_times(wormfs, tree, tmp_path):
    run('tar', '-C', tree, '-cf', tmp_path / 't.tar', '.')
    run('tar', '-C', wormfs.mnt, '-xpf', tmp_path / 't.tar')
    assert_arrived(wormfs, tree)


def test_T23_tar_cannot_overwrite(wormfs, tree, tmp_path):
    run('tar', '-C', tree, '-cf', tmp_path / 't.tar', '.')
    wormfs.lock('a', b'older')
    before = look(wormfs.below('a'))
    for extra in ((), ('--overwrite',), ('--unlink-first',)):
        assert run('tar', '-C', wormfs.mnt, *extra, '-xf', tmp_path / 't.tar', check=False).returncode != 0
    assert look(wormfs.below('a')) == before


def test_T23_vim_writes_a_new_file_and_cannot_change_it(wormfs):
    vim = need_program('vim')
    path = wormfs.at('a.txt')
    run(vim, '-es', '-u', 'NONE', '-c', 'set swapfile', '-c', 'normal ireport', '-c', 'wq', path, check=False)
    wormfs.wait_state(path, 'retained')
    assert read_file(wormfs.below('a.txt')) == b'report\n'
    before = look(wormfs.below('a.txt'))
    run(vim, '-es', '-u', 'NONE', '-c', 'set swapfile backup', '-c', 'normal ichanged', '-c', 'w!', '-c', 'qa!', path,
        check=False)
    assert look(wormfs.below('a.txt')) == before
    assert [n for n in names_below(wormfs) if n.endswith('.swp')] == []


def test_T23_sed_i_fails_on_a_locked_file(wormfs):
    wormfs.lock('a')
    before = look(wormfs.below('a'))
    assert run('sed', '-i', 's/report/forged/', wormfs.at('a'), check=False).returncode != 0
    assert look(wormfs.below('a')) == before


def test_T23_curl_downloads_and_the_file_is_locked(wormfs, tree):
    curl = need_program('curl')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(tree)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = 'http://127.0.0.1:%d/sub/b' % server.server_address[1]
        run(curl, '-sS', '--noproxy', '*', '-o', wormfs.at('b'), url)
        wormfs.wait_state('b', 'retained')
        assert read_file(wormfs.below('b')) == (tree / 'sub/b').read_bytes()
        before = look(wormfs.below('b'))
        assert run(curl, '-sS', '--noproxy', '*', '-o', wormfs.at('b'), url, check=False).returncode != 0
        assert look(wormfs.below('b')) == before
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_T23_mv_from_another_filesystem_keeps_the_times_and_locks(wormfs, tree):
    copy = tree.parent / 'copy'
    run('cp', '-rp', tree, copy)
    run('mv', copy, wormfs.at('moved'))
    assert_arrived(wormfs, tree, 'moved')
    assert not copy.exists()


def test_T23_dd_cat_and_tee_each_lock_what_they_write(wormfs):
    for name, script in {'dd': 'echo report | dd of="$0" status=none', 'cat': 'echo report | cat >"$0"',
                         'tee': 'echo report | tee "$0" >/dev/null', 'fsync': 'echo report | dd of="$0" conv=fsync status=none'}.items():
        run('sh', '-c', script, wormfs.at(name))
        wormfs.wait_state(name, 'retained')
        assert read_file(wormfs.below(name)) == b'report\n'


# ---- staging names ------------------------------------------------------------------------------

@pytest.mark.parametrize('name', PATTERNS)
def test_a_staging_name_is_not_locked_at_close_and_locked_by_its_rename(wormfs, name):
    path = wormfs.at(name)
    write_file(path, b'first')
    assert wormfs.shows(path) == 'staging'
    write_file(path, b' second', flags=os.O_APPEND)
    os.chmod(path, 0o640)
    os.rename(path, wormfs.at('final'))
    assert open_errno(wormfs.at('final'), os.O_WRONLY) == 'EPERM'
    wormfs.wait_state('final', 'retained')
    assert read_file(wormfs.below('final')) == b'first second'
    wormfs.remount()
    assert open_errno(wormfs.at('final'), os.O_WRONLY) == 'EPERM'


@pytest.mark.parametrize('name', ['a', 'part', 'a.part2', '.a.Xy12Z', 'a.Xy12Zz', '.hidden', 'a.swp', 'a~', '$a', 'a.PART'])
def test_a_name_that_only_looks_like_staging_is_locked_at_close(wormfs, name):
    wormfs.lock(name)
    assert open_errno(wormfs.at(name), os.O_WRONLY) == 'EPERM'


def test_a_staging_file_may_be_deleted_and_renamed_to_another_staging_name(wormfs):
    write_file(wormfs.at('a.part'), b'x')
    os.rename(wormfs.at('a.part'), wormfs.at('b.part'))
    assert wormfs.shows('b.part') == 'staging'
    write_file(wormfs.at('b.part'), b'y')
    os.unlink(wormfs.at('b.part'))
    assert os.listdir(wormfs.lower) == []


def test_an_empty_staging_file_is_not_locked_by_its_rename(wormfs):
    write_file(wormfs.at('a.part'), b'')
    os.rename(wormfs.at('a.part'), wormfs.at('a'))
    assert wormfs.shows('a') == 'open'
    write_file(wormfs.at('a'), b'report')
    wormfs.wait_state('a', 'retained')


def test_a_staging_file_renamed_while_it_is_written_is_locked_at_its_close(wormfs):
    fd = os.open(wormfs.at('a.part'), os.O_CREAT | os.O_WRONLY)
    try:
        os.write(fd, b'one ')
        assert errno_of(os.rename, wormfs.at('a.part'), wormfs.at('a')) == 'OK'
        os.write(fd, b'two')
    finally:
        os.close(fd)
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'EPERM'
    wormfs.wait_state('a', 'retained')
    assert read_file(wormfs.below('a')) == b'one two'


def rename_before_the_release(share):
    """a.part to a: its close was heard, that of a duplicate, and its release comes while the rename is there."""
    fd = os.open(share.at('a.part'), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    os.write(fd, b'report\n')
    os.close(os.dup(fd))
    release = threading.Timer(0.05, os.close, [fd])
    release.start()
    os.rename(share.at('a.part'), share.at('a'))
    told = share.shows(share.at('a')), open_errno(share.at('a'), os.O_WRONLY)
    release.join()
    return told


def test_a_rename_after_the_close_locks_though_the_release_comes_later(wormfs):
    assert rename_before_the_release(wormfs) == ('retained', 'EPERM')
    assert wormfs.listed()['a'] and read_file(wormfs.below('a')) == b'report\n' and wormfs.info()['closing'] == 0


def test_a_kill_after_that_rename_leaves_it_locked(wormfs):
    assert rename_before_the_release(wormfs)[1] == 'EPERM'
    wormfs.kill9()
    wormfs.start()
    wormfs.wait_state('a', 'retained')
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'EPERM' and 'a' in wormfs.listed()


def test_a_file_renamed_to_a_staging_name_while_it_is_written_is_not_locked_at_its_close(wormfs):
    with opened(wormfs.at('a'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        os.rename(wormfs.at('a'), wormfs.at('a.part'))
    wait_for('the writer to be gone', lambda: wormfs.info()['writers'] == 0)
    assert wormfs.shows('a.part') == 'staging'
    os.rename(wormfs.at('a.part'), wormfs.at('b'))
    wormfs.wait_state('b', 'retained')


def test_a_renamed_directory_takes_its_staging_files_along_unlocked(wormfs):
    os.mkdir(wormfs.at('d'))
    write_file(wormfs.at('d', 'a.part'), b'x')
    os.rename(wormfs.at('d'), wormfs.at('e'))
    assert wormfs.shows('e/a.part') == 'staging'
    os.rename(wormfs.at('e', 'a.part'), wormfs.at('e', 'a'))
    wormfs.wait_state('e/a', 'retained')


def test_an_old_file_is_not_locked_by_a_rename_between_ordinary_names(mount):
    share = mount(start=False)
    write_file(share.below('old'), b'from before')
    share.start()
    os.rename(share.at('old'), share.at('new'))
    assert share.shows('new') == 'open'
    assert open_errno(share.at('new'), os.O_WRONLY) == 'OK'


def test_T39_a_staging_file_does_not_replace_a_locked_one(wormfs):
    wormfs.lock('a')
    write_file(wormfs.at('.a.Xy12Zz'), b'forged')
    before = look(wormfs.below('a')), look(wormfs.below('.a.Xy12Zz'))
    assert errno_of(os.rename, wormfs.at('.a.Xy12Zz'), wormfs.at('a')) == 'EPERM'
    assert (look(wormfs.below('a')), look(wormfs.below('.a.Xy12Zz'))) == before
    assert wormfs.shows('.a.Xy12Zz') == 'staging'


def test_a_staging_file_replaces_an_open_one_and_is_locked(mount):
    share = mount(start=False)
    write_file(share.below('a'), b'from before')
    share.start()
    write_file(share.at('a.part'), b'newer')
    os.rename(share.at('a.part'), share.at('a'))
    share.wait_state('a', 'retained')
    assert read_file(share.below('a')) == b'newer'


def test_the_list_of_staging_names_can_be_replaced_and_emptied(mount):
    share = mount('staging=*.tmp:x*')
    write_file(share.at('a.tmp'), b'1')
    write_file(share.at('xyz'), b'1')
    share.lock('a.part')
    assert (share.shows('a.tmp'), share.shows('xyz')) == ('staging', 'staging')
    share.remount('staging=')
    share.lock('b.tmp')
    share.lock('b.part')


def test_a_staging_file_that_nobody_touches_is_swept_after_its_time(mount):
    share = mount('staging_idle=60', clocked=True)
    write_file(share.at('a.part'), b'forgotten')
    write_file(share.at('empty.part'), b'')
    share.settle('a.part', 'empty.part')
    assert share.shows('a.part') == 'staging'
    share.now(50)
    assert open_errno(share.at('a.part'), os.O_RDONLY) == 'OK'
    assert share.shows('a.part') == 'staging'
    share.now(120)
    share.wait_state('a.part', 'retained')
    assert open_errno(share.at('a.part'), os.O_WRONLY) == 'EPERM'
    assert share.shows('empty.part') in ('staging', 'open')


def test_a_staging_file_is_swept_after_24_hours_by_default_also_across_remounts(mount):
    share = mount(clocked=True)
    write_file(share.at('a.part'), b'forgotten')
    share.settle('a.part')
    share.now(DAY - 600)
    share.remount()
    assert share.shows('a.part') == 'staging'
    share.now(DAY + 60)
    share.remount()
    share.wait_state('a.part', 'retained')


def test_a_staging_file_with_a_writer_is_not_swept(mount):
    share = mount('staging_idle=60', clocked=True)
    with opened(share.at('a.part'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'one')
        write_file(share.at('b.part'), b'beside it')
        share.settle('b.part', writers=1)
        share.now(3600)
        share.wait_state('b.part', 'retained')      # the sweep has been there
        assert share.shows('a.part') == 'staging'
        os.write(fd, b' two')
    assert read_file(share.below('a.part')) == b'one two'
