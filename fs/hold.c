/* Orders about holds. Always true:
 *  - an order is decided in the ledger before a file is touched, and orders_placing or orders_coming says that there is
 *    something to enforce before anybody is told that it was decided;
 *  - one thread works on orders, one after the other in the order they came; who gave one only waits for it;
 *  - an order that could not be ended stays as it is, enforced, and is tried again. */
#include "fs/hold.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/actor.h"
#include "fs/descriptor.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/trail.h"
#include "fs/tree.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define BATCH 512		/* files in one transaction */
#define RETRY_S 60		/* after an order that could not be ended */
#define PROGRESS_MS 500
#define PROGRESS_FILES 4096
#define FLUSH_MS 30000

struct waiter {
	int64_t id;
	bool done;
	int r;
	struct hold_result result;
	struct waiter *next;
};

struct hold_orders {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;		/* a leaf: all below */
	pthread_cond_t wake, done;
	bool stopping, work;
	struct waiter *waiters;
	int64_t left_id;		/* orders up to here were left by an earlier daemon; constant once the thread runs */
	bool said;			/* the thread's: a whole round has said again what an earlier daemon may not have had said */
	int64_t current;		/* order that is worked on, 0: none */
	uint64_t files;			/* it has come so far */
};

/* ---- the thread ---- */

struct work {
	struct wormfs *fs;
	const struct hold_order *order;
	struct hold_result result;
	struct hold_item items[BATCH];
	size_t n;
};

static bool is_stopping(struct wormfs *fs)
{
	bool stopping;

	pthread_mutex_lock(&fs->holds->lock);
	stopping = fs->holds->stopping;
	pthread_mutex_unlock(&fs->holds->lock);
	return stopping;
}

/* Gives the batch its hold, or takes it. */
static int flush_batch(struct work *work)
{
	const struct hold_order *order = work->order;
	struct wormfs *fs = work->fs;
	int r = 0;

	if (work->n && order->state == ORDER_PLACING)
		r = lock_hold_batch(fs, work->items, work->n, order->name, order->by, order->at_s,
				    !fs->holds->said && order->id <= fs->holds->left_id);
	else if (work->n)
		r = lock_release_batch(fs, work->items, work->n, order->name);
	for (size_t i = 0; i < work->n; i++) {
		struct hold_item *item = &work->items[i];

		if (r == 0 && item->r < 0 && item->r != -ENOENT) {
			char *path = NULL;

			work->result.failed++;
			if (item->ino)
				(void)inode_path(fs, item->ino, &path);	/* only for the line below */
			if (order->state == ORDER_PLACING)
				log_error("cannot put '%s' under hold '%s': %s; it is held by the order, trying again in %d s",
					  path ? path : "?", order->name, strerror(-item->r), RETRY_S);
			else
				log_error("cannot release '%s' from hold '%s': %s; it stays held", path ? path : "?", order->name,
					  strerror(-item->r));
			free(path);
		} else if (r == 0) {
			work->result.changed += item->changed;
			work->result.unchanged += !item->changed;
			work->result.bytes += item->size_bytes;
		}
		inode_put(fs, item->ino);
	}
	pthread_mutex_lock(&fs->holds->lock);
	fs->holds->files = work->result.changed + work->result.unchanged;
	pthread_mutex_unlock(&fs->holds->lock);
	work->n = 0;
	if (r == 0 && is_stopping(fs))
		r = -ECANCELED;
	return r;
}

static int add_item(struct work *work, struct inode *ino, const struct file_key *key)
{
	struct hold_item *item = &work->items[work->n++];

	memset(item, 0, sizeof(*item));
	item->ino = ino ? inode_ref(work->fs, ino) : NULL;
	if (key)
		item->key = *key;
	return work->n == BATCH ? flush_batch(work) : 0;
}

static int could_not(void *arg, const char *path, int r)
{
	struct work *work = arg;

	work->result.failed++;
	log_error("cannot look at '%s' for hold '%s': %s, it stays as it is", path, work->order->name, strerror(-r));
	return 0;
}

/* A file that is not locked: an order for what comes locks it, with the hold, unless somebody writes to it. */
static int lock_with_hold(struct work *work, struct inode *ino, const char *path, const struct stat *st)
{
	int r;

	if (!work->order->future || st->st_size == 0)
		return 0;
	r = lock_commit(work->fs, ino, "an order for what comes");
	if (r == -EBUSY)
		work->result.waiting++;
	else if (r < 0)
		return could_not(work, path, r);
	if (r == 0) {
		work->result.changed++;
		work->result.bytes += (uint64_t)st->st_size;
	}
	return is_stopping(work->fs) ? -ECANCELED : 0;
}

