/* The ends of jobs: the data moves, without the lock, and then the file is where it was to go; or somebody was faster. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/log.h"
#include "mockarchive/robot_private.h"

#define SEARCHES_MAX 200
#define SEARCH_PAUSE_US 2000
#define ROOM_AGAIN_NS (60 * ARCHIVE_NS)	/* a recall that waits for room in the disk cache keeps its drive and looks again */

/* ---- the end of an archive job ---- */

static bool is_elsewhere(int r)
{
	return r == -ESTALE || r == -ENOENT;
}

/* The file is not under its name: its rename is told in a moment, or is told by now. Once more, from the queue. False: often enough, or
 * somebody ended the job meanwhile. */
static bool search_again_locked(struct archive *a, struct file *f, uint64_t serial)
{
	pthread_mutex_unlock(&a->lock);
	usleep(SEARCH_PAUSE_US);
	pthread_mutex_lock(&a->lock);
	if (!f->job || f->job->serial != serial || f->gone)
		return true;
	if (++f->job->searches > SEARCHES_MAX)
		return false;
	job_leave_drive_locked(a, f->job);
	job_enqueue_locked(a, f->job, true);
	return true;
}

/* Without the lock. */
static int replicate(struct archive *a, uint64_t id, const char *path, const char *from_tape, bool flagged, const struct fault_verdict *v)
{
	if (v->did & FAULT_DO_ERRNO)
		return v->error;
	if (v->did & FAULT_DO_REPLICA && v->replica == FAULT_REPLICA_SKIP)
		return -ECANCELED;
	return tape_replicate(a, id, path, from_tape, flagged, v);
}

/* The replica was made, or not; under the name that the file has now. */
static void replicated_locked(struct archive *a, struct file *f, int r)
{
	if (r == 0)
		r = replica_place(a, f->id, f->gone ? NULL : f->path);
	if (r == 0) {
		f->copy[COPY_REPLICA] = ARCHIVE_COPY_GOOD;
	} else if (r != -ECANCELED) {
		log_warning("cannot make the replica of '%s': %s", f->path, strerror(-r));
		history_note(a, ARCHIVE_EVENT_COPY, f->id, f->path, r, "replica failed");
	}
}

void finish_archive_locked(struct archive *a, struct job *j)
{
	struct fault_verdict moved = j->moved, verify, replica;
	char name[ARCHIVE_TAPE_NAME_BYTES], *path = strdup(j->file->path);
	unsigned version = j->file->version, volume = job_volume_locked(a, j);
	struct tape_result result = { 0 };
	bool want_replica = a->set.replica, late, check = a->set.verify;
	struct file *f = j->file;
	uint64_t serial = j->serial;
	int r, r2 = -ECANCELED;

	snprintf(name, sizeof(name), "%llx.%u.%llx", (unsigned long long)f->id, version, (unsigned long long)serial_locked(a));
	job_ask_locked(a, f, FAULT_ARCHIVE_VERIFY, FAULT_DO_ERRNO | FAULT_DO_CRASH, FAULT_COPY_FINAL, &verify);
	memset(&replica, 0, sizeof(replica));
	if (want_replica)
		job_ask_locked(a, f, FAULT_ARCHIVE_COPY, FAULT_DO_ERRNO | FAULT_DO_DELAY | FAULT_DO_REPLICA | FAULT_DO_CORRUPT, FAULT_COPY_REPLICA, &replica);
	late = want_replica && (a->set.replica_delay_ns > 0 || replica.did & FAULT_DO_DELAY);
	file_seize_locked(a, f);
	(void)file_wait_for_uses_locked(a, f);	/* else tape_write() sees that the time is another one */
	pthread_mutex_unlock(&a->lock);
	r = path ? tape_write(a, f->id, path, name, &moved, &result) : -ENOMEM;
	if (r == 0 && verify.did & FAULT_DO_ERRNO)
		r = verify.error;
	else if (r == 0 && check)
		r = tape_verify(a, name, &result);
	if (r == 0 && want_replica && !late)
		r2 = replicate(a, f->id, path, NULL, false, &replica);
	pthread_mutex_lock(&a->lock);
	if (!f->job || f->job->serial != serial || f->gone || f->version != version || f->nwriters > 0) {
		tape_remove(a, name);		/* somebody was faster: it is another file now */
		if (r2 == 0)
			(void)replica_place(a, f->id, NULL);
	} else if ((is_elsewhere(r) || (r == 0 && is_elsewhere(r2))) && search_again_locked(a, f, serial)) {
		if (r == 0)	/* renamed before the replica was made */
			tape_remove(a, name);
	} else if (r < 0) {
		tape_remove(a, name);
		job_fail_locked(a, f, r, "copy to tape");
	} else {
		if (j->drive >= 0)
			a->drives[j->drive].bytes += result.size_bytes;
		if (f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD || f->copy[COPY_TAPE] == ARCHIVE_COPY_STALE)
			tape_remove(a, f->tape_name);
		snprintf(f->tape_name, sizeof(f->tape_name), "%s", name);
		f->volume = volume;
		f->copy[COPY_TAPE] = ARCHIVE_COPY_GOOD;
		file_resize_locked(a, f, result.size_bytes);
		f->mtime_ns = result.mtime_ns;
		f->adler32 = result.adler32;
		memcpy(f->sha256, result.sha256, sizeof(f->sha256));
		f->has_checksum = true;
		f->archived_ns = a->cursor_ns;
		a->written++;
		a->tape_bytes += result.size_bytes;
		a->count.archived++;
		a->count.bytes_archived += result.size_bytes;
		if (want_replica && !late) {
			replicated_locked(a, f, r2);
			f->flag_replica = false;	/* a new file */
		}
		job_drop_locked(a, f);
		job_lose_locked(a, f, &moved);
		flag_set_locked(a, f, COPY_REPLICA, true);
		file_set_state_locked(a, f, ARCHIVE_DUAL);
		if (late)
			clock_add_locked(a, clock_after(a->cursor_ns, a->set.replica_delay_ns + (replica.did & FAULT_DO_DELAY ? replica.delay_ns : 0)),
					 DUE_REPLICA, version, f->id);
		robot_plan_release_locked(a, f);
		release_relieve_locked(a);
	}
	free(path);
	file_unseize_locked(a, f);
}

