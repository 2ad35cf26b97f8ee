/* Archive time and what is to come in it: a heap of events, and a clock that is the real one, runs faster, or stands until it is
 * moved. The robot works at a moment of its own (cursor_ns), which is when its event was due: what it plans from there does not
 * depend on how long the work took. Whoever asks sees that moment too while the clock is moved by hand. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mockarchive/archive_private.h"

#define EVENTS_MAX 4000000
#define RATE_MAX 1e6
#define LOOK_AGAIN_NS (10 * ARCHIVE_NS)

int64_t real_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * ARCHIVE_NS + t.tv_nsec;
}

int64_t clock_after(int64_t now_ns, int64_t delay_ns)
{
	int64_t sum;

	return __builtin_add_overflow(now_ns, delay_ns, &sum) ? ARCHIVE_NEVER - 1 : sum;
}

uint64_t serial_locked(struct archive *a)
{
	return ++a->next_serial;
}

static int64_t flowing_locked(struct archive *a)
{
	double passed = (real_now_ns() - a->base_real_ns) * a->rate;

	return clock_after(a->base_ns, passed < 9e18 ? (int64_t)passed : ARCHIVE_NEVER / 2);
}

int64_t clock_now_locked(struct archive *a)
{
	return a->clock_mode == ARCHIVE_CLOCK_MANUAL ? a->cursor_ns : flowing_locked(a);
}

void clock_init(struct archive *a)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	a->base_ns = a->cursor_ns = a->goal_ns = t.tv_sec * ARCHIVE_NS + t.tv_nsec;
	a->base_real_ns = real_now_ns();
}

int clock_parse(const char *text, enum archive_clock_mode *ret_mode, double *ret_rate)
{
	const char *number = strncmp(text, "scaled:", 7) == 0 ? text + 7 : *text == 'x' ? text + 1 : NULL;
	double rate = 1;
	char *end;

	if (number) {
		rate = strtod(number, &end);
		if (end == number || *end || !(rate > 0 && rate <= RATE_MAX))
			return -EINVAL;
		*ret_mode = ARCHIVE_CLOCK_SCALED;
	} else if (strcmp(text, "real") == 0) {
		*ret_mode = ARCHIVE_CLOCK_REAL;
	} else if (strcmp(text, "manual") == 0) {
		*ret_mode = ARCHIVE_CLOCK_MANUAL;
	} else {
		return -EINVAL;
	}
	*ret_rate = rate;
	return 0;
}

/* ---- the heap ---- */

static bool is_before(const struct due *x, const struct due *y)
{
	return x->due_ns != y->due_ns ? x->due_ns < y->due_ns : x->order < y->order;
}

static void swap(struct due *x, struct due *y)
{
	struct due t = *x;

	*x = *y;
	*y = t;
}

