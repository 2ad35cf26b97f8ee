/* The absolute path of what a user names. */
#ifndef WORMFS_WORMCTL_REAL_PATH_H
#define WORMFS_WORMCTL_REAL_PATH_H

/* Of `path` itself: its directory is followed, its last component only when a '/' comes after it. What comes
 * after the last directory that can be reached is kept as it is written; *ret_error says then why it
 * was not reached (a negative errno), else 0. The caller frees *ret_real.
 * An error: not even that much can be known (an empty path, ".." behind what cannot be reached). */
int real_path(const char *path, char **ret_real, int *ret_error);

#endif
