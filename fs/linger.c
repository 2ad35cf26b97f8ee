/* One thread, woken by its condition or by the clock. The list of lingering files is its own; it locks
 * an inode only without holding the list. */
#include "fs/linger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/descriptor.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/rule.h"
#include "fs/timekeeper.h"
#include "fs/trail.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define SWEEP_MS 1000
#define SWEEP_BATCH 256

struct lingering {
	struct inode *ino;		/* counted */
	int64_t due_ms;
	unsigned wait_ms;
	struct lingering *next;
};

struct linger {
	pthread_t thread;
	pthread_mutex_t lock;		/* a leaf: the list and `stopping` */
	pthread_cond_t wake;
	struct lingering *list;
	bool stopping;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

void linger_add_locked(struct wormfs *fs, struct inode *ino)
{
	struct lingering *l = calloc(1, sizeof(*l));

	if (!l) {
		/* It stays CLOSING: refused to everybody, and found again at the next start. */
		ino->lingering = false;
		return;
	}
	l->ino = inode_ref(fs, ino);
	l->wait_ms = LINGER_MIN_MS;
	l->due_ms = now_ms() + LINGER_MIN_MS;
	pthread_mutex_lock(&fs->linger->lock);
	l->next = fs->linger->list;
	fs->linger->list = l;
	if (!l->next)	/* else it wakes for an older one, and finds this */
		pthread_cond_signal(&fs->linger->wake);
	pthread_mutex_unlock(&fs->linger->lock);
}

/* True: done with it. */
static bool probe_one(struct wormfs *fs, struct lingering *l)
{
	struct inode *ino = l->ino;
	bool done;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&ino->lock);
	done = (ino->phase != LOCK_CLOSING && !ino->mapped) || (ino->nwriters == 0 && lock_settle_locked(fs, ino) == 0);
	if (done)
		ino->lingering = false;
	pthread_mutex_unlock(&ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	return done;
}

static struct lingering *take_due(struct linger *linger, int64_t now)
{
	for (struct lingering **p = &linger->list; *p; p = &(*p)->next) {
		struct lingering *l = *p;

		if (l->due_ms > now)
			continue;
		*p = l->next;
		return l;
	}
	return NULL;
}

static void probe_due(struct wormfs *fs)
{
	struct linger *linger = fs->linger;
	int64_t now = now_ms();
	struct lingering *l;

	for (;;) {
		pthread_mutex_lock(&linger->lock);
		l = linger->stopping ? NULL : take_due(linger, now);
		pthread_mutex_unlock(&linger->lock);
		if (!l)
			return;
		if (probe_one(fs, l)) {
			inode_put(fs, l->ino);
			free(l);
			continue;
		}
		l->wait_ms = l->wait_ms * 2 > LINGER_MAX_MS ? LINGER_MAX_MS : l->wait_ms * 2;
		l->due_ms = now_ms() + l->wait_ms;
		pthread_mutex_lock(&linger->lock);
		l->next = linger->list;
		linger->list = l;
		pthread_mutex_unlock(&linger->lock);
	}
}

/* ---- files that were written and not locked ---- */

/* Seconds since the file was last changed, or -1 when it is gone or is another one. */
static int64_t idle_s(struct wormfs *fs, const struct ledger_pending *pending, struct inode **ret_ino, struct stat *ret_st)
{
	struct file_key key;
	struct inode *ino;
	int64_t btime_ns, now_s = clock_source_file_now_s(fs->clock);
	int fd, r;

	r = inode_walk(fs, pending->path, &ino);
	if (r == 0 && (inode_key(fs, ino, &key) < 0 || !file_key_equal(&key, &pending->key))) {
		inode_put(fs, ino);
		r = -ENOENT;
	}
	/* Renamed since, or a directory above it: the file itself is what counts. */
	if (r < 0 && inode_by_key(fs, &pending->key, &ino, ret_st) < 0)
		return -1;
	fd = descriptor_get(fs, ino);
	r = fd < 0 ? fd : inode_stat(fd, "", ret_st, &btime_ns);
	if (fd >= 0)
		descriptor_put(fs, ino, fd);
	if (r < 0 || ret_st->st_nlink == 0) {
		inode_put(fs, ino);
		return -1;
	}
	*ret_ino = ino;
	/* ctime: programs set mtime back (cp -p, rsync). A time in the future counts as now. */
	return now_s > ret_st->st_ctim.tv_sec ? now_s - ret_st->st_ctim.tv_sec : 0;
}

/* How long it must have been idle by the rule that it has today; 0: that rule does not lock it by itself any more. */
static uint32_t wanted_idle_s(struct wormfs *fs, struct inode *ino, const struct stat *st, enum ledger_pending_reason reason)
{
	const struct policy_rule *rule;
	enum commit_trigger commit;
	uint32_t wanted_s;

	pthread_mutex_lock(&ino->lock);
	rule = rule_or_mount_locked(fs, ino, st);
	commit = rule->set.commit;
	wanted_s = reason == PENDING_IDLE && commit == COMMIT_IDLE ? rule->set.idle_s : fs->opt.staging_idle_s;
	if (commit != COMMIT_CLOSE && commit != COMMIT_IDLE) {
		wanted_s = 0;
		ino->idle_due_s = 0;
	}
	rule_forget_if_idle_locked(ino);
	pthread_mutex_unlock(&ino->lock);
	return wanted_s;
}

static int sweep_one(void *arg, const struct ledger_pending *pending)
{
	struct wormfs *fs = arg;
	struct inode *ino = NULL;
	uint32_t wanted_s = 0;
	struct stat st;
	int64_t idle;
	int r;

	idle = idle_s(fs, pending, &ino, &st);
	if (idle >= 0)
		wanted_s = wanted_idle_s(fs, ino, &st, pending->reason);
	if (idle >= 0 && wanted_s == 0) {
		log_info("'%s' waited to be locked, and its rule says otherwise now: it stays unlocked", pending->path);
		r = 0;
	} else if (idle < 0 || st.st_size == 0) {
		r = 0;
	} else if (idle < wanted_s) {
		struct ledger_pending later = *pending;

		later.due_s = pending->due_s + (wanted_s - idle);
		inode_put(fs, ino);
		return committer_pending_put(fs->committer, &later, JOURNAL_NO_SLOT);
	} else {
		r = lock_commit(fs, ino, "idle");	/* the committer takes it off the list with the row */
		if (r == 0)
			log_info("'%s' was idle for %lld s and is locked now", pending->path, (long long)idle);
	}
	inode_put(fs, ino);
	if (r == -EBUSY) {	/* being written: its last close puts it on the list again, or locks it */
		struct ledger_pending later = *pending;

		later.due_s = clock_source_now_s(fs->clock) + wanted_s;
		return committer_pending_put(fs->committer, &later, JOURNAL_NO_SLOT);
	}
	if (r < 0) {
		struct ledger_pending later = *pending;

		log_error("cannot lock '%s', which was idle for %lld s: %s, retrying in %u s", pending->path,
			  (long long)idle, strerror(-r), wanted_s);
		later.due_s = clock_source_now_s(fs->clock) + wanted_s;
		return committer_pending_put(fs->committer, &later, JOURNAL_NO_SLOT);
	}
	return committer_pending_remove(fs->committer, &pending->key);
}

static void sweep(struct wormfs *fs)
{
	if (!fs->has_rules && fs->opt.commit != COMMIT_CLOSE && fs->opt.commit != COMMIT_IDLE)
		return;
	/* Errors of the ledger are said by the committer; the next second tries again. */
	(void)ledger_pending_each(fs->ledger, clock_source_now_s(fs->clock), SWEEP_BATCH, sweep_one, fs);
}

static void *linger_thread(void *arg)
{
	struct wormfs *fs = arg;
	struct linger *linger = fs->linger;
	int64_t sweep_at = now_ms() + SWEEP_MS;
	bool stopping = false;

	while (!stopping) {
		int64_t until = sweep_at;
		struct timespec t;

		pthread_mutex_lock(&linger->lock);
		for (struct lingering *l = linger->list; l; l = l->next)
			if (l->due_ms < until)
				until = l->due_ms;
		t = (struct timespec){ until / 1000, until % 1000 * 1000000 };
		if (!linger->stopping && until > now_ms())
			pthread_cond_timedwait(&linger->wake, &linger->lock, &t);
		stopping = linger->stopping;
		pthread_mutex_unlock(&linger->lock);
		if (stopping)
			break;
		probe_due(fs);
		if (now_ms() >= sweep_at) {
			sweep(fs);
			trail_tick(fs);
			timekeeper_tick(fs);
			sweep_at = now_ms() + SWEEP_MS;
		}
	}
	return NULL;
}

int linger_start(struct wormfs *fs)
{
	struct linger *linger = calloc(1, sizeof(*linger));
	int r;

	if (!linger)
		return -ENOMEM;
	pthread_mutex_init(&linger->lock, NULL);
	monotonic_cond_init(&linger->wake);
	fs->linger = linger;
	r = thread_start(&linger->thread, "linger", linger_thread, fs);
	if (r < 0) {
		free(linger);
		fs->linger = NULL;
	}
	return r;
}

void linger_stop(struct wormfs *fs)
{
	struct linger *linger = fs->linger;

	if (!linger)
		return;
	pthread_mutex_lock(&linger->lock);
	linger->stopping = true;
	pthread_cond_signal(&linger->wake);
	pthread_mutex_unlock(&linger->lock);
	pthread_join(linger->thread, NULL);
	while (linger->list) {
		struct lingering *l = linger->list;

		linger->list = l->next;
		pthread_rwlock_rdlock(&fs->rename_lock);
		pthread_mutex_lock(&l->ino->lock);
		lock_give_up_settling_locked(fs, l->ino);
		pthread_mutex_unlock(&l->ino->lock);
		pthread_rwlock_unlock(&fs->rename_lock);
		inode_put(fs, l->ino);
		free(l);
	}
	pthread_cond_destroy(&linger->wake);
	pthread_mutex_destroy(&linger->lock);
	free(linger);
	fs->linger = NULL;
}
