/* Between http_server.c and api.c. A request is handled in the server's thread, or, where it may take a while, in one of its own;
 * so however many hang, rules can still be taken away. */
#include "mockarchive/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/log.h"
#include "lockstore/thread.h"
#include "mockarchive/api.h"
#include "mockarchive/http_server.h"
#include "mockarchive/watch.h"

#define SERVER_THREADS 2
#define CLOSE_WAIT_S 5		/* for requests that still run; then they are left to the end of the process */
#define PACE_MS 50		/* between the pieces of a slow reply */

struct port {
	struct serve *serve;
	struct http_server *server;
	bool local;		/* a UNIX socket: its mode says who may */
	bool allow_remote;
};

struct serve {
	struct api api;
	struct watch *watch;
	struct port ports[SERVE_LISTEN_MAX + 1];
	atomic_uint nports;	/* complete from the first on; the first may be asked before the second listens */
	char *token;
	atomic_bool started;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned nslow;		/* lock */
	bool closing;		/* lock */
};

struct job {
	struct serve *serve;
	struct api_call *call;
	struct http_request *req;
};

static const char *header(const struct api_call *call, const char *name)
{
	return http_request_header(call->transport, name);
}

static void exit_archive(void *owner)
{
	archive_exit(owner);
}

static ssize_t read_nothing(void *owner, uint64_t offset, char *buf, size_t len)
{
	return -EIO;
}

/* Answers, and ends the call. */
static void send_answer(struct api_call *call, struct http_request *req)
{
	struct http_shape shape = { .delay_ms = (unsigned)(call->delay_ns / 1000000) };
	struct archive *archive = call->api->archive;
	char *text = call->text;
	size_t len = call->text_len;
	unsigned status = call->status;

	if (call->drop) {
		http_request_set_shape(req, &shape);
		api_call_fini(call);
		free(call);
		http_reply_drop(req);
		return;
	}
	for (unsigned i = 0; i < call->nheaders; i++)
		http_request_add_header(req, call->headers[i].name, call->headers[i].value);
	if (call->read) {
		void (*done)(void *owner) = call->read_done;

		http_request_set_shape(req, &shape);
		call->read_done = NULL;		/* the server's from here on */
		http_reply_read(req, status, call->content_type, len, call->read, done, call->read_owner);
	} else if (call->ends) {
		shape.close = true;
		http_request_set_shape(req, &shape);
		http_reply_read(req, status, NULL, 0, read_nothing, exit_archive, archive);
	} else {
		if (call->json) {
			text = call->text = json_dumps(call->json, JSON_COMPACT);
			len = text ? strlen(text) : 0;
			status = text ? status : 500;
		}
		if (call->rate_bytes_s && len) {
			shape.piece_bytes = (size_t)(call->rate_bytes_s * PACE_MS / 1000);
			shape.piece_bytes += shape.piece_bytes == 0;
			shape.pause_ms = PACE_MS;
		}
		http_request_set_shape(req, &shape);
		http_reply(req, status, text ? call->content_type : NULL, text ? text : "", text ? len : 0);
	}
	api_call_fini(call);
	free(call);
}

static void handle(struct serve *s, struct api_call *call, struct http_request *req)
{
	api_handle(call);
	if (call->hang_number)
		watch_hang(s->watch, call, req);
	else
		send_answer(call, req);
}

static void *run_slow(void *arg)
{
	struct job job = *(struct job *)arg;

	free(arg);
	handle(job.serve, job.call, job.req);
	pthread_mutex_lock(&job.serve->lock);
	if (--job.serve->nslow == 0)
		pthread_cond_broadcast(&job.serve->idle);
	pthread_mutex_unlock(&job.serve->lock);
	return NULL;
}

static int start_slow(struct serve *s, struct api_call *call, struct http_request *req)
{
	struct job *job = malloc(sizeof(*job));
	int r = -EAGAIN;

	if (!job)
		return -ENOMEM;
	*job = (struct job){ s, call, req };
	pthread_mutex_lock(&s->lock);
	if (s->nslow < SERVE_SLOW_MAX && !s->closing)
		r = thread_start(NULL, "slow-request", run_slow, job);
	s->nslow += r == 0;
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		free(job);
	return r;
}

