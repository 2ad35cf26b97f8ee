/* Always true: the clients in the list are the reader's, and only it moves their places; a client whose connection is over is
 * marked by gone() and freed by the reader. */
#include "lockstore/wormctl/sse.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_json.h"
#include "lockstore/thread.h"
#include "lockstore/wormctl/service.h"
#include "lockstore/wormctl/sse_qumulo.h"
#include "mockarchive/http_url.h"

#define POLL_MS 50
#define PIECE_BYTES 65536
#define PIECES_AT_ONCE 16	/* of one client, then it is the turn of the next */
#define SKIPPED_MAX 4096	/* events that were not for it, until a client is told how far it is */
#define RETRY_MS 1000		/* a client's pause before it comes again */

struct sse_client {
	struct sse_client *next;
	struct http_stream *stream;
	struct event_cursor cursor;
	atomic_bool gone;
	bool over;		/* its stream has ended */
	char *dir;		/* from the share's root */
	bool recursive, refused, types[EVENT_TYPES];
	bool qumulo;
	uint32_t qumulo_types;
	unsigned skipped;
};

struct sse {
	char *ring_path;
	struct service_key key;
	pthread_t thread;
	pthread_mutex_t lock;		/* what follows */
	struct event_ring *ring;
	struct sse_client *clients;
	unsigned nclients;
	bool stopping;
	/* the reader's */
	ino_t ring_ino;
	struct event_json json;
	char buf[PIECE_BYTES], out[EVENT_JSON_MAX + SSE_QUMULO_BYTES + 64];
};

/* ---- what a client is sent ---- */

static bool at_or_below(const struct sse_client *c, const struct event_text *path)
{
	size_t len = strlen(c->dir);

	if (path->len < len || memcmp(path->bytes, c->dir, len) != 0)
		return false;
	if (path->len == len)
		return true;
	if (len && path->bytes[len++] != '/')
		return false;
	return c->recursive || !memchr(path->bytes + len, '/', path->len - len);
}

static bool is_for(const struct sse_client *c, const struct event *ev)
{
	if (ev->type == EVENT_GAP)
		return true;
	if (!c->types[ev->type] || (c->refused && !(ev->flags & EVENT_REFUSED)))
		return false;
	if (!*c->dir && c->recursive)
		return true;
	return (ev->has & EVENT_HAS_PATH && at_or_below(c, &ev->path)) ||
	       (ev->has & EVENT_HAS_TARGET && ev->type != EVENT_SYMLINK && at_or_below(c, &ev->target));
}

static void end_with(struct sse_client *c, const char *text)
{
	http_stream_end_with(c->stream, text);
	c->over = true;
}

/* id: of the last number that it is about, so that a client goes on behind it. -ENOBUFS: not now. */
static int push_event(struct sse *sse, struct sse_client *c, const struct event *ev)
{
	uint64_t last = ev->seq + (ev->type == EVENT_GAP ? ev->lost - 1 : 0);
	struct event_counts counts = { .dropped = event_ring_dropped(sse->ring) };
	size_t len, id;
	bool over = false;
	int r;

	id = sprintf(sse->out, "id: %" PRIu64 "\n", last);
	if (c->qumulo && ev->type == EVENT_GAP) {	/* it promises that nothing is missing: then the stream ends */
		end_with(c, ": events are missing, read the directory again\n\n");
		return -EPIPE;
	}
	if (c->qumulo) {
		len = id + sprintf(sse->out + id, "data: ");
		id = sse_qumulo_format(ev, c->dir, c->recursive, c->qumulo_types, sse->out + len, &over);
		len = id ? len + id : 0;
	} else if (is_for(c, ev)) {
		len = id + sprintf(sse->out + id, "data: ");
		len += event_json_format(&sse->json, ev, &counts, sse->out + len) - 1;
	} else {
		len = 0;
	}
	if (len == 0 && ++c->skipped < SKIPPED_MAX)
		return 0;
	if (len == 0)
		len = id;
	len += sprintf(sse->out + len, "\n\n");
	r = http_stream_push(c->stream, sse->out, len);
	if (r == 0) {
		c->skipped = 0;
		if (over)
			end_with(c, "");
	}
	return over && r == 0 ? -EPIPE : r;
}

