/* Attributes: stat, chmod, chown, truncate, utimensat, statfs, chattr. The kernel has checked the
 * caller's permission; the guard checks the lock. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/append.h"
#include "fs/atime.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/ops.h"
#include "fs/quota_limit.h"
#include "fs/refusal.h"
#include "fs/rule.h"
#include "fs/tier.h"

#define ANY_WRITE (S_IWUSR | S_IWGRP | S_IWOTH)

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452	/* Linux 6.6 */
#endif

/* NULL: by path, or a directory. */
static struct handle *file_handle_of(struct fuse_file_info *fi, const struct inode *ino)
{
	return fi && S_ISREG(ino->type) ? handle_of(fi->fh) : NULL;
}

static int stat_inode(struct wormfs *fs, struct inode *ino, struct handle *h, struct stat *ret_st)
{
	if (h && h->writer)
		return fstat(h->fd, ret_st) < 0 ? -errno : 0;
	return inode_stat_now(fs, ino, ret_st);
}

/* How long the kernel may believe what is in the one of the two that is not NULL; the retention is put in
 * where it is shown as the access time. */
static double timeout_of(struct wormfs *fs, struct inode *ino, struct stat *st, struct statx *stx)
{
	double timeout_s;
	int64_t atime_s;

	if (!S_ISREG(ino->type))
		return fs->timeout_s;
	pthread_mutex_lock(&ino->lock);
	timeout_s = attr_timeout_locked(fs, ino);
	if (st && fs->tier)
		fs->tier->show(fs, ino, st);
	if (st)
		atime_show_stat_locked(fs, ino, st);
	else if (atime_shown_locked(fs, ino, &atime_s))
		stx->stx_atime = (struct statx_timestamp){ .tv_sec = atime_s };
	pthread_mutex_unlock(&ino->lock);
	return timeout_s;
}

void op_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_of(req);
	struct inode *ino = inode_get(fs, nodeid);
	double timeout_s = 0;
	struct stat st;
	int r;

	r = ino ? stat_inode(fs, ino, file_handle_of(fi, ino), &st) : -ESTALE;
	if (ino && file_handle_of(fi, ino))
		handle_done(file_handle_of(fi, ino));
	if (r == 0)
		timeout_s = timeout_of(fs, ino, &st, NULL);
	inode_put(fs, ino);
	if (r == 0)
		fuse_reply_attr(req, &st, timeout_s);
	else
		fuse_reply_err(req, -r);
}

#if LIBFUSE_HAS_STATX
void op_statx(fuse_req_t req, fuse_ino_t nodeid, int flags, int mask, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_of(req);
	struct inode *ino = inode_get(fs, nodeid);
	double timeout_s = 0;
	struct statx stx;
	int r;

	r = ino ? inode_statx_now(fs, ino, flags & AT_STATX_SYNC_TYPE, mask, &stx) : -ESTALE;
	if (r == 0)
		timeout_s = timeout_of(fs, ino, NULL, &stx);
	inode_put(fs, ino);
	if (r == 0)
		fuse_reply_statx(req, 0, &stx, timeout_s);
	else
		fuse_reply_err(req, -r);
}
#endif

static int chmod_fd(int fd, mode_t mode)
{
	char path[40];

	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, mode) < 0 ? -errno : 0;
}

static int utimens_fd(int fd, const struct timespec times[2])
{
	char path[40];

	if (utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);	/* before Linux 5.8 */
	return utimensat(AT_FDCWD, path, times, 0) < 0 ? -errno : 0;
}

static int truncate_inode(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct handle *h, mode_t mode, off_t size)
{
	int fd, r;

	r = credentials_assume_writer(fs, req, mode);
	if (r < 0)
		return r;
	if (h && h->writer) {
		r = ftruncate(h->fd, size) < 0 ? -errno : 0;
	} else {
		fd = descriptor_open(fs, ino, O_WRONLY | O_NONBLOCK);
		r = fd < 0 ? fd : ftruncate(fd, size) < 0 ? -errno : 0;
		if (fd >= 0)
			close(fd);
	}
	credentials_drop(fs);
	return r;
}

static int set_times(int fd, const struct stat *attr, int to_set)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };

	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		times[0].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		times[0] = attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		times[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		times[1] = attr->st_mtim;
	return utimens_fd(fd, times);
}

