/* The journal of events of a daemon: who notes an event puts it into a queue in memory and goes on; a thread writes the
 * queue into the ring on disk, every 50 ms; sinks read the ring. What is lost is counted and has its place among the
 * numbers. With `strict` nothing is: who notes waits for the disk, and for the slowest sink. */
#ifndef WORMFS_EVENT_STREAM_H
#define WORMFS_EVENT_STREAM_H

#include "lockstore/events/event_ring.h"
#include "lockstore/events/event_sink.h"

#define EVENT_QUEUE_BYTES (4 << 20)	/* some 30,000 events */

struct event_stream;

struct event_stream_options {
	const char *ring_path;
	uint64_t ring_bytes;
	size_t queue_bytes;			/* a power of two; 0: EVENT_QUEUE_BYTES */
	bool strict;
	const char *const *sinks;		/* EVENT_SINKS_MAX at most */
	size_t nsinks;
	const char *source, *credentials, *ca_file;	/* of struct event_sink_options */
	/* strict: asked while an event waits. True: the daemon ends, the event is dropped and counted. */
	bool (*give_up)(void *arg);
	void (*say)(void *arg, bool warning, const char *text);		/* for the log; from threads of the stream */
	void *arg;
};

/* Everything that options point to outlives the stream, but for ring_path and sinks. */
int event_stream_open(const struct event_stream_options *options, struct event_stream **ret_stream, struct event_ring_found *ret_found);
/* Writes what is queued, lets the sinks send for up to a second, and ends. NULL is fine. */
void event_stream_close(struct event_stream *stream);

/* Any thread. Never waits, but with `strict`. */
void event_stream_put(struct event_stream *stream, const struct event *ev);

/* Everything put before is in the ring when it returns 0. -ETIMEDOUT. */
int event_stream_sync(struct event_stream *stream, unsigned timeout_ms);

struct event_ring *event_stream_ring(struct event_stream *stream);
/* strict: whoever changes something waits for a consumer, since then (CLOCK_REALTIME); its slot is event_ring_consumers()[*ret_slot].
 * 0: nobody waits. */
int64_t event_stream_waits_since_s(struct event_stream *stream, unsigned *ret_slot);
/* errno of the last write to the ring, 0: it can be written. */
int event_stream_error(struct event_stream *stream);

#endif