static int place_on_file(void *arg, struct inode *ino, const char *path, const struct stat *st)
{
	struct work *work = arg;
	bool unlocked;

	pthread_mutex_lock(&ino->lock);
	lock_load_locked(work->fs, ino);
	unlocked = ino->phase == LOCK_NONE;
	pthread_mutex_unlock(&ino->lock);
	if (unlocked)
		return lock_with_hold(work, ino, path, st);
	return add_item(work, ino, NULL);
}

static int place_on_path(void *arg, const char *path, bool tree)
{
	struct work *work = arg;

	return tree_each_file(work->fs, path, place_on_file, could_not, work);
}

static int release_row(void *arg, const struct ledger_row *row)
{
	struct work *work = arg;
	struct inode *ino = NULL;
	struct file_key key;
	struct stat st;
	int r;

	r = inode_walk(work->fs, row->path, &ino);
	if (r == 0 && (inode_key(work->fs, ino, &key) < 0 || !file_key_equal(&key, &row->key))) {
		inode_put(work->fs, ino);
		ino = NULL;
		r = -ENOENT;
	}
	if (r < 0 && inode_by_key(work->fs, &row->key, &ino, &st) < 0) {
		ino = NULL;
		if (r != -ENOENT && r != -ENOTDIR)
			return could_not(work, row->path, r);
		/* Gone, deleted below the mount: only its name in the ledger is left. */
		trail_released_gone(work->fs, &row->key, row->path, row->rec.serial, work->order->name);
	}
	r = add_item(work, ino, &row->key);
	inode_put(work->fs, ino);
	return r;
}

static int release_file(void *arg, struct inode *ino, const char *path, const struct stat *st)
{
	return add_item(arg, ino, NULL);
}

static int release_path(void *arg, const char *path, bool tree)
{
	struct work *work = arg;
	struct ledger_filter filter = { .prefix = path, .hold = work->order->name };
	struct inode *ino;
	int r;

	/* A file by any of its names; the ledger knows one of them. */
	r = tree ? -EISDIR : inode_walk(work->fs, path, &ino);
	if (r == 0) {
		r = release_file(work, ino, path, NULL);
		inode_put(work->fs, ino);
		return r;
	}
	return ledger_each(work->fs->ledger, &filter, release_row, work);
}

static int count_future(void *arg, const struct hold_order *order)
{
	*(unsigned *)arg += order->future && order->state != ORDER_LISTED;
	return 0;
}

static int end_future(struct wormfs *fs, struct work *work)
{
	unsigned before = 0, after = 0;
	int r;

	r = ledger_orders(fs->ledger, work->order->name, count_future, &before);
	if (r == 0)
		r = ledger_order_end_future(fs->ledger, work->order->id);
	if (r == 0)
		r = ledger_orders(fs->ledger, work->order->name, count_future, &after);
	work->result.ended = after < before;
	return r;
}

static int work_on(struct wormfs *fs, const struct hold_order *order, struct hold_result *ret_result)
{
	struct work *work = calloc(1, sizeof(*work));
	int r;

	if (!work)
		return -ENOMEM;
	work->fs = fs;
	work->order = order;
	r = committer_flush(fs->committer, FLUSH_MS);	/* rows for the names to hang on */
	if (r == 0 && order->state == ORDER_RELEASING)
		r = end_future(fs, work);
	if (r == 0)
		r = hold_refresh(fs);
	if (r == 0)
		r = ledger_order_paths(fs->ledger, order->id, order->state == ORDER_PLACING ? place_on_path : release_path, work);
	if (r == 0)
		r = flush_batch(work);
	for (size_t i = 0; i < work->n; i++)
		inode_put(fs, work->items[i].ino);
	/* What could not be released stays held, by its name: releasing it again is all there is to do. */
	if (r == 0 && (work->result.failed == 0 || order->state == ORDER_RELEASING))
		r = ledger_order_done(fs->ledger, order->id, work->result.changed + work->result.unchanged, work->result.bytes);
	if (r == 0)
		r = hold_refresh(fs);
	*ret_result = work->result;
	free(work);
	return r;
}

