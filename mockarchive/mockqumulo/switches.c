/* The table of switches. */
#include "mockarchive/mockqumulo/switches.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	enum { ANSWER, CHOICE, NUMBER, TEXT } kind;
	const char *values, *initial, *help;
} table[SW_COUNT] = {
	[SW_SHORTEN] = { "shorten", ANSWER, NULL, "400:fs_read_only_error", "an end before the present one (ok: nothing changes)" },
	[SW_SAME_END] = { "same-end", ANSWER, NULL, "ok", "the end that is set already" },
	[SW_PAST_END] = { "past-end", ANSWER, NULL, "400:decode_error", "an end that has passed (ok: it is set)" },
	[SW_NULL_VALUE] = { "null-value", ANSWER, NULL, "400:decode_error", "null for retention_period or legal_hold (ok: as if it were not there)" },
	[SW_NO_KEY] = { "no-key", ANSWER, NULL, "ok", "a body of {}" },
	[SW_UNKNOWN_KEY] = { "unknown-key", ANSWER, NULL, "400:decode_error", "a key that the documents do not have (ok: passed over)" },
	[SW_OFFSET] = { "offset", ANSWER, NULL, "400:decode_error", "an end with +02:00 for Z" },
	[SW_WRONG_TYPE] = { "wrong-type", ANSWER, NULL, "400:fs_invalid_file_type_error", "a lock on what is no regular file" },
	[SW_NO_PRIVILEGE] = { "no-privilege", ANSWER, NULL, "403:http_unauthorized_error", "a lock without PRIVILEGE_FS_FILE_LOCK_WRITE" },
	[SW_NO_ACL] = { "no-acl", ANSWER, NULL, "403:fs_access_denied_error", "a file whose ACL does not allow it (see acl)" },
	[SW_READ_ONLY] = { "read-only", ANSWER, NULL, "403:fs_read_only_error", "a change of a locked file, or of its last name" },
	[SW_RENAME_LOCKED] = { "rename-locked", ANSWER, NULL, "ok", "renaming a locked file" },
	[SW_LINK_LOCKED] = { "link-locked", ANSWER, NULL, "ok", "a new hard link to a locked file" },
	[SW_NO_TOKEN] = { "no-token", ANSWER, NULL, "401:http_unauthorized_error", "no, a wrong or an expired token" },
	[SW_PRECONDITION] = { "precondition", ANSWER, NULL, "412:rest_precondition_failed_error", "If-Match does not match" },
	[SW_RECURSIVE_OFF] = { "recursive-off", ANSWER, NULL, "400:rest_invalid_request_error", "recursive notification while notify=disabled-error" },
	[SW_LOCK_UNASKED] = { "lock-unasked", CHOICE, "absent|null", "absent", "the lock in attributes where it was not asked for" },
	[SW_EXPIRED] = { "expired", CHOICE, "shown|null", "shown", "retention_period after its end" },
	[SW_DATE] = { "date", CHOICE, "yes|no", "yes", "a Date header in replies" },
	[SW_ETAG] = { "etag", CHOICE, "attributes|data|read|none", "attributes", "what changes the ETag: any change, only data, even reading; or there is none" },
	[SW_ETAG_QUOTES] = { "etag-quotes", CHOICE, "yes|no", "yes", "quotes around it" },
	[SW_PLUS] = { "plus", CHOICE, "literal|space", "literal", "a + in the reference of a file" },
	[SW_UNAUTHORIZED_BODY] = { "unauthorized-body", CHOICE, "json|empty|html", "json", "the body of a 401" },
	[SW_LAST_PAGE] = { "last-page", CHOICE, "empty|absent|null", "empty", "paging.next of the last page of entries" },
	[SW_ROLE_CHANGE] = { "role-change", CHOICE, "login|now", "login", "when a change of privilege counts for who is logged in" },
	[SW_NOTIFY] = { "notify", CHOICE, "enabled|disabled-error|disabled-ignore", "enabled", "recursive change notification" },
	[SW_DATA_ADMIN] = { "data-admin", CHOICE, "yes|no", "yes", "the user may be notified of a whole tree" },
	[SW_PRIVILEGE] = { "privilege", CHOICE, "yes|no", "yes", "the user has PRIVILEGE_FS_FILE_LOCK_WRITE" },
	[SW_ACL] = { "acl", CHOICE, "write|read|none", "write", "the files' ACL lets the user lock; only see the lock; neither" },
	[SW_INVENT] = { "invent", CHOICE, "yes|no", "no", "a file that is named and not there is made, empty" },
	[SW_LATENCY_MS] = { "latency-ms", NUMBER, "milliseconds", "0", "from request to reply, many at a time" },
	[SW_KEEPALIVE_MS] = { "keepalive-ms", NUMBER, "milliseconds", "10000", "between two comments of a silent notification" },
	[SW_WATCH_BUFFER] = { "watch-buffer", NUMBER, "bytes", "1048576", "a watcher that is further behind gets an error" },
	[SW_PAGE_MAX] = { "page-max", NUMBER, "entries", "1000", "the largest page of entries" },
	[SW_SESSION_S] = { "session-s", NUMBER, "seconds", "36000", "until a login expires, by the mock's clock" },
	[SW_VERSION] = { "version", TEXT, "text", "Qumulo Core 7.2.3.1", "revision_id of /v1/version" },
};

