"""What the machine offers is used, and said: FUSE over io_uring, kernel passthrough. Each can be switched off by itself."""
import contextlib
import os
import re

import pytest

from harness import LOCKED, MNT_DETACH, MS_RDONLY, MS_REMOUNT, OPTIONS, WORMCTL, mount_call, read_file, run, umount_call

SWITCH = '/sys/module/fuse/parameters/enable_uring'
MIB = 1 << 20
MS_BIND = 4096


def libfuse(share):
    return tuple(map(int, re.match(r'(\d+)\.(\d+)', share.transport()['libfuse']).groups()))


def kernel():
    return tuple(map(int, re.match(r'(\d+)\.(\d+)', os.uname().release).groups()))


def need(share, option, at_least, kernel_at_least):
    if option + '=no' in OPTIONS:
        pytest.skip('this run has %s=no' % option)
    if libfuse(share) < at_least:
        pytest.skip('this libfuse has none: %s' % share.transport()['libfuse'])
    if kernel() < kernel_at_least:
        pytest.skip('this kernel has none: %s' % os.uname().release)


def rings_of(share):
    fds, tasks = '/proc/%d/fd' % share.proc.pid, '/proc/%d/task' % share.proc.pid
    return (sum(os.readlink(os.path.join(fds, fd)) == 'anon_inode:[io_uring]' for fd in os.listdir(fds)),
            sum(read_file('%s/%s/comm' % (tasks, task)).startswith(b'fuse-ring-') for task in os.listdir(tasks)))


def bytes_written_by(share):
    return int(re.search(rb'wchar: (\d+)', read_file('/proc/%d/io' % share.proc.pid)).group(1))


def says(share, words):
    assert words in share.log_text()
    assert words in run(WORMCTL, 'status', '--state-dir', share.state).out


def test_requests_come_over_io_uring_where_the_machine_has_it(mount):
    s = mount()
    need(s, 'io_uring', (3, 18), (6, 14))
    assert os.path.exists(SWITCH), 'this kernel is made without FUSE over io_uring'
    t = s.transport()
    assert (t['io_uring'], t['io_uring_why']) == (True, '')
    assert rings_of(s) == (os.sysconf('SC_NPROCESSORS_CONF'),) * 2
    says(s, 'io_uring on')


@contextlib.contextmanager
def switch_that_says(value, directory, writable=True):
    """A file in the place of the kernel's switch, in this process's mount namespace only. The real one is the machine's: a daemon of
    another test that had just been promised a ring would lose it."""
    if os.environ.get('WORMFS_TEST_NAMESPACE') == 'no':
        pytest.skip('WORMFS_TEST_NAMESPACE=no: the whole machine would see this switch')
    fake = os.path.join(directory, 'enable_uring')
    with open(fake, 'w') as f:
        f.write(value + '\n')
    mount_call(fake, SWITCH, None, MS_BIND)
    try:
        if not writable:
            mount_call(None, SWITCH, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        yield fake
    finally:
        umount_call(SWITCH, MNT_DETACH)


def test_root_turns_io_uring_of_the_kernel_on(mount, tmp_path):
    s = mount()             # the kernel's own is on from here
    need(s, 'io_uring', (3, 18), (6, 14))
    assert read_file(SWITCH) == b'Y\n'
    with switch_that_says('N', str(tmp_path)) as switch:
        s.remount('io_uring=no')
        assert read_file(switch) == b'N\n'      # not wanted, not touched
        s.remount('')
        assert read_file(switch) == b'Y\n' and s.transport()['io_uring'] and rings_of(s)[0] > 0


def test_who_may_not_turn_it_on_is_told_how_and_mounts_without(mount, tmp_path):
    s = mount()
    need(s, 'io_uring', (3, 18), (6, 14))
    with switch_that_says('N', str(tmp_path), writable=False):
        s.remount()
    t = s.transport()
    assert t['io_uring'] is False and rings_of(s) == (0, 0)
    assert 'echo Y > ' + SWITCH in t['io_uring_why']
    says(s, 'echo Y > ' + SWITCH)
    s.lock('a')
    assert read_file(s.at('a')) == b'report\n'


def test_data_of_new_and_of_locked_files_does_not_pass_the_daemon_with_passthrough(mount):
    s = mount('audit=off')
    need(s, 'passthrough', (3, 17), (6, 9))
    t = s.transport()
    assert (t['passthrough'], t['passthrough_why']) == (True, '')
    says(s, 'passthrough on')
    before = bytes_written_by(s)
    with open(s.at('a'), 'wb', buffering=0) as f:
        for _ in range(8):
            f.write(bytes(MIB))
    written = bytes_written_by(s) - before
    assert s.shows(s.at('a')) in LOCKED and written < MIB / 8, written
    before = bytes_written_by(s)
    assert read_file(s.at('a')) == bytes(8 * MIB)	# an answer with data would be written to /dev/fuse
    assert bytes_written_by(s) - before < MIB / 8


@pytest.mark.parametrize('option', ['io_uring', 'passthrough', 'splice'])
def test_each_is_switched_off_by_itself(mount, option):
    default = mount().transport()
    s = mount(option + '=no')
    t = s.transport()
    assert t[option] is False
    for other in ('io_uring', 'passthrough'):
        if other != option:
            assert (t[other], t[other + '_why']) == (default[other], default[other + '_why'])
    if option == 'io_uring':
        assert libfuse(s) < (3, 18) or t['io_uring_why'] == 'switched off by -o io_uring=no'
        assert rings_of(s) == (0, 0)
        says(s, 'io_uring off')
    if option == 'passthrough':
        assert t['passthrough_why'] == 'switched off by -o passthrough=no'
        says(s, 'passthrough off')
        before = bytes_written_by(s)
        with open(s.at('a'), 'wb', buffering=0) as f:
            f.write(bytes(4 * MIB))
        assert bytes_written_by(s) - before >= 4 * MIB
    s.lock('b')
    assert read_file(s.at('b')) == b'report\n'
