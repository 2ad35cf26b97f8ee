"""Legal holds as orders: all or none, trees and lists, what comes later, a kill in the middle, who may."""
import itertools
import json
import os
import sqlite3
import subprocess
import time

import pytest

from harness import (ALICE, BOB, DAY, TEAM, WORMCTL, as_user, errno_of, encode_path, injected, opened, read_file, renameat2, run, wait_for,
                     write_file, RENAME_EXCHANGE, Refused)

REASON = ('--reason', 'settled')


def hold(share, *args, check=True, **kwargs):
    return share.ctl('hold', *args, check=check, cwd=kwargs.pop('cwd', share.mnt), **kwargs)


def release(share, *args, check=True, **kwargs):
    return share.ctl('release', *REASON, *args, check=check, cwd=kwargs.pop('cwd', share.mnt), **kwargs)


def held(share, case):
    """Paths of the files that are under the hold, as the ledger knows them."""
    share.must('sync')
    p = share.ctl('list', '-0', '--hold', case, '--state-dir', share.state, share.mnt, check=False)
    return sorted(os.path.relpath(n, share.mnt) for n in p.out.split('\0') if n)


def show(share, case):
    p = share.ctl('hold', 'show', '--json', case, share.mnt, check=False)
    return json.loads(p.out) if p.out else None


def tree(share, *names):
    """Locked files, with the directories they need."""
    for name in names:
        os.makedirs(os.path.dirname(share.at(name)), exist_ok=True)
        share.lock(name)


# ---- all or none --------------------------------------------------------------------------------

def test_a_hold_is_placed_on_all_or_none_and_each_failure_is_named(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'a', 'b')
    write_file(share.at('open.part'))
    p = hold(share, 'c1', 'a', 'open.part', 'missing', 'b', check=False)
    assert p.returncode == 2
    assert sorted(p.err.splitlines()) == [
        "wormctl: cannot hold 'open.part': it is not locked yet; run: wormctl commit 'open.part'",
        "wormctl: cannot reach 'missing': No such file or directory"]
    assert 'nothing was changed' in p.out
    share.now(2 * DAY)
    assert held(share, 'c1') == [] and show(share, 'c1') is None
    assert share.shows('a') == share.shows('b') == 'expired'
    assert hold(share, 'c1', 'a', 'b').out == "a: is now under hold 'c1'\nb: is now under hold 'c1'\n"
    assert held(share, 'c1') == ['a', 'b']


def test_a_tree_with_one_file_that_cannot_be_held_stays_as_it_is(mount):
    share = mount('retention=1d')
    tree(share, 'd/a', 'd/e/b')
    write_file(share.at('d/e/open.part'))
    p = hold(share, 'c1', '-r', 'd', check=False)
    assert (p.returncode, p.out) == (2, '0 held, 0 unchanged, 1 failed: nothing was changed\n')
    assert "cannot hold 'd/e/open.part': it is not locked yet" in p.err
    assert held(share, 'c1') == []


def test_a_file_whose_record_cannot_be_read_keeps_the_whole_order_from_being_placed(mount):
    share = mount('retention=1d')
    tree(share, 'd/a', 'd/b')
    share.stop()
    name = next(n for n in os.listxattr(share.below('d/b')) if n.endswith('.wormfs'))
    os.setxattr(share.below('d/b'), name, b'x' * 64)
    share.start()
    p = hold(share, 'c1', '-r', 'd', check=False)
    assert p.returncode == 2 and "cannot hold 'd/b'" in p.err and 'wormctl status' in p.err
    assert held(share, 'c1') == []


def test_a_directory_that_cannot_be_read_keeps_the_whole_order_from_being_placed(mount):
    share = mount('retention=1d')
    tree(share, 'd/a', 'd/e/b')
    with injected(share, 'getdents64', 'error=EIO'):
        p = hold(share, 'c1', '-r', 'd', check=False)
    assert p.returncode == 2 and 'nothing was changed' in p.out
    assert held(share, 'c1') == []


