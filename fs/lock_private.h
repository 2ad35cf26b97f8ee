/* Between lock.c, close_path.c, the lock_*.c and privilege.c; nobody else includes it. */
#ifndef WORMFS_LOCK_PRIVATE_H
#define WORMFS_LOCK_PRIVATE_H

#include <time.h>

#include "fs/lock.h"
#include "lockstore/committer.h"
#include "lockstore/ledger.h"

static inline int64_t lock_to_ns(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* For the log: never NULL but without memory; the caller frees it. */
char *lock_path_for_log(struct wormfs *fs, struct inode *ino);
/* "cannot WHAT 'path': error" */
void lock_log_failure(struct wormfs *fs, struct inode *ino, const char *what, int r);

/* ino->rec stays NULL when there is no memory. */
void lock_set_record_locked(struct inode *ino, const struct lock_record *rec);
int lock_write_record(struct wormfs *fs, int fd, const struct lock_record *rec);

/* What the ledger has: for ledger_find(). */
struct lock_row {
	struct lock_record rec;
	uint32_t holds;
};
int lock_take_row(void *arg, const struct ledger_row *row);
int lock_find_row(struct wormfs *fs, struct inode *ino, struct lock_row *ret);
/* A row as the inode is now. The caller frees *ret_path, which the row points to. */
int lock_fill_row(struct wormfs *fs, struct inode *ino, const struct stat *st, struct ledger_row *ret_row, char **ret_path);

/* Pins, record, journal: after this the file is locked whatever happens to the daemon. `fd` is any
 * descriptor of the file, `flags` enum record_flags. rename_lock is held. The caller sets the phase. `reason`: for
 * the audit log; NULL: the caller tells it when it is sure. */
int lock_seal_with_locked(struct wormfs *fs, struct inode *ino, const struct policy_rule *rule, int fd, const struct stat *st,
			  uint8_t flags, const char *reason);
/* The end of retention that begins now for a file with a record: that of its rule, or the mount's when the rule is gone. */
int64_t lock_retention_of_rule_locked(struct wormfs *fs, struct inode *ino, int64_t now_s);
/* Into the ledger, by the committer, which frees the journal slot. */
void lock_publish_with_locked(struct wormfs *fs, struct inode *ino, const struct stat *st);

/* A file with a record and a date ahead: may all but its data still be set? */
bool lock_settles_locked(struct wormfs *fs, struct inode *ino, int64_t now_s);

/* Writes a changed record of a locked file, then tells the ledger. */
int lock_rewrite_record_locked(struct wormfs *fs, struct inode *ino, const struct lock_record *rec);
/* A locked file lost its last name: out of the ledger. */
void lock_forget_locked(struct wormfs *fs, struct inode *ino);

/* 0: nobody can write to the file any more, not through a mapping either; -EBUSY: somebody can. */
int lock_probe_writers(struct wormfs *fs, struct inode *ino, struct stat *ret_st);
/* The file was changed and is not locked: onto the list of the sweep. */
void lock_put_pending_locked(struct wormfs *fs, struct inode *ino);
/* It is locked now, and the probe said that nobody writes: linger.c need not look at it any more. */
void lock_forget_mapping_locked(struct wormfs *fs, struct inode *ino);
/* To linger.c, once. */
void lock_linger_locked(struct wormfs *fs, struct inode *ino);

#endif
