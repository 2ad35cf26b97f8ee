/* Legal holds as orders (lockstore/ledger_orders.h): decided once, durably, and from that moment enforced for every
 * file that they name; a thread then gives each file its hold, or takes it, and goes on after a crash.
 *
 * Enforced without looking at the files: what is being placed keeps locked files from being deleted whatever their
 * own records say; what is for files to come keeps files that are not locked yet from being deleted, replaced or moved
 * out, and their lock comes with the hold. Without any order both cost one look at a number. */
#ifndef WORMFS_HOLD_H
#define WORMFS_HOLD_H

#include "fs/inode.h"
#include "fs/wormfs.h"
#include "lockstore/ledger_orders.h"

/* Reads what an earlier daemon left undone. Before anything is served. -errno of the ledger. */
int hold_open(struct wormfs *fs);
/* The thread. After lock_recover(). */
int hold_start(struct wormfs *fs);
/* Ends the thread between two batches, and everybody's wait with -ECANCELED; what is undone is so at the next start. */
void hold_stop(struct wormfs *fs);
void hold_close(struct wormfs *fs);	/* after the last caller of hold_run() */

/* 1: an order that is being placed covers this locked file, by any of its known names. 0, or -errno: nobody can say. */
int hold_covers_locked(struct wormfs *fs, struct inode *ino);
/* The same for a file that is not locked, and orders for what comes. */
int hold_covers_coming(struct wormfs *fs, struct inode *ino);
/* The holds that come with a lock: `holds` (of its rule, or -o hold=CASE; '\n' between, NULL: none) and of orders for what comes, '\n' between; NULL: none. The caller
 * frees *ret_names. */
int hold_names_coming(struct wormfs *fs, struct inode *ino, const char *holds, char **ret_names, unsigned *ret_count);
/* The names of the orders that cover it, '\n' between; NULL: none. Likewise. */
int hold_names_covering(struct wormfs *fs, struct inode *ino, enum order_cover which, char **ret_names);
/* May `name` in from_dir become a name in to_dir? -EPERM: an order for what comes would lose it, or (dir: it is a
 * directory) names something at or below it. */
int hold_check_move(struct wormfs *fs, struct inode *from_dir, const char *name, bool dir, struct inode *to_dir);

struct hold_result {
	uint64_t changed;	/* files that got the hold, or lost it */
	uint64_t unchanged;	/* that had it already */
	uint64_t waiting;	/* in scope of an order for what comes, being written now: they get it with their lock */
	uint64_t failed;	/* it is enforced, but their records could not be written: tried again */
	uint64_t bytes;		/* of changed and unchanged */
	bool ended;		/* an order for what comes ended with a release */
};

/* Why a file cannot be held; `what` lives until it returns. */
typedef void (*hold_failed_fn)(void *arg, const char *path, int r, const char *what);
typedef void (*hold_progress_fn)(void *arg, const char *phase, uint64_t files);

/* Whether an order of case `name` can have this path: a file, or with `tree` a directory. 0: yes; 1: the file has
 * the hold already (or, to be released, has it); -errno: it cannot; *ret_what is then one sentence. */
int hold_check_path(struct wormfs *fs, const struct hold_order *order, bool release, const char *path, bool tree,
		    const char **ret_what);
/* Looks at everything the order names, decides it, and waits until it is done. A file that cannot be held: `failed` is
 * called for each, nothing is placed and the order is gone: -EINVAL. -ECANCELED: the daemon ends; it is decided and
 * goes on at the next start. */
int hold_run(struct wormfs *fs, int64_t id, bool release, hold_failed_fn failed, hold_progress_fn progress, void *arg,
	     struct hold_result *ret_result);

/* After every change of an order. When the ledger cannot say, both are taken to be there: then each file asks, and nobody's
 * error is taken for a no. */
int hold_refresh(struct wormfs *fs);

#endif
