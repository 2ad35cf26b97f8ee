/* Watched directories. A directory is watched before it is read: what appears between the two comes twice, and is told once. */
#include "mockarchive/mockqumulo/notify_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUCKETS 16384
#define DEPTH_MAX 256
#define MASK (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK)

struct notify_tree {
	int fd;
	struct notify_dir *root;
	struct notify_dir *table[BUCKETS];	/* by watch */
	unsigned count;
};

struct adding {
	struct notify_tree *tree;
	void (*found)(void *arg, struct notify_dir *dir, const char *name, bool is_dir);
	void *arg;
};

static void unlink_dir(struct notify_dir *dir)
{
	if (!dir->link)
		return;
	*dir->link = dir->next;
	if (dir->next)
		dir->next->link = dir->link;
	dir->link = NULL;
}

static void link_dir(struct notify_dir *dir, struct notify_dir *parent)
{
	dir->parent = parent;
	dir->next = parent->children;
	dir->link = &parent->children;
	if (dir->next)
		dir->next->link = &dir->next;
	parent->children = dir;
}

static void forget_scanned(struct notify_dir *dir)
{
	for (unsigned i = 0; i < dir->nscanned; i++)
		free(dir->scanned[i]);
	free(dir->scanned);
	dir->scanned = NULL;
	dir->nscanned = 0;
}

static void dir_free(struct notify_dir *dir)
{
	forget_scanned(dir);
	free(dir->name);
	free(dir);
}

struct notify_dir *notify_tree_of(struct notify_tree *t, int wd)
{
	struct notify_dir *dir = t->table[(unsigned)wd % BUCKETS];

	while (dir && dir->wd != wd)
		dir = dir->same_hash;
	return dir;
}

static struct notify_dir *find_below(struct notify_dir *dir, uint64_t ino)
{
	struct notify_dir *found = dir->ino == ino ? dir : NULL;

	for (struct notify_dir *child = dir->children; child && !found; child = child->next)
		found = find_below(child, ino);
	return found;
}

struct notify_dir *notify_tree_find(struct notify_tree *t, uint64_t ino)
{
	return find_below(t->root, ino);
}

struct notify_dir *notify_tree_child(struct notify_dir *dir, const char *name)
{
	struct notify_dir *child = dir->children;

	while (child && strcmp(child->name, name) != 0)
		child = child->next;
	return child;
}

static int remember_scanned(struct notify_dir *dir, const char *name)
{
	char **scanned = reallocarray(dir->scanned, dir->nscanned + 1, sizeof(*scanned));

	if (!scanned)
		return -ENOMEM;
	dir->scanned = scanned;
	scanned[dir->nscanned] = strdup(name);
	return scanned[dir->nscanned++] ? 0 : -ENOMEM;
}

bool notify_tree_was_scanned(struct notify_dir *dir, const char *name)
{
	for (unsigned i = 0; i < dir->nscanned; i++) {
		if (dir->scanned[i] && strcmp(dir->scanned[i], name) == 0) {
			free(dir->scanned[i]);
			dir->scanned[i] = dir->scanned[--dir->nscanned];
			return true;
		}
	}
	return false;
}

