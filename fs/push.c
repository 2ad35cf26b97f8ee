/* What the pusher needs of the daemon, and what is shown of it. A file may be told to the cluster when nobody can write to it any
 * more, our own descriptor for writing is closed, and its data is on stable storage: a cluster that is also the lower filesystem
 * refuses what comes later. */
#include "fs/push.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/lock.h"
#include "fs/lock_private.h"
#include "fs/log.h"
#include "fs/rule.h"
#include "fs/state.h"
#include "fs/trail.h"
#include "lockstore/push_json.h"
#include "lockstore/upstream/pusher.h"

#define SYNCFS_MIN 8		/* so many files are synced with all the filesystem has: cheaper than one by one */
#define ROW_TIMEOUT_MS 5000	/* until a row that close(2) waits for is in the ledger */

struct push {
	struct pusher *pusher;
	struct upstream_credentials *credentials;
	struct endpoint endpoint;
	struct push_undated undated;
	char *ca_file;			/* absolute, or NULL */
	atomic_uint nwaiting;		/* in close(2) */
};

/* ---- what the pusher asks ---- */

static bool op_wanted(void *arg, const struct ledger_push_row *row)
{
	struct policy_settings set;

	rule_bounds(arg, row->rule, &set);
	return set.push != NULL;
}

static int64_t op_now_s(void *arg)
{
	struct wormfs *fs = arg;

	return clock_source_now_s(fs->clock);
}

static void op_log(void *arg, enum pusher_level level, const char *line)
{
	if (level == PUSHER_ERROR)
		log_error("%s", line);
	else if (level == PUSHER_WARNING)
		log_warning("%s", line);
	else
		log_info("%s", line);
}

static void op_told(void *arg, const struct file_key *key, const char *path, const struct push_plan *plan, const char *error)
{
	char until[RETENTION_TEXT_BYTES] = "";

	if (plan->set.has_until)
		retention_format_until(plan->set.until_s, until);
	trail_push(arg, key, path, error, "%s%s%s%s", until, plan->set.has_until && (plan->set.hold || plan->release) ? ", " : "",
		   plan->set.hold ? "hold" : plan->release ? "release" : "", error ? "" : ", confirmed");
}

/* An open descriptor of the file, when nobody can write to it, or change what a settling file still may be changed in. */
static int open_settled(struct wormfs *fs, struct pusher_file *file)
{
	int64_t now_s = clock_source_now_s(fs->clock);
	struct inode *ino;
	int fd;

	fd = inode_of_row(fs, &file->row->key, file->row->path, &ino);
	if (fd < 0)
		return fd;
	pthread_mutex_lock(&ino->lock);
	lock_load_locked(fs, ino);
	if (ino->rec && record_settles_until(ino->rec) > now_s) {
		file->wait_ms = (record_settles_until(ino->rec) - now_s) * 1000;
		fd = -EBUSY;
	} else if (ino->phase == LOCK_COMMITTED || (ino->phase == LOCK_CLOSING && file->waited_for)) {
		fd = descriptor_open(fs, ino, O_RDONLY | O_NONBLOCK);
	} else {
		fd = ino->phase == LOCK_CLOSING ? -EBUSY : -ESTALE;
	}
	pthread_mutex_unlock(&ino->lock);
	inode_put(fs, ino);
	return fd;
}

static void op_prepare(void *arg, struct pusher_file *files, unsigned n)
{
	struct wormfs *fs = arg;
	unsigned own = 0;
	struct stat st;
	int fd;

	for (unsigned i = 0; i < n; i++) {
		fd = open_settled(fs, &files[i]);
		files[i].r = fd < 0 ? fd : 0;
		if (fd < 0)
			continue;
		/* Filesystems mounted below the share are not reached by the syncfs below. */
		if (n >= SYNCFS_MIN && fstat(fd, &st) == 0 && st.st_dev == fs->root_dev)
			own++;
		else if (fsync(fd) < 0)
			files[i].r = -errno;
		close(fd);
	}
	if (!own || syncfs(fs->root_fd) == 0)
		return;
	/* One of all of them has an error, maybe none of ours: ask each. */
	for (unsigned i = 0; i < n; i++) {
		fd = files[i].r < 0 ? -1 : open_settled(fs, &files[i]);
		if (fd < 0)
			continue;
		if (fsync(fd) < 0)
			files[i].r = -errno;
		close(fd);
	}
}

