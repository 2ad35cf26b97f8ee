"""The event stream on a mount: every change, lock and refusal is told, in order; what is missing is counted; consumers
that stall, die or come back hold up nobody. Decoders of BeeGFS's packets here are written from the format alone."""
import base64
import contextlib
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

import pytest

from harness import (ALICE, RENAME_EXCHANGE, WORMCTL, Refused, as_user, daemon_environment, errno_of, link_descriptor, open_errno, opened,
                     read_file, renameat2, run, scaled, wait_for, write_file)

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


def ctl(share, verb, *args, **kwargs):
    return run(WORMCTL, 'events', verb, *args, '--state-dir', share.state, **kwargs)


def replay(share, *args):
    """Events of the ring, each with its Seq and a Name (bytes)."""
    out = ctl(share, 'replay', '--json', *args, check=False).stdout
    return [event_of(line) for line in out.splitlines()]


def event_of(line):
    root = json.loads(line.decode('utf-8'))		# strictly UTF-8
    event = dict(root['Event'], Seq=root['Seq'], Session=root['Session'])
    event['Name'] = exact(event, 'Path').lstrip(b'/')
    event['Target'] = exact(event, 'TargetPath')
    return event


def exact(event, key):
    if key + 'Base64' in event:
        return base64.b64decode(event[key + 'Base64'], validate=True)
    return event[key].encode('utf-8')


def check_numbers(events, first=1):
    """Without a gap, none twice."""
    for event in events:
        assert event['Seq'] == first
        first += event.get('Lost', 1)
    return first


def brief(event):
    return (event['Type'], event['Path']) + ((event['Error'],) if 'Error' in event else ())


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
    d = share.at()
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
    p = ctl(share, 'replay', '--refused', '--type', 'Un*', '--path', 'f')
    assert len(p.out.splitlines()) == 1 and ' Unlink EPERM /f  (unlink: retained)' in p.out
    assert ctl(share, 'replay', '--uid', ALICE, check=False).returncode == 1


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


# ---- the journal rebuilds the tree ---------------------------------------------------------------

class Tree:
    """What the events say is there: path -> inode; inode -> what."""
    def __init__(self):
        self.names, self.nodes = {b'': 'root'}, {'root': ['dir', None, None]}

    def move(self, old, new):
        moved = {p: e for p, e in self.names.items() if p == old or p.startswith(old + b'/')}
        for p in moved:
            del self.names[p]
        return {new + p[len(old):]: e for p, e in moved.items()}

    def apply(self, e):
        kind, name, key = e['Type'], e['Name'], e['EntryId']
        if 'Error' in e:
            return
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
            out[path] = (kind, size if kind == 'file' else None, target if kind == 'link' else None, key)
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
            out[rel] = (kind, st.st_size if kind == 'file' else None, os.readlink(path) if kind == 'link' else None, st.st_ino)
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
             lambda: renameat2(path(), path(), RENAME_EXCHANGE), lambda: os.mkfifo(path()), lambda: os.chmod(path(), 0o755), unnamed]
    for _ in range(rounds):
        with contextlib.suppress(OSError):
            rng.choice(deeds)()


def open_not_fifo(path):
    return not stat.S_ISFIFO(os.lstat(path).st_mode)


@pytest.mark.parametrize('options', ['commit=never', 'commit=close,retention=1d', 'commit=never,io_uring=no,passthrough=no'])
def test_the_journal_of_random_changes_rebuilds_the_tree(mount, options):
    seed = int(os.environ.get('WORMFS_TEST_SEED', random.randrange(1 << 30)))
    print('WORMFS_TEST_SEED=%d' % seed)
    share = mount(options + ',events=on')
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
    assert {p: v[:3] for p, v in told.items()} == {p: v[:3] for p, v in there.items()}
    # One file, one EntryId.
    pairs = {(told[p][3], there[p][3]) for p in there}
    assert len(pairs) == len({a for a, b in pairs}) == len({b for a, b in pairs})


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


# ---- consumers ----------------------------------------------------------------------------------

