/* Time as retention sees it: UTC seconds since 1970 in an int64, and two words that are no date.
 * Pure functions, no clock of their own; any thread. */
#ifndef WORMFS_RETENTION_H
#define WORMFS_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RETENTION_UNSPECIFIED INT64_MIN	/* locked until somebody sets a date */
#define RETENTION_INFINITE INT64_MAX	/* locked for ever */

enum worm_mode { WORM_GOVERNANCE = 0, WORM_COMPLIANCE = 1 };

/* A period as an administrator writes it. Calendar parts are added in UTC; a day that the target
 * month lacks becomes the 1st of the month after it (29 Feb + 1y = 1 Mar), never an earlier day. */
struct retention {
	enum { RETENTION_PERIOD, RETENTION_DATE, RETENTION_IS_INFINITE, RETENTION_IS_UNSPECIFIED } kind;
	int64_t seconds;	/* PERIOD: s, h, d, w; DATE: the moment itself */
	int32_t months;		/* PERIOD: mo and y */
};

/* "90s" "12h" "30d" "2w" "6mo" "7y", added up ("1y6mo"); "2030-01-01" (midnight UTC),
 * "2030-01-01T12:00:00Z" (also +hh:mm, also a space for T; a fraction is rounded up); "@1893456000";
 * "infinite"; "unspecified". -EINVAL: anything else, negative, or past the year 9999. */
int retention_parse(const char *text, struct retention *ret_retention);

/* The end of a period that starts at from_s. Saturates at the last second of 9999, never overflows. */
int64_t retention_until(const struct retention *r, int64_t from_s);

/* Back to the shortest text that retention_parse() reads as the same value; dates as dates, never "@". */
void retention_format(const struct retention *r, char *buf, size_t len_bytes);

#define RETENTION_TEXT_BYTES 32
/* RFC 3339 in UTC ("2030-01-01T00:00:00Z"), "infinite" or "unspecified". */
void retention_format_until(int64_t until_s, char buf[RETENTION_TEXT_BYTES]);

/* True when b ends later than a does: date < infinite; unspecified may become anything else and
 * nothing may become unspecified. The one place that decides whether a change is an extension. */
bool retention_is_later(int64_t a_until_s, int64_t b_until_s);

/* "governance", "compliance". -EINVAL: neither. */
int worm_mode_parse(const char *text, enum worm_mode *ret_mode);
const char *worm_mode_name(enum worm_mode mode);

#endif
