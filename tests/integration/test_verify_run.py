"""A run of `wormctl verify`: stopped and gone on with, its rate, its progress, its use, its timer."""
import json
import os
import signal
import subprocess

import pytest

from harness import WORMCTL, run, wait_for, write_file
from verify_harness import hide, many, some_locked, verify, wait_all_digests


def start_verify(share, *args):
    return subprocess.Popen([WORMCTL, 'verify', '--json', '--state-dir', share.state, *args, share.mnt], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def cursor(share):
    try:
        with open(share.state + '/verify.cursor') as f:
            return json.load(f)
    except OSError:
        return None


@pytest.mark.parametrize('how', ['SIGINT', 'SIGKILL'])
def test_a_stopped_run_goes_on_where_it_was(wormfs, how):
    names = many(wormfs)
    hide(wormfs, names[0], b'forged')
    hide(wormfs, names[-1], b'forged')
    p = start_verify(wormfs, '--rate', '4', '--jobs', '2')
    try:
        wait_for('a cursor', lambda: cursor(wormfs) and cursor(wormfs)['totals']['files'] > 2)
    finally:
        p.send_signal(getattr(signal, how))
    out, err = p.communicate()
    first = {json.loads(line)['path'] for line in out.splitlines() if 'path' in json.loads(line)}
    assert first == {names[0]}
    if how == 'SIGINT':
        assert p.returncode == 2 and '--resume' in err
    done = cursor(wormfs)['totals']
    assert 2 < done['files'] < 24
    code, found, summary = verify(wormfs, '--resume')
    assert (code, found) == (1, {names[-1]: {'data'}})
    assert summary['files'] == 24 and summary['findings'] == 2       # of both runs
    assert summary['bytes'] == 26 << 20         # what differs is read twice before it is told
    assert cursor(wormfs) is None
    p = wormfs.ctl('verify', '--resume', '--state-dir', wormfs.state, wormfs.mnt, check=False)
    assert p.returncode == 2 and 'no run to go on with' in p.err


def test_SIGTSTP_keeps_where_it_is_and_SIGCONT_goes_on(wormfs):
    many(wormfs)
    p = start_verify(wormfs, '--rate', '8')
    try:
        wait_for('it to run', lambda: os.path.exists(wormfs.state + '/verify.lock'))
        wait_for('its handlers', lambda: int([line.split()[1] for line in open('/proc/%d/status' % p.pid)
                                              if line.startswith('SigCgt')][0], 16) >> (signal.SIGTSTP - 1) & 1)
        p.send_signal(signal.SIGTSTP)
        wait_for('it to stop', lambda: open('/proc/%d/stat' % p.pid).read().split(') ')[1][0] == 'T')
        assert cursor(wormfs) is not None
        other = wormfs.ctl('verify', '--state-dir', wormfs.state, wormfs.mnt, check=False)
        assert other.returncode == 2 and 'another wormctl verify' in other.err
    finally:
        p.send_signal(signal.SIGCONT)
    out, err = p.communicate(timeout=60)
    assert (p.returncode, err) == (0, '') and json.loads(out)['summary']['files'] == 24


def test_the_rate_is_kept(wormfs):
    import time
    for n in range(4):
        write_file(wormfs.at('f%d' % n), os.urandom(1 << 20))
    wormfs.settle('f0', 'f1', 'f2', 'f3')
    wait_all_digests(wormfs)
    began = time.monotonic()
    verify(wormfs, '--rate', '4', '--jobs', '4', check=0)
    assert time.monotonic() - began >= 0.9      # 4 MiB at 4 MiB/s


def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(wormfs):
    import pty
    many(wormfs)
    master, slave = pty.openpty()
    try:
        p = subprocess.Popen([WORMCTL, 'verify', '--rate', '40', '--state-dir', wormfs.state, wormfs.mnt], stdout=subprocess.PIPE,
                             stderr=slave, stdin=subprocess.DEVNULL)
        out, _ = p.communicate(timeout=60)
        shown = os.read(master, 1 << 16).decode()
    finally:
        os.close(slave)
        os.close(master)
    assert p.returncode == 0 and b'24 files verified' in out
    assert '%' in shown and ' of 24 files' in shown and '[' in shown and '#' in shown
    assert shown.endswith('\r\x1b[K')


@pytest.mark.parametrize('args', [['--rate', '0'], ['--rate', 'x'], ['--jobs', '0'], ['--jobs', '65'], ['--since', '3d'], ['a', 'b']])
def test_wrong_use_of_verify_is_said(args):
    p = run(WORMCTL, 'verify', *args, check=False)
    assert p.returncode == 2 and p.err.startswith('wormctl: ') and p.err.count('\n') == 1


def test_only_the_daemons_user_gets_a_descriptor_of_what_is_below(wormfs):
    from harness import ALICE, as_user
    some_locked(wormfs, 'a')
    os.chmod(wormfs.dir, 0o755)

    def try_it():
        return subprocess.run([WORMCTL, 'verify', '--state-dir', wormfs.state, wormfs.mnt], capture_output=True, text=True).returncode
    assert as_user(ALICE, try_it) == 2


def test_the_weekly_run_is_a_timer_that_systemd_takes(tmp_path):
    from harness import BIN, ROOT, need_program
    analyze = need_program('systemd-analyze')
    run('make', '-C', ROOT, 'install', 'SETUP=true', 'programs=', 'DESTDIR=%s' % tmp_path, 'BUILD=' + os.path.dirname(BIN))	# the programs of the tests may be copies
    found = [os.path.join(d, n) for d, _, names in os.walk(tmp_path) for n in names if n.startswith('wormfs-verify@')]
    assert sorted(map(os.path.basename, found)) == ['wormfs-verify@.service', 'wormfs-verify@.timer']
    for path in found:
        with open(path) as f:
            text = f.read()
        assert '@BINDIR@' not in text
    here = os.path.dirname(found[0])
    for name in ('wormfs-verify@.service', 'wormfs-verify@.timer'):
        os.rename(os.path.join(here, name), os.path.join(here, name.replace('@', '@srv-share')))
    p = run(analyze, 'verify', '--man=no', os.path.join(here, 'wormfs-verify@srv-share.timer'), check=False,
            env={**os.environ, 'SYSTEMD_UNIT_PATH': here + ':'})
    complaints = [line for line in p.err.splitlines() if 'wormfs-verify' in line and 'not executable' not in line
                  and 'is not absolute' not in line]
    assert complaints == []
