/* The keeper: the thread between the ledger and the engine.
 *
 * A sweep walks along the rows that wait and are due, page by page; when it is through it begins anew. A row whose job is out is
 * known by the table of ids, which is as small as what may be out. Jobs that the engine did not give back (the end) are found by
 * the next start, as they are after a kill. */
#include "lockstore/upstream/pusher_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/leaf_mutex.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define POLL_MS 200		/* how often the ledger is asked for what came */
#define BATCH_MS 20		/* results wait so long for company: a transaction costs an fsync */
#define BATCH_MIN 256		/* and no longer than for so many */
#define WAITED_MS 2		/* while somebody waits in close(2) */
#define BUCKETS 4096
#define FIRST_PAUSE_MS 500
#define BUSY_PAUSE_MS 500	/* of a file that is still being closed */
#define FAILED_LOG_MS 60000
#define LEDGER_PAUSE_MS 1000	/* first pause after the ledger could not be written, doubled up to retry_ms: what came of a request
				 * is lost then, and asking again at once would hammer the cluster */
#define STEPPED_BACK_MS 60000	/* the system's date was set back by more than this */
#define UNKNOWN_PATH "(path unknown"

struct keeper {
	struct pusher *pusher;
	struct job *table[BUCKETS];
	unsigned outstanding;
	struct ledger_push_cursor cursor;
	/* A page. */
	unsigned room, nfiles;
	int64_t now_ms;			/* wall */
	struct pusher_file *files;	/* with rows and jobs beside them */
	struct ledger_push_row *rows;
	struct job **jobs;
	int64_t ledger_until_ms;	/* monotonic: nothing goes out before */
	unsigned ledger_pauses;
	int64_t failed_said_ms;		/* monotonic */
	uint64_t failed_unsaid;
};

int64_t pusher_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static int64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

void pusher_log(struct pusher *p, enum pusher_level level, const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	p->config.ops->log(p->config.arg, level, line);
}

/* ---- jobs ---- */

static struct job **bucket(struct keeper *k, int64_t id)
{
	return &k->table[(uint64_t)id % BUCKETS];
}

static bool is_out(struct keeper *k, int64_t id)
{
	for (struct job *job = *bucket(k, id); job; job = job->next_same)
		if (job->id == id)
			return true;
	return false;
}

static void free_job(struct job *job)
{
	if (!job)
		return;
	free(job->path);
	free(job->ref);
	free(job);
}

static void retire(struct keeper *k, struct job *job)
{
	struct job **p = bucket(k, job->id);

	while (*p != job)
		p = &(*p)->next_same;
	*p = job->next_same;
	k->outstanding--;
	free_job(job);
}

static int make_job(struct keeper *k, const struct ledger_push_row *row, const struct push_plan *plan, struct job **ret_job)
{
	struct job *job = calloc(1, sizeof(*job));
	int r;

	if (!job)
		return -ENOMEM;
	job->id = row->id;
	job->key = row->key;
	job->plan = *plan;
	job->tries = row->tries;
	job->was_failed = row->state >= LEDGER_PUSH_FAILED;
	/* A request whose answer was lost, or a ledger that was, or an end that the ledger does not know any more: look before you send. */
	job->step = row->push == LEDGER_PUSH_ASK || row->state == LEDGER_PUSH_SETTLED ||
		    (row->tries && (row->status == 0 || row->status >= 500 || row->status / 100 == 2)) ? JOB_LOOK_FIRST : JOB_SEND;
	job->path = strdup(row->path);
	r = job->path ? endpoint_ref(k->pusher->root, row->path, &job->ref) : -ENOMEM;
	if (r < 0)
		free_job(job);
	else
		*ret_job = job;
	return r;
}

/* ---- from the ledger to the engine ---- */

static bool is_waited_for(struct pusher *p, const struct file_key *key)
{
	bool found = false;

	pthread_mutex_lock(&p->lock);
	for (struct waiter *w = p->waiters; w && !found; w = w->next)
		found = !w->done && file_key_equal(&w->key, key);
	pthread_mutex_unlock(&p->lock);
	return found;
}

