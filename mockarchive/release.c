/* Giving disk blocks back: one file at a time, when nobody reads it, writes it or pins it; its record says so first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/log.h"
#include "fs/session.h"
#include "mockarchive/robot_private.h"

#define DROP_WAIT_NS (ARCHIVE_NS / 10)
#define USES_WAIT_NS (10 * ARCHIVE_NS)	/* what is read by now is read by then, or the file stays on disk */
#define RELEASE_AGAIN_NS ARCHIVE_NS	/* its lock is not complete yet, or a reader does not end */

/* ---- one at a time for one file ---- */

void file_seize_locked(struct archive *a, struct file *f)
{
	file_ref_locked(f);
	while (f->busy)
		pthread_cond_wait(&a->changed, &a->lock);
	f->busy = true;
}

void file_unseize_locked(struct archive *a, struct file *f)
{
	f->busy = false;
	pthread_cond_broadcast(&a->changed);
	call_wake_file_locked(a, f->id, 0);
	file_unref_locked(a, f);
}

bool file_wait_for_uses_locked(struct archive *a, struct file *f)
{
	int64_t until_ns = real_now_ns() + USES_WAIT_NS;
	struct timespec until = { until_ns / ARCHIVE_NS, until_ns % ARCHIVE_NS };

	while (f->uses > 0 && !a->stopping && real_now_ns() < until_ns)
		pthread_cond_timedwait(&a->changed, &a->lock, &until);
	return f->uses == 0;
}

/* ---- pages ---- */

