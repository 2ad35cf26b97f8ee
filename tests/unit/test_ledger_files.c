/* The files of the ledger: made, opened, refused, damaged, read only, and after a kill. */
#include "tests/unit/unit_ledger.h"

#include <signal.h>
#include <time.h>

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
		TEST(test_read_only_handle),
	};

	return cmocka_run_group_tests_name("ledger_files", tests, NULL, NULL);
}
