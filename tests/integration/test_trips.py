"""Round trips and wake-ups that are saved, and that nothing but time is saved with them."""
import os
import time

import pytest

from harness import wait_for, write_file


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
