/* One table of verbs and one reader a type. An argument that no row names is not looked at: a newer client may send it. */
#include "fs/control_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/case_name.h"
#include "lockstore/control.h"

#define ARGUMENTS_MAX 5

enum argument_type { ARG_NONE, ARG_PATH, ARG_PATHS, ARG_CASE, ARG_REASON, ARG_TEXT, ARG_UNTIL, ARG_BOOL, ARG_ID, ARG_COUNT, ARG_UID, ARG_KINDS };

struct argument {
	const char *name;
	enum argument_type type;
	size_t offset;			/* of its field in struct control_request */
	bool optional;
	size_t given_offset;		/* of the bool that says so; 0: none */
};

#define FIELD(field) offsetof(struct control_request, field)
#define PATH { "path", ARG_PATH, FIELD(path), false, 0 }
#define CASE { "case", ARG_CASE, FIELD(case_name), false, 0 }
#define REASON { "reason", ARG_REASON, FIELD(reason), false, 0 }
#define UNTIL { "until", ARG_UNTIL, FIELD(until), false, 0 }
#define ORDER { "order", ARG_ID, FIELD(order), false, 0 }
#define FLAG(name) { #name, ARG_BOOL, FIELD(name), true, 0 }
#define COUNT(name) { #name, ARG_COUNT, FIELD(name), true, 0 }

static const struct verb {
	const char *name;
	enum control_who who;
	bool has_file;
	struct argument arguments[ARGUMENTS_MAX];
} verbs[CONTROL_VERBS] = {
	[CONTROL_MOUNT] = { "mount", WHO_ANYBODY, false, { { 0 } } },
	[CONTROL_EXPLAIN] = { "explain", WHO_ANYBODY, true, { PATH } },
	[CONTROL_COMMIT] = { "commit", WHO_PRIVILEGED, true, { PATH } },
	[CONTROL_APPEND] = { "append", WHO_PRIVILEGED, true, { PATH } },
	[CONTROL_EXTEND] = { "extend", WHO_PRIVILEGED, true, { PATH, UNTIL } },
	[CONTROL_CLOCK_ACCEPT] = { "clock_accept", WHO_PRIVILEGED, false, { REASON } },
	[CONTROL_SYNC] = { "sync", WHO_ANYBODY, false, { FLAG(closing) } },
	[CONTROL_LOWER] = { "lower", WHO_PRIVILEGED, false, { { 0 } } },
	[CONTROL_REINDEX] = { "reindex", WHO_PRIVILEGED, false, { { 0 } } },
	[CONTROL_POLICY] = { "policy", WHO_PRIVILEGED, false, { COUNT(from) } },
	[CONTROL_POLICY_TEST] = { "policy-test", WHO_PRIVILEGED, false,	/* its path need not exist */
		{ PATH, { "uid", ARG_UID, FIELD(uid), true, FIELD(has_uid) }, { "gid", ARG_UID, FIELD(gid), true, FIELD(has_gid) },
		  { "size", ARG_COUNT, FIELD(size_bytes), true, FIELD(has_size) } } },
	[CONTROL_POLICY_RELOAD] = { "policy-reload", WHO_PRIVILEGED, false, { { 0 } } },
	[CONTROL_VERIFIED] = { "verified", WHO_PRIVILEGED, false,
		{ { "files", ARG_COUNT, FIELD(files), false, 0 }, COUNT(bytes), COUNT(errors), { "kinds", ARG_KINDS, FIELD(kinds), true, 0 },
		  { "below", ARG_TEXT, FIELD(below), true, 0 } } },
	[CONTROL_HOLD] = { "hold", WHO_HOLDS, true, { PATH, CASE } },
	[CONTROL_RELEASE] = { "release", WHO_HOLDS, true, { PATH, CASE } },
	[CONTROL_ORDER_NEW] = { "order-new", WHO_HOLDS, false, { CASE, { "reason", ARG_TEXT, FIELD(reason), true, 0 }, FLAG(future) } },
	[CONTROL_ORDER_ADD] = { "order-add", WHO_HOLDS, false,
		{ ORDER, { "paths", ARG_PATHS, FIELD(paths), false, 0 }, FLAG(tree), FLAG(release) } },
	[CONTROL_ORDER_RUN] = { "order-run", WHO_HOLDS, false, { ORDER, FLAG(release) } },
	[CONTROL_ORDER_DROP] = { "order-drop", WHO_HOLDS, false, { ORDER } },
	[CONTROL_DELETE] = { "delete", WHO_PRIVILEGED, true, { PATH, REASON } },
	[CONTROL_SHORTEN] = { "shorten", WHO_PRIVILEGED, true, { PATH, UNTIL, REASON } },
	[CONTROL_EXPIRE] = { "expire", WHO_PRIVILEGED, true, { PATH } },
	[CONTROL_REQUESTS] = { "requests", WHO_APPROVES, false, { { 0 } } },
	[CONTROL_PUSH_RETRY] = { "push-retry", WHO_PRIVILEGED, false, { { "path", ARG_PATH, FIELD(path), true, 0 }, FLAG(again) } },
	[CONTROL_QUOTA] = { "quota", WHO_PRIVILEGED, false, { COUNT(from) } },
	[CONTROL_QUOTA_RECOUNT] = { "quota-recount", WHO_PRIVILEGED, false, { { 0 } } },
	[CONTROL_APPROVE] = { "approve", WHO_APPROVES, false, { { "id", ARG_ID, FIELD(id), false, 0 } } },
};

