/* Legal holds on locked files: one, or a batch of them in two transactions.
 *
 * The name goes into the ledger first, durably, then the count into the record; a release does it the other way round. A
 * crash between the two leaves the file held, and a release that is done again does not lower the count again: it is lower
 * than what the ledger has of it (rec_holds) until the name is gone. hold_lock makes one change of holds at a time, so that name and count of
 * a file cannot be torn apart by another one. */
#include "fs/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock_private.h"
#include "fs/trail.h"

/* A row for the holds to hang on: the committer may still have it in its queue. */
static int ensure_row_locked(struct wormfs *fs, struct inode *ino, struct file_key *ret_key, uint32_t *ret_names, uint16_t *ret_rec_holds)
{
	struct lock_row found;
	struct ledger_row row;
	int64_t btime_ns;
	struct stat st;
	char *path = NULL;
	int fd, r;

	r = inode_key(fs, ino, ret_key);
	if (r < 0)
		return r;
	r = ledger_find(fs->ledger, ret_key, lock_take_row, &found);
	if (r == -ENOENT) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
		descriptor_put(fs, ino, fd);
		if (r == 0)
			r = lock_fill_row(fs, ino, &st, &row, &path);
		if (r == 0)
			r = ledger_put(fs->ledger, &row);
		free(path);
		free(ino->seal_holds);		/* the ledger has them now */
		ino->seal_holds = NULL;
		if (r == 0)
			r = ledger_find(fs->ledger, ret_key, lock_take_row, &found);
	}
	if (r == 0) {
		*ret_names = found.holds;
		*ret_rec_holds = found.rec.holds;
	}
	return r;
}

/* The ledger knows what the count was: not where others change it behind its back, or where the ledger has the only one. */
static bool is_count_known(const struct wormfs *fs)
{
	return fs->lower.xattr && !fs->shared;
}

static int check_one(struct wormfs *fs, struct hold_item *item, enum guard_op op)
{
	int r;

	pthread_mutex_lock(&item->ino->lock);
	r = lock_check_locked(fs, item->ino, op);
	if (r == 0)
		r = ensure_row_locked(fs, item->ino, &item->key, &item->names, &item->rec_holds);
	if (r == 0 && op == GUARD_HOLD && (item->names >= UINT16_MAX || item->ino->rec->holds == UINT16_MAX))
		r = -EOVERFLOW;
	if (r == 0) {
		item->size_bytes = item->ino->rec->size_bytes;
		item->state = op == GUARD_HOLD ? events_state_locked(fs, item->ino) : 0;
	}
	pthread_mutex_unlock(&item->ino->lock);
	return r;
}

/* The record alone: what the ledger has of it follows in the batch. */
static int write_count_locked(struct wormfs *fs, struct inode *ino, uint32_t holds)
{
	struct lock_record rec = *ino->rec;
	int fd, r = 0;

	rec.holds = holds > UINT16_MAX ? UINT16_MAX : holds;
	if (rec.holds == ino->rec->holds)
		return 0;
	if (fs->lower.xattr) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : lock_write_record(fs, fd, &rec);
		descriptor_put(fs, ino, fd);
	}
	if (r == 0)
		*ino->rec = rec;
	return r;
}

