/* open(2), creat(2) and O_TMPFILE: the guard, the lower file, and the handle for the kernel. */
#include <fcntl.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/trail.h"

#define CREATE_ATTR_TIMEOUT_S 0.05
#define PRELOAD_MAX_BYTES (16 * 1024)

static int mode_of(struct wormfs *fs, struct inode *ino, mode_t *ret_mode)
{
	struct stat st;
	int r = inode_stat_now(fs, ino, &st);

	if (r == 0)
		*ret_mode = st.st_mode;
	return r;
}

/* Who opens a small locked file reads it: the first one finds the data in the page cache of the mount, and need not ask.
 * Nobody else has the file open, so no page of it waits for an answer to a READ, which we might be the one to give. */
static void preload_locked(struct wormfs *fs, struct inode *ino, struct handle *h)
{
	char data[PRELOAD_MAX_BYTES];
	struct fuse_bufvec vec = FUSE_BUFVEC_INIT(0);
	ssize_t n;

	if (fs->tier || ino->preloaded || ino->handles != h || h->next || !handle_cached_locked(ino) || ino->rec->size_bytes > sizeof(data) ||
	    handle_need_fd_locked(fs, h) < 0)
		return;
	ino->preloaded = true;		/* once: what the kernel let go of is read */
	n = pread(h->fd, data, sizeof(data), 0);
	if (n <= 0 || (uint64_t)n != ino->rec->size_bytes)
		return;
	vec.buf[0].mem = data;
	vec.buf[0].size = n;
	(void)fuse_lowlevel_notify_store(fs->se, ino->nodeid, 0, &vec, FUSE_BUF_NO_SPLICE);	/* else it is read */
}

/* ret_size_before: of a file that is truncated, for events; left alone where it is not known. */
static int open_existing_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct fuse_file_info *fi,
				struct handle **ret_handle, int64_t *ret_size_before)
{
	bool truncate = fi->flags & O_TRUNC, write = truncate || (fi->flags & O_ACCMODE) != O_RDONLY;
	struct quota_growth growth = { .counted = false };
	bool loaded = false, seen;
	mode_t mode = 0;
	struct stat st;
	int fd, r;

	if (write) {
		r = lock_check_locked(fs, ino, fi->flags & O_APPEND && !truncate ? GUARD_OPEN_APPEND : GUARD_OPEN_WRITE);
		if (r < 0)
			return r;
	}
	r = write ? append_check_open_locked(ino) : 0;
	if (r == 0 && write && fs->limits)
		r = quota_limit_check_open_locked(fs, ino);
	if (r == 0 && truncate && (fs->limits || events_on(fs))) {
		int known = inode_stat_now(fs, ino, &st);

		if (known == 0)
			*ret_size_before = st.st_size;
		if (fs->limits)
			r = known < 0 ? known : quota_limit_grow_locked(fs, ino, &st, 0, &growth);
	}
	if (r < 0)
		return r;
	if (!write && handle_cached_locked(ino)) {
		r = handle_open_locked(fs, req, ino, -1, NULL, fi, ret_handle);
		if (r == 0)
			preload_locked(fs, ino, *ret_handle);
		return r;
	}
	r = write && fuse_req_ctx(req)->uid != 0 ? mode_of(fs, ino, &mode) : 0;
	if (r == 0)
		r = credentials_assume_writer(fs, req, mode);
	if (r < 0)
		return r;
	fd = descriptor_open_named_locked(fs, ino, handle_lower_flags(fi->flags), &st);
	seen = fd >= 0;
	if (!seen)
		fd = descriptor_open(fs, ino, handle_lower_flags(fi->flags));
	if (fd >= 0)
		quota_limit_grown_locked(fs, ino, fd, &growth);
	if (fd >= 0 && ino->phase == LOCK_UNKNOWN) {	/* the first look at its lock, with the same descriptor */
		lock_load_from_locked(fs, ino, fd, seen ? &st : NULL);
		loaded = true;
	}
	r = fd < 0 ? fd : handle_open_locked(fs, req, ino, fd, NULL, fi, ret_handle);
	credentials_drop(fs);
	if (r == 0 && !loaded && ino->phase == LOCK_COMMITTED && (seen || fstat((*ret_handle)->fd, &st) == 0))
		lock_check_suspect_locked(fs, ino, &st);
	if (r == 0 && !write)
		preload_locked(fs, ino, *ret_handle);
	return r;
}

