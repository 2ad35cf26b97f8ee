/* Limits of wormfs's own (-o quota=FILE): how much may lie in a directory, belong to a user, be locked by a rule, and how much does.
 *
 * What counts is the size of regular files as stat(2) shows it, and their number, once an inode, as long as they have a name. A
 * limit is asked before the growth (limits_charge()), so that writers at the same time never pass a hard one together. Pure, but for
 * limits_open(): no clock, no share. Any thread; one leaf mutex, held for memory only. */
#ifndef WORMFS_LIMIT_H
#define WORMFS_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/ini_text.h"

#define LIMIT_SECTIONS_MAX 1000
#define LIMIT_DEPTH_MAX 16		/* limited directories within one another */
#define LIMIT_FILE_MAX_BYTES (4 << 20)
#define LIMIT_GRACE_S (7 * 86400)	/* where the section does not say */
#define LIMIT_NONE (-1)

enum limit_kind { LIMIT_DIRECTORY, LIMIT_USER, LIMIT_RULE };
enum limit_resource { LIMIT_BYTES, LIMIT_FILES, LIMIT_RESOURCES };

struct limit_bounds {
	uint64_t advisory, soft, hard;	/* 0: none */
};

struct limit_section {
	enum limit_kind kind;
	const char *key;		/* as the file has it, but a user by number: "directory /a/b", "user 1000", "rule scans" */
	const char *name;		/* directory: below the share, without '/' before it, "" = all of it; rule: its name */
	uint32_t id;			/* user: uid; directory: its number in the file, from 1; rule: its number in records */
	int outer;			/* directory: the next one around it, or LIMIT_NONE */
	unsigned line;
	struct limit_bounds bounds[LIMIT_RESOURCES];
	int64_t grace_s;
};

struct limit_usage {
	uint64_t used[LIMIT_RESOURCES];
	int64_t since_s[LIMIT_RESOURCES];	/* clock of retention: soft has been passed since then; 0: it is not */
	uint64_t changes;			/* of `used`, since the set was opened */
};

struct limits;

/* All or nothing: -EINVAL: *ret_error says which line; -EPERM: others may write it; -ENOENT etc.: cannot be read. Users' names are
 * looked up, paths and rules are not. The caller ends it with limits_close(); NULL is fine. */
int limits_open(const char *path, struct limits **ret_limits, struct ini_error *ret_error);
/* The same from memory; `name` is for the error. */
int limits_parse(const char *name, const char *text, size_t len_bytes, struct limits **ret_limits, struct ini_error *ret_error);
/* Sections that were kept elsewhere: all but `key`, bounds, grace_s and line is found anew. -EINVAL: no such section, or twice. */
int limits_of_sections(const struct limit_section *sections, size_t n, struct limits **ret_limits);
void limits_close(struct limits *limits);

size_t limits_count(const struct limits *limits);
const struct limit_section *limits_at(const struct limits *limits, size_t i);
/* Before other threads see it. */
void limits_set_id(struct limits *limits, size_t i, uint32_t id);

/* The innermost limited directory that the path (of a directory: itself) is in; user and rule likewise. LIMIT_NONE: none. */
int limits_of_path(const struct limits *limits, const char *path);
int limits_of_user(const struct limits *limits, uint32_t uid);
int limits_of_rule(const struct limits *limits, uint32_t number);
/* Is it a limited directory, or is one below it? */
bool limits_have_path(const struct limits *limits, const char *path);
bool limits_have(const struct limits *limits, enum limit_kind kind);

/* What a file counts for. */
struct limit_set {
	int directory, user, rule;	/* LIMIT_NONE: none */
};

/* What is to be told. `warning`: enum event_quota_warning (lockstore/events/event.h). */
struct limit_crossing {
	int section;
	uint8_t warning;
	uint64_t used, limit;
};
#define LIMIT_CROSSINGS_MAX ((LIMIT_DEPTH_MAX + 2) * LIMIT_RESOURCES * 3)
struct limit_told {
	unsigned n;
	struct limit_crossing crossings[LIMIT_CROSSINGS_MAX];
};

enum {
	LIMIT_FORCED = 1 << 0,		/* nobody is refused: it has happened */
	LIMIT_AS_ROOT = 1 << 1,		/* limits of users bind everybody but root */
};

/* All of the set, or nothing: -EDQUOT, with the one limit that is in the way in *ret_told. Negative numbers give back, which is never
 * refused. What was crossed, up or down, is in *ret_told. */
int limits_charge(struct limits *limits, const struct limit_set *set, int64_t bytes, int64_t files, unsigned flags, int64_t now_s,
		  struct limit_told *ret_told);
/* May something be added to the set at all? A look; charges nothing. -EDQUOT, likewise. */
int limits_check(struct limits *limits, const struct limit_set *set, unsigned flags, int64_t now_s, struct limit_told *ret_told);

void limits_usage(struct limits *limits, size_t i, struct limit_usage *ret_usage);
/* What was counted or kept; nothing is told. */
void limits_set_usage(struct limits *limits, size_t i, const struct limit_usage *usage, int64_t now_s);
/* More was given back than there was, so that something was counted wrongly. Stays true. */
bool limits_are_adrift(struct limits *limits);

/* "ok", "advisory", "soft", "over": the worst of both resources. *ret_until_s: soft: when grace ends; else 0. */
const char *limit_state(const struct limit_section *section, const struct limit_usage *usage, int64_t now_s, int64_t *ret_until_s);

#endif
