/* The operations: each asks for permission, goes through call.c, and ends in the operation of fs/ that does it. */
#include "mockarchive/ops.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/lock.h"
#include "mockarchive/permission.h"

struct archive *the_archive;

#define XATTR_MAX_BYTES 4096

static void go(struct call *c, int permission)
{
	if (permission < 0) {
		fuse_reply_err(c->req, -permission);
		return;
	}
	c->a = the_archive;
	call_go(c);
}

static struct wormfs *fs_of(fuse_req_t req)
{
	return wormfs_of(req);
}

static struct fuse_file_info *fi_of(struct call *c)
{
	return c->has_fi ? &c->fi : NULL;
}

/* What is locked is refused by fs/, without a recall first. */
static bool is_locked(struct wormfs *fs, fuse_ino_t nodeid)
{
	struct inode *ino;
	bool locked;

	if (!fs->has_rules && fs->opt.commit == COMMIT_NEVER)
		return false;
	ino = inode_get(fs, nodeid);
	if (!ino)
		return false;
	pthread_mutex_lock(&ino->lock);
	lock_load_locked(fs, ino);
	locked = ino->phase != LOCK_NONE;
	pthread_mutex_unlock(&ino->lock);
	inode_put(fs, ino);
	return locked;
}

/* Its user changes something beside data, times and mode: from now on (before), and as it is then (after), stat shows the lower file's own
 * ctime. The call wants the file to stand still from before until after. Of several at once the last look counts, which is why it is
 * under the lock. */
static void touched(struct archive *a, fuse_ino_t nodeid, bool after)
{
	struct stat st;
	struct file *f;
	int fd;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, nodeid);
	if (f)
		f->ctime_ns = 0;	/* also where it is renamed or removed just now */
	fd = f && after ? file_open_locked(a, f, O_PATH) : -1;
	if (fd >= 0 && fstat(fd, &st) == 0)
		file_touched_locked(a, f, &st);
	if (fd >= 0)
		close(fd);
	pthread_mutex_unlock(&a->lock);
}

/* ---- names ---- */

static void run_lookup(struct call *c) { op_lookup(c->req, c->nodeid, c->name); }

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	int r = permission_may(fs_of(req), req, parent, X_OK);

	if (r == 0 && dotfile_lookup(the_archive, req, parent, name))
		return;
	go(&(struct call){ .req = req, .run = run_lookup, .point = FAULT_LOOKUP, .nodeid = parent, .name = name }, r);
}

static void on_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t nlookup)
{
	if (!is_dotfile(nodeid)) {
		op_forget(req, nodeid, nlookup);
		return;
	}
	dotfile_forget(nodeid, nlookup);
	fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++) {
		if (is_dotfile(forgets[i].ino))
			dotfile_forget(forgets[i].ino, forgets[i].nlookup);
		else
			inode_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
	}
	fuse_reply_none(req);
}

static void run_mknod(struct call *c) { op_mknod(c->req, c->nodeid, c->name, c->mode, c->rdev); }

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	go(&(struct call){ .req = req, .run = run_mknod, .point = FAULT_CREATE, .nodeid = parent, .name = name, .mode = mode, .rdev = rdev },
	   permission_change_name(fs_of(req), req, parent, NULL));
}

static void run_mkdir(struct call *c) { op_mkdir(c->req, c->nodeid, c->name, c->mode); }

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	go(&(struct call){ .req = req, .run = run_mkdir, .point = FAULT_MKDIR, .nodeid = parent, .name = name, .mode = mode },
	   permission_change_name(fs_of(req), req, parent, NULL));
}

static void run_symlink(struct call *c) { op_symlink(c->req, c->name2, c->nodeid, c->name); }

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	go(&(struct call){ .req = req, .run = run_symlink, .point = FAULT_CREATE, .nodeid = parent, .name = name, .name2 = target },
	   permission_change_name(fs_of(req), req, parent, NULL));
}

static void run_link(struct call *c)
{
	touched(c->a, c->other, false);
	op_link(c->req, c->other, c->nodeid, c->name);
	touched(c->a, c->other, true);
}

