"""wormctl push setup: the file with a cluster's address and credentials is written whole, for nobody else to read, and only after a
login has worked; at a terminal and without one."""
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import termios
import time

import pytest

from harness import DEADLINE_S, WORMCTL, errno_of, opened, run

SECRET = 'access-v1:notTheRightOne=='


def push_setup(*args, code=0, stdin=b'', **kwargs):
    p = subprocess.run([WORMCTL, 'push', 'setup', *map(str, args)], input=stdin, capture_output=True, timeout=60, start_new_session=True, **kwargs)
    assert p.returncode == code, (p.stdout + p.stderr).decode()
    return (p.stdout + p.stderr).decode()


@pytest.fixture
def cluster(mockqumulo, tmp_path):
    (tmp_path / 'tree' / 'share').mkdir(parents=True)
    mock = mockqumulo('--token-file', str(tmp_path / 'token'), tree=str(tmp_path / 'tree'))
    mock.options = ['--cluster', mock.url, '--ca', mock.ca_file]
    return mock


def keys(path):
    return dict(line.split(' = ', 1) for line in path.read_text().splitlines() if ' = ' in line and not line.startswith('#'))


def beside(path):
    return sorted(p.name for p in path.parent.iterdir() if p.name.startswith('.'))


# ---- without a terminal ----

