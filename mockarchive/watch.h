/* Answers that come later: GET /v1/wait until something is so, GET /v1/events for as long as the client listens, and those that a
 * fault makes hang. One thread looks again whenever the archive's journal has grown, and 10 times a second for what leaves no
 * entry there. Nobody who waits costs a thread. */
#ifndef WORMFS_MOCKARCHIVE_WATCH_H
#define WORMFS_MOCKARCHIVE_WATCH_H

#include "mockarchive/api.h"
#include "mockarchive/http_server.h"

#define WATCH_PENDING_MAX 1024		/* who comes then is answered 503 */
#define WATCH_STREAM_BUFFER_BYTES (1 << 20)	/* a client that is further behind is cut off */
#define WATCH_TIMEOUT_MAX_S 3600

struct watch;

/* `send` answers a request with what the call says, and ends both. */
typedef void watch_send_fn(struct api_call *call, struct http_request *req);

int watch_open(struct api *api, watch_send_fn *send, struct watch **ret_watch);
/* Everything that waits, or comes after it, is answered 503. NULL is fine, as for watch_close(). */
void watch_stop(struct watch *watch);
/* Stopped before; and no HTTP thread is left that may be in one of these. */
void watch_close(struct watch *watch);

/* A call of a route for which api_is_wait() is true. Takes both. */
void watch_take(struct watch *watch, struct api_call *call, struct http_request *req);
/* A call that has its answer and whose hang_number is not 0. Takes both. */
void watch_hang(struct watch *watch, struct api_call *call, struct http_request *req);

#endif
