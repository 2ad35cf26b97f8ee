"""POSIX without exception: names, renames, links and nodes of every kind. posix_harness.py says how it is compared."""
import os
import socket
import stat
import subprocess

from harness import (ALICE, AT_FDCWD, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, as_user, errno_of, in_child, linkat, open_errno,
                     opened, read_file, renameat2, run, wait_for, write_file)
from posix_harness import attributes


# ---- limits -------------------------------------------------------------------------------------

def test_PATH_MAX_is_that_of_the_kernel(pair):
    def go(d):
        def child():
            for _ in range(15):
                os.mkdir('x' * 255)
                os.chdir('x' * 255)
            write_file('f', b'deep')
            os.chdir(d)
            base = '/'.join(['x' * 255] * 15) + '/'
            longest = base + 'y' * (4095 - len(base))
            out = [read_file(base + 'f'), errno_of(write_file, longest, b'longest'), errno_of(os.stat, longest),
                   errno_of(os.stat, longest + 'y'), errno_of(os.mkdir, longest[:-1]), sorted(os.listdir(base)) and len(os.listdir(base))]
            out.append(errno_of(os.symlink, longest, 's'))
            out.append(os.readlink('s') == longest)
            return out
        return in_child(child, cwd=d)
    out = pair.same(go)
    assert out[0] == b'deep' and out[1] == 'OK' and out[3] == 'ENAMETOOLONG' and out[-1] is True


def test_directories_deeper_than_PATH_MAX_are_walked(pair):
    def go(d):
        def child():
            for n in range(60):
                os.mkdir('%02d' % n + 'x' * 98)
                os.chdir('%02d' % n + 'x' * 98)
            write_file('f', b'deep')
            os.rename('f', 'g')
            os.mkdir('sub')
            os.rename('sub', 'sub2')
            up = 0
            while not os.path.samefile('.', d) and up < 100:
                os.chdir('..')
                up += 1
            return up
        return in_child(child, cwd=d)
    assert pair.same(go) == 60
    count = run('find', pair.lower, '-name', 'g').out.count('\n')
    assert count == 1


def test_names_have_255_bytes(pair):
    def go(d):
        return [errno_of(fn, d + '/' + 'x' * n) for n in (254, 255, 256) for fn in
                (write_file, os.stat, os.unlink, os.mkdir, os.rmdir, os.mkfifo, os.readlink)]
    assert 'ENAMETOOLONG' in pair.same(go)


# ---- rename, link, times, nodes -----------------------------------------------------------------

def test_renameat2_knows_all_its_flags(pair):
    def go(d):
        write_file(d + '/a', b'a')
        write_file(d + '/b', b'b')
        os.mkdir(d + '/d')
        write_file(d + '/d/x', b'x')
        out = [errno_of(renameat2, d + '/a', d + '/b', RENAME_NOREPLACE), errno_of(renameat2, d + '/a', d + '/c', RENAME_NOREPLACE),
               errno_of(renameat2, d + '/c', d + '/b', RENAME_EXCHANGE), read_file(d + '/b'), read_file(d + '/c'),
               errno_of(renameat2, d + '/b', d + '/d', RENAME_EXCHANGE), read_file(d + '/d'), os.listdir(d + '/b'),
               errno_of(renameat2, d + '/b', d + '/missing', RENAME_EXCHANGE), errno_of(renameat2, d + '/c', d + '/w', RENAME_WHITEOUT),
               attributes(d + '/c', 'rdev'), read_file(d + '/w'), errno_of(renameat2, d + '/w', d + '/v', 16),
               errno_of(renameat2, d + '/w', d + '/v', RENAME_NOREPLACE | RENAME_EXCHANGE),
               errno_of(renameat2, d + '/w', d + '/v', RENAME_WHITEOUT | RENAME_NOREPLACE)]
        return out + [sorted(os.listdir(d))]
    out = pair.same(go)
    assert out[0] == 'EEXIST' and out[2] == 'OK' and out[3] == b'a' and out[9] == 'OK'


