/* Files of limits as anybody may write them: what is read keeps its promises (names, order, depth), charging never passes a hard limit, and
 * nothing that cannot be read leaves anything behind. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/limit_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void charge(struct limits *limits, const struct limit_set *set, int64_t bytes, int64_t now_s)
{
	struct limit_told told;
	struct limit_usage usage;

	if (limits_charge(limits, set, bytes, 1, 0, now_s, &told) < 0 && told.n != 1)
		abort();
	for (size_t i = 0; i < limits_count(limits); i++) {
		const struct limit_section *s = limits_at(limits, i);

		limits_usage(limits, i, &usage);
		for (int what = 0; what < LIMIT_RESOURCES; what++)
			if (s->bounds[what].hard && usage.used[what] > s->bounds[what].hard)
				abort();
	}
}

static void try_section(struct limits *limits, size_t i)
{
	const struct limit_section *s = limits_at(limits, i);
	struct limit_set set = { LIMIT_NONE, LIMIT_NONE, LIMIT_NONE };
	struct limit_usage usage;
	unsigned depth = 0;
	json_t *json;

	if (s->kind == LIMIT_DIRECTORY) {
		set.directory = limits_of_path(limits, s->name);
		if (set.directory != (int)i || !limits_have_path(limits, s->name))
			abort();
		for (int at = i; at != LIMIT_NONE; at = limits_at(limits, at)->outer)
			if (++depth > LIMIT_DEPTH_MAX || strncmp(s->name, limits_at(limits, at)->name, strlen(limits_at(limits, at)->name)) != 0)
				abort();
	} else if (s->kind == LIMIT_USER) {
		set.user = limits_of_user(limits, s->id);
		if (set.user != (int)i)
			abort();
	}
	charge(limits, &set, 1000, 1);
	charge(limits, &set, INT64_MAX, 1000000);
	limits_usage(limits, i, &usage);
	json = limit_json(s, &usage, 2000000);
	if (!json)
		abort();
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct limits *limits, *again;
	struct limit_section *sections;
	struct ini_error error;

	if (limits_parse("fuzz", (const char *)data, len, &limits, &error) < 0) {
		if (!error.text[0])
			abort();
		return 0;
	}
	sections = calloc(limits_count(limits), sizeof(*sections));
	for (size_t i = 0; i < limits_count(limits); i++)
		sections[i] = *limits_at(limits, i);
	if (limits_of_sections(sections, limits_count(limits), &again) < 0 || limits_count(again) != limits_count(limits))
		abort();	/* what the ledger keeps can be read */
	for (size_t i = 0; i < limits_count(limits) && i < 20; i++)
		try_section(limits, i);
	free(sections);
	limits_close(again);
	limits_close(limits);
	return 0;
}
