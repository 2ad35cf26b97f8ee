/* Open files: create, open, read, write, flush, release. With passthrough the kernel reads and writes
 * the lower file itself, and only open, flush and release come here. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/tier.h"
#include "fs/trail.h"

int handle_lower_flags(int flags)
{
	/* O_DIRECT: the kernel has done what it means for the page cache above; our buffers are not
	 * aligned for the one below, and passthrough has the caller's own flags. O_APPEND: the offset comes
	 * with each write; with it, stores through a mapping and what fcntl(F_SETFL) freed would go to the end. */
	return (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW | O_DIRECT | O_NOCTTY | O_APPEND)) | O_CLOEXEC;
}

/* FUSE_DEV_IOC_BACKING_OPEN and _CLOSE, linux/fuse.h since 6.9. Made on the session's descriptor, so
 * that a handle can be closed after its request was answered. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

#define CREATE_ATTR_TIMEOUT_S 0.05

/* The kernel wants one backing file for all handles of an inode, or none: they may not be mixed. */
static bool use_passthrough_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, int file_fd, int flags)
{
	bool writer = (flags & O_ACCMODE) != O_RDONLY;
	struct backing_map map = { .fd = file_fd };
	struct stat st;
	int fd = -1;

	if (!fs->passthrough || ino->ncached > 0)
		return false;
	/* Without leases nobody can tell whether a mapping still writes, and with limits nobody may write without being asked: only
	 * where no writer can come. */
	if (!fs->lower.leases || fs->limits) {
		lock_load_locked(fs, ino);
		if (ino->phase != LOCK_COMMITTED)
			return false;
	}
	if (ino->nbacking == 0) {
		/* The kernel keeps a reference of the description that it is given, to the last handle. One that
		 * writes would look like a writer to the probe: O_PATH, where there may be something to probe. */
		if ((flags & O_ACCMODE) == O_RDWR) {
			fd = descriptor_get(fs, ino);
			if (fd < 0)
				return false;
			map.fd = fd;
		}
		ino->backing_writes = (flags & O_ACCMODE) == O_WRONLY;
		ino->backing_id = ioctl(fuse_session_fd(fs->se), BACKING_OPEN, &map);
		descriptor_put(fs, ino, fd);
		if (ino->backing_id <= 0)
			return false;	/* bounded by the kernel; through us then */
		ino->backing_is_root = fuse_req_ctx(req)->uid == 0;
	} else if (writer && ino->backing_is_root && fuse_req_ctx(req)->uid != 0 && fstat(file_fd, &st) == 0 &&
		   st.st_mode & (S_ISUID | S_ISGID)) {
		/* The kernel writes for all with the credentials of the first, root, who keeps set-id bits:
		 * a user's write would, too. They go now. */
		if (fchmod(file_fd, st.st_mode & 07777 & ~(S_ISUID | S_ISGID)) < 0)
			return false;
	}
	ino->nbacking++;
	return true;
}

static void put_backing_locked(struct wormfs *fs, struct inode *ino)
{
	uint32_t id = ino->backing_id;

	if (--ino->nbacking > 0)
		return;
	if (ioctl(fuse_session_fd(fs->se), BACKING_CLOSE, &id) < 0)
		log_warning("cannot give back passthrough of a file: %s", strerror(errno));
	ino->backing_id = 0;
}

/* A small locked file is read once and then comes from the page cache of the mount, which is twice as
 * fast as passthrough (its OPEN need not touch the lower file at all). Its pages never change. */
#define CACHED_MAX_BYTES (128 * 1024)
#define PRELOAD_MAX_BYTES (16 * 1024)

static bool is_small_and_locked(const struct inode *ino)
{
	return ino->phase == LOCK_COMMITTED && !(ino->rec->flags & RECORD_APPEND) && ino->rec->size_bytes <= CACHED_MAX_BYTES &&
	       ino->nbacking == 0 && !ino->suspect;
}

