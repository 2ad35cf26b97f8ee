/* The walk holds at most OPEN_DIRECTORIES_MAX directories open, whatever the depth: when it goes deeper, the
 * shallowest open one is read to its end, its subdirectories noted by name, and closed. On the way
 * back up it is opened again as ".." of the child, and must still be the same inode. So memory is
 * bounded by the depth, except below that depth, where it grows with the names noted. No path is
 * ever handed to the kernel: every name is opened under the directory that it was read from. */
#include "lockstore/lower_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/lower.h"

#define OPEN_DIRECTORIES_MAX 60

static int path_set(struct lower_walk *walk, size_t dir_len, const char *name)
{
	size_t name_len = strlen(name), need = dir_len + name_len + 2;

	if (need > walk->path_size) {
		char *path = realloc(walk->path, need * 2);

		if (!path)
			return -ENOMEM;
		walk->path = path;
		walk->path_size = need * 2;
	}
	if (dir_len)
		walk->path[dir_len++] = '/';
	memcpy(walk->path + dir_len, name, name_len + 1);
	walk->path_len = dir_len + name_len;
	return 0;
}

/* The path of the directory of a frame, for a message. */
static const char *frame_path(struct lower_walk *walk, const struct lower_walk_frame *frame)
{
	walk->path[frame->path_len] = '\0';
	walk->path_len = frame->path_len;
	return walk->path;
}

/* Takes fd over. */
static int push_frame(struct lower_walk *walk, int fd, size_t path_len)
{
	struct lower_walk_frame *frames;
	struct stat st;
	DIR *dir = NULL;
	int r;

	if (walk->nframes == walk->max_frames) {
		size_t max = walk->max_frames ? walk->max_frames * 2 : 32;

		frames = realloc(walk->frames, max * sizeof(*frames));
		if (!frames) {
			r = -ENOMEM;
			goto out;
		}
		walk->frames = frames;
		walk->max_frames = max;
	}
	if (fstat(fd, &st) < 0) {
		r = -errno;
		goto out;
	}
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		goto out;
	}
	walk->frames[walk->nframes++] = (struct lower_walk_frame){ .dir = dir, .dev = st.st_dev, .ino = st.st_ino,
							.path_len = path_len };
	return 0;
out:
	close(fd);
	return r;
}

static void frame_fini(struct lower_walk_frame *frame)
{
	if (frame->dir)
		closedir(frame->dir);
	free(frame->subdirs);
}

static int note_subdir(struct lower_walk_frame *frame, const char *name)
{
	size_t size = strlen(name) + 1;

	if (frame->subdirs_len + size > frame->subdirs_size) {
		size_t want = (frame->subdirs_len + size) * 2;
		char *subdirs = realloc(frame->subdirs, want);

		if (!subdirs)
			return -ENOMEM;
		frame->subdirs = subdirs;
		frame->subdirs_size = want;
	}
	memcpy(frame->subdirs + frame->subdirs_len, name, size);
	frame->subdirs_len += size;
	return 0;
}

/* Reads on until the next subdirectory, handing regular files to walk->file. 1: *ret_name is one, with
 * walk->path set; 0: the end. */
