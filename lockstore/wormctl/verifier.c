/* One ring of files between the thread that lists the ledger and those that look. A slot is filled at the head, worked on
 * by anybody, and told and freed at the tail only, so that what is told is in order and the cursor never skips
 * a file that is still being read. When the rows are done, strangers.c looks for what the ledger does not know, and gone.c
 * for what only the audit log knows.
 *
 * Nobody else stands still meanwhile: what seems wrong while a daemon runs is looked at again, after the ledger has
 * caught up, before it is told. */
#include "lockstore/wormctl/verifier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/thread.h"
#include "lockstore/wormctl/gone.h"
#include "lockstore/wormctl/strangers.h"

#define RING 256
#define TICK_MS 200

struct finding {
	enum verify_kind kind;
	char what[VERIFY_TEXT_BYTES];
};

struct item {
	enum { FREE, READY, BUSY, DONE } state;
	struct ledger_row row;			/* its path is ours, its digest in sha256 */
	uint8_t sha256[SHA256_BYTES];
	struct verifier_totals found;		/* of this file */
	struct finding findings[VERIFY_FILE_MAX];
	unsigned nfindings;
	char error[200];			/* "": none */
};

struct verifier {
	struct subject *subject;
	const struct verifier_options *options;
	struct sha256_pace pace;
	pthread_mutex_t lock;			/* the rest, but for BUSY items, which belong to who works on them */
	pthread_cond_t changed;
	struct item *items;			/* a ring: [tail, head) */
	uint64_t head, next, tail;		/* next: the first that nobody has taken */
	bool no_more;
	struct verifier_totals *totals;
	struct verifier_cursor *cursor;
	int64_t told_ms;
};

