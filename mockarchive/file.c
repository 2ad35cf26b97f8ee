/* The table of files and what is kept of each over a restart: a record in an xattr of the lower file, '-' or '+' (its data is not,
 * or is, on disk) and JSON. The first character alone tells wormctl verify that there is nothing to read.
 *
 * Written before blocks are taken away and after they are back: a record that says '+' never lies about data. A writer that
 * was there when the archive died is found by size and time that are not the record's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/state.h"
#include "lockstore/lower.h"
#include "mockarchive/archive_private.h"

#define RECORD_MAX_BYTES 2048
#define SCAN_DEPTH_MAX 256
#define SETTLE_NS (ARCHIVE_NS / 4)	/* from close(2) to the kernel's RELEASE */

static const char *const state_names[ARCHIVE_STATES] = {
	"writing", "resident", "archiving", "dual", "released", "partial", "recalling", "lost", "damaged", "unavailable",
	"failed-archive", "failed-recall",
};

const char *archive_state_name(enum archive_state state)
{
	return state_names[state];
}

int archive_state_parse(const char *name, enum archive_state *ret_state)
{
	for (int i = 0; i < ARCHIVE_STATES; i++)
		if (strcmp(state_names[i], name) == 0) {
			*ret_state = i;
			return 0;
		}
	return -EINVAL;
}

bool archive_state_is_online(enum archive_state state)
{
	return state == ARCHIVE_WRITING || state == ARCHIVE_RESIDENT || state == ARCHIVE_ARCHIVING || state == ARCHIVE_DUAL ||
	       state == ARCHIVE_FAILED_ARCHIVE;
}

static const char *const copy_names[] = { "none", "good", "stale", "lost", "damaged" };

const char *archive_copy_state_name(enum archive_copy_state state)
{
	return copy_names[state];
}

/* ---- the table ---- */

static struct file **place_locked(struct archive *a, uint64_t id)
{
	struct file **p = &a->hash[id % ARCHIVE_HASH];

	while (*p && (*p)->id != id)
		p = &(*p)->hash_next;
	return p;
}

struct file *file_find_locked(struct archive *a, uint64_t id)
{
	return *place_locked(a, id);
}

struct file *file_make_locked(struct archive *a, uint64_t id, const char *path)
{
	struct file *f = calloc(1, sizeof(*f)), **p;

	if (!f)
		return NULL;
	f->path = strdup(path);
	if (!f->path) {
		free(f);
		return NULL;
	}
	f->id = id;
	f->refs = 1;
	f->base = ARCHIVE_RESIDENT;
	f->since_ns = clock_now_locked(a);
	p = place_locked(a, id);
	f->hash_next = *p;
	*p = f;
	a->nfiles++;
	return f;
}

void file_ref_locked(struct file *f)
{
	f->refs++;
}

void file_unref_locked(struct archive *a, struct file *f)
{
	if (--f->refs > 0)
		return;
	free(f->path);
	free(f);
}

void file_drop_locked(struct archive *a, struct file *f)
{
	struct file **p = place_locked(a, f->id);

	if (*p != f)
		return;
	*p = f->hash_next;
	a->nfiles--;
	file_unref_locked(a, f);
}

void file_free_all(struct archive *a)
{
	for (size_t i = 0; i < ARCHIVE_HASH; i++)
		while (a->hash[i]) {
			struct file *f = a->hash[i];

			a->hash[i] = f->hash_next;
			free(f->job);
			free(f->path);
			free(f);
		}
}

int file_compare_path(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	if (len == 0)
		return 0;
	if (strncmp(path, prefix, len) != 0 || (path[len] && path[len] != '/'))
		return 1;
	return 0;
}

