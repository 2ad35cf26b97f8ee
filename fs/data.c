/* Open files: read, write, flush, release, sync, allocate, seek, copy. With passthrough the kernel reads and writes
 * the lower file itself, and only flush and release come here. */
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/credentials.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"

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
