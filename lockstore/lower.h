/* What wormfs writes on the lower files: names of its xattrs, and calls that work on an O_PATH
 * descriptor. Used by the daemon, by reindex and by wormctl when nothing is mounted. Any thread. */
#ifndef WORMFS_LOWER_H
#define WORMFS_LOWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lockstore/file_key.h"

/* `trusted.` needs CAP_SYS_ADMIN to read or write; `user.` is what a daemon without root has. */
enum lower_namespace { LOWER_TRUSTED, LOWER_USER };

const char *lower_xattr_record(enum lower_namespace ns);	/* "trusted.wormfs": the lock record */
const char *lower_xattr_pin(enum lower_namespace ns);		/* "trusted.wormfs.pin": on directories */
const char *lower_xattr_share(enum lower_namespace ns);		/* "trusted.wormfs.share": id, on the root */
const char *lower_xattr_privdel(enum lower_namespace ns);	/* "trusted.wormfs.privdel": on the root, "never" */
const char *lower_xattr_until(enum lower_namespace ns);		/* "trusted.wormfs.until": wished before the lock (fs/atime.h) */

const char *lower_xattr_archive(enum lower_namespace ns);	/* "trusted.wormfs.archive": mockarchive's record (mockarchive/file.c) */

/* By that record: the data of the file is on tape, and what is on disk is a hole. */
bool lower_is_offline(int fd, enum lower_namespace ns);

/* True for every name that clients may neither see nor set through the mount. */
bool lower_xattr_is_ours(const char *name);

/* xattr calls on any descriptor, also O_PATH, also of a symbolic link (through /proc/self/fd where the
 * descriptor itself is refused: -EIO when /proc is not mounted). Size or 0, or -errno; -ENODATA: no such
 * attribute. */
ssize_t lower_getxattr(int fd, const char *name, void *buf, size_t len_bytes);
int lower_setxattr(int fd, const char *name, const void *buf, size_t len_bytes, int flags);
int lower_removexattr(int fd, const char *name);
ssize_t lower_listxattr(int fd, char *buf, size_t len_bytes);
/* Of a name in a directory, not followed: getxattrat(2), Linux 6.13, one call; three before. */
ssize_t lower_getxattr_at(int dirfd, const char *name, const char *xattr, void *buf, size_t len_bytes);

/* Opens a path of the ledger, of any length, below dirfd ("." = itself): never through a symbolic link or out of the
 * tree. across_mounts: also on a filesystem that is mounted below; else -EXDEV. -errno. */
int lower_open(int dirfd, const char *path, int flags, bool across_mounts);

/* The key of an open or O_PATH descriptor (name "" ) or of a name in a directory (not followed).
 * Uses the file handle where there is one, else dev, ino and birth time. */
int lower_file_key(int dirfd, const char *name, struct file_key *ret_key);

/* The key is a file handle (and can be opened with open_by_handle_at), not dev and ino. */
bool file_key_is_handle(const struct file_key *key);

/* Opens ".." of a directory below the share. Never goes through a mount: a mount over the share covers
 * its root, and a daemon that walked up into its own mount would wait for itself. Where ".." would do
 * so, it is the root of the share. -errno. */
int lower_open_parent(int root_fd, int dir_fd, int flags);

/* Puts the pin on a directory and on every directory above it up to the root of the share, topmost
 * first, stopping at the first that has it: whoever has the pin has pinned parents.
 * The root itself is pinned too. `dir_fd` may be O_PATH; root_fd is the share's root.
 * -EXDEV: dir_fd is not below it. Where the way up ends at the root of another mount first, as it does for a directory of a
 * filesystem mounted below the share, all up to that one are pinned, and the root. */
int lower_pin(int root_fd, int dir_fd, enum lower_namespace ns);

/* The same without stopping at a pin: after a restore a directory may have its own and lack one above. */
int lower_pin_repair(int root_fd, int dir_fd, enum lower_namespace ns, uint64_t *ret_pins);

#endif
