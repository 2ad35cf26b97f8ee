/* Requests to the control port, the tape REST API and the data path, as anybody may send them: lines of
 * "METHOD TARGET HEADERS", a TAB, and the body, one request after the other against one archive. "@" in a target stands for the
 * last request id. Each is answered, with a status that is one, a body that can be sent, and JSON where it says so. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/api.h"
#include "tests/fuzz/fake_archive.h"

#define REQUESTS_MAX 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char range[200];

static const char *header(const struct api_call *call, const char *name)
{
	if (strcmp(name, "Range") == 0)
		return *range ? range : NULL;
	if (strcmp(name, "Depth") == 0)
		return "1";
	if (strcmp(name, "Want-Digest") == 0)
		return "adler32";
	return strcmp(name, "Host") == 0 ? "localhost:1" : NULL;
}

static void check(struct api_call *call, char *id)
{
	char buf[300];
	uint64_t at = 0;
	ssize_t n;

	if (call->drop || call->hang_number)
		return;
	if (call->status < 200 || call->status > 599)
		abort();
	if (call->json) {
		char *text = json_dumps(call->json, JSON_COMPACT);
		json_t *request = json_object_get(call->json, "requestId");

		if (!text)
			abort();
		free(text);
		if (json_is_string(request))
			snprintf(id, 40, "%s", json_string_value(request));
	}
	if (call->status >= 400 && (!call->json || !call->content_type))
		abort();
	/* A file in memory may have shrunk or gone on tape by the next request, not within this one. */
	while (call->read && at < call->text_len && strcmp(call->method, "HEAD") != 0) {
		n = call->read(call->read_owner, at, buf, sizeof(buf));
		if (n <= 0)
			abort();
		at += (uint64_t)n;
	}
	for (unsigned i = 0; i < call->nheaders; i++)
		if (strpbrk(call->headers[i].value, "\r\n"))
			abort();
}

static void request(struct api *api, char *line, char *id)
{
	struct api_call call = { .api = api, .header = header };
	char *space = strchr(line, ' '), *tab = strchr(line, '\t'), *query, *at, target[600];

	if (!space || (tab && tab < space))
		return;
	*space = '\0';
	call.body = "";
	if (tab) {
		*tab = '\0';
		call.body = tab + 1;
		call.body_len = strlen(call.body);
	}
	line[strcspn(line, " ")] = '\0';
	call.method = line;
	snprintf(range, sizeof(range), "%s", strchr(space + 1, ' ') ? strchr(space + 1, ' ') + 1 : "");
	space[1 + strcspn(space + 1, " ")] = '\0';
	at = strchr(space + 1, '@');
	if (at)
		snprintf(target, sizeof(target), "%.*s%s%s", (int)(at - space - 1), space + 1, id, at + 1);
	else
		snprintf(target, sizeof(target), "%s", space + 1);
	query = strchr(target, '?');
	if (query)
		*query++ = '\0';
	call.path = target;
	call.query = query;
	if (api_is_wait(call.method, call.path))
		return;
	api_handle(&call);
	check(&call, id);
	api_call_fini(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct api api = { .archive = fake_archive_open() };
	char *text = calloc(1, len + 1), *next, id[40] = "none";
	unsigned n = 0;

	if (!text || rest_open(api.archive, "fuzz", &api.rest) < 0)
		abort();
	for (size_t i = 0; i < len; i++)
		text[i] = data[i] ? (char)data[i] : ' ';
	for (char *line = text; line && n < REQUESTS_MAX; line = next, n++) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		request(&api, line, id);
	}
	rest_close(api.rest);
	fake_archive_close(api.archive);
	free(text);
	return 0;
}
