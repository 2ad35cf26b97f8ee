/* Reading what a cluster answers. Facts: REST interface of Qumulo Core as its documentation has it; where that is silent,
 * every answer that is thinkable has a row in the table. */
#include "lockstore/upstream/reply.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lockstore/retention.h"

/* First match wins; low and high are included. class NULL: any. */
static const struct row {
	int low, high;
	const char *class;
	enum upstream_outcome outcome;
} table[] = {
	{ 200, 299, NULL, UPSTREAM_DONE },
	{ 401, 401, NULL, UPSTREAM_UNAUTHORISED },
	{ 404, 404, NULL, UPSTREAM_MISSING },
	{ 408, 408, NULL, UPSTREAM_BUSY },
	{ 412, 412, NULL, UPSTREAM_CHANGED },
	{ 425, 425, NULL, UPSTREAM_BUSY },
	{ 429, 429, NULL, UPSTREAM_BUSY },
	{ 400, 499, "fs_read_only_error", UPSTREAM_IS_LOCKED },
	{ 400, 499, "fs_already_read_only_error", UPSTREAM_IS_LOCKED },
	{ 403, 403, NULL, UPSTREAM_DENIED },
	{ 400, 499, NULL, UPSTREAM_REFUSED },
};

enum upstream_outcome upstream_classify(int status, const char *error_class)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (status >= table[i].low && status <= table[i].high &&
		    (!table[i].class || strcmp(table[i].class, error_class) == 0))
			return table[i].outcome;
	return UPSTREAM_AWAY;
}

const char *upstream_outcome_name(enum upstream_outcome outcome)
{
	static const char *const names[] = {
		[UPSTREAM_DONE] = "done", [UPSTREAM_UNCLEAR] = "unclear", [UPSTREAM_UNAUTHORISED] = "unauthorised",
		[UPSTREAM_DENIED] = "denied", [UPSTREAM_MISSING] = "missing", [UPSTREAM_CHANGED] = "changed",
		[UPSTREAM_IS_LOCKED] = "locked", [UPSTREAM_REFUSED] = "refused", [UPSTREAM_BUSY] = "busy",
		[UPSTREAM_AWAY] = "away",
	};

	return (unsigned)outcome < sizeof(names) / sizeof(names[0]) ? names[outcome] : "unknown";
}

int upstream_time_parse(const char *text, int64_t *ret_s)
{
	struct retention when;
	char whole[RETENTION_TEXT_BYTES];
	size_t len = strcspn(text, "."), digits;

	if (len != strlen("2024-10-08T21:53:46") + (text[len] == '\0') || text[10] != 'T')
		return -EINVAL;
	memcpy(whole, text, len);
	if (text[len] == '.') {
		digits = strspn(text + len + 1, "0123456789");
		if (digits < 1 || digits > 9 || strcmp(text + len + 1 + digits, "Z") != 0)
			return -EINVAL;
		whole[len++] = 'Z';
	}
	whole[len] = '\0';
	if (whole[len - 1] != 'Z' || retention_parse(whole, &when) < 0 || when.kind != RETENTION_DATE)
		return -EINVAL;
	*ret_s = when.seconds;
	return 0;
}

bool upstream_lock_covers(const struct upstream_lock *have, const struct upstream_lock *want)
{
	if (want->hold && !have->hold)
		return false;
	return !want->has_until || (have->has_until && have->until_s >= want->until_s);
}

static bool is_utf8(const char *text)
{
	json_t *json = json_string(text);

	json_decref(json);
	return json != NULL;
}

bool upstream_reply_is_of(const struct upstream_reply *reply, const char *root, const char *path)
{
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	const char *is = reply->path;

	if (!is || reply->num_links > 1)
		return true;
	return (strncmp(is, root, len) == 0 && is[len] == '/' && strcmp(is + len + 1, path) == 0) || !is_utf8(root) || !is_utf8(path);
}

/* What comes from outside and goes to a person: one line, printable, no longer than fits. */
static void put_text(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 1 < size; from++)
		to[n++] = isprint((unsigned char)*from) ? *from : '?';
	to[n] = '\0';
}

static int copy_string(const json_t *object, const char *key, char **ret_text)
{
	const char *text = json_string_value(json_object_get(object, key));

	if (!text)
		return 0;
	*ret_text = strdup(text);
	return *ret_text ? 0 : -ENOMEM;
}

/* What is no lock, or has an end that is no time, is none: then it proves nothing. */
static void read_lock(const json_t *object, struct upstream_reply *reply)
{
	const json_t *lock = json_object_get(object, "lock"), *until, *hold;

	if (!json_is_object(lock))
		return;
	until = json_object_get(lock, "retention_period");
	hold = json_object_get(lock, "legal_hold");
	if (hold && !json_is_boolean(hold) && !json_is_null(hold))
		return;
	if (json_is_string(until)) {
		if (upstream_time_parse(json_string_value(until), &reply->lock.until_s) < 0)
			return;
		reply->lock.has_until = true;
	} else if (until && !json_is_null(until)) {
		return;
	}
	reply->lock.hold = json_is_true(hold);
	reply->has_lock = true;
}

