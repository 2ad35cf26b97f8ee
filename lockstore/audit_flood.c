/* Open addressing in a table that is never more than half full; a sweep that empties slots
 * moves the rest into a second table. */
#include "lockstore/audit_flood.h"

#include <stdlib.h>
#include <string.h>

#include "lockstore/audit.h"

#define TABLE (2 * AUDIT_FLOOD_SLOTS)
#define WINDOW_NS (AUDIT_REPEAT_S * INT64_C(1000000000))

struct slot {
	struct audit_flood_id id;
	void *entry;		/* NULL: free */
	uint64_t count;
	int64_t end_ns;
};

struct overflow {
	uid_t uid;
	enum audit_event event;
	uint64_t count;		/* 0: free */
};

struct audit_flood {
	struct slot tables[2][TABLE], *table;	/* one in use */
	unsigned used;
	struct overflow overflows[AUDIT_FLOOD_OVERFLOWS];
	unsigned noverflows;
	uint64_t crowd[AUDIT_EVENTS];	/* what has no place of its own: nobody is blamed for another's */
};

static unsigned hash_of(const struct audit_flood_id *id)
{
	uint64_t h = id->file * 0x9e3779b97f4a7c15ULL;

	h = (h ^ id->uid) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (id->event << 8 | id->op)) * 0x9e3779b97f4a7c15ULL;
	return h >> 40;
}

static bool same(const struct audit_flood_id *a, const struct audit_flood_id *b)
{
	return a->file == b->file && a->uid == b->uid && a->event == b->event && a->op == b->op;
}

/* The slot of an id, or the free one where it would be. */
static struct slot *find(struct audit_flood *flood, const struct audit_flood_id *id)
{
	unsigned i = hash_of(id) % TABLE;

	while (flood->table[i].entry && !same(&flood->table[i].id, id))
		i = (i + 1) % TABLE;
	return &flood->table[i];
}

struct audit_flood *audit_flood_open(void)
{
	struct audit_flood *flood = calloc(1, sizeof(*flood));

	if (flood)
		flood->table = flood->tables[0];
	return flood;
}

void audit_flood_close(struct audit_flood *flood, void (*destroy)(void *entry))
{
	if (!flood)
		return;
	for (unsigned i = 0; i < TABLE; i++)
		if (flood->table[i].entry)
			destroy(flood->table[i].entry);
	free(flood);
}

static void count_overflow(struct audit_flood *flood, const struct audit_flood_id *id)
{
	struct overflow *o;

	for (unsigned i = 0; i < flood->noverflows; i++) {
		o = &flood->overflows[i];
		if (o->uid == id->uid && o->event == id->event) {
			o->count++;
			return;
		}
	}
	if (flood->noverflows < AUDIT_FLOOD_OVERFLOWS) {
		flood->overflows[flood->noverflows++] = (struct overflow){ .uid = id->uid, .event = id->event, .count = 1 };
		return;
	}
	flood->crowd[id->event]++;
}

bool audit_flood_count(struct audit_flood *flood, const struct audit_flood_id *id)
{
	struct slot *slot = find(flood, id);

	if (slot->entry)
		slot->count++;
	else if (flood->used == AUDIT_FLOOD_SLOTS)
		count_overflow(flood, id);
	else
		return false;
	return true;
}

bool audit_flood_begin(struct audit_flood *flood, const struct audit_flood_id *id, void *entry, int64_t now_ns,
		       bool *ret_counted)
{
	struct slot *slot = find(flood, id);

	*ret_counted = false;
	if (slot->entry)
		return false;	/* two came at once: both get their line */
	if (flood->used == AUDIT_FLOOD_SLOTS) {
		count_overflow(flood, id);
		*ret_counted = true;
		return false;
	}
	*slot = (struct slot){ .id = *id, .entry = entry, .end_ns = now_ns + WINDOW_NS };
	flood->used++;
	return true;
}

void audit_flood_sweep(struct audit_flood *flood, int64_t now_ns, bool all,
		       void (*fn)(void *arg, void *entry, const struct audit_flood_id *id, uint64_t count), void *arg,
		       void (*destroy)(void *entry))
{
	struct slot *old;
	bool freed = false;

	for (unsigned i = 0; i < TABLE && flood->used; i++) {
		struct slot *slot = &flood->table[i];

		if (!slot->entry || (!all && slot->end_ns > now_ns))
			continue;
		if (slot->count)
			fn(arg, slot->entry, &slot->id, slot->count);
		if (slot->count && !all) {
			slot->count = 0;
			slot->end_ns = now_ns + WINDOW_NS;
			continue;
		}
		destroy(slot->entry);
		slot->entry = NULL;
		flood->used--;
		freed = true;
	}
	for (unsigned i = 0; i < flood->noverflows; i++) {
		struct audit_flood_id id = { .uid = flood->overflows[i].uid, .event = flood->overflows[i].event };

		fn(arg, NULL, &id, flood->overflows[i].count);
	}
	flood->noverflows = 0;
	for (unsigned event = 0; event < AUDIT_EVENTS; event++) {
		struct audit_flood_id id = { .uid = AUDIT_FLOOD_CROWD, .event = event };

		if (flood->crowd[event])
			fn(arg, NULL, &id, flood->crowd[event]);
		flood->crowd[event] = 0;
	}
	if (!freed)
		return;
	/* Holes would end the chains of probes: everybody moves to the other table. */
	old = flood->table;
	flood->table = old == flood->tables[0] ? flood->tables[1] : flood->tables[0];
	memset(flood->table, 0, sizeof(flood->tables[0]));
	for (unsigned i = 0; i < TABLE; i++)
		if (old[i].entry)
			*find(flood, &old[i].id) = old[i];
}

unsigned audit_flood_active(const struct audit_flood *flood)
{
	return flood->used + flood->noverflows;
}
