/* watch-upstream: a process that locks what reaches a directory of a cluster by another door. Its locks are lines on stdout (or in
 * --output), its troubles lines on stderr, both bounded. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/retention.h"
#include "lockstore/upstream/settling.h"
#include "lockstore/upstream/watcher.h"
#include "lockstore/wormctl/cluster.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

#define LINES_A_MINUTE 20	/* about files that could not be locked; the rest is counted */
#define SETTLE_MAX_S (30 * 86400)
#define FILES_MIN 4

struct watch {
	struct wormctl *ctl;
	struct cluster cluster;
	struct watcher_config config;
	const char *output, *id;
	char *directory;	/* owned, when it was asked for by id */
	bool verbose;
	FILE *out;
	time_t minute;
	unsigned lines, unsaid;
	bool was_down;
	int out_error;
};

static atomic_bool stop_asked;
static atomic_bool reopen_asked;

static void on_stop(int signal_number)
{
	atomic_store(&stop_asked, true);
}

static void on_reopen(int signal_number)
{
	atomic_store(&reopen_asked, true);
}

/* ---- what is told ---- */

static int open_output(struct watch *w, struct failure *f)
{
	FILE *out;

	if (!w->output)
		return 0;
	out = fopen(w->output, "ae");
	if (!out)
		return fail(f, -errno, "cannot write to %s: %s", quoted(w->output), strerror(errno));
	setvbuf(out, NULL, _IOLBF, 0);
	if (w->out != stdout)
		fclose(w->out);
	w->out = out;
	return 0;
}

static void reopen_output(struct watch *w)
{
	struct failure f;

	if (atomic_exchange(&reopen_asked, false) && open_output(w, &f) < 0)
		complain("%s; going on with the old one", f.text);
}

/* The lock is set, its line is not: said once, and at the end. */
static void note_loss(struct watch *w, int error)
{
	if (!w->out_error)
		complain("cannot write down that a file was locked: %s", strerror(error));
	w->out_error = error;
}

static const char *now_text(char text[RETENTION_TEXT_BYTES])
{
	retention_format_until(time(NULL), text);
	return text;
}

static void tell_lock(struct watch *w, const char *word, const struct watcher_news *news)
{
	char now[RETENTION_TEXT_BYTES], until[RETENTION_TEXT_BYTES];
	const struct upstream_lock *lock = news->lock;
	json_t *json;
	char *text;

	reopen_output(w);
	now_text(now);
	if (lock->has_until)
		retention_format_until(lock->until_s, until);
	if (w->ctl->json) {
		json = json_pack("{s:s,s:s,s:s,s:o,s:o,s:b}", "at", now, "event", word, "directory", w->config.directory, "path", json_text(news->path),
				 "until", lock->has_until ? json_string(until) : json_null(), "hold", lock->hold);
		text = json ? json_dumps(json, JSON_COMPACT) : NULL;
		if (!text || fprintf(w->out, "%s\n", text) < 0 || fflush(w->out) != 0)
			note_loss(w, text ? errno : ENOMEM);
		free(text);
		json_decref(json);
		return;
	}
	fprintf(w->out, "%s %s ", now, word);
	print_name(w->out, w->config.directory);
	fputs(strcmp(w->config.directory, "/") == 0 ? "" : "/", w->out);
	print_name(w->out, news->path);
	if (lock->has_until)
		fprintf(w->out, " until %s", until);
	if (fprintf(w->out, "%s\n", lock->hold ? " legal hold" : "") < 0 || fflush(w->out) != 0)
		note_loss(w, errno);
}

/* A cluster that refuses every file fills no disk with lines. */
static bool may_say(struct watch *w)
{
	time_t minute = time(NULL) / 60;

	if (minute != w->minute) {
		if (w->unsaid)
			complain("%u more such lines were left out", w->unsaid);
		w->minute = minute;
		w->lines = w->unsaid = 0;
	}
	if (w->lines++ < LINES_A_MINUTE)
		return true;
	w->unsaid++;
	return false;
}

