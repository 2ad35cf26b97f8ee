/* verify: what of file, record, ledger and audit log does not agree. Keeps where it stopped, and what it found last, in the state directory
 * of the share. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/audit.h"
#include "lockstore/control.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/json_file.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/verifier.h"
#include "lockstore/wormctl/wormctl.h"

#define CURSOR_FILE "verify.cursor"
#define LAST_FILE "verify.json"
#define LOCK_FILE "verify.lock"
#define SAVE_S 2
#define BAR_CELLS 24

struct verify {
	struct wormctl *ctl;
	struct subject subject;
	bool quiet, resume;
	const char *since;		/* as given */
	int64_t since_s;
	bool tty, line;			/* stderr shows progress; a progress line is on the screen */
	uint64_t all_files;		/* that are to be looked at, for the bar */
	int64_t started_s, begun_ms, saved_ms;
	struct verifier_totals before;	/* of the run that goes on here */
	bool save_failed;
};

static atomic_bool stop_asked;
static atomic_bool pause_asked;

static void on_stop(int signal_number)
{
	atomic_store(&stop_asked, true);
}

static void on_pause(int signal_number)
{
	atomic_store(&pause_asked, true);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* ---- what is kept ---- */

static json_t *totals_json(const struct verifier_totals *t)
{
	json_t *kinds = json_object();

	for (int i = 0; kinds && i < VERIFY_KINDS; i++)
		if (t->kinds[i])
			json_object_set_new(kinds, verify_kind_name(i), json_integer((json_int_t)t->kinds[i]));
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "files", (json_int_t)t->files, "bytes", (json_int_t)t->bytes,
			 "pending", (json_int_t)t->pending, "offline", (json_int_t)t->offline, "gone", (json_int_t)t->gone, "errors", (json_int_t)t->errors,
			 "findings", (json_int_t)verifier_findings(t), "kinds", kinds);
}

static void totals_from_json(const json_t *json, struct verifier_totals *ret)
{
	const json_t *kinds = json_object_get(json, "kinds");

	*ret = (struct verifier_totals){ .files = (uint64_t)json_get_int(json, "files"), .bytes = (uint64_t)json_get_int(json, "bytes"),
					 .pending = (uint64_t)json_get_int(json, "pending"),
					 .offline = (uint64_t)json_get_int(json, "offline"), .gone = (uint64_t)json_get_int(json, "gone"),
					 .errors = (uint64_t)json_get_int(json, "errors") };
	for (int i = 0; i < VERIFY_KINDS; i++)
		ret->kinds[i] = (uint64_t)json_get_int(kinds, verify_kind_name(i));
}

/* What a run is about: a cursor is good for the same only. */
static json_t *scope_json(const struct verify *v)
{
	char *path = NULL;
	json_t *json;

	if (control_path_encode(v->subject.path, &path) < 0)
		return NULL;
	json = json_pack("{s:s,s:s,s:I,s:I}", "share_id", v->subject.share->id, "path", path, "since", (json_int_t)v->since_s,
			 "started", (json_int_t)v->started_s);
	free(path);
	return json;
}

static int save_cursor(struct verify *v, const struct verifier_totals *totals, const struct verifier_cursor *cursor)
{
	char key[2 * FILE_KEY_MAX_BYTES + 1] = "", *path = NULL;
	json_t *json;
	int r;

	/* What was found is told before the cursor is past it: a kill must not lose it. */
	if (fflush(stdout) != 0)
		return -EPIPE;
	r = control_path_encode(cursor->path ? cursor->path : "", &path);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < cursor->key.len; i++)
		sprintf(key + 2 * i, "%02x", cursor->key.bytes[i]);
	json = json_pack("{s:o,s:o,s:s,s:s}", "scope", scope_json(v), "totals", totals_json(totals), "after", path, "after_key", key);
	free(path);
	v->saved_ms = now_ms();
	return json_file_write(v->subject.share->state_dir, CURSOR_FILE, json);
}

