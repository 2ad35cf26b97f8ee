/* Owns one child process, which asks in our place: getxattr(2) on a mount whose daemon is stuck does not
 * return, whatever the signal, and it is just then that somebody asks for the status. */
#include "lockstore/wormctl/mount_query.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/whole_write.h"

static void mount_query_child(int out, const char *path)
{
	char *text = malloc(XATTR_SIZE_MAX);
	ssize_t n = -1;
	int error;

	/* It may stay for long: not in a directory that somebody wants to unmount, and not with a pipe open that
	 * somebody reads to its end. */
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	if (text && chdir("/") == 0)
		n = lgetxattr(path, XATTR_WORM_MOUNT, text, XATTR_SIZE_MAX);
	error = n < 0 ? errno : 0;

	(void)!whole_write(out, &error, sizeof(error));	/* the parent sees a short answer */
	if (n > 0)
		(void)!whole_write(out, text, n);
	_exit(0);
}

static int64_t monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Everything that comes out of `fd` until its end or the deadline. */
static int read_all(int fd, char *buf, size_t len_bytes, int64_t deadline_ms, size_t *ret_len)
{
	size_t len = 0;

	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int64_t left = deadline_ms - monotonic_ms();
		ssize_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&pfd, 1, left) <= 0)
			continue;
		n = read(fd, buf + len, len_bytes - len);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += n;
	}
	*ret_len = len;
	return 0;
}

int mount_query(const char *path, json_t **ret_mount)
{
	char *buf = malloc(XATTR_SIZE_MAX + sizeof(int));
	int pipe_fds[2], error, r;
	size_t len = 0;
	pid_t pid;

	if (!buf)
		return -ENOMEM;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		r = -errno;
		goto out;
	}
	(void)fflush(NULL);	/* or the child has the output once more */
	pid = fork();
	if (pid < 0) {
		r = -errno;
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		goto out;
	}
	if (pid == 0)
		mount_query_child(pipe_fds[1], path);
	close(pipe_fds[1]);
	r = read_all(pipe_fds[0], buf, XATTR_SIZE_MAX + sizeof(int), monotonic_ms() + MOUNT_QUERY_S * 1000, &len);
	close(pipe_fds[0]);
	if (r < 0)
		(void)kill(pid, SIGKILL);	/* it goes when the daemon answers or is gone; nobody waits for it */
	else
		(void)waitpid(pid, NULL, 0);
	if (r < 0)
		goto out;
	if (len < sizeof(error)) {
		r = -EIO;
		goto out;
	}
	memcpy(&error, buf, sizeof(error));
	if (error) {
		r = -error;
		goto out;
	}
	*ret_mount = json_loadb(buf + sizeof(error), len - sizeof(error), 0, NULL);
	if (!json_is_object(*ret_mount)) {
		json_decref(*ret_mount);
		r = -EPROTO;
	}
out:
	free(buf);
	return r;
}
