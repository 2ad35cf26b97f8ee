/* Credentials. Every buffer that a secret was in is wiped, also jansson's, whose only copy is ours until json_decref(). */
#include "lockstore/upstream/credentials.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/upstream/reply.h"

struct secrets {
	char *token, *user, *password;
};

struct upstream_credentials {
	char *path;		/* NULL: environment */
	struct secrets secrets;
	struct stat st;		/* of the file when it was read */
};

/* A limit of 1 byte also counts for a core that goes to a pipe, where 0 does not. Not by PR_SET_DUMPABLE alone: a thread that takes
 * a user's identity sets it back to fs.suid_dumpable. Source: linux fs/coredump.c do_coredump, kernel/cred.c commit_creds. The
 * hard limit stays, so that prlimit(1) can allow a core on purpose. */
void upstream_credentials_forbid_core(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max > 0) {
		limit.rlim_cur = 1;
		if (setrlimit(RLIMIT_CORE, &limit) == 0)
			return;
	}
	(void)prctl(PR_SET_DUMPABLE, 0);	/* fails for no value but a wrong one */
}

static void wipe(char *secret)
{
	if (secret)
		OPENSSL_cleanse(secret, strlen(secret));
	free(secret);
}

static void secrets_fini(struct secrets *s)
{
	wipe(s->token);
	wipe(s->user);
	wipe(s->password);
	*s = (struct secrets){ .token = NULL };
}

/* A header value and a JSON string: printable, and no spaces in a token. */
static bool is_token(const char *text)
{
	if (!*text || strlen(text) > UPSTREAM_TOKEN_MAX_BYTES)
		return false;
	for (; *text; text++)
		if (!isgraph((unsigned char)*text))
			return false;
	return true;
}

static int secrets_check(const struct secrets *s)
{
	if (s->token)
		return is_token(s->token) ? 0 : -EINVAL;
	return s->user && *s->user && s->password ? 0 : -EINVAL;
}

static int take(const char *from, size_t len, char **ret_text)
{
	wipe(*ret_text);
	*ret_text = strndup(from, len);
	return *ret_text ? 0 : -ENOMEM;
}

static int take_json(json_t *json, const char *key, char **ret_text)
{
	const char *text = json_string_value(json_object_get(json, key));
	int r;

	if (!text)
		return 0;
	r = take(text, strlen(text), ret_text);
	OPENSSL_cleanse((char *)text, strlen(text));
	return r;
}

static int parse_json(const char *text, size_t len, struct secrets *ret)
{
	json_t *json = json_loadb(text, len, 0, NULL);
	int r;

	if (!json)
		return -EINVAL;
	r = take_json(json, "bearer_token", &ret->token);
	if (r == 0 && !ret->token) {
		r = take_json(json, "username", &ret->user);
		if (r == 0)
			r = take_json(json, "password", &ret->password);
	}
	json_decref(json);
	return r;
}

