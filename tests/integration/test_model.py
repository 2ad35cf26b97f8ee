"""Property tests: random sequences of operations on a mount, each errno and the content compared with a model of the state
machine. The model knows the table of the README, which it reads, and nothing of the daemon.

A run is bounded by time (WORMFS_TEST_MODEL_S, 25 s; 900 s with WORMFS_TEST_SOAK=1). WORMFS_TEST_SEED=N repeats one; the seed and, after a
failure, a shortened list of operations are printed. What was found that way is in FOUND."""
import mmap
import os
import random
import re
import time

import pytest

from harness import (DAY, FS_IMMUTABLE_FL, ROOT, SOAK, errno_name, fallocate, get_flags, set_flags, wait_for,
                     write_file)

SECONDS = float(os.environ.get('WORMFS_TEST_MODEL_S', 900 if SOAK else 25))
SEED = int(os.environ.get('WORMFS_TEST_SEED', 0)) or random.SystemRandom().randrange(1 << 32)
NAMES = ['a', 'b', 'c', 'x.part']
ANY_WRITE = 0o222
ACCESS = {'r': os.O_RDONLY, 'w': os.O_WRONLY, 'rw': os.O_RDWR}
EXTRA = {'': 0, 'append': os.O_APPEND, 'trunc': os.O_TRUNC, 'creat': os.O_CREAT, 'creat trunc': os.O_CREAT | os.O_TRUNC,
         'creat append': os.O_CREAT | os.O_APPEND, 'creat excl': os.O_CREAT | os.O_EXCL}


def read_table():
    """{row of the README's errno table: {state: errno or 'ok'}}"""
    with open(os.path.join(ROOT, 'README.md'), encoding='utf-8') as f:
        text = f.read().split('<!-- errno-table: ', 1)[1].split('<!-- errno-table end -->')[0]
    rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in re.sub(r'\\\|', '/', text).split('\n') if line.startswith('| ')]
    return {row[0]: dict(zip(rows[0][1:], row[1:])) for row in rows[1:]}


TABLE = read_table()


def row(start):
    """The one row that begins so."""
    found = [r for r in TABLE if r.startswith(start)]
    assert len(found) == 1, start
    return TABLE[found[0]]


ROWS = {name: row(start) for name, start in {
    'open': 'open with O_WRONLY', 'open append': 'open for writing with O_APPEND', 'write': 'write on a handle', 'append': 'write at the end',
    'truncate': 'truncate (', 'ftruncate': 'ftruncate', 'fallocate': 'fallocate, every', 'copy': 'copy_file_range', 'unlink': 'unlink',
    'rename': 'rename away', 'replace': 'rename onto', 'link': 'link', 'chmod -w': 'chmod that only removes', 'chmod +w': 'chmod that only adds',
    'chmod': 'any other chmod', 'chown': 'chown', 'utime': 'utimensat', 'xattr': 'setxattr', 'make append': 'make it append-only',
    'commit': 'commit (', 'extend': 'extend', 'hold': 'place a hold', 'release': 'release a hold'}.items()}


class Refusal(Exception):
    pass


def refuse_unless(condition, errno):
    if not condition:
        raise Refusal(errno)


class File:
    """What the model knows of an inode."""
    def __init__(self, mode):
        self.data, self.mode, self.version = bytearray(), mode, 0
        self.names = 1
        self.locked = self.append = self.lock_at_close = False
        self.until_s = None		# None: unspecified
        self.settles_s = 0		# until then times, mode, name and so on may be set
        self.holds = set()
        self.xattr = False
        self.first = None		# how the oldest of its handles was opened
        self.handles = []

    def writers(self):
        return sum(1 for h in self.handles if h.writer)


class Handle:
    def __init__(self, file, flags):
        self.file, self.flags = file, flags
        self.writer = flags & os.O_ACCMODE != os.O_RDONLY
        self.reader = flags & os.O_ACCMODE != os.O_WRONLY
        self.version = file.version		# what the file was when it was opened
        self.direct = file.append
        self.fds = []
        self.pos = 0


