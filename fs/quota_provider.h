/* What -o quota_notify names: each notice goes to all of them, from a thread of its own with a bounded queue. Who runs out of quota
 * never waits for them; what the queue does not hold, or a provider does not take, is counted. */
#ifndef WORMFS_QUOTA_PROVIDER_H
#define WORMFS_QUOTA_PROVIDER_H

#include <jansson.h>

#include "fs/wormfs.h"

#define QUOTA_PROVIDER_QUEUE 256	/* notices that wait */
#define QUOTA_PROVIDER_WAIT_MS 5000	/* for one POST, for a reader of stdout, and for what is left at unmount */

struct quota_notice;

/* 0: stdout, netlink, command:/PATH, http://... or https://... . -EINVAL: none of these. */
int quota_provider_check(const char *value);

/* Complains by itself. Nothing to do without the option. The closing one tells what is left, no longer than QUOTA_PROVIDER_WAIT_MS and
 * the notice that is on its way; NULL and twice is fine. */
int quota_provider_open(struct wormfs *fs);
void quota_provider_close(struct wormfs *fs);

/* Any thread; waits for nothing. */
void quota_provider_put(struct wormfs *fs, const struct quota_notice *notice);

/* NULL without the option. */
json_t *quota_provider_json(struct wormfs *fs);

#endif
