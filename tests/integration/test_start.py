"""Wrong starts: one line on stderr that names what is wrong, exit 2, nothing created, nothing mounted."""
import os
import signal
import sqlite3
import stat
import subprocess

import pytest

from harness import (ALICE, DEADLINE_S, WORMFS, Refused, as_user, daemon_environment, errno_of, fuse_mounted, open_errno,
                     read_file, run, wait_for, write_file)


def tree(root):
    """Every name below a directory, with mode, size and xattrs."""
    out = {}
    for d, dirs, files in os.walk(root):
        for n in ['.'] + dirs + files:
            p = os.path.join(d, n)
            st = os.lstat(p)
            out[os.path.relpath(p, root)] = (st.st_mode, 0 if stat.S_ISDIR(st.st_mode) else st.st_size, st.st_uid, tuple(os.listxattr(p, follow_symlinks=False)))
    return out


def contents(root):
    """The same, and the bytes of every file."""
    return tree(root), {n: read_file(os.path.join(root, n)) for n in os.listdir(root) if stat.S_ISREG(os.lstat(os.path.join(root, n)).st_mode)}


def launch(*args, user=None, foreground=True, env=None, timeout=DEADLINE_S):
    """Runs the daemon until it ends by itself: (exit status, stderr)."""
    def child():
        if user:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
    argv = [WORMFS] + (['-f'] if foreground else []) + list(args)
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=child,
                         env={**daemon_environment(), **(env or {})})
    try:
        out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=DEADLINE_S)
        pytest.fail('%s was expected to end by itself' % ' '.join(argv))
    return p.returncode, err.decode('utf-8', 'surrogateescape')


def assert_refused(result, *words):
    code, err = result
    assert code == 2, err
    lines = err.strip('\n').split('\n')
    assert len(lines) == 1 and lines[0], err
    for word in words:
        assert word in lines[0], 'the line does not name %r: %s' % (word, lines[0])


@pytest.fixture
def share(mount):
    """Directories of a share that is not mounted; its state directory is not there yet."""
    s = mount(start=False, make_state=False)
    write_file(s.below('old'), b'from before')
    before = tree(s.dir)
    yield s
    assert not fuse_mounted(s.mnt)
    assert tree(s.dir) == before


def opts(share, more):
    return ['-o', 'state=' + share.state + (',' + more if more else '')]


# ---- options ------------------------------------------------------------------------------------

@pytest.mark.parametrize('option,word', [
    ('nonsense', 'nonsense'), ('nonsense=1', 'nonsense'), ('commit', 'commit'), ('commit=', 'commit'), ('commit=now', 'now'),
    ('commit=idle', 'idle'), ('commit=idle:', 'idle'), ('commit=idle:0', 'idle:0'), ('commit=idle:x', 'idle:x'),
    ('commit=idle:-1', 'idle:-1'), ('commit=idle:99999999999', '99999999999'), ('retention=', 'retention'),
    ('retention=soon', 'soon'), ('retention=-1d', '-1d'), ('retention=2030-02-30', '2030-02-30'), ('min=x', 'min'), ('max=x', 'max'),
    ('min=2y,max=1y', 'min'), ('mode=strict', 'strict'), ('mode=compliance', 'compliance'),
    ('mode=compliance,min=1d,max=2d', 'retention'), ('mode=compliance,retention=1d,max=2d', 'min'),
    ('mode=compliance,retention=1d,min=1d', 'max'), ('mode=compliance,retention=unspecified,min=1d,max=2d', 'retention'),
    ('mode=compliance,min=1d,retention=1d,max=2d,clock=file:/etc/hostname', 'clock'),
    ('hold=', 'hold'), ('hold=a/b', 'hold'), ('hold=' + 'x' * 200, 'hold'), ('staging=a/b', 'staging'), ('staging=a::b', 'staging'),
    ('staging_idle=0', 'staging_idle'), ('staging_idle=x', 'staging_idle'), ('sync=always', 'sync'), ('shared=maybe', 'shared'),
    ('clock=sundial', 'clock'), ('clock=file:', 'clock'), ('clock=file:/nowhere/at/all', '/nowhere/at/all'),
    ('passthrough=yes', 'passthrough'), ('io_uring=yes', 'io_uring'), ('splice=1', 'splice'), ('threads=0', 'threads'),
    ('threads=x', 'threads'), ('threads=100000', 'threads'), ('descriptors=1', 'descriptors'), ('descriptors=x', 'descriptors'),
    ('xattr=none', 'xattr'), ('ro=1', 'ro'), ('key=', 'key'), ('key=/nowhere/at/all', '/nowhere/at/all'),
    ('state', 'state'),
])
def test_a_wrong_option_is_named_and_nothing_is_created(share, option, word):
    assert_refused(launch(share.share, *opts(share, option)), word)