/* What the guard has to say to each part of the request. *ret_nothing: it is a chmod that a lock lets
 * pass without doing it. */
static int check_setattr_locked(struct wormfs *fs, struct inode *ino, struct handle *h, const struct stat *old,
				const struct stat *attr, int to_set, bool *ret_nothing)
{
	int r = 0;

	if (to_set & FUSE_SET_ATTR_MODE) {
		mode_t before = old->st_mode & 07777, after = attr->st_mode & 07777;
		bool readonly = (before & ~after & ~ANY_WRITE) == 0 && (after & ~before) == 0;
		bool writable = !readonly && (after & ~before & ~ANY_WRITE) == 0 && (before & ~after) == 0;

		r = lock_check_locked(fs, ino, readonly ? GUARD_CHMOD_READONLY : writable ? GUARD_CHMOD_WRITABLE : GUARD_CHMOD);
		*ret_nothing = readonly && ino->phase != LOCK_NONE && !append_is_locked(ino) && lock_state_locked(fs, ino) != GUARD_SETTLING;
	}
	if (r == 0 && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		r = lock_check_locked(fs, ino, GUARD_CHOWN);
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = lock_check_locked(fs, ino, h && h->writer ? GUARD_FTRUNCATE : GUARD_TRUNCATE);
	if (r == 0 && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW))
		r = lock_check_locked(fs, ino, GUARD_UTIMENS);
	return r;
}

static int apply_setattr_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct handle *h, int fd,
				mode_t mode, const struct stat *attr, int to_set)
{
	int r = 0;

	/* By the daemon: it is not in the caller's groups, and would lose him set-group-id bits. */
	if (to_set & FUSE_SET_ATTR_MODE)
		r = chmod_fd(fd, attr->st_mode & 07777);
	if (r == 0 && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
		gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;

		r = credentials_assume_writer(fs, req, mode);
		if (r == 0)
			r = fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
		credentials_drop(fs);
	}
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = truncate_inode(fs, req, ino, h, mode, attr->st_size);
	if (r == 0 && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW))
		r = set_times(fd, attr, to_set);
	return r;
}

/* With the limits that size and owner count for. */
static int apply_counted_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct handle *h, int fd,
				const struct stat *old, const struct stat *attr, int to_set)
{
	struct quota_growth growth = { .counted = false };
	bool gives = fs->limits && to_set & FUSE_SET_ATTR_UID;
	int r = 0;

	if (gives)
		r = quota_limit_begin_chown_locked(fs, ino, old, attr->st_uid);
	if (r < 0)
		return r;
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = quota_limit_grow_locked(fs, ino, old, attr->st_size, &growth);
	if (r == 0)
		r = apply_setattr_locked(fs, req, ino, h, fd, old->st_mode, attr, to_set);
	quota_limit_grown_locked(fs, ino, fd, &growth);
	if (gives)
		quota_limit_end_chown_locked(fs, ino, old, attr->st_uid, r == 0);
	return r;
}

/* chmod that takes the last write bit away: the commit that SnapLock, Storage Scale and SAM-QFS have. */
static bool is_commit_chmod(struct wormfs *fs, struct inode *ino, const struct stat *old, const struct stat *attr, int to_set)
{
	enum commit_trigger commit;

	if (!(to_set & FUSE_SET_ATTR_MODE) || !S_ISREG(ino->type) || !(old->st_mode & ANY_WRITE) || attr->st_mode & ANY_WRITE)
		return false;
	if (append_is_locked(ino))
		return true;
	if (ino->phase != LOCK_NONE)
		return false;
	commit = rule_or_mount_locked(fs, ino, old)->set.commit;
	rule_forget_if_idle_locked(ino);
	return commit != COMMIT_NEVER && commit != COMMIT_EXPLICIT;
}

/* The writer itself may do it while it writes (cp -p, tar): the lock then comes with its close.
 * While others write, EBUSY; `patient`: also when it has closed the file, and its release is on the way. */
static int prepare_commit_chmod_locked(struct inode *ino, pid_t pid, bool patient, bool *ret_now)
{
	for (struct handle *h = ino->handles; h; h = h->next)
		if (h->writer && ((patient && h->closed) || !credentials_same_process(h->pid, pid)))
			return -EBUSY;
	*ret_now = ino->nwriters == 0;
	ino->lock_at_close = ino->nwriters > 0;
	return 0;
}

