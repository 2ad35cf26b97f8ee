/* Positions count bytes since the ring was made; position % data_bytes is where it is in the file. Always true:
 *  - what lies between head and tail is whole records, one after the other, with ascending numbers;
 *  - head moves on, and is published, before the bytes below it are overwritten; tail after its bytes are written;
 *  - marks are published by one store (header.state), so a kill leaves the old ones or the new ones.
 * A reader copies, then looks whether head has passed what it copied. The segment table is an index: a mark for the
 * first record that begins in each segment. */
#include "lockstore/events/event_ring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_ring_private.h"

#define BATCH_BYTES 262144
#define BOOT_ID_CHARS 36

struct record {
	uint32_t size;		/* with this header, a multiple of 8 */
	uint32_t len;		/* of the body */
	uint64_t seq, msn;
	uint32_t session;
	uint32_t check;
	char body[];
};
#define RECORD_BYTES_MAX (sizeof(struct record) + EVENT_BYTES_MAX)

/* Finds torn and stale bytes, not an attacker. */
static uint32_t check_of(const struct record *rec)
{
	uint64_t sum = 0x9e3779b97f4a7c15ULL ^ rec->len ^ (uint64_t)rec->session << 32, word;
	size_t words = (rec->size - sizeof(*rec)) / 8;

	sum = (sum ^ rec->seq) * 0xff51afd7ed558ccdULL;
	sum = (sum ^ sum >> 32 ^ rec->msn) * 0xff51afd7ed558ccdULL;
	for (size_t i = 0; i < words; i++) {
		memcpy(&word, rec->body + i * 8, 8);
		sum = (sum ^ sum >> 32 ^ word) * 0xff51afd7ed558ccdULL;
	}
	return sum ^ sum >> 32;
}

static bool record_is_sound(const struct record *rec, size_t available)
{
	return available >= sizeof(*rec) && rec->size % 8 == 0 && rec->size >= sizeof(*rec) + 16 && rec->size <= available &&
	       rec->size <= RECORD_BYTES_MAX + 8 && rec->len <= rec->size - sizeof(*rec) && rec->size - sizeof(*rec) - rec->len < 8 &&
	       rec->check == check_of(rec);
}

/* The numbers of the record that comes after it. */
static void numbers_after(const struct record *rec, uint64_t *ret_seq, uint64_t *ret_msn)
{
	uint16_t type, flags;
	struct event ev;
	uint32_t has;

	event_peek(rec->body, &type, &flags, &has);
	if (type == EVENT_GAP && event_decode(rec->body, rec->len, &ev) == 0) {
		*ret_seq = rec->seq + ev.lost;
		*ret_msn = rec->msn + ev.lost;
		return;
	}
	*ret_seq = rec->seq + 1;
	*ret_msn = rec->msn + (event_beegfs8(type, flags, has & EVENT_HAS_ERROR) >= 0);
}

/* ---- marks ---- */

static struct plain_mark load_mark(const struct mark *mark)
{
	return (struct plain_mark){ .pos = atomic_load_explicit(&mark->pos, memory_order_acquire),
				    .seq = atomic_load_explicit(&mark->seq, memory_order_acquire),
				    .msn = atomic_load_explicit(&mark->msn, memory_order_acquire) };
}

static void publish(struct event_ring *ring, const struct plain_mark *head, const struct plain_mark *tail)
{
	struct header *h = ring->header;
	uint64_t state = atomic_load_explicit(&h->state, memory_order_relaxed), next = (state & ~3ULL) + 4;

	/* The one that is not looked at; its neighbour stays what it was. */
	next |= head ? ~state & 1 : state & 1;
	next |= tail ? ~state & 2 : state & 2;
	if (head)
		store_mark(&h->head[next & 1], head);
	if (tail)
		store_mark(&h->tail[next >> 1 & 1], tail);
	atomic_store_explicit(&h->state, next, memory_order_release);
}

static void look(struct event_ring *ring, struct plain_mark *ret_head, struct plain_mark *ret_tail)
{
	struct header *h = ring->header;
	uint64_t state, again;

	do {
		state = atomic_load_explicit(&h->state, memory_order_acquire);
		*ret_head = load_mark(&h->head[state & 1]);
		*ret_tail = load_mark(&h->tail[state >> 1 & 1]);
		again = atomic_load_explicit(&h->state, memory_order_acquire);
	} while (state != again);
}

/* ---- bytes ---- */

