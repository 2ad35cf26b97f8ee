/* What this daemon tells the audit log (lockstore/audit.h): each function below makes one entry of what the caller
 * just did, refused or found, with who asked (actor.h). With audit=off and on commit=never mounts all of them do
 * nothing. None waits or fails; the _locked ones want ino->lock, or an inode that nobody else has. */
#ifndef WORMFS_TRAIL_H
#define WORMFS_TRAIL_H

#include "fs/guard.h"
#include "fs/inode.h"
#include "fs/wormfs.h"
#include "lockstore/audit.h"

/* Opens the log, its ledger and state directory are there. -errno after one line on stderr. */
int trail_open(struct wormfs *fs);
/* Says that the mount ended, anchors, closes. Twice is fine. */
void trail_close(struct wormfs *fs, bool mounted);
/* Once a second, from one thread: ledger and log that begin or cease to fail, the hourly anchor. */
void trail_tick(struct wormfs *fs);

void trail_mounted(struct wormfs *fs);
/* A regular file was made. */
void trail_created_locked(struct wormfs *fs, struct inode *ino);
/* The file was locked (ino->rec) or, with a result, could not be. `path` NULL: found out here. */
void trail_commit_locked(struct wormfs *fs, struct inode *ino, const char *path, const char *reason, int result);
/* `why`: one word or a few: the state of the file, or what else was the reason. */
void trail_refused_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, const char *why, int result);
/* Anything else that happened to a file. */
void trail_file_locked(struct wormfs *fs, struct inode *ino, enum audit_event event, int result, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* Before something is done by privilege: 0 when the line is on stable storage; else the request must be refused with
 * the error. `ino` NULL: it has to do with no file. Waits for the disk. When the deed fails after all, say that with trail_file_locked(). */
int trail_before_locked(struct wormfs *fs, struct inode *ino, enum audit_event event, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The same for what has to do with no file, or with many. */
int trail_before(struct wormfs *fs, enum audit_event event, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A cluster confirmed the lock of a file; `error` not NULL: refused it, and why. */
void trail_push(struct wormfs *fs, const struct file_key *key, const char *path, const char *error, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* A file that is not there any more is released from a hold: only the ledger has its name. */
void trail_released_gone(struct wormfs *fs, const struct file_key *key, const char *path, uint64_t serial, const char *case_name);
/* Waits until all lines so far are on stable storage; 0 where there is no log. -errno: they are not. */
int trail_flush(struct wormfs *fs);
/* What has to do with no file. */
void trail_note(struct wormfs *fs, enum audit_event event, int result, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