static void on_news(void *arg, const struct watcher_news *news)
{
	struct watch *w = arg;

	switch (news->event) {
	case WATCHER_LOCKED:
		tell_lock(w, "locked", news);
		break;
	case WATCHER_WOULD_LOCK:
		tell_lock(w, "would-lock", news);
		break;
	case WATCHER_FAILED:
		if (may_say(w))
			complain("cannot lock %s: %s, retrying in %u s", quoted(news->path), news->why, news->retry_s);
		break;
	case WATCHER_UP:
		complain(w->was_down ? "the cluster tells of changes again; looking for what was missed" : "watching");
		w->was_down = false;
		break;
	case WATCHER_DOWN:
		w->was_down = true;
		complain("the stream of changes has ended: %s, connecting again in %u s", news->why, news->retry_s);
		break;
	case WATCHER_TROUBLE:
		complain("the cluster takes no locks now: %s, retrying in %u s", news->why, news->retry_s);
		break;
	case WATCHER_SCANNED:
		if (w->verbose)
			complain("looked through the tree: %" PRIu64 " files", news->files);
		break;
	case WATCHER_UNREADABLE:
		if (may_say(w))
			complain("cannot read the directory %s: %s; what is in it is not locked", quoted(news->path), news->why);
		break;
	case WATCHER_OVERFLOW:
		complain("more files wait than the table holds; the rest is looked for when it has room");
		break;
	}
}

/* ---- the start ---- */

/* By number: the name that it has now. */
static int find_directory(struct watch *w, struct failure *f)
{
	struct upstream_reply reply = { .status = 0 };
	const char *id = w->id;
	struct qumulo_call call;
	int r;

	if (!id) {
		if (!w->cluster.root_path)
			return fail(f, -EINVAL, "which directory? name one, or its number with --id");
		w->config.directory = w->cluster.root_path;
		return 0;
	}
	r = qumulo_wait(w->cluster.qumulo, &call, qumulo_resolve(w->cluster.qumulo, &call, &id, 1), &reply);
	if (r < 0)
		return fail(f, r, "cannot ask the cluster: %s", strerror(-r));
	if (reply.outcome != UPSTREAM_DONE || !reply.nentries || !reply.entries[0].path) {
		r = fail(f, -ENOENT, "the cluster has no name for number %s: %s", quoted(id), *reply.text ? reply.text : reply.error_class);
	} else {
		size_t len = strlen(reply.entries[0].path);

		while (len > 1 && reply.entries[0].path[len - 1] == '/')
			len--;
		w->directory = strndup(reply.entries[0].path, len);
		w->config.directory = w->directory;
		r = w->directory ? 0 : fail(f, -ENOMEM, "out of memory");
		if (r == 0 && endpoint_check_root(w->directory) < 0)
			r = fail(f, -EINVAL, "the cluster names it %s, which is no path", quoted(w->directory));
	}
	upstream_reply_fini(&reply);
	return r;
}

/* What would keep every lock from being taken is said before anything is watched. */
static int check_first(struct watch *w, struct failure *f)
{
	struct upstream_check check = { .endpoint = &w->cluster.endpoint, .ca_file = w->cluster.ca_file, .insecure = w->cluster.is_insecure,
					.root = w->config.directory };
	int r = upstream_check_run(w->cluster.qumulo, &check);

	if (r < 0)
		return fail(f, r, "cannot ask the cluster: %s", strerror(-r));
	for (int i = 0; i < UPSTREAM_CHECKS; i++) {
		const struct upstream_finding *finding = &check.findings[i];

		if (finding->state == UPSTREAM_CHECK_FAILED || (i == UPSTREAM_CHECK_CONNECTION && finding->state == UPSTREAM_CHECK_UNKNOWN))
			return fail(f, -EACCES, "%s; %s", finding->what, finding->todo);
		if (finding->state == UPSTREAM_CHECK_WARNING)
			complain("warning: %s; %s", finding->what, finding->todo);
	}
	return 0;
}

