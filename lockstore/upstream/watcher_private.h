/* The parts of a watcher: the loop and the stream (watcher.c), one file's way (watcher_file.c), the walk (watcher_walk.c). */
#ifndef WORMFS_UPSTREAM_WATCHER_PRIVATE_H
#define WORMFS_UPSTREAM_WATCHER_PRIVATE_H

#include "lockstore/staging.h"
#include "lockstore/upstream/notify_stream.h"
#include "lockstore/upstream/settling.h"
#include "lockstore/upstream/walk.h"
#include "lockstore/upstream/watcher.h"

#define WATCHER_ONCE_TRIES 5	/* with `once`, of a file, or of the walk */
#define WATCHER_REGULAR_FILE "FS_FILE_TYPE_FILE"
#define WATCHER_REASON_BYTES (UPSTREAM_TEXT_BYTES + UPSTREAM_CLASS_BYTES + 40)

struct watcher_job;

struct watcher {
	const struct watcher_config *config;
	struct settling *files;
	struct staging *staging;
	struct watcher_job *jobs, *idle;
	unsigned busy;
	struct watcher_totals totals;
	/* the stream */
	struct notify_stream *stream;
	bool stream_up, was_up;
	int64_t connect_ms, up_since_ms;
	unsigned connect_tries;
	/* the walk */
	struct walk *walk;
	struct qumulo_call page;
	bool page_busy, scan_wanted;
	int64_t page_ms, scan_ms;	/* not before; the next by itself */
	unsigned page_tries;
	uint64_t walked;
	/* all of them wait while the cluster as a whole takes nothing */
	int64_t paused_ms;
	unsigned pauses;
	bool told_overflow;
	int end;			/* < 0: it is over */
	char *why;			/* WATCHER_WHY_BYTES */
	unsigned seed;
};

int64_t watcher_now_ms(void);
/* Doubled with every try, from half of it to all of it, so that not everybody comes at once. */
int64_t watcher_backoff_ms(struct watcher *w, unsigned tries, int64_t max_ms);
void watcher_tell(struct watcher *w, struct watcher_news news);
/* Nothing more can be locked. The first reason is the one. */
void watcher_end(struct watcher *w, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What a person is told of a reply. */
const char *watcher_reason(const struct upstream_reply *reply, char text[WATCHER_REASON_BYTES]);
/* More files than the table holds, or more directories than the walk does. */
void watcher_overflow(struct watcher *w);

/* watcher_file.c. -ENOMEM. */
int watcher_jobs_open(struct watcher *w);
void watcher_jobs_close(struct watcher *w);
/* A file came or changed: it is due when it has been still for a while from now on. */
void watcher_file_came(struct watcher *w, const char *path);
/* It was met: it is due now, unless it waits already. */
void watcher_file_met(struct watcher *w, const char *path);
/* Starts what is due, as far as jobs are idle. */
void watcher_start_jobs(struct watcher *w);

/* watcher_walk.c: begins a walk if one is wanted and asks for its next page if there is room for it. */
void watcher_walk(struct watcher *w);

#endif
