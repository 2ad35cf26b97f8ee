/* Requests of the control socket: each verb's arguments have the types that its row says, before anything is done. */
#include "tests/unit/unit.h"

#include "fs/control_request.h"

static const struct { const char *promise, *line; int open, check; } cases[] = {
	{ "a verb without arguments is taken", "{\"verb\":\"mount\"}", 0, 0 },
	{ "an argument that no verb has is not looked at", "{\"verb\":\"mount\",\"colour\":[1]}", 0, 0 },
	{ "no JSON is no request", "hello", -EINVAL, 0 },
	{ "two objects are no request", "{\"verb\":\"mount\"}{}", -EINVAL, 0 },
	{ "the same key twice is no request", "{\"verb\":\"mount\",\"verb\":\"lower\"}", -EINVAL, 0 },
	{ "a NUL in a string is no request", "{\"verb\":\"mou\\u0000nt\"}", -EINVAL, 0 },
	{ "an unknown verb is said to be one", "{\"verb\":\"format\"}", -ENOSYS, 0 },
	{ "a file's verb wants a path", "{\"verb\":\"commit\"}", 0, -EINVAL },
	{ "the root is a path", "{\"verb\":\"explain\",\"path\":\"\"}", 0, 0 },
	{ "a path does not leave the share", "{\"verb\":\"commit\",\"path\":\"a/../../b\"}", 0, -EINVAL },
	{ "a path is a string", "{\"verb\":\"commit\",\"path\":[\"a\"]}", 0, -EINVAL },
	{ "a date is taken", "{\"verb\":\"extend\",\"path\":\"a\",\"until\":\"2030-01-01\"}", 0, 0 },
	{ "a date that is none is not", "{\"verb\":\"extend\",\"path\":\"a\",\"until\":\"2030-13-01\"}", 0, -EINVAL },
	{ "a date is a string", "{\"verb\":\"extend\",\"path\":\"a\",\"until\":1}", 0, -EINVAL },
	{ "a hold has a name", "{\"verb\":\"hold\",\"path\":\"a\",\"case\":\"\"}", 0, -EINVAL },
	{ "the name of a hold has no slash", "{\"verb\":\"hold\",\"path\":\"a\",\"case\":\"a/b\"}", 0, -EINVAL },
	{ "a release is true or false, and never a guess", "{\"verb\":\"order-run\",\"order\":1,\"release\":\"yes\"}", 0, -EINVAL },
	{ "an order's number is a whole one", "{\"verb\":\"order-run\",\"order\":1.5}", 0, -EINVAL },
	{ "one bad path is a bad list", "{\"verb\":\"order-add\",\"order\":1,\"paths\":[\"a\",\"../b\"]}", 0, -EINVAL },
	{ "paths are a list", "{\"verb\":\"order-add\",\"order\":1,\"paths\":\"a\"}", 0, -EINVAL },
	{ "a deletion wants a reason", "{\"verb\":\"delete\",\"path\":\"a\"}", 0, -EINVAL },
	{ "an empty reason is none", "{\"verb\":\"delete\",\"path\":\"a\",\"reason\":\"\"}", 0, -EINVAL },
	{ "a user is no negative number", "{\"verb\":\"policy-test\",\"path\":\"a\",\"uid\":-1}", 0, -EINVAL },
	{ "a user is not the number of nobody", "{\"verb\":\"policy-test\",\"path\":\"a\",\"uid\":4294967295}", 0, -EINVAL },
	{ "a size is no negative number", "{\"verb\":\"policy-test\",\"path\":\"a\",\"size\":-1}", 0, -EINVAL },
	{ "counts are whole numbers", "{\"verb\":\"verified\",\"files\":1,\"kinds\":{\"data\":\"1\"}}", 0, -EINVAL },
	{ "a count of no known kind is not looked at", "{\"verb\":\"verified\",\"files\":1,\"kinds\":{\"moon\":\"1\"}}", 0, 0 },
};

static void test_the_table(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct control_request request;
		char error[CONTROL_ERROR_BYTES] = "";
		const char *unknown;

		CHECK_INT(cases[i].promise, control_request_open(cases[i].line, strlen(cases[i].line), &request, &unknown), cases[i].open);
		if (cases[i].open == 0)
			CHECK_INT(cases[i].promise, control_request_check(&request, error), cases[i].check);
		CHECK_INT("a sentence says what is wrong, and only then", *error != '\0', cases[i].check < 0);
		control_request_close(&request);
	}
}

static void test_what_is_sent_arrives(void **state)
{
	const char *line = "{\"verb\":\"order-add\",\"order\":7,\"tree\":true,\"paths\":[\"a%20b\",\"\"]}", *unknown;
	struct control_request request;
	char error[CONTROL_ERROR_BYTES];

	assert_int_equal(control_request_open(line, strlen(line), &request, &unknown), 0);
	assert_int_equal(control_request_check(&request, error), 0);
	assert_int_equal(request.verb, CONTROL_ORDER_ADD);
	assert_int_equal(request.order, 7);
	assert_true(request.tree && !request.release && request.closing);
	assert_int_equal(request.npaths, 2);
	assert_string_equal(request.paths[0], "a b");
	assert_string_equal(request.paths[1], "");
	control_request_close(&request);
}

static void test_a_reason_has_a_bound(void **state)
{
	char line[2 * CONTROL_REASON_MAX_BYTES], error[CONTROL_ERROR_BYTES];
	struct control_request request;
	const char *unknown;

	for (int more = 0; more < 2; more++) {
		snprintf(line, sizeof(line), "{\"verb\":\"delete\",\"path\":\"a\",\"reason\":\"%0*d\"}", CONTROL_REASON_MAX_BYTES + more, 0);
		assert_int_equal(control_request_open(line, strlen(line), &request, &unknown), 0);
		assert_int_equal(control_request_check(&request, error), more ? -EINVAL : 0);
		control_request_close(&request);
	}
}

static void test_every_verb_has_a_name_of_its_own(void **state)
{
	for (int a = 0; a < CONTROL_VERBS; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(control_verb_name(a), control_verb_name(b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table),
		cmocka_unit_test(test_what_is_sent_arrives),
		cmocka_unit_test(test_a_reason_has_a_bound),
		cmocka_unit_test(test_every_verb_has_a_name_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
