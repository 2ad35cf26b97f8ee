/* Patterns of rule files: bytes, anchored at the root of the share. T51 of worm-semantics.md (paths of rules). */
#include "tests/unit/unit.h"

#include <time.h>

#include "lockstore/glob.h"

static void test_a_glob_is_of_bytes(void **state)
{
	static const struct { const char *glob, *text; bool want; } cases[] = {
		{ "a", "a", true }, { "a", "A", false }, { "a", "ab", false }, { "ab", "a", false }, { "", "", true }, { "", "a", false },
		{ "*", "", true }, { "*", ".hidden", true }, { "*", "a\nb", true }, { "a*b", "ab", true }, { "a*b", "a\n\nb", true },
		{ "a*b*c", "abbbc", true }, { "a*b*c", "abbb", false }, { "*.pdf", "x.pdf", true }, { "*.pdf", ".pdf", true },
		{ "*.pdf", "x.pdf2", false }, { "?", "\n", true }, { "?", "", false }, { "??", "\xc3\xa4", true }, { "?", "\xc3\xa4", false },
		{ "[abc]", "b", true }, { "[!abc]", "b", false }, { "[!abc]", "d", true }, { "[^abc]", "d", true }, { "[a-c]x", "bx", true },
		{ "[a-c]", "d", false }, { "[]]", "]", true }, { "[!]]", "]", false }, { "[a-]", "-", true }, { "[\\]]", "]", true },
		{ "[\x80-\xff]", "\xe4", true }, { "\\*", "*", true }, { "\\*", "a", false }, { "a\\?", "a?", true }, { "**", "abc", true },
		{ "*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].glob, glob_matches(cases[i].glob, cases[i].text, strlen(cases[i].text)), cases[i].want);
}

static void test_a_broken_glob_is_found(void **state)
{
	static const struct { const char *glob; int want; } cases[] = {
		{ "a", 0 }, { "[a]", 0 }, { "[a", -EINVAL }, { "[", -EINVAL }, { "[]", -EINVAL }, { "[]]", 0 }, { "a\\", -EINVAL }, { "\\\\", 0 },
		{ "[\\]", -EINVAL }, { "[a-", -EINVAL }, { "\\[", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].glob, glob_check(cases[i].glob), cases[i].want);
}

static bool matches(const char *pattern, const char *path)
{
	struct glob_part parts[GLOB_PARTS_MAX];
	struct path_glob *glob;
	const char *why;
	size_t n = 0;
	bool yes;

	assert_int_equal(path_glob_open(pattern, &glob, &why), 0);
	while (*path) {
		const char *end = strchrnul(path, '/');

		parts[n++] = (struct glob_part){ path, end - path };
		path = *end ? end + 1 : end;
	}
	yes = path_glob_matches(glob, parts, n);
	path_glob_close(glob);
	return yes;
}

static void test_T51_a_path_pattern_covers_a_directory_and_not_its_neighbours(void **state)
{
	static const struct { const char *pattern, *path; bool want; } cases[] = {
		{ "/a", "a", true }, { "/a", "a1", false }, { "/a", "a/b", true }, { "/a", "a/b/c", true }, { "/a", "a1/b", false },
		{ "/a", "b/a", false }, { "/a/", "a", false }, { "/a/", "a/b", true }, { "/a/", "a1/b", false }, { "//a", "a/b", true },
		{ "/a//b", "a/b", true }, { "/a//b", "a/b1", false }, { "/a///", "a/b/c", true }, { "/", "x", true }, { "/", "x/y", true },
		{ "/*", "x", true }, { "/*", "x/y", false }, { "/*/y", "x/y", true }, { "/*/y", "x/y/z", true }, { "/*/y", "x/z/y", false },
		{ "/*.pdf", "x.pdf", true }, { "/*.pdf", "d/x.pdf", false }, { "/**/*.pdf", "x.pdf", true }, { "/**/*.pdf", "a/b/x.pdf", true },
		{ "/a/**", "a", false }, { "/a/**", "a/b", true }, { "/a/**", "a/b/c", true }, { "/a/**/c", "a/c", true },
		{ "/a/**/c", "a/b/b/c", true }, { "/a/**/c", "a/b/c/d", true }, { "/a/**/c", "b/c", false }, { "/**/b/**/d", "a/b/c/d", true },
		{ "/**/b/**/d", "a/c/d", false }, { "/**", "a", true }, { "/**/**/a", "a", true }, { "/a**b", "axxb", true },
		{ "/a**b", "a/b", false }, { "/a\\*b", "a*b", true }, { "/a\\*b", "axb", false }, { "/line?end", "line\nend", true },
		{ "/line*", "line\n", true }, { "/a", "a\n", false }, { "/[ab]/x", "b/x", true }, { "/\xff", "\xff/y", true },
		{ "/**/x/y", "x/x/y", true }, { "/**/x/*/z", "x/x/y/z", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char what[100];

		snprintf(what, sizeof(what), "%s with %s", cases[i].pattern, cases[i].path);
		CHECK_INT(what, matches(cases[i].pattern, cases[i].path), cases[i].want);
	}
}

static void test_a_path_pattern_that_can_mean_nothing_is_refused(void **state)
{
	static const char *const bad[] = { "", "a", "*", "a/b", "/a/./b", "/..", "/[a", "/a\\" };
	struct path_glob *glob;
	char deep[400] = "";
	const char *why = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_INT(bad[i], path_glob_open(bad[i], &glob, &why), -EINVAL);
		CHECK(bad[i], why && *why);
	}
	for (int i = 0; i < GLOB_PARTS_MAX; i++)
		strcat(deep, "/x");
	CHECK_INT("more components than the bound", path_glob_open(deep, &glob, &why), -EINVAL);
}

static void test_no_pattern_takes_time_that_grows_without_bound(void **state)
{
	char text[2000], glob[200] = "";
	clock_t start = clock();

	memset(text, 'a', sizeof(text));
	for (int i = 0; i < 60; i++)
		strcat(glob, "*a");
	strcat(glob, "b");
	assert_false(glob_matches(glob, text, sizeof(text)));
	CHECK("a second is far more than it needs", clock() - start < CLOCKS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_glob_is_of_bytes),
		cmocka_unit_test(test_a_broken_glob_is_found),
		cmocka_unit_test(test_T51_a_path_pattern_covers_a_directory_and_not_its_neighbours),
		cmocka_unit_test(test_a_path_pattern_that_can_mean_nothing_is_refused),
		cmocka_unit_test(test_no_pattern_takes_time_that_grows_without_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
