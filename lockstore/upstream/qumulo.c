/* The client. A call is on one of three lists: waiting (for a token), in a transfer, or done. Transfers are easy handles that
 * are used again; curl keeps the connections.
 *
 * The token: generation n was had by the nth login. A 401 of generation n asks for a login only while n is the newest, so
 * a hundred calls that meet an expired token make one login; each is replayed once with what came. */
#include "lockstore/upstream/qumulo_private.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_FIRST_BYTES 4096	/* of a reply: one with attributes fits */

struct transfer {
	CURL *easy;
	struct qumulo *qumulo;
	struct qumulo_call *call;	/* NULL: idle */
	struct curl_slist *headers;
	char *body;			/* of the reply */
	size_t len, size;
	bool too_long;
	struct upstream_reply head;	/* what headers say */
	struct transfer *next;		/* of the idle */
};

struct qumulo {
	struct endpoint endpoint;
	struct upstream_credentials *credentials;
	char *ca_file;
	bool insecure;
	unsigned connections, in_flight_max, connect_timeout_ms, timeout_ms;
	unsigned connections_now;	/* what curl was told: see limit_connections() */
	CURLM *multi;
	struct transfer *transfers;	/* in_flight_max, and one for the login */
	struct transfer *idle;
	unsigned in_flight;		/* calls that were started and are not done, the login not counted */
	char *token;			/* NULL: none */
	uint64_t token_generation;
	struct qumulo_call *waiting, **waiting_tail;	/* for a login */
	struct qumulo_call login;
	bool logging_in;
};

int qumulo_init(void)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -EIO;
}

static void drop_token(struct qumulo *q)
{
	if (q->token)
		OPENSSL_cleanse(q->token, strlen(q->token));
	free(q->token);
	q->token = NULL;
}

/* ---- opening ---- */

/* With HTTP/2 a connection takes QUMULO_STREAMS calls, and curl opens one for every call beyond that, since a new connection takes
 * none before its handshake is over. So there is one until an answer says what is spoken. */
static void limit_connections(struct qumulo *q, unsigned n)
{
	if (n > q->connections)
		n = q->connections;
	if (n == q->connections_now)
		return;
	q->connections_now = n;
	curl_multi_setopt(q->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)n);
}

static void note_protocol(struct qumulo *q, CURL *easy)
{
	long version = 0;

	if (curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version) != CURLE_OK || !version)
		return;
	limit_connections(q, version >= CURL_HTTP_VERSION_2_0 ? (q->in_flight_max + QUMULO_STREAMS - 1) / QUMULO_STREAMS : q->connections);
}

