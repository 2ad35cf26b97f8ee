/* The committer: one thread that carries what the close path did into the ledger, in batches.
 *
 * Events keep their order. The queue is bounded (COMMITTER_QUEUE_MAX): a pusher waits when it is full.
 * A batch is one ledger transaction; after it the journal slots of its events are freed. When the
 * ledger fails (disk full, read-only, damaged) the batch stays at the head and is tried again with a
 * back-off of 1 s to 60 s; while it fails, a full queue drops its newest event instead of waiting, counts it,
 * and the ledger is "behind" until a reindex: the files stay locked by their own records, and the
 * journal slots of dropped events stay until then. */
#ifndef WORMFS_COMMITTER_H
#define WORMFS_COMMITTER_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstore/journal.h"
#include "lockstore/ledger.h"

#define COMMITTER_QUEUE_MAX 8192	/* events */
#define COMMITTER_BATCH_MAX 1024	/* events a transaction */

struct committer;

enum committer_event {
	COMMITTER_PUT,			/* a file is locked, or its record changed: ledger_put(), and no longer pending */
	COMMITTER_REMOVE,		/* a locked file was deleted after its retention: ledger_remove() */
	COMMITTER_PENDING_PUT,		/* written, closed, not locked */
	COMMITTER_PENDING_REMOVE,
};

/* Does not own the ledger or the journal, which must outlive it. Its thread takes no signals, and does not
 * survive a fork: start it in the daemon. */
int committer_start(struct ledger *ledger, struct journal *journal, struct committer **ret_committer);
/* Carries over everything that is queued, then stops; gives up when the ledger fails. NULL is fine. */
void committer_stop(struct committer *committer);

/* Copies what it is given. `slot` is freed once the ledger has the event (JOURNAL_NO_SLOT: none).
 * 0 also when the event was dropped, since the file is locked by its own record. -ENOMEM: dropped and
 * counted likewise, and the slot stays the caller's. An event that the ledger calls invalid (-EINVAL) is dropped, not tried again. */
int committer_put(struct committer *committer, const struct ledger_row *row, journal_slot slot);
int committer_remove(struct committer *committer, const struct file_key *key);
int committer_pending_put(struct committer *committer, const struct ledger_pending *pending, journal_slot slot);
int committer_pending_remove(struct committer *committer, const struct file_key *key);

/* Waits until the ledger has everything that was pushed before the call. -ETIMEDOUT, or the ledger's error.
 * While the ledger fails, this tries at once instead of waiting for the back-off, and returns the error of
 * that attempt. */
int committer_flush(struct committer *committer, unsigned timeout_ms);

struct committer_status {
	uint64_t queued;	/* events waiting */
	uint64_t written;	/* events in the ledger since start */
	uint64_t dropped;	/* events the ledger will only get by a reindex */
	int error;		/* 0, or the -errno of the last batch, while it keeps failing */
	char message[160];	/* what the ledger said */
};
void committer_status(struct committer *committer, struct committer_status *ret_status);
/* After a reindex: the first `dropped` events are missing no more, and their journal slots are freed.
 * `dropped` is what committer_status() said before the reindex began: what was dropped while it ran may
 * have been dropped behind its back. */
void committer_forget_dropped(struct committer *committer, uint64_t dropped);

#endif
