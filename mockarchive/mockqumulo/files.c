/* Ids, paths and locks of the files in a real directory. A path is looked up below the root's descriptor, never following a
 * symbolic link and never above it; an id by the path that its file had last, and by a walk through the tree where that is old. */
#include "mockarchive/mockqumulo/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WALK_DEPTH_MAX 256

struct files {
	int root_fd, state_fd;
	enum files_ids ids;
	struct file **table;		/* by inode number */
	size_t buckets, count;
	struct file **own;		/* by id - FILES_ROOT_ID; NULL: forgotten */
	size_t nown, own_size;
};

char *files_join(const char *dir_path, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", strcmp(dir_path, "/") == 0 ? "" : dir_path, name) < 0 ? NULL : path;
}

/* ---- what is known ---- */

static size_t bucket_of(const struct files *f, uint64_t ino)
{
	return (ino * 0x9e3779b97f4a7c15ull >> 17) & (f->buckets - 1);
}

static int grow(struct files *f)
{
	struct file **old = f->table;
	size_t n = f->buckets;

	if (f->count < n)
		return 0;
	f->table = calloc(2 * n, sizeof(*f->table));
	if (!f->table) {
		f->table = old;
		return -ENOMEM;
	}
	f->buckets = 2 * n;
	for (size_t i = 0; i < n; i++) {
		while (old[i]) {
			struct file *file = old[i];
			struct file **to = &f->table[bucket_of(f, file->ino)];

			old[i] = file->next;
			file->next = *to;
			*to = file;
		}
	}
	free(old);
	return 0;
}

static int give_id(struct files *f, struct file *file)
{
	if (f->ids == FILES_IDS_INODE) {
		file->id = file->ino;
		return 0;
	}
	if (f->nown == f->own_size) {
		size_t n = f->own_size ? 2 * f->own_size : 1024;
		struct file **own = reallocarray(f->own, n, sizeof(*own));

		if (!own)
			return -ENOMEM;
		f->own = own;
		f->own_size = n;
	}
	file->id = FILES_ROOT_ID + f->nown;
	f->own[f->nown++] = file;
	return 0;
}

static struct file **place_of(struct files *f, uint64_t ino)
{
	struct file **at = &f->table[bucket_of(f, ino)];

	while (*at && (*at)->ino != ino)
		at = &(*at)->next;
	return at;
}

void files_forget(struct files *f, struct file *file)
{
	struct file **at = place_of(f, file->ino);

	*at = file->next;
	if (f->ids == FILES_IDS_OWN)
		f->own[file->id - FILES_ROOT_ID] = NULL;
	f->count--;
	free(file->path);
	free(file);
}

/* The file with this inode number and birth; path NULL: stays as it is. */
static int know(struct files *f, uint64_t ino, int64_t btime_ns, const char *path, struct file **ret_file)
{
	struct file *file = *place_of(f, ino);
	int r;

	if (file && file->btime_ns != btime_ns) {
		files_forget(f, file);
		file = NULL;
	}
	if (file && strcmp(file->path, path) == 0) {
		*ret_file = file;
		return 0;
	}
	if (file) {
		char *copy = strdup(path);

		if (!copy)
			return -ENOMEM;
		free(file->path);
		file->path = copy;
		*ret_file = file;
		return 0;
	}
	if (f->count >= FILES_KNOWN_MAX)
		return -ENFILE;
	r = grow(f);
	if (r < 0)
		return r;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->ino = ino;
	file->btime_ns = btime_ns;
	file->path = strdup(path);
	r = file->path ? give_id(f, file) : -ENOMEM;
	if (r < 0) {
		free(file->path);
		free(file);
		return r;
	}
	*place_of(f, ino) = file;
	f->count++;
	*ret_file = file;
	return 0;
}

/* ---- finding ---- */

static int open_below(int dir_fd, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	int fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static int64_t btime_of(const struct statx *st)
{
	return st->stx_mask & STATX_BTIME ? st->stx_btime.tv_sec * 1000000000LL + st->stx_btime.tv_nsec : 0;
}

/* Takes fd. */
static int found_init(struct files *f, int fd, const char *path, struct found *ret_found)
{
	struct found found = { .fd = fd };
	int r;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &found.st) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	r = know(f, found.st.stx_ino, btime_of(&found.st), path, &found.file);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_found = found;
	return 0;
}

void found_fini(struct found *found)
{
	close(found->fd);
}

