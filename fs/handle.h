/* An open file, as the kernel holds it in fi->fh. Made by open, create and tmpfile, ended by release. */
#ifndef WORMFS_HANDLE_H
#define WORMFS_HANDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct inode;

/* What a write cannot leave as it was. */
struct data_stamp {
	int64_t size_bytes;
	struct timespec mtime, ctime;
};

struct handle {
	int fd;				/* the lower file, opened as the caller asked; -1: not yet (ino->lock, handle.c) */
	struct inode *ino;		/* constant; counted */
	struct handle *next;		/* ino->lock: in ino->handles */
	pid_t pid;			/* constant: thread that opened it */
	uid_t uid;			/* constant, with gid: whose */
	gid_t gid;
	bool writer;			/* constant: may change the file */
	bool passthrough;		/* constant: counted in ino->nbacking, else in ino->ncached */
	bool direct;			/* constant: of an append-only file, counted in neither */
	/* ino->lock guards the rest; writers only */
	bool changed;			/* the data has changed since the file was opened */
	bool synced;			/* the writer asked for stable storage (fsync, O_SYNC) */
	bool seal_failed;		/* close(2) said so: not tried again at release */
	bool closed;			/* a close(2) was seen: its release is on the way, unless there is a duplicate */
	struct data_stamp stamp;	/* when it was opened */
	atomic_int ready;		/* see handle_of() */
};

/* A handle goes through the kernel from the thread that opened the file to the one that uses it. The
 * kernel orders the two; the pair below says so to the compiler and to the thread sanitizer, which
 * cannot see an order that io_uring makes. */
static inline uint64_t handle_publish(struct handle *h)
{
	atomic_store_explicit(&h->ready, 1, memory_order_release);
	return (uintptr_t)h;
}

/* The last look of a request at its handle, which the release that comes after it frees. */
static inline void handle_done(struct handle *h)
{
	atomic_fetch_or_explicit(&h->ready, 1, memory_order_release);
}

static inline struct handle *handle_of(uint64_t fh)
{
	struct handle *h = (struct handle *)(uintptr_t)fh;

	(void)atomic_load_explicit(&h->ready, memory_order_acquire);
	return h;
}

#endif
