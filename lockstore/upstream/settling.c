/* A hash table by path, and a heap of those that are not busy by due_ms. Busy files have no place in the heap. */
#include "lockstore/upstream/settling.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 1024
#define NO_PLACE SIZE_MAX

struct settling {
	struct settling_file **buckets, **heap;
	size_t bucket_count, heap_size, heap_count, count, files_max, bytes;
};

static uint64_t hash(const char *path)	/* FNV-1a, 64 bits */
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *path; path++)
		h = (h ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
	return h;
}

int settling_open(size_t files_max, struct settling **ret_settling)
{
	struct settling *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->files_max = files_max ? files_max : SETTLING_FILES_MAX;
	s->bucket_count = BUCKETS_MIN;
	while (s->bucket_count < s->files_max)
		s->bucket_count *= 2;
	s->buckets = calloc(s->bucket_count, sizeof(struct settling_file *));
	if (!s->buckets) {
		free(s);
		return -ENOMEM;
	}
	*ret_settling = s;
	return 0;
}

static void file_free(struct settling_file *file)
{
	free(file->path);
	free(file);
}

void settling_close(struct settling *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->bucket_count; i++)
		for (struct settling_file *file = s->buckets[i], *next; file; file = next) {
			next = file->next;
			file_free(file);
		}
	free(s->buckets);
	free(s->heap);
	free(s);
}

static struct settling_file **slot_of(struct settling *s, const char *path)
{
	struct settling_file **slot = &s->buckets[hash(path) & (s->bucket_count - 1)];

	while (*slot && strcmp((*slot)->path, path) != 0)
		slot = &(*slot)->next;
	return slot;
}

/* ---- the heap ---- */

static void place(struct settling *s, struct settling_file *file, size_t at)
{
	s->heap[at] = file;
	file->place = at;
}

static void sift(struct settling *s, struct settling_file *file, size_t at)
{
	while (at > 0 && s->heap[(at - 1) / 2]->due_ms > file->due_ms) {
		place(s, s->heap[(at - 1) / 2], at);
		at = (at - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < s->heap_count && s->heap[child + 1]->due_ms < s->heap[child]->due_ms)
			child++;
		if (child >= s->heap_count || s->heap[child]->due_ms >= file->due_ms)
			break;
		place(s, s->heap[child], at);
		at = child;
	}
	place(s, file, at);
}

/* There is room for every file of the table. */
static void heap_add(struct settling *s, struct settling_file *file)
{
	assert(s->heap_count < s->heap_size);
	sift(s, file, s->heap_count++);
}

static void heap_remove(struct settling *s, struct settling_file *file)
{
	size_t at = file->place;
	struct settling_file *last = s->heap[--s->heap_count];

	file->place = NO_PLACE;
	if (last != file)
		sift(s, last, at);
}

static int heap_reserve(struct settling *s)
{
	struct settling_file **grown;
	size_t size = s->heap_size ? s->heap_size * 2 : 256;

	if (s->count < s->heap_size)
		return 0;
	grown = realloc(s->heap, size * sizeof(struct settling_file *));
	if (!grown)
		return -ENOMEM;
	s->heap = grown;
	s->heap_size = size;
	return 0;
}

/* ---- files ---- */

static void remove_at(struct settling *s, struct settling_file **slot)
{
	struct settling_file *file = *slot;

	if (file->place != NO_PLACE)
		heap_remove(s, file);
	*slot = file->next;
	s->count--;
	s->bytes -= strlen(file->path) + 1;
	file_free(file);
}

int settling_touch(struct settling *s, const char *path, int64_t due_ms)
{
	struct settling_file **slot = slot_of(s, path), *file = *slot;
	size_t bytes = strlen(path) + 1;

	if (file) {
		file->tries = 0;
		file->has_look = false;
		if (file->busy) {
			file->changed = true;
			file->gone = false;
			return 0;
		}
		file->due_ms = due_ms;
		sift(s, file, file->place);
		return 0;
	}
	if (s->count >= s->files_max || bytes > SETTLING_BYTES_MAX - s->bytes)
		return -ENOSPC;
	if (heap_reserve(s) < 0)
		return -ENOSPC;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOSPC;
	file->path = strdup(path);
	if (!file->path) {
		free(file);
		return -ENOSPC;
	}
	file->due_ms = due_ms;
	file->place = NO_PLACE;
	*slot = file;
	s->count++;
	s->bytes += bytes;
	heap_add(s, file);
	return 0;
}

bool settling_has(struct settling *s, const char *path)
{
	return *slot_of(s, path) != NULL;
}

void settling_forget(struct settling *s, const char *path)
{
	struct settling_file **slot = slot_of(s, path);

	if (!*slot)
		return;
	if ((*slot)->busy)
		(*slot)->gone = true;
	else
		remove_at(s, slot);
}

struct settling_file *settling_take(struct settling *s, int64_t now_ms)
{
	struct settling_file *file = s->heap_count ? s->heap[0] : NULL;

	if (!file || file->due_ms > now_ms)
		return NULL;
	heap_remove(s, file);
	file->busy = true;
	file->changed = file->gone = false;
	return file;
}

void settling_put(struct settling *s, struct settling_file *file, int64_t due_ms, int64_t changed_due_ms)
{
	file->busy = false;
	if (file->gone || (!file->changed && due_ms < 0)) {
		remove_at(s, slot_of(s, file->path));
		return;
	}
	file->due_ms = file->changed ? changed_due_ms : due_ms;
	if (file->changed)
		file->has_look = false;
	file->changed = false;
	heap_add(s, file);
}

size_t settling_count(const struct settling *s)
{
	return s->count;
}

bool settling_is_full(const struct settling *s)
{
	return s->count >= s->files_max || s->bytes > SETTLING_BYTES_MAX - 65536;
}

int64_t settling_next_ms(const struct settling *s)
{
	return s->heap_count ? s->heap[0]->due_ms : INT64_MAX;
}