static const char *const type_names[] = {
	[ARG_NONE] = "", [ARG_PATH] = "a path below the share", [ARG_PATHS] = "a list of paths below the share",
	[ARG_CASE] = "a name for a hold (1-128 bytes of UTF-8, no '/', no control character)",
	[ARG_REASON] = "a text of 1 to 1024 bytes", [ARG_TEXT] = "a text", [ARG_UNTIL] = "a date or period", [ARG_BOOL] = "true or false",
	[ARG_ID] = "a whole number", [ARG_COUNT] = "a whole number from 0 on", [ARG_UID] = "the number of a user or group",
	[ARG_KINDS] = "an object of whole numbers from 0 on",
};

const char *control_verb_name(enum control_verb verb)
{
	return verbs[verb].name;
}

enum control_who control_verb_who(enum control_verb verb)
{
	return verbs[verb].who;
}

bool control_verb_has_file(enum control_verb verb)
{
	return verbs[verb].has_file;
}

int control_request_open(const char *line, size_t len_bytes, struct control_request *ret_request, const char **ret_unknown)
{
	const char *name;

	*ret_request = (struct control_request){ .closing = true };
	ret_request->json = json_loadb(line, len_bytes, JSON_REJECT_DUPLICATES, NULL);
	name = json_string_value(json_object_get(ret_request->json, "verb"));
	if (!name)
		return -EINVAL;
	for (int verb = 0; verb < CONTROL_VERBS; verb++) {
		if (strcmp(verbs[verb].name, name) != 0)
			continue;
		ret_request->verb = verb;
		return 0;
	}
	*ret_unknown = name;
	return -ENOSYS;
}

/* ---- one reader a type: 0, -EINVAL, -ENOMEM ---- */

static int read_path(const json_t *value, char **ret_path)
{
	return json_is_string(value) ? control_path_decode(json_string_value(value), ret_path) : -EINVAL;
}

static int read_paths(struct control_request *request, const json_t *value)
{
	size_t n = json_array_size(value);
	int r = 0;

	if (!json_is_array(value))
		return -EINVAL;
	request->paths = calloc(n + 1, sizeof(*request->paths));
	if (!request->paths)
		return -ENOMEM;
	for (; r == 0 && request->npaths < n; request->npaths += r == 0)
		r = read_path(json_array_get(value, request->npaths), &request->paths[request->npaths]);
	return r;
}

static int read_text(enum argument_type type, const json_t *value, const char **ret_text)
{
	const char *text = json_string_value(value);

	if (!text || (type == ARG_REASON && (!*text || strlen(text) > CONTROL_REASON_MAX_BYTES)) ||
	    (type == ARG_CASE && !case_name_is_valid(text)))
		return -EINVAL;
	*ret_text = text;
	return 0;
}

static int read_number(const json_t *value, int64_t min, int64_t max, int64_t *ret_number)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < min || n > max)
		return -EINVAL;
	*ret_number = n;
	return 0;
}

static int read_kinds(struct control_request *request, const json_t *value)
{
	int64_t n;

	if (!json_is_object(value))
		return -EINVAL;
	for (int kind = 0; kind < VERIFY_KINDS; kind++) {
		const json_t *count = json_object_get(value, verify_kind_name(kind));

		if (count && read_number(count, 0, INT64_MAX, &n) < 0)
			return -EINVAL;
		request->kinds[kind] = count ? n : 0;
	}
	return 0;
}

static int read_argument(struct control_request *request, const struct argument *argument, const json_t *value)
{
	void *field = (char *)request + argument->offset;
	int64_t n;
	int r = 0;

	switch (argument->type) {
	case ARG_NONE:
		return -EINVAL;
	case ARG_PATH:
		return read_path(value, field);
	case ARG_PATHS:
		return read_paths(request, value);
	case ARG_CASE:
	case ARG_REASON:
	case ARG_TEXT:
		return read_text(argument->type, value, field);
	case ARG_UNTIL:
		return json_is_string(value) ? retention_parse(json_string_value(value), field) : -EINVAL;
	case ARG_BOOL:
		if (!json_is_boolean(value))
			return -EINVAL;
		*(bool *)field = json_is_true(value);
		return 0;
	case ARG_ID:
		return read_number(value, INT64_MIN, INT64_MAX, field);
	case ARG_COUNT:
		r = read_number(value, 0, INT64_MAX, &n);
		if (r == 0)
			*(uint64_t *)field = n;
		return r;
	case ARG_UID:
		r = read_number(value, 0, UINT32_MAX - 1, &n);	/* (uid_t)-1 is nobody */
		if (r == 0)
			*(uint32_t *)field = n;
		return r;
	case ARG_KINDS:
		return read_kinds(request, value);
	}
	return -EINVAL;
}

int control_request_check(struct control_request *request, char error[CONTROL_ERROR_BYTES])
{
	const struct argument *argument = verbs[request->verb].arguments;
	const json_t *value;
	int r;

	for (size_t i = 0; i < ARGUMENTS_MAX && argument->type != ARG_NONE; i++, argument++) {
		value = json_object_get(request->json, argument->name);
		if (!value && argument->optional)
			continue;
		r = value ? read_argument(request, argument, value) : -EINVAL;
		if (r < 0) {
			snprintf(error, CONTROL_ERROR_BYTES, "\"%s\" is %s%s", argument->name, value ? "not " : "missing: ",
				 type_names[argument->type]);
			return r;
		}
		if (argument->given_offset)
			*(bool *)((char *)request + argument->given_offset) = true;
	}
	return 0;
}

void control_request_close(struct control_request *request)
{
	for (size_t i = 0; i < request->npaths; i++)
		free(request->paths[i]);
	free(request->paths);
	free(request->path);
	json_decref(request->json);
	*request = (struct control_request){ 0 };
}
