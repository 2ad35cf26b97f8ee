/* Limits from their file: sections in order, everything checked before anything is used. */
#include "lockstore/limit.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/byte_size.h"
#include "lockstore/leaf_mutex.h"
#include "lockstore/limit_private.h"
#include "lockstore/policy.h"
#include "lockstore/retention.h"

#define HEADER_MAX_BYTES 4100	/* a path of PATH_MAX, and the word before it */
#define PASSWD_BYTES 16384

struct parser {
	struct ini_text ini;
	struct limits *limits;
	unsigned given;			/* keys of the section that is read: bits, see on_key() */
	unsigned ndirectories;
};

#define report(p, ...) ini_text_report(&(p)->ini, __VA_ARGS__)

/* ---- sections ---- */

/* "/a/b" -> "a/b", "/" -> "". */
static int check_path(struct parser *p, char *path, const char **ret_name)
{
	size_t len = strlen(path);

	if (*path != '/')
		return report(p, -EINVAL, p->ini.line, "directory '%.100s': give its path from the root of the share on, with '/' before it", path);
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	*ret_name = path + 1;
	for (const char *part = path; *part && len > 1; part += strcspn(part, "/")) {
		size_t n = strcspn(++part, "/");

		if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
			return report(p, -EINVAL, p->ini.line, "directory '%.100s': a path without '//', '.' and '..'", path);
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
			return report(p, -EINVAL, p->ini.line, "user '%.100s' is no number of a user", name);
		*ret_uid = n;
		return 0;
	}
	if (getpwnam_r(name, &pwd, buf, sizeof(buf), &found) != 0 || !found)
		return report(p, -EINVAL, p->ini.line, "there is no user '%.100s': give the number", name);
	*ret_uid = pwd.pw_uid;
	return 0;
}

static struct entry *new_entry(struct parser *p)
{
	struct limits *limits = p->limits;

