/* What can be seen of a share, kept up to date by two threads for whoever asks: the last events of its ring, refusals a minute, what
 * its daemon says of itself, and what is counted in its ledger. Only looks; goes on while nothing is mounted, and across mounts.
 *
 * What it holds is bounded: LOOKOUT_EVENTS events of LOOKOUT_EVENT_BYTES together, an hour of minutes, LOOKOUT_RULES rules. The ledger is
 * walked in steps (ledger_census.h), again and again, at most a fifth of the time. Any thread may ask; nobody who asks waits for a disk
 * or a daemon. */
#ifndef WORMFS_WORMCTL_LOOKOUT_H
#define WORMFS_WORMCTL_LOOKOUT_H

#include <jansson.h>
#include <stdint.h>

#define LOOKOUT_EVENTS 500
#define LOOKOUT_EVENT_BYTES (2 << 20)
#define LOOKOUT_ANSWER_EVENTS 200		/* of one answer */
#define LOOKOUT_ANSWER_BYTES (1 << 20)		/* likewise, about */
#define LOOKOUT_LOOK_BACK 20000			/* events of the past that are looked at for the refusals of the last hour */
#define LOOKOUT_MINUTES 60
#define LOOKOUT_DAYS 31
#define LOOKOUT_RULES 256			/* with a number of their own; more are counted together */

struct lookout;

/* share: what it is called, for people. */
int lookout_open(const char *share, const char *state_dir, struct lookout **ret_lookout);
/* -ETIMEDOUT: a thread hangs in a daemon that does not answer; then nothing is given back, and the process is to end. */
int lookout_close(struct lookout *lookout);

/* All but the events, for the page; without keys, credentials, or where they are kept. NULL: out of memory. */
json_t *lookout_state(struct lookout *lookout);

/* {"missed":N,"skipped":N,"events":[...],"next":N}: what comes behind event `after`, as `wormctl events --json` prints it; UINT64_MAX: the last
 * LOOKOUT_ANSWER_EVENTS. missed: never seen here; skipped: behind `after`, and not kept any more. The caller frees *ret_text. */
int lookout_events(struct lookout *lookout, uint64_t after, char **ret_text, size_t *ret_len);

/* All counters in the text format of Prometheus, 0.0.4. Likewise. */
int lookout_metrics(struct lookout *lookout, char **ret_text, size_t *ret_len);

#endif
