/* What is shown comes from lock_state_locked() and guard_verdict(), as what is refused does. */
#include "fs/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/digest.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/ops.h"
#include "fs/pin.h"
#include "fs/privilege.h"
#include "fs/push.h"
#include "fs/refusal.h"
#include "fs/rule.h"
#include "fs/quota_limit.h"
#include "fs/quota_listener.h"
#include "fs/quota_provider.h"
#include "fs/shortage.h"
#include "lockstore/staging.h"
#include "fs/state.h"
#include "fs/timekeeper.h"
#include "lockstore/audit.h"
#include "lockstore/control.h"
#include "lockstore/sha256.h"

#define READY_TIMEOUT_MS 5000

/* One consistent look at an inode. */
struct view {
	enum guard_state state;
	bool has_record;
	struct lock_record rec;
	bool suspect, staging, pending;
	enum ledger_pending_reason reason;
	int64_t due_s;
	char *cause;			/* of refusals; look() was asked for it. The caller frees it */
	unsigned nwriters;
	enum commit_trigger commit;	/* of a file that is not locked */
	int64_t now_s;
};

static void look(struct wormfs *fs, struct inode *ino, bool why, struct view *v)
{
	const struct policy_rule *rule;
	struct file_key key;

	memset(v, 0, sizeof(*v));
	v->now_s = clock_source_now_s(fs->clock);
	if (S_ISDIR(ino->type)) {
		v->state = pin_is_set(fs, ino) ? GUARD_PINNED : GUARD_OPEN;
		pthread_mutex_lock(&ino->lock);
		v->cause = why ? refusal_cause_locked(fs, ino, v->state) : NULL;
		pthread_mutex_unlock(&ino->lock);
		return;
	}
	pthread_mutex_lock(&ino->lock);
	lock_verify_locked(fs, ino);
	v->state = lock_state_locked(fs, ino);
	v->has_record = ino->rec && (ino->phase == LOCK_CLOSING || ino->phase == LOCK_COMMITTED);
	if (v->has_record)
		v->rec = *ino->rec;
	v->suspect = ino->suspect;
	v->cause = why ? refusal_cause_locked(fs, ino, v->state) : NULL;
	v->nwriters = ino->nwriters;
	if (v->state == GUARD_OPEN && S_ISREG(ino->type)) {
		rule = rule_or_mount_locked(fs, ino, NULL);
		v->commit = rule->set.commit;
		v->staging = v->commit == COMMIT_CLOSE && lock_is_staging(fs, ino, rule);
		rule_forget_if_idle_locked(ino);
	}
	pthread_mutex_unlock(&ino->lock);
	if (v->state != GUARD_OPEN || !S_ISREG(ino->type))
		return;		/* GUARD_HELD says more than that it is staging or pending */
	if ((v->commit == COMMIT_CLOSE || v->commit == COMMIT_IDLE) && !v->staging && v->nwriters == 0 && inode_key(fs, ino, &key) == 0)
		v->pending = ledger_pending_find(fs->ledger, &key, &v->reason, &v->due_s) == 0;
}

static const char *state_text(const struct view *v)
{
	return v->staging ? "staging" : v->pending ? "pending" : guard_state_name(v->state);
}

static int add_name(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	return json_array_append_new(arg, json_string(case_name)) < 0 ? -ENOMEM : 0;
}

/* Names of the holds; a count without names (lost ledger) is said as such. */
static int hold_names(struct wormfs *fs, struct inode *ino, const struct view *v, json_t **ret_list)
{
	json_t *list = json_array();
	struct file_key key;
	int r;

	if (!list)
		return -ENOMEM;
	r = inode_key(fs, ino, &key);
	if (r == 0 && v->has_record && v->rec.holds > 0) {
		(void)committer_flush(fs->committer, 1000);	/* a ledger that fails shows fewer names, said in status */
		r = ledger_holds(fs->ledger, &key, add_name, list);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0 && v->rec.holds > 0 && json_array_size(list) == 0)
		r = json_array_append_new(list, json_string("(unknown: the ledger has no name for it)"));
	if (r < 0)
		json_decref(list);
	else
		*ret_list = list;
	return r;
}

struct digest_view {
	const char *state;		/* NULL: not locked */
	char text[SHA256_TEXT_BYTES];	/* "": there is none */
};

static int take_digest(void *arg, const struct ledger_row *row)
{
	struct digest_view *digest = arg;

	if (row->sha256)
		sha256_format(row->sha256, digest->text);
	digest->state = row->sha256 ? "taken" : row->no_digest ? "off by its rule" : "pending";
	return 0;
}

