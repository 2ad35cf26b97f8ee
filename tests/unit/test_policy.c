/* Rule files: what is read, what is refused and where, and which rule takes a file. T38, T51 of worm-semantics.md. */
#include "tests/unit/unit.h"

#include "lockstore/policy.h"
#include "lockstore/staging.h"

static struct policy *parse(const char *text)
{
	struct ini_error error;
	struct policy *policy = NULL;

	if (policy_parse("t.rules", text, strlen(text), NULL, &policy, &error) < 0)
		fail_msg("%s", error.text);
	return policy;
}

static void test_every_error_names_its_line_and_what_to_do(void **state)
{
	static const struct { const char *text, *want; } cases[] = {
		{ "path = /a\n", "t.rules:1: 'path' stands before the first section" },
		{ "[a]\nfoo = 1\n", "t.rules:2: there is no key 'foo'" },
		{ "[a]\n\n# x\nretntion = 7y\n", "t.rules:4: there is no key 'retntion'" },
		{ "[a]\nany.retention = 7y\n", "t.rules:2: there is no key 'any.retention'" },
		{ "[a]\nretention = soon\n", "t.rules:2: retention is a period" },
		{ "[a]\nretention =\n", "t.rules:2: retention has no value" },
		{ "[a]\nretention = 7y\nretention = 8y\n", "t.rules:3: retention is given twice" },
		{ "[a]\nmin = 2030-01-01\n", "t.rules:2: min is a period" },
		{ "[a]\nmin = 2y\nmax = 1y\n", "t.rules:1: rule 'a': min is longer than max" },
		{ "[a]\nmode = strict\n", "t.rules:2: mode is governance or compliance" },
		{ "[a]\nmode = compliance\nretention = 7y\nmin = 1y\n", "t.rules:1: rule 'a': mode = compliance cannot be undone" },
		{ "[a]\nmode = compliance\nretention = unspecified\nmin = 1y\nmax = 9y\n", "t.rules:1: rule 'a': mode = compliance needs a retention" },
		{ "[a]\ncommit = later\n", "t.rules:2: commit is close, idle:N" },
		{ "[a]\ncommit = idle:0\n", "t.rules:2: commit is close, idle:N" },
		{ "[a]\ncommit = idle:-1\n", "t.rules:2: commit is close, idle:N" },
		{ "[a]\ncommit = idle:315360001\n", "t.rules:2: commit is close, idle:N" },
		{ "[a]\nappend = maybe\n", "t.rules:2: append is yes or no" },
		{ "[a]\nsettle = 61\n", "t.rules:2: settle is a number of seconds" },
		{ "[a]\nsettle = 1h\n", "t.rules:2: settle is a number of seconds" },
		{ "[a]\nhold = a/b\n", "t.rules:2: 'a/b' is no name for a hold" },
		{ "[a]\nhold = x\nhold = x\n", "t.rules:3: hold 'x' is named twice" },
		{ "[a]\nstaging = a::b\n", "t.rules:2: staging is GLOB:GLOB" },
		{ "[a]\npath = x\n", "t.rules:2: path 'x': it must begin with '/'" },
		{ "[a]\npath = /[x\n", "t.rules:2: path '/[x': a '[' has no ']'" },
		{ "[a]\npath =\n", "t.rules:2: path has no value" },
		{ "[a]\nname = a/b\n", "t.rules:2: a name has no '/'" },
		{ "[a]\nsuffix = *.pdf\n", "t.rules:2: '*.pdf' is no suffix" },
		{ "[a]\nsize = big\n", "t.rules:2: size is N" },
		{ "[a]\nsize = 5-3\n", "t.rules:2: size is N" },
		{ "[a]\nsize = <0\n", "t.rules:2: size is N" },
		{ "[a]\nsize = 99999999999999999999\n", "t.rules:2: size is N" },
		{ "[a]\nsize = 18446744073709551615K\n", "t.rules:2: size is N" },
		{ "[a]\ntype = spreadsheet\n", "t.rules:2: type is document" },
		{ "[a]\nowner = no-such-user-here\n", "t.rules:2: there is no user 'no-such-user-here'" },
		{ "[a]\ngroup = no-such-group-here\n", "t.rules:2: there is no group 'no-such-group-here'" },
		{ "[a]\nxattr = class\n", "t.rules:2: xattr is NAME or NAME=GLOB" },
		{ "[a]\npath = /x\n[a]\n", "t.rules:3: there is a rule 'a' already, at line 1" },
		{ "[a]\n[b]\npath = /x\n", "t.rules:2: no file gets here: rule 'a' before it has no condition" },
		{ "[a b]\n", "t.rules:1: 'a b' is no name for a rule" },
		{ "[]\n", "t.rules:1: '' is no name for a rule" },
		{ "[a\n", "t.rules:1: the ']' of a section is missing" },
		{ "[a] path = /x\n", "t.rules:1: there is more behind the ']'" },
		{ "[a]\njust words\n", "t.rules:2: neither [SECTION] nor KEY = VALUE" },
		{ "[0123456789012345678901234567890123456789x]\n", "t.rules:1: '0123456789012345678901234567890123456789x' is no name" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ini_error error;
		struct policy *policy = NULL;
		int r = policy_parse("t.rules", cases[i].text, strlen(cases[i].text), NULL, &policy, &error);

		CHECK_INT(cases[i].want, r, -EINVAL);
		CHECK("nothing comes of a bad file", !policy);
		if (strncmp(error.text, cases[i].want, strlen(cases[i].want)) != 0)
			fail_msg("got '%s', want '%s'", error.text, cases[i].want);
	}
}

static void test_lines_that_the_parser_below_would_cut_are_refused(void **state)
{
	char text[1000] = "[a]\nname = ";
	struct ini_error error;
	struct policy *policy;

	memset(text + strlen(text), 'x', 400);
	CHECK_INT("a long line", policy_parse("f", text, strlen(text), NULL, &policy, &error), -EINVAL);
	CHECK_INT("its line", error.line, 2);
	CHECK_INT("a NUL byte", policy_parse("f", "[a]\nname = x\0y\n", 15, NULL, &policy, &error), -EINVAL);
	CHECK_INT("its line", error.line, 2);
	/* A comment may be as long as it likes, an indented line is no continuation, a mark of UTF-8 is skipped. */
	snprintf(text, sizeof(text), "\xef\xbb\xbf[a]\n#%0500d\n  suffix = pdf\n  retention = 7y ; years", 1);
	policy = parse(text);
	CHECK_INT("7y", policy_at(policy, 0)->set.retention.months, 84);
	CHECK_STR("one suffix", policy_condition(policy, 0, 0), "suffix = pdf");
	policy_put(policy);
}

static ssize_t attribute(void *arg, const char *name, void *buf, size_t size_bytes)
{
	if (arg)
		return *(int *)arg;
	if (strcmp(name, "user.class") != 0)
		return -ENODATA;
	memcpy(buf, "secret", 6);
	return 6;
}

static const char rules[] =
	"[keep-out]\npath = /finance/drafts/\ncommit = never\n"
	"[finance]\npath = /finance\nsuffix = pdf, .XLSX tar.gz\nnone.name = ~*\nretention = 7y\nhold = a\nhold = b\n"
	"[big]\nsize = >1M\nsize = 7\n"
	"[people]\nowner = 1000, 1001\nnone.group = 5\n"
	"[either]\nany.name = *.tmp\nany.path = /scratch/**\nany.size = 3-4\n"
	"[marked]\nxattr = user.class=sec*\n"
	"[media]\ntype = video image\nnone.path = /tmp\n"
	"[group]\ngroup = 77\n"
	"[exact]\nname = README\n"
	"[some]\nsize = <=10\npath = /size\n"
	"[last]\nretention = 30d\n";

static void test_T38_the_first_rule_whose_conditions_are_met_wins(void **state)
{
	static const struct { const char *path; int64_t size; unsigned uid, gid; bool marked; const char *want; } cases[] = {
		{ "finance/a.pdf", 5, 0, 0, false, "finance" },
		{ "finance/x/a.PDF", 5, 0, 0, false, "finance" },
		{ "finance/x/a.xlsx", 5, 0, 0, false, "finance" },
		{ "finance/x/a.tar.gz", 5, 0, 0, false, "finance" },
		{ "finance/x/a.gz", 5, 0, 0, false, "last" },
		{ "finance/x/.pdf", 5, 0, 0, false, "last" },
		{ "finance/~a.pdf", 5, 0, 0, false, "last" },
		{ "finance/drafts/a.pdf", 5, 0, 0, false, "keep-out" },
		{ "finance/drafts", 5, 0, 0, false, "last" },
		{ "finance1/a.pdf", 5, 0, 0, false, "last" },
		{ "x", (1 << 20) + 1, 0, 0, false, "big" },
		{ "x", 1 << 20, 0, 0, false, "last" },
		{ "x", 7, 0, 0, false, "big" },
		{ "x", 8, 1000, 0, false, "people" },
		{ "x", 8, 1001, 0, false, "people" },
		{ "x", 8, 1001, 5, false, "last" },
		{ "x", 7, 1000, 0, false, "big" },
		{ "d/x.tmp", 8, 0, 0, false, "either" },
		{ "scratch/x", 8, 0, 0, false, "either" },
		{ "x", 3, 0, 0, false, "either" },
		{ "x", 4, 0, 0, false, "either" },
		{ "x", 5, 0, 0, true, "marked" },
		{ "d/film.MP4", 5, 0, 0, false, "media" },
		{ "tmp/film.mp4", 5, 0, 0, false, "last" },
		{ "x", 5, 0, 77, false, "group" },
		{ "d/README", 5, 0, 0, false, "exact" },
		{ "d/README2", 5, 0, 0, false, "last" },
		{ "size/x", 10, 0, 0, false, "some" },
		{ "size/x", 11, 0, 0, false, "last" },
		{ "size/x", -1, 0, 0, false, "last" },		/* a size that nobody knows */
		{ NULL, 5, 0, 0, false, "last" },		/* a path that nobody knows */
		{ NULL, 5, 1000, 0, false, "people" },
		{ "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/a/b/c/d/e/f/g/h/i/"
		  "j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/README", 5, 0, 0, false, "exact" },
	};
	struct policy *policy = parse(rules);
	const struct policy_rule *rule;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_file file = { .path = cases[i].path, .has_size = cases[i].size >= 0, .size_bytes = cases[i].size,
					    .uid = cases[i].uid, .gid = cases[i].gid, .xattr = cases[i].marked ? attribute : NULL };
		char what[300], why[400];
		size_t n = 0;

		snprintf(what, sizeof(what), "case %zu, %s", i, cases[i].path);
		CHECK_INT(what, policy_match(policy, &file, &rule), 0);
		CHECK_STR(what, rule->name, cases[i].want);
		/* Who explains it says the same as who decides it. */
		for (; policy_at(policy, n) != rule; n++) {
			CHECK_INT(what, policy_why_not(policy, n, &file, why, sizeof(why)), 0);
			CHECK(what, *why);
		}
		CHECK_INT(what, policy_why_not(policy, n, &file, why, sizeof(why)), 0);
		CHECK_STR(what, why, "");
	}
	policy_put(policy);
}

