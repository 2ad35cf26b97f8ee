/* A policy from its file: sections in order, everything checked before anything is used. */
#include "lockstore/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/policy_private.h"
#include "lockstore/staging.h"

struct parser {
	struct ini_text ini;
	struct policy *policy;
	struct rule *rule;		/* the section that is read, or NULL */
};

#define report(p, ...) ini_text_report(&(p)->ini, __VA_ARGS__)

void *policy_alloc(struct policy *policy, size_t size_bytes)
{
	struct chunk *chunk = calloc(1, sizeof(*chunk) + size_bytes);

	if (!chunk)
		return NULL;
	chunk->next = policy->chunks;
	policy->chunks = chunk;
	return chunk->data;
}

char *policy_strdup(struct policy *policy, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = policy_alloc(policy, size);

	return copy ? memcpy(copy, text, size) : NULL;
}

static const struct policy_settings *inherited(const struct policy *policy)
{
	return &policy->base;
}

/* The section that ends: with the next one, or with the file. */
static int end_rule(struct parser *p)
{
	char why[200];

	if (!p->rule || p->ini.r < 0)
		return p->ini.r;
	if (policy_rule_check(p->policy, p->rule, why, sizeof(why)) < 0)
		return report(p, -EINVAL, p->rule->public.line, "rule '%s': %s", p->rule->public.name, why);
	return 0;
}

static bool is_rule_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t len = strlen(name);

	return len > 0 && len <= POLICY_NAME_MAX_BYTES && strchr(letters, name[0]) &&
	       name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] == '\0';
}

/* "[name]" */
static int begin_rule(struct parser *p, const char *line)
{
	struct policy *policy = p->policy;
	char name[256];
	size_t len = strcspn(line + 1, "]");

	if (end_rule(p) < 0)
		return p->ini.r;
	snprintf(name, sizeof(name), "%.*s", (int)(len < 200 ? len : 200), line + 1);
	if (line[len + 1] != ']')
		return report(p, -EINVAL, p->ini.line, "the ']' of a section is missing");
	if (line[len + 2 + strspn(line + len + 2, " \t\r\n")] && !strchr(";#", line[len + 2 + strspn(line + len + 2, " \t\r\n")]))
		return report(p, -EINVAL, p->ini.line, "there is more behind the ']' of section '%s': put it on a line of its own", name);
	if (!is_rule_name(name))
		return report(p, -EINVAL, p->ini.line, "'%s' is no name for a rule: 1-%d letters, digits, '_', '.' or '-', a letter or digit first",
			      name, POLICY_NAME_MAX_BYTES);
	if (policy->nrules && !policy->rules[policy->nrules - 1].conditions)
		return report(p, -EINVAL, p->ini.line, "no file gets here: rule '%s' before it has no condition and takes every file; "
			      "make it the last one", policy->rules[policy->nrules - 1].public.name);
	if (policy->nrules == POLICY_RULES_MAX)
		return report(p, -EINVAL, p->ini.line, "more than %d rules", POLICY_RULES_MAX);
	if (policy->nrules + 1 >= policy->max_rules) {
		size_t max = policy->max_rules ? policy->max_rules * 2 : 16;
		struct rule *rules = realloc(policy->rules, max * sizeof(*rules));

		if (!rules)
			return report(p, -ENOMEM, 0, "out of memory");
		policy->rules = rules;
		policy->max_rules = max;
	}
	p->rule = &policy->rules[policy->nrules];
	memset(p->rule, 0, sizeof(*p->rule));
	p->rule->public.set = *inherited(policy);
	p->rule->public.set.given = 0;
	p->rule->public.line = p->ini.line;
	p->rule->public.name = policy_strdup(policy, name);
	if (!p->rule->public.name)
		return report(p, -ENOMEM, 0, "out of memory");
	policy->nrules++;
	return 0;
}

static int on_section(void *arg, const char *line, size_t len)
{
	struct parser *p = arg;
	char *copy = strndup(line, len);
	int r = copy ? begin_rule(p, copy) : report(p, -ENOMEM, 0, "out of memory");

	free(copy);
	return r;
}

