/* /v1/files: what is where, and orders about single files. */
#include "mockarchive/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/fault_rule.h"

static int add_file(void *arg, const struct archive_file *file)
{
	return json_array_append_new(arg, api_file_json(file)) < 0 ? -ENOMEM : 0;
}

static int put_file(void *arg, const struct archive_file *file)
{
	json_t **json = arg;

	*json = api_file_json(file);
	return 0;
}

static json_t *find(struct archive *a, const char *path, int *ret_error)
{
	json_t *json = NULL;

	*ret_error = archive_find(a, path, put_file, &json);
	return json;
}

void api_files_list(struct api_call *call)
{
	bool bad = false;
	char *states = api_query(call, "state", &bad), *prefix = NULL, clean[API_PATH_MAX_BYTES];
	unsigned bits = 0;
	int64_t after = 0, limit = 0;
	uint64_t next = 0;
	json_t *files = NULL;
	int r;

	if (!bad)
		prefix = api_query(call, "prefix", &bad);
	if (bad || (states && !api_states(call, states, &bits)) ||
	    !api_query_number(call, "after", 0, 0, INT64_MAX, &after) || !api_query_number(call, "limit", 100, 1, API_LIST_MAX, &limit))
		goto out;
	if (prefix && api_clean_path(prefix, strlen(prefix), clean) < 0) {
		api_problem(call, 400, NULL, "'prefix' must be a path from the root of the mount");
		goto out;
	}
	files = json_array();
	r = archive_list(call->api->archive, bits, prefix && *clean ? clean : NULL, (uint64_t)after, (unsigned)limit, add_file, files, &next);
	if (r < 0) {
		json_decref(files);
		api_error(call, r, "list", prefix ? prefix : "/");
		goto out;
	}
	api_json(call, 200, json_pack("{s:o, s:o}", "files", files, "next", next ? json_integer((json_int_t)next) : json_null()));
out:
	free(states);
	free(prefix);
}

void api_files_get(struct api_call *call)
{
	char path[API_PATH_MAX_BYTES];
	json_t *file;
	int r = api_clean_path(call->rest, call->rest_len, path);

	file = r < 0 ? NULL : find(call->api->archive, path, &r);
	if (file)
		api_json(call, 200, file);
	else
		api_error(call, r, "show", path);
}

/* What an order takes besides the path. */
struct order {
	struct api_call *call;
	const json_t *body;
	int copy;
	bool force, unavailable;
	int64_t pin_ns;
	const char *request_id;
	struct fault_corrupt corrupt;
};

static int do_archive(struct order *o, const char *path) { return archive_archive(o->call->api->archive, path); }
static int do_release(struct order *o, const char *path) { return archive_release(o->call->api->archive, path, o->force); }
static int do_recall(struct order *o, const char *path) { return archive_recall(o->call->api->archive, path, o->pin_ns, o->request_id); }
static int do_cancel(struct order *o, const char *path) { return archive_cancel(o->call->api->archive, path); }
static int do_evict(struct order *o, const char *path) { return archive_evict(o->call->api->archive, path); }
static int do_pin(struct order *o, const char *path) { return archive_pin(o->call->api->archive, path, o->pin_ns, NULL); }
static int do_lose(struct order *o, const char *path) { return archive_lose(o->call->api->archive, path, o->copy); }
static int do_damage(struct order *o, const char *path) { return archive_damage(o->call->api->archive, path, o->copy); }
static int do_corrupt(struct order *o, const char *path) { return archive_corrupt(o->call->api->archive, path, o->copy, &o->corrupt); }
static int do_unavailable(struct order *o, const char *path) { return archive_unavailable(o->call->api->archive, path, o->unavailable); }
static int do_mend(struct order *o, const char *path) { return archive_mend(o->call->api->archive, path); }
static int do_delete(struct order *o, const char *path) { return archive_delete(o->call->api->archive, path); }

static const struct {
	const char *name, *keys;
	int (*fn)(struct order *order, const char *path);
} orders[] = {
	{ "archive", "path,path_b64,paths", do_archive },
	{ "release", "path,path_b64,paths,force", do_release },
	{ "recall", "path,path_b64,paths,pin,request_id", do_recall },
	{ "cancel", "path,path_b64,paths", do_cancel },
	{ "evict", "path,path_b64,paths", do_evict },
	{ "pin", "path,path_b64,paths,pin", do_pin },
	{ "lose", "path,path_b64,paths,copy", do_lose },
	{ "damage", "path,path_b64,paths,copy", do_damage },
	{ "corrupt", "path,path_b64,paths,copy,corrupt", do_corrupt },
	{ "unavailable", "path,path_b64,paths,unavailable", do_unavailable },
	{ "mend", "path,path_b64,paths", do_mend },
	{ "delete", "path,path_b64,paths", do_delete },
};
#define NORDERS (sizeof(orders) / sizeof(orders[0]))