class Load:
    """Threads that make and remove directories until told to stop; `count` events in all."""
    def __init__(self, share, threads=2):
        self.share, self.count, self.lock, self.stopping = share, 0, threading.Lock(), False
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]

    def run(self, i):
        n = 0
        while not self.stopping:
            for _ in range(10):
                os.mkdir(self.share.at('t%d-%d' % (i, n)))
                n += 1
            with self.lock:
                self.count += 10

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stopping = True
        for t in self.threads:
            t.join()

    def after(self, more):
        want = self.count + more
        wait_for('%d more events' % more, lambda: self.count >= want)


def test_a_consumer_that_is_killed_goes_on_without_loss_or_repeat(mount):
    share = mount('commit=never,events=on')
    got, last = [], 0
    with Load(share) as load:
        for round in range(5):
            p = subprocess.Popen([WORMCTL, 'events', 'tail', '--json', '--from', str(last + 1), '--state-dir', share.state],
                                 stdout=subprocess.PIPE, env=daemon_environment())
            for _ in range(200):
                line = p.stdout.readline()
                got.append(event_of(line))
                last = got[-1]['Seq']
            load.after(100)
            p.kill()
            p.stdout.close()
            p.wait()
    got += replay(share, '--from', str(last + 1))
    check_numbers(got)
    assert len([e for e in got if e['Type'] == 'MKdir']) == load.count


def test_a_file_is_whole_after_the_daemon_was_killed(mount):
    share = mount('commit=never', start=False)
    lines = os.path.join(share.dir, 'lines')
    share.start('commit=never,events=json:%s' % lines)
    made = 0
    for round in range(4):
        with contextlib.suppress(OSError):
            for n in range(300 + round * 111):
                os.mkdir(share.at('r%d-%d' % (round, n)))
                made += 1
        share.kill9()
        with open(lines, 'ab') as f:	# and it died within a line
            f.write(b'{"VersionMajor":1,"Seq":9')
        share.start()
    share.stop()
    with open(lines, 'rb') as f:
        events = [event_of(line) for line in f]
    check_numbers(events)
    told = len([e for e in events if e['Type'] == 'MKdir'])
    lost = sum(e['Lost'] for e in events if e['Type'] == 'Gap')
    assert told + lost >= made and told <= made and lost < 2000
    assert events == replay(share)


def test_a_file_that_is_rotated_is_made_anew(mount):
    share = mount('commit=never', start=False)
    lines = os.path.join(share.dir, 'lines')
    share.start('commit=never,events=json:%s' % lines)
    os.mkdir(share.at('a'))
    wait_for('a line', lambda: os.path.exists(lines) and b'"/a"' in read_file(lines))
    os.rename(lines, lines + '.1')

    def turned():
        with contextlib.suppress(FileExistsError):
            os.mkdir(share.at('d%d' % time.monotonic_ns()))
        return os.path.exists(lines) and os.path.getsize(lines)
    wait_for('a new file', turned)
    share.stop()
    with open(lines + '.1', 'rb') as f, open(lines, 'rb') as g:
        check_numbers([event_of(line) for line in f.readlines() + g.readlines()])


def test_a_fifo_without_a_reader_holds_up_nobody_and_gets_all_of_it(mount):
    share = mount('commit=never', start=False)
    fifo = os.path.join(share.dir, 'fifo')
    os.mkfifo(fifo)
    share.allowed.append('nobody is there')
    share.start('commit=never,events=json:%s' % fifo)
    for n in range(2000):		# some 10 times what a pipe holds
        os.mkdir(share.at(str(n)))
    with open(fifo, 'rb') as f:
        events = [event_of(f.readline()) for _ in range(2001)]
    check_numbers(events)
    assert len([e for e in events if e['Type'] == 'MKdir']) >= 1998


def test_stdout_gets_lines_in_the_foreground_only(mount):
    share = mount('commit=never,events=json:-')
    os.mkdir(share.at('a'))
    wait_for('a line on stdout', lambda: '"/a"' in share.log_text())
    share.stop()
    p = run(*share.argv(foreground=False), check=False)
    assert p.returncode == 2 and 'add -f' in p.err


