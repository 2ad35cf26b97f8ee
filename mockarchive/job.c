/* Jobs: queued, on a drive, phase by phase. At most one a file; freed by who ends it, so who gives the lock up meanwhile looks at its
 * serial number afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/robot_private.h"

/* ---- the queue ---- */

void job_wake_locked(struct archive *a)
{
	a->dispatch_wanted = true;
	a->robot_idle = false;
	pthread_cond_signal(&a->work);
}

void job_enqueue_locked(struct archive *a, struct job *j, bool front)
{
	j->phase = JOB_QUEUED;
	j->drive = -1;
	j->ripe = false;
	j->serial = serial_locked(a);
	j->due_ns = ARCHIVE_NEVER;
	j->next = front ? a->queue_head[j->kind] : NULL;
	if (front) {
		a->queue_head[j->kind] = j;
		if (!j->next)
			a->queue_tail[j->kind] = &j->next;
	} else {
		*a->queue_tail[j->kind] = j;
		a->queue_tail[j->kind] = &j->next;
	}
	a->nqueued[j->kind]++;
	job_wake_locked(a);
}

static void dequeue_locked(struct archive *a, struct job *j)
{
	struct job **p = &a->queue_head[j->kind];

	while (*p && *p != j)
		p = &(*p)->next;
	if (!*p)
		return;
	*p = j->next;
	if (a->queue_tail[j->kind] == &j->next)
		a->queue_tail[j->kind] = p;
	a->nqueued[j->kind]--;
}

void job_leave_drive_locked(struct archive *a, struct job *j)
{
	if (j->drive >= 0) {
		a->drives[j->drive].job = NULL;
		j->drive = -1;
	}
	job_wake_locked(a);
}

/* Ends with it; the file has none then. */
void job_drop_locked(struct archive *a, struct file *f)
{
	struct job *j = f->job;

	if (!j)
		return;
	if (j->phase == JOB_QUEUED)
		dequeue_locked(a, j);
	job_leave_drive_locked(a, j);
	f->job = NULL;
	free(j);
}

static enum archive_state stub_state(const struct file *f)
{
	return f->stub_bytes ? ARCHIVE_PARTIAL : ARCHIVE_RELEASED;
}

void robot_cancel_locked(struct archive *a, struct file *f)
{
	bool recall = f->job && f->job->kind == JOB_RECALL;

	if (!f->job)
		return;
	job_drop_locked(a, f);
	f->pin_wanted_ns = 0;
	if (!f->gone)
		file_set_state_locked(a, f, recall ? stub_state(f) : ARCHIVE_RESIDENT);
	if (recall)
		call_wake_file_locked(a, f->id, -a->set.read_errno);
}

void job_fail_locked(struct archive *a, struct file *f, int error, const char *what)
{
	bool recall = f->job->kind == JOB_RECALL;
	char text[96];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
	job_drop_locked(a, f);
	f->pin_wanted_ns = 0;
	file_fail_locked(a, f, recall ? ARCHIVE_FAILED_RECALL : ARCHIVE_FAILED_ARCHIVE, error, text);
	if (recall)
		call_wake_file_locked(a, f->id, error);
}

/* ---- a job, phase by phase ---- */

void job_phase_locked(struct archive *a, struct job *j, int phase, int64_t takes_ns)
{
	j->phase = phase;
	j->ripe = false;
	j->serial = serial_locked(a);
	j->due_ns = clock_after(a->cursor_ns, takes_ns);
	clock_add_locked(a, j->due_ns, DUE_JOB, j->serial, j->file->id);
}

/* True: a fault holds or ends it. */
static bool held_locked(struct archive *a, struct job *j, const struct fault_verdict *v, int resume, int64_t takes_ns, const char *what)
{
	if (v->did & FAULT_DO_HANG) {
		j->phase = JOB_HUNG;
		j->serial = serial_locked(a);
		j->due_ns = ARCHIVE_NEVER;
		j->hang_number = v->hang_number;
		j->resume = resume;
		j->moving_ns = takes_ns;
		clock_look_later_locked(a);
		return true;
	}
	if (v->did & FAULT_DO_ERRNO) {
		job_fail_locked(a, j->file, v->error, what);
		return true;
	}
	return false;
}

