"""A token or password for a cluster is in no log, no process list, nothing that is shown, no file of ours, and in no core."""
import json
import os
import resource
import signal
import subprocess

import pytest

from harness import WORMCTL, scaled, wait_for, write_file


@pytest.fixture
def cluster(mount, mockqumulo, tmp_path):
    """cluster(kind) -> share, mock, secrets; kind: 'token' or 'password'. Over TLS, as with a real one."""
    def make(kind, *more):
        share = mount('', start=False)
        os.chmod(share.dir, 0o755)
        mock = mockqumulo(tree=share.dir)
        secret = tmp_path / 'push.conf'
        secret.write_text(mock.token if kind == 'token' else 'user = %s\npassword = %s\n' % (mock.user, mock.password))
        secret.chmod(0o600)
        share.options = ','.join(['retention=1d', 'push=qumulo:127.0.0.1:%d' % mock.port, 'push_root=/share', 'push_ca=' + mock.ca_file,
                                  'push_credentials=%s' % secret, 'push_retry=1', *more])
        return share, mock, [mock.token, mock.password]
    return make


def pushed(share):
    share.must('sync')
    wait_for('the queue to be empty', lambda: share.info()['push']['waiting'] == 0)


def where_secrets_could_be(share, *outputs):
    texts = {'log': share.log_text().encode(), 'info': json.dumps(share.info()).encode(),
             'explain': share.shows('f1', 'explain').encode(), 'push': share.shows('f1', 'push').encode()}
    for what in ('cmdline', 'environ'):
        texts[what] = open('/proc/%d/%s' % (share.proc.pid, what), 'rb').read()
    for task in os.listdir('/proc/%d/task' % share.proc.pid):
        texts['comm ' + task] = open('/proc/%d/task/%s/comm' % (share.proc.pid, task), 'rb').read()
    for directory, _, names in os.walk(share.state):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                texts[path] = open(path, 'rb').read()
    for n, p in enumerate(outputs):
        texts['output %d' % n] = (p.out + p.err).encode()
    return texts


@pytest.mark.parametrize('kind', ['token', 'password'])
def test_neither_token_nor_password_is_shown_or_stored_also_when_they_are_refused(cluster, kind):
    share, mock, secrets = cluster(kind, 'audit_success=all')
    share.start()
    mock.fault('500', times=2)
    for i in range(10):
        write_file(share.at('f%d' % i), b'x')
    pushed(share)
    mock.expire_sessions(tokens=True)
    share.expect_log('does not accept our credentials')
    write_file(share.at('g'), b'x')
    share.must('sync')
    if kind == 'token':
        wait_for('refused', lambda: share.info()['push']['state'] == 'refused')
    outputs = [share.ctl('push', *args, share.mnt, check=False) for args in (['status'], ['list'], ['list', '--json'], ['check'])]
    outputs.append(share.ctl('status', share.mnt, check=False))
    outputs.append(share.ctl('audit', 'show', '--state-dir', share.state, share.mnt, check=False))
    texts = where_secrets_could_be(share, *outputs)
    assert len(texts) > 12
    for where, text in texts.items():
        for secret in secrets:
            assert secret.encode() not in text, where
    share.kill9()	# with a lock that nobody accepts


def how_it_ended(share, signum):
    """'dumped' or 'killed'."""
    os.kill(share.proc.pid, signum)
    end = os.waitid(os.P_PID, share.proc.pid, os.WEXITED | os.WNOWAIT)
    share.kill9()
    return {os.CLD_DUMPED: 'dumped', os.CLD_KILLED: 'killed'}[end.si_code]


@pytest.fixture
def cores(tmp_path):
    """Cores are allowed for what is started, and go where nobody minds."""
    if scaled(10) == 1:
        pytest.skip('a sanitizer forbids cores by itself')
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip('no cores on this machine: the hard limit is 0')
    before, cwd = resource.getrlimit(resource.RLIMIT_CORE), os.getcwd()
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(cwd)
    resource.setrlimit(resource.RLIMIT_CORE, before)


def test_a_daemon_that_dies_while_it_pushes_leaves_no_core(cluster, mount, cores):
    plain = mount('retention=1d')
    if how_it_ended(plain, signal.SIGABRT) != 'dumped':
        pytest.skip('this machine writes no cores')
    share, mock, _ = cluster('token')
    share.start()
    mock.fault('delay', ms=5000, method='PATCH')
    for i in range(20):
        write_file(share.at('f%d' % i), b'x')
    wait_for('requests on their way', lambda: share.info()['push']['in_flight'] > 0)
    memory = open('/proc/%d/maps' % share.proc.pid).read()
    assert any_memory_has(share.proc.pid, memory, mock.token.encode()), 'the token is in memory: a core would have it'
    assert how_it_ended(share, signal.SIGABRT) == 'killed'
    mock.clear_faults()


def any_memory_has(pid, maps, needle):
    with open('/proc/%d/mem' % pid, 'rb', 0) as mem:
        for line in maps.splitlines():
            parts = line.split()
            if 'rw' not in parts[1] or parts[-1] in ('[vvar]', '[vsyscall]'):
                continue
            start, end = (int(x, 16) for x in parts[0].split('-'))
            try:
                mem.seek(start)
                if needle in mem.read(end - start):
                    return True
            except OSError:
                continue
    return False


@pytest.mark.parametrize('args', [('push', 'check'), ('watch-upstream', '--retention', '1d')], ids=lambda a: a[0] + ' ' + a[1])
def test_what_wormctl_asks_a_cluster_is_in_no_core_either(cluster, cores, args):
    share, mock, _ = cluster('token')
    os.mkdir(os.path.join(mock.tree, 'in'))
    mock.fault('delay', ms=20000, path='*who-am-i*')
    secret = share.options.split('push_credentials=')[1].split(',')[0]
    extra = ['--cluster', '127.0.0.1:%d' % mock.port, '--credentials', secret, '--ca', mock.ca_file]
    p = subprocess.Popen([WORMCTL, *args, *extra, *(['/in'] if args[0] != 'push' else ['--root', '/in'])],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_for('its question', lambda: p.poll() is not None or mock.journal(path='*who-am-i*') or mock.journal())
        assert p.poll() is None, p.stderr.read()
        p.send_signal(signal.SIGABRT)
        assert os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT).si_code == os.CLD_KILLED
    finally:
        p.kill()
        p.wait()
        p.stderr.close()
        mock.clear_faults()
