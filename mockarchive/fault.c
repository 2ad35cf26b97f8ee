/* The list of rules. `lock` guards all of it and is never held while a callback runs; `nenabled` is also read without it,
 * so that a mock without rules pays one load a question. */
#include "mockarchive/fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/fault_rule.h"

struct faults {
	fault_fired_fn *fired;
	fault_changed_fn *changed;
	void *arg;
	atomic_uint nenabled;
	pthread_mutex_t lock;
	struct fault_rule *rule[FAULT_RULES_MAX];	/* in the order they were made */
	unsigned n;
	uint64_t last_number, total_fired;
};

int faults_open(fault_fired_fn *fired, fault_changed_fn *changed, void *arg, struct faults **ret_faults)
{
	struct faults *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->fired = fired;
	f->changed = changed;
	f->arg = arg;
	pthread_mutex_init(&f->lock, NULL);
	*ret_faults = f;
	return 0;
}

static void drop_locked(struct faults *f, unsigned i)
{
	fault_rule_fini(f->rule[i]);
	free(f->rule[i]);
	f->n--;
	memmove(&f->rule[i], &f->rule[i + 1], (f->n - i) * sizeof(f->rule[0]));
}

void faults_close(struct faults *f)
{
	if (!f)
		return;
	while (f->n)
		drop_locked(f, f->n - 1);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static void count_enabled_locked(struct faults *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++)
		n += f->rule[i]->enabled;
	atomic_store(&f->nenabled, n);
}

static void expire_locked(struct faults *f, int64_t now_ns)
{
	for (unsigned i = f->n; i-- > 0;)
		if (now_ns >= f->rule[i]->expires_ns)
			drop_locked(f, i);
	count_enabled_locked(f);
}

/* The part of `when` that remembers: this match is the `matched`th. */
static bool is_due(struct fault_rule *rule)
{
	int64_t nth = ++rule->matched;
	double dice;

	if (nth <= rule->after || (rule->first && nth > rule->first))
		return false;
	if (rule->every && (nth - rule->after) % rule->every)
		return false;
	if (rule->probability >= 1)
		return true;
	dice = (double)(fault_random(&rule->random) >> 11) / (double)(UINT64_C(1) << 53);
	return dice < rule->probability;
}

static void merge(struct fault_verdict *v, struct fault_rule *rule, const struct fault_query *q)
{
	unsigned does = rule->does & q->can, is_new = does & ~v->did;

	if (does & FAULT_DO_DELAY) {
		v->delay_ns += rule->action.delay_ns;
		if (rule->jitter_ns)
			v->delay_ns += fault_random(&rule->random) % (uint64_t)(rule->jitter_ns + 1);
	}
	if (does & FAULT_DO_RATE && (!v->rate_bytes_s || rule->action.rate_bytes_s < v->rate_bytes_s))
		v->rate_bytes_s = rule->action.rate_bytes_s;
	if (is_new & FAULT_DO_ERRNO)
		v->error = rule->action.error;
	if (is_new & FAULT_DO_HANG) {
		v->hang = rule->action.hang;
		v->hang_number = rule->number;
	}
	if (is_new & FAULT_DO_CORRUPT) {
		v->corrupt = rule->action.corrupt;
		v->corrupt.seed = fault_random(&rule->random);
		v->corrupt.size_bytes = q->size_bytes;
	}
	if (is_new & FAULT_DO_FLAG)
		v->flag = rule->action.flag;
	if (is_new & FAULT_DO_REPLICA)
		v->replica = rule->action.replica;
	if (is_new & FAULT_DO_REST)
		v->rest = rule->action.rest;
	if (is_new & FAULT_DO_HTTP_STATUS)
		v->http_status = rule->action.http_status;
	if (is_new & FAULT_DO_ENOSPC)
		v->enospc_at_bytes = rule->action.enospc_at_bytes;
	if (is_new & FAULT_DO_STATFS) {
		v->statfs_total_bytes = rule->action.statfs_total_bytes;
		v->statfs_free_bytes = rule->action.statfs_free_bytes;
	}
	if (is_new & FAULT_DO_SIZE)
		v->size_delta_bytes = rule->action.size_delta_bytes;
	if (is_new & FAULT_DO_MTIME)
		v->mtime_delta_s = rule->action.mtime_delta_s;
	if (is_new & FAULT_DO_BLOCKS)
		v->blocks = rule->action.blocks;
	v->did |= does;
	if (v->nfired < FAULT_FIRED_MAX)
		strcpy(v->fired[v->nfired++], rule->id);
}

