"""The event stream on a mount: every change, lock and refusal is told, in order, and what was told rebuilds the tree."""
import contextlib
import functools
import os
import random
import signal
import stat

import pytest

from event_harness import brief, check_numbers, ctl, event_of, replay
from harness import (ALICE, RENAME_EXCHANGE, WORMCTL, Refused, as_user, errno_of, link_descriptor, opened, read_file, renameat2, scaled,
                     write_file)

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


# ---- what is told -------------------------------------------------------------------------------

def test_nothing_is_kept_unless_it_is_asked_for(wormfs):
    write_file(wormfs.at('a'))
    assert not os.path.exists(os.path.join(wormfs.state, 'events.ring'))
    assert wormfs.info()['events'] == {'state': 'off'}
    p = ctl(wormfs, 'stats', check=False)
    assert p.returncode == 2 and '-o events=on' in p.err


@pytest.mark.parametrize('option, says', [
    ('events=nowhere:/x', "option 'events': cannot use 'nowhere:/x'"), ('events=json:', "cannot use 'json:'"),
    ('events=beegfs7:' + '/x' * 60, 'cannot use'), ('events=json:relative', 'cannot use'), ('events=json:/x,events=json:/x', 'cannot use'), ('events_types=Nothing', "cannot use 'Nothing'"), ('events_ring=0', "cannot use '0'"),
])
def test_a_wrong_option_is_refused(mount, option, says):
    with pytest.raises(Refused, match=says):
        mount(option)


def test_a_file_in_the_share_is_refused(mount):
    share = mount(start=False)
    os.mkdir(os.path.join(share.share, 'd'))
    with pytest.raises(Refused, match='which is in the share'):
        share.start('events=json:' + os.path.join(share.share, 'd/events'))
    assert os.listdir(share.state) == [] and os.listdir(os.path.join(share.share, 'd')) == []


def test_every_change_is_told_with_who_and_what(mount):
    share = mount('commit=never,events=on,events_types=all', lower_mode=0o777)
    os.mkdir(share.at('d'), 0o750)
    write_file(share.at('d/f'), b'12345')
    os.truncate(share.at('d/f'), 2)
    os.chmod(share.at('d/f'), 0o600)
    os.setxattr(share.at('d/f'), 'user.note', b'x')
    os.removexattr(share.at('d/f'), 'user.note')
    os.link(share.at('d/f'), share.at('g'))
    os.unlink(share.at('d/f'))
    os.rename(share.at('g'), share.at('d/h'))
    os.symlink('d/h', share.at('l'))
    os.mkfifo(share.at('p'))
    read_file(share.at('d/h'))
    with opened(share.at('d/h'), os.O_RDWR) as fd:
        os.write(fd, b'abc')
        os.fsync(fd)
    assert errno_of(os.rmdir, share.at('d')) == 'ENOTEMPTY'
    os.unlink(share.at('d/h'))
    os.rmdir(share.at('d'))
    as_user(ALICE, os.mkdir, share.at('hers'))
    events = [e for e in replay(share) if e['Type'] not in ('Mount', 'Clock')]
    got = [brief(e) for e in events]
    assert [g for g in got if g[0] != 'LastWriterClosed'] == [
        ('MKdir', '/d'), ('Create', '/d/f'), ('Truncate', '/d/f'), ('SetAttr', '/d/f'), ('XattrSet', '/d/f'), ('XattrRemoved', '/d/f'),
        ('Hardlink', '/g'), ('Unlink', '/d/f'), ('Rename', '/g'), ('Symlink', '/l'), ('MKnod', '/p'), ('OpenRead', '/d/h'),
        ('OpenReadWrite', '/d/h'), ('Flush', '/d/h'), ('RMdir', '/d', 'ENOTEMPTY'), ('Unlink', '/d/h'), ('RMdir', '/d'), ('MKdir', '/hers')]
    by = {brief(e)[:2]: e for e in events}
    mkdir, create, cut, link, unlink = (by[k] for k in (('MKdir', '/d'), ('Create', '/d/f'), ('Truncate', '/d/f'), ('Hardlink', '/g'),
                                                        ('Unlink', '/d/f')))
    assert create['ParentEntryId'] == mkdir['EntryId'] and mkdir['ParentEntryId'] == 'root'
    assert mkdir['Mode'] == 0o40750 and mkdir['Directory']
    assert (cut['SizeBefore'], cut['Size']) == (5, 2)
    assert link['TargetPath'] == '/d/f' and link['EntryId'] == create['EntryId'] and link['Links'] == 2
    assert unlink['Links'] == 1 and by['Unlink', '/d/h']['Links'] == 0
    assert by['Rename', '/g']['TargetPath'] == '/d/h' and by['Rename', '/g']['TargetParentId'] == mkdir['EntryId']
    assert by['Symlink', '/l']['TargetPath'] == 'd/h'
    assert by['XattrSet', '/d/f']['Detail'] == 'user.note'
    assert by['MKdir', '/hers']['Uid'] == ALICE and by['MKdir', '/hers']['Owner'] == ALICE
    assert create['Uid'] == 0 and create['Pid'] == os.getpid() and create['Command'] == open('/proc/self/comm').read().strip()
    assert [(e['Size'], e['Pid']) for e in events if e['Type'] == 'LastWriterClosed'][0] == (5, os.getpid())
    assert os.stat(share.below('p')).st_ino == by['MKnod', '/p']['Inode']
    check_numbers(replay(share))


