/* Owns one connection at a time. A request is written whole, then lines are read until one is the answer.
 * After an error of the connection itself, and after a pause that the daemon may have ended it for, the
 * next request gets a new one: no answer can meet the wrong request, and none is sent twice. */
#include "lockstore/wormctl/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/wormctl/output.h"

#define PAUSE_S 10	/* the daemon ends a connection that is silent for 30 s: fs/control.c */

struct client {
	int fd;				/* -1: to be connected */
	char *state_dir;
	time_t used_s;			/* CLOCK_MONOTONIC, of the last answer */
	int wait_ms;			/* longest silence */
	int passed_fd;			/* -1: none */
	size_t len;			/* bytes in buf */
	char buf[CONTROL_LINE_MAX + 1];
	char error[FAILURE_TEXT_BYTES];
};

/* sun_path holds 107 bytes and a NUL; a longer name is reached through its directory's descriptor. */
static int connect_in(const char *state_dir, int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int dir_fd, len, r = 0;

	len = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/" CONTROL_SOCKET, state_dir);
	if (len >= 0 && (size_t)len < sizeof(addr.sun_path))
		return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	dir_fd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET, dir_fd);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = -errno;
	close(dir_fd);
	return r;
}

static time_t monotonic_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void disconnect(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	client->len = 0;
}

/* As recv(2); a descriptor that comes along is kept. */
static ssize_t receive_some(struct client *client)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = client->buf + client->len, .iov_len = CONTROL_LINE_MAX - client->len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space) };
	ssize_t n = recvmsg(client->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (client->passed_fd >= 0)
			close(client->passed_fd);
		memcpy(&client->passed_fd, CMSG_DATA(header), sizeof(int));
	}
	return n;
}

int client_take_fd(struct client *client)
{
	int fd = client->passed_fd;

	client->passed_fd = -1;
	return fd;
}

static int reconnect(struct client *client)
{
	/* Of connect(2), which waits while all places at the daemon are taken. Source: unix(7) */
	const struct timeval patience = { .tv_sec = CLIENT_ANSWER_S };
	int r;

	disconnect(client);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return -errno;
	(void)setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));	/* else it waits for ever */
	r = connect_in(client->state_dir, client->fd);
	if (r == -EAGAIN)
		r = -ETIMEDOUT;
	if (r < 0)
		disconnect(client);
	client->used_s = monotonic_s();
	return r;
}

int client_connect(const char *state_dir, struct client **ret_client)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	client->fd = client->passed_fd = -1;
	client->state_dir = strdup(state_dir);
	r = client->state_dir ? reconnect(client) : -ENOMEM;
	if (r < 0)
		client_close(client);
	else
		*ret_client = client;
	return r;
}

void client_close(struct client *client)
{
	if (!client)
		return;
	disconnect(client);
	if (client->passed_fd >= 0)
		close(client->passed_fd);
	free(client->state_dir);
	free(client);
}

/* Until the descriptor is ready for `events`; each wait has the whole time. */
static int wait_for(struct client *client, short events)
{
	struct pollfd pfd = { .fd = client->fd, .events = events };
	int r;

	do
		r = poll(&pfd, 1, client->wait_ms);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

static int send_line(struct client *client, const char *line, size_t len)
{
	while (len > 0) {
		ssize_t n = send(client->fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n > 0) {
			line += n;
			len -= n;
		} else if (n < 0 && errno == EAGAIN) {
			r = wait_for(client, POLLOUT);
			if (r < 0)
				return r;
		} else if (n < 0 && errno == EPIPE) {
			return -ECONNRESET;
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* The next line as JSON. */
static int receive_line(struct client *client, json_t **ret_line)
{
	for (;;) {
		char *end = memchr(client->buf, '\n', client->len);
		ssize_t n;
		int r;

		if (end) {
			size_t line_bytes = end - client->buf;
			json_t *line = json_loadb(client->buf, line_bytes, 0, NULL);

			client->len -= line_bytes + 1;
			memmove(client->buf, end + 1, client->len);
			if (!json_is_object(line)) {
				json_decref(line);
				return -EPROTO;
			}
			*ret_line = line;
			return 0;
		}
		if (client->len >= CONTROL_LINE_MAX)
			return -EPROTO;
		r = wait_for(client, POLLIN);
		if (r < 0)
			return r;
		n = receive_some(client);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0)
			client->len += n;
	}
}

static int receive_answer(struct client *client, client_progress_fn progress, void *arg, json_t **ret_answer)
{
	json_t *line = NULL, *so_far;
	int r;

	for (;;) {
		r = receive_line(client, &line);
		if (r < 0)
			return r;
		so_far = json_object_get(line, "progress");
		if (!so_far || json_object_get(line, "ok"))
			break;
		if (progress)
			progress(arg, so_far);
		json_decref(line);
	}
	*ret_answer = line;
	return 0;
}

int client_call(struct client *client, json_t *request, client_progress_fn progress, void *arg, json_t **ret_answer)
{
	json_t *answer = NULL;
	char *text;
	size_t len;
	int r;

	client->error[0] = '\0';
	text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!text)
		return -ENOMEM;
	len = strlen(text);
	text[len++] = '\n';	/* over the NUL: only `len` bytes are sent */
	if (len > CONTROL_LINE_MAX) {
		r = -E2BIG;
		goto out;
	}
	if (client->fd < 0 || monotonic_s() - client->used_s >= PAUSE_S) {
		r = reconnect(client);
		if (r < 0)
			goto out;
	}
	client->wait_ms = (progress ? CLIENT_PROGRESS_S : CLIENT_ANSWER_S) * 1000;
	r = send_line(client, text, len);
	if (r == 0)
		r = receive_answer(client, progress, arg, &answer);
	if (r < 0) {
		disconnect(client);
		goto out;
	}
	client->used_s = monotonic_s();
	if (!json_get_bool(answer, "ok")) {
		r = -errno_number(json_get_text(answer, "errno"));
		snprintf(client->error, sizeof(client->error), "%s", json_get_text(answer, "error"));
		json_decref(answer);
		goto out;
	}
	if (ret_answer)
		*ret_answer = answer;
	else
		json_decref(answer);
out:
	free(text);
	return r;
}

const char *client_error(const struct client *client)
{
	return client->error;
}

int client_is_absence(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR;
}