/* -errno: the ledger does not answer. */
static int look_at_digest(struct wormfs *fs, struct inode *ino, const struct view *v, struct digest_view *ret)
{
	struct policy_settings set;
	struct file_key key;
	int r;

	*ret = (struct digest_view){ 0 };
	if (!v->has_record)
		return 0;
	ret->state = "pending";
	r = inode_key(fs, ino, &key);
	if (r == 0)
		r = ledger_find(fs->ledger, &key, take_digest, ret);
	if ((r < 0 && r != -ENOENT) || strcmp(ret->state, "pending") != 0)
		return r;
	/* The worker has not come to it: what will it do? */
	rule_bounds(fs, v->rec.rule, &set);
	if (v->rec.rule && !set.digest)
		ret->state = "off by its rule";
	else if (!fs->opt.digest)
		ret->state = "off on this mount";
	return 0;
}

static char *text_of_time(int64_t t_s)
{
	char buf[RETENTION_TEXT_BYTES];

	retention_format_until(t_s, buf);
	return strdup(buf);
}

static const char *explain_state(struct wormfs *fs, const struct inode *ino, const struct view *v)
{
	switch (v->state) {
	case GUARD_PINNED:
		return "a locked file lies below this directory: it cannot be renamed";
	case GUARD_CLOSING:
		return "it was written and closed, and a program still has it open or mapped: nobody new may write, it is locked when that program is done";
	case GUARD_UNREADABLE:
		return "its lock record cannot be read or verified: nobody can say whether it is locked, so every change is refused";
	case GUARD_EXPIRED:
		return "its retention is over and no hold is on it: it may be deleted or extended, not changed";
	case GUARD_HELD:
		return "it is not locked yet, and will be under a legal hold when it is: until then it may be written, not deleted, replaced or moved away";
	case GUARD_APPENDABLE:
		return "what was written is locked, and more can be added at its end; chmod -w or wormctl commit makes it final";
	case GUARD_SETTLING:
		return "its data is locked; its times, mode, owner, attributes and name may be set until it has settled";
	case GUARD_RETAINED:
		if (v->rec.holds > 0)
			return "a legal hold is on it";
		if (v->rec.until_s == RETENTION_UNSPECIFIED)
			return "it was locked without an end of retention: it stays so until somebody sets a date";
		if (v->rec.until_s == RETENTION_INFINITE)
			return "it is locked for ever";
		return "its retention has not ended";
	default:
		break;
	}
	if (S_ISDIR(ino->type))
		return "a directory: what is in it is locked, not it; 'wormctl status' without a path tells of the mount";
	if (v->staging)
		return "its name is a staging name: renaming it to another name locks it";
	if (v->pending && v->reason == PENDING_IDLE)
		return "it was written and is locked when nobody has changed it for the time of commit=idle";
	if (v->pending)
		return "its writer was interrupted before its close could lock it: it may be written again, and is locked when it has been idle for staging_idle";
	if (v->nwriters > 0)
		return "it is being written";
	if (v->commit == COMMIT_NEVER)
		return fs->has_rules ? "its rule locks nothing (commit=never)" : "nothing is locked on this mount (commit=never)";
	return "it has not been written and closed through this mount";
}

/* Of a directory only its rename is the guard's business. */
static json_t *verdicts(enum guard_state state, bool is_dir, bool refused)
{
	json_t *list = json_array();

	for (int op = 0; list && op < GUARD_OPS; op++)
		if ((!is_dir || op == GUARD_RENAME_DIR) && !guard_verdict(state, op) == !refused)
			json_array_append_new(list, json_string(guard_op_name(op)));
	return list;
}

static json_t *time_or_null(bool there, int64_t t_s)
{
	char buf[RETENTION_TEXT_BYTES];

	if (!there)
		return json_null();
	retention_format_until(t_s, buf);
	return json_string(buf);
}

static json_t *rule_json(struct wormfs *fs, uint16_t number)
{
	char *name = rule_name(fs, number);
	json_t *json = name ? json_string(name) : NULL;

	free(name);
	return json ? json : json_null();
}

