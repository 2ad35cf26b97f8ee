#include "lockstore/wormctl/sse_qumulo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/events/event_json.h"

/* Source: facts on Qumulo's files_ref_notify. There is no name here for what wormfs never tells. */
enum { FILE_ADDED, DIR_ADDED, FILE_REMOVED, DIR_REMOVED, FILE_FROM, FILE_TO, DIR_FROM, DIR_TO, BTIME, MTIME, ATIME, SIZE, EXTRA_ATTRS, ACL,
       OWNER, GROUP, DATA, STREAM_ADDED, STREAM_REMOVED, STREAM_FROM, STREAM_TO, STREAM_SIZE, STREAM_DATA, SELF_REMOVED };
static const char *const names_of[] = {
	"child_file_added", "child_dir_added", "child_file_removed", "child_dir_removed", "child_file_moved_from", "child_file_moved_to",
	"child_dir_moved_from", "child_dir_moved_to", "child_btime_changed", "child_mtime_changed", "child_atime_changed", "child_size_changed",
	"child_extra_attrs_changed", "child_acl_changed", "child_owner_changed", "child_group_changed", "child_data_written",
	"child_stream_added", "child_stream_removed", "child_stream_moved_from", "child_stream_moved_to", "child_stream_size_changed",
	"child_stream_data_written", "self_removed",
};
#define TYPES (sizeof(names_of) / sizeof(names_of[0]))

int sse_qumulo_filter(const char *names, uint32_t *ret_types)
{
	uint32_t types = 0;

	if (!names) {
		*ret_types = (1u << TYPES) - 1;
		return 0;
	}
	while (*names) {
		size_t len = strcspn(names, ","), i;

		for (i = 0; i < TYPES && (strlen(names_of[i]) != len || memcmp(names_of[i], names, len) != 0); i++)
			;
		if (i == TYPES)
			return -EINVAL;
		types |= 1u << i;
		names += len + (names[len] == ',');
	}
	*ret_types = types;
	return types ? 0 : -EINVAL;
}

/* What of `path` is below `dir`; NULL: nothing. */
static const char *below(const struct event_text *path, const char *dir, bool recursive, size_t *ret_len)
{
	size_t len = strlen(dir), skip = len ? len + 1 : 0;

	if (path->len <= skip || memcmp(path->bytes, dir, len) != 0 || (len && path->bytes[len] != '/'))
		return NULL;
	*ret_len = path->len - skip;
	return recursive || !memchr(path->bytes + skip, '/', *ret_len) ? path->bytes + skip : NULL;
}

struct list {
	char *out;
	size_t len;
	uint32_t types;
};

static void add(struct list *l, int type, const char *path, size_t len, const struct event_node *parent, const struct event_node *node)
{
	bool valid;

	if (!path || !(l->types & 1u << type))
		return;
	l->len += sprintf(l->out + l->len, "%s{\"type\":\"%s\",\"path\":\"", l->len ? "," : "[", names_of[type]);
	l->len += event_json_escape(path, len, l->out + l->len, &valid);
	l->len += sprintf(l->out + l->len, "\",\"spine\":[");
	if (parent)
		l->len += sprintf(l->out + l->len, "\"%" PRIu64 "\",", parent->ino);
	l->len += sprintf(l->out + l->len, "\"%" PRIu64 "\"],\"stream_name\":null}", node->ino);
}

static int simple_type(const struct event *ev)
{
	switch (ev->type) {
	case EVENT_CREATE: case EVENT_MKNOD: case EVENT_SYMLINK: case EVENT_HARDLINK:
		return FILE_ADDED;
	case EVENT_MKDIR:
		return DIR_ADDED;
	case EVENT_UNLINK:
		return FILE_REMOVED;
	case EVENT_RMDIR:
		return DIR_REMOVED;
	case EVENT_TRUNCATE: case EVENT_ALLOCATE:
		return SIZE;
	case EVENT_LAST_WRITER_CLOSED: case EVENT_CLOSE_WRITE:
		return DATA;
	case EVENT_SETATTR: case EVENT_XATTR_SET: case EVENT_XATTR_REMOVED:
		return EXTRA_ATTRS;	/* which ones is not in the event */
	case EVENT_ACL_SET:
		return ACL;
	}
	return -1;
}

size_t sse_qumulo_format(const struct event *ev, const char *dir, bool recursive, uint32_t types, char *out, bool *ret_over)
{
	const struct event_node *parent = ev->has & EVENT_HAS_PARENT ? &ev->parent : NULL;
	bool is_dir = ev->flags & EVENT_DIRECTORY;
	struct list l = { .out = out, .types = types };
	const char *path = NULL, *to = NULL;
	size_t len = 0, to_len = 0;
	int type = simple_type(ev);

	*ret_over = false;
	if ((ev->has & EVENT_HAS_ERROR && ev->error) || !(ev->has & EVENT_HAS_PATH))
		return 0;
	if (ev->type == EVENT_RMDIR && ev->path.len == strlen(dir) && memcmp(ev->path.bytes, dir, ev->path.len) == 0) {
		*ret_over = true;
		add(&l, SELF_REMOVED, "", 0, NULL, &ev->node);
	}
	path = below(&ev->path, dir, recursive, &len);
	if (ev->type == EVENT_RENAME) {
		to = ev->has & EVENT_HAS_TARGET ? below(&ev->target, dir, recursive, &to_len) : NULL;
		add(&l, is_dir ? DIR_FROM : FILE_FROM, path, len, parent, &ev->node);
		add(&l, is_dir ? DIR_TO : FILE_TO, to, to_len, ev->has & EVENT_HAS_TARGET_PARENT ? &ev->target_parent : NULL, &ev->node);
	} else if (type >= 0) {
		add(&l, type, path, len, parent, &ev->node);
	}
	if (l.len)
		out[l.len++] = ']';
	return l.len;
}
