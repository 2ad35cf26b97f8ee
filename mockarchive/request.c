/* What can be asked of the archive from outside the mount: about files, and for them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/lower.h"
#include "mockarchive/ops.h"

/* ---- finding ---- */

static int open_path(struct archive *a, const char *path, int flags)
{
	return lower_open(a->fs->root_fd, *path ? path : ".", flags | O_CLOEXEC, false);
}

/* The regular file at a path, with the lock held when 0 is returned. Writers that were closed a moment ago are waited for. */
static int take(struct archive *a, const char *path, struct file **ret_f)
{
	struct stat st;
	struct file *f;
	int fd, r;

	fd = open_path(a, path, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return fd == -ENOTDIR ? -ENOENT : fd;
	r = fstat(fd, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? -EISDIR : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (r < 0) {
		close(fd);
		return r;
	}
	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, st.st_ino);
	if (!f && (fstat(fd, &st) < 0 || st.st_nlink == 0))	/* removed meanwhile, and told already */
		r = -ENOENT;
	else if (!f && !(f = file_make_locked(a, st.st_ino, path)))
		r = -ENOMEM;
	close(fd);
	if (r < 0) {
		pthread_mutex_unlock(&a->lock);
		return r;
	}
	file_ref_locked(f);
	file_settle_locked(a, f);
	file_unref_locked(a, f);
	f = file_find_locked(a, st.st_ino);
	if (!f || f->gone) {
		pthread_mutex_unlock(&a->lock);
		return -ENOENT;
	}
	*ret_f = f;
	return 0;
}

static void snapshot_locked(struct archive *a, struct file *f, struct archive_file *ret, char **ret_path)
{
	*ret_path = strdup(f->path);
	*ret = (struct archive_file){
		.id = f->id, .path = *ret_path ? *ret_path : "", .state = archive_shown_locked(a, f), .size_bytes = f->size_bytes,
		.since_ns = f->since_ns, .due_ns = f->job ? f->job->due_ns : ARCHIVE_NEVER, .copy = { f->copy[0], f->copy[1] },
		.flag_final = f->flag_final, .flag_replica = f->flag_replica, .pinned = file_is_pinned_locked(a, f),
		.pin_until_ns = f->pin_until_ns, .evict_counter = f->evict_counter, .drive = f->job ? f->job->drive : -1, .error = f->error,
		.request_ns = f->request_ns, .archived_ns = f->archived_ns, .recalled_ns = f->recalled_ns, .recalls = f->recalls,
		.has_checksum = f->has_checksum, .adler32 = f->adler32,
	};
	for (struct call *c = a->waiting; c; c = c->next)
		ret->waiting += (c->waits == WAITS_FILE && (c->wants_of ? c->wants_of : c->nodeid) == f->id) || (c->waits == WAITS_ROOM && c->room_of == f->id);
	memcpy(ret->error_text, f->error_text, sizeof(ret->error_text));
	memcpy(ret->request_id, f->request_id, sizeof(ret->request_id));
	memcpy(ret->sha256, f->sha256, sizeof(ret->sha256));
	volume_name(f->volume, ret->tape);
	if (a->fs->opt.commit != COMMIT_NEVER) {
		int fd = file_open_locked(a, f, O_PATH);

		ret->worm = fd >= 0 && file_is_worm(a, fd);
		if (fd >= 0)
			close(fd);
	}
}

int archive_find(struct archive *a, const char *path, archive_file_fn fn, void *arg)
{
	struct archive_file file;
	struct file *f;
	char *copy;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	snapshot_locked(a, f, &file, &copy);
	pthread_mutex_unlock(&a->lock);
	r = fn(arg, &file);
	free(copy);
	return r < 0 ? r : 0;
}

static int compare_ids(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return a < b ? -1 : a > b;
}

int archive_list(struct archive *a, unsigned states, const char *prefix, uint64_t after, unsigned limit, archive_file_fn fn,
		 void *arg, uint64_t *ret_next)
{
	struct archive_file file;
	uint64_t *ids, next = 0;
	size_t n = 0;
	int r = 0;

	pthread_mutex_lock(&a->lock);
	ids = malloc((a->nfiles + 1) * sizeof(*ids));
	for (size_t i = 0; ids && i < ARCHIVE_HASH; i++)
		for (struct file *f = a->hash[i]; f; f = f->hash_next)
			if (f->id > after && !f->gone && (!states || states & archive_state_bit(archive_shown_locked(a, f))) &&
			    (!prefix || file_compare_path(f->path, prefix) == 0))
				ids[n++] = f->id;
	pthread_mutex_unlock(&a->lock);
	if (!ids)
		return -ENOMEM;
	qsort(ids, n, sizeof(*ids), compare_ids);
	if (n > limit) {
		n = limit;
		next = limit ? ids[limit - 1] : after;
	}
	for (size_t i = 0; i < n && r >= 0; i++) {
		char *copy = NULL;
		struct file *f;

		pthread_mutex_lock(&a->lock);
		f = file_find_locked(a, ids[i]);
		if (f)
			snapshot_locked(a, f, &file, &copy);
		pthread_mutex_unlock(&a->lock);
		if (f)
			r = fn(arg, &file);
		free(copy);
	}
	free(ids);
	if (r >= 0 && ret_next)
		*ret_next = next;
	return r < 0 ? r : 0;
}

int archive_stat(struct archive *a, const char *path, struct stat *ret_st)
{
	int fd = open_path(a, path, O_PATH | O_NOFOLLOW), r;

	if (fd < 0)
		return fd == -ENOTDIR ? -ENOENT : fd;
	r = fstat(fd, ret_st) < 0 ? -errno : 0;
	close(fd);
	if (r == 0 && S_ISREG(ret_st->st_mode))
		show_file(a, ret_st->st_ino, ret_st);
	return r;
}

int archive_readdir(struct archive *a, const char *path, int (*fn)(void *arg, const char *name, const struct stat *st), void *arg)
{
	int fd = open_path(a, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), r = 0;
	struct dirent *ent;
	struct stat st;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r >= 0 && (ent = readdir(dir))) {
		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0 || fstatat(fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			show_file(a, st.st_ino, &st);
		r = fn(arg, ent->d_name, &st);
	}
	closedir(dir);
	return r < 0 ? r : 0;
}

/* What a reader of an offline file is told, who cannot wait. */
static int answer_locked(struct archive *a, struct file *f)
{
	int r;

	switch (archive_shown_locked(a, f)) {
	case ARCHIVE_LOST:
		return -a->set.lost_errno;
	case ARCHIVE_DAMAGED:
		return -a->set.damaged_errno;
	case ARCHIVE_UNAVAILABLE:
		return -a->set.unavailable_errno;
	default:
		break;
	}
	if (a->set.trigger == TRIGGER_EXPLICIT && !f->job)
		return -a->set.read_errno;
	r = robot_recall_locked(a, f, 0, NULL);
	if (r < 0)
		return r;
	return a->set.answer == ANSWER_ERRNO ? -a->set.read_errno : -EAGAIN;
}

ssize_t archive_pread(struct archive *a, const char *path, void *buf, size_t len, off_t offset)
{
	struct fault_query query = { .point = FAULT_READ, .can = FAULT_DO_ERRNO, .path = path, .copy = FAULT_COPY_FINAL, .has_caller = true,
				     .pid = getpid(), .offset_bytes = offset, .len_bytes = len };
	struct fault_verdict v;
	struct file *f;
	ssize_t n = -1;
	int fd, r = take(a, path, &f);

	if (r < 0)
		return r;
	query.size_bytes = f->size_bytes;
	query.now_ns = clock_now_locked(a);
	faults_ask(a->faults, &query, &v);
	if (v.did & FAULT_DO_ERRNO)
		r = v.error;
	else if (f->busy)
		r = -EAGAIN;
	else if (f->offline && offset + len > f->stub_bytes && (uint64_t)offset < f->size_bytes)
		r = answer_locked(a, f);
	if (r < 0) {
		pthread_mutex_unlock(&a->lock);
		return r;
	}
	f->uses++;
	file_ref_locked(f);
	fd = file_open_locked(a, f, O_RDONLY);
	pthread_mutex_unlock(&a->lock);
	n = fd < 0 ? fd : pread(fd, buf, len, offset);
	if (fd >= 0 && n < 0)
		n = -errno;
	if (fd >= 0)
		close(fd);
	pthread_mutex_lock(&a->lock);
	if (--f->uses == 0)
		pthread_cond_broadcast(&a->changed);
	file_unref_locked(a, f);
	pthread_mutex_unlock(&a->lock);
	return n;
}

int archive_wait(struct archive *a, const char *path, unsigned states, int timeout_ms, enum archive_state *ret_state)
{
	int64_t until_ns = real_now_ns() + (timeout_ms < 0 ? 86400 * 365 * ARCHIVE_NS : timeout_ms * INT64_C(1000000));
	struct timespec until = { until_ns / ARCHIVE_NS, until_ns % ARCHIVE_NS };
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	file_ref_locked(f);
	for (;;) {
		if (f->gone)
			r = -ENOENT;
		else if (a->stopping)
			r = -ECANCELED;
		else
			*ret_state = archive_shown_locked(a, f);
		if (r < 0 || (states & archive_state_bit(*ret_state) && !f->busy))
			break;
		if (pthread_cond_timedwait(&a->changed, &a->lock, &until) == ETIMEDOUT) {
			r = -ETIMEDOUT;
			break;
		}
	}
	file_unref_locked(a, f);
	pthread_mutex_unlock(&a->lock);
	return r;
}

/* ---- asking ---- */

static void note_locked(struct archive *a, const struct file *f, const char *what, int r)
{
	history_note(a, ARCHIVE_EVENT_REQUEST, f->id, f->path, r, "%s", what);
}

int archive_archive(struct archive *a, const char *path)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	r = robot_archive_locked(a, f);
	note_locked(a, f, "archive", r);
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_recall(struct archive *a, const char *path, int64_t pin_ns, const char *request_id)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	r = robot_recall_locked(a, f, pin_ns, request_id);
	note_locked(a, f, "recall", r);
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_cancel(struct archive *a, const char *path)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	r = f->job && !f->busy ? 0 : -EALREADY;
	if (r == 0)
		robot_cancel_locked(a, f);
	note_locked(a, f, "cancel", r);
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_release(struct archive *a, const char *path, bool force)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	file_ref_locked(f);
	if (force) {
		f->pin_until_ns = 0;
		f->evict_counter = 0;
	}
	r = robot_release_locked(a, f, force);
	note_locked(a, f, "release", r);
	file_unref_locked(a, f);
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_evict(struct archive *a, const char *path)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	file_ref_locked(f);
	if (f->evict_counter > 0)
		f->evict_counter--;
	if (f->evict_counter > 0) {
		file_save_locked(a, f);
	} else {
		f->pin_until_ns = 0;
		r = robot_release_locked(a, f, true);
	}
	note_locked(a, f, "evict", r);
	file_unref_locked(a, f);
	pthread_mutex_unlock(&a->lock);
	return r;
}

