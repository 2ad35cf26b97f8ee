/* What this daemon tells the event stream (lockstore/events/): each request that changed something or failed, before its
 * reply, and whatever the audit log is told. Without -o events each hook is one test of a pointer. None of them fails;
 * none waits, but with events=strict; each may be called with an inode's lock held, and takes names_lock. */
#ifndef WORMFS_EVENTS_H
#define WORMFS_EVENTS_H

#include <jansson.h>

#include "fs/guard.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/shortage.h"
#include "fs/wormfs.h"
#include "lockstore/audit_line.h"
#include "lockstore/events/event.h"

/* Opens ring and sinks; does nothing when they were not asked for. -errno after one line on stderr. */
int events_open(struct wormfs *fs);
/* Sinks get what is left. Twice is fine. */
void events_close(struct wormfs *fs);
/* What was told before is in the ring, unless that takes longer. */
void events_sync(struct wormfs *fs, unsigned timeout_ms);
/* "off", or how it goes: for user.worm.mount. */
json_t *events_json(struct wormfs *fs);
/* Lines of text: a ring that cannot be written, events that were dropped, consumers that are away. */
void events_add_problems(struct wormfs *fs, json_t *list);

/* One request. What is not known is 0 or NULL. */
struct event_note {
	enum event_type type;
	int result;			/* 0, or the -errno that is answered */
	unsigned flags;			/* EVENT_* */
	struct inode *ino;
	struct inode *dir;		/* with name: where it happened; else the inode's own name is looked up */
	const char *name;
	struct inode *to_dir;		/* likewise: rename */
	const char *to_name;
	struct inode *target;		/* link: its own name is the other one */
	const char *text;		/* symlink: what it says */
	const char *detail;
	const struct stat *st;		/* after it */
	bool gone;			/* st is from before the name was taken away */
	bool has_open_flags;
	int open_flags;
	const struct handle *handle;	/* release: who had opened it */
};

struct quota_notice;
/* Its texts are the notice's. */
void events_of_quota(const struct quota_notice *notice, struct event *ret);
void events_quota(struct wormfs *fs, const struct quota_notice *notice);
/* What a tier did to a file; "" or NULL: does not apply. Of no request: nobody asked for it. */
struct event_archive {
	enum event_type type;
	const char *path;		/* from the share's root */
	const char *before, *after;	/* its states */
	const char *fault, *detail;
	int result;
};

void events_archive_always(struct wormfs *fs, const struct event_archive *archive);
void events_note_always(struct wormfs *fs, const struct event_note *note);
void events_trail_always(struct wormfs *fs, struct inode *ino, enum audit_event event, int result, const char *detail);
void events_refused_always(struct wormfs *fs, struct inode *ino, enum guard_op op, const char *why, int result);
void events_saw_always(uint64_t size);
void events_saw_until_always(int64_t until_s);
void events_sets_until_always(int64_t until_s);
void events_asked_always(enum event_type type);
unsigned events_state_always(struct wormfs *fs, struct inode *ino);
void events_saw_state_always(unsigned state);

static inline bool events_on(const struct wormfs *fs)
{
	return __builtin_expect(fs->events != NULL, 0);
}

/* The one place that knows how each request ended: also what runs out of room is seen here, with and without -o events.
 * Nothing is put together for what nobody is told of; so the arguments, which may be looked at twice, do nothing. */
#define events_note(fs, ...) do {								\
	if (events_on(fs) || is_shortage(((const struct event_note){ __VA_ARGS__ }).result)) {	\
		const struct event_note note_ = { __VA_ARGS__ };				\
												\
		if (events_on(fs))								\
			events_note_always(fs, &note_);						\
		if (is_shortage(note_.result))							\
			shortage_note(fs, &note_);						\
	}											\
} while (0)

/* An entry of the audit log, whether or not the log takes it. The _locked rules of trail.h. */
static inline void events_trail(struct wormfs *fs, struct inode *ino, enum audit_event event, int result, const char *detail)
{
	if (events_on(fs))
		events_trail_always(fs, ino, event, result, detail);
}

/* By the guard: then the failure of the same request is not told again. */
static inline void events_refused(struct wormfs *fs, struct inode *ino, enum guard_op op, const char *why, int result)
{
	if (events_on(fs))
		events_refused_always(fs, ino, op, why, result);
}

/* What the event that this thread tells next began with: size of the file, end of its retention. */
static inline void events_saw_size(struct wormfs *fs, uint64_t size)
{
	if (events_on(fs))
		events_saw_always(size);
}

static inline void events_saw_until(struct wormfs *fs, int64_t until_s)
{
	if (events_on(fs))
		events_saw_until_always(until_s);
}

/* Of an event that is told before it is done: what it makes of the end. */
static inline void events_sets_until(struct wormfs *fs, int64_t until_s)
{
	if (events_on(fs))
		events_sets_until_always(until_s);
}

/* What this request changes of an attribute: to the guard it is all the same. */
static inline void events_asked(struct wormfs *fs, enum event_type type)
{
	if (events_on(fs))
		events_asked_always(type);
}

/* Of its lock, for events_saw_state(); nothing without events. */
static inline unsigned events_state_locked(struct wormfs *fs, struct inode *ino)
{
	return events_on(fs) ? events_state_always(fs, ino) : 0;
}

/* Likewise: the state that another takes the place of. */
static inline void events_saw_state(struct wormfs *fs, unsigned state)
{
	if (events_on(fs))
		events_saw_state_always(state);
}

#endif
