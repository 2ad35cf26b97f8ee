/* Paths as users write them, made absolute. Pure but for realpath(3); no error of a mount in between keeps
 * the rest from being known. */
#include "lockstore/wormctl/real_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/wormctl/share.h"

/* As realpath(3) for what exists; what comes after the last directory that can be reached is kept as it
 * is written. *ret_error: why it was not reached, 0 when it was. */
static int real_directory(const char *path, char **ret_real, int *ret_error)
{
	char *copy = path[0] ? strdup(path) : strdup("."), *rest = NULL, *real, *joined;
	int error = 0, r = 0;

	if (!copy)
		return -ENOMEM;
	for (;;) {
		char *slash, *last;
		size_t len = strlen(copy);

		real = realpath(copy, NULL);
		if (real)
			break;
		if (!error)
			error = -errno;
		while (len > 1 && copy[len - 1] == '/')
			copy[--len] = '\0';
		slash = strrchr(copy, '/');
		last = slash ? slash + 1 : copy;
		/* A ".." cannot be taken back where nothing can be followed. */
		if (!*last || strcmp(last, "..") == 0 || (!slash && strcmp(copy, ".") == 0)) {
			r = error;
			goto out;
		}
		if (strcmp(last, ".") != 0) {
			joined = path_join(last, rest ? rest : "");
			if (!joined) {
				r = -ENOMEM;
				goto out;
			}
			free(rest);
			rest = joined;
		}
		if (slash)
			slash[slash == copy ? 1 : 0] = '\0';
		else
			strcpy(copy, ".");
	}
	joined = path_join(real, rest ? rest : "");
	free(real);
	if (!joined) {
		r = -ENOMEM;
		goto out;
	}
	*ret_real = joined;
	*ret_error = error;
out:
	free(copy);
	free(rest);
	return r;
}

int real_path(const char *path, char **ret_real, int *ret_error)
{
	size_t len = strlen(path);
	const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
	char *parent, *real;
	int r;

	if (!len)
		return -ENOENT;
	if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return real_directory(path, ret_real, ret_error);
	/* Without its slash: realpath(3) then need not ask the mount that it may be. */
	parent = slash ? strndup(path, slash == path ? 1 : slash - path) : strdup(".");
	if (!parent)
		return -ENOMEM;
	r = real_directory(parent, &real, ret_error);
	free(parent);
	if (r < 0)
		return r;
	*ret_real = path_join(real, last);
	free(real);
	return *ret_real ? 0 : -ENOMEM;
}
