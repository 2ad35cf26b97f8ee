/* What a secret was in is wiped, but for copies that jansson and the C library make while a file is changed. */
#include "lockstore/upstream/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/whole_write.h"

#define SETTINGS_MAX 16	/* changed at once; there are seven */

enum form { FORM_NONE, FORM_LINES, FORM_JSON, FORM_TOKEN };

static void wipe(char *text)
{
	if (text)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}

static int __attribute__((format(printf, 3, 4)))
fail(char error[CREDENTIALS_ERROR_BYTES], int r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(error, CREDENTIALS_ERROR_BYTES, format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
	return r;
}

/* ---- reading ---- */

static int read_whole(const char *path, char **ret_text, struct stat *ret_st, char error[CREDENTIALS_ERROR_BYTES])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r = 0;
	ssize_t n = 0, more = 0;
	char *text = NULL;

	if (fd < 0 || fstat(fd, ret_st) < 0) {
		r = fail(error, -errno, "cannot read '%.200s': %s", path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(ret_st->st_mode) || ret_st->st_size > CREDENTIALS_FILE_MAX_BYTES) {
		r = fail(error, -EINVAL, "'%.200s' is not a small regular file", path);
		goto out;
	}
	text = calloc(1, CREDENTIALS_FILE_MAX_BYTES + 1);
	if (!text) {
		r = fail(error, -ENOMEM, "out of memory");
		goto out;
	}
	while (n < CREDENTIALS_FILE_MAX_BYTES && (more = read(fd, text + n, (size_t)(CREDENTIALS_FILE_MAX_BYTES - n))) > 0)
		n += more;
	if (more < 0)
		r = fail(error, -errno, "cannot read '%.200s': %s", path, strerror(errno));
	else if (strlen(text) < (size_t)n)
		r = fail(error, -EINVAL, "'%.200s' is no text", path);
	if (r == 0) {
		*ret_text = text;
		text = NULL;
	}
out:
	wipe(text);
	if (fd >= 0)
		close(fd);
	return r;
}

static enum form form_of(const char *text)
{
	const char *at = text + strspn(text, " \t\r\n");
	size_t n = strcspn(at, " \t\r\n");

	if (*at == '{')
		return FORM_JSON;
	if (n && strspn(at + n, " \t\r\n") == strlen(at + n) && (!memchr(at, '=', n) || strncmp(at, "access-v1:", 10) == 0))
		return FORM_TOKEN;
	return FORM_LINES;
}

/* The keys have two names: ours and the one of JSON files by other programs. */
static const char *other_name(const char *key)
{
	static const char *const pairs[][2] = { { "token", "bearer_token" }, { "user", "username" } };

	for (size_t i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++)
			if (strcasecmp(pairs[i][k], key) == 0)
				return pairs[i][!k];
	return NULL;
}

static bool is_key(const char *name, size_t len, const char *key)
{
	const char *other = other_name(key);

	return (strlen(key) == len && strncasecmp(name, key, len) == 0) || (other && strlen(other) == len && strncasecmp(name, other, len) == 0);
}

/* A line "key = value"; false: none. Spaces around go. */
static bool split_line(const char *line, size_t len, size_t *ret_key_len, const char **ret_key, const char **ret_value, size_t *ret_value_len)
{
	const char *end = line + len, *key, *value;

	while (end > line && isspace((unsigned char)end[-1]))
		end--;
	while (line < end && isspace((unsigned char)*line))
		line++;
	key = line;
	while (line < end && (isalnum((unsigned char)*line) || *line == '_'))
		line++;
	value = line;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	if (line == key || value == end || *value != '=')
		return false;
	value++;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	*ret_key = key;
	*ret_key_len = (size_t)(line - key);
	*ret_value = value;
	*ret_value_len = (size_t)(end - value);
	return true;
}

static bool is_yes(const char *value)
{
	return strcasecmp(value, "yes") == 0 || strcasecmp(value, "true") == 0 || strcasecmp(value, "on") == 0 || strcmp(value, "1") == 0;
}

static int set(struct upstream_settings *s, const char *key, size_t key_len, const char *value, size_t value_len)
{
	char **to, *text;

	if (is_key(key, key_len, "token") || is_key(key, key_len, "password")) {
		s->has_secrets = true;
		return 0;
	}
	if (is_key(key, key_len, "cluster"))
		to = &s->cluster;
	else if (is_key(key, key_len, "root"))
		to = &s->root;
	else if (is_key(key, key_len, "ca"))
		to = &s->ca;
	else if (is_key(key, key_len, "insecure"))
		to = NULL;
	else
		return 0;
	text = strndup(value, value_len);
	if (!text)
		return -ENOMEM;
	if (to) {
		free(*to);
		*to = text;
		return 0;
	}
	s->insecure = is_yes(text);
	free(text);
	return 0;
}

static int read_lines(const char *text, struct upstream_settings *s)
{
	int r = 0;

	while (*text && r == 0) {
		size_t len = strcspn(text, "\n"), key_len, value_len;
		const char *key, *value;

		if (split_line(text, len, &key_len, &key, &value, &value_len))
			r = set(s, key, key_len, value, value_len);
		text += len + (text[len] == '\n');
	}
	return r;
}

static int read_json(const char *text, struct upstream_settings *s)
{
	json_t *json = json_loads(text, 0, NULL), *value;
	const char *key;
	int r = json_is_object(json) ? 0 : -EINVAL;

	json_object_foreach(json, key, value) {
		const char *string = json_is_true(value) ? "yes" : json_string_value(value);

		if (string && r == 0)
			r = set(s, key, strlen(key), string, strlen(string));
		if (json_is_string(value))
			OPENSSL_cleanse((char *)json_string_value(value), json_string_length(value));
	}
	json_decref(json);
	return r;
}

int upstream_settings_read(const char *path, struct upstream_settings *ret_settings, char error[CREDENTIALS_ERROR_BYTES])
{
	struct upstream_settings s = { 0 };
	char *text = NULL;
	struct stat st;
	int r = read_whole(path, &text, &st, error);

	if (r < 0)
		return r;
	s.readable = st.st_mode & 077;
	switch (form_of(text)) {
	case FORM_JSON: r = read_json(text, &s); break;
	case FORM_TOKEN: s.has_secrets = true; break;
	default: r = read_lines(text, &s);
	}
	wipe(text);
	if (r < 0) {
		upstream_settings_fini(&s);
		return fail(error, r, r == -EINVAL ? "'%.200s' is no JSON object" : "cannot read '%.200s': out of memory", path);
	}
	*ret_settings = s;
	return 0;
}

void upstream_settings_fini(struct upstream_settings *s)
{
	free(s->cluster);
	free(s->root);
	free(s->ca);
	*s = (struct upstream_settings){ 0 };
}

/* ---- writing ---- */

/* Nothing of the value would be lost between "key = " and the end of the line. */
static bool fits_a_line(const char *value)
{
	size_t len = strlen(value);

	return !strpbrk(value, "\r\n") && !(len && (isspace((unsigned char)value[0]) || isspace((unsigned char)value[len - 1])));
}

static void put_line(FILE *out, const struct upstream_setting *setting)
{
	if (setting->value)
		fprintf(out, "%s = %s\n", setting->key, setting->value);
}

/* Lines of ours are replaced where they stand (the first of a key; more of it go), new ones come at the end. */
static int change_lines(const char *text, const struct upstream_setting *settings, size_t n, char **ret_text)
{
	bool done[SETTINGS_MAX] = { false };
	size_t size = 0;
	FILE *out = n <= SETTINGS_MAX ? open_memstream(ret_text, &size) : NULL;

	if (!out)
		return -ENOMEM;
	while (*text) {
		size_t len = strcspn(text, "\n"), key_len, value_len, i = n;
		const char *key, *value;

		if (split_line(text, len, &key_len, &key, &value, &value_len))
			for (i = 0; i < n && !is_key(key, key_len, settings[i].key); i++)
				;
		if (i < n) {
			if (!done[i])
				put_line(out, &settings[i]);
			done[i] = true;
		} else {
			fprintf(out, "%.*s\n", (int)len, text);
		}
		text += len + (text[len] == '\n');
	}
	for (size_t i = 0; i < n; i++)
		if (!done[i])
			put_line(out, &settings[i]);
	return fclose(out) == 0 ? 0 : -ENOMEM;
}

static int change_json(const char *text, const struct upstream_setting *settings, size_t n, char **ret_text)
{
	json_t *json = text ? json_loads(text, 0, NULL) : json_object();
	int r = json_is_object(json) ? 0 : -EINVAL;

	for (size_t i = 0; i < n && r == 0; i++) {
		const char *key = settings[i].key, *other = other_name(key);

		if (other) {	/* in JSON files the long names are the usual ones */
			(void)json_object_del(json, key);	/* need not be there */
			key = other;
		}
		if (!settings[i].value)
			(void)json_object_del(json, key);
		else if (json_object_set_new(json, key, strcmp(key, "insecure") == 0 ? json_boolean(is_yes(settings[i].value)) :
					     json_string(settings[i].value)) < 0)
			r = -EINVAL;	/* not UTF-8 */
	}
	*ret_text = r == 0 ? json_dumps(json, JSON_INDENT(2)) : NULL;
	if (r == 0 && !*ret_text)
		r = -ENOMEM;
	json_decref(json);
	return r;
}

static int replace(const char *path, const char *text, const struct stat *old)
{
	char *copy = strdup(path), *temporary = NULL, *dir;
	int fd = -1, dir_fd = -1, r = -ENOMEM;

	if (!copy)
		return r;
	dir = dirname(copy);
	if (asprintf(&temporary, "%s/.wormfs-setup.XXXXXX", dir) < 0) {
		temporary = NULL;
		goto out;
	}
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir_fd < 0 ? -1 : mkostemp(temporary, O_CLOEXEC);	/* mode 0600 */
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = 0;
	if (old && (old->st_uid != geteuid() || old->st_gid != getegid()) && fchown(fd, old->st_uid, old->st_gid) < 0)
		r = -errno;
	if (r == 0)
		r = whole_write(fd, text, strlen(text));
	if (r == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0 || fsync(dir_fd) < 0))
		r = -errno;
	if (r < 0)
		(void)unlink(temporary);	/* the first error is the one that is told */
out:
	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	free(temporary);
	free(copy);
	return r;
}

