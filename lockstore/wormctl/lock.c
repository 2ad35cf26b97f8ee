/* commit, append and extend: what makes a lock stronger, and may be asked for by the owner of a file.
 *
 * All are requests to the file itself (user.worm.*); where its mode or a read-only mount forbids the xattr, the control
 * socket is asked.
 * One file that fails does not stop the others; each failure is one line or one JSON object. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/control.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/paths.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

#define XATTR_WORM_COMMIT XATTR_WORM_PREFIX "commit"
#define XATTR_WORM_APPEND XATTR_WORM_PREFIX "append"
#define XATTR_WORM_UNTIL XATTR_WORM_PREFIX "until"
#define XATTR_WORM_STATE XATTR_WORM_PREFIX "state"
#define VALUE_BYTES 256		/* longer than any state or date */

enum verb { COMMIT, APPEND, EXTEND };

static const struct {
	const char *name;
	const char *done;	/* what is said of a file after it */
} verbs[] = {
	[COMMIT] = { "commit", "locked" },
	[APPEND] = { "append", "append-only" },
	[EXTEND] = { "extend", "extended" },
};

enum result { DONE, UNCHANGED, FAILED };

struct job {
	struct wormctl *ctl;
	enum verb verb;
	const char *argument;		/* UNTIL */
	struct retention until;		/* EXTEND */
	bool bulk;			/* a tree or a list: no line for each success */
	uint64_t count[3];		/* by enum result */
};

/* A text value of user.worm.*; "" when there is none or it may not be read. */
static void get_value(const struct target *target, const char *name, char ret_value[VALUE_BYTES])
{
	ssize_t n = target->place->share->mounted ? lower_getxattr(target->fd, name, ret_value, VALUE_BYTES - 1) : -1;

	ret_value[n > 0 ? n : 0] = '\0';
}

/* What the daemon says about a file; NULL: it cannot be asked. */
static json_t *ask_about(const struct target *target)
{
	json_t *answer, *file;
	struct client *client;
	struct failure f;
	char *path;

	if (share_client(target->place->share, &client, &f) < 0 || control_path_encode(target->place->path, &path) < 0)
		return NULL;
	if (client_call(client, json_pack("{s:s,s:s}", "verb", "explain", "path", path), NULL, NULL, &answer) < 0)
		answer = NULL;
	free(path);
	file = json_incref(json_object_get(answer, "file"));
	json_decref(answer);
	return file;
}

static void get_state(const struct target *target, char ret_state[VALUE_BYTES], char ret_until[VALUE_BYTES])
{
	json_t *file;

	get_value(target, XATTR_WORM_STATE, ret_state);
	get_value(target, XATTR_WORM_UNTIL, ret_until);
	if (*ret_state)
		return;
	file = ask_about(target);
	snprintf(ret_state, VALUE_BYTES, "%s", json_get_text(file, "state"));
	snprintf(ret_until, VALUE_BYTES, "%s", json_get_text(file, "until"));
	json_decref(file);
}

static bool is_unlocked(const char *state)
{
	return strcmp(state, "open") == 0 || strcmp(state, "staging") == 0 || strcmp(state, "pending") == 0 ||
	       strcmp(state, "held") == 0;
}

/* Asked for, and not later than what the file has. */
static bool is_shorter(const struct job *job, const struct target *target, const char *until)
{
	struct retention has;

	if (job->verb != EXTEND || retention_parse(until, &has) < 0)
		return false;
	if (has.kind == RETENTION_IS_INFINITE)
		return true;
	return has.kind == RETENTION_DATE && job->until.kind != RETENTION_IS_INFINITE &&
	       retention_until(&job->until, share_now_s(target->place->share)) < has.seconds;
}

/* Says what stands in the way of a request that failed with `error`, and what to do about it. Some are
 * no failure: what was asked for is so already. `said`: the daemon's own words, or "". */
static enum result judge(const struct job *job, const struct target *target, int error, const char *said,
			 struct failure *f)
{
	const char *verb = verbs[job->verb].name, *name = quoted(target->shown);
	const struct share *share = target->place->share;
	char state[VALUE_BYTES], until[VALUE_BYTES];

