"""Changes behind our back (T34) and records that cannot be read (T35): what was locked is not opened by them, what
cannot be decided is EIO, reading goes on."""
import os
import shutil

import pytest

from harness import LOCKED, errno_of, look, open_errno, opened, read_file, set_flags, FS_IMMUTABLE_FL, write_file

RECORD = 'trusted.wormfs'


def record(share, name):
    return os.getxattr(share.below(name), RECORD)


def changes(path):
    """Every change that a lock refuses, and what came of it."""
    return {
        'open-write': open_errno(path, os.O_WRONLY), 'open-truncate': open_errno(path, os.O_RDONLY | os.O_TRUNC),
        'append': open_errno(path, os.O_WRONLY | os.O_APPEND), 'truncate': errno_of(os.truncate, path, 0),
        'unlink': errno_of(os.unlink, path), 'rename': errno_of(os.rename, path, path + '2'),
        'link': errno_of(os.link, path, path + '2'), 'chmod': errno_of(os.chmod, path, 0o777),
        'chown': errno_of(os.chown, path, 1000, 1000), 'utimes': errno_of(os.utime, path),
        'setxattr': errno_of(os.setxattr, path, 'user.x', b'x'),
    }


def all_refused_with(errno, path):
    got = changes(path)
    assert got == dict.fromkeys(got, errno)


# ---- T34 ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('how', ['appended', 'overwritten', 'truncated', 'touched'])
@pytest.mark.parametrize('when', ['mounted', 'unmounted'])
def test_T34_an_edited_lower_file_is_suspect_stays_locked_and_is_still_read(wormfs, how, when):
    path = wormfs.lock('a', b'0123456789')
    assert wormfs.explain('a')['suspect'] is None
    if when == 'unmounted':
        wormfs.stop()
    below = wormfs.below('a')
    if how == 'appended':
        write_file(below, b'forged', flags=os.O_APPEND)
    elif how == 'overwritten':
        with opened(below, os.O_WRONLY) as fd:
            os.pwrite(fd, b'forged', 0)
    elif how == 'truncated':
        os.truncate(below, 3)
    else:
        os.utime(below, (1, 1))
    if when == 'unmounted':
        wormfs.start()
    before = look(below)
    assert isinstance(wormfs.explain('a')['suspect'], str)
    all_refused_with('EPERM', path)
    assert wormfs.shows(path) == 'retained'
    assert look(below) == before
    if when == 'unmounted':
        assert read_file(path) == read_file(below)


def test_T34_a_file_put_in_the_place_of_a_locked_one_is_not_taken_for_it(wormfs):
    path = wormfs.lock('a')
    wormfs.stop()
    write_file(wormfs.below('forged'), b'forged!')
    os.rename(wormfs.below('forged'), wormfs.below('a'))
    wormfs.start()
    file = wormfs.explain('a')
    assert file['state'] not in LOCKED or file['suspect'] is not None
    assert file['serial'] is None or file['suspect'] is not None
    stats = wormfs.must('reindex')['stats']
    assert stats['missing'] == 1
    assert read_file(path) == b'forged!'


def test_T34_a_copied_record_does_not_lock_another_file_under_the_same_identity(wormfs):
    """A record copied with its file (cp -a, rsync -X, a restored backup) locks the copy too: it is a good record."""
    wormfs.lock('a')
    wormfs.stop()
    shutil.copy2(wormfs.below('a'), wormfs.below('b'))
    os.setxattr(wormfs.below('b'), RECORD, record(wormfs, 'a'))
    wormfs.start()
    assert wormfs.shows('b') == 'retained'
    all_refused_with('EPERM', wormfs.at('b'))
    all_refused_with('EPERM', wormfs.at('a'))


