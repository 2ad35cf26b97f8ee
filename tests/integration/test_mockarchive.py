"""The tape archive as programs see it: states, flags, answers, copies, kills."""
import concurrent.futures
import hashlib
import mmap
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest

from harness import ALICE, ROOT, as_user, errno_of, link_descriptor, need_program, open_errno, opened, read_file, run, sanitizer, scaled, wait_for, write_file
from tape import MOCKARCHIVE, ApiError

BIG = 3 << 20
OPENBIS_T_FLAG = "ls -l '%s' | awk '{printf substr($1,10,1)}'"	# MultiDataSetArchivingUtils.java, isTFlagSet


def noise(n, seed=1):
    out = b''
    block = hashlib.sha256(b'%d' % seed).digest()
    while len(out) < n:
        block = hashlib.sha256(block).digest()
        out += block * 64
    return out[:n]


def t_flag(path):
    return run('sh', '-c', OPENBIS_T_FLAG % path).out


def reader(path, program='cat'):
    """A program that reads the file, started."""
    return subprocess.Popen([program, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


# ---- what the consumers do ----------------------------------------------------------------------

def test_the_demo_of_the_original_mock(archive):
    a = archive(profile='baker')
    run('sh', '-c', 'echo one > %s/myfile' % a.mnt)
    a.advance(5)
    p = run('cat', a.at('myfile'), check=False)
    assert p.returncode != 0 and 'Input/output error' in p.err
    assert open_errno(a.at('myfile'), os.O_RDONLY) == 'EIO'
    a.advance(5)
    assert run('cat', a.at('myfile')).out == 'one\n'
    assert a.file('myfile')['recalls'] == 1


def test_openBIS_sees_the_replica_complete_and_flagged_then_waits_for_the_flag_on_the_original(archive):
    a = archive()
    data = noise(BIG)
    a.put('c/container.tar', data)
    replica = os.path.join(a.replica, 'c/container.tar')
    assert not os.path.exists(replica)
    a.settle()
    # waitUntilReplicated: same size, and the flag on the replica.
    assert os.stat(replica).st_size == os.stat(a.at('c/container.tar')).st_size == len(data)
    assert t_flag(replica) == 'T' and t_flag(a.at('c/container.tar')) == 'T'
    assert run('tar', '-tf', a.at('c/container.tar'), check=False).returncode != 0    # prepares the recall
    assert t_flag(a.at('c/container.tar')) == 'T'
    a.settle()
    assert t_flag(a.at('c/container.tar')).lower() != 't'
    assert read_file(a.at('c/container.tar')) == data == read_file(replica)


@pytest.mark.parametrize('flag, final, replica', [('final', 'T', '-'), ('replica', '-', 'T'), ('both', 'T', 'T'), ('none', '-', '-')])
def test_the_flag_is_set_where_the_switch_says(archive, flag, final, replica):
    a = archive(flag=flag)
    a.archived('f')
    assert (t_flag(a.at('f')), t_flag(os.path.join(a.replica, 'f'))) == (final, replica)
    a.ask('recall', 'f')
    a.settle()
    assert (t_flag(a.at('f')), t_flag(os.path.join(a.replica, 'f'))) == ('-', '-')


def test_a_mode_that_is_read_and_written_back_does_not_keep_the_flag(archive):
    a = archive()
    a.archived('f')
    os.chmod(a.at('f'), stat.S_IMODE(os.stat(a.at('f')).st_mode) | 0o020)
    assert stat.S_IMODE(os.stat(a.at('f')).st_mode) == 0o1664
    a.ask('recall', 'f')
    a.settle()
    assert stat.S_IMODE(os.stat(a.at('f')).st_mode) == 0o664


def test_ScopeMArchiver_polls_access_and_reads_back_with_rsync_and_MD5(archive, tmp_path):
    need_program('rsync')
    a = archive()
    data = {'set/%d.bin' % i: noise(200000, i) for i in range(3)}
    for name, content in data.items():
        a.put(name, content)
    a.settle()
    assert not any(os.access(a.at(name), os.R_OK) for name in data)     # this poll starts the recall
    a.settle()
    assert all(os.access(a.at(name), os.R_OK) for name in data)
    target = str(tmp_path / 'back/set')
    run('rsync', '-rcvh', '--stats', '--no-perms', '--no-owner', '--no-group', '--mkpath', a.at('set') + '/', target)
    for name, content in data.items():
        assert hashlib.md5(read_file(os.path.join(target, os.path.basename(name)))).digest() == hashlib.md5(content).digest()


def test_rsync_of_an_offline_file_fails_and_leaves_nothing_behind(archive, tmp_path):
    need_program('rsync')
    a = archive()
    a.archived('f', noise(100000))
    assert run('rsync', a.at('f'), str(tmp_path) + '/', check=False).returncode == 23
    assert os.listdir(tmp_path) == []
    a.settle()
    run('rsync', a.at('f'), str(tmp_path) + '/')
    assert read_file(tmp_path / 'f') == noise(100000)


def test_tar_cp_and_dd_never_make_zeros_of_an_offline_file(archive, tmp_path):
    a = archive(profile='lustre')
    data = noise(BIG)
    commands = [
        ['tar', '-S', '-cf', str(tmp_path / 't.tar'), '-C', a.mnt, 'f'],
        ['cp', '--sparse=auto', a.at('f'), str(tmp_path / 'cp')],
        ['cp', '--sparse=always', '--reflink=never', a.at('f'), str(tmp_path / 'cps')],
        ['dd', 'if=' + a.at('f'), 'of=' + str(tmp_path / 'dd'), 'bs=64k', 'status=none'],
        ['dd', 'if=' + a.at('f'), 'of=' + str(tmp_path / 'ddd'), 'bs=64k', 'iflag=direct', 'status=none'],
    ]
    a.archived('f', data)
    for argv in commands:
        p = subprocess.Popen(argv)
        a.wait_callers('f')
        a.settle()
        assert p.wait(20) == 0, argv
        a.ask('release', 'f')
    run('tar', '-xf', str(tmp_path / 't.tar'), '-C', str(tmp_path))
    for name in ('f', 'cp', 'cps', 'dd', 'ddd'):
        assert read_file(tmp_path / name) == data, name


def test_the_traps_are_there_when_they_are_asked_for(archive, tmp_path):
    a = archive(profile='lustre', st_blocks='0')
    a.archived('f', noise(BIG))
    run('tar', '-S', '-cf', str(tmp_path / 't.tar'), '-C', a.mnt, 'f')
    run('tar', '-xf', str(tmp_path / 't.tar'), '-C', str(tmp_path))
    assert read_file(tmp_path / 'f') == bytes(BIG)      # silent loss: what GNU tar does with st_blocks 0
    a.set(st_blocks='1', seek='hole')
    run('cp', '--reflink=never', a.at('f'), str(tmp_path / 'cp'))
    assert read_file(tmp_path / 'cp') == bytes(BIG)
    assert a.is_now('f') == 'released'


def test_a_mapping_of_an_offline_file_waits_and_has_the_data(archive):
    a = archive(profile='lustre')
    data = noise(300000)
    a.archived('f', data)
    code = ('import mmap,sys;f=open(sys.argv[1],"rb");m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ);'
            'sys.stdout.buffer.write(m[:])')
    p = subprocess.Popen(['/usr/bin/python3', '-c', code, a.at('f')], stdout=subprocess.PIPE)
    a.wait_callers('f')
    a.settle()
    assert p.communicate(timeout=20)[0] == data and p.returncode == 0


def test_a_mapping_from_before_the_release_reads_through_a_recall(archive):
    a = archive(profile='lustre', release__when='explicit')
    data = noise(300000)
    a.archived('f', data, state='dual')
    pid = None
    r, w = os.pipe()
    go_r, go_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            f = open(a.at('f'), 'rb')
            m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
            first = m[:]
            os.write(w, b'1' if first == data else b'0')
            os.read(go_r, 1)
            os.write(w, b'1' if m[:] == data else b'0')
        finally:
            os._exit(0)
    try:
        assert os.read(r, 1) == b'1'
        a.ask('release', 'f')
        assert a.is_now('f') == 'released'
        os.write(go_w, b'x')
        a.wait_callers('f')
        a.settle()
        assert os.read(r, 1) == b'1'
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (r, w, go_r, go_w):
            os.close(fd)


def test_an_offline_program_runs_once_it_is_recalled(archive):
    a = archive()
    shutil.copy('/bin/echo', a.at('echo'))
    os.chmod(a.at('echo'), 0o755)
    a.settle()
    assert a.is_now('echo') == 'released'
    p = run('sh', '-c', a.at('echo') + ' hello', check=False)
    assert p.returncode != 0
    a.settle()
    assert run(a.at('echo'), 'hello').out == 'hello\n'
    a.api('PATCH', '/v1/settings', profile='lustre')
    a.ask('release', 'echo')
    p = subprocess.Popen(['sh', '-c', 'exec "$0" again', a.at('echo')], stdout=subprocess.PIPE)
    a.wait_callers('echo')
    a.settle()
    assert p.communicate(timeout=20)[0] == b'again\n'


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


# ---- answers ------------------------------------------------------------------------------------

@pytest.mark.parametrize('profile, answer', [('eth-lts', 'EIO'), ('baker', 'EIO'), ('lustre-nonblocking', 'ENODATA')])
def test_a_profile_that_answers_with_an_errno(archive, profile, answer):
    a = archive(profile=profile)
    a.archived('f')
    assert errno_of(read_file, a.at('f')) == answer and a.is_now('f') == 'recalling'
    a.settle()
    assert read_file(a.at('f')) == b'one\n'


@pytest.mark.parametrize('profile', ['lustre', 'dmf'])
def test_a_profile_that_lets_readers_wait(archive, profile):
    a = archive(profile=profile)
    a.archived('f')
    p = reader(a.at('f'))
    a.wait_callers('f')
    assert a.is_now('f') == 'recalling'
    a.settle()
    assert p.communicate(timeout=20)[0] == b'one\n'


@pytest.mark.parametrize('profile, answer', [('samba', 'EACCES'), ('cta', 'EIO')])
def test_a_profile_that_wants_to_be_asked(archive, profile, answer):
    a = archive(profile=profile)
    a.archived('f')
    assert errno_of(read_file, a.at('f')) == answer and a.is_now('f') == 'released'
    a.ask('recall', 'f')
    a.settle()
    assert read_file(a.at('f')) == b'one\n'


def test_block_then_errno(archive):
    a = archive(profile='lustre', read__answer='block-errno', read__block='60s', recall__delay='1h')
    a.archived('f')
    p = reader(a.at('f'))
    a.wait_callers('f')
    a.advance(61)
    assert p.wait(20) == 1 and b'Input/output error' in p.stderr.read()
    assert a.is_now('f') == 'recalling'


def test_open_with_O_NONBLOCK_does_not_wait(archive):
    a = archive(profile='lustre', trigger='open', nonblock__errno='EAGAIN')
    a.archived('f')
    assert open_errno(a.at('f'), os.O_RDONLY | os.O_NONBLOCK) == 'EAGAIN'
    assert a.is_now('f') == 'recalling'


def test_the_preview_is_read_without_a_recall(archive):
    a = archive(profile='lustre-nonblocking', preview='4096')
    data = noise(100000)
    a.archived('f', data, state='partial')
    with opened(a.at('f'), os.O_RDONLY) as fd:
        assert os.pread(fd, 1000, 0) == data[:1000] and os.pread(fd, 96, 4000) == data[4000:4096]
        assert a.is_now('f') == 'partial'
        assert errno_of(os.pread, fd, 1000, 4000) == 'ENODATA'
        assert a.is_now('f') == 'recalling'
        a.settle()
        assert os.pread(fd, 1000, 4000) == data[4000:5000]


@pytest.mark.parametrize('value, size', [('logical', 100000), ('zero', 0), ('stub', 4096)])
def test_st_size_of_an_offline_file(archive, value, size):
    a = archive(profile='lustre-nonblocking', st_size=value, preview='4096')
    a.archived('f', noise(100000), state='partial')
    assert os.stat(a.at('f')).st_size == size
    with opened(a.at('f'), os.O_RDONLY) as fd:
        assert errno_of(os.pread, fd, 10, 50000) == 'ENODATA'
        a.settle()
        assert os.pread(fd, 10, 50000) == noise(100000)[50000:50010]


@pytest.mark.parametrize('value, blocks', [('0', 0), ('1', 1), ('stub', 1), ('full', 196)])
def test_st_blocks_of_an_offline_file(archive, value, blocks):
    a = archive(st_blocks=value)
    a.archived('f', noise(100000))
    assert os.stat(a.at('f')).st_blocks == blocks


def test_seek_says_data_or_hole_or_nothing(archive):
    a = archive(profile='lustre')
    a.archived('f', noise(100000))
    with opened(a.at('f'), os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 0, os.SEEK_HOLE) == 100000
        assert errno_of(os.lseek, fd, 100000, os.SEEK_DATA) == 'ENXIO'
        a.set(seek='hole')
        assert errno_of(os.lseek, fd, 0, os.SEEK_DATA) == 'ENXIO' and os.lseek(fd, 0, os.SEEK_HOLE) == 0
        a.set(seek='none')
        assert errno_of(os.lseek, fd, 0, os.SEEK_DATA) == 'EINVAL'
        assert os.lseek(fd, 0, os.SEEK_END) == 100000
    assert a.is_now('f') == 'released'


def test_access_says_what_the_switch_says(archive):
    a = archive(access='normal')
    a.archived('f')
    assert os.access(a.at('f'), os.R_OK)
    a.set(access='denied')
    assert not os.access(a.at('f'), os.R_OK) and os.access(a.at('f'), os.F_OK) and a.is_now('f') == 'released'
    a.set(access='recall')
    assert not os.access(a.at('f'), os.R_OK) and a.is_now('f') == 'recalling'
    a.settle()
    assert os.access(a.at('f'), os.R_OK)


def test_attributes_of_each_archive(archive):
    a = archive(xattrs='eos+dmf+lustre+wormfs+dos')
    a.archived('f')

    def get(name):
        return os.getxattr(a.at('f'), name)
    assert get('user.wormfs.archive.state') == b'released'
    assert get('user.lustre.hsm_state') == b'(0x0000000d) released exists archived, archive_id:1'
    assert len(get('trusted.hsm')) == 24 and get('trusted.hsm')[4] == 0xd
    assert get('user.dmf.state') == b'OFL' and len(get('trusted.SGI_DMI_DMFATTR')) == 22
    assert get('user.smb3.dosattrib') == bytes.fromhex('20104000') and get('dmapi.IBMObj') == b'1'
    assert get('sys.archive.file_id') == b'%d' % os.stat(a.at('f')).st_ino
    assert errno_of(get, 'sys.retrieve.req_id') == 'ENODATA'
    assert os.listxattr(a.at('f')) == []
    assert errno_of(os.setxattr, a.at('f'), 'user.wormfs.archive.state', b'x') == 'EPERM'
    errno_of(read_file, a.at('f'))
    assert get('sys.retrieve.req_id') and get('user.dmf.state') == b'UNM'
    a.set(xattrs='none')
    assert errno_of(get, 'sys.archive.file_id') in ('ENODATA', 'EOPNOTSUPP')


def test_samba_takes_it_for_offline_by_its_blocks(archive):
    a = archive(profile='samba')
    a.archived('f', noise(100000))
    st = os.stat(a.at('f'))
    assert st.st_blocks * 512 < 0.5 * st.st_size


def test_dot_files_of_dCache(archive):
    a = archive(profile='cta', dotfiles='on')
    a.archived('d/f')

    def dot(name):
        return read_file(a.at('d', name)).decode()
    assert dot('.(get)(f)(locality)') == 'NEARLINE\n'
    assert dot('.(get)(f)(checksum)') == 'ADLER32:03de014d\n'
    assert errno_of(dot, '.(get)(nothing)(locality)') == 'ENOENT'
    run('touch', a.at('d', '.(fset)(f)(pin)(60)(SECONDS)'))
    a.advance(5)
    assert dot('.(get)(f)(locality)') == 'ONLINE_AND_NEARLINE\n'
    assert a.file('d/f')['pinned']
    assert os.listdir(a.at('d')) == ['f']
    a.set(dotfiles='off')
    assert errno_of(dot, '.(get)(f)(locality)') == 'ENOENT'


# ---- who waits, and how it ends -----------------------------------------------------------------

@pytest.mark.parametrize('how', ['open', 'read', 'direct'])
def test_a_reader_that_waits_for_ever_dies_of_SIGKILL_at_once(archive, how):
    a = archive(profile='lustre', trigger='open' if how == 'open' else 'read')
    a.archived('f', noise(100000))
    a.fault({'op': 'recall.copy'}, hang='killable')
    argv = ['dd', 'if=' + a.at('f'), 'of=/dev/null', 'status=none'] + (['iflag=direct'] if how == 'direct' else [])
    p = subprocess.Popen(argv)
    a.wait_callers('f')
    a.advance(3600)
    begun = time.monotonic()
    p.kill()
    p.wait(10)
    assert time.monotonic() - begun < 2
    if how != 'read':	# there the kernel gives up on its page, and asks no more
        wait_for('the end of the call', lambda: a.file('f')['waiting'] == 0)


def test_SIGINT_ends_a_wait_with_EINTR(archive):
    a = archive(profile='lustre', trigger='open')
    a.archived('f')
    code = ('import os,signal,sys;signal.signal(signal.SIGALRM,lambda *x:1/0);\n'
            'try:\n os.open(sys.argv[1],os.O_RDONLY)\nexcept ZeroDivisionError:\n sys.exit(7)')
    p = subprocess.Popen(['/usr/bin/python3', '-c', code, a.at('f')], stderr=subprocess.DEVNULL)
    a.wait_callers('f')
    p.send_signal(signal.SIGALRM)
    assert p.wait(10) == 7
    a.settle()
    assert read_file(a.at('f')) == b'one\n'


def test_many_readers_that_wait_do_not_hold_up_others(archive):
    a = archive(profile='lustre')
    for i in range(40):
        a.put('f%d' % i, noise(50000, i))
    a.settle()
    a.set(release__when='explicit')
    a.archived('resident', b'here', state='dual')
    readers = [reader(a.at('f%d' % i)) for i in range(40)]
    wait_for('40 callers', lambda: a.api('GET', '/v1/state')['queue']['waiting'] >= 40)
    assert run('cat', a.at('resident'), timeout=5).out == 'here'
    a.put('new', b'new')
    assert run('ls', a.mnt, timeout=5).out
    a.settle()
    for i, p in enumerate(readers):
        assert p.communicate(timeout=20)[0] == noise(50000, i)


def test_an_unmount_by_a_signal_ends_those_who_wait(archive):
    a = archive(profile='lustre')
    a.archived('f')
    p = reader(a.at('f'))
    a.wait_callers('f')
    a.terminate()
    assert p.wait(10) != 0


# ---- names and changes during it ----------------------------------------------------------------

@pytest.mark.parametrize('phase', ['archiving', 'released', 'recalling'])
def test_renamed_in_each_phase(archive, phase):
    a = archive(profile='lustre-nonblocking')
    data = noise(100000)
    a.put('d/f', data)
    if phase != 'archiving':
        a.settle()
    if phase == 'recalling':
        errno_of(read_file, a.at('d/f'))
    assert a.is_now('d/f') == phase
    os.rename(a.at('d/f'), a.at('d/g'))
    os.rename(a.at('d'), a.at('e'))
    assert a.is_now('e/g') == phase
    a.settle()
    errno_of(read_file, a.at('e/g'))
    a.settle()
    assert read_file(a.at('e/g')) == data == read_file(os.path.join(a.replica, 'e/g'))
    assert not os.path.exists(os.path.join(a.replica, 'd'))


@pytest.mark.parametrize('phase', ['archiving', 'dual', 'released', 'recalling'])
def test_removed_in_each_phase(archive, phase):
    a = archive(profile='lustre-nonblocking', release__when='explicit' if phase == 'dual' else 'archived')
    a.put('f', noise(100000))
    if phase != 'archiving':
        a.settle()
    if phase == 'recalling':
        errno_of(read_file, a.at('f'))
    assert a.is_now('f') == phase
    os.unlink(a.at('f'))
    a.settle()
    assert errno_of(os.stat, a.at('f')) == 'ENOENT'
    assert os.listdir(os.path.join(a.store, 'tape')) == [] and os.listdir(a.replica) == []
    assert a.api('GET', '/v1/files')['files'] == []
    a.archived('f', b'another', state='dual' if phase == 'dual' else 'released')


def test_removed_while_somebody_waits_for_it(archive):
    a = archive(profile='lustre')
    a.archived('f')
    p = reader(a.at('f'))
    a.wait_callers('f')
    os.unlink(a.at('f'))
    assert p.wait(10) == 1 and b'Input/output error' in p.stderr.read()


def test_a_file_that_replaces_another_has_its_own_copies(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', b'old')
    a.put('g', b'new!')
    os.rename(a.at('g'), a.at('f'))
    a.settle()
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'new!' == read_file(os.path.join(a.replica, 'f'))
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == 1


@pytest.mark.parametrize('phase', ['archiving', 'dual'])
def test_written_again_it_is_archived_again(archive, phase):
    a = archive(release__when='explicit')
    a.put('f', b'old')
    if phase == 'dual':
        a.settle()
    with opened(a.at('f'), os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b' and new')
    a.settle()
    assert a.is_now('f') == 'dual'
    assert read_file(os.path.join(a.replica, 'f')) == b'old and new'
    assert a.file('f')['copies'] == {'tape': 'good', 'replica': 'good'}
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == 1


def test_opened_for_writing_and_not_changed_it_stays_as_it_is(archive):
    a = archive(release__when='explicit')
    a.archived('f', state='dual')
    with opened(a.at('f'), os.O_RDWR):
        assert a.is_now('f') == 'writing'
    wait_for('dual again', lambda: a.is_now('f') == 'dual')
    assert a.api('GET', '/v1/clock')['events'] == 0


def test_opening_an_offline_file_for_writing_recalls_it_first(archive):
    a = archive(profile='lustre')
    a.archived('f', b'old')
    p = subprocess.Popen(['sh', '-c', 'echo " and new" >> "$0"', a.at('f')])
    a.wait_callers('f')
    a.settle()
    assert p.wait(10) == 0
    a.settle()
    assert read_file(os.path.join(a.replica, 'f')) == b'old and new\n'


@pytest.mark.parametrize('phase', ['archiving', 'released', 'recalling'])
@pytest.mark.parametrize('how', ['open', 'path'])
def test_truncated_to_nothing_needs_no_recall(archive, phase, how):
    a = archive(profile='lustre-nonblocking')
    a.put('f', noise(100000))
    if phase != 'archiving':
        a.settle()
    if phase == 'recalling':
        errno_of(read_file, a.at('f'))
    if how == 'open':
        with opened(a.at('f'), os.O_WRONLY | os.O_TRUNC) as fd:
            os.write(fd, b'new')
    else:
        os.truncate(a.at('f'), 0)
        assert os.stat(a.at('f')).st_size == 0
        with opened(a.at('f'), os.O_WRONLY) as fd:
            os.write(fd, b'new')
    a.settle()
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'new' == read_file(os.path.join(a.replica, 'f'))


def test_truncated_to_a_part_is_recalled_first(archive):
    a = archive(profile='lustre')
    data = noise(100000)
    a.archived('f', data)
    p = subprocess.Popen(['truncate', '-s', '5000', a.at('f')])
    a.wait_callers('f')
    a.settle()
    assert p.wait(10) == 0
    a.settle()
    assert read_file(os.path.join(a.replica, 'f')) == data[:5000]


def test_a_second_name_leads_to_the_same_copies(archive):
    a = archive(profile='lustre-nonblocking')
    a.archived('f', b'both')
    os.link(a.at('f'), a.at('g'))
    assert a.is_now('g') == 'released'
    os.unlink(a.at('f'))
    assert errno_of(read_file, a.at('g')) == 'ENODATA'
    a.settle()
    assert read_file(a.at('g')) == b'both' == read_file(os.path.join(a.replica, 'g'))


# ---- copies -------------------------------------------------------------------------------------

def test_a_lost_file_keeps_its_size_and_cannot_be_read(archive):
    a = archive(profile='lustre')
    a.archived('f')
    a.ask('lose', 'f', copy='both')
    assert a.is_now('f') == 'lost' and os.stat(a.at('f')).st_size == 4
    assert errno_of(read_file, a.at('f')) == 'EPERM'
    assert not os.path.exists(os.path.join(a.replica, 'f'))


def test_a_lost_tape_copy_is_mended_from_the_replica(archive):
    a = archive()
    a.archived('f')
    a.ask('lose', 'f', copy='tape')
    assert errno_of(read_file, a.at('f')) == 'EIO' and a.is_now('f') == 'lost'
    a.ask('mend', 'f')
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'one\n'
    a.ask('release', 'f')
    a.ask('lose', 'f', copy='tape')
    a.set(recall__from='any')
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == b'one\n'


def test_damaged_and_unavailable_copies(archive):
    a = archive(unavailable__errno='ENOMEDIUM', damaged__errno='EBADMSG')
    a.archived('f')
    a.ask('unavailable', 'f')
    assert a.is_now('f') == 'unavailable' and errno_of(read_file, a.at('f')) == 'ENOMEDIUM'
    a.ask('mend', 'f')
    a.ask('damage', 'f', copy='tape')
    assert a.is_now('f') == 'damaged' and errno_of(read_file, a.at('f')) == 'EBADMSG'
    a.ask('mend', 'f')
    assert a.is_now('f') == 'released'


def test_a_corrupted_copy_comes_back_with_its_size_and_other_data(archive):
    a = archive()
    data = noise(100000)
    a.archived('f', data)
    a.ask('corrupt', 'f', copy='tape', corrupt={'how': 'flip', 'offset': 5000})
    errno_of(read_file, a.at('f'))
    a.settle()
    got = read_file(a.at('f'))
    assert len(got) == len(data) and [i for i in range(len(data)) if got[i] != data[i]] == [5000]


# ---- resources ----------------------------------------------------------------------------------

def test_drives_mount_seek_rewind_and_rate_take_their_time(archive):
    a = archive(drives=1, archive__delay='0', recall__delay='0', tape__mount='60s', tape__seek='10s', tape__rewind='30s', tape__rate='1',
                tape__files=1)
    a.put('f', noise(2000000))
    a.advance(71.9)
    assert a.is_now('f') == 'archiving'
    a.advance(0.1)                      # 60 + 10 + 2 MB at 1 MB/s
    assert a.is_now('f') == 'released'
    a.put('g', noise(1000000))
    a.advance(100.9)                    # another tape: 30 + 60 + 10 + 1
    assert a.is_now('g') == 'archiving'
    a.advance(0.1)
    assert a.is_now('g') == 'released'
    errno_of(read_file, a.at('g'))
    a.advance(11)                       # its tape is in the drive
    assert a.is_now('g') == 'dual'


def test_few_drives_make_a_queue_and_a_drive_that_is_down_takes_nothing(archive):
    a = archive(drives=2)
    for i in range(6):
        a.put('f%d' % i)
    a.advance(0)
    state = a.api('GET', '/v1/state')
    assert state['queue']['archive'] == 4
    a.advance(5)
    assert a.api('GET', '/v1/state')['files']['released'] == 2
    a.api('PATCH', '/v1/drives/0', up=False)
    a.advance(5)
    assert a.api('GET', '/v1/state')['files']['released'] == 3
    a.api('PATCH', '/v1/drives/1', up=False)
    a.advance(3600)
    assert a.api('GET', '/v1/state')['files']['released'] == 3
    a.api('PATCH', '/v1/drives/0', up=True)
    a.settle()
    assert a.api('GET', '/v1/state')['files']['released'] == 6


def test_recalls_go_before_archive_jobs(archive):
    a = archive(drives=1)
    a.archived('old')
    a.put('x')
    a.put('y')
    errno_of(read_file, a.at('old'))
    a.advance(10)
    assert (a.is_now('old'), a.is_now('x'), a.is_now('y')) == ('dual', 'released', 'archiving')


def test_a_full_queue_refuses(archive):
    a = archive(drives=1, queue__limit=1)
    for name in ('f', 'g', 'h'):
        a.put(name)
        a.advance(0)
    assert a.is_now('h') == 'failed-archive' and a.file('h')['error']['errno'] == 'EAGAIN'
    a.settle()
    a.ask('archive', 'h')
    a.settle()
    assert a.is_now('h') == 'released'


def test_the_library_down_is_unavailable_and_starts_nothing(archive):
    a = archive()
    a.archived('f')
    a.api('PATCH', '/v1/library', up=False)
    assert a.is_now('f') == 'unavailable' and errno_of(read_file, a.at('f')) == 'EIO'
    a.put('g')
    a.advance(100)
    assert a.is_now('g') == 'archiving'
    a.api('PATCH', '/v1/library', up=True)
    a.settle()
    assert a.is_now('g') == 'released' and a.is_now('f') == 'released'


def test_the_cache_evicts_the_oldest_but_what_is_pinned(archive):
    a = archive(release__when='pressure', cache__size='250000')
    a.archived('a', noise(100000), state='dual')
    a.ask('pin', 'a', pin=3600)
    a.advance(1)
    a.archived('b', noise(100000), state='dual')
    a.advance(1)
    st = os.statvfs(a.mnt)
    assert st.f_blocks * st.f_frsize <= 250000 and st.f_bavail * st.f_frsize <= 50000
    a.put('c', noise(100000))
    a.settle()
    assert [a.is_now(n) for n in 'abc'] == ['dual', 'released', 'dual']
    a.set(statvfs__free='0')
    assert os.statvfs(a.mnt).f_bavail == 0


def test_a_recalled_copy_goes_after_its_time_unless_it_is_pinned(archive):
    a = archive(recall__keep='60s')
    a.archived('f')
    a.ask('recall', 'f')
    a.advance(5)
    assert a.is_now('f') == 'dual'
    a.advance(60)
    assert a.is_now('f') == 'released'
    a.ask('recall', 'f', pin=600)
    a.advance(5)
    a.advance(300)
    assert a.is_now('f') == 'dual'
    a.advance(300)
    assert a.is_now('f') == 'released'


def test_evict_takes_one_pin_at_a_time(archive):
    a = archive()
    a.archived('f')
    a.ask('recall', 'f', pin=600)
    a.settle()
    a.ask('pin', 'f', pin=600)
    assert a.file('f')['evict_counter'] == 2
    a.ask('evict', 'f')
    assert a.is_now('f') == 'dual'
    a.ask('evict', 'f')
    assert a.is_now('f') == 'released'


def test_release_is_refused_where_it_would_lose_data(archive):
    a = archive(archive__when='explicit')
    a.put('f')
    with pytest.raises(ApiError) as e:
        a.ask('release', 'f')
    assert e.value.errno == 'ENODATA'
    with opened(a.at('f'), os.O_WRONLY):
        with pytest.raises(ApiError) as e:
            a.ask('archive', 'f')
        assert e.value.errno == 'EBUSY'


# ---- restart and kill ---------------------------------------------------------------------------

@pytest.mark.parametrize('phase', ['writing', 'archiving', 'dual', 'released', 'recalling'])
@pytest.mark.parametrize('how', ['kill', 'restart'])
def test_killed_or_restarted_in_each_phase_nothing_is_lost(archive, phase, how):
    a = archive(profile='lustre-nonblocking', release__when='explicit' if phase == 'dual' else 'archived')
    data = noise(300000)
    fd = -1
    if phase == 'writing' and how == 'kill':
        fd = os.open(a.at('d'), os.O_CREAT | os.O_WRONLY)
        os.write(fd, data)
        path = 'd'
    else:
        path = 'x/f'
        a.put(path, data)
        if phase not in ('archiving', 'writing'):
            a.settle()
        if phase == 'recalling':
            errno_of(read_file, a.at(path))
        assert a.is_now(path) == (phase if phase != 'writing' else 'archiving')
    if how == 'kill':
        a.kill9()
        if fd >= 0:
            errno_of(os.close, fd)
        a.start()
    else:
        a.restart()
    a.settle()
    if phase == 'recalling':
        assert a.is_now(path) == 'dual'
    errno_of(read_file, a.at(path))
    a.settle()
    assert read_file(a.at(path)) == data == read_file(os.path.join(a.replica, path))
    assert a.is_now(path) == 'dual' and os.listdir(os.path.join(a.store, 'tape')) == [os.listdir(os.path.join(a.store, 'tape'))[0]]


@pytest.mark.parametrize('point', ['archive.queue', 'archive.mount', 'archive.copy', 'archive.verify', 'archive.release', 'archive.flag',
                                   'recall.queue', 'recall.mount', 'recall.copy', 'recall.flag'])
def test_a_crash_at_each_point_of_a_job_loses_nothing(archive, point):
    a = archive(profile='lustre-nonblocking', flag='both')
    data = noise(300000)
    if point.startswith('recall'):
        a.archived('f', data)
        a.fault({'op': point}, crash=True)
        errno_of(read_file, a.at('f'))
    else:
        a.fault({'op': point}, crash=True)
        write_file(a.at('f'), data)
    with pytest.raises(Exception):
        a.settle()
        a.settle()
    a.proc.wait(10)
    assert a.proc.returncode == -signal.SIGKILL
    a.kill9()
    a.start()
    a.settle()
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == data == read_file(os.path.join(a.replica, 'f'))


def test_states_pins_and_copies_come_back_after_a_restart(archive):
    a = archive()
    a.archived('f')
    a.ask('recall', 'f', pin=86400)
    a.settle()
    a.ask('lose', 'f', copy='replica')
    before = a.file('f')
    a.restart()
    after = a.file('f')
    for key in ('state', 'copies', 'pinned', 'pin_until', 'evict_counter', 'sha256', 'adler32', 'tape', 'recalls', 'archived', 'recalled', 'flag'):
        assert after[key] == before[key], key


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


# ---- locked files -------------------------------------------------------------------------------

def verify(a, *args):
    return a.ctl('verify', *args, a.mnt, check=False)


def test_a_locked_file_stays_locked_on_tape_and_T44_verify_says_offline_not_corrupt(archive):
    a = archive('-o', 'worm,retention=1y')
    data = noise(300000)
    path = a.put('d/f', data)
    a.wait_state(path, 'retained')
    until = a.shows(path, 'until')
    a.settle()
    assert a.is_now('d/f') == 'released' and a.file('d/f')['worm']
    digest = hashlib.sha256(data).hexdigest()

    def locked():
        assert a.shows(path) == 'retained' and a.shows(path, 'until') == until and not a.explain(path)['suspect']
        assert open_errno(path, os.O_WRONLY) == 'EPERM' == open_errno(path, os.O_RDONLY | os.O_TRUNC)
        assert errno_of(os.truncate, path, 0) == 'EPERM' == errno_of(os.unlink, path)
        assert errno_of(os.rename, path, path + '2') == 'EPERM' == errno_of(os.rename, a.at('d'), a.at('e'))
        assert a.shows(path, 'sha256') == digest
    locked()
    assert a.is_now('d/f') == 'released'        # who was refused started no recall
    p = verify(a)
    assert p.returncode == 0 and '0 findings' in p.out and '1 are offline' in p.out, p.out + p.err
    a.restart()
    locked()
    assert errno_of(read_file, path) == 'EIO'
    a.settle()
    assert read_file(path) == data
    locked()
    p = verify(a)
    assert p.returncode == 0 and '0 findings' in p.out and 'offline' not in p.out, p.out + p.err
    with pytest.raises(ApiError) as e:
        a.ask('delete', 'd/f')
    assert e.value.errno == 'EPERM'


def test_a_small_locked_file_on_tape_is_never_read_as_zeros(archive):
    a = archive('-o', 'worm,retention=1y', profile='lustre-nonblocking')
    path = a.put('f', b'precious')
    a.wait_state(path, 'retained')
    a.settle()
    a.restart()         # nothing of it is in a cache
    assert a.is_now('f') == 'released'
    for _ in range(3):
        with opened(path, os.O_RDONLY) as fd:
            assert errno_of(os.read, fd, 100) == 'ENODATA'
    a.settle()
    assert read_file(path) == b'precious'


def test_verify_finds_a_recalled_file_that_came_back_with_another_byte(archive):
    a = archive('-o', 'worm,retention=1y')
    path = a.put('f', noise(300000))
    a.wait_state(path, 'retained')
    a.settle()
    a.ask('corrupt', 'f', copy='tape', corrupt={'how': 'flip', 'offset': 70000})
    errno_of(read_file, path)
    a.settle()
    p = verify(a)
    assert p.returncode == 1 and ': data: ' in p.out, p.out + p.err


def test_a_hundred_locked_files_on_tape_all_verify(archive):
    a = archive('-o', 'worm,retention=1y')
    for i in range(100):
        a.put('f%d' % i, noise(5000, i))
    for i in range(100):
        a.wait_state(a.at('f%d' % i), 'retained')
    a.settle()
    wait_for('all on tape', lambda: a.advance(1) and a.api('GET', '/v1/state')['files']['released'] == 100)
    p = verify(a, '--json')
    assert p.returncode == 0 and '"offline": 100' in p.out.replace('":', '": ').replace(':  ', ': '), p.out + p.err
    assert a.info()['problems'] == [] or all('clock' in t for t in a.info()['problems'])


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


# ---- all at once --------------------------------------------------------------------------------

def worker(a, n, until):
    """Files of its own in a tree that all use: written, read, renamed, removed, truncated; never anything but what it wrote."""
    rng = random.Random(n)
    mine, count = {}, 0
    top = a.at('w%d' % n)
    os.mkdir(top)
    while time.monotonic() < until:
        count += 1
        do = rng.choice(['write', 'write', 'read', 'read', 'read', 'append', 'rename', 'remove', 'truncate', 'stat', 'list', 'link'])
        name = rng.choice(sorted(mine)) if mine and do != 'write' else '%s/%d' % (top, rng.randrange(12))
        try:
            if do == 'write':
                data = noise(rng.choice([10, 5000, 200000]), rng.randrange(1000))
                with open(name, 'wb') as f:
                    f.write(data)
                mine[name] = data
            elif name not in mine:
                continue
            elif do == 'read':
                with open(name, 'rb') as f:
                    got = f.read()
                assert got == mine[name], (name, len(got), len(mine[name]))
            elif do == 'append':
                with open(name, 'ab') as f:
                    f.write(b'more')
                mine[name] += b'more'
            elif do == 'rename':
                to = '%s/%d' % (top, rng.randrange(12))
                os.rename(name, to)
                mine[to] = mine.pop(name)
            elif do == 'remove':
                os.unlink(name)
                del mine[name]
            elif do == 'truncate':
                size = rng.choice([0, 7])
                os.truncate(name, size)
                mine[name] = (mine[name] + bytes(7))[:size]
            elif do == 'stat':
                assert os.stat(name).st_size == len(mine[name])
            elif do == 'list':
                assert {os.path.join(top, f) for f in os.listdir(top)} == set(mine)
            elif do == 'link':
                with open(name, 'rb') as f:
                    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) if mine[name] else b''
                    assert bytes(m[:]) == mine[name]
        except OSError as e:
            raise AssertionError('%s %s: %s' % (do, name, e)) from None
    return mine, count


def test_many_at_once_never_read_anything_but_what_they_wrote(archive):
    a = archive(profile='lustre', archive__delay='10s', recall__delay='5s', recall__keep='20s', cache__size='2M', drives=3, tape__mount='3s',
                tape__files=5, verify='on')
    a.api('PATCH', '/v1/clock', mode='scaled:500')
    until = time.monotonic() + (4 if not sanitizer() else 8)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = [f.result() for f in [pool.submit(worker, a, n, until) for n in range(8)]]
    a.api('PATCH', '/v1/clock', mode='manual')
    a.settle()
    files = {name: data for mine, _ in results for name, data in mine.items()}
    for name in files:
        a.ask('recall', os.path.relpath(name, a.mnt), pin=86400)
    a.settle()
    for name, data in files.items():
        assert a.file(os.path.relpath(name, a.mnt))['online'] and read_file(name) == data
        if data:
            assert read_file(os.path.join(a.replica, os.path.relpath(name, a.mnt))) == data
    assert sum(count for _, count in results) > 200
    state = a.api('GET', '/v1/state')
    assert state['queue'] == {'archive': 0, 'recall': 0, 'waiting': 0}
    # Of a file that is empty now, the copy that it had is stale, and there.
    known = [f for f in a.api('GET', '/v1/files?limit=1000')['files'] if f['copies']['tape'] in ('good', 'stale')]
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == len(known) and a.api('GET', '/v1/state')['files_total'] == len(files)


def churn(a, n, until):
    """Files that live for moments, and some that stay: the lower filesystem gives the number of one that is gone to the next one."""
    rng, count = random.Random(n), 0
    os.mkdir(a.at('c%d' % n))
    while time.monotonic() < until:
        name, count = a.at('c%d/%d' % (n, count)), count + 1
        write_file(name, b'x' * 5000)
        do = rng.choice(['truncate', 'hold', 'remove', 'replace', 'stay'])
        if do == 'stay':
            continue
        if do == 'truncate':
            os.truncate(name, rng.choice([0, 7]))
        elif do == 'replace':
            write_file(name + '.new', b'y')
            os.rename(name + '.new', name)
        held = open(name, 'rb') if do == 'hold' else None
        os.unlink(name)
        if held:
            held.close()


def test_a_file_with_the_number_of_one_that_was_removed_is_a_file_of_its_own(archive):
    a = archive(profile='lustre', archive__delay='1s', recall__delay='1s')
    a.api('PATCH', '/v1/clock', mode='scaled:500')
    until = time.monotonic() + (2 if not sanitizer() else 4)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for f in [pool.submit(churn, a, n, until) for n in range(6)]:
            f.result()
    a.api('PATCH', '/v1/clock', mode='manual')
    a.settle()
    names = sorted(os.path.join(d, f) for d in os.listdir(a.mnt) for f in os.listdir(a.at(d)))
    known = {f['path'].lstrip('/'): f for n in range(6) for f in a.api('GET', '/v1/files?limit=1000&prefix=/c%d' % n)['files']}
    assert len(names) > 20 and sorted(known) == names
    for name in names:
        assert known[name]['copies']['tape'] == 'good', known[name]
        assert os.stat(os.path.join(a.replica, name)).st_size == 5000
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == len(names)