static int read_at(struct event_ring *ring, uint64_t pos, void *buf, size_t len)
{
	while (len > 0) {
		uint64_t offset = pos % ring->data_bytes;
		size_t part = len < ring->data_bytes - offset ? len : ring->data_bytes - offset;
		ssize_t n = pread(ring->fd, buf, part, EVENT_RING_HEADER_BYTES + offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		buf = (char *)buf + n;
		pos += n;
		len -= n;
	}
	return 0;
}

static int write_at(struct event_ring *ring, uint64_t pos, const void *buf, size_t len)
{
	while (len > 0) {
		uint64_t offset = pos % ring->data_bytes;
		size_t part = len < ring->data_bytes - offset ? len : ring->data_bytes - offset;
		ssize_t n = pwrite(ring->fd, buf, part, EVENT_RING_HEADER_BYTES + offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf = (const char *)buf + n;
		pos += n;
		len -= n;
	}
	return 0;
}

static struct segment *segment_of(struct event_ring *ring, uint64_t index)
{
	return &ring->header->segment[index % ring->header->nsegments];
}

static void index_record(struct event_ring *ring, const struct plain_mark *at)
{
	uint64_t index = at->pos / ring->segment_bytes;
	struct segment *segment = segment_of(ring, index);

	if (index == ring->last_segment)
		return;
	ring->last_segment = index;
	store_mark(&segment->first, at);
	atomic_store_explicit(&segment->index, index, memory_order_release);
}

/* ---- opening ---- */

static void get_boot_id(char ret_id[40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(ret_id, 0, 40);
	if (fd < 0)
		return;
	if (read(fd, ret_id, BOOT_ID_CHARS) < 0)
		ret_id[0] = '\0';
	close(fd);
}

/* Every record verified and indexed again; tail ends before the first that is not sound. */
static int walk(struct event_ring *ring, bool *ret_damaged)
{
	size_t size = BATCH_BYTES + RECORD_BYTES_MAX;
	struct plain_mark at = ring->head;
	char *buf = malloc(size);
	int r = 0;

	if (!buf)
		return -ENOMEM;
	*ret_damaged = ring->tail.pos < ring->head.pos || ring->tail.pos - ring->head.pos > ring->data_bytes;
	if (*ret_damaged)
		ring->tail = ring->head;
	while (r == 0 && at.pos < ring->tail.pos && !*ret_damaged) {
		size_t len = ring->tail.pos - at.pos < size ? ring->tail.pos - at.pos : size, done = 0;

		r = read_at(ring, at.pos, buf, len);
		while (r == 0 && done < len) {
			const struct record *rec = (const struct record *)(buf + done);
			if (len - done < RECORD_BYTES_MAX && at.pos + (len - done) < ring->tail.pos)
				break;	/* its end is in the next piece, maybe */
			if (!record_is_sound(rec, len - done) || rec->seq != at.seq || rec->msn != at.msn) {
				*ret_damaged = true;
				break;
			}
			index_record(ring, &at);
			numbers_after(rec, &at.seq, &at.msn);
			at.pos += rec->size;
			done += rec->size;
		}
	}
	free(buf);
	if (r < 0)
		return r;
	/* What the damaged part held had numbers, which the gap takes. */
	if (*ret_damaged)
		ring->tail = at;
	return 0;
}

static int begin_session(struct event_ring *ring, struct event_ring_found *found)
{
	struct header *h = ring->header;
	uint64_t noted = atomic_load(&h->noted);
	char boot_id[40];
	int r;

	look(ring, &ring->head, &ring->tail);
	r = walk(ring, &found->damaged);
	if (r < 0)
		return r;
	get_boot_id(boot_id);
	found->power = !atomic_load(&h->clean) && memcmp(boot_id, h->boot_id, sizeof(boot_id)) != 0;
	if (noted < ring->tail.seq - 1)
		noted = ring->tail.seq - 1;
	if (found->power)
		noted += EVENT_RING_JUMP;
	found->lost = noted - (ring->tail.seq - 1);
	atomic_store(&h->noted, noted);
	memcpy(h->boot_id, boot_id, sizeof(boot_id));
	atomic_fetch_add(&h->session, 1);
	atomic_store(&h->clean, 0);
	publish(ring, &ring->head, &ring->tail);
	ring->end = ring->tail;
	if (found->lost)
		r = event_ring_append_gap(ring, found->lost, found->power ? EVENT_UPPER_BOUND : 0,
					  found->power ? "the machine went down" : found->damaged ? "damaged" : "the daemon was killed");
	return r < 0 ? r : event_ring_flush(ring);
}

static int make_anew(const char *path, uint64_t bytes, struct event_ring *old)
{
	struct plain_mark head, tail, start = { .pos = 0 };

	look(old, &head, &tail);
	start.seq = tail.seq;
	start.msn = tail.msn;
	return event_ring_file_create(path, bytes, old->header, &start);
}

int event_ring_open(const char *path, uint64_t bytes, struct event_ring **ret_ring, struct event_ring_found *ret_found)
{
	struct event_ring_found found = { 0 };
	struct event_ring *ring;
	uint64_t want;
	int r;

	if (bytes < EVENT_RING_BYTES_MIN || bytes > EVENT_RING_BYTES_MAX)
		return -EINVAL;
	want = bytes / event_ring_file_segment(bytes) * event_ring_file_segment(bytes);
	r = event_ring_file_map(path, true, &ring);
	if (r == -ENOENT) {
		r = event_ring_file_create(path, bytes, NULL, &(struct plain_mark){ .seq = 1, .msn = 1 });
		if (r == 0)
			r = event_ring_file_map(path, true, &ring);
	} else if (r == 0 && ring->data_bytes != want) {
		found.resized = true;
		r = event_ring_lock(ring);	/* the places of consumers go along */
		if (r == 0)
			r = make_anew(path, bytes, ring);
		event_ring_close(ring);
		if (r == 0)
			r = event_ring_file_map(path, true, &ring);
	}
	if (r < 0)
		return r;
	ring->batch = malloc(BATCH_BYTES);
	r = ring->batch ? begin_session(ring, &found) : -ENOMEM;
	if (r < 0) {
		event_ring_close(ring);
		return r;
	}
	*ret_ring = ring;
	*ret_found = found;
	return 0;
}

void event_ring_close(struct event_ring *ring)
{
	if (!ring)
		return;
	if (ring->batch) {
		if (event_ring_flush(ring) == 0 && fsync(ring->fd) == 0)
			atomic_store(&ring->header->clean, 1);
		free(ring->batch);
	}
	if (ring->header)
		munmap(ring->header, EVENT_RING_HEADER_BYTES);
	if (ring->fd >= 0)
		close(ring->fd);
	free(ring);
}

uint32_t event_ring_session(const struct event_ring *ring)
{
	return atomic_load_explicit(&ring->header->session, memory_order_relaxed);
}

void event_ring_note(struct event_ring *ring)
{
	atomic_fetch_add_explicit(&ring->header->noted, 1, memory_order_relaxed);
}

void event_ring_note_dropped(struct event_ring *ring)
{
	atomic_fetch_add_explicit(&ring->header->dropped, 1, memory_order_relaxed);
}

uint64_t event_ring_dropped(struct event_ring *ring)
{
	return atomic_load_explicit(&ring->header->dropped, memory_order_relaxed);
}

void event_ring_stats(struct event_ring *ring, struct event_ring_stats *ret)
{
	struct plain_mark head, tail;

	look(ring, &head, &tail);
	*ret = (struct event_ring_stats){ .bytes = ring->data_bytes, .used_bytes = tail.pos - head.pos,
		.noted = atomic_load(&ring->header->noted), .dropped = event_ring_dropped(ring), .oldest_seq = head.seq, .next_seq = tail.seq,
		.oldest_msn = head.msn, .next_msn = tail.msn, .session = event_ring_session(ring),
		.writing = !atomic_load(&ring->header->clean) };
}

/* ---- writer ---- */

static int append(struct event_ring *ring, const void *body, size_t len, uint64_t seqs, uint64_t msns)
{
	size_t size = (sizeof(struct record) + len + 7) & ~(size_t)7;
	struct record *rec;

	if (len > EVENT_BYTES_MAX)
		return -EMSGSIZE;
	if (ring->batch_len + size > BATCH_BYTES)
		return -ENOBUFS;
	rec = (struct record *)(ring->batch + ring->batch_len);
	memset((char *)rec + size - 8, 0, 8);
	*rec = (struct record){ .size = size, .len = len, .seq = ring->end.seq, .msn = ring->end.msn, .session = event_ring_session(ring) };
	memcpy(rec->body, body, len);
	rec->check = check_of(rec);
	ring->batch_len += size;
	ring->end.pos += size;
	ring->end.seq += seqs;
	ring->end.msn += msns;
	return 0;
}

int event_ring_append(struct event_ring *ring, const void *body, size_t len)
{
	uint16_t type, flags;
	uint32_t has;

	event_peek(body, &type, &flags, &has);
	return append(ring, body, len, 1, event_beegfs8(type, flags, has & EVENT_HAS_ERROR) >= 0);
}

int event_ring_append_gap(struct event_ring *ring, uint64_t lost, unsigned flags, const char *why)
{
	struct event ev = { .type = EVENT_GAP, .flags = flags, .has = EVENT_HAS_LOST | EVENT_HAS_DETAIL, .lost = lost,
			    .detail = event_text(why, strlen(why)) };
	char body[256];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	ev.time_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	assert(event_size(&ev) <= sizeof(body));
	event_encode(&ev, body);
	/* Nobody knows what they were: as many may have been for BeeGFS. */
	return append(ring, body, event_size(&ev), lost, lost);
}

/* The oldest record that stays when everything up to `end` is written. */
static struct plain_mark head_for(struct event_ring *ring, uint64_t end)
{
	uint64_t index;

	if (end - ring->head.pos <= ring->data_bytes)
		return ring->head;
	/* Records are shorter than a segment: one begins in each. */
	index = (end - ring->data_bytes + ring->segment_bytes - 1) / ring->segment_bytes;
	assert(atomic_load(&segment_of(ring, index)->index) == index);
	return load_mark(&segment_of(ring, index)->first);
}

bool event_ring_flush_keeps(struct event_ring *ring, uint64_t seq)
{
	return head_for(ring, ring->end.pos).seq <= seq;
}

int event_ring_flush(struct event_ring *ring)
{
	struct plain_mark at = ring->tail, head;
	int r;

	if (ring->batch_len == 0)
		return 0;
	head = head_for(ring, ring->end.pos);
	if (head.pos != ring->head.pos) {
		ring->head = head;
		publish(ring, &head, NULL);
	}
	r = write_at(ring, at.pos, ring->batch, ring->batch_len);
	if (r < 0)
		return r;
	for (size_t done = 0; done < ring->batch_len;) {
		const struct record *rec = (const struct record *)(ring->batch + done);

		at.seq = rec->seq;
		at.msn = rec->msn;
		index_record(ring, &at);
		at.pos += rec->size;
		done += rec->size;
	}
	ring->batch_len = 0;
	ring->tail = ring->end;
	publish(ring, NULL, &ring->tail);
	return 0;
}

struct event_consumer *event_ring_consumer(struct event_ring *ring, const char *name, bool *ret_new)
{
	struct event_consumer *all = ring->header->consumer, *use = NULL;
	uint32_t session = event_ring_session(ring);
	bool locked = event_ring_lock(ring) == 0;	/* else somebody registers a consumer since two seconds: he is stopped */

	for (int i = 0; i < EVENT_RING_CONSUMERS; i++) {
		if (atomic_load(&all[i].registered))
			continue;
		if (strncmp(all[i].name, name, sizeof(all[i].name) - 1) == 0 && all[i].name[0]) {
			*ret_new = false;
			use = &all[i];
			goto out;
		}
		if (!use || (use->name[0] && (!all[i].name[0] || atomic_load(&all[i].session) < atomic_load(&use->session))))
			use = &all[i];
	}
	memset((void *)use, 0, sizeof(*use));
	snprintf(use->name, sizeof(use->name), "%s", name);
	*ret_new = true;
out:
	atomic_store(&use->session, session);
	if (locked)
		event_ring_unlock(ring);
	return use;
}

const struct event_consumer *event_ring_consumers(const struct event_ring *ring)
{
	return ring->header->consumer;
}

struct event_consumer *event_ring_slots(struct event_ring *ring)
{
	return ring->header->consumer;
}

/* ---- readers ---- */

static struct event_cursor cursor_of(const struct plain_mark *mark)
{
	return (struct event_cursor){ .pos = mark->pos, .seq = mark->seq, .msn = mark->msn };
}

ssize_t event_ring_read(struct event_ring *ring, struct event_cursor *cursor, void *buf, size_t size, uint64_t *ret_overwritten)
{
	struct plain_mark head, tail;
	size_t len, done = 0;
	int r;

	*ret_overwritten = 0;
	for (;;) {
		look(ring, &head, &tail);
		if (cursor->pos < head.pos) {
			*ret_overwritten += head.seq - cursor->seq;
			*cursor = cursor_of(&head);
		}
		if (cursor->pos >= tail.pos)
			return 0;
		len = tail.pos - cursor->pos < size ? tail.pos - cursor->pos : size;
		r = read_at(ring, cursor->pos, buf, len);
		if (r < 0)
			return r;
		look(ring, &head, &tail);
		if (cursor->pos >= head.pos)
			break;
	}
	while (done < len) {
		const struct record *rec = (const struct record *)((char *)buf + done);

		if (len - done >= sizeof(*rec) && rec->size > len - done && done > 0)
			break;		/* its end is in the next piece */
		if (!record_is_sound(rec, len - done)) {
			if (done > 0)
				break;
			return -EBADMSG;
		}
		numbers_after(rec, &cursor->seq, &cursor->msn);
		cursor->pos += rec->size;
		done += rec->size;
	}
	return done;
}

ssize_t event_ring_record(const void *buf, size_t len, struct event *ret)
{
	const struct record *rec = buf;
	int r;

	if (len < sizeof(*rec) || rec->size > len)
		return -EBADMSG;
	r = event_decode(rec->body, rec->len, ret);
	if (r < 0)
		return r;
	ret->seq = rec->seq;
	ret->msn = rec->msn;
	ret->session = rec->session;
	return rec->size;
}

ssize_t event_ring_next(const void *buf, size_t len, size_t *at, struct event *ret, uint64_t *newer)
{
	while (*at < len) {
		const struct record *rec = (const struct record *)((const char *)buf + *at);
		ssize_t n = event_ring_record(rec, len - *at, ret);

		if (n < 0 && n != -EPROTO)
			return n;
		*at += rec->size;
		if (n > 0)
			return n;
		++*newer;
	}
	return 0;
}

void event_ring_overwritten(const struct event_ring *ring, uint64_t first, uint64_t lost, struct event *ret)
{
	static const char why[] = "overwritten";
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*ret = (struct event){ .type = EVENT_GAP, .has = EVENT_HAS_LOST | EVENT_HAS_DETAIL, .lost = lost, .seq = first,
			       .time_ns = now.tv_sec * 1000000000LL + now.tv_nsec, .detail = event_text(why, sizeof(why) - 1),
			       .session = event_ring_session(ring) };
}

/* The last indexed mark at or before the number. */
static struct plain_mark mark_before(struct event_ring *ring, uint64_t n, bool by_msn, const struct plain_mark *head,
				     const struct plain_mark *tail)
{
	uint64_t last = tail->pos > 0 ? (tail->pos - 1) / ring->segment_bytes : 0;
	struct plain_mark best = *head;

	for (uint64_t i = head->pos / ring->segment_bytes + 1; i <= last; i++) {
		struct segment *segment = segment_of(ring, i);
		struct plain_mark mark;

		if (atomic_load_explicit(&segment->index, memory_order_acquire) != i)
			continue;
		mark = load_mark(&segment->first);
		if (atomic_load_explicit(&segment->index, memory_order_acquire) != i || mark.pos / ring->segment_bytes != i ||
		    mark.pos >= tail->pos || (by_msn ? mark.msn : mark.seq) > n)
			continue;
		best = mark;
	}
	return best;
}

static int seek(struct event_ring *ring, uint64_t n, bool by_msn, struct event_cursor *ret)
{
	size_t size = BATCH_BYTES;
	struct plain_mark head, tail, at;
	struct event_cursor cursor;
	uint64_t overwritten;
	char *buf;
	ssize_t len = 0;

	look(ring, &head, &tail);
	if (n == UINT64_MAX || n >= (by_msn ? tail.msn : tail.seq)) {
		*ret = cursor_of(&tail);
		return 0;
	}
	at = mark_before(ring, n, by_msn, &head, &tail);
	cursor = cursor_of(&at);
	buf = malloc(size);
	if (!buf)
		return -ENOMEM;
	while ((by_msn ? cursor.msn : cursor.seq) <= n) {
		size_t done = 0;

		len = event_ring_read(ring, &cursor, buf, size, &overwritten);
		if (len <= 0)
			break;
		if ((by_msn ? cursor.msn : cursor.seq) <= n)
			continue;	/* all before it */
		/* It is in this piece: back to the record that is it, or the gap that it is in. */
		while (done < (size_t)len) {
			const struct record *rec = (const struct record *)(buf + done);
			uint64_t seq, msn;

			numbers_after(rec, &seq, &msn);
			if ((by_msn ? msn : seq) > n) {
				cursor = (struct event_cursor){ .pos = cursor.pos - len + done, .seq = rec->seq, .msn = rec->msn };
				break;
			}
			done += rec->size;
		}
		break;
	}
	free(buf);
	if (len < 0)
		return len;
	*ret = cursor;
	return 0;
}

int event_ring_seek(struct event_ring *ring, uint64_t seq, struct event_cursor *ret)
{
	return seek(ring, seq, false, ret);
}

int event_ring_seek_msn(struct event_ring *ring, uint64_t msn, struct event_cursor *ret)
{
	return seek(ring, msn, true, ret);
}
