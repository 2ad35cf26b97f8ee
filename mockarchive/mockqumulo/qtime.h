/* Times as the REST interface writes them: RFC 3339 in UTC, up to nine digits of a second, trailing zeros left out. Pure. */
#ifndef WORMFS_QTIME_H
#define WORMFS_QTIME_H

#include <stdbool.h>
#include <stdint.h>

struct qtime {
	int64_t s;	/* since 1970, 0 to the end of the year 9999 */
	uint32_t ns;
};

#define QTIME_TEXT_BYTES 40

/* "2030-01-02T03:04:05Z", also ".1" to ".123456789" before the Z; with allow_offset also "+02:00" in its place.
 * -EINVAL: anything else, or no such day. */
int qtime_parse(const char *text, bool allow_offset, struct qtime *ret_time);
void qtime_format(struct qtime t, char ret_text[QTIME_TEXT_BYTES]);
/* <0, 0, >0 as strcmp(). */
int qtime_compare(struct qtime a, struct qtime b);

/* The form of the Date and Retry-After headers: "Wed, 25 Nov 2026 08:00:00 GMT". */
void qtime_format_http(int64_t s, char ret_text[QTIME_TEXT_BYTES]);

#endif
