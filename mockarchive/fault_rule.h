/* One rule: what its JSON says, parsed and checked once. Pure: no lock, no clock, no file.
 * The caller owns a rule and keeps it still while others read it. */
#ifndef WORMFS_MOCKARCHIVE_FAULT_RULE_H
#define WORMFS_MOCKARCHIVE_FAULT_RULE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "mockarchive/fault.h"

#define FAULT_COMM_BYTES 16	/* as in /proc/PID/comm, with its NUL */
#define FAULT_TEXT_MAX 1024	/* bytes of a path pattern or a note */
#define FAULT_PATH_BYTES 4100
#define FAULT_REGEX_STEPS_MAX 100000
#define FAULT_RATE_MAX (INT64_C(1) << 50)
#define FAULT_SECONDS_MAX 1e9	/* of a delay or a ttl: 31 years */

struct path_glob;

struct fault_rule {
	char id[FAULT_ID_BYTES];
	uint64_t number;	/* never used twice, other than ids */
	bool enabled;
	char *note;		/* or NULL */

	/* match */
	uint64_t points;	/* bit 1 << enum fault_point */
	char *path;		/* as given; NULL: any */
	struct path_glob *glob;	/* one of glob, name_glob (points into path) and regex, with path or regex_text */
	const char *name_glob;
	char *regex_text;
	pcre2_code *regex;
	bool has_uid, has_pid;
	uid_t uid;
	pid_t pid;
	char comm[FAULT_COMM_BYTES];	/* "": any */
	enum fault_copy copy;
	int64_t min_size_bytes, max_size_bytes;	/* -1: no bound */

	/* when */
	double probability;
	uint64_t seed;
	int64_t first, after, every;		/* 0: not given */
	int64_t from_ns, until_ns;		/* INT64_MIN, INT64_MAX: not given */
	int64_t offset_bytes, len_bytes;	/* the byte range; len_bytes 0: none */

	/* do */
	unsigned does;		/* FAULT_DO_ bits */
	struct fault_verdict action;	/* the parameters, as in a verdict; delay without jitter */
	int64_t jitter_ns;

	int64_t expires_ns;	/* INT64_MAX: never */
	/* counters, and the state of the rule's own random numbers */
	uint64_t matched, hits, random;
	int64_t last_hit_ns;	/* 0: never */
};

/* Fills a zeroed *rule from a whole description; relative times count from now_ns. -EINVAL: `why` says what is wrong, and
 * the rule needs no fini. The id may be missing: rule->id is "" then. */
int fault_rule_init(struct fault_rule *rule, const json_t *json, int64_t now_ns, char *why);
void fault_rule_fini(struct fault_rule *rule);
/* A new reference: what fault_rule_init() would read, and the counters. NULL: no memory. */
json_t *fault_rule_json(const struct fault_rule *rule);
/* Does it match, leaving aside what has a memory (first, after, every, probability)? */
bool fault_rule_matches(const struct fault_rule *rule, const struct fault_query *query);
/* What a rule has as "corrupt": a name of how, or an object. -EINVAL. */
int fault_corrupt_parse(const json_t *value, struct fault_corrupt *ret_corrupt, char *why);
/* The next of the rule's random numbers. */
uint64_t fault_random(uint64_t *state);

#endif
