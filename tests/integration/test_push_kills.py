"""A daemon that is killed, and faults at random, while locks are on their way to a cluster."""
import json
import random
import time

import pytest

from harness import SOAK, wait_for, write_file
from push_harness import asked, bodies, cluster, lock_of, push_list, pushed		# noqa: F401
from qumulo import ref

FILES = 10000 if SOAK else 1000


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
    """T46: the queue outlives a kill."""
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
