/* The audit log's queue, and the thread that writes what is in it (audit_tail.h).
 *
 * Always true: an entry leaves the queue when its line is written, or when there was no room for it, which is
 * counted. */
#include "lockstore/audit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/audit_flood.h"
#include "lockstore/audit_tail.h"
#include "lockstore/leaf_mutex.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define NICE 15			/* as the committer: the close path goes first, until somebody waits for us */
#define NS INT64_C(1000000000)
#define RETRY_S 1
#define QUIET_NS NS		/* so long after the last entry the thread sleeps until it is woken */
#define BATCH_BYTES (1 << 20)	/* written at once */

struct event {
	struct event *next;
	struct waiter *waiter;		/* audit_put_sync(): on the stack of who waits */
	struct audit_times times;
	struct audit_entry entry;	/* its strings are in text */
	struct file_key key;
	uint64_t lost_before;		/* entries that found no room before this one */
	uint64_t count;
	size_t size_bytes;
	char text[];
};

struct waiter {
	int r;
	bool done;
};

struct audit {
	struct audit_options options;	/* constant; state_dir is not used after open */
	pthread_t thread;
	pthread_mutex_t lock;		/* guards what follows; never held across a system call on the log */
	pthread_cond_t work, progress;	/* for the thread; for who waits for the disk */
	struct event *head, **tail;
	size_t count, bytes;
	uint64_t pushed, done;		/* entries in, entries written or given up */
	uint64_t synced_done;		/* `done` when the file was last synced */
	uint64_t lost_pending;		/* lost since the last entry that found room */
	struct audit_flood *flood;
	struct audit_status status;
	unsigned waiters;		/* who waits for the disk: do not linger */
	bool asleep, stopping;
	int64_t last_put_ns;
	/* The thread's own, and those of open and close */
	struct audit_tail file;
	struct event *taken;		/* off the queue, not written yet; still in count and bytes */
	int64_t anchored_ns, swept_ns, looked_ns;
	uint64_t anchored_seq;
};

static int64_t ns_of(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);	/* fails only for a clock that does not exist */
	return t.tv_sec * NS + t.tv_nsec;
}

static void take_times(struct audit *audit, struct audit_times *ret)
{
	ret->wall_ns = ns_of(CLOCK_REALTIME);
	ret->boot_ns = ns_of(CLOCK_BOOTTIME);
	ret->clock_s = audit->options.now_s ? audit->options.now_s(audit->options.arg) : ret->wall_ns / NS;
}

static size_t size_of(const char *text)
{
	return text ? strlen(text) + 1 : 1;
}

static char *copy_text(char **at, const char *text)
{
	char *out = *at;
	size_t n = size_of(text);

	memcpy(out, text ? text : "", n);
	*at += n;
	return out;
}

static struct event *event_new(struct audit *audit, const struct audit_entry *entry)
{
	size_t size = sizeof(struct event) + size_of(entry->comm) + size_of(entry->path) + size_of(entry->detail);
	struct event *event = malloc(size);
	char *at;

	if (!event)
		return NULL;
	memset(event, 0, sizeof(*event));
	take_times(audit, &event->times);
	event->entry = *entry;
	at = event->text;
	event->entry.comm = copy_text(&at, entry->comm);
	event->entry.path = entry->path ? copy_text(&at, entry->path) : NULL;
	event->entry.detail = copy_text(&at, entry->detail);
	if (entry->key) {
		event->key = *entry->key;
		event->entry.key = &event->key;
	}
	event->count = 1;
	event->size_bytes = size;
	return event;
}

/* ---- the queue ---- */

