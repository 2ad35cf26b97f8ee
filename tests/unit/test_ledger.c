/* The ledger: what is merged, held, pending, numbered, and who sees what when. */
#include "tests/unit/unit_ledger.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static void test_round_trip(void **state)
{
	static const int64_t moments[] = { INT64_MIN, INT64_MIN + 1, -1, 0, INT64_C(1) << 31, INT64_C(1) << 32,
					   INT64_C(253402300799), INT64_MAX - 1, INT64_MAX };
	uint8_t sha256[32];
	struct copy got;
	struct file_key none = key_of(99), zero = key_of(0);

	open_ledger();
	memset(sha256, 0xab, sizeof(sha256));
	for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
		struct ledger_row row = {
			.key = key_of(i), .path = "dir/\xff\n'\"%_\x01", .uid = UINT32_MAX - 1, .gid = UINT32_MAX,
			.rule = "rule 'x'", .sha256 = sha256, .holds = 7,
			.rec = { .flags = RECORD_APPEND, .mode = WORM_COMPLIANCE, .holds = UINT16_MAX, .rule = UINT16_MAX,
				 .committed_s = moments[i], .until_s = moments[i], .serial = UINT64_MAX,
				 .size_bytes = UINT64_MAX, .mtime_ns = moments[i] },
		};

		CHECK_INT("a row is put", ledger_put(ledger, &row), 0);
		got = find(i);
		CHECK_STR("any bytes in a path", got.path, row.path);
		CHECK_STR("the rule", got.rule, row.rule);
		CHECK("owner", got.row.uid == row.uid && got.row.gid == row.gid);
		CHECK("digest", got.row.sha256 && memcmp(got.sha256, sha256, 32) == 0);
		CHECK_INT("a row has the holds that have names", got.row.holds, 0);
		CHECK("record", got.row.rec.flags == row.rec.flags && got.row.rec.mode == row.rec.mode &&
		      got.row.rec.holds == row.rec.holds && got.row.rec.rule == row.rec.rule &&
		      got.row.rec.committed_s == row.rec.committed_s && got.row.rec.until_s == row.rec.until_s &&
		      got.row.rec.serial == row.rec.serial && got.row.rec.size_bytes == row.rec.size_bytes &&
		      got.row.rec.mtime_ns == row.rec.mtime_ns);
	}
	CHECK_INT("a row may be asked for alone", ledger_find(ledger, &zero, NULL, NULL), 0);
	CHECK_INT("no row", ledger_find(ledger, &none, copy_row, &got), -ENOENT);
	reopen_ledger();
	CHECK_INT("all is there after a restart", find(5).row.rec.until_s, moments[5]);
}

