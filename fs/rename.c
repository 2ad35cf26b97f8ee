/* rename(2), with its flags: two names, and what moving one locks, counts and may not leave. As for the other names (namespace.c), checks
 * and the system call are made under the locks of the inodes. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/hold.h"
#include "fs/lock.h"
#include "fs/namespace_private.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/refusal.h"
#include "fs/rule.h"
#include "fs/tier.h"
#include "lockstore/staging.h"

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
static bool leaves_staging_locked(struct wormfs *fs, const struct rename *rn)
{
	const struct policy_rule *rule;
	bool was_staging;

	if (rn->flags & RENAME_EXCHANGE || !S_ISREG(rn->from->type))
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

/* With a writer the lock comes with its close. */
static bool locks_by_rename(struct wormfs *fs, const struct rename *rn)
{
	return rn->from->nwriters == 0 && leaves_staging_locked(fs, rn);
}

/* Whose close has returned is no writer any more, but its release may still be on the way: left to that, the lock would come after the
 * rename has returned, and a kill or somebody quick before it. */
static void wait_for_release(struct wormfs *fs, struct rename *rn)
{
	unsigned waited_ms = 0;
	bool waits;

	if (!S_ISREG(rn->from->type))
		return;
	do {
		pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&rn->from->lock);
		waits = rn->from->nwriters > 0 && leaves_staging_locked(fs, rn);
		pthread_mutex_unlock(&rn->from->lock);
		pthread_rwlock_unlock(&fs->rename_lock);
	} while (waits && lock_wait_for_release(rn->from, &waited_ms));
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
	wait_for_release(fs, rn);
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
