/* The pure parts of mockqumulo: references, times, the rules of a lock, switches, faults. */
#include "mockarchive/mockqumulo/faults.h"
#include "mockarchive/mockqumulo/lock_rules.h"
#include "mockarchive/mockqumulo/qtime.h"
#include "mockarchive/mockqumulo/route.h"
#include "mockarchive/mockqumulo/switches.h"
#include "tests/unit/unit.h"

static void a_reference_is_an_id_or_one_encoded_path(void **state)
{
	static const struct { const char *raw; int r; enum endpoint endpoint; const char *path; uint64_t id; const char *name; } cases[] = {
		{ .raw = "/v1/version", .endpoint = EP_VERSION },
		{ .raw = "/v1/version/", .r = -ENOENT },
		{ .raw = "/v2/version", .r = -ENOENT },
		{ .raw = "/v1/session/login", .endpoint = EP_LOGIN },
		{ .raw = "/v1/session/who-am-i", .endpoint = EP_WHO_AM_I },
		{ .raw = "/v1/files/resolve", .endpoint = EP_RESOLVE },
		{ .raw = "/v1/files/try-resolve", .endpoint = EP_TRY_RESOLVE },
		{ .raw = "/v1/file-system/settings/notify", .endpoint = EP_NOTIFY_SETTINGS },
		{ .raw = "/v1/files/2/info/attributes", .endpoint = EP_ATTRIBUTES, .id = 2 },
		{ .raw = "/v1/files/18446744073709551615/file-lock", .endpoint = EP_FILE_LOCK, .id = UINT64_MAX },
		{ .raw = "/v1/files/18446744073709551616/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2F/info/attributes", .endpoint = EP_ATTRIBUTES, .path = "/" },
		{ .raw = "/v1/files/%2fa%2Fb%20c.txt/file-lock", .endpoint = EP_FILE_LOCK, .path = "/a/b c.txt" },
		{ .raw = "/api/v1/files/%2Fa/file-lock", .endpoint = EP_FILE_LOCK, .path = "/a" },
		{ .raw = "/v1/files/%2Fa%2F/file-lock", .endpoint = EP_FILE_LOCK, .path = "/a" },
		{ .raw = "/v1/files/%2Fa", .endpoint = EP_FILE, .path = "/a" },
		{ .raw = "/v1/files/%2Fa/", .r = -ENOENT },
		{ .raw = "/v1/files/%2Fa/file-lock/", .r = -ENOENT },
		{ .raw = "/v1/files/%2Fa/entries/", .endpoint = EP_ENTRIES, .path = "/a" },
		{ .raw = "/v1/files/%2Fa/entries", .r = -ENOENT },
		{ .raw = "/v1/files/%2Fa/entries/b%2Fc", .r = -ENXIO },
		{ .raw = "/v1/files/%2Fa/entries/b%20c", .endpoint = EP_ENTRY, .path = "/a", .name = "b c" },
		{ .raw = "/v1/files/%2Fa/entries/b/c", .r = -ENOENT },
		{ .raw = "/v1/files/%2Fa/entries/..", .r = -ENXIO },
		{ .raw = "/v1/files/a/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/a%2Fb/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files//file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/a/b/file-lock", .r = -ENOENT },
		{ .raw = "/v1/files//a/b/file-lock", .r = -ENOENT },
		{ .raw = "/v1/files/%2Fa%00b/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2Fa%2/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2Fa%2F..%2Fb/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2F%2Fa/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2Fa%2F%2F/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2F.%2Fa/file-lock", .r = -ENXIO },
		{ .raw = "/v1/files/%2Fa%FF/file-lock", .r = -EILSEQ },
		{ .raw = "/v1/files/%2Fgr%C3%BC%C3%9Fe/data", .endpoint = EP_DATA, .path = "/gr\xc3\xbc\xc3\x9f" "e" },
		{ .raw = "/v1/files/%2Fa+b/notify", .endpoint = EP_NOTIFY, .path = "/a+b" },
		{ .raw = "/v1/files/2x/file-lock", .r = -ENXIO },
		{ .raw = "", .r = -ENOENT }, { .raw = "/", .r = -ENOENT }, { .raw = "*", .r = -ENOENT },
		{ .raw = "/mock/journal", .endpoint = EP_CONTROL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct route route;
		int r = route_parse(cases[i].raw, false, &route);

		CHECK_INT(cases[i].raw, r, cases[i].r);
		if (r < 0)
			continue;
		CHECK_INT(cases[i].raw, route.endpoint, cases[i].endpoint);
		CHECK_INT(cases[i].raw, route.id, cases[i].id);
		CHECK_STR(cases[i].raw, route.path ? route.path : "-", cases[i].path ? cases[i].path : "-");
		CHECK_STR(cases[i].raw, route.name ? route.name : "-", cases[i].name ? cases[i].name : "-");
		route_fini(&route);
	}
}

static void a_plus_is_a_space_only_where_the_switch_says_so(void **state)
{
	struct route route;

	assert_int_equal(route_parse("/v1/files/%2Fa+b%2Bc/data", true, &route), 0);
	CHECK_STR("space", route.path, "/a b+c");
	route_fini(&route);
}

static void a_name_or_path_that_is_too_long_is_none(void **state)
{
	static char raw[200000] = "/v1/files/%2F";
	size_t n = strlen(raw);
	struct route route;

	memset(raw + n, 'a', 255);
	strcpy(raw + n + 255, "/data");
	assert_int_equal(route_parse(raw, false, &route), 0);
	route_fini(&route);
	memset(raw + n, 'a', 256);
	strcpy(raw + n + 256, "/data");
	CHECK_INT("256", route_parse(raw, false, &route), -ENXIO);
	for (unsigned i = 0; i < 32760 / 2; i++)
		strcpy(raw + strlen("/v1/files/") + 4 * i, "%2Fa");
	strcat(raw, "/data");
	assert_int_equal(route_parse(raw, false, &route), 0);
	CHECK_INT("the longest there is", strlen(route.path), 32760);
	route_fini(&route);
	strcpy(raw + strlen(raw) - strlen("/data"), "%2Fa/data");
	CHECK_INT("and one more", route_parse(raw, false, &route), -ENXIO);
}

static void a_time_has_up_to_nine_digits_of_a_second(void **state)
{
	static const struct { const char *text; int r; int64_t s; uint32_t ns; const char *back; } cases[] = {
		{ .text = "2024-08-14T23:37:48Z", .s = 1723678668, .back = "2024-08-14T23:37:48Z" },
		{ .text = "2024-10-08T21:53:46.493886743Z", .s = 1728424426, .ns = 493886743, .back = "2024-10-08T21:53:46.493886743Z" },
		{ .text = "2024-10-08T21:53:46.5Z", .s = 1728424426, .ns = 500000000, .back = "2024-10-08T21:53:46.5Z" },
		{ .text = "2024-10-08T21:53:46.50Z", .s = 1728424426, .ns = 500000000, .back = "2024-10-08T21:53:46.5Z" },
		{ .text = "2024-10-08T21:53:46.56621474Z", .s = 1728424426, .ns = 566214740, .back = "2024-10-08T21:53:46.56621474Z" },
		{ .text = "2024-10-08T21:53:46.000000001Z", .s = 1728424426, .ns = 1, .back = "2024-10-08T21:53:46.000000001Z" },
		{ .text = "2024-10-08T21:53:46.0Z", .s = 1728424426, .back = "2024-10-08T21:53:46Z" },
		{ .text = "1970-01-01T00:00:00Z", .back = "1970-01-01T00:00:00Z" },
		{ .text = "9999-12-31T23:59:59Z", .s = 253402300799, .back = "9999-12-31T23:59:59Z" },
		{ .text = "2024-02-29T00:00:00Z", .s = 1709164800, .back = "2024-02-29T00:00:00Z" },
		{ .text = "2023-02-29T00:00:00Z", .r = -EINVAL },
		{ .text = "2024-13-01T00:00:00Z", .r = -EINVAL },
		{ .text = "2024-01-01T24:00:00Z", .r = -EINVAL },
		{ .text = "2024-01-01T00:60:00Z", .r = -EINVAL },
		{ .text = "2024-00-01T00:00:00Z", .r = -EINVAL },
		{ .text = "1969-12-31T23:59:59Z", .r = -EINVAL },
		{ .text = "2024-10-08T21:53:46.Z", .r = -EINVAL },
		{ .text = "2024-10-08T21:53:46.1234567890Z", .r = -EINVAL },
		{ .text = "2024-10-08T21:53:46", .r = -EINVAL },
		{ .text = "2024-10-08 21:53:46Z", .r = -EINVAL },
		{ .text = "2024-10-08", .r = -EINVAL },
		{ .text = "", .r = -EINVAL },
		{ .text = "2024-10-08T21:53:46Zx", .r = -EINVAL },
		{ .text = "2024-10-08T21:53:46+02:00", .r = -EINVAL },
		{ .text = "1728424426", .r = -EINVAL },
		{ .text = "2024-1-08T21:53:46Z", .r = -EINVAL },
	};
	char text[QTIME_TEXT_BYTES];
	struct qtime t;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(cases[i].text, qtime_parse(cases[i].text, false, &t), cases[i].r);
		if (cases[i].r < 0)
			continue;
		CHECK_INT(cases[i].text, t.s, cases[i].s);
		CHECK_INT(cases[i].text, t.ns, cases[i].ns);
		qtime_format(t, text);
		CHECK_STR(cases[i].text, text, cases[i].back);
	}
	CHECK_INT("an offset where it is allowed", qtime_parse("2024-10-08T21:53:46.5+02:30", true, &t), 0);
	CHECK_INT("in UTC", t.s, 1728424426 - 9000);
	CHECK_INT("to the west", qtime_parse("2024-10-08T21:53:46-02:00", true, &t), 0);
	CHECK_INT("in UTC", t.s, 1728424426 + 7200);
	CHECK_INT("no such offset", qtime_parse("2024-10-08T21:53:46+24:00", true, &t), -EINVAL);
	CHECK_INT("before 1970", qtime_parse("1970-01-01T00:00:00+00:01", true, &t), -EINVAL);
	qtime_format_http(1795593600, text);
	CHECK_STR("HTTP", text, "Wed, 25 Nov 2026 08:00:00 GMT");
}

