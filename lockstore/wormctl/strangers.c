/* Owns the sorted identities of all records of the ledger (verify_record_identity()). A record whose identity is there twice, or
 * that a file without a row carries, is a copy only if both files are there: a restored file leaves the row of the
 * lost one behind. */
#include "lockstore/wormctl/strangers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/reindex.h"

#define SUSPECTS_MAX 10000	/* files that seem to have no row, before they are looked at again */
#define COPIES_MAX 100000	/* files without a row, with the record of a row: more of them count as foreign */
#define PROGRESS_ENTRIES 1024

struct identity {
	uint64_t id;
	uint32_t live;		/* rows with it whose file is there; of duplicates only */
};

struct stranger {
	uint64_t id;
	uint64_t serial;
	char *path;
	bool copied;
};

struct strangers {
	struct subject *subject;
	const struct verifier_options *options;
	struct verifier_totals *totals;
	const struct verifier_cursor *cursor;
	struct identity *ids;		/* of all rows, then only of those that are there twice */
	size_t nids, max_ids;
	struct stranger *copies;
	size_t ncopies, max_copies;
	char **suspects;		/* paths */
	size_t nsuspects;
	unsigned until_progress;
	/* of the file that is told about now */
	const char *path;
};

int strangers_read_record(const struct subject *s, int fd, struct verify_record *ret)
{
	uint8_t bytes[RECORD_BYTES + 1];
	ssize_t n;
	int r;

	if (!s->has_records) {
		ret->state = RECORD_NOT_ASKED;
		return 0;
	}
	n = lower_getxattr(fd, lower_xattr_record(s->ns), bytes, sizeof(bytes));
	if (n == -ENODATA || n == -EOPNOTSUPP) {
		ret->state = RECORD_NONE;
		return 0;
	}
	if (n < 0 && n != -ERANGE)
		return (int)n;
	r = n == -ERANGE ? -EBADMSG : record_decode(s->key, bytes, (size_t)n, &ret->rec);
	if (r < 0 && r != -EBADMSG && r != -EPROTO)
		return r;
	ret->state = r == 0 ? RECORD_GOOD : r == -EPROTO ? RECORD_NEWER : RECORD_BAD;
	return 0;
}

bool strangers_is_copy(const struct subject *s, int fd, const struct lock_record *rec)
{
	struct verify_record found;

	return strangers_read_record(s, fd, &found) == 0 && found.state == RECORD_GOOD &&
	       verify_record_identity(&found.rec) == verify_record_identity(rec);
}

static int tick(struct strangers *st)
{
	if (atomic_load(st->options->stop))
		return -ECANCELED;
	if (st->until_progress--)
		return 0;
	st->until_progress = PROGRESS_ENTRIES;
	st->options->progress(st->options->arg, st->totals, st->cursor);
	return 0;
}

static void tell(void *arg, enum verify_kind kind, const char *what)
{
	struct strangers *st = arg;

	st->totals->kinds[kind]++;
	st->options->finding(st->options->arg, st->path, kind, what);
}

static void tell_copied(struct strangers *st, const char *path, uint64_t serial)
{
	char what[VERIFY_TEXT_BYTES];

	snprintf(what, sizeof(what), "another file carries the same lock record (serial %llu)", (unsigned long long)serial);
	st->path = path;
	tell(st, VERIFY_COPIED, what);
}

/* ---- identities ---- */