static void say_what_comes(const struct watch *w)
{
	char retention[RETENTION_TEXT_BYTES] = "", since[RETENTION_TEXT_BYTES];
	const struct watcher_config *c = &w->config;

	if (c->has_retention)
		retention_format(&c->retention, retention, sizeof(retention));
	if (c->since_s != INT64_MIN)
		retention_format_until(c->since_s, since);
	complain("%s%s on %s: what is not locked there and has been still for %u s gets %s%s%s%s%s%s", quoted(c->directory),
		 c->recursive ? " and everything below it" : "", w->cluster.endpoint.url, c->settle_s,
		 c->has_retention ? c->retention.kind == RETENTION_DATE ? "a retention until " : "a retention of " : "", retention,
		 c->has_retention && c->hold ? " and " : "", c->hold ? "a legal hold" : "",
		 c->since_s != INT64_MIN ? ", but for what has not changed since " : "", c->since_s != INT64_MIN ? since : "");
}

/* ---- options ---- */

enum { OPT_RETENTION = OPT_OF_COMMAND, OPT_LEGAL_HOLD, OPT_SETTLE, OPT_RESCAN, OPT_OUTPUT, OPT_ID, OPT_SINCE, OPT_ONCE, OPT_DRY_RUN, OPT_JOBS,
       OPT_FILES, OPT_VERBOSE };

static int parse_seconds(const char *text, unsigned max_s, unsigned *ret_s)
{
	struct retention period;
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text >= '0' && *text <= '9' && !*end) {	/* a bare number: seconds, as the script's --interval */
		if (n > max_s)
			return -EINVAL;
		*ret_s = (unsigned)n;
		return 0;
	}
	if (retention_parse(text, &period) < 0 || period.kind != RETENTION_PERIOD || period.months || period.seconds > (int64_t)max_s)
		return -EINVAL;
	*ret_s = (unsigned)period.seconds;
	return 0;
}

static int parse_count(const char *text, unsigned long min, unsigned long max, unsigned long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoul(text, &end, 10);
	return errno || *end || *text < '0' || *text > '9' || *ret < min || *ret > max ? -EINVAL : 0;
}

static int parse_retention(struct watch *w)
{
	struct retention *r = &w->config.retention;
	const struct command *me = &command_watch_upstream;

	if (retention_parse(optarg, r) < 0)
		return wrong_usage(me, "--retention %s: write 7d, 6mo, 2y or 2030-01-01", quoted(optarg));
	if (r->kind != RETENTION_PERIOD && r->kind != RETENTION_DATE)
		return wrong_usage(me, "--retention %s: a cluster knows dates only; use --legal-hold for what has no end", quoted(optarg));
	if (r->kind == RETENTION_PERIOD && r->seconds <= 0 && r->months <= 0)
		return wrong_usage(me, "--retention %s: longer than nothing", quoted(optarg));
	if (r->kind == RETENTION_DATE && r->seconds <= time(NULL))
		return wrong_usage(me, "--retention %s: it has passed", quoted(optarg));
	w->config.has_retention = true;
	return -1;
}

