/* Quota warnings in the kernel's own format: golden bytes both ways, what the format has no words for, and what is no warning. */
#include "tests/unit/unit.h"

#include "fs/quota_netlink.h"

/* As Linux 6 sends it: with an attribute that we have no name for (7, padding) before a 64-bit one. */
static const unsigned char kernels[] = {
	80, 0, 0, 0,  17, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,	/* length, family, flags, number, port */
	1, 1, 0, 0,						/* QUOTA_NL_C_WARNING, version */
	8, 0, 1, 0,  1, 0, 0, 0,				/* QTYPE: group */
	12, 0, 2, 0,  0xe8, 3, 0, 0, 0, 0, 0, 0,		/* EXCESS_ID 1000 */
	8, 0, 3, 0,  6, 0, 0, 0,				/* WARNING: BSOFTWARN */
	8, 0, 4, 0,  8, 0, 0, 0,				/* DEV_MAJOR */
	8, 0, 5, 0,  0x11, 1, 0, 0,				/* DEV_MINOR 273 */
	4, 0, 7, 0,						/* PAD */
	12, 0, 6, 0,  0xe9, 3, 0, 0, 0, 0, 0, 0,		/* CAUSED_ID 1001 */
};
enum { AT_QTYPE = 20, AT_EXCESS_ID = 28, AT_WARNING = 40, AT_PAD = 64, AT_CAUSED_ID = 68 };

/* In memory of its own size: a sanitizer sees each byte that is read behind it. */
static int parse(const unsigned char *message, size_t len, struct event_quota *ret, uint32_t *ret_uid)
{
	unsigned char *copy = malloc(len ? len : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, message, len);
	r = quota_netlink_parse(17, copy, len, ret, ret_uid);
	free(copy);
	return r;
}

static void the_kernels_warning_is_read(void **state)
{
	struct event_quota got;
	uint32_t uid;

	if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
		skip();
	CHECK_INT("it is one", parse(kernels, sizeof(kernels), &got, &uid), 0);
	CHECK_INT("whose", got.kind, EVENT_QUOTA_GROUP);
	CHECK_INT("what", got.warning, EVENT_QUOTA_BYTES_SOFT);
	CHECK_INT("id", got.id, 1000);
	CHECK_INT("major", got.major, 8);
	CHECK_INT("minor", got.minor, 273);
	CHECK_INT("count", got.count, 1);
	CHECK_INT("by", uid, 1001);
}

static void what_we_send_can_be_read(void **state)
{
	struct event_quota quota = { .kind = EVENT_QUOTA_PROJECT, .warning = EVENT_QUOTA_FILES_SOFT_BELOW, .major = 259, .minor = 1048575,
				     .count = 1, .id = UINT32_MAX }, got;
	unsigned char message[QUOTA_NETLINK_BYTES];
	uint32_t uid;

	CHECK_INT("sent", quota_netlink_format(17, 1, &quota, UINT32_MAX, message), 0);
	CHECK_INT("read", parse(message, sizeof(message), &got, &uid), 0);
	assert_memory_equal(&got, &quota, sizeof(quota));
	assert_int_equal(uid, UINT32_MAX);
}

static void half_a_warning_is_none(void **state)
{
	unsigned char message[sizeof(kernels)];
	struct event_quota got;
	uint32_t uid;

	for (uint32_t len = 0; len < sizeof(kernels); len++) {
		assert_int_equal(parse(kernels, len, &got, &uid), -EBADMSG);		/* cut, and its length says more */
		memcpy(message, kernels, sizeof(kernels));
		memcpy(message, &len, sizeof(len));					/* says that it is shorter */
		assert_int_equal(parse(message, sizeof(message), &got, &uid), -EBADMSG);
		if (len >= sizeof(len))
			assert_int_equal(parse(message, len, &got, &uid), -EBADMSG);	/* both */
	}
}

