/* Changes: of names, of data, of attributes. A lock guards data, attributes and the last name of its file; other names may go,
 * and whether one may be added or moved is a switch. */
#include "mockarchive/mockqumulo/file_changes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mockarchive/http_url.h"
#include "mockarchive/mockqumulo/attributes.h"

/* The switch says no to a change of a locked file; else false. */
static bool refuse_locked(struct exchange *x, enum switch_id id, const struct found *found)
{
	struct refusal refusal = refusal_of(&x->mock->switches, id, "the file is locked");

	if (!attributes_locked(x, found) || !refusal.status)
		return false;
	exchange_refuse_by(x, &refusal);
	return true;
}

static int reopen(const struct found *found, int flags)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", found->fd);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool is_last_name(const struct found *found)
{
	return S_ISDIR(found->st.stx_mode) || found->st.stx_nlink <= 1;
}

/* 0, or refused. The name must lead to `found`. */
static int remove_name(struct exchange *x, int dir_fd, const char *name, const struct found *found)
{
	bool is_dir = S_ISDIR(found->st.stx_mode), last = is_last_name(found);

	if (last && refuse_locked(x, SW_READ_ONLY, found))
		return -EPERM;
	if (unlinkat(dir_fd, name, is_dir ? AT_REMOVEDIR : 0) < 0) {
		int r = -errno;

		exchange_refuse_errno(x, r);
		return r;
	}
	if (last)
		files_forget(x->mock->files, found->file);
	return 0;
}

/* Splits a path that was checked; *ret_name is within it. */
static int find_parent(struct exchange *x, const char *path, struct found *ret_dir, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char *parent = slash == path ? strdup("/") : strndup(path, slash - path);
	int r = parent ? files_find_path(x->mock->files, parent, ret_dir) : -ENOMEM;

	free(parent);
	*ret_name = slash + 1;
	return r;
}

void file_delete(struct exchange *x, struct found *found)
{
	char *path = strdup(found->file->path);
	const char *name;
	struct found dir;
	int r;

	if (path && strcmp(path, "/") == 0) {
		exchange_refuse(x, 400, "fs_invalid_file_type_error", "the root cannot be deleted");
		free(path);
		return;
	}
	r = path ? find_parent(x, path, &dir, &name) : -ENOMEM;
	if (r < 0) {
		exchange_refuse_errno(x, r);
	} else {
		(void)remove_name(x, dir.fd, name, found);	/* refused is an answer, too */
		found_fini(&dir);
	}
	free(path);
}

void file_delete_entry(struct exchange *x, struct found *dir)
{
	struct found found;
	int r = files_find_at(x->mock->files, dir->fd, dir->file->path, x->route.name, &found);

	if (r < 0) {
		exchange_refuse_errno(x, r);
		return;
	}
	(void)remove_name(x, dir->fd, x->route.name, &found);	/* refused is an answer, too */
	found_fini(&found);
}

/* ---- new names ---- */

struct entry_request {
	const char *name, *action, *old_path;
	int clobber;
};

static bool parse_entry(struct exchange *x, json_t *object, struct entry_request *ret_request)
{
	struct entry_request rq = { 0 };

	if (json_unpack(object, "{s:s, s:s, s?s, s?b}", "name", &rq.name, "action", &rq.action, "old_path", &rq.old_path,
		"clobber", &rq.clobber) < 0 || !route_check_name(rq.name)) {
		exchange_refuse(x, 400, "decode_error", "the body needs a name and an action");
		return false;
	}
	*ret_request = rq;
	return true;
}

/* The file that old_path names, an id or a path. */
static int find_old(struct exchange *x, const char *old_path, struct found *ret_found)
{
	struct files *files = x->mock->files;
	char *copy, *end;
	int r;

	if (!old_path)
		return -ENXIO;
	if (*old_path >= '0' && *old_path <= '9') {
		unsigned long long id = strtoull(old_path, &end, 10);

		return *end ? -ENXIO : files_find_id(files, id, ret_found);
	}
	copy = strdup(old_path);
	if (!copy)
		return -ENOMEM;
	r = route_check_path(copy) ? files_find_path(files, copy, ret_found) : -ENXIO;
	free(copy);
	return r;
}

