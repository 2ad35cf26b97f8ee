/* What the tests of the ledger share: a ledger in a state directory of each test's own, and rows. */
#ifndef WORMFS_UNIT_LEDGER_H
#define WORMFS_UNIT_LEDGER_H

#include "tests/unit/unit.h"

#include <dirent.h>

#include "lockstore/ledger_private.h"

#define STR_(x) #x
#define STR(x) STR_(x)

static char *dir;
static struct ledger *ledger;

static inline int set_up(void **state)
{
	dir = temp_dir_make();
	ledger = NULL;
	return 0;
}

static inline int tear_down(void **state)
{
	ledger_close(ledger);
	temp_dir_remove(dir);
	return 0;
}

static inline void open_ledger(void)
{
	CHECK_INT(ledger_error(NULL), ledger_open(dir, LEDGER_CREATE, "share-1", &ledger), 0);
}

static inline void reopen_ledger(void)
{
	ledger_close(ledger);
	open_ledger();
}

static inline struct file_key key_of(uint64_t n)
{
	struct file_key key = { .len = 12 };

	/* Scattered, so that the order of keys is not the order of numbers. */
	n = n * UINT64_C(0x9e3779b97f4a7c15) + 1;
	memcpy(key.bytes, &n, sizeof(n));
	return key;
}

static inline struct ledger_row row_of(uint64_t n, const char *path)
{
	return (struct ledger_row){
		.key = key_of(n), .path = path, .uid = 1000, .gid = 100, .rule = "r",
		.rec = { .committed_s = 1000, .until_s = 2000, .serial = n, .size_bytes = 10, .mtime_ns = 5 },
	};
}

static inline void put(uint64_t n, const char *path)
{
	struct ledger_row row = row_of(n, path);

	CHECK_INT(path, ledger_put(ledger, &row), 0);
}

struct copy {
	struct ledger_row row;
	char path[512], rule[64];
	uint8_t sha256[32];
	unsigned calls;
};

static inline int copy_row(void *arg, const struct ledger_row *row)
{
	struct copy *copy = arg;

	copy->row = *row;
	snprintf(copy->path, sizeof(copy->path), "%s", row->path);
	snprintf(copy->rule, sizeof(copy->rule), "%s", row->rule);
	if (row->sha256)
		memcpy(copy->sha256, row->sha256, 32);
	copy->calls++;
	return 0;
}

static inline struct copy find(uint64_t n)
{
	struct file_key key = key_of(n);
	struct copy copy = { .calls = 0 };

	CHECK_INT("the row is found", ledger_find(ledger, &key, copy_row, &copy), 0);
	CHECK_INT("once", copy.calls, 1);
	CHECK("it is the row of the key", file_key_equal(&copy.row.key, &key));
	return copy;
}

static inline int count_row(void *arg, const struct ledger_row *row)
{
	++*(uint64_t *)arg;
	return 0;
}

struct names {
	char text[4096];
	int64_t at_s;
	uid_t by;
	int stop_after;
};

static inline int add_name(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	struct names *names = arg;

	strcat(names->text, case_name);
	strcat(names->text, ";");
	names->at_s = at_s;
	names->by = by;
	return --names->stop_after == 0 ? -ECANCELED : 0;
}

static inline void put_pending(uint64_t n, const char *path, int64_t due_s)
{
	struct ledger_pending p = { .key = key_of(n), .path = path, .reason = PENDING_STAGING, .since_s = 1,
				    .due_s = due_s };

	CHECK_INT(path, ledger_pending_put(ledger, &p), 0);
}

/* All names and bytes in the directory, to see whether any changed. But SQLite may leave its shared
 * memory and an empty log behind. */
static inline uint64_t fingerprint(void)
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

static inline void run_sql(const char *sql)
{
	char *message = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path_in(dir, LEDGER_FILE), &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	sqlite3_close(db);
}

static inline void make_and_close(void)
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

#endif
