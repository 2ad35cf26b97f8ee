/* Which rule takes a file.
 *
 * Every rule hangs in one place of an index, by something that all files it takes have in common: the plain names
 * that its paths begin with, its owners, suffixes, names or groups, whichever fewest other rules have; a rule without
 * any of these hangs at the place that every file looks at. A file looks at its own places (each directory above it, its
 * owner, ...), and tries the rules found there in order of the file. Equal hashes of different things only cost a try. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/policy_private.h"

#define PARTS_ON_STACK 64
#define PLACES_FIXED 6		/* beside the directories: all, owner, group, name, suffix, and the end */

enum place { PLACE_ALL = 1, PLACE_PATH, PLACE_OWNER, PLACE_SUFFIX, PLACE_NAME, PLACE_GROUP };

/* ---- a file, taken apart once ---- */

struct subject {
	const struct policy_file *file;
	struct glob_part *parts;	/* of the path; the last one is the name */
	size_t nparts;
	const char *name;
	size_t name_len;
	struct glob_part on_stack[PARTS_ON_STACK];
};

static int subject_init(struct subject *s, const struct policy_file *file)
{
	const char *p = file->path;
	size_t n = 1;

	s->file = file;
	s->parts = s->on_stack;
	s->nparts = 0;
	s->name = NULL;
	s->name_len = 0;
	if (!p)
		return 0;
	for (const char *c = p; *c; c++)
		n += *c == '/';
	if (n > PARTS_ON_STACK)
		s->parts = malloc(n * sizeof(*s->parts));
	if (!s->parts)
		return -ENOMEM;
	while (*p) {
		const char *end = strchrnul(p, '/');

		if (end > p)
			s->parts[s->nparts++] = (struct glob_part){ p, end - p };
		p = *end ? end + 1 : end;
	}
	if (s->nparts) {
		s->name = s->parts[s->nparts - 1].text;
		s->name_len = s->parts[s->nparts - 1].len;
	}
	return 0;
}

static void subject_fini(struct subject *s)
{
	if (s->parts != s->on_stack)
		free(s->parts);
}

/* ---- conditions ---- */

static bool has_suffix(const struct subject *s, const char *suffix)
{
	size_t len = strlen(suffix);
	const char *at = s->name + s->name_len - len;

	if (s->name_len < len + 2 || at[-1] != '.')	/* ".pdf" is a hidden file without one */
		return false;
	for (size_t i = 0; i < len; i++)
		if (tolower((unsigned char)at[i]) != (unsigned char)suffix[i])
			return false;
	return true;
}

static int has_xattr(const struct subject *s, const struct alternative *a)
{
	char value[POLICY_XATTR_MAX_BYTES];
	ssize_t n;

	if (!s->file->xattr)
		return 0;
	n = s->file->xattr(s->file->xattr_arg, a->text, value, sizeof(value));
	if (n == -ENODATA || n == -EOPNOTSUPP)
		return 0;
	if (n == -ERANGE)
		return !a->value;
	return n < 0 ? n : !a->value || glob_matches(a->value, value, n);
}

static int alternative_is_met(const struct subject *s, enum condition_kind kind, const struct alternative *a)
{
	switch (kind) {
	case CONDITION_PATH:
		return path_glob_matches(a->path, s->parts, s->nparts);
	case CONDITION_NAME:
		return glob_matches(a->text, s->name, s->name_len);
	case CONDITION_SUFFIX:
		return has_suffix(s, a->text);
	case CONDITION_TYPE:
		for (const char *const *suffix = a->suffixes; *suffix; suffix++)
			if (has_suffix(s, *suffix))
				return 1;
		return 0;
	case CONDITION_SIZE:
		return a->lo <= s->file->size_bytes && s->file->size_bytes <= a->hi;
	case CONDITION_OWNER:
		return s->file->uid == a->lo;
	case CONDITION_GROUP:
		return s->file->gid == a->lo;
	case CONDITION_XATTR:
		return has_xattr(s, a);
	}
	return 0;
}

