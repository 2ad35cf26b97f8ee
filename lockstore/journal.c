/* The journal of open writers, a shared mapping of a file in the state directory.
 *
 * Slot 0 is the header, so that every chunk starts at a multiple of 256 KiB and can be mapped whatever
 * the page size. Blocks are allocated before a chunk is mapped: a store into a hole on a full disk
 * would be a SIGBUS. The rule for every change: a kill between any two stores leaves the slot as it
 * was, or free, or still WRITING with the path "" - never half of one path and half of another. */
#include "lockstore/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/leaf_mutex.h"

#define MAGIC "wormfs writers\n"	/* 16 bytes with its NUL */
#define VERSION 1
#define CHUNK_BYTES ((size_t)JOURNAL_CHUNK_SLOTS * JOURNAL_SLOT_BYTES)
#define MAX_CHUNKS (JOURNAL_MAX_SLOTS / JOURNAL_CHUNK_SLOTS)
#define PATH_MAX_BYTES 816	/* what is left of a slot; no NUL is stored */

struct header {
	char magic[16];
	uint32_t version;
	uint32_t slot_bytes;
	uint32_t chunk_slots;
};

struct slot {
	_Atomic uint8_t state;	/* enum journal_state; stored last, with release */
	uint8_t key_len;
	_Atomic uint16_t path_len;	/* 0 while the path is being replaced */
	uint8_t key[FILE_KEY_MAX_BYTES];
	uint8_t flags;
	uint8_t mode;
	uint16_t holds;
	uint16_t rule;
	uint8_t generation;	/* 0 in a journal from before there were any */
	uint8_t zero[13];
	int64_t committed_s;
	int64_t until_s;
	uint64_t serial;
	uint64_t size_bytes;
	int64_t mtime_ns;
	char path[PATH_MAX_BYTES];
	uint8_t spare[8];
};
_Static_assert(sizeof(struct slot) == JOURNAL_SLOT_BYTES, "a slot is what the file format says");

struct journal {
	int fd;
	pthread_mutex_t lock;
	uint32_t *free_slots;	/* lock: a stack */
	uint32_t nfree;		/* lock */
	uint32_t nchunks;	/* lock */
	/* Written under the lock before any slot of the chunk is given away, constant from then on: whoever
	 * has a slot may read its entry without the lock. */
	struct slot *chunks[MAX_CHUNKS];
};

static struct slot *slot_of(struct journal *journal, journal_slot slot)
{
	return &journal->chunks[slot / JOURNAL_CHUNK_SLOTS][slot % JOURNAL_CHUNK_SLOTS];
}

/* Blocks on disk for the chunk, then its mapping. */
static int map_chunk(int fd, uint32_t chunk, struct slot **ret_slots)
{
	void *map;
	int r;

	do {
		r = posix_fallocate(fd, (off_t)(chunk * CHUNK_BYTES), CHUNK_BYTES);
	} while (r == EINTR);
	if (r != 0)
		return -r;
	map = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(chunk * CHUNK_BYTES));
	if (map == MAP_FAILED)
		return -errno;
	*ret_slots = map;
	return 0;
}

static bool slot_is_sound(struct slot *s)
{
	uint16_t path_len = atomic_load_explicit(&s->path_len, memory_order_relaxed);

	switch (atomic_load_explicit(&s->state, memory_order_acquire)) {
	case JOURNAL_FREE:
		return true;	/* what else is in it means nothing */
	case JOURNAL_WRITING:
	case JOURNAL_LOCKED:
		return s->key_len <= FILE_KEY_MAX_BYTES && path_len <= PATH_MAX_BYTES &&
		       !memchr(s->path, '\0', path_len);
	default:
		return false;
	}
}

static int add_chunk_locked(struct journal *journal)
{
	uint32_t chunk = journal->nchunks, base = chunk * JOURNAL_CHUNK_SLOTS;
	struct slot *slots = NULL;
	int r;

	if (chunk == MAX_CHUNKS)
		return -ENOSPC;
	r = map_chunk(journal->fd, chunk, &slots);
	if (r < 0)
		return r;
	journal->chunks[chunk] = slots;
	journal->nchunks++;
	/* Backwards, so that the stack gives the lowest first; slot 0 is the header. */
	for (uint32_t i = JOURNAL_CHUNK_SLOTS; i-- > (chunk == 0);) {
		if (!slot_is_sound(&slots[i]))
			return -EBADMSG;	/* only on open: new chunks are zero */
		if (atomic_load_explicit(&slots[i].state, memory_order_relaxed) == JOURNAL_FREE)
			journal->free_slots[journal->nfree++] = base + i;
	}
	return 0;
}

