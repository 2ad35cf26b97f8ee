/* Names: look-up, making, removing, renaming. The kernel holds the directories' locks while one of
 * these runs, so the names in them stand still; what may still change is the lock state of a file,
 * which is why a check and the system call it allows are made under the inode's lock. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/atime.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/hold.h"
#include "fs/lock.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/refusal.h"
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

/* A directory and its descriptor. */
static int dir_get(struct wormfs *fs, uint64_t nodeid, struct inode **ret_dir, int *ret_fd)
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

static void dir_put(struct wormfs *fs, struct inode *dir, int fd)
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

/* A name of it goes or moves: see inode_handle.c. */
static int keep_handle(struct wormfs *fs, struct inode *ino)
{
	struct file_handle *handle;

	return ino->fd >= 0 ? 0 : inode_handle(fs, ino, &handle);
}

/* As it is before its name goes, for the limits that it counts for. nlink 0: nothing to give back. */
static void look_before_unlink_locked(struct wormfs *fs, struct inode *ino, int dirfd, const char *name, struct stat *ret_st)
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

/* ---- rename ---- */

struct rename {
	struct inode *from_dir, *to_dir, *from, *to;	/* to: NULL when nothing is there */
	int from_fd, to_fd;
	const char *name, *new_name;
	unsigned flags;
	nlink_t to_nlink;
	bool locks;		/* locks_by_rename() */
	struct stat st;		/* of `from`, before */
};

static void lock_two(struct inode *a, struct inode *b)
{
	struct inode *first = a < b ? a : b, *second = a < b ? b : a;

	if (first && first != second)
		pthread_mutex_lock(&first->lock);
	pthread_mutex_lock(&second->lock);
}

static void unlock_two(struct inode *a, struct inode *b)
{
	pthread_mutex_unlock(&a->lock);
	if (b && b != a)
		pthread_mutex_unlock(&b->lock);
}

/* What an order for what comes is waiting for does not move out of it. */
static int check_orders_locked(struct wormfs *fs, struct inode *ino, struct inode *from_dir, const char *name, struct inode *to_dir)
{
	int r;

	if (!atomic_load(&fs->orders_coming) || (!S_ISDIR(ino->type) && lock_state_locked(fs, ino) != GUARD_HELD))
		return 0;
	r = hold_check_move(fs, from_dir, name, S_ISDIR(ino->type), to_dir);
	if (r < 0)
		refusal_note_locked(fs, ino, S_ISDIR(ino->type) ? GUARD_RENAME_DIR : GUARD_RENAME, GUARD_HELD, NULL, r);
	return r;
}

static int check_rename_locked(struct wormfs *fs, const struct rename *rn)
{
	bool exchange = rn->flags & RENAME_EXCHANGE;
	int r;

	if (S_ISDIR(rn->from->type))
		r = lock_check_rename_dir(fs, rn->from);
	else
		r = lock_check_locked(fs, rn->from, exchange ? GUARD_REPLACE : GUARD_RENAME);
	if (r == 0)
		r = check_orders_locked(fs, rn->from, rn->from_dir, rn->name, rn->to_dir);
	if (r == 0 && exchange && rn->to)
		r = check_orders_locked(fs, rn->to, rn->to_dir, rn->new_name, rn->from_dir);
	if (r < 0 || !rn->to || rn->to == rn->from)
		return r;
	if (rn->flags & RENAME_NOREPLACE)
		return 0;	/* the lower filesystem says EEXIST */
	if (!S_ISDIR(rn->to->type))
		return lock_check_locked(fs, rn->to, GUARD_REPLACE);
	return exchange ? lock_check_rename_dir(fs, rn->to) : 0;	/* else only an empty one can be replaced */
}

static void moved(struct wormfs *fs, const struct rename *rn, bool back)
{
	if (back)
		inode_moved(fs, rn->from, rn->to_dir, rn->new_name, rn->from_dir, rn->name);
	else
		inode_moved(fs, rn->from, rn->from_dir, rn->name, rn->to_dir, rn->new_name);
}

/* Leaving a staging name for another one is what locks a file that was written under it: by the rule of the new
 * place, which it is asked for as if it were there. Without rules: no look at the file. */
