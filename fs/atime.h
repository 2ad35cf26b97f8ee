/* The access time as retention, as SnapLock and Gluster have it (atime_api=on): set ahead before the lock
 * it is a wish, set ahead after it an extension, and stat shows it. It is never the lower file's own access
 * time, which a read may change. All want ino->lock. */
#ifndef WORMFS_ATIME_H
#define WORMFS_ATIME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/wormfs.h"
#include "lockstore/policy.h"

/* A file that is not locked got this access time: ahead, it is kept on the file as the wish; else an older
 * wish is gone. -errno: it could not be kept. */
int atime_wish_locked(struct wormfs *fs, struct inode *ino, int fd, struct timespec atime);

/* The wish, moved into the rule's min..max, instead of its retention; *until_s stays where there is none.
 * -errno: nobody can say, so the file may not be locked. */
int atime_wished_locked(struct wormfs *fs, const struct policy_settings *set, int fd, int64_t now_s, int64_t *until_s);
/* It is in the record. */
void atime_wish_done(struct wormfs *fs, int fd);

/* Is this setattr of a locked file an extension and nothing else? An mtime of the same second is no change. */
bool atime_is_extension_locked(struct wormfs *fs, struct inode *ino, const struct stat *old, const struct stat *attr, int to_set);
int atime_extend_locked(struct wormfs *fs, struct inode *ino, struct timespec atime);

/* What stat shows; false: the lower file's own. */
bool atime_shown_locked(struct wormfs *fs, struct inode *ino, int64_t *ret_atime_s);

static inline void atime_show_stat_locked(struct wormfs *fs, struct inode *ino, struct stat *st)
{
	int64_t atime_s;

	if (fs->opt.atime_api && atime_shown_locked(fs, ino, &atime_s))
		st->st_atim = (struct timespec){ .tv_sec = atime_s };
}

#endif
