/* The queue between the close path and the ledger, and the thread that empties it.
 *
 * An event leaves the queue when the ledger has it, never before: a batch that fails is still the head
 * of the queue. Only two things lose an event, and both are counted as dropped: a full queue while the
 * ledger fails, and an event that the ledger calls invalid, which would block all others for ever. */
#include "lockstore/committer.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/leaf_mutex.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define NICE 15		/* the close path goes first, until somebody waits for us */
#define LINGER_MS 100		/* a transaction costs an fsync: wait so long for company */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000

struct event {
	enum committer_event kind;
	journal_slot slot;
	struct ledger_row row;		/* PUT; its strings are in text */
	struct ledger_pending pending;	/* PENDING_PUT; likewise */
	struct file_key key;		/* REMOVE, PENDING_REMOVE */
	uint8_t sha256[32];
	char text[];			/* path, then rule, then hold */
};

/* A journal slot that stays taken because the ledger did not get its event. */
struct dropped_slot {
	uint64_t number;	/* how many had been dropped, this one included */
	journal_slot slot;
};

struct committer {
	struct ledger *ledger;
	struct journal *journal;
	pthread_t thread;
	pthread_mutex_t lock;		/* all below; never held across a call of the ledger */
	pthread_cond_t work;		/* for the thread: events, a flush, the end */
	pthread_cond_t progress;	/* for pushers and flushers: room, a batch done or failed */
	struct event *queue[COMMITTER_QUEUE_MAX];	/* a ring; the thread alone removes */
	size_t head, count;
	uint64_t pushed, done;		/* events in and out since start */
	uint64_t written, dropped;
	uint64_t forgotten;		/* of the dropped, the first so many: a reindex found them */
	struct dropped_slot *dropped_slots;	/* in order of number; no more than the journal has */
	size_t ndropped_slots, max_dropped_slots;
	unsigned flushers;		/* waiting: do not linger */
	bool kick;			/* a flush came since the last batch began: do not back off */
	bool writing;			/* a batch is on its way, without the lock */
	uint64_t attempts;		/* batches that ended, well or not */
	bool stopping;
	int error;
	char message[160];
};

static void deadline_in(struct timespec *ret_deadline, unsigned ms)
{
	clock_gettime(CLOCK_MONOTONIC, ret_deadline);
	ret_deadline->tv_sec += ms / 1000;
	ret_deadline->tv_nsec += (long)(ms % 1000) * 1000000;
	if (ret_deadline->tv_nsec >= 1000000000) {
		ret_deadline->tv_sec++;
		ret_deadline->tv_nsec -= 1000000000;
	}
}

/* Counts it. A slot that cannot be remembered for want of memory stays taken until a restart. */
static void drop_locked(struct committer *committer, journal_slot slot)
{
	struct dropped_slot *slots;
	size_t max;

	committer->dropped++;
	if (slot == JOURNAL_NO_SLOT)
		return;
	if (committer->ndropped_slots == committer->max_dropped_slots) {
		max = committer->max_dropped_slots ? committer->max_dropped_slots * 2 : 64;
		slots = realloc(committer->dropped_slots, max * sizeof(*slots));
		if (!slots)
			return;
		committer->dropped_slots = slots;
		committer->max_dropped_slots = max;
	}
	committer->dropped_slots[committer->ndropped_slots++] =
		(struct dropped_slot){ .number = committer->dropped, .slot = slot };
}

/* Takes event and slot over; NULL for an event that there was no memory for, whose slot stays the caller's. */
static int push(struct committer *committer, struct event *event, journal_slot slot)
{
	int r = event ? 0 : -ENOMEM;

	pthread_mutex_lock(&committer->lock);
	while (event && committer->count == COMMITTER_QUEUE_MAX && !committer->error && !committer->stopping)
		pthread_cond_wait(&committer->progress, &committer->lock);
	if (event && committer->count < COMMITTER_QUEUE_MAX && !committer->stopping) {
		committer->queue[(committer->head + committer->count++) % COMMITTER_QUEUE_MAX] = event;
		committer->pushed++;
		event = NULL;
		/* The first one starts the wait for company, a full batch ends it. */
		if (committer->count == 1 || committer->count == COMMITTER_BATCH_MAX)
			pthread_cond_signal(&committer->work);
	} else {
		drop_locked(committer, r == 0 ? slot : JOURNAL_NO_SLOT);
	}
	pthread_mutex_unlock(&committer->lock);
	free(event);
	return r;
}

static int apply(struct ledger *ledger, const struct event *event)
{
	int r;

	switch (event->kind) {
	case COMMITTER_PUT:
		r = ledger_put(ledger, &event->row);
		return r < 0 ? r : ledger_pending_remove(ledger, &event->row.key);
	case COMMITTER_REMOVE:
		r = ledger_remove(ledger, &event->key);
		return r < 0 ? r : ledger_pending_remove(ledger, &event->key);
	case COMMITTER_PENDING_PUT:
		return ledger_pending_put(ledger, &event->pending);
	case COMMITTER_PENDING_REMOVE:
		return ledger_pending_remove(ledger, &event->key);
	}
	return -EINVAL;
}

