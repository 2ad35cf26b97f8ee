/* What -o takes: a row an option. The command line applies it, and --help prints it. */
#ifndef WORMFS_OPTION_TABLE_H
#define WORMFS_OPTION_TABLE_H

#include <stddef.h>

#include "fs/options.h"

struct option_row {
	const char *name;
	const char *value;	/* NULL: takes none */
	const char *help;
	/* -EINVAL: it cannot be used; -ENOMEM */
	int (*set)(struct options *o, const char *value, long arg);
	long arg;		/* offset of a field, or what `set` makes of it */
};

/* The string at that offset becomes a copy of the value; -ENOMEM. */
int option_set_string(struct options *o, const char *value, long offset);

extern const struct option_row option_rows[];
extern const size_t option_nrows;

#endif