void file_settle_locked(struct archive *a, struct file *f)
{
	file_ref_locked(f);
	while (f->closing > 0 && !a->stopping && real_now_ns() - f->closing_real_ns < SETTLE_NS) {
		int64_t until_ns = f->closing_real_ns + SETTLE_NS;
		struct timespec until = { until_ns / ARCHIVE_NS, until_ns % ARCHIVE_NS };

		pthread_cond_timedwait(&a->changed, &a->lock, &until);
	}
	file_unref_locked(a, f);
}

/* ---- the lower file ---- */

int file_open_locked(struct archive *a, const struct file *f, int flags)
{
	struct stat st;
	int fd;

	fd = tape_open(a, f->path, flags);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_ino != f->id || !S_ISREG(st.st_mode)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

bool file_is_worm(struct archive *a, int fd)
{
	return a->fs->opt.commit != COMMIT_NEVER && lower_getxattr(fd, lower_xattr_record(a->fs->ns), NULL, 0) >= 0;
}

static void hex(const unsigned char *bytes, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
}

static json_t *record_json(const struct file *f)
{
	char sha[65] = "";

	if (f->has_checksum)
		hex(f->sha256, 32, sha);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:i, s:b, s:b, s:b, s:I, s:i, s:i, s:s, s:s, s:I, s:I, s:I, s:i, s:I, s:s}",
			 "state", state_names[f->base], "size", (json_int_t)f->size_bytes, "mtime", (json_int_t)f->mtime_ns,
			 "ctime", (json_int_t)f->ctime_ns, "stub", (json_int_t)f->stub_bytes, "since", (json_int_t)f->since_ns, "tape", copy_names[f->copy[COPY_TAPE]],
			 "replica", copy_names[f->copy[COPY_REPLICA]], "file", f->tape_name, "volume", (int)f->volume,
			 "flag", f->flag_final, "flag2", f->flag_replica, "away", f->unavailable, "pin", (json_int_t)f->pin_until_ns,
			 "pins", (int)f->evict_counter, "error", f->error, "why", f->error_text, "request", f->request_id,
			 "requested", (json_int_t)f->request_ns, "archived", (json_int_t)f->archived_ns, "recalled", (json_int_t)f->recalled_ns,
			 "recalls", (int)f->recalls, "adler32", (json_int_t)f->adler32, "sha256", sha);
}

void file_save_locked(struct archive *a, struct file *f)
{
	char text[RECORD_MAX_BYTES];
	json_t *json;
	size_t n;
	int fd, r;

	if (f->nwriters > 0 || f->gone)
		return;
	json = record_json(f);
	n = json ? json_dumpb(json, text + 1, sizeof(text) - 1, JSON_COMPACT) : 0;
	json_decref(json);
	text[0] = f->offline ? '-' : '+';
	if (n == 0 || n > sizeof(text) - 1) {
		log_error("cannot keep the state of '%s': its record does not fit", f->path);
		return;
	}
	fd = file_open_locked(a, f, O_PATH);
	r = fd < 0 ? fd : lower_setxattr(fd, a->xattr, text, n + 1, 0);
	if (fd >= 0)
		close(fd);
	if (r < 0 && r != -ESTALE && r != -ENOENT)	/* those: it goes away now */
		log_error("cannot keep the state of '%s': %s", f->path, strerror(-r));
}

void file_touched_locked(struct archive *a, struct file *f, const struct stat *st)
{
	f->ctime_ns = st->st_ctim.tv_sec * ARCHIVE_NS + st->st_ctim.tv_nsec;
	if (f->nwriters > 0)
		return;
	f->mtime_ns = st->st_mtim.tv_sec * ARCHIVE_NS + st->st_mtim.tv_nsec;
	file_save_locked(a, f);
}

static int copy_state_parse(const char *name)
{
	for (size_t i = 0; i < sizeof(copy_names) / sizeof(copy_names[0]); i++)
		if (strcmp(copy_names[i], name) == 0)
			return i;
	return ARCHIVE_COPY_NONE;
}

static void unhex(const char *text, unsigned char *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned byte = 0;

		sscanf(text + 2 * i, "%2x", &byte);
		out[i] = byte;
	}
}