static int copy_row(const struct ledger_push_row *row, struct ledger_push_row *ret)
{
	*ret = *row;
	ret->class = ret->error = NULL;
	ret->path = strdup(row->path);
	return ret->path ? 0 : -ENOMEM;
}

/* Notes a row of the page; what is to become of it is decided after the page, in one transaction. */
static int on_row(void *arg, const struct ledger_push_row *row)
{
	struct keeper *k = arg;
	int r;

	if (is_out(k, row->id))
		return 0;
	if (k->nfiles == k->room) {
		/* It comes again: the next page begins with it. */
		k->cursor = (struct ledger_push_cursor){ row->due_ms, row->id - 1 };
		return -ECANCELED;
	}
	r = copy_row(row, &k->rows[k->nfiles]);
	if (r < 0)
		return r;
	k->files[k->nfiles] = (struct pusher_file){ .row = &k->rows[k->nfiles], .waited_for = is_waited_for(k->pusher, &row->key) };
	k->nfiles++;
	return 0;
}

static int cannot_be_named(struct keeper *k, const struct ledger_push_row *row, const char *why)
{
	return ledger_push_failed(k->pusher->ledger, &row->key, LEDGER_PUSH_FAILED,
				  k->now_ms + (int64_t)k->pusher->retry_ms * PUSHER_REFUSED_FACTOR, row->tries + 1, 0, NULL, why);
}

/* What the row wants, decided and written down: 1: there is something to send. */
static int decide(struct keeper *k, const struct ledger_push_row *row, struct push_plan *plan)
{
	struct pusher *p = k->pusher;
	int r = 0;

	if (row->push == LEDGER_PUSH_ASK && !p->config.ops->wanted(p->config.arg, row))
		return ledger_push_unwanted(p->ledger, &row->key);
	push_plan_make(row, &p->config.undated, p->config.ops->now_s(p->config.arg), plan);
	if (plan->settle)
		r = ledger_push_settle(p->ledger, &row->key, row->until_s, plan->settle);
	if (r < 0)
		return r;
	if (push_plan_is_empty(plan))
		return plan->settle && !plan->result.keep_hold ? 0 : ledger_push_done(p->ledger, &row->key, &plan->result);
	if (strncmp(row->path, UNKNOWN_PATH, strlen(UNKNOWN_PATH)) == 0)
		return cannot_be_named(k, row, "its path is not known: run wormctl reindex, then wormctl push retry");
	if (plan->set.hold && row->pushed_hold == LEDGER_HOLD_NOT_PUSHED)
		r = ledger_push_sending_hold(p->ledger, &row->key);
	return r < 0 ? r : 1;
}

static int not_prepared(struct keeper *k, const struct pusher_file *file)
{
	const struct ledger_push_row *row = file->row;
	unsigned max_ms = k->pusher->retry_ms;

	if (file->r == -EBUSY)
		return ledger_push_failed(k->pusher->ledger, &row->key, LEDGER_PUSH_PENDING,
					  k->now_ms + (file->wait_ms ? file->wait_ms : BUSY_PAUSE_MS), row->tries, row->status, NULL,
					  file->wait_ms ? "it settles" : "it is still being closed");
	return ledger_push_failed(k->pusher->ledger, &row->key, LEDGER_PUSH_PENDING,
				  k->now_ms + breaker_pause_ms(FIRST_PAUSE_MS, max_ms, row->tries), row->tries + 1, row->status, NULL,
				  file->r == -ESTALE || file->r == -ENOENT ? "the file is gone" : "its data cannot be synced");
}

