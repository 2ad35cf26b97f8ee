/* Routes, and what all handlers share: bodies, paths, queries, errors as RFC 7807. */
#include "mockarchive/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/base64.h"
#include "mockarchive/http_url.h"

enum { SLOW = 1, WAITS = 2 };

/* "*" at the end of a pattern stands for the rest, slashes and all; "{" for one component. A trailing slash more is the same route.
 * Order: the first that fits. What fits none is a path of the mount (dav.c). */
static const struct route {
	const char *method, *pattern;
	api_handler *fn;
	unsigned flags;
} routes[] = {
	{ "GET", "/", api_page, 0 },
	{ "GET", "/app.js", api_page_script, 0 },
	{ "GET", "/style.css", api_page_style, 0 },
	{ "GET", "/healthz", api_health, 0 },
	{ "GET", "/metrics", api_metrics, 0 },
	{ "GET", "/openapi.json", api_openapi, 0 },
	{ "GET", "/v1/state", api_state, 0 },
	{ "GET", "/v1/files", api_files_list, 0 },
	{ "GET", "/v1/files/*", api_files_get, 0 },
	{ "POST", "/v1/files/{", api_files_act, SLOW },
	{ "GET", "/v1/drives", api_drives, 0 },
	{ "PATCH", "/v1/drives/{", api_drives_change, 0 },
	{ "GET", "/v1/library", api_library, 0 },
	{ "PATCH", "/v1/library", api_library_change, 0 },
	{ "GET", "/v1/faults", api_faults_list, 0 },
	{ "POST", "/v1/faults", api_faults_add, 0 },
	{ "DELETE", "/v1/faults", api_faults_clear, 0 },
	{ "GET", "/v1/faults/{", api_faults_get, 0 },
	{ "PATCH", "/v1/faults/{", api_faults_change, 0 },
	{ "DELETE", "/v1/faults/{", api_faults_remove, 0 },
	{ "GET", "/v1/clock", api_clock, 0 },
	{ "PATCH", "/v1/clock", api_clock_change, SLOW },
	{ "POST", "/v1/clock/advance", api_clock_advance, SLOW },
	{ "POST", "/v1/clock/settle", api_clock_settle, SLOW },
	{ "GET", "/v1/settings", api_settings, 0 },
	{ "PATCH", "/v1/settings", api_settings_change, 0 },
	{ "GET", "/v1/profiles", api_profiles, 0 },
	{ "POST", "/v1/reset", api_reset, SLOW },
	{ "GET", "/v1/journal", api_journal, 0 },
	{ "GET", "/v1/wait", NULL, WAITS },
	{ "GET", "/v1/events", NULL, WAITS },
	{ "GET", "/delete/*", api_delete, SLOW },
	{ "GET", "/exit", api_exit, 0 },
	{ "GET", "/.well-known/wlcg-tape-rest-api", rest_wellknown, 0 },
	{ "POST", "/api/v1/stage", rest_stage, SLOW },
	{ "GET", "/api/v1/stage/{", rest_status, SLOW },
	{ "DELETE", "/api/v1/stage/{", rest_delete, SLOW },
	{ "POST", "/api/v1/stage/{/cancel", rest_cancel, SLOW },
	{ "POST", "/api/v1/release/{", rest_release, SLOW },
	{ "POST", "/api/v1/archiveinfo", rest_archiveinfo, SLOW },
};
#define NROUTES (sizeof(routes) / sizeof(routes[0]))

static const struct route mount_routes[] = {
	{ "GET", "/*", dav_get, SLOW },
	{ "PUT", "/*", dav_put, SLOW },
	{ "PROPFIND", "/*", dav_propfind, SLOW },
	{ "OPTIONS", "/*", dav_options, 0 },
};
#define NMOUNT (sizeof(mount_routes) / sizeof(mount_routes[0]))

/* First components that are ours; everything else is the mount's. */
static const char *const reserved[] = { "v1", "api", "healthz", "metrics", "openapi.json", "app.js", "style.css", "delete", "exit", ".well-known" };

