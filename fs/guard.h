/* The guard: one function that says what may be done to a file, and the one errno table.
 * Pure: no file, no clock, no lock. The daemon finds out the state, the guard decides; `wormctl
 * errno-table`, `wormctl status` and the README print the same table. */
#ifndef WORMFS_GUARD_H
#define WORMFS_GUARD_H

#include <stdio.h>

enum guard_state {
	GUARD_OPEN,		/* not locked (also: staging, pending) */
	GUARD_CLOSING,		/* record written, a writer from before is still there */
	GUARD_SETTLING,		/* retained, and so new that all but its data may still be set (lock_adjust.c) */
	GUARD_RETAINED,		/* locked: a date ahead, infinite, unspecified, or a hold */
	GUARD_EXPIRED,		/* locked, retention over, no hold: may be deleted */
	GUARD_APPENDABLE,	/* what is written is locked, more may be added at the end (append.c) */
	GUARD_UNREADABLE,	/* the record cannot be read or verified: nobody knows */
	GUARD_PINNED,		/* a directory above a locked file */
	GUARD_HELD,		/* not locked, not empty, and an order for what comes will put it under a hold with its lock */
	GUARD_STATES,
};

enum guard_op {
	GUARD_OPEN_READ,
	GUARD_OPEN_WRITE,	/* O_WRONLY, O_RDWR or O_TRUNC */
	GUARD_OPEN_APPEND,	/* O_APPEND writer without O_TRUNC */
	GUARD_WRITE,		/* on a handle from before; of an appendable file: not at its end */
	GUARD_APPEND,		/* write at the end, likewise; fallocate that touches nothing before it */
	GUARD_TRUNCATE,		/* by path */
	GUARD_FTRUNCATE,	/* on a writing handle */
	GUARD_FALLOCATE,	/* likewise, every mode */
	GUARD_COPY_TO,		/* copy_file_range destination, likewise */
	GUARD_UNLINK,
	GUARD_RENAME,		/* away */
	GUARD_REPLACE,		/* by a rename onto it, or exchanged */
	GUARD_RENAME_DIR,	/* a directory, away or exchanged */
	GUARD_LINK,
	GUARD_CHMOD_READONLY,	/* chmod that only takes write bits away */
	GUARD_CHMOD_WRITABLE,	/* chmod that only adds write bits */
	GUARD_CHMOD,
	GUARD_CHOWN,
	GUARD_UTIMENS,
	GUARD_SETXATTR,		/* and removexattr, and ACLs */
	GUARD_SETFLAGS,		/* chattr: any change */
	GUARD_APPEND_ONLY,	/* make it append-only */
	GUARD_COMMIT,
	GUARD_EXTEND,
	GUARD_HOLD,
	GUARD_RELEASE,
	GUARD_OPS,
};

/* 0: go on; -EPERM, -EIO, -EINVAL: refuse with this. GUARD_CHMOD_READONLY and GUARD_COMMIT on a file
 * that is locked already answer 0 and change nothing; an appendable one is made final. */
int guard_verdict(enum guard_state state, enum guard_op op);

/* "open-write": for counters and JSON. */
const char *guard_op_name(enum guard_op op);
/* "retained": as user.worm.state says it. */
const char *guard_state_name(enum guard_state state);

/* The table in Markdown. */
void guard_table_print(FILE *out);

#endif
