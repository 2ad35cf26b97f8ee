"""Every fault that a tape archive is known to have, switched on over HTTP: it fires, it is counted and journaled, and once it is
switched off everything is as before."""
import http.client
import os
import signal
import subprocess
import time

import pytest

from archive_harness import MockarchiveError, archive, read_errno, shared, start		# noqa: F401
from harness import errno_of, wait_for

DATA = bytes(range(256)) * 40


def fired(archive, fault, hits=None):
    """It fired (so often), and the journal says so each time."""
    assert fault.hits > 0 if hits is None else fault.hits == hits, fault.get()
    entries = [e for e in archive.journal() if e['kind'] == 'fault' and e['fault'] == fault.id]
    assert len(entries) == fault.hits, entries
    return entries


def recalled(archive, path):
    """The state after a recall that is given all the time it wants, and what is read then."""
    archive.act('recall', path)
    archive.settle()
    return archive.state(path)


def on_disk(archive, name='a', data=DATA):
    """A file that is on tape and on disk, and stays there whatever time it is. Its path."""
    path = archive.archived(name, data)
    assert recalled(archive, path) == 'dual'
    return path


def is_sticky(path):
    return os.stat(path).st_mode & 0o1000 != 0


def replica(archive, path):
    return archive.replica + archive.name(path)


# ---- slow -----------------------------------------------------------------------------------------

def test_a_recall_is_slow_by_a_delay_its_jitter_and_its_rate(archive):
    path = archive.archived('a', DATA)
    with archive.fault(phase='recall.mount', path='a', delay=3600) as fault:
        archive.act('recall', path)
        archive.advance(3600)
        assert archive.state(path) == 'recalling'
        archive.advance(5)
        assert archive.state(path) == 'dual'
        fired(archive, fault, 1)
    archive.act('release', path)
    with archive.fault(phase='recall.copy', jitter=1000, delay=100, seed=5) as fault:
        begin = archive.get('/v1/clock')['now']
        assert recalled(archive, path) == 'dual'
        assert 100 <= archive.get('/v1/clock')['now'] - begin <= 1105
        fired(archive, fault, 1)
    archive.act('release', path)
    with archive.fault(phase='recall.copy', rate=1024) as fault:		# 10 KiB
        archive.act('recall', path)
        archive.advance(9)
        assert archive.state(path) == 'recalling'
        archive.advance(7)
        assert archive.state(path) == 'dual'
        fired(archive, fault, 1)
    archive.act('release', path)
    archive.act('recall', path)
    archive.advance(5)
    assert archive.state(path) == 'dual' and open(path, 'rb').read() == DATA


def test_a_read_is_slow(archive):
    path = on_disk(archive)
    with archive.fault(op='read', path='a', delay=60) as fault:
        reader = subprocess.Popen(['cat', path], stdout=subprocess.PIPE)
        fault.wait()
        assert reader.poll() is None
        while reader.poll() is None:
            archive.advance(60)
        assert reader.stdout.read() == DATA
        fired(archive, fault)
    with archive.fault(op='read', path='a', rate=1024) as fault:
        reader = subprocess.Popen(['cat', path], stdout=subprocess.PIPE)
        fault.wait()
        archive.advance(5)
        assert reader.poll() is None
        while reader.poll() is None:
            archive.advance(60)
        assert reader.stdout.read() == DATA


# ---- hanging --------------------------------------------------------------------------------------

def test_a_recall_hangs_until_the_rule_is_gone(archive):
    path = archive.archived('a', DATA)
    with archive.fault(phase='recall.copy', hang='killable') as fault:
        archive.act('recall', path)
        archive.advance(86400)
        assert archive.state(path) == 'recalling'
        fired(archive, fault, 1)
    archive.settle()
    assert archive.state(path) == 'dual' and open(path, 'rb').read() == DATA


@pytest.mark.parametrize('op', ['open', 'read'])
def test_a_caller_that_hangs_can_be_killed(archive, op):
    path = archive.write('a', DATA)
    with archive.fault(op=op, path='a', hang='killable') as fault:
        reader = subprocess.Popen(['cat', path], stdout=subprocess.DEVNULL)
        fault.wait()
        begin = time.monotonic()
        reader.kill()
        reader.wait()
        assert time.monotonic() - begin < 5
        fired(archive, fault)
    assert read_errno(path) == 'OK'


