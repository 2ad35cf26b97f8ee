/* The comparison of the witnesses: each disagreement is named, and nothing else is. */
#include "tests/unit/unit.h"

#include "lockstore/verify.h"

static const struct lock_record some = {
	.committed_s = 1000, .until_s = 2000, .serial = 7, .size_bytes = 10, .mtime_ns = 5,
};

static struct verify_words agreeing(void)
{
	return (struct verify_words){
		.file = { .where = FILE_THERE, .size_bytes = 10, .mtime_ns = 5, .has_digest = true, .sha256 = { 1 } },
		.record = { .state = RECORD_GOOD, .rec = some },
		.row = { .there = true, .rec = some, .has_digest = true, .sha256 = { 1 }, .retained = true },
	};
}

struct found {
	char kinds[128];	/* each with a blank behind it */
	char what[VERIFY_TEXT_BYTES];
};

static void note(void *arg, enum verify_kind kind, const char *what)
{
	struct found *found = arg;

	strcat(strcat(found->kinds, verify_kind_name(kind)), " ");
	snprintf(found->what, sizeof(found->what), "%s", what);
	CHECK("there is something to do about it", strlen(verify_kind_advice(kind)) > 10);
}

static void check(const char *promise, const struct verify_words *words, const char *want)
{
	struct found found = { .kinds = "" };

	verify_compare(words, note, &found);
	CHECK_STR(promise, found.kinds, want);
}

static void test_agreement(void **state)
{
	struct verify_words w = agreeing();

	check("three that agree", &w, "");
	w.row.has_digest = false;
	w.file.sha256[0] = 9;
	check("no digest in the ledger: nothing to compare", &w, "");
	w.row.has_digest = true;
	w.file.has_digest = false;
	check("not read: nothing to compare", &w, "");
	w.record.state = RECORD_NOT_ASKED;
	check("a filesystem without records", &w, "");
	w = agreeing();
	w.record.rec.flags = w.row.rec.flags = RECORD_APPEND;
	w.file.size_bytes = 20;
	w.file.mtime_ns = 6;
	check("an append-only file may grow", &w, "");
	w.file.size_bytes = 9;
	check("and not shrink", &w, "edited ");
}

static void test_the_file(void **state)
{
	struct verify_words w = agreeing();

	w.file.sha256[31] ^= 1;
	check("a flipped bit", &w, "data ");
	w.file.mtime_ns = 6;
	check("and the time", &w, "edited data ");
	w = agreeing();
	w.file.size_bytes = 11;
	check("a byte more", &w, "edited ");
	w = agreeing();
	w.file.where = FILE_MISSING;
	check("gone", &w, "missing ");
	w.row.retained = false;
	check("gone, and it might be deleted", &w, "");
	w.file.where = FILE_REPLACED;
	check("a new file with the name of a deleted one", &w, "");
	w.row.retained = true;
	check("another file in its place", &w, "replaced ");
	w.file.where = FILE_RESTORED;
	check("a restored copy in its place", &w, "");
	w.file.where = FILE_MOVED;
	check("renamed below", &w, "moved ");
}

static void test_the_record(void **state)
{
	struct verify_words w = agreeing();

	w.record.state = RECORD_NONE;
	check("the record is gone", &w, "stripped ");
	w.record.state = RECORD_BAD;
	check("does not verify", &w, "unverifiable ");
	w.record.state = RECORD_NEWER;
	check("is of the future", &w, "unverifiable ");
	w = agreeing();
	w.row.there = false;
	check("the ledger does not know it", &w, "foreign ");
	w.file.size_bytes = 3;
	check("and it is not what its record says", &w, "foreign edited ");
	w.record.state = RECORD_BAD;
	check("nobody says what it should be", &w, "unverifiable ");
}

