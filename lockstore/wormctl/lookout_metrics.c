/* The numbers in the text format of Prometheus: base units, counters end in _total, what is not known is left out.
 * Source: the exposition formats and the naming practices of Prometheus; `promtool check metrics` in the tests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/retention.h"
#include "lockstore/wormctl/lookout_private.h"

struct source {
	const char *name, *type, *help;
	const char *object, *field;	/* of user.worm.mount; object NULL: at its top */
};

static const struct source sources[] = {
	{ "wormfs_locked_files_total", "counter", "Files that were locked since the mount.", NULL, "locked" },
	{ "wormfs_inodes", "gauge", "Inodes that the kernel knows.", NULL, "inodes" },
	{ "wormfs_writers", "gauge", "Handles that may write.", NULL, "writers" },
	{ "wormfs_closing_files", "gauge", "Locked files that a program may still write to.", NULL, "closing" },
	{ "wormfs_descriptors", "gauge", "Lower files that are kept open.", "descriptors", "open" },
	{ "wormfs_descriptors_limit", "gauge", "Lower files that may be kept open.", "descriptors", "limit" },
	{ "wormfs_ledger_queued_rows", "gauge", "Rows that wait for the ledger.", "ledger", "queued" },
	{ "wormfs_ledger_written_rows_total", "counter", "Rows written to the ledger since the mount.", "ledger", "written" },
	{ "wormfs_ledger_dropped_rows_total", "counter", "Rows that the ledger lacks until wormctl reindex.", "ledger", "dropped" },
	{ "wormfs_audit_last_seq", "gauge", "Number of the last line of the audit log.", "audit", "seq" },
	{ "wormfs_audit_written_lines_total", "counter", "Lines written to the audit log since the mount.", "audit", "written" },
	{ "wormfs_audit_queued_entries", "gauge", "Entries that wait for the audit log.", "audit", "queued" },
	{ "wormfs_audit_lost_entries_total", "counter", "Entries that the audit log lost since the mount.", "audit", "lost" },
	{ "wormfs_audit_repeats_total", "counter", "Entries that were counted into the line of another since the mount.", "audit", "repeats" },
	{ "wormfs_audit_file_bytes", "gauge", "Size of the file of the audit log that is written.", "audit", "bytes" },
	{ "wormfs_events_noted_total", "counter", "Events that were noted.", "events", "noted" },
	{ "wormfs_events_dropped_total", "counter", "Events that were dropped because the queue was full.", "events", "dropped" },
	{ "wormfs_events_ring_bytes", "gauge", "Size of the ring of events.", "events", "bytes" },
	{ "wormfs_events_oldest_seq", "gauge", "Number of the oldest event that the ring has.", "events", "oldest" },
	{ "wormfs_events_next_seq", "gauge", "Number of the event that comes next.", "events", "next" },
	{ "wormfs_digests_pending", "gauge", "Locked files whose SHA-256 is to be taken.", "digest", "pending" },
	{ "wormfs_digests_taken_total", "counter", "SHA-256 sums taken since the mount.", "digest", "done" },
	{ "wormfs_digests_failed_total", "counter", "SHA-256 sums that could not be taken since the mount.", "digest", "failed" },
	{ "wormfs_push_in_flight_requests", "gauge", "Requests to the cluster without an answer yet.", "push", "in_flight" },
	{ "wormfs_push_waiting_files", "gauge", "Locks that the cluster is to be told of.", "push", "waiting" },
	{ "wormfs_push_failed_files", "gauge", "Locks that the cluster refused.", "push", "failed" },
	{ "wormfs_push_told_files_total", "counter", "Locks that the cluster confirmed since the mount.", "push", "told" },
	{ "wormfs_push_refused_files_total", "counter", "Locks that the cluster refused since the mount.", "push", "refused" },
	{ "wormfs_push_requests_total", "counter", "Requests to the cluster since the mount.", "push", "requests" },
	{ "wormfs_push_clock_skew_seconds", "gauge", "How far the date of the cluster is from ours.", "push", "skew" },
	{ "wormfs_quota_limits", "gauge", "Limits of -o quota.", "quota", "sections" },
	{ "wormfs_quota_limits_soft", "gauge", "Of these, over soft and within grace.", "quota", "soft" },
	{ "wormfs_quota_limits_over", "gauge", "Of these, used up.", "quota", "over" },
	{ "wormfs_quota_refused_requests_total", "counter", "Requests that a limit refused since the mount.", "quota", "refused" },
	{ "wormfs_shortage_quota_exceeded_total", "counter", "Requests that the lower filesystem failed with EDQUOT since the mount.", "shortage", "edquot" },
	{ "wormfs_shortage_no_space_total", "counter", "Requests that the lower filesystem failed with ENOSPC since the mount.", "shortage", "enospc" },
	{ "wormfs_shortage_full_at_close_total", "counter", "Files that were closed with a full quota or filesystem since the mount.", "shortage",
	  "full_at_close" },
	{ "wormfs_shortage_untold_total", "counter", "Shortages that nobody was told of since the mount: too many at once.", "shortage", "untold" },
	{ "wormfs_quota_notify_lost_total", "counter", "Notices of quota that no provider was given since the mount.", "quota_notify", "lost" },
	{ "wormfs_quota_listen_warnings_total", "counter", "Warnings of quota that the kernel sent since the mount.", "quota_listen", "warnings" },
	{ "wormfs_quota_listen_other_device_total", "counter", "Of other filesystems, since the mount.", "quota_listen", "other_device" },
	{ "wormfs_quota_listen_not_kernel_total", "counter", "Datagrams that did not come from the kernel, since the mount.", "quota_listen", "not_kernel" },
	{ "wormfs_quota_listen_unreadable_total", "counter", "Warnings of a form that is not known, since the mount.", "quota_listen", "unreadable" },
	{ "wormfs_quota_listen_overruns_total", "counter", "Times that warnings were lost because they came too fast, since the mount.", "quota_listen",
	  "overruns" },
	{ "wormfs_clock_behind_seconds", "gauge", "How far the date of the system is ahead of the clock of retention.", "clock_state", "behind" },
	{ "wormfs_clock_budget_seconds", "gauge", "How much of the date of the system may still be believed.", "clock_state", "budget" },
};

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_one(FILE *out, const char *name, const char *type, const char *help, long long value)
{
	put_head(out, name, type, help);
	fprintf(out, "%s %lld\n", name, value);
}

