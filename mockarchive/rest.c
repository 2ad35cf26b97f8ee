/* The endpoints. What is asked of a request is looked up in the archive at each poll.
 * Source of names and codes: WLCG Tape REST API reference document, version 1. */
#include "mockarchive/rest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/api.h"
#include "mockarchive/stage.h"

/* ---- faults of endpoints ---- */

#define CAN (FAULT_DO_DELAY | FAULT_DO_HANG | FAULT_DO_HTTP_STATUS | FAULT_DO_REST)

/* True: the call is answered already. */
static bool misbehave(struct api_call *call, enum fault_point point, const char *path, struct fault_verdict *v)
{
	struct fault_query query = { .point = point, .can = CAN, .path = path, .size_bytes = -1, .now_ns = archive_now_ns(call->api->archive) };

	faults_ask(archive_faults(call->api->archive), &query, v);
	call->delay_ns = v->delay_ns;
	call->hang_number = v->did & FAULT_DO_HANG ? v->hang_number : 0;
	if (v->did & FAULT_DO_HTTP_STATUS) {
		api_problem(call, (unsigned)v->http_status, NULL, "fault '%s'", v->fired[0]);
		return true;
	}
	switch (v->did & FAULT_DO_REST ? v->rest : FAULT_REST_NONE) {
	case FAULT_REST_EXPIRED:
		api_problem(call, 404, "Not found", "this request has expired");
		return true;
	case FAULT_REST_DROP:
		call->drop = true;
		return true;
	default:
		return false;
	}
}

/* After the answer was made: cut it, or take it away. */
static void spoil(struct api_call *call, const struct fault_verdict *v)
{
	enum fault_rest rest = v->did & FAULT_DO_REST ? v->rest : FAULT_REST_NONE;
	char *text;

	if (rest == FAULT_REST_EMPTY)
		api_text(call, call->status, "application/json", strdup(""), 0);
	if (rest != FAULT_REST_BAD_JSON)
		return;
	text = call->json ? json_dumps(call->json, JSON_COMPACT) : strdup("{\"");
	if (text && strlen(text) > 2)
		text[strlen(text) / 2] = '\0';
	api_text(call, call->status, "application/json", text, text ? strlen(text) : 0);
}

/* ---- discovery ---- */

static void base_uri(struct api_call *call, char *buf, size_t len_bytes)
{
	const char *host = call->header(call, "Host"), *scheme = call->header(call, "X-Forwarded-Proto");
	bool https = scheme && strcmp(scheme, "https") == 0;

	snprintf(buf, len_bytes, "%s://%.200s/api/v1", https ? "https" : "http", host && *host ? host : "localhost");
}

void rest_wellknown(struct api_call *call)
{
	struct fault_verdict v;
	char uri[256];

	if (misbehave(call, FAULT_REST_WELLKNOWN, NULL, &v))
		return;
	base_uri(call, uri, sizeof(uri));
	api_json(call, 200, json_pack("{s:s, s:s, s:[{s:s, s:s, s:{}}]}", "sitename", call->api->rest->site, "description",
				      "mockarchive, a tape archive for tests", "endpoints", "uri", uri, "version", "v1", "metadata"));
	spoil(call, &v);
}

/* ---- stage ---- */

static bool invalid(struct api_call *call, const char *what)
{
	api_problem(call, 400, "JSON Validation error", "%s", what);
	return false;
}

static bool read_files(struct api_call *call, const json_t *list, struct stage *s)
{
	char path[API_PATH_MAX_BYTES];

	if (!json_is_array(list) || json_array_size(list) == 0)
		return invalid(call, "'files' must be a list of {\"path\": ...}");
	s->files = calloc(json_array_size(list), sizeof(s->files[0]));
	for (size_t i = 0; s->files && i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i), *text = json_object_get(item, "path"), *life = json_object_get(item, "diskLifetime");
		const json_t *metadata = json_object_get(item, "targetedMetadata");
		struct stage_file *file = &s->files[i];

		if (!json_is_string(text) || !json_string_length(text) ||
		    api_clean_path(json_string_value(text), json_string_length(text), path) < 0)
			return invalid(call, "each of 'files' must have a 'path'");
		if (life) {
			file->pin_ns = json_is_string(life) ? stage_duration_ns(json_string_value(life)) : -1;
			if (file->pin_ns < 0)
				return invalid(call, "'diskLifetime' must be an ISO 8601 duration such as \"PT1H\"");
		}
		if (metadata && !json_is_object(metadata))
			return invalid(call, "'targetedMetadata' must be an object");
		file->path = strdup(path);
		if (!file->path)
			break;
		s->n++;
	}
	if (s->n == json_array_size(list)) {
		stage_sort(s);
		return true;
	}
	api_error(call, -ENOMEM, "take", "the request");
	return false;
}

