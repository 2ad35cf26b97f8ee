"""A cluster that answers otherwise than hoped, or not at all: what is failed, what is tried again, what is seen to be done."""
import os
import time

import pytest

from harness import Refused, wait_for, write_file
from push_harness import asked, bodies, cluster, lock_of, options, push_list, pushed, queue		# noqa: F401
from qumulo import ref

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
    """T46: what fails is tried again."""
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


def test_many_refused_files_are_one_line_of_the_log_and_not_one_each(cluster):
    share, mock = cluster('retention=1d')
    mock.fault('403')
    for i in range(60):
        share.lock('f%d' % i)
    wait_for('all to be refused', lambda: queue(share)['failed'] == 60)
    wait_for('the line', lambda: 'the cluster refused the lock of' in share.log_text())
    assert share.log_text().count('the cluster refused the lock of') == 1
    assert len(push_list(share, '--state', 'failed')) == 60, 'each is in the list'


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
