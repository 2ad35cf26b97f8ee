/* Descriptors of lower files: a bounded cache of O_PATH descriptors, opened from the inode's file
 * handle when needed and closed when others need the place. Any thread. */
#ifndef WORMFS_DESCRIPTOR_H
#define WORMFS_DESCRIPTOR_H

#include <stdint.h>
#include <sys/stat.h>

struct wormfs;
struct inode;

int descriptor_cache_open(struct wormfs *fs, unsigned limit);
void descriptor_cache_close(struct wormfs *fs);

/* An O_PATH descriptor of the inode, or -errno (-ESTALE: the file is gone). Give it back with
 * descriptor_put(); do not close it. */
int descriptor_get(struct wormfs *fs, struct inode *ino);
void descriptor_put(struct wormfs *fs, struct inode *ino, int fd);

/* Forget the cached one: the inode goes away or its last name did. */
void descriptor_drop(struct wormfs *fs, struct inode *ino);

/* A new descriptor with these open(2) flags; the caller closes it. */
int descriptor_open(struct wormfs *fs, struct inode *ino, int flags);

/* A file that may be about to end: while this is open, the lower filesystem gives its number to no other file, so a tier that knows files
 * by it has heard of the end before. The caller closes it. -1: there is no tier, or the file is gone. */
int descriptor_hold(struct wormfs *fs, struct inode *ino);

/* The same by the name of a regular file that was only looked up so far, and its attributes. ino->lock is held, and no
 * O_TRUNC. -EOPNOTSUPP: use descriptor_open(), which also knows what is wrong. */
int descriptor_open_named_locked(struct wormfs *fs, struct inode *ino, int flags, struct stat *ret_st);

unsigned descriptor_count(struct wormfs *fs);

#endif
