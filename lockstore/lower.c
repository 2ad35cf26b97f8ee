/* Names and calls for what we write on lower files.
 *
 * Which call reaches what: the f*xattr calls refuse an O_PATH descriptor with EBADF, and so does the
 * getxattrat(2) family with AT_EMPTY_PATH (measured on Linux 6.18: fs/xattr.c takes the descriptor
 * with fdget(), which leaves O_PATH out). The link in /proc reaches both and costs 1 us more, so the
 * descriptor itself is tried first. A name in a directory takes getxattrat(2), one call in place of
 * open, get and close. A descriptor of /proc/self/fd is not kept: after a fork it is the parent's. */
#include "lockstore/lower.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PIN_VALUE "1"
#define PIN_PASS_MAX 24		/* descriptors held while the way up is walked */

/* The same number on every architecture. Source: linux 6.13, scripts/syscall.tbl. */
#define NR_GETXATTRAT 464

/* Source: linux 6.13, include/uapi/linux/xattr.h, struct xattr_args. */
struct xattr_at {
	uint64_t value __attribute__((aligned(8)));
	uint32_t size;
	uint32_t flags;
};

static atomic_bool no_getxattrat;	/* found out once a process */

const char *lower_xattr_record(enum lower_namespace ns)
{
	return ns == LOWER_TRUSTED ? "trusted.wormfs" : "user.wormfs";
}

const char *lower_xattr_pin(enum lower_namespace ns)
{
	return ns == LOWER_TRUSTED ? "trusted.wormfs.pin" : "user.wormfs.pin";
}

const char *lower_xattr_share(enum lower_namespace ns)
{
	return ns == LOWER_TRUSTED ? "trusted.wormfs.share" : "user.wormfs.share";
}

const char *lower_xattr_until(enum lower_namespace ns)
{
	return ns == LOWER_TRUSTED ? "trusted.wormfs.until" : "user.wormfs.until";
}

const char *lower_xattr_archive(enum lower_namespace ns)
{
	return ns == LOWER_TRUSTED ? "trusted.wormfs.archive" : "user.wormfs.archive";
}

/* Both namespaces, whichever this daemon uses: a record of the other one is a lock as well. */
const char *lower_xattr_privdel(enum lower_namespace ns)
{
	return ns == LOWER_TRUSTED ? "trusted.wormfs.privdel" : "user.wormfs.privdel";
}

bool lower_xattr_is_ours(const char *name)
{
	static const char *const ours[] = { "trusted.wormfs", "user.wormfs" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		size_t len = strlen(ours[i]);

		if (strncmp(name, ours[i], len) == 0 && (name[len] == '\0' || name[len] == '.'))
			return true;
	}
	return false;
}

#define PROC_PATH_BYTES 32
static void proc_path(int fd, char buf[PROC_PATH_BYTES])
{
	snprintf(buf, PROC_PATH_BYTES, "/proc/self/fd/%d", fd);
}

/* After a call through /proc. ENOENT there never means the file, which the descriptor holds: either
 * the number is no descriptor, or /proc is not mounted. */
static int proc_error(int fd)
{
	if (errno != ENOENT)
		return -errno;
	return fcntl(fd, F_GETFD) < 0 ? -EBADF : -EIO;
}

ssize_t lower_getxattr(int fd, const char *name, void *buf, size_t len_bytes)
{
	char path[PROC_PATH_BYTES];
	ssize_t n;

	n = fgetxattr(fd, name, buf, len_bytes);
	if (n >= 0)
		return n;
	if (errno != EBADF)
		return -errno;
	proc_path(fd, path);
	n = getxattr(path, name, buf, len_bytes);
	return n < 0 ? proc_error(fd) : n;
}

int lower_setxattr(int fd, const char *name, const void *buf, size_t len_bytes, int flags)
{
	char path[PROC_PATH_BYTES];

	if (fsetxattr(fd, name, buf, len_bytes, flags) == 0)
		return 0;
	if (errno != EBADF)
		return -errno;
	proc_path(fd, path);
	return setxattr(path, name, buf, len_bytes, flags) < 0 ? proc_error(fd) : 0;
}

int lower_removexattr(int fd, const char *name)
{
	char path[PROC_PATH_BYTES];

	if (fremovexattr(fd, name) == 0)
		return 0;
	if (errno != EBADF)
		return -errno;
	proc_path(fd, path);
	return removexattr(path, name) < 0 ? proc_error(fd) : 0;
}