/* -EBADMSG: not one of ours. */
static int load_record(struct file *f, const char *text, size_t n)
{
	json_t *json = n > 1 && (*text == '-' || *text == '+') ? json_loadb(text + 1, n - 1, 0, NULL) : NULL;
	const char *state, *tape, *replica, *name, *why, *request, *sha;
	json_int_t size, mtime, changed, stub, since, pin, requested, archived, recalled, adler;
	int volume, flag, flag2, away, pins, error, recalls, r;

	r = json ? json_unpack(json, "{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:i, s:b, s:b, s:b, s:I, s:i, s:i, s:s, s:s, s:I, s:I, s:I, s:i, s:I, s:s}",
			       "state", &state, "size", &size, "mtime", &mtime, "ctime", &changed, "stub", &stub, "since", &since, "tape", &tape, "replica",
			       &replica, "file", &name, "volume", &volume, "flag", &flag, "flag2", &flag2, "away", &away, "pin", &pin,
			       "pins", &pins, "error", &error, "why", &why, "request", &request, "requested", &requested, "archived",
			       &archived, "recalled", &recalled, "recalls", &recalls, "adler32", &adler, "sha256", &sha) : -1;
	if (r == 0)
		r = archive_state_parse(state, &f->base);
	if (r < 0 || strchr(name, '/')) {
		json_decref(json);
		return -EBADMSG;
	}
	f->offline = *text == '-';
	f->size_bytes = size;
	f->mtime_ns = mtime;
	f->ctime_ns = changed;
	f->stub_bytes = stub;
	f->since_ns = since;
	f->copy[COPY_TAPE] = copy_state_parse(tape);
	f->copy[COPY_REPLICA] = copy_state_parse(replica);
	snprintf(f->tape_name, sizeof(f->tape_name), "%s", name);
	f->volume = volume;
	f->flag_final = flag;
	f->flag_replica = flag2;
	f->unavailable = away;
	f->pin_until_ns = pin;
	f->evict_counter = pins;
	f->error = error;
	snprintf(f->error_text, sizeof(f->error_text), "%s", why);
	snprintf(f->request_id, sizeof(f->request_id), "%s", request);
	f->request_ns = requested;
	f->archived_ns = archived;
	f->recalled_ns = recalled;
	f->recalls = recalls;
	f->adler32 = adler;
	f->has_checksum = strlen(sha) == 64;
	if (f->has_checksum)
		unhex(sha, f->sha256, 32);
	json_decref(json);
	return 0;
}

/* ---- states ---- */

enum archive_state archive_shown_locked(const struct archive *a, const struct file *f)
{
	bool replica = a->set.recall_any && f->copy[COPY_REPLICA] == ARCHIVE_COPY_GOOD;

	if (!f->offline || f->base == ARCHIVE_RECALLING)
		return f->base;
	if (!replica && f->copy[COPY_TAPE] == ARCHIVE_COPY_DAMAGED)
		return ARCHIVE_DAMAGED;
	if (!replica && f->copy[COPY_TAPE] != ARCHIVE_COPY_GOOD)
		return ARCHIVE_LOST;
	return f->unavailable || !a->library_up ? ARCHIVE_UNAVAILABLE : f->base;
}

static void journal_state_locked(struct archive *a, struct file *f, enum archive_state from)
{
	history_add(a, &(struct archive_event){ .time_ns = clock_now_locked(a), .kind = ARCHIVE_EVENT_STATE, .file = f->id, .path = f->path,
						.from = from, .to = archive_shown_locked(a, f), .error = f->error,
						.detail = f->error ? f->error_text : "" });
	a->count.transitions++;
}

void file_charge_locked(struct archive *a, struct file *f, uint64_t disk_bytes)
{
	bool less = disk_bytes < f->disk_bytes;

	a->online_bytes += disk_bytes - f->disk_bytes;
	f->disk_bytes = disk_bytes;
	if (less)
		call_wake_room_locked(a);
}