static void answer_waiters(struct wormfs *fs, int64_t id, int r, const struct hold_result *result)
{
	pthread_mutex_lock(&fs->holds->lock);
	for (struct waiter *w = fs->holds->waiters; w; w = w->next) {
		if (w->id != id)
			continue;
		w->r = r;
		w->result = *result;
		w->done = true;
	}
	pthread_cond_broadcast(&fs->holds->done);
	pthread_mutex_unlock(&fs->holds->lock);
}

struct round {
	struct wormfs *fs;
	bool again;		/* something could not be ended */
	bool broken;		/* and was not looked at to its end */
	bool worked;
};

static int work_on_order(void *arg, const struct hold_order *order)
{
	struct hold_result result = { 0 };
	struct round *round = arg;
	struct wormfs *fs = round->fs;
	int r;

	if (order->state != ORDER_PLACING && order->state != ORDER_RELEASING)
		return 0;
	pthread_mutex_lock(&fs->holds->lock);
	fs->holds->current = order->id;
	fs->holds->files = 0;
	pthread_mutex_unlock(&fs->holds->lock);
	actor_set(order->by, (gid_t)-1, 0);	/* whoever gave it; his process may be gone */
	r = work_on(fs, order, &result);
	actor_set(geteuid(), getegid(), getpid());
	pthread_mutex_lock(&fs->holds->lock);
	fs->holds->current = 0;
	pthread_mutex_unlock(&fs->holds->lock);
	if (r == -ECANCELED)
		return r;
	if (r < 0)
		log_error("cannot %s hold '%s': %s, it is enforced as ordered, trying again in %d s",
			  order->state == ORDER_PLACING ? "place" : "release", order->name,
			  *ledger_error(fs->ledger) ? ledger_error(fs->ledger) : strerror(-r), RETRY_S);
	else if (result.failed == 0)
		log_info("hold '%s' is %s: %llu files, as uid %u ordered%s%s", order->name,
			 order->state == ORDER_PLACING ? "placed" : "released", (unsigned long long)result.changed, order->by,
			 *order->reason ? ": " : "", order->reason);
	trail_note(fs, order->state == ORDER_PLACING ? AUDIT_HOLD_ADD : AUDIT_HOLD_RELEASE, r, "order %lld done: case %s, %llu files, %llu failed",
		   (long long)order->id, order->name, (unsigned long long)result.changed, (unsigned long long)result.failed);
	round->broken |= r < 0;
	round->again |= r < 0 || (result.failed > 0 && order->state == ORDER_PLACING);
	answer_waiters(fs, order->id, r, &result);
	return 0;
}

static void *hold_thread(void *arg)
{
	struct wormfs *fs = arg;
	struct hold_orders *holds = fs->holds;
	struct round round = { .fs = fs };
	struct timespec t;

	pthread_mutex_lock(&holds->lock);
	while (!holds->stopping) {
		if (!holds->work && round.again) {
			clock_gettime(CLOCK_MONOTONIC, &t);
			t.tv_sec += RETRY_S;
			if (pthread_cond_timedwait(&holds->wake, &holds->lock, &t) != ETIMEDOUT)
				continue;
		} else if (!holds->work) {
			pthread_cond_wait(&holds->wake, &holds->lock);
			continue;
		}
		holds->work = false;
		pthread_mutex_unlock(&holds->lock);
		round.again = round.broken = false;
		if (ledger_orders(fs->ledger, NULL, work_on_order, &round) < 0)
			round.again = true;
		else if (!round.broken)
			holds->said = true;
		pthread_mutex_lock(&holds->lock);
	}
	pthread_cond_broadcast(&holds->done);
	pthread_mutex_unlock(&holds->lock);
	return NULL;
}

int hold_open(struct wormfs *fs)
{
	struct hold_orders *holds = calloc(1, sizeof(*holds));
	int r;

	if (!holds)
		return -ENOMEM;
	pthread_mutex_init(&holds->lock, NULL);
	monotonic_cond_init(&holds->wake);
	monotonic_cond_init(&holds->done);
	fs->holds = holds;
	r = ledger_orders_drop_listed(fs->ledger);
	return r < 0 ? r : hold_refresh(fs);
}

static int find_last(void *arg, const struct hold_order *order)
{
	struct hold_orders *holds = arg;

	if (order->id > holds->left_id)
		holds->left_id = order->id;
	return 0;
}

