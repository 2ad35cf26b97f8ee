/* Who is sent the events. A sink has a thread, and its own place in the ring: a slow or dead consumer holds up nobody (but
 * with `strict`). What a kind of sink does differently is one struct of functions: a new kind is one file and a row in
 * event_sink.c. */
#ifndef WORMFS_EVENT_SINK_H
#define WORMFS_EVENT_SINK_H

#include <poll.h>
#include <pthread.h>

#include "lockstore/events/event_json.h"
#include "lockstore/events/event_ring.h"

#define EVENT_SINKS_MAX 8
#define EVENT_RETRY_MS 1000	/* between two attempts to connect */

struct event_sink;

struct event_sink_kind {
	const char *name;	/* what stands before the ':' */
	const char *where;	/* what stands after it, for help */
	/* Nobody there, nothing kept: what happens meanwhile is dropped, and counted. Not with `strict`. */
	bool live;
	/* connect() proves nothing: the consumer is there when something was delivered. Its retries are its own: see retry_ms. */
	bool lazy;
	/* Whether it can be `where`; -EINVAL. NULL: the path of a socket. */
	int (*check)(const char *where);
	/* Has a part of its own in the sink: bytes of `own`. */
	size_t own_bytes;
	/* All of them in the sink's thread. Sets sink->fd. -errno: nobody is there; tried again in a second. */
	int (*connect)(struct event_sink *sink);
	/* Takes it, and calls event_sink_delivered() now or in flush(). -EOPNOTSUPP: it is not for this kind; -EMSGSIZE: can never be
	 * sent, is counted; -EAGAIN: not now, when the descriptor can be written to; else the connection is gone. */
	int (*send)(struct event_sink *sink, const struct event *ev);
	/* After a few of them: out with what send() has kept. Likewise; NULL: nothing is kept. */
	int (*flush)(struct event_sink *sink);
	/* The consumer has said something. NULL: it has nothing to say, and whatever it says is the end of the connection. */
	int (*input)(struct event_sink *sink);
	/* Whether it may get events now; NULL: as soon as it is connected. */
	bool (*wants)(struct event_sink *sink);
	/* Closes sink->fd. */
	void (*disconnect)(struct event_sink *sink);
};

struct event_sink_options {
	struct event_ring *ring;
	bool strict;
	/* Of kinds that use HTTP; NULL: none. They outlive the sink. */
	const char *source;		/* a URI: what the events are of */
	const char *credentials;	/* a file as upstream/credentials.h has it */
	const char *ca_file;
	void (*say)(void *arg, bool warning, const char *text);	/* from the sink's thread */
	void *arg;
};

struct event_sink {
	const struct event_sink_kind *kind;
	char *spec;			/* as given */
	const char *where;		/* in it */
	struct event_sink_options opt;
	struct event_ring *ring;
	struct event_consumer *consumer;
	void *own;
	int fd;				/* -1: not connected */
	bool is_file;			/* regular: never waits, poll(2) says nothing */
	struct event_cursor cursor;	/* behind what is in the buffer */
	struct event_json json;
	/* event_sink.c's */
	char *buf;
	size_t len, done;
	uint64_t lost_first, lost;	/* these were overwritten and come next, as one gap; lost 0: none */
	uint64_t counted;		/* losses before this number are in consumer->dropped */
	uint64_t looked_at;		/* what comes before this number was counted as missed, if it was to be */
	int wake_fd;			/* eventfd: there is news, or it shall end */
	_Atomic int stopping;		/* 1: when all is sent; 2: now */
	int64_t next_try_ms, connected_ms;
	unsigned retry_ms;		/* a lazy kind's, set before it returns an error */
	int said_error;
	pthread_t thread;
};

/* Checks "KIND:WHERE" without doing anything. -EINVAL. */
int event_sink_check(const char *spec);
/* The file that it writes to, in `spec`; NULL: none that it would make or open. */
const char *event_sink_file(const char *spec);
/* One line a kind, for --help. */
const struct event_sink_kind *event_sink_kind_at(size_t i);	/* NULL: there are no more */

int event_sink_start(const char *spec, const struct event_sink_options *opt, struct event_sink **ret_sink);
void event_sink_wake(struct event_sink *sink);
/* Sends what there is for no longer than `grace_ms`, then ends. */
void event_sink_stop(struct event_sink *sink, unsigned grace_ms);
/* Of the oldest event that it has not got. */
uint64_t event_sink_seq(const struct event_sink *sink);

/* ---- for kinds ---- */

/* Everything before number `next` is done with; `sent` of them have left. */
void event_sink_delivered(struct event_sink *sink, uint64_t next, uint64_t sent);
struct event_counts event_sink_counts(const struct event_sink *sink);
/* Back to number `seq`: what is in the buffer is read again, and what was overwritten meanwhile comes as a gap. */
void event_sink_rewind(struct event_sink *sink, uint64_t seq);
/* The consumer itself says from where on: what it has not got and cannot get any more is counted. */
int event_sink_seek_msn(struct event_sink *sink, uint64_t msn);
/* A warning in the log; error: errno, 0: none. */
void event_sink_say(struct event_sink *sink, const char *what, int error);
/* A connected, non-blocking socket of `type` to the path after "unix:". */
int event_sink_socket(struct event_sink *sink, int type);
/* Likewise, to this path, which event_sink_path_fits() was asked about. */
int event_sink_socket_to(struct event_sink *sink, int type, const char *path);
bool event_sink_path_fits(const char *path);

extern const struct event_sink_kind event_sink_json, event_sink_beegfs7, event_sink_beegfs8, event_sink_beegfs8_long,
	event_sink_cloudevents, event_sink_cloudevents_batch, event_sink_syslog, event_sink_journald;

#endif