/* The index may only leave out rules that do not take the file: compared with trying them all. */
static void test_the_index_finds_what_trying_every_rule_finds(void **state)
{
	static const char *const parts[] = { "path = /a", "path = /a/b/**", "path = /**/c", "name = *.x", "name = c", "suffix = x", "suffix = y.x",
					     "owner = 1", "owner = 1, 2", "group = 1", "size = >5", "any.name = c\nany.owner = 2", "none.suffix = x",
					     "type = log", "path = /a/b\npath = /q", "name = c\nname = *.log" };
	static const char *const paths[] = { "a", "a/b", "a/b/c", "c", "q/c", "a/x.x", "a/b/y.x", "z.y.x", "a/b/c/d.log", "q", "a/c.log", "b/n.X" };
	unsigned seed = 1;

	for (int round = 0; round < 200; round++) {
		char text[8000] = "";
		struct policy *policy;
		size_t n = 1 + rand_r(&seed) % 12;

		for (size_t i = 0; i < n; i++) {
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "[r%zu]\n%s\n", i, parts[rand_r(&seed) % ARRAY_SIZE(parts)]);
			if (rand_r(&seed) % 2)
				snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\n", parts[rand_r(&seed) % ARRAY_SIZE(parts)]);
		}
		policy = parse(text);
		for (int t = 0; t < 60; t++) {
			struct policy_file file = { .path = paths[rand_r(&seed) % ARRAY_SIZE(paths)], .has_size = true, .size_bytes = rand_r(&seed) % 10,
						    .uid = rand_r(&seed) % 4, .gid = rand_r(&seed) % 3 };
			const struct policy_rule *rule;
			char why[400];
			size_t i = 0;

			assert_int_equal(policy_match(policy, &file, &rule), 0);
			for (; i < policy_count(policy); i++) {
				assert_int_equal(policy_why_not(policy, i, &file, why, sizeof(why)), 0);
				if (!*why)
					break;
			}
			CHECK_STR(text, rule->name, policy_at(policy, i)->name);
		}
		policy_put(policy);
	}
}

