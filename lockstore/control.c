/* Paths as the control protocol writes them: any bytes inside printable ASCII. */
#include "lockstore/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_plain(unsigned char c)
{
	return c > 0x20 && c < 0x7f && c != '%';
}

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

/* Relative, normal, and below the root: nothing that a walk could leave the share by. */
static bool is_normal(const char *path)
{
	const char *slash;

	if (!*path)
		return true;
	for (;;) {
		slash = strchrnul(path, '/');
		if (slash == path || (slash == path + 1 && path[0] == '.') ||
		    (slash == path + 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (!*slash)
			return true;
		path = slash + 1;
	}
}

int control_path_encode(const char *path, char **ret_text)
{
	static const char hex[] = "0123456789ABCDEF";
	char *text = malloc(strlen(path) * 3 + 1), *out = text;

	if (!text)
		return -ENOMEM;
	for (; *path; path++) {
		unsigned char c = *path;

		if (is_plain(c)) {
			*out++ = c;
			continue;
		}
		*out++ = '%';
		*out++ = hex[c >> 4];
		*out++ = hex[c & 15];
	}
	*out = '\0';
	*ret_text = text;
	return 0;
}

int control_path_decode(const char *text, char **ret_path)
{
	char *path = malloc(strlen(text) + 1), *out = path;

	if (!path)
		return -ENOMEM;
	for (; *text; text++) {
		int hi, lo;

		if (*text != '%') {
			*out++ = *text;
			continue;
		}
		hi = hex_digit(text[1]);
		lo = hi < 0 ? -1 : hex_digit(text[2]);
		if (lo < 0 || (hi == 0 && lo == 0)) {
			free(path);
			return -EINVAL;
		}
		*out++ = (char)(hi << 4 | lo);
		text += 2;
	}
	*out = '\0';
	if (!is_normal(path)) {
		free(path);
		return -EINVAL;
	}
	*ret_path = path;
	return 0;
}