def test_only_an_explicit_rule_makes_a_caller_unkillable(archive):
    path = archive.write('a', DATA)
    with archive.fault(op='open', path='a', hang='unkillable') as fault:
        reader = subprocess.Popen(['cat', path], stdout=subprocess.DEVNULL)
        fault.wait()
        reader.kill()
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.5)
        fault.change(enabled=False)
        reader.wait(10)


def test_a_hang_ends_with_its_rule_and_the_caller_goes_on(archive):
    path = on_disk(archive)
    for how in ('remove', 'disable', 'ttl', 'reset'):
        fields = {'ttl': 30} if how == 'ttl' else {}
        with archive.fault(op='open', path='a', hang='killable', **fields) as fault:
            reader = subprocess.Popen(['cat', path], stdout=subprocess.PIPE)
            fault.wait()
            if how == 'remove':
                archive.request('DELETE', '/v1/faults/' + fault.id)
            elif how == 'disable':
                fault.change(enabled=False)
            elif how == 'ttl':
                archive.advance(30)
            else:
                archive.post('/v1/reset', {'what': ['faults']})
            assert reader.communicate(timeout=20)[0] == DATA, how


# ---- errors ---------------------------------------------------------------------------------------

def test_the_first_reads_fail_then_all_is_well(archive):
    path = archive.write('a', DATA)
    for op in ('open', 'read'):
        with archive.fault(op=op, path='a', errno='EIO', first=2) as fault:
            assert [read_errno(path) for _ in range(3)] == ['EIO', 'EIO', 'OK']
            fired(archive, fault, 2)


def test_an_error_is_for_ever_until_it_is_cleared(archive):
    path = archive.write('a', DATA)
    other = archive.write('b', DATA)
    with archive.fault(op='open', path='/a', errno='EIO') as fault:
        assert [read_errno(path) for _ in range(5)] == ['EIO'] * 5
        assert read_errno(other) == 'OK'
        fired(archive, fault, 5)
    assert read_errno(path) == 'OK'


@pytest.mark.parametrize('name', ['ENODATA', 'EPERM', 'ENOENT', 'EACCES', 'ESTALE', 'EAGAIN', 'ETIMEDOUT', 'ENXIO'])
def test_any_errno_is_what_the_caller_gets(archive, name):
    path = archive.write('a', DATA)
    with archive.fault(op='read', path='a', errno=name) as fault:
        fd = os.open(path, os.O_RDONLY)
        try:
            assert errno_of(os.read, fd, 10) == name
        finally:
            os.close(fd)
        fired(archive, fault, 1)
    assert read_errno(path) == 'OK'


def test_an_error_is_for_one_user_one_program_or_one_process(archive):
    path = archive.write('a', DATA)
    os.chmod(path, 0o644)
    os.chmod(archive.mount, 0o755)

    def cat(user=None):
        argv = ['cat', path] if user is None else ['setpriv', '--reuid', str(user), '--clear-groups', 'cat', path]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    with archive.fault(op='open', comm='cat', errno='EIO') as fault:
        assert cat() == 1 and read_errno(path) == 'OK'
        fired(archive, fault, 1)
    with archive.fault(op='open', uid=0, errno='EIO') as fault:
        assert cat() == 1
        fired(archive, fault, 1)
    with archive.fault(op='open', uid=1234, errno='EIO'):
        assert cat() == 0
    with archive.fault(op='open', pid=os.getpid(), errno='EIO') as fault:
        assert read_errno(path) == 'EIO' and cat() == 0
        fired(archive, fault, 1)


def test_an_error_is_in_a_byte_range(archive):
    path = archive.write('a', b'x' * 65536)
    with archive.fault(op='read', path='a', errno='EIO', offset=40000, length=100) as fault:
        fd = os.open(path, os.O_RDONLY)
        try:
            assert errno_of(os.pread, fd, 4096, 0) == 'OK'
            assert errno_of(os.pread, fd, 10, 40099) == 'EIO'
            assert errno_of(os.pread, fd, 10, 40100) == 'OK'
        finally:
            os.close(fd)
        fired(archive, fault, 1)


def test_chance_is_repeated_by_its_seed(archive):
    path = archive.write('a', b'x')

    def run(seed):
        with archive.fault(op='open', path='a', errno='EIO', probability=0.5, seed=seed):
            return [read_errno(path) for _ in range(40)]
    assert run(1) == run(1) != run(2) and {'OK', 'EIO'} == set(run(1))


def test_a_fault_lasts_until_a_date_of_the_archive_s_clock(archive):
    path = on_disk(archive)
    with archive.fault(op='open', path='a', errno='EIO', until='+3600') as fault:
        assert read_errno(path) == 'EIO'
        archive.advance(3600)
        assert read_errno(path) == 'OK'
        fired(archive, fault, 1)


