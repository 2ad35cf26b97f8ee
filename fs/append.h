/* Append-only files: what is written is locked at once, more may be added at the end, and one day the
 * file is made final. The lock record says so (RECORD_APPEND); the state is GUARD_APPENDABLE.
 *
 * Handles of such a file go through the daemon for every read and write: no passthrough, no page cache
 * of the mount, no shared mapping. O_APPEND of the caller's descriptor is not relied on, because
 * fcntl(F_SETFL) takes it away: the daemon compares each offset with the end. Errors are -errno. */
#ifndef WORMFS_APPEND_H
#define WORMFS_APPEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/wormfs.h"

/* Wants ino->lock. True: it is append-only, as far as this daemon has looked. */
bool append_is_locked(const struct inode *ino);

/* Makes an empty file, or one that is not locked, append-only: wormctl append, user.worm.append, chattr +a.
 * `pid`: who asks; what that process has open for reading does not stand in the way. 0 also when it
 * is append-only already. -EPERM: locked. -EBUSY: somebody has it open. -EOPNOTSUPP: commit=never. Takes the locks. */
int append_make(struct wormfs *fs, struct inode *ino, pid_t pid);

/* The same for who knows that nobody else has it open: a rule, when the file is made. `fd` is any
 * descriptor of the lower file, `st` its attributes. The caller holds rename_lock (reading) and ino->lock. */
int append_make_locked(struct wormfs *fs, struct inode *ino, int fd, const struct stat *st);

/* chmod +w of an empty file that was locked with chmod -w: SnapLock's way to an append-only file.
 * `st`: the lower file before. */
bool append_is_asked_by_chmod_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, mode_t mode);
int append_make_of_empty_locked(struct wormfs *fs, struct inode *ino, pid_t pid);

/* Ends it: an ordinary locked file from now on. -EBUSY: a writer is there. */
int append_finalise_locked(struct wormfs *fs, struct inode *ino);

/* An open of an append-only file for writing: -EBUSY while somebody still has it open from before it was
 * append-only, and reads it past the daemon. */
int append_check_open_locked(const struct inode *ino);

/* A change of `len_bytes` at `*offset` through a handle of an append-only file: 0 with ino->lock taken,
 * which the caller gives back after the system call, or -errno without it. `op` is what it is if it is not at
 * the end; `flags` those of the descriptor. */
int append_begin(struct wormfs *fs, struct handle *h, enum guard_op op, int flags, int64_t *offset);

/* Under commit=idle, without a writer: final when nobody has added to it for that long. */
void append_wait_for_idle_locked(struct wormfs *fs, struct inode *ino, const struct stat *st);

/* The last writer left. */
void append_released_locked(struct wormfs *fs, struct inode *ino, const struct stat *st);

#endif
