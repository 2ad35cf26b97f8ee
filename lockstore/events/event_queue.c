/* A ring of slots, 8 bytes aligned. Who puts takes a piece at the tail by compare-and-swap, fills it, and stores its size
 * last; the reader goes from size to size, and leaves zeros behind. Always true: what lies between tail and head is zero. */
#include "lockstore/events/event_queue.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PADDING UINT32_MAX	/* length of a slot that only fills the end */

struct slot {
	_Atomic uint32_t size;	/* with this header; 0: not filled yet */
	uint32_t len;
	uint64_t mark;
	char body[];
};

enum { AWAKE, SLEEPS, GATHERS };

struct event_queue {
	char *slots;
	size_t bytes;
	_Alignas(64) _Atomic uint64_t tail;
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint32_t reader;	/* the futex */
};

int event_queue_open(size_t bytes, struct event_queue **ret_queue)
{
	struct event_queue *queue = aligned_alloc(64, sizeof(*queue));

	if (!queue)
		return -ENOMEM;
	memset(queue, 0, sizeof(*queue));
	queue->bytes = bytes;
	queue->slots = calloc(1, bytes);	/* pages that are never reached cost nothing */
	if (!queue->slots) {
		free(queue);
		return -ENOMEM;
	}
	*ret_queue = queue;
	return 0;
}

void event_queue_close(struct event_queue *queue)
{
	if (!queue)
		return;
	free(queue->slots);
	free(queue);
}

static struct slot *slot_at(struct event_queue *queue, uint64_t pos)
{
	return (struct slot *)(queue->slots + (pos & (queue->bytes - 1)));
}

void event_queue_wake(struct event_queue *queue)
{
	if (atomic_exchange(&queue->reader, AWAKE) != AWAKE)
		syscall(SYS_futex, &queue->reader, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int event_queue_put(struct event_queue *queue, const struct event *ev, uint64_t (*mark)(void *arg), void *arg)
{
	size_t len = event_size(ev), need = (sizeof(struct slot) + len + 7) & ~(size_t)7, left, take;
	uint64_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed), head;
	struct slot *slot;
	uint32_t reader;

	do {
		left = queue->bytes - (tail & (queue->bytes - 1));
		take = need <= left ? need : left + need;
		head = atomic_load_explicit(&queue->head, memory_order_acquire);
		if (tail + take - head > queue->bytes)
			return -ENOBUFS;
	} while (!atomic_compare_exchange_weak_explicit(&queue->tail, &tail, tail + take, memory_order_relaxed, memory_order_relaxed));

	slot = slot_at(queue, tail);
	if (take != need) {
		slot->len = PADDING;
		atomic_store_explicit(&slot->size, left, memory_order_release);
		slot = slot_at(queue, tail + left);
	}
	slot->len = len;
	slot->mark = mark ? mark(arg) : 0;
	event_encode(ev, slot->body);
	/* Sequentially consistent with the reader's way to sleep: one of the two sees the other. */
	atomic_store(&slot->size, need);
	reader = atomic_load(&queue->reader);
	if (reader == SLEEPS || (reader == GATHERS && tail + take - head > queue->bytes / 2))
		event_queue_wake(queue);
	return 0;
}

static void pop_slot(struct event_queue *queue, uint64_t head, struct slot *slot)
{
	uint32_t size = atomic_load_explicit(&slot->size, memory_order_relaxed);

	memset((void *)slot, 0, slot->len == PADDING ? sizeof(uint64_t) : size);
	atomic_store_explicit(&queue->head, head + size, memory_order_release);
}

bool event_queue_peek(struct event_queue *queue, const void **ret_body, size_t *ret_len, uint64_t *ret_mark)
{
	for (;;) {
		uint64_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
		struct slot *slot = slot_at(queue, head);

		if (!atomic_load(&slot->size))
			return false;
		if (slot->len == PADDING) {
			pop_slot(queue, head, slot);
			continue;
		}
		*ret_body = slot->body;
		*ret_len = slot->len;
		*ret_mark = slot->mark;
		return true;
	}
}

void event_queue_pop(struct event_queue *queue)
{
	uint64_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);

	pop_slot(queue, head, slot_at(queue, head));
}

static void sleep_as(struct event_queue *queue, uint32_t how, unsigned timeout_ms)
{
	struct timespec timeout = { .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L };

	atomic_store(&queue->reader, how);
	if (how == GATHERS || !atomic_load(&slot_at(queue, atomic_load_explicit(&queue->head, memory_order_relaxed))->size))
		syscall(SYS_futex, &queue->reader, FUTEX_WAIT_PRIVATE, how, &timeout, NULL, 0);
	atomic_store(&queue->reader, AWAKE);
}

void event_queue_wait(struct event_queue *queue, unsigned timeout_ms)
{
	sleep_as(queue, SLEEPS, timeout_ms);
}

void event_queue_gather(struct event_queue *queue, unsigned timeout_ms)
{
	sleep_as(queue, GATHERS, timeout_ms);
}
