/* A slot is a user and an errno, or a warning of the kernel about one quota. Its first refusal is told at once; until its time is over further ones add up, and the thread
 * tells the sum then. A slot whose time is over and that has nothing to tell is free. */
#include "fs/shortage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "fs/descriptor.h"
#include "fs/events.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/quota_notice.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define HIT_COUNT_XATTR "user.quota_hit_count"

struct slot {
	bool used;
	int64_t due_s;			/* CLOCK_MONOTONIC */
	struct quota_notice last;	/* count: of those that were not told; its path is ours */
	char *path;
};

struct shortage {
	atomic_ullong n_edquot, n_enospc, n_full_at_close, n_untold;
	pthread_mutex_t lock;		/* all below; a leaf, never held while something is told */
	pthread_cond_t work;
	struct slot slots[SHORTAGE_MAX];
	int64_t window_s;		/* since when `told` counts */
	unsigned told;
	bool stopping, running;
	pthread_t thread;
};

static _Thread_local unsigned ours;	/* actor_request() */

void shortage_is_ours(void)
{
	ours = actor_request();
}

static int64_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* ---- slots ---- */

/* `path` is the slot's, and the notice's from now on. */
static void take_locked(struct slot *slot, struct quota_notice *ret, char **ret_path)
{
	*ret = slot->last;
	*ret_path = slot->path;
	ret->path = slot->path;
	slot->path = NULL;
	slot->last.quota.count = 0;
}

static bool is_like(const struct quota_notice *a, const struct quota_notice *b)
{
	return a->actor.uid == b->actor.uid && a->quota.kind == b->quota.kind && a->quota.id == b->quota.id &&
	       a->quota.warning == b->quota.warning;
}

/* Takes `path` over. True: tell it now, as *notice with *ret_path, which the caller frees. */
static bool add_locked(struct shortage *sh, struct quota_notice *notice, char *path, char **ret_path)
{
	struct slot *slot = NULL, *free_slot = NULL;
	int64_t now = now_s();

	for (size_t i = 0; i < SHORTAGE_MAX && !slot; i++) {
		struct slot *s = &sh->slots[i];

		if (s->used && is_like(&s->last, notice))
			slot = s;
		else if (!s->used && !free_slot)
			free_slot = s;
	}
	if (slot) {	/* the last one stands for all */
		uint32_t count = slot->last.quota.count;

		free(slot->path);
		slot->path = path;
		slot->last = *notice;
		slot->last.quota.count = count < UINT32_MAX ? count + 1 : count;
		return false;
	}
	if (now - sh->window_s >= SHORTAGE_PERIOD_S) {
		sh->window_s = now;
		sh->told = 0;
	}
	if (!free_slot || sh->told == SHORTAGE_MAX) {
		atomic_fetch_add(&sh->n_untold, 1);
		free(path);
		return false;
	}
	sh->told++;
	free_slot->used = true;
	free_slot->due_s = now + SHORTAGE_PERIOD_S;
	free_slot->last = *notice;
	free_slot->last.quota.count = 0;
	notice->quota.count = 1;
	notice->path = *ret_path = path;
	pthread_cond_signal(&sh->work);
	return true;
}

/* One slot whose time is over, or any (`all`), that has something to tell. */
static bool next_due_locked(struct shortage *sh, bool all, struct quota_notice *ret, char **ret_path)
{
	int64_t now = now_s();

	for (size_t i = 0; i < SHORTAGE_MAX; i++) {
		struct slot *slot = &sh->slots[i];

		if (!slot->used || (!all && slot->due_s > now))
			continue;
		if (slot->last.quota.count == 0) {
			free(slot->path);
			slot->path = NULL;
			slot->used = false;
			continue;
		}
		slot->due_s = now + SHORTAGE_PERIOD_S;
		take_locked(slot, ret, ret_path);
		return true;
	}
	return false;
}

static void wait_locked(struct shortage *sh)
{
	struct timespec until = { .tv_sec = INT64_MAX };

	for (size_t i = 0; i < SHORTAGE_MAX; i++)
		if (sh->slots[i].used && sh->slots[i].due_s < until.tv_sec)
			until.tv_sec = sh->slots[i].due_s;
	if (until.tv_sec == INT64_MAX)
		pthread_cond_wait(&sh->work, &sh->lock);
	else
		pthread_cond_timedwait(&sh->work, &sh->lock, &until);
}

static void *run(void *arg)
{
	struct wormfs *fs = arg;
	struct shortage *sh = fs->shortage;
	struct quota_notice notice;
	char *path;

	pthread_mutex_lock(&sh->lock);
	for (;;) {
		bool all = sh->stopping;

		while (next_due_locked(sh, all, &notice, &path)) {
			pthread_mutex_unlock(&sh->lock);
			quota_notice_tell(fs, &notice);
			free(path);
			pthread_mutex_lock(&sh->lock);
		}
		if (all)
			break;
		if (!sh->stopping)
			wait_locked(sh);
	}
	pthread_mutex_unlock(&sh->lock);
	return NULL;
}

/* ---- what is seen ---- */

/* Of the inode, or of a name in a directory. NULL: not known. */
static char *path_of(struct wormfs *fs, const struct event_note *note)
{
	char *path = NULL, *full = NULL;

	if (!(note->dir || note->ino) || inode_path(fs, note->dir ? note->dir : note->ino, &path) < 0)
		return NULL;
	if (!note->dir || !note->name)
		return path;
	if (asprintf(&full, "%s%s%s", path, *path ? "/" : "", note->name) < 0)
		full = NULL;
	free(path);
	return full;
}

static dev_t device_of(struct wormfs *fs, struct inode *ino)
{
	struct stat st;

	return ino && ino->dev_index != 0 && inode_stat_now(fs, ino, &st) == 0 ? st.st_dev : fs->root_dev;
}

