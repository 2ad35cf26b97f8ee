/* A ledger of an older schema: upgraded as a whole, with every row, or left as it was. */
#include "tests/unit/unit_ledger.h"

#define NEXT (LEDGER_SCHEMA_VERSION + 1)

/* T50. These are what the next two versions could be. */
static const char to_2[] = "ALTER TABLE file ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';"
	"UPDATE file SET colour = 'blue' WHERE uid = 1000; CREATE INDEX file_colour ON file(colour)";
static const char to_3[] = "CREATE TABLE audit(id INTEGER PRIMARY KEY, line TEXT); INSERT INTO audit VALUES(1, 'made')";
static const char to_3_failing[] = "CREATE TABLE audit(id INTEGER PRIMARY KEY); INSERT INTO nowhere VALUES(1)";

static char *ask_sql(const char *sql)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;
	char *answer = NULL;

	assert_int_equal(sqlite3_open(path_in(dir, LEDGER_FILE), &db), SQLITE_OK);
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK) {
		if (sqlite3_step(stmt) == SQLITE_ROW)
			answer = strdup((const char *)sqlite3_column_text(stmt, 0));
		sqlite3_finalize(stmt);
	}
	sqlite3_close(db);
	return answer;
}

static void check_answer(const char *sql, const char *want)
{
	char *answer = ask_sql(sql);

	CHECK_STR(sql, answer ? answer : "(none)", want);
	free(answer);
}

static void test_upgrade_keeps_every_lock(void **state)
{
	struct ledger_migration good[NEXT + 1], bad[NEXT + 1];
	char now[16], next[16], to_next[32];
	struct file_key key = key_of(7);
	struct names names = { .stop_after = -1 };
	struct ledger *none = NULL;
	uint64_t n = 0, first = 0;

	memcpy(good, ledger_migrations, sizeof(ledger_migrations[0]) * LEDGER_SCHEMA_VERSION);
	good[NEXT - 1].sql = to_2;
	good[NEXT].sql = to_3;
	memcpy(bad, good, sizeof(bad));
	bad[NEXT].sql = to_3_failing;
	snprintf(now, sizeof(now), "%d", LEDGER_SCHEMA_VERSION);
	snprintf(next, sizeof(next), "%d", NEXT + 1);
	snprintf(to_next, sizeof(to_next), "to schema %d", NEXT + 1);

	make_and_close();
	open_ledger();
	CHECK_INT("a hold", ledger_hold_add(ledger, &key, "case", 3, 4), 0);
	CHECK_INT("an extension", ledger_extend(ledger, &key, INT64_MAX), 0);
	put_pending(9000, "pending", 5);
	CHECK_INT("serials", ledger_reserve_serials(ledger, 10, &first), 0);
	ledger_close(ledger);
	ledger = NULL;

	CHECK_INT("reading only, nothing is upgraded",
		  ledger_open_versions(dir, LEDGER_READONLY, "share-1", good, NEXT + 1, &none), -EROFS);
	check_answer("PRAGMA user_version", now);
	CHECK("a step that fails", ledger_open_versions(dir, 0, "share-1", bad, NEXT + 1, &none) < 0);
	CHECK("says which", strstr(ledger_error(NULL), to_next));
	check_answer("PRAGMA user_version", now);
	check_answer("SELECT count(*) FROM sqlite_schema WHERE name IN ('audit', 'file_colour')", "0");

	CHECK_INT("the upgrade", ledger_open_versions(dir, 0, "share-1", good, NEXT + 1, &ledger), 0);
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	CHECK_INT("keeps every lock", n, 2000);
	CHECK_INT("with its date", find(7).row.rec.until_s, INT64_MAX);
	CHECK_INT("its holds", ledger_holds(ledger, &key, add_name, &names), 0);
	CHECK_STR("by name", names.text, "case;");
	CHECK_INT("what is pending", (ledger_pending_count(ledger, &n), n), 1);
	CHECK_INT("the serials", (ledger_reserve_serials(ledger, 1, &n), n), first + 10);
	CHECK_INT("and is sound", ledger_check(ledger), 0);
	put(5000, "new");
	ledger_close(ledger);
	check_answer("PRAGMA user_version", next);
	check_answer("SELECT count(*) FROM file WHERE colour = 'blue'", "2000");
	CHECK_INT("again, nothing happens", ledger_open_versions(dir, 0, "share-1", good, NEXT + 1, &ledger), 0);
	ledger_close(ledger);
	ledger = NULL;
	check_answer("SELECT count(*) FROM audit", "1");
	CHECK_INT("the old program leaves it alone", ledger_open(dir, 0, "share-1", &none), -EBADMSG);
	assert_int_equal(unlink(path_in(dir, LEDGER_FILE)), 0);
	CHECK_INT("a new one has all steps", ledger_open_versions(dir, LEDGER_CREATE, NULL, good, NEXT + 1, &ledger), 0);
	ledger_close(ledger);
	ledger = NULL;
	check_answer("PRAGMA user_version", next);
	check_answer("SELECT line FROM audit", "made");
}

static void run_old_row(unsigned n)
{
	struct file_key key = key_of(n);
	char hex[2 * FILE_KEY_MAX_BYTES + 1], sql[1024];

	for (unsigned i = 0; i < key.len; i++)
		snprintf(hex + 2 * i, 3, "%02x", key.bytes[i]);
	snprintf(sql, sizeof(sql), "INSERT INTO file(key, path, flags, mode, rec_holds, rec_rule, committed_s, until_s, serial, size_bytes, mtime_ns,"
		 " uid, gid, holds, rule, generation) VALUES(x'%s', CAST('f%u' AS BLOB), 0, 0, 0, 0, 1000, 2000, %u, 10, 5, 1000, 100, %d, 'r', 0);%s",
		 hex, n, n, n == 7, n == 7 ? "INSERT INTO hold VALUES(last_insert_rowid(), 'case', 3, 4)" : "");
	run_sql(sql);
}

/* The schema before digests had an index. */
static void test_upgrade_from_version_2(void **state)
{
	struct file_key key = key_of(7);
	uint8_t sha256[32] = { 1, 2, 3 };
	uint64_t n = 0;

	ledger_close(ledger);
	ledger = NULL;
	(void)unlink(path_in(dir, LEDGER_FILE));
	run_sql(ledger_migrations[0].sql);
	run_sql(ledger_migrations[1].sql);
	run_sql("PRAGMA user_version=2; PRAGMA application_id=0x574f524d; INSERT INTO meta VALUES('share_id', 'share-1')");
	check_answer("PRAGMA user_version", "2");
	/* By the words of then: what writes now knows columns that were not there. */
	for (unsigned i = 0; i < 50; i++)
		run_old_row(i);
	open_ledger();
	check_answer("PRAGMA user_version", STR(LEDGER_SCHEMA_VERSION));
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	CHECK_INT("has every row", n, 50);
	CHECK_INT("with its hold", find(7).row.holds, 1);
	CHECK_INT("all without a digest", (ledger_undigested_count(ledger, &n), n), 50);
	CHECK_INT("which is taken now", ledger_digest_set(ledger, &key, 10, 5, sha256), 0);
	CHECK_INT("and counted", (ledger_undigested_count(ledger, &n), n), 49);
	CHECK_INT("and it is sound", ledger_check(ledger), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_upgrade_from_version_2),
		TEST(test_upgrade_keeps_every_lock),
	};

	return cmocka_run_group_tests_name("ledger_upgrade", tests, NULL, NULL);
}
