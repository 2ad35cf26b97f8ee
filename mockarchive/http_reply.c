/* Replies: whole ones, and those that a test wants late, in pieces, without a length, or cut short. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/http_private.h"

#define READ_BLOCK_BYTES (256 << 10)

void http_request_add_header(struct http_request *req, const char *name, const char *value)
{
	unsigned n = req->nheaders;

	assert(n < HTTP_REPLY_HEADERS_MAX);
	req->headers[n][0] = strdup(name);
	req->headers[n][1] = strdup(value);
	if (req->headers[n][0] && req->headers[n][1]) {
		req->nheaders++;
	} else {
		free(req->headers[n][0]);
		free(req->headers[n][1]);
	}
}

void http_request_set_shape(struct http_request *req, const struct http_shape *shape)
{
	req->shape = *shape;
}

/* The next bytes of a shaped body. With a pause between pieces the connection sleeps before each but the first. */
static ssize_t read_shaped(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct http_request *req = cls;
	const struct http_shape *shape = &req->shape;
	size_t piece = shape->piece_bytes, n = req->shaped_len - pos;
	ssize_t result;

	if (shape->cut && pos >= shape->cut_bytes)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n == 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (shape->cut && n > shape->cut_bytes - pos)
		n = shape->cut_bytes - pos;
	if (piece && n > piece - pos % piece)
		n = piece - pos % piece;
	if (n > max)
		n = max;
	pthread_mutex_lock(&req->lock);
	if (piece && shape->pause_ms && pos > 0 && pos % piece == 0 && req->paused_at != pos) {
		req->paused_at = pos;
		http_request_wake_after_locked(req, shape->pause_ms * 1000000LL);
	}
	if (req->waiting)
		result = http_request_sleep_locked(req) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
	else
		result = n;
	pthread_mutex_unlock(&req->lock);
	if (result > 0)
		memcpy(buf, req->shaped + pos, n);
	return result;
}

static struct MHD_Response *make_shaped(struct http_request *req, const void *body, size_t len)
{
	req->shaped = malloc(len + 1);
	if (!req->shaped)
		return NULL;
	memcpy(req->shaped, body, len);
	req->shaped_len = len;
	/* Not more at once than a piece: libmicrohttpd would wait for the buffer to be full. */
	return MHD_create_response_from_callback(req->shape.chunked ? MHD_SIZE_UNKNOWN : len,
		req->shape.piece_bytes && req->shape.piece_bytes < 16384 ? req->shape.piece_bytes : 16384, read_shaped, req, NULL);
}

static void answer(struct http_request *req, unsigned status, const char *content_type, struct MHD_Response *response)
{
	if (response && content_type)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);	/* a constant */
	http_request_answer(req, status, response);
}

static bool is_shaped(const struct http_shape *shape)
{
	return shape->chunked || shape->cut || shape->piece_bytes;
}

void http_reply(struct http_request *req, unsigned status, const char *content_type, const void *body, size_t len)
{
	answer(req, status, content_type, is_shaped(&req->shape) ? make_shaped(req, body, len) :
		MHD_create_response_from_buffer(len, (void *)body, MHD_RESPMEM_MUST_COPY));
}

void http_reply_json(struct http_request *req, unsigned status, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(value);
	if (!text) {
		http_reply(req, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, "", 0);
	} else if (is_shaped(&req->shape)) {
		http_reply(req, status, "application/json", text, strlen(text));
		free(text);
	} else {
		answer(req, status, "application/json",
			MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
	}
}

struct reader {
	ssize_t (*read)(void *owner, uint64_t offset, char *buf, size_t len);
	void (*done)(void *owner);
	void *owner;
};

static ssize_t read_piece(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct reader *reader = cls;
	ssize_t n = reader->read(reader->owner, pos, buf, max);

	return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void end_reader(void *cls)
{
	struct reader *reader = cls;

	reader->done(reader->owner);
	free(reader);
}

void http_reply_read(struct http_request *req, unsigned status, const char *content_type, uint64_t len,
		     ssize_t (*read)(void *owner, uint64_t offset, char *buf, size_t len), void (*done)(void *owner), void *owner)
{
	struct reader *reader = malloc(sizeof(*reader));
	struct MHD_Response *response = NULL;

	if (reader) {
		*reader = (struct reader){ .read = read, .done = done, .owner = owner };
		response = MHD_create_response_from_callback(len, READ_BLOCK_BYTES, read_piece, reader, end_reader);
	}
	if (response) {
		answer(req, status, content_type, response);
		return;
	}
	free(reader);
	done(owner);
	http_reply_drop(req);
}

void http_reply_drop(struct http_request *req)
{
	http_request_answer(req, 0, NULL);
}
