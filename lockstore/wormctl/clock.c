/* clock: how the clock of retention of a mount stands, and its acceptance of the system's date. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/wormctl/one_share.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

static void print_seconds(const char *name, int64_t s)
{
	if (llabs(s) >= 86400)
		printf("  %-10s %lld s (%.1f days)\n", name, (long long)s, (double)s / 86400);
	else
		printf("  %-10s %lld s\n", name, (long long)s);
}

static int show(struct wormctl *ctl, struct share *share, bool *ret_good, struct failure *f)
{
	const json_t *state = json_object_get(share->mount, "clock_state");
	const char *name = json_get_text(share->mount, "clock"), *word = json_get_text(state, "state");
	int64_t behind = json_get_int(state, "behind");

	if (!share->mount)
		return fail(f, -ESRCH, "no daemon serves %s: its clock stands in its state directory", quoted(share->dir));
	*ret_good = strcmp(word, "ok") == 0;
	if (ctl->json)
		return print_json(json_pack("{s:o, s:o, s:O?, s:o}", "clock", json_text(name), "now", json_text(json_get_text(share->mount, "now")),
					    "clock_state", state, "share", json_text(share->dir)));
	printf("%s %s\n", json_get_text(share->mount, "now"), word);
	printf("  %-10s ", "clock");
	print_name(stdout, name);
	printf("\n  %-10s ", "system");
	print_name(stdout, json_get_text(state, "system"));
	printf("%s\n", json_get_bool(state, "synchronised") ? ", synchronised" : ", not synchronised");
	print_seconds("behind", behind);
	if (json_is_integer(json_object_get(state, "budget")))
		print_seconds("budget", json_get_int(state, "budget"));
	return 0;
}

static int accept_date(struct wormctl *ctl, struct share *share, const char *reason, struct failure *f)
{
	json_t *answer = NULL;
	struct client *client;
	int r;

	r = share_client(share, &client, f);
	if (r < 0)
		return r;
	r = client_call(client, json_pack("{s:s, s:s}", "verb", "clock_accept", "reason", reason), NULL, NULL, &answer);
	if (r < 0)
		return fail(f, r, "cannot move the clock of %s: %s", quoted(share->dir), *client_error(client) ? client_error(client) :
			    strerror(-r));
	if (ctl->json)
		r = print_json(json_pack("{s:O, s:O}", "gained", json_object_get(answer, "gained"), "now", json_object_get(answer, "now")));
	else
		printf("it is now %s, %lld s later\n", json_get_text(answer, "now"), (long long)json_get_int(answer, "gained"));
	json_decref(answer);
	return r < 0 ? fail(f, r, "%s", strerror(-r)) : 0;
}

enum { OPT_REASON = OPT_OF_COMMAND };

static int run_clock(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { "reason", required_argument, NULL, OPT_REASON }, { 0 } };
	const char *reason = NULL, *what;
	struct one_share one;
	struct failure f = { 0 };
	bool good = true;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_REASON) {
			reason = optarg;
			continue;
		}
		r = common_option(ctl, &command_clock, c, argv);
		if (r >= 0)
			return r;
	}
	what = optind < argc ? argv[optind] : "";
	if (strcmp(what, "status") != 0 && strcmp(what, "accept") != 0)
		return wrong_usage(&command_clock, *what ? "there is no 'clock %s'" : "status or accept?", what);
	if (argc - optind > 2)
		return wrong_usage(&command_clock, "one PATH at a time");
	if (strcmp(what, "accept") == 0 && (!reason || !*reason))
		return wrong_usage(&command_clock, "accept needs --reason TEXT: it goes to the audit log");
	r = one_share_find(&one, ctl, optind + 1 < argc ? argv[optind + 1] : NULL, &f);
	if (r == 0)
		r = strcmp(what, "status") == 0 ? show(ctl, one.share, &good, &f) : accept_date(ctl, one.share, reason, &f);
	one_share_fini(&one);
	if (r < 0)
		complain("%s", f.text[0] ? f.text : strerror(-r));
	return finish_output(r < 0 ? EXIT_COULD_NOT : good ? EXIT_YES : EXIT_NO);
}

const struct command command_clock = {
	.name = "clock",
	.summary = "how the clock of retention stands; take the system's date over",
	.help =
	"Usage: wormctl clock status [--json] [PATH]\n"
	"       wormctl clock accept --reason TEXT [--json] [PATH]\n"
	"\n"
	"Retention ends by a clock that nobody can push: it goes on by itself, and believes the system's date\n"
	"only out of a budget of 24 hours, refilled by 138 s for each hour of uptime. PATH names the share;\n"
	"without: the share that the working directory is in, or the one that is mounted.\n"
	"\n"
	"status prints the time and: ok; skewed: it is more than a day from the system's date, so that\n"
	"retention ends later than that date says; movable: the mount has clock=wall or clock=file. Then the\n"
	"system's date, how far the clock is behind it, and what is left of the budget.\n"
	"\n"
	"accept moves the clock forward to the system's date, once: check that date first. Only root, or the\n"
	"user who runs the daemon, may; the audit log has the line before it is done. In compliance mode only\n"
	"while the kernel says that its date is synchronised (NTP). It never goes back.\n"
	"\n"
	"      --reason TEXT  why, for the audit log\n"
	"      --json         one JSON object\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Examples:\n"
	"  wormctl clock status /srv/share\n"
	"  wormctl clock accept --reason 'was off for a month' /srv/share\n"
	"\n"
	"Exit codes: status: 0 ok, 1 skewed or movable; accept: 0 done; 2 could not.\n",
	.run = run_clock,
};
