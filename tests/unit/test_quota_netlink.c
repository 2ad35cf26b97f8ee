/* Quota warnings in the kernel's own format: golden bytes, and what the format has no words for. */
#include "tests/unit/unit.h"

#include "fs/quota_netlink.h"

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
		{ "directory", { .kind = EVENT_QUOTA_DIRECTORY, .warning = EVENT_QUOTA_BYTES_HARD }, -EOPNOTSUPP },
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
		cmocka_unit_test(a_used_up_quota_is_the_kernels_message),
		cmocka_unit_test(what_it_has_no_words_for_is_not_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
