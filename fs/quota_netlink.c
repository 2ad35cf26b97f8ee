#include "fs/quota_netlink.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/quota.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAMILY_NAME "VFS_DQUOT"
#define GROUP_NAME "events"
#define VERSION 1
#define ANSWER_BYTES 4096
#define ANSWER_MS 2000

/* ---- writing ---- */

static size_t put(unsigned char *at, uint16_t type, const void *data, uint16_t len)
{
	struct nlattr attr = { .nla_len = NLA_HDRLEN + len, .nla_type = type };

	memset(at, 0, NLA_ALIGN(attr.nla_len));
	memcpy(at, &attr, sizeof(attr));
	memcpy(at + NLA_HDRLEN, data, len);
	return NLA_ALIGN(attr.nla_len);
}

static size_t put_header(unsigned char *at, uint16_t type, uint16_t flags, uint32_t seq, uint8_t command, uint8_t version)
{
	struct nlmsghdr header = { .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = seq };
	struct genlmsghdr genl = { .cmd = command, .version = version };

	memcpy(at, &header, sizeof(header));
	memcpy(at + NLMSG_HDRLEN, &genl, sizeof(genl));
	return NLMSG_HDRLEN + GENL_HDRLEN;
}

static void put_length(unsigned char *message, uint32_t len)
{
	memcpy(message, &len, sizeof(len));	/* nlmsg_len is its first field */
}

int quota_netlink_format(uint16_t family, uint32_t seq, const struct event_quota *quota, uint32_t uid, unsigned char *ret)
{
	uint32_t kind = quota->kind, warning = quota->warning, dev_major = quota->major, dev_minor = quota->minor;
	uint64_t id = quota->id, caused = uid;
	size_t len;

	if (kind == EVENT_QUOTA_SOME && warning == EVENT_QUOTA_REFUSED) {
		kind = EVENT_QUOTA_USER;
		warning = QUOTA_NL_BHARDWARN;
		id = uid;
	}
	if (kind == EVENT_QUOTA_DIRECTORY)	/* a limit of our own (fs/quota_limit.h): what the kernel calls a project is a tree as well */
		kind = EVENT_QUOTA_PROJECT;
	if (kind > EVENT_QUOTA_PROJECT || warning == QUOTA_NL_NOWARN || warning > QUOTA_NL_BSOFTBELOW)
		return -EOPNOTSUPP;
	len = put_header(ret, family, 0, seq, QUOTA_NL_C_WARNING, VERSION);
	len += put(ret + len, QUOTA_NL_A_QTYPE, &kind, sizeof(kind));
	len += put(ret + len, QUOTA_NL_A_EXCESS_ID, &id, sizeof(id));
	len += put(ret + len, QUOTA_NL_A_WARNING, &warning, sizeof(warning));
	len += put(ret + len, QUOTA_NL_A_DEV_MAJOR, &dev_major, sizeof(dev_major));
	len += put(ret + len, QUOTA_NL_A_DEV_MINOR, &dev_minor, sizeof(dev_minor));
	len += put(ret + len, QUOTA_NL_A_CAUSED_ID, &caused, sizeof(caused));
	put_length(ret, len);
	return 0;
}

