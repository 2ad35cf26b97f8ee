/* What namespace.c and rename.c have in common. */
#ifndef WORMFS_NAMESPACE_PRIVATE_H
#define WORMFS_NAMESPACE_PRIVATE_H

#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/wormfs.h"

/* A directory and its descriptor; put gives both back. */
int dir_get(struct wormfs *fs, uint64_t nodeid, struct inode **ret_dir, int *ret_fd);
void dir_put(struct wormfs *fs, struct inode *dir, int fd);
/* A name of it goes or moves: see inode_handle.c. */
int keep_handle(struct wormfs *fs, struct inode *ino);
/* As it is before its name goes, for the limits that it counts for. nlink 0: nothing to give back. */
void look_before_unlink_locked(struct wormfs *fs, struct inode *ino, int dirfd, const char *name, struct stat *ret_st);

#endif