static void test_what_a_rule_does_not_say_is_inherited(void **state)
{
	struct policy_settings base = *policy_default_settings();
	struct ini_error error;
	struct policy *policy;
	const char *text = "[a]\npath = /a\nretention = 1y\nhold =\nstaging = *.x\nstaging = *.y\ncommit = idle:60\nappend = yes\ndigest = no\nsettle = 120\npush = yes\n"
			   "[b]\npath = /b\nstaging =\n";

	base.retention = (struct retention){ .kind = RETENTION_PERIOD, .months = 24 };
	base.mode = WORM_COMPLIANCE;
	base.holds = "case-1";
	base.nholds = 1;
	assert_int_equal(policy_parse("f", text, strlen(text), &base, &policy, &error), 0);
	CHECK_INT("own retention", policy_at(policy, 0)->set.retention.months, 12);
	CHECK_INT("inherited retention", policy_at(policy, 1)->set.retention.months, 24);
	CHECK_INT("inherited mode", policy_at(policy, 0)->set.mode, WORM_COMPLIANCE);
	CHECK_INT("`hold =` is none", policy_at(policy, 0)->set.nholds, 0);
	CHECK_INT("the hold of the options", policy_at(policy, 1)->set.nholds, 1);
	CHECK_INT("idle", policy_at(policy, 0)->set.idle_s, 60);
	CHECK("append", policy_at(policy, 0)->set.append && !policy_at(policy, 1)->set.append);
	CHECK_INT("settle", policy_at(policy, 0)->set.settle_s, 120);
	CHECK_INT("and none elsewhere", policy_at(policy, 1)->set.settle_s, 0);
	CHECK("digest", !policy_at(policy, 0)->set.digest && policy_at(policy, 1)->set.digest);
	CHECK_STR("push", policy_at(policy, 0)->set.push, "yes");
	CHECK_STR("staging of two lines", policy_at(policy, 0)->set.staging_globs, "*.x:*.y");
	CHECK("no staging names", !staging_matches(policy_at(policy, 1)->set.staging, "a.part"));
	CHECK("staging names", staging_matches(policy_at(policy, 0)->set.staging, "a.y"));
	CHECK_INT("the mount options come last", policy_at(policy, policy_count(policy))->set.retention.months, 24);
	policy_put(policy);
	/* A rule cannot undo by the way what the mount promises. */
	text = "[a]\nretention = unspecified\n";
	CHECK_INT("compliance without an end", policy_parse("f", text, strlen(text), &base, &policy, &error), -EINVAL);
}

