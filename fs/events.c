/* Makes an event of what a handler knows: names from the inodes' own, no system call but for the name of a command that
 * was not seen within the last second (actor.c). */
#include "fs/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/actor.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/quota_notice.h"
#include "fs/session.h"
#include "fs/state.h"
#include "lockstore/events/cloudevent.h"
#include "lockstore/events/event_stream.h"
#include "lockstore/upstream/credentials.h"

struct events {
	struct event_stream *stream;
	uint64_t dropped_before;	/* by daemons before this one */
	char *credentials, *ca_file;	/* absolute, or NULL */
	char source[CLOUDEVENT_SOURCE_MAX];
	bool wanted[EVENT_TYPES];
};

static const uint8_t of_state[] = {
	[GUARD_OPEN] = EVENT_STATE_OPEN, [GUARD_CLOSING] = EVENT_STATE_CLOSING, [GUARD_SETTLING] = EVENT_STATE_SETTLING,
	[GUARD_RETAINED] = EVENT_STATE_RETAINED, [GUARD_EXPIRED] = EVENT_STATE_EXPIRED, [GUARD_APPENDABLE] = EVENT_STATE_APPENDABLE,
	[GUARD_UNREADABLE] = EVENT_STATE_UNREADABLE, [GUARD_PINNED] = EVENT_STATE_PINNED, [GUARD_HELD] = EVENT_STATE_HELD,
};
_Static_assert(sizeof(of_state) == GUARD_STATES, "each state of a lock has a number in events");

/* Between parts of one request, which one thread serves. */
static _Thread_local struct {
	bool has_size, has_until, has_next_until;
	uint64_t size;
	int64_t until_s, next_until_s;
	uint8_t state;		/* EVENT_STATE_UNKNOWN: not seen */
	unsigned request;	/* actor_request() of the refusal that was told last */
	enum guard_op op;
	unsigned asked_request;
	enum event_type asked;
} before;

/* It was of one event, also when nobody wants that. */
static void forget_before(void)
{
	before.has_size = before.has_until = before.has_next_until = false;
	before.state = EVENT_STATE_UNKNOWN;
}

void events_saw_always(uint64_t size)
{
	before.has_size = true;
	before.size = size;
}

void events_saw_until_always(int64_t until_s)
{
	before.has_until = true;
	before.until_s = until_s;
}

void events_sets_until_always(int64_t until_s)
{
	before.has_next_until = true;
	before.next_until_s = until_s;
}

void events_asked_always(enum event_type type)
{
	before.asked_request = actor_request();
	before.asked = type;
}

unsigned events_state_always(struct wormfs *fs, struct inode *ino)
{
	return of_state[lock_state_locked(fs, ino)];
}

void events_saw_state_always(unsigned state)
{
	before.state = state;
}

static bool wants(struct wormfs *fs, enum event_type type)
{
	return fs->events->wanted[type];
}

/* ---- parts ---- */

static struct event_node node_of(const struct inode *ino)
{
	if (ino->nodeid == 1)
		return (struct event_node){ .ino = 1 };
	return (struct event_node){ .ino = ino->ino, .generation = inode_generation(ino), .dev = ino->dev_index };
}

/* `buf` has EVENT_PATH_MAX bytes. False: the path is not known, or too long. */
static bool put_path(struct wormfs *fs, struct inode *ino, const char *name, char *buf, struct event_text *ret, struct event *ev)
{
	size_t len = name ? strlen(name) : 0, space = EVENT_PATH_MAX - (name ? len + 1 : 0);
	struct inode_place place;
	int r;

	if (len >= EVENT_PATH_MAX)
		return false;
	r = inode_place(fs, ino, buf, space, &place);
	if (r < 0) {
		ev->flags |= r == -ENAMETOOLONG ? EVENT_CUT : 0;
		return false;
	}
	if (name) {	/* behind it: the path ends where the space does */
		char *end = buf + space;

		if (place.len > 0)
			*end++ = '/';
		memcpy(end, name, len);
		place.len = end + len - place.path;
	} else if (place.has_parent && !(ev->has & EVENT_HAS_PARENT) && ret == &ev->path) {
		ev->parent = place.parent_root ? (struct event_node){ .ino = 1 } :
			     (struct event_node){ .ino = place.parent_ino, .generation = place.parent_generation, .dev = place.parent_dev };
		ev->has |= EVENT_HAS_PARENT;
	}
	*ret = event_text(place.path, place.len);
	return true;
}

