"""Stage requests of the tape REST API over a restart and a kill."""
import json
import os

import pytest

from harness import injected, read_file, sanitizer
from tape import ApiError


def stage(a, *files):
    return a.api('POST', '/api/v1/stage', files=list(files))['requestId']


def poll(a, request):
    return a.api('GET', '/api/v1/stage/' + request)


def states(a, request):
    return {f['path']: f['state'] for f in poll(a, request)['files']}


def again(a, how):
    if how == 'kill':
        a.kill9()
        a.start()
    else:
        a.restart()


@pytest.mark.parametrize('how', ['kill', 'restart'])
def test_requests_go_on_under_their_ids(archive, how):
    a = archive(profile='cta')
    for name in ('done', 'open', 'cancelled'):
        a.archived('d/' + name)
    done = stage(a, {'path': '/d/done'}, {'path': '/d/missing'})
    a.settle()
    assert states(a, done) == {'/d/done': 'COMPLETED', '/d/missing': 'FAILED'}
    deleted = stage(a, {'path': '/d/done'})
    a.api('DELETE', '/api/v1/stage/' + deleted)
    request = stage(a, {'path': '/d/open', 'diskLifetime': 'PT1H'}, {'path': '/d/cancelled'})
    a.api('POST', '/api/v1/stage/%s/cancel' % request, paths=['/d/cancelled'])
    a.advance(1)
    before = poll(a, request), poll(a, done)
    again(a, how)
    after = poll(a, request), poll(a, done)
    for x, y in zip(before, after):
        assert x['createdAt'] == y['createdAt'] and x.get('completedAt') == y.get('completedAt')
    assert after[1] == before[1]
    assert states(a, request) == {'/d/cancelled': 'CANCELLED', '/d/open': 'SUBMITTED'} or states(a, request)['/d/open'] == 'STARTED'
    with pytest.raises(ApiError) as e:
        poll(a, deleted)
    assert e.value.status == 404
    a.settle()
    assert states(a, request) == {'/d/cancelled': 'CANCELLED', '/d/open': 'COMPLETED'}
    assert a.file('d/open')['pinned'] and a.is_now('d/cancelled') == 'released'
    again(a, how)
    assert states(a, request) == {'/d/cancelled': 'CANCELLED', '/d/open': 'COMPLETED'}


def test_a_recall_that_was_done_before_anybody_asked_is_seen_after_the_kill(archive):
    a = archive(profile='cta')
    a.archived('f')
    request = stage(a, {'path': '/f'})
    a.settle()
    a.ask('release', 'f')
    again(a, 'kill')
    assert states(a, request) == {'/f': 'COMPLETED'} and a.is_now('f') == 'released'


def test_what_found_the_queue_full_is_asked_for_after_the_kill(archive):
    a = archive(profile='cta', drives=1, queue__limit=1)
    for name in 'abc':
        a.archived(name)
    request = stage(a, *({'path': '/' + name} for name in 'abc'))
    again(a, 'kill')
    for _ in range(6):
        poll(a, request)
        a.settle()
    assert set(states(a, request).values()) == {'COMPLETED'}


def test_what_was_cancelled_stays_so_over_a_kill_whoever_asks_for_the_file_afterwards(archive):
    a = archive(profile='cta')
    a.archived('f')
    request = stage(a, {'path': '/f'})
    a.api('POST', '/api/v1/stage/%s/cancel' % request, paths=['/f'])
    a.ask('recall', 'f')
    a.settle()
    again(a, 'kill')
    assert a.is_now('f') == 'dual' and states(a, request) == {'/f': 'CANCELLED'}


def test_what_found_the_queue_full_and_was_done_at_last_is_not_recalled_again_after_the_kill(archive):
    a = archive(profile='cta', drives=1, queue__limit=1)
    for name in 'abc':
        a.archived(name)
    request = stage(a, *({'path': '/' + name} for name in 'abc'))
    other = stage(a, {'path': '/a'})
    for _ in range(6):
        poll(a, other)			# which has those go on that wait for the queue, and looks at none of them
        a.settle()
    assert [a.is_now(name) for name in 'abc'] == ['dual'] * 3
    for name in 'abc':
        a.ask('release', name)
    again(a, 'kill')
    for _ in range(3):
        assert set(states(a, request).values()) == {'COMPLETED'}
        a.settle()
    assert [a.is_now(name) for name in 'abc'] == ['released'] * 3


def test_a_file_that_is_none_of_ours_is_passed_over_with_a_warning(archive):
    a = archive(profile='cta')
    a.archived('f')
    request = stage(a, {'path': '/f'})
    a.stop()
    stored = os.path.join(a.store, 'stage')
    with open(os.path.join(stored, request), encoding='utf-8') as f:
        good = json.load(f)
    for name, text in (('half', '{"id": "half", "created"'), ('other', json.dumps(good)), ('huge', json.dumps(dict(good, id='huge', files=[[1]]))),
                       ('state', json.dumps(dict(good, id='state', files=[['f', 0, 0, 0, 0, 99, '']])))):
        with open(os.path.join(stored, name), 'w', encoding='utf-8') as f:
            f.write(text)
    a.start()
    assert a.log_text().count('cannot be read: it is forgotten') == 4
    a.settle()
    assert states(a, request) == {'/f': 'COMPLETED'}


def test_a_reset_forgets_them_on_disk_too(archive):
    a = archive(profile='cta')
    a.archived('f')
    request = stage(a, {'path': '/f'})
    a.api('POST', '/v1/reset')
    assert os.listdir(os.path.join(a.store, 'stage')) == []
    a.restart()
    with pytest.raises(ApiError) as e:
        poll(a, request)
    assert e.value.status == 404


def test_a_request_of_many_files_is_written_with_few_system_calls(archive):
    a = archive()

    def writes():
        with open('/proc/%d/io' % a.proc.pid, encoding='ascii') as f:
            return int(dict(line.split(': ') for line in f)['syscw'])
    before = writes()
    request = stage(a, *({'path': '/missing%d' % i} for i in range(1000)))
    assert writes() - before < 1000
    with open(os.path.join(a.store, 'stage', request), encoding='utf-8') as f:
        assert len(json.load(f)['files']) == 1000


def test_a_request_has_its_name_only_when_it_is_synced(archive):
    if sanitizer():
        pytest.skip('strace and a sanitizer do not go together')
    a = archive()
    with injected(a, 'fdatasync', 'error=EIO'):
        request = stage(a, {'path': '/missing'})
    assert not os.path.exists(os.path.join(a.store, 'stage', request))
    assert b'cannot keep the stage request ' + request.encode() in read_file(a.log)
    request = stage(a, {'path': '/missing'})
    assert os.path.exists(os.path.join(a.store, 'stage', request))
