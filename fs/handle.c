/* Handles: made when a file is opened, ended at its release. With passthrough the kernel reads and writes the lower file itself. */
#include "fs/handle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/descriptor.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/ops.h"
#include "fs/tier.h"

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

#define CACHED_MAX_BYTES (128 * 1024)

bool handle_cached_locked(const struct inode *ino)
{
	return ino->phase == LOCK_COMMITTED && !(ino->rec->flags & RECORD_APPEND) && ino->rec->size_bytes <= CACHED_MAX_BYTES &&
	       ino->nbacking == 0 && !ino->suspect;
}

static bool wants_passthrough_locked(const struct inode *ino, const struct handle *h, int flags)
{
	if (!h->writer)
		return !handle_cached_locked(ino);	/* it comes from the page cache */
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

int handle_fd(struct wormfs *fs, struct handle *h)
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
