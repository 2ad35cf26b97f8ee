/* Listings of the ledger: every filter, every page boundary, in constant memory. */
#include "tests/unit/unit_ledger.h"

#include <malloc.h>

/* Names around the separator and the ends of what a byte can be. */
static const char *const odd_paths[] = {
	"a", "a!", "a-b", "a.txt", "a/", "a/b", "a/b/c", "a/b/d", "a/\x01", "a/\xff", "a/\xff\xff", "a0", "a1", "a/b.c",
	"a\nb", "a\xff", "A", "ab", "ab/c", "b", "\x01", "\xfe\xff", "\xff", "\xff/x", "\xc3\xa4/\xf6", "a/b c", " a",
	"a/b/c/d/e/f/g", "a%", "a_", "a*",
};

static void test_has_below(void **state)
{
	static const struct { const char *dir; int want; } cases[] = {
		{ "", 1 }, { "a", 1 }, { "a/b", 1 }, { "a/b/c", 1 }, { "a/b/c/d/e", 1 }, { "a/b/c/d/e/f/g", 1 },
		{ "a/b/c/d/e/f/g/h", 0 }, { "ab", 1 }, { "abc", 0 }, { "a/", 0 }, { "c", 0 }, { "\xff", 1 }, { "\xc3\xa4", 1 },
		{ "\xc3", 0 }, { "a2", 0 }, { "a1", 1 }, { "a/b/c0", 0 }, { "a/c", 0 },
	};
	struct file_key key = key_of(1);

	open_ledger();
	CHECK_INT("an empty ledger has nothing below the root", ledger_has_below(ledger, ""), 0);
	CHECK_INT("nor anywhere", ledger_has_below(ledger, "a"), 0);
	put(1, "a1");
	CHECK_INT("a1 is not below a", ledger_has_below(ledger, "a"), 0);
	CHECK_INT("but below the root", ledger_has_below(ledger, ""), 1);
	CHECK_INT("removed", ledger_remove(ledger, &key), 0);
	CHECK_INT("it is not", ledger_has_below(ledger, ""), 0);
	for (size_t i = 0; i < ARRAY_SIZE(odd_paths); i++)
		if (odd_paths[i][strlen(odd_paths[i]) - 1] != '/')
			put(i, odd_paths[i]);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].dir, ledger_has_below(ledger, cases[i].dir), cases[i].want);
}

/* The filters against a plain reading of their words, all combinations, on rows of all kinds. */
enum { NROWS = 2500, NOW_S = 1000 };
static struct model {
	struct ledger_row row;
	char path[64];
	bool hold_a, hold_b;
} model[NROWS];

static int compare_model(const void *a, const void *b)
{
	const struct model *x = a, *y = b;
	int r = strcmp(x->path, y->path);	/* bytes, unsigned */

	return r ? r : memcmp(x->row.key.bytes, y->row.key.bytes, x->row.key.len);
}

static void fill_model(void)
{
	static const int64_t untils[] = { INT64_MIN, INT64_MIN + 1, 0, NOW_S - 1, NOW_S, NOW_S + 1, NOW_S + 500,
					  INT64_MAX - 1, INT64_MAX };
	static const char *const rules[] = { "", "r1", "r2" };
	unsigned seed = 7;

	CHECK_INT("begin", ledger_begin(ledger), 0);
	for (size_t i = 0; i < NROWS; i++) {
		struct model *m = &model[i];
		const char *base = odd_paths[(unsigned)rand_r(&seed) % ARRAY_SIZE(odd_paths)];

		if (base[strlen(base) - 1] == '/')
			base = "b";
		if (rand_r(&seed) % 3)
			snprintf(m->path, sizeof(m->path), "%s/%d", base, rand_r(&seed) % 400);
		else
			snprintf(m->path, sizeof(m->path), "%s", base);
		m->row = row_of(i, m->path);
		m->row.rec.until_s = untils[(unsigned)rand_r(&seed) % ARRAY_SIZE(untils)];
		m->row.rec.holds = rand_r(&seed) % 10 == 0;
		m->row.uid = (uid_t)rand_r(&seed) % 4;
		m->row.rule = rules[(unsigned)rand_r(&seed) % ARRAY_SIZE(rules)];
		m->hold_a = rand_r(&seed) % 6 == 0;
		m->hold_b = rand_r(&seed) % 8 == 0;
		CHECK_INT("put", ledger_put(ledger, &m->row), 0);
		if (m->hold_a)
			CHECK_INT("hold", ledger_hold_add(ledger, &m->row.key, "A", 0, 0), 0);
		if (m->hold_b)
			CHECK_INT("hold", ledger_hold_add(ledger, &m->row.key, "B", 0, 0), 0);
	}
	CHECK_INT("commit", ledger_commit(ledger), 0);
	qsort(model, NROWS, sizeof(model[0]), compare_model);
}