/* "key = value" lines. Spaces around the value go, since nobody sees them; a value may contain anything else. */
static int parse_lines(const char *text, struct secrets *ret)
{
	while (*text) {
		size_t len = strcspn(text, "\n"), key, end = len;
		const char *line = text, *value;
		char **to;

		text += len + (text[len] == '\n');
		while (end && isspace((unsigned char)line[end - 1]))
			end--;
		while (end && isspace((unsigned char)*line))
			line++, end--;
		if (!end || *line == '#' || *line == '[')	/* a section of an INI file says nothing here */
			continue;
		key = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
		value = line + key;
		while (value < line + end && (*value == ' ' || *value == '\t'))
			value++;
		if (value == line + end || *value != '=')
			return -EINVAL;
		for (value++; value < line + end && (*value == ' ' || *value == '\t'); value++)
			;
		if ((key == 5 && strncasecmp(line, "token", key) == 0) ||
		    (key == 12 && strncasecmp(line, "bearer_token", key) == 0))
			to = &ret->token;
		else if ((key == 4 && strncasecmp(line, "user", key) == 0) ||
			 (key == 8 && strncasecmp(line, "username", key) == 0))
			to = &ret->user;
		else if (key == 8 && strncasecmp(line, "password", key) == 0)
			to = &ret->password;
		else
			continue;	/* what else a settings file has is not ours */
		if (take(value, (size_t)(line + end - value), to) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int parse(char *text, size_t len, struct secrets *ret)
{
	const char *at = text;
	size_t n;

	if (memchr(text, '\0', len))
		return -EINVAL;
	while (isspace((unsigned char)*at))
		at++;
	if (*at == '{')
		return parse_json(text, len, ret);
	n = strcspn(at, " \t\r\n");
	if (n && strspn(at + n, " \t\r\n") == strlen(at + n) && (!memchr(at, '=', n) || strncmp(at, "access-v1:", 10) == 0))
		return take(at, n, &ret->token);
	return parse_lines(text, ret);
}

static int read_file(const char *path, struct stat *ret_st, struct secrets *ret, char error[CREDENTIALS_ERROR_BYTES])
{
	struct secrets secrets = { .token = NULL };
	char *text = NULL;
	ssize_t n = 0, more;
	int fd, r = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, ret_st) < 0) {
		r = -errno;
		snprintf(error, CREDENTIALS_ERROR_BYTES, "cannot read the credentials '%.200s': %s", path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(ret_st->st_mode) || ret_st->st_size > CREDENTIALS_FILE_MAX_BYTES) {
		r = -EINVAL;
		snprintf(error, CREDENTIALS_ERROR_BYTES, "the credentials '%.200s' are not a small regular file", path);
		goto out;
	}
	if ((ret_st->st_mode & 077) || (ret_st->st_uid != geteuid() && ret_st->st_uid != 0)) {
		r = -EPERM;
		snprintf(error, CREDENTIALS_ERROR_BYTES, "the credentials '%.200s' are not ours alone: chmod 600, and owned by who runs wormfs",
			 path);
		goto out;
	}
	text = malloc(CREDENTIALS_FILE_MAX_BYTES + 1);
	if (!text) {
		r = -ENOMEM;
		goto out;
	}
	while ((more = read(fd, text + n, (size_t)(CREDENTIALS_FILE_MAX_BYTES - n))) > 0)
		n += more;
	if (more < 0) {
		r = -errno;
		snprintf(error, CREDENTIALS_ERROR_BYTES, "cannot read the credentials '%.200s': %s", path, strerror(errno));
		goto out;
	}
	text[n] = '\0';
	r = parse(text, (size_t)n, &secrets);
	if (r == 0)
		r = secrets_check(&secrets);
	if (r == -EINVAL)
		snprintf(error, CREDENTIALS_ERROR_BYTES, "the credentials '%.200s' hold neither a token nor user and password", path);
	if (r == 0) {
		secrets_fini(ret);
		*ret = secrets;
		secrets = (struct secrets){ .token = NULL };
	}
out:
	secrets_fini(&secrets);
	if (text)
		OPENSSL_cleanse(text, CREDENTIALS_FILE_MAX_BYTES + 1);
	free(text);
	if (fd >= 0)
		close(fd);
	return r;
}

/* Taken out of the environment as well: what we start, and who looks at /proc later, does not see it. The kernel's copy is the
 * memory that getenv() points into. */
static int take_env(const char *name, char **ret_text)
{
	char *value = getenv(name);

	if (!value || !*value)
		return 0;
	*ret_text = strdup(value);
	if (!*ret_text)
		return -ENOMEM;
	OPENSSL_cleanse(value, strlen(value));
	unsetenv(name);
	return 0;
}

/* The daemon leaves its directory. Links stay links: a secret that is rotated by a link is found again. */
static char *absolute(const char *path)
{
	char *cwd = *path == '/' ? NULL : getcwd(NULL, 0), *whole = NULL;

	if (*path == '/')
		return strdup(path);
	if (cwd && asprintf(&whole, "%s/%s", cwd, path) < 0)
		whole = NULL;
	free(cwd);
	return whole;
}

static int read_environment(struct secrets *ret, char error[CREDENTIALS_ERROR_BYTES])
{
	if (take_env(CREDENTIALS_ENV_TOKEN, &ret->token) < 0 || take_env(CREDENTIALS_ENV_USER, &ret->user) < 0 ||
	    take_env(CREDENTIALS_ENV_PASSWORD, &ret->password) < 0)
		return -ENOMEM;
	if (!ret->token && !ret->user && !ret->password) {
		snprintf(error, CREDENTIALS_ERROR_BYTES, "no credentials: name a file, or set " CREDENTIALS_ENV_TOKEN ", or "
			 CREDENTIALS_ENV_USER " and " CREDENTIALS_ENV_PASSWORD);
		return -ENOENT;
	}
	if (secrets_check(ret) < 0) {
		snprintf(error, CREDENTIALS_ERROR_BYTES, "the environment holds neither a whole token nor user and password");
		return -EINVAL;
	}
	return 0;
}

int upstream_credentials_open(const char *path, struct upstream_credentials **ret_credentials,
			      char ret_error[CREDENTIALS_ERROR_BYTES])
{
	struct upstream_credentials *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	upstream_credentials_forbid_core();
	snprintf(ret_error, CREDENTIALS_ERROR_BYTES, "out of memory");
	if (!c)
		return r;
	if (!path)
		r = read_environment(&c->secrets, ret_error);
	else if ((c->path = absolute(path)))
		r = read_file(c->path, &c->st, &c->secrets, ret_error);
	if (r < 0) {
		upstream_credentials_close(c);
		return r;
	}
	*ret_credentials = c;
	return 0;
}

int upstream_credentials_make(const char *token, const char *user, const char *password, struct upstream_credentials **ret_credentials,
			      char ret_error[CREDENTIALS_ERROR_BYTES])
{
	struct upstream_credentials *c = calloc(1, sizeof(*c));
	int r = c ? 0 : -ENOMEM;

	upstream_credentials_forbid_core();
	if (r == 0 && token)
		r = take(token, strlen(token), &c->secrets.token);
	if (r == 0 && !token && user)
		r = take(user, strlen(user), &c->secrets.user);
	if (r == 0 && !token && password)
		r = take(password, strlen(password), &c->secrets.password);
	if (r == 0)
		r = secrets_check(&c->secrets);
	if (r < 0) {
		snprintf(ret_error, CREDENTIALS_ERROR_BYTES, "%s", r == -ENOMEM ? "out of memory" : token ? "a token has no spaces and no other "
			 "characters than those one can see" : "a user and a password are needed");
		upstream_credentials_close(c);
		return r;
	}
	*ret_credentials = c;
	return 0;
}

void upstream_credentials_close(struct upstream_credentials *c)
{
	if (!c)
		return;
	secrets_fini(&c->secrets);
	free(c->path);
	free(c);
}

int upstream_credentials_reload(struct upstream_credentials *c, char ret_error[CREDENTIALS_ERROR_BYTES])
{
	struct stat st;
	int r;

	if (!c->path)
		return 0;
	if (stat(c->path, &st) < 0) {
		r = -errno;
		snprintf(ret_error, CREDENTIALS_ERROR_BYTES, "cannot read the credentials '%.200s': %s", c->path, strerror(errno));
		return r;
	}
	if (st.st_ino == c->st.st_ino && st.st_dev == c->st.st_dev && st.st_size == c->st.st_size &&
	    st.st_mtim.tv_sec == c->st.st_mtim.tv_sec && st.st_mtim.tv_nsec == c->st.st_mtim.tv_nsec &&
	    st.st_ctim.tv_sec == c->st.st_ctim.tv_sec && st.st_ctim.tv_nsec == c->st.st_ctim.tv_nsec)
		return 0;
	r = read_file(c->path, &c->st, &c->secrets, ret_error);
	return r < 0 ? r : 1;
}

const char *upstream_credentials_token(const struct upstream_credentials *c)
{
	return c->secrets.token;
}

const char *upstream_credentials_user(const struct upstream_credentials *c)
{
	return c->secrets.user;
}

const char *upstream_credentials_password(const struct upstream_credentials *c)
{
	return c->secrets.password;
}

const char *upstream_credentials_path(const struct upstream_credentials *c)
{
	return c->path;
}
