/* Where "now" comes from. Everything that compares a date asks here, so that a test can move time.
 * "own": time that nobody can push (own_clock.h). "wall": CLOCK_REALTIME. "file:PATH": wall plus the seconds (signed
 * decimal) that PATH holds at each reading. The last two are for tests, demonstrations and CI, refused in compliance mode,
 * and said at mount. Any thread. */
#ifndef WORMFS_CLOCK_H
#define WORMFS_CLOCK_H

#include <stdint.h>

struct clock_source;
struct own_clock;

/* spec NULL = "wall". -EINVAL: neither form, or PATH holds no number. -ENOENT etc.: PATH cannot be read.
 * A relative PATH is seen from the working directory of this call. */
int clock_source_open(const char *spec, struct clock_source **ret_clock);
/* Takes `own`, which clock_source_close() ends, when it returns 0. */
int clock_source_open_own(struct own_clock *own, struct clock_source **ret_clock);
void clock_source_close(struct clock_source *clock);

/* UTC seconds. A file that cannot be read any more, or holds no number, counts as an offset of 0 (time does not run ahead). */
int64_t clock_source_now_s(struct clock_source *clock);
/* Now as the times of files count it, to tell how long one is idle: the system's date, moved like "file:". */
int64_t clock_source_file_now_s(struct clock_source *clock);
const char *clock_source_name(const struct clock_source *clock);
/* NULL: it is none. */
struct own_clock *clock_source_own(struct clock_source *clock);

#endif
