/* Rows on their way to a cluster, as JSON. */
#include "lockstore/push_json.h"

#include "lockstore/retention.h"

static json_t *time_json(int64_t t_s)
{
	char text[RETENTION_TEXT_BYTES];

	retention_format_until(t_s, text);
	return json_string(text);
}

json_t *push_row_json(const struct ledger_push_row *row)
{
	bool again = row->waits && row->due_ms > 0, known = row->has_pushed_until && row->state != LEDGER_PUSH_SETTLED;

	return json_pack("{s:s, s:o, s:b, s:o, s:b, s:i, s:o, s:o, s:i, s:o}", "state", ledger_push_state_name(row),
			 "until", known ? time_json(row->pushed_until_s) : json_null(), "hold", row->pushed_hold == LEDGER_HOLD_PUSHED,
			 "want", time_json(row->until_s), "want_hold", row->held, "status", row->status,
			 "error_class", row->class ? json_string(row->class) : json_null(),
			 "error", row->error ? json_string(row->error) : json_null(), "attempts", (int)row->tries,
			 "next_try", again ? time_json(row->due_ms / 1000) : json_null());
}
