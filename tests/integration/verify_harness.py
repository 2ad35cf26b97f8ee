"""Locked files, their digests, and what `wormctl verify` finds of them."""
import hashlib
import json
import os

import pytest

from harness import opened, wait_for, write_file

RECORD = 'trusted.wormfs'


def sha(data):
    return hashlib.sha256(data).hexdigest()


def wait_digest(share, *names):
    """Waits until the daemon has taken the digests of these files."""
    for name in names:
        wait_for('the digest of %r' % (name,), lambda: share.shows(name, 'sha256'))


def digests(share):
    return share.info()['digest']


def wait_all_digests(share):
    wait_for('all digests', lambda: share.must('sync') and digests(share)['pending'] == 0)


def verify(share, *args, path=None, check=None):
    """(exit code, {path: {kind, ...}}, summary) of a run; nothing but findings, and complaints on stderr."""
    p = share.ctl('verify', '--json', '--state-dir', share.state, *args, share.mnt if path is None else path, check=False)
    lines = [json.loads(line) for line in p.out.splitlines()]
    found = {}
    for line in lines:
        if 'summary' not in line:
            assert line['what'] and line['do']
            found.setdefault(line['path'], set()).add(line['kind'])
    summary = lines[-1]['summary'] if lines and 'summary' in lines[-1] else None
    if check is not None:
        assert (p.returncode, p.err) == (check, ''), p.out
    return p.returncode, found, summary


def some_locked(share, *names):
    for name in names:
        os.makedirs(os.path.dirname(share.at(name)), exist_ok=True)
        share.lock(name, ('this is ' + name + '\n').encode() * 50)
    wait_all_digests(share)


def hide(share, name, data):
    """Changes the data below the mount and puts the times back, as good as root can."""
    below = share.below(name)
    st = os.stat(below)
    with opened(below, os.O_WRONLY) as fd:
        os.pwrite(fd, data, 0)
    os.utime(below, ns=(st.st_atime_ns, st.st_mtime_ns))


@pytest.fixture(params=['mounted', 'stopped'])
def when(request):
    return request.param


@pytest.fixture
def damaged(mount, when):
    """damaged(share, fn): does something below the mount, while it is mounted or stopped, and verifies."""
    def go(share, fn, *args):
        if when == 'stopped':
            share.stop()
        fn()
        return verify(share, *args)
    return go


def sql(share, statement):
    import sqlite3
    db = sqlite3.connect(os.path.join(share.state, 'ledger.db'))
    db.execute(statement)
    db.commit()
    db.close()


def logged(share):
    with open(os.path.join(share.state, 'audit.log')) as f:
        return [json.loads(line) for line in f]


def many(share):
    names = ['f%02d' % n for n in range(24)]
    for name in names:
        write_file(share.at(name), os.urandom(1 << 20))
    share.settle(*names)
    wait_all_digests(share)
    return names
