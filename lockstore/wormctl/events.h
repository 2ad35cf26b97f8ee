/* wormctl events: its parts. events.c reads the ring of a share, events_consumer.c keeps who reads it and how far,
 * events_sse.c serves it over HTTP, events_listen.c plays BeeGFS's listener. */
#ifndef WORMFS_WORMCTL_EVENTS_H
#define WORMFS_WORMCTL_EVENTS_H

#include "lockstore/events/beegfs.h"
#include "lockstore/events/event_ring.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

/* Makes the socket, and prints what a metadata server of BeeGFS 7 or 8, or wormfs, sends, as a line of JSON each, until
 * it is killed or `count` events came (0: no end). from: number to begin with, of version 8; UINT64_MAX: only what comes.
 * Returns an exit code. */
int events_listen(const char *path, uint64_t from, uint64_t count);

/* Packets from a file ("-": standard input): one in hexadecimal a line, or, raw, the whole file. Returns an exit code. */
int events_decode(const char *file, bool raw);

/* A server of server-sent events, until SIGINT, SIGTERM or SIGHUP. -errno: *f says why it did not begin. */
struct events_sse {
	const char *listen, *token_file;	/* token_file NULL: makes one, and prints it */
	bool allow_remote;
};
int events_sse(const struct wormctl *ctl, const char *ring_path, const struct events_sse *s, struct failure *f);

/* register, deregister, clear or list. seq: the first that it wants (UINT64_MAX: what comes), the last that it has done.
 * Returns how many consumers it was about. */
bool events_is_consumer_verb(const char *verb);
int events_consumer(const struct wormctl *ctl, struct event_ring *ring, const char *verb, const char *name, uint64_t seq, struct failure *f);
/* Where it is. */
int events_find_consumer(struct event_ring *ring, const char *name, uint64_t *ret_seq, struct failure *f);

#endif
