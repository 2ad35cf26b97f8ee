/* The inside of the archive: what its files share.
 *
 * One lock, archive.lock, a leaf below every lock of fs/ (it may be taken with an inode's lock held, never the other way
 * round), above the locks of fault.c and of the journal. Who moves data does it without the lock, with file.busy set, which keeps
 * callers of the mount and everybody else away from that file. Small system calls (an xattr, a chmod) are made under it.
 *
 * Threads: the robot (robot.c) does everything that comes with time, and a mover for each drive moves its data while time
 * flows by itself; answerers (call.c) go on with callers that waited; FUSE workers and HTTP threads call in. */
#ifndef WORMFS_ARCHIVE_PRIVATE_H
#define WORMFS_ARCHIVE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/wormfs.h"
#include "mockarchive/archive.h"
#include "mockarchive/settings.h"

struct call;
struct journal_ring;

#define ARCHIVE_TAPE_NAME_BYTES 48
#define ARCHIVE_HASH 16384
#define COPY_TAPE 0
#define COPY_REPLICA 1

/* What the robot has to do with one file. At most one a file. */
struct job {
	enum { JOB_ARCHIVE, JOB_RECALL } kind;
	enum { JOB_QUEUED, JOB_DELAYED, JOB_MOUNTING, JOB_HUNG, JOB_MOVING } phase;
	uint64_t serial;		/* of its events; a new one with each phase */
	struct job *next;		/* in the queue */
	struct file *file;
	int drive;			/* -1: none, or none needed (drives=0) */
	int64_t due_ns;
	uint64_t hang_number;		/* JOB_HUNG */
	int resume;			/* JOB_HUNG: the phase that comes then */
	int64_t moving_ns;		/* what that phase takes */
	unsigned searches;		/* how often the file was not where it should be */
	bool ripe;			/* JOB_MOVING, and its time is over: the thread of its drive moves the data */
	struct fault_verdict moved;	/* of the bytes */
};

struct file {
	/* archive.lock guards all of it */
	uint64_t id;
	struct file *hash_next;
	unsigned refs;			/* pointers without the lock */
	char *path;
	enum archive_state base;	/* without LOST, DAMAGED, UNAVAILABLE: archive_shown_locked() adds these */
	bool offline;			/* its data is on tape only: RELEASED, PARTIAL, RECALLING, FAILED_RECALL */
	uint64_t stub_bytes;		/* of an offline file: this much of it is on disk all the same */
	int64_t since_ns;
	uint64_t size_bytes;		/* of the data on tape, or as the last writer left it */
	uint64_t disk_bytes;		/* what it counts for in online_bytes: a writer's file as it grows */
	int64_t mtime_ns;		/* likewise: taking blocks away or bringing them back must not show */
	int64_t ctime_ns;		/* as its users left it, what stat shows: tar takes a change for one of the data. 0: not known */
	enum archive_copy_state copy[ARCHIVE_COPIES];
	char tape_name[ARCHIVE_TAPE_NAME_BYTES];	/* in the tape directory */
	unsigned volume;		/* 0: none */
	bool flag_final, flag_replica;
	bool unavailable;
	int64_t pin_until_ns;
	unsigned evict_counter;
	int error;
	char error_text[96];
	char request_id[64];
	int64_t request_ns, archived_ns, recalled_ns;
	unsigned recalls;
	bool has_checksum;
	uint32_t adler32;
	unsigned char sha256[32];

	/* not kept over a restart */
	unsigned nwriters, nreaders;	/* open handles */
	unsigned closing;		/* of the writers: closed, and the kernel has not let go of them yet */
	int64_t closing_real_ns;
	unsigned uses;			/* operations that are reading or opening it now */
	bool busy;			/* the robot moves its data: wait */
	bool dirty;			/* a writer that is gone changed it */
	bool gone;			/* no name leads to it any more; offline and open, its tape copy is there until the last close */
	unsigned version;		/* counts changes of the data: a copy of an older one is worth nothing */
	uint64_t event;			/* serial of its next timed step (release, eviction, start) */
	struct job *job;
	struct { enum fault_flag what; int64_t delay_ns; } flagging[2];	/* of this job: final, replica */
	int64_t patience_ns;		/* of block-errno, for this recall: then the errno. 0: nobody waits */
	bool evict_early;		/* a fault, or the cache is full: the next release does not mind a pin */
	int64_t evict_tried_ns;		/* and could not be released then */
	int64_t pin_wanted_ns;		/* pinned for so long when the recall is done */
};

