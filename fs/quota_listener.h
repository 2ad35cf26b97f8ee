/* -o quota_listen: the kernel's own quota warnings of the share's filesystem are told as all quota notices are (quota_notice.h), a flood
 * of them as a sum (shortage.h). A thread reads them; nobody waits for it. What it is too slow for, and what others send, is counted. */
#ifndef WORMFS_QUOTA_LISTENER_H
#define WORMFS_QUOTA_LISTENER_H

#include <jansson.h>

#include "fs/wormfs.h"

/* Between shortage_open() and shortage_close(). Complains by itself. Nothing to do without the option; the closing one takes NULL, and
 * twice is fine. */
int quota_listener_open(struct wormfs *fs);
void quota_listener_close(struct wormfs *fs);

/* NULL without the option. */
json_t *quota_listener_json(struct wormfs *fs);

#endif
