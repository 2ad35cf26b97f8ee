/* What waits for a cluster, and what is planned from it: by what rows say, without a daemon. */
#include "tests/unit/unit_ledger.h"

#include <time.h>

#include "lockstore/ledger_push.h"
#include "lockstore/retention.h"
#include "lockstore/upstream/breaker.h"
#include "lockstore/upstream/plan.h"

#define NOW 1500	/* rows end at 2000 */

static struct file_key first, second;

static void put_pushed(uint64_t n, enum ledger_push push)
{
	struct ledger_row row = row_of(n, "f");

	row.push = push;
	CHECK_INT("put", ledger_put(ledger, &row), 0);
}

static int set_up_open(void **state)
{
	int r = set_up(state);

	first = key_of(1);
	second = key_of(2);
	open_ledger();
	return r;
}

struct seen {
	struct ledger_push_row row;
	unsigned n;
};

static int see(void *arg, const struct ledger_push_row *row)
{
	struct seen *seen = arg;

	seen->row = *row;
	seen->row.path = seen->row.class = seen->row.error = NULL;
	seen->n++;
	return 0;
}

static struct ledger_push_row row_now(uint64_t n)
{
	struct file_key key = key_of(n);
	struct seen seen = { .n = 0 };

	CHECK_INT("found", ledger_push_find(ledger, &key, see, &seen), 0);
	return seen.row;
}

static unsigned due(int64_t now_ms)
{
	struct ledger_push_cursor cursor = LEDGER_PUSH_CURSOR_START;
	struct seen seen = { .n = 0 };
	unsigned n;

	CHECK_INT("page", ledger_push_due(ledger, now_ms, &cursor, see, &seen, &n), 0);
	CHECK_INT("told", seen.n, n);
	return n;
}

static void counts(const char *promise, uint64_t waiting, uint64_t failed)
{
	uint64_t w = 99, f = 99;

	CHECK_INT(promise, ledger_push_count(ledger, &w, &f), 0);
	CHECK_INT(promise, w, waiting);
	CHECK_INT(promise, f, failed);
}

static const struct push_undated fail_it = { .how = PUSH_UNDATED_FAIL };

/* Does what the pusher does with a plan that the cluster has confirmed. Returns what was sent: 1 an end, 2 a hold, 4 a release. */
static int push_it(uint64_t n)
{
	struct ledger_push_row row = row_now(n);
	struct push_plan plan;

	push_plan_make(&row, &fail_it, NOW, &plan);
	if (plan.settle)
		CHECK_INT("settled", ledger_push_settle(ledger, &row.key, row.until_s, plan.settle), 0);
	if (!push_plan_is_empty(&plan))
		CHECK_INT("done", ledger_push_done(ledger, &row.key, &plan.result), 0);
	return (plan.set.has_until ? 1 : 0) + (plan.set.hold ? 2 : 0) + (plan.release ? 4 : 0);
}

static void test_rows_wait_by_what_they_say(void **state)
{
	struct file_key key = key_of(1);

	put_pushed(1, LEDGER_PUSH_NO);
	counts("what is not pushed does not wait", 0, 0);
	CHECK_STR("off", ledger_push_state_name(&(struct ledger_push_row){ .push = LEDGER_PUSH_NO }), "off");
	put_pushed(1, LEDGER_PUSH_YES);
	counts("what is pushed waits", 1, 0);
	put_pushed(1, LEDGER_PUSH_NO);
	counts("and goes on doing so", 1, 0);
	CHECK_INT("its end", push_it(1), 1);
	counts("then it does not", 0, 0);
	put_pushed(1, LEDGER_PUSH_YES);
	counts("an event that comes twice changes nothing", 0, 0);
	CHECK_INT("extended", ledger_extend(ledger, &key, 3000), 0);
	counts("an extension waits", 1, 0);
	CHECK_INT("the new end", push_it(1), 1);
	CHECK_INT("hold", ledger_hold_add(ledger, &key, "c", 0, 1), 0);
	counts("a hold waits", 1, 0);
	CHECK_INT("the hold alone", push_it(1), 2);
	CHECK_INT("a second hold", ledger_hold_add(ledger, &key, "d", 0, 1), 0);
	counts("is nothing to a cluster", 0, 0);
	CHECK_INT("released", ledger_hold_release(ledger, &key, "c"), 0);
	counts("nor the release of one of two", 0, 0);
	CHECK_INT("released", ledger_hold_release(ledger, &key, "d"), 0);
	counts("the last release waits", 1, 0);
	CHECK_INT("a release alone", push_it(1), 4);
	counts("all told", 0, 0);
}