void rest_stage(struct api_call *call)
{
	struct rest *t = call->api->rest;
	struct fault_verdict v;
	char uri[256], location[320];
	struct stage *s;
	json_t *body;
	bool fits;

	if (misbehave(call, FAULT_REST_STAGE, NULL, &v))
		return;
	body = api_body(call);
	if (!body)
		return;
	s = calloc(1, sizeof(*s));
	if (!s || !read_files(call, json_object_get(body, "files"), s))
		goto out;
	stage_make_id(s->id);
	s->created_ns = s->started_ns = archive_now_ns(t->archive);
	for (size_t i = 0; i < s->n; i++)
		stage_start(t, s->id, &s->files[i]);
	pthread_mutex_lock(&t->lock);
	fits = stage_make_room_locked(t, s->n);
	if (fits) {
		t->stage[t->n++] = s;
		t->nfiles += s->n;
		for (size_t i = 0; i < s->n; i++)
			t->ndeferred += s->files[i].state == FILE_DEFERRED;
		stage_save_locked(t, s);
		base_uri(call, uri, sizeof(uri));
		snprintf(location, sizeof(location), "%s/stage/%s", uri, s->id);
		api_header(call, "Location", location);
		api_json(call, 201, json_pack("{s:s}", "requestId", v.did & FAULT_DO_REST && v.rest == FAULT_REST_WRONG_ID ?
					      "00000000-0000-0000-0000-000000000000" : s->id));
		s = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	if (!fits)
		api_problem(call, 503, NULL, "too many requests are open: cancel or delete some");
	else
		spoil(call, &v);
out:
	if (s)
		stage_free(s);
	json_decref(body);
}

static double epoch(int64_t ns)
{
	return (double)(ns / ARCHIVE_NS);
}

static json_t *stage_file_json(const struct stage_file *file, enum fault_rest rest)
{
	const char *state = "SUBMITTED";
	json_t *json = json_object();

	switch (file->state) {
	case FILE_COMPLETED: state = "COMPLETED"; break;
	case FILE_FAILED: state = "FAILED"; break;
	case FILE_CANCELLED: state = rest == FAULT_REST_CANCELED ? "CANCELED" : "CANCELLED"; break;
	default:
		if (file->started_ns)
			state = "STARTED";
	}
	api_put_path(json, "path", file->path);
	json_object_set_new(json, "state", json_string(state));
	if (file->started_ns)
		json_object_set_new(json, "startedAt", json_integer((json_int_t)epoch(file->started_ns)));
	if (file->finished_ns)
		json_object_set_new(json, "finishedAt", json_integer((json_int_t)epoch(file->finished_ns)));
	if (*file->error)
		json_object_set_new(json, "error", json_string(file->error));
	return json;
}

static struct stage *get(struct api_call *call)
{
	struct rest *t = call->api->rest;
	struct stage *s;

	pthread_mutex_lock(&t->lock);
	s = stage_get_locked(t, call->rest);
	pthread_mutex_unlock(&t->lock);
	if (!s)
		api_problem(call, 404, "Not found", "there is no stage request '%.80s'", call->rest);
	return s;
}

static void put(struct api_call *call, struct stage *s)
{
	struct rest *t = call->api->rest;

	pthread_mutex_lock(&t->lock);
	stage_put_locked(s);
	pthread_mutex_unlock(&t->lock);
}

void rest_status(struct api_call *call)
{
	struct rest *t = call->api->rest;
	struct fault_verdict v;
	enum fault_rest rest;
	json_t *files, *json;
	struct stage *s;
	bool open = false, news = false;

	if (misbehave(call, FAULT_REST_STATUS, NULL, &v))
		return;
	rest = v.did & FAULT_DO_REST ? v.rest : FAULT_REST_NONE;
	rest_retry(t);
	s = get(call);
	if (!s)
		return;
	files = json_array();
	/* Paths are constant while it is ours; the archive is asked without the lock. */
	for (size_t i = 0; i < s->n; i++) {
		struct stage_file *file = &s->files[i];
		struct stage_look look = { 0 };
		int r = archive_find(t->archive, file->path, stage_take_look, &look);
		enum file_state before;
		int64_t started_ns;

		pthread_mutex_lock(&t->lock);
		before = file->state;
		started_ns = file->started_ns;
		if (r == 0 || r == -ENOENT)
			stage_observe(file, &look, archive_now_ns(t->archive));
		news |= file->state != before || file->started_ns != started_ns;
		open |= file->state == FILE_OPEN || file->state == FILE_DEFERRED;
		if (rest != FAULT_REST_MISSING_PATH || i > 0)
			json_array_append_new(files, stage_file_json(file, rest));
		pthread_mutex_unlock(&t->lock);
	}
	pthread_mutex_lock(&t->lock);
	if (!open && !s->completed_ns) {
		s->completed_ns = archive_now_ns(t->archive);
		news = true;
	}
	if (news)
		stage_save_locked(t, s);
	json = json_pack("{s:s, s:I, s:I, s:o}", "id", rest == FAULT_REST_WRONG_ID ? "00000000-0000-0000-0000-000000000000" : s->id, "createdAt",
			 (json_int_t)epoch(s->created_ns), "startedAt", (json_int_t)epoch(s->started_ns), "files", files);
	if (json && s->completed_ns)
		json_object_set_new(json, "completedAt", json_integer((json_int_t)epoch(s->completed_ns)));
	stage_put_locked(s);
	pthread_mutex_unlock(&t->lock);
	api_json(call, 200, json);
	spoil(call, &v);
}

/* ---- cancel, delete, release ---- */

static void cancel_file(struct rest *t, struct stage *s, struct stage_file *file)
{
	struct stage_look look = { 0 };
	bool wanted = true;
	int r = archive_find(t->archive, file->path, stage_take_look, &look);

	pthread_mutex_lock(&t->lock);
	if (r == 0 || r == -ENOENT)
		stage_observe(file, &look, archive_now_ns(t->archive));
	if (stage_is_open(file)) {
		t->ndeferred -= file->state == FILE_DEFERRED;
		stage_finish(file, FILE_CANCELLED, "", archive_now_ns(t->archive));
		wanted = stage_is_wanted_locked(t, s, file->path);
	}
	pthread_mutex_unlock(&t->lock);
	if (!wanted)
		(void)archive_cancel(t->archive, file->path);	/* done in between is cancelled too late: the file is there */
}

/* The list of "paths", as clean texts in a new JSON list; NULL: answered. */
static json_t *read_paths(struct api_call *call, const json_t *body)
{
	const json_t *list = json_object_get(body, "paths");
	char path[API_PATH_MAX_BYTES];
	json_t *clean = json_array();

	if (!json_is_array(list)) {
		json_decref(clean);
		(void)invalid(call, "'paths' must be a list of paths");
		return NULL;
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);

		if (!json_is_string(item) || api_clean_path(json_string_value(item), json_string_length(item), path) < 0) {
			json_decref(clean);
			(void)invalid(call, "each of 'paths' must be a path");
			return NULL;
		}
		json_array_append_new(clean, json_string(path));
	}
	return clean;
}

