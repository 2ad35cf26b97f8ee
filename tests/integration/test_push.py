"""Locks that a cluster is to have, too: what is sent and what never is, faults, kills, a cluster that is away, who sees the secret.
The cluster is mockqumulo, whose journal says what it was asked."""
import json
import os
import random
import re
import sqlite3
import subprocess
import time

import pytest

from harness import DAY, DEADLINE_S, SOAK, WORMFS, Refused, opened, run, sanitizer, wait_for, write_file
from qumulo import ref

LOCK = '/file-lock'
FILES = 10000 if SOAK else 1000


def options(mock, share, *more, retry=1, credentials=None):
    parts = ['push=qumulo:' + (mock.url if not mock.ca_file else mock.url.replace('https://', '')), 'push_root=/share',
             'push_credentials=' + (credentials or mock.token_file), 'push_retry=%d' % retry]
    if mock.ca_file:
        parts.append('push_ca=' + mock.ca_file)
    return ','.join(parts + list(more))


@pytest.fixture
def cluster(mount, mockqumulo):
    """cluster(*mount options, mock=[options], http=True) -> share, mock; the share is /share on the cluster."""
    def make(*more, mock=(), http=True, retry=1, start=True, **kwargs):
        share = mount('', start=False, **kwargs)
        os.chmod(share.dir, 0o755)
        token = os.path.join(share.dir, 'token')		# the same after a restart of the stand-in
        m = mockqumulo('--token-file', token, *mock, tree=share.dir, http=http)
        share.options = ','.join(filter(None, [share.options, options(m, share, *more, retry=retry)]))
        if start:
            share.start()
        return share, m
    return make


def queue(share):
    return share.info()['push']


def pushed(share, deadline=DEADLINE_S):
    """Waits until nothing is on its way."""
    share.must('sync')
    try:
        return wait_for('the queue to be empty', lambda: queue(share)['waiting'] == 0 and queue(share)['in_flight'] == 0, deadline)
    except pytest.fail.Exception as e:
        raise AssertionError('%s: %r, %r\n%s' % (e, queue(share), list(push_list(share, '--state', 'pending').items())[:3],
                                                 share.log_text())) from None


def asked(mock):
    """Requests about files of the share, in order; not those that ask how the cluster is."""
    return [r for r in mock.journal() if r['path'].startswith('/v1/files/' + ref('/share/'))]


def bodies(mock, name=None, status=None):
    """What PATCH requests said, in order."""
    return [json.loads(r['body']) for r in mock.journal('PATCH') if r['path'].endswith(LOCK)
            and (name is None or r['path'] == '/v1/files/%s/file-lock' % ref('/share/' + name))
            and (status is None or r['status'] == status)]


def lock_of(mock, name):
    return mock.locks().get('/share/' + name)


def push_list(share, *args, check=True):
    p = share.ctl('push', 'list', '--json', *args, '--state-dir', share.state, share.mnt, check=False)
    return {row['path']: row for row in map(json.loads, p.out.splitlines())}


# ---- what is sent -------------------------------------------------------------------------------

def test_a_closed_file_is_locked_on_the_cluster_once_with_the_end_it_has_here(cluster):
    share, mock = cluster('retention=1d')
    os.mkdir(share.at('d'))
    names = ['a', 'd/b c', 'd/\u00e4 %+?#']
    for name in names:
        share.lock(name)
    pushed(share)
    for name in names:
        assert bodies(mock, name) == [{'retention_period': share.shows(name, 'until')}]
        assert lock_of(mock, name) == {'legal_hold': False, 'retention_period': share.shows(name, 'until')}
        assert share.shows(name, 'push') == 'locked'
        assert share.explain(name)['push']['state'] == 'locked'
    assert len(asked(mock)) == len(names), 'nothing else was asked'
    assert set(push_list(share, '--state', 'locked')) == set(names)
    assert 'confirmed' in share.ctl('audit', 'show', '--event', 'push', '--state-dir', share.state, share.mnt, check=False).out \
        or 'confirmed' in open(os.path.join(share.state, 'audit.log')).read()


