/* The close path. What always holds:
 *  - a record is on the file before close(2) answers 0 to the writer that changed it;
 *  - phase CLOSING or COMMITTED has rec, and never goes back (but for lock_unseal_locked(), before
 *    anybody could see it);
 *  - nwriters > 0 has a journal slot, and so has a lock that the ledger does not know yet;
 *  - the directories above a locked file are pinned before its record is written.
 * Display, refusal and storage all start from lock_state_locked(). */
#include "fs/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/linger.h"
#include "fs/log.h"
#include "fs/pin.h"
#include "fs/staging.h"

#define SERIALS_RESERVED 65536	/* a durable transaction in so many locks */
#define RACY_NS 20000000	/* two ticks at 100 Hz: a change this soon after may leave the same ctime */

static int64_t to_ns(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct data_stamp stamp_of(const struct stat *st)
{
	return (struct data_stamp){ .size_bytes = st->st_size, .mtime = st->st_mtim, .ctime = st->st_ctim };
}

static bool stamp_equal(const struct data_stamp *a, const struct data_stamp *b)
{
	return a->size_bytes == b->size_bytes && to_ns(a->mtime) == to_ns(b->mtime) && to_ns(a->ctime) == to_ns(b->ctime);
}

/* For the log: the caller frees it. */
static char *path_for_log(struct wormfs *fs, struct inode *ino)
{
	char *path;

	if (inode_path(fs, ino, &path) == 0)
		return path;
	return strdup("(a file without a known name)");
}

static void log_failure(struct wormfs *fs, struct inode *ino, const char *what, int r)
{
	char *path = path_for_log(fs, ino);

	log_error("cannot %s '%s': %s", what, path ? path : "?", strerror(-r));
	free(path);
}

static void set_record_locked(struct inode *ino, const struct lock_record *rec)
{
	if (!ino->rec)
		ino->rec = malloc(sizeof(*ino->rec));
	if (ino->rec)
		*ino->rec = *rec;
}

/* ---- what is known ---- */

static void note_unreadable_locked(struct wormfs *fs, struct inode *ino, const char *why)
{
	char *path;

	if (ino->phase == LOCK_UNREADABLE)
		return;		/* said once */
	ino->phase = LOCK_UNREADABLE;
	atomic_fetch_add(&fs->n_bad_records, 1);
	path = path_for_log(fs, ino);
	log_warning("the lock record of '%s' cannot be trusted (%s), every change of it is refused with EIO; "
		    "compare the key of the share, then run wormctl status on it", path ? path : "?", why);
	free(path);
}

void lock_check_suspect_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	char *path;

	if (ino->suspect || ino->phase != LOCK_COMMITTED ||
	    (ino->rec->size_bytes == (uint64_t)st->st_size && ino->rec->mtime_ns == to_ns(st->st_mtim)))
		return;
	ino->suspect = true;
	atomic_fetch_add(&fs->n_suspect, 1);
	path = path_for_log(fs, ino);
	log_warning("'%s' was changed below the mount after it was locked (size or time differs from its record), "
		    "it stays locked and readable", path ? path : "?");
	free(path);
}

struct found_row {
	struct lock_record rec;
	uint32_t holds;
};

static int take_row(void *arg, const struct ledger_row *row)
{
	struct found_row *found = arg;

	found->rec = row->rec;
	found->holds = row->holds;
	return 0;
}

static int find_row(struct wormfs *fs, struct inode *ino, struct found_row *ret)
{
	struct file_key key;
	int r;

	r = inode_key(fs, ino, &key);
	if (r < 0)
		return r;
	r = ledger_find(fs->ledger, &key, take_row, ret);
	if (r < 0 && r != -ENOENT && !atomic_exchange(&fs->ledger_failed, true))
		log_error("cannot read the ledger: %s; files without a record of their own are refused with EIO",
			  ledger_error(fs->ledger));
	else if (r == 0 || r == -ENOENT)
		atomic_store(&fs->ledger_failed, false);
	return r;
}

static int write_record(struct wormfs *fs, int fd, const struct lock_record *rec)
{
	uint8_t bytes[RECORD_BYTES];
	int r;

	r = record_encode(fs->key, rec, bytes);
	if (r < 0)
		return r;
	return lower_setxattr(fd, lower_xattr_record(fs->ns), bytes, sizeof(bytes), 0);
}

