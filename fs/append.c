/* Always true: bytes below the size that the lower file has while ino->lock is held are never written
 * again through this mount; the flag only ever goes from a record of an empty or unlocked file to it, and
 * away for good (but for an empty file, which has nothing to lose). */
#include "fs/append.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/lock_private.h"
#include "fs/rule.h"
#include "fs/trail.h"

#define LEDGER_WAIT_MS 1000
#define ANY_WRITE (S_IWUSR | S_IWGRP | S_IWOTH)

bool append_is_locked(const struct inode *ino)
{
	return ino->phase == LOCK_COMMITTED && ino->rec->flags & RECORD_APPEND;
}

/* A reader from before would read past the daemon, or from pages that do not grow. */
static bool is_open_elsewhere_locked(const struct inode *ino, pid_t pid)
{
	for (const struct handle *h = ino->handles; h; h = h->next)
		if (h->writer || (!h->direct && !credentials_same_process(h->pid, pid)))
			return true;
	return false;
}

int append_make_locked(struct wormfs *fs, struct inode *ino, int fd, const struct stat *st)
{
	const struct policy_rule *rule;
	int r;

	r = rule_of_locked(fs, ino, st, &rule);
	if (r == 0 && rule->set.commit == COMMIT_NEVER)
		r = -EOPNOTSUPP;
	if (r == 0)
		r = lock_seal_with_locked(fs, ino, rule, fd, st, RECORD_APPEND, NULL);
	if (r < 0) {
		rule_forget_if_idle_locked(ino);
		return r;
	}
	ino->phase = LOCK_COMMITTED;
	ino->idle_due_s = 0;
	lock_forget_mapping_locked(fs, ino);
	lock_publish_locked(fs, ino, "made append-only");
	rule_forget_if_idle_locked(ino);
	return 0;
}

static int make_locked(struct wormfs *fs, struct inode *ino, pid_t pid)
{
	struct stat st;
	int fd, r;

	r = lock_check_locked(fs, ino, GUARD_APPEND_ONLY);
	if (r < 0 || append_is_locked(ino))
		return r;
	if (!fs->has_rules && fs->opt.commit == COMMIT_NEVER)
		return -EOPNOTSUPP;
	if (is_open_elsewhere_locked(ino, pid))
		return -EBUSY;
	r = lock_probe_writers(fs, ino, &st);
	if (r < 0)
		return r;
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = append_make_locked(fs, ino, fd, &st);
	descriptor_put(fs, ino, fd);
	return r;
}

int append_make(struct wormfs *fs, struct inode *ino, pid_t pid)
{
	unsigned waited_ms = 0;
	int r;

	if (!S_ISREG(ino->type))
		return -EINVAL;
	do {
		pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&ino->lock);
		r = make_locked(fs, ino, pid);
		pthread_mutex_unlock(&ino->lock);
		pthread_rwlock_unlock(&fs->rename_lock);
	} while (r == -EBUSY && lock_wait_for_release(ino, &waited_ms));
	return r;
}

static bool is_retained_locked(struct wormfs *fs, struct inode *ino)
{
	enum guard_state state = lock_state_locked(fs, ino);

	return state == GUARD_RETAINED || state == GUARD_SETTLING;
}

bool append_is_asked_by_chmod_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, mode_t mode)
{
	mode_t before = st->st_mode & 07777, after = mode & 07777;

	return S_ISREG(ino->type) && ino->phase == LOCK_COMMITTED && !(ino->rec->flags & RECORD_APPEND) && st->st_size == 0 &&
	       ino->rec->size_bytes == 0 && ino->rec->holds == 0 && !(before & ANY_WRITE) && after & ANY_WRITE &&
	       (before ^ after) == (after & ANY_WRITE) && is_retained_locked(fs, ino);
}

int append_make_of_empty_locked(struct wormfs *fs, struct inode *ino, pid_t pid)
{
	struct lock_record rec = *ino->rec;
	int r;

	if (is_open_elsewhere_locked(ino, pid))
		return -EBUSY;
	/* Its first row may still be in the queue, and would take the flag away again. */
	r = fs->lower.xattr ? 0 : committer_flush(fs->committer, LEDGER_WAIT_MS);
	if (r < 0)
		return r;
	rec.flags = RECORD_APPEND;
	events_saw_state(fs, events_state_locked(fs, ino));
	r = lock_rewrite_record_locked(fs, ino, &rec);
	if (r == 0)
		trail_commit_locked(fs, ino, NULL, "made append-only", 0);
	else
		trail_file_locked(fs, ino, AUDIT_COMMIT, r, "made append-only: it stays locked");
	return r;
}