static void test_record_against_ledger(void **state)
{
	static const struct {
		const char *promise;
		size_t offset, len;
		const char *says;
	} cases[] = {
#define CASE(field, says) { #field, offsetof(struct lock_record, field), sizeof(some.field), says }
		CASE(until_s, "end of retention is 1970-01-01T00:33:20Z on the file"), CASE(mode, "mode is governance on the file and compliance"),
		CASE(serial, "serial number is 7 on the file"), CASE(committed_s, "time of the lock"), CASE(size_bytes, "size is 10 on the file"),
		CASE(mtime_ns, "modification time is 5 on the file"), CASE(generation, "shortenings is 0 on the file and 1"), CASE(flags, "append-only is off on the file and on"),
#undef CASE
	};
	struct verify_words w;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct found found = { .kinds = "" };
		uint8_t *field;

		w = agreeing();
		field = (uint8_t *)&w.row.rec + cases[i].offset;
		*field ^= 1;	/* little endian or not, it is another number */
		verify_compare(&w, note, &found);
		CHECK(cases[i].promise, strncmp(found.kinds, "differs ", 8) == 0);
		if (cases[i].offset != offsetof(struct lock_record, size_bytes) && cases[i].offset != offsetof(struct lock_record, mtime_ns))
			CHECK(found.what, strstr(found.what, cases[i].says));
	}
	w = agreeing();
	w.row.rec.flags ^= RECORD_SETTLE & -RECORD_SETTLE;
	check("another settle time", &w, "differs ");
	w = agreeing();
	w.record.rec.holds = 1;
	check("a hold without a name", &w, "differs ");
	w.row.holds = 1;
	check("with one", &w, "");
	w.record.rec.holds = 0;
	check("a name without a hold", &w, "differs ");
	w.record.rec.holds = UINT16_MAX;
	w.row.holds = 70000;
	check("more than a record can count", &w, "");
}

static void test_the_log(void **state)
{
	struct verify_words w = agreeing();

	w.log = (struct verify_log){ .dated = true, .retained = true, .until_s = 2000, .seq = 9 };
	check("four that agree", &w, "");
	w.log.until_s = 1999;
	check("a log that lags", &w, "");
	w.log.until_s = 2001;
	check("a date that was put back in both", &w, "differs ");
	w.record.rec.until_s = 2001;
	check("in the ledger alone: each pair is told", &w, "differs differs ");
	w = agreeing();
	w.log.unlogged = true;
	check("no line where one belongs", &w, "unlogged ");
	w.row.there = false;
	check("nor a row", &w, "unlogged foreign ");
	w.record.state = RECORD_NONE;
	check("nothing is locked", &w, "");
	w = agreeing();
	w.log.hold = (struct verify_hold){ .what = HOLD_NOT_IN_LEDGER, .name = "x", .seq = 7, .more = 2 };
	check("a hold that the ledger lost", &w, "differs ");
	w.log.hold.what = HOLD_RELEASED;
	check("one that was released", &w, "differs ");
	w.log.hold.what = HOLD_NOT_IN_LOG;
	check("one without a line", &w, "differs ");
	w = agreeing();
	w.row.retained = false;
	w.file.where = FILE_MISSING;
	check("gone, and over", &w, "");
	w.log = (struct verify_log){ .dated = true, .retained = true, .until_s = 2000 };
	check("gone, and over by the ledger alone", &w, "missing ");
	w.file.where = FILE_REPLACED;
	check("likewise, and something else is there", &w, "replaced ");
}

static void test_identity(void **state)
{
	struct lock_record copy = some, other = some;

	copy.until_s = INT64_MAX;
	copy.holds = 3;
	copy.mode = 1;
	CHECK("a copy that was extended and held", verify_record_identity(&copy) == verify_record_identity(&some));
	other.serial++;
	CHECK("the next lock", verify_record_identity(&other) != verify_record_identity(&some));
	other = some;
	other.committed_s++;
	CHECK("the same number from another ledger", verify_record_identity(&other) != verify_record_identity(&some));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agreement), cmocka_unit_test(test_the_file), cmocka_unit_test(test_the_record),
		cmocka_unit_test(test_record_against_ledger), cmocka_unit_test(test_the_log),
		cmocka_unit_test(test_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
