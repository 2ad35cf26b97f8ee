/* A line of the audit log: one JSON object, chained to the line before it.
 *
 *   {"seq":7,"clock":"2026-11-24T19:00:00Z","wall":"2026-11-24T19:00:00.123Z","boot":4711.250,"uid":1000,"gid":1000,
 *    "pid":4242,"comm":"rm","event":"deny_unlink","path":"a/b","key":"0100...","serial":12,"result":"EPERM",
 *    "detail":"unlink: retained","count":1,"prev":"<64 hex>","hash":"<64 hex>"}
 *
 * `clock` is the clock of retention, `wall` CLOCK_REALTIME, `boot` CLOCK_BOOTTIME in seconds. What is not known is null.
 * A path that is no UTF-8 has U+FFFD in the place of its other bytes, and "path_encoded" (control_path_encode) after it.
 * `count` is 1, or how many like it are in this one line. `prev` is the `hash` of the line before, 64 zeros in the first.
 * `hash` is SHA-256 over the bytes of the line before ,"hash": - so that sha256sum can check it. Pure; any thread. */
#ifndef WORMFS_AUDIT_LINE_H
#define WORMFS_AUDIT_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lockstore/file_key.h"

#define AUDIT_HASH_CHARS 64	/* lower-case hex, without the NUL */
#define AUDIT_DETAIL_BYTES 512	/* with the NUL: what is said about a file is cut there */
#define AUDIT_NO_HASH "0000000000000000000000000000000000000000000000000000000000000000"

/* The names are in audit_line.c, in this order; a new one goes before AUDIT_EVENTS. At most 64. */
enum audit_event {
	AUDIT_COMMIT,			/* a file was locked; detail: why and until when. With a result: it could not be */
	AUDIT_EXTEND, AUDIT_SHORTEN,
	AUDIT_HOLD_ADD, AUDIT_HOLD_RELEASE,
	AUDIT_DELETE_EXPIRED, AUDIT_DELETE_PRIVILEGED,
	AUDIT_DENY_OPEN_WRITE, AUDIT_DENY_WRITE, AUDIT_DENY_TRUNCATE, AUDIT_DENY_UNLINK, AUDIT_DENY_RENAME, AUDIT_DENY_LINK,
	AUDIT_DENY_SETATTR, AUDIT_DENY_XATTR, AUDIT_DENY_REQUEST,
	AUDIT_CLOCK_START, AUDIT_CLOCK_SKEWED, AUDIT_CLOCK_OK, AUDIT_CLOCK_ACCEPT,
	AUDIT_POLICY_CHANGE, AUDIT_VERIFY,
	AUDIT_MOUNT, AUDIT_UNMOUNT,
	AUDIT_TAMPER,			/* a record, a file, the log itself: changed behind our back */
	AUDIT_LEDGER_FAILING, AUDIT_LEDGER_OK,
	AUDIT_LOG_LOST,			/* made by the log itself: `count` events before this line were lost */
	AUDIT_LOG_TORN,			/* likewise: what a kill or a power cut left of a last line is in `detail` */
	AUDIT_CREATE,			/* a regular file was made, empty as yet */
	AUDIT_ADJUST,			/* times, mode, owner, an attribute or the name of a file that settles were set */
	AUDIT_PUSH,			/* a cluster confirmed a lock; detail: what. With a result: it refused, and why */
	AUDIT_EVENTS,
};

const char *audit_event_name(enum audit_event event);
/* -EINVAL: there is no such event. */
int audit_event_parse(const char *name, size_t len_bytes, enum audit_event *ret_event);

/* What is said about one event. Pointers are the caller's; zero-initialised is "nothing known". */
struct audit_entry {
	enum audit_event event;
	int result;			/* 0, or the -errno that was answered */
	uid_t uid;
	gid_t gid;
	pid_t pid;			/* 0: not known */
	const char *comm;		/* name of the command; NULL or "": not known */
	const char *path;		/* relative to the share, any bytes; NULL: no file, or its name is not known */
	const struct file_key *key;	/* NULL: none */
	uint64_t serial;		/* 0: none */
	const char *detail;		/* for people, "word: what" or "name=value ..."; NULL: none */
	uint64_t file;			/* audit_put(): any number that stands for the file; with `repeats` */
	unsigned op;			/* likewise: for the operation */
	bool repeats;			/* likewise: more of (uid, file, event, op) within a while become one line */
};

struct audit_times {
	int64_t clock_s;		/* UTC seconds by the clock of retention */
	int64_t wall_ns, boot_ns;	/* CLOCK_REALTIME, CLOCK_BOOTTIME */
};

/* The line, with its newline. The caller frees *ret_line. ret_hash is the `prev` of the next one. -ENOMEM. */
int audit_line_format(uint64_t seq, const struct audit_times *times, const struct audit_entry *entry, uint64_t count,
		      const char *prev, char **ret_line, size_t *ret_len_bytes, char ret_hash[AUDIT_HASH_CHARS + 1]);

/* What chains a line. */
struct audit_link {
	uint64_t seq;
	char prev[AUDIT_HASH_CHARS + 1], hash[AUDIT_HASH_CHARS + 1];
};

/* A line without its newline. -EBADMSG: not a line of ours (ret_link untouched). -EILSEQ: its hash is not that of its
 * bytes (ret_link is what it says). */
int audit_line_check(const char *line, size_t len_bytes, struct audit_link *ret_link);

#endif
