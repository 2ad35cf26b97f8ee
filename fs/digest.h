/* The digest worker: takes the SHA-256 of every locked file, for the ledger, and is in nobody's
 * way. It reads with idle priority for the processor and the disk, waits until nobody has locked a file for a moment,
 * and never reads a file that somebody can still write to (phase COMMITTED, linger.h).
 *
 * What is to be done is not kept in memory: it is the rows of the ledger that lack a digest, so that a killed daemon
 * goes on where it was, but for the last DIGEST_BATCH files. */
#ifndef WORMFS_DIGEST_H
#define WORMFS_DIGEST_H

#include <jansson.h>

#include "fs/wormfs.h"

#define DIGEST_BATCH 256	/* digests a ledger transaction */
#define DIGEST_IDLE_MS 200	/* nobody locked a file for so long */
#define DIGEST_PATIENCE_MS 5000	/* a share that never rests: one step all the same after so long */
#define DIGEST_RETRY_MS 60000	/* what could not be digested is tried again */

/* Nothing with -o digest=off. -errno. */
int digest_start(struct wormfs *fs);
void digest_stop(struct wormfs *fs);	/* before the committer and the descriptors go */

/* {"enabled":bool,"pending":N,"done":N,"failed":N}: pending in the ledger; done and failed (those that are left out at
 * present: unreadable, or changed below the mount) since mount. NULL: no memory. */
json_t *digest_json(struct wormfs *fs);

#endif