int upstream_settings_write(const char *path, const struct upstream_setting *settings, size_t n, char error[CREDENTIALS_ERROR_BYTES])
{
	char *old = NULL, *text = NULL, *real = realpath(path, NULL);
	enum form form = FORM_NONE;
	bool lines = true;
	struct stat st;
	int r = 0;

	if (real) {
		r = read_whole(real, &old, &st, error);
		if (r < 0)
			goto out;
		form = form_of(old);
	} else if (errno != ENOENT) {
		r = fail(error, -errno, "cannot read '%.200s': %s", path, strerror(errno));
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		lines &= !settings[i].value || fits_a_line(settings[i].value);
	if (form == FORM_LINES && !lines) {
		r = fail(error, -EINVAL, "a value that begins or ends with a space cannot stand in '%.200s', a file of lines: move the file away, and "
			 "the new one will be JSON", path);
		goto out;
	}
	if (form == FORM_JSON || !lines)
		r = change_json(form == FORM_JSON ? old : NULL, settings, n, &text);
	else
		r = change_lines(form == FORM_LINES ? old : "# wormfs: a cluster, and who we are to it (wormctl push setup)\n", settings, n, &text);
	if (r < 0) {
		fail(error, r, r == -EINVAL ? "cannot change '%.200s': it is no JSON object, or a value is no UTF-8" :
		     "cannot change '%.200s': out of memory", path);
		goto out;
	}
	r = replace(real ? real : path, text, real ? &st : NULL);
	if (r < 0)
		fail(error, r, "cannot write '%.200s': %s", path, strerror(-r));
out:
	wipe(old);
	wipe(text);
	free(real);
	return r;
}