bool lower_is_offline(int fd, enum lower_namespace ns)
{
	char record[4096];

	/* '-' or '+', and more (mockarchive/file.c) */
	return lower_getxattr(fd, lower_xattr_archive(ns), record, sizeof(record)) > 0 && record[0] == '-';
}

ssize_t lower_listxattr(int fd, char *buf, size_t len_bytes)
{
	char path[PROC_PATH_BYTES];
	ssize_t n;

	n = flistxattr(fd, buf, len_bytes);
	if (n >= 0)
		return n;
	if (errno != EBADF)
		return -errno;
	proc_path(fd, path);
	n = listxattr(path, buf, len_bytes);
	return n < 0 ? proc_error(fd) : n;
}

ssize_t lower_getxattr_at(int dirfd, const char *name, const char *xattr, void *buf, size_t len_bytes)
{
	ssize_t n;
	int fd;

	if (!atomic_load_explicit(&no_getxattrat, memory_order_relaxed)) {
		struct xattr_at args = { .value = (uintptr_t)buf, .size = (uint32_t)len_bytes };

		n = syscall(NR_GETXATTRAT, dirfd, name, AT_SYMLINK_NOFOLLOW, xattr, &args, sizeof(args));
		if (n >= 0)
			return n;
		if (errno != ENOSYS)
			return -errno;
		atomic_store_explicit(&no_getxattrat, true, memory_order_relaxed);
	}
	fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = lower_getxattr(fd, xattr, buf, len_bytes);
	close(fd);
	return n;
}

/* A key without a handle starts with a type that no filesystem returns: exportfs types fit a byte.
 * Source: linux/exportfs.h, enum fid_type. */
#define KEY_TYPE_INODE UINT32_MAX
#define KEY_TYPE_BYTES 4

static int key_from_inode(int dirfd, const char *name, struct file_key *ret_key)
{
	struct file_key key = { .len = 0 };
	struct statx stx;
	uint32_t type = KEY_TYPE_INODE;
	uint64_t fields[4];

	if (statx(dirfd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &stx) < 0)
		return -errno;
	fields[0] = (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor;
	fields[1] = stx.stx_ino;
	fields[2] = stx.stx_mask & STATX_BTIME ? (uint64_t)stx.stx_btime.tv_sec : 0;
	fields[3] = stx.stx_mask & STATX_BTIME ? stx.stx_btime.tv_nsec : 0;
	memcpy(key.bytes, &type, sizeof(type));
	memcpy(key.bytes + KEY_TYPE_BYTES, fields, sizeof(fields));
	key.len = KEY_TYPE_BYTES + sizeof(fields);
	*ret_key = key;
	return 0;
}

static int open_part(int dirfd, const char *path, int flags, bool across_mounts)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | (across_mounts ? 0 : RESOLVE_NO_XDEV),
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	} while (fd < 0 && errno == EAGAIN);	/* a rename came between. Source: openat2(2) */
	return fd < 0 ? -errno : (int)fd;
}

/* The kernel takes PATH_MAX at once. */
int lower_open(int dirfd, const char *path, int flags, bool across_mounts)
{
	char part[PATH_MAX];
	int fd = -1, r;

	while (strlen(path) >= sizeof(part)) {
		size_t len = sizeof(part) - 1;

		while (len && path[len] != '/')
			len--;
		if (!len) {
			r = -ENAMETOOLONG;
		} else {
			memcpy(part, path, len);
			part[len] = '\0';
			r = open_part(fd < 0 ? dirfd : fd, part, O_PATH | O_DIRECTORY, across_mounts);
		}
		if (fd >= 0)
			close(fd);
		if (r < 0)
			return r;
		fd = r;
		path += len + 1;
	}
	r = open_part(fd < 0 ? dirfd : fd, path[0] ? path : ".", flags, across_mounts);
	if (fd >= 0)
		close(fd);
	return r;
}

int lower_file_key(int dirfd, const char *name, struct file_key *ret_key)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	struct file_key key = { .len = 0 };
	uint32_t type;
	int mount_id;

	_Static_assert(KEY_TYPE_BYTES + MAX_HANDLE_SZ <= FILE_KEY_MAX_BYTES, "every handle fits a key");
	u.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dirfd, name, &u.handle, &mount_id, AT_EMPTY_PATH) < 0) {
		/* EOPNOTSUPP: no handles here. EOVERFLOW: longer than any of ours. ENOSYS, EPERM: a sandbox
		 * without the call, which has no such error of its own. None changes while we run. */
		if (errno == EOPNOTSUPP || errno == EOVERFLOW || errno == ENOSYS || errno == EPERM)
			return key_from_inode(dirfd, name, ret_key);
		return -errno;
	}
	type = (uint32_t)u.handle.handle_type;
	memcpy(key.bytes, &type, sizeof(type));
	memcpy(key.bytes + KEY_TYPE_BYTES, u.handle.f_handle, u.handle.handle_bytes);
	key.len = (uint8_t)(KEY_TYPE_BYTES + u.handle.handle_bytes);
	*ret_key = key;
	return 0;
}

