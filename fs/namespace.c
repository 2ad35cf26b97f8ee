/* Names: look-up, making, linking, removing. The kernel holds the directories' locks while one of
 * these runs, so the names in them stand still; what may still change is the lock state of a file,
 * which is why a check and the system call it allows are made under the inode's lock. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/atime.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/namespace_private.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/rule.h"
#include "fs/tier.h"
#include "fs/trail.h"
#include "lockstore/staging.h"

#define FORGET_LINGER_MS 2

double entry_timeout(struct wormfs *fs)
{
	return fs->timeout_s;
}

double attr_timeout_locked(struct wormfs *fs, struct inode *ino)
{
	/* The kernel does not see what passthrough writes and mappings do to times and sizes. */
	if (ino->nwriters > 0 || ino->phase == LOCK_CLOSING || ino->mapped || fs->tier)
		return 0;
	if (fs->opt.atime_api && S_ISREG(ino->type))
		return 0;	/* what stat shows changes with the lock, which the kernel knows nothing of */
	if (fs->shared && ino->phase == LOCK_COMMITTED && !(ino->rec->flags & RECORD_APPEND))
		return 3600;	/* nobody changes it below, only its access time moves */
	return fs->timeout_s;
}

void entry_fill(struct wormfs *fs, struct inode *ino, const struct stat *st, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = ino->nodeid;
	e->generation = inode_generation(ino);
	e->attr = *st;
	e->entry_timeout = entry_timeout(fs);
	e->attr_timeout = fs->timeout_s;
	if (S_ISREG(ino->type)) {
		pthread_mutex_lock(&ino->lock);
		if (fs->shared)
			lock_load_locked(fs, ino);
		atime_show_stat_locked(fs, ino, &e->attr);
		if (fs->tier)
			fs->tier->show(fs, ino, &e->attr);
		e->attr_timeout = attr_timeout_locked(fs, ino);
		pthread_mutex_unlock(&ino->lock);
	}
	inode_lookup_count(fs, ino);
}

/* Replies, and gives the reference up. */
static void reply_entry(fuse_req_t req, struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct fuse_entry_param e;
	uint64_t nodeid = ino->nodeid;

	entry_fill(fs, ino, st, &e);
	inode_put(fs, ino);
	if (fuse_reply_entry(req, &e) == -ENOENT)	/* the caller was interrupted: it will not be paid back */
		inode_forget(fs, nodeid, 1);
}

int dir_get(struct wormfs *fs, uint64_t nodeid, struct inode **ret_dir, int *ret_fd)
{
	struct inode *dir = inode_get(fs, nodeid);
	int fd;

	if (!dir)
		return -ESTALE;
	fd = descriptor_get(fs, dir);
	if (fd < 0) {
		inode_put(fs, dir);
		return fd;
	}
	*ret_dir = dir;
	*ret_fd = fd;
	return 0;
}

void dir_put(struct wormfs *fs, struct inode *dir, int fd)
{
	descriptor_put(fs, dir, fd);
	inode_put(fs, dir);
}

