/* The mount table as this process sees it (/proc/self/mountinfo), to find which mount a path is in. */
#ifndef WORMFS_WORMCTL_MOUNTS_H
#define WORMFS_WORMCTL_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#define MOUNT_TYPE "fuse.wormfs"

struct mount {
	int id, parent;
	unsigned major, minor;
	char *root;		/* what of the filesystem is mounted: "/", or a directory (a bind mount) */
	char *point;		/* absolute, bytes as they are (no \040) */
	char *type;
	char *source;
};

struct mounts {
	struct mount *list;
	size_t count;
};

/* The caller ends it with mounts_fini(). path: NULL = /proc/self/mountinfo. */
int mounts_read(const char *path, struct mounts *ret_mounts);
void mounts_fini(struct mounts *mounts);

/* Which mount the absolute, normal path is in: walks the tree of mounts as the kernel does, so that what
 * another mount hides is never found. NULL: none (a chroot without /proc). */
const struct mount *mounts_find(const struct mounts *mounts, const char *path);

bool mount_is_worm(const struct mount *mount);

/* True when `path` is `dir` or below it; *ret_rest: what follows, without a leading '/'. */
bool path_is_below(const char *path, const char *dir, const char **ret_rest);

#endif
