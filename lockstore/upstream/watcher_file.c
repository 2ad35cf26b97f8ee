/* A file's way: it comes or changes (settling.h), is due after settle_s, is looked at, and, if it looks as still as that, is locked
 * as the version that was looked at (If-Match). Whatever else happens it is due again later; it leaves the table only when it
 * is locked, left alone, or gone.
 *
 * What a lock's end is counted from is the cluster's clock (its Date header): the cluster ends it by that, and an end cannot
 * be taken back. */
#include "lockstore/upstream/watcher_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANY_VERSION_TRIES 5	/* an ETag that changes without the file: then it is locked without naming one */
#define CLOCK_SLACK_S 60	/* a change so far in the future is none that an age can be told by */

enum step { STEP_LOOK, STEP_LOCK, STEP_PROVE };

struct watcher_job {
	struct qumulo_call call;
	struct watcher *watcher;
	struct settling_file *file;
	char *ref;
	enum step step;
	struct upstream_lock wanted;		/* of what is missing */
	char failure[UPSTREAM_TEXT_BYTES];	/* of the lock, while it is looked for */
	enum upstream_outcome outcome;
	struct watcher_job *next_idle;
};

static unsigned settle_s(const struct watcher *w, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (staging_matches(w->staging, slash ? slash + 1 : path) && w->config->settle_s < WATCHER_STAGING_S)
		return WATCHER_STAGING_S;
	return w->config->settle_s;
}

static int64_t settled_ms(const struct watcher *w, const char *path)
{
	return watcher_now_ms() + settle_s(w, path) * INT64_C(1000);
}

void watcher_file_came(struct watcher *w, const char *path)
{
	if (settling_touch(w->files, path, settled_ms(w, path)) < 0)
		watcher_overflow(w);
}

void watcher_file_met(struct watcher *w, const char *path)
{
	if (!settling_has(w->files, path) && settling_touch(w->files, path, watcher_now_ms()) < 0)
		watcher_overflow(w);
}

static void job_end(struct watcher_job *job, int64_t due_ms)
{
	struct watcher *w = job->watcher;

	settling_put(w->files, job->file, due_ms, settled_ms(w, job->file->path));
	free(job->ref);
	job->ref = NULL;
	job->next_idle = w->idle;
	w->idle = job;
	w->busy--;
}

/* Not now. Faults of the cluster as a whole make everybody wait, and are told once. */
static void job_failed(struct watcher_job *job, enum upstream_outcome outcome, unsigned retry_after_s, const char *why)
{
	struct watcher *w = job->watcher;
	bool everybody = outcome == UPSTREAM_BUSY || outcome == UPSTREAM_AWAY || outcome == UPSTREAM_UNAUTHORISED;
	int64_t now = watcher_now_ms(), ms;

	if (everybody) {
		if (now >= w->paused_ms) {	/* else it was in flight when somebody else found out */
			ms = watcher_backoff_ms(w, ++w->pauses, WATCHER_RECONNECT_MAX_MS);
			if (ms < retry_after_s * INT64_C(1000))
				ms = retry_after_s * INT64_C(1000);
			w->paused_ms = now + ms;
			watcher_tell(w, (struct watcher_news){ .event = WATCHER_TROUBLE, .why = why, .retry_s = (unsigned)(ms / 1000 + 1) });
		}
		/* With `once` an outage is no reason to wait for ever. */
		job->file->tries += w->config->once;
		job_end(job, w->paused_ms);
		return;
	}
	ms = watcher_backoff_ms(w, ++job->file->tries, w->config->once ? WATCHER_RETRY_FIRST_MS : WATCHER_RETRY_MAX_MS);
	w->totals.failures++;
	watcher_tell(w, (struct watcher_news){ .event = WATCHER_FAILED, .path = job->file->path, .why = why, .retry_s = (unsigned)(ms / 1000 + 1) });
	job_end(job, now + ms);
}

/* A look alone is no proof of that: locks may be refused all the same. */
static void works_again(struct watcher *w)
{
	w->pauses = 0;
}

/* When it was changed last, by the cluster's own times. false: it does not say. */
static bool last_change(const struct upstream_reply *reply, int64_t *ret_s)
{
	int64_t changed_s, modified_s;

	if (!reply->change_time || !reply->modification_time || upstream_time_parse(reply->change_time, &changed_s) < 0 ||
	    upstream_time_parse(reply->modification_time, &modified_s) < 0)
		return false;
	/* A copy that keeps times sets the one back; whoever writes moves the other. */
	*ret_s = changed_s > modified_s ? changed_s : modified_s;
	return true;
}