/* No record on the file: does the ledger know one? A file is locked if either says so. */
static void load_from_ledger_locked(struct wormfs *fs, struct inode *ino, int fd)
{
	struct found_row row;
	char *path;
	int r;

	r = find_row(fs, ino, &row);
	if (r == -ENOENT) {
		ino->phase = LOCK_NONE;
		return;
	}
	if (r < 0) {
		note_unreadable_locked(fs, ino, "the ledger cannot be read");
		return;
	}
	set_record_locked(ino, &row.rec);
	if (!ino->rec) {
		ino->phase = LOCK_UNREADABLE;
		return;
	}
	ino->rec->holds = row.holds;
	ino->phase = LOCK_COMMITTED;
	if (!fs->lower.xattr)
		return;
	r = write_record(fs, fd, ino->rec);
	ino->suspect = true;
	atomic_fetch_add(&fs->n_suspect, 1);
	path = path_for_log(fs, ino);
	log_warning("the lock record of '%s' was removed below the mount, the ledger has it%s", path ? path : "?",
		    r == 0 ? ", it is written again" : ", it cannot be written again");
	free(path);
}

void lock_load_locked(struct wormfs *fs, struct inode *ino)
{
	bool known_none = ino->phase == LOCK_NONE;
	uint8_t bytes[RECORD_BYTES];
	struct lock_record rec;
	struct stat st;
	int64_t btime_ns;
	ssize_t n;
	int fd;

	if (!S_ISREG(ino->type)) {
		ino->phase = LOCK_NONE;
		return;
	}
	/* Another gateway may have locked, extended or held it since. Not while we are locking it. */
	if (ino->phase == LOCK_CLOSING ||
	    (!fs->shared && (ino->phase == LOCK_NONE || ino->phase == LOCK_COMMITTED)))
		return;

	fd = descriptor_get(fs, ino);
	if (fd < 0) {
		note_unreadable_locked(fs, ino, strerror(-fd));
		return;
	}
	n = fs->lower.xattr ? lower_getxattr(fd, lower_xattr_record(fs->ns), bytes, sizeof(bytes)) : -ENODATA;
	if (n == -ENODATA) {
		if (known_none)
			;
		else if (atomic_load(&fs->ledger_rows))
			load_from_ledger_locked(fs, ino, fd);
		else
			ino->phase = LOCK_NONE;
	} else if (n < 0) {
		note_unreadable_locked(fs, ino, n == -ERANGE ? "its length is wrong" : strerror(-n));
	} else {
		int r = record_decode(fs->key, bytes, n, &rec);

		if (r < 0) {
			note_unreadable_locked(fs, ino, r == -EPROTO ? "it is of a newer version" :
					       "it does not verify with this key");
		} else {
			set_record_locked(ino, &rec);
			ino->phase = ino->rec ? LOCK_COMMITTED : LOCK_UNREADABLE;
			if (ino->rec && inode_stat(fd, "", &st, &btime_ns) == 0)
				lock_check_suspect_locked(fs, ino, &st);
		}
	}
	descriptor_put(fs, ino, fd);
}

enum guard_state lock_state_locked(struct wormfs *fs, struct inode *ino)
{
	struct found_row row;
	int64_t now_s;
	int r;

	lock_load_locked(fs, ino);
	switch (ino->phase) {
	case LOCK_NONE:
		return GUARD_OPEN;
	case LOCK_CLOSING:
		return GUARD_CLOSING;
	case LOCK_COMMITTED:
		break;
	default:
		return GUARD_UNREADABLE;
	}
	now_s = clock_source_now_s(fs->clock);
	if (ino->rec->flags & RECORD_APPEND)
		return GUARD_APPENDABLE;
	if (record_is_retained(ino->rec, now_s))
		return GUARD_RETAINED;
	/* Expired, says the file. The ledger may know a later date or a hold that a crash kept from it. */
	r = find_row(fs, ino, &row);
	if (r < 0 && r != -ENOENT)
		return GUARD_UNREADABLE;
	if (r == 0 && (row.holds > 0 || record_is_retained(&row.rec, now_s)))
		return GUARD_RETAINED;
	return GUARD_EXPIRED;
}

int lock_check_locked(struct wormfs *fs, struct inode *ino, enum guard_op op)
{
	enum guard_state state;
	char *path;
	int r;

	state = lock_state_locked(fs, ino);
	r = guard_verdict(state, op);
	if (r == 0)
		return 0;
	atomic_fetch_add(&fs->n_refused[op], 1);
	if (log_is_debug()) {
		path = path_for_log(fs, ino);
		log_debug("refused %s of '%s': it is %s", guard_op_name(op), path ? path : "?", guard_state_name(state));
		free(path);
	}
	return r;
}

