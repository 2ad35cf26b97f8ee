/* list: rows of the ledger, one at a time, however many there are. Reads the ledger itself; a daemon that
 * runs is only asked to write down first what it has done. */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/ledger.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/mounts.h"
#include "lockstore/wormctl/offline.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

#define OUTPUT_BUFFER_BYTES (1 << 16)
#define RULE_OF_MOUNT "mount options"	/* how a row without a rule is shown, as in user.worm.rule */

struct list {
	struct wormctl *ctl;
	struct ledger_filter filter;
	const char *expires_before;	/* as given: a period counts from the daemon's now */
	bool count_only, nul, header;
	uint64_t found;

	/* of the path that is listed now */
	const char *shown;		/* what its rows are shown under */
	size_t prefix_len;		/* of the row's path, that `shown` stands for */
	struct share *share;
	json_t *share_name;		/* of its root directory, or null */
	struct ledger *ledger;
};

/* The file's own count may be ahead of the names: holds that another gateway placed. */
static unsigned hold_count(const struct ledger_row *row)
{
	return row->holds > row->rec.holds ? row->holds : row->rec.holds;
}

static const char *state_name(const struct list *list, const struct ledger_row *row)
{
	struct lock_record rec = row->rec;

	rec.holds = hold_count(row) > UINT16_MAX ? UINT16_MAX : hold_count(row);
	return record_state_name(&rec, list->filter.now_s);
}

/* The row's path as the user would write it. The caller frees it. */
static char *shown_path(const struct list *list, const char *path)
{
	path += list->prefix_len;
	return path_join(list->shown, path + strspn(path, "/"));
}

static void print_row(const struct list *list, const struct ledger_row *row, const char *path)
{
	char until[RETENTION_TEXT_BYTES], committed[RETENTION_TEXT_BYTES];

	retention_format_until(row->rec.until_s, until);
	retention_format_until(row->rec.committed_s, committed);
	printf("%-10s %-20s %-10s %5u %14llu %-20s ", state_name(list, row), until,
	       worm_mode_name(row->rec.mode), hold_count(row), (unsigned long long)row->rec.size_bytes, committed);
	if (name_is_plain(row->rule))
		printf("%-12s ", *row->rule ? row->rule : "-");
	else
		printf("%s ", quoted(row->rule));
	print_name(stdout, path);
	putchar('\n');
}

static int on_hold(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	json_array_append_new(arg, json_text(case_name));
	return 0;
}

static json_t *holds_of(struct list *list, const struct ledger_row *row)
{
	json_t *holds = json_array();

	if (row->holds)
		(void)ledger_holds(list->ledger, &row->key, on_hold, holds);	/* fewer names: "hold_count" says it */
	return holds;
}

/* A record for programs: the path as ledger and daemon know it, and the directory that it counts from. */
static int print_row_json(struct list *list, const struct ledger_row *row)
{
	char until[RETENTION_TEXT_BYTES], committed[RETENTION_TEXT_BYTES], digest[65];
	json_t *object = json_object();

	if (!object || json_set_path(object, row->path) < 0) {
		json_decref(object);
		return -ENOMEM;
	}
	json_object_set_nocheck(object, "share", list->share_name);
	retention_format_until(row->rec.until_s, until);
	retention_format_until(row->rec.committed_s, committed);
	json_object_set_new_nocheck(object, "state", json_string(state_name(list, row)));
	json_object_set_new_nocheck(object, "until", json_string(until));
	json_object_set_new_nocheck(object, "mode", json_string(worm_mode_name(row->rec.mode)));
	json_object_set_new_nocheck(object, "holds", holds_of(list, row));
	json_object_set_new_nocheck(object, "hold_count", json_integer(hold_count(row)));
	json_object_set_new_nocheck(object, "size", json_integer(row->rec.size_bytes));
	json_object_set_new_nocheck(object, "committed", json_string(committed));
	json_object_set_new_nocheck(object, "rule", json_text(*row->rule ? row->rule : RULE_OF_MOUNT));
	json_object_set_new_nocheck(object, "serial", json_integer(row->rec.serial));
	json_object_set_new_nocheck(object, "uid", json_integer(row->uid));
	json_object_set_new_nocheck(object, "gid", json_integer(row->gid));
	if (row->sha256) {
		for (int i = 0; i < 32; i++)
			sprintf(digest + 2 * i, "%02x", row->sha256[i]);
		json_object_set_new_nocheck(object, "sha256", json_string(digest));
	} else {
		json_object_set_new_nocheck(object, "sha256", json_null());
	}
	return print_json(object);
}