/* All of them belong to the request; else answered. */
static bool all_belong(struct api_call *call, struct stage *s, const json_t *paths)
{
	for (size_t i = 0; i < json_array_size(paths); i++) {
		const char *path = json_string_value(json_array_get(paths, i));

		if (!stage_file_of(s, path)) {
			api_problem(call, 400, "File missing from stage request", "'/%.300s' is not in request %s", path, s->id);
			return false;
		}
	}
	return true;
}

void rest_cancel(struct api_call *call)
{
	struct rest *t = call->api->rest;
	struct fault_verdict v;
	json_t *body = NULL, *paths = NULL;
	struct stage *s;

	if (misbehave(call, FAULT_REST_CANCEL, NULL, &v))
		return;
	s = get(call);
	if (!s)
		return;
	body = api_body(call);
	if (body)
		paths = read_paths(call, body);
	if (paths && all_belong(call, s, paths)) {
		for (size_t i = 0; i < json_array_size(paths); i++)
			cancel_file(t, s, stage_file_of(s, json_string_value(json_array_get(paths, i))));
		pthread_mutex_lock(&t->lock);
		stage_save_locked(t, s);
		pthread_mutex_unlock(&t->lock);
		api_empty(call, 200);
		spoil(call, &v);
	}
	json_decref(paths);
	json_decref(body);
	put(call, s);
}

