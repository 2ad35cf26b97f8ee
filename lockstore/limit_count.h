/* Counts what limits count, from the files: at a mount that cannot trust the ledger, and for wormctl quota check. */
#ifndef WORMFS_LIMIT_COUNT_H
#define WORMFS_LIMIT_COUNT_H

#include "lockstore/limit.h"
#include "lockstore/lower.h"
#include "lockstore/record.h"

struct limit_count {
	uint64_t (*used)[LIMIT_RESOURCES];	/* one a section, the caller's */
	uint64_t files;			/* seen */
	uint64_t unreadable;		/* directories and files: what is in them is not counted */
	char *first_unreadable;		/* its path, or NULL; the caller frees it */
	int error;			/* of that one */
};

/* Walks the filesystem of root_fd. key: of the records, for the limits of rules; NULL: there are none. */
int limit_count(const struct limits *limits, int root_fd, enum lower_namespace ns, struct record_key *key, struct limit_count *count);

#endif
