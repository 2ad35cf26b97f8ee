/* Acting as the caller: what is created on the share belongs to who asked for it, and set-id bits are
 * cleared as they would be for him. Per thread; a thread that already is the caller pays nothing. */
#ifndef WORMFS_CREDENTIALS_H
#define WORMFS_CREDENTIALS_H

#include <fuse_lowlevel.h>

#include "fs/wormfs.h"

/* Once, before any thread: keeps capabilities when the filesystem uid changes, and gives up
 * CAP_SYS_RESOURCE, with which a user's writes would pass his disk quota. */
int credentials_init(struct wormfs *fs);

/* This thread's filesystem uid and gid and umask become the caller's: for what is created. Without root:
 * only the umask. -EIO: they cannot be taken on, and nothing may be done. */
int credentials_assume(struct wormfs *fs, fuse_req_t req);

/* For a change of a file with this mode: also without CAP_FSETID, unless the caller is root, so that the
 * lower filesystem clears set-id bits as it would for him; with S_ISGID also with his groups. */
int credentials_assume_writer(struct wormfs *fs, fuse_req_t req, mode_t mode);

/* FUSE says which thread asks: are these two of one process? */
bool credentials_same_process(pid_t a, pid_t b);

/* Back to the daemon's own. (The umask stays: who creates something assumes the caller's first.) */
void credentials_drop(struct wormfs *fs);

#endif