static int push_overwritten(struct sse *sse, struct sse_client *c, uint64_t first, uint64_t lost)
{
	struct event ev;

	event_ring_overwritten(sse->ring, first, lost, &ev);
	return push_event(sse, c, &ev);
}

/* 1: there may be more; 0: there is none, or it takes none now. < 0: it is over. */
static int feed_piece(struct sse *sse, struct sse_client *c)
{
	uint64_t first = c->cursor.seq, overwritten;
	ssize_t len = event_ring_read(sse->ring, &c->cursor, sse->buf, sizeof(sse->buf), &overwritten);
	uint64_t newer = 0;	/* events of a newer version: their numbers are missing */
	struct event ev;
	size_t at = 0;
	int r = 0;

	if (len < 0) {
		end_with(c, ": the ring of events cannot be read\n\n");
		return -EIO;
	}
	if (overwritten)
		r = push_overwritten(sse, c, first, overwritten);
	if (r == -ENOBUFS) {
		c->cursor = (struct event_cursor){ .seq = first };	/* older than all: found overwritten again */
		return 0;
	}
	while (r == 0 && event_ring_next(sse->buf, len, &at, &ev, &newer) > 0) {
		r = push_event(sse, c, &ev);
		if (r != -ENOBUFS)
			continue;
		/* Its turn comes again, from this one on. */
		if (event_ring_seek(sse->ring, ev.seq, &c->cursor) < 0)
			c->cursor = (struct event_cursor){ .seq = ev.seq };
		return 0;
	}
	return r < 0 ? r : len > 0;
}

/* ---- the reader ---- */

static void reopen_if_replaced(struct sse *sse)
{
	struct event_ring *ring;
	struct stat st;

	if (stat(sse->ring_path, &st) < 0 || st.st_ino == sse->ring_ino || event_ring_open_readonly(sse->ring_path, &ring) < 0)
		return;
	event_ring_close(sse->ring);
	sse->ring = ring;
	sse->ring_ino = st.st_ino;
	for (struct sse_client *c = sse->clients; c; c = c->next)
		(void)event_ring_seek(ring, c->cursor.seq, &c->cursor);	/* else the next read tells */
}

static void free_client(struct sse_client *c)
{
	free(c->dir);
	free(c);
}

/* True: somebody may get more at once. */
static bool feed_all_locked(struct sse *sse)
{
	struct sse_client **at = &sse->clients, *c;
	bool more = false;

	while ((c = *at)) {
		int r = 1;

		for (unsigned i = 0; r > 0 && i < PIECES_AT_ONCE && !c->over && !atomic_load(&c->gone); i++)
			r = feed_piece(sse, c);
		more |= r > 0;
		if (atomic_load(&c->gone)) {
			if (!c->over)
				http_stream_end(c->stream);
			*at = c->next;
			sse->nclients--;
			free_client(c);
			continue;
		}
		at = &c->next;
	}
	return more;
}

static void *reader_thread(void *arg)
{
	struct sse *sse = arg;
	bool more, stopping;

	do {
		pthread_mutex_lock(&sse->lock);
		reopen_if_replaced(sse);
		more = feed_all_locked(sse);
		stopping = sse->stopping;
		pthread_mutex_unlock(&sse->lock);
		if (!stopping)
			usleep(more ? 100 : POLL_MS * 1000);	/* a moment for who comes and waits for the lock */
	} while (!stopping);
	return NULL;
}

/* ---- requests ---- */

static void on_gone(void *owner)
{
	struct sse_client *c = owner;

	atomic_store(&c->gone, true);
}

