/* What writers and changes of names mean for a file: its copies are stale, its job is over, or it goes to tape again. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mockarchive/robot_private.h"

/* ---- writers, names ---- */

void robot_closed_locked(struct archive *a, struct file *f)
{
	if (f->size_bytes == 0 || a->set.archive_when != WHEN_CLOSE || f->gone)
		return;
	if (a->set.archive_idle_ns > 0)
		release_plan_event_locked(a, f, DUE_FILE_ARCHIVE, clock_after(clock_now_locked(a), a->set.archive_idle_ns));
	else
		(void)robot_archive_locked(a, f);	/* its state says what came of it */
}

static void make_stale_locked(struct archive *a, struct file *f)
{
	f->version++;
	f->has_checksum = false;
	for (int i = 0; i < ARCHIVE_COPIES; i++)
		if (f->copy[i] == ARCHIVE_COPY_GOOD)
			f->copy[i] = ARCHIVE_COPY_STALE;
}

void robot_opened_locked(struct archive *a, struct file *f, bool writer, bool truncated)
{
	if (!writer) {
		f->nreaders++;
		return;
	}
	if (f->job)
		job_drop_locked(a, f);
	f->event = 0;
	f->evict_early = false;		/* the release that it was for is not going to be */
	if (f->offline && truncated) {	/* whoever wants to keep some of it had to wait for the recall */
		make_stale_locked(a, f);
		f->stub_bytes = 0;
		f->flag_final = false;
		file_resize_locked(a, f, 0);
		file_set_state_locked(a, f, ARCHIVE_WRITING);	/* its record must not say "offline" when data comes */
		call_wake_file_locked(a, f->id, 0);
	}
	f->nwriters++;
	/* Its record stays as it is: writing it would look like a change of the file to who closes it. */
	if (f->base != ARCHIVE_WRITING && !f->offline)
		file_set_state_locked(a, f, ARCHIVE_WRITING);
}

static void forget_tape_locked(struct archive *a, struct file *f)
{
	if (*f->tape_name && f->copy[COPY_TAPE] != ARCHIVE_COPY_LOST)
		tape_remove(a, f->tape_name);
	if (f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD)
		a->tape_bytes -= f->size_bytes < a->tape_bytes ? f->size_bytes : a->tape_bytes;
	f->copy[COPY_TAPE] = ARCHIVE_COPY_NONE;
}

static void free_gone_locked(struct archive *a, struct file *f)
{
	if (!f->gone || f->nwriters > 0 || f->nreaders > 0)
		return;
	if (f->job)
		job_drop_locked(a, f);
	forget_tape_locked(a, f);
	file_charge_locked(a, f, 0);
	file_drop_locked(a, f);
}

/* What is on disk now, compared with what is on tape. */
static void look_at_data_locked(struct archive *a, struct file *f, bool changed)
{
	struct stat st;
	int64_t mtime_ns;
	int fd = file_open_locked(a, f, O_PATH);

	if (fd < 0 || fstat(fd, &st) < 0) {
		if (fd >= 0)
			close(fd);
		return;		/* its name is about to go */
	}
	close(fd);
	mtime_ns = st.st_mtim.tv_sec * ARCHIVE_NS + st.st_mtim.tv_nsec;
	if (!changed && f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD && f->size_bytes == (uint64_t)st.st_size && f->mtime_ns == mtime_ns) {
		file_set_state_locked(a, f, ARCHIVE_DUAL);
		robot_plan_release_locked(a, f);
		return;
	}
	make_stale_locked(a, f);
	file_flag_locked(a, f, 0, false);
	file_resize_locked(a, f, st.st_size);
	f->mtime_ns = mtime_ns;
	f->ctime_ns = st.st_ctim.tv_sec * ARCHIVE_NS + st.st_ctim.tv_nsec;
	file_set_state_locked(a, f, ARCHIVE_RESIDENT);
	robot_closed_locked(a, f);
	release_relieve_locked(a);
}

void robot_released_locked(struct archive *a, struct file *f, bool writer, bool changed)
{
	if (!writer) {
		f->nreaders--;
	} else {
		f->nwriters--;
		f->dirty |= changed;
		if (f->closing > 0)
			f->closing--;
		pthread_cond_broadcast(&a->changed);
		if (f->nwriters == 0 && !f->gone) {
			changed = f->dirty;
			f->dirty = false;
			look_at_data_locked(a, f, changed);
		}
	}
	free_gone_locked(a, f);
}

void robot_modified_locked(struct archive *a, struct file *f)
{
	if (f->nwriters > 0) {
		int fd = file_open_locked(a, f, O_PATH);
		struct stat st;

		f->dirty = true;
		if (fd >= 0 && fstat(fd, &st) == 0)
			file_charge_locked(a, f, st.st_size);
		if (fd >= 0)
			close(fd);
		return;
	}
	if (f->job)
		job_drop_locked(a, f);
	if (f->offline) {
		f->stub_bytes = 0;
		f->size_bytes = 0;
		f->flag_final = false;
	}
	look_at_data_locked(a, f, true);
	call_wake_file_locked(a, f->id, 0);
}

void robot_gone_locked(struct archive *a, struct file *f)
{
	bool needed;

	file_seize_locked(a, f);
	/* Who has it open reads it, as of any deleted file: what is on tape only stays there until the last close, and a recall goes on. */
	needed = f->offline && f->nreaders > 0;
	if (f->job && !needed)
		job_drop_locked(a, f);
	f->gone = true;
	f->event = 0;
	f->evict_early = false;		/* the release that it was for is not going to be */
	/* The replica's name is free from here on: what it alone has goes to tape. */
	if (needed && f->copy[COPY_TAPE] != ARCHIVE_COPY_GOOD && f->copy[COPY_REPLICA] == ARCHIVE_COPY_GOOD && a->set.recall_any &&
	    *f->tape_name && tape_from_replica(a, f->path, f->tape_name) == 0) {
		f->copy[COPY_TAPE] = ARCHIVE_COPY_GOOD;
		a->tape_bytes += f->size_bytes;
	}
	if (!needed)
		forget_tape_locked(a, f);
	if (f->copy[COPY_REPLICA] == ARCHIVE_COPY_GOOD || f->copy[COPY_REPLICA] == ARCHIVE_COPY_STALE)
		replica_remove(a, f->path);
	f->copy[COPY_REPLICA] = ARCHIVE_COPY_NONE;
	history_note(a, ARCHIVE_EVENT_NAME, f->id, f->path, 0, "removed");
	call_wake_file_locked(a, f->id, needed ? 0 : -EIO);
	free_gone_locked(a, f);
	file_unseize_locked(a, f);
}