static void test_put_merges(void **state)
{
	static const struct {
		const char *promise;
		struct lock_record old, new, want;
	} cases[] = {
		{ "the later date wins", { .until_s = 5 }, { .until_s = 6 }, { .until_s = 6 } },
		{ "an earlier one does not", { .until_s = 6 }, { .until_s = 5 }, { .until_s = 6 } },
		{ "infinite wins", { .until_s = 6 }, { .until_s = INT64_MAX }, { .until_s = INT64_MAX } },
		{ "and stays", { .until_s = INT64_MAX }, { .until_s = 6 }, { .until_s = INT64_MAX } },
		{ "a date wins over unspecified", { .until_s = INT64_MIN }, { .until_s = 6 }, { .until_s = 6 } },
		{ "and stays", { .until_s = 6 }, { .until_s = INT64_MIN }, { .until_s = 6 } },
		{ "an earlier date of a newer generation wins", { .until_s = 6 }, { .until_s = 5, .generation = 1 },
		  { .until_s = 5, .generation = 1 } },
		{ "a later date of an older one does not come back", { .until_s = 5, .generation = 1 }, { .until_s = 6 },
		  { .until_s = 5, .generation = 1 } },
		{ "nor does infinite", { .until_s = 5, .generation = 2 }, { .until_s = INT64_MAX, .generation = 1 },
		  { .until_s = 5, .generation = 2 } },
		{ "in one generation the later date wins", { .until_s = 5, .generation = 1 }, { .until_s = 7, .generation = 1 },
		  { .until_s = 7, .generation = 1 } },
		{ "the stricter mode wins", { .mode = 0 }, { .mode = 1 }, { .mode = 1 } },
		{ "and stays", { .mode = 1 }, { .mode = 0 }, { .mode = 1 } },
		{ "append-only ends", { .flags = 1 }, { .flags = 0 }, { .flags = 0 } },
		{ "and does not come back", { .flags = 0, .size_bytes = 1 }, { .flags = 1, .size_bytes = 1 }, { .flags = 0, .size_bytes = 1 } },
		{ "but to an empty file", { .flags = 0 }, { .flags = 1 }, { .flags = 1 } },
		{ "append-only stays while both say so", { .flags = 1 }, { .flags = 1 }, { .flags = 1 } },
		{ "the first commit stays", { .committed_s = 9, .serial = 9 }, { .committed_s = 3, .serial = 3 },
		  { .committed_s = 9, .serial = 9 } },
		{ "the count of holds is the new one", { .holds = 3 }, { .holds = 2 }, { .holds = 2 } },
		{ "so are rule, size and mtime", { .rule = 1, .size_bytes = 2, .mtime_ns = 3 },
		  { .rule = 4, .size_bytes = 5, .mtime_ns = 6 }, { .rule = 4, .size_bytes = 5, .mtime_ns = 6 } },
	};

	open_ledger();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ledger_row row = row_of(i, "old");
		const struct lock_record *want = &cases[i].want;
		struct copy got;

		row.rec = cases[i].old;
		CHECK_INT(cases[i].promise, ledger_put(ledger, &row), 0);
		row.rec = cases[i].new;
		row.path = "new";
		row.uid = 1;
		row.gid = 2;
		row.rule = i % 2 ? NULL : "s";
		CHECK_INT(cases[i].promise, ledger_put(ledger, &row), 0);
		got = find(i);
		CHECK_STR("the path is the new one", got.path, "new");
		CHECK("the owner, too", got.row.uid == 1 && got.row.gid == 2);
		CHECK_STR("the rule's name, too, if there is one", got.rule, i % 2 ? "r" : "s");
		CHECK_INT(cases[i].promise, got.row.rec.until_s, want->until_s);
		CHECK_INT(cases[i].promise, got.row.rec.mode, want->mode);
		CHECK_INT(cases[i].promise, got.row.rec.flags, want->flags);
		CHECK_INT(cases[i].promise, got.row.rec.committed_s, want->committed_s);
		CHECK_INT(cases[i].promise, got.row.rec.serial, want->serial);
		CHECK_INT(cases[i].promise, got.row.rec.holds, want->holds);
		CHECK_INT(cases[i].promise, got.row.rec.rule, want->rule);
		CHECK_INT(cases[i].promise, got.row.rec.size_bytes, want->size_bytes);
		CHECK_INT(cases[i].promise, got.row.rec.mtime_ns, want->mtime_ns);
	}
}

/* The date that SQL keeps is the one that retention_is_later() calls later. */
static void test_put_agrees_with_retention(void **state)
{
	static const int64_t moments[] = { INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_C(1) << 32, INT64_MAX - 1, INT64_MAX };

	open_ledger();
	for (size_t a = 0; a < ARRAY_SIZE(moments); a++)
		for (size_t b = 0; b < ARRAY_SIZE(moments); b++) {
			struct ledger_row row = row_of(a * 100 + b, "x");

			row.rec.until_s = moments[a];
			CHECK_INT("put", ledger_put(ledger, &row), 0);
			row.rec.until_s = moments[b];
			CHECK_INT("put", ledger_put(ledger, &row), 0);
			CHECK_INT("the later one", find(a * 100 + b).row.rec.until_s,
				  retention_is_later(moments[a], moments[b]) ? moments[b] : moments[a]);
		}
}

