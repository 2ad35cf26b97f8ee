/* hold and release: one order for all that was named, all or none.
 *
 * The names go to the daemon in portions, and each portion comes back with what cannot be held. Only when there is
 * nothing of that is the order run: then it is decided and durable, whatever happens to us or to the daemon. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/ledger_orders.h"
#include "lockstore/wormctl/hold.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/paths.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

#define PORTION_BYTES 32768		/* of encoded paths in one request; CONTROL_LINE_MAX is the bound */

/* What was named and may be spoken of later. */
struct named {
	char *shown;		/* as the user wrote it */
	char *path;		/* encoded, as the daemon writes it */
	bool tree;
	bool have;		/* had the hold before */
};

struct job {
	struct wormctl *ctl;
	const struct command *command;
	bool release, recursive, future, all, progress;
	const char *name, *reason;
	bool from_list;			/* names come from a list: too many to be kept */
	struct share *share;		/* of the first path */
	struct client *client;
	json_int_t order;		/* 0: none yet */
	bool resumed;
	json_t *portion[2];		/* paths of files, of trees */
	size_t portion_bytes[2];
	struct named *named;		/* of the portions, and with a few names of all of them */
	size_t count, max;
	uint64_t files, trees;		/* named, without those that failed */
	uint64_t failed, done, unchanged, waiting;
	bool ended, showed_progress;
};

/* ---- what is said ---- */

static void clear_progress(struct job *job)
{
	if (job->showed_progress)
		fputs("\r\033[K", stderr);
	job->showed_progress = false;
}

static void say_failure(struct job *job, const char *shown, const struct failure *f)
{
	json_t *row;

	clear_progress(job);
	job->failed++;
	if (!job->ctl->json) {
		complain("%s", f->text);
		return;
	}
	row = json_object();
	if (!row || json_set_path(row, shown) < 0) {
		json_decref(row);
		return;
	}
	json_object_set_new(row, "ok", json_false());
	json_object_set_new(row, "errno", json_string(errno_name(-f->error)));
	json_object_set_new(row, "error", json_text(f->text));
	(void)print_json(row);	/* finish_output() says when stdout failed */
}

/* How the user would name what the daemon calls `encoded`. The caller frees it. */
static char *shown_name(struct job *job, const char *encoded)
{
	char *path = NULL, *shown = NULL;

	for (size_t i = 0; i < job->count; i++) {
		const struct named *n = &job->named[i];
		size_t len = strlen(n->path);

		if (strcmp(n->path, encoded) == 0)
			return strdup(n->shown);
		if (!n->tree || strncmp(n->path, encoded, len) != 0 || (len && encoded[len] != '/'))
			continue;
		if (control_path_decode(encoded + len + (len > 0), &path) < 0)
			continue;
		shown = path_join(n->shown, path);
		free(path);
		return shown;
	}
	if (control_path_decode(encoded, &path) < 0)
		return strdup(encoded);
	shown = path_join(job->share->dir, path);
	free(path);
	return shown;
}

/* ", it has: 'a', 'b'" or "". */
static void list_holds(struct job *job, const char *encoded, char *buf, size_t len_bytes)
{
	json_t *answer = NULL, *holds, *hold;
	size_t len = 0, i;

	buf[0] = '\0';
	if (client_call(job->client, json_pack("{s:s,s:s}", "verb", "explain", "path", encoded), NULL, NULL, &answer) < 0)
		return;
	holds = json_object_get(json_object_get(answer, "file"), "holds");
	json_array_foreach(holds, i, hold)
		if (json_string_value(hold) && len < len_bytes)
			len += snprintf(buf + len, len_bytes - len, "%s%s", i ? ", " : "; it has: ", quoted(json_string_value(hold)));
	if (!json_array_size(holds))
		snprintf(buf, len_bytes, "; it has none");
	json_decref(answer);
}

/* One entry of what the daemon cannot hold. */
static void on_failed(struct job *job, const json_t *entry, bool may_ask)
{
	const char *encoded = json_get_text(entry, "path"), *said = json_get_text(entry, "error");
	const char *verb = job->release ? "release" : "hold", *name;
	int error = -errno_number(json_get_text(entry, "errno"));
	char *shown = shown_name(job, encoded), holds[256] = "";
	struct failure f;

	if (!shown)
		return;
	name = quoted(shown);
	if (job->release && error == -ENOENT && may_ask) {
		list_holds(job, encoded, holds, sizeof(holds));
		fail(&f, error, "cannot release %s: it is not under hold %s%s", name, quoted(job->name), holds);
	} else if (error == -EINVAL && strstr(said, "not locked yet")) {
		fail(&f, error, "cannot hold %s: it is not locked yet; run: wormctl commit %s", name, name);
	} else if (error == -EIO) {
		fail(&f, error, "cannot %s %s: %s; see: wormctl status %s", verb, name, said, name);
	} else {
		fail(&f, error, "cannot %s %s: %s", verb, name, said);
	}
	say_failure(job, shown, &f);
	free(shown);
}