static bool locks_by_rename(struct wormfs *fs, const struct rename *rn)
{
	const struct policy_rule *rule;
	bool was_staging;

	if (rn->flags & RENAME_EXCHANGE || !S_ISREG(rn->from->type) || rn->from->nwriters > 0)
		return false;
	if (!fs->has_rules)
		return fs->opt.commit == COMMIT_CLOSE && staging_matches(fs->staging, rn->name) && !staging_matches(fs->staging, rn->new_name);
	rule = rule_or_mount_locked(fs, rn->from, NULL);
	was_staging = staging_matches(rule->set.staging, rn->name);
	if (was_staging) {
		moved(fs, rn, false);
		rule = rule_or_mount_locked(fs, rn->from, NULL);
		moved(fs, rn, true);
	}
	was_staging = was_staging && rule->set.commit == COMMIT_CLOSE && !staging_matches(rule->set.staging, rn->new_name);
	rule_forget_if_idle_locked(rn->from);
	return was_staging;
}

static void tell_of_rename(struct wormfs *fs, const struct rename *rn, int r)
{
	events_note(fs, .type = EVENT_RENAME, .result = r, .flags = rn->flags & RENAME_EXCHANGE ? EVENT_EXCHANGE : 0, .ino = rn->from,
		    .dir = rn->from_dir, .name = rn->name, .to_dir = rn->to_dir, .to_name = rn->new_name, .st = rn->from ? &rn->st : NULL);
}

static int rename_locked(struct wormfs *fs, struct rename *rn)
{
	struct data_stamp from_before, to_before;
	struct adjustment adjustment = { 0 };
	bool sealed = false, named = false;
	struct stat st, last = { 0 };
	int64_t btime_ns;
	int r;

	r = check_rename_locked(fs, rn);
	if (r < 0)
		return r;
	if (rn->from->phase == LOCK_COMMITTED) {
		/* It settles: the directories above its new place are pinned before it is there. */
		moved(fs, rn, false);
		named = true;
		r = lock_adjust_begin_locked(fs, rn->from, true, &adjustment);
		if (r < 0) {
			moved(fs, rn, true);
			return r;
		}
	} else if (rn->locks && inode_stat(rn->from_fd, rn->name, &st, &btime_ns) == 0 && st.st_size > 0) {
		/* The record first: a crash in between leaves it locked under the staging name, not
		 * unlocked under the real one. Its path and pins are those of the new place. */
		moved(fs, rn, false);
		named = true;
		r = lock_seal_locked(fs, rn->from, &sealed);
		if (r < 0 && !(r == -EBUSY && rn->from->mapped)) {	/* else it is locked when the mapping goes */
			moved(fs, rn, true);
			return r;
		}
	}
	/* Names change the ctime, and that is no change of the data for who has it open for writing. */
	lock_metadata_before_locked(fs, rn->from, &from_before);
	if (rn->to && rn->to != rn->from)
		lock_metadata_before_locked(fs, rn->to, &to_before);
	if (rn->to && rn->to != rn->from && !(rn->flags & RENAME_EXCHANGE))
		look_before_unlink_locked(fs, rn->to, rn->to_fd, rn->new_name, &last);
	r = renameat2(rn->from_fd, rn->name, rn->to_fd, rn->new_name, rn->flags) < 0 ? -errno : 0;
	lock_metadata_after_locked(fs, rn->from, &from_before, false);
	if (rn->to && rn->to != rn->from)
		lock_metadata_after_locked(fs, rn->to, &to_before, false);
	if (r < 0) {
		if (named)
			moved(fs, rn, true);
		if (sealed)
			lock_unseal_locked(fs, rn->from);
		return lock_adjust_end_locked(fs, rn->from, &adjustment, r, NULL);
	}
	if (last.st_nlink == 1)
		quota_limit_gone_locked(fs, rn->to, &last);
	tell_of_rename(fs, rn, 0);	/* before what follows from it */
	(void)lock_adjust_end_locked(fs, rn->from, &adjustment, 0, "renamed");	/* it is, and the log has what could not be noted */
	if (sealed)
		lock_publish_locked(fs, rn->from, "renamed from a staging name");
	else if (!named)
		moved(fs, rn, false);
	if (rn->flags & RENAME_EXCHANGE)
		inode_moved(fs, rn->to, rn->to_dir, rn->new_name, rn->from_dir, rn->name);
	return 0;
}

