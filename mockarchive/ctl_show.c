/* What the answers look like for people. Names are printed with their control characters escaped. */
#include "mockarchive/ctl.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "-";
}

static long long number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void name(FILE *out, const char *raw)
{
	for (; *raw; raw++) {
		unsigned char c = (unsigned char)*raw;

		if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
}

static void date(FILE *out, const json_t *seconds)
{
	double s = json_number_value(seconds);
	time_t whole = (time_t)s;
	struct tm tm;
	char buf[40];

	if (!json_is_number(seconds) || !gmtime_r(&whole, &tm)) {
		fputs("-", out);
		return;
	}
	strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(out, "%s.%03dZ", buf, (int)((s - (double)whole) * 1000));
}

static bool is_on_tape(const json_t *file)
{
	const char *copy = text(json_object_get(file, "copies"), "tape");

	return strcmp(copy, "good") == 0 || strcmp(copy, "damaged") == 0;
}

static bool is_online(const json_t *file)
{
	return json_is_true(json_object_get(file, "online"));
}

bool ctl_view_parse(const char *view, enum ctl_view *ret_view)
{
	static const char *const names[] = { "plain", "hsm_state", "dsmls", "dmattr", "eos" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(view, names[i]) == 0) {
			*ret_view = i;
			return true;
		}
	}
	return false;
}

/* As `lfs hsm_state`. Bits: exists 1, dirty 2, released 4, archived 8, lost 0x40. Source: lustre_user.h. */
static void show_hsm_state(FILE *out, const json_t *file)
{
	bool tape = is_on_tape(file), stale = strcmp(text(json_object_get(file, "copies"), "tape"), "stale") == 0;
	bool released = !is_online(file), lost = strcmp(text(file, "state"), "lost") == 0;
	unsigned flags = (tape || stale || lost ? 1u | 8u : 0) | (stale ? 2u : 0) | (released ? 4u : 0) | (lost ? 0x40u : 0);

	name(out, text(file, "path"));
	fprintf(out, ": (0x%08x)%s%s%s%s%s", flags, released ? " released" : "", flags & 1 ? " exists" : "", flags & 2 ? " dirty" : "",
		flags & 8 ? " archived" : "", lost ? " lost" : "");
	fprintf(out, flags & 1 ? ", archive_id:1\n" : "\n");
}

static void show_one(FILE *out, const json_t *file, enum ctl_view view)
{
	const char *state = text(file, "state");
	long long size = number(file, "size");
	bool online = is_online(file), tape = is_on_tape(file);

	switch (view) {
	case CTL_VIEW_HSM_STATE:
		show_hsm_state(out, file);
		return;
	case CTL_VIEW_DSMLS:	/* actual size, resident size, resident KB, state r, p or m */
		fprintf(out, "%14lld %14lld %10lld   %c     ", size, online ? size : 0, online ? (size + 1023) / 1024 : 0,
			online ? tape ? 'p' : 'r' : 'm');
		break;
	case CTL_VIEW_DMATTR:
		fprintf(out, "%s ", strcmp(state, "archiving") == 0 ? "MIG" : strcmp(state, "recalling") == 0 ? "UNM" : online ? tape ? "DUL" :
			"REG" : "OFL");
		break;
	case CTL_VIEW_EOS:
		fprintf(out, "d%d::t%d %14lld ", online, tape, size);
		break;
	default:
		fprintf(out, "%-14s %14lld  tape %-7s replica %-7s %c%c%c  ", state, size, text(json_object_get(file, "copies"), "tape"),
			text(json_object_get(file, "copies"), "replica"), json_is_true(json_object_get(json_object_get(file, "flag"), "final")) ? 'T' : '-',
			json_is_true(json_object_get(file, "pinned")) ? 'p' : '-', json_is_true(json_object_get(file, "worm")) ? 'w' : '-');
	}
	name(out, text(file, "path"));
	fputc('\n', out);
}

void ctl_show_files(FILE *out, const json_t *files, enum ctl_view view)
{
	for (size_t i = 0; i < json_array_size(files); i++)
		show_one(out, json_array_get(files, i), view);
}

void ctl_show_file(FILE *out, const json_t *file)
{
	static const char *const dates[] = { "since", "due", "requested", "archived", "recalled", "pin_until" };
	const json_t *error = json_object_get(file, "error");

	show_one(out, file, CTL_VIEW_PLAIN);
	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		if (!json_is_number(json_object_get(file, dates[i])))
			continue;
		fprintf(out, "  %-10s ", dates[i]);
		date(out, json_object_get(file, dates[i]));
		fputc('\n', out);
	}
	if (json_is_string(json_object_get(file, "tape")))
		fprintf(out, "  %-10s %s\n", "tape", text(file, "tape"));
	if (json_is_string(json_object_get(file, "sha256")))
		fprintf(out, "  %-10s %s\n  %-10s %s\n", "sha256", text(file, "sha256"), "adler32", text(file, "adler32"));
	if (json_is_object(error))
		fprintf(out, "  %-10s %s: %s\n", "error", text(error, "errno"), text(error, "text"));
}

