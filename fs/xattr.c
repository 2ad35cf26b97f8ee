/* Extended attributes: the lower file's own pass through, ours on the lower file stay hidden, and
 * user.worm.* is how the lock is seen and asked for through the mount. */
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/append.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/ops.h"
#include "fs/refusal.h"
#include "fs/request.h"
#include "lockstore/control.h"

#define XATTR_LIST_MAX_BYTES 65536	/* XATTR_LIST_MAX, linux/limits.h */

static bool is_worm(const char *name)
{
	return strncmp(name, XATTR_WORM_PREFIX, strlen(XATTR_WORM_PREFIX)) == 0;
}

/* size 0 asks how long it is. */
static void reply_value(fuse_req_t req, const void *value, ssize_t n, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, -n);
	else if (size == 0)
		fuse_reply_xattr(req, n);
	else if ((size_t)n > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, n);
}

static bool is_known_without(struct inode *ino)
{
	bool known;

	pthread_mutex_lock(&ino->lock);
	known = ino->no_capability;
	pthread_mutex_unlock(&ino->lock);
	return known;
}

void op_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *ino = inode_get(fs, nodeid);
	char *value = NULL;
	ssize_t n;
	int fd;

	if (!ino) {
		n = -ESTALE;
	} else if (is_worm(name)) {
		n = request_attribute(fs, ino, name + strlen(XATTR_WORM_PREFIX), &value);
		if (n == 0)
			n = strlen(value);
	} else if (lower_xattr_is_ours(name)) {
		n = -ENODATA;
	} else if (strcmp(name, "security.capability") == 0 && !fs->shared && is_known_without(ino)) {
		n = -ENODATA;	/* the kernel asks before the first write to every new file */
	} else if (size && !(value = malloc(size))) {
		n = -ENOMEM;
	} else {
		fd = descriptor_get(fs, ino);
		n = fd < 0 ? fd : lower_getxattr(fd, name, value, size);
		if (fd >= 0)
			descriptor_put(fs, ino, fd);
	}
	inode_put(fs, ino);
	reply_value(req, value, n, size);
	free(value);
}

/* A request of the caller, whom the kernel let through: user.* attributes may be set by who may write the file. */
static int set_worm(struct wormfs *fs, struct inode *ino, pid_t pid, const char *name, const char *value, size_t size)
{
	bool is_one = size == 1 && value[0] == '1';
	char text[RETENTION_TEXT_BYTES * 2];
	struct retention until;
	int64_t until_s;

	name += strlen(XATTR_WORM_PREFIX);
	if (strcmp(name, "commit") == 0)
		return refusal_of_request(fs, ino, GUARD_COMMIT, is_one ? lock_commit(fs, ino, "asked for") : -EINVAL);
	if (strcmp(name, "append") == 0)
		return refusal_of_request(fs, ino, GUARD_APPEND_ONLY, is_one ? append_make(fs, ino, pid) : -EINVAL);
	if (strcmp(name, "until") != 0)
		return refusal_of_request(fs, ino, GUARD_SETXATTR, -ENOSYS);
	memcpy(text, value, size < sizeof(text) ? size : 0);
	text[size < sizeof(text) ? size : 0] = '\0';
	if (retention_parse(text, &until) < 0)
		return refusal_of_request(fs, ino, GUARD_EXTEND, -EINVAL);
	return request_extend(fs, ino, &until, &until_s);
}

/* One place for set and remove: the guard, the change, and the writers' stamps around it. */
static int change_lower(struct wormfs *fs, fuse_req_t req, struct inode *ino, const char *name, const char *value, size_t size, int flags)
{
	enum event_type type = strncmp(name, "system.posix_acl", 16) == 0 ? EVENT_ACL_SET : value ? EVENT_XATTR_SET : EVENT_XATTR_REMOVED;
	char what[XATTR_NAME_MAX + 32];
	struct adjustment adjustment;
	struct data_stamp before;
	int fd, r;

	events_asked(fs, type);
	lock_wait_to_settle(fs, ino);
	pthread_mutex_lock(&ino->lock);
	if (lower_xattr_is_ours(name)) {
		refusal_note_locked(fs, ino, GUARD_SETXATTR, GUARD_OPEN, name, -EPERM);
		pthread_mutex_unlock(&ino->lock);
		return -EPERM;
	}
	r = lock_check_locked(fs, ino, GUARD_SETXATTR);
	fd = r < 0 ? r : descriptor_get(fs, ino);
	if (fd >= 0) {
		lock_metadata_before_locked(fs, ino, &before);
		if (strncmp(name, "security.", 9) == 0)
			ino->no_capability = false;
		/* An ACL changes the mode: set-group-id goes as it would for the caller. */
		r = lock_adjust_begin_locked(fs, ino, false, &adjustment);
		if (r == 0 && strncmp(name, "system.", 7) == 0)
			r = credentials_assume_writer(fs, req, S_ISGID);
		if (r == 0)
			r = value ? lower_setxattr(fd, name, value, size, flags) : lower_removexattr(fd, name);
		credentials_drop(fs);
		snprintf(what, sizeof(what), "attribute '%s' %s", name, value ? "set" : "removed");
		r = lock_adjust_end_locked(fs, ino, &adjustment, r, what);
		lock_metadata_after_locked(fs, ino, &before, false);
		descriptor_put(fs, ino, fd);
	} else {
		r = fd;
	}
	pthread_mutex_unlock(&ino->lock);
	events_note(fs, .type = type, .result = r, .ino = ino, .detail = name);
	return r;
}

void op_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size, int flags)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *ino = inode_get(fs, nodeid);
	int r;

	if (!ino)
		r = -ESTALE;
	else if (is_worm(name))
		r = set_worm(fs, ino, fuse_req_ctx(req)->pid, name, value, size);
	else
		r = change_lower(fs, req, ino, name, value ? value : "", size, flags);
	inode_put(fs, ino);
	fuse_reply_err(req, -r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *ino = inode_get(fs, nodeid);
	int r;

	if (!ino)
		r = -ESTALE;
	else
		r = is_worm(name) ? refusal_of_request(fs, ino, GUARD_SETXATTR, -ENOSYS) : change_lower(fs, req, ino, name, NULL, 0, 0);
	inode_put(fs, ino);
	fuse_reply_err(req, -r);
}

/* Takes out what clients may not see, trusted.* for users as the lower filesystem would; user.worm.* is not in it: a copy would try to set it. */
static size_t filter_list(char *list, size_t len, bool privileged)
{
	char *in = list, *out = list, *end = list + len;

	while (in < end) {
		size_t n = strlen(in) + 1;

		if (!lower_xattr_is_ours(in) && !is_worm(in) && (privileged || strncmp(in, "trusted.", 8) != 0)) {
			memmove(out, in, n);
			out += n;
		}
		in += n;
	}
	return out - list;
}

void op_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
	struct wormfs *fs = wormfs_of(req);
	struct inode *ino = inode_get(fs, nodeid);
	char *list = malloc(XATTR_LIST_MAX_BYTES);
	ssize_t n;
	int fd;

	fd = !ino ? -ESTALE : !list ? -ENOMEM : descriptor_get(fs, ino);
	n = fd < 0 ? fd : lower_listxattr(fd, list, XATTR_LIST_MAX_BYTES);
	if (fd >= 0)
		descriptor_put(fs, ino, fd);
	if (n > 0)
		n = filter_list(list, n, fuse_req_ctx(req)->uid == 0);
	inode_put(fs, ino);
	reply_value(req, list, n, size);
	free(list);
}