bool file_key_is_handle(const struct file_key *key)
{
	uint32_t type;

	if (key->len <= KEY_TYPE_BYTES)
		return false;
	memcpy(&type, key->bytes, sizeof(type));
	return type != KEY_TYPE_INODE;
}

/* 1: the directory has the pin, 0: it has not. */
static int has_pin(int fd, enum lower_namespace ns)
{
	ssize_t n = lower_getxattr(fd, lower_xattr_pin(ns), NULL, 0);

	if (n >= 0)
		return 1;
	return n == -ENODATA ? 0 : (int)n;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int lower_open_parent(int root_fd, int dir_fd, int flags)
{
	struct open_how how = { .flags = flags, .resolve = RESOLVE_NO_XDEV };
	int fd = syscall(SYS_openat2, dir_fd, "..", &how, sizeof(how));

	if (fd < 0 && errno == EXDEV)
		fd = openat(root_fd, ".", flags);
	return fd < 0 ? -errno : fd;
}

/* One way up from dir_fd. Sets the pins of the topmost PIN_PASS_MAX directories of the part that
 * needs them, so that memory and descriptors stay bounded however deep the tree is.
 * `whole`: looks behind a pin that is there already, up to the root.
 * 1: there were more below these, go again; 0: all done. */
static int pin_pass(int root_fd, int dir_fd, enum lower_namespace ns, bool whole, uint64_t *pins)
{
	int held[PIN_PASS_MAX];	/* those without a pin, as a ring: [(first + n - 1) % MAX] is the topmost */
	unsigned first = 0, n = 0;
	struct stat root, here, above;
	bool more = false;
	int fd = -1, r;

	if (fstat(root_fd, &root) < 0)
		return -errno;
	fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || fstat(fd, &here) < 0) {
		r = -errno;
		goto out;
	}
	for (;;) {
		int up = -1;

		r = has_pin(fd, ns);
		if (r < 0)
			goto out;
		if (r == 1 && !whole)
			break;
		if (!same_inode(&here, &root)) {
			up = lower_open_parent(root_fd, fd, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (up < 0 || fstat(up, &above) < 0) {
				r = up < 0 ? up : -errno;
				if (up >= 0)
					close(up);
				goto out;
			}
			if (same_inode(&above, &here)) {	/* "/" is its own parent */
				close(up);
				r = -EXDEV;
				goto out;
			}
		}
		if (r == 1) {
			close(fd);
		} else {
			if (n == PIN_PASS_MAX) {
				close(held[first]);
				first = (first + 1) % PIN_PASS_MAX;
				n--;
				more = true;
			}
			held[(first + n++) % PIN_PASS_MAX] = fd;
		}
		fd = up;
		if (fd < 0)
			break;
		here = above;
	}
	while (n) {
		int top = held[(first + n - 1) % PIN_PASS_MAX];

		r = lower_setxattr(top, lower_xattr_pin(ns), PIN_VALUE, sizeof(PIN_VALUE) - 1, 0);
		if (r < 0)
			goto out;
		close(top);
		n--;
		++*pins;
	}
	r = more;
out:
	while (n)
		close(held[(first + --n) % PIN_PASS_MAX]);
	if (fd >= 0)
		close(fd);
	return r;
}

int lower_pin(int root_fd, int dir_fd, enum lower_namespace ns)
{
	uint64_t pins = 0;
	int r;

	r = has_pin(dir_fd, ns);	/* the usual case, in one call */
	if (r != 0)
		return r < 0 ? r : 0;
	do {
		r = pin_pass(root_fd, dir_fd, ns, false, &pins);
	} while (r == 1);
	return r;
}

int lower_pin_repair(int root_fd, int dir_fd, enum lower_namespace ns, uint64_t *ret_pins)
{
	uint64_t pins = 0;
	int r;

	do {
		r = pin_pass(root_fd, dir_fd, ns, true, &pins);
	} while (r == 1);
	if (r == 0)
		*ret_pins = pins;
	return r;
}
