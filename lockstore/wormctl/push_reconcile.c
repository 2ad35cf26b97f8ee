/* push reconcile: what ledger and cluster do not agree about. Keeps where it stopped in the state directory of the share. --fix has the
 * daemon push what is missing, or, where none runs, has the ledger say that it waits. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/ledger_push.h"
#include "lockstore/retention.h"
#include "lockstore/upstream/plan.h"
#include "lockstore/upstream/reconcile.h"
#include "lockstore/wormctl/cluster.h"
#include "lockstore/wormctl/json_file.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/push.h"
#include "lockstore/wormctl/subject.h"
#include "lockstore/wormctl/wormctl.h"

#define CURSOR_FILE "reconcile.cursor"
#define LOCK_FILE "reconcile.lock"
#define SAVE_MS 500
#define BAR_CELLS 24
#define RATE_CALLS 200		/* a second */
#define RATE_MAX 1000000

struct work {
	struct wormctl *ctl;
	struct cluster cluster;
	struct subject subject;
	struct reconcile_config config;
	struct reconcile_totals totals;
	struct reconcile_place place;
	bool fix, resume, quiet;
	bool tty, line;			/* stderr shows progress; a line of it is on the screen */
	struct ledger *writer;		/* with fix, and no daemon */
	uint64_t all_rows, fixed, unfixed;
	int64_t saved_ms, shown_ms;
	bool save_failed;
	struct failure *f;
};

static atomic_bool stop_asked;

static void on_stop(int signal_number)
{
	atomic_store(&stop_asked, true);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* ---- what is kept ---- */

static json_t *totals_json(const struct work *w)
{
	json_t *kinds = json_object();

	for (int i = 0; kinds && i < RECONCILE_KINDS; i++)
		json_object_set_new(kinds, reconcile_kind_name(i), json_integer((json_int_t)w->totals.kinds[i]));
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "rows", (json_int_t)w->totals.rows, "over", (json_int_t)w->totals.over, "upstream",
			 (json_int_t)w->totals.upstream, "errors", (json_int_t)w->totals.errors, "fixed", (json_int_t)w->fixed, "unfixed",
			 (json_int_t)w->unfixed, "findings", (json_int_t)reconcile_findings(&w->totals), "kinds", kinds);
}

static void totals_from_json(const json_t *json, struct work *w)
{
	const json_t *kinds = json_object_get(json, "kinds");

	w->totals = (struct reconcile_totals){ .rows = (uint64_t)json_get_int(json, "rows"), .over = (uint64_t)json_get_int(json, "over"),
					       .upstream = (uint64_t)json_get_int(json, "upstream"), .errors = (uint64_t)json_get_int(json, "errors") };
	w->fixed = (uint64_t)json_get_int(json, "fixed");
	w->unfixed = (uint64_t)json_get_int(json, "unfixed");
	for (int i = 0; i < RECONCILE_KINDS; i++)
		w->totals.kinds[i] = (uint64_t)json_get_int(kinds, reconcile_kind_name(i));
}

/* What a run is about: a cursor is good for the same only. */
static json_t *scope_json(const struct work *w)
{
	json_t *json;
	char *path;

	if (control_path_encode(w->subject.path, &path) < 0)
		return NULL;
	json = json_pack("{s:s,s:s,s:s,s:b}", "path", path, "cluster", w->cluster.endpoint.url, "root", w->config.root, "all", w->config.all);
	free(path);
	return json;
}

static int save_cursor(struct work *w, const struct reconcile_place *place)
{
	char key[2 * FILE_KEY_MAX_BYTES + 1] = "", *after = NULL;
	json_t *json;
	int r;

	/* What was found is told before the cursor is past it: a kill must not lose it. */
	if (fflush(stdout) != 0)
		return -EPIPE;
	r = control_path_encode(place->after_path ? place->after_path : "", &after);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < place->after_key.len; i++)
		sprintf(key + 2 * i, "%02x", place->after_key.bytes[i]);
	json = json_pack("{s:o,s:o,s:b,s:s,s:s,s:o}", "scope", scope_json(w), "totals", totals_json(w), "walking", place->walking, "after", after,
			 "after_key", key, "walk", place->walk ? walk_save(place->walk) : json_null());
	free(after);
	w->saved_ms = now_ms();
	return json_file_write(w->subject.share->state_dir, CURSOR_FILE, json);
}

