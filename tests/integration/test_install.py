"""What make install puts where, what make uninstall takes away again, and that the installed things work: the units with the
capabilities they leave the daemon, the mount helper as mount(8) runs it."""
import os
import re
import time

import pytest

from harness import ALICE, BIN, ROOT, Refused, as_user, daemon_environment, errno_of, injected, need_program, open_errno, run, wait_for, write_file

PROGRAMS = ('mockarchive', 'mockqumulo', 'wormctl', 'wormfs')
UNITS = ('wormfs@.service', 'wormfs-verify@.service', 'wormfs-verify@.timer', 'wormfs-watch@.service')


def make(target, to, *variables):
    # The programs of the tests may be copies: BUILD is theirs, and nothing is built.
    return run('make', '-C', ROOT, target, 'SETUP=true', 'programs=', 'DESTDIR=%s' % to, 'BUILD=' + os.path.dirname(BIN), *variables)


def below(top):
    return {os.path.relpath(os.path.join(d, n), top) for d, _, names in os.walk(top) for n in names}


def promised(prefix):
    """README, Install: programs, man pages, completion, mount helper and units; the documents with them."""
    files = {'sbin/mount.wormfs', 'sbin/mount.fuse.wormfs', prefix + '/share/mockarchive/mockarchive.sh',
             prefix + '/share/mockarchive/pytest_mockarchive.py'}
    for name in PROGRAMS:
        files |= {'%s/bin/%s' % (prefix, name), '%s/share/bash-completion/completions/%s' % (prefix, name)}
    for name in UNITS:
        files.add('%s/lib/systemd/system/%s' % (prefix, name))
    for name in os.listdir(os.path.join(ROOT, 'docs')):
        if name.endswith('.md'):
            files.add('%s/share/doc/wormfs/%s' % (prefix, name))
        elif name[-2:] in ('.1', '.5', '.8'):
            files.add('%s/share/man/man%s/%s' % (prefix, name[-1], name))
    for name in os.listdir(os.path.join(ROOT, 'docs/rules')):
        files.add('%s/share/doc/wormfs/rules/%s' % (prefix, name))
    for name in ('README.md', 'CHANGELOG.md', 'LICENSE'):
        files.add('%s/share/doc/wormfs/%s' % (prefix, name))
    return files


@pytest.mark.parametrize('variables, prefix', [((), 'usr/local'), (('PREFIX=/opt/worm',), 'opt/worm')])
def test_make_install_installs_what_is_promised_and_uninstall_takes_all_of_it_away(tmp_path, variables, prefix):
    make('install', tmp_path, *variables)
    assert below(tmp_path) == promised(prefix)
    for name in PROGRAMS:
        assert os.access(tmp_path / prefix / 'bin' / name, os.X_OK)
        assert os.path.exists(tmp_path / prefix / 'share/man' / ('man8' if name == 'wormfs' else 'man1') / (name + ('.8' if name == 'wormfs' else '.1')))
        assert run(str(tmp_path / prefix / 'bin' / name), '--version').out
        assert run('bash', '-n', str(tmp_path / prefix / 'share/bash-completion/completions' / name)).err == ''
    assert os.access(tmp_path / 'sbin/mount.wormfs', os.X_OK)
    assert os.path.realpath(tmp_path / 'sbin/mount.fuse.wormfs') == str(tmp_path / 'sbin/mount.wormfs')
    for path in [tmp_path / 'sbin/mount.wormfs', *(tmp_path / prefix / 'lib/systemd/system').iterdir()]:
        text = path.read_text()
        assert '@BINDIR@' not in text and ('.timer' in path.name or '/%s/bin/' % prefix in text), path
    write_file(str(tmp_path / prefix / 'bin/other'), b'of somebody else')
    make('uninstall', tmp_path, *variables)
    assert below(tmp_path) == {prefix + '/bin/other'}


def test_systemd_takes_the_units(tmp_path):
    analyze = need_program('systemd-analyze')
    make('install', tmp_path)
    here = tmp_path / 'usr/local/lib/systemd/system'
    for name in UNITS:
        os.rename(here / name, here / name.replace('@', '@srv-share'))
    for name in UNITS:
        p = run(analyze, 'verify', '--man=no', str(here / name.replace('@', '@srv-share')), check=False,
                env={**os.environ, 'SYSTEMD_UNIT_PATH': '%s:' % here})
        # The programs are elsewhere than where they will be.
        assert [line for line in p.err.splitlines() if 'wormfs' in line and 'not executable' not in line] == []


# ---- the capabilities that the unit leaves ------------------------------------------------------

def unit_capabilities():
    with open(os.path.join(ROOT, 'scripts/systemd/wormfs@.service')) as f:
        return re.search(r'^CapabilityBoundingSet=(.*)$', f.read(), re.M).group(1).split()


def bounded(share, capabilities):
    """Its daemon starts with these capabilities only, as a service does."""
    need_program('setpriv')
    argv, names = share.argv, ','.join(['-all'] + ['+' + c[len('CAP_'):].lower() for c in capabilities])
    share.argv = lambda *args, **kwargs: ['setpriv', '--no-new-privs', '--inh-caps=-all', '--bounding-set', names] + argv(*args, **kwargs)
    return share


