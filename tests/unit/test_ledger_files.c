/* The files of the ledger: made, opened, refused, damaged, upgraded, full, and after a kill. */
#include "tests/unit/unit_ledger.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define STR_(x) #x
#define STR(x) STR_(x)

/* A process takes numbers and says which, until it is killed. */
static void test_serials_after_kill(void **state)
{
	uint64_t last = 0, said;

	for (int i = 0; i < 12; i++) {
		struct timespec pause = { .tv_nsec = (i * 7919 % 30) * 1000000L };
		int fds[2], status;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (pid == 0) {
			struct ledger *mine;
			uint64_t first, end;

			if (ledger_open(dir, LEDGER_CREATE, NULL, &mine) < 0)
				_exit(1);
			for (;;) {
				if (ledger_reserve_serials(mine, 3, &first) < 0)
					_exit(1);
				end = first;
				if (write(fds[1], &end, sizeof(end)) != sizeof(end))
					_exit(1);
			}
		}
		close(fds[1]);
		assert_int_equal(read(fds[0], &said, sizeof(said)), sizeof(said));
		CHECK("after a kill no number comes again", said > last);
		nanosleep(&pause, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		do {
			CHECK("nor before", said > last);
			last = said + 2;
		} while (read(fds[0], &said, sizeof(said)) == sizeof(said));
		assert_true(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		close(fds[0]);
	}
}

/* What a killed process had committed is there, its half batch is not. */
static void test_kill_keeps_commits(void **state)
{
	int fds[2], status;
	pid_t pid;
	uint64_t n = 0;
	char c;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		open_ledger();
		put(1, "committed");
		if (ledger_begin(ledger) == 0)
			for (unsigned i = 2; i < 3000; i++)
				put(i, "half");
		(void)!write(fds[1], "", 1);
		pause();
	}
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_true(waitpid(pid, &status, 0) == pid);
	open_ledger();
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	CHECK_INT("the commit, nothing else", n, 1);
	CHECK_INT("sound", ledger_check(ledger), 0);
	close(fds[0]);
	close(fds[1]);
}

static void test_open_errors(void **state)
{
	struct ledger *untouched = (void *)&ledger;
	struct stat st;

	CHECK_INT("no ledger", ledger_open(dir, 0, NULL, &untouched), -ENOENT);
	CHECK("says why", strstr(ledger_error(NULL), "No such file"));
	CHECK_INT("also to read", ledger_open(dir, LEDGER_READONLY, NULL, &untouched), -ENOENT);
	CHECK_INT("reading makes none", ledger_open(dir, LEDGER_READONLY | LEDGER_CREATE, NULL, &untouched), -ENOENT);
	CHECK_INT("no directory", ledger_open(path_in(dir, "none"), LEDGER_CREATE, NULL, &untouched), -ENOENT);
	CHECK_INT("a file in its place", ledger_open("/dev/null", LEDGER_CREATE, NULL, &untouched), -ENOTDIR);
	CHECK_INT("nothing was made", rmdir(dir), 0);
	assert_int_equal(mkdir(dir, 0700), 0);

	open_ledger();
	CHECK("the ledger is private", stat(path_in(dir, LEDGER_FILE), &st) == 0 && (st.st_mode & 077) == 0);
	CHECK("its log, too", stat(path_in(dir, LEDGER_FILE "-wal"), &st) == 0 && (st.st_mode & 077) == 0);
	CHECK_INT("under one name", (stat(path_in(dir, LEDGER_FILE), &st), st.st_nlink), 1);
	CHECK_INT("of another share", ledger_open(dir, 0, "share-2", &untouched), -EXDEV);
	CHECK("says which", strstr(ledger_error(NULL), "share-1") && strstr(ledger_error(NULL), "share-2"));
	CHECK_INT("also to read", ledger_open(dir, LEDGER_READONLY, "share-2", &untouched), -EXDEV);
	CHECK("failures leave the output alone", untouched == (void *)&ledger);
	ledger_close(ledger);
	CHECK_INT("any share", ledger_open(dir, 0, NULL, &ledger), 0);
	ledger_close(ledger);
	CHECK_INT("unlinked", unlink(path_in(dir, LEDGER_FILE)), 0);
	CHECK_INT("made for none", ledger_open(dir, LEDGER_CREATE, NULL, &ledger), 0);
	CHECK_INT("it is nobody's", ledger_open(dir, 0, "share-1", &untouched), -EXDEV);
}

/* In a process without privileges, where modes count. Returns its exit status. */
static int as_nobody(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(99);
		_exit(fn());
	}
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int open_create(void)
{
	struct ledger *mine;

	return -ledger_open(dir, LEDGER_CREATE, NULL, &mine);
}

static int open_read(void)
{
	struct ledger *mine;
	uint64_t n = 0;
	int r = ledger_open(dir, LEDGER_READONLY, NULL, &mine);

	if (r < 0)
		return -r;
	r = ledger_each(mine, &(struct ledger_filter){ 0 }, count_row, &n);
	if (r == 0)
		r = ledger_put(mine, &(struct ledger_row){ .key = key_of(7), .path = "x" });
	ledger_close(mine);
	return r != -EROFS ? 98 : n == 1 ? 0 : 97;
}

static void test_unprivileged(void **state)
{
	if (geteuid() != 0) {
		print_message("SKIPPED, not root: modes of other owners\n");
		return;
	}
	assert_int_equal(chmod(dir, 0755), 0);
	CHECK_INT("a directory that is not ours to write", as_nobody(open_create), EACCES);
	CHECK_INT("nothing was made", rmdir(dir), 0);
	assert_int_equal(mkdir(dir, 0755), 0);
	open_ledger();
	put(1, "a");
	CHECK_INT("a ledger that is not ours to read", as_nobody(open_read), EACCES);
	assert_int_equal(chmod(path_in(dir, LEDGER_FILE), 0644), 0);
	assert_int_equal(chmod(path_in(dir, LEDGER_FILE "-wal"), 0644), 0);
	assert_int_equal(chmod(path_in(dir, LEDGER_FILE "-shm"), 0644), 0);
	CHECK_INT("one that is not ours to write", as_nobody(open_create), EACCES);
	CHECK_INT("beside a daemon it can be read", as_nobody(open_read), 0);
	ledger_close(ledger);
	ledger = NULL;
	CHECK_INT("and without one", as_nobody(open_read), 0);
}

static void test_read_only_filesystem(void **state)
{
	struct ledger *untouched = NULL;

	if (!may_mount())
		return;
	open_ledger();
	put(1, "a");
	ledger_close(ledger);
	ledger = NULL;
	assert_int_equal(mount(dir, dir, NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	CHECK_INT("a ledger cannot be written there", ledger_open(dir, LEDGER_CREATE, NULL, &untouched), -EROFS);
	CHECK_INT("but read", open_read(), 0);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	CHECK_INT("nor made", (unlink(path_in(dir, LEDGER_FILE)), mount(dir, dir, NULL, MS_BIND, NULL)), 0);
	assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	CHECK_INT("there", ledger_open(dir, LEDGER_CREATE, NULL, &untouched), -EROFS);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
}

static int open_other_and_change(void)
{
	struct ledger *mine;
	struct file_key key = key_of(1);
	uint64_t first;
	int r;

	r = ledger_open(dir, 0, "share-1", &mine);
	if (r == 0)
		r = ledger_hold_add(mine, &key, "from outside", 0, 0);
	if (r == 0)
		r = ledger_reserve_serials(mine, 10, &first);
	ledger_close(mine);
	return -r;
}

static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_other_process(void **state)
{
	uint64_t first;

	open_ledger();
	put(1, "a");
	CHECK_INT("another process reads beside us", in_child(open_read), 0);
	CHECK_INT("and another may write", in_child(open_other_and_change), 0);
	CHECK_INT("which is seen", find(1).row.holds, 1);
	CHECK_INT("serials go on after its own", (ledger_reserve_serials(ledger, 1, &first), first), 12);
	put(2, "b");
	CHECK_INT("and we go on", find(2).row.holds, 0);
}

/* All names and bytes in the directory, to see whether any changed. But SQLite may leave its shared
 * memory and an empty log behind. */
static uint64_t fingerprint(void)
{
	uint64_t sum = 0;
	struct dirent *de;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while ((de = readdir(d))) {
		uint64_t h = 1469598103934665603u;
		int c, fd;
		FILE *f;

		if (de->d_name[0] == '.' || strcmp(de->d_name, LEDGER_FILE "-shm") == 0)
			continue;
		fd = openat(dirfd(d), de->d_name, O_RDONLY | O_CLOEXEC);
		if (strcmp(de->d_name, LEDGER_FILE "-wal") == 0 && lseek(fd, 0, SEEK_END) == 0) {
			close(fd);
			continue;
		}
		(void)lseek(fd, 0, SEEK_SET);
		f = fdopen(fd, "r");
		assert_non_null(f);
		for (char *p = de->d_name; *p; p++)
			h = (h ^ (uint8_t)*p) * 1099511628211u;
		while ((c = getc(f)) != EOF)
			h = (h ^ (uint8_t)c) * 1099511628211u;
		fclose(f);
		sum += h;
	}
	closedir(d);
	return sum;
}

static void run_sql(const char *sql)
{
	char *message = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path_in(dir, LEDGER_FILE), &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	sqlite3_close(db);
}

static void check_refused(const char *promise, int want)
{
	struct ledger *untouched = (void *)&ledger;
	uint64_t before = fingerprint();

	for (int flags = 0; flags <= LEDGER_READONLY; flags++) {
		CHECK_INT(promise, ledger_open(dir, flags, "share-1", &untouched), want);
		CHECK("the reason is one line of text", strlen(ledger_error(NULL)) > 10 && !strchr(ledger_error(NULL), '\n'));
		CHECK("nothing on disk is touched", fingerprint() == before);
	}
	CHECK("the output stays", untouched == (void *)&ledger);
}

static void make_and_close(void)
{
	char path[32];

	open_ledger();
	CHECK_INT("begin", ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(path, sizeof(path), "file-%u", i);
		put(i, path);
	}
	CHECK_INT("commit", ledger_commit(ledger), 0);
	ledger_close(ledger);
	ledger = NULL;
	CHECK("the log is carried over", access(path_in(dir, LEDGER_FILE "-wal"), F_OK) < 0);
	CHECK("and no other file is left", access(path_in(dir, LEDGER_FILE "-shm"), F_OK) < 0);
}

static void test_not_a_ledger(void **state)
{
	static char bytes[8192];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7919 >> 3);
	write_file(path_in(dir, LEDGER_FILE), bytes, sizeof(bytes));
	check_refused("garbage", -EBADMSG);
	write_file(path_in(dir, LEDGER_FILE), bytes, 0);
	check_refused("an empty file: a ledger was there", -EBADMSG);
	write_file(path_in(dir, LEDGER_FILE), bytes, 50);
	check_refused("a short one", -EBADMSG);
	(void)unlink(path_in(dir, LEDGER_FILE));
	run_sql("CREATE TABLE photos(x)");
	check_refused("another program's database", -EBADMSG);
	run_sql("PRAGMA user_version=" STR(LEDGER_SCHEMA_VERSION));
	check_refused("of the same version", -EBADMSG);
	run_sql("PRAGMA application_id=0x574f524d");
	check_refused("with our mark, but not our tables", -EBADMSG);
	(void)unlink(path_in(dir, LEDGER_FILE));
	assert_int_equal(mkdir(path_in(dir, LEDGER_FILE), 0700), 0);
	CHECK("a directory", ledger_open(dir, LEDGER_CREATE, NULL, &ledger) < 0);
	assert_int_equal(rmdir(path_in(dir, LEDGER_FILE)), 0);
}

static void test_newer_schema(void **state)
{
	make_and_close();
	run_sql("PRAGMA user_version=9999; CREATE TABLE novelty(x)");
	check_refused("a newer schema", -EBADMSG);
	CHECK("says which", strstr(ledger_error(NULL), "schema 9999"));
	run_sql("DROP TABLE novelty; PRAGMA user_version=" STR(LEDGER_SCHEMA_VERSION));
	open_ledger();
	CHECK_INT("its rows are all there", find(1999).row.rec.until_s, 2000);
	CHECK_INT("and sound", ledger_check(ledger), 0);
}

static void test_missing_table(void **state)
{
	static const char *const tables[] = { "meta", "counter", "file", "hold", "pending" };
	char sql[64];

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		make_and_close();
		snprintf(sql, sizeof(sql), "DROP TABLE %s", tables[i]);
		run_sql(sql);
		CHECK_INT(sql, ledger_open(dir, 0, NULL, &ledger), -EBADMSG);
		assert_int_equal(unlink(path_in(dir, LEDGER_FILE)), 0);
	}
}

static void test_damaged(void **state)
{
	struct stat st;
	char junk[512];
	uint64_t n = 0;
	int fd, r;

	make_and_close();
	assert_int_equal(stat(path_in(dir, LEDGER_FILE), &st), 0);
	assert_int_equal(truncate(path_in(dir, LEDGER_FILE), st.st_size / 2), 0);
	check_refused("cut in half", -EIO);
	assert_int_equal(truncate(path_in(dir, LEDGER_FILE), 4096), 0);
	check_refused("cut to a page", -EIO);
	assert_int_equal(unlink(path_in(dir, LEDGER_FILE)), 0);

	make_and_close();
	memset(junk, 0x5a, sizeof(junk));
	fd = open(path_in(dir, LEDGER_FILE), O_RDWR | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 20 * 4096; at < st.st_size; at += 4096)
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	close(fd);
	CHECK_INT("damaged in the middle it opens", ledger_open(dir, 0, NULL, &ledger), 0);
	CHECK_INT("a check finds it", ledger_check(ledger), -EIO);
	CHECK("says where", strlen(ledger_error(ledger)) > 10);
	r = ledger_each(ledger, &(struct ledger_filter){ 0 }, count_row, &n);
	CHECK_INT("a listing does not hide it", r, -EIO);
}

/* The log of a ledger that was deleted must not come back to life in the new one. */
static void test_stale_log(void **state)
{
	uint64_t n = 99;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		open_ledger();
		for (unsigned i = 0; i < 100; i++)
			put(i, "old");
		_exit(0);	/* leaves its log behind */
	}
	assert_true(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK("there is a log", access(path_in(dir, LEDGER_FILE "-wal"), F_OK) == 0);
	assert_int_equal(unlink(path_in(dir, LEDGER_FILE)), 0);
	open_ledger();
	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	CHECK_INT("a new ledger is empty", n, 0);
	CHECK_INT("and sound", ledger_check(ledger), 0);
}

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

static void test_read_only_handle(void **state)
{
	struct ledger *reader = NULL;
	struct file_key key = key_of(1);
	struct ledger_row row = row_of(2, "b");
	uint64_t first;

	open_ledger();
	put(1, "a");
	CHECK_INT("a second handle, to read", ledger_open(dir, LEDGER_READONLY, "share-1", &reader), 0);
	CHECK_INT("reads", ledger_find(reader, &key, NULL, NULL), 0);
	CHECK_INT("put", ledger_put(reader, &row), -EROFS);
	CHECK_INT("begin", ledger_begin(reader), -EROFS);
	CHECK_INT("extend", ledger_extend(reader, &key, 9999), -EROFS);
	CHECK_INT("hold", ledger_hold_add(reader, &key, "x", 0, 0), -EROFS);
	CHECK_INT("meta", ledger_meta_set(reader, "x", "y"), -EROFS);
	CHECK_INT("serials", ledger_reserve_serials(reader, 1, &first), -EROFS);
	put(2, "b");
	CHECK_INT("it sees what the other commits", ledger_find(reader, &row.key, NULL, NULL), 0);
	CHECK_INT("and checks", ledger_check(reader), 0);
	ledger_close(reader);
	put(3, "c");
	CHECK_INT("closing it costs the other nothing", find(3).calls, 1);
	ledger_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_serials_after_kill),
		TEST(test_kill_keeps_commits),
		TEST(test_open_errors),
		TEST(test_unprivileged),
		TEST(test_read_only_filesystem),
		TEST(test_other_process),
		TEST(test_not_a_ledger),
		TEST(test_newer_schema),
		TEST(test_missing_table),
		TEST(test_damaged),
		TEST(test_stale_log),
		TEST(test_upgrade_from_version_2),
		TEST(test_upgrade_keeps_every_lock),
		TEST(test_full),
		TEST(test_transaction_lost),
		TEST(test_real_full_disk),
		TEST(test_busy),
		TEST(test_read_only_handle),
	};

	return cmocka_run_group_tests_name("ledger_files", tests, NULL, NULL);
}
