/* `lock` guards the lists. Looking at the archive happens under it: the archive never calls back into here. An entry is looked at
 * right after it was put into the list, so what happens between its first look and that is not missed. */
#include "mockarchive/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/thread.h"

#define LOOK_MS 100		/* for what the journal does not tell, and for time-outs */
#define EVENTS_AT_ONCE 500

struct pending {
	struct pending *next;
	struct api_call *call;
	struct http_request *req;
	int64_t deadline_ms;	/* CLOCK_MONOTONIC; INT64_MAX: none */
	bool hangs;		/* the answer is there, it only must not go out yet */
	bool by_path;
	char path[API_PATH_MAX_BYTES];
	unsigned states;
	int64_t waiting;	/* callers; 0: does not matter */
	char fault[FAULT_ID_BYTES];
	int64_t hits;
};

struct listener {
	struct listener *next;
	struct http_stream *stream;
	uint64_t after;
	atomic_bool gone;
};

struct watch {
	struct api *api;
	watch_send_fn *send;
	pthread_t thread;
	pthread_mutex_t lock;
	struct pending *pending;
	struct listener *listeners;
	unsigned n;		/* of both */
	bool closing;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int take_json(void *arg, const struct archive_file *file)
{
	json_t **json = arg;

	*json = api_file_json(file);
	return 0;
}

/* True: it has its answer. */
static bool look_at_path(struct pending *p)
{
	struct archive *a = p->call->api->archive;
	enum archive_state state = ARCHIVE_RESIDENT;
	json_t *json = NULL;
	int r = p->states ? archive_wait(a, p->path, p->states, 0, &state) : 0;

	if (r == -ETIMEDOUT)
		return false;
	if (r == 0)
		r = archive_find(a, p->path, take_json, &json);
	if (r < 0) {
		api_error(p->call, r, "wait for", p->path);
		return true;
	}
	if (json_integer_value(json_object_get(json, "waiting")) < p->waiting) {
		json_decref(json);
		return false;
	}
	api_json(p->call, 200, json);
	return true;
}

static bool look_at_fault(struct pending *p)
{
	struct archive *a = p->call->api->archive;
	json_t *rule = faults_get(archive_faults(a), p->fault, archive_now_ns(a));

	if (!rule) {
		api_problem(p->call, 404, NULL, "there is no rule '%s'", p->fault);
		return true;
	}
	if (json_integer_value(json_object_get(rule, "hits")) < p->hits) {
		json_decref(rule);
		return false;
	}
	api_json(p->call, 200, rule);
	return true;
}

static void give_up(struct pending *p)
{
	json_t *json = NULL;

	if (!p->by_path) {
		api_problem(p->call, 504, NULL, "rule '%s' has not fired %lld times", p->fault, (long long)p->hits);
		return;
	}
	(void)archive_find(p->call->api->archive, p->path, take_json, &json);	/* NULL: deleted just now */
	api_problem(p->call, 504, NULL, "'/%.300s' is still %s", p->path, json ? json_string_value(json_object_get(json, "state")) : "there");
	json_decref(json);
}

static bool look(struct pending *p)
{
	struct archive *a = p->call->api->archive;

	if (p->hangs)
		return !faults_has_number(archive_faults(a), p->call->hang_number, archive_now_ns(a));
	if (p->by_path ? look_at_path(p) : look_at_fault(p))
		return true;
	if (now_ms() < p->deadline_ms)
		return false;
	give_up(p);
	return true;
}

static void answer(struct watch *w, struct pending *p)
{
	w->send(p->call, p->req);
	free(p);
}

/* ---- events ---- */

static int push_event(void *arg, const struct archive_event *event)
{
	struct listener *l = arg;
	json_t *json = api_event_json(event);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL, *whole = NULL;
	int n, r;

	json_decref(json);
	n = text ? asprintf(&whole, "id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long)event->seq, archive_event_kind_name(event->kind), text) : -1;
	free(text);
	if (n < 0)
		return -ENOMEM;
	r = http_stream_push(l->stream, whole, (size_t)n);
	free(whole);
	if (r == 0)
		l->after = event->seq;
	return r;
}

/* False: it is over. */
static bool feed(struct watch *w, struct listener *l)
{
	uint64_t lost = 0;
	char text[80];
	int r = 0;

	while (r == 0 && l->after < archive_journal_last(w->api->archive)) {
		uint64_t before = l->after;

		r = archive_journal_read(w->api->archive, l->after, EVENTS_AT_ONCE, push_event, l, NULL, &lost);
		if (lost && r == 0) {
			snprintf(text, sizeof(text), "event: lost\ndata: {\"lost\":%llu}\n\n", (unsigned long long)lost);
			r = http_stream_push(l->stream, text, strlen(text));
		}
		if (l->after == before)
			break;
	}
	/* After a reset numbers may begin anew. */
	if (l->after > archive_journal_last(w->api->archive))
		l->after = 0;
	return r == 0 && !atomic_load(&l->gone);
}

static void end_listener(struct listener *l)
{
	http_stream_end(l->stream);
	/* gone() comes once and late, and its owner is the listener: it is freed there. */
}

static void on_gone(void *owner)
{
	struct listener *l = owner;

	if (atomic_exchange(&l->gone, true))
		free(l);	/* the thread was done with it first */
}

static void feed_all_locked(struct watch *w)
{
	for (struct listener **link = &w->listeners, *l; (l = *link);) {
		if (!w->closing && feed(w, l)) {
			link = &l->next;
			continue;
		}
		*link = l->next;
		w->n--;
		end_listener(l);
		if (atomic_exchange(&l->gone, true))
			free(l);
	}
}

static void listen_to_events(struct watch *w, struct api_call *call, struct http_request *req)
{
	struct http_stream_options options = { .status = 200, .content_type = "text/event-stream", .buffer_max_bytes = WATCH_STREAM_BUFFER_BYTES,
					       .keepalive = ": still here\n\n", .keepalive_ms = 15000, .gone = on_gone };
	const char *last = call->header(call, "Last-Event-ID");
	struct listener *l = calloc(1, sizeof(*l));
	int64_t after;

	if (!l || !api_query_number(call, "after", last ? atoll(last) : (int64_t)archive_journal_last(w->api->archive), 0, INT64_MAX, &after)) {
		if (!l)
			api_error(call, -ENOMEM, "listen to", "events");
		free(l);
		w->send(call, req);
		return;
	}
	l->after = (uint64_t)after;
	options.owner = l;
	http_request_add_header(req, "Cache-Control", "no-store");
	pthread_mutex_lock(&w->lock);
	api_call_fini(call);
	free(call);
	if (http_reply_stream(req, &options, &l->stream) < 0) {
		free(l);
	} else {
		l->next = w->listeners;
		w->listeners = l;
		w->n++;
		(void)http_stream_push(l->stream, ": mockarchive\n\n", 15);	/* it is empty, so there is room; or the client is gone */
	}
	pthread_mutex_unlock(&w->lock);
}

/* ---- the thread ---- */

static void *run(void *arg)
{
	struct watch *w = arg;
	uint64_t last = 0;
	bool closing = false;

	while (!closing) {
		struct pending *done = NULL, *p;

		if (archive_journal_wait(w->api->archive, last, LOOK_MS) == -ECANCELED) {
			struct timespec pause = { 0, LOOK_MS * 1000000 };

			nanosleep(&pause, NULL);	/* the archive ends, watch_stop() is about to come */
		}
		last = archive_journal_last(w->api->archive);
		rest_retry(w->api->rest);
		pthread_mutex_lock(&w->lock);
		closing = w->closing;
		for (struct pending **link = &w->pending; (p = *link);) {
			if (closing && !p->hangs)
				api_problem(p->call, 503, NULL, "the archive ends");
			if (!closing && !look(p)) {
				link = &p->next;
				continue;
			}
			*link = p->next;
			w->n--;
			p->next = done;
			done = p;
		}
		feed_all_locked(w);
		pthread_mutex_unlock(&w->lock);
		while ((p = done)) {
			done = p->next;
			answer(w, p);
		}
	}
	return NULL;
}

int watch_open(struct api *api, watch_send_fn *send, struct watch **ret_watch)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->api = api;
	w->send = send;
	pthread_mutex_init(&w->lock, NULL);
	r = thread_start(&w->thread, "watch", run, w);
	if (r < 0) {
		pthread_mutex_destroy(&w->lock);
		free(w);
		return r;
	}
	*ret_watch = w;
	return 0;
}

void watch_stop(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->closing = true;
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
}

void watch_close(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* Into the list, unless it has its answer already. */
static void add(struct watch *w, struct pending *p)
{
	bool done = true;

	pthread_mutex_lock(&w->lock);
	if (w->closing || w->n >= WATCH_PENDING_MAX) {
		api_problem(p->call, 503, NULL, "too many wait already");
	} else {
		p->next = w->pending;
		w->pending = p;
		done = look(p);
		if (done)
			w->pending = p->next;
		else
			w->n++;
	}
	pthread_mutex_unlock(&w->lock);
	if (done)
		answer(w, p);
}

/* What the query of /v1/wait says. False: answered. */
static bool read_wait(struct pending *p)
{
	struct api_call *call = p->call;
	char *path, *states = NULL, *fault = NULL;
	bool bad = false, ok = false;
	int64_t timeout_s;

	path = api_query(call, "path", &bad);
	if (!bad)
		states = api_query(call, "state", &bad);
	if (!bad)
		fault = api_query(call, "fault", &bad);
	if (bad || !api_query_number(call, "timeout", 10, 0, WATCH_TIMEOUT_MAX_S, &timeout_s) ||
	    !api_query_number(call, "hits", 1, 1, INT64_MAX, &p->hits) || !api_query_number(call, "waiting", 0, 0, UINT32_MAX, &p->waiting) ||
	    (states && !api_states(call, states, &p->states)))
		goto out;
	p->deadline_ms = now_ms() + timeout_s * 1000;
	p->by_path = path != NULL;
	if (!path == !fault || (path && !p->states && !p->waiting))
		api_problem(call, 400, NULL, "say what to wait for: path=P&state=S[,S], path=P&waiting=N, or fault=ID[&hits=N]");
	else if (path && api_clean_path(path, strlen(path), p->path) < 0)
		api_problem(call, 400, NULL, "'path' must be a path from the root of the mount");
	else if (fault && strlen(fault) >= sizeof(p->fault))
		api_problem(call, 404, NULL, "there is no rule '%.80s'", fault);
	else
		ok = true;
	if (ok && fault)
		strcpy(p->fault, fault);
out:
	free(path);
	free(states);
	free(fault);
	return ok;
}

void watch_take(struct watch *w, struct api_call *call, struct http_request *req)
{
	struct pending *p;

	if (strncmp(call->path, "/v1/events", 10) == 0) {
		listen_to_events(w, call, req);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		api_error(call, -ENOMEM, "wait for", call->path);
		w->send(call, req);
		return;
	}
	p->call = call;
	p->req = req;
	if (read_wait(p))
		add(w, p);
	else
		answer(w, p);
}

void watch_hang(struct watch *w, struct api_call *call, struct http_request *req)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (!p) {
		w->send(call, req);
		return;
	}
	p->call = call;
	p->req = req;
	p->hangs = true;
	p->deadline_ms = INT64_MAX;
	add(w, p);
}
