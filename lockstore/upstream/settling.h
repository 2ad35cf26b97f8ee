/* Files that are waited for until nobody changes them any more: each has a moment when it is looked at next, which every change
 * puts off. Bounded in number and bytes. Pure: the caller brings the time (any clock, milliseconds); one thread. */
#ifndef WORMFS_UPSTREAM_SETTLING_H
#define WORMFS_UPSTREAM_SETTLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SETTLING_FILES_MAX 100000
#define SETTLING_BYTES_MAX (64 << 20)	/* of names */

/* A file that is waited for, or looked at right now. */
struct settling_file {
	char *path;
	int64_t due_ms;
	unsigned tries;			/* that failed, since the last change */
	bool busy;			/* given out by settling_take() */
	bool changed;			/* while it was busy */
	bool gone;			/* likewise */
	bool sent;			/* a lock of ours went out, and nobody has seen yet what came of it */
	bool has_look;			/* since the last change: */
	uint64_t look;			/* a sum of what it looked like. Two that are equal, a while apart: nobody wrote in between */
	int64_t looked_ms;
	/* the table's own */
	size_t place;
	struct settling_file *next;
};

struct settling;

/* files_max 0: SETTLING_FILES_MAX. -ENOMEM. The caller ends it with settling_close(). */
int settling_open(size_t files_max, struct settling **ret_settling);
void settling_close(struct settling *settling);

/* It came or changed: it is due at due_ms, later than before or not. -ENOSPC: the table is full and the file is not in it. */
int settling_touch(struct settling *settling, const char *path, int64_t due_ms);

bool settling_has(struct settling *settling, const char *path);

/* It is not there any more. */
void settling_forget(struct settling *settling, const char *path);

/* The one that has been due longest, busy from now on; NULL: none is due. It stays the table's. */
struct settling_file *settling_take(struct settling *settling, int64_t now_ms);
/* Ends busy. When the file changed or went meanwhile that decides (a change: due at changed_due_ms). Else due_ms < 0: it is done and forgotten; or
 * it is due again at due_ms. */
void settling_put(struct settling *settling, struct settling_file *file, int64_t due_ms, int64_t changed_due_ms);

size_t settling_count(const struct settling *settling);
bool settling_is_full(const struct settling *settling);
/* When the next is due; INT64_MAX: none waits. */
int64_t settling_next_ms(const struct settling *settling);

#endif