static void reply_text(struct http_request *req, unsigned status, const char *text)
{
	http_reply(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

static bool may_ask(const struct sse *sse, struct http_request *req)
{
	const char *header = http_request_header(req, "Authorization");
	char *given;
	bool good;

	if (header)
		return service_key_fits_bearer(&sse->key, header);
	if (http_query_get(http_request_query(req), "access_token", &given) < 0)
		return false;
	good = service_key_fits(&sse->key, given);
	free(given);
	return good;
}

static int take_bool(const char *query, const char *name, bool *ret)
{
	char *value;
	int r = http_query_get(query, name, &value);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = strcasecmp(value, "true") == 0 || strcasecmp(value, "false") == 0 ? 0 : -EINVAL;
	*ret = strcasecmp(value, "true") == 0;
	free(value);
	return r;
}

static int take_types(struct sse_client *c, const char *query)
{
	char *value, *glob, *save = NULL;
	int r = http_query_get(query, "type", &value);
	bool good = true;

	if (r < 0) {
		memset(c->types, 1, sizeof(c->types));
		return r == -ENOENT ? 0 : r;
	}
	for (glob = strtok_r(value, ",:", &save); glob && good; glob = strtok_r(NULL, ",:", &save)) {
		good = false;
		for (unsigned type = 1; type < EVENT_TYPES; type++)
			if (event_type_name(type) && fnmatch(glob, event_type_name(type), 0) == 0)
				c->types[type] = good = true;
	}
	free(value);
	return good ? 0 : -EINVAL;
}

/* "/a/b/" is "a/b". */
static int take_dir(struct sse_client *c, const char *path, size_t len)
{
	if (memchr(path, '\0', len) || len > EVENT_PATH_MAX)
		return -EINVAL;
	while (len && *path == '/') {
		path++;
		len--;
	}
	while (len && path[len - 1] == '/')
		len--;
	c->dir = strndup(path, len);
	return c->dir ? 0 : -ENOMEM;
}

static int take_number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno || *end || *text < '0' || *text > '9' ? -EINVAL : 0;
}

/* Where it begins: behind the last that the client has, else where it wants, else with what comes. */
static int take_from(struct http_request *req, uint64_t *ret_from)
{
	const char *header = http_request_header(req, "Last-Event-ID");
	char *value;
	int r;

	*ret_from = UINT64_MAX;
	if (header && *header) {
		r = take_number(header, ret_from);
		*ret_from += *ret_from < UINT64_MAX;
		return r;
	}
	r = http_query_get(http_request_query(req), "from", &value);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = take_number(value, ret_from);
	free(value);
	return r;
}

static int take_events(struct sse_client *c, struct http_request *req)
{
	const char *query = http_request_query(req);
	char *path;
	int r = http_query_get(query, "path", &path);

	if (r == 0) {
		r = take_dir(c, path, strlen(path));
		free(path);
	} else if (r == -ENOENT) {
		r = take_dir(c, "", 0);
	}
	if (r == 0)
		r = take_bool(query, "recursive", &c->recursive);
	if (r == 0)
		r = take_bool(query, "refused", &c->refused);
	return r < 0 ? r : take_types(c, query);
}

/* /v1/files/REF/notify. -ENOENT: no such path here. */
static int take_notify(struct sse_client *c, struct http_request *req, const char *ref, size_t len)
{
	const char *query = http_request_query(req);
	char *path, *filter = NULL;
	int r;

	if (strncmp(ref, "%2F", 3) != 0 && strncmp(ref, "%2f", 3) != 0)
		return -ENOENT;
	r = http_percent_decode(ref, len, &path, &len);
	if (r == 0) {
		r = take_dir(c, path, len);
		free(path);
	}
	c->qumulo = true;
	c->recursive = false;
	if (r == 0)
		r = take_bool(query, "recursive", &c->recursive);
	if (r == 0) {
		r = http_query_get(query, "filter", &filter);
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0)
		r = sse_qumulo_filter(filter, &c->qumulo_types);
	free(filter);
	return r;
}

/* Takes `c`. */
static void begin(struct sse *sse, struct sse_client *c, struct http_request *req, uint64_t from)
{
	struct http_stream_options options = { .status = 200, .content_type = c->qumulo ? "text/event-source" : "text/event-stream",
					       .buffer_max_bytes = SSE_BUFFER_BYTES, .keepalive = ": keepalive\n\n",
					       .keepalive_ms = SSE_KEEPALIVE_MS, .gone = on_gone, .owner = c };
	char hello[64];
	int r;

	pthread_mutex_lock(&sse->lock);
	r = sse->nclients < SSE_CLIENTS_MAX ? event_ring_seek(sse->ring, from, &c->cursor) : -EBUSY;
	if (r < 0) {
		pthread_mutex_unlock(&sse->lock);
		http_request_add_header(req, "Retry-After", "5");
		reply_text(req, 503, r == -EBUSY ? "too many clients\n" : "the ring of events cannot be read\n");
		free_client(c);
		return;
	}
	http_request_add_header(req, "Cache-Control", "no-store");
	http_request_add_header(req, "X-Content-Type-Options", "nosniff");
	r = http_reply_stream(req, &options, &c->stream);
	if (r == 0) {
		snprintf(hello, sizeof(hello), c->qumulo ? ": watching\n\n" : ": watching\nretry: %d\n\n", RETRY_MS);
		(void)http_stream_push(c->stream, hello, strlen(hello));	/* gone already: the reader sees it */
		if (from != UINT64_MAX && c->cursor.seq > from && from > 0)
			(void)push_overwritten(sse, c, from, c->cursor.seq - from);	/* the first there is: it fits */
		c->next = sse->clients;
		sse->clients = c;
		sse->nclients++;
	} else {
		free_client(c);
	}
	pthread_mutex_unlock(&sse->lock);
}

void sse_handle(void *arg, struct http_request *req)
{
	static const char files[] = "/v1/files/", notify[] = "/notify";
	const char *path = http_request_path(req);
	size_t len = strlen(path), head = sizeof(files) - 1, tail = sizeof(notify) - 1;
	struct sse *sse = arg;
	struct sse_client *c;
	uint64_t from;
	int r;

	if (strcmp(http_request_method(req), "GET") != 0) {
		http_request_add_header(req, "Allow", "GET");
		reply_text(req, 405, "here is only something to read: GET\n");
		return;
	}
	if (strcmp(path, "/") == 0) {
		reply_text(req, 200, "events of a share: /v1/events, /v1/files/REF/notify\n");
		return;
	}
	if (!may_ask(sse, req)) {
		http_request_add_header(req, "WWW-Authenticate", "Bearer");
		reply_text(req, 401, "send the token: Authorization: Bearer TOKEN, or access_token=TOKEN\n");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		reply_text(req, 503, "out of memory\n");
		return;
	}
	c->recursive = true;
	if (strcmp(path, "/v1/events") == 0)
		r = take_events(c, req);
	else if (len > head + tail && strncmp(path, files, head) == 0 && strcmp(path + len - tail, notify) == 0)
		r = take_notify(c, req, path + head, len - head - tail);
	else
		r = -ENOENT;
	if (r == 0)
		r = take_from(req, &from);
	if (r == 0) {
		begin(sse, c, req, from);
		return;
	}
	free_client(c);
	reply_text(req, r == -ENOENT ? 404 : r == -ENOMEM ? 503 : 400, r == -ENOENT ? "there is /v1/events and /v1/files/%2FDIR/notify\n" :
		   "path=DIR, recursive=true|false, refused=true|false, type=Create,Rename, from=SEQ, filter=child_file_added: one of them is wrong\n");
}

/* ---- life ---- */

int sse_open(const char *ring_path, const char *token, struct sse **ret_sse)
{
	struct sse *sse = calloc(1, sizeof(*sse));
	struct stat st;
	int r;

	if (!sse)
		return -ENOMEM;
	pthread_mutex_init(&sse->lock, NULL);
	service_key_of(token, &sse->key);
	sse->ring_path = strdup(ring_path);
	r = sse->ring_path ? event_ring_open_readonly(ring_path, &sse->ring) : -ENOMEM;
	if (r == 0)
		sse->ring_ino = stat(ring_path, &st) == 0 ? st.st_ino : 0;
	if (r == 0)
		r = thread_start(&sse->thread, "events-read", reader_thread, sse);
	if (r < 0) {
		event_ring_close(sse->ring);
		free(sse->ring_path);
		free(sse);
		return r;
	}
	*ret_sse = sse;
	return 0;
}

void sse_close(struct sse *sse)
{
	struct sse_client *c;

	if (!sse)
		return;
	pthread_mutex_lock(&sse->lock);
	sse->stopping = true;
	pthread_mutex_unlock(&sse->lock);
	pthread_join(sse->thread, NULL);
	while ((c = sse->clients)) {
		sse->clients = c->next;
		if (!c->over)
			http_stream_end(c->stream);
		free_client(c);
	}
	event_ring_close(sse->ring);
	pthread_mutex_destroy(&sse->lock);
	free(sse->ring_path);
	free(sse);
}