/* Plans, and what has to be durable before a request goes out, in one transaction. */
static int decide_page(struct keeper *k)
{
	struct pusher *p = k->pusher;
	struct push_plan plan;
	int r;

	p->config.ops->prepare(p->config.arg, k->files, k->nfiles);
	r = ledger_begin(p->ledger);
	if (r < 0)
		return r;
	for (unsigned i = 0; r == 0 && i < k->nfiles; i++) {
		if (k->files[i].r < 0) {
			r = not_prepared(k, &k->files[i]);
			continue;
		}
		r = decide(k, k->files[i].row, &plan);
		if (r == 1) {
			r = make_job(k, k->files[i].row, &plan, &k->jobs[i]);
			if (r == -ENAMETOOLONG)
				r = cannot_be_named(k, k->files[i].row, "its path is longer than a cluster's may be");
		}
	}
	if (r == 0)
		r = ledger_commit(p->ledger);
	else
		ledger_rollback(p->ledger);
	return r;
}

static void hand_over(struct keeper *k)
{
	struct pusher *p = k->pusher;
	unsigned n = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < k->nfiles; i++) {
		struct job *job = k->jobs[i];

		if (!job)
			continue;
		job->next_same = *bucket(k, job->id);
		*bucket(k, job->id) = job;
		k->outstanding++;
		job->next = NULL;
		*p->queue_tail = job;
		p->queue_tail = &job->next;
		p->nqueued++;
		k->jobs[i] = NULL;
		n++;
	}
	pthread_mutex_unlock(&p->lock);
	if (n)
		qumulo_wake(p->qumulo);
}

/* How many files may go out now. */
static unsigned allowance(struct keeper *k)
{
	struct pusher *p = k->pusher;
	unsigned n;

	pthread_mutex_lock(&p->lock);
	if (p->breaker.state == BREAKER_CLOSED)
		n = k->outstanding < p->outstanding_max ? p->outstanding_max - k->outstanding : 0;
	else
		n = p->breaker.state == BREAKER_AWAY && !k->outstanding && breaker_may_ask(&p->breaker, pusher_now_ms()) ? 1 : 0;
	pthread_mutex_unlock(&p->lock);
	return n < LEDGER_PUSH_PAGE ? n : LEDGER_PUSH_PAGE;
}

static void note_ledger(struct keeper *k, int r)
{
	if (r == 0)
		k->ledger_pauses = 0;
	else
		k->ledger_until_ms = pusher_now_ms() + breaker_pause_ms(LEDGER_PAUSE_MS, k->pusher->retry_ms, k->ledger_pauses++);
}

/* Rows are due by the system's date. When it is set back, those that were to be tried soon would be due in a far future. */
static void see_date(struct keeper *k)
{
	int64_t now_ms = wall_ms();

	if (now_ms < k->now_ms - STEPPED_BACK_MS)
		(void)ledger_push_not_beyond(k->pusher->ledger, now_ms + 2 * (int64_t)k->pusher->retry_ms * PUSHER_REFUSED_FACTOR);
	k->now_ms = now_ms;
}

/* One page. 1: there may be more at once; 0: the sweep is through, or nothing may go out. An error is the ledger's: the committer
 * says it, and this is tried again. */
static int feed(struct keeper *k)
{
	unsigned n;
	int r;

	k->room = pusher_now_ms() < k->ledger_until_ms ? 0 : allowance(k);
	if (!k->room)
		return 0;
	k->nfiles = 0;
	see_date(k);
	r = ledger_push_due(k->pusher->ledger, k->now_ms, &k->cursor, on_row, k, &n);
	if (r == -ECANCELED)
		r = 0;
	memset(k->jobs, 0, LEDGER_PUSH_PAGE * sizeof(*k->jobs));
	if (r == 0 && k->nfiles)
		r = decide_page(k);
	if (r < 0)
		note_ledger(k, r);
	else
		hand_over(k);
	for (unsigned i = 0; i < k->nfiles; i++) {
		free_job(k->jobs[i]);
		free((char *)k->rows[i].path);
	}
	if (r < 0 || n < LEDGER_PUSH_PAGE)
		k->cursor = LEDGER_PUSH_CURSOR_START;
	return r < 0 ? r : n == LEDGER_PUSH_PAGE;
}

/* ---- from the engine to the ledger ---- */