	switch (error) {
	case -EBUSY:
		fail(f, error, "cannot %s %s: a program still has it open%s; end that, then try again "
		     "(fuser -v %s names it)", verb, name, job->verb == APPEND ? "" : " for writing", name);
		return FAILED;
	case -EINVAL:
		get_state(target, state, until);
		if (is_unlocked(state)) {
			fail(f, error, "cannot %s %s: it is not locked yet; run: wormctl commit %s", verb, name, name);
			return FAILED;
		}
		if (job->verb == EXTEND) {
			fail(f, error, "cannot extend %s until %s: the mount allows no less than %s and no more than %s",
			     name, quoted(job->argument), json_get_text(share->mount, "min"),
			     json_get_text(share->mount, "max"));
			return FAILED;
		}
		break;
	case -EPERM:
		get_state(target, state, until);
		if (is_shorter(job, target, until)) {
			if (target->in_tree)
				return UNCHANGED;
			fail(f, error, "cannot extend %s until %s: it is locked until %s, and retention is never shortened",
			     name, quoted(job->argument), until);
			return FAILED;
		}
		if (job->verb == APPEND && !is_unlocked(state)) {
			fail(f, error, "cannot append %s: it is locked already, only an empty or unlocked file can become append-only", name);
			return FAILED;
		}
		/* fall through */
	case -EACCES:
		fail(f, error, "cannot %s %s: %s", verb, name, *said ? said : "only its owner may, who can write to it, or root");
		return FAILED;
	case -EOPNOTSUPP:
		fail(f, error, "cannot %s %s: %s", verb, name,
		     *said ? said : "nothing is locked on this mount (commit=never)");
		return FAILED;
	case -EROFS:
		fail(f, error, "cannot %s %s: the share is mounted read-only", verb, name);
		return FAILED;
	case -EIO:
		fail(f, error, "cannot %s %s: %s; see: wormctl status %s", verb, name,
		     *said ? said : "its lock cannot be read or written", name);
		return FAILED;
	case -ENOTCONN:
	case -ECONNRESET:
	case -ETIMEDOUT:
		fail(f, error, "cannot %s %s: the daemon of %s does not answer", verb, name, quoted(share->dir));
		return FAILED;
	case -E2BIG:
		fail(f, error, "cannot %s %s: its path is too long for a request", verb, name);
		return FAILED;
	}
	fail(f, error, "cannot %s %s: %s", verb, name, *said ? said : strerror(-error));
	return FAILED;
}

/* Through the control socket. *ret_until: the new end, for EXTEND. */
static int request_socket(const struct job *job, const struct target *target, char ret_until[VALUE_BYTES],
			  const char **ret_said, struct failure *f)
{
	json_t *request, *answer;
	struct client *client;
	char *path;
	int r;

	r = share_client(target->place->share, &client, f);
	if (r < 0)
		return r;
	if (control_path_encode(target->place->path, &path) < 0)
		return fail(f, -ENOMEM, "out of memory");
	request = json_pack("{s:s,s:s}", "verb", verbs[job->verb].name, "path", path);
	free(path);
	if (job->verb == EXTEND)
		json_object_set_new(request, "until", json_string(job->argument));
	f->text[0] = '\0';	/* from here on it is the request that fails */
	r = client_call(client, request, NULL, NULL, &answer);
	*ret_said = client_error(client);
	if (r < 0)
		return r;
	snprintf(ret_until, VALUE_BYTES, "%s", json_get_text(answer, "until"));
	json_decref(answer);
	return 0;
}

static enum result perform(const struct job *job, const struct target *target, char ret_until[VALUE_BYTES],
			   struct failure *f)
{
	const char *value = job->verb == EXTEND ? job->argument : "1", *said = "", *name = quoted(target->shown);
	bool by_xattr = target->place->share->mounted;
	int r;

	if (S_ISDIR(target->st.st_mode)) {
		fail(f, -EISDIR, "cannot %s %s: it is a directory; for every file below it, add -r",
		     verbs[job->verb].name, name);
		return FAILED;
	}
	if (!S_ISREG(target->st.st_mode)) {
		fail(f, -EINVAL, "cannot %s %s: only regular files can be locked%s", verbs[job->verb].name, name,
		     S_ISLNK(target->st.st_mode) ? ", and this is a symbolic link; name its target" : "");
		return FAILED;
	}
	if (by_xattr) {
		r = lower_setxattr(target->fd, job->verb == COMMIT ? XATTR_WORM_COMMIT :
				   job->verb == APPEND ? XATTR_WORM_APPEND : XATTR_WORM_UNTIL, value, strlen(value), 0);
		if (r == 0 && job->verb == EXTEND)
			get_value(target, XATTR_WORM_UNTIL, ret_until);
		if (r == -EACCES || r == -EROFS) {	/* the kernel's answer; root's daemon may see it otherwise */
			struct failure none;
			int again = request_socket(job, target, ret_until, &said, &none);

			if (again == 0 || !none.text[0])
				r = again;
		}
	} else {
		r = request_socket(job, target, ret_until, &said, f);
		if (r < 0 && f->text[0]) {
			char why[FAILURE_TEXT_BYTES];

			snprintf(why, sizeof(why), "%s", f->text);
			fail(f, r, "cannot %s %s: %.900s", verbs[job->verb].name, name, why);
			return FAILED;
		}
	}
	return r == 0 ? DONE : judge(job, target, r, said, f);
}

