/* One event: what happened to a file, or to the daemon, who asked, and how it ended. Its compact form is what queue and
 * ring hold; it is in the machine's own byte order and never leaves it. What goes out is JSON (event_json.h) or BeeGFS's
 * (beegfs.h). Pure; any thread. */
#ifndef WORMFS_EVENT_H
#define WORMFS_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_PATH_MAX 8192	/* bytes of a path in an event: a longer one is left out, with EVENT_CUT */
#define EVENT_DETAIL_MAX 1024
#define EVENT_COMM_MAX 64
#define EVENT_ARCHIVE_MAX 32
#define EVENT_FAULT_MAX 128
#define EVENT_BYTES_MAX 20480	/* of the compact form */

/* Up to 31 the numbers of BeeGFS 8; ours follow. The names are in event.c; numbers are kept in rings: never reuse one. */
enum event_type {
	EVENT_FLUSH = 1, EVENT_TRUNCATE, EVENT_SETATTR, EVENT_CLOSE_WRITE, EVENT_CREATE, EVENT_MKDIR, EVENT_MKNOD, EVENT_SYMLINK,
	EVENT_RMDIR, EVENT_UNLINK, EVENT_HARDLINK, EVENT_RENAME, EVENT_OPEN_READ, EVENT_OPEN_WRITE, EVENT_OPEN_READ_WRITE,
	EVENT_LAST_WRITER_CLOSED, EVENT_OPEN_BLOCKED,
	EVENT_WRITE = 32,		/* refused ones only: what is written is told by the close */
	EVENT_ALLOCATE, EVENT_XATTR_SET, EVENT_XATTR_REMOVED, EVENT_ACL_SET,
	EVENT_COMMITTED = 48, EVENT_RETENTION_EXTENDED, EVENT_RETENTION_SHORTENED, EVENT_HOLD_PLACED, EVENT_HOLD_RELEASED,
	EVENT_DELETED_EXPIRED, EVENT_DELETED_PRIVILEGED, EVENT_TAMPER, EVENT_APPEND_ONLY,
	EVENT_MOUNT = 64, EVENT_UNMOUNT, EVENT_CLOCK, EVENT_POLICY_CHANGED, EVENT_VERIFIED, EVENT_LEDGER, EVENT_AUDIT,
	EVENT_QUOTA = 80,		/* a limit was reached, or left behind: event.quota */
	/* Of the tape archive of mockarchive, in the order of its enum archive_event_kind. */
	EVENT_ARCHIVE_STATE = 82, EVENT_ARCHIVE_FLAG, EVENT_ARCHIVE_FAULT, EVENT_ARCHIVE_REQUEST, EVENT_ARCHIVE_COPY, EVENT_ARCHIVE_PIN,
	EVENT_ARCHIVE_DRIVE, EVENT_ARCHIVE_CLOCK, EVENT_ARCHIVE_SETTING, EVENT_ARCHIVE_NAME,
	EVENT_GAP = 96,			/* `lost` events, numbered from this one's number on, are not there */
	EVENT_TYPES = 97
};

enum {
	EVENT_REFUSED = 1,		/* by a lock; with error and detail "operation: state" */
	EVENT_EXCHANGE = 2,		/* rename: the two names changed places */
	EVENT_HARD_LINKS = 4,		/* the file has, or had, other names: BeeGFS 7 counts it as missed */
	EVENT_CUT = 8,			/* a path was too long */
	EVENT_UPPER_BOUND = 16,		/* gap: `lost` is the most that it can be (the power went) */
	EVENT_DIRECTORY = 32,		/* it happened to a directory */
};

/* States of a lock (enum guard_state of fs/guard.h). Rings keep the numbers: a new one goes before EVENT_STATES. */
enum event_state { EVENT_STATE_UNKNOWN, EVENT_STATE_OPEN, EVENT_STATE_CLOSING, EVENT_STATE_RETAINED, EVENT_STATE_EXPIRED,
		   EVENT_STATE_APPENDABLE, EVENT_STATE_UNREADABLE, EVENT_STATE_PINNED, EVENT_STATE_HELD,
		   EVENT_STATE_SETTLING, EVENT_STATES };

/* Which file: EntryId is made of it. ino 1, dev 0: the share's root. */
struct event_node {
	uint64_t ino;
	uint32_t generation, dev;	/* dev: number of the filesystem below the share, 0: its own */
};

struct event_actor {
	uint32_t uid, gid;
	int32_t pid;
};

/* Whose limit. The first three have the kernel's numbers (linux/quota.h, USRQUOTA). Rings keep them all. */
enum event_quota_kind { EVENT_QUOTA_USER, EVENT_QUOTA_GROUP, EVENT_QUOTA_PROJECT, EVENT_QUOTA_DIRECTORY, EVENT_QUOTA_RULE,
			EVENT_QUOTA_SOME,		/* the lower filesystem said EDQUOT, and not whose */
			EVENT_QUOTA_FILESYSTEM,		/* it is full: ENOSPC */
			EVENT_QUOTA_KINDS };