static const char *what_is_set(int to_set)
{
	return to_set & FUSE_SET_ATTR_MODE ? "mode set" : to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) ? "owner set" : "times set";
}

static int setattr_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct handle *h,
			  const struct stat *attr, int to_set, bool patient, struct stat *ret_st)
{
	bool times = to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW);
	bool nothing = false, commit_now = false, sealed = false;
	struct adjustment adjustment;
	struct data_stamp before;
	int fd, r;

	r = stat_inode(fs, ino, NULL, ret_st);
	if (r == 0 && S_ISREG(ino->type))
		lock_load_locked(fs, ino);
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		events_saw_size(fs, ret_st->st_size);
	if (r == 0 && to_set & FUSE_SET_ATTR_MODE && append_is_asked_by_chmod_locked(fs, ino, ret_st, attr->st_mode))
		r = append_make_of_empty_locked(fs, ino, fuse_req_ctx(req)->pid);
	if (r == 0 && atime_is_extension_locked(fs, ino, ret_st, attr, to_set))
		return atime_extend_locked(fs, ino, attr->st_atim);
	if (r == 0)
		r = check_setattr_locked(fs, ino, h, ret_st, attr, to_set, &nothing);
	if (r < 0 || nothing)
		return r;
	if (is_commit_chmod(fs, ino, ret_st, attr, to_set)) {
		r = prepare_commit_chmod_locked(ino, fuse_req_ctx(req)->pid, patient, &commit_now);
		if (r == 0 && commit_now && !append_is_locked(ino))
			r = lock_probe(fs, ino);	/* before the mode is changed */
		if (r < 0)
			return r;
	}
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	if (!(to_set & FUSE_SET_ATTR_SIZE))
		lock_metadata_before_locked(fs, ino, &before);
	r = lock_adjust_begin_locked(fs, ino, false, &adjustment);
	if (r == 0)
		r = apply_counted_locked(fs, req, ino, h, fd, ret_st, attr, to_set);
	r = lock_adjust_end_locked(fs, ino, &adjustment, r, what_is_set(to_set));
	if (r == 0 && to_set & FUSE_SET_ATTR_ATIME)
		r = atime_wish_locked(fs, ino, fd, attr->st_atim);
	if (!(to_set & FUSE_SET_ATTR_SIZE))
		lock_metadata_after_locked(fs, ino, &before, times);
	descriptor_put(fs, ino, fd);
	if (r == 0 && commit_now)
		r = lock_seal_locked(fs, ino, &sealed);
	if (sealed)
		lock_publish_locked(fs, ino, "chmod");
	return r < 0 ? r : stat_inode(fs, ino, NULL, ret_st);
}

void op_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct wormfs *fs = wormfs_for(req);
	struct inode *ino = inode_get(fs, nodeid);
	bool patient = true, again;
	unsigned waited_ms = 0;
	double timeout_s;
	struct stat st;
	int r;

	if (!ino) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	lock_wait_to_settle(fs, ino);
	do {
		if (to_set & FUSE_SET_ATTR_MODE)	/* may lock the file */
			pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&ino->lock);
		r = setattr_locked(fs, req, ino, file_handle_of(fi, ino), attr, to_set, patient, &st);
		timeout_s = S_ISREG(ino->type) ? attr_timeout_locked(fs, ino) : fs->timeout_s;
		if (r == 0)
			atime_show_stat_locked(fs, ino, &st);
		if (r == 0 && fs->tier && S_ISREG(ino->type)) {
			fs->tier->set_locked(fs, ino, &st);
			fs->tier->show(fs, ino, &st);
		}
		pthread_mutex_unlock(&ino->lock);
		if (to_set & FUSE_SET_ATTR_MODE)
			pthread_rwlock_unlock(&fs->rename_lock);
		again = r == -EBUSY && patient;
		patient = again && lock_wait_for_release(ino, &waited_ms);
	} while (again);
	if (r == 0 && fs->tier && to_set & FUSE_SET_ATTR_SIZE)
		fs->tier->truncated(fs, ino);
	if (r == -EBUSY)
		(void)refusal_of_request(fs, ino, GUARD_CHMOD_READONLY, r);
	events_note(fs, .type = to_set & FUSE_SET_ATTR_SIZE ? EVENT_TRUNCATE : EVENT_SETATTR, .result = r, .ino = ino,
		    .st = r == 0 ? &st : NULL);
	inode_put(fs, ino);
	if (r == 0)
		fuse_reply_attr(req, &st, timeout_s);
	else
		fuse_reply_err(req, -r);
}

