/* Who we are to a cluster: an access token, or a user and his password. From a file that nobody else can read, or from the
 * environment; never from the command line, never in a log line, never in a core. What is freed is wiped. One thread at a time. */
#ifndef WORMFS_UPSTREAM_CREDENTIALS_H
#define WORMFS_UPSTREAM_CREDENTIALS_H

#include <stdbool.h>

#define CREDENTIALS_FILE_MAX_BYTES 65536
#define CREDENTIALS_ERROR_BYTES 400
#define CREDENTIALS_ENV_TOKEN "WORMFS_PUSH_TOKEN"
#define CREDENTIALS_ENV_USER "WORMFS_PUSH_USER"
#define CREDENTIALS_ENV_PASSWORD "WORMFS_PUSH_PASSWORD"

struct upstream_credentials;

/* From now on the kernel writes no core of this process: requests have the secret in memory, in buffers of libraries, too. Opening and
 * making do it first; who reads a secret in another way does it before. Who may trace the process can still read it. */
void upstream_credentials_forbid_core(void);

/* path NULL: the environment, CREDENTIALS_ENV_TOKEN before CREDENTIALS_ENV_USER and _PASSWORD, which is wiped there.
 * A file holds one of
 *	{"version": 1, "bearer_token": "..."}	as `qq` writes it
 *	{"username": "...", "password": "..."}
 *	user = NAME, password = ... or token = ...	one a line, '#' begins a comment
 *	access-v1:...				a token alone
 * -ENOENT: no such file, or nothing in the environment; -EPERM: others can read it, or it is not ours; -EINVAL: none of the
 * above. ret_error is one line, without anything secret. */
int upstream_credentials_open(const char *path, struct upstream_credentials **ret_credentials,
			      char ret_error[CREDENTIALS_ERROR_BYTES]);
/* Of what somebody has just typed; user and password count when token is NULL. The texts are copied. -EINVAL, -ENOMEM likewise. */
int upstream_credentials_make(const char *token, const char *user, const char *password, struct upstream_credentials **ret_credentials,
			      char ret_error[CREDENTIALS_ERROR_BYTES]);
void upstream_credentials_close(struct upstream_credentials *credentials);	/* NULL is fine */

/* 1: the file has changed and was read again; 0: it has not, or it is the environment; < 0: as open, and what was there stays. */
int upstream_credentials_reload(struct upstream_credentials *credentials, char ret_error[CREDENTIALS_ERROR_BYTES]);

/* NULL: there is a user and a password instead. They live until the next reload or close. */
const char *upstream_credentials_token(const struct upstream_credentials *credentials);
const char *upstream_credentials_user(const struct upstream_credentials *credentials);
const char *upstream_credentials_password(const struct upstream_credentials *credentials);
/* The file; NULL: the environment. */
const char *upstream_credentials_path(const struct upstream_credentials *credentials);

#endif