static void test_no_release_but_one_that_was_asked_for(void **state)
{
	struct file_key key = key_of(1);
	struct ledger_row row = row_of(1, "f");

	row.push = LEDGER_PUSH_YES;
	row.rec.holds = 1;	/* by its record: names of another gateway, or lost */
	CHECK_INT("put", ledger_put(ledger, &row), 0);
	CHECK_INT("end and hold", push_it(1), 3);
	CHECK_INT("the count goes", ledger_set_rec_holds(ledger, &key, 0), 0);
	counts("without a request nothing waits", 0, 0);
	CHECK_INT("hold", ledger_hold_add(ledger, &key, "c", 0, 1), 0);
	counts("which the cluster has", 0, 0);
	CHECK_INT("release", ledger_hold_release(ledger, &key, "c"), 0);
	CHECK_INT("is sent", push_it(1), 4);
	CHECK_INT("hold", ledger_hold_add(ledger, &key, "c", 0, 1), 0);
	CHECK_INT("release, before the hold went out", ledger_hold_release(ledger, &key, "c"), 0);
	counts("nothing to tell", 0, 0);
	CHECK_INT("hold", ledger_hold_add(ledger, &key, "c", 0, 1), 0);
	CHECK_INT("on its way", ledger_push_sending_hold(ledger, &first), 0);
	CHECK_INT("release", ledger_hold_release(ledger, &key, "c"), 0);
	CHECK_INT("is sent, since the hold may be there", push_it(1), 4);
	CHECK_INT("hold", ledger_hold_add(ledger, &key, "c", 0, 1), 0);
	CHECK_INT("on its way", ledger_push_sending_hold(ledger, &first), 0);
	CHECK_INT("release", ledger_hold_release(ledger, &key, "c"), 0);
	CHECK_INT("the hold's answer comes late", ledger_push_done(ledger, &first, &(struct ledger_push_result){ .hold = true }), 0);
	CHECK_INT("the release goes out all the same", push_it(1), 4);
}

static void test_an_earlier_date_never_waits(void **state)
{
	struct ledger_row row = row_of(1, "f");

	put_pushed(1, LEDGER_PUSH_YES);
	CHECK_INT("told", push_it(1), 1);
	row.rec.generation = 1;
	row.rec.until_s = 1600;
	CHECK_INT("shortened", ledger_put(ledger, &row), 0);
	counts("nothing to tell", 0, 0);
	CHECK_INT("what the cluster has", row_now(1).pushed_until_s, 2000);
	row.rec.generation = 2;
	row.rec.until_s = 2001;
	CHECK_INT("and later", ledger_put(ledger, &row), 0);
	CHECK_INT("told", push_it(1), 1);
}

static void test_append_only_files_wait_until_they_are_final(void **state)
{
	struct ledger_row row = row_of(1, "f");

	row.push = LEDGER_PUSH_YES;
	row.rec.flags = RECORD_APPEND;
	CHECK_INT("put", ledger_put(ledger, &row), 0);
	counts("not yet", 0, 0);
	row.rec.flags = 0;
	CHECK_INT("final", ledger_put(ledger, &row), 0);
	counts("now", 1, 0);
}

static void test_failures(void **state)
{
	struct file_key key = key_of(1);
	uint64_t n = 0;
	int64_t when;

	put_pushed(1, LEDGER_PUSH_YES);
	CHECK_INT("due", due(0), 1);
	CHECK_INT("later", ledger_push_failed(ledger, &first, LEDGER_PUSH_PENDING, 5000, 1, 503, NULL, "busy"), 0);
	CHECK_INT("not due", due(4999), 0);
	CHECK_INT("due again", due(5000), 1);
	CHECK_INT("says when", (ledger_push_next_due(ledger, &when), when), 5000);
	counts("pending", 1, 0);
	CHECK_INT("refused", ledger_push_failed(ledger, &first, LEDGER_PUSH_FAILED, 9000, 2, 403, "c", "no"), 0);
	counts("failed, and waits", 1, 1);
	CHECK_INT("a release hurries a file, an extension does not", (ledger_extend(ledger, &key, 2500), due(8999)), 0);
	CHECK_INT("retry", ledger_push_retry(ledger, &n), 0);
	CHECK_INT("one", n, 1);
	CHECK_INT("due at once", due(0), 1);
	counts("not failed any more", 1, 0);
	CHECK_INT("too far ahead", ledger_push_failed(ledger, &first, LEDGER_PUSH_PENDING, INT64_MAX, 1, 0, NULL, "x"), 0);
	CHECK_INT("is due now", (ledger_push_not_beyond(ledger, 1000000), due(0)), 1);
	CHECK_INT("told", push_it(1), 1);
	CHECK_INT("again", ledger_push_again(ledger, &key, false), 0);
	counts("what was proven stays so", 0, 0);
	CHECK_INT("all again", ledger_push_again(ledger, &key, true), 0);
	counts("waits", 1, 0);
	key = key_of(2);
	CHECK_INT("no row", ledger_push_again(ledger, &key, true), -ENOENT);
	put_pushed(2, LEDGER_PUSH_ASK);
	counts("unknown ones wait", 2, 0);
	CHECK_INT("not wanted", ledger_push_unwanted(ledger, &second), 0);
	counts("does not", 1, 0);
}

