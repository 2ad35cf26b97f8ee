/* From parsed options to a served mount, and back. */
#ifndef WORMFS_DAEMON_H
#define WORMFS_DAEMON_H

#include "fs/wormfs.h"

#define EXIT_COULD_NOT 2

/* fs is zero but for opt, which this ends, and tier. Goes to the background where opt says so; returns the exit status of the
 * process when the mount has ended. Once a process. */
int daemon_run(struct wormfs *fs);

#endif
