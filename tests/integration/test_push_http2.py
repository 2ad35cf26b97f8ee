"""A cluster that speaks HTTP/2: many locks are on their way on few connections, and what goes wrong there ends as it does
with HTTP/1.1. The stand-in speaks HTTP/1.1 only, so nghttpx is in front of it."""
import json
import os

import pytest

from h2proxy import H2Proxy, Relay
from harness import wait_for, write_file
from qumulo import ref

TOTAL = 200
LATENCY_MS = 300


class Setup:
    def __init__(self, share, mock, proxy, relay=None):
        self.share, self.mock, self.proxy, self.relay = share, mock, proxy, relay

    def lock(self, names):
        """Locked while the cluster is away, so that all of them wait when it is back."""
        for name in names:
            write_file(self.share.at(name), b'x')
        self.share.must('sync')

    def queue(self):
        return self.share.info()['push']

    def pushed(self):
        wait_for('the queue to be empty', lambda: self.queue()['waiting'] == 0 and self.queue()['in_flight'] == 0)

    def patches(self, *status):
        return [r for r in self.mock.journal('PATCH') if not status or r['status'] in status]

    def check_locks(self, names):
        """Every file has its lock, here and there, and only our key was sent."""
        locks = self.mock.locks()
        for name in names:
            end = self.share.shows(name, 'until')
            assert locks['/share/' + name] == {'legal_hold': False, 'retention_period': end}
            assert self.share.shows(name, 'push') == 'locked'
        for r in self.patches():
            assert set(json.loads(r['body'])) == {'retention_period'}
        assert all(line.protocol == 'h2' for line in self.proxy.requests())

    def check(self, names):
        """And nothing was sent again after it had succeeded."""
        self.check_locks(names)
        succeeded = {}
        for r in self.patches():
            name = r['path'].split('/')[3]
            assert name not in succeeded or succeeded[name].get('fault'), 'again after success: %r, %r' % (succeeded[name], r)
            if r['status'] == 200:
                succeeded[name] = r


@pytest.fixture
def cluster(mount, mockqumulo, tmp_path):
    made = []

    def make(*more, mock=(), relayed=False, **proxy):
        share = mount('', start=False)
        os.chmod(share.dir, 0o755)
        m = mockqumulo(*mock, tree=share.dir, http=True)
        p = H2Proxy(tmp_path, m.port, **proxy)
        made.append(p)
        relay = Relay(p.port) if relayed else None
        if relay:
            made.append(relay)
        share.options = ','.join(['retention=1d', 'push=qumulo:127.0.0.1:%d' % (relay or p).port,
                                  'push_root=/share', 'push_credentials=' + m.token_file, 'push_ca=' + p.ca_file, 'push_retry=1', *more])
        share.start()
        return Setup(share, m, p, relay)
    yield make
    for p in reversed(made):
        p.end()


def names_of(n):
    return ['f%d' % i for i in range(n)]


def test_many_locks_are_on_their_way_on_few_connections(cluster):
    s = cluster(mock=('--latency', str(LATENCY_MS)))
    names = names_of(TOTAL)
    s.lock(names)
    s.pushed()
    s.check(names)
    assert len(s.patches()) == TOTAL, 'once each'
    lines = s.proxy.requests()
    assert len(lines) == TOTAL and len({line.connection for line in lines}) <= 3, 'few connections'
    # Those that came while the first of them had no answer yet were with it on their way.
    times = sorted(r['time'] for r in s.patches())
    together = max(sum(1 for t in times if begun <= t < begun + LATENCY_MS / 1000) for begun in times)
    assert together >= 60, 'only %d at a time' % together


def test_one_connection_does_where_no_more_may_be(cluster):
    s = cluster('push_connections=1', mock=('--latency', str(LATENCY_MS)))
    names = names_of(TOTAL)
    s.lock(names)
    s.pushed()
    s.check(names)
    assert len({line.connection for line in s.proxy.requests()}) == 1
    times = sorted(r['time'] for r in s.patches())
    assert times[-1] - times[0] < TOTAL * LATENCY_MS / 1000 / 10, 'one after the other it would be %d s' % (TOTAL * LATENCY_MS / 1000)