/* Makes the file whole under another name first: a kill on the way leaves no half journal. */
static int create_file(int dir_fd)
{
	static const char temporary[] = JOURNAL_FILE ".new";
	struct header header = { .magic = MAGIC, .version = VERSION, .slot_bytes = JOURNAL_SLOT_BYTES,
				 .chunk_slots = JOURNAL_CHUNK_SLOTS };
	int fd, r;

	fd = openat(dir_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	do {
		r = -posix_fallocate(fd, 0, CHUNK_BYTES);
	} while (r == -EINTR);
	if (r < 0)
		goto out;
	if (pwrite(fd, &header, sizeof(header), 0) != sizeof(header)) {
		r = -EIO;
		goto out;
	}
	if (fsync(fd) < 0 || renameat(dir_fd, temporary, dir_fd, JOURNAL_FILE) < 0 || fsync(dir_fd) < 0)
		r = -errno;
out:
	if (r < 0)
		(void)unlinkat(dir_fd, temporary, 0);	/* the next open truncates it anyway */
	close(fd);
	return r;
}

static int check_header(int fd, uint32_t *ret_nchunks)
{
	struct header header;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)CHUNK_BYTES)
		return -EBADMSG;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return -EIO;
	if (memcmp(header.magic, MAGIC, sizeof(header.magic)) != 0 || header.version != VERSION ||
	    header.slot_bytes != JOURNAL_SLOT_BYTES || header.chunk_slots != JOURNAL_CHUNK_SLOTS)
		return -EBADMSG;
	/* A kill while the file grew leaves part of a chunk, in which nothing was given away yet. */
	*ret_nchunks = (uint32_t)(st.st_size / (off_t)CHUNK_BYTES);
	return *ret_nchunks > MAX_CHUNKS ? -EBADMSG : 0;
}

