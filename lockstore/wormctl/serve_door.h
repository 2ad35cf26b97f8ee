/* The HTTP side of wormctl serve: who may ask, and which path shows what of a lookout. Read-only: GET and HEAD.
 *
 * The page, its script and style are for everybody: nothing of the share is in them. All else wants the token, as
 * "Authorization: Bearer TOKEN". A request whose Host is a name that nobody gave is refused, token or not: so a web page that makes its
 * own name lead to this address (DNS rebinding) cannot ask. Not more than DOOR_CONNECTIONS at once. */
#ifndef WORMFS_WORMCTL_SERVE_DOOR_H
#define WORMFS_WORMCTL_SERVE_DOOR_H

#include <stdbool.h>

#include "lockstore/wormctl/lookout.h"

#define DOOR_CONNECTIONS 64
#define DOOR_IDLE_S 30
#define DOOR_HEAD_BYTES 8192
#define DOOR_BODY_BYTES 1024

struct door;

/* host (NULL: none): one more name that a Host header may have, besides addresses and localhost. Errors of http_server_open(). */
int door_open(struct lookout *lookout, const char *listen, bool allow_remote, const char *token, const char *host, struct door **ret_door);
void door_close(struct door *door);
/* "127.0.0.1:40213", "unix:/run/x" */
const char *door_address(const struct door *door);

#endif
