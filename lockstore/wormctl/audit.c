/* audit: shows, verifies and exports the audit log of a share. Reads the files itself, with or without a daemon; one
 * that runs is only asked to write down first what it has done. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/audit.h"
#include "lockstore/audit_files.h"
#include "lockstore/control.h"
#include "lockstore/ledger.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/audit_viewer.h"
#include "lockstore/wormctl/one_share.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

struct audit_query {
	struct wormctl *ctl;
	struct one_share one;
	struct share *share;		/* of one */
	const char *since, *until;	/* as given: a period counts back from the daemon's now */
	int64_t since_s, until_s;
	bool by_uid, denied;
	uid_t uid;
	const char *event;		/* globs, ':' between them */
	const char *path;		/* at or below, relative to the share's root */

	/* verify */
	const char *file;		/* an export, instead of a share */
	uint64_t first_seq;
	struct audit_head *heads;
	size_t nheads;

	struct audit_viewer viewer;

	FILE *out;			/* export */
	uint64_t found;
	struct audit_link first, last;
};

/* ---- which share ---- */

static int fail_log(const struct audit_query *q, int r, struct failure *f)
{
	const char *where = q->file ? q->file : q->share->state_dir;

	if (r == -ENOENT && !q->file)
		return fail(f, r, "there is no audit log in %s: the share is mounted with audit=off or commit=never, or its state "
			    "is elsewhere (--state-dir DIR)", quoted(where));
	if (r == -EACCES)
		return fail(f, r, "cannot read the audit log in %s: only root or the user who mounted the share may", quoted(where));
	return fail(f, r, "cannot read the audit log in %s: %s", quoted(where), strerror(-r));
}

static int check_state_dir(const struct audit_query *q, struct failure *f)
{
	if (q->share->state_dir)
		return 0;
	return fail(f, -EACCES, "cannot find the audit log of %s: only root or the user who mounted it may read it", quoted(q->share->dir));
}

static void sync_share(struct audit_query *q)
{
	struct failure lag;

	if (share_sync(q->share, &lag) < 0)
		complain("%s", lag.text);	/* and what the log has is read all the same */
}

/* ---- which lines ---- */

/* A date, or a period back from now. */
static int64_t moment_of(const char *text, int64_t now_s)
{
	struct retention r;

	(void)retention_parse(text, &r);	/* checked when the option was read */
	return r.kind == RETENTION_PERIOD ? now_s - (retention_until(&r, now_s) - now_s) : retention_until(&r, now_s);
}

static void set_times(struct audit_query *q)
{
	int64_t now_s = share_now_s(q->share);

	q->since_s = q->since ? moment_of(q->since, now_s) : INT64_MIN;
	q->until_s = q->until ? moment_of(q->until, now_s) : INT64_MAX;
}

static bool time_matches(const struct audit_query *q, const json_t *line)
{
	struct retention at;

	if (!q->since && !q->until)
		return true;
	if (retention_parse(json_get_text(line, "clock"), &at) < 0)
		return true;	/* nobody knows when: rather shown */
	return at.seconds >= q->since_s && at.seconds < q->until_s;
}

static bool event_matches(const struct audit_query *q, const char *name)
{
	char globs[256], *glob, *save = NULL;

	if (q->denied && strncmp(name, "deny_", 5) != 0)
		return false;
	if (!q->event)
		return true;
	snprintf(globs, sizeof(globs), "%s", q->event);
	for (glob = strtok_r(globs, ":", &save); glob; glob = strtok_r(NULL, ":", &save))
		if (fnmatch(glob, name, 0) == 0)
			return true;
	return false;
}

static bool path_matches(const struct audit_query *q, const json_t *line)
{
	const char *want = q->path ? q->path : q->one.path, *path = json_get_text(line, "path");
	char *decoded = NULL;
	size_t n;
	bool same;

	if (!want || !*want)
		return true;
	if (*json_get_text(line, "path_encoded") && control_path_decode(json_get_text(line, "path_encoded"), &decoded) == 0)
		path = decoded;
	n = strlen(want);
	same = strncmp(path, want, n) == 0 && (path[n] == '\0' || path[n] == '/');
	free(decoded);
	return same;
}