static int parse_option(struct watch *w, int c, char **argv)
{
	const struct command *me = &command_watch_upstream;
	struct retention date;
	unsigned long n;

	switch (c) {
	case OPT_RETENTION:
		return parse_retention(w);
	case OPT_LEGAL_HOLD: w->config.hold = true; return -1;
	case 'r': w->config.recursive = true; return -1;
	case OPT_SETTLE:
		if (parse_seconds(optarg, SETTLE_MAX_S, &w->config.settle_s) < 0)
			return wrong_usage(me, "--settle %s: seconds, or 90s, 15m... up to 30d", quoted(optarg));
		return -1;
	case OPT_RESCAN:
		if (strcmp(optarg, "never") == 0)
			w->config.rescan_s = 0;
		else if (parse_seconds(optarg, SETTLE_MAX_S, &w->config.rescan_s) < 0 || !w->config.rescan_s)
			return wrong_usage(me, "--rescan %s: a period such as 1h up to 30d, or never", quoted(optarg));
		return -1;
	case OPT_OUTPUT: w->output = optarg; return -1;
	case OPT_ID:
		if (strspn(optarg, "0123456789") != strlen(optarg) || !*optarg)
			return wrong_usage(me, "--id %s: the number of a directory", quoted(optarg));
		w->id = optarg;
		return -1;
	case OPT_SINCE:
		if (retention_parse(optarg, &date) < 0 || date.kind != RETENTION_DATE)
			return wrong_usage(me, "--since %s: write a date (2030-01-01)", quoted(optarg));
		w->config.since_s = date.seconds;
		return -1;
	case OPT_ONCE: w->config.once = true; return -1;
	case OPT_DRY_RUN: w->config.dry_run = true; return -1;
	case OPT_JOBS:
		if (parse_count(optarg, 1, 1024, &n) < 0)
			return wrong_usage(me, "--jobs %s: 1 to 1024", quoted(optarg));
		w->config.jobs = (unsigned)n;
		return -1;
	case OPT_FILES:
		if (parse_count(optarg, FILES_MIN, SETTLING_FILES_MAX * 10, &n) < 0)
			return wrong_usage(me, "--files %s: %d to %d", quoted(optarg), FILES_MIN, SETTLING_FILES_MAX * 10);
		w->config.files_max = n;
		return -1;
	case 'v':
	case OPT_VERBOSE: w->verbose = true; return -1;
	}
	return cluster_option(&w->cluster, c) ? -1 : common_option(w->ctl, me, c, argv);
}

static int parse_options(struct watch *w, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		CLUSTER_OPTIONS,
		{ "retention", required_argument, NULL, OPT_RETENTION },
		{ "legal-hold", no_argument, NULL, OPT_LEGAL_HOLD },
		{ "recursive", no_argument, NULL, 'r' },
		{ "settle", required_argument, NULL, OPT_SETTLE },
		{ "interval", required_argument, NULL, OPT_SETTLE },
		{ "rescan", required_argument, NULL, OPT_RESCAN },
		{ "output", required_argument, NULL, OPT_OUTPUT },
		{ "id", required_argument, NULL, OPT_ID },
		{ "since", required_argument, NULL, OPT_SINCE },
		{ "once", no_argument, NULL, OPT_ONCE },
		{ "dry-run", no_argument, NULL, OPT_DRY_RUN },
		{ "jobs", required_argument, NULL, OPT_JOBS },
		{ "files", required_argument, NULL, OPT_FILES },
		{ "verbose", no_argument, NULL, OPT_VERBOSE },
		{ 0 },
	};
	int c, r;

	while ((c = getopt_long(argc, argv, ":hrv", options, NULL)) != -1) {
		r = parse_option(w, c, argv);
		if (r >= 0)
			return r;
	}
	if (argc - optind > 1)
		return wrong_usage(&command_watch_upstream, "one DIRECTORY at a time");
	if (!w->config.has_retention && !w->config.hold)
		return wrong_usage(&command_watch_upstream, "what lock? give --retention, --legal-hold, or both");
	if (w->id && optind < argc)
		return wrong_usage(&command_watch_upstream, "a DIRECTORY or --id: not both");
	if (optind < argc)
		w->cluster.root = argv[optind];
	return -1;
}

static void catch_signals(void)
{
	struct sigaction stop = { .sa_handler = on_stop }, reopen = { .sa_handler = on_reopen };

	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGHUP, &reopen, NULL);
	signal(SIGPIPE, SIG_IGN);	/* nobody reads the lines any more: locks are set all the same */
}

static int watch(struct watch *w, struct failure *f)
{
	struct watcher_totals totals = { 0 };
	char why[WATCHER_WHY_BYTES];
	int r;

	w->config.qumulo = w->cluster.qumulo;
	w->config.endpoint = w->cluster.endpoint;
	r = find_directory(w, f);
	if (r == 0)
		r = check_first(w, f);
	if (r < 0)
		return r;
	say_what_comes(w);
	catch_signals();
	r = watcher_run(&w->config, &totals, why);
	complain("%s: %" PRIu64 " files locked, %" PRIu64 " were locked already, %" PRIu64 " left alone, %" PRIu64 " wait, %" PRIu64 " tries failed",
		 r < 0 ? "ended" : "done", totals.locked, totals.locked_before, totals.left_alone, totals.waiting, totals.failures);
	if (r < 0)
		return fail(f, r, "%s", why);
	if (w->out_error)
		return fail(f, -w->out_error, "not every lock could be written down: %s", strerror(w->out_error));
	return w->config.once && (totals.waiting || totals.unreadable) ? EXIT_NO : EXIT_YES;
}

