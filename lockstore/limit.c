/* Owns what is used of each limit. Always true: a hard limit is passed only by what was forced (a lock, a count), never by a charge
 * that was asked; `since` is set exactly while more than soft is used. */
#include "lockstore/limit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/events/event.h"
#include "lockstore/leaf_mutex.h"
#include "lockstore/limit_private.h"

/* In the order of enum limit_resource. */
static const struct warnings {
	uint8_t hard, grace, soft, advisory, hard_below, soft_below, advisory_below;
} warnings[LIMIT_RESOURCES] = {
	{ EVENT_QUOTA_BYTES_HARD, EVENT_QUOTA_BYTES_GRACE, EVENT_QUOTA_BYTES_SOFT, EVENT_QUOTA_BYTES_ADVISORY,
	  EVENT_QUOTA_BYTES_HARD_BELOW, EVENT_QUOTA_BYTES_SOFT_BELOW, EVENT_QUOTA_BYTES_ADVISORY_BELOW },
	{ EVENT_QUOTA_FILES_HARD, EVENT_QUOTA_FILES_GRACE, EVENT_QUOTA_FILES_SOFT, EVENT_QUOTA_FILES_ADVISORY,
	  EVENT_QUOTA_FILES_HARD_BELOW, EVENT_QUOTA_FILES_SOFT_BELOW, EVENT_QUOTA_FILES_ADVISORY_BELOW },
};

size_t limits_count(const struct limits *limits)
{
	return limits->n;
}

const struct limit_section *limits_at(const struct limits *limits, size_t i)
{
	return &limits->entries[i].section;
}

void limits_set_id(struct limits *limits, size_t i, uint32_t id)
{
	limits->entries[i].section.id = id;
}

/* ---- which ---- */

static int compare_path(const char *path, size_t len, const char *name)
{
	int order = strncmp(path, name, len);

	return order ? order : name[len] ? -1 : 0;
}

static int find_directory(const struct limits *limits, const char *path, size_t len)
{
	size_t lo = 0, hi = limits->ndirectories;

	while (lo < hi) {
		size_t at = (lo + hi) / 2;
		int order = compare_path(path, len, limits->entries[limits->by_path[at]].section.name);

		if (order == 0)
			return limits->by_path[at];
		if (order < 0)
			hi = at;
		else
			lo = at + 1;
	}
	return LIMIT_NONE;
}

static int innermost(const struct limits *limits, const char *path, size_t len)
{
	int found = LIMIT_NONE;

	if (limits->ndirectories == 0)
		return LIMIT_NONE;
	for (;;) {
		found = find_directory(limits, path, len);
		if (found != LIMIT_NONE || len == 0)
			return found;
		while (len > 0 && path[--len] != '/')
			;
	}
}

int limits_of_path(const struct limits *limits, const char *path)
{
	return innermost(limits, path, strlen(path));
}

/* The next one around a directory of that name. */
int limits_around(const struct limits *limits, const char *name)
{
	const char *slash = strrchr(name, '/');

	return *name ? innermost(limits, name, slash ? (size_t)(slash - name) : 0) : LIMIT_NONE;
}

int limits_of_user(const struct limits *limits, uint32_t uid)
{
	size_t lo = 0, hi = limits->nusers;

	while (lo < hi) {
		size_t at = (lo + hi) / 2;
		uint32_t id = limits->entries[limits->by_uid[at]].section.id;

		if (id == uid)
			return limits->by_uid[at];
		if (uid < id)
			hi = at;
		else
			lo = at + 1;
	}
	return LIMIT_NONE;
}

/* Asked once a lock: one after the other will do. */
int limits_of_rule(const struct limits *limits, uint32_t number)
{
	for (size_t i = 0; limits->has[LIMIT_RULE] && number != 0 && i < limits->n; i++)
		if (limits->entries[i].section.kind == LIMIT_RULE && limits->entries[i].section.id == number)
			return i;
	return LIMIT_NONE;
}

bool limits_have_path(const struct limits *limits, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < limits->ndirectories; i++) {
		const char *name = limits->entries[limits->by_path[i]].section.name;

		if (strncmp(path, name, len) == 0 && (len == 0 || name[len] == '\0' || name[len] == '/'))
			return true;
	}
	return false;
}