def test_locks_and_refusals_are_told_once_each(mount):
    share = mount('retention=1y,events=on', clocked=True)
    write_file(share.at('f'))
    for refused in (lambda p: os.open(p, os.O_WRONLY), os.unlink, lambda p: os.rename(p, p + '2'), lambda p: os.truncate(p, 0),
                    lambda p: os.link(p, p + '2'), lambda p: os.chmod(p, 0o777), lambda p: os.setxattr(p, 'user.x', b'')):
        assert errno_of(refused, share.at('f')) == 'EPERM'
    os.setxattr(share.at('f'), 'user.worm.until', b'2y')
    share.must('hold', 'f', case='c1')
    share.must('release', 'f', case='c1')
    share.refused('release', 'f', case='c1')
    share.now(3 * 365 * 86400)
    os.unlink(share.at('f'))
    events = [e for e in replay(share) if e['Path'] == '/f']
    assert [brief(e) for e in events if e['Type'] not in ('Create', 'LastWriterClosed')] == [
        ('Committed', '/f'), ('OpenWrite', '/f', 'EPERM'), ('Unlink', '/f', 'EPERM'), ('Rename', '/f', 'EPERM'), ('Truncate', '/f', 'EPERM'),
        ('Hardlink', '/f', 'EPERM'), ('SetAttr', '/f', 'EPERM'), ('XattrSet', '/f', 'EPERM'), ('RetentionExtended', '/f'), ('HoldPlaced', '/f'),
        ('HoldReleased', '/f'), ('DeletedExpired', '/f'), ('Unlink', '/f')]
    refusals = [e for e in events if e.get('Refused')]
    assert len(refusals) == 7 and all(e['State'] == 'retained' and e['Detail'].endswith(': retained') for e in refusals)
    committed, extended = (next(e for e in events if e['Type'] == t) for t in ('Committed', 'RetentionExtended'))
    assert (committed['StateBefore'], committed['State'], committed['Serial']) == ('open', 'retained', refusals[0]['Serial'])
    assert extended['UntilBefore'] == committed['Until'] < extended['Until']
    assert {e['Type']: (e.get('StateBefore'), e.get('State')) for e in events if 'Serial' in e and not e.get('Refused')} == {
        'Committed': ('open', 'retained'), 'RetentionExtended': ('retained', 'retained'), 'HoldPlaced': ('retained', 'retained'),
        'HoldReleased': ('retained', None), 'DeletedExpired': ('expired', None)}		# the last two are told before they are done
    p = ctl(share, 'replay', '--refused', '--type', 'Un*', '--path', 'f')
    assert len(p.out.splitlines()) == 1 and ' Unlink EPERM /f  (unlink: retained)' in p.out
    assert ctl(share, 'replay', '--uid', ALICE, check=False).returncode == 1


