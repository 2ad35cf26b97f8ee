/* The robot: the queue, the drives, and everything that comes with time. One thread does it, one event after the other, in
 * the order of archive time; moving data takes no archive time but what was planned for it.
 *
 *   last close -> [archive.idle] -> queued -> a drive: rewind, mount, seek -> transfer and archive.delay -> DUAL
 *              -> [release.delay] -> RELEASED;   a recall likewise, in the other direction */
#include <errno.h>
#include <pthread.h>

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
		if (j->kind == JOB_ARCHIVE)
			finish_archive_locked(a, j);
		else
			finish_recall_locked(a, j);
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
	int r = pthread_create(&a->dropper, NULL, release_dropper_thread, a);

	a->dropper_running = r == 0;
	if (r == 0) {
		r = pthread_create(&a->robot, NULL, robot_thread, a);
		a->robot_running = r == 0;
	}
	return -r;
}

void robot_stop(struct archive *a)
{
	if (a->robot_running)
		pthread_join(a->robot, NULL);
	if (a->dropper_running)
		pthread_join(a->dropper, NULL);
	a->robot_running = a->dropper_running = false;
}