def test_rename_answers_as_the_lower_filesystem_does(pair):
    def go(d):
        for n in ('empty', 'full', 'full/sub', 'other'):
            os.mkdir(d + '/' + n)
        write_file(d + '/f', b'f')
        write_file(d + '/g', b'g')
        os.link(d + '/f', d + '/hard')
        os.symlink('f', d + '/s')
        out = []
        for a, b in (('f', 'empty'), ('empty', 'f'), ('empty', 'full'), ('full', 'full/sub/x'), ('full', 'full'), ('missing', 'x'),
                     ('f', 'missing/x'), ('f', 'g/x'), ('f', 'hard'), ('s', 's2'), ('other', 'empty'), ('f', 'g'), ('full/sub', 'sub'),
                     ('.', 'x'), ('full/..', 'x'), ('g/', 'h'), ('full/', 'full2')):
            out.append((a, b, errno_of(os.rename, d + '/' + a, d + '/' + b)))
        return out, sorted(os.listdir(d)), attributes(d + '/full2')
    pair.same(go)


def test_files_keep_their_inode_and_content_over_renames_of_their_directories(pair):
    def go(d):
        os.makedirs(d + '/a/b/c')
        path = write_file(d + '/a/b/c/f', b'one')
        ino = os.stat(path).st_ino
        with opened(path, os.O_RDWR) as fd:
            os.rename(d + '/a/b', d + '/b')
            os.rename(d + '/b/c', d + '/a/c')
            os.write(fd, b'two')
            same = os.fstat(fd).st_ino == ino == os.stat(d + '/a/c/f').st_ino
        return same, read_file(d + '/a/c/f'), errno_of(os.stat, path)
    assert pair.same(go) == (True, b'two', 'ENOENT')


def test_link_counts_are_right_on_every_name_at_once(pair):
    def go(d):
        write_file(d + '/a', b'x')
        os.mkdir(d + '/d')
        out = [os.stat(d + '/a').st_nlink]
        names = [d + '/a']
        for n in range(5):
            new = d + ('/d/l%d' % n if n % 2 else '/l%d' % n)
            os.link(names[n], new)
            names.append(new)
            out.append([os.stat(x).st_nlink for x in names])
        out.append(len({os.stat(x).st_ino for x in names}))
        with opened(names[3], os.O_RDONLY) as fd:
            os.unlink(names.pop(0))
            os.rename(names[0], names[0] + 'r')
            names[0] += 'r'
            out.append([os.stat(x).st_nlink for x in names] + [os.fstat(fd).st_nlink])
            while names:
                os.unlink(names.pop())
                out.append([os.stat(x).st_nlink for x in names] + [os.fstat(fd).st_nlink])
        return out
    out = pair.same(go)
    assert out[5] == [6] * 6 and out[6] == 1 and out[-1] == [0]


def test_what_is_written_by_one_name_is_read_by_the_other_at_once(pair):
    def go(d):
        write_file(d + '/a', b'one')
        os.link(d + '/a', d + '/b')
        os.stat(d + '/b'), read_file(d + '/b')
        out = []
        for n in range(20):
            write_file(d + '/a', b'%d' % n * (n + 1), flags=os.O_TRUNC)
            out.append((read_file(d + '/b'), os.stat(d + '/b').st_size))
            os.chmod(d + '/b', 0o600 + n % 8)
            out.append(oct(os.stat(d + '/a').st_mode))
        return out
    pair.same(go)


def test_link_answers_as_the_lower_filesystem_does(pair):
    def go(d):
        write_file(d + '/f')
        os.mkdir(d + '/d')
        os.symlink('f', d + '/s')
        out = [errno_of(os.link, d + '/d', d + '/d2'), errno_of(os.link, d + '/f', d + '/d'), errno_of(os.link, d + '/missing', d + '/x'),
               errno_of(linkat, AT_FDCWD, d + '/s', d + '/ls', 0), errno_of(linkat, AT_FDCWD, d + '/s', d + '/lf', 0x400),
               attributes(d + '/ls'), attributes(d + '/lf'), errno_of(linkat, AT_FDCWD, d + '/f', d + '/f', 0)]
        with opened(d + '/f', os.O_RDONLY) as fd:
            out.append(errno_of(linkat, fd, '', d + '/by-fd', 0x1000))
        return out
    pair.same(go)


def test_mknod_makes_every_kind_of_file(pair):
    def go(d):
        out = []
        for kind in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            for device in (os.makedev(1, 3), os.makedev(240, 300000), 0):
                name = d + '/n%d-%d' % (kind, device)
                out.append(errno_of(os.mknod, name, kind | 0o640, device))
                out.append(attributes(name, 'rdev'))
                out.append(as_user(ALICE, errno_of, os.mknod, name + 'u', kind | 0o640, device))
        out.append(errno_of(os.mknod, d + '/dir', stat.S_IFDIR | 0o755))
        out.append(errno_of(os.mknod, d + '/n%d-%d' % (stat.S_IFREG, 0), stat.S_IFREG | 0o640))
        return out
    out = pair.same(go)
    assert 'EPERM' in out and out[0] == 'OK'