static bool matches(const struct model *m, const struct ledger_filter *f)
{
	size_t len = f->prefix ? strlen(f->prefix) : 0;
	bool held = m->hold_a || m->hold_b || m->row.rec.holds;
	int64_t until_s = m->row.rec.until_s;
	bool dated = until_s != RETENTION_UNSPECIFIED && until_s != RETENTION_INFINITE;

	if (len && (strncmp(m->path, f->prefix, len) != 0 || (m->path[len] != '\0' && m->path[len] != '/')))
		return false;
	if (f->hold && !(strcmp(f->hold, "A") == 0 ? m->hold_a : m->hold_b))
		return false;
	if (f->state == LEDGER_RETAINED && dated && f->now_s >= until_s)
		return false;
	if (f->state == LEDGER_EXPIRED && (!dated || f->now_s < until_s || held))
		return false;
	if (f->state == LEDGER_HELD && !held)
		return false;
	if (f->by_uid && m->row.uid != f->uid)
		return false;
	if (f->by_expiry && (!dated || until_s >= f->expires_before_s))
		return false;
	return !f->rule || strcmp(m->row.rule, f->rule) == 0;
}

struct expectation {
	const struct ledger_filter *filter;
	size_t next;
	uint64_t n;
};

static int expect_row(void *arg, const struct ledger_row *row)
{
	struct expectation *e = arg;

	while (e->next < NROWS && !matches(&model[e->next], e->filter))
		e->next++;
	CHECK("no row too many", e->next < NROWS);
	CHECK_STR("the next row in order", row->path, model[e->next].path);
	CHECK("it is that row", file_key_equal(&row->key, &model[e->next].row.key));
	e->next++;
	e->n++;
	return 0;
}

static void check_filter(const struct ledger_filter *f)
{
	struct expectation e = { .filter = f };
	uint64_t count = 99999;
	char *sql, *explain;
	sqlite3_stmt *stmt;

	CHECK_INT("listed", ledger_each(ledger, f, expect_row, &e), 0);
	while (e.next < NROWS)
		CHECK("no row is left out", !matches(&model[e.next++], f));
	CHECK_INT("counted", ledger_count(ledger, f, &count), 0);
	CHECK_INT("as many as are listed", count, e.n);

	/* Constant memory: the rows come from an index in the order wanted, none waits for a sort. */
	sql = ledger_filter_sql(f, f->prefix, false);
	explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
	assert_int_equal(sqlite3_prepare_v2(ledger->scanner.db, explain, -1, &stmt, NULL), SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *plan = (const char *)sqlite3_column_text(stmt, 3);

		if (strstr(plan, "TEMP B-TREE") || strncmp(plan, "SCAN", 4) == 0)
			fail_msg("%s: plan: %s", sql, plan);
	}
	sqlite3_finalize(stmt);
	sqlite3_free(explain);
	sqlite3_free(sql);
}

static void test_filters(void **state)
{
	static const char *const prefixes[] = { NULL, "", "a", "a/b", "ab", "b", "none", "\xff" };
	static const char *const holds[] = { NULL, "A", "B" };
	static const char *const rules[] = { NULL, "r1", "" };
	static const int64_t befores[] = { NOW_S, INT64_MAX, INT64_MIN };
	unsigned n = 0;

	open_ledger();
	fill_model();
	for (size_t p = 0; p < ARRAY_SIZE(prefixes); p++)
	for (size_t h = 0; h < ARRAY_SIZE(holds); h++)
	for (size_t r = 0; r < ARRAY_SIZE(rules); r++)
	for (int s = LEDGER_ANY; s <= LEDGER_HELD; s++)
	for (int u = 0; u < 2; u++)
	for (size_t e = 0; e <= ARRAY_SIZE(befores); e++) {
		struct ledger_filter f = {
			.prefix = prefixes[p], .hold = holds[h], .rule = rules[r], .state = s, .now_s = NOW_S,
			.by_uid = u, .uid = 2, .by_expiry = e > 0,
			.expires_before_s = e ? befores[e - 1] : 0,
		};

		check_filter(&f);
		n++;
	}
	CHECK_INT("all combinations", n, 8 * 3 * 3 * 4 * 2 * 4);
	check_filter(&(struct ledger_filter){ .state = LEDGER_RETAINED, .now_s = INT64_MAX });
	check_filter(&(struct ledger_filter){ .state = LEDGER_EXPIRED, .now_s = INT64_MAX });
	check_filter(&(struct ledger_filter){ .state = LEDGER_RETAINED, .now_s = INT64_MIN });
	check_filter(&(struct ledger_filter){ .state = LEDGER_EXPIRED, .now_s = INT64_MIN });
}

static int check_ascending(void *arg, const struct ledger_row *row)
{
	unsigned *n = arg;
	char want[32];

	snprintf(want, sizeof(want), "d/%08u", (*n)++);
	CHECK_STR("in order, none twice, none left out", row->path, want);
	return 0;
}

