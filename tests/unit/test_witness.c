/* What the audit log testifies: the last date, the lock, the deletion, and whether it may be relied on at all. */
#include "tests/unit/unit.h"

#include "lockstore/witness.h"

#define NEW_YEAR 1893456000	/* 2030-01-01T00:00:00Z */

static struct witness_line line(uint64_t seq, int64_t clock_s, enum audit_event event, const char *detail)
{
	return (struct witness_line){ .seq = seq, .clock_s = clock_s, .event = event, .detail = detail, .key_hash = 1 };
}

static void test_lines_of_a_lock(void **state)
{
	static const struct {
		const char *promise;
		struct { enum audit_event event; const char *detail; bool refused; uint32_t key_hash; } lines[4];
		uint32_t want;
		int64_t until_s;
	} cases[] = {
#define LOCK { AUDIT_COMMIT, "close: until 2030-01-01T00:00:00Z, governance, hold until 2031-01-01", false, 1 }
#define LOCKED (WITNESS_COMMITTED | WITNESS_DATED)
		{ "a lock", { LOCK }, LOCKED, NEW_YEAR },
		{ "one for ever", { { AUDIT_COMMIT, "close: until infinite, compliance", false, 1 } }, LOCKED, RETENTION_INFINITE },
		{ "one without a date", { { AUDIT_COMMIT, "close: until unspecified, compliance", false, 1 } }, LOCKED, RETENTION_UNSPECIFIED },
		{ "one that failed", { { AUDIT_COMMIT, "close: not locked", true, 1 } }, 0, 0 },
		{ "an extension", { LOCK, { AUDIT_EXTEND, "until 2030-01-01T00:00:01Z, was 2030-01-01T00:00:00Z", false, 1 } }, LOCKED, NEW_YEAR + 1 },
		{ "one that failed", { LOCK, { AUDIT_EXTEND, "until 2030-01-01T00:00:01Z, was 2030-01-01T00:00:00Z", true, 1 } }, LOCKED, NEW_YEAR },
		{ "a shortening", { LOCK, { AUDIT_SHORTEN, "uid 0: until 2029-12-31T23:59:59Z, was 2030-01-01T00:00:00Z; reason: until 2040-01-01", false, 1 } },
		  LOCKED, NEW_YEAR - 1 },
		{ "one that failed", { LOCK, { AUDIT_SHORTEN, "uid 0: until 2029-12-31T23:59:59Z, was 2030-01-01T00:00:00Z; reason: x", false, 1 },
				       { AUDIT_SHORTEN, "uid 0: until 2029-12-31T23:59:59Z, was 2030-01-01T00:00:00Z: failed", true, 1 } }, LOCKED, NEW_YEAR },
		{ "one that was refused", { LOCK, { AUDIT_SHORTEN, "refused to uid 0: it is held; reason: x, was 2020-01-01", true, 1 } }, LOCKED, NEW_YEAR },
		{ "a deletion", { LOCK, { AUDIT_DELETE_EXPIRED, "size 7", false, 1 } }, LOCKED | WITNESS_DELETED, NEW_YEAR },
		{ "by privilege", { LOCK, { AUDIT_DELETE_PRIVILEGED, "uid 0: size 7", false, 1 } }, LOCKED | WITNESS_DELETED, NEW_YEAR },
		{ "one that failed", { LOCK, { AUDIT_DELETE_PRIVILEGED, "uid 0: size 7", false, 1 },
				       { AUDIT_DELETE_PRIVILEGED, "uid 0: not deleted, it stays locked", true, 1 } }, LOCKED, NEW_YEAR },
		{ "one that was refused", { LOCK, { AUDIT_DELETE_PRIVILEGED, "refused to uid 0: it is held", true, 1 } }, LOCKED, NEW_YEAR },
		{ "a copy with the same number", { LOCK, { AUDIT_EXTEND, "until 2031-01-01, was 2030-01-01", false, 2 } }, LOCKED | WITNESS_AMBIGUOUS, 1924992000 },
		{ "a date that cannot be read", { { AUDIT_COMMIT, "close: until soon, governance", false, 1 } }, WITNESS_COMMITTED, 0 },
		{ "other lines", { LOCK, { AUDIT_HOLD_ADD, "case until 2050-01-01", false, 9 }, { AUDIT_DENY_UNLINK, "unlink", true, 9 } }, LOCKED, NEW_YEAR },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct witness_lock lock = { 0 };

		for (size_t n = 0; n < 4 && cases[i].lines[n].detail; n++) {
			struct witness_line l = line(n + 1, 0, cases[i].lines[n].event, cases[i].lines[n].detail);

			l.refused = cases[i].lines[n].refused;
			l.key_hash = cases[i].lines[n].key_hash;
			witness_fold(&lock, &l);
		}
		CHECK_INT(cases[i].promise, lock.flags, cases[i].want);
		if (lock.flags & WITNESS_DATED)
			CHECK_INT(cases[i].promise, lock.until_s, cases[i].until_s);
	}
}

