/* push status, list, retry: what is on its way to a cluster. The queue is the ledger, so it is read from there, with and without a
 * daemon; the daemon knows how the cluster is, and tries again when it is told to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/ledger_push.h"
#include "lockstore/push_json.h"
#include "lockstore/wormctl/client.h"
#include "lockstore/wormctl/one_share.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/push.h"

enum { OPT_STATE = OPT_OF_COMMAND, OPT_AGAIN };

struct queue {
	struct wormctl *ctl;
	struct one_share one;
	struct ledger *ledger;
	const char *path;		/* of the share, "" = all */
	int state;			/* enum ledger_push_state; -1: all */
	bool again;
	uint64_t found;
	int64_t last_id;
	unsigned rows;			/* of this page */
};

static int parse_state(const char *text, int *ret_state)
{
	static const struct { const char *name; int state; } states[] = {
		{ "pending", LEDGER_PUSH_PENDING }, { "locked", LEDGER_PUSH_LOCKED }, { "failed", LEDGER_PUSH_FAILED }, { "all", -1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (strcmp(text, states[i].name) == 0) {
			*ret_state = states[i].state;
			return 0;
		}
	return -EINVAL;
}

/* Options and at most one PATH. -1: go on. */
static int parse(struct queue *q, const struct command *command, int argc, char **argv, const char **ret_path)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "state", required_argument, NULL, OPT_STATE },
		{ "again", no_argument, NULL, OPT_AGAIN },
		{ 0 },
	};
	int c, r;

	optind = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_STATE && command == &command_push_list) {
			if (parse_state(optarg, &q->state) < 0)
				return wrong_usage(command, "--state %s: it is pending, locked, failed or all", quoted(optarg));
		} else if (c == OPT_AGAIN && command == &command_push_retry) {
			q->again = true;
		} else if (c == OPT_STATE || c == OPT_AGAIN) {
			return wrong_usage(command, "unknown option %s", quoted(argv[optind - 1]));
		} else {
			r = common_option(q->ctl, command, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (argc - optind > 1)
		return wrong_usage(command, "one PATH at most");
	*ret_path = argc > optind ? argv[optind] : NULL;
	return -1;
}

static int open_queue(struct queue *q, const char *path, struct failure *f)
{
	int r;

	r = one_share_find(&q->one, q->ctl, path, f);
	if (r == 0)
		r = share_sync(q->one.share, f);
	if (r == 0)
		r = share_ledger(q->one.share, LEDGER_READONLY, &q->ledger, f);
	q->path = q->one.path ? q->one.path : "";
	return r;
}

static int end(struct queue *q, int r, const struct failure *f, int answer)
{
	if (r < 0)
		complain("%s", f->text);
	ledger_close(q->ledger);
	one_share_fini(&q->one);
	return finish_output(r < 0 ? EXIT_COULD_NOT : answer);
}

/* ---- status ---- */

static void print_cluster(const json_t *push)
{
	if (!json_is_object(push)) {
		puts("  cluster    nothing is pushed by a daemon now");
		return;
	}
	printf("  %-10s ", "cluster");
	print_name(stdout, json_get_text(push, "target"));
	fputs(" below ", stdout);
	print_name(stdout, json_get_text(push, "root"));
	putchar('\n');
	printf("  %-10s ", "state");
	print_name(stdout, json_get_text(push, "state"));
	if (*json_get_text(push, "reason")) {
		fputs(" since ", stdout);
		print_name(stdout, json_get_text(push, "since"));
		fputs(": ", stdout);
		print_name(stdout, json_get_text(push, "reason"));
		fputs("; next try ", stdout);
		print_name(stdout, json_get_text(push, "next_try"));
	}
	putchar('\n');
	printf("  %-10s %lld told, %lld refused, %lld requests since it was mounted, %lld on their way\n", "now",
	       (long long)json_get_int(push, "told"), (long long)json_get_int(push, "refused"), (long long)json_get_int(push, "requests"),
	       (long long)json_get_int(push, "in_flight"));
}

static int run_status(struct wormctl *ctl, int argc, char **argv)
{
	struct queue q = { .ctl = ctl };
	uint64_t waiting = 0, failed = 0;
	const json_t *push = NULL;
	const char *path;
	struct failure f;
	int r;

	r = parse(&q, &command_push_status, argc, argv, &path);
	if (r >= 0)
		return r;
	r = open_queue(&q, path, &f);
	if (r == 0) {
		r = ledger_push_count(q.ledger, &waiting, &failed);
		if (r < 0)
			(void)fail(&f, r, "%s", ledger_error(q.ledger));
	}
	if (r == 0 && q.one.share->mount)
		push = json_object_get(q.one.share->mount, "push");
	if (r == 0 && ctl->json) {
		(void)print_json(json_pack("{s:s, s:I, s:I, s:O?}", "share", q.one.share->dir, "waiting", (json_int_t)waiting,
					   "failed", (json_int_t)failed, "cluster", (json_t *)push));
	} else if (r == 0) {
		print_name(stdout, *q.one.share->dir ? q.one.share->dir : q.one.share->state_dir);
		putchar('\n');
		print_cluster(push);
		printf("  %-10s %llu wait, %llu failed%s\n", "locks", (unsigned long long)waiting, (unsigned long long)failed,
		       failed ? ": wormctl push list --state failed" : "");
	}
	return end(&q, r, &f, failed || (json_is_object(push) && strcmp(json_get_text(push, "state"), "ok") != 0) ? EXIT_NO : EXIT_YES);
}

const struct command command_push_status = {
	.name = "push status",
	.summary = "is the cluster there, what waits",
	.help =
	"Usage: wormctl push status [--json] [PATH]\n"
	"\n"
	"Says of the share of PATH (or the one that the working directory is in, or the one that is mounted) how the\n"
	"cluster is, how many locks wait for it, and how many did not reach it: refused, or nothing that a\n"
	"cluster could be told.\n"
	"\n"
	"      --json  one object: share, waiting, failed, cluster (as \"push\" in wormctl status --json, or null)\n"
	"\n"
	"Exit codes: 0 nothing is wrong, 1 the cluster is away or some failed, 2 could not ask.\n",
	.run = run_status,
};

/* ---- list ---- */

static bool is_below(const char *prefix, const char *path)
{
	size_t len = strlen(prefix);

	return !len || (strncmp(path, prefix, len) == 0 && (path[len] == '\0' || path[len] == '/'));
}

static int print_row(void *arg, const struct ledger_push_row *row)
{
	struct queue *q = arg;
	json_t *json;

	q->rows++;
	q->last_id = row->id;
	if (!is_below(q->path, row->path))
		return 0;
	q->found++;
	json = push_row_json(row);
	if (!json)
		return -ENOMEM;
	if (q->ctl->json) {
		json_t *line = json_object();

		if (!line || json_set_path(line, row->path) < 0) {
			json_decref(line);
			json_decref(json);
			return -ENOMEM;
		}
		(void)json_object_update(line, json);	/* out of memory prints less of it */
		json_decref(json);
		return print_json(line);
	}
	printf("%-8s %-20s %-4s %3u ", json_get_text(json, "state"), json_get_text(json, "want"), row->held ? "hold" : "-", row->tries);
	if (row->error && strcmp(json_get_text(json, "state"), "locked") != 0) {
		printf("%d ", row->status);
		print_name(stdout, row->class ? row->class : "-");
		putchar(' ');
		print_name(stdout, row->error);
		fputs("  ", stdout);
	}
	print_name(stdout, row->path);
	putchar('\n');
	json_decref(json);
	return ferror(stdout) ? -EIO : 0;
}

static int run_list(struct wormctl *ctl, int argc, char **argv)
{
	struct queue q = { .ctl = ctl, .state = -1, .last_id = INT64_MIN };
	const char *path;
	struct failure f;
	int r;

	r = parse(&q, &command_push_list, argc, argv, &path);
	if (r >= 0)
		return r;
	r = open_queue(&q, path, &f);
	while (r == 0) {
		q.rows = 0;
		r = ledger_push_list(q.ledger, q.state, q.last_id, LEDGER_PUSH_PAGE, print_row, &q);
		if (r < 0)
			(void)fail(&f, r, "%s", r == -EIO && ferror(stdout) ? "cannot write the list" : ledger_error(q.ledger));
		if (q.rows < LEDGER_PUSH_PAGE)
			break;
	}
	return end(&q, r, &f, q.found ? EXIT_YES : EXIT_NO);
}

const struct command command_push_list = {
	.name = "push list",
	.summary = "which files wait, failed, or are locked on the cluster",
	.help =
	"Usage: wormctl push list [--state STATE] [--json] [PATH]\n"
	"\n"
	"Lists the files at and below PATH whose locks a cluster is to have, from the ledger: also with nothing\n"
	"mounted. Without PATH: all of the share that the working directory is in, or that is mounted.\n"
	"\n"
	"      --state STATE  pending: not there yet, tried again by itself\n"
	"                     failed:  refused (tried again, seldom), or nothing that a cluster could be told\n"
	"                     locked:  confirmed by the cluster\n"
	"                     all      [all]\n"
	"      --json         one object a line: path, state, until and hold (what the cluster has), want, want_hold,\n"
	"                     status (of HTTP, 0: no answer), error_class, error, attempts, next_try\n"
	"\n"
	"Columns: state, end of retention (UTC), hold, attempts, why not, path.\n"
	"\n"
	"Exit codes: 0 files were found, 1 none was, 2 could not look.\n",
	.run = run_list,
};

/* ---- retry ---- */

static int ask_daemon(struct queue *q, struct failure *f, json_t **ret_answer)
{
	json_t *question = json_pack("{s:s, s:b}", "verb", "push-retry", "again", q->again);
	struct client *client;
	char *path = NULL;
	int r;

	/* Without its path it would be a question about the whole share. */
	r = question ? 0 : -ENOMEM;
	if (r == 0 && q->one.path && *q->one.path) {
		r = control_path_encode(q->one.path, &path);
		if (r == 0 && json_object_set_new(question, "path", json_string(path)) < 0)
			r = -ENOMEM;
		free(path);
	}
	if (r < 0) {
		json_decref(question);
		return fail(f, r, "cannot ask the daemon: %s", strerror(-r));
	}
	r = share_client(q->one.share, &client, f);
	if (r < 0) {
		json_decref(question);
		return r;
	}
	r = client_call(client, question, NULL, NULL, ret_answer);
	return r < 0 ? fail(f, r, "%s", *client_error(client) ? client_error(client) : strerror(-r)) : 0;
}

static int run_retry(struct wormctl *ctl, int argc, char **argv)
{
	struct queue q = { .ctl = ctl };
	json_t *answer = NULL;
	const char *path;
	struct failure f;
	int r;

	r = parse(&q, &command_push_retry, argc, argv, &path);
	if (r >= 0)
		return r;
	r = one_share_find(&q.one, ctl, path, &f);
	if (r == 0 && q.again && (!q.one.path || !*q.one.path))
		r = fail(&f, -EINVAL, "--again is for one file: name it");
	if (r == 0)
		r = ask_daemon(&q, &f, &answer);
	if (r == 0 && ctl->json)
		(void)print_json(json_pack("{s:I}", "files", (json_int_t)json_get_int(answer, "files")));
	else if (r == 0)
		printf("%lld files are tried again now\n", (long long)json_get_int(answer, "files"));
	json_decref(answer);
	return end(&q, r, &f, EXIT_YES);
}

const struct command command_push_retry = {
	.name = "push retry",
	.summary = "try again now",
	.help =
	"Usage: wormctl push retry [--again] [--json] [PATH]\n"
	"\n"
	"Tries again now what failed: all of the share, or this one file, which is pushed from now on even if it was\n"
	"locked when nothing was pushed. Needs the daemon, and root or its user.\n"
	"\n"
	"      --again  also what the cluster has confirmed: it is asked, and told again where it has the lock no more\n"
	"      --json   one object: files (how many)\n"
	"\n"
	"Exit codes: 0 they are tried, 2 could not ask.\n",
	.run = run_retry,
};