static bool wants_passthrough_locked(const struct inode *ino, const struct handle *h, int flags)
{
	if (!h->writer)
		return !is_small_and_locked(ino);	/* it comes from the page cache */
	/* The kernel opens its own description with O_APPEND, and fcntl(F_SETFL) does not reach that one (Linux 6.18,
	 * fs/fuse/passthrough.c): what is written after it went to the end. Beside handles that have it there is no choice. */
	return !(flags & O_APPEND) || ino->nbacking > 0;
}

int handle_open_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, int fd, const struct stat *st,
		       struct fuse_file_info *fi, struct handle **ret_handle)
{
	struct handle *h = calloc(1, sizeof(*h));
	struct stat now;
	int r;

	if (!h) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	h->fd = fd;
	h->pid = fuse_req_ctx(req)->pid;
	h->uid = fuse_req_ctx(req)->uid;
	h->gid = fuse_req_ctx(req)->gid;
	h->writer = (fi->flags & O_ACCMODE) != O_RDONLY;
	h->ino = ino;
	h->changed = fi->flags & O_TRUNC && !st;
	h->synced = fi->flags & O_DSYNC;	/* O_SYNC contains it */
	if (h->writer) {
		r = st ? 0 : fstat(fd, &now) < 0 ? -errno : 0;
		if (r == 0)
			r = lock_writer_open_locked(fs, h, st ? st : &now);
		if (r < 0) {
			close(fd);
			free(h);
			return r;
		}
	}
	/* While a reader from before it was append-only has passthrough, the kernel wants it for all. */
	h->direct = append_is_locked(ino) && ino->nbacking == 0;
	h->passthrough = !h->direct && fd >= 0 && wants_passthrough_locked(ino, h, fi->flags) &&
			 use_passthrough_locked(fs, req, ino, fd, fi->flags);
	if (!h->passthrough && !h->direct)
		ino->ncached++;
	/* A shared mapping that stores wants a descriptor that reads and writes (mmap(2), EACCES). Without
	 * passthrough the release waits for the mapping. */
	else if (!h->direct && (fi->flags & O_ACCMODE) == O_RDWR)
		ino->mappable = true;
	inode_ref(fs, ino);
	h->next = ino->handles;
	ino->handles = h;

	fi->fh = handle_publish(h);
#if LIBFUSE_HAS_PASSTHROUGH
	fi->backing_id = h->passthrough ? ino->backing_id : 0;
#endif
	/* The kernel refuses the flag together with passthrough, which has no cache of its own. */
	fi->direct_io = h->direct;
	fi->keep_cache = !h->passthrough && !h->direct && (!fs->shared || ino->phase == LOCK_COMMITTED);
	fi->noflush = !h->writer || (!fs->has_rules && fs->opt.commit == COMMIT_NEVER);	/* a round trip that nobody needs */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
	fi->parallel_direct_writes = 1;
#endif
	if (fs->tier)
		fs->tier->opened_locked(fs, ino, h, fi);
	*ret_handle = h;
	return 0;
}

void handle_close(struct wormfs *fs, struct handle *h)
{
	struct inode *ino = h->ino;
	int held = descriptor_hold(fs, ino);
	struct handle **p;

	pthread_mutex_lock(&ino->lock);
	if (h->passthrough)
		put_backing_locked(fs, ino);
	else if (!h->direct)
		ino->ncached--;
	if (!h->writer) {
		for (p = &ino->handles; *p != h; p = &(*p)->next)
			;
		*p = h->next;
	}
	pthread_mutex_unlock(&ino->lock);
	if (h->writer)
		lock_writer_release(fs, h);
	else if (h->fd >= 0)
		close(h->fd);
	if (fs->tier)
		fs->tier->closed(fs, ino, h->writer, h->changed);
	if (held >= 0)
		close(held);
	inode_put(fs, ino);
	free(h);
}

static int mode_of(struct wormfs *fs, struct inode *ino, mode_t *ret_mode)
{
	struct stat st;
	int r = inode_stat_now(fs, ino, &st);

	if (r == 0)
		*ret_mode = st.st_mode;
	return r;
}