int archive_pin(struct archive *a, const char *path, int64_t pin_ns, int64_t *ret_until_ns)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	if (pin_ns <= 0) {
		f->pin_until_ns = 0;
		f->evict_counter = 0;
		f->pin_wanted_ns = 0;
		file_save_locked(a, f);
		history_note(a, ARCHIVE_EVENT_PIN, f->id, f->path, 0, "unpinned");
		call_wake_room_locked(a);
	} else {
		r = robot_recall_locked(a, f, pin_ns, NULL);
	}
	if (r == 0 && ret_until_ns)
		*ret_until_ns = f->offline ? clock_after(clock_now_locked(a), pin_ns) : f->pin_until_ns;
	pthread_mutex_unlock(&a->lock);
	return r;
}

/* ---- what happens to copies ---- */

static bool is_there(const struct file *f, int copy)
{
	return f->copy[copy] == ARCHIVE_COPY_GOOD || f->copy[copy] == ARCHIVE_COPY_STALE || f->copy[copy] == ARCHIVE_COPY_DAMAGED;
}

/* fn for the copies that are meant. -ENODATA: none of them is there. */
static int each_copy(struct archive *a, const char *path, int copy, const char *what, int (*fn)(struct archive *a, struct file *f, int copy, void *arg),
		     void *arg)
{
	struct file *f;
	int r = take(a, path, &f), done = -ENODATA;

	if (r < 0)
		return r;
	file_seize_locked(a, f);
	for (int i = 0; i < ARCHIVE_COPIES; i++) {
		if ((copy && copy != i + 1) || !is_there(f, i))
			continue;
		r = fn(a, f, i, arg);
		done = r < 0 ? r : done == -ENODATA ? 0 : done;
		history_note(a, ARCHIVE_EVENT_COPY, f->id, f->path, r, "%s %s", i == COPY_TAPE ? "tape" : "replica", what);
	}
	file_save_locked(a, f);
	file_unseize_locked(a, f);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return done;
}