int hold_start(struct wormfs *fs)
{
	int r;

	fs->holds->work = true;		/* what an earlier daemon left undone */
	r = ledger_orders(fs->ledger, NULL, find_last, fs->holds);
	if (r < 0)
		return r;
	r = thread_start(&fs->holds->thread, "hold-orders", hold_thread, fs);
	fs->holds->started = r == 0;
	return r;
}

void hold_stop(struct wormfs *fs)
{
	if (!fs->holds)
		return;
	pthread_mutex_lock(&fs->holds->lock);
	fs->holds->stopping = true;
	pthread_cond_broadcast(&fs->holds->wake);
	pthread_cond_broadcast(&fs->holds->done);
	pthread_mutex_unlock(&fs->holds->lock);
	if (fs->holds->started)
		pthread_join(fs->holds->thread, NULL);
}

void hold_close(struct wormfs *fs)
{
	if (!fs->holds)
		return;
	pthread_cond_destroy(&fs->holds->wake);
	pthread_cond_destroy(&fs->holds->done);
	pthread_mutex_destroy(&fs->holds->lock);
	free(fs->holds);
	fs->holds = NULL;
}

/* ---- who gives an order ---- */

/* Can this file be put under a hold? The state decides, as it does for one file. */
static int check_file(struct wormfs *fs, struct inode *ino, bool future, const char **ret_what)
{
	enum guard_state state;
	int r = 0;

	pthread_mutex_lock(&ino->lock);
	state = lock_state_locked(fs, ino);
	if (state == GUARD_UNREADABLE) {
		*ret_what = "its lock record cannot be read or verified";
		r = -EIO;
	} else if (guard_verdict(state, GUARD_HOLD) < 0 && !future) {
		*ret_what = "it is not locked yet";
		r = -EINVAL;
	} else if (ino->rec && ino->rec->holds == UINT16_MAX) {
		*ret_what = "it has as many holds as a record can count";
		r = -EOVERFLOW;
	}
	pthread_mutex_unlock(&ino->lock);
	return r;
}

int hold_check_path(struct wormfs *fs, const struct hold_order *order, bool release, const char *path, bool tree,
		    const char **ret_what)
{
	struct inode *ino = NULL;
	int r;

	*ret_what = NULL;
	r = inode_walk(fs, path, &ino);
	if (r < 0) {
		*ret_what = strerror(-r);
		return r;
	}
	if (tree ? !S_ISDIR(ino->type) : !S_ISREG(ino->type)) {
		*ret_what = tree ? "it is not a directory" : "only regular files can be locked";
		r = -EINVAL;
		goto out;
	}
	if (tree)
		goto out;
	r = lock_has_hold(fs, ino, order->name);
	if (r == 0 && release) {
		*ret_what = "it is not under this hold";
		r = -ENOENT;
	}
	if (r >= 0 && !release) {
		int bad = check_file(fs, ino, order->future, ret_what);

		r = bad < 0 ? bad : r;
	}
	if (r < 0 && !*ret_what)
		*ret_what = strerror(-r);
out:
	inode_put(fs, ino);
	return r;
}

struct check {
	struct wormfs *fs;
	bool future;
	hold_failed_fn failed;
	hold_progress_fn progress;
	void *arg;
	uint64_t files, bad;
};

static int check_in_tree(void *arg, struct inode *ino, const char *path, const struct stat *st)
{
	struct check *check = arg;
	const char *what;
	int r;

	r = check_file(check->fs, ino, check->future, &what);
	if (r < 0) {
		check->bad++;
		check->failed(check->arg, path, r, what);
	}
	if (++check->files % PROGRESS_FILES == 0) {
		check->progress(check->arg, "checking", check->files);
		if (is_stopping(check->fs))
			return -ECANCELED;
	}
	return 0;
}

static int cannot_check(void *arg, const char *path, int r)
{
	struct check *check = arg;

	check->bad++;
	check->failed(check->arg, path, r, strerror(-r));
	return 0;
}

static int check_tree(void *arg, const char *path, bool tree)
{
	struct check *check = arg;

	return tree ? tree_each_file(check->fs, path, check_in_tree, cannot_check, check) : 0;
}

struct order_copy {
	int64_t id;
	char name[LEDGER_CASE_MAX_BYTES + 1], reason[LEDGER_REASON_MAX_BYTES + 1];
	bool future;
	char paths[512];	/* the first of them, for the audit log */
	uint64_t npaths;
};

