"""Bounds: descriptors and memory do not grow with the number of files."""
import os
import threading

import pytest

from harness import FILES, run, sanitizer, tool, wait_for

DESCRIPTORS = 1024
BYTES_AN_INODE = 400
WALKS = 5


def rss(pid):
    with open('/proc/%d/status' % pid) as f:
        for line in f:
            if line.startswith('VmRSS:'):
                return int(line.split()[1]) * 1024


def walk(root):
    """stat of everything below; the number of files."""
    files, todo = 0, [root]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    files += 1
                    assert st.st_size == 1
    return files


class Watcher(threading.Thread):
    """The highest number of descriptors seen while something else goes on."""
    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.done = pid, 0, threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, len(os.listdir('/proc/%d/fd' % self.pid)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        self.join()


@pytest.mark.timeout(1800)
def test_walking_a_big_tree_takes_few_descriptors_and_400_bytes_an_inode(mount):
    share = mount('commit=close', start=False)
    run(tool('mkfiles'), share.below(), FILES, 1, 1000, timeout=900)
    share.start()
    pid = share.proc.pid
    walk_some = sum(1 for _ in os.scandir(share.mnt))       # threads and buffers are there
    assert walk_some
    before = rss(pid)
    with Watcher(pid) as watcher:
        for _ in range(WALKS):      # what the kernel lets go of meanwhile, when memory is short, the next one brings back
            assert walk(share.mnt) == FILES
            grown, inodes = rss(pid) - before, share.info()['inodes']
            if inodes >= FILES * 0.9:
                break
        for d in range(0, FILES // 1000, max(1, FILES // 1000 // 50)):
            for n in range(20):
                with open(share.at('d%d' % d, 'f%d' % (d * 1000 + n)), 'rb') as f:
                    f.read()
    assert watcher.most <= DESCRIPTORS
    assert inodes >= FILES * 0.9, 'the kernel has let go of inodes in each of %d walks: %d of %d are left to measure' % (WALKS, inodes, FILES)
    if sanitizer():
        pytest.skip('memory of a build with a sanitizer says nothing')
    assert grown / FILES <= BYTES_AN_INODE, '%d bytes an inode' % (grown // FILES)


@pytest.mark.timeout(600)
def test_inodes_are_forgotten_when_the_kernel_forgets_them(mount):
    share = mount(start=False)
    n = FILES // 10
    run(tool('mkfiles'), share.below(), n, 1, 1000)
    share.start()
    for _ in range(3):
        assert walk(share.mnt) == n
        assert share.info()['inodes'] >= n
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write('2')
        wait_for('the inodes to be forgotten', lambda: share.info()['inodes'] < n / 10, 60)


@pytest.mark.timeout(600)
def test_many_open_files_are_bounded_by_their_handles_only(mount):
    """Every open handle is one descriptor of the daemon, and none is left when they are closed."""
    workers = 64        # each may have a pipe and a device of its own
    share = mount()
    pid = share.proc.pid
    base = len(os.listdir('/proc/%d/fd' % pid))
    limit = share.info()['descriptors']['limit']
    fds = []
    try:
        for n in range(600):
            fds.append(os.open(share.at('f%d' % n), os.O_CREAT | os.O_RDWR))
        assert len(os.listdir('/proc/%d/fd' % pid)) <= base + 600 * 2 + limit + workers
    finally:
        for fd in fds:
            os.close(fd)
    wait_for('the descriptors to be closed', lambda: len(os.listdir('/proc/%d/fd' % pid)) <= base + limit + workers)
    assert share.info()['writers'] == 0


@pytest.mark.timeout(600)
def test_creating_and_deleting_leaks_neither_descriptors_nor_memory(mount):
    share = mount('commit=never')
    pid = share.proc.pid

    def churn(rounds):
        for n in range(rounds):
            path = share.at('f%d' % (n % 50))
            with open(path, 'wb') as f:
                f.write(b'x')
            os.stat(path)
            os.unlink(path)
    churn(2000)
    fds, memory = len(os.listdir('/proc/%d/fd' % pid)), rss(pid)
    churn(10000)
    wait_for('the inodes to be forgotten', lambda: share.info()['inodes'] < 100)
    assert len(os.listdir('/proc/%d/fd' % pid)) <= fds + 8
    if not sanitizer():
        assert rss(pid) - memory < 1 << 20