/* Takes the event over. -ENOBUFS: there was no room, and it is counted; what must not get lost (sync) always has. */
static int push_locked(struct audit *audit, struct event *event, bool must)
{
	if (!must && (audit->count >= AUDIT_QUEUE_MAX || audit->bytes + event->size_bytes > AUDIT_QUEUE_BYTES)) {
		audit->lost_pending += event->count;
		audit->status.lost += event->count;
		free(event);
		return -ENOBUFS;
	}
	event->lost_before = audit->lost_pending;
	audit->lost_pending = 0;
	*audit->tail = event;
	audit->tail = &event->next;
	audit->count++;
	audit->bytes += event->size_bytes;
	audit->pushed++;
	audit->last_put_ns = event->times.boot_ns;
	/* While entries come, the thread looks by itself every AUDIT_LINGER_MS: waking it is a system call. */
	if (audit->asleep || must || audit->count == AUDIT_QUEUE_MAX / 2) {
		audit->asleep = false;
		pthread_cond_signal(&audit->work);
	}
	return 0;
}

bool audit_wants(struct audit *audit, enum audit_event event, int result)
{
	return audit && (result == 0 ? audit->options.success : audit->options.failure) & AUDIT_SET(event);
}

bool audit_is_repeat(struct audit *audit, uid_t uid, uint64_t file, enum audit_event event, unsigned op)
{
	struct audit_flood_id id = { .file = file, .uid = uid, .event = event, .op = op };
	bool counted;

	if (!audit)
		return true;
	pthread_mutex_lock(&audit->lock);
	counted = audit_flood_count(audit->flood, &id);
	audit->status.repeats += counted;
	pthread_mutex_unlock(&audit->lock);
	return counted;
}

static struct audit_flood_id flood_id_of(const struct audit_entry *entry)
{
	return (struct audit_flood_id){ .file = entry->file, .uid = entry->uid, .event = entry->event, .op = entry->op };
}

void audit_put(struct audit *audit, const struct audit_entry *entry)
{
	struct event *event, *first = NULL;
	struct audit_flood_id id;
	bool counted = false;

	if (!audit_wants(audit, entry->event, entry->result))
		return;
	event = event_new(audit, entry);
	if (event && entry->repeats)
		first = event_new(audit, entry);	/* kept, to say what was repeated */
	pthread_mutex_lock(&audit->lock);
	if (!event) {
		audit->lost_pending++;
		audit->status.lost++;
	}
	if (first) {
		id = flood_id_of(entry);
		if (audit_flood_begin(audit->flood, &id, first, first->times.boot_ns, &counted))
			first = NULL;
		audit->status.repeats += counted;
	}
	if (event && !counted) {
		(void)push_locked(audit, event, false);	/* counted, if there is no room */
		event = NULL;
	}
	pthread_mutex_unlock(&audit->lock);
	free(first);
	free(event);
}

int audit_put_sync(struct audit *audit, const struct audit_entry *entry)
{
	struct waiter waiter = { 0 };
	struct event *event;

	if (!audit)
		return 0;
	event = event_new(audit, entry);
	if (!event)
		return -ENOMEM;
	event->waiter = &waiter;
	pthread_mutex_lock(&audit->lock);
	if (audit->stopping) {
		pthread_mutex_unlock(&audit->lock);
		free(event);
		return -ESHUTDOWN;
	}
	audit->waiters++;
	(void)push_locked(audit, event, true);	/* always has room */
	while (!waiter.done)
		pthread_cond_wait(&audit->progress, &audit->lock);
	audit->waiters--;
	pthread_mutex_unlock(&audit->lock);
	return waiter.r;
}

int audit_flush(struct audit *audit, unsigned timeout_ms)
{
	struct timespec deadline;
	uint64_t want;
	int r = 0;

	if (!audit)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += timeout_ms / 1000 + 1;	/* whole seconds will do */
	pthread_mutex_lock(&audit->lock);
	want = audit->pushed;
	audit->waiters++;
	audit->asleep = false;
	pthread_cond_signal(&audit->work);
	while (audit->synced_done < want && r == 0) {
		if (pthread_cond_timedwait(&audit->progress, &audit->lock, &deadline) == ETIMEDOUT)
			r = -ETIMEDOUT;
		if (audit->synced_done < want && audit->status.error)
			r = audit->status.error;
	}
	audit->waiters--;
	pthread_mutex_unlock(&audit->lock);
	return r;
}

