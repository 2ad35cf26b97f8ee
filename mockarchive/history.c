/* The journal of what happened: a ring in memory, numbered without gaps, with a lock of its own that is the last of all. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/events.h"
#include "lockstore/monotonic_cond.h"
#include "mockarchive/archive_private.h"

_Static_assert(EVENT_ARCHIVE_NAME - EVENT_ARCHIVE_STATE == ARCHIVE_EVENT_NAME, "both name the same kinds in the same order");

#define PAGE 256		/* entries that are copied at a time */

struct entry {
	struct archive_event event;
	char *text;		/* path, fault and detail of it */
};

struct journal_ring {
	pthread_mutex_t lock;
	pthread_cond_t added;	/* CLOCK_MONOTONIC */
	bool stopping;
	uint64_t last;		/* seq */
	uint64_t first;		/* the oldest that is kept; last + 1: none */
	uint64_t reset_at;	/* entries up to here were taken away on purpose */
	struct entry entries[ARCHIVE_JOURNAL_MAX];
};

const char *archive_event_kind_name(enum archive_event_kind kind)
{
	static const char *const names[ARCHIVE_EVENT_KINDS] = {
		"state", "flag", "fault", "request", "copy", "pin", "drive", "clock", "setting", "name",
	};

	return names[kind];
}

int history_open(struct journal_ring **ret)
{
	struct journal_ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	pthread_mutex_init(&ring->lock, NULL);
	monotonic_cond_init(&ring->added);
	ring->first = 1;
	*ret = ring;
	return 0;
}

static void clear_locked(struct journal_ring *ring)
{
	for (; ring->first <= ring->last; ring->first++) {
		struct entry *e = &ring->entries[ring->first % ARCHIVE_JOURNAL_MAX];

		free(e->text);
		e->text = NULL;
	}
}

void history_reset(struct journal_ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	clear_locked(ring);
	ring->reset_at = ring->last;
	pthread_mutex_unlock(&ring->lock);
}

void history_stop(struct journal_ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->stopping = true;
	pthread_cond_broadcast(&ring->added);
	pthread_mutex_unlock(&ring->lock);
}

void history_close(struct journal_ring *ring)
{
	if (!ring)
		return;
	clear_locked(ring);
	pthread_cond_destroy(&ring->added);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}

static char *append(char *at, const char *text, const char **ret)
{
	*ret = at;
	return stpcpy(at, text) + 1;
}

/* One allocation for the three texts. NULL: no memory, they stay empty. */
static char *keep_texts(struct archive_event *to, const struct archive_event *from)
{
	const char *path = from->path ? from->path : "", *fault = from->fault ? from->fault : "", *detail = from->detail ? from->detail : "";
	char *text = malloc(strlen(path) + strlen(fault) + strlen(detail) + 3), *at = text;

	to->path = to->fault = to->detail = "";
	if (text) {
		at = append(at, path, &to->path);
		at = append(at, fault, &to->fault);
		append(at, detail, &to->detail);
	}
	return text;
}

/* With -o events: the daemon's stream has it, too, among what happens to the files themselves. */
static void tell_stream(struct archive *a, const struct archive_event *event)
{
	bool state = event->kind == ARCHIVE_EVENT_STATE;

	if (!events_on(a->fs))
		return;
	events_archive_always(a->fs, &(struct event_archive){ .type = EVENT_ARCHIVE_STATE + event->kind, .path = event->path,
		.before = state ? archive_state_name(event->from) : NULL, .after = state ? archive_state_name(event->to) : NULL,
		.fault = event->fault, .detail = event->detail, .result = event->error });
}

void history_add(struct archive *a, const struct archive_event *event)
{
	struct journal_ring *ring = a->journal;
	struct timespec t;
	struct entry *e;

	tell_stream(a, event);
	clock_gettime(CLOCK_REALTIME, &t);
	pthread_mutex_lock(&ring->lock);
	if (ring->last + 1 - ring->first == ARCHIVE_JOURNAL_MAX) {
		e = &ring->entries[ring->first % ARCHIVE_JOURNAL_MAX];
		free(e->text);
		e->text = NULL;
		ring->first++;
	}
	e = &ring->entries[++ring->last % ARCHIVE_JOURNAL_MAX];
	e->event = *event;
	e->event.seq = ring->last;
	e->event.real_ns = t.tv_sec * ARCHIVE_NS + t.tv_nsec;
	e->text = keep_texts(&e->event, event);
	pthread_cond_broadcast(&ring->added);
	pthread_mutex_unlock(&ring->lock);
}

void history_note(struct archive *a, enum archive_event_kind kind, uint64_t id, const char *path, int error, const char *format, ...)
{
	char detail[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	history_add(a, &(struct archive_event){ .time_ns = clock_now_locked(a), .kind = kind, .file = id, .path = path, .error = error,
						.detail = detail });
}

static void put_page(struct entry *page, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(page[i].text);
}

/* Copies of the next entries. */
static size_t get_page(struct journal_ring *ring, uint64_t after, size_t max, struct entry *page, uint64_t *ret_lost)
{
	size_t n = 0;

	pthread_mutex_lock(&ring->lock);
	if (ring->first > after + 1) {
		*ret_lost += ring->first - 1 - (after > ring->reset_at ? after : ring->reset_at);
		after = ring->first - 1;
	}
	for (; n < max && after + 1 + n <= ring->last; n++) {
		page[n].event = ring->entries[(after + 1 + n) % ARCHIVE_JOURNAL_MAX].event;
		page[n].text = keep_texts(&page[n].event, &page[n].event);
	}
	pthread_mutex_unlock(&ring->lock);
	return n;
}

int archive_journal_read(struct archive *a, uint64_t after, unsigned limit, archive_event_fn fn, void *arg, uint64_t *ret_last,
			 uint64_t *ret_lost)
{
	struct entry page[PAGE];
	uint64_t lost = 0;
	size_t n;
	int r = 0;

	while (limit > 0 && r >= 0 && (n = get_page(a->journal, after, limit < PAGE ? limit : PAGE, page, &lost)) > 0) {
		for (size_t i = 0; i < n && r >= 0; i++) {
			r = fn(arg, &page[i].event);
			if (r >= 0)
				after = page[i].event.seq;
		}
		put_page(page, n);
		limit -= n;
	}
	if (ret_last)
		*ret_last = after;
	if (ret_lost)
		*ret_lost = lost;
	return r < 0 ? r : 0;
}

int archive_journal_wait(struct archive *a, uint64_t after, int timeout_ms)
{
	struct journal_ring *ring = a->journal;
	int64_t until_ns = real_now_ns() + timeout_ms * INT64_C(1000000);
	struct timespec until = { until_ns / ARCHIVE_NS, until_ns % ARCHIVE_NS };
	int r = 0;

	pthread_mutex_lock(&ring->lock);
	while (r == 0 && ring->last <= after && !ring->stopping)
		r = timeout_ms < 0 ? pthread_cond_wait(&ring->added, &ring->lock) : pthread_cond_timedwait(&ring->added, &ring->lock, &until);
	r = ring->stopping ? -ECANCELED : ring->last > after ? 0 : -ETIMEDOUT;
	pthread_mutex_unlock(&ring->lock);
	return r;
}

uint64_t archive_journal_last(struct archive *a)
{
	uint64_t last;

	pthread_mutex_lock(&a->journal->lock);
	last = a->journal->last;
	pthread_mutex_unlock(&a->journal->lock);
	return last;
}
