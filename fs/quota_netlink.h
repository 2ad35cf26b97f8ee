/* Quota warnings as the kernel multicasts them: generic netlink, family VFS_DQUOT, group "events". Sent from user space they have
 * this socket's port id as their sender, never 0, which is the kernel's. One thread. Source: linux/quota.h; fs/quota/netlink.c of Linux. */
#ifndef WORMFS_QUOTA_NETLINK_H
#define WORMFS_QUOTA_NETLINK_H

#include <stddef.h>
#include <stdint.h>

#include "lockstore/events/event.h"

#define QUOTA_NETLINK_BYTES 76	/* of a message */

struct quota_netlink {
	int fd;
	uint16_t family;
	uint32_t group, seq;
};

/* -ENOENT: there is no such family: another network namespace than the first one, or a kernel without it. */
int quota_netlink_open(struct quota_netlink *ret);
void quota_netlink_close(struct quota_netlink *nl);

/* `uid`: who ran into it. The message into ret[QUOTA_NETLINK_BYTES]. -EOPNOTSUPP: the format has no words for it: a full filesystem, the
 * limit of a directory or a rule, an advisory one. A quota of which only EDQUOT is known becomes the user's hard limit of blocks. */
int quota_netlink_format(uint16_t family, uint32_t seq, const struct event_quota *quota, uint32_t uid, unsigned char *ret);
/* Waits for nothing. Also 0 when nobody listens. -EPERM: needs CAP_NET_ADMIN. */
int quota_netlink_send(struct quota_netlink *nl, const struct event_quota *quota, uint32_t uid);

#endif