/* An open that succeeded, or did not; ino may be NULL. */
static void tell_of_open(struct wormfs *fs, struct inode *ino, int flags, int64_t size_before, int r)
{
	static const enum event_type types[] = { [O_RDONLY] = EVENT_OPEN_READ, [O_WRONLY] = EVENT_OPEN_WRITE, [O_RDWR] = EVENT_OPEN_READ_WRITE };

	if (r == 0 && flags & O_TRUNC) {
		if (size_before >= 0)
			events_saw_size(fs, size_before);
		events_note(fs, .type = EVENT_TRUNCATE, .ino = ino, .has_open_flags = true, .open_flags = flags);
	}
	events_note(fs, .type = types[(flags & O_ACCMODE) % 3], .result = r, .ino = ino, .has_open_flags = true, .open_flags = flags);
}

int handle_open_existing(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct fuse_file_info *fi,
			 struct handle **ret_handle)
{
	int64_t size_before = -1;
	unsigned waited_ms = 0;
	int r;

	do {
		pthread_mutex_lock(&ino->lock);
		r = open_existing_locked(fs, req, ino, fi, ret_handle, &size_before);
		pthread_mutex_unlock(&ino->lock);
	} while (r == -EBUSY && lock_wait_for_release(ino, &waited_ms));
	if (events_on(fs) || is_shortage(r))
		tell_of_open(fs, ino, fi->flags, size_before, r);
	return r;
}

void op_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *ino = inode_get(fs, nodeid);
	struct handle *h;
	int r;

	r = ino ? handle_open_existing(fs, req, ino, fi, &h) : -ESTALE;
	inode_put(fs, ino);
	if (r < 0)
		fuse_reply_err(req, -r);
	else if (fuse_reply_open(req, fi) == -ENOENT)
		handle_close(fs, h);	/* interrupted: no release will come */
}

static int make_file(struct wormfs *fs, fuse_req_t req, struct inode *dir, int dirfd, const char *name, mode_t mode,
		      struct fuse_file_info *fi, struct inode **ret_ino, struct stat *ret_st, struct handle **ret_handle)
{
	struct inode *ino;
	int fd, r;

	r = credentials_assume(fs, req);
	if (r < 0)
		return r;
	fd = openat(dirfd, name, handle_lower_flags(fi->flags) | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = inode_created(fs, dir, dirfd, name, fd, &ino, ret_st);
	if (r < 0) {
		close(fd);
		quota_limit_doubt(fs);
		goto out;
	}
	r = credentials_assume_writer(fs, req, ret_st->st_mode);	/* passthrough writes with them */
	if (r < 0) {
		close(fd);
		inode_put(fs, ino);
		quota_limit_doubt(fs);
		goto out;
	}
	pthread_mutex_lock(&ino->lock);
	lock_created_locked(ino);
	r = handle_open_locked(fs, req, ino, fd, ret_st, fi, ret_handle);
	if (r == 0)
		trail_created_locked(fs, ino);
	pthread_mutex_unlock(&ino->lock);
	if (r < 0) {
		(void)unlinkat(dirfd, name, 0);	/* empty, and its maker gets an error */
		inode_put(fs, ino);
	} else {
		events_note(fs, .type = EVENT_CREATE, .ino = ino, .dir = dir, .name = name, .st = ret_st, .has_open_flags = true,
			    .open_flags = fi->flags);
		*ret_ino = ino;
	}
out:
	credentials_drop(fs);
	return r;
}

/* A new file; -EEXIST: somebody else's is there. */
static int create_new(struct wormfs *fs, fuse_req_t req, struct inode *dir, int dirfd, const char *name, mode_t mode,
		      struct fuse_file_info *fi, struct inode **ret_ino, struct stat *ret_st, struct handle **ret_handle)
{
	struct limit_set set;
	int r;

