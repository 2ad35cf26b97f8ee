"""POSIX without exception, with commit=never: each test of test_posix_*.py does the same in a directory of the mount and in one
of the lower filesystem (`pair.same`) and wants the same answers. The list is what FUSE peers get wrong, see
facts/outside-world.md."""
import os
import stat

from harness import mounts, write_file


def attributes(path, *more):
    st = os.lstat(path)
    what = {'mode': oct(st.st_mode), 'uid': st.st_uid, 'gid': st.st_gid, 'nlink': st.st_nlink}
    if not stat.S_ISDIR(st.st_mode):
        what['size'] = st.st_size
    for m in more:
        what[m] = getattr(st, 'st_' + m)
    return what


def make_all_kinds(d):
    """Something of every kind in directory d; their attributes."""
    write_file(d + '/file', b'x', 0o666)
    os.mkdir(d + '/dir', 0o777)
    os.symlink('file', d + '/link')
    os.mkfifo(d + '/fifo', 0o666)
    os.mknod(d + '/socket', stat.S_IFSOCK | 0o666)
    os.mknod(d + '/regular', stat.S_IFREG | 0o666)
    os.link(d + '/file', d + '/hard')
    return {n: attributes(d + '/' + n) for n in sorted(os.listdir(d))}


def flags_of(point):
    return [m for m in mounts() if m[0] == point][-1][2:]