def test_a_release_is_done_for_all_or_none(mount):
    share = mount('retention=1d')
    tree(share, 'a', 'b')
    hold(share, 'c1', 'a')
    p = release(share, 'c1', 'a', 'b', check=False)
    assert p.returncode == 2 and "cannot release 'b': it is not under hold 'c1'; it has none" in p.err
    assert held(share, 'c1') == ['a']


def test_a_release_needs_a_reason(mount):
    share = mount('retention=1d')
    tree(share, 'a')
    hold(share, 'c1', 'a')
    p = share.ctl('release', 'c1', share.at('a'), check=False)
    assert p.returncode == 2 and '--reason' in p.err and held(share, 'c1') == ['a']


# ---- T27, T28, T29 ------------------------------------------------------------------------------

@pytest.mark.parametrize('over,how', itertools.product([False, True], ['none', 'file', 'tree', 'future', 'two', 'released']))
def test_T27_delete_needs_an_end_of_retention_and_no_hold_however_it_was_placed(mount, over, how):
    share = mount('retention=30d', clocked=True)
    tree(share, 'd/a')
    if how in ('file', 'two', 'released'):
        hold(share, 'c1', 'd/a')
    if how == 'tree':
        hold(share, 'c1', '-r', 'd')
    if how == 'future':
        hold(share, 'c1', '--future', 'd')
    if how == 'two':
        hold(share, 'c2', '-r', '.')
        release(share, 'c1', 'd/a')
    if how == 'released':
        release(share, 'c1', '--all')
    share.now(31 * DAY if over else 0)
    free = over and how in ('none', 'released')
    assert share.shows('d/a') == ('expired' if free else 'retained')
    assert errno_of(os.unlink, share.at('d/a')) == ('OK' if free else 'EPERM')


def test_T28_two_holds_over_one_tree_are_released_one_by_one(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'd/a', 'd/b')
    for case in ('c1', 'c2'):
        assert hold(share, case, '-r', 'd').out == '2 held, 0 unchanged, 0 failed\n'
    assert share.shows('d/a', 'holds') == 'c1\nc2'
    share.now(2 * DAY)
    assert release(share, 'c1', '-r', 'd').out == '2 released, 0 unchanged, 0 failed\n'
    assert errno_of(os.unlink, share.at('d/a')) == 'EPERM'
    release(share, 'c2', '-r', 'd')
    os.unlink(share.at('d/a'))


def test_T29_a_hold_with_future_comes_with_the_lock_of_later_files(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'd/before', 'beside')
    hold(share, 'c1', '--future', '--reason', 'letter', 'd')
    tree(share, 'd/later', 'd/e/deeper', 'd1')
    share.now(2 * DAY)
    for name, case in {'d/before': 'c1', 'd/later': 'c1', 'd/e/deeper': 'c1', 'd1': '', 'beside': ''}.items():
        assert (name, share.shows(name, 'holds')) == (name, case)
        assert errno_of(os.unlink, share.at(name)) == ('EPERM' if case else 'OK')
    assert held(share, 'c1') == ['d/before', 'd/e/deeper', 'd/later']
    # The records have it, too: a lost ledger frees nothing.
    share.remount()
    share.lock('d/after')
    assert share.shows('d/after', 'holds') == 'c1'
    assert share.listed()['d/later']['hold_count'] == 1


def test_T29_a_hold_without_future_leaves_later_files_alone(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'd/before')
    hold(share, 'c1', '-r', 'd')
    tree(share, 'd/later')
    assert share.shows('d/later', 'holds') == ''