static bool line_matches(const struct audit_query *q, const json_t *line)
{
	return time_matches(q, line) && event_matches(q, json_get_text(line, "event")) && path_matches(q, line) &&
	       (!q->by_uid || (json_get_int(line, "uid") == (int64_t)q->uid));
}

/* ---- show ---- */

static void print_text(const char *text)
{
	if (*text)
		print_name(stdout, text);
	else
		putchar('-');
}

static void print_line(const json_t *line)
{
	long long count = json_get_int(line, "count");

	printf("%-8lld %-20s %6lld %7lld ", (long long)json_get_int(line, "seq"), json_get_text(line, "clock"),
	       (long long)json_get_int(line, "uid"), (long long)json_get_int(line, "pid"));
	print_text(json_get_text(line, "comm"));
	putchar(' ');
	print_text(json_get_text(line, "event"));
	putchar(' ');
	print_text(json_get_text(line, "result"));
	if (count > 1)
		printf(" x%lld", count);
	putchar(' ');
	print_text(json_get_text(line, "path"));
	if (*json_get_text(line, "detail")) {
		fputs("  (", stdout);
		print_name(stdout, json_get_text(line, "detail"));
		putchar(')');
	}
	putchar('\n');
}

static int show_line(void *arg, const struct audit_at *at, const char *text, size_t len, bool whole)
{
	struct audit_query *q = arg;
	json_t *line = whole ? json_loadb(text, len, 0, NULL) : NULL;

	if (!line) {
		complain("%s line %llu: not a line of the audit log, left out; run wormctl audit verify", quoted(at->file),
			 (unsigned long long)at->line);
		return 0;
	}
	if (line_matches(q, line)) {
		q->found++;
		if (q->ctl->json)
			puts(text);
		else
			print_line(line);
	}
	json_decref(line);
	return ferror(stdout) ? -EPIPE : 0;
}

static int show(struct audit_query *q, struct failure *f)
{
	int r = check_state_dir(q, f);

	if (r < 0)
		return r;
	sync_share(q);
	set_times(q);
	if (!q->ctl->json && isatty(STDOUT_FILENO))
		printf("%-8s %-20s %6s %7s %s\n", "SEQ", "TIME", "UID", "PID", "COMMAND EVENT RESULT PATH (DETAIL)");
	r = audit_files_each(q->share->state_dir, show_line, q);
	if (r == -EPIPE)
		return 0;	/* finish_output() says it */
	return r < 0 ? fail_log(q, r, f) : 0;
}

static int view(struct audit_query *q, struct failure *f)
{
	int r = check_state_dir(q, f);

	if (r < 0)
		return r;
	sync_share(q);
	q->viewer.by_uid = q->by_uid;
	q->viewer.uid = q->uid;
	q->viewer.path = q->path ? q->path : q->one.path;
	q->viewer.json = q->ctl->json;
	r = audit_viewer_run(&q->viewer, q->share->state_dir, f);
	q->found = q->viewer.found;
	if (q->viewer.events && q->viewer.left_out)
		complain("%llu events are missing: they were overwritten or never written", (unsigned long long)q->viewer.left_out);
	return r;
}

/* ---- export ---- */

static int export_line(void *arg, const struct audit_at *at, const char *text, size_t len, bool whole)
{
	struct audit_query *q = arg;
	json_t *line = whole ? json_loadb(text, len, 0, NULL) : NULL;
	struct audit_link link;

	/* What is damaged goes along: who gets the export sees it, too. */
	if (whole && (!line || time_matches(q, line))) {
		fwrite(text, len, 1, q->out);
		putc('\n', q->out);
		if (audit_line_check(text, len, &link) == 0) {
			if (!q->found)
				q->first = link;
			q->last = link;
		}
		q->found++;
	}
	json_decref(line);
	return ferror(q->out) ? -errno : 0;
}

