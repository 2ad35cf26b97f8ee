/* A request's way: fault, route, token, endpoint, journal, reply. */
#include "mockarchive/mockqumulo/mock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mockarchive/http_url.h"

struct qtime mock_now(const struct mock *m)
{
	struct timespec now = { 0 };
	int64_t ns;

	if (!m->frozen)
		clock_gettime(CLOCK_REALTIME, &now);
	ns = now.tv_sec * 1000000000LL + now.tv_nsec + m->offset_ns;
	if (ns < 0)
		ns = 0;
	return (struct qtime){ ns / 1000000000, ns % 1000000000 };
}

static json_t *error_json(const char *error_class, const char *why)
{
	return json_pack("{s:s, s:s, s:s, s:[], s:b}", "module", "mockqumulo", "error_class", error_class, "description", why,
		"stack", "user_visible", 1);
}

void exchange_refuse(struct exchange *x, unsigned status, const char *error_class, const char *why)
{
	json_decref(x->json);
	x->json = error_json(error_class, why);
	x->status = status;
	x->error_class = error_class;
	x->etag[0] = '\0';
}

void exchange_refuse_by(struct exchange *x, const struct refusal *refusal)
{
	exchange_refuse(x, refusal->status, refusal->error_class, refusal->why);
}

void exchange_refuse_errno(struct exchange *x, int r)
{
	static const struct { int error; unsigned status; const char *error_class, *why; } table[] = {
		{ ENOENT, 404, "fs_no_such_entry_error", "no such entry" },
		{ ENOTDIR, 404, "fs_no_such_path_error", "a part of the path is no directory" },
		{ ESTALE, 404, "fs_no_such_inode_error", "no file has this id" },
		{ ENXIO, 404, "fs_no_such_entry_error", "neither an id nor an encoded absolute path" },
		{ EILSEQ, 400, "decode_error", "the reference is not UTF-8" },
		{ EEXIST, 409, "fs_entry_exists_error", "the entry exists" },
		{ ENOTEMPTY, 409, "fs_directory_not_empty_error", "the directory is not empty" },
		{ EISDIR, 400, "fs_not_a_file_error", "it is a directory" },
		{ ENAMETOOLONG, 404, "fs_no_such_entry_error", "the name is too long" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].error == -r) {
			exchange_refuse(x, table[i].status, table[i].error_class, table[i].why);
			return;
		}
	}
	exchange_refuse(x, 500, "internal_error", strerror(-r));
}

bool exchange_flag(const struct exchange *x, const char *name)
{
	char *value;
	bool is_true;

	if (http_query_get(x->query, name, &value) < 0)
		return false;
	is_true = strcmp(value, "true") == 0 || strcmp(value, "True") == 0;
	free(value);
	return is_true;
}

/* ---- endpoints without a file ---- */

static void login(struct exchange *x)
{
	json_t *object = json_loadb(x->body, x->body_len, 0, NULL);
	const char *user, *password, *token;
	struct mock *m = x->mock;
	int r;

	if (json_unpack(object, "{s:s, s:s}", "username", &user, "password", &password) < 0) {
		exchange_refuse(x, 400, "decode_error", "the body has no username and password");
	} else {
		r = sessions_login(m->sessions, user, password, mock_now(m).s, switch_value(&m->switches, SW_PRIVILEGE) == SWITCH_YES, &token);
		if (r == 0)
			x->json = json_pack("{s:s}", "bearer_token", token);
		else if (r == -EACCES)
			exchange_refuse(x, 401, "http_unauthorized_error", "incorrect username or password");
		else
			exchange_refuse_errno(x, r);
	}
	json_decref(object);
}

static void who_am_i(struct exchange *x)
{
	json_t *privileges = json_pack("[s, s]", "PRIVILEGE_AUTH_USER_READ", "PRIVILEGE_FILE_READ_ACCESS");

	if (x->may_lock)
		json_array_append_new(privileges, json_string(PRIVILEGE_LOCK));
	x->json = json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", "500", "name", sessions_user(x->mock->sessions),
		"sid", "S-1-5-21-1614815302-3046583142-1234567890-500", "uid", "0", "privileges", privileges);
}