static void on_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name)
{
	go(&(struct call){ .req = req, .run = run_link, .point = FAULT_LINK, .nodeid = parent, .other = nodeid, .name = name,
			   .wants = WANTS_STILL, .wants_of = nodeid },
	   permission_change_name(fs_of(req), req, parent, NULL));
}

static void run_unlink(struct call *c) { op_unlink(c->req, c->nodeid, c->name); }

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	go(&(struct call){ .req = req, .run = run_unlink, .point = FAULT_UNLINK, .nodeid = parent, .name = name },
	   permission_change_name(fs_of(req), req, parent, name));
}

/* The replica has the same tree; a directory of it that is not empty stays. */
static void run_rmdir(struct call *c)
{
	char *path = call_path(c->a, c->nodeid, c->name);

	op_rmdir(c->req, c->nodeid, c->name);
	if (path && *path && faccessat(c->a->fs->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		replica_remove(c->a, path);
	free(path);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	go(&(struct call){ .req = req, .run = run_rmdir, .point = FAULT_RMDIR, .nodeid = parent, .name = name },
	   permission_change_name(fs_of(req), req, parent, name));
}

static void run_rename(struct call *c) { op_rename(c->req, c->nodeid, c->name, c->other, c->name2, c->flags); }

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name, unsigned int flags)
{
	int r = permission_change_name(fs_of(req), req, parent, name);

	go(&(struct call){ .req = req, .run = run_rename, .point = FAULT_RENAME, .nodeid = parent, .name = name, .other = new_parent,
			   .name2 = new_name, .flags = flags }, r < 0 ? r : permission_change_name(fs_of(req), req, new_parent, new_name));
}

/* ---- attributes ---- */

static void run_getattr(struct call *c) { op_getattr(c->req, c->nodeid, fi_of(c)); }

static void on_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct call c = { .req = req, .run = run_getattr, .point = FAULT_GETATTR, .nodeid = nodeid, .has_fi = fi != NULL };

	if (is_dotfile(nodeid)) {
		dotfile_getattr(req, nodeid);
		return;
	}
	if (fi)
		c.fi = *fi;
	go(&c, 0);
}

static int size_now(struct wormfs *fs, fuse_ino_t nodeid, off_t *ret_size)
{
	struct inode *ino = inode_get(fs, nodeid);
	struct stat st;
	int r = ino ? inode_stat_now(fs, ino, &st) : -ESTALE;

	inode_put(fs, ino);
	if (r == 0)
		*ret_size = st.st_size;
	return r;
}

static void run_setattr(struct call *c) { op_setattr(c->req, c->nodeid, &c->attr, c->flags, fi_of(c)); }

static void on_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct call c = { .req = req, .run = run_setattr, .point = to_set & FUSE_SET_ATTR_SIZE ? FAULT_TRUNCATE : FAULT_SETATTR, .nodeid = nodeid,
			  .attr = *attr, .flags = to_set, .has_fi = fi != NULL, .wants = WANTS_STILL };

	if (is_dotfile(nodeid)) {
		dotfile_setattr(the_archive, req, nodeid);
		return;
	}
	if (fi)
		c.fi = *fi;
	/* The sticky bit of a file is the archive's: what a program read with the mode and writes back shall not stay. */
	if (to_set & FUSE_SET_ATTR_MODE && the_archive->set.flag & FLAG_FINAL && S_ISREG(attr->st_mode))
		c.attr.st_mode &= ~S_ISVTX;
	if (to_set & FUSE_SET_ATTR_SIZE) {
		c.wants = is_locked(fs_of(req), nodeid) ? WANTS_NOTHING : attr->st_size == 0 ? WANTS_STILL : WANTS_ALL;
		c.room_of = nodeid;
		c.room_end = attr->st_size;
	}
	go(&c, permission_setattr(fs_of(req), req, nodeid, attr, to_set, fi != NULL));
}

static void run_statfs(struct call *c)
{
	struct statvfs stv;

	show_statvfs(c->a, &stv);
	fuse_reply_statfs(c->req, &stv);
}

static void on_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
	go(&(struct call){ .req = req, .run = run_statfs, .point = FAULT_STATFS, .nodeid = nodeid }, 0);
}