static bool invalid(struct order *o, const char *what)
{
	api_problem(o->call, 400, "JSON Validation error", "%s", what);
	return false;
}

static bool read_order(struct order *o)
{
	json_t *copy = json_object_get(o->body, "copy"), *pin = json_object_get(o->body, "pin"), *force = json_object_get(o->body, "force");
	json_t *away = json_object_get(o->body, "unavailable"), *id = json_object_get(o->body, "request_id");
	json_t *corrupt = json_object_get(o->body, "corrupt");
	char why[FAULT_WHY_BYTES];

	o->copy = 1;
	if (copy) {
		const char *text = json_string_value(copy);

		if (text && strcmp(text, "tape") == 0)
			o->copy = 1;
		else if (text && strcmp(text, "replica") == 0)
			o->copy = 2;
		else if (text && strcmp(text, "both") == 0)
			o->copy = 0;
		else
			return invalid(o, "'copy' must be \"tape\", \"replica\" or \"both\"");
	}
	o->pin_ns = pin ? api_ns(pin) : 0;
	if (o->pin_ns < 0)
		return invalid(o, "'pin' must be seconds, 0 or more");
	if ((force && !json_is_boolean(force)) || (away && !json_is_boolean(away)))
		return invalid(o, "'force' and 'unavailable' must be true or false");
	o->force = json_is_true(force);
	o->unavailable = !json_is_false(away);
	if (id && (!json_is_string(id) || json_string_length(id) > 63))
		return invalid(o, "'request_id' must be a text of at most 63 bytes");
	o->request_id = json_string_value(id);
	o->corrupt = (struct fault_corrupt){ .how = FAULT_CORRUPT_FLIP, .offset_bytes = -1, .len_bytes = 1, .size_bytes = -1 };
	if (corrupt && fault_corrupt_parse(corrupt, &o->corrupt, why) < 0)
		return invalid(o, why);
	return true;
}

static const char *errno_text(int error)
{
	return strerrorname_np(-error) ? strerrorname_np(-error) : "EIO";
}

static void act_on_list(struct order *o, size_t which, const json_t *paths)
{
	json_t *results = json_array();
	char path[API_PATH_MAX_BYTES];
	unsigned failed = 0;

	for (size_t i = 0; i < json_array_size(paths); i++) {
		const json_t *item = json_array_get(paths, i);
		json_t *one = json_object();
		int r = !json_is_string(item) ? -EINVAL : api_clean_path(json_string_value(item), json_string_length(item), path);

		r = r < 0 ? r : orders[which].fn(o, path);
		json_object_set_new(one, "path", json_is_string(item) ? json_incref((json_t *)item) : json_null());
		json_object_set_new(one, "errno", r < 0 ? json_string(errno_text(r)) : json_null());
		failed += r < 0;
		json_array_append_new(results, one);
	}
	api_json(o->call, 200, json_pack("{s:o, s:i}", "results", results, "failed", (int)failed));
}

void api_files_act(struct api_call *call)
{
	struct order order = { .call = call };
	char path[API_PATH_MAX_BYTES];
	json_t *body, *paths, *file;
	size_t which = 0;
	int r;

	while (which < NORDERS && strcmp(orders[which].name, call->rest) != 0)
		which++;
	if (which == NORDERS) {
		api_problem(call, 404, NULL, "'%.60s' is nothing that can be done with a file", call->rest);
		return;
	}
	body = api_body(call);
	if (!body)
		return;
	order.body = body;
	if (!api_keys_are(call, body, orders[which].keys) || !read_order(&order))
		goto out;
	paths = json_object_get(body, "paths");
	if (paths) {
		if (json_is_array(paths))
			act_on_list(&order, which, paths);
		else
			(void)invalid(&order, "'paths' must be a list of paths");
		goto out;
	}
	if (!api_path_of(call, body, path))
		goto out;
	r = orders[which].fn(&order, path);
	if (r < 0) {
		api_error(call, r, orders[which].name, path);
		goto out;
	}
	file = find(call->api->archive, path, &r);
	if (file)
		api_json(call, 200, file);
	else
		api_empty(call, 204);	/* deleted, by this order or meanwhile */
out:
	json_decref(body);
}
