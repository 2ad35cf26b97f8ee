/* What the audit log of a share says about every lock (witness.h), read once through all its files.
 *
 * 32 bytes a serial number, in an unnamed file in the state directory (else $TMPDIR, /var/tmp): 1,000,000 locks are 32 MB of
 * disk (numbers that were not used are holes), and memory does not grow with the log but for 24 bytes a mount, WITNESS_MOUNTS_MAX of them. What it
 * says about holds is in a table of its own (testimony_holds.h). Any thread. */
#ifndef WORMFS_WORMCTL_TESTIMONY_H
#define WORMFS_WORMCTL_TESTIMONY_H

#include "lockstore/verify.h"
#include "lockstore/wormctl/subject.h"

#define TESTIMONY_SERIAL_MAX (UINT64_C(1) << 38)	/* nothing is said about higher ones */

struct testimony;

struct testimony_damage {
	uint64_t findings;		/* of `wormctl audit verify` */
	char file[64];			/* where the first one is, "audit.log.3" */
	uint64_t line;
	char what[256];
};

/* *ret NULL: there is no log; all functions take that. -errno: it cannot be read, or its table cannot be written. */
int testimony_open(struct subject *subject, struct testimony **ret, struct testimony_damage *ret_damage);
void testimony_close(struct testimony *t);

int testimony_say(struct testimony *t, const struct lock_record *rec, struct verify_log *ret);

/* The names of this row's holds against the log's. */
int testimony_say_holds(struct testimony *t, const struct ledger_row *row, struct verify_hold *ret);

/* Takes what a daemon wrote since, unless that was done after `since_ms` (CLOCK_MONOTONIC). The caller waited (subject_sync()). */
int testimony_refresh(struct testimony *t, int64_t since_ms);

/* The ledger has this serial number. */
int testimony_mark(struct testimony *t, uint64_t serial);
/* fn(), once each, for locks that were not marked, have a line, are retained by the log and were not deleted: a second look
 * through the log, if there are any. fn returns 1, 0 (it is there: marked now), or -errno, which ends the walk and is returned.
 * `seq`: of the line of the lock. */
typedef int (*testimony_fn)(void *arg, const char *path, const struct file_key *key, uint64_t serial, int64_t locked_s, uint64_t seq);
int testimony_each_unmarked(struct testimony *t, testimony_fn fn, void *arg);

#endif