int qumulo_open(const struct qumulo_config *config, struct qumulo **ret_qumulo)
{
	struct qumulo *q;
	unsigned n;
	int r = -ENOMEM;

	if (config->ca_file && access(config->ca_file, R_OK) < 0)
		return -errno;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->endpoint = config->endpoint;
	q->credentials = config->credentials;
	q->insecure = config->insecure;
	q->connections = config->connections ? config->connections : QUMULO_CONNECTIONS;
	q->in_flight_max = config->in_flight ? config->in_flight : QUMULO_IN_FLIGHT;
	q->connect_timeout_ms = config->connect_timeout_ms ? config->connect_timeout_ms : QUMULO_CONNECT_TIMEOUT_MS;
	q->timeout_ms = config->timeout_ms ? config->timeout_ms : QUMULO_TIMEOUT_MS;
	q->waiting_tail = &q->waiting;
	n = q->in_flight_max + 1;
	q->transfers = calloc(n, sizeof(*q->transfers));
	q->multi = curl_multi_init();
	if (!q->transfers || !q->multi)
		goto fail;
	if (config->ca_file && !(q->ca_file = strdup(config->ca_file)))
		goto fail;
	for (unsigned i = 0; i < n; i++) {
		struct transfer *t = &q->transfers[i];

		t->qumulo = q;
		t->next = q->idle;
		q->idle = t;
	}
	curl_multi_setopt(q->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	limit_connections(q, q->endpoint.plain ? q->connections : 1);	/* HTTP/2 is spoken over TLS only */
	curl_multi_setopt(q->multi, CURLMOPT_MAXCONNECTS, (long)q->connections);
	*ret_qumulo = q;
	return 0;
fail:
	qumulo_close(q);
	return r;
}

static void transfer_clear(struct transfer *t)
{
	/* The Authorization header is among them. */
	for (struct curl_slist *h = t->headers; h; h = h->next)
		OPENSSL_cleanse(h->data, strlen(h->data));
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	if (t->call && t->call->question == UPSTREAM_LOGIN && t->body)
		OPENSSL_cleanse(t->body, t->size);
	t->len = 0;
	t->too_long = false;
	t->call = NULL;
	t->head = (struct upstream_reply){ .status = 0 };
}

void qumulo_close(struct qumulo *q)
{
	if (!q)
		return;
	for (unsigned i = 0; q->transfers && i <= q->in_flight_max; i++) {
		struct transfer *t = &q->transfers[i];

		if (t->call) {
			curl_multi_remove_handle(q->multi, t->easy);
			qumulo_call_fini(t->call);
			transfer_clear(t);
		}
		if (t->easy)
			curl_easy_cleanup(t->easy);
		free(t->body);
	}
	for (struct qumulo_call *call = q->waiting; call; call = call->next)
		qumulo_call_fini(call);
	if (q->multi)
		curl_multi_cleanup(q->multi);
	drop_token(q);
	free(q->transfers);
	free(q->ca_file);
	free(q);
}

/* ---- a transfer ---- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n, want;
	char *body;

	if (len > UPSTREAM_REPLY_MAX_BYTES - t->len) {
		t->too_long = true;
		return 0;
	}
	if (t->len + len > t->size) {
		for (want = t->size ? t->size : BODY_FIRST_BYTES; want < t->len + len; want *= 2)
			;
		body = malloc(want);
		if (!body)
			return 0;
		if (t->body) {
			memcpy(body, t->body, t->len);
			OPENSSL_cleanse(t->body, t->size);
			free(t->body);
		}
		t->body = body;
		t->size = want;
	}
	memcpy(t->body + t->len, data, len);
	t->len += len;
	return len;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	upstream_reply_header(&t->head, data, size * n);
	return size * n;
}

/* Without TLS the name "localhost" is not enough: what it means is looked at. */
static curl_socket_t open_loopback(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	const struct sockaddr_in *four = (const void *)&address->addr;
	const struct sockaddr_in6 *six = (const void *)&address->addr;
	bool loopback = address->family == AF_INET ? ntohl(four->sin_addr.s_addr) >> 24 == 127 :
			address->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);

	if (!loopback)
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static curl_socket_t open_any(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

void qumulo_set_transport(struct qumulo *q, void *easy)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);	/* a name server that is silent holds up no unmount */
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, q->endpoint.plain ? "http" : "https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)q->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, q->endpoint.plain ? open_loopback : open_any);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "wormfs/" WORMFS_VERSION);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, q->insecure ? 0L : 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, q->insecure ? 0L : 2L);
	if (q->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, q->ca_file);
}

static int add_header(struct transfer *t, const char *name, const char *value)
{
	struct curl_slist *longer;
	char *line;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return -ENOMEM;
	longer = curl_slist_append(t->headers, line);
	OPENSSL_cleanse(line, strlen(line));
	free(line);
	if (!longer)
		return -ENOMEM;
	t->headers = longer;
	return 0;
}

static bool needs_token(const struct qumulo_call *call)
{
	return call->question != UPSTREAM_LOGIN && call->question != UPSTREAM_VERSION;
}

