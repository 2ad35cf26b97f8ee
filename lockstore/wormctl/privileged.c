/* delete, shorten, approve, requests, expire: what makes a lock end early or its file go. All over the control socket;
 * the daemon decides, and puts who, what and why into the audit log before it does anything. One file that fails does not
 * stop the others. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/ledger_approvals.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/paths.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

struct job {
	struct wormctl *ctl;
	const char *verb;		/* "delete", "shorten" */
	const char *until, *reason;
	uint64_t done, pending, failed;
};

static void print_row(struct job *job, const char *shown, const json_t *answer, const struct failure *f)
{
	json_t *row = json_object();

	if (!row || json_set_path(row, shown) < 0) {
		json_decref(row);
		return;
	}
	json_object_set_new(row, "ok", json_boolean(answer != NULL));
	if (answer) {
		if (json_object_get(answer, "pending"))
			json_object_set(row, "pending", json_object_get(answer, "pending"));
		if (json_object_get(answer, "until"))
			json_object_set(row, "until", json_object_get(answer, "until"));
	} else {
		json_object_set_new(row, "errno", json_string(errno_name(-f->error)));
		json_object_set_new(row, "error", json_text(f->text));
	}
	(void)print_json(row);	/* finish_output() says when stdout failed */
}

static void say_done(struct job *job, const char *shown, const json_t *answer)
{
	json_int_t pending = json_get_int(answer, "pending");

	job->pending += pending != 0;
	job->done += pending == 0;
	if (job->ctl->json) {
		print_row(job, shown, answer, NULL);
		return;
	}
	print_name(stdout, shown);
	if (pending)
		printf(": request %lld waits until somebody else approves it: wormctl approve %lld (until %s)\n", (long long)pending,
		       (long long)pending, json_get_text(answer, "expires"));
	else if (job->until)
		printf(": locked until %s\n", json_get_text(answer, "until"));
	else
		printf(": deleted\n");
}

static void say_failed(struct job *job, const char *shown, const struct failure *f)
{
	job->failed++;
	if (job->ctl->json)
		print_row(job, shown, NULL, f);
	else
		complain("%s", f->text);
}

/* The request about one file. 0: *ret_answer is the caller's. */
static int ask(const struct job *job, const struct place *place, const char *shown, json_t **ret_answer, struct failure *f)
{
	struct client *client;
	struct failure why;
	json_t *request;
	char *path;
	int r;

	r = share_client(place->share, &client, &why);
	if (r < 0)
		return fail(f, r, "cannot %s %s: %.900s", job->verb, quoted(shown), why.text);
	if (control_path_encode(place->path, &path) < 0)
		return fail(f, -ENOMEM, "out of memory");
	request = json_pack("{s:s,s:s,s:s}", "verb", job->verb, "path", path, "reason", job->reason ? job->reason : "");
	free(path);
	if (job->until)
		json_object_set_new(request, "until", json_string(job->until));
	r = client_call(client, request, NULL, NULL, ret_answer);
	if (r < 0)
		return fail(f, r, "cannot %s %s: %s", job->verb, quoted(shown), *client_error(client) ? client_error(client) : strerror(-r));
	return 0;
}

static int on_target(void *arg, const char *shown, const struct target *target, const struct failure *unreachable)
{
	struct job *job = arg;
	json_t *answer = NULL;
	struct failure f;

	if (!target)
		f = *unreachable;
	else if (!S_ISREG(target->st.st_mode))
		fail(&f, S_ISDIR(target->st.st_mode) ? -EISDIR : -EINVAL, "cannot %s %s: only regular files can be locked%s", job->verb,
		     quoted(shown), S_ISDIR(target->st.st_mode) ? "; name the files themselves" : "");
	else
		(void)ask(job, target->place, shown, &answer, &f);
	if (answer)
		say_done(job, shown, answer);
	else
		say_failed(job, shown, &f);
	json_decref(answer);
	return 0;
}

