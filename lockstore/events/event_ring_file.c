/* The file of a ring: a header that is mapped, then room for records. */
#include "lockstore/events/event_ring_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "wormfs events 1"		/* 16 bytes with its NUL */
#define SEGMENT_BYTES_MIN 65536		/* more than any record */
#define LOCK_TRIES 200
#define LOCK_WAIT_US 10000

uint64_t event_ring_file_segment(uint64_t bytes)
{
	uint64_t segment = (bytes / EVENT_RING_SEGMENTS_MAX + 4095) & ~4095ULL;

	return segment < SEGMENT_BYTES_MIN ? SEGMENT_BYTES_MIN : segment;
}

/* Numbers go on where `old` ended. */
static void fill_header(struct header *h, uint64_t bytes, const struct header *old, const struct plain_mark *start)
{
	uint64_t segment = event_ring_file_segment(bytes);

	memcpy(h->magic, MAGIC, sizeof(h->magic));
	h->nsegments = bytes / segment;
	h->data_bytes = h->nsegments * segment;
	atomic_store(&h->clean, 1);
	for (int i = 0; i < 2; i++) {
		store_mark(&h->head[i], start);
		store_mark(&h->tail[i], start);
	}
	for (int i = 0; i < EVENT_RING_SEGMENTS_MAX; i++)
		atomic_store(&h->segment[i].index, UINT64_MAX);
	atomic_store(&h->noted, start->seq - 1);
	if (!old)
		return;
	atomic_store(&h->dropped, atomic_load(&old->dropped));
	atomic_store(&h->noted, atomic_load(&old->noted));
	atomic_store(&h->clean, atomic_load(&old->clean));
	atomic_store(&h->session, atomic_load(&old->session));
	memcpy(h->boot_id, old->boot_id, sizeof(h->boot_id));
	memcpy((void *)h->consumer, (const void *)old->consumer, sizeof(h->consumer));
}

int event_ring_file_create(const char *path, uint64_t bytes, const struct header *old, const struct plain_mark *start)
{
	struct header *h = aligned_alloc(64, EVENT_RING_HEADER_BYTES);
	char temporary[4096];
	int fd = -1, r;

	if (!h)
		return -ENOMEM;
	memset((void *)h, 0, EVENT_RING_HEADER_BYTES);
	if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary)) {
		r = -ENAMETOOLONG;
		goto out;
	}
	fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	fill_header(h, bytes, old, start);
	/* Else a full disk would show only when the first round is written; where that cannot be asked for, it does. */
	r = fallocate(fd, 0, 0, EVENT_RING_HEADER_BYTES + h->data_bytes) < 0 && errno != EOPNOTSUPP ? -errno : 0;
	if (r == 0 && ftruncate(fd, EVENT_RING_HEADER_BYTES + h->data_bytes) < 0)
		r = -errno;
	if (r == 0 && pwrite(fd, h, EVENT_RING_HEADER_BYTES, 0) != EVENT_RING_HEADER_BYTES)
		r = -EIO;
	if (r == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(temporary);
out:
	if (fd >= 0)
		close(fd);
	free(h);
	return r;
}

int event_ring_file_map(const char *path, bool writable, struct event_ring **ret_ring)
{
	struct event_ring *ring = calloc(1, sizeof(*ring));
	struct stat st;
	int r;

	if (!ring)
		return -ENOMEM;
	ring->writable = writable;
	ring->last_segment = UINT64_MAX;
	ring->fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
	if (ring->fd < 0 || fstat(ring->fd, &st) < 0) {
		r = -errno;
		goto fail;
	}
	r = -EBADMSG;
	if (st.st_size < EVENT_RING_HEADER_BYTES)
		goto fail;
	ring->header = mmap(NULL, EVENT_RING_HEADER_BYTES, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, ring->fd, 0);
	if (ring->header == MAP_FAILED) {
		ring->header = NULL;
		r = -errno;
		goto fail;
	}
	if (memcmp(ring->header->magic, MAGIC, sizeof(MAGIC)) != 0 || ring->header->nsegments == 0 ||
	    ring->header->nsegments > EVENT_RING_SEGMENTS_MAX || ring->header->data_bytes / ring->header->nsegments < SEGMENT_BYTES_MIN ||
	    (uint64_t)st.st_size < EVENT_RING_HEADER_BYTES + ring->header->data_bytes)
		goto fail;
	ring->data_bytes = ring->header->data_bytes;
	ring->segment_bytes = ring->data_bytes / ring->header->nsegments;
	*ret_ring = ring;
	return 0;
fail:
	event_ring_close(ring);
	return r;
}

int event_ring_open_readonly(const char *path, struct event_ring **ret_ring)
{
	return event_ring_file_map(path, false, ret_ring);
}

int event_ring_open_shared(const char *path, struct event_ring **ret_ring)
{
	return event_ring_file_map(path, true, ret_ring);
}

int event_ring_lock(struct event_ring *ring)
{
	struct stat st;

	if (!ring->writable)
		return -EBADF;
	for (int tries = 0; flock(ring->fd, LOCK_EX | LOCK_NB) < 0; tries++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (tries == LOCK_TRIES)
			return -EBUSY;
		usleep(LOCK_WAIT_US);
	}
	if (fstat(ring->fd, &st) == 0 && st.st_nlink > 0)
		return 0;
	event_ring_unlock(ring);
	return -ESTALE;
}

void event_ring_unlock(struct event_ring *ring)
{
	(void)flock(ring->fd, LOCK_UN);	/* the end of the descriptor does it, too */
}