	r = quota_limit_make(fs, dir, name, &set);
	if (r < 0)
		return r;
	r = make_file(fs, req, dir, dirfd, name, mode, fi, ret_ino, ret_st, ret_handle);
	quota_limit_made(fs, dir, r == 0 ? *ret_ino : NULL, ret_st, &set);
	return r;
}

static int create_or_open(struct wormfs *fs, fuse_req_t req, struct inode *dir, int dirfd, const char *name, mode_t mode,
			  struct fuse_file_info *fi, struct inode **ret_ino, struct stat *ret_st, struct handle **ret_handle)
{
	struct inode *ino;
	int r;

	r = create_new(fs, req, dir, dirfd, name, mode, fi, ret_ino, ret_st, ret_handle);
	if (r < 0 && (r != -EEXIST || fi->flags & O_EXCL))
		events_note(fs, .type = EVENT_CREATE, .result = r, .dir = dir, .name = name, .has_open_flags = true, .open_flags = fi->flags);
	if (r != -EEXIST || fi->flags & O_EXCL)
		return r;
	/* It appeared since the kernel looked, below this mount or in a race it lost. */
	r = inode_lookup(fs, dir, dirfd, name, &ino, ret_st);
	if (r < 0)
		return r;
	r = S_ISREG(ino->type) ? handle_open_existing(fs, req, ino, fi, ret_handle) : -EEXIST;
	if (r < 0)
		inode_put(fs, ino);
	else
		*ret_ino = ino;
	return r;
}

static void reply_create(fuse_req_t req, struct wormfs *fs, struct inode *ino, const struct stat *st,
			 struct handle *h, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	uint64_t nodeid = ino->nodeid;

	entry_fill(fs, ino, st, &e);
	/* Long enough for the permission check of the same open(2). What changes the attributes of an
	 * empty file without the kernel's knowledge (a mapping) needs a write or a truncate first. */
	e.attr_timeout = CREATE_ATTR_TIMEOUT_S;
	inode_put(fs, ino);
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		handle_close(fs, h);
		inode_forget(fs, nodeid, 1);
	}
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *dir = inode_get(fs, parent), *ino = NULL;
	struct handle *h;
	struct stat st;
	int fd, r;

	fd = dir ? descriptor_get(fs, dir) : -ESTALE;
	r = fd < 0 ? fd : create_or_open(fs, req, dir, fd, name, mode, fi, &ino, &st, &h);
	if (fd >= 0)
		descriptor_put(fs, dir, fd);
	inode_put(fs, dir);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_create(req, fs, ino, &st, h, fi);
}

#if LIBFUSE_HAS_TMPFILE
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *dir = inode_get(fs, parent), *ino = NULL;
	struct handle *h;
	struct stat st;
	int fd = -1, dirfd, r;

	dirfd = dir ? descriptor_get(fs, dir) : -ESTALE;
	r = dirfd < 0 ? dirfd : credentials_assume(fs, req);
	if (r < 0)
		goto out;
	/* O_TMPFILE of an O_PATH directory: "." of it. */
	fd = openat(dirfd, ".", handle_lower_flags(fi->flags) | O_TMPFILE | (fi->flags & O_EXCL), mode);
	r = fd < 0 ? -errno : inode_lookup(fs, NULL, fd, "", &ino, &st);
	if (r == 0)
		r = credentials_assume_writer(fs, req, st.st_mode);
	if (r == 0) {
		pthread_mutex_lock(&ino->lock);
		lock_created_locked(ino);
		r = handle_open_locked(fs, req, ino, fd, &st, fi, &h);
		if (r == 0)
			trail_created_locked(fs, ino);
		pthread_mutex_unlock(&ino->lock);
	} else if (fd >= 0) {
		close(fd);
	}
	credentials_drop(fs);
out:
	events_note(fs, .type = EVENT_CREATE, .result = r, .ino = ino, .st = ino ? &st : NULL, .has_open_flags = true, .open_flags = fi->flags,
		    .detail = "O_TMPFILE");
	if (dirfd >= 0)
		descriptor_put(fs, dir, dirfd);
	inode_put(fs, dir);
	if (r < 0) {
		inode_put(fs, ino);
		fuse_reply_err(req, -r);
	} else {
		reply_create(req, fs, ino, &st, h, fi);
	}
}
#endif
