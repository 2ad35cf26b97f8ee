/* Where a cluster is, and what its files are called there. Pure functions; any thread. */
#ifndef WORMFS_UPSTREAM_ENDPOINT_H
#define WORMFS_UPSTREAM_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#define ENDPOINT_PORT 8000		/* of the REST interface */
#define ENDPOINT_HOST_MAX_BYTES 256
#define ENDPOINT_ERROR_BYTES 200
#define ENDPOINT_PATH_MAX_BYTES 32760	/* of a path on a cluster */

struct endpoint {
	char host[ENDPOINT_HOST_MAX_BYTES];	/* without the brackets of an IPv6 address */
	uint16_t port;
	bool plain;				/* http, which is for loopback addresses only */
	char prefix[64];			/* "" or "/api" */
	char url[ENDPOINT_HOST_MAX_BYTES + 96];	/* what requests begin with: "https://HOST:8000/api" */
};

/* "qumulo:[https://|http://]HOST[:PORT][/prefix]"; HOST may be an IPv6 address in brackets. PORT is 8000, and 443 with a
 * prefix. -EINVAL: ret_error says what is wrong. */
int endpoint_parse(const char *text, struct endpoint *ret_endpoint, char ret_error[ENDPOINT_ERROR_BYTES]);

/* The file at `path` (relative to the share, "" is its root) below `root` ("/" or "/a/b") as one segment of a URL:
 * "%2Fa%2Fb%20c". Bytes are kept as they are. The caller frees *ret_ref. -ENOMEM; -ENAMETOOLONG. */
int endpoint_ref(const char *root, const char *path, char **ret_ref);

/* 0, or -EINVAL: not an absolute path without empty, "." or ".." components and a '/' at its end. */
int endpoint_check_root(const char *root);

#endif
