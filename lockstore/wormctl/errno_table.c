/* errno-table: the guard's own table, so that no page can say something else. */
#include "fs/guard.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

static int run_errno_table(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { 0 } };
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = common_option(ctl, &command_errno_table, c, argv);
		if (r >= 0)
			return r;
	}
	if (optind != argc)
		return wrong_usage(&command_errno_table, "it takes no argument");
	guard_table_print(stdout);
	return finish_output(EXIT_YES);
}

const struct command command_errno_table = {
	.name = "errno-table",
	.summary = "which call gets which error in which state, as Markdown",
	.help =
	"Usage: wormctl errno-table\n"
	"\n"
	"Prints what every operation on a file gets in every state (wormctl status --help has the states):\n"
	"the table that the daemon itself decides by, in Markdown.\n"
	"\n"
	"Exit codes: 0 printed, 2 could not.\n",
	.run = run_errno_table,
};
