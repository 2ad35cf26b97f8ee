/* Requests: lock now, extend, and the end of a lock whose file was deleted. The ledger and the record are two
 * writes; the order in each says what a crash between them leaves: more locked, never less. */
#include "fs/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock_private.h"
#include "fs/quota_limit.h"
#include "fs/refusal.h"
#include "fs/rule.h"
#include "fs/trail.h"

#define RELEASE_WAIT_MS 200

int lock_seal_locked(struct wormfs *fs, struct inode *ino, bool *ret_sealed)
{
	const struct policy_rule *rule;
	struct stat st;
	int fd, r;

	*ret_sealed = false;
	if (!S_ISREG(ino->type))
		return -EINVAL;
	r = lock_check_locked(fs, ino, GUARD_COMMIT);
	if (r == 0 && append_is_locked(ino))
		return append_finalise_locked(fs, ino);
	if (r < 0 || ino->phase != LOCK_NONE)
		return r;
	if (!fs->has_rules && fs->opt.commit == COMMIT_NEVER)
		return -EOPNOTSUPP;
	if (ino->nwriters > 0)
		return -EBUSY;
	r = lock_probe_writers(fs, ino, &st);
	if (r == 0)
		r = rule_of_locked(fs, ino, &st, &rule);
	if (r == 0 && rule->set.commit == COMMIT_NEVER)
		r = -EOPNOTSUPP;
	if (r < 0) {
		rule_forget_if_idle_locked(ino);
		return r;
	}
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = lock_seal_with_locked(fs, ino, rule, fd, &st, 0, NULL);
	descriptor_put(fs, ino, fd);
	if (r < 0) {
		rule_forget_if_idle_locked(ino);
		return r;
	}
	ino->phase = LOCK_COMMITTED;
	lock_forget_mapping_locked(fs, ino);
	*ret_sealed = true;
	return 0;
}

void lock_publish_locked(struct wormfs *fs, struct inode *ino, const char *reason)
{
	struct stat st = { 0 };
	int64_t btime_ns;
	int fd = descriptor_get(fs, ino);

	if (fd >= 0)
		(void)inode_stat(fd, "", &st, &btime_ns);	/* only the owner is taken from it */
	descriptor_put(fs, ino, fd);
	atomic_fetch_add(&fs->n_locked, 1);
	trail_commit_locked(fs, ino, NULL, reason, 0);
	lock_publish_with_locked(fs, ino, &st);
	rule_forget_locked(ino);
}

void lock_unseal_locked(struct wormfs *fs, struct inode *ino)
{
	struct file_key key;
	int fd, r;

	if (fs->lower.xattr) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : lower_removexattr(fd, lower_xattr_record(fs->ns));
		descriptor_put(fs, ino, fd);
	} else {
		r = inode_key(fs, ino, &key);
		if (r == 0)
			r = ledger_remove(fs->ledger, &key);
	}
	if (r < 0) {
		/* Locked under its old name: the safe side. */
		lock_log_failure(fs, ino, "take back the lock of the failed rename of", r);
		lock_publish_locked(fs, ino, "a rename that failed, and could not be taken back");
		return;
	}
	quota_limit_locked(fs, ino, ino->rec->rule, ino->rec->size_bytes, false);
	journal_free(fs->journal, ino->slot);
	ino->slot = JOURNAL_NO_SLOT;
	free(ino->rec);
	ino->rec = NULL;
	ino->phase = LOCK_NONE;
	rule_forget_locked(ino);
}

bool lock_wait_for_release(struct inode *ino, unsigned *waited_ms)
{
	bool leaving = *waited_ms < RELEASE_WAIT_MS;

	pthread_mutex_lock(&ino->lock);
	for (struct handle *h = ino->handles; h && leaving; h = h->next)
		leaving = !h->writer || h->closed;	/* of a reader's close nothing is heard but its release */
	pthread_mutex_unlock(&ino->lock);
	if (leaving)
		usleep(1000);
	++*waited_ms;
	return leaving;
}

int lock_commit(struct wormfs *fs, struct inode *ino, const char *reason)
{
	unsigned waited_ms = 0;
	bool sealed;
	int r;

	do {
		pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&ino->lock);
		r = lock_seal_locked(fs, ino, &sealed);
		if (sealed)
			lock_publish_locked(fs, ino, reason);
		pthread_mutex_unlock(&ino->lock);
		pthread_rwlock_unlock(&fs->rename_lock);
	} while (r == -EBUSY && lock_wait_for_release(ino, &waited_ms));
	return r;
}