@pytest.mark.parametrize('args', [[], ['-o'], ['-x'], ['--nonsense'], ['-o', 'ro']])
def test_wrong_usage_is_one_line_and_exit_2(args):
    assert_refused(launch(*args))


def test_a_third_argument_is_refused(share):
    assert_refused(launch(share.share, share.share, share.share, *opts(share, '')), share.share)


def test_help_and_version_exit_with_0_and_need_nothing():
    for arg, word in (('--help', 'retention'), ('-h', 'commit'), ('--version', '0.'), ('-V', 'fuse')):
        p = run(WORMFS, arg)
        assert word in p.out and p.err == ''


def test_a_comma_inside_a_value_is_written_with_a_backslash(mount):
    s = mount('hold=a\\,b', state=None)
    s.lock('a')
    assert s.shows('a', 'holds') == 'a,b'


# ---- directories --------------------------------------------------------------------------------

def test_a_missing_share_is_named(share):
    missing = share.dir + '/missing'
    assert_refused(launch(missing, *opts(share, '')), missing)


def test_a_file_as_share_is_named(share):
    assert_refused(launch(share.share + '/old', *opts(share, '')), share.share + '/old')


def test_a_missing_mount_point_is_named(share):
    assert_refused(launch(share.share, share.dir + '/missing', *opts(share, '')), share.dir + '/missing')


def test_a_file_as_mount_point_is_named(share):
    assert_refused(launch(share.share, share.share + '/old', *opts(share, '')), share.share + '/old')


def test_a_state_directory_that_cannot_be_made_is_named(share):
    assert_refused(launch(share.share, '-o', 'state=/proc/nowhere/state'), '/proc/nowhere')


def test_a_file_as_state_directory_is_named(share):
    assert_refused(launch(share.share, '-o', 'state=' + share.share + '/old'), share.share + '/old')


def test_a_state_directory_inside_the_share_is_refused(share):
    """It would be covered by the mount, and clients could write to it."""
    assert_refused(launch(share.share, '-o', 'state=' + share.share + '/state'), share.share + '/state')


def test_an_unreadable_state_directory_is_named(mount):
    s = mount(start=False)
    os.chmod(s.dir, 0o755)
    os.chmod(s.state, 0o700)
    os.chown(s.share, ALICE, ALICE)
    assert_refused(launch(s.share, *opts(s, ''), user=ALICE), s.state)
    assert os.listdir(s.state) == []


def test_a_share_that_the_user_cannot_read_is_named(mount):
    s = mount(start=False)
    os.chmod(s.share, 0o700)
    assert_refused(launch(s.share, '-o', 'state=/tmp/wormfs-never', user=ALICE), s.share)
    assert not os.path.exists('/tmp/wormfs-never')


def test_a_key_that_others_may_read_is_refused(share, tmp_path):
    key = tmp_path / 'key'
    key.write_bytes(os.urandom(32))
    key.chmod(0o644)
    assert_refused(launch(share.share, *opts(share, 'key=%s' % key)), str(key))


@pytest.mark.parametrize('length', [0, 31, 33, 64])
def test_a_key_of_the_wrong_length_is_refused(share, tmp_path, length):
    key = tmp_path / 'key'
    key.write_bytes(os.urandom(length))
    key.chmod(0o600)
    assert_refused(launch(share.share, *opts(share, 'key=%s' % key)), str(key))


