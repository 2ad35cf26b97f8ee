/* Addresses and names of a cluster. */
#include "lockstore/upstream/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "qumulo:"

static int fail(char error[ENDPOINT_ERROR_BYTES], const char *text, const char *what)
{
	snprintf(error, ENDPOINT_ERROR_BYTES, "push=%.80s: %s", text, what);
	return -EINVAL;
}

static bool is_loopback(const char *host)
{
	struct in_addr four;
	struct in6_addr six;

	if (strcmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static int read_host(const char **at, char host[ENDPOINT_HOST_MAX_BYTES])
{
	static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	struct in6_addr six;
	size_t len;

	if (**at == '[') {
		len = strcspn(*at + 1, "]");
		if ((*at)[1 + len] != ']' || !len || len >= INET6_ADDRSTRLEN)
			return -EINVAL;
		memcpy(host, *at + 1, len);
		host[len] = '\0';
		*at += len + 2;
		return inet_pton(AF_INET6, host, &six) == 1 ? 0 : -EINVAL;
	}
	len = strspn(*at, name);
	if (!len || len >= ENDPOINT_HOST_MAX_BYTES || **at == '-')
		return -EINVAL;
	memcpy(host, *at, len);
	host[len] = '\0';
	*at += len;
	return 0;
}

int endpoint_parse(const char *text, struct endpoint *ret_endpoint, char ret_error[ENDPOINT_ERROR_BYTES])
{
	struct endpoint e = { .port = 0 };
	const char *at = text;
	size_t len;

	if (strncmp(at, SCHEME, strlen(SCHEME)) != 0)
		return fail(ret_error, text, "give qumulo:HOST, qumulo:HOST:PORT or qumulo:HOST/api");
	at += strlen(SCHEME);
	if (strncmp(at, "https://", 8) == 0) {
		at += 8;
	} else if (strncmp(at, "http://", 7) == 0) {
		at += 7;
		e.plain = true;
	}
	if (read_host(&at, e.host) < 0)
		return fail(ret_error, text, "the host is neither a name nor an address");
	if (*at == ':') {
		unsigned long port;
		char *end;

		port = at[1] >= '0' && at[1] <= '9' ? strtoul(at + 1, &end, 10) : 0;
		if (port < 1 || port > 65535)
			return fail(ret_error, text, "a port is a number from 1 to 65535");
		e.port = (uint16_t)port;
		at = end;
	}
	len = strlen(at);
	while (len && at[len - 1] == '/')
		len--;
	if (len && (*at != '/' || len >= sizeof(e.prefix) ||
		    strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") < len))
		return fail(ret_error, text, "what follows the host is neither a port nor a prefix like /api");
	memcpy(e.prefix, at, len);
	e.prefix[len] = '\0';
	if (!e.port)
		e.port = len && !e.plain ? 443 : ENDPOINT_PORT;
	if (e.plain && !is_loopback(e.host))
		return fail(ret_error, text, "http without TLS is for this machine alone, say https");
	snprintf(e.url, sizeof(e.url), strchr(e.host, ':') ? "%s://[%s]:%u%s" : "%s://%s:%u%s", e.plain ? "http" : "https",
		 e.host, e.port, e.prefix);
	*ret_endpoint = e;
	return 0;
}

static char *put_encoded(char *out, const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		if (strchr(plain, *text)) {
			*out++ = *text;
			continue;
		}
		*out++ = '%';
		*out++ = hex[(unsigned char)*text >> 4];
		*out++ = hex[*text & 15];
	}
	return out;
}

int endpoint_ref(const char *root, const char *path, char **ret_ref)
{
	size_t len = strlen(root) + strlen(path) + 2;
	char *ref, *end;

	if (len > ENDPOINT_PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	ref = malloc(3 * len + 1);
	if (!ref)
		return -ENOMEM;
	end = put_encoded(ref, root);
	if (*path) {
		if (strcmp(root, "/") != 0)
			end = put_encoded(end, "/");
		end = put_encoded(end, path);
	}
	*end = '\0';
	*ret_ref = ref;
	return 0;
}

int endpoint_check_root(const char *root)
{
	const char *at = root;

	if (strcmp(root, "/") == 0)
		return 0;
	if (*root != '/' || strlen(root) > ENDPOINT_PATH_MAX_BYTES)
		return -EINVAL;
	while (*at) {
		size_t len = strcspn(at + 1, "/");

		if (len == 0 || (len == 1 && at[1] == '.') || (len == 2 && at[1] == '.' && at[2] == '.'))
			return -EINVAL;
		at += len + 1;
	}
	return 0;
}
