/* The lock of a file, from its first writer to its last: what the close path does (architecture.md has
 * the picture). Functions that end in _locked want ino->lock held; all of them may make system calls on
 * the lower file under it. Errors are -errno; a refusal is -EPERM or what guard.c's table says. */
#ifndef WORMFS_LOCK_H
#define WORMFS_LOCK_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fs/guard.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/wormfs.h"

/* Finds out what is not known yet: record on the file, row in the ledger. Never fails: what cannot be
 * found out is LOCK_UNREADABLE. */
void lock_load_locked(struct wormfs *fs, struct inode *ino);
/* The same with a descriptor of it that may be read, which saves opening another; -1: none. And with its attributes, as
 * they are now; NULL: not known. */
void lock_load_from_locked(struct wormfs *fs, struct inode *ino, int file_fd, const struct stat *file_st);

/* By its (first known) name, and the staging names of its rule. */
bool lock_is_staging(struct wormfs *fs, struct inode *ino, const struct policy_rule *rule);

/* Looks whether the lower file still is what the lock says: size, time, record. For the status command. */
void lock_verify_locked(struct wormfs *fs, struct inode *ino);

/* For guard_verdict(). Loads. */
enum guard_state lock_state_locked(struct wormfs *fs, struct inode *ino);

/* May `op` be done? Loads, asks the guard, counts and logs a refusal. */
int lock_check_locked(struct wormfs *fs, struct inode *ino, enum guard_op op);
/* What the lower filesystem said to an `op` that lock_check_locked() had let through. A cluster's own lock on the file is EROFS there: a
 * refusal like any other, so EPERM, counted and logged. Of a file that is not locked here, and where all below is read-only, as it is. */
int lock_lower_result_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, int r);

/* Somebody opened a locked file: does it still have the size and time of its record? Says so once. */
void lock_check_suspect_locked(struct wormfs *fs, struct inode *ino, const struct stat *st);

/* May this directory be renamed? Wants rename_lock for writing. A pin without a locked file below it is
 * taken away on the way. */
int lock_check_rename_dir(struct wormfs *fs, struct inode *dir);

/* A file that this daemon just made: nothing to load. */
void lock_created_locked(struct inode *ino);

/* A writer comes, with its handle's fd open and the fstat of it. -errno: refuse the open. */
int lock_writer_open_locked(struct wormfs *fs, struct handle *h, const struct stat *st);

/* close(2): the file becomes CLOSING if this writer changed it and the rule says so. Its error is the
 * error of close(2). Takes the locks. */
int lock_flush(struct wormfs *fs, struct handle *h);

/* The handle goes away: closes its fd. The last writer makes the file COMMITTED. Takes the locks. */
void lock_writer_release(struct wormfs *fs, struct handle *h);

/* The kernel lets go of a file after close(2) has returned, so that who comes next may still find the writer.
 * True, after a moment: whoever has it open may be on his way out, ask again; *waited_ms starts at 0 and
 * bounds it. Wants no lock. */
bool lock_wait_for_release(struct inode *ino, unsigned *waited_ms);

/* 0: nobody can write to the file, not through a mapping either; -EBUSY: somebody can. */
int lock_probe(struct wormfs *fs, struct inode *ino);

/* Lock now: chmod -w, chattr +i, wormctl commit, the sweep. -EBUSY: somebody can still write.
 * 0 also when it is locked already. `reason`: for the audit log. Takes the locks. */
int lock_commit(struct wormfs *fs, struct inode *ino, const char *reason);
/* The same in two steps, for the rename of a staging name: seal, rename, then publish or undo before
 * ino->lock is given up. Wants rename_lock, too. *ret_sealed: there is something to publish or undo. */
int lock_seal_locked(struct wormfs *fs, struct inode *ino, bool *ret_sealed);
void lock_publish_locked(struct wormfs *fs, struct inode *ino, const char *reason);
void lock_unseal_locked(struct wormfs *fs, struct inode *ino);

