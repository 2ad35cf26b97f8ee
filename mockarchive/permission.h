/* Who may what. With default_permissions the kernel would know, and never ask access(2): so the archive checks, by mode, owner and
 * groups as the kernel does. Root may everything but execute what nobody may. */
#ifndef WORMFS_PERMISSION_H
#define WORMFS_PERMISSION_H

#include "fs/ops.h"

/* mask: R_OK, W_OK, X_OK. 0, -EACCES, -ESTALE. */
int permission_may(struct wormfs *fs, fuse_req_t req, fuse_ino_t nodeid, int mask);
/* A name in a directory: made (name NULL), or taken away, which the sticky bit leaves to owners. -EPERM too. */
int permission_change_name(struct wormfs *fs, fuse_req_t req, fuse_ino_t parent, const char *name);
/* chmod, chown, truncate, utimens. -EPERM too. `handle`: through an open file. */
int permission_setattr(struct wormfs *fs, fuse_req_t req, fuse_ino_t nodeid, const struct stat *attr, int to_set, bool handle);

#endif
