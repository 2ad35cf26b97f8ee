/* Requests between libmicrohttpd and a handler: who holds them, when their connection sleeps, and when it goes on.
 * A connection is suspended only under its request's lock and with `suspended` set, so it is resumed exactly once; and no
 * suspended connection outlives http_server_close(), which libmicrohttpd would answer with abort(). */
#include "mockarchive/http_server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "mockarchive/http_private.h"

#define DRAIN_MAX_BYTES (4 << 20)	/* of a body past the limit, before the connection is closed without a word */

/* ---- references, sleeping and waking ---- */

static void server_put(struct http_server *s)
{
	if (atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s->unlink_path);
	free(s);
}

void http_request_ref(struct http_request *req)
{
	atomic_fetch_add(&req->refs, 1);
}

void http_request_put(struct http_request *req)
{
	if (atomic_fetch_sub(&req->refs, 1) > 1)
		return;
	if (req->response)
		MHD_destroy_response(req->response);
	http_stream_free(req->stream);
	for (unsigned i = 0; i < req->nheaders; i++) {
		free(req->headers[i][0]);
		free(req->headers[i][1]);
	}
	pthread_mutex_destroy(&req->lock);
	free(req->shaped);
	free(req->target);
	free(req->method);
	free(req->body);
	if (req->in_file)
		close(req->body_fd);
	server_put(req->server);
	free(req);
}

void http_request_wake_locked(struct http_request *req)
{
	if (!req->suspended)
		return;
	req->suspended = false;
	MHD_resume_connection(req->conn);
}

bool http_request_sleep_locked(struct http_request *req)
{
	if (atomic_load(&req->server->closing))
		return false;
	MHD_suspend_connection(req->conn);
	req->suspended = true;
	return true;
}

static void on_timer(struct http_timer_entry *entry)
{
	struct http_request *req = (struct http_request *)((char *)entry - offsetof(struct http_request, timer));
	int64_t next_ns = 0;

	pthread_mutex_lock(&req->lock);
	if (req->waiting) {
		req->waiting = false;
		http_request_wake_locked(req);
	}
	if (req->stream && !req->completed)
		next_ns = http_stream_tick_locked(req);
	entry->due_ns = next_ns;
	pthread_mutex_unlock(&req->lock);
	if (!next_ns || http_timer_add(req->server->timer, entry) < 0)
		http_request_put(req);
}

void http_request_wake_after_locked(struct http_request *req, int64_t delay_ns)
{
	req->timer.fn = on_timer;
	req->timer.due_ns = http_timer_now_ns() + delay_ns;
	req->waiting = delay_ns > 0;
	http_request_ref(req);
	if (http_timer_add(req->server->timer, &req->timer) < 0) {
		req->waiting = false;	/* too early is better than never */
		http_request_put(req);	/* not the last one: the caller's is left */
	}
}

void http_request_answer(struct http_request *req, unsigned status, struct MHD_Response *response)
{
	for (unsigned i = 0; response && i < req->nheaders; i++)
		(void)MHD_add_response_header(response, req->headers[i][0], req->headers[i][1]);	/* the handler's bug otherwise */
	if (response && req->shape.close)
		(void)MHD_add_response_header(response, "Connection", "close");
	pthread_mutex_lock(&req->lock);
	assert(!req->answered);
	req->answered = true;
	req->dropped = !response;
	req->response = response;
	req->status = status;
	if (req->shape.delay_ms || req->stream)
		http_request_wake_after_locked(req, req->shape.delay_ms * 1000000LL);
	if (!req->waiting)
		http_request_wake_locked(req);
	pthread_mutex_unlock(&req->lock);
	http_request_put(req);
}

/* ---- what libmicrohttpd calls ---- */

static size_t unescape_nothing(void *cls, struct MHD_Connection *conn, char *text)
{
	return strlen(text);
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **context, enum MHD_ConnectionNotificationCode code)
{
	struct http_server *s = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		*context = (void *)(uintptr_t)(atomic_fetch_add(&s->connections, 1) + 1);
}