void file_resize_locked(struct archive *a, struct file *f, uint64_t size_bytes)
{
	f->size_bytes = size_bytes;
	if (!f->offline)
		file_charge_locked(a, f, size_bytes);
}

void file_set_state_locked(struct archive *a, struct file *f, enum archive_state base)
{
	enum archive_state from = archive_shown_locked(a, f);

	f->base = base;
	f->offline = base == ARCHIVE_RELEASED || base == ARCHIVE_PARTIAL || base == ARCHIVE_RECALLING || base == ARCHIVE_FAILED_RECALL;
	if (f->offline || f->nwriters == 0)	/* with a writer it takes what he has written */
		file_charge_locked(a, f, f->offline ? 0 : f->size_bytes);
	f->since_ns = clock_now_locked(a);
	if (base != ARCHIVE_FAILED_ARCHIVE && base != ARCHIVE_FAILED_RECALL) {
		f->error = 0;
		f->error_text[0] = '\0';
	}
	file_save_locked(a, f);
	journal_state_locked(a, f, from);
	pthread_cond_broadcast(&a->changed);
}

void file_fail_locked(struct archive *a, struct file *f, enum archive_state base, int error, const char *what)
{
	f->error = error;
	snprintf(f->error_text, sizeof(f->error_text), "%s", what);
	if (base == ARCHIVE_FAILED_ARCHIVE)
		a->count.failed_archive++;
	else
		a->count.failed_recall++;
	file_set_state_locked(a, f, base);
}

bool file_is_pinned_locked(struct archive *a, const struct file *f)
{
	return f->pin_until_ns > a->cursor_ns && f->pin_until_ns > clock_now_locked(a);
}

/* ---- the start ---- */

struct scan {
	struct archive *a;
	char path[8192];
	size_t len;
	uint64_t files, offline, waiting;
};

/* One regular file; fd is O_PATH. */
static void scan_file(struct scan *s, int fd, const struct stat *st)
{
	char text[RECORD_MAX_BYTES];
	struct archive *a = s->a;
	int64_t mtime_ns = st->st_mtim.tv_sec * ARCHIVE_NS + st->st_mtim.tv_nsec;
	ssize_t n = lower_getxattr(fd, a->xattr, text, sizeof(text));
	struct file *f = file_find_locked(a, st->st_ino);
	struct stat tape;

	if (f)
		return;		/* another of its names */
	f = file_make_locked(a, st->st_ino, s->path);
	if (!f)
		return;
	s->files++;
	if (n >= 0 && load_record(f, text, n) < 0) {
		log_warning("the record of '%s' cannot be read: it counts as a file that was never archived", s->path);
		n = -ENODATA;
	}
	if (f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD && fstatat(a->tape_fd, f->tape_name, &tape, AT_SYMLINK_NOFOLLOW) < 0)
		f->copy[COPY_TAPE] = ARCHIVE_COPY_LOST;
	if (f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD) {
		a->tape_bytes += f->size_bytes;
		a->written++;
	}
	if (f->offline) {
		s->offline++;
		/* Killed between the record and the blocks, or while they came back: it is offline all the same. */
		int data_fd = file_open_locked(a, f, O_RDWR);

		/* The size: an open that wanted to truncate it had not returned. */
		if (data_fd < 0 || ((uint64_t)st->st_size != f->size_bytes && ftruncate(data_fd, f->size_bytes) < 0) ||
		    tape_punch_fd(data_fd, f->stub_bytes, f->mtime_ns) < 0)
			log_warning("'%s' is on tape, and its blocks cannot be given back", s->path);
		if (data_fd >= 0)
			close(data_fd);
		if (f->base == ARCHIVE_RECALLING) {
			f->base = f->stub_bytes ? ARCHIVE_PARTIAL : ARCHIVE_RELEASED;
			s->waiting++;
			(void)robot_recall_locked(a, f, 0, f->request_id);	/* refused: it is asked for again */
		}
		return;
	}
	file_charge_locked(a, f, st->st_size);
	if (n < 0 || f->size_bytes != (uint64_t)st->st_size || f->mtime_ns != mtime_ns || f->copy[COPY_TAPE] != ARCHIVE_COPY_GOOD) {
		f->size_bytes = st->st_size;
		f->mtime_ns = mtime_ns;
		f->ctime_ns = st->st_ctim.tv_sec * ARCHIVE_NS + st->st_ctim.tv_nsec;
		for (int i = 0; i < ARCHIVE_COPIES; i++)
			if (f->copy[i] == ARCHIVE_COPY_GOOD)
				f->copy[i] = ARCHIVE_COPY_STALE;
		f->base = f->base == ARCHIVE_FAILED_ARCHIVE ? f->base : ARCHIVE_RESIDENT;
		if (f->base == ARCHIVE_RESIDENT) {
			s->waiting++;
			robot_closed_locked(a, f);
		}
		return;
	}
	f->base = ARCHIVE_DUAL;
	robot_plan_release_locked(a, f);
}

