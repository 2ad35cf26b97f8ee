/* The robot: the queue, the drives, and everything that comes with time. One thread does it, one event after the other, in
 * the order of archive time; moving data takes no archive time but what was planned for it. While time flows by itself each drive moves its
 * data in a thread of its own (its mover), for a big file must not keep the other drives waiting; while somebody moves the clock the
 * robot does that too, so that the order is always the same.
 *
 *   last close -> [archive.idle] -> queued -> a drive: rewind, mount, seek -> transfer and archive.delay -> DUAL
 *              -> [release.delay] -> RELEASED;   a recall likewise, in the other direction */
#include <errno.h>
#include <pthread.h>

#include "lockstore/thread.h"

#include "mockarchive/robot_private.h"

/* ---- drives ---- */

int robot_drive_set_locked(struct archive *a, int number, bool up)
{
	struct drive *d;
	struct job *j;

	if (number < 0 || number >= ARCHIVE_DRIVES_MAX || number >= a->set.drives)
		return -ENOENT;
	d = &a->drives[number];
	j = d->job;
	d->up = up;
	if (!up && j && !j->file->busy) {
		job_leave_drive_locked(a, j);
		job_enqueue_locked(a, j, true);
	}
	job_wake_locked(a);
	return 0;
}

void robot_look_again_locked(struct archive *a)
{
	for (size_t i = 0; i < ARCHIVE_HASH; i++)
		for (struct file *f = a->hash[i]; f; f = f->hash_next) {
			struct job *j = f->job;

			if (!j || j->phase != JOB_HUNG)
				continue;
			if (faults_has_number(a->faults, j->hang_number, clock_now_locked(a)))
				clock_look_later_locked(a);
			else if (j->resume == JOB_QUEUED)
				job_enqueue_locked(a, j, false);
			else
				job_phase_locked(a, j, j->resume, j->moving_ns);
		}
}

/* ---- the movers ---- */

bool robot_is_moving_locked(const struct archive *a)
{
	for (int i = 0; i < ARCHIVE_DRIVES_MAX; i++)
		if (a->drives[i].moving || (a->drives[i].job && a->drives[i].job->ripe))
			return true;
	return false;
}

static void job_finish_locked(struct archive *a, struct job *j)
{
	if (j->kind == JOB_ARCHIVE)
		finish_archive_locked(a, j);
	else
		finish_recall_locked(a, j);
}

static void *mover_thread(void *arg)
{
	struct drive *d = arg;
	struct archive *a = d->archive;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping) {
		struct job *j = d->job;
		struct file *f;

		if (!j || !j->ripe) {
			pthread_cond_wait(&a->moves, &a->lock);
			continue;
		}
		f = j->file;
		file_ref_locked(f);
		j->ripe = false;
		d->moving = true;
		job_finish_locked(a, j);
		d->moving = false;
		file_unref_locked(a, f);
		a->robot_idle = false;
		pthread_cond_signal(&a->work);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* False: the robot has to do it itself. */
static bool hand_over_locked(struct archive *a, struct job *j)
{
	struct drive *d = j->drive >= 0 ? &a->drives[j->drive] : NULL;

	if (!d || clock_is_steered_locked(a))
		return false;
	if (!d->mover_running) {
		d->archive = a;
		d->mover_running = thread_start(&d->mover, "drive", mover_thread, d) == 0;
		if (!d->mover_running)
			return false;
	}
	j->ripe = true;
	pthread_cond_broadcast(&a->moves);
	return true;
}

/* ---- the thread ---- */

static void job_due_locked(struct archive *a, struct file *f)
{
	struct job *j = f->job;

	switch (j->phase) {
	case JOB_DELAYED:
		job_enqueue_locked(a, j, false);
		break;
	case JOB_MOUNTING:
		job_move_locked(a, j);
		break;
	case JOB_MOVING:
		if (!hand_over_locked(a, j))
			job_finish_locked(a, j);
		break;
	default:
		break;
	}
}

static void handle_locked(struct archive *a, const struct due *e)
{
	struct file *f = e->file ? file_find_locked(a, e->file) : NULL;

	if (e->type == DUE_CALL) {
		call_due_locked(a, e->serial);
		return;
	}
	if (e->type == DUE_LOOK) {
		a->look_planned = false;
		robot_look_again_locked(a);
		call_look_again_locked(a);
		return;
	}
	if (!f || (f->gone && e->type != DUE_JOB))	/* a recall goes on for who has it open */
		return;
	file_ref_locked(f);
	switch (e->type) {
	case DUE_JOB:
		if (f->job && f->job->serial == e->serial)
			job_due_locked(a, f);
		break;
	case DUE_FILE_ARCHIVE:
		if (f->event == e->serial)
			(void)robot_archive_locked(a, f);	/* its state says what came of it */
		break;
	case DUE_FILE_RELEASE:
		if (f->event == e->serial)
			release_due_locked(a, f);
		break;
	case DUE_FLAG:
		/* Its job is long over: only when nothing else has come since. */
		if (!(e->serial & 2) || f->base == ARCHIVE_DUAL || f->offline)
			flag_now_locked(a, f, e->serial & 1, e->serial & 2);
		break;
	case DUE_REPLICA:
		finish_replica_locked(a, f, e->serial);
		break;
	default:
		break;
	}
	file_unref_locked(a, f);
}

static void *robot_thread(void *arg)
{
	struct archive *a = arg;
	struct due e;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping) {
		if (a->dispatch_wanted) {
			a->dispatch_wanted = false;
			robot_dispatch_locked(a);
		}
		if (clock_next_locked(a, &e))
			handle_locked(a, &e);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

int robot_start(struct archive *a)
{
	int r = thread_start(&a->dropper, "release", release_dropper_thread, a);

	a->dropper_running = r == 0;
	if (r == 0) {
		r = thread_start(&a->robot, "robot", robot_thread, a);
		a->robot_running = r == 0;
	}
	return r;
}

void robot_stop(struct archive *a)
{
	if (a->robot_running)
		pthread_join(a->robot, NULL);
	pthread_mutex_lock(&a->lock);
	pthread_cond_broadcast(&a->moves);
	pthread_mutex_unlock(&a->lock);
	for (int i = 0; i < ARCHIVE_DRIVES_MAX; i++) {		/* nobody makes new ones */
		if (a->drives[i].mover_running)
			pthread_join(a->drives[i].mover, NULL);
		a->drives[i].mover_running = false;
	}
	if (a->dropper_running)
		pthread_join(a->dropper, NULL);
	a->robot_running = a->dropper_running = false;
}