static const struct pusher_ops ops = { .wanted = op_wanted, .prepare = op_prepare, .now_s = op_now_s, .log = op_log, .told = op_told };

/* ---- life ---- */

static int absolute_path(const char *path, char **ret_path)
{
	char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);
	int n = *path == '/' ? asprintf(ret_path, "%s", path) : cwd ? asprintf(ret_path, "%s/%s", cwd, path) : -1;

	free(cwd);
	return n < 0 ? -ENOMEM : 0;
}

int push_open(struct wormfs *fs)
{
	char error[ENDPOINT_ERROR_BYTES], why[CREDENTIALS_ERROR_BYTES];
	const struct options *opt = &fs->opt;
	struct push *push;
	int r;

	if (!opt->push)
		return 0;
	push = calloc(1, sizeof(*push));
	if (!push)
		return -ENOMEM;
	fs->push = push;
	r = endpoint_parse(opt->push, &push->endpoint, error);
	if (r < 0) {
		complain("%s", error);
		return r;
	}
	r = push_undated_parse(opt->push_undated ? opt->push_undated : "fail", &push->undated);
	if (r < 0)
		return r;	/* option_table.c has looked */
	if (opt->push_ca) {
		r = absolute_path(opt->push_ca, &push->ca_file);
		if (r == 0 && access(push->ca_file, R_OK) < 0)
			r = -errno;
		if (r < 0) {
			complain("push_ca=%s: %s", opt->push_ca, strerror(-r));
			return r;
		}
	}
	r = upstream_credentials_open(opt->push_credentials, &push->credentials, why);
	if (r < 0)
		complain("%s%s", why, opt->push_credentials ? "" : " (push_credentials=FILE)");
	return r;
}

int push_start(struct wormfs *fs)
{
	struct push *push = fs->push;
	struct pusher_config config;
	int r;

	if (!push)
		return 0;
	config = (struct pusher_config){
		.qumulo = { .endpoint = push->endpoint, .credentials = push->credentials, .ca_file = push->ca_file,
			    .insecure = fs->opt.push_insecure, .connections = fs->opt.push_connections, .in_flight = fs->opt.push_in_flight },
		.root = fs->opt.push_root, .undated = push->undated, .retry_s = fs->opt.push_retry_s, .ops = &ops, .arg = fs,
	};
	r = qumulo_init();
	if (r == 0)
		r = pusher_start(fs->ledger, &config, &push->pusher);
	if (r < 0) {
		complain("cannot start pushing locks to '%s': %s", push->endpoint.url, strerror(-r));
		return r;
	}
	log_info("push: locks go to '%s' below '%s'%s", push->endpoint.url, fs->opt.push_root,
		 push->endpoint.plain ? ", without TLS" : "");
	if (fs->opt.push_insecure)
		log_warning("push: the certificate of '%s' is not verified (push_insecure): whoever is between can read the credentials and answer "
			    "in its place, going on", push->endpoint.host);
	if (fs->opt.retention.kind == RETENTION_IS_UNSPECIFIED && !fs->has_rules && push->undated.how == PUSH_UNDATED_FAIL)
		log_warning("push: the retention of this mount is unspecified, so there is no date to push before somebody sets one; see retention and "
			    "push_undated, going on");
	return 0;
}

void push_stop(struct wormfs *fs)
{
	if (!fs->push)
		return;
	pusher_stop(fs->push->pusher);
	fs->push->pusher = NULL;
}

void push_close(struct wormfs *fs)
{
	if (!fs->push)
		return;
	upstream_credentials_close(fs->push->credentials);
	free(fs->push->ca_file);
	free(fs->push);
	fs->push = NULL;
}

void push_kick(struct wormfs *fs)
{
	if (fs->push)
		pusher_kick(fs->push->pusher);
}

enum ledger_push push_of(struct wormfs *fs, const struct policy_settings *set)
{
	return fs->push && set->push ? LEDGER_PUSH_YES : LEDGER_PUSH_NO;
}