/* The descriptor of a handle, which a reader of a small locked file gets at its first use. */
static int handle_fd(struct wormfs *fs, struct handle *h)
{
	int r;

	pthread_mutex_lock(&h->ino->lock);
	r = handle_need_fd_locked(fs, h);
	pthread_mutex_unlock(&h->ino->lock);
	return r < 0 ? r : h->fd;
}

int handle_need_fd_locked(struct wormfs *fs, struct handle *h)
{
	struct stat st;

	if (h->fd >= 0)
		return 0;
	h->fd = descriptor_open(fs, h->ino, O_RDONLY);
	if (h->fd < 0)
		return h->fd;
	if (fstat(h->fd, &st) == 0)
		lock_check_suspect_locked(fs, h->ino, &st);
	return 0;
}

/* Who opens a small locked file reads it: the first one finds the data in the page cache of the mount, and need not ask.
 * Nobody else has the file open, so no page of it waits for an answer to a READ, which we might be the one to give. */
static void preload_locked(struct wormfs *fs, struct inode *ino, struct handle *h)
{
	char data[PRELOAD_MAX_BYTES];
	struct fuse_bufvec vec = FUSE_BUFVEC_INIT(0);
	ssize_t n;

	if (fs->tier || ino->preloaded || ino->handles != h || h->next || !is_small_and_locked(ino) || ino->rec->size_bytes > sizeof(data) ||
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

static int open_existing_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct fuse_file_info *fi,
				struct handle **ret_handle)
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
	if (r == 0 && truncate && fs->limits) {
		r = inode_stat_now(fs, ino, &st);
		if (r == 0)
			r = quota_limit_grow_locked(fs, ino, &st, 0, &growth);
	}
	if (r < 0)
		return r;
	if (!write && is_small_and_locked(ino)) {
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
static void tell_of_open(struct wormfs *fs, struct inode *ino, int flags, int r)
{
	static const enum event_type types[] = { [O_RDONLY] = EVENT_OPEN_READ, [O_WRONLY] = EVENT_OPEN_WRITE, [O_RDWR] = EVENT_OPEN_READ_WRITE };

	if (r == 0 && flags & O_TRUNC)
		events_note(fs, .type = EVENT_TRUNCATE, .ino = ino, .has_open_flags = true, .open_flags = flags);
	events_note(fs, .type = types[(flags & O_ACCMODE) % 3], .result = r, .ino = ino, .has_open_flags = true, .open_flags = flags);
}

int handle_open_existing(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct fuse_file_info *fi,
			 struct handle **ret_handle)
{
	unsigned waited_ms = 0;
	int r;

	do {
		pthread_mutex_lock(&ino->lock);
		r = open_existing_locked(fs, req, ino, fi, ret_handle);
		pthread_mutex_unlock(&ino->lock);
	} while (r == -EBUSY && lock_wait_for_release(ino, &waited_ms));
	if (events_on(fs) || is_shortage(r))
		tell_of_open(fs, ino, fi->flags, r);
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

void op_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_of(req);
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
	int fd = handle_fd(fs, handle_of(fi->fh));

	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = offset;
	handle_done(handle_of(fi->fh));
	fuse_reply_data(req, &buf, fs->splice ? FUSE_BUF_SPLICE_MOVE : FUSE_BUF_NO_SPLICE);
}

static int assume_for_handle(struct wormfs *fs, fuse_req_t req, struct handle *h)
{
	struct stat st = { 0 };

	if (fuse_req_ctx(req)->uid != 0 && fstat(h->fd, &st) < 0)
		return -errno;
	return credentials_assume_writer(fs, req, st.st_mode);
}

/* Where others may have added to it since the kernel looked. */
static ssize_t write_to_end(int fd, struct fuse_bufvec *in)
{
	struct iovec iov = { .iov_base = in->buf[0].mem, .iov_len = in->buf[0].size };
	ssize_t n;

	/* Requests are not spliced (session.c), so they are one piece of memory. */
	if (in->count != 1 || in->buf[0].flags & FUSE_BUF_IS_FD)
		return -EIO;
	n = pwritev2(fd, &iov, 1, 0, RWF_APPEND);
	return n < 0 ? -errno : n;
}

/* With limits a write holds its inode's lock, as one to an append-only file does: its size stands still until what it grew by is
 * counted. at -1: to the end. */
static int count_write(struct wormfs *fs, struct handle *h, int64_t at, size_t len, bool *locked, struct quota_growth *ret_growth)
{
	struct stat st;

	if (!*locked)
		pthread_mutex_lock(&h->ino->lock);
	*locked = true;
	if (fstat(h->fd, &st) < 0)
		return -errno;
	return quota_limit_grow_locked(fs, h->ino, &st, (at < 0 ? st.st_size : at) + (int64_t)len, ret_growth);
}

static void write_counted(struct wormfs *fs, struct handle *h, bool locked, const struct quota_growth *growth)
{
	quota_limit_grown_locked(fs, h->ino, h->fd, growth);
	if (locked)
		pthread_mutex_unlock(&h->ino->lock);
}

void op_write_buf(fuse_req_t req, fuse_ino_t nodeid, struct fuse_bufvec *in, off_t offset, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	struct handle *h = handle_of(fi->fh);
	bool to_end = h->direct || (fs->shared && fi->flags & O_APPEND && !fi->writepage), locked;
	struct quota_growth growth = { .counted = false };
	int64_t at = offset;
	ssize_t n;
	int r;

	/* A handle that may write was let in by the guard, and its file cannot be locked but by its own
	 * close: nothing to ask here, but for a mapping that stores after that close (CLOSING), and for
	 * append-only files, where each write is looked at. */
	r = h->direct ? append_begin(fs, h, GUARD_WRITE, fi->flags, &at) : 0;
	locked = h->direct && r == 0;
	if (r == 0 && fs->limits)
		r = count_write(fs, h, to_end ? -1 : at, fuse_buf_size(in), &locked, &growth);
	if (r == 0)
		r = assume_for_handle(fs, req, h);
	if (r < 0) {
		write_counted(fs, h, locked, &growth);
		handle_done(h);
		fuse_reply_err(req, -r);
		return;
	}
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = h->fd;
	out.buf[0].pos = at;
	if (to_end)
		n = write_to_end(h->fd, in);
	else
		n = fuse_buf_copy(&out, in, fs->splice ? 0 : FUSE_BUF_NO_SPLICE);
	credentials_drop(fs);
	write_counted(fs, h, locked, &growth);
	if (is_shortage(n))
		shortage_note(fs, &(const struct event_note){ .type = EVENT_WRITE, .result = n, .ino = h->ino });
	handle_done(h);
	if (n < 0)
		fuse_reply_err(req, -n);
	else
		fuse_reply_write(req, n);
}

void op_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct handle *h = handle_of(fi->fh);
	int r = h->writer ? lock_flush(fs, h) : 0;

	if (is_shortage(r))
		shortage_note(fs, &(const struct event_note){ .type = EVENT_CLOSE_WRITE, .result = r, .ino = h->ino });
	handle_done(h);
	fuse_reply_err(req, -r);
}

void op_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct handle *h = handle_of(fi->fh);

	if (h->writer && events_on(fs))
		shortage_look(fs, h);
	handle_close(fs, h);
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct handle *h = handle_of(fi->fh);
	int r;

	if (h->writer) {	/* its lock shall be as durable as its data */
		pthread_mutex_lock(&h->ino->lock);
		h->synced = true;
		pthread_mutex_unlock(&h->ino->lock);
	}
	r = handle_fd(fs, h);
	if (r >= 0)
		r = (datasync ? fdatasync(r) : fsync(r)) < 0 ? -errno : 0;
	events_note(fs, .type = EVENT_FLUSH, .result = r, .ino = h->ino);
	handle_done(h);
	fuse_reply_err(req, r < 0 ? -r : 0);
}

