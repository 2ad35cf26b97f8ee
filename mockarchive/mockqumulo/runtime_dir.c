/* Private directories. A lock on the directory itself tells a running owner from one that was killed. */
#include "mockarchive/mockqumulo/runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct runtime_dir {
	char *path;
	int fd;		/* locked */
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)remove(path);	/* what stays is found by the next start */
	return 0;
}

static void remove_all(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_stale(const char *base, const char *prefix)
{
	DIR *dir = opendir(base);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct stat st;
		char *path;
		int fd;

		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
		    asprintf(&path, "%s/%s", base, entry->d_name) >= 0) {
			remove_all(path);
			free(path);
		}
		close(fd);
	}
	if (dir)
		closedir(dir);
}

int runtime_dir_open(const char *base, const char *prefix, struct runtime_dir **ret_dir)
{
	struct runtime_dir *dir = calloc(1, sizeof(*dir));
	int r;

	if (!dir)
		return -ENOMEM;
	remove_stale(base, prefix);
	dir->fd = -1;
	if (asprintf(&dir->path, "%s/%sXXXXXX", base, prefix) < 0) {
		free(dir);
		return -ENOMEM;
	}
	if (!mkdtemp(dir->path)) {
		r = -errno;
		free(dir->path);
		free(dir);
		return r;
	}
	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd < 0 || flock(dir->fd, LOCK_EX | LOCK_NB) < 0) {
		r = -errno;
		runtime_dir_close(dir);
		return r;
	}
	*ret_dir = dir;
	return 0;
}

void runtime_dir_close(struct runtime_dir *dir)
{
	if (!dir)
		return;
	remove_all(dir->path);
	if (dir->fd >= 0)
		close(dir->fd);
	free(dir->path);
	free(dir);
}

const char *runtime_dir_path(const struct runtime_dir *dir)
{
	return dir->path;
}

char *runtime_dir_join(const struct runtime_dir *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir->path, name) < 0 ? NULL : path;
}

int private_file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;

	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%s%s", text, text[0] && text[strlen(text) - 1] == '\n' ? "" : "\n") < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

int private_file_read(const char *path, char *ret_text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
	struct stat st;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (st.st_mode & 077)
		r = -EPERM;
	else if ((n = read(fd, ret_text, size - 1)) < 0)
		r = -errno;
	close(fd);
	if (r < 0)
		return r;
	ret_text[n] = '\0';
	ret_text[strcspn(ret_text, "\r\n")] = '\0';
	return ret_text[0] ? 0 : -ENODATA;
}