static const struct qtime now = { 1000, 0 };

static int set(struct qlock *lock, struct switches *s, bool sets_until, int64_t until_s, bool sets_hold, bool hold, struct refusal *refusal)
{
	struct qlock_change change = { .sets_until = sets_until, .until = { until_s, 0 }, .sets_hold = sets_hold, .hold = hold };

	return qlock_apply(lock, &change, now, s, refusal);
}

static void a_lock_is_only_ever_extended(void **state)
{
	struct refusal refusal;
	struct switches s;
	struct qlock lock = { 0 };
	const char *expected;

	switches_init(&s);
	CHECK("no lock", !qlock_in_force(&lock, now));
	CHECK_INT("set", set(&lock, &s, true, 2000, false, false, &refusal), 0);
	CHECK("in force", qlock_in_force(&lock, now));
	CHECK_INT("shorter", set(&lock, &s, true, 1999, false, false, &refusal), -EPERM);
	CHECK_INT("its status", refusal.status, 400);
	CHECK_INT("longer", set(&lock, &s, true, 3000, false, false, &refusal), 0);
	CHECK_INT("the same", set(&lock, &s, true, 3000, false, false, &refusal), 0);
	CHECK_INT("shorter, and a hold", set(&lock, &s, true, 1999, true, true, &refusal), -EPERM);
	CHECK("all or nothing", !lock.hold);
	CHECK_INT("a hold alone", set(&lock, &s, false, 0, true, true, &refusal), 0);
	CHECK_INT("leaves the end", lock.until.s, 3000);
	CHECK_INT("a release", set(&lock, &s, false, 0, true, false, &refusal), 0);
	CHECK("leaves the end, too", lock.until.s == 3000 && lock.retained && !lock.hold);
	CHECK("its end", !qlock_in_force(&lock, (struct qtime){ 3000, 0 }) && qlock_in_force(&lock, (struct qtime){ 2999, 999999999 }));
	assert_int_equal(switches_set(&s, "same-end", "409:fs_already_read_only_error", &expected), 0);
	CHECK_INT("the same, as a cluster might see it", set(&lock, &s, true, 3000, false, false, &refusal), -EPERM);
	CHECK("as told", refusal.status == 409 && strcmp(refusal.error_class, "fs_already_read_only_error") == 0);
	assert_int_equal(switches_set(&s, "shorten", "ok", &expected), 0);
	CHECK_INT("shorter, said to be fine", set(&lock, &s, true, 1500, false, false, &refusal), 0);
	CHECK_INT("is not done", lock.until.s, 3000);
}

