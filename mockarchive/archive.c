/* Made, started, stopped; and what fs/ tells the archive. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/state.h"
#include "fs/tier.h"
#include "lockstore/monotonic_cond.h"
#include "mockarchive/ops.h"
#include "mockarchive/tier.h"

/* ---- faults ---- */

static void on_fired(void *arg, const char *id, const struct fault_query *query, const struct fault_verdict *verdict)
{
	history_add(arg, &(struct archive_event){ .time_ns = query->now_ns, .kind = ARCHIVE_EVENT_FAULT, .path = query->path, .fault = id,
						  .error = verdict->error, .detail = fault_point_name(query->point) });
}

static void on_rules_changed(void *arg)
{
	struct archive *a = arg;

	pthread_mutex_lock(&a->lock);
	robot_look_again_locked(a);
	call_look_again_locked(a);
	pthread_mutex_unlock(&a->lock);
}

/* ---- life ---- */

static int open_directory(const char *path, int *ret_fd)
{
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

int archive_open(struct wormfs *fs, const struct settings *set, const char *clock, const char *store, const char *replica, struct archive **ret)
{
	struct archive *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->fs = fs;
	a->set = a->set_at_start = *set;
	a->clock_at_start = clock;
	a->tape_fd = a->replica_fd = -1;
	a->xattr = lower_xattr_archive(fs->ns);
	a->library_up = true;
	for (int i = 0; i < ARCHIVE_DRIVES_MAX; i++)
		a->drives[i].up = true;
	for (int i = 0; i < 2; i++)
		a->queue_tail[i] = &a->queue_head[i];
	pthread_mutex_init(&a->lock, NULL);
	monotonic_cond_init(&a->changed);
	monotonic_cond_init(&a->work);
	monotonic_cond_init(&a->moves);
	monotonic_cond_init(&a->ready);
	monotonic_cond_init(&a->drop);
	clock_init(a);
	r = clock_parse(clock, &a->clock_mode, &a->rate);
	a->store = strdup(store);
	a->replica = strdup(replica);
	if (r == 0 && (!a->store || !a->replica || asprintf(&a->tape, "%s/tape", store) < 0))
		r = -ENOMEM;
	if (r == 0)
		r = history_open(&a->journal);
	if (r == 0)
		r = faults_open(on_fired, on_rules_changed, a, &a->faults);
	if (r == 0)
		r = open_directory(a->tape, &a->tape_fd);
	if (r == 0)
		r = open_directory(a->replica, &a->replica_fd);
	if (r == 0)
		replica_tidy(a);
	if (r == 0 && !fs->lower.xattr) {
		complain("the store '%s' is on a filesystem without extended attributes, which keep the states of files: choose another", store);
		r = -EOPNOTSUPP;
	} else if (r < 0) {
		complain("cannot open the archive in '%s' and '%s': %s", store, replica, strerror(-r));
	}
	if (r < 0)
		archive_close(a);
	else
		*ret = a;
	return r;
}

int archive_start(struct archive *a)
{
	int r;

	r = call_start(a);
	if (r == 0)
		r = robot_start(a);
	if (r < 0)
		complain("cannot start the archive's threads: %s", strerror(-r));
	return r;
}

void archive_stop(struct archive *a)
{
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_broadcast(&a->work);
	pthread_cond_broadcast(&a->changed);
	pthread_cond_broadcast(&a->drop);
	pthread_mutex_unlock(&a->lock);
	history_stop(a->journal);
	call_stop(a);
	robot_stop(a);
}

void archive_close(struct archive *a)
{
	if (!a)
		return;
	file_free_all(a);
	faults_close(a->faults);
	history_close(a->journal);
	if (a->tape_fd >= 0)
		close(a->tape_fd);
	if (a->replica_fd >= 0)
		close(a->replica_fd);
	pthread_cond_destroy(&a->changed);
	pthread_cond_destroy(&a->work);
	pthread_cond_destroy(&a->moves);
	pthread_cond_destroy(&a->ready);
	pthread_cond_destroy(&a->drop);
	pthread_mutex_destroy(&a->lock);
	free(a->heap);
	free(a->drops);
	free(a->store);
	free(a->replica);
	free(a->tape);
	free(a);
}

/* ---- what fs/ tells ---- */

/* The path is looked up before the lock: it takes another one. */
static void opened_locked(struct wormfs *fs, struct inode *ino, const struct handle *h, struct fuse_file_info *fi)
{
	struct archive *a = the_archive;
	char *path = NULL;
	struct file *f;

	if (inode_path(fs, ino, &path) < 0)
		path = NULL;	/* O_TMPFILE */
	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, ino->nodeid);
	if (!f)
		f = file_make_locked(a, ino->nodeid, path ? path : "");
	if (f)
		robot_opened_locked(a, f, h->writer, h->writer && f->offline);
	if (f && h->writer && fi->flags & O_TRUNC)
		file_charge_locked(a, f, 0);
	/* Every read of a stub must be seen: where its end does not show, or a part of it can be read without a recall. Likewise where a
	 * rule is about reads: the page cache would answer some, and reading ahead fail in place of the caller. */
	fi->direct_io |= f && ((f->offline && (a->set.st_size != SIZE_LOGICAL || f->stub_bytes)) || faults_covers(a->faults, FAULT_READ));
	fi->keep_cache = 0;
	fi->noflush = !h->writer;
	pthread_mutex_unlock(&a->lock);
	free(path);
}