static int copy_order(void *arg, const struct hold_order *order)
{
	struct order_copy *copy = arg;

	copy->id = order->id;
	copy->future = order->future;
	snprintf(copy->name, sizeof(copy->name), "%s", order->name);
	snprintf(copy->reason, sizeof(copy->reason), "%s", order->reason);
	return order->state == ORDER_LISTED ? 0 : -ENOENT;
}

static int copy_path(void *arg, const char *path, bool tree)
{
	struct order_copy *copy = arg;
	size_t len = strlen(copy->paths);

	if (len + strlen(path) + 4 < sizeof(copy->paths))
		snprintf(copy->paths + len, sizeof(copy->paths) - len, "%s%s%s", len ? " " : "", path, tree ? "/" : "");
	copy->npaths++;
	return 0;
}

/* Who decides what, and why: on disk before it is so. */
static int say_order(struct wormfs *fs, struct order_copy *copy, bool release)
{
	int r = ledger_order_paths(fs->ledger, copy->id, copy_path, copy);

	if (r < 0)
		return r;
	return trail_before(fs, release ? AUDIT_HOLD_RELEASE : AUDIT_HOLD_ADD, "order %lld: case %s, %llu paths%s: %s%s%s", (long long)copy->id,
			    copy->name, (unsigned long long)copy->npaths, copy->future ? " and what comes" : "", copy->paths,
			    *copy->reason ? "; reason: " : "", copy->reason);
}

static int wait_for_order(struct wormfs *fs, struct waiter *w, bool release, hold_progress_fn progress, void *arg)
{
	struct hold_orders *holds = fs->holds;
	struct timespec t;
	uint64_t files;
	bool current;

	pthread_mutex_lock(&holds->lock);
	holds->work = true;
	pthread_cond_signal(&holds->wake);
	while (!w->done && !holds->stopping) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_nsec += PROGRESS_MS * 1000000L;
		t.tv_sec += t.tv_nsec / 1000000000;
		t.tv_nsec %= 1000000000;
		if (pthread_cond_timedwait(&holds->done, &holds->lock, &t) != ETIMEDOUT)
			continue;
		current = holds->current == w->id;
		files = holds->files;
		pthread_mutex_unlock(&holds->lock);
		progress(arg, !current ? "waiting" : release ? "releasing" : "placing", current ? files : 0);
		pthread_mutex_lock(&holds->lock);
	}
	for (struct waiter **p = &holds->waiters; *p; p = &(*p)->next) {
		if (*p != w)
			continue;
		*p = w->next;
		break;
	}
	pthread_mutex_unlock(&holds->lock);
	return w->done ? w->r : -ECANCELED;
}

int hold_run(struct wormfs *fs, int64_t id, bool release, hold_failed_fn failed, hold_progress_fn progress, void *arg,
	     struct hold_result *ret_result)
{
	struct check check = { .fs = fs, .failed = failed, .progress = progress, .arg = arg };
	struct waiter w = { .id = id };
	struct order_copy copy = { 0 };
	int r;

	r = ledger_order_find(fs->ledger, id, copy_order, &copy);
	check.future = copy.future;
	if (r == 0 && !release)
		r = ledger_order_paths(fs->ledger, id, check_tree, &check);
	if (r == 0 && check.bad)
		r = -EINVAL;
	if (r == 0)
		r = say_order(fs, &copy, release);
	if (r < 0) {
		(void)ledger_order_drop(fs->ledger, id);	/* or the next start does */
		return r;
	}
	pthread_mutex_lock(&fs->holds->lock);
	w.next = fs->holds->waiters;
	fs->holds->waiters = &w;
	pthread_mutex_unlock(&fs->holds->lock);
	/* Enforced first, as far as anybody can see: a file that is locked or deleted from here on asks the ledger. */
	atomic_fetch_add(&fs->orders_placing, !release);
	atomic_fetch_add(&fs->orders_coming, check.future);
	r = ledger_order_decide(fs->ledger, id, release ? ORDER_RELEASING : ORDER_PLACING);
	if (r < 0) {
		(void)hold_refresh(fs);
		w.done = true;
		w.r = r;
	}
	r = wait_for_order(fs, &w, release, progress, arg);
	*ret_result = w.result;
	return r;
}