static int export(struct audit_query *q, const char *name, struct failure *f)
{
	bool to_stdout = strcmp(name, "-") == 0;
	int r = check_state_dir(q, f), fd;

	if (r < 0)
		return r;
	fd = to_stdout ? dup(STDOUT_FILENO) : open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	q->out = fd < 0 ? NULL : fdopen(fd, "w");
	if (!q->out)
		return fail(f, -errno, "cannot write %s: %s", quoted(name), errno == EEXIST ? "it exists already, choose another name" :
			    strerror(errno));
	sync_share(q);
	set_times(q);
	r = audit_files_each(q->share->state_dir, export_line, q);
	if (fflush(q->out) != 0 || (!to_stdout && fsync(fd) < 0))
		r = r < 0 ? r : -errno;
	fclose(q->out);
	if (r < 0)
		return fail(f, r, "cannot export the audit log to %s: %s", quoted(name), strerror(-r));
	if (!to_stdout && q->ctl->json)
		(void)print_json(json_pack("{s:I, s:I, s:I, s:s}", "lines", (json_int_t)q->found, "first", (json_int_t)q->first.seq, "last",
					   (json_int_t)q->last.seq, "hash", q->last.hash));
	else if (!to_stdout)
		printf("%llu lines, %llu to %llu, head %llu:%s\n", (unsigned long long)q->found, (unsigned long long)q->first.seq,
		       (unsigned long long)q->last.seq, (unsigned long long)q->last.seq, q->last.hash);
	return 0;
}

/* ---- verify ---- */

static int add_head(struct audit_query *q, const struct audit_head *head)
{
	struct audit_head *heads = realloc(q->heads, (q->nheads + 1) * sizeof(*heads));

	if (!heads)
		return -ENOMEM;
	q->heads = heads;
	q->heads[q->nheads++] = *head;
	return 0;
}

static int add_anchors(struct audit_query *q, const char *name)
{
	struct audit_head head;
	char line[256];
	FILE *in = fopen(name, "re");
	int r = 0;

	if (!in)
		return -errno;
	while (r == 0 && fgets(line, sizeof(line), in))
		r = audit_head_parse(line, &head) < 0 ? -EBADMSG : add_head(q, &head);
	fclose(in);
	return r;
}

/* What the ledger remembers as the last line. */
static int add_ledger_head(struct audit_query *q, struct failure *f)
{
	struct audit_head head;
	struct ledger *ledger;
	char *value;
	int r;

	r = share_ledger(q->share, LEDGER_READONLY, &ledger, f);
	if (r < 0)
		return r;
	if (ledger_meta_get(ledger, AUDIT_META_HEAD, &value) == 0) {
		if (audit_head_parse(value, &head) == 0)
			r = add_head(q, &head);
		free(value);
	}
	ledger_close(ledger);
	return r < 0 ? fail(f, r, "out of memory") : 0;
}

static const char *const kinds[] = {
	[AUDIT_NOT_A_LINE] = "not a line", [AUDIT_CHANGED] = "changed", [AUDIT_MISSING] = "missing", [AUDIT_REORDERED] = "reordered",
	[AUDIT_UNCHAINED] = "replaced", [AUDIT_CUT] = "cut", [AUDIT_TORN] = "torn",
};

static void print_finding(void *arg, enum audit_finding finding, const struct audit_at *at, uint64_t seq, const char *sentence)
{
	struct audit_query *q = arg;

	if (q->ctl->json) {
		(void)print_json(json_pack("{s:s, s:o, s:I, s:I, s:o, s:s}", "finding", kinds[finding], "file", json_text(at->file), "line",
					   (json_int_t)at->line, "offset", (json_int_t)at->offset_bytes, "seq",
					   seq ? json_integer(seq) : json_null(), "text", sentence));
		return;
	}
	print_name(stdout, at->file);
	printf(" line %llu", (unsigned long long)at->line);
	if (seq)
		printf(" (seq %llu)", (unsigned long long)seq);
	printf(": %s: %s\n", kinds[finding], sentence);
}

