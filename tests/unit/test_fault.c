/* Fault rules: what they match, when they fire, what they do, and their JSON. */
#include "tests/unit/unit.h"

#include <time.h>

#include "mockarchive/fault.h"

#define S INT64_C(1000000000)
#define ALL_ACTIONS (~0u)

static unsigned nfired, nchanged;
static char last_fired[FAULT_ID_BYTES];

static void on_fired(void *arg, const char *id, const struct fault_query *query, const struct fault_verdict *verdict)
{
	nfired++;
	snprintf(last_fired, sizeof(last_fired), "%s", id);
}

static void on_changed(void *arg)
{
	nchanged++;
}

static struct faults *open_faults(void)
{
	struct faults *f = NULL;

	nfired = nchanged = 0;
	assert_int_equal(faults_open(on_fired, on_changed, NULL, &f), 0);
	return f;
}

static int add_at(struct faults *f, const char *text, int64_t now_ns, char *why)
{
	json_t *json = json_loads(text, 0, NULL);
	char id[FAULT_ID_BYTES] = "";
	int r;

	if (!json)
		fail_msg("broken test: %s", text);
	r = faults_add(f, json, now_ns, id, why);
	json_decref(json);
	return r;
}

static void add(struct faults *f, const char *text)
{
	char why[FAULT_WHY_BYTES] = "";

	if (add_at(f, text, 0, why) < 0)
		fail_msg("%s: %s", text, why);
}

static int change(struct faults *f, const char *id, const char *text)
{
	char why[FAULT_WHY_BYTES] = "";
	json_t *json = json_loads(text, 0, NULL);
	int r = faults_change(f, id, json, 0, why);

	json_decref(json);
	return r;
}

static long long member(struct faults *f, const char *id, const char *key)
{
	json_t *rule = faults_get(f, id, 0);
	long long value = json_integer_value(json_object_get(rule, key));

	json_decref(rule);
	return value;
}

static struct fault_verdict ask(struct faults *f, struct fault_query query)
{
	struct fault_verdict v;

	if (!query.can)
		query.can = ALL_ACTIONS;
	faults_ask(f, &query, &v);
	return v;
}

