"""The tape archive as programs see it: the states of a file, users, and the program itself."""
import hashlib
import os
import re
import stat
import time

import pytest

from harness import ALICE, ROOT, as_user, errno_of, link_descriptor, open_errno, opened, read_file, run, scaled, wait_for, write_file
from tape import MOCKARCHIVE, ApiError, BIG, noise


# ---- states -------------------------------------------------------------------------------------

def test_a_file_goes_through_its_states_and_its_blocks_go_and_come_back(archive):
    a = archive()
    data = noise(BIG)
    with opened(a.at('f'), os.O_CREAT | os.O_RDWR) as fd:   # also of a writer that could read
        os.write(fd, data)
        assert a.is_now('f') == 'writing'
    assert a.is_now('f') == 'archiving'
    a.advance(4.9)
    assert a.is_now('f') == 'archiving' and a.blocks('f') * 512 >= BIG
    a.advance(0.1)
    assert a.is_now('f') == 'released'
    assert a.blocks('f') * 512 < 65536 and os.stat(os.path.join(a.data, 'f')).st_size == BIG
    st = os.stat(a.at('f'))
    assert (st.st_size, st.st_blocks) == (BIG, 1)
    assert open_errno(a.at('f'), os.O_RDONLY) == 'EIO' and a.is_now('f') == 'recalling'
    assert open_errno(a.at('f'), os.O_RDONLY) == 'EIO'
    a.advance(5)
    assert a.is_now('f') == 'dual' and read_file(a.at('f')) == data
    assert os.stat(a.at('f')).st_mtime_ns == st.st_mtime_ns
    assert a.states('f') == ['writing', 'resident', 'archiving', 'dual', 'released', 'recalling', 'dual']
    assert a.file('f')['sha256'] == hashlib.sha256(data).hexdigest()


def test_the_last_close_counts_not_the_first(archive):
    a = archive()
    fd = os.open(a.at('f'), os.O_CREAT | os.O_WRONLY)
    os.write(fd, b'first')
    twin = os.dup(fd)
    os.close(fd)
    a.advance(100)
    assert a.is_now('f') == 'writing'
    os.write(twin, b' second')
    os.close(twin)
    a.settle()
    assert a.is_now('f') == 'released' and read_file(os.path.join(a.replica, 'f')) == b'first second'


def test_an_unnamed_file_is_archived_once_it_has_a_name(archive):
    a = archive()
    with opened(a.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'never')
    with opened(a.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'named')
        link_descriptor(fd, a.at('f'))
    a.settle()
    assert [f['path'] for f in a.api('GET', '/v1/files')['files']] == ['/f']
    assert a.is_now('f') == 'released' and read_file(os.path.join(a.replica, 'f')) == b'named'


def test_an_empty_file_is_not_archived(archive):
    a = archive()
    a.put('f', b'')
    a.settle()
    assert a.is_now('f') == 'resident' and read_file(a.at('f')) == b''


def test_same_names_in_different_directories_do_not_meet(archive):
    a = archive()
    for d in ('x', 'y', 'y/z'):
        a.put(d + '/same', d.encode())
    a.settle()
    for d in ('x', 'y', 'y/z'):
        assert read_file(os.path.join(a.replica, d, 'same')) == d.encode()
        errno_of(read_file, a.at(d, 'same'))
    a.settle()
    for d in ('x', 'y', 'y/z'):
        assert read_file(a.at(d, 'same')) == d.encode()


def test_a_thousand_files_are_archived_and_recalled_in_under_five_seconds(archive):
    a = archive()
    begun = time.monotonic()
    for i in range(1000):
        write_file(a.at('f%d' % i), b'data of %d' % i)
    a.settle()
    assert a.api('GET', '/v1/state')['files']['released'] == 1000
    for i in range(1000):
        assert open_errno(a.at('f%d' % i), os.O_RDONLY) == 'EIO'
    a.settle()
    for i in range(1000):
        assert read_file(a.at('f%d' % i)) == b'data of %d' % i
    assert scaled(1000) < 1000 or time.monotonic() - begun < 5


# ---- users --------------------------------------------------------------------------------------

