/* A ring of entries. An entry's texts are one allocation; JSON is made of them only when somebody asks. */
#include "mockarchive/mockqumulo/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct entry {
	int64_t now_ns;
	uint64_t connection;
	unsigned status;
	char *text;			/* method, path, query, headers ("name\0value\0" pairs, ended by an empty name), body: each with its NUL */
	uint32_t path, query, headers, body;	/* where in it; query 0: none */
	const char *fault;		/* a constant */
	char error_class[48];
};

struct journal {
	struct entry *ring;
	size_t size;
	uint64_t next;			/* number of the next entry; its place is next % size */
	uint64_t first;
	json_t *counts;
};

struct text {
	char *data;
	size_t len, size;
	bool failed;
};

static void put(struct text *t, const void *data, size_t len)
{
	if (t->len + len > t->size) {
		size_t size = 2 * (t->len + len);
		char *grown = realloc(t->data, size);

		if (!grown) {
			t->failed = true;
			return;
		}
		t->data = grown;
		t->size = size;
	}
	memcpy(t->data + t->len, data, len);
	t->len += len;
}

static void put_text(struct text *t, const char *text)
{
	put(t, text, strlen(text) + 1);
}

static void put_header(void *arg, const char *name, const char *value)
{
	put_text(arg, name);
	put_text(arg, strcasecmp(name, "Authorization") == 0 || strcasecmp(name, "Cookie") == 0 ? "***" : value);
}

/* A body that has a password or a token in it is kept as JSON without; one that is no JSON then not at all. */
static void put_body(struct text *t, const char *body, size_t len)
{
	static const char *const secrets[] = { "password", "bearer_token" };
	bool has_secret = false;
	json_t *object;
	char *text;

	for (unsigned i = 0; i < 2; i++)
		has_secret |= memmem(body, len, secrets[i], strlen(secrets[i])) != NULL;
	if (!has_secret) {
		put(t, body, len < JOURNAL_BODY_MAX_BYTES ? len : JOURNAL_BODY_MAX_BYTES);
		put(t, "", 1);
		return;
	}
	object = json_loadb(body, len, 0, NULL);
	for (unsigned i = 0; i < 2; i++)
		if (json_object_get(object, secrets[i]))
			json_object_set_new(object, secrets[i], json_string("***"));
	text = json_is_object(object) ? json_dumps(object, 0) : NULL;
	put_text(t, text ? text : "***");
	free(text);
	json_decref(object);
}

int journal_open(size_t entries, struct journal **ret_journal)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->ring = calloc(entries, sizeof(*j->ring));
	j->counts = json_object();
	j->size = entries;
	if (!j->ring || !j->counts) {
		journal_close(j);
		return -ENOMEM;
	}
	*ret_journal = j;
	return 0;
}

void journal_reset(struct journal *j)
{
	for (uint64_t i = j->first; i < j->next; i++) {
		free(j->ring[i % j->size].text);
		j->ring[i % j->size].text = NULL;
	}
	j->first = j->next = 0;
	json_object_clear(j->counts);
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->ring && j->counts)
		journal_reset(j);
	json_decref(j->counts);
	free(j->ring);
	free(j);
}

/* The endpoint without the file: the segment after /v1/files/, and a name after /entries/. */
static void count(struct journal *j, const char *method, const char *path, unsigned status)
{
	static const char files[] = "/v1/files/", entries[] = "/entries/";
	const char *at = strstr(path, files), *tail;
	char key[160];

	if (at && strchr(at + strlen(files), '/')) {
		tail = strchr(at + strlen(files), '/');
		snprintf(key, sizeof(key), "%s %s{ref}%.60s %u", method, files,
			strncmp(tail, entries, strlen(entries)) == 0 && tail[strlen(entries)] ? "/entries/{name}" : tail, status);
	} else if (at && strcmp(at + strlen(files), "resolve") != 0 && strcmp(at + strlen(files), "try-resolve") != 0) {
		snprintf(key, sizeof(key), "%s %s{ref} %u", method, files, status);
	} else {
		snprintf(key, sizeof(key), "%s %.100s %u", method, strncmp(path, "/api/", 5) == 0 ? path + 4 : path, status);
	}
	/* Bounded, whatever paths are asked for. */
	if (!json_object_get(j->counts, key) && json_object_size(j->counts) >= 1000)
		snprintf(key, sizeof(key), "others");
	json_object_set_new(j->counts, key, json_integer(json_integer_value(json_object_get(j->counts, key)) + 1));
}

