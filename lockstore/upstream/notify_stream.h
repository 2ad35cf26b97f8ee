/* One connection that a cluster sends its change notifications on, read by a thread of its own into a bounded queue. When nobody
 * takes the events out the thread stops reading, and the cluster ends a stream that is not read: nothing is lost unseen. */
#ifndef WORMFS_UPSTREAM_NOTIFY_STREAM_H
#define WORMFS_UPSTREAM_NOTIFY_STREAM_H

#include <stdbool.h>

#include "lockstore/upstream/notify.h"
#include "lockstore/upstream/qumulo.h"

#define NOTIFY_STREAM_QUEUE 4096		/* events */
#define NOTIFY_STREAM_SILENCE_S 90	/* no byte for so long: it is dead. Keep-alives come every 60 s or less */

struct notify_stream;

/* Connects in the background. token: copied. ref: of the directory (endpoint_ref). Every event, and its end, wakes the qumulo.
 * -ENOMEM, -EAGAIN: no thread. The caller ends it with notify_stream_close(), which waits for its thread. */
int notify_stream_open(struct qumulo *qumulo, const struct endpoint *endpoint, const char *token, const char *ref, bool recursive,
		      struct notify_stream **ret_stream);
void notify_stream_close(struct notify_stream *stream);

/* The next event; false: none now. *ret_path is the caller's. */
bool notify_stream_take(struct notify_stream *stream, enum notify_kind *ret_kind, char **ret_path);

/* True once the cluster has said that it watches. */
bool notify_stream_is_up(struct notify_stream *stream);

/* True when it has ended and all events were taken; then *ret_reply says why: an answer that was no stream, or (AWAY) what happened
 * to it. The caller ends the reply. */
bool notify_stream_is_over(struct notify_stream *stream, struct upstream_reply *ret_reply);

#endif