static int read_attributes(const json_t *body, struct upstream_reply *reply)
{
	const json_t *links = json_object_get(body, "num_links");

	read_lock(body, reply);
	if (json_is_integer(links) && json_integer_value(links) > 0 && json_integer_value(links) <= UINT32_MAX)
		reply->num_links = (unsigned)json_integer_value(links);
	if (copy_string(body, "path", &reply->path) < 0 || copy_string(body, "id", &reply->id) < 0 ||
	    copy_string(body, "type", &reply->type) < 0 || copy_string(body, "size", &reply->size) < 0 ||
	    copy_string(body, "modification_time", &reply->modification_time) < 0 ||
	    copy_string(body, "change_time", &reply->change_time) < 0 ||
	    copy_string(body, "data_revision", &reply->data_revision) < 0)
		return -ENOMEM;
	return 0;
}

static int read_privileges(const json_t *body, struct upstream_reply *reply)
{
	const json_t *list = json_object_get(body, "privileges");
	size_t n = json_array_size(list);

	if (copy_string(body, "name", &reply->who) < 0)
		return -ENOMEM;
	reply->privileges = calloc(n + 1, sizeof(*reply->privileges));
	if (!reply->privileges)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(list, i));

		if (!name)
			continue;
		reply->privileges[reply->nprivileges] = strdup(name);
		if (!reply->privileges[reply->nprivileges])
			return -ENOMEM;
		reply->nprivileges++;
	}
	return 0;
}