class Model:
    def __init__(self, base_s, settle_s=0):
        self.names = {}
        self.settle_s = settle_s
        self.base_s, self.offset_s = base_s, 0

    def now(self):
        return self.base_s + self.offset_s

    def state(self, f):
        if not f.locked:
            return 'open'
        if f.append:
            return 'appendable'
        if f.closing:
            return 'closing'
        if not f.holds and f.until_s is not None and f.until_s <= self.now():
            return 'expired'
        return 'settling' if not f.holds and f.settles_s > self.now() else 'retained'

    def check(self, f, what):
        verdict = ROWS[what][self.state(f)]
        refuse_unless(verdict == 'ok', verdict)

    def find(self, name):
        refuse_unless(name in self.names, 'ENOENT')
        return self.names[name]

    def lock(self, f):
        f.locked, f.closing = True, f.writers() > 0
        f.until_s, f.settles_s = self.now() + DAY, self.now() + self.settle_s

    def is_governed(self, f):
        return all(not n.endswith('.part') for n, g in self.names.items() if g is f)

    def change(self, f, data):
        f.data[:] = data
        f.version += 1

    # -- one method an operation: what happens, or Refusal

    def open(self, name, access, extra):
        flags = ACCESS[access] | EXTRA[extra]
        f = self.names.get(name)
        refuse_unless(f or flags & os.O_CREAT, 'ENOENT')
        refuse_unless(not f or not flags & os.O_EXCL, 'EEXIST')
        # After a first writer of its own, and with a reader that stays, the end of one that may map it is seen when
        # that reader leaves (lock_probe_writers): closing, which is safe, for as long as that takes.
        if f and not f.handles:
            f.first = access
        refuse_unless(not (f and access == 'rw' and f.first == 'w'), 'skip')
        truncates, writes = f and flags & os.O_TRUNC, access != 'r'
        if f:
            if writes or truncates:
                self.check(f, 'open append' if flags & os.O_APPEND and not truncates else 'open')
            refuse_unless(not (writes and f.append and any(not h.direct for h in f.handles)), 'EBUSY')
        else:
            f = self.names[name] = File(0o644)
            f.first = access
        h = Handle(f, flags)
        if truncates:
            self.change(f, b'')		# for this handle as well, also when it was empty
        f.handles.append(h)
        return h

    def flush(self, h):
        """What close(2) of one descriptor does: a changed file is locked now."""
        f = h.file
        locks = f.names > 0 and f.data and (f.lock_at_close or self.is_governed(f))
        if h.writer and h.version != f.version and locks and not f.locked:
            self.lock(f)
            f.closing = True

    def close(self, h):
        f = h.file
        self.flush(h)
        if len(h.fds) == 1:
            f.handles.remove(h)
            if h.writer and f.writers() == 0:
                if f.append and f.lock_at_close:
                    self.finalise(f)
                f.closing = f.lock_at_close = False

    def finalise(self, f):
        f.append = False
        f.until_s = max(f.until_s, self.now() + DAY)

    def write_at(self, h, offset, data):
        f = h.file
        refuse_unless(h.writer, 'EBADF')
        end = len(f.data)
        if h.flags & os.O_APPEND:
            offset = end
        self.check(f, 'append' if offset == end else 'write')
        if data:
            new = bytes(f.data).ljust(offset, b'\0')
            self.change(f, new[:offset] + data + new[offset + len(data):])
        return offset + len(data)

    def truncate(self, name, size):
        f = self.find(name)
        self.check(f, 'truncate')
        self.change(f, bytes(f.data[:size]).ljust(size, b'\0'))

    def ftruncate(self, h, size):
        refuse_unless(h.writer, 'EINVAL')
        self.check(h.file, 'ftruncate')
        self.change(h.file, bytes(h.file.data[:size]).ljust(size, b'\0'))

    def fallocate(self, h, mode, offset, length):
        f = h.file
        refuse_unless(h.writer, 'EBADF')
        grows = mode == 0 and offset >= len(f.data)
        self.check(f, 'append' if f.append and grows else 'fallocate')
        data = bytes(f.data)
        if mode == 0:
            self.change(f, data.ljust(offset + length, b'\0'))
        else:			# PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE
            end = min(offset + length, len(data))
            self.change(f, data[:offset] + b'\0' * max(0, end - offset) + data[end:] if offset < len(data) else data)

    def copy(self, source, h, offset, length):
        refuse_unless(source.reader and h.writer and not h.flags & os.O_APPEND, 'EBADF')
        refuse_unless(source.file is not h.file, 'skip')		# overlapping: not our business
        data = bytes(source.file.data[:length])
        self.check(h.file, 'copy')
        if data:
            new = bytes(h.file.data).ljust(offset, b'\0')
            self.change(h.file, new[:offset] + data + new[offset + len(data):])

    def store(self, h):
        """mmap, one byte, munmap, and the duplicate of the descriptor that Python's mmap has meanwhile is closed."""
        f = h.file
        refuse_unless(f.data, 'skip')
        errno = 'EACCES' if not (h.reader and h.writer) else 'ENODEV' if h.direct else None
        if not errno:
            self.change(f, b'M' + bytes(f.data[1:]))
        self.flush(h)
        refuse_unless(not errno, errno)

    def unlink(self, name):
        f = self.find(name)
        self.check(f, 'unlink')
        del self.names[name]
        f.names -= 1
        if f.names and name.endswith('.part') and not f.writers() and f.data and not f.locked and self.is_governed(f):
            self.lock(f)

    def rename(self, old, new):
        f, g = self.find(old), self.names.get(new)
        if f is g:
            return		# of one file: nothing is done, says rename(2)
        refuse_unless(f.names == 1 or not new.endswith('.part'), 'skip')	# names of both kinds: which counts is not said
        self.check(f, 'rename')
        if g:
            self.check(g, 'replace')
            g.names -= 1
        del self.names[old]
        self.names[new] = f
        if old.endswith('.part') and not new.endswith('.part') and not f.writers() and f.data and not f.locked:
            self.lock(f)

    def link(self, old, new):
        f = self.find(old)
        refuse_unless(new not in self.names, 'EEXIST')
        self.check(f, 'link')
        self.names[new] = f
        f.names += 1

    def chmod(self, name, mode):
        f = self.find(name)
        removed, added = f.mode & ~mode, mode & ~f.mode
        if f.locked and not f.append and not f.data and not f.holds and not f.mode & ANY_WRITE and added and \
                not added & ~ANY_WRITE and not removed and self.state(f) in ('retained', 'settling'):
            f.append, f.mode, f.settles_s = True, mode, 0	# SnapLock's way
            return
        what = 'chmod -w' if not added and not removed & ~ANY_WRITE else 'chmod +w' if not removed and not added & ~ANY_WRITE else 'chmod'
        self.check(f, what)
        if f.locked and not f.append:
            if self.state(f) == 'settling':
                f.mode = mode
            return
        last = f.mode & ANY_WRITE and not mode & ANY_WRITE
        f.mode = mode
        if last and f.writers():
            f.lock_at_close = True
        elif last and f.append:
            self.finalise(f)
        elif last:
            self.lock(f)

    def chown(self, name):
        self.check(self.find(name), 'chown')

    def utime(self, name):
        self.check(self.find(name), 'utime')

    def setxattr(self, name):
        f = self.find(name)
        self.check(f, 'xattr')
        f.xattr = True

    def removexattr(self, name):
        f = self.find(name)
        self.check(f, 'xattr')
        refuse_unless(f.xattr, 'ENODATA')
        f.xattr = False

    def commit(self, name, how):
        f = self.find(name)
        self.check(f, 'commit')
        if f.locked and not f.append:
            return
        refuse_unless(not f.writers(), 'EBUSY')
        self.finalise(f) if f.append else self.lock(f)

    def make_append(self, name):
        f = self.find(name)
        self.check(f, 'make append')
        if f.append:
            return
        refuse_unless(not f.writers(), 'EBUSY')
        self.lock(f)
        f.append, f.settles_s = True, 0

    def extend(self, name, days):
        f = self.find(name)
        self.check(f, 'extend')
        until_s = self.base_s + days * DAY
        refuse_unless(until_s >= f.until_s, 'EPERM')
        refuse_unless(until_s == f.until_s or until_s > self.now(), 'EINVAL')
        f.until_s = until_s

    def hold(self, name, case):
        f = self.find(name)
        self.check(f, 'hold')
        refuse_unless(case not in f.holds, 'EEXIST')
        f.holds.add(case)

    def release(self, name, case):
        f = self.find(name)
        self.check(f, 'release')
        refuse_unless(case in f.holds, 'ENOENT')
        f.holds.discard(case)


