/* expire: what may be deleted because its retention is over and no hold is on it, and, when told to, deletes it.
 *
 * The ledger says what to look at; the daemon looks at the file itself, through the same guard as unlink(2), under its
 * lock, and deletes it with a line in the audit log first. Not through the mount: between our look and unlink(2) the name
 * could become another file's, and the daemon knows which file is meant to be expired. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/control.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

#define RATE_MAX 1000000

struct expire {
	struct wormctl *ctl;
	bool delete;
	unsigned rate;			/* files a second, 0: as fast as it goes */
	const char *before;		/* --before, or NULL */
	struct share *share;
	struct ledger *ledger;
	struct ledger_filter filter;
	size_t prefix_len;
	const char *shown;		/* of the path that was named */
	struct timespec next;		/* CLOCK_MONOTONIC: not earlier than this */
	uint64_t found, bytes, done, failed;
};

/* Evenly, so that nobody else's requests wait behind a burst. */
static void keep_rate(struct expire *x)
{
	struct timespec now;

	if (!x->rate)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (x->next.tv_sec > now.tv_sec || (x->next.tv_sec == now.tv_sec && x->next.tv_nsec > now.tv_nsec))
		(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &x->next, NULL);	/* a signal makes one file earlier */
	else
		x->next = now;
	x->next.tv_nsec += 1000000000L / x->rate;
	x->next.tv_sec += x->next.tv_nsec / 1000000000;
	x->next.tv_nsec %= 1000000000;
}

static char *shown_path(const struct expire *x, const char *path)
{
	const char *rest = path + x->prefix_len;

	return path_join(x->shown, rest + strspn(rest, "/"));
}

static int delete_one(struct expire *x, const char *path, struct failure *f, const char *shown)
{
	struct client *client;
	char *encoded;
	int r;

	keep_rate(x);
	r = share_client(x->share, &client, f);
	if (r < 0)
		return r;
	if (control_path_encode(path, &encoded) < 0)
		return fail(f, -ENOMEM, "out of memory");
	r = client_call(client, json_pack("{s:s,s:s}", "verb", "expire", "path", encoded), NULL, NULL, NULL);
	free(encoded);
	if (r < 0)
		fail(f, r, "cannot delete %s: %s", quoted(shown), *client_error(client) ? client_error(client) : strerror(-r));
	return r;
}

static int on_row(void *arg, const struct ledger_row *row)
{
	char *shown, until[RETENTION_TEXT_BYTES];
	struct expire *x = arg;
	struct failure f;
	json_t *json;
	int r = 0;

	shown = shown_path(x, row->path);
	if (!shown)
		return -ENOMEM;
	x->found++;
	x->bytes += row->rec.size_bytes;
	retention_format_until(row->rec.until_s, until);
	if (x->delete)
		r = delete_one(x, row->path, &f, shown);
	x->done += x->delete && r == 0;
	x->failed += r < 0;
	if (x->ctl->json) {
		json = json_object();
		if (json && json_set_path(json, shown) == 0) {
			json_object_set_new(json, "until", json_string(until));
			json_object_set_new(json, "size", json_integer((json_int_t)row->rec.size_bytes));
			json_object_set_new(json, "deleted", json_boolean(x->delete && r == 0));
			if (r < 0)
				json_object_set_new(json, "error", json_text(f.text));
		}
		(void)print_json(json);		/* finish_output() says when stdout failed */
	} else if (r < 0) {
		complain("%s", f.text);
	} else {
		printf("%s %14llu ", until, (unsigned long long)row->rec.size_bytes);
		print_name(stdout, shown);
		putchar('\n');
	}
	free(shown);
	/* A daemon that is gone will not be there for the next file either. */
	return r == -ENOTCONN || r == -ECONNRESET || r == -ETIMEDOUT || r == -EACCES || ferror(stdout) ? -ECANCELED : 0;
}

static int expire_place(struct expire *x, struct share *share, const char *path, const char *shown)
{
	struct retention before;
	struct failure f;
	int64_t now_s;
	int r;

	x->share = share;
	x->shown = shown;
	x->prefix_len = strlen(path);
	if (share_sync(share, &f) < 0 || share_ledger(share, LEDGER_READONLY, &x->ledger, &f) < 0) {
		complain("%s", f.text);
		return f.error;
	}
	now_s = share_now_s(share);
	x->filter = (struct ledger_filter){ .prefix = path, .state = LEDGER_EXPIRED, .now_s = now_s };
	if (x->before) {
		(void)retention_parse(x->before, &before);	/* checked when the option was read */
		x->filter.by_expiry = true;
		x->filter.expires_before_s = before.kind == RETENTION_DATE ? before.seconds : now_s - (retention_until(&before, now_s) - now_s);
	}
	r = ledger_each(x->ledger, &x->filter, on_row, x);
	if (r < 0 && r != -ECANCELED)
		complain("cannot read the ledger of %s: %s", quoted(share->dir), ledger_error(x->ledger));
	ledger_close(x->ledger);
	return r;
}