int request_explain(struct wormfs *fs, struct inode *ino, json_t **ret_json)
{
	char *path = NULL, *encoded = NULL;
	json_t *holds, *json;
	struct digest_view digest;
	int64_t btime_ns;
	struct stat st = { 0 };
	struct view v;
	int fd, r;

	look(fs, ino, true, &v);
	r = hold_names(fs, ino, &v, &holds);
	if (r < 0) {
		free(v.cause);
		return r;
	}
	if (inode_path(fs, ino, &path) < 0)
		path = strdup("");
	r = path ? control_path_encode(path, &encoded) : -ENOMEM;
	free(path);
	fd = descriptor_get(fs, ino);
	if (fd >= 0) {
		(void)inode_stat(fd, "", &st, &btime_ns);	/* size 0 when it cannot be had */
		descriptor_put(fs, ino, fd);
	}
	if (r < 0) {
		json_decref(holds);
		free(v.cause);
		return r;
	}
	(void)look_at_digest(fs, ino, &v, &digest);	/* "pending", when the ledger does not answer */
	json = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:s?, s:s?, s:o, s:o, s:o, s:s?, s:o, s:o}",
			 "path", encoded, "state", state_text(&v), "why", explain_state(fs, ino, &v),
			 "until", time_or_null(v.has_record, v.rec.until_s),
			 "mode", v.has_record ? json_string(worm_mode_name(v.rec.mode)) : json_null(), "holds", holds,
			 "committed", time_or_null(v.has_record, v.rec.committed_s),
			 "serial", v.has_record ? json_integer(v.rec.serial) : json_null(), "size", (json_int_t)st.st_size,
			 "rule", v.has_record ? rule_json(fs, v.rec.rule) : json_null(), "sha256", *digest.text ? digest.text : NULL, "digest", digest.state,
			 "refused", verdicts(v.state, S_ISDIR(ino->type), true), "allowed", verdicts(v.state, S_ISDIR(ino->type), false),
			 "settles", time_or_null(v.state == GUARD_SETTLING, record_settles_until(&v.rec)),
			 "cause", v.cause && *v.cause ? v.cause : NULL,
			 "suspect", v.suspect ? json_string("size or time differs from its record: it was changed below the mount") : json_null(),
			 "push", v.has_record ? push_file_json(fs, ino) : json_null());
	free(encoded);
	free(v.cause);
	*ret_json = json;
	return json ? 0 : -ENOMEM;
}

static json_t *ledger_json(struct wormfs *fs)
{
	struct committer_status status;
	const char *state = "ok";

	committer_status(fs->committer, &status);
	if (status.error)
		state = status.error == -EROFS ? "readonly" : "failing";
	else if (atomic_load(&fs->ledger_damaged))
		state = "failing";
	else if (state_needs_reindex(fs))
		state = "behind";
	return json_pack("{s:s, s:I, s:I, s:I, s:o}", "state", state, "queued", (json_int_t)status.queued, "written",
			 (json_int_t)status.written, "dropped", (json_int_t)status.dropped, "error",
			 status.error ? json_string(status.message) : json_null());
}

static json_t *audit_json(struct wormfs *fs)
{
	struct audit_status s;

	if (!fs->audit)
		return json_pack("{s:s}", "state", "off");
	audit_status(fs->audit, &s);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "state", s.error ? "failing" : "ok", "seq", (json_int_t)s.seq,
			 "written", (json_int_t)s.written, "queued", (json_int_t)s.queued, "lost", (json_int_t)s.lost, "repeats",
			 (json_int_t)s.repeats, "bytes", (json_int_t)s.bytes, "error", s.error ? json_string(strerror(-s.error)) : json_null());
}

/* Of the audit log: what an auditor will ask about. */
static void add_audit_problems(struct wormfs *fs, json_t *list)
{
	struct audit_status s;
	char text[200];

	if (!fs->audit)
		return;
	audit_status(fs->audit, &s);
	if (s.error) {
		snprintf(text, sizeof(text), "the audit log cannot be written: %s; privileged requests are refused until it can", strerror(-s.error));
		json_array_append_new(list, json_string(text));
	}
	if (s.lost) {
		snprintf(text, sizeof(text), "%llu events of the audit log were lost since the mount, it tells where", (unsigned long long)s.lost);
		json_array_append_new(list, json_string(text));
	}
}

