/* The journal of events on disk: a bounded ring in a file. One process writes, any number read, also while it is written
 * and after the writer was killed: what event_ring_flush() took is in the system's page cache. Not synced: when the
 * power goes, what the system had not written back is lost, and the numbers jump over it.
 *
 * Every event that was noted has a number, from 1 on. Where events are missing (queue full, a kill, the power) a gap
 * record stands, with the first number that is missing and how many (`lost`). What was overwritten is older than the
 * oldest. Threads: the writer's functions from one thread; note_*() and readers from any. */
#ifndef WORMFS_EVENT_RING_H
#define WORMFS_EVENT_RING_H

#include <stdatomic.h>
#include <sys/types.h>

#include "lockstore/events/event.h"

#define EVENT_RING_FILE "events.ring"
#define EVENT_RING_BYTES_MIN (1 << 20)
#define EVENT_RING_BYTES_MAX (1ULL << 40)
#define EVENT_RING_CONSUMERS 16
#define EVENT_RING_JUMP (1ULL << 30)	/* numbers that are given up when the power went */

struct event_ring;

/* Who is sent the events, and how far. In the file: it outlives the daemon. */
struct event_consumer {
	char name[112];			/* "" = free; written while nobody else looks at the slot */
	_Atomic uint64_t seq;		/* the next one that it gets */
	_Atomic uint64_t sent, dropped, missed;	/* since it is known; dropped: it was not told of these */
	_Atomic uint32_t session;	/* of the daemon that used it last */
	_Atomic int32_t error;		/* errno of the last attempt, 0: connected */
	_Atomic int64_t since_ns;	/* CLOCK_REALTIME of that */
	_Atomic uint32_t registered;	/* 1: reads by itself (event_registry.h), the slot is not a sink's */
	_Atomic uint64_t counted;	/* of such a one: what was overwritten before this number is in `dropped` */
	char spare[8];
};

struct event_ring_found {
	uint64_t lost;		/* noted and never written: the daemon was killed */
	bool power;		/* the machine went down: numbers jumped */
	bool damaged;		/* records did not verify, what followed them is counted in `lost` */
	bool resized;		/* -o events_ring has changed: older events are gone */
};

/* For writing; makes it when it is not there. `bytes` is rounded. -EBADMSG: not ours, or of another version. */
int event_ring_open(const char *path, uint64_t bytes, struct event_ring **ret_ring, struct event_ring_found *ret_found);
/* For reading. -ENOENT: there is none. */
int event_ring_open_readonly(const char *path, struct event_ring **ret_ring);
/* For reading, and for the places of consumers. Likewise. */
int event_ring_open_shared(const char *path, struct event_ring **ret_ring);
/* The writer's: flushes, and says that it ended well. */
void event_ring_close(struct event_ring *ring);

uint32_t event_ring_session(const struct event_ring *ring);

/* Counted before anything can be lost. */
void event_ring_note(struct event_ring *ring);
void event_ring_note_dropped(struct event_ring *ring);

struct event_ring_stats {
	uint64_t bytes, used_bytes;
	uint64_t noted, dropped;	/* dropped: queue full */
	uint64_t oldest_seq, next_seq, oldest_msn, next_msn;
	uint32_t session;
	bool writing;			/* a daemon has it open, or was killed */
};
void event_ring_stats(struct event_ring *ring, struct event_ring_stats *ret);
uint64_t event_ring_dropped(struct event_ring *ring);

/* ---- writer ---- */

/* Into the batch, with the next number. -ENOBUFS: flush first. */
int event_ring_append(struct event_ring *ring, const void *body, size_t len);
int event_ring_append_gap(struct event_ring *ring, uint64_t lost, unsigned flags, const char *why);
/* The oldest that must stay, and what flush() would overwrite: strict consumers. True: it may go on. */
bool event_ring_flush_keeps(struct event_ring *ring, uint64_t seq);
/* -errno of pwrite(2): the batch stays, to be tried again. */
int event_ring_flush(struct event_ring *ring);

/* The slot of a name, made when it is new; the one that was unused longest goes when all are taken. */
struct event_consumer *event_ring_consumer(struct event_ring *ring, const char *name, bool *ret_new);
const struct event_consumer *event_ring_consumers(const struct event_ring *ring);	/* EVENT_RING_CONSUMERS of them */
/* Likewise, for event_registry.c; the file is mapped for reading only unless the ring was opened for more. */
struct event_consumer *event_ring_slots(struct event_ring *ring);
/* Between processes: who gives slots away, or makes the file anew, holds it. -EBUSY: not within two seconds. -ESTALE: the
 * file was made anew since it was opened. -EBADF: the ring is open for reading only. */
int event_ring_lock(struct event_ring *ring);
void event_ring_unlock(struct event_ring *ring);

/* ---- readers ---- */

struct event_cursor {
	uint64_t pos, seq, msn;	/* of the next record */
};

/* To event `seq`, the oldest after it when it is gone or in a gap; 0: the oldest; UINT64_MAX: only what comes. */
int event_ring_seek(struct event_ring *ring, uint64_t seq, struct event_cursor *ret);
/* Likewise by the number among those that BeeGFS knows. */
int event_ring_seek_msn(struct event_ring *ring, uint64_t msn, struct event_cursor *ret);
/* Whole records, as many as there are and fit; 0: none yet. *ret_overwritten: so many numbers before them were overwritten
 * since. size >= EVENT_BYTES_MAX + 64. -EBADMSG: a record does not verify. */
ssize_t event_ring_read(struct event_ring *ring, struct event_cursor *cursor, void *buf, size_t size, uint64_t *ret_overwritten);
/* The records of such a buffer, one after the other. Returns the bytes of the record at `buf`. -EPROTO: a newer event. */
ssize_t event_ring_record(const void *buf, size_t len, struct event *ret);
/* All of them: the record at *at, which goes on to the next. Returns its bytes; 0: there are no more; -EBADMSG. Newer events are passed
 * over, and counted in *newer. */
ssize_t event_ring_next(const void *buf, size_t len, size_t *at, struct event *ret, uint64_t *newer);
/* What a reader is told who came too late: `lost` events from `first` on were overwritten. */
void event_ring_overwritten(const struct event_ring *ring, uint64_t first, uint64_t lost, struct event *ret);

#endif
