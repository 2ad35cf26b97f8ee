/* What a test asks of the stand-in itself, below /mock/: no token, no journal, no faults, no delay. */
#include "mockarchive/mockqumulo/mock.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mockarchive/http_url.h"

static void bad(struct exchange *x, const char *why)
{
	exchange_refuse(x, 400, "mock_control_error", why);
}

static void reply_ok(struct exchange *x)
{
	x->json = json_pack("{s:b}", "ok", 1);
}

/* ---- switches and clock ---- */

static void get_switches(struct exchange *x, json_t *body)
{
	x->json = switches_json(&x->mock->switches);
}

static void put_switches(struct exchange *x, json_t *body)
{
	struct switches changed = x->mock->switches;
	const char *name, *expected = "";
	json_t *value;
	char text[64];

	json_object_foreach(body, name, value) {
		const char *given = json_string_value(value);

		if (json_is_integer(value)) {
			snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
			given = text;
		}
		if (!given || switches_set(&changed, name, given, &expected) < 0) {
			bad(x, given && !*expected ? "no such switch" : expected);
			return;
		}
	}
	x->mock->switches = changed;
	get_switches(x, NULL);
}

static void get_clock(struct exchange *x, json_t *body)
{
	struct qtime now = mock_now(x->mock);
	char text[QTIME_TEXT_BYTES];

	qtime_format(now, text);
	x->json = json_pack("{s:s, s:I, s:b}", "now", text, "now_s", (json_int_t)now.s, "frozen", x->mock->frozen);
}

static int64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* {"now": "2030-01-01T00:00:00Z"}, {"advance_s": 60}, {"wall": true}, {"frozen": true}; one of the first three, and the last. */
static void put_clock(struct exchange *x, json_t *body)
{
	json_t *now = json_object_get(body, "now"), *advance = json_object_get(body, "advance_s"), *frozen = json_object_get(body, "frozen");
	struct qtime t = mock_now(x->mock);
	bool freeze = frozen ? json_is_true(frozen) : x->mock->frozen;
	int64_t ns;

	if (now && (!json_is_string(now) || qtime_parse(json_string_value(now), true, &t) < 0)) {
		bad(x, "now is a time like 2030-01-02T03:04:05Z");
		return;
	}
	if (advance && (!json_is_integer(advance) || llabs(json_integer_value(advance)) > 8000000000LL)) {
		bad(x, "advance_s is a number of seconds");
		return;
	}
	ns = t.s * 1000000000LL + t.ns;
	if (json_is_true(json_object_get(body, "wall")))
		ns = wall_ns();
	/* The last that 64 bits of nanoseconds can say is in 2262. */
	if (__builtin_add_overflow(ns, json_integer_value(advance) * 1000000000LL, &ns) || t.s > INT64_MAX / 1000000000 - 1) {
		bad(x, "the clock ends in the year 2262");
		return;
	}
	x->mock->frozen = freeze;
	x->mock->offset_ns = freeze ? ns : ns - wall_ns();
	get_clock(x, NULL);
}

/* ---- faults ---- */

static void get_faults(struct exchange *x, json_t *body)
{
	x->json = faults_json(x->mock->faults);
}

static void post_faults(struct exchange *x, json_t *body)
{
	const char *why;
	unsigned id;

	if (faults_add(x->mock->faults, body, &id, &why) < 0)
		bad(x, why);
	else
		x->json = json_pack("{s:i}", "id", id);
}

static void delete_faults(struct exchange *x, json_t *body)
{
	const char *slash = strchr(x->route.rest, '/');
	unsigned long id = slash ? strtoul(slash + 1, NULL, 10) : 0;

	if ((slash && (id == 0 || id > UINT_MAX)) || faults_remove(x->mock->faults, id) < 0)
		exchange_refuse(x, 404, "mock_control_error", "no such fault");
	else
		reply_ok(x);
}

/* ---- the journal ---- */

static bool take_number(struct exchange *x, const char *name, uint64_t *number)
{
	char *text, *end;

	if (http_query_get(x->query, name, &text) < 0)
		return true;
	*number = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end) {
		bad(x, "since and limit are numbers");
		free(text);
		return false;
	}
	free(text);
	return true;
}

static void get_journal(struct exchange *x, json_t *body)
{
	uint64_t since = 0, limit = UINT64_MAX;
	char *method = NULL, *path = NULL;

	if (!take_number(x, "since", &since) || !take_number(x, "limit", &limit))
		return;
	(void)http_query_get(x->query, "method", &method);	/* none: all */
	(void)http_query_get(x->query, "path", &path);
	x->json = journal_json(x->mock->journal, since, method, path, limit);
	free(method);
	free(path);
}

