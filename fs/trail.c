#include "fs/trail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/actor.h"
#include "fs/events.h"
#include "fs/log.h"
#include "fs/state.h"
#include "lockstore/audit_files.h"
#include "lockstore/retention.h"
#include "lockstore/witness.h"

#define HOUR_S 3600
#define FLUSH_MS 10000
#define DETAIL_BYTES AUDIT_DETAIL_BYTES

static const enum audit_event denials[GUARD_OPS] = {
	[GUARD_OPEN_READ] = AUDIT_DENY_OPEN_WRITE,	/* never refused */
	[GUARD_OPEN_WRITE] = AUDIT_DENY_OPEN_WRITE, [GUARD_OPEN_APPEND] = AUDIT_DENY_OPEN_WRITE,
	[GUARD_WRITE] = AUDIT_DENY_WRITE, [GUARD_APPEND] = AUDIT_DENY_WRITE,
	[GUARD_FALLOCATE] = AUDIT_DENY_WRITE, [GUARD_COPY_TO] = AUDIT_DENY_WRITE,
	[GUARD_TRUNCATE] = AUDIT_DENY_TRUNCATE, [GUARD_FTRUNCATE] = AUDIT_DENY_TRUNCATE,
	[GUARD_UNLINK] = AUDIT_DENY_UNLINK,
	[GUARD_RENAME] = AUDIT_DENY_RENAME, [GUARD_REPLACE] = AUDIT_DENY_RENAME, [GUARD_RENAME_DIR] = AUDIT_DENY_RENAME,
	[GUARD_LINK] = AUDIT_DENY_LINK,
	[GUARD_CHMOD_READONLY] = AUDIT_DENY_SETATTR, [GUARD_CHMOD_WRITABLE] = AUDIT_DENY_SETATTR,
	[GUARD_CHMOD] = AUDIT_DENY_SETATTR, [GUARD_CHOWN] = AUDIT_DENY_SETATTR,
	[GUARD_UTIMENS] = AUDIT_DENY_SETATTR, [GUARD_SETFLAGS] = AUDIT_DENY_SETATTR,
	[GUARD_SETXATTR] = AUDIT_DENY_XATTR,
	[GUARD_COMMIT] = AUDIT_DENY_REQUEST, [GUARD_EXTEND] = AUDIT_DENY_REQUEST, [GUARD_HOLD] = AUDIT_DENY_REQUEST,
	[GUARD_RELEASE] = AUDIT_DENY_REQUEST, [GUARD_APPEND_ONLY] = AUDIT_DENY_REQUEST,
};

/* ---- entries ---- */

/* `comm` has to live as long as the entry. */
static void fill_actor(struct audit_entry *entry, char comm[ACTOR_COMM_BYTES])
{
	struct actor actor = actor_get();

	entry->uid = actor.uid;
	entry->gid = actor.gid;
	entry->pid = actor.pid;
	actor_comm(comm);
	entry->comm = comm;
}

/* `path` NULL: found out here. */
static int put_file_locked(struct wormfs *fs, struct inode *ino, const char *path, struct audit_entry *entry, bool sync)
{
	char comm[ACTOR_COMM_BYTES], *found = NULL;
	struct file_key key;
	int r = 0;

	fill_actor(entry, comm);
	if (!path && ino && inode_path(fs, ino, &found) == 0)
		path = found;
	entry->path = path;
	if (ino && inode_key(fs, ino, &key) == 0)
		entry->key = &key;
	if (ino && ino->rec)
		entry->serial = ino->rec->serial;
	if (sync)
		r = audit_put_sync(fs->audit, entry);
	else
		audit_put(fs->audit, entry);
	free(found);
	return r;
}

void trail_created_locked(struct wormfs *fs, struct inode *ino)
{
	struct audit_entry entry = { .event = AUDIT_CREATE };

	if (audit_wants(fs->audit, AUDIT_CREATE, 0))
		(void)put_file_locked(fs, ino, NULL, &entry, false);
}

void trail_commit_locked(struct wormfs *fs, struct inode *ino, const char *path, const char *reason, int result)
{
	char detail[DETAIL_BYTES], until[RETENTION_TEXT_BYTES];
	struct audit_entry entry = { .event = AUDIT_COMMIT, .result = result, .detail = detail };

	if (!audit_wants(fs->audit, AUDIT_COMMIT, result) && !events_on(fs))
		return;
	if (result == 0 && ino->rec) {
		retention_format_until(ino->rec->until_s, until);
		snprintf(detail, sizeof(detail), "%s: until %s, %s%s%s", reason, until, worm_mode_name(ino->rec->mode),
			 ino->seal_holds ? ", hold " : "", ino->seal_holds ? ino->seal_holds : "");
	} else {
		snprintf(detail, sizeof(detail), "%s: not locked", reason);
	}
	events_trail(fs, ino, AUDIT_COMMIT, result, detail);
	if (audit_wants(fs->audit, AUDIT_COMMIT, result))
		(void)put_file_locked(fs, ino, path, &entry, false);
}