static void put_text(struct event *ev, uint32_t bit, struct event_text *ret, const char *text, size_t max)
{
	size_t len = text ? strnlen(text, max) : 0;

	if (len == 0)
		return;
	*ret = event_text(text, len);
	ev->has |= bit;
}

static void put_actor(struct event *ev, char comm[ACTOR_COMM_BYTES])
{
	struct actor actor = actor_get();

	ev->actor = (struct event_actor){ .uid = actor.uid, .gid = actor.gid, .pid = actor.pid };
	ev->has |= EVENT_HAS_ACTOR;
	actor_comm(comm);
	put_text(ev, EVENT_HAS_COMM, &ev->comm, comm, ACTOR_COMM_BYTES);
}

static void put_result(struct event *ev, int result)
{
	if (result == 0)
		return;
	ev->error = -result;
	ev->has |= EVENT_HAS_ERROR;
}

static void put_inode(struct event *ev, struct inode *ino)
{
	ev->node = node_of(ino);
	ev->has |= EVENT_HAS_NODE;
	if (S_ISDIR(ino->type))
		ev->flags |= EVENT_DIRECTORY;
}

static void put_before(struct event *ev)
{
	if (before.has_size) {
		ev->size_before = before.size;
		ev->has |= EVENT_HAS_SIZE_BEFORE;
	}
	if (before.has_until) {
		ev->until_before_s = before.until_s;
		ev->has |= EVENT_HAS_UNTIL_BEFORE;
	}
	forget_before();
}

static void put_stat(struct event *ev, const struct stat *st, bool gone)
{
	ev->nlink = st->st_nlink - (gone && st->st_nlink > 0 && !S_ISDIR(st->st_mode));
	if (gone && S_ISDIR(st->st_mode))
		ev->nlink = 0;
	ev->mode = st->st_mode;
	ev->size = st->st_size;
	ev->mtime_ns = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec;
	ev->owner.uid = st->st_uid;
	ev->owner.gid = st->st_gid;
	ev->has |= EVENT_HAS_NLINK | EVENT_HAS_MODE | EVENT_HAS_SIZE | EVENT_HAS_MTIME | EVENT_HAS_OWNER;
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1)
		ev->flags |= EVENT_HARD_LINKS;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* ---- requests ---- */

static bool was_told(int result)
{
	return result < 0 && before.request != 0 && before.request == actor_request();
}

void events_note_always(struct wormfs *fs, const struct event_note *note)
{
	struct event ev = { .type = note->type, .flags = note->flags, .time_ns = now_ns() };
	char path[EVENT_PATH_MAX], target[EVENT_PATH_MAX], comm[ACTOR_COMM_BYTES];
	struct stat now;

	if (!wants(fs, note->type) || was_told(note->result)) {
		forget_before();
		return;
	}
	if (note->ino)
		put_inode(&ev, note->ino);
	if (note->dir) {
		ev.parent = node_of(note->dir);
		ev.has |= EVENT_HAS_PARENT;
	}
	if ((note->dir || note->ino) && put_path(fs, note->dir ? note->dir : note->ino, note->dir ? note->name : NULL, path, &ev.path, &ev))
		ev.has |= EVENT_HAS_PATH;
	if (note->to_dir) {
		ev.target_parent = node_of(note->to_dir);
		ev.has |= EVENT_HAS_TARGET_PARENT;
	}
	if ((note->to_dir || note->target) &&
	    put_path(fs, note->to_dir ? note->to_dir : note->target, note->to_dir ? note->to_name : NULL, target, &ev.target, &ev))
		ev.has |= EVENT_HAS_TARGET;
	put_text(&ev, EVENT_HAS_TARGET, &ev.target, note->text, EVENT_PATH_MAX);
	put_text(&ev, EVENT_HAS_DETAIL, &ev.detail, note->detail, EVENT_DETAIL_MAX);
	if (note->st)
		put_stat(&ev, note->st, note->gone);
	else if (note->result == 0 && note->ino && event_is_of_all_names(note->type) && inode_stat_now(fs, note->ino, &now) == 0)
		put_stat(&ev, &now, false);
	if (note->has_open_flags) {
		ev.open_flags = note->open_flags;
		ev.has |= EVENT_HAS_OPEN_FLAGS;
	}
	if (note->handle) {	/* nobody asks for a release: it is of who opened it, and that process may be gone */
		ev.actor = (struct event_actor){ .uid = note->handle->uid, .gid = note->handle->gid, .pid = note->handle->pid };
		ev.has |= EVENT_HAS_ACTOR;
	} else {
		put_actor(&ev, comm);
	}
	put_before(&ev);
	put_result(&ev, note->result);
	event_stream_put(fs->events->stream, &ev);
}

