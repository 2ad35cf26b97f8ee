/* The files that a command is to work on: its arguments, a list in a file, and the trees below them. */
#ifndef WORMFS_WORMCTL_PATHS_H
#define WORMFS_WORMCTL_PATHS_H

#include <stdbool.h>
#include <sys/stat.h>

#include "lockstore/wormctl/share.h"

/* Options of every command that takes PATH... */
struct path_options {
	bool recursive;		/* -r: every regular file below a directory */
	bool nul;		/* -0: names in `files_from` end with NUL */
	const char *files_from;	/* "-": standard input */
};

/* One file or directory. Lives until the callback returns. */
struct target {
	const char *shown;	/* as the user would name it */
	int fd;			/* O_PATH, of the thing itself, also of a symbolic link */
	struct stat st;
	const struct place *place;
	bool in_tree;		/* met by -r, not named */
};

/* Called for each target, or with target NULL and why it could not be had. A non-zero return ends the run. */
typedef int (*target_fn)(void *arg, const char *shown, const struct target *target, const struct failure *f);

/* Goes through `argv` (argc of them), then through files_from. Directories are handed to fn as they are,
 * or with `recursive` every regular file below them instead: not across mounts, symbolic links not followed.
 * Returns what fn returned. -EIO etc. and *f: files_from cannot be read. */
int paths_each(struct shares *shares, const struct path_options *options, int argc, char **argv, target_fn fn,
	       void *arg, struct failure *f);

/* Whether there is anything to go through; else one complaint is printed. */
bool paths_check(const struct command *command, const struct path_options *options, int argc);

enum { OPT_FILES_FROM = OPT_OF_COMMAND + 100 };
#define PATH_OPTIONS \
	{ "recursive", no_argument, NULL, 'r' }, \
	{ "null", no_argument, NULL, '0' }, \
	{ "files-from", required_argument, NULL, OPT_FILES_FROM }

/* True when the option was one of PATH_OPTIONS. */
bool path_option(struct path_options *options, int option);

#endif
