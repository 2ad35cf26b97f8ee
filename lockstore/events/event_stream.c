/* Numbers are given by the one thread that writes, in the order of the queue. A dropped event is counted where it is
 * dropped, and later events carry that count: so the gap stands between the events that it lay between. */
#include "lockstore/events/event_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_queue.h"
#include "lockstore/events/event_registry.h"
#include "lockstore/thread.h"

#define GATHER_MS 50		/* so long an event may wait for company */
#define IDLE_MS 1000
#define NICE 5			/* requests go first; not so far that the queue runs full */
#define RETRY_MS 1000		/* a ring that cannot be written */
#define SINK_WAIT_MS 20		/* strict: between two looks at the sinks */
#define SINK_GRACE_MS 1000
#define WAIT_TOLD_S 1		/* strict: a wait that the log tells of */

struct event_stream {
	struct event_ring *ring;
	struct event_queue *queue;
	struct event_sink *sinks[EVENT_SINKS_MAX];
	size_t nsinks;
	bool strict;
	bool (*give_up)(void *arg);
	void (*say)(void *arg, bool warning, const char *text);
	void *arg;
	pthread_t thread;
	atomic_bool stopping;
	_Atomic int error;
	_Atomic int64_t waits_since_s;	/* for a consumer; 0: not */
	_Atomic uint64_t rounds;	/* of the writer: each ended with an empty queue, and all of it in the ring */
	uint64_t dropped;		/* the writer's: so many have their gap */
};

static uint64_t dropped_mark(void *arg)
{
	return event_ring_dropped(arg);
}

void event_stream_put(struct event_stream *stream, const struct event *ev)
{
	event_ring_note(stream->ring);
	while (event_queue_put(stream->queue, ev, dropped_mark, stream->ring) < 0) {
		if (!stream->strict || atomic_load(&stream->stopping) || (stream->give_up && stream->give_up(stream->arg))) {
			event_ring_note_dropped(stream->ring);
			return;
		}
		usleep(500);
	}
}

/* ---- the writer ---- */