static void print_header(struct list *list)
{
	if (list->header)
		printf("%-10s %-20s %-10s %5s %14s %-20s %-12s %s\n", "STATE", "UNTIL", "MODE", "HOLDS", "SIZE", "COMMITTED",
		       "RULE", "PATH");
	list->header = false;
}

static int on_row(void *arg, const struct ledger_row *row)
{
	struct list *list = arg;
	char *path;
	int r;

	list->found++;
	if (list->ctl->json) {
		r = print_row_json(list, row);
		return r < 0 ? r : ferror(stdout) ? -EPIPE : 0;
	}
	path = shown_path(list, row->path);
	if (!path)
		return -ENOMEM;
	if (list->nul) {
		fwrite(path, strlen(path) + 1, 1, stdout);
	} else {
		print_header(list);
		print_row(list, row, path);
	}
	free(path);
	return ferror(stdout) ? -EPIPE : 0;
}

/* The date or period against the daemon's clock, so that it means what `extend` means. */
static void set_expiry(struct list *list, int64_t now_s)
{
	struct retention before;

	list->filter.now_s = now_s;
	if (!list->expires_before)
		return;
	(void)retention_parse(list->expires_before, &before);	/* checked when the option was read */
	list->filter.by_expiry = true;
	list->filter.expires_before_s = retention_until(&before, now_s);
}

/* Where the paths of the ledger begin: with a bind mount of a part of it, not where we look from. */
static json_t *name_of(const struct share *share)
{
	const char *root = *share->inside ? json_get_text(share->mount, "mountpoint") : share->dir;

	return *root ? json_text(root) : json_null();
}

static int list_ledger(struct list *list, struct failure *f)
{
	struct failure lag;
	uint64_t count;
	int r;

	r = share_ledger(list->share, LEDGER_READONLY, &list->ledger, f);
	if (r < 0)
		return r;
	if (share_sync(list->share, &lag) < 0)
		complain("%s", lag.text);	/* and what the ledger has is listed all the same */
	set_expiry(list, share_now_s(list->share));
	list->share_name = name_of(list->share);
	if (list->count_only) {
		r = ledger_count(list->ledger, &list->filter, &count);
		if (r == 0)
			list->found += count;
	} else {
		r = ledger_each(list->ledger, &list->filter, on_row, list);
	}
	if (r == -EPIPE)
		r = 0;	/* finish_output() says it */
	if (r < 0)
		fail(f, r, "cannot read the ledger of %s: %s", quoted(list->share->dir), r == -ENOMEM ? strerror(ENOMEM) :
		     ledger_error(list->ledger));
	json_decref(list->share_name);
	ledger_close(list->ledger);
	return r;
}

static int list_place(struct list *list, const char *shown, const struct place *place, struct failure *f)
{
	list->share = place->share;
	list->shown = shown;
	list->filter.prefix = place->path;
	list->prefix_len = strlen(place->path);
	return list_ledger(list, f);
}

/* A share without a path: everything that its mount shows. */
static int list_mount(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	struct list *list = arg;
	struct place place = { .share = share };
	struct failure why;
	int r;

	if (!share) {
		complain("%s", f->text);
		return -EIO;
	}
	place.path = share->inside;
	r = list_place(list, share->dir, &place, &why);
	if (r < 0)
		complain("%s", why.text);
	return r;
}