void events_of_quota(const struct quota_notice *notice, struct event *ret)
{
	struct event ev = { .type = EVENT_QUOTA, .time_ns = now_ns(), .has = EVENT_HAS_ACTOR | EVENT_HAS_QUOTA, .quota = notice->quota };
	size_t len = notice->path ? strlen(notice->path) : 0;

	ev.actor = (struct event_actor){ .uid = notice->actor.uid, .gid = notice->actor.gid, .pid = notice->actor.pid };
	put_text(&ev, EVENT_HAS_COMM, &ev.comm, notice->comm, ACTOR_COMM_BYTES);
	if (notice->path && len <= EVENT_PATH_MAX) {
		ev.path = event_text(notice->path, len);
		ev.has |= EVENT_HAS_PATH;
	} else if (notice->path) {
		ev.flags |= EVENT_CUT;
	}
	put_result(&ev, -notice->error);
	put_text(&ev, EVENT_HAS_DETAIL, &ev.detail, notice->detail, QUOTA_DETAIL_BYTES);
	*ret = ev;
}

void events_quota(struct wormfs *fs, const struct quota_notice *notice)
{
	struct event ev;

	if (!events_on(fs) || !wants(fs, EVENT_QUOTA))
		return;
	events_of_quota(notice, &ev);
	event_stream_put(fs->events->stream, &ev);
}

void events_archive_always(struct wormfs *fs, const struct event_archive *archive)
{
	struct event ev = { .type = archive->type, .time_ns = now_ns() };

	if (!wants(fs, archive->type))
		return;
	if (archive->path && strlen(archive->path) >= EVENT_PATH_MAX)
		ev.flags |= EVENT_CUT;
	else
		put_text(&ev, EVENT_HAS_PATH, &ev.path, archive->path, EVENT_PATH_MAX);
	put_text(&ev, EVENT_HAS_ARCHIVE_BEFORE, &ev.archive_before, archive->before, EVENT_ARCHIVE_MAX);
	put_text(&ev, EVENT_HAS_ARCHIVE, &ev.archive, archive->after, EVENT_ARCHIVE_MAX);
	put_text(&ev, EVENT_HAS_FAULT, &ev.fault, archive->fault, EVENT_FAULT_MAX);
	put_text(&ev, EVENT_HAS_DETAIL, &ev.detail, archive->detail, EVENT_DETAIL_MAX);
	put_result(&ev, archive->result);
	event_stream_put(fs->events->stream, &ev);
}

/* ---- locks and refusals ---- */

