/* The archive: which file of the store is where (disk, tape, replica), the queue of what the robot has to do, the drives,
 * and the clock that all of it goes by. It knows nothing of FUSE or HTTP: ops.c asks it for the mount, http.c and ctl for
 * who steers it.
 *
 * Any thread may call anything here unless it says otherwise; every call takes the archive's own lock, and none calls
 * back with that lock held unless it says "under the lock". Paths are relative to the mount, without a leading '/', any
 * bytes but NUL; "" is the root. Errors are -errno. Times are ns of archive time since 1970, unless the name says
 * otherwise; archive time begins at the real date and is moved by the clock's mode.
 *
 * Seen from a thread that serves no FUSE request: nothing here goes through the mount, so nothing can wait for itself. */
#ifndef WORMFS_ARCHIVE_H
#define WORMFS_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "mockarchive/fault.h"

struct archive;

#define ARCHIVE_COPIES 2	/* 1: tape, where a recall reads from; 2: the replica directory */
#define ARCHIVE_NS INT64_C(1000000000)
#define ARCHIVE_NEVER INT64_MAX
#define ARCHIVE_ERROR_BYTES 256

/* ---- files ---- */

enum archive_state {
	ARCHIVE_WRITING,	/* a writer has it open, or is closing it */
	ARCHIVE_RESIDENT,	/* on disk, no good copy yet; nothing queued */
	ARCHIVE_ARCHIVING,	/* queued for, or on its way to, tape */
	ARCHIVE_DUAL,		/* on disk and on tape (premigrated) */
	ARCHIVE_RELEASED,	/* on tape only: the stub has no blocks */
	ARCHIVE_PARTIAL,	/* likewise, but the first `preview` bytes are on disk */
	ARCHIVE_RECALLING,	/* queued for, or on its way from, tape */
	ARCHIVE_LOST,		/* offline, and no copy is left */
	ARCHIVE_DAMAGED,	/* offline, and no copy that can be read is left */
	ARCHIVE_UNAVAILABLE,	/* offline, and its tape is not in the library now */
	ARCHIVE_FAILED_ARCHIVE,	/* on disk; `error` says why it is not on tape */
	ARCHIVE_FAILED_RECALL,	/* on tape; `error` says why the last recall failed. A new read or recall tries again */
	ARCHIVE_STATES,
};
const char *archive_state_name(enum archive_state state);	/* "released", "failed-archive" */
/* -EINVAL: no such name. */
int archive_state_parse(const char *name, enum archive_state *ret_state);
static inline unsigned archive_state_bit(enum archive_state state) { return 1u << state; }
/* Can it be read without a recall? */
bool archive_state_is_online(enum archive_state state);

enum archive_copy_state { ARCHIVE_COPY_NONE, ARCHIVE_COPY_GOOD, ARCHIVE_COPY_STALE, ARCHIVE_COPY_LOST, ARCHIVE_COPY_DAMAGED };
const char *archive_copy_state_name(enum archive_copy_state state);	/* "none" "good" "stale" "lost" "damaged" */

struct archive_file {
	uint64_t id;			/* the inode number through the mount */
	const char *path;		/* of one of its names; lives until the callback returns */
	enum archive_state state;
	uint64_t size_bytes;
	int64_t since_ns;		/* when it came into this state */
	int64_t due_ns;			/* ARCHIVING, RECALLING on a drive: when that is done; else ARCHIVE_NEVER */
	enum archive_copy_state copy[ARCHIVE_COPIES];	/* [0] tape, [1] replica */
	bool flag_final, flag_replica;	/* the sticky bit, as shown */
	bool worm;			/* locked */
	bool pinned;			/* now */
	int64_t pin_until_ns;
	unsigned evict_counter;		/* pins that are left (EOS) */
	int drive;			/* it is on, or -1 */
	unsigned waiting;		/* callers that wait for it */
	int error;			/* last failure, -errno, or 0 */
	char error_text[96];
	char request_id[64];		/* of the recall that is under way or was last, "" */
	int64_t request_ns, archived_ns, recalled_ns;	/* 0: never */
	unsigned recalls;
	char tape[16];			/* "VOL001", "" while not on tape */
	bool has_checksum;		/* of the data as it was archived */
	uint32_t adler32;
	unsigned char sha256[32];
};

