/* What the lower filesystem can do, found out by trying it on a file without a name. */
#ifndef WORMFS_LOWER_PROBE_H
#define WORMFS_LOWER_PROBE_H

#include "fs/wormfs.h"

/* Fills fs->lower. Leaves nothing on the share. -errno: the share cannot be used. */
int lower_probe(struct wormfs *fs);

#endif
