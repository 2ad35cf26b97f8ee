/* The engine: one thread that takes jobs from the queue, asks the cluster, and gives them back with what came of it.
 *
 * A job ends as told only with a lock in an answer about its file that covers what is wanted. Whatever leaves that open, and every refusal,
 * is followed by one look at the file, since the lock may be there all the same: from a request whose answer was lost, or from
 * somebody else. */
#include "lockstore/upstream/pusher_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 1000
#define POLL_OPEN_MS 200	/* while the breaker is open or a pause is on */
#define LAST_WORDS_MS 2000	/* how long the end waits for answers */
#define AUTH_PROOF_MS 60000	/* so long after who-am-i was answered a 401 is about the file */
#define SKEW_WARN_S 60
#define SAME_CUT_MS 1000	/* within this, failures on one port are one connection's */
#define CHECK_AGAIN_MS 600000	/* while what was found at the start is not as it should be */
#define STRANGER "it answers about another file: what is between us and the cluster?"

struct engine {
	struct pusher *pusher;
	struct qumulo *qumulo;
	int64_t pause_until_ms;		/* the cluster asked for it */
	uint16_t cut_port;		/* the last connection that was cut, and when */
	int64_t cut_ms;
	struct qumulo_call probe;	/* who-am-i, after a 401: our credentials, or a file? */
	bool probing;
	int64_t proved_ms;		/* when it was answered; 0: never */
	struct upstream_check check;
	bool checking;
	int64_t check_ms;		/* not before */
	enum breaker_state said;	/* what the log has of the breaker */
};

static struct engine *engine_of(const struct job *job);

/* ---- what answers say of the cluster ---- */

static void note_skew(struct pusher *p, const struct upstream_reply *reply)
{
	int64_t skew_s = reply->date_s - time(NULL);
	bool say;

	if (!reply->date_s)
		return;
	pthread_mutex_lock(&p->lock);
	p->has_skew = true;
	p->skew_s = skew_s;
	say = !p->skew_said && llabs(skew_s) > SKEW_WARN_S;
	p->skew_said |= say;
	pthread_mutex_unlock(&p->lock);
	if (say)
		pusher_log(p, PUSHER_WARNING, "push: the cluster's clock differs from ours by %lld s: its locks end by its own clock",
			   (long long)skew_s);
}

/* Gives back what was not sent: it would be old news when the cluster is back. */
static void return_queue_locked(struct pusher *p)
{
	struct job *job;

	while ((job = p->queue)) {
		p->queue = job->next;
		job->end = JOB_UNSENT;
		job->next = p->results;
		p->results = job;
	}
	p->queue_tail = &p->queue;
	p->nqueued = 0;
	pthread_cond_signal(&p->news);
}

static void opened_locked(struct pusher *p, const struct upstream_reply *reply)
{
	snprintf(p->reason, sizeof(p->reason), "%s", reply->text);
	p->since_s = time(NULL);
	p->since_ms = pusher_now_ms();
	return_queue_locked(p);
	/* Who waits in close(2) need not wait for a cluster that is away. */
	for (struct waiter *w = p->waiters; w; w = w->next) {
		w->done = true;
		w->r = -EHOSTDOWN;
	}
	pthread_cond_broadcast(&p->waited);
}

static void say_open(struct engine *e, const struct upstream_reply *reply)
{
	struct pusher *p = e->pusher;
	const char *path = upstream_credentials_path(p->config.qumulo.credentials);

	e->said = reply->outcome == UPSTREAM_UNAUTHORISED ? BREAKER_REFUSED : BREAKER_AWAY;
	if (reply->outcome == UPSTREAM_UNAUTHORISED)
		pusher_log(p, PUSHER_ERROR, "push: the cluster '%s' does not accept our credentials: %s; locks wait in the queue until there are others in "
			   "%s", p->config.qumulo.endpoint.url, reply->text, path ? path : "the environment of a new start");
	else
		pusher_log(p, PUSHER_WARNING, "push: the cluster '%s' is away: %s; locks wait in the queue, retrying at least every %u s",
			   p->config.qumulo.endpoint.url, reply->text, p->retry_ms / 1000);
}