static const enum event_type of_operation[GUARD_OPS] = {
	[GUARD_OPEN_READ] = EVENT_OPEN_READ, [GUARD_OPEN_WRITE] = EVENT_OPEN_WRITE, [GUARD_OPEN_APPEND] = EVENT_OPEN_WRITE,
	[GUARD_WRITE] = EVENT_WRITE, [GUARD_APPEND] = EVENT_WRITE, [GUARD_COPY_TO] = EVENT_WRITE,
	[GUARD_TRUNCATE] = EVENT_TRUNCATE, [GUARD_FTRUNCATE] = EVENT_TRUNCATE, [GUARD_FALLOCATE] = EVENT_ALLOCATE,
	[GUARD_UNLINK] = EVENT_UNLINK, [GUARD_RENAME] = EVENT_RENAME, [GUARD_REPLACE] = EVENT_RENAME, [GUARD_RENAME_DIR] = EVENT_RENAME,
	[GUARD_LINK] = EVENT_HARDLINK, [GUARD_CHMOD_READONLY] = EVENT_SETATTR, [GUARD_CHMOD_WRITABLE] = EVENT_SETATTR,
	[GUARD_CHMOD] = EVENT_SETATTR, [GUARD_CHOWN] = EVENT_SETATTR, [GUARD_UTIMENS] = EVENT_SETATTR, [GUARD_SETFLAGS] = EVENT_SETATTR,
	[GUARD_SETXATTR] = EVENT_XATTR_SET, [GUARD_COMMIT] = EVENT_COMMITTED, [GUARD_EXTEND] = EVENT_RETENTION_EXTENDED,
	[GUARD_HOLD] = EVENT_HOLD_PLACED, [GUARD_RELEASE] = EVENT_HOLD_RELEASED, [GUARD_APPEND_ONLY] = EVENT_APPEND_ONLY,
};

/* What is not there has its own name in the detail of an "Audit". */
static const enum event_type of_audit[AUDIT_EVENTS] = {
	[AUDIT_COMMIT] = EVENT_COMMITTED, [AUDIT_EXTEND] = EVENT_RETENTION_EXTENDED, [AUDIT_SHORTEN] = EVENT_RETENTION_SHORTENED,
	[AUDIT_HOLD_ADD] = EVENT_HOLD_PLACED, [AUDIT_HOLD_RELEASE] = EVENT_HOLD_RELEASED, [AUDIT_DELETE_EXPIRED] = EVENT_DELETED_EXPIRED,
	[AUDIT_DELETE_PRIVILEGED] = EVENT_DELETED_PRIVILEGED, [AUDIT_TAMPER] = EVENT_TAMPER, [AUDIT_MOUNT] = EVENT_MOUNT,
	[AUDIT_UNMOUNT] = EVENT_UNMOUNT, [AUDIT_POLICY_CHANGE] = EVENT_POLICY_CHANGED, [AUDIT_VERIFY] = EVENT_VERIFIED,
	[AUDIT_CLOCK_START] = EVENT_CLOCK, [AUDIT_CLOCK_SKEWED] = EVENT_CLOCK, [AUDIT_CLOCK_OK] = EVENT_CLOCK, [AUDIT_CLOCK_ACCEPT] = EVENT_CLOCK,
	[AUDIT_LEDGER_FAILING] = EVENT_LEDGER, [AUDIT_LEDGER_OK] = EVENT_LEDGER,
};

/* What is told before it is done has no state after it. */
static void put_states(struct wormfs *fs, struct event *ev, struct inode *ino)
{
	switch (ev->type) {
	case EVENT_COMMITTED:
		ev->state.before = before.state ? before.state : EVENT_STATE_OPEN;
		ev->state.after = ino->rec->flags & RECORD_APPEND ? EVENT_STATE_APPENDABLE : EVENT_STATE_RETAINED;
		break;
	case EVENT_RETENTION_EXTENDED: case EVENT_HOLD_PLACED:
		ev->state.before = before.state;
		ev->state.after = of_state[lock_state_locked(fs, ino)];
		break;
	case EVENT_RETENTION_SHORTENED: case EVENT_HOLD_RELEASED: case EVENT_DELETED_EXPIRED: case EVENT_DELETED_PRIVILEGED:
		ev->state.before = of_state[lock_state_locked(fs, ino)];
		break;
	default:
		return;
	}
	ev->has |= EVENT_HAS_STATE;
}