static void test_digest(void **state)
{
	uint8_t one[32], two[32];
	struct ledger_row row = row_of(1, "x");
	struct copy got;

	open_ledger();
	memset(one, 1, sizeof(one));
	memset(two, 2, sizeof(two));
	put(1, "x");
	CHECK("a digest is pending", !find(1).row.sha256);
	row.sha256 = one;
	CHECK_INT("then it is known", ledger_put(ledger, &row), 0);
	put(1, "y");
	got = find(1);
	CHECK("a row without one keeps it", got.row.sha256 && got.sha256[0] == 1);
	row.sha256 = two;
	CHECK_INT("a new one replaces it", ledger_put(ledger, &row), 0);
	CHECK_INT("so it is", find(1).sha256[0], 2);
	row.sha256 = NULL;
	row.rec.size_bytes++;
	CHECK_INT("the file has grown", ledger_put(ledger, &row), 0);
	CHECK("its digest is pending again", !find(1).row.sha256);
}

static void test_put_refuses(void **state)
{
	static const char *const paths[] = { NULL, "", "/", "/a", "a/" };
	struct ledger_row row;
	uint64_t n = 99;

	open_ledger();
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		row = row_of(1, paths[i]);
		CHECK_INT("no path below the share", ledger_put(ledger, &row), -EINVAL);
	}
	row = row_of(1, "a");
	row.key.len = 0;
	CHECK_INT("no key", ledger_put(ledger, &row), -EINVAL);
	row.key.len = FILE_KEY_MAX_BYTES + 1;
	CHECK_INT("a key longer than any", ledger_put(ledger, &row), -EINVAL);
	CHECK_INT("counts", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	CHECK_INT("nothing is there", n, 0);
}

static void test_same_path(void **state)
{
	uint64_t n = 0;

	open_ledger();
	put(1, "same");
	put(2, "same");
	CHECK_INT("two files of one path", ledger_each(ledger, &(struct ledger_filter){ .prefix = "same" }, count_row, &n), 0);
	CHECK_INT("are two rows", n, 2);
}

static void test_remove(void **state)
{
	struct file_key key = key_of(1);
	uint64_t n = 0;

	open_ledger();
	put(1, "a");
	CHECK_INT("a hold", ledger_hold_add(ledger, &key, "case", 0, 0), 0);
	CHECK_INT("removed", ledger_remove(ledger, &key), 0);
	CHECK_INT("it is gone", ledger_find(ledger, &key, NULL, NULL), -ENOENT);
	CHECK_INT("again is no error", ledger_remove(ledger, &key), 0);
	put(1, "a");
	CHECK_INT("its holds went along", find(1).row.holds, 0);
	CHECK_INT("by name", ledger_hold_release(ledger, &key, "case"), -ENOENT);
	CHECK_INT("all of them", ledger_each(ledger, &(struct ledger_filter){ .hold = "case" }, count_row, &n), 0);
	CHECK_INT("none", n, 0);
}

static void test_extend(void **state)
{
	static const struct { const char *promise; int64_t from, to; int want; } cases[] = {
		{ "later",                         2000, 2001, 0 },
		{ "equal changes nothing",         2000, 2000, 0 },
		{ "earlier",                       2000, 1999, -EPERM },
		{ "to infinite",                   2000, INT64_MAX, 0 },
		{ "from infinite",                 INT64_MAX, INT64_MAX - 1, -EPERM },
		{ "infinite again",                INT64_MAX, INT64_MAX, 0 },
		{ "from unspecified",              INT64_MIN, 1, 0 },
		{ "to unspecified",                2000, INT64_MIN, -EPERM },
		{ "unspecified again",             INT64_MIN, INT64_MIN, 0 },
		{ "over 2038",                     INT32_MAX, INT64_C(1) << 31, 0 },
		{ "over 2106",                     UINT32_MAX, INT64_C(1) << 32, 0 },
		{ "and not around",                INT64_C(1) << 32, 5, -EPERM },
	};
	struct file_key none = key_of(4711);

	open_ledger();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ledger_row row = row_of(i, "x");

		row.rec.until_s = cases[i].from;
		CHECK_INT(cases[i].promise, ledger_put(ledger, &row), 0);
		CHECK_INT(cases[i].promise, ledger_extend(ledger, &row.key, cases[i].to), cases[i].want);
		CHECK_INT(cases[i].promise, find(i).row.rec.until_s, cases[i].want ? cases[i].from : cases[i].to);
	}
	CHECK_INT("no row", ledger_extend(ledger, &none, 1), -ENOENT);
}

