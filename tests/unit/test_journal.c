/* The journal of open writers: what is in it after a kill. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/statfs.h>
#include <time.h>

#include "lockstore/journal.h"

static char *dir;

static int set_up(void **state)
{
	dir = temp_dir_make();
	return 0;
}

static int tear_down(void **state)
{
	temp_dir_remove(dir);
	return 0;
}

static struct file_key key_of(uint64_t n)
{
	struct file_key key = { .len = 12 };

	memcpy(key.bytes, &n, sizeof(n));
	return key;
}

static struct journal *open_journal(void)
{
	struct journal *journal = NULL;

	CHECK_INT("a journal opens", journal_open(dir, &journal), 0);
	return journal;
}

struct seen {
	unsigned n, writing, locked;
	struct file_key key;
	char path[1024];
	struct lock_record rec;
	bool has_rec;
	struct journal *free_in;
};

static int see(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key, const char *path,
	       const struct lock_record *rec)
{
	struct seen *seen = arg;

	seen->n++;
	seen->writing += state == JOURNAL_WRITING;
	seen->locked += state == JOURNAL_LOCKED;
	seen->key = *key;
	snprintf(seen->path, sizeof(seen->path), "%s", path);
	seen->has_rec = rec != NULL;
	if (rec)
		seen->rec = *rec;
	CHECK("a record when and only when it is locked", (state == JOURNAL_LOCKED) == (rec != NULL));
	if (seen->free_in)
		journal_free(seen->free_in, slot);
	return 0;
}

static struct seen look(struct journal *journal)
{
	struct seen seen = { 0 };

	CHECK_INT("what is there is shown", journal_each(journal, see, &seen), 0);
	return seen;
}

static const struct lock_record sample = {
	.flags = RECORD_APPEND, .mode = WORM_COMPLIANCE, .holds = 7, .rule = 9, .committed_s = 1893456000,
	.until_s = INT64_MIN, .serial = UINT64_MAX, .size_bytes = 4711, .mtime_ns = -5,
};

static void test_add_lock_free(void **state)
{
	struct journal *journal = open_journal();
	struct file_key key = key_of(42);
	journal_slot slot = JOURNAL_NO_SLOT, other;
	struct seen seen;

	CHECK_INT("a new journal is empty", look(journal).n, 0);
	CHECK_INT("a writer is noted", journal_add(journal, &key, "a/b.txt", &slot), 0);
	CHECK("slot 0 is the header", slot != 0 && slot != JOURNAL_NO_SLOT);
	seen = look(journal);
	CHECK_INT("one", seen.writing, 1);
	CHECK("by its key", file_key_equal(&seen.key, &key));
	CHECK_STR("and path", seen.path, "a/b.txt");
	journal_mark_locked(journal, slot, &sample, NULL);
	seen = look(journal);
	CHECK_INT("then it is locked", seen.locked, 1);
	CHECK_STR("no path keeps the path", seen.path, "a/b.txt");
	CHECK("with the whole record", seen.rec.flags == sample.flags && seen.rec.mode == sample.mode &&
	      seen.rec.holds == sample.holds && seen.rec.rule == sample.rule &&
	      seen.rec.committed_s == sample.committed_s && seen.rec.until_s == sample.until_s &&
	      seen.rec.serial == sample.serial && seen.rec.size_bytes == sample.size_bytes &&
	      seen.rec.mtime_ns == sample.mtime_ns);
	journal_mark_locked(journal, slot, &sample, "c");
	CHECK_STR("a new path replaces it", look(journal).path, "c");
	journal_free(journal, slot);
	journal_free(journal, JOURNAL_NO_SLOT);
	CHECK_INT("a freed slot is not shown", look(journal).n, 0);
	CHECK_INT("and is used again", journal_add(journal, &key, "d", &other), 0);
	CHECK_INT("the same one", other, slot);
	CHECK_INT("as a writer", look(journal).writing, 1);
	journal_free(journal, other);
	journal_close(journal);
	journal_close(NULL);
}

static void test_paths_and_keys(void **state)
{
	static const struct { const char *promise; size_t len; bool kept; } cases[] = {
		{ "empty", 0, true }, { "one byte", 1, true }, { "the longest that fits", 816, true },
		{ "one too long is kept as none", 817, false }, { "a very long one, too", 4000, false },
	};
	struct journal *journal = open_journal();
	struct file_key longest = { .len = FILE_KEY_MAX_BYTES }, none = { .len = 0 };
	char path[4096];
	journal_slot slot;
	struct seen seen;

	memset(longest.bytes, 0xff, sizeof(longest.bytes));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(path, '\xfe', sizeof(path));	/* no UTF-8 */
		path[cases[i].len] = '\0';
		CHECK_INT(cases[i].promise, journal_add(journal, &longest, path, &slot), 0);
		CHECK_STR(cases[i].promise, look(journal).path, cases[i].kept ? path : "");
		seen = look(journal);
		CHECK("the longest key", file_key_equal(&seen.key, &longest));
		journal_mark_locked(journal, slot, &sample, "x\ny");
		CHECK_STR("a name with a newline", look(journal).path, "x\ny");
		journal_free(journal, slot);
	}
	CHECK_INT("no key", journal_add(journal, &none, "x", &slot), 0);
	CHECK_INT("is none", look(journal).key.len, 0);
	journal_free(journal, slot);
	journal_close(journal);
}