# ---- BeeGFS -------------------------------------------------------------------------------------

def strings(data, at, count):
    out = []
    for _ in range(count):
        n, = struct.unpack_from('<I', data, at)
        out.append(data[at + 4:at + 4 + n])
        assert data[at + 4 + n] == 0
        at += 5 + n
    return out, at


def decode7(data):
    major, minor, size, dropped, missed, kind = struct.unpack_from('<HHIQQI', data)
    assert (major, minor, size) == (1, 0, len(data))
    texts, end = strings(data, 28, 5)
    assert end == len(data)
    return kind, dropped, missed, texts


def decode8(data):
    assert data[1:8] == b'events\0'
    kind, body = data[0], data[8:]
    if kind != 8:
        return kind, body
    msn, n = struct.unpack_from('<QH', body)
    assert n == len(body) - 10 and len(data) <= 1024
    version, flags, links, what = struct.unpack_from('<HIQI', body, 10)
    assert version == 2 and flags == 0
    texts, end = strings(body, 28, 5)
    uid, when = struct.unpack_from('<Iq', body, end)
    assert end + 12 == len(body) and abs(when / 1e9 - time.time()) < 600
    return kind, (msn, what, links, texts, uid)


class Listener:
    """A listener as BeeGFS has it: binds, and one metadata server connects."""
    def __init__(self, path):
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(path)
        self.socket.listen(1)
        self.socket.settimeout(15)

    def accept(self):
        peer = self.socket.accept()[0]
        peer.settimeout(15)
        return peer

    def close(self):
        self.socket.close()
        os.unlink(self.path)


@pytest.fixture
def socket_path(tmp_path):
    return str(tmp_path / 's')	# sun_path has 108 bytes


