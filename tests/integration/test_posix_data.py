"""POSIX without exception: bytes, holes, mappings, descriptors, limits of size. posix_harness.py says how it is compared."""
import errno
import fcntl
import hashlib
import mmap
import os
import random
import resource

import pytest

from harness import ALICE, BOB, FALLOC, as_user, errno_of, fallocate, in_child, need_program, open_errno, opened, read_file, run, write_file


# ---- limits -------------------------------------------------------------------------------------

def test_RLIMIT_FSIZE_holds_for_every_way_to_grow_a_file(pair):
    def go(d):
        def child():
            out = []
            with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
                out.append(os.write(fd, b'x' * 3000))
                out.append(os.write(fd, b'x' * 3000))           # what fits
                out.append(errno_of(os.write, fd, b'x'))
                out.append(errno_of(os.pwrite, fd, b'x', 5000))
                out.append(errno_of(os.ftruncate, fd, 4097))
                out.append(errno_of(os.truncate, d + '/f', 5000))
                out.append(errno_of(fallocate, fd, 0, 0, 5000))
                out.append(errno_of(os.ftruncate, fd, 4096))
                out.append(os.fstat(fd).st_size)
            with opened(d + '/f', os.O_WRONLY | os.O_APPEND) as fd:
                out.append(errno_of(os.write, fd, b'x'))
            return out
        return as_user(ALICE, child, rlimits=((resource.RLIMIT_FSIZE, 4096),))
    out = pair.same(go)
    assert out[:5] == [3000, 1096, 'EFBIG', 'EFBIG', 'EFBIG'] and out[8] == 4096


# ---- data ---------------------------------------------------------------------------------------

def test_offsets_have_64_bits(pair):
    def go(d):
        far = (5 << 30) + 3
        out = []
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            out += [os.pwrite(fd, b'far', far), os.pread(fd, 10, far), os.fstat(fd).st_size, os.pread(fd, 3, 1 << 32)]
            os.ftruncate(fd, 9 << 30)
            out += [os.fstat(fd).st_size, os.lseek(fd, far, os.SEEK_DATA) == far, os.pread(fd, 4, (9 << 30) - 2)]
            os.ftruncate(fd, far + 1)
            out += [os.pread(fd, 10, far), os.lseek(fd, -1, os.SEEK_END)]
        with opened(d + '/f', os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b'end')
        with opened(d + '/f', os.O_RDONLY) as fd:
            m = mmap.mmap(fd, 7, mmap.MAP_SHARED, mmap.PROT_READ, offset=5 << 30)
            out.append(m[:])
            m.close()
        return out + [os.stat(d + '/f').st_size, os.stat(d + '/f').st_blocks < 1000]
    out = pair.same(go)
    assert out[1] == b'far' and out[-2] == (5 << 30) + 7


def test_holes_and_data_are_found(pair):
    def go(d):
        out = []
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            for offset in (0, 1 << 20, 5 << 20):
                os.pwrite(fd, b'x' * 65536, offset)
            os.ftruncate(fd, 8 << 20)
            os.fsync(fd)
            for offset in (0, 1, 65535, 65536, 100000, 1 << 20, 3 << 20, 5 << 20, 6 << 20, (8 << 20) - 1, 8 << 20, 9 << 20, -1):
                for how in (os.SEEK_DATA, os.SEEK_HOLE):
                    try:
                        out.append((offset, how, os.lseek(fd, offset, how)))
                    except OSError as e:
                        out.append((offset, how, errno.errorcode[e.errno]))
        return out
    out = pair.same(go)
    assert (65536, os.SEEK_DATA, 1 << 20) in out and (0, os.SEEK_HOLE, 65536) in out


@pytest.mark.parametrize('mode', FALLOC)
def test_fallocate_does_in_every_mode_what_the_lower_one_does(pair, mode):
    unsupported = mode in ('collapse-range', 'insert-range', 'unshare-range')     # the kernel's FUSE refuses these itself

    def go(d):
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            os.write(fd, os.urandom(0) + bytes(range(256)) * 256)
            result = errno_of(fallocate, fd, FALLOC[mode], 8192, 16384)
            more = errno_of(fallocate, fd, FALLOC[mode], 60000, 20000)
            bad = errno_of(fallocate, fd, FALLOC[mode], 0, 0), errno_of(fallocate, fd, FALLOC[mode], -1, 10)
        with opened(d + '/f', os.O_RDONLY) as fd:
            readonly = errno_of(fallocate, fd, FALLOC[mode], 0, 4096)
        return result, more, bad, readonly, hashlib.md5(read_file(d + '/f')).hexdigest(), os.stat(d + '/f').st_size
    if unsupported:
        out = go(pair.mnt)
        assert out[0] in ('OK', 'EOPNOTSUPP')
        if out[0] == 'OK':
            assert out == go(pair.native)
        else:
            assert out[4:] == (hashlib.md5(bytes(range(256)) * 256).hexdigest(), 65536)
    else:
        assert pair.same(go)[0] == 'OK'