static int list_path(struct list *list, struct shares *shares, const char *path)
{
	struct place place;
	struct failure f;
	int r;

	r = shares_find(shares, path, true, &place, &f);
	if (r == 0) {
		r = list_place(list, path, &place, &f);
		place_fini(&place);
	}
	if (r < 0)
		complain("%s", f.text);
	return r;
}

static int count_mount(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	unsigned *count = arg;

	(*count)++;
	return 0;
}

/* Without a PATH: the share that the working directory is in, or else every share that is mounted. */
static int list_default(struct list *list, struct shares *shares)
{
	char *here = getcwd(NULL, 0);
	struct share given = { 0 };
	struct place place;
	unsigned mounted = 0;
	struct failure f;
	int r;

	if (here && shares_find(shares, here, false, &place, &f) == 0) {
		r = list_place(list, place.share->dir, &(struct place){ .share = place.share, .path = place.share->inside }, &f);
		place_fini(&place);
		if (r < 0)
			complain("%s", f.text);
		goto out;
	}
	if (list->ctl->state_dir) {
		given = (struct share){ .dir = (char *)"", .inside = (char *)"", .id = (char *)"", .client_error = 1,
					.state_dir = (char *)list->ctl->state_dir, .state_dir_given = true };
		r = list_place(list, "", &(struct place){ .share = &given, .path = given.inside }, &f);
		client_close(given.client);
		if (r < 0)
			complain("%s", f.text);
		goto out;
	}
	(void)shares_each_mount(shares, count_mount, &mounted);
	if (!mounted) {
		complain("nothing is mounted: name a share, or its state directory with --state-dir DIR");
		r = -ENOENT;
		goto out;
	}
	r = shares_each_mount(shares, list_mount, list);
out:
	free(here);
	return r;
}

