/* The FUSE session: which operations, which of the kernel's features, which transport. */
#ifndef WORMFS_SESSION_H
#define WORMFS_SESSION_H

#include "fs/wormfs.h"

/* Makes the session and mounts it. -errno after one line on stderr. */
int session_open(struct wormfs *fs);
/* Serves until the mount ends or a signal comes. 0, or -errno. */
int session_loop(struct wormfs *fs);
void session_close(struct wormfs *fs);

#endif