static int scan_directory(struct scan *s, int dirfd, unsigned depth)
{
	DIR *dir = fdopendir(dirfd);
	struct dirent *ent;
	size_t len = s->len;
	struct stat st;
	int fd, r = 0;

	if (!dir) {
		r = -errno;
		close(dirfd);
		return r;
	}
	while (r == 0 && (errno = 0, ent = readdir(dir))) {
		size_t n = strlen(ent->d_name);

		if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
			continue;
		if (len + n + 2 > sizeof(s->path) || depth > SCAN_DEPTH_MAX) {
			log_warning("'%s' lies too deep: what is below it is not archived", s->path);
			continue;
		}
		fd = openat(dirfd, ent->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != s->a->fs->root_dev) {
			if (fd >= 0)
				close(fd);
			continue;	/* gone meanwhile, or another filesystem: not ours */
		}
		s->len = len + sprintf(s->path + len, "%s%s", len ? "/" : "", ent->d_name);
		if (S_ISREG(st.st_mode)) {
			scan_file(s, fd, &st);
		} else if (S_ISDIR(st.st_mode)) {
			int sub = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			if (sub >= 0)
				r = scan_directory(s, sub, depth + 1);
		}
		close(fd);
		s->len = len;
		s->path[len] = '\0';
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

/* What no file knows: left by a kill between writing a tape file and saying so. */
static void sweep_tape(struct archive *a)
{
	DIR *dir = fdopendir(openat(a->tape_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *ent;

	if (!dir)
		return;
	while ((ent = readdir(dir))) {
		struct file *f = file_find_locked(a, strtoull(ent->d_name, NULL, 16));

		if (*ent->d_name != '.' && (!f || strcmp(f->tape_name, ent->d_name) != 0))
			(void)unlinkat(a->tape_fd, ent->d_name, 0);	/* a file too many harms nobody */
	}
	closedir(dir);
}

int file_scan(struct archive *a)
{
	struct scan *s = calloc(1, sizeof(*s));
	int fd, r;

	if (!s)
		return -ENOMEM;
	s->a = a;
	fd = openat(a->fs->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pthread_mutex_lock(&a->lock);
	r = fd < 0 ? -errno : scan_directory(s, fd, 0);
	if (r == 0)
		sweep_tape(a);
	pthread_mutex_unlock(&a->lock);
	if (r < 0)
		complain("cannot read the store '%s': %s", a->store, strerror(-r));
	else if (s->files)
		log_info("%llu files: %llu on tape only, %llu with something to do", (unsigned long long)s->files,
			 (unsigned long long)s->offline, (unsigned long long)s->waiting);
	free(s);
	return r;
}