static int on_key(void *arg, const char *key, const char *value)
{
	struct parser *p = arg;
	char why[300];
	int r;

	if (!p->rule)
		return report(p, -EINVAL, p->ini.line, "'%.40s' stands before the first section: begin a rule with [NAME]", key);
	r = policy_key(p->policy, p->rule, p->ini.line, key, value, why, sizeof(why));
	return r == 0 ? 0 : report(p, r, p->ini.line, "%s", r == -ENOMEM ? "out of memory" : why);
}

static int compare_names(const void *a, const void *b)
{
	const struct rule *x = *(struct rule *const *)a, *y = *(struct rule *const *)b;
	int order = strcmp(x->public.name, y->public.name);

	return order ? order : x->public.line < y->public.line ? -1 : 1;
}

/* A name is what a record and the ledger say: it must be one rule's. */
static int check_names(struct parser *p)
{
	struct policy *policy = p->policy;
	struct rule **sorted = calloc(policy->nrules + 1, sizeof(*sorted));

	if (!sorted)
		return report(p, -ENOMEM, 0, "out of memory");
	for (size_t i = 0; i < policy->nrules; i++)
		sorted[i] = &policy->rules[i];
	qsort(sorted, policy->nrules, sizeof(*sorted), compare_names);
	for (size_t i = 1; i < policy->nrules; i++)
		if (strcmp(sorted[i]->public.name, sorted[i - 1]->public.name) == 0)
			report(p, -EINVAL, sorted[i]->public.line, "there is a rule '%s' already, at line %u: choose another name",
			       sorted[i]->public.name, sorted[i - 1]->public.line);
	free(sorted);
	return p->ini.r;
}

const struct policy_settings *policy_default_settings(void)
{
	static struct policy_settings set = {
		.commit = COMMIT_CLOSE,
		.retention.kind = RETENTION_IS_UNSPECIFIED,
		.min.kind = RETENTION_PERIOD,
		.max = { .kind = RETENTION_PERIOD, .months = 100 * 12 },
		.digest = true,
		.staging_globs = STAGING_DEFAULT,
	};

	return &set;
}

/* What parsing needs of it even without a rule. */
static int add_base(struct policy *policy)
{
	struct rule *rules = realloc(policy->rules, (policy->nrules + 1) * sizeof(*rules));

	if (!rules)
		return -ENOMEM;
	policy->rules = rules;
	policy->rules[policy->nrules] = (struct rule){ .public = { .name = "", .set = policy->base } };
	for (policy->nby_number = 2; policy->nby_number < 2 * policy->nrules + 2;)
		policy->nby_number *= 2;
	policy->by_number = calloc(policy->nby_number, sizeof(*policy->by_number));
	return policy->by_number ? 0 : -ENOMEM;
}

static int open_base(struct policy *policy, const struct policy_settings *base)
{
	struct staging *staging;
	int r;

	policy->base = base ? *base : *policy_default_settings();
	if (policy->base.staging)
		return 0;
	r = staging_open(policy->base.staging_globs, &staging);
	if (r < 0)
		return r;
	policy->stagings = malloc(sizeof(*policy->stagings));
	if (!policy->stagings) {
		staging_close(staging);
		return -ENOMEM;
	}
	policy->stagings[policy->nstagings++] = staging;
	policy->base.staging = staging;
	return 0;
}

int policy_parse(const char *name, const char *text, size_t len_bytes, const struct policy_settings *base,
		 struct policy **ret_policy, struct ini_error *ret_error)
{
	static const struct ini_reader reader = { .section = on_section, .key = on_key,
						  .too_long = ": give the key again in the next line for more values" };
	struct parser p = { .policy = calloc(1, sizeof(*p.policy)) };

	ini_text_begin(&p.ini, name, ret_error);
	if (!p.policy)
		return report(&p, -ENOMEM, 0, "out of memory");
	atomic_init(&p.policy->refs, 1);
	if (open_base(p.policy, base) < 0)
		report(&p, -ENOMEM, 0, "out of memory");
	if (len_bytes > POLICY_FILE_MAX_BYTES)
		report(&p, -EINVAL, 0, "it is larger than %d MiB", POLICY_FILE_MAX_BYTES >> 20);
	(void)ini_text_parse(&p.ini, text, len_bytes, &reader, &p);
	end_rule(&p);
	check_names(&p);
	if (p.ini.r == 0 && (add_base(p.policy) < 0 || policy_index(p.policy) < 0))
		report(&p, -ENOMEM, 0, "out of memory");
	if (p.ini.r < 0) {
		policy_put(p.policy);
		return p.ini.r;
	}
	*ret_policy = p.policy;
	return 0;
}

