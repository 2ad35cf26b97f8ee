"""The daemon killed between any two steps of a push: the ledger's row, the mark that a hold goes out, the request, the cluster's
deed, its answer, the confirmation in the ledger. Nothing is forgotten, nothing is sent again once its success is in the ledger."""
import json
import os
import sqlite3
import time

import pytest

from harness import SOAK, killed_at, need_program, scaled, wait_for, write_file
from qumulo import ref

MOST = 12 if SOAK else 2	# of each system call
# What engine and keeper make: a request, its answer, what they wait with, what the ledger writes, what they wake each other with.
CALLS = ['sendto', 'recvfrom', 'poll', 'pwrite64', 'fdatasync', 'futex', 'write']


class Pushing:
    """A share whose cluster is a stand-in, and what ledger and journal have of a file."""
    def __init__(self, share, mock):
        self.share, self.mock = share, mock
        self.ledger = os.path.join(share.state, 'ledger.db')

    def row(self, name):
        """(confirmed end, 1 when a hold is confirmed, held here) of the ledger; None: no row."""
        db = sqlite3.connect('file:%s?mode=ro' % self.ledger, uri=True, timeout=30)
        try:
            return db.execute('SELECT pushed_until_s, pushed_hold, holds + rec_holds > 0 FROM file WHERE path = ?',
                              (name.encode(),)).fetchone()
        except sqlite3.OperationalError:
            return None
        finally:
            db.close()

    def patches(self, name):
        return [r for r in self.mock.journal('PATCH') if r['path'] == '/v1/files/%s/file-lock' % ref('/share/' + name)]

    def locked(self, name):
        return self.mock.locks().get('/share/' + name) or {'legal_hold': False, 'retention_period': None}

    def idle(self):
        def is_idle():
            push = self.share.info()['push']
            return push['waiting'] == 0 and push['in_flight'] == 0 and push['check'] is not None
        wait_for('the queue to be empty', is_idle)

    def restart(self):
        self.share.kill9()
        self.share.start()
        self.share.must('sync')
        self.idle()

    def dead(self):
        return 'State:\tZ' in open('/proc/%d/status' % self.share.proc.pid).read()


@pytest.fixture
def pushing(mount, mockqumulo):
    need_program('strace')
    if scaled(10) == 1:
        pytest.skip('strace and a sanitizer do not go together')
    share = mount('', start=False)
    os.chmod(share.dir, 0o755)
    mock = mockqumulo(tree=share.dir, http=True)
    share.start('retention=1d,push=qumulo:%s,push_root=/share,push_credentials=%s,push_retry=1' % (mock.url, mock.token_file))
    p = Pushing(share, mock)
    p.idle()
    return p


def is_set(row):
    return row is not None and row[0] is not None


# What is there before, what is done, and when its success is in the ledger.
SCENARIOS = {
    'lock': (lambda s, name: None,
             lambda s, name: write_file(s.at(name), b'report'),
             is_set),
    'extend': (lambda s, name: s.lock(name),
               lambda s, name: s.control('extend', name, until='2d'),
               lambda row: is_set(row) and row[0] > time.time() + 1.5 * 86400),
    'hold': (lambda s, name: s.lock(name),
             lambda s, name: s.control('hold', name, case='c1'),
             lambda row: is_set(row) and row[1] == 1),
    'release': (lambda s, name: (s.lock(name), s.must('hold', name, case='c1')),
                lambda s, name: s.control('release', name, case='c1'),
                lambda row: is_set(row) and row[1] == 0 and not row[2]),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize('scenario', SCENARIOS)
def test_a_kill_at_each_system_call_of_a_push_forgets_nothing_and_repeats_only_what_was_not_confirmed(pushing, scenario):
    before, deed, is_confirmed = SCENARIOS[scenario]
    share, seen, n = pushing.share, set(), 0
    for call in CALLS + ['none']:
        for nth in range(1, MOST + 1):
            name, n = 'f%d' % n, n + 1
            before(share, name)
            share.must('sync')
            pushing.idle()
            had = len(pushing.patches(name))

            def do():
                try:
                    deed(share, name)
                    # Nothing is asked of the daemon meanwhile: the calls that count are the pusher's.
                    wait_for('the confirmation', lambda: pushing.dead() or is_confirmed(pushing.row(name)))
                except (OSError, ValueError):
                    pass	# it died beneath the deed
            if call == 'none':	# right behind the confirmation
                do()
                died = True
            else:
                died = killed_at(share, call, nth, do) is not None
            confirmed = is_confirmed(pushing.row(name))
            sent = len(pushing.patches(name)) - had
            if died:
                seen.add((sent > 0, confirmed))
            point = '%s#%d (sent %d, confirmed %s)' % (call, nth, sent, confirmed)
            pushing.restart()
            all_sent = len(pushing.patches(name)) - had
            if confirmed:
                assert (point, all_sent) == (point, sent), 'sent again though its success was in the ledger'
            assert all_sent <= 2, point
            if os.path.exists(share.at(name)) and share.shows(name) == 'retained':
                row = pushing.row(name)
                want = {'legal_hold': bool(row[2]), 'retention_period': share.shows(name, 'until')}
                assert (point, pushing.locked(name)) == (point, want)
                assert (point, share.shows(name, 'push')) == (point, 'locked')
            bodies = [json.loads(r['body']) for r in pushing.patches(name)[had:]]
            assert (point, bodies) == (point, bodies[:1] * len(bodies)), 'the repeat says the same'
            if not died or call == 'none':
                break
    assert {(False, False), (True, False), (True, True)} <= seen, 'not every stage was reached: %s' % sorted(seen)