/* ".." is asked for by NFS servers only. */
static int lookup_parent(struct wormfs *fs, int fd, struct inode **ret_ino, struct stat *ret_st)
{
	int up = lower_open_parent(fs->root_fd, fd, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	if (up < 0)
		return up;
	r = inode_lookup(fs, NULL, up, "", ret_ino, ret_st);
	close(up);
	return r;
}

/* The rings may fail to start after the kernel was told of them: libfuse then reads all from /dev/fuse. */
static void note_ring(struct wormfs *fs, fuse_req_t req)
{
#ifdef FUSE_CAP_OVER_IO_URING
	if (fs->io_uring && !atomic_load_explicit(&fs->served_by_ring, memory_order_relaxed) && fuse_req_is_uring(req))
		atomic_store_explicit(&fs->served_by_ring, true, memory_order_relaxed);
#endif
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct wormfs *fs = wormfs_of(req);
	struct fuse_entry_param none = { .entry_timeout = fs->timeout_s };
	bool dot = strcmp(name, ".") == 0, dotdot = strcmp(name, "..") == 0;
	struct inode *dir = NULL, *ino = NULL;
	struct stat st;
	int fd, r;

	note_ring(fs, req);
	r = dir_get(fs, parent, &dir, &fd);
	if (r == -ESTALE && dot) {
		/* An NFS handle that outlived the kernel's caches and ours. */
		r = inode_resurrect(fs, parent, &ino, &st);
	} else if (r == 0) {
		r = dotdot ? lookup_parent(fs, fd, &ino, &st) : inode_lookup(fs, dot ? NULL : dir, fd, dot ? "" : name, &ino, &st);
		dir_put(fs, dir, fd);
	}
	if (r == 0)
		reply_entry(req, fs, ino, &st);
	else if (r == -ENOENT && !fs->shared)
		fuse_reply_entry(req, &none);	/* "is not there" is remembered, too */
	else
		fuse_reply_err(req, -r);
}

/* Where the rings serve, only FORGETs (and interrupts) are left to read from /dev/fuse, and whoever lets an inode go, an
 * unlink most of all, wakes the thread that reads. While it sleeps they come together, and the kernel hands over all
 * of them in one read. */
static void wait_for_more_forgets(struct wormfs *fs)
{
	static const struct timespec linger = { .tv_nsec = FORGET_LINGER_MS * 1000000 };

	if (atomic_load_explicit(&fs->served_by_ring, memory_order_relaxed))
		(void)nanosleep(&linger, NULL);		/* a signal ends it: the better */
}

void op_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t nlookup)
{
	struct wormfs *fs = wormfs_of(req);

	inode_forget(fs, nodeid, nlookup);
	fuse_reply_none(req);
	wait_for_more_forgets(fs);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct wormfs *fs = wormfs_of(req);

	for (size_t i = 0; i < count; i++)
		inode_forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
	wait_for_more_forgets(fs);
}

struct new_node {
	mode_t mode;
	dev_t rdev;
	const char *target;
};

/* mknod, mkdir, symlink. */
static void make_node(fuse_req_t req, uint64_t parent, const char *name, const struct new_node *node)
{
	struct wormfs *fs = wormfs_for(req);
	bool counted = S_ISREG(node->mode) || !(node->mode & S_IFMT);
	struct inode *dir, *ino = NULL;
	struct limit_set set;
	struct stat st;
	int fd, r;

	r = dir_get(fs, parent, &dir, &fd);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	r = counted ? quota_limit_make(fs, dir, name, &set) : 0;
	if (r < 0)
		goto out;
	r = credentials_assume(fs, req);
	if (r < 0)
		goto made;
	if (S_ISDIR(node->mode))
		r = mkdirat(fd, name, node->mode & ~S_IFMT);
	else if (S_ISLNK(node->mode))
		r = symlinkat(node->target, fd, name);
	else
		r = mknodat(fd, name, node->mode, node->rdev);
	r = r < 0 ? -errno : 0;
	credentials_drop(fs);
	if (r == 0) {
		r = inode_lookup(fs, dir, fd, name, &ino, &st);
		if (r < 0)
			quota_limit_doubt(fs);
	}
	if (r == 0 && S_ISREG(ino->type)) {
		pthread_mutex_lock(&ino->lock);
		lock_created_locked(ino);
		trail_created_locked(fs, ino);
		pthread_mutex_unlock(&ino->lock);
	}
made:
	if (counted)
		quota_limit_made(fs, dir, r == 0 ? ino : NULL, &st, &set);
out:
	events_note(fs, .type = S_ISDIR(node->mode) ? EVENT_MKDIR : S_ISLNK(node->mode) ? EVENT_SYMLINK : EVENT_MKNOD, .result = r,
		    .ino = r == 0 ? ino : NULL, .dir = dir, .name = name, .st = r == 0 ? &st : NULL, .text = node->target);
	dir_put(fs, dir, fd);
	if (r == 0)
		reply_entry(req, fs, ino, &st);
	else
		fuse_reply_err(req, -r);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make_node(req, parent, name, &(struct new_node){ .mode = mode, .rdev = rdev });
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make_node(req, parent, name, &(struct new_node){ .mode = (mode & ~S_IFMT) | S_IFDIR });
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make_node(req, parent, name, &(struct new_node){ .mode = S_IFLNK, .target = target });
}