static void version(struct exchange *x)
{
	x->json = json_pack("{s:s, s:s, s:s, s:s}", "revision_id", x->mock->switches.text[SW_VERSION], "build_id", "mock",
		"flavor", "release", "build_date", "2024-10-16T00:00:00Z");
}

/* ---- the way ---- */

static bool method_is(const struct exchange *x, const char *method)
{
	return strcmp(x->method, method) == 0;
}

static void not_allowed(struct exchange *x)
{
	exchange_refuse(x, 405, "http_method_not_allowed_error", "no such method here");
}

/* 0, or refused. */
static int authorize(struct exchange *x)
{
	const char *header = http_request_header(x->req, "Authorization");
	struct mock *m = x->mock;
	bool is_login = false, at_login = false;
	struct refusal refusal = refusal_of(&m->switches, SW_NO_TOKEN, "Need to log in first");

	x->may_lock = switch_value(&m->switches, SW_PRIVILEGE) == SWITCH_YES;
	if (!header || strncmp(header, "Bearer ", 7) != 0 || sessions_check(m->sessions, header + 7, mock_now(m).s,
		switch_value(&m->switches, SW_SESSION_S), &is_login, &at_login) < 0) {
		if (!refusal.status)
			return 0;
		exchange_refuse_by(x, &refusal);
		return -EACCES;
	}
	if (is_login && switch_value(&m->switches, SW_ROLE_CHANGE) == ROLE_AT_LOGIN)
		x->may_lock = at_login;
	return 0;
}

static void dispatch(struct exchange *x)
{
	int r = route_parse(x->path, switch_value(&x->mock->switches, SW_PLUS) == PLUS_SPACE, &x->route);
	enum endpoint endpoint = x->route.endpoint;

	x->status = 200;
	if (r == 0 && endpoint == EP_VERSION) {
		method_is(x, "GET") ? version(x) : not_allowed(x);
		return;
	}
	if (r == 0 && endpoint == EP_LOGIN) {
		method_is(x, "POST") ? login(x) : not_allowed(x);
		return;
	}
	if (authorize(x) < 0)
		return;
	if (r == -ENOENT)
		exchange_refuse(x, 404, "rest_not_found_error", "no such endpoint");
	else if (r < 0)
		exchange_refuse_errno(x, r);
	else if (endpoint == EP_WHO_AM_I)
		method_is(x, "GET") ? who_am_i(x) : not_allowed(x);
	else
		files_request(x);
}

/* ---- the reply ---- */

static void add_retry_after(struct exchange *x, const struct fault *fault)
{
	char text[QTIME_TEXT_BYTES];

	if (!fault->retry_after_s)
		return;
	if (fault->retry_after_date)
		qtime_format_http(mock_now(x->mock).s + fault->retry_after_s, text);
	else
		snprintf(text, sizeof(text), "%u", fault->retry_after_s);
	http_request_add_header(x->req, "Retry-After", text);
}

/* The reply that a fault puts in the place of what the request came to. */
static void replace_reply(struct exchange *x, const struct fault *fault)
{
	static const char page[] = "<html><body><h1>Welcome</h1></body></html>\n";

	switch (fault->kind) {
	case FAULT_STATUS:
		if (fault->error_class[0]) {
			exchange_refuse(x, fault->status, fault->error_class, "a fault that was asked for");
		} else {
			json_decref(x->json);
			x->json = NULL;
			x->status = fault->status;
		}
		add_retry_after(x, fault);
		break;
	case FAULT_NOT_JSON:
		json_decref(x->json);
		x->json = NULL;
		free(x->raw);
		x->raw = strdup(page);
		x->raw_len = x->raw ? strlen(page) : 0;
		x->content_type = "text/html";
		x->status = fault->status;
		break;
	case FAULT_NO_LOCK:
		json_object_del(x->json, "lock");
		break;
	case FAULT_HUGE: {
		char *padding = malloc(fault->bytes + 1);

		if (padding) {
			memset(padding, 'x', fault->bytes);
			padding[fault->bytes] = '\0';
			json_object_set_new(x->json, "padding", json_string(padding));
			free(padding);
		}
		break;
	}
	default:
		break;
	}
}

