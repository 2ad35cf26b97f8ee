/* What the audit log testifies about locks, folded line by line: for each serial number the last date, whether the lock and
 * its deletion have a line, and since when the log may be relied on. Pure: no file, no clock; one thread at a time. */
#ifndef WORMFS_WITNESS_H
#define WORMFS_WITNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/audit_line.h"
#include "lockstore/verify.h"

/* The end of the detail of a mount line whose daemon logs every lock, and lets nobody else lock in its share. */
#define WITNESS_COVERS ", every lock audited"
#define WITNESS_MOUNTS_MAX 16384	/* of more, only the last ones are relied on */
/* Before it, when it logs every hold and release, too. */
#define WITNESS_COVERS_HOLDS ", every hold audited"
/* After a daemon that was killed its last lines may be missing: a power cut, and locks that took so long. */
#define WITNESS_TAIL_S 60

/* One line, as far as it matters here. */
struct witness_line {
	uint64_t seq;
	int64_t clock_s;
	enum audit_event event;
	bool refused;		/* it has a result */
	const char *detail;	/* "": none */
	uint32_t key_hash;	/* of the key's text; 0: none */
};

/* Of one serial number. All zero: no line. */
struct witness_lock {
	uint64_t seq;		/* of the last line about it */
	uint64_t commit_seq;
	int64_t until_s;	/* by its last line, with WITNESS_DATED */
	uint32_t key_hash;	/* of the file that these lines are about */
	uint32_t flags;
};
enum witness_flags {
	WITNESS_COMMITTED = 1 << 0,
	WITNESS_DATED = 1 << 1,
	WITNESS_DELETED = 1 << 2,
	WITNESS_AMBIGUOUS = 1 << 3,	/* lines about two files have this number: nothing is said */
	WITNESS_SEEN = 1 << 4,		/* the caller's: the ledger knows it */
	WITNESS_WANTED = 1 << 5,	/* the caller's */
	WITNESS_HOLDS_CUT = 1 << 6,	/* a line had no room for all names of its holds: nothing is said about them */
};

/* Takes a line about this lock. */
void witness_fold(struct witness_lock *lock, const struct witness_line *line);

/* What a line says about holds on its lock. */
enum witness_hold {
	WITNESS_HOLD_NONE,
	WITNESS_HOLD_PLACED, WITNESS_HOLD_RELEASED,
	WITNESS_HOLD_TRIED,	/* it failed half-way: on the file or not */
};
/* *ret_names: the names, '\n' between them, in the line's detail. */
enum witness_hold witness_hold_of(const struct witness_line *line, const char **ret_names);

struct witness_cover {
	struct witness_span { int64_t from_s, to_s; bool holds; } *spans;	/* a daemon ran and logged every lock; of the clock of retention */
	size_t nspans;
	bool running;		/* the last span is not closed */
	uint64_t gap_seq;	/* lines up to here do not tell what came after them: some are missing */
	uint64_t hold_gap_seq;	/* likewise, of holds */
};
void witness_cover_fini(struct witness_cover *cover);
/* Takes any line, in order. -ENOMEM. */
int witness_cover_line(struct witness_cover *cover, const struct witness_line *line);
/* Lines are missing before this one. */
void witness_cover_gap(struct witness_cover *cover, uint64_t seq);
/* A lock of this time has its line. The seconds in which a mount began or ended are not relied on. `ended`: no daemon writes now. */
bool witness_covers(const struct witness_cover *cover, int64_t committed_s, bool ended);

/* What is to be said about a hold that the log knows by its last line, `what` and `seq` (NONE: none), and which is in the ledger since
 * at_s, or is not there. HOLD_...: the other fields of a verify_hold are the caller's. */
int witness_say_hold(const struct witness_cover *cover, enum witness_hold what, uint64_t seq, bool in_ledger, int64_t at_s, bool ended);
/* What verify_compare() wants to know, but for the holds. */
void witness_say(const struct witness_cover *cover, const struct witness_lock *lock, int64_t committed_s, int64_t now_s, bool ended,
		 struct verify_log *ret);

#endif
