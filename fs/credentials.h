/* Acting as the caller: what is created on the share belongs to who asked for it, and set-id bits are
 * cleared as they would be for him. Per thread; a thread that already is the caller pays nothing. */
#ifndef WORMFS_CREDENTIALS_H
#define WORMFS_CREDENTIALS_H

#include <fuse_lowlevel.h>

#include "fs/wormfs.h"

/* Once, before any thread: keeps capabilities when the filesystem uid changes, and gives up
 * CAP_SYS_RESOURCE, with which a user's writes would pass his disk quota. */
int credentials_init(struct wormfs *fs);

/* This thread's filesystem uid and gid, umask and CAP_FSETID become the caller's. Without root: only the
 * umask. -EIO: they cannot be taken on, and nothing may be created. */
int credentials_assume(struct wormfs *fs, fuse_req_t req);

/* Back to the daemon's own. (The umask stays: who creates something assumes the caller's first.) */
void credentials_drop(struct wormfs *fs);

/* Until credentials_drop(): for what passthrough shall write with on behalf of everybody who has the
 * file open. So it clears set-id bits for root, too, where the lower directory would keep them. */
void credentials_without_fsetid(struct wormfs *fs);

#endif