static void test_an_attribute_that_cannot_be_read_is_an_error_of_the_match(void **state)
{
	struct policy *policy = parse("[a]\nxattr = user.class\n[b]\nxattr = user.class=x\n");
	struct policy_file file = { .path = "x", .xattr = attribute };
	const struct policy_rule *rule;
	int error = -EIO;

	file.xattr_arg = &error;
	CHECK_INT("EIO", policy_match(policy, &file, &rule), -EIO);
	error = -ERANGE;	/* too long: it is there, and no pattern is compared with it */
	CHECK_INT("too long", policy_match(policy, &file, &rule), 0);
	CHECK_STR("too long", rule->name, "a");
	error = -EOPNOTSUPP;
	CHECK_INT("no attributes there", policy_match(policy, &file, &rule), 0);
	CHECK_STR("no attributes there", rule->name, "");
	policy_put(policy);
}

static void test_only_a_file_that_nobody_else_may_write_is_trusted(void **state)
{
	char *dir = temp_dir_make();
	struct ini_error error;
	struct policy *policy;

	CHECK_INT("missing", policy_open(path_in(dir, "none"), POLICY_TRUSTED, NULL, &policy, &error), -ENOENT);
	write_file(path_in(dir, "f"), "[a]\n", 4);
	CHECK_INT("0600", policy_open(path_in(dir, "f"), POLICY_TRUSTED, NULL, &policy, &error), 0);
	policy_put(policy);
	assert_int_equal(chmod(path_in(dir, "f"), 0664), 0);
	CHECK_INT("group-writable", policy_open(path_in(dir, "f"), POLICY_TRUSTED, NULL, &policy, &error), -EPERM);
	CHECK_INT("for a look only", policy_open(path_in(dir, "f"), 0, NULL, &policy, &error), 0);
	policy_put(policy);
	if (geteuid() == 0) {
		assert_int_equal(chmod(path_in(dir, "f"), 0600), 0);
		assert_int_equal(chown(path_in(dir, "f"), 1000, 0), 0);
		CHECK_INT("of another user", policy_open(path_in(dir, "f"), POLICY_TRUSTED, NULL, &policy, &error), -EPERM);
	}
	CHECK_INT("a directory", policy_open(dir, POLICY_TRUSTED, NULL, &policy, &error), -EINVAL);
	temp_dir_remove(dir);
}

