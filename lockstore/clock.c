/* A clock of its own, the wall clock, or the wall clock moved by what a file says. The file is read at every question, so
 * that a test can move time while the daemon runs; what it says wrongly moves nothing. */
#include "lockstore/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/own_clock.h"

struct clock_source {
	char *name;	/* all of it is constant after open */
	const char *path;	/* inside name; NULL: wall, or own */
	struct own_clock *own;
};

/* -EINVAL: no signed decimal (a newline may follow). */
static int read_offset(const char *path, int64_t *ret_offset_s)
{
	char text[32], *end;
	long long offset;
	ssize_t n;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	r = n < 0 ? -errno : 0;
	close(fd);
	if (r < 0)
		return r;
	text[n] = '\0';
	errno = 0;
	offset = strtoll(text, &end, 10);
	if (end == text || errno == ERANGE || (*end && strcmp(end, "\n") != 0) || strlen(text) != (size_t)n)
		return -EINVAL;
	*ret_offset_s = offset;
	return 0;
}

int clock_source_open(const char *spec, struct clock_source **ret_clock)
{
	struct clock_source *clock = NULL;
	char *cwd = NULL;
	int64_t offset;
	int r;

	if (!spec)
		spec = "wall";
	clock = calloc(1, sizeof(*clock));
	if (!clock) {
		r = -ENOMEM;
		goto out;
	}
	if (strcmp(spec, "wall") == 0) {
		clock->name = strdup(spec);
	} else if (strncmp(spec, "file:", 5) == 0 && spec[5] == '/') {
		clock->name = strdup(spec);
	} else if (strncmp(spec, "file:", 5) == 0 && spec[5]) {
		/* A daemon goes to "/" and must find the file from there. */
		cwd = getcwd(NULL, 0);
		if (!cwd) {
			r = -errno;
			goto out;
		}
		if (asprintf(&clock->name, "file:%s/%s", cwd, spec + 5) < 0)
			clock->name = NULL;
	} else {
		r = -EINVAL;
		goto out;
	}
	if (!clock->name) {
		r = -ENOMEM;
		goto out;
	}
	if (clock->name[0] == 'f') {
		clock->path = clock->name + 5;
		r = read_offset(clock->path, &offset);
		if (r < 0)
			goto out;
	}
	*ret_clock = clock;
	clock = NULL;
	r = 0;
out:
	free(cwd);
	clock_source_close(clock);
	return r;
}

void clock_source_close(struct clock_source *clock)
{
	if (!clock)
		return;
	own_clock_close(clock->own);
	free(clock->name);
	free(clock);
}

int clock_source_open_own(struct own_clock *own, struct clock_source **ret_clock)
{
	struct clock_source *clock = calloc(1, sizeof(*clock));

	if (clock)
		clock->name = strdup("own");
	if (!clock || !clock->name) {
		free(clock);
		return -ENOMEM;
	}
	clock->own = own;
	*ret_clock = clock;
	return 0;
}

struct own_clock *clock_source_own(struct clock_source *clock)
{
	return clock->own;
}

int64_t clock_source_now_s(struct clock_source *clock)
{
	return clock->own ? own_clock_now_s(clock->own) : clock_source_file_now_s(clock);
}

int64_t clock_source_file_now_s(struct clock_source *clock)
{
	struct timespec now;
	int64_t offset, moved;

	(void)clock_gettime(CLOCK_REALTIME, &now);	/* fails only for a clock that does not exist */
	if (!clock->path || read_offset(clock->path, &offset) < 0 ||
	    __builtin_add_overflow((int64_t)now.tv_sec, offset, &moved))
		return now.tv_sec;
	return moved;
}

const char *clock_source_name(const struct clock_source *clock)
{
	return clock->name;
}
