/* Lines that anybody may send to the control socket: what is taken is what the verb's row promises, and nothing else is. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control_request.h"
#include "lockstore/case_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool promise)
{
	if (!promise)
		abort();
}

static void must_stay_below(const char *path)
{
	must(path && path[0] != '/' && strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 && !strstr(path, "/../"));
}

static void must_be_right(const struct control_request *request)
{
	char text[RETENTION_TEXT_BYTES];

	if (control_verb_has_file(request->verb))
		must_stay_below(request->path);
	for (size_t i = 0; i < request->npaths; i++)
		must_stay_below(request->paths[i]);
	if (request->case_name)
		must(case_name_is_valid(request->case_name));
	if (request->reason)
		must(strlen(request->reason) < SIZE_MAX / 2);	/* it is read to its end */
	for (int kind = 0; kind < VERIFY_KINDS; kind++)
		must(request->kinds[kind] <= INT64_MAX);
	switch (request->verb) {
	case CONTROL_DELETE:
	case CONTROL_SHORTEN:
	case CONTROL_CLOCK_ACCEPT:
		must(request->reason && *request->reason && strlen(request->reason) <= CONTROL_REASON_MAX_BYTES);
		break;
	case CONTROL_HOLD:
	case CONTROL_RELEASE:
	case CONTROL_ORDER_NEW:
		must(request->case_name != NULL);
		break;
	case CONTROL_ORDER_ADD:
		must(request->paths != NULL);
		break;
	case CONTROL_POLICY_TEST:
		must_stay_below(request->path);
		must(request->uid != UINT32_MAX && request->gid != UINT32_MAX && request->size_bytes <= INT64_MAX);
		break;
	default:
		break;
	}
	if (request->verb == CONTROL_EXTEND || request->verb == CONTROL_SHORTEN) {
		retention_format_until(retention_until(&request->until, 0), text);
		must(*text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct control_request request;
	char error[CONTROL_ERROR_BYTES] = "";
	const char *unknown = NULL;
	int r;

	r = control_request_open((const char *)data, len, &request, &unknown);
	if (r == 0) {
		must(strcmp(json_string_value(json_object_get(request.json, "verb")), control_verb_name(request.verb)) == 0);
		must(control_verb_who(request.verb) <= WHO_APPROVES);
		r = control_request_check(&request, error);
		if (r == 0)
			must_be_right(&request);
		else
			must(*error && !strchr(error, '\n'));
	} else {
		must((unknown != NULL) == (r == -ENOSYS));
	}
	control_request_close(&request);
	return 0;
}
