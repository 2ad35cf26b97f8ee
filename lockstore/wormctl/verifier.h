/* The work behind `wormctl verify`: asks file, record, ledger and audit log about every locked file of a subject, with several threads at
 * a bounded pace, and tells what does not agree. Findings come in the order of paths, whatever the number of threads. */
#ifndef WORMFS_WORMCTL_VERIFIER_H
#define WORMFS_WORMCTL_VERIFIER_H

#include <stdatomic.h>

#include "lockstore/verify.h"
#include "lockstore/wormctl/subject.h"
#include "lockstore/wormctl/testimony.h"

#define VERIFIER_JOBS_MAX 64

struct verifier_totals {
	uint64_t files;			/* of the ledger that were looked at */
	uint64_t bytes;			/* that were read */
	uint64_t pending;		/* without a digest to compare with */
	uint64_t offline;		/* their data is on tape (mockarchive): it was not read */
	uint64_t gone;			/* expired, without a hold, and not there any more: no finding */
	uint64_t errors;		/* could not be looked at */
	uint64_t kinds[VERIFY_KINDS];
};

/* Where a run stopped: everything up to this row is done. */
struct verifier_cursor {
	char *path;			/* NULL: at the start */
	struct file_key key;
};

struct verifier_options {
	unsigned jobs;			/* 1-VERIFIER_JOBS_MAX */
	uint64_t bytes_a_second;	/* 0: no limit */
	int64_t since_s;		/* only what was locked then or later; INT64_MIN: all */
	struct testimony *testimony;	/* of the audit log; NULL: there is none */
	const atomic_bool *stop;	/* set by a signal */
	/* Each under one lock, so never two at a time; any thread. */
	void (*finding)(void *arg, const char *path, enum verify_kind kind, const char *what);
	void (*error)(void *arg, const char *path, const char *what);
	void (*progress)(void *arg, const struct verifier_totals *so_far, const struct verifier_cursor *cursor); /* a few times a second */
	void *arg;
};

/* Begins behind *cursor, adds to *totals, and leaves in both how far it came. 0, -ECANCELED (stop), or -errno and *f. */
int verifier_run(struct subject *subject, const struct verifier_options *options, struct verifier_totals *totals,
		 struct verifier_cursor *cursor, struct failure *f);

uint64_t verifier_findings(const struct verifier_totals *totals);

#endif
