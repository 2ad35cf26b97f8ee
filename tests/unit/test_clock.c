/* Where "now" comes from. */
#include "tests/unit/unit.h"

#include <time.h>

#include "lockstore/clock.h"

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

static void check_near(const char *promise, struct clock_source *clock, int64_t offset_s)
{
	int64_t before = time(NULL), now = clock_source_now_s(clock), after = time(NULL);

	if (now < before + offset_s - 1 || now > after + offset_s + 1)
		fail_msg("%s: got wall %+lld s, want %+lld s", promise, (long long)(now - before), (long long)offset_s);
}

static void test_wall(void **state)
{
	struct clock_source *clock;

	CHECK_INT("no spec is the wall clock", clock_source_open(NULL, &clock), 0);
	CHECK_STR("and says so", clock_source_name(clock), "wall");
	check_near("now is now", clock, 0);
	clock_source_close(clock);
	CHECK_INT("by name", clock_source_open("wall", &clock), 0);
	check_near("likewise", clock, 0);
	clock_source_close(clock);
	clock_source_close(NULL);
}

static void test_file(void **state)
{
	static const struct { const char *promise, *text; int64_t offset_s; } cases[] = {
		{ "ahead",                             "3600", 3600 },
		{ "a newline may follow",              "86400\n", 86400 },
		{ "behind",                            "-60\n", -60 },
		{ "a plus sign",                       "+5", 5 },
		{ "a century",                         "3155760000", INT64_C(3155760000) },
		{ "zero",                              "0", 0 },
		{ "no number moves nothing",           "tomorrow", 0 },
		{ "empty moves nothing",               "", 0 },
		{ "a unit moves nothing",              "3600s", 0 },
		{ "a second line moves nothing",       "3600\n7\n", 0 },
		{ "a fraction moves nothing",          "1.5", 0 },
		{ "an overflow moves nothing",         "99999999999999999999", 0 },
		{ "nor does one below",                "-99999999999999999999", 0 },
		{ "the largest number moves nothing",  "9223372036854775807", 0 },
		{ "an overlong text moves nothing",    "0000000000000000000000000000000000000001", 0 },
	};
	const char *path = path_in(dir, "offset");
	struct clock_source *clock;
	char spec[4200];

	snprintf(spec, sizeof(spec), "file:%s", path);
	write_file(path, "7200", 4);
	CHECK_INT("a clock from a file", clock_source_open(spec, &clock), 0);
	CHECK_STR("is called so", clock_source_name(clock), spec);
	check_near("it is moved", clock, 7200);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file(path, cases[i].text, strlen(cases[i].text));
		check_near(cases[i].promise, clock, cases[i].offset_s);
	}
	write_file(path, "7200", 4);
	check_near("it comes back", clock, 7200);
	assert_int_equal(unlink(path), 0);
	check_near("a file that is gone moves nothing", clock, 0);
	clock_source_close(clock);
}

static void test_relative_path(void **state)
{
	struct clock_source *clock;
	char *cwd = getcwd(NULL, 0);

	assert_non_null(cwd);
	assert_int_equal(chdir(dir), 0);
	write_file("relative", "100", 3);
	CHECK_INT("a relative path opens", clock_source_open("file:relative", &clock), 0);
	assert_int_equal(chdir("/"), 0);
	check_near("and is found after a chdir", clock, 100);
	clock_source_close(clock);
	assert_int_equal(chdir(cwd), 0);
	free(cwd);
}

static void test_refused(void **state)
{
	static const struct { const char *spec; int want; } cases[] = {
		{ "", -EINVAL }, { "Wall", -EINVAL }, { "wall:", -EINVAL }, { "file", -EINVAL }, { "file:", -EINVAL },
		{ "ntp", -EINVAL }, { "file:/nonexistent/offset", -ENOENT }, { "file:/", -EISDIR },
		{ "file:/proc/self/status", -EINVAL },
	};
	struct clock_source *clock = (void *)&clock;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].spec, clock_source_open(cases[i].spec, &clock), cases[i].want);
	CHECK("a failure leaves the output alone", clock == (void *)&clock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wall),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_relative_path),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("clock", tests, set_up, tear_down);
}
