"""The filesystems that shares are put on."""
import contextlib
import os
import struct
import tempfile

import pytest

from calls import MNT_DETACH, errno_of, opened, umount_call
from programs import need_program, run, wait_for
from share import mounts


class Bases:
    """Filesystems to put shares on, each mounted once a session, when it is first asked for."""
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix='wormfs-test-', dir=os.environ.get('WORMFS_TEST_TMP', '/var/tmp'))
        os.chmod(self.root, 0o755)
        self.points = {}
        self.shares = 0

    def get(self, kind):
        if kind not in self.points:
            self.points[kind] = self.make(kind, kind)
        return self.points[kind]

    def make(self, kind, name, size='12G', options=(), mkfs=()):
        """A fresh filesystem; the path of its root."""
        point = os.path.join(self.root, name)
        os.mkdir(point)
        if kind in ('tmpfs', 'ramfs'):
            run('mount', '-t', kind, *(['-o', ','.join(options)] if options else []), 'wormfs-test', point)
        else:
            image = point + '.img'
            programs = {'ext4': ['mkfs.ext4', '-q', '-F', '-i', '8192', '-E', 'lazy_itable_init=1,nodiscard'],
                'xfs': ['mkfs.xfs', '-q', '-f', '-K'], 'btrfs': ['mkfs.btrfs', '-q', '-f', '-K']}
            need_program(programs[kind][0])
            run('truncate', '-s', size, image)
            run(*programs[kind], *mkfs, image)
            # noinit_itable: no thread that fills the sparse image while tests measure.
            opts = list(options) + (['noinit_itable'] if kind == 'ext4' else [])
            p = run('mount', '-t', kind, '-o', ','.join(['loop'] + opts), image, point, check=False)
            if p.returncode != 0:
                pytest.skip('this kernel cannot mount %s: %s' % (kind, p.err.strip()))
        run('mount', '--make-private', point)
        os.chmod(point, 0o755)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(point, 'lost+found'))
        return point

    def end(self):
        for point, _, _, _ in reversed(mounts()):
            if point.startswith(self.root + '/'):
                with contextlib.suppress(OSError):
                    umount_call(point, MNT_DETACH)
        run('rm', '-rf', '--one-file-system', self.root, check=False)

    def cut_power(self, share, name):
        """Power loss of a filesystem made with make(): the shutdown ioctl of ext4 and xfs cuts it off with
        nothing written any more, and it is mounted again with what had reached the disk; the share too."""
        import fcntl
        point = os.path.join(self.root, name)
        kind = [m[1] for m in mounts() if m[0] == point][-1]
        with opened(point, os.O_RDONLY) as fd:
            fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))     # FS_IOC_SHUTDOWN, NOLOGFLUSH
        share.kill9()
        # What the kernel had open for the dead daemon's passthrough goes a moment after it.
        for mounted in (share.lower, point):
            wait_for('umount of ' + mounted, lambda: errno_of(umount_call, mounted) == 'OK')
        run('mount', '-t', kind, '-o', 'loop', point + '.img', point)
        run('mount', '--make-private', point)
        share.bind()
