/* A line is "[NUMBER: DATE] {...}", as isi_audit_viewer has it: id, timestamp in microseconds, payload with eventType and detailType.
 * Fields of users of another system (SIDs, client addresses) are not there: who asked is a user of this machine. */
#include "lockstore/wormctl/audit_viewer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/audit_files.h"
#include "lockstore/audit_type.h"
#include "lockstore/control.h"
#include "lockstore/events/event_json.h"
#include "lockstore/events/event_ring.h"
#include "lockstore/retention.h"

#define READ_BYTES 262144
#define NS 1000000000LL

/* What both sources come to. Texts live as long as the line or record. */
struct view {
	uint64_t seq, count;
	int64_t time_ns;
	struct audit_type type;
	const char *id, *path, *target, *comm, *detail;	/* any bytes; "": none. path, target: from the share's root, NULL: none */
	int64_t uid, gid, pid;		/* -1: not known */
	const char *result;		/* "OK", "EPERM" */
	int64_t serial;			/* 0: none */
};

/* Any second of a "Z" date; -EINVAL. */
static int seconds_of(const char *text, int64_t *ret_s)
{
	struct retention at;

	if (retention_parse(text, &at) < 0 || at.kind != RETENTION_DATE)
		return -EINVAL;
	*ret_s = at.seconds;
	return 0;
}

int audit_viewer_moment(const char *text, int64_t *ret_ns)
{
	char zoned[64];
	int64_t s;

	if (seconds_of(text, &s) < 0) {
		if (snprintf(zoned, sizeof(zoned), "%sZ", text) >= (int)sizeof(zoned) || seconds_of(zoned, &s) < 0)
			return -EINVAL;
	}
	if (s > INT64_MAX / NS || s < INT64_MIN / NS)
		return -EINVAL;
	*ret_ns = s * NS;
	return 0;
}

/* ---- one ---- */

static bool is_at_or_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool matches(const struct audit_viewer *v, const struct view *view)
{
	bool good = strcmp(view->result, "OK") == 0;

	if (view->time_ns < v->start_ns || view->time_ns >= v->end_ns || (v->by_uid && view->uid != (int64_t)v->uid))
		return false;
	if (v->success != v->failure && good != v->success)
		return false;
	if (v->types && !audit_type_matches(&view->type, v->types))
		return false;
	return !v->path || !*v->path || (view->path && is_at_or_below(view->path, v->path)) ||
	       (view->target && is_at_or_below(view->target, v->path));
}

static json_t *number_or_null(int64_t n, bool known)
{
	return known ? json_integer(n) : json_null();
}

/* "/a/b", and its bytes when they are no UTF-8 (control_path_encode). */
static void set_name(json_t *payload, const char *key, const char *encoded_key, const char *path)
{
	char *name = NULL, *encoded = NULL;
	json_t *text;

	if (!path || asprintf(&name, "/%s", path) < 0) {
		json_object_set_new(payload, key, json_null());
		return;
	}
	text = json_text(name);
	if (text && strcmp(json_string_value(text), name) != 0 && control_path_encode(path, &encoded) == 0)
		json_object_set_new(payload, encoded_key, json_text(encoded));
	json_object_set_new(payload, key, text);
	free(encoded);
	free(name);
}

static json_t *text_or_null(const char *text)
{
	return *text ? json_text(text) : json_null();
}

