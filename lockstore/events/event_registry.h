/* Consumers that read the ring by themselves, as users of a Lustre changelog do: each is registered under a name, reads from
 * where it is (wormctl events tail --consumer), and clears what it has done. Their places are in the ring's header, beside
 * those of sinks: they outlive the daemon, and need none. Any process that may write to the ring, any thread.
 *
 * The ring keeps what is not cleared for as long as its size allows; what was overwritten before it was cleared is counted
 * as dropped. With events=strict the daemon waits for them as it does for sinks. */
#ifndef WORMFS_EVENT_REGISTRY_H
#define WORMFS_EVENT_REGISTRY_H

#include "lockstore/events/event_ring.h"

#define EVENT_REGISTERED_MAX 8		/* the other slots are for sinks: EVENT_SINKS_MAX of them */
#define EVENT_REGISTERED_NAME_MAX 64	/* letters, digits, '.', '_', '-'; the first is a letter or digit */

struct event_registered {
	char name[EVENT_REGISTERED_NAME_MAX + 1];
	uint64_t seq;			/* of the oldest that is not cleared */
	uint64_t cleared, dropped;	/* numbers, since it was registered */
};

bool event_registry_is_name(const char *name);

/* from: the first that it wants, UINT64_MAX: what comes. -EEXIST, -ENOSPC: EVENT_REGISTERED_MAX are there. -ERANGE: the
 * ring has given no such number yet. -ESTALE: the ring was made anew meanwhile. -EBUSY: somebody holds it. */
int event_registry_add(struct event_ring *ring, const char *name, uint64_t from, struct event_registered *ret);
/* -ENOENT: there is none of that name; -ESTALE, -EBUSY. */
int event_registry_remove(struct event_ring *ring, const char *name);
/* Everything up to and with `seq` is done; below what is cleared already: nothing changes. -ENOENT, -ERANGE, -ESTALE, -EBUSY. */
int event_registry_clear(struct event_ring *ring, const char *name, uint64_t seq, struct event_registered *ret);
/* It was told of a gap: [first, next) was overwritten before it came there. Counted once, also if it clears them now. */
void event_registry_lost(struct event_ring *ring, const char *name, uint64_t first, uint64_t next);
/* What was overwritten is counted, also for who may only read. -ENOENT. */
int event_registry_find(struct event_ring *ring, const char *name, struct event_registered *ret);
/* The i-th slot of EVENT_RING_CONSUMERS; false: it is no registered one's. */
bool event_registry_at(struct event_ring *ring, unsigned i, struct event_registered *ret);

#endif
