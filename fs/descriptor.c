/* A clock (second chance) over a fixed array of slots. One mutex; no system call is made under it. A
 * descriptor in use is pinned; when every slot is pinned, the caller gets an uncached one. */
#include "fs/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/inode.h"
#include "fs/inode_private.h"
#include "fs/wormfs.h"
#include "lockstore/leaf_mutex.h"

struct slot {
	int fd;			/* -1: free */
	struct inode *ino;
	unsigned pins;
	bool recent;
};

struct descriptor_cache {
	pthread_mutex_t lock;	/* a leaf: guards everything here and inode.descriptor_slot */
	unsigned limit, hand, used;
	struct slot slots[];
};

int descriptor_cache_open(struct wormfs *fs, unsigned limit)
{
	struct descriptor_cache *cache = calloc(1, sizeof(*cache) + limit * sizeof(cache->slots[0]));

	if (!cache)
		return -ENOMEM;
	leaf_mutex_init(&cache->lock);
	cache->limit = limit;
	for (unsigned i = 0; i < limit; i++)
		cache->slots[i].fd = -1;
	fs->descriptors = cache;
	return 0;
}

void descriptor_cache_close(struct wormfs *fs)
{
	struct descriptor_cache *cache = fs->descriptors;

	if (!cache)
		return;
	for (unsigned i = 0; i < cache->limit; i++)
		if (cache->slots[i].fd >= 0)
			close(cache->slots[i].fd);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
	fs->descriptors = NULL;
}

/* A free slot, or one whose descriptor nobody uses; its old descriptor goes to *ret_old. -1: none. */
static int take_slot_locked(struct descriptor_cache *cache, int *ret_old)
{
	*ret_old = -1;
	for (unsigned tries = 0; tries < 2 * cache->limit; tries++) {
		unsigned i = cache->hand;
		struct slot *slot = &cache->slots[i];

		cache->hand = (cache->hand + 1) % cache->limit;
		if (slot->fd < 0)
			return i;
		if (slot->pins > 0)
			continue;
		if (slot->recent) {
			slot->recent = false;
			continue;
		}
		*ret_old = slot->fd;
		slot->ino->descriptor_slot = -1;
		slot->fd = -1;
		cache->used--;
		return i;
	}
	return -1;
}

static int open_path(struct wormfs *fs, struct inode *ino)
{
	struct file_handle *handle;
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	r = inode_handle(fs, ino, &handle);
	if (r < 0)
		return r;
	fd = open_by_handle_at(fs->root_fd, handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!fs->shared)
		return fd;
	/* The handle and the number were read by two calls: a rename below us between them could have
	 * joined two files. Who they are is checked where the handle is used. */
	r = inode_stat(fd, "", &st, &btime_ns);
	if (r == 0 && (st.st_ino != ino->ino || btime_ns != ino->btime_ns))
		r = -ESTALE;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int descriptor_get(struct wormfs *fs, struct inode *ino)
{
	struct descriptor_cache *cache = fs->descriptors;
	int fd, old, i;

	if (ino->nodeid == 1)
		return fs->root_fd;
	if (ino->fd >= 0)
		return ino->fd;

	pthread_mutex_lock(&cache->lock);
	if (ino->descriptor_slot >= 0) {
		struct slot *slot = &cache->slots[ino->descriptor_slot];

		slot->pins++;
		slot->recent = true;
		fd = slot->fd;
		pthread_mutex_unlock(&cache->lock);
		return fd;
	}
	pthread_mutex_unlock(&cache->lock);

	fd = open_path(fs, ino);
	if (fd < 0)
		return fd;

	old = -1;
	pthread_mutex_lock(&cache->lock);
	if (ino->descriptor_slot < 0) {
		i = take_slot_locked(cache, &old);
		if (i >= 0) {
			cache->slots[i] = (struct slot){ .fd = fd, .ino = ino, .pins = 1, .recent = true };
			ino->descriptor_slot = i;
			cache->used++;
		}
	}
	pthread_mutex_unlock(&cache->lock);
	if (old >= 0)
		close(old);
	return fd;
}

void descriptor_put(struct wormfs *fs, struct inode *ino, int fd)
{
	struct descriptor_cache *cache = fs->descriptors;
	bool cached;

	if (fd < 0 || fd == fs->root_fd || fd == ino->fd)
		return;
	pthread_mutex_lock(&cache->lock);
	cached = ino->descriptor_slot >= 0 && cache->slots[ino->descriptor_slot].fd == fd;
	if (cached)
		cache->slots[ino->descriptor_slot].pins--;
	pthread_mutex_unlock(&cache->lock);
	if (!cached)
		close(fd);
}

void descriptor_drop(struct wormfs *fs, struct inode *ino)
{
	struct descriptor_cache *cache = fs->descriptors;
	int fd = -1;

	pthread_mutex_lock(&cache->lock);
	if (ino->descriptor_slot >= 0) {
		struct slot *slot = &cache->slots[ino->descriptor_slot];

		fd = slot->pins ? -1 : slot->fd;
		if (slot->pins == 0) {
			slot->fd = -1;
			slot->recent = false;
			ino->descriptor_slot = -1;
			cache->used--;
		}
	}
	pthread_mutex_unlock(&cache->lock);
	if (fd >= 0)
		close(fd);
}

int descriptor_open(struct wormfs *fs, struct inode *ino, int flags)
{
	struct file_handle *handle;
	char path[40];
	int fd, r;

	flags = (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC;
	if (ino->nodeid == 1) {
		fd = openat(fs->root_fd, ".", flags);
	} else if (ino->fd < 0) {
		r = inode_handle(fs, ino, &handle);
		if (r < 0)
			return r;
		fd = open_by_handle_at(fs->root_fd, handle, flags);
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", ino->fd);
		fd = open(path, flags);
	}
	return fd < 0 ? -errno : fd;
}

int descriptor_hold(struct wormfs *fs, struct inode *ino)
{
	int fd = fs->tier && S_ISREG(ino->type) ? descriptor_open(fs, ino, O_PATH) : -1;

	return fd < 0 ? -1 : fd;
}

/* A handle is two system calls to get and use. Under ino->lock its name stands still (see inode_handle.c), and whoever
 * broke the promise that nobody else changes the share shows by the number and the birth time. */
int descriptor_open_named_locked(struct wormfs *fs, struct inode *ino, int flags, struct stat *ret_st)
{
	char name[NAME_MAX + 1];
	struct inode *parent;
	int64_t btime_ns;
	int dirfd, fd;

	if (fs->shared || ino->fd >= 0 || ino->dev_index != 0 || !S_ISREG(ino->type) || flags & O_TRUNC || atomic_load(&ino->handle))
		return -EOPNOTSUPP;
	parent = inode_name_of(fs, ino, name);
	dirfd = parent ? descriptor_get(fs, parent) : -ESTALE;
	fd = dirfd < 0 ? -1 : openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd >= 0)
		descriptor_put(fs, parent, dirfd);
	inode_put(fs, parent);
	if (fd >= 0 && (inode_stat(fd, "", ret_st, &btime_ns) < 0 || ret_st->st_ino != ino->ino || ret_st->st_dev != fs->root_dev ||
			btime_ns != ino->btime_ns)) {
		close(fd);
		fd = -1;
	}
	return fd < 0 ? -EOPNOTSUPP : fd;
}

unsigned descriptor_count(struct wormfs *fs)
{
	unsigned used;

	pthread_mutex_lock(&fs->descriptors->lock);
	used = fs->descriptors->used;
	pthread_mutex_unlock(&fs->descriptors->lock);
	return used;
}
