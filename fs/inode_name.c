/* The names of inodes: the first that the kernel found, and the others of a hard-linked file. names_lock guards them
 * all; paths are made when somebody asks, since a directory above may be renamed. */
#include "fs/inode.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/inode_private.h"
#include "fs/wormfs.h"

#define MAX_DEPTH 4096		/* components of a path: PATH_MAX is 4096 bytes, handles may go deeper */

static void add_alias_locked(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name)
{
	struct inode_alias *alias;

	for (alias = ino->aliases; alias; alias = alias->next)
		if (alias->parent == parent && strcmp(alias->name, name) == 0)
			return;
	alias = malloc(sizeof(*alias));
	if (!alias)
		return;		/* this directory is then found by the ledger only */
	alias->name = strdup(name);
	if (!alias->name) {
		free(alias);
		return;
	}
	alias->parent = inode_ref(fs, parent);
	alias->next = ino->aliases;
	ino->aliases = alias;
}

static struct inode_alias *take_alias_locked(struct inode *ino, const struct inode *parent, const char *name)
{
	for (struct inode_alias **p = &ino->aliases; *p; p = &(*p)->next) {
		struct inode_alias *alias = *p;

		if (parent && (alias->parent != parent || strcmp(alias->name, name) != 0))
			continue;
		*p = alias->next;
		return alias;
	}
	return NULL;
}

void inode_unlinked(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name)
{
	struct inode_alias *alias;
	struct inode *old = NULL;
	char *old_name = NULL;

	pthread_mutex_lock(&fs->names_lock);
	if (ino->parent == parent && ino->name && strcmp(ino->name, name) == 0) {
		alias = take_alias_locked(ino, NULL, NULL);
		if (alias) {
			old = ino->parent;
			old_name = ino->name;
			ino->parent = alias->parent;
			ino->name = alias->name;
		}
	} else {
		alias = take_alias_locked(ino, parent, name);
		if (alias) {
			old = alias->parent;
			old_name = alias->name;
		}
	}
	pthread_mutex_unlock(&fs->names_lock);
	free(alias);
	free(old_name);
	inode_put(fs, old);
}

int inode_remember_name(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name, nlink_t nlink)
{
	struct inode *old = NULL;
	char *copy, *old_name = NULL;

	pthread_mutex_lock(&fs->names_lock);
	if (ino->parent == parent && ino->name && strcmp(ino->name, name) == 0) {
		pthread_mutex_unlock(&fs->names_lock);
		return 0;
	}
	if (ino->parent && nlink > 1 && !S_ISDIR(ino->type)) {
		add_alias_locked(fs, ino, parent, name);
		pthread_mutex_unlock(&fs->names_lock);
		return 0;
	}
	copy = strdup(name);
	if (copy) {
		old = ino->parent;
		old_name = ino->name;
		ino->parent = inode_ref(fs, parent);
		ino->name = copy;
	}
	pthread_mutex_unlock(&fs->names_lock);
	free(old_name);
	inode_put(fs, old);
	return copy ? 0 : -ENOMEM;
}

void inode_moved(struct wormfs *fs, struct inode *ino, struct inode *from, const char *old_name,
		 struct inode *to, const char *new_name)
{
	char *copy = strdup(new_name), *free_name = NULL, *alias_name = NULL;
	struct inode_alias *alias = NULL;
	struct inode *old = NULL;

	pthread_mutex_lock(&fs->names_lock);
	if (ino->parent && (ino->parent != from || !ino->name || strcmp(ino->name, old_name) != 0)) {
		alias = take_alias_locked(ino, from, old_name);		/* another of its names was moved */
		if (alias) {
			old = alias->parent;
			alias_name = alias->name;
		}
		add_alias_locked(fs, ino, to, new_name);
		free_name = copy;
	} else {
		old = ino->parent;
		free_name = ino->name;
		ino->parent = copy ? inode_ref(fs, to) : NULL;
		ino->name = copy;
	}
	pthread_mutex_unlock(&fs->names_lock);
	free(alias);
	free(alias_name);
	free(free_name);
	inode_put(fs, old);
}

void inode_linked(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name)
{
	(void)inode_remember_name(fs, ino, parent, name, ino->parent ? 2 : 1);	/* it has its handle: the link was made with it */
}

