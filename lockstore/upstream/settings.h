/* The file that `wormctl push setup` keeps: which cluster, and who we are to it (credentials.h reads the second part). Lines
 * "key = value", or a JSON object, whichever the file is; keys that are not ours are passed over and kept. */
#ifndef WORMFS_UPSTREAM_SETTINGS_H
#define WORMFS_UPSTREAM_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "lockstore/upstream/credentials.h"

/* NULL: not there. */
struct upstream_settings {
	char *cluster;		/* as endpoint_parse() reads it */
	char *root, *ca;
	bool insecure;
	bool has_secrets;	/* a token, or a password */
	bool readable;		/* by others than its owner */
};

/* -ENOENT, -EINVAL: neither lines nor a JSON object. ret_error is one line. The caller ends it with upstream_settings_fini(). */
int upstream_settings_read(const char *path, struct upstream_settings *ret_settings, char ret_error[CREDENTIALS_ERROR_BYTES]);
void upstream_settings_fini(struct upstream_settings *settings);

struct upstream_setting {
	const char *key;	/* "cluster", "root", "ca", "insecure", "token", "user", "password" */
	const char *value;	/* NULL: the key goes */
};

/* Puts these into the file and leaves everything else in it as it is. Written whole (temporary name, fsync, rename), mode 0600, owner as
 * before; a symbolic link stays one. A file that holds a bare token becomes one of lines. -EINVAL: a value cannot be written
 * in a file of this form. */
int upstream_settings_write(const char *path, const struct upstream_setting *settings, size_t n, char ret_error[CREDENTIALS_ERROR_BYTES]);

#endif