typedef int (*archive_file_fn)(void *arg, const struct archive_file *file);

/* Files in the order of their ids, those in one of `states` (0: all) whose path begins with `prefix` (NULL: all; "a/b" is
 * itself and what is below it), after the id `after` (0: from the start), at most `limit`. fn runs without the lock; a
 * negative return ends it and is returned. *ret_next: the id to go on after, 0: that was all. May be NULL. */
int archive_list(struct archive *a, unsigned states, const char *prefix, uint64_t after, unsigned limit, archive_file_fn fn,
		 void *arg, uint64_t *ret_next);
/* -ENOENT: nothing has this name. -EISDIR, -EINVAL: it is no regular file. */
int archive_find(struct archive *a, const char *path, archive_file_fn fn, void *arg);
/* As stat and readdir on the mount say, for files and directories. */
int archive_stat(struct archive *a, const char *path, struct stat *ret_st);
int archive_readdir(struct archive *a, const char *path, int (*fn)(void *arg, const char *name, const struct stat *st), void *arg);
/* The data, as a read through the mount by root would have it (faults of op "read" included), but never waiting: -EAGAIN
 * where the mount would block. Starts a recall where the mount would. Bytes read, 0 at the end. */
ssize_t archive_pread(struct archive *a, const char *path, void *buf, size_t len, off_t offset);

/* Waits in real time until the file is in one of `states`. 0 and *ret_state; -ETIMEDOUT and *ret_state as it is then;
 * -ENOENT: it is, or comes to be, deleted; -ECANCELED: the archive ends. timeout_ms < 0: no limit. Does not move a clock. */
int archive_wait(struct archive *a, const char *path, unsigned states, int timeout_ms, enum archive_state *ret_state);

/* ---- requests about files ---- */

/* All return once the request is queued or done; they do not wait for drives. -ENOENT, -EISDIR as archive_find(). */

/* Copy to tape and replica now. 0 also if it is queued or done already. -EBUSY: a writer has it open. -EAGAIN: the queue is
 * full. -EROFS: nothing of it is on disk. */
int archive_archive(struct archive *a, const char *path);
/* Fetch it. `pin_ns` > 0: pinned for so long once it is there. `request_id`: shown with the file, NULL or "": made up.
 * 0 also if it is on disk already. -EAGAIN: the queue is full. -EIO: lost or damaged. -ENODATA: unavailable. */
int archive_recall(struct archive *a, const char *path, int64_t pin_ns, const char *request_id);
/* Takes back what waits in the queue or is on a drive (also of an archive run). -EALREADY: nothing was under way. */
int archive_cancel(struct archive *a, const char *path);
/* Give up the disk blocks. -ENODATA: no good copy on tape. -EBUSY: open for writing, or pinned (`force` overrides pins).
 * 0 also if it is offline already. */
int archive_release(struct archive *a, const char *path, bool force);
/* One pin less, and released when none is left (EOS evict). */
int archive_evict(struct archive *a, const char *path);
/* until now + pin_ns; 0: unpin all. An offline file is recalled first. *ret_until_ns may be NULL. */
int archive_pin(struct archive *a, const char *path, int64_t pin_ns, int64_t *ret_until_ns);
/* What happens to a copy (1 tape, 2 replica, 0 both). lose: its file is removed. damage: it cannot be read.
 * corrupt: its bytes are changed as it says (size_bytes and seed are filled in), and nobody is told. -ENODATA: there is no such copy. */
int archive_lose(struct archive *a, const char *path, int copy);
int archive_damage(struct archive *a, const char *path, int copy);
int archive_corrupt(struct archive *a, const char *path, int copy, const struct fault_corrupt *corrupt);
/* The tape of this file leaves the library, or comes back. */
int archive_unavailable(struct archive *a, const char *path, bool unavailable);
/* Takes back lose (from the other copy, or from the disk if it is online), damage, unavailable and a failure. -ENODATA: nothing to take it from. */
int archive_mend(struct archive *a, const char *path);
/* Name in the mount and its copies (Baker's GET /delete/F). A locked one: -EPERM. */
int archive_delete(struct archive *a, const char *path);