static int print_view(struct audit_viewer *v, const struct view *view)
{
	time_t second = view->time_ns / NS;
	char date[64], *text;
	json_t *payload, *all;
	struct tm tm;

	payload = json_pack("{s:s, s:s, s:s, s:b}", "protocol", "FUSE", "eventType", view->type.type, "detailType", view->type.detail_type,
			    "isDirectory", view->type.directory);
	if (!payload)
		return -ENOMEM;
	set_name(payload, "fileName", "fileNameEncoded", view->path);
	if (view->target)
		set_name(payload, "newFileName", "newFileNameEncoded", view->target);
	json_object_set_new(payload, "userID", number_or_null(view->uid, view->uid >= 0));
	json_object_set_new(payload, "groupID", number_or_null(view->gid, view->gid >= 0));
	json_object_set_new(payload, "processID", number_or_null(view->pid, view->pid > 0));
	json_object_set_new(payload, "command", text_or_null(view->comm));
	json_object_set_new(payload, "success", json_boolean(strcmp(view->result, "OK") == 0));
	json_object_set_new(payload, "result", json_text(view->result));
	json_object_set_new(payload, "detail", text_or_null(view->detail));
	json_object_set_new(payload, "serial", number_or_null(view->serial, view->serial > 0));
	json_object_set_new(payload, "count", json_integer((json_int_t)view->count));
	all = json_pack("{s:I, s:o, s:I, s:s, s:o}", "seq", (json_int_t)view->seq, "id", json_text(view->id), "timestamp",
			(json_int_t)(view->time_ns / 1000), "type", view->type.config ? "config" : "protocol", "payload", payload);
	text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	json_decref(all);
	if (!text)
		return -ENOMEM;
	gmtime_r(&second, &tm);
	strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", &tm);	/* wormctl sets no locale */
	if (v->json)
		puts(text);
	else
		printf("[%llu: %s] %s\n", (unsigned long long)view->seq, date, text);
	free(text);
	v->found++;
	return ferror(stdout) ? -EPIPE : 0;
}

/* ---- the audit log ---- */

/* "2026-11-24T19:00:00.123Z": the second by itself, since a date with a fraction is rounded up elsewhere. */
static int64_t wall_ns(const char *wall)
{
	char second[32];
	int64_t s;
	int ms = 0;

	if (strlen(wall) != 24 || sscanf(wall + 20, "%3dZ", &ms) != 1)
		return INT64_MIN;
	snprintf(second, sizeof(second), "%.19sZ", wall);
	return seconds_of(second, &s) < 0 ? INT64_MIN : s * NS + ms * 1000000LL;
}

static int show_line(void *arg, const struct audit_at *at, const char *text, size_t len, bool whole)
{
	struct audit_viewer *v = arg;
	json_t *line = whole ? json_loadb(text, len, 0, NULL) : NULL;
	const char *name = json_get_text(line, "event");
	struct view view = { 0 };
	enum audit_event event;
	char *decoded = NULL;
	int r = 0;

	if (!line || audit_event_parse(name, strlen(name), &event) < 0) {
		complain("%s line %llu: not a line of the audit log, left out; run wormctl audit verify", quoted(at->file),
			 (unsigned long long)at->line);
		v->left_out++;
		json_decref(line);
		return 0;
	}
	audit_type_of_line(event, json_get_text(line, "detail"), &view.type);
	if (*json_get_text(line, "path_encoded") && control_path_decode(json_get_text(line, "path_encoded"), &decoded) == 0)
		view.path = decoded;
	else if (json_is_string(json_object_get(line, "path")))
		view.path = json_get_text(line, "path");
	view.seq = (uint64_t)json_get_int(line, "seq");
	view.count = (uint64_t)json_get_int(line, "count");
	view.time_ns = wall_ns(json_get_text(line, "wall"));
	view.id = json_get_text(line, "hash");
	view.comm = json_get_text(line, "comm");
	view.detail = json_get_text(line, "detail");
	view.uid = json_get_int(line, "uid");
	view.gid = json_get_int(line, "gid");
	view.pid = json_get_int(line, "pid");
	view.serial = json_get_int(line, "serial");
	view.result = json_get_text(line, "result");
	if (matches(v, &view))
		r = print_view(v, &view);
	free(decoded);
	json_decref(line);
	return r;
}

/* ---- the ring ---- */

/* Texts of an event have no NUL behind them. */
struct texts {
	char path[EVENT_PATH_MAX + 1], target[EVENT_PATH_MAX + 1], comm[EVENT_COMM_MAX + 1], detail[EVENT_DETAIL_MAX + 1], id[64];
};

static void take_text(char *out, size_t size, const struct event_text *text)
{
	size_t len = text->len < size ? text->len : size - 1;

	memcpy(out, text->bytes, len);
	out[len] = '\0';
}

