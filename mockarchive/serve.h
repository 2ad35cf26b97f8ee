/* The control port: HTTP for everything in api.h, on any number of addresses. Off unless asked for; loopback and UNIX sockets only
 * unless told otherwise. With it comes a socket in the run directory, through which `mockarchive ctl` finds the instance. */
#ifndef WORMFS_MOCKARCHIVE_SERVE_H
#define WORMFS_MOCKARCHIVE_SERVE_H

#include <stdbool.h>

#include "mockarchive/archive.h"

#define SERVE_LISTEN_MAX 8
#define SERVE_SLOW_MAX 64		/* requests that take a while, at once; more are answered 503 */
#define SERVE_RUN_DIR_BYTES 90		/* sun_path has 108 with "/PID.sock" */

struct serve;

struct serve_options {
	const char *listen[SERVE_LISTEN_MAX];	/* http_listen.h; "PORT" alone is 127.0.0.1:PORT; NULL ends */
	bool allow_remote;
	const char *token;		/* NULL: none; else who comes over TCP needs "Authorization: Bearer TOKEN" */
	const char *site;		/* sitename of the tape REST API; NULL: "mockarchive" */
};

/* -EINVAL, -EPERM, -EADDRINUSE: *ret_which is the address. The archive must outlive it. */
int serve_open(struct archive *archive, const struct serve_options *options, struct serve **ret_serve, const char **ret_which);
/* The mount is there: until now every request is answered 503. */
void serve_start(struct serve *serve);
void serve_close(struct serve *serve);
/* Where it listens, with real ports; NULL past the last. Those of the options first, in their order, then the run directory's. */
const char *serve_address(const struct serve *serve, unsigned i);

/* $MOCKARCHIVE_RUN_DIR, else /run/mockarchive for root, $XDG_RUNTIME_DIR/mockarchive, or /tmp/mockarchive-UID. Made (0700) if `create`.
 * -EPERM: it is somebody else's, or others may write there. */
int serve_run_dir(bool create, char ret_dir[SERVE_RUN_DIR_BYTES]);

#endif
