/* What the files of the robot share: flag.c, release.c, job.c, finish.c, writer.c and robot.c, which has the thread. All with
 * archive.lock held; functions that move data give it up meanwhile, with the file seized. */
#ifndef WORMFS_ROBOT_PRIVATE_H
#define WORMFS_ROBOT_PRIVATE_H

#include "mockarchive/archive_private.h"

/* ---- flag.c ---- */

/* What the rules say at this point of a job; crashes if they say so. */
void job_ask_locked(struct archive *a, const struct file *f, enum fault_point point, unsigned can, enum fault_copy copy,
		    struct fault_verdict *ret);
void job_lose_locked(struct archive *a, struct file *f, const struct fault_verdict *v);
void flag_now_locked(struct archive *a, struct file *f, int copy, bool on);
/* What a fault says about the flags of this job; one that comes early does so now. */
void flag_plan_locked(struct archive *a, struct file *f, bool on);
void flag_set_locked(struct archive *a, struct file *f, int copy, bool on);

/* ---- release.c ---- */

void *release_dropper_thread(void *arg);
void release_plan_event_locked(struct archive *a, struct file *f, enum due_type type, int64_t due_ns);
void release_relieve_locked(struct archive *a);
void release_due_locked(struct archive *a, struct file *f);

/* ---- job.c ---- */

void job_wake_locked(struct archive *a);	/* the robot: a drive or a job is there */
void job_enqueue_locked(struct archive *a, struct job *j, bool front);
void job_leave_drive_locked(struct archive *a, struct job *j);
void job_drop_locked(struct archive *a, struct file *f);
void job_fail_locked(struct archive *a, struct file *f, int error, const char *what);
void job_phase_locked(struct archive *a, struct job *j, int phase, int64_t takes_ns);
void job_pin_locked(struct archive *a, struct file *f, int64_t pin_ns);
unsigned job_volume_locked(struct archive *a, const struct job *j);
void job_move_locked(struct archive *a, struct job *j);	/* its tape is mounted */

/* ---- finish.c ---- */

void finish_archive_locked(struct archive *a, struct job *j);
void finish_recall_locked(struct archive *a, struct job *j);
void finish_replica_locked(struct archive *a, struct file *f, unsigned version);	/* one that comes late */

#endif
