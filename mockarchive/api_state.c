/* /v1/state, clock, drives, library, settings, reset, journal: the archive as a whole. */
#include "mockarchive/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *drive_json(const struct archive_drive *drive)
{
	static const char *const doing[] = { [ARCHIVE_DRIVE_IDLE] = "idle", [ARCHIVE_DRIVE_ARCHIVING] = "archiving",
					     [ARCHIVE_DRIVE_RECALLING] = "recalling" };
	json_t *json = json_pack("{s:i, s:b, s:s, s:o, s:o, s:I, s:I}", "number", drive->number, "up", drive->up, "doing", doing[drive->doing],
				 "tape", *drive->tape ? json_string(drive->tape) : json_null(), "due",
				 drive->due_ns == ARCHIVE_NEVER ? json_null() : json_real(api_seconds(drive->due_ns)), "jobs",
				 (json_int_t)drive->jobs, "bytes", (json_int_t)drive->bytes);

	if (json && *drive->path)
		api_put_path(json, "path", drive->path);
	return json;
}

static int add_drive(void *arg, const struct archive_drive *drive)
{
	return json_array_append_new(arg, drive_json(drive)) < 0 ? -ENOMEM : 0;
}

static json_t *drives_json(struct archive *a)
{
	json_t *list = json_array();

	if (archive_drives(a, add_drive, list) < 0) {
		json_decref(list);
		return NULL;
	}
	return list;
}

static json_t *addresses_json(const struct api *api)
{
	json_t *list = json_array();
	const char *address;

	for (unsigned i = 0; api->address && (address = api->address(api->owner, i)); i++)
		json_array_append_new(list, json_string(address));
	return list;
}

void api_state(struct api_call *call)
{
	struct archive *a = call->api->archive;
	struct archive_summary sum;
	json_t *files = json_object(), *json;
	unsigned rules, enabled;
	uint64_t fired, total = 0;

	archive_summary(a, &sum);
	faults_count(archive_faults(a), &rules, &enabled, &fired);
	for (int i = 0; i < ARCHIVE_STATES; i++) {
		json_object_set_new(files, archive_state_name(i), json_integer((json_int_t)sum.files[i]));
		total += sum.files[i];
	}
	json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:{s:I, s:I}, s:{s:i, s:i, s:i}}",
			 "version", WORMFS_VERSION, "profile", archive_profile_name(a), "mountpoint", archive_mountpoint(a),
			 "store", archive_store(a), "replica", archive_replica(a), "files", files, "files_total", (json_int_t)total,
			 "bytes", "online", (json_int_t)sum.bytes_online, "tape", (json_int_t)sum.bytes_tape,
			 "queue", "archive", (int)sum.queued_archive, "recall", (int)sum.queued_recall, "waiting", (int)sum.waiting);
	if (!json)	/* a path of the mount that is no UTF-8 */
		json_decref(files);
	else {
		json_object_set_new(json, "cache", sum.cache_size_bytes ? json_pack("{s:I, s:I}", "size", (json_int_t)sum.cache_size_bytes, "used",
				    (json_int_t)sum.cache_used_bytes) : json_null());
		json_object_set_new(json, "space", json_pack("{s:I, s:I}", "total", (json_int_t)(sum.statvfs.f_blocks * sum.statvfs.f_frsize),
				    "free", (json_int_t)(sum.statvfs.f_bavail * sum.statvfs.f_frsize)));
		json_object_set_new(json, "drives", drives_json(a));
		json_object_set_new(json, "library", json_pack("{s:b}", "up", archive_library_up(a)));
		json_object_set_new(json, "clock", api_clock_json(a));
		json_object_set_new(json, "faults", json_pack("{s:i, s:i, s:I}", "rules", (int)rules, "enabled", (int)enabled, "fired",
				    (json_int_t)fired));
		json_object_set_new(json, "http", addresses_json(call->api));
		json_object_set_new(json, "journal_last", json_integer((json_int_t)archive_journal_last(a)));
	}
	api_json(call, 200, json);
}

/* ---- clock ---- */

void api_clock(struct api_call *call)
{
	api_json(call, 200, api_clock_json(call->api->archive));
}

void api_clock_change(struct api_call *call)
{
	json_t *body = api_body(call);
	const char *mode;

	if (!body)
		return;
	mode = json_string_value(json_object_get(body, "mode"));
	if (!api_keys_are(call, body, "mode"))
		;
	else if (!mode || archive_clock_set(call->api->archive, mode) < 0)
		api_problem(call, 400, "JSON Validation error", "'mode' must be \"real\", \"manual\" or \"scaled:FACTOR\"");
	else
		api_clock(call);
	json_decref(body);
}

static void moved(struct api_call *call, int r, unsigned done)
{
	json_t *json;

	if (r < 0 && r != -ETIMEDOUT) {
		api_error(call, r, "advance", "the clock");
		return;
	}
	json = json_pack("{s:i, s:b, s:o}", "done", (int)done, "settled", r == 0, "clock", api_clock_json(call->api->archive));
	api_json(call, 200, json);
}

