/* CloudEvents over HTTP POST, one a request or many. What was answered with 2xx is delivered; everything else is sent again,
 * later and later, from the ring. Whoever waits for an answer is the sink's thread, nobody else. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lockstore/events/cloudevent.h"
#include "lockstore/events/event_sink.h"
#include "lockstore/upstream/credentials.h"

#define BATCH_EVENTS 500
#define BATCH_BYTES 262144
#define CONNECT_TIMEOUT_MS 10000L
#define ANSWER_TIMEOUT_MS 30000L
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 60000
#define REFUSALS_MAX 4	/* an event that is refused as it is so often is passed over, and counted */

struct cloudevents_sink {
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	bool batch;
	unsigned limit;		/* events of a batch: less when they are too many for the receiver */
	unsigned failures;	/* without a success */
	unsigned refusals;	/* of the event that is alone in its request */
	unsigned n;		/* events in the body */
	uint64_t next;		/* number after them */
	unsigned jitter;
	size_t len;
	char body[BATCH_BYTES + CLOUDEVENT_MAX + 2];
};

/* Without TLS only to this machine, whatever a name means. */
static curl_socket_t open_loopback(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	const struct sockaddr_in *four = (const void *)&address->addr;
	const struct sockaddr_in6 *six = (const void *)&address->addr;
	bool loopback = address->family == AF_INET ? ntohl(four->sin_addr.s_addr) >> 24 == 127 :
			address->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);

	return loopback ? socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol) : CURL_SOCKET_BAD;
}

