#include "lockstore/upstream/watcher_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 1000

int64_t watcher_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

int64_t watcher_backoff_ms(struct watcher *w, unsigned tries, int64_t max_ms)
{
	int64_t ms = WATCHER_RETRY_FIRST_MS;

	while (tries-- > 1 && ms < max_ms)
		ms *= 2;
	if (ms > max_ms)
		ms = max_ms;
	return ms / 2 + rand_r(&w->seed) % (ms / 2 + 1);
}

const char *watcher_reason(const struct upstream_reply *reply, char text[WATCHER_REASON_BYTES])
{
	if (!reply->status)
		return *reply->text ? reply->text : reply->error_class;
	snprintf(text, WATCHER_REASON_BYTES, "HTTP status %d%s%s%s%s", reply->status, *reply->error_class ? " " : "", reply->error_class,
		 *reply->text ? ": " : "", reply->text);
	return text;
}

void watcher_tell(struct watcher *w, struct watcher_news news)
{
	w->config->news(w->config->arg, &news);
}

void watcher_end(struct watcher *w, int error, const char *format, ...)
{
	va_list ap;

	if (w->end < 0)
		return;
	w->end = error;
	va_start(ap, format);
	(void)vsnprintf(w->why, WATCHER_WHY_BYTES, format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
}

void watcher_overflow(struct watcher *w)
{
	w->scan_wanted = true;
	if (!w->told_overflow)
		watcher_tell(w, (struct watcher_news){ .event = WATCHER_OVERFLOW });
	w->told_overflow = true;
}

/* ---- the stream ---- */

static void take_event(struct watcher *w, enum notify_kind kind, const char *path)
{
	switch (kind) {
	case NOTIFY_FILE_CAME:
		watcher_file_came(w, path);
		break;
	case NOTIFY_FILE_CHANGED:
		/* Not known: it came before the stream, and the walk meets it; or it is locked, or left alone, which this may change. */
		watcher_file_came(w, path);
		break;
	case NOTIFY_FILE_LEFT:
		settling_forget(w->files, path);
		break;
	case NOTIFY_DIR_CAME:
		/* What it had in it when it was moved here comes with no events. */
		if (!w->config->recursive)
			break;
		if (!w->walk) {
			if (walk_open(path, true, &w->walk) < 0)
				watcher_end(w, -ENOMEM, "out of memory");
		} else if (walk_add(w->walk, path) < 0) {
			watcher_overflow(w);
		}
		break;
	case NOTIFY_SELF_GONE:
		watcher_end(w, -ENODEV, "the directory was removed, or moved away");
		break;
	case NOTIFY_DIR_LEFT:	/* its files are not found any more when they are due */
	case NOTIFY_UNKNOWN:
		break;
	}
}

/* At the start a refusal is final: a wrong name or right does not heal. Later it may, but for a directory that is gone. */
static void stream_refused(struct watcher *w, const struct upstream_reply *reply)
{
	char why[WATCHER_REASON_BYTES];

	if (w->was_up) {
		if (reply->outcome == UPSTREAM_MISSING)
			watcher_end(w, -ENODEV, "the directory is not there any more");
	} else if (reply->outcome == UPSTREAM_UNAUTHORISED || reply->outcome == UPSTREAM_DENIED) {
		watcher_end(w, -EACCES, "the cluster does not tell us of changes there: %s", watcher_reason(reply, why));
	} else if (reply->outcome == UPSTREAM_MISSING || reply->outcome == UPSTREAM_REFUSED) {
		watcher_end(w, reply->outcome == UPSTREAM_MISSING ? -ENOENT : -EINVAL, "the cluster cannot tell of changes there: %s", watcher_reason(reply, why));
	}
}

static void stream_down(struct watcher *w, const struct upstream_reply *reply)
{
	int64_t now = watcher_now_ms(), ms;
	char why[WATCHER_REASON_BYTES];

	notify_stream_close(w->stream);
	w->stream = NULL;
	if (w->stream_up && now - w->up_since_ms > WATCHER_RECONNECT_MAX_MS)
		w->connect_tries = 0;	/* it was good for a while: this is news */
	w->stream_up = false;
	stream_refused(w, reply);
	ms = watcher_backoff_ms(w, ++w->connect_tries, WATCHER_RECONNECT_MAX_MS);
	if (ms < reply->retry_after_s * INT64_C(1000))
		ms = reply->retry_after_s * INT64_C(1000);
	w->connect_ms = now + ms;
	if (w->end == 0)
		watcher_tell(w, (struct watcher_news){ .event = WATCHER_DOWN, .why = watcher_reason(reply, why),
					       .retry_s = (unsigned)(ms / 1000 + 1) });
}

static void connect_stream(struct watcher *w)
{
	struct upstream_reply reply;
	const char *token;
	char *ref = NULL;
	int r;

	/* A new token where the old one has run out. The done() of others may be called meanwhile: they start nothing that waits. */
	r = qumulo_token(w->config->qumulo, &token, &reply);
	if (r == 0)
		r = endpoint_ref(w->config->directory, "", &ref);
	if (r == 0)
		r = notify_stream_open(w->config->qumulo, &w->config->endpoint, token, ref, w->config->recursive, &w->stream);
	free(ref);
	if (r < 0) {
		if (r != -EACCES)
			snprintf(reply.text, sizeof(reply.text), "%s", strerror(-r));
		stream_down(w, &reply);
	}
	upstream_reply_fini(&reply);
}

static void tend_stream(struct watcher *w)
{
	struct upstream_reply reply;
	enum notify_kind kind;
	char *path;

	if (w->config->once)
		return;
	if (!w->stream) {
		if (watcher_now_ms() >= w->connect_ms)
			connect_stream(w);
		if (!w->stream)
			return;
	}
	if (!w->stream_up && notify_stream_is_up(w->stream)) {
		w->stream_up = w->was_up = true;
		w->up_since_ms = watcher_now_ms();
		w->scan_wanted = true;	/* from here on nothing is missed: what was is looked for now */
		if (w->walk && !w->page_busy) {
			walk_close(w->walk);
			w->walk = NULL;
		}
		watcher_tell(w, (struct watcher_news){ .event = WATCHER_UP });
	}
	while (w->end == 0 && notify_stream_take(w->stream, &kind, &path)) {
		take_event(w, kind, path);
		free(path);
	}
	if (w->end == 0 && notify_stream_is_over(w->stream, &reply)) {
		stream_down(w, &reply);
		upstream_reply_fini(&reply);
	}
}

/* ---- all of it ---- */

/* With `once`: nothing left that another try would help. */
static bool is_finished(struct watcher *w)
{
	struct settling_file *file;

	if (!w->config->once || w->walk || w->page_busy || w->scan_wanted || w->busy)
		return false;
	/* What failed too often goes out of the table, and is counted. */
	while ((file = settling_take(w->files, INT64_MAX))) {
		if (file->tries < WATCHER_ONCE_TRIES) {
			settling_put(w->files, file, file->due_ms, file->due_ms);
			return false;
		}
		w->totals.waiting++;
		settling_put(w->files, file, -1, 0);
	}
	return true;
}

static unsigned pause_ms(const struct watcher *w)
{
	int64_t now = watcher_now_ms(), next = settling_next_ms(w->files);

	if (w->idle == NULL)
		return TICK_MS;	/* a reply ends the wait */
	if (next < w->paused_ms)
		next = w->paused_ms;
	if (!w->stream && !w->config->once && w->connect_ms < next)
		next = w->connect_ms;
	if (w->walk && !w->page_busy && w->page_ms < next && w->page_ms > now)
		next = w->page_ms;
	return next <= now ? 0 : next - now > TICK_MS ? TICK_MS : (unsigned)(next - now);
}

int watcher_run(const struct watcher_config *config, struct watcher_totals *ret_totals, char ret_why[WATCHER_WHY_BYTES])
{
	struct watcher w = { .config = config, .why = ret_why };
	int r;

	*ret_why = '\0';
	w.seed = (unsigned)watcher_now_ms() ^ (unsigned)getpid();
	w.scan_ms = INT64_MAX;
	w.scan_wanted = config->once;
	r = watcher_jobs_open(&w);
	if (r < 0)
		watcher_end(&w, r, "out of memory");
	while (w.end == 0 && !atomic_load(config->stop)) {
		tend_stream(&w);
		watcher_start_jobs(&w);
		watcher_walk(&w);
		if (is_finished(&w) || w.end < 0)
			break;
		r = qumulo_run(config->qumulo, pause_ms(&w));
		if (r < 0)
			watcher_end(&w, r, "the HTTP client failed");
	}
	/* What is in flight comes to its end: a lock that was set is told. No call is longer than the client's time limit. */
	w.paused_ms = INT64_MAX;
	while ((w.busy || w.page_busy) && qumulo_run(config->qumulo, TICK_MS) == 0)
		;
	notify_stream_close(w.stream);
	w.totals.waiting += w.files ? settling_count(w.files) : 0;
	*ret_totals = w.totals;
	walk_close(w.walk);
	watcher_jobs_close(&w);
	return w.end;
}