static json_t *problems_json(struct wormfs *fs)
{
	struct committer_status status;
	json_t *list = json_array();
	uint64_t pending = 0;
	char text[STATE_DAMAGE_BYTES];

	committer_status(fs->committer, &status);
	if (status.error) {
		snprintf(text, sizeof(text), "the ledger cannot be written: %s; files are locked by their own records", status.message);
		json_array_append_new(list, json_string(text));
	}
	if (atomic_load(&fs->ledger_damaged)) {
		state_explain_damage(fs, text);
		json_array_append_new(list, json_string(text));
	}
	if (state_needs_reindex(fs))
		json_array_append_new(list, json_string("the ledger may lack locks that the files have: run wormctl reindex"));
	if (atomic_load(&fs->ledger_failed))
		json_array_append_new(list, json_string("the ledger cannot be read: files without a record of their own are refused with EIO"));
	if (atomic_load(&fs->n_bad_records)) {
		snprintf(text, sizeof(text), "%u lock records cannot be verified: their files are refused with EIO; the log names them",
			 atomic_load(&fs->n_bad_records));
		json_array_append_new(list, json_string(text));
	}
	if (atomic_load(&fs->n_suspect)) {
		snprintf(text, sizeof(text), "%u locked files were changed below the mount; the log names them", atomic_load(&fs->n_suspect));
		json_array_append_new(list, json_string(text));
	}
	if (ledger_pending_count(fs->ledger, &pending) == 0 && pending > 0) {
		snprintf(text, sizeof(text), "%llu files were written and are not locked yet (staging names, interrupted or waiting writers)",
			 (unsigned long long)pending);
		json_array_append_new(list, json_string(text));
	}
	timekeeper_add_problems(fs, list);
	push_add_problems(fs, list);
	add_audit_problems(fs, list);
	events_add_problems(fs, list);
	if (!fs->lower.xattr)
		json_array_append_new(list, json_string("the share has no xattrs: locks are only in the ledger, and every close waits for it"));
	return list;
}

static json_t *refused_json(struct wormfs *fs)
{
	json_t *refused = json_object();

	for (int op = 0; refused && op < GUARD_OPS; op++) {
		unsigned long long n = atomic_load(&fs->n_refused[op]);

		if (n > 0)
			json_object_set_new(refused, guard_op_name(op), json_integer(n));
	}
	return refused;
}

static json_t *retention_json(const struct retention *r)
{
	char buf[64];

	retention_format(r, buf, sizeof(buf));
	return json_string(buf);
}

static json_t *rules_json(struct wormfs *fs)
{
	struct policy *policy = rule_policy(fs);
	json_t *json = policy ? json_pack("{s:s, s:I}", "file", fs->rules_path, "count", (json_int_t)policy_count(policy)) : NULL;

	policy_put(policy);
	return json ? json : json_null();
}

static json_t *configuration_json(struct wormfs *fs)
{
	char commit[COMMIT_TEXT_BYTES], *now;
	json_t *json;

	commit_trigger_format(fs->opt.commit, fs->opt.idle_s, commit);
	now = text_of_time(clock_source_now_s(fs->clock));
	json = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:s, s:b, s:s, s:o}",
			 "version", WORMFS_VERSION, "pid", (int)getpid(), "share", fs->share, "mountpoint", fs->mountpoint,
			 "state_dir", fs->state_dir, "share_id", fs->share_id, "uid", (int)geteuid(), "clock", clock_source_name(fs->clock),
			 "now", now ? now : "", "mode", worm_mode_name(fs->opt.mode), "retention", retention_json(&fs->opt.retention),
			 "min", retention_json(&fs->opt.min), "max", retention_json(&fs->opt.max),
			 "hold", fs->opt.hold ? json_string(fs->opt.hold) : json_null(), "commit", commit, "rules", rules_json(fs),
			 "sync", fs->opt.sync_close ? "close" : "follow", "shared", fs->shared, "privdel", privilege_name(fs),
			 "key", fs->opt.key ? json_string(fs->opt.key) : json_null());
	free(now);
	return json;
}

