/* From parsed options to a served mount, and back. */
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/control.h"
#include "fs/credentials.h"
#include "fs/descriptor.h"
#include "fs/digest.h"
#include "fs/events.h"
#include "fs/hold.h"
#include "fs/inode.h"
#include "fs/linger.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/lower_probe.h"
#include "fs/privilege.h"
#include "fs/push.h"
#include "fs/quota_limit.h"
#include "fs/quota_listener.h"
#include "fs/quota_provider.h"
#include "fs/rule.h"
#include "fs/session.h"
#include "fs/shortage.h"
#include "lockstore/staging.h"
#include "fs/state.h"
#include "fs/tier.h"
#include "fs/timekeeper.h"
#include "fs/trail.h"
#include "lockstore/leaf_mutex.h"
#include "lockstore/reindex.h"
#include "lockstore/thread.h"

#define EXCLUSIVE_TIMEOUT_S 86400	/* nobody else changes the share: as passthrough_hp of libfuse */
#define SHARED_TIMEOUT_S 1		/* the default of NFS and of libfuse's high-level interface */

/* ---- background ---- */

/* The parent waits until the child serves, and leaves with its exit status. Before any thread, any lock. */
static int go_to_background(int *ret_ready_fd)
{
	int fds[2], status;
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(fds[0]);
		*ret_ready_fd = fds[1];
		return setsid() < 0 ? -errno : 0;
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) == 1)
		_exit(0);
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	_exit(EXIT_COULD_NOT);
}

static void tell_parent(int ready_fd)
{
	int null;

	if (ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		close(null);
	}
	if (chdir("/") < 0 || write(ready_fd, "", 1) != 1)
		log_warning("cannot tell the parent process that the mount is there: %s", strerror(errno));
	close(ready_fd);
}

/* ---- the share and its mount point ---- */

static bool is_our_mount(const char *path)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	bool ours = false;

	while (f && (m = getmntent(f)))
		if (strcmp(m->mnt_dir, path) == 0)
			ours = strcmp(m->mnt_type, "fuse.wormfs") == 0;	/* the last one is on top */
	if (f)
		endmntent(f);
	return ours;
}

/* Asked by statfs(2), which always goes to the daemon: attributes the kernel may know. ECONNABORTED: it is about to be dead, its
 * last descriptors are being closed. */
static bool is_dead_mount(const char *path)
{
	struct statfs st;

	return statfs(path, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* What a killed daemon left over the directory is in the way of its successor. */
static void clear_dead_mount(const char *path)
{
	char cwd[PATH_MAX], *full;

	if (!is_dead_mount(path) || !getcwd(cwd, sizeof(cwd)))
		return;
	if (asprintf(&full, "%s%s%s", *path == '/' ? "" : cwd, *path == '/' ? "" : "/", path) < 0)
		return;
	for (size_t n = strlen(full); n > 1 && full[n - 1] == '/'; n--)
		full[n - 1] = '\0';
	if (is_our_mount(full) && umount2(full, MNT_DETACH) == 0)
		fprintf(stderr, "%s: info: '%s' was the mount of a daemon that is gone: unmounted\n", log_program, path);
	free(full);
}

static int resolve_directory(const char *given, const char *what, char **ret_path)
{
	char *path;
	struct stat st;

	clear_dead_mount(given);	/* what it could not clear the next lines complain about */
	path = realpath(given, NULL);
	if (is_dead_mount(given)) {
		free(path);
		complain("%s '%s' is the mount of a daemon that is gone: run 'umount %s' first", what, given, given);
		return -ENOTCONN;
	}
	if (!path || stat(path, &st) < 0) {
		int r = -errno;

		complain("%s '%s': %s; make the directory first", what, given, strerror(-r));
		free(path);
		return r;
	}
	if (!S_ISDIR(st.st_mode)) {
		complain("%s '%s' is not a directory", what, given);
		free(path);
		return -ENOTDIR;
	}
	*ret_path = path;
	return 0;
}

static int open_share(struct wormfs *fs)
{
	struct stat st;
	size_t n;
	int r;

	r = resolve_directory(fs->opt.share, "share", &fs->share);
	if (r == 0)
		r = resolve_directory(fs->opt.mountpoint ? fs->opt.mountpoint : fs->opt.share, "mount point", &fs->mountpoint);
	if (r < 0)
		return r;
	if (is_our_mount(fs->mountpoint)) {
		complain("a wormfs is mounted on '%s' already: unmount it first, or choose another mount point", fs->mountpoint);
		return -EBUSY;
	}
	if (is_our_mount(fs->share)) {
		complain("'%s' is a wormfs mount itself: give the directory below it", fs->share);
		return -EBUSY;
	}
	n = strlen(fs->share);
	if (strcmp(fs->share, fs->mountpoint) != 0 && strncmp(fs->mountpoint, fs->share, n) == 0 && fs->mountpoint[n] == '/') {
		complain("mount point '%s' lies inside the share '%s': mount over the share itself, or elsewhere", fs->mountpoint, fs->share);
		return -EINVAL;
	}
	fs->root_fd = open(fs->share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs->root_fd < 0 || fstat(fs->root_fd, &st) < 0) {
		r = -errno;
		complain("cannot open the share '%s': %s", fs->share, strerror(-r));
		return r;
	}
	fs->root_dev = fs->mount_dev = st.st_dev;
	fs->shared = fs->opt.shared == 1 || (fs->opt.shared < 0 && strcmp(fs->share, fs->mountpoint) != 0);
	fs->timeout_s = fs->shared ? SHARED_TIMEOUT_S : EXCLUSIVE_TIMEOUT_S;
	return 0;
}

/* Reading shall not change access times: a private view of the same mount, where the kernel has one. */
static int without_atime(struct wormfs *fs)
{
#ifdef OPEN_TREE_CLONE
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOATIME, .attr_clr = MOUNT_ATTR__ATIME };
	int fd, root_fd;

	if (!fs->opt.noatime)
		return 0;
	fd = open_tree(fs->root_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		complain("cannot honour noatime on '%s': %s", fs->share, strerror(errno));
		return -errno;
	}
	root_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(fd);
	if (root_fd < 0)
		return -errno;
	close(fs->root_fd);
	fs->root_fd = root_fd;
#endif
	return 0;
}

/* As many descriptors as there may be; then no more than half of them for the cache. */
static void raise_limits(struct wormfs *fs)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);		/* then it stays as it was */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && fs->opt.descriptors > limit.rlim_cur / 2)
		fs->opt.descriptors = limit.rlim_cur / 2;
}