static void run_access(struct call *c)
{
	struct archive *a = c->a;
	bool denied = false;
	struct file *f;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, c->nodeid);
	if (f && f->offline && c->flags & R_OK && a->set.access != ACCESS_NORMAL) {
		denied = true;
		if (a->set.access == ACCESS_RECALL)
			(void)robot_recall_locked(a, f, 0, NULL);	/* refused: asked again, and the answer is no */
	}
	pthread_mutex_unlock(&a->lock);
	fuse_reply_err(c->req, denied ? EACCES : 0);
}

static void on_access(fuse_req_t req, fuse_ino_t nodeid, int mask)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_err(req, 0);
		return;
	}
	go(&(struct call){ .req = req, .run = run_access, .point = FAULT_ACCESS, .nodeid = nodeid, .flags = mask },
	   permission_may(fs_of(req), req, nodeid, mask & (R_OK | W_OK | X_OK)));
}

/* ---- data ---- */

static void run_create(struct call *c) { op_create(c->req, c->nodeid, c->name, c->mode, &c->fi); }

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	go(&(struct call){ .req = req, .run = run_create, .point = FAULT_CREATE, .can = FAULT_DO_ENOSPC, .nodeid = parent, .name = name, .mode = mode,
			   .fi = *fi, .has_fi = true }, permission_change_name(fs_of(req), req, parent, NULL));
}

static void run_tmpfile(struct call *c)
{
#if LIBFUSE_HAS_TMPFILE
	op_tmpfile(c->req, c->nodeid, c->mode, &c->fi);
#endif
}

static void on_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	go(&(struct call){ .req = req, .run = run_tmpfile, .point = FAULT_CREATE, .nodeid = parent, .mode = mode, .fi = *fi, .has_fi = true },
	   permission_change_name(fs_of(req), req, parent, NULL));
}

static void run_open(struct call *c) { op_open(c->req, c->nodeid, &c->fi); }

static void on_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC;
	struct call c = { .req = req, .run = run_open, .point = FAULT_OPEN, .nodeid = nodeid, .fi = *fi, .has_fi = true,
			  .nonblock = fi->flags & O_NONBLOCK, .wants = WANTS_OPEN };
	/* __FMODE_EXEC, linux/fs.h: the kernel opens a program that way; what may be executed need not be readable. */
	int mask = fi->flags & 040 ? X_OK : (fi->flags & O_ACCMODE) == O_RDONLY ? R_OK : (fi->flags & O_ACCMODE) == O_WRONLY ? W_OK : R_OK | W_OK;

	if (is_dotfile(nodeid)) {
		dotfile_open(the_archive, req, nodeid, fi);
		return;
	}
	if (fi->flags & O_TRUNC)
		mask |= W_OK;
	if (write && is_locked(fs_of(req), nodeid))
		c.wants = WANTS_NOTHING;
	else if (write)
		c.wants = fi->flags & O_TRUNC ? WANTS_STILL : WANTS_ALL;
	go(&c, permission_may(fs_of(req), req, nodeid, mask));
}

/* What is stored is right; what is told of it is not. */
static void read_spoiled(struct call *c)
{
	struct handle *h = handle_of(c->fi.fh);
	int64_t end = fault_corrupt_size(&c->corrupt, c->corrupt.size_bytes);
	char *buf = malloc(c->size ? c->size : 1);
	ssize_t n;

	pthread_mutex_lock(&h->ino->lock);
	n = handle_need_fd_locked(c->a->fs, h);
	pthread_mutex_unlock(&h->ino->lock);
	if (n == 0 && !buf)
		n = -ENOMEM;
	else if (n == 0 && (n = pread(h->fd, buf, c->size, c->offset)) < 0)
		n = -errno;
	handle_done(h);
	if (n > 0 && c->corrupt.how == FAULT_CORRUPT_TRUNCATE && c->offset + n > end)
		n = c->offset < end ? end - c->offset : 0;
	if (n > 0)
		fault_corrupt_bytes(&c->corrupt, c->offset, buf, (size_t)n);
	if (n < 0)
		fuse_reply_err(c->req, (int)-n);
	else
		fuse_reply_buf(c->req, buf, (size_t)n);
	free(buf);
}

