/* Limits of our own in the ledger: what is used, for the next mount, and what is allowed, for who asks while nothing is mounted. */
#ifndef WORMFS_LEDGER_LIMITS_H
#define WORMFS_LEDGER_LIMITS_H

#include "lockstore/ledger.h"
#include "lockstore/limit.h"

/* Meta value: "1": the rows are what was there when the last mount ended; else they must be counted anew. */
#define LEDGER_LIMITS_CLEAN "quota.clean"

struct ledger_limit {
	struct limit_section section;	/* of it: key, id, bounds, grace_s */
	struct limit_usage usage;	/* without `changes` */
};

/* Writes these rows; `all`: and takes all others away. One transaction, with the clean mark set to `clean`. */
int ledger_limits_write(struct ledger *ledger, const struct ledger_limit *rows, size_t n, bool all, bool clean);
/* In order of key. The caller frees *ret_rows with ledger_limits_free(). -EIO: more than LIMIT_SECTIONS_MAX, or nonsense in them. */
int ledger_limits_read(struct ledger *ledger, struct ledger_limit **ret_rows, size_t *ret_n);
void ledger_limits_free(struct ledger_limit *rows, size_t n);
int ledger_limits_is_clean(struct ledger *ledger, bool *ret_clean);

#endif