def test_a_lock_that_changes_says_what_it_was(mount):
    share = mount('retention=1d,events=on', clocked=True)
    write_file(share.at('log'), b'line')		# locked
    share.wait_state('log', 'retained')
    os.close(os.open(share.at('a'), os.O_CREAT | os.O_WRONLY))
    share.must('append', 'a')
    with open(share.at('a'), 'ab') as f:
        f.write(b'line')
    share.must('commit', 'a')
    share.now(5 * 86400)
    share.wait_state('log', 'expired')
    share.must('hold', 'log', case='c1')
    share.must('release', 'log', case='c1')
    os.setxattr(share.at('log'), 'user.worm.until', b'9d')
    told = {}
    for e in replay(share):
        if 'Serial' in e and not e.get('Refused'):
            told.setdefault(e['Path'], []).append((e['Type'], e.get('StateBefore'), e.get('State')))
    assert told == {'/log': [('Committed', 'open', 'retained'), ('HoldPlaced', 'expired', 'retained'), ('HoldReleased', 'retained', None),
                             ('RetentionExtended', 'expired', 'retained')],
                    '/a': [('Committed', 'open', 'appendable'), ('Committed', 'appendable', 'retained')]}


def test_mount_and_unmount_are_told_also_without_an_audit_log(mount):
    share = mount('commit=never,audit=off,events=on')
    share.remount()
    share.stop()
    events = replay(share)
    check_numbers(events)
    assert [(e['Type'], e['Session']) for e in events if e['Type'] in ('Mount', 'Unmount')] == [
        ('Mount', 1), ('Unmount', 1), ('Mount', 2), ('Unmount', 2)]


def test_any_name_is_valid_json_and_comes_back_exactly(mount):
    share = mount('commit=never,events=on')
    names = [b'new\nline', b'"quoted\\"', b'\xff\xfe', b'caf\xe9', 'größe 😀'.encode(), b'\x01\x7f', b'x' * 255, b"d'\x80\n\""]
    root = os.fsencode(share.at())
    for name in names:
        os.mkdir(os.path.join(root, name))
        os.symlink(name, os.path.join(root, name, b'l' + name[:200]))
    events = replay(share)
    assert [e['Name'] for e in events if e['Type'] == 'MKdir'] == names
    links = [e for e in events if e['Type'] == 'Symlink']
    assert [e['Target'] for e in links] == names
    assert [e['Name'] for e in links] == [n + b'/l' + n[:200] for n in names]
    assert all('PathBase64' not in e for e in events if e['Name'] == 'größe 😀'.encode())


# ---- the journal rebuilds the tree --------------------------------------------------------------

