/* The close path: from the first writer of a file to the last. Always true:
 *  - a record is on the file before close(2) answers 0 to the writer that changed it;
 *  - nwriters > 0 has a journal slot, and so has a lock that the ledger does not know yet;
 *  - the directories above a locked file are pinned before its record is written. */
#include "fs/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/atime.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/hold.h"
#include "fs/linger.h"
#include "fs/lock_private.h"
#include "fs/log.h"
#include "fs/pin.h"
#include "fs/push.h"
#include "fs/quota_limit.h"
#include "fs/rule.h"
#include "lockstore/staging.h"
#include "fs/trail.h"

#define SERIALS_RESERVED 65536	/* a durable transaction in so many locks */
#define RACY_NS 20000000	/* two ticks at 100 Hz: a change this soon after may leave the same ctime */

static struct data_stamp stamp_of(const struct stat *st)
{
	return (struct data_stamp){ .size_bytes = st->st_size, .mtime = st->st_mtim, .ctime = st->st_ctim };
}

static bool stamp_equal(const struct data_stamp *a, const struct data_stamp *b)
{
	return a->size_bytes == b->size_bytes && lock_to_ns(a->mtime) == lock_to_ns(b->mtime) && lock_to_ns(a->ctime) == lock_to_ns(b->ctime);
}


static int next_serial(struct wormfs *fs, uint64_t *ret_serial)
{
	int r = 0;

	pthread_mutex_lock(&fs->serial_lock);
	if (fs->serial_next == fs->serial_end) {
		r = ledger_reserve_serials(fs->ledger, SERIALS_RESERVED, &fs->serial_next);
		if (r < 0)
			fs->serial_next = fs->serial_end;
		else
			fs->serial_end = fs->serial_next + SERIALS_RESERVED;
	}
	if (r == 0)
		*ret_serial = fs->serial_next++;
	pthread_mutex_unlock(&fs->serial_lock);
	return r;
}

/* The rule whose number is in the record, if there still is one, with the policy that keeps it; NULL for both: the mount options. */
static const struct policy_rule *rule_of_record_locked(struct wormfs *fs, struct inode *ino, struct policy **ret_policy)
{
	*ret_policy = NULL;
	if (ino->rec->rule == 0)
		return &fs->mount_rule;
	*ret_policy = ino->policy ? policy_get(ino->policy) : rule_policy(fs);
	return *ret_policy ? policy_by_number(*ret_policy, ino->rec->rule) : NULL;
}

/* Name of the rule that locked it, behind the path in the same memory: rules may go, a row waits. */
static int name_rule_locked(struct wormfs *fs, struct inode *ino, char **path, struct ledger_row *row)
{
	struct policy *policy;
	const struct policy_rule *rule = rule_of_record_locked(fs, ino, &policy);
	char *name = rule ? strdup(rule->name) : rule_name(fs, ino->rec->rule), *all;
	size_t path_size = strlen(*path) + 1;

	all = name ? realloc(*path, path_size + strlen(name) + 1) : NULL;
	if (all) {
		strcpy(all + path_size, name);
		*path = all;
		row->rule = all + path_size;
	}
	free(name);
	policy_put(policy);
	return all ? 0 : -ENOMEM;
}

static int holds_again_locked(struct wormfs *fs, struct inode *ino)
{
	struct policy *policy;
	const struct policy_rule *rule = rule_of_record_locked(fs, ino, &policy);
	unsigned count;
	int r;

	r = hold_names_coming(fs, ino, rule ? rule->set.holds : NULL, &ino->seal_holds, &count);
	policy_put(policy);
	if (r == 0 && ino->seal_holds)	/* the line of the lock did not have them, or was lost */
		trail_file_locked(fs, ino, AUDIT_HOLD_ADD, 0, "case %s", ino->seal_holds);
	return r;
}

int64_t lock_retention_of_rule_locked(struct wormfs *fs, struct inode *ino, int64_t now_s)
{
	struct policy *policy;
	const struct policy_rule *rule = rule_of_record_locked(fs, ino, &policy);
	int64_t until_s = policy_until(rule ? &rule->set : &fs->mount_rule.set, now_s);

	policy_put(policy);
	return until_s;
}