static int place_from_json(const json_t *json, struct reconcile_place *place)
{
	const char *key = json_get_text(json, "after_key");
	int r = 0;

	place->walking = json_get_bool(json, "walking");
	for (unsigned n; place->after_key.len < FILE_KEY_MAX_BYTES && sscanf(key, "%2x", &n) == 1; key += 2)
		place->after_key.bytes[place->after_key.len++] = (uint8_t)n;
	if (*json_get_text(json, "after"))
		r = control_path_decode(json_get_text(json, "after"), &place->after_path);
	if (r == 0 && !json_is_null(json_object_get(json, "walk")))
		r = walk_load(json_object_get(json, "walk"), &place->walk);
	return r;
}

static int load_cursor(struct work *w, struct failure *f)
{
	const char *dir = w->subject.share->state_dir;
	json_t *json = NULL, *scope = NULL;
	int r = json_file_read(dir, CURSOR_FILE, &json);

	if (r == -ENOENT)
		return fail(f, r, "there is no run to go on with: run wormctl push reconcile without --resume");
	if (r == 0) {
		scope = scope_json(w);
		if (!scope)
			r = -ENOMEM;
		else if (!json_equal(scope, json_object_get(json, "scope")))
			r = fail(f, -EINVAL, "the run that was stopped was of another PATH, cluster or --all: name the same, or begin anew without --resume");
	}
	if (r == 0) {
		totals_from_json(json_object_get(json, "totals"), w);
		r = place_from_json(json, &w->place);
	}
	if (r < 0 && r != -EINVAL)
		r = fail(f, r, "cannot use %s/" CURSOR_FILE ": %s; run wormctl push reconcile without --resume", quoted(dir), strerror(-r));
	json_decref(scope);
	json_decref(json);
	return r;
}

static void remove_cursor(const struct work *w)
{
	char *path = path_join(w->subject.share->state_dir, CURSOR_FILE);

	if (path)
		(void)unlink(path);	/* one that stays is only offered once more */
	free(path);
}

static int lock_out_others(const struct work *w, int *ret_fd, struct failure *f)
{
	char *path = path_join(w->subject.share->state_dir, LOCK_FILE);
	int r = 0;

	if (!path)
		return fail(f, -ENOMEM, "out of memory");
	*ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*ret_fd < 0)
		r = fail(f, -errno, "cannot write to the state directory %s: %s", quoted(w->subject.share->state_dir), strerror(errno));
	else if (flock(*ret_fd, LOCK_EX | LOCK_NB) < 0)
		r = fail(f, -EBUSY, "another wormctl push reconcile of %s runs: wait for it, or end it", quoted(subject_name(&w->subject)));
	free(path);
	return r;
}

/* ---- what is shown ---- */

static void clear_line(struct work *w)
{
	if (w->line)
		fputs("\r\033[K", stderr);
	w->line = false;
}

static void show_progress(struct work *w, const struct reconcile_place *place)
{
	uint64_t done = w->totals.rows + w->totals.over, found = reconcile_findings(&w->totals);
	int cells;

	if (!w->tty || (w->shown_ms && now_ms() - w->shown_ms < 200))
		return;
	w->shown_ms = now_ms();
	if (place->walking) {
		fprintf(stderr, "\r\033[K%llu files of the ledger compared; %llu others on the cluster", (unsigned long long)done,
			(unsigned long long)w->totals.upstream);
	} else {
		if (done > w->all_rows)
			w->all_rows = done;
		cells = w->all_rows ? (int)(done * BAR_CELLS / w->all_rows) : BAR_CELLS;
		fprintf(stderr, "\r\033[K[%.*s%.*s] %3llu%%  %llu of %llu files", cells, "########################", BAR_CELLS - cells,
			"------------------------", (unsigned long long)(w->all_rows ? done * 100 / w->all_rows : 100), (unsigned long long)done,
			(unsigned long long)w->all_rows);
	}
	if (found)
		fprintf(stderr, ", %llu findings", (unsigned long long)found);
	w->line = true;
}