static int read_until_subdir(struct lower_walk *walk, struct lower_walk_frame *frame, const char **ret_name)
{
	struct dirent *de;
	struct stat st;
	int r;

	for (;;) {
		errno = 0;
		de = readdir(frame->dir);
		if (!de)
			return errno ? walk->failed(walk->arg, frame_path(walk, frame), -errno) : 0;
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (!walk->max_entries--)
			return -E2BIG;
		r = path_set(walk, frame->path_len, de->d_name);
		if (r < 0)
			return r;
		if (de->d_type == DT_UNKNOWN) {
			if (fstatat(dirfd(frame->dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
				de->d_type = IFTODT(st.st_mode);
			else if (errno != ENOENT)
				r = walk->failed(walk->arg, walk->path, -errno);
		}
		if (de->d_type == DT_DIR) {
			*ret_name = de->d_name;
			return 1;
		}
		if (de->d_type == DT_REG)
			r = walk->file(walk->arg, walk, frame, de->d_name);
		if (r < 0)
			return r;
	}
}

/* Closes the shallowest open directory after reading it to its end. */
static int close_shallowest(struct lower_walk *walk)
{
	struct lower_walk_frame *frame = &walk->frames[walk->nclosed];
	char *here = strdup(walk->path);	/* where the walk goes on: the paths of this one's entries overwrite it */
	const char *name;
	int r = 0;

	if (!here)
		return -ENOMEM;
	while (!frame->noted) {
		r = read_until_subdir(walk, frame, &name);
		if (r == 1)
			r = note_subdir(frame, name);
		else if (r == 0)
			frame->noted = true;
		if (r < 0)
			goto out;
	}
	closedir(frame->dir);
	frame->dir = NULL;
	walk->nclosed++;
	r = path_set(walk, 0, here);
out:
	free(here);
	return r;
}

/* Opens the deepest frame again, as ".." of child_fd (-1: none) or by its path. -ESTALE: both lead to
 * another directory by now. */
static int reopen_frame(struct lower_walk *walk, struct lower_walk_frame *frame, int child_fd)
{
	struct stat st;
	int fd;

	for (int by_path = child_fd < 0; by_path < 2; by_path++) {
		if (by_path)
			fd = lower_open(walk->root_fd, frame_path(walk, frame), O_RDONLY | O_DIRECTORY, false);
		else
			fd = lower_open_parent(walk->root_fd, child_fd, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && st.st_dev == frame->dev && st.st_ino == frame->ino) {
			frame->dir = fdopendir(fd);
			if (frame->dir) {
				walk->nclosed--;
				return 0;
			}
		}
		close(fd);
	}
	return -ESTALE;
}

/* Leaves the deepest directory. What is left of one above that cannot be had again is reported. */
static int pop_frame(struct lower_walk *walk)
{
	struct lower_walk_frame left = walk->frames[--walk->nframes];
	int child_fd = dirfd(left.dir), r = 0;

	while (r == 0 && walk->nframes && walk->nclosed == walk->nframes) {
		struct lower_walk_frame *parent = &walk->frames[walk->nframes - 1];

		if (reopen_frame(walk, parent, child_fd) == 0)
			break;
		r = walk->failed(walk->arg, frame_path(walk, parent), -ESTALE);
		child_fd = -1;
		frame_fini(parent);
		walk->nframes--;
		walk->nclosed--;
	}
	frame_fini(&left);
	return r;
}

/* The next subdirectory of the deepest directory, read or noted. */
static int next_subdir(struct lower_walk *walk, struct lower_walk_frame *frame, const char **ret_name)
{
	const char *name;
	int r;

	if (!frame->noted)
		return read_until_subdir(walk, frame, ret_name);
	if (frame->next_subdir == frame->subdirs_len)
		return 0;
	name = frame->subdirs + frame->next_subdir;
	frame->next_subdir += strlen(name) + 1;
	r = path_set(walk, frame->path_len, name);
	*ret_name = name;
	return r < 0 ? r : 1;
}

static int walk_step(struct lower_walk *walk)
{
	struct lower_walk_frame *frame = &walk->frames[walk->nframes - 1];
	const char *name;
	int fd, r;

	r = next_subdir(walk, frame, &name);
	if (r <= 0)
		return r < 0 ? r : pop_frame(walk);
	fd = lower_open(dirfd(frame->dir), name, O_RDONLY | O_DIRECTORY, false);
	if (fd == -EXDEV || fd == -ENOENT)	/* another filesystem; gone meanwhile */
		return 0;
	if (fd < 0)
		return walk->failed(walk->arg, walk->path, fd);
	r = push_frame(walk, fd, walk->path_len);
	if (r == 0 && walk->nframes - walk->nclosed > OPEN_DIRECTORIES_MAX)
		r = close_shallowest(walk);
	return r;
}

int lower_walk_run(struct lower_walk *walk, int root_fd)
{
	int fd, r;

	walk->root_fd = root_fd;
	r = path_set(walk, 0, "");
	if (r < 0)
		goto out;
	fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);	/* root_fd may be O_PATH */
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = push_frame(walk, fd, 0);
	while (r == 0 && walk->nframes)
		r = walk_step(walk);
out:
	while (walk->nframes)
		frame_fini(&walk->frames[--walk->nframes]);
	free(walk->frames);
	free(walk->path);
	return r;
}
