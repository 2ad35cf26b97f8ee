/* Events on their way from the threads that note them to the one that writes them down: in memory, bounded, in the order in
 * which they were put. Putting takes no lock, and makes a system call only to wake a reader that sleeps. */
#ifndef WORMFS_EVENT_QUEUE_H
#define WORMFS_EVENT_QUEUE_H

#include "lockstore/events/event.h"

struct event_queue;

/* bytes: a power of two, at least 64 KiB. -ENOMEM. */
int event_queue_open(size_t bytes, struct event_queue **ret_queue);
void event_queue_close(struct event_queue *queue);

/* Any thread. `mark` comes back with the event: what the reader shall know of the moment. -ENOBUFS: full. */
int event_queue_put(struct event_queue *queue, const struct event *ev, uint64_t (*mark)(void *arg), void *arg);

/* One thread. The oldest event in its compact form, until it is popped; false: there is none. */
bool event_queue_peek(struct event_queue *queue, const void **ret_body, size_t *ret_len, uint64_t *ret_mark);
void event_queue_pop(struct event_queue *queue);
/* Until there is one, somebody calls event_queue_wake(), or the time is over. */
void event_queue_wait(struct event_queue *queue, unsigned timeout_ms);
/* For the time given, or until the queue is half full, or woken: many at once cost less. */
void event_queue_gather(struct event_queue *queue, unsigned timeout_ms);
void event_queue_wake(struct event_queue *queue);

#endif
