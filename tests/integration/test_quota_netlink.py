"""-o quota_notify=netlink: quota warnings in the kernel's own format, told by quota_nld on a private D-Bus."""
import contextlib
import os
import re
import socket
import subprocess

import pytest

from harness import ALICE, Refused, as_user, errno_of, need_program, run, wait_for, write_file

NETLINK_GENERIC, FAMILY, GROUP = 16, 17, 17		# the kernel keeps both numbers fixed: GENL_ID_VFS_DQUOT


def listener():
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
    sock.bind((0, 1 << (GROUP - 1)))
    sock.settimeout(20)
    return sock


@pytest.fixture
def netlink_share(mount):
    def make(options='quota_notify=netlink'):
        try:
            return mount(options + ',commit=never', lower_mode=0o777)
        except Refused as e:
            if 'VFS_DQUOT' in str(e):
                pytest.skip('no quota netlink here: %s' % e)
            raise
    return make


def refuse(share, uid, name):
    """Whatever quotas the kernel has: strace makes the lower call of one mkdir fail with EDQUOT."""
    tracer = subprocess.Popen([need_program('strace'), '-f', '-qq', '-p', str(share.proc.pid), '-e', 'trace=mkdirat',
                               '-e', 'inject=mkdirat:error=EDQUOT', '-o', '/dev/null'], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        tasks = '/proc/%d/task' % share.proc.pid

        def traced():
            if tracer.poll() is not None:
                pytest.skip('strace cannot attach: %s' % tracer.stderr.read().decode())
            return all('TracerPid:\t0' not in open('%s/%s/status' % (tasks, t)).read() for t in os.listdir(tasks))
        wait_for('strace to attach', traced)
        assert as_user(uid, errno_of, os.mkdir, share.at(name)) == 'EDQUOT'
        wait_for('it to be told', lambda: share.info()['quota_notify']['providers'][0]['told'] == 1)
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


def test_the_kernels_format_arrives_from_a_sender_that_is_not_the_kernel(netlink_share):
    share = netlink_share()
    device = os.stat(share.lower).st_dev
    uid = ALICE + os.getpid() % 10000 + 10		# others may send to the group at the same time
    want = b''.join((n + 4).to_bytes(2, 'little') + attr.to_bytes(2, 'little') + value.to_bytes(n, 'little') for attr, n, value in (
        (1, 4, 0), (2, 8, uid), (3, 4, 4), (4, 4, os.major(device)), (5, 4, os.minor(device)), (6, 8, uid)))
    with listener() as sock:
        refuse(share, uid, 'd')
        while True:
            message, sender = sock.recvfrom(4096)
            if message[20:] == want:
                break
    assert len(message) == 76
    assert int.from_bytes(message[4:6], 'little') == FAMILY
    assert message[16:18] == b'\x01\x01'
    assert sender[0] != 0		# port 0 is the kernel


def test_quota_nld_tells_ours_on_the_bus(netlink_share, tmp_path):
    nld, daemon, monitor = need_program('quota_nld'), need_program('dbus-daemon'), need_program('dbus-monitor')
    config = tmp_path / 'bus.conf'
    address = 'unix:path=%s' % (tmp_path / 'bus')
    config.write_text('<busconfig><type>system</type><listen>%s</listen><auth>EXTERNAL</auth><policy context="default"><allow own="*"/>'
                      '<allow send_type="*"/><allow receive_type="*"/><allow eavesdrop="true"/></policy></busconfig>' % address)
    log = tmp_path / 'monitor'
    share = netlink_share()
    device = os.stat(share.lower).st_dev
    uid = ALICE + os.getpid() % 10000 + 20010
    procs = []

    def start(argv, out=subprocess.DEVNULL):
        procs.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL,
                                      env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address)))
        return procs[-1]
    try:
        start([daemon, '--config-file', str(config), '--nofork'])
        wait_for('the bus', lambda: (tmp_path / 'bus').exists())
        with open(log, 'wb') as out:
            start(['stdbuf', '-oL', monitor, '--system', "type='signal',interface='com.system.quota.warning'"], out)
        wait_for('the monitor', lambda: 'NameLost' in log.read_text() or 'NameAcquired' in log.read_text())
        program = start([nld, '-F', '-C'])
        # No file says so but the kernel's list of who is in the group.
        wait_for('quota_nld to listen', lambda: program.poll() is not None or listens(program.pid))
        assert program.poll() is None
        refuse(share, uid, 'd')
        wait_for('the signal', lambda: 'uint64 %d' % uid in log.read_text())
    finally:
        for p in reversed(procs):
            p.terminate()
            p.wait()
    signals = [s for s in log.read_text().split('signal ') if 'member=warning' in s and 'uint64 %d' % uid in s]
    assert [re.findall(r'uint(?:32|64) (\d+)', s) for s in signals] == [
        ['0', str(uid), '4', str(os.major(device)), str(os.minor(device)), str(uid)]]


def listens(pid):
    with open('/proc/net/netlink') as f:
        rows = [line.split() for line in f.readlines()[1:]]
    ours = set()
    for fd in os.listdir('/proc/%d/fd' % pid):
        with contextlib.suppress(FileNotFoundError):		# closed meanwhile
            ours.add(os.readlink('/proc/%d/fd/%s' % (pid, fd)))
    return any('socket:[%s]' % row[9] in ours and int(row[3], 16) for row in rows)


def test_a_full_filesystem_is_no_quota_warning_and_no_failure(netlink_share, bases, mount, tmp_path):
    netlink_share().stop()		# or skipped
    point = bases.make('ext4', 'netlink-full', size='8M', mkfs=('-N', '32', '-m', '0'))
    share = mount('quota_notify=netlink,quota_notify=stdout,commit=never,passthrough=no', base=point, state=str(tmp_path / 'state'),
                  lower_mode=0o777)
    for uid in (0, ALICE):		# when stdout has the second one, the first is done with
        assert as_user(uid, errno_of, write_file, share.at('big%d' % uid), b'x' * (16 << 20)) == 'ENOSPC'
    wait_for('stdout to have both', lambda: share.info()['quota_notify']['providers'][1]['told'] == 2)
    assert share.info()['quota_notify']['providers'][0] == {'kind': 'netlink', 'told': 0, 'failed': 0}


def test_another_network_namespace_has_none_and_that_is_said(mount):
    share = mount('commit=never')
    share.stop()
    p = run('unshare', '-n', '--', *share.argv('quota_notify=netlink'), check=False)
    assert p.returncode == 2
    assert 'quota_notify=netlink: No such file or directory; the kernel has VFS_DQUOT in its first network namespace only' in p.err