static int remount(const struct options *opt)
{
	const char *target = opt->mountpoint ? opt->mountpoint : opt->share;
	unsigned long flags = MS_REMOUNT | (opt->ro ? MS_RDONLY : 0) | (opt->dev == 0 ? MS_NODEV : 0) |
			      (opt->suid == 0 ? MS_NOSUID : 0) | (opt->exec == 0 ? MS_NOEXEC : 0) | (opt->noatime ? MS_NOATIME : 0);

	if (mount("none", target, "fuse.wormfs", flags, NULL) < 0) {
		complain("cannot remount '%s': %s", target, strerror(errno));
		return EXIT_COULD_NOT;
	}
	return 0;
}

/* ---- life ---- */

static int open_all(struct wormfs *fs)
{
	int r;

	fs->is_root = geteuid() == 0;
	fs->ns = fs->opt.xattr_ns >= 0 ? (enum lower_namespace)fs->opt.xattr_ns : fs->is_root ? LOWER_TRUSTED : LOWER_USER;
	if (!fs->is_root && !fs->opt.allow_other_given)
		fs->opt.allow_other = false;
	r = open_share(fs);
	if (r < 0)
		return r;
	r = lower_probe(fs);
	if (r < 0) {
		complain("cannot use '%s' as a share: %s", fs->share, strerror(-r));
		return r;
	}
	if (fs->opt.atime_api && !fs->lower.xattr) {
		complain("atime_api=on needs a share with xattrs, which '%s' is not: leave it out", fs->share);
		return -EOPNOTSUPP;
	}
	r = staging_open(fs->opt.staging, &fs->staging);
	if (r == 0)
		r = rule_open(fs);
	if (r == 0)
		r = quota_limit_read(fs);
	if (r == 0)
		r = push_open(fs);
	if (r == 0)
		r = state_open(fs);
	if (r == 0)
		r = without_atime(fs);
	if (r == 0)
		r = credentials_init(fs);
	raise_limits(fs);
	if (r == 0)
		r = descriptor_cache_open(fs, fs->opt.descriptors);
	if (r == 0)
		r = inode_table_open(fs);
	return r;
}

static int start_threads(struct wormfs *fs)
{
	int r;

	r = rule_start(fs);
	if (r == 0)
		r = privilege_open(fs);
	if (r == 0)
		r = hold_open(fs);
	if (r == 0)
		r = committer_start(fs->ledger, fs->journal, &fs->committer);
	if (r == 0)
		r = events_open(fs);
	if (r == 0)
		r = quota_provider_open(fs);
	if (r == 0)
		r = shortage_open(fs);
	if (r == 0)
		r = quota_listener_open(fs);
	if (r == 0)
		r = trail_open(fs);
	if (r == 0)
		r = quota_limit_open(fs);
	if (r == 0)
		r = linger_start(fs);
	if (r == 0)
		r = lock_recover(fs);
	if (r == 0)
		r = hold_start(fs);
	if (r == 0)
		r = digest_start(fs);
	if (r == 0)
		r = push_start(fs);
	if (r == 0)
		r = control_start(fs);
	return r;
}

static atomic_bool stopping;	/* the mount has ended */

static int stop_reindex(void *arg, const struct reindex_stats *so_far)
{
	return atomic_load(&stopping);
}

