/* push: locks that go to a cluster. */
#include <string.h>

#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/push.h"
#include "lockstore/wormctl/wormctl.h"

static int run_push(struct wormctl *ctl, int argc, char **argv)
{
	static const struct command *const commands[] = {
		&command_push_status, &command_push_list, &command_push_retry, &command_push_check, &command_push_setup,
		&command_push_reconcile,
	};

	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i]->name + strlen("push ")) == 0)
			return commands[i]->run(ctl, argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		fputs(command_push.help, stdout);
		return finish_output(EXIT_YES);
	}
	return wrong_usage(&command_push, "which of status, list, retry, check, setup and reconcile?");
}

const struct command command_push = {
	.name = "push",
	.summary = "locks that a Qumulo cluster is to have, too",
	.help =
	"Usage: wormctl push status|list|retry|check|setup|reconcile [OPTION]... [PATH]\n"
	"\n"
	"Locks that wormfs pushes to a cluster (-o push).\n"
	"\n"
	"  status     is the cluster there, how many locks wait, how many did not reach it\n"
	"  list       which files wait, failed, or are locked there, and why\n"
	"  retry      try again now\n"
	"  check      can locks reach the cluster: connection, version, privilege, directory, clock\n"
	"  setup      keep a cluster's address and credentials in a file\n"
	"  reconcile  compare the ledger with what the cluster has, and push what is missing there\n"
	"\n"
	"`wormctl push status --help` and so on tell more.\n",
	.run = run_push,
};
