"""mockqumulo: it misbehaves as it is told."""
import http.client
import time

import pytest

from qumulo_harness import mock, tree		# noqa: F401


LOCK = dict(method='PATCH', path='/v1/files/*/file-lock')


@pytest.mark.parametrize('kind, status', [('401', 401), ('403', 403), ('404', 404), ('412', 412), ('429', 429), ('500', 500), ('503', 503)])
def test_a_fault_answers_once_and_nothing_was_done(mock, kind, status):
    mock.fault(kind, times=1, **LOCK)
    assert mock.attributes('/f').status == 200			# another request
    assert mock.lock('/f', legal_hold=True).status == status
    assert mock.locks() == {}
    assert mock.lock('/f', legal_hold=True).status == 200
    assert [f['fired'] for f in mock.faults()] == [1]
    assert [e.get('fault') for e in mock.journal('PATCH')] == [kind, None]


def test_a_fault_says_when_to_come_again(mock):
    mock.clock(now='2030-01-02T03:04:00Z', frozen=True)
    mock.fault('429', times=1, retry_after=7)
    mock.fault('503', times=1, retry_after=5, retry_after_date=True)
    assert mock.attributes('/f').headers['Retry-After'] == '7'
    assert mock.attributes('/f').headers['Retry-After'] == 'Wed, 02 Jan 2030 03:04:05 GMT'


def test_a_reply_that_is_no_json_or_lacks_the_lock_or_is_huge(mock):
    mock.fault('not-json', times=1, **LOCK)
    reply = mock.lock('/f', legal_hold=True)
    assert reply.status == 200 and reply.body.startswith(b'<html>') and mock.locks() == {}
    mock.fault('no-lock', times=1, **LOCK)
    reply = mock.lock('/f', legal_hold=True)
    assert reply.status == 200 and 'lock' not in reply.json and '/f' in mock.locks()
    mock.fault('huge', times=1, bytes=3 << 20, **LOCK)
    reply = mock.lock('/f', legal_hold=True)
    assert reply.status == 200 and len(reply.body) > 3 << 20 and reply.json['lock']['legal_hold'] is True


def test_a_connection_closes_before_or_after_the_lock(mock):
    mock.fault('close-before', times=1, **LOCK)
    with pytest.raises((http.client.HTTPException, OSError)):
        mock.lock('/f', legal_hold=True)
    assert mock.locks() == {}
    mock.fault('close-after', times=1, **LOCK)
    with pytest.raises((http.client.HTTPException, OSError)):
        mock.lock('/f', legal_hold=True)
    assert mock.locks()['/f']['legal_hold'] is True
    assert [e['status'] for e in mock.journal('PATCH')] == [0, 0]


def test_a_reply_is_cut_slow_late_or_chunked(mock):
    mock.fault('cut', times=1, bytes=30)
    with pytest.raises(http.client.IncompleteRead) as cut:
        mock.attributes('/f')
    assert len(cut.value.partial) == 30
    mock.fault('chunked', times=1, bytes=50)
    reply = mock.attributes('/f')
    assert reply.headers['Transfer-Encoding'] == 'chunked' and 'Content-Length' not in reply.headers and reply.json['path'] == '/f'
    mock.fault('slow', times=1, bytes=200, ms=30)
    start = time.monotonic()
    assert mock.attributes('/f').json['path'] == '/f'
    assert time.monotonic() - start > 0.1
    mock.fault('delay', times=1, ms=200)
    start = time.monotonic()
    assert mock.attributes('/f').json['path'] == '/f'
    assert time.monotonic() - start > 0.19


def test_a_fault_may_carry_out_what_it_refuses(mock):
    mock.fault('500', applies=True, times=1, **LOCK)
    assert mock.lock('/f', legal_hold=True).status == 500
    assert mock.locks()['/f']['legal_hold'] is True


def test_faults_are_chosen_by_number_and_by_chance_and_go_away(mock):
    ids = [mock.fault('503', nth=2), mock.fault('500', nth=3)]
    # The fault that fires first takes the request: the second never sees that one.
    assert [mock.attributes('/f').status for _ in range(5)] == [200, 503, 200, 500, 200]
    mock.control('DELETE', 'faults/%d' % ids[0])
    assert [f['id'] for f in mock.faults()] == [ids[1]]
    mock.clear_faults()
    mock.fault('503', probability=0.5, seed=3)
    first = [mock.attributes('/f').status for _ in range(40)]
    mock.clear_faults()
    mock.fault('503', probability=0.5, seed=3)
    assert [mock.attributes('/f').status for _ in range(40)] == first
    assert 5 < first.count(503) < 35
    mock.clear_faults()
    assert mock.attributes('/f').status == 200
    assert mock.request('POST', '/mock/faults', {'kind': 'x'}, token=None).status == 400
