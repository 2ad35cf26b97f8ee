#include "lockstore/wormctl/census.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lockstore/retention.h"

#define DAY_S 86400

static int64_t mono_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int64_t month_of(int64_t at_s)
{
	time_t t = at_s;
	struct tm tm;

	return gmtime_r(&t, &tm) ? (tm.tm_year + 1900LL) * 12 + tm.tm_mon : INT64_MAX;
}

static void count_rule(struct census *c, const char *name)
{
	unsigned i;

	for (i = 0; i < c->nrules; i++)
		if (strncmp(c->rules[i].name, name, CENSUS_NAME_BYTES - 1) == 0)
			break;
	if (i == LOOKOUT_RULES) {
		c->other_rules++;
		return;
	}
	if (i == c->nrules) {
		snprintf(c->rules[i].name, CENSUS_NAME_BYTES, "%s", name);
		c->rules[i].files = 0;
		c->nrules++;
	}
	c->rules[i].files++;
}

static void count_end(struct census *c, int64_t until_s, bool held)
{
	int64_t day, month;

	if (until_s == RETENTION_INFINITE) {
		c->infinite++;
		return;
	}
	if (until_s == RETENTION_UNSPECIFIED) {
		c->unspecified++;
		return;
	}
	if (until_s <= c->now_s) {
		c->expired += held ? 0 : 1;
		return;
	}
	day = until_s / DAY_S - c->now_s / DAY_S;
	if (day < LOOKOUT_DAYS)
		c->days[day]++;
	month = month_of(until_s) - month_of(c->now_s);
	if (month < CENSUS_MONTHS)
		c->months[month]++;
	else
		c->later++;
}

static void count_row(void *arg, const struct ledger_census_row *row)
{
	struct census *c = arg;

	c->files++;
	c->held += row->held ? 1 : 0;
	count_rule(c, row->rule);
	count_end(c, row->until_s, row->held);
	c->last_id = row->id;
}

void census_begin(struct census *c, int64_t now_s, int64_t now_mono_ms)
{
	memset(c, 0, sizeof(*c));
	c->now_s = now_s;
	c->last_id = INT64_MIN;
	c->began_ms = now_mono_ms;
}

int census_step(struct census *c, struct ledger *ledger)
{
	int64_t began_ms = mono_ms();
	unsigned n = CENSUS_STEP_ROWS;
	int r = 0;

	while (r == 0 && n == CENSUS_STEP_ROWS && mono_ms() - began_ms < CENSUS_STEP_MS)
		r = ledger_census(ledger, c->last_id, CENSUS_STEP_ROWS, count_row, c, &n);
	if (c->complete || r < 0)
		return r;
	c->worked_ms += mono_ms() - began_ms;
	c->complete = n < CENSUS_STEP_ROWS;
	c->ended_ms = mono_ms();
	return 0;
}

bool census_is_due(const struct census *c, int64_t now_mono_ms)
{
	return !c->began_ms || (c->complete && now_mono_ms - c->ended_ms >= CENSUS_AGAIN_S * 1000LL &&
				now_mono_ms - c->ended_ms >= CENSUS_AGAIN_TIMES * c->worked_ms);
}

void census_month_name(const struct census *c, unsigned i, char ret_name[16])
{
	int64_t month = month_of(c->now_s) + i;

	snprintf(ret_name, 16, "%04u-%02u", (unsigned)(month / 12) % 10000, (unsigned)(month % 12) + 1);
}
