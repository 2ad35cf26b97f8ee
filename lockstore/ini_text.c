#include "lockstore/ini_text.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BYTES 65536

void ini_text_begin(struct ini_text *ini, const char *name, struct ini_error *error)
{
	memset(ini, 0, sizeof(*ini));
	memset(error, 0, sizeof(*error));
	ini->name = name;
	ini->error = error;
}

int ini_text_report(struct ini_text *ini, int r, unsigned line, const char *format, ...)
{
	char text[300];
	va_list ap;

	if (ini->r < 0)
		return ini->r;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	ini->error->line = line;
	if (line)
		snprintf(ini->error->text, sizeof(ini->error->text), "%s:%u: %s", ini->name, line, text);
	else
		snprintf(ini->error->text, sizeof(ini->error->text), "%s: %s", ini->name, text);
	ini->r = r;
	return r;
}

/* For libinih: the next line, as fgets(3) would give it. */
static char *next_line(char *buf, int size, void *arg)
{
	struct ini_text *ini = arg;
	const char *eol, *line;
	bool section;
	size_t len;

	if (ini->at == ini->end || ini->r < 0)
		return NULL;
	ini->line++;
	eol = memchr(ini->at, '\n', ini->end - ini->at);
	len = (eol ? eol : ini->end) - ini->at;
	line = ini->at;
	ini->at = eol ? eol + 1 : ini->end;
	if (memchr(line, '\0', len)) {
		ini_text_report(ini, -EINVAL, ini->line, "there is a NUL byte in the line");
		return NULL;
	}
	if (ini->line == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {	/* a byte order mark of UTF-8 */
		line += 3;
		len -= 3;
	}
	for (; len && (*line == ' ' || *line == '\t'); len--)
		line++;
	if (len && (*line == ';' || *line == '#'))
		len = 0;	/* however long */
	section = len && *line == '[';
	if (len + 3 > (size_t)size && !(section && ini->reader->long_sections)) {	/* libinih would cut it and go on */
		ini_text_report(ini, -EINVAL, ini->line, "the line has more than %d bytes%s", size - 3, ini->reader->too_long);
		return NULL;
	}
	if (section)
		return ini->reader->section(ini->arg, line, len) < 0 ? NULL : strcpy(buf, "[s]\n");
	memcpy(buf, line, len);
	buf[len] = '\n';
	buf[len + 1] = '\0';
	return buf;
}

static int on_key(void *arg, const char *section, const char *key, const char *value)
{
	struct ini_text *ini = arg;

	return ini->r == 0 && ini->reader->key(ini->arg, key, value) == 0;
}

int ini_text_parse(struct ini_text *ini, const char *text, size_t len_bytes, const struct ini_reader *reader, void *arg)
{
	int r;

	ini->at = text;
	ini->end = text + len_bytes;
	ini->reader = reader;
	ini->arg = arg;
	r = ini_parse_stream(next_line, ini, on_key, ini);
	if (r > 0)
		ini_text_report(ini, -EINVAL, r, "neither [SECTION] nor KEY = VALUE");
	else if (r < 0)
		ini_text_report(ini, -ENOMEM, 0, "out of memory");
	return ini->r;
}

/* Who may write it decides what it says. */
static int check_owner(struct ini_text *ini, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return ini_text_report(ini, -EINVAL, 0, "it is no regular file");
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return ini_text_report(ini, -EPERM, 0, "it belongs to uid %u: chown it to root, or to who runs the daemon", st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return ini_text_report(ini, -EPERM, 0, "others may write it: run chmod go-w on it");
	return 0;
}

static int read_all(struct ini_text *ini, int fd, size_t max_bytes, char **ret_text, size_t *ret_len)
{
	char *text = NULL, *more;
	size_t len = 0, size = 0;
	ssize_t n = 1;

	while (n > 0 && len <= max_bytes) {
		if (len == size) {
			size = size ? size * 2 : FIRST_BYTES;
			more = realloc(text, size);
			if (!more) {
				free(text);
				return ini_text_report(ini, -ENOMEM, 0, "out of memory");
			}
			text = more;
		}
		n = read(fd, text + len, size - len);
		if (n > 0)
			len += n;
	}
	if (n < 0)
		ini_text_report(ini, -errno, 0, "%s", strerror(errno));
	else if (len > max_bytes)
		ini_text_report(ini, -EINVAL, 0, "it is larger than %zu MiB", max_bytes >> 20);
	if (ini->r < 0) {
		free(text);
		return ini->r;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int ini_text_load(struct ini_text *ini, const char *path, bool trusted, size_t max_bytes, char **ret_text, size_t *ret_len_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		ini_text_report(ini, -errno, 0, "%s", strerror(errno));
	else if (!trusted || check_owner(ini, &st) == 0)
		(void)read_all(ini, fd, max_bytes, ret_text, ret_len_bytes);
	if (fd >= 0)
		close(fd);
	return ini->r;
}