static int run_job(struct wormctl *ctl, const struct command *command, struct job *job, int argc, char **argv)
{
	enum { OPT_REASON = OPT_OF_COMMAND };
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "reason", required_argument, NULL, OPT_REASON },
		{ "files-from", required_argument, NULL, OPT_FILES_FROM },
		{ "null", no_argument, NULL, '0' },
		{ 0 },
	};
	struct path_options paths = { 0 };
	struct retention until;
	struct shares *shares;
	struct failure f;
	int c, r;

	job->ctl = ctl;
	job->verb = command->name;
	while ((c = getopt_long(argc, argv, ":h0", options, NULL)) != -1) {
		if (c == OPT_REASON) {
			job->reason = optarg;
			continue;
		}
		if (path_option(&paths, c))
			continue;
		r = common_option(ctl, command, c, argv);
		if (r >= 0)
			return r;
	}
	argc -= optind;
	argv += optind;
	if (strcmp(job->verb, "shorten") == 0) {
		if (!argc)
			return wrong_usage(command, "until when? UNTIL is missing");
		job->until = *argv++;
		argc--;
		if (retention_parse(job->until, &until) < 0 || (until.kind != RETENTION_DATE && until.kind != RETENTION_PERIOD))
			return wrong_usage(command, "%s is no date or period: write 30d, 1y6mo, 2030-01-01 or 2030-01-01T12:00:00Z",
					   quoted(job->until));
	}
	if (!job->reason || !*job->reason)
		return wrong_usage(command, "why? --reason TEXT is needed");
	if (strlen(job->reason) > APPROVAL_REASON_MAX_BYTES || !text_is_printable(job->reason))
		return wrong_usage(command, "--reason: a line of text of at most %d bytes", APPROVAL_REASON_MAX_BYTES);
	if (!paths_check(command, &paths, argc))
		return EXIT_COULD_NOT;
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = paths_each(shares, &paths, argc, argv, on_target, job, &f);
	shares_close(shares);
	if (r < 0)
		complain("%s", f.text);
	return finish_output(r < 0 || job->failed ? EXIT_COULD_NOT : EXIT_YES);
}

static int run_delete(struct wormctl *ctl, int argc, char **argv)
{
	return run_job(ctl, &command_delete, &(struct job){ 0 }, argc, argv);
}

static int run_shorten(struct wormctl *ctl, int argc, char **argv)
{
	return run_job(ctl, &command_shorten, &(struct job){ 0 }, argc, argv);
}

/* ---- the second person ---- */

static int find_client(struct shares *shares, const char *path, struct place *ret_place, struct client **ret_client)
{
	struct failure f;
	int r;

	r = shares_find(shares, path, true, ret_place, &f);
	if (r == 0) {
		r = share_client(ret_place->share, ret_client, &f);
		if (r < 0)
			place_fini(ret_place);
	}
	if (r < 0)
		complain("%s", f.text);
	return r;
}

static int print_request(const struct share *share, const json_t *row, bool json)
{
	char *path = NULL, *shown;
	json_t *copy;
	int r;

	if (control_path_decode(json_get_text(row, "path"), &path) < 0)
		return -EPROTO;
	if (json) {
		copy = json_deep_copy(row);
		json_object_del(copy, "path");
		r = json_set_path(copy, path);
		free(path);
		return r < 0 ? r : print_json(copy);
	}
	shown = path_join(share->dir, path);
	printf("%6lld  %-8s by uid %lld, %s, until %s: ", (long long)json_get_int(row, "id"), json_get_text(row, "verb"),
	       (long long)json_get_int(row, "by"), json_get_text(row, "at"), json_get_text(row, "expires"));
	print_name(stdout, shown ? shown : path);
	if (*json_get_text(row, "until"))
		printf(" to %s", json_get_text(row, "until"));
	fputs(": ", stdout);
	print_name(stdout, json_get_text(row, "reason"));
	putchar('\n');
	free(shown);
	free(path);
	return 0;
}

static int no_options(struct wormctl *ctl, const struct command *command, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { 0 } };
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = common_option(ctl, command, c, argv);
		if (r >= 0)
			return r;
	}
	return -1;
}

static int run_requests(struct wormctl *ctl, int argc, char **argv)
{
	json_t *answer = NULL, *list, *row;
	struct client *client;
	struct shares *shares;
	struct place place;
	size_t i, n = 0;
	int r;

	r = no_options(ctl, &command_requests, argc, argv);
	if (r >= 0)
		return r;
	if (argc - optind > 1)
		return wrong_usage(&command_requests, "one path says which share: there are %d", argc - optind);
	if (shares_open(ctl, &shares) < 0)
		return EXIT_COULD_NOT;
	r = find_client(shares, argc > optind ? argv[optind] : ".", &place, &client);
	if (r == 0) {
		r = client_call(client, json_pack("{s:s}", "verb", "requests"), NULL, NULL, &answer);
		if (r < 0)
			complain("cannot list the requests: %s", *client_error(client) ? client_error(client) : strerror(-r));
		list = json_object_get(answer, "requests");
		n = json_array_size(list);
		json_array_foreach(list, i, row)
			if (r == 0)
				r = print_request(place.share, row, ctl->json);
		json_decref(answer);
		place_fini(&place);
	}
	shares_close(shares);
	return finish_output(r < 0 ? EXIT_COULD_NOT : n ? EXIT_YES : EXIT_NO);
}

static bool parse_id(const char *text, json_int_t *ret_id)
{
	char *end;

	errno = 0;
	*ret_id = strtoll(text, &end, 10);
	return !errno && !*end && *text >= '1' && *text <= '9';
}

