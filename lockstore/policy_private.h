/* Between policy.c, policy_keys.c and policy_match.c; nobody else includes it. */
#ifndef WORMFS_POLICY_PRIVATE_H
#define WORMFS_POLICY_PRIVATE_H

#include <stdatomic.h>

#include "lockstore/glob.h"
#include "lockstore/policy.h"

enum condition_kind { CONDITION_PATH, CONDITION_NAME, CONDITION_SUFFIX, CONDITION_TYPE, CONDITION_SIZE, CONDITION_OWNER,
		      CONDITION_GROUP, CONDITION_XATTR };
enum condition_group { GROUP_ALL, GROUP_ANY, GROUP_NONE };

/* One of the values of a condition. */
struct alternative {
	struct path_glob *path;		/* PATH */
	const char *text;		/* NAME: glob; SUFFIX: lower case, no dot; XATTR: name of the attribute */
	const char *value;		/* XATTR: glob; NULL: only that it is there */
	const char *const *suffixes;	/* TYPE */
	uint64_t lo, hi;		/* SIZE, both included; OWNER, GROUP: lo */
	struct alternative *next;
};

/* Met when one of its alternatives is. */
struct condition {
	enum condition_kind kind;
	enum condition_group group;
	unsigned line;			/* of its first value */
	struct alternative *alternatives;
	const char *text;		/* "none.suffix = tmp bak" */
	struct condition *next;
};

/* What belongs to a policy and goes with it. */
struct chunk {
	struct chunk *next;
	char data[];
};

struct rule {
	struct policy_rule public;
	struct condition *conditions;	/* in order of the file, merged by key and group */
};

struct bucket;

struct policy {
	atomic_uint refs;
	struct policy_settings base;
	struct rule *rules;		/* nrules, then the mount options */
	size_t nrules, max_rules;
	struct chunk *chunks;
	struct staging **stagings;
	size_t nstagings;
	uint32_t *by_number;		/* index of a rule + 1, hashed by its number; 0: free */
	size_t nby_number;		/* a power of two */
	/* The index, see policy_match.c. */
	struct bucket *buckets;
	size_t nbuckets;		/* a power of two */
	uint32_t *candidates;
};

void *policy_alloc(struct policy *policy, size_t size_bytes);	/* zeroed; NULL: out of memory */
char *policy_strdup(struct policy *policy, const char *text);

/* One "key = value" of a section. 0, -ENOMEM, or -EINVAL with *ret_why (at most `len_bytes`). */
int policy_key(struct policy *policy, struct rule *rule, unsigned line, const char *key, const char *value,
	       char *why, size_t len_bytes);
/* The section is complete: what its settings must have in common. */
int policy_rule_check(const struct policy *policy, const struct rule *rule, char *why, size_t len_bytes);

/* All rules are there. -ENOMEM. */
int policy_index(struct policy *policy);

#endif