/* The value of a label: backslash, quote and newline are escaped; what is no UTF-8 is U+FFFD. */
static void put_label(FILE *out, const char *text)
{
	json_t *valid = json_text(text);

	for (const char *p = json_string_value(valid); p && *p; p++) {
		if (*p == '\\' || *p == '"')
			putc('\\', out);
		if (*p == '\n')
			fputs("\\n", out);
		else
			putc(*p, out);
	}
	json_decref(valid);
}

static void put_labelled(FILE *out, const char *name, const char *label, const char *text, long long value)
{
	fprintf(out, "%s{%s=\"", name, label);
	put_label(out, text);
	fprintf(out, "\"} %lld\n", value);
}

static void put_numbers(FILE *out, const json_t *mount)
{
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		const struct source *s = &sources[i];
		const json_t *value = json_object_get(s->object ? json_object_get(mount, s->object) : mount, s->field);

		if (json_is_integer(value))
			put_one(out, s->name, s->type, s->help, json_integer_value(value));
		else if (json_is_real(value)) {
			put_head(out, s->name, s->type, s->help);
			fprintf(out, "%s %.9g\n", s->name, json_real_value(value));
		}
	}
}

static void put_refused(FILE *out, const json_t *mount)
{
	static const char name[] = "wormfs_refused_requests_total";
	json_t *refused = json_object_get(mount, "refused"), *n;
	const char *op;

	if (!json_is_object(refused))
		return;
	put_head(out, name, "counter", "Requests that a lock refused since the mount, by operation.");
	json_object_foreach(refused, op, n)
		put_labelled(out, name, "operation", op, json_integer_value(n));
}