# ---- drives, library, queue ------------------------------------------------------------------------

def test_the_library_is_offline_and_comes_back(archive):
    path = archive.archived('a', DATA)
    archive.request('PATCH', '/v1/library', {'up': False})
    assert archive.state(path) == 'unavailable' and read_errno(path) == 'EIO'
    with pytest.raises(MockarchiveError) as refused:
        archive.act('recall', path)
    assert refused.value.errno == 'ENODATA'
    assert archive.post('/api/v1/archiveinfo', {'paths': ['/a']}) == [{'path': '/a', 'locality': 'UNAVAILABLE'}]
    assert [e['detail'] for e in archive.journal() if e['kind'] == 'drive'][-1] == 'library down'
    archive.request('PATCH', '/v1/library', {'up': True})
    assert recalled(archive, path) == 'dual'


def test_a_drive_goes_down_under_its_job(archive):
    archive.request('PATCH', '/v1/settings', {'drives': 1})
    path = archive.archived('a', DATA)
    archive.act('recall', path)
    assert archive.file(path)['drive'] == 0
    archive.request('PATCH', '/v1/drives/0', {'up': False})
    archive.advance(3600)
    assert archive.state(path) == 'recalling' and archive.file(path)['drive'] is None
    archive.request('PATCH', '/v1/drives/0', {'up': True})
    archive.settle()
    assert archive.state(path) == 'dual' and open(path, 'rb').read() == DATA


def test_a_recall_storm_meets_few_drives_and_a_short_queue(archive):
    paths = [archive.write('f%d' % i, b'x') for i in range(10)]
    archive.settle()
    archive.request('PATCH', '/v1/settings', {'drives': 1, 'queue.limit': 3, 'tape.mount': '60s'})
    refused = 0
    for path in paths:
        try:
            archive.act('recall', path)
        except MockarchiveError as e:
            assert (e.status, e.errno) == (503, 'EAGAIN')
            refused += 1
    assert 5 <= refused <= 7
    archive.settle()
    assert sum(archive.state(p) == 'dual' for p in paths) == 10 - refused


# ---- copies ---------------------------------------------------------------------------------------

def test_the_copy_is_lost(archive):
    path = archive.write('a', DATA)
    with archive.fault(phase='archive.*', path='a', lose=True) as fault:
        archive.settle()
        fired(archive, fault)
    assert archive.file(path)['copies']['tape'] in ('lost', 'none')
    archive.write('b', DATA)
    archive.settle()
    assert archive.state('/b') == 'released'
    archive.act('lose', '/b')
    assert archive.state('/b') == 'lost' and os.stat(archive.path('b')).st_size == len(DATA)
    assert read_errno(archive.path('b')) == 'EIO'
    archive.act('mend', '/b')
    assert recalled(archive, '/b') == 'dual'


def test_a_bit_flips_on_the_way_back_once(archive):
    path = archive.archived('a', DATA)
    with archive.fault(phase='recall.copy', path='a', corrupt={'how': 'flip', 'offset': 100, 'length': 1}) as fault:
        recalled(archive, path)
        fired(archive, fault, 1)
    got = open(path, 'rb').read()
    assert len(got) == len(DATA) and [i for i in range(len(DATA)) if got[i] != DATA[i]] == [100]
    archive.act('release', path, force=True)
    recalled(archive, path)
    assert open(path, 'rb').read() == DATA


def test_a_bad_copy_stays_bad(archive):
    path = archive.path('a')
    with archive.fault(phase='archive.copy', path='a', corrupt={'how': 'flip', 'length': 8}, seed=3) as fault:
        archive.archived('a', DATA)
        fired(archive, fault)
    recalled(archive, path)
    first = open(path, 'rb').read()
    assert first != DATA and len(first) == len(DATA)
    archive.act('release', path, force=True)
    recalled(archive, path)
    assert open(path, 'rb').read() == first


@pytest.mark.parametrize('how, want', [('zero', DATA[:10] + b'\0' * 20 + DATA[30:]), ('truncate', DATA[:10]), ('extend', None)])
def test_zeros_a_short_and_a_long_recall(archive, how, want):
    path = archive.archived('a', DATA)
    corrupt = {'how': how, 'length': 20}
    if how != 'extend':
        corrupt['offset'] = 10
    with archive.fault(phase='recall.copy', path='a', corrupt=corrupt) as fault:
        recalled(archive, path)
        fired(archive, fault, 1)
    got = open(path, 'rb').read()
    assert got == want if want is not None else (got[:len(DATA)] == DATA and len(got) == len(DATA) + 20)


