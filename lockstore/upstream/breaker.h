/* When a cluster that does not answer is left alone, and when it is asked again. Pure but for the dice; the caller locks.
 * Times are of one monotonic clock, in milliseconds. */
#ifndef WORMFS_UPSTREAM_BREAKER_H
#define WORMFS_UPSTREAM_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FIRST_MS 500		/* longest first pause */
#define BREAKER_WEIGHT 6		/* failures in a row that open it; one that never reached the cluster counts as 3 */

enum breaker_state { BREAKER_CLOSED, BREAKER_AWAY, BREAKER_REFUSED };

struct breaker {
	enum breaker_state state;
	unsigned weight, pauses;
	int64_t next_ms;	/* open: not asked before */
	unsigned max_ms;	/* longest pause */
};

/* A pause between nothing and what doubles with every try ("full jitter"): many that failed together do not come back together. */
int64_t breaker_pause_ms(unsigned first_ms, unsigned max_ms, unsigned tries);

/* It answered. True: it was open, and is closed now. */
bool breaker_answered(struct breaker *breaker);
/* No answer. True: it is open for that now, and was not. */
bool breaker_failed(struct breaker *breaker, bool reached, int64_t now_ms);
/* The credentials are not accepted; likewise. */
bool breaker_refused(struct breaker *breaker, int64_t now_ms);
/* Open, and it is time to ask again. */
bool breaker_may_ask(const struct breaker *breaker, int64_t now_ms);

#endif
