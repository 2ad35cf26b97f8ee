"""Kills and restarts of the archive in each phase, and many programs at once."""
import concurrent.futures
import mmap
import os
import random
import signal
import time

import pytest

from harness import errno_of, read_file, sanitizer, write_file
from tape import noise


# ---- restart and kill ---------------------------------------------------------------------------

@pytest.mark.parametrize('phase', ['writing', 'archiving', 'dual', 'released', 'recalling'])
@pytest.mark.parametrize('how', ['kill', 'restart'])
def test_killed_or_restarted_in_each_phase_nothing_is_lost(archive, phase, how):
    a = archive(profile='lustre-nonblocking', release__when='explicit' if phase == 'dual' else 'archived')
    data = noise(300000)
    fd = -1
    if phase == 'writing' and how == 'kill':
        fd = os.open(a.at('d'), os.O_CREAT | os.O_WRONLY)
        os.write(fd, data)
        path = 'd'
    else:
        path = 'x/f'
        a.put(path, data)
        if phase not in ('archiving', 'writing'):
            a.settle()
        if phase == 'recalling':
            errno_of(read_file, a.at(path))
        assert a.is_now(path) == (phase if phase != 'writing' else 'archiving')
    if how == 'kill':
        a.kill9()
        if fd >= 0:
            errno_of(os.close, fd)
        a.start()
    else:
        a.restart()
    a.settle()
    if phase == 'recalling':
        assert a.is_now(path) == 'dual'
    errno_of(read_file, a.at(path))
    a.settle()
    assert read_file(a.at(path)) == data == read_file(os.path.join(a.replica, path))
    assert a.is_now(path) == 'dual' and os.listdir(os.path.join(a.store, 'tape')) == [os.listdir(os.path.join(a.store, 'tape'))[0]]


@pytest.mark.parametrize('name', ['.mockarchive-copy', '.mockarchive-copy.mine', '.mockarchive-copy.1f'])
@pytest.mark.parametrize('how', ['kill', 'restart'])
def test_a_start_clears_what_a_kill_left_of_replicas_and_no_replica_of_a_user(archive, name, how):
    a = archive()
    a.archived(name)
    left = os.path.join(a.replica, '.mockarchive-copy.fffffff')
    write_file(left, b'half a rep')
    if how == 'kill':
        a.kill9()
        a.start()
    else:
        a.restart()
    assert not os.path.exists(left) and read_file(os.path.join(a.replica, name)) == b'one\n'
    a.ask('lose', name, copy='tape')
    a.ask('mend', name)
    errno_of(read_file, a.at(name))
    a.settle()
    assert read_file(a.at(name)) == b'one\n'


@pytest.mark.parametrize('point', ['archive.queue', 'archive.mount', 'archive.copy', 'archive.verify', 'archive.release', 'archive.flag',
                                   'recall.queue', 'recall.mount', 'recall.copy', 'recall.flag'])
def test_a_crash_at_each_point_of_a_job_loses_nothing(archive, point):
    a = archive(profile='lustre-nonblocking', flag='both')
    data = noise(300000)
    if point.startswith('recall'):
        a.archived('f', data)
        a.fault({'op': point}, crash=True)
        errno_of(read_file, a.at('f'))
    else:
        a.fault({'op': point}, crash=True)
        write_file(a.at('f'), data)
    with pytest.raises(Exception):
        a.settle()
        a.settle()
    a.proc.wait(10)
    assert a.proc.returncode == -signal.SIGKILL
    a.kill9()
    a.start()
    a.settle()
    errno_of(read_file, a.at('f'))
    a.settle()
    assert read_file(a.at('f')) == data == read_file(os.path.join(a.replica, 'f'))


def test_states_pins_and_copies_come_back_after_a_restart(archive):
    a = archive()
    a.archived('f')
    a.ask('recall', 'f', pin=86400)
    a.settle()
    a.ask('lose', 'f', copy='replica')
    before = a.file('f')
    a.restart()
    after = a.file('f')
    for key in ('state', 'copies', 'pinned', 'pin_until', 'evict_counter', 'sha256', 'adler32', 'tape', 'recalls', 'archived', 'recalled', 'flag'):
        assert after[key] == before[key], key


# ---- all at once --------------------------------------------------------------------------------

