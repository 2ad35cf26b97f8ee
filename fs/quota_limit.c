/* Charges and refusals. Always true: what is counted of a file is its size and one file, for the sections that set_of() names, from
 * its first name to its last; every change of one of these is charged in the function that makes it. */
#include "fs/quota_limit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fs/actor.h"
#include "fs/log.h"
#include "fs/quota_notice.h"
#include "fs/rule.h"
#include "fs/shortage.h"

#define PLACE_UNKNOWN 0		/* inode.limit_place: else LIMIT_NONE + PLACE_OFFSET, or an index */
#define PLACE_OFFSET 2

/* ---- what is told ---- */

/* Of the inode, or of a name in a directory. NULL: not known. */
static char *path_of(struct wormfs *fs, struct inode *ino, struct inode *dir, const char *name)
{
	char *path = NULL, *full = NULL;

	if (!(dir || ino) || inode_path(fs, dir ? dir : ino, &path) < 0 || !dir)
		return path;
	if (asprintf(&full, "%s%s%s", path, *path ? "/" : "", name) < 0)
		full = NULL;
	free(path);
	return full;
}

static enum event_quota_kind kind_of(const struct limit_section *section)
{
	return section->kind == LIMIT_USER ? EVENT_QUOTA_USER : section->kind == LIMIT_RULE ? EVENT_QUOTA_RULE : EVENT_QUOTA_DIRECTORY;
}

static void tell(struct wormfs *fs, const struct limit_told *told, bool refused, struct inode *ino, struct inode *dir, const char *name)
{
	for (unsigned i = 0; i < told->n; i++) {
		const struct limit_crossing *c = &told->crossings[i];
		const struct limit_section *section = limits_at(fs->limits->limits, c->section);
		struct quota_notice notice = { .error = refused ? EDQUOT : 0, .actor = actor_get() };

		actor_comm(notice.comm);
		notice.quota = (struct event_quota){ .kind = kind_of(section), .warning = c->warning, .id = section->id, .major = major(fs->mount_dev),
						     .minor = minor(fs->mount_dev), .count = 1, .used = c->used, .limit = c->limit };
		snprintf(notice.detail, sizeof(notice.detail), "%s: %llu used, limit %llu, [%s]", event_quota_warning_name(c->warning),
			 (unsigned long long)c->used, (unsigned long long)c->limit, section->key);
		shortage_tell(fs, &notice, path_of(fs, ino, dir, name));
	}
	if (told->n)
		quota_account_kick(fs);
}

/* ---- charging ---- */

static int charge(struct wormfs *fs, const struct limit_set *set, int64_t bytes, int64_t files, unsigned flags, struct inode *ino,
		  struct inode *dir, const char *name)
{
	struct limit_told told;
	int r;

	if (actor_get().uid == 0)
		flags |= LIMIT_AS_ROOT;
	r = limits_charge(fs->limits->limits, set, bytes, files, flags, clock_source_now_s(fs->clock), &told);
	if (r < 0) {
		atomic_fetch_add(&fs->limits->n_refused, 1);
		shortage_is_ours();
	}
	tell(fs, &told, r < 0, ino, dir, name);
	return r;
}

/* May anything be added? */
static int check(struct wormfs *fs, const struct limit_set *set, struct inode *ino, struct inode *dir, const char *name)
{
	struct limit_told told;
	int r = limits_check(fs->limits->limits, set, 0, clock_source_now_s(fs->clock), &told);

	if (r < 0) {
		atomic_fetch_add(&fs->limits->n_refused, 1);
		shortage_is_ours();
	}
	tell(fs, &told, r < 0, ino, dir, name);
	return r;
}

/* The walk that counts stays on the share's own filesystem, so what lies on another one is never counted. */
static bool is_counted(const struct inode *ino)
{
	return S_ISREG(ino->type) && ino->dev_index == 0;
}

/* The innermost limited directory that it is in. It never changes: what would change it is EXDEV. */
static int place_of(struct wormfs *fs, struct inode *ino)
{
	int16_t place = atomic_load_explicit(&ino->limit_place, memory_order_relaxed);
	char *path = NULL;
	int r, at;

	if (place != PLACE_UNKNOWN)
		return place - PLACE_OFFSET;
	r = inode_path(fs, ino, &path);
	if (r < 0) {	/* found by an NFS handle, never by a name; or no memory */
		if (!atomic_exchange(&fs->limits->recount, true))
			log_warning("quota: a file is changed whose directory nobody knows, it is not counted there: the next mount counts anew");
		return LIMIT_NONE;
	}
	at = limits_of_path(fs->limits->limits, path);
	free(path);
	atomic_store_explicit(&ino->limit_place, at + PLACE_OFFSET, memory_order_relaxed);
	return at;
}