def test_what_is_read_is_corrupt_and_what_is_stored_is_not(archive):
    path = archive.write('a', DATA)
    with archive.fault(op='read', path='a', corrupt={'how': 'flip', 'offset': 7}) as fault:
        got = open(path, 'rb').read()
        assert got != DATA and got[:7] == DATA[:7] and got[8:] == DATA[8:]
        fired(archive, fault)
    assert open(path, 'rb').read() == DATA


# ---- the replica -----------------------------------------------------------------------------------

def test_the_replica_is_missing_short_different_or_late(archive):
    def archive_with(name, **do):
        path = archive.write(name, DATA)
        with archive.fault(phase='archive.copy', copy='replica', path=name, **do) as fault:
            archive.settle() if 'delay' not in do else archive.advance(5)
            fired(archive, fault, 1)
            if 'delay' in do:
                assert not os.path.exists(replica(archive, path)) or os.stat(replica(archive, path)).st_size != len(DATA)
                archive.advance(do['delay'])
        return replica(archive, path)
    assert not os.path.exists(archive_with('skip', replica='skip'))
    assert os.stat(archive_with('short', replica='short')).st_size < len(DATA)
    different = archive_with('differ', replica='differ')
    assert os.stat(different).st_size == len(DATA) and open(different, 'rb').read() != DATA
    assert open(archive_with('late', delay=3600), 'rb').read() == DATA
    path = archive.archived('well', DATA)
    assert open(replica(archive, path), 'rb').read() == DATA


# ---- the sticky bit --------------------------------------------------------------------------------

def test_the_flag_is_never_set(archive):
    path = archive.path('a')
    with archive.fault(phase='archive.flag', path='a', flag='never-set') as fault:
        archive.archived('a', DATA)
        fired(archive, fault)
    assert archive.state(path) == 'released' and not is_sticky(path) and not is_sticky(replica(archive, path))
    assert is_sticky(archive.archived('b', DATA))


def test_the_flag_is_never_cleared(archive):
    path = archive.archived('a', DATA)
    with archive.fault(phase='recall.flag', path='a', flag='never-cleared') as fault:
        assert recalled(archive, path) == 'dual'
        fired(archive, fault)
    assert is_sticky(path) and open(path, 'rb').read() == DATA
    archive.act('release', path, force=True)
    recalled(archive, path)
    assert not is_sticky(path)


def test_the_flag_is_set_early(archive):
    with archive.fault(phase='archive.flag', flag='early') as fault:
        path = archive.write('b', DATA)
        wait_for('the flag', lambda: is_sticky(path) or is_sticky(replica(archive, path)) if os.path.exists(replica(archive, path))
                 else is_sticky(path))
        assert archive.state(path) == 'archiving'
        fired(archive, fault)


def test_the_flag_is_on_the_wrong_copy(archive):
    archive.request('PATCH', '/v1/settings', {'flag': 'final'})
    path = archive.path('a')
    with archive.fault(phase='archive.flag', path='a', flag='wrong-copy') as fault:
        archive.archived('a', DATA)
        fired(archive, fault)
    assert not is_sticky(path) and is_sticky(replica(archive, path))


# ---- archiving fails -------------------------------------------------------------------------------

@pytest.mark.parametrize('phase', ['archive.mount', 'archive.copy', 'archive.verify'])
def test_archiving_fails_after_it_was_accepted(archive, phase):
    archive.request('PATCH', '/v1/settings', {'verify': True})
    with archive.fault(phase=phase, path='a', errno='EIO') as fault:
        path = archive.write('a', DATA)
        archive.settle()
        fired(archive, fault)
        seen = archive.file(path)
        assert (seen['state'], seen['error']['errno'], seen['online']) == ('failed-archive', 'EIO', True)
    assert open(path, 'rb').read() == DATA
    archive.act('archive', path)
    archive.settle()
    assert archive.state(path) == 'released'


def test_a_recall_fails_and_can_be_asked_for_again(archive):
    path = archive.archived('a', DATA)
    with archive.fault(phase='recall.copy', path='a', errno='ESTALE', first=1) as fault:
        assert recalled(archive, path) == 'failed-recall'
        assert archive.file(path)['error']['errno'] == 'ESTALE'
        fired(archive, fault, 1)
        assert recalled(archive, path) == 'dual'


# ---- space -----------------------------------------------------------------------------------------

