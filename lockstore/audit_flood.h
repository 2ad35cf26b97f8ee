/* A flood of refusals becomes a few lines: the first one of (uid, file, event, op) is a line, those that follow
 * within AUDIT_REPEAT_S are counted. A table of AUDIT_FLOOD_SLOTS; when it is full, refusals of further files are
 * counted by (uid, event) alone, AUDIT_FLOOD_OVERFLOWS of them, and when those are used up by event alone. Used by
 * audit.c, which has the thread. Not locked: the caller does it. */
#ifndef WORMFS_AUDIT_FLOOD_H
#define WORMFS_AUDIT_FLOOD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lockstore/audit_line.h"

#define AUDIT_FLOOD_SLOTS 1024		/* different refusals at once: what a flood may write in AUDIT_REPEAT_S */
#define AUDIT_FLOOD_OVERFLOWS 64
#define AUDIT_FLOOD_CROWD ((uid_t)-1)	/* of several users */

struct audit_flood;

struct audit_flood_id {
	uint64_t file;
	uid_t uid;
	enum audit_event event;
	unsigned op;
};

struct audit_flood *audit_flood_open(void);	/* NULL: no memory */
void audit_flood_close(struct audit_flood *flood, void (*destroy)(void *entry));

/* True: counted. */
bool audit_flood_count(struct audit_flood *flood, const struct audit_flood_id *id);
/* Begins to count the repeats of `entry`, which the table owns from now on. False: there is no place for it, or its
 * id is there already: the entry stays the caller's. *ret_counted: it was counted as overflow, there is no line for it. */
bool audit_flood_begin(struct audit_flood *flood, const struct audit_flood_id *id, void *entry, int64_t now_ns,
		       bool *ret_counted);
/* For every slot whose time is over (all: for every slot): fn(entry, count) when it counted something, then goes on
 * for another while; one that counted nothing is over: destroy(entry). entry NULL: overflow of (uid, event); of
 * AUDIT_FLOOD_CROWD and event. */
void audit_flood_sweep(struct audit_flood *flood, int64_t now_ns, bool all,
		       void (*fn)(void *arg, void *entry, const struct audit_flood_id *id, uint64_t count), void *arg,
		       void (*destroy)(void *entry));
/* Slots in use: somebody has to sweep. */
unsigned audit_flood_active(const struct audit_flood *flood);

#endif