def test_T34_a_file_deleted_below_is_gone_and_reported_as_missing(wormfs):
    wormfs.lock('a')
    wormfs.lock('b')
    wormfs.must('sync')
    wormfs.stop()
    os.unlink(wormfs.below('a'))
    wormfs.start()
    assert errno_of(os.stat, wormfs.at('a')) == 'ENOENT'
    assert wormfs.must('reindex')['stats']['missing'] == 1
    write_file(wormfs.at('a'), b'')             # the name is free
    assert wormfs.shows('a') == 'open'
    assert wormfs.shows('b') == 'retained'


def test_T34_a_file_deleted_below_while_mounted_does_not_harm_the_daemon(mount):
    share = mount('shared=yes')
    share.lock('a')
    os.unlink(share.below('a'))
    assert errno_of(read_file, share.at('a')) in ('ENOENT', 'ESTALE', 'OK')
    share.lock('b')
    assert share.alive()


def test_T34_a_locked_file_renamed_below_is_locked_under_its_new_name(wormfs):
    wormfs.lock('a')
    wormfs.must('sync')
    wormfs.stop()
    os.mkdir(wormfs.below('d'))
    os.rename(wormfs.below('a'), wormfs.below('d/b'))
    wormfs.start()
    assert wormfs.shows('d/b') == 'retained'
    all_refused_with('EPERM', wormfs.at('d/b'))


def test_T34_what_another_gateway_locks_is_locked_here(mount):
    """Two mounts of one lower directory (as two hosts have of an NFS share) with one key and a state each."""
    share = mount('shared=yes')
    share.lock('a')
    key = os.path.join(share.state, 'key')
    assert os.path.exists(key)
    share.stop()
    os.rename(share.state, share.state + '.other')
    os.mkdir(share.state, 0o700)
    share.start('shared=yes,key=' + os.path.join(share.state + '.other', 'key'))
    assert share.shows('a') == 'retained'
    all_refused_with('EPERM', share.at('a'))


# ---- T35 ----------------------------------------------------------------------------------------