def test_a_daemon_with_the_capabilities_of_its_unit_serves_a_share(mount):
    share = bounded(mount(start=False, lower_mode=0o777), unit_capabilities())
    share.start()
    share.lock('a')
    assert as_user(ALICE, errno_of, write_file, share.at('b'), b'hers') == 'OK'
    assert os.stat(share.at('b')).st_uid == ALICE
    share.wait_state('b', 'retained')
    assert as_user(ALICE, open_errno, share.at('b'), os.O_WRONLY) == 'EPERM'
    os.mknod(share.at('null'), 0o600 | 0o020000, os.makedev(1, 3))
    os.chown(share.at('null'), ALICE, ALICE)
    whole = mount()
    for name in ('io_uring', 'passthrough', 'splice'):
        assert share.transport()[name] == whole.transport()[name], name


def test_a_daemon_with_the_capabilities_of_its_unit_sends_quota_warnings_in_the_kernels_format(mount):
    share = bounded(mount('quota_notify=netlink,commit=never', start=False, lower_mode=0o777), unit_capabilities())
    try:
        share.start()
    except Refused as e:
        if 'VFS_DQUOT' in str(e):
            pytest.skip('no quota netlink here: %s' % e)
        raise

    def provider():
        return share.info()['quota_notify']['providers'][0]
    with injected(share, 'mkdirat', 'error=EDQUOT'):
        assert as_user(ALICE, errno_of, os.mkdir, share.at('d')) == 'EDQUOT'
        wait_for('it to be told', lambda: provider()['told'] + provider()['failed'] == 1)
    assert provider()['failed'] == 0


def test_a_daemon_that_may_not_keep_its_capabilities_says_which_one_it_lacks(mount):
    share = bounded(mount(start=False), [c for c in unit_capabilities() if c != 'CAP_SETPCAP'])
    with pytest.raises(Refused) as e:
        share.start()
    assert e.value.code == 2 and e.value.text.count('\n') == 1 and 'CAP_SETPCAP' in e.value.text


# ---- the helper, as mount(8) runs it ------------------------------------------------------------

# In a mount and process namespace of its own: /sbin has nothing but what was installed, and no daemon outlives it.
IN_NAMESPACE = '''set -eu
mount --bind "$TOP/sbin" "$(realpath /sbin)"
cd "$TOP"
trap 'umount -l share other 2>/dev/null || :' EXIT
'''


@pytest.fixture
def with_helper(tmp_path, bases):
    """Runs shell lines where mount(8) finds the installed helper; in a directory with `share`, `other` and `state`."""
    need_program('unshare')
    top = bases.get('ext4') + '/' + tmp_path.name
    for name in ('share', 'other', 'state'):
        os.makedirs('%s/%s' % (top, name))
    make('install', '', 'PREFIX=%s/usr' % top, 'MOUNT_HELPER_DIR=%s/sbin' % top)

    def go(script, check=True):
        env = dict(daemon_environment(), TOP=top, PATH='/usr/bin:/bin', LC_ALL='C')		# no wormfs there
        return run('unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', IN_NAMESPACE + script, env=env, check=check)
    return go


def test_mount_t_wormfs_locks_what_is_written_there(with_helper):
    p = with_helper('''
mount -t wormfs -o "state=$TOP/state,retention=7y,nofail,x-systemd.automount,noatime" "$TOP/share" "$TOP/share"
findmnt -n -o FSTYPE share
echo report >share/a
! (echo x >>share/a) 2>said
cat said share/a
getfattr --only-values -n user.worm.until share/a; echo
umount share
! findmnt -n -t fuse.wormfs share
ls share
''')
    fstype, said, text, until, left = p.out.splitlines()
    assert (fstype, text, left) == ('fuse.wormfs', 'report', 'a') and 'Operation not permitted' in said
    assert int(until[:4]) >= 7 + time.gmtime().tm_year


def test_a_line_of_fstab_mounts_a_share_and_a_remount_makes_it_read_only(with_helper):
    p = with_helper('''
echo "$TOP/share $TOP/share fuse.wormfs state=$TOP/state,noauto,nofail,_netdev 0 0" >fstab
mount -T fstab "$TOP/share"
findmnt -n -o FSTYPE share
echo report >share/a
mount -o remount,ro "$TOP/share"
! (echo x >share/b) 2>said
cat said
umount share
''')
    fstype, said = p.out.splitlines()
    assert fstype == 'fuse.wormfs' and 'Read-only file system' in said


def test_the_helper_alone_mounts_elsewhere_and_a_refused_mount_is_32_with_one_line(with_helper):
    p = with_helper('''
/sbin/mount.wormfs "$TOP/share" "$TOP/other" -o "state=$TOP/state"
echo report >other/a
cat share/a
umount other
for options in state=$TOP/state,retention=never state=$TOP/state,nonsense; do
	mount -t wormfs -o "$options" "$TOP/share" "$TOP/share" 2>said || echo $? $(wc -l <said)
done
mount -t wormfs "$TOP/none" "$TOP/share" 2>said || echo $? $(wc -l <said)
''')
    assert p.out.splitlines() == ['report', '32 1', '32 1', '32 1']
