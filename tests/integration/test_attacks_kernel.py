"""What the kernel does to a file for somebody: loop devices, swap, overlays, core dumps, mappings."""
import contextlib
import mmap
import os
import resource
import signal

import pytest

from harness import errno_of, need_program, opened, read_file, run, write_file

DATA = os.urandom(1 << 20)


@pytest.fixture
def locked(mount):
    share = mount('retention=30d')
    write_file(share.at('a'), DATA)
    share.wait_state('a', 'retained')
    yield share
    assert read_file(share.at('a')) == DATA and read_file(share.below('a')) == DATA
    assert share.shows('a') == 'retained'


def test_a_loop_device_on_a_locked_file_writes_nothing(locked):
    need_program('losetup')
    p = run('losetup', '--find', '--show', locked.at('a'), check=False)
    if p.returncode != 0:
        return	# refused as a whole
    device = p.out.strip()
    try:
        with contextlib.suppress(OSError), opened(device, os.O_WRONLY) as fd:
            os.write(fd, b'x' * 4096)
            os.fsync(fd)
    finally:
        run('losetup', '--detach', device)


def test_a_locked_file_is_no_swap(mount):
    need_program('mkswap')
    share = mount('retention=30d')
    swap = os.path.join(share.dir, 'swap')
    with open(swap, 'wb') as f:
        f.truncate(1 << 20)
    run('mkswap', swap)
    os.chmod(swap, 0o600)
    run('cp', swap, share.at('a'))
    share.wait_state('a', 'retained')
    before = read_file(share.at('a'))
    assert run('swapon', share.at('a'), check=False).returncode != 0
    assert share.at('a') not in read_file('/proc/swaps').decode() and read_file(share.at('a')) == before


@pytest.mark.parametrize('call', ['write', 'truncate', 'unlink', 'rename'])
def test_an_overlay_whose_upper_directory_is_the_mount_changes_no_locked_file(mount, call):
    """It asks with the credentials of who mounted it: root."""
    share = mount('retention=30d')
    for d in ('upper', 'work'):
        os.mkdir(share.at(d))
    write_file(share.at('upper/a'), DATA)
    share.wait_state('upper/a', 'retained')
    lower, over = os.path.join(share.dir, 'low'), os.path.join(share.dir, 'over')
    os.mkdir(lower)
    os.mkdir(over)
    p = run('mount', '-t', 'overlay', '-o', 'lowerdir=%s,upperdir=%s,workdir=%s' % (lower, share.at('upper'), share.at('work')), 'wormfs-test', over,
            check=False)
    if p.returncode == 0:	# the kernel takes a FUSE mount or it does not
        try:
            path = os.path.join(over, 'a')
            deed = {'write': lambda: write_file(path, b'x'), 'truncate': lambda: os.truncate(path, 0), 'unlink': lambda: os.unlink(path),
                    'rename': lambda: os.rename(path, path + '2')}[call]
            assert errno_of(deed) != 'OK'
        finally:
            run('umount', over)
    assert read_file(share.at('upper/a')) == DATA and share.shows('upper/a') == 'retained'


def test_a_core_dump_replaces_no_locked_file(mount):
    pattern = read_file('/proc/sys/kernel/core_pattern').decode().strip()
    if '/' in pattern or '%' in pattern or pattern.startswith('|'):
        pytest.skip('core_pattern is %r: cores do not go to the working directory under one name' % pattern)
    share = mount('retention=30d')
    names = [pattern]

    def crash():
        pid = os.fork()
        if pid == 0:
            os.chdir(share.mnt)
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
            os._exit(0)
        names.append('%s.%d' % (pattern, pid))	# kernel.core_uses_pid
        return os.waitpid(pid, 0)[1]
    write_file(share.at(pattern), DATA)
    share.wait_state(pattern, 'retained')
    assert os.WTERMSIG(crash()) == signal.SIGSEGV
    assert read_file(share.at(pattern)) == DATA and share.shows(pattern) == 'retained'


def test_a_private_mapping_and_a_read_only_one_never_reach_a_locked_file(locked):
    with opened(locked.at('a'), os.O_RDONLY) as fd:
        with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as m:
            m[0:4] = b'XXXX'
            assert m[0:4] == b'XXXX'
        assert errno_of(lambda: mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)) == 'EACCES'
