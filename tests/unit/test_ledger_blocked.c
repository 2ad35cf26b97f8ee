/* A ledger that cannot take a change: no room is left, its transaction is lost, another process holds it. */
#include "tests/unit/unit_ledger.h"

#include <pthread.h>

static void limit_pages(int pages)
{
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%d", pages);
	pthread_mutex_lock(&ledger->writer.lock);
	assert_int_equal(sqlite3_exec(ledger->writer.db, sql, NULL, NULL, NULL), SQLITE_OK);
	pthread_mutex_unlock(&ledger->writer.lock);
}

static int put_until_error(unsigned *n)
{
	static char path[4000];
	struct ledger_row row;
	int r;

	memset(path, 'p', sizeof(path) - 1);
	for (;;) {
		row = row_of(100000 + *n, path);
		r = ledger_put(ledger, &row);
		if (r < 0)
			return r;
		++*n;
	}
}

static void test_full(void **state)
{
	unsigned n = 0, in_batch = 0;
	uint64_t count = 0;
	struct ledger_row row = row_of(1, "more");

	open_ledger();
	put(1, "a");
	limit_pages(60);
	CHECK_INT("a full disk", put_until_error(&n), -ENOSPC);
	CHECK("after some rows", n > 1);
	CHECK("says so", strstr(ledger_error(ledger), "full"));
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &count), 0);
	CHECK_INT("what was promised is there, no half of the last", count, n + 1);

	limit_pages(100);
	CHECK_INT("with room", ledger_begin(ledger), 0);
	CHECK_INT("a batch fills the disk", put_until_error(&in_batch), -ENOSPC);
	CHECK("in the middle", in_batch > 1);
	if (sqlite3_get_autocommit(ledger->writer.db)) {
		/* SQLite ended the transaction: a further change must not stand alone. */
		limit_pages(1000);
		CHECK_INT("the batch is over", ledger_put(ledger, &row), -EIO);
		CHECK_INT("cannot be committed", ledger_commit(ledger), -EIO);
	} else {
		ledger_rollback(ledger);
	}
	limit_pages(1000);
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &count), 0);
	CHECK_INT("nothing of it is there", count, n + 1);
	CHECK_INT("with room it goes on", ledger_put(ledger, &row), 0);
	CHECK_INT("sound", ledger_check(ledger), 0);
}

/* SQLite ends a transaction by itself on some errors; here it is done for it. */
static void test_transaction_lost(void **state)
{
	struct ledger_row row = row_of(3, "c");
	struct file_key key = key_of(1);
	uint64_t n = 99;

	open_ledger();
	CHECK_INT("begin", ledger_begin(ledger), 0);
	put(1, "a");
	assert_int_equal(sqlite3_exec(ledger->writer.db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	CHECK_INT("no change stands alone", ledger_put(ledger, &row), -EIO);
	CHECK_INT("of no kind", ledger_remove(ledger, &key), -EIO);
	CHECK_INT("and none is committed", ledger_commit(ledger), -EIO);
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	CHECK_INT("none", n, 0);
	CHECK_INT("the next transaction is a new one", ledger_begin(ledger), 0);
	put(1, "a");
	CHECK_INT("good", ledger_commit(ledger), 0);
	CHECK_INT("so", find(1).calls, 1);
}

static void test_real_full_disk(void **state)
{
	char *mnt, *outer = dir;
	struct ledger *none = NULL;
	uint64_t count = 0;
	unsigned n = 0;
	int fd;

	if (!may_mount())
		return;
	mnt = strdup(path_in(dir, "small"));
	assert_int_equal(mkdir(mnt, 0700), 0);
	assert_int_equal(mount("tmpfs", mnt, "tmpfs", 0, "size=1m"), 0);
	dir = mnt;
	fd = open(path_in(mnt, "fill"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(posix_fallocate(fd, 0, 1000 * 1024), 0);
	CHECK_INT("no room to make one", ledger_open(mnt, LEDGER_CREATE, NULL, &none), -ENOSPC);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(unlink(path_in(mnt, "fill")), 0);
	CHECK_INT("nothing is left of it", fingerprint(), 0);
	open_ledger();
	CHECK_INT("a full disk", put_until_error(&n), -ENOSPC);
	CHECK("after some rows", n > 10);
	CHECK_INT("what is there can be read", ledger_count(ledger, &(struct ledger_filter){ 0 }, &count), 0);
	CHECK_INT("all that was promised", count, n);
	assert_int_equal(mount(NULL, mnt, NULL, MS_REMOUNT, "size=8m"), 0);
	put(1, "with room it goes on");
	ledger_close(ledger);
	open_ledger();
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &count), 0);
	CHECK_INT("all, after a restart", count, n + 1);
	CHECK_INT("sound", ledger_check(ledger), 0);
	ledger_close(ledger);
	ledger = NULL;
	close(fd);
	assert_int_equal(umount(mnt), 0);
	free(mnt);
	dir = outer;
}

static void test_busy(void **state)
{
	struct file_key key = key_of(1);
	sqlite3 *db;

	open_ledger();
	put(1, "a");
	sqlite3_busy_timeout(ledger->writer.db, 10);	/* the ten seconds are SQLite's to keep */
	assert_int_equal(sqlite3_open(path_in(dir, LEDGER_FILE), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	CHECK_INT("another process holds it", ledger_extend(ledger, &key, 3000), -EBUSY);
	CHECK_INT("no batch either", ledger_begin(ledger), -EBUSY);
	CHECK_INT("but it can be read", find(1).row.rec.until_s, 2000);
	sqlite3_close(db);
	CHECK_INT("then it goes on", ledger_extend(ledger, &key, 3000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_full),
		TEST(test_transaction_lost),
		TEST(test_real_full_disk),
		TEST(test_busy),
	};

	return cmocka_run_group_tests_name("ledger_blocked", tests, NULL, NULL);
}
