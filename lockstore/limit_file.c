/* Limits from their file: sections in order, everything checked before anything is used.
 *
 * libinih splits the lines of keys. Headers we read ourselves, since it cuts what is between the brackets after 49 bytes. White
 * space in front of a line means nothing. */
#include "lockstore/limit.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/byte_size.h"
#include "lockstore/leaf_mutex.h"
#include "lockstore/limit_private.h"
#include "lockstore/policy.h"
#include "lockstore/retention.h"

#define HEADER_MAX_BYTES 4100	/* a path of PATH_MAX, and the word before it */
#define PASSWD_BYTES 16384

struct parser {
	struct limits *limits;
	struct limit_error *error;
	const char *name;
	const char *at, *end;
	unsigned line;
	unsigned given;			/* keys of the section that is read: bits, see on_key() */
	unsigned ndirectories;
	int r;				/* the first error */
};

static int report(struct parser *p, int r, unsigned line, const char *format, ...) __attribute__((format(printf, 4, 5)));

static int report(struct parser *p, int r, unsigned line, const char *format, ...)
{
	char text[300];
	va_list ap;

	if (p->r < 0)
		return p->r;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	if (line)
		snprintf(p->error->text, sizeof(p->error->text), "%s:%u: %s", p->name, line, text);
	else
		snprintf(p->error->text, sizeof(p->error->text), "%s: %s", p->name, text);
	p->r = r;
	return r;
}

/* ---- sections ---- */

/* "/a/b" -> "a/b", "/" -> "". */
static int check_path(struct parser *p, char *path, const char **ret_name)
{
	size_t len = strlen(path);

	if (*path != '/')
		return report(p, -EINVAL, p->line, "directory '%.100s': give its path from the root of the share on, with '/' before it", path);
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	*ret_name = path + 1;
	for (const char *part = path; *part && len > 1; part += strcspn(part, "/")) {
		size_t n = strcspn(++part, "/");

		if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
			return report(p, -EINVAL, p->line, "directory '%.100s': a path without '//', '.' and '..'", path);
	}
	return 0;
}

static int check_user(struct parser *p, const char *name, uint32_t *ret_uid)
{
	char buf[PASSWD_BYTES], *end;
	struct passwd pwd, *found = NULL;
	unsigned long long n;

	if (*name && name[strspn(name, "0123456789")] == '\0') {
		errno = 0;
		n = strtoull(name, &end, 10);
		if (errno || n >= UINT32_MAX)
			return report(p, -EINVAL, p->line, "user '%.100s' is no number of a user", name);
		*ret_uid = n;
		return 0;
	}
	if (getpwnam_r(name, &pwd, buf, sizeof(buf), &found) != 0 || !found)
		return report(p, -EINVAL, p->line, "there is no user '%.100s': give the number", name);
	*ret_uid = pwd.pw_uid;
	return 0;
}

static struct entry *new_entry(struct parser *p)
{
	struct limits *limits = p->limits;

	if (limits->n == LIMIT_SECTIONS_MAX) {
		report(p, -EINVAL, p->line, "more than %d sections", LIMIT_SECTIONS_MAX);
		return NULL;
	}
	if (limits->n == limits->size) {
		size_t size = limits->size ? limits->size * 2 : 16;
		struct entry *entries = realloc(limits->entries, size * sizeof(*entries));

		if (!entries) {
			report(p, -ENOMEM, 0, "out of memory");
			return NULL;
		}
		limits->entries = entries;
		limits->size = size;
	}
	memset(&limits->entries[limits->n], 0, sizeof(limits->entries[0]));
	return &limits->entries[limits->n];
}

