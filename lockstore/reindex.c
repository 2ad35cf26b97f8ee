/* Walks a tree for lock records: to rebuild the ledger, or to learn whether there is any.
 *
 * The walk holds at most WALK_OPEN_MAX directories open, whatever the depth: when it goes deeper, the
 * shallowest open one is read to its end, its subdirectories noted by name, and closed. On the way
 * back up it is opened again as ".." of the child, and must still be the same inode. So memory is
 * bounded by the depth, except below that depth, where it grows with the names noted. No path is
 * ever handed to the kernel: every name is opened under the directory that it was read from. */
#include "lockstore/reindex.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WALK_OPEN_MAX 60	/* and PIN_PASS_MAX of lower.c come together: below 100 */
#define PROGRESS_ENTRIES 1024
#define BATCH_ROWS 1000
#define BATCH_TEXT_BYTES (1 << 20)

struct frame {
	DIR *dir;		/* NULL: closed for the time being, all entries read */
	dev_t dev;		/* to know it again */
	ino_t ino;
	size_t path_len;	/* of the directory, in walk.path */
	bool noted;		/* read to its end: what is left are the names in subdirs, each with its NUL */
	char *subdirs;
	size_t next_subdir, subdirs_len, subdirs_size;
	bool pins_checked;	/* this directory and all above it have their pins */
};

struct walk {
	struct frame *frames;	/* from the root to where we are */
	size_t nframes, max_frames;
	size_t nclosed;		/* the first so many frames are closed */
	char *path;		/* of the entry that is looked at, relative to the root; "" is the root */
	size_t path_len, path_size;
	uint64_t max_entries;	/* -E2BIG beyond */
	int root_fd;
	/* Called for every regular file in the directory of frame, with walk->path. Negative ends the walk. */
	int (*file)(void *arg, struct walk *walk, struct frame *frame, const char *name);
	/* `path` could not be read, because of the errno r. Negative ends the walk, 0 leaves it out. */
	int (*failed)(void *arg, const char *path, int r);
	void *arg;
};

static int path_set(struct walk *walk, size_t dir_len, const char *name)
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
static const char *frame_path(struct walk *walk, const struct frame *frame)
{
	walk->path[frame->path_len] = '\0';
	walk->path_len = frame->path_len;
	return walk->path;
}

/* On the same filesystem, not through a link. -EXDEV: something is mounted there. */
static int open_strictly(int dirfd, const char *path, uint64_t flags)
{
	return lower_open(dirfd, path, (int)flags, false);
}

/* Takes fd over. */
static int push_frame(struct walk *walk, int fd, size_t path_len)
{
	struct frame *frames;
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
	walk->frames[walk->nframes++] = (struct frame){ .dir = dir, .dev = st.st_dev, .ino = st.st_ino,
							.path_len = path_len };
	return 0;
out:
	close(fd);
	return r;
}

static void frame_fini(struct frame *frame)
{
	if (frame->dir)
		closedir(frame->dir);
	free(frame->subdirs);
}