# ---- the same on a mount ------------------------------------------------------------------------

class Mismatch(Exception):
    pass


class Run:
    """One sequence in a directory of its own."""
    count = 0

    def __init__(self, share):
        settle = re.search(r'settle=(\d+)', share.options or '')
        Run.count += 1
        self.share, self.dir = share, 's%d' % Run.count
        share.now(0)
        self.model = Model(int(time.time()), int(settle.group(1)) if settle else 0)
        self.handles = []
        os.mkdir(share.at(self.dir))
        # One that was there before, as below a share that is mounted for the first time.
        write_file(share.below(self.dir, 'b'), b'from before', 0o644)
        self.model.names['b'] = File(0o644)
        self.model.names['b'].data += b'from before'

    def at(self, name):
        return self.share.at(self.dir, name)

    def do(self, op):
        """Both, and compares. Operations without their handle are left out."""
        name, args = op[0], list(op[1:])
        if name in HANDLE_OPS:
            nhandles = HANDLE_OPS[name]
            if not self.handles:
                return
            args[:nhandles] = [self.handles[i % len(self.handles)] for i in args[:nhandles]]
        special = getattr(self, 'on_' + name, None)
        if special and special(*args) == 'done':
            return self.compare(op)
        try:
            result, expected = getattr(self.model, name)(*args) if hasattr(self.model, name) else None, 'OK'
        except Refusal as e:
            result, expected = None, e.args[0]
        if expected == 'skip':
            return
        try:
            got = getattr(self, 'do_' + name)(*args, result=result) or 'OK'
        except OSError as e:
            got = errno_name(e.errno)
        if got != expected:
            raise Mismatch('%r: %s, expected %s' % (op, got, expected))
        self.compare(op)

    # what the model calls `result` is its new handle, or the position

    def do_open(self, name, access, extra, result):
        fd = os.open(self.at(name), ACCESS[access] | EXTRA[extra], 0o644)
        if result is None:
            os.close(fd)
            return 'OK'
        result.fds.append(fd)
        self.handles.append(result)

    def do_write_at(self, h, offset, data, result):
        if h.flags & os.O_APPEND:
            os.write(h.fds[0], data)
        else:
            os.pwrite(h.fds[0], data, offset)

    def on_dup(self, h):
        h.fds.append(os.dup(h.fds[0]))
        return 'done'

    def on_close(self, h):
        self.model.close(h)
        os.close(h.fds.pop())
        if not h.fds:
            self.handles.remove(h)
        self.settle()
        return 'done'

    def on_clock(self, days):
        # What was locked has its line: the log relies on no minute before a kill, and outside of tests the clock does not jump out of it.
        self.share.must('sync')
        self.model.offset_s += days * DAY
        self.share.now(self.model.offset_s)
        return 'done'

    def on_restart(self, how):
        if how == 'remount':
            for h in list(self.handles):
                for _ in list(h.fds):
                    self.on_close(h)
            self.share.remount()
        else:
            self.share.kill9(unmount=False)
            for h in self.handles:
                for fd in h.fds:
                    try:
                        os.close(fd)
                    except OSError:
                        pass
                f = h.file
                f.handles.clear()
                f.closing = f.lock_at_close = False
            self.handles.clear()
            self.share.unmount_dead()
            self.share.start()
        self.settle()
        return 'done'

    def do_truncate(self, name, size, result):
        os.truncate(self.at(name), size)

    def do_ftruncate(self, h, size, result):
        os.ftruncate(h.fds[0], size)

    def do_fallocate(self, h, mode, offset, length, result):
        fallocate(h.fds[0], mode, offset, length)

    def do_copy(self, source, h, offset, length, result):
        os.copy_file_range(source.fds[0], h.fds[0], length, 0, offset)

    def do_store(self, h, result):
        with mmap.mmap(h.fds[0], 0) as m:
            m[0:1] = b'M'
            m.flush()

    def do_unlink(self, name, result):
        os.unlink(self.at(name))

    def do_rename(self, old, new, result):
        os.rename(self.at(old), self.at(new))

    def do_link(self, old, new, result):
        os.link(self.at(old), self.at(new))

    def do_chmod(self, name, mode, result):
        os.chmod(self.at(name), mode)

    def do_chown(self, name, result):
        os.chown(self.at(name), 0, 0)

    def do_utime(self, name, result):
        os.utime(self.at(name), (1, 1))

    def do_setxattr(self, name, result):
        os.setxattr(self.at(name), 'user.x', b'x')

    def do_removexattr(self, name, result):
        os.removexattr(self.at(name), 'user.x')

    def do_commit(self, name, how, result):
        if how == 'xattr':
            os.setxattr(self.at(name), 'user.worm.commit', b'1')
        elif how == 'chattr':
            set_flags(self.at(name), get_flags(self.at(name)) | FS_IMMUTABLE_FL)
        else:
            return self.ask('commit', name)

    def do_make_append(self, name, result):
        os.setxattr(self.at(name), 'user.worm.append', b'1')

    def do_extend(self, name, days, result):
        os.setxattr(self.at(name), 'user.worm.until', b'@%d' % (self.model.base_s + days * DAY))

    def ask(self, verb, name, **keys):
        answer = self.share.control(verb, self.dir + '/' + name, **keys)
        return 'OK' if answer['ok'] else answer['errno']

    def do_hold(self, name, case, result):
        return self.ask('hold', name, case=case)

    def do_release(self, name, case, result):
        return self.ask('release', name, case=case)

    # -- comparing

    def settle(self):
        """RELEASE comes after close(2): until it is over, what follows would race it."""
        writers = sum(1 for h in self.handles if h.writer)
        closing = len({id(h.file) for h in self.handles if h.file.locked and h.file.closing and not h.file.append})
        wait_for('%d writers, %d closing' % (writers, closing), lambda: self.numbers() == (writers, closing), 5)

    def numbers(self):
        info = self.share.info()
        return info['writers'], info['closing']

    def compare(self, op, everything=False):
        names = self.model.names if everything else [a for a in op[1:] if isinstance(a, str) and a in NAMES]
        for name in names:
            f = self.model.names.get(name)
            if f is None:
                if os.path.lexists(self.at(name)):
                    raise Mismatch('%r: %s is there' % (op, name))
                continue
            shown = os.getxattr(self.at(name), 'user.worm.state').decode()
            state = 'open' if shown in ('staging', 'pending') else shown
            if state != self.model.state(f):
                raise Mismatch('%r: %s is shown as %s, expected %s' % (op, name, shown, self.model.state(f)))
            st = os.stat(self.at(name))
            if (st.st_size, st.st_mode & 0o7777, st.st_nlink) != (len(f.data), f.mode, f.names):
                raise Mismatch('%r: %s has size %d, mode %o, %d names, expected %d, %o, %d' % (
                    op, name, st.st_size, st.st_mode & 0o7777, st.st_nlink, len(f.data), f.mode, f.names))
            for path in (self.at(name), self.share.below(self.dir, name)):
                with open(path, 'rb') as fh:
                    data = fh.read()
                if data != f.data:
                    raise Mismatch('%r: %s has %r, expected %r' % (op, path, data, bytes(f.data)))

    def end(self):
        for h in list(self.handles):
            for _ in list(h.fds):
                self.on_close(h)
        if sorted(os.listdir(self.share.at(self.dir))) != sorted(self.model.names):
            raise Mismatch('names are %s, expected %s' % (sorted(os.listdir(self.share.at(self.dir))), sorted(self.model.names)))
        self.compare(('end',), everything=True)

    def abandon(self):
        for h in self.handles:
            for fd in h.fds:
                try:
                    os.close(fd)
                except OSError:
                    pass
        if not self.share.alive():
            return
        try:
            wait_for('no writers', lambda: self.numbers() == (0, 0), 10)
        except pytest.fail.Exception:
            pass


