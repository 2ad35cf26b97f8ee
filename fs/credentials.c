/* setfsuid(2) and friends are per thread in the kernel; the C library's wrappers of setfsuid do not
 * spread them, and capset is called raw. Each thread gets a umask of its own by unshare(CLONE_FS).
 *
 * The kernel has checked the caller's permission (default_permissions), so capabilities other than
 * CAP_FSETID stay: SECBIT_NO_SETUID_FIXUP keeps them across setfsuid. Without CAP_FSETID the lower
 * filesystem clears set-id bits on a user's writes, also on those that passthrough makes with the
 * credentials of the moment the file was opened. Source: linux fs/attr.c setattr_should_drop_suidgid,
 * fs/backing-file.c. */
#include "fs/credentials.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/state.h"

struct thread_credentials {
	bool own_umask;
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool fsetid_dropped;
	bool groups;		/* the caller's, not the daemon's none */
};

#define NGROUPS 256	/* supplementary groups of a caller that are looked at */

static __thread struct thread_credentials now;
static struct __user_cap_data_struct full_caps[2];	/* constant after credentials_init() */

static int set_caps(const struct __user_cap_data_struct *caps)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &header, caps) < 0 ? -errno : 0;
}

static int set_fsetid(bool wanted)
{
	struct __user_cap_data_struct caps[2];

	memcpy(caps, full_caps, sizeof(caps));
	if (!wanted)
		caps[0].effective &= ~(1u << CAP_FSETID);
	return set_caps(caps);
}

int credentials_init(struct wormfs *fs)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const unsigned resource = CAP_SYS_RESOURCE;

	if (!fs->is_root)
		return 0;
	if (prctl(PR_SET_SECUREBITS, prctl(PR_GET_SECUREBITS) | SECBIT_NO_SETUID_FIXUP) < 0) {
		int r = -errno;

		complain("cannot keep capabilities when it acts for a user: %s; a service needs CAP_SETPCAP in its CapabilityBoundingSet",
			 strerror(-r));
		return r;
	}
	if (syscall(SYS_capget, &header, full_caps) < 0)
		return -errno;
	full_caps[resource / 32].effective &= ~(1u << resource % 32);
	full_caps[resource / 32].permitted &= ~(1u << resource % 32);
	full_caps[resource / 32].inheritable &= ~(1u << resource % 32);
	return set_caps(full_caps);
}

static int set_umask(mode_t mask)
{
	if (!now.own_umask) {
		if (unshare(CLONE_FS) < 0)
			return -EIO;
		now.own_umask = true;
		now.umask = mask;
		umask(mask);
	} else if (now.umask != mask) {
		now.umask = mask;
		umask(mask);
	}
	return 0;
}

int credentials_assume(struct wormfs *fs, fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int r;

	r = set_umask(ctx->umask);
	if (r < 0 || !fs->is_root)
		return r;
	if (now.gid != ctx->gid) {
		setfsgid(ctx->gid);
		now.gid = ctx->gid;
	}
	if (now.uid != ctx->uid) {
		setfsuid(ctx->uid);
		now.uid = ctx->uid;
		/* setfsuid cannot fail aloud: a call with -1 changes nothing and says who we are. */
		if ((uid_t)setfsuid((uid_t)-1) != ctx->uid || (gid_t)setfsgid((gid_t)-1) != ctx->gid) {
			credentials_drop(fs);
			return -EIO;
		}
	}
	return 0;
}

bool credentials_same_process(pid_t a, pid_t b)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", a, b);
	return a == b || access(path, F_OK) == 0;
}

void credentials_drop(struct wormfs *fs)
{
	if (!fs->is_root)
		return;
	if (now.uid != 0) {
		setfsuid(0);
		now.uid = 0;
	}
	if (now.gid != 0) {
		setfsgid(0);
		now.gid = 0;
	}
	if (now.groups && syscall(SYS_setgroups, 0, NULL) == 0)
		now.groups = false;
	if (now.fsetid_dropped && set_fsetid(true) == 0)
		now.fsetid_dropped = false;
}

int credentials_assume_writer(struct wormfs *fs, fuse_req_t req, mode_t mode)
{
	gid_t groups[NGROUPS];
	int n, r;

	r = credentials_assume(fs, req);
	if (r < 0 || !fs->is_root || now.uid == 0)
		return r;
	if (!now.fsetid_dropped) {
		if (set_fsetid(false) < 0) {
			credentials_drop(fs);
			return -EIO;
		}
		now.fsetid_dropped = true;
	}
	if (!(mode & S_ISGID))
		return 0;
	n = fuse_req_getgroups(req, NGROUPS, groups);
	/* A caller with more than that, or gone already: as one without, which clears the bit. */
	if (n < 0 || n > NGROUPS)
		n = 0;
	if (syscall(SYS_setgroups, n, groups) < 0) {
		credentials_drop(fs);
		return -EIO;
	}
	now.groups = true;
	return 0;
}
