/* Digests in the ledger, sums for the report, and listings that go on where one stopped. */
#include "tests/unit/unit_ledger.h"

#include "lockstore/sha256.h"

static const uint8_t some_digest[32] = { 0xde, 0xad };

struct ids {
	int64_t last;
	unsigned n;
	bool rising;
	struct file_key key;	/* of the last */
};

static int note_id(void *arg, const struct ledger_undigested *file)
{
	struct ids *ids = arg;

	ids->rising = ids->rising && file->id > ids->last;
	ids->last = file->id;
	ids->key = file->key;
	ids->n++;
	return 0;
}

static void test_undigested(void **state)
{
	struct ids ids = { .last = INT64_MIN, .rising = true };
	struct file_key key = key_of(3);
	struct ledger_row row;
	unsigned before;
	uint64_t n = 0;
	char path[32];

	open_ledger();
	CHECK_INT("an empty ledger", ledger_undigested_each(ledger, INT64_MIN, note_id, &ids), 0);
	CHECK_INT("has none", ids.n, 0);
	for (unsigned i = 0; i < 3 * LEDGER_UNDIGESTED_MAX + 5; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		put(i, path);
	}
	do {
		before = ids.n;
		CHECK_INT("a page", ledger_undigested_each(ledger, ids.last, note_id, &ids), 0);
		CHECK("is no longer than it may be", ids.n - before <= LEDGER_UNDIGESTED_MAX);
	} while (ids.n > before);
	CHECK_INT("pages have every row once", ids.n, 3 * LEDGER_UNDIGESTED_MAX + 5);
	CHECK("in the order in which they came", ids.rising);

	CHECK_INT("a digest", ledger_digest_set(ledger, &key, 10, 5, some_digest), 0);
	CHECK("is kept", memcmp(find(3).sha256, some_digest, 32) == 0);
	CHECK("and is wanted", !find(3).row.no_digest);
	CHECK_INT("one less", (ledger_undigested_count(ledger, &n), n), 3 * LEDGER_UNDIGESTED_MAX + 4);
	CHECK_INT("of another size: not this data's", ledger_digest_set(ledger, &key, 11, 5, some_digest), -ENOENT);
	CHECK_INT("of another time", ledger_digest_set(ledger, &key, 10, 6, some_digest), -ENOENT);
	key = key_of(99999);
	CHECK_INT("of no row", ledger_digest_set(ledger, &key, 10, 5, some_digest), -ENOENT);
	row = row_of(3, "f3");
	row.rec.size_bytes = 11;
	CHECK_INT("a row whose size has changed", ledger_put(ledger, &row), 0);
	CHECK("has no digest any more", !find(3).row.sha256);
	CHECK_INT("and is to be done again", (ledger_undigested_count(ledger, &n), n), 3 * LEDGER_UNDIGESTED_MAX + 5);
}

struct sums {
	char text[4096];
};

static int note_group(void *arg, const char *name, uint64_t files, uint64_t bytes)
{
	struct sums *sums = arg;
	size_t len = strlen(sums->text);

	snprintf(sums->text + len, sizeof(sums->text) - len, "%s=%llu/%llu;", name, (unsigned long long)files,
		 (unsigned long long)bytes);
	return 0;
}

static int stop_at_once(void *arg, const char *name, uint64_t files, uint64_t bytes)
{
	return -ECANCELED;
}