static void run_read(struct call *c)
{
	if (c->corrupt.how)
		read_spoiled(c);
	else
		op_read(c->req, c->nodeid, c->size, c->offset, &c->fi);
}

static void on_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	if (is_dotfile(nodeid)) {
		dotfile_read(req, nodeid, size, offset);
		return;
	}
	go(&(struct call){ .req = req, .run = run_read, .point = FAULT_READ, .can = FAULT_DO_CORRUPT | FAULT_DO_RATE, .nodeid = nodeid, .size = size,
			   .offset = offset, .fi = *fi, .has_fi = true, .wants = WANTS_READ }, 0);
}

static void run_write(struct call *c)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(c->size);

	buf.buf[0].mem = (char *)c->value;
	op_write_buf(c->req, c->nodeid, &buf, c->offset, &c->fi);
}

static void on_write_buf(fuse_req_t req, fuse_ino_t nodeid, struct fuse_bufvec *in, off_t offset, struct fuse_file_info *fi)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_write(req, fuse_buf_size(in));
		return;
	}
	/* Never spliced (main.c): one piece of memory. A writer's file is on disk, and stays while it is open. */
	go(&(struct call){ .req = req, .run = run_write, .point = FAULT_WRITE, .can = FAULT_DO_ENOSPC | FAULT_DO_RATE, .nodeid = nodeid, .size = fuse_buf_size(in),
			   .value = in->buf[0].mem, .offset = offset, .fi = *fi, .has_fi = true, .room_of = nodeid,
			   .room_end = (uint64_t)offset + fuse_buf_size(in) }, 0);
}

/* close(2): it counts as over from here on, though the kernel tells the end of it later. */
static void run_flush(struct call *c)
{
	struct handle *h = handle_of(c->fi.fh);
	struct file *f;
	bool first;

	if (h->writer) {
		pthread_mutex_lock(&h->ino->lock);
		first = !h->closed;
		pthread_mutex_unlock(&h->ino->lock);
		pthread_mutex_lock(&c->a->lock);
		f = file_find_locked(c->a, c->nodeid);
		if (f && f->nwriters > 0) {
			f->closing += first && f->closing < f->nwriters;
			f->closing_real_ns = real_now_ns();	/* of a duplicate, too: it may be the last */
		}
		pthread_mutex_unlock(&c->a->lock);
	}
	op_flush(c->req, c->nodeid, &c->fi);
}

static void on_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_err(req, 0);
		return;
	}
	go(&(struct call){ .req = req, .run = run_flush, .point = FAULT_CLOSE, .nodeid = nodeid, .fi = *fi, .has_fi = true }, 0);
}

static void on_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	if (is_dotfile(nodeid))
		fuse_reply_err(req, 0);
	else
		op_release(req, nodeid, fi);
}

static void run_fsync(struct call *c) { op_fsync(c->req, c->nodeid, c->flags, &c->fi); }

static void on_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_err(req, 0);
		return;
	}
	go(&(struct call){ .req = req, .run = run_fsync, .point = FAULT_FSYNC, .nodeid = nodeid, .flags = datasync, .fi = *fi, .has_fi = true }, 0);
}

static void run_fallocate(struct call *c) { op_fallocate(c->req, c->nodeid, c->mode, c->offset, c->size, &c->fi); }

static void on_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	go(&(struct call){ .req = req, .run = run_fallocate, .point = FAULT_WRITE, .can = FAULT_DO_ENOSPC, .nodeid = nodeid, .mode = mode,
			   .offset = offset, .size = length, .fi = *fi, .has_fi = true,
			   .room_of = mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_COLLAPSE_RANGE) ? 0 : nodeid, .room_end = (uint64_t)offset + length }, 0);
}