void faults_ask(struct faults *f, const struct fault_query *query, struct fault_verdict *ret_verdict)
{
	*ret_verdict = (struct fault_verdict){ .statfs_total_bytes = -1, .statfs_free_bytes = -1 };
	if (!atomic_load_explicit(&f->nenabled, memory_order_relaxed))
		return;
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n; i++) {
		struct fault_rule *rule = f->rule[i];

		if (!fault_rule_matches(rule, query) || !is_due(rule))
			continue;
		/* A write below the mark is allowed: the rule has not fired yet. */
		if (rule->does & query->can & FAULT_DO_ENOSPC && query->offset_bytes + query->len_bytes <= rule->action.enospc_at_bytes)
			continue;
		rule->hits++;
		rule->last_hit_ns = query->now_ns;
		f->total_fired++;
		merge(ret_verdict, rule, query);
	}
	pthread_mutex_unlock(&f->lock);
	for (unsigned i = 0; f->fired && i < ret_verdict->nfired; i++)
		f->fired(f->arg, ret_verdict->fired[i], query, ret_verdict);
}

bool faults_covers(struct faults *f, enum fault_point point)
{
	bool covers = false;

	if (!atomic_load_explicit(&f->nenabled, memory_order_relaxed))
		return false;
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n && !covers; i++)
		covers = f->rule[i]->enabled && f->rule[i]->points >> point & 1;
	pthread_mutex_unlock(&f->lock);
	return covers;
}

bool faults_has_number(struct faults *f, uint64_t number, int64_t now_ns)
{
	bool there = false;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->n && !there; i++)
		there = f->rule[i]->number == number && f->rule[i]->enabled && now_ns < f->rule[i]->expires_ns &&
			now_ns < f->rule[i]->until_ns;
	pthread_mutex_unlock(&f->lock);
	return there;
}

static void spoil(const struct fault_corrupt *c, int64_t at, int64_t offset, unsigned char *bytes, size_t len)
{
	if (at >= offset && (uint64_t)(at - offset) < len)
		bytes[at - offset] ^= 1u << (c->seed & 7);
}

void fault_corrupt_bytes(const struct fault_corrupt *c, int64_t offset_bytes, void *bytes, size_t len_bytes)
{
	int64_t start = c->offset_bytes, size = c->size_bytes > 0 ? c->size_bytes : offset_bytes + (int64_t)len_bytes, end;
	uint64_t random = c->seed;

	if (!len_bytes)
		return;
	if (c->how == FAULT_CORRUPT_FLIP) {
		for (int64_t i = 0; i < c->len_bytes; i++)
			spoil(c, start >= 0 ? start + i : (int64_t)(fault_random(&random) % (uint64_t)size), offset_bytes, bytes, len_bytes);
		return;
	}
	if (c->how != FAULT_CORRUPT_ZERO)
		return;
	if (start < 0)
		start = (int64_t)(fault_random(&random) % (uint64_t)size);
	end = start + c->len_bytes;
	if (start < offset_bytes)
		start = offset_bytes;
	if (end > offset_bytes + (int64_t)len_bytes)
		end = offset_bytes + (int64_t)len_bytes;
	if (start < end)
		memset((char *)bytes + (start - offset_bytes), 0, (size_t)(end - start));
}

int64_t fault_corrupt_size(const struct fault_corrupt *c, int64_t size_bytes)
{
	if (c->how == FAULT_CORRUPT_EXTEND)
		return size_bytes + c->len_bytes;
	if (c->how != FAULT_CORRUPT_TRUNCATE)
		return size_bytes;
	if (c->offset_bytes >= 0)
		return c->offset_bytes < size_bytes ? c->offset_bytes : size_bytes;
	return size_bytes > c->len_bytes ? size_bytes - c->len_bytes : 0;
}

static int find_locked(const struct faults *f, const char *id)
{
	for (unsigned i = 0; i < f->n; i++)
		if (strcmp(f->rule[i]->id, id) == 0)
			return (int)i;
	return -ENOENT;
}

static void tell_changed(struct faults *f)
{
	if (f->changed)
		f->changed(f->arg);
}

