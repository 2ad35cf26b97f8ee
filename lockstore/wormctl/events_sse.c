/* events sse: a server of server-sent events, beside the daemon and not in it: it reads the ring, and nothing that comes over
 * HTTP reaches who enforces locks. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/wormctl/events.h"
#include "lockstore/wormctl/sse.h"

#define HEAD_BYTES 32768	/* a path of 8192 bytes, each three */
#define IDLE_S 60

/* Characters of RFC 6750. */
static bool token_is_fine(const char *token)
{
	size_t len = strlen(token);

	return len >= SSE_TOKEN_MIN && len <= SSE_TOKEN_MAX &&
	       strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") == len;
}

static int read_token(const char *file, char token[SSE_TOKEN_MAX + 2], struct failure *f)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, token, SSE_TOKEN_MAX + 1);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return fail(f, -error, "cannot read the token in %s: %s", quoted(file), strerror(error));
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return fail(f, -EPERM, "others may read the token in %s: chmod 600 it", quoted(file));
	token[n] = '\0';
	token[strcspn(token, "\r\n")] = '\0';
	if (!token_is_fine(token))
		return fail(f, -EINVAL, "the first line of %s is no token: %d to %d letters, digits and -._~+/=", quoted(file), SSE_TOKEN_MIN,
			    SSE_TOKEN_MAX);
	return 0;
}

static int make_token(char token[SSE_TOKEN_MAX + 2], struct failure *f)
{
	unsigned char bytes[32];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return fail(f, -EIO, "cannot make a token: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(token + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static int fail_listen(const struct events_sse *s, int r, struct failure *f)
{
	if (r == -EPERM)
		return fail(f, r, "--listen %s: others could reach it; give an address of this machine's own (127.0.0.1:PORT), or --allow-remote",
			    quoted(s->listen));
	if (r == -EINVAL)
		return fail(f, r, "--listen %s: write ADDRESS:PORT, [::1]:PORT or unix:PATH", quoted(s->listen));
	return fail(f, r, "cannot listen on %s: %s", quoted(s->listen), strerror(-r));
}

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
	char token[SSE_TOKEN_MAX + 2];
	struct http_server *server = NULL;
	struct sse *sse = NULL;
	sigset_t ends;
	int r, got;

	r = s->token_file ? read_token(s->token_file, token, f) : make_token(token, f);
	if (r < 0)
		return r;
	/* In every thread that follows; and a client that hangs up is none of our business. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = sse_open(ring_path, token, &sse);
	if (r < 0)
		return fail(f, r, "cannot begin: %s", strerror(-r));
	options.owner = sse;
	r = http_server_open(&options, &server);
	if (r < 0)
		r = fail_listen(s, r, f);
	else if (print_where(ctl, s, http_server_address(server), token) < 0)
		r = fail(f, -EPIPE, "cannot say where it is: standard output is closed");
	if (r == 0)
		sigwait(&ends, &got);
	if (server)
		http_server_close(server);
	sse_close(sse);
	return r;
}