static void on_progress(void *arg, const json_t *progress)
{
	const json_t *failed = json_object_get(progress, "failed");
	struct job *job = arg;

	if (failed) {
		on_failed(job, failed, false);
	} else if (job->progress) {
		fprintf(stderr, "\r\033[K%s: %lld files", json_get_text(progress, "phase"), (long long)json_get_int(progress, "files"));
		job->showed_progress = true;
	}
}

/* ---- the order ---- */

/* The daemon refused, or is not there: one line, and the run ends. */
static int could_not(struct job *job, int r, const struct failure *f)
{
	clear_progress(job);
	if (f)
		complain("%s", f->text);
	else if (r == -ENOTCONN || r == -ECONNRESET || r == -ETIMEDOUT)
		complain("the daemon of %s does not answer; what it decided is enforced: run this again when it is back, and it is "
			 "finished", quoted(job->share->dir));
	else
		complain("cannot %s %s: %s", job->release ? "release hold" : "place hold", quoted(job->name),
			 *client_error(job->client) ? client_error(job->client) : strerror(-r));
	return r;
}

static int new_order(struct job *job, struct share *share)
{
	json_t *request, *answer;
	struct failure f;
	int r;

	r = share_client(share, &job->client, &f);
	job->share = share;
	if (r < 0)
		return could_not(job, r, &f);
	request = json_pack("{s:s,s:s,s:s,s:b}", "verb", "order-new", "case", job->name, "reason", job->reason ? job->reason : "",
			    "future", job->future);
	r = client_call(job->client, request, NULL, NULL, &answer);
	if (r < 0)
		return could_not(job, r, NULL);
	job->order = json_get_int(answer, "order");
	job->resumed = json_get_bool(answer, "unfinished");
	json_decref(answer);
	if (job->resumed && !job->ctl->json)
		printf("an earlier order for %s was interrupted: it is finished first\n", quoted(job->name));
	return 0;
}

static void forget_named(struct job *job)
{
	while (job->count) {
		struct named *n = &job->named[--job->count];

		free(n->shown);
		free(n->path);
	}
}

static void mark_have(struct job *job, const json_t *have)
{
	const json_t *path;
	size_t i;

	json_array_foreach(have, i, path)
		for (size_t k = 0; k < job->count; k++)
			if (strcmp(job->named[k].path, json_string_value(path) ? json_string_value(path) : "") == 0)
				job->named[k].have = true;
}

static int send_portion(struct job *job, bool tree)
{
	json_t *request, *answer, *failed, *entry;
	size_t i;
	int r;

	if (!job->portion[tree])
		return 0;
	request = json_pack("{s:s,s:I,s:b,s:b,s:o}", "verb", "order-add", "order", job->order, "tree", tree, "release", job->release,
			    "paths", job->portion[tree]);
	job->portion[tree] = NULL;
	job->portion_bytes[tree] = 0;
	r = client_call(job->client, request, NULL, NULL, &answer);
	if (r < 0)
		return could_not(job, r, NULL);
	failed = json_object_get(answer, "failed");
	json_array_foreach(failed, i, entry)
		on_failed(job, entry, true);
	mark_have(job, json_object_get(answer, "have"));
	json_decref(answer);
	if (job->from_list && !tree)
		forget_named(job);
	return 0;
}