static void test_groups(void **state)
{
	static const struct { int64_t until_s; const char *rule; int mode, rec_holds; uint64_t size; } rows[] = {
		{ 999, "", 0, 0, 1 }, { 1000, "r", 0, 0, 2 }, { 1001, "r", 1, 0, 4 }, { 1893456000, "", 0, 0, 8 },
		{ INT64_MAX, "", 1, 0, 16 }, { INT64_MIN, "q'\"", 0, 0, 32 }, { 5, "", 0, 1, 64 }, { 6, "", 0, 0, 128 },
	};
	static const struct { enum ledger_group by; const char *want; } cases[] = {
		{ LEDGER_BY_STATE, "expired=1/2;held=3/193;retained=4/60;" },
		{ LEDGER_BY_MODE, "governance=6/235;compliance=2/20;" },
		{ LEDGER_BY_RULE, "=5/217;q'\"=1/32;r=2/6;" },
		{ LEDGER_BY_HOLD, "case-1=1/128;case-2=2/129;" },
		{ LEDGER_BY_EXPIRY, "1970-01=5/199;2030-01=1/8;infinite=1/16;unspecified=1/32;" },
		{ LEDGER_BY_DIGEST, "known=1/1;pending=7/254;" },
	};
	struct file_key key;
	char path[32];

	open_ledger();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sums sums = { .text = "" };

		CHECK_INT("of nothing", ledger_group(ledger, cases[i].by, 1000, note_group, &sums), 0);
		CHECK_STR("nothing", sums.text, "");
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ledger_row row;

		snprintf(path, sizeof(path), "f%zu", i);
		row = row_of(i, path);
		row.rec.until_s = rows[i].until_s;
		row.rec.mode = (uint8_t)rows[i].mode;
		row.rec.holds = (uint16_t)rows[i].rec_holds;
		row.rec.size_bytes = rows[i].size;
		row.rule = rows[i].rule;
		CHECK_INT(path, ledger_put(ledger, &row), 0);
	}
	key = key_of(7);
	CHECK_INT("a hold", ledger_hold_add(ledger, &key, "case-1", 0, 0), 0);
	CHECK_INT("and one more", ledger_hold_add(ledger, &key, "case-2", 0, 0), 0);
	key = key_of(0);
	CHECK_INT("on an expired file", ledger_hold_add(ledger, &key, "case-2", 0, 0), 0);
	CHECK_INT("a digest", ledger_digest_set(ledger, &key, 1, 5, some_digest), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sums sums = { .text = "" };

		CHECK_INT("the sums", ledger_group(ledger, cases[i].by, 1000, note_group, &sums), 0);
		CHECK_STR("are right", sums.text, cases[i].want);
	}
	CHECK_INT("a caller may stop", ledger_group(ledger, LEDGER_BY_RULE, 0, stop_at_once, NULL), -ECANCELED);
}

static int collect(void *arg, const struct ledger_row *row)
{
	struct sums *sums = arg;

	strcat(sums->text, row->path);
	strcat(sums->text, ";");
	return 0;
}

/* From every row, and from rows that are gone, with every prefix: what comes is the rest of the whole. */
static void test_go_on(void **state)
{
	static const char *const paths[] = { "a", "a-b", "a/b", "a/b/c", "a/z", "a0", "b", "b/a", "b/\xff" };
	static const char *const prefixes[] = { "", "a", "a/b", "b", "nothing" };

	open_ledger();
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		put(i, paths[i]);
	for (size_t p = 0; p < ARRAY_SIZE(prefixes); p++) {
		for (size_t i = 0; i < ARRAY_SIZE(paths) + 2; i++) {
			const char *after = i < ARRAY_SIZE(paths) ? paths[i] : i == ARRAY_SIZE(paths) ? "a/a" : "zz";
			struct file_key key = key_of(i);
			struct ledger_filter all = { .prefix = prefixes[p] }, rest = all;
			struct sums whole = { .text = "" }, got = { .text = "" }, want = { .text = "" };

			CHECK_INT("all", ledger_each(ledger, &all, collect, &whole), 0);
			rest.after_path = after;
			rest.after_key = &key;
			CHECK_INT("the rest", ledger_each(ledger, &rest, collect, &got), 0);
			for (char *path = strtok(whole.text, ";"); path; path = strtok(NULL, ";"))
				if (strcmp(path, after) > 0)
					strcat(strcat(want.text, path), ";");
			CHECK_STR("behind where it stopped", got.text, want.text);
		}
	}
}

