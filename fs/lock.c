/* What is known of a lock, and what may be done: from the record on the file and the ledger's row to
 * the guard's verdict. Display, refusal and storage all start from lock_state_locked(). Always true:
 *  - phase CLOSING or COMMITTED has rec, and never goes back (but for lock_unseal_locked(), before
 *    anybody could see it);
 *  - what cannot be found out is LOCK_UNREADABLE, is asked again each time, and is refused. */
#include "fs/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/hold.h"
#include "fs/lock_private.h"
#include "fs/log.h"
#include "fs/pin.h"
#include "fs/refusal.h"
#include "fs/trail.h"

#define LEDGER_WAIT_MS 1000

/* For the log: the caller frees it. */
char *lock_path_for_log(struct wormfs *fs, struct inode *ino)
{
	char *path;

	if (inode_path(fs, ino, &path) == 0)
		return path;
	return strdup("(a file without a known name)");
}

void lock_log_failure(struct wormfs *fs, struct inode *ino, const char *what, int r)
{
	char *path = lock_path_for_log(fs, ino);

	log_error("cannot %s '%s': %s", what, path ? path : "?", strerror(-r));
	free(path);
}

void lock_set_record_locked(struct inode *ino, const struct lock_record *rec)
{
	if (!ino->rec)
		ino->rec = malloc(sizeof(*ino->rec));
	if (ino->rec)
		*ino->rec = *rec;
}

static void note_unreadable_locked(struct wormfs *fs, struct inode *ino, const char *why)
{
	char *path;

	if (ino->phase == LOCK_UNREADABLE)
		return;		/* said once */
	ino->phase = LOCK_UNREADABLE;
	atomic_fetch_add(&fs->n_bad_records, 1);
	path = lock_path_for_log(fs, ino);
	log_warning("the lock record of '%s' cannot be trusted (%s), every change of it is refused with EIO; "
		    "compare the key of the share, then run wormctl status on it", path ? path : "?", why);
	free(path);
	trail_file_locked(fs, ino, AUDIT_TAMPER, -EIO, "lock record cannot be trusted: %s", why);
}

void lock_check_suspect_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	char *path;

	if (ino->suspect || ino->phase != LOCK_COMMITTED)
		return;
	if (ino->rec->flags & RECORD_APPEND ? (uint64_t)st->st_size >= ino->rec->size_bytes :	/* it may have grown */
	    ino->rec->size_bytes == (uint64_t)st->st_size && ino->rec->mtime_ns == lock_to_ns(st->st_mtim))
		return;
	ino->suspect = true;
	atomic_fetch_add(&fs->n_suspect, 1);
	path = lock_path_for_log(fs, ino);
	log_warning("'%s' was changed below the mount after it was locked (size or time differs from its record), "
		    "it stays locked and readable", path ? path : "?");
	free(path);
	trail_file_locked(fs, ino, AUDIT_TAMPER, -EBADMSG, "changed below the mount: size %lld, was %llu; mtime %lld ns, was %lld ns",
			  (long long)st->st_size, (unsigned long long)ino->rec->size_bytes, (long long)lock_to_ns(st->st_mtim),
			  (long long)ino->rec->mtime_ns);
}

int lock_take_row(void *arg, const struct ledger_row *row)
{
	struct lock_row *found = arg;

	found->rec = row->rec;
	found->holds = row->holds;
	return 0;
}

int lock_find_row(struct wormfs *fs, struct inode *ino, struct lock_row *ret)
{
	struct file_key key;
	int r;

	r = inode_key(fs, ino, &key);
	if (r < 0)
		return r;
	r = ledger_find(fs->ledger, &key, lock_take_row, ret);
	if (r < 0 && r != -ENOENT && !atomic_exchange(&fs->ledger_failed, true))
		log_error("cannot read the ledger: %s; files without a record of their own are refused with EIO",
			  ledger_error(fs->ledger));
	else if (r == 0 || r == -ENOENT)
		atomic_store(&fs->ledger_failed, false);
	return r;
}

int lock_write_record(struct wormfs *fs, int fd, const struct lock_record *rec)
{
	uint8_t bytes[RECORD_BYTES];
	int r;

	r = record_encode(fs->key, rec, bytes);
	if (r < 0)
		return r;
	return lower_setxattr(fd, lower_xattr_record(fs->ns), bytes, sizeof(bytes), 0);
}

