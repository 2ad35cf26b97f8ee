/* Request targets as they came over the wire: percent-encoding and query strings. Pure; any thread. */
#ifndef WORMFS_HTTP_URL_H
#define WORMFS_HTTP_URL_H

#include <stddef.h>

/* Decodes %XX; '+' stays '+'. *ret_text is the caller's to free, NUL-terminated, *ret_len_bytes may count NULs in it.
 * -EINVAL: a '%' that two hexadecimal digits do not follow. */
int http_percent_decode(const char *text, size_t len_bytes, char **ret_text, size_t *ret_len_bytes);

/* Encodes every byte outside A-Z a-z 0-9 - . _ ~, slashes too: one path segment. NULL: out of memory. */
char *http_percent_encode(const char *text, size_t len_bytes);

/* The decoded value of the first `name` in a raw query string (NULL: none); "a" and "a=" are the empty string.
 * -ENOENT: not there. -EINVAL: wrongly encoded, or with a NUL. */
int http_query_get(const char *query, const char *name, char **ret_value);

#endif
