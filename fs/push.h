/* Locks that a cluster is to have as well: the daemon's side of lockstore/upstream/pusher.h. Without -o push all of these
 * do nothing. */
#ifndef WORMFS_PUSH_H
#define WORMFS_PUSH_H

#include <jansson.h>

#include "fs/inode.h"
#include "fs/wormfs.h"
#include "lockstore/ledger_push.h"

/* Address, credentials and files of the options. -errno after one line on stderr. */
int push_open(struct wormfs *fs);
/* The threads. The ledger is there, the committer runs. */
int push_start(struct wormfs *fs);
void push_stop(struct wormfs *fs);	/* twice is fine */
void push_close(struct wormfs *fs);

/* Something is due now: look. */
void push_kick(struct wormfs *fs);

/* Is the lock of a file to be pushed, as its row says it? `set`: what is in force for it. */
enum ledger_push push_of(struct wormfs *fs, const struct policy_settings *set);

/* In close(2), with -o push_wait: the file was locked just now, and `fd`, through which it was written, is its only writer. Waits until
 * the cluster has the lock, or for as long as may be; the lock holds and stays in the queue in any case. rename_lock and the
 * inode's lock are not held. */
void push_wait_at_close(struct wormfs *fs, struct inode *ino, int fd);

/* "locked", "pending: why", "failed: why", "off". -ENODATA: no locked file. The caller frees *ret_text. */
int push_text(struct wormfs *fs, struct inode *ino, char **ret_text);
/* Of a file that is locked: an object, or null without -o push. */
json_t *push_file_json(struct wormfs *fs, struct inode *ino);
/* Of the mount: an object, or null. */
json_t *push_mount_json(struct wormfs *fs);
void push_add_problems(struct wormfs *fs, json_t *list);

#endif
