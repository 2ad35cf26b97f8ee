/* An archive without a mount, for what is in front of it: a few files in memory that do at once what they are told, except recalls,
 * which the next advance of the clock ends. */
#include "tests/fuzz/fake_archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILES 6

struct archive {
	struct faults *faults;
	struct archive_file file[FILES];
	int64_t now_ns;
	bool library_up, drive_up[2];
	uint64_t seq;
};

static const char *const state_names[ARCHIVE_STATES] = {
	"writing", "resident", "archiving", "dual", "released", "partial", "recalling", "lost", "damaged", "unavailable", "failed-archive",
	"failed-recall",
};

struct archive *fake_archive_open(void)
{
	static const char *const paths[FILES] = { "a", "dir/b", "dir/c d", "dir/deep/e", "\xff\xfe", "empty" };
	struct archive *a = calloc(1, sizeof(*a));

	if (!a || faults_open(NULL, NULL, NULL, &a->faults) < 0)
		abort();
	a->now_ns = 1764000000 * ARCHIVE_NS;
	a->library_up = a->drive_up[0] = a->drive_up[1] = true;
	a->seq = 3;
	for (int i = 0; i < FILES; i++)
		a->file[i] = (struct archive_file){ .id = (uint64_t)i + 2, .path = paths[i], .state = i % 2 ? ARCHIVE_RELEASED : ARCHIVE_DUAL,
						    .size_bytes = i == 5 ? 0 : 1000, .due_ns = ARCHIVE_NEVER, .drive = -1,
						    .copy = { ARCHIVE_COPY_GOOD, ARCHIVE_COPY_GOOD }, .has_checksum = i == 1, .tape = "VOL001" };
	return a;
}

void fake_archive_close(struct archive *a)
{
	faults_close(a->faults);
	free(a);
}

static struct archive_file *get(struct archive *a, const char *path)
{
	for (int i = 0; i < FILES; i++)
		if (a->file[i].path && strcmp(a->file[i].path, path) == 0)
			return &a->file[i];
	return NULL;
}

static int set(struct archive *a, const char *path, enum archive_state state)
{
	struct archive_file *f = get(a, path);

	if (!f)
		return -ENOENT;
	f->state = state;
	a->seq++;
	return 0;
}

const char *archive_state_name(enum archive_state state) { return state_names[state]; }

int archive_state_parse(const char *name, enum archive_state *ret_state)
{
	for (int i = 0; i < ARCHIVE_STATES; i++) {
		if (strcmp(name, state_names[i]) == 0) {
			*ret_state = i;
			return 0;
		}
	}
	return -EINVAL;
}

bool archive_state_is_online(enum archive_state state) { return state <= ARCHIVE_DUAL; }

const char *archive_copy_state_name(enum archive_copy_state state)
{
	static const char *const names[] = { "none", "good", "stale", "lost", "damaged" };

	return names[state];
}