def test_devices_fifos_and_sockets_work(pair):
    def go(d):
        os.mknod(d + '/null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(d + '/zero', stat.S_IFCHR | 0o666, os.makedev(1, 5))
        with opened(d + '/null', os.O_RDWR) as null, opened(d + '/zero', os.O_RDONLY) as zero:
            out = [os.write(null, b'x' * 100), os.read(null, 10), os.read(zero, 4)]
        os.mkfifo(d + '/fifo')
        with opened(d + '/fifo', os.O_RDWR) as fd:
            os.write(fd, b'through')
            out.append(os.read(fd, 10))

        def talk():
            os.chdir(d)
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind('sock')
                server.listen()
                client.connect('sock')
                other, _ = server.accept()
                with other:
                    client.send(b'hello')
                    return other.recv(10), attributes('sock')
        return out + [in_child(talk)]
    assert pair.same(go)[3] == b'through'


def test_symbolic_links_of_any_target(pair):
    def go(d):
        out = []
        for n, target in enumerate(('x', '/', '../' * 100, 'y' * 4095, 'y' * 4096, '', 'a\nb', '\udcff')):
            out.append(errno_of(os.symlink, target, d + '/s%d' % n))
            if os.path.lexists(d + '/s%d' % n):
                out.append((os.readlink(d + '/s%d' % n) == target, attributes(d + '/s%d' % n)))
        os.symlink('loop', d + '/loop')
        out += [errno_of(os.stat, d + '/loop'), errno_of(os.readlink, d), open_errno(d + '/s0', os.O_RDONLY | os.O_NOFOLLOW)]
        return out
    pair.same(go)


def test_errors_are_those_of_the_lower_filesystem(pair):
    def go(d):
        write_file(d + '/f', b'x')
        os.mkdir(d + '/d')
        write_file(d + '/d/x')
        os.symlink('f', d + '/s')
        D = os.O_DIRECTORY
        calls = [(open_errno, '/missing', os.O_RDONLY), (open_errno, '/f/x', os.O_RDONLY), (open_errno, '/d', os.O_WRONLY),
                 (open_errno, '/f', os.O_RDONLY | D), (open_errno, '/f', os.O_CREAT | os.O_EXCL), (open_errno, '/d', os.O_CREAT),
                 (open_errno, '/s', os.O_RDONLY | os.O_NOFOLLOW), (open_errno, '/s', os.O_CREAT | os.O_EXCL), (open_errno, '/missing/x', os.O_CREAT),
                 (open_errno, '/f/', os.O_RDONLY), (open_errno, '/new/', os.O_CREAT), (open_errno, '/d', os.O_TMPFILE),
                 (open_errno, '/f', os.O_TMPFILE | os.O_RDWR), (open_errno, '/d', os.O_RDONLY | os.O_TRUNC)]
        out = [(p, fl, fn(d + p, fl)) for fn, p, fl in calls]
        for fn in (os.unlink, os.rmdir, os.mkdir, os.listdir, os.readlink, os.stat, lambda p: os.truncate(p, 0), lambda p: os.chmod(p, 0o600),
                   lambda p: os.truncate(p, -1)):
            out += [errno_of(fn, d + p) for p in ('/missing', '/f/x', '/d', '/f/', '/d/.', '/d/..', '/')]
        return out
    pair.same(go)


def test_a_running_program_is_not_written_and_a_written_one_is_not_run(pair):
    def go(d):
        run('cp', '/bin/sleep', d + '/prog')
        p = subprocess.Popen([d + '/prog', '60'])
        try:
            wait_for('exec', lambda: os.readlink('/proc/%d/exe' % p.pid).endswith('prog'))
            out = [open_errno(d + '/prog', os.O_WRONLY)]
        finally:
            p.kill()
            p.wait()
        with opened(d + '/prog', os.O_WRONLY):
            out.append(errno_of(subprocess.run, [d + '/prog', '0']))
        return out + [subprocess.run([d + '/prog', '0']).returncode]
    assert pair.same(go) == ['ETXTBSY', 'ETXTBSY', 0]