	if (limits->n == LIMIT_SECTIONS_MAX) {
		report(p, -EINVAL, p->ini.line, "more than %d sections", LIMIT_SECTIONS_MAX);
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
	struct limit_section section = { .line = p->ini.line, .outer = LIMIT_NONE, .grace_s = LIMIT_GRACE_S };
	char *name = text + word + gap, *key = NULL;
	struct entry *entry;
	unsigned kind;
	int n;

	for (kind = 0; kind <= LIMIT_RULE; kind++)
		if (strlen(kinds[kind]) == word && strncmp(kinds[kind], text, word) == 0)
			break;
	if (kind > LIMIT_RULE || gap == 0 || !*name)
		return report(p, -EINVAL, p->ini.line, "[%.100s]: a section is [directory /PATH], [user NAME] or [rule NAME]", text);
	section.kind = kind;
	if (kind == LIMIT_DIRECTORY && check_path(p, name, &section.name) < 0)
		return p->ini.r;
	if (kind == LIMIT_USER && check_user(p, name, &section.id) < 0)
		return p->ini.r;
	if (kind == LIMIT_RULE && strlen(name) > POLICY_NAME_MAX_BYTES)
		return report(p, -EINVAL, p->ini.line, "rule '%.100s': that is longer than a name of a rule may be", name);
	if (kind == LIMIT_DIRECTORY)
		section.id = ++p->ndirectories;
	entry = new_entry(p);
	if (!entry)
		return p->ini.r;
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

	if (p->ini.r < 0 || p->limits->n == 0)
		return p->ini.r;
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
	return p->ini.r;
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
static int on_section(void *arg, const char *line, size_t len)
{
	struct parser *p = arg;
	char header[HEADER_MAX_BYTES];
	size_t end = 1;

	while (end < len && !(line[end] == ']' && is_blank(line + end + 1, len - end - 1)))
		end++;
	if (end == len)
		return report(p, -EINVAL, p->ini.line, "a section is [...] and nothing behind it but a comment");
	if (end - 1 >= sizeof(header))
		return report(p, -EINVAL, p->ini.line, "a section has at most %d bytes", HEADER_MAX_BYTES - 1);
	line++;
	len = end - 1;
	for (; len > 0 && strchr(" \t", *line); len--)
		line++;
	while (len > 0 && strchr(" \t", line[len - 1]))
		len--;
	memcpy(header, line, len);
	header[len] = '\0';
	return end_section(p) < 0 ? p->ini.r : add_section(p, header);
}

static int read_number(struct parser *p, const char *key, const char *value, uint64_t *ret)
{
	const char *end;
	uint64_t n;

	if (byte_size_parse(value, &n, &end) < 0 || *end || n == 0 || n > INT64_MAX)
		return report(p, -EINVAL, p->ini.line, "%s is a number from 1 on, or with K M G T P (1024), not '%.60s'; without it there is no such limit",
			      key, value);
	*ret = n;
	return 0;
}

static int read_grace(struct parser *p, const char *value, int64_t *ret_s)
{
	struct retention period;

	if (retention_parse(value, &period) < 0 || period.kind != RETENTION_PERIOD || period.months != 0)
		return report(p, -EINVAL, p->ini.line, "grace is a time in s, h, d or w, as in 7d, not '%.60s'", value);
	*ret_s = period.seconds;
	return 0;
}

static int on_key(void *arg, const char *key, const char *value)
{
	static const char *const names[] = { "advisory", "soft", "hard", "files_advisory", "files_soft", "files_hard", "grace" };
	struct parser *p = arg;
	struct limit_section *s;
	struct limit_bounds *b;
	unsigned i;

	if (p->limits->n == 0)
		return report(p, -EINVAL, p->ini.line, "'%.40s' stands before the first section: begin with [directory /PATH], [user NAME] or [rule NAME]", key);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], key) == 0)
			break;
	if (i == sizeof(names) / sizeof(names[0]))
		return report(p, -EINVAL, p->ini.line, "there is no key '%.40s'; there are advisory soft hard files_advisory files_soft files_hard grace", key);
	if (p->given & 1u << i)
		return report(p, -EINVAL, p->ini.line, "%s is given twice in this section", key);
	p->given |= 1u << i;
	s = &p->limits->entries[p->limits->n - 1].section;
	if (i == 6)
		return read_grace(p, value, &s->grace_s);
	b = &s->bounds[i / 3];
	return read_number(p, key, value, i % 3 == 0 ? &b->advisory : i % 3 == 1 ? &b->soft : &b->hard);
}

/* ---- life ---- */

static int begin(struct parser *p, const char *name, struct ini_error *error)
{
	ini_text_begin(&p->ini, name, error);
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
	if (p->ini.r < 0)
		limits_close(p->limits);
	else
		*ret_limits = p->limits;
	return p->ini.r;
}

int limits_parse(const char *name, const char *text, size_t len_bytes, struct limits **ret_limits, struct ini_error *ret_error)
{
	static const struct ini_reader reader = { .section = on_section, .key = on_key, .long_sections = true, .too_long = "" };
	struct parser p = { 0 };

	if (begin(&p, name, ret_error) < 0)
		return p.ini.r;
	if (ini_text_parse(&p.ini, text, len_bytes, &reader, &p) == 0 && p.limits->n == 0)
		report(&p, -EINVAL, 0, "there is no section in it");
	return end(&p, ret_limits);
}

int limits_of_sections(const struct limit_section *sections, size_t n, struct limits **ret_limits)
{
	struct ini_error error;
	struct parser p = { 0 };

	if (begin(&p, "", &error) < 0)
		return p.ini.r;
	for (size_t i = 0; i < n && p.ini.r == 0; i++) {
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

int limits_open(const char *path, struct limits **ret_limits, struct ini_error *ret_error)
{
	struct ini_text ini;
	char *text = NULL;
	size_t len;
	int r;

	ini_text_begin(&ini, path, ret_error);
	r = ini_text_load(&ini, path, true, LIMIT_FILE_MAX_BYTES, &text, &len);
	if (r == 0)
		r = limits_parse(path, text, len, ret_limits, ret_error);
	free(text);
	return r;
}
