/* What the ring and its file share. Nobody else includes this. */
#ifndef WORMFS_EVENT_RING_PRIVATE_H
#define WORMFS_EVENT_RING_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/events/event_ring.h"

#define EVENT_RING_HEADER_BYTES 16384
#define EVENT_RING_SEGMENTS_MAX 256

struct mark {
	_Atomic uint64_t pos, seq, msn;
};

struct segment {
	_Atomic uint64_t index;	/* position / segment_bytes of its first record, stored last */
	struct mark first;
};

struct header {
	char magic[16];
	uint64_t data_bytes;
	uint32_t nsegments;
	_Atomic uint32_t session;
	char boot_id[40];
	_Atomic uint32_t clean;		/* closed, and synced */
	_Alignas(64) _Atomic uint64_t noted;
	_Alignas(64) _Atomic uint64_t dropped;
	_Alignas(64) _Atomic uint64_t state;	/* bit 0: which head, bit 1: which tail; above: counts changes */
	struct mark head[2], tail[2];
	_Alignas(64) struct event_consumer consumer[EVENT_RING_CONSUMERS];
	struct segment segment[EVENT_RING_SEGMENTS_MAX];
};
_Static_assert(sizeof(struct header) <= EVENT_RING_HEADER_BYTES, "the header has its place");

struct plain_mark {
	uint64_t pos, seq, msn;
};

struct event_ring {
	int fd;
	bool writable;
	struct header *header;
	uint64_t data_bytes, segment_bytes;	/* constant */
	/* the writer's */
	struct plain_mark head, tail;		/* tail: of what was flushed */
	struct plain_mark end;			/* of the batch */
	uint64_t last_segment;			/* where the last record of the batch begins, UINT64_MAX: none yet */
	char *batch;
	size_t batch_len;
};

static inline void store_mark(struct mark *mark, const struct plain_mark *value)
{
	atomic_store_explicit(&mark->pos, value->pos, memory_order_relaxed);
	atomic_store_explicit(&mark->seq, value->seq, memory_order_relaxed);
	atomic_store_explicit(&mark->msn, value->msn, memory_order_relaxed);
}

/* What a segment of a ring of so many bytes has; a ring has whole ones. */
uint64_t event_ring_file_segment(uint64_t bytes);

/* An empty ring that begins at `start`, whole under another name first. old: the header of the one that it takes the place of, or NULL. */
int event_ring_file_create(const char *path, uint64_t bytes, const struct header *old, const struct plain_mark *start);

/* -EBADMSG: it is no ring. The caller closes it with event_ring_close(). */
int event_ring_file_map(const char *path, bool writable, struct event_ring **ret_ring);

#endif
