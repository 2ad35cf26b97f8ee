/* What the last line of an audit log about each hold of each lock says. In an unnamed database of SQLite, which keeps what does not
 * fit in its cache in a file below $SQLITE_TMPDIR, $TMPDIR or /var/tmp: some 50 bytes a hold. One thread at a time. */
#ifndef WORMFS_WORMCTL_TESTIMONY_HOLDS_H
#define WORMFS_WORMCTL_TESTIMONY_HOLDS_H

#include <stdint.h>

#include "lockstore/case_name.h"
#include "lockstore/witness.h"

struct testimony_holds;

struct hold_said {
	char name[CASE_NAME_MAX_BYTES + 1];
	enum witness_hold what;		/* TRIED also: lines about two files have this serial number */
	uint64_t seq;
};

/* -ENOMEM, -EIO: there is no room for it. */
int testimony_holds_open(struct testimony_holds **ret);
void testimony_holds_close(struct testimony_holds *holds);	/* NULL is fine */

/* `names`: '\n' between them; those that are none are passed over. A later line replaces an earlier one. */
int testimony_holds_put(struct testimony_holds *holds, uint64_t serial, uint32_t key_hash, const char *names, enum witness_hold what,
			uint64_t seq);

/* Begins with the holds of this lock; then each, in the order of the names' bytes: 1, 0 when there is no more, -errno. */
int testimony_holds_of(struct testimony_holds *holds, uint64_t serial);
int testimony_holds_next(struct testimony_holds *holds, struct hold_said *ret);
void testimony_holds_end(struct testimony_holds *holds);

#endif
