"""Locked files on tape."""
import hashlib
import os

import pytest

from harness import errno_of, open_errno, opened, read_file, wait_for
from tape import ApiError, noise


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