static void shape_reply(struct exchange *x, const struct fault *fault, struct http_shape *shape)
{
	if (!fault)
		return;
	switch (fault->kind) {
	case FAULT_CUT:
		shape->cut = true;
		shape->cut_bytes = fault->bytes;
		break;
	case FAULT_SLOW:
		shape->pause_ms = fault->ms;
		shape->piece_bytes = fault->bytes;
		break;
	case FAULT_CHUNKED:
		shape->chunked = true;
		shape->piece_bytes = fault->bytes;
		break;
	case FAULT_DELAY:
		shape->delay_ms += fault->ms;
		break;
	default:
		break;
	}
}

static void shape_unauthorized(struct exchange *x)
{
	static const char page[] = "<html><body>401 Unauthorized</body></html>\n";
	unsigned body = switch_value(&x->mock->switches, SW_UNAUTHORIZED_BODY);

	if (x->status != 401 || body == BODY_JSON)
		return;
	json_decref(x->json);
	x->json = NULL;
	if (body == BODY_HTML) {
		x->raw = strdup(page);
		x->raw_len = x->raw ? strlen(page) : 0;
		x->content_type = "text/html";
	}
}

static void add_headers(struct exchange *x)
{
	struct mock *m = x->mock;
	char date[QTIME_TEXT_BYTES];

	if (switch_value(&m->switches, SW_DATE) == SWITCH_YES) {
		qtime_format_http(mock_now(m).s, date);
		http_request_add_header(x->req, "Date", date);
	}
	if (x->etag[0])
		http_request_add_header(x->req, "ETag", x->etag);
}

static void note(struct exchange *x, unsigned status, const char *fault)
{
	struct qtime now = mock_now(x->mock);

	journal_add(x->mock->journal, x->req, now.s * 1000000000LL + now.ns, status, x->error_class, fault);
}

void exchange_begin_stream(struct exchange *x)
{
	note(x, 200, NULL);
	add_headers(x);
	x->streaming = true;
}

static void send_reply(struct exchange *x, bool drop, const struct http_shape *shape)
{
	http_request_set_shape(x->req, shape);
	if (drop)
		http_reply_drop(x->req);
	else if (x->json)
		http_reply_json(x->req, x->status, json_incref(x->json));
	else
		http_reply(x->req, x->status, x->content_type, x->raw ? x->raw : "", x->raw_len);
}

/* Carried out under the lock; true: the connection is to be closed without a reply. */
static bool carry_out(struct exchange *x, struct http_shape *shape)
{
	const char *plain = strncmp(x->path, "/api/", 5) == 0 ? x->path + 4 : x->path;
	struct mock *m = x->mock;
	const struct fault *fault = faults_match(m->faults, x->method, plain);
	bool drop = fault && (fault->kind == FAULT_CLOSE_BEFORE || fault->kind == FAULT_CLOSE_AFTER);

	if (!fault || fault->applies)
		dispatch(x);
	if (x->streaming)	/* the request is not ours any more */
		return false;
	shape_unauthorized(x);
	if (fault)
		replace_reply(x, fault);
	shape->delay_ms = switch_value(&m->switches, SW_LATENCY_MS);
	shape_reply(x, fault, shape);
	note(x, drop ? 0 : x->status, fault ? fault->name : NULL);
	if (!drop)
		add_headers(x);
	return drop;
}

void mock_handle(void *owner, struct http_request *req)
{
	struct exchange x = { .mock = owner, .req = req, .method = http_request_method(req), .path = http_request_path(req),
		.query = http_request_query(req) };
	struct http_shape shape = { 0 };
	bool drop = false;

	x.body = http_request_body(req, &x.body_len);
	pthread_mutex_lock(&x.mock->lock);
	if (strncmp(x.path, "/mock/", 6) == 0) {
		x.route.rest = x.path + 6;
		x.status = 200;
		control_request(&x);
	} else {
		drop = carry_out(&x, &shape);
	}
	pthread_mutex_unlock(&x.mock->lock);
	if (!x.streaming)
		send_reply(&x, drop, &shape);
	route_fini(&x.route);
	json_decref(x.json);
	free(x.raw);
}
