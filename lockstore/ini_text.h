/* INI files as administrators write them: rules (policy.h), limits (limit.h). Read whole, the first error ends it.
 *
 * libinih splits the lines of keys. What it would let pass is looked at in the reader that hands it the lines: lines that it would cut, NUL
 * bytes, sections, of whose names it keeps 49 bytes. White space in front of a line means nothing: libinih would take an indented
 * line for one more value of the key above it. */
#ifndef WORMFS_INI_TEXT_H
#define WORMFS_INI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct ini_error {
	unsigned line;		/* 0: of no line */
	char text[4600];	/* "FILE:LINE: what is wrong, and what to do" */
};

struct ini_reader {
	/* A line that begins with '[', without its end, not terminated. */
	int (*section)(void *arg, const char *line, size_t len);
	int (*key)(void *arg, const char *key, const char *value);	/* both: 0, or what ini_text_report() gave */
	bool long_sections;	/* lines of sections may be longer than the others, of which libinih says how long */
	const char *too_long;	/* ": what to do about it", or "" */
};

struct ini_text {
	const char *name;	/* of the file, for errors */
	struct ini_error *error;
	int r;			/* the first error, or 0 */
	unsigned line;		/* that is being read, from 1 */
	/* ini_text.c's own */
	const char *at, *end;
	const struct ini_reader *reader;
	void *arg;
};

void ini_text_begin(struct ini_text *ini, const char *name, struct ini_error *error);
/* line 0: of no line. Only the first one counts: returns its r. */
int ini_text_report(struct ini_text *ini, int r, unsigned line, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* ini->r. */
int ini_text_parse(struct ini_text *ini, const char *text, size_t len_bytes, const struct ini_reader *reader, void *arg);
/* The file as it is; the caller frees it. `trusted`: it must be a regular file of root or ours that nobody else may write (-EPERM). */
int ini_text_load(struct ini_text *ini, const char *path, bool trusted, size_t max_bytes, char **ret_text, size_t *ret_len_bytes);

#endif
