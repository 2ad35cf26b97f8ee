/* Globs over bytes, as rule files use them. No locale: a byte is a character, '*' and '?' match a newline
 * and a leading dot, too. `*` any bytes, `?` one, `[a-z]` `[!a-z]` one of a set, `\` takes the next byte as it is. */
#ifndef WORMFS_GLOB_H
#define WORMFS_GLOB_H

#include <stdbool.h>
#include <stddef.h>

#define GLOB_PARTS_MAX 64	/* components of a pattern */

/* Whole `text` against whole `glob`; '/' is a byte like any other. Time: len_bytes * length of glob at most. */
bool glob_matches(const char *glob, const char *text, size_t len_bytes);
/* -EINVAL: a '[' without ']', or a '\' at the end. */
int glob_check(const char *glob);
/* Has none of * ? [ \ in it. */
bool glob_is_literal(const char *glob);

/* A path cut at its slashes. */
struct glob_part {
	const char *text;
	size_t len;
};

/* A compiled path pattern, anchored at the root of the share. `*` stays inside a component; a component
 * `**` is any number of them, also none. A pattern that ends in a plain name, or in nothing ("/"), also
 * covers everything below it; with a '/' at its end only what is below. "//" counts as '/'. */
struct path_glob;

/* -EINVAL: *ret_why (a literal) says what is wrong: not "/...", "." or "..", a bad set, too many components. */
int path_glob_open(const char *pattern, struct path_glob **ret_glob, const char **ret_why);
void path_glob_close(struct path_glob *glob);
bool path_glob_matches(const struct path_glob *glob, const struct glob_part *path, size_t nparts);

/* The plain names that it begins with: whatever matches is, or is below, this path. */
size_t path_glob_prefix(const struct path_glob *glob);
const char *path_glob_part(const struct path_glob *glob, size_t i);

#endif
