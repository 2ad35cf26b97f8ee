/* The audit log: who did, or was refused, what to which file, as chained lines (audit_line.h) in AUDIT_FILE of the
 * state directory. Lines are only appended. Two ways in:
 *
 *  audit_put()       for what has happened. Copies its entry into a bounded queue (AUDIT_QUEUE_MAX) and returns: one
 *                    small allocation, no system call, no wait, so a FUSE request may call it under its inode's lock.
 *                    A thread writes what has come together every AUDIT_LINGER_MS with one write (from then on a
 *                    SIGKILL of the daemon loses nothing) and one fdatasync at most every AUDIT_SYNC_MS.
 *  audit_put_sync()  for what is about to be done by privilege: 0 only when the line, and all before it, is on stable
 *                    storage; on any error there is no such line, and the request must not be carried out. Write the
 *                    intent first; when the action fails afterwards, put a second entry with its errno. Waits for the
 *                    disk: never on a FUSE request.
 *
 * When the log cannot be written its queue is kept and tried again each second; what does not fit is counted, and an
 * AUDIT_LOG_LOST line says how many as soon as a line can be written. Nothing is ever deleted: at rotate_bytes
 * AUDIT_FILE is renamed to AUDIT_FILE.N (N counts up), and the chain goes on in a new one.
 * Any thread may call. Not across fork(). */
#ifndef WORMFS_AUDIT_H
#define WORMFS_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstore/audit_line.h"

#define AUDIT_FILE "audit.log"		/* in the state directory, mode 0600 */
#define AUDIT_QUEUE_MAX 8192		/* entries */
#define AUDIT_QUEUE_BYTES (8 << 20)	/* likewise */
#define AUDIT_LINGER_MS 50		/* shorter than the committer's: while a line waits, the journal still has its lock */
#define AUDIT_SYNC_MS 500
#define AUDIT_REPEAT_S 10		/* repeats of a refusal within so many seconds are one line */
#define AUDIT_ANCHOR_S 5		/* anchor() is called at most so often, and at close */

#define AUDIT_SET(event) (UINT64_C(1) << (event))
#define AUDIT_ALL (AUDIT_SET(AUDIT_EVENTS) - 1)

struct audit;

struct audit_options {
	const char *state_dir;
	uint64_t rotate_bytes;		/* 0: never */
	uint64_t success, failure;	/* sets of AUDIT_SET(): what audit_put() takes with result 0, with another */
	/* The head of the chain as somebody else remembers it; seq 0: nobody does. A log that ends before it, or differs
	 * there, has been cut: an AUDIT_TAMPER line says so and the chain goes on behind the remembered head, so that
	 * `wormctl audit verify` finds the gap for ever. */
	uint64_t head_seq;
	const char *head_hash;
	/* Called on the thread of the log (and in audit_close()) with no lock held; both may be NULL. now_s: the clock of
	 * retention, and this one on the callers' threads, so no system call; NULL: CLOCK_REALTIME. anchor: remember this
	 * head; the line is on stable storage. */
	int64_t (*now_s)(void *arg);
	void (*anchor)(void *arg, uint64_t seq, const char *hash);
	void *arg;
};

/* What audit_open() found; said by the caller in its log. */
struct audit_recovery {
	uint64_t torn_bytes;		/* of a last line that a kill or a power cut tore; now inside an AUDIT_LOG_TORN line */
	uint64_t missing;		/* lines that head_seq says there were */
	bool damaged;			/* the last line does not verify, or is not the one of head_hash */
};

/* Starts the thread. -EACCES, -ENOSPC etc.: the log cannot be opened or written. ret_recovery may be NULL. */
int audit_open(const struct audit_options *options, struct audit **ret_audit, struct audit_recovery *ret_recovery);
/* Writes everything out, also the counts of repeats, and calls anchor(). NULL is fine. */
void audit_close(struct audit *audit);

/* NULL audit: nothing. True when an entry with this event and result would be written: ask before collecting a path. */
bool audit_wants(struct audit *audit, enum audit_event event, int result);
/* True: it is one more of a refusal that has a line already, and it is counted; there is nothing left to do. Only for
 * entries that are put with `repeats`. A table of AUDIT_FLOOD_SLOTS (audit_flood.h); what does not fit is counted by
 * (uid, event). NULL audit: true. */
bool audit_is_repeat(struct audit *audit, uid_t uid, uint64_t file, enum audit_event event, unsigned op);
void audit_put(struct audit *audit, const struct audit_entry *entry);
/* Not filtered by the sets. -ENOSPC, -EIO etc.: the disk said no. -ENOMEM, -ESHUTDOWN (closing). NULL audit: 0, the
 * administrator has switched it off. */
int audit_put_sync(struct audit *audit, const struct audit_entry *entry);

/* Waits until everything put before is written and on stable storage. -ETIMEDOUT, or the log's error. NULL: 0. */
int audit_flush(struct audit *audit, unsigned timeout_ms);

struct audit_status {
	uint64_t seq;			/* of the last line, 0: none */
	uint64_t written;		/* lines since open */
	uint64_t queued, lost;		/* entries that wait; that were lost since open */
	uint64_t repeats;		/* entries that were counted into another's line, since open */
	uint64_t bytes;			/* of AUDIT_FILE */
	int error;			/* 0, or the -errno of the last attempt, while it fails */
};
void audit_status(struct audit *audit, struct audit_status *ret_status);

#endif