/* ---- clock ---- */

enum archive_clock_mode { ARCHIVE_CLOCK_REAL, ARCHIVE_CLOCK_SCALED, ARCHIVE_CLOCK_MANUAL };

struct archive_clock {
	enum archive_clock_mode mode;
	double rate;			/* SCALED: archive seconds a real second */
	int64_t now_ns;
	int64_t next_due_ns;		/* ARCHIVE_NEVER: nothing is */
	unsigned events;		/* that are still to come */
};
const char *archive_clock_mode_name(enum archive_clock_mode mode);	/* "real" "scaled" "manual" */
void archive_clock_get(struct archive *a, struct archive_clock *ret);
/* "real", "manual", "scaled:100", also "x100". Time goes on from where it is. -EINVAL. */
int archive_clock_set(struct archive *a, const char *mode);
/* Moves archive time on by ns (in any mode), and does everything that is due on the way, in order, before it returns; files that were
 * closed just before are waited for. *ret_done: events. -EINVAL: backwards. */
int archive_clock_advance(struct archive *a, int64_t ns, unsigned *ret_done);
/* Advances from event to event until no job is queued or under way that time alone would end (pins and delays of eviction do not count), at
 * most by max_ns. -ETIMEDOUT: there is more. */
int archive_clock_settle(struct archive *a, int64_t max_ns, unsigned *ret_done);

/* ---- drives and library ---- */

#define ARCHIVE_DRIVES_MAX 64
struct archive_drive {
	int number;			/* 0... */
	bool up;
	enum { ARCHIVE_DRIVE_IDLE, ARCHIVE_DRIVE_ARCHIVING, ARCHIVE_DRIVE_RECALLING } doing;
	char tape[16];			/* in it, "" */
	char path[256];			/* of its job, cut; "" */
	int64_t due_ns;			/* of its job, else ARCHIVE_NEVER */
	uint64_t jobs, bytes;		/* since start or reset */
};
int archive_drives(struct archive *a, int (*fn)(void *arg, const struct archive_drive *drive), void *arg);
/* A job on a drive that goes down is queued again, at the front. -ENOENT. */
int archive_drive_set(struct archive *a, int number, bool up);
/* The whole library: down, nothing new starts, recalls are UNAVAILABLE to who asks. */
int archive_library_set(struct archive *a, bool up);
bool archive_library_up(struct archive *a);

/* ---- settings: the switches of a profile and everything else that can be set while it runs ---- */

/* "drives", "read.errno", "flag": archive_each_setting() lists them with what they take. -ENOENT: no such key; -EINVAL; one line in error
 * (may be NULL). */
int archive_set(struct archive *a, const char *key, const char *value, char error[ARCHIVE_ERROR_BYTES]);
/* The value as text. -ENOENT. */
int archive_get(struct archive *a, const char *key, char *ret_value, size_t len_bytes);
int archive_each_setting(struct archive *a, int (*fn)(void *arg, const char *key, const char *value, const char *takes, const char *help),
			 void *arg);
/* Sets what the profile says and leaves the rest. -ENOENT: no such profile. */
int archive_profile(struct archive *a, const char *name);
const char *archive_profile_name(struct archive *a);
/* fn for each name: "eth-lts" first. */
int archive_each_profile(int (*fn)(void *arg, const char *name, const char *help), void *arg);

/* ---- what happened ---- */