def test_T29_future_locks_what_is_closed_and_what_is_written_cannot_be_deleted(mount):
    share = mount('retention=1d', clocked=True)
    os.mkdir(share.at('d'))
    write_file(share.below('d/old'), b'from before the mount')
    write_file(share.at('d/empty'), b'')
    with opened(share.at('d/writing'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'half')
        # Not with a program: its copy of the descriptor would be closed, which is a close.
        order = order_of(share, 'hold', ['d'], future=True)
        answer = share.must('order-run', order=order)
        assert (answer['changed'], answer['waiting'], answer['failed']) == (1, 1, 0)
        assert (share.shows('d/old'), share.shows('d/old', 'holds')) == ('retained', 'c1')
        assert share.shows('d/writing') == 'held'
        assert 'unlink' in share.explain('d/writing')['refused'] and 'write' in share.explain('d/writing')['allowed']
        assert errno_of(os.unlink, share.at('d/writing')) == 'EPERM'
        write_file(share.at('other'), b'')
        assert errno_of(os.rename, share.at('other'), share.at('d/writing')) == 'EPERM'
        assert errno_of(os.rename, share.at('d/writing'), share.at('out')) == 'EPERM'
        os.write(fd, b' and half')
    share.wait_state('d/writing', 'retained')
    assert share.shows('d/writing', 'holds') == 'c1'
    assert read_file(share.at('d/writing')) == b'half and half'
    os.unlink(share.at('d/empty'))      # nothing was in it


def test_T29_a_directory_of_an_order_for_what_comes_keeps_its_name_and_what_is_in_it(mount):
    share = mount('retention=1d')
    os.makedirs(share.at('top/d/e'))
    os.mkdir(share.at('else'))
    hold(share, 'c1', '--future', 'top/d')
    for path in ('top/d', 'top', 'top/d/e'):
        assert (path, errno_of(os.rename, share.at(path), share.at('else/x'))) == (path, 'EPERM')
    assert errno_of(renameat2, share.at('else'), share.at('top/d'), RENAME_EXCHANGE) == 'EPERM'
    os.rename(share.at('top/d/e'), share.at('top/d/f'))     # inside of it
    os.rename(share.at('else'), share.at('top/other'))      # beside it
    with opened(share.at('top/d/a.part'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
    os.rename(share.at('top/d/a.part'), share.at('top/d/f/a'))
    share.wait_state('top/d/f/a', 'retained')
    assert share.shows('top/d/f/a', 'holds') == 'c1'


def test_a_release_of_the_tree_ends_what_future_had_in_store(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'd/a')
    hold(share, 'c1', '--future', 'd')
    release(share, 'c1', 'd/a')
    assert share.shows('d/a', 'holds') == ''        # this file alone
    share.lock('d/b')
    assert share.shows('d/b', 'holds') == 'c1'
    assert show(share, 'c1')['future'] is True
    release(share, 'c1', '-r', 'd')
    share.lock('d/c')
    assert share.shows('d/b', 'holds') == share.shows('d/c', 'holds') == ''
    assert show(share, 'c1') is None
    with opened(share.at('d/x.part'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        os.rename(share.at('d/x.part'), share.at('x.part'))


def test_an_order_for_what_comes_alone_can_be_released(mount):
    share = mount('retention=1d')
    os.mkdir(share.at('d'))
    hold(share, 'c1', '--future', 'd')
    assert release(share, 'c1', '-r', 'd').returncode == 0
    os.rename(share.at('d'), share.at('e'))
    assert release(share, 'c1', '--all', check=False).returncode == 2


# ---- T51: paths ---------------------------------------------------------------------------------

def test_T51_a_hold_on_a_covers_neither_a1_nor_what_is_beside_it(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'a/x', 'a1/x', 'a-b/x', 'aa', 'b/a/x')
    hold(share, 'c1', '--future', 'a//')
    tree(share, 'a/y', 'a1/y', 'b/a/y', 'a.txt')
    assert held(share, 'c1') == ['a/x', 'a/y']
    for n, path in enumerate(('./a/', 'a/../a', 'b/../a//.', share.mnt + '//a')):
        assert (path, hold(share, 'c2', '-r', path).returncode) == (path, 0)
        assert (n, held(share, 'c2')) == (n, ['a/x', 'a/y'])
    release(share, 'c1', '-r', 'a')
    assert held(share, 'c1') == []


def test_T51_the_root_itself_covers_everything(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'a', 'd/b')
    hold(share, 'c1', '--future', share.mnt)
    tree(share, 'c', 'd/e/f')
    assert held(share, 'c1') == ['a', 'c', 'd/b', 'd/e/f']
    assert errno_of(os.rename, share.at('d'), share.at('x')) == 'EPERM'
    release(share, 'c1', '-r', share.mnt)
    assert held(share, 'c1') == []


ODD = [b'new\nline', b'\xff\xfe', 'Grüße'.encode(), b' lead', b'100%', b'-r', b'"q"\\']


def test_T51_names_with_newlines_and_without_UTF_8_are_held_in_trees_and_lists(mount):
    share = mount('retention=1d', clocked=True)
    root = os.fsencode(share.mnt)
    for name in ODD:
        os.mkdir(os.path.join(root, b'd' + name))
        share.lock(os.path.join(os.fsencode('d') + name, name).decode('utf-8', 'surrogateescape'))
    run(WORMCTL, 'hold', 'tree', '--future', *[b'./d' + name for name in ODD], cwd=share.mnt)
    for name in ODD:
        path = os.path.join(root, b'd' + name, name)
        assert os.getxattr(path, 'user.worm.holds') == b'tree'
        share.lock(os.path.join(b'd' + name, name + b'2').decode('utf-8', 'surrogateescape'))
        assert os.getxattr(path + b'2', 'user.worm.holds') == b'tree'
    names = b''.join(os.path.join(root, b'd' + name, name) + b'\0' for name in ODD)
    p = subprocess.run([WORMCTL, 'hold', 'list-of-them', '--from', '-', '-0'], input=names, capture_output=True)
    assert (p.returncode, p.stdout) == (0, b'%d held, 0 unchanged, 0 failed\n' % len(ODD)), p.stderr
    p = subprocess.run([WORMCTL, 'release', *REASON, 'list-of-them', '--from', '-', '-0'], input=names, capture_output=True)
    assert (p.returncode, p.stdout) == (0, b'%d released, 0 unchanged, 0 failed\n' % len(ODD)), p.stderr
    names = b'\n'.join(os.path.join(root, b'd' + name, name) for name in ODD if b'\n' not in name)
    p = subprocess.run([WORMCTL, 'hold', 'lines', '--from', '-'], input=names, capture_output=True)
    assert p.returncode == 0, p.stderr


@pytest.mark.parametrize('path', ['../x', 'a//b', '/a', 'a/', '.', 'a/..', '%00', '%zz', 1, None])
def test_T51_the_daemon_takes_no_path_that_is_none(wormfs, path):
    wormfs.lock('a')
    order = wormfs.must('order-new', case='c1')['order']
    assert wormfs.refused('order-add', order=order, paths=[path]) == 'EINVAL'
    wormfs.must('order-drop', order=order)


# ---- a kill in the middle -----------------------------------------------------------------------

def is_busy(share):
    return any(o['state'] != 'placed' for o in (show(share, 'c1') or {'orders': []})['orders'])


def many(share, n):
    for i in range(n):
        os.makedirs(share.at('d/%d' % (i % 7)), exist_ok=True)
        write_file(share.at('d/%d/f%d' % (i % 7, i)))
    share.settle()


def order_of(share, verb, paths, tree=True, **keys):
    order = share.must('order-new', case='c1', **keys)['order']
    share.must('order-add', order=order, paths=[encode_path(p) for p in paths], tree=tree, release=verb == 'release')
    return order


@pytest.mark.parametrize('what', ['hold', 'release'])
def test_an_order_is_finished_after_SIGKILL_of_the_daemon_whenever_it_comes(mount, what):
    share = mount('retention=1d', clocked=True)
    many(share, 3000)
    rounds = 0
    for pause in [0, .01, .02, .03, .05, .08, .12, .2]:
        if what == 'release':
            assert hold(share, 'c1', '-r', 'd').returncode == 0
        argv = [WORMCTL] + (['hold', 'c1', '-r', 'd'] if what == 'hold' else ['release', *REASON, 'c1', '-r', 'd'])
        p = subprocess.Popen(argv, cwd=share.mnt, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(pause)       # not waited for: any instant will do
        share.kill9()
        p.communicate()
        share.start()
        share.now(2 * DAY)
        busy = is_busy(share)
        rounds += busy
        if busy and what == 'hold':
            # Enforced for every file at once, also where no file has it by itself yet.
            assert {errno_of(os.unlink, share.at('d/%d/f%d' % (i % 7, i))) for i in (0, 1500, 2999)} == {'EPERM'}
        wait_for('the order to end', lambda: not is_busy(share))
        n = len(held(share, 'c1'))
        assert n in (0, 3000)
        if what == 'hold' and n:
            counts = {row['hold_count'] for row in share.listed().values()}
            assert counts == {1}
            share.now(0)
            assert release(share, 'c1', '-r', 'd').out == '3000 released, 0 unchanged, 0 failed\n'
        share.now(0)
        assert {row['hold_count'] for row in share.listed().values()} == {0 if what == 'hold' or not n else 1}
    print('%d of 8 kills came in the middle' % rounds)


def test_the_same_command_finishes_an_order_whose_client_was_killed_and_says_so(mount):
    share = mount('retention=1d')
    many(share, 4000)
    p = subprocess.Popen([WORMCTL, 'hold', 'c1', '-r', 'd'], cwd=share.mnt, stdout=subprocess.PIPE)
    wait_for('the decision', lambda: show(share, 'c1'))
    p.kill()
    p.communicate()
    out = hold(share, 'c1', '-r', 'd').out
    assert out.splitlines()[-1] == '0 held, 4000 unchanged, 0 failed' or 'is finished first' in out
    assert len(held(share, 'c1')) == 4000
    assert {row['hold_count'] for row in share.listed().values()} == {1}


def test_what_was_only_named_and_never_decided_is_forgotten(mount):
    share = mount('retention=1d', clocked=True)
    tree(share, 'd/a')
    order = order_of(share, 'hold', ['d'])
    share.kill9()
    share.start()
    assert share.refused('order-run', order=order) == 'ENOENT'
    assert held(share, 'c1') == [] and show(share, 'c1') is None


def test_an_order_is_enforced_from_its_decision_on_also_for_files_it_has_not_come_to(mount):
    """As if a daemon had been killed just behind the decision; the next one has a lot to do before it comes to the file."""
    share = mount('retention=1d,privdel=on', clocked=True)
    tree(share, 'z/a', 'e/b')
    many(share, 3000)
    order = order_of(share, 'hold', ['d', 'z'])
    share.stop()
    with sqlite3.connect(os.path.join(share.state, 'ledger.db')) as db:
        db.execute('UPDATE hold_order SET state = 1 WHERE id = ?', (order,))
    db.close()
    share.now(2 * DAY)
    share.start()
    assert errno_of(os.unlink, share.at('z/a')) == share.refused('delete', 'z/a', reason='x') == share.refused('expire', 'z/a') == 'EPERM'
    assert errno_of(os.unlink, share.at('e/b')) == 'OK'
    wait_for('the order to end', lambda: not is_busy(share))
    assert len(held(share, 'c1')) == 3001 and share.shows('z/a', 'holds') == 'c1'


def test_a_file_whose_record_cannot_be_written_is_held_by_the_order(mount):
    """The record cannot be written (here: chattr +i below): the file is held all the same."""
    share = mount('retention=1d', clocked=True)
    tree(share, 'd/a')
    share.expect_log('cannot put', 'cannot look')
    run('chattr', '+i', share.below('d/a'))
    try:
        p = hold(share, 'c1', '-r', 'd', check=False)
        assert p.returncode == 2 and '1 failed' in p.out
        share.now(2 * DAY)
        assert share.shows('d/a') == 'retained' and errno_of(os.unlink, share.at('d/a')) == 'EPERM'
    finally:
        run('chattr', '-i', share.below('d/a'))
    assert hold(share, 'c1', '-r', 'd').returncode == 0
    assert share.listed()['d/a']['hold_count'] == 1
    release(share, 'c1', '--all')
    assert share.shows('d/a') == 'expired'


# ---- who, and what is shown ---------------------------------------------------------------------

def test_hold_list_and_show_say_who_when_why_and_how_much(mount):
    share = mount('retention=1d')
    tree(share, 'd/a', 'd/b', 'c')
    hold(share, 'c1', '--reason', 'letter of 3 May', '--future', 'd')
    hold(share, 'c1', 'c')
    hold(share, 'zwei', 'c')
    got = show(share, 'c1')
    assert (got['files'], got['bytes'], got['future']) == (3, 21, True)
    first, second = got['orders']
    assert (first['reason'], first['by'], first['files'], first['state']) == ('letter of 3 May', 0, 2, 'placed')
    assert [t['path'] for t in first['trees']] == ['d'] and second['files'] == 1 and second['trees'] == []
    text = share.ctl('hold', 'show', 'c1', share.mnt).out
    assert 'letter of 3 May' in text and 'and what comes: d' in text
    rows = [json.loads(line) for line in share.ctl('hold', 'list', '--json', share.mnt).out.splitlines()]
    assert [(r['case'], r['files']) for r in rows] == [('c1', 3), ('zwei', 1)]
    assert share.ctl('hold', 'show', 'none', share.mnt, check=False).returncode == 1
    share.stop()
    assert [json.loads(l)['case'] for l in share.ctl('hold', 'list', '--json', '--state-dir', share.state).out.splitlines()] == ['c1', 'zwei']


def test_who_ordered_what_and_why_is_in_the_audit_log_and_each_file_has_a_line(mount):
    share = mount('retention=1d')
    tree(share, 'd/a', 'd/b')
    hold(share, 'c1', '--reason', 'letter of 3 May', '-r', 'd')
    release(share, 'c1', '--all')
    share.must('sync')
    lines = [json.loads(l) for l in share.ctl('audit', 'show', '--json', share.mnt).out.splitlines()]
    lines = [(l['event'], l['path'], l['detail'], l['uid']) for l in lines if l['event'].startswith('hold')]
    order = lines[0]
    assert order[0] == 'hold_add' and order[1] is None and 'case c1, 1 paths: d/; reason: letter of 3 May' in order[2]
    for event in ('hold_add', 'hold_release'):
        assert sorted(l[1] for l in lines if l[0] == event and l[1]) == ['d/a', 'd/b']
    assert any('reason: settled' in l[2] for l in lines if l[0] == 'hold_release')
    assert {l[3] for l in lines} == {0}


@pytest.mark.parametrize('what, future', [(['-r', 'd'], []), (['d/a', 'd/b'], []), (['-r', 'd'], ['--future'])])
def test_without_its_line_in_the_audit_log_no_order_is_carried_out(mount, what, future):
    """The line comes first, and on the disk: strace makes every sync of the log fail."""
    share = mount('retention=1d')
    share.expect_log('audit log')
    tree(share, 'd/a', 'd/b')
    hold(share, 'before', *future, *what)
    with injected(share, 'fdatasync', 'error=EIO', os.path.join(share.state, 'audit.log')):
        for p in (hold(share, 'c1', *future, *what, check=False), release(share, 'before', *what, check=False)):
            assert p.returncode == 2 and 'audit log' in p.err
        assert held(share, 'c1') == [] and held(share, 'before') == ['d/a', 'd/b']
        assert all(share.shows('d/' + n, 'holds') == 'before' for n in 'ab')
    wait_for('the log to be written again', lambda: hold(share, 'c1', *future, *what, check=False).returncode == 0)
    release(share, 'before', *what)
    assert held(share, 'c1') == ['d/a', 'd/b'] and held(share, 'before') == []


def test_hold_role_lets_its_members_place_and_release_and_nothing_else(mount):
    share = mount('retention=1d,hold_role=%d:@%d' % (BOB, TEAM))
    os.chmod(share.dir, 0o755)
    tree(share, 'a')

    def ask(*args):
        return subprocess.run([WORMCTL, *args], cwd=share.mnt, capture_output=True, stdin=subprocess.DEVNULL).returncode
    assert as_user(BOB, ask, 'hold', 'bobs', 'a') == 0
    assert as_user(ALICE, ask, 'hold', 'team', 'a', groups=[TEAM]) == 0
    assert as_user(ALICE, ask, 'release', *REASON, 'bobs', 'a') == 2
    assert as_user(ALICE, ask, 'release', *REASON, 'bobs', 'a', groups=[TEAM]) == 0
    assert share.shows('a', 'holds') == 'team'
    assert show(share, 'team')['orders'][0]['by'] == ALICE
    assert as_user(BOB, ask, 'reindex', share.mnt) == 2
    # Nothing else in the state directory can be read or listed.
    assert as_user(BOB, os.listdir, share.state) == 'EACCES'
    for name in os.listdir(share.state):
        if name != 'control':
            assert (name, as_user(BOB, read_file, os.path.join(share.state, name))) == (name, 'EACCES')
    share.remount('retention=1d')
    assert os.stat(share.state).st_mode & 0o777 == 0o700
    assert as_user(BOB, ask, 'hold', 'again', 'a') == 2


def test_a_role_that_nobody_has_is_named_and_nothing_is_mounted(mount):
    for bad in ('nosuchuser', '@nosuchgroup', ':', 'root:'):
        with pytest.raises(Refused) as e:
            mount('hold_role=' + bad)
        assert e.value.code == 2 and 'hold_role' in e.value.text


def test_an_order_of_another_user_cannot_be_run_or_changed(mount):
    share = mount('retention=1d,hold_role=%d:%d' % (ALICE, BOB))
    tree(share, 'a')
    order = order_of(share, 'hold', ['a'], tree=False)

    def ask():
        import socket
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(share.state, 'control'))
            s.sendall(json.dumps({'verb': 'order-run', 'order': order}).encode() + b'\n')
            return json.loads(s.recv(65536))['errno']
    assert as_user(ALICE, ask) == 'ENOENT'
    assert held(share, 'c1') == []


def test_commit_never_has_nothing_to_hold_in_the_future(mount):
    share = mount('commit=never')
    os.mkdir(share.at('d'))
    p = hold(share, 'c1', '--future', 'd', check=False)
    assert p.returncode == 2 and 'commit=never' in p.err


def test_a_file_that_is_closing_while_its_hold_is_released_is_held_until_it_is_released_again(mount):
    share = mount('retention=1d')
    os.mkdir(share.at('d'))
    share.ctl('hold', '--future', 'c1', share.at('d'))
    fd = os.open(share.at('d/a'), os.O_CREAT | os.O_WRONLY)
    try:
        os.write(fd, b'x')
        os.close(os.dup(fd))
        assert share.shows('d/a') == 'closing'
        share.ctl('release', 'c1', '--reason', 'over', '--all', share.mnt)
    finally:
        os.close(fd)
    share.wait_state(share.at('d/a'), 'retained')
    share.must('sync')
    assert share.shows('d/a', 'holds') == 'c1'
    share.ctl('release', 'c1', '--reason', 'over', '--all', share.mnt)
    assert share.shows('d/a', 'holds') == ''
