/* What wormctl prints: one-line complaints, names that no terminal can be fooled with, JSON Lines. */
#ifndef WORMFS_WORMCTL_OUTPUT_H
#define WORMFS_WORMCTL_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Why something could not be done: a negative errno and one sentence: what, which, what to do. */
#define FAILURE_TEXT_BYTES 1024
struct failure {
	int error;
	char text[FAILURE_TEXT_BYTES];
};

/* Fills *f and returns `error`. Quote names with quoted(); whatever else is in the text is made printable. */
int fail(struct failure *f, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* "wormctl: ..." on stderr. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A name for a message: 'a b.txt', escaped as print_name() does it, cut in the middle when very long.
 * Valid until the eighth call after it. */
const char *quoted(const char *name);

/* A name, or any text that comes from outside, for people: what is not printable UTF-8 as \n, \t or
 * \xNN, a backslash as \\. Controls of terminals and of text direction count as not printable. */
void print_name(FILE *out, const char *name);
bool name_is_plain(const char *name);	/* print_name() would change nothing */

/* Valid UTF-8 without anything that print_name() would escape, but for the backslash. */
bool text_is_printable(const char *text);

/* Sets "path", and "path_encoded" (control_path_encode) when the bytes are no UTF-8: then "path" has U+FFFD
 * in their place. -ENOMEM. */
int json_set_path(json_t *object, const char *path);
/* A string from any bytes, likewise. NULL: out of memory. */
json_t *json_text(const char *text);
/* "" when it is missing or of another type. */
const char *json_get_text(const json_t *object, const char *key);
int64_t json_get_int(const json_t *object, const char *key);
bool json_get_bool(const json_t *object, const char *key);

/* One object, one line on stdout. Takes the reference; NULL: -ENOMEM. */
int print_json(json_t *object);

/* Everything is out: EXIT code `code`, or EXIT_COULD_NOT with a complaint when stdout failed. */
int finish_output(int code);

/* "EPERM"; "errno 1234" for what has no name. And back: a positive errno, EIO for an unknown name. */
const char *errno_name(int error);
int errno_number(const char *name);

#endif
