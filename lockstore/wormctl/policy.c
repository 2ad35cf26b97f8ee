/* policy: rules, before and while they are in force. Files of rules are read here, with the daemon's own parser;
 * what is in force is asked from the daemon. */
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/ledger.h"
#include "lockstore/policy_json.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/policy_diff.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

enum { OPT_AS = OPT_OF_COMMAND, OPT_SIZE, OPT_RULES, OPT_USED };

struct request {
	struct wormctl *ctl;
	const char *as, *size, *rules;
	bool used;
	struct shares *shares;		/* once somebody asked for one */
	uint64_t size_bytes;
	uid_t uid;
	gid_t gid;
};

/* ---- shares ---- */

struct only_mount {
	struct share *share;
	unsigned count;
};

static int count_mount(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	struct only_mount *only = arg;

	only->count++;
	only->share = share;
	return 0;
}

/* The share of PATH; without one the only mount there is. */
static int find_share(struct request *rq, const char *path, struct share **ret_share, struct failure *f)
{
	struct only_mount only = { 0 };
	struct place place;
	int r;

	r = rq->shares ? 0 : shares_open(rq->ctl, &rq->shares);
	if (r < 0)
		return fail(f, r, "%s", strerror(-r));
	if (path) {
		r = shares_find(rq->shares, path, true, &place, f);
		if (r < 0)
			return r;
		*ret_share = place.share;
		place_fini(&place);
		return 0;
	}
	(void)shares_each_mount(rq->shares, count_mount, &only);
	if (only.count != 1 || !only.share)
		return fail(f, -EINVAL, only.count ? "there are %u mounts of wormfs: name a PATH in one of them" : "wormfs is not mounted (%u mounts)",
			    only.count);
	*ret_share = only.share;
	return 0;
}

static int ask(struct share *share, json_t *question, json_t **ret_answer, struct failure *f)
{
	struct client *client;
	int r;

	r = share_client(share, &client, f);
	if (r < 0) {
		json_decref(question);
		return r;
	}
	r = client_call(client, question, NULL, NULL, ret_answer);
	if (r < 0)
		return fail(f, r, "%s", *client_error(client) ? client_error(client) : strerror(-r));
	return 0;
}

/* ---- check ---- */

static int open_rules(const char *path, const struct policy_settings *base, struct policy **ret_policy, int *ret_exit)
{
	struct ini_error error;
	int r;

	r = policy_open(path, 0, base, ret_policy, &error);
	if (r == 0)
		return 0;
	complain("%s", error.text);
	*ret_exit = error.line ? EXIT_NO : EXIT_COULD_NOT;
	return r;
}

static int run_check(struct request *rq, int argc, char **argv)
{
	struct ini_error error;
	struct policy *policy;
	int r;

	r = policy_open(argv[0], 0, NULL, &policy, &error);
	if (rq->ctl->json)
		(void)print_json(json_pack("{s:b, s:o, s:o, s:o}", "ok", r == 0, "rules", r == 0 ? json_integer(policy_count(policy)) : json_null(),
					   "line", r < 0 && error.line ? json_integer(error.line) : json_null(),
					   "error", r < 0 ? json_text(error.text) : json_null()));
	else if (r == 0)
		printf("%s: good, %zu rules\n", quoted(argv[0]), policy_count(policy));
	if (r < 0) {
		complain("%s", error.text);
		return finish_output(error.line ? EXIT_NO : EXIT_COULD_NOT);
	}
	policy_put(policy);
	return finish_output(EXIT_YES);
}

/* ---- test ---- */

static int parse_user(struct request *rq, struct failure *f)
{
	struct passwd *pw;
	char *end;

	rq->uid = geteuid();
	rq->gid = getegid();
	if (!rq->as)
		return 0;
	pw = getpwnam(rq->as);
	if (pw) {
		rq->uid = pw->pw_uid;
		rq->gid = pw->pw_gid;
		return 0;
	}
	errno = 0;
	rq->uid = strtoul(rq->as, &end, 10);
	if (errno || end == rq->as || *end)
		return fail(f, -EINVAL, "there is no user %s: write a name or a number", quoted(rq->as));
	pw = getpwuid(rq->uid);
	rq->gid = pw ? pw->pw_gid : rq->uid;
	return 0;
}

