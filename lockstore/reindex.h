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

/* A file with a record: `name` in the directory dir_fd; path is from the share's root. Called with dir_fd -1 and NULLs for a file
 * without one, to count. A non-zero return ends the walk and is returned. */
typedef int (*reindex_record_fn)(void *arg, int dir_fd, const char *name, const char *path);
/* Walks the tree at directory `prefix` ("" = all) below root_fd as reindex() does. -ENOENT, -ENOTDIR: prefix is no directory.
 * `failed` is told what cannot be read, by the same path; it is left out. */
int reindex_each_record(int root_fd, const char *prefix, enum lower_namespace ns, reindex_record_fn fn,
			reindex_problem_fn failed, void *arg);

#endif
