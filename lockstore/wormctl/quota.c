/* quota: limits of wormfs's own, and whether what is kept of them is what is there. Sections come from the ledger, which a mount
 * with -o quota brings up to date when it begins; the numbers from its daemon while one runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/ledger_limits.h"
#include "lockstore/limit_count.h"
#include "lockstore/limit_json.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/subject.h"
#include "lockstore/wormctl/wormctl.h"

#define TRIES 3		/* of counting while others write */

enum { OPT_FIX = OPT_OF_COMMAND };

struct quota {
	struct wormctl *ctl;
	struct subject subject;
	struct ledger_limit *rows;
	size_t nrows;
	bool fix;
};

/* ---- what is kept ---- */

/* Of the daemon's answer, by the name that it has there. */
static int take_section(struct quota *q, const json_t *section)
{
	const char *encoded = json_get_text(section, "section_encoded"), *name = json_get_text(section, "section");

	for (size_t i = 0; i < q->nrows; i++) {
		struct limit_usage *usage = &q->rows[i].usage;
		char *text = NULL;
		bool same;

		if (*encoded && control_path_encode(q->rows[i].section.key, &text) < 0)
			return -ENOMEM;
		same = *encoded ? strcmp(text, encoded) == 0 : strcmp(q->rows[i].section.key, name) == 0;
		free(text);
		if (!same)
			continue;
		usage->used[LIMIT_BYTES] = json_get_int(json_object_get(section, "bytes"), "used");
		usage->used[LIMIT_FILES] = json_get_int(json_object_get(section, "files"), "used");
		usage->since_s[LIMIT_BYTES] = json_get_int(json_object_get(section, "bytes"), "since");
		usage->since_s[LIMIT_FILES] = json_get_int(json_object_get(section, "files"), "since");
		usage->changes = json_get_int(section, "changes");
		return 0;
	}
	return 0;	/* it is not in the ledger: a mount that has just begun */
}

static int ask_daemon(struct quota *q, struct failure *f)
{
	json_int_t from = 0;
	struct client *client;
	int r;

	r = share_client(q->subject.share, &client, f);
	while (r == 0 && from >= 0) {
		json_t *answer = NULL, *section;
		size_t i;

		r = client_call(client, json_pack("{s:s, s:I}", "verb", "quota", "from", from), NULL, NULL, &answer);
		if (r < 0)
			return fail(f, r, "cannot ask for the limits: %s", *client_error(client) ? client_error(client) : strerror(-r));
		if (!json_is_string(json_object_get(answer, "file")))
			r = fail(f, -EOPNOTSUPP, "this mount has no limits (-o quota=FILE)");
		json_array_foreach(json_object_get(answer, "sections"), i, section)
			if (r == 0 && take_section(q, section) < 0)
				r = fail(f, -ENOMEM, "out of memory");
		from = json_is_integer(json_object_get(answer, "next")) ? json_get_int(answer, "next") : -1;
		json_decref(answer);
	}
	return r;
}

static int read_rows(struct quota *q, struct failure *f)
{
	int r;

	r = ledger_limits_read(q->subject.ledger, &q->rows, &q->nrows);
	if (r < 0)
		return fail(f, r, "%s", ledger_error(q->subject.ledger));
	if (q->nrows == 0)
		return fail(f, -ENOENT, "this share was never mounted with limits (-o quota=FILE)");
	return q->subject.online ? ask_daemon(q, f) : 0;
}

/* ---- list ---- */

static void print_resource(const char *name, const struct limit_bounds *b, uint64_t used)
{
	printf(" %llu %s", (unsigned long long)used, name);
	if (!b->advisory && !b->soft && !b->hard)
		return;
	fputs(" (", stdout);
	if (b->advisory)
		printf("advisory %llu%s", (unsigned long long)b->advisory, b->soft || b->hard ? ", " : "");
	if (b->soft)
		printf("soft %llu%s", (unsigned long long)b->soft, b->hard ? ", " : "");
	if (b->hard)
		printf("hard %llu", (unsigned long long)b->hard);
	putchar(')');
}

static void print_row(const struct quota *q, const struct ledger_limit *row)
{
	char until[RETENTION_TEXT_BYTES];
	const char *state;
	int64_t until_s;

	if (q->ctl->json) {
		(void)print_json(limit_json(&row->section, &row->usage, q->subject.now_s));
		return;
	}
	state = limit_state(&row->section, &row->usage, q->subject.now_s, &until_s);
	printf("%-9s", state);
	print_resource("bytes", &row->section.bounds[LIMIT_BYTES], row->usage.used[LIMIT_BYTES]);
	putchar(',');
	print_resource("files", &row->section.bounds[LIMIT_FILES], row->usage.used[LIMIT_FILES]);
	fputs("  ", stdout);
	print_name(stdout, row->section.key);
	if (strcmp(state, "soft") == 0) {
		retention_format_until(until_s, until);
		printf(", soft until %s", until);
	}
	putchar('\n');
}