int lock_check_rename_dir(struct wormfs *fs, struct inode *dir)
{
	char *path = NULL;
	int r;

	r = pin_check_rename(fs, dir);
	if (r < 0) {
		atomic_fetch_add(&fs->n_refused[GUARD_RENAME_DIR], 1);
		if (log_is_debug()) {
			path = path_for_log(fs, dir);
			log_debug("refused rename-dir of '%s': %s", path ? path : "?",
				  r == -EPERM ? "a locked file lies below it" : strerror(-r));
			free(path);
		}
	}
	return r;
}

/* ---- locking ---- */

static int next_serial(struct wormfs *fs, uint64_t *ret_serial)
{
	int r = 0;

	pthread_mutex_lock(&fs->serial_lock);
	if (fs->serial_next == fs->serial_end) {
		r = ledger_reserve_serials(fs->ledger, SERIALS_RESERVED, &fs->serial_next);
		if (r < 0)
			fs->serial_next = fs->serial_end;
		else
			fs->serial_end = fs->serial_next + SERIALS_RESERVED;
	}
	if (r == 0)
		*ret_serial = fs->serial_next++;
	pthread_mutex_unlock(&fs->serial_lock);
	return r;
}

/* The end of retention for a file that is locked now: the option's, moved into min..max. */
static int64_t retention_for_commit(struct wormfs *fs, int64_t now_s)
{
	int64_t until_s = retention_until(&fs->opt.retention, now_s);
	int64_t lo_s = retention_until(&fs->opt.min, now_s), hi_s = retention_until(&fs->opt.max, now_s);

	if (until_s == RETENTION_UNSPECIFIED)
		return until_s;
	if (until_s == RETENTION_INFINITE)
		return fs->opt.has_max ? hi_s : until_s;
	if (until_s < lo_s)
		return lo_s;
	return until_s > hi_s ? hi_s : until_s;
}

static int fill_row(struct wormfs *fs, struct inode *ino, const struct stat *st, struct ledger_row *ret_row, char **ret_path)
{
	int r;

	memset(ret_row, 0, sizeof(*ret_row));
	r = inode_key(fs, ino, &ret_row->key);
	if (r < 0)
		return r;
	r = inode_path(fs, ino, ret_path);
	if (r == -ENOENT)
		*ret_path = strdup("");
	else if (r < 0)
		return r;
	if (!*ret_path)
		return -ENOMEM;
	ret_row->path = *ret_path;
	ret_row->rec = *ino->rec;
	ret_row->uid = st->st_uid;
	ret_row->gid = st->st_gid;
	ret_row->rule = "";
	/* The name of an option's hold travels with the row; its count is in the record already. */
	ret_row->hold = ino->rec->holds ? fs->opt.hold : NULL;
	return 0;
}

/* Pins, record, journal: after this the file is locked whatever happens to the daemon. `fd` is any
 * descriptor of the file. rename_lock is held. */
static int seal_locked(struct wormfs *fs, struct inode *ino, int fd, const struct stat *st)
{
	int64_t now_s = clock_source_now_s(fs->clock);
	struct lock_record rec = {
		.mode = fs->opt.mode,
		.holds = fs->opt.hold ? 1 : 0,
		.committed_s = now_s,
		.until_s = retention_for_commit(fs, now_s),
		.size_bytes = st->st_size,
		.mtime_ns = to_ns(st->st_mtim),
	};
	struct ledger_row row;
	struct file_key key;
	char *path = NULL;
	int r;

	r = pin_parents(fs, ino);
	if (r < 0)
		return r;
	r = next_serial(fs, &rec.serial);
	if (r < 0)
		return r;
	r = inode_path(fs, ino, &path);
	if (r < 0 && r != -ENOENT)
		return r;
	if (ino->slot == JOURNAL_NO_SLOT) {
		r = inode_key(fs, ino, &key);
		if (r == 0)
			r = journal_add(fs->journal, &key, path ? path : "", &ino->slot);
		if (r < 0)
			goto out;
	}
	set_record_locked(ino, &rec);
	if (!ino->rec) {
		r = -ENOMEM;
		goto out;
	}
	if (fs->lower.xattr) {
		r = write_record(fs, fd, &rec);
	} else {
		free(path);
		path = NULL;
		r = fill_row(fs, ino, st, &row, &path);
		if (r == 0)
			r = ledger_put(fs->ledger, &row);
	}
	if (r < 0) {
		free(ino->rec);
		ino->rec = NULL;
		goto out;
	}
	journal_mark_locked(fs->journal, ino->slot, &rec, path);
	atomic_store(&fs->ledger_rows, true);
out:
	free(path);
	return r;
}