/* Takes fd, an open directory. */
static int add(const struct adding *a, int fd, struct notify_dir *parent, const char *name, unsigned depth, struct notify_dir **ret_dir)
{
	struct notify_tree *t = a->tree;
	struct notify_dir *dir = calloc(1, sizeof(*dir));
	struct dirent *entry;
	struct stat st;
	char path[40];
	DIR *stream;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (dir)
		dir->name = strdup(name);
	if (!dir || !dir->name || fstat(fd, &st) < 0 || t->count >= NOTIFY_DIRS_MAX) {
		r = !dir || !dir->name ? -ENOMEM : -ENOSPC;
		goto failed;
	}
	dir->ino = st.st_ino;
	/* Through the magic link: IN_DONT_FOLLOW would watch that. */
	dir->wd = inotify_add_watch(t->fd, path, MASK & ~IN_DONT_FOLLOW);
	if (dir->wd < 0) {
		r = -errno;
		goto failed;
	}
	stream = fdopendir(fd);
	if (!stream) {
		r = -errno;
		goto failed;
	}
	dir->same_hash = t->table[(unsigned)dir->wd % BUCKETS];
	t->table[(unsigned)dir->wd % BUCKETS] = dir;
	t->count++;
	if (parent)
		link_dir(dir, parent);
	*ret_dir = dir;
	while (r == 0 && (entry = readdir(stream))) {
		bool is_dir = entry->d_type == DT_DIR;
		struct notify_dir *child;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (entry->d_type == DT_UNKNOWN)
			is_dir = fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
		if (a->found) {
			r = remember_scanned(dir, entry->d_name);
			a->found(a->arg, dir, entry->d_name, is_dir);
		}
		if (is_dir && depth) {
			int sub = openat(dirfd(stream), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			/* One that is gone again, or not ours to read, has nothing to tell. */
			r = sub < 0 ? r : add(a, sub, dir, entry->d_name, depth - 1, &child);
		}
	}
	closedir(stream);
	return r;
failed:
	if (dir)
		dir_free(dir);
	close(fd);
	return r;
}

int notify_tree_open(int root_fd, struct notify_tree **ret_tree)
{
	struct notify_tree *t = calloc(1, sizeof(*t));
	struct adding a = { .tree = t };
	int fd, r;

	if (!t)
		return -ENOMEM;
	t->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = t->fd < 0 || fd < 0 ? -errno : add(&a, fd, NULL, "", DEPTH_MAX, &t->root);
	if (r < 0) {
		notify_tree_close(t);
		return r;
	}
	*ret_tree = t;
	return 0;
}

void notify_tree_close(struct notify_tree *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < BUCKETS; i++) {
		while (t->table[i]) {
			struct notify_dir *dir = t->table[i];

			t->table[i] = dir->same_hash;
			dir_free(dir);
		}
	}
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

int notify_tree_fd(const struct notify_tree *t)
{
	return t->fd;
}

char *notify_tree_path(const struct notify_dir *from, const struct notify_dir *dir, const char *name)
{
	char *path = strdup(name), *longer;

	for (; path && dir != from; dir = dir->parent) {
		if (asprintf(&longer, "%s/%s", dir->name, path) < 0)
			longer = NULL;
		free(path);
		path = longer;
	}
	return path;
}

static int open_dir(int root_fd, const struct notify_dir *root, const struct notify_dir *parent, const char *name)
{
	char *path = notify_tree_path(root, parent, name);
	int fd = path ? openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;

	free(path);
	return fd;
}

int notify_tree_add(struct notify_tree *t, int root_fd, struct notify_dir *parent, const char *name,
	void (*found)(void *arg, struct notify_dir *dir, const char *name, bool is_dir), void *arg)
{
	struct adding a = { .tree = t, .found = found, .arg = arg };
	struct notify_dir *dir;
	int fd;

	if (notify_tree_child(parent, name))
		return 0;
	fd = open_dir(root_fd, t->root, parent, name);
	return fd < 0 ? 0 : add(&a, fd, parent, name, DEPTH_MAX, &dir);	/* gone again: its end is told, too */
}

void notify_tree_remove(struct notify_tree *t, struct notify_dir *dir, void (*gone)(void *arg, struct notify_dir *dir), void *arg)
{
	struct notify_dir **at = &t->table[(unsigned)dir->wd % BUCKETS];

	while (dir->children)
		notify_tree_remove(t, dir->children, gone, arg);
	gone(arg, dir);
	(void)inotify_rm_watch(t->fd, dir->wd);	/* the kernel has done so where the directory is deleted */
	while (*at != dir)
		at = &(*at)->same_hash;
	*at = dir->same_hash;
	unlink_dir(dir);
	t->count--;
	dir_free(dir);
}

int notify_tree_move(struct notify_dir *dir, struct notify_dir *parent, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	free(dir->name);
	dir->name = copy;
	unlink_dir(dir);
	link_dir(dir, parent);
	return 0;
}
