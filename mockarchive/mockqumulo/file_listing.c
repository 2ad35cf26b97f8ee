/* Listings. A page's key is the last name in it, so that a page is right whatever came and went meanwhile. */
#include "mockarchive/mockqumulo/file_listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mockarchive/http_url.h"
#include "mockarchive/mockqumulo/attributes.h"

struct names {
	char **list;
	size_t count, size;
};

static void names_fini(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->list[i]);
	free(names->list);
}

static int add_name(struct names *names, const char *name)
{
	if (names->count == names->size) {
		size_t size = names->size ? 2 * names->size : 256;
		char **list = reallocarray(names->list, size, sizeof(*list));

		if (!list)
			return -ENOMEM;
		names->list = list;
		names->size = size;
	}
	names->list[names->count] = strdup(name);
	return names->list[names->count++] ? 0 : -ENOMEM;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names after `after`, sorted; names that are not UTF-8 cannot be shown. *ret_total counts all. */
static int read_names(int dir_fd, const char *after, struct names *names, size_t *ret_total)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	size_t total = 0;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (entry = readdir(dir))) {
		json_t *text = json_string(entry->d_name);
		bool shown = text && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;

		json_decref(text);
		total += shown;
		if (shown && strcmp(entry->d_name, after) > 0)
			r = add_name(names, entry->d_name);
	}
	closedir(dir);
	if (r == 0 && names->count)
		qsort(names->list, names->count, sizeof(*names->list), by_bytes);
	*ret_total = total;
	return r;
}

static json_t *paging_json(struct exchange *x, const struct found *dir, const char *last, unsigned long limit)
{
	char *next, *key;
	json_t *paging;

	if (!last) {
		switch (switch_value(&x->mock->switches, SW_LAST_PAGE)) {
		case LAST_PAGE_EMPTY:
			return json_pack("{s:s}", "next", "");
		case LAST_PAGE_NULL:
			return json_pack("{s:n}", "next");
		default:
			return json_object();
		}
	}
	key = http_percent_encode(last, strlen(last));
	if (!key || asprintf(&next, "/v1/files/%llu/entries/?after=%s&limit=%lu", (unsigned long long)dir->file->id, key, limit) < 0) {
		free(key);
		return NULL;
	}
	paging = json_pack("{s:s}", "next", next);
	free(next);
	free(key);
	return paging;
}

/* 0 and defaults where there is no such parameter; else refused. */
static int take_page(struct exchange *x, char **ret_after, unsigned long *ret_limit)
{
	unsigned long limit = switch_value(&x->mock->switches, SW_PAGE_MAX), wanted;
	char *text, *end, *after = NULL;
	int r = http_query_get(x->query, "limit", &text);

	if (r == 0) {
		wanted = strtoul(text, &end, 10);
		if (*text < '0' || *text > '9' || *end || wanted == 0)
			r = -EINVAL;
		else if (wanted < limit)
			limit = wanted;
		free(text);
	}
	if (r == 0 || r == -ENOENT)
		r = http_query_get(x->query, "after", &after);
	if (r == -ENOENT) {
		after = strdup("");
		r = after ? 0 : -ENOMEM;
	}
	if (r < 0) {
		exchange_refuse(x, 400, "decode_error", "limit is not a number above 0, or after is not a key");
		return r;
	}
	*ret_after = after;
	*ret_limit = limit;
	return 0;
}

void file_list(struct exchange *x, struct found *dir)
{
	struct names names = { 0 };
	json_t *files, *paging;
	unsigned long limit;
	size_t total = 0, i;
	char *after, id[24];
	int r;

	if (!S_ISDIR(dir->st.stx_mode)) {
		exchange_refuse(x, 400, "fs_not_a_directory_error", "not a directory");
		return;
	}
	if (take_page(x, &after, &limit) < 0)
		return;
	r = read_names(dir->fd, after, &names, &total);
	free(after);
	if (r < 0) {
		names_fini(&names);
		exchange_refuse_errno(x, r);
		return;
	}
	files = json_array();
	for (i = 0; i < names.count && i < limit; i++) {
		struct found found;

		if (files_find_at(x->mock->files, dir->fd, dir->file->path, names.list[i], &found) < 0)
			continue;	/* gone meanwhile */
		json_array_append_new(files, attributes_json(x, &found, false));
		found_fini(&found);
	}
	paging = paging_json(x, dir, i < names.count ? names.list[i - 1] : NULL, limit);
	snprintf(id, sizeof(id), "%llu", (unsigned long long)dir->file->id);
	x->json = json_pack("{s:s, s:s, s:I, s:o, s:o}", "path", dir->file->path, "id", id, "child_count", (json_int_t)total,
		"files", files, "paging", paging);
	attributes_etag(x, dir);
	names_fini(&names);
}

/* -EINVAL: not an id. */
static int resolve_one(struct exchange *x, json_t *value, char **ret_path)
{
	const char *text = json_string_value(value);
	struct found found;
	char *end;
	int r;

	if (!text || *text < '0' || *text > '9')
		return -EINVAL;
	r = files_find_id(x->mock->files, strtoull(text, &end, 10), &found);
	if (*end)
		r = r == 0 ? (found_fini(&found), -EINVAL) : -EINVAL;
	if (r < 0)
		return r;
	*ret_path = strdup(found.file->path);
	found_fini(&found);
	return *ret_path ? 0 : -ENOMEM;
}

void file_resolve(struct exchange *x, bool try_resolve)
{
	json_t *body = json_loadb(x->body, x->body_len, 0, NULL), *ids = try_resolve ? json_object_get(body, "ids") : body;
	json_t *available = json_array(), *deleted = json_array(), *value;
	size_t i;

	if (!json_is_array(ids) || json_array_size(ids) > RESOLVE_IDS_MAX)
		exchange_refuse(x, 400, "decode_error", "not a list of ids");
	json_array_foreach(ids, i, value) {
		char *path;
		int r = x->status == 200 ? resolve_one(x, value, &path) : -ECANCELED;

		if (r == 0) {
			json_array_append_new(available, json_pack("{s:O, s:s}", "id", value, "path", path));
			free(path);
		} else if (r == -ESTALE && try_resolve) {
			json_array_append(deleted, value);
		} else if (r == -EINVAL) {
			exchange_refuse(x, 400, "decode_error", "not an id");
		} else if (r != -ECANCELED) {
			exchange_refuse_errno(x, r);
		}
	}
	if (x->status == 200)
		x->json = try_resolve ? json_pack("{s:O, s:[], s:O}", "available", available, "unavailable", "deleted", deleted) :
			json_incref(available);
	json_decref(available);
	json_decref(deleted);
	json_decref(body);
}