static int set_request(struct qumulo *q, struct transfer *t, struct qumulo_call *call)
{
	char *url, *bearer;
	int r = 0;

	if (asprintf(&url, "%s%s", q->endpoint.url, call->path) < 0)
		return -ENOMEM;
	if (curl_easy_setopt(t->easy, CURLOPT_URL, url) != CURLE_OK)
		r = -ENOMEM;
	free(url);
	if (r == 0 && call->body)
		r = add_header(t, "Content-Type", "application/json");
	if (r == 0 && call->body)
		r = add_header(t, "Expect", "");	/* no 100-continue: a round trip for nothing */
	if (r == 0 && call->if_match[0])
		r = add_header(t, "If-Match", call->if_match);
	if (r == 0 && needs_token(call)) {
		if (asprintf(&bearer, "Bearer %s", q->token) < 0)
			return -ENOMEM;
		r = add_header(t, "Authorization", bearer);
		OPENSSL_cleanse(bearer, strlen(bearer));
		free(bearer);
	}
	return r;
}

/* Hands the call to curl. There is an idle transfer, and a token if it needs one. */
static int send_call(struct qumulo *q, struct qumulo_call *call)
{
	struct transfer *t = q->idle;
	int r = -ENOMEM;

	if (!t->easy) {
		t->easy = curl_easy_init();
		if (!t->easy)
			return -ENOMEM;
		curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
		curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
		curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
		curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
		curl_easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
		curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
		curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
		curl_easy_setopt(t->easy, CURLOPT_PIPEWAIT, 1L);
		qumulo_set_transport(q, t->easy);
	}
	r = set_request(q, t, call);
	if (r < 0)
		goto fail;
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
	if (call->body) {
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, call->body);
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(call->body));
	} else {
		curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L);
	}
	curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, call->method);
	call->token_generation = q->token_generation;
	t->call = call;
	if (curl_multi_add_handle(q->multi, t->easy) != CURLM_OK) {
		r = -ENOMEM;
		goto fail;
	}
	q->idle = t->next;
	return 0;
fail:
	transfer_clear(t);
	return r;
}

static void finish(struct qumulo *q, struct qumulo_call *call, struct upstream_reply *reply)
{
	if (call != &q->login)
		q->in_flight--;
	/* done() may reuse or free the call, so what is ours in it goes first. */
	qumulo_call_fini(call);
	call->done(call, reply);
	upstream_reply_fini(reply);
}

static void finish_failed(struct qumulo *q, struct qumulo_call *call, const char *why)
{
	struct upstream_reply reply = { .outcome = UPSTREAM_AWAY };

	snprintf(reply.text, sizeof(reply.text), "%s", why);
	finish(q, call, &reply);
}

/* ---- logging in ---- */

static void send_waiting(struct qumulo *q)
{
	struct qumulo_call *call = q->waiting, *next;

	q->waiting = NULL;
	q->waiting_tail = &q->waiting;
	for (; call; call = next) {
		next = call->next;
		if (send_call(q, call) < 0)
			finish_failed(q, call, "out of memory");
	}
}

/* All that wait have the answer that the login had. */
static void fail_waiting(struct qumulo *q, const struct upstream_reply *why)
{
	struct qumulo_call *call = q->waiting, *next;

	q->waiting = NULL;
	q->waiting_tail = &q->waiting;
	for (; call; call = next) {
		struct upstream_reply reply = { .outcome = why->outcome, .status = why->status, .retry_after_s = why->retry_after_s,
						.date_s = why->date_s };

		next = call->next;
		/* Whatever the login's fault is, the question was not asked. */
		if (reply.outcome != UPSTREAM_BUSY && reply.outcome != UPSTREAM_AWAY && reply.outcome != UPSTREAM_UNCLEAR)
			reply.outcome = UPSTREAM_UNAUTHORISED;
		else if (reply.outcome == UPSTREAM_UNCLEAR)
			reply.outcome = UPSTREAM_AWAY;
		memcpy(reply.error_class, why->error_class, sizeof(reply.error_class));
		snprintf(reply.text, sizeof(reply.text), "login: %.*s", (int)sizeof(reply.text) - 8, why->text);
		finish(q, call, &reply);
	}
}