static uint64_t look_of(const struct upstream_reply *reply)
{
	const char *const parts[] = { reply->size, reply->modification_time, reply->change_time, reply->data_revision, reply->id };
	uint64_t h = UINT64_C(0xcbf29ce484222325);	/* FNV-1a */

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		for (const char *p = parts[i] ? parts[i] : ""; ; p++) {
			h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
			if (!*p)
				break;
		}
	return h;
}

/* What is missing of the lock that is wanted; neither date nor hold: it is done, or its time would be over already. A period counts from
 * when the file was locked first: what is locked, by whomever, or was until its time was over, is not locked anew, unless it was
 * written after that. */
static struct upstream_lock missing_lock(struct watcher *w, const struct upstream_reply *reply, bool has_change, int64_t change_s)
{
	const struct retention *retention = &w->config->retention;
	int64_t now_s = reply->date_s ? reply->date_s : time(NULL);
	const struct upstream_lock *have = &reply->lock;
	struct upstream_lock want = { .hold = w->config->hold && !(reply->has_lock && have->hold), .has_until = w->config->has_retention };

	if (!want.has_until)
		return want;
	if (retention->kind == RETENTION_DATE) {
		want.until_s = retention->seconds;
		want.has_until = !(reply->has_lock && have->has_until && have->until_s >= want.until_s);
		if (want.has_until && want.until_s <= now_s)
			watcher_end(w, -ETIME, "the date of the retention has passed: give a later one");
		return want;
	}
	want.until_s = retention_until(retention, now_s + 1);	/* + 1: rounded up, whenever in this second it is */
	if (reply->has_lock && have->has_until && (have->until_s > now_s || !has_change || change_s <= have->until_s))
		want.has_until = false;
	if (has_change && retention_until(retention, change_s) <= now_s)
		want.has_until = false;
	return want;
}

/* What comes back is when to look again; 0: it is still; < 0: never. */
static int64_t is_still(struct watcher *w, struct settling_file *file, const struct upstream_reply *reply, bool has_change, int64_t change_s)
{
	int64_t now = watcher_now_ms(), need_s = settle_s(w, file->path), age_s = reply->date_s - change_s;
	uint64_t look = look_of(reply);

	if (has_change && change_s < w->config->since_s)
		return -1;
	if (file->has_look && file->look == look && now - file->looked_ms >= need_s * 1000)
		return 0;
	if (!file->has_look || file->look != look) {
		file->has_look = true;
		file->look = look;
		file->looked_ms = now;
	}
	if (has_change && reply->date_s && age_s >= -CLOCK_SLACK_S) {
		if (age_s >= need_s)
			return 0;
		/* Whole seconds were compared. */
		return now + (age_s > 0 ? need_s - age_s : need_s) * 1000 + 500;
	}
	return file->looked_ms + need_s * 1000;
}

static void send_lock(struct watcher_job *job, const char *etag)
{
	struct watcher *w = job->watcher;
	int r;

	job->step = STEP_LOCK;
	job->file->sent = true;
	r = qumulo_set_lock(w->config->qumulo, &job->call, job->ref, &job->wanted, false, etag);
	if (r < 0)
		job_failed(job, UPSTREAM_REFUSED, 0, strerror(-r));
}

static void send_look(struct watcher_job *job, enum step step)
{
	int r;

	job->step = step;
	r = qumulo_get_attributes(job->watcher->config->qumulo, &job->call, job->ref, true);
	if (r < 0)
		job_failed(job, UPSTREAM_REFUSED, 0, strerror(-r));
}

static void locked(struct watcher_job *job, const struct upstream_lock *lock)
{
	struct watcher *w = job->watcher;

	works_again(w);
	job->file->sent = false;
	w->totals.locked++;
	watcher_tell(w, (struct watcher_news){ .event = WATCHER_LOCKED, .path = job->file->path, .lock = lock });
	job_end(job, -1);
}