enum due_type { DUE_JOB, DUE_FILE_ARCHIVE, DUE_FILE_RELEASE, DUE_CALL, DUE_LOOK, DUE_FLAG, DUE_REPLICA };

struct due {
	int64_t due_ns;
	uint64_t order;
	enum due_type type;
	uint64_t serial;		/* of what it is for: job, file.event, call */
	uint64_t file;
};

struct drive {
	bool up;
	struct job *job;
	unsigned volume;		/* 0: empty */
	uint64_t jobs, bytes;
	struct archive *archive;	/* the mover's way to it; constant once that runs */
	pthread_t mover;
	bool mover_running;
	bool moving;			/* the mover has a job, which may have left the drive by now */
};

struct counters {
	uint64_t archived, recalled, released, failed_archive, failed_recall, evicted, waited, interrupted, bytes_archived, bytes_recalled,
		 transitions;
};

struct archive {
	struct wormfs *fs;
	char *store, *replica, *tape;	/* constant: absolute paths; the data of the store is store/data */
	int replica_fd, tape_fd;	/* constant */
	const char *xattr;		/* constant: of our record on the lower files */
	struct faults *faults;
	struct journal_ring *journal;

	pthread_mutex_t lock;
	pthread_cond_t changed;		/* a file's state, uses, closing; a clock; the end. CLOCK_MONOTONIC */
	pthread_cond_t work;		/* for the robot */
	pthread_cond_t moves;		/* for the movers of the drives */
	bool stopping;
	bool robot_running;
	pthread_t robot;

	struct settings set, set_at_start;

	/* clock.c */
	enum archive_clock_mode clock_mode;
	double rate;
	const char *clock_at_start;	/* constant: as archive_clock_set() takes it */
	int64_t base_ns, base_real_ns;	/* archive time at that CLOCK_MONOTONIC; MANUAL: base_ns is now */
	int64_t goal_ns;		/* MANUAL: as far as time may go */
	int64_t cursor_ns;		/* the moment that the robot works at */
	bool robot_idle;		/* nothing is due */
	unsigned advancing;		/* callers that move the clock and wait for what is due */
	uint64_t handled;		/* events, ever */
	struct due *heap;
	size_t nheap, heap_room;
	uint64_t next_serial;

	struct file *hash[ARCHIVE_HASH];
	size_t nfiles;

	struct job *queue_head[2], **queue_tail[2];	/* [JOB_ARCHIVE], [JOB_RECALL] */
	unsigned nqueued[2];
	struct drive drives[ARCHIVE_DRIVES_MAX];
	bool library_up;
	uint64_t written;		/* files that went to tape, for the number of the volume */
	uint64_t online_bytes, tape_bytes;
	struct counters count;

	/* call.c */
	struct call *waiting, *ready_head, **ready_tail;
	unsigned nwaiting;
	pthread_cond_t ready;
	pthread_t answerers[2];
	unsigned nanswerers;

	/* pages of offline files to drop, in a thread of its own: the kernel may let it wait */
	pthread_t dropper;
	bool dropper_running;
	pthread_cond_t drop;
	uint64_t *drops;
	size_t ndrops, drops_room;
	uint64_t drops_asked, drops_done;
	bool dispatch_wanted;
	bool look_planned;		/* an DUE_LOOK is on its way */
};

/* ---- archive.c ---- */

int archive_open(struct wormfs *fs, const struct settings *set, const char *clock, const char *store, const char *replica,
		 struct archive **ret);
int archive_start(struct archive *a);	/* its threads */
void archive_stop(struct archive *a);	/* and all callers are answered */
void archive_close(struct archive *a);	/* NULL is fine */

/* ---- file.c: the table and the record on the lower file ---- */