static void test_holds(void **state)
{
	struct file_key key = key_of(1), none = key_of(2);
	struct names names = { .stop_after = -1 };

	open_ledger();
	put(1, "a");
	CHECK_INT("a hold", ledger_hold_add(ledger, &key, "zeta", 17, INT64_MAX), 0);
	CHECK_INT("another", ledger_hold_add(ledger, &key, "Alpha", 17, 5), 0);
	CHECK_INT("in UTF-8", ledger_hold_add(ledger, &key, "Fall Müller", UINT32_MAX, 5), 0);
	CHECK_INT("the row counts them", find(1).row.holds, 3);
	CHECK_INT("the same again", ledger_hold_add(ledger, &key, "zeta", 18, 6), -EEXIST);
	CHECK_INT("no row", ledger_hold_add(ledger, &none, "zeta", 0, 0), -ENOENT);
	CHECK_INT("listed", ledger_holds(ledger, &key, add_name, &names), 0);
	CHECK_STR("in order of name", names.text, "Alpha;Fall Müller;zeta;");
	CHECK("with who and when of the first", names.by == 17 && names.at_s == INT64_MAX);
	names = (struct names){ .stop_after = 2 };
	CHECK_INT("the callback may stop", ledger_holds(ledger, &key, add_name, &names), -ECANCELED);
	CHECK_STR("at once", names.text, "Alpha;Fall Müller;");
	CHECK_INT("one is released", ledger_hold_release(ledger, &key, "Alpha"), 0);
	CHECK_INT("once", ledger_hold_release(ledger, &key, "Alpha"), -ENOENT);
	CHECK_INT("of a file that there is", ledger_hold_release(ledger, &none, "zeta"), -ENOENT);
	CHECK_INT("names are exact", ledger_hold_release(ledger, &key, "ZETA"), -ENOENT);
	CHECK_INT("the others stay", find(1).row.holds, 2);
	put(1, "renamed");
	CHECK_INT("also when the file is put again", find(1).row.holds, 2);
	CHECK_INT("retention does not matter", find(1).row.rec.until_s, 2000);
	reopen_ledger();
	CHECK_INT("and after a restart", find(1).row.holds, 2);
}

static void test_many_holds(void **state)
{
	struct file_key key = key_of(1);
	struct names names = { .stop_after = -1 };
	char want[4096] = "", name[32];

	open_ledger();
	put(1, "a");
	for (int i = 0; i < 300; i++) {	/* more than two pages */
		snprintf(name, sizeof(name), "case-%03d", i * 7 % 300);
		CHECK_INT("a hold", ledger_hold_add(ledger, &key, name, 0, 0), 0);
		snprintf(want + strlen(want), 32, "case-%03d;", i);
	}
	CHECK_INT("listed", ledger_holds(ledger, &key, add_name, &names), 0);
	CHECK_STR("all of them, once", names.text, want);
}