static int link_entry(struct exchange *x, const struct found *dir, const struct entry_request *rq, const struct found *old)
{
	char path[40];

	if (refuse_locked(x, SW_LINK_LOCKED, old))
		return -EPERM;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", old->fd);
	return linkat(AT_FDCWD, path, dir->fd, rq->name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int rename_entry(struct exchange *x, const struct found *dir, const struct entry_request *rq, const struct found *old)
{
	char *old_path = strdup(old->file->path);
	struct found target, parent;
	bool clobbers = false;
	const char *name;
	int r;

	if (!old_path)
		return -ENOMEM;
	if (refuse_locked(x, SW_RENAME_LOCKED, old)) {
		free(old_path);
		return -EPERM;
	}
	r = files_find_at(x->mock->files, dir->fd, dir->file->path, rq->name, &target);
	if (r == 0) {
		clobbers = true;
		if (!rq->clobber)
			r = -EEXIST;
		else if (is_last_name(&target) && refuse_locked(x, SW_READ_ONLY, &target))
			r = -EPERM;
		found_fini(&target);
	} else if (r == -ENOENT) {
		r = 0;
	}
	if (r == 0)
		r = find_parent(x, old_path, &parent, &name);
	if (r == 0) {
		if (renameat2(parent.fd, name, dir->fd, rq->name, clobbers ? 0 : RENAME_NOREPLACE) < 0)
			r = -errno;
		found_fini(&parent);
	}
	free(old_path);
	return r;
}

static int make_entry(struct exchange *x, const struct found *dir, const struct entry_request *rq)
{
	struct found old;
	int r;

	if (strcmp(rq->action, "CREATE_FILE") == 0) {
		int fd = openat(dir->fd, rq->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

		if (fd < 0)
			return -errno;
		close(fd);
		return 0;
	}
	if (strcmp(rq->action, "CREATE_DIRECTORY") == 0)
		return mkdirat(dir->fd, rq->name, 0755) < 0 ? -errno : 0;
	if (strcmp(rq->action, "CREATE_SYMLINK") == 0)
		return !rq->old_path ? -ENXIO : symlinkat(rq->old_path, dir->fd, rq->name) < 0 ? -errno : 0;
	if (strcmp(rq->action, "CREATE_LINK") != 0 && strcmp(rq->action, "RENAME") != 0) {
		exchange_refuse(x, 400, "decode_error", "the mock has CREATE_FILE, CREATE_DIRECTORY, CREATE_SYMLINK, CREATE_LINK and RENAME");
		return -EPERM;
	}
	r = find_old(x, rq->old_path, &old);
	if (r < 0)
		return r;
	r = strcmp(rq->action, "RENAME") == 0 ? rename_entry(x, dir, rq, &old) : link_entry(x, dir, rq, &old);
	found_fini(&old);
	return r;
}

void file_make_entry(struct exchange *x, struct found *dir)
{
	json_t *object = json_loadb(x->body, x->body_len, 0, NULL);
	struct entry_request rq;
	struct found found;
	int r = -EPERM;

	if (!S_ISDIR(dir->st.stx_mode)) {
		exchange_refuse(x, 400, "fs_not_a_directory_error", "not a directory");
	} else if (parse_entry(x, object, &rq)) {
		r = make_entry(x, dir, &rq);
		if (r == 0)
			r = files_find_at(x->mock->files, dir->fd, dir->file->path, rq.name, &found);
		if (r < 0 && r != -EPERM)
			exchange_refuse_errno(x, r);
		else if (r < 0 && x->status == 200)	/* not a refusal of ours: the system's */
			exchange_refuse(x, 403, "fs_access_denied_error", "not permitted");
	}
	if (r == 0) {
		attributes_etag(x, &found);
		x->json = attributes_json(x, &found, false);
		found_fini(&found);
	}
	json_decref(object);
}

/* ---- data and attributes ---- */

static bool number_of(struct exchange *x, const char *name, uint64_t otherwise, uint64_t *ret_number)
{
	char *text, *end;
	int r = http_query_get(x->query, name, &text);

	*ret_number = otherwise;
	if (r == -ENOENT)
		return true;
	if (r == 0) {
		errno = 0;
		*ret_number = strtoull(text, &end, 10);
		r = *text < '0' || *text > '9' || *end || errno || *ret_number > INT64_MAX ? -EINVAL : 0;
		free(text);
	}
	if (r < 0)
		exchange_refuse(x, 400, "decode_error", "a query parameter is not a number");
	return r == 0;
}

static bool is_regular(struct exchange *x, const struct found *found)
{
	if (S_ISREG(found->st.stx_mode))
		return true;
	exchange_refuse(x, 400, "fs_not_a_file_error", "not a regular file");
	return false;
}

void file_read(struct exchange *x, struct found *found)
{
	uint64_t offset, length;
	ssize_t n;
	int fd;

	if (!is_regular(x, found) || !number_of(x, "offset", 0, &offset) || !number_of(x, "length", FILE_READ_MAX_BYTES, &length))
		return;
	if (length > FILE_READ_MAX_BYTES)
		length = FILE_READ_MAX_BYTES;
	fd = reopen(found, O_RDONLY);
	x->raw = malloc(length + 1);
	n = fd >= 0 && x->raw ? pread(fd, x->raw, length, offset) : -1;
	if (n < 0)
		exchange_refuse_errno(x, fd < 0 ? fd : -EIO);
	else
		x->raw_len = n;
	x->content_type = "application/octet-stream";
	if (fd >= 0)
		close(fd);
	attributes_etag(x, found);
}

static int write_all(int fd, const char *data, size_t len, off_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, offset);

		if (n < 0)
			return -errno;
		data += n;
		len -= n;
		offset += n;
	}
	return 0;
}

/* Brings found->st up to date. */
static int look_again(struct found *found)
{
	return statx(found->fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &found->st) < 0 ? -errno : 0;
}

void file_write(struct exchange *x, struct found *found)
{
	char *ignored;
	bool whole = http_query_get(x->query, "offset", &ignored) == -ENOENT;
	uint64_t offset;
	int fd, r;

	if (!whole)
		free(ignored);
	if (!is_regular(x, found) || !number_of(x, "offset", 0, &offset) || refuse_locked(x, SW_READ_ONLY, found) || !attributes_match(x, found))
		return;
	fd = reopen(found, O_WRONLY | (whole ? O_TRUNC : 0));
	r = fd < 0 ? fd : write_all(fd, x->body, x->body_len, offset);
	if (fd >= 0)
		close(fd);
	if (r == 0)
		r = look_again(found);
	if (r < 0) {
		exchange_refuse_errno(x, r);
		return;
	}
	attributes_etag(x, found);
	x->json = attributes_json(x, found, false);
}

static int change_key(struct found *found, const char *key, json_t *value)
{
	const char *text = json_string_value(value);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	char path[40], *end;
	struct qtime mtime;
	unsigned long long n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", found->fd);
	if (!text)
		return -EINVAL;
	if (strcmp(key, "modification_time") == 0) {
		if (qtime_parse(text, true, &mtime) < 0)
			return -EINVAL;
		times[1] = (struct timespec){ mtime.s, mtime.ns };
		return utimensat(AT_FDCWD, path, times, 0) < 0 ? -errno : 0;
	}
	n = strtoull(text, &end, strcmp(key, "mode") == 0 ? 8 : 10);
	if (*text < '0' || *text > '9' || *end)
		return -EINVAL;
	if (strcmp(key, "mode") == 0)
		return n > 07777 ? -EINVAL : chmod(path, n) < 0 ? -errno : 0;
	if (strcmp(key, "size") == 0)
		return n > INT64_MAX ? -EINVAL : truncate(path, n) < 0 ? -errno : 0;
	return -EINVAL;
}

int file_change_attributes(struct exchange *x, struct found *found)
{
	json_t *object = json_loadb(x->body, x->body_len, 0, NULL), *value;
	const char *key;
	int r = json_is_object(object) ? 0 : -EINVAL;

	if (r == 0 && refuse_locked(x, SW_READ_ONLY, found)) {
		json_decref(object);
		return -EPERM;
	}
	json_object_foreach(object, key, value) {
		r = change_key(found, key, value);
		if (r < 0)
			break;
	}
	json_decref(object);
	if (r == 0)
		r = look_again(found);
	if (r == -EINVAL)
		exchange_refuse(x, 400, "decode_error", "the mock changes mode, size and modification_time, all strings");
	else if (r < 0)
		exchange_refuse_errno(x, r);
	return r < 0 ? -EPERM : 0;
}