static void test_page_boundaries(void **state)
{
	static const unsigned sizes[] = { 0, 1, 999, 1000, 1001, 1999, 2000, 2001, 3000 };
	unsigned have = 0;
	char path[32];

	open_ledger();
	put(100000, "c");
	put(100001, "e");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned n = 0;
		uint64_t count = 0;

		CHECK_INT("begin", ledger_begin(ledger), 0);
		for (; have < sizes[i]; have++) {
			snprintf(path, sizeof(path), "d/%08u", have);
			put(have, path);
		}
		CHECK_INT("commit", ledger_commit(ledger), 0);
		CHECK_INT("listed", ledger_each(ledger, &(struct ledger_filter){ .prefix = "d" }, check_ascending, &n), 0);
		CHECK_INT("all", n, sizes[i]);
		CHECK_INT("all of all", ledger_each(ledger, &(struct ledger_filter){ 0 }, count_row, &count), 0);
		CHECK_INT("all", count, sizes[i] + 2);
	}
	/* The page ends in the middle of files with one path. */
	CHECK_INT("begin", ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 2500; i++)
		put(200000 + i, "same");
	CHECK_INT("commit", ledger_commit(ledger), 0);
	uint64_t same = 0;
	CHECK_INT("listed", ledger_each(ledger, &(struct ledger_filter){ .prefix = "same" }, count_row, &same), 0);
	CHECK_INT("all, once", same, 2500);
}

struct watch {
	unsigned n;
	size_t early, peak;
};

static int watch_memory(void *arg, const struct ledger_row *row)
{
	struct watch *watch = arg;

	if (++watch->n % 500 == 0) {
#ifdef __SANITIZE_ADDRESS__
		size_t used = (size_t)sqlite3_memory_used();	/* mallinfo2() knows nothing of its heap */
#else
		size_t used = mallinfo2().uordblks;
#endif
		if (watch->n <= 5000)
			watch->early = used > watch->early ? used : watch->early;
		watch->peak = used > watch->peak ? used : watch->peak;
	}
	return 0;
}

static void test_many_rows_in_constant_memory(void **state)
{
	enum { N = 100000 };
	static const struct ledger_filter filters[] = {
		{ .prefix = NULL }, { .by_uid = true, .uid = 1000 }, { .state = LEDGER_RETAINED, .now_s = 0 },
		{ .state = LEDGER_HELD },
	};
	char path[128];

	open_ledger();
	for (unsigned i = 0; i < N; i++) {
		struct ledger_row row;

		if (i % 1000 == 0)
			CHECK_INT("begin", ledger_begin(ledger), 0);
		snprintf(path, sizeof(path), "project-%03u/some directory/file number %u.dat", i % 300, i);
		row = row_of(i, path);
		memcpy(row.key.bytes, &i, sizeof(i));	/* as close together as inode numbers are */
		row.rec.serial = 1;
		row.rec.holds = 1;
		CHECK_INT("put", ledger_put(ledger, &row), 0);
		if (i % 1000 == 999)
			CHECK_INT("commit", ledger_commit(ledger), 0);
	}
	for (size_t f = 0; f < ARRAY_SIZE(filters); f++) {
		struct watch watch = { 0 };

		CHECK_INT("listed", ledger_each(ledger, &filters[f], watch_memory, &watch), 0);
		CHECK_INT("all", watch.n, N);
		/* SQLite's cache of pages grows to 2 MB a connection; a page of rows takes less than one. */
		if (watch.peak > watch.early + 2500000 || watch.peak > 12000000)
			fail_msg("filter %zu: %zu bytes at 5,000 rows, %zu at the most", f, watch.early, watch.peak);
	}
}

/* From inside a listing the ledger may be used, and changed. */
static int change_while_listing(void *arg, const struct ledger_row *row)
{
	struct copy copy = { .calls = 0 };

	CHECK_INT("find", ledger_find(ledger, &row->key, copy_row, &copy), 0);
	CHECK_INT("extend", ledger_extend(ledger, &row->key, 5000), 0);
	if (++*(unsigned *)arg % 2)
		CHECK_INT("remove", ledger_remove(ledger, &row->key), 0);
	return *(unsigned *)arg == 40 ? 7 : 0;
}

static void test_callbacks(void **state)
{
	unsigned n = 0;
	uint64_t count;
	char path[16];

	open_ledger();
	for (unsigned i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "f%02u", i);
		put(i, path);
	}
	CHECK_INT("the callback's answer comes back",
		  ledger_each(ledger, &(struct ledger_filter){ 0 }, change_while_listing, &n), 7);
	CHECK_INT("at once", n, 40);
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &count), 0);
	CHECK_INT("what it removed is gone", count, 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_has_below),
		TEST(test_filters),
		TEST(test_page_boundaries),
		TEST(test_many_rows_in_constant_memory),
		TEST(test_callbacks),
	};

	return cmocka_run_group_tests_name("ledger_listing", tests, NULL, NULL);
}