/* Into the ledger, by the committer; it frees the journal slot. */
static void publish_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	struct ledger_row row;
	char *path = NULL;
	int r;

	r = fill_row(fs, ino, st, &row, &path);
	if (r == 0)
		r = committer_put(fs->committer, &row, ino->slot);
	if (r < 0)
		log_failure(fs, ino, "write to the ledger (it is locked by its own record; run wormctl reindex)", r);
	else
		ino->slot = JOURNAL_NO_SLOT;
	free(path);
}

static bool is_staging(struct wormfs *fs, struct inode *ino)
{
	bool staging;

	pthread_mutex_lock(&fs->names_lock);
	staging = ino->name && staging_matches(fs->staging, ino->name);
	pthread_mutex_unlock(&fs->names_lock);
	return staging;
}

static bool changed_locked(struct handle *h, const struct stat *st)
{
	struct data_stamp stamp = stamp_of(st);

	if (!h->changed && !stamp_equal(&h->stamp, &stamp))
		h->changed = true;
	return h->changed;
}

/* Does closing lock it, now that a writer has changed it? */
static bool locks_at_close(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	if (st->st_nlink == 0 || st->st_size == 0)
		return false;
	if (ino->lock_at_close)
		return true;
	return fs->opt.commit == COMMIT_CLOSE && !is_staging(fs, ino);
}

/* ---- writers ---- */

void lock_created_locked(struct inode *ino)
{
	ino->phase = LOCK_NONE;
}

int lock_writer_open_locked(struct wormfs *fs, struct handle *h)
{
	struct inode *ino = h->ino;
	struct file_key key;
	struct timespec now;
	struct stat st;
	char *path = NULL;
	int r;

	if (fstat(h->fd, &st) < 0)
		return -errno;
	if (st.st_ino != ino->ino)
		return -ESTALE;	/* see open_path() in descriptor.c */
	h->stamp = stamp_of(&st);
	if (!fs->lower.fine_times && st.st_size > 0) {
		/* A change in the same tick would leave the same stamp: count it as one. */
		clock_gettime(CLOCK_REALTIME, &now);
		if (to_ns(now) - to_ns(st.st_ctim) < RACY_NS)
			h->changed = true;
	}
	if (ino->slot == JOURNAL_NO_SLOT && fs->opt.commit != COMMIT_NEVER) {
		r = inode_key(fs, ino, &key);
		if (r < 0)
			return r;
		r = inode_path(fs, ino, &path);
		if (r < 0 && r != -ENOENT)
			return r;
		r = journal_add(fs->journal, &key, path ? path : "", &ino->slot);
		free(path);
		if (r < 0)
			return r;
	}
	ino->nwriters++;
	atomic_fetch_add(&fs->n_writers, 1);
	return 0;
}

static int flush_locked(struct wormfs *fs, struct handle *h, bool *ret_sync)
{
	struct inode *ino = h->ino;
	struct stat st;
	int r;

	if (ino->phase == LOCK_NONE) {
		if (fs->opt.commit != COMMIT_CLOSE && !ino->lock_at_close)
			return 0;
		if (fstat(h->fd, &st) < 0)
			return -errno;
		if (!changed_locked(h, &st) || !locks_at_close(fs, ino, &st))
			return 0;
		r = seal_locked(fs, ino, h->fd, &st);
		if (r < 0) {
			h->seal_failed = true;
			log_failure(fs, ino, "lock (its close failed, it is not locked)", r);
			return r;
		}
		ino->phase = LOCK_CLOSING;
		atomic_fetch_add(&fs->n_closing, 1);
	} else if (ino->phase != LOCK_CLOSING) {
		return 0;
	}
	*ret_sync = fs->opt.sync_close;
	for (struct handle *w = ino->handles; w && !*ret_sync; w = w->next)
		*ret_sync = w->synced;
	return 0;
}

int lock_flush(struct wormfs *fs, struct handle *h)
{
	bool sync = false;
	int r;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&h->ino->lock);
	r = flush_locked(fs, h, &sync);
	pthread_mutex_unlock(&h->ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	if (r == 0 && sync && fsync(h->fd) < 0)
		r = -errno;	/* locked, but nobody may call it durable */
	return r;
}

