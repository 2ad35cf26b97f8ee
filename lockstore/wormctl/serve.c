/* serve: a page, and metrics for Prometheus, that show a share as it is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/wormctl/lookout.h"
#include "lockstore/wormctl/one_share.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/serve_door.h"
#include "lockstore/wormctl/service.h"
#include "lockstore/wormctl/wormctl.h"

#define LISTEN_DEFAULT "127.0.0.1:0"

struct serve {
	struct wormctl *ctl;
	const char *listen, *token_file, *host;
	bool allow_remote;
	char token[SERVICE_TOKEN_ROOM];
};

/* ---- serving ---- */

/* After '#': no browser sends it, and nothing on the way writes it down. A token from a file is not said again. */
static int print_where(const struct serve *s, const char *address)
{
	bool is_unix = strncmp(address, "unix:", 5) == 0;
	const char *token = s->token_file ? NULL : s->token;
	char url[1024];

	snprintf(url, sizeof(url), "%s%s%s%s%s", is_unix ? "" : "http://", address, is_unix ? "" : "/", token ? is_unix ? " token " : "#token=" : "",
		 token ? token : "");
	if (s->ctl->json)
		return print_json(json_pack("{s:s, s:s, s:s?}", "url", url, "address", address, "token", token));
	puts(url);
	return 0;
}

static int serve_until_signal(struct serve *s, struct share *share, struct failure *f)
{
	struct lookout *lookout = NULL;
	struct door *door = NULL;
	sigset_t ends;
	int r;

	service_begin(&ends);
	r = lookout_open(share->dir, share->state_dir, &lookout);
	if (r < 0)
		return fail(f, r, "cannot begin: %s", strerror(-r));
	r = door_open(lookout, s->listen, s->allow_remote, s->token, s->host, &door);
	if (r < 0)
		r = service_fail_listen(s->listen, r, f);
	else if (print_where(s, door_address(door)) < 0 || fflush(stdout) != 0)
		r = fail(f, -EPIPE, "cannot say where it is: standard output is closed");
	else
		service_wait(&ends);
	door_close(door);
	if (lookout_close(lookout) < 0)
		_exit(r < 0 ? EXIT_COULD_NOT : EXIT_YES);	/* a daemon that hangs has one of our threads; all is said and flushed */
	return r;
}

static int check_share(const struct share *share, struct failure *f)
{
	if (!share->state_dir)
		return fail(f, -EACCES, "cannot find the state of %s: only root or the user who mounted it may look at it", quoted(share->dir));
	if (access(share->state_dir, R_OK | X_OK) < 0)
		return fail(f, -errno, "cannot look at the state directory %s: %s%s", quoted(share->state_dir), strerror(errno),
			    errno == ENOENT ? "; was it ever mounted? Another one is named with --state-dir DIR" : "");
	return 0;
}

/* ---- the command ---- */

enum { OPT_LISTEN = OPT_OF_COMMAND, OPT_TOKEN_FILE, OPT_HOST, OPT_REMOTE };

static int run_serve(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "listen", required_argument, NULL, OPT_LISTEN },
		{ "token-file", required_argument, NULL, OPT_TOKEN_FILE },
		{ "host", required_argument, NULL, OPT_HOST },
		{ "allow-remote", no_argument, NULL, OPT_REMOTE },
		{ 0 },
	};
	struct serve s = { .ctl = ctl, .listen = LISTEN_DEFAULT };
	struct one_share one;
	struct failure f = { 0 };
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_LISTEN: s.listen = optarg; break;
		case OPT_TOKEN_FILE: s.token_file = optarg; break;
		case OPT_HOST: s.host = optarg; break;
		case OPT_REMOTE: s.allow_remote = true; break;
		default:
			r = common_option(ctl, &command_serve, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (argc - optind > 1)
		return wrong_usage(&command_serve, "one SHARE at a time");
	r = service_token(s.token_file, s.token, &f);
	if (r == 0) {
		r = one_share_find(&one, ctl, optind < argc ? argv[optind] : NULL, &f);
		if (r == 0)
			r = check_share(one.share, &f);
		if (r == 0)
			r = serve_until_signal(&s, one.share, &f);
		one_share_fini(&one);
	}
	if (r < 0)
		complain("%s", f.text);
	return finish_output(r < 0 ? EXIT_COULD_NOT : EXIT_YES);
}

const struct command command_serve = {
	.name = "serve",
	.summary = "a page that shows a share live, and metrics for Prometheus",
	.help =
	"Usage: wormctl serve [--listen ADDRESS:PORT] [--token-file FILE] [OPTION]... [SHARE]\n"
	"\n"
	"Serves, until it is killed, a page with the share's events as they come, refusals a minute, locks by rule, a\n"
	"calendar of what expires, the state of push and clock, and problems; and the counters for Prometheus under\n"
	"/metrics. It only looks, goes on while nothing is mounted, and asks nothing of any network. Only root, or the\n"
	"user who runs the daemon, may. SHARE as elsewhere. Events want a mount with -o events=on.\n"
	"\n"
	"It prints the URL, with a token made for this run behind '#'. What shows anything of the share wants it, as\n"
	"Authorization: Bearer TOKEN.\n"
	"\n"
	"      --listen ADDRESS:PORT\n"
	"                     or [::1]:PORT, or unix:PATH; port 0: any free one [127.0.0.1:0]\n"
	"      --token-file FILE\n"
	"                     the token is its first line (16 to 512 characters; mode 0600), and is not printed\n"
	"      --host NAME    a name under which it is asked; without: addresses and localhost only\n"
	"      --allow-remote --listen may be reached from other machines; put something with TLS before it\n"
	"      --json         where it listens, as a JSON object\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Examples:\n"
	"  wormctl serve /srv/share\n"
	"  wormctl serve --listen 127.0.0.1:9464 --token-file /etc/wormfs/watch.token /srv/share\n"
	"  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:9464/metrics\n"
	"\n"
	"Exit codes: 0 ended by a signal, 2 could not.\n",
	.run = run_serve,
};