static void *reindex_thread(void *arg)
{
	struct reindex_stats stats;
	struct wormfs *fs = arg;
	int r;

	log_info("the ledger may lack locks (new, or the machine went down while mounted): rebuilding it from the files");
	r = state_reindex(fs, stop_reindex, NULL, &stats);
	if (r == -ECANCELED)
		return NULL;	/* needed still: the next mount goes on */
	if (r < 0)
		log_warning("cannot rebuild the ledger: %s, locks hold by the files' own records; run wormctl reindex", strerror(-r));
	else
		log_info("the ledger is complete: %llu locked files, %llu of them new to it, %llu records that do not verify",
			 (unsigned long long)stats.locked, (unsigned long long)stats.added, (unsigned long long)stats.bad);
	return NULL;
}

static int serve(struct wormfs *fs, int ready_fd)
{
	pthread_t reindexer;
	bool reindexing;
	int r;

	r = start_threads(fs);
	if (r == 0 && fs->tier)
		r = fs->tier->start(fs);
	if (r < 0)
		return r;
	r = session_open(fs);
	if (r < 0)
		return r;
	if (fuse_set_signal_handlers(fs->se) < 0)
		return -EINVAL;
	log_init(!fs->opt.foreground, fs->opt.debug);
	fs->state_made = 0;	/* it is a share now */
	trail_mounted(fs);
	timekeeper_mounted(fs);
	if (fs->tier)
		fs->tier->mounted(fs);
	tell_parent(ready_fd);
	reindexing = state_needs_reindex(fs) && thread_start(&reindexer, "reindex", reindex_thread, fs) == 0;
	r = session_loop(fs);
	atomic_store(&stopping, true);
	if (reindexing)
		pthread_join(reindexer, NULL);
	fuse_remove_signal_handlers(fs->se);
	if (fs->tier)
		fs->tier->stop(fs);
	session_close(fs);
	return r;
}

static void close_all(struct wormfs *fs, bool clean)
{
	struct committer_status status = { .error = -EIO };

	if (fs->tier)
		fs->tier->stop(fs);
	hold_stop(fs);
	control_stop(fs);
	rule_stop(fs);
	hold_close(fs);
	digest_stop(fs);
	push_stop(fs);
	linger_stop(fs);
	quota_limit_close(fs, clean);
	if (fs->state_made) {
		quota_listener_close(fs);
		shortage_close(fs);
		quota_provider_close(fs);
		trail_close(fs, false);
		events_close(fs);
		state_undo(fs);
	}
	/* The share first: who waits to unmount it does not care for our database. */
	if (fs->descriptors && fs->inodes) {
		descriptor_cache_close(fs);
		inode_table_close(fs);
	}
	if (fs->root_fd >= 0)
		close(fs->root_fd);
	if (fs->committer) {
		(void)committer_flush(fs->committer, 10000);	/* what is left is in the journal */
		committer_status(fs->committer, &status);
		committer_stop(fs->committer);
	}
	quota_listener_close(fs);
	shortage_close(fs);
	quota_provider_close(fs);
	trail_close(fs, clean);
	events_close(fs);
	state_close(fs, clean && status.error == 0 && status.dropped == 0);
	push_close(fs);
	rule_close(fs);
	staging_close(fs->staging);
	pthread_rwlock_destroy(&fs->rename_lock);
	pthread_mutex_destroy(&fs->names_lock);
	pthread_mutex_destroy(&fs->serial_lock);
	pthread_mutex_destroy(&fs->hold_lock);
	free(fs->share);
	free(fs->mountpoint);
	free(fs->state_dir);
}

int daemon_run(struct wormfs *fs)
{
	pthread_rwlockattr_t attr;
	int ready_fd = -1, r;
	sigset_t hup;

	if (fs->opt.remount) {
		r = remount(&fs->opt);
		options_fini(&fs->opt);
		return r;
	}
	log_init(false, fs->opt.debug);
	if (!fs->opt.foreground) {
		r = go_to_background(&ready_fd);
		if (r < 0) {
			complain("cannot go to the background: %s", strerror(-r));
			return EXIT_COULD_NOT;
		}
	}
	fs->root_fd = -1;
	atomic_store(&fs->pin_epoch, 1);
	leaf_mutex_init(&fs->names_lock);
	pthread_mutex_init(&fs->serial_lock, NULL);
	pthread_mutex_init(&fs->hold_lock, NULL);
	pthread_rwlockattr_init(&attr);
	/* A rename of a directory must come to its turn however many files are closed. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&fs->rename_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	mallopt(M_TOP_PAD, 1 << 20);	/* arenas grow by this, not by a page: a system call less here and there */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN);		/* a lease that is broken while we probe: see lock.c */

	if (fs->opt.rules) {	/* in all threads, for the one that waits for it: rule.c */
		sigemptyset(&hup);
		sigaddset(&hup, SIGHUP);
		pthread_sigmask(SIG_BLOCK, &hup, NULL);
	}

	r = open_all(fs);
	if (r == 0)
		r = serve(fs, ready_fd);
	close_all(fs, r == 0);
	options_fini(&fs->opt);
	return r < 0 ? EXIT_COULD_NOT : 0;
}