static int write_one(struct keeper *k, struct job *job)
{
	struct pusher *p = k->pusher;
	unsigned max_ms = p->retry_ms;
	int64_t due_ms = wall_ms();
	const char *text = job->text;
	char missing[UPSTREAM_TEXT_BYTES];

	switch (job->end) {
	case JOB_UNSENT:
		return 0;
	case JOB_TOLD:
		return ledger_push_done(p->ledger, &job->key, &job->plan.result);
	case JOB_LATER:
		due_ms += job->retry_after_s ? job->retry_after_s * INT64_C(1000) : breaker_pause_ms(FIRST_PAUSE_MS, max_ms, job->tries);
		return ledger_push_failed(p->ledger, &job->key, job->was_failed ? LEDGER_PUSH_FAILED : LEDGER_PUSH_PENDING, due_ms, job->tries + 1,
					  job->status, job->class, text);
	case JOB_REFUSED:
		due_ms += max_ms / 2 + breaker_pause_ms(max_ms, max_ms * PUSHER_REFUSED_FACTOR, job->tries);
		if (job->status == 404) {
			snprintf(missing, sizeof(missing), "no such file on the cluster: is push_root right, or was it moved below the mount?");
			text = missing;
		}
		return ledger_push_failed(p->ledger, &job->key, LEDGER_PUSH_FAILED, due_ms, job->tries + 1, job->status, job->class, text);
	}
	return 0;
}

static void say_failed(struct keeper *k, const struct job *job)
{
	int64_t now_ms = pusher_now_ms();

	if (k->failed_said_ms && now_ms - k->failed_said_ms < FAILED_LOG_MS) {
		k->failed_unsaid++;
		return;
	}
	if (k->failed_unsaid)
		pusher_log(k->pusher, PUSHER_WARNING, "push: the cluster refused the lock of '%.200s' (%d %s: %s), and of %llu more since the last such line; "
			   "wormctl push list names them", job->path, job->status, job->class, job->text, (unsigned long long)k->failed_unsaid);
	else
		pusher_log(k->pusher, PUSHER_WARNING, "push: the cluster refused the lock of '%.200s': %d %s: %s; it is locked here, and tried again "
			   "later; wormctl push list", job->path, job->status, job->class, job->text);
	k->failed_said_ms = now_ms;
	k->failed_unsaid = 0;
}

static void report(struct keeper *k, const struct job *job)
{
	struct pusher *p = k->pusher;

	if (job->end == JOB_TOLD)
		p->config.ops->told(p->config.arg, &job->key, job->path, &job->plan, NULL);
	if (job->end != JOB_REFUSED)
		return;
	if (!job->was_failed)
		p->config.ops->told(p->config.arg, &job->key, job->path, &job->plan, job->text);
	say_failed(k, job);
}

static void tell_waiters_locked(struct pusher *p, const struct job *job)
{
	if (job->end != JOB_TOLD && job->end != JOB_REFUSED)
		return;
	for (struct waiter *w = p->waiters; w; w = w->next)
		if (!w->done && file_key_equal(&w->key, &job->key)) {
			w->done = true;
			w->r = job->end == JOB_TOLD ? 0 : -EREMOTEIO;
		}
}

/* All results in one transaction. A ledger that fails: the rows wait as before, and are sent again. */
static void write_results(struct keeper *k)
{
	struct pusher *p = k->pusher;
	struct job *results, *job, *next;
	int r;

	pthread_mutex_lock(&p->lock);
	results = p->results;
	p->results = NULL;
	pthread_mutex_unlock(&p->lock);
	if (!results)
		return;
	r = ledger_begin(p->ledger);
	for (job = results; r == 0 && job; job = job->next)
		r = write_one(k, job);
	if (r == 0)
		r = ledger_commit(p->ledger);
	else
		ledger_rollback(p->ledger);
	note_ledger(k, r);
	pthread_mutex_lock(&p->lock);
	for (job = results; r == 0 && job; job = job->next) {
		p->told += job->end == JOB_TOLD;
		p->refused += job->end == JOB_REFUSED;
		tell_waiters_locked(p, job);
	}
	pthread_cond_broadcast(&p->waited);
	pthread_mutex_unlock(&p->lock);
	for (job = results; job; job = next) {
		next = job->next;
		if (r == 0)
			report(k, job);
		retire(k, job);
	}
}