/* Names in one transaction, then the counts, then what the ledger knows of the counts. */
int lock_hold_batch(struct wormfs *fs, struct hold_item *items, size_t n, const char *case_name, uid_t by, int64_t at_s, bool again)
{
	int r;

	pthread_mutex_lock(&fs->hold_lock);
	for (size_t i = 0; i < n; i++)
		items[i].r = check_one(fs, &items[i], GUARD_HOLD);
	r = ledger_begin(fs->ledger);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (items[i].r < 0)
			continue;
		r = ledger_hold_add(fs->ledger, &items[i].key, case_name, by, at_s);
		items[i].changed = r == 0;
		if (r == -ENOENT || r == -EINVAL)
			items[i].r = r;		/* deleted meanwhile; no name for a hold */
		if (r == -EEXIST || r == -ENOENT || r == -EINVAL)
			r = 0;
	}
	if (r == 0)
		r = ledger_commit(fs->ledger);
	else
		ledger_rollback(fs->ledger);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct inode *ino = items[i].ino;
		uint32_t holds;

		if (items[i].r < 0)
			continue;
		pthread_mutex_lock(&ino->lock);
		/* Names may be missing (lost ledger, another gateway), a count may lag (crash): the larger holds. And one that a
		 * release has lowered whose name is not gone yet is what it was: the release takes it from there again. */
		holds = ino->rec->holds > items[i].names ? ino->rec->holds : items[i].names;
		if (is_count_known(fs) && holds < items[i].rec_holds)
			holds = items[i].rec_holds;
		events_saw_state(fs, items[i].state);
		items[i].r = write_count_locked(fs, ino, holds + (items[i].changed ? 1 : 0));
		items[i].rec_holds = ino->rec->holds;
		if (items[i].changed || items[i].r < 0 || again)
			trail_file_locked(fs, ino, AUDIT_HOLD_ADD, items[i].r, "case %s", case_name);
		pthread_mutex_unlock(&ino->lock);
	}
	if (r == 0)
		r = ledger_begin(fs->ledger);
	else
		goto out;
	for (size_t i = 0; r == 0 && i < n; i++)
		if (items[i].r == 0)
			r = ledger_set_rec_holds(fs->ledger, &items[i].key, items[i].rec_holds);
	if (r == 0)
		r = ledger_commit(fs->ledger);
	else
		ledger_rollback(fs->ledger);
out:
	pthread_mutex_unlock(&fs->hold_lock);
	return r;
}

static int match_hold(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	return strcmp(arg, case_name) == 0;
}

/* 1: the file has it by name; 0: it has not. */
static int has_name(struct wormfs *fs, const struct file_key *key, const char *case_name)
{
	return ledger_holds(fs->ledger, key, match_hold, (void *)case_name);
}

/* 0: the file has the hold, and may lose it. said: the audit log has a line about the whole order, and gets one for this file;
 * else the caller put it there. */
static int say_lowered(struct wormfs *fs, struct hold_item *item, const char *case_name, bool said)
{
	int r;

	r = check_one(fs, item, GUARD_RELEASE);
	if (r == 0)
		r = has_name(fs, &item->key, case_name);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	if (said) {
		pthread_mutex_lock(&item->ino->lock);
		trail_file_locked(fs, item->ino, AUDIT_HOLD_RELEASE, 0, "case %s", case_name);
		pthread_mutex_unlock(&item->ino->lock);
	}
	return 0;
}

static int lower_count(struct wormfs *fs, struct hold_item *item, const char *case_name)
{
	struct inode *ino = item->ino;
	uint32_t holds;
	int r;

	pthread_mutex_lock(&ino->lock);
	holds = ino->rec->holds;
	if (holds > 0 && !(is_count_known(fs) && holds < item->rec_holds))
		holds--;
	r = write_count_locked(fs, ino, holds > item->names - 1 ? holds : item->names - 1);
	item->rec_holds = ino->rec->holds;
	if (r < 0)
		trail_file_locked(fs, ino, AUDIT_HOLD_RELEASE, r, "case %s", case_name);
	pthread_mutex_unlock(&ino->lock);
	return r;
}

/* The ledger knows each count before it is lowered, so that it can be told afterwards that it was. */
static int note_counts(struct wormfs *fs, struct hold_item *items, size_t n)
{
	bool begun = false;
	int r = 0;

	for (size_t i = 0; r == 0 && is_count_known(fs) && i < n; i++) {
		uint16_t holds;

		if (items[i].r < 0 || !items[i].ino)
			continue;
		pthread_mutex_lock(&items[i].ino->lock);
		holds = items[i].ino->rec->holds;
		pthread_mutex_unlock(&items[i].ino->lock);
		if (holds <= items[i].rec_holds)
			continue;
		r = begun ? 0 : ledger_begin(fs->ledger);
		begun |= r == 0;
		if (r == 0)
			r = ledger_set_rec_holds(fs->ledger, &items[i].key, holds);
		items[i].rec_holds = holds;
	}
	if (begun && r == 0)
		r = ledger_commit(fs->ledger);
	else if (begun)
		ledger_rollback(fs->ledger);
	return r;
}