struct file *file_find_locked(struct archive *a, uint64_t id);
struct file *file_make_locked(struct archive *a, uint64_t id, const char *path);	/* NULL: no memory */
/* Out of the table; freed with its last reference. */
void file_drop_locked(struct archive *a, struct file *f);
void file_ref_locked(struct file *f);
void file_unref_locked(struct archive *a, struct file *f);
/* The lower file by its path, if it still is this one. -ESTALE. */
int file_open_locked(struct archive *a, const struct file *f, int flags);
/* Its user set attributes of it, which the lower file has now: stat shows its ctime, and its time comes back with a recall. Who moves it waits
 * for the call that did it (file_wait_for_uses_locked). */
void file_touched_locked(struct archive *a, struct file *f, const struct stat *st);
/* Writes the record; an error is logged. Not while it has a writer (its lock would count that as a change). */
void file_save_locked(struct archive *a, struct file *f);
/* All files of the store, at the start. */
int file_scan(struct archive *a);
void file_free_all(struct archive *a);
int file_compare_path(const char *path, const char *prefix);	/* 0: is it, or lies below it */

enum archive_state archive_shown_locked(const struct archive *a, const struct file *f);
/* It takes so much of the disk cache now. */
void file_charge_locked(struct archive *a, struct file *f, uint64_t disk_bytes);
/* Its data has this size now. */
void file_resize_locked(struct archive *a, struct file *f, uint64_t size_bytes);
/* base and offline, since, journal, waiters, record. */
void file_set_state_locked(struct archive *a, struct file *f, enum archive_state base);
void file_fail_locked(struct archive *a, struct file *f, enum archive_state base, int error, const char *what);
bool file_is_pinned_locked(struct archive *a, const struct file *f);
bool file_is_worm(struct archive *a, int fd);
/* Waits a moment for writers whose close(2) has returned. */
void file_settle_locked(struct archive *a, struct file *f);
void file_flag_locked(struct archive *a, struct file *f, int copy, bool on);

/* ---- tape.c: moving data. Without the lock, file busy ---- */

struct tape_result {
	uint64_t size_bytes;
	int64_t mtime_ns;
	uint32_t adler32;
	unsigned char sha256[32];
};
/* The lower file, for the archive itself, whatever its mode says. */
int tape_open(struct archive *a, const char *path, int flags);
/* Copies the lower file at `path` to `name` in the tape directory; the result is of what was read. */
int tape_write(struct archive *a, uint64_t id, const char *path, const char *name, const struct fault_verdict *v, struct tape_result *ret);
int tape_verify(struct archive *a, const char *name, const struct tape_result *want);
/* The second copy, from the lower file, or from tape where `name` is given; in a temporary place that only this file has. */
int tape_replicate(struct archive *a, uint64_t id, const char *path, const char *name, bool flagged, const struct fault_verdict *v);
/* That one under its name: with the lock, which the name may change under; or (path NULL) away with it. */
int replica_place(struct archive *a, uint64_t id, const char *path);
/* What a process that was killed left in temporary places. */
void replica_tidy(struct archive *a);
/* Brings it back, with the size and time it had; path NULL: no name leads to it, and somebody has it open. Takes and gives the inode's lock. */
int tape_read(struct archive *a, uint64_t id, const char *path, const char *name, int64_t mtime_ns, const struct fault_verdict *v);
/* Gives the blocks after `keep_bytes` back. Likewise. -EBUSY: it is not yet what its lock says, or somebody has it open for writing. */
int tape_punch(struct archive *a, uint64_t id, const char *path, uint64_t keep_bytes, int64_t mtime_ns, const unsigned char *sha256);
/* The same on a descriptor, without any lock. */
int tape_punch_fd(int fd, uint64_t keep_bytes, int64_t mtime_ns);
int tape_spoil(int dir_fd, const char *path, const struct fault_corrupt *corrupt);
/* The replica becomes the tape file. */
int tape_from_replica(struct archive *a, const char *path, const char *name);
void tape_remove(struct archive *a, const char *name);
void replica_remove(struct archive *a, const char *path);
int replica_rename(struct archive *a, const char *from, const char *to, bool exchange);
int replica_chmod(struct archive *a, const char *path, bool flagged);

/* ---- clock.c ---- */