static void closed(struct wormfs *fs, struct inode *ino, bool writer, bool changed)
{
	struct archive *a = the_archive;
	char *path = NULL;
	struct file *f;

	if (writer && inode_path(fs, ino, &path) < 0)
		path = NULL;
	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, ino->nodeid);
	if (f && path && !*f->path) {		/* it has got a name */
		free(f->path);
		f->path = path;
		path = NULL;
	}
	if (f && writer && !*f->path && f->nwriters == 1)
		f->gone = true;		/* O_TMPFILE, and nobody gave it one */
	if (f && (writer ? f->nwriters : f->nreaders) > 0)
		robot_released_locked(a, f, writer, changed);
	pthread_mutex_unlock(&a->lock);
	free(path);
}

static void set_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct archive *a = the_archive;
	struct file *f;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, ino->nodeid);
	if (f)
		file_touched_locked(a, f, st);
	pthread_mutex_unlock(&a->lock);
}

static void truncated(struct wormfs *fs, struct inode *ino)
{
	struct archive *a = the_archive;
	struct file *f;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, ino->nodeid);
	if (f)
		robot_modified_locked(a, f);
	pthread_mutex_unlock(&a->lock);
}

static void gone(struct wormfs *fs, struct inode *ino)
{
	struct archive *a = the_archive;
	struct file *f;

	pthread_mutex_lock(&a->lock);
	f = S_ISREG(ino->type) ? file_find_locked(a, ino->nodeid) : NULL;
	if (f)
		robot_gone_locked(a, f);
	pthread_mutex_unlock(&a->lock);
}

static void move_locked(struct archive *a, struct file *f, const char *to, bool with_replica)
{
	char *copy = strdup(to);

	if (!copy)
		return;		/* it is found again at the next start */
	if (with_replica && f->copy[COPY_REPLICA] != ARCHIVE_COPY_NONE)
		(void)replica_rename(a, f->path, to, false);	/* -ENOENT: it has none there */
	history_note(a, ARCHIVE_EVENT_NAME, f->id, to, 0, "was %s", f->path);
	free(f->path);
	f->path = copy;
}

static void unlinked(struct wormfs *fs, struct inode *ino)
{
	struct archive *a = the_archive;
	char *path = NULL;
	struct file *f;

	if (inode_path(fs, ino, &path) < 0)
		return;
	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, ino->nodeid);
	if (f && strcmp(f->path, path) != 0)
		move_locked(a, f, path, true);
	pthread_mutex_unlock(&a->lock);
	free(path);
}

/* Of all files that have `from`, or lie below it, the name begins with `to` now. */
static void move_all_locked(struct archive *a, const char *from, const char *to, bool exchanged)
{
	size_t from_len = strlen(from), to_len = strlen(to);

	for (size_t i = 0; i < ARCHIVE_HASH; i++)
		for (struct file *f = a->hash[i]; f; f = f->hash_next) {
			bool here = file_compare_path(f->path, from) == 0, there = exchanged && file_compare_path(f->path, to) == 0;
			char *path;

			if ((!here && !there) || f->gone)
				continue;
			if (asprintf(&path, "%s%s", here ? to : from, f->path + (here ? from_len : to_len)) < 0)
				continue;
			move_locked(a, f, path, false);
			free(path);
		}
}

static char *join(struct wormfs *fs, struct inode *dir, const char *name)
{
	char *path = NULL, *parent;

	if (inode_path(fs, dir, &parent) < 0)
		return NULL;
	if (asprintf(&path, "%s%s%s", parent, *parent ? "/" : "", name) < 0)
		path = NULL;
	free(parent);
	return path;
}

static void renamed(struct wormfs *fs, struct inode *from_dir, const char *name, struct inode *to_dir, const char *new_name, bool exchanged)
{
	char *from = join(fs, from_dir, name), *to = join(fs, to_dir, new_name);
	struct archive *a = the_archive;

	if (from && to) {
		pthread_mutex_lock(&a->lock);
		(void)replica_rename(a, from, to, exchanged);	/* -ENOENT: nothing of it is archived */
		move_all_locked(a, from, to, exchanged);
		pthread_mutex_unlock(&a->lock);
	}
	free(from);
	free(to);
}

static void show(struct wormfs *fs, struct inode *ino, struct stat *st)
{
	show_stat(the_archive, ino, st);
}

static bool is_offline(struct wormfs *fs, struct inode *ino)
{
	struct archive *a = the_archive;
	struct file *f;
	bool offline;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, ino->nodeid);
	offline = f && (f->offline || f->busy);
	pthread_mutex_unlock(&a->lock);
	return offline;
}

void tier_init(struct tier *tier)
{
	*tier = (struct tier){ .operations = &archive_operations, .opened_locked = opened_locked, .closed = closed, .set_locked = set_locked, .truncated = truncated, .gone = gone,
			       .unlinked = unlinked, .renamed = renamed, .show = show, .is_offline = is_offline };
}