/* A file that was made without a name counts from its first one on; another name of a file stays where the file is counted. */
static int count_link_locked(struct wormfs *fs, struct inode *ino, int fd, struct inode *dir, struct stat *ret_st)
{
	if (fstat(fd, ret_st) < 0)
		return -errno;
	return ret_st->st_nlink == 0 ? quota_limit_named_locked(fs, ino, dir, ret_st) : quota_limit_check_link(fs, ino, dir);
}

static int link_locked(struct wormfs *fs, struct inode *ino, struct inode *dir, int dirfd, const char *name)
{
	struct data_stamp before;
	struct stat st;
	char path[40];
	int fd, r;

	r = lock_check_locked(fs, ino, GUARD_LINK);
	if (r < 0)
		return r;
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = fs->limits ? count_link_locked(fs, ino, fd, dir, &st) : 0;
	if (r < 0) {
		descriptor_put(fs, ino, fd);
		return r;
	}
	lock_metadata_before_locked(fs, ino, &before);
	r = linkat(fd, "", dirfd, name, AT_EMPTY_PATH) < 0 ? -errno : 0;
	if (r == -ENOENT) {	/* without CAP_DAC_READ_SEARCH (linkat(2)) */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		r = linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	}
	lock_metadata_after_locked(fs, ino, &before, false);
	descriptor_put(fs, ino, fd);
	if (r < 0 && fs->limits && st.st_nlink == 0)
		quota_limit_gone_locked(fs, ino, &st);
	return r;
}

void op_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *ino = inode_get(fs, nodeid), *dir, *same;
	struct stat st;
	int fd, r;

	r = ino ? dir_get(fs, parent, &dir, &fd) : -ESTALE;
	if (r < 0) {
		inode_put(fs, ino);
		fuse_reply_err(req, -r);
		return;
	}
	pthread_mutex_lock(&ino->lock);
	r = link_locked(fs, ino, dir, fd, name);
	pthread_mutex_unlock(&ino->lock);
	if (r == 0) {
		inode_linked(fs, ino, dir, name);
		r = inode_lookup(fs, dir, fd, name, &same, &st);
	}
	events_note(fs, .type = EVENT_HARDLINK, .result = r, .ino = ino, .dir = dir, .name = name, .target = ino,
		    .st = r == 0 ? &st : NULL);
	dir_put(fs, dir, fd);
	inode_put(fs, ino);
	if (r == 0)
		reply_entry(req, fs, same, &st);
	else
		fuse_reply_err(req, -r);
}

int keep_handle(struct wormfs *fs, struct inode *ino)
{
	struct file_handle *handle;

	return ino->fd >= 0 ? 0 : inode_handle(fs, ino, &handle);
}

void look_before_unlink_locked(struct wormfs *fs, struct inode *ino, int dirfd, const char *name, struct stat *ret_st)
{
	ret_st->st_nlink = 0;
	if (fs->limits && S_ISREG(ino->type) && fstatat(dirfd, name, ret_st, AT_SYMLINK_NOFOLLOW) < 0)
		ret_st->st_nlink = 0;	/* then its unlink fails as well */
}

static int unlink_locked(struct wormfs *fs, struct inode *ino, int dirfd, const char *name, nlink_t nlink)
{
	struct data_stamp before;
	struct stat last;
	int r;

	r = lock_check_locked(fs, ino, GUARD_UNLINK);
	if (r == 0)
		r = keep_handle(fs, ino);
	for (struct handle *h = ino->handles; h && r == 0 && nlink <= 1; h = h->next)
		r = handle_need_fd_locked(fs, h);
	if (r < 0)
		return r;
	look_before_unlink_locked(fs, ino, dirfd, name, &last);
	lock_metadata_before_locked(fs, ino, &before);
	r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
	lock_metadata_after_locked(fs, ino, &before, false);
	if (r < 0)
		return lock_lower_result_locked(fs, ino, GUARD_UNLINK, r);
	if (last.st_nlink == 1)
		quota_limit_gone_locked(fs, ino, &last);
	if (nlink <= 1)
		lock_removed_locked(fs, ino);
	return 0;
}

