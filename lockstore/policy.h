/* Rules: how a file is locked. An ordered list of sections of an INI file (wormfs.rules(5)); the first one
 * whose conditions a file meets is its rule, and what a rule does not say comes from the mount options,
 * which are the rule of every file that no section takes. Nothing of a policy changes once it is open, so any
 * thread may ask; the counted reference keeps rules and their texts alive. */
#ifndef WORMFS_POLICY_H
#define WORMFS_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lockstore/ini_text.h"
#include "lockstore/retention.h"

#define POLICY_FILE_MAX_BYTES (16 << 20)
#define POLICY_RULES_MAX 32768
#define POLICY_NAME_MAX_BYTES 40
#define POLICY_HOLDS_MAX 64	/* of one rule */
#define POLICY_XATTR_MAX_BYTES 4096	/* a longer value meets no condition */

struct staging;

/* chmod: `chmod -w` by its owner, and requests; explicit: requests only (wormctl commit, user.worm.commit, chattr +i). */
enum commit_trigger { COMMIT_CLOSE, COMMIT_IDLE, COMMIT_CHMOD, COMMIT_EXPLICIT, COMMIT_NEVER };
#define COMMIT_IDLE_MAX_S 315360000	/* ten years; at least 1 */
#define COMMIT_TEXT_BYTES 24

/* Seconds: 0-59, or whole minutes up to an hour (record_settle_flags()). -EINVAL. */
int settle_parse(const char *text, uint32_t *ret_settle_s);

/* "close", "idle:60", "chmod", "explicit", "never". -EINVAL: none of them. *ret_idle_s is set for idle only. */
int commit_trigger_parse(const char *text, enum commit_trigger *ret_commit, uint32_t *ret_idle_s);
void commit_trigger_format(enum commit_trigger commit, uint32_t idle_s, char buf[COMMIT_TEXT_BYTES]);

enum policy_setting { POLICY_COMMIT, POLICY_RETENTION, POLICY_MIN, POLICY_MAX, POLICY_MODE, POLICY_APPEND, POLICY_STAGING,
		      POLICY_HOLD, POLICY_DIGEST, POLICY_SETTLE, POLICY_PUSH, POLICY_SETTINGS };

#define POLICY_PUSH_YES "yes"

/* What is in force for a file. */
struct policy_settings {
	unsigned given;			/* 1 << enum policy_setting: said, not a default or inherited */
	enum commit_trigger commit;
	uint32_t idle_s;		/* COMMIT_IDLE */
	struct retention retention, min, max;
	bool has_max;			/* somebody gave max: it then bounds "infinite", too */
	enum worm_mode mode;
	bool append;			/* append-only until it is finalised */
	bool digest;			/* its SHA-256 is taken */
	uint32_t settle_s;		/* so long after the lock its times, mode, owner, attributes and name may be set */
	const char *staging_globs;	/* as staging_open() reads them */
	const struct staging *staging;
	const char *holds;		/* names of legal holds, '\n' between them; NULL: none */
	unsigned nholds;
	const char *push;		/* POLICY_PUSH_YES: the lock is pushed to the mount's cluster; NULL: it is not */
};

struct policy_rule {
	const char *name;	/* "" = the mount options */
	uint16_t number;	/* in records; 0 = the mount options. The caller's to set, see policy_number() */
	unsigned line;		/* of its section */
	struct policy_settings set;	/* with everything inherited; .given says what the section itself says */
};

struct policy;

enum policy_flags {
	POLICY_TRUSTED = 1 << 0,	/* the file must belong to root or to us, and nobody else may write it */
};

/* `base` (copied; what its pointers point to must outlive the policy) is inherited; NULL: the defaults of wormfs(8).
 * All or nothing: -EINVAL: *ret_error says which line; -EPERM: not POLICY_TRUSTED; -ENOENT etc.: cannot be read. */
int policy_open(const char *path, int flags, const struct policy_settings *base, struct policy **ret_policy,
		struct ini_error *ret_error);
/* The same from memory; `name` is for the error. No rules at all: text "". */
int policy_parse(const char *name, const char *text, size_t len_bytes, const struct policy_settings *base,
		 struct policy **ret_policy, struct ini_error *ret_error);
struct policy *policy_get(struct policy *policy);
void policy_put(struct policy *policy);		/* NULL is fine; the last one frees it */

const struct policy_settings *policy_default_settings(void);

size_t policy_count(const struct policy *policy);
/* In order of the file; i == policy_count(): the mount options. */
const struct policy_rule *policy_at(const struct policy *policy, size_t i);
/* By its name or number; NULL: no such rule. */
const struct policy_rule *policy_find(const struct policy *policy, const char *name);
const struct policy_rule *policy_by_number(const struct policy *policy, uint16_t number);
/* The number that records shall have for this rule: once a rule, before other threads see the policy. */
void policy_set_number(struct policy *policy, size_t i, uint16_t number);
/* Where the search for a free number begins: the same name gives the same number in every ledger. 1..65535. */
uint16_t policy_number_of_name(const char *name);

/* What the conditions look at. */
struct policy_file {
	const char *path;	/* relative to the share; NULL: not known, then no condition on path or name is met */
	bool has_size;		/* else no condition on the size is met */
	uint64_t size_bytes;
	uid_t uid;
	gid_t gid;
	/* As lower_getxattr(): -ENODATA none, -ERANGE too long; another error is an error of the match. NULL: it has none. */
	ssize_t (*xattr)(void *arg, const char *name, void *buf, size_t size_bytes);
	void *xattr_arg;
};

/* Never fails but for an attribute that cannot be read. */
int policy_match(const struct policy *policy, const struct policy_file *file, const struct policy_rule **ret_rule);

/* Why rule i does not take the file: 0 and an empty text: it does. The text: the line, the condition, and why not. */
int policy_why_not(const struct policy *policy, size_t i, const struct policy_file *file, char *buf, size_t len_bytes);

/* Condition c of rule i as the file has it ("none.suffix = tmp"); NULL: there are no more. */
const char *policy_condition(const struct policy *policy, size_t i, size_t c);

/* An end that was asked for, moved into min..max. */
int64_t policy_clamp(const struct policy_settings *set, int64_t until_s, int64_t now_s);
/* The end of retention of a file that is locked at now_s: the retention, moved into min..max. */
int64_t policy_until(const struct policy_settings *set, int64_t now_s);

/* Name ("retention") and value ("7y") of a setting, as the file would have them. */
const char *policy_setting_name(enum policy_setting setting);
void policy_setting_format(const struct policy_settings *set, enum policy_setting setting, char *buf, size_t len_bytes);

#endif