static void put_record(struct wormfs *fs, struct event *ev, struct inode *ino, int result)
{
	const struct lock_record *rec = ino->rec;

	if (!rec)
		return;
	ev->serial = rec->serial;
	ev->until_s = result == 0 && before.has_next_until ? before.next_until_s : rec->until_s;
	ev->has |= EVENT_HAS_SERIAL | EVENT_HAS_UNTIL;
	if (result == 0)
		put_states(fs, ev, ino);
}

static void tell_of(struct wormfs *fs, struct event *ev, struct inode *ino, int result, const char *detail)
{
	char path[EVENT_PATH_MAX], comm[ACTOR_COMM_BYTES];

	ev->time_ns = now_ns();
	if (ino) {
		put_inode(ev, ino);
		put_record(fs, ev, ino, result);
		if (put_path(fs, ino, NULL, path, &ev->path, ev))
			ev->has |= EVENT_HAS_PATH;
	}
	put_actor(ev, comm);
	put_before(ev);
	put_result(ev, result);
	put_text(ev, EVENT_HAS_DETAIL, &ev->detail, detail, EVENT_DETAIL_MAX);
	event_stream_put(fs->events->stream, ev);
}

void events_trail_always(struct wormfs *fs, struct inode *ino, enum audit_event event, int result, const char *detail)
{
	struct event ev = { .type = of_audit[event] ? of_audit[event] : EVENT_AUDIT };
	char text[EVENT_DETAIL_MAX];

	/* The request that did these is told by its handler. */
	if (result == 0 && (event == AUDIT_CREATE || event == AUDIT_ADJUST))
		return;
	if (!wants(fs, ev.type)) {
		forget_before();
		return;
	}
	/* One type for several events of the log: which says the detail. */
	if (ev.type == EVENT_AUDIT || ev.type == EVENT_CLOCK || ev.type == EVENT_LEDGER) {
		snprintf(text, sizeof(text), "%s: %s", audit_event_name(event), detail);
		detail = text;
	}
	tell_of(fs, &ev, ino, result, detail);
}

void events_refused_always(struct wormfs *fs, struct inode *ino, enum guard_op op, const char *why, int result)
{
	struct event ev = { .type = of_operation[op], .flags = EVENT_REFUSED };
	unsigned request = actor_request();
	char detail[EVENT_DETAIL_MAX];

	/* A request that waits for a writer to leave asks again and again. */
	if (request != 0 && before.request == request && before.op == op)
		return;
	before.request = request;
	before.op = op;
	if (op == GUARD_SETXATTR && request != 0 && before.asked_request == request)
		ev.type = before.asked;
	forget_before();
	if (!wants(fs, ev.type))
		return;
	for (int state = 0; state < GUARD_STATES; state++) {
		if (strcmp(why, guard_state_name(state)) != 0)
			continue;
		ev.state.before = ev.state.after = of_state[state];
		ev.has |= EVENT_HAS_STATE;
	}
	snprintf(detail, sizeof(detail), "%s: %s", guard_op_name(op), why);
	tell_of(fs, &ev, ino, result, detail);
}

/* ---- life ---- */

static bool is_ending(void *arg)
{
	return session_is_ending(arg);
}

static void say(void *arg, bool warning, const char *text)
{
	if (warning)
		log_warning("%s", text);
	else
		log_info("%s", text);
}

static void say_found(const char *path, const struct event_ring_found *found)
{
	if (found->power)
		log_warning("the ring of events '%s' was open when the machine went down: its numbers jump, as nobody knows how many are missing",
			    path);
	else if (found->damaged)
		log_warning("the ring of events '%s' is damaged: %" PRIu64 " events are missing at its end, and counted", path, found->lost);
	else if (found->lost)
		log_info("%" PRIu64 " events were noted and not written when the last daemon was killed: counted as a gap", found->lost);
	if (found->resized)
		log_info("the ring of events has another size now: older events are gone");
}

