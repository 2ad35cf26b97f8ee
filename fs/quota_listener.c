/* The thread owns the socket. What waits in it is bounded by the kernel (net.core.rmem_default). */
#include "fs/quota_listener.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/quota_netlink.h"
#include "fs/quota_notice.h"
#include "fs/shortage.h"
#include "fs/state.h"
#include "lockstore/thread.h"

struct quota_listener {
	struct quota_netlink netlink;
	int stop_fd;			/* eventfd: readable once it is to end */
	bool running;
	pthread_t thread;
	atomic_bool listening;
	atomic_ullong n_warnings, n_other_device, n_not_kernel, n_unreadable, n_overruns;
};

/* Which process and which file it was the kernel does not say. */
static void tell(struct wormfs *fs, const struct event_quota *quota, uint32_t uid)
{
	struct quota_notice notice = { .quota = *quota, .actor = { .uid = uid, .gid = (gid_t)-1 }, .by_kernel = true };

	snprintf(notice.detail, sizeof(notice.detail), "warning of the kernel: %s, %s %llu, device %u:%u",
		 event_quota_warning_name(quota->warning), event_quota_kind_name(quota->kind), (unsigned long long)quota->id, quota->major,
		 quota->minor);
	shortage_tell(fs, &notice, NULL);
}

/* -errno: the socket is of no use any more. */
static int take_one(struct wormfs *fs, struct quota_listener *ql)
{
	struct event_quota quota;
	uint32_t uid;
	int r = quota_netlink_receive(&ql->netlink, &quota, &uid);

	switch (r) {
	case 0:
		if (quota.major != major(fs->root_dev) || quota.minor != minor(fs->root_dev)) {
			atomic_fetch_add(&ql->n_other_device, 1);
			return 0;
		}
		atomic_fetch_add(&ql->n_warnings, 1);
		tell(fs, &quota, uid);
		return 0;
	case -EPERM:
		if (atomic_fetch_add(&ql->n_not_kernel, 1) == 0)
			log_info("quota_listen: a warning that the kernel did not send is ignored, further ones are only counted");
		return 0;
	case -EBADMSG:
		if (atomic_fetch_add(&ql->n_unreadable, 1) == 0)
			log_warning("quota_listen: a message of the kernel is no quota warning, further ones are only counted");
		return 0;
	case -ENOBUFS:
		if (atomic_fetch_add(&ql->n_overruns, 1) == 0)
			log_warning("quota_listen: warnings came too fast and some are lost, further losses are only counted");
		return 0;
	case -EAGAIN:
	case -EINTR:
		return 0;
	default:
		return r;
	}
}

static void *run(void *arg)
{
	struct wormfs *fs = arg;
	struct quota_listener *ql = fs->quota_listener;
	struct pollfd fds[] = { { .fd = ql->stop_fd, .events = POLLIN }, { .fd = ql->netlink.fd, .events = POLLIN } };
	int r = 0;

	while (r == 0) {
		if (poll(fds, 2, -1) < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (fds[0].revents)
			return NULL;
		r = take_one(fs, ql);
	}
	atomic_store(&ql->listening, false);
	log_warning("quota_listen: %s, the kernel's quota warnings are no longer told", strerror(-r));
	return NULL;
}

json_t *quota_listener_json(struct wormfs *fs)
{
	struct quota_listener *ql = fs->quota_listener;

	if (!ql)
		return NULL;
	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I}", "listening", (int)atomic_load(&ql->listening),
			 "warnings", (json_int_t)atomic_load(&ql->n_warnings), "other_device", (json_int_t)atomic_load(&ql->n_other_device),
			 "not_kernel", (json_int_t)atomic_load(&ql->n_not_kernel), "unreadable", (json_int_t)atomic_load(&ql->n_unreadable),
			 "overruns", (json_int_t)atomic_load(&ql->n_overruns));
}

int quota_listener_open(struct wormfs *fs)
{
	struct quota_listener *ql;
	int r;

	if (!fs->opt.quota_listen)
		return 0;
	ql = calloc(1, sizeof(*ql));
	if (!ql)
		return -ENOMEM;
	fs->quota_listener = ql;
	ql->netlink.fd = -1;
	ql->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ql->stop_fd < 0)
		return -errno;
	r = quota_netlink_open(&ql->netlink);
	if (r == 0)
		r = quota_netlink_join(&ql->netlink);
	if (r < 0) {
		complain("quota_listen: %s%s", strerror(-r), r != -ENOENT ? "" :
			 "; the kernel has VFS_DQUOT in its first network namespace only, and not every kernel has it: leave it out");
		return r;
	}
	atomic_store(&ql->listening, true);
	r = thread_start(&ql->thread, "quota-listen", run, fs);
	ql->running = r == 0;
	return r;
}

void quota_listener_close(struct wormfs *fs)
{
	struct quota_listener *ql = fs->quota_listener;
	uint64_t one = 1;

	if (!ql)
		return;
	if (ql->running) {
		(void)!write(ql->stop_fd, &one, sizeof(one));	/* the only one: it cannot be full */
		pthread_join(ql->thread, NULL);
	}
	quota_netlink_close(&ql->netlink);
	if (ql->stop_fd >= 0)
		close(ql->stop_fd);
	fs->quota_listener = NULL;
	free(ql);
}