static int lose_copy(struct archive *a, struct file *f, int copy, void *arg)
{
	if (copy == COPY_TAPE)
		tape_remove(a, f->tape_name);
	else
		replica_remove(a, f->path);
	f->copy[copy] = ARCHIVE_COPY_LOST;
	return 0;
}

int archive_lose(struct archive *a, const char *path, int copy)
{
	return each_copy(a, path, copy, "lost", lose_copy, NULL);
}

static int damage_copy(struct archive *a, struct file *f, int copy, void *arg)
{
	f->copy[copy] = ARCHIVE_COPY_DAMAGED;
	return 0;
}

int archive_damage(struct archive *a, const char *path, int copy)
{
	return each_copy(a, path, copy, "damaged", damage_copy, NULL);
}

static int corrupt_copy(struct archive *a, struct file *f, int copy, void *arg)
{
	return copy == COPY_TAPE ? tape_spoil(a->tape_fd, f->tape_name, arg) : tape_spoil(a->replica_fd, f->path, arg);
}

int archive_corrupt(struct archive *a, const char *path, int copy, const struct fault_corrupt *corrupt)
{
	struct fault_corrupt c = *corrupt;

	if (!c.seed)
		c.seed = real_now_ns();
	return each_copy(a, path, copy, "corrupted", corrupt_copy, &c);
}