/* The first that is heard of a request. What is returned comes back as *context. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *conn)
{
	struct http_server *s = cls;
	struct http_request *req = calloc(1, sizeof(*req));
	char *question;

	if (!req)
		return NULL;
	req->target = strdup(uri);
	if (!req->target) {
		free(req);
		return NULL;
	}
	question = strchr(req->target, '?');
	if (question) {
		*question = '\0';
		req->query = question + 1;
	}
	req->refs = 1;
	req->conn = conn;
	req->server = s;
	pthread_mutex_init(&req->lock, NULL);
	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_lock(&s->lock);
	req->next = s->requests;
	req->link = &s->requests;
	if (req->next)
		req->next->link = &req->next;
	s->requests = req;
	pthread_mutex_unlock(&s->lock);
	return req;
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **context, enum MHD_RequestTerminationCode code)
{
	struct http_request *req = *context;
	struct http_server *s = cls;

	*context = NULL;
	if (!req)
		return;
	pthread_mutex_lock(&s->lock);
	*req->link = req->next;
	if (req->next)
		req->next->link = req->link;
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_lock(&req->lock);
	req->completed = true;
	pthread_mutex_unlock(&req->lock);
	if (req->stream)
		http_stream_completed(req);
	http_request_put(req);
}

/* Replies if there is a reply, else the connection sleeps until there is one. */
static enum MHD_Result settle(struct http_request *req)
{
	struct MHD_Response *response = NULL;
	enum MHD_Result result = MHD_NO;

	pthread_mutex_lock(&req->lock);
	if (!req->answered || req->waiting) {
		if (http_request_sleep_locked(req))
			result = MHD_YES;
	} else {
		response = req->response;
		req->response = NULL;
	}
	pthread_mutex_unlock(&req->lock);
	/* Without the lock: libmicrohttpd has one of its own for the response, which it holds when it asks for more of the body. */
	if (response) {
		result = MHD_queue_response(req->conn, req->status, response);
		MHD_destroy_response(response);
	}
	return result;
}

static uint64_t body_limit(const struct http_request *req)
{
	const struct http_server_options *options = &req->server->options;

	return req->in_file ? options->body_file_max_bytes : options->body_max_bytes;
}

static enum MHD_Result refuse_body(struct http_request *req)
{
	req->handled = true;
	http_request_ref(req);
	http_reply_json(req, MHD_HTTP_CONTENT_TOO_LARGE, json_pack("{s:s, s:I}", "error", "the body is too large",
		"limit_bytes", (json_int_t)body_limit(req)));
	return settle(req);
}

static enum MHD_Result take_head(struct http_request *req, const char *method)
{
	const struct http_server_options *options = &req->server->options;
	const char *length = MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	req->head_seen = true;
	req->method = strdup(method);
	if (!req->method)
		return MHD_NO;
	if (options->body_file) {
		req->body_fd = options->body_file(options->owner, req);
		req->in_file = req->body_fd >= 0;
	}
	if (length && strtoull(length, NULL, 10) > body_limit(req))
		return refuse_body(req);
	return MHD_YES;
}

/* What finds no room is read and dropped, so that the client hears of it at the end; beyond the limit the connection is closed. */
static enum MHD_Result take_into_file(struct http_request *req, const char *data, size_t len)
{
	if (len > req->server->options.body_file_max_bytes - req->file_len)
		req->too_large = true;
	while (len > 0 && !req->too_large && !req->body_error) {
		ssize_t n = pwrite(req->body_fd, data, len, (off_t)req->file_len);

		if (n < 0 && errno != EINTR)
			req->body_error = -errno;
		if (n > 0) {
			data += n;
			len -= n;
			req->file_len += n;
		}
	}
	return req->too_large ? MHD_NO : MHD_YES;
}

static enum MHD_Result take_body(struct http_request *req, const char *data, size_t len)
{
	size_t max = req->server->options.body_max_bytes;

