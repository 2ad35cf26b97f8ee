/* Refusals: each is counted, told to the audit log and, with -d, to the log, with the rule or hold that caused it. The
 * one place for that, so that none is silent. Nothing here waits, but for the ledger where the cause is asked for. */
#ifndef WORMFS_REFUSAL_H
#define WORMFS_REFUSAL_H

#include "fs/guard.h"
#include "fs/inode.h"
#include "fs/wormfs.h"

/* `op` on this file was refused with r. why: its state (NULL), or what else was the reason, a few words. ino->lock is
 * held, or nobody else has it. */
void refusal_note_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, enum guard_state state, const char *why, int r);
/* A request about a lock (commit, append-only, extend) came to r. Tells the refusals that the guard has not told: somebody
 * writes to the file, nothing is locked here, the value is none. Returns r. Takes ino->lock, or wants it. */
int refusal_of_request(struct wormfs *fs, struct inode *ino, enum guard_op op, int r);
int refusal_of_request_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, int r);

/* What keeps it as it is: "locked by the mount options, under the hold 'smith'"; of a pinned directory, a locked file
 * below it. "" when nothing does. The caller frees it; NULL: out of memory. Likewise. */
char *refusal_cause_locked(struct wormfs *fs, struct inode *ino, enum guard_state state);

#endif