static void on_progress(void *arg, const struct reconcile_totals *totals, const struct reconcile_place *place)
{
	struct work *w = arg;
	int r;

	show_progress(w, place);
	if (now_ms() - w->saved_ms < SAVE_MS)
		return;
	r = save_cursor(w, place);
	if (r < 0 && !w->save_failed) {
		clear_line(w);
		complain("cannot keep in %s how far it is: %s; a run that is stopped begins anew", quoted(w->subject.share->state_dir), strerror(-r));
		w->save_failed = true;
	}
}

/* ---- putting it right ---- */

static int fix_online(struct work *w, const char *path, struct failure *f)
{
	struct client *client;
	json_t *question;
	char *text;
	int r;

	r = share_client(w->subject.share, &client, f);
	if (r == 0)
		r = control_path_encode(path, &text);
	if (r < 0)
		return r;
	question = json_pack("{s:s,s:s,s:b}", "verb", "push-retry", "path", text, "again", 1);
	free(text);
	r = client_call(client, question, NULL, NULL, NULL);
	return r < 0 ? fail(f, r, "%s", *client_error(client) ? client_error(client) : strerror(-r)) : 0;
}

static int fix_offline(struct work *w, const struct file_key *key, struct failure *f)
{
	int r = 0;

	if (!w->writer)
		r = share_ledger(w->subject.share, 0, &w->writer, f);
	if (r < 0)
		return r;
	r = ledger_push_again(w->writer, key, true);
	return r < 0 ? fail(f, r, "%s", ledger_error(w->writer)) : 0;
}

/* True: the cluster will be told. */
static bool fix(struct work *w, const struct reconcile_finding *finding)
{
	struct failure f;
	int r;

	if (!w->fix || (finding->kind != RECONCILE_UNLOCKED && finding->kind != RECONCILE_WEAKER))
		return false;
	r = w->subject.online ? fix_online(w, finding->path, &f) : fix_offline(w, finding->key, &f);
	if (r < 0) {
		w->unfixed++;
		clear_line(w);
		complain("cannot have %s pushed: %s", quoted(finding->path), f.text);
		return false;
	}
	w->fixed++;
	return true;
}

static int on_finding(void *arg, const struct reconcile_finding *finding)
{
	bool fixed = fix(arg, finding);
	struct work *w = arg;
	const char *advice = fixed ? w->subject.online ? "pushed again" : "pushed when it is mounted" : reconcile_kind_advice(finding->kind);
	json_t *json;

	clear_line(w);
	if (w->ctl->json) {
		json = json_object();
		if (!json || json_set_path(json, finding->path) < 0) {
			json_decref(json);
			return -ENOMEM;
		}
		json_object_set_new(json, "kind", json_string(reconcile_kind_name(finding->kind)));
		json_object_set_new(json, "what", json_text(finding->what));
		json_object_set_new(json, "fixed", json_boolean(fixed));
		json_object_set_new(json, "do", fixed ? json_null() : json_string(advice));
		return print_json(json);
	}
	print_name(stdout, finding->path);
	printf(": %s: %s; %s\n", reconcile_kind_name(finding->kind), finding->what, advice);
	return ferror(stdout) ? -EPIPE : 0;
}

static void on_error(void *arg, const char *path, const char *what)
{
	clear_line(arg);
	complain("cannot compare %s: %s", quoted(path), what);
}

/* By another name than the ledger's: a hard link. What the file below the mount is decides. */
static int found(void *arg, const struct ledger_row *row)
{
	return 1;
}

static bool is_ours(void *arg, const char *path)
{
	struct work *w = arg;
	struct file_key key;

	return w->subject.root_fd >= 0 && lower_file_key(w->subject.root_fd, path, &key) == 0 &&
	       ledger_find(w->subject.ledger, &key, found, NULL) == 1;
}

