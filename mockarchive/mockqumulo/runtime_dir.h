/* The directory in which a running mock leaves what its clients need, and its files where it was given none. Private to the user,
 * gone with the process; one that a killed process left is taken away by the next. */
#ifndef WORMFS_RUNTIME_DIR_H
#define WORMFS_RUNTIME_DIR_H

#include <stddef.h>

struct runtime_dir;

/* A new directory `prefix`XXXXXX below `base`. */
int runtime_dir_open(const char *base, const char *prefix, struct runtime_dir **ret_dir);
/* Takes it away, with everything in it. */
void runtime_dir_close(struct runtime_dir *dir);

const char *runtime_dir_path(const struct runtime_dir *dir);
/* PATH/name, the caller's to free; NULL: out of memory. */
char *runtime_dir_join(const struct runtime_dir *dir, const char *name);

/* A new file with mode 0600; a line end is added. -EEXIST etc. */
int private_file_write(const char *path, const char *text);
/* Its first line. -EPERM: others can read it. -ENOENT etc. */
int private_file_read(const char *path, char *ret_text, size_t size);

#endif
