/* Two threads. The reader has idle priority and does nothing but read and hash: it holds no lock that anybody else waits
 * for, since who has idle priority may keep a lock for long. The keeper, with the daemon's own priority, does the rest,
 * which takes microseconds a file. It walks along the rows without a digest by their number, and begins anew at the first when it is
 * through. A file is looked at before and after it is read, under its lock: COMMITTED, and with the size, mtime and
 * ctime that it had; else the digest is thrown away, and it has its turn in the next round. */
#include "fs/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/inode.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/rule.h"
#include "fs/tier.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/sha256.h"
#include "lockstore/thread.h"

#define POLL_MS 1000		/* how often an idle share's ledger is asked for new rows */
#define STINT_MS 1000		/* of work on a share that never rests, after DIGEST_PATIENCE_MS */
#define BATCH_MS 2000		/* digests wait for their transaction no longer */

struct taken {
	struct file_key key;
	uint64_t size_bytes;
	int64_t mtime_ns;
	bool wanted;			/* else its rule says no: the row is to say so */
	uint8_t sha256[SHA256_BYTES];
};

struct digest {
	pthread_t keeper, reader;
	pthread_mutex_t lock;		/* a leaf: for `wake` and the job */
	pthread_cond_t wake;		/* the end; a job; a job is done */
	atomic_bool stopping;
	int job_fd;			/* lock; -1: none, or done */
	bool job_done;			/* lock */
	int job_result;			/* with job_done */
	uint8_t job_sha256[SHA256_BYTES];
	struct sha256_pace pace;
	atomic_ullong n_done, n_failed;
	/* The keeper's own. */
	struct wormfs *fs;
	int64_t after_id;		/* of the last row that was looked at in this round */
	bool any;			/* this page had rows */
	uint64_t failed;		/* in this round */
	unsigned long long seen_locked;	/* fs->n_locked when it was looked at last */
	int64_t quiet_since_ms, stint_until_ms;
	size_t ntaken;
	int64_t first_taken_ms;
	struct taken taken[DIGEST_BATCH];
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Until `ms` have passed or the daemon ends; true: it ends. */
static bool rest(struct digest *d, int64_t ms)
{
	int64_t until = now_ms() + ms;
	struct timespec t = { until / 1000, until % 1000 * 1000000 };

	pthread_mutex_lock(&d->lock);
	while (!atomic_load(&d->stopping) && now_ms() < until)
		pthread_cond_timedwait(&d->wake, &d->lock, &t);
	pthread_mutex_unlock(&d->lock);
	return atomic_load(&d->stopping);
}

/* Waits until nobody has locked a file for DIGEST_IDLE_MS, or patience is over. */
static void wait_for_quiet(struct digest *d)
{
	int64_t begun_ms = now_ms();
	unsigned long long locked;

	while (now_ms() >= d->stint_until_ms) {
		locked = atomic_load(&d->fs->n_locked);
		if (locked != d->seen_locked) {
			d->seen_locked = locked;
			d->quiet_since_ms = now_ms();
		}
		if (now_ms() - d->quiet_since_ms >= DIGEST_IDLE_MS)
			return;
		if (now_ms() - begun_ms >= DIGEST_PATIENCE_MS)
			d->stint_until_ms = now_ms() + STINT_MS;
		else if (rest(d, DIGEST_IDLE_MS))
			return;
	}
}

/* What was taken goes into the ledger. Lost, when that fails: the files have their turn again. */
static void write_taken(struct digest *d)
{
	unsigned done = 0;
	int r;

	if (!d->ntaken)
		return;
	r = ledger_begin(d->fs->ledger);
	for (size_t i = 0; r == 0 && i < d->ntaken; i++) {
		struct taken *t = &d->taken[i];

		done += t->wanted;
		r = ledger_digest_set(d->fs->ledger, &t->key, t->size_bytes, t->mtime_ns, t->wanted ? t->sha256 : NULL);
		if (r == -ENOENT)	/* deleted since, or its row is newer than what we read */
			r = 0;
		if (r < 0)
			ledger_rollback(d->fs->ledger);
	}
	if (r == 0)
		r = ledger_commit(d->fs->ledger);
	if (r == 0)
		atomic_fetch_add(&d->n_done, done);
	/* A ledger that cannot be written is the committer's to report. */
	d->ntaken = 0;
}

/* -EBUSY: not yet. -ESTALE: not what was locked. */
static int check(struct wormfs *fs, struct inode *ino, int fd, const struct ledger_undigested *file, struct stat *ret_st)
{
	int r = 0;

	pthread_mutex_lock(&ino->lock);
	lock_load_locked(fs, ino);
	if (ino->phase == LOCK_CLOSING)
		r = -EBUSY;
	else if (ino->phase != LOCK_COMMITTED)
		r = -ESTALE;
	else if (fstat(fd, ret_st) < 0)
		r = -errno;
	else if (file->size_bytes != (uint64_t)ret_st->st_size ||
		 file->mtime_ns != ret_st->st_mtim.tv_sec * INT64_C(1000000000) + ret_st->st_mtim.tv_nsec)
		r = ino->rec->flags & RECORD_APPEND ? -EBUSY : -ESTALE;	/* it grows: the row follows the last appender */
	pthread_mutex_unlock(&ino->lock);
	return r;
}

/* Hands the file to the reader and waits for it. -ECANCELED: the reader may be gone. */
static int read_file(struct digest *d, int fd, uint8_t ret_sha256[SHA256_BYTES])
{
	int r;

	pthread_mutex_lock(&d->lock);
	if (atomic_load(&d->stopping)) {
		pthread_mutex_unlock(&d->lock);
		return -ECANCELED;
	}
	d->job_fd = fd;
	d->job_done = false;
	pthread_cond_broadcast(&d->wake);
	while (!d->job_done)
		pthread_cond_wait(&d->wake, &d->lock);
	r = d->job_result;
	memcpy(ret_sha256, d->job_sha256, SHA256_BYTES);
	pthread_mutex_unlock(&d->lock);
	return r;
}

static int open_data(struct wormfs *fs, struct inode *ino)
{
	int fd = descriptor_open(fs, ino, O_RDONLY | O_NONBLOCK | O_NOATIME);

	return fd == -EPERM ? descriptor_open(fs, ino, O_RDONLY | O_NONBLOCK) : fd;	/* not our file: open(2) */
}

/* By the rule in its record, or the mount's when that is gone. */
static bool is_wanted(struct wormfs *fs, struct inode *ino)
{
	struct policy_settings set;
	uint16_t rule;

	pthread_mutex_lock(&ino->lock);
	lock_load_locked(fs, ino);
	rule = ino->rec ? ino->rec->rule : 0;
	pthread_mutex_unlock(&ino->lock);
	if (rule == 0)
		return true;
	rule_bounds(fs, rule, &set);
	return set.digest;
}

static int digest_one(struct digest *d, const struct ledger_undigested *file, struct inode *ino)
{
	struct wormfs *fs = d->fs;
	struct taken *taken = &d->taken[d->ntaken];
	struct stat before, after;
	int fd, r;

	fd = open_data(fs, ino);
	if (fd < 0)
		return fd;
	r = check(fs, ino, fd, file, &before);
	taken->wanted = is_wanted(fs, ino);
	if (r == 0 && taken->wanted)
		r = read_file(d, fd, taken->sha256);
	if (r == 0)
		r = check(fs, ino, fd, file, &after);
	/* Its data went while it was read, or before: the archive has the digest of what it fetched away. */
	if (r == 0 && fs->tier && fs->tier->is_offline(fs, ino))
		r = -EBUSY;
	/* An extension changes ctime, too, and nobody can tell: then it is read again. */
	if (r == 0 && (before.st_ctim.tv_sec != after.st_ctim.tv_sec || before.st_ctim.tv_nsec != after.st_ctim.tv_nsec))
		r = -EBUSY;
	close(fd);
	if (r < 0)
		return r;
	taken->key = file->key;
	taken->size_bytes = file->size_bytes;
	taken->mtime_ns = file->mtime_ns;
	if (d->ntaken++ == 0)
		d->first_taken_ms = now_ms();
	return 0;
}

static int on_file(void *arg, const struct ledger_undigested *file)
{
	struct digest *d = arg;
	struct inode *ino;
	int r;

	if (d->ntaken == DIGEST_BATCH || (d->ntaken && now_ms() - d->first_taken_ms >= BATCH_MS))
		write_taken(d);
	wait_for_quiet(d);
	if (atomic_load(&d->stopping))
		return -ECANCELED;
	d->any = true;
	d->after_id = file->id;
	r = inode_of_row(d->fs, &file->key, file->path, &ino);
	if (r == 0) {
		r = digest_one(d, file, ino);
		inode_put(d->fs, ino);
	}
	if (r < 0 && r != -EBUSY && r != -ECANCELED) {
		d->failed++;
		log_debug("no digest of '%s': %s", file->path, r == -ESTALE ? "it is not what was locked" : strerror(-r));
	}
	return 0;
}

/* Last in line for processor and disk. What the system does not permit makes it slower for others, not wrong. */
static void become_idle(void)
{
	struct sched_param param = { 0 };

	(void)sched_setscheduler(0, SCHED_IDLE, &param);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

static void *reader_thread(void *arg)
{
	struct digest *d = arg;
	int fd, r;

	become_idle();
	pthread_mutex_lock(&d->lock);
	for (;;) {
		while (d->job_fd < 0 && !atomic_load(&d->stopping))
			pthread_cond_wait(&d->wake, &d->lock);
		if (d->job_fd < 0)
			break;
		fd = d->job_fd;
		pthread_mutex_unlock(&d->lock);
		r = sha256_file(fd, SHA256_OF_DATA, &d->pace, &d->stopping, d->job_sha256, NULL);
		pthread_mutex_lock(&d->lock);
		d->job_fd = -1;
		d->job_result = r;
		d->job_done = true;
		pthread_cond_broadcast(&d->wake);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static void *keeper_thread(void *arg)
{
	struct digest *d = arg;
	int64_t round_ms = now_ms();

	d->after_id = INT64_MIN;
	d->quiet_since_ms = now_ms();
	while (!atomic_load(&d->stopping)) {
		d->any = false;
		/* An error of the ledger is said by who needs it at once; here it is tried again. */
		if (ledger_undigested_each(d->fs->ledger, d->after_id, on_file, d) < 0)
			d->any = false;
		if (d->any)
			continue;
		write_taken(d);
		if (atomic_load(&d->stopping))
			break;
		/* Through. Rows that come have higher numbers; what was left out is behind the cursor. */
		if (now_ms() - round_ms >= DIGEST_RETRY_MS) {
			atomic_store(&d->n_failed, d->failed);
			d->failed = 0;
			d->after_id = INT64_MIN;
			round_ms = now_ms();
		} else if (d->failed > atomic_load(&d->n_failed)) {
			atomic_store(&d->n_failed, d->failed);
		}
		rest(d, POLL_MS);
	}
	write_taken(d);
	return NULL;
}

static void stop(struct digest *d)
{
	pthread_mutex_lock(&d->lock);
	atomic_store(&d->stopping, true);
	pthread_cond_broadcast(&d->wake);
	pthread_mutex_unlock(&d->lock);
}

int digest_start(struct wormfs *fs)
{
	struct digest *d;
	int r;

	if (!fs->opt.digest)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->fs = fs;
	pthread_mutex_init(&d->lock, NULL);
	monotonic_cond_init(&d->wake);
	sha256_pace_init(&d->pace, (uint64_t)fs->opt.digest_rate << 20);
	fs->digest = d;
	d->job_fd = -1;
	r = thread_start(&d->reader, "digest-read", reader_thread, d);
	if (r == 0) {
		r = thread_start(&d->keeper, "digest-keep", keeper_thread, d);
		if (r == 0)
			return 0;
		stop(d);
		pthread_join(d->reader, NULL);
	}
	free(d);
	fs->digest = NULL;
	return r;
}

void digest_stop(struct wormfs *fs)
{
	struct digest *d = fs->digest;

	if (!d)
		return;
	stop(d);
	pthread_join(d->keeper, NULL);
	pthread_join(d->reader, NULL);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	sha256_pace_fini(&d->pace);
	free(d);
	fs->digest = NULL;
}

json_t *digest_json(struct wormfs *fs)
{
	struct digest *d = fs->digest;
	uint64_t pending = 0;

	if (ledger_undigested_count(fs->ledger, &pending) < 0)
		pending = 0;	/* the ledger's state is beside this, and says it */
	return json_pack("{s:b, s:I, s:I, s:I}", "enabled", fs->opt.digest, "pending", (json_int_t)pending,
			 "done", (json_int_t)(d ? atomic_load(&d->n_done) : 0),
			 "failed", (json_int_t)(d ? atomic_load(&d->n_failed) : 0));
}
