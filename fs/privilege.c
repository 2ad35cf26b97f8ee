/* Privileged requests. Always true: privdel is never but the weakest that the ledger and the share remember; a record that
 * cannot be read, a ledger that cannot be asked, an audit log that cannot be written: each forbids. */
#include "fs/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/hold.h"
#include "fs/lock.h"
#include "fs/lock_private.h"
#include "fs/log.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/session.h"
#include "fs/state.h"
#include "fs/rule.h"
#include "fs/trail.h"
#include "fs/tree.h"

#define META_PRIVDEL "privdel"
#define NEVER "never"
#define NAMES_MAX 65000		/* of one file: LINK_MAX of ext4 */

/* ---- off, on, never ---- */

static bool never_in_ledger(struct wormfs *fs)
{
	char *value = NULL;
	bool never = ledger_meta_get(fs->ledger, META_PRIVDEL, &value) == 0 && strcmp(value, NEVER) == 0;

	free(value);
	return never;
}

/* 1: noted on the share itself; 0: not; -errno: nobody can say. */
static int never_on_share(struct wormfs *fs)
{
	char value[16];
	ssize_t n;

	if (!fs->lower.xattr)
		return 0;
	n = lower_getxattr(fs->root_fd, lower_xattr_privdel(fs->ns), value, sizeof(value));
	return n >= 0 || n == -ERANGE ? 1 : n == -ENODATA ? 0 : (int)n;
}

/* In both places, each durably: who loses or restores one of them has the other. */
static int note_never(struct wormfs *fs)
{
	int r = ledger_meta_set(fs->ledger, META_PRIVDEL, NEVER);

	if (r == 0 && fs->lower.xattr)
		r = lower_setxattr(fs->root_fd, lower_xattr_privdel(fs->ns), NEVER, strlen(NEVER), 0);
	if (r == 0 && fsync(fs->root_fd) < 0)
		r = -errno;
	return r;
}

int privilege_open(struct wormfs *fs)
{
	bool ledger = never_in_ledger(fs);
	int share = never_on_share(fs), r;

	if (share < 0) {
		complain("cannot read whether privdel=never was chosen for '%s': %s", fs->share, strerror(-share));
		return share;
	}
	fs->privdel = fs->opt.privdel;
	if ((ledger || share) && fs->opt.privdel == PRIVDEL_ON) {
		complain("privdel=on: privdel=never was chosen for '%s' before, and that is for ever; leave privdel out", fs->share);
		return -EPERM;
	}
	if (ledger || share)
		fs->privdel = PRIVDEL_NEVER;
	if (fs->privdel != PRIVDEL_NEVER || (ledger && (share || !fs->lower.xattr)))
		return 0;
	r = note_never(fs);
	if (r == -EROFS && fs->opt.ro)
		return 0;	/* nothing is deleted there */
	if (r < 0)
		complain("cannot note privdel=never for '%s': %s", fs->share, strerror(-r));
	return r;
}

const char *privilege_name(struct wormfs *fs)
{
	static const char *const names[] = { [PRIVDEL_OFF] = "off", [PRIVDEL_ON] = "on", [PRIVDEL_NEVER] = "never" };

	return names[fs->privdel];
}

/* ---- may it be done? ---- */

/* Every hold that is known: counted in the record, named in the ledger, ordered. */
static int held_locked(struct wormfs *fs, struct inode *ino, const struct lock_row *row)
{
	if (ino->rec->holds > 0 || (row && row->holds > 0))
		return 1;
	return hold_covers_locked(fs, ino);
}

/* The one place that says yes. Whatever forbids it is asked first, and who cannot say forbids. */
static int may_locked(struct wormfs *fs, struct inode *ino, const char **ret_what)
{
	enum guard_state state;
	struct lock_row row;
	int r, found;

	*ret_what = NULL;
	if (fs->privdel != PRIVDEL_ON) {
		*ret_what = fs->privdel == PRIVDEL_NEVER ? "privdel=never was chosen for this share: nobody deletes or shortens early, for ever" :
			    "it is switched off: mount with privdel=on";
		return -EPERM;
	}
	if (!fs->audit) {
		*ret_what = "there is no audit log to say so first: mount with audit=on, and rules or a commit that is not never";
		return -EPERM;
	}
	state = lock_state_locked(fs, ino);
	if (state == GUARD_UNREADABLE) {
		*ret_what = "its lock record cannot be read or verified";
		return -EIO;
	}
	if (state == GUARD_CLOSING || ino->nwriters > 0) {	/* or somebody adds to an append-only file */
		*ret_what = "a program still has it open or mapped for writing";
		return -EBUSY;
	}
	if (!ino->rec || ino->phase != LOCK_COMMITTED) {
		*ret_what = "it is not locked: it can be deleted as any file";
		return -EINVAL;
	}
	found = lock_find_row(fs, ino, &row);
	if (found < 0 && found != -ENOENT) {
		*ret_what = "the ledger cannot be read, and nobody knows whether a hold is on it";
		return -EIO;
	}
	if (fs->opt.mode == WORM_COMPLIANCE || ino->rec->mode != WORM_GOVERNANCE || (found == 0 && row.rec.mode != WORM_GOVERNANCE)) {
		*ret_what = "it is locked in compliance mode: nobody deletes or shortens early";
		return -EPERM;
	}
	r = held_locked(fs, ino, found == 0 ? &row : NULL);
	if (r < 0) {
		*ret_what = "the ledger cannot be read, and nobody knows whether a hold is on it";
		return -EIO;
	}
	if (r) {
		*ret_what = "a legal hold is on it: nobody deletes or shortens past a hold";
		return -EPERM;
	}
	return 0;
}

