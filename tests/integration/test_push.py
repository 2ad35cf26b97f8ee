"""Locks that a cluster is to have, too: what is sent and what never is, who waits for it, what is shown of it."""
import json
import os
import sqlite3
import time

import pytest

from harness import Refused, opened, wait_for, write_file
from push_harness import asked, bodies, cluster, lock_of, options, push_list, pushed		# noqa: F401
from qumulo import ref


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


def test_extension_hold_and_release_go_out_as_exactly_their_keys(cluster):
    """T46: only the keys that are ours."""
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
    """T46: never false for what was never true."""
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
    """T46: never an earlier end."""
    share, mock = cluster('retention=2d', 'privdel=on')
    share.lock('a')
    pushed(share)
    was = share.shows('a', 'until')
    share.must('shorten', 'a', until='1d', reason='a mistake')
    pushed(share)
    assert share.shows('a', 'until') < was
    assert len(asked(mock)) == 1 and lock_of(mock, 'a')['retention_period'] == was
    assert share.explain('a')['push']['until'] == was, 'what the cluster has is shown'
    share.must('hold', 'a', case='c1')
    pushed(share)
    assert bodies(mock, 'a')[1:] == [{'legal_hold': True}], 'nor with what else is to be told'
    assert lock_of(mock, 'a') == {'retention_period': was, 'legal_hold': True}


@pytest.mark.parametrize('again', ['shortened', 'retried', 'held'])
def test_an_earlier_end_is_not_sent_after_one_that_could_not_be_told(cluster, again):
    """T46: never an earlier end, also where the ledger does not know any more which the cluster has."""
    share, mock = cluster('retention=2d', 'privdel=on')
    share.lock('a')
    pushed(share)
    was = share.shows('a', 'until')
    share.must('extend', 'a', until='infinite')
    wait_for('a row that cannot be told', lambda: 'infinite' in share.shows('a', 'push'))
    if again != 'shortened':
        mock.fault('503', path='*%s*' % ref('/share/a'))
    share.must('shorten', 'a', until='1d', reason='a mistake')
    if again == 'retried':
        share.ctl('push', 'retry', share.at('a'))
    if again == 'held':
        share.must('hold', 'a', case='c1')
    mock.clear_faults()
    pushed(share)
    wait_for('the file to be known as locked', lambda: share.shows('a', 'push') == 'locked')
    assert [body for body in bodies(mock, 'a') if 'retention_period' in body] == [{'retention_period': was}]
    assert lock_of(mock, 'a') == {'retention_period': was, 'legal_hold': again == 'held'}


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


# ---- close waits --------------------------------------------------------------------------------

def test_with_push_wait_the_cluster_has_the_lock_when_close_returns(cluster):
    share, mock = cluster('retention=1d', 'push_wait=10')
    for i in range(5):
        write_file(share.at('f%d' % i), b'x')
        assert lock_of(mock, 'f%d' % i), 'right behind its close'
    pushed(share)
    assert len(asked(mock)) == 5, 'once each'
    mock.fault('delay', ms=3000, times=1, method='PATCH')	# not the first questions of the mount
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