/* ---- close(2) that waits ---- */

/* The row as it is now, so that the pusher finds it; the last close brings the final one. */
static int put_row_early(struct wormfs *fs, struct inode *ino, struct file_key *ret_key)
{
	struct ledger_row row;
	char *path = NULL;
	struct stat st;
	int r;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&ino->lock);
	r = ino->phase == LOCK_CLOSING && ino->nwriters == 1 &&
	    record_settles_until(ino->rec) <= clock_source_now_s(fs->clock) ? inode_stat_now(fs, ino, &st) : -EBUSY;
	if (r == 0)
		r = lock_fill_row(fs, ino, &st, &row, &path);
	if (r == 0)
		r = row.push == LEDGER_PUSH_YES ? committer_put(fs->committer, &row, JOURNAL_NO_SLOT) : -ENODATA;
	if (r == 0)
		*ret_key = row.key;
	pthread_mutex_unlock(&ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	free(path);
	return r;
}

void push_wait_at_close(struct wormfs *fs, struct inode *ino, int fd)
{
	struct push *push = fs->push;
	struct file_key key;
	int r;

	if (!push || !fs->opt.push_wait_s)
		return;
	/* Workers that wait here serve nobody else: half of them may, whoever comes then is queued. */
	if (atomic_fetch_add(&push->nwaiting, 1) < (fs->opt.threads + 1) / 2) {
		r = put_row_early(fs, ino, &key);
		if (r == 0)
			r = fsync(fd) < 0 ? -errno : committer_flush(fs->committer, ROW_TIMEOUT_MS);
		if (r == 0)
			r = pusher_wait(push->pusher, &key, fs->opt.push_wait_s * 1000);
		if (r < 0)
			log_debug("push: a close did not wait for the cluster to the end: %s", strerror(-r));
	}
	atomic_fetch_sub(&push->nwaiting, 1);
}

/* ---- what is shown ---- */

static json_t *time_json(int64_t t_s)
{
	char text[RETENTION_TEXT_BYTES];

	retention_format_until(t_s, text);
	return json_string(text);
}

static int take_json(void *arg, const struct ledger_push_row *row)
{
	*(json_t **)arg = push_row_json(row);
	return *(json_t **)arg ? 0 : -ENOMEM;
}

json_t *push_file_json(struct wormfs *fs, struct inode *ino)
{
	struct file_key key;
	json_t *json = NULL;
	int r;

	if (!fs->push)
		return json_null();
	r = inode_key(fs, ino, &key);
	if (r == 0) {
		(void)committer_flush(fs->committer, 1000);	/* a ledger that fails is said elsewhere */
		r = ledger_push_find(fs->ledger, &key, take_json, &json);
	}
	return r == 0 ? json : json_null();
}

static int take_text(void *arg, const struct ledger_push_row *row)
{
	const char *name = ledger_push_state_name(row);
	int n;

	if (!row->error || strcmp(name, "locked") == 0 || strcmp(name, "off") == 0)
		n = asprintf(arg, "%s", name);
	else if (row->status)
		n = asprintf(arg, "%s: %d %s%s%s", name, row->status, row->class ? row->class : "", row->class ? ": " : "", row->error);
	else
		n = asprintf(arg, "%s: %s", name, row->error);
	return n < 0 ? -ENOMEM : 0;
}

int push_text(struct wormfs *fs, struct inode *ino, char **ret_text)
{
	struct file_key key;
	int r;

	r = inode_key(fs, ino, &key);
	if (r < 0)
		return r;
	if (fs->push)
		(void)committer_flush(fs->committer, 1000);	/* likewise */
	r = ledger_push_find(fs->ledger, &key, take_text, ret_text);
	if (r != -ENOENT)
		return r;
	/* Locked, and not in the ledger yet: it is still being closed. */
	*ret_text = strdup(fs->push ? "pending" : "off");
	return *ret_text ? 0 : -ENOMEM;
}

static const char *state_name(const struct pusher_status *s)
{
	return s->state == PUSHER_OK ? "ok" : s->state == PUSHER_AWAY ? "away" : "refused";
}

