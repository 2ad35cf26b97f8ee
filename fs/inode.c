/* The inode table. Shards by node id, each with its mutex and a bucket array that doubles. Always true:
 *  - an inode in a shard has refs > 0; the last reference takes it out, under the shard's lock;
 *  - nlookup > 0 holds one reference, a handle one, a child one on its parent;
 *  - ino, btime_ns, dev_index, and handle once it is set, never change: a number that is used again for
 *    another file gets a new struct, which takes over what the kernel still owes for the old one. */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/handle.h"
#include "fs/inode_private.h"
#include "fs/rule.h"
#include "fs/wormfs.h"
#include "lockstore/leaf_mutex.h"

#define NSHARDS 64		/* power of two */
#define FIRST_BUCKETS 256	/* power of two */
#define MAX_DEVICES 4096	/* filesystems mounted below the share */

struct shard {
	pthread_mutex_t lock;
	struct inode **bucket;
	size_t nbuckets, count;
};

struct inode_table {
	struct shard shard[NSHARDS];
	pthread_mutex_t devices_lock;
	dev_t device[MAX_DEVICES];	/* [0] is the share's own */
	unsigned ndevices;
	struct file_handle *root_handle;	/* shape of a handle here, for inode_resurrect() */
	struct inode *root;
};

static uint64_t mix64(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;	/* finaliser of MurmurHash3 (public domain, A. Appleby) */
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static struct shard *shard_of(struct wormfs *fs, uint64_t nodeid)
{
	return &fs->inodes->shard[mix64(nodeid) & (NSHARDS - 1)];
}

static struct inode **bucket_of(struct shard *shard, uint64_t nodeid)
{
	return &shard->bucket[(mix64(nodeid) >> 6) & (shard->nbuckets - 1)];
}

static struct inode *find_locked(struct shard *shard, uint64_t nodeid)
{
	struct inode *ino = *bucket_of(shard, nodeid);

	while (ino && ino->nodeid != nodeid)
		ino = ino->hash_next;
	return ino;
}

static void grow_locked(struct shard *shard)
{
	size_t n = shard->nbuckets * 2;
	struct inode **old = shard->bucket, **bucket = calloc(n, sizeof(*bucket));

	if (!bucket)
		return;		/* longer chains, nothing worse */
	shard->bucket = bucket;
	shard->nbuckets = n;
	for (size_t i = 0; i < n / 2; i++) {
		struct inode *ino = old[i], *next;

		for (; ino; ino = next) {
			struct inode **to = bucket_of(shard, ino->nodeid);

			next = ino->hash_next;
			ino->hash_next = *to;
			*to = ino;
		}
	}
	free(old);
}

static void insert_locked(struct shard *shard, struct inode *ino)
{
	struct inode **to;

	if (shard->count >= shard->nbuckets)
		grow_locked(shard);
	to = bucket_of(shard, ino->nodeid);
	ino->hash_next = *to;
	*to = ino;
	shard->count++;
}

static void remove_locked(struct shard *shard, struct inode *ino)
{
	struct inode **p = bucket_of(shard, ino->nodeid);

	while (*p && *p != ino)
		p = &(*p)->hash_next;
	if (!*p)
		return;		/* its number belongs to a newer one already */
	*p = ino->hash_next;
	shard->count--;
}

#define STATX_FLAGS (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)

static int64_t btime_of(const struct statx *stx)
{
	return stx->stx_mask & STATX_BTIME ? stx->stx_btime.tv_sec * 1000000000LL + stx->stx_btime.tv_nsec : 0;
}

static void stat_of(const struct statx *stx, struct stat *ret_st)
{
	memset(ret_st, 0, sizeof(*ret_st));
	ret_st->st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
	ret_st->st_ino = stx->stx_ino;
	ret_st->st_mode = stx->stx_mode;
	ret_st->st_nlink = stx->stx_nlink;
	ret_st->st_uid = stx->stx_uid;
	ret_st->st_gid = stx->stx_gid;
	ret_st->st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor);
	ret_st->st_size = stx->stx_size;
	ret_st->st_blksize = stx->stx_blksize;
	ret_st->st_blocks = stx->stx_blocks;
	ret_st->st_atim = (struct timespec){ stx->stx_atime.tv_sec, stx->stx_atime.tv_nsec };
	ret_st->st_mtim = (struct timespec){ stx->stx_mtime.tv_sec, stx->stx_mtime.tv_nsec };
	ret_st->st_ctim = (struct timespec){ stx->stx_ctime.tv_sec, stx->stx_ctime.tv_nsec };
}

