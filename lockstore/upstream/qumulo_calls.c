/* What is asked: path, body and method of each call. The body has exactly the keys that are wanted, never a null and never none. */
#include "lockstore/upstream/qumulo_private.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/retention.h"

void qumulo_call_fini(struct qumulo_call *call)
{
	if (call->body)
		OPENSSL_cleanse(call->body, strlen(call->body));	/* a login's has the password */
	free(call->body);
	free(call->path);
	call->body = call->path = NULL;
}

static void ask(struct qumulo_call *call, enum upstream_question question, const char *method)
{
	call->question = question;
	call->method = method;
	call->path = call->body = NULL;
	call->if_match[0] = '\0';
	call->replayed = false;
	call->next = NULL;
}

int qumulo_ask_login(struct qumulo_call *call, const char *user, const char *password)
{
	json_t *json = json_pack("{s:s, s:s}", "username", user, "password", password);

	ask(call, UPSTREAM_LOGIN, "POST");
	call->path = strdup("/v1/session/login");
	call->body = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (json)
		OPENSSL_cleanse((char *)json_string_value(json_object_get(json, "password")), strlen(password));
	json_decref(json);
	if (call->path && call->body)
		return 0;
	qumulo_call_fini(call);
	return -ENOMEM;
}

int qumulo_set_lock(struct qumulo *q, struct qumulo_call *call, const char *ref, const struct upstream_lock *set,
		    bool release, const char *if_match)
{
	char until[RETENTION_TEXT_BYTES];
	int n;

	if ((!set->has_until && !set->hold && !release) || (set->hold && release))
		return -EINVAL;
	ask(call, UPSTREAM_SET_LOCK, "PATCH");
	if (set->has_until)
		retention_format_until(set->until_s, until);
	n = asprintf(&call->body, "{%s%s%s%s%s}", set->has_until ? "\"retention_period\": \"" : "", set->has_until ? until : "",
		     set->has_until ? "\"" : "", set->has_until && (set->hold || release) ? ", " : "",
		     set->hold ? "\"legal_hold\": true" : release ? "\"legal_hold\": false" : "");
	if (n < 0) {
		call->body = NULL;
		return -ENOMEM;
	}
	if (if_match)
		snprintf(call->if_match, sizeof(call->if_match), "%s", if_match);
	if (asprintf(&call->path, "/v1/files/%s/file-lock", ref) < 0)
		call->path = NULL;
	return qumulo_start(q, call);
}

int qumulo_get_attributes(struct qumulo *q, struct qumulo_call *call, const char *ref, bool lock)
{
	ask(call, UPSTREAM_ATTRIBUTES, "GET");
	if (asprintf(&call->path, "/v1/files/%s/info/attributes%s", ref, lock ? "?retrieve-file-lock=true" : "") < 0)
		call->path = NULL;
	return qumulo_start(q, call);
}

int qumulo_get_entries(struct qumulo *q, struct qumulo_call *call, const char *ref, unsigned limit, const char *after)
{
	ask(call, UPSTREAM_ENTRIES, "GET");
	if (asprintf(&call->path, "/v1/files/%s/entries/?limit=%u%s%s", ref, limit < UPSTREAM_ENTRIES_MAX ? limit : UPSTREAM_ENTRIES_MAX,
		     after ? "&after=" : "", after ? after : "") < 0)
		call->path = NULL;
	return qumulo_start(q, call);
}

int qumulo_resolve(struct qumulo *q, struct qumulo_call *call, const char *const *ids, size_t n)
{
	json_t *list = json_array();

	ask(call, UPSTREAM_RESOLVE, "POST");
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(ids[i]));
	call->body = json_array_size(list) == n ? json_dumps(list, JSON_COMPACT) : NULL;
	json_decref(list);
	call->path = call->body ? strdup("/v1/files/resolve") : NULL;
	return qumulo_start(q, call);
}

int qumulo_get_version(struct qumulo *q, struct qumulo_call *call)
{
	ask(call, UPSTREAM_VERSION, "GET");
	call->path = strdup("/v1/version");
	return qumulo_start(q, call);
}

int qumulo_who_am_i(struct qumulo *q, struct qumulo_call *call)
{
	ask(call, UPSTREAM_WHO_AM_I, "GET");
	call->path = strdup("/v1/session/who-am-i");
	return qumulo_start(q, call);
}

int qumulo_login(struct qumulo *q, struct qumulo_call *call, const char *user, const char *password)
{
	int r = qumulo_ask_login(call, user, password);

	return r < 0 ? r : qumulo_start(q, call);
}

int qumulo_version_check(const char *version, bool *ret_new_enough)
{
	unsigned have[3], want[3];
	const char *at = version + strcspn(version, "0123456789");

	if (sscanf(at, "%4u.%4u.%4u", &have[0], &have[1], &have[2]) != 3 ||
	    sscanf(QUMULO_VERSION_MIN, "%u.%u.%u", &want[0], &want[1], &want[2]) != 3)
		return -EINVAL;
	*ret_new_enough = true;
	for (int i = 0; i < 3; i++)
		if (have[i] != want[i]) {
			*ret_new_enough = have[i] > want[i];
			break;
		}
	return 0;
}