static int load_cursor(struct verify *v, struct verifier_totals *totals, struct verifier_cursor *cursor, struct failure *f)
{
	const char *dir = v->subject.share->state_dir, *key;
	json_t *json = NULL, *scope;
	char *path = NULL;
	int r;

	r = json_file_read(dir, CURSOR_FILE, &json);
	if (r == -ENOENT)
		return fail(f, r, "there is no run to go on with: run wormctl verify without --resume");
	if (r < 0)
		return fail(f, r, "cannot read %s/" CURSOR_FILE ": %s; run wormctl verify without --resume", quoted(dir), strerror(-r));
	scope = json_object_get(json, "scope");
	v->started_s = json_get_int(scope, "started");
	r = control_path_encode(v->subject.path, &path);
	if (r == 0 && (strcmp(json_get_text(scope, "path"), path) != 0 || (v->since && json_get_int(scope, "since") != v->since_s))) {
		r = fail(f, -EINVAL, "the run that was stopped was of another PATH or --since (%s): name the same, or begin anew "
			 "without --resume", quoted(*json_get_text(scope, "path") ? json_get_text(scope, "path") : "the whole share"));
		goto out;
	}
	v->since_s = json_get_int(scope, "since");
	totals_from_json(json_object_get(json, "totals"), totals);
	key = json_get_text(json, "after_key");
	cursor->key.len = 0;
	for (unsigned n; cursor->key.len < FILE_KEY_MAX_BYTES && sscanf(key, "%2x", &n) == 1; key += 2)
		cursor->key.bytes[cursor->key.len++] = (uint8_t)n;
	if (r == 0 && *json_get_text(json, "after"))
		r = control_path_decode(json_get_text(json, "after"), &cursor->path);
	if (r < 0)
		r = fail(f, r, "cannot use %s/" CURSOR_FILE "; run wormctl verify without --resume", quoted(dir));
out:
	free(path);
	json_decref(json);
	return r;
}

static void remove_cursor(const struct verify *v)
{
	char *path = path_join(v->subject.share->state_dir, CURSOR_FILE);

	if (path)
		(void)unlink(path);	/* one that stays is only offered once more */
	free(path);
}

/* For the report. */
static void save_last(struct verify *v, const struct verifier_totals *totals)
{
	json_t *json = json_pack("{s:o,s:o,s:I}", "scope", scope_json(v), "totals", totals_json(totals), "finished",
				 (json_int_t)time(NULL));
	int r = json_file_write(v->subject.share->state_dir, LAST_FILE, json);

	if (r < 0)
		complain("cannot keep the result in %s: %s", quoted(v->subject.share->state_dir), strerror(-r));
}

static int lock_out_others(const struct verify *v, int *ret_fd, struct failure *f)
{
	char *path = path_join(v->subject.share->state_dir, LOCK_FILE);
	int r = 0;

	if (!path)
		return fail(f, -ENOMEM, "out of memory");
	*ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*ret_fd < 0)
		r = errno == EROFS ? 0 : fail(f, -errno, "cannot write to the state directory %s: %s",
					      quoted(v->subject.share->state_dir), strerror(errno));
	else if (flock(*ret_fd, LOCK_EX | LOCK_NB) < 0)
		r = fail(f, -EBUSY, "another wormctl verify of %s runs: wait for it, or end it", quoted(subject_name(&v->subject)));
	free(path);
	return r;
}

/* ---- what is shown ---- */

static void clear_line(struct verify *v)
{
	if (v->line)
		fputs("\r\033[K", stderr);
	v->line = false;
}

static void show_progress(struct verify *v, const struct verifier_totals *t)
{
	uint64_t done = t->files + t->errors, found = verifier_findings(t);
	int64_t ms = now_ms() - v->begun_ms;
	int cells;

	if (!v->tty)
		return;
	if (done > v->all_files)
		v->all_files = done;
	cells = v->all_files ? (int)(done * BAR_CELLS / v->all_files) : BAR_CELLS;
	fprintf(stderr, "\r\033[K[%.*s%.*s] %3llu%%  %llu of %llu files, %.1f GiB, %.0f MiB/s", cells, "########################",
		BAR_CELLS - cells, "------------------------", (unsigned long long)(v->all_files ? done * 100 / v->all_files : 100),
		(unsigned long long)done, (unsigned long long)v->all_files, (double)t->bytes / (1 << 30),
		ms > 0 ? (double)(t->bytes - v->before.bytes) / (1 << 20) * 1000 / (double)ms : 0.0);
	if (found)
		fprintf(stderr, ", %llu findings", (unsigned long long)found);
	v->line = true;
}