static int print_row(const char *shown, enum result result, const char *until, const struct failure *f)
{
	json_t *row = json_object();

	if (!row || json_set_path(row, shown) < 0) {
		json_decref(row);
		return -ENOMEM;
	}
	json_object_set_new(row, "ok", json_boolean(result != FAILED));
	if (result == FAILED) {
		json_object_set_new(row, "errno", json_string(errno_name(-f->error)));
		json_object_set_new(row, "error", json_text(f->text));
	} else {
		json_object_set_new(row, "changed", json_boolean(result == DONE));
		if (*until)
			json_object_set_new(row, "until", json_text(until));
	}
	return print_json(row);
}

static void print_line(const struct job *job, const char *shown, enum result result, const char *until)
{
	print_name(stdout, shown);
	switch (job->verb) {
	case COMMIT:
		fputs(": locked\n", stdout);
		break;
	case APPEND:
		fputs(": append-only\n", stdout);
		break;
	case EXTEND:
		fputs(": locked until ", stdout);
		print_name(stdout, *until ? until : job->argument);
		fputc('\n', stdout);
		break;
	}
}

static int on_target(void *arg, const char *shown, const struct target *target, const struct failure *unreachable)
{
	struct job *job = arg;
	char until[VALUE_BYTES] = "";
	struct failure f;
	enum result result = FAILED;

	if (target)
		result = perform(job, target, until, &f);
	else
		f = *unreachable;
	job->count[result]++;
	if (job->ctl->json)
		return print_row(shown, result, until, &f);
	if (result == FAILED)
		complain("%s", f.text);
	else if (!job->bulk)
		print_line(job, shown, result, until);
	return 0;
}

static int print_summary(const struct job *job)
{
	const uint64_t *n = job->count;

	if (job->ctl->json)
		return print_json(json_pack("{s:I,s:I,s:I}", "done", (json_int_t)n[DONE], "unchanged",
					    (json_int_t)n[UNCHANGED], "failed", (json_int_t)n[FAILED]));
	printf("%llu %s, %llu unchanged, %llu failed\n", (unsigned long long)n[DONE], verbs[job->verb].done,
	       (unsigned long long)n[UNCHANGED], (unsigned long long)n[FAILED]);
	return 0;
}

static int check_argument(const struct command *command, struct job *job)
{
	if (job->verb == EXTEND) {
		if (retention_parse(job->argument, &job->until) < 0)
			return wrong_usage(command, "%s is no date or period: write 30d, 7y, 1y6mo, 2030-01-01, "
					   "2030-01-01T12:00:00Z or infinite", quoted(job->argument));
		if (job->until.kind == RETENTION_IS_UNSPECIFIED)
			return wrong_usage(command, "a retention cannot be made unspecified: name a date or a period");
	}
	return EXIT_YES;
}

static int run_job(struct wormctl *ctl, const struct command *command, enum verb verb, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, PATH_OPTIONS, { 0 } };
	struct job job = { .ctl = ctl, .verb = verb };
	struct path_options paths = { 0 };
	struct shares *shares;
	struct failure f;
	int c, r;

	while ((c = getopt_long(argc, argv, ":hr0", options, NULL)) != -1) {
		if (path_option(&paths, c))
			continue;
		r = common_option(ctl, command, c, argv);
		if (r >= 0)
			return r;
	}
	argc -= optind;
	argv += optind;
	if (verb != COMMIT && verb != APPEND) {
		if (argc == 0)
			return wrong_usage(command, "until when? UNTIL is missing");
		job.argument = argv[0];
		argc--;
		argv++;
		r = check_argument(command, &job);
		if (r)
			return r;
	}
	if (!paths_check(command, &paths, argc))
		return EXIT_COULD_NOT;
	job.bulk = paths.recursive || paths.files_from;
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = paths_each(shares, &paths, argc, argv, on_target, &job, &f);
	shares_close(shares);
	if (r < 0)
		complain("%s", f.text);
	else if (job.bulk)
		r = print_summary(&job);
	return finish_output(r < 0 || job.count[FAILED] ? EXIT_COULD_NOT : EXIT_YES);
}

