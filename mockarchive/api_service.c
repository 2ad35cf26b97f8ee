/* /healthz, /metrics, the page and its description, and what the first mock archive had: GET /delete/F and /exit. */
#include "mockarchive/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/web.h"

void api_health(struct api_call *call)
{
	api_json(call, 200, json_pack("{s:s, s:s}", "status", "ok", "version", WORMFS_VERSION));
}

struct metrics {
	FILE *out;
	char last[128];
};

static int put_metric(void *arg, const char *name, const char *labels, enum archive_metric_type type, const char *help, double value)
{
	struct metrics *m = arg;

	if (strcmp(m->last, name) != 0) {
		fprintf(m->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type == ARCHIVE_COUNTER ? "counter" : "gauge");
		snprintf(m->last, sizeof(m->last), "%s", name);
	}
	fprintf(m->out, labels && *labels ? "%s{%s} %.17g\n" : "%s%s %.17g\n", name, labels ? labels : "", value);
	return 0;
}

static void put_faults(struct metrics *m, struct archive *a)
{
	json_t *list = faults_list(archive_faults(a), archive_now_ns(a)), *rule;
	char labels[FAULT_ID_BYTES + 16];
	size_t i;

	json_array_foreach(list, i, rule) {
		snprintf(labels, sizeof(labels), "rule=\"%s\"", json_string_value(json_object_get(rule, "id")));
		put_metric(m, "mockarchive_fault_hits", labels, ARCHIVE_GAUGE, "Hits of a rule since it was made.",
			   (double)json_integer_value(json_object_get(rule, "hits")));
	}
	json_decref(list);
}

/* The text format of Prometheus, version 0.0.4. */
void api_metrics(struct api_call *call)
{
	char *text = NULL;
	size_t len = 0;
	struct metrics m = { .out = open_memstream(&text, &len) };
	int r;

	if (!m.out) {
		api_error(call, -ENOMEM, "show", "metrics");
		return;
	}
	r = archive_each_metric(call->api->archive, put_metric, &m);
	put_faults(&m, call->api->archive);
	if (fclose(m.out) != 0 || r < 0) {
		free(text);
		api_error(call, r < 0 ? r : -ENOMEM, "show", "metrics");
		return;
	}
	api_text(call, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

static void asset(struct api_call *call, const char *type, const unsigned char *start, const unsigned char *end)
{
	size_t len = (size_t)(end - start);
	char *copy = malloc(len + 1);

	if (copy)
		memcpy(copy, start, len);
	/* The page is what this binary has, not what another one had at this port. */
	api_header(call, "Cache-Control", "no-cache");
	api_header(call, "X-Content-Type-Options", "nosniff");
	api_header(call, "Content-Security-Policy", "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
	api_text(call, 200, type, copy, len);
}

void api_openapi(struct api_call *call)
{
	asset(call, "application/json", web_openapi, web_openapi_end);
}

void api_page(struct api_call *call)
{
	asset(call, "text/html; charset=utf-8", web_page, web_page_end);
}

void api_page_script(struct api_call *call)
{
	asset(call, "text/javascript; charset=utf-8", web_script, web_script_end);
}

void api_page_style(struct api_call *call)
{
	asset(call, "text/css; charset=utf-8", web_style, web_style_end);
}

void api_delete(struct api_call *call)
{
	char path[API_PATH_MAX_BYTES] = "";
	int r = api_clean_path(call->rest, call->rest_len, path);

	r = r < 0 ? r : archive_delete(call->api->archive, path);
	if (r < 0)
		api_error(call, r, "delete", path);
	else
		api_empty(call, 204);
}

void api_exit(struct api_call *call)
{
	call->ends = true;
	api_empty(call, 204);
}
