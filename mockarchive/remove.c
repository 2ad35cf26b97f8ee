/* Deleting below the mount: as unlink(2) through it would, and the kernel is told. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/lock.h"
#include "fs/session.h"
#include "lockstore/lower.h"
#include "mockarchive/ops.h"

/* A name, as unlink(2) through the mount would. */
static int remove_name(struct archive *a, const char *path, bool directory)
{
	struct wormfs *fs = a->fs;
	struct inode *ino, *dir = NULL;
	char *name = NULL;
	struct stat st;
	int fd = -1, held, r = inode_walk(fs, path, &ino);

	if (r < 0)
		return r;
	if (!directory && S_ISDIR(ino->type)) {
		inode_put(fs, ino);
		return -EISDIR;
	}
	held = descriptor_hold(fs, ino);
	dir = inode_parent(fs, ino, &name);
	fd = dir && name ? descriptor_get(fs, dir) : -ESTALE;
	r = fd < 0 ? fd : fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : st.st_ino != ino->ino ? -ESTALE : 0;
	if (r == 0) {
		pthread_mutex_lock(&ino->lock);
		if (S_ISREG(ino->type))
			r = lock_check_locked(fs, ino, GUARD_UNLINK);
		for (struct handle *h = ino->handles; h && r == 0; h = h->next)
			r = handle_need_fd_locked(fs, h);
		if (r == 0)
			r = unlinkat(fd, name, directory ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
		if (r == 0 && S_ISREG(ino->type) && st.st_nlink <= 1)
			lock_removed_locked(fs, ino);
		pthread_mutex_unlock(&ino->lock);
	}
	if (r == 0) {
		uint64_t parent = dir->nodeid, child = ino->nodeid;

		if (st.st_nlink <= 1 || directory) {
			inode_gone(fs, ino);
			descriptor_drop(fs, ino);
			if (!directory) {
				struct file *f;

				pthread_mutex_lock(&a->lock);
				f = file_find_locked(a, child);
				if (f)
					robot_gone_locked(a, f);
				pthread_mutex_unlock(&a->lock);
			}
		} else {
			inode_unlinked(fs, ino, dir, name);
		}
		if (held >= 0)	/* the kernel may let the rest wait */
			close(held);
		held = -1;
		session_notify_delete(fs, parent, child, name);
	}
	if (held >= 0)
		close(held);
	if (fd >= 0)
		descriptor_put(fs, dir, fd);
	inode_put(fs, dir);
	inode_put(fs, ino);
	free(name);
	return r;
}

int archive_delete(struct archive *a, const char *path)
{
	return remove_name(a, path, false);
}

/* Everything below a directory; the first error, but all that goes goes. */
static int remove_below(struct archive *a, const char *path, unsigned depth)
{
	int fd = lower_open(a->fs->root_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, false), r = 0, r2;
	struct dirent *ent;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = depth < 256 ? fdopendir(fd) : NULL;
	if (!dir) {
		close(fd);
		return -ELOOP;
	}
	while ((ent = readdir(dir))) {
		char *child;

		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		if (asprintf(&child, "%s%s%s", path, *path ? "/" : "", ent->d_name) < 0) {
			r = -ENOMEM;
			break;
		}
		r2 = ent->d_type == DT_DIR ? remove_below(a, child, depth + 1) : remove_name(a, child, false);
		if (ent->d_type == DT_DIR && r2 == 0) {
			r2 = remove_name(a, child, true);
			replica_remove(a, child);
		}
		if (r2 < 0 && r2 != -ENOENT && r == 0)
			r = r2;
		free(child);
	}
	closedir(dir);
	return r;
}

int remove_all(struct archive *a)
{
	return remove_below(a, "", 0);
}