static void test_lists_go_on_where_they_were(void **state)
{
	struct ledger_push_cursor cursor = LEDGER_PUSH_CURSOR_START;
	struct seen seen = { .n = 0 };
	unsigned n = 1, total = 0;

	for (unsigned i = 0; i < 2 * LEDGER_PUSH_PAGE + 7; i++)
		put_pushed(i, LEDGER_PUSH_YES);
	while (n) {
		CHECK_INT("page", ledger_push_due(ledger, 0, &cursor, see, &seen, &n), 0);
		total += n;
	}
	CHECK_INT("each once", total, 2 * LEDGER_PUSH_PAGE + 7);
	seen.n = 0;
	CHECK_INT("list", ledger_push_list(ledger, LEDGER_PUSH_PENDING, INT64_MIN, 10, see, &seen), 0);
	CHECK_INT("as many as asked for", seen.n, 10);
	CHECK_INT("list on", ledger_push_list(ledger, LEDGER_PUSH_PENDING, seen.row.id, LEDGER_PUSH_PAGE, see, &seen), 0);
	CHECK_INT("the next", seen.n, 10 + LEDGER_PUSH_PAGE);
	seen.n = 0;
	CHECK_INT("told", push_it(3), 1);
	CHECK_INT("locked ones", ledger_push_list(ledger, LEDGER_PUSH_LOCKED, INT64_MIN, 100, see, &seen), 0);
	CHECK_INT("one", seen.n, 1);
	CHECK_INT("failed ones", ledger_push_list(ledger, LEDGER_PUSH_FAILED, INT64_MIN, 100, see, &seen), 0);
	CHECK_INT("none", seen.n, 1);
}

