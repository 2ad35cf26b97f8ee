/* What can be asked about the archive as a whole: drives, switches, reset, figures. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mockarchive/ops.h"

/* ---- drives, settings, all of it ---- */

int archive_drives(struct archive *a, int (*fn)(void *arg, const struct archive_drive *drive), void *arg)
{
	int r = 0;

	for (int i = 0; r >= 0; i++) {
		struct archive_drive out = { .number = i, .due_ns = ARCHIVE_NEVER };
		struct drive *d;

		pthread_mutex_lock(&a->lock);
		if (i >= a->set.drives) {
			pthread_mutex_unlock(&a->lock);
			break;
		}
		d = &a->drives[i];
		out.up = d->up;
		out.jobs = d->jobs;
		out.bytes = d->bytes;
		volume_name(d->volume, out.tape);
		if (d->job) {
			out.doing = d->job->kind == JOB_ARCHIVE ? ARCHIVE_DRIVE_ARCHIVING : ARCHIVE_DRIVE_RECALLING;
			snprintf(out.path, sizeof(out.path), "%s", d->job->file->path);
			out.due_ns = d->job->due_ns;
		}
		pthread_mutex_unlock(&a->lock);
		r = fn(arg, &out);
	}
	return r < 0 ? r : 0;
}

int archive_drive_set(struct archive *a, int number, bool up)
{
	int r;

	pthread_mutex_lock(&a->lock);
	r = robot_drive_set_locked(a, number, up);
	if (r == 0)
		history_note(a, ARCHIVE_EVENT_DRIVE, 0, "", 0, "drive %d %s", number, up ? "up" : "down");
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_library_set(struct archive *a, bool up)
{
	pthread_mutex_lock(&a->lock);
	a->library_up = up;
	a->dispatch_wanted = true;
	history_note(a, ARCHIVE_EVENT_DRIVE, 0, "", 0, "library %s", up ? "up" : "down");
	pthread_cond_signal(&a->work);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

bool archive_library_up(struct archive *a)
{
	bool up;

	pthread_mutex_lock(&a->lock);
	up = a->library_up;
	pthread_mutex_unlock(&a->lock);
	return up;
}

/* Something may fit now that did not. */
static void settings_changed_locked(struct archive *a)
{
	a->dispatch_wanted = true;
	pthread_cond_signal(&a->work);
	call_wake_room_locked(a);
}

int archive_set(struct archive *a, const char *key, const char *value, char error[ARCHIVE_ERROR_BYTES])
{
	char text[SETTING_ERROR_BYTES];
	int r;

	pthread_mutex_lock(&a->lock);
	r = settings_set(&a->set, key, value, error ? error : text);
	if (r == 0) {
		history_note(a, ARCHIVE_EVENT_SETTING, 0, "", 0, "%s=%s", key, value);
		settings_changed_locked(a);
	}
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_get(struct archive *a, const char *key, char *ret_value, size_t len_bytes)
{
	int r;

	pthread_mutex_lock(&a->lock);
	r = settings_get(&a->set, key, ret_value, len_bytes);
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_each_setting(struct archive *a, int (*fn)(void *arg, const char *key, const char *value, const char *takes, const char *help),
			 void *arg)
{
	struct settings set;

	pthread_mutex_lock(&a->lock);
	set = a->set;
	pthread_mutex_unlock(&a->lock);
	return settings_each(&set, fn, arg);
}

int archive_profile(struct archive *a, const char *name)
{
	int r;

	pthread_mutex_lock(&a->lock);
	r = settings_profile(&a->set, name);
	if (r == 0) {
		history_note(a, ARCHIVE_EVENT_SETTING, 0, "", 0, "profile=%s", name);
		settings_changed_locked(a);
	}
	pthread_mutex_unlock(&a->lock);
	return r;
}

const char *archive_profile_name(struct archive *a)
{
	static __thread char name[sizeof(a->set.profile)];

	pthread_mutex_lock(&a->lock);
	memcpy(name, a->set.profile, sizeof(name));
	pthread_mutex_unlock(&a->lock);
	return name;
}

int archive_each_profile(int (*fn)(void *arg, const char *name, const char *help), void *arg)
{
	return settings_each_profile(fn, arg);
}

int archive_reset(struct archive *a, unsigned what)
{
	int r = 0;

	if (what & ARCHIVE_RESET_FAULTS)
		faults_clear(a->faults);
	if (what & ARCHIVE_RESET_FILES)
		r = remove_all(a);
	pthread_mutex_lock(&a->lock);
	if (what & ARCHIVE_RESET_SETTINGS)
		a->set = a->set_at_start;
	if (what & ARCHIVE_RESET_DRIVES) {
		for (int i = 0; i < ARCHIVE_DRIVES_MAX; i++)
			a->drives[i].up = true;
		a->library_up = true;
	}
	if (what & ARCHIVE_RESET_COUNTERS) {
		memset(&a->count, 0, sizeof(a->count));
		for (int i = 0; i < ARCHIVE_DRIVES_MAX; i++)
			a->drives[i].jobs = a->drives[i].bytes = 0;
	}
	settings_changed_locked(a);
	pthread_mutex_unlock(&a->lock);
	if (what & ARCHIVE_RESET_CLOCK)
		(void)archive_clock_set(a, a->clock_at_start);
	if (what & ARCHIVE_RESET_JOURNAL)
		history_reset(a->journal);
	return r;
}

/* ---- figures ---- */

void archive_summary(struct archive *a, struct archive_summary *ret)
{
	memset(ret, 0, sizeof(*ret));
	show_statvfs(a, &ret->statvfs);
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < ARCHIVE_HASH; i++)
		for (struct file *f = a->hash[i]; f; f = f->hash_next)
			if (!f->gone)
				ret->files[archive_shown_locked(a, f)]++;
	ret->bytes_online = a->online_bytes;
	ret->bytes_tape = a->tape_bytes;
	ret->queued_archive = a->nqueued[JOB_ARCHIVE];
	ret->queued_recall = a->nqueued[JOB_RECALL];
	ret->waiting = a->nwaiting;
	ret->cache_size_bytes = a->set.cache_bytes;
	ret->cache_used_bytes = a->online_bytes;
	pthread_mutex_unlock(&a->lock);
}

int archive_each_metric(struct archive *a, int (*fn)(void *arg, const char *name, const char *labels, enum archive_metric_type type,
			const char *help, double value), void *arg)
{
	struct archive_summary s;
	struct counters n;
	unsigned rules, enabled;
	uint64_t fired;
	char labels[40];
	int r = 0;

	archive_summary(a, &s);
	faults_count(a->faults, &rules, &enabled, &fired);
	pthread_mutex_lock(&a->lock);
	n = a->count;
	pthread_mutex_unlock(&a->lock);
	for (int i = 0; i < ARCHIVE_STATES && r >= 0; i++) {
		snprintf(labels, sizeof(labels), "state=\"%s\"", archive_state_name(i));
		r = fn(arg, "mockarchive_files", labels, ARCHIVE_GAUGE, "files by state", s.files[i]);
	}
	const struct { const char *name; enum archive_metric_type type; const char *help; double value; } rows[] = {
		{ "mockarchive_disk_bytes", ARCHIVE_GAUGE, "data that is on disk", s.bytes_online },
		{ "mockarchive_tape_bytes", ARCHIVE_GAUGE, "data that is on tape", s.bytes_tape },
		{ "mockarchive_queued_archive_jobs", ARCHIVE_GAUGE, "files that wait for a drive to be archived", s.queued_archive },
		{ "mockarchive_queued_recall_jobs", ARCHIVE_GAUGE, "files that wait for a drive to be recalled", s.queued_recall },
		{ "mockarchive_waiting_callers", ARCHIVE_GAUGE, "callers of the mount that wait", s.waiting },
		{ "mockarchive_fault_rules", ARCHIVE_GAUGE, "fault rules that are on", enabled },
		{ "mockarchive_faults_fired_total", ARCHIVE_COUNTER, "faults that fired", fired },
		{ "mockarchive_archived_total", ARCHIVE_COUNTER, "files that were archived", n.archived },
		{ "mockarchive_archived_bytes_total", ARCHIVE_COUNTER, "bytes that were archived", n.bytes_archived },
		{ "mockarchive_recalled_total", ARCHIVE_COUNTER, "files that were recalled", n.recalled },
		{ "mockarchive_recalled_bytes_total", ARCHIVE_COUNTER, "bytes that were recalled", n.bytes_recalled },
		{ "mockarchive_released_total", ARCHIVE_COUNTER, "files whose blocks were given back", n.released },
		{ "mockarchive_evicted_total", ARCHIVE_COUNTER, "of these, because the cache was full", n.evicted },
		{ "mockarchive_failed_archive_total", ARCHIVE_COUNTER, "archive jobs that failed", n.failed_archive },
		{ "mockarchive_failed_recall_total", ARCHIVE_COUNTER, "recalls that failed", n.failed_recall },
		{ "mockarchive_waited_total", ARCHIVE_COUNTER, "callers that had to wait", n.waited },
		{ "mockarchive_interrupted_total", ARCHIVE_COUNTER, "of these, ended by a signal", n.interrupted },
		{ "mockarchive_transitions_total", ARCHIVE_COUNTER, "changes of state", n.transitions },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && r >= 0; i++)
		r = fn(arg, rows[i].name, "", rows[i].type, rows[i].help, rows[i].value);
	return r < 0 ? r : 0;
}

/* ---- the rest ---- */

struct faults *archive_faults(struct archive *a) { return a->faults; }
const char *archive_mountpoint(struct archive *a) { return a->fs->mountpoint; }
const char *archive_store(struct archive *a) { return a->store; }
const char *archive_replica(struct archive *a) { return a->replica; }

void archive_exit(struct archive *a)
{
	kill(getpid(), SIGTERM);
}
