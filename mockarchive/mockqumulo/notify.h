/* Change notification: GET {ref}/notify, a stream of what happens below a directory, whoever does it. inotify tells us; one thread
 * hands on. The whole tree is watched from the first client on. */
#ifndef WORMFS_NOTIFY_H
#define WORMFS_NOTIFY_H

#include <stdbool.h>

#include <jansson.h>

struct exchange;
struct found;
struct mock;
struct notify;

#define NOTIFY_WATCHERS_MAX 1000

int notify_open(struct mock *mock, struct notify **ret_notify);
/* After the server has closed: no stream is left. */
void notify_close(struct notify *n);

/* The control verbs: who watches; ends all, with or without the error of one that is behind. The mock's lock is held. */
json_t *notify_json(const struct notify *n);
void notify_drop(struct notify *n, bool behind);

/* These reply; the mock's lock is held. */
void notify_request(struct exchange *x, struct found *dir);
void notify_settings(struct exchange *x);

#endif