# ---- schema -------------------------------------------------------------------------------------

def with_database(share, statements):
    con = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    for s in statements:
        con.execute(s)
    con.commit()
    con.close()


def test_a_database_of_a_newer_schema_is_refused_and_left_as_it_is(mount):
    s = mount()
    s.lock('a')
    s.stop()
    with_database(s, ['pragma user_version = 9999'])
    before = contents(s.state), tree(s.lower)
    with pytest.raises(Refused) as refused:
        s.start()
    assert_refused((refused.value.code, refused.value.text), 'ledger.db', '9999')
    assert (contents(s.state), tree(s.lower)) == before


def test_a_foreign_database_is_refused_and_left_as_it_is(mount):
    s = mount(start=False)
    with_database(s, ['create table songs(title)', "insert into songs values('x')"])
    before = contents(s.state), tree(s.lower)
    with pytest.raises(Refused) as refused:
        s.start()
    assert_refused((refused.value.code, refused.value.text), 'ledger.db')
    assert (contents(s.state), tree(s.lower)) == before


def test_a_database_of_another_share_is_refused(mount):
    one, two = mount(), mount(start=False)
    one.lock('a')
    one.stop()
    for name in os.listdir(one.state):
        run('cp', '-a', os.path.join(one.state, name), two.state)
    before = contents(two.state), tree(two.lower)
    with pytest.raises(Refused) as refused:
        two.start()
    assert_refused((refused.value.code, refused.value.text), two.state)
    assert (contents(two.state), tree(two.lower)) == before


def test_a_journal_that_is_none_is_refused_or_put_aside_and_unlocks_nothing(mount):
    s = mount()
    path = s.lock('a')
    s.stop()
    with open(os.path.join(s.state, 'writers.journal'), 'wb') as f:
        f.write(os.urandom(300000))
    try:
        s.start()
    except Refused as e:
        assert_refused((e.code, e.text), 'writers.journal')
        return
    s.expect_log('journal')
    assert open_errno(path, os.O_WRONLY) == 'EPERM'


# ---- T37: two daemons ---------------------------------------------------------------------------

def quiet(s):
    """What a running daemon has in its state directory when it is left alone, and the share with its xattrs. The log of SQLite is its own."""
    s.settle()
    return {n: what[:1] + what[2:] for n, what in tree(s.state).items()}, read_file(s.state + '/key'), tree(s.lower)


def test_T37_a_second_daemon_on_the_same_share_and_state_is_refused_and_changes_nothing(mount):
    s = mount(apart=True)
    path = s.lock('before')
    other = s.dir + '/other'
    os.mkdir(other)
    before = quiet(s)
    assert_refused(launch(s.share, other, *opts(s, '')), s.share)
    assert not fuse_mounted(other) and os.listdir(other) == []
    assert quiet(s) == before and open_errno(path, os.O_WRONLY) == 'EPERM'
    assert s.alive() and errno_of(s.lock, 'a') == 'OK'


@pytest.mark.parametrize('made', [False, True])
def test_T37_a_second_daemon_with_a_state_of_its_own_is_refused_and_leaves_nothing_there(mount, made):
    s = mount()
    other, state = s.dir + '/other', s.dir + '/state2'
    os.mkdir(other)
    if made:
        os.mkdir(state)
    before = quiet(s)
    assert_refused(launch(s.lower, other, '-o', 'state=' + state), s.lower)
    assert not fuse_mounted(other) and os.path.exists(state) is made and (not made or os.listdir(state) == [])
    assert quiet(s) == before
    s.lock('a')


def test_T37_a_second_daemon_over_the_first_mount_is_refused_and_leaves_nothing_there(mount):
    s = mount()
    state = s.dir + '/state2'
    os.mkdir(state)
    before = quiet(s)
    assert_refused(launch(s.share, '-o', 'state=' + state), s.share)
    assert fuse_mounted(s.mnt) == 1 and os.listdir(state) == []
    assert quiet(s) == before
    s.lock('a')