static int may_shorten_locked(struct wormfs *fs, struct inode *ino, int64_t until_s, const char **ret_what)
{
	struct policy_settings bounds;
	int r = may_locked(fs, ino, ret_what);

	if (r < 0)
		return r;
	if (until_s == RETENTION_UNSPECIFIED || until_s == RETENTION_INFINITE || !retention_is_later(until_s, ino->rec->until_s) ||
	    ino->rec->until_s == RETENTION_UNSPECIFIED) {
		*ret_what = "that is no earlier end than it has; to set a later one, or the first, extend it";
		return -EINVAL;
	}
	rule_bounds(fs, ino->rec->rule, &bounds);
	if (until_s < retention_until(&bounds.min, ino->rec->committed_s)) {
		*ret_what = "that is less than its rule's, or the mount's min, counted from when it was locked";
		return -EINVAL;
	}
	if (ino->rec->generation == RECORD_GENERATION_MAX) {
		*ret_what = "it was shortened as often as a record can count";
		return -EOVERFLOW;
	}
	return 0;
}

int privilege_check(struct wormfs *fs, struct inode *ino, const int64_t *until_s, const char **ret_what)
{
	int r;

	pthread_mutex_lock(&ino->lock);
	r = until_s ? may_shorten_locked(fs, ino, *until_s, ret_what) : may_locked(fs, ino, ret_what);
	pthread_mutex_unlock(&ino->lock);
	return r;
}

/* ---- shorten ---- */

int privilege_shorten(struct wormfs *fs, struct inode *ino, int64_t until_s, const char *reason, const char *who,
		      const char **ret_what)
{
	char was[RETENTION_TEXT_BYTES], until[RETENTION_TEXT_BYTES];
	struct lock_record rec;
	int r;

	pthread_mutex_lock(&fs->hold_lock);	/* a hold that is being placed on it comes first, or later */
	pthread_mutex_lock(&ino->lock);
	if (ino->rec && ino->phase == LOCK_COMMITTED && fs->privdel == PRIVDEL_ON && ino->rec->until_s == until_s) {
		*ret_what = NULL;
		r = 0;
		goto out;
	}
	r = may_shorten_locked(fs, ino, until_s, ret_what);
	if (r < 0) {
		trail_file_locked(fs, ino, AUDIT_SHORTEN, r, "refused to %s: %s; reason: %s", who, *ret_what, reason);
		goto out;
	}
	rec = *ino->rec;
	retention_format_until(rec.until_s, was);
	retention_format_until(until_s, until);
	events_saw_until(fs, rec.until_s);
	events_sets_until(fs, until_s);
	r = trail_before_locked(fs, ino, AUDIT_SHORTEN, "%s: until %s, was %s; reason: %s", who, until, was, reason);
	if (r < 0)
		goto out;
	rec.until_s = until_s;
	rec.generation++;	/* what is older than this cannot bring the later date back */
	r = lock_rewrite_record_locked(fs, ino, &rec);
	if (r < 0)
		trail_file_locked(fs, ino, AUDIT_SHORTEN, r, "%s: until %s, was %s: failed", who, until, was);
out:
	pthread_mutex_unlock(&ino->lock);
	pthread_mutex_unlock(&fs->hold_lock);
	return r;
}

/* ---- delete ---- */

struct names {
	struct wormfs *fs;
	const struct inode *ino;
	char **paths;
	size_t count;
	uint64_t *parents;	/* node ids, of those that are gone, for the kernel */
};

static void names_fini(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->paths[i]);
	free(names->paths);
	free(names->parents);
}

static int add_name(void *arg, const char *path)
{
	struct names *names = arg;
	char **grown = names->count < NAMES_MAX ? reallocarray(names->paths, names->count + 1, sizeof(*grown)) : NULL;

	if (!grown)
		return -ENOMEM;
	names->paths = grown;
	grown[names->count] = strdup(path);
	if (!grown[names->count])
		return -ENOMEM;
	names->count++;
	return 0;
}

static int add_if_same(void *arg, struct inode *ino, const char *path, const struct stat *st)
{
	struct names *names = arg;

	return ino == names->ino ? add_name(names, path) : 0;
}

static int skip_unreadable(void *arg, const char *path, int r)
{
	return 0;	/* a name in there is then missing from the count, and nothing is deleted */
}

