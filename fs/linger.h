/* The sweeper: a thread that does what nobody waits for.
 *  - files without a writer, but with a mapping that can still store (passthrough): asked again after
 *    LINGER_MIN_MS, then twice as long each time, up to LINGER_MAX_MS. CLOSING ones become COMMITTED, others are locked if
 *    the mapping changed them.
 *  - files written and not locked (staging names, interrupted writers, commit=idle): locked when they have
 *    been idle long enough. Looked at every second, from the ledger's pending list. */
#ifndef WORMFS_LINGER_H
#define WORMFS_LINGER_H

#include "fs/inode.h"
#include "fs/wormfs.h"

#define LINGER_MIN_MS 10	/* the kernel lets go of a file a moment after its last close */
#define LINGER_MAX_MS 5000

int linger_start(struct wormfs *fs);
void linger_stop(struct wormfs *fs);

/* Takes a reference. ino->lock held; the caller set ino->lingering. */
void linger_add_locked(struct wormfs *fs, struct inode *ino);

#endif