/* "directory /a/b", "user NAME", "rule NAME". `text` is ours to change. */
static int add_section(struct parser *p, char *text)
{
	static const char *const kinds[] = { [LIMIT_DIRECTORY] = "directory", [LIMIT_USER] = "user", [LIMIT_RULE] = "rule" };
	size_t word = strcspn(text, " \t"), gap = strspn(text + word, " \t");
	struct limit_section section = { .line = p->line, .outer = LIMIT_NONE, .grace_s = LIMIT_GRACE_S };
	char *name = text + word + gap, *key = NULL;
	struct entry *entry;
	unsigned kind;
	int n;

	for (kind = 0; kind <= LIMIT_RULE; kind++)
		if (strlen(kinds[kind]) == word && strncmp(kinds[kind], text, word) == 0)
			break;
	if (kind > LIMIT_RULE || gap == 0 || !*name)
		return report(p, -EINVAL, p->line, "[%.100s]: a section is [directory /PATH], [user NAME] or [rule NAME]", text);
	section.kind = kind;
	if (kind == LIMIT_DIRECTORY && check_path(p, name, &section.name) < 0)
		return p->r;
	if (kind == LIMIT_USER && check_user(p, name, &section.id) < 0)
		return p->r;
	if (kind == LIMIT_RULE && strlen(name) > POLICY_NAME_MAX_BYTES)
		return report(p, -EINVAL, p->line, "rule '%.100s': that is longer than a name of a rule may be", name);
	if (kind == LIMIT_DIRECTORY)
		section.id = ++p->ndirectories;
	entry = new_entry(p);
	if (!entry)
		return p->r;
	n = kind == LIMIT_USER ? asprintf(&key, "user %u", section.id) : asprintf(&key, "%s %s", kinds[kind], name);
	if (n < 0)
		return report(p, -ENOMEM, 0, "out of memory");
	section.key = key;
	section.name = key + strlen(kinds[kind]) + (kind == LIMIT_DIRECTORY ? 2 : 1);
	entry->section = section;
	p->limits->n++;
	p->limits->has[kind] = true;
	p->limits->ndirectories += kind == LIMIT_DIRECTORY;
	p->given = 0;
	return 0;
}

/* The section that ends: with the next one, or with the file. */
static int end_section(struct parser *p)
{
	static const char *const names[LIMIT_RESOURCES] = { "", "files_" };
	const struct limit_section *s;

	if (p->r < 0 || p->limits->n == 0)
		return p->r;
	s = &p->limits->entries[p->limits->n - 1].section;
	for (int what = 0; what < LIMIT_RESOURCES; what++) {
		const struct limit_bounds *b = &s->bounds[what];

		if (b->soft && b->hard && b->soft > b->hard)
			return report(p, -EINVAL, s->line, "[%.100s]: %ssoft is more than %shard and would never be reached", s->key, names[what],
				      names[what]);
		if (b->advisory && b->hard && b->advisory > b->hard)
			return report(p, -EINVAL, s->line, "[%.100s]: %sadvisory is more than %shard and would never be reached", s->key,
				      names[what], names[what]);
	}
	return 0;
}

static int by_key(const void *a, const void *b, void *arg)
{
	const struct limits *limits = arg;
	const struct limit_section *x = &limits->entries[*(const int *)a].section, *y = &limits->entries[*(const int *)b].section;
	int order = strcmp(x->key, y->key);

	return order ? order : *(const int *)a - *(const int *)b;
}

static int check_twice(struct parser *p)
{
	struct limits *limits = p->limits;
	int *order = malloc((limits->n + 1) * sizeof(*order));

	if (!order)
		return report(p, -ENOMEM, 0, "out of memory");
	for (size_t i = 0; i < limits->n; i++)
		order[i] = i;
	qsort_r(order, limits->n, sizeof(*order), by_key, limits);
	for (size_t i = 1; i < limits->n; i++) {
		const struct limit_section *s = &limits->entries[order[i]].section, *before = &limits->entries[order[i - 1]].section;

		if (strcmp(s->key, before->key) == 0)
			report(p, -EINVAL, s->line, "[%.100s] is there already, at line %u", s->key, before->line);
	}
	free(order);
	return p->r;
}

static int by_name(const void *a, const void *b, void *arg)
{
	const struct limits *limits = arg;

	return strcmp(limits->entries[*(const int *)a].section.name, limits->entries[*(const int *)b].section.name);
}

static int by_number(const void *a, const void *b, void *arg)
{
	const struct limits *limits = arg;
	uint32_t x = limits->entries[*(const int *)a].section.id, y = limits->entries[*(const int *)b].section.id;

	return x < y ? -1 : x > y;
}

static int index_users(struct parser *p)
{
	struct limits *limits = p->limits;

	limits->by_uid = malloc((limits->n + 1) * sizeof(*limits->by_uid));
	if (!limits->by_uid)
		return report(p, -ENOMEM, 0, "out of memory");
	for (size_t i = 0; i < limits->n; i++)
		if (limits->entries[i].section.kind == LIMIT_USER)
			limits->by_uid[limits->nusers++] = i;
	qsort_r(limits->by_uid, limits->nusers, sizeof(*limits->by_uid), by_number, limits);
	return 0;
}

