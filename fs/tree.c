/* A stack of directories still to come, by path. Each is walked to from the root of the share when its turn comes, so
 * that the inodes on the way are known and no descriptor is kept. */
#include "fs/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"

struct names {
	char *text;		/* each with its NUL */
	size_t len, size;
};

struct tree {
	struct wormfs *fs;
	tree_file_fn fn;
	tree_failed_fn failed;
	void *arg;
	char **dirs;
	size_t ndirs, max_dirs;
};

static int names_add(struct names *names, const char *name)
{
	size_t n = strlen(name) + 1;

	if (names->len + n > names->size) {
		size_t size = (names->len + n) * 2;
		char *text = realloc(names->text, size);

		if (!text)
			return -ENOMEM;
		names->text = text;
		names->size = size;
	}
	memcpy(names->text + names->len, name, n);
	names->len += n;
	return 0;
}

static int read_names(struct wormfs *fs, struct inode *dir, struct names *names)
{
	int fd = descriptor_open(fs, dir, O_RDONLY | O_DIRECTORY), r = 0;
	struct dirent *d;
	DIR *stream;

	if (fd < 0)
		return fd;
	stream = fdopendir(fd);
	if (!stream) {
		r = -errno;
		close(fd);
		return r;
	}
	for (errno = 0; r == 0 && (d = readdir(stream)); errno = 0)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
		    (d->d_type == DT_REG || d->d_type == DT_DIR || d->d_type == DT_UNKNOWN))
			r = names_add(names, d->d_name);
	if (r == 0)
		r = -errno;
	closedir(stream);
	return r;
}

/* Takes path over. */
static int push(struct tree *tree, char *path)
{
	if (path && tree->ndirs == tree->max_dirs) {
		size_t max = tree->max_dirs ? tree->max_dirs * 2 : 64;
		char **dirs = reallocarray(tree->dirs, max, sizeof(*dirs));

		if (!dirs) {
			free(path);
			return -ENOMEM;
		}
		tree->dirs = dirs;
		tree->max_dirs = max;
	}
	if (!path)
		return -ENOMEM;
	tree->dirs[tree->ndirs++] = path;
	return 0;
}

static int visit(struct tree *tree, struct inode *dir, const char *dir_path, const char *name)
{
	struct inode *ino;
	struct stat st;
	char *path;
	int fd, r;

	if (asprintf(&path, "%s%s%s", dir_path, *dir_path ? "/" : "", name) < 0)
		return -ENOMEM;
	fd = descriptor_get(tree->fs, dir);
	r = fd < 0 ? fd : inode_lookup(tree->fs, dir, fd, name, &ino, &st);
	descriptor_put(tree->fs, dir, fd);
	if (r < 0) {
		r = r == -ENOENT ? 0 : tree->failed(tree->arg, path, r);
	} else if (S_ISDIR(st.st_mode)) {
		inode_put(tree->fs, ino);
		return push(tree, path);
	} else {
		if (S_ISREG(st.st_mode))
			r = tree->fn(tree->arg, ino, path, &st);
		inode_put(tree->fs, ino);
	}
	free(path);
	return r;
}

static int visit_directory(struct tree *tree, const char *path)
{
	struct names names = { 0 };
	struct inode *dir;
	int r;

	r = inode_walk(tree->fs, path, &dir);
	if (r < 0)
		return r == -ENOENT && *path ? 0 : tree->failed(tree->arg, path, r);
	r = read_names(tree->fs, dir, &names);
	if (r < 0)
		r = tree->failed(tree->arg, path, r);
	for (size_t at = 0; r == 0 && at < names.len; at += strlen(names.text + at) + 1)
		r = visit(tree, dir, path, names.text + at);
	free(names.text);
	inode_put(tree->fs, dir);
	return r;
}

int tree_each_file(struct wormfs *fs, const char *path, tree_file_fn fn, tree_failed_fn failed, void *arg)
{
	struct tree tree = { .fs = fs, .fn = fn, .failed = failed, .arg = arg };
	struct inode *top;
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	r = inode_walk(fs, path, &top);
	if (r < 0)
		return failed(arg, path, r);
	if (S_ISREG(top->type)) {
		fd = descriptor_get(fs, top);
		r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
		descriptor_put(fs, top, fd);
		r = r < 0 ? failed(arg, path, r) : fn(arg, top, path, &st);
	} else if (S_ISDIR(top->type)) {
		r = push(&tree, strdup(path));
	}
	inode_put(fs, top);
	while (r == 0 && tree.ndirs) {
		char *dir = tree.dirs[--tree.ndirs];

		r = visit_directory(&tree, dir);
		free(dir);
	}
	while (tree.ndirs)
		free(tree.dirs[--tree.ndirs]);
	free(tree.dirs);
	return r;
}
