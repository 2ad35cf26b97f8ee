/* Which of the kernel's quota warnings are told. What arrives is made up here, as no program can send in the kernel's name:
 * quota_netlink_open(), _join() and _receive() are this file's (--wrap). */
#include "tests/unit/unit.h"

#include <sys/sysmacros.h>

#include "fs/quota_listener.h"
#include "fs/quota_netlink.h"
#include "fs/quota_notice.h"
#include "fs/shortage.h"
#include "fs/state.h"

enum { MAJOR = 8, MINOR = 273 };

static struct received { int result; unsigned major, minor; uint64_t id; } arrived[16];
static size_t n_arrived;
static atomic_size_t n_taken;
static struct quota_notice told[16];
static atomic_size_t n_told;
static int news[2];	/* a pipe, in place of the socket: a byte for each that has arrived */

int __wrap_quota_netlink_open(struct quota_netlink *ret);
int __wrap_quota_netlink_join(struct quota_netlink *nl);
int __wrap_quota_netlink_receive(struct quota_netlink *nl, struct event_quota *ret, uint32_t *ret_uid);

int __wrap_quota_netlink_open(struct quota_netlink *ret)
{
	*ret = (struct quota_netlink){ .fd = news[0] };
	return 0;
}

int __wrap_quota_netlink_join(struct quota_netlink *nl)
{
	return 0;
}

int __wrap_quota_netlink_receive(struct quota_netlink *nl, struct event_quota *ret, uint32_t *ret_uid)
{
	const struct received *what = &arrived[n_taken];
	char byte;

	assert_int_equal(read(nl->fd, &byte, 1), 1);
	*ret = (struct event_quota){ .kind = EVENT_QUOTA_USER, .warning = EVENT_QUOTA_BYTES_HARD, .major = what->major, .minor = what->minor,
				     .count = 1, .id = what->id };
	*ret_uid = 77;
	atomic_fetch_add(&n_taken, 1);
	return what->result;
}

void shortage_tell(struct wormfs *fs, const struct quota_notice *notice, char *path)
{
	assert_null(path);
	told[atomic_fetch_add(&n_told, 1)] = *notice;
}

void complain(const char *format, ...)
{
	fail_msg("complained: %s", format);
}

/* Counters after all of it was heard. The caller frees them. */
static json_t *listen_to(const struct received *what, size_t n)
{
	struct wormfs fs = { .opt.quota_listen = true, .root_dev = makedev(MAJOR, MINOR) };
	char bytes[ARRAY_SIZE(arrived)] = "";
	json_t *json;

	assert_true(n <= ARRAY_SIZE(arrived));
	memcpy(arrived, what, n * sizeof(*what));
	n_arrived = n;
	n_taken = n_told = 0;
	assert_int_equal(pipe2(news, O_CLOEXEC), 0);
	assert_int_equal(quota_listener_open(&fs), 0);
	assert_int_equal(write(news[1], bytes, n), n);
	for (unsigned waited_ms = 0; n_taken < n_arrived; waited_ms++) {
		assert_true(waited_ms < 20000);
		usleep(1000);
	}
	json = quota_listener_json(&fs);
	assert_non_null(json);
	quota_listener_close(&fs);
	close(news[1]);
	return json;
}

static long long counter(json_t *json, const char *name)
{
	return json_integer_value(json_object_get(json, name));
}

static void another_device_is_counted_and_not_told(void **state)
{
	static const struct received what[] = {
		{ 0, MAJOR + 1, MINOR, 1 }, { 0, MAJOR, MINOR, 2 }, { 0, MAJOR, MINOR + 1, 3 }, { 0, MINOR, MAJOR, 4 }, { 0, 0, 0, 5 }, { 0, MAJOR, MINOR, 6 },
		{ .result = -EAGAIN },
	};
	json_t *json = listen_to(what, ARRAY_SIZE(what));

	CHECK_INT("told", n_told, 2);
	CHECK_INT("the first of ours", told[0].quota.id, 2);
	CHECK_INT("the last of ours", told[1].quota.id, 6);
	CHECK_INT("warnings", counter(json, "warnings"), 2);
	CHECK_INT("other_device", counter(json, "other_device"), 4);
	json_decref(json);
}

static void what_is_told_has_whose_quota_and_that_the_kernel_said_it_itself(void **state)
{
	static const struct received what[] = { { 0, MAJOR, MINOR, 1000 }, { .result = -EAGAIN } };
	json_t *json = listen_to(what, ARRAY_SIZE(what));

	CHECK_INT("told", n_told, 1);
	CHECK_INT("whose", told[0].quota.id, 1000);
	CHECK_INT("by", told[0].actor.uid, 77);
	CHECK("not multicast again", told[0].by_kernel);
	CHECK("no errno: nothing was refused by us", told[0].error == 0);
	CHECK_STR("detail", told[0].detail, "warning of the kernel: bytes-hard, user 1000, device 8:273");
	json_decref(json);
}

static void what_is_no_warning_of_the_kernel_is_counted_as_what_it_is_and_the_next_one_is_heard(void **state)
{
	static const struct received what[] = {
		{ -EPERM, MAJOR, MINOR, 1 }, { -EPERM, MAJOR, MINOR, 1 }, { -EBADMSG, MAJOR, MINOR, 2 }, { -ENOBUFS, MAJOR, MINOR, 3 },
		{ -EINTR, MAJOR, MINOR, 4 }, { 0, MAJOR, MINOR, 5 }, { .result = -EAGAIN },
	};
	json_t *json = listen_to(what, ARRAY_SIZE(what));

	CHECK_INT("told", n_told, 1);
	CHECK_INT("the kernel's", told[0].quota.id, 5);
	CHECK_INT("not_kernel", counter(json, "not_kernel"), 2);
	CHECK_INT("unreadable", counter(json, "unreadable"), 1);
	CHECK_INT("overruns", counter(json, "overruns"), 1);
	CHECK_INT("warnings", counter(json, "warnings"), 1);
	CHECK("goes on", json_is_true(json_object_get(json, "listening")));
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_device_is_counted_and_not_told),
		cmocka_unit_test(what_is_told_has_whose_quota_and_that_the_kernel_said_it_itself),
		cmocka_unit_test(what_is_no_warning_of_the_kernel_is_counted_as_what_it_is_and_the_next_one_is_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
