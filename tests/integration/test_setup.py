"""What a newcomer runs first: scripts/setup.sh, with a package manager that only writes down what it is asked, and scripts/run.sh."""
import os
import shutil
import signal
import subprocess

import pytest

from harness import ALICE, PR_SET_PDEATHSIG, ROOT, WORMFS, daemon_environment, fuse_mounted, libc, need_program, read_file, run, wait_for, write_file

# Installed is all but $MISSING. apt-get: what it was asked, and whether a daemon could be started meanwhile.
FAKES = {
    'dpkg-query': '''shift 3
for package; do
	case " $MISSING " in *" $package "*) ;; *) echo "installed $package" ;; esac
done''',
    'apt-get': '''echo "$*" >>"$ASKED"
case "$*" in *install*) sh /usr/sbin/policy-rc.d; echo "policy $?" >>"$ASKED"; [ -z "$FAILS" ] || { echo "E: $FAILS"; exit 100; } ;; esac''',
    'systemctl': 'exit 0', 'npm': 'exit 1',
}


class Machine:
    def __init__(self, top):
        self.top, self.tree, self.asked = top, top + '/a tree', top + '/asked'
        os.makedirs(top + '/bin')
        for name, text in FAKES.items():
            write_file('%s/bin/%s' % (top, name), ('#!/bin/sh\n%s\n' % text).encode())
            os.chmod('%s/bin/%s' % (top, name), 0o755)
        os.makedirs(self.tree + '/scripts')
        shutil.copy(os.path.join(ROOT, 'scripts/setup.sh'), self.tree + '/scripts/setup.sh')
        # What it builds is there: libfuse, and the SDK that a test uses.
        sdk = '/tests/integration/tools/cloudevents'
        for name in ('/build/libfuse', '/build/cloudevents', sdk):
            os.makedirs(self.tree + name)
        write_file(self.tree + '/build/libfuse/stamp', b'built\n')
        for name in ('/build/cloudevents/done', sdk + '/package-lock.json'):
            write_file(self.tree + name, b'{}\n')

    def setup(self, *args, user=0, missing='', fails=''):
        """In a mount namespace where /usr/sbin is empty: no policy-rc.d of ours on the real machine."""
        env = dict(os.environ, PATH=self.top + '/bin:/usr/bin:/bin', MISSING=missing, FAILS=fails, ASKED=self.asked)
        return run('unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none "$(realpath /usr/sbin)" && user=$1 && shift &&'
                   ' setpriv --reuid "$user" --regid "$user" --clear-groups "$@"; r=$?; [ ! -e /usr/sbin/policy-rc.d ] || echo left; exit $r',
                   'sh', str(user), self.tree + '/scripts/setup.sh', *args, env=env, check=False)

    def was_asked(self):
        return read_file(self.asked).decode().splitlines() if os.path.exists(self.asked) else []


@pytest.fixture
def machine(bases, tmp_path):
    for name in ('unshare', 'setpriv'):
        need_program(name)
    m = Machine('%s/%s' % (bases.get('ext4'), tmp_path.name))
    yield m
    shutil.rmtree(m.top)


@pytest.mark.parametrize('mode', ['build', 'test', 'suites', 'bench'])
@pytest.mark.parametrize('user', [0, ALICE])
def test_setup_says_and_does_nothing_when_nothing_is_missing(machine, mode, user):
    p = machine.setup(mode, user=user)
    assert (p.returncode, p.out, p.err, machine.was_asked()) == (0, '', '', [])


def test_a_user_without_root_is_told_what_is_missing_and_what_an_administrator_runs(machine):
    p = machine.setup('build', user=ALICE, missing='libfuse3-dev gcc')
    assert (p.returncode, p.out, machine.was_asked()) == (2, '', [])
    assert p.err == "setup.sh: missing: gcc libfuse3-dev; an administrator runs: sudo '%s/scripts/setup.sh' build --packages\n" % machine.tree


def test_root_gets_what_is_missing_and_only_that_and_no_daemon_is_started(machine):
    p = machine.setup('build', '--packages', missing='libfuse3-dev gcc fio')
    assert (p.returncode, p.out, p.err) == (0, '', 'setup.sh: installing gcc libfuse3-dev\n')
    update, install, policy = machine.was_asked()
    assert 'update' in update.split() and install.split()[-3:] == ['install', 'gcc', 'libfuse3-dev']
    assert '--no-remove' in install.split() and '--no-install-recommends' in install.split()
    assert policy == 'policy 101'


def test_what_cannot_be_installed_is_said_with_the_reason(machine):
    p = machine.setup('build', missing='gcc', fails='Unable to locate package gcc')
    assert (p.returncode, p.out) == (1, '')
    assert p.err.splitlines() == ['setup.sh: installing gcc', 'setup.sh: the packages cannot be installed:', 'E: Unable to locate package gcc']


@pytest.mark.parametrize('args', [[], ['everything'], ['build', '--force']])
def test_wrong_use_of_setup_is_one_line(machine, args):
    p = machine.setup(*args)
    assert p.returncode == 2 and p.err.startswith('setup.sh: ') and p.err.count('\n') == 1 and machine.was_asked() == []


# ---- run.sh -------------------------------------------------------------------------------------

RUN = os.path.join(ROOT, 'scripts/run.sh')


def test_make_run_without_a_share_or_with_none_that_is_there_says_what_to_do(tmp_path):
    write_file(str(tmp_path / 'file'), b'')
    for name in ('file', 'none'):
        p = run(RUN, os.path.dirname(WORMFS), str(tmp_path / name), '', check=False)
        assert (p.returncode, p.out) == (2, '') and p.err.count('\n') == 1 and "mkdir -p '%s'" % (tmp_path / name) in p.err
    p = run('make', '-C', ROOT, 'run', 'SETUP=true', check=False)
    assert p.returncode == 2 and p.err.splitlines()[0] == 'make run: which directory? make run SHARE=/some/dir'


def test_make_run_mounts_until_it_is_interrupted(mount):
    share = mount(start=False)
    with open(share.log, 'wb') as log:
        p = subprocess.Popen([RUN, os.path.dirname(WORMFS), share.share, 'state=' + share.state], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=log, env=daemon_environment(), preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
    try:
        wait_for('the mount', lambda: fuse_mounted(share.share) or p.poll() is not None)
        write_file(share.share + '/a.txt', b'report\n')
        assert os.getxattr(share.share + '/a.txt', 'user.worm.state') in (b'retained', b'closing')
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=30)[0].decode()
        assert p.returncode == 0 and not fuse_mounted(share.share)
    finally:
        if p.poll() is None:
            p.terminate()
            p.communicate(timeout=30)
    assert share.share in said and 'Ctrl-C' in said
    assert read_file(share.share + '/a.txt') == b'report\n'
