/* What the commands that serve HTTP have in common: who may ask, where they listen, when they end. */
#ifndef WORMCTL_SERVICE_H
#define WORMCTL_SERVICE_H

#include <signal.h>
#include <stdbool.h>

#include "lockstore/wormctl/output.h"

#define SERVICE_TOKEN_MIN 16	/* characters, of those of RFC 6750 */
#define SERVICE_TOKEN_MAX 512
#define SERVICE_TOKEN_ROOM (SERVICE_TOKEN_MAX + 2)

/* file NULL: a new one of 256 bits; else the first line of it, which nobody else may read. */
int service_token(const char *file, char token[SERVICE_TOKEN_ROOM], struct failure *f);

/* The token's hash is what is compared: all are of one length. */
struct service_key {
	unsigned char hash[32];
};
void service_key_of(const char *token, struct service_key *ret_key);
/* In constant time. */
bool service_key_fits(const struct service_key *key, const char *token);
/* header: the value of Authorization, or NULL. */
bool service_key_fits_bearer(const struct service_key *key, const char *header);

/* Before the first thread: SIGINT, SIGTERM and SIGHUP wait for service_wait(), and a client that hangs up is none of our business. */
void service_begin(sigset_t *ret_ends);
void service_wait(const sigset_t *ends);

/* What http_server_open() said, in words. */
int service_fail_listen(const char *listen, int r, struct failure *f);

#endif