/* It would be told of what it writes, and wait for itself. */
static int check_file(struct wormfs *fs, const char *file)
{
	char *dir = strdup(file), *real;
	size_t share_len = strlen(fs->share), mount_len = strlen(fs->mountpoint);
	int r = 0;

	if (!dir)
		return -ENOMEM;
	*strrchr(dir, '/') = '\0';	/* absolute: event_sink_check() */
	real = realpath(*dir ? dir : "/", NULL);
	if (real && ((strncmp(real, fs->share, share_len) == 0 && (real[share_len] == '/' || !real[share_len])) ||
		     (strncmp(real, fs->mountpoint, mount_len) == 0 && (real[mount_len] == '/' || !real[mount_len])))) {
		complain("events cannot be written to '%s', which is in the share: name a file elsewhere", file);
		r = -EINVAL;
	}
	free(real);
	free(dir);
	return r;
}

/* What sinks that use HTTP need: looked at now, as nobody reads the log of a daemon that goes on. */
static int prepare_http(struct wormfs *fs, struct events *events)
{
	char host[HOST_NAME_MAX + 1] = "", error[CREDENTIALS_ERROR_BYTES];
	struct upstream_credentials *credentials;
	int r;

	if (fs->opt.events_credentials) {
		r = upstream_credentials_open(fs->opt.events_credentials, &credentials, error);
		if (r < 0) {
			complain("%s (events_credentials=FILE)", error);
			return r;
		}
		upstream_credentials_close(credentials);
		events->credentials = realpath(fs->opt.events_credentials, NULL);
	}
	if (fs->opt.events_ca) {
		events->ca_file = realpath(fs->opt.events_ca, NULL);
		if (!events->ca_file || access(events->ca_file, R_OK) < 0) {
			r = -errno;
			complain("events_ca=%s: %s", fs->opt.events_ca, strerror(-r));
			return r;
		}
	}
	(void)gethostname(host, sizeof(host) - 1);	/* unknown: a source without it */
	if (cloudevent_source(host, fs->share, events->source) < 0)
		strcpy(events->source, "wormfs:");
	return 0;
}

static void free_events(struct events *events)
{
	free(events->credentials);
	free(events->ca_file);
	free(events);
}

int events_open(struct wormfs *fs)
{
	struct event_stream_options options = { .ring_bytes = (uint64_t)fs->opt.events_ring_mib << 20, .strict = fs->opt.events_strict,
						.sinks = (const char *const *)fs->opt.events_sinks, .nsinks = fs->opt.events_nsinks,
						.give_up = is_ending, .say = say, .arg = fs };
	struct event_ring_found found;
	struct events *events;
	char path[PATH_MAX];
	int r;

	if (!fs->opt.events)
		return 0;
	for (unsigned i = 0; i < fs->opt.events_nsinks; i++) {
		const char *file = event_sink_file(fs->opt.events_sinks[i]);

		r = file ? check_file(fs, file) : 0;
		if (r < 0)
			return r;
	}
	events = calloc(1, sizeof(*events));
	if (!events)
		return -ENOMEM;
	r = prepare_http(fs, events);
	if (r < 0) {
		free_events(events);
		return r;
	}
	options.source = events->source;
	options.credentials = events->credentials;
	options.ca_file = events->ca_file;
	memcpy(events->wanted, fs->opt.events_types, sizeof(events->wanted));
	snprintf(path, sizeof(path), "%s/" EVENT_RING_FILE, fs->state_dir);
	options.ring_path = path;
	fs->state_made |= access(path, F_OK) < 0 ? STATE_MADE_EVENTS : 0;
	r = event_stream_open(&options, &events->stream, &found);
	if (r < 0) {
		free_events(events);
		complain("cannot open the ring of events '%s': %s; make room, or move it away, or mount without -o events", path, strerror(-r));
		return r;
	}
	say_found(path, &found);
	events->dropped_before = event_ring_dropped(event_stream_ring(events->stream));
	fs->events = events;
	return 0;
}

