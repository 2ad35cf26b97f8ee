/* Files that are waited for: put off by every change, given out when due, never forgotten while busy, bounded. */
#include "tests/unit/unit.h"

#include "lockstore/upstream/settling.h"

#define WORST 32760

static void test_a_file_is_due_when_nothing_has_changed_for_a_while(void **state)
{
	struct settling_file *file;
	struct settling *s;

	assert_int_equal(settling_open(0, &s), 0);
	CHECK("nothing waits", settling_take(s, INT64_MAX) == NULL && settling_next_ms(s) == INT64_MAX);
	assert_int_equal(settling_touch(s, "a", 100), 0);
	assert_int_equal(settling_touch(s, "b", 110), 0);
	assert_int_equal(settling_touch(s, "a", 150), 0);
	CHECK_INT("each once", settling_count(s), 2);
	CHECK("a change puts it off", settling_take(s, 109) == NULL);
	file = settling_take(s, 149);
	CHECK("the one that did not change", file && strcmp(file->path, "b") == 0);
	CHECK("is given out once", settling_take(s, 149) == NULL);
	settling_put(s, file, -1, 0);
	CHECK_INT("done", settling_count(s), 1);
	CHECK_INT("when the other is due", settling_next_ms(s), 150);
	settling_forget(s, "a");
	settling_forget(s, "never there");
	CHECK_INT("gone", settling_count(s), 0);
	settling_close(s);
}

static void test_what_happens_to_a_file_while_it_is_locked_is_not_lost(void **state)
{
	struct settling_file *file;
	struct settling *s;

	assert_int_equal(settling_open(0, &s), 0);
	assert_int_equal(settling_touch(s, "a", 1), 0);
	file = settling_take(s, 1);
	assert_int_equal(settling_touch(s, "a", 5), 0);
	settling_put(s, file, -1, 7);
	CHECK_INT("changed: it is due again", settling_next_ms(s), 7);
	file = settling_take(s, 7);
	settling_forget(s, "a");
	settling_put(s, file, 9, 9);
	CHECK_INT("gone: it is forgotten", settling_count(s), 0);
	assert_int_equal(settling_touch(s, "a", 1), 0);
	file = settling_take(s, 1);
	settling_forget(s, "a");
	assert_int_equal(settling_touch(s, "a", 5), 0);
	settling_put(s, file, -1, 7);
	CHECK_INT("gone and there again: due", settling_next_ms(s), 7);
	file = settling_take(s, 7);
	file->tries = 3;
	settling_put(s, file, 20, 9);
	CHECK_INT("failed: due later", settling_next_ms(s), 20);
	CHECK_INT("and counted", settling_take(s, 20)->tries, 3);
	settling_close(s);
}

static void test_the_table_has_its_bounds(void **state)
{
	char name[64], *longest = calloc(1, WORST);
	struct settling *s;
	int r = 0, n = 0;

	assert_int_equal(settling_open(3, &s), 0);
	for (; n < 10 && r == 0; n++) {
		snprintf(name, sizeof(name), "%d", n);
		r = settling_touch(s, name, n);
	}
	CHECK_INT("full", r, -ENOSPC);
	CHECK_INT("of three", settling_count(s), 3);
	CHECK("and says so", settling_is_full(s));
	CHECK_INT("who is in it may still change", settling_touch(s, "1", 50), 0);
	settling_close(s);
	assert_int_equal(settling_open(0, &s), 0);
	memset(longest, 'x', WORST - 1);
	for (r = 0, n = 0; n < 10000 && r == 0; n++) {
		memcpy(longest, name, (size_t)snprintf(name, sizeof(name), "%d", n));
		r = settling_touch(s, longest, n);
	}
	CHECK_INT("full of bytes", r, -ENOSPC);
	CHECK("not more than the bound", (size_t)n * WORST < SETTLING_BYTES_MAX + 2 * WORST);
	settling_close(s);
	free(longest);
}

static void test_any_order_comes_out_by_time(void **state)
{
	struct settling_file *file;
	struct settling *s;
	int64_t last = -1;
	char name[32];
	unsigned seed = 1, n = 0;

	assert_int_equal(settling_open(0, &s), 0);
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "%u", (unsigned)rand_r(&seed) % 5000);
		assert_int_equal(settling_touch(s, name, rand_r(&seed) % 100000), 0);
		if (i % 7 == 0)
			settling_forget(s, name);
	}
	while ((file = settling_take(s, INT64_MAX))) {
		CHECK("earlier first", file->due_ms >= last);
		last = file->due_ms;
		settling_put(s, file, -1, 0);
		n++;
	}
	CHECK("most of them", n > 3000);
	CHECK_INT("all of them", settling_count(s), 0);
	settling_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_is_due_when_nothing_has_changed_for_a_while),
		cmocka_unit_test(test_what_happens_to_a_file_while_it_is_locked_is_not_lost),
		cmocka_unit_test(test_the_table_has_its_bounds),
		cmocka_unit_test(test_any_order_comes_out_by_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