/* A stub is a hole below, and must not look so: tar -S and cp would take it for zeros. */
static void run_lseek(struct call *c)
{
	struct fault_query query = { .point = FAULT_LSEEK, .can = FAULT_DO_HOLE, .copy = FAULT_COPY_FINAL, .size_bytes = -1 };
	struct archive *a = c->a;
	struct fault_verdict v;
	off_t size = 0;
	struct file *f;
	bool offline;
	int says;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, c->nodeid);
	offline = f && f->offline;
	says = a->set.seek;
	query.now_ns = clock_now_locked(a);
	pthread_mutex_unlock(&a->lock);
	if (!offline) {
		op_lseek(c->req, c->nodeid, c->offset, c->flags, &c->fi);
		return;
	}
	query.path = call_path(a, c->nodeid, NULL);
	faults_ask(a->faults, &query, &v);
	free((char *)query.path);
	if (v.did & FAULT_DO_HOLE)
		says = SEEK_SAYS_HOLE;
	if (says == SEEK_NOT_IMPLEMENTED)
		/* ENOSYS would switch it off for the whole mount, and for good. EINVAL: as a filesystem without it. */
		fuse_reply_err(c->req, EINVAL);
	else if (size_now(a->fs, c->nodeid, &size) < 0)
		fuse_reply_err(c->req, EIO);
	else if (c->offset < 0 || c->offset >= size || (says == SEEK_SAYS_HOLE && c->flags == SEEK_DATA))
		fuse_reply_err(c->req, ENXIO);
	else if (says == SEEK_SAYS_HOLE || c->flags == SEEK_DATA)
		fuse_reply_lseek(c->req, c->offset);
	else
		fuse_reply_lseek(c->req, size);
}

static void on_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t offset, int whence, struct fuse_file_info *fi)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	/* Nobody moves it between the look at its state and the one at its holes. */
	go(&(struct call){ .req = req, .run = run_lseek, .point = FAULT_LSEEK, .nodeid = nodeid, .offset = offset, .flags = whence, .fi = *fi,
			   .has_fi = true, .wants = WANTS_STILL }, 0);
}

static void run_copy(struct call *c)
{
	op_copy_file_range(c->req, c->nodeid, c->offset, &c->fi, c->other, c->other_offset, &c->other_fi, c->size, c->flags);
}

static void on_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_offset, struct fuse_file_info *in_fi, fuse_ino_t out, off_t out_offset,
			       struct fuse_file_info *out_fi, size_t len, int flags)
{
	off_t size = 0;
	size_t copied = len;

	if (size_now(fs_of(req), in, &size) == 0)	/* else the copy fails, too */
		copied = in_offset >= size ? 0 : len < (size_t)(size - in_offset) ? len : (size_t)(size - in_offset);
	go(&(struct call){ .req = req, .run = run_copy, .point = FAULT_READ, .nodeid = in, .offset = in_offset, .size = len, .fi = *in_fi,
			   .has_fi = true, .other = out, .other_offset = out_offset, .other_fi = *out_fi, .flags = flags, .wants = WANTS_READ,
			   .room_of = out, .room_end = (uint64_t)out_offset + copied }, 0);
}

/* ---- directories ---- */

static void on_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	int r = permission_may(fs_of(req), req, nodeid, R_OK);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		op_opendir(req, nodeid, fi);
}

static void run_readdir(struct call *c) { op_readdir(c->req, c->nodeid, c->size, c->offset, &c->fi); }
static void run_readdirplus(struct call *c) { op_readdirplus(c->req, c->nodeid, c->size, c->offset, &c->fi); }

static void on_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	go(&(struct call){ .req = req, .run = run_readdir, .point = FAULT_READDIR, .nodeid = nodeid, .size = size, .offset = offset, .fi = *fi,
			   .has_fi = true }, 0);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	/* The attributes that come with the names are for who may enter the directory. */
	bool plus = permission_may(fs_of(req), req, nodeid, X_OK) == 0;

	if (!plus) {
		fuse_reply_err(req, EACCES);
		return;
	}
	go(&(struct call){ .req = req, .run = run_readdirplus, .point = FAULT_READDIR, .nodeid = nodeid, .size = size, .offset = offset, .fi = *fi,
			   .has_fi = true }, 0);
}

/* ---- extended attributes ---- */

static void run_getxattr(struct call *c)
{
	char buf[XATTR_MAX_BYTES];
	ssize_t n = show_xattr(c->a, c->nodeid, c->name2, fuse_req_ctx(c->req)->uid == 0, buf, sizeof(buf));

	if (n == -ENOENT)
		op_getxattr(c->req, c->nodeid, c->name2, c->size);
	else if (n < 0)
		fuse_reply_err(c->req, -n);
	else if (c->size == 0)
		fuse_reply_xattr(c->req, n);
	else if ((size_t)n > c->size)
		fuse_reply_err(c->req, ERANGE);
	else
		fuse_reply_buf(c->req, buf, n);
}

