/* The FUSE session: which operations, which of the kernel's features, which transport. */
#ifndef WORMFS_SESSION_H
#define WORMFS_SESSION_H

#include <stdint.h>

#include "fs/wormfs.h"

/* Makes the session and mounts it. -errno after one line on stderr. */
int session_open(struct wormfs *fs);
/* Serves until the mount ends or a signal comes. 0, or -errno. */
int session_loop(struct wormfs *fs);
void session_close(struct wormfs *fs);
/* From any thread: it was unmounted, or a signal ends it. */
bool session_is_ending(struct wormfs *fs);
/* A name went below the mount. No lock may be held: the kernel waits for requests on that directory. Any thread, also when
 * nothing is mounted yet or any more. */
void session_notify_delete(struct wormfs *fs, uint64_t parent, uint64_t child, const char *name);
/* The pages that the kernel keeps of a file are not its data any more. It waits for reads of it that are not answered yet. Any thread. */
void session_notify_pages(struct wormfs *fs, uint64_t nodeid);

#endif