	if (req->in_file)
		return take_into_file(req, data, len);
	/* A chunked body tells its length by its end only. What is too much is read, and dropped, so that the client hears of it. */
	if (!req->too_large && len > max - req->body_len) {
		req->too_large = true;
		req->body_len = 0;
	}
	if (req->too_large) {
		req->body_len += len;
		return req->body_len > DRAIN_MAX_BYTES ? MHD_NO : MHD_YES;
	}
	if (req->body_len + len + 1 > req->body_size) {
		size_t size = 2 * (req->body_len + len) + 1;
		char *body = realloc(req->body, size);

		if (!body)
			return MHD_NO;
		req->body = body;
		req->body_size = size;
	}
	memcpy(req->body + req->body_len, data, len);
	req->body_len += len;
	req->body[req->body_len] = '\0';
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
	const char *version, const char *data, size_t *len, void **context)
{
	struct http_request *req = *context;
	struct http_server *s = cls;

	if (!req)
		return MHD_NO;
	if (!req->head_seen)
		return take_head(req, method);
	if (*len) {
		enum MHD_Result result = take_body(req, data, *len);

		*len = 0;
		return result;
	}
	if (!req->handled && req->too_large)
		return refuse_body(req);
	if (!req->handled) {
		req->handled = true;
		http_request_ref(req);
		s->options.handler(s->options.owner, req);
	}
	return settle(req);
}

/* ---- the request, as its handler sees it ---- */

const char *http_request_method(const struct http_request *req)
{
	return req->method;
}

const char *http_request_path(const struct http_request *req)
{
	return req->target;
}

const char *http_request_query(const struct http_request *req)
{
	return req->query;
}

const char *http_request_header(const struct http_request *req, const char *name)
{
	return MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, name);
}

struct each_header {
	void (*fn)(void *arg, const char *name, const char *value);
	void *arg;
};

static enum MHD_Result each_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct each_header *each = cls;

	each->fn(each->arg, name, value ? value : "");
	return MHD_YES;
}

void http_request_each_header(const struct http_request *req, void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
	struct each_header each = { fn, arg };

	(void)MHD_get_connection_values(req->conn, MHD_HEADER_KIND, each_header, &each);
}

const void *http_request_body(const struct http_request *req, size_t *ret_len_bytes)
{
	*ret_len_bytes = req->body_len;
	return req->body ? req->body : "";
}

int http_request_body_file(const struct http_request *req, uint64_t *ret_len_bytes)
{
	if (!req->in_file)
		return -ENOENT;
	if (req->body_error)
		return req->body_error;
	*ret_len_bytes = req->file_len;
	return req->body_fd;
}

uint64_t http_request_connection(const struct http_request *req)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? (uintptr_t)info->socket_context : 0;
}

int http_request_peer_uid(const struct http_request *req, unsigned *ret_uid)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (!info || !req->server->unlink_path)
		return -EOPNOTSUPP;
	if (getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	*ret_uid = peer.uid;
	return 0;
}

/* ---- the server ---- */

static void take_options(struct http_server *s, const struct http_server_options *options)
{
	s->options = *options;
	s->options.listen = s->options.cert_pem = s->options.key_pem = NULL;
	if (!s->options.threads)
		s->options.threads = 1;
	if (!s->options.body_max_bytes)
		s->options.body_max_bytes = HTTP_BODY_MAX_BYTES;
	if (!s->options.head_max_bytes)
		s->options.head_max_bytes = HTTP_HEAD_MAX_BYTES;
	if (!s->options.connections_max)
		s->options.connections_max = HTTP_CONNECTIONS_MAX;
	if (!s->options.idle_s)
		s->options.idle_s = HTTP_IDLE_S;
}

/* libmicrohttpd finds out at the first handshake, and then says it to nobody. */
static bool is_key_pair(const char *cert_pem, const char *key_pem)
{
	gnutls_datum_t cert = { (unsigned char *)cert_pem, strlen(cert_pem) }, key = { (unsigned char *)key_pem, strlen(key_pem) };
	gnutls_certificate_credentials_t credentials;
	bool ok;

	if (gnutls_certificate_allocate_credentials(&credentials) < 0)
		return false;
	ok = gnutls_certificate_set_x509_key_mem(credentials, &cert, &key, GNUTLS_X509_FMT_PEM) >= 0;
	gnutls_certificate_free_credentials(credentials);
	return ok;
}

