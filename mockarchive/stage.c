/* The list of requests, and what becomes of their files. They are numbered and kept in order. A file of a request is what was asked
 * plus what was seen: once it was seen complete, failed or cancelled it stays so, whatever becomes of the file. */
#include "mockarchive/stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

int rest_open(struct archive *archive, const char *site, struct rest **ret_rest)
{
	struct rest *t = calloc(1, sizeof(*t));

	if (!t || !(t->site = strdup(site))) {
		free(t);
		return -ENOMEM;
	}
	t->archive = archive;
	t->dir_fd = -1;
	pthread_mutex_init(&t->lock, NULL);
	*ret_rest = t;
	return 0;
}

void stage_free(struct stage *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->files[i].path);
	free(s->files);
	free(s);
}

void stage_unlink_locked(struct rest *t, size_t i)
{
	struct stage *s = t->stage[i];

	t->n--;
	memmove(&t->stage[i], &t->stage[i + 1], (t->n - i) * sizeof(t->stage[0]));
	t->nfiles -= s->n;
	for (size_t f = 0; f < s->n; f++)
		t->ndeferred -= s->files[f].state == FILE_DEFERRED;
	s->gone = true;
	stage_forget_locked(t, s);
	if (!s->users)
		stage_free(s);
}

void stage_put_locked(struct stage *s)
{
	if (--s->users == 0 && s->gone)
		stage_free(s);
}

struct stage *stage_get_locked(struct rest *t, const char *id)
{
	for (size_t i = t->n; i-- > 0;) {
		if (strcmp(t->stage[i]->id, id) == 0) {
			t->stage[i]->users++;
			return t->stage[i];
		}
	}
	return NULL;
}

void rest_reset(struct rest *t)
{
	pthread_mutex_lock(&t->lock);
	while (t->n)
		stage_unlink_locked(t, t->n - 1);
	pthread_mutex_unlock(&t->lock);
}

void rest_close(struct rest *t)
{
	if (!t)
		return;
	if (t->dir_fd >= 0)
		close(t->dir_fd);
	t->dir_fd = -1;		/* they stay on disk */
	rest_reset(t);
	pthread_mutex_destroy(&t->lock);
	free(t->site);
	free(t);
}

/* "PT1H30M", "P2DT3S"; years and months have no fixed length and are no lifetime on disk. -1: no duration. */
int64_t stage_duration_ns(const char *text)
{
	bool time = false, any = false;
	double total = 0;

	if (*text++ != 'P')
		return -1;
	while (*text) {
		char *end;
		double n;

		if (*text == 'T' && !time) {
			time = true;
			text++;
			continue;
		}
		if (*text < '0' || *text > '9')
			return -1;
		n = strtod(text, &end);
		switch (*end) {
		case 'W': total += n * 7 * 86400; break;
		case 'D': total += n * 86400; break;
		case 'H': total += n * 3600; break;
		case 'M': total += n * 60; break;
		case 'S': total += n; break;
		default: return -1;
		}
		if (time != (*end != 'W' && *end != 'D'))
			return -1;
		any = true;
		text = end + 1;
	}
	return any && total <= 100 * 366 * 86400.0 ? (int64_t)(total * ARCHIVE_NS) : -1;
}

void stage_make_id(char id[40])
{
	unsigned char b[16];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		memset(b, 0, sizeof(b));	/* cannot be, for 16 bytes; the id is taken then, and refused */
	snprintf(id, 40, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5],
		 b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct stage_file *)a)->path, ((const struct stage_file *)b)->path);
}

/* Sorted, so that stage_file_of() finds one among many; a path that was named twice is one file. The order of files is free. */
void stage_sort(struct stage *s)
{
	size_t n = 0;

	qsort(s->files, s->n, sizeof(s->files[0]), by_path);
	for (size_t i = 0; i < s->n; i++) {
		if (n && strcmp(s->files[n - 1].path, s->files[i].path) == 0)
			free(s->files[i].path);
		else
			s->files[n++] = s->files[i];
	}
	s->n = n;
}

struct stage_file *stage_file_of(struct stage *s, const char *path)
{
	struct stage_file key = { .path = (char *)path };	/* by_path() only reads it */

	return bsearch(&key, s->files, s->n, sizeof(s->files[0]), by_path);
}

int stage_take_look(void *arg, const struct archive_file *file)
{
	struct stage_look *look = arg;

	*look = (struct stage_look){ .found = true, .state = file->state, .size_bytes = file->size_bytes, .recalled_ns = file->recalled_ns,
			       .recalls = file->recalls, .drive = file->drive, .error = file->error, .tape = file->copy[0] };
	snprintf(look->error_text, sizeof(look->error_text), "%s", file->error_text);
	return 0;
}

void stage_finish(struct stage_file *file, enum file_state state, const char *error, int64_t now_ns)
{
	file->state = state;
	file->finished_ns = now_ns;
	if (!file->started_ns)
		file->started_ns = now_ns;
	snprintf(file->error, sizeof(file->error), "%s", error);
}

