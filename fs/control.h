/* The control socket's server: privileged requests of root and of the daemon's own user, one JSON line
 * each (lockstore/control.h). Nothing a client sends can stop the daemon: length, number and time of
 * connections are bounded. */
#ifndef WORMFS_FS_CONTROL_H
#define WORMFS_FS_CONTROL_H

#include "fs/wormfs.h"

/* -errno after one line on stderr. */
int control_start(struct wormfs *fs);
void control_stop(struct wormfs *fs);

#endif
