/* A list of globs, split once. */
#include "lockstore/staging.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

struct staging {
	unsigned n;
	char *text;		/* the globs, each ended by NUL */
	const char *glob[];
};

int staging_open(const char *globs, struct staging **ret_staging)
{
	struct staging *staging;
	unsigned n = *globs ? 1 : 0, i = 0;
	char *p;

	for (const char *c = globs; *c; c++)
		n += *c == ':';
	if (strchr(globs, '/'))
		return -EINVAL;
	staging = calloc(1, sizeof(*staging) + n * sizeof(staging->glob[0]));
	if (!staging)
		return -ENOMEM;
	staging->text = p = strdup(globs);
	if (!p) {
		free(staging);
		return -ENOMEM;
	}
	for (; i < n; i++) {
		staging->glob[i] = p;
		p = strchrnul(p, ':');
		if (*p)
			*p++ = '\0';
		if (!*staging->glob[i]) {
			staging_close(staging);
			return -EINVAL;
		}
	}
	staging->n = n;
	*ret_staging = staging;
	return 0;
}

void staging_close(struct staging *staging)
{
	if (!staging)
		return;
	free(staging->text);
	free(staging);
}

bool staging_matches(const struct staging *staging, const char *name)
{
	for (unsigned i = 0; i < staging->n; i++)
		if (fnmatch(staging->glob[i], name, 0) == 0)
			return true;
	return false;
}