static int run_commit(struct wormctl *ctl, int argc, char **argv)
{
	return run_job(ctl, &command_commit, COMMIT, argc, argv);
}

static int run_append(struct wormctl *ctl, int argc, char **argv)
{
	return run_job(ctl, &command_append, APPEND, argc, argv);
}

static int run_extend(struct wormctl *ctl, int argc, char **argv)
{
	return run_job(ctl, &command_extend, EXTEND, argc, argv);
}

#define HELP_PATHS \
	"  -r, --recursive    every regular file below a directory; symbolic links are not\n" \
	"                     followed, other mounts not entered\n" \
	"      --files-from FILE\n" \
	"                     names from FILE, one a line; \"-\" is standard input\n" \
	"  -0, --null         the names in FILE end with NUL, not with a newline\n" \
	"      --json         one JSON object a file: path, ok, changed, errno, error;\n" \
	"                     with -r or --files-from a last one: done, unchanged, failed\n" \
	"      --state-dir DIR\n" \
	"                     where the share keeps its state, if the mount cannot be asked\n" \
	"\n" \
	"An error does not stop it: the other files are done, and the exit code is 2.\n"

#define HELP_EXIT "Exit codes: 0 all done, 2 some could not be done.\n"

const struct command command_commit = {
	.name = "commit",
	.summary = "lock files now",
	.help =
	"Usage: wormctl commit [-r] [--json] PATH...\n"
	"\n"
	"Locks files now, with the retention and the hold that the mount gives, whatever their\n"
	"names and also when they are empty. A file that is locked already stays as it is; an append-only\n"
	"one is made final. A file that a program has open for writing is refused (EBUSY).\n"
	"The owner of a file may ask for it, and root.\n"
	"\n"
	HELP_PATHS
	"\n"
	"Examples:\n"
	"  wormctl commit report.part\n"
	"  wormctl commit -r /srv/share/2026\n"
	"  find . -mtime +30 -type f -print0 | wormctl commit --files-from - -0\n"
	"\n"
	HELP_EXIT,
	.run = run_commit,
};

const struct command command_append = {
	.name = "append",
	.summary = "make files append-only",
	.help =
	"Usage: wormctl append [-r] [--json] PATH...\n"
	"\n"
	"Makes empty or unlocked files append-only: what is in them is locked, and who opens them with\n"
	"O_APPEND may add to their end (logs, journals). Nothing else is allowed, and they cannot be deleted.\n"
	"To make one final: chmod -w, or wormctl commit; its retention begins then. A file that is locked\n"
	"is refused (EPERM), one that a program has open as well (EBUSY).\n"
	"The owner of a file may ask for it, and root.\n"
	"\n"
	HELP_PATHS
	"\n"
	"Examples:\n"
	"  touch trail.log && wormctl append trail.log && date >>trail.log\n"
	"  wormctl commit trail.log\n"
	"\n"
	HELP_EXIT,
	.run = run_append,
};

const struct command command_extend = {
	.name = "extend",
	.summary = "keep locked files longer",
	.help =
	"Usage: wormctl extend [-r] [--json] UNTIL PATH...\n"
	"\n"
	"Moves the end of retention to UNTIL: a period from now (90s 12h 30d 2w 6mo 7y, or added up:\n"
	"1y6mo), a date in UTC (2030-01-01, 2030-01-01T12:00:00Z, @1893456000) or \"infinite\". An earlier\n"
	"end than the file has is refused (EPERM), an end outside of the mount's min and max as well\n"
	"(EINVAL). In a tree, files that are kept longer already count as unchanged.\n"
	"The owner of a file may ask for it, and root. What is expired can be extended, too.\n"
	"\n"
	HELP_PATHS
	"\n"
	"Examples:\n"
	"  wormctl extend 7y contract.pdf\n"
	"  wormctl extend 2035-01-01 -r /srv/share/2026\n"
	"  wormctl list --expires-before 90d -0 | wormctl extend 1y --files-from - -0\n"
	"\n"
	HELP_EXIT,
	.run = run_extend,
};