void finish_replica_locked(struct archive *a, struct file *f, unsigned version)
{
	struct fault_verdict v = { 0 };
	char *path = strdup(f->path), name[ARCHIVE_TAPE_NAME_BYTES];
	int r;

	if (path && !f->gone && f->version == version && f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD) {
		snprintf(name, sizeof(name), "%s", f->tape_name);
		file_seize_locked(a, f);
		pthread_mutex_unlock(&a->lock);
		r = tape_replicate(a, f->id, path, name, false, &v);
		pthread_mutex_lock(&a->lock);
		if (is_elsewhere(r) && !f->gone) {	/* renamed in this moment */
			clock_add_locked(a, clock_after(a->cursor_ns, ARCHIVE_NS), DUE_REPLICA, version, f->id);
			file_unseize_locked(a, f);
			free(path);
			return;
		}
		replicated_locked(a, f, r);
		f->flag_replica = false;
		flag_set_locked(a, f, COPY_REPLICA, true);
		file_save_locked(a, f);
		file_unseize_locked(a, f);
	}
	free(path);
}

/* ---- the end of a recall ---- */

void finish_recall_locked(struct archive *a, struct job *j)
{
	bool tape = j->file->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD, unnamed;
	struct fault_verdict moved = j->moved, evict;
	struct file *f = j->file;
	char *path = strdup(f->path), *name = NULL;
	int64_t mtime_ns;
	uint64_t serial = j->serial;
	struct stat st;
	int fd, r;

	r = f->size_bytes > f->disk_bytes ? robot_room_locked(a, f->size_bytes - f->disk_bytes) : 0;
	if (r < 0) {
		free(path);
		if (r == -EAGAIN)	/* behind the releases that are due now */
			job_phase_locked(a, j, JOB_MOVING, 0);
		else if (a->set.cache_full == FULL_WAIT)
			job_phase_locked(a, j, JOB_MOVING, ROOM_AGAIN_NS);
		else
			job_fail_locked(a, f, r, "no room in the disk cache");
		return;
	}
	file_seize_locked(a, f);
	(void)file_wait_for_uses_locked(a, f);	/* else a time that is being set now is set to what it was */
	if (!f->job || f->job->serial != serial) {
		free(path);
		file_unseize_locked(a, f);
		return;
	}
	file_charge_locked(a, f, f->size_bytes);
	unnamed = f->gone;
	mtime_ns = f->mtime_ns;
	if (asprintf(&name, tape ? "%s" : "/%s", tape ? f->tape_name : f->path) < 0)
		name = NULL;
	pthread_mutex_unlock(&a->lock);
	r = path && name ? tape_read(a, f->id, unnamed ? NULL : path, name, mtime_ns, &moved) : -ENOMEM;
	pthread_mutex_lock(&a->lock);
	free(name);
	if (!f->job || f->job->serial != serial) {
		if (f->offline)
			file_charge_locked(a, f, 0);
		file_unseize_locked(a, f);
		free(path);
		return;
	}
	if (is_elsewhere(r) && search_again_locked(a, f, serial)) {
		file_unseize_locked(a, f);
		free(path);
		return;
	}
	free(path);
	if (r < 0) {
		if (r == -EIO && tape)		/* what was on tape is not */
			f->copy[COPY_TAPE] = ARCHIVE_COPY_LOST;
		job_fail_locked(a, f, r, "recall");
		file_unseize_locked(a, f);
		return;
	}
	fd = file_open_locked(a, f, O_PATH);
	if (fd >= 0 && fstat(fd, &st) == 0)
		f->size_bytes = st.st_size;	/* offline: not counted as on disk yet */
	if (fd >= 0)
		close(fd);
	if (j->drive >= 0)
		a->drives[j->drive].bytes += f->size_bytes;
	a->count.recalled++;
	a->count.bytes_recalled += f->size_bytes;
	f->recalls++;
	f->recalled_ns = a->cursor_ns;
	f->stub_bytes = 0;
	job_drop_locked(a, f);
	flag_set_locked(a, f, 0, false);
	flag_set_locked(a, f, COPY_REPLICA, false);
	job_lose_locked(a, f, &moved);
	file_set_state_locked(a, f, ARCHIVE_DUAL);
	job_pin_locked(a, f, f->pin_wanted_ns);
	f->pin_wanted_ns = 0;
	call_wake_file_locked(a, f->id, 0);	/* who waited counts as reading it from here on */
	job_ask_locked(a, f, FAULT_EVICT, FAULT_DO_EVICT | FAULT_DO_DELAY, FAULT_COPY_FINAL, &evict);
	if (evict.did & FAULT_DO_EVICT) {
		f->evict_early = true;
		release_plan_event_locked(a, f, DUE_FILE_RELEASE, clock_after(a->cursor_ns, evict.did & FAULT_DO_DELAY ? evict.delay_ns : 0));
	} else {
		robot_plan_release_locked(a, f);
	}
	release_relieve_locked(a);
	file_unseize_locked(a, f);
}
