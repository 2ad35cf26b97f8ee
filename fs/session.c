/* Features are taken where kernel and libfuse have them; what is not in use has its reason in
 * fs->*_why, for the log and the status command. */
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/ops.h"
#include "fs/state.h"
#include "fs/tier.h"

#define NOTIFY_WAIT_S 2
#define TIER_BACKGROUND 16384
#define URING_SWITCH "/sys/module/fuse/parameters/enable_uring"

#if LIBFUSE_HAS_PASSTHROUGH
static bool offers(struct fuse_conn_info *conn, uint64_t flag)
{
	return conn->capable_ext & flag;
}

static void want(struct fuse_conn_info *conn, uint64_t flag, bool on)
{
	if (on)
		fuse_set_feature_flag(conn, flag);
	else
		fuse_unset_feature_flag(conn, flag);
}
#else
static void want(struct fuse_conn_info *conn, uint64_t flag, bool on)
{
	if (!on)
		conn->want &= ~flag;
	else if (conn->capable & flag)
		conn->want |= flag;
}
#endif

static void choose_passthrough(struct wormfs *fs, struct fuse_conn_info *conn)
{
	const char *why = NULL;

	if (!fs->opt.passthrough)
		why = "switched off by -o passthrough=no";
	else if (!fs->is_root)
		why = "only root may (CAP_SYS_ADMIN)";
#if LIBFUSE_HAS_PASSTHROUGH
	else if (!offers(conn, FUSE_CAP_PASSTHROUGH))
		why = "the kernel has none (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH)";
#else
	else
		why = "this libfuse has none (3.17)";
#endif
	fs->passthrough = !why;
	snprintf(fs->passthrough_why, sizeof(fs->passthrough_why), "%s", why ? why : !fs->lower.leases ?
		 "only for locked files: the share has no leases" : "");
#if LIBFUSE_HAS_PASSTHROUGH
	if (fs->passthrough) {
		want(conn, FUSE_CAP_PASSTHROUGH, true);
		conn->max_backing_stack_depth = 1;
	}
#endif
}

void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct wormfs *fs = userdata;

	choose_passthrough(fs, conn);
#ifdef FUSE_CAP_OVER_IO_URING
	if (fs->io_uring && !offers(conn, FUSE_CAP_OVER_IO_URING)) {
		fs->io_uring = false;
		snprintf(fs->io_uring_why, sizeof(fs->io_uring_why), "the kernel does not offer it (Linux 6.14, " URING_SWITCH ")");
	}
	want(conn, FUSE_CAP_OVER_IO_URING, fs->io_uring);
#endif
	fs->splice = fs->opt.splice && !fs->io_uring;

	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, true);
	want(conn, FUSE_CAP_EXPORT_SUPPORT, true);
	want(conn, FUSE_CAP_DONT_MASK, true);		/* the umask comes with the request: default ACLs */
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, true);
	want(conn, FUSE_CAP_ASYNC_READ, true);
	/* With it nothing ends the wait for a direct read, not SIGKILL either (Linux 6.18, fs/fuse/file.c). */
	want(conn, FUSE_CAP_ASYNC_DIO, !fs->tier);
	want(conn, FUSE_CAP_IOCTL_DIR, true);
	want(conn, FUSE_CAP_CACHE_SYMLINKS, !fs->shared);
	want(conn, FUSE_CAP_POSIX_ACL, fs->is_root && !fs->tier);	/* it brings default_permissions */
	/* Without it the kernel asks for security.capability before every write, also with passthrough. */
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2, fs->is_root);
#endif
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, fs->shared);
	/* Requests by splice need a pipe of more than 1 MiB: without CAP_SYS_RESOURCE libfuse makes a new one
	 * for each, which costs more than the copy (measured: create+close 5.0 against 7.7 thousand a second). */
	want(conn, FUSE_CAP_SPLICE_READ, false);
	want(conn, FUSE_CAP_SPLICE_WRITE, fs->splice);
	want(conn, FUSE_CAP_SPLICE_MOVE, fs->splice);
	want(conn, FUSE_CAP_WRITEBACK_CACHE, false);	/* turns a refusal into a silent loss */
	/* Direct I/O is what append-only files have: a shared mapping would store past the daemon. */
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
	want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP, false);
