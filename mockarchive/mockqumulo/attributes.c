/* Attributes: the keys of the documents, 64-bit numbers as strings. */
#include "mockarchive/mockqumulo/attributes.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "FS_FILE_TYPE_FILE";
	case S_IFDIR:
		return "FS_FILE_TYPE_DIRECTORY";
	case S_IFLNK:
		return "FS_FILE_TYPE_SYMLINK";
	case S_IFIFO:
		return "FS_FILE_TYPE_UNIX_PIPE";
	case S_IFCHR:
		return "FS_FILE_TYPE_UNIX_CHARACTER_DEVICE";
	case S_IFBLK:
		return "FS_FILE_TYPE_UNIX_BLOCK_DEVICE";
	default:
		return "FS_FILE_TYPE_UNIX_SOCKET";
	}
}

static json_t *time_json(const struct statx_timestamp *t)
{
	struct qtime time = { t->tv_sec < 0 ? 0 : t->tv_sec, t->tv_nsec };
	char text[QTIME_TEXT_BYTES];

	qtime_format(time, text);
	return json_string(text);
}

static json_t *number_json(uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return json_string(text);
}

static int64_t ns_of(const struct statx_timestamp *t)
{
	return t->tv_sec * 1000000000LL + t->tv_nsec;
}

uint64_t attributes_children(const struct found *found)
{
	uint64_t n = 0;
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (!S_ISDIR(found->st.stx_mode))
		return 0;
	fd = openat(found->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((entry = readdir(dir)))
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(dir);
	return n;
}

static json_t *owner_json(const char *id_type, unsigned id)
{
	return json_pack("{s:s, s:o}", "id_type", id_type, "id_value", number_json(id));
}

static json_t *extended_json(void)
{
	static const char *const names[] = { "read_only", "hidden", "system", "archive", "temporary", "compressed",
		"not_content_indexed", "sparse_file", "offline" };
	json_t *object = json_object();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		json_object_set_new(object, names[i], json_false());
	return object;
}

json_t *attributes_json(struct exchange *x, const struct found *found, bool with_lock)
{
	const struct statx *st = &found->st;
	const char *path = found->file->path;
	char mode[8];
	json_t *object;

	snprintf(mode, sizeof(mode), "%04o", st->stx_mode & 07777);
	object = json_pack("{s:s, s:s, s:I, s:s, s:{s:I, s:I}, s:s, s:o, s:o, s:s}",
		"path", path, "name", strcmp(path, "/") == 0 ? "" : strrchr(path, '/') + 1, "num_links", (json_int_t)st->stx_nlink,
		"type", type_name(st->stx_mode), "major_minor_numbers", "major", (json_int_t)st->stx_rdev_major,
		"minor", (json_int_t)st->stx_rdev_minor, "symlink_target_type", "FS_FILE_TYPE_UNKNOWN",
		"file_number", number_json(found->file->id), "id", number_json(found->file->id), "mode", mode);
	if (!object)
		return NULL;
	json_object_set_new(object, "owner", number_json(st->stx_uid));
	json_object_set_new(object, "owner_details", owner_json("NFS_UID", st->stx_uid));
	json_object_set_new(object, "group", number_json(st->stx_gid));
	json_object_set_new(object, "group_details", owner_json("NFS_GID", st->stx_gid));
	json_object_set_new(object, "blocks", number_json(st->stx_blocks / 8 + 1));
	json_object_set_new(object, "datablocks", number_json(st->stx_blocks / 8));
	json_object_set_new(object, "metablocks", number_json(1));
	json_object_set_new(object, "size", number_json(st->stx_size));
	json_object_set_new(object, "access_time", time_json(&st->stx_atime));
	json_object_set_new(object, "modification_time", time_json(&st->stx_mtime));
	json_object_set_new(object, "change_time", time_json(&st->stx_ctime));
	json_object_set_new(object, "creation_time", time_json(st->stx_mask & STATX_BTIME ? &st->stx_btime : &st->stx_ctime));
	json_object_set_new(object, "child_count", json_integer(attributes_children(found)));
	json_object_set_new(object, "extended_attributes", extended_json());
	json_object_set_new(object, "directory_entry_hash_policy", S_ISDIR(st->stx_mode) ?
		json_string("FS_DIRECTORY_HASH_VERSION_FOLDED") : json_null());
	json_object_set_new(object, "data_revision", number_json(ns_of(&st->stx_mtime)));
	json_object_set_new(object, "user_metadata_revision", number_json(0));
	if (with_lock && S_ISREG(st->stx_mode))
		json_object_set_new(object, "lock", qlock_json(&found->file->lock, mock_now(x->mock), &x->mock->switches));
	else if (with_lock || switch_value(&x->mock->switches, SW_LOCK_UNASKED) == LOCK_NULL)
		json_object_set_new(object, "lock", json_null());
	return object;
}

static void etag_of(const struct exchange *x, const struct found *found, char ret_tag[48])
{
	const struct statx *st = &found->st;
	unsigned kind = switch_value(&x->mock->switches, SW_ETAG);
	uint64_t extra = 0;

	if (kind == ETAG_ATTRIBUTES || kind == ETAG_READ)
		extra = ns_of(&st->stx_ctime) + found->file->revision;
	if (kind == ETAG_READ)
		extra += found->file->reads << 32;
	snprintf(ret_tag, 48, "%llx-%llx-%llx", (unsigned long long)ns_of(&st->stx_mtime), (unsigned long long)st->stx_size,
		(unsigned long long)extra);
}

void attributes_etag(struct exchange *x, const struct found *found)
{
	bool quotes = switch_value(&x->mock->switches, SW_ETAG_QUOTES) == SWITCH_YES;
	char tag[48];

	if (switch_value(&x->mock->switches, SW_ETAG) == ETAG_NONE)
		return;
	etag_of(x, found, tag);
	snprintf(x->etag, sizeof(x->etag), quotes ? "\"%s\"" : "%s", tag);
}

bool attributes_match(struct exchange *x, const struct found *found)
{
	const char *wanted = http_request_header(x->req, "If-Match");
	struct refusal refusal = refusal_of(&x->mock->switches, SW_PRECONDITION, "the file is another version");
	char tag[48];
	size_t len;

	if (!wanted || strcmp(wanted, "*") == 0)
		return true;
	etag_of(x, found, tag);
	len = strlen(wanted);
	if (len >= 2 && wanted[0] == '"' && wanted[len - 1] == '"') {
		wanted++;
		len -= 2;
	}
	if (!refusal.status || (strlen(tag) == len && strncmp(tag, wanted, len) == 0))
		return true;
	exchange_refuse_by(x, &refusal);
	return false;
}

bool attributes_locked(const struct exchange *x, const struct found *found)
{
	return S_ISREG(found->st.stx_mode) && qlock_in_force(&found->file->lock, mock_now(x->mock));
}