bool limits_have(const struct limits *limits, enum limit_kind kind)
{
	return limits->has[kind];
}

/* ---- charging ---- */

static void tell(struct limit_told *told, int section, uint8_t warning, uint64_t used, uint64_t limit)
{
	if (told->n < LIMIT_CROSSINGS_MAX)
		told->crossings[told->n++] = (struct limit_crossing){ section, warning, used, limit };
}

static bool is_over_grace(const struct limit_section *section, int64_t since_s, int64_t now_s)
{
	return since_s != 0 && now_s - since_s >= section->grace_s;
}

/* Something that grows by `more` (0: by anything at all). */
static int check_locked(struct limits *limits, int at, enum limit_resource what, uint64_t more, int64_t now_s, struct limit_told *told)
{
	struct entry *entry = &limits->entries[at];
	const struct limit_bounds *bounds = &entry->section.bounds[what];
	uint64_t used = entry->usage.used[what], wanted = more ? more : 1;

	if (bounds->hard && (used >= bounds->hard || wanted > bounds->hard - used)) {
		entry->at_hard[what] = true;
		tell(told, at, warnings[what].hard, used, bounds->hard);
		return -EDQUOT;
	}
	if (bounds->soft && is_over_grace(&entry->section, entry->usage.since_s[what], now_s)) {
		tell(told, at, warnings[what].grace, used, bounds->soft);
		return -EDQUOT;
	}
	return 0;
}

static void look_locked(struct limits *limits, int at, enum limit_resource what, int64_t now_s, struct limit_told *told)
{
	struct entry *entry = &limits->entries[at];
	const struct limit_bounds *bounds = &entry->section.bounds[what];
	const struct warnings *w = &warnings[what];
	uint64_t used = entry->usage.used[what];
	bool advisory = bounds->advisory && used > bounds->advisory, soft = bounds->soft && used > bounds->soft;
	bool below_hard = !bounds->hard || used < bounds->hard;

	if (advisory != entry->at_advisory[what])
		tell(told, at, advisory ? w->advisory : w->advisory_below, used, bounds->advisory);
	entry->at_advisory[what] = advisory;
	if (soft != (entry->usage.since_s[what] != 0)) {
		tell(told, at, soft ? w->soft : w->soft_below, used, bounds->soft);
		entry->usage.since_s[what] = !soft ? 0 : now_s ? now_s : 1;
	}
	if (entry->at_hard[what] && below_hard) {
		entry->at_hard[what] = false;
		tell(told, at, w->hard_below, used, bounds->hard);
	}
}

static void add_locked(struct limits *limits, int at, enum limit_resource what, int64_t by, int64_t now_s, struct limit_told *told)
{
	struct entry *entry = &limits->entries[at];
	uint64_t *used = &entry->usage.used[what], less = -(uint64_t)by;

	if (by == 0)
		return;
	entry->usage.changes++;
	if (by > 0 && *used > INT64_MAX - (uint64_t)by) {	/* more than any disk has: sparse files */
		*used = INT64_MAX;
		limits->adrift = true;
	} else if (by > 0) {
		*used += by;
	} else if (less > *used) {
		*used = 0;
		limits->adrift = true;
	} else {
		*used -= less;
	}
	look_locked(limits, at, what, now_s, told);
}

/* The sections of a set, one after the other: LIMIT_NONE after the last. `at`: the one before, or -2 to begin. */
static int next_of(const struct limits *limits, const struct limit_set *set, unsigned *step, int at)
{
	if (*step == 0) {
		*step = 1;
		at = set->directory;
	} else if (*step == 1) {
		at = limits->entries[at].section.outer;
	}
	if (*step == 1 && at != LIMIT_NONE)
		return at;
	if (*step < 2) {
		*step = 2;
		if (set->user != LIMIT_NONE)
			return set->user;
	}
	if (*step < 3) {
		*step = 3;
		return set->rule;
	}
	return LIMIT_NONE;
}