static bool is_reserved(const char *path)
{
	size_t len;

	path += strspn(path, "/");
	len = strcspn(path, "/");
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strlen(reserved[i]) == len && strncmp(path, reserved[i], len) == 0)
			return true;
	return false;
}

/* *ret_rest and its length: what '*' or '{' stood for. */
static bool pattern_fits(const char *pattern, const char *path, const char **ret_rest, size_t *ret_len)
{
	*ret_rest = "";
	*ret_len = 0;
	for (; *pattern; pattern++) {
		if (*pattern == '*') {
			*ret_rest = path;
			*ret_len = strlen(path);
			return *ret_len > 0;
		}
		if (*pattern == '{') {
			*ret_rest = path;
			*ret_len = strcspn(path, "/");
			path += *ret_len;
			if (!*ret_len)
				return false;
			continue;
		}
		if (*pattern != *path)
			return false;
		path++;
	}
	return !*path || (strcmp(path, "/") == 0 && path[-1] != '/');
}

/* *ret_known: some method of this path is ours. */
static const struct route *find_route(const char *method, const char *path, const char **ret_rest, size_t *ret_len, bool *ret_known)
{
	bool root = strcmp(path, "/") == 0, propfind = strcmp(method, "PROPFIND") == 0 || strcmp(method, "OPTIONS") == 0;

	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	*ret_known = false;
	for (size_t i = 0; i < NROUTES && !(root && propfind); i++) {
		if (!pattern_fits(routes[i].pattern, path, ret_rest, ret_len))
			continue;
		*ret_known = true;
		if (strcmp(routes[i].method, method) == 0)
			return &routes[i];
	}
	if (*ret_known || is_reserved(path))
		return NULL;
	*ret_known = true;
	for (size_t i = 0; i < NMOUNT; i++) {
		if (strcmp(mount_routes[i].method, method) != 0)
			continue;
		*ret_rest = path + 1;
		*ret_len = strlen(path + 1);
		return &mount_routes[i];
	}
	return NULL;
}

static bool has_flag(const char *method, const char *path, unsigned flag)
{
	const struct route *route;
	const char *rest;
	size_t len;
	bool known;

	if (*path != '/')
		return false;
	route = find_route(method, path, &rest, &len, &known);
	return route && route->flags & flag;
}

bool api_is_wait(const char *method, const char *path)
{
	return has_flag(method, path, WAITS);
}

bool api_is_slow(const char *method, const char *path)
{
	return has_flag(method, path, SLOW);
}

static void allow(struct api_call *call)
{
	char methods[80] = "";
	const char *rest;
	size_t len;

	for (size_t i = 0; i < NROUTES; i++)
		if (pattern_fits(routes[i].pattern, call->path, &rest, &len) && !strstr(methods, routes[i].method))
			snprintf(methods + strlen(methods), sizeof(methods) - strlen(methods), "%s%s", *methods ? ", " : "", routes[i].method);
	api_header(call, "Allow", *methods ? methods : "GET, HEAD, PUT, PROPFIND, OPTIONS");
}

void api_handle(struct api_call *call)
{
	const struct route *route = NULL;
	const char *rest = "";
	size_t len = 0;
	bool known = false;

	if (*call->path == '/')
		route = find_route(call->method, call->path, &rest, &len, &known);
	if (!route && known) {
		allow(call);
		api_problem(call, 405, NULL, "%s cannot be done here", call->method);
		return;
	}
	if (!route || !route->fn) {
		api_problem(call, 404, NULL, "there is no '%.200s' here; /openapi.json lists what is", call->path);
		return;
	}
	if (http_percent_decode(rest, len, &call->rest, &call->rest_len) < 0) {
		api_problem(call, 400, NULL, "the path is wrongly percent-encoded");
		return;
	}
	route->fn(call);
}