int inode_stat(int dirfd, const char *name, struct stat *ret_st, int64_t *ret_btime_ns)
{
	struct statx stx;

	if (statx(dirfd, name, STATX_FLAGS, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
		return -errno;
	stat_of(&stx, ret_st);
	*ret_btime_ns = btime_of(&stx);
	return 0;
}

static int device_index(struct wormfs *fs, dev_t dev, uint32_t *ret_index)
{
	struct inode_table *table = fs->inodes;
	unsigned i;
	int r = 0;

	if (dev == fs->root_dev) {
		*ret_index = 0;
		return 0;
	}
	pthread_mutex_lock(&table->devices_lock);
	for (i = 1; i < table->ndevices && table->device[i] != dev; i++)
		;
	if (i == table->ndevices && i < MAX_DEVICES)
		table->device[table->ndevices++] = dev;
	else if (i == table->ndevices)
		r = -ENFILE;
	pthread_mutex_unlock(&table->devices_lock);
	*ret_index = i;
	return r;
}

/* A file's own number on the share's filesystem, which leaves 0, 1 (the root's) and the upper half to the
 * others: 63 bits of a hash. A collision there is found (see lookup_existing) and refused with EIO. */
uint64_t inode_nodeid_of(uint64_t ino, uint32_t dev_index)
{
	if (dev_index == 0 && ino > 1 && ino < 1ULL << 63)
		return ino;
	return mix64(ino ^ mix64(dev_index + 1)) | 1ULL << 63;
}

/* Everything of an inode that nobody refers to any more, and what it referred to. */
static void destroy(struct wormfs *fs, struct inode *ino)
{
	while (ino) {
		struct inode *parent = ino->parent;
		struct shard *shard;
		bool last = false;

		descriptor_drop(fs, ino);
		while (ino->aliases) {
			struct inode_alias *alias = ino->aliases;

			ino->aliases = alias->next;
			inode_put(fs, alias->parent);
			free(alias->name);
			free(alias);
		}
		if (ino->fd >= 0)
			close(ino->fd);
		pthread_mutex_destroy(&ino->lock);
		free(ino->handle);
		free(ino->name);
		free(ino->rec);
		free(ino->seal_holds);
		free(ino->mapped);
		rule_forget_locked(ino);
		free(ino);

		/* inode_put(parent), as a loop: a tree may be thousands of directories deep. */
		ino = parent;
		if (!ino)
			return;
		shard = shard_of(fs, ino->nodeid);
		pthread_mutex_lock(&shard->lock);
		if (--ino->refs == 0) {
			remove_locked(shard, ino);
			last = true;
		}
		pthread_mutex_unlock(&shard->lock);
		if (!last)
			return;
	}
}

struct inode *inode_get(struct wormfs *fs, uint64_t nodeid)
{
	struct shard *shard = shard_of(fs, nodeid);
	struct inode *ino;

	pthread_mutex_lock(&shard->lock);
	ino = find_locked(shard, nodeid);
	if (ino)
		ino->refs++;
	pthread_mutex_unlock(&shard->lock);
	return ino;
}

struct inode *inode_ref(struct wormfs *fs, struct inode *ino)
{
	struct shard *shard = shard_of(fs, ino->nodeid);

	pthread_mutex_lock(&shard->lock);
	ino->refs++;
	pthread_mutex_unlock(&shard->lock);
	return ino;
}

void inode_put(struct wormfs *fs, struct inode *ino)
{
	struct shard *shard;
	bool last;

	if (!ino)
		return;
	shard = shard_of(fs, ino->nodeid);
	pthread_mutex_lock(&shard->lock);
	last = --ino->refs == 0;
	if (last)
		remove_locked(shard, ino);
	pthread_mutex_unlock(&shard->lock);
	if (last)
		destroy(fs, ino);
}

void inode_lookup_count(struct wormfs *fs, struct inode *ino)
{
	struct shard *shard = shard_of(fs, ino->nodeid);

	pthread_mutex_lock(&shard->lock);
	if (ino->nlookup++ == 0)
		ino->refs++;
	pthread_mutex_unlock(&shard->lock);
}

void inode_forget(struct wormfs *fs, uint64_t nodeid, uint64_t nlookup)
{
	struct shard *shard = shard_of(fs, nodeid);
	struct inode *ino;
	bool last = false;

	pthread_mutex_lock(&shard->lock);
	ino = find_locked(shard, nodeid);
	if (ino && ino->nlookup > 0) {
		ino->nlookup -= nlookup < ino->nlookup ? nlookup : ino->nlookup;
		if (ino->nlookup == 0 && --ino->refs == 0) {
			remove_locked(shard, ino);
			last = true;
		}
	}
	pthread_mutex_unlock(&shard->lock);
	if (last)
		destroy(fs, ino);
}

void inode_gone(struct wormfs *fs, struct inode *ino)
{
	struct shard *shard = shard_of(fs, ino->nodeid);

	pthread_mutex_lock(&shard->lock);
	ino->gone = true;
	pthread_mutex_unlock(&shard->lock);
}

uint64_t inode_generation(const struct inode *ino)
{
	/* NFS keeps 32 bits of it. Never 0. */
	return (uint32_t)mix64(ino->btime_ns) | 1;
}

/* Takes over handle and fd. */
static struct inode *make_inode(uint64_t nodeid, const struct stat *st, int64_t btime_ns, uint32_t dev_index,
				struct file_handle *handle, int fd)
{
	struct inode *ino = calloc(1, sizeof(*ino));

	if (!ino)
		return NULL;
	ino->nodeid = nodeid;
	ino->ino = st->st_ino;
	ino->btime_ns = btime_ns;
	ino->dev_index = dev_index;
	ino->handle = handle;
	ino->fd = fd;
	ino->type = st->st_mode & S_IFMT;
	ino->descriptor_slot = -1;
	ino->slot = JOURNAL_NO_SLOT;
	ino->refs = 1;
	pthread_mutex_init(&ino->lock, NULL);
	return ino;
}

/* In the shard: the same file: referenced, 1. Nothing, or an older file of the same number: 0. A
 * different file with the same node id (hash collision between filesystems): -EIO. */
static int lookup_existing_locked(struct shard *shard, uint64_t nodeid, uint64_t number, uint32_t dev_index,
				  int64_t btime_ns, const struct file_handle *handle, struct inode **ret_ino)
{
	struct inode *ino = find_locked(shard, nodeid);

	if (!ino)
		return 0;
	if (ino->ino != number || ino->dev_index != dev_index)
		return -EIO;
	/* A number may be used again within the tick of a birth time. */
	if (ino->gone || ino->btime_ns != btime_ns || (handle && ino->handle && !inode_same_handle(ino->handle, handle)))
		return 0;
	ino->refs++;
	*ret_ino = ino;
	return 1;
}

/* The inode of what `at` in dirfd is ("": dirfd itself); takes fd, an O_PATH descriptor of it or -1.
 * Its attributes are known. `lazy`: its handle can wait. */
static int find_or_make(struct wormfs *fs, int dirfd, const char *at, int fd, const struct stat *st, int64_t btime_ns,
			bool lazy, struct inode **ret_ino)
{
	struct file_handle *handle = NULL;
	struct inode *ino = NULL, *old = NULL, *dead = NULL;
	uint32_t dev_index;
	struct shard *shard;
	uint64_t nodeid;
	int r;

	r = device_index(fs, st->st_dev, &dev_index);
	if (r < 0)
		goto out;
	nodeid = inode_nodeid_of(st->st_ino, dev_index);
	if (dev_index == 0 && st->st_ino == fs->inodes->root->ino) {	/* ".." of a directory in it */
		*ret_ino = inode_ref(fs, fs->inodes->root);
		goto out;
	}
	shard = shard_of(fs, nodeid);

	if (btime_ns == 0 && fs->lower.handles && dev_index == 0) {
		/* Only the handle tells two files of one number apart. */
		r = inode_read_handle(dirfd, at, &handle);
		if (r < 0)
			goto out;
	}
	pthread_mutex_lock(&shard->lock);
	r = lookup_existing_locked(shard, nodeid, st->st_ino, dev_index, btime_ns, handle, &ino);
	pthread_mutex_unlock(&shard->lock);
	if (r != 0)
		goto found;

	if (fs->lower.handles && dev_index == 0) {
		r = handle || lazy ? 0 : inode_read_handle(dirfd, at, &handle);
		if (r < 0)
			goto out;
	} else if (fd < 0) {
		fd = openat(dirfd, at, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			r = -errno;
			goto out;
		}
	}
	ino = make_inode(nodeid, st, btime_ns, dev_index, handle, handle ? -1 : fd);
	if (!ino) {
		r = -ENOMEM;
		goto out;
	}
	if (!handle)
		fd = -1;
	handle = NULL;	/* both are the inode's now */

	pthread_mutex_lock(&shard->lock);
	r = lookup_existing_locked(shard, nodeid, st->st_ino, dev_index, btime_ns, ino->handle, &old);
	if (r == 0) {
		struct inode *dying = find_locked(shard, nodeid);

		if (dying) {
			/* The number is used again. The kernel sees it by the generation, and pays
			 * back by number what it looked up: from here to the new one. */
			remove_locked(shard, dying);
			ino->nlookup = dying->nlookup;
			if (dying->nlookup) {
				ino->refs++;
				dying->nlookup = 0;
				if (--dying->refs == 0)
					dead = dying;
			}
		}
		insert_locked(shard, ino);
	}
	pthread_mutex_unlock(&shard->lock);
	if (dead)
		destroy(fs, dead);
	if (r != 0) {
		destroy(fs, ino);
		ino = old;
	}
found:
	if (r < 0)
		goto out;
	*ret_ino = ino;
	r = 0;
out:
	if (fd >= 0)
		close(fd);
	free(handle);
	return r;
}

int inode_lookup(struct wormfs *fs, struct inode *parent, int dirfd, const char *name,
		 struct inode **ret_ino, struct stat *ret_st)
{
	int64_t btime_ns;
	int fd = -1, r;
	bool lazy;

	/* Where others rename below us, number and handle must come from one object. */
	if (fs->shared || !fs->lower.handles) {
		fd = openat(dirfd, *name ? name : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (!*name && fd < 0 && errno == ENOTDIR)
			fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
	}
	r = fd >= 0 ? inode_stat(fd, "", ret_st, &btime_ns) : inode_stat(dirfd, name, ret_st, &btime_ns);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	lazy = fd < 0 && parent && *name && btime_ns != 0;
	r = fd >= 0 ? find_or_make(fs, fd, "", fd, ret_st, btime_ns, false, ret_ino) :
		      find_or_make(fs, dirfd, name, -1, ret_st, btime_ns, lazy, ret_ino);
	if (r == 0 && parent && *name)
		r = inode_remember_name(fs, *ret_ino, parent, name, ret_st->st_nlink);
	if (r == -ENOMEM)
		inode_put(fs, *ret_ino);
	return r;
}

int inode_created(struct wormfs *fs, struct inode *parent, int dirfd, const char *name, int fd,
		  struct inode **ret_ino, struct stat *ret_st)
{
	int64_t btime_ns;
	int r;

	if (!fs->lower.handles)		/* a descriptor of its own, that does not write */
		return inode_lookup(fs, parent, dirfd, name, ret_ino, ret_st);
	r = inode_stat(fd, "", ret_st, &btime_ns);
	if (r == 0 && ret_st->st_dev != fs->root_dev)
		return inode_lookup(fs, parent, dirfd, name, ret_ino, ret_st);
	if (r == 0)
		r = find_or_make(fs, fd, "", -1, ret_st, btime_ns, false, ret_ino);
	if (r == 0) {
		r = inode_remember_name(fs, *ret_ino, parent, name, ret_st->st_nlink);
		if (r < 0)
			inode_put(fs, *ret_ino);
	}
	return r;
}

int inode_statx_now(struct wormfs *fs, struct inode *ino, int flags, unsigned mask, struct statx *ret_stx)
{
	char name[NAME_MAX + 1];
	struct inode *parent = NULL;
	int fd, r = -ENOENT;

	flags |= STATX_FLAGS;
	if (!fs->shared && ino->dev_index == 0 && !S_ISDIR(ino->type))
		parent = inode_name_of(fs, ino, name);
	fd = parent ? descriptor_get(fs, parent) : -1;
	if (fd >= 0) {
		if (statx(fd, name, flags, mask | STATX_INO | STATX_BTIME, ret_stx) == 0 && ret_stx->stx_ino == ino->ino &&
		    btime_of(ret_stx) == ino->btime_ns && makedev(ret_stx->stx_dev_major, ret_stx->stx_dev_minor) == fs->root_dev)
			r = 0;
		descriptor_put(fs, parent, fd);
	}
	inode_put(fs, parent);
	if (r == 0)
		return 0;
	/* Renamed or unlinked meanwhile, or nobody knows its name. */
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = statx(fd, "", flags, mask, ret_stx) < 0 ? -errno : 0;
	descriptor_put(fs, ino, fd);
	return r;
}

int inode_stat_now(struct wormfs *fs, struct inode *ino, struct stat *ret_st)
{
	struct statx stx;
	int r;

	r = inode_statx_now(fs, ino, 0, STATX_BASIC_STATS, &stx);
	if (r == 0)
		stat_of(&stx, ret_st);
	return r;
}

int inode_walk(struct wormfs *fs, const char *path, struct inode **ret_ino)
{
	struct inode *ino = inode_ref(fs, fs->inodes->root), *child;
	char *copy = strdup(path), *save = NULL, *name;
	struct stat st;
	int fd, r = copy ? 0 : -ENOMEM;

	for (name = copy ? strtok_r(copy, "/", &save) : NULL; name && r == 0; name = strtok_r(NULL, "/", &save)) {
		fd = descriptor_get(fs, ino);
		if (fd < 0) {
			r = fd;
			break;
		}
		r = inode_lookup(fs, ino, fd, name, &child, &st);
		descriptor_put(fs, ino, fd);
		if (r < 0)
			break;
		inode_put(fs, ino);
		ino = child;
	}
	free(copy);
	if (r < 0)
		inode_put(fs, ino);
	else
		*ret_ino = ino;
	return r;
}

struct file_handle *inode_root_handle(struct wormfs *fs)
{
	return fs->inodes->root_handle;
}

uint64_t inode_table_count(struct wormfs *fs)
{
	uint64_t count = 0;

	for (int i = 0; i < NSHARDS; i++) {
		struct shard *shard = &fs->inodes->shard[i];

		pthread_mutex_lock(&shard->lock);
		count += shard->count;
		pthread_mutex_unlock(&shard->lock);
	}
	return count;
}

int inode_table_open(struct wormfs *fs)
{
	struct inode_table *table = calloc(1, sizeof(*table));
	struct stat st;
	int64_t btime_ns;
	int r;

	if (!table)
		return -ENOMEM;
	fs->inodes = table;
	pthread_mutex_init(&table->devices_lock, NULL);
	table->ndevices = 1;
	table->device[0] = fs->root_dev;
	for (int i = 0; i < NSHARDS; i++) {
		leaf_mutex_init(&table->shard[i].lock);
		table->shard[i].nbuckets = FIRST_BUCKETS;
		table->shard[i].bucket = calloc(FIRST_BUCKETS, sizeof(struct inode *));
		if (!table->shard[i].bucket)
			return -ENOMEM;
	}
	if (fs->lower.handles) {
		r = inode_read_handle(fs->root_fd, "", &table->root_handle);
		if (r < 0)
			return r;
	}
	r = inode_stat(fs->root_fd, "", &st, &btime_ns);
	if (r < 0)
		return r;
	table->root = make_inode(1, &st, btime_ns, 0, NULL, -1);
	if (!table->root)
		return -ENOMEM;
	insert_locked(shard_of(fs, 1), table->root);
	return 0;
}

void inode_table_close(struct wormfs *fs)
{
	struct inode_table *table = fs->inodes;

	if (!table)
		return;
	for (int i = 0; i < NSHARDS; i++) {
		struct shard *shard = &table->shard[i];

		for (size_t b = 0; shard->bucket && b < shard->nbuckets; b++) {
			struct inode *ino = shard->bucket[b], *next;

			for (; ino; ino = next) {	/* the kernel does not pay back at unmount */
				next = ino->hash_next;
				while (ino->aliases) {
					struct inode_alias *alias = ino->aliases;

					ino->aliases = alias->next;
					free(alias->name);
					free(alias);
				}
				while (ino->handles) {	/* nor does it always send the last release */
					struct handle *h = ino->handles;

					ino->handles = h->next;
					if (h->fd >= 0)
						close(h->fd);
					free(h);
				}
				if (ino->fd >= 0)
					close(ino->fd);
				free(ino->handle);
				free(ino->name);
				free(ino->rec);
				free(ino->seal_holds);
				rule_forget_locked(ino);
				free(ino->mapped);
				pthread_mutex_destroy(&ino->lock);
				free(ino);
			}
		}
		free(shard->bucket);
		pthread_mutex_destroy(&shard->lock);
	}
	pthread_mutex_destroy(&table->devices_lock);
	free(table->root_handle);
	free(table);
	fs->inodes = NULL;
}
