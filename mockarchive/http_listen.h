/* Where a server listens: "ADDRESS:PORT", "[::1]:PORT", "localhost:PORT" (port 0: any free one) or "unix:PATH".
 * Addresses are numbers, no name is looked up. Any thread. */
#ifndef WORMFS_HTTP_LISTEN_H
#define WORMFS_HTTP_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_LISTEN_TEXT_BYTES 160

/* A listening socket, the caller's to close; where it really listens, with the real port, in `ret_text`.
 * A UNIX socket has mode 0600; one that nobody listens on any more is replaced.
 * -EINVAL: not of the form. -EPERM: not a loopback address, and allow_remote is false. -EADDRINUSE etc. */
int http_listen(const char *spec, bool allow_remote, int *ret_fd, char ret_text[HTTP_LISTEN_TEXT_BYTES]);

#endif
