/* The pusher: brings what waits in the ledger (ledger_push.h) to a cluster, many at a time, for as long as it takes.
 *
 * Two threads: the keeper reads pages of the ledger and writes what came of them, in batches; the engine talks to the cluster and
 * never waits for a disk. What is between them is bounded, whatever waits in the ledger. A file has one request on its way at a
 * time. After a kill what was on its way is sent again: the same date, which changes nothing.
 *
 * A cluster that does not answer is left alone (a breaker): one line in the log, then one request now and then until it is back,
 * and one line for that. */
#ifndef WORMFS_UPSTREAM_PUSHER_H
#define WORMFS_UPSTREAM_PUSHER_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstore/ledger.h"
#include "lockstore/upstream/check.h"
#include "lockstore/upstream/plan.h"
#include "lockstore/upstream/qumulo.h"

#define PUSHER_RETRY_S 60		/* longest pause after what passes; after a refusal PUSHER_REFUSED_FACTOR times that */
#define PUSHER_REFUSED_FACTOR 60
#define PUSHER_REASON_BYTES 256

struct pusher;

struct pusher_file {
	const struct ledger_push_row *row;
	bool waited_for;	/* somebody in close(2) waits: it may be closing still */
	int r;			/* prepare() sets it: 0; -EBUSY: not yet; else why its data is not safe */
	int64_t wait_ms;	/* likewise, with -EBUSY: for how long; 0: a moment */
};

enum pusher_level { PUSHER_INFO, PUSHER_WARNING, PUSHER_ERROR };

struct pusher_ops {
	/* Of a row made from a file (LEDGER_PUSH_ASK): does its rule want it? */
	bool (*wanted)(void *arg, const struct ledger_push_row *row);
	/* Nobody can write to these files, nothing of ours has them open for writing, and their data is on stable storage. */
	void (*prepare)(void *arg, struct pusher_file *files, unsigned n);
	int64_t (*now_s)(void *arg);	/* clock of retention */
	void (*log)(void *arg, enum pusher_level level, const char *line);
	/* It was told (error NULL), or refused for the first time. */
	void (*told)(void *arg, const struct file_key *key, const char *path, const struct push_plan *plan, const char *error);
};

struct pusher_config {
	struct qumulo_config qumulo;
	const char *root;		/* path of the share on the cluster. Copied */
	struct push_undated undated;
	unsigned retry_s;		/* 0: PUSHER_RETRY_S */
	const struct pusher_ops *ops;	/* constant */
	void *arg;
};

/* Ledger, credentials and ops outlive it. Start it in the daemon: threads do not survive a fork. */
int pusher_start(struct ledger *ledger, const struct pusher_config *config, struct pusher **ret_pusher);
/* Waits a moment for what is on its way, then leaves it to the next start. NULL is fine. */
void pusher_stop(struct pusher *pusher);

/* There is something new, or something was said to be due: look now. */
void pusher_kick(struct pusher *pusher);

/* Until the cluster has the lock of this file, whose row is in the ledger. -ETIMEDOUT; -EHOSTDOWN: the cluster is away, so nobody
 * waits; -EREMOTEIO: refused. It stays in the queue in any case. */
int pusher_wait(struct pusher *pusher, const struct file_key *key, unsigned timeout_ms);

struct pusher_status {
	enum { PUSHER_OK, PUSHER_AWAY, PUSHER_REFUSED } state;	/* REFUSED: its credentials are not accepted */
	char reason[PUSHER_REASON_BYTES];	/* unless OK */
	int64_t since_s;			/* wall time; likewise */
	int64_t next_try_s;			/* likewise */
	unsigned in_flight;
	uint64_t told, refused, requests;	/* since start */
	bool checked;				/* what was found when pushing began, and since: */
	struct upstream_finding findings[UPSTREAM_CHECKS];
	bool has_skew;
	int64_t skew_s;				/* the cluster's clock is ahead of ours by this */
};
void pusher_status(struct pusher *pusher, struct pusher_status *ret_status);

#endif