void rest_delete(struct api_call *call)
{
	struct rest *t = call->api->rest;
	struct fault_verdict v;
	struct stage *s;

	if (misbehave(call, FAULT_REST_DELETE, NULL, &v))
		return;
	s = get(call);
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++)
		cancel_file(t, s, &s->files[i]);
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->n; i++) {
		if (t->stage[i] == s) {
			stage_unlink_locked(t, i);
			break;
		}
	}
	stage_put_locked(s);
	pthread_mutex_unlock(&t->lock);
	api_empty(call, 200);
	spoil(call, &v);
}

/* An id that we do not know is taken all the same: gfal2 2.21 sends a placeholder. */
void rest_release(struct api_call *call)
{
	struct rest *t = call->api->rest;
	struct fault_verdict v;
	json_t *body, *paths;
	struct stage *s;

	if (misbehave(call, FAULT_REST_RELEASE, NULL, &v))
		return;
	pthread_mutex_lock(&t->lock);
	s = stage_get_locked(t, call->rest);
	pthread_mutex_unlock(&t->lock);
	body = api_body(call);
	paths = body ? read_paths(call, body) : NULL;
	if (paths && (!s || all_belong(call, s, paths))) {
		for (size_t i = 0; i < json_array_size(paths); i++)
			(void)archive_evict(t->archive, json_string_value(json_array_get(paths, i)));	/* a hint: what cannot go stays */
		api_empty(call, 200);
		spoil(call, &v);
	}
	json_decref(paths);
	json_decref(body);
	if (s)
		put(call, s);
}

/* ---- archiveinfo ---- */

static const char *locality(struct archive *a, const struct stage_look *look)
{
	switch (look->state) {
	case ARCHIVE_DUAL:
		return look->size_bytes ? "DISK_AND_TAPE" : "NONE";
	case ARCHIVE_RELEASED: case ARCHIVE_PARTIAL: case ARCHIVE_RECALLING: case ARCHIVE_FAILED_RECALL:
		return archive_library_up(a) ? "TAPE" : "UNAVAILABLE";
	case ARCHIVE_LOST: case ARCHIVE_DAMAGED:
		return "LOST";
	case ARCHIVE_UNAVAILABLE:
		return "UNAVAILABLE";
	default:
		return look->size_bytes ? "DISK" : "NONE";
	}
}

void rest_archiveinfo(struct api_call *call)
{
	struct archive *a = call->api->archive;
	struct fault_verdict v;
	json_t *body, *paths, *list;
	enum fault_rest rest;

	if (misbehave(call, FAULT_REST_ARCHIVEINFO, NULL, &v))
		return;
	rest = v.did & FAULT_DO_REST ? v.rest : FAULT_REST_NONE;
	body = api_body(call);
	paths = body ? read_paths(call, body) : NULL;
	json_decref(body);
	if (!paths)
		return;
	list = json_array();
	for (size_t i = 0; i < json_array_size(paths); i++) {
		const char *path = json_string_value(json_array_get(paths, i));
		struct stage_look look = { 0 };
		json_t *one = json_object();
		int r = archive_find(a, path, stage_take_look, &look);

		api_put_path(one, "path", path);
		if (r < 0)
			json_object_set_new(one, "error", json_string(strerror(-r)));
		else
			json_object_set_new(one, "locality", json_string(locality(a, &look)));
		if (rest == FAULT_REST_MISSING_PATH && i == 0)
			json_decref(one);
		else
			json_array_append_new(list, one);
	}
	json_decref(paths);
	api_json(call, 200, list);
	spoil(call, &v);
}