/* ---- who may ask ---- */

/* The host part of "host:port" is this machine itself: another name that leads here is a page that plays tricks with names. */
static bool is_loopback_name(const char *host)
{
	size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) || (len == 5 && strncmp(host, "[::1]", 5) == 0) ||
		(strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len);
}

static bool equal_in_constant_time(const char *a, const char *b)
{
	size_t n = strlen(a);
	unsigned char differs = strlen(b) != n;

	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char)(a[i] ^ b[differs ? 0 : i]);
	return !differs;
}

/* The page itself says nothing of the archive; its script asks with the token that is behind the '#' of its address. */
static bool is_public(const char *path)
{
	static const char *const paths[] = { "/", "/app.js", "/style.css", "/openapi.json", "/healthz" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (strcmp(paths[i], path) == 0)
			return true;
	return false;
}

/* False: answered. */
static bool may_ask(const struct port *port, struct api_call *call)
{
	const char *host = header(call, "Host"), *origin = header(call, "Origin"), *site = header(call, "Sec-Fetch-Site");
	const char *authorization = header(call, "Authorization"), *at;

	if (!atomic_load(&port->serve->started)) {
		api_problem(call, 503, NULL, "not mounted yet");
		return false;
	}
	if (port->local)
		return true;
	if (!port->allow_remote && host && !is_loopback_name(host)) {
		api_problem(call, 403, NULL, "this server is known as localhost only, not as '%.100s'", host);
		return false;
	}
	if (is_public(call->path))
		return true;
	/* Another site's page in the user's browser. */
	at = origin ? strstr(origin, "://") : NULL;
	if ((origin && (!at || !host || strcmp(at + 3, host) != 0)) || (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)) {
		api_problem(call, 403, NULL, "requests of other sites' pages are not taken");
		return false;
	}
	if (port->serve->token &&
	    (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0 ||
	     !equal_in_constant_time(authorization + 7, port->serve->token))) {
		api_header(call, "WWW-Authenticate", "Bearer");
		api_problem(call, 401, NULL, "a token is needed: 'Authorization: Bearer TOKEN'");
		return false;
	}
	return true;
}

/* What is stored may be larger than memory. Whoever may not ask fills no disk. */
static int body_file(void *owner, const struct http_request *req)
{
	struct port *port = owner;
	struct api_call call = { .api = &port->serve->api, .method = http_request_method(req), .path = http_request_path(req), .header = header,
				 .transport = (void *)req };	/* header() only reads it */
	bool may = strcmp(call.method, "PUT") == 0 && may_ask(port, &call);

	api_call_fini(&call);
	return may ? open(archive_store(port->serve->api.archive), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
}

static void on_request(void *owner, struct http_request *req)
{
	struct port *port = owner;
	struct serve *s = port->serve;
	struct api_call *call = calloc(1, sizeof(*call));

	if (!call) {
		http_reply(req, 500, NULL, "", 0);
		return;
	}
	call->api = &s->api;
	call->method = http_request_method(req);
	call->path = http_request_path(req);
	call->query = http_request_query(req);
	call->body = http_request_body(req, &call->body_len);
	call->body_fd = http_request_body_file(req, &call->body_file_len);
	call->body_in_file = call->body_fd != -ENOENT;
	call->header = header;
	call->transport = req;
	if (!call->body)
		call->body = "";
	if (!may_ask(port, call)) {
		send_answer(call, req);
	} else if (api_is_wait(call->method, call->path)) {
		watch_take(s->watch, call, req);
	} else if (!api_is_slow(call->method, call->path)) {
		handle(s, call, req);
	} else if (start_slow(s, call, req) < 0) {
		api_problem(call, 503, NULL, "%d requests are being worked on already", SERVE_SLOW_MAX);
		send_answer(call, req);
	}
}

/* ---- life ---- */

int serve_run_dir(bool create, char ret_dir[SERVE_RUN_DIR_BYTES])
{
	const char *given = getenv("MOCKARCHIVE_RUN_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (given && *given)
		n = snprintf(ret_dir, SERVE_RUN_DIR_BYTES, "%s", given);
	else if (geteuid() == 0)
		n = snprintf(ret_dir, SERVE_RUN_DIR_BYTES, "/run/mockarchive");
	else if (runtime && *runtime)
		n = snprintf(ret_dir, SERVE_RUN_DIR_BYTES, "%s/mockarchive", runtime);
	else
		n = snprintf(ret_dir, SERVE_RUN_DIR_BYTES, "/tmp/mockarchive-%u", (unsigned)geteuid());
	if (n >= SERVE_RUN_DIR_BYTES)
		return -ENAMETOOLONG;
	if (create && mkdir(ret_dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(ret_dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
		return -EPERM;
	return 0;
}

static int open_port(struct serve *s, const char *listen, bool allow_remote)
{
	struct port *port = &s->ports[s->nports];
	char text[160];
	struct http_server_options options = { .listen = text, .allow_remote = allow_remote, .threads = SERVER_THREADS,
					       .body_max_bytes = API_BODY_MAX_BYTES, .body_file = body_file,
					       .body_file_max_bytes = API_PUT_MAX_BYTES, .handler = on_request, .owner = port };
	int r;

	snprintf(text, sizeof(text), "%s%s", strspn(listen, "0123456789") == strlen(listen) ? "127.0.0.1:" : "", listen);
	*port = (struct port){ .serve = s, .local = strncmp(text, "unix:", 5) == 0, .allow_remote = allow_remote };
	r = http_server_open(&options, &port->server);
	if (r == 0)
		s->nports++;
	return r;
}

static const char *address(void *owner, unsigned i)
{
	return serve_address(owner, i);
}

int serve_open(struct archive *archive, const struct serve_options *options, struct serve **ret_serve, const char **ret_which)
{
	struct serve *s = calloc(1, sizeof(*s));
	char dir[SERVE_RUN_DIR_BYTES], socket[SERVE_RUN_DIR_BYTES + 32], *kept = NULL;
	int r;

	*ret_which = "";
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->idle, NULL);
	s->api.archive = archive;
	s->api.address = address;
	s->api.owner = s;
	if (options->token && !(s->token = strdup(options->token))) {
		r = -ENOMEM;
		goto fail;
	}
	r = rest_open(archive, options->site ? options->site : "mockarchive", &s->api.rest);
	if (r == 0 && asprintf(&kept, "%s/stage", archive_store(archive)) < 0) {
		kept = NULL;
		r = -ENOMEM;
	}
	if (r == 0)
		r = rest_keep(s->api.rest, kept);
	if (r < 0)
		log_error("cannot keep stage requests in '%s': %s", kept ? kept : "", strerror(-r));
	if (r == 0)
		r = watch_open(&s->api, send_answer, &s->watch);
	if (r < 0)
		goto fail;
	for (unsigned i = 0; i < SERVE_LISTEN_MAX && options->listen[i]; i++) {
		*ret_which = options->listen[i];
		r = open_port(s, options->listen[i], options->allow_remote);
		if (r < 0)
			goto fail;
	}
	if (serve_run_dir(true, dir) == 0) {
		snprintf(socket, sizeof(socket), "unix:%s/%d.sock", dir, (int)getpid());
		(void)open_port(s, socket, false);	/* no such place here: ctl needs --url then, and says so */
	}
	*ret_serve = s;
	free(kept);
	return 0;
fail:
	free(kept);
	serve_close(s);
	return r;
}

void serve_start(struct serve *s)
{
	atomic_store(&s->started, true);
}

void serve_close(struct serve *s)
{
	struct timespec end;
	bool left;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += CLOSE_WAIT_S;
	while (s->nslow && pthread_cond_timedwait(&s->idle, &s->lock, &end) == 0)
		;
	left = s->nslow;
	pthread_mutex_unlock(&s->lock);
	watch_stop(s->watch);
	for (unsigned i = 0; i < s->nports; i++)
		http_server_close(s->ports[i].server);
	if (left)
		return;		/* a write through the mount that does not end: the process does */
	watch_close(s->watch);
	rest_close(s->api.rest);
	pthread_cond_destroy(&s->idle);
	pthread_mutex_destroy(&s->lock);
	free(s->token);
	free(s);
}

const char *serve_address(const struct serve *s, unsigned i)
{
	return i < s->nports ? http_server_address(s->ports[i].server) : NULL;
}
