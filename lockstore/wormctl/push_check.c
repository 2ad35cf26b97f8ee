/* push check: can locks reach the cluster? Changes nothing, there or here. */
#include <string.h>
#include <sys/stat.h>

#include "lockstore/wormctl/cluster.h"
#include "lockstore/wormctl/one_share.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/push.h"
#include "lockstore/wormctl/wormctl.h"

static int exit_code(const struct upstream_check *check)
{
	enum upstream_check_state worst = upstream_check_worst(check);

	if (check->findings[UPSTREAM_CHECK_CONNECTION].state == UPSTREAM_CHECK_UNKNOWN)
		return EXIT_COULD_NOT;
	for (int i = 0; i < UPSTREAM_CHECKS; i++)
		if (check->findings[i].state == UPSTREAM_CHECK_WARNING || check->findings[i].state == UPSTREAM_CHECK_FAILED)
			return EXIT_NO;
	return worst == UPSTREAM_CHECK_UNKNOWN ? EXIT_COULD_NOT : EXIT_YES;
}

static int run_check(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, CLUSTER_OPTIONS, { 0 } };
	struct cluster cluster = { 0 };
	struct one_share one = { 0 };
	struct upstream_check check = { 0 };
	struct failure f;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (cluster_option(&cluster, c))
			continue;
		r = common_option(ctl, &command_push_check, c, argv);
		if (r >= 0)
			return r;
	}
	if (argc - optind > 1)
		return wrong_usage(&command_push_check, "one SHARE at a time");
	r = 0;
	if (optind < argc)
		r = one_share_find(&one, ctl, argv[optind], &f);
	if (r == 0 && one.share)
		r = cluster_of_share(&cluster, one.share, &f);
	if (r == 0)
		r = cluster_open(&cluster, NULL, 1, &f);
	if (r < 0)
		goto out;
	check.endpoint = &cluster.endpoint;
	check.ca_file = cluster.ca_file;
	check.insecure = cluster.is_insecure;
	check.root = cluster.root_path;
	check.has_inode = cluster.has_inode;
	check.inode = cluster.inode;
	r = upstream_check_run(cluster.qumulo, &check);
	if (r < 0)
		fail(&f, r, "cannot ask the cluster: %s", strerror(-r));
out:
	if (r < 0)
		complain("%s", f.text);
	else
		cluster_print_check(stdout, &check, ctl->json);
	cluster_close(&cluster);
	one_share_fini(&one);
	return finish_output(r < 0 ? EXIT_COULD_NOT : exit_code(&check));
}

const struct command command_push_check = {
	.name = "push check",
	.summary = "can locks reach the cluster?",
	.help =
	"Usage: wormctl push check [OPTION]... [SHARE]\n"
	"\n"
	"Asks the cluster of a mounted SHARE, or the one that the options name: does it answer and is its\n"
	"certificate good (connection), does it know file locks (version), are the credentials accepted and may\n"
	"they lock (privilege), is there the share's directory (root), do the clocks agree (clock). One line each:\n"
	"name, ok | note | warning | failed | unknown, what, what to do. Changes nothing. The daemon asks the same\n"
	"when it starts to push, logs it, and mounts whatever comes of it.\n"
	"\n"
	CLUSTER_HELP
	"      --root PATH          the share's directory, as the cluster calls it\n"
	"      --json               an object a line: check, state, what, do\n"
	"\n"
	"Exit codes: 0 locks can go out, 1 warning or failed, 2 the cluster could not be asked.\n"
	"\n"
	"Example: wormctl push check /srv/share\n"
	"         wormctl push check --cluster cluster.example.com --ca /etc/ssl/cluster.pem --root /finance\n",
	.run = run_check,
};