static void test_survives_close_and_grows(void **state)
{
	enum { N = 1000 };	/* four chunks */
	struct journal *journal = open_journal();
	journal_slot slots[N];
	char path[32];
	struct seen seen = { 0 };

	for (unsigned i = 0; i < N; i++) {
		struct file_key key = key_of(i);

		snprintf(path, sizeof(path), "file-%u", i);
		CHECK_INT("added", journal_add(journal, &key, path, &slots[i]), 0);
		for (unsigned j = 0; j < i; j++)
			if (slots[j] == slots[i])
				fail_msg("slot %u was given twice", slots[i]);
	}
	for (unsigned i = 0; i < N; i += 2)
		journal_mark_locked(journal, slots[i], &sample, NULL);
	journal_close(journal);
	/* A kill while the file grew. */
	assert_int_equal(truncate(path_in(dir, JOURNAL_FILE), 4 * 256 * 1024 + 5000), 0);

	journal = open_journal();
	seen = look(journal);
	CHECK_INT("all are there after a restart", seen.n, N);
	CHECK_INT("locked ones", seen.locked, N / 2);
	CHECK_INT("and writers", seen.writing, N / 2);
	seen = (struct seen){ .free_in = journal };
	CHECK_INT("what is shown may be freed", journal_each(journal, see, &seen), 0);
	CHECK_INT("all of it", look(journal).n, 0);
	for (unsigned i = 0; i < N + 100; i++) {	/* past the part of a chunk */
		struct file_key key = key_of(i);
		journal_slot slot;

		CHECK_INT("used again", journal_add(journal, &key, "again", &slot), 0);
	}
	CHECK_INT("all of it, and more", look(journal).n, N + 100);
	seen = (struct seen){ .free_in = journal };
	journal_each(journal, see, &seen);
	journal_close(journal);
}

static int stop_at_two(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
		       const char *path, const struct lock_record *rec)
{
	return ++*(int *)arg == 2 ? -ECANCELED : 0;
}

static void test_each_can_be_stopped(void **state)
{
	struct journal *journal = open_journal();
	struct file_key key = key_of(1);
	struct seen seen = { .free_in = journal };
	journal_slot slot;
	int n = 0;

	for (int i = 0; i < 3; i++)
		CHECK_INT("added", journal_add(journal, &key, "x", &slot), 0);
	CHECK_INT("the callback's answer comes back", journal_each(journal, stop_at_two, &n), -ECANCELED);
	CHECK_INT("at once", n, 2);
	journal_each(journal, see, &seen);
	journal_close(journal);
}