void trail_refused_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, const char *why, int result)
{
	char detail[DETAIL_BYTES];
	struct audit_entry entry = { .event = denials[op], .result = result, .detail = detail, .file = ino->nodeid, .op = op,
				     .repeats = true };

	events_refused(fs, ino, op, why, result);
	if (!audit_wants(fs->audit, entry.event, result) ||
	    audit_is_repeat(fs->audit, actor_get().uid, entry.file, entry.event, entry.op))
		return;
	snprintf(detail, sizeof(detail), "%s: %s", guard_op_name(op), why);
	(void)put_file_locked(fs, ino, NULL, &entry, false);
}

void trail_file_locked(struct wormfs *fs, struct inode *ino, enum audit_event event, int result, const char *format, ...)
{
	char detail[DETAIL_BYTES];
	struct audit_entry entry = { .event = event, .result = result, .detail = detail };
	va_list ap;

	if (!audit_wants(fs->audit, event, result) && !events_on(fs))
		return;
	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	events_trail(fs, ino, event, result, detail);
	if (audit_wants(fs->audit, event, result))
		(void)put_file_locked(fs, ino, NULL, &entry, false);
}

void trail_push(struct wormfs *fs, const struct file_key *key, const char *path, const char *error, const char *format, ...)
{
	char detail[DETAIL_BYTES];
	struct audit_entry entry = { .event = AUDIT_PUSH, .result = error ? -EREMOTEIO : 0, .detail = detail, .key = key, .path = path,
				     .uid = geteuid(), .gid = getegid(), .pid = getpid(), .comm = "wormfs" };
	size_t len;
	va_list ap;

	if (!audit_wants(fs->audit, entry.event, entry.result))
		return;
	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	len = strlen(detail);
	if (error)
		snprintf(detail + len, sizeof(detail) - len, ": %s", error);
	audit_put(fs->audit, &entry);
}

void trail_released_gone(struct wormfs *fs, const struct file_key *key, const char *path, uint64_t serial, const char *case_name)
{
	char detail[DETAIL_BYTES], comm[ACTOR_COMM_BYTES];
	struct audit_entry entry = { .event = AUDIT_HOLD_RELEASE, .detail = detail, .key = key, .path = path, .serial = serial };

	if (!audit_wants(fs->audit, AUDIT_HOLD_RELEASE, 0))
		return;
	snprintf(detail, sizeof(detail), "case %s", case_name);
	fill_actor(&entry, comm);
	audit_put(fs->audit, &entry);
}

int trail_flush(struct wormfs *fs)
{
	return audit_flush(fs->audit, FLUSH_MS);
}

int trail_before_locked(struct wormfs *fs, struct inode *ino, enum audit_event event, const char *format, ...)
{
	char detail[DETAIL_BYTES];
	struct audit_entry entry = { .event = event, .detail = detail };
	va_list ap;
	int r;

	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	r = put_file_locked(fs, ino, NULL, &entry, true);
	events_trail(fs, ino, event, r, detail);
	return r;
}

void trail_note(struct wormfs *fs, enum audit_event event, int result, const char *format, ...)
{
	char detail[PATH_MAX], comm[ACTOR_COMM_BYTES];
	struct audit_entry entry = { .event = event, .result = result, .detail = detail };
	va_list ap;

	if (!audit_wants(fs->audit, event, result) && !events_on(fs))
		return;
	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	events_trail(fs, NULL, event, result, detail);
	if (!audit_wants(fs->audit, event, result))
		return;
	fill_actor(&entry, comm);
	audit_put(fs->audit, &entry);
}

int trail_before(struct wormfs *fs, enum audit_event event, const char *format, ...)
{
	char detail[PATH_MAX], comm[ACTOR_COMM_BYTES];
	struct audit_entry entry = { .event = event, .detail = detail };
	va_list ap;
	int r;

	fill_actor(&entry, comm);
	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	r = audit_put_sync(fs->audit, &entry);
	events_trail(fs, NULL, event, r, detail);
	return r;
}