/* No record on the file: does the ledger know one? A file is locked if either says so. */
static void load_from_ledger_locked(struct wormfs *fs, struct inode *ino, int fd)
{
	struct lock_row row;
	char *path;
	int r;

	r = lock_find_row(fs, ino, &row);
	if (r == -ENOENT) {
		ino->phase = LOCK_NONE;
		return;
	}
	if (r < 0) {
		note_unreadable_locked(fs, ino, "the ledger cannot be read");
		return;
	}
	lock_set_record_locked(ino, &row.rec);
	if (!ino->rec) {
		ino->phase = LOCK_UNREADABLE;
		return;
	}
	ino->rec->holds = row.holds;
	ino->phase = LOCK_COMMITTED;
	if (!fs->lower.xattr)
		return;
	r = lock_write_record(fs, fd, ino->rec);
	ino->suspect = true;
	atomic_fetch_add(&fs->n_suspect, 1);
	path = lock_path_for_log(fs, ino);
	log_warning("the lock record of '%s' was removed below the mount, the ledger has it%s", path ? path : "?",
		    r == 0 ? ", it is written again" : ", it cannot be written again");
	free(path);
	trail_file_locked(fs, ino, AUDIT_TAMPER, -ENODATA, "lock record removed below the mount%s", r == 0 ? ", written again" : "");
}

void lock_load_from_locked(struct wormfs *fs, struct inode *ino, int file_fd, const struct stat *file_st)
{
	bool known_none = ino->phase == LOCK_NONE;
	uint8_t bytes[RECORD_BYTES];
	struct lock_record rec;
	struct stat st;
	int64_t btime_ns;
	ssize_t n;
	int fd;

	if (!S_ISREG(ino->type)) {
		ino->phase = LOCK_NONE;
		return;
	}
	/* Another gateway may have locked, extended or held it since. Not while we are locking it. */
	if (ino->phase == LOCK_CLOSING ||
	    (!fs->shared && (ino->phase == LOCK_NONE || ino->phase == LOCK_COMMITTED)))
		return;

	fd = file_fd >= 0 ? file_fd : descriptor_get(fs, ino);
	if (fd < 0) {
		note_unreadable_locked(fs, ino, strerror(-fd));
		return;
	}
	n = fs->lower.xattr ? lower_getxattr(fd, lower_xattr_record(fs->ns), bytes, sizeof(bytes)) : -ENODATA;
	if (n == -ENODATA) {
		if (known_none)
			;
		else if (atomic_load(&fs->ledger_rows))
			load_from_ledger_locked(fs, ino, fd);
		else
			ino->phase = LOCK_NONE;
	} else if (n < 0) {
		note_unreadable_locked(fs, ino, n == -ERANGE ? "its length is wrong" : strerror(-n));
	} else {
		int r = record_decode(fs->key, bytes, n, &rec);

		if (r < 0) {
			note_unreadable_locked(fs, ino, r == -EPROTO ? "it is of a newer version" :
					       "it does not verify with this key");
		} else {
			lock_set_record_locked(ino, &rec);
			ino->phase = ino->rec ? LOCK_COMMITTED : LOCK_UNREADABLE;
			if (ino->rec && (file_st || inode_stat(fd, "", &st, &btime_ns) == 0))
				lock_check_suspect_locked(fs, ino, file_st ? file_st : &st);
		}
	}
	if (fd != file_fd)
		descriptor_put(fs, ino, fd);
}

void lock_load_locked(struct wormfs *fs, struct inode *ino)
{
	lock_load_from_locked(fs, ino, -1, NULL);
}

void lock_verify_locked(struct wormfs *fs, struct inode *ino)
{
	uint8_t bytes[RECORD_BYTES];
	int64_t btime_ns;
	struct stat st;
	char *path;
	ssize_t n;
	int fd, r;

	lock_load_locked(fs, ino);
	if (ino->phase != LOCK_COMMITTED)
		return;
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return;
	if (inode_stat(fd, "", &st, &btime_ns) == 0)
		lock_check_suspect_locked(fs, ino, &st);
	n = fs->lower.xattr ? lower_getxattr(fd, lower_xattr_record(fs->ns), bytes, sizeof(bytes)) : 0;
	if (n == -ENODATA) {
		r = lock_write_record(fs, fd, ino->rec);
		path = lock_path_for_log(fs, ino);
		log_warning("the lock record of '%s' was removed below the mount%s", path ? path : "?",
			    r == 0 ? ", it is written again" : ", it cannot be written again: it stays locked by the ledger");
		free(path);
		trail_file_locked(fs, ino, AUDIT_TAMPER, -ENODATA, "lock record removed below the mount%s", r == 0 ? ", written again" : "");
		if (!ino->suspect)
			atomic_fetch_add(&fs->n_suspect, 1);
		ino->suspect = true;
	}
	descriptor_put(fs, ino, fd);
}

