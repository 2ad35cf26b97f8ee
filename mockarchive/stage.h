/* Stage requests, between rest.c, which answers, stage.c, which keeps them, and stage_store.c, which has them on disk. `_locked`: the caller holds rest.lock. Everything
 * else takes what is the caller's alone. */
#ifndef WORMFS_MOCKARCHIVE_STAGE_H
#define WORMFS_MOCKARCHIVE_STAGE_H

#include <pthread.h>

#include "mockarchive/rest.h"

enum file_state { FILE_OPEN, FILE_DEFERRED, FILE_COMPLETED, FILE_FAILED, FILE_CANCELLED };

struct stage_file {
	char *path;		/* clean, without its first '/' */
	int64_t pin_ns, started_ns, finished_ns;
	unsigned recalls;	/* that it had before this request */
	enum file_state state;
	char error[120];
};

struct stage {
	char id[40];
	int64_t created_ns, started_ns, completed_ns;
	unsigned users;		/* handlers that look at it without the lock */
	bool gone;
	size_t n;
	struct stage_file *files;
};

struct rest {
	struct archive *archive;
	char *site;
	int dir_fd;		/* constant: where requests are kept; -1: nowhere */
	pthread_mutex_t lock;	/* guards everything below, and the fields of files */
	struct stage *stage[REST_REQUESTS_MAX];	/* oldest first */
	size_t n, nfiles, ndeferred;
};

/* What the archive says of a file now; an archive_file_fn fills it in. */
struct stage_look {
	bool found;
	enum archive_state state;
	uint64_t size_bytes;
	int64_t recalled_ns;
	unsigned recalls;
	int drive, error;
	enum archive_copy_state tape;
	char error_text[96];
};

int stage_take_look(void *arg, const struct archive_file *file);

/* "PT1H30M" in ns; -1: no duration. */
int64_t stage_duration_ns(const char *text);
void stage_make_id(char id[40]);
void stage_free(struct stage *s);
/* Sorts the files by path, which stage_file_of() needs; what was named twice is one file. */
void stage_sort(struct stage *s);
struct stage_file *stage_file_of(struct stage *s, const char *path);	/* NULL: not of this request */
bool stage_is_open(const struct stage_file *file);
/* Asks the archive for a file; what comes of it is in *file, which is the caller's alone. */
void stage_start(struct rest *t, const char *id, struct stage_file *file);
void stage_finish(struct stage_file *file, enum file_state state, const char *error, int64_t now_ns);

/* A user more, to be given back with stage_put_locked(); NULL: no such request. */
struct stage *stage_get_locked(struct rest *t, const char *id);
void stage_put_locked(struct stage *s);
void stage_unlink_locked(struct rest *t, size_t i);
/* Room for one more request of so many files; the oldest that is complete goes. */
bool stage_make_room_locked(struct rest *t, size_t nfiles);
/* On disk as it is now; a failure is logged. And not any more. */
void stage_save_locked(struct rest *t, const struct stage *s);
void stage_forget_locked(struct rest *t, const struct stage *s);
/* What a look tells about a file that is not finished. */
void stage_observe(struct stage_file *file, const struct stage_look *look, int64_t now_ns);
/* Does another request still want this path? */
bool stage_is_wanted_locked(struct rest *t, const struct stage *but, const char *path);

#endif