void shortage_tell(struct wormfs *fs, const struct quota_notice *notice, char *path)
{
	struct shortage *sh = fs->shortage;
	struct quota_notice told = *notice;
	char *told_path = NULL;
	bool now;

	pthread_mutex_lock(&sh->lock);
	now = add_locked(sh, &told, path, &told_path);
	pthread_mutex_unlock(&sh->lock);
	if (!now)
		return;
	quota_notice_tell(fs, &told);
	free(told_path);
}

static void tell(struct wormfs *fs, const struct event_note *note, const char *what)
{
	struct quota_notice notice = { .error = -note->result, .actor = actor_get() };
	dev_t dev;

	if (note->handle)	/* nobody asks for a release: it is of who opened it */
		notice.actor = (struct actor){ .uid = note->handle->uid, .gid = note->handle->gid, .pid = note->handle->pid };
	else
		actor_comm(notice.comm);
	dev = device_of(fs, note->ino ? note->ino : note->dir);
	notice.quota = (struct event_quota){ .kind = notice.error == EDQUOT ? EVENT_QUOTA_SOME : EVENT_QUOTA_FILESYSTEM,
					     .warning = EVENT_QUOTA_REFUSED, .major = major(dev), .minor = minor(dev), .count = 1 };
	snprintf(notice.detail, sizeof(notice.detail), "%s: %s, device %u:%u", what ? what : event_type_name(note->type),
		 strerror(notice.error), major(dev), minor(dev));
	shortage_tell(fs, &notice, path_of(fs, note));
}

/* One more in the file's own attribute; of a file that could not be made, in its directory's. A full filesystem mostly has
 * room for it in the inode; where not, the counters of the mount still have it. */
static void count_on_file(struct wormfs *fs, struct inode *ino)
{
	struct data_stamp before;
	char text[24];
	uint64_t n = 0;
	ssize_t len;
	int fd;

	pthread_mutex_lock(&ino->lock);
	if (S_ISREG(ino->type))
		lock_load_locked(fs, ino);
	fd = S_ISREG(ino->type) && ino->phase != LOCK_NONE ? -EPERM : descriptor_get(fs, ino);
	if (fd >= 0) {
		len = lower_getxattr(fd, HIT_COUNT_XATTR, text, sizeof(text) - 1);
		if (len > 0) {
			text[len] = '\0';
			n = strtoull(text, NULL, 10);
		}
		len = snprintf(text, sizeof(text), "%" PRIu64, n < UINT64_MAX ? n + 1 : n);
		lock_metadata_before_locked(fs, ino, &before);
		(void)lower_setxattr(fd, HIT_COUNT_XATTR, text, len, 0);
		lock_metadata_after_locked(fs, ino, &before, false);
		descriptor_put(fs, ino, fd);
	}
	pthread_mutex_unlock(&ino->lock);
}

void shortage_note(struct wormfs *fs, const struct event_note *note)
{
	struct inode *counted = note->ino ? note->ino : note->dir;

	if (ours != 0 && ours == actor_request())
		return;
	atomic_fetch_add(note->result == -EDQUOT ? &fs->shortage->n_edquot : &fs->shortage->n_enospc, 1);
	tell(fs, note, NULL);
	if (fs->opt.quota_hit_count && counted && note->type != EVENT_UNLINK && (S_ISREG(counted->type) || S_ISDIR(counted->type)))
		count_on_file(fs, counted);
}

/* One system call, of a handle that nobody waits for. */
void shortage_look(struct wormfs *fs, struct handle *h)
{
	struct statvfs stv;

	if (!h->passthrough || h->fd < 0 || fstatvfs(h->fd, &stv) < 0 || stv.f_frsize == 0 || stv.f_blocks == 0 ||
	    stv.f_bavail >= SHORTAGE_FULL_BYTES / stv.f_frsize)
		return;
	atomic_fetch_add(&fs->shortage->n_full_at_close, 1);
	tell(fs, &(struct event_note){ .type = EVENT_CLOSE_WRITE, .result = -ENOSPC, .ino = h->ino, .handle = h },
	     "full when a file was closed that the kernel wrote");
}

/* ---- life ---- */

json_t *shortage_json(struct wormfs *fs)
{
	struct shortage *sh = fs->shortage;

	return json_pack("{s:I, s:I, s:I, s:I}", "edquot", (json_int_t)atomic_load(&sh->n_edquot), "enospc",
			 (json_int_t)atomic_load(&sh->n_enospc), "full_at_close", (json_int_t)atomic_load(&sh->n_full_at_close),
			 "untold", (json_int_t)atomic_load(&sh->n_untold));
}

int shortage_open(struct wormfs *fs)
{
	struct shortage *sh = calloc(1, sizeof(*sh));
	int r;

	if (!sh)
		return -ENOMEM;
	pthread_mutex_init(&sh->lock, NULL);
	monotonic_cond_init(&sh->work);
	sh->window_s = now_s();
	fs->shortage = sh;
	r = thread_start(&sh->thread, "shortage", run, fs);
	sh->running = r == 0;
	return r;
}

void shortage_close(struct wormfs *fs)
{
	struct shortage *sh = fs->shortage;

	if (!sh)
		return;
	if (sh->running) {
		pthread_mutex_lock(&sh->lock);
		sh->stopping = true;
		pthread_cond_signal(&sh->work);
		pthread_mutex_unlock(&sh->lock);
		pthread_join(sh->thread, NULL);
	}
	for (size_t i = 0; i < SHORTAGE_MAX; i++)
		free(sh->slots[i].path);
	pthread_cond_destroy(&sh->work);
	pthread_mutex_destroy(&sh->lock);
	fs->shortage = NULL;
	free(sh);
}
