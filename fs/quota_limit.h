/* Limits of our own (-o quota=FILE) as requests meet them: what a request adds is charged before it is done (lockstore/limit.h), and what it
 * did not do is given back. Without the option each of these is a look at fs->limits and no more.
 *
 * Counted are regular files of the share's own filesystem while they have a name. Functions that end in _locked want ino->lock held
 * from the charge until what it allowed is done: so a file's size stands still meanwhile. A refusal is -EDQUOT, and is told. */
#ifndef WORMFS_QUOTA_LIMIT_H
#define WORMFS_QUOTA_LIMIT_H

#include <jansson.h>
#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/wormfs.h"
#include "lockstore/limit.h"

struct quota_account;
struct policy_rule;

struct quota_limits {
	struct limits *limits;
	struct quota_account *account;
	atomic_ullong n_refused;
	atomic_bool recount;		/* something was counted that may be wrong: the next mount counts anew */
};

/* A change of a file's size. */
struct quota_growth {
	bool counted;
	struct limit_set set;
	int64_t old_bytes, charged_bytes;
};

/* ---- life (quota_account.c) ---- */

/* Before the state directory is open: reads the file. -errno after one line on stderr. Nothing to do without the option. */
int quota_limit_read(struct wormfs *fs);
/* After the ledger and the rules, before anything is locked: takes what is used from the ledger, or counts it. Likewise. */
int quota_limit_open(struct wormfs *fs);
/* `clean`: the daemon ends as it should. NULL and twice is fine. */
void quota_limit_close(struct wormfs *fs, bool clean);
/* For user.worm.mount; NULL without the option. A page of the list from section `from` on, for the control socket. */
json_t *quota_limit_json(struct wormfs *fs);
json_t *quota_limit_list(struct wormfs *fs, uint64_t from);
/* There is something to be kept, soon. */
void quota_account_kick(struct wormfs *fs);

/* ---- requests (quota_limit.c); all want fs->limits ---- */

int quota_limit_begin_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, int64_t end_bytes, struct quota_growth *ret);
void quota_limit_end_locked(struct wormfs *fs, struct inode *ino, int fd, const struct quota_growth *growth);
int quota_limit_begin_make(struct wormfs *fs, struct inode *dir, const char *name, struct limit_set *ret_set);
void quota_limit_end_make(struct wormfs *fs, struct inode *dir, struct inode *ino, const struct stat *st, const struct limit_set *set);
int quota_limit_begin_chown_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, uid_t uid);
void quota_limit_end_chown_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, uid_t uid, bool done);
int quota_limit_check_open_locked(struct wormfs *fs, struct inode *ino);
void quota_limit_lock_locked(struct wormfs *fs, struct inode *ino, uint16_t rule, int64_t size_bytes, bool locked);

/* The size becomes `end_bytes` if that is more than it is. `st`: as the file is now. */
static inline int quota_limit_grow_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, int64_t end_bytes,
					  struct quota_growth *ret)
{
	ret->counted = false;
	return fs->limits ? quota_limit_begin_locked(fs, ino, st, end_bytes, ret) : 0;
}

/* It was done, or was not, or less of it: the file says. `fd`: any descriptor of it. */
static inline void quota_limit_grown_locked(struct wormfs *fs, struct inode *ino, int fd, const struct quota_growth *growth)
{
	if (growth->counted)
		quota_limit_end_locked(fs, ino, fd, growth);
}

/* A file is made in `dir`. made: `ino` NULL: it was not. */
static inline int quota_limit_make(struct wormfs *fs, struct inode *dir, const char *name, struct limit_set *ret_set)
{
	return fs->limits ? quota_limit_begin_make(fs, dir, name, ret_set) : 0;
}

static inline void quota_limit_made(struct wormfs *fs, struct inode *dir, struct inode *ino, const struct stat *st, const struct limit_set *set)
{
	if (fs->limits)
		quota_limit_end_make(fs, dir, ino, st, set);
}

/* One was made, may be there still, and its maker got an error: it is charged to nobody, so the next mount counts anew. */
static inline void quota_limit_doubt(struct wormfs *fs)
{
	if (fs->limits)
		atomic_store(&fs->limits->recount, true);
}

/* It loses its last name, or (tmpfile, then link) gets its first one in `dir`. */
void quota_limit_gone_locked(struct wormfs *fs, struct inode *ino, const struct stat *st);
int quota_limit_named_locked(struct wormfs *fs, struct inode *ino, struct inode *dir, const struct stat *st);

/* -EXDEV: from one set of limited directories into another. -EBUSY: it is a limited directory, or has one below it. */
int quota_limit_check_link(struct wormfs *fs, struct inode *ino, struct inode *dir);
int quota_limit_check_rename(struct wormfs *fs, struct inode *ino, struct inode *from_dir, const char *name, struct inode *to_dir,
			     const char *new_name, bool exchange);
int quota_limit_check_rmdir(struct wormfs *fs, struct inode *dir, const char *name);

/* The file was locked by the rule of this number, or the lock was taken back. Never refused. */
static inline void quota_limit_locked(struct wormfs *fs, struct inode *ino, uint16_t rule, int64_t size_bytes, bool locked)
{
	if (fs->limits && rule != 0)
		quota_limit_lock_locked(fs, ino, rule, size_bytes, locked);
}

#endif