def test_T37_the_state_of_another_running_daemon_is_refused_and_neither_share_is_changed(mount):
    one, two = mount(), mount(start=False)
    path = one.lock('a')
    before = quiet(one), tree(two.share)
    assert_refused(launch(two.share, '-o', 'state=' + one.state), one.state)
    assert not fuse_mounted(two.mnt)
    assert (quiet(one), tree(two.share)) == before and open_errno(path, os.O_WRONLY) == 'EPERM'


def test_a_mount_point_of_another_filesystem_is_covered_and_comes_back_with_the_unmount(mount):
    s = mount(start=False, apart=True)
    run('mount', '-t', 'tmpfs', 'tmpfs', s.mnt)
    try:
        write_file(s.at('theirs'), b'theirs')
        before = tree(s.mnt)
        s.start()
        assert os.listdir(s.mnt) == [] and fuse_mounted(s.mnt) == 1
        path = s.lock('a')
        assert open_errno(path, os.O_WRONLY) == 'EPERM' and os.listdir(s.lower) == ['a']
        s.stop()
        assert tree(s.mnt) == before and read_file(s.at('theirs')) == b'theirs'
    finally:
        s.kill9()
        run('umount', s.mnt)


def test_T37_after_SIGKILL_the_next_daemon_starts_at_once(wormfs):
    for _ in range(3):
        wormfs.kill9()
        wormfs.start()
    wormfs.lock('a')


@pytest.mark.parametrize('after', ['', '/'])
def test_T37_the_dead_mount_of_a_killed_daemon_is_taken_away_by_the_next_one(wormfs, after):
    wormfs.lock('a')
    os.stat(wormfs.mnt)		# the kernel knows its attributes for a day, and goes on answering
    wormfs.kill9(unmount=False)
    assert fuse_mounted(wormfs.mnt)
    argv = wormfs.argv(foreground=False)
    p = run(*[a + after if a in (wormfs.mnt, wormfs.share) else a for a in argv], env=daemon_environment(), check=False)
    try:
        assert p.returncode == 0 and 'was the mount of a daemon that is gone: unmounted' in p.err
        assert read_file(wormfs.at('a')) and open_errno(wormfs.at('a'), os.O_WRONLY) == 'EPERM'
    finally:
        run('umount', wormfs.mnt, check=False)


# ---- right starts -------------------------------------------------------------------------------

def test_in_the_background_it_has_mounted_when_it_returns_and_ends_with_its_mount(mount):
    s = mount(start=False)
    p = run(*s.argv(foreground=False), env=daemon_environment())
    try:
        assert fuse_mounted(s.mnt) and p.err == ''
        write_file(s.at('a'), b'report')
        assert open_errno(s.at('a'), os.O_WRONLY) == 'EPERM'
        pid = s.info()['pid']
        assert os.path.exists('/proc/%d' % pid)
    finally:
        run('umount', s.mnt)
    wait_for('the daemon to end', lambda: not os.path.exists('/proc/%d' % pid))


def test_in_the_background_a_wrong_start_is_told_as_well(share):
    assert_refused(launch(share.dir + '/missing', *opts(share, ''), foreground=False), share.dir + '/missing')


def test_the_state_directory_is_made_when_its_parent_is_there_and_is_private(mount):
    s = mount(make_state=False)
    s.lock('a')
    assert stat.S_IMODE(os.stat(s.state).st_mode) == 0o700
    for name in os.listdir(s.state):
        assert (name, stat.S_IMODE(os.stat(os.path.join(s.state, name)).st_mode) & 0o077) == (name, 0)
    key = os.path.join(s.state, 'key')
    assert os.path.getsize(key) == 32


