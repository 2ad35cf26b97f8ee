/* Children of -o quota_notify=command: how many at once, and what becomes of one that does not end. The clock is passed in. */
#include "tests/unit/unit.h"

#include <signal.h>
#include <unistd.h>

#include "fs/quota_command.h"

static char *const env[] = { NULL };

static unsigned reap_until(struct quota_command *command, unsigned want, int64_t now_ms, unsigned *ret_failed)
{
	unsigned ended = 0;

	for (;;) {
		struct pollfd fds[QUOTA_COMMAND_CHILDREN];
		int timeout_ms = -1;
		unsigned failed, n;

		ended += quota_command_reap(command, now_ms, &failed);
		*ret_failed += failed;
		if (ended >= want)
			return ended;
		n = quota_command_poll(command, now_ms, fds, &timeout_ms);
		assert_true(timeout_ms > 0);
		assert_true(poll(fds, n, timeout_ms) > 0);
	}
}

static void there_is_a_bound_and_each_is_reaped(void **state)
{
	struct quota_command command = { .path = "/bin/true" };
	unsigned failed = 0;

	for (int i = 0; i < QUOTA_COMMAND_CHILDREN; i++)
		assert_int_equal(quota_command_start(&command, env, 0), 0);
	assert_int_equal(quota_command_start(&command, env, 0), -EBUSY);
	assert_int_equal(reap_until(&command, QUOTA_COMMAND_CHILDREN, 0, &failed), QUOTA_COMMAND_CHILDREN);
	assert_int_equal(failed, 0);
	assert_int_equal(command.n_children, 0);
}

static void an_exit_status_is_a_failure(void **state)
{
	struct quota_command command = { .path = "/bin/false" };
	unsigned failed = 0;

	assert_int_equal(quota_command_start(&command, env, 0), 0);
	assert_int_equal(reap_until(&command, 1, 0, &failed), 1);
	assert_int_equal(failed, 1);
}

static void what_is_not_there_is_not_started(void **state)
{
	struct quota_command command = { .path = "/no/such/program" };

	assert_int_equal(quota_command_start(&command, env, 0), -ENOENT);
	assert_int_equal(command.n_children, 0);
}

/* yes(1) ends by a signal only: /dev/null takes all it says. */
static void one_that_does_not_end_is_killed_after_its_time(void **state)
{
	struct quota_command command = { .path = "/usr/bin/yes" };
	unsigned failed = 0;
	pid_t pid;

	assert_int_equal(quota_command_start(&command, env, 1000), 0);
	pid = command.children[0].pid;
	assert_int_equal(quota_command_reap(&command, 1000 + QUOTA_COMMAND_TIMEOUT_MS - 1, &failed), 0);
	assert_int_equal(kill(pid, 0), 0);
	assert_int_equal(quota_command_reap(&command, 1000 + QUOTA_COMMAND_TIMEOUT_MS, &failed), 1);
	assert_int_equal(failed, 1);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

/* What it started has the FIFO open for writing as long as it lives. */
static void what_it_started_is_killed_with_it(void **state)
{
	char *dir = temp_dir_make(), *path = strdup(path_in(dir, "program")), *fifo = strdup(path_in(dir, "fifo")), text[600];
	struct quota_command command = { .path = path };
	struct pollfd alive = { .events = POLLIN };
	unsigned failed = 0;
	int n;

	assert_int_equal(mkfifo(fifo, 0600), 0);
	n = snprintf(text, sizeof(text), "#!/bin/sh\n(echo x; exec /bin/sleep 1000) >'%s' &\nwait\n", fifo);
	write_file(path, text, (size_t)n);
	assert_int_equal(chmod(path, 0700), 0);
	alive.fd = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(alive.fd >= 0);
	assert_int_equal(quota_command_start(&command, env, 1000), 0);
	assert_int_equal(poll(&alive, 1, -1), 1);
	assert_int_equal(read(alive.fd, text, sizeof(text)), 2);
	assert_int_equal(quota_command_reap(&command, 1000 + QUOTA_COMMAND_TIMEOUT_MS, &failed), 1);
	assert_int_equal(poll(&alive, 1, 10000), 1);
	assert_true(alive.revents & POLLHUP);
	close(alive.fd);
	temp_dir_remove(dir);
	free(path);
	free(fifo);
}

static void all_are_killed_at_the_end(void **state)
{
	struct quota_command command = { .path = "/usr/bin/yes" };

	assert_int_equal(quota_command_start(&command, env, 0), 0);
	assert_int_equal(quota_command_start(&command, env, 0), 0);
	assert_int_equal(quota_command_end(&command), 2);
	assert_int_equal(command.n_children, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_is_a_bound_and_each_is_reaped),
		cmocka_unit_test(an_exit_status_is_a_failure),
		cmocka_unit_test(what_is_not_there_is_not_started),
		cmocka_unit_test(one_that_does_not_end_is_killed_after_its_time),
		cmocka_unit_test(what_it_started_is_killed_with_it),
		cmocka_unit_test(all_are_killed_at_the_end),
	};

	alarm(60);	/* a child that nobody kills would be waited for for ever */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