static void on_progress(void *arg, const struct verifier_totals *totals, const struct verifier_cursor *cursor)
{
	struct verify *v = arg;
	int r;

	show_progress(v, totals);
	if (now_ms() - v->saved_ms >= SAVE_S * 1000 || atomic_load(&pause_asked)) {
		r = save_cursor(v, totals, cursor);
		if (r < 0 && !v->save_failed) {
			clear_line(v);
			complain("cannot keep in %s how far it is: %s; a run that is stopped begins anew",
				 quoted(v->subject.share->state_dir), strerror(-r));
			v->save_failed = true;
		}
	}
	if (atomic_exchange(&pause_asked, false)) {
		clear_line(v);
		fflush(stdout);
		raise(SIGSTOP);	/* as the terminal wanted it; fg or SIGCONT goes on */
	}
}

static void on_finding(void *arg, const char *path, enum verify_kind kind, const char *what)
{
	struct verify *v = arg;
	json_t *json;

	clear_line(v);
	if (v->ctl->json) {
		json = json_object();
		if (!json || json_set_path(json, path) < 0) {
			json_decref(json);
			return;
		}
		json_object_set_new(json, "kind", json_string(verify_kind_name(kind)));
		json_object_set_new(json, "what", json_text(what));
		json_object_set_new(json, "do", json_string(verify_kind_advice(kind)));
		(void)print_json(json);
		return;
	}
	print_name(stdout, path);
	printf(": %s: %s; %s\n", verify_kind_name(kind), what, verify_kind_advice(kind));
}

static void on_error(void *arg, const char *path, const char *what)
{
	clear_line(arg);
	complain("cannot verify %s: %s", quoted(path), what);
}

static void print_summary(const struct verify *v, const struct verifier_totals *t)
{
	if (v->ctl->json) {
		(void)print_json(json_pack("{s:o}", "summary", totals_json(t)));
		return;
	}
	if (v->quiet)
		return;
	printf("%llu files verified, %llu bytes read, %llu findings", (unsigned long long)t->files, (unsigned long long)t->bytes,
	       (unsigned long long)verifier_findings(t));
	if (t->pending)
		printf(", %llu have no digest yet", (unsigned long long)t->pending);
	if (t->offline)
		printf(", %llu are offline: their data is on tape", (unsigned long long)t->offline);
	if (t->gone)
		printf(", %llu expired ones are not there any more", (unsigned long long)t->gone);
	if (t->errors)
		printf(", %llu could not be read", (unsigned long long)t->errors);
	putchar('\n');
}

/* ---- the run ---- */

/* The fourth witness. What cannot be read is not called good. */
static void open_testimony(struct verify *v, struct verifier_options *o, struct verifier_totals *totals)
{
	struct testimony_damage damage;
	char what[VERIFY_TEXT_BYTES], *path;
	int r;

	r = testimony_open(&v->subject, &o->testimony, &damage);
	path = path_join(v->subject.share->state_dir, *damage.file ? damage.file : AUDIT_FILE);
	if (r < 0) {
		totals->errors++;
		on_error(v, path ? path : AUDIT_FILE, strerror(-r));
	} else if (damage.findings && !v->resume) {	/* else it was said */
		snprintf(what, sizeof(what), "the audit log is not as it was written at line %llu: %s", (unsigned long long)damage.line,
			 damage.what);
		totals->kinds[VERIFY_LOG]++;
		on_finding(v, path ? path : damage.file, VERIFY_LOG, what);
	}
	free(path);
}