def test_without_state_the_place_is_that_of_the_share_and_the_same_each_time(mount, tmp_path):
    """A private /var/lib: the mount namespace is the tests' own."""
    s = mount(start=False, apart=False)
    run('mount', '--bind', tmp_path, '/var/lib')
    try:
        argv = [WORMFS, s.share] + (['-o', os.environ['WORMFS_TEST_OPTIONS']] if os.environ.get('WORMFS_TEST_OPTIONS') else [])
        run(*argv, env=daemon_environment())
        try:
            write_file(s.at('a'), b'report')
            first = s.info()['state_dir']
            assert first.startswith('/var/lib/wormfs/')
        finally:
            run('umount', s.mnt)
        ended = wait_for('the daemon to be gone', lambda: launch_again(argv))
        try:
            assert s.info()['state_dir'] == first
            assert open_errno(s.at('a'), os.O_WRONLY) == 'EPERM'
        finally:
            pid = s.info()['pid']
            run('umount', s.mnt)
        wait_for('the daemon to end', lambda: not os.path.exists('/proc/%d' % pid))
        assert ended
    finally:
        run('umount', '/var/lib')


def launch_again(argv):
    return subprocess.run(argv, env=daemon_environment(), stderr=subprocess.DEVNULL).returncode == 0


def test_what_it_says_of_itself_is_what_was_asked_for(mount):
    s = mount('retention=30d,min=1d,max=5y,hold=case-1,commit=idle:90,sync=close')
    info = s.info()
    assert info['pid'] == s.proc.pid
    assert (info['share'], info['mountpoint'], info['state_dir'], info['uid']) == (s.share, s.mnt, s.state, 0)
    assert (info['retention'], info['min'], info['max'], info['hold'], info['commit'], info['sync'], info['mode']) == \
        ('30d', '1d', '5y', 'case-1', 'idle:90', 'close', 'governance')
    assert info['clock'] == 'own' and info['clock_state']['state'] == 'ok' and info['shared'] is (s.mnt != s.share) and s.problems() == []
    assert info['ledger']['state'] == 'ok'
    assert s.control('mount')['mount']['pid'] == s.proc.pid


def test_each_transport_is_off_when_it_is_told_so_and_says_why(mount):
    s = mount('io_uring=no,passthrough=no,splice=no')
    t = s.transport()
    assert (t['io_uring'], t['passthrough'], t['splice']) == (False, False, False)
    assert t['io_uring_why'] and t['passthrough_why']
    s.lock('a')
    assert read_file(s.at('a')) == b'report\n'


def test_with_ro_nothing_is_written_and_what_is_there_is_read(mount):
    s = mount(start=False)
    write_file(s.below('a'), b'report')
    s.start('ro')
    assert read_file(s.at('a')) == b'report'
    assert errno_of(write_file, s.at('b')) == 'EROFS'
    assert errno_of(os.mkdir, s.at('d')) == 'EROFS'
    assert errno_of(os.unlink, s.at('a')) == 'EROFS'
    assert os.listdir(s.lower) == ['a']


def test_a_user_without_root_mounts_a_share_of_his_own(mount):
    if not os.access('/usr/bin/fusermount3', os.X_OK) or not os.stat('/usr/bin/fusermount3').st_mode & stat.S_ISUID:
        pytest.skip('needs a setuid fusermount3')
    s = mount(start=False)
    for d in (s.dir, s.share, s.state):
        os.chown(d, ALICE, ALICE)
    try:
        s.start(user=ALICE)
    except Refused as e:
        if 'ermission' in e.text and open_as(ALICE, '/dev/fuse') != 'OK':
            pytest.skip('a user may not open /dev/fuse here')
        raise

    def session():
        write_file(s.at('a'), b'report')
        return (open_errno(s.at('a'), os.O_WRONLY), errno_of(os.unlink, s.at('a')), os.getxattr(s.at('a'), 'user.worm.state'),
                os.listxattr(s.at('a')))
    first, second, state, names = as_user(ALICE, session)
    assert (first, second) == ('EPERM', 'EPERM')
    assert state in (b'retained', b'closing') and names == []
    assert any(n.startswith('user.wormfs') for n in os.listxattr(s.below('a')))
    assert as_user(ALICE, lambda: __import__('json').loads(os.getxattr(s.mnt, 'user.worm.mount'))['lower']['namespace']) == 'user'


def open_as(uid, path):
    return as_user(uid, open_errno, path, os.O_RDWR)