static int show_event(struct audit_viewer *v, const struct event *ev, struct texts *t)
{
	bool failed = ev->has & EVENT_HAS_ERROR && ev->error;
	struct view view = { .seq = ev->seq, .count = 1, .time_ns = ev->time_ns, .id = t->id, .comm = t->comm, .detail = t->detail,
			     .uid = -1, .gid = -1, .result = failed ? errno_name((int)ev->error) : "OK",
			     .serial = ev->has & EVENT_HAS_SERIAL ? (int64_t)ev->serial : 0 };

	t->comm[0] = t->detail[0] = '\0';
	snprintf(t->id, sizeof(t->id), "%u-%llu", ev->session, (unsigned long long)ev->seq);
	if (ev->type == EVENT_GAP) {
		v->left_out += ev->lost;
		view.count = ev->lost;
	}
	if (ev->has & EVENT_HAS_PATH) {
		take_text(t->path, sizeof(t->path), &ev->path);
		view.path = t->path;
	}
	if (ev->has & EVENT_HAS_TARGET) {
		take_text(t->target, sizeof(t->target), &ev->target);
		view.target = t->target;
	}
	if (ev->has & EVENT_HAS_COMM)
		take_text(t->comm, sizeof(t->comm), &ev->comm);
	if (ev->has & EVENT_HAS_DETAIL)
		take_text(t->detail, sizeof(t->detail), &ev->detail);
	if (ev->has & EVENT_HAS_ACTOR) {
		view.uid = ev->actor.uid;
		view.gid = ev->actor.gid;
		view.pid = ev->actor.pid;
	}
	audit_type_of_event(ev, &view.type);
	return matches(v, &view) ? print_view(v, &view) : 0;
}

static int show_records(struct audit_viewer *v, const char *buf, size_t len, struct texts *t)
{
	struct event ev;
	size_t at = 0;
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = event_ring_next(buf, len, &at, &ev, &v->left_out)) != 0)
		r = n < 0 ? (int)n : show_event(v, &ev, t);
	return r;
}

static int show_ring(struct audit_viewer *v, const char *state_dir, struct failure *f)
{
	struct texts *texts = malloc(sizeof(*texts));
	struct event_ring *ring = NULL;
	char path[4096], *buf = malloc(READ_BYTES);
	struct event_ring_stats stats;
	struct event_cursor cursor;
	uint64_t overwritten;
	ssize_t len = 1;
	int r;

	snprintf(path, sizeof(path), "%s/" EVENT_RING_FILE, state_dir);
	r = buf && texts ? event_ring_open_readonly(path, &ring) : -ENOMEM;
	if (r == 0) {
		event_ring_stats(ring, &stats);
		r = event_ring_seek(ring, 0, &cursor);
	}
	while (r == 0 && len > 0 && cursor.seq < stats.next_seq) {	/* not after what comes meanwhile */
		len = event_ring_read(ring, &cursor, buf, READ_BYTES, &overwritten);
		v->left_out += overwritten;
		r = len < 0 ? (int)len : show_records(v, buf, (size_t)len, texts);
	}
	event_ring_close(ring);
	free(buf);
	free(texts);
	if (r == -ENOENT)
		return fail(f, r, "there are no events in %s: mount the share with -o events=on", quoted(state_dir));
	return r < 0 && r != -EPIPE ? fail(f, r, "cannot read the events in %s: %s", quoted(path), strerror(-r)) : 0;
}

int audit_viewer_run(struct audit_viewer *v, const char *state_dir, struct failure *f)
{
	int r;

	if (v->events)
		return show_ring(v, state_dir, f);
	r = audit_files_each(state_dir, show_line, v);
	if (r == -EPIPE)
		return 0;	/* finish_output() says it */
	if (r == -ENOENT)
		return fail(f, r, "there is no audit log in %s: the share is mounted with audit=off or commit=never, or its state is elsewhere "
			    "(--state-dir DIR)", quoted(state_dir));
	return r < 0 ? fail(f, r, "cannot read the audit log in %s: %s", quoted(state_dir), strerror(-r)) : 0;
}
