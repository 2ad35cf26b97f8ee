"""Quota warnings in the kernel's own format: -o quota_notify=netlink sends them, and quota_nld tells them on a private D-Bus;
-o quota_listen hears the kernel's, and nobody else's."""
import contextlib
import json
import os
import re
import socket
import subprocess

import pytest

from harness import ALICE, Refused, WORMCTL, as_user, errno_of, injected, need_program, run, wait_for, write_file

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
    """Whatever quotas the kernel has."""
    with injected(share, 'mkdirat', 'error=EDQUOT'):
        assert as_user(uid, errno_of, os.mkdir, share.at(name)) == 'EDQUOT'
        wait_for('it to be told', lambda: share.info()['quota_notify']['providers'][0]['told'] == 1)


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


USER, PROJECT = 0, 2
FILES_HARD, BYTES_HARD, BYTES_SOFT, FILES_HARD_BELOW, BYTES_HARD_BELOW, BYTES_SOFT_BELOW = 1, 4, 6, 7, 9, 10


def warnings_about(sock, device, until):
    """(type, id, warning, who) of each message of the device, up to `until` (the warning of it)."""
    got = []
    while not got or got[-1][2] != until:
        message, sender = sock.recvfrom(4096)
        values, at = {}, 20
        while at + 4 <= len(message):
            length, attr = (int.from_bytes(message[n:n + 2], 'little') for n in (at, at + 2))
            values[attr] = int.from_bytes(message[at + 4:at + length], 'little')
            at += (length + 3) & ~3
        if (values.get(4), values.get(5)) == (os.major(device), os.minor(device)):		# others may send to the group at the same time
            assert sender[0] != 0 and len(message) == 76
            got.append((values[1], values[2], values[3], values[6]))
    return got


def test_limits_of_our_own_are_warnings_about_the_mount_and_not_about_what_is_below(netlink_share, mount, tmp_path):
    netlink_share().stop()		# or skipped
    limits = tmp_path / 'limits'
    limits.write_text('[directory /a]\nhard = 1M\n[directory /b]\nsoft = 64K\nhard = 128K\nfiles_hard = 2\n[user %d]\nhard = 64K\n' % ALICE)
    share = mount('', start=False, lower_mode=0o777)
    for name in 'abc':
        os.mkdir(share.below(name))
        os.chmod(share.below(name), 0o777)
    share.start('commit=never,passthrough=no,quota_notify=netlink,events=on,quota=%s' % limits)
    mounted = os.stat(share.mnt).st_dev
    assert mounted != os.stat(share.lower).st_dev and os.major(mounted) == 0
    with listener() as sock:
        write_file(share.at('b/f'), b'x' * (96 << 10))
        assert errno_of(write_file, share.at('b/g'), b'x' * (96 << 10)) == 'EDQUOT'
        assert errno_of(write_file, share.at('b/h'), b'') == 'EDQUOT'		# the third file
        os.truncate(share.at('b/f'), 0)
        assert warnings_about(sock, mounted, BYTES_HARD_BELOW) == [		# of the second section
            (PROJECT, 2, w, 0) for w in (BYTES_SOFT, BYTES_HARD, FILES_HARD, BYTES_SOFT_BELOW, BYTES_HARD_BELOW)]
        os.unlink(share.at('b/g'))
        assert warnings_about(sock, mounted, FILES_HARD_BELOW) == [(PROJECT, 2, FILES_HARD_BELOW, 0)]
        assert as_user(ALICE, errno_of, write_file, share.at('c/f'), b'x' * (96 << 10)) == 'EDQUOT'
        assert warnings_about(sock, mounted, BYTES_HARD) == [(USER, ALICE, BYTES_HARD, ALICE)]
    share.must('sync')
    assert {(e['Quota'], e['DeviceMajor'], e['DeviceMinor']) for e in quota_events(share)} == {
        (kind, 0, os.minor(mounted)) for kind in ('directory', 'user')}


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


# ---- quota_listen ----


def heard(share):
    return share.info()['quota_listen']


def quota_events(share):
    out = run(WORMCTL, 'events', 'replay', '--json', '--type', 'Quota', '--state-dir', share.state, check=False).stdout
    return [json.loads(line)['Event'] for line in out.splitlines()]


