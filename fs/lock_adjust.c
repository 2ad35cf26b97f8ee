/* A file that settles: its data is locked, and for the settle time of its rule (RECORD_SETTLE in its record) the program
 * that copied it may still set its times, mode, owner, attributes and name, as unzip, smbd and rsync do after their
 * last close. Always true: what the record says of the file is brought up to date in the same request, and the file has
 * a journal slot meanwhile, so that a kill in between leaves one that is looked at, not one that seems changed. */
#include "fs/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/hold.h"
#include "fs/lock_private.h"
#include "fs/pin.h"
#include "fs/trail.h"

bool lock_settles_locked(struct wormfs *fs, struct inode *ino, int64_t now_s)
{
	/* A hold wants it as it is, also one that an order has not given it yet. */
	return now_s < record_settles_until(ino->rec) && ino->rec->holds == 0 && hold_covers_locked(fs, ino) == 0;
}

void lock_wait_to_settle(struct wormfs *fs, struct inode *ino)
{
	unsigned waited_ms = 0;
	bool closing;

	do {
		pthread_mutex_lock(&ino->lock);
		closing = ino->phase == LOCK_CLOSING && clock_source_now_s(fs->clock) < record_settles_until(ino->rec);
		pthread_mutex_unlock(&ino->lock);
	} while (closing && lock_wait_for_release(ino, &waited_ms));
}

int lock_adjust_begin_locked(struct wormfs *fs, struct inode *ino, bool moves, struct adjustment *ret_adjustment)
{
	struct adjustment adjustment = { .settles = true };
	struct file_key key;
	char *path = NULL;
	int r = 0;

	*ret_adjustment = (struct adjustment){ 0 };
	if (!S_ISREG(ino->type) || ino->phase != LOCK_COMMITTED || ino->rec->flags & RECORD_APPEND)
		return 0;
	if (lock_state_locked(fs, ino) != GUARD_SETTLING)
		return -EPERM;	/* the guard was asked a moment ago, and its time has just ended */
	if (moves)
		r = pin_parents(fs, ino);
	if (r == 0)
		r = inode_key(fs, ino, &key);
	if (r == 0) {
		r = inode_path(fs, ino, &path);
		if (r == -ENOENT)	/* found by an NFS handle, never by a name */
			r = 0;
	}
	if (r == 0)
		r = journal_add(fs->journal, &key, path ? path : "", &adjustment.slot);
	if (r == 0)
		*ret_adjustment = adjustment;
	free(path);
	return r;
}

int lock_adjust_end_locked(struct wormfs *fs, struct inode *ino, struct adjustment *adjustment, int result, const char *what)
{
	struct lock_record rec;
	struct stat st;
	int r = 0;

	if (!adjustment->settles)
		return result;
	if (result == 0) {
		rec = *ino->rec;
		r = inode_stat_now(fs, ino, &st);
		if (r == 0) {
			rec.mtime_ns = lock_to_ns(st.st_mtim);
			r = lock_rewrite_record_locked(fs, ino, &rec);
		}
		trail_file_locked(fs, ino, AUDIT_ADJUST, r, "%s", what);
		if (r < 0)
			lock_log_failure(fs, ino, "bring the lock record up to date (it is locked, and looked at when the share is mounted next) of", r);
	}
	if (r == 0)
		journal_free(fs->journal, adjustment->slot);
	return result < 0 ? result : r;
}