class Tree:
    """What the events say is there: path -> inode; inode -> what; inode -> (mode, owner, group); inode -> names of its attributes."""
    def __init__(self):
        self.names, self.nodes = {b'': 'root'}, {'root': ['dir', None, None]}
        self.rights, self.xattrs = {}, {}

    def move(self, old, new):
        moved = {p: e for p, e in self.names.items() if p == old or p.startswith(old + b'/')}
        for p in moved:
            del self.names[p]
        return {new + p[len(old):]: e for p, e in moved.items()}

    def apply(self, e):
        kind, name, key = e['Type'], e['Name'], e['EntryId']
        assert kind != 'Gap', 'incomplete: %d events are missing' % e['Lost']
        if 'Error' in e:
            return
        if 'Mode' in e and kind not in ('Unlink', 'RMdir'):
            self.rights[key] = (e['Mode'], e['Owner'], e['Group'])
        if kind == 'XattrSet':
            self.xattrs.setdefault(key, set()).add(e['Detail'])
        elif kind == 'XattrRemoved':
            self.xattrs[key].remove(e['Detail'])
        if kind == 'Create' and not e['Path']:
            self.nodes[key] = ['file', 0, None]		# O_TMPFILE: a Hardlink names it
        elif kind in ('Create', 'MKdir', 'MKnod', 'Symlink'):
            assert name not in self.names, e
            assert os.path.dirname(name) in self.names, e
            self.names[name] = key
            self.nodes[key] = [{'MKdir': 'dir', 'Symlink': 'link', 'Create': 'file', 'MKnod': 'node'}[kind], 0, e['Target']]
        elif kind == 'Hardlink':
            assert name not in self.names and key in self.nodes, e
            self.names[name] = key
        elif kind in ('Unlink', 'RMdir'):
            assert self.names.pop(name) == key, e
        elif kind == 'Rename':
            target = e['Target'].lstrip(b'/')
            assert self.names[name] == key, e
            if e.get('Exchange'):
                there, back = self.move(name, target), self.move(target, name)
                self.names.update(there)
                self.names.update(back)
            elif self.names.get(target) != key:	# two names of one file: rename(2) does nothing
                self.names.pop(target, None)
                self.names.update(self.move(name, target))
        elif kind in ('Truncate', 'LastWriterClosed', 'CloseAfterWrite') and key in self.nodes:
            self.nodes[key][1] = e.get('Size', 0)

    def listing(self):
        out = {}
        for path, key in self.names.items():
            kind, size, target = self.nodes[key]
            out[path] = (kind, size if kind == 'file' else None, target if kind == 'link' else None, self.rights.get(key),
                         sorted(self.xattrs.get(key, ())), key)
        return out


def listing_of(root):
    root = os.fsencode(root)
    out = {}
    for where, dirs, files in os.walk(root):
        for name in dirs + files + (['.'.encode()] if where == root else []):
            path = os.path.normpath(os.path.join(where, name))
            st = os.lstat(path)
            rel = b'' if path == root else os.path.relpath(path, root)
            kind = 'dir' if stat.S_ISDIR(st.st_mode) else 'link' if stat.S_ISLNK(st.st_mode) else 'file' if stat.S_ISREG(st.st_mode) else 'node'
            out[rel] = (kind, st.st_size if kind == 'file' else None, os.readlink(path) if kind == 'link' else None,
                        (st.st_mode, st.st_uid, st.st_gid),
                        sorted(x for x in os.listxattr(path, follow_symlinks=False) if x.startswith('user.t')), st.st_ino)
    return out


def scramble(root, seed, rounds):
    """Random changes below root, among few names so that they meet; what fails fails."""
    rng = random.Random(seed)
    dirs = ['.', 'a', 'b', 'a/c', 'b/d']

    def path():
        return os.path.join(root, rng.choice(dirs), 'n%d' % rng.randrange(6)) if rng.random() < 0.8 else os.path.join(root, rng.choice(dirs))

    def make():
        with open(path(), 'wb') as f:
            f.write(b'x' * rng.randrange(5000))

    def unnamed():
        with opened(root, os.O_TMPFILE | os.O_RDWR) as fd:
            os.write(fd, b'y' * rng.randrange(100))
            link_descriptor(fd, path())
    deeds = [make, make, make, lambda: os.mkdir(path()), lambda: os.mkdir(os.path.join(root, rng.choice(dirs))), lambda: os.unlink(path()),
             lambda: os.unlink(path()), lambda: os.rmdir(path()), lambda: os.rename(path(), path()), lambda: os.rename(path(), path()),
             lambda: os.link(path(), path(), follow_symlinks=False), lambda: os.symlink(path(), path()),
             lambda: os.truncate(path(), rng.randrange(9000)),
             lambda: renameat2(path(), path(), RENAME_EXCHANGE), lambda: os.mkfifo(path()), lambda: os.chmod(path(), rng.choice([0o755, 0o700, 0o644])), unnamed,
             lambda: os.chown(path(), rng.randrange(3), rng.randrange(3), follow_symlinks=False),
             lambda: os.mknod(path(), stat.S_IFSOCK | 0o600), lambda: os.setxattr(path(), 'user.t%d' % rng.randrange(3), b'v'),
             lambda: os.removexattr(path(), 'user.t%d' % rng.randrange(3))]
    for _ in range(rounds):
        with contextlib.suppress(OSError):
            rng.choice(deeds)()