void api_clock_advance(struct api_call *call)
{
	json_t *body = api_body(call);
	unsigned done = 0;
	int64_t ns;
	int r;

	if (!body)
		return;
	ns = api_ns(json_object_get(body, "seconds"));
	if (!api_keys_are(call, body, "seconds")) {
		;
	} else if (ns < 0) {
		api_problem(call, 400, "JSON Validation error", "'seconds' must be a number of seconds, 0 or more");
	} else {
		r = archive_clock_advance(call->api->archive, ns, &done);
		moved(call, r, done);
	}
	json_decref(body);
}

void api_clock_settle(struct api_call *call)
{
	json_t *body = api_body(call), *max;
	unsigned done = 0;
	int64_t ns = 366 * 86400 * ARCHIVE_NS;
	int r;

	if (!body)
		return;
	max = json_object_get(body, "max_seconds");
	if (max)
		ns = api_ns(max);
	if (!api_keys_are(call, body, "max_seconds")) {
		;
	} else if (ns < 0) {
		api_problem(call, 400, "JSON Validation error", "'max_seconds' must be a number of seconds, 0 or more");
	} else {
		r = archive_clock_settle(call->api->archive, ns, &done);
		moved(call, r, done);
	}
	json_decref(body);
}

/* ---- drives and library ---- */

void api_drives(struct api_call *call)
{
	json_t *list = drives_json(call->api->archive);

	api_json(call, 200, list ? json_pack("{s:o}", "drives", list) : NULL);
}

/* {"up": BOOL} of the body; -1: answered. */
static int read_up(struct api_call *call)
{
	json_t *body = api_body(call), *up;
	int value = -1;

	if (!body)
		return -1;
	up = json_object_get(body, "up");
	if (!api_keys_are(call, body, "up"))
		;
	else if (!json_is_boolean(up))
		api_problem(call, 400, "JSON Validation error", "'up' must be true or false");
	else
		value = json_is_true(up);
	json_decref(body);
	return value;
}

struct drive_search {
	int number;
	json_t *json;
};

static int find_drive(void *arg, const struct archive_drive *drive)
{
	struct drive_search *search = arg;

	if (drive->number == search->number)
		search->json = drive_json(drive);
	return 0;
}

void api_drives_change(struct api_call *call)
{
	struct drive_search search = { .number = -1 };
	char *end;
	long number = strtol(call->rest, &end, 10);
	int up, r;

	if (*end || number < 0 || number >= ARCHIVE_DRIVES_MAX) {
		api_problem(call, 404, NULL, "there is no drive '%.20s'", call->rest);
		return;
	}
	up = read_up(call);
	if (up < 0)
		return;
	r = archive_drive_set(call->api->archive, (int)number, up);
	if (r < 0) {
		api_error(call, r, "change drive", call->rest);
		return;
	}
	search.number = (int)number;
	(void)archive_drives(call->api->archive, find_drive, &search);	/* not found: taken away meanwhile, the reply is a 500 */
	api_json(call, 200, search.json);
}

void api_library(struct api_call *call)
{
	api_json(call, 200, json_pack("{s:b}", "up", archive_library_up(call->api->archive)));
}

void api_library_change(struct api_call *call)
{
	int up = read_up(call), r;

	if (up < 0)
		return;
	r = archive_library_set(call->api->archive, up);
	if (r < 0)
		api_error(call, r, "change", "the library");
	else
		api_library(call);
}

/* ---- settings ---- */

static int add_setting(void *arg, const char *key, const char *value, const char *takes, const char *help)
{
	return json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:s}", "key", key, "value", value, "takes", takes, "help", help)) < 0 ?
		-ENOMEM : 0;
}

void api_settings(struct api_call *call)
{
	json_t *list = json_array();

	if (archive_each_setting(call->api->archive, add_setting, list) < 0) {
		json_decref(list);
		list = NULL;
	}
	api_json(call, 200, list ? json_pack("{s:s, s:o}", "profile", archive_profile_name(call->api->archive), "settings", list) : NULL);
}