int files_find_path(struct files *f, const char *path, struct found *ret_found)
{
	int fd = open_below(f->root_fd, path[1] ? path + 1 : ".", O_PATH);

	/* A link on the way is no directory; RESOLVE_NO_SYMLINKS says ELOOP. */
	if (fd < 0)
		return fd == -ELOOP ? -ENOTDIR : fd;
	return found_init(f, fd, path, ret_found);
}

int files_find_at(struct files *f, int dir_fd, const char *dir_path, const char *name, struct found *ret_found)
{
	char *path = files_join(dir_path, name);
	int fd, r;

	if (!path)
		return -ENOMEM;
	fd = open_below(dir_fd, name, O_PATH);
	r = fd < 0 ? fd : found_init(f, fd, path, ret_found);
	free(path);
	return r;
}

/* The path of inode `ino` below the directory fd, which is taken. -ENOENT. */
static int walk(int fd, const char *dir_path, uint64_t ino, unsigned depth, char **ret_path)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	int r = -ENOENT;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (r == -ENOENT && (entry = readdir(dir))) {
		bool is_dir = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
		char *path;
		int sub;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || (entry->d_ino != ino && !is_dir))
			continue;
		path = files_join(dir_path, entry->d_name);
		if (!path) {
			r = -ENOMEM;
			break;
		}
		if (entry->d_ino == ino) {
			*ret_path = path;
			r = 0;
			break;
		}
		sub = depth ? open_below(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY) : -1;
		if (sub >= 0)
			r = walk(sub, path, ino, depth - 1, ret_path);
		free(path);
	}
	closedir(dir);
	return r;
}

