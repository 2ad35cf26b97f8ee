/* Owns what goes to stdout and stderr. Nothing that comes from a file name, a ledger or a daemon is
 * printed for people without passing print_name() or quoted(). */
#include "lockstore/wormctl/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/control.h"
#include "lockstore/wormctl/wormctl.h"

#define QUOTED_BYTES 320	/* longer names are cut: a message is one line */
#define QUOTED_RING 8

/* Length of the UTF-8 character at s, 0: not one (RFC 3629: no overlong form, no surrogate). */
static int utf8_decode(const unsigned char *s, uint32_t *ret_char)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t c = s[0];
	int len;

	if (c < 0x80) {
		*ret_char = c;
		return 1;
	}
	len = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc2 && c < 0xe0 ? 2 : 0;
	if (!len)
		return 0;
	c &= 0x7f >> len;
	for (int i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret_char = c;
	return len;
}

/* Controls, line separators, marks that turn the direction of text, and the byte order mark. */
static bool is_printable(uint32_t c)
{
	return c >= 0x20 && c != 0x7f && !(c >= 0x80 && c < 0xa0) && c != 0x61c && c != 0x200e && c != 0x200f &&
	       !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069) && c != 0xfeff;
}

/* What stands for the character at *s; moves *s behind it. `buf` has room for 4 escaped bytes. */
static const char *escape_next(const char **s, char buf[20])
{
	const unsigned char *in = (const unsigned char *)*s;
	uint32_t c;
	int len = utf8_decode(in, &c);

	if (len && is_printable(c) && c != '\\') {
		memcpy(buf, in, len);
		buf[len] = '\0';
	} else if (*in == '\\' || *in == '\n' || *in == '\t' || *in == '\r') {
		buf[0] = '\\';
		buf[1] = *in == '\n' ? 'n' : *in == '\t' ? 't' : *in == '\r' ? 'r' : '\\';
		buf[2] = '\0';
	} else {
		if (!len)
			len = 1;
		for (int i = 0; i < len; i++)
			sprintf(buf + 4 * i, "\\x%02x", in[i]);
	}
	*s += len ? len : 1;
	return buf;
}

/* Text that may have words of a daemon or a ledger in it, made one printable line; what quoted() has escaped
 * already stays as it is. Cut when too long: it is still a sentence. */
static void make_printable(char *out, size_t out_bytes, const char *text)
{
	char buf[20];
	size_t len = 0;

	while (*text) {
		const char *c = *text == '\\' ? (text++, "\\") : escape_next(&text, buf);
		size_t n = strlen(c);

		if (len + n >= out_bytes)
			break;
		memcpy(out + len, c, n);
		len += n;
	}
	out[len] = '\0';
}

int fail(struct failure *f, int error, const char *format, ...)
{
	char text[FAILURE_TEXT_BYTES];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);	/* cut, likewise */
	va_end(ap);
	f->error = error;
	make_printable(f->text, sizeof(f->text), text);
	return error;
}

void complain(const char *format, ...)
{
	char text[2 * FAILURE_TEXT_BYTES], line[2 * FAILURE_TEXT_BYTES];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	make_printable(line, sizeof(line), text);
	(void)fflush(stdout);	/* in the order it happened, when both go to one terminal */
	fprintf(stderr, "wormctl: %s\n", line);
}

const char *quoted(const char *name)
{
	static char ring[QUOTED_RING][QUOTED_BYTES];
	static unsigned next;
	char *out = ring[next++ % QUOTED_RING], buf[20];
	size_t len = 0;

	out[len++] = '\'';
	while (*name) {
		const char *c = escape_next(&name, buf);
		size_t n = strlen(c);

		if (len + n > QUOTED_BYTES - 6) {
			len += sprintf(out + len, "...");
			break;
		}
		memcpy(out + len, c, n);
		len += n;
	}
	out[len++] = '\'';
	out[len] = '\0';
	return out;
}

void print_name(FILE *out, const char *name)
{
	char buf[20];

	if (name_is_plain(name)) {
		fputs(name, out);
		return;
	}
	while (*name)
		fputs(escape_next(&name, buf), out);
}

bool name_is_plain(const char *name)
{
	for (; *name; name++)
		if (*name < 0x20 || *name >= 0x7f || *name == '\\')
			return false;
	return true;
}

static bool is_utf8(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	uint32_t c;

	while (*s) {
		int len = utf8_decode(s, &c);

		if (!len)
			return false;
		s += len;
	}
	return true;
}

bool text_is_printable(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	uint32_t c;

	while (*s) {
		int len = utf8_decode(s, &c);

		if (!len || !is_printable(c))
			return false;
		s += len;
	}
	return true;
}

json_t *json_text(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	json_t *string;
	size_t len = 0;
	uint32_t c;
	char *copy;

	if (is_utf8(text))
		return json_string_nocheck(text);
	copy = malloc(3 * strlen(text) + 1);
	if (!copy)
		return NULL;
	while (*s) {
		int n = utf8_decode(s, &c);

		memcpy(copy + len, n ? (const char *)s : "\xef\xbf\xbd", n ? n : 3);
		len += n ? n : 3;
		s += n ? n : 1;
	}
	copy[len] = '\0';
	string = json_string_nocheck(copy);
	free(copy);
	return string;
}

int json_set_path(json_t *object, const char *path)
{
	char *encoded;
	int r = 0;

	if (json_object_set_new_nocheck(object, "path", json_text(path)) < 0)
		return -ENOMEM;
	if (is_utf8(path))
		return 0;
	if (control_path_encode(path, &encoded) < 0)
		return -ENOMEM;
	if (json_object_set_new_nocheck(object, "path_encoded", json_string_nocheck(encoded)) < 0)
		r = -ENOMEM;
	free(encoded);
	return r;
}

const char *json_get_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

int64_t json_get_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

bool json_get_bool(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

int print_json(json_t *object)
{
	int r;

	if (!object)
		return -ENOMEM;
	r = json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(object);
	if (r < 0 && !ferror(stdout))
		return -ENOMEM;
	fputc('\n', stdout);
	return 0;	/* finish_output() says when stdout failed */
}

int finish_output(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	complain("cannot write to standard output: %s", strerror(errno));
	return EXIT_COULD_NOT;
}

const char *errno_name(int error)
{
	static char number[24];
	const char *name = strerrorname_np(error);

	if (name)
		return name;
	snprintf(number, sizeof(number), "errno %d", error);
	return number;
}

int errno_number(const char *name)
{
	for (int error = 1; error < 200; error++) {
		const char *known = strerrorname_np(error);

		if (known && strcmp(known, name) == 0)
			return error;
	}
	return EIO;
}