static enum ledger_push pushed_locked(struct wormfs *fs, struct inode *ino)
{
	struct policy *policy;
	const struct policy_rule *rule = rule_of_record_locked(fs, ino, &policy);
	enum ledger_push push = push_of(fs, rule ? &rule->set : &fs->mount_rule.set);

	policy_put(policy);
	return push;
}

int lock_fill_row(struct wormfs *fs, struct inode *ino, const struct stat *st, struct ledger_row *ret_row, char **ret_path)
{
	int r;

	memset(ret_row, 0, sizeof(*ret_row));
	r = inode_key(fs, ino, &ret_row->key);
	if (r < 0)
		return r;
	r = inode_path(fs, ino, ret_path);
	/* Found by an NFS handle, never by a name: reindex gives it the right path. */
	if (r == -ENOENT && asprintf(ret_path, "(path unknown, serial %llu)", (unsigned long long)ino->rec->serial) < 0)
		return -ENOMEM;
	if (r < 0 && r != -ENOENT)
		return r;
	ret_row->rule = "";
	r = ino->rec->rule ? name_rule_locked(fs, ino, ret_path, ret_row) : 0;
	if (r < 0)
		return r;
	ret_row->path = *ret_path;
	ret_row->rec = *ino->rec;
	ret_row->uid = st->st_uid;
	ret_row->gid = st->st_gid;
	ret_row->push = fs->push ? pushed_locked(fs, ino) : LEDGER_PUSH_NO;
	/* Names of holds that came with the lock travel with the row; their count is in the record already. After a
	 * crash they are asked for again. */
	if (ino->rec->holds && !ino->seal_holds)
		r = holds_again_locked(fs, ino);
	ret_row->hold = ino->rec->holds ? ino->seal_holds : NULL;
	return r == -ENOENT ? 0 : r;
}

/* Pins, record, journal: after this the file is locked whatever happens to the daemon. `fd` is any
 * descriptor of the file. rename_lock is held. */
int lock_seal_with_locked(struct wormfs *fs, struct inode *ino, const struct policy_rule *rule, int fd, const struct stat *st,
			  uint8_t flags, const char *reason)
{
	int64_t now_s = clock_source_now_s(fs->clock);
	struct lock_record rec = {
		.flags = flags & RECORD_APPEND ? flags : flags | record_settle_flags(rule->set.settle_s),
		.mode = rule->set.mode,
		.rule = rule->number,
		.committed_s = now_s,
		.until_s = policy_until(&rule->set, now_s),
		.size_bytes = st->st_size,
		.mtime_ns = lock_to_ns(st->st_mtim),
	};
	struct ledger_row row;
	struct file_key key;
	char *path = NULL;
	unsigned holds = 0;
	int r;

	r = atime_wished_locked(fs, &rule->set, fd, now_s, &rec.until_s);
	if (r == 0)
		r = pin_parents(fs, ino);
	if (r < 0)
		return r;
	free(ino->seal_holds);
	ino->seal_holds = NULL;
	r = hold_names_coming(fs, ino, rule->set.holds, &ino->seal_holds, &holds);
	if (r < 0)
		return r;
	rec.holds = holds;
	r = next_serial(fs, &rec.serial);
	if (r < 0)
		return r;
	r = inode_path(fs, ino, &path);
	if (r < 0 && r != -ENOENT)
		return r;
	if (ino->slot == JOURNAL_NO_SLOT) {
		r = inode_key(fs, ino, &key);
		if (r == 0)
			r = journal_add(fs->journal, &key, path ? path : "", &ino->slot);
		if (r < 0)
			goto out;
	}
	lock_set_record_locked(ino, &rec);
	if (!ino->rec) {
		r = -ENOMEM;
		goto out;
	}
	if (fs->lower.xattr) {
		r = lock_write_record(fs, fd, &rec);
	} else {
		free(path);
		path = NULL;
		r = lock_fill_row(fs, ino, st, &row, &path);
		if (r == 0)
			r = ledger_put(fs->ledger, &row);
	}
	if (r < 0) {
		free(ino->rec);
		ino->rec = NULL;
		goto out;
	}
	journal_mark_locked(fs->journal, ino->slot, &rec, path);
	atime_wish_done(fs, fd);
	atomic_store(&fs->ledger_rows, true);
	quota_limit_locked(fs, ino, rec.rule, st->st_size, true);
	if (reason)
		trail_commit_locked(fs, ino, path, reason, 0);
out:
	free(path);
	return r;
}

