"""Files written, read, and looked at."""
import hashlib
import os
import stat

OURS = ('trusted.wormfs', 'user.wormfs')	# namespaces of what wormfs writes on lower files


def xattrs(path, ours=True):
    out = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if ours or not name.startswith(OURS):
            out[name] = os.getxattr(path, name, follow_symlinks=False)
    return out


def digest(path):
    h = hashlib.sha256()
    with open(path, 'rb') as f:
        for chunk in iter(lambda: f.read(1 << 20), b''):
            h.update(chunk)
    return h.hexdigest()


def look(path):
    """Everything about a file that a refused call must leave as it was, its own xattrs and ctime included."""
    st = os.lstat(path)
    what = {
        'type': stat.S_IFMT(st.st_mode), 'mode': oct(stat.S_IMODE(st.st_mode)), 'uid': st.st_uid, 'gid': st.st_gid,
        'nlink': st.st_nlink, 'ino': st.st_ino, 'mtime': st.st_mtime_ns, 'ctime': st.st_ctime_ns, 'rdev': st.st_rdev,
        'xattrs': xattrs(path),
    }
    if stat.S_ISREG(st.st_mode):
        what.update(size=st.st_size, blocks=st.st_blocks, sha256=digest(path))
    elif stat.S_ISLNK(st.st_mode):
        what['target'] = os.readlink(path)
    elif stat.S_ISDIR(st.st_mode):
        what['names'] = sorted(os.listdir(path))
    return what


def write_file(path, data=b'report\n', mode=0o644, flags=0):
    """Creates, writes, closes; an error of close(2) comes out."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | flags, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return path


def read_file(path):
    with open(path, 'rb') as f:
        return f.read()
