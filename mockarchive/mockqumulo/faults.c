/* The list of faults. */
#include "mockarchive/mockqumulo/faults.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct faults {
	struct fault *list[FAULTS_MAX];
	unsigned count, last_id;
};

static const struct kind {
	const char *name;
	enum fault_kind kind;
	unsigned status;
	const char *error_class;
	bool applies;
	unsigned ms;
	size_t bytes;
} kinds[] = {
	{ .name = "401", .kind = FAULT_STATUS, .status = 401, .error_class = "http_unauthorized_error" },
	{ .name = "403", .kind = FAULT_STATUS, .status = 403, .error_class = "fs_access_denied_error" },
	{ .name = "404", .kind = FAULT_STATUS, .status = 404, .error_class = "fs_no_such_entry_error" },
	{ .name = "412", .kind = FAULT_STATUS, .status = 412, .error_class = "rest_precondition_failed_error" },
	{ .name = "429", .kind = FAULT_STATUS, .status = 429, .error_class = "" },
	{ .name = "500", .kind = FAULT_STATUS, .status = 500, .error_class = "internal_error" },
	{ .name = "503", .kind = FAULT_STATUS, .status = 503, .error_class = "" },
	{ .name = "status", .kind = FAULT_STATUS, .error_class = "" },
	{ .name = "not-json", .kind = FAULT_NOT_JSON, .status = 200, .error_class = "" },
	{ .name = "no-lock", .kind = FAULT_NO_LOCK, .error_class = "", .applies = true },
	{ .name = "huge", .kind = FAULT_HUGE, .error_class = "", .applies = true, .bytes = 8 << 20 },
	{ .name = "cut", .kind = FAULT_CUT, .error_class = "", .applies = true, .bytes = 20 },
	{ .name = "close-before", .kind = FAULT_CLOSE_BEFORE, .error_class = "" },
	{ .name = "close-after", .kind = FAULT_CLOSE_AFTER, .error_class = "", .applies = true },
	{ .name = "slow", .kind = FAULT_SLOW, .error_class = "", .applies = true, .ms = 20, .bytes = 64 },
	{ .name = "delay", .kind = FAULT_DELAY, .error_class = "", .applies = true, .ms = 1000 },
	{ .name = "chunked", .kind = FAULT_CHUNKED, .error_class = "", .applies = true, .bytes = 64 },
};

static void fault_free(struct fault *fault)
{
	if (!fault)
		return;
	free(fault->error_class);
	free(fault->method);
	free(fault->path);
	free(fault);
}

/* xorshift64*: the same seed fires at the same requests. */
static double next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (double)((*state * 2685821657736338717ull) >> 11) / (double)(1ull << 53);
}

static bool take_unsigned(json_t *value, uint64_t max, uint64_t *ret)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
		return false;
	*ret = json_integer_value(value);
	return true;
}

static bool take_text(json_t *value, char **ret)
{
	if (!json_is_string(value))
		return false;
	free(*ret);
	*ret = strdup(json_string_value(value));
	return *ret != NULL;
}

static bool take_key(struct fault *fault, const char *key, json_t *value)
{
	uint64_t n = 0;

	if (strcmp(key, "kind") == 0)
		return true;
	if (strcmp(key, "method") == 0)
		return take_text(value, &fault->method);
	if (strcmp(key, "path") == 0)
		return take_text(value, &fault->path);
	if (strcmp(key, "error_class") == 0)
		return take_text(value, &fault->error_class);
	if (strcmp(key, "applies") == 0) {
		fault->applies = json_is_true(value);
		return json_is_boolean(value);
	}
	if (strcmp(key, "retry_after_date") == 0) {
		fault->retry_after_date = json_is_true(value);
		return json_is_boolean(value);
	}
	if (strcmp(key, "probability") == 0) {
		fault->probability = json_number_value(value);
		return json_is_number(value) && fault->probability >= 0 && fault->probability <= 1;
	}
	if (strcmp(key, "skip") == 0)
		return take_unsigned(value, INT64_MAX, &fault->skip);
	if (strcmp(key, "times") == 0)
		return take_unsigned(value, INT64_MAX, &fault->times);
	if (strcmp(key, "nth") == 0) {
		fault->times = 1;
		if (!take_unsigned(value, INT64_MAX, &n) || n == 0)
			return false;
		fault->skip = n - 1;
		return true;
	}
	if (strcmp(key, "seed") == 0 && take_unsigned(value, INT64_MAX, &n)) {
		fault->random = n * 0x9e3779b97f4a7c15ull + 1;
		return true;
	}
	if (strcmp(key, "status") == 0 && take_unsigned(value, 599, &n)) {
		fault->status = n;
		return n >= 200;
	}
	if (strcmp(key, "retry_after") == 0 && take_unsigned(value, 1000000000, &n)) {
		fault->retry_after_s = n;
		return true;
	}
	if (strcmp(key, "ms") == 0 && take_unsigned(value, 3600000, &n)) {
		fault->ms = n;
		return true;
	}
	if (strcmp(key, "bytes") == 0 && take_unsigned(value, 1 << 30, &n)) {
		fault->bytes = n;
		return true;
	}
	return false;
}