void audit_status(struct audit *audit, struct audit_status *ret_status)
{
	pthread_mutex_lock(&audit->lock);
	*ret_status = audit->status;
	ret_status->queued = audit->count;
	pthread_mutex_unlock(&audit->lock);
}

/* ---- lines ---- */

static int add_lost(struct audit_batch *b, const struct audit_times *times, uint64_t count)
{
	char detail[96];
	struct audit_entry entry = { .event = AUDIT_LOG_LOST, .detail = detail };

	snprintf(detail, sizeof(detail), "%llu events lost: the queue was full while the log could not be written",
		 (unsigned long long)count);
	return audit_batch_add(b, times, &entry, count);
}

static int add_event(struct audit_batch *b, const struct event *event)
{
	int r = 0;

	if (event->lost_before)
		r = add_lost(b, &event->times, event->lost_before);
	return r < 0 ? r : audit_batch_add(b, &event->times, &event->entry, event->count);
}

static void anchor(struct audit *audit, int64_t now_ns)
{
	if (audit->options.anchor && audit->anchored_seq != audit->file.seq)
		audit->options.anchor(audit->options.arg, audit->file.seq, audit->file.prev);
	audit->anchored_seq = audit->file.seq;
	audit->anchored_ns = now_ns;
}

/* ---- the thread ---- */

/* Up to BATCH_BYTES of `taken` as lines. *ret_n: events that are in it. */
static int make_batch(const struct audit *audit, struct audit_batch *b, size_t *ret_n, bool *ret_sync)
{
	int r = 0;

	*ret_n = 0;
	*ret_sync = false;
	for (struct event *event = audit->taken; event && b->len < BATCH_BYTES; event = event->next) {
		r = add_event(b, event);
		if (r < 0)
			return r;
		++*ret_n;
		*ret_sync |= event->waiter != NULL;
	}
	return r;
}

/* The whole queue, behind what is left of an earlier one: this thread may then look at it without the lock. */
static void take_locked(struct audit *audit)
{
	struct event **tail = &audit->taken;

	while (*tail)
		tail = &(*tail)->next;
	*tail = audit->head;
	audit->head = NULL;
	audit->tail = &audit->head;
}

/* The first n of `taken` are written; or, r < 0, they are not: then only those that somebody waits for go, of all. */
static void retire_locked(struct audit *audit, size_t n, int r)
{
	struct event **p = &audit->taken, *event;

	while (*p && (r < 0 || n-- > 0)) {
		event = *p;
		if (r < 0 && !event->waiter) {
			p = &event->next;
			continue;
		}
		if (event->waiter) {
			event->waiter->r = r;
			event->waiter->done = true;
		}
		if (r < 0)
			audit->lost_pending += event->lost_before;	/* the gap that it carried is still to be told */
		*p = event->next;
		audit->count--;
		audit->bytes -= event->size_bytes;
		audit->done++;
		free(event);
	}
}

static void push_repeats(void *arg, void *kept, const struct audit_flood_id *id, uint64_t count)
{
	struct audit_entry entry = { .event = id->event, .result = -EPERM, .uid = id->uid, .gid = (gid_t)-1,
				     .detail = id->uid == AUDIT_FLOOD_CROWD ? "further refusals, of more users than are counted one by one" :
					       "further refusals, of more files than are counted one by one" };
	struct audit *audit = arg;
	struct event *event;

	if (kept)
		entry = ((struct event *)kept)->entry;
	event = event_new(audit, &entry);
	if (!event) {
		audit->lost_pending += count;
		audit->status.lost += count;
		return;
	}
	event->count = count;
	(void)push_locked(audit, event, false);	/* counted, if there is no room */
}

static void put_tamper(struct audit *audit, const char *what)
{
	struct audit_entry entry = { .event = AUDIT_TAMPER, .result = -EBADMSG, .detail = what };
	struct event *event = event_new(audit, &entry);

	if (!event)
		return;		/* `wormctl audit verify` sees it all the same */
	pthread_mutex_lock(&audit->lock);
	(void)push_locked(audit, event, false);
	pthread_mutex_unlock(&audit->lock);
}