static int verify(struct audit_query *q, bool *ret_sound, struct failure *f)
{
	struct audit_verified v;
	struct failure why;
	int r = 0;

	if (!q->file) {
		r = check_state_dir(q, f);
		if (r < 0)
			return r;
		sync_share(q);
		r = add_ledger_head(q, &why);
		if (r < 0 && !q->nheads)
			return fail(f, r, "cannot know where the log ended: %s; or name its head: --head SEQ:HASH, --anchor FILE", why.text);
	}
	r = audit_files_verify(q->file ? q->file : q->share->state_dir, q->first_seq, q->heads, q->nheads, print_finding, q, &v);
	if (r < 0)
		return fail_log(q, r, f);
	*ret_sound = v.findings == 0;
	if (q->ctl->json)
		(void)print_json(json_pack("{s:b, s:I, s:I, s:I, s:s, s:I, s:b}", "ok", v.findings == 0, "lines", (json_int_t)v.lines, "first",
					   (json_int_t)v.first_seq, "last", (json_int_t)v.last_seq, "hash", v.last_hash, "findings",
					   (json_int_t)v.findings, "torn", v.torn));
	else
		printf("%llu lines, %llu to %llu, head %llu:%s: %s\n", (unsigned long long)v.lines, (unsigned long long)v.first_seq,
		       (unsigned long long)v.last_seq, (unsigned long long)v.last_seq, *v.last_hash ? v.last_hash : "-",
		       v.findings ? "NOT as it was written" : "as it was written");
	return 0;
}

/* ---- the command ---- */

enum { OPT_SINCE = OPT_OF_COMMAND, OPT_UNTIL, OPT_UID, OPT_PATH, OPT_EVENT, OPT_DENIED, OPT_HEAD, OPT_ANCHOR, OPT_FILE, OPT_FIRST, OPT_START, OPT_END, OPT_TYPE,
       OPT_SUCCESS, OPT_FAILURE, OPT_EVENTS };

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

static bool is_moment(const char *text)
{
	struct retention r;

	return retention_parse(text, &r) == 0 && (r.kind == RETENTION_DATE || r.kind == RETENTION_PERIOD);
}

static int take_option(struct audit_query *q, int c, char **argv)
{
	struct audit_head head;
	char *end;
	int r;

	switch (c) {
	case OPT_SINCE:
	case OPT_UNTIL:
		if (!is_moment(optarg))
			return wrong_usage(&command_audit, "%s: write a date (2030-01-01) or how long ago (2d)", quoted(optarg));
		*(c == OPT_SINCE ? &q->since : &q->until) = optarg;
		return -1;
	case OPT_UID:
		q->by_uid = true;
		return parse_uid(optarg, &q->uid) == 0 ? -1 : wrong_usage(&command_audit, "--uid %s: no such user, and no number", quoted(optarg));
	case OPT_PATH:
		q->path = optarg;
		return -1;
	case OPT_EVENT:
		q->event = optarg;
		return -1;
	case OPT_DENIED:
		q->denied = true;
		return -1;
	case OPT_HEAD:
		if (audit_head_parse(optarg, &head) < 0)
			return wrong_usage(&command_audit, "--head %s: it is SEQ:HASH, as the system's log has it", quoted(optarg));
		r = add_head(q, &head);
		return r < 0 ? wrong_usage(&command_audit, "%s", strerror(-r)) : -1;
	case OPT_ANCHOR:
		r = add_anchors(q, optarg);
		return r < 0 ? wrong_usage(&command_audit, "cannot read the anchors in %s: %s", quoted(optarg),
					   r == -EBADMSG ? "a line is not SEQ:HASH" : strerror(-r)) : -1;
	case OPT_START:
	case OPT_END:
		if (audit_viewer_moment(optarg, c == OPT_START ? &q->viewer.start_ns : &q->viewer.end_ns) < 0)
			return wrong_usage(&command_audit, "%s: write a date, UTC: '2030-01-01 12:00:00'", quoted(optarg));
		return -1;
	case OPT_TYPE:
		if (!*optarg || strlen(optarg) > AUDIT_VIEWER_TYPES_MAX)
			return wrong_usage(&command_audit, "--type %s: write protocol, config, or names and patterns", quoted(optarg));
		q->viewer.types = optarg;
		return -1;
	case OPT_SUCCESS:
		q->viewer.success = true;
		return -1;
	case OPT_FAILURE:
		q->viewer.failure = true;
		return -1;
	case OPT_EVENTS:
		q->viewer.events = true;
		return -1;
	case OPT_FILE:
		q->file = optarg;
		return -1;
	case OPT_FIRST:
		errno = 0;
		q->first_seq = strtoull(optarg, &end, 10);
		if (errno || *end || *optarg < '1' || *optarg > '9')
			return wrong_usage(&command_audit, "--first %s: it is the number of a line", quoted(optarg));
		return -1;
	}
	return common_option(q->ctl, &command_audit, c, argv);
}