static int set_answer(struct switches *s, enum switch_id id, const char *value)
{
	char *end;
	long status;

	if (strcmp(value, "ok") == 0) {
		strcpy(s->text[id], value);
		s->status[id] = 0;
		s->class_at[id] = strlen(value);
		return 0;
	}
	status = strtol(value, &end, 10);
	if (end == value || status < 400 || status > 599 || (*end && *end != ':') || strlen(value) >= SWITCH_TEXT_BYTES)
		return -EINVAL;
	strcpy(s->text[id], value);
	s->status[id] = status;
	s->class_at[id] = end - value + (*end == ':');
	return 0;
}

static int set_choice(struct switches *s, enum switch_id id, const char *value)
{
	const char *at = table[id].values;

	for (unsigned i = 0; *at; i++) {
		const char *end = strchrnul(at, '|');

		if (strlen(value) == (size_t)(end - at) && strncmp(at, value, end - at) == 0) {
			strcpy(s->text[id], value);
			s->status[id] = i;
			return 0;
		}
		at = *end ? end + 1 : end;
	}
	return -EINVAL;
}

static int set_number(struct switches *s, enum switch_id id, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n > INT_MAX || strlen(value) >= SWITCH_TEXT_BYTES)
		return -EINVAL;
	strcpy(s->text[id], value);
	s->status[id] = n;
	return 0;
}

static int set(struct switches *s, enum switch_id id, const char *value)
{
	switch (table[id].kind) {
	case ANSWER:
		return set_answer(s, id, value);
	case CHOICE:
		return set_choice(s, id, value);
	case NUMBER:
		return set_number(s, id, value);
	case TEXT:
		if (strlen(value) >= SWITCH_TEXT_BYTES)
			return -EINVAL;
		strcpy(s->text[id], value);
		return 0;
	}
	return -EINVAL;
}

void switches_init(struct switches *s)
{
	for (unsigned i = 0; i < SW_COUNT; i++)
		(void)set(s, i, table[i].initial);	/* values of our own; the unit test sets each once */
}

int switches_set(struct switches *s, const char *name, const char *value, const char **ret_expected)
{
	for (unsigned i = 0; i < SW_COUNT; i++) {
		if (strcmp(table[i].name, name) == 0) {
			*ret_expected = table[i].kind == ANSWER ? "ok, STATUS or STATUS:ERROR_CLASS" : table[i].values;
			return set(s, i, value);
		}
	}
	return -ENOENT;
}

json_t *switches_json(const struct switches *s)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < SW_COUNT; i++)
		json_object_set_new(all, table[i].name, json_string(s->text[i]));
	return all;
}

void switches_help(FILE *to)
{
	for (unsigned i = 0; i < SW_COUNT; i++) {
		const char *values = table[i].kind == ANSWER ? "ok|STATUS[:CLASS]" : table[i].values;

		fprintf(to, "  %s=%s (%s)\n      %s\n", table[i].name, table[i].initial, values, table[i].help);
	}
}