int journal_open(const char *state_dir, struct journal **ret_journal)
{
	struct journal *journal = NULL;
	uint32_t nchunks = 0;
	int dir_fd = -1, r;

	journal = calloc(1, sizeof(*journal));
	if (!journal)
		return -ENOMEM;
	journal->fd = -1;
	leaf_mutex_init(&journal->lock);
	journal->free_slots = malloc(JOURNAL_MAX_SLOTS * sizeof(*journal->free_slots));
	if (!journal->free_slots) {
		r = -ENOMEM;
		goto out;
	}
	dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || flock(dir_fd, LOCK_EX) < 0) {	/* two daemons that start at once create one file */
		r = -errno;
		goto out;
	}
	if (faccessat(dir_fd, JOURNAL_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		r = errno == ENOENT ? create_file(dir_fd) : -errno;
		if (r < 0)
			goto out;
	}
	journal->fd = openat(dir_fd, JOURNAL_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (journal->fd < 0) {
		r = -errno;
		goto out;
	}
	if (flock(journal->fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
		goto out;
	}
	r = check_header(journal->fd, &nchunks);
	if (r < 0)
		goto out;
	while (journal->nchunks < nchunks) {
		r = add_chunk_locked(journal);
		if (r < 0)
			goto out;
	}
	*ret_journal = journal;
	journal = NULL;
	r = 0;
out:
	if (dir_fd >= 0)
		close(dir_fd);
	journal_close(journal);
	return r;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	for (uint32_t i = 0; i < journal->nchunks; i++)
		munmap(journal->chunks[i], CHUNK_BYTES);
	if (journal->fd >= 0)
		close(journal->fd);
	pthread_mutex_destroy(&journal->lock);
	free(journal->free_slots);
	free(journal);
}

/* Between the two stores of path_len the slot has no path: a kill in there costs the path only. */
static void store_path(struct slot *s, const char *path)
{
	size_t len = strlen(path);

	atomic_store_explicit(&s->path_len, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	if (len > PATH_MAX_BYTES)
		return;
	memcpy(s->path, path, len);
	atomic_store_explicit(&s->path_len, (uint16_t)len, memory_order_release);
}

int journal_add(struct journal *journal, const struct file_key *key, const char *path, journal_slot *ret_slot)
{
	journal_slot slot = JOURNAL_NO_SLOT;
	struct slot *s;
	int r = 0;

	assert(key->len <= FILE_KEY_MAX_BYTES);
	pthread_mutex_lock(&journal->lock);
	if (!journal->nfree)
		r = add_chunk_locked(journal);
	if (r == 0)
		slot = journal->free_slots[--journal->nfree];
	pthread_mutex_unlock(&journal->lock);
	if (r < 0)
		return r;
	s = slot_of(journal, slot);
	s->key_len = key->len;
	memcpy(s->key, key->bytes, key->len);
	store_path(s, path);
	atomic_store_explicit(&s->state, JOURNAL_WRITING, memory_order_release);
	*ret_slot = slot;
	return 0;
}

void journal_mark_locked(struct journal *journal, journal_slot slot, const struct lock_record *rec, const char *path)
{
	struct slot *s = slot_of(journal, slot);

	assert(atomic_load_explicit(&s->state, memory_order_relaxed) != JOURNAL_FREE);
	/* Also when it is LOCKED already, with other numbers: a kill then leaves what a kill between the record
	 * on the file and this call leaves. */
	atomic_store_explicit(&s->state, JOURNAL_WRITING, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	if (path)
		store_path(s, path);
	s->flags = rec->flags;
	s->mode = rec->mode;
	s->generation = rec->generation;
	s->holds = rec->holds;
	s->rule = rec->rule;
	s->committed_s = rec->committed_s;
	s->until_s = rec->until_s;
	s->serial = rec->serial;
	s->size_bytes = rec->size_bytes;
	s->mtime_ns = rec->mtime_ns;
	atomic_store_explicit(&s->state, JOURNAL_LOCKED, memory_order_release);
}

void journal_free(struct journal *journal, journal_slot slot)
{
	struct slot *s;

	if (slot == JOURNAL_NO_SLOT)
		return;
	s = slot_of(journal, slot);
	assert(atomic_load_explicit(&s->state, memory_order_relaxed) != JOURNAL_FREE);
	atomic_store_explicit(&s->state, JOURNAL_FREE, memory_order_release);
	pthread_mutex_lock(&journal->lock);
	journal->free_slots[journal->nfree++] = slot;
	pthread_mutex_unlock(&journal->lock);
}

static int call_with(journal_fn fn, void *arg, journal_slot slot, enum journal_state state, const struct slot *s)
{
	struct file_key key = { .len = s->key_len };
	char path[PATH_MAX_BYTES + 1];
	uint16_t path_len = atomic_load_explicit(&s->path_len, memory_order_acquire);
	struct lock_record rec = { 0 };

	memcpy(key.bytes, s->key, s->key_len);
	memcpy(path, s->path, path_len);
	path[path_len] = '\0';
	if (state == JOURNAL_LOCKED)
		rec = (struct lock_record){
			.flags = s->flags,
			.mode = s->mode,
			.generation = s->generation,
			.holds = s->holds,
			.rule = s->rule,
			.committed_s = s->committed_s,
			.until_s = s->until_s,
			.serial = s->serial,
			.size_bytes = s->size_bytes,
			.mtime_ns = s->mtime_ns,
		};
	return fn(arg, slot, state, &key, path, state == JOURNAL_LOCKED ? &rec : NULL);
}

int journal_each(struct journal *journal, journal_fn fn, void *arg)
{
	uint32_t nslots;
	int r = 0;

	pthread_mutex_lock(&journal->lock);
	nslots = journal->nchunks * JOURNAL_CHUNK_SLOTS;
	pthread_mutex_unlock(&journal->lock);
	for (journal_slot slot = 1; r == 0 && slot < nslots; slot++) {
		struct slot *s = slot_of(journal, slot);
		enum journal_state state = atomic_load_explicit(&s->state, memory_order_acquire);

		if (state != JOURNAL_FREE)
			r = call_with(fn, arg, slot, state, s);
	}
	return r;
}