void op_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
	struct wormfs *fs = wormfs_of(req);
	struct inode *ino = inode_get(fs, nodeid);
	struct statvfs stv;
	int fd, r;

	fd = ino ? descriptor_get(fs, ino) : -ESTALE;
	r = fd < 0 ? fd : fstatvfs(fd, &stv) < 0 ? -errno : 0;
	if (fd >= 0)
		descriptor_put(fs, ino, fd);
	inode_put(fs, ino);
	if (r == 0)
		fuse_reply_statfs(req, &stv);
	else
		fuse_reply_err(req, -r);
}

/* ---- chattr ---- */

/* lsattr shows the lock as i or a, over what the lower file has. */
static unsigned locked_flags_locked(struct wormfs *fs, struct inode *ino)
{
	switch (lock_state_locked(fs, ino)) {
	case GUARD_OPEN:
	case GUARD_PINNED:
	case GUARD_HELD:
		return 0;
	case GUARD_APPENDABLE:
		return FS_APPEND_FL;
	default:
		return FS_IMMUTABLE_FL;
	}
}

static int get_flags(struct wormfs *fs, struct inode *ino, int fd, unsigned cmd, void *out)
{
	unsigned locked = S_ISREG(ino->type) ? locked_flags_locked(fs, ino) : 0;

	if (ioctl(fd, cmd, out) < 0)
		return -errno;
	if (cmd == FS_IOC_GETFLAGS) {
		unsigned flags;

		memcpy(&flags, out, sizeof(flags));
		flags |= locked;
		memcpy(out, &flags, sizeof(flags));
	} else {
		struct fsxattr *x = out;

		x->fsx_xflags |= (locked & FS_IMMUTABLE_FL ? FS_XFLAG_IMMUTABLE : 0) | (locked & FS_APPEND_FL ? FS_XFLAG_APPEND : 0);
	}
	return 0;
}

static bool locks_anything_locked(struct wormfs *fs, struct inode *ino)
{
	enum commit_trigger commit = rule_or_mount_locked(fs, ino, NULL)->set.commit;

	rule_forget_if_idle_locked(ino);
	return commit != COMMIT_NEVER;
}

/* What the caller wants set, as FS_IOC_SETFLAGS has it, of the two flags that are ours. */
static unsigned wanted_flags(unsigned cmd, const void *in)
{
	struct fsxattr x;
	unsigned flags;

	if (cmd == FS_IOC_SETFLAGS) {
		memcpy(&flags, in, sizeof(flags));
		return flags & (FS_IMMUTABLE_FL | FS_APPEND_FL);
	}
	memcpy(&x, in, sizeof(x));
	return (x.fsx_xflags & FS_XFLAG_IMMUTABLE ? FS_IMMUTABLE_FL : 0) | (x.fsx_xflags & FS_XFLAG_APPEND ? FS_APPEND_FL : 0);
}

/* chattr +i on an open file is a request to lock it, +a to make it append-only; the flag itself is not set
 * below. Everything else goes to the lower file, which the kernel has checked the caller for. */
static int set_flags_locked(struct wormfs *fs, struct inode *ino, int fd, unsigned cmd, const void *in)
{
	bool is_plain = cmd == FS_IOC_SETFLAGS, sealed;
	unsigned wanted = wanted_flags(cmd, in);
	struct fsxattr x;
	unsigned flags;
	int r;

	if (is_plain)
		memcpy(&flags, in, sizeof(flags));
	else
		memcpy(&x, in, sizeof(x));
	if (S_ISREG(ino->type) && (lock_state_locked(fs, ino) != GUARD_OPEN || locks_anything_locked(fs, ino))) {
		if (wanted & FS_IMMUTABLE_FL) {
			/* lsattr shows a locked file with i: this is chattr +a. One that shows a may get i. */
			r = wanted & FS_APPEND_FL ? lock_check_locked(fs, ino, GUARD_APPEND_ONLY) : 0;
			if (r < 0)
				return r;
			r = refusal_of_request_locked(fs, ino, GUARD_COMMIT, lock_seal_locked(fs, ino, &sealed));
			if (sealed)
				lock_publish_locked(fs, ino, "chattr +i");
			return r;
		}
		r = lock_check_locked(fs, ino, GUARD_SETFLAGS);
		if (r < 0)
			return r;
	}
	return ioctl(fd, cmd, is_plain ? (void *)&flags : (void *)&x) < 0 ? -errno : 0;
}