static void feed(struct witness_cover *cover, uint64_t seq, int64_t clock_s, enum audit_event event, const char *detail)
{
	struct witness_line l = line(seq, clock_s, event, detail);

	CHECK_INT("taken", witness_cover_line(cover, &l), 0);
}

static void test_what_it_covers(void **state)
{
	struct witness_cover cover = { 0 };

	feed(&cover, 1, 1000, AUDIT_EXTEND, "");
	CHECK("a log without its beginning", !witness_covers(&cover, 999, false) && !witness_covers(&cover, 1000, false));
	feed(&cover, 2, 1000, AUDIT_MOUNT, "share 'x', id y" WITNESS_COVERS);
	feed(&cover, 3, 2000, AUDIT_COMMIT, "");
	CHECK("while it runs", witness_covers(&cover, 1001, false) && witness_covers(&cover, 1999, false));
	CHECK("not before, not after, not on the edge", !witness_covers(&cover, 1000, false) && !witness_covers(&cover, 2000, false));
	CHECK("killed: the last minute may be missing", witness_covers(&cover, 1939, true) && !witness_covers(&cover, 1940, true));
	feed(&cover, 4, 3000, AUDIT_UNMOUNT, "");
	CHECK("ended in order", witness_covers(&cover, 2999, true));
	feed(&cover, 5, 4000, AUDIT_MOUNT, "share 'x', id y" WITNESS_COVERS);
	CHECK("nobody ran", !witness_covers(&cover, 3500, false));
	feed(&cover, 6, 5000, AUDIT_UNMOUNT, "");
	CHECK("two mounts", witness_covers(&cover, 2500, false) && witness_covers(&cover, 4500, false));
	feed(&cover, 7, 6000, AUDIT_LOG_LOST, "");
	CHECK("events were lost", !witness_covers(&cover, 4500, false) && cover.gap_seq == 7);
	feed(&cover, 8, 7000, AUDIT_MOUNT, "share 'x', id y" WITNESS_COVERS);
	feed(&cover, 9, 8000, AUDIT_UNMOUNT, "");
	feed(&cover, 10, 9000, AUDIT_MOUNT, "share '" WITNESS_COVERS "', id y");
	CHECK_INT("nor every hold", cover.hold_gap_seq, 10);
	feed(&cover, 11, 9500, AUDIT_MOUNT, "x" WITNESS_COVERS_HOLDS WITNESS_COVERS);
	CHECK_INT("one that does", cover.hold_gap_seq, 10);
	CHECK("a mount that does not log every lock", !witness_covers(&cover, 7500, false) && cover.gap_seq == 10);
	witness_cover_fini(&cover);
}

static void test_what_it_says(void **state)
{
	static const struct {
		const char *promise;
		struct witness_lock lock;
		uint64_t gap_seq;
		bool unlogged, dated, retained;
	} cases[] = {
		{ "no line", { 0 }, 0, true, false, false },
		{ "retained", { .seq = 5, .until_s = 200, .flags = LOCKED }, 0, false, true, true },
		{ "by a word", { .seq = 5, .until_s = RETENTION_UNSPECIFIED, .flags = LOCKED }, 0, false, true, true },
		{ "over", { .seq = 5, .until_s = 100, .flags = LOCKED }, 0, false, true, false },
		{ "deleted", { .seq = 5, .until_s = 200, .flags = LOCKED | WITNESS_DELETED }, 0, false, true, false },
		{ "lines are missing since", { .seq = 5, .until_s = 200, .flags = LOCKED }, 5, false, false, false },
		{ "two files", { .seq = 5, .until_s = 200, .flags = LOCKED | WITNESS_AMBIGUOUS }, 0, false, false, false },
	};
	struct witness_span span = { 0, 100, true };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct witness_cover cover = { .spans = &span, .nspans = 1, .gap_seq = cases[i].gap_seq };
		struct verify_log says;

		witness_say(&cover, &cases[i].lock, 50, 100, false, &says);
		CHECK_INT(cases[i].promise, says.unlogged, cases[i].unlogged);
		CHECK_INT(cases[i].promise, says.dated, cases[i].dated);
		CHECK_INT(cases[i].promise, says.retained, cases[i].retained);
	}
}

