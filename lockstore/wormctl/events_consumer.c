/* events consumer: who reads the ring by himself, and how far he is done. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lockstore/events/event_registry.h"
#include "lockstore/wormctl/events.h"

bool events_is_consumer_verb(const char *verb)
{
	return strcmp(verb, "register") == 0 || strcmp(verb, "deregister") == 0 || strcmp(verb, "clear") == 0 || strcmp(verb, "list") == 0;
}

static void print_consumer(const struct wormctl *ctl, struct event_ring *ring, const struct event_registered *c)
{
	struct event_ring_stats stats;
	uint64_t behind;

	event_ring_stats(ring, &stats);
	behind = stats.next_seq > c->seq ? stats.next_seq - c->seq : 0;
	if (ctl->json)
		(void)print_json(json_pack("{s:s, s:I, s:I, s:I, s:I}", "consumer", c->name, "seq", (json_int_t)c->seq, "behind",
					   (json_int_t)behind, "cleared", (json_int_t)c->cleared, "dropped", (json_int_t)c->dropped));
	else
		printf("%s next %" PRIu64 ", %" PRIu64 " behind, %" PRIu64 " cleared, %" PRIu64 " dropped\n", c->name, c->seq, behind, c->cleared,
		       c->dropped);
}

static int say(struct failure *f, int r, const char *name, uint64_t seq)
{
	switch (r) {
	case -EINVAL:
		return fail(f, r, "%s is no name of a consumer: up to %d letters, digits, '.', '_' and '-', beginning with a letter or digit",
			    quoted(name), EVENT_REGISTERED_NAME_MAX);
	case -EEXIST:
		return fail(f, r, "there is a consumer %s already", quoted(name));
	case -ENOENT:
		return fail(f, r, "there is no consumer %s: 'wormctl events consumer register' makes it, 'list' shows who is there", quoted(name));
	case -ENOSPC:
		return fail(f, r, "there are %d consumers already: deregister one", EVENT_REGISTERED_MAX);
	case -ERANGE:
		return fail(f, r, "no event has the number %" PRIu64 " yet; 'wormctl events stats' says which there are", seq);
	case -EBUSY:
		return fail(f, r, "another process holds the ring: try again");
	case -ESTALE:
		return fail(f, r, "the ring was made anew meanwhile: try again");
	}
	return fail(f, r, "cannot change the consumer %s: %s", quoted(name), strerror(-r));
}

int events_find_consumer(struct event_ring *ring, const char *name, uint64_t *ret_seq, struct failure *f)
{
	struct event_registered c;
	int r = event_registry_find(ring, name, &c);

	if (r < 0)
		return say(f, r, name, 0);
	*ret_seq = c.seq;
	return 0;
}

int events_consumer(const struct wormctl *ctl, struct event_ring *ring, const char *verb, const char *name, uint64_t seq, struct failure *f)
{
	struct event_registered c;
	int found = 0, r;

	if (strcmp(verb, "list") == 0) {
		for (unsigned i = 0; i < EVENT_RING_CONSUMERS; i++) {
			if (!event_registry_at(ring, i, &c))
				continue;
			print_consumer(ctl, ring, &c);
			found++;
		}
		return found;
	}
	if (strcmp(verb, "deregister") == 0) {
		r = event_registry_remove(ring, name);
		return r < 0 ? say(f, r, name, seq) : 1;
	}
	r = strcmp(verb, "register") == 0 ? event_registry_add(ring, name, seq, &c) : event_registry_clear(ring, name, seq, &c);
	if (r < 0)
		return say(f, r, name, seq);
	print_consumer(ctl, ring, &c);
	return 1;
}
