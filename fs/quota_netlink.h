/* Quota warnings as the kernel multicasts them: generic netlink, family VFS_DQUOT, group "events". Sent from user space they have
 * this socket's port id as their sender, never 0, which is the kernel's. One thread. Source: linux/quota.h; fs/quota/netlink.c of Linux. */
#ifndef WORMFS_QUOTA_NETLINK_H
#define WORMFS_QUOTA_NETLINK_H

#include <stddef.h>
#include <stdint.h>

#include "lockstore/events/event.h"

#define QUOTA_NETLINK_BYTES 76	/* of a message */
#define QUOTA_NETLINK_BYTES_MAX 512	/* of one that is read: a newer kernel's may have more attributes */

struct quota_netlink {
	int fd;
	uint16_t family;
	uint32_t group, seq;
};

/* -ENOENT: there is no such family: another network namespace than the first one, or a kernel without it. */
int quota_netlink_open(struct quota_netlink *ret);
void quota_netlink_close(struct quota_netlink *nl);

/* From now on quota_netlink_receive() has what is sent to the group; needs no privilege. */
int quota_netlink_join(struct quota_netlink *nl);
/* Waits for nothing. *ret_uid: who ran into it, the real user id that the kernel saw. -EAGAIN: nothing is there. -ENOBUFS: the socket
 * was full, and at least one message is lost. -EPERM: one that the kernel did not send. -EBADMSG: quota_netlink_parse(). */
int quota_netlink_receive(struct quota_netlink *nl, struct event_quota *ret, uint32_t *ret_uid);
/* Pure. -EBADMSG: no whole warning of `family`, or with numbers that mean nothing. */
int quota_netlink_parse(uint16_t family, const unsigned char *message, size_t len, struct event_quota *ret, uint32_t *ret_uid);

/* `uid`: who ran into it. The message into ret[QUOTA_NETLINK_BYTES]. -EOPNOTSUPP: the format has no words for it: a full filesystem, the
 * limit of a rule, an advisory one. A directory's is a project's. A quota of which only EDQUOT is known becomes the user's hard limit of blocks. */
int quota_netlink_format(uint16_t family, uint32_t seq, const struct event_quota *quota, uint32_t uid, unsigned char *ret);
/* Waits for nothing. Also 0 when nobody listens. -EPERM: needs CAP_NET_ADMIN. */
int quota_netlink_send(struct quota_netlink *nl, const struct event_quota *quota, uint32_t uid);

#endif