/* Nobody can say: then the rule does not take the file, whatever the sign of the condition. */
static bool is_unknown(const struct subject *s, const struct condition *c)
{
	switch (c->kind) {
	case CONDITION_PATH: case CONDITION_NAME: case CONDITION_SUFFIX: case CONDITION_TYPE:
		return !s->name;
	case CONDITION_SIZE:
		return !s->file->has_size;
	default:
		return false;
	}
}

static int condition_is_met(const struct subject *s, const struct condition *c)
{
	int r;

	for (const struct alternative *a = c->alternatives; a; a = a->next) {
		r = alternative_is_met(s, c->kind, a);
		if (r != 0)
			return r;
	}
	return 0;
}

/* 1: it takes the file. 0: *ret_cause is the condition that says no; of any.*, the first. */
static int rule_takes(const struct subject *s, const struct rule *rule, const struct condition **ret_cause)
{
	const struct condition *first_any = NULL;
	bool any = false;
	int r;

	for (const struct condition *c = rule->conditions; c; c = c->next) {
		*ret_cause = c;
		if (is_unknown(s, c))
			return 0;
		if (c->group == GROUP_ANY && !first_any)
			first_any = c;
		if (c->group == GROUP_ANY && any)
			continue;
		r = condition_is_met(s, c);
		if (r < 0)
			return r;
		if (c->group == GROUP_ANY)
			any |= r;
		else if (r != (c->group == GROUP_ALL))
			return 0;
	}
	*ret_cause = first_any;
	return !first_any || any;
}

/* ---- the index ---- */

struct bucket {
	uint64_t hash;		/* 0: free */
	uint32_t count;		/* rules that could hang here; then those that do */
	uint32_t first;		/* in policy->candidates */
};

static uint64_t hash_bytes(uint64_t h, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)text[i]) * 1099511628211u;	/* FNV-1a */
	return h;
}

static uint64_t hash_start(enum place place)
{
	return (1469598103934665603u ^ place) * 1099511628211u;
}

static uint64_t hash_end(uint64_t h)
{
	h ^= h >> 32;
	return h ? h : 1;
}

static uint64_t hash_id(enum place place, uint64_t id)
{
	return hash_end(hash_bytes(hash_start(place), (const char *)&id, sizeof(id)));
}

/* What is behind the last dot, in lower case: a suffix "tar.gz" hangs at "gz". */
static uint64_t hash_suffix(const char *name, size_t len)
{
	uint64_t h = hash_start(PLACE_SUFFIX);
	size_t dot = len;

	while (dot > 0 && name[dot - 1] != '.')
		dot--;
	for (; dot < len; dot++) {
		char c = (char)tolower((unsigned char)name[dot]);

		h = hash_bytes(h, &c, 1);
	}
	return hash_end(h);
}

/* NULL: no such bucket, unless `make`, when there is always one. */
static struct bucket *find_bucket(const struct policy *policy, uint64_t hash, bool make)
{
	size_t mask = policy->nbuckets - 1;

	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		struct bucket *b = &policy->buckets[i];

		if (b->hash == hash)
			return b;
		if (b->hash)
			continue;
		if (!make)
			return NULL;
		b->hash = hash;
		return b;
	}
}

static uint64_t hash_prefix(const struct path_glob *glob)
{
	uint64_t h = hash_start(PLACE_PATH);

	for (size_t i = 0; i < path_glob_prefix(glob); i++) {
		h = hash_bytes(h, "/", 1);
		h = hash_bytes(h, path_glob_part(glob, i), strlen(path_glob_part(glob, i)));
	}
	return hash_end(h);
}

/* "*.pdf": what is behind its last dot, if that is plain. */
static bool glob_has_suffix(const char *glob)
{
	const char *dot = strrchr(glob, '.');

	return dot && dot > glob && dot[1] && glob_is_literal(dot);
}

/* The place that one value of a condition says; 0: none. */
static uint64_t place_of(enum condition_kind kind, const struct alternative *a)
{
	switch (kind) {
	case CONDITION_PATH:
		return path_glob_prefix(a->path) ? hash_prefix(a->path) : 0;
	case CONDITION_OWNER:
		return hash_id(PLACE_OWNER, a->lo);
	case CONDITION_GROUP:
		return hash_id(PLACE_GROUP, a->lo);
	case CONDITION_SUFFIX:
		return hash_suffix(a->text, strlen(a->text));
	case CONDITION_NAME:
		if (glob_is_literal(a->text))
			return hash_end(hash_bytes(hash_start(PLACE_NAME), a->text, strlen(a->text)));
		return glob_has_suffix(a->text) ? hash_suffix(a->text, strlen(a->text)) : 0;
	default:
		return 0;
	}
}