static void hostile_attributes_are_no_warning(void **state)
{
	static const struct { const char *promise; size_t at; unsigned char byte; } cases[] = {
		{ "longer than it is", 0, 81 },
		{ "a length of 4 GiB", 3, 255 },
		{ "another family", 4, 16 },
		{ "another command", 16, 2 },
		{ "an attribute without a header", AT_QTYPE, 3 },
		{ "of no length", AT_QTYPE, 0 },
		{ "of another size", AT_QTYPE, 7 },
		{ "beyond the end", AT_EXCESS_ID + 1, 255 },
		{ "one that swallows the others", AT_QTYPE, sizeof(kernels) - AT_QTYPE },
		{ "one that is missing", AT_CAUSED_ID + 2, 9 },
		{ "padding that never ends", AT_PAD, 0 },
		{ "a quota of what?", AT_QTYPE + 4, 3 },
		{ "a number that only wraps to one", AT_QTYPE + 5, 1 },
		{ "no warning", AT_WARNING + 4, 0 },
		{ "an unknown one", AT_WARNING + 4, 11 },
		{ "one that only wraps to a known one", AT_WARNING + 5, 1 },
		{ "an id of more than 32 bits", AT_EXCESS_ID + 8, 1 },
		{ "a user of more than 32 bits", AT_CAUSED_ID + 8, 1 },
	};
	unsigned char message[sizeof(kernels)];
	struct event_quota got;
	uint32_t uid;

	if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(message, kernels, sizeof(kernels));
		message[cases[i].at] = cases[i].byte;
		CHECK_INT(cases[i].promise, parse(message, sizeof(message), &got, &uid), -EBADMSG);
	}
}

static void a_used_up_quota_is_the_kernels_message(void **state)
{
	static const unsigned char want[QUOTA_NETLINK_BYTES] = {
		76, 0, 0, 0,  17, 0,  0, 0,  7, 0, 0, 0,  0, 0, 0, 0,	/* length, family, flags, number, port */
		1, 1, 0, 0,						/* QUOTA_NL_C_WARNING, version */
		8, 0, 1, 0,  0, 0, 0, 0,				/* QTYPE: user */
		12, 0, 2, 0,  0xe8, 3, 0, 0, 0, 0, 0, 0,		/* EXCESS_ID 1000 */
		8, 0, 3, 0,  4, 0, 0, 0,				/* WARNING: BHARDWARN */
		8, 0, 4, 0,  8, 0, 0, 0,				/* DEV_MAJOR */
		8, 0, 5, 0,  0x11, 1, 0, 0,				/* DEV_MINOR 273 */
		12, 0, 6, 0,  0xe8, 3, 0, 0, 0, 0, 0, 0,		/* CAUSED_ID 1000 */
	};
	struct event_quota quota = { .kind = EVENT_QUOTA_SOME, .warning = EVENT_QUOTA_REFUSED, .major = 8, .minor = 273, .count = 1 };
	unsigned char got[QUOTA_NETLINK_BYTES];

	if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
		skip();	/* the bytes are the machine's own order */
	CHECK_INT("it has words for it", quota_netlink_format(17, 7, &quota, 1000, got), 0);
	assert_memory_equal(got, want, sizeof(want));
}

static void what_it_has_no_words_for_is_not_sent(void **state)
{
	static const struct { const char *promise; struct event_quota quota; int want; } cases[] = {
		{ "group, soft", { .kind = EVENT_QUOTA_GROUP, .warning = EVENT_QUOTA_BYTES_SOFT }, 0 },
		{ "project, below", { .kind = EVENT_QUOTA_PROJECT, .warning = EVENT_QUOTA_BYTES_SOFT_BELOW }, 0 },
		{ "full filesystem", { .kind = EVENT_QUOTA_FILESYSTEM, .warning = EVENT_QUOTA_REFUSED }, -EOPNOTSUPP },
		{ "directory, as a project", { .kind = EVENT_QUOTA_DIRECTORY, .warning = EVENT_QUOTA_BYTES_HARD }, 0 },
		{ "rule", { .kind = EVENT_QUOTA_RULE, .warning = EVENT_QUOTA_BYTES_HARD }, -EOPNOTSUPP },
		{ "advisory", { .kind = EVENT_QUOTA_USER, .warning = EVENT_QUOTA_BYTES_ADVISORY }, -EOPNOTSUPP },
		{ "nothing", { .kind = EVENT_QUOTA_USER, .warning = EVENT_QUOTA_NONE }, -EOPNOTSUPP },
	};
	unsigned char got[QUOTA_NETLINK_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].promise, quota_netlink_format(17, 1, &cases[i].quota, 1, got), cases[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernels_warning_is_read),
		cmocka_unit_test(what_we_send_can_be_read),
		cmocka_unit_test(half_a_warning_is_none),
		cmocka_unit_test(hostile_attributes_are_no_warning),
		cmocka_unit_test(a_used_up_quota_is_the_kernels_message),
		cmocka_unit_test(what_it_has_no_words_for_is_not_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