int64_t clock_now_locked(struct archive *a);
uint64_t clock_add_locked(struct archive *a, int64_t due_ns, enum due_type type, uint64_t serial, uint64_t file);
void clock_init(struct archive *a);
int clock_parse(const char *text, enum archive_clock_mode *ret_mode, double *ret_rate);
/* Waits until something is due and takes it; false: there is other work, or the end. */
bool clock_next_locked(struct archive *a, struct due *ret);
/* Somebody moves the clock: one event after the other then, whoever does it. */
bool clock_is_steered_locked(const struct archive *a);
int64_t real_now_ns(void);	/* CLOCK_MONOTONIC */
int64_t clock_after(int64_t now_ns, int64_t delay_ns);	/* sum that does not overflow */
uint64_t serial_locked(struct archive *a);
/* Somebody hangs on a rule, which may end by its time. */
void clock_look_later_locked(struct archive *a);

/* ---- robot.c ---- */

int robot_start(struct archive *a);
void robot_stop(struct archive *a);
/* A drive's thread moves data, or is about to. */
bool robot_is_moving_locked(const struct archive *a);
/* A handle was made; of a writer: what was under way for the file is no use any more. `truncated`: nothing is left of its old data. */
void robot_opened_locked(struct archive *a, struct file *f, bool writer, bool truncated);
/* A handle is gone. */
void robot_released_locked(struct archive *a, struct file *f, bool writer, bool changed);
/* Somebody who has no handle changed its data (truncate by path). */
void robot_modified_locked(struct archive *a, struct file *f);
/* No name leads to it any more. */
void robot_gone_locked(struct archive *a, struct file *f);
/* It is on disk, and nobody writes: what is to be done with it. */
void robot_closed_locked(struct archive *a, struct file *f);
int robot_archive_locked(struct archive *a, struct file *f);
int robot_recall_locked(struct archive *a, struct file *f, int64_t pin_ns, const char *request_id);
/* Off the queue or the drive. */
void robot_cancel_locked(struct archive *a, struct file *f);
int robot_release_locked(struct archive *a, struct file *f, bool force);
/* Waits until nobody moves its data, then keeps everybody away from it. The other ends that. */
void file_seize_locked(struct archive *a, struct file *f);
void file_unseize_locked(struct archive *a, struct file *f);
/* Seized: whoever reads it now, or changes its attributes, is done; false: not within 10 s. */
bool file_wait_for_uses_locked(struct archive *a, struct file *f);
void robot_plan_release_locked(struct archive *a, struct file *f);
/* Room in the disk cache for so many bytes more. -EAGAIN: not yet, files that can go are on their way; -ENOSPC: there are none. */
int robot_room_locked(struct archive *a, uint64_t more_bytes);
/* Pages of it are to be dropped; waits a moment for it. */
void robot_drop_pages_locked(struct archive *a, uint64_t id);
void robot_dispatch_locked(struct archive *a);
void robot_look_again_locked(struct archive *a);	/* faults changed */
int robot_drive_set_locked(struct archive *a, int number, bool up);
const char *volume_name(unsigned volume, char ret[16]);

/* ---- call.c, as far as the robot needs it ---- */

int call_start(struct archive *a);
void call_stop(struct archive *a);
/* Who waits for this file goes on: with 0 looks again, else with the error. */
void call_wake_file_locked(struct archive *a, uint64_t id, int error);
/* There may be room in the disk cache: who waits for it looks again. */
void call_wake_room_locked(struct archive *a);
void call_due_locked(struct archive *a, uint64_t serial);
void call_look_again_locked(struct archive *a);

/* ---- remove.c ---- */

int remove_all(struct archive *a);	/* every file of the mount; the first error, but all that goes goes */

/* ---- history.c ---- */

int history_open(struct journal_ring **ret);
void history_close(struct journal_ring *ring);
void history_reset(struct journal_ring *ring);
void history_stop(struct journal_ring *ring);
void history_add(struct archive *a, const struct archive_event *event);
void history_note(struct archive *a, enum archive_event_kind kind, uint64_t id, const char *path, int error, const char *format, ...)
	__attribute__((format(printf, 6, 7)));

#endif