struct inode *inode_name_of(struct wormfs *fs, struct inode *ino, char *ret_name)
{
	struct inode *parent = NULL;

	pthread_mutex_lock(&fs->names_lock);
	if (ino->parent && ino->name && strlen(ino->name) <= NAME_MAX) {
		strcpy(ret_name, ino->name);
		parent = inode_ref(fs, ino->parent);
	}
	pthread_mutex_unlock(&fs->names_lock);
	return parent;
}

struct inode *inode_parent(struct wormfs *fs, struct inode *ino, char **ret_name)
{
	struct inode *parent;

	pthread_mutex_lock(&fs->names_lock);
	parent = ino->parent ? inode_ref(fs, ino->parent) : NULL;
	if (ret_name)
		*ret_name = ino->name ? strdup(ino->name) : NULL;
	pthread_mutex_unlock(&fs->names_lock);
	return parent;
}

int inode_path(struct wormfs *fs, struct inode *ino, char **ret_path)
{
	size_t len = 0, depth = 0;
	struct inode *at;
	char *path, *end;
	int r = 0;

	pthread_mutex_lock(&fs->names_lock);
	for (at = ino; at->nodeid != 1; at = at->parent) {
		if (!at->parent || !at->name || ++depth > MAX_DEPTH) {
			r = -ENOENT;
			goto out;
		}
		len += strlen(at->name) + 1;
	}
	path = malloc(len + 1);
	if (!path) {
		r = -ENOMEM;
		goto out;
	}
	end = path + len;
	*end = '\0';
	if (len)
		*--end = '\0';
	for (at = ino; at->nodeid != 1; at = at->parent) {
		size_t n = strlen(at->name);

		end -= n;
		memcpy(end, at->name, n);
		if (end > path)
			*--end = '/';
	}
	*ret_path = path;
out:
	pthread_mutex_unlock(&fs->names_lock);
	return r;
}

int inode_place(struct wormfs *fs, struct inode *ino, char *buf, size_t size, struct inode_place *ret)
{
	char *end = buf + size, *start = end;
	int r = 0;

	pthread_mutex_lock(&fs->names_lock);
	ret->has_parent = ino->nodeid != 1 && ino->parent;
	if (ret->has_parent) {
		ret->parent_root = ino->parent->nodeid == 1;
		ret->parent_ino = ino->parent->ino;
		ret->parent_generation = inode_generation(ino->parent);
		ret->parent_dev = ino->parent->dev_index;
	}
	for (struct inode *at = ino; r == 0 && at->nodeid != 1; at = at->parent) {
		size_t n = at->parent && at->name ? strlen(at->name) : 0;

		if (!at->parent || !at->name) {
			r = -ENOENT;
		} else if ((size_t)(start - buf) < n + 1) {
			r = -ENAMETOOLONG;
		} else {
			if (start != end)
				*--start = '/';
			start -= n;
			memcpy(start, at->name, n);
		}
	}
	pthread_mutex_unlock(&fs->names_lock);
	ret->path = start;
	ret->len = end - start;
	return r;
}

int inode_each_path(struct wormfs *fs, struct inode *ino, int (*fn)(void *arg, const char *path), void *arg)
{
	char *dir = NULL, *path = NULL, *name;
	struct inode_alias *alias;
	struct inode *parent;
	int r;

	r = inode_path(fs, ino, &path);
	if (r < 0)
		return r;
	r = fn(arg, path);
	free(path);
	/* By number: the list may change while fn runs, which then misses or repeats a name that came or went meanwhile. */
	for (unsigned i = 0; r >= 0; i++) {
		unsigned n = i;

		pthread_mutex_lock(&fs->names_lock);
		for (alias = ino->aliases; alias && n > 0; alias = alias->next)
			n--;
		parent = alias ? inode_ref(fs, alias->parent) : NULL;
		name = alias ? strdup(alias->name) : NULL;
		pthread_mutex_unlock(&fs->names_lock);
		if (!parent)
			return 0;
		r = name ? inode_path(fs, parent, &dir) : -ENOMEM;
		if (r == 0) {
			r = asprintf(&path, "%s%s%s", dir, *dir ? "/" : "", name) < 0 ? -ENOMEM : 0;
			free(dir);
		}
		if (r == 0) {
			r = fn(arg, path);
			free(path);
		}
		free(name);
		inode_put(fs, parent);
	}
	return r;
}