void trail_mounted(struct wormfs *fs)
{
	char commit[COMMIT_TEXT_BYTES];
	bool holds = (fs->opt.audit_success & AUDIT_SET(AUDIT_HOLD_ADD)) && (fs->opt.audit_success & AUDIT_SET(AUDIT_HOLD_RELEASE));
	bool covers = fs->opt.audit_success & AUDIT_SET(AUDIT_COMMIT) && !fs->shared;	/* `wormctl verify` relies on it */

	commit_trigger_format(fs->opt.commit, fs->opt.idle_s, commit);
	trail_note(fs, AUDIT_MOUNT, 0, "share '%s' on '%s', version %s, mode %s, commit %s, clock %s, id %s%s%s", fs->share, fs->mountpoint,
		   WORMFS_VERSION, worm_mode_name(fs->opt.mode), commit, clock_source_name(fs->clock), fs->share_id,
		   covers && holds ? WITNESS_COVERS_HOLDS : "", covers ? WITNESS_COVERS : "");
}

/* ---- the head of the chain, remembered elsewhere ---- */

struct trail {
	int anchor_fd;			/* audit_anchor=FILE, or -1 */
	uint64_t head_seq;		/* the log's thread writes, trail_tick() reads: lock */
	char head_hash[AUDIT_HASH_CHARS + 1];
	pthread_mutex_t lock;
	int64_t anchored_s;		/* CLOCK_BOOTTIME; the rest is trail_tick()'s */
	uint64_t said_seq;
	int log_error, ledger_error;
};

static int64_t now_s(void *arg)
{
	struct wormfs *fs = arg;

	return clock_source_now_s(fs->clock);
}

static void remember_head(void *arg, uint64_t seq, const char *hash)
{
	char text[AUDIT_HASH_CHARS + 32];
	struct wormfs *fs = arg;

	snprintf(text, sizeof(text), "%" PRIu64 ":%s", seq, hash);
	(void)ledger_meta_set(fs->ledger, AUDIT_META_HEAD, text);	/* a ledger that fails remembers an older one */
	pthread_mutex_lock(&fs->trail->lock);
	fs->trail->head_seq = seq;
	snprintf(fs->trail->head_hash, sizeof(fs->trail->head_hash), "%s", hash);
	pthread_mutex_unlock(&fs->trail->lock);
}

/* Where who can write our files cannot: the system's log, and a file that the administrator chose. */
static void anchor_outside(struct wormfs *fs)
{
	struct trail *trail = fs->trail;
	char hash[AUDIT_HASH_CHARS + 1], line[AUDIT_HASH_CHARS + 64];
	uint64_t seq;
	int n;

	pthread_mutex_lock(&trail->lock);
	seq = trail->head_seq;
	memcpy(hash, trail->head_hash, sizeof(hash));
	pthread_mutex_unlock(&trail->lock);
	if (seq == trail->said_seq)
		return;
	trail->said_seq = seq;
	log_info("audit log of '%s': head %" PRIu64 ":%s", fs->share, seq, hash);
	if (trail->anchor_fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%" PRIu64 ":%s %lld\n", seq, hash, (long long)time(NULL));
	if (write(trail->anchor_fd, line, n) != n || fdatasync(trail->anchor_fd) < 0)
		log_warning("cannot write to the anchor of the audit log '%s': %s, the next one is tried in an hour", fs->opt.audit_anchor,
			    strerror(errno));
}

static int64_t boot_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec;
}

void trail_tick(struct wormfs *fs)
{
	struct committer_status ledger;
	struct audit_status log;

	if (!fs->trail)
		return;
	committer_status(fs->committer, &ledger);
	if (ledger.error && !fs->trail->ledger_error)
		trail_note(fs, AUDIT_LEDGER_FAILING, ledger.error, "%s", ledger.message);
	else if (!ledger.error && fs->trail->ledger_error)
		trail_note(fs, AUDIT_LEDGER_OK, 0, "the ledger is written again");
	fs->trail->ledger_error = ledger.error;
	audit_status(fs->audit, &log);
	if (log.error && !fs->trail->log_error)
		log_error("cannot write the audit log in '%s': %s; events wait, and are counted when they do not fit, privileged requests stop",
			  fs->state_dir, strerror(-log.error));
	else if (!log.error && fs->trail->log_error)
		log_info("the audit log is written again, %llu events were lost", (unsigned long long)log.lost);
	fs->trail->log_error = log.error;
	if (boot_s() - fs->trail->anchored_s >= HOUR_S) {
		fs->trail->anchored_s = boot_s();
		anchor_outside(fs);
	}
}