static void test_hold_names(void **state)
{
	static const struct { const char *name; int want; } cases[] = {
		{ "a", 0 }, { " ", 0 }, { "2024-17 (Smith v. Jones)", 0 }, { "\xc3\xa4", 0 }, { "\xe2\x82\xac", 0 },
		{ "\xf0\x9f\x94\x92", 0 }, { "\xc2\xa0", 0 }, { "\xed\x9f\xbf", 0 }, { "\xf4\x8f\xbf\xbf", 0 },
		{ "", -EINVAL }, { "a/b", -EINVAL }, { "/", -EINVAL }, { "a\nb", -EINVAL }, { "\t", -EINVAL },
		{ "\x7f", -EINVAL }, { "\x1b[31m", -EINVAL }, { "\xc2\x85", -EINVAL }, { "\x80", -EINVAL },
		{ "\xff", -EINVAL }, { "a\xc3", -EINVAL }, { "\xc0\xaf", -EINVAL }, { "\xe0\x80\xaf", -EINVAL },
		{ "\xf0\x80\x80\xaf", -EINVAL }, { "\xed\xa0\x80", -EINVAL }, { "\xf4\x90\x80\x80", -EINVAL },
		{ "\xf8\x88\x80\x80\x80", -EINVAL }, { "\xe0\x81\x81", -EINVAL },
		{ "\xf0\x80\x81\x81", -EINVAL }, { "\xe2\x82", -EINVAL }, { "\xe2\x28\xa1", -EINVAL },
	};
	struct file_key key = key_of(1);
	char name[LEDGER_CASE_MAX_BYTES + 2];

	open_ledger();
	put(1, "a");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].name, ledger_hold_add(ledger, &key, cases[i].name, 0, 0), cases[i].want);
	memset(name, 'x', sizeof(name));
	name[LEDGER_CASE_MAX_BYTES + 1] = '\0';
	CHECK_INT("one byte too long", ledger_hold_add(ledger, &key, name, 0, 0), -EINVAL);
	name[LEDGER_CASE_MAX_BYTES] = '\0';
	CHECK_INT("the longest", ledger_hold_add(ledger, &key, name, 0, 0), 0);
	CHECK_INT("no bad one is counted", find(1).row.holds, 10);
}

static void test_transactions(void **state)
{
	struct file_key key = key_of(2);
	uint64_t first;

	open_ledger();
	put(1, "a");
	CHECK_INT("begin", ledger_begin(ledger), 0);
	CHECK_INT("not nested", ledger_begin(ledger), -EINVAL);
	put(2, "b");
	CHECK_INT("one's own changes are seen", ledger_find(ledger, &key, NULL, NULL), 0);
	CHECK_INT("also below", ledger_has_below(ledger, "b"), 1);
	CHECK_INT("serials are not given here", ledger_reserve_serials(ledger, 1, &first), -EINVAL);
	ledger_rollback(ledger);
	CHECK_INT("rolled back", ledger_find(ledger, &key, NULL, NULL), -ENOENT);
	ledger_rollback(ledger);
	CHECK_INT("no transaction", ledger_commit(ledger), -EINVAL);
	CHECK_INT("begin", ledger_begin(ledger), 0);
	put(2, "b");
	CHECK_INT("commit", ledger_commit(ledger), 0);
	reopen_ledger();
	CHECK_INT("committed", ledger_find(ledger, &key, NULL, NULL), 0);
}

static struct { struct ledger *ledger; atomic_int step; int r; } other;

static void wait_for_step(int step)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	for (int i = 0; atomic_load(&other.step) < step && i < 10000; i++)
		nanosleep(&pause, NULL);
	CHECK("the other thread gets there", atomic_load(&other.step) >= step);
}

static void *look_and_hold(void *arg)
{
	struct file_key one = key_of(1), two = key_of(2);
	uint64_t n = 0;

	/* The main thread is in a transaction. */
	other.r = ledger_find(ledger, &one, NULL, NULL);
	if (other.r == 0 && ledger_find(ledger, &two, NULL, NULL) != -ENOENT)
		other.r = -EILSEQ;	/* uncommitted, but seen */
	if (other.r == 0)
		other.r = ledger_each(ledger, &(struct ledger_filter){ 0 }, count_row, &n);
	if (other.r == 0 && n != 1)
		other.r = -EILSEQ;
	atomic_store(&other.step, 1);
	if (other.r == 0)
		other.r = ledger_hold_add(ledger, &one, "case", 0, 0);
	atomic_store(&other.step, 2);
	return NULL;
}

/* Look-ups go on during a batch; a change waits, and is not rolled back with it. */
static void test_batch_and_others(void **state)
{
	struct timespec pause = { .tv_nsec = 50 * 1000000 };
	pthread_t thread;

	open_ledger();
	put(1, "a");
	atomic_store(&other.step, 0);
	CHECK_INT("begin", ledger_begin(ledger), 0);
	put(2, "b");
	assert_int_equal(pthread_create(&thread, NULL, look_and_hold, NULL), 0);
	wait_for_step(1);
	nanosleep(&pause, NULL);	/* time to do wrong */
	CHECK_INT("the other's change waits", atomic_load(&other.step), 1);
	ledger_rollback(ledger);
	assert_int_equal(pthread_join(thread, NULL), 0);
	CHECK_INT("then it is done", other.r, 0);
	CHECK_INT("and stays", find(1).row.holds, 1);
}

