"""Times and modes that are set while the archive moves the file: none is lost, none comes back."""
import os
import threading
import time

from harness import read_file
from tape import ApiError


def test_a_time_that_is_set_while_the_file_goes_and_comes_stays(archive):
    a = archive(profile='lustre', archive__delay='0', recall__delay='0', release__when='explicit')
    path = a.archived('f', b'x' * 5000, state='dual')
    ends, moves = threading.Event(), []

    def move():
        while not ends.is_set():
            for order in ('release', 'recall'):
                try:
                    a.ask(order, 'f')
                    a.advance(0)
                except ApiError as e:
                    assert e.errno == 'EBUSY', e
            moves.append(1)
    mover = threading.Thread(target=move)
    mover.start()
    try:
        until, n, wrong = time.monotonic() + 2, 0, []
        while time.monotonic() < until:
            n += 1
            os.utime(path, (n, n))
            for _ in range(3):
                if os.stat(path).st_mtime != n:
                    wrong.append((n, os.stat(path).st_mtime))
            os.chmod(path, 0o600 + n % 8)
            if os.stat(path).st_mode & 0o777 != 0o600 + n % 8:
                wrong.append((n, 'mode'))
    finally:
        ends.set()
        mover.join()
    assert not wrong and len(moves) > 5 and n > 50, (wrong[:5], len(wrong), n, len(moves))
    assert read_file(path) == b'x' * 5000 and os.stat(path).st_mtime == n
    a.ask('release', 'f')
    a.ask('recall', 'f')
    a.settle()
    assert os.stat(path).st_mtime == n
    lower = os.stat(os.path.join(a.data, 'f'))
    assert lower.st_mtime == n