HANDLE_OPS = {'write_at': 1, 'dup': 1, 'close': 1, 'ftruncate': 1, 'fallocate': 1, 'copy': 2, 'store': 1}


def random_op(rng, restarts):
    name, other = rng.choice(NAMES), rng.choice(NAMES)
    h = rng.randrange(6)
    governed = rng.choice(NAMES[:3]), rng.choice(NAMES[:3])
    makers = [
        (14, lambda: ('open', name, rng.choice(['w', 'w', 'rw', 'r']), rng.choice(list(EXTRA)))),
        (12, lambda: ('write_at', h, rng.choice([0, 1, 3, 6, 11]), rng.choice([b'data', b'Z', b'']))),
        (12, lambda: ('close', h)), (3, lambda: ('dup', h)),
        (3, lambda: ('truncate', name, rng.choice([0, 2, 20]))), (3, lambda: ('ftruncate', h, rng.choice([0, 2, 20]))),
        (2, lambda: ('fallocate', h, rng.choice([0, 3, 0x11]), rng.choice([0, 2, 20]), 5)),
        (2, lambda: ('copy', h, rng.randrange(6), rng.choice([0, 2, 15]), 4)), (2, lambda: ('store', h)),
        (4, lambda: ('unlink', name)), (6, lambda: ('rename', name, other)), (2, lambda: ('link',) + governed),
        (6, lambda: ('chmod', name, rng.choice([0o444, 0o644, 0o666, 0o755, 0o400]))), (2, lambda: ('chown', name)),
        (2, lambda: ('utime', name)), (2, lambda: ('setxattr', name)), (2, lambda: ('removexattr', name)),
        (4, lambda: ('commit', name, rng.choice(['xattr', 'chattr', 'control']))), (4, lambda: ('make_append', name)),
        (3, lambda: ('extend', name, rng.choice([0.5, 1.5, 3.5, 5.5, 9.5]))), (1, lambda: ('hold', name, rng.choice(['h', 'i']))),
        (1, lambda: ('release', name, rng.choice(['h', 'i']))), (3, lambda: ('clock', rng.choice([2, 4]))),
    ]
    if restarts:
        makers.append((4, lambda: ('restart', rng.choice(['remount', 'kill']))))
    return rng.choices([m for _, m in makers], [w for w, _ in makers])[0]()


