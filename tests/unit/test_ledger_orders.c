/* Orders about holds, and the ledger from before there were any. */
#include "lockstore/ledger_orders.h"
#include "tests/unit/unit_ledger.h"

static char seen[512];

static int see(void *arg, const struct hold_order *order)
{
	size_t len = strlen(seen);

	snprintf(seen + len, sizeof(seen) - len, "%s:%d%s;", order->name, order->state, order->future ? "+" : "");
	return 0;
}

static int see_path(void *arg, const char *path, bool tree)
{
	size_t len = strlen(seen);

	snprintf(seen + len, sizeof(seen) - len, "%s%s;", path, tree ? "/" : "");
	return 0;
}

static int64_t order_on(const char *name, bool future, const char *path, bool tree)
{
	struct hold_order order = { .name = name, .reason = "why", .future = future, .by = 7, .at_s = 8 };
	int64_t id = 0;

	CHECK_INT("an order", ledger_order_new(ledger, &order, &id), 0);
	CHECK_INT("a path", ledger_order_add(ledger, id, path, tree), 0);
	return id;
}

static const char *orders(const char *name)
{
	seen[0] = '\0';
	CHECK_INT("orders are listed", ledger_orders(ledger, name, see, NULL), 0);
	return seen;
}

static void test_covers(void **state)
{
	static const struct { const char *path, *want; } cases[] = {
		{ "a", "c1:1;" }, { "a/b", "c1:1;" }, { "a/b/c", "c1:1;" }, { "a1", "" }, { "a-b", "" }, { "b/a", "" },
		{ "f", "c2:1;" }, { "f/g", "" }, { "", "" }, { "\xff\n/x", "c3:1;" }, { "\xff\n1", "" },
	};
	int64_t a, f, odd, root;

	open_ledger();
	a = order_on("c1", false, "a", true);
	f = order_on("c2", false, "f", false);
	odd = order_on("c3", false, "\xff\n", true);
	CHECK_INT("what is only named covers nothing", ledger_orders_cover(ledger, "a/b", COVER_LOCKED, NULL, NULL), 0);
	CHECK_INT("decided", ledger_order_decide(ledger, a, ORDER_PLACING), 0);
	CHECK_INT("decided", ledger_order_decide(ledger, f, ORDER_PLACING), 0);
	CHECK_INT("decided", ledger_order_decide(ledger, odd, ORDER_PLACING), 0);
	CHECK_INT("once", ledger_order_decide(ledger, odd, ORDER_PLACING), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		seen[0] = '\0';
		CHECK("asked", ledger_orders_cover(ledger, cases[i].path, COVER_LOCKED, see, NULL) >= 0);
		CHECK_STR(cases[i].path, seen, cases[i].want);
		CHECK_INT("none is for what comes", ledger_orders_cover(ledger, cases[i].path, COVER_COMING, NULL, NULL), 0);
	}
	root = order_on("c4", true, "", true);
	CHECK_INT("decided", ledger_order_decide(ledger, root, ORDER_PLACING), 0);
	CHECK_INT("the root covers all", ledger_orders_cover(ledger, "x/y", COVER_LOCKED, NULL, NULL), 1);
	CHECK_INT("also itself", ledger_orders_cover(ledger, "", COVER_LOCKED, NULL, NULL), 1);
	CHECK_INT("and what comes", ledger_orders_cover(ledger, "x/y", COVER_COMING, NULL, NULL), 1);
	CHECK_INT("done", ledger_order_done(ledger, root, 3, 4), 0);
	CHECK_INT("a placed one keeps no locked file", ledger_orders_cover(ledger, "x/y", COVER_LOCKED, NULL, NULL), 0);
	CHECK_INT("and still what comes", ledger_orders_cover(ledger, "x/y", COVER_COMING, NULL, NULL), 1);
}