def test_GOAWAY_in_the_middle_loses_nothing_and_blames_nobody(cluster):
    s = cluster(mock=('--latency', '20'), requests_max=25)
    names = names_of(TOTAL)
    s.lock(names)
    s.pushed()
    s.check(names)
    assert len({line.connection for line in s.proxy.requests()}) >= 3, 'it went away more than once'
    assert s.queue()['state'] == 'ok' and 'is away' not in s.share.log_text()


def test_a_cut_connection_with_many_on_it_is_one_failure_and_what_was_carried_out_is_not_sent_again(cluster):
    s = cluster(mock=('--latency', '1500'), relayed=True)
    names = names_of(60)
    s.lock(names)
    wait_for('all to be on their way', lambda: len(s.patches()) == 60)
    s.mock.switch(latency_ms=0)
    assert s.relay.cut() == 1, 'one connection had them all'
    s.pushed()
    s.check_locks(names)
    # Who does not know looks before it sends: they were carried out.
    assert len(s.patches()) == 60 and len(s.mock.journal('GET')) >= 60
    assert s.queue()['state'] == 'ok' and 'is away' not in s.share.log_text(), 'one failure says nothing of the cluster'


def test_connections_that_are_cut_again_and_again_lose_nothing(cluster):
    s = cluster(mock=('--latency', '30'), relayed=True)
    names = names_of(TOTAL)
    s.lock(names)
    for n in range(5):
        wait_for('answers', lambda: len(s.proxy.requests()) > 20 * n)
        s.relay.cut()
    s.pushed()
    s.check_locks(names)


@pytest.mark.parametrize('kind, spec', [
    ('429', {'retry_after': 1}), ('503', {}), ('500', {}), ('cut', {}), ('close-before', {}), ('close-after', {}), ('not-json', {}),
    ('no-lock', {}), ('chunked', {}), ('slow', {}), ('huge', {}), ('412', {}),
], ids=lambda v: v if isinstance(v, str) else '')
def test_a_fault_passes_as_it_does_without_HTTP_2(shared, kind, spec):
    s = shared
    names = ['%s.%d' % (kind, i) for i in range(4)]
    s.mock.reset_journal()
    s.mock.fault(kind, times=2, method='PATCH', **spec)
    for name in names:
        write_file(s.share.at(name), b'x')
    s.pushed_all(names)
    ends = {name: s.share.shows(name, 'until') for name in names}
    locks = s.mock.locks()
    for name in names:
        assert locks['/share/' + name]['retention_period'] == ends[name]
        sent = [json.loads(r['body']) for r in s.patches() if ref('/share/' + name) in r['path']]
        assert sent == [{'retention_period': ends[name]}] * len(sent) and 1 <= len(sent) <= 3
    if kind == '429':
        times = [r['time'] for r in s.patches()]
        assert max(times) - min(times) >= 0.9, 'Retry-After'


@pytest.fixture(scope='module')
def shared(bases, tmp_path_factory):
    import conftest
    import qumulo
    m = conftest.Mounter(bases)
    share = m('', start=False)
    os.chmod(share.dir, 0o755)
    mock = qumulo.MockQumulo(tree=share.dir, http=True)
    proxy = H2Proxy(tmp_path_factory.mktemp('h2'), mock.port)
    share.start('retention=1d,push=qumulo:127.0.0.1:%d,push_root=/share,push_credentials=%s,push_ca=%s,push_retry=1'
                % (proxy.port, mock.token_file, proxy.ca_file))
    s = Setup(share, mock, proxy)

    def pushed_all(names):
        share.must('sync')
        s.pushed()
        wait_for('their locks', lambda: all(share.shows(name, 'push') == 'locked' for name in names))
    s.pushed_all = pushed_all
    yield s
    m.end()
    proxy.end()
    mock.end()
