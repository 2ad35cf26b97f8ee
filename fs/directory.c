/* Reading directories: getdents64 into a buffer of the handle's own, offsets as the lower filesystem
 * gives them, so that seekdir and a second reader work as there. */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/ops.h"

#define BUFFER_BYTES 32768

struct linux_dirent64 {		/* getdents(2) */
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

/* The kernel sends one request at a time for one handle (inode lock, f_pos lock); `lock` is for
 * programs that read one descriptor from two threads through pread-like calls of NFS servers. */
struct directory {
	pthread_mutex_t lock;
	int fd;
	atomic_bool ready;		/* as in handle.h */
	int64_t next;			/* lock: offset of the entry at `at` */
	size_t at, filled;		/* lock: in buffer */
	char buffer[BUFFER_BYTES] __attribute__((aligned(8)));
};

static struct directory *directory_of(struct fuse_file_info *fi)
{
	struct directory *d = (struct directory *)(uintptr_t)fi->fh;

	(void)atomic_load_explicit(&d->ready, memory_order_acquire);
	return d;
}

void op_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_of(req);
	struct inode *ino = inode_get(fs, nodeid);
	struct directory *d = ino ? malloc(sizeof(*d)) : NULL;
	int r;

	if (!d) {
		inode_put(fs, ino);
		fuse_reply_err(req, ino ? ENOMEM : ESTALE);
		return;
	}
	d->fd = descriptor_open(fs, ino, O_RDONLY | O_DIRECTORY);
	inode_put(fs, ino);
	if (d->fd < 0) {
		r = -d->fd;
		free(d);
		fuse_reply_err(req, r);
		return;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->next = 0;
	d->at = d->filled = 0;
	atomic_store_explicit(&d->ready, true, memory_order_release);
	fi->fh = (uintptr_t)d;
	/* Only what goes through this mount changes a directory: the kernel may keep what it read. */
	fi->cache_readdir = !fs->shared;
	fi->keep_cache = !fs->shared;
	if (fuse_reply_open(req, fi) == -ENOENT) {
		close(d->fd);
		pthread_mutex_destroy(&d->lock);
		free(d);
	}
}

/* The next entry, or NULL with *ret_r 0 at the end. */
static struct linux_dirent64 *next_entry_locked(struct directory *d, int *ret_r)
{
	long n;

	*ret_r = 0;
	if (d->at == d->filled) {
		n = syscall(SYS_getdents64, d->fd, d->buffer, sizeof(d->buffer));
		if (n <= 0) {
			*ret_r = n < 0 ? -errno : 0;
			return NULL;
		}
		d->at = 0;
		d->filled = n;
	}
	return (struct linux_dirent64 *)(d->buffer + d->at);
}

static int seek_locked(struct directory *d, int64_t offset)
{
	if (offset == d->next && (offset != 0 || d->at < d->filled))
		return 0;
	if (lseek(d->fd, offset, SEEK_SET) < 0)
		return -errno;
	d->next = offset;
	d->at = d->filled = 0;
	return 0;
}

/* Adds one entry; its size, 0 when it cannot be looked up any more, or more than is left. */
static size_t add_entry(fuse_req_t req, struct wormfs *fs, struct inode *dir, struct directory *d,
			const struct linux_dirent64 *ent, bool plus, char *buf, size_t left)
{
	struct stat st = { .st_ino = ent->d_ino, .st_mode = (mode_t)ent->d_type << 12 };
	bool dots = strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0;
	struct fuse_entry_param e = { .attr = st };
	struct inode *ino;
	size_t n;

	if (!plus)
		return fuse_add_direntry(req, buf, left, ent->d_name, &st, ent->d_off);
	/* Ask for the room first: a look-up that is not sent would have to be taken back. */
	n = fuse_add_direntry_plus(req, NULL, 0, ent->d_name, NULL, 0);
	if (n > left || dots)
		return n > left ? n : fuse_add_direntry_plus(req, buf, left, ent->d_name, &e, ent->d_off);
	if (inode_lookup(fs, dir, d->fd, ent->d_name, &ino, &st) < 0)
		return fuse_add_direntry_plus(req, buf, left, ent->d_name, &e, ent->d_off);	/* node id 0: the kernel looks it up */
	entry_fill(fs, ino, &st, &e);
	inode_put(fs, ino);
	return fuse_add_direntry_plus(req, buf, left, ent->d_name, &e, ent->d_off);
}

static void read_directory(fuse_req_t req, uint64_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
	struct wormfs *fs = wormfs_of(req);
	struct directory *d = directory_of(fi);
	struct inode *dir = plus ? inode_get(fs, nodeid) : NULL;
	struct linux_dirent64 *ent;
	char *buf = malloc(size);
	size_t used = 0, n;
	int r;

	if (!buf || (plus && !dir)) {
		r = buf ? -ESTALE : -ENOMEM;
		goto out;
	}
	pthread_mutex_lock(&d->lock);
	r = seek_locked(d, offset);
	while (r == 0 && (ent = next_entry_locked(d, &r))) {
		n = add_entry(req, fs, dir, d, ent, plus, buf + used, size - used);
		if (n > size - used)
			break;
		used += n;
		d->at += ent->d_reclen;
		d->next = ent->d_off;
	}
	pthread_mutex_unlock(&d->lock);
out:
	inode_put(fs, dir);
	if (r < 0 && used == 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, used);
	free(buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_directory(req, nodeid, size, offset, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_directory(req, nodeid, size, offset, fi, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct directory *d = directory_of(fi);

	pthread_mutex_lock(&d->lock);	/* the last reader is done, and its thread has let go */
	close(d->fd);
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_destroy(&d->lock);
	free(d);
	fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	struct directory *d = directory_of(fi);
	int r = datasync ? fdatasync(d->fd) : fsync(d->fd);

	fuse_reply_err(req, r < 0 ? errno : 0);
}
