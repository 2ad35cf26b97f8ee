/* What is said when a quota is reached or a filesystem is full: the event "Quota", a line in the daemon's log, and the
 * providers that -o quota_notify names. Any thread; nobody waits for a provider. */
#ifndef WORMFS_QUOTA_NOTICE_H
#define WORMFS_QUOTA_NOTICE_H

#include "fs/actor.h"
#include "fs/wormfs.h"
#include "lockstore/events/event.h"

#define QUOTA_DETAIL_BYTES 200

struct quota_notice {
	struct event_quota quota;
	int error;			/* EDQUOT, ENOSPC; 0: nothing was refused */
	struct actor actor;
	char comm[ACTOR_COMM_BYTES];	/* "": not known */
	const char *path;		/* in the share, without '/' before it; NULL: none, or not known */
	bool by_kernel;			/* it has multicast it itself */
	char detail[QUOTA_DETAIL_BYTES];	/* for people */
};

void quota_notice_tell(struct wormfs *fs, const struct quota_notice *notice);

#endif