/* Every name of the file: one look when it has one; else all of the share is looked through. */
static int find_names(struct names *names, const char *path)
{
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	fd = descriptor_get(names->fs, (struct inode *)names->ino);
	r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
	descriptor_put(names->fs, (struct inode *)names->ino, fd);
	if (r < 0)
		return r;
	if (st.st_nlink <= 1)
		return add_name(names, path);
	return tree_each_file(names->fs, "", add_if_same, skip_unreadable, names);
}

/* One name, if it still is one of the file. */
static int unlink_name(struct wormfs *fs, struct inode *ino, const char *path, uint64_t *ret_parent)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char *dir_path = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
	struct inode *dir;
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	r = dir_path ? inode_walk(fs, dir_path, &dir) : -ENOMEM;
	free(dir_path);
	if (r < 0)
		return r;
	fd = descriptor_get(fs, dir);
	r = fd < 0 ? fd : inode_stat(fd, name, &st, &btime_ns);
	if (r == 0 && (st.st_ino != ino->ino || btime_ns != ino->btime_ns))
		r = -ESTALE;
	if (r == 0 && unlinkat(fd, name, 0) < 0)
		r = -errno;
	descriptor_put(fs, dir, fd);
	*ret_parent = dir->nodeid;
	inode_put(fs, dir);
	return r;
}

static int unlink_all_locked(struct wormfs *fs, struct inode *ino, struct names *names)
{
	struct stat st;
	int64_t btime_ns;
	size_t gone = 0;
	int fd, r;

	fd = descriptor_get(fs, ino);
	r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
	descriptor_put(fs, ino, fd);
	if (r == 0 && st.st_nlink != names->count)
		r = -EBUSY;	/* a name came or went, or lies where we cannot look */
	for (struct handle *h = ino->handles; h && r == 0; h = h->next)
		r = handle_need_fd_locked(fs, h);
	/* Between two names the file is locked by its record as before. */
	for (; r == 0 && gone < names->count; gone += r == 0)
		r = unlink_name(fs, ino, names->paths[gone], &names->parents[gone]);
	if (r == 0 && fs->limits)
		quota_limit_gone_locked(fs, ino, &st);
	if (r == 0)
		lock_forget_locked(fs, ino);
	return r;
}

/* The kernel has the names in its caches, and did not see them go. No lock is held: it may wait for a request of ours. */
static void tell_kernel(struct wormfs *fs, struct inode *ino, const struct names *names)
{
	for (size_t i = 0; i < names->count; i++) {
		const char *slash = strrchr(names->paths[i], '/');

		if (names->parents[i])
			session_notify_delete(fs, names->parents[i], ino->nodeid, slash ? slash + 1 : names->paths[i]);
	}
}

/* `privileged`: else it must be expired. */
static int remove_file(struct wormfs *fs, struct inode *ino, const char *path, bool privileged, const char *reason, const char *who,
		       const char **ret_what)
{
	enum audit_event event = privileged ? AUDIT_DELETE_PRIVILEGED : AUDIT_DELETE_EXPIRED;
	struct names names = { .fs = fs, .ino = ino };
	int r;

	*ret_what = NULL;
	r = find_names(&names, path);
	names.parents = calloc(names.count + 1, sizeof(*names.parents));
	if (r == 0 && !names.parents)
		r = -ENOMEM;
	if (r < 0) {
		names_fini(&names);
		return r;
	}
	pthread_mutex_lock(&fs->hold_lock);
	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&ino->lock);
	if (privileged) {
		r = may_locked(fs, ino, ret_what);
	} else {
		r = lock_check_locked(fs, ino, GUARD_UNLINK);
		if (r == 0 && (!ino->rec || lock_state_locked(fs, ino) != GUARD_EXPIRED))
			r = -EPERM;
		if (r == -EPERM)
			*ret_what = "it is not expired: its retention has not ended, or a hold is on it, or it is not locked";
	}
	if (r < 0) {
		trail_file_locked(fs, ino, event, r, "refused to %s: %s; reason: %s", who, *ret_what ? *ret_what : strerror(-r), reason);
		goto out;
	}
	r = trail_before_locked(fs, ino, event, "%s: size %llu, %zu names; reason: %s", who, (unsigned long long)ino->rec->size_bytes,
				names.count, reason);
	if (r < 0)
		goto out;
	r = unlink_all_locked(fs, ino, &names);
	if (r < 0) {
		*ret_what = r == -EBUSY ? "it has names that were not found; nothing was deleted" : NULL;
		trail_file_locked(fs, ino, event, r, "%s: not deleted, it stays locked", who);
	}
out:
	pthread_mutex_unlock(&ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	pthread_mutex_unlock(&fs->hold_lock);
	tell_kernel(fs, ino, &names);
	if (r == 0)
		descriptor_drop(fs, ino);	/* or the space stays taken */
	names_fini(&names);
	return r;
}

int privilege_delete(struct wormfs *fs, struct inode *ino, const char *path, const char *reason, const char *who,
		     const char **ret_what)
{
	return remove_file(fs, ino, path, true, reason, who, ret_what);
}

int privilege_expire(struct wormfs *fs, struct inode *ino, const char *path, const char *who, const char **ret_what)
{
	return remove_file(fs, ino, path, false, "its retention is over", who, ret_what);
}
