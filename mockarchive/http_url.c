/* Percent-encoding and query strings. */
#include "mockarchive/http_url.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* By hand: isalnum() follows the locale, a URL does not. */
static bool is_unreserved(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		c == '-' || c == '.' || c == '_' || c == '~';
}

int http_percent_decode(const char *text, size_t len_bytes, char **ret_text, size_t *ret_len_bytes)
{
	char *out = malloc(len_bytes + 1);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < len_bytes; i++) {
		int high, low;

		if (text[i] != '%') {
			out[n++] = text[i];
			continue;
		}
		high = len_bytes - i > 2 ? hex_digit(text[i + 1]) : -1;
		low = high >= 0 ? hex_digit(text[i + 2]) : -1;
		if (low < 0) {
			free(out);
			return -EINVAL;
		}
		out[n++] = (char)(high << 4 | low);
		i += 2;
	}
	out[n] = '\0';
	*ret_text = out;
	*ret_len_bytes = n;
	return 0;
}

char *http_percent_encode(const char *text, size_t len_bytes)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = malloc(len_bytes * 3 + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len_bytes; i++) {
		if (is_unreserved(text[i])) {
			out[n++] = text[i];
		} else {
			out[n++] = '%';
			out[n++] = hex[(unsigned char)text[i] >> 4];
			out[n++] = hex[(unsigned char)text[i] & 15];
		}
	}
	out[n] = '\0';
	return out;
}

static int decode_text(const char *text, size_t len_bytes, char **ret_text)
{
	char *decoded;
	size_t n;
	int r = http_percent_decode(text, len_bytes, &decoded, &n);

	if (r < 0)
		return r;
	if (strlen(decoded) != n) {
		free(decoded);
		return -EINVAL;
	}
	*ret_text = decoded;
	return 0;
}

int http_query_get(const char *query, const char *name, char **ret_value)
{
	for (const char *at = query; at && *at; ) {
		const char *end = strchrnul(at, '&'), *equals = memchr(at, '=', end - at);
		const char *key_end = equals ? equals : end;
		char *key;
		int r = decode_text(at, key_end - at, &key);
		bool found = r == 0 && strcmp(key, name) == 0;

		if (r == 0)
			free(key);
		if (r == -ENOMEM)
			return r;
		if (found)
			return equals ? decode_text(equals + 1, end - equals - 1, ret_value) : decode_text("", 0, ret_value);
		at = *end ? end + 1 : end;
	}
	return -ENOENT;
}
