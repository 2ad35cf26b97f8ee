/* Compares a ledger with the cluster that has its locks, both ways: every row is looked up there, then every file there that no row
 * knows is looked at. Bounded in calls a second and in flight; can stop anywhere and go on later. One thread; changes nothing. */
#ifndef WORMFS_UPSTREAM_RECONCILE_H
#define WORMFS_UPSTREAM_RECONCILE_H

#include <stdatomic.h>

#include "lockstore/ledger.h"
#include "lockstore/upstream/qumulo.h"
#include "lockstore/upstream/walk.h"

#define RECONCILE_JOBS 32
#define RECONCILE_BATCH 256		/* rows, or entries, between two points where it can stop */
#define RECONCILE_TRIES 5		/* of a call, while the cluster is away or busy */

enum reconcile_kind {
	RECONCILE_UNLOCKED,	/* there, and not locked there */
	RECONCILE_WEAKER,	/* locked there, and ends earlier, or lacks the hold */
	RECONCILE_GONE,		/* no such file there */
	RECONCILE_UNDATED,	/* cannot be told to a cluster: a retention without a date */
	RECONCILE_STRANGER,	/* locked there, not known here */
	RECONCILE_KINDS
};
const char *reconcile_kind_name(enum reconcile_kind kind);
const char *reconcile_kind_advice(enum reconcile_kind kind);

struct reconcile_finding {
	enum reconcile_kind kind;
	const char *path;
	const struct file_key *key;	/* NULL: STRANGER */
	const char *what;		/* one line */
};

struct reconcile_totals {
	uint64_t rows;		/* of the ledger that were compared */
	uint64_t over;		/* whose time is over, append-only ones and those that are not pushed: nothing has to be there */
	uint64_t upstream;	/* files there that were looked at */
	uint64_t errors;	/* could not be compared */
	uint64_t kinds[RECONCILE_KINDS];
};

/* Where it stopped. The caller ends it with reconcile_place_fini(). */
struct reconcile_place {
	bool walking;		/* the rows are done */
	char *after_path;	/* NULL: at the start */
	struct file_key after_key;
	struct walk *walk;	/* with walking; NULL: at its start */
};
void reconcile_place_fini(struct reconcile_place *place);

struct reconcile_config {
	struct qumulo *qumulo;		/* used by nobody else */
	struct ledger *ledger;		/* for reading */
	const char *root;		/* of the share on the cluster */
	const char *path;		/* from the share's root, "" = all of it */
	int64_t now_s;			/* by the clock of retention */
	bool undated_is_hold;		/* what stands for a retention without a date; neither: nothing can */
	bool has_undated_date;
	int64_t undated_date_s;
	bool all;			/* also rows that are not to be pushed */
	unsigned calls_a_second;	/* 0: no limit */
	const atomic_bool *stop;
	/* A locked file there that no row has by this name: is it one of ours by another name (a hard link)? */
	bool (*is_ours)(void *arg, const char *path);
	/* Non-zero ends the run. */
	int (*finding)(void *arg, const struct reconcile_finding *finding);
	void (*error)(void *arg, const char *path, const char *what);
	/* Everything before `place` is done, and was told. */
	void (*progress)(void *arg, const struct reconcile_totals *totals, const struct reconcile_place *place);
	void *arg;
};

/* Begins at *place, adds to *totals, and leaves in both how far it came. 0; -ECANCELED: stop. Else ret_why is one line: -EHOSTUNREACH: the
 * cluster is away; -EACCES: it does not accept the credentials; -EIO: the ledger; or what finding() returned. */
#define RECONCILE_WHY_BYTES 400
int reconcile_run(const struct reconcile_config *config, struct reconcile_totals *totals, struct reconcile_place *place,
		  char ret_why[RECONCILE_WHY_BYTES]);

uint64_t reconcile_findings(const struct reconcile_totals *totals);

#endif
