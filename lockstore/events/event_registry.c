/* A slot belongs to a registered consumer from the store of `registered` on, and until it is taken back: who reads without
 * the lock looks at that first. Names and slots change under the ring's lock, places by a single store. */
#include "lockstore/events/event_registry.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

bool event_registry_is_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > EVENT_REGISTERED_NAME_MAX || !isalnum((unsigned char)name[0]))
		return false;
	for (const char *c = name; *c; c++)
		if (!isascii((unsigned char)*c) || (!isalnum((unsigned char)*c) && !strchr("._-", *c)))
			return false;
	return true;
}

static bool is_registered(const struct event_consumer *slot)
{
	return atomic_load_explicit(&slot->registered, memory_order_acquire) != 0;
}

static struct event_consumer *find(struct event_ring *ring, const char *name)
{
	struct event_consumer *all = event_ring_slots(ring);

	for (int i = 0; i < EVENT_RING_CONSUMERS; i++)
		if (is_registered(&all[i]) && strncmp(all[i].name, name, sizeof(all[i].name) - 1) == 0)
			return &all[i];
	return NULL;
}

/* Numbers that were overwritten before they were cleared, and are not in `dropped` yet. */
static uint64_t uncounted(struct event_ring *ring, const struct event_consumer *slot, uint64_t *ret_oldest)
{
	uint64_t seq = atomic_load(&slot->seq), counted = atomic_load(&slot->counted), begin = counted > seq ? counted : seq;
	struct event_ring_stats stats;

	event_ring_stats(ring, &stats);
	*ret_oldest = stats.oldest_seq;
	return stats.oldest_seq > begin ? stats.oldest_seq - begin : 0;
}

static void fill(struct event_ring *ring, const struct event_consumer *slot, struct event_registered *ret)
{
	uint64_t oldest;

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->name, slot->name, EVENT_REGISTERED_NAME_MAX);
	ret->dropped = atomic_load(&slot->dropped) + uncounted(ring, slot, &oldest);
	ret->seq = atomic_load(&slot->seq);
	ret->cleared = atomic_load(&slot->sent);
}

static void count_dropped(struct event_ring *ring, struct event_consumer *slot)
{
	uint64_t oldest, lost = uncounted(ring, slot, &oldest);

	if (!lost)
		return;
	atomic_fetch_add(&slot->dropped, lost);
	atomic_store(&slot->counted, oldest);
}

static int add_locked(struct event_ring *ring, const char *name, uint64_t from, struct event_registered *ret)
{
	struct event_consumer *all = event_ring_slots(ring), *use = NULL;
	struct event_ring_stats stats;
	struct timespec now;
	int registered = 0;

	for (int i = 0; i < EVENT_RING_CONSUMERS; i++) {
		if (is_registered(&all[i])) {
			registered++;
			continue;
		}
		/* Free, or a sink's that is in no mount option any more. */
		if (!use || (use->name[0] && (!all[i].name[0] || atomic_load(&all[i].session) < atomic_load(&use->session))))
			use = &all[i];
	}
	event_ring_stats(ring, &stats);
	if (find(ring, name))
		return -EEXIST;
	if (registered >= EVENT_REGISTERED_MAX || !use)
		return -ENOSPC;
	if (from == UINT64_MAX)
		from = stats.next_seq;
	if (from > stats.next_seq)
		return -ERANGE;
	memset((void *)use, 0, sizeof(*use));
	strncpy(use->name, name, sizeof(use->name) - 1);
	clock_gettime(CLOCK_REALTIME, &now);
	atomic_store(&use->since_ns, now.tv_sec * 1000000000LL + now.tv_nsec);
	/* What is gone before it came is not its loss. */
	atomic_store(&use->seq, from > stats.oldest_seq ? from : stats.oldest_seq);
	atomic_store_explicit(&use->registered, 1, memory_order_release);
	fill(ring, use, ret);
	return 0;
}

int event_registry_add(struct event_ring *ring, const char *name, uint64_t from, struct event_registered *ret)
{
	int r = event_registry_is_name(name) ? event_ring_lock(ring) : -EINVAL;

	if (r < 0)
		return r;
	r = add_locked(ring, name, from, ret);
	event_ring_unlock(ring);
	return r;
}

int event_registry_remove(struct event_ring *ring, const char *name)
{
	struct event_consumer *slot;
	int r = event_ring_lock(ring);

	if (r < 0)
		return r;
	slot = find(ring, name);
	if (slot) {
		atomic_store_explicit(&slot->registered, 0, memory_order_release);
		memset((void *)slot, 0, sizeof(*slot));
	}
	event_ring_unlock(ring);
	return slot ? 0 : -ENOENT;
}

static int clear_locked(struct event_ring *ring, const char *name, uint64_t seq, struct event_registered *ret)
{
	struct event_consumer *slot = find(ring, name);
	struct event_ring_stats stats;
	uint64_t before;

	if (!slot)
		return -ENOENT;
	event_ring_stats(ring, &stats);
	if (seq >= stats.next_seq)
		return -ERANGE;
	before = atomic_load(&slot->seq);
	if (seq >= before) {
		/* Not count_dropped(): it says itself that it has them. */
		atomic_fetch_add(&slot->sent, seq + 1 - before);
		atomic_store_explicit(&slot->seq, seq + 1, memory_order_release);
	}
	fill(ring, slot, ret);
	return 0;
}

int event_registry_clear(struct event_ring *ring, const char *name, uint64_t seq, struct event_registered *ret)
{
	int r = event_ring_lock(ring);

	if (r < 0)
		return r;
	r = clear_locked(ring, name, seq, ret);
	event_ring_unlock(ring);
	return r;
}

void event_registry_lost(struct event_ring *ring, const char *name, uint64_t first, uint64_t next)
{
	struct event_consumer *slot;
	uint64_t counted;

	if (event_ring_lock(ring) < 0)
		return;		/* counted by who looks next, if it is not cleared by then */
	slot = find(ring, name);
	counted = slot ? atomic_load(&slot->counted) : next;
	if (counted < first)
		counted = first;
	if (counted < next) {
		atomic_fetch_add(&slot->dropped, next - counted);
		atomic_store(&slot->counted, next);
	}
	event_ring_unlock(ring);
}

int event_registry_find(struct event_ring *ring, const char *name, struct event_registered *ret)
{
	struct event_consumer *slot;

	if (event_ring_lock(ring) == 0) {
		slot = find(ring, name);
		if (slot)
			count_dropped(ring, slot);
		event_ring_unlock(ring);
	}
	slot = find(ring, name);
	if (!slot)
		return -ENOENT;
	fill(ring, slot, ret);
	return 0;
}

bool event_registry_at(struct event_ring *ring, unsigned i, struct event_registered *ret)
{
	struct event_consumer *slot = &event_ring_slots(ring)[i];

	if (!is_registered(slot))
		return false;
	fill(ring, slot, ret);
	return true;
}