def run_sequence(share, ops):
    """None, or what went wrong."""
    r = Run(share)
    try:
        for op in ops:
            r.do(op)
        r.end()
    except Mismatch as e:
        return str(e)
    except pytest.fail.Exception as e:
        return str(e)
    finally:
        r.abandon()
    return None


def shorten(share, ops):
    """Leaves operations out as long as it still fails."""
    i, tries = 0, 0
    while i < len(ops) and tries < 60:
        fewer = ops[:i] + ops[i + 1:]
        tries += 1
        if run_sequence(share, fewer):
            ops = fewer
        else:
            i += 1
    return ops


def check_sequences(share, rng, seconds, length, restarts):
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        ops = [random_op(rng, restarts) for _ in range(rng.randint(4, length))]
        why = run_sequence(share, ops)
        n += 1
        if why:
            short = shorten(share, ops)
            pytest.fail('seed %d, sequence %d: %s\nshortened:\n    %s\n%s' % (
                SEED, n, why, ',\n    '.join(map(repr, short)), run_sequence(share, short) or '(passes now)'))
    print('seed %d: %d sequences' % (SEED, n))
    return n


OPTIONS = 'retention=1d,max=100y,staging_idle=315360000'	# no sweep of what the clock makes old


@pytest.mark.timeout(1800)
def test_random_sequences_get_the_errnos_of_the_README_and_keep_every_byte(mount):
    share = mount(OPTIONS, clocked=True)
    n = check_sequences(share, random.Random(SEED), SECONDS * 0.8, 24, False)
    assert n > 20 and share.problems(pending=True) == []


