/* A walk over all rows of the ledger in small steps, for who counts them for as long as he runs. Each step is one look along
 * the row ids: what it costs is its number of rows, whatever the ledger has, and it holds up nobody meanwhile. Any thread. */
#ifndef WORMFS_LEDGER_CENSUS_H
#define WORMFS_LEDGER_CENSUS_H

#include "lockstore/ledger.h"

struct ledger_census_row {
	int64_t id;		/* the cursor: rises with the order in which rows came */
	int64_t until_s;
	bool held;		/* by name, or counted in the record */
	const char *rule;	/* "" = mount options */
};
/* Must not ask the ledger. */
typedef void (*ledger_census_fn)(void *arg, const struct ledger_census_row *row);

/* At most `limit` rows with ids above after_id (INT64_MIN: the first), in order of id. *ret_n: how many there were. */
int ledger_census(struct ledger *ledger, int64_t after_id, unsigned limit, ledger_census_fn fn, void *arg, unsigned *ret_n);

#endif
