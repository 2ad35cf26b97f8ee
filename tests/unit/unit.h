/* What the unit tests share: checks that name the promise, and directories that go away again. */
#ifndef WORMFS_UNIT_H
#define WORMFS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define CHECK_INT(promise, got, want) do {								\
	long long got_ = (long long)(got), want_ = (long long)(want);					\
	if (got_ != want_)										\
		fail_msg("%s: got %lld, want %lld", (promise), got_, want_);				\
} while (0)

#define CHECK(promise, condition) do {									\
	if (!(condition))										\
		fail_msg("%s: not so: %s", (promise), #condition);					\
} while (0)

#define CHECK_STR(promise, got, want) do {								\
	const char *got_ = (got), *want_ = (want);							\
	if (strcmp(got_, want_) != 0)									\
		fail_msg("%s: got '%s', want '%s'", (promise), got_, want_);				\
} while (0)

/* A new directory, until temp_dir_remove(). */
static inline char *temp_dir_make(void)
{
	const char *base = getenv("TMPDIR");
	char *dir = NULL;

	assert_true(asprintf(&dir, "%s/wormfs-unit.XXXXXX", base && *base ? base : "/tmp") > 0);
	assert_non_null(mkdtemp(dir));
	return dir;
}

/* With everything in it, however deep: rm(1) can. */
static inline void temp_dir_remove(char *dir)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	free(dir);
}

/* In a static buffer of four, so that two may stand in one expression. */
static inline const char *path_in(const char *dir, const char *name)
{
	static char paths[4][4096];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static inline void write_file(const char *path, const void *bytes, size_t len_bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len_bytes), len_bytes);
	assert_int_equal(close(fd), 0);
}

/* Mounts of this test process are its own and end with it. False, and said aloud: not permitted here. */
static inline bool may_mount(void)
{
	static int may = -1;

	if (may < 0) {
		may = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
		if (!may)
			print_message("SKIPPED, no mounts here: %s\n", strerror(errno));
	}
	return may;
}

#endif