enum archive_event_kind {
	ARCHIVE_EVENT_STATE,	/* from -> to */
	ARCHIVE_EVENT_FLAG,	/* detail: "final set", "replica cleared" */
	ARCHIVE_EVENT_FAULT,	/* a rule fired: fault, detail says at which point */
	ARCHIVE_EVENT_REQUEST,	/* somebody asked: detail "recall", "release" */
	ARCHIVE_EVENT_COPY,	/* detail: "tape lost" */
	ARCHIVE_EVENT_PIN,
	ARCHIVE_EVENT_DRIVE,	/* detail: "drive 0 down", "library up" */
	ARCHIVE_EVENT_CLOCK,	/* detail: "advanced 60s", "manual" */
	ARCHIVE_EVENT_SETTING,	/* detail: "drives=2" */
	ARCHIVE_EVENT_NAME,	/* renamed, removed: detail */
	ARCHIVE_EVENT_KINDS,
};
const char *archive_event_kind_name(enum archive_event_kind kind);

#define ARCHIVE_JOURNAL_MAX 65536	/* entries that are kept */
struct archive_event {
	uint64_t seq;			/* 1... without gaps */
	int64_t time_ns;		/* archive time */
	int64_t real_ns;		/* CLOCK_REALTIME */
	enum archive_event_kind kind;
	uint64_t file;			/* id, 0: none */
	const char *path;		/* "" none; like detail, until fn returns */
	enum archive_state from, to;	/* ARCHIVE_EVENT_STATE */
	const char *fault;		/* ARCHIVE_EVENT_FAULT: id of the rule; else "" */
	int error;			/* -errno that came of it, 0 */
	const char *detail;
};
typedef int (*archive_event_fn)(void *arg, const struct archive_event *event);
/* Entries with seq > after, oldest first, at most `limit`; fn runs without the lock. *ret_last: seq of the last one passed (or `after`).
 * *ret_lost: how many after `after` are not kept any more. Both may be NULL. */
int archive_journal_read(struct archive *a, uint64_t after, unsigned limit, archive_event_fn fn, void *arg, uint64_t *ret_last,
			 uint64_t *ret_lost);
/* Waits in real time until there is an entry after `after`. -ETIMEDOUT, -ECANCELED. */
int archive_journal_wait(struct archive *a, uint64_t after, int timeout_ms);
uint64_t archive_journal_last(struct archive *a);

/* Gauges and counters for /metrics: names "mockarchive_files{state=\"dual\"}", "mockarchive_recalls_total". */
enum archive_metric_type { ARCHIVE_GAUGE, ARCHIVE_COUNTER };
int archive_each_metric(struct archive *a, int (*fn)(void *arg, const char *name, const char *labels, enum archive_metric_type type,
			const char *help, double value), void *arg);

struct archive_summary {
	uint64_t files[ARCHIVE_STATES];
	uint64_t bytes_online, bytes_tape;
	unsigned queued_archive, queued_recall, waiting;	/* waiting: callers on the mount */
	uint64_t cache_size_bytes, cache_used_bytes;	/* 0: no limit */
	struct statvfs statvfs;		/* as the mount shows it */
};
void archive_summary(struct archive *a, struct archive_summary *ret);

/* ---- life, and what main.c made ---- */

/* The rules, opened and closed by the archive, which journals what fires and looks again at who hangs when the list changes. For
 * faults_add() and its like, and for faults_ask() at points of REST (with the time of archive_now_ns()). Constant. */
struct faults *archive_faults(struct archive *a);
int64_t archive_now_ns(struct archive *a);

const char *archive_mountpoint(struct archive *a);
const char *archive_store(struct archive *a);
const char *archive_replica(struct archive *a);

enum { ARCHIVE_RESET_FAULTS = 1, ARCHIVE_RESET_SETTINGS = 2, ARCHIVE_RESET_DRIVES = 4, ARCHIVE_RESET_COUNTERS = 8, ARCHIVE_RESET_JOURNAL = 16,
       ARCHIVE_RESET_FILES = 32, ARCHIVE_RESET_CLOCK = 64, ARCHIVE_RESET_ALL = 127 };
/* FAULTS: none; SETTINGS: as at the start; DRIVES and library: up; FILES: every file and directory of the mount and their copies
 * go, but what is locked (then -EPERM at the end, the rest is done). */
int archive_reset(struct archive *a, unsigned what);

/* Ends the process as SIGTERM does, once this call has returned: GET /exit. */
void archive_exit(struct archive *a);

#endif
