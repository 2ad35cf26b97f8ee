"""`wormctl verify` (T34, T44): whatever of file, record and ledger was changed behind our back is found and named, and nothing
else is."""
import os
import shutil

import pytest

from harness import errno_of, mounts, opened, read_file, run, write_file
from verify_harness import RECORD, damaged, hide, some_locked, sql, verify, wait_all_digests, when		# noqa: F401


def test_T44_a_share_in_order_has_no_findings(wormfs, when):
    some_locked(wormfs, 'a', 'd/b', 'd/e/c')
    write_file(wormfs.at('open'), b'')
    wormfs.must('hold', 'a', case='x')
    os.setxattr(wormfs.at('d/b'), 'user.worm.until', b'2090-01-01')
    os.chmod(wormfs.at('d/b'), 0o444)
    if when == 'stopped':
        wormfs.stop()
    code, found, summary = verify(wormfs, check=0)
    assert found == {} and summary['files'] == 3 and summary['pending'] == 0
    assert summary['bytes'] == sum(os.stat(wormfs.below(n)).st_size for n in ('a', 'd/b', 'd/e/c'))
    assert verify(wormfs, path=wormfs.at('d'), check=0)[2]['files'] == 2
    assert verify(wormfs, path=wormfs.at('d/b'), check=0)[2]['files'] == 1


def test_T44_an_edit_that_put_size_and_time_back_is_found(wormfs, damaged):
    some_locked(wormfs, 'a', 'b')
    assert damaged(wormfs, lambda: hide(wormfs, 'a', b'T'))[:2] == (1, {'a': {'data'}})
    assert wormfs.explain('a')['suspect'] is None if wormfs.alive() else True     # nothing else sees it


def image_of(share):
    """The image file and the loop device below a share on a Bases filesystem."""
    point = max((m[0] for m in mounts() if share.lower.startswith(m[0] + '/') and m[1] == 'ext4'), key=len)
    return point, point + '.img'


def test_T44_a_bit_that_flips_on_the_disk_is_found_although_the_cache_is_good(mount):
    """The bit is flipped in the image below ext4: neither the page cache of the lower filesystem nor that of the mount
    knows of it, so every program still reads the good data."""
    point = mount.bases.make('ext4', 'flip', size='64M')
    share = mount(base=point, state=os.path.join(mount.bases.root, 'state-flip'))
    needle = b'needle' + os.urandom(32)
    share.lock('a', os.urandom(8192) + needle + os.urandom(5000))
    share.lock('small', b'x' * 100)
    wait_all_digests(share)
    run('sync', '-f', share.lower)
    good = read_file(share.at('a'))
    assert verify(share, check=0)[1] == {}
    with open(point + '.img', 'r+b') as image:
        at = image.read().index(needle)
        image.seek(at)
        image.write(bytes([needle[0] ^ 1]))
        image.flush()
        os.fsync(image.fileno())
    assert read_file(share.at('a')) == good == read_file(share.below('a'))       # out of the caches
    code, found, _ = verify(share)
    assert (code, found) == (1, {'a': {'data'}})
    share.stop()
    assert verify(share)[:2] == (1, {'a': {'data'}})


@pytest.mark.parametrize('how', ['appended', 'truncated', 'touched', 'overwritten'])
def test_T34_an_edited_file_is_found(wormfs, damaged, how):
    some_locked(wormfs, 'a', 'b')

    def edit():
        below = wormfs.below('a')
        if how == 'appended':
            write_file(below, b'forged', flags=os.O_APPEND)
        elif how == 'truncated':
            os.truncate(below, 3)
        elif how == 'touched':
            os.utime(below, (1, 1))
        else:
            with opened(below, os.O_WRONLY) as fd:
                os.pwrite(fd, b'forged', 0)
    want = {'edited', 'data'} if how == 'overwritten' else {'edited'}
    assert damaged(wormfs, edit)[:2] == (1, {'a': want})


def test_T34_a_replaced_file_is_found(wormfs, damaged):
    some_locked(wormfs, 'a', 'b')

    def replace():
        write_file(wormfs.below('new'), read_file(wormfs.below('a')))
        os.rename(wormfs.below('new'), wormfs.below('a'))
    assert damaged(wormfs, replace)[:2] == (1, {'a': {'replaced'}})