static void print_summary(const struct work *w)
{
	const struct reconcile_totals *t = &w->totals;

	if (w->ctl->json) {
		(void)print_json(json_pack("{s:o}", "summary", totals_json(w)));
		return;
	}
	if (w->quiet)
		return;
	printf("%llu locks compared, %llu other files on the cluster looked at, %llu findings", (unsigned long long)t->rows,
	       (unsigned long long)t->upstream, (unsigned long long)reconcile_findings(t));
	if (w->fix)
		printf(", %llu pushed again", (unsigned long long)w->fixed);
	if (t->over)
		printf(", %llu have nothing to be there", (unsigned long long)t->over);
	if (t->errors)
		printf(", %llu could not be compared", (unsigned long long)t->errors);
	putchar('\n');
}

/* ---- the run ---- */

enum { OPT_RATE = OPT_OF_COMMAND, OPT_RESUME, OPT_FIX, OPT_ALL, OPT_QUIET };

static int parse_options(struct work *w, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		CLUSTER_OPTIONS,
		{ "rate", required_argument, NULL, OPT_RATE },
		{ "resume", no_argument, NULL, OPT_RESUME },
		{ "fix", no_argument, NULL, OPT_FIX },
		{ "all", no_argument, NULL, OPT_ALL },
		{ "quiet", no_argument, NULL, OPT_QUIET },
		{ 0 },
	};
	unsigned long n;
	char *end;
	int c, r;

	while ((c = getopt_long(argc, argv, ":hq", options, NULL)) != -1) {
		switch (c) {
		case OPT_RATE:
			n = strtoul(optarg, &end, 10);
			if (*end || *optarg < '0' || *optarg > '9' || !n || n > RATE_MAX)
				return wrong_usage(&command_push_reconcile, "--rate %s: calls a second, 1 to %d", quoted(optarg), RATE_MAX);
			w->config.calls_a_second = (unsigned)n;
			break;
		case OPT_RESUME: w->resume = true; break;
		case OPT_FIX: w->fix = true; break;
		case OPT_ALL: w->config.all = true; break;
		case OPT_QUIET:
		case 'q': w->quiet = true; break;
		default:
			if (cluster_option(&w->cluster, c))
				break;
			r = common_option(w->ctl, &command_push_reconcile, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (argc - optind > 1)
		return wrong_usage(&command_push_reconcile, "one PATH at a time");
	return -1;
}

static int find_cluster(struct work *w, struct failure *f)
{
	const json_t *push = json_object_get(w->subject.share->mount, "push");
	struct push_undated undated = { 0 };
	int r = 0;

	/* The options may say all of it, for a share that is not mounted, or mounted without -o push. */
	if (json_is_object(push) || (!w->cluster.config && !w->cluster.address))
		r = cluster_of_share(&w->cluster, w->subject.share, f);
	if (r == 0)
		r = cluster_open(&w->cluster, NULL, RECONCILE_JOBS + 1, f);
	if (r < 0)
		return r;
	if (!w->cluster.root_path)
		return fail(f, -EINVAL, "what is the share called on the cluster? give --root PATH");
	if (*json_get_text(push, "undated") && push_undated_parse(json_get_text(push, "undated"), &undated) < 0)
		return fail(f, -EINVAL, "the daemon says push_undated=%s, which is not known", quoted(json_get_text(push, "undated")));
	w->config.undated_is_hold = undated.how == PUSH_UNDATED_HOLD;
	w->config.has_undated_date = undated.how == PUSH_UNDATED_DATE;
	w->config.undated_date_s = undated.date_s;
	w->config.root = w->cluster.root_path;
	w->config.qumulo = w->cluster.qumulo;
	return 0;
}

static int run_work(struct work *w, struct failure *f)
{
	struct ledger_filter filter = { .prefix = w->subject.path };
	char why[RECONCILE_WHY_BYTES];
	int r, saved;

	w->config.ledger = w->subject.ledger;
	w->config.path = w->subject.path;
	w->config.now_s = w->subject.now_s;
	if (w->resume)
		r = load_cursor(w, f);
	else {
		remove_cursor(w);
		r = 0;
	}
	if (r < 0)
		return r;
	if (w->tty)
		(void)ledger_count(w->subject.ledger, &filter, &w->all_rows);	/* else the bar is full */
	w->saved_ms = now_ms();
	r = reconcile_run(&w->config, &w->totals, &w->place, why);
	clear_line(w);
	if (r == 0) {
		remove_cursor(w);
		return 0;
	}
	saved = save_cursor(w, &w->place);
	if (r == -ECANCELED)
		return fail(f, r, saved == 0 ? "stopped: wormctl push reconcile --resume goes on where it was" :
			    "stopped, and it could not be kept how far it was: begin anew");
	return fail(f, r, "%s; wormctl push reconcile --resume goes on where it was", why);
}

static int run_reconcile(struct wormctl *ctl, int argc, char **argv)
{
	struct work w = { .ctl = ctl, .config = { .calls_a_second = RATE_CALLS, .stop = &stop_asked, .is_ours = is_ours, .finding = on_finding,
						   .error = on_error, .progress = on_progress } };
	struct sigaction stop = { .sa_handler = on_stop };
	struct shares *shares;
	struct failure f;
	int lock_fd = -1, r;

	w.config.arg = &w;
	r = parse_options(&w, argc, argv);
	if (r >= 0)
		return r;
	w.tty = isatty(STDERR_FILENO) && !w.quiet;
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = subject_open(ctl, shares, optind < argc ? argv[optind] : NULL, ctl->state_dir && optind == argc ? SUBJECT_LEDGER : SUBJECT_DATA, &w.subject, &f);
	if (r == 0)
		r = lock_out_others(&w, &lock_fd, &f);
	if (r == 0)
		r = find_cluster(&w, &f);
	if (r == 0) {
		sigaction(SIGINT, &stop, NULL);
		sigaction(SIGTERM, &stop, NULL);
		sigaction(SIGHUP, &stop, NULL);
		r = run_work(&w, &f);
		if (r == 0 || r == -ECANCELED)
			print_summary(&w);
	}
	if (r < 0)
		complain("%s", f.text);
	reconcile_place_fini(&w.place);
	ledger_close(w.writer);
	cluster_close(&w.cluster);
	subject_close(&w.subject);
	if (lock_fd >= 0)
		close(lock_fd);
	shares_close(shares);
	if (r < 0 || w.totals.errors || w.unfixed)
		return finish_output(EXIT_COULD_NOT);
	return finish_output(reconcile_findings(&w.totals) ? EXIT_NO : EXIT_YES);
}

const struct command command_push_reconcile = {
	.name = "push reconcile",
	.summary = "compare the ledger with what the cluster has",
	.help =
	"Usage: wormctl push reconcile [OPTION]... [PATH]\n"
	"\n"
	"Looks up on the cluster every lock that the ledger has at and below PATH; then looks there at every file\n"
	"that the ledger does not know. Also with the mount stopped, when the options name the cluster. Changes\n"
	"nothing without --fix. Without PATH: the share that the working directory is in, or the one mounted.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"Each finding is one line: path, kind, what, what to do. Kinds:\n"
	"  unlocked   the cluster has the file, and no lock on it\n"
	"  weaker     its lock ends earlier, or lacks the hold\n"
	"  gone       the cluster has no file of this name\n"
	"  undated    a retention without a date, which no cluster can be told (wormfs -o push_undated)\n"
	"  stranger   locked there, and not here\n"
	"\n"
	"      --fix         push what is unlocked or weaker: by the daemon now, or when it is mounted again\n"
	"      --all         also locks that are not to be pushed (from before -o push, or by their rule)\n"
	"      --rate N      no more than N calls a second, 1-1000000 [200]\n"
	"      --resume      go on where a run was stopped, killed, or lost its cluster\n"
	"  -q, --quiet       findings only: no progress, no summary\n"
	"      --json        findings as objects: path, kind, what, fixed, do; at the end {\"summary\":{...}}\n"
	"      --root PATH   the share's directory, as the cluster calls it [as mounted, or of --config]\n"
	CLUSTER_HELP
	"\n"
	"Exit codes: 0 they agree, 1 they did not (also when all was put right), 2 not all could be compared.\n"
	"\n"
	"Example: wormctl push reconcile --fix /srv/share\n",
	.run = run_reconcile,
};
