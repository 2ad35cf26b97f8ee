/* What mockarchive answers over HTTP, without the HTTP: a call comes in as method, path, query and body, a handler fills in
 * its answer. serve.c carries both over the wire. The routes and their replies are described by web/openapi.json.
 *
 * A call belongs to the thread that handles it. A handler never waits for a clock or for a client; routes that may take a while
 * (api_is_slow()) are given a thread of their own kind. What waits for something to happen is watch.c. */
#ifndef WORMFS_MOCKARCHIVE_API_H
#define WORMFS_MOCKARCHIVE_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mockarchive/archive.h"
#include "mockarchive/rest.h"

#define API_PUT_MAX_BYTES (UINT64_C(1) << 40)	/* of a file that is stored; it goes to a file of the store first */
#define API_BODY_MAX_BYTES (16 << 20)	/* a stage request of 100,000 paths */
#define API_PATH_MAX_BYTES 4096
#define API_HEADERS_MAX 8
#define API_LIST_MAX 1000		/* files or journal entries in one answer */
#define API_PROBLEM "application/problem+json"

struct api {
	struct archive *archive;
	struct rest *rest;		/* requests of the tape REST API */
	/* Where it listens; NULL past the last. The function is NULL where nothing listens. */
	const char *(*address)(void *owner, unsigned i);
	void *owner;
};

struct api_call {
	struct api *api;
	/* asked */
	const char *method, *path, *query;	/* path and query as they came, percent-encoded; query may be NULL */
	const char *body;			/* a NUL follows it */
	size_t body_len;
	bool body_in_file;			/* body is "" then */
	int body_fd;				/* of that file; or -errno of what kept it from being written */
	uint64_t body_file_len;
	const char *(*header)(const struct api_call *call, const char *name);
	void *transport;			/* whose it is that calls */
	char *rest;				/* what the pattern's last part stands for, decoded; "" */
	size_t rest_len;

	/* answered */
	unsigned status;
	const char *content_type;		/* of text; NULL with none */
	json_t *json;				/* or text, or nothing */
	char *text;
	size_t text_len;
	/* Instead of text: text_len bytes that come piece by piece; a short or failed read cuts the connection. Both with NULL: none. */
	ssize_t (*read)(void *owner, uint64_t offset, char *buf, size_t len);
	void (*read_done)(void *owner);		/* also where nothing was read */
	void *read_owner;
	struct { const char *name; char *value; } headers[API_HEADERS_MAX];
	unsigned nheaders;
	/* how it goes out, for faults */
	int64_t delay_ns, rate_bytes_s;
	uint64_t hang_number;			/* not before the rule of this number is gone; 0: at once */
	bool drop;				/* no answer, the connection ends */
	bool ends;				/* the archive ends once the answer is out */
};

/* Handles it; afterwards the answer is there. The caller ends it with api_call_fini(). */
void api_handle(struct api_call *call);
void api_call_fini(struct api_call *call);
/* Does this route belong to watch.c ("/v1/wait", "/v1/events"), and may it take a while? */
bool api_is_wait(const char *method, const char *path);
bool api_is_slow(const char *method, const char *path);

/* ---- for handlers ---- */

void api_json(struct api_call *call, unsigned status, json_t *json);	/* takes it; NULL becomes a 500 */
/* Takes `text`, which malloc() made; NULL becomes a 500. */
void api_text(struct api_call *call, unsigned status, const char *content_type, char *text, size_t len);
/* Takes `owner`, which done() ends. */
void api_stream(struct api_call *call, unsigned status, const char *content_type, uint64_t len,
		ssize_t (*read)(void *owner, uint64_t offset, char *buf, size_t len), void (*done)(void *owner), void *owner);
void api_empty(struct api_call *call, unsigned status);
void api_header(struct api_call *call, const char *name, const char *value);	/* copies the value; the name is constant */
/* RFC 7807. title NULL: the status's own words. */
__attribute__((format(printf, 4, 5)))
void api_problem(struct api_call *call, unsigned status, const char *title, const char *format, ...);
/* The same for a negative errno, with a member "errno" that names it. `subject`: path, rule, key. */
void api_error(struct api_call *call, int error, const char *what, const char *subject);

/* The body as a JSON object, "{}" if it is empty. The caller gives it back. NULL: answered with 400. */
json_t *api_body(struct api_call *call);
/* A key that is not in the comma-separated list: answered with 400, false. */
bool api_keys_are(struct api_call *call, const json_t *object, const char *known);
/* The decoded value of a query parameter, the caller's to free; NULL with *ret_bad false: it is not there. */
char *api_query(struct api_call *call, const char *name, bool *ret_bad);
/* A whole number of the query in [min, max]; `missing` if it is not there. False: answered with 400. */
bool api_query_number(struct api_call *call, const char *name, int64_t missing, int64_t min, int64_t max, int64_t *ret_number);

/* "/a//b/" becomes "a/b". -EINVAL: ".", "..", a NUL or too long; ret_path has API_PATH_MAX_BYTES. */
int api_clean_path(const char *text, size_t len, char *ret_path);
/* The path of {"path": P} or {"path_b64": B}, cleaned. False: answered with 400. */
bool api_path_of(struct api_call *call, const json_t *object, char *ret_path);
/* A text that may hold any bytes: what is no UTF-8 becomes U+FFFD. NULL: no memory. */
json_t *api_string(const char *text);
/* Puts "path" (with a '/' in front), and "path_b64" where it is no UTF-8. */
void api_put_path(json_t *object, const char *key, const char *path);
/* Bits of "released,dual". False: answered with 400. */
bool api_states(struct api_call *call, const char *text, unsigned *ret_states);
json_t *api_file_json(const struct archive_file *file);
json_t *api_event_json(const struct archive_event *event);
json_t *api_clock_json(struct archive *archive);
double api_seconds(int64_t ns);
/* Seconds to ns; -1: no number, negative, or past 100 years. */
int64_t api_ns(const json_t *seconds);

/* ---- the handlers, by the file they are in ---- */

typedef void api_handler(struct api_call *call);
api_handler api_files_list, api_files_get, api_files_act;				/* api_files.c */
api_handler api_faults_list, api_faults_add, api_faults_clear, api_faults_get, api_faults_change, api_faults_remove;	/* api_faults.c */
api_handler api_state, api_clock, api_clock_change, api_clock_advance, api_clock_settle, api_drives, api_drives_change, api_library,
	api_library_change, api_settings, api_settings_change, api_profiles, api_reset, api_journal;			/* api_state.c */
api_handler api_health, api_metrics, api_openapi, api_page, api_page_script, api_page_style, api_delete, api_exit;	/* api_service.c */
api_handler rest_wellknown, rest_stage, rest_status, rest_cancel, rest_delete, rest_release, rest_archiveinfo;	/* rest.c */
api_handler dav_get, dav_propfind, dav_options, dav_put;						/* dav.c */

#endif