static int read_entry_list(const json_t *list, struct upstream_reply *reply)
{
	size_t n = json_array_size(list);

	if (n > UPSTREAM_ENTRIES_MAX)
		n = UPSTREAM_ENTRIES_MAX;
	reply->entries = calloc(n + 1, sizeof(*reply->entries));
	if (!reply->entries)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const json_t *object = json_array_get(list, i);
		struct upstream_entry *entry = &reply->entries[reply->nentries++];

		if (copy_string(object, "name", &entry->name) < 0 || copy_string(object, "path", &entry->path) < 0 ||
		    copy_string(object, "id", &entry->id) < 0 || copy_string(object, "type", &entry->type) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Of "paging": {"next": "/v1/files/2/entries/?limit=500&after=abc%3D"} only the cursor is used: where to ask is ours. */
static int read_cursor(const json_t *body, struct upstream_reply *reply)
{
	const char *next = json_string_value(json_object_get(json_object_get(body, "paging"), "next"));
	const char *at = next ? strchr(next, '?') : NULL;

	while (at) {
		at++;
		if (strncmp(at, "after=", 6) == 0) {
			size_t len = strspn(at + 6, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~%=+/");

			if (!len)
				return 0;
			reply->after = strndup(at + 6, len);
			return reply->after ? 0 : -ENOMEM;
		}
		at = strchr(at, '&');
	}
	return 0;
}

/* False: the body has not what was asked for. */
static int read_body(enum upstream_question question, const json_t *body, struct upstream_reply *reply, bool *ret_good)
{
	const char *token;
	int r = 0;

	*ret_good = json_is_object(body);
	if (!*ret_good && question != UPSTREAM_RESOLVE)
		return 0;
	switch (question) {
	case UPSTREAM_LOGIN:
		token = json_string_value(json_object_get(body, "bearer_token"));
		*ret_good = token && *token && strlen(token) <= UPSTREAM_TOKEN_MAX_BYTES;
		if (*ret_good && !(reply->token = strdup(token)))
			r = -ENOMEM;
		break;
	case UPSTREAM_WHO_AM_I:
		r = read_privileges(body, reply);
		break;
	case UPSTREAM_VERSION:
		r = copy_string(body, "revision_id", &reply->version);
		*ret_good = reply->version != NULL;
		break;
	case UPSTREAM_ATTRIBUTES:
		r = read_attributes(body, reply);
		break;
	case UPSTREAM_SET_LOCK:
		r = read_attributes(body, reply);
		*ret_good = reply->has_lock;
		break;
	case UPSTREAM_ENTRIES:
		*ret_good = json_is_array(json_object_get(body, "files"));
		r = read_entry_list(json_object_get(body, "files"), reply);
		if (r == 0)
			r = read_cursor(body, reply);
		break;
	case UPSTREAM_RESOLVE:
		*ret_good = json_is_array(body);
		r = read_entry_list(body, reply);
		break;
	}
	return r;
}

static void read_error(const json_t *body, struct upstream_reply *reply)
{
	const char *class = json_string_value(json_object_get(body, "error_class"));
	const char *text = json_string_value(json_object_get(body, "description"));

	if (class)
		put_text(reply->error_class, sizeof(reply->error_class), class);
	if (text && *text)
		put_text(reply->text, sizeof(reply->text), text);
	else if (reply->status == 401)
		strcpy(reply->text, "the credentials are not accepted");
	else if (reply->status / 100 == 3)
		strcpy(reply->text, "it redirects to another address, which is not followed");
	else
		snprintf(reply->text, sizeof(reply->text), "status %d", reply->status);
}

int upstream_reply_parse(enum upstream_question question, int status, const char *body, size_t len_bytes,
			 struct upstream_reply *ret_reply)
{
	json_t *json = len_bytes <= UPSTREAM_REPLY_MAX_BYTES ? json_loadb(body, len_bytes, 0, NULL) : NULL;
	bool good = false;
	int r = 0;

	*ret_reply = (struct upstream_reply){ .status = status };
	if (status / 100 != 2) {
		read_error(json, ret_reply);
		ret_reply->outcome = upstream_classify(status, ret_reply->error_class);
		ret_reply->open = ret_reply->outcome == UPSTREAM_AWAY && status / 100 != 3;
	} else {
		r = read_body(question, json, ret_reply, &good);
		ret_reply->outcome = good ? UPSTREAM_DONE : UPSTREAM_UNCLEAR;
		if (!good) {
			ret_reply->open = true;
			snprintf(ret_reply->text, sizeof(ret_reply->text), "status %d, but %s", status,
				 len_bytes > UPSTREAM_REPLY_MAX_BYTES ? "a body that is too long" :
				 json ? "the body lacks what was asked for" : "the body is not JSON");
		}
	}
	if (json && question == UPSTREAM_LOGIN) {
		const char *token = json_string_value(json_object_get(json, "bearer_token"));

		if (token)
			OPENSSL_cleanse((char *)token, strlen(token));	/* ours alone: json is freed now */
	}
	json_decref(json);
	return r;
}

void upstream_reply_fini(struct upstream_reply *reply)
{
	if (reply->token)
		OPENSSL_cleanse(reply->token, strlen(reply->token));
	free(reply->token);
	free(reply->path);
	free(reply->id);
	free(reply->type);
	free(reply->size);
	free(reply->modification_time);
	free(reply->change_time);
	free(reply->data_revision);
	free(reply->version);
	free(reply->who);
	for (size_t i = 0; i < reply->nprivileges; i++)
		free(reply->privileges[i]);
	free(reply->privileges);
	for (size_t i = 0; i < reply->nentries; i++) {
		free(reply->entries[i].name);
		free(reply->entries[i].path);
		free(reply->entries[i].id);
		free(reply->entries[i].type);
	}
	free(reply->entries);
	free(reply->after);
	*reply = (struct upstream_reply){ .status = 0 };
}

bool upstream_reply_has_privilege(const struct upstream_reply *reply, const char *name)
{
	for (size_t i = 0; i < reply->nprivileges; i++)
		if (strcmp(reply->privileges[i], name) == 0)
			return true;
	return false;
}

/* ---- headers ---- */

static bool header_is(const char *line, size_t len, const char *name, char *value, size_t value_size)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return false;
	line += n + 1;
	len -= n + 1;
	while (len && isspace((unsigned char)*line))
		line++, len--;
	while (len && isspace((unsigned char)line[len - 1]))
		len--;
	if (!len || len >= value_size || memchr(line, '\0', len))
		return false;
	memcpy(value, line, len);
	value[len] = '\0';
	return true;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT". Source: RFC 9110 section 5.6.7; the older forms are not read. */
static int64_t http_date(const char *text)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char month[4], zone[4];
	struct tm tm = { .tm_year = 0 };
	const char *at;

	if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d %3s", &tm.tm_mday, month, &tm.tm_year, &tm.tm_hour,
		   &tm.tm_min, &tm.tm_sec, zone) != 7 || strcmp(zone, "GMT") != 0 || strlen(month) != 3)
		return 0;
	at = strstr(months, month);
	if (!at || (at - months) % 3 != 0 || tm.tm_year < 1970)
		return 0;
	tm.tm_mon = (int)(at - months) / 3;
	tm.tm_year -= 1900;
	return timegm(&tm);
}

/* Seconds only; a date there counts as not said. */
static unsigned retry_after(const char *text)
{
	unsigned n = 0;

	for (; isdigit((unsigned char)*text); text++)
		if (n <= UPSTREAM_RETRY_AFTER_MAX_S)
			n = n * 10 + (unsigned)(*text - '0');
	if (*text)
		return 0;
	return n > UPSTREAM_RETRY_AFTER_MAX_S ? UPSTREAM_RETRY_AFTER_MAX_S : n;
}

void upstream_reply_header(struct upstream_reply *reply, const char *line, size_t len_bytes)
{
	char value[UPSTREAM_ETAG_BYTES];

	if (header_is(line, len_bytes, "ETag", value, sizeof(value)))
		strcpy(reply->etag, value);
	else if (header_is(line, len_bytes, "Retry-After", value, sizeof(value)))
		reply->retry_after_s = retry_after(value);
	else if (header_is(line, len_bytes, "Date", value, sizeof(value)))
		reply->date_s = http_date(value);
}
