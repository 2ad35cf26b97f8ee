/* What a cluster answers and what it is called: replies, times, proofs, addresses, names, credentials. */
#include "tests/unit/unit.h"

#include <time.h>

#include "lockstore/upstream/credentials.h"
#include "lockstore/upstream/endpoint.h"
#include "lockstore/upstream/qumulo.h"
#include "lockstore/upstream/reply.h"

static char *dir;

static int set_up(void **state)
{
	dir = temp_dir_make();
	return 0;
}

static int tear_down(void **state)
{
	temp_dir_remove(dir);
	return 0;
}

/* ---- the table of outcomes ---- */

static void test_outcomes(void **state)
{
	static const struct { const char *promise; int status; const char *class; enum upstream_outcome want; } cases[] = {
		{ "200 is done", 200, "", UPSTREAM_DONE },
		{ "204, too", 204, "", UPSTREAM_DONE },
		{ "400 is refused", 400, "decode_error", UPSTREAM_REFUSED },
		{ "a file that is no file is refused", 400, "fs_not_a_file_error", UPSTREAM_REFUSED },
		{ "a directory is refused", 400, "fs_invalid_file_type_error", UPSTREAM_REFUSED },
		{ "400 of a locked file is to be read back", 400, "fs_read_only_error", UPSTREAM_IS_LOCKED },
		{ "401 is no login", 401, "http_unauthorized_error", UPSTREAM_UNAUTHORISED },
		{ "401 without a body", 401, "", UPSTREAM_UNAUTHORISED },
		{ "the status goes first: 401 of a read-only file", 401, "fs_read_only_error", UPSTREAM_UNAUTHORISED },
		{ "403 is no privilege", 403, "auth_not_authorized_error", UPSTREAM_DENIED },
		{ "403 is no access", 403, "fs_access_denied_error", UPSTREAM_DENIED },
		{ "403 with the name of a 401", 403, "http_unauthorized_error", UPSTREAM_DENIED },
		{ "403 of a locked file is to be read back", 403, "fs_read_only_error", UPSTREAM_IS_LOCKED },
		{ "404 is a missing name", 404, "fs_no_such_entry_error", UPSTREAM_MISSING },
		{ "404 of a directory part", 404, "fs_no_such_path_error", UPSTREAM_MISSING },
		{ "404 of a number", 404, "fs_no_such_inode_error", UPSTREAM_MISSING },
		{ "404 of a proxy", 404, "", UPSTREAM_MISSING },
		{ "405 is refused", 405, "", UPSTREAM_REFUSED },
		{ "408 is later", 408, "", UPSTREAM_BUSY },
		{ "409 is refused", 409, "fs_entry_exists_error", UPSTREAM_REFUSED },
		{ "409 of a locked file", 409, "fs_already_read_only_error", UPSTREAM_IS_LOCKED },
		{ "412 is another version", 412, "rest_precondition_failed_error", UPSTREAM_CHANGED },
		{ "412 by another name", 412, "fs_tag_mismatch_error", UPSTREAM_CHANGED },
		{ "422 is refused", 422, "", UPSTREAM_REFUSED },
		{ "429 is later", 429, "", UPSTREAM_BUSY },
		{ "500 is away", 500, "", UPSTREAM_AWAY },
		{ "502 is away", 502, "", UPSTREAM_AWAY },
		{ "503 is away, whatever it says", 503, "fs_read_only_error", UPSTREAM_AWAY },
		{ "307 is not followed", 307, "", UPSTREAM_AWAY },
		{ "100 is no answer", 100, "", UPSTREAM_AWAY },
		{ "no answer is away", 0, "", UPSTREAM_AWAY },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_STR(cases[i].promise, upstream_outcome_name(upstream_classify(cases[i].status, cases[i].class)),
			  upstream_outcome_name(cases[i].want));
}

static void parse(enum upstream_question question, int status, const char *body, struct upstream_reply *ret)
{
	CHECK_INT(body, upstream_reply_parse(question, status, body, strlen(body), ret), 0);
}

static void test_locks(void **state)
{
	static const struct { const char *promise, *lock; enum upstream_outcome want; bool has_until; int64_t until_s; bool hold; } cases[] = {
		{ "nothing set", "{\"legal_hold\": false, \"retention_period\": null}", UPSTREAM_DONE, false, 0, false },
		{ "hold only", "{\"legal_hold\": true, \"retention_period\": null}", UPSTREAM_DONE, false, 0, true },
		{ "both", "{\"legal_hold\": true, \"retention_period\": \"2024-09-15T23:41:40Z\"}", UPSTREAM_DONE, true, 1726443700, true },
		{ "with nanoseconds", "{\"retention_period\": \"2024-10-08T21:53:46.493886743Z\", \"legal_hold\": false}",
		  UPSTREAM_DONE, true, 1728424426, false },
		{ "without the hold", "{\"retention_period\": \"2024-09-15T23:41:40Z\"}", UPSTREAM_DONE, true, 1726443700, false },
		{ "with keys of tomorrow", "{\"x\": [1], \"legal_hold\": true}", UPSTREAM_DONE, false, 0, true },
		{ "a time that is none proves nothing", "{\"legal_hold\": true, \"retention_period\": \"soon\"}", UPSTREAM_UNCLEAR, false, 0, false },
		{ "nor does a number", "{\"legal_hold\": true, \"retention_period\": 7}", UPSTREAM_UNCLEAR, false, 0, false },
		{ "nor a hold that is a word", "{\"legal_hold\": \"true\", \"retention_period\": null}", UPSTREAM_UNCLEAR, false, 0, false },
		{ "nor a lock that is null", "null", UPSTREAM_UNCLEAR, false, 0, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct upstream_reply reply;
		char body[400];

		snprintf(body, sizeof(body), "{\"id\": \"7\", \"num_links\": 1, \"lock\": %s, \"path\": \"/a\"}", cases[i].lock);
		parse(UPSTREAM_SET_LOCK, 200, body, &reply);
		CHECK_INT(cases[i].promise, reply.outcome, cases[i].want);
		if (cases[i].want == UPSTREAM_DONE) {
			CHECK_INT(cases[i].promise, reply.lock.has_until, cases[i].has_until);
			CHECK_INT(cases[i].promise, reply.lock.until_s, cases[i].until_s);
			CHECK_INT(cases[i].promise, reply.lock.hold, cases[i].hold);
			CHECK_STR("id", reply.id, "7");
			CHECK_STR("path", reply.path, "/a");
		} else {
			CHECK(cases[i].promise, reply.open);
		}
		upstream_reply_fini(&reply);
	}
}

static void test_bodies(void **state)
{
	struct upstream_reply reply;
	char *huge;

	parse(UPSTREAM_SET_LOCK, 200, "{\"id\": \"7\"}", &reply);
	CHECK_INT("200 without a lock is unclear", reply.outcome, UPSTREAM_UNCLEAR);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_ATTRIBUTES, 200, "{\"id\": \"7\"}", &reply);
	CHECK_INT("attributes need none", reply.outcome, UPSTREAM_DONE);
	CHECK("and have none", !reply.has_lock);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_SET_LOCK, 200, "<html>welcome</html>", &reply);
	CHECK_INT("what is not JSON is unclear", reply.outcome, UPSTREAM_UNCLEAR);
	CHECK("and open", reply.open);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_SET_LOCK, 200, "", &reply);
	CHECK_INT("so is nothing", reply.outcome, UPSTREAM_UNCLEAR);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_SET_LOCK, 403, "{\"error_class\": \"fs_access_denied_error\", \"description\": \"a\\nb\", \"stack\": []}", &reply);
	CHECK_INT("403", reply.outcome, UPSTREAM_DENIED);
	CHECK_STR("class", reply.error_class, "fs_access_denied_error");
	CHECK_STR("text is one line", reply.text, "a?b");
	CHECK("closed", !reply.open);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_SET_LOCK, 500, "oops", &reply);
	CHECK("after a 500 it may have been done", reply.open);
	CHECK_STR("text", reply.text, "status 500");
	upstream_reply_fini(&reply);
	parse(UPSTREAM_LOGIN, 200, "{\"bearer_token\": \"\"}", &reply);
	CHECK_INT("an empty token is none", reply.outcome, UPSTREAM_UNCLEAR);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_LOGIN, 200, "{\"bearer_token\": \"1:abc\"}", &reply);
	CHECK_STR("token", reply.token, "1:abc");
	upstream_reply_fini(&reply);
	CHECK("which is gone", reply.token == NULL);
	parse(UPSTREAM_WHO_AM_I, 200, "{\"name\": \"svc\", \"privileges\": [\"A\", 7, \"PRIVILEGE_FS_FILE_LOCK_WRITE\"]}", &reply);
	CHECK_STR("who", reply.who, "svc");
	CHECK("privilege", upstream_reply_has_privilege(&reply, QUMULO_PRIVILEGE));
	CHECK("no other", !upstream_reply_has_privilege(&reply, "PRIVILEGE_FS"));
	upstream_reply_fini(&reply);
	parse(UPSTREAM_VERSION, 200, "{\"revision_id\": \"Qumulo Core 7.9.2.1\"}", &reply);
	CHECK_STR("version", reply.version, "Qumulo Core 7.9.2.1");
	upstream_reply_fini(&reply);
	parse(UPSTREAM_ENTRIES, 200, "{\"files\": [{\"name\": \"a\", \"id\": \"3\", \"type\": \"FS_FILE_TYPE_FILE\"}, {}],"
	      " \"paging\": {\"next\": \"/v1/files/2/entries/?limit=2&after=AAB%3D&x=1\"}}", &reply);
	CHECK_INT("entries", reply.nentries, 2);
	CHECK_STR("name", reply.entries[0].name, "a");
	CHECK("nothing", reply.entries[1].name == NULL);
	CHECK_STR("cursor", reply.after, "AAB%3D");
	upstream_reply_fini(&reply);
	parse(UPSTREAM_ENTRIES, 200, "{\"files\": [], \"paging\": {\"next\": \"\"}}", &reply);
	CHECK("the last page has no cursor", reply.outcome == UPSTREAM_DONE && !reply.after);
	upstream_reply_fini(&reply);
	parse(UPSTREAM_RESOLVE, 200, "[{\"id\": \"1003\", \"path\": \"/x\"}]", &reply);
	CHECK_STR("resolved", reply.entries[0].path, "/x");
	upstream_reply_fini(&reply);
	huge = calloc(1, UPSTREAM_REPLY_MAX_BYTES + 2);
	assert_non_null(huge);
	memset(huge, ' ', UPSTREAM_REPLY_MAX_BYTES + 1);
	parse(UPSTREAM_SET_LOCK, 200, huge, &reply);
	CHECK_INT("a huge body is unclear", reply.outcome, UPSTREAM_UNCLEAR);
	upstream_reply_fini(&reply);
	free(huge);
}