static int list(struct quota *q, bool *ret_good, struct failure *f)
{
	int64_t until_s;
	bool clean = true;
	int r = read_rows(q, f);

	if (r == 0 && !q->subject.online && ledger_limits_is_clean(q->subject.ledger, &clean) == 0 && !clean)
		complain("the last mount did not end as it should, or had no limits: these numbers may be old, wormctl quota check counts");

	for (size_t i = 0; r == 0 && i < q->nrows; i++) {
		const char *state = limit_state(&q->rows[i].section, &q->rows[i].usage, q->subject.now_s, &until_s);

		print_row(q, &q->rows[i]);
		if (strcmp(state, "over") == 0 || strcmp(state, "soft") == 0)
			*ret_good = false;
	}
	return r;
}

/* ---- check ---- */

static void print_difference(const struct quota *q, const struct ledger_limit *row, const uint64_t counted[LIMIT_RESOURCES])
{
	json_t *json;

	if (!q->ctl->json) {
		print_name(stdout, row->section.key);
		printf(": kept are %llu bytes in %llu files, there are %llu bytes in %llu files\n",
		       (unsigned long long)row->usage.used[LIMIT_BYTES], (unsigned long long)row->usage.used[LIMIT_FILES],
		       (unsigned long long)counted[LIMIT_BYTES], (unsigned long long)counted[LIMIT_FILES]);
		return;
	}
	json = limit_json(&row->section, &row->usage, q->subject.now_s);
	if (json)
		json_object_set_new(json, "counted", json_pack("{s:I, s:I}", "bytes", (json_int_t)counted[LIMIT_BYTES], "files",
							       (json_int_t)counted[LIMIT_FILES]));
	(void)print_json(json);
}

static uint64_t all_changes(const struct quota *q)
{
	uint64_t changes = 0;

	for (size_t i = 0; i < q->nrows; i++)
		changes += q->rows[i].usage.changes;
	return changes;
}

/* -EAGAIN: somebody wrote meanwhile, each time. */
static int count(struct quota *q, const struct limits *limits, struct limit_count *count, struct failure *f)
{
	uint64_t before;
	int r = 0;

	for (unsigned tries = 0; tries < TRIES; tries++) {
		before = all_changes(q);
		free(count->first_unreadable);
		count->first_unreadable = NULL;
		r = limit_count(limits, q->subject.root_fd, q->subject.ns, q->subject.key, count);
		if (r < 0)
			return fail(f, r, "cannot count: %s", strerror(-r));
		if (!q->subject.online)
			return 0;
		r = ask_daemon(q, f);
		if (r < 0 || all_changes(q) == before)
			return r;
	}
	return fail(f, -EAGAIN, "something was written while it was counted, %d times: check when it is quiet, or unmount first", TRIES);
}

static int mend(struct quota *q, struct failure *f)
{
	struct ledger *ledger = NULL;
	struct client *client;
	bool clean;
	int r;

	if (q->subject.online) {
		r = share_client(q->subject.share, &client, f);
		if (r == 0 && client_call(client, json_pack("{s:s}", "verb", "quota-recount"), NULL, NULL, NULL) < 0)
			r = fail(f, -EIO, "cannot have it counted anew: %s", client_error(client));
		return r;
	}
	r = share_ledger(q->subject.share, 0, &ledger, f);
	if (r < 0)
		return r;
	r = ledger_limits_is_clean(ledger, &clean);
	if (r == 0)
		r = ledger_limits_write(ledger, q->rows, q->nrows, true, clean);
	if (r < 0)
		fail(f, r, "%s", ledger_error(ledger));
	ledger_close(ledger);
	return r;
}

static int compare(struct quota *q, const struct limits *limits, bool *ret_good, struct failure *f)
{
	struct limit_count counted = { .used = calloc(q->nrows, sizeof(*counted.used)) };
	bool unreadable, different = false;
	int r;

	r = counted.used ? count(q, limits, &counted, f) : fail(f, -ENOMEM, "out of memory");
	unreadable = r == 0 && counted.unreadable > 0;
	for (size_t i = 0; r == 0 && i < q->nrows; i++) {
		uint64_t *used = q->rows[i].usage.used;

		if (memcmp(used, counted.used[i], sizeof(counted.used[i])) == 0)
			continue;
		print_difference(q, &q->rows[i], counted.used[i]);
		memcpy(used, counted.used[i], sizeof(counted.used[i]));
		different = true;
	}
	if (unreadable)
		r = fail(f, -counted.error, "%llu directories or files could not be counted, such as %s: %s; nothing was changed",
			 (unsigned long long)counted.unreadable, quoted(counted.first_unreadable ? counted.first_unreadable : ""),
			 strerror(-counted.error));
	if (r == 0 && different && q->fix) {
		r = mend(q, f);
		if (r == 0 && q->subject.online)
			complain("the next mount counts anew: unmount and mount again to have it right");
	}
	*ret_good = !different;
	free(counted.first_unreadable);
	free(counted.used);
	return r;
}