static unsigned count_results_locked(const struct pusher *p)
{
	unsigned n = 0;

	for (const struct job *job = p->results; job && n < BATCH_MIN; job = job->next)
		n++;
	return n;
}

static void deadline_in(struct timespec *ret, unsigned ms)
{
	clock_gettime(CLOCK_MONOTONIC, ret);
	ret->tv_sec += ms / 1000;
	ret->tv_nsec += (long)(ms % 1000) * 1000000;
	if (ret->tv_nsec >= 1000000000) {
		ret->tv_sec++;
		ret->tv_nsec -= 1000000000;
	}
}

/* Until there is a batch of results, or a kick, or it is time to look at the ledger. */
static void wait_for_news(struct keeper *k, bool more)
{
	struct pusher *p = k->pusher;
	struct timespec deadline;

	pthread_mutex_lock(&p->lock);
	/* More rows and nothing out that would bring news: go on at once. */
	if (!(more && k->outstanding < p->outstanding_max && p->breaker.state == BREAKER_CLOSED)) {
		deadline_in(&deadline, p->waiters ? WAITED_MS : k->outstanding ? BATCH_MS : POLL_MS);
		while (!p->kicked && !atomic_load(&p->stopping) && count_results_locked(p) < BATCH_MIN)
			if (pthread_cond_timedwait(&p->news, &p->lock, &deadline) == ETIMEDOUT)
				break;
	}
	p->kicked = false;
	pthread_mutex_unlock(&p->lock);
}

static void *keeper_run(void *arg)
{
	struct keeper *k = arg;
	struct pusher *p = k->pusher;
	int more = 0;

	k->cursor = LEDGER_PUSH_CURSOR_START;
	k->now_ms = INT64_MAX;	/* the date may have been set back while nobody looked; a ledger that fails is said elsewhere */
	while (!atomic_load(&p->stopping)) {
		write_results(k);
		more = feed(k);
		wait_for_news(k, more > 0);
	}
	pthread_join(p->engine, NULL);	/* it gives back what it has */
	write_results(k);
	qumulo_close(p->qumulo);	/* before the calls in it */
	p->qumulo = NULL;
	/* What was never answered is out still. */
	for (unsigned i = 0; i < BUCKETS; i++)
		while (k->table[i])
			retire(k, k->table[i]);
	free(k->files);
	free(k->rows);
	free(k->jobs);
	free(k);
	return NULL;
}

/* ---- public ---- */

static struct keeper *keeper_new(struct pusher *p)
{
	struct keeper *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->pusher = p;
	k->files = calloc(LEDGER_PUSH_PAGE, sizeof(*k->files));
	k->rows = calloc(LEDGER_PUSH_PAGE, sizeof(*k->rows));
	k->jobs = calloc(LEDGER_PUSH_PAGE, sizeof(*k->jobs));
	if (k->files && k->rows && k->jobs)
		return k;
	free(k->files);
	free(k->rows);
	free(k->jobs);
	free(k);
	return NULL;
}

static void pusher_free(struct pusher *p)
{
	qumulo_close(p->qumulo);
	pthread_cond_destroy(&p->news);
	pthread_cond_destroy(&p->waited);
	pthread_mutex_destroy(&p->lock);
	free(p->root);
	free(p);
}

static int start_threads(struct pusher *p)
{
	struct keeper *k = keeper_new(p);
	int r;

	if (!k)
		return -ENOMEM;
	r = thread_start(&p->engine, "push", push_engine_run, p);
	if (r == 0) {
		r = thread_start(&p->keeper, "push-keeper", keeper_run, k);
		if (r < 0) {
			atomic_store(&p->stopping, true);
			qumulo_wake(p->qumulo);
			pthread_join(p->engine, NULL);
		}
	}
	if (r < 0) {
		free(k->files);
		free(k->rows);
		free(k->jobs);
		free(k);
	}
	return r;
}