/* 0: nobody can write to the file any more, not through a mapping either. -EBUSY: somebody can.
 * A read lease is granted only when no description of the file is open for writing (fcntl(2)). */
static int probe_writers(struct wormfs *fs, struct inode *ino, struct stat *ret_st)
{
	int fd, r = 0;

	fd = descriptor_open(fs, ino, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	if (fs->lower.leases && fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		r = -EBUSY;	/* EAGAIN says so; with any other error nobody knows */
	if (r == 0 && fstat(fd, ret_st) < 0)
		r = -errno;
	close(fd);		/* gives the lease back */
	return r;
}

int lock_settle_locked(struct wormfs *fs, struct inode *ino)
{
	struct stat st;
	int fd, r;

	if (ino->wrote_through) {
		r = probe_writers(fs, ino, &st);
		if (r < 0)
			return -EBUSY;
	} else {
		int64_t btime_ns;

		fd = descriptor_get(fs, ino);
		if (fd < 0)
			return -EBUSY;
		r = inode_stat(fd, "", &st, &btime_ns);
		descriptor_put(fs, ino, fd);
		if (r < 0)
			return -EBUSY;
	}
	if (ino->rec->size_bytes != (uint64_t)st.st_size || ino->rec->mtime_ns != to_ns(st.st_mtim)) {
		struct lock_record rec = *ino->rec;

		rec.size_bytes = st.st_size;	/* a duplicate of the descriptor wrote on after the first close */
		rec.mtime_ns = to_ns(st.st_mtim);
		if (fs->lower.xattr) {
			fd = descriptor_get(fs, ino);
			r = fd < 0 ? fd : write_record(fs, fd, &rec);
			descriptor_put(fs, ino, fd);
			if (r < 0) {
				log_failure(fs, ino, "write the final size to the lock record (it is locked), retrying", r);
				return -EBUSY;
			}
		}
		*ino->rec = rec;
	}
	ino->phase = LOCK_COMMITTED;
	ino->wrote_through = false;
	atomic_fetch_sub(&fs->n_closing, 1);
	atomic_fetch_add(&fs->n_locked, 1);
	publish_locked(fs, ino, &st);
	return 0;
}

/* The last writer left a changed file that is not locked: remember it for the sweep. */
static void put_pending_locked(struct wormfs *fs, struct inode *ino)
{
	int64_t now_s = clock_source_now_s(fs->clock);
	struct ledger_pending pending = { .since_s = now_s };
	char *path = NULL;
	int r;

	if (fs->opt.commit == COMMIT_IDLE && !ino->seal_failed && !is_staging(fs, ino)) {
		pending.reason = PENDING_IDLE;
		pending.due_s = now_s + fs->opt.idle_s;
	} else {
		pending.reason = ino->seal_failed ? PENDING_INTERRUPTED : PENDING_STAGING;
		pending.due_s = now_s + fs->opt.staging_idle_s;
	}
	r = inode_key(fs, ino, &pending.key);
	if (r == 0)
		r = inode_path(fs, ino, &path);
	if (r == 0) {
		pending.path = path;
		r = committer_pending_put(fs->committer, &pending, ino->slot);
	}
	if (r < 0)
		journal_free(fs->journal, ino->slot);	/* unlinked meanwhile, most likely: nothing to sweep */
	ino->slot = JOURNAL_NO_SLOT;
	free(path);
}

static void release_locked(struct wormfs *fs, struct handle *h, const struct stat *st)
{
	struct inode *ino = h->ino;
	bool changed = changed_locked(h, st);
	int r;

	if (ino->phase == LOCK_NONE && changed && !h->seal_failed && locks_at_close(fs, ino, st)) {
		/* No FLUSH came (a descriptor in flight over a socket was dropped): nobody to tell. */
		r = seal_locked(fs, ino, h->fd, st);
		if (r == 0) {
			ino->phase = LOCK_CLOSING;
			atomic_fetch_add(&fs->n_closing, 1);
		} else {
			h->seal_failed = true;
			log_failure(fs, ino, "lock at its last close (it is not locked)", r);
		}
	}
	if (ino->phase == LOCK_NONE && changed && st->st_nlink > 0 && st->st_size > 0) {
		ino->dirty = true;
		ino->seal_failed |= h->seal_failed;
	}
}

static void release_last_locked(struct wormfs *fs, struct inode *ino)
{
	if (ino->phase == LOCK_CLOSING) {
		if (lock_settle_locked(fs, ino) < 0 && !ino->lingering) {
			ino->lingering = true;
			linger_add_locked(fs, ino);
		}
	} else if (ino->dirty && (fs->opt.commit == COMMIT_CLOSE || fs->opt.commit == COMMIT_IDLE)) {
		put_pending_locked(fs, ino);
	} else {
		journal_free(fs->journal, ino->slot);
		ino->slot = JOURNAL_NO_SLOT;
	}
	ino->dirty = ino->seal_failed = ino->lock_at_close = false;
}

void lock_writer_release(struct wormfs *fs, struct handle *h)
{
	struct inode *ino = h->ino;
	struct handle **p;
	struct stat st;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&ino->lock);
	if (fstat(h->fd, &st) == 0)
		release_locked(fs, h, &st);
	else
		log_failure(fs, ino, "look at the file at its last close", -errno);
	for (p = &ino->handles; *p != h; p = &(*p)->next)
		;
	*p = h->next;
	close(h->fd);
	h->fd = -1;
	ino->nwriters--;
	atomic_fetch_sub(&fs->n_writers, 1);
	if (ino->nwriters == 0)
		release_last_locked(fs, ino);
	pthread_mutex_unlock(&ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
}

void lock_metadata_before_locked(struct wormfs *fs, struct inode *ino, struct data_stamp *ret_before)
{
	struct handle *h;
	struct stat st;

	if (ino->nwriters == 0)
		return;
	for (h = ino->handles; h && !h->writer; h = h->next)
		;
	if (!h || fstat(h->fd, &st) < 0)
		return;
	*ret_before = stamp_of(&st);
	for (h = ino->handles; h; h = h->next)
		if (h->writer)
			changed_locked(h, &st);
}

void lock_metadata_after_locked(struct wormfs *fs, struct inode *ino, const struct data_stamp *before, bool times)
{
	struct data_stamp after;
	struct handle *h;
	struct stat st;
	bool written;

	if (ino->nwriters == 0)
		return;
	for (h = ino->handles; h && !h->writer; h = h->next)
		;
	if (!h || fstat(h->fd, &st) < 0)
		return;
	after = stamp_of(&st);
	/* A write between the two stamps shows by size or mtime. One that raced utimensat(2) and kept the
	 * size cannot be told; it is then seen at the next change, or at the next close after one. */
	written = before->size_bytes != after.size_bytes || (!times && to_ns(before->mtime) != to_ns(after.mtime));
	for (h = ino->handles; h; h = h->next) {
		if (!h->writer)
			continue;
		h->changed |= written;
		h->stamp = after;
	}
}

/* ---- explicit requests ---- */

int lock_seal_locked(struct wormfs *fs, struct inode *ino, bool *ret_sealed)
{
	struct stat st;
	int fd, r;

	*ret_sealed = false;
	if (!S_ISREG(ino->type))
		return -EINVAL;
	r = lock_check_locked(fs, ino, GUARD_COMMIT);
	if (r < 0 || ino->phase != LOCK_NONE)
		return r;
	if (fs->opt.commit == COMMIT_NEVER)
		return -EOPNOTSUPP;
	if (ino->nwriters > 0)
		return -EBUSY;
	r = probe_writers(fs, ino, &st);
	if (r < 0)
		return r;
	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = seal_locked(fs, ino, fd, &st);
	descriptor_put(fs, ino, fd);
	if (r < 0)
		return r;
	ino->phase = LOCK_COMMITTED;
	*ret_sealed = true;
	return 0;
}

void lock_publish_locked(struct wormfs *fs, struct inode *ino)
{
	struct stat st = { 0 };
	int64_t btime_ns;
	int fd = descriptor_get(fs, ino);

	if (fd >= 0)
		(void)inode_stat(fd, "", &st, &btime_ns);	/* only the owner is taken from it */
	descriptor_put(fs, ino, fd);
	atomic_fetch_add(&fs->n_locked, 1);
	publish_locked(fs, ino, &st);
}

void lock_unseal_locked(struct wormfs *fs, struct inode *ino)
{
	struct file_key key;
	int fd, r;

	if (fs->lower.xattr) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : lower_removexattr(fd, lower_xattr_record(fs->ns));
		descriptor_put(fs, ino, fd);
	} else {
		r = inode_key(fs, ino, &key);
		if (r == 0)
			r = ledger_remove(fs->ledger, &key);
	}
	if (r < 0) {
		/* Locked under its old name: the safe side. */
		log_failure(fs, ino, "take back the lock of the failed rename of", r);
		lock_publish_locked(fs, ino);
		return;
	}
	journal_free(fs->journal, ino->slot);
	ino->slot = JOURNAL_NO_SLOT;
	free(ino->rec);
	ino->rec = NULL;
	ino->phase = LOCK_NONE;
}

int lock_commit(struct wormfs *fs, struct inode *ino)
{
	bool sealed;
	int r;

	pthread_rwlock_rdlock(&fs->rename_lock);
	pthread_mutex_lock(&ino->lock);
	r = lock_seal_locked(fs, ino, &sealed);
	if (sealed)
		lock_publish_locked(fs, ino);
	pthread_mutex_unlock(&ino->lock);
	pthread_rwlock_unlock(&fs->rename_lock);
	return r;
}

/* Writes a changed record of a locked file, then tells the ledger. */
static int rewrite_record_locked(struct wormfs *fs, struct inode *ino, const struct lock_record *rec)
{
	struct ledger_row row;
	int64_t btime_ns;
	struct stat st;
	char *path = NULL;
	int fd, r;

	fd = descriptor_get(fs, ino);
	if (fd < 0)
		return fd;
	r = inode_stat(fd, "", &st, &btime_ns);
	if (r == 0 && fs->lower.xattr)
		r = write_record(fs, fd, rec);
	descriptor_put(fs, ino, fd);
	if (r < 0)
		return r;
	*ino->rec = *rec;
	r = fill_row(fs, ino, &st, &row, &path);
	if (r == 0) {
		row.hold = NULL;
		r = fs->lower.xattr ? committer_put(fs->committer, &row, JOURNAL_NO_SLOT) : ledger_put(fs->ledger, &row);
	}
	free(path);
	return r;
}

int lock_extend(struct wormfs *fs, struct inode *ino, int64_t until_s, int64_t *ret_until_s)
{
	int64_t now_s = clock_source_now_s(fs->clock);
	struct lock_record rec;
	int r;

	pthread_mutex_lock(&ino->lock);
	r = lock_check_locked(fs, ino, GUARD_EXTEND);
	if (r < 0)
		goto out;
	rec = *ino->rec;
	if (until_s == rec.until_s)
		goto done;
	if (!retention_is_later(rec.until_s, until_s)) {
		r = -EPERM;
		atomic_fetch_add(&fs->n_refused[GUARD_EXTEND], 1);
		goto out;
	}
	if (until_s == RETENTION_INFINITE ? fs->opt.has_max :
	    until_s < retention_until(&fs->opt.min, now_s) || until_s > retention_until(&fs->opt.max, now_s)) {
		r = -EINVAL;
		goto out;
	}
	rec.until_s = until_s;
	r = rewrite_record_locked(fs, ino, &rec);
	if (r < 0)
		goto out;
done:
	*ret_until_s = rec.until_s;
out:
	pthread_mutex_unlock(&ino->lock);
	return r;
}

/* A row for the holds to hang on: the committer may still have it in its queue. */
static int ensure_row_locked(struct wormfs *fs, struct inode *ino, struct file_key *ret_key, uint32_t *ret_holds)
{
	struct found_row found;
	struct ledger_row row;
	int64_t btime_ns;
	struct stat st;
	char *path = NULL;
	int fd, r;

	r = inode_key(fs, ino, ret_key);
	if (r < 0)
		return r;
	r = ledger_find(fs->ledger, ret_key, take_row, &found);
	if (r == -ENOENT) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
		descriptor_put(fs, ino, fd);
		if (r == 0)
			r = fill_row(fs, ino, &st, &row, &path);
		if (r == 0)
			r = ledger_put(fs->ledger, &row);
		free(path);
		if (r == 0)
			r = ledger_find(fs->ledger, ret_key, take_row, &found);
	}
	if (r == 0)
		*ret_holds = found.holds;
	return r;
}

