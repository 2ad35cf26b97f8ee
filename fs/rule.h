/* The rule of a file: the one place that says how it is locked. Without -o rules=FILE that is the mount
 * options, at the price of a comparison. With it: the rules that were in force when the first writer opened the file,
 * matched against what the file is when it is locked (path, size, owner, attributes). */
#ifndef WORMFS_RULE_H
#define WORMFS_RULE_H

#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/wormfs.h"
#include "lockstore/policy.h"

/* Does the file lie in the share, or would it by its mount point? Who writes there would make it. */
bool rule_lies_in_share(struct wormfs *fs, const char *path);

/* Before the ledger is open: reads the rules. -errno after one line on stderr. */
int rule_open(struct wormfs *fs);
/* After it: the rules get their numbers; SIGHUP reloads from now on. Likewise. */
int rule_start(struct wormfs *fs);
void rule_stop(struct wormfs *fs);
void rule_close(struct wormfs *fs);

/* Reads the file again: all or nothing. -EINVAL etc.: the old rules stay, *ret_error says why and the log has it.
 * -EOPNOTSUPP: there is no -o rules. *ret_count: how many are in force. Any thread. */
int rule_reload(struct wormfs *fs, struct ini_error *ret_error, size_t *ret_count);

/* The rules in force now, a counted reference: policy_put() ends it. */
struct policy *rule_policy(struct wormfs *fs);

int rule_decide_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, const struct policy_rule **ret_rule);
void rule_drop_locked(struct inode *ino);
void rule_keep_locked(struct wormfs *fs, struct inode *ino);

/* A writer comes: what is in force now stays so for this file until rule_forget_locked(). */
static inline void rule_pin_locked(struct wormfs *fs, struct inode *ino)
{
	if (fs->has_rules && !ino->policy)
		rule_keep_locked(fs, ino);
}

/* `st` (NULL: is asked for) is the file as it is now. *ret_rule lives until rule_forget_locked(). -EIO etc.: an attribute that a
 * condition asks for cannot be read: nobody can say how the file is to be locked. */
static inline int rule_of_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, const struct policy_rule **ret_rule)
{
	if (fs->has_rules)
		return rule_decide_locked(fs, ino, st, ret_rule);
	*ret_rule = &fs->mount_rule;
	return 0;
}

/* The same where an error cannot be told to anybody: then the mount options. */
const struct policy_rule *rule_or_mount_locked(struct wormfs *fs, struct inode *ino, const struct stat *st);

/* No writer and no mapping is left, and what had to be locked is. */
static inline void rule_forget_locked(struct inode *ino)
{
	if (ino->policy)
		rule_drop_locked(ino);
}

/* The same when a look at it was all. */
static inline void rule_forget_if_idle_locked(struct inode *ino)
{
	if (ino->policy && ino->nwriters == 0 && !ino->mapped && ino->phase != LOCK_CLOSING)
		rule_drop_locked(ino);
}

/* For struct policy_file: attributes of the lower file. */
struct rule_attribute_of {
	struct wormfs *fs;
	struct inode *ino;
};
ssize_t rule_attribute(void *arg, const char *name, void *buf, size_t size_bytes);

/* Do the mount options or a rule lock in compliance mode? */
bool rule_has_compliance(struct wormfs *fs);

/* The name for a number of a record, also of a rule that is gone: "mount options", its name, or "#NUMBER". The caller frees it. */
char *rule_name(struct wormfs *fs, uint16_t number);
/* min, max and has_max that an existing lock is extended by: those of its rule if there still is one, else the mount's.
 * Nothing else of *ret_set may be used: the rules may be gone. */
void rule_bounds(struct wormfs *fs, uint16_t number, struct policy_settings *ret_set);

#endif
