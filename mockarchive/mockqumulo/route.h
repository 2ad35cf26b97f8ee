/* From a raw request path to what is asked of which file. Pure. The path is split before anything is decoded: a file is named
 * by one segment, its id or its whole path with every slash as %2F, and decoding first would break it apart. */
#ifndef WORMFS_ROUTE_H
#define WORMFS_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#define ROUTE_PATH_MAX_BYTES 32760
#define ROUTE_NAME_MAX_BYTES 255

enum endpoint {
	EP_CONTROL,		/* /mock/...: not of the REST interface */
	EP_VERSION, EP_LOGIN, EP_WHO_AM_I, EP_NOTIFY_SETTINGS, EP_RESOLVE, EP_TRY_RESOLVE,
	EP_FILE, EP_ATTRIBUTES, EP_FILE_LOCK, EP_ENTRIES, EP_ENTRY, EP_DATA, EP_NOTIFY,	/* all of one file */
};

struct route {
	enum endpoint endpoint;
	bool by_id;
	uint64_t id;		/* by_id */
	char *path;		/* otherwise, of one file: absolute, decoded, "/" or without a slash at its end */
	char *name;		/* EP_ENTRY: decoded */
	const char *rest;	/* EP_CONTROL: what follows "/mock/", within the path that was given */
};

/* "/api" may stand before it. -ENOENT: no such endpoint. -ENXIO: the endpoint is there, the reference names no file that
 * could be. -EILSEQ: it is not UTF-8. On 0 the caller ends it with route_fini(). */
int route_parse(const char *raw_path, bool plus_is_space, struct route *ret_route);
void route_fini(struct route *route);

/* A decoded absolute path, as it is in a reference: no "." or "..", no empty name, none too long. Takes a slash at its end away. */
bool route_check_path(char *path);
/* One name in a directory: not empty, "." or "..", no slash, not too long. */
bool route_check_name(const char *name);

#endif
