/* Limits of our own: their file, what a path is charged to, and when what is refused and told. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/events/event.h"
#include "lockstore/limit.h"

#define NOW 1000000
#define DAY 86400

static struct limits *parse(const char *text)
{
	struct limits *limits = NULL;
	struct ini_error error;

	if (limits_parse("limits", text, strlen(text), &limits, &error) < 0)
		fail_msg("%s", error.text);
	return limits;
}

static void test_bad_files(void **state)
{
	static const struct { const char *text, *says; } cases[] = {
		{ "", "no section" },
		{ "soft = 1\n", "limits:1: 'soft' stands before" },
		{ "[directory /a]\nsoft 1\n", "limits:2: neither" },
		{ "[directory /a\n", "limits:1: a section is [...]" },
		{ "[directory /a] x\n", "limits:1: a section is [...]" },
		{ "[]\n", "limits:1: []: a section" },
		{ "[directory]\n", "limits:1: [directory]: a section" },
		{ "[directory a/b]\n", "limits:1: directory 'a/b'" },
		{ "[directory /a//b]\n", "limits:1: directory '/a//b'" },
		{ "[directory /a/./b]\n", "limits:1: directory '/a/./b'" },
		{ "[directory /..]\n", "limits:1: directory '/..'" },
		{ "[user 4294967295]\n", "is no number of a user" },
		{ "[user no such user]\n", "there is no user" },
		{ "[user 5]\nhard = 1\n[user 05]\n", "limits:3: [user 5] is there already, at line 1" },
		{ "[directory /a]\nhard = -1\n", "limits:2: hard is a number" },
		{ "[directory /a]\nhard = 9223372036854775808\n", "limits:2: hard is a number" },
		{ "[directory /a]\nhard = 20000000P\n", "limits:2: hard is a number" },
		{ "[directory /a]\nhard = 1 K\n", "limits:2: hard is a number" },
		{ "[directory /a]\nfiles_soft = 3\nfiles_hard = 2\n", "limits:1: [directory /a]: files_soft is more than files_hard" },
		{ "[directory /a]\nadvisory = 3\nhard = 2\n", "limits:1: [directory /a]: advisory is more than hard" },
		{ "[directory /a]\ngrace = 1y\n", "limits:2: grace is a time" },
		{ "[directory /a]\ngrace = 2030-01-01\n", "limits:2: grace is a time" },
		{ "[directory /a]\ngrace = 1d\ngrace = 1d\n", "limits:3: grace is given twice" },
		{ "[directory /a]\nHARD = 1\n", "limits:2: there is no key 'HARD'" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct limits *limits = NULL;
		struct ini_error error;

		CHECK_INT(cases[i].text, limits_parse("limits", cases[i].text, strlen(cases[i].text), &limits, &error), -EINVAL);
		if (!strstr(error.text, cases[i].says))
			fail_msg("'%s': it says: %s", cases[i].text, error.text);
	}
}

static void test_bounds_of_the_file(void **state)
{
	struct limits *limits = NULL;
	struct ini_error error;
	char *text = NULL, path[3 * (LIMIT_DEPTH_MAX + 2)] = "";
	size_t len = 0;
	FILE *f;

	f = open_memstream(&text, &len);
	for (int i = 0; i < LIMIT_SECTIONS_MAX; i++)
		fprintf(f, "[user %d]\n", i);
	fflush(f);
	CHECK_INT("so many", limits_parse("limits", text, len, &limits, &error), 0);
	CHECK_INT("are all there", limits_count(limits), LIMIT_SECTIONS_MAX);
	for (int i = 0; i < LIMIT_SECTIONS_MAX; i++)
		CHECK_INT("each is found", limits_of_user(limits, i), i);
	CHECK_INT("no other is", limits_of_user(limits, LIMIT_SECTIONS_MAX), LIMIT_NONE);
	limits_close(limits);
	fprintf(f, "[user 100000]\n");
	fclose(f);
	CHECK_INT("one more", limits_parse("limits", text, len, &limits, &error), -EINVAL);
	free(text);

	for (int depth = LIMIT_DEPTH_MAX; depth <= LIMIT_DEPTH_MAX + 1; depth++) {
		f = open_memstream(&text, &len);
		*path = '\0';
		for (int i = 0; i < depth; i++)
			fprintf(f, "[directory %s]\n", strcat(path, "/d"));
		fclose(f);
		CHECK_INT("nested", limits_parse("limits", text, len, &limits, &error), depth > LIMIT_DEPTH_MAX ? -EINVAL : 0);
		if (depth == LIMIT_DEPTH_MAX)
			limits_close(limits);
		free(text);
	}
	/* A path may be longer than a line of a key. */
	f = open_memstream(&text, &len);
	fprintf(f, "[directory /%04000d]\nhard = 1\n", 0);
	fclose(f);
	CHECK_INT("a long path", limits_parse("limits", text, len, &limits, &error), 0);
	CHECK_INT("all of it", strlen(limits_at(limits, 0)->name), 4000);
	limits_close(limits);
	free(text);
	CHECK_INT("a NUL", limits_parse("limits", "[user 1]\n\0", 10, &limits, &error), -EINVAL);
}

