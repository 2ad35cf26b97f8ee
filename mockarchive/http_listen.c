/* Listening sockets, loopback unless told otherwise. */
#include "mockarchive/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024

union address {
	struct sockaddr any;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	struct sockaddr_un local;
};

static int parse_port(const char *text, in_port_t *ret_port)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || port > UINT16_MAX)
		return -EINVAL;
	*ret_port = htons((in_port_t)port);
	return 0;
}

static int parse_inet(const char *spec, union address *ret_address, socklen_t *ret_len, bool *ret_loopback)
{
	const char *colon = strrchr(spec, ':');
	char host[INET6_ADDRSTRLEN + 2];
	union address a = { 0 };
	in_port_t port;
	size_t n;

	if (!colon || (size_t)(colon - spec) >= sizeof(host) || parse_port(colon + 1, &port) < 0)
		return -EINVAL;
	n = colon - spec;
	memcpy(host, spec, n);
	host[n] = '\0';
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &a.in6.sin6_addr) != 1)
			return -EINVAL;
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = port;
		*ret_len = sizeof(a.in6);
		*ret_loopback = IN6_IS_ADDR_LOOPBACK(&a.in6.sin6_addr);
	} else {
		if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &a.in4.sin_addr) != 1)
			return -EINVAL;
		a.in4.sin_family = AF_INET;
		a.in4.sin_port = port;
		*ret_len = sizeof(a.in4);
		*ret_loopback = ntohl(a.in4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	*ret_address = a;
	return 0;
}

static int parse_local(const char *path, union address *ret_address, socklen_t *ret_len)
{
	union address a = { 0 };

	if (!*path || strlen(path) >= sizeof(a.local.sun_path))
		return -EINVAL;
	a.local.sun_family = AF_UNIX;
	strcpy(a.local.sun_path, path);
	*ret_address = a;
	*ret_len = sizeof(a.local);
	return 0;
}

/* A socket that a killed server left behind refuses to connect; one in use, or another kind of file, stays. */
static void remove_stale(const union address *a, socklen_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (fd < 0)
		return;
	if (lstat(a->local.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && connect(fd, &a->any, len) < 0 && errno == ECONNREFUSED)
		(void)unlink(a->local.sun_path);	/* bind() says so if that failed */
	close(fd);
}

static int describe(int fd, const union address *bound, char ret_text[HTTP_LISTEN_TEXT_BYTES])
{
	char host[INET6_ADDRSTRLEN];
	union address a = { 0 };
	socklen_t len = sizeof(a);

	if (bound->any.sa_family == AF_UNIX) {
		snprintf(ret_text, HTTP_LISTEN_TEXT_BYTES, "unix:%s", bound->local.sun_path);
		return 0;
	}
	if (getsockname(fd, &a.any, &len) < 0)
		return -errno;
	if (a.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a.in6.sin6_addr, host, sizeof(host));
		snprintf(ret_text, HTTP_LISTEN_TEXT_BYTES, "[%s]:%u", host, ntohs(a.in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &a.in4.sin_addr, host, sizeof(host));
		snprintf(ret_text, HTTP_LISTEN_TEXT_BYTES, "%s:%u", host, ntohs(a.in4.sin_port));
	}
	return 0;
}

int http_listen(const char *spec, bool allow_remote, int *ret_fd, char ret_text[HTTP_LISTEN_TEXT_BYTES])
{
	bool is_local = strncmp(spec, "unix:", 5) == 0, loopback = true;
	union address a;
	socklen_t len;
	int fd, r;

	r = is_local ? parse_local(spec + 5, &a, &len) : parse_inet(spec, &a, &len, &loopback);
	if (r < 0)
		return r;
	if (!loopback && !allow_remote)
		return -EPERM;
	if (is_local)
		remove_stale(&a, len);
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* A port of a server that has just ended can be had again at once. */
	if (!is_local && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0)
		goto failed;
	/* The mode of the descriptor becomes that of the file: no moment in which others may connect. Source: unix(7), Linux. */
	if (is_local && fchmod(fd, 0600) < 0)
		goto failed;
	if (bind(fd, &a.any, len) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		goto failed;
	r = describe(fd, &a, ret_text);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
failed:
	r = -errno;
	close(fd);
	return r;
}
