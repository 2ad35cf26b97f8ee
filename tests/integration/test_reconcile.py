"""wormctl push reconcile: what a ledger and its cluster do not agree about is found, both ways, told once, and put right."""
import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest

from harness import DAY, WORMCTL, run, wait_for, write_file


@pytest.fixture
def pair(mount, mockqumulo, tmp_path):
    """A mounted share that pushes to a stand-in whose tree is the share below the mount, as an export would be."""
    share = mount(start=False, base='tmpfs')
    os.makedirs(share.below('d'))
    mock = mockqumulo('--token-file', str(tmp_path / 'token'), tree=share.lower, http=True)
    share.options = 'retention=30d,privdel=on,push=qumulo:%s,push_root=/,push_credentials=%s' % (mock.url, mock.token_file)
    share.mock = mock
    share.start()
    return share


def pushed(share, *names):
    share.must('sync')
    wait_for('the cluster to have %s, not only %s' % (names, share.mock.locks()), lambda: {'/' + n for n in names} <= set(share.mock.locks()))
    for name in names:
        wait_for('%s to be known to be there' % name, lambda: share.shows(name, 'push') == 'locked')


def files(share, *names):
    for name in names:
        share.lock(name)
    pushed(share, *names)


def unlock(share, *names):
    """As no cluster would: the locks are gone there."""
    locks = share.mock.locks()
    share.mock.control('DELETE', 'locks')
    for path, lock in locks.items():
        if path[1:] not in names:
            share.mock.lock(path, **{key: value for key, value in lock.items() if value})


def reconcile(share, *args, code=0, **kwargs):
    p = run(WORMCTL, 'push', 'reconcile', '--rate', '100000', *args, share.mnt, check=False, **kwargs)
    assert p.returncode == code, p.out + p.err
    return p


def found(p):
    """{path: kind}"""
    rows = [line.split(': ') for line in p.out.splitlines() if ': ' in line]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1] for row in rows}


def test_a_ledger_and_a_cluster_that_agree_have_no_findings(pair):
    files(pair, 'a', 'd/b')
    write_file(pair.below('never locked'))
    p = reconcile(pair)
    assert found(p) == {} and p.out.startswith('2 locks compared, 1 other files')


def test_each_difference_is_one_line_of_its_kind(pair):
    files(pair, 'good', 'bare', 'early', 'free', 'd/lost')
    pair.must('hold', 'free', case='case-1')
    pair.must('sync')
    wait_for('the hold', lambda: pair.mock.locks()['/free']['legal_hold'])
    wait_for('to be known', lambda: pair.shows('free', 'push') == 'locked')
    unlock(pair, 'bare', 'early', 'free', 'd/lost')
    soon = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + DAY))
    pair.mock.lock('/early', retention_period=soon)
    pair.mock.lock('/free', retention_period='2040-01-01T00:00:00Z')
    os.unlink(pair.below('d/lost'))
    write_file(pair.below('theirs'))
    pair.mock.lock('/theirs', legal_hold=True)
    p = reconcile(pair, code=1)
    assert found(p) == {'bare': 'unlocked', 'early': 'weaker', 'free': 'weaker', 'd/lost': 'gone', 'theirs': 'stranger'}
    assert '5 findings' in p.out.splitlines()[-1]
    rows = [json.loads(line) for line in reconcile(pair, '--json', code=1).out.splitlines()]
    assert {row['path']: row['kind'] for row in rows[:-1]} == found(p)
    assert rows[-1]['summary']['findings'] == 5 and not any(row['fixed'] for row in rows[:-1])


def test_fix_has_the_daemon_push_what_is_missing_and_nothing_else(pair):
    files(pair, 'good', 'bare', 'early')
    before = pair.mock.locks()
    unlock(pair, 'bare', 'early')
    pair.mock.lock('/early', retention_period=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + DAY)))
    pair.mock.reset_journal()
    p = reconcile(pair, '--fix', code=1)
    assert '2 pushed again' in p.out
    wait_for('both to be locked again', lambda: pair.mock.locks() == before)
    wait_for('both to be known', lambda: {pair.shows(n, 'push') for n in ('bare', 'early')} == {'locked'})
    assert sorted(r['path'] for r in pair.mock.journal(method='PATCH')) == ['/v1/files/%2Fbare/file-lock', '/v1/files/%2Fearly/file-lock']
    assert found(reconcile(pair)) == {}


