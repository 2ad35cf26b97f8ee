/* The sticky bits, and what rules say of a job. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mockarchive/robot_private.h"

const char *volume_name(unsigned volume, char ret[16])
{
	if (volume)
		snprintf(ret, 16, "VOL%03u", volume % 1000000);
	else
		*ret = '\0';
	return ret;
}

/* ---- faults ---- */

void job_ask_locked(struct archive *a, const struct file *f, enum fault_point point, unsigned can, enum fault_copy copy,
		       struct fault_verdict *ret)
{
	struct fault_query query = { .point = point, .can = can, .path = f->path, .copy = copy, .size_bytes = f->size_bytes,
				     .now_ns = clock_now_locked(a) };

	faults_ask(a->faults, &query, ret);
	if (ret->did & FAULT_DO_CRASH)
		kill(getpid(), SIGKILL);
}

void job_lose_locked(struct archive *a, struct file *f, const struct fault_verdict *v)
{
	if (!(v->did & FAULT_DO_LOSE) || f->copy[COPY_TAPE] != ARCHIVE_COPY_GOOD)
		return;
	tape_remove(a, f->tape_name);
	f->copy[COPY_TAPE] = ARCHIVE_COPY_LOST;
	history_note(a, ARCHIVE_EVENT_COPY, f->id, f->path, 0, "tape lost");
}

/* ---- flags ---- */

void file_flag_locked(struct archive *a, struct file *f, int copy, bool on)
{
	bool *flag = copy == COPY_REPLICA ? &f->flag_replica : &f->flag_final;

	if (*flag == on)
		return;
	if (copy == COPY_REPLICA && (f->gone || replica_chmod(a, f->path, on) < 0))
		return;		/* it has none */
	*flag = on;
	file_save_locked(a, f);
	history_note(a, ARCHIVE_EVENT_FLAG, f->id, f->path, 0, "%s %s", copy == COPY_REPLICA ? "replica" : "final", on ? "set" : "cleared");
}

void flag_now_locked(struct archive *a, struct file *f, int copy, bool on)
{
	int wanted = copy == COPY_REPLICA ? FLAG_REPLICA : FLAG_FINAL;

	if (on && !(a->set.flag & wanted))
		return;
	if (f->flagging[copy].what == FAULT_FLAG_WRONG_COPY)
		copy = !copy;
	file_flag_locked(a, f, copy, on);
}

/* What a fault says about the flags of this job; one that comes early does so now. */
void flag_plan_locked(struct archive *a, struct file *f, bool on)
{
	struct fault_verdict v;

	for (int copy = 0; copy < 2; copy++) {
		job_ask_locked(a, f, on ? FAULT_ARCHIVE_FLAG : FAULT_RECALL_FLAG, FAULT_DO_FLAG | FAULT_DO_DELAY | FAULT_DO_CRASH,
			   copy == COPY_REPLICA ? FAULT_COPY_REPLICA : FAULT_COPY_FINAL, &v);
		f->flagging[copy].what = v.did & FAULT_DO_FLAG ? v.flag : FAULT_FLAG_NONE;
		f->flagging[copy].delay_ns = v.did & FAULT_DO_DELAY ? v.delay_ns : 0;
		if (f->flagging[copy].what == FAULT_FLAG_EARLY)
			flag_now_locked(a, f, copy, on);
	}
}

void flag_set_locked(struct archive *a, struct file *f, int copy, bool on)
{
	if (f->flagging[copy].what == (on ? FAULT_FLAG_NEVER_SET : FAULT_FLAG_NEVER_CLEARED))
		return;
	if (f->flagging[copy].delay_ns > 0)
		clock_add_locked(a, clock_after(a->cursor_ns, f->flagging[copy].delay_ns), DUE_FLAG, copy | (on ? 2 : 0), f->id);
	else
		flag_now_locked(a, f, copy, on);
}
