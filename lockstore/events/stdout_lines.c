/* Always true: at most one writer is within a line, and only it writes. Who was refused meanwhile is next, so that one with a lot to
 * say does not keep the others out. */
#include "lockstore/events/stdout_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* a leaf, held for one write that does not block */
static const struct stdout_lines *within, *next;		/* lock */
static bool torn;						/* lock: a line was given up, and has no end */

int stdout_lines_open(struct stdout_lines *ret_out)
{
	struct stdout_lines out = { .fd = -1 };
	struct stat st;

	if (fstat(STDOUT_FILENO, &st) < 0)
		return -errno;
	out.is_socket = S_ISSOCK(st.st_mode);
	out.is_file = S_ISREG(st.st_mode);
	/* A description of our own, that may be non-blocking and that appends. A socket cannot be opened so, and needs not. */
	if (!out.is_socket)
		out.fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY);
	if (out.fd < 0) {	/* or it is somebody else's */
		out.may_block = !out.is_socket;
		out.fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	}
	if (out.fd < 0)
		return -errno;
	*ret_out = out;
	return 0;
}

static ssize_t write_some(const struct stdout_lines *out, const char *buf, size_t len)
{
	struct pollfd ready = { .fd = out->fd, .events = POLLOUT };
	ssize_t n;

	if (out->may_block && !out->is_file) {	/* a pipe that is ready has room for PIPE_BUF bytes */
		if (poll(&ready, 1, 0) == 0)
			return -EAGAIN;
		len = len < PIPE_BUF ? len : PIPE_BUF;
	}
	do {
		n = out->is_socket ? send(out->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(out->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void give_up_locked(const struct stdout_lines *out)
{
	if (next == out)
		next = NULL;
	if (within != out)
		return;
	within = NULL;
	torn = true;
}

static ssize_t write_locked(struct stdout_lines *out, const char *buf, size_t len)
{
	const char *end;
	ssize_t n;

	if (within ? within != out : next && next != out) {
		if (!next)
			next = out;
		return -EBUSY;
	}
	if (next == out)
		next = NULL;
	if (torn) {
		n = write_some(out, "\n", 1);
		if (n != 1)
			return n < 0 ? n : -EAGAIN;
		torn = false;
	}
	end = next ? memchr(buf, '\n', len) : NULL;
	if (end)
		len = end + 1 - buf;
	n = write_some(out, buf, len);
	if (n > 0)
		within = buf[n - 1] == '\n' ? NULL : out;
	if (n < 0 && n != -EAGAIN)
		give_up_locked(out);
	return n;
}

ssize_t stdout_lines_write(struct stdout_lines *out, const char *buf, size_t len)
{
	ssize_t n;

	pthread_mutex_lock(&lock);
	n = write_locked(out, buf, len);
	pthread_mutex_unlock(&lock);
	return n;
}

void stdout_lines_give_up(struct stdout_lines *out)
{
	pthread_mutex_lock(&lock);
	give_up_locked(out);
	pthread_mutex_unlock(&lock);
}

void stdout_lines_close(struct stdout_lines *out)
{
	if (out->fd < 0)
		return;
	stdout_lines_give_up(out);
	close(out->fd);
	out->fd = -1;
}