int lock_hold(struct wormfs *fs, struct inode *ino, const char *case_name, uid_t by)
{
	struct lock_record rec;
	struct file_key key;
	uint32_t holds;
	int r;

	pthread_mutex_lock(&ino->lock);
	r = lock_check_locked(fs, ino, GUARD_HOLD);
	if (r == 0)
		r = ensure_row_locked(fs, ino, &key, &holds);
	if (r < 0)
		goto out;
	if (holds >= UINT16_MAX) {
		r = -EOVERFLOW;
		goto out;
	}
	/* The name first, durably; then the count. A crash between the two leaves the file held. */
	r = ledger_hold_add(fs->ledger, &key, case_name, by, clock_source_now_s(fs->clock));
	if (r < 0)
		goto out;
	rec = *ino->rec;
	rec.holds = holds + 1;
	r = rewrite_record_locked(fs, ino, &rec);
	if (r < 0 && ledger_hold_release(fs->ledger, &key, case_name) < 0)
		log_failure(fs, ino, "take back the hold that its record could not take", r);
out:
	pthread_mutex_unlock(&ino->lock);
	return r;
}

static int match_hold(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	return strcmp(arg, case_name) == 0;
}

int lock_release(struct wormfs *fs, struct inode *ino, const char *case_name)
{
	struct lock_record rec;
	struct file_key key;
	uint32_t holds;
	int r;

	pthread_mutex_lock(&ino->lock);
	r = lock_check_locked(fs, ino, GUARD_RELEASE);
	if (r == 0)
		r = ensure_row_locked(fs, ino, &key, &holds);
	if (r < 0)
		goto out;
	r = ledger_holds(fs->ledger, &key, match_hold, (void *)case_name);
	if (r <= 0) {
		r = r < 0 ? r : -ENOENT;
		goto out;
	}
	/* The count first, then the name: while a crash leaves the name, the file is held by it. */
	rec = *ino->rec;
	rec.holds = holds - 1;
	r = rewrite_record_locked(fs, ino, &rec);
	if (r == 0)
		r = ledger_hold_release(fs->ledger, &key, case_name);
out:
	pthread_mutex_unlock(&ino->lock);
	return r;
}