static bool is_user(const char *name)
{
	return strncmp(name, "user.", 5) == 0;
}

/* Fault rules know the file by its path: the attribute's name is not part of it, and stays in name2. */
static void on_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	go(&(struct call){ .req = req, .run = run_getxattr, .point = FAULT_XATTR, .nodeid = nodeid, .name2 = name, .size = size },
	   is_user(name) ? permission_may(fs_of(req), req, nodeid, R_OK) : 0);
}

static void run_listxattr(struct call *c) { op_listxattr(c->req, c->nodeid, c->size); }

static void on_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
	if (is_dotfile(nodeid)) {
		fuse_reply_xattr(req, 0);
		return;
	}
	go(&(struct call){ .req = req, .run = run_listxattr, .point = FAULT_XATTR, .nodeid = nodeid, .size = size }, 0);
}

static void run_setxattr(struct call *c)
{
	touched(c->a, c->nodeid, false);
	op_setxattr(c->req, c->nodeid, c->name2, c->value, c->size, c->flags);
	touched(c->a, c->nodeid, true);
}

static int may_set_xattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
	char value[XATTR_MAX_BYTES];

	if (show_xattr(the_archive, nodeid, name, true, value, sizeof(value)) != -ENOENT)
		return -EPERM;		/* what the archive says is not for others to say */
	if (is_user(name))
		return permission_may(fs_of(req), req, nodeid, W_OK);
	return fuse_req_ctx(req)->uid == 0 ? 0 : -EPERM;
}

static void on_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size, int flags)
{
	go(&(struct call){ .req = req, .run = run_setxattr, .point = FAULT_XATTR, .nodeid = nodeid, .name2 = name, .value = value ? value : "",
			   .size = size, .flags = flags, .wants = WANTS_STILL }, may_set_xattr(req, nodeid, name));
}

static void run_removexattr(struct call *c)
{
	touched(c->a, c->nodeid, false);
	op_removexattr(c->req, c->nodeid, c->name2);
	touched(c->a, c->nodeid, true);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
	go(&(struct call){ .req = req, .run = run_removexattr, .point = FAULT_XATTR, .nodeid = nodeid, .name2 = name,
			   .wants = WANTS_STILL },
	   may_set_xattr(req, nodeid, name));
}

static void on_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned int cmd, void *arg, struct fuse_file_info *fi, unsigned flags, const void *in,
		     size_t in_len, size_t out_len)
{
	if (is_dotfile(nodeid))
		fuse_reply_err(req, ENOTTY);
	else
		op_ioctl(req, nodeid, cmd, arg, fi, flags, in, in_len, out_len);
}

/* Without statx: then the kernel asks for attributes in the one way that show_stat() knows. */
const struct fuse_lowlevel_ops archive_operations = {
	.init = op_init,
	.lookup = on_lookup, .forget = on_forget, .forget_multi = on_forget_multi, .mknod = on_mknod, .mkdir = on_mkdir, .symlink = on_symlink,
	.link = on_link, .unlink = on_unlink, .rmdir = on_rmdir, .rename = on_rename, .readlink = op_readlink, .getattr = on_getattr,
	.setattr = on_setattr, .statfs = on_statfs, .access = on_access, .ioctl = on_ioctl, .create = on_create, .open = on_open, .read = on_read,
	.write_buf = on_write_buf, .flush = on_flush, .release = on_release, .fsync = on_fsync, .fallocate = on_fallocate, .lseek = on_lseek,
	.copy_file_range = on_copy_file_range, .opendir = on_opendir, .readdir = on_readdir, .readdirplus = on_readdirplus,
	.releasedir = op_releasedir, .fsyncdir = op_fsyncdir, .getxattr = on_getxattr, .setxattr = on_setxattr, .listxattr = on_listxattr,
	.removexattr = on_removexattr,
#if LIBFUSE_HAS_TMPFILE
	.tmpfile = on_tmpfile,
#endif
};