void events_close(struct wormfs *fs)
{
	struct events *events = fs->events;

	if (!events)
		return;
	fs->events = NULL;
	event_stream_close(events->stream);
	free_events(events);
}

void events_sync(struct wormfs *fs, unsigned timeout_ms)
{
	if (fs->events)
		(void)event_stream_sync(fs->events->stream, timeout_ms);	/* the status says when it cannot be written */
}

static json_t *consumers_json(struct event_ring *ring, uint32_t session)
{
	const struct event_consumer *all = event_ring_consumers(ring);
	json_t *list = json_array();

	for (int i = 0; i < EVENT_RING_CONSUMERS; i++) {
		int error = atomic_load(&all[i].error);

		if (!all[i].name[0] || atomic_load(&all[i].registered) || atomic_load(&all[i].session) != session)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "name", all[i].name, "seq",
			(json_int_t)atomic_load(&all[i].seq), "sent", (json_int_t)atomic_load(&all[i].sent), "dropped",
			(json_int_t)atomic_load(&all[i].dropped), "missed", (json_int_t)atomic_load(&all[i].missed), "error",
			error ? json_string(strerrorname_np(error)) : json_null()));
	}
	return list;
}

json_t *events_json(struct wormfs *fs)
{
	struct event_ring_stats stats;
	struct event_ring *ring;
	int error;

	if (!fs->events)
		return json_pack("{s:s}", "state", "off");
	ring = event_stream_ring(fs->events->stream);
	event_ring_stats(ring, &stats);
	error = event_stream_error(fs->events->stream);
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "state", error ? "failing" : "ok", "strict", fs->opt.events_strict,
			 "noted", (json_int_t)stats.noted, "dropped", (json_int_t)stats.dropped, "oldest", (json_int_t)stats.oldest_seq, "next",
			 (json_int_t)stats.next_seq, "bytes", (json_int_t)stats.bytes, "error",
			 error ? json_string(strerrorname_np(error)) : json_null(), "sinks", consumers_json(ring, stats.session));
}

void events_add_problems(struct wormfs *fs, json_t *list)
{
	const struct event_consumer *all;
	struct event_ring *ring;
	char text[400], since[RETENTION_TEXT_BYTES];
	uint64_t dropped;
	int64_t since_s;
	unsigned slot;
	int error;

	if (!fs->events)
		return;
	ring = event_stream_ring(fs->events->stream);
	error = event_stream_error(fs->events->stream);
	dropped = event_ring_dropped(ring) - fs->events->dropped_before;
	if (error) {
		snprintf(text, sizeof(text), "the ring of events cannot be written: %s; %s", strerror(error), fs->opt.events_strict ?
			 "whoever changes something waits" : "events wait in memory, and are dropped and counted when that is full");
		json_array_append_new(list, json_string(text));
	}
	if (dropped) {
		snprintf(text, sizeof(text), "%" PRIu64 " events were dropped since the mount, as the queue was full; a gap tells where", dropped);
		json_array_append_new(list, json_string(text));
	}
	all = event_ring_consumers(ring);
	since_s = event_stream_waits_since_s(fs->events->stream, &slot);
	if (since_s) {
		retention_format_until(since_s, since);
		snprintf(text, sizeof(text), "events=strict: whoever changes something waits for '%.*s' since %s: %s", (int)sizeof(all[slot].name),
			 all[slot].name, since, atomic_load(&all[slot].registered) ?
			 "let it clear what it has done, or take it out with 'wormctl events consumer deregister'" : "let it read");
		json_array_append_new(list, json_string(text));
	}
	for (int i = 0; i < EVENT_RING_CONSUMERS; i++) {
		error = atomic_load(&all[i].error);
		if (!error || !all[i].name[0] || atomic_load(&all[i].session) != event_ring_session(ring))
			continue;
		snprintf(text, sizeof(text), "events do not reach '%.*s': %s; 'wormctl events consumers' says how many wait", (int)sizeof(all[i].name),
			 all[i].name, strerror(error));
		json_array_append_new(list, json_string(text));
	}
}