static void drop_answer(struct api_call *call)
{
	json_decref(call->json);
	free(call->text);
	call->json = NULL;
	call->text = NULL;
	call->text_len = 0;
	if (call->read_done)
		call->read_done(call->read_owner);
	call->read = NULL;
	call->read_done = NULL;
}

void api_call_fini(struct api_call *call)
{
	drop_answer(call);
	free(call->rest);
	for (unsigned i = 0; i < call->nheaders; i++)
		free(call->headers[i].value);
	call->rest = NULL;
	call->nheaders = 0;
}

void api_json(struct api_call *call, unsigned status, json_t *json)
{
	drop_answer(call);
	call->status = json ? status : 500;
	call->json = json;
	call->content_type = "application/json";
}

void api_text(struct api_call *call, unsigned status, const char *content_type, char *text, size_t len)
{
	drop_answer(call);
	call->status = text ? status : 500;
	call->text = text;
	call->text_len = text ? len : 0;
	call->content_type = content_type;
}

void api_stream(struct api_call *call, unsigned status, const char *content_type, uint64_t len,
		ssize_t (*read)(void *owner, uint64_t offset, char *buf, size_t len), void (*done)(void *owner), void *owner)
{
	drop_answer(call);
	call->status = status;
	call->content_type = content_type;
	call->text_len = len;
	call->read = read;
	call->read_done = done;
	call->read_owner = owner;
}

void api_empty(struct api_call *call, unsigned status)
{
	drop_answer(call);
	call->status = status;
	call->content_type = NULL;
}

void api_header(struct api_call *call, const char *name, const char *value)
{
	char *copy = call->nheaders < API_HEADERS_MAX ? strdup(value) : NULL;

	if (!copy)
		return;		/* no memory: the answer comes without it */
	for (char *c = copy; *c; c++)
		if ((unsigned char)*c < 0x20)
			*c = ' ';
	call->headers[call->nheaders].name = name;
	call->headers[call->nheaders++].value = copy;
}

static const char *status_title(unsigned status)
{
	switch (status) {
	case 400: return "Bad request";
	case 401: return "Not authorized";
	case 403: return "Forbidden";
	case 404: return "Not found";
	case 405: return "Method not allowed";
	case 409: return "Conflict";
	case 412: return "Precondition failed";
	case 413: return "Too large";
	case 416: return "Range not satisfiable";
	case 503: return "Not available now";
	case 504: return "Waited in vain";
	case 507: return "No space";
	default: return "Error";
	}
}

static void problem(struct api_call *call, unsigned status, const char *title, const char *detail, const char *name)
{
	json_t *json = json_pack("{s:i, s:s, s:o}", "status", (int)status, "title", title ? title : status_title(status), "detail",
				 api_string(detail));

	if (json && name)
		json_object_set_new(json, "errno", json_string(name));
	api_json(call, status, json);
	call->content_type = API_PROBLEM;
}

void api_problem(struct api_call *call, unsigned status, const char *title, const char *format, ...)
{
	char detail[700];
	va_list ap;

	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	problem(call, status, title, detail, NULL);
}

static unsigned status_of(int error)
{
	switch (-error) {
	case ENOENT: return 404;
	case EINVAL: return 400;
	case EPERM: case EACCES: return 403;
	case EEXIST: case EISDIR: case ENOTDIR: case EBUSY: case EROFS: case ENODATA: case EALREADY: case EIO: return 409;
	case EAGAIN: case ECANCELED: return 503;
	case ETIMEDOUT: return 504;
	case ENOSPC: return 507;
	default: return 500;
	}
}

void api_error(struct api_call *call, int error, const char *what, const char *subject)
{
	const char *name = strerrorname_np(-error);
	char detail[700];

	snprintf(detail, sizeof(detail), "cannot %s '%.500s': %s", what, subject, strerror(-error));
	problem(call, status_of(error), NULL, detail, name ? name : "EIO");
}