static void test_headers(void **state)
{
	static const struct { const char *promise, *line; unsigned retry_s; int64_t date_s; const char *etag; } cases[] = {
		{ "seconds", "Retry-After: 7\r\n", 7, 0, "" },
		{ "any case", "retry-after:7\r\n", 7, 0, "" },
		{ "no more than the cap", "Retry-After: 86400\r\n", UPSTREAM_RETRY_AFTER_MAX_S, 0, "" },
		{ "no overflow", "Retry-After: 99999999999999999999999\r\n", UPSTREAM_RETRY_AFTER_MAX_S, 0, "" },
		{ "a date is not said", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0, 0, "" },
		{ "negative is not said", "Retry-After: -1\r\n", 0, 0, "" },
		{ "date", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0, 784111777, "" },
		{ "no date", "Date: yesterday\r\n", 0, 0, "" },
		{ "a tag with its quotes", "ETag: \"a b\"\r\n", 0, 0, "\"a b\"" },
		{ "a longer name is another", "ETagged: x\r\n", 0, 0, "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct upstream_reply reply = { .status = 0 };

		upstream_reply_header(&reply, cases[i].line, strlen(cases[i].line));
		CHECK_INT(cases[i].promise, reply.retry_after_s, cases[i].retry_s);
		CHECK_INT(cases[i].promise, reply.date_s, cases[i].date_s);
		CHECK_STR(cases[i].promise, reply.etag, cases[i].etag);
	}
}

static void test_times(void **state)
{
	static const struct { const char *text; int r; int64_t want; } cases[] = {
		{ "1970-01-01T00:00:01Z", 0, 1 }, { "1970-01-01T00:00:01.9Z", 0, 1 }, { "1970-01-01T00:00:01.000000009Z", 0, 1 },
		{ "9999-12-31T23:59:59.999999999Z", 0, 253402300799 },
		{ "1970-01-01T00:00:01.Z", -EINVAL, 0 }, { "1970-01-01T00:00:01.0000000001Z", -EINVAL, 0 },
		{ "1970-01-01T00:00:01+00:00", -EINVAL, 0 }, { "1970-01-01 00:00:01Z", -EINVAL, 0 }, { "1970-01-01T00:00:01", -EINVAL, 0 },
		{ "1970-01-01", -EINVAL, 0 }, { "", -EINVAL, 0 }, { "infinite", -EINVAL, 0 }, { "1970-13-01T00:00:01Z", -EINVAL, 0 },
		{ "1970-01-01T00:00:01ZZ", -EINVAL, 0 }, { "1970-01-01T00:00:01.1ZZ", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t s = 0;

		CHECK_INT(cases[i].text, upstream_time_parse(cases[i].text, &s), cases[i].r);
		CHECK_INT(cases[i].text, s, cases[i].want);
	}
}

static void test_proof(void **state)
{
	static const struct { const char *promise; struct upstream_lock have, want; bool covers; } cases[] = {
		{ "the same end", { true, 100, false }, { true, 100, false }, true },
		{ "a later end", { true, 101, false }, { true, 100, false }, true },
		{ "an earlier end", { true, 99, false }, { true, 100, false }, false },
		{ "no end", { false, 0, true }, { true, 100, false }, false },
		{ "a hold", { false, 0, true }, { false, 0, true }, true },
		{ "no hold", { true, 100, false }, { true, 100, true }, false },
		{ "somebody else's hold", { true, 100, true }, { true, 100, false }, true },
		{ "both", { true, 100, true }, { true, 100, true }, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].promise, upstream_lock_covers(&cases[i].have, &cases[i].want), cases[i].covers);
}

static void test_whose_answer_it_is(void **state)
{
	static const struct { const char *promise, *says; unsigned links; const char *root, *path; bool ours; } cases[] = {
		{ "the path that was asked about", "/x/d/f", 1, "/x", "d/f", true },
		{ "below the root of all", "/f", 1, "/", "f", true },
		{ "another name", "/x/d/g", 1, "/x", "d/f", false },
		{ "a longer name", "/x/d/ff", 1, "/x", "d/f", false },
		{ "a shorter name", "/x/d", 1, "/x", "d/f", false },
		{ "another root", "/y/d/f", 1, "/x", "d/f", false },
		{ "a root that only begins alike", "/xd/f", 1, "/x", "d/f", false },
		{ "nothing", "", 1, "/x", "f", false },
		{ "how many names is not said", "/x/g", 0, "/x", "f", false },
		{ "one of several names", "/x/g", 2, "/x", "f", true },
		{ "no path is said", NULL, 1, "/x", "f", true },
		{ "a name that JSON cannot have", "/x/\xef\xbf\xbd", 1, "/x", "\xff", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct upstream_reply reply = { .path = (char *)cases[i].says, .num_links = cases[i].links };

		CHECK_INT(cases[i].promise, upstream_reply_is_of(&reply, cases[i].root, cases[i].path), cases[i].ours);
	}
}

/* ---- addresses ---- */

static void test_endpoint(void **state)
{
	static const struct { const char *text, *url; } cases[] = {
		{ "qumulo:cluster", "https://cluster:8000" },
		{ "qumulo:cluster.example.com:8443", "https://cluster.example.com:8443" },
		{ "qumulo:https://cluster/", "https://cluster:8000" },
		{ "qumulo:cluster/api", "https://cluster:443/api" },
		{ "qumulo:cluster:8000/api/", "https://cluster:8000/api" },
		{ "qumulo:[fd00::1]:8000", "https://[fd00::1]:8000" },
		{ "qumulo:http://127.0.0.1:80", "http://127.0.0.1:80" },
		{ "qumulo:http://localhost", "http://localhost:8000" },
		{ "qumulo:http://[::1]:9", "http://[::1]:9" },
		{ "qumulo:http://10.0.0.1", NULL }, { "qumulo:http://localhost.example.com", NULL },
		{ "cluster", NULL }, { "qumulo:", NULL }, { "qumulo:a b", NULL }, { "qumulo:user@host", NULL }, { "qumulo:h:0", NULL },
		{ "qumulo:h:65536", NULL }, { "qumulo:h:80x", NULL }, { "qumulo:h/?a", NULL }, { "qumulo:[::1", NULL },
		{ "qumulo:[x]", NULL }, { "qumulo:-h", NULL },
	};
	char error[ENDPOINT_ERROR_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct endpoint e;

		CHECK_INT(cases[i].text, endpoint_parse(cases[i].text, &e, error), cases[i].url ? 0 : -EINVAL);
		if (cases[i].url)
			CHECK_STR(cases[i].text, e.url, cases[i].url);
	}
}

static void test_refs(void **state)
{
	static const struct { const char *root, *path, *want; } cases[] = {
		{ "/", "a", "%2Fa" }, { "/", "", "%2F" }, { "/a", "b c.txt", "%2Fa%2Fb%20c.txt" }, { "/a/b", "", "%2Fa%2Fb" },
		{ "/x", "d/e~f_g-h.i", "%2Fx%2Fd%2Fe~f_g-h.i" }, { "/x", "\xc3\xa4\xff%+?#", "%2Fx%2F%C3%A4%FF%25%2B%3F%23" },
		{ "/x", "a\nb", "%2Fx%2Fa%0Ab" },
	};
	static const struct { const char *root; int want; } roots[] = {
		{ "/", 0 }, { "/a", 0 }, { "/a/b c", 0 }, { "", -EINVAL }, { "a", -EINVAL }, { "/a/", -EINVAL }, { "//a", -EINVAL },
		{ "/a/../b", -EINVAL }, { "/.", -EINVAL }, { "/..a", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *ref;

		CHECK_INT(cases[i].path, endpoint_ref(cases[i].root, cases[i].path, &ref), 0);
		CHECK_STR(cases[i].path, ref, cases[i].want);
		free(ref);
	}
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		CHECK_INT(roots[i].root, endpoint_check_root(roots[i].root), roots[i].want);
}

static void test_versions(void **state)
{
	static const struct { const char *text; int r; bool good; } cases[] = {
		{ "Qumulo Core 7.2.1", 0, true }, { "Qumulo Core 7.2.0.1", 0, false }, { "Qumulo Core 7.10.0", 0, true },
		{ "Qumulo Core 6.9.9", 0, false }, { "Qumulo Core 10.0.0", 0, true }, { "Qumulo", -EINVAL, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool good = false;

		CHECK_INT(cases[i].text, qumulo_version_check(cases[i].text, &good), cases[i].r);
		CHECK_INT(cases[i].text, good, cases[i].good);
	}
}

/* ---- credentials ---- */

static void test_credentials(void **state)
{
	static const struct { const char *promise, *text; int r; const char *token, *user, *password; } cases[] = {
		{ "the file of qq", "{\"version\": 1, \"bearer_token\": \"access-v1:abc==\"}", 0, "access-v1:abc==", NULL, NULL },
		{ "user and password as JSON", "{\"username\": \"u\", \"password\": \"p w\"}", 0, NULL, "u", "p w" },
		{ "lines", "# mine\nuser = u\npassword = a=b # c\n", 0, NULL, "u", "a=b # c" },
		{ "lines of an INI file", "[qumulo]\nhost = h\nusername=u\npassword=%\n", 0, NULL, "u", "%" },
		{ "a token in a line", "token = access-v1:x==\n", 0, "access-v1:x==", NULL, NULL },
		{ "a token alone", "access-v1:abc==\n", 0, "access-v1:abc==", NULL, NULL },
		{ "an empty password is one", "user=u\npassword=\n", 0, NULL, "u", "" },
		{ "the later line counts", "user=a\nuser=b\npassword=p\n", 0, NULL, "b", "p" },
		{ "no password", "user = u\n", -EINVAL, NULL, NULL, NULL },
		{ "no user", "password = u\n", -EINVAL, NULL, NULL, NULL },
		{ "nothing", "", -EINVAL, NULL, NULL, NULL },
		{ "no JSON", "{", -EINVAL, NULL, NULL, NULL },
		{ "a token that would be two headers", "{\"bearer_token\": \"a\\r\\nX: b\"}", -EINVAL, NULL, NULL, NULL },
		{ "two words", "my token\n", -EINVAL, NULL, NULL, NULL },
	};
	const char *path = path_in(dir, "credentials");
	char error[CREDENTIALS_ERROR_BYTES];
	struct upstream_credentials *c;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file(path, cases[i].text, strlen(cases[i].text));
		assert_int_equal(chmod(path, 0600), 0);
		CHECK_INT(cases[i].promise, upstream_credentials_open(path, &c, error), cases[i].r);
		if (cases[i].r < 0)
			continue;
		if (cases[i].token) {
			CHECK_STR(cases[i].promise, upstream_credentials_token(c), cases[i].token);
		} else {
			CHECK(cases[i].promise, !upstream_credentials_token(c));
			CHECK_STR(cases[i].promise, upstream_credentials_user(c), cases[i].user);
			CHECK_STR(cases[i].promise, upstream_credentials_password(c), cases[i].password);
		}
		upstream_credentials_close(c);
	}
	upstream_credentials_close(NULL);
}

static void test_credentials_are_ours_alone(void **state)
{
	static const mode_t modes[] = { 0640, 0604, 0620, 0644, 0601 };
	const char *path = path_in(dir, "open"), *text = "token=secret-of-mine\n";
	char error[CREDENTIALS_ERROR_BYTES];
	struct upstream_credentials *c;

	write_file(path, text, strlen(text));
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		CHECK_INT("a file that others can touch is refused", upstream_credentials_open(path, &c, error), -EPERM);
		CHECK("with what to do", strstr(error, "chmod 600") != NULL);
		CHECK("and no secret", strstr(error, "secret") == NULL);
	}
	assert_int_equal(chmod(path, 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1234, 0), 0);
		CHECK_INT("somebody else's file is refused", upstream_credentials_open(path, &c, error), -EPERM);
		assert_int_equal(chown(path, 0, 0), 0);
	}
	CHECK_INT("no file", upstream_credentials_open(path_in(dir, "missing"), &c, error), -ENOENT);
	CHECK_INT("a directory", upstream_credentials_open(dir, &c, error), -EINVAL);
	CHECK_INT("ours alone", upstream_credentials_open(path, &c, error), 0);
	CHECK_INT("nothing new", upstream_credentials_reload(c, error), 0);
	write_file(path, "token=another\n", 14);
	assert_int_equal(chmod(path, 0600), 0);
	CHECK_INT("a new token", upstream_credentials_reload(c, error), 1);
	CHECK_STR("is taken", upstream_credentials_token(c), "another");
	write_file(path, "nothing\n here", 13);
	assert_int_equal(chmod(path, 0600), 0);
	CHECK_INT("a broken file", upstream_credentials_reload(c, error), -EINVAL);
	CHECK_STR("leaves what there was", upstream_credentials_token(c), "another");
	upstream_credentials_close(c);
}

static void test_environment(void **state)
{
	char error[CREDENTIALS_ERROR_BYTES];
	struct upstream_credentials *c;

	unsetenv(CREDENTIALS_ENV_TOKEN);
	unsetenv(CREDENTIALS_ENV_USER);
	unsetenv(CREDENTIALS_ENV_PASSWORD);
	CHECK_INT("nothing", upstream_credentials_open(NULL, &c, error), -ENOENT);
	setenv(CREDENTIALS_ENV_USER, "u", 1);
	CHECK_INT("no password", upstream_credentials_open(NULL, &c, error), -EINVAL);
	setenv(CREDENTIALS_ENV_USER, "u", 1);
	setenv(CREDENTIALS_ENV_PASSWORD, "p", 1);
	CHECK_INT("user and password", upstream_credentials_open(NULL, &c, error), 0);
	CHECK_STR("user", upstream_credentials_user(c), "u");
	CHECK("which the environment has no more", !getenv(CREDENTIALS_ENV_PASSWORD));
	upstream_credentials_close(c);
	setenv(CREDENTIALS_ENV_TOKEN, "access-v1:x", 1);
	CHECK_INT("a token", upstream_credentials_open(NULL, &c, error), 0);
	CHECK_STR("token", upstream_credentials_token(c), "access-v1:x");
	upstream_credentials_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_proof),
		cmocka_unit_test(test_whose_answer_it_is),
		cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_refs),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_credentials_are_ours_alone),
		cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests_name("upstream", tests, set_up, tear_down);
}