static void test_what_is_no_journal(void **state)
{
	static const struct { const char *promise; size_t at; uint8_t byte; } cases[] = {
		{ "another magic",              0, 'W' },
		{ "a newer version",            16, 2 },
		{ "another slot size",          21, 8 },
		{ "another chunk size",         24, 1 },
		{ "an unknown state",           1024, 3 },
		{ "a key longer than any",      1024 + 1, 200 },
		{ "a path longer than a slot",  1024 + 3, 0x40 },
		{ "a NUL in a path",            1024 + 200, 0 },
	};
	static char zeros[300000];
	struct journal *journal, *untouched = (void *)&journal;
	struct file_key key = key_of(1);
	char path[400];
	journal_slot slot;
	uint8_t old;
	int fd;

	(void)unlink(path_in(dir, JOURNAL_FILE));
	journal = open_journal();
	memset(path, 'p', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	CHECK_INT("added", journal_add(journal, &key, path, &slot), 0);
	CHECK_INT("in the first slot", slot, 1);
	journal_close(journal);
	fd = open(path_in(dir, JOURNAL_FILE), O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(pread(fd, &old, 1, (off_t)cases[i].at), 1);
		CHECK("the case changes something", old != cases[i].byte);
		assert_int_equal(pwrite(fd, &cases[i].byte, 1, (off_t)cases[i].at), 1);
		CHECK_INT(cases[i].promise, journal_open(dir, &untouched), -EBADMSG);
		assert_int_equal(pwrite(fd, &old, 1, (off_t)cases[i].at), 1);
	}
	close(fd);
	journal = open_journal();
	CHECK_INT("put right, it opens", look(journal).n, 1);
	CHECK_INT("a second daemon", journal_open(dir, &untouched), -EBUSY);
	journal_close(journal);
	assert_int_equal(unlink(path_in(dir, JOURNAL_FILE)), 0);
	write_file(path_in(dir, JOURNAL_FILE), "", 0);
	CHECK_INT("an empty file", journal_open(dir, &untouched), -EBADMSG);
	write_file(path_in(dir, JOURNAL_FILE), zeros, sizeof(zeros));
	CHECK_INT("zeros", journal_open(dir, &untouched), -EBADMSG);
	assert_int_equal(unlink(path_in(dir, JOURNAL_FILE)), 0);
	assert_int_equal(mkdir(path_in(dir, JOURNAL_FILE), 0700), 0);
	CHECK("a directory", journal_open(dir, &untouched) < 0);
	assert_int_equal(rmdir(path_in(dir, JOURNAL_FILE)), 0);
	CHECK_INT("no state directory", journal_open(path_in(dir, "none"), &untouched), -ENOENT);
	CHECK_INT("a file in its place", journal_open("/dev/null", &untouched), -ENOTDIR);
	CHECK("failures leave the output alone", untouched == (void *)&journal);
}

/* Writes slots with paths of one letter only, as fast as it can, until it is killed. */
static void write_until_killed(int ready)
{
	static char paths[26][801];
	struct lock_record rec = sample;
	journal_slot slots[64];
	struct journal *journal;

	for (int i = 0; i < 26; i++)
		memset(paths[i], 'a' + i, 600 + (size_t)i * 8);
	if (journal_open(dir, &journal) < 0)
		_exit(1);
	for (uint64_t n = 0;; n++) {
		struct file_key key = key_of(n);
		journal_slot *slot = &slots[n % ARRAY_SIZE(slots)];

		if (n >= ARRAY_SIZE(slots))
			journal_free(journal, *slot);
		memset(key.bytes, (int)n, key.len);
		if (journal_add(journal, &key, paths[n % 26], slot) < 0)
			_exit(1);
		memset(&rec, (int)n, sizeof(rec));
		journal_mark_locked(journal, *slot, &rec, paths[n * 7 % 26]);
		memset(&rec, (int)n + 1, sizeof(rec));
		journal_mark_locked(journal, *slot, &rec, paths[n * 11 % 26]);	/* its last writer wrote more */
		if (n == 1000 && write(ready, "", 1) != 1)
			_exit(1);
	}
}

static int check_whole(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
		       const char *path, const struct lock_record *rec)
{
	size_t len = strlen(path);

	++*(unsigned *)arg;
	for (unsigned i = 0; i < key->len; i++)
		CHECK("a key of one note", key->bytes[i] == key->bytes[0]);
	for (size_t i = 0; i < len; i++)
		CHECK("a path of one note", path[i] == path[0]);
	CHECK("a path has its whole length", len == 0 || len == 600 + (size_t)(path[0] - 'a') * 8);
	if (rec)
		CHECK("a record of one note", (uint8_t)rec->serial == (uint8_t)(rec->serial >> 56) &&
		      (uint8_t)rec->mtime_ns == (uint8_t)(rec->serial) && rec->flags == (uint8_t)rec->serial);
	return 0;
}

static void test_kill(void **state)
{
	unsigned total = 0;

	for (int i = 0; i < 60; i++) {
		struct timespec pause = { .tv_nsec = 1000 * (long)(i * 37 % 1000) };
		struct journal *journal;
		unsigned n = 0;
		int fds[2], status;
		pid_t pid;
		char c;

		assert_int_equal(pipe(fds), 0);
		(void)unlink(path_in(dir, JOURNAL_FILE));
		pid = fork();
		if (pid == 0)
			write_until_killed(fds[1]);
		close(fds[1]);
		CHECK_INT("it writes", read(fds[0], &c, 1), 1);
		close(fds[0]);
		nanosleep(&pause, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_true(waitpid(pid, &status, 0) == pid);
		CHECK_INT("until it is killed", WTERMSIG(status), SIGKILL);
		journal = open_journal();
		CHECK_INT("every slot is whole", journal_each(journal, check_whole, &n), 0);
		CHECK("and nothing is lost but the one in the making", n == 63 || n == 64);
		journal_close(journal);
		total += n;
	}
	CHECK("there was something to see", total > 60 * 60);
	assert_int_equal(unlink(path_in(dir, JOURNAL_FILE)), 0);
}

static void mark_until_killed(int ready)
{
	struct file_key key = key_of(1);
	struct lock_record rec = sample;
	struct journal *journal;
	journal_slot slot;

	memset(key.bytes, 1, key.len);
	if (journal_open(dir, &journal) < 0 || journal_add(journal, &key, "", &slot) < 0)
		_exit(1);
	for (unsigned n = 0;; n++) {
		memset(&rec, (int)n, sizeof(rec));
		journal_mark_locked(journal, slot, &rec, NULL);
		if (n == 1000 && write(ready, "", 1) != 1)
			_exit(1);
	}
}

/* The numbers in a record belong together, also when they replace others. */
static void test_kill_while_marking(void **state)
{
	for (int i = 0; i < 100; i++) {
		struct timespec pause = { .tv_nsec = 1000 * (long)(i * 37 % 100) };
		struct journal *journal;
		unsigned n = 0;
		int fds[2], status;
		pid_t pid;
		char c;

		assert_int_equal(pipe(fds), 0);
		(void)unlink(path_in(dir, JOURNAL_FILE));
		pid = fork();
		if (pid == 0)
			mark_until_killed(fds[1]);
		close(fds[1]);
		CHECK_INT("it writes", read(fds[0], &c, 1), 1);
		close(fds[0]);
		nanosleep(&pause, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_true(waitpid(pid, &status, 0) == pid);
		journal = open_journal();
		CHECK_INT("every slot is whole", journal_each(journal, check_whole, &n), 0);
		CHECK_INT("and there", n, 1);
		journal_close(journal);
	}
	assert_int_equal(unlink(path_in(dir, JOURNAL_FILE)), 0);
}

static void test_full(void **state)
{
	struct journal *journal = open_journal();
	struct file_key key = key_of(1);
	struct seen seen = { .free_in = journal };
	journal_slot slot = JOURNAL_NO_SLOT;
	unsigned n = 0;
	int r;

	while ((r = journal_add(journal, &key, "x", &slot)) == 0)
		n++;
	CHECK_INT("there is an end", r, -ENOSPC);
	CHECK_INT("at the named bound", n, JOURNAL_MAX_SLOTS - 1);
	journal_free(journal, slot);
	CHECK_INT("a freed slot can be used", journal_add(journal, &key, "y", &slot), 0);
	CHECK_INT("one", journal_add(journal, &key, "z", &slot), -ENOSPC);
	journal_each(journal, see, &seen);
	journal_close(journal);
	assert_int_equal(unlink(path_in(dir, JOURNAL_FILE)), 0);
}

/* A disk without room is an error, never a SIGBUS. */
static void test_disk_full(void **state)
{
	struct file_key key = key_of(1);
	struct journal *journal;
	journal_slot slot;
	unsigned n = 0;
	char *mnt;
	int r;

	if (!may_mount())
		return;
	mnt = strdup(path_in(dir, "small"));
	assert_int_equal(mkdir(mnt, 0700), 0);
	assert_int_equal(mount("tmpfs", mnt, "tmpfs", 0, "size=600k"), 0);
	CHECK_INT("room for two chunks", journal_open(mnt, &journal), 0);
	while ((r = journal_add(journal, &key, "x", &slot)) == 0)
		n++;
	CHECK_INT("then the disk is full", r, -ENOSPC);
	CHECK_INT("and all that it promised was there", n, 511);
	journal_free(journal, slot);
	CHECK_INT("what is free can be used", journal_add(journal, &key, "y", &slot), 0);
	journal_close(journal);
	CHECK_INT("it opens on the full disk", journal_open(mnt, &journal), 0);
	journal_close(journal);
	assert_int_equal(unlink(path_in(mnt, JOURNAL_FILE)), 0);
	write_file(path_in(mnt, "fill"), mnt, 1);
	assert_int_equal(truncate(path_in(mnt, "fill"), 0), 0);
	r = open(path_in(mnt, "fill"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(posix_fallocate(r, 0, 590 * 1024), 0);
	close(r);
	CHECK_INT("no room to begin with", journal_open(mnt, &journal), -ENOSPC);
	CHECK("leaves nothing", access(path_in(mnt, JOURNAL_FILE), F_OK) < 0);
	CHECK("at all", access(path_in(mnt, JOURNAL_FILE ".new"), F_OK) < 0);
	assert_int_equal(umount(mnt), 0);
	free(mnt);
}

static void *use_often(void *arg)
{
	struct journal *journal = arg;
	struct file_key key = key_of((uintptr_t)&key);
	journal_slot slots[100];

	for (int round = 0; round < 100; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
			if (journal_add(journal, &key, "threads", &slots[i]) < 0)
				return (void *)1;
		for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
			journal_mark_locked(journal, slots[i], &sample, "still");
		for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
			journal_free(journal, slots[i]);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct journal *journal = open_journal();
	pthread_t threads[8];
	void *failed;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_often, journal), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		CHECK("no thread fails", !failed);
	}
	CHECK_INT("all slots are free again", look(journal).n, 0);
	journal_close(journal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_lock_free),
		cmocka_unit_test(test_paths_and_keys),
		cmocka_unit_test(test_survives_close_and_grows),
		cmocka_unit_test(test_each_can_be_stopped),
		cmocka_unit_test(test_what_is_no_journal),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_kill_while_marking),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("journal", tests, set_up, tear_down);
}
