"""wormctl: what it prints, its exit codes, which share a path belongs to (T51), with and without a daemon."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from harness import (ALICE, DAY, MNT_DETACH, ROOT, WORMCTL, as_user, mount_call, opened, umount_call, wait_for, write_file)

MS_BIND = 4096
COMMANDS = ['list', 'status', 'commit', 'extend', 'hold', 'release', 'delete', 'shorten', 'requests', 'approve', 'expire', 'reindex', 'audit', 'clock', 'errno-table']

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


class Result:
    def __init__(self, process):
        self.code, self.raw = process.returncode, process.stdout
        self.out = process.stdout.decode('utf-8', 'surrogateescape')
        self.err = process.stderr.decode('utf-8', 'surrogateescape')

    def __repr__(self):
        return 'exit %d\nstdout: %s\nstderr: %s' % (self.code, self.out, self.err)

    def rows(self):
        return [json.loads(line) for line in self.out.splitlines()]


def ctl(*args, cwd=None, user=None, stdin=b'', timeout=60):
    argv = [WORMCTL, *args]
    if user:
        argv = ['setpriv', '--reuid', str(user), '--regid', str(user), '--clear-groups', *argv]
    return Result(subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, timeout=timeout, check=False))


def refused(result, *words):
    """Exit 2 and one line that has these words."""
    assert result.code == 2, result
    lines = result.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith('wormctl: '), result
    for word in words:
        assert word in lines[0], result
    return result


@pytest.fixture
def share(mount):
    """a, a1, d/b and d/e/c are locked; d/x.part is not; ln is a link to a."""
    s = mount('min=1d,max=10y')
    os.makedirs(s.at('d', 'e'))
    for name in ('a', 'a1', 'd/b', 'd/e/c'):
        s.lock(name)
    write_file(s.at('d/x.part'), b'half')
    os.symlink('a', s.at('ln'))
    return s


def listed(*args, **kwargs):
    r = ctl('list', '-0', *args, **kwargs)
    assert r.code in (0, 1) and not r.err, r
    assert (r.code == 1) == (r.raw == b'')
    return r.raw.decode('utf-8', 'surrogateescape').split('\0')[:-1]


def release(*args, **kwargs):
    return ctl('release', '--reason', 'settled', *args, **kwargs)


# ---- usage --------------------------------------------------------------------------------------

@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_has_a_page_with_its_exit_codes_and_the_manual_has_its_options(command):
    r = ctl(command, '--help')
    assert (r.code, r.err) == (0, '')
    assert r.out.startswith('Usage: wormctl ' + command) and '\nExit codes' in r.out
    with open(os.path.join(ROOT, 'docs/wormctl.1')) as f:
        manual = f.read()
    for option in re.findall(r'--([a-z][a-z-]+)', r.out):
        assert 'Fl -' + option in manual, option
    assert command in ctl('--help').out and '.Cm ' + command in manual


@pytest.mark.parametrize('args, word', [
    ([], 'which command'), (['nope'], "'nope'"), (['--nope'], "'--nope'"), (['list', '--state', 'open'], "'open'"),
    (['list', '--state'], '--state'), (['list', '--uid', 'no such user'], 'no such user'),
    (['list', '--expires-before', 'soon'], "'soon'"), (['list', '--expires-before', 'infinite'], "'infinite'"),
    (['list', '-0', '--json'], '-0'), (['commit'], 'PATH'), (['commit', '-0', 'a'], '--files-from'),
    (['extend'], 'UNTIL'), (['extend', '3', 'a'], "'3'"), (['extend', 'unspecified', 'a'], 'unspecified'),
    (['hold'], 'CASE'), (['release', 'x', 'a'], '--reason'), (['hold', 'show'], 'CASE'), (['release', 'x', '--future', 'a'], '--future'), (['hold', 'a/b', 'a'], "'a/b'"), (['hold', '', 'a'], "''"), (['hold', 'x' * 129, 'a'], '128'),
    (['hold', 'a\nb', 'a'], r"'a\nb'"), (['reindex'], 'PATH'), (['reindex', 'a', 'b'], 'one share'),
    (['errno-table', 'x'], 'no argument'), (['status', ''], "''"),
])
def test_wrong_usage_is_one_line_that_says_what_and_exit_2(args, word):
    refused(ctl(*args), word)


def test_a_full_disk_under_the_output_is_an_error():
    with open('/dev/full', 'wb') as full:
        p = subprocess.run([WORMCTL, 'errno-table'], stdout=full, stderr=subprocess.PIPE, check=False)
    assert p.returncode == 2 and b'No space left' in p.stderr


def test_errno_table_is_markdown_and_has_every_operation_that_explain_names(share):
    lines = ctl('errno-table').out.splitlines()
    file = share.explain('a')
    assert len(lines) == 2 + len(file['refused']) + len(file['allowed'])
    assert len({line.count(' |') for line in lines[2:]}) == 1


# ---- list ---------------------------------------------------------------------------------------

def test_list_shows_what_is_locked_at_and_below_a_path_in_order(share):
    os.mkdir(share.at('empty'))
    for args, want in {
        (): ['a', 'a1', 'd/b', 'd/e/c'], ('d',): ['d/b', 'd/e/c'], ('a',): ['a'], ('d/e', 'a1'): ['d/e/c', 'a1'],
        ('empty',): [], ('gone/too',): [], ('d/x.part',): [],
    }.items():
        assert (args, listed(*(args or ['.']), cwd=share.mnt)) == (args, [('./' if not args else '') + w for w in want])
    assert listed(share.mnt) == [share.at(n) for n in ('a', 'a1', 'd/b', 'd/e/c')]
    assert listed(cwd=share.mnt) == listed(cwd=share.at('d')) == listed(share.mnt)


def test_list_filters(mount):
    share = mount('retention=30d', clocked=True)
    os.chmod(share.mnt, 0o777)
    share.lock('old')
    share.now(60 * DAY)
    share.lock('held')
    share.lock('new')
    as_user(ALICE, write_file, share.at('alices'), b'x')
    share.wait_state('alices', 'retained')
    share.must('hold', 'held', case='case-1')
    share.must('hold', 'new', case='case-2')
    share.must('extend', 'new', until='infinite')
    for args, want in {
        ('--state', 'retained'): ['alices', 'held', 'new'], ('--state', 'expired'): ['old'],
        ('--state', 'held'): ['held', 'new'], ('--hold', 'case-1'): ['held'], ('--hold', 'none'): [],
        ('--uid', str(ALICE)): ['alices'], ('--uid', 'root'): ['held', 'new', 'old'],
        ('--expires-before', '1d'): ['old'], ('--expires-before', '31d'): ['alices', 'held', 'old'],
        ('--expires-before', '9999-01-01'): ['alices', 'held', 'old'],
        ('--rule', '-'): ['alices', 'held', 'new', 'old'], ('--rule', 'other'): [],
        ('--state', 'held', '--expires-before', '31d'): ['held'],
    }.items():
        assert (args, listed(*args, '.', cwd=share.mnt)) == (args, ['./' + w for w in want])
        count = ctl('list', '--count', *args, share.mnt)
        assert (args, count.code, count.out) == (args, 0 if want else 1, '%d\n' % len(want))
    assert ctl('list', '--count', '--json', share.mnt).rows() == [{'count': 4}]


def test_list_prints_a_record_for_people_and_for_programs(share):
    share.must('extend', 'a', until='2y')
    share.must('hold', 'a', case='case-1')
    share.must('hold', 'a', case='case-2')
    file = share.explain('a')
    line = ctl('list', 'a', cwd=share.mnt).out
    assert line.split() == ['retained', file['until'], 'governance', '2', '7', file['committed'], '-', 'a']
    assert ctl('list', '--header', 'a', cwd=share.mnt).out.split('\n')[0].split() == [
        'STATE', 'UNTIL', 'MODE', 'HOLDS', 'SIZE', 'COMMITTED', 'RULE', 'PATH']
    row, = ctl('list', '--json', 'a', cwd=share.mnt).rows()
    del row['sha256']           # null until it was taken
    assert row == {'path': 'a', 'share': share.mnt, 'state': 'retained', 'until': file['until'], 'mode': 'governance',
                   'holds': ['case-1', 'case-2'], 'hold_count': 2, 'size': 7, 'committed': file['committed'],
                   'rule': 'mount options', 'serial': file['serial'], 'uid': 0, 'gid': 0}


def test_names_cannot_fool_a_terminal_and_come_out_whole(share):
    names = {b'new\nline': r'new\nline', b'\x1b[31mred': r'\x1b[31mred', b'back\\slash': r'back\\slash', b'\xff\xfe': r'\xff\xfe',
             'ü'.encode(): 'ü', '\u202etxt'.encode(): r'\xe2\x80\xaetxt', b' space ': ' space '}
    os.mkdir(share.at('odd'))
    for name in names:
        write_file(os.path.join(share.mnt.encode(), b'odd', name), b'x')
    out = ctl('list', 'odd', cwd=share.mnt).out.splitlines()
    assert sorted(line.split(' odd/', 1)[1] for line in out) == sorted(names.values())
    assert sorted(listed('.', cwd=share.at('odd'))) == sorted('./' + n.decode('utf-8', 'surrogateescape') for n in names)
    rows = ctl('list', '--json', 'odd', cwd=share.mnt).rows()
    assert [r['path_encoded'] for r in rows if 'path_encoded' in r] == ['odd/%FF%FE']
    for name, shown in names.items():
        r = ctl('status', os.path.join(b'odd', name), cwd=share.mnt)
        assert r.code == 0 and r.out.split('\n')[0] == 'odd/' + shown, r


def test_list_says_why_it_cannot(share, tmp_path):
    refused(ctl('list', str(tmp_path)), 'not in a share of wormfs')
    refused(ctl('list', share.mnt, user=ALICE), 'only root')
    refused(ctl('list', '--state-dir', str(tmp_path), share.mnt), 'no ledger')


# ---- status -------------------------------------------------------------------------------------

def test_status_says_what_the_file_says_and_exits_by_whether_it_is_locked(share):
    row, = ctl('status', '--json', 'a', cwd=share.mnt).rows()
    assert row.pop('share') == share.mnt and row.pop('enforced') is True
    assert row == dict(share.explain('a'), path='a')
    for args, code in {('a', 'd/b'): 0, ('a', 'd/x.part'): 1, ('d',): 1, ('.',): 1, ('ln',): 1, ('a', 'gone'): 2}.items():
        assert (args, ctl('status', *args, cwd=share.mnt).code) == (args, code)
    text = ctl('status', 'a', 'd/x.part', cwd=share.mnt).out
    for word in ('retained', 'unspecified', 'governance', 'unlink', 'staging'):
        assert word in text
    assert ctl('status', share.at('a'), user=ALICE).code == 0


def test_status_of_the_mounts_says_what_the_mount_says(share):
    r = ctl('status', '--json')
    assert r.code == 0
    row, = [m for m in r.rows() if m['mountpoint'] == share.mnt]
    assert {k for k in share.info()} == set(row)
    assert share.mnt in ctl('status').out
    assert ctl('status', '--state-dir', share.state, '--json').rows()[0]['pid'] == row['pid']


# ---- commit, extend, hold, release --------------------------------------------------------------

def test_commit_locks_a_staging_name_and_an_empty_file_and_waits_for_no_writer(share):
    write_file(share.at('empty'), b'')
    with opened(share.at('busy'), os.O_CREAT | os.O_WRONLY):       # unchanged: or the fork would close, and lock it
        refused(ctl('commit', 'busy', cwd=share.mnt), "cannot commit 'busy'", 'open for writing')
    r = ctl('commit', 'empty', 'd/x.part', 'a', cwd=share.mnt)
    assert (r.code, r.out) == (0, 'empty: locked\nd/x.part: locked\na: locked\n')
    assert share.shows('empty') == share.shows('d/x.part') == 'retained'


def test_extend_only_ever_extends(share):
    assert ctl('extend', '1y', 'a', cwd=share.mnt).out == 'a: locked until %s\n' % share.shows('a', 'until')
    until = share.shows('a', 'until')
    refused(ctl('extend', '30d', 'a', cwd=share.mnt), "cannot extend 'a'", until, 'never shortened')
    refused(ctl('extend', '20y', 'a', cwd=share.mnt), 'no more than 10y')
    refused(ctl('extend', '1h', 'a1', cwd=share.mnt), 'no less than 1d')
    refused(ctl('extend', '1y', 'd/x.part', cwd=share.mnt), 'not locked yet', "wormctl commit 'd/x.part'")
    assert share.shows('a', 'until') == until
    assert ctl('extend', '2y', 'a', '--json', cwd=share.mnt).rows() == [
        {'path': 'a', 'ok': True, 'changed': True, 'until': share.shows('a', 'until')}]


def test_hold_and_release(share):
    assert ctl('hold', 'case-1', 'a', cwd=share.mnt).out == "a: is now under hold 'case-1'\n"
    assert ctl('hold', 'case-1', 'a', cwd=share.mnt).out == "a: is already under hold 'case-1'\n"
    refused(ctl('hold', 'case-1', 'd/x.part', cwd=share.mnt), 'not locked yet', 'commit')
    refused(ctl('hold', 'case-1', 'd', cwd=share.mnt), 'directory', '-r')
    refused(ctl('hold', 'case-1', 'ln', cwd=share.mnt), 'symbolic link')
    refused(ctl('release', 'case-1', 'a', cwd=share.mnt), '--reason')
    refused(release('case-2', 'a', cwd=share.mnt), "not under hold 'case-2'", 'case-1')
    assert share.explain('a')['holds'] == ['case-1']
    assert release('case-1', 'a', cwd=share.mnt).code == 0
    assert share.explain('a')['holds'] == []


def test_the_owner_may_commit_and_extend_and_nothing_else(share):
    os.chmod(share.mnt, 0o777)
    as_user(ALICE, write_file, share.at('mine.part'), b'x')
    assert ctl('commit', 'mine.part', cwd=share.mnt, user=ALICE).code == 0
    assert ctl('extend', '1y', 'mine.part', cwd=share.mnt, user=ALICE).code == 0
    refused(ctl('extend', '1y', 'a', cwd=share.mnt, user=ALICE), 'owner')
    refused(ctl('hold', 'case-1', 'mine.part', cwd=share.mnt, user=ALICE), 'only root')
    refused(release('case-1', 'mine.part', cwd=share.mnt, user=ALICE), 'only root')
    refused(ctl('reindex', '.', cwd=share.mnt, user=ALICE), 'only root')


def test_a_file_that_its_mode_lets_nobody_write_is_extended_by_root(share):
    path = share.lock('read-only', mode=0o444)
    assert ctl('extend', '1y', path).code == 0


def test_a_tree_goes_on_after_an_error_and_counts(share):
    os.symlink('/', share.at('d', 'root'))
    assert ctl('commit', '-r', '.', cwd=share.mnt).out == '5 locked, 0 unchanged, 0 failed\n'
    assert ctl('extend', '2y', '-r', '.', cwd=share.mnt).out == '5 extended, 0 unchanged, 0 failed\n'
    r = ctl('extend', '1y', '-r', '.', cwd=share.mnt)
    assert (r.code, r.out) == (0, '0 extended, 5 unchanged, 0 failed\n')


def test_a_hold_on_a_tree_is_placed_on_all_or_none_and_says_what_cannot_be_held(share):
    os.symlink('/', share.at('d', 'root'))
    r = ctl('hold', 'case-1', '-r', 'd', cwd=share.mnt)
    assert (r.code, r.out) == (2, '0 held, 0 unchanged, 1 failed: nothing was changed\n'), r
    assert r.err.splitlines() == ["wormctl: cannot hold 'd/x.part': it is not locked yet; run: wormctl commit 'd/x.part'"]
    assert listed('--hold', 'case-1', '.', cwd=share.mnt) == []
    assert ctl('commit', 'd/x.part', cwd=share.mnt).code == 0
    assert ctl('hold', 'case-1', '-r', 'd', cwd=share.mnt).out == '3 held, 0 unchanged, 0 failed\n'
    assert listed('--hold', 'case-1', '.', cwd=share.mnt) == ['./d/b', './d/e/c', './d/x.part']
    assert ctl('hold', 'case-1', '-r', 'd', cwd=share.mnt).out == '0 held, 3 unchanged, 0 failed\n'
    r = release('case-1', '-r', '--json', 'd', cwd=share.mnt)
    assert r.code == 0 and r.rows()[-1]['done'] == 3 and r.rows()[-1]['failed'] == 0
    refused(release('case-1', '-r', 'd', cwd=share.mnt), 'no file there')


def test_a_list_of_names_comes_from_a_file_or_standard_input(share, tmp_path):
    names = ctl('list', '-0', share.mnt).raw
    r = ctl('hold', 'case-1', '--files-from', '-', '-0', stdin=names)
    assert (r.code, r.out) == (0, '4 held, 0 unchanged, 0 failed\n')
    (tmp_path / 'list').write_text('a\n\ngone\nd/b\n')
    r = release('case-1', '--files-from', str(tmp_path / 'list'), cwd=share.mnt)
    assert (r.code, r.out) == (2, '0 released, 0 unchanged, 1 failed: nothing was changed\n')
    (tmp_path / 'list').write_text('a\n\nd/b\n')
    r = release('case-1', '--from', str(tmp_path / 'list'), cwd=share.mnt)
    assert (r.code, r.out) == (0, '2 released, 0 unchanged, 0 failed\n')
    refused(ctl('commit', '--files-from', str(tmp_path / 'none')), 'cannot read the list')
    r = ctl('hold', 'case-1', '--files-from', '-', stdin=names)
    assert r.code == 2 and 'is -0 missing?' in r.err


# ---- T51: which share ---------------------------------------------------------------------------

def test_T51_every_way_to_name_a_file_leads_to_it(share):
    os.symlink(share.at('d'), share.at('dir-link'))
    for cwd, path in [(share.mnt, 'a'), (share.mnt, './a'), (share.mnt, 'd/../a'), (share.at('d'), '../a'), ('/', share.at('a')),
                      ('/', share.mnt + '//a'), (share.mnt, 'dir-link/../a')]:
        r = ctl('hold', 'case-1', path, cwd=cwd)
        assert (path, r.code) == (path, 0), r
        assert share.explain('a')['holds'] == ['case-1']
        assert release('case-1', path, cwd=cwd).code == 0
    for path in ('d', 'd/', 'd//', './d/.', 'd/e/..', 'dir-link/'):
        assert (path, len(listed(path, cwd=share.mnt))) == (path, 2)
    assert listed('a', cwd=share.mnt) == ['a']          # and not a1
    for path in (share.mnt, share.mnt + '/', share.mnt + '/.', share.mnt + '/d/..'):
        assert (path, len(listed(path))) == (path, 4)
    refused(ctl('hold', 'case-1', 'a/', cwd=share.mnt), 'Not a directory')
    refused(ctl('hold', 'case-1', '../a', cwd=share.mnt), 'not in a share')


def test_T51_below_the_mount_and_beside_it_the_same_share_is_found(mount, tmp_path):
    share = mount(apart=True)
    os.mkdir(share.at('d'))
    share.lock('d/a')
    assert ctl('hold', 'case-1', os.path.join(share.share, 'd/a')).code == 0
    assert share.explain('d/a')['holds'] == ['case-1']
    assert ctl('extend', '1y', os.path.join(share.share, 'd/a')).code == 0
    bound, odd = tmp_path / 'bound', tmp_path / 'a b\\c\nd'
    bound.mkdir()
    odd.mkdir()
    for point in (bound, odd):
        mount_call(share.at('d'), str(point), None, MS_BIND)
    try:
        for point in (bound, odd):
            assert listed('.', cwd=point) == ['./a']
            assert release('case-1', 'a', cwd=point).code == 0
            assert ctl('hold', 'case-1', 'a', cwd=point).code == 0
        assert [r['path'] for r in ctl('list', '--json', str(odd)).rows()] == ['d/a']
    finally:
        for point in (bound, odd):
            umount_call(str(point), MNT_DETACH)


def test_T51_a_mount_that_another_one_hides_is_not_taken(share):
    run_ = subprocess.run(['mount', '-t', 'tmpfs', 'none', share.mnt], check=False)
    assert run_.returncode == 0
    try:
        refused(ctl('hold', 'case-1', share.mnt), 'not in a share')
        r = ctl('status')
        assert r.code == 2 and 'hidden by another' in r.err
    finally:
        umount_call(share.mnt)


def test_a_state_directory_with_a_long_path_is_reached(mount, tmp_path):
    deep = tmp_path.joinpath(*['d' * 60] * 4)
    share = mount(state=str(deep))
    path = share.lock('a')
    assert len(os.path.join(share.state, 'control')) > 107
    assert ctl('hold', 'case-1', path).code == 0


# ---- no daemon, or a bad one --------------------------------------------------------------------

def test_with_the_mount_stopped_it_lists_and_explains_and_says_that_nothing_is_enforced(mount):
    share = mount(apart=False)
    os.mkdir(share.at('d'))
    share.lock('d/a')
    share.lock('b')
    assert ctl('extend', '1y', share.at('d/a')).code == ctl('hold', 'case-1', share.at('d/a')).code == 0
    online = share.explain('d/a')
    rows = ctl('list', '--json', share.mnt).rows()
    share.stop()
    state = ['--state-dir', share.state]
    assert ctl('list', '--json', *state, share.mnt).rows() == rows
    assert listed(*state) == ['b', 'd/a']
    row, = ctl('status', '--json', *state, share.at('d/a')).rows()
    assert row['enforced'] is False and row['refused'] == []
    for key in ('state', 'until', 'mode', 'holds', 'committed', 'serial', 'size', 'rule', 'suspect'):
        assert (key, row[key]) == (key, online[key])
    assert ctl('status', *state, share.at('d')).code == 1
    assert ctl('status', *state, share.at('d')).out.split()[1:3] == ['state', 'pinned']
    assert ctl('status', *state).code == 1
    with open(share.below('b'), 'a') as f:
        f.write('changed')
    assert ctl('status', '--json', *state, share.at('b')).rows()[0]['suspect']
    os.remove(share.below('b'))
    r = ctl('reindex', '--json', *state, share.mnt)
    assert (r.code, r.rows()[0]['locked'], r.rows()[0]['missing']) == (1, 1, 1)
    for verb in (['hold', 'x'], ['release', '--reason', 'y', 'x'], ['extend', '1y'], ['commit']):
        refused(ctl(*verb, *state, share.at('d/a')), 'cannot reach the daemon', 'wormfs ')
    refused(ctl('list', share.mnt), '--state-dir')
    share.start()
    share.expect_log('.*')


def test_a_lost_ledger_is_rebuilt_without_a_daemon(mount):
    share = mount(apart=False)
    share.lock('a')
    share.stop()
    for name in os.listdir(share.state):
        if name.startswith('ledger.db'):
            os.remove(os.path.join(share.state, name))
    state = ['--state-dir', share.state]
    refused(ctl('list', *state, share.mnt), 'no ledger', 'wormctl reindex')
    r = ctl('reindex', '--json', *state, share.mnt)
    assert (r.code, r.rows()[0]['added']) == (0, 1)
    assert len(listed(*state, share.mnt)) == 1


def test_reindex_through_the_daemon_finds_what_was_changed_below(share):
    assert ctl('reindex', share.mnt).code == 0
    os.truncate(share.below('a'), 1)
    share.expect_log('a')
    r = ctl('reindex', '--json', share.at('d'))
    assert (r.code, r.rows()[0]['changed']) == (1, 1)


def test_a_daemon_that_died_is_named_with_what_to_do(mount):
    share = mount()
    path = share.lock('a')
    proc, share.proc = share.proc, None
    share.live.discard(share)
    proc.kill()
    proc.wait()
    for args in (['status', path], ['list', share.mnt], ['hold', 'x', path], ['commit', share.at('no/such')]):
        refused(ctl(*args), 'is gone', 'umount', share.mnt)
    assert ctl('status').code == 2


def test_a_daemon_that_is_stuck_does_not_hang_the_status(mount):
    share = mount()
    share.proc.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        r = ctl('status', cwd='/')
        assert r.code == 2 and 'does not answer' in r.err and time.monotonic() - start < 30
    finally:
        share.proc.send_signal(signal.SIGCONT)
    wait_for('the daemon', lambda: ctl('status', cwd='/').code == 0)


class Liar:
    """A daemon that answers what it should not."""
    def __init__(self, share, answer):
        import socket
        import threading
        self.path = os.path.join(share.state, 'control')
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(4)
        self.answer = answer
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                c, _ = self.socket.accept()
                c.recv(65536)
                c.sendall(self.answer)
                c.close()


@pytest.mark.parametrize('answer', [
    b'', b'\n', b'x\n', b'[]\n', b'{}\n', b'{"ok":1}\n', b'{"ok":false}\n', b'{"ok":false,"errno":"NOPE","error":7}\n', b'x' * 70000,
    b'{"ok":false,"errno":"EPERM","error":"\\u001b[31mred"}\n', b'{"ok":true', b'{"progress":{}}\n' * 3,
])
def test_an_answer_that_is_none_is_an_error_and_no_more(mount, answer):
    share = mount(apart=False)
    path = share.lock('a')
    share.stop()
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(share.state, 'control'))
    Liar(share, answer)
    for args in (['hold', 'x', path], ['extend', '1y', path], ['reindex', path]):
        r = refused(ctl(*args, '--state-dir', share.state))
        assert '\x1b' not in r.err


# ---- mount.wormfs -------------------------------------------------------------------------------

@pytest.mark.parametrize('args, want', [
    ([], ''), (['-o', 'defaults'], 'defaults'), (['-o', 'retention=7y,ro'], 'retention=7y,ro'),
    (['-o', 'noauto,user=me,nofail,_netdev,x-systemd.automount,X-mount.mkdir,comment=hi'], ''),
    (['-n', '-o', 'rw,retention=7y', '-t', 'fuse.wormfs'], 'rw,retention=7y'),
    (['-o', 'remount,ro,user_id=0,group_id=0,allow_other,default_permissions'], 'remount,ro,allow_other,default_permissions'),
    (['-o', r'state=/a\,b,nofail'], r'state=/a\,b'), (['-o', 'state="/a,b",key="/k"'], r'state=/a\,b,key=/k'),
    (['-o', 'staging=*.tmp:a b', '-o', 'hold=x'], 'staging=*.tmp:a b,hold=x'), (['-ohold=x'], 'hold=x'),
])
def test_the_mount_helper_passes_on_what_is_meant_for_wormfs(tmp_path, args, want):
    fake = tmp_path / 'wormfs'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    p = subprocess.run(['sh', os.path.join(ROOT, 'scripts/mount.wormfs'), '/a b', '/mnt', *args], capture_output=True, text=True,
                       env=dict(os.environ, PATH='%s:%s' % (tmp_path, os.environ['PATH'])), check=False)
    assert (p.returncode, p.stderr) == (0, '')
    assert p.stdout.splitlines() == (['-o', want] if want else []) + ['--', '/a b', '/mnt']


def test_the_mount_helper_has_the_exit_codes_of_mount(tmp_path):
    fake = tmp_path / 'wormfs'
    fake.write_text('#!/bin/sh\nexit 2\n')
    fake.chmod(0o755)
    env = dict(os.environ, PATH='%s:%s' % (tmp_path, os.environ['PATH']))
    for args, code in ((['/a', '/b'], 32), (['/a'], 1), (['/a', '/b', '/c'], 1), (['/a', '/b', '-f'], 0), (['/a', '/b', '-x'], 1)):
        p = subprocess.run(['sh', os.path.join(ROOT, 'scripts/mount.wormfs'), *args], capture_output=True, env=env, check=False)
        assert (args, p.returncode) == (args, code)