#endif
	/* Locks (flock, fcntl) are the kernel's own, for all programs on this mount: no worker ever waits. */
	want(conn, FUSE_CAP_FLOCK_LOCKS, false);
	want(conn, FUSE_CAP_POSIX_LOCKS, false);
	conn->time_gran = 1;
	/* Readers that wait for a tape are background requests to the kernel: they shall not hold up those that do not. */
	if (fs->tier)
		conn->max_background = conn->congestion_threshold = TIER_BACKGROUND;

	log_info("serving '%s' on '%s': io_uring %s%s%s, passthrough %s%s%s, splice %s, libfuse %s%s, %s%s, %s", fs->share, fs->mountpoint,
		 fs->io_uring ? "on" : "off", *fs->io_uring_why ? ": " : "", fs->io_uring_why,
		 fs->passthrough ? "on" : "off", *fs->passthrough_why ? ": " : "", fs->passthrough_why,
		 fs->splice ? "on" : "off", fuse_pkgversion(), LIBFUSE_HAS_TMPFILE ? "" : " (no O_TMPFILE before 3.17)", fs->lower.filesystem,
		 fs->lower.xattr ? "" : " (no xattrs: locks are only in the ledger, a close waits for it)",
		 fs->shared ? "shared" : "exclusive");
	atomic_store(&fs->ready, true);
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup, .forget = op_forget, .forget_multi = op_forget_multi,
	.mknod = op_mknod, .mkdir = op_mkdir, .symlink = op_symlink, .link = op_link,
	.unlink = op_unlink, .rmdir = op_rmdir, .rename = op_rename, .readlink = op_readlink,
	.getattr = op_getattr, .setattr = op_setattr, .statfs = op_statfs, .ioctl = op_ioctl,
	.create = op_create, .open = op_open, .read = op_read, .write_buf = op_write_buf, .flush = op_flush,
	.release = op_release, .fsync = op_fsync, .fallocate = op_fallocate, .lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.opendir = op_opendir, .readdir = op_readdir, .readdirplus = op_readdirplus, .releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.getxattr = op_getxattr, .setxattr = op_setxattr, .listxattr = op_listxattr, .removexattr = op_removexattr,
#if LIBFUSE_HAS_TMPFILE
	.tmpfile = op_tmpfile,
#endif
#if LIBFUSE_HAS_STATX
	.statx = op_statx,
#endif
};

static void log_libfuse(enum fuse_log_level level, const char *format, va_list ap)
{
	char text[256];

	vsnprintf(text, sizeof(text), format, ap);
	text[strcspn(text, "\n")] = '\0';
	if (level <= FUSE_LOG_ERR)
		log_warning("libfuse: %s", text);
	else
		log_debug("libfuse: %s", text);
}

/* ---- io_uring ---- */

static void choose_io_uring(struct wormfs *fs)
{
	const char *why = NULL;
#ifdef FUSE_CAP_OVER_IO_URING
	char value = 0;
	int fd;

	if (!fs->opt.io_uring) {
		why = "switched off by -o io_uring=no";
		goto out;
	}
	if (fs->opt.push_wait_s) {
		why = "push_wait: a close that waits would hold up all requests of its CPU";
		goto out;
	}
	fd = open(URING_SWITCH, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		why = "the kernel has none (Linux 6.14)";
		goto out;
	}
	if (read(fd, &value, 1) != 1)
		value = 'N';
	close(fd);
	if (value != 'Y') {
		fd = open(URING_SWITCH, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "Y", 1) != 1)
			why = "the kernel has it switched off: echo Y > " URING_SWITCH " as root";
		if (fd >= 0)
			close(fd);
	}
out:
#else
	why = "this libfuse has none (3.18)";
#endif
	fs->io_uring = !why;
	snprintf(fs->io_uring_why, sizeof(fs->io_uring_why), "%s", why ? why : "");
}

/* ---- mount ---- */

struct mount_flags {
	bool ro, nodev, nosuid, noexec, noatime;
};

/* What the share's own mount does not allow, the mount over it does not either. */
static void choose_mount_flags(struct wormfs *fs, struct mount_flags *ret)
{
	struct statvfs st = { 0 };

	(void)fstatvfs(fs->root_fd, &st);	/* zero: everything is allowed, as the options say */
	ret->ro = fs->opt.ro || st.f_flag & ST_RDONLY;
	ret->nodev = fs->opt.dev < 0 ? !fs->is_root || st.f_flag & ST_NODEV : !fs->opt.dev;
	ret->nosuid = fs->opt.suid < 0 ? !fs->is_root || st.f_flag & ST_NOSUID : !fs->opt.suid;
	ret->noexec = fs->opt.exec < 0 ? st.f_flag & ST_NOEXEC : !fs->opt.exec;
	ret->noatime = fs->opt.noatime || st.f_flag & ST_NOATIME;
}