def test_T34_a_missing_and_a_moved_file_are_told_apart(wormfs, damaged):
    some_locked(wormfs, 'a', 'b', 'd/c')

    def remove():
        os.unlink(wormfs.below('a'))
        os.rename(wormfs.below('b'), wormfs.below('b2'))
        os.rename(wormfs.below('d'), wormfs.below('d2'))
    assert damaged(wormfs, remove)[:2] == (1, {'a': {'missing'}, 'b': {'moved'}, 'd/c': {'moved'}})


def test_an_expired_file_that_lost_one_of_its_names_is_in_order_under_the_other(mount):
    share = mount('retention=1d', clocked=True)
    for name in 'ab':
        write_file(share.below(name), b'from before')
        os.link(share.below(name), share.below(name + '2'))
    for name in ('a', 'a2', 'b', 'b2'):
        os.stat(share.at(name))
    for name in ('a', 'b2'):
        share.must('commit', name)
    share.now(3 * 86400)
    os.unlink(share.at('a'))
    os.unlink(share.at('b2'))
    share.must('sync')
    assert ', 0 findings' in share.ctl('verify', share.mnt).out
    assert sorted(share.listed()) == ['a2', 'b']


def test_a_file_whose_other_name_was_replaced_or_moved_is_locked_under_the_one_it_has(wormfs):
    for name in 'bd':
        write_file(wormfs.below(name), b'from before')
        os.stat(wormfs.at(name))
        os.link(wormfs.at(name), wormfs.at(name + '2'))
    write_file(wormfs.at('other.part'), b'other')
    os.rename(wormfs.at('other.part'), wormfs.at('b'))
    os.rename(wormfs.at('d2'), wormfs.at('d3'))
    os.unlink(wormfs.at('d'))
    for name in ('b2', 'd3'):
        write_file(wormfs.at(name), b'written', flags=os.O_TRUNC)
    assert sorted(wormfs.listed()) == ['b', 'b2', 'd3']
    assert ', 0 findings' in wormfs.ctl('verify', wormfs.mnt).out


def test_T34_a_removed_and_a_forged_record_are_found(wormfs, damaged):
    some_locked(wormfs, 'a', 'b', 'c')
    wormfs.expect_log('record')

    def forge():
        os.removexattr(wormfs.below('a'), RECORD)
        record = os.getxattr(wormfs.below('b'), RECORD)
        os.setxattr(wormfs.below('b'), RECORD, record[:16] + b'\0' * 8 + record[24:])
        os.setxattr(wormfs.below('c'), RECORD, b'short')
    assert damaged(wormfs, forge)[:2] == (1, {'a': {'stripped'}, 'b': {'unverifiable'}, 'c': {'unverifiable'}})


@pytest.mark.parametrize('change', ['until_s = until_s - 86400', 'until_s = until_s + 86400', 'mode = 1', 'serial = 99', 'size_bytes = 1',
                                    'committed_s = 1', 'holds = 3'])
def test_a_record_that_disagrees_with_the_ledger_is_found(mount, change):
    share = mount('retention=30d')
    some_locked(share, 'a', 'b')
    share.stop()
    sql(share, "UPDATE file SET %s WHERE CAST(path AS TEXT) = 'a'" % change)
    code, found, _ = verify(share)
    assert code == 1 and set(found) == {'a'} and 'differs' in found['a']


def test_a_row_with_another_digest_is_found(wormfs):
    some_locked(wormfs, 'a')
    wormfs.stop()
    sql(wormfs, "UPDATE file SET sha256 = zeroblob(32)")
    assert verify(wormfs)[:2] == (1, {'a': {'data'}})


def test_a_locked_file_that_the_ledger_does_not_know_is_foreign(wormfs):
    some_locked(wormfs, 'a', 'd/b')
    wormfs.stop()
    sql(wormfs, "DELETE FROM file WHERE CAST(path AS TEXT) = 'd/b'")
    assert verify(wormfs)[:2] == (1, {'d/b': {'foreign'}})
    assert verify(wormfs, path=wormfs.below('d/b'))[:2] == (1, {'d/b': {'foreign'}})
    assert verify(wormfs, path=wormfs.below('a'))[:2] == (0, {})
    wormfs.start()
    wormfs.must('reindex')
    assert verify(wormfs)[:2] == (0, {})