/* Later only: see retention_is_later(). *ret_until_s is what is in force afterwards. -EINVAL: out of min/max. */
int lock_extend(struct wormfs *fs, struct inode *ino, int64_t until_s, int64_t *ret_until_s);
int lock_extend_locked(struct wormfs *fs, struct inode *ino, int64_t until_s, int64_t *ret_until_s);
/* -EEXIST: it has it already. -EINVAL: not locked, or not a name. Takes hold_lock. */
int lock_hold(struct wormfs *fs, struct inode *ino, const char *case_name, uid_t by);
/* -ENOENT: it has it not. Likewise. */
int lock_release(struct wormfs *fs, struct inode *ino, const char *case_name);
/* 1: the file has this hold by name, 0: not. */
int lock_has_hold(struct wormfs *fs, struct inode *ino, const char *case_name);

/* The same for many files in few transactions. An error of the ledger is returned, and then nothing is known of the items;
 * what one file could not do is in its `r`. */
struct hold_item {
	struct inode *ino;	/* the caller's; lock_release_batch(): NULL for a file that is gone, then `key` says which */
	struct file_key key;
	uint64_t size_bytes;	/* out */
	bool changed;		/* out: it had the hold not, or has it not any more */
	int r;			/* out: 0 or -errno */
	uint32_t names;		/* scratch */
	uint16_t rec_holds;	/* scratch */
	uint8_t state;		/* scratch, for events: before it */
};
/* `again`: the audit log gets a line of a file that has the name already, too: it may have lost the first one. */
int lock_hold_batch(struct wormfs *fs, struct hold_item *items, size_t n, const char *case_name, uid_t by, int64_t at_s, bool again);
/* The names go when the lines of the audit log are on stable storage: an error of the log is returned like one of the ledger. */
int lock_release_batch(struct wormfs *fs, struct hold_item *items, size_t n, const char *case_name);

/* Times, mode, owner, attributes or the name of a file that settles are set between the two (lock_adjust.c); of any other
 * file both do nothing. `moves`: the inode has its new name already, and rename_lock is held. `result`: of what was
 * done; returned, or the error of the record, which could not be brought up to date. `what`: for the audit log.
 * begin: -EPERM: it has settled. */
struct adjustment {
	bool settles;
	journal_slot slot;
};
int lock_adjust_begin_locked(struct wormfs *fs, struct inode *ino, bool moves, struct adjustment *ret_adjustment);
int lock_adjust_end_locked(struct wormfs *fs, struct inode *ino, struct adjustment *adjustment, int result, const char *what);
/* Its writer has closed it and sets its times next: the release is on the way, and then it settles. Wants no lock. */
void lock_wait_to_settle(struct wormfs *fs, struct inode *ino);

/* A file lost a name and has others: when it is locked (it had expired), its row gets one of those. */
void lock_unlinked_locked(struct wormfs *fs, struct inode *ino);
/* A locked file lost its last name (it had expired). */
void lock_removed_locked(struct wormfs *fs, struct inode *ino);

/* We change metadata of a file that is being written (chmod, setxattr, utimens, its names): what the writers'
 * stamps say is noted before and brought up to date after, so that it does not count as a change of
 * data. `times`: the change set mtime itself. Both do nothing without a writer. */
void lock_metadata_before_locked(struct wormfs *fs, struct inode *ino, struct data_stamp *ret_before);
void lock_metadata_after_locked(struct wormfs *fs, struct inode *ino, const struct data_stamp *before, bool times);

/* Probes a file without writers that somebody may still have mapped: 0 = nobody has; if it was CLOSING or the
 * mapping changed it, it is COMMITTED now. -EBUSY = somebody still can write. Wants rename_lock, too. */
int lock_settle_locked(struct wormfs *fs, struct inode *ino);

/* The daemon ends: settles what can be, and leaves the rest to the next one. Wants rename_lock, too. */
void lock_give_up_settling_locked(struct wormfs *fs, struct inode *ino);

/* What an earlier daemon left in the journal: locks that the ledger lacks, writers that never closed. */
int lock_recover(struct wormfs *fs);

#endif