static int run_what(struct audit_query *q, const char *what, int argc, char **argv, int *ret_code)
{
	bool exports = strcmp(what, "export") == 0, sound = true;
	struct failure f = { 0 };
	int r = 0;

	if (!q->file)
		r = one_share_find(&q->one, q->ctl, argc ? argv[0] : NULL, &f);
	q->share = q->one.share;
	if (r == 0 && strcmp(what, "show") == 0)
		r = show(q, &f);
	else if (r == 0 && strcmp(what, "viewer") == 0)
		r = view(q, &f);
	else if (r == 0 && exports)
		r = export(q, argv[argc], &f);
	else if (r == 0)
		r = verify(q, &sound, &f);
	if (r < 0)
		complain("%s", f.text);
	*ret_code = r < 0 ? EXIT_COULD_NOT : !sound || (strcmp(what, "verify") != 0 && !q->found) ? EXIT_NO : EXIT_YES;
	return r;
}

static int run_audit(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "since", required_argument, NULL, OPT_SINCE },
		{ "until", required_argument, NULL, OPT_UNTIL },
		{ "uid", required_argument, NULL, OPT_UID },
		{ "path", required_argument, NULL, OPT_PATH },
		{ "event", required_argument, NULL, OPT_EVENT },
		{ "denied", no_argument, NULL, OPT_DENIED },
		{ "head", required_argument, NULL, OPT_HEAD },
		{ "anchor", required_argument, NULL, OPT_ANCHOR },
		{ "file", required_argument, NULL, OPT_FILE },
		{ "first", required_argument, NULL, OPT_FIRST },
		{ "start", required_argument, NULL, OPT_START },
		{ "end", required_argument, NULL, OPT_END },
		{ "type", required_argument, NULL, OPT_TYPE },
		{ "success", no_argument, NULL, OPT_SUCCESS },
		{ "failure", no_argument, NULL, OPT_FAILURE },
		{ "events", no_argument, NULL, OPT_EVENTS },
		{ 0 },
	};
	struct audit_query q = { .ctl = ctl, .first_seq = UINT64_MAX,
				 .viewer = { .start_ns = INT64_MIN, .end_ns = INT64_MAX } };
	const char *what;
	int c, r, nargs, code = EXIT_COULD_NOT;
	bool exports;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = take_option(&q, c, argv);
		if (r >= 0) {
			free(q.heads);
			return r;
		}
	}
	what = optind < argc ? argv[optind] : "";
	exports = strcmp(what, "export") == 0;
	nargs = argc - optind - 1 - (exports ? 1 : 0);
	if (strcmp(what, "show") != 0 && strcmp(what, "viewer") != 0 && strcmp(what, "verify") != 0 && !exports)
		code = wrong_usage(&command_audit, *what ? "there is no 'audit %s'" : "show, viewer, verify or export?", what);
	else if (nargs < 0)
		code = wrong_usage(&command_audit, "export into which FILE?");
	else if (nargs > 1 || (nargs == 1 && q.file))
		code = wrong_usage(&command_audit, "one PATH at a time");
	else if (q.file && strcmp(what, "verify") != 0)
		code = wrong_usage(&command_audit, "--file goes with verify");
	else {
		if (q.first_seq == UINT64_MAX)
			q.first_seq = q.file ? 0 : 1;
		(void)run_what(&q, what, nargs, argv + optind + 1, &code);
	}
	one_share_fini(&q.one);
	free(q.heads);
	return finish_output(code);
}

