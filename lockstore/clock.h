/* Where "now" comes from. Everything that compares a date asks here, so that a test can move time.
 * "wall": CLOCK_REALTIME. "file:PATH": wall plus the seconds (signed decimal) that PATH holds at each
 * reading; for tests and demonstrations only, refused in compliance mode, and said at mount. Any thread. */
#ifndef WORMFS_CLOCK_H
#define WORMFS_CLOCK_H

#include <stdint.h>

struct clock_source;

/* spec NULL = "wall". -EINVAL: neither form, or PATH holds no number. -ENOENT etc.: PATH cannot be read.
 * A relative PATH is seen from the working directory of this call. */
int clock_source_open(const char *spec, struct clock_source **ret_clock);
void clock_source_close(struct clock_source *clock);

/* UTC seconds. A file that cannot be read any more, or holds no number, counts as an offset of 0 (time does not run ahead). */
int64_t clock_source_now_s(struct clock_source *clock);
const char *clock_source_name(const struct clock_source *clock);

#endif
