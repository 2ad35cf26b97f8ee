/* Change notification: GET {ref}/notify, a stream of what happens below a directory, whoever does it. inotify tells us; one thread
 * hands on. The watches are set when the first client asks, and taken away after the last. */
#ifndef WORMFS_NOTIFY_H
#define WORMFS_NOTIFY_H

#include <jansson.h>

struct exchange;
struct found;
struct mock;
struct notify;

#define NOTIFY_WATCHERS_MAX 1000
#define NOTIFY_DIRS_MAX 100000		/* directories watched; more and recursive watching fails */

int notify_open(struct mock *mock, struct notify **ret_notify);
/* After the server has closed: no stream is left. */
void notify_close(struct notify *n);

/* These reply; the mock's lock is held. */
void notify_request(struct exchange *x, struct found *dir);
void notify_settings(struct exchange *x);

#endif