/* Into the ledger, by the committer; it frees the journal slot. */
void lock_publish_with_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct ledger_row row;
	char *path = NULL;
	int r;

	r = lock_fill_row(fs, ino, st, &row, &path);
	if (r == 0)
		r = committer_put(fs->committer, &row, ino->slot);
	if (r < 0)
		lock_log_failure(fs, ino, "write to the ledger (it is locked by its own record; run wormctl reindex)", r);
	else
		ino->slot = JOURNAL_NO_SLOT;
	free(ino->seal_holds);
	ino->seal_holds = NULL;
	free(path);
}

bool lock_is_staging(struct wormfs *fs, struct inode *ino, const struct policy_rule *rule)
{
	bool staging;

	pthread_mutex_lock(&fs->names_lock);
	staging = ino->name && staging_matches(rule->set.staging, ino->name);
	pthread_mutex_unlock(&fs->names_lock);
	return staging;
}

static bool changed_locked(struct handle *h, const struct stat *st)
{
	struct data_stamp stamp = stamp_of(st);

	if (!h->changed && !stamp_equal(&h->stamp, &stamp))
		h->changed = true;
	return h->changed;
}

/* Does closing lock it, now that a writer has changed it? 1, 0, or an error: nobody can say. *ret_rule: when 1. */
static int locks_at_close(struct wormfs *fs, struct inode *ino, const struct stat *st, const struct policy_rule **ret_rule)
{
	int r;

	if (st->st_nlink == 0 || st->st_size == 0)
		return 0;
	r = rule_of_locked(fs, ino, st, ret_rule);
	if (r < 0)
		return r;
	if (ino->lock_at_close)
		return (*ret_rule)->set.commit != COMMIT_NEVER;
	return (*ret_rule)->set.commit == COMMIT_CLOSE && !lock_is_staging(fs, ino, *ret_rule);
}

void lock_created_locked(struct inode *ino)
{
	ino->phase = LOCK_NONE;
	ino->no_capability = true;
}

int lock_writer_open_locked(struct wormfs *fs, struct handle *h, const struct stat *st)
{
	struct inode *ino = h->ino;
	struct file_key key;
	struct timespec now;
	char *path = NULL;
	int r;

	if (st->st_ino != ino->ino)
		return -ESTALE;	/* see open_path() in descriptor.c */
	h->stamp = stamp_of(st);
	if (!fs->lower.fine_times && st->st_size > 0) {
		/* A change in the same tick would leave the same stamp: count it as one. */
		clock_gettime(CLOCK_REALTIME, &now);
		if (lock_to_ns(now) - lock_to_ns(st->st_ctim) < RACY_NS)
			h->changed = true;
	}
	rule_pin_locked(fs, ino);
	if (ino->slot == JOURNAL_NO_SLOT && (fs->has_rules || fs->opt.commit != COMMIT_NEVER)) {
		r = inode_key(fs, ino, &key);
		if (r < 0)
			return r;
		r = inode_path(fs, ino, &path);
		if (r < 0 && r != -ENOENT)
			return r;
		r = journal_add(fs->journal, &key, path ? path : "", &ino->slot);
		free(path);
		if (r < 0)
			return r;
	}
	ino->nwriters++;
	ino->idle_due_s = 0;
	atomic_fetch_add(&fs->n_writers, 1);
	return 0;
}

static int flush_locked(struct wormfs *fs, struct handle *h, bool *ret_sync, bool *ret_locked)
{
	const struct policy_rule *rule;
	struct inode *ino = h->ino;
	struct stat st;
	int r;

	if (ino->phase == LOCK_NONE) {
		if (!fs->has_rules && fs->opt.commit != COMMIT_CLOSE && !ino->lock_at_close)
			return 0;
		if (fstat(h->fd, &st) < 0)
			return -errno;
		if (!changed_locked(h, &st))
			return 0;
		r = locks_at_close(fs, ino, &st, &rule);
		if (r == 0)
			return 0;
		if (r > 0)
			r = lock_seal_with_locked(fs, ino, rule, h->fd, &st, rule->set.append ? RECORD_APPEND : 0, "close");
		if (r < 0) {
			h->seal_failed = true;
			trail_commit_locked(fs, ino, NULL, "close", r);
			lock_log_failure(fs, ino, "lock (its close failed, it is not locked)", r);
			return r;
		}
		ino->phase = LOCK_CLOSING;
		atomic_fetch_add(&fs->n_closing, 1);
		*ret_locked = true;
	} else if (ino->phase != LOCK_CLOSING && !(append_is_locked(ino) && h->changed)) {
		return 0;
	}
	*ret_sync = fs->opt.sync_close;
	for (struct handle *w = ino->handles; w && !*ret_sync; w = w->next)
		*ret_sync = w->synced;
	return 0;
}

