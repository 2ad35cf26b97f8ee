/* What a row that waits is to tell the cluster. Pure. */
#ifndef WORMFS_UPSTREAM_PLAN_H
#define WORMFS_UPSTREAM_PLAN_H

#include "lockstore/ledger_push.h"
#include "lockstore/upstream/reply.h"

/* A cluster knows dates only: what of a retention that is infinite, or unspecified? */
struct push_undated {
	enum { PUSH_UNDATED_FAIL, PUSH_UNDATED_HOLD, PUSH_UNDATED_DATE } how;
	int64_t date_s;		/* DATE */
};
/* "fail", "hold", or a date as retention_parse() has them. -EINVAL: neither. */
int push_undated_parse(const char *text, struct push_undated *ret_undated);

struct push_plan {
	struct upstream_lock set;		/* exactly the keys that are ours */
	bool release;				/* "legal_hold": false */
	struct ledger_push_result result;	/* what its proof proves */
	const char *settle;			/* not NULL: why the end of retention cannot be told; the rest of the plan is good */
};

/* now_s: by the clock of retention, which decides whether a date is past. */
void push_plan_make(const struct ledger_push_row *row, const struct push_undated *undated, int64_t now_s, struct push_plan *ret_plan);
bool push_plan_is_empty(const struct push_plan *plan);
/* Has the cluster what the plan wants? */
bool push_plan_is_met(const struct push_plan *plan, const struct upstream_lock *have);

#endif