static int make(json_t *spec, struct fault **ret_fault, const char **ret_why)
{
	const char *name = json_string_value(json_object_get(spec, "kind")), *key;
	const struct kind *kind = NULL;
	struct fault *fault;
	json_t *value;

	for (size_t i = 0; name && i < ARRAY_SIZE(kinds); i++)
		if (strcmp(name, kinds[i].name) == 0)
			kind = &kinds[i];
	if (!kind) {
		*ret_why = "kind is one of 401, 403, 404, 412, 429, 500, 503, status, not-json, no-lock, huge, cut, close-before, "
			"close-after, slow, delay, chunked";
		return -EINVAL;
	}
	fault = calloc(1, sizeof(*fault));
	if (!fault)
		return -ENOMEM;
	*fault = (struct fault){ .kind = kind->kind, .name = kind->name, .status = kind->status, .applies = kind->applies,
		.ms = kind->ms, .bytes = kind->bytes, .probability = 1, .random = 0x9e3779b97f4a7c15ull };
	fault->error_class = strdup(kind->error_class);
	json_object_foreach(spec, key, value) {
		if (!take_key(fault, key, value)) {
			*ret_why = "unknown key, or a value out of its range";
			fault_free(fault);
			return -EINVAL;
		}
	}
	if (!fault->error_class) {
		fault_free(fault);
		return -ENOMEM;
	}
	if (kind->kind == FAULT_STATUS && !fault->status) {
		*ret_why = "kind status needs a status";
		fault_free(fault);
		return -EINVAL;
	}
	*ret_fault = fault;
	return 0;
}

int faults_open(struct faults **ret_faults)
{
	struct faults *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	*ret_faults = f;
	return 0;
}

void faults_close(struct faults *f)
{
	if (!f)
		return;
	(void)faults_remove(f, 0);	/* none is fine */
	free(f);
}

int faults_add(struct faults *f, json_t *spec, unsigned *ret_id, const char **ret_why)
{
	struct fault *fault;
	int r;

	if (f->count == FAULTS_MAX) {
		*ret_why = "too many faults";
		return -ENOSPC;
	}
	*ret_why = "out of memory";
	r = make(spec, &fault, ret_why);
	if (r < 0)
		return r;
	fault->id = ++f->last_id;
	f->list[f->count++] = fault;
	*ret_id = fault->id;
	return 0;
}

int faults_remove(struct faults *f, unsigned id)
{
	unsigned kept = 0, count = f->count;

	for (unsigned i = 0; i < count; i++) {
		if (id && f->list[i]->id != id)
			f->list[kept++] = f->list[i];
		else
			fault_free(f->list[i]);
	}
	f->count = kept;
	return id && kept == count ? -ENOENT : 0;
}

json_t *faults_json(const struct faults *f)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < f->count; i++) {
		const struct fault *fault = f->list[i];

		json_array_append_new(all, json_pack("{s:i, s:s, s:s?, s:s?, s:I, s:I, s:f, s:I, s:I}", "id", fault->id, "kind", fault->name,
			"method", fault->method, "path", fault->path, "skip", (json_int_t)fault->skip, "times", (json_int_t)fault->times,
			"probability", fault->probability, "matched", (json_int_t)fault->matched, "fired", (json_int_t)fault->fired));
	}
	return all;
}

const struct fault *faults_match(struct faults *f, const char *method, const char *path)
{
	for (unsigned i = 0; i < f->count; i++) {
		struct fault *fault = f->list[i];

		if (fault->method && strcmp(fault->method, method) != 0)
			continue;
		if (fault->path && fnmatch(fault->path, path, 0) != 0)
			continue;
		fault->matched++;
		if (fault->matched <= fault->skip || (fault->times && fault->fired >= fault->times))
			continue;
		if (fault->probability < 1 && next_random(&fault->random) >= fault->probability)
			continue;
		fault->fired++;
		return fault;
	}
	return NULL;
}