static void take_token(struct qumulo *q, const char *token)
{
	drop_token(q);
	q->token = strdup(token);
	q->token_generation++;
}

static void on_login(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct qumulo *q = call->arg;

	q->logging_in = false;
	if (reply->outcome == UPSTREAM_DONE)
		take_token(q, reply->token);
	if (reply->outcome == UPSTREAM_DONE && q->token)
		send_waiting(q);
	else
		fail_waiting(q, reply);
}

/* The call waits for a token, which is fetched unless somebody does so already. *q->token is not there. */
static int wait_for_token(struct qumulo *q, struct qumulo_call *call)
{
	const char *token = q->credentials ? upstream_credentials_token(q->credentials) : NULL;
	int r;

	if (!q->credentials)
		return -EACCES;
	if (token) {
		take_token(q, token);
		return q->token ? send_call(q, call) : -ENOMEM;
	}
	call->next = NULL;
	if (!q->logging_in) {
		q->login = (struct qumulo_call){ .done = on_login, .arg = q };
		r = qumulo_ask_login(&q->login, upstream_credentials_user(q->credentials), upstream_credentials_password(q->credentials));
		if (r == 0)
			r = send_call(q, &q->login);
		if (r < 0) {
			qumulo_call_fini(&q->login);
			return r;
		}
		q->logging_in = true;
	}
	*q->waiting_tail = call;
	q->waiting_tail = &call->next;
	return 0;
}

/* A 401: is there reason to believe that another try has another answer? Then the call is on its way again. */
static bool replay(struct qumulo *q, struct qumulo_call *call)
{
	char error[CREDENTIALS_ERROR_BYTES];
	int r;

	if (call->replayed || !needs_token(call) || !q->credentials)
		return false;
	call->replayed = true;
	if (q->token && call->token_generation < q->token_generation)
		return send_call(q, call) == 0;	/* somebody has logged in meanwhile */
	r = q->logging_in ? 0 : upstream_credentials_reload(q->credentials, error);
	if (r <= 0 && upstream_credentials_token(q->credentials))
		return false;	/* a token that is not accepted stays so until the file has another */
	drop_token(q);
	return wait_for_token(q, call) == 0;
}

/* ---- starting ---- */

int qumulo_start(struct qumulo *q, struct qumulo_call *call)
{
	int r;

	if (!call->path) {
		r = -ENOMEM;
	} else if (q->in_flight >= q->in_flight_max) {
		r = -EAGAIN;
	} else {
		q->in_flight++;
		r = q->token || !needs_token(call) ? send_call(q, call) : wait_for_token(q, call);
		if (r < 0)
			q->in_flight--;
	}
	if (r < 0)
		qumulo_call_fini(call);
	return r;
}

/* ---- running ---- */

/* Did bytes of ours go out? If not, the cluster cannot have acted on them. */
static bool was_sent(CURL *easy)
{
	long request = 0;

	curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request);
	return request > 0;
}

/* The connection went, and all that was on it: its local port, which is its name. 0: it is about this call alone. */
static uint16_t cut_connection(CURL *easy, CURLcode code)
{
	long port = 0;

	switch (code) {
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_HTTP2:
	case CURLE_PARTIAL_FILE:
		curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port);
		return port > 0 ? (uint16_t)port : 0;
	default:
		return 0;
	}
}

static const char *transport_text(CURLcode code)
{
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
		return "its certificate is not trusted: give push_ca=FILE with the certificate it was signed by";
	case CURLE_SSL_CACERT_BADFILE:
		return "the file with the trusted certificates cannot be used";
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_HTTP2:
		return "it closed the connection before it answered";
	default:
		return curl_easy_strerror(code);
	}
}

