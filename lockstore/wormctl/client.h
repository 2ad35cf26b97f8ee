/* The client's end of the control socket (lockstore/control.h). */
#ifndef WORMFS_WORMCTL_CLIENT_H
#define WORMFS_WORMCTL_CLIENT_H

#include <jansson.h>

struct client;

/* A daemon that says nothing for so long does not answer: to one request; between two lines of progress. */
#define CLIENT_ANSWER_S 60
#define CLIENT_PROGRESS_S 3600

/* The caller owns *ret_client and ends it with client_close().
 * -ENOENT, -ECONNREFUSED: no daemon there. -EACCES: not root nor the daemon's own user. */
int client_connect(const char *state_dir, struct client **ret_client);
void client_close(struct client *client);

typedef void (*client_progress_fn)(void *arg, const json_t *progress);

/* Sends `request` (taken over, NULL: -ENOMEM) and waits for its answer; "progress" lines before it go to
 * `progress` (NULL: none are expected). 0: *ret_answer (may be NULL) is
 * the caller's. The daemon's own refusal comes back as its errno with its sentence in client_error().
 * -E2BIG: longer than CONTROL_LINE_MAX. -EPROTO: no answer of ours. -ETIMEDOUT, -ECONNRESET: the daemon is
 * stuck or gone; whether it did what was asked is not known. */
int client_call(struct client *client, json_t *request, client_progress_fn progress, void *arg, json_t **ret_answer);

/* The descriptor that came with the last answer, the caller's to close; -1: none did. */
int client_take_fd(struct client *client);

/* What the daemon said about the last call that it refused, else "". */
const char *client_error(const struct client *client);

/* True for errors that mean that nobody listens. */
int client_is_absence(int error);

#endif