int lock_flush(struct wormfs *fs, struct handle *h)
{
	bool sync = false, locked = false;
	int r;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&h->ino->lock);
	h->closed = true;
	r = flush_locked(fs, h, &sync, &locked);
	pthread_mutex_unlock(&h->ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	if (r == 0 && sync && fsync(h->fd) < 0)
		r = -errno;	/* locked, but nobody may call it durable */
	if (r == 0 && locked && fs->push)
		push_wait_at_close(fs, h->ino, h->fd);
	return r;
}

/* 0: nobody can write to the file any more, not through a mapping either. -EBUSY: somebody can.
 * A read lease is granted only when no description of the file is open for writing (fcntl(2)). */
int lock_probe_writers(struct wormfs *fs, struct inode *ino, struct stat *ret_st)
{
	int fd, r = 0;

	fd = descriptor_open(fs, ino, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	/* A reader may keep the kernel's reference of a writer that is gone: then no lease is granted, and no
	 * lease is needed where no writer could map it. */
	if (fs->lower.leases && !(ino->nbacking > 0 && ino->backing_writes && !ino->mappable) && fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		r = -EBUSY;	/* EAGAIN says so; with any other error nobody knows */
	if (r == 0 && fstat(fd, ret_st) < 0)
		r = -errno;
	close(fd);		/* gives the lease back */
	return r;
}

int lock_probe(struct wormfs *fs, struct inode *ino)
{
	struct stat st;

	return lock_probe_writers(fs, ino, &st);
}

/* `last`: how the last writer left it, or NULL: not known, or it may have changed since. */
static int settle_closing_locked(struct wormfs *fs, struct inode *ino, const struct stat *last)
{
	struct stat st;
	int fd, r = 0;

	if (ino->mappable)
		r = lock_probe_writers(fs, ino, &st);
	else if (last)
		st = *last;
	else
		r = inode_stat_now(fs, ino, &st);
	if (r < 0)
		return -EBUSY;
	if (ino->rec->size_bytes != (uint64_t)st.st_size || ino->rec->mtime_ns != lock_to_ns(st.st_mtim)) {
		struct lock_record rec = *ino->rec;

		rec.size_bytes = st.st_size;	/* a duplicate of the descriptor wrote on after the first close */
		rec.mtime_ns = lock_to_ns(st.st_mtim);
		if (fs->lower.xattr) {
			fd = descriptor_get(fs, ino);
			r = fd < 0 ? fd : lock_write_record(fs, fd, &rec);
			descriptor_put(fs, ino, fd);
			if (r < 0) {
				lock_log_failure(fs, ino, "write the final size to the lock record (it is locked), retrying", r);
				return -EBUSY;
			}
		}
		*ino->rec = rec;
	}
	ino->phase = LOCK_COMMITTED;
	ino->mappable = false;
	atomic_fetch_sub(&fs->n_closing, 1);
	atomic_fetch_add(&fs->n_locked, 1);
	lock_publish_with_locked(fs, ino, &st);
	rule_forget_locked(ino);
	return 0;
}

/* The last writer left a changed file that is not locked: remember it for the sweep. */
void lock_put_pending_locked(struct wormfs *fs, struct inode *ino)
{
	int64_t now_s = ino->released_s;
	struct ledger_pending pending = { .since_s = now_s };
	const struct policy_rule *rule = rule_or_mount_locked(fs, ino, NULL);
	char *path = NULL;
	int r;

	if (rule->set.commit == COMMIT_IDLE && !ino->seal_failed && !lock_is_staging(fs, ino, rule)) {
		pending.reason = PENDING_IDLE;
		pending.due_s = now_s + rule->set.idle_s;
		ino->idle_due_s = pending.due_s;
	} else {
		pending.reason = ino->seal_failed ? PENDING_INTERRUPTED : PENDING_STAGING;
		pending.due_s = now_s + fs->opt.staging_idle_s;
	}
	r = inode_key(fs, ino, &pending.key);
	if (r == 0)
		r = inode_path(fs, ino, &path);
	if (r == 0) {
		pending.path = path;
		r = committer_pending_put(fs->committer, &pending, ino->slot);
	}
	if (r < 0)
		journal_free(fs->journal, ino->slot);	/* unlinked meanwhile, most likely: nothing to sweep */
	ino->slot = JOURNAL_NO_SLOT;
	free(path);
}

static void release_locked(struct wormfs *fs, struct handle *h, const struct stat *st)
{
	const struct policy_rule *rule;
	struct inode *ino = h->ino;
	bool changed = changed_locked(h, st);
	int r;

	r = ino->phase == LOCK_NONE && changed && !h->seal_failed ? locks_at_close(fs, ino, st, &rule) : 0;
	if (r != 0) {
		/* No FLUSH came (a descriptor in flight over a socket was dropped): nobody to tell. */
		if (r > 0)
			r = lock_seal_with_locked(fs, ino, rule, h->fd, st, rule->set.append ? RECORD_APPEND : 0, "last close");
		if (r == 0) {
			ino->phase = LOCK_CLOSING;
			atomic_fetch_add(&fs->n_closing, 1);
		} else {
			h->seal_failed = true;
			trail_commit_locked(fs, ino, NULL, "last close", r);
			lock_log_failure(fs, ino, "lock at its last close (it is not locked)", r);
		}
	}
	if (ino->phase == LOCK_NONE && changed && st->st_nlink > 0 && st->st_size > 0) {
		ino->dirty = true;
		ino->seal_failed |= h->seal_failed;
	}
}

/* Nobody can write to it any more, and it is not locked. */
static void leave_unlocked_locked(struct wormfs *fs, struct inode *ino)
{
	enum commit_trigger commit = ino->dirty ? rule_or_mount_locked(fs, ino, NULL)->set.commit : COMMIT_NEVER;

	if (commit == COMMIT_CLOSE || commit == COMMIT_IDLE) {
		lock_put_pending_locked(fs, ino);
	} else {
		journal_free(fs->journal, ino->slot);
		ino->slot = JOURNAL_NO_SLOT;
	}
	rule_forget_locked(ino);
	ino->dirty = ino->seal_failed = ino->lock_at_close = ino->mappable = false;
}

void lock_forget_mapping_locked(struct wormfs *fs, struct inode *ino)
{
	if (!ino->mapped)
		return;
	free(ino->mapped);
	ino->mapped = NULL;
	atomic_fetch_sub(&fs->n_closing, 1);
	ino->dirty = ino->seal_failed = ino->lock_at_close = ino->mappable = false;
}

/* A mapping outlived the last writer of a file that was not locked by its close: has it changed it? */
static int settle_mapped_locked(struct wormfs *fs, struct inode *ino)
{
	const struct policy_rule *rule;
	struct data_stamp now;
	bool sealed = false;
	struct stat st;
	int r;

	r = lock_probe_writers(fs, ino, &st);
	if (r == -EBUSY)
		return r;
	if (r < 0)
		memset(&st, 0, sizeof(st));	/* its last name is gone: nothing to lock */
	now = stamp_of(&st);
	ino->dirty |= !stamp_equal(&now, ino->mapped);
	if (r == -ESTALE || r == -ENOENT || (r == 0 && st.st_nlink == 0))
		ino->dirty = false;	/* deleted: nothing waits to be locked */
	free(ino->mapped);
	ino->mapped = NULL;
	atomic_fetch_sub(&fs->n_closing, 1);
	r = ino->dirty && !ino->seal_failed ? locks_at_close(fs, ino, &st, &rule) : 0;
	if (r != 0) {
		if (r > 0)
			r = lock_seal_locked(fs, ino, &sealed);
		if (sealed)
			lock_publish_locked(fs, ino, "its last mapping went");
		else if (r < 0)
			lock_log_failure(fs, ino, "lock after its last mapping went (it is not locked)", r);
	}
	if (!sealed)
		leave_unlocked_locked(fs, ino);
	ino->dirty = ino->seal_failed = ino->lock_at_close = ino->mappable = false;
	return 0;
}

int lock_settle_locked(struct wormfs *fs, struct inode *ino)
{
	return ino->phase == LOCK_CLOSING ? settle_closing_locked(fs, ino, NULL) : settle_mapped_locked(fs, ino);
}

void lock_linger_locked(struct wormfs *fs, struct inode *ino)
{
	if (ino->lingering)
		return;
	ino->lingering = true;
	linger_add_locked(fs, ino);
}

/* `st`: how the last writer left the file; NULL: nobody could look. */
static void release_last_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct stat now;

	ino->released_s = clock_source_now_s(fs->clock);
	if (ino->phase == LOCK_CLOSING) {
		if (settle_closing_locked(fs, ino, st) < 0)
			lock_linger_locked(fs, ino);
		ino->dirty = ino->seal_failed = ino->lock_at_close = false;
		return;
	}
	if (append_is_locked(ino)) {
		if (st)		/* else it is looked at when it is opened next */
			append_released_locked(fs, ino, st);
		return;
	}
	if (ino->mappable && (fs->has_rules || fs->opt.commit != COMMIT_NEVER) && lock_probe_writers(fs, ino, &now) == -EBUSY) {
		if (!ino->mapped) {
			ino->mapped = malloc(sizeof(*ino->mapped));
			atomic_fetch_add(&fs->n_closing, ino->mapped ? 1 : 0);
		}
		if (ino->mapped) {
			*ino->mapped = st ? stamp_of(st) : (struct data_stamp){ 0 };
			lock_linger_locked(fs, ino);
			return;
		}
	}
	leave_unlocked_locked(fs, ino);
}

void lock_writer_release(struct wormfs *fs, struct handle *h)
{
	struct inode *ino = h->ino;
	struct handle **p;
	struct stat st;
	bool seen;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&ino->lock);
	seen = fstat(h->fd, &st) == 0;
	if (seen)
		release_locked(fs, h, &st);
	else
		log_warning("cannot look at a file at its last close: %s, it is looked at again later", strerror(errno));
	for (p = &ino->handles; *p != h; p = &(*p)->next)
		;
	*p = h->next;
	close(h->fd);
	ino->nwriters--;
	atomic_fetch_sub(&fs->n_writers, 1);
	events_note(fs, .type = ino->nwriters == 0 ? EVENT_LAST_WRITER_CLOSED : EVENT_CLOSE_WRITE, .ino = ino, .st = seen ? &st : NULL,
		    .handle = h);
	if (ino->nwriters == 0)
		release_last_locked(fs, ino, seen ? &st : NULL);
	pthread_mutex_unlock(&ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
}

void lock_give_up_settling_locked(struct wormfs *fs, struct inode *ino)
{
	if ((ino->phase != LOCK_CLOSING && !ino->mapped) || lock_settle_locked(fs, ino) == 0 || !ino->mapped)
		return;		/* CLOSING: its slot in the journal says so at the next start */
	free(ino->mapped);
	ino->mapped = NULL;
	atomic_fetch_sub(&fs->n_closing, 1);
	leave_unlocked_locked(fs, ino);
}

void lock_metadata_before_locked(struct wormfs *fs, struct inode *ino, struct data_stamp *ret_before)
{
	struct handle *h;
	struct stat st;

	if (ino->nwriters == 0)
		return;
	for (h = ino->handles; h && !h->writer; h = h->next)
		;
	if (!h || fstat(h->fd, &st) < 0)
		return;
	*ret_before = stamp_of(&st);
	for (h = ino->handles; h; h = h->next)
		if (h->writer)
			changed_locked(h, &st);
}

void lock_metadata_after_locked(struct wormfs *fs, struct inode *ino, const struct data_stamp *before, bool times)
{
	struct data_stamp after;
	struct handle *h;
	struct stat st;
	bool written;

	if (ino->nwriters == 0)
		return;
	for (h = ino->handles; h && !h->writer; h = h->next)
		;
	if (!h || fstat(h->fd, &st) < 0)
		return;
	after = stamp_of(&st);
	/* A write between the two stamps shows by size or mtime. One that raced utimensat(2) and kept the
	 * size cannot be told; it is then seen at the next change, or at the next close after one. */
	written = before->size_bytes != after.size_bytes || (!times && lock_to_ns(before->mtime) != lock_to_ns(after.mtime));
	for (h = ino->handles; h; h = h->next) {
		if (!h->writer)
			continue;
		h->changed |= written;
		h->stamp = after;
	}
}