static curl_socket_t open_any(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* The answer's body says nothing to us; bounded by the time. */
static size_t ignore_bytes(char *bytes, size_t size, size_t n, void *arg)
{
	return size * n;
}

static int check_url(const char *where)
{
	char *host = NULL, *scheme = NULL, *user = NULL;
	CURLU *url = curl_url();
	int r = url ? 0 : -ENOMEM;

	if (r == 0 && (curl_url_set(url, CURLUPART_URL, where, 0) != CURLUE_OK || curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
		       curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK))
		r = -EINVAL;
	if (r == 0 && strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		r = -EINVAL;
	/* Options are seen by everybody: who we are stands in a file. */
	if (r == 0 && curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK)
		r = -EINVAL;
	curl_free(host);
	curl_free(scheme);
	curl_free(user);
	curl_url_cleanup(url);
	return r;
}

/* ---- connection ---- */

static void disconnect_http(struct event_sink *sink)
{
	struct cloudevents_sink *own = sink->own;

	if (own->multi && own->easy)
		curl_multi_remove_handle(own->multi, own->easy);
	curl_easy_cleanup(own->easy);
	curl_multi_cleanup(own->multi);
	curl_slist_free_all(own->headers);
	own->easy = NULL;
	own->multi = NULL;
	own->headers = NULL;
	own->n = own->len = 0;
	if (sink->fd >= 0)
		close(sink->fd);
	sink->fd = -1;
}

static int add_header(struct cloudevents_sink *own, const char *line)
{
	struct curl_slist *longer = curl_slist_append(own->headers, line);

	if (!longer)
		return -ENOMEM;
	own->headers = longer;
	return 0;
}

/* Read anew with each connection: it may have been changed. */
static int identify(struct event_sink *sink)
{
	struct cloudevents_sink *own = sink->own;
	struct upstream_credentials *credentials;
	char error[CREDENTIALS_ERROR_BYTES], line[8192];
	int r;

	if (!sink->opt.credentials)
		return 0;
	r = upstream_credentials_open(sink->opt.credentials, &credentials, error);
	if (r < 0)
		return r;
	if (upstream_credentials_token(credentials)) {
		r = snprintf(line, sizeof(line), "Authorization: Bearer %s", upstream_credentials_token(credentials)) < (int)sizeof(line) ?
		    add_header(own, line) : -EMSGSIZE;
		explicit_bzero(line, sizeof(line));
	} else {
		curl_easy_setopt(own->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		curl_easy_setopt(own->easy, CURLOPT_USERNAME, upstream_credentials_user(credentials));
		curl_easy_setopt(own->easy, CURLOPT_PASSWORD, upstream_credentials_password(credentials));
	}
	upstream_credentials_close(credentials);
	return r;
}

static int connect_http(struct event_sink *sink)
{
	struct cloudevents_sink *own = sink->own;
	bool plain = strncasecmp(sink->where, "https:", 6) != 0;
	int r = -ENOMEM;

	own->batch = sink->kind == &event_sink_cloudevents_batch;
	if (!own->limit)
		own->limit = own->batch ? BATCH_EVENTS : 1;
	own->n = own->len = 0;
	sink->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);	/* stands for the connection, which is libcurl's */
	if (sink->fd < 0)
		return -errno;
	own->multi = curl_multi_init();
	own->easy = curl_easy_init();
	if (!own->multi || !own->easy)
		goto fail;
	/* Without a charset, which JSON has not got: the SDK for Node.js compares the whole of it. */
	r = add_header(own, own->batch ? "Content-Type: application/cloudevents-batch+json" : "Content-Type: application/cloudevents+json");
	if (r == 0)
		r = add_header(own, "Expect:");	/* a round trip less */
	if (r == 0)
		r = identify(sink);
	if (r < 0)
		goto fail;
	curl_easy_setopt(own->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(own->easy, CURLOPT_URL, sink->where);
	curl_easy_setopt(own->easy, CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
	curl_easy_setopt(own->easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(own->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(own->easy, CURLOPT_QUICK_EXIT, 1L);	/* a name server that is silent holds up no unmount */
	curl_easy_setopt(own->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(own->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl_easy_setopt(own->easy, CURLOPT_TIMEOUT_MS, ANSWER_TIMEOUT_MS);
	curl_easy_setopt(own->easy, CURLOPT_OPENSOCKETFUNCTION, plain ? open_loopback : open_any);
	curl_easy_setopt(own->easy, CURLOPT_USERAGENT, "wormfs/" WORMFS_VERSION);
	curl_easy_setopt(own->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(own->easy, CURLOPT_HTTPHEADER, own->headers);
	curl_easy_setopt(own->easy, CURLOPT_WRITEFUNCTION, ignore_bytes);
	if (sink->opt.ca_file)
		curl_easy_setopt(own->easy, CURLOPT_CAINFO, sink->opt.ca_file);
	event_sink_rewind(sink, event_sink_seq(sink));
	return 0;
fail:
	disconnect_http(sink);
	return r;
}

/* ---- requests ---- */

static int error_of_curl(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
		return -EKEYREJECTED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -ECONNRESET;
	}
}

static int error_of_status(long status)
{
	if (status >= 200 && status < 300)
		return 0;
	switch (status) {
	case 400: case 413: case 422:
		return -EBADMSG;	/* not these events */
	case 401: case 403:
		return -EACCES;
	case 404: case 410:
		return -ENOENT;
	case 415:
		return -EPROTONOSUPPORT;
	case 429: case 503:
		return -EBUSY;
	default:
		return -EREMOTEIO;
	}
}

/* Until there is an answer, or the sink shall end. */
static int perform(struct event_sink *sink)
{
	struct cloudevents_sink *own = sink->own;
	struct curl_waitfd wake = { .fd = sink->wake_fd, .events = CURL_WAIT_POLLIN };
	CURLcode result = CURLE_SEND_ERROR;
	int running = 1, left;
	CURLMsg *message;
	uint64_t n;

	if (curl_multi_add_handle(own->multi, own->easy) != CURLM_OK)
		return -ENOMEM;
	for (;;) {
		if (curl_multi_perform(own->multi, &running) != CURLM_OK || !running)
			break;
		if (atomic_load(&sink->stopping) > 1) {
			curl_multi_remove_handle(own->multi, own->easy);
			return -ECANCELED;
		}
		wake.revents = 0;
		if (curl_multi_poll(own->multi, &wake, 1, 1000, NULL) != CURLM_OK)
			break;
		if (wake.revents)
			(void)!read(sink->wake_fd, &n, sizeof(n));	/* what it told is found in the ring afterwards */
	}
	while ((message = curl_multi_info_read(own->multi, &left)))
		if (message->msg == CURLMSG_DONE)
			result = message->data.result;
	curl_multi_remove_handle(own->multi, own->easy);
	return error_of_curl(result);
}

static unsigned backoff_ms(struct cloudevents_sink *own)
{
	unsigned ms = own->failures < 8 ? RETRY_FIRST_MS << own->failures : RETRY_MAX_MS;

	ms = ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
	return ms - ms / 4 + rand_r(&own->jitter) % (ms / 2);	/* not all senders at once */
}

static int failed(struct event_sink *sink, int error)
{
	struct cloudevents_sink *own = sink->own;
	curl_off_t wait_s = 0;

	if (error == -EBADMSG && own->n > 1) {	/* perhaps they are too many, or one of them is it */
		own->limit = own->n / 2;
		sink->retry_ms = 1;
		return error;
	}
	if (error == -EBADMSG && ++own->refusals >= REFUSALS_MAX) {
		atomic_fetch_add(&sink->consumer->dropped, 1);
		event_sink_delivered(sink, own->next, 0);
		event_sink_say(sink, "an event was refused again and again, it is passed over and counted", -error);
		own->refusals = own->failures = 0;
		sink->retry_ms = 1;
		return error;
	}
	curl_easy_getinfo(own->easy, CURLINFO_RETRY_AFTER, &wait_s);
	sink->retry_ms = backoff_ms(own);
	if (wait_s > 0 && wait_s * 1000 > sink->retry_ms)
		sink->retry_ms = wait_s < RETRY_MAX_MS / 1000 ? wait_s * 1000 : RETRY_MAX_MS;
	own->failures++;
	return error;
}

static int flush_http(struct event_sink *sink)
{
	struct cloudevents_sink *own = sink->own;
	long status = 0;
	int r;

	if (own->n == 0)
		return 0;
	if (own->batch)
		own->body[own->len++] = ']';
	curl_easy_setopt(own->easy, CURLOPT_POSTFIELDS, own->body);
	curl_easy_setopt(own->easy, CURLOPT_POSTFIELDSIZE, (long)own->len);
	r = perform(sink);
	if (r == 0) {
		curl_easy_getinfo(own->easy, CURLINFO_RESPONSE_CODE, &status);
		r = error_of_status(status);
	}
	if (r < 0)
		return failed(sink, r);
	event_sink_delivered(sink, own->next, own->n);
	own->failures = own->refusals = 0;
	if (own->batch)
		own->limit = own->limit * 2 < BATCH_EVENTS ? own->limit * 2 : BATCH_EVENTS;
	own->n = own->len = 0;
	return 0;
}

static int send_http(struct event_sink *sink, const struct event *ev)
{
	struct event_counts counts = event_sink_counts(sink);
	struct cloudevents_sink *own = sink->own;
	int r;

	if (own->n >= own->limit || own->len >= BATCH_BYTES) {
		r = flush_http(sink);
		if (r < 0)
			return r;
	}
	if (own->batch)
		own->body[own->len++] = own->n ? ',' : '[';
	own->len += cloudevent_format(&sink->json, ev, &counts, sink->opt.source ? sink->opt.source : "wormfs:", own->body + own->len);
	own->next = ev->seq + (ev->type == EVENT_GAP ? ev->lost : 1);
	own->n++;
	return 0;
}

const struct event_sink_kind event_sink_cloudevents = {
	.name = "cloudevents", .where = "URL, an event a request", .own_bytes = sizeof(struct cloudevents_sink), .lazy = true,
	.check = check_url, .connect = connect_http, .send = send_http, .flush = flush_http, .disconnect = disconnect_http,
};

const struct event_sink_kind event_sink_cloudevents_batch = {
	.name = "cloudevents-batch", .where = "URL, many a request", .own_bytes = sizeof(struct cloudevents_sink), .lazy = true,
	.check = check_url, .connect = connect_http, .send = send_http, .flush = flush_http, .disconnect = disconnect_http,
};
