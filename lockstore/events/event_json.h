/* An event as one line of JSON: the names of beegfs-event-listener, and ours after them. Always valid JSON (RFC 8259):
 * a name that is no UTF-8 has U+FFFD in the place of its other bytes, and a twin in base64 with the exact ones. */
#ifndef WORMFS_EVENT_JSON_H
#define WORMFS_EVENT_JSON_H

#include <time.h>

#include "lockstore/events/event.h"

#define EVENT_JSON_MAX 163840	/* bytes of the longest line, with its newline */

/* Kept by a thread between lines: what would be computed again. Zero-initialised. */
struct event_json {
	time_t second;
	char date[24];
};

/* What the consumer has not got: events that could not be sent to it, and those that told only one of several names. */
struct event_counts {
	uint64_t dropped, missed;
};

/* `buf` has EVENT_JSON_MAX bytes. Returns the length, with the newline. */
size_t event_json_format(struct event_json *state, const struct event *ev, const struct event_counts *counts, char *buf);

/* Text (NULL: none) as the inside of a JSON string, 6 * len bytes at most. *ret_valid: it was UTF-8. Returns its length. */
size_t event_json_escape(const char *text, size_t len, char *out, bool *ret_valid);

/* 4 * (len + 2) / 3 bytes, and a NUL behind them that is not counted. */
size_t event_json_base64(const char *bytes, size_t len, char *out);

#endif