/* What about it. Up to 10 the kernel's numbers (linux/quota.h, QUOTA_NL_IHARDWARN). */
enum event_quota_warning { EVENT_QUOTA_NONE, EVENT_QUOTA_FILES_HARD, EVENT_QUOTA_FILES_GRACE, EVENT_QUOTA_FILES_SOFT,
			   EVENT_QUOTA_BYTES_HARD, EVENT_QUOTA_BYTES_GRACE, EVENT_QUOTA_BYTES_SOFT,
			   EVENT_QUOTA_FILES_HARD_BELOW, EVENT_QUOTA_FILES_SOFT_BELOW,
			   EVENT_QUOTA_BYTES_HARD_BELOW, EVENT_QUOTA_BYTES_SOFT_BELOW,
			   EVENT_QUOTA_FILES_ADVISORY, EVENT_QUOTA_BYTES_ADVISORY,
			   EVENT_QUOTA_REFUSED,		/* EDQUOT or ENOSPC: files or bytes, not known which */
			   EVENT_QUOTA_FILES_ADVISORY_BELOW, EVENT_QUOTA_BYTES_ADVISORY_BELOW,
			   EVENT_QUOTA_WARNINGS };

struct event_quota {
	uint8_t kind, warning;
	uint8_t unused[2];		/* 0 */
	uint32_t major, minor;		/* of the device */
	uint32_t count;			/* so often since it was told last */
	uint64_t id;			/* user, group, project: its number */
	uint64_t used, limit;		/* bytes or files, 0: not known */
};

struct event_text {
	const char *bytes;		/* no NUL; any bytes */
	uint16_t len;
};

/* Bits of event.has: which fields mean something. Rings keep them: a new one is the next bit. */
enum {
	EVENT_HAS_NODE = 1 << 0, EVENT_HAS_PARENT = 1 << 1, EVENT_HAS_TARGET_PARENT = 1 << 2, EVENT_HAS_NLINK = 1 << 3,
	EVENT_HAS_MODE = 1 << 4, EVENT_HAS_SIZE_BEFORE = 1 << 5, EVENT_HAS_SIZE = 1 << 6, EVENT_HAS_MTIME = 1 << 7,
	EVENT_HAS_ACTOR = 1 << 8, EVENT_HAS_OPEN_FLAGS = 1 << 9, EVENT_HAS_ERROR = 1 << 10, EVENT_HAS_UNTIL_BEFORE = 1 << 11,
	EVENT_HAS_UNTIL = 1 << 12, EVENT_HAS_STATE = 1 << 13, EVENT_HAS_SERIAL = 1 << 14, EVENT_HAS_LOST = 1 << 15,
	EVENT_HAS_COMM = 1 << 16, EVENT_HAS_PATH = 1 << 17, EVENT_HAS_TARGET = 1 << 18, EVENT_HAS_DETAIL = 1 << 19,
	EVENT_HAS_OWNER = 1 << 20, EVENT_HAS_QUOTA = 1 << 21,
	EVENT_HAS_ARCHIVE_BEFORE = 1 << 22, EVENT_HAS_ARCHIVE = 1 << 23, EVENT_HAS_FAULT = 1 << 24,
	EVENT_HAS_ALL = (1 << 25) - 1,
};

struct event {
	uint16_t type, flags;
	uint32_t has;
	int64_t time_ns;		/* CLOCK_REALTIME */
	struct event_node node, parent, target_parent;
	uint32_t nlink;			/* after it */
	uint32_t mode;			/* with the type */
	uint64_t size_before, size;
	int64_t mtime_ns;
	struct event_actor actor;
	uint32_t open_flags;
	uint32_t error;			/* errno, 0: it was done */
	int64_t until_before_s, until_s;	/* RETENTION_INFINITE, RETENTION_UNSPECIFIED */
	struct { uint8_t before, after; } state;	/* enum event_state, of the lock */
	uint64_t serial, lost;
	struct { uint32_t uid, gid; } owner;	/* of the file, after it */
	struct event_quota quota;
	struct event_text archive_before, archive;	/* names of the archive's states */
	struct event_text fault;		/* id of the rule that was applied */
	struct event_text comm, path, target, detail;	/* path: "" the root, no '/' before it */

	/* The ring's: not in the compact form. */
	uint64_t seq;			/* from 1 on, one by one: a number that is not there is in a gap */
	uint64_t msn;			/* likewise, of those that BeeGFS 8 knows; else of the next one */
	uint32_t session;		/* a start of the daemon */
};

const char *event_type_name(unsigned type);	/* NULL: there is none */
/* 0: no such type. */
unsigned event_type_parse(const char *name);

/* "" for what there is not, and for "unknown". */
const char *event_state_name(unsigned state);

/* NULL: there is none. */
const char *event_quota_kind_name(unsigned kind);
const char *event_quota_warning_name(unsigned warning);

/* The number that BeeGFS has for it, -1: none, it is not sent. A failed one is none but for a refused open (8). */
int event_beegfs7(unsigned type, unsigned flags, bool failed);
int event_beegfs8(unsigned type, unsigned flags, bool failed);
/* It tells one name of a file, and is of its others as well. */
bool event_is_of_all_names(unsigned type);
/* BeeGFS 7 is sent such a one of a file that has others, and counts it as missed. */
bool event_is_missed(const struct event *ev);

size_t event_size(const struct event *ev);
/* `buf` has event_size() bytes. */
void event_encode(const struct event *ev, void *buf);
/* Texts point into `buf`. -EBADMSG: no event; -EPROTO: a newer one. */
int event_decode(const void *buf, size_t len, struct event *ret);
/* Of a compact form, without decoding it. len >= 8. */
void event_peek(const void *buf, uint16_t *ret_type, uint16_t *ret_flags, uint32_t *ret_has);

#define EVENT_ENTRY_ID_BYTES 32
/* As BeeGFS writes it: "root", or three hexadecimal numbers. Returns its length. */
size_t event_entry_id(const struct event_node *node, char ret_text[EVENT_ENTRY_ID_BYTES]);

static inline struct event_text event_text(const char *bytes, size_t len)
{
	return (struct event_text){ .bytes = bytes, .len = (uint16_t)len };
}

#endif