static void test_plans(void **state)
{
	static const struct push_undated hold = { .how = PUSH_UNDATED_HOLD }, date = { .how = PUSH_UNDATED_DATE, .date_s = 9000 };
	static const struct {
		const char *promise;
		struct ledger_push_row row;
		const struct push_undated *undated;
		bool has_until, hold, release, settle;
		int64_t until_s;
	} cases[] = {
		{ "a date", { .until_s = 2000 }, &fail_it, true, false, false, false, 2000 },
		{ "a date that is now is past", { .until_s = NOW }, &fail_it, false, false, false, true, 0 },
		{ "past, and held: the hold goes out", { .until_s = NOW - 1, .held = true }, &fail_it, false, true, false, true, 0 },
		{ "confirmed", { .until_s = 2000, .has_pushed_until = true, .pushed_until_s = 2000 }, &fail_it, false, false, false, false, 0 },
		{ "both", { .until_s = 2000, .held = true }, &fail_it, true, true, false, false, 2000 },
		{ "infinite fails", { .until_s = RETENTION_INFINITE }, &fail_it, false, false, false, true, 0 },
		{ "unspecified fails", { .until_s = RETENTION_UNSPECIFIED }, &fail_it, false, false, false, true, 0 },
		{ "infinite as a hold", { .until_s = RETENTION_INFINITE }, &hold, false, true, false, false, 0 },
		{ "infinite as a date", { .until_s = RETENTION_INFINITE }, &date, true, false, false, false, 9000 },
		{ "a release", { .until_s = 2000, .has_pushed_until = true, .pushed_until_s = 2000, .pushed_hold = LEDGER_HOLD_PUSHED,
				 .release = true }, &fail_it, false, false, true, false, 0 },
		{ "nobody asked for it", { .until_s = 2000, .has_pushed_until = true, .pushed_until_s = 2000, .pushed_hold = LEDGER_HOLD_PUSHED },
		  &fail_it, false, false, false, false, 0 },
		{ "a release, and the hold stands for the end", { .until_s = RETENTION_INFINITE, .has_pushed_until = true,
		  .pushed_until_s = RETENTION_INFINITE, .pushed_hold = LEDGER_HOLD_PUSHED, .release = true }, &hold, false, false, false, false, 0 },
		{ "settled, then shortened to a date", { .until_s = 2000, .has_pushed_until = true, .pushed_until_s = RETENTION_INFINITE,
		  .state = LEDGER_PUSH_SETTLED }, &fail_it, true, false, false, false, 2000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct push_plan plan;

		push_plan_make(&cases[i].row, cases[i].undated, NOW, &plan);
		CHECK_INT(cases[i].promise, plan.set.has_until, cases[i].has_until);
		CHECK_INT(cases[i].promise, plan.set.until_s, cases[i].until_s);
		CHECK_INT(cases[i].promise, plan.set.hold, cases[i].hold);
		CHECK_INT(cases[i].promise, plan.release, cases[i].release);
		CHECK_INT(cases[i].promise, plan.settle != NULL, cases[i].settle);
		CHECK(cases[i].promise, !(plan.set.hold && plan.release));
	}
}

static void test_met(void **state)
{
	static const struct { const char *promise; struct push_plan plan; struct upstream_lock have; bool met; } cases[] = {
		{ "the end is there", { .set = { true, 2000, false } }, { true, 2000, false }, true },
		{ "an earlier one is no proof", { .set = { true, 2000, false } }, { true, 1999, false }, false },
		{ "nor is none", { .set = { true, 2000, false } }, { false, 0, true }, false },
		{ "nor an end without its hold", { .set = { true, 2000, true } }, { true, 2000, false }, false },
		{ "released", { .release = true }, { true, 2000, false }, true },
		{ "not released", { .release = true }, { true, 2000, true }, false },
		{ "released, and the end not there", { .set = { true, 2000, false }, .release = true }, { true, 1000, false }, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].promise, push_plan_is_met(&cases[i].plan, &cases[i].have), cases[i].met);
}

static void test_undated_words(void **state)
{
	static const struct { const char *text; int r, how; } cases[] = {
		{ "fail", 0, PUSH_UNDATED_FAIL }, { "hold", 0, PUSH_UNDATED_HOLD }, { "2100-01-01", 0, PUSH_UNDATED_DATE },
		{ "7y", -EINVAL, 0 }, { "infinite", -EINVAL, 0 }, { "", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct push_undated undated = { .how = 0 };

		CHECK_INT(cases[i].text, push_undated_parse(cases[i].text, &undated), cases[i].r);
		CHECK_INT(cases[i].text, undated.how, cases[i].how);
	}
}

static void test_breaker(void **state)
{
	struct breaker b = { .max_ms = 1000 };
	int64_t now = 100000, sum = 0;

	CHECK("one that was reached is no reason", !breaker_failed(&b, true, now));
	CHECK("an answer clears it", !breaker_answered(&b));
	CHECK("twice not reached is", !breaker_failed(&b, false, now) && breaker_failed(&b, false, now));
	CHECK_INT("open", b.state, BREAKER_AWAY);
	CHECK("what was on its way says nothing new", !breaker_failed(&b, true, now));
	for (int i = 0; i < 50; i++) {
		now = b.next_ms;
		CHECK("may ask", breaker_may_ask(&b, now));
		CHECK("is open already", !breaker_failed(&b, false, now));
		CHECK("pauses have an end", b.next_ms > now && b.next_ms <= now + 1000);
	}
	CHECK("back", breaker_answered(&b));
	CHECK("not open", !breaker_may_ask(&b, now + 100000));
	CHECK("refused", breaker_refused(&b, now));
	CHECK("is asked about at once", breaker_may_ask(&b, now));
	CHECK("said once", !breaker_refused(&b, now));
	CHECK("then after a pause", !breaker_may_ask(&b, now));
	for (int i = 0; i < 1000; i++) {
		int64_t ms = breaker_pause_ms(500, 60000, 20);

		CHECK("bounded", ms > 0 && ms <= 60000);
		sum += ms;
	}
	CHECK("spread", sum > 1000 * 20000 && sum < 1000 * 40000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows_wait_by_what_they_say, set_up_open, tear_down),
		cmocka_unit_test_setup_teardown(test_no_release_but_one_that_was_asked_for, set_up_open, tear_down),
		cmocka_unit_test_setup_teardown(test_an_earlier_date_never_waits, set_up_open, tear_down),
		cmocka_unit_test_setup_teardown(test_append_only_files_wait_until_they_are_final, set_up_open, tear_down),
		cmocka_unit_test_setup_teardown(test_failures, set_up_open, tear_down),
		cmocka_unit_test_setup_teardown(test_lists_go_on_where_they_were, set_up_open, tear_down),
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_met),
		cmocka_unit_test(test_undated_words),
		cmocka_unit_test(test_breaker),
	};

	return cmocka_run_group_tests_name("ledger_push", tests, NULL, NULL);
}
