/* Rebuilds the ledger from the records on the files: after a lost or rolled-back database, a restore
 * from backup, or a power cut. Reads the share, writes only the ledger and missing pins. */
#ifndef WORMFS_REINDEX_H
#define WORMFS_REINDEX_H

#include <stdint.h>

#include "lockstore/ledger.h"
#include "lockstore/lower.h"
#include "lockstore/record.h"

struct reindex_stats {
	uint64_t files;		/* regular files seen */
	uint64_t locked;	/* with a good record: now in the ledger */
	uint64_t added;		/* of these, new to the ledger */
	uint64_t bad;		/* with a record that does not verify: still locked, not in the ledger */
	uint64_t changed;	/* size or mtime is not what the record says: edited below the mount */
	uint64_t missing;	/* rows whose file is gone; kept, and shown as missing */
	uint64_t pins;		/* pins that were missing and are set now */
	uint64_t stripped;	/* rows whose file has no record any more: locked by the ledger alone */
	uint64_t errors;	/* could not be read */
};
typedef void (*reindex_problem_fn)(void *arg, const char *path, const char *what);
typedef int (*reindex_progress_fn)(void *arg, const struct reindex_stats *so_far); /* non-zero: stop, -ECANCELED */

/* Walks the tree at root_fd without following symbolic links or leaving its filesystem, at most 64
 * descriptors open whatever the depth. Rows go into the ledger 1,000 a transaction, so the ledger and the
 * share stay in use meanwhile. What cannot be read is counted, told and left out; the ledger's errors end
 * the walk. -EOPNOTSUPP: the filesystem has no xattrs, so there is nothing to find. problem and progress
 * may be NULL. */
int reindex(struct ledger *ledger, struct record_key *key, int root_fd, enum lower_namespace ns,
	    reindex_problem_fn problem, reindex_progress_fn progress, void *arg, struct reindex_stats *ret_stats);

/* 1: some file below dir_fd (not followed, same filesystem) carries a record; 0: none; looks at no more
 * than max_entries names and answers 1 when there are more. -errno: some of it cannot be read. Who
 * cannot know must say locked. */
int reindex_has_record_below(int dir_fd, enum lower_namespace ns, uint64_t max_entries);

#endif
