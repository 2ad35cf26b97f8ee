/* Raw paths to endpoints and files. */
#include "mockarchive/mockqumulo/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mockarchive/http_url.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A collection's path ends with a slash, everything else's does not. Source: facts of COSI's live runs, sections 1.1 and 1.6. */
static const struct { const char *path; enum endpoint endpoint; } plain[] = {
	{ "/v1/version", EP_VERSION },
	{ "/v1/session/login", EP_LOGIN },
	{ "/v1/session/who-am-i", EP_WHO_AM_I },
	{ "/v1/file-system/settings/notify", EP_NOTIFY_SETTINGS },
	{ "/v1/files/resolve", EP_RESOLVE },
	{ "/v1/files/try-resolve", EP_TRY_RESOLVE },
}, of_file[] = {
	{ "", EP_FILE },
	{ "/info/attributes", EP_ATTRIBUTES },
	{ "/file-lock", EP_FILE_LOCK },
	{ "/entries/", EP_ENTRIES },
	{ "/data", EP_DATA },
	{ "/notify", EP_NOTIFY },
};

bool route_check_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= ROUTE_NAME_MAX_BYTES && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

bool route_check_path(char *path)
{
	size_t len = strlen(path);
	char *at = path;

	if (len == 0 || len > ROUTE_PATH_MAX_BYTES || path[0] != '/')
		return false;
	if (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	while (len > 1 && *at) {
		char *end = strchrnul(++at, '/'), saved = *end;
		bool ok;

		*end = '\0';
		ok = route_check_name(at);
		*end = saved;
		if (!ok)
			return false;
		at = end;
	}
	return true;
}

static bool is_utf8(const char *text)
{
	json_t *string = json_string(text);

	json_decref(string);
	return string != NULL;
}

/* Text of a segment; NULs in it make it no name. */
static int decode(const char *segment, size_t len, bool plus_is_space, char **ret_text)
{
	char *copy = strndup(segment, len), *text;
	size_t n;
	int r;

	if (!copy)
		return -ENOMEM;
	/* Before decoding: what was %2B stays a plus. */
	for (char *at = copy; plus_is_space && (at = strchr(at, '+')); at++)
		*at = ' ';
	r = http_percent_decode(copy, len, &text, &n);
	free(copy);
	if (r < 0)
		return r == -EINVAL ? -ENXIO : r;
	if (strlen(text) != n)
		r = -ENXIO;
	else if (!is_utf8(text))
		r = -EILSEQ;
	if (r < 0) {
		free(text);
		return r;
	}
	*ret_text = text;
	return 0;
}

static int parse_id(const char *segment, size_t len, uint64_t *ret_id)
{
	uint64_t id = 0;

	for (size_t i = 0; i < len; i++) {
		if (__builtin_mul_overflow(id, 10, &id) || __builtin_add_overflow(id, segment[i] - '0', &id))
			return -ENXIO;
	}
	*ret_id = id;
	return 0;
}

static int parse_ref(const char *segment, size_t len, bool plus_is_space, struct route *route)
{
	int r;

	if (len > 0 && strspn(segment, "0123456789") >= len) {
		route->by_id = true;
		return parse_id(segment, len, &route->id);
	}
	r = decode(segment, len, plus_is_space, &route->path);
	if (r < 0)
		return r;
	return route_check_path(route->path) ? 0 : -ENXIO;
}

static int parse_file(const char *rest, bool plus_is_space, struct route *route)
{
	static const char entry[] = "/entries/";
	const char *tail = strchrnul(rest, '/');
	int r = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(of_file); i++) {
		if (strcmp(tail, of_file[i].path) == 0) {
			route->endpoint = of_file[i].endpoint;
			return parse_ref(rest, tail - rest, plus_is_space, route);
		}
	}
	if (strncmp(tail, entry, strlen(entry)) == 0 && !strchr(tail + strlen(entry), '/')) {
		const char *name = tail + strlen(entry);

		route->endpoint = EP_ENTRY;
		r = parse_ref(rest, tail - rest, plus_is_space, route);
		if (r == 0)
			r = decode(name, strlen(name), plus_is_space, &route->name);
		if (r == 0 && !route_check_name(route->name))
			r = -ENXIO;
	}
	return r;
}

int route_parse(const char *raw_path, bool plus_is_space, struct route *ret_route)
{
	static const char files[] = "/v1/files/", control[] = "/mock/", api[] = "/api/";
	struct route route = { 0 };
	int r = -ENOENT;

	if (strncmp(raw_path, control, strlen(control)) == 0) {
		route.endpoint = EP_CONTROL;
		route.rest = raw_path + strlen(control);
		*ret_route = route;
		return 0;
	}
	if (strncmp(raw_path, api, strlen(api)) == 0)
		raw_path += strlen(api) - 1;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		if (strcmp(raw_path, plain[i].path) == 0) {
			route.endpoint = plain[i].endpoint;
			*ret_route = route;
			return 0;
		}
	}
	if (strncmp(raw_path, files, strlen(files)) == 0)
		r = parse_file(raw_path + strlen(files), plus_is_space, &route);
	if (r < 0) {
		route_fini(&route);
		return r;
	}
	*ret_route = route;
	return 0;
}

void route_fini(struct route *route)
{
	free(route->path);
	free(route->name);
	route->path = route->name = NULL;
}
