/* Locks counted by rule and by when they end. One thread. */
#ifndef WORMFS_WORMCTL_CENSUS_H
#define WORMFS_WORMCTL_CENSUS_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstore/ledger_census.h"
#include "lockstore/wormctl/lookout.h"

#define CENSUS_NAME_BYTES 128		/* a longer name is cut */
#define CENSUS_MONTHS 1200		/* from the month of now on; what ends later is counted together */
#define CENSUS_STEP_ROWS 2000
#define CENSUS_STEP_MS 200		/* of one census_step() */
#define CENSUS_AGAIN_S 10		/* from the end of a walk to the next, and CENSUS_AGAIN_TIMES as long as it took */
#define CENSUS_AGAIN_TIMES 20

struct census {
	bool complete;			/* all rows are in it */
	int64_t now_s;			/* when the walk began: what `expired` and days count from */
	int64_t last_id;		/* rows above this one are not in it yet */
	uint64_t files, held, expired, infinite, unspecified, later;	/* held: also in one of the others, by its date; expired: without hold */
	uint64_t days[LOOKOUT_DAYS];	/* the first: the day (UTC) of now_s, what is left of it */
	uint64_t months[CENSUS_MONTHS];
	unsigned nrules;
	struct { char name[CENSUS_NAME_BYTES]; uint64_t files; } rules[LOOKOUT_RULES];
	uint64_t other_rules;		/* files */
	/* its own */
	int64_t began_ms, ended_ms, worked_ms;
};

/* Begins a walk. */
void census_begin(struct census *census, int64_t now_s, int64_t mono_ms);
/* Goes on with it for a while, or adds the rows that came since. */
int census_step(struct census *census, struct ledger *ledger);
/* It is time for a new walk: rows of a complete one may have changed since. */
bool census_is_due(const struct census *census, int64_t mono_ms);
/* "2026-11" of months[i] */
void census_month_name(const struct census *census, unsigned i, char ret_name[16]);

#endif
