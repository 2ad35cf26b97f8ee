"""wormctl push check: what would keep a lock from reaching the cluster is found before one is lost, with what to do about it."""
import json
import os

import pytest

from harness import ALICE, WORMCTL, run, wait_for

LINES = ['connection', 'version', 'privilege', 'root', 'clock']


def check(*args, code=0, **kwargs):
    """{check: (state, rest of the line)}"""
    p = run(WORMCTL, 'push', 'check', *args, check=False, **kwargs)
    assert p.returncode == code, p.out + p.err
    lines = [line.split(': ', 2) for line in p.out.splitlines()]
    assert [line[0] for line in lines] == LINES, p.out + p.err
    return {name: (state, rest) for name, state, rest in lines}


def states(found):
    return {name: state for name, (state, _) in found.items()}


@pytest.fixture
def cluster(mockqumulo, tmp_path):
    (tmp_path / 'tree').mkdir()
    (tmp_path / 'tree' / 'share').mkdir()
    (tmp_path / 'tree' / 'file').write_text('x')
    mock = mockqumulo('--token-file', str(tmp_path / 'token'), tree=str(tmp_path / 'tree'))
    mock.options = ['--cluster', mock.url, '--ca', mock.ca_file, '--credentials', mock.token_file, '--root', '/share']
    return mock


def test_a_cluster_where_all_is_well_has_five_good_lines(cluster):
    assert states(check(*cluster.options)) == dict.fromkeys(LINES, 'ok')


def test_the_check_asks_and_changes_nothing(cluster):
    check(*cluster.options)
    assert {r['method'] for r in cluster.journal()} == {'GET'}
    assert cluster.locks() == {}


@pytest.mark.parametrize('what, switch, state, words', [
    ('version', {'version': 'Qumulo Core 7.2.0.1'}, 'failed', ['7.2.0.1', '7.2.1', 'upgrade']),
    ('version', {'version': 'something else'}, 'warning', ['something else']),
    ('privilege', {'privilege': 'no'}, 'failed', ['PRIVILEGE_FS_FILE_LOCK_WRITE', 'role']),
    ('clock', {'date': 'no'}, 'note', ['NTP']),
])
def test_what_a_cluster_lacks_is_one_line_that_says_what_to_do(cluster, what, switch, state, words):
    cluster.switch(**switch)
    found = check(*cluster.options, code=0 if state == 'note' else 1)
    assert found[what][0] == state and all(word in found[what][1] for word in words), found
    assert {s for name, s in states(found).items() if name != what} == {'ok'}


@pytest.mark.parametrize('seconds, state', [(50, 'ok'), (-50, 'ok'), (90, 'warning'), (-90, 'warning'), (86400 * 400, 'warning')])
def test_clocks_more_than_a_minute_apart_are_a_warning(cluster, seconds, state):
    cluster.clock(advance_s=seconds)
    found = check(*cluster.options, code=1 if state == 'warning' else 0)
    assert found['clock'][0] == state
    if state == 'warning':
        assert ('ahead of' if seconds > 0 else 'behind') in found['clock'][1] and 'NTP' in found['clock'][1]


@pytest.mark.parametrize('root, words', [('/nowhere', ["there is no '/nowhere'"]), ('/file', ['no directory'])])
def test_a_root_that_is_not_the_shares_directory_is_found(cluster, root, words):
    found = check(*cluster.options[:-1], root, code=1)
    assert found['root'][0] == 'failed' and all(word in found['root'][1] for word in words)


def test_an_expired_token_is_said_to_be_one_and_asked_for_once(cluster):
    cluster.expire_sessions(tokens=True)
    cluster.reset_journal()
    found = check(*cluster.options, code=1)
    assert found['privilege'][0] == 'failed' and 'wormctl push setup' in found['privilege'][1]
    assert found['root'][0] == 'unknown'
    assert cluster.counts().get('GET /v1/session/who-am-i 401') == 1


def test_a_user_whose_session_has_ended_logs_in_again(cluster, tmp_path):
    file = tmp_path / 'login'
    file.write_text('user = %s\npassword = %s\n' % (cluster.user, cluster.password))
    file.chmod(0o600)
    cluster.fault('401', path='*/who-am-i', times=1)
    cluster.options[5] = file
    assert states(check(*cluster.options)) == dict.fromkeys(LINES, 'ok')
    assert cluster.counts()['POST /v1/session/login 200'] == 2


def test_a_certificate_that_nobody_vouches_for_ends_it_before_a_secret_is_sent(cluster):
    del cluster.options[2:4]
    found = check(*cluster.options, code=2)
    assert found['connection'][0] == 'unknown' and 'certificate' in found['connection'][1] and '--ca' in found['connection'][1]
    assert cluster.journal() == []


def test_insecure_works_and_is_said_aloud(cluster):
    cluster.options[2:4] = ['--insecure']
    p = run(WORMCTL, 'push', 'check', *cluster.options)
    assert 'connection: note: ' in p.out and 'insecure' in p.out
    assert p.err.startswith('wormctl: warning: ') and 'read the credentials' in p.err and len(p.err.splitlines()) == 1