static int keep_named(struct job *job, const char *shown, const char *encoded, bool tree)
{
	struct named *grown;

	if (job->count == job->max) {
		job->max = job->max ? job->max * 2 : 64;
		grown = reallocarray(job->named, job->max, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		job->named = grown;
	}
	job->named[job->count] = (struct named){ strdup(shown), strdup(encoded), tree, false };
	if (!job->named[job->count].shown || !job->named[job->count].path)
		return -ENOMEM;
	job->count++;
	return 0;
}

static int add_path(struct job *job, const char *shown, const char *path, bool tree)
{
	char *encoded;
	int r;

	if (control_path_encode(path, &encoded) < 0)
		return -ENOMEM;
	if (job->portion_bytes[tree] + strlen(encoded) > PORTION_BYTES) {
		r = send_portion(job, tree);
		if (r < 0)
			goto out;
	}
	if (!job->portion[tree])
		job->portion[tree] = json_array();
	r = keep_named(job, shown, encoded, tree);
	if (r == 0 && json_array_append_new(job->portion[tree], json_string(encoded)) < 0)
		r = -ENOMEM;
	job->portion_bytes[tree] += strlen(encoded) + 4;
	job->files += !tree;
	job->trees += tree;
out:
	free(encoded);
	return r;
}

static int on_target(void *arg, const char *shown, const struct target *target, const struct failure *unreachable)
{
	const char *verb = ((struct job *)arg)->release ? "release" : "hold", *name = quoted(shown);
	struct job *job = arg;
	bool tree;
	struct failure f;
	int r;

	if (!target) {
		say_failure(job, shown, unreachable);
		return 0;
	}
	tree = S_ISDIR(target->st.st_mode);
	if (tree && !job->recursive && !job->future) {
		fail(&f, -EISDIR, "cannot %s %s: it is a directory; for every file below it, add -r", verb, name);
	} else if (!tree && !S_ISREG(target->st.st_mode)) {
		fail(&f, -EINVAL, "cannot %s %s: only regular files can be locked%s", verb, name,
		     S_ISLNK(target->st.st_mode) ? ", and this is a symbolic link; name its target" : "");
	} else if (job->share && job->share != target->place->share) {
		fail(&f, -EXDEV, "cannot %s %s: it is in another share than the paths before it, and a hold is placed on all or "
		     "none; one command for each share", verb, name);
	} else {
		r = job->order ? 0 : new_order(job, target->place->share);
		return r < 0 ? r : add_path(job, shown, target->place->path, tree);
	}
	say_failure(job, shown, &f);
	return 0;
}

static int run_order(struct job *job)
{
	json_t *request, *answer;
	int r;

	request = json_pack("{s:s,s:I,s:b}", "verb", "order-run", "order", job->order, "release", job->release);
	r = client_call(job->client, request, on_progress, job, &answer);
	clear_progress(job);
	if (r == -EINVAL && job->failed)
		return 0;	/* each was named */
	if (r < 0)
		return could_not(job, r, NULL);
	job->done = json_get_int(answer, "changed");
	job->unchanged = json_get_int(answer, "unchanged");
	job->waiting = json_get_int(answer, "waiting");
	job->failed += json_get_int(answer, "failed");
	job->ended = json_get_bool(answer, "ended");
	json_decref(answer);
	return 0;
}

/* ---- afterwards ---- */

static void print_named(struct job *job)
{
	for (size_t i = 0; i < job->count; i++) {
		const struct named *n = &job->named[i];
		json_t *row;

		if (n->tree)
			continue;
		if (job->ctl->json) {
			row = json_object();
			if (row && json_set_path(row, n->shown) == 0) {
				json_object_set_new(row, "ok", json_true());
				json_object_set_new(row, "changed", json_boolean(job->release || !n->have));
			}
			(void)print_json(row);	/* finish_output() says when stdout failed */
			continue;
		}
		print_name(stdout, n->shown);
		printf(": %s hold %s\n", job->release ? "released from" : n->have ? "is already under" : "is now under", quoted(job->name));
	}
}

static void print_summary(struct job *job)
{
	if (job->ctl->json) {
		(void)print_json(json_pack("{s:I,s:I,s:I,s:I,s:b}", "done", (json_int_t)job->done, "unchanged",
					   (json_int_t)job->unchanged, "failed", (json_int_t)job->failed, "waiting",
					   (json_int_t)job->waiting, "resumed", job->resumed));
		return;
	}
	printf("%llu %s, %llu unchanged, %llu failed", (unsigned long long)job->done, job->release ? "released" : "held",
	       (unsigned long long)job->unchanged, (unsigned long long)job->failed);
	if (job->waiting)
		printf("; %llu are being written, they come under the hold with their lock", (unsigned long long)job->waiting);
	if (job->failed && !job->done)
		fputs(": nothing was changed", stdout);
	putchar('\n');
}

static int finish(struct job *job, int r)
{
	bool bulk = job->trees || job->from_list || job->all;

	if (r == 0 && job->order && job->failed) {
		/* All or none. A daemon that does not hear it any more forgets the order at its next start. */
		if (job->client)
			(void)client_call(job->client, json_pack("{s:s,s:I}", "verb", "order-drop", "order", job->order), NULL, NULL, NULL);
	} else if (r == 0 && job->order) {
		r = run_order(job);
	}
	if (r == 0 && !job->failed && !job->from_list)
		print_named(job);
	if (r == 0 && (bulk || job->files + job->failed > 1))
		if (bulk || job->failed)
			print_summary(job);
	if (r == 0 && job->release && bulk && job->done + job->failed == 0 && !job->ended) {
		complain("no file there is under hold %s", quoted(job->name));
		r = -ENOENT;
	}
	return r < 0 || job->failed ? EXIT_COULD_NOT : EXIT_YES;
}

/* --all: the whole share that a path, or the working directory, is in. */
static int add_all(struct job *job, struct shares *shares, const char *path)
{
	struct place place;
	struct failure f;
	int r;

	r = shares_find(shares, path, false, &place, &f);
	if (r < 0) {
		complain("%s", f.text);
		return r;
	}
	r = new_order(job, place.share);
	if (r == 0)
		r = add_path(job, place.share->dir, "", true);
	place_fini(&place);
	return r;
}

enum { OPT_FUTURE = OPT_OF_COMMAND, OPT_REASON, OPT_ALL, OPT_PROGRESS, OPT_FROM };

static int parse_options(struct job *job, struct path_options *paths, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS, PATH_OPTIONS,
		{ "reason", required_argument, NULL, OPT_REASON },
		{ "progress", no_argument, NULL, OPT_PROGRESS },
		{ "from", required_argument, NULL, OPT_FROM },
		{ "future", no_argument, NULL, OPT_FUTURE },
		{ "all", no_argument, NULL, OPT_ALL },
		{ 0 },
	};
	int c, r;

	while ((c = getopt_long(argc, argv, ":hr0", options, NULL)) != -1) {
		if (c == OPT_REASON)
			job->reason = optarg;
		else if (c == OPT_PROGRESS)
			job->progress = true;
		else if (c == OPT_FROM)
			paths->files_from = optarg;
		else if (c == OPT_FUTURE && !job->release)
			job->future = true;
		else if (c == OPT_ALL && job->release)
			job->all = true;
		else if (c == OPT_FUTURE || c == OPT_ALL)
			return wrong_usage(job->command, "unknown option %s", quoted(argv[optind - 1]));
		else if (!path_option(paths, c)) {
			r = common_option(job->ctl, job->command, c, argv);
			if (r >= 0)
				return r;
		}
	}
	job->recursive = paths->recursive;
	paths->recursive = false;	/* the daemon walks trees */
	job->from_list = paths->files_from != NULL;
	return -1;
}