static int check_set_locked(struct limits *limits, const struct limit_set *set, const int64_t by[LIMIT_RESOURCES], bool any,
			    unsigned flags, int64_t now_s, struct limit_told *told)
{
	unsigned step = 0;
	int r = 0;

	for (int at = next_of(limits, set, &step, 0); r == 0 && at != LIMIT_NONE; at = next_of(limits, set, &step, at)) {
		if (flags & LIMIT_AS_ROOT && limits->entries[at].section.kind == LIMIT_USER)
			continue;
		for (int what = 0; r == 0 && what < LIMIT_RESOURCES; what++)
			if (any || by[what] > 0)
				r = check_locked(limits, at, what, by[what], now_s, told);
	}
	return r;
}

int limits_check(struct limits *limits, const struct limit_set *set, unsigned flags, int64_t now_s, struct limit_told *ret_told)
{
	static const int64_t nothing[LIMIT_RESOURCES];
	int r;

	ret_told->n = 0;
	pthread_mutex_lock(&limits->lock);
	r = check_set_locked(limits, set, nothing, true, flags, now_s, ret_told);
	pthread_mutex_unlock(&limits->lock);
	return r;
}

int limits_charge(struct limits *limits, const struct limit_set *set, int64_t bytes, int64_t files, unsigned flags, int64_t now_s,
		  struct limit_told *ret_told)
{
	const int64_t by[LIMIT_RESOURCES] = { [LIMIT_BYTES] = bytes, [LIMIT_FILES] = files };
	unsigned step = 0;
	int r;

	ret_told->n = 0;
	if (bytes == 0 && files == 0)
		return 0;
	pthread_mutex_lock(&limits->lock);
	r = flags & LIMIT_FORCED ? 0 : check_set_locked(limits, set, by, false, flags, now_s, ret_told);
	for (int at = r < 0 ? LIMIT_NONE : next_of(limits, set, &step, 0); at != LIMIT_NONE; at = next_of(limits, set, &step, at))
		for (int what = 0; what < LIMIT_RESOURCES; what++)
			add_locked(limits, at, what, by[what], now_s, ret_told);
	pthread_mutex_unlock(&limits->lock);
	return r;
}

void limits_usage(struct limits *limits, size_t i, struct limit_usage *ret_usage)
{
	pthread_mutex_lock(&limits->lock);
	*ret_usage = limits->entries[i].usage;
	pthread_mutex_unlock(&limits->lock);
}

void limits_set_usage(struct limits *limits, size_t i, const struct limit_usage *usage, int64_t now_s)
{
	struct entry *entry = &limits->entries[i];
	struct limit_told told = { 0 };

	pthread_mutex_lock(&limits->lock);
	entry->usage = *usage;
	for (int what = 0; what < LIMIT_RESOURCES; what++)	/* `since` is kept where it still is over */
		look_locked(limits, i, what, now_s, &told);
	pthread_mutex_unlock(&limits->lock);
}

bool limits_are_adrift(struct limits *limits)
{
	bool adrift;

	pthread_mutex_lock(&limits->lock);
	adrift = limits->adrift;
	pthread_mutex_unlock(&limits->lock);
	return adrift;
}

const char *limit_state(const struct limit_section *section, const struct limit_usage *usage, int64_t now_s, int64_t *ret_until_s)
{
	bool advisory = false, soft = false, over = false;

	*ret_until_s = 0;
	for (int what = 0; what < LIMIT_RESOURCES; what++) {
		const struct limit_bounds *bounds = &section->bounds[what];
		int64_t since_s = usage->since_s[what];

		advisory |= bounds->advisory && usage->used[what] > bounds->advisory;
		over |= (bounds->hard && usage->used[what] >= bounds->hard) || is_over_grace(section, since_s, now_s);
		if (since_s == 0)
			continue;
		if (!soft || since_s + section->grace_s < *ret_until_s)
			*ret_until_s = since_s + section->grace_s;
		soft = true;
	}
	return over ? "over" : soft ? "soft" : advisory ? "advisory" : "ok";
}

void limits_close(struct limits *limits)
{
	if (!limits)
		return;
	for (size_t i = 0; i < limits->n; i++)
		free((char *)limits->entries[i].section.key);
	pthread_mutex_destroy(&limits->lock);
	free(limits->by_path);
	free(limits->by_uid);
	free(limits->entries);
	free(limits);
}