static void test_a_file_of_others_or_of_any_size_is_not_taken(void **state)
{
	char path[] = "/tmp/test_limit.XXXXXX";
	struct limits *limits = NULL;
	struct ini_error error;
	int fd = mkstemp(path);

	assert_true(fd >= 0 && write(fd, "[user 1]\nhard = 1\n", 18) == 18);
	CHECK_INT("ours", limits_open(path, &limits, &error), 0);
	limits_close(limits);
	CHECK_INT("grown", ftruncate(fd, LIMIT_FILE_MAX_BYTES + 1), 0);
	CHECK_INT("larger", limits_open(path, &limits, &error), -EINVAL);
	assert_non_null(strstr(error.text, "larger than 4 MiB"));
	CHECK_INT("small again", ftruncate(fd, 18), 0);
	CHECK_INT("others may write it", fchmod(fd, 0646), 0);
	CHECK_INT("theirs", limits_open(path, &limits, &error), -EPERM);
	close(fd);
	unlink(path);
	CHECK_INT("none", limits_open(path, &limits, &error), -ENOENT);
	CHECK_INT("no file", limits_open("/dev/null", &limits, &error), -EINVAL);
}

static void test_what_the_file_says(void **state)
{
	struct limits *limits = parse("\xef\xbb\xbf; limits\n  [ directory  /a b/c] d/ ]\r\nadvisory = 1K ; a comment\nsoft=2k\nhard = 1G\nfiles_advisory = 1\n"
				      "files_soft = 2\nfiles_hard = 3\ngrace = 2d\n[user root] ; he\n[rule scans]\nhard = 5\n");
	const struct limit_section *s = limits_at(limits, 0);

	CHECK_INT("sections", limits_count(limits), 3);
	CHECK_STR("key", s->key, "directory /a b/c] d");
	CHECK_STR("name", s->name, "a b/c] d");
	CHECK_INT("advisory", s->bounds[LIMIT_BYTES].advisory, 1024);
	CHECK_INT("soft", s->bounds[LIMIT_BYTES].soft, 2048);
	CHECK_INT("hard", s->bounds[LIMIT_BYTES].hard, 1 << 30);
	CHECK_INT("files", s->bounds[LIMIT_FILES].hard, 3);
	CHECK_INT("grace", s->grace_s, 2 * DAY);
	CHECK_STR("a user has his number", limits_at(limits, 1)->key, "user 0");
	CHECK_INT("the default", limits_at(limits, 1)->grace_s, 7 * DAY);
	CHECK_INT("user", limits_of_user(limits, 0), 1);
	CHECK_INT("no user", limits_of_user(limits, 1), LIMIT_NONE);
	CHECK_STR("rule", limits_at(limits, 2)->name, "scans");
	CHECK_INT("without its number yet", limits_of_rule(limits, 7), LIMIT_NONE);
	limits_set_id(limits, 2, 7);
	CHECK_INT("with it", limits_of_rule(limits, 7), 2);
	limits_close(limits);
}

