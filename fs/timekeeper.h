/* The clock of retention of this mount: which one, its beginning, what it does once a second, and its acceptance of the
 * system's date. lockstore/own_clock.h says how the clock of its own counts. */
#ifndef WORMFS_TIMEKEEPER_H
#define WORMFS_TIMEKEEPER_H

#include <jansson.h>

#include "fs/wormfs.h"

/* Makes fs->clock as the option says; key and ledger are there. share_is_new: nothing was ever locked here.
 * -errno after one line on stderr. */
int timekeeper_open(struct wormfs *fs, bool share_is_new);
void timekeeper_close(struct wormfs *fs);
/* The log and the audit log learn how it began. */
void timekeeper_mounted(struct wormfs *fs);
/* Once a second, from one thread. */
void timekeeper_tick(struct wormfs *fs);

/* By privilege: takes the system's date over, once, after the audit log has the line. -EALREADY: it is not behind.
 * -EOPNOTSUPP: there is no clock of its own. -EPERM: compliance mode, and the kernel does not say that the date is
 * synchronised (adjtimex(2)). -ENOSPC etc.: audit log or state cannot be written. */
int timekeeper_accept(struct wormfs *fs, const char *reason, int64_t *ret_gained_s);

/* "clock_state" of user.worm.mount (lockstore/control.h), and what needs a person. NULL: no memory. */
json_t *timekeeper_json(struct wormfs *fs);
void timekeeper_add_problems(struct wormfs *fs, json_t *list);

#endif