const struct command command_audit = {
	.name = "audit",
	.summary = "who did, or was refused, what: show, view, verify or export the audit log",
	.help =
	"Usage: wormctl audit show [OPTION]... [PATH]\n"
	"       wormctl audit viewer [--start DATE] [--end DATE] [--type TYPES] [OPTION]... [PATH]\n"
	"       wormctl audit verify [OPTION]... [PATH]\n"
	"       wormctl audit export [--since DATE] [--until DATE] [PATH] FILE\n"
	"\n"
	"The audit log has a line for each change and each refusal, chained by hashes. With and without a\n"
	"daemon; only root, or the user who runs the daemon, may. PATH names the share; show: what happened\n"
	"at and below it. Without: the share that the working directory is in, or the one that is mounted.\n"
	"\n"
	"show prints number, time (UTC), uid, pid, command, event, result (xN: N of them), path and detail.\n"
	"      --since DATE, --until DATE\n"
	"                     2030-01-01, 2030-01-01T12:00:00Z, or how long ago: 2d\n"
	"      --uid UID      by this user, a name or a number\n"
	"      --path PATH    at and below a path from the share's root\n"
	"      --event GLOBS  deny_*:commit\n"
	"      --denied       refusals only\n"
	"      --json         the lines as they are\n"
	"\n"
	"viewer prints the same as isi_audit_viewer does: [NUMBER: DATE] and a JSON object with eventType and detailType.\n"
	"      --start DATE, --end DATE\n"
	"                     from and before this moment, UTC: '2030-01-01 12:00:00'\n"
	"      --type TYPES   protocol (files), config (the share), or types and detail types: delete:rename_*\n"
	"      --success, --failure\n"
	"                     only what was done; only what was refused or failed\n"
	"      --events       from the ring of -o events=on: each change, also of what no lock has to do with\n"
	"      --uid, --path, --json  as above; --json: the objects alone\n"
	"\n"
	"verify walks the chain through all files and names what is wrong: file, line, number, and what: a line\n"
	"changed, missing, reordered, replaced, or the end cut. 'torn' is a last line that a kill or a power cut\n"
	"left; it is no finding. Where the log ended is what the ledger remembers, and:\n"
	"      --head SEQ:HASH   a head from the system's log; may be repeated\n"
	"      --anchor FILE     the heads in the file of -o audit_anchor=FILE\n"
	"      --first SEQ       older files were moved away: it begins with this line\n"
	"      --file FILE       an export, or one file of a log, instead of a share's\n"
	"\n"
	"export copies lines into a new FILE (\"-\": standard output), which verify --file, or sha256sum and a few\n"
	"lines of any language, can check: \"hash\" is SHA-256 over the line's bytes before ,\"hash\":.\n"
	"\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Examples:\n"
	"  wormctl audit show --denied --since 1d /srv/share\n"
	"  wormctl audit show --json /srv/share/report.pdf | jq -r .event\n"
	"  wormctl audit viewer --start '2026-11-24 12:00:00' --type delete --failure /srv/share\n"
	"  wormctl audit verify /srv/share\n"
	"  wormctl audit export --since 2026-01-01 /srv/share audit-2026.jsonl\n"
	"\n"
	"Exit codes: show, viewer, export: 0 lines were found, 1 none was; verify: 0 as it was written, 1 it is not;\n"
	"2 could not.\n",
	.run = run_audit,
};
