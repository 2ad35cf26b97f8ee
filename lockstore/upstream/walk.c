#include "lockstore/upstream/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/upstream/endpoint.h"

struct stop {
	char *path, *after;
};

struct walk {
	struct stop *stack;	/* the last is next */
	size_t count, size;
	bool recursive;
};

static int push(struct walk *walk, const char *path, const char *after)
{
	struct stop stop = { 0 };

	if (walk->count >= WALK_STACK_MAX)
		return -ENOSPC;
	if (walk->count == walk->size) {
		size_t size = walk->size ? walk->size * 2 : 64;
		struct stop *grown = realloc(walk->stack, size * sizeof(struct stop));

		if (!grown)
			return -ENOMEM;
		walk->stack = grown;
		walk->size = size;
	}
	stop.path = strdup(path);
	stop.after = strdup(after);
	if (!stop.path || !stop.after) {
		free(stop.path);
		free(stop.after);
		return -ENOMEM;
	}
	walk->stack[walk->count++] = stop;
	return 0;
}

static void pop(struct walk *walk)
{
	struct stop *stop = &walk->stack[--walk->count];

	free(stop->path);
	free(stop->after);
}

static int open_empty(bool recursive, struct walk **ret_walk)
{
	struct walk *walk = calloc(1, sizeof(*walk));

	if (!walk)
		return -ENOMEM;
	walk->recursive = recursive;
	*ret_walk = walk;
	return 0;
}

int walk_open(const char *path, bool recursive, struct walk **ret_walk)
{
	struct walk *walk;
	int r = open_empty(recursive, &walk);

	if (r < 0)
		return r;
	r = push(walk, path, "");
	if (r < 0) {
		walk_close(walk);
		return r;
	}
	*ret_walk = walk;
	return 0;
}

void walk_close(struct walk *walk)
{
	if (!walk)
		return;
	while (walk->count)
		pop(walk);
	free(walk->stack);
	free(walk);
}

int walk_add(struct walk *walk, const char *path)
{
	int r = push(walk, path, "");

	if (r == 0 && walk->count > 1) {
		struct stop last = walk->stack[walk->count - 1];

		walk->stack[walk->count - 1] = walk->stack[walk->count - 2];
		walk->stack[walk->count - 2] = last;
	}
	return r;
}

bool walk_next(const struct walk *walk, const char **ret_path, const char **ret_after)
{
	if (walk->count == 0)
		return false;
	*ret_path = walk->stack[walk->count - 1].path;
	*ret_after = walk->stack[walk->count - 1].after;
	return true;
}

void walk_skip(struct walk *walk)
{
	if (walk->count)
		pop(walk);
}

static bool name_is_good(const char *name)
{
	return name && *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
}

int walk_page(struct walk *walk, const struct upstream_reply *page, walk_fn fn, void *arg)
{
	struct stop *here = &walk->stack[walk->count - 1];
	char *dir = here->path, *after = NULL;
	int r = 0;

	/* One that names itself as next would go on for ever, and what comes behind it would not be seen. */
	if (page->after && strcmp(page->after, here->after) == 0)
		return -ELOOP;
	/* Below a page's directories comes the rest of their parent. */
	if (page->after) {
		dir = strdup(here->path);
		after = strdup(page->after);
		if (!dir || !after) {
			free(dir);
			free(after);
			return -ENOMEM;
		}
		free(here->after);
		here->after = after;
	} else {
		free(here->after);
		walk->count--;	/* `dir` is ours now */
	}
	for (size_t i = 0; r == 0 && i < page->nentries; i++) {
		const struct upstream_entry *entry = &page->entries[i];
		char *path;

		if (!name_is_good(entry->name) || !entry->type)
			continue;
		if (asprintf(&path, "%s%s%s", dir, *dir ? "/" : "", entry->name) < 0) {
			r = -ENOMEM;
			break;
		}
		if (strcmp(entry->type, "FS_FILE_TYPE_DIRECTORY") != 0)
			r = fn(arg, path, entry);
		else if (walk->recursive && strlen(path) <= ENDPOINT_PATH_MAX_BYTES)
			r = push(walk, path, "");
		free(path);
	}
	free(dir);
	return r;
}

json_t *walk_save(const struct walk *walk)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < walk->count; i++)
		if (json_array_append_new(list, json_pack("[s,s]", walk->stack[i].path, walk->stack[i].after)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

int walk_load(const json_t *saved, struct walk **ret_walk)
{
	struct walk *walk;
	json_t *each;
	size_t i;
	int r = json_is_array(saved) ? open_empty(true, &walk) : -EBADMSG;

	if (r < 0)
		return r;
	json_array_foreach(saved, i, each) {
		const char *path, *after;

		r = json_unpack(each, "[s,s!]", &path, &after) < 0 ? -EBADMSG : push(walk, path, after);
		if (r < 0) {
			walk_close(walk);
			return r;
		}
	}
	*ret_walk = walk;
	return 0;
}