def each_once(root):
    """What has to be among the random deeds, on what no lock is on yet."""
    at = functools.partial(os.path.join, root, 'each')
    for name in ('', 'old', 'empty', 'gone'):
        os.mkdir(at(name))
    with opened(at('file'), os.O_CREAT | os.O_RDWR) as fd:
        os.link(at('file'), at('second'))
        os.ftruncate(fd, 1234)
        os.fchmod(fd, 0o640)
        os.fchown(fd, 1, 2)
        os.setxattr(fd, 'user.t0', b'v')
        os.setxattr(fd, 'user.t1', b'v')
        os.removexattr(fd, 'user.t1')
    with opened(root, os.O_TMPFILE | os.O_RDWR) as fd:
        link_descriptor(fd, at('unnamed'))
    os.symlink('old', at('link'))
    os.mkfifo(at('fifo'))
    os.mknod(at('replaced'), stat.S_IFSOCK | 0o600)
    os.rename(at('fifo'), at('replaced'))
    os.rename(at('old'), at('empty'))
    renameat2(at('empty'), at('link'), RENAME_EXCHANGE)
    os.mkfifo(at('short'))
    os.unlink(at('short'))
    os.rmdir(at('gone'))


@pytest.mark.parametrize('options', ['commit=never', 'commit=close,retention=1d', 'commit=never,io_uring=no,passthrough=no'])
def test_the_journal_of_random_changes_rebuilds_the_tree(mount, options):
    seed = int(os.environ.get('WORMFS_TEST_SEED', random.randrange(1 << 30)))
    print('WORMFS_TEST_SEED=%d' % seed)
    share = mount(options + ',events=on')
    each_once(share.at())
    children = []
    for i in range(4):		# all in one tree
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)	# a FIFO that is opened for writing waits for a reader
            with contextlib.suppress(BaseException):
                scramble_no_fifo_wait(share.at(), seed + i, scaled(700))
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    share.settle()
    events = replay(share)
    check_numbers(events)
    assert len(events) > scaled(500)
    tree = Tree()
    for event in events:
        tree.apply(event)
    told, there = tree.listing(), listing_of(share.below())
    if told[b''][3] is None:	# nothing happened to the root itself
        there[b''] = there[b''][:3] + told[b''][3:5] + there[b''][5:]
    assert {p: v[:5] for p, v in told.items()} == {p: v[:5] for p, v in there.items()}
    # And nothing that this is about was missing.
    done = {(e['Type'], bool(e.get('Exchange')), not e['Path']) for e in events if 'Error' not in e}
    assert done >= {(t, False, False) for t in ('Create', 'MKdir', 'MKnod', 'Symlink', 'Hardlink', 'Unlink', 'RMdir', 'Rename', 'SetAttr',
                                                'Truncate', 'XattrSet', 'XattrRemoved')}
    assert ('Rename', True, False) in done and ('Create', False, True) in done
    # One file, one EntryId.
    pairs = {(told[p][5], there[p][5]) for p in there}
    assert len(pairs) == len({a for a, b in pairs}) == len({b for a, b in pairs})


def test_a_journal_that_was_overwritten_rebuilds_no_tree_and_says_so(mount):
    share = mount('commit=never,events=on,events_ring=1')
    for n in range(8000):
        os.mkdir(share.at(str(n)))
    share.must('sync')
    p = ctl(share, 'replay', '--from', '1', '--json', check=False)
    events = [event_of(line) for line in p.stdout.splitlines()]
    assert p.returncode == 1 and check_numbers(events) > 8000
    tree = Tree()
    with pytest.raises(AssertionError, match='incomplete: %d events' % events[0]['Lost']):
        tree.apply(events[0])


def scramble_no_fifo_wait(root, seed, rounds):
    real = open

    def guarded(path, mode):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
        return os.fdopen(fd, mode)
    scramble.__globals__['open'] = guarded
    try:
        scramble(root, seed, rounds)
    finally:
        scramble.__globals__['open'] = real