int policy_open(const char *path, int flags, const struct policy_settings *base, struct policy **ret_policy,
		struct ini_error *ret_error)
{
	struct ini_text ini;
	char *text = NULL;
	size_t len;
	int r;

	ini_text_begin(&ini, path, ret_error);
	r = ini_text_load(&ini, path, flags & POLICY_TRUSTED, POLICY_FILE_MAX_BYTES, &text, &len);
	if (r == 0)
		r = policy_parse(path, text, len, base, ret_policy, ret_error);
	free(text);
	return r;
}

struct policy *policy_get(struct policy *policy)
{
	atomic_fetch_add_explicit(&policy->refs, 1, memory_order_relaxed);
	return policy;
}

static void free_conditions(struct condition *c)
{
	for (; c; c = c->next)
		for (struct alternative *a = c->alternatives; a; a = a->next)
			path_glob_close(a->path);
}

void policy_put(struct policy *policy)
{
	struct chunk *next;

	if (!policy || atomic_fetch_sub_explicit(&policy->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < policy->nrules; i++)
		free_conditions(policy->rules[i].conditions);
	for (size_t i = 0; i < policy->nstagings; i++)
		staging_close(policy->stagings[i]);
	for (struct chunk *chunk = policy->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(policy->stagings);
	free(policy->rules);
	free(policy->buckets);
	free(policy->candidates);
	free(policy->by_number);
	free(policy);
}

size_t policy_count(const struct policy *policy)
{
	return policy->nrules;
}

const struct policy_rule *policy_at(const struct policy *policy, size_t i)
{
	return &policy->rules[i].public;
}

const struct policy_rule *policy_find(const struct policy *policy, const char *name)
{
	for (size_t i = 0; i <= policy->nrules; i++)
		if (strcmp(policy->rules[i].public.name, name) == 0)
			return &policy->rules[i].public;
	return NULL;
}

const struct policy_rule *policy_by_number(const struct policy *policy, uint16_t number)
{
	size_t mask = policy->nby_number - 1;

	if (number == 0)
		return &policy->rules[policy->nrules].public;
	for (size_t i = number & mask; policy->by_number[i]; i = (i + 1) & mask)
		if (policy->rules[policy->by_number[i] - 1].public.number == number)
			return &policy->rules[policy->by_number[i] - 1].public;
	return NULL;
}

void policy_set_number(struct policy *policy, size_t i, uint16_t number)
{
	size_t mask = policy->nby_number - 1, at = number & mask;

	policy->rules[i].public.number = number;
	while (policy->by_number[at])
		at = (at + 1) & mask;
	policy->by_number[at] = i + 1;
}

int64_t policy_clamp(const struct policy_settings *set, int64_t until_s, int64_t now_s)
{
	int64_t lo_s = retention_until(&set->min, now_s), hi_s = retention_until(&set->max, now_s);

	if (until_s == RETENTION_UNSPECIFIED)
		return until_s;
	if (until_s == RETENTION_INFINITE)
		return set->has_max ? hi_s : until_s;
	if (until_s < lo_s)
		return lo_s;
	return until_s > hi_s ? hi_s : until_s;
}

int64_t policy_until(const struct policy_settings *set, int64_t now_s)
{
	return policy_clamp(set, retention_until(&set->retention, now_s), now_s);
}

uint16_t policy_number_of_name(const char *name)
{
	uint32_t h = 2166136261u;	/* FNV-1a, folded to 16 bits */

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	h = (h ^ h >> 16) & 0xffff;
	return h ? h : 1;
}

const char *policy_condition(const struct policy *policy, size_t i, size_t n)
{
	const struct condition *c = policy->rules[i].conditions;

	for (; c && n > 0; n--)
		c = c->next;
	return c ? c->text : NULL;
}
