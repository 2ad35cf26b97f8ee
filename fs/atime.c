/* The wish is an xattr of ours on the lower file: seconds since 1970 in decimal, so that a remount, a
 * gateway or a lower filesystem with a short range of times does not lose it. */
#include "fs/atime.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/lock.h"
#include "fs/lock_private.h"

#define NO_END_S INT64_C(253402300799)	/* shown for infinite and unspecified: the last second of 9999 */
#define WISH_BYTES 24

/* A fraction counts as a whole second: never earlier than asked for. */
static int64_t to_seconds(struct timespec t)
{
	return t.tv_sec < INT64_MAX - 1 && t.tv_nsec > 0 ? t.tv_sec + 1 : t.tv_sec;
}

int atime_wish_locked(struct wormfs *fs, struct inode *ino, int fd, struct timespec atime)
{
	const char *name = lower_xattr_until(fs->ns);
	char text[WISH_BYTES];
	int n, r;

	if (!fs->opt.atime_api || !S_ISREG(ino->type) || (!fs->has_rules && fs->opt.commit == COMMIT_NEVER))
		return 0;
	if (to_seconds(atime) <= clock_source_now_s(fs->clock)) {
		r = lower_removexattr(fd, name);
		return r == -ENODATA ? 0 : r;
	}
	n = snprintf(text, sizeof(text), "%" PRId64, to_seconds(atime));
	return lower_setxattr(fd, name, text, n, 0);
}

int atime_wished_locked(struct wormfs *fs, const struct policy_settings *set, int fd, int64_t now_s, int64_t *until_s)
{
	char text[WISH_BYTES];
	int64_t wish_s;
	ssize_t n;
	char *end;

	if (!fs->opt.atime_api)
		return 0;
	n = lower_getxattr(fd, lower_xattr_until(fs->ns), text, sizeof(text) - 1);
	if (n == -ENODATA)
		return 0;
	if (n < 0)
		return n;
	text[n] = '\0';
	errno = 0;
	wish_s = strtoll(text, &end, 10);
	if (errno || end == text || *end)
		return -EIO;		/* not ours: somebody changed it below */
	*until_s = policy_clamp(set, wish_s, now_s);
	return 0;
}

void atime_wish_done(struct wormfs *fs, int fd)
{
	if (fs->opt.atime_api)
		(void)lower_removexattr(fd, lower_xattr_until(fs->ns));	/* what stays is never looked at again */
}

bool atime_is_extension_locked(struct wormfs *fs, struct inode *ino, const struct stat *old, const struct stat *attr, int to_set)
{
	const int allowed = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;

	return fs->opt.atime_api && S_ISREG(ino->type) && (ino->phase == LOCK_COMMITTED || ino->phase == LOCK_CLOSING) &&
	       to_set & FUSE_SET_ATTR_ATIME && !(to_set & ~allowed) &&
	       (!(to_set & FUSE_SET_ATTR_MTIME) || attr->st_mtim.tv_sec == old->st_mtim.tv_sec);
}

int atime_extend_locked(struct wormfs *fs, struct inode *ino, struct timespec atime)
{
	int64_t until_s;

	return lock_extend_locked(fs, ino, to_seconds(atime), &until_s);
}

bool atime_shown_locked(struct wormfs *fs, struct inode *ino, int64_t *ret_atime_s)
{
	if (!fs->opt.atime_api || !S_ISREG(ino->type))
		return false;
	lock_load_locked(fs, ino);
	if (ino->phase != LOCK_COMMITTED && ino->phase != LOCK_CLOSING)
		return false;
	*ret_atime_s = ino->rec->until_s == RETENTION_UNSPECIFIED || ino->rec->until_s > NO_END_S ? NO_END_S : ino->rec->until_s;
	return true;
}
