/* The events of a ring as server-sent events (HTML standard, 9.2), over the HTTP server of mockarchive/http_server.h. One thread
 * reads the ring for all clients. Each has its own place: a slow one is waited for as long as the ring has what it lacks, and
 * holds up nobody.
 *
 *	GET /v1/events[?from=SEQ][&path=DIR][&recursive=true|false][&type=GLOBS][&refused=true]
 *	GET /v1/files/REF/notify[?filter=NAMES][&recursive=true|false]		as Qumulo's, REF: %2Fdir
 *
 * All but "/" want the token, as "Authorization: Bearer TOKEN" or, as EventSource sends no header of ours, access_token=TOKEN. */
#ifndef WORMFS_WORMCTL_SSE_H
#define WORMFS_WORMCTL_SSE_H

#include "lockstore/events/event_ring.h"
#include "mockarchive/http_server.h"

#define SSE_CLIENTS_MAX 64
#define SSE_BUFFER_BYTES (1 << 20)	/* what a client is sent ahead of its reading */
#define SSE_KEEPALIVE_MS 5000

struct sse;

/* -ENOENT etc. of event_ring_open_readonly(). */
int sse_open(const char *ring_path, const char *token, struct sse **ret_sse);
/* The server is closed before. */
void sse_close(struct sse *sse);

/* The handler of a server whose owner is a struct sse. */
void sse_handle(void *sse, struct http_request *req);

#endif