def test_with_the_mount_stopped_fix_waits_for_the_next_one(pair):
    files(pair, 'a', 'b')
    before = pair.mock.locks()
    pair.stop()
    unlock(pair, 'a')
    options = ['--cluster', pair.mock.url, '--credentials', pair.mock.token_file, '--root', '/', '--state-dir', pair.state]
    p = run(WORMCTL, 'push', 'reconcile', *options, '--fix', pair.lower, check=False)
    assert p.returncode == 1 and 'a: unlocked' in p.out and 'when it is mounted' in p.out, p.out + p.err
    pair.start()
    wait_for('the lock', lambda: pair.mock.locks() == before)


def test_what_is_over_or_not_to_be_pushed_is_no_difference(mount, mockqumulo, tmp_path):
    share = mount('retention=1d', base='tmpfs', clocked=True)
    mock = mockqumulo('--token-file', str(tmp_path / 'token'), tree=share.lower, http=True)
    share.mock = mock
    share.lock('before')		# nothing was pushed then
    share.must('sync')
    share.stop()
    share.options += ',push=qumulo:%s,push_root=/,push_credentials=%s' % (mock.url, mock.token_file)
    share.start()
    files(share, 'after')
    assert found(reconcile(share)) == {}
    assert found(reconcile(share, '--all', code=1)) == {'before': 'unlocked'}
    share.now(3 * DAY)
    mock.control('DELETE', 'locks')
    assert found(reconcile(share, '--all')) == {}


def test_a_hard_link_of_a_locked_file_is_no_stranger(pair):
    files(pair, 'a')
    os.link(pair.below('a'), pair.below('d/another name'))
    assert found(reconcile(pair)) == {}


def test_one_directory_can_be_compared_alone(pair):
    files(pair, 'a', 'd/b')
    unlock(pair, 'a', 'd/b')
    p = run(WORMCTL, 'push', 'reconcile', pair.at('d'), check=False)
    assert p.returncode == 1 and found(p) == {'d/b': 'unlocked'}


def test_a_run_that_was_killed_goes_on_and_misses_nothing(pair):
    names = ['f%03d' % n for n in range(700)]
    for name in names:
        write_file(pair.at(name))
    wait_for('all locks', lambda: len(pair.mock.locks()) == 700, 60)
    missing = set(names[::7])
    unlock(pair, *missing)
    strangers = ['s%03d' % n for n in range(600)]
    for name in strangers:
        write_file(pair.below(name))
        pair.mock.lock('/' + name, legal_hold=True)
    cursor = os.path.join(pair.state, 'reconcile.cursor')
    out = open(os.path.join(pair.dir, 'found'), 'w+')
    # Killed while it compares rows, and while it looks at the cluster's files; then left alone.
    for rate, resume, until in (('300', [], '"walking":false'), ('300', ['--resume'], '"walking":true'), ('100000', ['--resume'], None)):
        proc = subprocess.Popen([WORMCTL, 'push', 'reconcile', '--rate', rate, *resume, pair.mnt], stdout=out, stderr=subprocess.DEVNULL)
        if until:
            wait_for('a place to be kept', lambda: proc.poll() is not None or until in read(cursor), 30)
            assert proc.poll() is None
            proc.kill()
        proc.wait(60)
    seen = {}
    assert proc.returncode == 1
    out.seek(0)
    for line in out:
        if ': ' in line:
            seen[line.split(': ')[0]] = line.split(': ')[1]
    assert seen == {**dict.fromkeys(missing, 'unlocked'), **dict.fromkeys(strangers, 'stranger')}
    assert not os.path.exists(os.path.join(pair.state, 'reconcile.cursor'))


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except FileNotFoundError:
        return ''


def test_the_rate_is_kept(pair):
    files(pair, *('f%d' % n for n in range(30)))
    pair.mock.reset_journal()
    begin = time.monotonic()
    run(WORMCTL, 'push', 'reconcile', '--rate', '20', pair.mnt)
    took = time.monotonic() - begin
    calls = [r['time'] for r in pair.mock.journal(method='GET') if r['path'].startswith('/v1/files/')]
    assert len(calls) >= 31 and took >= (len(calls) - 3) / 20