def test_a_copied_record_is_found_before_and_after_the_ledger_knows_the_copy(wormfs):
    some_locked(wormfs, 'a', 'b')
    shutil.copy2(wormfs.below('a'), wormfs.below('copy'))       # xattrs come along
    assert os.getxattr(wormfs.below('copy'), RECORD) == os.getxattr(wormfs.below('a'), RECORD)
    assert verify(wormfs)[:2] == (1, {'copy': {'copied'}})
    os.setxattr(wormfs.at('copy'), 'user.worm.until', b'2090-01-01')
    wormfs.must('reindex')
    assert verify(wormfs)[:2] == (1, {'a': {'copied'}, 'copy': {'copied'}})
    assert verify(wormfs, path=wormfs.at('copy'))[:2] == (1, {'copy': {'copied'}})


def test_a_restored_share_is_foreign_until_reindex_and_then_in_order(wormfs):
    """Every file has another inode and the same record: no file is missing, and none is a copy."""
    some_locked(wormfs, 'a', 'd/b')
    wormfs.stop()
    for name in ('a', 'd/b'):
        shutil.copy2(wormfs.below(name), wormfs.below(name + '.copy'))
        os.rename(wormfs.below(name + '.copy'), wormfs.below(name))
    assert verify(wormfs)[:2] == (1, {'a': {'foreign'}, 'd/b': {'foreign'}})
    wormfs.start()
    wormfs.must('reindex')
    assert verify(wormfs)[:2] == (0, {})


def test_an_expired_file_that_is_gone_is_no_finding(mount):
    share = mount('retention=1d', clocked=True)
    some_locked(share, 'a', 'b')
    share.now(2 * 86400)
    os.unlink(share.below('a'))
    code, found, summary = verify(share, check=0)
    assert found == {} and summary['gone'] == 1


def test_the_wrong_key_is_said_for_every_record_and_a_missing_one_at_once(wormfs):
    some_locked(wormfs, 'a')
    key = write_file(wormfs.dir + '/other', os.urandom(32), 0o600)
    assert verify(wormfs, '--key', key)[:2] == (1, {'a': {'unverifiable'}})
    p = wormfs.ctl('verify', '--state-dir', wormfs.state, '--key', wormfs.dir + '/none', wormfs.mnt, check=False)
    assert p.returncode == 2 and 'no key' in p.err


def test_verify_finds_nothing_wrong_while_files_are_locked_extended_and_deleted(mount):
    """Online: what is in the middle of a change is no finding."""
    share = mount('retention=0s')
    stop = []
    import threading

    def busy():
        n = 0
        while not stop:
            path = write_file(share.at('f%d' % n), b'x' * (n * 97 % 5000 + 1))
            if n % 3 == 0:
                os.setxattr(path, 'user.worm.until', b'1d')
            elif n % 3 == 1:
                errno_of(os.unlink, path)
            n += 1
            if n == 20000:
                return
    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(6):
            code, found, summary = verify(share, check=0)
            assert found == {}
    finally:
        stop.append(1)
        thread.join()


def test_a_lost_ledger_is_said_and_is_exit_2(mount):
    share = mount()
    some_locked(share, 'a', 'b')
    share.stop()
    os.rename(share.state + '/ledger.db', share.state + '/elsewhere')
    p = share.ctl('verify', '--state-dir', share.state, share.below(), check=False)
    assert p.returncode == 2 and 'no ledger' in p.err and p.out == ''


def test_text_findings_are_one_line_each_with_what_to_do(wormfs):
    some_locked(wormfs, 'a', 'new\nline')
    hide(wormfs, 'new\nline', b'T')
    p = wormfs.ctl('verify', '--quiet', '--state-dir', wormfs.state, wormfs.mnt, check=False)
    assert p.returncode == 1 and p.err == ''
    assert p.out.startswith('new\\nline: data: ') and p.out.count('\n') == 1 and '; compare' in p.out
    p = wormfs.ctl('verify', '--state-dir', wormfs.state, wormfs.mnt, check=False)
    assert p.out.splitlines()[-1].startswith('2 files verified, ') and '1 findings' in p.out


def test_since_looks_at_what_was_locked_later_only(mount):
    share = mount(clocked=True)
    some_locked(share, 'old')
    share.now(10 * 86400)
    some_locked(share, 'new')
    date = share.explain('new')['committed'][:10]
    assert verify(share, '--since', date, check=0)[2]['files'] == 1
    assert verify(share, '--since', '2000-01-01', check=0)[2]['files'] == 2