void lock_removed_locked(struct wormfs *fs, struct inode *ino)
{
	struct file_key key;

	if (!ino->rec || inode_key(fs, ino, &key) < 0)
		return;
	if (committer_remove(fs->committer, &key) < 0)
		log_failure(fs, ino, "take out of the ledger", -ENOMEM);
}

/* ---- after a crash ---- */

struct recovery {
	struct wormfs *fs;
	unsigned locked, interrupted;
};

static int recover_one(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
		       const char *path, const struct lock_record *rec)
{
	struct recovery *recovery = arg;
	struct wormfs *fs = recovery->fs;
	struct inode *ino = NULL;
	struct file_key found;
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	r = *path ? inode_walk(fs, path, &ino) : -ENOENT;
	if (r == 0 && (inode_key(fs, ino, &found) < 0 || !file_key_equal(&found, key))) {
		inode_put(fs, ino);
		ino = NULL;
		r = -ENOENT;
	}
	if (r < 0) {	/* unlinked or renamed since: a rename would have been noted, had it locked the file */
		if (state == JOURNAL_LOCKED)
			log_warning("'%s' was being locked when the daemon ended, and is not there under this name; "
				    "if it was renamed below the mount run wormctl reindex", path);
		journal_free(fs->journal, slot);
		return 0;
	}
	pthread_mutex_lock(&ino->lock);
	lock_load_locked(fs, ino);
	fd = descriptor_get(fs, ino);
	r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
	descriptor_put(fs, ino, fd);
	ino->slot = slot;
	if (r < 0 || (ino->phase != LOCK_COMMITTED && ino->phase != LOCK_NONE)) {
		ino->slot = JOURNAL_NO_SLOT;	/* unreadable: said already; the slot is asked again next time */
	} else if (ino->phase == LOCK_COMMITTED) {
		/* Programs may still hold what the dead mount gave them, and passthrough still works. */
		recovery->locked++;
		ino->phase = LOCK_CLOSING;
		ino->wrote_through = true;
		ino->suspect = false;
		atomic_fetch_add(&fs->n_closing, 1);
		if (lock_settle_locked(fs, ino) < 0 && !ino->lingering) {
			ino->lingering = true;
			linger_add_locked(fs, ino);
		}
	} else if (st.st_size > 0) {
		recovery->interrupted++;
		ino->seal_failed = true;
		put_pending_locked(fs, ino);
		ino->seal_failed = false;
	} else {
		journal_free(fs->journal, slot);
		ino->slot = JOURNAL_NO_SLOT;
	}
	pthread_mutex_unlock(&ino->lock);
	inode_put(fs, ino);
	return 0;
}

int lock_recover(struct wormfs *fs)
{
	struct recovery recovery = { .fs = fs };
	int r;

	r = journal_each(fs->journal, recover_one, &recovery);
	if (recovery.locked || recovery.interrupted)
		log_info("the last daemon did not end cleanly: %u locks carried into the ledger, %u interrupted writers "
			 "left files that are not locked (wormctl status lists them)",
			 recovery.locked, recovery.interrupted);
	return r;
}