/* Changes through an open handle: the guard knows the state, the handle keeps the file from being
 * locked under it. */
static int check_handle(struct wormfs *fs, struct handle *h, enum guard_op op)
{
	int r;

	pthread_mutex_lock(&h->ino->lock);
	r = lock_check_locked(fs, h->ino, op);
	pthread_mutex_unlock(&h->ino->lock);
	return r;
}

void op_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct handle *h = handle_of(fi->fh);
	int64_t at = offset;
	bool adds = h->direct && (mode & ~FALLOC_FL_KEEP_SIZE) == 0, locked;
	struct quota_growth growth = { .counted = false };
	struct stat st;
	int r;

	r = adds ? append_begin(fs, h, GUARD_FALLOCATE, fi->flags, &at) : check_handle(fs, h, GUARD_FALLOCATE);
	locked = adds && r == 0;
	if (r == 0 && fs->limits) {
		if (!locked)
			pthread_mutex_lock(&h->ino->lock);
		locked = true;
		r = fstat(h->fd, &st) < 0 ? -errno : quota_limit_grow_locked(fs, h->ino, &st, mode & FALLOC_FL_KEEP_SIZE ? 0 : offset + length, &growth);
	}
	if (r == 0)
		r = assume_for_handle(fs, req, h);
	if (r == 0) {
		r = fallocate(h->fd, mode, offset, length) < 0 ? -errno : 0;
		credentials_drop(fs);
	}
	write_counted(fs, h, locked, &growth);
	events_note(fs, .type = EVENT_ALLOCATE, .result = r, .ino = h->ino);
	handle_done(h);
	fuse_reply_err(req, -r);
}

