/* How files, entries of the journal and the clock look in JSON. */
#include "mockarchive/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/base64.h"

json_t *api_string(const char *text)
{
	json_t *json = json_string(text);
	char *copy, *out;

	if (json)
		return json;
	copy = out = malloc(strlen(text) * 3 + 1);
	if (!copy)
		return NULL;
	while (*text) {
		size_t n = 1;
		json_t *one;

		/* The longest well-formed sequence that begins here. */
		while (n < 4 && (text[n] & 0xc0) == 0x80)
			n++;
		one = json_stringn(text, n);
		if (one) {
			memcpy(out, text, n);
			out += n;
		} else {
			memcpy(out, "\xef\xbf\xbd", 3);
			out += 3;
			n = 1;
		}
		json_decref(one);
		text += n;
	}
	*out = '\0';
	json = json_string(copy);
	free(copy);
	return json;
}

void api_put_path(json_t *object, const char *key, const char *path)
{
	char shown[API_PATH_MAX_BYTES + 1], coded_key[40], *coded;
	json_t *text;

	snprintf(shown, sizeof(shown), "/%s", path);
	text = json_string(shown);
	if (text) {
		json_object_set_new(object, key, text);
		return;
	}
	json_object_set_new(object, key, api_string(shown));
	coded = base64_encode(path, strlen(path));
	snprintf(coded_key, sizeof(coded_key), "%s_b64", key);
	if (coded)
		json_object_set_new(object, coded_key, json_string(coded));
	free(coded);
}

double api_seconds(int64_t ns)
{
	return (double)ns / ARCHIVE_NS;
}

int64_t api_ns(const json_t *seconds)
{
	double s = json_is_number(seconds) ? json_number_value(seconds) : -1;

	return s >= 0 && s <= 100 * 366 * 86400.0 ? (int64_t)(s * ARCHIVE_NS + 0.5) : -1;
}

/* null: never, or not known. */
static json_t *time_json(int64_t ns)
{
	return ns == 0 || ns == ARCHIVE_NEVER ? json_null() : json_real(api_seconds(ns));
}

json_t *api_file_json(const struct archive_file *file)
{
	json_t *json = json_object();
	char hex[65];

	api_put_path(json, "path", file->path);
	json_object_set_new(json, "id", json_integer((json_int_t)file->id));
	json_object_set_new(json, "state", json_string(archive_state_name(file->state)));
	json_object_set_new(json, "online", json_boolean(archive_state_is_online(file->state)));
	json_object_set_new(json, "size", json_integer((json_int_t)file->size_bytes));
	json_object_set_new(json, "since", time_json(file->since_ns));
	json_object_set_new(json, "due", time_json(file->due_ns));
	json_object_set_new(json, "copies", json_pack("{s:s, s:s}", "tape", archive_copy_state_name(file->copy[0]), "replica",
						      archive_copy_state_name(file->copy[1])));
	json_object_set_new(json, "flag", json_pack("{s:b, s:b}", "final", file->flag_final, "replica", file->flag_replica));
	json_object_set_new(json, "worm", json_boolean(file->worm));
	json_object_set_new(json, "pinned", json_boolean(file->pinned));
	json_object_set_new(json, "pin_until", file->pinned ? time_json(file->pin_until_ns) : json_null());
	json_object_set_new(json, "evict_counter", json_integer(file->evict_counter));
	json_object_set_new(json, "drive", file->drive >= 0 ? json_integer(file->drive) : json_null());
	json_object_set_new(json, "waiting", json_integer(file->waiting));
	json_object_set_new(json, "error", file->error ? json_pack("{s:s?, s:o}", "errno", strerrorname_np(-file->error), "text",
								    api_string(file->error_text)) : json_null());
	json_object_set_new(json, "request_id", *file->request_id ? api_string(file->request_id) : json_null());
	json_object_set_new(json, "requested", time_json(file->request_ns));
	json_object_set_new(json, "archived", time_json(file->archived_ns));
	json_object_set_new(json, "recalled", time_json(file->recalled_ns));
	json_object_set_new(json, "recalls", json_integer(file->recalls));
	json_object_set_new(json, "tape", *file->tape ? json_string(file->tape) : json_null());
	if (file->has_checksum) {
		for (int i = 0; i < 32; i++)
			snprintf(hex + 2 * i, 3, "%02x", file->sha256[i]);
		json_object_set_new(json, "sha256", json_string(hex));
		snprintf(hex, sizeof(hex), "%08x", file->adler32);
		json_object_set_new(json, "adler32", json_string(hex));
	}
	return json;
}

json_t *api_event_json(const struct archive_event *event)
{
	json_t *json = json_pack("{s:I, s:f, s:f, s:s}", "seq", (json_int_t)event->seq, "time", api_seconds(event->time_ns), "real",
				 api_seconds(event->real_ns), "kind", archive_event_kind_name(event->kind));

	if (!json)
		return NULL;
	if (event->file)
		json_object_set_new(json, "file", json_integer((json_int_t)event->file));
	if (*event->path)
		api_put_path(json, "path", event->path);
	if (event->kind == ARCHIVE_EVENT_STATE) {
		json_object_set_new(json, "from", json_string(archive_state_name(event->from)));
		json_object_set_new(json, "to", json_string(archive_state_name(event->to)));
	}
	if (*event->fault)
		json_object_set_new(json, "fault", json_string(event->fault));
	if (event->error)
		json_object_set_new(json, "errno", json_string(strerrorname_np(-event->error) ? strerrorname_np(-event->error) : "EIO"));
	if (*event->detail)
		json_object_set_new(json, "detail", api_string(event->detail));
	return json;
}

json_t *api_clock_json(struct archive *archive)
{
	struct archive_clock clock;

	archive_clock_get(archive, &clock);
	return json_pack("{s:s, s:f, s:f, s:o, s:i}", "mode", archive_clock_mode_name(clock.mode), "rate",
			 clock.mode == ARCHIVE_CLOCK_SCALED ? clock.rate : clock.mode == ARCHIVE_CLOCK_REAL ? 1.0 : 0.0, "now",
			 api_seconds(clock.now_ns), "next_due", time_json(clock.next_due_ns), "events", (int)clock.events);
}