/* So that the log has when somebody looked. With the mount stopped nobody writes it. */
static void tell_daemon(struct verify *v, const struct verifier_totals *totals)
{
	json_t *request = totals_json(totals);
	struct client *client;
	struct failure f;
	char *path = NULL;
	int r;

	if (!v->subject.online || control_path_encode(v->subject.path, &path) < 0) {
		json_decref(request);
		return;
	}
	if (request) {
		json_object_set_new(request, "verb", json_string("verified"));
		json_object_set_new(request, "below", json_string(path));
	}
	r = share_client(v->subject.share, &client, &f);
	if (r == 0)
		r = client_call(client, request, NULL, NULL, NULL);
	else
		json_decref(request);
	if (r < 0)
		complain("the audit log has no line of this run: %s", strerror(-r));
	free(path);
}

static void catch_signals(void)
{
	struct sigaction stop = { .sa_handler = on_stop }, pause = { .sa_handler = on_pause, .sa_flags = SA_RESTART };

	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGHUP, &stop, NULL);
	sigaction(SIGTSTP, &pause, NULL);
}

static int run_subject(struct verify *v, struct verifier_options *options, struct verifier_totals *totals, struct failure *f)
{
	struct ledger_filter filter = { .prefix = v->subject.path };
	struct verifier_cursor cursor = { 0 };
	int r = 0;

	v->started_s = time(NULL);
	if (v->resume)
		r = load_cursor(v, totals, &cursor, f);
	else
		remove_cursor(v);
	if (r < 0)
		goto out;
	v->before = *totals;
	v->begun_ms = v->saved_ms = now_ms();
	options->since_s = v->since_s;
	if (v->tty)
		(void)ledger_count(v->subject.ledger, &filter, &v->all_files);	/* else the bar is full */
	open_testimony(v, options, totals);
	r = verifier_run(&v->subject, options, totals, &cursor, f);
	clear_line(v);
	if (r == -ECANCELED) {
		r = save_cursor(v, totals, &cursor);
		fail(f, -ECANCELED, r == 0 ? "stopped: wormctl verify --resume goes on where it was" :
		     "stopped, and it could not be kept how far it was: begin anew");
		r = -ECANCELED;
	} else if (r == 0) {
		remove_cursor(v);
		save_last(v, totals);
		tell_daemon(v, totals);
	}
out:
	testimony_close(options->testimony);
	free(cursor.path);
	return r;
}

static int parse_number(const char *text, unsigned long max, unsigned long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoul(text, &end, 10);
	return errno || *end || *text < '0' || *text > '9' || !*ret || *ret > max ? -EINVAL : 0;
}

enum { OPT_RATE = OPT_OF_COMMAND, OPT_JOBS, OPT_RESUME, OPT_SINCE, OPT_QUIET };

