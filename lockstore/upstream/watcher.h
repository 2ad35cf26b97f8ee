/* Locks files that reach a cluster by another door than wormfs: hears of them by the cluster's change notifications, waits until
 * each has not changed for a while, locks it, and believes nothing but the lock that the cluster shows. What a lost stream did
 * not tell is found by a walk through the tree: at the start, after every reconnection, when a table was full, and now and then.
 *
 * One thread (and one more that reads the stream). Every table has a bound; what does not fit is found by the next walk. */
#ifndef WORMFS_UPSTREAM_WATCHER_H
#define WORMFS_UPSTREAM_WATCHER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/retention.h"
#include "lockstore/upstream/qumulo.h"

#define WATCHER_JOBS 32			/* files asked about or locked at a time */
#define WATCHER_SETTLE_S 15
#define WATCHER_RESCAN_S 3600
#define WATCHER_STAGING_S 86400		/* how long a name that programs write under has to be still */
#define WATCHER_RETRY_FIRST_MS 1000	/* of a file or a stream that failed; doubled, with jitter, up to: */
#define WATCHER_RETRY_MAX_MS 300000
#define WATCHER_RECONNECT_MAX_MS 60000

enum watcher_event {
	WATCHER_LOCKED,		/* file, until, hold: shown by the cluster */
	WATCHER_WOULD_LOCK,	/* likewise, with dry_run */
	WATCHER_FAILED,		/* file, why: it is tried again, but with `once` */
	WATCHER_UP,		/* the stream is there; nothing is missed from here on */
	WATCHER_DOWN,		/* why: it is not; begun again later */
	WATCHER_TROUBLE,	/* why: the cluster as a whole does not take locks now */
	WATCHER_SCANNED,	/* a walk is over; files: that it met */
	WATCHER_UNREADABLE,	/* file (a directory), why: passed over */
	WATCHER_OVERFLOW,	/* more files at a time than the table holds: the next walk finds them */
};

struct watcher_news {
	enum watcher_event event;
	const char *path;	/* from the watched directory on; NULL: none */
	const char *why;	/* one printable line; NULL: none */
	const struct upstream_lock *lock;
	uint64_t files;
	unsigned retry_s;	/* 0: not again by itself */
};

struct watcher_config {
	struct qumulo *qumulo;		/* outlives the watcher, and is used by nobody else */
	struct endpoint endpoint;
	const char *directory;		/* absolute, on the cluster */
	bool recursive;
	bool has_retention;
	struct retention retention;	/* a PERIOD, from when the file is locked; or a DATE */
	bool hold;
	unsigned settle_s, rescan_s;	/* rescan_s 0: only after reconnections */
	unsigned jobs;			/* 0: WATCHER_JOBS */
	size_t files_max;		/* 0: SETTLING_FILES_MAX */
	int64_t since_s;		/* what has not changed since then is left alone; INT64_MIN: nothing is */
	bool once;			/* a walk, all locks, the end */
	bool dry_run;
	const atomic_bool *stop;	/* read now and then; qumulo_wake() after setting it makes that at once */
	void (*news)(void *arg, const struct watcher_news *news);
	void *arg;
};

struct watcher_totals {
	uint64_t locked, locked_before, left_alone;
	uint64_t failures;	/* of tries */
	uint64_t unreadable;	/* directories that were passed over */
	uint64_t waiting;	/* at the end: not locked, for whatever reason */
};

/* Runs until *stop, or, with `once`, until everything is done. 0; else nothing more can be locked, and ret_why is one line:
 * -EACCES, -ENOENT, -EINVAL (of the directory, at the start), -ENOTDIR, -ETIME: the date of the retention has passed; -ENODEV: the
 * directory was removed; -ENOMEM, -EIO. */
#define WATCHER_WHY_BYTES 400
int watcher_run(const struct watcher_config *config, struct watcher_totals *ret_totals, char ret_why[WATCHER_WHY_BYTES]);

#endif