int archive_list(struct archive *a, unsigned states, const char *prefix, uint64_t after, unsigned limit, archive_file_fn fn, void *arg,
		 uint64_t *ret_next)
{
	*ret_next = 0;
	for (int i = 0; i < FILES; i++) {
		int r;

		if (!a->file[i].path || a->file[i].id <= after || (states && !(states & archive_state_bit(a->file[i].state))) ||
		    (prefix && strncmp(a->file[i].path, prefix, strlen(prefix)) != 0))
			continue;
		if (!limit--) {
			*ret_next = a->file[i].id - 1;
			return 0;
		}
		r = fn(arg, &a->file[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int archive_find(struct archive *a, const char *path, archive_file_fn fn, void *arg)
{
	struct archive_file *f = get(a, path);

	return f ? fn(arg, f) : strcmp(path, "dir") == 0 || !*path ? -EISDIR : -ENOENT;
}

int archive_stat(struct archive *a, const char *path, struct stat *ret_st)
{
	struct archive_file *f = get(a, path);

	*ret_st = (struct stat){ .st_mode = f ? S_IFREG | 0644 : S_IFDIR | 0755, .st_ino = f ? f->id : 1, .st_size = f ? (off_t)f->size_bytes : 0 };
	return f || strcmp(path, "dir") == 0 || !*path ? 0 : -ENOENT;
}

int archive_readdir(struct archive *a, const char *path, int (*fn)(void *arg, const char *name, const struct stat *st), void *arg)
{
	struct stat st;

	(void)archive_stat(a, "a", &st);
	return fn(arg, *path ? "b & <c>" : "a", &st);
}

ssize_t archive_pread(struct archive *a, const char *path, void *buf, size_t len, off_t offset)
{
	struct archive_file *f = get(a, path);

	if (!f)
		return -ENOENT;
	if (!archive_state_is_online(f->state))
		return -EAGAIN;
	if (offset >= (off_t)f->size_bytes)
		return 0;
	if (len > f->size_bytes - (size_t)offset)
		len = f->size_bytes - (size_t)offset;
	memset(buf, 'x', len);
	return (ssize_t)len;
}

int archive_wait(struct archive *a, const char *path, unsigned states, int timeout_ms, enum archive_state *ret_state)
{
	struct archive_file *f = get(a, path);

	if (!f)
		return -ENOENT;
	*ret_state = f->state;
	return states & archive_state_bit(f->state) ? 0 : -ETIMEDOUT;
}

int archive_archive(struct archive *a, const char *path) { return set(a, path, ARCHIVE_DUAL); }
int archive_recall(struct archive *a, const char *path, int64_t pin_ns, const char *request_id) { return set(a, path, ARCHIVE_RECALLING); }
int archive_cancel(struct archive *a, const char *path) { return set(a, path, ARCHIVE_RELEASED); }
int archive_release(struct archive *a, const char *path, bool force) { return set(a, path, ARCHIVE_RELEASED); }
int archive_evict(struct archive *a, const char *path) { return set(a, path, ARCHIVE_RELEASED); }
int archive_pin(struct archive *a, const char *path, int64_t pin_ns, int64_t *ret_until_ns) { return get(a, path) ? 0 : -ENOENT; }
int archive_lose(struct archive *a, const char *path, int copy) { return set(a, path, ARCHIVE_LOST); }
int archive_damage(struct archive *a, const char *path, int copy) { return set(a, path, ARCHIVE_DAMAGED); }
int archive_corrupt(struct archive *a, const char *path, int copy, const struct fault_corrupt *corrupt) { return get(a, path) ? 0 : -ENODATA; }
int archive_unavailable(struct archive *a, const char *path, bool unavailable) { return set(a, path, ARCHIVE_UNAVAILABLE); }
int archive_mend(struct archive *a, const char *path) { return set(a, path, ARCHIVE_RELEASED); }

int archive_delete(struct archive *a, const char *path)
{
	struct archive_file *f = get(a, path);

	if (!f)
		return -ENOENT;
	f->path = NULL;
	return 0;
}

const char *archive_clock_mode_name(enum archive_clock_mode mode)
{
	static const char *const names[] = { "real", "scaled", "manual" };

	return names[mode];
}

void archive_clock_get(struct archive *a, struct archive_clock *ret)
{
	*ret = (struct archive_clock){ .mode = ARCHIVE_CLOCK_MANUAL, .now_ns = a->now_ns, .next_due_ns = ARCHIVE_NEVER };
}

int archive_clock_set(struct archive *a, const char *mode) { return strcmp(mode, "manual") == 0 ? 0 : -EINVAL; }

int archive_clock_advance(struct archive *a, int64_t ns, unsigned *ret_done)
{
	a->now_ns += ns;
	*ret_done = 0;
	for (int i = 0; i < FILES; i++) {
		if (a->file[i].state != ARCHIVE_RECALLING)
			continue;
		a->file[i].state = ARCHIVE_DUAL;
		a->file[i].recalled_ns = a->now_ns;
		++*ret_done;
	}
	return 0;
}

int archive_clock_settle(struct archive *a, int64_t max_ns, unsigned *ret_done) { return archive_clock_advance(a, 0, ret_done); }

int archive_drives(struct archive *a, int (*fn)(void *arg, const struct archive_drive *drive), void *arg)
{
	for (int i = 0; i < 2; i++) {
		struct archive_drive drive = { .number = i, .up = a->drive_up[i], .tape = "VOL001", .path = "dir/b", .due_ns = ARCHIVE_NEVER };
		int r = fn(arg, &drive);

		if (r < 0)
			return r;
	}
	return 0;
}

int archive_drive_set(struct archive *a, int number, bool up)
{
	if (number > 1)
		return -ENOENT;
	a->drive_up[number] = up;
	return 0;
}

int archive_library_set(struct archive *a, bool up) { a->library_up = up; return 0; }
bool archive_library_up(struct archive *a) { return a->library_up; }
int archive_set(struct archive *a, const char *key, const char *value, char error[ARCHIVE_ERROR_BYTES]) { return strcmp(value, "2") ? -EINVAL : 0; }

int archive_get(struct archive *a, const char *key, char *ret_value, size_t len_bytes)
{
	snprintf(ret_value, len_bytes, "2");
	return strcmp(key, "drives") == 0 ? 0 : -ENOENT;
}

int archive_each_setting(struct archive *a, int (*fn)(void *arg, const char *key, const char *value, const char *takes, const char *help), void *arg)
{
	return fn(arg, "drives", "2", "0-64", "tape drives");
}

int archive_profile(struct archive *a, const char *name) { return strcmp(name, "eth-lts") == 0 ? 0 : -ENOENT; }
const char *archive_profile_name(struct archive *a) { return "eth-lts"; }
int archive_each_profile(int (*fn)(void *arg, const char *name, const char *help), void *arg) { return fn(arg, "eth-lts", "sticky bit"); }

const char *archive_event_kind_name(enum archive_event_kind kind)
{
	static const char *const names[] = { "state", "flag", "fault", "request", "copy", "pin", "drive", "clock", "setting", "name" };

	return names[kind];
}

int archive_journal_read(struct archive *a, uint64_t after, unsigned limit, archive_event_fn fn, void *arg, uint64_t *ret_last, uint64_t *ret_lost)
{
	int r = 0;

	for (uint64_t seq = after + 1; seq <= a->seq && limit && r == 0; seq++, limit--) {
		struct archive_event event = { .seq = seq, .time_ns = a->now_ns, .real_ns = a->now_ns, .kind = seq % ARCHIVE_EVENT_KINDS, .file = 2,
					       .path = "\xff/x", .fault = "", .error = seq % 2 ? -EIO : 0, .detail = "\x80 detail" };

		r = fn(arg, &event);
		after = seq;
	}
	if (ret_last)
		*ret_last = after;
	if (ret_lost)
		*ret_lost = 0;
	return r;
}

int archive_journal_wait(struct archive *a, uint64_t after, int timeout_ms)
{
	struct timespec pause = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };

	nanosleep(&pause, NULL);
	return -ETIMEDOUT;
}

uint64_t archive_journal_last(struct archive *a) { return a->seq; }

int archive_each_metric(struct archive *a, int (*fn)(void *arg, const char *name, const char *labels, enum archive_metric_type type, const char *help,
			double value), void *arg)
{
	return fn(arg, "mockarchive_files", "state=\"dual\"", ARCHIVE_GAUGE, "Files by state.", 3);
}

void archive_summary(struct archive *a, struct archive_summary *ret)
{
	*ret = (struct archive_summary){ .bytes_tape = 1000 };
	for (int i = 0; i < FILES; i++)
		ret->files[a->file[i].state] += a->file[i].path != NULL;
}

struct faults *archive_faults(struct archive *a) { return a->faults; }
int64_t archive_now_ns(struct archive *a) { return a->now_ns; }
const char *archive_mountpoint(struct archive *a) { return "/nonexistent/mount"; }
const char *archive_store(struct archive *a) { return "/nonexistent/store"; }
const char *archive_replica(struct archive *a) { return "/nonexistent/replica"; }
int archive_reset(struct archive *a, unsigned what) { return 0; }
void archive_exit(struct archive *a) { }