static int check(struct quota *q, bool *ret_good, struct failure *f)
{
	struct limit_section *sections = NULL;
	struct limits *limits = NULL;
	int lock_fd = -1, r = 0;

	if (!q->subject.online)		/* what is counted and what is written shall be of the same moment */
		r = share_keep_daemons_away(q->subject.share, &lock_fd, f);
	if (r == 0)
		r = read_rows(q, f);
	if (r == 0) {
		sections = calloc(q->nrows, sizeof(*sections));
		for (size_t i = 0; sections && i < q->nrows; i++)
			sections[i] = q->rows[i].section;
		r = sections ? limits_of_sections(sections, q->nrows, &limits) : -ENOMEM;
		if (r < 0)
			fail(f, r, "the limits in the ledger cannot be used: %s", strerror(-r));
	}
	if (r == 0 && limits_have(limits, LIMIT_RULE) && !q->subject.key)
		r = fail(f, -ENOENT, "limits of rules cannot be checked without the key of the share");
	if (r == 0)
		r = compare(q, limits, ret_good, f);
	limits_close(limits);
	free(sections);
	if (lock_fd >= 0)
		close(lock_fd);
	return r;
}

static int run_quota(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { "fix", no_argument, NULL, OPT_FIX }, { 0 } };
	struct quota q = { .ctl = ctl };
	struct shares *shares = NULL;
	struct failure f = { 0 };
	bool good = true, checks;
	const char *what;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_FIX) {
			q.fix = true;
			continue;
		}
		r = common_option(ctl, &command_quota, c, argv);
		if (r >= 0)
			return r;
	}
	what = optind < argc ? argv[optind] : "";
	checks = strcmp(what, "check") == 0;
	if (!checks && strcmp(what, "list") != 0)
		return wrong_usage(&command_quota, *what ? "there is no 'quota %s'" : "list or check?", what);
	if (q.fix && !checks)
		return wrong_usage(&command_quota, "--fix is for check");
	if (argc - optind > 2)
		return wrong_usage(&command_quota, "one PATH at a time");
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = subject_open(ctl, shares, optind + 1 < argc ? argv[optind + 1] : NULL, checks ? SUBJECT_FILES : SUBJECT_LEDGER, &q.subject, &f);
	if (r == 0)
		r = checks ? check(&q, &good, &f) : list(&q, &good, &f);
	if (r < 0)
		complain("%s", f.text[0] ? f.text : strerror(-r));
	ledger_limits_free(q.rows, q.nrows);
	subject_close(&q.subject);
	shares_close(shares);
	return finish_output(r < 0 ? EXIT_COULD_NOT : good ? EXIT_YES : EXIT_NO);
}

const struct command command_quota = {
	.name = "quota",
	.summary = "limits of wormfs's own: what is used, is it right",
	.help =
	"Usage: wormctl quota list [--json] [PATH]\n"
	"       wormctl quota check [--fix] [--json] [PATH]\n"
	"\n"
	"About the limits of a share that is, or was, mounted with -o quota=FILE. PATH names the share; without: the\n"
	"share that the working directory is in, or the one that is mounted. Only root, or the user who runs the\n"
	"daemon, may.\n"
	"\n"
	"list prints a line for each: state, bytes and files that are used, what they may be, which. States: ok;\n"
	"advisory: more than that; soft: more than soft, until grace ends; over: nothing can be added. Without a\n"
	"daemon: as it was when the share was mounted last, up to 5 seconds before its end if that was a kill.\n"
	"\n"
	"check counts the files below the mount and prints a line for each limit whose numbers are not right.\n"
	"While others write it may not come to an answer.\n"
	"\n"
	"      --fix   nothing is mounted: puts the numbers right. Else the next mount counts anew.\n"
	"      --json  one object a line: section, state, until (of grace), grace (seconds), changes, bytes and files\n"
	"              (used, advisory, soft, hard); check: counted (bytes, files)\n"
	"      --state-dir DIR\n"
	"              the state directory of the share, where the mount had -o state=DIR\n"
	"      --key FILE\n"
	"              the key of the share, where the mount had -o key=FILE (only when nothing is mounted)\n"
	"\n"
	"Examples:\n"
	"  wormctl quota list /srv/share\n"
	"  wormctl quota check --fix /srv/share\n"
	"\n"
	"Exit codes: list: 0 nothing is over soft, 1 something is; check: 0 all are right, 1 some were not (also when\n"
	"they were put right); 2 could not.\n",
	.run = run_quota,
};