def test_a_stop_says_how_to_go_on(pair):
    files(pair, *('f%d' % n for n in range(20)))
    proc = subprocess.Popen([WORMCTL, 'push', 'reconcile', '--rate', '2', pair.mnt], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for('it to begin', lambda: any('%2Ff' in r['path'] for r in pair.mock.journal(method='GET')))
    proc.send_signal(signal.SIGINT)
    _, err = proc.communicate(timeout=30)
    assert proc.returncode == 2 and b'--resume' in err
    p = reconcile(pair, '--resume')
    assert p.out.startswith('20 locks compared')


def test_a_cluster_that_goes_away_in_the_middle_is_exit_2_and_can_be_gone_on_with(pair):
    files(pair, *('f%d' % n for n in range(5)))
    pair.mock.fault('503', method='GET')
    p = reconcile(pair, code=2)
    assert 'does not answer' in p.err and '--resume' in p.err
    pair.mock.clear_faults()
    assert found(reconcile(pair, '--resume')) == {}


@pytest.mark.parametrize('kind, words', [('401', 'credentials'), ('403', 'cannot compare')])
def test_what_cannot_be_asked_is_exit_2_and_never_called_good(pair, kind, words):
    files(pair, 'a')
    pair.mock.fault(kind, method='GET', path='*/info/attributes')
    p = reconcile(pair, code=2)
    assert words in p.err and found(p) == {}


def test_passing_faults_are_asked_through(pair):
    files(pair, *('f%d' % n for n in range(20)))
    for kind in ('503', '429', 'close-before', 'not-json'):
        pair.mock.fault(kind, method='GET', path='*/info/attributes', probability=0.1, seed=7)
    assert found(reconcile(pair)) == {}


def test_two_runs_at_once_are_one_too_many(pair):
    files(pair, *('f%d' % n for n in range(10)))
    proc = subprocess.Popen([WORMCTL, 'push', 'reconcile', '--rate', '5', pair.mnt], stdout=subprocess.DEVNULL)
    wait_for('it to begin', lambda: pair.mock.journal(method='GET'))
    wait_for('the lock', lambda: os.path.exists(os.path.join(pair.state, 'reconcile.lock')))
    p = run(WORMCTL, 'push', 'reconcile', pair.mnt, check=False)
    assert p.returncode == 2 and 'another' in p.err
    proc.terminate()
    proc.wait(30)


def test_a_terminal_sees_how_far_it_is(pair):
    files(pair, *('f%d' % n for n in range(5)))
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(WORMCTL, [WORMCTL, 'push', 'reconcile', pair.mnt])
    seen = b''
    while select.select([fd], [], [], 30)[0]:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        seen += piece
        if not piece:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert b'100%  5 of 5 files' in seen and b'5 locks compared' in seen


def test_a_share_that_is_not_pushed_says_so(mount):
    share = mount(base='tmpfs')
    p = run(WORMCTL, 'push', 'reconcile', share.mnt, check=False)
    assert p.returncode == 2 and '-o push' in p.err and len(p.err.splitlines()) == 1
    p = run(WORMCTL, 'push', 'check', share.mnt, check=False)
    assert p.returncode == 2 and '-o push' in p.err


def test_push_check_takes_the_cluster_from_the_mount(pair):
    p = run(WORMCTL, 'push', 'check', pair.mnt)
    assert 'root: ok' in p.out and "its id is the share's inode number" in p.out


def test_a_retention_without_a_date_is_what_push_undated_makes_of_it(pair):
    pair.stop()
    options = pair.options
    pair.options = options.replace('retention=30d', 'retention=infinite')
    pair.start()
    pair.lock('a')
    pair.must('sync')
    wait_for('it to be known', lambda: pair.shows('a', 'push').startswith('failed'))
    assert found(reconcile(pair, code=1)) == {'a': 'undated'}
    pair.stop()
    pair.options += ',push_undated=hold'
    pair.start()
    assert found(reconcile(pair, '--fix', code=1)) == {'a': 'unlocked'}
    wait_for('the hold', lambda: pair.mock.locks().get('/a', {}).get('legal_hold'))
    assert found(reconcile(pair)) == {}
