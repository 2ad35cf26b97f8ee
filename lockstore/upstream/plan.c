/* From what the ledger has to what is sent. Two rules hold whatever the row says: no date that is past, no release but one that
 * somebody asked for. */
#include "lockstore/upstream/plan.h"

#include <errno.h>
#include <string.h>

#include "lockstore/retention.h"

int push_undated_parse(const char *text, struct push_undated *ret_undated)
{
	struct retention date;

	*ret_undated = (struct push_undated){ .how = PUSH_UNDATED_FAIL };
	if (strcmp(text, "fail") == 0)
		return 0;
	if (strcmp(text, "hold") == 0) {
		ret_undated->how = PUSH_UNDATED_HOLD;
		return 0;
	}
	if (retention_parse(text, &date) < 0 || date.kind != RETENTION_DATE)
		return -EINVAL;
	*ret_undated = (struct push_undated){ .how = PUSH_UNDATED_DATE, .date_s = date.seconds };
	return 0;
}

static bool is_undated(int64_t until_s)
{
	return until_s == RETENTION_INFINITE || until_s == RETENTION_UNSPECIFIED;
}

static void plan_end(const struct ledger_push_row *row, const struct push_undated *undated, int64_t now_s, struct push_plan *plan)
{
	int64_t end_s = row->until_s;

	plan->result.until = true;
	plan->result.until_s = row->until_s;
	if (is_undated(row->until_s)) {
		if (undated->how == PUSH_UNDATED_HOLD) {
			plan->set.hold = true;
			plan->result.hold = true;
			return;
		}
		if (undated->how == PUSH_UNDATED_FAIL) {
			plan->settle = row->until_s == RETENTION_INFINITE ? "retention is infinite, and a cluster takes dates only (push_undated)" :
									    "retention is unspecified, there is no date to push yet (push_undated)";
			plan->result.until = false;
			return;
		}
		end_s = undated->date_s;
	}
	if (end_s <= now_s) {
		plan->settle = "its retention had ended before the cluster could be told";
		plan->result.until = false;
		return;
	}
	plan->set.has_until = true;
	plan->set.until_s = end_s;
}

void push_plan_make(const struct ledger_push_row *row, const struct push_undated *undated, int64_t now_s, struct push_plan *ret_plan)
{
	bool hold_is_end = undated->how == PUSH_UNDATED_HOLD && is_undated(row->until_s);

	*ret_plan = (struct push_plan){ .release = false };
	if (!row->has_pushed_until || row->until_s > row->pushed_until_s ||
	    (row->state == LEDGER_PUSH_SETTLED && row->until_s != row->pushed_until_s))
		plan_end(row, undated, now_s, ret_plan);
	if (row->held && row->pushed_hold != LEDGER_HOLD_PUSHED) {
		ret_plan->set.hold = true;
		ret_plan->result.hold = true;
	} else if (!row->held && row->pushed_hold != LEDGER_HOLD_NOT_PUSHED && row->release) {
		if (hold_is_end)
			ret_plan->result.keep_hold = true;
		else
			ret_plan->release = ret_plan->result.release = true;
	}
}

bool push_plan_is_empty(const struct push_plan *plan)
{
	return !plan->set.has_until && !plan->set.hold && !plan->release;
}

bool push_plan_is_met(const struct push_plan *plan, const struct upstream_lock *have)
{
	return upstream_lock_covers(have, &plan->set) && !(plan->release && have->hold);
}