static int parse_options(struct verify *v, struct verifier_options *o, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "rate", required_argument, NULL, OPT_RATE },
		{ "jobs", required_argument, NULL, OPT_JOBS },
		{ "resume", no_argument, NULL, OPT_RESUME },
		{ "since", required_argument, NULL, OPT_SINCE },
		{ "quiet", no_argument, NULL, OPT_QUIET },
		{ 0 },
	};
	struct retention since;
	unsigned long n;
	int c, r;

	while ((c = getopt_long(argc, argv, ":hq", options, NULL)) != -1) {
		switch (c) {
		case OPT_RATE:
			if (parse_number(optarg, 1 << 20, &n) < 0)
				return wrong_usage(&command_verify, "--rate %s: MiB a second, 1 to 1048576", quoted(optarg));
			o->bytes_a_second = (uint64_t)n << 20;
			break;
		case OPT_JOBS:
			if (parse_number(optarg, VERIFIER_JOBS_MAX, &n) < 0)
				return wrong_usage(&command_verify, "--jobs %s: 1 to %d", quoted(optarg), VERIFIER_JOBS_MAX);
			o->jobs = (unsigned)n;
			break;
		case OPT_RESUME:
			v->resume = true;
			break;
		case OPT_SINCE:
			if (retention_parse(optarg, &since) < 0 || since.kind != RETENTION_DATE)
				return wrong_usage(&command_verify, "--since %s: write a date (2030-01-01)", quoted(optarg));
			v->since = optarg;
			v->since_s = since.seconds;
			break;
		case OPT_QUIET:
		case 'q':
			v->quiet = true;
			break;
		default:
			r = common_option(v->ctl, &command_verify, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (argc - optind > 1)
		return wrong_usage(&command_verify, "one PATH at a time");
	return -1;
}

static int run_verify(struct wormctl *ctl, int argc, char **argv)
{
	struct verify v = { .ctl = ctl, .since_s = INT64_MIN };
	struct verifier_options options = { .stop = &stop_asked, .finding = on_finding, .error = on_error, .progress = on_progress,
					    .arg = &v };
	struct verifier_totals totals = { 0 };
	struct shares *shares;
	struct failure f;
	int lock_fd = -1, r;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	options.jobs = cpus < 1 ? 1 : cpus > 8 ? 8 : (unsigned)cpus;
	r = parse_options(&v, &options, argc, argv);
	if (r >= 0)
		return r;
	v.tty = isatty(STDERR_FILENO) && !v.quiet;
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = subject_open(ctl, shares, optind < argc ? argv[optind] : NULL, SUBJECT_FILES, &v.subject, &f);
	if (r == 0)
		r = lock_out_others(&v, &lock_fd, &f);
	if (r == 0) {
		catch_signals();
		r = run_subject(&v, &options, &totals, &f);
	}
	if (r == 0 || r == -ECANCELED)
		print_summary(&v, &totals);
	if (r < 0)
		complain("%s", f.text);
	subject_close(&v.subject);
	if (lock_fd >= 0)
		close(lock_fd);
	shares_close(shares);
	if (r < 0 || totals.errors)
		return finish_output(EXIT_COULD_NOT);
	return finish_output(verifier_findings(&totals) ? EXIT_NO : EXIT_YES);
}

const struct command command_verify = {
	.name = "verify",
	.summary = "compare files, their records, the ledger and the audit log",
	.help =
	"Usage: wormctl verify [OPTION]... [PATH]\n"
	"\n"
	"Reads every locked file at and below PATH and compares what it is with what its lock record and the\n"
	"ledger say: data (SHA-256), size and time, identity, retention, mode, holds, serial number; and with the\n"
	"lines of the audit log, as far as that covers them. Then it looks for locked files that the ledger does\n"
	"not know, for records that two files carry, and for files that only the log knows. Also with the mount\n"
	"stopped. The data is read from the disk, past the caches, and changes nothing. Without PATH: the share\n"
	"that the working directory is in, or the one that is mounted.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"Each finding is one line: path, kind, what, what to do. Kinds:\n"
	"  data          other data than when it was locked (a flipped bit, an edit that hid itself)\n"
	"  edited        another size or modification time\n"
	"  replaced      another file has its name\n"
	"  missing       it is gone\n"
	"  moved         it is there, but not under its name\n"
	"  stripped      its lock record is gone, the ledger knows it\n"
	"  unverifiable  its lock record was changed, or written with another key\n"
	"  differs       its lock record, the ledger and the audit log say different things\n"
	"  foreign       locked, but the ledger does not know it\n"
	"  copied        another file carries the same lock record\n"
	"  unlogged      the audit log was on when it was locked, and has no line of that\n"
	"  log           the audit log itself was changed, cut, or has lines missing\n"
	"\n"
	"      --rate N       read no more than N MiB a second\n"
	"      --jobs N       files at a time, 1-64 [one a processor, at most 8]\n"
	"      --since DATE   only files locked at or after 2030-01-01 (UTC)\n"
	"      --resume       go on where a run with the same PATH was stopped: by Ctrl-C, a kill, a reboot\n"
	"  -q, --quiet        findings only: no progress, no summary\n"
	"      --json         one JSON object a finding (path, kind, what, do), the last one has summary\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"      --key FILE     the key of the share, where the mount had -o key=FILE\n"
	"\n"
	"Examples:\n"
	"  wormctl verify /srv/share\n"
	"  wormctl verify --quiet --rate 100 /srv/share || mail -s 'look at the share' root\n"
	"\n"
	"Exit codes: 0 all agree, 1 something was found, 2 could not look at all of it, or was stopped.\n",
	.run = run_verify,
};