/* One transaction. refused[i]: the ledger found event i invalid, before it changed anything. */
static int write_batch(struct ledger *ledger, struct event *const *events, size_t n, bool *refused)
{
	int r;

	r = ledger_begin(ledger);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = apply(ledger, events[i]);
		refused[i] = r == -EINVAL;
		if (r < 0 && r != -EINVAL) {
			ledger_rollback(ledger);
			return r;
		}
	}
	return ledger_commit(ledger);
}

/* Takes a written batch off the queue. Called without the lock, since it frees journal slots. */
static void retire_batch(struct committer *committer, struct event *const *events, size_t n, const bool *refused)
{
	for (size_t i = 0; i < n; i++)
		if (!refused[i])
			journal_free(committer->journal, events[i]->slot);
	pthread_mutex_lock(&committer->lock);
	for (size_t i = 0; i < n; i++) {
		if (refused[i])
			drop_locked(committer, events[i]->slot);
		else
			committer->written++;
	}
	committer->head = (committer->head + n) % COMMITTER_QUEUE_MAX;
	committer->count -= n;
	committer->done += n;
	committer->error = 0;
	committer->message[0] = '\0';
	pthread_mutex_unlock(&committer->lock);
	for (size_t i = 0; i < n; i++)
		free(events[i]);
}

/* Waits until there is a batch worth writing. 0: none, and there will be none. */
static size_t wait_for_batch_locked(struct committer *committer, struct event **ret_events)
{
	struct timespec deadline;
	size_t n;

	while (!committer->count && !committer->stopping)
		pthread_cond_wait(&committer->work, &committer->lock);
	deadline_in(&deadline, LINGER_MS);
	while (committer->count < COMMITTER_BATCH_MAX && !committer->stopping && !committer->flushers)
		if (pthread_cond_timedwait(&committer->work, &committer->lock, &deadline) == ETIMEDOUT)
			break;
	n = committer->count < COMMITTER_BATCH_MAX ? committer->count : COMMITTER_BATCH_MAX;
	for (size_t i = 0; i < n; i++)
		ret_events[i] = committer->queue[(committer->head + i) % COMMITTER_QUEUE_MAX];
	return n;
}

/* A flush ends the pause: somebody asks now, and gets the answer of now. */
static void back_off_locked(struct committer *committer, unsigned ms)
{
	struct timespec deadline;

	deadline_in(&deadline, ms);
	while (!committer->stopping && !committer->kick)
		if (pthread_cond_timedwait(&committer->work, &committer->lock, &deadline) == ETIMEDOUT)
			break;
}

/* Of this thread alone (setpriority(2), Linux). Only who may come back goes away: without privilege nobody does. */
static void set_nice(int *nice, int wanted)
{
	if (*nice != wanted && geteuid() == 0 && setpriority(PRIO_PROCESS, 0, wanted) == 0)
		*nice = wanted;
}

static void *run(void *arg)
{
	struct committer *committer = arg;
	struct event *events[COMMITTER_BATCH_MAX];
	bool refused[COMMITTER_BATCH_MAX];
	unsigned backoff_ms = BACKOFF_MIN_MS;
	int nice = 0, r;
	bool waited;
	size_t n;

	pthread_mutex_lock(&committer->lock);
	while ((n = wait_for_batch_locked(committer, events)) > 0) {
		committer->writing = true;
		committer->kick = false;
		waited = committer->flushers || committer->stopping || committer->count == COMMITTER_QUEUE_MAX;
		pthread_mutex_unlock(&committer->lock);
		set_nice(&nice, waited ? 0 : NICE);
		r = write_batch(committer->ledger, events, n, refused);
		if (r == 0)
			retire_batch(committer, events, n, refused);
		pthread_mutex_lock(&committer->lock);
		committer->writing = false;
		committer->attempts++;
		if (r < 0) {
			committer->error = r;
			snprintf(committer->message, sizeof(committer->message), "%s", ledger_error(committer->ledger));
		}
		pthread_cond_broadcast(&committer->progress);
		if (r == 0) {
			backoff_ms = BACKOFF_MIN_MS;
			continue;
		}
		if (committer->stopping)
			break;
		back_off_locked(committer, backoff_ms);
		backoff_ms = backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
	}
	pthread_mutex_unlock(&committer->lock);
	return NULL;
}

int committer_start(struct ledger *ledger, struct journal *journal, struct committer **ret_committer)
{
	struct committer *committer;
	int r;

	committer = calloc(1, sizeof(*committer));
	if (!committer)
		return -ENOMEM;
	committer->ledger = ledger;
	committer->journal = journal;
	leaf_mutex_init(&committer->lock);
	monotonic_cond_init(&committer->work);
	monotonic_cond_init(&committer->progress);
	r = thread_start(&committer->thread, "committer", run, committer);
	if (r < 0) {
		pthread_cond_destroy(&committer->work);
		pthread_cond_destroy(&committer->progress);
		pthread_mutex_destroy(&committer->lock);
		free(committer);
		return r;
	}
	*ret_committer = committer;
	return 0;
}