void *release_dropper_thread(void *arg)
{
	struct archive *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping) {
		uint64_t id;

		if (!a->ndrops) {
			pthread_cond_wait(&a->drop, &a->lock);
			continue;
		}
		id = a->drops[--a->ndrops];
		pthread_mutex_unlock(&a->lock);
		session_notify_pages(a->fs, id);
		pthread_mutex_lock(&a->lock);
		a->drops_done++;
		pthread_cond_broadcast(&a->changed);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

void robot_drop_pages_locked(struct archive *a, uint64_t id)
{
	int64_t until_ns = real_now_ns() + DROP_WAIT_NS;
	struct timespec until = { until_ns / ARCHIVE_NS, until_ns % ARCHIVE_NS };
	uint64_t mine;

	if (a->ndrops == a->drops_room) {
		uint64_t *grown = reallocarray(a->drops, a->drops_room + 64, sizeof(*grown));

		if (!grown)
			return;		/* who has it open reads what it was, which is what it is */
		a->drops = grown;
		a->drops_room += 64;
	}
	a->drops[a->ndrops++] = id;
	mine = ++a->drops_asked;
	pthread_cond_signal(&a->drop);
	/* The kernel lets it wait while a read of the file is not answered, which may take for ever. */
	while (a->drops_done < mine && !a->stopping && real_now_ns() < until_ns)
		pthread_cond_timedwait(&a->changed, &a->lock, &until);
}

/* ---- release ---- */

/* Seized. -EBUSY: not now. */
static int give_blocks_locked(struct archive *a, struct file *f, bool force)
{
	uint64_t keep = a->set.preview_bytes < f->size_bytes ? a->set.preview_bytes : f->size_bytes;
	char *path;
	bool flag = f->flag_final;
	int r;

	if (f->base != ARCHIVE_DUAL || f->copy[COPY_TAPE] != ARCHIVE_COPY_GOOD)
		return f->offline ? 0 : -ENODATA;
	if (f->nwriters > 0 || f->gone || (!force && file_is_pinned_locked(a, f)) || !file_wait_for_uses_locked(a, f))
		return -EBUSY;
	if (f->base != ARCHIVE_DUAL || f->nwriters > 0 || f->gone)	/* while it was waited for */
		return -EBUSY;
	path = strdup(f->path);
	if (!path)
		return -ENOMEM;
	flag_set_locked(a, f, 0, true);
	f->stub_bytes = keep;
	/* The record first: it must never say that data is there which is not. */
	file_set_state_locked(a, f, keep ? ARCHIVE_PARTIAL : ARCHIVE_RELEASED);
	pthread_mutex_unlock(&a->lock);
	r = tape_punch(a, f->id, path, keep, f->mtime_ns, f->has_checksum ? f->sha256 : NULL);
	pthread_mutex_lock(&a->lock);
	if (r < 0) {
		f->stub_bytes = 0;
		file_set_state_locked(a, f, ARCHIVE_DUAL);
		if (!flag)
			file_flag_locked(a, f, 0, false);
		if (r == -ENOENT || r == -ESTALE)	/* renamed in this moment */
			r = -EBUSY;
		if (r != -EBUSY && r != -EPERM)
			log_warning("cannot give back the blocks of '%s': %s, it stays on disk", path, strerror(-r));
	} else {
		f->pin_until_ns = 0;
		f->evict_counter = 0;
		f->evict_early = false;
		a->count.released++;
		robot_drop_pages_locked(a, f->id);
	}
	free(path);
	return r;
}

int robot_release_locked(struct archive *a, struct file *f, bool force)
{
	struct fault_verdict v;
	int r;

	if (f->base == ARCHIVE_DUAL) {
		job_ask_locked(a, f, FAULT_ARCHIVE_RELEASE, FAULT_DO_ERRNO | FAULT_DO_CRASH | FAULT_DO_LOSE, FAULT_COPY_FINAL, &v);
		if (v.did & FAULT_DO_ERRNO)
			return v.error;
		job_lose_locked(a, f, &v);
	}
	file_seize_locked(a, f);
	r = give_blocks_locked(a, f, force);
	file_unseize_locked(a, f);
	return r;
}

void release_plan_event_locked(struct archive *a, struct file *f, enum due_type type, int64_t due_ns)
{
	f->event = serial_locked(a);
	clock_add_locked(a, due_ns, type, f->event, f->id);
}

void robot_plan_release_locked(struct archive *a, struct file *f)
{
	if (f->base == ARCHIVE_DUAL && a->set.release_when == RELEASE_ARCHIVED && f->recalled_ns <= f->archived_ns)
		release_plan_event_locked(a, f, DUE_FILE_RELEASE, clock_after(a->cursor_ns, a->set.release_delay_ns));
	else if (f->base == ARCHIVE_DUAL && a->set.keep_ns > 0 && f->recalled_ns > f->archived_ns)
		release_plan_event_locked(a, f, DUE_FILE_RELEASE, clock_after(a->cursor_ns, a->set.keep_ns));
}

static int64_t last_use_ns(const struct file *f)
{
	return f->recalled_ns > f->archived_ns ? f->recalled_ns : f->archived_ns;
}

static bool may_go_locked(struct archive *a, const struct file *f)
{
	return f->base == ARCHIVE_DUAL && f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD && !f->evict_early && !f->gone && !file_is_pinned_locked(a, f) &&
	       (!f->evict_tried_ns || clock_after(f->evict_tried_ns, RELEASE_AGAIN_NS) <= a->cursor_ns);
}

/* The disk cache is too full, or will be with so much more: the file that was used longest ago goes; one more each time until it fits.
 * Returns what goes. */
static uint64_t evict_locked(struct archive *a, uint64_t more_bytes)
{
	uint64_t planned = 0;

	for (size_t i = 0; i < ARCHIVE_HASH; i++)
		for (struct file *f = a->hash[i]; f; f = f->hash_next)
			planned += f->evict_early && !f->offline && !f->gone ? f->size_bytes : 0;
	while (a->online_bytes + more_bytes > a->set.cache_bytes + planned) {
		struct file *oldest = NULL;

		for (size_t i = 0; i < ARCHIVE_HASH; i++)
			for (struct file *f = a->hash[i]; f; f = f->hash_next)
				if (may_go_locked(a, f) && (!oldest || last_use_ns(f) < last_use_ns(oldest)))
					oldest = f;
		if (!oldest)
			break;
		oldest->evict_early = true;
		planned += oldest->size_bytes;
		a->count.evicted++;
		release_plan_event_locked(a, oldest, DUE_FILE_RELEASE, a->cursor_ns);
	}
	return planned;
}

int robot_room_locked(struct archive *a, uint64_t more_bytes)
{
	if (!a->set.cache_bytes || a->set.cache_full == FULL_OVER || !more_bytes || a->online_bytes + more_bytes <= a->set.cache_bytes)
		return 0;
	return a->online_bytes + more_bytes <= a->set.cache_bytes + evict_locked(a, more_bytes) ? -EAGAIN : -ENOSPC;
}

void release_relieve_locked(struct archive *a)
{
	if (a->set.cache_bytes && a->online_bytes > a->set.cache_bytes)
		(void)evict_locked(a, 0);
	call_wake_room_locked(a);	/* what became archived can make room */
}

void release_due_locked(struct archive *a, struct file *f)
{
	int r;

	if (!f->evict_early && file_is_pinned_locked(a, f)) {
		release_plan_event_locked(a, f, DUE_FILE_RELEASE, f->pin_until_ns);
		return;
	}
	r = robot_release_locked(a, f, f->evict_early);
	f->evict_early = false;
	if (r < 0) {
		f->evict_tried_ns = a->cursor_ns;
		call_wake_room_locked(a);	/* another has to go, or there is no room */
	}
	if (r == -EBUSY && f->base == ARCHIVE_DUAL && !f->gone)
		release_plan_event_locked(a, f, DUE_FILE_RELEASE, clock_after(a->cursor_ns, RELEASE_AGAIN_NS));
	else if (r < 0 && r != -ENODATA && r != -EPERM)
		history_note(a, ARCHIVE_EVENT_REQUEST, f->id, f->path, r, "release failed");
}
