/* A walk through a tree, against a tree that is made of numbers. */
#include "tests/unit/unit.h"

#include "lockstore/upstream/walk.h"

#define PER_DIR 7
#define DEPTH 3

static char met[1 << 16];
static unsigned files;

static int on_file(void *arg, const char *path, const struct upstream_entry *entry)
{
	size_t len = strlen(met);

	files++;
	snprintf(met + len, sizeof(met) - len, "%s\n", path);
	return 0;
}

static struct upstream_reply page_from_json(const char *body)
{
	struct upstream_reply page;

	assert_int_equal(upstream_reply_parse(UPSTREAM_ENTRIES, 200, body, strlen(body), &page), 0);
	return page;
}

/* Each directory has directories d0..d6 (down to DEPTH) and files f0..f6, in pages of three. */
static struct upstream_reply page_of(const char *path, const char *after)
{
	int depth = 0, at = *after ? atoi(after) : 0, n = 0;
	char body[1000], *end = body + sprintf(body, "{\"files\":[");

	for (const char *p = path; *p; p++)
		depth += *p == 'd';
	for (; at < 2 * PER_DIR && n < 3; at++) {
		bool dir = at % 2 == 0;

		if (dir && depth == DEPTH)
			continue;
		end += sprintf(end, "%s{\"name\":\"%c%d\",\"type\":\"FS_FILE_TYPE_%s\"}", n++ ? "," : "", dir ? 'd' : 'f', at / 2,
			       dir ? "DIRECTORY" : "FILE");
	}
	end += sprintf(end, "],\"paging\":{\"next\":\"");
	if (at < 2 * PER_DIR)
		end += sprintf(end, "/v1/files/x/entries/?limit=3&after=%d", at);
	sprintf(end, "\"}}");
	return page_from_json(body);
}

static unsigned all_files(bool recursive)
{
	unsigned dirs = 1, level = 1;

	for (int i = 0; recursive && i < DEPTH; i++)
		dirs += level *= PER_DIR;
	return dirs * PER_DIR;
}

static void test_a_walk_meets_every_file_once_also_after_restarts(void **state)
{
	static const int every[] = { 0, 1, 5 };

	for (size_t i = 0; i < ARRAY_SIZE(every); i++) {
		const char *path, *after;
		struct walk *walk;
		int n = 0;

		files = 0;
		met[0] = '\0';
		assert_int_equal(walk_open("", true, &walk), 0);
		while (walk_next(walk, &path, &after)) {
			struct upstream_reply page = page_of(path, after);
			json_t *saved;

			assert_int_equal(walk_page(walk, &page, on_file, NULL), 0);
			upstream_reply_fini(&page);
			if (!every[i] || ++n % every[i])
				continue;
			saved = walk_save(walk);
			walk_close(walk);
			assert_int_equal(walk_load(saved, &walk), 0);
			json_decref(saved);
		}
		walk_close(walk);
		CHECK_INT("every file", files, all_files(true));
		CHECK("the deepest", strstr(met, "\nd6/d6/d6/f6\n") != NULL);
	}
}

static void test_a_walk_that_is_not_recursive_stays_in_its_directory(void **state)
{
	const char *path, *after;
	struct walk *walk;

	files = 0;
	assert_int_equal(walk_open("some/where", false, &walk), 0);
	while (walk_next(walk, &path, &after)) {
		struct upstream_reply page = page_of("", after);

		CHECK_STR("where", path, "some/where");
		assert_int_equal(walk_page(walk, &page, on_file, NULL), 0);
		upstream_reply_fini(&page);
	}
	walk_close(walk);
	CHECK_INT("its files", files, all_files(false));
}

static void test_a_server_cannot_lead_a_walk_astray(void **state)
{
	static const struct { const char *promise, *page; unsigned met; } cases[] = {
		{ "names that lead out", "{\"files\":[{\"name\":\"..\",\"type\":\"FS_FILE_TYPE_FILE\"},{\"name\":\"a/b\",\"type\":\"FS_FILE_TYPE_FILE\"},"
		  "{\"name\":\"\",\"type\":\"FS_FILE_TYPE_FILE\"},{\"name\":\".\",\"type\":\"FS_FILE_TYPE_DIRECTORY\"},{\"name\":5,\"type\":\"FS_FILE_TYPE_FILE\"}]}", 0 },
		{ "no paging at all", "{\"files\":[{\"name\":\"a\",\"type\":\"FS_FILE_TYPE_FILE\"}]}", 1 },
		{ "a next page that is null", "{\"files\":[{\"name\":\"a\",\"type\":\"FS_FILE_TYPE_SYMLINK\"}],\"paging\":{\"next\":null}}", 1 },
		{ "entries that are none", "{\"files\":[1,null,{}]}", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct upstream_reply page = page_from_json(cases[i].page);
		const char *path, *after;
		struct walk *walk;

		files = 0;
		assert_int_equal(walk_open("top", true, &walk), 0);
		CHECK_INT(cases[i].promise, walk_page(walk, &page, on_file, NULL), 0);
		CHECK_INT(cases[i].promise, files, cases[i].met);
		CHECK_INT(cases[i].promise, walk_next(walk, &path, &after), false);
		walk_close(walk);
		upstream_reply_fini(&page);
	}
}

static void test_a_page_that_names_itself_as_next_is_an_error(void **state)
{
	struct upstream_reply page = page_from_json("{\"files\":[],\"paging\":{\"next\":\"/x?after=k\"}}");
	const char *path, *after;
	struct walk *walk;

	assert_int_equal(walk_open("", true, &walk), 0);
	CHECK_INT("the first page", walk_page(walk, &page, on_file, NULL), 0);
	CHECK_INT("goes on", walk_next(walk, &path, &after), true);
	CHECK_INT("the same once more", walk_page(walk, &page, on_file, NULL), -ELOOP);
	walk_skip(walk);
	CHECK_INT("passed over", walk_next(walk, &path, &after), false);
	walk_close(walk);
	upstream_reply_fini(&page);
}

static void test_directories_that_wait_are_bounded(void **state)
{
	struct walk *walk;
	int r = 0, n = 0;

	assert_int_equal(walk_open("", true, &walk), 0);
	for (; r == 0 && n < 2 * WALK_STACK_MAX; n++)
		r = walk_add(walk, "d");
	CHECK_INT("full", r, -ENOSPC);
	CHECK_INT("at its bound", n, WALK_STACK_MAX);
	walk_close(walk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_walk_meets_every_file_once_also_after_restarts),
		cmocka_unit_test(test_a_walk_that_is_not_recursive_stays_in_its_directory),
		cmocka_unit_test(test_a_server_cannot_lead_a_walk_astray),
		cmocka_unit_test(test_a_page_that_names_itself_as_next_is_an_error),
		cmocka_unit_test(test_directories_that_wait_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