static struct job *new_job_locked(struct archive *a, struct file *f, int kind)
{
	struct job *j = calloc(1, sizeof(*j));

	if (j) {
		j->kind = kind;
		j->file = f;
		j->drive = -1;
		f->job = j;
		f->event = 0;
	}
	return j;
}

/* Accepted; into the queue now, later, or not at all. */
static int queue_job_locked(struct archive *a, struct job *j)
{
	bool recall = j->kind == JOB_RECALL;
	struct file *f = j->file;
	struct fault_verdict v;

	job_ask_locked(a, f, recall ? FAULT_RECALL_QUEUE : FAULT_ARCHIVE_QUEUE, FAULT_DO_ERRNO | FAULT_DO_DELAY | FAULT_DO_HANG | FAULT_DO_CRASH,
		   FAULT_COPY_FINAL, &v);
	flag_plan_locked(a, f, !recall);
	if (held_locked(a, j, &v, JOB_QUEUED, 0, "not accepted"))
		return v.did & FAULT_DO_HANG ? 0 : v.error;
	if (v.did & FAULT_DO_DELAY)
		job_phase_locked(a, j, JOB_DELAYED, v.delay_ns);
	else
		job_enqueue_locked(a, j, false);
	return 0;
}

static bool queue_is_full(const struct archive *a)
{
	return a->set.queue_limit && a->nqueued[0] + a->nqueued[1] >= a->set.queue_limit;
}

int robot_archive_locked(struct archive *a, struct file *f)
{
	if (f->gone)		/* a job would outlive it */
		return -ENOENT;
	if (f->offline)
		return f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD ? 0 : -EROFS;
	if (f->job || f->size_bytes == 0 || (f->base == ARCHIVE_DUAL && f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD))
		return 0;
	if (f->nwriters > 0)
		return -EBUSY;
	if (queue_is_full(a)) {
		file_fail_locked(a, f, ARCHIVE_FAILED_ARCHIVE, -EAGAIN, "the queue is full");
		return -EAGAIN;
	}
	if (!new_job_locked(a, f, JOB_ARCHIVE))
		return -ENOMEM;
	file_set_state_locked(a, f, ARCHIVE_ARCHIVING);
	return queue_job_locked(a, f->job);
}

void job_pin_locked(struct archive *a, struct file *f, int64_t pin_ns)
{
	int64_t until_ns = clock_after(clock_now_locked(a), pin_ns);

	if (pin_ns <= 0)
		return;
	f->evict_counter++;
	if (until_ns > f->pin_until_ns)
		f->pin_until_ns = until_ns;
	file_save_locked(a, f);
	history_note(a, ARCHIVE_EVENT_PIN, f->id, f->path, 0, "pinned for %gs", pin_ns / 1e9);
}

int robot_recall_locked(struct archive *a, struct file *f, int64_t pin_ns, const char *request_id)
{
	if (f->gone && f->nreaders == 0)
		return -ENOENT;
	if (!f->offline) {
		job_pin_locked(a, f, pin_ns);
		return 0;
	}
	if (f->job) {
		if (pin_ns > f->pin_wanted_ns)
			f->pin_wanted_ns = pin_ns;
		if (request_id && *request_id)
			snprintf(f->request_id, sizeof(f->request_id), "%s", request_id);
		return 0;
	}
	switch (archive_shown_locked(a, f)) {
	case ARCHIVE_LOST:
	case ARCHIVE_DAMAGED:
		return -EIO;
	case ARCHIVE_UNAVAILABLE:
		return -ENODATA;
	default:
		break;
	}
	if (queue_is_full(a))
		return -EAGAIN;
	if (!new_job_locked(a, f, JOB_RECALL))
		return -ENOMEM;
	f->pin_wanted_ns = pin_ns;
	f->patience_ns = 0;
	f->request_ns = clock_now_locked(a);
	if (request_id && *request_id)
		snprintf(f->request_id, sizeof(f->request_id), "%s", request_id);
	else
		snprintf(f->request_id, sizeof(f->request_id), "recall-%llu", (unsigned long long)serial_locked(a));
	file_set_state_locked(a, f, ARCHIVE_RECALLING);
	return queue_job_locked(a, f->job);
}