static int run_watch(struct wormctl *ctl, int argc, char **argv)
{
	struct watch w = { .ctl = ctl, .out = stdout, .config = { .settle_s = WATCHER_SETTLE_S, .rescan_s = WATCHER_RESCAN_S, .since_s = INT64_MIN,
								    .stop = &stop_asked, .news = on_news } };
	struct failure f;
	int r;

	w.config.arg = &w;
	setvbuf(stdout, NULL, _IOLBF, 0);	/* who follows the locks sees each at once */
	r = parse_options(&w, argc, argv);
	if (r >= 0)
		return r;
	r = open_output(&w, &f);
	/* A page of the walk, the stream's token, and what the check asks come beside the files. */
	if (r == 0)
		r = cluster_open(&w.cluster, NULL, (w.config.jobs ? w.config.jobs : WATCHER_JOBS) + 4, &f);
	if (r == 0)
		r = watch(&w, &f);
	if (r < 0)
		complain("%s", f.text);
	cluster_close(&w.cluster);
	free(w.directory);
	if (w.out != stdout)
		fclose(w.out);
	return finish_output(r < 0 ? EXIT_COULD_NOT : r);
}

const struct command command_watch_upstream = {
	.name = "watch-upstream",
	.summary = "lock what reaches a cluster by another door",
	.help =
	"Usage: wormctl watch-upstream --retention T|--legal-hold [OPTION]... [DIRECTORY]\n"
	"\n"
	"Watches a directory of a Qumulo cluster for files that do not come through wormfs, and locks each on the\n"
	"cluster once it has not changed for a while: those that are made there, those that are moved there, and,\n"
	"at the start and whenever the connection was lost, everything there that is not locked. A retention on a\n"
	"cluster cannot be taken back by anybody: try --dry-run first. Goes on until it is stopped. Through wormfs\n"
	"a file is locked when it is closed; a cluster does not tell of that, so here only the time decides.\n"
	"\n"
	"      --retention T        from when it is locked: 7d, 6mo, 2y; or until a date: 2030-01-01 (UTC)\n"
	"      --legal-hold         a hold, which can be released; never released by this command\n"
	"  -r, --recursive          also everything below DIRECTORY\n"
	"      --settle PERIOD      not changed for so long, 0s to 30d [15s]; --interval is the same. Names that\n"
	"                           programs write under (*.part, rsync's...) have to be still for a day\n"
	"      --since DATE         leave alone what has not changed since then [everything counts]\n"
	"      --rescan PERIOD      look through all of it now and then, or never [1h]\n"
	"      --once               look through it, lock what is still, and end: for a cron job\n"
	"      --dry-run            say what would be locked\n"
	"      --id N               the directory by its number on the cluster\n"
	"      --output FILE        a line for every lock there instead of on stdout; SIGHUP opens it anew\n"
	"      --jobs N             files at a time, 1-1024 [32]\n"
	"      --files N            files that are waited for at a time, 4-1000000 [100000]\n"
	"  -v, --verbose            also say when the tree was looked through\n"
	"      --json               locks as objects, one a line: at, event, directory, path, until, hold\n"
	CLUSTER_HELP
	"\n"
	"DIRECTORY is a path on the cluster [root of --config]. SIGTERM ends it.\n"
	"\n"
	"Exit codes: 0 stopped, or with --once all is locked; 1 with --once some is not; 2 could not start or go\n"
	"on: wrong options, credentials, privilege, no such directory, the date has passed.\n"
	"\n"
	"Example: wormctl watch-upstream --config /etc/wormfs/push.conf --retention 7y -r /finance/inbox\n",
	.run = run_watch,
};