/* chattr +a: the other flags as for any file, then the file is made append-only. */
static int set_append_only(struct wormfs *fs, struct inode *ino, int fd, unsigned cmd, const void *in, pid_t pid)
{
	struct fsxattr x, old;
	unsigned flags, old_flags;
	bool differs;
	int r = 0;

	if (cmd == FS_IOC_SETFLAGS) {
		memcpy(&flags, in, sizeof(flags));
		flags &= ~FS_APPEND_FL;
		if (ioctl(fd, FS_IOC_GETFLAGS, &old_flags) < 0)
			return -errno;
		differs = flags != (old_flags & ~FS_APPEND_FL);
	} else {
		memcpy(&x, in, sizeof(x));
		x.fsx_xflags &= ~FS_XFLAG_APPEND;
		if (ioctl(fd, FS_IOC_FSGETXATTR, &old) < 0)
			return -errno;
		differs = x.fsx_xflags != (old.fsx_xflags & ~FS_XFLAG_APPEND) || x.fsx_extsize != old.fsx_extsize ||
			  x.fsx_projid != old.fsx_projid || x.fsx_cowextsize != old.fsx_cowextsize;
	}
	if (differs) {
		pthread_mutex_lock(&ino->lock);
		r = lock_check_locked(fs, ino, GUARD_SETFLAGS);
		if (r == 0)
			r = ioctl(fd, cmd, cmd == FS_IOC_SETFLAGS ? (void *)&flags : (void *)&x) < 0 ? -errno : 0;
		pthread_mutex_unlock(&ino->lock);
	}
	return r < 0 ? r : refusal_of_request(fs, ino, GUARD_APPEND_ONLY, append_make(fs, ino, pid));
}

void op_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned int cmd, void *arg, struct fuse_file_info *fi, unsigned ioctl_flags,
	      const void *in, size_t in_len, size_t out_len)
{
	struct wormfs *fs = wormfs_for(req);
	bool get = cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_FSGETXATTR, set = cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR;
	size_t len = cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_SETFLAGS ? sizeof(unsigned) : sizeof(struct fsxattr);
	struct fsxattr out;
	struct inode *ino;
	int fd, r;

	/* Forward nothing that we do not know: an ioctl can do anything (fs-verity, swap extents, shutdown). */
	if (!(get && out_len >= len) && !(set && in_len >= len)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	ino = inode_get(fs, nodeid);
	if (!ino) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	memset(&out, 0, sizeof(out));
	fd = descriptor_open(fs, ino, O_RDONLY | O_NONBLOCK);
	if (fd >= 0 && set && S_ISREG(ino->type) && (fs->has_rules || fs->opt.commit != COMMIT_NEVER) && wanted_flags(cmd, in) == FS_APPEND_FL) {
		r = set_append_only(fs, ino, fd, cmd, in, fuse_req_ctx(req)->pid);
		close(fd);
	} else if (fd >= 0) {
		pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&ino->lock);
		r = get ? get_flags(fs, ino, fd, cmd, &out) : set_flags_locked(fs, ino, fd, cmd, in);
		pthread_mutex_unlock(&ino->lock);
		pthread_rwlock_unlock(&fs->rename_lock);
		close(fd);
	} else {
		r = fd;
	}
	if (set)
		events_note(fs, .type = EVENT_SETATTR, .result = r, .ino = ino, .detail = "chattr");
	inode_put(fs, ino);
	if (r == 0)
		fuse_reply_ioctl(req, 0, get ? &out : NULL, get ? len : 0);
	else
		fuse_reply_err(req, -r);
}