enum { OPT_LIST = OPT_OF_COMMAND, OPT_DELETE, OPT_RATE, OPT_BEFORE };

static bool parse_rate(const char *text, unsigned *ret_rate)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *text == '-' || n < 1 || n > RATE_MAX || (*end && strcmp(end, "/s") != 0))
		return false;
	*ret_rate = n;
	return true;
}

static int parse_options(struct expire *x, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "list", no_argument, NULL, OPT_LIST },
		{ "delete", no_argument, NULL, OPT_DELETE },
		{ "rate", required_argument, NULL, OPT_RATE },
		{ "before", required_argument, NULL, OPT_BEFORE },
		{ 0 },
	};
	struct retention before;
	bool list = false;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_LIST:
			list = true;
			break;
		case OPT_DELETE:
			x->delete = true;
			break;
		case OPT_RATE:
			if (!parse_rate(optarg, &x->rate))
				return wrong_usage(&command_expire, "--rate %s: files a second, 1/s to %d/s", quoted(optarg), RATE_MAX);
			break;
		case OPT_BEFORE:
			if (retention_parse(optarg, &before) < 0 || (before.kind != RETENTION_DATE && before.kind != RETENTION_PERIOD))
				return wrong_usage(&command_expire, "--before %s: write a date (2030-01-01) or a period (90d: that long ago)",
						   quoted(optarg));
			x->before = optarg;
			break;
		default:
			r = common_option(x->ctl, &command_expire, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (list && x->delete)
		return wrong_usage(&command_expire, "--list or --delete: not both");
	if (argc - optind > 1)
		return wrong_usage(&command_expire, "one path: there are %d", argc - optind);
	return -1;
}

static int run_expire(struct wormctl *ctl, int argc, char **argv)
{
	struct expire x = { .ctl = ctl };
	struct shares *shares;
	struct place place;
	struct failure f;
	const char *path;
	int r;

	r = parse_options(&x, argc, argv);
	if (r >= 0)
		return r;
	if (shares_open(ctl, &shares) < 0)
		return EXIT_COULD_NOT;
	path = argc > optind ? argv[optind] : ".";
	r = shares_find(shares, path, false, &place, &f);
	if (r < 0) {
		complain("%s", f.text);
	} else {
		r = expire_place(&x, place.share, place.path, path);
		place_fini(&place);
	}
	shares_close(shares);
	if (r == 0 && ctl->json)
		(void)print_json(json_pack("{s:I,s:I,s:I,s:I}", "found", (json_int_t)x.found, "bytes", (json_int_t)x.bytes, "deleted",
					   (json_int_t)x.done, "failed", (json_int_t)x.failed));
	else if (r == 0 && x.delete)
		printf("%llu expired, %llu deleted, %llu failed\n", (unsigned long long)x.found, (unsigned long long)x.done,
		       (unsigned long long)x.failed);
	else if (r == 0 && x.found)
		printf("%llu expired, %llu bytes; nothing was deleted, --delete does it\n", (unsigned long long)x.found,
		       (unsigned long long)x.bytes);
	return finish_output(r < 0 || x.failed ? EXIT_COULD_NOT : x.found ? EXIT_YES : EXIT_NO);
}

const struct command command_expire = {
	.name = "expire",
	.summary = "list, or delete, what is expired",
	.help =
	"Usage: wormctl expire [--list | --delete] [--before DATE] [--rate N/s] [--json] [PATH]\n"
	"\n"
	"Lists the files at and below PATH, or the working directory, whose retention is over and that are under\n"
	"no hold. Nothing is deleted unless --delete says so, and nothing ever by itself. Each deletion is a line\n"
	"of the audit log before it is done; a file that is not expired any more by then (extended, held) stays.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"      --list         only list [this is what it does without --delete]\n"
	"      --delete       delete them\n"
	"      --before DATE  only what expired before 2030-01-01 (UTC), or 90d ago\n"
	"      --rate N/s     delete no more than N files a second\n"
	"      --json         one JSON object a file: path, until, size, deleted, error; a last one: found,\n"
	"                     bytes, deleted, failed\n"
	"      --state-dir DIR\n"
	"                     where the share keeps its state, if the mount cannot be asked\n"
	"\n"
	"Examples:\n"
	"  wormctl expire /srv/share\n"
	"  wormctl expire --delete --before 90d --rate 100/s /srv/share/2019\n"
	"\n"
	"Exit codes: 0 there are some (deleted, with --delete), 1 there is none, 2 could not.\n",
	.run = run_expire,
};