uint64_t clock_add_locked(struct archive *a, int64_t due_ns, enum due_type type, uint64_t serial, uint64_t file)
{
	size_t i = a->nheap;
	struct due *grown;

	if (a->nheap == a->heap_room) {
		size_t room = a->heap_room ? a->heap_room * 2 : 256;

		grown = room > EVENTS_MAX ? NULL : reallocarray(a->heap, room, sizeof(*grown));
		if (!grown)
			abort();	/* an archive that forgets what it has to do would leave callers waiting for ever */
		a->heap = grown;
		a->heap_room = room;
	}
	a->heap[i] = (struct due){ .due_ns = due_ns, .order = serial_locked(a), .type = type, .serial = serial, .file = file };
	a->nheap++;
	while (i > 0 && is_before(&a->heap[i], &a->heap[(i - 1) / 2])) {
		swap(&a->heap[i], &a->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	a->robot_idle = false;
	if (i == 0)
		pthread_cond_signal(&a->work);
	return serial;
}

void clock_look_later_locked(struct archive *a)
{
	if (a->look_planned)
		return;
	a->look_planned = true;
	clock_add_locked(a, clock_after(clock_now_locked(a), LOOK_AGAIN_NS), DUE_LOOK, 0, 0);
}

static void pop_locked(struct archive *a, struct due *ret)
{
	size_t i = 0, child;

	*ret = a->heap[0];
	a->heap[0] = a->heap[--a->nheap];
	while ((child = 2 * i + 1) < a->nheap) {
		if (child + 1 < a->nheap && is_before(&a->heap[child + 1], &a->heap[child]))
			child++;
		if (!is_before(&a->heap[child], &a->heap[i]))
			break;
		swap(&a->heap[i], &a->heap[child]);
		i = child;
	}
}

bool clock_is_steered_locked(const struct archive *a)
{
	return a->clock_mode == ARCHIVE_CLOCK_MANUAL || a->advancing > 0;
}

bool clock_next_locked(struct archive *a, struct due *ret)
{
	bool manual = a->clock_mode == ARCHIVE_CLOCK_MANUAL;
	int64_t limit = manual ? a->goal_ns : flowing_locked(a), wait_ns;
	struct timespec until;

	if (a->stopping)
		return false;
	if (clock_is_steered_locked(a) && robot_is_moving_locked(a)) {	/* begun while time flowed: first that, then the next event */
		pthread_cond_wait(&a->work, &a->lock);
		return false;
	}
	if (a->nheap && a->heap[0].due_ns <= limit) {
		pop_locked(a, ret);
		if (ret->due_ns > a->cursor_ns)
			a->cursor_ns = ret->due_ns;
		a->handled++;
		return true;
	}
	if (a->cursor_ns < limit)
		a->cursor_ns = limit;
	if (!a->robot_idle) {
		a->robot_idle = true;
		pthread_cond_broadcast(&a->changed);
	}
	if (manual || !a->nheap) {
		pthread_cond_wait(&a->work, &a->lock);
		return false;
	}
	wait_ns = (a->heap[0].due_ns - limit) / a->rate + 1;
	wait_ns = clock_after(real_now_ns(), wait_ns < 3600 * ARCHIVE_NS ? wait_ns : 3600 * ARCHIVE_NS);
	until = (struct timespec){ wait_ns / ARCHIVE_NS, wait_ns % ARCHIVE_NS };
	pthread_cond_timedwait(&a->work, &a->lock, &until);
	return false;
}

/* ---- for who steers it ---- */

const char *archive_clock_mode_name(enum archive_clock_mode mode)
{
	static const char *const names[] = { "real", "scaled", "manual" };

	return names[mode];
}

void archive_clock_get(struct archive *a, struct archive_clock *ret)
{
	pthread_mutex_lock(&a->lock);
	*ret = (struct archive_clock){ .mode = a->clock_mode, .rate = a->clock_mode == ARCHIVE_CLOCK_SCALED ? a->rate : 1,
				       .now_ns = clock_now_locked(a), .next_due_ns = a->nheap ? a->heap[0].due_ns : ARCHIVE_NEVER,
				       .events = a->nheap };
	pthread_mutex_unlock(&a->lock);
}

int64_t archive_now_ns(struct archive *a)
{
	int64_t now;

	pthread_mutex_lock(&a->lock);
	now = clock_now_locked(a);
	pthread_mutex_unlock(&a->lock);
	return now;
}

int archive_clock_set(struct archive *a, const char *text)
{
	enum archive_clock_mode mode;
	double rate;
	int r = clock_parse(text, &mode, &rate);

	if (r < 0)
		return r;
	pthread_mutex_lock(&a->lock);
	a->base_ns = a->goal_ns = clock_now_locked(a);
	if (a->cursor_ns < a->base_ns)
		a->cursor_ns = a->base_ns;
	a->base_real_ns = real_now_ns();
	a->clock_mode = mode;
	a->rate = rate;
	history_note(a, ARCHIVE_EVENT_CLOCK, 0, "", 0, "%s", text);
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

/* Writers whose close(2) has returned a moment ago still count as writers: what they closed shall be part of it. */
static void settle_all_locked(struct archive *a)
{
	bool waited = true;

	while (waited && !a->stopping) {
		waited = false;
		for (size_t i = 0; i < ARCHIVE_HASH && !waited; i++)
			for (struct file *f = a->hash[i]; f; f = f->hash_next)
				if (f->closing > 0 && real_now_ns() - f->closing_real_ns < ARCHIVE_NS / 4) {
					file_settle_locked(a, f);
					waited = true;
					break;		/* it may be gone */
				}
	}
}

static void wait_for_robot_locked(struct archive *a)
{
	a->robot_idle = false;
	pthread_cond_signal(&a->work);
	while (!a->robot_idle && !a->stopping)
		pthread_cond_wait(&a->changed, &a->lock);
}

static void move_locked(struct archive *a, int64_t ns)
{
	if (a->clock_mode == ARCHIVE_CLOCK_MANUAL)
		a->goal_ns = clock_after(a->goal_ns, ns);
	else
		a->base_ns = clock_after(a->base_ns, ns);
	wait_for_robot_locked(a);
}

int archive_clock_advance(struct archive *a, int64_t ns, unsigned *ret_done)
{
	uint64_t before;

	if (ns < 0)
		return -EINVAL;
	pthread_mutex_lock(&a->lock);
	settle_all_locked(a);
	before = a->handled;
	a->advancing++;
	move_locked(a, ns);
	a->advancing--;
	if (ret_done)
		*ret_done = a->handled - before;
	history_note(a, ARCHIVE_EVENT_CLOCK, 0, "", 0, "advanced %gs", ns / 1e9);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

/* When the next event is due that is part of a job, or leads to one. */
static int64_t next_work_locked(struct archive *a)
{
	int64_t next = ARCHIVE_NEVER;

	for (size_t i = 0; i < a->nheap; i++) {
		const struct due *e = &a->heap[i];
		const struct file *f = e->file ? file_find_locked(a, e->file) : NULL;
		bool live = e->type == DUE_CALL || e->type == DUE_FLAG || e->type == DUE_REPLICA ||
			    (e->type == DUE_JOB && f && f->job && f->job->serial == e->serial) ||
			    (e->type == DUE_FILE_ARCHIVE && f && f->event == e->serial) ||
			    /* A release after archiving is work, one that ends a stay after a recall is not. */
			    (e->type == DUE_FILE_RELEASE && f && f->event == e->serial && f->recalled_ns <= f->archived_ns && !file_is_pinned_locked(a, f));

		if (live && e->due_ns < next)
			next = e->due_ns;
	}
	return next;
}

int archive_clock_settle(struct archive *a, int64_t max_ns, unsigned *ret_done)
{
	int64_t end, next;
	uint64_t before;
	int r = 0;

	pthread_mutex_lock(&a->lock);
	settle_all_locked(a);
	before = a->handled;
	a->advancing++;
	wait_for_robot_locked(a);
	end = clock_after(clock_now_locked(a), max_ns);
	while (!a->stopping && (next = next_work_locked(a)) != ARCHIVE_NEVER) {
		if (next > end) {
			r = -ETIMEDOUT;
			break;
		}
		next -= clock_now_locked(a);
		move_locked(a, next > 0 ? next : 0);
	}
	a->advancing--;
	if (ret_done)
		*ret_done = a->handled - before;
	history_note(a, ARCHIVE_EVENT_CLOCK, 0, "", r, "advanced until nothing was under way");
	pthread_mutex_unlock(&a->lock);
	return a->stopping ? -ECANCELED : r;
}