uint64_t verifier_findings(const struct verifier_totals *totals)
{
	uint64_t n = 0;

	for (int i = 0; i < VERIFY_KINDS; i++)
		n += totals->kinds[i];
	return n;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static void add_totals(struct verifier_totals *to, const struct verifier_totals *from)
{
	to->files += from->files;
	to->bytes += from->bytes;
	to->pending += from->pending;
	to->offline += from->offline;
	to->gone += from->gone;
	to->errors += from->errors;
	for (int i = 0; i < VERIFY_KINDS; i++)
		to->kinds[i] += from->kinds[i];
}

/* ---- one file ---- */

static int look_at_data(struct verifier *v, struct item *item, int path_fd, struct verify_words *w)
{
	uint64_t size_bytes = 0;
	struct stat st;
	int fd, r;

	if (fstat(path_fd, &st) < 0)
		return -errno;
	w->file.size_bytes = (uint64_t)st.st_size;
	w->file.mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
	item->found.offline = lower_is_offline(path_fd, v->subject->ns);
	if (!item->row.sha256 || w->file.size_bytes != item->row.rec.size_bytes || item->found.offline)
		return 0;	/* nothing to compare, or it differs without a look */
	fd = sha256_open(path_fd, SHA256_OF_DISK);
	if (fd < 0)
		return fd;
	r = sha256_file(fd, SHA256_OF_DISK, &v->pace, v->options->stop, w->file.sha256, &size_bytes);
	close(fd);
	item->found.bytes += size_bytes;
	/* An append-only file may have grown while it was read. */
	w->file.has_digest = r == 0 && (size_bytes == w->file.size_bytes || !(item->row.rec.flags & RECORD_APPEND));
	return r;
}

/* What everybody says about the file of a row. -errno: one of them cannot be asked. */
static int ask(struct verifier *v, struct item *item, struct verify_words *w)
{
	struct subject *s = v->subject;
	struct verify_hold hold = { 0 };
	struct lock_record rec;
	int fd, r;

	*w = (struct verify_words){ .row = { .there = true, .rec = item->row.rec, .holds = item->row.holds,
					     .has_digest = item->row.sha256 != NULL } };
	if (item->row.sha256)
		memcpy(w->row.sha256, item->row.sha256, SHA256_BYTES);
	rec = item->row.rec;
	if (item->row.holds > rec.holds)
		rec.holds = 1;
	w->row.retained = record_is_retained(&rec, s->now_s);
	r = subject_open_row(s, item->row.path, &item->row.key, &fd);
	if (r < 0 && r != -ENOENT && r != -ESTALE)
		return r;
	if (r < 0) {
		if (subject_is_elsewhere(s, &item->row.key))
			w->file.where = FILE_MOVED;
		else if (r == -ESTALE && strangers_is_copy(s, fd, &item->row.rec))
			w->file.where = FILE_RESTORED;
		else
			w->file.where = r == -ENOENT ? FILE_MISSING : FILE_REPLACED;
		r = 0;
	} else {
		w->file.where = FILE_THERE;
		r = strangers_read_record(s, fd, &w->record);
		if (r == 0)
			r = look_at_data(v, item, fd, w);
	}
	if (fd >= 0)
		close(fd);
	if (r == 0 && w->file.where != FILE_RESTORED)
		r = testimony_say_holds(v->options->testimony, &item->row, &hold);
	if (r == 0)
		r = testimony_say(v->options->testimony, w->record.state == RECORD_GOOD ? &w->record.rec : &w->row.rec, &w->log);
	w->log.hold = hold;
	return r;
}

static void on_difference(void *arg, enum verify_kind kind, const char *what)
{
	struct item *item = arg;
	struct finding *finding = &item->findings[item->nfindings];

	if (item->nfindings == sizeof(item->findings) / sizeof(item->findings[0]))
		return;
	finding->kind = kind;
	snprintf(finding->what, sizeof(finding->what), "%s", what);
	item->nfindings++;
}

static int take_row(void *arg, const struct ledger_row *row)
{
	struct item *item = arg;
	const char *path = item->row.path;

	item->row = *row;
	item->row.path = path;	/* a locked file keeps its name */
	item->row.rule = NULL;
	if (row->sha256) {
		memcpy(item->sha256, row->sha256, SHA256_BYTES);
		item->row.sha256 = item->sha256;
	}
	return 0;
}

static void look(struct verifier *v, struct item *item)
{
	struct verify_words w;
	int64_t asked_ms;
	int r;

	for (int attempt = 0; ; attempt++) {
		asked_ms = now_ms();
		item->nfindings = 0;
		r = ask(v, item, &w);
		if (r == 0)
			verify_compare(&w, on_difference, item);
		if ((r == 0 && !item->nfindings) || r == -ECANCELED || attempt == (w.log.hold.what != HOLD_AGREES ? 3 : w.log.unlogged ? 2 : 1) || !v->subject->online)
			break;
		/* Extended, held or deleted since the row was read? */
		if (subject_sync(v->subject) == 0 && ledger_find(v->subject->ledger, &item->row.key, take_row, item) == -ENOENT) {
			item->nfindings = 0;
			return;
		}
		(void)testimony_refresh(v->options->testimony, asked_ms);	/* it then says what it said before */
	}
	if (r < 0) {
		item->found.errors = 1;
		snprintf(item->error, sizeof(item->error), "%s", strerror(-r));
		return;
	}
	item->found.files = 1;
	item->found.pending = !item->row.sha256 && !item->found.offline && w.file.where == FILE_THERE;
	item->found.gone = !item->nfindings && (w.file.where == FILE_MISSING || w.file.where == FILE_REPLACED);
	for (unsigned i = 0; i < item->nfindings; i++)
		item->found.kinds[item->findings[i].kind]++;
}

/* ---- the ring ---- */

/* Tells what is done, in order. */
static void tell_locked(struct verifier *v)
{
	const struct verifier_options *o = v->options;
	bool stopped = atomic_load(o->stop);

	for (; v->tail < v->next && v->items[v->tail % RING].state == DONE; v->tail++) {
		struct item *item = &v->items[v->tail % RING];

		/* What a signal broke off is not done, nor is anything behind it. */
		if (stopped && item->found.files == 0 && item->found.errors)
			return;
		for (unsigned i = 0; i < item->nfindings; i++)
			o->finding(o->arg, item->row.path, item->findings[i].kind, item->findings[i].what);
		if (*item->error)
			o->error(o->arg, item->row.path, item->error);
		add_totals(v->totals, &item->found);
		free(v->cursor->path);
		v->cursor->path = (char *)item->row.path;
		v->cursor->key = item->row.key;
		item->state = FREE;
	}
	if (now_ms() - v->told_ms >= TICK_MS) {
		v->told_ms = now_ms();
		o->progress(o->arg, v->totals, v->cursor);
	}
}

static void *worker(void *arg)
{
	struct verifier *v = arg;
	struct item *item;

	pthread_mutex_lock(&v->lock);
	for (;;) {
		while (v->next == v->head && !v->no_more)
			pthread_cond_wait(&v->changed, &v->lock);
		if (v->next == v->head || atomic_load(v->options->stop))
			break;
		item = &v->items[v->next++ % RING];
		item->state = BUSY;
		pthread_mutex_unlock(&v->lock);
		look(v, item);
		pthread_mutex_lock(&v->lock);
		item->state = DONE;
		tell_locked(v);
		pthread_cond_broadcast(&v->changed);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static void wait_a_tick_locked(struct verifier *v)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += TICK_MS * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&v->changed, &v->lock, &until);	/* late or early: the caller looks again */
	tell_locked(v);
}

static int on_row(void *arg, const struct ledger_row *row)
{
	struct verifier *v = arg;
	struct item *item;
	char *path;

	if (atomic_load(v->options->stop))
		return -ECANCELED;
	if (row->rec.committed_s < v->options->since_s)
		return 0;
	path = strdup(row->path);
	if (!path)
		return -ENOMEM;
	pthread_mutex_lock(&v->lock);
	while (v->head - v->tail == RING && !atomic_load(v->options->stop))
		wait_a_tick_locked(v);
	if (v->head - v->tail == RING) {
		pthread_mutex_unlock(&v->lock);
		free(path);
		return -ECANCELED;
	}
	item = &v->items[v->head % RING];
	*item = (struct item){ .state = READY, .row.path = path };
	(void)take_row(item, row);
	v->head++;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
	return 0;
}

static int run_rows(struct verifier *v, struct failure *f)
{
	struct ledger_filter filter = { .prefix = v->subject->path };
	struct file_key after_key = v->cursor->key;
	char *after_path = v->cursor->path ? strdup(v->cursor->path) : NULL;
	pthread_t threads[VERIFIER_JOBS_MAX];
	unsigned nthreads = 0;
	int r = 0;

	if (v->cursor->path && !after_path)
		return fail(f, -ENOMEM, "out of memory");
	while (r == 0 && nthreads < v->options->jobs) {
		r = thread_start(&threads[nthreads], "verify", worker, v);
		nthreads += r == 0;
	}
	if (nthreads)
		r = 0;		/* slower then */
	filter.after_path = after_path;
	filter.after_key = &after_key;
	if (r == 0)
		r = ledger_each(v->subject->ledger, &filter, on_row, v);
	pthread_mutex_lock(&v->lock);
	v->no_more = true;
	pthread_cond_broadcast(&v->changed);
	while (nthreads && v->tail < v->head && !atomic_load(v->options->stop))
		wait_a_tick_locked(v);
	pthread_mutex_unlock(&v->lock);
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(threads[i], NULL);
	tell_locked(v);		/* alone again */
	for (; v->tail < v->head; v->tail++)
		free((char *)v->items[v->tail % RING].row.path);
	free(after_path);
	if (r == 0 && atomic_load(v->options->stop))
		r = -ECANCELED;
	if (r < 0 && r != -ECANCELED)
		fail(f, r, "cannot read the ledger of %s: %s", quoted(subject_name(v->subject)),
		     *ledger_error(v->subject->ledger) ? ledger_error(v->subject->ledger) : strerror(-r));
	return r;
}

int verifier_run(struct subject *subject, const struct verifier_options *options, struct verifier_totals *totals,
		 struct verifier_cursor *cursor, struct failure *f)
{
	struct verifier v = { .subject = subject, .options = options, .totals = totals, .cursor = cursor };
	int r;

	v.items = calloc(RING, sizeof(*v.items));
	if (!v.items)
		return fail(f, -ENOMEM, "out of memory");
	pthread_mutex_init(&v.lock, NULL);
	pthread_cond_init(&v.changed, NULL);
	sha256_pace_init(&v.pace, options->bytes_a_second);
	r = run_rows(&v, f);
	if (r == 0 && subject->has_records)
		r = strangers_find(subject, options, totals, cursor, f);
	if (r == 0)
		r = gone_find(subject, options, totals, f);
	sha256_pace_fini(&v.pace);
	pthread_cond_destroy(&v.changed);
	pthread_mutex_destroy(&v.lock);
	free(v.items);
	return r;
}