def test_there_is_no_space_beyond_a_byte(archive):
    path = archive.path('a')
    with archive.fault(op='write', path='a', enospc_at=8192) as fault:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        try:
            assert errno_of(os.write, fd, b'x' * 8192) == 'OK'
            assert errno_of(os.write, fd, b'x') == 'ENOSPC'
            assert errno_of(os.posix_fallocate, fd, 0, 8193) == 'ENOSPC'
            assert os.fstat(fd).st_size == 8192
        finally:
            os.close(fd)
        fired(archive, fault, 2)
    archive.write('a', b'x' * 10000)


def test_free_space_lies(archive):
    honest = os.statvfs(archive.mount)
    with archive.fault(op='statfs', total=1 << 30, free=0) as fault:
        lie = os.statvfs(archive.mount)
        assert lie.f_blocks * lie.f_frsize == 1 << 30 and lie.f_bavail == 0
        fired(archive, fault)
    again = os.statvfs(archive.mount)
    assert again.f_blocks == honest.f_blocks and again.f_bavail > 0


# ---- names, attributes, eviction -------------------------------------------------------------------

def test_a_delete_is_refused_for_a_time(archive):
    path = archive.write('a', DATA)
    with archive.fault(op='unlink', path='a', errno='EBUSY', first=2) as fault:
        assert [errno_of(os.unlink, path) for _ in range(3)] == ['EBUSY', 'EBUSY', 'OK']
        fired(archive, fault, 2)


def test_a_recalled_file_goes_too_early(archive):
    path = archive.archived('a', DATA)
    with archive.fault(phase='evict', path='a', evict=True) as fault:
        archive.act('recall', path, pin=3600)
        archive.settle()
        fired(archive, fault)
        archive.advance(1)
        assert archive.state(path) == 'released'
    archive.act('recall', path, pin=3600)
    archive.settle()
    archive.advance(1)
    assert archive.state(path) == 'dual'


def test_a_pin_expires(archive):
    archive.request('PATCH', '/v1/settings', {'recall.keep': '10s'})
    path = archive.archived('a', DATA)
    archive.act('recall', path, pin=3600)
    archive.settle()
    archive.advance(3500)
    assert archive.state(path) == 'dual'
    archive.advance(200)
    assert archive.state(path) == 'released'


def test_size_mtime_and_blocks_are_wrong(archive):
    path = archive.archived('a', DATA)
    honest = os.stat(path)
    with archive.fault(op='getattr', path='a', size_delta=-7, mtime_delta=-86400, blocks=0) as fault:
        lie = os.stat(path)
        assert (lie.st_size, int(lie.st_mtime), lie.st_blocks) == (len(DATA) - 7, int(honest.st_mtime) - 86400, 0)
        fired(archive, fault)
    again = os.stat(path)
    assert (again.st_size, again.st_mtime_ns, again.st_blocks) == (honest.st_size, honest.st_mtime_ns, honest.st_blocks)


def test_a_file_on_tape_says_that_it_is_one_hole(archive):
    archive.request('PATCH', '/v1/settings', {'trigger': 'read'})
    path = archive.archived('a', DATA)
    fd = os.open(path, os.O_RDONLY)
    try:
        with archive.fault(op='lseek', path='a', hole=True) as fault:
            assert errno_of(os.lseek, fd, 0, os.SEEK_DATA) == 'ENXIO'
            fired(archive, fault, 1)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    finally:
        os.close(fd)


# ---- crash -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('point', ['archive.queue', 'archive.mount', 'archive.copy', 'archive.verify', 'archive.release', 'archive.flag',
                                   'recall.queue', 'recall.mount', 'recall.copy', 'recall.flag', 'open'])
def test_it_crashes_where_it_is_told_and_goes_on_after_a_restart(start, point):
    archive = start()
    path = archive.path('a')
    if not point.startswith('archive'):
        archive.archived('a', DATA)
    archive.post('/v1/faults', {'match': {'op': point}, 'do': {'crash': True}})

    def provoke():
        try:
            if point.startswith('archive'):
                archive.write('a', DATA)
            elif point == 'open':
                read_errno(path)
            else:
                archive.act('recall', path)
            archive.settle()
        except (OSError, MockarchiveError, http.client.HTTPException):
            pass
    provoke()
    assert archive.process.wait(20) == -signal.SIGKILL
    archive.kill()
    archive.start()
    archive.settle()
    if archive.state(path) == 'resident':
        archive.act('archive', path)
        archive.settle()
    assert recalled(archive, path) == 'dual'
    assert open(path, 'rb').read() == DATA
