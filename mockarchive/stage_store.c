/* Stage requests on disk, so that one that was made before a restart can be asked for after it: a JSON file each, under its id, written anew
 * when something of it changes, and synced before it has its name: who was told an id finds all of the request under it after a power cut too. What a
 * power cut can do is bring an older state of it back, which the next look at the files mends, or one that was deleted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "fs/log.h"
#include "lockstore/whole_write.h"
#include "mockarchive/stage.h"

#define TEMPORARY ".new"
#define STAGE_FILE_MAX_BYTES (256 << 20)	/* of one request */
#define STAGE_PATH_MAX_BYTES 4096

static json_t *file_json(const struct stage_file *file)
{
	return json_pack("[s, I, I, I, i, i, s]", file->path, (json_int_t)file->pin_ns, (json_int_t)file->started_ns,
			 (json_int_t)file->finished_ns, (int)file->recalls, (int)file->state, file->error);
}

static json_t *stage_json(const struct stage *s)
{
	json_t *files = json_array();

	for (size_t i = 0; i < s->n; i++)
		if (json_array_append_new(files, file_json(&s->files[i])) < 0) {
			json_decref(files);
			return NULL;
		}
	return json_pack("{s:s, s:I, s:I, s:I, s:o}", "id", s->id, "created", (json_int_t)s->created_ns, "started", (json_int_t)s->started_ns,
			 "completed", (json_int_t)s->completed_ns, "files", files);
}

/* json_dumpfd() makes a system call of each bracket and comma. */
static int write_text(int fd, const char *text)
{
	int r = whole_write(fd, text, strlen(text));

	return r == 0 && fdatasync(fd) < 0 ? -errno : r;
}

void stage_save_locked(struct rest *t, const struct stage *s)
{
	json_t *json;
	char *text;
	int fd, r;

	if (t->dir_fd < 0 || s->gone)
		return;
	json = stage_json(s);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	fd = text ? openat(t->dir_fd, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	r = !text ? -ENOMEM : fd < 0 ? -errno : write_text(fd, text);
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && (renameat(t->dir_fd, TEMPORARY, t->dir_fd, s->id) < 0 || fsync(t->dir_fd) < 0))
		r = -errno;
	free(text);
	if (r < 0)
		log_warning("cannot keep the stage request %s: %s, a restart forgets it", s->id, strerror(-r));
}

void stage_forget_locked(struct rest *t, const struct stage *s)
{
	if (t->dir_fd >= 0 && unlinkat(t->dir_fd, s->id, 0) < 0 && errno != ENOENT)
		log_warning("cannot forget the stage request %s: %s, it comes back with a restart", s->id, strerror(errno));
}

/* ---- the start ---- */

static bool load_file(const json_t *json, struct stage_file *file)
{
	json_int_t pin, started, finished;
	const char *path, *error;
	int recalls, state;

	if (json_unpack((json_t *)json, "[s, I, I, I, i, i, s!]", &path, &pin, &started, &finished, &recalls, &state, &error) < 0)
		return false;
	if (state < FILE_OPEN || state > FILE_CANCELLED || strlen(path) >= STAGE_PATH_MAX_BYTES || pin < 0)
		return false;
	*file = (struct stage_file){ .pin_ns = pin, .started_ns = started, .finished_ns = finished, .recalls = recalls, .state = state };
	snprintf(file->error, sizeof(file->error), "%s", error);
	file->path = strdup(path);
	return file->path;
}

static struct stage *load_stage(const json_t *json, const char *name)
{
	json_int_t created, started, completed;
	const json_t *files;
	const char *id;
	struct stage *s;

	if (json_unpack((json_t *)json, "{s:s, s:I, s:I, s:I, s:o}", "id", &id, "created", &created, "started", &started, "completed", &completed,
			"files", &files) < 0 || strcmp(id, name) != 0 || !json_is_array(files))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	snprintf(s->id, sizeof(s->id), "%s", id);
	s->created_ns = created;
	s->started_ns = started;
	s->completed_ns = completed;
	s->files = calloc(json_array_size(files) + 1, sizeof(s->files[0]));
	while (s->files && s->n < json_array_size(files) && load_file(json_array_get(files, s->n), &s->files[s->n]))
		s->n++;
	if (!s->files || s->n != json_array_size(files)) {
		stage_free(s);
		return NULL;
	}
	stage_sort(s);
	return s;
}

static struct stage *load(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stage *s = NULL;
	json_t *json = NULL;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= STAGE_FILE_MAX_BYTES)
		json = json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
	if (fd >= 0)
		close(fd);
	if (json)
		s = load_stage(json, name);
	json_decref(json);
	return s;
}

static int by_creation(const void *x, const void *y)
{
	const struct stage *a = *(struct stage *const *)x, *b = *(struct stage *const *)y;

	return a->created_ns != b->created_ns ? (a->created_ns < b->created_ns ? -1 : 1) : strcmp(a->id, b->id);
}

/* What was under way goes on: a recall that is done since is seen by the next poll; else it is asked for once more, with its pin. */
static void go_on(struct rest *t, struct stage *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct stage_file *file = &s->files[i];
		struct stage_look look = { 0 };

		if (file->state == FILE_OPEN && archive_find(t->archive, file->path, stage_take_look, &look) == 0 && look.recalls == file->recalls)
			stage_start(t, s->id, file);
		t->ndeferred += file->state == FILE_DEFERRED;
	}
}

int rest_keep(struct rest *t, const char *path)
{
	struct dirent *ent;
	DIR *dir;
	int fd;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	t->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = t->dir_fd < 0 ? -1 : openat(t->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return r;
	}
	/* Nobody else knows of t yet. */
	while ((ent = readdir(dir))) {
		struct stage *s;

		if (*ent->d_name == '.')
			continue;
		s = t->n < REST_REQUESTS_MAX ? load(t->dir_fd, ent->d_name) : NULL;
		if (!s || t->nfiles + s->n > REST_FILES_MAX) {
			log_warning("the stage request '%s' cannot be read: it is forgotten", ent->d_name);
			if (s)
				stage_free(s);
			continue;
		}
		t->stage[t->n++] = s;
		t->nfiles += s->n;
	}
	closedir(dir);
	qsort(t->stage, t->n, sizeof(t->stage[0]), by_creation);
	for (size_t i = 0; i < t->n; i++)
		go_on(t, t->stage[i]);
	return 0;
}