static void delete_journal(struct exchange *x, json_t *body)
{
	journal_reset(x->mock->journal);
	reply_ok(x);
}

static void get_counts(struct exchange *x, json_t *body)
{
	x->json = journal_counts(x->mock->journal);
}

/* ---- sessions, locks, watchers ---- */

static void get_sessions(struct exchange *x, json_t *body)
{
	x->json = json_pack("{s:i}", "logins", (int)sessions_count(x->mock->sessions));
}

static void delete_sessions(struct exchange *x, json_t *body)
{
	sessions_expire(x->mock->sessions, exchange_flag(x, "tokens"));
	reply_ok(x);
}

static void post_tokens(struct exchange *x, json_t *body)
{
	const char *text = json_string_value(json_object_get(body, "token"));

	if (sessions_add_token(x->mock->sessions, text, &text) < 0)
		bad(x, "too many tokens");
	else
		x->json = json_pack("{s:s}", "bearer_token", text);
}

static void get_locks(struct exchange *x, json_t *body)
{
	x->json = files_locks_json(x->mock->files, mock_now(x->mock), &x->mock->switches);
}

static void delete_locks(struct exchange *x, json_t *body)
{
	files_unlock_all(x->mock->files);
	reply_ok(x);
}

static void get_watchers(struct exchange *x, json_t *body)
{
	x->json = notify_json(x->mock->notify);
}

static void delete_watchers(struct exchange *x, json_t *body)
{
	notify_drop(x->mock->notify, exchange_flag(x, "behind"));
	reply_ok(x);
}

static const struct {
	const char *method, *name;
	bool wants_body;
	void (*fn)(struct exchange *x, json_t *body);
	const char *help;
} verbs[] = {
	{ "GET", "switches", false, get_switches, "all switches" },
	{ "PUT", "switches", true, put_switches, "sets those that are given" },
	{ "GET", "clock", false, get_clock, "now, and whether it stands" },
	{ "PUT", "clock", true, put_clock, "now, advance_s or wall; frozen" },
	{ "GET", "faults", false, get_faults, "all faults, with how often each fired" },
	{ "POST", "faults", true, post_faults, "kind; method, path, nth, skip, times, probability, seed; ms, bytes, retry_after, ..." },
	{ "DELETE", "faults", false, delete_faults, "all, or /ID" },
	{ "GET", "journal", false, get_journal, "?since=&method=&path=&limit=" },
	{ "DELETE", "journal", false, delete_journal, "forgets it" },
	{ "GET", "counts", false, get_counts, "requests by method, endpoint and status" },
	{ "GET", "sessions", false, get_sessions, "how many are logged in" },
	{ "DELETE", "sessions", false, delete_sessions, "ends all logins; ?tokens=true: and access tokens" },
	{ "POST", "tokens", true, post_tokens, "a new access token, or this one" },
	{ "GET", "locks", false, get_locks, "all locks" },
	{ "DELETE", "locks", false, delete_locks, "takes all locks away, as no cluster would" },
	{ "GET", "watchers", false, get_watchers, "who is notified of what" },
	{ "DELETE", "watchers", false, delete_watchers, "ends all notifications; ?behind=true: with the error of one that is too slow" },
};

static void index_page(struct exchange *x)
{
	json_t *all = json_array();
	char text[200];

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		snprintf(text, sizeof(text), "%s /mock/%s: %s", verbs[i].method, verbs[i].name, verbs[i].help);
		json_array_append_new(all, json_string(text));
	}
	x->json = json_pack("{s:s, s:o}", "mockqumulo", "a stand-in for Qumulo's REST interface, written from documents", "verbs", all);
}

void control_request(struct exchange *x)
{
	size_t len = strcspn(x->route.rest, "/");
	json_t *body = NULL;

	if (!*x->route.rest) {
		index_page(x);
		return;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].method, x->method) != 0 || strlen(verbs[i].name) != len || strncmp(verbs[i].name, x->route.rest, len) != 0)
			continue;
		if (verbs[i].wants_body) {
			body = json_loadb(x->body, x->body_len, 0, NULL);
			if (!json_is_object(body)) {
				json_decref(body);
				bad(x, "the body is not a JSON object");
				return;
			}
		}
		verbs[i].fn(x, body);
		json_decref(body);
		return;
	}
	exchange_refuse(x, 404, "mock_control_error", "no such verb; GET /mock/ lists them");
}