void ctl_show_clock(FILE *out, const json_t *clock)
{
	date(out, json_object_get(clock, "now"));
	fprintf(out, " (%s", text(clock, "mode"));
	if (strcmp(text(clock, "mode"), "scaled") == 0)
		fprintf(out, ", %g times as fast", json_number_value(json_object_get(clock, "rate")));
	fprintf(out, "), %lld due", number(clock, "events"));
	if (json_is_number(json_object_get(clock, "next_due")))
		fprintf(out, ", next in %.3f s", json_number_value(json_object_get(clock, "next_due")) - json_number_value(json_object_get(clock, "now")));
	fputc('\n', out);
}

void ctl_show_drives(FILE *out, const json_t *drives)
{
	for (size_t i = 0; i < json_array_size(drives); i++) {
		const json_t *drive = json_array_get(drives, i);

		fprintf(out, "drive %lld  %-4s %-9s %-10s jobs %-6lld ", number(drive, "number"), json_is_true(json_object_get(drive, "up")) ? "up" : "down",
			text(drive, "doing"), text(drive, "tape"), number(drive, "jobs"));
		name(out, json_is_string(json_object_get(drive, "path")) ? text(drive, "path") : "");
		fputc('\n', out);
	}
}

void ctl_show_state(FILE *out, const json_t *state)
{
	const json_t *files = json_object_get(state, "files"), *queue = json_object_get(state, "queue"), *faults = json_object_get(state, "faults");
	const json_t *count;
	const char *key;

	fprintf(out, "mount    %s (profile %s)\nclock    ", text(state, "mountpoint"), text(state, "profile"));
	ctl_show_clock(out, json_object_get(state, "clock"));
	fprintf(out, "files    %lld:", number(state, "files_total"));
	json_object_foreach((json_t *)files, key, count)
		if (json_integer_value(count))
			fprintf(out, " %s %lld", key, (long long)json_integer_value(count));
	fprintf(out, "\nqueue    to tape %lld, from tape %lld; %lld callers wait\n", number(queue, "archive"), number(queue, "recall"),
		number(queue, "waiting"));
	fprintf(out, "library  %s\n", json_is_true(json_object_get(json_object_get(state, "library"), "up")) ? "up" : "down");
	ctl_show_drives(out, json_object_get(state, "drives"));
	fprintf(out, "faults   %lld of %lld rules on, fired %lld times\n", number(faults, "enabled"), number(faults, "rules"), number(faults, "fired"));
}

static void show_section(FILE *out, const char *title, const json_t *section)
{
	char *dump = json_object_size(section) ? json_dumps(section, JSON_COMPACT) : NULL;

	if (dump)
		fprintf(out, "  %s %s", title, dump);
	free(dump);
}

void ctl_show_faults(FILE *out, const json_t *faults)
{
	for (size_t i = 0; i < json_array_size(faults); i++) {
		const json_t *rule = json_array_get(faults, i);

		fprintf(out, "%-20s %-3s hits %lld/%lld", text(rule, "id"), json_is_true(json_object_get(rule, "enabled")) ? "on" : "off",
			number(rule, "hits"), number(rule, "matched"));
		show_section(out, "match", json_object_get(rule, "match"));
		show_section(out, "when", json_object_get(rule, "when"));
		show_section(out, "do", json_object_get(rule, "do"));
		if (json_is_string(json_object_get(rule, "note"))) {
			fputs("  # ", out);
			name(out, text(rule, "note"));
		}
		fputc('\n', out);
	}
}

void ctl_show_settings(FILE *out, const json_t *settings)
{
	for (size_t i = 0; i < json_array_size(settings); i++) {
		const json_t *one = json_array_get(settings, i);

		fprintf(out, "%-22s %-14s %s: %s\n", text(one, "key"), text(one, "value"), text(one, "takes"), text(one, "help"));
	}
}

void ctl_show_event(FILE *out, const json_t *event)
{
	const char *path = json_string_value(json_object_get(event, "path"));

	fprintf(out, "%lld ", number(event, "seq"));
	date(out, json_object_get(event, "time"));
	fprintf(out, " %s", text(event, "kind"));
	if (json_is_string(json_object_get(event, "from")))
		fprintf(out, " %s -> %s", text(event, "from"), text(event, "to"));
	if (json_is_string(json_object_get(event, "fault")))
		fprintf(out, " %s", text(event, "fault"));
	if (json_is_string(json_object_get(event, "errno")))
		fprintf(out, " %s", text(event, "errno"));
	if (path) {
		fputc(' ', out);
		name(out, path);
	}
	if (json_is_string(json_object_get(event, "detail"))) {
		fputs(" (", out);
		name(out, text(event, "detail"));
		fputc(')', out);
	}
	fputc('\n', out);
}
