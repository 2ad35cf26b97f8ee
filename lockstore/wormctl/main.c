/* wormctl: finds the command and hands over. Every command is a row of the table. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

static const struct command *const commands[] = {
	&command_list, &command_status, &command_commit, &command_append, &command_extend, &command_hold, &command_release,
	&command_delete, &command_shorten,
	&command_requests, &command_approve, &command_expire, &command_policy, &command_push, &command_reindex, &command_verify, &command_export,
	&command_report, &command_audit, &command_events, &command_clock, &command_quota, &command_serve, &command_watch_upstream, &command_errno_table,
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static int print_help(void)
{
	fputs("Usage: wormctl [--state-dir DIR] [--key FILE] COMMAND [OPTION]... [ARGUMENT]...\n"
	      "\n"
	      "Asks and changes the locks of files on a share that wormfs is, or was, mounted on.\n"
	      "\n", stdout);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-14s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n"
	      "Options, also behind the command:\n"
	      "      --state-dir DIR  the share's state directory [as the mount says; with nothing mounted\n"
	      "                       /var/lib/wormfs/ID as root, else $XDG_STATE_HOME/wormfs/ID]\n"
	      "      --key FILE       the share's key, with nothing mounted [DIR/key]\n"
	      "      --json           JSON, one object a line\n"
	      "      --help           the command's own page\n"
	      "\n"
	      "wormctl --version prints the version.\n"
	      "\n"
	      "Examples:\n"
	      "  wormctl list /srv/share\n"
	      "  wormctl status /srv/share/report.pdf\n"
	      "  wormctl extend 7y /srv/share/report.pdf\n"
	      "  wormctl hold case-12 -r /srv/share/2026\n"
	      "\n"
	      "Exit codes: 0 done or found, 1 the answer is no, 2 could not. See wormctl(1), wormfs(8).\n", stdout);
	return finish_output(EXIT_YES);
}

int wrong_usage(const struct command *command, const char *format, ...)
{
	char text[FAILURE_TEXT_BYTES];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
	complain("%s (wormctl %s%s--help tells more)", text, command ? command->name : "", command ? " " : "");
	return EXIT_COULD_NOT;
}

int common_option(struct wormctl *ctl, const struct command *command, int option, char **argv)
{
	switch (option) {
	case OPT_STATE_DIR:
		ctl->state_dir = optarg;
		return -1;
	case OPT_KEY:
		ctl->key = optarg;
		return -1;
	case OPT_JSON:
		ctl->json = true;
		return -1;
	case 'h':
		fputs(command->help, stdout);
		return finish_output(EXIT_YES);
	case ':':
		return wrong_usage(command, "option %s needs a value", quoted(argv[optind - 1]));
	}
	if (optopt > 0 && optopt < OPT_STATE_DIR)
		return wrong_usage(command, "unknown option '-%c'", optopt);
	return wrong_usage(command, optopt ? "option %s takes no value" : "unknown option %s", quoted(argv[optind - 1]));
}

/* A program may start us without them; no socket or pipe of ours may then get the number of an output. */
static void open_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	const struct command *command;
	struct wormctl ctl = { 0 };
	int c;

	open_standard_files();
	opterr = 0;	/* ours are one line and say what to do */
	while ((c = getopt_long(argc, argv, "+:hV", options, NULL)) != -1) {
		switch (c) {
		case OPT_STATE_DIR: ctl.state_dir = optarg; break;
		case OPT_KEY: ctl.key = optarg; break;
		case OPT_JSON: ctl.json = true; break;
		case 'h': return print_help();
		case 'V':
			printf("wormctl %s\n", WORMFS_VERSION);
			return finish_output(EXIT_YES);
		case ':': return wrong_usage(NULL, "option %s needs a value", quoted(argv[optind - 1]));
		default: return wrong_usage(NULL, "unknown option %s", quoted(argv[optind - 1]));
		}
	}
	if (optind == argc)
		return wrong_usage(NULL, "which command?");
	command = find_command(argv[optind]);
	if (!command && strcmp(argv[optind], "help") == 0) {
		command = optind + 1 < argc ? find_command(argv[optind + 1]) : NULL;
		if (!command)
			return print_help();
		fputs(command->help, stdout);
		return finish_output(EXIT_YES);
	}
	if (!command)
		return wrong_usage(NULL, "there is no command %s", quoted(argv[optind]));
	argc -= optind;
	argv += optind;
	optind = 0;	/* glibc: begin anew, with other options */
	return command->run(&ctl, argc, argv);
}