static void test_a_rule_is_found_by_its_number(void **state)
{
	struct policy *policy = parse("[a]\npath=/a\n[b]\npath=/b\n[c]\n");

	policy_set_number(policy, 0, 65535);
	policy_set_number(policy, 1, 7);
	policy_set_number(policy, 2, 8);
	CHECK_STR("7", policy_by_number(policy, 7)->name, "b");
	CHECK_STR("65535", policy_by_number(policy, 65535)->name, "a");
	CHECK_STR("0: the mount options", policy_by_number(policy, 0)->name, "");
	CHECK("none", !policy_by_number(policy, 15));
	CHECK_INT("a name has the same number everywhere", policy_number_of_name("finance"), policy_number_of_name("finance"));
	CHECK("and never 0", policy_number_of_name("") > 0);
	policy_put(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_error_names_its_line_and_what_to_do),
		cmocka_unit_test(test_lines_that_the_parser_below_would_cut_are_refused),
		cmocka_unit_test(test_T38_the_first_rule_whose_conditions_are_met_wins),
		cmocka_unit_test(test_the_index_finds_what_trying_every_rule_finds),
		cmocka_unit_test(test_what_a_rule_does_not_say_is_inherited),
		cmocka_unit_test(test_an_attribute_that_cannot_be_read_is_an_error_of_the_match),
		cmocka_unit_test(test_only_a_file_that_nobody_else_may_write_is_trusted),
		cmocka_unit_test(test_a_rule_is_found_by_its_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