static int check_words(struct job *job, const struct path_options *paths, int argc, char **argv)
{
	if (argc == 0)
		return wrong_usage(job->command, "which hold? CASE is missing");
	job->name = argv[0];
	if (!job->name[0] || strlen(job->name) > LEDGER_CASE_MAX_BYTES || strchr(job->name, '/') || !text_is_printable(job->name))
		return wrong_usage(job->command, "%s is no name of a hold: 1 to %d bytes of UTF-8, no '/' and no control character",
				   quoted(job->name), LEDGER_CASE_MAX_BYTES);
	if (job->all && (argc > 2 || paths->files_from))
		return wrong_usage(job->command, "--all means the whole share: no more than one path says which");
	if (!job->all && !paths_check(job->command, paths, argc - 1))
		return EXIT_COULD_NOT;
	if (job->release && (!job->reason || !*job->reason))
		return wrong_usage(job->command, "why? a release needs --reason TEXT");
	if (job->reason && (strlen(job->reason) > LEDGER_REASON_MAX_BYTES || !text_is_printable(job->reason)))
		return wrong_usage(job->command, "--reason: a line of text of at most %d bytes", LEDGER_REASON_MAX_BYTES);
	return -1;
}

static int run_job(struct job *job, int argc, char **argv)
{
	struct path_options paths = { 0 };
	struct shares *shares;
	struct failure f = { 0 };
	int r;

	r = parse_options(job, &paths, argc, argv);
	if (r < 0)
		r = check_words(job, &paths, argc - optind, argv + optind);
	if (r >= 0)
		return r;
	argc -= optind + 1;
	argv += optind + 1;
	job->progress |= isatty(STDERR_FILENO);
	r = shares_open(job->ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	if (job->all) {
		r = add_all(job, shares, argc ? argv[0] : ".");
	} else {
		r = paths_each(shares, &paths, argc, argv, on_target, job, &f);
		if (r < 0 && f.text[0])
			complain("%s", f.text);
	}
	for (int tree = 0; r == 0 && tree < 2; tree++)
		r = send_portion(job, tree);
	r = finish(job, r);
	forget_named(job);
	free(job->named);
	json_decref(job->portion[0]);
	json_decref(job->portion[1]);
	shares_close(shares);
	return finish_output(r);
}

static int run_hold(struct wormctl *ctl, int argc, char **argv)
{
	struct job job = { .ctl = ctl, .command = &command_hold };

	if (argc > 1 && (strcmp(argv[1], "list") == 0 || strcmp(argv[1], "show") == 0))
		return run_hold_show(ctl, argc - 1, argv + 1);
	return run_job(&job, argc, argv);
}

static int run_release(struct wormctl *ctl, int argc, char **argv)
{
	struct job job = { .ctl = ctl, .command = &command_release, .release = true };

	return run_job(&job, argc, argv);
}

#define HELP_PATHS \
	"  -r, --recursive    a directory: every regular file below it; symbolic links are not\n" \
	"                     followed\n" \
	"      --from FILE, --files-from FILE\n" \
	"                     names from FILE, one a line; \"-\" is standard input\n" \
	"  -0, --null         the names in FILE end with NUL, not with a newline\n" \
	"      --progress     say how far it is [on a terminal]\n" \
	"      --json         one JSON object a file that was named: path, ok, changed, errno,\n" \
	"                     error; with -r, --from or --all a last one: done, unchanged, failed,\n" \
	"                     waiting, resumed\n" \
	"      --state-dir DIR\n" \
	"                     where the share keeps its state, if the mount cannot be asked\n" \
	"\n"

const struct command command_hold = {
	.name = "hold",
	.summary = "put locked files under a legal hold",
	.help =
	"Usage: wormctl hold [-r] [--future] [--reason TEXT] [--json] CASE PATH...\n"
	"       wormctl hold list [--json] [PATH]\n"
	"       wormctl hold show [--json] CASE [PATH]\n"
	"\n"
	"Puts locked files under the legal hold CASE (1-128 bytes of UTF-8, no '/'): they cannot be\n"
	"deleted until it is released, whatever their retention. A file may be under several holds. A file\n"
	"that has this hold already stays as it is.\n"
	"All or none: when one file cannot be held (it is missing, not locked yet, or its record cannot\n"
	"be read) each such file is named, and nothing is placed. Once decided, the hold is enforced for\n"
	"all of them at once; the daemon then goes through the files, also when this command is ended, and\n"
	"goes on after a crash. The same command again finishes it, too.\n"
	"list and show tell which holds there are, or all about one: who, when, why, files and bytes. (So\n"
	"no case can be called \"list\" or \"show\".)\n"
	"Only root, the user who runs the daemon, and whom the mount's hold_role names may.\n"
	"\n"
	"      --future       also what is locked later at or below a directory. What is there and\n"
	"                     not locked yet is locked now; what is being written comes under the\n"
	"                     hold with its lock and cannot be deleted until then\n"
	"      --reason TEXT  why, to be shown\n"
	HELP_PATHS
	"Examples:\n"
	"  wormctl hold case-12 contract.pdf mail.eml\n"
	"  wormctl hold case-12 --reason 'letter of 3 May' -r --future /srv/share/2026\n"
	"  wormctl list --uid alice -0 | wormctl hold case-12 --from - -0\n"
	"  wormctl hold show case-12\n"
	"\n"
	"Exit codes: 0 all done, 1 (list, show) there is none, 2 nothing was placed.\n",
	.run = run_hold,
};

const struct command command_release = {
	.name = "release",
	.summary = "release files from a legal hold",
	.help =
	"Usage: wormctl release [-r | --all] [--json] --reason TEXT CASE [PATH...]\n"
	"\n"
	"Takes the legal hold CASE from files. Their retention and their other holds stay. With -r a\n"
	"directory and all below it; files there that are not under the hold stay as they are, and what\n"
	"--future had in store for that directory ends. A file that is named and not under it is an\n"
	"error, and then nothing is released: all or none.\n"
	"Only root, the user who runs the daemon, and whom the mount's hold_role names may.\n"
	"\n"
	"      --all          every file of the share that PATH, or the working directory, is in\n"
	"      --reason TEXT  why; it is needed\n"
	HELP_PATHS
	"Examples:\n"
	"  wormctl release case-12 --reason 'settled' contract.pdf\n"
	"  wormctl release case-12 --reason 'settled' --all /srv/share\n"
	"\n"
	"Exit codes: 0 all done, 2 could not.\n",
	.run = run_release,
};