@pytest.mark.timeout(1800)
def test_random_sequences_with_remounts_and_SIGKILL_keep_every_lock_and_every_byte(mount):
    share = mount(OPTIONS, clocked=True)
    assert check_sequences(share, random.Random(SEED + 1), SECONDS * 0.2, 16, True) > 0


@pytest.mark.timeout(1800)
def test_random_sequences_with_a_settle_time_let_in_what_the_README_says_and_keep_every_byte(mount):
    share = mount(OPTIONS + ',settle=3600', clocked=True)
    n = check_sequences(share, random.Random(SEED + 2), SECONDS * 0.3, 24, False)
    n += check_sequences(share, random.Random(SEED + 3), SECONDS * 0.1, 16, True)
    assert n > 5 and share.problems(pending=True) == []
    share.must('sync')
    assert ', 0 findings' in share.ctl('verify', share.mnt).out


# Sequences that once failed.
FOUND = {
    'a rename beside a writer that changes nothing locks nothing': [('open', 'b', 'w', 'append'), ('rename', 'b', 'a')],
    'nor does a link': [('open', 'b', 'w', ''), ('link', 'b', 'a')],
    'nor the removal of another name': [('link', 'b', 'a'), ('open', 'b', 'w', ''), ('unlink', 'a')],
    'a store through a mapping of an O_APPEND descriptor goes where it was stored': [('open', 'b', 'rw', 'append'), ('store', 0)],
}


@pytest.mark.parametrize('promise', FOUND)
def test_what_random_sequences_found(mount, promise):
    assert run_sequence(mount(OPTIONS, clocked=True), FOUND[promise]) is None