static int run_approve(struct wormctl *ctl, int argc, char **argv)
{
	enum { OPT_SHARE = OPT_OF_COMMAND };
	static const struct option options[] = { COMMON_OPTIONS, { "share", required_argument, NULL, OPT_SHARE }, { 0 } };
	const char *path = ".";
	struct client *client;
	struct shares *shares;
	struct place place;
	json_int_t id;
	int c, r, code = EXIT_YES;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_SHARE) {
			path = optarg;
			continue;
		}
		r = common_option(ctl, &command_approve, c, argv);
		if (r >= 0)
			return r;
	}
	if (argc == optind)
		return wrong_usage(&command_approve, "which request? ID is missing (wormctl requests lists them)");
	for (int i = optind; i < argc; i++)
		if (!parse_id(argv[i], &id))
			return wrong_usage(&command_approve, "%s is no number of a request", quoted(argv[i]));
	if (shares_open(ctl, &shares) < 0)
		return EXIT_COULD_NOT;
	if (find_client(shares, path, &place, &client) < 0) {
		shares_close(shares);
		return EXIT_COULD_NOT;
	}
	for (int i = optind; i < argc; i++) {
		(void)parse_id(argv[i], &id);	/* it was one above */
		r = client_call(client, json_pack("{s:s,s:I}", "verb", "approve", "id", id), NULL, NULL, NULL);
		if (r < 0) {
			complain("cannot approve %lld: %s", (long long)id, *client_error(client) ? client_error(client) : strerror(-r));
			code = EXIT_COULD_NOT;
		} else if (ctl->json) {
			(void)print_json(json_pack("{s:I,s:b}", "id", id, "ok", 1));
		} else {
			printf("%lld: approved and done\n", (long long)id);
		}
	}
	place_fini(&place);
	shares_close(shares);
	return finish_output(code);
}

#define HELP_COMMON \
	"      --json         one JSON object a file\n" \
	"      --state-dir DIR\n" \
	"                     where the share keeps its state, if the mount cannot be asked\n" \
	"\n"
#define HELP_LIST \
	"      --files-from FILE\n" \
	"                     names from FILE, one a line; \"-\" is standard input\n" \
	"  -0, --null         the names in FILE end with NUL, not with a newline\n"

const struct command command_delete = {
	.name = "delete",
	.summary = "delete locked files before their time (governance)",
	.help =
	"Usage: wormctl delete --reason TEXT [--json] PATH...\n"
	"\n"
	"Deletes locked files whose retention has not ended: with the mount option privdel=on, in\n"
	"governance mode, and never past a legal hold. Who, what and why are in the audit log before it is\n"
	"done. All names of a file go. With the mount option approve it waits for a second person.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"      --reason TEXT  why; it is needed, one line of at most 1024 bytes\n"
	HELP_LIST
	HELP_COMMON
	"Example:\n"
	"  wormctl delete --reason 'contains personal data, see ticket 7' mail.eml\n"
	"\n"
	"Exit codes: 0 all done, or wait for approval; 2 some could not be done.\n",
	.run = run_delete,
};

const struct command command_shorten = {
	.name = "shorten",
	.summary = "end the retention of files earlier (governance)",
	.help =
	"Usage: wormctl shorten --reason TEXT [--json] UNTIL PATH...\n"
	"\n"
	"Moves the end of retention to an earlier UNTIL: a date in UTC or a period from now. The same rules as\n"
	"for wormctl delete. Not below the mount's min, counted from when the file was locked. An end that\n"
	"is not earlier is refused (EINVAL).\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"      --reason TEXT  why; it is needed, one line of at most 1024 bytes\n"
	HELP_LIST
	HELP_COMMON
	"Example:\n"
	"  wormctl shorten --reason 'typed 70y for 7y' 7y contract.pdf\n"
	"\n"
	"Exit codes: 0 all done, or wait for approval; 2 some could not be done.\n",
	.run = run_shorten,
};

const struct command command_requests = {
	.name = "requests",
	.summary = "list what waits for a second person",
	.help =
	"Usage: wormctl requests [--json] [PATH]\n"
	"\n"
	"Lists what wormctl delete and shorten asked for and nobody approved yet, on the share that PATH, or the\n"
	"working directory, is in. A request is forgotten after 24 hours.\n"
	"Root, the user who runs the daemon, and whom the mount's approve option names may.\n"
	"\n"
	HELP_COMMON
	"Exit codes: 0 there are some, 1 there is none, 2 could not ask.\n",
	.run = run_requests,
};

const struct command command_approve = {
	.name = "approve",
	.summary = "approve what somebody else asked for",
	.help =
	"Usage: wormctl approve [--json] [--share PATH] ID...\n"
	"\n"
	"Approves requests of wormctl delete and shorten (wormctl requests lists them): they are done now, if\n"
	"they still may be. Only whom the mount's approve option names may, and nobody his own request.\n"
	"\n"
	"      --share PATH   a path on the share [the working directory]\n"
	HELP_COMMON
	"Exit codes: 0 all done, 2 some could not be done.\n",
	.run = run_approve,
};