static int note_subdir(struct frame *frame, const char *name)
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
static int read_until_subdir(struct walk *walk, struct frame *frame, const char **ret_name)
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
static int close_shallowest(struct walk *walk)
{
	struct frame *frame = &walk->frames[walk->nclosed];
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
static int reopen_frame(struct walk *walk, struct frame *frame, int child_fd)
{
	struct stat st;
	int fd;

	for (int by_path = child_fd < 0; by_path < 2; by_path++) {
		if (by_path)
			fd = open_strictly(walk->root_fd, frame_path(walk, frame), O_RDONLY | O_DIRECTORY);
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
static int pop_frame(struct walk *walk)
{
	struct frame left = walk->frames[--walk->nframes];
	int child_fd = dirfd(left.dir), r = 0;

	while (r == 0 && walk->nframes && walk->nclosed == walk->nframes) {
		struct frame *parent = &walk->frames[walk->nframes - 1];

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
static int next_subdir(struct walk *walk, struct frame *frame, const char **ret_name)
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

static int walk_step(struct walk *walk)
{
	struct frame *frame = &walk->frames[walk->nframes - 1];
	const char *name;
	int fd, r;

	r = next_subdir(walk, frame, &name);
	if (r <= 0)
		return r < 0 ? r : pop_frame(walk);
	fd = open_strictly(dirfd(frame->dir), name, O_RDONLY | O_DIRECTORY);
	if (fd == -EXDEV || fd == -ENOENT)	/* another filesystem; gone meanwhile */
		return 0;
	if (fd < 0)
		return walk->failed(walk->arg, walk->path, fd);
	r = push_frame(walk, fd, walk->path_len);
	if (r == 0 && walk->nframes - walk->nclosed > WALK_OPEN_MAX)
		r = close_shallowest(walk);
	return r;
}

static int walk_run(struct walk *walk, int root_fd)
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

struct rebuild {
	struct ledger *ledger;
	struct record_key *key;
	int root_fd;
	enum lower_namespace ns;
	reindex_problem_fn problem;
	reindex_progress_fn progress;
	void *arg;
	struct reindex_stats stats;
	unsigned until_progress;
	/* Rows for the next transaction: the ledger is not held while the tree is read. */
	struct ledger_row *rows;
	char *rule;			/* name of rule_number, or NULL */
	uint16_t rule_number;
	size_t *path_at;	/* in text */
	size_t nrows;
	char *text;
	size_t text_len, text_size;
};

static void say(struct rebuild *re, const char *path, const char *what)
{
	if (re->problem)
		re->problem(re->arg, path, what);
}

static int unreadable(void *arg, const char *path, int r)
{
	struct rebuild *re = arg;

	re->stats.errors++;
	say(re, path, strerror(-r));
	return 0;
}

static int tick(struct rebuild *re)
{
	if (--re->until_progress)
		return 0;
	re->until_progress = PROGRESS_ENTRIES;
	return re->progress && re->progress(re->arg, &re->stats) ? -ECANCELED : 0;
}

/* The name for a number, kept for the next row; "#NUMBER" of a rule that this ledger never knew. */
static int name_rule(struct rebuild *re, uint16_t number)
{
	int r;

	if (re->rule && re->rule_number == number)
		return 0;
	free(re->rule);
	re->rule = NULL;
	re->rule_number = number;
	r = ledger_rule_name(re->ledger, number, &re->rule);
	if (r == -ENOENT)
		r = asprintf(&re->rule, "#%u", number) < 0 ? -ENOMEM : 0;
	if (r < 0)
		re->rule = NULL;
	return r;
}

static int write_rows(struct rebuild *re)
{
	uint64_t added = 0;
	int r;

	if (!re->nrows)
		return 0;
	r = ledger_begin(re->ledger);
	if (r < 0)
		return r;
	for (size_t i = 0; i < re->nrows; i++) {
		re->rows[i].path = re->text + re->path_at[i];
		re->rows[i].rule = NULL;
		if (re->rows[i].rec.rule) {
			r = name_rule(re, re->rows[i].rec.rule);
			if (r < 0)
				goto rollback;
			re->rows[i].rule = re->rule;
		}
		r = ledger_find(re->ledger, &re->rows[i].key, NULL, NULL);
		if (r < 0 && r != -ENOENT)
			goto rollback;
		added += r == -ENOENT;
		r = ledger_put(re->ledger, &re->rows[i]);
		if (r < 0)
			goto rollback;
	}
	r = ledger_commit(re->ledger);
	if (r < 0)
		return r;
	re->stats.added += added;
	re->stats.locked += re->nrows;
	re->nrows = 0;
	re->text_len = 0;
	return 0;
rollback:
	ledger_rollback(re->ledger);
	return r;
}

static int add_row(struct rebuild *re, const struct file_key *key, const char *path, const struct lock_record *rec,
		   const struct stat *st)
{
	size_t size = strlen(path) + 1;
	int r = 0;

	if (re->nrows && (re->nrows == BATCH_ROWS || re->text_len + size > re->text_size))
		r = write_rows(re);
	if (r < 0)
		return r;
	if (size > re->text_size) {
		char *text = realloc(re->text, size);

		if (!text)
			return -ENOMEM;
		re->text = text;
		re->text_size = size;
	}
	memcpy(re->text + re->text_len, path, size);
	re->path_at[re->nrows] = re->text_len;
	re->text_len += size;
	re->rows[re->nrows++] = (struct ledger_row){ .key = *key, .rec = *rec, .uid = st->st_uid, .gid = st->st_gid,
						     .push = LEDGER_PUSH_ASK };
	return 0;
}

static bool is_changed(const struct lock_record *rec, const struct stat *st)
{
	int64_t mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

	if (rec->flags & RECORD_APPEND)		/* it may have grown */
		return (uint64_t)st->st_size < rec->size_bytes;
	return (uint64_t)st->st_size != rec->size_bytes || mtime_ns != rec->mtime_ns;
}

/* Pins before rows: who sees the row in the ledger finds the directories pinned. */
static int check_pins(struct rebuild *re, struct walk *walk, struct frame *frame)
{
	uint64_t pins;
	int r;

	if (frame->pins_checked)
		return 0;
	r = lower_pin_repair(re->root_fd, dirfd(frame->dir), re->ns, &pins);
	if (r < 0) {
		re->stats.errors++;
		say(re, walk->path, "the directories above it cannot be pinned");
		return 0;
	}
	re->stats.pins += pins;
	for (struct frame *f = walk->frames; f <= frame; f++)
		f->pins_checked = true;
	return 0;
}

static int rebuild_file(void *arg, struct walk *walk, struct frame *frame, const char *name)
{
	struct rebuild *re = arg;
	const char *xattr = lower_xattr_record(re->ns);
	uint8_t bytes[RECORD_BYTES + 1];
	struct lock_record rec;
	struct file_key key;
	struct stat st;
	ssize_t n;
	int fd = -1, r;

	re->stats.files++;
	r = tick(re);
	if (r < 0)
		return r;
	n = lower_getxattr_at(dirfd(frame->dir), name, xattr, bytes, sizeof(bytes));
	if (n == -ENODATA || n == -ENOENT)
		return 0;
	if (n < 0 && n != -ERANGE)
		return unreadable(re, walk->path, (int)n);
	/* Again by descriptor: record, key and status must be those of one file. */
	fd = openat(dirfd(frame->dir), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : unreadable(re, walk->path, -errno);
	if (fstat(fd, &st) < 0) {
		r = unreadable(re, walk->path, -errno);
		goto out;
	}
	if (st.st_dev != frame->dev)	/* something is mounted on it */
		goto out;
	r = check_pins(re, walk, frame);
	if (r < 0)
		goto out;
	n = lower_getxattr(fd, xattr, bytes, sizeof(bytes));
	if (n < 0 && n != -ERANGE) {
		r = n == -ENODATA ? 0 : unreadable(re, walk->path, (int)n);
		goto out;
	}
	r = n == -ERANGE ? -EBADMSG : record_decode(re->key, bytes, (size_t)n, &rec);
	if (r == -EBADMSG || r == -EPROTO) {
		re->stats.bad++;
		say(re, walk->path, r == -EPROTO ? "its lock record is of a kind that this program does not know" :
						   "its lock record does not verify");
		r = 0;
		goto out;
	}
	if (r < 0)
		goto out;
	if (is_changed(&rec, &st)) {
		re->stats.changed++;
		say(re, walk->path, "its size or modification time is not what the lock record says");
	}
	r = lower_file_key(fd, "", &key);
	r = r < 0 ? unreadable(re, walk->path, r) : add_row(re, &key, walk->path, &rec, &st);
out:
	if (fd >= 0)
		close(fd);
	return r;
}

/* After the walk, which has put the path right of every file that it found. */
static int check_row(void *arg, const struct ledger_row *row)
{
	struct rebuild *re = arg;
	struct file_key key;
	ssize_t n;
	int fd, r;

	r = tick(re);
	if (r < 0)
		return r;
	fd = open_strictly(re->root_fd, row->path, O_PATH);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV) {
		re->stats.missing++;
		say(re, row->path, "is in the ledger, but gone");
		return 0;
	}
	if (fd < 0)
		return unreadable(re, row->path, fd);
	r = lower_file_key(fd, "", &key);
	if (r < 0) {
		r = unreadable(re, row->path, r);
	} else if (!file_key_equal(&key, &row->key)) {
		re->stats.missing++;
		say(re, row->path, "is in the ledger, but another file has its place");
	} else {
		n = lower_getxattr(fd, lower_xattr_record(re->ns), NULL, 0);
		if (n == -ENODATA) {
			re->stats.stripped++;
			say(re, row->path, "is in the ledger, but its lock record is gone");
		}
	}
	close(fd);
	return r;
}

int reindex(struct ledger *ledger, struct record_key *key, int root_fd, enum lower_namespace ns,
	    reindex_problem_fn problem, reindex_progress_fn progress, void *arg, struct reindex_stats *ret_stats)
{
	static const struct ledger_filter all;
	struct rebuild re = { .ledger = ledger, .key = key, .root_fd = root_fd, .ns = ns, .problem = problem,
			      .progress = progress, .arg = arg, .until_progress = PROGRESS_ENTRIES,
			      .text_size = BATCH_TEXT_BYTES };
	struct walk walk = { .max_entries = UINT64_MAX, .file = rebuild_file, .failed = unreadable, .arg = &re };
	ssize_t n;
	int r;

	n = lower_getxattr(root_fd, lower_xattr_record(ns), NULL, 0);
	if (n < 0 && n != -ENODATA)
		return (int)n;	/* nothing to find, and every row would seem stripped */
	re.rows = malloc(BATCH_ROWS * sizeof(*re.rows));
	re.path_at = malloc(BATCH_ROWS * sizeof(*re.path_at));
	re.text = malloc(re.text_size);
	if (!re.rows || !re.path_at || !re.text) {
		r = -ENOMEM;
		goto out;
	}
	r = walk_run(&walk, root_fd);
	if (r == 0)
		r = write_rows(&re);
	if (r == 0)
		r = ledger_each(ledger, &all, check_row, &re);
	if (r == 0 && progress && progress(arg, &re.stats))
		r = -ECANCELED;
	if (r == 0)
		*ret_stats = re.stats;
out:
	free(re.rows);
	free(re.rule);
	free(re.path_at);
	free(re.text);
	return r;
}

struct question {
	enum lower_namespace ns;
	bool found;
};

static int ask_file(void *arg, struct walk *walk, struct frame *frame, const char *name)
{
	struct question *question = arg;
	ssize_t n = lower_getxattr_at(dirfd(frame->dir), name, lower_xattr_record(question->ns), NULL, 0);

	if (n == -ENODATA || n == -ENOENT || n == -EOPNOTSUPP)
		return 0;
	if (n < 0)
		return (int)n;
	question->found = true;
	return -ECANCELED;
}

static int cannot_know(void *arg, const char *path, int r)
{
	return r;
}

int reindex_has_record_below(int dir_fd, enum lower_namespace ns, uint64_t max_entries)
{
	struct question question = { .ns = ns };
	struct walk walk = { .max_entries = max_entries, .file = ask_file, .failed = cannot_know, .arg = &question };
	int r;

	r = walk_run(&walk, dir_fd);
	return question.found || r == -E2BIG ? 1 : r;
}

struct each_record {
	enum lower_namespace ns;
	reindex_record_fn fn;
	reindex_problem_fn failed;
	void *arg;
	size_t prefix_len;	/* of `path`: what the walk's own paths are put behind */
	char *path;
	size_t path_size;
};

/* The path of where the walk is, from the root of the share. NULL: no memory. */
static const char *whole_path(struct each_record *each, const char *path)
{
	size_t need = each->prefix_len + strlen(path) + 2;

	if (need > each->path_size) {
		char *grown = realloc(each->path, need * 2);

		if (!grown)
			return NULL;
		each->path = grown;
		each->path_size = need * 2;
	}
	sprintf(each->path + each->prefix_len, "%s%s", each->prefix_len && *path ? "/" : "", path);
	return each->path;
}

static int each_record_failed(void *arg, const char *path, int r)
{
	struct each_record *each = arg;

	path = whole_path(each, path);
	if (!path)
		return -ENOMEM;
	each->failed(each->arg, path, strerror(-r));
	return 0;
}

static int each_record_file(void *arg, struct walk *walk, struct frame *frame, const char *name)
{
	struct each_record *each = arg;
	uint8_t bytes[RECORD_BYTES + 1];
	ssize_t n = lower_getxattr_at(dirfd(frame->dir), name, lower_xattr_record(each->ns), bytes, sizeof(bytes));
	const char *path;

	if (n == -ENODATA || n == -ENOENT || n == -EOPNOTSUPP)
		return each->fn(each->arg, -1, NULL, NULL);
	if (n < 0 && n != -ERANGE)
		return each_record_failed(each, walk->path, (int)n);
	path = whole_path(each, walk->path);
	return path ? each->fn(each->arg, dirfd(frame->dir), name, path) : -ENOMEM;
}

int reindex_each_record(int root_fd, const char *prefix, enum lower_namespace ns, reindex_record_fn fn,
			reindex_problem_fn failed, void *arg)
{
	struct each_record each = { .ns = ns, .fn = fn, .failed = failed, .arg = arg, .prefix_len = strlen(prefix) };
	struct walk walk = { .max_entries = UINT64_MAX, .file = each_record_file, .failed = each_record_failed, .arg = &each };
	int fd, r;

	each.path = strdup(prefix);
	each.path_size = each.prefix_len + 1;
	fd = each.path ? open_strictly(root_fd, *prefix ? prefix : ".", O_PATH | O_DIRECTORY) : -ENOMEM;
	r = fd < 0 ? fd : walk_run(&walk, fd);
	if (fd >= 0)
		close(fd);
	free(each.path);
	return r;
}
