"""Credentials and certificates of a cluster: which are taken, and who sees the secret."""
import json
import os
import time

import pytest

from harness import Refused, wait_for
from push_harness import asked, bodies, cluster, lock_of, options, push_list, pushed, queue		# noqa: F401


def test_over_TLS_with_user_and_password_there_is_one_login(cluster, tmp_path):
    share, mock = cluster('retention=1d', http=False, start=False)
    secret = tmp_path / 'secret'
    secret.write_text('user = %s\npassword = %s\n' % (mock.user, mock.password))
    secret.chmod(0o600)
    share.start(options(mock, share, 'retention=1d', credentials=str(secret)))
    for i in range(50):
        share.lock('f%d' % i)
    pushed(share)
    counts = mock.counts()
    assert counts['POST /v1/session/login 200'] == 1 and counts['PATCH /v1/files/{ref}/file-lock 200'] == 50
    assert len(asked(mock)) == 50
    mock.expire_sessions()
    for i in range(20):
        share.lock('g%d' % i)
    pushed(share)
    counts = mock.counts()
    assert counts['POST /v1/session/login 200'] == 2, 'an expired token: one login, and each call once more'
    assert counts['PATCH /v1/files/{ref}/file-lock 200'] == 70
    assert len({r['connection'] for r in mock.journal()}) <= 24


def test_credentials_that_are_refused_stop_all_and_new_ones_are_found_by_themselves(cluster, tmp_path):
    share, mock = cluster('retention=1d', start=False)
    secret = tmp_path / 'secret'
    secret.write_text('access-v1:wrong==\n')
    secret.chmod(0o600)
    share.start(options(mock, share, 'retention=1d', credentials=str(secret)))
    share.expect_log('does not accept our credentials')
    for i in range(50):
        share.lock('f%d' % i)
    wait_for('refused', lambda: queue(share)['state'] == 'refused')
    wait_for('the line', lambda: share.log_text().count('does not accept our credentials') == 1)
    assert push_list(share, '--state', 'failed') == {}, 'no file is blamed'
    time.sleep(1)
    assert share.log_text().count('does not accept our credentials') == 1
    assert len(asked(mock)) < 300
    secret.write_text(mock.token + '\n')
    secret.chmod(0o600)
    pushed(share)
    assert len(bodies(mock, status=200)) == 50 and queue(share)['state'] == 'ok'


def test_a_certificate_that_is_not_trusted_is_refused_unless_one_says_so_aloud(cluster):
    share, mock = cluster('retention=1d', http=False, start=False)
    bare = options(mock, share, 'retention=1d').replace(',push_ca=' + mock.ca_file, '')
    share.start(bare)
    share.lock('a')
    wait_for('away', lambda: queue(share)['state'] == 'away')
    assert 'certificate is not trusted' in queue(share)['reason']
    assert asked(mock) == []
    share.remount(bare + ',push_insecure')
    pushed(share)
    assert lock_of(mock, 'a')
    assert 'is not verified (push_insecure)' in share.log_text() and any('push_insecure' in p for p in share.problems())


def test_credentials_are_in_no_log_no_process_list_and_no_file_of_ours(cluster, tmp_path):
    share, mock = cluster('retention=1d', http=False, start=False)
    secret = tmp_path / 'secret'
    secret.write_text(json.dumps({'username': mock.user, 'password': mock.password}))
    secret.chmod(0o600)
    share.start(options(mock, share, 'retention=1d', credentials=str(secret)) + ',audit_success=all')
    mock.fault('500', times=2)
    for i in range(10):
        share.lock('f%d' % i)
    pushed(share)
    token = mock.login()
    needles = [mock.password.encode(), token[:8].encode() if len(token) > 8 else token.encode()]
    pid = share.proc.pid
    for what in ('cmdline', 'environ'):
        text = open('/proc/%d/%s' % (pid, what), 'rb').read()
        assert needles[0] not in text, what
    texts = [share.log_text().encode(), json.dumps(share.info()).encode(), json.dumps(share.explain('f1')).encode()]
    texts += [open(os.path.join(d, n), 'rb').read() for d, _, names in os.walk(share.state) for n in names if n != 'control']
    assert not any(needles[0] in text for text in texts)


def test_a_token_from_the_environment_is_gone_from_it(cluster, monkeypatch):
    share, mock = cluster('retention=1d', start=False)
    monkeypatch.setenv('WORMFS_PUSH_TOKEN', mock.token)
    share.start(options(mock, share, 'retention=1d').replace('push_credentials=' + mock.token_file, 'io_uring=auto'))
    share.lock('a')
    pushed(share)
    assert lock_of(mock, 'a')
    assert mock.token.encode() not in open('/proc/%d/environ' % share.proc.pid, 'rb').read()


def test_credentials_that_others_can_read_are_refused(cluster, tmp_path):
    share, mock = cluster(start=False)
    secret = tmp_path / 'secret'
    secret.write_text(mock.token)
    secret.chmod(0o644)
    with pytest.raises(Refused) as e:
        share.start(options(mock, share, credentials=str(secret)))
    assert e.value.code == 2 and 'chmod 600' in str(e.value) and mock.token not in str(e.value)