static void *use_often(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	struct copy copy;
	uint64_t n = 0;

	for (unsigned i = 0; i < 60; i++) {
		struct ledger_row row = row_of(me * 1000 + i, "threads/x");

		if (i % 10 == 0 && ledger_begin(ledger) < 0)
			return (void *)1;
		if (ledger_put(ledger, &row) < 0 || ledger_hold_add(ledger, &row.key, "case", 0, 0) < 0 ||
		    ledger_find(ledger, &row.key, copy_row, &copy) < 0 || copy.row.holds != 1)
			return (void *)2;
		if (i % 10 == 9 && ledger_commit(ledger) < 0)
			return (void *)3;
		if (ledger_has_below(ledger, "threads") < 0 || !ledger_error(ledger))
			return (void *)4;
		if (i % 20 == 0 && ledger_each(ledger, &(struct ledger_filter){ .hold = "case" }, count_row, &n) < 0)
			return (void *)5;
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[6];
	uint64_t n = 0;
	void *failed;

	open_ledger();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_often, (void *)(i + 1)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		CHECK_INT("no thread fails", (intptr_t)failed, 0);
	}
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ .state = LEDGER_HELD }, &n), 0);
	CHECK_INT("all are there", n, 6 * 60);
}

static void test_meta(void **state)
{
	char *value = (void *)&value;

	open_ledger();
	CHECK_INT("none", ledger_meta_get(ledger, "x", &value), -ENOENT);
	CHECK("the output stays", value == (void *)&value);
	CHECK_INT("set", ledger_meta_set(ledger, "x", "one"), 0);
	CHECK_INT("set again", ledger_meta_set(ledger, "x", "two"), 0);
	CHECK_INT("another", ledger_meta_set(ledger, "y", ""), 0);
	reopen_ledger();
	CHECK_INT("got", ledger_meta_get(ledger, "x", &value), 0);
	CHECK_STR("the last one", value, "two");
	free(value);
	CHECK_INT("got", ledger_meta_get(ledger, "y", &value), 0);
	CHECK_STR("an empty one", value, "");
	free(value);
}

struct pendings {
	unsigned n;
	char text[256];
	bool put_off;
};

static int see_pending(void *arg, const struct ledger_pending *p)
{
	struct pendings *seen = arg;
	struct ledger_pending later = *p;

	if (++seen->n > 10000)
		return -E2BIG;	/* it goes round and round */
	if (strlen(seen->text) + strlen(p->path) + 2 < sizeof(seen->text)) {
		strcat(seen->text, p->path);
		strcat(seen->text, ";");
	}
	if (seen->put_off) {
		later.due_s = 1000000;
		CHECK_INT("the callback may change it", ledger_pending_put(ledger, &later), 0);
	}
	return 0;
}

static void check_pending(const char *promise, int64_t now_s, unsigned limit, const char *want)
{
	struct pendings seen = { 0 };

	CHECK_INT(promise, ledger_pending_each(ledger, now_s, limit, see_pending, &seen), 0);
	CHECK_STR(promise, seen.text, want);
}