def test_a_cluster_that_is_away_is_exit_2(cluster):
    address = cluster.url
    cluster.end()
    found = check('--cluster', address, '--credentials', cluster.token_file, code=2)
    assert found['connection'][0] == 'unknown' and 'does not answer' in found['connection'][1]
    assert found['version'][0] == 'unknown'


def test_a_cluster_that_cannot_say_now_is_exit_2(cluster):
    cluster.fault('503')
    assert check(*cluster.options, code=2)['connection'][0] == 'unknown'


def test_without_TLS_only_this_machine_is_spoken_to(cluster):
    p = run(WORMCTL, 'push', 'check', '--cluster', 'http://192.0.2.1:8000', '--credentials', cluster.token_file, check=False)
    assert p.returncode == 2 and 'https' in p.err and len(p.err.splitlines()) == 1


def test_credentials_that_others_can_read_are_not_used(cluster):
    os.chmod(cluster.token_file, 0o644)
    p = run(WORMCTL, 'push', 'check', *cluster.options, check=False)
    assert p.returncode == 2 and 'chmod 600' in p.err
    assert cluster.journal() == []


def test_as_JSON_each_line_is_an_object(cluster):
    cluster.switch(privilege='no')
    p = run(WORMCTL, 'push', 'check', '--json', *cluster.options, check=False)
    rows = [json.loads(line) for line in p.out.splitlines()]
    assert p.returncode == 1 and [row['check'] for row in rows] == LINES
    assert rows[2]['state'] == 'failed' and rows[2]['do'] and rows[1]['do'] is None


def test_credentials_come_from_the_environment_too_and_are_shown_nowhere(cluster):
    del cluster.options[4:6]
    env = dict(os.environ, WORMFS_PUSH_TOKEN=cluster.token)
    p = run(WORMCTL, 'push', 'check', *cluster.options, env=env)
    assert cluster.token not in p.out + p.err
    env['WORMFS_PUSH_TOKEN'] = 'access-v1:wrong'
    p = run(WORMCTL, 'push', 'check', *cluster.options, env=env, check=False)
    assert p.returncode == 1 and 'access-v1' not in p.out + p.err


@pytest.mark.parametrize('args, words', [
    ([], ['--cluster']), (['--cluster', 'a b'], ['address']), (['--cluster', 'h', '--root', 'x/../y'], ['absolute path']),
    (['--cluster', 'h:99999'], ['port']), (['--config', '/nowhere/x'], ['/nowhere/x']), (['a', 'b'], ['one SHARE']),
])
def test_wrong_usage_is_one_line(args, words):
    env = dict(os.environ, XDG_CONFIG_HOME='/nowhere', WORMFS_PUSH_TOKEN='x')
    p = run('setpriv', '--reuid', str(ALICE), '--clear-groups', WORMCTL, 'push', 'check', *args, check=False, env=env)
    assert p.returncode == 2 and len(p.err.splitlines()) == 1 and all(word in p.err for word in words), p.err


# ---- by the daemon ----

def test_a_daemon_says_at_its_start_what_keeps_locks_from_the_cluster_and_mounts_all_the_same(mount, mockqumulo, tmp_path):
    share = mount('retention=1d', base='tmpfs', start=False)
    mock = mockqumulo('--token-file', str(tmp_path / 'token'), tree=share.lower, http=True)
    mock.switch(privilege='no', version='Qumulo Core 7.1.0')
    share.options += ',push=qumulo:%s,push_root=/nowhere,push_credentials=%s' % (mock.url, mock.token_file)
    share.start()
    share.lock('a')
    wait_for('the check', lambda: share.info()['push']['check'])
    assert share.info()['push']['check'] == {'connection': 'note', 'version': 'failed', 'privilege': 'failed', 'root': 'failed', 'clock': 'ok'}
    for words in ('7.1.0 has no file locks', 'PRIVILEGE_FS_FILE_LOCK_WRITE', "no '/nowhere' on the cluster"):
        assert len([line for line in share.log_text().splitlines() if words in line]) == 1, share.log_text()
        assert any(words in problem for problem in share.problems(pending=True)), share.problems(pending=True)
    assert 'upgrade the cluster' in share.ctl('status', check=False).out


def test_a_daemon_on_a_good_cluster_says_nothing_of_it(mount, mockqumulo, tmp_path):
    share = mount('retention=1d', base='tmpfs', start=False)
    mock = mockqumulo('--token-file', str(tmp_path / 'token'), tree=share.lower, http=True)
    share.options += ',push=qumulo:%s,push_root=/,push_credentials=%s' % (mock.url, mock.token_file)
    share.start()
    wait_for('the check', lambda: share.info()['push']['check'])
    assert share.problems() == [] and 'push: ' not in share.log_text().replace('push: locks go to', '')


def test_a_daemon_whose_cluster_is_away_mounts_and_checks_later(mount, tmp_path):
    share = mount('retention=1d', base='tmpfs', start=False)
    (tmp_path / 'token').write_text('access-v1:x')
    (tmp_path / 'token').chmod(0o600)
    share.options += ',push=qumulo:http://127.0.0.1:1,push_root=/,push_credentials=%s' % (tmp_path / 'token')
    share.start()
    assert share.lock('a')
    wait_for('the check', lambda: (share.info()['push']['check'] or {}).get('connection') == 'unknown')