static void log_nothing(void *cls, const char *format, va_list args)
{
}

/* libmicrohttpd closes fd with the daemon, and only then. */
static int start_daemon(struct http_server *s, const struct http_server_options *options, int fd)
{
	bool tls = options->cert_pem != NULL;
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
		(tls ? MHD_USE_TLS : 0) | (s->options.no_date ? MHD_USE_SUPPRESS_DATE_NO_CLOCK : 0);
	struct MHD_OptionItem extra[] = {
		{ MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)options->cert_pem },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)options->key_pem },
		{ MHD_OPTION_END, 0, NULL },
	};

	s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s,
		MHD_OPTION_EXTERNAL_LOGGER, log_nothing, NULL,
		MHD_OPTION_STRICT_FOR_CLIENT, 1,	/* a client's faults are to show in a test */
		MHD_OPTION_LISTEN_SOCKET, fd,
		/* Its own pool of one is an error to libmicrohttpd. */
		MHD_OPTION_THREAD_POOL_SIZE, s->options.threads > 1 ? s->options.threads : 0,
		MHD_OPTION_CONNECTION_LIMIT, s->options.connections_max,
		MHD_OPTION_CONNECTION_TIMEOUT, s->options.idle_s,
		/* The head, what libmicrohttpd makes of it, and the head of the reply share one pool. */
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, s->options.head_max_bytes + (16 << 10),
		MHD_OPTION_UNESCAPE_CALLBACK, unescape_nothing, NULL,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, s,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
		MHD_OPTION_ARRAY, tls ? extra : extra + 2, MHD_OPTION_END);
	return s->daemon ? 0 : -EIO;
}

int http_server_open(const struct http_server_options *options, struct http_server **ret_server)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int fd = -1, r;

	if (!s)
		return -ENOMEM;
	s->refs = 1;
	pthread_mutex_init(&s->lock, NULL);
	take_options(s, options);
	if (options->cert_pem && !is_key_pair(options->cert_pem, options->key_pem)) {
		r = -EBADMSG;
		goto out;
	}
	r = http_timer_open(&s->timer);
	if (r < 0)
		goto out;
	r = http_listen(options->listen, options->allow_remote, &fd, s->address);
	if (r < 0)
		goto out;
	if (strncmp(s->address, "unix:", 5) == 0) {
		s->unlink_path = strdup(s->address + 5);
		if (!s->unlink_path) {
			r = -ENOMEM;
			goto out;
		}
	}
	r = start_daemon(s, options, fd);
	if (r < 0)
		goto out;
	*ret_server = s;
	s = NULL;
out:
	if (s) {
		if (fd >= 0)
			close(fd);
		if (s->unlink_path)
			(void)unlink(s->unlink_path);	/* a stale one is replaced at the next start */
		http_timer_close(s->timer);
		server_put(s);
	}
	return r;
}

void http_server_close(struct http_server *s)
{
	if (!s)
		return;
	/* From here on nothing falls asleep any more; what sleeps is woken, finds the server closing, and ends. */
	atomic_store(&s->closing, true);
	pthread_mutex_lock(&s->lock);
	for (struct http_request *req = s->requests; req; req = req->next) {
		pthread_mutex_lock(&req->lock);
		http_request_wake_locked(req);
		pthread_mutex_unlock(&req->lock);
	}
	pthread_mutex_unlock(&s->lock);
	MHD_stop_daemon(s->daemon);
	if (s->unlink_path)
		(void)unlink(s->unlink_path);	/* a stale one is replaced at the next start */
	http_timer_close(s->timer);
	s->timer = NULL;
	server_put(s);
}

const char *http_server_address(const struct http_server *s)
{
	return s->address;
}