static int index_directories(struct parser *p)
{
	struct limits *limits = p->limits;
	size_t n = 0;

	limits->by_path = malloc((limits->ndirectories + 1) * sizeof(*limits->by_path));
	if (!limits->by_path)
		return report(p, -ENOMEM, 0, "out of memory");
	for (size_t i = 0; i < limits->n; i++)
		if (limits->entries[i].section.kind == LIMIT_DIRECTORY)
			limits->by_path[n++] = i;
	qsort_r(limits->by_path, n, sizeof(*limits->by_path), by_name, limits);
	for (size_t i = 0; i < n; i++) {	/* a directory comes after those around it */
		struct limit_section *s = &limits->entries[limits->by_path[i]].section;
		unsigned depth = 1;

		s->outer = limits_around(limits, s->name);
		for (int at = s->outer; at != LIMIT_NONE; at = limits->entries[at].section.outer)
			depth++;
		if (depth > LIMIT_DEPTH_MAX)
			return report(p, -EINVAL, s->line, "[%.100s] lies in more than %d other limited directories", s->key, LIMIT_DEPTH_MAX - 1);
	}
	return 0;
}

/* ---- lines ---- */

/* Is there nothing in it, or a comment? */
static bool is_blank(const char *text, size_t len)
{
	for (; len > 0 && strchr(" \t\r", *text); len--)
		text++;
	return len == 0 || *text == ';' || *text == '#';
}

/* "[...]": to the first ']' that nothing comes after, since a path may have others. */
static int begin_section(struct parser *p, const char *line, size_t len)
{
	char header[HEADER_MAX_BYTES];
	size_t end = 1;

	while (end < len && !(line[end] == ']' && is_blank(line + end + 1, len - end - 1)))
		end++;
	if (end == len)
		return report(p, -EINVAL, p->line, "a section is [...] and nothing behind it but a comment");
	if (end - 1 >= sizeof(header))
		return report(p, -EINVAL, p->line, "a section has at most %d bytes", HEADER_MAX_BYTES - 1);
	line++;
	len = end - 1;
	for (; len > 0 && strchr(" \t", *line); len--)
		line++;
	while (len > 0 && strchr(" \t", line[len - 1]))
		len--;
	memcpy(header, line, len);
	header[len] = '\0';
	return end_section(p) < 0 ? p->r : add_section(p, header);
}

/* For libinih: the next line, as fgets(3) would give it. */
static char *next_line(char *buf, int size, void *arg)
{
	struct parser *p = arg;
	const char *eol, *line;
	size_t len;

	if (p->at == p->end || p->r < 0)
		return NULL;
	p->line++;
	eol = memchr(p->at, '\n', p->end - p->at);
	len = (eol ? eol : p->end) - p->at;
	line = p->at;
	p->at = eol ? eol + 1 : p->end;
	if (memchr(line, '\0', len)) {
		report(p, -EINVAL, p->line, "there is a NUL byte in the line");
		return NULL;
	}
	if (p->line == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {	/* a byte order mark of UTF-8 */
		line += 3;
		len -= 3;
	}
	for (; len && (*line == ' ' || *line == '\t'); len--)
		line++;
	if (len && strchr(";#", *line))
		len = 0;	/* however long */
	if (len && *line == '[') {
		if (begin_section(p, line, len) < 0)
			return NULL;
		return strcpy(buf, "[s]\n");
	}
	if (len + 3 > (size_t)size) {	/* libinih would cut it and go on */
		report(p, -EINVAL, p->line, "the line has more than %d bytes", size - 3);
		return NULL;
	}
	memcpy(buf, line, len);
	buf[len] = '\n';
	buf[len + 1] = '\0';
	return buf;
}

static int read_number(struct parser *p, const char *key, const char *value, uint64_t *ret)
{
	const char *end;
	uint64_t n;

	if (byte_size_parse(value, &n, &end) < 0 || *end || n == 0 || n > INT64_MAX)
		return report(p, -EINVAL, p->line, "%s is a number from 1 on, or with K M G T P (1024), not '%.60s'; without it there is no such limit",
			      key, value);
	*ret = n;
	return 0;
}

static int read_grace(struct parser *p, const char *value, int64_t *ret_s)
{
	struct retention period;

	if (retention_parse(value, &period) < 0 || period.kind != RETENTION_PERIOD || period.months != 0)
		return report(p, -EINVAL, p->line, "grace is a time in s, h, d or w, as in 7d, not '%.60s'", value);
	*ret_s = period.seconds;
	return 0;
}

static int on_key(void *arg, const char *section, const char *key, const char *value)
{
	static const char *const names[] = { "advisory", "soft", "hard", "files_advisory", "files_soft", "files_hard", "grace" };
	struct parser *p = arg;
	struct limit_section *s;
	struct limit_bounds *b;
	unsigned i;

	if (p->r < 0)
		return 0;
	if (p->limits->n == 0)
		return !report(p, -EINVAL, p->line, "'%.40s' stands before the first section: begin with [directory /PATH], [user NAME] or [rule NAME]", key);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], key) == 0)
			break;
	if (i == sizeof(names) / sizeof(names[0]))
		return !report(p, -EINVAL, p->line, "there is no key '%.40s'; there are advisory soft hard files_advisory files_soft files_hard grace", key);
	if (p->given & 1u << i)
		return !report(p, -EINVAL, p->line, "%s is given twice in this section", key);
	p->given |= 1u << i;
	s = &p->limits->entries[p->limits->n - 1].section;
	if (i == 6)
		return read_grace(p, value, &s->grace_s) == 0;
	b = &s->bounds[i / 3];
	return read_number(p, key, value, i % 3 == 0 ? &b->advisory : i % 3 == 1 ? &b->soft : &b->hard) == 0;
}