int archive_unavailable(struct archive *a, const char *path, bool unavailable)
{
	struct file *f;
	int r = take(a, path, &f);

	if (r < 0)
		return r;
	f->unavailable = unavailable;
	file_save_locked(a, f);
	history_note(a, ARCHIVE_EVENT_COPY, f->id, f->path, 0, unavailable ? "tape out of the library" : "tape back in the library");
	a->dispatch_wanted = true;
	pthread_cond_signal(&a->work);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

int archive_mend(struct archive *a, const char *path)
{
	struct file *f;
	int r = take(a, path, &f), mended = 0;

	if (r < 0)
		return r;
	file_seize_locked(a, f);
	mended = f->unavailable || f->error;
	f->unavailable = false;
	for (int i = 0; i < ARCHIVE_COPIES; i++)
		if (f->copy[i] == ARCHIVE_COPY_DAMAGED) {
			f->copy[i] = ARCHIVE_COPY_GOOD;
			mended = 1;
		}
	if (f->offline && f->copy[COPY_TAPE] == ARCHIVE_COPY_LOST && f->copy[COPY_REPLICA] == ARCHIVE_COPY_GOOD) {
		r = tape_from_replica(a, f->path, f->tape_name);
		if (r == 0)
			f->copy[COPY_TAPE] = ARCHIVE_COPY_GOOD;
		mended |= r == 0;
	}
	if (!f->offline && f->copy[COPY_TAPE] == ARCHIVE_COPY_LOST) {
		f->copy[COPY_TAPE] = ARCHIVE_COPY_NONE;
		f->base = ARCHIVE_RESIDENT;
		mended = 1;
	}
	if (f->base == ARCHIVE_FAILED_RECALL)
		file_set_state_locked(a, f, f->stub_bytes ? ARCHIVE_PARTIAL : ARCHIVE_RELEASED);
	f->error = 0;
	f->error_text[0] = '\0';
	file_save_locked(a, f);
	history_note(a, ARCHIVE_EVENT_COPY, f->id, f->path, r, "mended");
	file_unseize_locked(a, f);
	if (f->base == ARCHIVE_RESIDENT || f->base == ARCHIVE_FAILED_ARCHIVE)
		(void)robot_archive_locked(a, f);	/* its state says what came of it */
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return r < 0 ? r : mended ? 0 : -ENODATA;
}