static void test_pending(void **state)
{
	struct file_key key = key_of(1);
	struct pendings seen = { .put_off = true };
	struct ledger_pending bad = { .path = "x" };
	uint64_t n = 0;
	char path[16];

	open_ledger();
	put_pending(1, "late", 300);
	put_pending(2, "early\n\xff", 100);
	put_pending(3, "middle", 200);
	put_pending(4, "", INT64_MAX);
	put_pending(5, "ever", INT64_MIN);
	check_pending("those that are due, oldest first", 200, 10, "ever;early\n\xff;middle;");
	check_pending("no more than asked for", 200, 2, "ever;early\n\xff;");
	check_pending("none", 200, 0, "");
	check_pending("all", INT64_MAX, 10, "ever;early\n\xff;middle;late;;");
	put_pending(1, "late", 50);
	check_pending("a newer one replaces", 60, 10, "ever;late;");
	CHECK_INT("counted", ledger_pending_count(ledger, &n), 0);
	CHECK_INT("one a key", n, 5);
	CHECK_INT("removed", ledger_pending_remove(ledger, &key), 0);
	CHECK_INT("again is no error", ledger_pending_remove(ledger, &key), 0);
	reopen_ledger();
	check_pending("the others stay", 200, 10, "ever;early\n\xff;middle;");
	CHECK_INT("no key", ledger_pending_put(ledger, &bad), -EINVAL);
	CHECK_INT("begin", ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 500; i++) {	/* some pages, of many with one moment */
		snprintf(path, sizeof(path), "%u", i);
		put_pending(1000 + i, path, 5000 + i / 200);
	}
	CHECK_INT("commit", ledger_commit(ledger), 0);
	CHECK_INT("over pages", ledger_pending_each(ledger, 6000, UINT32_MAX, see_pending, &(struct pendings){ 0 }), 0);
	CHECK_INT("while they change", ledger_pending_each(ledger, 6000, UINT32_MAX, see_pending, &seen), 0);
	CHECK_INT("each once, though they are put off", seen.n, 503);
	seen = (struct pendings){ 0 };
	CHECK_INT("a limit beyond a page", ledger_pending_each(ledger, INT64_MAX, 300, see_pending, &seen), 0);
	CHECK_INT("holds", seen.n, 300);
}

static void test_serials(void **state)
{
	struct ledger_row row = row_of(1, "restored");
	uint64_t first = 0;

	open_ledger();
	CHECK_INT("reserved", ledger_reserve_serials(ledger, 100, &first), 0);
	CHECK_INT("from 1", first, 1);
	CHECK_INT("again", ledger_reserve_serials(ledger, 1, &first), 0);
	CHECK_INT("after it", first, 101);
	reopen_ledger();
	CHECK_INT("after a restart", ledger_reserve_serials(ledger, 5, &first), 0);
	CHECK_INT("after it", first, 102);
	CHECK_INT("none", ledger_reserve_serials(ledger, 0, &first), -EINVAL);
	for (row.rec.serial = 3000; row.rec.serial <= 5000; row.rec.serial += 2000) {
		CHECK_INT("begin", ledger_begin(ledger), 0);
		CHECK_INT("a file with a number from elsewhere", ledger_put(ledger, &row), 0);
		ledger_rollback(ledger);
		if (row.rec.serial == 5000)
			break;
		CHECK_INT("rolled back, it does not count", ledger_reserve_serials(ledger, 1, &first), 0);
		CHECK_INT("so", first, 107);
	}
	CHECK_INT("put again", ledger_put(ledger, &row), 0);
	CHECK_INT("in the ledger its number is taken", ledger_reserve_serials(ledger, 1, &first), 0);
	CHECK_INT("so", first, 5001);
	row = row_of(2, "old");
	row.rec.serial = 17;
	CHECK_INT("a smaller one changes nothing", ledger_put(ledger, &row), 0);
	CHECK_INT("so", ledger_reserve_serials(ledger, 1, &first), 0);
	CHECK_INT("so", first, 5002);
	CHECK_INT("more than there are", ledger_reserve_serials(ledger, UINT64_MAX, &first), -EOVERFLOW);
	CHECK_INT("to the very end", ledger_reserve_serials(ledger, INT64_MAX - 5003, &first), 0);
	CHECK_INT("nothing is left", ledger_reserve_serials(ledger, 1, &first), -EOVERFLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_put_merges),
		TEST(test_put_agrees_with_retention),
		TEST(test_digest),
		TEST(test_put_refuses),
		TEST(test_same_path),
		TEST(test_remove),
		TEST(test_extend),
		TEST(test_holds),
		TEST(test_many_holds),
		TEST(test_hold_names),
		TEST(test_transactions),
		TEST(test_batch_and_others),
		TEST(test_threads),
		TEST(test_meta),
		TEST(test_pending),
		TEST(test_serials),
	};

	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