DAMAGE = {
    'a flipped bit': lambda r: bytes([r[0]]) + bytes([r[1] ^ 1]) + r[2:],
    'a later date': lambda r: r[:16] + b'\1' * 8 + r[24:],
    'an earlier date': lambda r: r[:16] + b'\0' * 8 + r[24:],
    'a flipped bit in the MAC': lambda r: r[:-1] + bytes([r[-1] ^ 0x80]),
    'truncated': lambda r: r[:30],
    'empty': lambda r: b'',
    'longer': lambda r: r + b'\0',
    'an unknown version': lambda r: b'\xff' + r[1:],
    'zeroes': lambda r: b'\0' * len(r),
    'random': lambda r: os.urandom(len(r)),
    'huge': lambda r: r + b'x' * 2000,
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_T35_a_record_that_cannot_be_verified_is_EIO_for_every_change_and_read_all_the_same(wormfs, damage):
    path = wormfs.lock('a')
    wormfs.must('sync')
    wormfs.stop()
    wormfs.expect_log('record')
    os.setxattr(wormfs.below('a'), RECORD, DAMAGE[damage](record(wormfs, 'a')))
    wormfs.start()
    before = look(wormfs.below('a'))
    all_refused_with('EIO', path)
    assert wormfs.shows(path) == 'unreadable'
    assert read_file(path) == b'report\n'
    assert os.stat(path).st_size == 7
    assert errno_of(os.setxattr, path, 'user.worm.until', b'1d') == 'EIO'
    assert errno_of(os.setxattr, path, 'user.worm.commit', b'1') == 'EIO'
    assert wormfs.refused('hold', 'a', case='x') == 'EIO'
    assert look(wormfs.below('a')) == before


def test_T35_a_file_with_a_damaged_record_is_not_replaced_by_a_rename(wormfs):
    path = wormfs.lock('a')
    wormfs.stop()
    wormfs.expect_log('record')
    os.setxattr(wormfs.below('a'), RECORD, b'damaged')
    wormfs.start()
    write_file(wormfs.at('b.part'), b'forged')
    assert errno_of(os.rename, wormfs.at('b.part'), path) == 'EIO'
    assert read_file(wormfs.below('a')) == b'report\n'


def test_T35_a_directory_above_a_damaged_record_is_not_renamed(wormfs):
    os.mkdir(wormfs.at('d'))
    wormfs.lock('d/a')
    wormfs.stop()
    wormfs.expect_log('record')
    os.setxattr(wormfs.below('d/a'), RECORD, b'damaged')
    wormfs.start()
    assert errno_of(os.rename, wormfs.at('d'), wormfs.at('e')) in ('EPERM', 'EIO')


def test_T35_a_damaged_record_is_counted_by_reindex_and_not_repaired(wormfs):
    wormfs.lock('a')
    wormfs.lock('b')
    wormfs.stop()
    wormfs.expect_log('record')
    os.setxattr(wormfs.below('a'), RECORD, b'damaged')
    wormfs.start()
    stats = wormfs.must('reindex')['stats']
    assert (stats['locked'], stats['bad']) == (1, 1)
    assert os.getxattr(wormfs.below('a'), RECORD) == b'damaged'
    assert open_errno(wormfs.at('a'), os.O_WRONLY) == 'EIO'


@pytest.mark.parametrize('when', ['mounted', 'unmounted'])
def test_T35_a_removed_record_does_not_unlock_what_the_ledger_has(wormfs, when):
    path = wormfs.lock('a')
    wormfs.must('sync')
    if when == 'unmounted':
        wormfs.stop()
    wormfs.expect_log('record')
    os.removexattr(wormfs.below('a'), RECORD)
    if when == 'unmounted':
        wormfs.start()
    content = read_file(wormfs.below('a'))
    all_refused_with('EPERM', path)
    assert wormfs.shows(path) == 'retained'
    assert read_file(wormfs.below('a')) == content
    assert wormfs.explain('a')['suspect'] is not None or record(wormfs, 'a')     # said, or put back


def test_T35_a_removed_pin_does_not_let_a_directory_go_that_the_ledger_knows(wormfs):
    os.mkdir(wormfs.at('d'))
    wormfs.lock('d/a')
    wormfs.must('sync')
    wormfs.stop()
    for name in os.listxattr(wormfs.below('d')):
        os.removexattr(wormfs.below('d'), name)
    wormfs.start()
    assert errno_of(os.rename, wormfs.at('d'), wormfs.at('e')) == 'EPERM'


def test_T35_another_key_makes_every_record_unreadable_and_unlocks_none(wormfs):
    path = wormfs.lock('a')
    wormfs.must('sync')
    wormfs.stop()
    wormfs.expect_log('record', 'key')
    key = os.path.join(wormfs.dir, 'other.key')
    write_file(key, os.urandom(32), 0o600)
    wormfs.start('key=' + key)
    all_refused_with('EIO', path)
    assert read_file(path) == b'report\n'
    wormfs.stop()
    wormfs.start('')
    all_refused_with('EPERM', path)


def test_T35_an_immutable_lower_file_is_locked_like_any_other(wormfs):
    path = wormfs.lock('a')
    set_flags(wormfs.below('a'), FS_IMMUTABLE_FL)
    try:
        wormfs.remount()
        all_refused_with('EPERM', path)
        assert read_file(path) == b'report\n'
    finally:
        set_flags(wormfs.below('a'), 0)


def test_T35_an_error_of_the_disk_while_the_record_is_read_is_EIO_not_open(mount):
    """The lower ext4 is shut down: every xattr that is not cached fails."""
    import fcntl
    import struct
    name = 'failing'
    point = mount.bases.make('ext4', name, size='200M')
    share = mount('shared=yes', base=point, state=os.path.join(mount.bases.root, 'state-failing'))
    os.mkdir(share.at('d'))
    for n in range(5):
        share.lock('d/f%d' % n)
    share.must('sync')
    share.remount()
    share.expect_log('.')
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('3')
    with opened(point, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
    for n in range(5):
        for result in changes(share.at('d/f%d' % n)).values():
            assert result in ('EIO', 'EPERM')
    share.kill9()