/* NULL, and bytes that are no UTF-8, which JSON cannot say: null. */
static json_t *path_json(const char *path)
{
	json_t *text = path ? json_string(path) : NULL;

	return text ? text : json_null();
}

static bool is_wrong(const struct pusher_status *s, enum upstream_check_name name)
{
	enum upstream_check_state state = s->findings[name].state;

	return s->checked && (state == UPSTREAM_CHECK_WARNING || state == UPSTREAM_CHECK_FAILED);
}

/* {"version":"ok",...}, null before the first answer. */
static json_t *check_json(const struct pusher_status *s)
{
	json_t *json = s->checked ? json_object() : NULL;

	for (int i = 0; json && i < UPSTREAM_CHECKS; i++)
		json_object_set_new(json, upstream_check_name_text(i), json_string(upstream_check_state_text(s->findings[i].state)));
	return json ? json : json_null();
}

json_t *push_mount_json(struct wormfs *fs)
{
	uint64_t waiting = 0, failed = 0;
	struct pusher_status s;
	bool open;

	if (!fs->push || !fs->push->pusher)
		return json_null();
	pusher_status(fs->push->pusher, &s);
	open = s.state != PUSHER_OK;
	(void)ledger_push_count(fs->ledger, &waiting, &failed);		/* the ledger's state is beside this, and says it */
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:o, s:b, s:i, s:o, s:o, s:s?, s:o}",
			 "target", fs->push->endpoint.url, "root", path_json(fs->opt.push_root), "state", state_name(&s),
			 "reason", open ? json_string(s.reason) : json_null(), "since", open ? time_json(s.since_s) : json_null(),
			 "next_try", open ? time_json(s.next_try_s) : json_null(), "in_flight", (int)s.in_flight,
			 "waiting", (json_int_t)waiting, "failed", (json_int_t)failed, "told", (json_int_t)s.told,
			 "refused", (json_int_t)s.refused, "requests", (json_int_t)s.requests,
			 "skew", s.has_skew ? json_integer(s.skew_s) : json_null(), "insecure", fs->opt.push_insecure,
			 "wait", (int)fs->opt.push_wait_s, "credentials", path_json(upstream_credentials_path(fs->push->credentials)),
			 "ca", path_json(fs->push->ca_file), "undated", fs->opt.push_undated, "check", check_json(&s));
}

void push_add_problems(struct wormfs *fs, json_t *list)
{
	uint64_t waiting = 0, failed = 0;
	struct pusher_status s;
	char text[600];

	if (!fs->push || !fs->push->pusher)
		return;
	pusher_status(fs->push->pusher, &s);
	(void)ledger_push_count(fs->ledger, &waiting, &failed);		/* likewise */
	if (s.state != PUSHER_OK) {
		snprintf(text, sizeof(text), "push: the cluster %s: %s; %llu locks wait in the queue", s.state == PUSHER_AWAY ? "is away" :
			 "does not accept our credentials", s.reason, (unsigned long long)waiting);
		json_array_append_new(list, json_string(text));
	}
	if (failed) {
		snprintf(text, sizeof(text), "push: %llu locks did not reach the cluster: wormctl push list names them and says why",
			 (unsigned long long)failed);
		json_array_append_new(list, json_string(text));
	}
	/* Clock and credentials have a line of their own. */
	for (int i = 0; i < UPSTREAM_CHECKS; i++) {
		if (!is_wrong(&s, i) || i == UPSTREAM_CHECK_CLOCK || (i == UPSTREAM_CHECK_PRIVILEGE && s.state == PUSHER_REFUSED))
			continue;
		snprintf(text, sizeof(text), "push: %.350s; %.200s", s.findings[i].what, s.findings[i].todo);
		json_array_append_new(list, json_string(text));
	}
	if (s.has_skew && llabs(s.skew_s) > 60) {
		snprintf(text, sizeof(text), "push: the cluster's clock differs from ours by %lld s", (long long)s.skew_s);
		json_array_append_new(list, json_string(text));
	}
	if (fs->opt.push_insecure)
		json_array_append_new(list, json_string("push: the cluster's certificate is not verified (push_insecure)"));
}