static int compare_ids(const void *a, const void *b)
{
	const struct identity *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static struct identity *find_id(const struct strangers *st, uint64_t id)
{
	struct identity key = { .id = id };

	return bsearch(&key, st->ids, st->nids, sizeof(key), compare_ids);
}

static int collect_id(void *arg, const struct ledger_row *row)
{
	struct strangers *st = arg;

	if (st->nids == st->max_ids) {
		size_t max = st->max_ids ? st->max_ids * 2 : 1024;
		struct identity *grown = reallocarray(st->ids, max, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		st->ids = grown;
		st->max_ids = max;
	}
	st->ids[st->nids++] = (struct identity){ .id = verify_record_identity(&row->rec) };
	return tick(st);
}

static bool is_live(const struct strangers *st, const struct ledger_row *row)
{
	int fd, r = subject_open_row(st->subject, row->path, &row->key, &fd);

	if (fd >= 0)
		close(fd);
	return r == 0;
}

static int count_live(void *arg, const struct ledger_row *row)
{
	struct strangers *st = arg;
	struct identity *id = find_id(st, verify_record_identity(&row->rec));

	if (id && is_live(st, row))
		id->live++;
	return tick(st);
}

static int tell_twins(void *arg, const struct ledger_row *row)
{
	struct strangers *st = arg;
	const struct identity *id = find_id(st, verify_record_identity(&row->rec));
	const char *rest = row->path, *prefix = st->subject->path;
	size_t len = strlen(prefix);

	if (id && id->live > 1 && row->rec.committed_s >= st->options->since_s && strncmp(rest, prefix, len) == 0 &&
	    (!len || !rest[len] || rest[len] == '/') && is_live(st, row))
		tell_copied(st, row->path, row->rec.serial);
	return tick(st);
}

/* Two rows with one record. */
static int find_twins(struct strangers *st)
{
	static const struct ledger_filter all;
	struct identity *whole = st->ids;
	size_t nwhole = st->nids, n = 0;
	struct identity *twins;
	int r = 0;

	for (size_t i = 1; i < nwhole; i++)
		n += whole[i].id == whole[i - 1].id;
	if (!n)
		return 0;
	twins = calloc(n, sizeof(*twins));
	if (!twins)
		return -ENOMEM;
	n = 0;
	for (size_t i = 1; i < nwhole; i++)
		if (whole[i].id == whole[i - 1].id && (!n || twins[n - 1].id != whole[i].id))
			twins[n++].id = whole[i].id;
	st->ids = twins;
	st->nids = n;
	r = ledger_each(st->subject->ledger, &all, count_live, st);
	if (r == 0)
		r = ledger_each(st->subject->ledger, &all, tell_twins, st);
	st->ids = whole;
	st->nids = nwhole;
	free(twins);
	return r;
}

/* ---- files without a row ---- */

/* It is being locked at this moment: the ledger gets to know it when its last writer is done. */
static bool is_closing(struct strangers *st, const char *path)
{
	char *state = subject_state(st->subject, path);
	bool closing = state && strcmp(state, "closing") == 0;

	free(state);
	return closing;
}

static int keep_copy(struct strangers *st, const char *path, const struct lock_record *rec)
{
	struct stranger *grown;

	if (st->ncopies == st->max_copies) {
		size_t max = st->max_copies ? st->max_copies * 2 : 64;

		grown = reallocarray(st->copies, max, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		st->copies = grown;
		st->max_copies = max;
	}
	st->copies[st->ncopies] = (struct stranger){ .id = verify_record_identity(rec), .serial = rec->serial, .path = strdup(path) };
	return st->copies[st->ncopies++].path ? 0 : -ENOMEM;
}

/* 1: a locked file without a row. */
static int is_stranger(const struct strangers *st, int fd)
{
	struct file_key key;
	int r = lower_file_key(fd, "", &key);

	if (r == 0)
		r = ledger_find(st->subject->ledger, &key, NULL, NULL);
	return r == -ENOENT ? 1 : r;
}

static int look_at_stranger(struct strangers *st, const char *path)
{
	struct verify_words w = { .file.where = FILE_THERE };
	struct stat status;
	int fd, r;

	fd = lower_open(st->subject->root_fd, path, O_PATH, true);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = fstat(fd, &status) < 0 ? -errno : S_ISREG(status.st_mode) ? is_stranger(st, fd) : 0;
	if (r == 1)
		r = strangers_read_record(st->subject, fd, &w.record) < 0 ? -EIO : 1;
	close(fd);
	if (r <= 0 || w.record.state == RECORD_NONE || is_closing(st, path))
		return r < 0 ? r : 0;
	if (w.record.state == RECORD_GOOD && w.record.rec.committed_s < st->options->since_s)
		return 0;
	if (w.record.state == RECORD_GOOD && st->ncopies < COPIES_MAX && find_id(st, verify_record_identity(&w.record.rec)))
		return keep_copy(st, path, &w.record.rec);
	if (w.record.state == RECORD_GOOD && testimony_say(st->options->testimony, &w.record.rec, &w.log) < 0)
		return -EIO;
	w.file.size_bytes = (uint64_t)status.st_size;
	w.file.mtime_ns = status.st_mtim.tv_sec * INT64_C(1000000000) + status.st_mtim.tv_nsec;
	st->path = path;
	verify_compare(&w, tell, st);
	return 0;
}

static void unreadable(void *arg, const char *path, const char *what)
{
	struct strangers *st = arg;

	st->totals->errors++;
	st->options->error(st->options->arg, path, what);
}

/* Those that the ledger gets to know are none: one wait for all of them. Who is not closing any more has had its row queued before it was
 * asked about, so the wait that follows brings the row; asked after the wait, it could have ended between the two. */
static int look_at_suspects(struct strangers *st)
{
	int r = 0;

	for (size_t i = 0; i < st->nsuspects; i++) {
		if (!is_closing(st, st->suspects[i]))
			continue;
		free(st->suspects[i]);
		st->suspects[i] = NULL;
	}
	(void)subject_sync(st->subject);	/* a ledger that lags makes strangers, rightly */
	(void)testimony_refresh(st->options->testimony, INT64_MAX);
	for (size_t i = 0; i < st->nsuspects; i++) {
		if (r == 0)
			r = tick(st);
		if (r == 0 && st->suspects[i])
			r = look_at_stranger(st, st->suspects[i]);
		if (r < 0 && r != -ENOMEM && r != -ECANCELED) {
			unreadable(st, st->suspects[i], strerror(-r));
			r = 0;
		}
		free(st->suspects[i]);
	}
	st->nsuspects = 0;
	return r;
}

static int on_record(void *arg, int dir_fd, const char *name, const char *path)
{
	struct strangers *st = arg;
	int fd, r = tick(st);

	if (r < 0 || !name)
		return r;
	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : (unreadable(st, path, strerror(errno)), 0);
	r = is_stranger(st, fd);
	close(fd);
	if (r < 0) {
		unreadable(st, path, strerror(-r));
		return 0;
	}
	if (r == 0)
		return 0;
	st->suspects[st->nsuspects] = strdup(path);
	if (!st->suspects[st->nsuspects])
		return -ENOMEM;
	return ++st->nsuspects == SUSPECTS_MAX ? look_at_suspects(st) : 0;
}

static int compare_copies(const void *a, const void *b)
{
	const struct stranger *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* The row whose record some stranger has: when its file is there, the stranger is a copy. */
static int match_copies(void *arg, const struct ledger_row *row)
{
	struct stranger key = { .id = verify_record_identity(&row->rec) }, *found;
	struct strangers *st = arg;

	found = bsearch(&key, st->copies, st->ncopies, sizeof(key), compare_copies);
	if (!found || found->copied || !is_live(st, row))
		return tick(st);
	while (found > st->copies && found[-1].id == key.id)
		found--;
	for (; found < st->copies + st->ncopies && found->id == key.id; found++)
		found->copied = true;
	return tick(st);
}

static int tell_copies(struct strangers *st)
{
	static const struct ledger_filter all;
	int r;

	if (!st->ncopies)
		return 0;
	qsort(st->copies, st->ncopies, sizeof(*st->copies), compare_copies);
	r = ledger_each(st->subject->ledger, &all, match_copies, st);
	for (size_t i = 0; r == 0 && i < st->ncopies; i++) {
		const struct stranger *copy = &st->copies[i];

		st->path = copy->path;
		if (copy->copied)
			tell_copied(st, copy->path, copy->serial);
		else
			tell(st, VERIFY_FOREIGN, "it was restored with its lock record, but the ledger does not know it");
	}
	return r;
}

static int walk(struct strangers *st)
{
	int r = reindex_each_record(st->subject->root_fd, st->subject->path, st->subject->ns, on_record, unreadable, st);

	if (r == 0)
		return look_at_suspects(st);
	if (r != -ENOTDIR && r != -ENOENT && r != -ELOOP)
		return r;
	/* PATH is a file, or nothing any more. */
	st->suspects[0] = strdup(st->subject->path);
	if (!st->suspects[0])
		return -ENOMEM;
	st->nsuspects = 1;
	return look_at_suspects(st);
}

int strangers_find(struct subject *subject, const struct verifier_options *options, struct verifier_totals *totals,
		   const struct verifier_cursor *cursor, struct failure *f)
{
	static const struct ledger_filter all;
	struct strangers st = { .subject = subject, .options = options, .totals = totals, .cursor = cursor };
	int r;

	st.suspects = calloc(SUSPECTS_MAX, sizeof(*st.suspects));
	r = st.suspects ? ledger_each(subject->ledger, &all, collect_id, &st) : -ENOMEM;
	if (r == 0) {
		qsort(st.ids, st.nids, sizeof(*st.ids), compare_ids);
		r = find_twins(&st);
	}
	if (r == 0)
		r = walk(&st);
	if (r == 0)
		r = tell_copies(&st);
	for (size_t i = 0; i < st.nsuspects; i++)
		free(st.suspects[i]);
	free(st.suspects);
	for (size_t i = 0; i < st.ncopies; i++)
		free(st.copies[i].path);
	free(st.copies);
	free(st.ids);
	if (r < 0 && r != -ECANCELED)
		fail(f, r, "cannot look for files that the ledger of %s does not know: %s", quoted(subject_name(subject)), strerror(-r));
	return r;
}