def test_permissions_are_those_of_the_modes(archive):
    a = archive(archive__when='explicit')
    os.chmod(a.mnt, 0o755)
    a.put('private/f')
    a.put('f')
    os.chmod(a.at('private'), 0o700)
    os.chmod(a.at('f'), 0o640)
    os.mkdir(a.at('shared'))
    os.chmod(a.at('shared'), 0o1777)
    a.put('shared/roots')
    os.chmod(a.at('shared/roots'), 0o666)

    def may(fn, *args):
        return as_user(ALICE, errno_of, fn, *args)
    assert may(os.stat, a.at('private/f')) == 'EACCES'
    assert may(read_file, a.at('f')) == 'EACCES'
    assert may(write_file, a.at('new')) == 'EACCES'
    assert may(os.unlink, a.at('f')) == 'EACCES'
    assert may(os.chmod, a.at('f'), 0o777) == 'EPERM'
    assert may(os.listdir, a.at('private')) == 'EACCES'
    assert may(write_file, a.at('shared/mine')) == 'OK' and os.stat(a.at('shared/mine')).st_uid == ALICE
    assert may(os.unlink, a.at('shared/roots')) == 'EPERM'      # the sticky bit of the directory
    assert may(write_file, a.at('shared/roots')) == 'OK'
    assert may(os.rename, a.at('shared/mine'), a.at('shared/his')) == 'OK'
    assert as_user(ALICE, os.access, a.at('f'), os.R_OK) is False


# ---- the program --------------------------------------------------------------------------------

def test_every_switch_takes_what_it_says_and_is_in_the_manual(archive):
    a = archive()
    manual = read_file(os.path.join(ROOT, 'docs/mockarchive.1')).decode()
    rows = re.findall(r'^  (\S+?)=(\S+)\n', run(MOCKARCHIVE, '--help').out.split('\nSwitches')[1], re.M)
    assert len(rows) > 30
    for key, takes in rows:
        assert '.It Cm %s Ns = ' % key in manual, key
        values = takes.split('|') if takes.islower() or '|' in takes else {'TIME': ['90s'], 'BYTES': ['65536'], 'N': ['7'], 'ERRNO': ['ESTALE'],
                                                                           'MB/s': ['2.5']}[takes]
        for value in values:
            value = {'ERRNO': 'ESTALE', 'BYTES': '65536', 'NAME+NAME...': 'eos+dos'}.get(value, value)
            a.set(**{key: value})
            assert {s['key']: s['value'] for s in a.api('GET', '/v1/settings')['settings']}[key] == value
        with pytest.raises(ApiError):
            a.set(**{key: 'nonsense,'})


@pytest.mark.parametrize('args, says', [
    (['--set', 'nothing=1'], "there is no switch 'nothing'"),
    (['--set', 'flag=somewhere'], 'flag=none|final|replica|both'),
    (['--profile', 'robot'], "there is no profile 'robot'"),
    (['--clock', 'scaled:0'], 'scaled:N'),
    (['--frobnicate'], "unknown argument '--frobnicate'"),
    (['-o', 'retention=soon'], "option 'retention'"),
])
def test_a_wrong_command_line_is_said_in_one_line_and_exits_2(args, says, tmp_path):
    p = run(MOCKARCHIVE, '-f', str(tmp_path / 'final'), '--store', str(tmp_path / 'store'), *args, check=False)
    assert p.returncode == 2 and says in p.err and len(p.err.splitlines()) == 1, p.err


def test_without_a_store_it_makes_one_and_takes_it_away_and_goes_to_the_background(tmp_path):
    final, tmp = str(tmp_path / 'final'), str(tmp_path / 'tmp')
    os.mkdir(tmp)
    env = dict(os.environ, TMPDIR=tmp, MOCKARCHIVE_RUN_DIR=str(tmp_path / 'run'))
    run(MOCKARCHIVE, final, '--clock', 'scaled:100000', env=env)
    try:
        write_file(os.path.join(final, 'f'), b'one')
        wait_for('the flag', lambda: os.stat(os.path.join(final, 'f')).st_mode & stat.S_ISVTX)
        assert len(os.listdir(tmp)) == 1
    finally:
        run('umount', final)
    wait_for('the end', lambda: os.listdir(tmp) == [])