/* Most renames replace nothing, and the lower filesystem knows: no look at the new name. -EEXIST: look at it. */
static int rename_to_free_name(struct wormfs *fs, struct rename *rn)
{
	int r = -EEXIST;

	if (rn->flags || S_ISDIR(rn->from->type) || atomic_load_explicit(&fs->no_noreplace, memory_order_relaxed))
		return r;
	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&rn->from->lock);
	lock_load_locked(fs, rn->from);
	rn->locks = locks_by_rename(fs, rn);
	if (!rn->locks && rn->from->phase == LOCK_NONE) {		/* else there is a record to take back when the name is taken, or a release to wait for */
		rn->flags = RENAME_NOREPLACE;
		r = rename_locked(fs, rn);
		rn->flags = 0;
	}
	pthread_mutex_unlock(&rn->from->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	if (r == -EINVAL) {			/* NFS, for one: renameat2(2) */
		atomic_store_explicit(&fs->no_noreplace, true, memory_order_relaxed);
		r = -EEXIST;
	}
	return r;
}

static int rename_both(struct wormfs *fs, struct rename *rn)
{
	struct stat st;
	int held, r;

	r = inode_lookup(fs, rn->from_dir, rn->from_fd, rn->name, &rn->from, &rn->st);
	if (r == 0 && fs->limits)
		r = quota_limit_check_rename(fs, rn->from, rn->from_dir, rn->name, rn->to_dir, rn->new_name, rn->flags & RENAME_EXCHANGE);
	if (r == 0)
		r = keep_handle(fs, rn->from);
	if (r < 0)
		return r;
	r = rename_to_free_name(fs, rn);
	if (r == 0 && fs->tier)
		fs->tier->renamed(fs, rn->from_dir, rn->name, rn->to_dir, rn->new_name, false);
	if (r != -EEXIST)
		return r;
	r = inode_lookup(fs, rn->to_dir, rn->to_fd, rn->new_name, &rn->to, &st);
	if (r < 0 && r != -ENOENT)
		return r;
	rn->to_nlink = rn->to ? st.st_nlink : 0;
	r = rn->to ? keep_handle(fs, rn->to) : 0;
	if (r < 0)
		return r;
	held = rn->to ? descriptor_hold(fs, rn->to) : -1;

	if (S_ISREG(rn->from->type))
		lock_wait_to_settle(fs, rn->from);
	/* Directories above a lock stand still while it is made: see rename_lock. */
	if (S_ISDIR(rn->from->type) || (rn->to && S_ISDIR(rn->to->type)))
		pthread_rwlock_wrlock(&fs->rename_lock);
	else
		pthread_rwlock_rdlock(&fs->rename_lock);
	lock_two(rn->from, rn->to);
	rn->locks = locks_by_rename(fs, rn);
	r = rename_locked(fs, rn);
	unlock_two(rn->from, rn->to);
	pthread_rwlock_unlock(&fs->rename_lock);
	if (r == 0 && rn->to && rn->to != rn->from && !(rn->flags & RENAME_EXCHANGE) &&
	    (rn->to_nlink <= 1 || S_ISDIR(rn->to->type))) {
		inode_gone(fs, rn->to);
		descriptor_drop(fs, rn->to);
		if (fs->tier)
			fs->tier->gone(fs, rn->to);
	} else if (r == 0 && rn->to && rn->to != rn->from && !(rn->flags & RENAME_EXCHANGE)) {
		inode_unlinked(fs, rn->to, rn->to_dir, rn->new_name);	/* it has other names, and is known by them */
		if (fs->tier)
			fs->tier->unlinked(fs, rn->to);
	}
	if (held >= 0)
		close(held);
	if (r == 0 && fs->tier)
		fs->tier->renamed(fs, rn->from_dir, rn->name, rn->to_dir, rn->new_name, rn->flags & RENAME_EXCHANGE);
	return r;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
	       unsigned int flags)
{
	struct wormfs *fs = wormfs_for(req);
	struct rename rn = { .name = name, .new_name = new_name, .flags = flags };
	int r;

	r = dir_get(fs, parent, &rn.from_dir, &rn.from_fd);
	if (r == 0)
		r = dir_get(fs, new_parent, &rn.to_dir, &rn.to_fd);
	if (r == 0)
		r = rename_both(fs, &rn);
	if (r < 0)
		tell_of_rename(fs, &rn, r);
	inode_put(fs, rn.from);
	inode_put(fs, rn.to);
	if (rn.to_dir)
		dir_put(fs, rn.to_dir, rn.to_fd);
	if (rn.from_dir)
		dir_put(fs, rn.from_dir, rn.from_fd);
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
