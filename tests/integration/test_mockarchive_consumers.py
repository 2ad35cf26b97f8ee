"""The tape archive as those see it whom it is made for: openBIS, ScopeMArchiver, rsync, tar, cp, mappings, programs."""
import hashlib
import mmap
import os
import shutil
import signal
import stat
import subprocess

import pytest

from harness import need_program, open_errno, read_file, run
from tape import BIG, noise, t_flag


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