static void test_sha256_of_files(void **state)
{
	/* FIPS 180-4 examples: "abc", and nothing. */
	static const char of_abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char of_none[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const size_t sizes[] = { 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20 };
	const char *path = path_in(dir, "data");
	uint8_t of_data[32], of_disk[32], *bytes = malloc(3 << 20);
	char text[SHA256_TEXT_BYTES];
	atomic_bool stop = false;
	struct sha256_pace pace;
	uint64_t size = 0;
	int fd;

	assert_non_null(bytes);
	for (size_t i = 0; i < 3 << 20; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	write_file(path, "abc", 3);
	fd = sha256_open(open(path, O_PATH | O_CLOEXEC), SHA256_OF_DATA);
	CHECK_INT("abc", sha256_file(fd, SHA256_OF_DATA, NULL, NULL, of_data, &size), 0);
	sha256_format(of_data, text);
	CHECK_STR("abc", text, of_abc);
	CHECK_INT("three bytes", size, 3);
	close(fd);
	write_file(path, "", 0);
	fd = sha256_open(open(path, O_PATH | O_CLOEXEC), SHA256_OF_DISK);
	CHECK_INT("nothing", sha256_file(fd, SHA256_OF_DISK, NULL, NULL, of_disk, &size), 0);
	sha256_format(of_disk, text);
	CHECK_STR("nothing", text, of_none);
	close(fd);
	sha256_pace_init(&pace, 1 << 30);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		write_file(path, bytes, sizes[i]);
		fd = sha256_open(open(path, O_PATH | O_CLOEXEC), SHA256_OF_DATA);
		CHECK_INT("from the cache", sha256_file(fd, SHA256_OF_DATA, &pace, &stop, of_data, &size), 0);
		CHECK_INT("every byte", size, sizes[i]);
		close(fd);
		fd = sha256_open(open(path, O_PATH | O_CLOEXEC), SHA256_OF_DISK);
		CHECK_INT("from the disk", sha256_file(fd, SHA256_OF_DISK, NULL, &stop, of_disk, &size), 0);
		CHECK_INT("every byte", size, sizes[i]);
		CHECK("alike", memcmp(of_data, of_disk, 32) == 0);
		atomic_store(&stop, true);
		CHECK_INT("it stops when it is told", sha256_file(fd, SHA256_OF_DISK, NULL, &stop, of_disk, &size), -ECANCELED);
		atomic_store(&stop, false);
		close(fd);
	}
	sha256_pace_fini(&pace);
	CHECK_INT("a directory", sha256_file(open(dir, O_RDONLY | O_CLOEXEC), SHA256_OF_DATA, NULL, NULL, of_data, &size), -EISDIR);
	free(bytes);
}

static void test_lines_for_sha256sum(void **state)
{
	static const struct { const char *path, *want; } cases[] = {
		{ "a/b c", "dead%s  a/b c\n" }, { "new\nline", "\\dead%s  new\\nline\n" }, { "back\\slash", "\\dead%s  back\\\\slash\n" },
		{ "return\r", "\\dead%s  return\\r\n" }, { "\xff*", "dead%s  \xff*\n" }, { " *x", "dead%s   *x\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *got = NULL, *want = NULL, zeroes[61];
		size_t len = 0;
		FILE *out = open_memstream(&got, &len);

		memset(zeroes, '0', 60);
		zeroes[60] = '\0';
		sha256_print_line(out, some_digest, cases[i].path);
		assert_int_equal(fclose(out), 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		assert_true(asprintf(&want, cases[i].want, zeroes) > 0);
#pragma GCC diagnostic pop
		CHECK_STR(cases[i].path, got, want);
		free(got);
		free(want);
	}
}

static void test_pace(void **state)
{
	static const char zeroes[3 << 20];
	struct timespec begin, end;
	struct sha256_pace pace;
	uint8_t sha256[32];
	double took_s;
	int fd;

	write_file(path_in(dir, "data"), zeroes, sizeof(zeroes));
	fd = open(path_in(dir, "data"), O_RDONLY | O_CLOEXEC);
	sha256_pace_init(&pace, 10 << 20);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	CHECK_INT("read", sha256_file(fd, SHA256_OF_DATA, &pace, NULL, sha256, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	took_s = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	CHECK("3 MiB at 10 MiB/s take their time", took_s >= 0.29);
	sha256_pace_fini(&pace);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_undigested), TEST(test_groups), TEST(test_go_on), TEST(test_sha256_of_files), TEST(test_lines_for_sha256sum),
		TEST(test_pace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
