/* What the lower filesystem refuses for want of room: EDQUOT and ENOSPC of any request. Each is counted; the first of a
 * user is told at once (quota_notice.h), the rest as one number every SHORTAGE_PERIOD_S, so that a flood of them is some lines.
 *
 * Writes that go by kernel passthrough do not come here. When their file is closed the filesystem is asked whether it is
 * full now, which is told as such: who got what is not known then. */
#ifndef WORMFS_SHORTAGE_H
#define WORMFS_SHORTAGE_H

#include <errno.h>
#include <jansson.h>

#include "fs/handle.h"
#include "fs/wormfs.h"

#define SHORTAGE_PERIOD_S 10
#define SHORTAGE_FULL_BYTES (64 * 1024)	/* a filesystem with less for its users is full: the last block is rarely given away */
#define SHORTAGE_MAX 64		/* told at once or as a sum, each period; what is more is only counted */

struct event_note;
struct inode;
struct quota_notice;

/* shortage_close() tells what is left; NULL and twice is fine. */
int shortage_open(struct wormfs *fs);
void shortage_close(struct wormfs *fs);

/* For user.worm.mount. */
json_t *shortage_json(struct wormfs *fs);

/* Called by events_note() (events.h) for each request that ends in -EDQUOT or -ENOSPC, before its reply. ino->lock may be held for
 * an EVENT_UNLINK, and is not otherwise. */
void shortage_note(struct wormfs *fs, const struct event_note *note);
/* This request of this thread was refused by a limit of our own, which has told it. */
void shortage_is_ours(void);
/* Tells a notice of count 1, or adds it to the sum of its like: same user, quota and warning. Takes `path` over, or NULL; the notice's
 * own is not looked at. */
void shortage_tell(struct wormfs *fs, const struct quota_notice *notice, char *path);
/* A writer's handle goes; wants no lock. */
void shortage_look(struct wormfs *fs, struct handle *h);

static inline bool is_shortage(int r)
{
	return __builtin_expect(r == -EDQUOT || r == -ENOSPC, 0);
}

#endif