int faults_add(struct faults *f, const json_t *json, int64_t now_ns, char ret_id[FAULT_ID_BYTES], char *ret_why)
{
	struct fault_rule *rule = calloc(1, sizeof(*rule));
	int r;

	if (!rule)
		return -ENOMEM;
	r = fault_rule_init(rule, json, now_ns, ret_why);
	if (r < 0) {
		free(rule);
		return r;
	}
	pthread_mutex_lock(&f->lock);
	expire_locked(f, now_ns);
	rule->number = ++f->last_number;
	for (uint64_t n = rule->number; !*rule->id; n++) {
		snprintf(rule->id, sizeof(rule->id), "fault-%llu", (unsigned long long)n);
		if (find_locked(f, rule->id) >= 0)
			*rule->id = '\0';
	}
	if (find_locked(f, rule->id) >= 0) {
		snprintf(ret_why, FAULT_WHY_BYTES, "there is a rule '%s': remove it, change it, or choose another id", rule->id);
		r = -EEXIST;
	} else if (f->n == FAULT_RULES_MAX) {
		snprintf(ret_why, FAULT_WHY_BYTES, "there are %d rules, no more fit: remove some", FAULT_RULES_MAX);
		r = -ENOSPC;
	} else {
		strcpy(ret_id, rule->id);
		f->rule[f->n++] = rule;
		count_enabled_locked(f);
	}
	pthread_mutex_unlock(&f->lock);
	if (r < 0) {
		fault_rule_fini(rule);
		free(rule);
		return r;
	}
	tell_changed(f);
	return 0;
}

int faults_change(struct faults *f, const char *id, const json_t *fields, int64_t now_ns, char *ret_why)
{
	struct fault_rule *rule, *changed = calloc(1, sizeof(*changed));
	json_t *whole = NULL, *hits = json_object_get(fields, "hits"), *renamed = json_object_get(fields, "id");
	int i, r;

	if (!changed)
		return -ENOMEM;
	pthread_mutex_lock(&f->lock);
	i = find_locked(f, id);
	if (i < 0) {
		snprintf(ret_why, FAULT_WHY_BYTES, "there is no rule '%.64s'", id);
		r = i;
		goto out;
	}
	rule = f->rule[i];
	if (!json_is_object(fields) || (renamed && (!json_is_string(renamed) || strcmp(json_string_value(renamed), id) != 0))) {
		snprintf(ret_why, FAULT_WHY_BYTES, "the fields to change are a JSON object, and the id stays");
		r = -EINVAL;
		goto out;
	}
	whole = fault_rule_json(rule);
	if (json_object_get(fields, "ttl"))
		json_object_del(whole, "expires");
	json_object_update(whole, (json_t *)fields);
	r = fault_rule_init(changed, whole, now_ns, ret_why);
	if (r < 0)
		goto out;
	changed->number = changed->enabled ? rule->number : ++f->last_number;	/* disabled and enabled again hangs nobody from before */
	if (!json_is_integer(hits) || json_integer_value(hits) != 0) {
		changed->matched = rule->matched;
		changed->hits = rule->hits;
		changed->last_hit_ns = rule->last_hit_ns;
		changed->random = rule->random;
	}
	fault_rule_fini(rule);
	*rule = *changed;
	count_enabled_locked(f);
out:
	pthread_mutex_unlock(&f->lock);
	json_decref(whole);
	free(changed);
	if (r == 0)
		tell_changed(f);
	return r;
}

int faults_remove(struct faults *f, const char *id)
{
	int i;

	pthread_mutex_lock(&f->lock);
	i = find_locked(f, id);
	if (i >= 0) {
		drop_locked(f, (unsigned)i);
		count_enabled_locked(f);
	}
	pthread_mutex_unlock(&f->lock);
	if (i < 0)
		return i;
	tell_changed(f);
	return 0;
}

void faults_clear(struct faults *f)
{
	pthread_mutex_lock(&f->lock);
	while (f->n)
		drop_locked(f, f->n - 1);
	count_enabled_locked(f);
	pthread_mutex_unlock(&f->lock);
	tell_changed(f);
}

json_t *faults_get(struct faults *f, const char *id, int64_t now_ns)
{
	json_t *json = NULL;
	int i;

	pthread_mutex_lock(&f->lock);
	expire_locked(f, now_ns);
	i = find_locked(f, id);
	if (i >= 0)
		json = fault_rule_json(f->rule[i]);
	pthread_mutex_unlock(&f->lock);
	return json;
}

json_t *faults_list(struct faults *f, int64_t now_ns)
{
	json_t *list = json_array();

	pthread_mutex_lock(&f->lock);
	expire_locked(f, now_ns);
	for (unsigned i = 0; i < f->n; i++)
		json_array_append_new(list, fault_rule_json(f->rule[i]));
	pthread_mutex_unlock(&f->lock);
	return list;
}

void faults_count(struct faults *f, unsigned *ret_rules, unsigned *ret_enabled, uint64_t *ret_fired)
{
	pthread_mutex_lock(&f->lock);
	*ret_rules = f->n;
	*ret_enabled = atomic_load(&f->nenabled);
	*ret_fired = f->total_fired;
	pthread_mutex_unlock(&f->lock);
}
