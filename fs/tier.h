/* What else may stand between a mount and its share: mockarchive puts a tape archive there. In wormfs there is none (fs->tier is
 * NULL), which costs a comparison at open, at release and where attributes are shown.
 *
 * Functions that end in _locked are called with ino->lock held; all of them come from any thread. */
#ifndef WORMFS_TIER_H
#define WORMFS_TIER_H

#include <stdbool.h>
#include <sys/stat.h>

struct fuse_file_info;
struct fuse_lowlevel_ops;
struct handle;
struct inode;
struct wormfs;

struct tier {
	/* Instead of wormfs's own, which they may call. Permissions are theirs to check: the kernel does not
	 * (default_permissions is off, since with it access(2) is never asked). */
	const struct fuse_lowlevel_ops *operations;
	/* The share is open and nothing is mounted; -errno after one line on stderr. */
	int (*start)(struct wormfs *fs);
	/* Mounted: requests come from now on. */
	void (*mounted)(struct wormfs *fs);
	/* No request comes any more; those that it kept are to be answered now. Also after a start() that failed. */
	void (*stop)(struct wormfs *fs);
	/* A handle was made; fi is what the kernel will be told of it. */
	void (*opened_locked)(struct wormfs *fs, struct inode *ino, const struct handle *h, struct fuse_file_info *fi);
	/* A handle is gone. `changed`: it was a writer's that changed the data. */
	void (*closed)(struct wormfs *fs, struct inode *ino, bool writer, bool changed);
	/* Attributes were set; st is the lower file's now, before it is shown to anybody. */
	void (*set_locked)(struct wormfs *fs, struct inode *ino, const struct stat *st);
	/* Its size was set, by path or through a handle; before the caller hears of it. */
	void (*truncated)(struct wormfs *fs, struct inode *ino);
	/* Names, before the caller hears that it is done. gone: the last one was taken away; unlinked: one of several; renamed: files and
	 * directories, what stood at the new name is gone() already, or has
	 * the old one now (exchanged). */
	void (*gone)(struct wormfs *fs, struct inode *ino);
	void (*unlinked)(struct wormfs *fs, struct inode *ino);
	void (*renamed)(struct wormfs *fs, struct inode *from, const char *name, struct inode *to, const char *new_name, bool exchanged);
	/* What the kernel is told of a regular file. ino->lock may be held. */
	void (*show)(struct wormfs *fs, struct inode *ino, struct stat *st);
	/* Its data is not on the share now: no digest can be taken. */
	bool (*is_offline)(struct wormfs *fs, struct inode *ino);
};

#endif
