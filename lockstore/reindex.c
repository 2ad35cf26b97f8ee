/* Walks a tree for lock records: to rebuild the ledger, or to learn whether there is any. */
#include "lockstore/reindex.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/lower_walk.h"

#define PROGRESS_ENTRIES 1024
#define BATCH_ROWS 1000
#define BATCH_TEXT_BYTES (1 << 20)

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
static int check_pins(struct rebuild *re, struct lower_walk *walk, struct lower_walk_frame *frame)
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
	for (struct lower_walk_frame *f = walk->frames; f <= frame; f++)
		f->pins_checked = true;
	return 0;
}

static int rebuild_file(void *arg, struct lower_walk *walk, struct lower_walk_frame *frame, const char *name)
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
	fd = lower_open(re->root_fd, row->path, O_PATH, false);
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
	struct lower_walk walk = { .max_entries = UINT64_MAX, .file = rebuild_file, .failed = unreadable, .arg = &re };
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
	r = lower_walk_run(&walk, root_fd);
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

static int ask_file(void *arg, struct lower_walk *walk, struct lower_walk_frame *frame, const char *name)
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
	struct lower_walk walk = { .max_entries = max_entries, .file = ask_file, .failed = cannot_know, .arg = &question };
	int r;

	r = lower_walk_run(&walk, dir_fd);
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

static int each_record_file(void *arg, struct lower_walk *walk, struct lower_walk_frame *frame, const char *name)
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
	struct lower_walk walk = { .max_entries = UINT64_MAX, .file = each_record_file, .failed = each_record_failed, .arg = &each };
	int fd, r;

	each.path = strdup(prefix);
	each.path_size = each.prefix_len + 1;
	fd = each.path ? lower_open(root_fd, *prefix ? prefix : ".", O_PATH | O_DIRECTORY, false) : -ENOMEM;
	r = fd < 0 ? fd : lower_walk_run(&walk, fd);
	if (fd >= 0)
		close(fd);
	free(each.path);
	return r;
}