/* True when each of its values says a place: then the rule may hang at those. */
static bool has_places(const struct condition *c)
{
	if (c->group != GROUP_ALL || c->kind == CONDITION_TYPE)
		return false;
	for (const struct alternative *a = c->alternatives; a; a = a->next)
		if (!place_of(c->kind, a))
			return false;
	return true;
}

/* The condition whose places fewest rules share, by the first count; NULL: the place of all. */
static const struct condition *choose(const struct policy *policy, const struct rule *rule)
{
	const struct condition *best = NULL;
	uint64_t best_count = UINT64_MAX;

	for (const struct condition *c = rule->conditions; c; c = c->next) {
		uint64_t count = 0;

		if (!has_places(c))
			continue;
		for (const struct alternative *a = c->alternatives; a; a = a->next)
			count += find_bucket(policy, place_of(c->kind, a), true)->count;
		if (count < best_count) {
			best = c;
			best_count = count;
		}
	}
	return best;
}

static void hang(struct policy *policy, uint64_t hash, uint32_t rule, bool really)
{
	struct bucket *b = find_bucket(policy, hash, true);

	/* A rule with two values for one place hangs there once. */
	if (really && (!b->count || policy->candidates[b->first + b->count - 1] != rule))
		policy->candidates[b->first + b->count++] = rule;
	else if (!really)
		b->count++;
}

static void hang_rule(struct policy *policy, uint32_t i, const struct condition *c, bool really)
{
	if (!c)
		hang(policy, hash_id(PLACE_ALL, 0), i, really);
	for (const struct alternative *a = c ? c->alternatives : NULL; a; a = a->next)
		hang(policy, place_of(c->kind, a), i, really);
}

int policy_index(struct policy *policy)
{
	const struct condition **chosen;
	size_t places = 1, total = 0;

	for (size_t i = 0; i < policy->nrules; i++)
		for (const struct condition *c = policy->rules[i].conditions; c; c = c->next)
			for (const struct alternative *a = c->alternatives; a; a = a->next)
				places++;
	for (policy->nbuckets = 16; policy->nbuckets < 2 * places;)
		policy->nbuckets *= 2;
	policy->buckets = calloc(policy->nbuckets, sizeof(*policy->buckets));
	policy->candidates = calloc(places + policy->nrules, sizeof(*policy->candidates));
	chosen = calloc(policy->nrules + 1, sizeof(*chosen));
	if (!policy->buckets || !policy->candidates || !chosen) {
		free(chosen);
		return -ENOMEM;
	}
	for (size_t i = 0; i < policy->nrules; i++)
		for (const struct condition *c = policy->rules[i].conditions; c; c = c->next)
			if (has_places(c))
				hang_rule(policy, i, c, false);
	for (size_t i = 0; i < policy->nrules; i++)
		chosen[i] = choose(policy, &policy->rules[i]);
	for (size_t i = 0; i < policy->nbuckets; i++)
		policy->buckets[i].count = 0;
	for (size_t i = 0; i < policy->nrules; i++)
		hang_rule(policy, i, chosen[i], false);
	for (size_t i = 0; i < policy->nbuckets; i++) {
		policy->buckets[i].first = total;
		total += policy->buckets[i].count;
		policy->buckets[i].count = 0;
	}
	for (size_t i = 0; i < policy->nrules; i++)
		hang_rule(policy, i, chosen[i], true);
	free(chosen);
	return 0;
}

/* ---- the search ---- */

struct candidates {
	const uint32_t *at, *end;
};

static void look_at(const struct policy *policy, uint64_t hash, struct candidates *places, size_t *n)
{
	const struct bucket *b = find_bucket(policy, hash, false);

	if (b && b->count)
		places[(*n)++] = (struct candidates){ policy->candidates + b->first, policy->candidates + b->first + b->count };
}