/* Each state that a part can be in, 1 for the one that it is in. */
static void put_states(FILE *out, const json_t *mount)
{
	static const struct { const char *object, *name, *help, *states[5]; } parts[] = {
		{ "ledger", "wormfs_ledger_state", "State of the ledger.", { "ok", "behind", "failing", "readonly" } },
		{ "audit", "wormfs_audit_state", "State of the audit log.", { "ok", "failing", "off" } },
		{ "events", "wormfs_events_state", "State of the event stream.", { "ok", "failing", "off" } },
		{ "push", "wormfs_push_state", "State of the cluster that locks are pushed to.", { "ok", "away", "refused" } },
		{ "clock_state", "wormfs_clock_state", "State of the clock of retention.", { "ok", "skewed", "movable" } },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const json_t *part = json_object_get(mount, parts[i].object);

		if (!json_is_object(part))
			continue;
		put_head(out, parts[i].name, "gauge", parts[i].help);
		for (const char *const *state = parts[i].states; *state; state++)
			put_labelled(out, parts[i].name, "state", *state, strcmp(json_get_text(part, "state"), *state) == 0);
	}
}

static void put_sinks(FILE *out, const json_t *mount)
{
	static const struct { const char *field, *name, *type, *help; } numbers[] = {
		{ "sent", "wormfs_events_sink_sent_total", "counter", "Events that a consumer was sent." },
		{ "dropped", "wormfs_events_sink_dropped_total", "counter", "Events that a consumer was not told of." },
		{ "missed", "wormfs_events_sink_missed_total", "counter", "Events that told a consumer one of several names." },
		{ NULL, "wormfs_events_sink_behind", "gauge", "Events that wait for a consumer in the ring." },
	};
	const json_t *events = json_object_get(mount, "events"), *sinks = json_object_get(events, "sinks"), *sink;
	char name[512];
	size_t k;

	for (size_t i = 0; json_array_size(sinks) && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		put_head(out, numbers[i].name, numbers[i].type, numbers[i].help);
		json_array_foreach(sinks, k, sink) {
			lookout_public_name(json_get_text(sink, "name"), name, sizeof(name));
			put_labelled(out, numbers[i].name, "sink", name, numbers[i].field ? json_get_int(sink, numbers[i].field) :
				     json_get_int(events, "next") - json_get_int(sink, "seq"));
		}
	}
}

static void put_providers(FILE *out, const json_t *mount)
{
	static const struct { const char *field, *name, *help; } numbers[] = {
		{ "told", "wormfs_quota_notify_told_total", "Notices of quota that a provider took since the mount." },
		{ "failed", "wormfs_quota_notify_failed_total", "Notices of quota that a provider failed with since the mount." },
	};
	const json_t *providers = json_object_get(json_object_get(mount, "quota_notify"), "providers"), *provider;
	size_t k;

	for (size_t i = 0; json_array_size(providers) && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		put_head(out, numbers[i].name, "counter", numbers[i].help);
		json_array_foreach(providers, k, provider) {
			fprintf(out, "%s{provider=\"%zu\",kind=\"", numbers[i].name, k + 1);
			put_label(out, json_get_text(provider, "kind"));
			fprintf(out, "\"} %lld\n", (long long)json_get_int(provider, numbers[i].field));
		}
	}
}