/* link(2) to the real name, unlink(2) of the staging name: a rename in two steps, and it locks as one. */
static void lock_what_is_left_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	const struct policy_rule *rule;
	bool sealed = false;

	if (ino->phase != LOCK_NONE || ino->nwriters > 0 || st->st_size == 0)
		return;
	rule = rule_or_mount_locked(fs, ino, st);
	if (rule->set.commit != COMMIT_CLOSE || lock_is_staging(fs, ino, rule)) {
		rule_forget_if_idle_locked(ino);
		return;
	}
	if (lock_seal_locked(fs, ino, &sealed) < 0)
		return;		/* it stays on the list of the sweep */
	if (sealed)
		lock_publish_locked(fs, ino, "its staging name was removed");
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *dir, *ino;
	struct stat st;
	int fd, r;

	r = dir_get(fs, parent, &dir, &fd);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	r = inode_lookup(fs, dir, fd, name, &ino, &st);
	if (r == 0) {
		/* With rules, which names are staging names is the rule's to say: what_is_left asks it. */
		int held = descriptor_hold(fs, ino);
		bool was_staging = st.st_nlink > 1 && S_ISREG(ino->type) && (fs->has_rules || staging_matches(fs->staging, name));

		if (was_staging)
			pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&ino->lock);
		r = unlink_locked(fs, ino, fd, name, st.st_nlink);
		events_note(fs, .type = EVENT_UNLINK, .result = r, .ino = ino, .dir = dir, .name = name, .st = &st, .gone = r == 0);
		if (r == 0 && st.st_nlink > 1) {
			inode_unlinked(fs, ino, dir, name);
			lock_unlinked_locked(fs, ino);
		}
		if (r == 0 && was_staging)
			lock_what_is_left_locked(fs, ino, &st);
		pthread_mutex_unlock(&ino->lock);
		if (was_staging)
			pthread_rwlock_unlock(&fs->rename_lock);
		if (r == 0 && st.st_nlink > 1 && fs->tier)
			fs->tier->unlinked(fs, ino);
		if (r == 0 && st.st_nlink <= 1) {
			inode_gone(fs, ino);
			descriptor_drop(fs, ino);	/* or the space stays taken */
			if (fs->tier)
				fs->tier->gone(fs, ino);
		}
		if (held >= 0)
			close(held);
		inode_put(fs, ino);
	}
	dir_put(fs, dir, fd);
	fuse_reply_err(req, -r);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *dir, *ino = NULL;
	struct stat st;
	int fd, r;

	r = dir_get(fs, parent, &dir, &fd);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	r = inode_lookup(fs, dir, fd, name, &ino, &st);
	if (r == 0 && fs->limits)
		r = quota_limit_check_rmdir(fs, dir, name);
	if (r == 0)
		r = keep_handle(fs, ino);
	if (r == 0)
		r = unlinkat(fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
	events_note(fs, .type = EVENT_RMDIR, .result = r, .ino = ino, .dir = dir, .name = name, .st = ino ? &st : NULL, .gone = r == 0);
	if (r == 0) {
		inode_gone(fs, ino);
		descriptor_drop(fs, ino);
	}
	inode_put(fs, ino);
	dir_put(fs, dir, fd);
	fuse_reply_err(req, -r);
}

void op_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
	struct wormfs *fs = wormfs_of(req);
	struct inode *ino;
	char target[PATH_MAX + 1];
	ssize_t n = 0;
	int fd, r;

	r = dir_get(fs, nodeid, &ino, &fd);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	n = readlinkat(fd, "", target, PATH_MAX);
	r = n < 0 ? -errno : 0;
	dir_put(fs, ino, fd);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}