/* Asks the archive for a file; what comes of it is written into *file, which is the caller's alone. */
void stage_start(struct rest *t, const char *id, struct stage_file *file)
{
	int64_t now_ns = archive_now_ns(t->archive);
	struct stage_look look = { 0 };
	int r = archive_find(t->archive, file->path, stage_take_look, &look);

	file->recalls = look.recalls;
	if (r == 0 && look.size_bytes == 0) {
		stage_finish(file, FILE_FAILED, "the file is empty, there is nothing to stage", now_ns);
		return;
	}
	if (r == 0)
		r = archive_recall(t->archive, file->path, file->pin_ns, id);
	if (r == -EAGAIN)
		file->state = FILE_DEFERRED;
	else if (r < 0)
		stage_finish(file, FILE_FAILED, r == -ENODATA ? "the tape is not in the library" : r == -EIO ? "no copy is left on tape" : strerror(-r), now_ns);
	else if (archive_state_is_online(look.state))
		stage_finish(file, FILE_COMPLETED, "", now_ns);
	else
		file->state = FILE_OPEN;
}

/* Room for one more; the oldest that is complete goes. */
bool stage_make_room_locked(struct rest *t, size_t nfiles)
{
	for (size_t i = 0; i < t->n && (t->n == REST_REQUESTS_MAX || t->nfiles + nfiles > REST_FILES_MAX);) {
		if (t->stage[i]->completed_ns)
			stage_unlink_locked(t, i);
		else
			i++;
	}
	return t->n < REST_REQUESTS_MAX && t->nfiles + nfiles <= REST_FILES_MAX;
}

/* What a poll finds out about a file that is not finished. Under the lock of t, with what the archive said. */
void stage_observe(struct stage_file *file, const struct stage_look *look, int64_t now_ns)
{
	bool came = look->recalls != file->recalls;

	if (file->state != FILE_OPEN)
		return;
	if (!look->found)
		stage_finish(file, FILE_FAILED, strerror(ENOENT), now_ns);
	else if (archive_state_is_online(look->state) || came)
		stage_finish(file, FILE_COMPLETED, "", came ? look->recalled_ns : now_ns);
	else if (look->state == ARCHIVE_LOST || look->state == ARCHIVE_DAMAGED)
		stage_finish(file, FILE_FAILED, "no copy is left on tape", now_ns);
	else if (look->state == ARCHIVE_FAILED_RECALL)
		stage_finish(file, FILE_FAILED, *look->error_text ? look->error_text : strerror(look->error ? -look->error : EIO), now_ns);
	else if (look->state == ARCHIVE_RECALLING && look->drive >= 0 && !file->started_ns)
		file->started_ns = now_ns;
	else if (look->state == ARCHIVE_RELEASED || look->state == ARCHIVE_PARTIAL)	/* somebody took it back */
		stage_finish(file, FILE_CANCELLED, "", now_ns);
}

bool stage_is_open(const struct stage_file *file)
{
	return file->state == FILE_OPEN || file->state == FILE_DEFERRED;
}

/* Does another request still want it? */
bool stage_is_wanted_locked(struct rest *t, const struct stage *but, const char *path)
{
	for (size_t i = 0; i < t->n; i++) {
		struct stage_file *file = t->stage[i] == but ? NULL : stage_file_of(t->stage[i], path);

		if (file && stage_is_open(file))
			return true;
	}
	return false;
}

/* The first file from there on that is to be asked for again; ->n: none. */
static size_t next_deferred(const struct stage *s, size_t from)
{
	while (from < s->n && s->files[from].state != FILE_DEFERRED)
		from++;
	return from;
}

/* All of this request that the queue has room for, which is on disk as a whole afterwards: once for all of them. False: it is full. */
static bool retry_locked(struct rest *t, struct stage *s)
{
	bool news = false, full = false;

	s->users++;
	for (size_t i = next_deferred(s, 0); i < s->n && !full; i = next_deferred(s, i + 1)) {
		struct stage_file *file = &s->files[i], copy = *file;

		pthread_mutex_unlock(&t->lock);
		stage_start(t, s->id, &copy);
		pthread_mutex_lock(&t->lock);
		full = copy.state == FILE_DEFERRED;
		if (file->state == FILE_DEFERRED && !full) {
			*file = copy;
			t->ndeferred -= !s->gone;
			news = true;
		}
	}
	if (news)
		stage_save_locked(t, s);
	stage_put_locked(s);
	return !full;
}

void rest_retry(struct rest *t)
{
	bool room = true;

	pthread_mutex_lock(&t->lock);
	while (t->ndeferred && room) {
		struct stage *s = NULL;

		for (size_t i = 0; i < t->n && !s; i++)
			if (next_deferred(t->stage[i], 0) < t->stage[i]->n)
				s = t->stage[i];
		if (!s)
			break;
		room = retry_locked(t, s);
	}
	pthread_mutex_unlock(&t->lock);
}