int append_finalise_locked(struct wormfs *fs, struct inode *ino)
{
	struct lock_record rec = *ino->rec;
	int64_t now_s = clock_source_now_s(fs->clock), until_s, btime_ns;
	struct stat st;
	int fd, r;

	if (ino->nwriters > 0)
		return -EBUSY;
	fd = descriptor_get(fs, ino);
	r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
	descriptor_put(fs, ino, fd);
	if (r < 0)
		return r;
	/* Its retention begins now, and no date that it was given before is lost. */
	until_s = lock_retention_of_rule_locked(fs, ino, now_s);
	if (retention_is_later(rec.until_s, until_s))
		rec.until_s = until_s;
	rec.flags &= ~RECORD_APPEND;
	rec.size_bytes = st.st_size;
	rec.mtime_ns = lock_to_ns(st.st_mtim);
	events_saw_state(fs, events_state_locked(fs, ino));
	r = lock_rewrite_record_locked(fs, ino, &rec);
	if (r < 0) {
		trail_file_locked(fs, ino, AUDIT_COMMIT, r, "made final: it stays append-only");
	} else {
		trail_commit_locked(fs, ino, NULL, "made final", 0);
		ino->idle_due_s = 0;
		ino->lock_at_close = false;
	}
	return r;
}

int append_check_open_locked(const struct inode *ino)
{
	return append_is_locked(ino) && ino->nbacking + ino->ncached > 0 ? -EBUSY : 0;
}

int append_begin(struct wormfs *fs, struct handle *h, enum guard_op op, int flags, int64_t *offset)
{
	struct inode *ino = h->ino;
	struct stat st;
	int r;

	pthread_mutex_lock(&ino->lock);
	r = fstat(h->fd, &st) < 0 ? -errno : 0;
	if (r == 0) {
		/* Another gateway may have added to it since the kernel looked, and O_APPEND means the end that there is. */
		if (op == GUARD_WRITE && fs->shared && flags & O_APPEND)
			*offset = st.st_size;
		if (op == GUARD_WRITE ? *offset == st.st_size : op == GUARD_FALLOCATE && *offset >= st.st_size)
			op = GUARD_APPEND;
		r = lock_check_locked(fs, ino, op);
	}
	if (r < 0)
		pthread_mutex_unlock(&ino->lock);
	else
		h->changed = true;
	return r;
}

void append_wait_for_idle_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	if (!append_is_locked(ino) || ino->nwriters > 0 || st->st_size == 0 || rule_or_mount_locked(fs, ino, st)->set.commit != COMMIT_IDLE)
		return;
	ino->released_s = clock_source_now_s(fs->clock);
	lock_put_pending_locked(fs, ino);
}

void append_released_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct lock_record rec = *ino->rec;
	bool grown = rec.size_bytes != (uint64_t)st->st_size || rec.mtime_ns != lock_to_ns(st->st_mtim);
	int r = 0;

	if (ino->lock_at_close) {
		r = append_finalise_locked(fs, ino);
		if (r < 0)
			lock_log_failure(fs, ino, "make final at its last close (it stays append-only)", r);
		ino->lock_at_close = false;
	} else if (grown) {
		/* So that a cut below the mount shows. The lock does not depend on it. */
		rec.size_bytes = st->st_size;
		rec.mtime_ns = lock_to_ns(st->st_mtim);
		r = lock_rewrite_record_locked(fs, ino, &rec);
		if (r < 0)
			lock_log_failure(fs, ino, "note the new size of an append-only file (what was written is locked) of", r);
	}
	if (!grown)
		append_wait_for_idle_locked(fs, ino, st);
	journal_free(fs->journal, ino->slot);
	ino->slot = JOURNAL_NO_SLOT;
	ino->dirty = ino->seal_failed = ino->mappable = false;
}
