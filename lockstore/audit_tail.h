/* The end of the audit log, where lines are written: AUDIT_FILE, open, and the chain's last link. The thread of
 * audit.c is its one user once it is open.
 *
 * Always true: what the file holds up to `size_bytes` are whole lines, each chained to the one before; `seq` and `prev`
 * are those of the last of them. A write that fails is cut off again before anything else is written. */
#ifndef WORMFS_AUDIT_TAIL_H
#define WORMFS_AUDIT_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/audit.h"
#include "lockstore/audit_line.h"

struct audit_tail {
	int dir_fd, fd;
	uint64_t rotate_bytes;		/* 0: never */
	uint64_t seq, size_bytes;	/* of the last line; of the whole lines */
	char prev[AUDIT_HASH_CHARS + 1];
	unsigned next_number;		/* of a file that is rotated away */
	bool torn;			/* the file is longer than size_bytes, and could not be cut */
	bool unsynced;
	int64_t unsynced_ns;		/* CLOCK_BOOTTIME: since when */
};

/* Opens or makes AUDIT_FILE and finds the end of its lines. What a kill tore off becomes an AUDIT_LOG_TORN line, what
 * the head of `options` knows better an AUDIT_TAMPER line, both written with these times. -errno: cannot be opened or
 * written. Also then audit_tail_close() is due. */
int audit_tail_open(struct audit_tail *tail, const struct audit_options *options, const struct audit_times *times,
		    struct audit_recovery *recovery);
/* What audit_tail_close() may be called on before audit_tail_open(). */
void audit_tail_init(struct audit_tail *tail);
void audit_tail_close(struct audit_tail *tail);	/* twice is fine */

/* Lines that are written at once: begun behind the tail's last one, each chained to the one before. */
struct audit_batch {
	char *bytes;			/* free() it */
	size_t len, size;
	uint64_t seq, lines;
	char prev[AUDIT_HASH_CHARS + 1];
};
void audit_batch_begin(struct audit_batch *batch, const struct audit_tail *tail);
/* -ENOMEM */
int audit_batch_add(struct audit_batch *batch, const struct audit_times *times, const struct audit_entry *entry, uint64_t count);

/* All or nothing: on failure the file is as it was. Rotates when it has become long. */
int audit_tail_write(struct audit_tail *tail, const struct audit_batch *batch, bool sync);
int audit_tail_sync(struct audit_tail *tail);
/* Somebody moved, cut or added to the file while it was ours: what to say of it, and the tail goes on at the file's
 * name. NULL: nobody did. */
const char *audit_tail_look(struct audit_tail *tail);

#endif
