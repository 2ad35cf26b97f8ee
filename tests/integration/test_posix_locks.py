"""POSIX without exception: flock and fcntl locks. posix_harness.py says how it is compared."""
import fcntl
import os
import select
import signal
import struct
import time

import pytest

from harness import DEADLINE_S, errno_of, in_child, opened, wait_for, write_file

LOCKS = {
    'flock': (lambda fd: fcntl.flock(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
              lambda fd: fcntl.flock(fd, fcntl.LOCK_UN)),
    'fcntl': (lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
              lambda fd: fcntl.lockf(fd, fcntl.LOCK_UN)),
}


class Waiter:
    """A child that opens the file, says so, waits for the lock, says so, and keeps it until it is told to go."""
    def __init__(self, path, take):
        self.out, out = os.pipe()
        stop, self.stop = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.out)
                os.close(self.stop)
                interrupted = []
                signal.signal(signal.SIGUSR1, lambda *a: interrupted.append(1) or (_ for _ in ()).throw(InterruptedError()))
                fd = os.open(path, os.O_RDWR)
                os.write(out, b'o')
                try:
                    take(fd)
                    os.write(out, b'l')
                except InterruptedError:
                    os.write(out, b'i')
                os.read(stop, 1)
            finally:
                os._exit(0)
        os.close(out)
        os.close(stop)
        assert self.says() == 'o'

    def says(self, deadline_s=DEADLINE_S):
        ready, _, _ = select.select([self.out], [], [], deadline_s)
        return os.read(self.out, 1).decode() if ready else 'nothing'

    def end(self, signum=signal.SIGKILL):
        if self.pid:
            os.kill(self.pid, signum)
            wait_for('the waiter to die', lambda: os.waitpid(self.pid, os.WNOHANG)[0])
            self.pid = 0
            os.close(self.out)
            os.close(self.stop)


@pytest.mark.parametrize('kind', LOCKS)
def test_a_lock_excludes_other_processes_and_is_handed_on(pair, kind):
    take, try_take, release = LOCKS[kind]
    path = write_file(pair.mnt + '/f')
    with opened(path, os.O_RDWR) as fd:
        take(fd)
        assert in_child(lambda: errno_of(lambda: try_take(os.open(path, os.O_RDWR)))) == 'EAGAIN'
        waiter = Waiter(path, take)
        try:
            assert waiter.says(0.2) == 'nothing'
            release(fd)
            assert waiter.says() == 'l'
            assert errno_of(try_take, fd) == 'EAGAIN'
            waiter.end()                # a lock goes with its process
            assert errno_of(try_take, fd) == 'OK'
        finally:
            waiter.end()


@pytest.mark.parametrize('kind', LOCKS)
def test_many_blocked_lockers_do_not_hang_the_mount_and_can_be_interrupted(pair, kind):
    take, try_take, release = LOCKS[kind]
    path = write_file(pair.mnt + '/f')
    waiters = []
    with opened(path, os.O_RDWR) as fd:
        take(fd)
        try:
            for _ in range(80):         # more than the daemon has threads
                waiters.append(Waiter(path, take))
            start = time.monotonic()
            for n in range(20):
                write_file(pair.mnt + '/other%d' % n, b'x')
                os.stat(pair.mnt + '/other%d' % n)
            os.listdir(pair.mnt)
            assert time.monotonic() - start < 5
            for w in waiters[:5]:
                os.kill(w.pid, signal.SIGUSR1)
            assert [w.says() for w in waiters[:5]] == ['i'] * 5
            for w in waiters[5:40]:
                w.end(signal.SIGKILL)
            for w in waiters[40:79]:
                w.end(signal.SIGTERM)
            release(fd)
            assert waiters[79].says() == 'l'
        finally:
            for w in waiters:
                w.end()


def test_ranges_of_fcntl_locks_and_deadlocks_are_as_below(pair):
    def lock(fd, kind, start, length, command=fcntl.F_SETLK):
        return errno_of(fcntl.fcntl, fd, command, struct.pack('hhqqi4x', kind, 0, start, length, 0))

    def go(d):
        path = write_file(d + '/f', b'x' * 100)
        with opened(path, os.O_RDWR) as fd:
            out = [lock(fd, fcntl.F_WRLCK, 0, 10), lock(fd, fcntl.F_RDLCK, 50, 10)]

            def other():
                with opened(path, os.O_RDWR) as fd2:
                    got = struct.unpack('hhqqi4x', fcntl.fcntl(fd2, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)))
                    return [lock(fd2, fcntl.F_WRLCK, 5, 10), lock(fd2, fcntl.F_WRLCK, 10, 10), lock(fd2, fcntl.F_RDLCK, 50, 10),
                            lock(fd2, fcntl.F_WRLCK, 50, 10), lock(fd2, fcntl.F_WRLCK, 60, 0), got[0], got[2:4], got[4] == os.getppid()]
            out.append(in_child(other))
            out.append(lock(fd, fcntl.F_UNLCK, 0, 0))
            out.append(in_child(other))
            out.append(lock(fd, fcntl.F_WRLCK, 0, 10, 37))          # F_OFD_SETLK
            with opened(path, os.O_RDWR) as fd2:
                out.append(lock(fd2, fcntl.F_WRLCK, 0, 10, 37))
        return out
    assert pair.same(go)[-1] == 'EAGAIN'


def test_locks_go_when_their_descriptor_is_closed(pair):
    def go(d):
        path = write_file(d + '/f')
        out = []
        for kind, (take, try_take, release) in LOCKS.items():
            fd = os.open(path, os.O_RDWR)
            take(fd)
            out.append(in_child(lambda: errno_of(lambda: try_take(os.open(path, os.O_RDWR)))))
            os.close(fd)
            out.append(in_child(lambda: errno_of(lambda: try_take(os.open(path, os.O_RDWR)))))
        return out
    assert pair.same(go) == ['EAGAIN', 'OK', 'EAGAIN', 'OK']