static void test_life(void **state)
{
	uint64_t placing, future;
	int64_t tree, list, release;

	open_ledger();
	tree = order_on("c1", true, "d", true);
	list = order_on("c1", false, "f", false);
	(void)order_on("c9", false, "g", false);
	CHECK_INT("decided", ledger_order_decide(ledger, tree, ORDER_PLACING), 0);
	CHECK_INT("decided", ledger_order_decide(ledger, list, ORDER_PLACING), 0);
	reopen_ledger();
	CHECK_INT("a new daemon forgets what was not decided", ledger_orders_drop_listed(ledger), 0);
	CHECK_STR("and keeps the rest", orders(NULL), "c1:1+;c1:1;");
	CHECK_INT("counted", ledger_orders_count(ledger, &placing, &future), 0);
	CHECK("two are placed, one is for what comes", placing == 2 && future == 1);
	CHECK_INT("done", ledger_order_done(ledger, tree, 1, 2), 0);
	CHECK_INT("done", ledger_order_done(ledger, list, 3, 4), 0);
	CHECK_STR("placed", orders("c1"), "c1:2+;c1:2;");
	seen[0] = '\0';
	CHECK_INT("paths", ledger_order_paths(ledger, tree, see_path, NULL) + ledger_order_paths(ledger, list, see_path, NULL), 0);
	CHECK_STR("trees are kept, files not", seen, "d/;");
	CHECK_INT("below it", ledger_orders_below(ledger, "d"), 1);
	CHECK_INT("below the root", ledger_orders_below(ledger, ""), 1);
	CHECK_INT("not beside it", ledger_orders_below(ledger, "d1"), 0);
	CHECK_INT("nor in it", ledger_orders_below(ledger, "d/e"), 0);
	release = order_on("c1", false, "d/e", true);
	CHECK_INT("released below", ledger_order_decide(ledger, release, ORDER_RELEASING), 0);
	CHECK_INT("ends nothing above", ledger_order_end_future(ledger, release), 0);
	CHECK_STR("so it stays", orders("c1"), "c1:2+;c1:2;c1:3;");
	release = order_on("c1", false, "d", true);
	CHECK_INT("released", ledger_order_decide(ledger, release, ORDER_RELEASING), 0);
	CHECK_INT("there it ends", ledger_order_end_future(ledger, release), 0);
	CHECK_INT("counted", ledger_orders_count(ledger, &placing, &future), 0);
	CHECK_INT("nothing comes any more", future, 0);
	CHECK_INT("done", ledger_order_done(ledger, release, 0, 0), 0);
	CHECK_STR("with the last file the case is over", orders("c1"), "c1:3;");
}

static void test_put_brings_holds(void **state)
{
	struct ledger_row row = row_of(1, "a");
	struct names names = { .stop_after = -1 };
	int64_t id;

	open_ledger();
	id = order_on("beta", true, "", true);
	CHECK_INT("decided", ledger_order_decide(ledger, id, ORDER_PLACING), 0);
	row.hold = "alpha\nbeta";
	CHECK_INT("a lock with two holds", ledger_put(ledger, &row), 0);
	CHECK_INT("again", ledger_put(ledger, &row), 0);
	CHECK_INT("listed", ledger_holds(ledger, &row.key, add_name, &names), 0);
	CHECK_STR("both", names.text, "alpha;beta;");
	CHECK_INT("counted once", find(1).row.holds, 2);
	row.hold = "bad/name";
	CHECK_INT("a name that is none", ledger_put(ledger, &row), -EINVAL);
}

/* T50: as the first version wrote it. */
static void test_version_1(void **state)
{
	struct ledger_migration first = ledger_migrations[0];
	struct file_key key = key_of(1);
	struct names names = { .stop_after = -1 };
	sqlite3 *db;
	char *sql;

	assert_int_equal(sqlite3_open(path_in(dir, LEDGER_FILE), &db), SQLITE_OK);
	sql = sqlite3_mprintf("PRAGMA application_id=%d; %s; PRAGMA user_version=1;", LEDGER_APPLICATION_ID, first.sql);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_free(sql);
	sql = sqlite3_mprintf("INSERT INTO file VALUES(1, ?1, x'61', 0, 1, 1, 0, 5, 6, 7, 8, 9, 10, 11, 1, '', NULL);");
	{
		sqlite3_stmt *stmt;

		assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
		sqlite3_bind_blob(stmt, 1, key.bytes, key.len, SQLITE_STATIC);
		assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
		sqlite3_finalize(stmt);
	}
	sqlite3_free(sql);
	assert_int_equal(sqlite3_exec(db, "INSERT INTO hold VALUES(1, 'case', 3, 4);"
				      "INSERT INTO meta VALUES('share_id', 'share-1')", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);

	open_ledger();
	CHECK_INT("its lock", find(1).row.rec.until_s, 6);
	CHECK_INT("of generation 0", find(1).row.rec.generation, 0);
	CHECK_INT("its hold", ledger_holds(ledger, &key, add_name, &names), 0);
	CHECK_STR("by name", names.text, "case;");
	(void)order_on("c1", true, "d", true);
	CHECK_INT("and is sound", ledger_check(ledger), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_covers), TEST(test_life), TEST(test_put_brings_holds), TEST(test_version_1),
	};

	return cmocka_run_group_tests_name("ledger_orders", tests, NULL, NULL);
}
