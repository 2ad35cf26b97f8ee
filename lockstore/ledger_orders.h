/* Orders: one decision each about a legal hold, "place case C on these files and trees" or "release them".
 *
 * An order is durable before the first file is touched, and from then on it counts: what it names is held
 * until each file has the hold by itself. So a kill between two files leaves nothing half decided, and who
 * comes next goes on. Paths are as in ledger.h; "" with `tree` is the whole share.
 * Threads, transactions and errors as in ledger.h. */
#ifndef WORMFS_LEDGER_ORDERS_H
#define WORMFS_LEDGER_ORDERS_H

#include "lockstore/ledger.h"

#define LEDGER_REASON_MAX_BYTES 1024

enum order_state {
	ORDER_LISTED = 0,	/* paths are being named: nothing is decided */
	ORDER_PLACING = 1,	/* decided: everything it names is held; files get the hold one after the other */
	ORDER_PLACED = 2,	/* every file has it. Kept to be shown, and where `future` for what comes */
	ORDER_RELEASING = 3,	/* decided: files lose the hold one after the other */
};

struct hold_order {
	int64_t id;
	const char *name;	/* of the case */
	enum order_state state;
	bool future;		/* also what is locked later at or below its trees */
	uid_t by;
	int64_t at_s;
	const char *reason;	/* "" = none given */
	uint64_t files, bytes;	/* that it gave the hold to, when it was PLACED */
};

/* LISTED, without paths; id and state of `order` are not read. -EINVAL: not a name, or a reason that is longer than
 * LEDGER_REASON_MAX_BYTES. */
int ledger_order_new(struct ledger *ledger, const struct hold_order *order, int64_t *ret_id);
/* Names a file, or a directory with all below it. 0 also when it has that path already. -ENOENT: no such order. */
int ledger_order_add(struct ledger *ledger, int64_t id, const char *path, bool tree);
/* LISTED becomes PLACING or RELEASING. -ENOENT: no such order, or it is not LISTED. */
int ledger_order_decide(struct ledger *ledger, int64_t id, enum order_state state);
/* What the case keeps for files to come ends at and below the trees of this order. */
int ledger_order_end_future(struct ledger *ledger, int64_t id);
/* PLACING becomes PLACED: what it names file by file is forgotten (the files have it), trees are kept. RELEASING is
 * removed, and with it what was placed before when no file is under the case any more. */
int ledger_order_done(struct ledger *ledger, int64_t id, uint64_t files, uint64_t bytes);
int ledger_order_drop(struct ledger *ledger, int64_t id);	/* 0 also when there is none */
int ledger_orders_drop_listed(struct ledger *ledger);		/* what nobody can decide any more: at start */

typedef int (*ledger_order_fn)(void *arg, const struct hold_order *order);
/* By id; name NULL: of every case. The orders are read before fn is called, which may change the ledger. */
int ledger_orders(struct ledger *ledger, const char *name, ledger_order_fn fn, void *arg);
/* -ENOENT: no such order. */
int ledger_order_find(struct ledger *ledger, int64_t id, ledger_order_fn fn, void *arg);

typedef int (*ledger_order_path_fn)(void *arg, const char *path, bool tree);
/* In order of path, in pages: fn may change the ledger. */
int ledger_order_paths(struct ledger *ledger, int64_t id, ledger_order_path_fn fn, void *arg);

enum order_cover {
	COVER_LOCKED,	/* a locked file: every order that is being placed */
	COVER_COMING,	/* a file that is locked later: orders for what comes, placing or placed */
};
/* Calls fn with each order that covers the path: it names the file, or a directory at or above it. One index
 * look-up for each '/' in it. fn must not use the ledger; NULL: only the number is wanted. Returns the number of
 * orders, what fn returned when that is negative, or an error. */
int ledger_orders_cover(struct ledger *ledger, const char *path, enum order_cover which, ledger_order_fn fn, void *arg);
/* 1: some order for what comes names a path at or below this one. */
int ledger_orders_below(struct ledger *ledger, const char *path);
/* How many are being placed; how many are for what comes. */
int ledger_orders_count(struct ledger *ledger, uint64_t *ret_placing, uint64_t *ret_future);

/* A case as its files show it. */
struct hold_case {
	const char *name;
	uint64_t files, bytes;	/* under it by name */
	int64_t first_s, last_s;	/* when the first and the last of them got it; 0 without a file */
};
typedef int (*ledger_case_fn)(void *arg, const struct hold_case *c);
/* Every case with a file or an order, by name; name NULL: all. Reads every hold: for people, not for programs in a loop. */
int ledger_cases(struct ledger *ledger, const char *name, ledger_case_fn fn, void *arg);

#endif