int pusher_start(struct ledger *ledger, const struct pusher_config *config, struct pusher **ret_pusher)
{
	struct pusher *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		return r;
	p->ledger = ledger;
	p->config = *config;
	p->retry_ms = (config->retry_s ? config->retry_s : PUSHER_RETRY_S) * 1000;
	p->breaker.max_ms = p->retry_ms;
	p->queue_tail = &p->queue;
	leaf_mutex_init(&p->lock);
	monotonic_cond_init(&p->news);
	monotonic_cond_init(&p->waited);
	p->root = strdup(config->root);
	if (p->root)
		r = qumulo_open(&config->qumulo, &p->qumulo);
	if (r == 0) {
		p->outstanding_max = 2 * qumulo_in_flight_max(p->qumulo) + LEDGER_PUSH_PAGE;
		r = start_threads(p);
	}
	if (r < 0) {
		pusher_free(p);
		return r;
	}
	*ret_pusher = p;
	return 0;
}

void pusher_stop(struct pusher *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->stopping, true);
	pthread_cond_broadcast(&p->news);
	for (struct waiter *w = p->waiters; w; w = w->next) {
		w->done = true;
		w->r = -EHOSTDOWN;
	}
	pthread_cond_broadcast(&p->waited);
	pthread_mutex_unlock(&p->lock);
	qumulo_wake(p->qumulo);
	pthread_join(p->keeper, NULL);
	pusher_free(p);
}

void pusher_kick(struct pusher *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->kicked = true;
	pthread_cond_signal(&p->news);
	pthread_mutex_unlock(&p->lock);
}

static int take_waits(void *arg, const struct ledger_push_row *row)
{
	*(bool *)arg = row->push != LEDGER_PUSH_NO && row->waits;
	return 0;
}

int pusher_wait(struct pusher *p, const struct file_key *key, unsigned timeout_ms)
{
	struct waiter waiter = { .key = *key, .r = -ETIMEDOUT }, **at;
	struct timespec deadline;
	bool waits = false;
	int r;

	deadline_in(&deadline, timeout_ms);
	pthread_mutex_lock(&p->lock);
	if (p->breaker.state != BREAKER_CLOSED) {
		pthread_mutex_unlock(&p->lock);
		return -EHOSTDOWN;
	}
	waiter.next = p->waiters;
	p->waiters = &waiter;
	p->kicked = true;
	pthread_cond_signal(&p->news);
	pthread_mutex_unlock(&p->lock);
	/* It may have been told between the moment it came into the ledger and now. */
	r = ledger_push_find(p->ledger, key, take_waits, &waits);
	pthread_mutex_lock(&p->lock);
	if (r < 0 || !waits) {
		waiter.done = true;
		waiter.r = r;
	}
	while (!waiter.done)
		if (pthread_cond_timedwait(&p->waited, &p->lock, &deadline) == ETIMEDOUT)
			break;
	for (at = &p->waiters; *at != &waiter; at = &(*at)->next)
		;
	*at = waiter.next;
	r = waiter.done ? waiter.r : -ETIMEDOUT;
	pthread_mutex_unlock(&p->lock);
	return r;
}

void pusher_status(struct pusher *p, struct pusher_status *ret_status)
{
	pthread_mutex_lock(&p->lock);
	*ret_status = (struct pusher_status){
		.in_flight = p->in_flight, .told = p->told, .refused = p->refused, .requests = p->requests, .has_skew = p->has_skew,
		.skew_s = p->skew_s, .checked = p->checked,
	};
	memcpy(ret_status->findings, p->findings, sizeof(ret_status->findings));
	if (p->breaker.state != BREAKER_CLOSED) {
		ret_status->state = p->breaker.state == BREAKER_AWAY ? PUSHER_AWAY : PUSHER_REFUSED;
		memcpy(ret_status->reason, p->reason, sizeof(ret_status->reason));
		ret_status->since_s = p->since_s;
		ret_status->next_try_s = time(NULL) + (p->breaker.next_ms - pusher_now_ms()) / 1000;
	}
	pthread_mutex_unlock(&p->lock);
}