int quota_netlink_send(struct quota_netlink *nl, const struct event_quota *quota, uint32_t uid)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = 1U << (nl->group - 1) };
	unsigned char message[QUOTA_NETLINK_BYTES];
	int r = quota_netlink_format(nl->family, ++nl->seq, quota, uid, message);

	if (r < 0)
		return r;
	if (sendto(nl->fd, message, sizeof(message), MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}

/* ---- which family, which group ---- */

/* The attribute of `type` among those in `at`; NULL: none. */
static const unsigned char *find(const unsigned char *at, size_t len, uint16_t type, size_t *ret_len)
{
	struct nlattr attr;

	while (len >= sizeof(attr)) {
		memcpy(&attr, at, sizeof(attr));
		if (attr.nla_len < NLA_HDRLEN || attr.nla_len > len)
			return NULL;
		if ((attr.nla_type & NLA_TYPE_MASK) == type) {
			*ret_len = attr.nla_len - NLA_HDRLEN;
			return at + NLA_HDRLEN;
		}
		if ((size_t)NLA_ALIGN(attr.nla_len) >= len)
			return NULL;
		at += NLA_ALIGN(attr.nla_len);
		len -= NLA_ALIGN(attr.nla_len);
	}
	return NULL;
}

/* The family has one group: its list has the entry 1. */
static int read_answer(struct quota_netlink *nl, const unsigned char *answer, size_t len)
{
	const unsigned char *at, *name;
	struct nlmsghdr header;
	size_t n, name_len;
	int error;

	if (len < NLMSG_HDRLEN + sizeof(error))
		return -EPROTO;
	memcpy(&header, answer, sizeof(header));
	if (header.nlmsg_len > len || header.nlmsg_len < NLMSG_HDRLEN + sizeof(error))
		return -EPROTO;
	if (header.nlmsg_type == NLMSG_ERROR) {
		memcpy(&error, answer + NLMSG_HDRLEN, sizeof(error));
		return error < 0 ? error : -EPROTO;
	}
	answer += NLMSG_HDRLEN + GENL_HDRLEN;
	len = header.nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN;
	at = find(answer, len, CTRL_ATTR_FAMILY_ID, &n);
	if (!at || n != sizeof(nl->family))
		return -EPROTO;
	memcpy(&nl->family, at, n);
	at = find(answer, len, CTRL_ATTR_MCAST_GROUPS, &n);
	at = at ? find(at, n, 1, &n) : NULL;
	name = at ? find(at, n, CTRL_ATTR_MCAST_GRP_NAME, &name_len) : NULL;
	if (!name || name_len != sizeof(GROUP_NAME) || memcmp(name, GROUP_NAME, name_len) != 0)
		return -EPROTO;
	at = find(at, n, CTRL_ATTR_MCAST_GRP_ID, &n);
	if (!at || n != sizeof(nl->group))
		return -EPROTO;
	memcpy(&nl->group, at, n);
	return nl->group >= 1 && nl->group <= 32 ? 0 : -EPROTO;	/* an address has room for 32 */
}

static int resolve(struct quota_netlink *nl)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK }, from;
	socklen_t from_len = sizeof(from);
	struct pollfd in = { .fd = nl->fd, .events = POLLIN };
	unsigned char buf[ANSWER_BYTES];
	size_t len = put_header(buf, GENL_ID_CTRL, NLM_F_REQUEST, 0, CTRL_CMD_GETFAMILY, 1);
	ssize_t n;

	len += put(buf + len, CTRL_ATTR_FAMILY_NAME, FAMILY_NAME, sizeof(FAMILY_NAME));
	put_length(buf, len);
	if (sendto(nl->fd, buf, len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	if (poll(&in, 1, ANSWER_MS) <= 0)
		return -ETIMEDOUT;
	n = recvfrom(nl->fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
	if (n < 0)
		return -errno;
	return from.nl_pid != 0 ? -EPROTO : read_answer(nl, buf, n);
}

/* ---- reading ---- */

static bool get(const unsigned char *at, size_t len, uint16_t type, void *ret, size_t want)
{
	size_t n;
	const unsigned char *value = find(at, len, type, &n);

	if (!value || n != want)
		return false;
	memcpy(ret, value, want);
	return true;
}

int quota_netlink_parse(uint16_t family, const unsigned char *message, size_t len, struct event_quota *ret, uint32_t *ret_uid)
{
	const unsigned char *at = message + NLMSG_HDRLEN + GENL_HDRLEN;
	uint32_t kind, warning, dev_major, dev_minor;
	struct nlmsghdr header;
	uint64_t id, caused;

	if (len < NLMSG_HDRLEN + GENL_HDRLEN)
		return -EBADMSG;
	memcpy(&header, message, sizeof(header));
	if (header.nlmsg_len > len || header.nlmsg_len < NLMSG_HDRLEN + GENL_HDRLEN || header.nlmsg_type != family ||
	    message[NLMSG_HDRLEN] != QUOTA_NL_C_WARNING)	/* cmd is the first field of struct genlmsghdr */
		return -EBADMSG;
	len = header.nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN;
	if (!get(at, len, QUOTA_NL_A_QTYPE, &kind, sizeof(kind)) || !get(at, len, QUOTA_NL_A_EXCESS_ID, &id, sizeof(id)) ||
	    !get(at, len, QUOTA_NL_A_WARNING, &warning, sizeof(warning)) ||
	    !get(at, len, QUOTA_NL_A_DEV_MAJOR, &dev_major, sizeof(dev_major)) ||
	    !get(at, len, QUOTA_NL_A_DEV_MINOR, &dev_minor, sizeof(dev_minor)) ||
	    !get(at, len, QUOTA_NL_A_CAUSED_ID, &caused, sizeof(caused)))
		return -EBADMSG;
	if (kind > EVENT_QUOTA_PROJECT || warning == QUOTA_NL_NOWARN || warning > QUOTA_NL_BSOFTBELOW || id > UINT32_MAX || caused > UINT32_MAX)
		return -EBADMSG;
	*ret = (struct event_quota){ .kind = kind, .warning = warning, .major = dev_major, .minor = dev_minor, .count = 1, .id = id };
	*ret_uid = caused;
	return 0;
}

/* No program can have the kernel's port or its process id. Its user id says nothing: root has it, too, and within a user namespace it is
 * another one. */
static bool is_from_the_kernel(struct msghdr *msg, const struct sockaddr_nl *from)
{
	struct cmsghdr *c = msg->msg_namelen == sizeof(*from) && from->nl_pid == 0 ? CMSG_FIRSTHDR(msg) : NULL;
	struct ucred who;

	for (; c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS || c->cmsg_len != CMSG_LEN(sizeof(who)))
			continue;
		memcpy(&who, CMSG_DATA(c), sizeof(who));
		return who.pid == 0;
	}
	return false;
}

int quota_netlink_receive(struct quota_netlink *nl, struct event_quota *ret, uint32_t *ret_uid)
{
	unsigned char message[QUOTA_NETLINK_BYTES_MAX];
	union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(struct ucred))]; } control;
	struct sockaddr_nl from = { .nl_pid = UINT32_MAX };
	struct iovec iov = { .iov_base = message, .iov_len = sizeof(message) };
	struct msghdr msg = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(nl->fd, &msg, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	if (!is_from_the_kernel(&msg, &from))
		return -EPERM;
	return msg.msg_flags & MSG_TRUNC ? -EBADMSG : quota_netlink_parse(nl->family, message, n, ret, ret_uid);
}

int quota_netlink_join(struct quota_netlink *nl)
{
	int group = nl->group, on = 1;

	if (setsockopt(nl->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    setsockopt(nl->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	return 0;
}

/* ---- life ---- */

int quota_netlink_open(struct quota_netlink *ret)
{
	struct quota_netlink nl = { .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC) };
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	int r = 0;

	if (nl.fd < 0)
		return -errno;
	if (bind(nl.fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		r = -errno;
	if (r == 0)
		r = resolve(&nl);
	if (r < 0) {
		close(nl.fd);
		return r;
	}
	*ret = nl;
	return 0;
}

void quota_netlink_close(struct quota_netlink *nl)
{
	if (nl->fd >= 0)
		close(nl->fd);
	nl->fd = -1;
}
