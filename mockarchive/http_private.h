/* Between http_server.c, http_reply.c and http_stream.c only. */
#ifndef WORMFS_HTTP_PRIVATE_H
#define WORMFS_HTTP_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include <microhttpd.h>

#include "mockarchive/http_listen.h"
#include "mockarchive/http_server.h"
#include "mockarchive/http_timer.h"

/* A reply without an end. All of it under its request's lock. */
struct http_stream {
	struct http_request *req;	/* constant; one reference of it is the pusher's */
	char *buf;			/* used bytes from start on; max_bytes at most */
	size_t start, used, allocated, max_bytes;
	char *keepalive;
	int64_t keepalive_ns, last_ns;	/* last_ns: when the last byte was pushed */
	bool ended;			/* by http_stream_end() */
	bool cut;			/* the client hung up: the reply ends with an error */
	void (*gone)(void *owner);
	void *owner;
};

/* One request and its reply. References: libmicrohttpd's until the request is completed, the handler's until it has answered,
 * the timer's while `timer` is in it, the stream's until its end. */
struct http_request {
	atomic_uint refs;
	struct http_server *server;
	struct http_request *next, **link;	/* server.lock */
	struct MHD_Connection *conn;		/* constant; not to be used once `completed` */
	char *target;				/* constant: the path, a NUL, the query */
	const char *query;
	char *method;
	char *body;
	size_t body_len, body_size;		/* the polling thread's until the handler has the request */
	bool head_seen, too_large, handled;	/* the polling thread's */
	bool in_file;				/* the body is; likewise */
	int body_fd, body_error;		/* -errno of the first write that failed; likewise */
	uint64_t file_len;
	struct http_shape shape;		/* the handler's until it has answered, constant from then on */
	struct MHD_Response *response;		/* lock, as all below */
	unsigned status;
	unsigned nheaders;
	char *headers[HTTP_REPLY_HEADERS_MAX][2];	/* the handler's until it has answered */
	pthread_mutex_t lock;
	bool answered;
	bool dropped;				/* the answer is to close the connection */
	bool waiting;				/* for the timer, before the reply or between two pieces */
	bool suspended;				/* libmicrohttpd leaves the connection alone until it is resumed */
	bool completed;				/* libmicrohttpd is done with it */
	uint64_t paused_at;			/* the piece of the body before which the last pause was */
	char *shaped;				/* body of a shaped reply */
	size_t shaped_len;
	struct http_stream *stream;
	struct http_timer_entry timer;
};

struct http_server {
	atomic_uint refs;			/* the owner's, and one of each request */
	struct MHD_Daemon *daemon;
	struct http_timer *timer;
	struct http_server_options options;	/* constant; its texts are not kept */
	char address[HTTP_LISTEN_TEXT_BYTES];
	char *unlink_path;
	_Atomic uint64_t connections;
	atomic_bool closing;
	pthread_mutex_t lock;			/* before any request.lock */
	struct http_request *requests;		/* lock: those that libmicrohttpd knows */
};

void http_request_ref(struct http_request *req);
void http_request_put(struct http_request *req);
/* The caller holds req->lock. Where the connection is suspended it goes on. */
void http_request_wake_locked(struct http_request *req);
/* The caller holds req->lock. False: the server closes, and the connection must end instead. */
bool http_request_sleep_locked(struct http_request *req);
/* The caller holds req->lock. Wakes it after delay_ns, or at once where the timer has no room. */
void http_request_wake_after_locked(struct http_request *req, int64_t delay_ns);
/* Takes the response (NULL: the connection is closed) and the handler's reference. */
void http_request_answer(struct http_request *req, unsigned status, struct MHD_Response *response);
/* The connection is over: tells the stream's owner. No lock held. */
void http_stream_completed(struct http_request *req);
void http_stream_free(struct http_stream *s);
/* The caller holds req->lock, req has a stream. When it is to be looked at again; 0: never. */
int64_t http_stream_tick_locked(struct http_request *req);

#endif
