/* What a lock is, what a request wants of it, and whether that is allowed. Pure. */
#ifndef WORMFS_LOCK_RULES_H
#define WORMFS_LOCK_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "mockarchive/mockqumulo/qtime.h"
#include "mockarchive/mockqumulo/switches.h"

struct qlock {
	bool hold;
	bool retained;		/* `until` was set once; it may have passed */
	struct qtime until;
};

struct qlock_change {
	bool sets_hold, hold;
	bool sets_until;
	struct qtime until;
};

/* How a request is refused. */
struct refusal {
	unsigned status;
	const char *error_class;	/* a constant, or a text of the switches */
	const char *why;
};

/* The body of a PATCH of file-lock. 0, or -EINVAL with *ret_refusal. */
int qlock_change_parse(const char *body, size_t len_bytes, const struct switches *s, struct qlock_change *ret_change,
	struct refusal *ret_refusal);

/* Applies a change, all of it or nothing; -EPERM: *ret_refusal. Keys that are not in the change are left alone; an end is only
 * ever moved on. */
int qlock_apply(struct qlock *lock, const struct qlock_change *change, struct qtime now, const struct switches *s,
	struct refusal *ret_refusal);

/* A hold, or an end that has not passed. */
bool qlock_in_force(const struct qlock *lock, struct qtime now);

/* {"legal_hold": ..., "retention_period": ... or null}. */
json_t *qlock_json(const struct qlock *lock, struct qtime now, const struct switches *s);

/* The refusal that a switch names, `why` beside it. */
struct refusal refusal_of(const struct switches *s, enum switch_id id, const char *why);

#endif