/* ---- open and close ---- */

static int open_anchor(struct wormfs *fs)
{
	int r;

	fs->trail->anchor_fd = -1;
	if (!fs->opt.audit_anchor)
		return 0;
	fs->trail->anchor_fd = open(fs->opt.audit_anchor, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	if (fs->trail->anchor_fd >= 0)
		return 0;
	r = -errno;
	complain("cannot open the anchor of the audit log '%s': %s; name another file with -o audit_anchor=FILE", fs->opt.audit_anchor,
		 strerror(-r));
	return r;
}

static void say_recovery(struct wormfs *fs, const struct audit_recovery *found)
{
	if (found->torn_bytes)
		log_info("the audit log ended in %llu bytes of a line that the last daemon did not finish: kept as an event",
			 (unsigned long long)found->torn_bytes);
	if (found->missing)
		log_warning("the audit log '%s/" AUDIT_FILE "' was cut: %llu lines are missing at its end, 'wormctl audit verify' shows the gap",
			    fs->state_dir, (unsigned long long)found->missing);
	if (found->damaged)
		log_warning("the last line of the audit log '%s/" AUDIT_FILE "' was changed, 'wormctl audit verify' shows it", fs->state_dir);
}

/* seq 0: the ledger remembers none. */
static struct audit_head read_head(struct wormfs *fs)
{
	struct audit_head head = { 0 };
	char *value;

	if (ledger_meta_get(fs->ledger, AUDIT_META_HEAD, &value) == 0) {
		(void)audit_head_parse(value, &head);	/* stays 0 */
		free(value);
	}
	return head;
}

/* From here on the log does not tell who deletes what it knows: `wormctl verify` must not miss that. */
static void remember_off(struct wormfs *fs)
{
	char *value;

	if (!fs->ledger || ledger_meta_get(fs->ledger, AUDIT_META_HEAD, &value) < 0)
		return;
	(void)ledger_meta_set(fs->ledger, AUDIT_META_OFF, value);	/* else a file that was deleted meanwhile is asked for */
	free(value);
}

int trail_open(struct wormfs *fs)
{
	struct audit_options options = { .state_dir = fs->state_dir, .rotate_bytes = (uint64_t)fs->opt.audit_rotate_mib << 20,
					 .success = fs->opt.audit_success, .failure = fs->opt.audit_failure, .now_s = now_s,
					 .anchor = remember_head, .arg = fs };
	struct audit_recovery found;
	struct audit_head head;
	char path[PATH_MAX];
	int r;

	if (!fs->opt.audit || (!fs->has_rules && fs->opt.commit == COMMIT_NEVER)) {
		remember_off(fs);
		return 0;
	}
	fs->trail = calloc(1, sizeof(*fs->trail));
	if (!fs->trail)
		return -ENOMEM;
	pthread_mutex_init(&fs->trail->lock, NULL);
	fs->trail->anchored_s = boot_s();
	r = open_anchor(fs);
	if (r < 0)
		return r;
	head = read_head(fs);
	options.head_seq = head.seq;
	options.head_hash = head.hash;
	snprintf(path, sizeof(path), "%s/" AUDIT_FILE, fs->state_dir);
	fs->state_made |= access(path, F_OK) < 0 ? STATE_MADE_AUDIT : 0;
	r = audit_open(&options, &fs->audit, &found);
	if (r < 0) {
		complain("cannot open the audit log '%s': %s; make room or repair it, or mount with -o audit=off", path, strerror(-r));
		return r;
	}
	say_recovery(fs, &found);
	return 0;
}

void trail_close(struct wormfs *fs, bool mounted)
{
	struct audit_status status;

	if (mounted && !fs->audit)
		events_trail(fs, NULL, AUDIT_UNMOUNT, 0, fs->share);
	if (!fs->trail)
		return;
	if (fs->audit) {
		if (mounted)
			trail_note(fs, AUDIT_UNMOUNT, 0, "share '%s'", fs->share);
		(void)audit_flush(fs->audit, 1000);	/* what could not be written is said next */
		audit_status(fs->audit, &status);
		if (status.error)
			log_error("the audit log could not be written: %s; %llu events are lost", strerror(-status.error),
				  (unsigned long long)(status.queued + status.lost));
		audit_close(fs->audit);
		if (mounted)
			anchor_outside(fs);
		fs->audit = NULL;
	}
	if (fs->trail->anchor_fd >= 0)
		close(fs->trail->anchor_fd);
	pthread_mutex_destroy(&fs->trail->lock);
	free(fs->trail);
	fs->trail = NULL;
}