def test_a_token_is_written_after_it_has_worked_and_can_be_used(cluster, tmp_path):
    file = tmp_path / 'push.conf'
    said = push_setup(*cluster.options, '--root', '/share', '--token-file', cluster.token_file, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys(file) == {'cluster': 'qumulo:' + cluster.url, 'root': '/share', 'ca': cluster.ca_file, 'token': cluster.token}
    assert cluster.token not in said
    assert 'push=qumulo:%s,push_root=/share,push_ca=%s,push_credentials=%s' % (cluster.url, cluster.ca_file, file) in said
    assert 'root: ok' in run(WORMCTL, 'push', 'check', '--config', file).out


def test_a_secret_comes_from_stdin(cluster, tmp_path):
    file = tmp_path / 'push.conf'
    push_setup(*cluster.options, '--user', cluster.user, '--password-file', '-', file, stdin=cluster.password.encode() + b'\n')
    assert keys(file)['user'] == cluster.user and keys(file)['password'] == cluster.password
    assert 'privilege: ok' in run(WORMCTL, 'push', 'check', '--config', file).out


@pytest.mark.parametrize('before', [None, '# mine\nuser = somebody\npassword = old\n'])
def test_credentials_that_do_not_work_leave_everything_as_it_was(cluster, tmp_path, before):
    file = tmp_path / 'push.conf'
    if before:
        file.write_text(before)
        file.chmod(0o600)
    said = push_setup(*cluster.options, '--token-file', '-', file, stdin=SECRET.encode(), code=1)
    assert 'nothing was written' in said and SECRET not in said
    assert (file.read_text() if before else file.exists()) == (before or False)
    assert beside(file) == []


def test_without_a_login_nothing_is_written_unless_no_test_says_so(cluster, tmp_path):
    file = tmp_path / 'push.conf'
    address, token_file = cluster.url, cluster.token_file
    cluster.end()
    said = push_setup('--cluster', address, '--token-file', token_file, file, code=2)
    assert 'nothing was written' in said and '--no-test' in said and not file.exists()
    push_setup('--cluster', address, '--token-file', token_file, '--no-test', file)
    assert keys(file)['cluster'] == 'qumulo:' + address


def test_what_else_is_in_the_file_stays_where_it_is(cluster, tmp_path):
    file = tmp_path / 'push.conf'
    file.write_text('# who: storage team\nuser = old\n\nnote = call 555\npassword = old\nPassword = older\nroot = /share\n# end\n')
    file.chmod(0o600)
    push_setup(*cluster.options, '--user', cluster.user, '--password-file', cluster.password_file, file)
    assert file.read_text() == ('# who: storage team\nuser = %s\n\nnote = call 555\npassword = %s\nroot = /share\n# end\ncluster = qumulo:%s\nca = %s\n'
                                % (cluster.user, cluster.password, cluster.url, cluster.ca_file))


def test_the_other_way_to_log_in_is_not_left_lying_about(cluster, tmp_path):
    file = tmp_path / 'push.conf'
    file.write_text('user = old\npassword = old\n')
    file.chmod(0o600)
    push_setup(*cluster.options, '--token-file', cluster.token_file, file)
    assert set(keys(file)) == {'cluster', 'ca', 'token'}


def test_a_JSON_file_of_qq_stays_one_and_keeps_its_keys(cluster, tmp_path):
    file = tmp_path / '.qfsd_cred'
    file.write_text(json.dumps({'version': 1, 'bearer_token': 'old', 'theirs': [1, 2]}))
    file.chmod(0o600)
    push_setup(*cluster.options, '--token-file', cluster.token_file, file)
    assert json.loads(file.read_text()) == {'version': 1, 'bearer_token': cluster.token, 'theirs': [1, 2], 'ca': cluster.ca_file,
                                            'cluster': 'qumulo:' + cluster.url}
    assert 'privilege: ok' in run(WORMCTL, 'push', 'check', '--config', file).out


@pytest.mark.parametrize('password', ['%(x)s = # "q" \\', ' space before', 'space behind ', 'ümlaut'])
def test_any_password_comes_back_as_it_went_in(mockqumulo, tmp_path, password):
    (tmp_path / 'pw').write_text(password)
    (tmp_path / 'pw').chmod(0o600)
    cluster = mockqumulo('--password-file', str(tmp_path / 'pw'), http=True)
    if cluster.request('POST', '/v1/session/login', {'username': cluster.user, 'password': password}, token=None).status != 200:
        pytest.skip('the stand-in reads its password file without outer spaces')
    push_setup('--cluster', cluster.url, '--user', cluster.user, '--password-file', '-', tmp_path / 'push.conf', stdin=password.encode() + b'\n')
    assert 'privilege: ok' in run(WORMCTL, 'push', 'check', '--config', tmp_path / 'push.conf').out


def test_a_file_that_others_could_read_is_closed_to_them_and_said(cluster, tmp_path):
    file = tmp_path / 'push.conf'
    file.write_text('note = 1\n')
    file.chmod(0o644)
    assert 'others could read' in push_setup(*cluster.options, '--token-file', cluster.token_file, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_symbolic_link_stays_one(cluster, tmp_path):
    (tmp_path / 'real').write_text('note = 1\n')
    (tmp_path / 'real').chmod(0o600)
    os.symlink('real', tmp_path / 'push.conf')
    push_setup(*cluster.options, '--token-file', cluster.token_file, tmp_path / 'push.conf')
    assert os.readlink(tmp_path / 'push.conf') == 'real' and keys(tmp_path / 'real')['token'] == cluster.token


def test_a_disk_that_is_full_leaves_the_old_file(cluster, tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    run('mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', disk)
    try:
        (disk / 'push.conf').write_text('note = 1\n')
        (disk / 'push.conf').chmod(0o600)
        with opened(disk / 'ballast', os.O_CREAT | os.O_WRONLY) as fd:
            while errno_of(os.write, fd, b'x' * 4096) == 'OK':
                pass
        assert 'cannot write' in push_setup(*cluster.options, '--token-file', cluster.token_file, disk / 'push.conf', code=2)
        assert (disk / 'push.conf').read_text() == 'note = 1\n' and beside(disk / 'push.conf') == []
    finally:
        run('umount', disk)


@pytest.mark.parametrize('args, words', [
    ([], ['--cluster']), (['--cluster', 'h'], ['--token-file']), (['--cluster', 'h', '--user', 'u'], ['--password-file']),
    (['--cluster', 'h', '--token-file', '-', '--user', 'u'], ['not both']), (['--cluster', 'h', '--token-file', '/nowhere'], ['/nowhere']),
    (['--cluster', 'h', '--ca', 'x', '--insecure'], ['one of them']), (['--cluster', 'h', '--token-file', '-'], ['first line']),
    (['--credentials', 'x'], ['FILE']), (['--token', 'Secr3t'], ['--token-file']), (['--password', 'Secr3t'], ['--password-file']),
])
def test_nobody_to_ask_and_something_missing_is_one_line(args, words, tmp_path):
    said = push_setup(*args, tmp_path / 'push.conf', code=2)
    assert len(said.splitlines()) == 1 and any(word in said for word in words), said
    assert 'Secr3t' not in said and not (tmp_path / 'push.conf').exists()


# ---- at a terminal ----

class Terminal:
    """wormctl push setup with a terminal of its own."""
    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(WORMCTL, [WORMCTL, 'push', 'setup', *map(str, args)])
        self.seen, self.at, self.status = '', 0, None

    def read(self):
        if not select.select([self.fd], [], [], 0.05)[0]:
            return True
        try:
            piece = os.read(self.fd, 65536)
        except OSError:		# the other side is gone
            return False
        self.seen += piece.decode()
        return bool(piece)

    def expect(self, pattern):
        end = time.monotonic() + DEADLINE_S
        while True:
            found = re.search(pattern, self.seen[self.at:])
            if found:
                self.at += found.end()
                return
            assert self.read() or re.search(pattern, self.seen[self.at:]), 'ended without %r: %r' % (pattern, self.seen)
            assert time.monotonic() < end, 'waited in vain for %r in %r' % (pattern, self.seen)

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_for_echo(self, wanted):
        end = time.monotonic() + DEADLINE_S
        while self.echoes() != wanted:
            assert time.monotonic() < end, 'what is typed is %s' % ('not shown' if wanted else 'shown')
            self.read()

    def answer(self, pattern, text, hidden=False):
        self.expect(pattern)
        self.wait_for_echo(not hidden)
        self.type(text + '\n')

    def end(self):
        while self.read():
            pass
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
            os.close(self.fd)
        return self.status


@pytest.fixture
def terminal():
    opened = []

    def start(*args):
        opened.append(Terminal(*args))
        return opened[-1]
    yield start
    for each in opened:
        if each.status is None:
            os.kill(each.pid, signal.SIGKILL)
            each.end()


def test_at_a_terminal_everything_is_asked_for_and_no_secret_is_shown(cluster, tmp_path, terminal):
    file = tmp_path / 'push.conf'
    t = terminal(file)
    t.answer(r'Cluster.*: ', 'a b')
    t.expect('no address')
    t.answer(r'Cluster.*: ', cluster.url)
    t.answer(r'CA.*: ', cluster.ca_file)
    t.answer(r'directory on the cluster.*: ', '/share')
    t.answer(r'Access token.*: ', '', hidden=True)
    t.answer(r'User.*: ', cluster.user)
    t.answer(r'Password.*: ', cluster.password, hidden=True)
    t.expect('privilege: ok')
    t.expect('is written')
    assert os.waitstatus_to_exitcode(t.end()) == 0
    assert cluster.password not in t.seen
    assert keys(file) == {'cluster': 'qumulo:' + cluster.url, 'root': '/share', 'ca': cluster.ca_file, 'user': cluster.user,
                          'password': cluster.password}


def test_return_keeps_what_the_file_has(cluster, tmp_path, terminal):
    file = tmp_path / 'push.conf'
    push_setup(*cluster.options, '--root', '/share', '--token-file', cluster.token_file, file)
    before = file.read_text()
    t = terminal(file)
    for pattern, hidden in ((r'Cluster.*\[.*: ', False), (r'CA.*\[.*: ', False), (r'directory.*\[/share\]: ', False), (r'Access token.*: ', True)):
        t.answer(pattern, '', hidden)
    t.expect('is written')
    assert os.waitstatus_to_exitcode(t.end()) == 0
    assert file.read_text() == before and cluster.token not in t.seen


def test_a_wrong_secret_at_a_terminal_writes_nothing(cluster, tmp_path, terminal):
    t = terminal(*cluster.options, '--root', '/share', tmp_path / 'push.conf')
    t.answer(r'Access token.*: ', SECRET, hidden=True)
    t.expect('nothing was written')
    assert os.waitstatus_to_exitcode(t.end()) == 1
    assert SECRET not in t.seen and not (tmp_path / 'push.conf').exists()


def test_control_C_at_a_secret_gives_the_terminal_back_and_writes_nothing(cluster, tmp_path, terminal):
    t = terminal(*cluster.options, '--root', '/share', tmp_path / 'push.conf')
    t.expect(r'Access token.*: ')
    t.wait_for_echo(False)
    t.type('half a sec\x03')
    t.wait_for_echo(True)
    status = t.end()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT
    assert 'half' not in t.seen and not (tmp_path / 'push.conf').exists()


def test_a_terminal_that_hangs_up_writes_nothing(cluster, tmp_path, terminal):
    t = terminal(*cluster.options, tmp_path / 'push.conf')
    t.expect(r'directory.*: ')
    t.type('\x04')
    t.expect('nothing was written')
    assert os.waitstatus_to_exitcode(t.end()) == 2
    assert not (tmp_path / 'push.conf').exists()
