/* events sse: a server of server-sent events, beside the daemon and not in it: it reads the ring, and nothing that comes over
 * HTTP reaches who enforces locks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lockstore/wormctl/events.h"
#include "lockstore/wormctl/service.h"
#include "lockstore/wormctl/sse.h"

#define HEAD_BYTES 32768	/* a path of 8192 bytes, each three */
#define IDLE_S 60

/* A token from a file is not said again. */
static int print_where(const struct wormctl *ctl, const struct events_sse *s, const char *address, const char *token)
{
	char url[256];

	snprintf(url, sizeof(url), "%s%s%s", strncmp(address, "unix:", 5) == 0 ? "" : "http://", address,
		 strncmp(address, "unix:", 5) == 0 ? "" : "/v1/events");
	if (ctl->json)
		(void)print_json(json_pack("{s:s, s:s, s:s?}", "url", url, "address", address, "token", s->token_file ? NULL : token));
	else
		printf("%s%s%s\n", url, s->token_file ? "" : " token ", s->token_file ? "" : token);
	return fflush(stdout) != 0 ? -EPIPE : 0;
}

int events_sse(const struct wormctl *ctl, const char *ring_path, const struct events_sse *s, struct failure *f)
{
	struct http_server_options options = { .listen = s->listen, .allow_remote = s->allow_remote, .body_max_bytes = 1024,
					       .head_max_bytes = HEAD_BYTES, .connections_max = 2 * SSE_CLIENTS_MAX, .idle_s = IDLE_S,
					       .handler = sse_handle };
	char token[SERVICE_TOKEN_ROOM];
	struct http_server *server = NULL;
	struct sse *sse = NULL;
	sigset_t ends;
	int r;

	r = service_token(s->token_file, token, f);
	if (r < 0)
		return r;
	service_begin(&ends);
	r = sse_open(ring_path, token, &sse);
	if (r < 0)
		return fail(f, r, "cannot begin: %s", strerror(-r));
	options.owner = sse;
	r = http_server_open(&options, &server);
	if (r < 0)
		r = service_fail_listen(s->listen, r, f);
	else if (print_where(ctl, s, http_server_address(server), token) < 0)
		r = fail(f, -EPIPE, "cannot say where it is: standard output is closed");
	if (r == 0)
		service_wait(&ends);
	if (server)
		http_server_close(server);
	sse_close(sse);
	return r;
}
