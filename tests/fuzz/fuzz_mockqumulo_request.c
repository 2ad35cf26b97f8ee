/* Requests to mockqumulo: a path, a query and a body, each from a line of its own. Whatever they are, a reference that is taken
 * names one file below the root and survives a round trip, and a lock that is taken is only ever longer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/http_url.h"
#include "mockarchive/mockqumulo/faults.h"
#include "mockarchive/mockqumulo/lock_rules.h"
#include "mockarchive/mockqumulo/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_path(const char *raw)
{
	struct route route, again;
	char *encoded, *target;

	for (int plus = 0; plus < 2; plus++) {
		if (route_parse(raw, plus, &route) < 0)
			continue;
		if (route.path) {
			if (route.path[0] != '/' || strstr(route.path, "/../") || strstr(route.path, "//"))
				abort();
			encoded = http_percent_encode(route.path, strlen(route.path));
			target = calloc(1, strlen(encoded) + 40);
			strcat(strcat(strcpy(target, "/v1/files/"), encoded), "/file-lock");
			if (route_parse(target, !plus, &again) < 0 || strcmp(again.path, route.path) != 0)
				abort();
			route_fini(&again);
			free(target);
			free(encoded);
		}
		route_fini(&route);
	}
}

static void try_query(const char *query)
{
	static const char *const names[] = { "limit", "after", "filter", "recursive", "" };
	char *value;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (http_query_get(query, names[i], &value) == 0)
			free(value);
}

static void try_lock(const char *body, size_t len, const struct switches *s)
{
	struct qlock lock = { .retained = true, .until = { 2000000000, 5 } };
	const struct qtime now = { 1900000000, 0 };
	struct qlock_change change;
	struct refusal refusal;
	char text[QTIME_TEXT_BYTES];
	struct qtime again;

	if (qlock_change_parse(body, len, s, &change, &refusal) < 0)
		return;
	(void)qlock_apply(&lock, &change, now, s, &refusal);
	if (!lock.retained || qtime_compare(lock.until, (struct qtime){ 2000000000, 5 }) < 0 || !qlock_in_force(&lock, now))
		abort();
	qtime_format(lock.until, text);
	if (qtime_parse(text, false, &again) < 0 || qtime_compare(again, lock.until) != 0)
		abort();
}

static void try_fault(const char *body, size_t len)
{
	json_t *spec = json_loadb(body, len, 0, NULL);
	struct faults *faults;
	const char *why;
	unsigned id;

	if (json_is_object(spec) && faults_open(&faults) == 0) {
		if (faults_add(faults, spec, &id, &why) == 0)
			(void)faults_match(faults, "PATCH", "/v1/files/2/file-lock");
		json_decref(faults_json(faults));
		faults_close(faults);
	}
	json_decref(spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct switches strict, lenient;
	const char *names[] = { "null-value", "no-key", "unknown-key", "offset", "past-end", "shorten", "same-end" }, *expected;
	char *text = calloc(1, len + 1), *query, *body;

	if (!strict.text[0][0]) {
		switches_init(&strict);
		switches_init(&lenient);
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (switches_set(&lenient, names[i], "ok", &expected) < 0)
				abort();
	}
	memcpy(text, data, len);
	query = strchr(text, '\n');
	if (query)
		*query++ = '\0';
	body = query ? strchr(query, '\n') : NULL;
	if (body)
		*body++ = '\0';
	try_path(text);
	if (query)
		try_query(query);
	if (body) {
		try_lock(body, len - (body - text), &strict);
		try_lock(body, len - (body - text), &lenient);
		try_fault(body, len - (body - text));
	}
	free(text);
	return 0;
}
