"""What a file that is on tape only answers, by each profile and switch; who waits for it, and how that ends."""
import os
import signal
import subprocess
import time

import pytest

from harness import errno_of, open_errno, opened, read_file, run, wait_for
from tape import noise, reader


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
