/* /v1/faults: the list of rules. */
#include "mockarchive/api.h"

#include <errno.h>

static struct faults *faults(struct api_call *call)
{
	return archive_faults(call->api->archive);
}

static int64_t now(struct api_call *call)
{
	return archive_now_ns(call->api->archive);
}

void api_faults_list(struct api_call *call)
{
	unsigned rules, enabled;
	uint64_t fired;

	faults_count(faults(call), &rules, &enabled, &fired);
	api_json(call, 200, json_pack("{s:o, s:I}", "faults", faults_list(faults(call), now(call)), "fired", (json_int_t)fired));
}

static void refuse(struct api_call *call, int r, const char *why)
{
	switch (r) {
	case -ENOENT:
		api_problem(call, 404, NULL, "%s", why);
		break;
	case -EEXIST:
		api_problem(call, 409, NULL, "%s", why);
		break;
	case -ENOSPC:
		api_problem(call, 507, NULL, "%s", why);
		break;
	case -EINVAL:
		api_problem(call, 400, "JSON Validation error", "%s", why);
		break;
	default:
		api_error(call, r, "change", "faults");
	}
}

static void show(struct api_call *call, unsigned status, const char *id)
{
	json_t *rule = faults_get(faults(call), id, now(call));

	if (rule)
		api_json(call, status, rule);
	else
		api_problem(call, 404, NULL, "there is no rule '%.64s'", id);
}

void api_faults_add(struct api_call *call)
{
	char id[FAULT_ID_BYTES] = "", why[FAULT_WHY_BYTES] = "", location[FAULT_ID_BYTES + 16];
	json_t *body = api_body(call);
	int r;

	if (!body)
		return;
	r = faults_add(faults(call), body, now(call), id, why);
	json_decref(body);
	if (r < 0) {
		refuse(call, r, why);
		return;
	}
	snprintf(location, sizeof(location), "/v1/faults/%s", id);
	api_header(call, "Location", location);
	show(call, 201, id);
}

void api_faults_clear(struct api_call *call)
{
	faults_clear(faults(call));
	api_empty(call, 204);
}

void api_faults_get(struct api_call *call)
{
	show(call, 200, call->rest);
}

void api_faults_change(struct api_call *call)
{
	char why[FAULT_WHY_BYTES] = "";
	json_t *body = api_body(call);
	int r;

	if (!body)
		return;
	r = faults_change(faults(call), call->rest, body, now(call), why);
	json_decref(body);
	if (r < 0)
		refuse(call, r, why);
	else
		show(call, 200, call->rest);
}

void api_faults_remove(struct api_call *call)
{
	if (faults_remove(faults(call), call->rest) < 0)
		api_problem(call, 404, NULL, "there is no rule '%.64s'", call->rest);
	else
		api_empty(call, 204);
}
