/* Replies without an end. What is pushed waits in a bounded buffer; a client that reads nothing costs that and no thread. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/http_private.h"

#define NS_PER_MS 1000000LL

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct http_request *req = cls;
	struct http_stream *s = req->stream;
	ssize_t n;

	pthread_mutex_lock(&req->lock);
	if (s->cut) {
		n = MHD_CONTENT_READER_END_WITH_ERROR;
	} else if (s->used) {
		n = s->used < max ? s->used : max;
		memcpy(buf, s->buf + s->start, n);
		s->start += n;
		s->used -= n;
	} else if (s->ended) {
		n = MHD_CONTENT_READER_END_OF_STREAM;
	} else {
		n = http_request_sleep_locked(req) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
	}
	pthread_mutex_unlock(&req->lock);
	return n;
}

static int append_locked(struct http_stream *s, const void *data, size_t len, size_t max_bytes)
{
	if (len == 0)
		return 0;
	if (len > max_bytes - s->used)
		return -ENOBUFS;
	if (s->start && s->start + s->used + len > s->allocated) {
		memmove(s->buf, s->buf + s->start, s->used);
		s->start = 0;
	}
	if (s->used + len > s->allocated) {
		size_t n = 2 * (s->used + len) < max_bytes ? 2 * (s->used + len) : max_bytes;
		char *buf = realloc(s->buf, n);

		if (!buf)
			return -ENOBUFS;
		s->buf = buf;
		s->allocated = n;
	}
	memcpy(s->buf + s->start + s->used, data, len);
	s->used += len;
	s->last_ns = http_timer_now_ns();
	return 0;
}

/* A sleeping connection's socket is nobody's: we look at it instead of libmicrohttpd. */
static bool has_hung_up(struct http_request *req)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct pollfd pfd = { .fd = info ? info->connect_fd : -1, .events = POLLRDHUP };

	return poll(&pfd, 1, 0) > 0;
}

int64_t http_stream_tick_locked(struct http_request *req)
{
	int64_t now_ns = http_timer_now_ns(), next_ns = now_ns + HTTP_STREAM_CHECK_MS * NS_PER_MS;
	struct http_stream *s = req->stream;

	if (req->suspended && has_hung_up(req)) {
		s->cut = true;
		http_request_wake_locked(req);
		return next_ns;
	}
	if (s->keepalive && !s->ended) {
		/* No room: then there are other bytes to come. */
		if (now_ns - s->last_ns >= s->keepalive_ns && append_locked(s, s->keepalive, strlen(s->keepalive), s->max_bytes) == 0)
			http_request_wake_locked(req);
		if (s->last_ns + s->keepalive_ns < next_ns)
			next_ns = s->last_ns + s->keepalive_ns > now_ns ? s->last_ns + s->keepalive_ns : now_ns + NS_PER_MS;
	}
	return next_ns;
}

void http_stream_completed(struct http_request *req)
{
	if (req->stream->gone)
		req->stream->gone(req->stream->owner);
}

void http_stream_free(struct http_stream *s)
{
	if (!s)
		return;
	free(s->keepalive);
	free(s->buf);
	free(s);
}

int http_reply_stream(struct http_request *req, const struct http_stream_options *options, struct http_stream **ret_stream)
{
	struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, req, NULL);
	struct http_stream *s = calloc(1, sizeof(*s));

	if (s)
		s->keepalive = options->keepalive ? strdup(options->keepalive) : NULL;
	if (!s || !response || (options->keepalive && !s->keepalive)) {
		http_stream_free(s);
		if (response)
			MHD_destroy_response(response);
		http_reply_drop(req);
		return -ENOMEM;
	}
	s->req = req;
	s->max_bytes = options->buffer_max_bytes;
	s->keepalive_ns = options->keepalive_ms * NS_PER_MS;
	s->last_ns = http_timer_now_ns();
	s->gone = options->gone;
	s->owner = options->owner;
	req->stream = s;
	http_request_ref(req);
	*ret_stream = s;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, options->content_type);	/* a constant */
	http_request_answer(req, options->status, response);
	return 0;
}

int http_stream_push(struct http_stream *s, const void *data, size_t len)
{
	struct http_request *req = s->req;
	int r;

	pthread_mutex_lock(&req->lock);
	r = req->completed || s->cut ? -EPIPE : append_locked(s, data, len, s->max_bytes);
	if (r == 0 && !req->waiting)
		http_request_wake_locked(req);
	pthread_mutex_unlock(&req->lock);
	return r;
}

void http_stream_end_with(struct http_stream *s, const char *text)
{
	struct http_request *req;

	if (!s)
		return;
	req = s->req;
	pthread_mutex_lock(&req->lock);
	/* Without memory for it the end alone must do. */
	(void)append_locked(s, text, strlen(text), s->used + strlen(text));
	s->ended = true;
	if (!req->waiting)
		http_request_wake_locked(req);
	pthread_mutex_unlock(&req->lock);
	http_request_put(req);
}

void http_stream_end(struct http_stream *s)
{
	http_stream_end_with(s, "");
}
