/* What the files of wormctl share: its commands, the options that all of them take, its exit codes.
 * One thread; a command runs once and the process ends. */
#ifndef WORMFS_WORMCTL_H
#define WORMFS_WORMCTL_H

#include <getopt.h>
#include <stdbool.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum {
	EXIT_YES = 0,		/* done, found, locked, clean */
	EXIT_NO = 1,		/* the answer is no: nothing matches, not locked, something is wrong */
	EXIT_COULD_NOT = 2,	/* wrong usage, or the question could not be answered */
};

/* Options that mean the same to every command. Strings live in argv. */
struct wormctl {
	const char *state_dir;	/* --state-dir, or NULL: as the mount or the default says */
	const char *key;	/* --key, or NULL: "key" in the state directory */
	bool json;
};

struct command {
	const char *name;
	const char *summary;	/* a line for `wormctl --help` */
	const char *help;	/* the page of `wormctl NAME --help` */
	/* argv[0] is the command's name. Returns an exit code. */
	int (*run)(struct wormctl *ctl, int argc, char **argv);
};

extern const struct command command_list, command_status, command_commit, command_append, command_extend, command_hold,
	command_release, command_delete, command_shorten, command_requests, command_approve, command_expire, command_policy, command_push, command_reindex,
	command_verify, command_export, command_report, command_audit, command_events, command_clock, command_serve, command_quota, command_watch_upstream, command_errno_table;

/* Long options of a command begin with these. Values above any character. */
enum { OPT_STATE_DIR = 256, OPT_KEY, OPT_JSON, OPT_OF_COMMAND };
#define COMMON_OPTIONS \
	{ "state-dir", required_argument, NULL, OPT_STATE_DIR }, \
	{ "key", required_argument, NULL, OPT_KEY }, \
	{ "json", no_argument, NULL, OPT_JSON }, \
	{ "help", no_argument, NULL, 'h' }

/* What getopt_long() gave and the command does not know itself. -1: goes on; else the command ends with
 * this exit code (help was printed, or the option is wrong and one line says so). */
int common_option(struct wormctl *ctl, const struct command *command, int option, char **argv);

/* One line "wormctl: ..." that ends with how to get help. Returns EXIT_COULD_NOT. */
int wrong_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
