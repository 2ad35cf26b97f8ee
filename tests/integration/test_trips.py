"""Round trips and wake-ups that are saved, and that nothing but time is saved with them."""
import mmap
import os
import random
import signal
import time

import pytest

from harness import errno_of, need_program, opened, read_file, run, wait_for, write_file

PRELOADED = 16384       # PRELOAD_MAX_BYTES of open.c


def drop_caches(share):
    def only_the_root_is_left():
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write('2')
        return share.info()['inodes'] <= 1
    wait_for('the inodes to be forgotten', only_the_root_is_left)


def data_of(n):
    return random.Random(n).randbytes(n)


def finish(children, deadline_s=30):
    """The exit codes of forked children, which are killed when they hang."""
    codes = []
    until = time.monotonic() + deadline_s
    for pid in children:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes.append(os.waitstatus_to_exitcode(status))
                break
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                until = 0
            time.sleep(0.005)
    return codes


def forked(fn):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if fn() else 1)
        except BaseException:
            os._exit(2)
    return pid


def test_who_opens_a_small_locked_file_reads_it_without_asking_again(mount):
    share = mount()
    sizes = [1, 7, 4095, 4096, 4097, PRELOADED]
    for n in sizes:
        share.lock('f%d' % n, data_of(n))
    for cold in (False, True):
        if cold:
            drop_caches(share)
        fds = {n: os.open(share.at('f%d' % n), os.O_RDONLY) for n in sizes}
        try:
            for n, fd in fds.items():
                assert os.fstat(fd).st_size == n
            os.kill(share.proc.pid, signal.SIGSTOP)
            try:
                child = forked(lambda: all(os.pread(fd, n, 0) == data_of(n) for n, fd in fds.items()))
                codes = finish([child], 10)
            finally:
                os.kill(share.proc.pid, signal.SIGCONT)
            assert codes == [0], 'cold' if cold else 'new'
        finally:
            for fd in fds.values():
                os.close(fd)


def test_what_is_not_preloaded_is_read_as_it_is(mount):
    share = mount()
    big = share.lock('big', data_of(PRELOADED + 1))
    open_file = write_file(share.at('a.part'), b'not locked')
    drop_caches(share)
    assert read_file(big) == data_of(PRELOADED + 1)
    assert read_file(open_file) == b'not locked'
    write_file(open_file, b'not locked, and longer')
    assert read_file(open_file) == b'not locked, and longer'


def test_openers_that_race_for_a_cold_file_all_read_its_bytes(mount):
    share = mount()
    names = {n: share.lock('f%d' % n, data_of(n)) for n in range(1, PRELOADED, 700)}
    until = time.monotonic() + 1.5

    def read_again_and_again():
        rng = random.Random()
        while time.monotonic() < until:
            n = rng.choice(list(names))
            with opened(names[n], os.O_RDONLY) as fd:
                if rng.random() < 0.3:
                    with mmap.mmap(fd, n, prot=mmap.PROT_READ) as m:
                        got = m[:]
                else:
                    got = os.read(fd, n + 100)
            if got != data_of(n):
                return False
        return True

    children = [forked(read_again_and_again) for _ in range(8)]
    while time.monotonic() < until:
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write('3')
        time.sleep(0.02)
    assert finish(children) == [0] * 8


def test_a_cold_file_is_opened_under_the_name_it_has_now(mount):
    """Its name is the way to it; two that change places while they are opened keep their bytes."""
    share = mount('commit=never')
    a, b, c = (share.at(name) for name in 'abc')
    write_file(a, b'aaaa')
    write_file(b, b'bbbb')
    inode = {os.stat(a).st_ino: b'aaaa', os.stat(b).st_ino: b'bbbb'}
    until = time.monotonic() + 1

    def read_again_and_again():
        while time.monotonic() < until:
            try:
                with opened(a, os.O_RDONLY) as fd:
                    if os.read(fd, 10) != inode[os.fstat(fd).st_ino]:
                        return False
            except FileNotFoundError:
                pass
        return True

    children = [forked(read_again_and_again) for _ in range(3)]
    while time.monotonic() < until:
        os.rename(a, c)
        os.rename(b, a)
        os.rename(c, b)
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write('2')
    assert finish(children) == [0] * 3


def renames_of_every_kind(share):
    write_file(share.at('a.part'), b'a')
    write_file(share.at('b.part'), b'b')
    os.rename(share.at('a.part'), share.at('c.part'))                   # to a free name
    os.rename(share.at('c.part'), share.at('b.part'))                   # onto another
    assert read_file(share.at('b.part')) == b'a' and sorted(os.listdir(share.mnt)) == ['b.part']
    os.link(share.at('b.part'), share.at('d.part'))
    os.rename(share.at('d.part'), share.at('b.part'))                   # two names of one file: nothing happens
    assert sorted(os.listdir(share.mnt)) == ['b.part', 'd.part']
    os.unlink(share.at('d.part'))
    locked = share.lock('locked')
    assert errno_of(os.rename, share.at('b.part'), locked) == 'EPERM'
    assert errno_of(os.rename, locked, share.at('free')) == 'EPERM'
    os.mkdir(share.at('d'))
    assert errno_of(os.rename, share.at('b.part'), share.at('d')) == 'EISDIR'
    os.rename(share.at('b.part'), share.at('b'))                        # off its staging name: locked
    share.wait_state(share.at('b'), 'retained')
    assert sorted(os.listdir(share.mnt)) == ['b', 'd', 'locked']


def test_renames_onto_free_and_taken_names(mount):
    renames_of_every_kind(mount())


def test_renames_where_the_lower_filesystem_cannot_be_asked_for_a_free_name(mount, tmp_path):
    """bindfs knows no flags of renameat2(2)."""
    lower, point = tmp_path / 'lower', tmp_path / 'bindfs'
    lower.mkdir()
    point.mkdir()
    run(need_program('bindfs'), lower, point)
    try:
        share = mount('passthrough=no', base=str(point), start=False)
        share.start()
        renames_of_every_kind(share)
        share.end()
    finally:
        run('umount', '-l', point)


def test_forgets_of_many_files_do_not_wake_the_daemon_one_by_one(mount):
    share = mount('commit=never')
    if not share.transport()['io_uring']:
        pytest.skip('needs io_uring: elsewhere forgets come with the other requests')
    n = 1500
    for i in range(n):
        write_file(share.at('f%d' % i), b'x')

    def woken():
        total = 0
        for task in os.listdir('/proc/%d/task' % share.proc.pid):
            with open('/proc/%d/task/%s/comm' % (share.proc.pid, task)) as f:
                name = f.read().strip()
            if name == 'fuse_worker':
                with open('/proc/%d/task/%s/status' % (share.proc.pid, task)) as f:
                    total += sum(int(line.split()[1]) for line in f if 'ctxt_switches' in line)
        return total
    before = woken()
    began = time.monotonic()
    for i in range(n):
        os.unlink(share.at('f%d' % i))
    wait_for('the inodes to be forgotten', lambda: share.info()['inodes'] < 10)
    took_ms = (time.monotonic() - began) * 1000
    # Each of the two threads sleeps 2 ms after a read.
    assert woken() - before < min(n, 100 + 4 * took_ms)