void op_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t offset, int whence, struct fuse_file_info *fi)
{
	int fd = handle_fd(wormfs_of(req), handle_of(fi->fh));
	off_t at = fd < 0 ? fd : lseek(fd, offset, whence);
	int r = fd < 0 ? -fd : errno;

	handle_done(handle_of(fi->fh));
	if (at < 0)
		fuse_reply_err(req, r);
	else
		fuse_reply_lseek(req, at);
}

/* No more than the source has is copied. */
static int count_copy(struct wormfs *fs, struct handle *to, int from, off_t in_offset, off_t out_offset, size_t len, bool *locked,
		      struct quota_growth *ret_growth)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return -errno;
	if (in_offset >= st.st_size)
		len = 0;
	else if ((uint64_t)(st.st_size - in_offset) < len)
		len = st.st_size - in_offset;
	return count_write(fs, to, out_offset, len, locked, ret_growth);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_offset, struct fuse_file_info *in_fi, fuse_ino_t out,
			off_t out_offset, struct fuse_file_info *out_fi, size_t len, int flags)
{
	struct wormfs *fs = wormfs_for(req);
	struct handle *to = handle_of(out_fi->fh);
	struct quota_growth growth = { .counted = false };
	bool locked = false;
	int from = -1, r;
	ssize_t n = 0;

	r = check_handle(fs, to, GUARD_COPY_TO);
	if (r == 0)
		r = from = handle_fd(fs, handle_of(in_fi->fh));
	if (r >= 0 && fs->limits)
		r = count_copy(fs, to, from, in_offset, out_offset, len, &locked, &growth);
	if (r >= 0)
		r = assume_for_handle(fs, req, to);
	if (r == 0) {
		n = copy_file_range(from, &in_offset, to->fd, &out_offset, len, flags);
		r = n < 0 ? -errno : 0;
		credentials_drop(fs);
	}
	write_counted(fs, to, locked, &growth);
	if (is_shortage(r))
		shortage_note(fs, &(const struct event_note){ .type = EVENT_WRITE, .result = r, .ino = to->ino });
	handle_done(to);
	handle_done(handle_of(in_fi->fh));
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, n);
}
