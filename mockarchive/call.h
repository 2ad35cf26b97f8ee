/* A request of the mount on its way through the archive: faults first, then a recall if it needs one, then the operation
 * of fs/. What has to wait is parked, on no thread: an interrupt (a signal to the caller) ends that with EINTR, unless a fault
 * says otherwise. */
#ifndef WORMFS_CALL_H
#define WORMFS_CALL_H

#include "fs/ops.h"
#include "mockarchive/archive_private.h"

/* What the operation does with a file's data. */
enum call_wants {
	WANTS_NOTHING,
	WANTS_OPEN,		/* open for reading */
	WANTS_READ,		/* `offset`, `size` */
	WANTS_ALL,		/* change a part of it, and keep the rest: it has to be there */
	WANTS_STILL,		/* nothing of it, but that nobody moves it meanwhile: open with O_TRUNC, truncate to 0, change of attributes */
};

struct call {
	struct archive *a;
	fuse_req_t req;
	void (*run)(struct call *c);	/* replies */
	enum fault_point point;		/* FAULT_POINTS: none */
	unsigned can;			/* beside errno, delay, hang and crash */
	enum call_wants wants;
	bool nonblock;

	fuse_ino_t nodeid, other;	/* other: second directory, or file */
	fuse_ino_t wants_of;		/* whose data `wants` is about; 0: nodeid */
	const char *name, *name2;	/* of the request, or a copy */
	struct fuse_file_info fi, other_fi;
	bool has_fi;
	size_t size;
	off_t offset, other_offset;
	mode_t mode;
	dev_t rdev;
	int flags;
	struct stat attr;
	const char *value;		/* setxattr, write: size bytes; or a copy */
	fuse_ino_t room_of;		/* this file is written up to room_end; 0: none is */
	uint64_t room_end;

	/* archive.lock */
	struct call *prev, *next;
	int64_t due_ns;			/* of WAITS_TIME; 0: its event has come */
	enum { WAITS_NOT, WAITS_FILE, WAITS_TIME, WAITS_RULE, WAITS_ROOM } waits;
	bool on_heap, hooked, parked, interrupted, unkillable, asked, entered, has_room;
	struct file *file;		/* referenced while entered */
	uint64_t serial;		/* of its event */
	uint64_t hang_number;
	int64_t delay_ns;
	int fault_error, error;
	struct fault_corrupt corrupt;	/* of what is read; .how 0: nothing */
};

/* Takes the request to its end; `c` may be on the stack. */
void call_go(struct call *c);

/* Path of an inode, "" when it is not known. The caller frees. */
char *call_path(struct archive *a, fuse_ino_t nodeid, const char *name);

#endif
