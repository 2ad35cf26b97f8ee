/* Every regular file at or below a path, as the lower tree has them now: for requests about whole trees.
 * One directory is open at a time and none while fn runs on its files; memory is what the names of one directory and
 * the paths of directories still to come take. Symbolic links are not followed. Takes no lock; fn may take any. */
#ifndef WORMFS_TREE_H
#define WORMFS_TREE_H

#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/wormfs.h"

typedef int (*tree_file_fn)(void *arg, struct inode *ino, const char *path, const struct stat *st);
/* `path` cannot be read (r): 0 goes on without it. */
typedef int (*tree_failed_fn)(void *arg, const char *path, int r);

/* path "": the whole share; a regular file: it alone. A non-zero return of either callback ends the walk and is returned.
 * What goes away while the walk runs is left out. */
int tree_each_file(struct wormfs *fs, const char *path, tree_file_fn fn, tree_failed_fn failed, void *arg);

#endif
