/* A pin once seen is remembered in the inode (pinned_at == fs->pin_epoch), so that the second lock in a
 * directory costs nothing. Taking pins away, which only a rename of a directory without locks does,
 * starts a new epoch. */
#include "fs/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/log.h"
#include "lockstore/reindex.h"

#define PARENTS_MAX 64		/* directories that name one file; more are found by the ledger only */
#define STALE_ENTRIES_MAX 100000	/* a pinned directory without locks is looked through up to this size */
#define NFTW_DESCRIPTORS 32

static int pin_directory(struct wormfs *fs, struct inode *dir)
{
	unsigned epoch = atomic_load(&fs->pin_epoch);
	int fd, r;

	if (atomic_load_explicit(&dir->pinned_at, memory_order_relaxed) == epoch)
		return 0;
	fd = descriptor_get(fs, dir);
	if (fd < 0)
		return fd;
	r = lower_pin(fs->root_fd, fd, fs->ns);
	descriptor_put(fs, dir, fd);
	if (r == 0)
		atomic_store_explicit(&dir->pinned_at, epoch, memory_order_relaxed);
	return r;
}

int pin_parents(struct wormfs *fs, struct inode *ino)
{
	struct inode *parent[PARENTS_MAX];
	struct inode_alias *alias;
	unsigned n = 0;
	int r = 0;

	if (!fs->lower.xattr)
		return 0;	/* the ledger is asked instead, and has the row before the close returns */
	pthread_mutex_lock(&fs->names_lock);
	if (ino->parent)
		parent[n++] = inode_ref(fs, ino->parent);
	for (alias = ino->aliases; alias && n < PARENTS_MAX; alias = alias->next)
		parent[n++] = inode_ref(fs, alias->parent);
	pthread_mutex_unlock(&fs->names_lock);

	if (n == 0 && !atomic_exchange(&fs->unpinned_locks, true)) {
		/* Found by an NFS handle after a restart: which directory names it only a walk can tell. */
		r = ledger_meta_set(fs->ledger, "unpinned_locks", "1");
		if (r < 0)
			atomic_store(&fs->unpinned_locks, false);
	}
	for (unsigned i = 0; i < n; i++) {
		if (r == 0)
			r = pin_directory(fs, parent[i]);
		inode_put(fs, parent[i]);
	}
	return r;
}

static __thread const char *pin_name;	/* nftw(3) hands its callback no argument */

static int unpin_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type != FTW_DP)
		return 0;
	if (removexattr(path, pin_name) < 0 && errno != ENODATA)
		return -1;
	return 0;
}

/* Children first: a crash in between leaves nobody with the pin below somebody without. */
static int unpin_below(struct wormfs *fs, int fd)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/.", fd);
	pin_name = lower_xattr_pin(fs->ns);
	atomic_fetch_add(&fs->pin_epoch, 1);
	return nftw(path, unpin_one, NFTW_DESCRIPTORS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 ? 0 : -EIO;
}

bool pin_is_set(struct wormfs *fs, struct inode *dir)
{
	int fd = descriptor_get(fs, dir);
	bool set;

	if (fd < 0)
		return false;
	set = fs->lower.xattr && lower_getxattr(fd, lower_xattr_pin(fs->ns), NULL, 0) >= 0;
	descriptor_put(fs, dir, fd);
	return set;
}

int pin_check_rename(struct wormfs *fs, struct inode *dir)
{
	bool pinned = false;
	char *path = NULL;
	ssize_t n;
	int fd, r;

	fd = descriptor_get(fs, dir);
	if (fd < 0)
		return -EIO;
	if (fs->lower.xattr) {
		n = lower_getxattr(fd, lower_xattr_pin(fs->ns), NULL, 0);
		pinned = n >= 0;
		r = n == -ENODATA || n >= 0 ? 0 : -EIO;
		if (r < 0)
			goto out;
	}
	/* Also without a pin: somebody may have taken it away below the mount. */
	r = atomic_load(&fs->ledger_rows) ? inode_path(fs, dir, &path) : 0;
	if (path)
		r = ledger_has_below(fs->ledger, path);
	if (r == 1) {
		r = -EPERM;
		goto out;
	}
	if (!pinned && fs->lower.xattr && !atomic_load(&fs->unpinned_locks)) {
		r = 0;		/* a ledger that cannot be read: the pins are enough */
		goto out;
	}
	if (!fs->lower.xattr) {
		r = r < 0 ? -EIO : 0;
		goto out;
	}
	/* The ledger may lag behind or be lost; the files know. */
	r = reindex_has_record_below(fd, fs->ns, STALE_ENTRIES_MAX);
	if (r == 1)
		r = -EPERM;
	else if (r < 0)
		r = -EIO;
	else if (pinned)
		r = unpin_below(fs, fd);
out:
	free(path);
	descriptor_put(fs, dir, fd);
	return r;
}