static void deadline_of(struct timespec *ret, int64_t in_ns)
{
	clock_gettime(CLOCK_MONOTONIC, ret);
	in_ns += ret->tv_nsec;
	ret->tv_sec += in_ns / NS;
	ret->tv_nsec = in_ns % NS;
}

static int64_t min_ns(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Until there is something to write, sync, anchor or sweep. */
static void wait_for_work_locked(struct audit *audit)
{
	int64_t now_ns = ns_of(CLOCK_BOOTTIME), in_ns = INT64_MAX;
	struct timespec deadline;

	if (audit->stopping || (audit->waiters && (audit->count || audit->file.unsynced) && !audit->status.error))
		return;
	if (audit->status.error)
		in_ns = RETRY_S * NS;
	else if (audit->count || now_ns - audit->last_put_ns < QUIET_NS)
		in_ns = AUDIT_LINGER_MS * 1000000;
	if (audit->file.unsynced)
		in_ns = min_ns(in_ns, AUDIT_SYNC_MS * INT64_C(1000000));
	if (audit_flood_active(audit->flood))
		in_ns = min_ns(in_ns, NS);
	if (audit->anchored_seq != audit->file.seq)
		in_ns = min_ns(in_ns, AUDIT_ANCHOR_S * NS);
	audit->asleep = in_ns > AUDIT_LINGER_MS * 1000000;
	if (in_ns == INT64_MAX) {
		pthread_cond_wait(&audit->work, &audit->lock);
	} else {
		deadline_of(&deadline, in_ns);
		(void)pthread_cond_timedwait(&audit->work, &audit->lock, &deadline);	/* either way we look */
	}
	audit->asleep = false;
}

/* Under the lock: what there is to do. *ret_lost: told by a line of its own, since no entry comes after them. */
static void collect(struct audit *audit, int64_t now_ns, bool all, uint64_t *ret_lost, bool *ret_waited)
{
	pthread_mutex_lock(&audit->lock);
	if (all || now_ns - audit->swept_ns >= NS) {
		audit->swept_ns = now_ns;
		audit_flood_sweep(audit->flood, now_ns, all, push_repeats, audit, free);
	}
	take_locked(audit);
	*ret_lost = audit->taken ? 0 : audit->lost_pending;
	*ret_waited = audit->waiters > 0;
	pthread_mutex_unlock(&audit->lock);
}

/* One round: repeats into the queue, queue into the file, file onto the disk. `all`: the last one. */
static int work(struct audit *audit, bool all)
{
	struct audit_batch b;
	int64_t now_ns = ns_of(CLOCK_BOOTTIME);
	const char *tampered = NULL;
	struct audit_times times;
	bool sync, waited;
	uint64_t lost;
	size_t n;
	int r, r_sync = 0;

	if (now_ns - audit->looked_ns >= NS) {
		audit->looked_ns = now_ns;
		tampered = audit_tail_look(&audit->file);
	}
	if (tampered)
		put_tamper(audit, tampered);
	collect(audit, now_ns, all, &lost, &waited);
	audit_batch_begin(&b, &audit->file);
	r = make_batch(audit, &b, &n, &sync);
	if (r == 0 && lost) {
		take_times(audit, &times);
		r = add_lost(&b, &times, lost);
	}
	if (r == 0 && b.len > 0)
		r = audit_tail_write(&audit->file, &b, sync);
	free(b.bytes);
	if (r == 0 && audit->file.unsynced && (all || waited || now_ns - audit->file.unsynced_ns >= AUDIT_SYNC_MS * INT64_C(1000000)))
		r_sync = audit_tail_sync(&audit->file);

	pthread_mutex_lock(&audit->lock);
	retire_locked(audit, n, r);
	if (r == 0) {
		audit->lost_pending -= lost;
		audit->status.written += b.lines;
	}
	if (!audit->file.unsynced && !audit->taken)
		audit->synced_done = audit->done;
	audit->status.seq = audit->file.seq;
	audit->status.bytes = audit->file.size_bytes;
	audit->status.error = r < 0 ? r : r_sync;
	pthread_cond_broadcast(&audit->progress);
	pthread_mutex_unlock(&audit->lock);
	return r < 0 ? r : r_sync;
}

/* Of this thread alone (setpriority(2), Linux). Only who may come back goes away: without privilege nobody does. */
static void set_nice(int *nice, int wanted)
{
	if (*nice != wanted && geteuid() == 0 && setpriority(PRIO_PROCESS, 0, wanted) == 0)
		*nice = wanted;
}

static void *run(void *arg)
{
	struct audit *audit = arg;
	bool more, stopping, waited;
	int nice = 0;
	int64_t now_ns;
	int r;

	for (;;) {
		pthread_mutex_lock(&audit->lock);
		wait_for_work_locked(audit);
		stopping = audit->stopping;
		waited = audit->waiters || stopping || audit->count >= AUDIT_QUEUE_MAX / 2;
		pthread_mutex_unlock(&audit->lock);
		set_nice(&nice, waited ? 0 : NICE);
		r = work(audit, stopping);
		now_ns = ns_of(CLOCK_BOOTTIME);
		if (r == 0 && !audit->file.unsynced && (stopping || now_ns - audit->anchored_ns >= AUDIT_ANCHOR_S * NS))
			anchor(audit, now_ns);
		pthread_mutex_lock(&audit->lock);
		more = audit->count > 0;
		pthread_mutex_unlock(&audit->lock);
		if (stopping && (r < 0 || !more))
			return NULL;
	}
}

/* ---- open and close ---- */

static void destroy(struct audit *audit)
{
	struct event *event;

	while ((event = audit->taken)) {
		audit->taken = event->next;
		free(event);
	}
	audit_flood_close(audit->flood, free);
	audit_tail_close(&audit->file);
	pthread_cond_destroy(&audit->work);
	pthread_cond_destroy(&audit->progress);
	pthread_mutex_destroy(&audit->lock);
	free(audit);
}

int audit_open(const struct audit_options *options, struct audit **ret_audit, struct audit_recovery *ret_recovery)
{
	struct audit_recovery recovery = { 0 };
	struct audit *audit = calloc(1, sizeof(*audit));
	struct audit_times times;
	int r;

	if (!audit)
		return -ENOMEM;
	audit->options = *options;
	audit_tail_init(&audit->file);
	audit->tail = &audit->head;
	leaf_mutex_init(&audit->lock);
	monotonic_cond_init(&audit->work);
	monotonic_cond_init(&audit->progress);
	audit->flood = audit_flood_open();
	if (!audit->flood) {
		r = -ENOMEM;
		goto out;
	}
	take_times(audit, &times);
	r = audit_tail_open(&audit->file, options, &times, &recovery);
	if (r < 0)
		goto out;
	audit->status.seq = audit->file.seq;
	audit->status.bytes = audit->file.size_bytes;
	audit->looked_ns = audit->anchored_ns = ns_of(CLOCK_BOOTTIME);
	audit->anchored_seq = audit->options.head_seq;
	r = thread_start(&audit->thread, "audit", run, audit);
out:
	if (r < 0) {
		destroy(audit);
		return r;
	}
	if (ret_recovery)
		*ret_recovery = recovery;
	*ret_audit = audit;
	return 0;
}

void audit_close(struct audit *audit)
{
	if (!audit)
		return;
	pthread_mutex_lock(&audit->lock);
	audit->stopping = true;
	pthread_cond_signal(&audit->work);
	pthread_mutex_unlock(&audit->lock);
	pthread_join(audit->thread, NULL);
	pthread_mutex_lock(&audit->lock);
	take_locked(audit);	/* what the disk did not take is gone */
	pthread_mutex_unlock(&audit->lock);
	destroy(audit);
}
