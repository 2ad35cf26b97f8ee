"""System calls that Python lacks, and the errnos of all of them."""
import contextlib
import ctypes
import errno
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MS_RDONLY, MS_REMOUNT, MS_PRIVATE, MS_REC = 1, 32, 1 << 18, 1 << 14
MNT_DETACH = 2
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801c581f, 0x401c5820
FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL = 0x10, 0x20, 0x40
FICLONE, FIDEDUPERANGE = 0x40049409, 0xc0189436
FALLOC = {				# every mode of linux/falloc.h
    'plain': 0, 'keep-size': 1, 'punch-hole': 3, 'collapse-range': 8,
    'zero-range': 0x10, 'zero-range-keep-size': 0x11, 'insert-range': 0x20, 'unshare-range': 0x40,
}


def _call(name, *args):
    r = getattr(libc, name)(*args)
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), name)
    return r


def _path(path):
    return ctypes.c_char_p(os.fsencode(path))


def renameat2(old, new, flags, old_dir=AT_FDCWD, new_dir=AT_FDCWD):
    _call('renameat2', old_dir, _path(old), new_dir, _path(new), ctypes.c_uint(flags))


def linkat(old_dir, old, new, flags, new_dir=AT_FDCWD):
    _call('linkat', old_dir, _path(old), new_dir, _path(new), flags)


def link_descriptor(fd, path):
    """Gives a name to an O_TMPFILE descriptor."""
    linkat(AT_FDCWD, '/proc/self/fd/%d' % fd, path, AT_SYMLINK_FOLLOW)


def fallocate(fd, mode, offset, length):
    _call('fallocate', fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))


class Timespec(ctypes.Structure):
    _fields_ = [('sec', ctypes.c_long), ('nsec', ctypes.c_long)]


def utimensat(path, atime, mtime, flags=0):
    """Each time is (sec, nsec); nsec may be UTIME_NOW or UTIME_OMIT."""
    _call('utimensat', AT_FDCWD, _path(path), (Timespec * 2)(Timespec(*atime), Timespec(*mtime)), flags)


def mount_call(source, target, fstype, flags, data=None):
    _call('mount', _path(source) if source else None, _path(target), _path(fstype) if fstype else None,
          ctypes.c_ulong(flags), _path(data) if data else None)


def umount_call(target, flags=0):
    _call('umount2', _path(target), flags)


def get_flags(path):
    """chattr flags, through FS_IOC_GETFLAGS."""
    import fcntl
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
        return struct.unpack('i', fcntl.ioctl(fd, FS_IOC_GETFLAGS, b'\0' * 4))[0]


def set_flags(path, flags):
    import fcntl
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack('i', flags))


def set_fsxattr_flags(path, xflags):
    import fcntl
    with opened(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, struct.pack('IIII', xflags, 0, 0, 0) + b'\0' * 12)


# ---- errnos -------------------------------------------------------------------------------------

_NAMES = {errno.EOPNOTSUPP: 'EOPNOTSUPP', errno.EAGAIN: 'EAGAIN', errno.EDEADLK: 'EDEADLK'}


def errno_name(number):
    return _NAMES.get(number) or errno.errorcode.get(number, str(number))


def errno_of(fn, *args, **kwargs):
    """'OK', or the name of the errno that the call failed with."""
    try:
        fn(*args, **kwargs)
    except OSError as e:
        if e.errno is None:
            raise
        return errno_name(e.errno)
    return 'OK'


def open_errno(path, flags, mode=0o644):
    """Likewise for open(2); what was opened is closed again."""
    def go():
        os.close(os.open(path, flags, mode))
    return errno_of(go)


@contextlib.contextmanager
def opened(path, flags, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)
