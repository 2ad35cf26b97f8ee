/* A file with several names counts once: where its first one was met. */
#include "lockstore/limit_count.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lockstore/lower_walk.h"

struct counting {
	const struct limits *limits;
	enum lower_namespace ns;
	struct record_key *key;
	struct limit_count *count;
	void *linked;			/* tsearch(3): inode numbers of files with several names */
	const struct lower_walk_frame *frame;	/* whose limit `directory` is */
	size_t path_len;
	ino_t dir_ino;
	int directory;
};

static int failed(void *arg, const char *path, int r)
{
	struct counting *c = arg;

	if (r == -ENOENT)
		return 0;
	c->count->unreadable++;
	if (!c->count->first_unreadable) {
		c->count->first_unreadable = strdup(path);
		c->count->error = r;
	}
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* 1: it was counted by another name. */
static int is_known(struct counting *c, uint64_t ino)
{
	uint64_t *number = malloc(sizeof(*number)), **node;

	if (!number)
		return -ENOMEM;
	*number = ino;
	node = tsearch(number, &c->linked, compare_numbers);
	if (!node || *node != number)
		free(number);
	return !node ? -ENOMEM : *node != number;
}

/* A record that does not verify is no lock of a rule that anybody knows. */
static int rule_of(struct counting *c, int dirfd, const char *name)
{
	unsigned char bytes[RECORD_BYTES];
	struct lock_record rec;
	ssize_t n;

	if (!c->key)
		return LIMIT_NONE;
	n = lower_getxattr_at(dirfd, name, lower_xattr_record(c->ns), bytes, sizeof(bytes));
	if (n < 0 || record_decode(c->key, bytes, n, &rec) < 0)
		return LIMIT_NONE;
	return limits_of_rule(c->limits, rec.rule);
}

static void add(struct counting *c, int at, const struct stat *st)
{
	if (at == LIMIT_NONE)
		return;
	c->count->used[at][LIMIT_BYTES] += st->st_size;
	c->count->used[at][LIMIT_FILES]++;
}

static int on_file(void *arg, struct lower_walk *walk, struct lower_walk_frame *frame, const char *name)
{
	struct counting *c = arg;
	struct stat st;
	int r;

	if (fstatat(dirfd(frame->dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(arg, walk->path, -errno);
	if (!S_ISREG(st.st_mode) || st.st_dev != frame->dev)
		return 0;
	r = st.st_nlink > 1 ? is_known(c, st.st_ino) : 0;
	if (r != 0)
		return r < 0 ? r : 0;
	c->count->files++;
	if (c->frame != frame || c->dir_ino != frame->ino || c->path_len != frame->path_len) {
		char *path = strndup(walk->path, frame->path_len);

		if (!path)
			return -ENOMEM;
		c->directory = limits_of_path(c->limits, path);
		free(path);
		c->frame = frame;
		c->dir_ino = frame->ino;
		c->path_len = frame->path_len;
	}
	for (int at = c->directory; at != LIMIT_NONE; at = limits_at(c->limits, at)->outer)
		add(c, at, &st);
	add(c, limits_of_user(c->limits, st.st_uid), &st);
	add(c, rule_of(c, dirfd(frame->dir), name), &st);
	return 0;
}

int limit_count(const struct limits *limits, int root_fd, enum lower_namespace ns, struct record_key *key, struct limit_count *count)
{
	struct counting c = { .limits = limits, .ns = ns, .key = limits_have(limits, LIMIT_RULE) ? key : NULL, .count = count };
	struct lower_walk walk = { .max_entries = UINT64_MAX, .file = on_file, .failed = failed, .arg = &c };
	int r;

	memset(count->used, 0, limits_count(limits) * sizeof(*count->used));
	count->files = count->unreadable = 0;
	count->first_unreadable = NULL;
	r = lower_walk_run(&walk, root_fd);
	tdestroy(c.linked, free);
	return r;
}
