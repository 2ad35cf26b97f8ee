/* The rules of a lock. Where the documents are silent the switches decide. */
#include "mockarchive/mockqumulo/lock_rules.h"

#include <errno.h>
#include <string.h>

struct refusal refusal_of(const struct switches *s, enum switch_id id, const char *why)
{
	return (struct refusal){ switch_value(s, id), switch_error_class(s, id), why };
}

static int refuse(struct refusal *ret_refusal, const char *why)
{
	*ret_refusal = (struct refusal){ 400, "decode_error", why };
	return -EINVAL;
}

/* 1: as if the key were not there. */
static int take_null(const struct switches *s, struct refusal *ret_refusal)
{
	if (!switch_value(s, SW_NULL_VALUE))
		return 1;
	*ret_refusal = refusal_of(s, SW_NULL_VALUE, "null is no value");
	return -EINVAL;
}

static int take_until(json_t *value, const struct switches *s, struct qlock_change *change, struct refusal *ret_refusal)
{
	const char *text = json_string_value(value);

	if (!text)
		return refuse(ret_refusal, "retention_period is not a string");
	if (qtime_parse(text, false, &change->until) < 0) {
		if (qtime_parse(text, true, &change->until) < 0)
			return refuse(ret_refusal, "retention_period is not a time like 2030-01-02T03:04:05Z");
		if (switch_value(s, SW_OFFSET)) {
			*ret_refusal = refusal_of(s, SW_OFFSET, "retention_period is not in UTC");
			return -EINVAL;
		}
	}
	change->sets_until = true;
	return 0;
}

static int take_key(const char *key, json_t *value, const struct switches *s, struct qlock_change *change, struct refusal *ret_refusal)
{
	bool is_hold = strcmp(key, "legal_hold") == 0, is_until = strcmp(key, "retention_period") == 0;
	int r;

	if (!is_hold && !is_until) {
		if (!switch_value(s, SW_UNKNOWN_KEY))
			return 0;
		*ret_refusal = refusal_of(s, SW_UNKNOWN_KEY, "unknown key");
		return -EINVAL;
	}
	if (json_is_null(value)) {
		r = take_null(s, ret_refusal);
		return r < 0 ? r : 0;
	}
	if (is_until)
		return take_until(value, s, change, ret_refusal);
	if (!json_is_boolean(value))
		return refuse(ret_refusal, "legal_hold is not a boolean");
	change->sets_hold = true;
	change->hold = json_is_true(value);
	return 0;
}

int qlock_change_parse(const char *body, size_t len, const struct switches *s, struct qlock_change *ret_change, struct refusal *ret_refusal)
{
	json_t *object = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL), *value;
	struct qlock_change change = { 0 };
	const char *key;
	int r = 0;

	if (!json_is_object(object)) {
		json_decref(object);
		return refuse(ret_refusal, "the body is not a JSON object");
	}
	json_object_foreach(object, key, value) {
		r = take_key(key, value, s, &change, ret_refusal);
		if (r < 0)
			break;
	}
	json_decref(object);
	if (r == 0 && !change.sets_hold && !change.sets_until && switch_value(s, SW_NO_KEY)) {
		*ret_refusal = refusal_of(s, SW_NO_KEY, "nothing to set");
		r = -EINVAL;
	}
	if (r == 0)
		*ret_change = change;
	return r;
}

bool qlock_in_force(const struct qlock *lock, struct qtime now)
{
	return lock->hold || (lock->retained && qtime_compare(lock->until, now) > 0);
}

int qlock_apply(struct qlock *lock, const struct qlock_change *change, struct qtime now, const struct switches *s, struct refusal *ret_refusal)
{
	bool running = lock->retained && qtime_compare(lock->until, now) > 0;
	int order = running ? qtime_compare(change->until, lock->until) : 1;

	if (change->sets_until) {
		enum switch_id id = SW_COUNT;

		if (order < 0)
			id = SW_SHORTEN;
		else if (order == 0)
			id = SW_SAME_END;
		else if (qtime_compare(change->until, now) <= 0)
			id = SW_PAST_END;
		if (id != SW_COUNT && switch_value(s, id)) {
			*ret_refusal = refusal_of(s, id, id == SW_SHORTEN ? "retention can only be extended" :
				id == SW_SAME_END ? "the retention period is set already" : "the retention period has passed");
			return -EPERM;
		}
		if (order > 0) {
			lock->retained = true;
			lock->until = change->until;
		}
	}
	if (change->sets_hold)
		lock->hold = change->hold;
	return 0;
}

json_t *qlock_json(const struct qlock *lock, struct qtime now, const struct switches *s)
{
	bool shown = lock->retained && (switch_value(s, SW_EXPIRED) == EXPIRED_SHOWN || qtime_compare(lock->until, now) > 0);
	char text[QTIME_TEXT_BYTES];

	qtime_format(lock->until, text);
	return json_pack("{s:b, s:o}", "legal_hold", lock->hold, "retention_period", shown ? json_string(text) : json_null());
}