static size_t look_around(const struct policy *policy, const struct subject *s, struct candidates *places)
{
	uint64_t h = hash_start(PLACE_PATH);
	size_t n = 0;

	look_at(policy, hash_id(PLACE_ALL, 0), places, &n);
	look_at(policy, hash_id(PLACE_OWNER, s->file->uid), places, &n);
	look_at(policy, hash_id(PLACE_GROUP, s->file->gid), places, &n);
	if (!s->name)
		return n;
	look_at(policy, hash_suffix(s->name, s->name_len), places, &n);
	look_at(policy, hash_end(hash_bytes(hash_start(PLACE_NAME), s->name, s->name_len)), places, &n);
	for (size_t i = 0; i < s->nparts; i++) {
		h = hash_bytes(h, "/", 1);
		h = hash_bytes(h, s->parts[i].text, s->parts[i].len);
		look_at(policy, hash_end(h), places, &n);
	}
	return n;
}

/* The lowest rule that is left, from all places; policy->nrules: none. */
static uint32_t next_candidate(const struct policy *policy, struct candidates *places, size_t n)
{
	uint32_t lowest = policy->nrules;

	for (size_t i = 0; i < n; i++)
		if (places[i].at < places[i].end && *places[i].at < lowest)
			lowest = *places[i].at;
	for (size_t i = 0; i < n; i++)
		if (places[i].at < places[i].end && *places[i].at == lowest)
			places[i].at++;
	return lowest;
}

int policy_match(const struct policy *policy, const struct policy_file *file, const struct policy_rule **ret_rule)
{
	struct candidates on_stack[PARTS_ON_STACK + PLACES_FIXED], *places = on_stack;
	const struct condition *cause;
	struct subject s;
	uint32_t i;
	size_t n;
	int r;

	r = subject_init(&s, file);
	if (r < 0)
		return r;
	if (s.nparts > PARTS_ON_STACK)
		places = malloc((s.nparts + PLACES_FIXED) * sizeof(*places));
	if (!places) {
		subject_fini(&s);
		return -ENOMEM;
	}
	n = look_around(policy, &s, places);
	do {
		i = next_candidate(policy, places, n);
		r = i < policy->nrules ? rule_takes(&s, &policy->rules[i], &cause) : 1;
	} while (r == 0);
	if (places != on_stack)
		free(places);
	subject_fini(&s);
	if (r < 0)
		return r;
	*ret_rule = &policy->rules[i].public;
	return 0;
}

/* ---- why not ---- */

static void describe(const struct subject *s, const struct condition *c, char *buf, size_t len_bytes)
{
	switch (c->kind) {
	case CONDITION_SIZE:
		if (s->file->has_size)
			snprintf(buf, len_bytes, "its size is %llu", (unsigned long long)s->file->size_bytes);
		else
			snprintf(buf, len_bytes, "its size is not known");
		return;
	case CONDITION_OWNER:
		snprintf(buf, len_bytes, "its owner is uid %u", s->file->uid);
		return;
	case CONDITION_GROUP:
		snprintf(buf, len_bytes, "its group is gid %u", s->file->gid);
		return;
	case CONDITION_XATTR:
		snprintf(buf, len_bytes, c->group == GROUP_NONE ? "it has such an attribute" : "it has no such attribute or another value");
		return;
	default:
		snprintf(buf, len_bytes, "%s", !s->name ? "its path is not known" : c->group == GROUP_NONE ? "that is so" : "that is not so");
	}
}

int policy_why_not(const struct policy *policy, size_t i, const struct policy_file *file, char *buf, size_t len_bytes)
{
	const struct condition *cause = NULL;
	struct subject s;
	char what[80];
	int r;

	*buf = '\0';
	r = subject_init(&s, file);
	if (r < 0)
		return r;
	r = i < policy->nrules ? rule_takes(&s, &policy->rules[i], &cause) : 1;
	if (r == 0) {
		describe(&s, cause, what, sizeof(what));
		snprintf(buf, len_bytes, "line %u: %s%s: %s", cause->line,
			 cause->group == GROUP_ANY && !is_unknown(&s, cause) ? "none of its any.* is met, such as " : "", cause->text, what);
	}
	subject_fini(&s);
	return r < 0 ? r : 0;
}