static int parse_size(struct request *rq, struct failure *f)
{
	static const char units[] = "KMGT";
	char *end;
	const char *unit;

	if (!rq->size)
		return 0;
	errno = 0;
	rq->size_bytes = strtoull(rq->size, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (errno || end == rq->size || rq->size[0] == '-' || (*end && (!unit || end[1])) ||
	    (unit && rq->size_bytes > (uint64_t)INT64_MAX >> 10 * (unit - units + 1)))
		return fail(f, -EINVAL, "a size is a number of bytes, or with K, M, G or T behind it, not %s", quoted(rq->size));
	if (unit)
		rq->size_bytes <<= 10 * (unit - units + 1);
	return 0;
}

/* What the mount says of itself, as far as it does; the rest are the defaults. */
static void base_of_mount(const json_t *mount, struct policy_settings *base)
{
	const char *hold = json_get_text(mount, "hold");

	*base = *policy_default_settings();
	if (!mount)
		return;
	(void)commit_trigger_parse(json_get_text(mount, "commit"), &base->commit, &base->idle_s);	/* else as it was, all four */
	(void)retention_parse(json_get_text(mount, "retention"), &base->retention);
	(void)retention_parse(json_get_text(mount, "min"), &base->min);
	(void)retention_parse(json_get_text(mount, "max"), &base->max);
	(void)worm_mode_parse(json_get_text(mount, "mode"), &base->mode);
	base->holds = *hold ? hold : NULL;
	base->nholds = *hold ? 1 : 0;
}

static ssize_t real_attribute(void *arg, const char *name, void *buf, size_t size_bytes)
{
	ssize_t n = lgetxattr(arg, name, buf, size_bytes);

	return n < 0 ? -errno : n;
}

/* With --rules: here, without the daemon. PATH counts from the share's root when it lies in no share. */
static int test_here(struct request *rq, const char *path, json_t **ret_test, int *ret_exit, struct failure *f)
{
	struct policy_file file = { .uid = rq->uid, .gid = rq->gid, .has_size = rq->size, .size_bytes = rq->size_bytes };
	struct policy_settings base;
	struct place place = { 0 };
	struct policy *policy;
	struct stat st;
	int64_t now_s = time(NULL);
	bool found;
	int r;

	r = shares_open(rq->ctl, &rq->shares);
	if (r < 0)
		return fail(f, r, "%s", strerror(-r));
	found = shares_find(rq->shares, path, true, &place, f) == 0;
	base_of_mount(found ? place.share->mount : NULL, &base);
	r = open_rules(rq->rules, &base, &policy, ret_exit);
	if (r < 0) {
		f->text[0] = '\0';	/* said already */
		goto out;
	}
	if (found && lstat(place.real, &st) == 0 && S_ISREG(st.st_mode)) {
		file.uid = rq->as ? rq->uid : st.st_uid;
		file.gid = rq->as ? rq->gid : st.st_gid;
		file.size_bytes = rq->size ? rq->size_bytes : (uint64_t)st.st_size;
		file.has_size = true;
		file.xattr = real_attribute;
		file.xattr_arg = place.real;
	}
	if (found)
		now_s = share_now_s(place.share);
	file.path = found ? place.path : path + strspn(path, "/");
	r = policy_test_json(policy, &file, now_s, ret_test);
	policy_put(policy);
	if (r < 0)
		fail(f, r, "%s", strerror(-r));
out:
	place_fini(&place);
	return r;
}

static int test_there(struct request *rq, const char *path, json_t **ret_test, struct failure *f)
{
	json_t *question, *answer = NULL;
	struct place place;
	char *encoded;
	int r;

	r = shares_open(rq->ctl, &rq->shares);
	if (r < 0)
		return fail(f, r, "%s", strerror(-r));
	r = shares_find(rq->shares, path, true, &place, f);
	if (r < 0)
		return r;
	r = control_path_encode(place.path, &encoded);
	if (r == 0) {
		struct stat st;

		question = json_pack("{s:s, s:s}", "verb", "policy-test", "path", encoded);
		if (rq->as || lstat(place.real, &st) < 0) {
			json_object_set_new(question, "uid", json_integer(rq->uid));
			json_object_set_new(question, "gid", json_integer(rq->gid));
		}
		if (rq->size)
			json_object_set_new(question, "size", json_integer(rq->size_bytes));
		free(encoded);
		r = ask(place.share, question, &answer, f);
	}
	place_fini(&place);
	if (r < 0)
		return r;
	*ret_test = json_incref(json_object_get(answer, "test"));
	json_decref(answer);
	return *ret_test ? 0 : fail(f, -EPROTO, "the daemon does not answer the question");
}

static void print_settings(const json_t *settings, const json_t *given)
{
	const char *name;
	json_t *value, *hold;
	size_t i;

	json_object_foreach((json_t *)settings, name, value) {
		bool own = !given;

		json_array_foreach(given, i, hold)
			own |= strcmp(json_string_value(hold), name) == 0;
		printf("  %-10s ", name);
		if (json_is_array(value) && json_array_size(value) == 0)
			fputs("none", stdout);
		json_array_foreach(value, i, hold) {
			fputs(i ? ", " : "", stdout);
			print_name(stdout, json_string_value(hold));
		}
		if (json_is_string(value))
			print_name(stdout, *json_string_value(value) ? json_string_value(value) : "none");
		puts(own ? "" : "  (inherited)");
	}
}

static void print_test(const char *path, const json_t *test)
{
	json_t *earlier;
	size_t i;

	json_array_foreach(json_object_get(test, "earlier"), i, earlier) {
		printf("not %-12s ", json_get_text(earlier, "rule"));
		print_name(stdout, json_get_text(earlier, "why"));
		putchar('\n');
	}
	if (json_get_int(test, "earlier_left_out"))
		printf("and %" PRId64 " more rules that do not take it\n", json_get_int(test, "earlier_left_out"));
	print_name(stdout, path);
	if (json_get_int(test, "line"))
		printf(": rule %s, line %" PRId64 "\n", json_get_text(test, "rule"), json_get_int(test, "line"));
	else
		printf(": no rule takes it, the mount options do\n");
	printf("  %s\n", json_get_text(test, "would"));
	print_settings(json_object_get(test, "settings"), NULL);
}

static int run_test(struct request *rq, int argc, char **argv)
{
	int code = EXIT_COULD_NOT, r;
	json_t *test = NULL;
	struct failure f;

	r = parse_user(rq, &f);
	if (r == 0)
		r = parse_size(rq, &f);
	if (r == 0)
		r = rq->rules ? test_here(rq, argv[0], &test, &code, &f) : test_there(rq, argv[0], &test, &f);
	if (r < 0) {
		if (f.text[0])
			complain("%s", f.text);
		return code;
	}
	if (rq->ctl->json) {
		(void)json_set_path(test, argv[0]);
		(void)print_json(test);
	} else {
		print_test(argv[0], test);
		json_decref(test);
	}
	return finish_output(EXIT_YES);
}

/* ---- show ---- */

/* How often the ledger has a rule: a tree of these, by name. */
struct use {
	char *rule;
	uint64_t files, bytes;
};

struct uses {
	void *root;
	struct use *last;	/* neighbours in the ledger mostly have the same */
	bool no_memory;
	json_t *gone;		/* rules of the ledger that are not shown */
	json_t *shown;
};

static int compare_uses(const void *a, const void *b)
{
	return strcmp(((const struct use *)a)->rule, ((const struct use *)b)->rule);
}

static int count_row(void *arg, const struct ledger_row *row)
{
	const char *name = *row->rule ? row->rule : POLICY_OF_MOUNT;
	struct uses *uses = arg;
	struct use key = { .rule = (char *)name }, **found;

	if (!uses->last || strcmp(uses->last->rule, name) != 0) {
		found = tfind(&key, &uses->root, compare_uses);
		uses->last = found ? *found : calloc(1, sizeof(*uses->last));
		if (!found && (!uses->last || !(uses->last->rule = strdup(name)) || !tsearch(uses->last, &uses->root, compare_uses)))
			return -ENOMEM;
	}
	uses->last->files++;
	uses->last->bytes += row->rec.size_bytes;
	return 0;
}

static struct uses *walked;	/* twalk(3) of POSIX takes no argument */

static void note_gone(const void *node, VISIT which, int depth)
{
	const struct use *use = *(struct use *const *)node;
	json_t *rule;
	size_t i;

	if (which != postorder && which != leaf)
		return;
	json_array_foreach(walked->shown, i, rule)
		if (strcmp(json_get_text(rule, "name"), use->rule) == 0)
			return;
	json_array_append_new(walked->gone, json_pack("{s:o, s:I, s:I}", "name", json_text(use->rule), "files", (json_int_t)use->files,
						      "bytes", (json_int_t)use->bytes));
}

static void free_use(void *node)
{
	struct use *use = node;

	free(use->rule);
	free(use);
}

/* Adds "files" and "bytes" to each rule; *ret_gone: rules that only the ledger knows any more. */
static int add_uses(struct share *share, json_t *rules, json_t **ret_gone, struct failure *f)
{
	struct uses uses = { .gone = json_array(), .shown = rules };
	struct ledger_filter all = { 0 };
	struct ledger *ledger;
	json_t *rule;
	size_t i;
	int r;

	r = share_sync(share, f);
	if (r == 0)
		r = share_ledger(share, LEDGER_READONLY, &ledger, f);
	if (r < 0)
		return r;
	r = ledger_each(ledger, &all, count_row, &uses);
	if (r < 0)
		fail(f, r, "cannot read the ledger: %s", ledger_error(ledger));
	ledger_close(ledger);
	json_array_foreach(rules, i, rule) {
		struct use key = { .rule = (char *)json_get_text(rule, "name") }, **found = tfind(&key, &uses.root, compare_uses);

		json_object_set_new(rule, "files", json_integer(found ? (*found)->files : 0));
		json_object_set_new(rule, "bytes", json_integer(found ? (*found)->bytes : 0));
	}
	walked = &uses;
	twalk(uses.root, note_gone);
	tdestroy(uses.root, free_use);
	*ret_gone = uses.gone;
	return r < 0 ? r : 0;
}

/* All pages. A reload in between shows by the number of rules; then from the start, a few times. */
static int fetch_rules(struct share *share, json_t **ret_rules, char **ret_file, struct failure *f)
{
	json_int_t from = 0, count = -1;
	json_t *rules = json_array(), *answer, *next;
	int r;

	for (;;) {
		r = ask(share, json_pack("{s:s, s:I}", "verb", "policy", "from", from), &answer, f);
		if (r < 0) {
			json_decref(rules);
			return r;
		}
		if (count >= 0 && count != json_get_int(answer, "count")) {
			json_decref(answer);
			json_decref(rules);
			return fail(f, -EAGAIN, "the rules were reloaded while they were listed: try again");
		}
		count = json_get_int(answer, "count");
		json_array_extend(rules, json_object_get(answer, "rules"));
		next = json_object_get(answer, "next");
		from = json_integer_value(next);
		if (!json_is_integer(next))
			break;
		json_decref(answer);
	}
	*ret_file = json_is_string(json_object_get(answer, "file")) ? strdup(json_get_text(answer, "file")) : NULL;
	*ret_rules = rules;
	json_decref(answer);
	return 0;
}

static json_t *rules_of_file(const struct policy *policy)
{
	json_t *rules = json_array();

	for (size_t i = 0; i <= policy_count(policy); i++)
		json_array_append_new(rules, policy_rule_json(policy, i));
	return rules;
}

static void print_rule(const json_t *rule, bool used)
{
	json_t *condition;
	size_t i;

	print_name(stdout, json_get_text(rule, "name"));
	if (json_get_int(rule, "line"))
		printf(" (line %" PRId64 ")", json_get_int(rule, "line"));
	if (used)
		printf(": %" PRId64 " files, %" PRId64 " bytes", json_get_int(rule, "files"), json_get_int(rule, "bytes"));
	putchar('\n');
	json_array_foreach(json_object_get(rule, "conditions"), i, condition) {
		fputs("  if ", stdout);
		print_name(stdout, json_string_value(condition));
		putchar('\n');
	}
	print_settings(json_object_get(rule, "settings"), json_get_int(rule, "line") ? json_object_get(rule, "given") : NULL);
}

static void print_rules(struct request *rq, json_t *rules, json_t *gone)
{
	json_t *rule;
	size_t i;

	json_array_foreach(rules, i, rule) {
		if (rq->ctl->json)
			(void)print_json(json_incref(rule));
		else
			print_rule(rule, rq->used);
	}
	json_array_foreach(gone, i, rule) {
		if (rq->ctl->json) {
			json_object_set_new(rule, "gone", json_true());
			(void)print_json(json_incref(rule));
			continue;
		}
		print_name(stdout, json_get_text(rule, "name"));
		printf(" (no longer a rule): %" PRId64 " files, %" PRId64 " bytes\n", json_get_int(rule, "files"), json_get_int(rule, "bytes"));
	}
}

static int run_show(struct request *rq, int argc, char **argv)
{
	json_t *rules = NULL, *gone = NULL;
	int code = EXIT_COULD_NOT, r = 0;
	struct policy *policy;
	struct share *share;
	char *file = NULL;
	struct failure f;

	if (rq->rules && rq->used && argc == 0)
		return wrong_usage(NULL, "--used counts the locks of a share: name a PATH in it, too");
	if (rq->rules) {
		if (open_rules(rq->rules, NULL, &policy, &code) < 0)
			return code;
		rules = rules_of_file(policy);
		policy_put(policy);
	}
	if (!rq->rules || rq->used)
		r = find_share(rq, argc ? argv[0] : NULL, &share, &f);
	if (r == 0 && !rules)
		r = fetch_rules(share, &rules, &file, &f);
	if (r == 0 && rq->used)
		r = add_uses(share, rules, &gone, &f);
	if (r == 0) {
		if (file && !rq->ctl->json)
			printf("rules of %s, in force:\n", quoted(file));
		print_rules(rq, rules, gone);
	} else {
		complain("%s", f.text);
	}
	json_decref(rules);
	json_decref(gone);
	free(file);
	return r < 0 ? EXIT_COULD_NOT : finish_output(EXIT_YES);
}

static int run_diff(struct request *rq, int argc, char **argv)
{
	struct policy *old = NULL, *new = NULL;
	int code = EXIT_COULD_NOT;

	if (open_rules(argv[0], NULL, &old, &code) == 0 && open_rules(argv[1], NULL, &new, &code) == 0)
		code = policy_diff_print(old, new, rq->ctl->json);
	else
		code = EXIT_COULD_NOT;	/* 1 means that they differ */
	policy_put(old);
	policy_put(new);
	return code;
}

/* ---- reload ---- */

static int run_reload(struct request *rq, int argc, char **argv)
{
	struct share *share;
	json_t *answer;
	struct failure f;
	int r;

	r = find_share(rq, argc ? argv[0] : NULL, &share, &f);
	if (r == 0)
		r = ask(share, json_pack("{s:s}", "verb", "policy-reload"), &answer, &f);
	if (r < 0) {
		complain("%s%s", f.text, r == -EINVAL || r == -EPERM ? "; the old rules stay in force" : "");
		return r == -EINVAL ? EXIT_NO : EXIT_COULD_NOT;
	}
	if (rq->ctl->json) {
		json_object_del(answer, "ok");
		(void)print_json(answer);
		return finish_output(EXIT_YES);
	}
	printf("%" PRId64 " rules from %s are in force; %" PRId64 " open files keep what they had\n", json_get_int(answer, "count"),
	       quoted(json_get_text(answer, "file")), json_get_int(answer, "open"));
	json_decref(answer);
	return finish_output(EXIT_YES);
}

/* ---- the command ---- */

static const struct {
	const char *name;
	int min, max;
	const char *arguments;
	int (*run)(struct request *rq, int argc, char **argv);
} verbs[] = {
	{ "check", 1, 1, "FILE", run_check },
	{ "test", 1, 1, "PATH", run_test },
	{ "show", 0, 1, "[PATH]", run_show },
	{ "diff", 2, 2, "OLD NEW", run_diff },
	{ "reload", 0, 1, "[PATH]", run_reload },
};

static int run_policy(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "as", required_argument, NULL, OPT_AS },
		{ "size", required_argument, NULL, OPT_SIZE },
		{ "rules", required_argument, NULL, OPT_RULES },
		{ "used", no_argument, NULL, OPT_USED },
		{ 0 },
	};
	struct request rq = { .ctl = ctl };
	int c, r = -1;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_AS: rq.as = optarg; break;
		case OPT_SIZE: rq.size = optarg; break;
		case OPT_RULES: rq.rules = optarg; break;
		case OPT_USED: rq.used = true; break;
		default:
			r = common_option(ctl, &command_policy, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (optind == argc)
		return wrong_usage(&command_policy, "which? check, test, show, diff or reload");
	argc -= optind + 1;
	argv += optind + 1;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, argv[-1]) != 0)
			continue;
		if (argc < verbs[i].min || argc > verbs[i].max)
			return wrong_usage(&command_policy, "policy %s takes %s", verbs[i].name, verbs[i].arguments);
		r = verbs[i].run(&rq, argc, argv);
		shares_close(rq.shares);
		return r;
	}
	return wrong_usage(&command_policy, "there is no policy %s: check, test, show, diff or reload", quoted(argv[-1]));
}