def test_beegfs_7_gets_its_packets_and_what_nobody_heard_is_counted_exactly(mount, socket_path):
    share = mount('commit=never,audit=off', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,audit=off,events=beegfs7:unix:%s' % socket_path)
    received, dropped, names = 0, 0, set()
    with Load(share) as load:
        for round in range(4):
            load.after(50)
            listener = Listener(socket_path)
            peer = listener.accept()
            for _ in range(300):
                kind, dropped, missed, texts = decode7(peer.recv(65536))
                assert kind == 5 and missed == 0	# MKdir of version 7
                names.add(texts[2])
                received += 1
            # It goes away under load: what has come is read, what comes now is nobody's.
            peer.shutdown(socket.SHUT_RDWR)
            while True:
                data = peer.recv(65536)
                if not data:
                    break
                names.add(decode7(data)[3][2])
                received += 1
            peer.close()
            listener.close()
    share.must('sync')
    listener = Listener(socket_path)
    peer = listener.accept()
    os.mkdir(share.at('last'))
    while b'/last' not in names:
        kind, dropped, missed, texts = decode7(peer.recv(65536))
        names.add(texts[2])
        received += 1
    assert received + dropped == load.count + 1
    assert received == len(names) and dropped > 0
    peer.close()
    listener.close()


def test_beegfs_8_goes_on_where_a_killed_listener_left_off(mount, socket_path):
    share = mount('commit=never', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=beegfs8:%s' % socket_path)
    listener = Listener(socket_path)
    following, names = 1, []

    def hello(peer):
        kind, body = decode8(peer.recv(1024))
        assert kind == 2 and struct.unpack('<HHIH', body)[:2] == (2, 0)
        peer.send(b'\x01events\0' + struct.pack('<HH', 2, 0))
        peer.send(b'\x05events\0')
        kind, body = decode8(peer.recv(1024))
        newest, oldest = struct.unpack('<QQ', body)
        assert kind == 6 and oldest == 1 and newest >= following
        peer.send(b'\x07events\0' + struct.pack('<Q', following))
    with Load(share) as load:
        for round in range(3):
            peer = listener.accept()
            hello(peer)
            for _ in range(400):
                kind, (msn, what, links, texts, uid) = decode8(peer.recv(1024))
                assert kind == 8 and msn == following and what == 6 and uid == 0
                following += 1
                names.append(texts[2])
            peer.close()	# with unread packets in it, as by a kill
    peer = listener.accept()
    hello(peer)
    while len(names) < load.count:
        kind, (msn, what, links, texts, uid) = decode8(peer.recv(1024))
        assert msn == following
        following += 1
        names.append(texts[2])
    assert len(set(names)) == load.count
    peer.send(b'\x09events\0')
    assert decode8(peer.recv(1024)) == (10, b'\0')
    assert peer.recv(10) == b''
    peer.close()
    listener.close()


@pytest.mark.parametrize('version', [7, 8])
def test_wormctl_listens_as_the_listener_of_beegfs_does(mount, socket_path, version):
    share = mount('retention=1y', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('retention=1y,events=beegfs%d:%s' % (version, socket_path))
    p = subprocess.Popen([WORMCTL, 'events', 'listen', '--count', '4', socket_path], stdout=subprocess.PIPE, env=daemon_environment())
    connected = lambda: share.info()['events']['sinks'][0]['error'] is None
    wait_for('the daemon to connect', connected)
    time.sleep(0)
    share.must('sync')
    if version == 8:	# it has asked for what comes when it has its answer
        wait_for('the stream', lambda: mkdir_until(share, p))
    else:
        os.mkdir(share.at('d'))
        os.rename(share.at('d'), share.at('e\nf'))
        os.mkdir(share.at('g'))
        os.rmdir(share.at('g'))
    out = p.communicate(timeout=20)[0]
    lines = [json.loads(line) for line in out.splitlines()]
    assert p.returncode == 0 and len(lines) == 4
    assert all(l['VersionMajor'] == (1 if version == 7 else 2) and l['VersionMinor'] == 0 for l in lines)
    if version == 7:
        assert [l['Event']['Type'] for l in lines] == ['MKdir', 'Rename', 'MKdir', 'RMdir']
        assert lines[1]['Event']['TargetPath'] == '/e\nf' and lines[0]['Event']['ParentEntryId'] == 'root'
        assert lines[0]['Event']['EntryId'] == lines[1]['Event']['EntryId']
    else:
        assert [l['Msn'] for l in lines] == list(range(lines[0]['Msn'], lines[0]['Msn'] + 4))
    assert not os.path.exists(socket_path)


def mkdir_until(share, p):
    os.mkdir(share.at('d%d' % time.monotonic_ns()))
    return p.poll() is not None


def test_a_refused_open_is_blocked_for_beegfs_8_and_locks_are_not_its_business(mount, socket_path):
    share = mount('retention=1y', start=False)
    share.allowed.append('nobody is there|connection is gone')
    share.start('retention=1y,events=beegfs8:%s' % socket_path)
    listener = Listener(socket_path)
    peer = listener.accept()
    assert decode8(peer.recv(1024))[0] == 2
    peer.send(b'\x01events\0' + struct.pack('<HH', 2, 0))
    peer.send(b'\x07events\0' + struct.pack('<Q', 1))
    write_file(share.at('f'))
    assert open_errno(share.at('f'), os.O_RDWR) == 'EPERM'
    assert errno_of(os.unlink, share.at('f')) == 'EPERM'	# did not happen: not told
    os.mkdir(share.at('d'))
    got = [decode8(peer.recv(1024))[1] for _ in range(4)]
    assert [(msn, what, texts[2]) for msn, what, links, texts, uid in got] == [(1, 5, b'/f'), (2, 16, b'/f'), (3, 17, b'/f'), (4, 6, b'/d')]
    peer.close()
    listener.close()


def test_decode_prints_golden_packets_and_says_what_is_none(tmp_path):
    golden = ('010000004d000000000000000000000000000000000000000b0000000c000000302d35413945423043412d310004000000726f6f74000200'
              '00002f61000200''00002f620004000000726f6f7400')
    raw = tmp_path / 'packet'
    raw.write_bytes(bytes.fromhex(golden))
    p = run(WORMCTL, 'events', 'decode', '--raw', raw)
    assert json.loads(p.out) == {
        'VersionMajor': 1, 'VersionMinor': 0, 'PacketSize': 77, 'Dropped': 0, 'Missed': 0,
        'Event': {'Type': 'Rename', 'Path': '/a', 'EntryId': '0-5A9EB0CA-1', 'ParentEntryId': 'root', 'TargetPath': '/b',
                  'TargetParentId': 'root'}}
    lines = tmp_path / 'lines'
    lines.write_text(golden + '\n0a6576656e74730001\nnothing\n0102\n')
    p = run(WORMCTL, 'events', 'decode', lines, check=False)
    assert p.returncode == 1 and len(p.out.splitlines()) == 2
    assert json.loads(p.out.splitlines()[1]) == {'Packet': 'Close', 'PacketSize': 9, 'Reason': 1}
    assert 'line 3: write a packet a line, in hexadecimal' in p.err and 'line 4: 2 bytes' in p.err


# ---- the ring, and who is told -------------------------------------------------------------------

def test_an_overwritten_event_is_a_gap_and_stats_add_up(mount):
    share = mount('commit=never,events=on,events_ring=1')
    for n in range(8000):
        os.mkdir(share.at(str(n)))
    share.must('sync')
    stats = json.loads(ctl(share, 'stats', '--json').out)
    assert stats['noted'] == stats['next'] - 1 >= 8000 and stats['dropped'] == 0 and stats['oldest'] > 1
    p = ctl(share, 'replay', '--from', '1', '--json', check=False)
    events = [event_of(line) for line in p.stdout.splitlines()]
    assert p.returncode == 1 and events[0]['Type'] == 'Gap' and events[0]['Detail'] == 'overwritten'
    assert check_numbers(events) == stats['next']
    first = replay(share)[0]['Seq']
    assert first == stats['oldest'] == events[0]['Lost'] + 1


def test_consumers_and_state_are_shown(mount, socket_path):
    share = mount('commit=never', start=False)
    lines = os.path.join(share.dir, 'lines')
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=json:%s,events=beegfs7:%s' % (lines, socket_path))
    os.mkdir(share.at('a'))
    share.must('sync')
    following = json.loads(ctl(share, 'stats', '--json').out)['next']

    def consumers():
        return {c['consumer']: c for c in map(json.loads, ctl(share, 'consumers', '--json').out.splitlines())}
    wait_for('both to be at the end', lambda: all(c['behind'] == 0 for c in consumers().values()))
    c = consumers()
    assert c['json:' + lines]['state'] == 'connected' and c['json:' + lines]['sent'] == following - 1
    assert c['beegfs7:' + socket_path]['state'] == 'ENOENT' and c['beegfs7:' + socket_path]['dropped'] == 1
    events = share.info()['events']
    assert (events['state'], events['strict'], events['next']) == ('ok', False, following) and len(events['sinks']) == 2
    share.stop()
    assert consumers()['json:' + lines]['state'] == 'unused'
    assert 'closed' in ctl(share, 'stats').out


def test_strict_waits_for_a_reader_and_loses_nothing(mount):
    share = mount('commit=never', start=False)
    fifo = os.path.join(share.dir, 'fifo')
    os.mkfifo(fifo)
    share.allowed.append('nobody is there|connection is gone')
    share.start('commit=never,events=json:%s,events=strict,events_ring=1' % fifo)
    total = 45000		# more than queue, ring and pipe hold
    maker = threading.Thread(target=lambda: [os.mkdir(share.at(str(n))) for n in range(total)])
    maker.start()

    def stats():		# not through the mount: whoever waits there holds up others
        return json.loads(run(WORMCTL, 'events', 'stats', '--json', '--state-dir', share.state).out)

    def stalls():
        before = stats()['noted']
        time.sleep(0.3)
        return stats()['noted'] == before > 10000
    wait_for('the writer to be held up', stalls, 60)
    assert maker.is_alive() and stats()['dropped'] == 0
    with open(fifo, 'rb') as f:
        numbers, made = [], 0
        while made < total:
            line = f.readline()
            numbers.append(json.loads(line)['Seq'])
            made += b'"MKdir"' in line
    maker.join()
    assert numbers == list(range(1, len(numbers) + 1))
