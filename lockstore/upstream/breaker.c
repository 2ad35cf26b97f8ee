/* The breaker and its pauses. */
#include "lockstore/upstream/breaker.h"

#include <sys/random.h>

#define SMALLEST_MS 20

int64_t breaker_pause_ms(unsigned first_ms, unsigned max_ms, unsigned tries)
{
	uint64_t limit = first_ms;
	uint32_t dice;

	while (tries-- > 0 && limit < max_ms)
		limit *= 2;
	if (limit > max_ms)
		limit = max_ms;
	if (limit <= SMALLEST_MS)
		return SMALLEST_MS;
	if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != sizeof(dice))
		return (int64_t)limit;
	return SMALLEST_MS + (int64_t)(dice % (limit - SMALLEST_MS));
}

/* True: it was not in this state. */
static bool open_it(struct breaker *b, enum breaker_state state, int64_t now_ms)
{
	bool changed = b->state != state;

	b->pauses = b->state == BREAKER_CLOSED ? 0 : b->pauses + 1;
	b->state = state;
	/* Is it our credentials, or was it a file? That is asked at once. */
	b->next_ms = state == BREAKER_REFUSED && changed ? now_ms : now_ms + breaker_pause_ms(BREAKER_FIRST_MS, b->max_ms, b->pauses);
	return changed;
}

bool breaker_answered(struct breaker *b)
{
	bool was_open = b->state != BREAKER_CLOSED;

	b->weight = 0;
	b->state = BREAKER_CLOSED;
	return was_open;
}

bool breaker_failed(struct breaker *b, bool reached, int64_t now_ms)
{
	/* What was on its way when it opened is no new news. */
	if (b->state != BREAKER_CLOSED && now_ms < b->next_ms)
		return false;
	b->weight += reached ? 1 : 3;
	if (b->state == BREAKER_CLOSED && b->weight < BREAKER_WEIGHT)
		return false;
	return open_it(b, BREAKER_AWAY, now_ms);
}

bool breaker_refused(struct breaker *b, int64_t now_ms)
{
	if (b->state == BREAKER_REFUSED && now_ms < b->next_ms)
		return false;
	return open_it(b, BREAKER_REFUSED, now_ms);
}

bool breaker_may_ask(const struct breaker *b, int64_t now_ms)
{
	return b->state != BREAKER_CLOSED && now_ms >= b->next_ms;
}
