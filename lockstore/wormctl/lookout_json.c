/* What the page is told. Fields are named one by one: what a daemon will say of itself one day does not go out by itself. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/wormctl/lookout_private.h"

void lookout_public_name(const char *name, char *out, size_t size)
{
	const char *host = strstr(name, "://"), *at, *p;
	size_t len = strlen(name), start;

	if (!host) {
		snprintf(out, size, "%s", name);
		return;
	}
	host += 3;
	start = (size_t)(host - name);
	len = start + strcspn(host, "?#");
	at = NULL;
	for (p = host; p < name + len && *p != '/'; p++)
		if (*p == '@')
			at = p + 1;
	if (at)
		snprintf(out, size, "%.*s%.*s", (int)start, name, (int)(name + len - at), at);
	else
		snprintf(out, size, "%.*s", (int)len, name);
}

/* The named fields, as they are; what is not there is null. */
static json_t *some_of(const json_t *object, const char *const *names)
{
	json_t *some = json_object();

	for (; json_is_object(object) && some && *names; names++) {
		json_t *value = json_object_get(object, *names);

		json_object_set_new(some, *names, value ? json_incref(value) : json_null());
	}
	return json_is_object(object) ? some : (json_decref(some), json_null());
}

static json_t *public_name(const char *name)
{
	char text[512];

	lookout_public_name(name, text, sizeof(text));
	return json_text(text);
}

static json_t *daemon_json(const struct lookout *l)
{
	static const char *const names[] = { "version", "pid", "share", "mountpoint", "mode", "retention", "min", "max", "hold", "commit", "sync",
					     "shared", "rules", "locked", "refused", "inodes", "writers", "closing", "descriptors", NULL };
	bool silent = lookout_daemon_silent_locked(l);
	json_t *json = l->mount ? some_of(l->mount, names) : json_object();

	json_object_set_new(json, "state", json_string(silent ? "silent" : l->mount ? "mounted" : "not mounted"));
	json_object_set_new(json, "why", silent ? json_string("it does not answer") : l->mount ? json_null() : json_text(l->daemon_error));
	return json;
}

static json_t *clock_json(const struct lookout *l)
{
	static const char *const names[] = { "state", "system", "behind", "budget", "synchronised", NULL };
	json_t *json = some_of(json_object_get(l->mount, "clock_state"), names);

	if (json_is_object(json)) {
		json_object_set_new(json, "source", json_text(json_get_text(l->mount, "clock")));
		json_object_set_new(json, "now", json_text(json_get_text(l->mount, "now")));
	}
	return json;
}

static json_t *push_json(const struct lookout *l)
{
	static const char *const names[] = { "root", "state", "reason", "since", "next_try", "in_flight", "waiting", "failed", "told", "refused",
					     "requests", "skew", NULL };
	const json_t *push = json_object_get(l->mount, "push");
	json_t *json = some_of(push, names);

	if (json_is_object(json))
		json_object_set_new(json, "target", public_name(json_get_text(push, "target")));
	else if (!l->mount && l->has_push && (l->push_waiting || l->push_failed)) {
		json_decref(json);
		json = json_pack("{s:s, s:I, s:I}", "state", "not mounted", "waiting", (json_int_t)l->push_waiting, "failed",
				 (json_int_t)l->push_failed);
	}
	return json;
}

static json_t *sinks_json(const json_t *sinks)
{
	static const char *const names[] = { "seq", "sent", "dropped", "missed", "error", NULL };
	json_t *list = json_array(), *one;
	const json_t *sink;
	size_t i;

	json_array_foreach(sinks, i, sink) {
		one = some_of(sink, names);
		json_object_set_new(one, "name", public_name(json_get_text(sink, "name")));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *events_json(const struct lookout *l)
{
	static const char *const names[] = { "state", "strict", "noted", "dropped", "oldest", "next", "bytes", "error", NULL };
	const json_t *events = json_object_get(l->mount, "events");
	json_t *json = json_is_object(events) ? some_of(events, names) : json_object();

	json_object_set_new(json, "ring", json_boolean(l->has_ring));
	json_object_set_new(json, "ring_error", l->ring_error[0] ? json_text(l->ring_error) : json_null());
	json_object_set_new(json, "missed", json_integer((json_int_t)l->missed));
	json_object_set_new(json, "sinks", sinks_json(json_object_get(events, "sinks")));
	return json;
}

/* Oldest first; the last one is the minute that runs. */
static json_t *refusals_json(const struct lookout *l)
{
	int64_t now = time(NULL) / 60;
	json_t *minutes = json_array();

	for (int i = LOOKOUT_MINUTES - 1; i >= 0; i--)
		json_array_append_new(minutes, json_integer((json_int_t)lookout_refused_locked(l, now - i)));
	return json_pack("{s:s, s:I, s:o}", "source", l->has_ring ? "events" : "counters", "minute", (json_int_t)now, "minutes", minutes);
}

static json_t *days_json(const struct census *c)
{
	json_t *days = json_array();

	for (unsigned i = 0; i < LOOKOUT_DAYS; i++) {
		time_t t = c->now_s + i * 86400LL;
		char date[16];
		struct tm tm;

		gmtime_r(&t, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d", &tm);
		json_array_append_new(days, json_pack("{s:s, s:I}", "day", date, "files", (json_int_t)c->days[i]));
	}
	return days;
}

static json_t *months_json(const struct census *c)
{
	json_t *months = json_array();
	char name[16];

	for (unsigned i = 0; i < CENSUS_MONTHS; i++) {
		if (!c->months[i])
			continue;
		census_month_name(c, i, name);
		json_array_append_new(months, json_pack("{s:s, s:I}", "month", name, "files", (json_int_t)c->months[i]));
	}
	return months;
}

static json_t *locks_json(const struct lookout *l)
{
	const struct census *c = &l->census;
	json_t *rules = json_array();

	for (unsigned i = 0; i < c->nrules; i++)
		json_array_append_new(rules, json_pack("{s:o, s:I}", "rule", json_text(c->rules[i].name), "files", (json_int_t)c->rules[i].files));
	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o, s:o, s:o}", "complete", c->complete, "counted_at",
			 (json_int_t)c->now_s, "files", (json_int_t)c->files, "held", (json_int_t)c->held, "expired", (json_int_t)c->expired,
			 "infinite", (json_int_t)c->infinite, "unspecified", (json_int_t)c->unspecified, "later", (json_int_t)c->later,
			 "rules", rules, "other_rules", (json_int_t)c->other_rules, "days", days_json(c), "months", months_json(c),
			 "error", l->census_error[0] ? json_text(l->census_error) : json_null());
}

json_t *lookout_state(struct lookout *l)
{
	static const char *const ledger[] = { "state", "queued", "written", "dropped", "error", NULL };
	static const char *const audit[] = { "state", "seq", "written", "queued", "lost", "repeats", "bytes", "error", NULL };
	static const char *const digest[] = { "enabled", "pending", "done", "failed", NULL };
	json_t *json, *problems;

	pthread_mutex_lock(&l->lock);
	problems = json_object_get(l->mount, "problems");
	json = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "share", json_text(l->share), "daemon", daemon_json(l),
			 "problems", problems ? json_incref(problems) : json_array(), "clock", clock_json(l), "push", push_json(l), "events",
			 events_json(l), "refusals", refusals_json(l), "locks", locks_json(l), "ledger",
			 some_of(json_object_get(l->mount, "ledger"), ledger), "audit", some_of(json_object_get(l->mount, "audit"), audit),
			 "digest", some_of(json_object_get(l->mount, "digest"), digest));
	pthread_mutex_unlock(&l->lock);
	return json;
}
