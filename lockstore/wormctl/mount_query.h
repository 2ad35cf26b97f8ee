/* Asks a mount who its daemon is, and gives up on one that does not answer. */
#ifndef WORMFS_WORMCTL_MOUNT_QUERY_H
#define WORMFS_WORMCTL_MOUNT_QUERY_H

#include <jansson.h>

#define MOUNT_QUERY_S 10	/* a daemon that does not even say who it is for so long is stuck */

/* user.worm.mount of `path`; *ret_mount is the caller's. -ETIMEDOUT: the daemon is stuck.
 * -EPROTO: what it answers is no JSON object. */
int mount_query(const char *path, json_t **ret_mount);

#endif