static int release_batch(struct wormfs *fs, struct hold_item *items, size_t n, const char *case_name, bool said)
{
	int r;

	/* The lines first, on stable storage: no crash may leave a file that was released, and that the log knows as held. Then the
	 * count, then the name: while a crash leaves the name, the file is held by it. */
	for (size_t i = 0; i < n; i++)
		items[i].r = items[i].ino ? say_lowered(fs, &items[i], case_name, said) : 0;
	r = said ? trail_flush(fs) : 0;
	if (r == 0)
		r = note_counts(fs, items, n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (items[i].r == 0 && items[i].ino)
			items[i].r = lower_count(fs, &items[i], case_name);
	r = ledger_begin(fs->ledger);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (items[i].r < 0)
			continue;
		r = ledger_hold_release(fs->ledger, &items[i].key, case_name);
		items[i].changed = r == 0;
		if (r == 0 && items[i].ino)
			r = ledger_set_rec_holds(fs->ledger, &items[i].key, items[i].rec_holds);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0)
		r = ledger_commit(fs->ledger);
	else
		ledger_rollback(fs->ledger);
	return r;
}

int lock_release_batch(struct wormfs *fs, struct hold_item *items, size_t n, const char *case_name)
{
	int r;

	pthread_mutex_lock(&fs->hold_lock);
	r = release_batch(fs, items, n, case_name, true);
	pthread_mutex_unlock(&fs->hold_lock);
	return r;
}

int lock_has_hold(struct wormfs *fs, struct inode *ino, const char *case_name)
{
	struct file_key key;
	int r = inode_key(fs, ino, &key);

	return r < 0 ? r : has_name(fs, &key, case_name);
}

int lock_hold(struct wormfs *fs, struct inode *ino, const char *case_name, uid_t by)
{
	struct hold_item item = { .ino = ino };
	int r;

	r = lock_hold_batch(fs, &item, 1, case_name, by, clock_source_now_s(fs->clock), false);
	if (r < 0)
		return r;
	/* Its name is in the ledger and keeps it held, but who asked shall know that the record has it not. */
	if (item.r < 0 && item.changed) {
		struct file_key key = item.key;

		if (ledger_hold_release(fs->ledger, &key, case_name) < 0)
			lock_log_failure(fs, ino, "take back the hold that its record could not take", item.r);
	}
	/* Who is told that it is held shall find the line after a kill, too; where the log cannot be written, it is held all the same. */
	if (item.changed)
		(void)trail_flush(fs);
	return item.r < 0 ? item.r : item.changed ? 0 : -EEXIST;
}

/* The audit line is on disk before anything is released. */
static int say_release(struct wormfs *fs, struct inode *ino, const char *case_name)
{
	int r;

	pthread_mutex_lock(&ino->lock);
	r = lock_check_locked(fs, ino, GUARD_RELEASE);
	if (r == 0)
		r = lock_has_hold(fs, ino, case_name);
	if (r == 1)
		r = trail_before_locked(fs, ino, AUDIT_HOLD_RELEASE, "case %s", case_name);
	else if (r == 0)
		r = -ENOENT;
	pthread_mutex_unlock(&ino->lock);
	return r;
}

int lock_release(struct wormfs *fs, struct inode *ino, const char *case_name)
{
	struct hold_item item = { .ino = ino };
	int r;

	pthread_mutex_lock(&fs->hold_lock);
	r = say_release(fs, ino, case_name);
	if (r == 0)
		r = release_batch(fs, &item, 1, case_name, false);
	pthread_mutex_unlock(&fs->hold_lock);
	return r < 0 ? r : item.r < 0 ? item.r : item.changed ? 0 : -ENOENT;
}