static void test_paths(void **state)
{
	struct limits *limits = parse("[directory /a/b]\n[directory /a]\n[directory /a.b]\n[directory /a/b/c/d]\n[directory /ab]\n");
	static const struct { const char *path; int want; } cases[] = {
		{ "", LIMIT_NONE }, { "x", LIMIT_NONE }, { "a", 1 }, { "a/x", 1 }, { "a/b", 0 }, { "a/b/c", 0 }, { "a/b/c/d", 3 }, { "a/b/c/d/e/f", 3 },
		{ "a/bc", 1 }, { "a.b", 2 }, { "a.b/c", 2 }, { "ab/b", 4 }, { "abc", LIMIT_NONE },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_INT(cases[i].path, limits_of_path(limits, cases[i].path), cases[i].want);
	CHECK_INT("around", limits_at(limits, 3)->outer, 0);
	CHECK_INT("around that", limits_at(limits, 0)->outer, 1);
	CHECK_INT("around nothing", limits_at(limits, 4)->outer, LIMIT_NONE);
	CHECK("one below it", limits_have_path(limits, "a/b/c"));
	CHECK("itself", limits_have_path(limits, "a.b"));
	CHECK("the root", limits_have_path(limits, ""));
	CHECK("within one", !limits_have_path(limits, "a/b/x"));
	CHECK("its name goes on", !limits_have_path(limits, "a/b/c/d/e"));
	limits_close(limits);

	limits = parse("[directory /]\n[directory /a]\n");
	CHECK_INT("all of it", limits_of_path(limits, "x/y"), 0);
	CHECK_INT("and within", limits_of_path(limits, "a/y"), 1);
	CHECK_INT("around", limits_at(limits, 1)->outer, 0);
	CHECK_INT("around all", limits_at(limits, 0)->outer, LIMIT_NONE);
	limits_close(limits);
}

static uint64_t used(struct limits *limits, int i, int what)
{
	struct limit_usage usage;

	limits_usage(limits, i, &usage);
	return usage.used[what];
}

static void check_told(const char *what, const struct limit_told *told, unsigned n, int warning)
{
	CHECK_INT(what, told->n, n);
	if (n)
		CHECK_INT(what, told->crossings[n - 1].warning, warning);
}

static void test_charges(void **state)
{
	static const struct limit_set all = { 1, 2, 3 }, user = { LIMIT_NONE, 2, LIMIT_NONE };
	struct limits *limits = parse("[directory /a]\nhard = 100\n[directory /a/b]\nhard = 1000\nfiles_hard = 2\n[user 5]\nhard = 50\n[rule r]\n");
	struct limit_told told;

	CHECK_INT("fits", limits_charge(limits, &all, 40, 1, 0, NOW, &told), 0);
	check_told("nothing to tell", &told, 0, 0);
	for (int i = 0; i < 4; i++)
		CHECK_INT("all are charged", used(limits, i, LIMIT_BYTES), 40);
	CHECK_INT("the user's", limits_charge(limits, &all, 11, 0, 0, NOW, &told), -EDQUOT);
	check_told("is told", &told, 1, EVENT_QUOTA_BYTES_HARD);
	CHECK_INT("which", told.crossings[0].section, 2);
	CHECK_INT("then nothing was", used(limits, 0, LIMIT_BYTES), 40);
	CHECK_INT("root is not bound by it", limits_charge(limits, &all, 60, 0, LIMIT_AS_ROOT, NOW, &told), 0);
	CHECK_INT("but by the directory's", limits_charge(limits, &all, 1, 0, LIMIT_AS_ROOT, NOW, &told), -EDQUOT);
	CHECK_INT("which one", told.crossings[0].section, 0);
	CHECK_INT("exactly hard is no more", limits_check(limits, &(struct limit_set){ 0, LIMIT_NONE, LIMIT_NONE }, 0, NOW, &told), -EDQUOT);
	CHECK_INT("forced", limits_charge(limits, &all, 1000, 1, LIMIT_FORCED, NOW, &told), 0);
	CHECK_INT("files", limits_charge(limits, &all, 0, 1, LIMIT_FORCED, NOW, &told), 0);
	CHECK_INT("given back", limits_charge(limits, &all, -1060, -2, 0, NOW, &told), 0);
	CHECK_INT("told below: /a and user", told.n, 2);
	CHECK_INT("so", told.crossings[0].warning, EVENT_QUOTA_BYTES_HARD_BELOW);
	CHECK_INT("left", used(limits, 3, LIMIT_BYTES), 40);
	CHECK_INT("one file", used(limits, 3, LIMIT_FILES), 1);
	CHECK("right so far", !limits_are_adrift(limits));
	CHECK_INT("more than there is", limits_charge(limits, &user, -41, 0, 0, NOW, &told), 0);
	CHECK_INT("is nothing", used(limits, 2, LIMIT_BYTES), 0);
	CHECK("and known", limits_are_adrift(limits));
	CHECK_INT("huge", limits_charge(limits, &(struct limit_set){ LIMIT_NONE, LIMIT_NONE, 3 }, INT64_MAX, 0, 0, NOW, &told), 0);
	CHECK("does not wrap", used(limits, 3, LIMIT_BYTES) == INT64_MAX);
	CHECK_INT("huge, refused", limits_charge(limits, &user, INT64_MAX, 0, 0, NOW, &told), -EDQUOT);
	limits_close(limits);
}

static void test_soft_and_grace(void **state)
{
	static const struct limit_set set = { 0, LIMIT_NONE, LIMIT_NONE };
	struct limits *limits = parse("[directory /a]\nadvisory = 5\nsoft = 10\nhard = 20\nfiles_soft = 1\ngrace = 1d\n");
	const struct limit_section *s = limits_at(limits, 0);
	struct limit_usage usage;
	struct limit_told told;
	int64_t until_s;

	limits_charge(limits, &set, 5, 1, 0, NOW, &told);
	check_told("at it is not over it", &told, 0, 0);
	limits_charge(limits, &set, 6, 0, 0, NOW, &told);
	check_told("advisory and soft", &told, 2, EVENT_QUOTA_BYTES_SOFT);
	limits_usage(limits, 0, &usage);
	CHECK_STR("state", limit_state(s, &usage, NOW, &until_s), "soft");
	CHECK_INT("until", until_s, NOW + DAY);
	CHECK_INT("within grace", limits_charge(limits, &set, 1, 0, 0, NOW + DAY - 1, &told), 0);
	check_told("told once", &told, 0, 0);
	CHECK_INT("after it", limits_charge(limits, &set, 1, 0, 0, NOW + DAY, &told), -EDQUOT);
	check_told("is told", &told, 1, EVENT_QUOTA_BYTES_GRACE);
	CHECK_STR("state", limit_state(s, &usage, NOW + DAY, &until_s), "over");
	CHECK_INT("files have a grace of their own", limits_charge(limits, &set, 0, 1, 0, NOW + DAY, &told), 0);
	check_told("which begins", &told, 1, EVENT_QUOTA_FILES_SOFT);
	limits_charge(limits, &set, -2, 0, 0, NOW + DAY, &told);
	check_told("back", &told, 1, EVENT_QUOTA_BYTES_SOFT_BELOW);
	CHECK_INT("and it may grow again", limits_charge(limits, &set, 1, 0, 0, NOW + DAY, &told), 0);
	limits_charge(limits, &set, -11, -2, 0, NOW + DAY, &told);
	check_told("below all", &told, 3, EVENT_QUOTA_FILES_SOFT_BELOW);
	limits_usage(limits, 0, &usage);
	CHECK_STR("state", limit_state(s, &usage, NOW, &until_s), "ok");

	usage = (struct limit_usage){ .used = { 15, 0 }, .since_s = { NOW - 2 * DAY, NOW } };
	limits_set_usage(limits, 0, &usage, NOW);
	limits_usage(limits, 0, &usage);
	CHECK_INT("what was kept goes on", usage.since_s[LIMIT_BYTES], NOW - 2 * DAY);
	CHECK_INT("where it still is over", usage.since_s[LIMIT_FILES], 0);
	CHECK_INT("so that", limits_charge(limits, &set, 1, 0, 0, NOW, &told), -EDQUOT);
	limits_close(limits);
}

static void test_sections_from_elsewhere(void **state)
{
	struct limit_section sections[] = {
		{ .key = "directory /a", .bounds[LIMIT_BYTES].hard = 9, .grace_s = 1 }, { .key = "rule x", .id = 3 }, { .key = "user 5", .id = 5 },
		{ .key = "user 5", .id = 5 }, { .key = "nonsense" },
	};
	struct limits *limits = NULL;

	CHECK_INT("good", limits_of_sections(sections, 3, &limits), 0);
	CHECK_INT("hard", limits_at(limits, 0)->bounds[LIMIT_BYTES].hard, 9);
	CHECK_INT("rule", limits_of_rule(limits, 3), 1);
	CHECK_INT("user", limits_of_user(limits, 5), 2);
	CHECK_INT("path", limits_of_path(limits, "a/b"), 0);
	limits_close(limits);
	CHECK_INT("twice", limits_of_sections(sections, 4, &limits), -EINVAL);
	CHECK_INT("nonsense", limits_of_sections(sections + 4, 1, &limits), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_files), cmocka_unit_test(test_bounds_of_the_file), cmocka_unit_test(test_what_the_file_says),
		cmocka_unit_test(test_a_file_of_others_or_of_any_size_is_not_taken),
		cmocka_unit_test(test_paths), cmocka_unit_test(test_charges), cmocka_unit_test(test_soft_and_grace),
		cmocka_unit_test(test_sections_from_elsewhere),
	};

	return cmocka_run_group_tests_name("limit", tests, NULL, NULL);
}
