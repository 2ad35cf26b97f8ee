/* Who a file is, whatever its name: the lower file handle. Always true: an inode without handle and fd was found by a
 * name of the share's own filesystem, on a mount whose names nobody else changes, and still has it: who takes a name
 * away (unlink, rmdir, rename, from and onto) gets the handle first. So a million names that are only looked at cost no
 * handle. */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/inode_private.h"
#include "fs/wormfs.h"

int inode_read_handle(int dirfd, const char *name, struct file_handle **ret_handle)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	struct file_handle *handle;
	int mount_id;

	u.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dirfd, name, &u.handle, &mount_id, *name ? 0 : AT_EMPTY_PATH) < 0)
		return -errno;
	handle = malloc(sizeof(*handle) + u.handle.handle_bytes);
	if (!handle)
		return -ENOMEM;
	memcpy(handle, &u.handle, sizeof(*handle) + u.handle.handle_bytes);
	*ret_handle = handle;
	return 0;
}

bool inode_same_handle(const struct file_handle *a, const struct file_handle *b)
{
	return a->handle_type == b->handle_type && a->handle_bytes == b->handle_bytes &&
	       memcmp(a->f_handle, b->f_handle, a->handle_bytes) == 0;
}

int inode_handle(struct wormfs *fs, struct inode *ino, struct file_handle **ret_handle)
{
	struct file_handle *handle = atomic_load(&ino->handle), *found = NULL, *none = NULL;
	char name[NAME_MAX + 1];
	struct inode *parent;
	int fd, r;

	if (!handle && ino->nodeid == 1)
		handle = inode_root_handle(fs);
	if (handle) {
		*ret_handle = handle;
		return 0;
	}
	parent = inode_name_of(fs, ino, name);
	fd = parent ? descriptor_get(fs, parent) : -ESTALE;	/* which found its children, so it has its own */
	r = fd < 0 ? fd : inode_read_handle(fd, name, &found);
	if (fd >= 0)
		descriptor_put(fs, parent, fd);
	inode_put(fs, parent);
	/* Who moves the name sets the handle first. Still none: the name led to this file when it was read. */
	if (atomic_compare_exchange_strong(&ino->handle, &none, r < 0 ? NULL : found)) {
		*ret_handle = found;
		return r;
	}
	free(found);
	*ret_handle = none;	/* what somebody else has set */
	return 0;
}

int inode_by_key(struct wormfs *fs, const struct file_key *key, struct inode **ret_ino, struct stat *ret_st)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int32_t type;
	int fd, r;

	if (!fs->lower.handles || !file_key_is_handle(key) || key->len > sizeof(type) + MAX_HANDLE_SZ)
		return -ESTALE;
	memcpy(&type, key->bytes, sizeof(type));
	u.handle.handle_type = type;
	u.handle.handle_bytes = key->len - sizeof(type);
	memcpy(u.handle.f_handle, key->bytes + sizeof(type), u.handle.handle_bytes);
	fd = open_by_handle_at(fs->root_fd, &u.handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -ESTALE;
	r = inode_lookup(fs, NULL, fd, "", ret_ino, ret_st);
	close(fd);
	return r < 0 ? -ESTALE : 0;
}

/* XFS keeps the generation in its handles; only its bulkstat tells it. Layout of struct
 * xfs_fsop_bulkreq and xfs_bstat and the ioctl number: linux fs/xfs/libxfs/xfs_fs.h. */
static int xfs_generation(int fd, uint64_t ino, uint32_t *ret_generation)
{
	uint64_t number = ino;
	uint8_t bstat[136];
	int32_t count = 0;
	struct {
		uint64_t *lastip;
		int32_t icount;
		void *ubuffer;
		int32_t *ocount;
	} request = { &number, 1, bstat, &count };

	memset(bstat, 0, sizeof(bstat));
	if (ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'X', 102, sizeof(request)), &request) < 0)
		return -errno;
	memcpy(&number, bstat, sizeof(number));
	if (number != ino)
		return -ESTALE;
	memcpy(ret_generation, bstat + 108, sizeof(*ret_generation));
	return 0;
}

int inode_resurrect(struct wormfs *fs, uint64_t nodeid, struct inode **ret_ino, struct stat *ret_st)
{
	const struct file_handle *shape = inode_root_handle(fs);
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	uint32_t number32 = nodeid, generation = 0;
	int fd, r;

	if (!shape || inode_nodeid_of(nodeid, 0) != nodeid || shape->handle_bytes > MAX_HANDLE_SZ)
		return -ESTALE;
	memcpy(&u.handle, shape, sizeof(*shape) + shape->handle_bytes);

	/* Shapes: linux fs/libfs.c and fs/xfs/xfs_export.h (0x81), fs/btrfs/export.h (0x4d). ext4 and
	 * btrfs take a generation of 0 for "any"; which file it is the kernel checks by our generation. */
	if (shape->handle_type == 1 && shape->handle_bytes == 8 && nodeid <= UINT32_MAX) {
		memcpy(u.handle.f_handle, &number32, 4);
		memset(u.handle.f_handle + 4, 0, 4);
	} else if (shape->handle_type == 0x81 && shape->handle_bytes == 12) {
		r = xfs_generation(fs->root_fd, nodeid, &generation);
		if (r < 0)
			return -ESTALE;
		memcpy(u.handle.f_handle, &nodeid, 8);
		memcpy(u.handle.f_handle + 8, &generation, 4);
	} else if (shape->handle_type == 0x4d && shape->handle_bytes == 20) {
		memcpy(u.handle.f_handle, &nodeid, 8);
		memset(u.handle.f_handle + 16, 0, 4);
	} else {
		return -ESTALE;
	}
	fd = open_by_handle_at(fs->root_fd, &u.handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -ESTALE;
	r = inode_lookup(fs, NULL, fd, "", ret_ino, ret_st);
	close(fd);
	return r < 0 ? -ESTALE : 0;
}

int inode_key(struct wormfs *fs, struct inode *ino, struct file_key *ret_key)
{
	struct file_handle *handle;
	int32_t type;
	int fd, r;

	if (ino->fd < 0) {	/* the same bytes as lower_file_key() makes */
		r = inode_handle(fs, ino, &handle);
		if (r < 0)
			return r;
		type = handle->handle_type;
		memset(ret_key, 0, sizeof(*ret_key));
		memcpy(ret_key->bytes, &type, sizeof(type));
		memcpy(ret_key->bytes + sizeof(type), handle->f_handle, handle->handle_bytes);
		ret_key->len = sizeof(type) + handle->handle_bytes;
		return 0;
	}
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = lower_file_key(fd, "", ret_key);
	descriptor_put(fs, ino, fd);
	return r;
}

int inode_of_row(struct wormfs *fs, const struct file_key *key, const char *path, struct inode **ret_ino)
{
	struct file_key found;
	struct stat st;
	int r;

	if (inode_by_key(fs, key, ret_ino, &st) == 0)
		return 0;
	r = inode_walk(fs, path, ret_ino);
	if (r < 0)
		return r;
	if (inode_key(fs, *ret_ino, &found) == 0 && file_key_equal(&found, key))
		return 0;
	inode_put(fs, *ret_ino);
	return -ESTALE;
}
