/* Between inode.c (the table), inode_name.c, inode_handle.c and descriptor.c; nobody else includes it. */
#ifndef WORMFS_INODE_PRIVATE_H
#define WORMFS_INODE_PRIVATE_H

#include "fs/inode.h"

/* The kernel found `ino` as `name` in `parent`. -ENOMEM only when it has no other name. */
int inode_remember_name(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name, nlink_t nlink);
/* The name (at least NAME_MAX + 1 bytes) and the parent, referenced, or NULL. */
struct inode *inode_name_of(struct wormfs *fs, struct inode *ino, char *ret_name);

/* The handle of `name` in dirfd ("": dirfd itself); the caller frees *ret_handle. */
int inode_read_handle(int dirfd, const char *name, struct file_handle **ret_handle);
bool inode_same_handle(const struct file_handle *a, const struct file_handle *b);
/* That of the share's root, which shows the shape of handles here; NULL: there are none. */
struct file_handle *inode_root_handle(struct wormfs *fs);

/* The node id of a file by its number and filesystem (0: the share's own). */
uint64_t inode_nodeid_of(uint64_t ino, uint32_t dev_index);

#endif