static int read_reply(struct transfer *t, CURLcode code, struct upstream_reply *ret_reply)
{
	enum upstream_question question = t->call->question;
	long status = 0;
	int r;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK) {
		r = upstream_reply_parse(question, (int)status, t->body ? t->body : "", t->len, ret_reply);
		if (r < 0)
			return r;
	} else {
		*ret_reply = (struct upstream_reply){ .outcome = UPSTREAM_AWAY, .status = (int)status, .open = was_sent(t->easy),
						      .cut_port = cut_connection(t->easy, code) };
		if (status) {
			/* The status came whole, its body not: the status decides. */
			ret_reply->outcome = status / 100 == 2 ? UPSTREAM_UNCLEAR : upstream_classify((int)status, "");
			ret_reply->open = ret_reply->outcome == UPSTREAM_AWAY || ret_reply->outcome == UPSTREAM_UNCLEAR;
		}
		snprintf(ret_reply->text, sizeof(ret_reply->text), "%s",
			 t->too_long ? "the reply is longer than 1 MiB" : transport_text(code));
	}
	memcpy(ret_reply->etag, t->head.etag, sizeof(ret_reply->etag));
	ret_reply->retry_after_s = t->head.retry_after_s;
	ret_reply->date_s = t->head.date_s;
	return 0;
}

static void complete(struct qumulo *q, struct transfer *t, CURLcode code)
{
	struct qumulo_call *call = t->call;
	struct upstream_reply reply;
	int r;

	curl_multi_remove_handle(q->multi, t->easy);
	note_protocol(q, t->easy);
	r = read_reply(t, code, &reply);
	transfer_clear(t);
	t->next = q->idle;
	q->idle = t;
	if (r < 0) {
		upstream_reply_fini(&reply);
		finish_failed(q, call, "out of memory");
	} else if (reply.outcome == UPSTREAM_UNAUTHORISED && replay(q, call)) {
		upstream_reply_fini(&reply);
	} else {
		finish(q, call, &reply);
	}
}

int qumulo_run(struct qumulo *q, unsigned timeout_ms)
{
	CURLMsg *msg;
	int running, left;
	bool moved = false;

	if (curl_multi_perform(q->multi, &running) != CURLM_OK)
		return -EIO;
	while ((msg = curl_multi_info_read(q->multi, &left))) {
		struct transfer *t;
		CURLcode code = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
		complete(q, t, code);
		moved = true;
	}
	/* Calls that done() has started are handed to curl before anybody waits. */
	if (moved)
		return 0;
	return curl_multi_poll(q->multi, NULL, 0, (int)timeout_ms, NULL) == CURLM_OK ? 0 : -EIO;
}

void qumulo_wake(struct qumulo *q)
{
	(void)curl_multi_wakeup(q->multi);	/* fails only without memory; then the wait ends by its time */
}

unsigned qumulo_in_flight(const struct qumulo *q)
{
	return q->in_flight;
}

unsigned qumulo_in_flight_max(const struct qumulo *q)
{
	return q->in_flight_max;
}

static void on_waited(struct qumulo_call *call, struct upstream_reply *reply)
{
	*(struct upstream_reply *)call->arg = *reply;
	*reply = (struct upstream_reply){ .status = 0 };	/* its strings are the waiter's now */
	call->done = NULL;
}

int qumulo_wait(struct qumulo *q, struct qumulo_call *call, int started, struct upstream_reply *ret_reply)
{
	int r = started;

	if (r < 0)
		return r;
	call->done = on_waited;
	call->arg = ret_reply;
	while (r == 0 && call->done)
		r = qumulo_run(q, 1000);
	return r;
}

int qumulo_token(struct qumulo *q, const char **ret_token, struct upstream_reply *ret_reply)
{
	struct qumulo_call call;
	int r;

	*ret_reply = (struct upstream_reply){ .status = 0 };
	r = qumulo_wait(q, &call, qumulo_who_am_i(q, &call), ret_reply);
	if (r < 0)
		return r;
	if (ret_reply->outcome != UPSTREAM_DONE || !q->token)
		return -EACCES;
	*ret_token = q->token;
	return 0;
}