def test_what_is_not_locked_is_not_sent(cluster):
    share, mock = cluster('retention=1d')
    write_file(share.at('x.part'))
    with opened(share.at('empty'), os.O_CREAT | os.O_WRONLY):
        pass
    with opened(share.at('open'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        share.lock('done')
        pushed(share)
        assert [r['path'] for r in asked(mock)] == ['/v1/files/%s/file-lock' % ref('/share/done')]


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


def test_extension_hold_and_release_go_out_as_exactly_their_keys(cluster):
    share, mock = cluster('retention=1d')
    share.lock('a')
    pushed(share)
    share.must('extend', 'a', until='2d')
    pushed(share)
    share.must('hold', 'a', case='c1')
    pushed(share)
    share.must('hold', 'a', case='c2')
    pushed(share)
    share.must('release', 'a', case='c1')
    pushed(share)
    assert lock_of(mock, 'a')['legal_hold'] is True, 'one hold is still there'
    share.must('release', 'a', case='c2')
    pushed(share)
    sent = bodies(mock, 'a')
    assert [set(body) for body in sent] == [{'retention_period'}, {'retention_period'}, {'legal_hold'}, {'legal_hold'}]
    assert [body['legal_hold'] for body in sent[2:]] == [True, False]
    assert sent[0]['retention_period'] < sent[1]['retention_period'] == share.shows('a', 'until')
    assert lock_of(mock, 'a') == {'legal_hold': False, 'retention_period': share.shows('a', 'until')}


def test_changes_made_while_the_cluster_is_away_go_out_as_one_request(cluster):
    share, mock = cluster('retention=1d')
    mock.fault('503')
    for name in ('a', 'b'):
        share.lock(name)
    share.must('extend', 'a', until='2d')
    share.must('hold', 'a', case='c1')
    share.must('extend', 'a', until='3d')
    share.must('hold', 'b', case='c1')
    share.must('release', 'b', case='c1')
    share.remount()
    mock.clear_faults()
    pushed(share)
    assert bodies(mock, 'a', 200) == [{'retention_period': share.shows('a', 'until'), 'legal_hold': True}]
    assert lock_of(mock, 'a') == {'retention_period': share.shows('a', 'until'), 'legal_hold': True}
    # What became of a hold that may have been sent must be told, too.
    assert lock_of(mock, 'b') == {'retention_period': share.shows('b', 'until'), 'legal_hold': False}


def test_a_hold_that_never_went_out_needs_no_release(cluster):
    share, mock = cluster('retention=1d')
    mock.end()
    share.lock('a')
    share.must('hold', 'a', case='c1')
    share.stop()
    db = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    db.execute('UPDATE file SET pushed_hold = 0')	# as before anything went out
    db.commit()
    db.close()
    share.start('state=%s,retention=1d' % share.state)
    share.must('release', 'a', case='c1')
    share.stop()
    mock.start()
    share.start(options(mock, share, 'retention=1d'))
    pushed(share)
    assert bodies(mock, 'a') == [{'retention_period': share.shows('a', 'until')}]


def test_a_shorter_retention_is_never_sent(cluster):
    share, mock = cluster('retention=2d', 'privdel=on')
    share.lock('a')
    pushed(share)
    was = share.shows('a', 'until')
    share.must('shorten', 'a', until='1d', reason='a mistake')
    pushed(share)
    assert share.shows('a', 'until') < was
    assert len(asked(mock)) == 1 and lock_of(mock, 'a')['retention_period'] == was
    assert share.explain('a')['push']['until'] == was, 'what the cluster has is shown'


@pytest.mark.parametrize('retention', ['infinite', 'unspecified'])
def test_a_retention_without_a_date_is_what_push_undated_says(cluster, retention):
    share, mock = cluster('retention=' + retention)
    share.lock('a')
    pushed(share)
    assert asked(mock) == []
    assert share.shows('a', 'push').startswith('failed: retention is ' + retention)
    assert any('did not reach the cluster' in p for p in share.problems())
    base = share.options
    share.remount(base + ',push_undated=hold')
    assert share.ctl('push', 'retry', share.at('a')).out == '1 files are tried again now\n'
    pushed(share)
    assert bodies(mock, 'a') == [{'legal_hold': True}] and share.shows('a', 'push') == 'locked'
    share.must('hold', 'a', case='c1')
    pushed(share)
    share.must('release', 'a', case='c1')
    pushed(share)
    assert lock_of(mock, 'a')['legal_hold'] is True, 'the hold stands for the retention, a release of another does not take it'
    share.remount(base + ',push_undated=2100-01-01')
    share.lock('b')
    pushed(share)
    assert bodies(mock, 'b') == [{'retention_period': '2100-01-01T00:00:00Z'}]


def test_an_end_that_has_passed_is_not_sent(cluster):
    share, mock = cluster('retention=1h', clocked=True)
    mock.fault('503')
    share.lock('a')
    share.now(7200)
    mock.clear_faults()
    pushed(share)
    assert bodies(mock, 'a', 200) == []
    assert share.shows('a', 'push') == 'failed: its retention had ended before the cluster could be told'
    share.must('extend', 'a', until='1d')
    pushed(share)
    assert bodies(mock, 'a', 200) == [{'retention_period': share.shows('a', 'until')}] and share.shows('a', 'push') == 'locked'


def test_append_only_files_are_sent_when_they_are_final(cluster):
    share, mock = cluster('retention=1d')
    path = share.at('log')
    write_file(path, b'')
    os.setxattr(path, 'user.worm.append', b'1')
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'line\n')
    share.lock('other')
    pushed(share)
    assert bodies(mock, 'log') == [] and len(bodies(mock)) == 1
    share.must('commit', 'log')
    pushed(share)
    assert bodies(mock, 'log') == [{'retention_period': share.shows('log', 'until')}]


def test_files_that_settle_are_sent_when_they_have(cluster):
    share, mock = cluster('retention=1d', 'settle=2')
    path = share.at('a')
    write_file(path, b'x')
    share.wait_state(path, 'settling')
    share.must('sync')
    assert bodies(mock) == []
    pushed(share)
    assert share.shows('a') == 'retained'
    assert bodies(mock) == [{'retention_period': share.shows('a', 'until')}]


def test_a_rule_decides_what_is_pushed(cluster, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[keep]\npath = /keep/**\npush = no\n')
    share, mock = cluster('retention=1d', 'rules=%s' % rules, start=False)
    os.mkdir(share.below('keep'))
    share.start()
    share.lock('keep/a')
    share.lock('b')
    pushed(share)
    assert [r['path'] for r in asked(mock)] == ['/v1/files/%s/file-lock' % ref('/share/b')]
    assert share.shows('keep/a', 'push') == 'off'
    # A ledger that is made anew asks the rules, and the cluster, before it sends.
    share.stop()
    for name in os.listdir(share.state):
        if name.startswith('ledger.db'):
            os.unlink(os.path.join(share.state, name))
    mock.reset_journal()
    share.start()
    wait_for('the rows', lambda: len(push_list(share)) == 1)
    pushed(share)
    assert [(r['method'], r['status']) for r in asked(mock)] == [('GET', 200)], 'it has the lock already'
    assert share.shows('b', 'push') == 'locked' and share.shows('keep/a', 'push') == 'off'


def test_a_rule_that_pushes_needs_a_cluster(mount, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[keep]\npath = /keep/**\npush = yes\n')
    with pytest.raises(Refused) as e:
        mount('rules=%s' % rules)
    assert e.value.code == 2 and "rule 'keep': push = yes, and the mount has no cluster" in str(e.value)


def test_files_locked_when_nothing_was_pushed_are_sent_when_asked_for(cluster):
    share, mock = cluster('retention=1d', start=False)
    everything = share.options
    share.start('retention=1d')
    share.lock('a')
    share.remount(everything)
    share.lock('b')
    pushed(share)
    assert bodies(mock, 'a') == [] and share.shows('a', 'push') == 'off'
    assert share.ctl('push', 'retry', share.at('a')).returncode == 0
    pushed(share)
    assert bodies(mock, 'a') == [{'retention_period': share.shows('a', 'until')}]
    mock.control('DELETE', 'locks')
    assert share.ctl('push', 'retry', '--again', share.at('b')).returncode == 0
    pushed(share)
    assert lock_of(mock, 'b') and len(bodies(mock, 'b')) == 2


# ---- answers ------------------------------------------------------------------------------------

REFUSALS = [
    (400, 'decode_error'), (403, 'http_unauthorized_error'), (403, 'fs_access_denied_error'), (403, 'auth_not_authorized_error'),
    (404, 'fs_no_such_entry_error'), (404, 'fs_no_such_path_error'), (404, 'fs_no_such_inode_error'), (405, ''),
    (409, 'fs_entry_exists_error'), (400, 'fs_invalid_file_type_error'), (400, 'fs_not_a_file_error'), (400, 'fs_read_only_error'),
    (409, 'fs_already_read_only_error'),
]


@pytest.fixture(scope='module')
def shared_cluster(bases, tmp_path_factory):
    """One share and one cluster for the tests that only look at one file."""
    import conftest
    import qumulo
    m = conftest.Mounter(bases)
    share = m('', start=False)
    os.chmod(share.dir, 0o755)
    mock = qumulo.MockQumulo(tree=share.dir, http=True)
    share.start(options(mock, share, 'retention=1d'))
    yield share, mock
    m.end()
    mock.end()


@pytest.fixture
def ready(shared_cluster):
    share, mock = shared_cluster
    mock.clear_faults()
    pushed(share)
    mock.reset_journal()
    ready.count += 1
    yield share, mock, 'f%d' % ready.count
    mock.clear_faults()
    share.ctl('push', 'retry', share.mnt)
    pushed(share)
ready.count = 0


@pytest.mark.parametrize('status, error_class', REFUSALS, ids=['%d-%s' % r for r in REFUSALS])
def test_a_refusal_is_failed_with_its_status_and_class_and_a_lock_that_is_there_all_the_same_is_seen(ready, status, error_class):
    share, mock, name = ready
    mock.fault('status', status=status, error_class=error_class, method='PATCH', times=1)
    share.lock(name)
    row = wait_for('a failed row', lambda: push_list(share, '--state', 'failed').get(name))
    assert row['status'] == status and row['error_class'] == (error_class or None) and row['attempts'] == 1 and row['next_try'] and row['error']
    assert row['until'] is None and row['want'] == share.shows(name, 'until')
    assert share.shows(name, 'push').startswith('failed: %d' % status)
    methods = [r['method'] for r in asked(mock)]
    assert methods == (['PATCH'] if status == 404 else ['PATCH', 'GET']), 'no more than one look'
    # By then somebody has locked it: the next try sees that.
    mock.lock('/share/' + name, retention_period='2999-01-01T00:00:00Z')
    mock.switch(shorten='400:fs_read_only_error')
    mock.reset_journal()
    share.ctl('push', 'retry', share.at(name))
    pushed(share)
    assert share.shows(name, 'push') == 'locked'
    assert [r['method'] for r in asked(mock)] == ['PATCH', 'GET'], 'refused, looked, and covered'


@pytest.mark.parametrize('kind, spec', [
    ('412', {}), ('429', {}), ('500', {}), ('503', {}), ('not-json', {}), ('no-lock', {}), ('huge', {}), ('cut', {}), ('close-before', {}),
    ('close-after', {}), ('slow', {}), ('delay', {'ms': 200}), ('chunked', {}), ('status', {'status': 408}), ('status', {'status': 302}),
    ('status', {'status': 502}),
], ids=lambda v: v if isinstance(v, str) else ''.join(str(x) for x in v.values()) or '-')
def test_a_fault_passes_and_the_file_is_locked(ready, kind, spec):
    share, mock, name = ready
    mock.fault(kind, times=1, method='PATCH', **spec)
    share.lock(name)
    pushed(share)
    assert share.shows(name, 'push') == 'locked'
    assert lock_of(mock, name)['retention_period'] == share.shows(name, 'until')
    assert all(body == {'retention_period': share.shows(name, 'until')} for body in bodies(mock, name))
    done = [r for r in asked(mock) if r['path'].startswith('/v1/files/%s/' % ref('/share/' + name))]
    assert len(done) <= 4, done


def test_a_401_of_one_file_is_the_files_and_does_not_stop_the_others(ready):
    share, mock, name = ready
    mock.fault('401', path='*%s/*' % ref('/share/' + name))
    share.lock(name)
    share.lock(name + '.other')
    row = wait_for('a failed row', lambda: push_list(share, '--state', 'failed').get(name))
    assert row['status'] == 401
    wait_for('the other', lambda: share.shows(name + '.other', 'push') == 'locked')
    assert queue(share)['state'] == 'ok'
    assert 'does not accept our credentials' not in share.log_text()


def test_retry_after_is_honoured_for_all(cluster):
    share, mock = cluster('retention=1d')
    mock.fault('429', times=1, retry_after=2, method='PATCH')
    share.lock('a')
    wait_for('the 429', lambda: asked(mock))
    for i in range(5):
        share.lock('b%d' % i)
    pushed(share)
    begun, *later = [r['time'] for r in asked(mock)]
    assert len(later) == 6 and min(later) - begun >= 1.9


@pytest.mark.parametrize('switch', [{'same_end': '400:fs_read_only_error'}, {'same_end': '409'}, {'same_end': '403:fs_read_only_error'}],
                         ids=lambda s: str(list(s.values())[0]))
def test_a_lock_that_is_there_already_counts_whatever_the_cluster_says_to_it(ready, switch):
    share, mock, name = ready
    mock.switch(**switch)
    mock.fault('close-after', method='PATCH', times=1)
    share.lock(name)
    pushed(share)
    mock.switch(same_end='ok')
    assert share.shows(name, 'push') == 'locked'


# ---- away, and back -----------------------------------------------------------------------------

def test_close_does_not_wait_for_a_cluster_that_is_dead_and_the_log_has_one_line_each_way(cluster):
    share, mock = cluster('retention=1d')
    share.lock('before')
    pushed(share)
    mock.kill()
    begun = time.monotonic()
    for i in range(300):
        write_file(share.at('f%d' % i), b'x')
    assert time.monotonic() - begun < 10
    wait_for('away', lambda: queue(share)['state'] == 'away')
    share.must('sync')
    assert queue(share)['waiting'] == 300 and share.shows('f7', 'push').startswith('pending')
    assert any('the cluster is away' in p for p in share.problems())
    p = share.ctl('push', 'status', share.mnt, check=False)
    assert p.returncode == 1 and '300 wait, 0 failed' in p.out and 'away since' in p.out, p.out
    time.sleep(1)	# probes come and go
    assert share.log_text().count('is away') == 1
    # A kill, and a cluster that comes back on another day.
    share.kill9()
    share.start()
    wait_for('the locks that were on their way', lambda: queue(share)['waiting'] == 300)
    mock.args += ['--listen', '127.0.0.1:%d' % mock.port]
    mock.start()
    pushed(share)
    assert len(bodies(mock)) == 300 and len({r['path'] for r in mock.journal('PATCH')}) == 300
    wait_for('the line', lambda: share.log_text().count('is back after') == 1 or share.log_text().count('is away') == 1)


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


@pytest.mark.parametrize('opts, why', [
    ('push=cluster', 'give qumulo:HOST'),
    ('push=qumulo:http://10.0.0.1,push_root=/a', 'http without TLS is for this machine alone'),
    ('push=qumulo:h', 'add push_root'),
    ('push_root=/a', 'need push='),
    ('push=qumulo:h,push_root=a', "it is push_root=/PATH"),
    ('push=qumulo:h,push_root=/a,push_credentials=/nonexistent', "cannot read the credentials '/nonexistent'"),
    ('push=qumulo:h,push_root=/a,push_ca=/nonexistent', 'push_ca=/nonexistent: No such file'),
    ('push=qumulo:h,push_root=/a,push_undated=soon', 'push_undated=fail|hold|DATE'),
    ('push=qumulo:h,push_root=/a', 'no credentials'),
])
def test_options_that_cannot_work_are_refused_with_one_line(mount, opts, why):
    with pytest.raises(Refused) as e:
        mount(opts + ('' if 'push_root' in opts or opts.endswith(':h') or 'push=' not in opts else ',push_root=/a'))
    assert e.value.code == 2 and why in str(e.value) and len(str(e.value).splitlines()) == 1, str(e.value)


# ---- close waits --------------------------------------------------------------------------------

def test_with_push_wait_the_cluster_has_the_lock_when_close_returns(cluster):
    share, mock = cluster('retention=1d', 'push_wait=10')
    for i in range(5):
        write_file(share.at('f%d' % i), b'x')
        assert lock_of(mock, 'f%d' % i), 'right behind its close'
    pushed(share)
    assert len(asked(mock)) == 5, 'once each'
    mock.fault('delay', ms=3000, times=1)
    share.remount(share.options.replace('push_wait=10', 'push_wait=1'))
    begun = time.monotonic()
    write_file(share.at('slow'), b'x')
    assert 0.9 < time.monotonic() - begun < 2.8, 'no longer than it may'
    pushed(share)
    assert lock_of(mock, 'slow') and share.shows('slow') == 'retained'
    mock.kill()
    begun = time.monotonic()
    for i in range(20):
        write_file(share.at('g%d' % i), b'x')
    assert time.monotonic() - begun < 5, 'a cluster that is away is not waited for'
    mock.args += ['--listen', '127.0.0.1:%d' % mock.port]
    mock.start()
    pushed(share)


# ---- kills --------------------------------------------------------------------------------------

@pytest.mark.parametrize('same_end', ['ok', '409:fs_already_read_only_error'])
def test_a_kill_between_applied_and_answered_changes_nothing(cluster, same_end):
    share, mock = cluster('retention=1d')
    mock.switch(same_end=same_end)
    mock.fault('delay', ms=20000, method='PATCH', times=1)
    share.lock('a')
    wait_for('the cluster to have it', lambda: lock_of(mock, 'a'))
    assert share.shows('a', 'push') == 'pending'
    share.kill9()
    share.start()
    pushed(share)
    assert share.shows('a', 'push') == 'locked'
    assert len({json.dumps(b) for b in bodies(mock, 'a')}) == 1 and len(bodies(mock, 'a')) == 2
    n = len(asked(mock))
    share.remount()
    pushed(share)
    assert len(asked(mock)) == n, 'nothing is sent after success'


def test_a_release_survives_a_kill_between_applied_and_answered_of_its_hold(cluster):
    share, mock = cluster('retention=1d')
    share.lock('a')
    pushed(share)
    mock.fault('delay', ms=20000, method='PATCH', times=1)
    share.must('hold', 'a', case='c1')
    wait_for('the cluster to have it', lambda: lock_of(mock, 'a')['legal_hold'])
    share.kill9()
    mock.fault('503')
    share.start()
    share.must('release', 'a', case='c1')
    mock.clear_faults()
    pushed(share)
    assert lock_of(mock, 'a')['legal_hold'] is False
    assert bodies(mock, 'a', 200)[-1] == {'legal_hold': False}


def test_kills_while_hundreds_are_on_their_way_lose_none(cluster):
    share, mock = cluster('retention=1d', mock=('--latency', '5'))
    total, rng = 400, random.Random(4)
    names = ['f%d' % i for i in range(total)]
    for chunk in range(4):
        for name in names[chunk * 100:(chunk + 1) * 100]:
            write_file(share.at(name), b'x')
        if chunk % 2 == 0:
            share.must('sync')
        time.sleep(rng.random() * 0.15)
        share.kill9()
        share.start()
    for name in names:
        share.wait_state(name, 'retained')
    pushed(share)
    locks = mock.locks()
    for name in names:
        assert locks['/share/' + name]['retention_period'] == share.shows(name, 'until')
    for name in names:
        assert {json.dumps(b) for b in bodies_of(mock, name)} == {json.dumps({'retention_period': share.shows(name, 'until')})}
    mock.reset_journal()
    share.remount()
    pushed(share)
    assert asked(mock) == []


def bodies_of(mock, name, cache={}):
    if cache.get('mock') is not mock:
        cache.clear()
        cache['mock'], cache['by'] = mock, {}
        for r in mock.journal('PATCH'):
            cache['by'].setdefault(r['path'], []).append(json.loads(r['body']))
    return cache['by'].get('/v1/files/%s/file-lock' % ref('/share/' + name), [])


def test_many_files_through_random_faults_make_exactly_the_right_calls(cluster):
    share, mock = cluster('retention=1d')
    for n, kind in enumerate(['500', '503', '429', '412', 'not-json', 'no-lock', 'cut', 'close-before', 'close-after', 'chunked', 'huge']):
        mock.fault(kind, probability=0.02 if kind != 'huge' else 0.002, seed=n + 1, path='/v1/files/*')
    held = set()
    for i in range(FILES):
        write_file(share.at('f%d' % i), b'x')
    share.must('sync')
    for i in range(0, FILES, 50):
        held.add('f%d' % i)
    for name in sorted(held):
        share.must('hold', name, case='c1')
    pushed(share, 120)
    mock.clear_faults()
    locks = mock.locks()
    until = {name: row for name, row in push_list(share, '--state', 'locked').items()}
    assert len(until) == FILES
    by = {}
    for r in asked(mock):
        by.setdefault(r['path'].split('/')[3], []).append(r)
    for i in range(FILES):
        name = 'f%d' % i
        end = until[name]['want']
        assert locks['/share/' + name] == {'retention_period': end, 'legal_hold': name in held}
        clean = {'retention': 0, 'hold': 0}
        for r in by[ref('/share/' + name)]:
            if r['method'] != 'PATCH':
                assert r['method'] == 'GET'
                continue
            body = json.loads(r['body'])
            assert body in ([{'retention_period': end}, {'legal_hold': True}, {'retention_period': end, 'legal_hold': True}] if name in held
                            else [{'retention_period': end}]), 'only what is ours'
            if r['status'] == 200 and not r.get('fault'):
                clean['retention'] += 'retention_period' in body
                clean['hold'] += 'legal_hold' in body
        assert clean['retention'] <= 1 and clean['hold'] <= 1, 'nothing is sent again after success: %r' % by[ref('/share/' + name)]
    n = len(asked(mock))
    share.remount()
    pushed(share)
    assert len(asked(mock)) == n


# ---- secrets ------------------------------------------------------------------------------------

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


# ---- without a daemon ---------------------------------------------------------------------------

def test_the_queue_is_shown_with_nothing_mounted(cluster):
    share, mock = cluster('retention=1d')
    mock.fault('503')
    share.lock('a')
    share.must('sync')
    share.stop()
    p = share.ctl('push', 'list', '--json', '--state-dir', share.state, share.share)
    assert [json.loads(line)['state'] for line in p.out.splitlines()] == ['pending']
    p = share.ctl('push', 'status', '--state-dir', share.state, share.share)
    assert '1 wait, 0 failed' in p.out
    p = share.ctl('push', 'retry', '--state-dir', share.state, share.share, check=False)
    assert p.returncode == 2
