/* Owns the parsed mount table. Source of the format: proc(5), /proc/pid/mountinfo. */
#include "lockstore/wormctl/mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kernel writes space, tab, newline, '#' and backslash as \ooo. Source: fs/seq_file.c, mangle_path() */
static char *unescape(const char *text)
{
	char *copy = malloc(strlen(text) + 1), *out = copy;

	if (!copy)
		return NULL;
	while (*text) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
		    text[3] >= '0' && text[3] <= '7') {
			*out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
			text += 4;
		} else {
			*out++ = *text++;
		}
	}
	*out = '\0';
	return copy;
}

static void mount_fini(struct mount *m)
{
	free(m->root);
	free(m->point);
	free(m->type);
	free(m->source);
}

/* -EINVAL: not a line of this format, it is skipped. */
static int mount_parse(char *line, struct mount *ret_mount)
{
	struct mount m = { .id = -1 };
	char *fields[5], *tail, *save = NULL;

	tail = strstr(line, " - ");	/* optional fields end here */
	if (!tail)
		return -EINVAL;
	*tail = '\0';
	tail += 3;
	for (int i = 0; i < 5; i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return -EINVAL;
	}
	if (sscanf(fields[0], "%d", &m.id) != 1 || sscanf(fields[1], "%d", &m.parent) != 1 ||
	    sscanf(fields[2], "%u:%u", &m.major, &m.minor) != 2)
		return -EINVAL;
	m.root = unescape(fields[3]);
	m.point = unescape(fields[4]);
	save = NULL;
	fields[0] = strtok_r(tail, " \n", &save);
	fields[1] = strtok_r(NULL, " \n", &save);
	m.type = fields[0] ? unescape(fields[0]) : NULL;
	m.source = unescape(fields[1] ? fields[1] : "");
	if (!m.root || !m.point || !m.type || !m.source) {
		mount_fini(&m);
		return fields[0] ? -ENOMEM : -EINVAL;
	}
	*ret_mount = m;
	return 0;
}

int mounts_read(const char *path, struct mounts *ret_mounts)
{
	struct mounts mounts = { 0 };
	FILE *in = fopen(path ? path : "/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t line_bytes = 0;
	int r = 0;

	if (!in)
		return -errno;
	while (getline(&line, &line_bytes, in) > 0) {
		struct mount m, *grown;

		r = mount_parse(line, &m);
		if (r == -EINVAL)
			continue;
		if (r < 0)
			goto out;
		grown = reallocarray(mounts.list, mounts.count + 1, sizeof(m));
		if (!grown) {
			mount_fini(&m);
			r = -ENOMEM;
			goto out;
		}
		mounts.list = grown;
		mounts.list[mounts.count++] = m;
	}
	r = ferror(in) ? -EIO : 0;
out:
	if (r < 0)
		mounts_fini(&mounts);
	else
		*ret_mounts = mounts;
	free(line);
	fclose(in);
	return r;
}

void mounts_fini(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++)
		mount_fini(&mounts->list[i]);
	free(mounts->list);
	mounts->list = NULL;
	mounts->count = 0;
}

bool path_is_below(const char *path, const char *dir, const char **ret_rest)
{
	size_t len = strlen(dir);

	if (len && dir[len - 1] == '/')	/* only "/" ends so */
		len--;
	if (strncmp(path, dir, len) != 0 || (path[len] && path[len] != '/'))
		return false;
	path += len;
	*ret_rest = path + strspn(path, "/");
	return true;
}

static bool has_parent(const struct mounts *mounts, const struct mount *m)
{
	for (size_t i = 0; i < mounts->count; i++)
		if (mounts->list[i].id == m->parent && &mounts->list[i] != m)
			return true;
	return false;
}

const struct mount *mounts_find(const struct mounts *mounts, const char *path)
{
	const struct mount *current = NULL;

	/* From the root, the mount that is met next on the way to `path`, until there is no further one.
	 * One step a mount at most: a table read while it changed cannot make a circle. */
	for (size_t step = 0; step < mounts->count; step++) {
		const struct mount *next = NULL;

		for (size_t i = 0; i < mounts->count; i++) {
			const struct mount *m = &mounts->list[i];
			const char *rest;

			if (m == current || !path_is_below(path, m->point, &rest))
				continue;
			if (current ? m->parent != current->id : has_parent(mounts, m))
				continue;
			if (!next || strlen(m->point) <= strlen(next->point))
				next = m;
		}
		if (!next)
			break;
		current = next;
	}
	return current;
}

bool mount_is_worm(const struct mount *mount)
{
	return mount && strcmp(mount->type, MOUNT_TYPE) == 0;
}
