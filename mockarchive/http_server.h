/* An HTTP/1.1 server for the mocks, over libmicrohttpd: loopback TCP or a UNIX socket, TLS if a certificate is given.
 *
 * Threads: a fixed pool of them (options.threads), each polling its share of the connections; no client costs a thread.
 * The handler runs in one of these, several at a time, and must not block: it answers with one http_reply*(), now, or
 * returns and lets any other thread do so later. A thread of the server's own sends what was delayed, and looks after streams.
 *
 * A request is the handler's until it is answered, exactly once; after http_reply*() it must not be touched. Where the
 * client has gone or the server closes meanwhile, the answer is dropped, and answering is still safe and still owed.
 *
 * libmicrohttpd has no HTTP/2. The program must ignore SIGPIPE. */
#ifndef WORMFS_HTTP_SERVER_H
#define WORMFS_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#define HTTP_BODY_MAX_BYTES (1 << 20)		/* default of options.body_max_bytes; more is answered 413 */
#define HTTP_HEAD_MAX_BYTES (32 << 10)		/* likewise of head_max_bytes; more is answered 431 or 414 */
#define HTTP_CONNECTIONS_MAX 4096		/* likewise of connections_max; more wait unaccepted in the backlog */
#define HTTP_IDLE_S 120				/* likewise of idle_s: a connection on which nothing happens is closed */
#define HTTP_REPLY_HEADERS_MAX 16		/* of http_request_add_header() */

struct http_server;
struct http_request;
struct http_stream;

struct http_server_options {
	const char *listen;		/* http_listen.h */
	bool allow_remote;		/* also other addresses than loopback */
	const char *cert_pem, *key_pem;	/* NULL: no TLS */
	unsigned threads;		/* 0: 1 */
	size_t body_max_bytes, head_max_bytes;
	unsigned connections_max, idle_s;
	bool no_date;			/* no Date header but the handler's own */
	/* Asked when the head is there: a descriptor of an empty file that the body shall go to, which the server closes; negative: the
	 * body stays in memory. Method, path and headers can be asked for. NULL: always in memory. */
	int (*body_file)(void *owner, const struct http_request *req);
	uint64_t body_file_max_bytes;	/* likewise of a body in a file */
	void (*handler)(void *owner, struct http_request *req);
	void *owner;
};

/* -EINVAL, -EPERM, -EADDRINUSE etc. of http_listen(). -EBADMSG: the certificate or its key is none. */
int http_server_open(const struct http_server_options *options, struct http_server **ret_server);
/* Cuts every connection; unanswered requests and open streams end without a reply. Not from the handler. */
void http_server_close(struct http_server *server);
/* Where it listens, with the real port: "127.0.0.1:40213", "[::1]:40213", "unix:/run/x". */
const char *http_server_address(const struct http_server *server);

/* ---- the request; every text lives until it is answered ---- */

const char *http_request_method(const struct http_request *req);
const char *http_request_path(const struct http_request *req);	/* as it came, nothing decoded; without the query */
const char *http_request_query(const struct http_request *req);	/* likewise, what follows the '?'; NULL: no '?' */
const char *http_request_header(const struct http_request *req, const char *name);	/* NULL: not there; any case */
void http_request_each_header(const struct http_request *req, void (*fn)(void *arg, const char *name, const char *value), void *arg);
const void *http_request_body(const struct http_request *req, size_t *ret_len_bytes);	/* a NUL follows it */
/* The body is in a file: its descriptor, until the request is answered; the body in memory is empty then. -ENOENT: it is in memory.
 * Another -errno: it could not be written there. */
int http_request_body_file(const struct http_request *req, uint64_t *ret_len_bytes);
uint64_t http_request_connection(const struct http_request *req);	/* 1, 2, ... in the order they were accepted */

/* The request came over a UNIX socket: the user at its other end. -EOPNOTSUPP: over TCP. */
int http_request_peer_uid(const struct http_request *req, unsigned *ret_uid);

/* ---- the answer ---- */

/* Before the reply. What is past HTTP_REPLY_HEADERS_MAX is lost (an assertion). Text is copied. */
void http_request_add_header(struct http_request *req, const char *name, const char *value);

/* How the bytes of the reply go out. All zeroes: as usual. */
struct http_shape {
	unsigned delay_ms;		/* before the first byte of it, or before the connection is closed */
	bool chunked;			/* no Content-Length */
	bool cut;			/* the connection ends after cut_bytes of the body */
	size_t cut_bytes;
	size_t piece_bytes;		/* 0: in one piece */
	unsigned pause_ms;		/* between two pieces */
	bool close;			/* "Connection: close" */
};
void http_request_set_shape(struct http_request *req, const struct http_shape *shape);

/* content_type NULL: none. The body is copied. */
void http_reply(struct http_request *req, unsigned status, const char *content_type, const void *body, size_t len_bytes);
/* Takes `value`; NULL, as an allocation that failed leaves it, becomes a 500. */
void http_reply_json(struct http_request *req, unsigned status, json_t *value);
/* The body is len_bytes that read() gives piece by piece, in threads of the server: bytes read (at least 1), or a negative errno, which
 * ends the connection. done() comes once, after the last read or without any (HEAD, or the client is gone). Not shaped. */
void http_reply_read(struct http_request *req, unsigned status, const char *content_type, uint64_t len_bytes,
		     ssize_t (*read)(void *owner, uint64_t offset, char *buf, size_t len_bytes), void (*done)(void *owner), void *owner);
/* No reply: the connection is closed. */
void http_reply_drop(struct http_request *req);

/* ---- a reply without an end, such as server-sent events ---- */

struct http_stream_options {
	unsigned status;
	const char *content_type;
	size_t buffer_max_bytes;	/* what a client may be behind */
	const char *keepalive;		/* sent after keepalive_ms without a byte; NULL: never */
	unsigned keepalive_ms;
	/* Always called, once: when the connection is over, for whatever reason and also after http_stream_end(), in a thread of the
	 * server; within about HTTP_STREAM_CHECK_MS of the client's going. It must not call into the stream. NULL: nobody asks. */
	void (*gone)(void *owner);
	void *owner;
};

#define HTTP_STREAM_CHECK_MS 500

/* Answers the request; *ret_stream is the caller's until http_stream_end(), and set before the first byte goes out or
 * gone() is called. Of the request's shape only the delay counts. -ENOMEM: the request was dropped, gone() is not called. */
int http_reply_stream(struct http_request *req, const struct http_stream_options *options, struct http_stream **ret_stream);
/* Any thread, never blocks. -ENOBUFS: nothing of it was taken, the client is too far behind. -EPIPE: the client is gone. */
int http_stream_push(struct http_stream *stream, const void *data, size_t len_bytes);
/* Sends what is left, ends the reply, and gives the stream back. */
void http_stream_end(struct http_stream *stream);
/* Likewise, with a last word that no limit keeps out. */
void http_stream_end_with(struct http_stream *stream, const char *text);

#endif
