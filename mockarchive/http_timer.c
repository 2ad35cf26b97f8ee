/* A binary heap of due times and the thread that waits for its top. */
#include "mockarchive/http_timer.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

struct http_timer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;			/* of the top, or of closing */
	struct http_timer_entry **heap;		/* lock; as many as the owner has entries: no bound of its own */
	size_t count, allocated;		/* lock */
	bool closing;				/* lock */
};

int64_t http_timer_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void heap_push(struct http_timer *t, struct http_timer_entry *entry)
{
	size_t i = t->count++;

	for (; i > 0 && t->heap[(i - 1) / 2]->due_ns > entry->due_ns; i = (i - 1) / 2)
		t->heap[i] = t->heap[(i - 1) / 2];
	t->heap[i] = entry;
}

static struct http_timer_entry *heap_pop(struct http_timer *t)
{
	struct http_timer_entry *top = t->heap[0], *last = t->heap[--t->count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < t->count) {
		if (child + 1 < t->count && t->heap[child + 1]->due_ns < t->heap[child]->due_ns)
			child++;
		if (t->heap[child]->due_ns >= last->due_ns)
			break;
		t->heap[i] = t->heap[child];
		i = child;
	}
	t->heap[i] = last;
	return top;
}

static void *timer_main(void *arg)
{
	struct http_timer *t = arg;

	pthread_mutex_lock(&t->lock);
	while (t->count > 0 || !t->closing) {
		struct http_timer_entry *entry;

		if (t->count == 0) {
			pthread_cond_wait(&t->changed, &t->lock);
			continue;
		}
		if (!t->closing && t->heap[0]->due_ns > http_timer_now_ns()) {
			struct timespec until = { t->heap[0]->due_ns / 1000000000, t->heap[0]->due_ns % 1000000000 };

			pthread_cond_timedwait(&t->changed, &t->lock, &until);
			continue;
		}
		entry = heap_pop(t);
		pthread_mutex_unlock(&t->lock);
		entry->fn(entry);
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int http_timer_open(struct http_timer **ret_timer)
{
	struct http_timer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	monotonic_cond_init(&t->changed);
	r = thread_start(&t->thread, "http-timer", timer_main, t);
	if (r < 0) {
		pthread_cond_destroy(&t->changed);
		pthread_mutex_destroy(&t->lock);
		free(t);
		return r;
	}
	*ret_timer = t;
	return 0;
}

void http_timer_close(struct http_timer *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->closing = true;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t->heap);
	free(t);
}

int http_timer_add(struct http_timer *t, struct http_timer_entry *entry)
{
	int r = 0;

	pthread_mutex_lock(&t->lock);
	if (t->count == t->allocated) {
		size_t n = t->allocated ? 2 * t->allocated : 64;
		struct http_timer_entry **heap = reallocarray(t->heap, n, sizeof(heap[0]));

		if (!heap) {
			r = -ENOMEM;
			goto out;
		}
		t->heap = heap;
		t->allocated = n;
	}
	heap_push(t, entry);
	if (t->heap[0] == entry)
		pthread_cond_signal(&t->changed);
out:
	pthread_mutex_unlock(&t->lock);
	return r;
}