static void test_a_rule_matches_what_it_names_and_nothing_else(void **state)
{
	static const struct { const char *promise, *match; struct fault_query query; bool want; } cases[] = {
		{ "no match section: everything", "{}", { .point = FAULT_READ, .path = "a" }, true },
		{ "an operation", "{\"op\": \"read\"}", { .point = FAULT_READ, .path = "a" }, true },
		{ "another operation", "{\"op\": \"read\"}", { .point = FAULT_OPEN, .path = "a" }, false },
		{ "one of several", "{\"op\": [\"read\", \"open\"]}", { .point = FAULT_OPEN, .path = "a" }, true },
		{ "a pattern of phases", "{\"phase\": \"recall.*\"}", { .point = FAULT_RECALL_FLAG, .path = "a" }, true },
		{ "not the other job's", "{\"phase\": \"recall.*\"}", { .point = FAULT_ARCHIVE_FLAG, .path = "a" }, false },
		{ "op and phase: either", "{\"op\": \"open\", \"phase\": \"recall.copy\"}", { .point = FAULT_RECALL_COPY, .path = "a" }, true },
		{ "an endpoint", "{\"op\": \"rest.stage\"}", { .point = FAULT_REST_STAGE }, true },
		{ "a path", "{\"path\": \"/a/*.dat\"}", { .point = FAULT_READ, .path = "a/x.dat" }, true },
		{ "with a slash in front", "{\"path\": \"/a/*.dat\"}", { .point = FAULT_READ, .path = "/a/x.dat" }, true },
		{ "not deeper", "{\"path\": \"/a/*.dat\"}", { .point = FAULT_READ, .path = "a/b/x.dat" }, false },
		{ "deeper with **", "{\"path\": \"/a/**/*.dat\"}", { .point = FAULT_READ, .path = "a/b/x.dat" }, true },
		{ "a plain name is the last one, anywhere", "{\"path\": \"x.dat\"}", { .point = FAULT_READ, .path = "a/b/x.dat" }, true },
		{ "and not a directory's", "{\"path\": \"b\"}", { .point = FAULT_READ, .path = "a/b/x.dat" }, false },
		{ "no path here, but one is wanted", "{\"path\": \"*\"}", { .point = FAULT_STATFS }, false },
		{ "a regular expression", "{\"regex\": \"^/a/(x|y)[0-9]+$\"}", { .point = FAULT_READ, .path = "a/y12" }, true },
		{ "which does not match", "{\"regex\": \"^/a/(x|y)[0-9]+$\"}", { .point = FAULT_READ, .path = "a/z12" }, false },
		{ "a user", "{\"uid\": 7}", { .point = FAULT_READ, .has_caller = true, .uid = 7 }, true },
		{ "another user", "{\"uid\": 7}", { .point = FAULT_READ, .has_caller = true, .uid = 8 }, false },
		{ "root is not nobody", "{\"uid\": 0}", { .point = FAULT_READ, .has_caller = false }, false },
		{ "a process", "{\"pid\": 70}", { .point = FAULT_READ, .has_caller = true, .pid = 70 }, true },
		{ "another process", "{\"pid\": 70}", { .point = FAULT_READ, .has_caller = true, .pid = 71 }, false },
		{ "a copy", "{\"copy\": \"replica\"}", { .point = FAULT_ARCHIVE_COPY, .copy = FAULT_COPY_REPLICA }, true },
		{ "the other copy", "{\"copy\": \"replica\"}", { .point = FAULT_ARCHIVE_COPY, .copy = FAULT_COPY_FINAL }, false },
		{ "large enough", "{\"min_size\": 10}", { .point = FAULT_READ, .size_bytes = 10 }, true },
		{ "too small", "{\"min_size\": 10}", { .point = FAULT_READ, .size_bytes = 9 }, false },
		{ "small enough", "{\"max_size\": 10}", { .point = FAULT_READ, .size_bytes = 10 }, true },
		{ "too large", "{\"max_size\": 10}", { .point = FAULT_READ, .size_bytes = 11 }, false },
		{ "not known is not small", "{\"max_size\": 10}", { .point = FAULT_READ, .size_bytes = -1 }, false },
		{ "0 is a bound", "{\"max_size\": 0}", { .point = FAULT_READ, .size_bytes = 1 }, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct faults *f = open_faults();
		char *text;

		assert_true(asprintf(&text, "{\"match\": %s, \"do\": {\"errno\": \"EIO\"}}", cases[i].match) > 0);
		add(f, text);
		CHECK_INT(cases[i].promise, ask(f, cases[i].query).error, cases[i].want ? -EIO : 0);
		CHECK_INT(cases[i].promise, nfired, cases[i].want);
		free(text);
		faults_close(f);
	}
}

static void test_a_program_is_known_by_its_name(void **state)
{
	struct faults *f = open_faults();
	struct fault_query me = { .point = FAULT_READ, .has_caller = true, .pid = getpid() };

	add(f, "{\"match\": {\"comm\": \"test_fault\"}, \"do\": {\"errno\": \"EIO\"}}");
	CHECK_INT("this program", ask(f, me).error, -EIO);
	me.pid = 1;
	CHECK_INT("another one", ask(f, me).error, 0);
	faults_close(f);
}

static void test_when_counts_matches(void **state)
{
	static const struct { const char *when, *want; } cases[] = {
		{ "{}", "xxxxxxxxxx" }, { "{\"first\": 3}", "xxx......." }, { "{\"after\": 3}", "...xxxxxxx" }, { "{\"after\": 0}", "xxxxxxxxxx" },
		{ "{\"every\": 3}", "..x..x..x." }, { "{\"after\": 2, \"first\": 3}", "..xxx....." }, { "{\"after\": 1, \"every\": 4}", "....x...x." },
		{ "{\"probability\": 0}", ".........." }, { "{\"probability\": 1}", "xxxxxxxxxx" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct faults *f = open_faults();
		char got[11] = "", text[200];

		snprintf(text, sizeof(text), "{\"id\": \"r\", \"when\": %s, \"do\": {\"errno\": \"EIO\"}}", cases[i].when);
		add(f, text);
		for (int n = 0; n < 10; n++)
			got[n] = ask(f, (struct fault_query){ .point = FAULT_READ }).did ? 'x' : '.';
		CHECK_STR(cases[i].when, got, cases[i].want);
		CHECK_INT("all ten matched", member(f, "r", "matched"), 10);
		CHECK_INT("hits are what fired", member(f, "r", "hits"), nfired);
		faults_close(f);
	}
}

static void roll(const char *rule, char *ret_got, size_t n)
{
	struct faults *f = open_faults();

	add(f, rule);
	for (size_t i = 0; i < n; i++)
		ret_got[i] = ask(f, (struct fault_query){ .point = FAULT_READ }).did ? 'x' : '.';
	ret_got[n] = '\0';
	faults_close(f);
}

static void test_a_seed_repeats_the_dice(void **state)
{
	char a[1001], b[1001], c[1001];

	roll("{\"when\": {\"probability\": 0.25, \"seed\": 42}, \"do\": {\"errno\": \"EIO\"}}", a, 1000);
	CHECK("about a quarter", nfired > 180 && nfired < 320);
	roll("{\"when\": {\"probability\": 0.25, \"seed\": 42}, \"do\": {\"errno\": \"EIO\"}}", b, 1000);
	roll("{\"when\": {\"probability\": 0.25, \"seed\": 43}, \"do\": {\"errno\": \"EIO\"}}", c, 1000);
	CHECK_STR("the same seed", a, b);
	CHECK("another seed", strcmp(a, c) != 0);
}

static void test_no_regular_expression_takes_for_ever(void **state)
{
	struct faults *f = open_faults();
	clock_t start = clock();
	char path[60] = "";

	memset(path, 'a', sizeof(path) - 1);
	add(f, "{\"match\": {\"regex\": \"^/(a+)+(a+)+(a+)+(a+)+b$\"}, \"do\": {\"errno\": \"EIO\"}}");
	CHECK_INT("it does not match", ask(f, (struct fault_query){ .point = FAULT_READ, .path = path }).error, 0);
	CHECK("and says so soon", clock() - start < CLOCKS_PER_SEC);
	faults_close(f);
}

static void test_dates_and_byte_ranges_bound_a_rule(void **state)
{
	static const struct { const char *promise, *when; struct fault_query query; bool want; } cases[] = {
		{ "before from", "{\"from\": 100}", { .point = FAULT_READ, .now_ns = 100 * S - 1 }, false },
		{ "at from", "{\"from\": 100}", { .point = FAULT_READ, .now_ns = 100 * S }, true },
		{ "before until", "{\"until\": 100}", { .point = FAULT_READ, .now_ns = 100 * S - 1 }, true },
		{ "at until", "{\"until\": 100}", { .point = FAULT_READ, .now_ns = 100 * S }, false },
		{ "from now: the rule was made at 50 s", "{\"until\": \"+0.5\"}", { .point = FAULT_READ, .now_ns = 50 * S + S / 2 - 1 }, true },
		{ "and then over", "{\"until\": \"+0.5\"}", { .point = FAULT_READ, .now_ns = 50 * S + S / 2 }, false },
		{ "touches the range", "{\"offset\": 100, \"length\": 10}", { .point = FAULT_READ, .offset_bytes = 109, .len_bytes = 1 }, true },
		{ "reaches into it", "{\"offset\": 100, \"length\": 10}", { .point = FAULT_READ, .offset_bytes = 0, .len_bytes = 101 }, true },
		{ "ends before it", "{\"offset\": 100, \"length\": 10}", { .point = FAULT_READ, .offset_bytes = 0, .len_bytes = 100 }, false },
		{ "begins after it", "{\"offset\": 100, \"length\": 10}", { .point = FAULT_READ, .offset_bytes = 110, .len_bytes = 9 }, false },
		{ "no end", "{\"offset\": 100}", { .point = FAULT_READ, .offset_bytes = INT64_C(1) << 40, .len_bytes = 9 }, true },
		{ "no start", "{\"length\": 10}", { .point = FAULT_READ, .offset_bytes = 10, .len_bytes = 9 }, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct faults *f = open_faults();
		char text[200], why[FAULT_WHY_BYTES];

		snprintf(text, sizeof(text), "{\"when\": %s, \"do\": {\"errno\": \"EIO\"}}", cases[i].when);
		assert_int_equal(add_at(f, text, 50 * S, why), 0);
		CHECK_INT(cases[i].promise, ask(f, cases[i].query).error, cases[i].want ? -EIO : 0);
		faults_close(f);
	}
}

static void test_a_rule_with_a_ttl_goes_away_by_itself(void **state)
{
	struct faults *f = open_faults();
	char why[FAULT_WHY_BYTES];
	json_t *list;

	assert_int_equal(add_at(f, "{\"id\": \"short\", \"ttl\": 10, \"do\": {\"errno\": \"EIO\"}}", 50 * S, why), 0);
	CHECK_INT("before", ask(f, (struct fault_query){ .point = FAULT_READ, .now_ns = 60 * S - 1 }).error, -EIO);
	CHECK_INT("after", ask(f, (struct fault_query){ .point = FAULT_READ, .now_ns = 60 * S }).error, 0);
	list = faults_list(f, 60 * S);
	CHECK_INT("it is gone", json_array_size(list), 0);
	json_decref(list);
	faults_close(f);
}

static void test_a_rule_fires_only_where_it_can_be_carried_out(void **state)
{
	struct faults *f = open_faults();

	add(f, "{\"id\": \"r\", \"do\": {\"flag\": \"never-set\"}}");
	CHECK_INT("no", ask(f, (struct fault_query){ .point = FAULT_READ, .can = FAULT_DO_ERRNO | FAULT_DO_DELAY }).did, 0);
	CHECK_INT("no match either", member(f, "r", "matched"), 0);
	CHECK_INT("yes", ask(f, (struct fault_query){ .point = FAULT_ARCHIVE_FLAG, .can = FAULT_DO_FLAG }).flag, FAULT_FLAG_NEVER_SET);
	CHECK_STR("and says so", last_fired, "r");
	faults_close(f);
}

static void test_several_rules_make_one_verdict(void **state)
{
	struct faults *f = open_faults();
	struct fault_verdict v;

	add(f, "{\"id\": \"a\", \"do\": {\"delay\": 1.5, \"rate\": 1000}}");
	add(f, "{\"id\": \"b\", \"do\": {\"delay\": 1, \"rate\": 500, \"errno\": \"ENODATA\"}}");
	add(f, "{\"id\": \"c\", \"do\": {\"errno\": \"EIO\", \"jitter\": 0.001}}");
	v = ask(f, (struct fault_query){ .point = FAULT_READ });
	CHECK("delays add up, with jitter", v.delay_ns >= 5 * S / 2 && v.delay_ns <= 5 * S / 2 + S / 1000);
	CHECK_INT("the slowest rate", v.rate_bytes_s, 500);
	CHECK_INT("the first errno", v.error, -ENODATA);
	CHECK_INT("all are named", v.nfired, 3);
	CHECK_INT("and counted", nfired, 3);
	faults_close(f);
}

static void test_space_ends_at_the_byte_that_was_said(void **state)
{
	struct faults *f = open_faults();

	add(f, "{\"do\": {\"enospc_at\": 100}}");
	CHECK_INT("up to it", ask(f, (struct fault_query){ .point = FAULT_WRITE, .offset_bytes = 90, .len_bytes = 10 }).did, 0);
	CHECK_INT("beyond it", ask(f, (struct fault_query){ .point = FAULT_WRITE, .offset_bytes = 91, .len_bytes = 10 }).did, FAULT_DO_ENOSPC);
	faults_close(f);
}

static void test_corruption_is_where_it_was_said(void **state)
{
	unsigned char bytes[64], again[64];
	struct fault_corrupt c = { .how = FAULT_CORRUPT_FLIP, .offset_bytes = 40, .len_bytes = 1, .size_bytes = 64 };
	unsigned changed = 0;

	memset(bytes, 7, sizeof(bytes));
	fault_corrupt_bytes(&c, 0, bytes, 40);
	CHECK_INT("not before", bytes[39], 7);
	fault_corrupt_bytes(&c, 32, bytes + 32, 32);
	CHECK("one byte", bytes[40] != 7 && bytes[39] == 7 && bytes[41] == 7);

	c = (struct fault_corrupt){ .how = FAULT_CORRUPT_FLIP, .offset_bytes = -1, .len_bytes = 3, .seed = 99, .size_bytes = 64 };
	memset(bytes, 7, sizeof(bytes));
	memset(again, 7, sizeof(again));
	fault_corrupt_bytes(&c, 0, bytes, 64);
	for (int i = 0; i < 64; i += 16)
		fault_corrupt_bytes(&c, i, again + i, 16);
	CHECK("the same bytes, in one piece or in four", memcmp(bytes, again, 64) == 0);
	for (int i = 0; i < 64; i++)
		changed += bytes[i] != 7;
	CHECK("at most three of them, at least one", changed >= 1 && changed <= 3);

	c = (struct fault_corrupt){ .how = FAULT_CORRUPT_ZERO, .offset_bytes = 10, .len_bytes = 20, .size_bytes = 64 };
	memset(bytes, 7, sizeof(bytes));
	fault_corrupt_bytes(&c, 16, bytes + 16, 32);
	CHECK("zeros within what was given", bytes[15] == 7 && bytes[16] == 0 && bytes[29] == 0 && bytes[30] == 7);
	c = (struct fault_corrupt){ .how = FAULT_CORRUPT_TRUNCATE, .offset_bytes = 10 };
	CHECK_INT("truncate", fault_corrupt_size(&c, 64), 10);
	CHECK_INT("never longer", fault_corrupt_size(&c, 5), 5);
	c = (struct fault_corrupt){ .how = FAULT_CORRUPT_TRUNCATE, .offset_bytes = -1, .len_bytes = 1 };
	CHECK_INT("one byte less", fault_corrupt_size(&c, 64), 63);
	c = (struct fault_corrupt){ .how = FAULT_CORRUPT_EXTEND, .offset_bytes = -1, .len_bytes = 5 };
	CHECK_INT("extend", fault_corrupt_size(&c, 64), 69);
}

static void test_who_hangs_is_freed_when_its_rule_goes(void **state)
{
	static const char *const ways[] = { "remove", "disable", "clear", "date" };

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct faults *f = open_faults();
		struct fault_verdict v;
		unsigned before;

		add(f, "{\"id\": \"h\", \"when\": {\"until\": 100}, \"do\": {\"hang\": \"unkillable\"}}");
		v = ask(f, (struct fault_query){ .point = FAULT_READ });
		CHECK_INT("hangs", v.hang, FAULT_HANG_UNKILLABLE);
		CHECK_INT(ways[i], faults_has_number(f, v.hang_number, 0), true);
		before = nchanged;
		if (i == 0)
			assert_int_equal(faults_remove(f, "h"), 0);
		else if (i == 1)
			assert_int_equal(change(f, "h", "{\"enabled\": false}"), 0);
		else if (i == 2)
			faults_clear(f);
		CHECK_INT(ways[i], faults_has_number(f, v.hang_number, i == 3 ? 100 * S : 0), false);
		CHECK("who hangs is told", i == 3 || nchanged == before + 1);
		if (i == 1) {
			assert_int_equal(change(f, "h", "{\"enabled\": true}"), 0);
			CHECK_INT("switched on again it hangs newcomers only", faults_has_number(f, v.hang_number, 0), false);
		}
		faults_close(f);
	}
}

static void test_rules_are_added_changed_and_removed_by_id(void **state)
{
	struct faults *f = open_faults();
	char why[FAULT_WHY_BYTES] = "";
	unsigned rules, enabled;
	uint64_t total;

	add(f, "{\"id\": \"a\", \"do\": {\"errno\": \"EIO\"}}");
	CHECK_INT("an id is used once", add_at(f, "{\"id\": \"a\", \"do\": {\"errno\": \"EIO\"}}", 0, why), -EEXIST);
	add(f, "{\"do\": {\"errno\": \"EPERM\"}}");
	add(f, "{\"do\": {\"errno\": \"EPERM\"}, \"enabled\": false}");
	(void)ask(f, (struct fault_query){ .point = FAULT_READ });
	faults_count(f, &rules, &enabled, &total);
	CHECK_INT("rules", rules, 3);
	CHECK_INT("enabled", enabled, 2);
	CHECK_INT("fired", total, 2);
	CHECK_INT("change", change(f, "a", "{\"do\": {\"errno\": \"EACCES\"}, \"note\": \"hello\"}"), 0);
	CHECK_INT("the new errno", ask(f, (struct fault_query){ .point = FAULT_READ }).error, -EACCES);
	CHECK_INT("hits go on", member(f, "a", "hits"), 2);
	CHECK_INT("hits are set to 0", change(f, "a", "{\"hits\": 0}"), 0);
	CHECK_INT("and are", member(f, "a", "hits"), 0);
	CHECK_INT("a change that is no rule", change(f, "a", "{\"do\": {}}"), -EINVAL);
	CHECK_INT("changes nothing", ask(f, (struct fault_query){ .point = FAULT_READ }).error, -EACCES);
	CHECK_INT("another id", change(f, "a", "{\"id\": \"b\"}"), -EINVAL);
	CHECK_INT("no such rule", change(f, "zz", "{}"), -ENOENT);
	CHECK_INT("remove", faults_remove(f, "a"), 0);
	CHECK_INT("once", faults_remove(f, "a"), -ENOENT);
	for (int i = 2; i < FAULT_RULES_MAX; i++)
		add(f, "{\"do\": {\"crash\": true}}");
	CHECK_INT("the bound", add_at(f, "{\"do\": {\"crash\": true}}", 0, why), -ENOSPC);
	faults_close(f);
}

static void test_a_rule_that_can_mean_nothing_is_refused_and_why_is_said(void **state)
{
	static const struct { const char *rule, *why; } cases[] = {
		{ "[]", "JSON object" }, { "{}", "'do'" }, { "{\"do\": {}}", "'do'" }, { "{\"do\": 5}", "'do'" }, { "{\"do\": {\"fly\": 1}}", "'fly'" },
		{ "{\"when\": {\"x\": 1}, \"do\": {\"crash\": true}}", "'x'" }, { "{\"colour\": 1, \"do\": {\"crash\": true}}", "'colour'" },
		{ "{\"do\": {\"crash\": false}}", "'crash'" }, { "{\"do\": {\"errno\": \"EWHAT\"}}", "'EWHAT'" }, { "{\"do\": {\"errno\": 5}}", "'errno'" },
		{ "{\"do\": {\"delay\": -1}}", "'delay'" }, { "{\"do\": {\"delay\": \"1s\"}}", "'delay'" }, { "{\"do\": {\"delay\": 1e300}}", "'delay'" },
		{ "{\"do\": {\"rate\": 0}}", "'rate'" }, { "{\"do\": {\"rate\": 1.5}}", "'rate'" },
		{ "{\"do\": {\"hang\": true}}", "killable" }, { "{\"do\": {\"flag\": \"x\"}}", "never-cleared" },
		{ "{\"do\": {\"corrupt\": {}}}", "'corrupt.how'" }, { "{\"do\": {\"corrupt\": {\"how\": \"flip\", \"length\": 99999}}}", "'corrupt.length'" },
		{ "{\"do\": {\"corrupt\": {\"how\": \"flip\", \"offset\": -1}}}", "'corrupt.offset'" }, { "{\"do\": {\"corrupt\": 5}}", "'corrupt'" },
		{ "{\"do\": {\"http_status\": 200}}", "'http_status'" }, { "{\"do\": {\"http_status\": 503.5}}", "'http_status'" },
		{ "{\"match\": {\"op\": \"fly\"}, \"do\": {\"crash\": true}}", "'fly'" }, { "{\"match\": {\"op\": []}, \"do\": {\"crash\": true}}", "'op'" },
		{ "{\"match\": {\"op\": \"[\"}, \"do\": {\"crash\": true}}", "'op'" }, { "{\"match\": {\"path\": \"a/b\"}, \"do\": {\"crash\": true}}", "'path'" },
		{ "{\"match\": {\"path\": \"/[\"}, \"do\": {\"crash\": true}}", "'path'" }, { "{\"match\": {\"path\": \"\"}, \"do\": {\"crash\": true}}", "'path'" },
		{ "{\"match\": {\"regex\": \"(\"}, \"do\": {\"crash\": true}}", "'regex'" },
		{ "{\"match\": {\"regex\": \"((a{1,9999}){1,9999}){1,9999}\"}, \"do\": {\"crash\": true}}", "'regex'" },
		{ "{\"match\": {\"regex\": \"a\", \"path\": \"b\"}, \"do\": {\"crash\": true}}", "'path'" },
		{ "{\"match\": {\"uid\": -1}, \"do\": {\"crash\": true}}", "'uid'" }, { "{\"match\": {\"comm\": \"0123456789abcdef\"}, \"do\": {\"crash\": true}}", "'comm'" },
		{ "{\"match\": {\"min_size\": 5, \"max_size\": 4}, \"do\": {\"crash\": true}}", "'min_size'" },
		{ "{\"when\": {\"probability\": 1.1}, \"do\": {\"crash\": true}}", "'probability'" }, { "{\"when\": {\"first\": 0}, \"do\": {\"crash\": true}}", "'first'" },
		{ "{\"when\": {\"until\": \"soon\"}, \"do\": {\"crash\": true}}", "'until'" }, { "{\"when\": {\"until\": \"+\"}, \"do\": {\"crash\": true}}", "'until'" },
		{ "{\"id\": \"a b\", \"do\": {\"crash\": true}}", "'id'" }, { "{\"id\": \"\", \"do\": {\"crash\": true}}", "'id'" },
		{ "{\"enabled\": 1, \"do\": {\"crash\": true}}", "'enabled'" }, { "{\"ttl\": -1, \"do\": {\"crash\": true}}", "'ttl'" },
		{ "{\"note\": \"\", \"do\": {\"crash\": true}}", "'note'" },
	};
	struct faults *f = open_faults();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char why[FAULT_WHY_BYTES] = "";

		CHECK_INT(cases[i].rule, add_at(f, cases[i].rule, 0, why), -EINVAL);
		if (!strstr(why, cases[i].why))
			fail_msg("%s: the reason does not name %s: %s", cases[i].rule, cases[i].why, why);
	}
	CHECK_INT("nobody was told of a change", nchanged, 0);
	faults_close(f);
}

static void test_what_is_listed_makes_the_same_rule_again(void **state)
{
	static const char *const rules[] = {
		"{\"id\": \"all\", \"note\": \"n\", \"enabled\": false, \"match\": {\"path\": \"/a/**/b*\", \"op\": [\"read\", \"open\"], \"phase\": \"recall.*\", "
		"\"uid\": 0, \"pid\": 5, \"comm\": \"cat\", \"copy\": \"final\", \"min_size\": 0, \"max_size\": 0}, \"when\": {\"probability\": 0.5, \"seed\": 9, "
		"\"first\": 3, \"after\": 2, \"every\": 1, \"from\": 1.5, \"until\": 99, \"offset\": 0, \"length\": 7}, \"do\": {\"errno\": \"EIO\", \"delay\": 0.25, "
		"\"jitter\": 1, \"rate\": 5, \"hang\": \"killable\", \"corrupt\": {\"how\": \"zero\", \"offset\": 4, \"length\": 9}, \"crash\": true, \"lose\": true, "
		"\"evict\": true, \"hole\": true, \"flag\": \"early\", \"replica\": \"skip\", \"enospc_at\": 0, \"total\": 0, \"free\": 5, \"size_delta\": -3, "
		"\"mtime_delta\": 4, \"blocks\": 0, \"http_status\": 503, \"rest\": \"bad-json\"}, \"ttl\": 1000}",
		"{\"id\": \"few\", \"match\": {\"regex\": \"a|b\"}, \"when\": {\"offset\": 100}, \"do\": {\"corrupt\": \"flip\"}}",
		"{\"id\": \"one\", \"do\": {\"free\": 0}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct faults *a = open_faults(), *b = open_faults();
		json_t *given = json_loads(rules[i], 0, NULL), *once, *twice;
		const char *id = json_string_value(json_object_get(given, "id")), *section, *key;
		char made[FAULT_ID_BYTES], why[FAULT_WHY_BYTES] = "";
		json_t *part, *value;

		add(a, rules[i]);
		once = faults_get(a, id, 0);
		if (faults_add(b, once, 0, made, why) < 0)
			fail_msg("%s: %s", rules[i], why);
		twice = faults_get(b, id, 0);
		CHECK(rules[i], json_equal(once, twice));
		json_object_foreach(given, section, part) {
			json_object_foreach(part, key, value) {
				json_t *shown = json_object_get(json_object_get(once, section), key);

				if (!shown)
					fail_msg("%s: '%s' is not shown", rules[i], key);
				if (json_is_integer(value) && !json_equal(value, shown))
					fail_msg("%s: '%s' is shown as something else", rules[i], key);
			}
		}
		json_decref(given);
		json_decref(once);
		json_decref(twice);
		faults_close(a);
		faults_close(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_rule_matches_what_it_names_and_nothing_else),
		cmocka_unit_test(test_a_program_is_known_by_its_name),
		cmocka_unit_test(test_when_counts_matches),
		cmocka_unit_test(test_a_seed_repeats_the_dice),
		cmocka_unit_test(test_no_regular_expression_takes_for_ever),
		cmocka_unit_test(test_dates_and_byte_ranges_bound_a_rule),
		cmocka_unit_test(test_a_rule_with_a_ttl_goes_away_by_itself),
		cmocka_unit_test(test_a_rule_fires_only_where_it_can_be_carried_out),
		cmocka_unit_test(test_several_rules_make_one_verdict),
		cmocka_unit_test(test_space_ends_at_the_byte_that_was_said),
		cmocka_unit_test(test_corruption_is_where_it_was_said),
		cmocka_unit_test(test_who_hangs_is_freed_when_its_rule_goes),
		cmocka_unit_test(test_rules_are_added_changed_and_removed_by_id),
		cmocka_unit_test(test_a_rule_that_can_mean_nothing_is_refused_and_why_is_said),
		cmocka_unit_test(test_what_is_listed_makes_the_same_rule_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
