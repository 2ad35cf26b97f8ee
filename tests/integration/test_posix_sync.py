"""POSIX without exception: what was synced survives the power. posix_harness.py says how it is compared."""
import mmap
import os

import pytest

from harness import opened, read_file, run, write_file


@pytest.mark.parametrize('base', ['ext4', 'xfs'])
def test_fsync_of_a_directory_puts_its_names_on_the_disk(mount, base):
    """Power loss by the shutdown ioctl: a rename that fsync of the directory has acknowledged is there."""
    name = 'fsyncdir-' + base
    point = mount.bases.make(base, name, size='400M', options=('commit=600',) if base == 'ext4' else ())
    share = mount('commit=never', base=point, state=os.path.join(mount.bases.root, 'state-' + name))
    os.mkdir(share.at('d'))
    run('sync', '-f', point)
    with opened(share.at('d'), os.O_RDONLY | os.O_DIRECTORY) as d:
        for n in range(10):
            with opened(share.at('d', 't%d' % n), os.O_CREAT | os.O_WRONLY) as fd:
                os.write(fd, b'content %d' % n)
                os.fsync(fd)
            os.rename(share.at('d', 't%d' % n), share.at('d', 'f%d' % n))
        os.fsync(d)
    mount.bases.cut_power(share, name)
    share.start()
    assert sorted(os.listdir(share.at('d'))) == ['f%d' % n for n in range(10)]
    assert [read_file(share.at('d', 'f%d' % n)) for n in range(10)] == [b'content %d' % n for n in range(10)]


def test_without_fsync_the_same_power_loss_does_lose_names(mount):
    """So that the test above means something."""
    name = 'nofsync'
    point = mount.bases.make('ext4', name, size='400M', options=('commit=600',))
    share = mount('commit=never', base=point, state=os.path.join(mount.bases.root, 'state-' + name))
    os.mkdir(share.at('d'))
    run('sync', '-f', point)
    for n in range(10):
        write_file(share.at('d', 'f%d' % n))
    mount.bases.cut_power(share, name)
    assert os.listdir(share.below('d')) == []


@pytest.mark.parametrize('how', ['fsync', 'fdatasync', 'O_SYNC', 'O_DSYNC', 'msync'])
def test_what_was_synced_survives_the_power(mount, how):
    name = 'sync-' + how
    point = mount.bases.make('ext4', name, size='200M', options=('commit=600',))
    share = mount('commit=never', base=point, state=os.path.join(mount.bases.root, 'state-' + name))
    write_file(share.at('f'), b'\0' * 8192)
    run('sync', '-f', point)
    flags = {'O_SYNC': os.O_SYNC, 'O_DSYNC': os.O_DSYNC}.get(how, 0)
    with opened(share.at('f'), os.O_RDWR | flags) as fd:
        if how == 'msync':
            m = mmap.mmap(fd, 8192)
            m[:8] = b'content!'
            m.flush()
            m.close()
        else:
            os.pwrite(fd, b'content!', 0)
            if how == 'fsync':
                os.fsync(fd)
            elif how == 'fdatasync':
                os.fdatasync(fd)
    mount.bases.cut_power(share, name)
    assert read_file(share.below('f'))[:8] == b'content!'