static void say(struct event_stream *stream, bool warning, const char *what, int error)
{
	char text[200];

	if (!stream->say)
		return;
	snprintf(text, sizeof(text), "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
	stream->say(stream->arg, warning, text);
}

/* Of the oldest event that some sink has not got or some registered consumer has not cleared; UINT64_MAX: there are none of them. */
static uint64_t slowest_consumer(struct event_stream *stream, unsigned *ret_slot)
{
	const struct event_consumer *all = event_ring_consumers(stream->ring);
	uint64_t slowest = UINT64_MAX, seq;

	*ret_slot = 0;
	for (unsigned i = 0; i < EVENT_RING_CONSUMERS; i++) {
		if (!atomic_load_explicit(&all[i].registered, memory_order_acquire) &&
		    (!all[i].name[0] || atomic_load(&all[i].session) != event_ring_session(stream->ring)))
			continue;	/* free, or a sink of before */
		seq = atomic_load_explicit(&all[i].seq, memory_order_acquire);
		if (seq >= slowest)
			continue;
		slowest = seq;
		*ret_slot = i;
	}
	return slowest;
}

static bool is_ending(struct event_stream *stream)
{
	return atomic_load(&stream->stopping) || (stream->give_up && stream->give_up(stream->arg));
}

static int64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

int64_t event_stream_waits_since_s(struct event_stream *stream, unsigned *ret_slot)
{
	return slowest_consumer(stream, ret_slot) == UINT64_MAX ? 0 : atomic_load(&stream->waits_since_s);
}

static void say_wait(struct event_stream *stream, unsigned slot)
{
	char text[200];

	snprintf(text, sizeof(text), "whoever changes something waits for '%.*s' (events=strict)", EVENT_REGISTERED_NAME_MAX,
		 event_ring_consumers(stream->ring)[slot].name);
	say(stream, true, text, 0);
}

/* strict: until what the batch would overwrite is done with. */
static void wait_for_consumers(struct event_stream *stream)
{
	int64_t since_s = 0;
	bool said = false;
	unsigned slot;

	while (!is_ending(stream) && !event_ring_flush_keeps(stream->ring, slowest_consumer(stream, &slot))) {
		if (since_s == 0)
			atomic_store(&stream->waits_since_s, since_s = now_s());
		if (!said && now_s() - since_s > WAIT_TOLD_S) {
			say_wait(stream, slot);
			said = true;
		}
		usleep(SINK_WAIT_MS * 1000);
	}
	if (since_s)
		atomic_store(&stream->waits_since_s, 0);
	if (said)
		say(stream, false, "the consumer that was waited for goes on", 0);
}

/* The batch into the ring, as often as it takes. False: the daemon ends, and it could not be written. */
static bool flush(struct event_stream *stream)
{
	struct event_ring_stats before, after;
	int r;

	event_ring_stats(stream->ring, &before);
	if (stream->strict)
		wait_for_consumers(stream);
	for (;;) {
		r = event_ring_flush(stream->ring);
		if (r == 0)
			break;
		if (atomic_exchange(&stream->error, -r) != -r)
			say(stream, true, "cannot write the ring of events, they wait and are counted when they do not fit", -r);
		if (is_ending(stream))
			return false;
		usleep(RETRY_MS * 1000);
	}
	if (atomic_exchange(&stream->error, 0))
		say(stream, false, "the ring of events is written again", 0);
	event_ring_stats(stream->ring, &after);
	for (size_t i = 0; i < stream->nsinks && after.next_seq != before.next_seq; i++)
		event_sink_wake(stream->sinks[i]);
	return true;
}

static bool append_gap(struct event_stream *stream, uint64_t dropped)
{
	uint64_t lost = dropped - stream->dropped;

	stream->dropped = dropped;
	if (event_ring_append_gap(stream->ring, lost, 0, "the queue was full") == -ENOBUFS) {
		if (!flush(stream))
			return false;
		(void)event_ring_append_gap(stream->ring, lost, 0, "the queue was full");	/* into an empty batch */
	}
	return true;
}

static bool drain(struct event_stream *stream)
{
	uint64_t mark, dropped;
	const void *body;
	size_t len;

	for (;;) {
		dropped = event_ring_dropped(stream->ring);
		if (!event_queue_peek(stream->queue, &body, &len, &mark))
			break;
		if (mark > stream->dropped && !append_gap(stream, mark))
			return false;
		if (event_ring_append(stream->ring, body, len) == -ENOBUFS) {
			if (!flush(stream))
				return false;
			(void)event_ring_append(stream->ring, body, len);	/* into an empty batch */
		}
		event_queue_pop(stream->queue);
	}
	if (dropped > stream->dropped && !append_gap(stream, dropped))
		return false;
	return flush(stream);
}

static void *writer_thread(void *arg)
{
	struct event_stream *stream = arg;
	bool stopping;

	if (!stream->strict)
		(void)setpriority(PRIO_PROCESS, 0, NICE);	/* of this thread alone (Linux) */
	do {
		stopping = atomic_load(&stream->stopping);	/* before the last look at the queue */
		if (!drain(stream))
			break;	/* the next daemon finds that they were noted, and counts them */
		atomic_fetch_add(&stream->rounds, 1);
		if (stopping)
			break;
		event_queue_wait(stream->queue, IDLE_MS);
		event_queue_gather(stream->queue, GATHER_MS);
	} while (true);
	return NULL;
}

int event_stream_sync(struct event_stream *stream, unsigned timeout_ms)
{
	uint64_t want = atomic_load(&stream->rounds) + 2;	/* one may have begun before the last event */

	for (unsigned waited_ms = 0; atomic_load(&stream->rounds) < want; waited_ms++) {
		if (waited_ms > timeout_ms)
			return -ETIMEDOUT;
		event_queue_wake(stream->queue);
		usleep(1000);
	}
	return 0;
}

/* ---- life ---- */

struct event_ring *event_stream_ring(struct event_stream *stream)
{
	return stream->ring;
}

int event_stream_error(struct event_stream *stream)
{
	return atomic_load(&stream->error);
}

int event_stream_open(const struct event_stream_options *options, struct event_stream **ret_stream, struct event_ring_found *ret_found)
{
	struct event_stream *stream = calloc(1, sizeof(*stream));
	struct event_sink_options sink = { .strict = options->strict, .source = options->source, .credentials = options->credentials,
					   .ca_file = options->ca_file, .say = options->say, .arg = options->arg };
	int r;

	if (!stream)
		return -ENOMEM;
	stream->strict = options->strict;
	stream->give_up = options->give_up;
	stream->say = options->say;
	stream->arg = options->arg;
	r = event_queue_open(options->queue_bytes ? options->queue_bytes : EVENT_QUEUE_BYTES, &stream->queue);
	if (r == 0)
		r = event_ring_open(options->ring_path, options->ring_bytes, &stream->ring, ret_found);
	if (r < 0)
		goto fail;
	stream->dropped = event_ring_dropped(stream->ring);	/* they have their gap since the ring was opened */
	sink.ring = stream->ring;
	for (size_t i = 0; i < options->nsinks && r == 0 && i < EVENT_SINKS_MAX; i++) {
		r = event_sink_start(options->sinks[i], &sink, &stream->sinks[i]);
		stream->nsinks += r == 0;
	}
	if (r == 0)
		r = thread_start(&stream->thread, "events", writer_thread, stream);
	if (r < 0)
		goto fail;
	*ret_stream = stream;
	return 0;
fail:
	for (size_t i = 0; i < stream->nsinks; i++)
		event_sink_stop(stream->sinks[i], 0);
	event_ring_close(stream->ring);
	event_queue_close(stream->queue);
	free(stream);
	return r;
}

void event_stream_close(struct event_stream *stream)
{
	if (!stream)
		return;
	atomic_store(&stream->stopping, true);
	event_queue_wake(stream->queue);
	pthread_join(stream->thread, NULL);
	for (size_t i = 0; i < stream->nsinks; i++)
		event_sink_stop(stream->sinks[i], SINK_GRACE_MS);
	event_ring_close(stream->ring);
	event_queue_close(stream->queue);
	free(stream);
}