static struct limit_set set_of(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	bool locked = (ino->phase == LOCK_CLOSING || ino->phase == LOCK_COMMITTED) && ino->rec;

	return (struct limit_set){ .directory = place_of(fs, ino), .user = limits_of_user(fs->limits->limits, st->st_uid),
				   .rule = locked ? limits_of_rule(fs->limits->limits, ino->rec->rule) : LIMIT_NONE };
}

int quota_limit_begin_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, int64_t end_bytes, struct quota_growth *ret)
{
	int r;

	if (!is_counted(ino) || st->st_nlink == 0)
		return 0;
	ret->set = set_of(fs, ino, st);
	ret->old_bytes = st->st_size;
	ret->charged_bytes = end_bytes > st->st_size ? end_bytes - st->st_size : 0;
	r = charge(fs, &ret->set, ret->charged_bytes, 0, 0, ino, NULL, NULL);
	ret->counted = r == 0;
	return r;
}

void quota_limit_end_locked(struct wormfs *fs, struct inode *ino, int fd, const struct quota_growth *growth)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		atomic_store(&fs->limits->recount, true);
	else
		(void)charge(fs, &growth->set, st.st_size - growth->old_bytes - growth->charged_bytes, 0, LIMIT_FORCED, ino, NULL, NULL);
}

/* ---- rules ---- */

static int check_rule(struct wormfs *fs, const struct policy_rule *rule, struct inode *ino, struct inode *dir, const char *name)
{
	struct limit_set set = { LIMIT_NONE, LIMIT_NONE, limits_of_rule(fs->limits->limits, rule->number) };

	return set.rule == LIMIT_NONE ? 0 : check(fs, &set, ino, dir, name);
}

/* By the rule that an empty file of this name would have now. */
static int check_rule_of_name(struct wormfs *fs, struct inode *dir, const char *name)
{
	struct actor actor = actor_get();
	struct policy_file file = { .has_size = true, .uid = actor.uid, .gid = actor.gid };
	struct policy *policy = rule_policy(fs);
	char *path = path_of(fs, NULL, dir, name);
	const struct policy_rule *rule;
	int r = 0;

	file.path = path;
	if (policy && policy_match(policy, &file, &rule) == 0)
		r = check_rule(fs, rule, NULL, dir, name);
	policy_put(policy);
	free(path);
	return r;
}

int quota_limit_check_open_locked(struct wormfs *fs, struct inode *ino)
{
	int r;

	if (!limits_have(fs->limits->limits, LIMIT_RULE) || !is_counted(ino) || ino->phase != LOCK_NONE)
		return 0;
	r = check_rule(fs, rule_or_mount_locked(fs, ino, NULL), ino, NULL, NULL);
	rule_forget_if_idle_locked(ino);
	return r;
}

void quota_limit_lock_locked(struct wormfs *fs, struct inode *ino, uint16_t rule, int64_t size_bytes, bool locked)
{
	struct limit_set set = { LIMIT_NONE, LIMIT_NONE, limits_of_rule(fs->limits->limits, rule) };

	if (is_counted(ino))
		(void)charge(fs, &set, locked ? size_bytes : -size_bytes, locked ? 1 : -1, LIMIT_FORCED, ino, NULL, NULL);
}

/* ---- names ---- */

int quota_limit_begin_make(struct wormfs *fs, struct inode *dir, const char *name, struct limit_set *ret_set)
{
	int r;

	*ret_set = (struct limit_set){ LIMIT_NONE, LIMIT_NONE, LIMIT_NONE };
	if (dir->dev_index != 0)
		return 0;
	r = limits_have(fs->limits->limits, LIMIT_RULE) ? check_rule_of_name(fs, dir, name) : 0;
	if (r < 0)
		return r;
	ret_set->directory = place_of(fs, dir);
	ret_set->user = limits_of_user(fs->limits->limits, actor_get().uid);
	return charge(fs, ret_set, 0, 1, 0, NULL, dir, name);
}