static void looked(struct watcher_job *job, const struct upstream_reply *reply)
{
	struct watcher *w = job->watcher;
	int64_t change_s = 0, again_ms;
	bool has_change;

	if (reply->outcome == UPSTREAM_MISSING || (reply->type && strcmp(reply->type, WATCHER_REGULAR_FILE) != 0)) {
		job_end(job, -1);
		return;
	}
	if (atomic_load(w->config->stop)) {
		job_end(job, watcher_now_ms());
		return;
	}
	has_change = last_change(reply, &change_s);
	job->wanted = missing_lock(w, reply, has_change, change_s);
	if (w->end < 0 || (!job->wanted.has_until && !job->wanted.hold)) {
		works_again(w);
		if (reply->has_lock && job->file->sent) {	/* the answer to an earlier request was lost: it was carried out */
			locked(job, &reply->lock);
			return;
		}
		if (reply->has_lock && (reply->lock.has_until || reply->lock.hold))
			w->totals.locked_before++;
		else
			w->totals.left_alone++;
		job_end(job, -1);
		return;
	}
	again_ms = is_still(w, job->file, reply, has_change, change_s);
	if (again_ms > 0) {
		job->file->tries += w->config->once;
		job_end(job, again_ms);
	} else if (again_ms < 0) {
		w->totals.left_alone++;
		job_end(job, -1);
	} else if (w->config->dry_run) {
		watcher_tell(w, (struct watcher_news){ .event = WATCHER_WOULD_LOCK, .path = job->file->path, .lock = &job->wanted });
		job_end(job, -1);
	} else {
		send_lock(job, *reply->etag && job->file->tries < ANY_VERSION_TRIES ? reply->etag : NULL);
	}
}

/* The reply to a lock, or to the question whether it is there. The lock that it shows is the only proof. */
static void answered(struct watcher_job *job, const struct upstream_reply *reply)
{
	char why[WATCHER_REASON_BYTES];

	if (reply->outcome == UPSTREAM_DONE && reply->has_lock && upstream_lock_covers(&reply->lock, &job->wanted)) {
		locked(job, &reply->lock);
		return;
	}
	if (reply->outcome == UPSTREAM_MISSING) {
		job_end(job, -1);
		return;
	}
	if (reply->outcome == UPSTREAM_CHANGED) {	/* looked at again, soon */
		job->file->tries++;
		job_end(job, watcher_now_ms() + (job->file->tries < ANY_VERSION_TRIES ? 100 : WATCHER_RETRY_FIRST_MS));
		return;
	}
	if (job->step == STEP_LOCK) {
		/* What it came to is open, or is "locked already": looked for before it is called a failure. */
		job->outcome = reply->outcome;
		snprintf(job->failure, sizeof(job->failure), "%s", *reply->error_class ? reply->error_class : reply->text);
		if (reply->open || reply->outcome == UPSTREAM_UNCLEAR || reply->outcome == UPSTREAM_IS_LOCKED || reply->outcome == UPSTREAM_REFUSED ||
		    reply->outcome == UPSTREAM_DONE) {
			if (reply->outcome == UPSTREAM_DONE)
				snprintf(job->failure, sizeof(job->failure), "the cluster took it, and shows no such lock");
			send_look(job, STEP_PROVE);
			return;
		}
	}
	if (job->step == STEP_PROVE && reply->outcome == UPSTREAM_DONE) {
		job_failed(job, job->outcome == UPSTREAM_DONE ? UPSTREAM_UNCLEAR : job->outcome, reply->retry_after_s, job->failure);
		return;
	}
	job_failed(job, reply->outcome, reply->retry_after_s, watcher_reason(reply, why));
}

static void on_reply(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct watcher_job *job = call->arg;

	if (job->step == STEP_LOOK && (reply->outcome == UPSTREAM_DONE || reply->outcome == UPSTREAM_MISSING))
		looked(job, reply);
	else
		answered(job, reply);
}

void watcher_start_jobs(struct watcher *w)
{
	struct settling_file *file;
	int64_t now = watcher_now_ms();

	while (w->end == 0 && w->idle && now >= w->paused_ms && (file = settling_take(w->files, now))) {
		struct watcher_job *job = w->idle;

		w->idle = job->next_idle;
		w->busy++;
		job->file = file;
		job->call.done = on_reply;
		job->call.arg = job;
		if (endpoint_ref(w->config->directory, file->path, &job->ref) < 0) {
			job->ref = NULL;
			job_end(job, -1);	/* longer than a name on a cluster can be */
			continue;
		}
		send_look(job, STEP_LOOK);
	}
}

int watcher_jobs_open(struct watcher *w)
{
	unsigned jobs = w->config->jobs ? w->config->jobs : WATCHER_JOBS;

	w->jobs = calloc(jobs, sizeof(*w->jobs));
	if (!w->jobs || settling_open(w->config->files_max, &w->files) < 0 || staging_open(STAGING_DEFAULT, &w->staging) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < jobs; i++) {
		w->jobs[i].watcher = w;
		w->jobs[i].next_idle = w->idle;
		w->idle = &w->jobs[i];
	}
	return 0;
}

void watcher_jobs_close(struct watcher *w)
{
	staging_close(w->staging);
	settling_close(w->files);
	free(w->jobs);
}