def test_fallocate_really_takes_the_blocks(pair):
    def go(d):
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            os.posix_fallocate(fd, 0, 1 << 20)
            os.fsync(fd)
            first = os.stat(d + '/f').st_blocks >= 2048
            fallocate(fd, FALLOC['punch-hole'], 0, 1 << 19)
            os.fsync(fd)
            return first, os.stat(d + '/f').st_blocks < 2048, os.stat(d + '/f').st_size
    assert pair.same(go) == (True, True, 1 << 20)


def test_copy_file_range_copies_and_says_how_much(pair):
    data = random.Random(1).randbytes(3 << 20)

    def go(d):
        write_file(d + '/a', data)
        out = []
        with opened(d + '/a', os.O_RDONLY) as a, opened(d + '/b', os.O_CREAT | os.O_RDWR) as b:
            done = 0
            while done < len(data):
                n = os.copy_file_range(a, b, len(data) - done)
                if n == 0:
                    break
                done += n
            out += [done, os.copy_file_range(a, b, 10), os.copy_file_range(a, b, 100, len(data) - 50, 0), os.fstat(b).st_size,
                    errno_of(os.copy_file_range, b, a, 10, 0, 0), os.lseek(a, 0, os.SEEK_CUR)]
            out.append(errno_of(os.copy_file_range, b, b, 1000, 0, 500))        # overlapping
            os.ftruncate(b, 0)
            out.append(os.copy_file_range(a, b, 10, 5, 1000))
        return out + [hashlib.md5(read_file(d + '/b')).hexdigest()]
    assert pair.same(go)[0] == len(data)


def test_copy_file_range_into_and_out_of_the_mount(pair):
    write_file(pair.native + '/a', b'from below')
    write_file(pair.mnt + '/b', b'from the mount')
    for source, target in ((pair.native + '/a', pair.mnt + '/copy'), (pair.mnt + '/b', pair.native + '/copy')):
        with opened(source, os.O_RDONLY) as a, opened(target, os.O_CREAT | os.O_WRONLY) as b:
            assert errno_of(os.copy_file_range, a, b, 100) in ('OK', 'EXDEV')
        run('cp', source, target)
        assert read_file(source) == read_file(target)


@pytest.mark.parametrize('flags', [0, os.O_DIRECT, os.O_SYNC, os.O_DSYNC, os.O_APPEND, os.O_DIRECT | os.O_SYNC])
def test_random_reads_writes_and_truncates_leave_the_bytes_they_should(pair, flags):
    """A small fsx: the same seeded operations in both and in memory."""
    def go(d):
        rng, model = random.Random(7), bytearray()
        unit = 4096 if flags & os.O_DIRECT else 1
        buffer = mmap.mmap(-1, 1 << 17)
        with opened(d + '/f', os.O_CREAT | os.O_RDWR | flags) as fd:
            for n in range(400):
                offset, length = rng.randrange(0, 200000) // unit * unit, rng.randrange(1, 60000) // unit * unit or unit
                what = rng.randrange(8)
                if what < 4:
                    data = rng.randbytes(length)
                    if flags & os.O_APPEND:
                        offset = len(model)
                    if len(model) < offset:
                        model.extend(bytes(offset - len(model)))
                    model[offset:offset + length] = data
                    buffer[:length] = data
                    assert os.pwritev(fd, [memoryview(buffer)[:length]], offset) == length
                elif what < 6:
                    got = os.preadv(fd, [memoryview(buffer)[:length]], offset)
                    assert buffer[:got] == model[offset:offset + length], n
                elif what == 6:
                    size = rng.randrange(0, 200000) // unit * unit
                    os.ftruncate(fd, size)
                    if size < len(model):
                        del model[size:]
                    else:
                        model.extend(bytes(size - len(model)))
                else:
                    assert os.fstat(fd).st_size == len(model)
        assert read_file(d + '/f') == model
        return hashlib.md5(model).hexdigest()
    pair.same(go)


def test_a_write_in_one_process_is_read_and_mapped_in_another_at_once(pair):
    def go(d):
        path = write_file(d + '/f', b'\0' * 8192)
        with opened(path, os.O_RDWR) as a, opened(path, os.O_RDWR) as b:
            m = mmap.mmap(b, 8192)
            out = []
            for n in range(50):
                os.pwrite(a, b'%05d' % n, n)
                out.append(in_child(lambda: os.pread(b, 5, n)) == b'%05d' % n)
                out.append(m[n:n + 5] == b'%05d' % n)
                m[4096:4101] = b'%05d' % (n * 7)
                out.append(in_child(lambda: read_file(path)[4096:4101]) == b'%05d' % (n * 7))
            m.close()
        return all(out)
    assert pair.same(go) is True