static int add_arg(struct fuse_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int add_arg(struct fuse_args *args, const char *format, ...)
{
	char text[4608];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	return fuse_opt_add_arg(args, "-o") == 0 && fuse_opt_add_arg(args, text) == 0 ? 0 : -ENOMEM;
}

/* Commas and backslashes of the share's path, as libfuse's option parser wants them. */
static void escape_option(const char *text, char *out, size_t len_bytes)
{
	size_t n = 0;

	for (; *text && n + 3 < len_bytes; text++) {
		if (*text == ',' || *text == '\\')
			out[n++] = '\\';
		out[n++] = *text;
	}
	out[n] = '\0';
}

static int make_args(struct wormfs *fs, struct fuse_args *args)
{
	struct mount_flags flags;
	char source[4400];
	int r;

	choose_mount_flags(fs, &flags);
	escape_option(fs->share, source, sizeof(source));
	r = fuse_opt_add_arg(args, "wormfs") == 0 ? 0 : -ENOMEM;
	if (r == 0)
		r = add_arg(args, "fsname=%s", source);
	if (r == 0)
		r = add_arg(args, "subtype=wormfs%s%s%s,%s,%s,%s%s", fs->tier ? "" : ",default_permissions", fs->opt.allow_other ? ",allow_other" : "",
			    flags.ro ? ",ro" : "", flags.nodev ? "nodev" : "dev", flags.nosuid ? "nosuid" : "suid",
			    flags.noexec ? "noexec" : "exec", flags.noatime ? ",noatime" : "");
#ifdef FUSE_CAP_OVER_IO_URING
	if (r == 0 && fs->io_uring)
		r = add_arg(args, "io_uring,io_uring_q_depth=%u", fs->opt.uring_depth);
#endif
	return r;
}

/* Held for reading by who tells the kernel something from a thread that serves no request. */
static pthread_rwlock_t notify_lock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_bool may_notify;
static bool has_ended;	/* notify_lock */

/* Nobody serves the mount yet: the kernel is not to ask for what it does not have. */
static void note_device(struct wormfs *fs)
{
	struct statx stx;

	if (statx(AT_FDCWD, fs->mountpoint, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &stx) < 0)
		log_warning("which device '%s' is cannot be found out, notices of limits name the one below: %s", fs->mountpoint, strerror(errno));
	else
		fs->mount_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
}

int session_open(struct wormfs *fs)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r;

	fuse_set_log_func(log_libfuse);
	choose_io_uring(fs);
	r = make_args(fs, &args);
	if (r == 0) {
		fs->se = fuse_session_new(&args, fs->tier ? fs->tier->operations : &operations, sizeof(operations), fs);
		r = fs->se ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	if (r < 0) {
		complain("cannot make a FUSE session: %s", strerror(-r));
		return r;
	}
	if (fuse_session_mount(fs->se, fs->mountpoint) < 0) {
		complain("cannot mount on '%s': see the line above; is /dev/fuse there, and may you mount?", fs->mountpoint);
		fuse_session_destroy(fs->se);
		fs->se = NULL;
		return -EIO;
	}
	if (fs->opt.quota)
		note_device(fs);
	pthread_rwlock_wrlock(&notify_lock);
	may_notify = true;
	pthread_rwlock_unlock(&notify_lock);
	return 0;
}

int session_loop(struct wormfs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, fs->opt.threads);
	/* Fewer, and libfuse ends a thread after a request and makes one before the next: a thread a request
	 * where four callers meet two CPUs. */
	fuse_loop_cfg_set_idle_threads(config, fs->opt.threads);
	r = fuse_session_loop_mt(fs->se, config);
	fuse_loop_cfg_destroy(config);
	return r > 0 ? 0 : r;	/* > 0: the signal that ended it */
}

void session_notify_delete(struct wormfs *fs, uint64_t parent, uint64_t child, const char *name)
{
	pthread_rwlock_rdlock(&notify_lock);
	if (may_notify)		/* -ENOENT: the kernel did not know it */
		(void)fuse_lowlevel_notify_delete(fs->se, parent, child, name, strlen(name));
	pthread_rwlock_unlock(&notify_lock);
}

void session_notify_pages(struct wormfs *fs, uint64_t nodeid)
{
	pthread_rwlock_rdlock(&notify_lock);
	if (may_notify)		/* -ENOENT: likewise */
		(void)fuse_lowlevel_notify_inval_inode(fs->se, nodeid, 0, 0);
	pthread_rwlock_unlock(&notify_lock);
}

bool session_is_ending(struct wormfs *fs)
{
	bool ending;

	pthread_rwlock_rdlock(&notify_lock);
	ending = has_ended || (may_notify && fuse_session_exited(fs->se));
	pthread_rwlock_unlock(&notify_lock);
	return ending;
}

void session_close(struct wormfs *fs)
{
	struct timespec deadline;
	bool alone;

	if (!fs->se)
		return;
	/* The unmount closes the descriptor that a notification writes to. One that the kernel lets wait for a request
	 * which nobody serves any more is ended by the unmount only. */
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += NOTIFY_WAIT_S;
	alone = pthread_rwlock_timedwrlock(&notify_lock, &deadline) == 0;
	may_notify = false;
	has_ended |= alone;	/* else its end is seen by the session itself */
	if (alone)
		pthread_rwlock_unlock(&notify_lock);
	fuse_session_unmount(fs->se);
	pthread_rwlock_wrlock(&notify_lock);
	has_ended = true;
	pthread_rwlock_unlock(&notify_lock);
	fuse_session_destroy(fs->se);
	fs->se = NULL;
}
