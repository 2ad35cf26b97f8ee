/* Both matchers remember the last star only: whatever an earlier one could match instead, the last one
 * can, too. So there is no recursion, and no pattern takes more than the product of the lengths. */
#include "lockstore/glob.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum part_kind { PART_PLAIN, PART_GLOB, PART_DEEP };

struct path_glob {
	size_t n, nprefix;
	bool covers_below;
	struct {
		enum part_kind kind;
		const char *text;
		size_t len;
	} part[GLOB_PARTS_MAX + 1];	/* one more: "/a/" is "/a", "**", "*" */
	char text[];
};

/* After the '[': past the ']' and whether `c` is in the set. NULL: it has no end. */
static const char *match_set(const char *set, unsigned char c, bool *ret_in)
{
	bool negated = *set == '!' || *set == '^', in = false;
	const char *p = set + negated;

	do {
		unsigned char lo, hi;

		if (*p == '\\' && p[1])
			p++;
		if (!*p)
			return NULL;
		lo = hi = *p++;
		if (*p == '-' && p[1] && p[1] != ']') {
			p++;
			if (*p == '\\' && p[1])
				p++;
			hi = *p++;
		}
		in |= lo <= c && c <= hi;
	} while (*p != ']' && *p);
	if (!*p)
		return NULL;
	*ret_in = in != negated;
	return p + 1;
}

/* One byte against the first element of the glob, which is no star; NULL: no. */
static const char *match_one(const char *glob, unsigned char c)
{
	const char *end;
	bool in;

	switch (*glob) {
	case '?':
		return glob + 1;
	case '[':
		end = match_set(glob + 1, c, &in);
		if (end)
			return in ? end : NULL;
		break;		/* refused by glob_check(); here a byte like any other */
	case '\\':
		if (glob[1])
			glob++;
		break;
	}
	return (unsigned char)*glob == c ? glob + 1 : NULL;
}

bool glob_matches(const char *glob, const char *text, size_t len_bytes)
{
	const char *end = text + len_bytes, *star = NULL, *retry = NULL;

	while (text < end) {
		const char *next;

		if (*glob == '*') {
			star = ++glob;
			retry = text;
			continue;
		}
		next = *glob ? match_one(glob, *text) : NULL;
		if (next) {
			glob = next;
			text++;
		} else if (star) {
			glob = star;
			text = ++retry;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return !*glob;
}

int glob_check(const char *glob)
{
	bool in;

	while (*glob) {
		if (*glob == '[') {
			glob = match_set(glob + 1, 0, &in);
			if (!glob)
				return -EINVAL;
		} else if (*glob == '\\' && !glob[1]) {
			return -EINVAL;
		} else {
			glob += *glob == '\\' ? 2 : 1;
		}
	}
	return 0;
}

bool glob_is_literal(const char *glob)
{
	return !strpbrk(glob, "*?[\\");
}

static void add_part(struct path_glob *g, const char *text)
{
	g->part[g->n].kind = strcmp(text, "**") == 0 ? PART_DEEP : glob_is_literal(text) ? PART_PLAIN : PART_GLOB;
	g->part[g->n].text = text;
	g->part[g->n].len = strlen(text);
	if (g->part[g->n].kind == PART_PLAIN && g->nprefix == g->n)
		g->nprefix++;
	g->n++;
}

int path_glob_open(const char *pattern, struct path_glob **ret_glob, const char **ret_why)
{
	size_t size = strlen(pattern) + 1;
	struct path_glob *g;
	const char *why = NULL;
	char *p, *end;

	if (pattern[0] != '/') {
		*ret_why = "it must begin with '/', the root of the share; for any directory write /**/NAME";
		return -EINVAL;
	}
	g = calloc(1, sizeof(*g) + size);
	if (!g)
		return -ENOMEM;
	memcpy(g->text, pattern, size);
	for (p = g->text; *p && !why; p = end) {
		while (*p == '/')
			*p++ = '\0';
		if (!*p)
			break;
		end = strchrnul(p, '/');
		if (*end)
			*end++ = '\0';
		if (g->n == GLOB_PARTS_MAX - 1)
			why = "it has too many components";
		else if (strcmp(p, ".") == 0 || strcmp(p, "..") == 0)
			why = "'.' and '..' are no names";
		else if (glob_check(p) < 0)
			why = "a '[' has no ']', or a backslash ends it";
		else if (!(strcmp(p, "**") == 0 && g->n && g->part[g->n - 1].kind == PART_DEEP))
			add_part(g, p);
	}
	if (why) {
		*ret_why = why;
		free(g);
		return -EINVAL;
	}
	if (size > 2 && pattern[size - 2] == '/' && g->n && g->part[g->n - 1].kind != PART_DEEP)
		add_part(g, "**");
	if (g->n && g->part[g->n - 1].kind == PART_DEEP)
		add_part(g, "*");
	g->covers_below = !g->n || g->part[g->n - 1].kind == PART_PLAIN;
	*ret_glob = g;
	return 0;
}

void path_glob_close(struct path_glob *glob)
{
	free(glob);
}

static bool part_matches(const struct path_glob *g, size_t i, const struct glob_part *name)
{
	if (g->part[i].kind == PART_PLAIN)
		return g->part[i].len == name->len && memcmp(g->part[i].text, name->text, name->len) == 0;
	return glob_matches(g->part[i].text, name->text, name->len);
}

bool path_glob_matches(const struct path_glob *g, const struct glob_part *path, size_t nparts)
{
	size_t i = 0, at = 0, star = SIZE_MAX, retry = 0;

	while (at < nparts) {
		if (i < g->n && g->part[i].kind == PART_DEEP) {
			star = ++i;
			retry = at;
		} else if (i < g->n && part_matches(g, i, &path[at])) {
			i++;
			at++;
		} else if (i == g->n && g->covers_below) {
			return true;
		} else if (star != SIZE_MAX) {
			i = star;
			at = ++retry;
		} else {
			return false;
		}
	}
	return i == g->n;
}

size_t path_glob_prefix(const struct path_glob *glob)
{
	return glob->nprefix;
}

const char *path_glob_part(const struct path_glob *glob, size_t i)
{
	return glob->part[i].text;
}
