/* Tries each feature. A share that cannot be written (read-only) is asked what can be asked without. */
#include "fs/lower_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/inode.h"
#include "fs/log.h"

static const struct {
	unsigned long magic;	/* statfs(2), linux/magic.h */
	const char *name;
	bool multigrain;	/* FS_MGTIME since Linux 6.13 */
} filesystems[] = {
	{ 0xef53, "ext4", true }, { 0x58465342, "xfs", true }, { 0x9123683e, "btrfs", true }, { 0x01021994, "tmpfs", true },
	{ 0x6969, "nfs", false }, { 0x65735546, "fuse", false }, { 0x794c7630, "overlay", false }, { 0x00c36400, "ceph", false },
	{ 0x858458f6, "ramfs", false }, { 0x2fc12fc1, "zfs", false }, { 0xff534d42, "cifs", false }, { 0xfe534d42, "smb2", false },
	{ 0x4d44, "vfat", false }, { 0xf2f52010, "f2fs", false },
};

static bool kernel_at_least(int major, int minor)
{
	struct utsname name;
	int a = 0, b = 0;

	return uname(&name) == 0 && sscanf(name.release, "%d.%d", &a, &b) == 2 && (a > major || (a == major && b >= minor));
}

static void name_filesystem(struct wormfs *fs)
{
	struct statfs st;

	if (fstatfs(fs->root_fd, &st) < 0)
		return;
	snprintf(fs->lower.filesystem, sizeof(fs->lower.filesystem), "0x%lx", (unsigned long)st.f_type);
	for (size_t i = 0; i < sizeof(filesystems) / sizeof(filesystems[0]); i++) {
		if ((unsigned long)st.f_type != filesystems[i].magic)
			continue;
		snprintf(fs->lower.filesystem, sizeof(fs->lower.filesystem), "%s", filesystems[i].name);
		fs->lower.fine_times = filesystems[i].multigrain && kernel_at_least(6, 13);
	}
}

/* open_by_handle_at needs CAP_DAC_READ_SEARCH and a filesystem that can be exported. */
static bool handles_work(struct wormfs *fs)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mount_id, fd;

	u.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fs->root_fd, "", &u.handle, &mount_id, AT_EMPTY_PATH) < 0)
		return false;
	fd = open_by_handle_at(fs->root_fd, &u.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int open_unnamed(struct wormfs *fs)
{
	char name[40];
	int fd = openat(fs->root_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	snprintf(name, sizeof(name), ".wormfs-probe.%06d", getpid() % 1000000);
	fd = openat(fs->root_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		(void)unlinkat(fs->root_fd, name, 0);	/* tried: a name left over harms nobody */
	return fd;
}

static bool leases_work(int rw_fd)
{
	char path[40];
	bool busy, free_again;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* With a writer there it must say no, and for that reason; without one it must say yes. */
	busy = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN;
	close(rw_fd);
	free_again = fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
	close(fd);
	return busy && free_again;
}

int lower_probe(struct wormfs *fs)
{
	const char *record = lower_xattr_record(fs->ns);
	uint8_t bytes[RECORD_BYTES] = { 0 };
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	name_filesystem(fs);
	r = inode_stat(fs->root_fd, "", &st, &btime_ns);
	if (r < 0)
		return r;
	fs->lower.birth_time = btime_ns != 0;
	fs->lower.handles = handles_work(fs);
	fd = open_unnamed(fs);
	if (fd < 0 && errno == EROFS) {
		r = lower_getxattr(fs->root_fd, record, bytes, sizeof(bytes));
		fs->lower.xattr = r >= 0 || r == -ENODATA;
		return 0;
	}
	if (fd < 0)
		return -errno;
	r = lower_setxattr(fd, record, bytes, sizeof(bytes), 0);
	if (r == -EOPNOTSUPP && fs->ns == LOWER_TRUSTED && fs->opt.xattr_ns < 0 &&
	    lower_setxattr(fd, lower_xattr_record(LOWER_USER), bytes, sizeof(bytes), 0) == 0) {
		fs->ns = LOWER_USER;	/* NFS has only these (RFC 8276) */
		r = 0;
	}
	if (r < 0 && r != -EOPNOTSUPP && r != -EPERM) {
		close(fd);
		return r;
	}
	fs->lower.xattr = r == 0;
	if (fs->is_root)
		fs->lower.leases = leases_work(fd);	/* closes it */
	else
		close(fd);
	return 0;
}