static void put_registered(FILE *out, const struct lookout *l)
{
	for (int field = 0; l->nregistered && field < 3; field++) {
		static const struct { const char *name, *type, *help; } all[] = {
			{ "wormfs_events_consumer_behind", "gauge", "Events that a registered consumer has not cleared." },
			{ "wormfs_events_consumer_cleared_total", "counter", "Events that a registered consumer cleared." },
			{ "wormfs_events_consumer_dropped_total", "counter", "Events that were overwritten before a registered consumer had them." },
		};

		put_head(out, all[field].name, all[field].type, all[field].help);
		for (unsigned i = 0; i < l->nregistered; i++) {
			const struct event_registered *r = &l->registered[i];

			put_labelled(out, all[field].name, "consumer", r->name, field == 0 ? (long long)(l->ring.next_seq - r->seq) :
				     field == 1 ? (long long)r->cleared : (long long)r->dropped);
		}
	}
}

static void put_mount(FILE *out, const json_t *mount)
{
	struct retention now;

	put_head(out, "wormfs_daemon_info", "gauge", "The daemon: always 1.");
	fputs("wormfs_daemon_info{version=\"", out);
	put_label(out, json_get_text(mount, "version"));
	fputs("\",mode=\"", out);
	put_label(out, json_get_text(mount, "mode"));
	fputs("\",commit=\"", out);
	put_label(out, json_get_text(mount, "commit"));
	fputs("\"} 1\n", out);
	put_one(out, "wormfs_problems", "gauge", "Things that need a person; wormctl status names them.",
		(long long)json_array_size(json_object_get(mount, "problems")));
	if (retention_parse(json_get_text(mount, "now"), &now) == 0 && now.kind == RETENTION_DATE)
		put_one(out, "wormfs_clock_timestamp_seconds", "gauge", "The clock of retention.", now.seconds);
	put_numbers(out, mount);
	put_refused(out, mount);
	put_states(out, mount);
	put_sinks(out, mount);
	put_providers(out, mount);
}

static void put_census(FILE *out, const struct lookout *l)
{
	const struct census *c = &l->census;

	put_one(out, "wormfs_census_complete", "gauge", "1 when all rows of the ledger are counted below.", c->complete);
	put_head(out, "wormfs_locks", "gauge", "Locked files in the ledger, by rule; \"\" is the mount options.");
	for (unsigned i = 0; i < c->nrules; i++)
		put_labelled(out, "wormfs_locks", "rule", c->rules[i].name, (long long)c->rules[i].files);
	if (c->other_rules)
		put_labelled(out, "wormfs_locks", "rule", "(others)", (long long)c->other_rules);
	put_one(out, "wormfs_locks_held", "gauge", "Locked files under a legal hold.", (long long)c->held);
	put_one(out, "wormfs_locks_expired", "gauge", "Locked files that may be deleted.", (long long)c->expired);
	put_head(out, "wormfs_locks_endless", "gauge", "Locked files without an end of their retention.");
	put_labelled(out, "wormfs_locks_endless", "until", "infinite", (long long)c->infinite);
	put_labelled(out, "wormfs_locks_endless", "until", "unspecified", (long long)c->unspecified);
}

int lookout_metrics(struct lookout *l, char **ret_text, size_t *ret_len)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool up;

	if (!out)
		return -ENOMEM;
	pthread_mutex_lock(&l->lock);
	up = l->mount && !lookout_daemon_silent_locked(l);
	put_one(out, "wormfs_up", "gauge", "1 when the share is mounted and its daemon answers.", up);
	if (up)
		put_mount(out, l->mount);
	put_one(out, "wormfs_events_ring", "gauge", "1 when there is a ring of events that can be read.", l->has_ring && !l->ring_error[0]);
	put_registered(out, l);
	put_one(out, "wormfs_watch_missed_events_total", "counter", "Events that this program did not see.", (long long)l->missed);
	put_one(out, "wormfs_ledger_readable", "gauge", "1 when the ledger can be read.", !l->census_error[0]);
	put_census(out, l);
	if (!up && l->has_push) {
		put_one(out, "wormfs_push_waiting_files", "gauge", "Locks that the cluster is to be told of.", (long long)l->push_waiting);
		put_one(out, "wormfs_push_failed_files", "gauge", "Locks that the cluster refused.", (long long)l->push_failed);
	}
	pthread_mutex_unlock(&l->lock);
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}