/* An order for what comes keeps what is not locked yet, unless it is empty: then there is nothing to keep. */
static enum guard_state unlocked_state_locked(struct wormfs *fs, struct inode *ino)
{
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	if (!atomic_load(&fs->orders_coming) || !S_ISREG(ino->type))
		return GUARD_OPEN;
	r = hold_covers_coming(fs, ino);
	if (r <= 0)
		return r < 0 ? GUARD_UNREADABLE : GUARD_OPEN;
	fd = descriptor_get(fs, ino);
	r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
	descriptor_put(fs, ino, fd);
	return r < 0 || st.st_size > 0 ? GUARD_HELD : GUARD_OPEN;
}

enum guard_state lock_state_locked(struct wormfs *fs, struct inode *ino)
{
	struct lock_row row;
	int64_t now_s;
	int r;

	lock_load_locked(fs, ino);
	switch (ino->phase) {
	case LOCK_NONE:
		/* commit=idle: protected from the moment it is due; the sweep writes the record within a second. */
		if (ino->idle_due_s && ino->idle_due_s <= clock_source_now_s(fs->clock))
			return GUARD_CLOSING;
		return unlocked_state_locked(fs, ino);
	case LOCK_CLOSING:
		return GUARD_CLOSING;
	case LOCK_COMMITTED:
		break;
	default:
		return GUARD_UNREADABLE;
	}
	now_s = clock_source_now_s(fs->clock);
	if (ino->rec->flags & RECORD_APPEND)	/* commit=idle as above */
		return ino->idle_due_s && ino->idle_due_s <= now_s ? GUARD_CLOSING : GUARD_APPENDABLE;
	if (record_is_retained(ino->rec, now_s))
		return ino->rec->flags & RECORD_SETTLE && lock_settles_locked(fs, ino, now_s) ? GUARD_SETTLING : GUARD_RETAINED;
	/* Expired, says the file. The ledger may know a later date or a hold that a crash kept from it. */
	r = lock_find_row(fs, ino, &row);
	row.rec.holds = 0;
	if (r == 0 && row.holds == 0 && row.rec.generation >= ino->rec->generation && record_is_retained(&row.rec, now_s)) {
		/* Or it lags: the date that followed "unspecified" is in the committer's queue. */
		(void)committer_flush(fs->committer, LEDGER_WAIT_MS);	/* a ledger that fails keeps its word */
		r = lock_find_row(fs, ino, &row);
	}
	if (r < 0 && r != -ENOENT)
		return GUARD_UNREADABLE;
	row.rec.holds = 0;	/* a copy of the file's own count, and older; the names count */
	if (r == 0 && row.rec.generation < ino->rec->generation)
		row.rec.until_s = ino->rec->until_s;	/* from before it was made earlier */
	if (r == 0 && (row.holds > 0 || record_is_retained(&row.rec, now_s)))
		return GUARD_RETAINED;
	r = hold_covers_locked(fs, ino);	/* an order that has not come to this file yet */
	return r < 0 ? GUARD_UNREADABLE : r ? GUARD_RETAINED : GUARD_EXPIRED;
}

int lock_check_locked(struct wormfs *fs, struct inode *ino, enum guard_op op)
{
	enum guard_state state = lock_state_locked(fs, ino);
	int r = guard_verdict(state, op);

	if (r < 0)
		refusal_note_locked(fs, ino, op, state, NULL, r);
	return r;
}

int lock_lower_result_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, int r)
{
	struct statvfs st;

	if (r != -EROFS || ino->phase == LOCK_NONE || fstatvfs(fs->root_fd, &st) < 0 || st.f_flag & ST_RDONLY)
		return r;
	refusal_note_locked(fs, ino, op, lock_state_locked(fs, ino), "a lock of the filesystem below", -EPERM);
	return -EPERM;
}

int lock_check_rename_dir(struct wormfs *fs, struct inode *dir)
{
	int r = pin_check_rename(fs, dir);

	if (r < 0)
		refusal_note_locked(fs, dir, GUARD_RENAME_DIR, r == -EPERM ? GUARD_PINNED : GUARD_UNREADABLE, NULL, r);
	return r;
}
