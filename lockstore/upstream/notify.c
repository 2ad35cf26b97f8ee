/* A line is gathered until its end; the data of an event until an empty line. Nothing is kept longer. */
#include "lockstore/upstream/notify.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_BYTES 200

struct buffer {
	char *bytes;
	size_t len, size;
};

struct notify {
	notify_fn fn;
	void *arg;
	struct buffer line, data;
	bool registered, skip_lf, first_line, has_data;
	char error[ERROR_BYTES];
};

static const struct {
	const char *name;
	enum notify_kind kind;
} types[] = {
	{ "child_file_added", NOTIFY_FILE_CAME },
	{ "child_file_moved_to", NOTIFY_FILE_CAME },
	{ "child_dir_added", NOTIFY_DIR_CAME },
	{ "child_dir_moved_to", NOTIFY_DIR_CAME },
	{ "child_file_removed", NOTIFY_FILE_LEFT },
	{ "child_file_moved_from", NOTIFY_FILE_LEFT },
	{ "child_dir_removed", NOTIFY_DIR_LEFT },
	{ "child_dir_moved_from", NOTIFY_DIR_LEFT },
	{ "child_data_written", NOTIFY_FILE_CHANGED },
	{ "child_size_changed", NOTIFY_FILE_CHANGED },
	{ "child_mtime_changed", NOTIFY_FILE_CHANGED },
	{ "child_stream_added", NOTIFY_FILE_CHANGED },
	{ "child_stream_removed", NOTIFY_FILE_CHANGED },
	{ "child_stream_moved_from", NOTIFY_FILE_CHANGED },
	{ "child_stream_moved_to", NOTIFY_FILE_CHANGED },
	{ "child_stream_size_changed", NOTIFY_FILE_CHANGED },
	{ "child_stream_data_written", NOTIFY_FILE_CHANGED },
	{ "self_removed", NOTIFY_SELF_GONE },
};

/* All of the above, but for those on streams: alternate streams are no reason to ask a server for more. Access times,
 * owners and access lists neither: who reads a file does not write it. */
const char notify_filter[] = "child_file_added,child_file_moved_to,child_dir_added,child_dir_moved_to,child_file_removed,"
	"child_file_moved_from,child_dir_removed,child_dir_moved_from,child_data_written,child_size_changed,child_mtime_changed,self_removed";

int notify_open(notify_fn fn, void *arg, struct notify **ret_notify)
{
	struct notify *notify = calloc(1, sizeof(*notify));

	if (!notify)
		return -ENOMEM;
	notify->fn = fn;
	notify->arg = arg;
	notify->first_line = true;
	*ret_notify = notify;
	return 0;
}

void notify_close(struct notify *notify)
{
	if (!notify)
		return;
	free(notify->line.bytes);
	free(notify->data.bytes);
	free(notify);
}

void notify_restart(struct notify *notify)
{
	notify->line.len = notify->data.len = 0;
	notify->registered = notify->skip_lf = notify->has_data = false;
	notify->first_line = true;
	notify->error[0] = '\0';
}

bool notify_is_registered(const struct notify *notify)
{
	return notify->registered;
}

const char *notify_error(const struct notify *notify)
{
	return notify->error;
}

static int add(struct buffer *b, const char *bytes, size_t len)
{
	if (len == 0)
		return 0;
	if (len > NOTIFY_EVENT_MAX_BYTES - b->len)
		return -E2BIG;
	if (b->len + len > b->size) {
		size_t size = b->size ? b->size : 1024;
		char *grown;

		while (size < b->len + len)
			size *= 2;
		grown = realloc(b->bytes, size);
		if (!grown)
			return -ENOMEM;
		b->bytes = grown;
		b->size = size;
	}
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
	return 0;
}

static enum notify_kind kind_of(const char *type)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].name, type) == 0)
			return types[i].kind;
	return NOTIFY_UNKNOWN;
}

static int tell(struct notify *notify, const json_t *object)
{
	const char *type = json_string_value(json_object_get(object, "type"));
	const char *path = json_string_value(json_object_get(object, "path"));
	struct notify_event event = { .kind = type ? kind_of(type) : NOTIFY_UNKNOWN };
	char *copy;
	size_t len;
	int r;

	if (!type)
		return -EBADMSG;
	path = path ? path + strspn(path, "/") : "";
	len = strlen(path);
	while (len > 0 && path[len - 1] == '/')
		len--;
	copy = strndup(path, len);
	if (!copy)
		return -ENOMEM;
	event.path = copy;
	r = notify->fn(notify->arg, &event);
	free(copy);
	return r;
}

/* A list; and, since nothing forbids it, several in one event. */
static int dispatch(struct notify *notify)
{
	const char *at = notify->data.len ? notify->data.bytes : "", *end = at + notify->data.len;
	int r = 0;

	while (r == 0) {
		json_error_t error;
		json_t *list, *each;
		size_t i;

		while (at < end && strchr(" \t\n", *at))
			at++;
		if (at == end)
			break;
		list = json_loadb(at, (size_t)(end - at), JSON_DISABLE_EOF_CHECK, &error);
		if (!json_is_array(list)) {
			const char *class = json_string_value(json_object_get(list, "error_class"));

			snprintf(notify->error, sizeof(notify->error), "%s", class && *class ? class : "an event that is no list");
			json_decref(list);
			return -EBADMSG;
		}
		json_array_foreach(list, i, each) {
			r = tell(notify, each);
			if (r == -EBADMSG)
				snprintf(notify->error, sizeof(notify->error), "an event without a type");
			if (r)
				break;
		}
		json_decref(list);
		at += error.position;
	}
	return r;
}

static int end_line(struct notify *notify)
{
	static const char field[] = "data:", byte_order_mark[] = "\xef\xbb\xbf";
	const char *line = notify->line.bytes;
	size_t len = notify->line.len;
	int r = 0;

	if (notify->first_line && len >= 3 && memcmp(line, byte_order_mark, 3) == 0) {
		line += 3;
		len -= 3;
	}
	notify->first_line = false;
	if (len == 0) {
		if (notify->has_data)
			r = dispatch(notify);
		notify->data.len = 0;
		notify->has_data = false;
	} else {
		notify->registered = true;
		if (len >= sizeof(field) - 1 && memcmp(line, field, sizeof(field) - 1) == 0) {
			r = notify->has_data ? add(&notify->data, "\n", 1) : 0;
			if (r == 0)
				r = add(&notify->data, line + sizeof(field) - 1, len - (sizeof(field) - 1));
			notify->has_data = true;
		}
	}
	notify->line.len = 0;
	return r;
}

int notify_feed(struct notify *notify, const char *bytes, size_t len_bytes)
{
	size_t from = 0;
	int r = 0;

	for (size_t i = 0; i < len_bytes && r == 0; i++) {
		if (bytes[i] == '\n' && notify->skip_lf) {	/* CRLF is one end */
			notify->skip_lf = false;
			from = i + 1;
			continue;
		}
		notify->skip_lf = bytes[i] == '\r';
		if (bytes[i] != '\n' && bytes[i] != '\r')
			continue;
		r = add(&notify->line, bytes + from, i - from);
		from = i + 1;
		if (r == 0)
			r = end_line(notify);
	}
	if (r == 0)
		r = add(&notify->line, bytes + from, len_bytes - from);
	if (r == -E2BIG)
		snprintf(notify->error, sizeof(notify->error), "an event of more than %d bytes", NOTIFY_EVENT_MAX_BYTES);
	return r;
}