static int search(struct files *f, uint64_t ino, struct found *ret_found)
{
	char *path;
	struct stat st;
	int fd, r;

	if (fstat(f->root_fd, &st) == 0 && st.st_ino == ino)
		return files_find_path(f, "/", ret_found);
	fd = open_below(f->root_fd, ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = walk(fd, "/", ino, WALK_DEPTH_MAX, &path);
	if (r < 0)
		return r;
	r = files_find_path(f, path, ret_found);
	free(path);
	return r;
}

int files_find_id(struct files *f, uint64_t id, struct found *ret_found)
{
	struct file *file;
	uint64_t ino = id;
	struct found found;
	char *path;

	if (f->ids == FILES_IDS_OWN) {
		if (id < FILES_ROOT_ID || id - FILES_ROOT_ID >= f->nown || !f->own[id - FILES_ROOT_ID])
			return -ESTALE;
		ino = f->own[id - FILES_ROOT_ID]->ino;
	}
	file = *place_of(f, ino);
	if (file) {
		int r;

		/* Finding may forget the file and its path. */
		path = strdup(file->path);
		if (!path)
			return -ENOMEM;
		r = files_find_path(f, path, &found);
		free(path);
		if (r == 0 && found.st.stx_ino == ino && found.file->id == id) {
			*ret_found = found;
			return 0;
		}
		if (r == 0)
			found_fini(&found);
	}
	if (search(f, ino, &found) < 0)
		return -ESTALE;
	if (found.file->id != id) {
		found_fini(&found);
		return -ESTALE;
	}
	*ret_found = found;
	return 0;
}

int files_find(struct files *f, const struct route *route, struct found *ret_found)
{
	return route->by_id ? files_find_id(f, route->id, ret_found) : files_find_path(f, route->path, ret_found);
}

int files_invent(struct files *f, const char *path)
{
	char *copy = strdup(path), *at;
	int fd, r = 0;

	if (!copy)
		return -ENOMEM;
	for (at = strchr(copy + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		if (mkdirat(f->root_fd, copy + 1, 0755) < 0 && errno != EEXIST) {
			r = -errno;
			goto out;
		}
		*at = '/';
	}
	fd = copy[1] ? openat(f->root_fd, copy + 1, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644) : -1;
	if (fd < 0)
		r = copy[1] ? -errno : -EEXIST;
	else
		close(fd);
out:
	free(copy);
	return r == -EEXIST ? 0 : r;
}

/* ---- locks ---- */

int files_lock_changed(struct files *f, struct file *file)
{
	char until[QTIME_TEXT_BYTES], *line;
	json_t *object;
	size_t len;
	int r = 0;

	file->revision++;
	if (f->state_fd < 0)
		return 0;
	qtime_format(file->lock.until, until);
	object = json_pack("{s:s, s:I, s:I, s:I, s:b, s:o}", "path", file->path, "ino", (json_int_t)file->ino, "btime_ns",
		(json_int_t)file->btime_ns, "id", (json_int_t)file->id, "legal_hold", file->lock.hold, "retention_period",
		file->lock.retained ? json_string(until) : json_null());
	line = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (!line)
		return -ENOMEM;
	len = strlen(line);
	line[len] = '\n';	/* the NUL's place: a line is one write */
	if (write(f->state_fd, line, len + 1) != (ssize_t)len + 1)
		r = -EIO;
	free(line);
	return r;
}

static int load_line(struct files *f, const char *line)
{
	json_t *object = json_loads(line, 0, NULL);
	json_t *end = NULL;
	const char *path;
	json_int_t ino, btime_ns, id;
	struct qlock lock = { 0 };
	struct file *file;
	int hold, r = -EBADMSG;

	if (object && json_unpack(object, "{s:s, s:I, s:I, s:I, s:b, s:o}", "path", &path, "ino", &ino, "btime_ns", &btime_ns, "id", &id,
		"legal_hold", &hold, "retention_period", &end) == 0 &&
	    (json_is_null(end) || (json_is_string(end) && qtime_parse(json_string_value(end), false, &lock.until) == 0))) {
		lock.hold = hold;
		lock.retained = json_is_string(end);
		r = know(f, ino, btime_ns, path, &file);
		if (r == 0)
			file->lock = lock;
	}
	json_decref(object);
	return r;
}

static int load(struct files *f, const char *state)
{
	FILE *from = fopen(state, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int r = 0;

	while (r == 0 && from && (len = getline(&line, &size, from)) > 0)
		if (line[len - 1] == '\n')	/* a kill may have cut the last one */
			r = load_line(f, line);
	free(line);
	if (from)
		fclose(from);
	return r;
}

int files_open(const char *dir, enum files_ids ids, const char *state, struct files **ret_files)
{
	struct files *f = calloc(1, sizeof(*f));
	struct found root;
	int r;

	if (!f)
		return -ENOMEM;
	f->state_fd = -1;
	f->ids = ids;
	f->buckets = 1024;
	f->table = calloc(f->buckets, sizeof(*f->table));
	f->root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!f->table || f->root_fd < 0) {
		r = f->table ? -errno : -ENOMEM;
		goto failed;
	}
	/* First, so that its own id is FILES_ROOT_ID. */
	r = files_find_path(f, "/", &root);
	if (r < 0)
		goto failed;
	found_fini(&root);
	if (state) {
		r = load(f, state);
		if (r < 0)
			goto failed;
		f->state_fd = open(state, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		if (f->state_fd < 0) {
			r = -errno;
			goto failed;
		}
	}
	*ret_files = f;
	return 0;
failed:
	files_close(f);
	return r;
}

void files_close(struct files *f)
{
	if (!f)
		return;
	for (size_t i = 0; f->table && i < f->buckets; i++) {
		while (f->table[i]) {
			struct file *file = f->table[i];

			f->table[i] = file->next;
			free(file->path);
			free(file);
		}
	}
	free(f->table);
	free(f->own);
	if (f->root_fd >= 0)
		close(f->root_fd);
	if (f->state_fd >= 0)
		close(f->state_fd);
	free(f);
}

int files_root_fd(const struct files *f)
{
	return f->root_fd;
}

json_t *files_locks_json(const struct files *f, struct qtime now, const struct switches *s)
{
	json_t *all = json_array();
	char id[24];

	for (size_t i = 0; i < f->buckets; i++) {
		for (const struct file *file = f->table[i]; file; file = file->next) {
			if (!file->lock.hold && !file->lock.retained)
				continue;
			snprintf(id, sizeof(id), "%llu", (unsigned long long)file->id);
			json_array_append_new(all, json_pack("{s:s, s:s, s:o}", "path", file->path, "id", id, "lock",
				qlock_json(&file->lock, now, s)));
		}
	}
	return all;
}

void files_unlock_all(struct files *f)
{
	for (size_t i = 0; i < f->buckets; i++) {
		for (struct file *file = f->table[i]; file; file = file->next) {
			if (!file->lock.hold && !file->lock.retained)
				continue;
			file->lock = (struct qlock){ 0 };
			(void)files_lock_changed(f, file);	/* a test's own wish; the state tells at its next start */
		}
	}
}