void committer_stop(struct committer *committer)
{
	if (!committer)
		return;
	pthread_mutex_lock(&committer->lock);
	committer->stopping = true;
	pthread_cond_signal(&committer->work);
	pthread_cond_broadcast(&committer->progress);
	pthread_mutex_unlock(&committer->lock);
	pthread_join(committer->thread, NULL);
	/* What the ledger would not take keeps its journal slots: the next start reads them. */
	for (size_t i = 0; i < committer->count; i++)
		free(committer->queue[(committer->head + i) % COMMITTER_QUEUE_MAX]);
	pthread_cond_destroy(&committer->work);
	pthread_cond_destroy(&committer->progress);
	pthread_mutex_destroy(&committer->lock);
	free(committer->dropped_slots);
	free(committer);
}

static struct event *event_new(enum committer_event kind, journal_slot slot, const char *path, const char *rule,
			       const char *hold)
{
	size_t path_size = strlen(path) + 1, rule_size = strlen(rule) + 1, hold_size = strlen(hold) + 1;
	struct event *event = malloc(sizeof(*event) + path_size + rule_size + hold_size);

	if (!event)
		return NULL;
	event->kind = kind;
	event->slot = slot;
	memcpy(event->text, path, path_size);
	memcpy(event->text + path_size, rule, rule_size);
	memcpy(event->text + path_size + rule_size, hold, hold_size);
	return event;
}

int committer_put(struct committer *committer, const struct ledger_row *row, journal_slot slot)
{
	struct event *event = event_new(COMMITTER_PUT, slot, row->path, row->rule ? row->rule : "",
					row->hold ? row->hold : "");

	if (event) {
		event->row = *row;
		event->row.path = event->text;
		event->row.rule = row->rule ? event->text + strlen(event->text) + 1 : NULL;
		event->row.hold = row->hold ? strchr(event->text + strlen(event->text) + 1, '\0') + 1 : NULL;
		if (row->sha256) {
			memcpy(event->sha256, row->sha256, sizeof(event->sha256));
			event->row.sha256 = event->sha256;
		}
	}
	return push(committer, event, slot);
}

int committer_remove(struct committer *committer, const struct file_key *key)
{
	struct event *event = event_new(COMMITTER_REMOVE, JOURNAL_NO_SLOT, "", "", "");

	if (event)
		event->key = *key;
	return push(committer, event, JOURNAL_NO_SLOT);
}

int committer_pending_put(struct committer *committer, const struct ledger_pending *pending, journal_slot slot)
{
	struct event *event = event_new(COMMITTER_PENDING_PUT, slot, pending->path, "", "");

	if (event) {
		event->pending = *pending;
		event->pending.path = event->text;
	}
	return push(committer, event, slot);
}

int committer_pending_remove(struct committer *committer, const struct file_key *key)
{
	struct event *event = event_new(COMMITTER_PENDING_REMOVE, JOURNAL_NO_SLOT, "", "", "");

	if (event)
		event->key = *key;
	return push(committer, event, JOURNAL_NO_SLOT);
}

int committer_flush(struct committer *committer, unsigned timeout_ms)
{
	struct timespec deadline;
	uint64_t want, attempts;
	int r = 0;

	deadline_in(&deadline, timeout_ms);
	pthread_mutex_lock(&committer->lock);
	want = committer->pushed;
	/* The error of a batch that began before this call is old news: the one after it counts. */
	attempts = committer->attempts + (committer->writing ? 2 : 1);
	committer->flushers++;
	committer->kick = true;
	pthread_cond_signal(&committer->work);
	while (committer->done < want) {
		if (committer->error && committer->attempts >= attempts) {
			r = committer->error;
			break;
		}
		if (pthread_cond_timedwait(&committer->progress, &committer->lock, &deadline) == ETIMEDOUT) {
			if (committer->done < want)
				r = committer->error ? committer->error : -ETIMEDOUT;
			break;
		}
	}
	committer->flushers--;
	pthread_mutex_unlock(&committer->lock);
	return r;
}

void committer_status(struct committer *committer, struct committer_status *ret_status)
{
	pthread_mutex_lock(&committer->lock);
	ret_status->queued = committer->count;
	ret_status->written = committer->written;
	ret_status->dropped = committer->dropped - committer->forgotten;
	ret_status->error = committer->error;
	memcpy(ret_status->message, committer->message, sizeof(ret_status->message));
	pthread_mutex_unlock(&committer->lock);
}

void committer_forget_dropped(struct committer *committer, uint64_t dropped)
{
	size_t n = 0;

	pthread_mutex_lock(&committer->lock);
	if (dropped > committer->dropped - committer->forgotten)
		dropped = committer->dropped - committer->forgotten;
	committer->forgotten += dropped;
	while (n < committer->ndropped_slots && committer->dropped_slots[n].number <= committer->forgotten)
		journal_free(committer->journal, committer->dropped_slots[n++].slot);
	committer->ndropped_slots -= n;
	if (n)
		memmove(committer->dropped_slots, committer->dropped_slots + n,
			committer->ndropped_slots * sizeof(*committer->dropped_slots));
	pthread_mutex_unlock(&committer->lock);
}
