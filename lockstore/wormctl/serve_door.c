/* Answers at once from what the lookout has: nobody who asks costs a thread, a look at the disk, or a word with the daemon. */
#include "lockstore/wormctl/serve_door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lockstore/wormctl/serve_page.h"
#include "lockstore/wormctl/service.h"
#include "mockarchive/http_server.h"

#define POLICY "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " \
	"form-action 'none'; frame-ancestors 'none'"

struct door {
	struct lookout *lookout;
	struct http_server *server;
	struct service_key key;
	char *host;
};

/* ---- who ---- */

/* Addresses need no resolver, so no foreign name led here. The port may be another's: of a tunnel. */
static bool host_is_ours(const struct door *d, const char *header)
{
	char name[256], *colon;
	struct in6_addr v6;
	struct in_addr v4;
	size_t len = header ? strlen(header) : 0;

	if (len == 0 || len >= sizeof(name))
		return false;
	memcpy(name, header, len + 1);
	if (name[0] == '[') {
		char *end = strchr(name, ']');

		if (!end || (end[1] && end[1] != ':'))
			return false;
		*end = '\0';
		return inet_pton(AF_INET6, name + 1, &v6) == 1;
	}
	colon = strchr(name, ':');
	if (colon)
		*colon = '\0';
	return inet_pton(AF_INET, name, &v4) == 1 || strcasecmp(name, "localhost") == 0 || (d->host && strcasecmp(name, d->host) == 0);
}

/* ---- what ---- */

static void reply_text(struct http_request *req, unsigned status, const char *text)
{
	http_reply(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* Takes `text`. */
static void reply_made(struct http_request *req, int r, const char *type, char *text, size_t len)
{
	if (r < 0)
		reply_text(req, 503, "out of memory\n");
	else
		http_reply(req, 200, type, text, len);
	free(text);
}

static void reply_page(struct door *d, struct http_request *req)
{
	http_reply(req, 200, "text/html; charset=utf-8", serve_page, (size_t)(serve_page_end - serve_page));
}

static void reply_script(struct door *d, struct http_request *req)
{
	http_reply(req, 200, "text/javascript; charset=utf-8", serve_script, (size_t)(serve_script_end - serve_script));
}

static void reply_style(struct door *d, struct http_request *req)
{
	http_reply(req, 200, "text/css; charset=utf-8", serve_style, (size_t)(serve_style_end - serve_style));
}

static void reply_state(struct door *d, struct http_request *req)
{
	http_reply_json(req, 200, lookout_state(d->lookout));
}

static void reply_events(struct door *d, struct http_request *req)
{
	const char *query = http_request_query(req);
	uint64_t after = UINT64_MAX;
	char *text = NULL, *end;
	size_t len = 0;
	int r;

	if (query && *query) {
		errno = 0;
		after = strncmp(query, "after=", 6) == 0 && query[6] >= '0' && query[6] <= '9' ? strtoull(query + 6, &end, 10) : UINT64_MAX;
		if (after == UINT64_MAX || errno || *end) {
			reply_text(req, 400, "the query is after=SEQ: the number of the last event that is known\n");
			return;
		}
	}
	r = lookout_events(d->lookout, after, &text, &len);
	reply_made(req, r, "application/json", text, len);
}

static void reply_metrics(struct door *d, struct http_request *req)
{
	char *text = NULL;
	size_t len = 0;
	int r = lookout_metrics(d->lookout, &text, &len);

	reply_made(req, r, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

static const struct {
	const char *path;
	bool open;		/* without the token */
	void (*reply)(struct door *d, struct http_request *req);
} paths[] = {
	{ "/", true, reply_page }, { "/app.js", true, reply_script }, { "/style.css", true, reply_style },
	{ "/api/state", false, reply_state }, { "/api/events", false, reply_events }, { "/metrics", false, reply_metrics },
};

static void handle(void *owner, struct http_request *req)
{
	const char *method = http_request_method(req), *path = http_request_path(req);
	struct door *d = owner;
	size_t i;

	http_request_add_header(req, "Cache-Control", "no-store");
	http_request_add_header(req, "Content-Security-Policy", POLICY);
	http_request_add_header(req, "X-Content-Type-Options", "nosniff");
	http_request_add_header(req, "Referrer-Policy", "no-referrer");
	http_request_add_header(req, "Cross-Origin-Resource-Policy", "same-origin");
	if (!host_is_ours(d, http_request_header(req, "Host"))) {
		reply_text(req, 403, "this name is not ours: ask by address or as localhost, or start with --host NAME\n");
		return;
	}
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		http_request_add_header(req, "Allow", "GET, HEAD");
		reply_text(req, 405, "here is only something to look at: GET\n");
		return;
	}
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]) && strcmp(paths[i].path, path) != 0; i++)
		;
	if (i == sizeof(paths) / sizeof(paths[0])) {
		reply_text(req, 404, "there is /, /api/state, /api/events and /metrics\n");
	} else if (!paths[i].open && !service_key_fits_bearer(&d->key, http_request_header(req, "Authorization"))) {
		http_request_add_header(req, "WWW-Authenticate", "Bearer realm=\"wormctl serve\"");
		reply_text(req, 401, "send the token that wormctl serve printed: Authorization: Bearer TOKEN\n");
	} else {
		paths[i].reply(d, req);
	}
}

/* ---- open and close ---- */

int door_open(struct lookout *lookout, const char *listen, bool allow_remote, const char *token, const char *host, struct door **ret_door)
{
	struct door *d = calloc(1, sizeof(*d));
	struct http_server_options options = { .listen = listen, .allow_remote = allow_remote, .body_max_bytes = DOOR_BODY_BYTES,
					       .head_max_bytes = DOOR_HEAD_BYTES, .connections_max = DOOR_CONNECTIONS, .idle_s = DOOR_IDLE_S,
					       .handler = handle, .owner = d };
	int r;

	if (!d)
		return -ENOMEM;
	d->lookout = lookout;
	service_key_of(token, &d->key);
	d->host = host ? strdup(host) : NULL;
	r = host && !d->host ? -ENOMEM : http_server_open(&options, &d->server);
	if (r < 0) {
		free(d->host);
		free(d);
		return r;
	}
	*ret_door = d;
	return 0;
}

void door_close(struct door *d)
{
	if (!d)
		return;
	http_server_close(d->server);
	free(d->host);
	free(d);
}

const char *door_address(const struct door *d)
{
	return http_server_address(d->server);
}