void job_move_locked(struct archive *a, struct job *j)
{
	bool recall = j->kind == JOB_RECALL;
	struct file *f = j->file;
	int64_t takes_ns = recall ? a->set.recall_delay_ns : a->set.archive_delay_ns;
	double rate = a->set.rate_bytes_s;

	job_ask_locked(a, f, recall ? FAULT_RECALL_COPY : FAULT_ARCHIVE_COPY,
		   FAULT_DO_ERRNO | FAULT_DO_DELAY | FAULT_DO_RATE | FAULT_DO_HANG | FAULT_DO_CORRUPT | FAULT_DO_CRASH | FAULT_DO_LOSE,
		   FAULT_COPY_FINAL, &j->moved);
	if (j->moved.did & FAULT_DO_RATE)
		rate = j->moved.rate_bytes_s;
	if (j->moved.did & FAULT_DO_DELAY)
		takes_ns = clock_after(takes_ns, j->moved.delay_ns);
	if (rate > 0)
		takes_ns = clock_after(takes_ns, f->size_bytes / rate < 9e9 ? f->size_bytes / rate * 1e9 : ARCHIVE_NEVER / 2);
	if (!held_locked(a, j, &j->moved, JOB_MOVING, takes_ns, recall ? "recall" : "copy to tape"))
		job_phase_locked(a, j, JOB_MOVING, takes_ns);
}

unsigned job_volume_locked(struct archive *a, const struct job *j)
{
	if (j->kind == JOB_RECALL)
		return j->file->volume;
	return 1 + a->written / (a->set.tape_files > 0 ? a->set.tape_files : 1);
}

static void begin_mounting_locked(struct archive *a, struct job *j, int drive)
{
	bool recall = j->kind == JOB_RECALL;
	unsigned volume = job_volume_locked(a, j);
	struct fault_verdict v;
	int64_t takes_ns = a->set.seek_ns;

	j->drive = drive;
	if (drive >= 0) {
		struct drive *d = &a->drives[drive];

		if (d->volume != volume)
			takes_ns += (d->volume ? a->set.rewind_ns : 0) + a->set.mount_ns;
		d->volume = volume;
		d->job = j;
		d->jobs++;
	} else {
		takes_ns += a->set.mount_ns;
	}
	job_ask_locked(a, j->file, recall ? FAULT_RECALL_MOUNT : FAULT_ARCHIVE_MOUNT, FAULT_DO_ERRNO | FAULT_DO_DELAY | FAULT_DO_HANG | FAULT_DO_CRASH,
		   FAULT_COPY_FINAL, &v);
	if (v.did & FAULT_DO_DELAY)
		takes_ns = clock_after(takes_ns, v.delay_ns);
	if (!held_locked(a, j, &v, JOB_MOUNTING, takes_ns, "mount of the tape"))
		job_phase_locked(a, j, JOB_MOUNTING, takes_ns);
}

/* The drive for it: one that has its tape, else any; -1: none is free, -2: none is needed. */
static int free_drive_locked(struct archive *a, const struct job *j)
{
	int any = -1;

	if (a->set.drives == 0)
		return -2;
	for (int i = 0; i < a->set.drives; i++) {
		if (!a->drives[i].up || a->drives[i].job)
			continue;
		if (a->drives[i].volume == job_volume_locked(a, j))
			return i;
		if (any < 0 || !a->drives[i].volume)
			any = i;
	}
	return any;
}

void robot_dispatch_locked(struct archive *a)
{
	/* Somebody waits for a recall, nobody for an archive run. */
	for (int kind = JOB_RECALL; kind >= JOB_ARCHIVE; kind--) {
		struct job *j, *next;

		for (j = a->queue_head[kind]; j && a->library_up; j = next) {
			int drive = free_drive_locked(a, j);

			next = j->next;
			if (drive == -1)
				return;
			if (kind == JOB_RECALL && j->file->unavailable)
				continue;
			dequeue_locked(a, j);
			begin_mounting_locked(a, j, drive);
		}
	}
}