static void an_end_that_has_passed_is_the_switch_s_to_allow(void **state)
{
	struct refusal refusal;
	struct switches s;
	struct qlock lock = { 0 };
	const char *expected;

	switches_init(&s);
	CHECK_INT("refused", set(&lock, &s, true, 1000, false, false, &refusal), -EPERM);
	assert_int_equal(switches_set(&s, "past-end", "ok", &expected), 0);
	CHECK_INT("allowed", set(&lock, &s, true, 900, false, false, &refusal), 0);
	CHECK("locks nothing", lock.retained && !qlock_in_force(&lock, now));
	CHECK_INT("an expired lock takes a new end", set(&lock, &s, true, 1001, false, false, &refusal), 0);
	CHECK("which locks", qlock_in_force(&lock, now));
}

static void a_body_that_is_not_of_the_form_is_refused(void **state)
{
	static const struct { const char *body; const char *switches; int r; unsigned status; } cases[] = {
		{ .body = "{\"retention_period\": \"2030-01-02T03:04:05Z\"}" },
		{ .body = "{\"retention_period\": \"2030-01-02T03:04:05.5Z\", \"legal_hold\": true}" },
		{ .body = "{\"legal_hold\": false}" },
		{ .body = "{}" },
		{ .body = "{}", .switches = "no-key=400:decode_error", .r = -EINVAL, .status = 400 },
		{ .body = "", .r = -EINVAL, .status = 400 },
		{ .body = "[]", .r = -EINVAL, .status = 400 },
		{ .body = "{", .r = -EINVAL, .status = 400 },
		{ .body = "null", .r = -EINVAL, .status = 400 },
		{ .body = "{\"legal_hold\": \"true\"}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"legal_hold\": 1}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"retention_period\": 1893553445}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"retention_period\": \"30d\"}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"retention_period\": null}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"retention_period\": null}", .switches = "null-value=ok" },
		{ .body = "{\"retention_period\": \"2030-01-02T03:04:05+02:00\"}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"retention_period\": \"2030-01-02T03:04:05+02:00\"}", .switches = "offset=ok" },
		{ .body = "{\"hold\": true}", .r = -EINVAL, .status = 400 }, { .body = "{\"hold\": true}", .switches = "unknown-key=ok" },
		{ .body = "{\"legal_hold\": true, \"legal_hold\": false}", .r = -EINVAL, .status = 400 },
		{ .body = "{\"legal_hold\": true} x", .r = -EINVAL, .status = 400 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct qlock_change change;
		struct refusal refusal = { 0 };
		const char *expected;
		struct switches s;
		char name[64];

		switches_init(&s);
		if (cases[i].switches) {
			snprintf(name, sizeof(name), "%.*s", (int)strcspn(cases[i].switches, "="), cases[i].switches);
			assert_int_equal(switches_set(&s, name, strchr(cases[i].switches, '=') + 1, &expected), 0);
		}
		CHECK_INT(cases[i].body, qlock_change_parse(cases[i].body, strlen(cases[i].body), &s, &change, &refusal), cases[i].r);
		CHECK_INT(cases[i].body, refusal.status, cases[i].status);
	}
}

static void every_switch_has_a_value_and_keeps_it(void **state)
{
	struct switches s;
	json_t *all, *value;
	const char *name, *expected;

	switches_init(&s);
	all = switches_json(&s);
	CHECK_INT("all", json_object_size(all), SW_COUNT);
	json_object_foreach(all, name, value)
		CHECK_INT(name, switches_set(&s, name, json_string_value(value), &expected), 0);
	json_decref(all);
	CHECK_INT("no such switch", switches_set(&s, "x", "1", &expected), -ENOENT);
	CHECK_INT("no such choice", switches_set(&s, "expired", "maybe", &expected), -EINVAL);
	CHECK_STR("it says which there are", expected, "shown|null");
	CHECK_INT("no number", switches_set(&s, "latency-ms", "-1", &expected), -EINVAL);
	CHECK_INT("a success is no refusal", switches_set(&s, "shorten", "200", &expected), -EINVAL);
	CHECK_INT("a status alone", switches_set(&s, "shorten", "409", &expected), 0);
	CHECK_STR("has no class", switch_error_class(&s, SW_SHORTEN), "");
}

static unsigned add(struct faults *f, const char *spec, int want)
{
	json_t *object = json_loads(spec, 0, NULL);
	const char *why;
	unsigned id = 0;

	assert_non_null(object);
	CHECK_INT(spec, faults_add(f, object, &id, &why), want);
	json_decref(object);
	return id;
}

static void a_fault_fires_as_often_as_it_was_told(void **state)
{
	unsigned id, fired = 0;
	struct faults *f;
	json_t *all;

	assert_int_equal(faults_open(&f), 0);
	CHECK("none", !faults_match(f, "GET", "/v1/version"));
	id = add(f, "{\"kind\": \"503\", \"method\": \"PATCH\", \"path\": \"*/file-lock\", \"skip\": 1, \"times\": 2}", 0);
	CHECK("another method", !faults_match(f, "GET", "/v1/files/2/file-lock"));
	CHECK("another path", !faults_match(f, "PATCH", "/v1/files/2/info/attributes"));
	for (unsigned i = 0; i < 5; i++) {
		const struct fault *fault = faults_match(f, "PATCH", "/v1/files/2/file-lock");

		CHECK_INT("the second and the third", fault != NULL, i == 1 || i == 2);
		CHECK("as told", !fault || fault->status == 503);
	}
	all = faults_json(f);
	CHECK_INT("counted", json_integer_value(json_object_get(json_array_get(all, 0), "fired")), 2);
	json_decref(all);
	CHECK_INT("removed", faults_remove(f, id), 0);
	CHECK_INT("once", faults_remove(f, id), -ENOENT);
	add(f, "{\"kind\": \"cut\", \"nth\": 3}", 0);
	for (unsigned i = 1; i <= 5; i++)
		CHECK_INT("the third", faults_match(f, "GET", "/") != NULL, i == 3);
	(void)faults_remove(f, 0);
	add(f, "{\"kind\": \"close-after\", \"probability\": 0.25, \"seed\": 7}", 0);
	for (unsigned i = 0; i < 10000; i++)
		fired += faults_match(f, "GET", "/") != NULL;
	CHECK("about a quarter", fired > 2200 && fired < 2800);
	add(f, "{\"kind\": \"unheard of\"}", -EINVAL);
	add(f, "{\"kind\": \"503\", \"what\": 1}", -EINVAL);
	add(f, "{\"kind\": \"503\", \"probability\": 2}", -EINVAL);
	add(f, "{\"kind\": \"503\", \"times\": -1}", -EINVAL);
	add(f, "{\"kind\": \"status\"}", -EINVAL);
	add(f, "{}", -EINVAL);
	faults_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reference_is_an_id_or_one_encoded_path),
		cmocka_unit_test(a_plus_is_a_space_only_where_the_switch_says_so),
		cmocka_unit_test(a_name_or_path_that_is_too_long_is_none),
		cmocka_unit_test(a_time_has_up_to_nine_digits_of_a_second),
		cmocka_unit_test(a_lock_is_only_ever_extended),
		cmocka_unit_test(an_end_that_has_passed_is_the_switch_s_to_allow),
		cmocka_unit_test(a_body_that_is_not_of_the_form_is_refused),
		cmocka_unit_test(every_switch_has_a_value_and_keeps_it),
		cmocka_unit_test(a_fault_fires_as_often_as_it_was_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
