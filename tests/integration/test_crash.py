"""The daemon killed at any instant (T32), and the database lost, rolled back, read-only, corrupt or full (T33):
nothing that was locked comes open again."""
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from harness import (KILLS, LOCKED, SOAK, Refused, errno_of, killed_at, look, need_program, open_errno, opened, read_file, run, scaled,
                     tool, wait_for, write_file, xattrs)

WRITERS = 8


# ---- T32: SIGKILL -------------------------------------------------------------------------------

def verify(share, acks):
    result = json.loads(run(tool('crash'), 'verify', share.mnt, acks, timeout=600).out)
    assert (result['lost'], result['differ'], result['writable'], result['other']) == (0, 0, 0, 0), result['first']
    return result['files']


def round_of_writers(share, acks, tag, kill):
    """Eight writers until kill() has taken the daemon away; the number of acknowledged files."""
    writers = subprocess.Popen([tool('crash'), 'write', share.mnt, tag, str(WRITERS), acks], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    try:
        assert writers.stdout.readline() == b'ready\n'
        kill()
        share.kill9(unmount=False)
        # SIGBUS: a store into a mapping of a mount that is gone, where there is no passthrough.
        assert writers.wait(60) in (0, -signal.SIGBUS)
    finally:
        writers.kill()
        writers.wait()
        writers.stdout.close()
        share.unmount_dead()
    return sum(1 for _ in open(acks))


@pytest.mark.timeout(1800)
def test_T32_every_file_whose_close_returned_0_is_locked_with_its_bytes_after_SIGKILL_at_any_instant(mount):
    share = mount()
    rng = random.Random(int(os.environ.get('WORMFS_TEST_SEED', time.time_ns() % 100000)))
    total, rounds = 0, scaled(KILLS)
    for n in range(rounds):
        acks = os.path.join(share.dir, 'acks')
        with open(acks, 'w'):
            pass
        delay = 0.3 * rng.random() ** 2 * (5 if scaled(10) == 1 else 1)
        acked = round_of_writers(share, acks, 'r%d' % n, lambda: time.sleep(delay))
        share.start()
        assert verify(share, acks) == acked
        total += acked
        if n % 10 == 9 or n == rounds - 1:
            # The ledger has them as well, and no problem is left.
            share.must('sync')
            rows = share.listed()
            with open(acks) as f:
                for line in f:
                    assert line.split()[0] in rows
            assert share.problems(pending=True) == []
    assert total > rounds * WRITERS, 'the writers hardly wrote: nothing was tested'


@pytest.mark.timeout(600)
def test_T32_the_same_where_the_lower_filesystem_has_no_xattrs(mount):
    share = mount(base='ramfs')
    acks = os.path.join(mount.bases.root, 'acks')
    for n in range(max(1, scaled(KILLS) // 10)):
        with open(acks, 'w'):
            pass
        acked = round_of_writers(share, acks, 'r%d' % n, lambda: wait_for('a file', lambda: os.path.getsize(acks)) and time.sleep(0.02))
        share.start()
        assert verify(share, acks) == acked > 0


CALLS = ['fsetxattr', 'setxattr', 'pwrite64', 'write', 'fsync', 'fdatasync', 'openat', 'open_by_handle_at', 'close', 'fcntl',
         'fgetxattr', 'getxattr', 'fstat', 'newfstatat', 'statx', 'renameat', 'renameat2', 'linkat', 'ftruncate', 'futex']
SCENARIOS = {
    'written and closed': lambda share: write_file(share.at('d', 'a'), b'report'),
    'renamed from a staging name': lambda share: (write_file(share.at('d', 'a.part'), b'report'),
                                                  os.rename(share.at('d', 'a.part'), share.at('d', 'a'))),
}

MATTER = {'written and closed': {'the record'}, 'renamed from a staging name': {'the record', 'the rename'}}


def step(share, call):
    """Which step of the commit a daemon was killed at, by what it left; None: one that leaves nothing, or not of the commit."""
    if call == 'fsetxattr' and xattrs(share.below('d')):
        names = [n for n in os.listdir(share.below('d')) if xattrs(share.below('d', n)) == {}]
        return 'the record' if names else None
    if call in ('renameat', 'renameat2') and os.listdir(share.below('d')) == ['a.part'] and xattrs(share.below('d', 'a.part')):
        return 'the rename'
    return None


@pytest.mark.timeout(1200)
@pytest.mark.parametrize('scenario', SCENARIOS)
def test_T32_a_kill_at_each_system_call_of_a_commit_leaves_a_file_whole_and_locked_or_not_locked(mount, scenario):
    need_program('strace')
    if scaled(10) == 1:
        pytest.skip('strace and a sanitizer do not go together')
    share = mount()
    share.lock('there')		# the root is pinned, so the first xattr is the pin of d, the second the record
    hit, steps = [], set()
    most = 12 if SOAK else 2
    for call in CALLS:
        for nth in range(1, most + 1):
            run('rm', '-rf', share.below('d'))
            os.mkdir(share.at('d'))
            result = killed_at(share, call, nth, lambda: SCENARIOS[scenario](share))
            if result is None:
                break
            hit.append('%s#%d: %s' % (call, nth, result))
            share.kill9()
            steps.add(step(share, call))
            share.start()
            path = share.at('d', 'a')
            if result != 'OK' and os.path.exists(share.at('d', 'a.part')):
                path = share.at('d', 'a.part')		# not renamed: locked under its old name or not at all
            if result == 'OK':
                assert read_file(path) == b'report'
                assert (hit[-1], open_errno(path, os.O_WRONLY)) == (hit[-1], 'EPERM')
                assert (hit[-1], errno_of(os.rename, share.at('d'), share.at('x'))) == (hit[-1], 'EPERM')
            elif os.path.exists(path):
                state = share.wait_state(path, 'open', 'retained', 'pending', 'staging')
                assert (hit[-1], open_errno(path, os.O_WRONLY)) == (hit[-1], 'EPERM' if state in LOCKED else 'OK')
                if state in LOCKED:
                    assert read_file(path) == b'report'
        else:
            continue
    assert len(hit) >= 4, 'hardly any crash point was reached: %s' % hit
    assert MATTER[scenario] <= steps, 'not killed at what matters, only at %s: %s' % (steps, hit)


def test_T32_a_file_whose_writer_was_there_when_the_daemon_died_stays_writable_and_is_reported(wormfs):
    fd = os.open(wormfs.at('a'), os.O_CREAT | os.O_WRONLY)
    os.write(fd, b'half')
    wormfs.kill9()
    errno_of(os.close, fd)
    wormfs.start()
    assert read_file(wormfs.below('a')) == b'half'
    wormfs.wait_state('a', 'pending')
    assert 'interrupted' in wormfs.shows('a', 'explain')
    write_file(wormfs.at('a'), b' and whole', flags=os.O_APPEND)
    wormfs.wait_state('a', 'retained')
    assert read_file(wormfs.below('a')) == b'half and whole'


def test_T32_an_interrupted_file_is_swept_like_a_staging_file(mount):
    share = mount('staging_idle=60', clocked=True)
    fd = os.open(share.at('a'), os.O_CREAT | os.O_WRONLY)
    os.write(fd, b'half')
    share.kill9()
    errno_of(os.close, fd)
    share.start()
    share.wait_state('a', 'pending')
    share.now(3600)
    share.wait_state('a', 'retained')
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'


def test_T32_a_writer_that_changed_nothing_leaves_nothing_when_the_daemon_dies(mount):
    share = mount(start=False)
    write_file(share.below('old'), b'from before')
    share.start()
    fd = os.open(share.at('old'), os.O_RDWR)
    share.kill9()
    errno_of(os.close, fd)
    share.start()
    assert open_errno(share.at('old'), os.O_WRONLY) == 'OK'
    assert read_file(share.below('old')) == b'from before'


def test_T32_SIGTERM_and_SIGINT_unmount_and_exit_with_0_also_beside_open_files(wormfs):
    for signum in (signal.SIGTERM, signal.SIGINT):
        path = wormfs.lock('a%d' % signum)
        wormfs.terminate(signum)
        wormfs.start()
        assert open_errno(path, os.O_WRONLY) == 'EPERM'
        assert path[len(wormfs.mnt) + 1:] in wormfs.listed()


# ---- T33: the database --------------------------------------------------------------------------

@pytest.fixture
def ten(mount):
    """A share with ten locked files, one of them with a hold, one in a directory; and the paths."""
    share = mount()
    os.mkdir(share.at('d'))
    names = ['f%d' % n for n in range(9)] + ['d/a']
    for name in names:
        share.lock(name)
    share.must('hold', 'f0', case='case-1')
    share.must('sync')
    return share, names


def assert_locked(share, names):
    for name in names:
        path = share.at(name)
        before = look(share.below(name))
        assert share.shows(path) == 'retained'
        assert (name, open_errno(path, os.O_WRONLY)) == (name, 'EPERM')
        assert errno_of(os.truncate, path, 0) == 'EPERM'
        assert errno_of(os.unlink, path) == 'EPERM'
        assert errno_of(os.rename, path, path + '2') == 'EPERM'
        assert errno_of(os.link, path, path + '2') == 'EPERM'
        assert errno_of(os.chmod, path, 0o777) == 'EPERM'
        assert look(share.below(name)) == before
    assert errno_of(os.rename, share.at('d'), share.at('e')) == 'EPERM'


def start_or_refuse(share):
    """True: mounted. False: refused, as a wrong start is, with one line and exit 2: that unlocks nothing."""
    try:
        share.start()
        return True
    except Refused as e:
        assert e.code == 2 and len(e.text.strip().splitlines()) == 1, e.text
        return False


def database(share):
    return [os.path.join(share.state, n) for n in os.listdir(share.state) if n.startswith('ledger.db')]


def test_T33_a_deleted_database_unlocks_nothing_and_reindex_rebuilds_it(ten):
    share, names = ten
    share.stop()
    share.expect_log('ledger')
    for path in database(share):
        os.unlink(path)
    share.start()
    assert_locked(share, names)
    share.must('reindex')
    assert sorted(share.listed()) == sorted(names)
    assert share.info()['ledger']['state'] == 'ok'
    assert_locked(share, names)


def test_T33_a_database_deleted_under_the_running_daemon_unlocks_nothing(ten):
    share, names = ten
    share.expect_log('ledger')
    for path in database(share):
        os.unlink(path)
    assert_locked(share, names)
    share.lock('later')
    share.kill9()
    share.start()
    assert_locked(share, names + ['later'])
    share.must('reindex')
    assert sorted(share.listed()) == sorted(names + ['later'])


def test_T33_an_older_database_unlocks_nothing_and_reindex_catches_up(ten, tmp_path):
    share, names = ten
    share.stop()
    share.expect_log('ledger')
    for path in database(share):
        shutil.copy2(path, tmp_path)
    share.start()
    for n in range(10):
        share.lock('new%d' % n)
    new = names + ['new%d' % n for n in range(10)]
    share.must('sync')
    share.stop()
    for path in database(share):
        os.unlink(path)
    for name in os.listdir(tmp_path):
        shutil.copy2(tmp_path / name, share.state)
    share.start()
    assert_locked(share, new)
    share.must('reindex')
    assert sorted(share.listed()) == sorted(new)


def test_T33_a_rolled_back_database_gives_no_serial_number_twice(ten, tmp_path):
    share, names = ten
    share.stop()
    share.expect_log('ledger')
    for path in database(share):
        shutil.copy2(path, tmp_path)
    share.start()
    for n in range(300):
        write_file(share.at('new%d' % n), b'x')
    serials = {int(share.shows('new%d' % n, 'serial')) for n in range(300)}
    share.stop()
    for path in database(share):
        os.unlink(path)
    for name in os.listdir(tmp_path):
        shutil.copy2(tmp_path / name, share.state)
    share.start()
    share.must('reindex')
    share.lock('after')
    assert int(share.shows('after', 'serial')) not in serials


@pytest.mark.parametrize('damage', ['garbage', 'truncated', 'empty', 'middle', 'header'])
def test_T33_a_corrupt_database_unlocks_nothing_and_reindex_rebuilds_it(ten, damage):
    share, names = ten
    share.stop()
    share.expect_log('ledger')
    path = os.path.join(share.state, 'ledger.db')
    con = sqlite3.connect(path)
    con.execute('pragma wal_checkpoint(truncate)')
    con.close()
    for side in ('-wal', '-shm'):
        if os.path.exists(path + side):
            os.unlink(path + side)
    size = os.path.getsize(path)
    with open(path, 'r+b') as f:
        if damage == 'garbage':
            f.write(os.urandom(size))
        elif damage == 'truncated':
            f.truncate(size // 2 + 100)
        elif damage == 'empty':
            f.truncate(0)
        elif damage == 'middle':
            for offset in range(4096 + 8, size, 4096):
                f.seek(offset)
                f.write(os.urandom(512))
        else:
            f.write(b'\0' * 100)
    before = {n: look(os.path.join(share.state, n)) for n in os.listdir(share.state)}
    with pytest.raises(Refused) as refused:
        share.start()
    assert refused.value.code == 2 and path in refused.value.text and 'move it away' in refused.value.text
    assert {n: look(os.path.join(share.state, n)) for n in os.listdir(share.state)} == before
    new_ledger(share, names)


def new_ledger(share, names):
    """What every message about a damaged ledger says: ledger.db* moved away, mounted, and the files build a new one."""
    for path in database(share):
        os.unlink(path)
    share.start()
    assert_locked(share, names)
    share.must('reindex')
    assert sorted(share.listed()) == sorted(names)
    assert share.info()['ledger']['state'] == 'ok' and share.problems() == []
    assert share.shows('f0', 'holds') == '(unknown: the ledger has no name for it)'		# held as before, by its record
    assert_locked(share, names)


@pytest.mark.parametrize('damage', ['header', 'table'])
def test_T33_where_the_ledger_is_all_that_knows_of_a_lock_nobody_is_told_to_move_it_away(mount, damage):
    share = mount(base='ramfs')
    share.lock('a')
    share.stop()
    share.expect_log('ledger')
    if damage == 'table':
        damage_table(share, 'file_uid')
    else:
        with open(os.path.join(share.state, 'ledger.db'), 'r+b') as f:
            f.write(b'\0' * 100)
    advice = 'the share has no xattrs, its locks are nowhere else: restore it from a backup'
    if start_or_refuse(share):
        assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
        answer = share.control('reindex')
        assert (answer['ok'], advice in answer['error']) == (False, True)
        assert [p for p in share.problems() if advice in p]
        share.kill9()
    assert advice in share.log_text() and 'move it away' not in share.log_text()


def damage_table(share, table):
    """The first page of a table or an index of the ledger is no page any more. Returns the path of the database."""
    path = os.path.join(share.state, 'ledger.db')
    con = sqlite3.connect(path)
    con.execute('pragma wal_checkpoint(truncate)')
    size, = con.execute('pragma page_size').fetchone()
    page, = con.execute('select rootpage from sqlite_master where name = ?', (table,)).fetchone()
    con.close()
    with open(path, 'r+b') as f:
        f.seek((page - 1) * size)
        f.write(b'\xff' * size)
    return path


@pytest.mark.parametrize('table', ['file', 'sqlite_autoindex_file_1', 'file_path', 'file_uid', 'file_held', 'hold', 'pending', 'counter'])
def test_T33_a_database_with_one_damaged_table_unlocks_nothing_and_reindex_says_what_to_do(ten, table):
    share, names = ten
    share.stop()
    share.expect_log('ledger')
    path = damage_table(share, table)
    if start_or_refuse(share):
        assert_locked(share, names)
        advice = "the ledger '%s' is damaged: unmount; the locks are on the files: move it away, mount" % path
        answer = share.control('reindex')
        assert (answer['ok'], answer['errno']) == (False, 'EIO') and answer['error'].startswith(advice) and advice in share.log_text()
        assert share.info()['ledger']['state'] == 'failing' and [p for p in share.problems() if p.startswith(advice)]
        p = share.ctl('reindex', share.mnt, check=False)
        assert p.returncode == 2 and advice in p.err and len(p.err.strip().splitlines()) == 1
        assert_locked(share, names)
        share.kill9()
    else:
        assert 'move it away, mount' in share.log_text()
    new_ledger(share, names)


def test_T33_a_corrupt_database_put_away_is_rebuilt_from_the_files(ten):
    share, names = ten
    share.stop()
    share.expect_log('ledger')
    path = os.path.join(share.state, 'ledger.db')
    with open(path, 'r+b') as f:
        f.write(os.urandom(os.path.getsize(path)))
    if start_or_refuse(share):
        share.kill9()
    for p in database(share):
        os.unlink(p)
    share.start()
    share.must('reindex')
    assert sorted(share.listed()) == sorted(names)
    assert_locked(share, names)


def test_T33_a_read_only_state_directory_unlocks_nothing(mount):
    point = mount.bases.make('tmpfs', 'state-ro')
    share = mount(state=point + '/state')
    share.expect_log('ledger', '[Rr]ead-only')
    share.lock('a')
    os.mkdir(share.at('d'))
    share.lock('d/b')
    share.must('sync')
    share.stop()
    run('mount', '-o', 'remount,ro', point)
    if start_or_refuse(share):
        assert_locked(share, ['a', 'd/b'])
        # What cannot be recorded is refused or locked, and somebody is told.
        if errno_of(write_file, share.at('new'), b'x') == 'OK':
            assert open_errno(share.at('new'), os.O_WRONLY) == 'EPERM'
        assert share.info()['ledger']['state'] in ('readonly', 'failing', 'behind')
        assert share.problems() != []
        share.stop()
    run('mount', '-o', 'remount,rw', point)
    share.start()
    assert_locked(share, ['a', 'd/b'])


def test_T33_a_state_directory_that_fills_up_unlocks_nothing_and_catches_up_when_there_is_room_again(mount):
    point = mount.bases.make('tmpfs', 'state-full', options=('size=4m',))
    share = mount(state=point + '/state')
    share.expect_log('ledger', 'No space left')
    os.mkdir(share.at('d'))
    share.lock('d/a')
    share.must('sync')
    filler = os.path.join(point, 'filler')
    with open(filler, 'wb', buffering=0) as f:
        size = 1 << 20
        while size:
            try:
                f.write(b'x' * size)
            except OSError:
                size //= 2
    done = []
    for n in range(500):
        result = errno_of(write_file, share.at('n%d' % n), b'x' * 100)
        if result == 'OK':
            done.append('n%d' % n)
        else:
            assert result in ('ENOSPC', 'EIO')
    for name in done + ['d/a']:
        assert (name, open_errno(share.at(name), os.O_WRONLY)) == (name, 'EPERM')
    if done:
        wait_for('the ledger to say that it fails', lambda: share.info()['ledger']['state'] in ('failing', 'behind'))
        assert share.problems() != []
    os.unlink(filler)
    wait_for('the ledger to catch up', lambda: share.info()['ledger']['state'] != 'failing', 90)
    if share.info()['ledger']['state'] != 'ok':
        share.must('reindex')
    assert share.info()['ledger']['state'] == 'ok'
    share.lock('later')
    assert set(done) | {'d/a', 'later'} <= set(share.listed())
    assert_locked(share, ['d/a'])


def test_T33_the_whole_state_directory_lost_with_its_key_unlocks_nothing(ten):
    """Without the key no record can be verified: nobody may change the files, everybody may read them."""
    share, names = ten
    share.stop()
    share.expect_log('record', 'key')
    shutil.rmtree(share.state)
    os.mkdir(share.state, 0o700)
    if not start_or_refuse(share):
        return
    for name in names:
        before = look(share.below(name))
        assert share.shows(name) == 'unreadable'
        assert read_file(share.at(name)) == b'report\n'
        assert open_errno(share.at(name), os.O_WRONLY) == 'EIO'
        assert errno_of(os.unlink, share.at(name)) == 'EIO'
        assert errno_of(os.rename, share.at(name), share.at('x')) == 'EIO'
        assert look(share.below(name)) == before
    assert errno_of(os.rename, share.at('d'), share.at('e')) in ('EPERM', 'EIO')


def test_T33_reindex_counts_and_names_what_it_finds(ten):
    share, names = ten
    stats = share.must('reindex')['stats']
    assert (stats['locked'], stats['added'], stats['bad'], stats['missing']) == (10, 0, 0, 0)
    share.stop()
    for path in database(share):
        os.unlink(path)
    share.expect_log('ledger')
    os.unlink(share.below('f1'))
    write_file(share.below('loose'), b'not locked')
    share.start()
    stats = share.must('reindex')['stats']
    assert (stats['files'], stats['locked'], stats['missing']) == (10, 9, 0)
    assert sorted(share.listed()) == sorted(set(names) - {'f1'})


def test_T33_reindex_sets_missing_pins(ten):
    share, names = ten
    share.stop()
    for name in os.listxattr(share.below('d')):
        os.removexattr(share.below('d'), name)
    share.start()
    share.must('reindex')
    share.remount()
    assert errno_of(os.rename, share.at('d'), share.at('e')) == 'EPERM'
    assert share.shows('d') == 'pinned'


def test_T33_a_full_share_leaves_what_is_locked_as_it_is(mount):
    base = mount.bases.make('ext4', 'small', size='32M')
    share = mount(base=base, state=os.path.join(mount.bases.root, 'state-of-small'))
    share.expect_log('No space left')
    share.lock('a')
    before = look(share.below('a'))
    result = errno_of(write_file, share.at('big'), b'x' * (40 << 20))
    assert result == 'ENOSPC'
    assert open_errno(share.at('a'), os.O_WRONLY) == 'EPERM'
    assert look(share.below('a')) == before
    # What was written before the space ran out was closed as well: it is whatever its close said.
    with opened(share.at('a'), os.O_RDONLY) as fd:
        assert os.read(fd, 100) == b'report\n'