void quota_limit_end_make(struct wormfs *fs, struct inode *dir, struct inode *ino, const struct stat *st, const struct limit_set *set)
{
	struct limit_set own = { LIMIT_NONE, LIMIT_NONE, LIMIT_NONE }, owner = own;

	if (!ino) {
		(void)charge(fs, set, 0, -1, LIMIT_FORCED, NULL, NULL, NULL);
		return;
	}
	atomic_store_explicit(&ino->limit_place, place_of(fs, dir) + PLACE_OFFSET, memory_order_relaxed);
	own.user = set->user;
	owner.user = dir->dev_index == 0 ? limits_of_user(fs->limits->limits, st->st_uid) : LIMIT_NONE;
	if (own.user == owner.user)
		return;
	/* The lower filesystem has made it somebody else's (NFS, root_squash; a daemon without root). */
	(void)charge(fs, &owner, 0, 1, LIMIT_FORCED, ino, NULL, NULL);
	(void)charge(fs, &own, 0, -1, LIMIT_FORCED, ino, NULL, NULL);
}

void quota_limit_gone_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct limit_set set;

	if (!is_counted(ino))
		return;
	set = set_of(fs, ino, st);
	(void)charge(fs, &set, -st->st_size, -1, LIMIT_FORCED, ino, NULL, NULL);
}

int quota_limit_named_locked(struct wormfs *fs, struct inode *ino, struct inode *dir, const struct stat *st)
{
	struct limit_set set;
	int r;

	if (!is_counted(ino))
		return 0;
	atomic_store_explicit(&ino->limit_place, place_of(fs, dir) + PLACE_OFFSET, memory_order_relaxed);
	set = set_of(fs, ino, st);
	r = charge(fs, &set, st->st_size, 1, 0, NULL, dir, "");
	if (r < 0)
		atomic_store_explicit(&ino->limit_place, PLACE_UNKNOWN, memory_order_relaxed);
	return r;
}

int quota_limit_check_link(struct wormfs *fs, struct inode *ino, struct inode *dir)
{
	return ino->dev_index == 0 && place_of(fs, ino) != place_of(fs, dir) ? -EXDEV : 0;
}

int quota_limit_check_rmdir(struct wormfs *fs, struct inode *dir, const char *name)
{
	char *path;
	int r = 0;

	if (!limits_have(fs->limits->limits, LIMIT_DIRECTORY))
		return 0;
	path = path_of(fs, NULL, dir, name);
	if (!path || limits_have_path(fs->limits->limits, path))
		r = -EBUSY;	/* not known: it may be one */
	free(path);
	return r;
}

int quota_limit_check_rename(struct wormfs *fs, struct inode *ino, struct inode *from_dir, const char *name, struct inode *to_dir,
			     const char *new_name, bool exchange)
{
	int r = 0;

	if (S_ISDIR(ino->type) || exchange) {
		r = quota_limit_check_rmdir(fs, from_dir, name);
		if (r == 0)
			r = quota_limit_check_rmdir(fs, to_dir, new_name);
	}
	return r == 0 && place_of(fs, from_dir) != place_of(fs, to_dir) ? -EXDEV : r;
}

/* ---- owners ---- */

/* Root is bound by this one: nobody else gives files away. */
int quota_limit_begin_chown_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, uid_t uid)
{
	struct limit_set set = { LIMIT_NONE, limits_of_user(fs->limits->limits, uid), LIMIT_NONE };
	struct limit_told told;
	int r;

	if (!is_counted(ino) || st->st_nlink == 0 || uid == st->st_uid)
		return 0;
	r = limits_charge(fs->limits->limits, &set, st->st_size, 1, 0, clock_source_now_s(fs->clock), &told);
	if (r < 0) {
		atomic_fetch_add(&fs->limits->n_refused, 1);
		shortage_is_ours();
	}
	tell(fs, &told, r < 0, ino, NULL, NULL);
	return r;
}

void quota_limit_end_chown_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, uid_t uid, bool done)
{
	struct limit_set set = { LIMIT_NONE, limits_of_user(fs->limits->limits, done ? st->st_uid : uid), LIMIT_NONE };

	if (is_counted(ino) && st->st_nlink != 0 && uid != st->st_uid)
		(void)charge(fs, &set, -st->st_size, -1, LIMIT_FORCED, ino, NULL, NULL);
}