/* A connection of HTTP/2 takes all that was on it along: that is one failure, as it is where a connection has one call. */
static bool is_known_cut(struct engine *e, const struct upstream_reply *reply, int64_t now_ms)
{
	bool known = reply->cut_port && reply->cut_port == e->cut_port && now_ms - e->cut_ms < SAME_CUT_MS;

	if (reply->cut_port && !known) {
		e->cut_port = reply->cut_port;
		e->cut_ms = now_ms;
	}
	return known;
}

/* One line when it goes, one when it is back. False: a 401 that may be about our credentials, and not about what was asked. */
static bool note_answer(struct engine *e, const struct upstream_reply *reply)
{
	struct pusher *p = e->pusher;
	int64_t now_ms = pusher_now_ms(), away_s = 0;
	bool opened = false, closed = false, suspect = false;

	note_skew(p, reply);
	if (reply->outcome == UPSTREAM_BUSY) {
		int64_t pause_ms = reply->retry_after_s ? reply->retry_after_s * INT64_C(1000) :
							  breaker_pause_ms(BREAKER_FIRST_MS, BREAKER_FIRST_MS, 0);

		if (now_ms + pause_ms > e->pause_until_ms)
			e->pause_until_ms = now_ms + pause_ms;
	}
	pthread_mutex_lock(&p->lock);
	p->requests++;
	if (reply->outcome == UPSTREAM_AWAY) {
		opened = !is_known_cut(e, reply, now_ms) && breaker_failed(&p->breaker, reply->open, now_ms);
	} else if (reply->outcome == UPSTREAM_UNAUTHORISED) {
		suspect = !e->proved_ms || now_ms - e->proved_ms > AUTH_PROOF_MS;
		if (suspect)
			opened = breaker_refused(&p->breaker, now_ms);
	} else if (p->breaker.state != BREAKER_REFUSED) {
		closed = breaker_answered(&p->breaker);
		away_s = (now_ms - p->since_ms) / 1000;
	}
	if (opened)
		opened_locked(p, reply);
	pthread_mutex_unlock(&p->lock);
	if (opened && !suspect && e->said == BREAKER_CLOSED)
		say_open(e, reply);
	if (closed && e->said != BREAKER_CLOSED)
		pusher_log(p, PUSHER_INFO, "push: the cluster '%s' is back after %lld s", p->config.qumulo.endpoint.url, (long long)away_s);
	if (closed)
		e->said = BREAKER_CLOSED;
	return !suspect;
}

/* ---- a job ---- */

static void end_job(struct job *job, enum job_end end)
{
	struct pusher *p = engine_of(job)->pusher;

	job->end = end;
	pthread_mutex_lock(&p->lock);
	job->next = p->results;
	p->results = job;
	pthread_cond_signal(&p->news);
	pthread_mutex_unlock(&p->lock);
}

static void remember(struct job *job, const struct upstream_reply *reply)
{
	job->status = reply->status;
	job->retry_after_s = reply->retry_after_s;
	memcpy(job->class, reply->error_class, sizeof(job->class));
	snprintf(job->text, sizeof(job->text), "%s", reply->text);
}

static void say(struct job *job, const char *text)
{
	snprintf(job->text, sizeof(job->text), "%s", text);
}

static void on_reply(struct qumulo_call *call, struct upstream_reply *reply);

/* Something between us and the cluster mixes answers up: it says nothing of our file. */
static bool is_stranger(const struct job *job, const struct upstream_reply *reply)
{
	return !upstream_reply_is_of(reply, engine_of(job)->pusher->root, job->path);
}

static void ask(struct job *job, enum job_step step)
{
	struct engine *e = engine_of(job);
	int r;

	job->step = step;
	job->call.done = on_reply;
	if (step == JOB_SEND)
		r = qumulo_set_lock(e->qumulo, &job->call, job->ref, &job->plan.set, job->plan.release, NULL);
	else
		r = qumulo_get_attributes(e->qumulo, &job->call, job->ref, true);
	if (r == 0)
		return;
	say(job, strerror(-r));
	end_job(job, JOB_LATER);
}

/* An end that is there already, and no earlier than ours, is not sent: what was noted of the cluster may be less than it has. */
static void leave_out_end(struct job *job, const struct upstream_reply *reply)
{
	struct upstream_lock *set = &job->plan.set;

	if (reply->has_lock && reply->lock.has_until && reply->lock.until_s >= set->until_s)
		set->has_until = false;
}

