/* Small things about bytes: sizes as people write them, and write(2) until all is written. */
#include "tests/unit/unit.h"

#include <signal.h>
#include <sys/resource.h>

#include "lockstore/byte_size.h"
#include "lockstore/whole_write.h"

static void test_a_size_is_a_number_and_maybe_a_unit(void **state)
{
	static const struct { const char *text; uint64_t want; char next; } cases[] = {
		{ "0", 0, 0 }, { "4096", 4096, 0 }, { "64K", 65536, 0 }, { "1M", 1 << 20, 0 }, { "2g", 2ULL << 30, 0 }, { "3T", 3ULL << 40, 0 },
		{ "1p", 1ULL << 50, 0 }, { "16383P", 16383ULL << 50, 0 }, { "18446744073709551615", UINT64_MAX, 0 }, { "7 files", 7, ' ' },
		{ "5Kx", 5120, 'x' }, { "5x", 5, 'x' },
	};
	static const char *const wrong[] = { "", "K", "-1", "+1", " 1", "18446744073709551616", "16384P", "99999999999999999999", "x" };
	const char *end;
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(cases[i].text, byte_size_parse(cases[i].text, &bytes, &end), 0);
		CHECK(cases[i].text, bytes == cases[i].want);
		CHECK_INT(cases[i].text, *end, cases[i].next);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		CHECK_INT(wrong[i], byte_size_parse(wrong[i], &bytes, &end), -EINVAL);
}

/* A pipe takes 64 KiB at a time: write(2) answers with parts. */
static void test_all_is_written_through_short_writes(void **state)
{
	static char bytes[1 << 20], got[1 << 20];
	size_t len = 0;
	ssize_t n;
	int pipes[2], status;
	pid_t pid;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i * 31 >> 3;
	CHECK_INT("a pipe", pipe(pipes), 0);
	pid = fork();
	if (pid == 0)
		_exit(whole_write(pipes[1], bytes, sizeof(bytes)) == 0 ? 0 : 1);
	close(pipes[1]);
	while ((n = read(pipes[0], got + len, sizeof(got) - len < 4099 ? sizeof(got) - len : 4099)) > 0)
		len += n;
	close(pipes[0]);
	CHECK_INT("the writer ends", waitpid(pid, &status, 0), pid);
	CHECK_INT("and was content", status, 0);
	CHECK_INT("all came", len, sizeof(bytes));
	CHECK("as it was", memcmp(got, bytes, sizeof(bytes)) == 0);
}

static void test_an_error_is_told_though_some_is_written(void **state)
{
	char path[] = "/tmp/wormfs-bytes-XXXXXX", bytes[8192] = { 0 };
	struct rlimit before, limit = { 4096, RLIM_INFINITY };
	int fd = mkstemp(path);

	signal(SIGXFSZ, SIG_IGN);
	CHECK_INT("the limit before", getrlimit(RLIMIT_FSIZE, &before), 0);
	limit.rlim_max = before.rlim_max;
	CHECK_INT("no file longer than 4 KiB", setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_INT("8 KiB", whole_write(fd, bytes, sizeof(bytes)), -EFBIG);
	CHECK_INT("as before", setrlimit(RLIMIT_FSIZE, &before), 0);
	CHECK_INT("a closed file", (close(fd), whole_write(fd, bytes, 1)), -EBADF);
	CHECK_INT("nothing of nothing", whole_write(-1, bytes, 0), 0);
	unlink(path);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_size_is_a_number_and_maybe_a_unit),
		cmocka_unit_test(test_all_is_written_through_short_writes),
		cmocka_unit_test(test_an_error_is_told_though_some_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