def worker(a, n, until):
    """Files of its own in a tree that all use: written, read, renamed, removed, truncated; never anything but what it wrote."""
    rng = random.Random(n)
    mine, count = {}, 0
    top = a.at('w%d' % n)
    os.mkdir(top)
    while time.monotonic() < until:
        count += 1
        do = rng.choice(['write', 'write', 'read', 'read', 'read', 'append', 'rename', 'remove', 'truncate', 'stat', 'list', 'link'])
        name = rng.choice(sorted(mine)) if mine and do != 'write' else '%s/%d' % (top, rng.randrange(12))
        try:
            if do == 'write':
                data = noise(rng.choice([10, 5000, 200000]), rng.randrange(1000))
                with open(name, 'wb') as f:
                    f.write(data)
                mine[name] = data
            elif name not in mine:
                continue
            elif do == 'read':
                with open(name, 'rb') as f:
                    got = f.read()
                assert got == mine[name], (name, len(got), len(mine[name]))
            elif do == 'append':
                with open(name, 'ab') as f:
                    f.write(b'more')
                mine[name] += b'more'
            elif do == 'rename':
                to = '%s/%d' % (top, rng.randrange(12))
                os.rename(name, to)
                mine[to] = mine.pop(name)
            elif do == 'remove':
                os.unlink(name)
                del mine[name]
            elif do == 'truncate':
                size = rng.choice([0, 7])
                os.truncate(name, size)
                mine[name] = (mine[name] + bytes(7))[:size]
            elif do == 'stat':
                assert os.stat(name).st_size == len(mine[name])
            elif do == 'list':
                assert {os.path.join(top, f) for f in os.listdir(top)} == set(mine)
            elif do == 'link':
                with open(name, 'rb') as f:
                    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) if mine[name] else b''
                    assert bytes(m[:]) == mine[name]
        except OSError as e:
            raise AssertionError('%s %s: %s' % (do, name, e)) from None
    return mine, count


def test_many_at_once_never_read_anything_but_what_they_wrote(archive):
    a = archive(profile='lustre', archive__delay='10s', recall__delay='5s', recall__keep='20s', cache__size='2M', cache__full='over', drives=3, tape__mount='3s',
                tape__files=5, verify='on')
    a.api('PATCH', '/v1/clock', mode='scaled:500')
    until = time.monotonic() + (4 if not sanitizer() else 8)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = [f.result() for f in [pool.submit(worker, a, n, until) for n in range(8)]]
    a.api('PATCH', '/v1/clock', mode='manual')
    a.settle()
    files = {name: data for mine, _ in results for name, data in mine.items()}
    for name in files:
        a.ask('recall', os.path.relpath(name, a.mnt), pin=86400)
    a.settle()
    for name, data in files.items():
        assert a.file(os.path.relpath(name, a.mnt))['online'] and read_file(name) == data
        if data:
            assert read_file(os.path.join(a.replica, os.path.relpath(name, a.mnt))) == data
    assert sum(count for _, count in results) > 200
    state = a.api('GET', '/v1/state')
    assert state['queue'] == {'archive': 0, 'recall': 0, 'waiting': 0}
    # Of a file that is empty now, the copy that it had is stale, and there.
    known = [f for f in a.api('GET', '/v1/files?limit=1000')['files'] if f['copies']['tape'] in ('good', 'stale')]
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == len(known) and a.api('GET', '/v1/state')['files_total'] == len(files)


def churn(a, n, until):
    """Files that live for moments, and some that stay: the lower filesystem gives the number of one that is gone to the next one."""
    rng, count = random.Random(n), 0
    os.mkdir(a.at('c%d' % n))
    while time.monotonic() < until:
        name, count = a.at('c%d/%d' % (n, count)), count + 1
        write_file(name, b'x' * 5000)
        do = rng.choice(['truncate', 'hold', 'remove', 'replace', 'stay'])
        if do == 'stay':
            continue
        if do == 'truncate':
            os.truncate(name, rng.choice([0, 7]))
        elif do == 'replace':
            write_file(name + '.new', b'y')
            os.rename(name + '.new', name)
        held = open(name, 'rb') if do == 'hold' else None
        os.unlink(name)
        if held:
            held.close()


def test_a_file_with_the_number_of_one_that_was_removed_is_a_file_of_its_own(archive):
    a = archive(profile='lustre', archive__delay='1s', recall__delay='1s')
    a.api('PATCH', '/v1/clock', mode='scaled:500')
    until = time.monotonic() + (2 if not sanitizer() else 4)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for f in [pool.submit(churn, a, n, until) for n in range(6)]:
            f.result()
    a.api('PATCH', '/v1/clock', mode='manual')
    a.settle()
    names = sorted(os.path.join(d, f) for d in os.listdir(a.mnt) for f in os.listdir(a.at(d)))
    known = {f['path'].lstrip('/'): f for n in range(6) for f in a.api('GET', '/v1/files?limit=1000&prefix=/c%d' % n)['files']}
    assert len(names) > 20 and sorted(known) == names
    for name in names:
        assert known[name]['copies']['tape'] == 'good', known[name]
        assert os.stat(os.path.join(a.replica, name)).st_size == 5000
    assert len(os.listdir(os.path.join(a.store, 'tape'))) == len(names)