static int parse_state(const char *text, int *ret_state)
{
	static const struct { const char *name; int state; } states[] = {
		{ "retained", LEDGER_RETAINED }, { "expired", LEDGER_EXPIRED }, { "held", LEDGER_HELD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		if (strcmp(text, states[i].name) != 0)
			continue;
		*ret_state = states[i].state;
		return 0;
	}
	return -EINVAL;
}

static int parse_uid(const char *text, uid_t *ret_uid)
{
	const struct passwd *pw = getpwnam(text);
	unsigned long uid;
	char *end;

	if (pw) {
		*ret_uid = pw->pw_uid;
		return 0;
	}
	errno = 0;
	uid = strtoul(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || uid >= (uid_t)-1)
		return -EINVAL;
	*ret_uid = uid;
	return 0;
}

enum { OPT_STATE = OPT_OF_COMMAND, OPT_HOLD, OPT_UID, OPT_EXPIRES, OPT_RULE, OPT_COUNT, OPT_HEADER };

static int parse_options(struct list *list, int argc, char **argv, bool *ret_header)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "state", required_argument, NULL, OPT_STATE },
		{ "hold", required_argument, NULL, OPT_HOLD },
		{ "uid", required_argument, NULL, OPT_UID },
		{ "expires-before", required_argument, NULL, OPT_EXPIRES },
		{ "rule", required_argument, NULL, OPT_RULE },
		{ "count", no_argument, NULL, OPT_COUNT },
		{ "header", no_argument, NULL, OPT_HEADER },
		{ "null", no_argument, NULL, '0' },
		{ 0 },
	};
	struct retention before;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h0", options, NULL)) != -1) {
		switch (c) {
		case OPT_STATE:
			if (parse_state(optarg, &list->filter.state) < 0)
				return wrong_usage(&command_list, "--state %s: it is retained, expired or held", quoted(optarg));
			break;
		case OPT_HOLD:
			list->filter.hold = optarg;
			break;
		case OPT_UID:
			if (parse_uid(optarg, &list->filter.uid) < 0)
				return wrong_usage(&command_list, "--uid %s: no such user, and no number", quoted(optarg));
			list->filter.by_uid = true;
			break;
		case OPT_EXPIRES:
			if (retention_parse(optarg, &before) < 0 ||
			    (before.kind != RETENTION_DATE && before.kind != RETENTION_PERIOD))
				return wrong_usage(&command_list, "--expires-before %s: write a date (2030-01-01) or a period "
						   "from now (90d)", quoted(optarg));
			list->expires_before = optarg;
			break;
		case OPT_RULE:
			list->filter.rule = strcmp(optarg, RULE_OF_MOUNT) == 0 || strcmp(optarg, "-") == 0 ? "" : optarg;
			break;
		case OPT_COUNT:
			list->count_only = true;
			break;
		case OPT_HEADER:
			*ret_header = true;
			break;
		case '0':
			list->nul = true;
			break;
		default:
			r = common_option(list->ctl, &command_list, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (list->nul && (list->ctl->json || list->count_only))
		return wrong_usage(&command_list, "-0 prints names only: it goes with neither --json nor --count");
	return -1;
}

static int run_list(struct wormctl *ctl, int argc, char **argv)
{
	struct list list = { .ctl = ctl };
	struct shares *shares;
	bool header = isatty(STDOUT_FILENO);
	int r;

	r = parse_options(&list, argc, argv, &header);
	if (r >= 0)
		return r;
	list.header = header;
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	(void)setvbuf(stdout, NULL, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, OUTPUT_BUFFER_BYTES);
	argc -= optind;
	argv += optind;
	r = argc ? 0 : list_default(&list, shares);
	for (int i = 0; i < argc; i++)
		if (list_path(&list, shares, argv[i]) < 0)
			r = -EIO;
	shares_close(shares);
	if (list.count_only && r == 0 && ctl->json)
		(void)print_json(json_pack("{s:I}", "count", (json_int_t)list.found));
	else if (list.count_only && r == 0)
		printf("%llu\n", (unsigned long long)list.found);
	return finish_output(r < 0 ? EXIT_COULD_NOT : list.found ? EXIT_YES : EXIT_NO);
}

const struct command command_list = {
	.name = "list",
	.summary = "list locked files",
	.help =
	"Usage: wormctl list [OPTION]... [PATH]...\n"
	"\n"
	"Lists the locked files at and below each PATH, in the order of their names, from the ledger: also\n"
	"with nothing mounted, and also what is not there any more. Without PATH: the share that the\n"
	"working directory is in, or else every share that is mounted. Only root, or the user who runs\n"
	"the daemon, may read the ledger.\n"
	"\n"
	"      --state STATE  retained: the end of retention is ahead, infinite or unspecified\n"
	"                     expired:  it has passed, and there is no hold\n"
	"                     held:     under a legal hold\n"
	"      --hold CASE    under this legal hold\n"
	"      --uid UID      owned by this user, a name or a number, when it was locked\n"
	"      --expires-before DATE\n"
	"                     until a date earlier than 2030-01-01 (UTC), or 90d (from now)\n"
	"      --rule NAME    locked by this rule; \"-\" is the mount's options\n"
	"      --json         one JSON object a line: path (from the share's root), share (the root),\n"
	"                     state, until, mode, holds (names), hold_count, size, committed, rule,\n"
	"                     serial, uid, gid, sha256; and path_encoded (bytes as %XX) where the path\n"
	"                     is not UTF-8\n"
	"      --count        only the number of files\n"
	"  -0, --null         only the names, as they are, each ended by NUL: for xargs -0 and\n"
	"                     wormctl hold --files-from - -0\n"
	"      --header       column names also when the output is no terminal\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Columns: state, until (UTC), mode, number of holds, size in bytes, when it was locked (UTC), rule,\n"
	"path. The path is the rest of the line; what cannot be printed in it is written \\n, \\xNN, and a\n"
	"backslash \\\\.\n"
	"\n"
	"Examples:\n"
	"  wormctl list /srv/share\n"
	"  wormctl list --state expired --count\n"
	"  wormctl list --expires-before 90d --json /srv/share | jq -r .path\n"
	"\n"
	"Exit codes: 0 files were found, 1 none was, 2 could not look.\n",
	.run = run_list,
};