void journal_add(struct journal *j, const struct http_request *req, int64_t now_ns, unsigned status, const char *error_class,
	const char *fault)
{
	struct entry *e = &j->ring[j->next % j->size], fresh = { .now_ns = now_ns, .status = status, .fault = fault };
	const char *body, *query = http_request_query(req);
	struct text t = { 0 };
	size_t len;

	fresh.connection = http_request_connection(req);
	put_text(&t, http_request_method(req));
	fresh.path = t.len;
	put_text(&t, http_request_path(req));
	fresh.query = query ? t.len : 0;
	if (query)
		put_text(&t, query);
	fresh.headers = t.len;
	http_request_each_header(req, put_header, &t);
	put(&t, "", 1);
	fresh.body = t.len;
	body = http_request_body(req, &len);
	put_body(&t, body, len);
	if (error_class)
		snprintf(fresh.error_class, sizeof(fresh.error_class), "%s", error_class);
	if (t.failed) {		/* an entry without texts: its number still says that there was one */
		free(t.data);
		t.data = NULL;
	}
	fresh.text = t.data ? realloc(t.data, t.len) : NULL;
	if (j->next - j->first == j->size) {
		free(e->text);
		j->first++;
	}
	*e = fresh;
	j->next++;
	count(j, http_request_method(req), http_request_path(req), status);
}

/* Bytes that are no UTF-8 become "?": the raw path has none, a body may. */
static json_t *to_string(const char *text)
{
	json_t *string = json_string(text);
	char *copy;

	if (string)
		return string;
	copy = strdup(text);
	for (char *at = copy; at && *at; at++)
		if (*at & 0x80)
			*at = '?';
	string = json_string(copy ? copy : "");
	free(copy);
	return string;
}

static json_t *headers_json(const char *at)
{
	json_t *headers = json_object();

	while (*at) {
		const char *value = at + strlen(at) + 1;

		json_object_set_new(headers, at, to_string(value));
		at = value + strlen(value) + 1;
	}
	return headers;
}

static json_t *entry_json(const struct entry *e, uint64_t number)
{
	json_t *object = json_pack("{s:I, s:f, s:I, s:i}", "number", (json_int_t)number, "time", (double)e->now_ns / 1e9,
		"connection", (json_int_t)e->connection, "status", (int)e->status);

	if (e->text) {
		json_object_set_new(object, "method", to_string(e->text));
		json_object_set_new(object, "path", to_string(e->text + e->path));
		json_object_set_new(object, "query", e->query ? to_string(e->text + e->query) : json_null());
		json_object_set_new(object, "headers", headers_json(e->text + e->headers));
		json_object_set_new(object, "body", to_string(e->text + e->body));
	}
	if (e->fault)
		json_object_set_new(object, "fault", json_string(e->fault));
	if (e->error_class[0])
		json_object_set_new(object, "error_class", json_string(e->error_class));
	return object;
}

json_t *journal_json(const struct journal *j, uint64_t from, const char *method, const char *path, uint64_t limit)
{
	json_t *requests = json_array();

	for (uint64_t i = from > j->first ? from : j->first; i < j->next && json_array_size(requests) < limit; i++) {
		const struct entry *e = &j->ring[i % j->size];

		if ((method && (!e->text || strcmp(method, e->text) != 0)) || (path && (!e->text || !strstr(e->text + e->path, path))))
			continue;
		json_array_append_new(requests, entry_json(e, i));
	}
	return json_pack("{s:I, s:I, s:o}", "first", (json_int_t)j->first, "next", (json_int_t)j->next, "requests", requests);
}

json_t *journal_counts(const struct journal *j)
{
	return json_deep_copy(j->counts);
}
