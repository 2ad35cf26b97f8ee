/* A walk through a tree of the lower filesystem, file by file, with bounded descriptors. It stays on the filesystem of
 * its root and follows no link. One thread; the struct is the caller's, who sets max_entries, file, failed and arg. */
#ifndef WORMFS_LOCKSTORE_LOWER_WALK_H
#define WORMFS_LOCKSTORE_LOWER_WALK_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A directory on the way. */
struct lower_walk_frame {
	DIR *dir;		/* NULL: closed for the time being, all entries read */
	dev_t dev;		/* to know it again */
	ino_t ino;
	size_t path_len;	/* of the directory, in walk.path */
	bool noted;		/* read to its end: what is left are the names in subdirs, each with its NUL */
	char *subdirs;
	size_t next_subdir, subdirs_len, subdirs_size;
	bool pins_checked;	/* this directory and all above it have their pins */
};

struct lower_walk {
	struct lower_walk_frame *frames;	/* from the root to where we are */
	size_t nframes, max_frames;
	size_t nclosed;		/* the first so many frames are closed */
	char *path;		/* of the entry that is looked at, relative to the root; "" is the root */
	size_t path_len, path_size;
	uint64_t max_entries;	/* -E2BIG beyond */
	int root_fd;
	/* Called for every regular file in the directory of frame, with walk->path. Negative ends the walk. */
	int (*file)(void *arg, struct lower_walk *walk, struct lower_walk_frame *frame, const char *name);
	/* `path` could not be read, because of the errno r. Negative ends the walk, 0 leaves it out. */
	int (*failed)(void *arg, const char *path, int r);
	void *arg;
};

/* 0: all was seen, but what `failed` has left out; -E2BIG, -ENOMEM, -errno of the root, or what a callback returned. */
int lower_walk_run(struct lower_walk *walk, int root_fd);

#endif
