/* The tree of files: a real directory, seen through ids and locks of our own. What appears in it from elsewhere is there at
 * once; only what comes through the REST interface is held to the locks. Not locked: the owner does that. */
#ifndef WORMFS_MOCK_FILES_H
#define WORMFS_MOCK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <jansson.h>

#include "mockarchive/mockqumulo/lock_rules.h"
#include "mockarchive/mockqumulo/route.h"

#define FILES_KNOWN_MAX 4000000		/* files that were asked for; more are refused (-ENFILE) */
#define FILES_ROOT_ID 2			/* of FILES_IDS_OWN */

enum files_ids {
	FILES_IDS_INODE,	/* the id is st_ino */
	FILES_IDS_OWN,		/* 2 for the root, then one after the other as they are met */
};

struct files;

/* What is known of one file, whatever its names. */
struct file {
	uint64_t ino;
	int64_t btime_ns;	/* tells it from an earlier file with its inode number; 0: the filesystem has none */
	uint64_t id;
	char *path;		/* the last it was found under */
	struct qlock lock;
	uint64_t revision;	/* goes up with each change of the lock */
	uint64_t reads;		/* goes up with each reading of its attributes */
	struct file *next;	/* with the same hash */
};

/* A file that was found; `fd` is O_PATH. */
struct found {
	int fd;
	struct statx st;
	struct file *file;
};

/* state NULL: locks are gone with the process; else each change is a line of that file, which is read first.
 * -ENOTDIR etc. -EBADMSG: a line of the state is none. */
int files_open(const char *dir, enum files_ids ids, const char *state, struct files **ret_files);
void files_close(struct files *f);
int files_root_fd(const struct files *f);

/* -ENOENT: no such name; -ENOTDIR: what should be a directory is none; -ESTALE: no such id. Symbolic links are not followed. */
int files_find(struct files *f, const struct route *route, struct found *ret_found);
int files_find_path(struct files *f, const char *path, struct found *ret_found);
int files_find_id(struct files *f, uint64_t id, struct found *ret_found);
/* A name in an open directory, whose path is `dir_path`. */
int files_find_at(struct files *f, int dir_fd, const char *dir_path, const char *name, struct found *ret_found);
void found_fini(struct found *found);

/* Makes an empty file, and the directories above it, where there is none. */
int files_invent(struct files *f, const char *path);

/* After a change of file->lock. -EIO: the state cannot be written. */
int files_lock_changed(struct files *f, struct file *file);
/* The file's last name is gone. */
void files_forget(struct files *f, struct file *file);
/* All that have a lock: [{"path", "id", "lock"}]; one for each file. */
json_t *files_locks_json(const struct files *f, struct qtime now, const struct switches *s);
/* Takes every lock away, as no cluster would. */
void files_unlock_all(struct files *f);

/* "a" below "/" is "/a". NULL: out of memory. */
char *files_join(const char *dir_path, const char *name);

#endif