/* The answer to a look. */
static void on_looked(struct job *job, const struct upstream_reply *reply)
{
	bool first = job->step == JOB_LOOK_FIRST;

	switch (reply->outcome) {
	case UPSTREAM_DONE:
	case UPSTREAM_UNCLEAR:
		if (reply->has_lock && push_plan_is_met(&job->plan, &reply->lock)) {
			end_job(job, JOB_TOLD);
		} else if (first) {
			leave_out_end(job, reply);
			ask(job, JOB_SEND);
		} else if (job->status / 100 != 2) {
			end_job(job, JOB_REFUSED);	/* what was said to the request stands */
		} else if (!job->sent_again && reply->outcome == UPSTREAM_DONE && reply->has_lock) {
			job->sent_again = true;		/* the answer was lost, and so was the request */
			ask(job, JOB_SEND);
		} else {
			say(job, reply->has_lock ? "it answered that all is well, and the file is not locked" :
				 is_stranger(job, reply) ? STRANGER :
							   "it does not show the lock of the file: may we read its ACL?");
			end_job(job, JOB_REFUSED);
		}
		return;
	case UPSTREAM_MISSING:
		remember(job, reply);
		end_job(job, JOB_REFUSED);
		return;
	case UPSTREAM_BUSY:
	case UPSTREAM_AWAY:
		if (job->status == 0 || job->status / 100 == 2 || first)
			remember(job, reply);
		end_job(job, JOB_LATER);
		return;
	default:
		/* Who may not read may still write. */
		if (first) {
			ask(job, JOB_SEND);
			return;
		}
		if (job->status / 100 == 2)
			remember(job, reply);
		end_job(job, JOB_REFUSED);
	}
}

static void on_sent(struct job *job, const struct upstream_reply *reply)
{
	remember(job, reply);
	switch (reply->outcome) {
	case UPSTREAM_DONE:
		if (push_plan_is_met(&job->plan, &reply->lock))
			end_job(job, JOB_TOLD);
		else
			ask(job, JOB_LOOK_AFTER);
		return;
	case UPSTREAM_UNCLEAR:
	case UPSTREAM_IS_LOCKED:
	case UPSTREAM_DENIED:
	case UPSTREAM_REFUSED:
		ask(job, JOB_LOOK_AFTER);
		return;
	case UPSTREAM_MISSING:
		end_job(job, JOB_REFUSED);
		return;
	case UPSTREAM_UNAUTHORISED:
		end_job(job, JOB_REFUSED);	/* unless the breaker says that it is not about this file: see on_reply() */
		return;
	case UPSTREAM_CHANGED:
	case UPSTREAM_BUSY:
	case UPSTREAM_AWAY:
		end_job(job, JOB_LATER);
	}
}

static void on_reply(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct job *job = (struct job *)((char *)call - offsetof(struct job, call));

	if (!note_answer(engine_of(job), reply)) {
		end_job(job, JOB_UNSENT);
		return;
	}
	if (reply->outcome == UPSTREAM_DONE && is_stranger(job, reply)) {
		reply->outcome = UPSTREAM_UNCLEAR;
		reply->has_lock = false;
		snprintf(reply->text, sizeof(reply->text), "%s", STRANGER);
	}
	if (job->step == JOB_SEND)
		on_sent(job, reply);
	else
		on_looked(job, reply);
}

static struct engine *engine_of(const struct job *job)
{
	return job->call.arg;
}

/* ---- the thread ---- */

static void on_probe(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct engine *e = call->arg;
	struct pusher *p = e->pusher;
	bool accepted = reply->outcome != UPSTREAM_UNAUTHORISED && reply->outcome != UPSTREAM_AWAY && reply->outcome != UPSTREAM_BUSY;

	e->probing = false;
	if (accepted) {
		e->proved_ms = pusher_now_ms();
		pthread_mutex_lock(&p->lock);
		p->breaker.state = BREAKER_AWAY;	/* which an answer ends */
		pthread_mutex_unlock(&p->lock);
	} else if (reply->outcome == UPSTREAM_UNAUTHORISED && e->said != BREAKER_REFUSED) {
		say_open(e, reply);
	}
	(void)note_answer(e, reply);	/* it was about our credentials */
}

/* Our credentials were refused: no file is sent along to ask whether they still are. */
static void probe(struct engine *e)
{
	struct pusher *p = e->pusher;
	bool ask_now;

	pthread_mutex_lock(&p->lock);
	ask_now = p->breaker.state == BREAKER_REFUSED && breaker_may_ask(&p->breaker, pusher_now_ms());
	pthread_mutex_unlock(&p->lock);
	if (!ask_now || e->probing)
		return;
	e->probe.done = on_probe;
	e->probe.arg = e;
	e->probing = qumulo_who_am_i(e->qumulo, &e->probe) == 0;
}

