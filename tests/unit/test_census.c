/* Locks counted by rule and by when they end, in steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>

#include "lockstore/ledger_census.h"
#include "lockstore/retention.h"

struct seen {
	unsigned n;
	int64_t last_id;
	char rules[64];
};

static void on_row(void *arg, const struct ledger_census_row *row)
{
	struct seen *seen = arg;

	assert_true(row->id > seen->last_id);
	seen->last_id = row->id;
	seen->n++;
	if (strlen(seen->rules) < sizeof(seen->rules) - 2)
		strcat(seen->rules, row->rule);
}

static void put(struct ledger *ledger, unsigned i, const char *rule)
{
	char path[32];
	struct ledger_row row = { .path = path, .rule = rule, .rec = { .until_s = 1000 + i, .serial = i + 1 } };

	snprintf(path, sizeof(path), "f%u", i);
	row.key.len = 4;
	memcpy(row.key.bytes, &i, 4);
	assert_int_equal(ledger_put(ledger, &row), 0);
}

static void test_each_row_comes_once_in_steps_of_the_size_that_is_asked_for(void **state)
{
	char dir[] = "/tmp/census.XXXXXX", command[64];
	struct seen seen = { .last_id = INT64_MIN };
	struct ledger *ledger;
	unsigned n = 0, steps = 0;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(ledger_open(dir, LEDGER_CREATE, NULL, &ledger), 0);
	assert_int_equal(ledger_census(ledger, INT64_MIN, 10, on_row, &seen, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 25; i++)
		put(ledger, i, i % 2 ? "b" : "");
	assert_int_equal(ledger_commit(ledger), 0);
	do {
		assert_int_equal(ledger_census(ledger, seen.last_id, 10, on_row, &seen, &n), 0);
		steps++;
	} while (n == 10);
	assert_int_equal(seen.n, 25);
	assert_int_equal(steps, 3);
	assert_string_equal(seen.rules, "bbbbbbbbbbbb");
	put(ledger, 25, "c");		/* what comes later comes behind */
	assert_int_equal(ledger_census(ledger, seen.last_id, 10, on_row, &seen, &n), 0);
	assert_int_equal(n, 1);
	ledger_close(ledger);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_row_comes_once_in_steps_of_the_size_that_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