int request_mount(struct wormfs *fs, json_t **ret_json)
{
	json_t *json, *rest;

	/* The control socket is there before the kernel's first request is. */
	for (int waited_ms = 0; !atomic_load(&fs->ready); waited_ms++) {
		if (waited_ms == READY_TIMEOUT_MS)
			return -EAGAIN;
		usleep(1000);
	}
	json = configuration_json(fs);
	if (!json)
		return -EILSEQ;		/* a path that is not UTF-8 cannot be put into JSON */
	rest = json_pack("{s:{s:b, s:s, s:b, s:s, s:b, s:s}, s:{s:b, s:s, s:b, s:b, s:b, s:s}, s:o, s:o, s:o, s:o, s:I, s:{s:i, s:i}, s:i, s:i, s:I, s:o, s:o, s:o, s:o, s:o*, s:o*, s:o*, s:o}",
			 "transport", "io_uring", fs->io_uring, "io_uring_why", fs->io_uring_why, "passthrough", fs->passthrough,
			 "passthrough_why", fs->passthrough_why, "splice", fs->splice, "libfuse", fuse_pkgversion(),
			 "lower", "xattr", fs->lower.xattr, "namespace", fs->ns == LOWER_TRUSTED ? "trusted" : "user", "handles",
			 fs->lower.handles, "leases", fs->lower.leases, "birth_time", fs->lower.birth_time, "filesystem", fs->lower.filesystem,
			 "ledger", ledger_json(fs), "audit", audit_json(fs), "events", events_json(fs), "clock_state",
			 timekeeper_json(fs), "inodes", (json_int_t)inode_table_count(fs),
			 "descriptors", "open", (int)descriptor_count(fs), "limit", (int)fs->opt.descriptors,
			 "writers", (int)atomic_load(&fs->n_writers), "closing", (int)atomic_load(&fs->n_closing),
			 "locked", (json_int_t)atomic_load(&fs->n_locked), "refused", refused_json(fs), "digest", digest_json(fs),
			 "push", push_mount_json(fs), "shortage", shortage_json(fs),
			 "quota_notify", quota_provider_json(fs), "quota_listen", quota_listener_json(fs), "quota", quota_limit_json(fs), "problems", problems_json(fs));
	if (!rest || json_object_update(json, rest) < 0) {
		json_decref(rest);
		json_decref(json);
		return -ENOMEM;
	}
	json_decref(rest);
	*ret_json = json;
	return 0;
}

static int json_text(int r, json_t *json, char **ret_value)
{
	if (r < 0)
		return r;
	*ret_value = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	return *ret_value ? 0 : -ENOMEM;
}

static int holds_text(struct wormfs *fs, struct inode *ino, const struct view *v, char **ret_value)
{
	size_t len = 1, i;
	json_t *list, *name;
	char *text;
	int r;

	r = hold_names(fs, ino, v, &list);
	if (r < 0)
		return r;
	json_array_foreach(list, i, name)
		len += strlen(json_string_value(name)) + 1;
	text = calloc(1, len);
	if (text) {
		json_array_foreach(list, i, name) {
			if (i)
				strcat(text, "\n");
			strcat(text, json_string_value(name));
		}
	}
	json_decref(list);
	*ret_value = text;
	return text ? 0 : -ENOMEM;
}

int request_attribute(struct wormfs *fs, struct inode *ino, const char *name, char **ret_value)
{
	json_t *json = NULL;
	struct view v;
	char *text = NULL, number[32];
	struct digest_view digest;
	int r;

	if (strcmp(name, "explain") == 0) {
		r = request_explain(fs, ino, &json);
		return json_text(r, json, ret_value);
	}
	if (strcmp(name, "mount") == 0) {
		r = request_mount(fs, &json);
		return json_text(r, json, ret_value);
	}
	look(fs, ino, false, &v);
	if (strcmp(name, "state") == 0) {
		text = strdup(state_text(&v));
	} else if (!v.has_record) {
		return -ENODATA;
	} else if (strcmp(name, "until") == 0) {
		text = text_of_time(v.rec.until_s);
	} else if (strcmp(name, "mode") == 0) {
		text = strdup(worm_mode_name(v.rec.mode));
	} else if (strcmp(name, "committed") == 0) {
		text = text_of_time(v.rec.committed_s);
	} else if (strcmp(name, "serial") == 0) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)v.rec.serial);
		text = strdup(number);
	} else if (strcmp(name, "rule") == 0) {
		text = rule_name(fs, v.rec.rule);
	} else if (strcmp(name, "sha256") == 0) {
		r = look_at_digest(fs, ino, &v, &digest);
		if (r < 0 || !*digest.text)
			return r < 0 ? r : -ENODATA;
		text = strdup(digest.text);
	} else if (strcmp(name, "push") == 0) {
		return push_text(fs, ino, ret_value);
	} else if (strcmp(name, "holds") == 0) {
		return holds_text(fs, ino, &v, ret_value);
	} else {
		return -ENODATA;
	}
	*ret_value = text;
	return text ? 0 : -ENOMEM;
}

int request_extend(struct wormfs *fs, struct inode *ino, const struct retention *until, int64_t *ret_until_s)
{
	return lock_extend(fs, ino, retention_until(until, clock_source_now_s(fs->clock)), ret_until_s);
}
