/* Change notifications of a cluster: the bytes of its event stream in, events out. Pure; one thread an object.
 *
 * The stream is server-sent events: lines, of which only "data:" counts; each event's data is a JSON list of
 * {"type","path","spine",...}. Source: facts of the REST API, GET /v1/files/{ref}/notify. Comments (": watching", ": keepalive"),
 * other fields, unknown types and keys, any line ending and any cutting into pieces are accepted. */
#ifndef WORMFS_UPSTREAM_NOTIFY_H
#define WORMFS_UPSTREAM_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTIFY_EVENT_MAX_BYTES (1 << 20)	/* of one event's data; also of a line */

enum notify_kind {
	NOTIFY_FILE_CAME,	/* made, or moved here */
	NOTIFY_FILE_CHANGED,	/* data, size, times, attributes, streams */
	NOTIFY_FILE_LEFT,	/* removed, or moved away */
	NOTIFY_DIR_CAME,	/* with a tree below it when it was moved here: no event tells of that */
	NOTIFY_DIR_LEFT,
	NOTIFY_SELF_GONE,	/* the directory that is watched */
	NOTIFY_UNKNOWN,
};

struct notify_event {
	enum notify_kind kind;
	const char *path;	/* from the watched directory on, as the server wrote it, without slashes at its ends; "" for itself */
};

/* The pointers live until it returns. Non-zero ends notify_feed(), which returns it. */
typedef int (*notify_fn)(void *arg, const struct notify_event *event);

struct notify;

/* The caller ends it with notify_close(). -ENOMEM. */
int notify_open(notify_fn fn, void *arg, struct notify **ret_notify);
void notify_close(struct notify *notify);

/* Any piece of the stream. -EBADMSG: an event's data is no list of events (a server that gives up says so in an object):
 * notify_error() is what it said. -E2BIG: longer than NOTIFY_EVENT_MAX_BYTES. After an error the stream is to be begun
 * anew, since something was missed. */
int notify_feed(struct notify *notify, const char *bytes, size_t len_bytes);
const char *notify_error(const struct notify *notify);

/* For a new stream: forgets what was cut off. */
void notify_restart(struct notify *notify);

/* True once the server has said anything at all in this stream: from then on nothing is missed. */
bool notify_is_registered(const struct notify *notify);

/* What to ask the server for, in the query's `filter`. */
extern const char notify_filter[];

#endif
