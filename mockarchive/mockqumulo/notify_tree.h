/* The directories that inotify watches, as a tree: from a watch to a path, and what is below it. Not locked: the owner does that. */
#ifndef WORMFS_NOTIFY_TREE_H
#define WORMFS_NOTIFY_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/inotify.h>

#define NOTIFY_DIRS_MAX 200000		/* directories watched */

struct notify_tree;

struct notify_dir {
	int wd;
	uint64_t ino;
	char *name;			/* "" of the root */
	struct notify_dir *parent, *children, *next, **link;
	struct notify_dir *same_hash;
	char **scanned;			/* names that were found, and told, when it was added: their creation is not told again */
	unsigned nscanned;
};

/* Watches the whole tree below root_fd. -ENOSPC: more directories than NOTIFY_DIRS_MAX or fs.inotify.max_user_watches. */
int notify_tree_open(int root_fd, struct notify_tree **ret_tree);
void notify_tree_close(struct notify_tree *t);

int notify_tree_fd(const struct notify_tree *t);
/* NULL: none with this watch. */
struct notify_dir *notify_tree_of(struct notify_tree *t, int wd);
/* The directory with this inode number; NULL: none. */
struct notify_dir *notify_tree_find(struct notify_tree *t, uint64_t ino);
struct notify_dir *notify_tree_child(struct notify_dir *dir, const char *name);

/* A directory that has appeared, with all below it; found() is told of each name that is there already. One that is known stays. */
int notify_tree_add(struct notify_tree *t, int root_fd, struct notify_dir *parent, const char *name,
	void (*found)(void *arg, struct notify_dir *dir, const char *name, bool is_dir), void *arg);
/* It has gone, with all below it. gone() is told of each, the lowest first. */
void notify_tree_remove(struct notify_tree *t, struct notify_dir *dir, void (*gone)(void *arg, struct notify_dir *dir), void *arg);
/* It has another name now. -ENOMEM. */
int notify_tree_move(struct notify_dir *dir, struct notify_dir *parent, const char *name);

/* The creation of this name was told already; the next one was not. */
bool notify_tree_was_scanned(struct notify_dir *dir, const char *name);

/* The path of `name` in dir, seen from `from`, which is above it or it: "a/b". The caller's to free; NULL: out of memory. */
char *notify_tree_path(const struct notify_dir *from, const struct notify_dir *dir, const char *name);

#endif