static void test_names_of_holds(void **state)
{
	static const struct {
		const char *promise;
		enum audit_event event;
		const char *detail;
		bool refused;
		enum witness_hold want;
		const char *names;
	} cases[] = {
		{ "placed", AUDIT_HOLD_ADD, "case a: until x, y, hold z", false, WITNESS_HOLD_PLACED, "a: until x, y, hold z" },
		{ "released", AUDIT_HOLD_RELEASE, "case a", false, WITNESS_HOLD_RELEASED, "a" },
		{ "one that failed", AUDIT_HOLD_ADD, "case a", true, WITNESS_HOLD_TRIED, "a" },
		{ "an order", AUDIT_HOLD_ADD, "order 1: case a, 2 paths: b/", false, WITNESS_HOLD_NONE, NULL },
		{ "with the lock", AUDIT_COMMIT, "close: until 2030-01-01T00:00:00Z, governance, hold a\nb, c", false, WITNESS_HOLD_PLACED, "a\nb, c" },
		{ "a lock without", AUDIT_COMMIT, "close: until infinite, compliance", false, WITNESS_HOLD_NONE, NULL },
		{ "a lock that failed", AUDIT_COMMIT, "close: not locked", true, WITNESS_HOLD_NONE, NULL },
		{ "something else", AUDIT_EXTEND, "case a", false, WITNESS_HOLD_NONE, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct witness_line l = line(1, 0, cases[i].event, cases[i].detail);
		const char *names = NULL;

		l.refused = cases[i].refused;
		CHECK_INT(cases[i].promise, witness_hold_of(&l, &names), cases[i].want);
		CHECK(cases[i].promise, cases[i].names ? names && strcmp(names, cases[i].names) == 0 : !names);
	}
}

static void test_what_it_says_of_a_hold(void **state)
{
	static const struct {
		const char *promise;
		enum witness_hold what;
		bool in_ledger;
		int64_t at_s;
		uint64_t gap_seq, hold_gap_seq;
		int want;
	} cases[] = {
		{ "both know it", WITNESS_HOLD_PLACED, true, 50, 0, 0, HOLD_AGREES },
		{ "neither", WITNESS_HOLD_RELEASED, false, 0, 0, 0, HOLD_AGREES },
		{ "the ledger lost it", WITNESS_HOLD_PLACED, false, 0, 0, 0, HOLD_NOT_IN_LEDGER },
		{ "lines are missing since", WITNESS_HOLD_PLACED, false, 0, 5, 0, HOLD_AGREES },
		{ "a mount since that did not log releases", WITNESS_HOLD_PLACED, false, 0, 0, 5, HOLD_AGREES },
		{ "no line", WITNESS_HOLD_NONE, true, 50, 0, 0, HOLD_NOT_IN_LOG },
		{ "of a time that is not covered", WITNESS_HOLD_NONE, true, 150, 0, 0, HOLD_AGREES },
		{ "released", WITNESS_HOLD_RELEASED, true, 50, 0, 0, HOLD_RELEASED },
		{ "tried", WITNESS_HOLD_TRIED, true, 50, 0, 0, HOLD_AGREES },
		{ "tried, and not there", WITNESS_HOLD_TRIED, false, 0, 0, 0, HOLD_AGREES },
	};
	struct witness_span span = { 0, 100, true };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct witness_cover cover = { .spans = &span, .nspans = 1, .gap_seq = cases[i].gap_seq, .hold_gap_seq = cases[i].hold_gap_seq };

		CHECK_INT(cases[i].promise, witness_say_hold(&cover, cases[i].what, 5, cases[i].in_ledger, cases[i].at_s, false), cases[i].want);
	}
	span.holds = false;
	CHECK_INT("a mount that logs locks only",
		  witness_say_hold(&(struct witness_cover){ .spans = &span, .nspans = 1 }, WITNESS_HOLD_NONE, 0, true, 50, false), HOLD_AGREES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_of_a_lock), cmocka_unit_test(test_what_it_covers), cmocka_unit_test(test_what_it_says),
		cmocka_unit_test(test_names_of_holds), cmocka_unit_test(test_what_it_says_of_a_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