/* What would keep every lock from being taken is told when pushing begins, not when the first file fails; once, until it changes. */
static void on_checked(struct upstream_check *check, int error)
{
	struct engine *e = check->arg;
	struct pusher *p = e->pusher;
	bool again = error < 0, news[UPSTREAM_CHECKS] = { false };

	pthread_mutex_lock(&p->lock);
	for (int i = 0; error == 0 && i < UPSTREAM_CHECKS; i++) {
		const struct upstream_finding *finding = &check->findings[i];

		again |= finding->state >= UPSTREAM_CHECK_WARNING;
		news[i] = (finding->state == UPSTREAM_CHECK_WARNING || finding->state == UPSTREAM_CHECK_FAILED) && i != UPSTREAM_CHECK_CLOCK &&
			  strcmp(finding->what, p->findings[i].what) != 0;	/* note_skew() tells of the clock */
		p->findings[i] = *finding;
	}
	p->checked |= error == 0;
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; i < UPSTREAM_CHECKS; i++)
		if (news[i])
			pusher_log(p, PUSHER_WARNING, "push: %s; %s", check->findings[i].what, check->findings[i].todo);
	e->checking = false;
	e->check_ms = again ? pusher_now_ms() + CHECK_AGAIN_MS : INT64_MAX;
}

static void look_over(struct engine *e)
{
	struct pusher *p = e->pusher;

	if (e->checking || pusher_now_ms() < e->check_ms)
		return;
	e->check = (struct upstream_check){ .endpoint = &p->config.qumulo.endpoint, .ca_file = p->config.qumulo.ca_file,
					    .insecure = p->config.qumulo.insecure, .root = p->root, .done = on_checked, .arg = e };
	e->checking = upstream_check_start(e->qumulo, &e->check) == 0;
}

static struct job *take(struct engine *e)
{
	struct pusher *p = e->pusher;
	struct job *job = NULL;

	pthread_mutex_lock(&p->lock);
	if (pusher_now_ms() >= e->pause_until_ms && p->breaker.state != BREAKER_REFUSED)
		job = p->queue;
	if (job) {
		p->queue = job->next;
		if (!p->queue)
			p->queue_tail = &p->queue;
		p->nqueued--;
	}
	p->in_flight = qumulo_in_flight(e->qumulo) + (job ? 1 : 0);
	pthread_mutex_unlock(&p->lock);
	return job;
}

static bool is_idle(struct engine *e)
{
	struct pusher *p = e->pusher;
	bool idle;

	pthread_mutex_lock(&p->lock);
	idle = p->breaker.state == BREAKER_CLOSED && !p->queue;
	pthread_mutex_unlock(&p->lock);
	return idle && pusher_now_ms() >= e->pause_until_ms;
}

void *push_engine_run(void *arg)
{
	struct pusher *p = arg;
	struct engine e = { .pusher = p, .qumulo = p->qumulo };
	int64_t end_ms = 0;
	bool failed = false;
	struct job *job;

	while (!atomic_load(&p->stopping) || qumulo_in_flight(e.qumulo)) {
		if (atomic_load(&p->stopping)) {
			end_ms = end_ms ? end_ms : pusher_now_ms() + LAST_WORDS_MS;
			if (pusher_now_ms() >= end_ms)
				break;
		} else {
			probe(&e);
			look_over(&e);
			while (qumulo_in_flight(e.qumulo) < qumulo_in_flight_max(e.qumulo) && (job = take(&e))) {
				job->call.arg = &e;
				ask(job, job->step);
			}
		}
		if (qumulo_run(e.qumulo, is_idle(&e) && !atomic_load(&p->stopping) ? POLL_MS : POLL_OPEN_MS) == 0)
			continue;
		if (!failed)
			pusher_log(p, PUSHER_ERROR, "push: the HTTP library failed, out of memory perhaps; trying again every second");
		failed = true;
		usleep(POLL_MS * 1000);
	}
	pthread_mutex_lock(&p->lock);
	return_queue_locked(p);
	p->in_flight = 0;
	pthread_mutex_unlock(&p->lock);
	return NULL;
}
