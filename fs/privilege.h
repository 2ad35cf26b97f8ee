/* What only privilege may do, and only over the control socket: delete a file before its time or make its date earlier
 * (governance mode, -o privdel=on, never past a hold), and delete expired files by command.
 *
 * Deny wins: one function looks at everything that forbids it, under the file's lock; then the audit line is on disk;
 * then it is done. A crash between any two steps leaves the file locked, or gone. */
#ifndef WORMFS_PRIVILEGE_H
#define WORMFS_PRIVILEGE_H

#include "fs/inode.h"
#include "fs/wormfs.h"

#define PRIVILEGE_APPROVAL_S 86400	/* a request waits so long for the second person, by the clock of retention */

/* At start, ledger and share are open: `never` is noted for ever, and `on` refused where it was. -errno after one
 * line on stderr. */
int privilege_open(struct wormfs *fs);
/* "off", "on" or "never": what is in force. */
const char *privilege_name(struct wormfs *fs);

/* `who`: for the audit log, "uid 0" or "uid 0, approved by uid 7 (request 3)". *ret_what: why not, in one sentence, else
 * NULL. -EPERM: forbidden. -EINVAL: not locked, or no earlier date. -EBUSY: still being written. -EIO: nobody can say. */
int privilege_delete(struct wormfs *fs, struct inode *ino, const char *path, const char *reason, const char *who,
		     const char **ret_what);
int privilege_shorten(struct wormfs *fs, struct inode *ino, int64_t until_s, const char *reason, const char *who,
		      const char **ret_what);
/* The same questions without doing it: for a request that has to wait for the second person. until_s: of shorten. */
int privilege_check(struct wormfs *fs, struct inode *ino, const int64_t *until_s, const char **ret_what);

/* Deletes an expired file, all its names; through the guard, as unlink(2) does. -EPERM: it is not expired. */
int privilege_expire(struct wormfs *fs, struct inode *ino, const char *path, const char *who, const char **ret_what);

#endif