int lock_rewrite_record_locked(struct wormfs *fs, struct inode *ino, const struct lock_record *rec)
{
	journal_slot slot = JOURNAL_NO_SLOT;
	struct ledger_row row;
	int64_t btime_ns;
	struct stat st;
	char *path = NULL;
	int fd, r;

	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = inode_stat(fd, "", &st, &btime_ns);
	if (r == 0 && fs->lower.xattr)
		r = lock_write_record(fs, fd, rec);
	descriptor_put(fs, ino, fd);
	if (r < 0)
		return r;
	*ino->rec = *rec;
	r = lock_fill_row(fs, ino, &st, &row, &path);
	if (r == 0) {
		row.hold = NULL;
		/* In the journal until the ledger has it: a kill in between would leave the ledger behind. */
		if (fs->lower.xattr && journal_add(fs->journal, &row.key, path, &slot) == 0)
			journal_mark_locked(fs->journal, slot, rec, NULL);
		r = fs->lower.xattr ? committer_put(fs->committer, &row, slot) : ledger_put(fs->ledger, &row);
	}
	free(path);
	if (r == 0)
		append_wait_for_idle_locked(fs, ino, &st);	/* the row has taken it off the list */
	return r;
}

int lock_extend_locked(struct wormfs *fs, struct inode *ino, int64_t until_s, int64_t *ret_until_s)
{
	char was[RETENTION_TEXT_BYTES], until[RETENTION_TEXT_BYTES];
	int64_t now_s = clock_source_now_s(fs->clock);
	struct policy_settings bounds;
	struct lock_record rec;
	int r;

	r = lock_check_locked(fs, ino, GUARD_EXTEND);
	if (r < 0)
		return r;
	rec = *ino->rec;
	if (until_s != rec.until_s) {
		if (!retention_is_later(rec.until_s, until_s)) {
			refusal_note_locked(fs, ino, GUARD_EXTEND, GUARD_RETAINED, "its retention ends later already", -EPERM);
			return -EPERM;
		}
		rule_bounds(fs, rec.rule, &bounds);
		if (until_s == RETENTION_INFINITE ? bounds.has_max :
		    until_s < retention_until(&bounds.min, now_s) || until_s > retention_until(&bounds.max, now_s)) {
			refusal_note_locked(fs, ino, GUARD_EXTEND, GUARD_RETAINED, "out of min and max of its rule or the mount", -EINVAL);
			return -EINVAL;
		}
		retention_format_until(rec.until_s, was);
		retention_format_until(until_s, until);
		events_saw_until(fs, rec.until_s);
		events_saw_state(fs, events_state_locked(fs, ino));
		rec.until_s = until_s;
		r = lock_rewrite_record_locked(fs, ino, &rec);
		trail_file_locked(fs, ino, AUDIT_EXTEND, r, "until %s, was %s", until, was);
		if (r < 0)
			return r;
	}
	*ret_until_s = rec.until_s;
	return 0;
}

int lock_extend(struct wormfs *fs, struct inode *ino, int64_t until_s, int64_t *ret_until_s)
{
	int r;

	pthread_mutex_lock(&ino->lock);
	r = lock_extend_locked(fs, ino, until_s, ret_until_s);
	pthread_mutex_unlock(&ino->lock);
	return r;
}

void lock_unlinked_locked(struct wormfs *fs, struct inode *ino)
{
	struct lock_record rec;
	int r;

	if (!ino->rec || ino->phase != LOCK_COMMITTED)
		return;
	rec = *ino->rec;
	r = lock_rewrite_record_locked(fs, ino, &rec);
	if (r < 0 && r != -ENOENT)	/* none of the names that are left was met yet */
		lock_log_failure(fs, ino, "tell the ledger the name that is left (wormctl reindex finds it) of", r);
}

void lock_removed_locked(struct wormfs *fs, struct inode *ino)
{
	if (!ino->rec)
		return;
	trail_file_locked(fs, ino, AUDIT_DELETE_EXPIRED, 0, "size %llu", (unsigned long long)ino->rec->size_bytes);
	lock_forget_locked(fs, ino);
}

void lock_forget_locked(struct wormfs *fs, struct inode *ino)
{
	struct file_key key;

	if (!ino->rec || inode_key(fs, ino, &key) < 0)
		return;
	if (committer_remove(fs->committer, &key) < 0)
		lock_log_failure(fs, ino, "take out of the ledger", -ENOMEM);
}