def forge(share):
    """To the group, as the kernel would send it, with the share's device."""
    device = os.stat(share.lower).st_dev
    attrs = b''.join((n + 4).to_bytes(2, 'little') + attr.to_bytes(2, 'little') + value.to_bytes(n, 'little') for attr, n, value in (
        (1, 4, 0), (2, 8, ALICE), (3, 4, 4), (4, 4, os.major(device)), (5, 4, os.minor(device)), (6, 8, ALICE)))
    message = (20 + len(attrs)).to_bytes(4, 'little') + FAMILY.to_bytes(2, 'little') + bytes(10) + b'\x01\x01\0\0' + attrs
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as sock:
        sock.sendto(message, (0, 1 << (GROUP - 1)))


def test_a_warning_that_the_kernel_did_not_send_is_ignored_and_counted(netlink_share):
    share = netlink_share('quota_listen,events=on')
    assert listens(share.proc.pid)
    assert dict(heard(share), not_kernel=0) == {		# others may send to the group at the same time
        'listening': True, 'warnings': 0, 'other_device': 0, 'not_kernel': 0, 'unreadable': 0, 'overruns': 0}
    forge(share)
    wait_for('it to be counted', lambda: heard(share)['not_kernel'] > 0 or heard(share)['warnings'] > 0)
    assert (heard(share)['warnings'], heard(share)['unreadable']) == (0, 0)
    assert re.search(r'quotas +0 warnings of the kernel; ignored: \d+ not sent by it', run(WORMCTL, 'status', '--state-dir', share.state).out)
    assert share.info()['shortage']['untold'] == 0
    share.stop()		# also the end of the thread
    assert quota_events(share) == []


def test_what_is_sent_to_others_is_not_heard_as_the_kernels(netlink_share):
    share = netlink_share('quota_notify=netlink,quota_listen,events=on')
    refuse(share, ALICE, 'd')
    wait_for('our own to come back', lambda: heard(share)['not_kernel'] > 0)
    assert heard(share)['warnings'] == 0
    assert [(e['Quota'], e['Path']) for e in quota_events(share)] == [('some', '/d')]


def test_warnings_that_are_lost_are_counted(netlink_share):
    share = netlink_share('quota_listen')
    with injected(share, 'recvmsg', 'error=ENOBUFS:when=1'):
        forge(share)
        wait_for('the loss', lambda: heard(share)['overruns'] == 1)
    wait_for('what came after it', lambda: heard(share)['not_kernel'] > 0)
    assert heard(share)['listening']


def test_a_socket_that_fails_is_said_and_the_share_goes_on(netlink_share):
    share = netlink_share('quota_listen')
    with injected(share, 'recvmsg', 'error=EIO'):
        forge(share)
        wait_for('the end of it', lambda: not heard(share)['listening'])
    assert 'no longer listened to' in run(WORMCTL, 'status', '--state-dir', share.state).out
    write_file(share.at('f'), b'x')


def test_who_does_not_ask_for_them_does_not_listen(netlink_share):
    share = netlink_share('events=on')
    assert not listens(share.proc.pid)
    assert 'quota_listen' not in share.info()


def test_a_network_namespace_without_the_kernels_warnings_is_no_mount(mount):
    share = mount('commit=never')
    share.stop()
    p = run('unshare', '-n', '--', *share.argv('quota_listen'), check=False)
    assert p.returncode == 2
    assert 'quota_listen: No such file or directory; the kernel has VFS_DQUOT in its first network namespace only' in p.err


def test_the_kernels_own_warning_is_told_with_whose_quota_it_is(netlink_share, bases, mount, tmp_path):
    netlink_share('quota_listen').stop()		# or skipped
    try:
        point = bases.make('ext4', 'netlink-kernel', size='8M', mkfs=('-m', '0'), options=('usrquota',))
        run('quotacheck', '-cum', point)
        run('quotaon', '-u', point)
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        pytest.skip('kernel without quota formats (or no quota tools); the suite uml-quota has one: %s' % str(e).splitlines()[-1])
    try:
        run('setquota', '-u', ALICE, 100, 1000, 0, 0, point)
        share = mount('quota_listen,events=on,commit=never', base=point, state=str(tmp_path / 'state'), lower_mode=0o777)
        device = os.stat(share.lower).st_dev
        assert as_user(ALICE, errno_of, write_file, share.at('big'), b'x' * (2 << 20)) == 'EDQUOT'
        wait_for('both warnings', lambda: heard(share)['warnings'] >= 2)
        share.settle()
        events = [e for e in quota_events(share) if e['Quota'] == 'user']
        assert {(e['Warning'], e['QuotaId'], e['DeviceMajor'], e['DeviceMinor'], e.get('Path')) for e in events} == {
            (w, ALICE, os.major(device), os.minor(device), None) for w in ('bytes-soft', 'bytes-hard')}
        share.stop()
    finally:
        run('quotaoff', '-u', point)