/* ---- life ---- */

static int begin(struct parser *p)
{
	memset(p->error, 0, sizeof(*p->error));
	p->limits = calloc(1, sizeof(*p->limits));
	if (!p->limits)
		return report(p, -ENOMEM, 0, "out of memory");
	leaf_mutex_init(&p->limits->lock);
	return 0;
}

static int end(struct parser *p, struct limits **ret_limits)
{
	if (end_section(p) == 0 && check_twice(p) == 0 && index_users(p) == 0)
		index_directories(p);
	if (p->r < 0)
		limits_close(p->limits);
	else
		*ret_limits = p->limits;
	return p->r;
}

int limits_parse(const char *name, const char *text, size_t len_bytes, struct limits **ret_limits, struct limit_error *ret_error)
{
	struct parser p = { .error = ret_error, .name = name, .at = text, .end = text + len_bytes };
	int r;

	if (begin(&p) < 0)
		return p.r;
	r = ini_parse_stream(next_line, &p, on_key, &p);
	if (r > 0)
		report(&p, -EINVAL, r, "neither [SECTION] nor KEY = VALUE");
	else if (r < 0)
		report(&p, -ENOMEM, 0, "out of memory");
	if (p.r == 0 && p.limits->n == 0)
		report(&p, -EINVAL, 0, "there is no section in it");
	return end(&p, ret_limits);
}

int limits_of_sections(const struct limit_section *sections, size_t n, struct limits **ret_limits)
{
	struct limit_error error;
	struct parser p = { .error = &error, .name = "" };

	if (begin(&p) < 0)
		return p.r;
	for (size_t i = 0; i < n && p.r == 0; i++) {
		char *key = strdup(sections[i].key);
		struct limit_section *s;

		if (!key)
			report(&p, -ENOMEM, 0, "out of memory");
		else if (add_section(&p, key) == 0) {
			s = &p.limits->entries[p.limits->n - 1].section;
			memcpy(s->bounds, sections[i].bounds, sizeof(s->bounds));
			s->grace_s = sections[i].grace_s;
			s->id = sections[i].id;
		}
		free(key);
	}
	return end(&p, ret_limits);
}

int limits_open(const char *path, struct limits **ret_limits, struct limit_error *ret_error)
{
	struct parser p = { .error = ret_error, .name = path };
	char *text = NULL;
	size_t len = 0;
	struct stat st;
	ssize_t n = 1;
	int fd;

	memset(ret_error, 0, sizeof(*ret_error));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		report(&p, -errno, 0, "%s", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode))
		report(&p, -EINVAL, 0, "it is no regular file");
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		report(&p, -EPERM, 0, "it belongs to uid %u: chown it to root, or to who runs the daemon", st.st_uid);
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		report(&p, -EPERM, 0, "others may write it: run chmod go-w on it");
	else if (st.st_size > LIMIT_FILE_MAX_BYTES)
		report(&p, -EINVAL, 0, "it is larger than %d MiB", LIMIT_FILE_MAX_BYTES >> 20);
	if (p.r < 0)
		goto out;
	text = malloc(LIMIT_FILE_MAX_BYTES);
	if (!text) {
		report(&p, -ENOMEM, 0, "out of memory");
		goto out;
	}
	while (n > 0 && len < LIMIT_FILE_MAX_BYTES) {
		n = read(fd, text + len, LIMIT_FILE_MAX_BYTES - len);
		if (n > 0)
			len += n;
	}
	if (n < 0)
		report(&p, -errno, 0, "%s", strerror(errno));
	else
		p.r = limits_parse(path, text, len, ret_limits, ret_error);
out:
	if (fd >= 0)
		close(fd);
	free(text);
	return p.r;
}