json_t *api_body(struct api_call *call)
{
	size_t blanks = strspn(call->body, " \t\r\n");
	json_error_t error;
	json_t *json;

	if (blanks == call->body_len)
		return json_object();
	json = json_loadb(call->body, call->body_len, JSON_REJECT_DUPLICATES, &error);
	if (json_is_object(json))
		return json;
	if (json)
		api_problem(call, 400, "JSON Validation error", "the body must be a JSON object");
	else
		api_problem(call, 400, "JSON Validation error", "line %d: %s", error.line, error.text);
	json_decref(json);
	return NULL;
}

bool api_keys_are(struct api_call *call, const json_t *object, const char *known)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value) {
		const char *at = known;
		size_t len = strlen(key);

		while (*at && !(strncmp(at, key, len) == 0 && (at[len] == ',' || !at[len]))) {
			at += strcspn(at, ",");
			at += *at == ',';
		}
		if (!*at || !len) {
			api_problem(call, 400, "JSON Validation error", "'%.60s' is unknown here; known: %s", key, known);
			return false;
		}
	}
	return true;
}

char *api_query(struct api_call *call, const char *name, bool *ret_bad)
{
	char *value = NULL;
	int r = call->query ? http_query_get(call->query, name, &value) : -ENOENT;

	*ret_bad = r < 0 && r != -ENOENT;
	if (*ret_bad)
		api_problem(call, 400, NULL, "'%s' is wrongly percent-encoded", name);
	return r < 0 ? NULL : value;
}

bool api_query_number(struct api_call *call, const char *name, int64_t missing, int64_t min, int64_t max, int64_t *ret_number)
{
	bool bad;
	char *text = api_query(call, name, &bad), *end;
	long long number;

	if (bad)
		return false;
	*ret_number = missing;
	if (!text)
		return true;
	errno = 0;
	number = strtoll(text, &end, 10);
	bad = end == text || *end || errno || number < min || number > max;
	free(text);
	if (bad) {
		api_problem(call, 400, NULL, "'%s' must be a whole number from %lld to %lld", name, (long long)min, (long long)max);
		return false;
	}
	*ret_number = number;
	return true;
}

int api_clean_path(const char *text, size_t len, char *ret_path)
{
	const char *end = text + len;
	char *out = ret_path;

	if (len >= API_PATH_MAX_BYTES || memchr(text, '\0', len))
		return -EINVAL;
	while (text < end) {
		size_t n;

		while (text < end && *text == '/')
			text++;
		for (n = 0; text + n < end && text[n] != '/'; n++)
			;
		if (!n)
			break;
		if ((n == 1 && text[0] == '.') || (n == 2 && text[0] == '.' && text[1] == '.'))
			return -EINVAL;
		if (out != ret_path)
			*out++ = '/';
		memcpy(out, text, n);
		out += n;
		text += n;
	}
	*out = '\0';
	return 0;
}

bool api_path_of(struct api_call *call, const json_t *object, char *ret_path)
{
	const json_t *text = json_object_get(object, "path"), *coded = json_object_get(object, "path_b64");
	char raw[API_PATH_MAX_BYTES];
	ssize_t n = -1;

	if (json_is_string(coded)) {
		n = base64_decode(json_string_value(coded), raw, sizeof(raw));
		if (n >= 0 && api_clean_path(raw, (size_t)n, ret_path) == 0)
			return true;
	} else if (json_is_string(text) && api_clean_path(json_string_value(text), json_string_length(text), ret_path) == 0) {
		return true;
	}
	api_problem(call, 400, "JSON Validation error", "'path' must be a path from the root of the mount, without '.' and '..'");
	return false;
}

bool api_states(struct api_call *call, const char *text, unsigned *ret_states)
{
	unsigned states = 0;

	while (*text) {
		enum archive_state state;
		char name[32];
		size_t len = strcspn(text, ",");

		snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1), text);
		if (archive_state_parse(name, &state) < 0) {
			api_problem(call, 400, NULL, "'%s' is no state of a file", name);
			return false;
		}
		states |= archive_state_bit(state);
		text += len;
		text += *text == ',';
	}
	*ret_states = states;
	return true;
}