const struct command command_policy = {
	.name = "policy",
	.summary = "check, test, show, compare and reload the rules",
	.help =
	"Usage: wormctl policy check FILE\n"
	"       wormctl policy test [--as USER] [--size N] [--rules FILE] PATH\n"
	"       wormctl policy show [--used] [--rules FILE] [PATH]\n"
	"       wormctl policy diff OLD NEW\n"
	"       wormctl policy reload [PATH]\n"
	"\n"
	"check   Is FILE good as wormfs -o rules=FILE? The first error is named with its line.\n"
	"test    Which rule takes the file PATH, why those before it do not, and what would happen if it were\n"
	"        written now. Nothing is done, and PATH need not exist.\n"
	"show    The rules in force at the share of PATH, with what they inherit, the mount options last;\n"
	"        without PATH: at the only mount.\n"
	"diff    What differs between two files: rules, their conditions, what is in force by them, their order.\n"
	"reload  The daemon reads its file again, as on SIGHUP: all of it or nothing. Locks that are there never\n"
	"        change, files that are open keep what they had.\n"
	"\n"
	"      --as USER      the file belongs to this user (name or number) and his group\n"
	"      --size N       and has N bytes when it is locked; also 64K, 1M, 2G\n"
	"      --rules FILE   these rules instead of those in force\n"
	"      --used         how many locked files and bytes of the ledger each rule has, with rules that are gone\n"
	"      --json         JSON, one object a line: show: a rule a line; the others: one object\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"test, show and reload ask the daemon: only root, or the user who runs it, may. See wormfs.rules(5).\n"
	"\n"
	"Examples:\n"
	"  wormctl policy check /etc/wormfs/share.rules && wormctl policy reload /srv/share\n"
	"  wormctl policy test --as alice --size 1M /srv/share/finance/2026/report.pdf\n"
	"\n"
	"Exit codes: 0 good, the same, done; 1 the file has an error (check, reload), they differ (diff); 2 could not.\n",
	.run = run_policy,
};
