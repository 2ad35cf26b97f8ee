/* An event as a CloudEvent 1.0 in its JSON format: the attributes of the envelope, and as data the line that a json: consumer
 * gets. Pure; any thread. */
#ifndef WORMFS_CLOUDEVENT_H
#define WORMFS_CLOUDEVENT_H

#include "lockstore/events/event_json.h"

#define CLOUDEVENT_SOURCE_MAX 4096
#define CLOUDEVENT_MAX (EVENT_JSON_MAX + CLOUDEVENT_SOURCE_MAX + 6 * EVENT_PATH_MAX + 1024)	/* bytes of the longest */

/* The source attribute of a share: "wormfs://HOST/srv/share", a URI with all other bytes percent-encoded. -ENAMETOOLONG. */
int cloudevent_source(const char *host, const char *share, char ret_source[CLOUDEVENT_SOURCE_MAX]);

/* `source` is a URI-reference without characters that JSON escapes. `buf` has CLOUDEVENT_MAX bytes. Returns the length. */
size_t cloudevent_format(struct event_json *state, const struct event *ev, const struct event_counts *counts, const char *source, char *buf);

#endif