/* A JSON value as the text that a command line would have. */
static bool setting_text(const json_t *value, char *buf, size_t len_bytes)
{
	if (json_is_string(value))
		snprintf(buf, len_bytes, "%s", json_string_value(value));
	else if (json_is_integer(value))
		snprintf(buf, len_bytes, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		snprintf(buf, len_bytes, "%.9g", json_real_value(value));
	else if (json_is_boolean(value))
		snprintf(buf, len_bytes, "%s", json_is_true(value) ? "on" : "off");
	else
		return false;
	return true;
}

/* "profile" first, whatever the order: the others go on top of it. All that is wrong is found before anything is set, as far as
 * the archive can say: a key that fails later leaves those before it set, and the answer names it. */
void api_settings_change(struct api_call *call)
{
	json_t *body = api_body(call), *profile, *value;
	char text[256], error[ARCHIVE_ERROR_BYTES] = "";
	const char *key;
	int r;

	if (!body)
		return;
	profile = json_object_get(body, "profile");
	json_object_foreach(body, key, value) {
		char old[256];

		if (!setting_text(value, text, sizeof(text))) {
			api_problem(call, 400, "JSON Validation error", "'%.60s' must be a text, a number, true or false", key);
			goto out;
		}
		if (value != profile && archive_get(call->api->archive, key, old, sizeof(old)) < 0) {
			api_problem(call, 404, NULL, "there is no setting '%.60s'; GET /v1/settings lists them", key);
			goto out;
		}
	}
	if (profile && archive_profile(call->api->archive, json_is_string(profile) ? json_string_value(profile) : "") < 0) {
		api_problem(call, 404, NULL, "there is no such profile; GET /v1/profiles lists them");
		goto out;
	}
	json_object_foreach(body, key, value) {
		if (value == profile)
			continue;
		(void)setting_text(value, text, sizeof(text));
		r = archive_set(call->api->archive, key, text, error);
		if (r < 0) {
			api_problem(call, 400, "JSON Validation error", "'%.60s': %s", key, *error ? error : strerror(-r));
			goto out;
		}
	}
	api_settings(call);
out:
	json_decref(body);
}

static int add_profile(void *arg, const char *name, const char *help)
{
	return json_array_append_new(arg, json_pack("{s:s, s:s}", "name", name, "help", help)) < 0 ? -ENOMEM : 0;
}

void api_profiles(struct api_call *call)
{
	json_t *list = json_array();

	if (archive_each_profile(add_profile, list) < 0) {
		json_decref(list);
		list = NULL;
	}
	api_json(call, 200, list ? json_pack("{s:s, s:o}", "profile", archive_profile_name(call->api->archive), "profiles", list) : NULL);
}

/* ---- reset and journal ---- */

static const struct { const char *name; unsigned bit; } resets[] = {
	{ "faults", ARCHIVE_RESET_FAULTS }, { "settings", ARCHIVE_RESET_SETTINGS }, { "drives", ARCHIVE_RESET_DRIVES },
	{ "counters", ARCHIVE_RESET_COUNTERS }, { "journal", ARCHIVE_RESET_JOURNAL }, { "files", ARCHIVE_RESET_FILES },
	{ "clock", ARCHIVE_RESET_CLOCK }, { "all", ARCHIVE_RESET_ALL },
};

void api_reset(struct api_call *call)
{
	json_t *body = api_body(call), *what;
	unsigned bits = 0;
	int r;

	if (!body)
		return;
	what = json_object_get(body, "what");
	if (!api_keys_are(call, body, "what"))
		goto out;
	for (size_t i = 0; i < json_array_size(what); i++) {
		const char *name = json_string_value(json_array_get(what, i));
		size_t n = 0;

		while (name && n < sizeof(resets) / sizeof(resets[0]) && strcmp(resets[n].name, name) != 0)
			n++;
		if (!name || n == sizeof(resets) / sizeof(resets[0])) {
			api_problem(call, 400, "JSON Validation error", "'what' is a list of: faults, settings, drives, counters, journal, files, clock, all");
			goto out;
		}
		bits |= resets[n].bit;
	}
	if (what && !json_is_array(what)) {
		api_problem(call, 400, "JSON Validation error", "'what' must be a list");
		goto out;
	}
	bits = what ? bits : ARCHIVE_RESET_ALL;
	if (bits & ARCHIVE_RESET_FILES)
		rest_reset(call->api->rest);
	r = archive_reset(call->api->archive, bits);
	if (r == -EPERM)
		api_problem(call, 403, NULL, "locked files are left; everything else is reset");
	else if (r < 0)
		api_error(call, r, "reset", "the archive");
	else
		api_empty(call, 204);
out:
	json_decref(body);
}

static int add_event(void *arg, const struct archive_event *event)
{
	return json_array_append_new(arg, api_event_json(event)) < 0 ? -ENOMEM : 0;
}

void api_journal(struct api_call *call)
{
	int64_t after, limit;
	uint64_t last = 0, lost = 0;
	json_t *events;
	int r;

	if (!api_query_number(call, "after", 0, 0, INT64_MAX, &after) || !api_query_number(call, "limit", API_LIST_MAX, 1, API_LIST_MAX, &limit))
		return;
	events = json_array();
	r = archive_journal_read(call->api->archive, (uint64_t)after, (unsigned)limit, add_event, events, &last, &lost);
	if (r < 0) {
		json_decref(events);
		api_error(call, r, "read", "the journal");
		return;
	}
	api_json(call, 200, json_pack("{s:o, s:I, s:I}", "events", events, "last", (json_int_t)last, "lost", (json_int_t)lost));
}