def test_two_processes_append_and_no_line_is_lost_or_torn(pair):
    lines = 2000

    def go(d):
        def appender(letter):
            with opened(d + '/log', os.O_CREAT | os.O_WRONLY | os.O_APPEND) as fd:
                for n in range(lines):
                    os.write(fd, b'%s%06d%s\n' % (letter, n, letter * 50))
        children = []
        for letter in (b'a', b'b'):
            pid = os.fork()
            if pid == 0:
                try:
                    appender(letter)
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitpid(c, 0)[1] for c in children] == [0, 0]
        got = read_file(d + '/log').split(b'\n')
        return sorted(set(len(l) for l in got)), [[l for l in got if l.startswith(c)] == [
            b'%s%06d%s' % (c, n, c * 50) for n in range(lines)] for c in (b'a', b'b')]
    assert pair.same(go) == ([0, 57], [True, True])


def test_a_file_deleted_while_open_lives_on_without_a_name(pair):
    def go(d):
        out = []
        with opened(d + '/f', os.O_CREAT | os.O_RDWR) as fd:
            os.write(fd, b'still here')
            os.unlink(d + '/f')
            out += [os.listdir(d), os.fstat(fd).st_nlink, os.pread(fd, 20, 0), os.pwrite(fd, b'STILL', 0), os.pread(fd, 20, 0)]
            os.ftruncate(fd, 5)
            os.fchmod(fd, 0o600)
            os.fchown(fd, BOB, BOB)
            os.setxattr(fd, 'user.x', b'y')
            os.utime(fd, (1, 1))
            out += [os.fstat(fd).st_size, oct(os.fstat(fd).st_mode), os.fstat(fd).st_uid, os.getxattr(fd, 'user.x'), os.fstat(fd).st_mtime]
            out.append(open_errno('/proc/self/fd/%d' % fd, os.O_RDONLY))
        return out
    out = pair.same(go)
    assert out[0] == [] and out[1] == 0 and out[4] == b'STILL here'
    assert os.listdir(pair.lower) == []         # no .fuse_hidden


def test_a_file_replaced_while_open_keeps_its_old_content_for_who_has_it_open(pair):
    def go(d):
        write_file(d + '/f', b'old')
        with opened(d + '/f', os.O_RDWR) as fd:
            write_file(d + '/new', b'new')
            os.rename(d + '/new', d + '/f')
            return os.pread(fd, 10, 0), os.pwrite(fd, b'OLD', 0), read_file(d + '/f'), os.fstat(fd).st_nlink, os.listdir(d)
    assert pair.same(go) == (b'old', 3, b'new', 0, ['f'])


def test_descriptors_of_the_O_PATH_kind_work(pair):
    def go(d):
        write_file(d + '/f', b'content')
        os.mkdir(d + '/d')
        write_file(d + '/d/x', b'x')
        with opened(d + '/f', os.O_PATH) as f, opened(d + '/d', os.O_PATH | os.O_DIRECTORY) as dd:
            out = [os.fstat(f).st_size, read_file('/proc/self/fd/%d' % f), errno_of(os.read, f, 1), os.stat('x', dir_fd=dd).st_size,
                   errno_of(os.chmod, '/proc/self/fd/%d' % f, 0o600), oct(os.stat(d + '/f').st_mode)]
            os.rename(d + '/d', d + '/e')
            out.append(os.stat('x', dir_fd=dd).st_size)
        return out
    pair.same(go)


def test_a_users_disk_quota_holds_through_the_mount(mount):
    need_program('setquota')
    try:
        point = mount.bases.make('ext4', 'quota', size='200M', options=('usrquota',), mkfs=('-O', 'quota'))
    except pytest.skip.Exception:
        pytest.skip('needs quota formats in the kernel (suites/uml.sh quota has them)')
    p = run('setquota', '-u', str(ALICE), '0', '200', '0', '0', point, check=False)
    if p.returncode != 0:
        pytest.skip('needs quota formats in the kernel (suites/uml.sh quota has them): ' + p.err.strip())
    share = mount('commit=never', base=point, lower_mode=0o777)
    assert as_user(ALICE, errno_of, write_file, share.at('f'), b'x' * 400000) == 'EDQUOT'
    assert os.stat(share.below('f')).st_size <= 204800


def test_O_APPEND_can_be_taken_away_and_given_back(pair):
    def go(d):
        path = write_file(d + '/a', b'0123456789')
        with opened(path, os.O_RDWR | os.O_APPEND) as fd:
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.pwrite(fd, b'X', 0)
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
            os.pwrite(fd, b'Y', 0)
            with mmap.mmap(fd, 0) as m:
                m[1:2] = b'Z'
                m.flush()
            return read_file(path)
    assert pair.same(go) == b'XZ23456789Y'
