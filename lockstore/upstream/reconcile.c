/* Rows, and then entries of the cluster's directories, are taken in batches; a batch's calls are in flight together, and only when all
 * are answered does the place move on. */
#include "lockstore/upstream/reconcile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/ledger_push.h"
#include "lockstore/retention.h"

#define TICK_MS 1000
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS 30000
#define REGULAR_FILE "FS_FILE_TYPE_FILE"
#define WHAT_BYTES 300

struct item {
	struct qumulo_call call;
	struct run *run;
	char *path;
	struct file_key key;		/* of a row */
	bool is_row, undated, started, answered;
	struct upstream_lock want;	/* of a row */
	unsigned tries;
	int64_t due_ms;
	/* the answer */
	enum upstream_outcome outcome;
	bool has_lock;
	struct upstream_lock have;
	char why[UPSTREAM_TEXT_BYTES + UPSTREAM_CLASS_BYTES + 40];
};

struct run {
	const struct reconcile_config *config;
	struct reconcile_totals *totals;
	struct reconcile_place *place;
	struct item *items;
	size_t count, unanswered;
	int64_t next_ms;		/* when the next call may go out */
	int error;
	char *why;
	bool rows_left;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static int __attribute__((format(printf, 3, 4))) fail(struct run *run, int error, const char *format, ...)
{
	va_list ap;

	if (run->error)
		return run->error;
	run->error = error;
	va_start(ap, format);
	(void)vsnprintf(run->why, RECONCILE_WHY_BYTES, format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
	return error;
}

/* ---- the calls of a batch ---- */

static void on_reply(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct item *item = call->arg;
	struct run *run = item->run;
	int64_t pause_ms = RETRY_FIRST_MS;

	if ((reply->outcome == UPSTREAM_AWAY || reply->outcome == UPSTREAM_BUSY || reply->outcome == UPSTREAM_UNCLEAR) &&
	    ++item->tries < RECONCILE_TRIES) {
		for (unsigned i = 1; i < item->tries && pause_ms < RETRY_MAX_MS; i++)
			pause_ms *= 2;
		if (pause_ms < reply->retry_after_s * INT64_C(1000))
			pause_ms = reply->retry_after_s * INT64_C(1000);
		item->due_ms = now_ms() + pause_ms;
		item->started = false;
		return;
	}
	item->outcome = reply->outcome;
	item->has_lock = reply->has_lock;
	item->have = reply->lock;
	if (reply->status)
		snprintf(item->why, sizeof(item->why), "HTTP status %d%s%s%s%s", reply->status, *reply->error_class ? " " : "",
			 reply->error_class, *reply->text ? ": " : "", reply->text);
	else
		snprintf(item->why, sizeof(item->why), "%s", reply->text);
	item->answered = true;
	run->unanswered--;
	if (reply->outcome == UPSTREAM_AWAY || reply->outcome == UPSTREAM_BUSY)
		(void)fail(run, -EHOSTUNREACH, "the cluster does not answer: %s", item->why);
	else if (reply->outcome == UPSTREAM_UNAUTHORISED)
		(void)fail(run, -EACCES, "the cluster does not accept the credentials: %s", item->why);
}

static void start(struct run *run, struct item *item)
{
	char *ref;
	int r;

	r = endpoint_ref(run->config->root, item->path, &ref);
	if (r == -ENAMETOOLONG) {
		item->started = item->answered = true;
		item->outcome = UPSTREAM_REFUSED;
		snprintf(item->why, sizeof(item->why), "its path is longer than one on a cluster can be");
		run->unanswered--;
		return;
	}
	item->call.done = on_reply;
	item->call.arg = item;
	if (r == 0) {
		r = qumulo_get_attributes(run->config->qumulo, &item->call, ref, true);
		free(ref);
	}
	if (r == 0)
		item->started = true;
	else if (r != -EAGAIN)
		(void)fail(run, r, "cannot ask the cluster: %s", strerror(-r));
}

static bool may_call(struct run *run)
{
	unsigned rate = run->config->calls_a_second;
	int64_t now = now_ms();

	if (!rate)
		return true;
	if (now < run->next_ms)
		return false;
	/* Calls of one tick go out together when the rate is above the clock's steps. */
	run->next_ms = (run->next_ms < now - 100 ? now : run->next_ms) + (rate > 1000 ? 1 : 1000 / rate);
	return true;
}

/* Until all are answered; false: it ended before. */
static bool ask_all(struct run *run)
{
	while (run->unanswered && !run->error && !atomic_load(run->config->stop)) {
		int64_t now = now_ms(), wait_ms = TICK_MS;

		for (size_t i = 0; i < run->count; i++) {
			struct item *item = &run->items[i];

			if (item->started || qumulo_in_flight(run->config->qumulo) >= RECONCILE_JOBS)
				continue;
			if (item->due_ms > now) {
				wait_ms = item->due_ms - now < wait_ms ? item->due_ms - now : wait_ms;
			} else if (!may_call(run)) {
				wait_ms = run->next_ms - now < wait_ms ? run->next_ms - now : wait_ms;
				break;
			} else {
				start(run, item);
			}
		}
		if (qumulo_run(run->config->qumulo, (unsigned)(wait_ms > 0 ? wait_ms : 0)) < 0)
			(void)fail(run, -EIO, "the HTTP client failed");
	}
	/* What is on its way points to the items. */
	while (qumulo_in_flight(run->config->qumulo) && qumulo_run(run->config->qumulo, TICK_MS) == 0)
		;
	return !run->error && !run->unanswered;
}

static struct item *add(struct run *run, const char *path)
{
	struct item *item = &run->items[run->count];

	*item = (struct item){ .run = run, .path = strdup(path) };
	if (!item->path)
		return NULL;
	run->count++;
	run->unanswered++;
	return item;
}

static void drop_items(struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		free(run->items[i].path);
	run->count = run->unanswered = 0;
}

/* ---- what is told ---- */

static void tell(struct run *run, const struct item *item, enum reconcile_kind kind, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void tell(struct run *run, const struct item *item, enum reconcile_kind kind, const char *format, ...)
{
	char what[WHAT_BYTES];
	struct reconcile_finding finding = { .kind = kind, .path = item->path, .key = item->is_row ? &item->key : NULL, .what = what };
	va_list ap;
	int r;

	va_start(ap, format);
	(void)vsnprintf(what, sizeof(what), format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
	run->totals->kinds[kind]++;
	r = run->config->finding(run->config->arg, &finding);
	if (r < 0)
		(void)fail(run, r, "%s", strerror(-r));
}

/* "until 2030-01-01T00:00:00Z and a hold" */
static const char *lock_text(const struct upstream_lock *lock, char text[80])
{
	char until[RETENTION_TEXT_BYTES] = "";

	if (lock->has_until)
		retention_format_until(lock->until_s, until);
	snprintf(text, 80, "%s%s%s%s", lock->has_until ? "until " : "", until, lock->has_until && lock->hold ? " and " : "",
		 lock->hold ? "a legal hold" : lock->has_until ? "" : "no lock");
	return text;
}

static bool is_locked(const struct run *run, const struct upstream_lock *lock)
{
	return lock->hold || (lock->has_until && lock->until_s > run->config->now_s);
}

static void compare_row(struct run *run, const struct item *item)
{
	char want[80], have[80];

	run->totals->rows++;
	if (item->outcome == UPSTREAM_MISSING) {
		tell(run, item, RECONCILE_GONE, "the cluster has no file of this name");
	} else if (item->outcome != UPSTREAM_DONE) {
		run->totals->errors++;
		run->config->error(run->config->arg, item->path, item->why);
	} else if (!item->has_lock) {
		run->totals->errors++;
		run->config->error(run->config->arg, item->path, "the cluster does not show its lock: may we read its ACL?");
	} else if (!upstream_lock_covers(&item->have, &item->want)) {
		tell(run, item, is_locked(run, &item->have) ? RECONCILE_WEAKER : RECONCILE_UNLOCKED, "wanted %s, the cluster has %s",
		     lock_text(&item->want, want), lock_text(&item->have, have));
	} else if (item->undated) {
		tell(run, item, RECONCILE_UNDATED, "its retention has no date, the cluster has %s", lock_text(&item->have, have));
	}
}

static void compare_entry(struct run *run, const struct item *item)
{
	char have[80];

	if (item->outcome == UPSTREAM_MISSING)
		return;
	run->totals->upstream++;
	if (item->outcome != UPSTREAM_DONE) {
		run->totals->errors++;
		run->config->error(run->config->arg, item->path, item->why);
	} else if (item->has_lock && is_locked(run, &item->have) && !run->config->is_ours(run->config->arg, item->path)) {
		tell(run, item, RECONCILE_STRANGER, "the cluster has %s, and it is not locked here", lock_text(&item->have, have));
	}
}

/* ---- rows ---- */

static bool is_undated(int64_t until_s)
{
	return until_s == RETENTION_INFINITE || until_s == RETENTION_UNSPECIFIED;
}

static int take_push(void *arg, const struct ledger_push_row *row)
{
	*(enum ledger_push *)arg = row->push;
	return 0;
}

static bool is_to_be_pushed(struct ledger *ledger, const struct file_key *key)
{
	enum ledger_push push = LEDGER_PUSH_ASK;

	(void)ledger_push_find(ledger, key, take_push, &push);	/* when in doubt it is looked at */
	return push != LEDGER_PUSH_NO;
}

/* What the cluster should have of it. false: nothing. */
static bool wanted(const struct reconcile_config *c, const struct ledger_row *row, struct upstream_lock *ret, bool *ret_undated)
{
	*ret = (struct upstream_lock){ .hold = row->holds || row->rec.holds };
	*ret_undated = false;
	/* Its appends have to reach the cluster. */
	if ((row->rec.flags & RECORD_APPEND) || (!c->all && !is_to_be_pushed(c->ledger, &row->key)))
		return false;
	if (!is_undated(row->rec.until_s)) {
		ret->has_until = row->rec.until_s > c->now_s;
		ret->until_s = row->rec.until_s;
	} else if (c->undated_is_hold) {
		ret->hold = true;
	} else if (c->has_undated_date) {
		ret->has_until = c->undated_date_s > c->now_s;
		ret->until_s = c->undated_date_s;
	} else {
		*ret_undated = true;
	}
	return ret->hold || ret->has_until || *ret_undated;
}

static int on_row(void *arg, const struct ledger_row *row)
{
	struct run *run = arg;
	char *path = strdup(row->path);
	struct upstream_lock want;
	struct item *item;
	bool undated;

	if (!path)
		return -ENOMEM;
	free(run->place->after_path);
	run->place->after_path = path;
	run->place->after_key = row->key;
	if (!wanted(run->config, row, &want, &undated)) {
		run->totals->over++;
		return 0;
	}
	item = add(run, row->path);
	if (!item)
		return -ENOMEM;
	item->is_row = true;
	item->key = row->key;
	item->want = want;
	item->undated = undated;
	run->rows_left = run->count == RECONCILE_BATCH;
	return run->rows_left;
}

static int compare_rows(struct run *run)
{
	struct reconcile_place *place = run->place;

	do {
		struct ledger_filter filter = { .prefix = run->config->path, .after_path = place->after_path };
		struct reconcile_totals before = *run->totals;
		char *after = NULL;
		struct file_key key = place->after_key, filter_key = key;
		int r;

		filter.after_key = place->after_path ? &filter_key : NULL;
		if (place->after_path) {
			after = strdup(place->after_path);
			if (!after)
				return fail(run, -ENOMEM, "out of memory");
			filter.after_path = after;
		}
		run->rows_left = false;
		r = ledger_each(run->config->ledger, &filter, on_row, run);
		if (r < 0)
			(void)fail(run, r, "cannot read the ledger: %s", r == -ENOMEM ? "out of memory" : ledger_error(run->config->ledger));
		if (run->error || !ask_all(run)) {
			/* The batch counts as not begun. */
			free(place->after_path);
			place->after_path = after;
			place->after_key = key;
			*run->totals = before;
			drop_items(run);
			return run->error ? run->error : -ECANCELED;
		}
		free(after);
		for (size_t i = 0; i < run->count; i++)
			compare_row(run, &run->items[i]);
		drop_items(run);
		if (run->error)
			return run->error;
		run->config->progress(run->config->arg, run->totals, place);
	} while (run->rows_left && !atomic_load(run->config->stop));
	return atomic_load(run->config->stop) && run->rows_left ? -ECANCELED : 0;
}

/* ---- the cluster's files ---- */

static int match(void *arg, const struct ledger_row *row)
{
	return strcmp(row->path, arg) == 0 ? 1 : 2;	/* the path itself sorts before what is below it */
}

static int on_entry(void *arg, const char *path, const struct upstream_entry *entry)
{
	struct ledger_filter filter = { .prefix = path };
	struct run *run = arg;
	int r;

	if (strcmp(entry->type, REGULAR_FILE) != 0)
		return 0;
	r = ledger_each(run->config->ledger, &filter, match, (void *)path);
	if (r < 0)
		return fail(run, r, "cannot read the ledger: %s", ledger_error(run->config->ledger));
	if (r == 1)
		return 0;	/* compared already */
	return add(run, path) ? 0 : fail(run, -ENOMEM, "out of memory");
}

/* Asked for again while the cluster is away. 0, and the caller ends ret_page; -errno. */
static int fetch(struct run *run, const char *dir, const char *after, struct upstream_reply *ret_page)
{
	struct qumulo_call call;
	unsigned tries = 0;
	char *ref;
	int r;

	r = endpoint_ref(run->config->root, dir, &ref);
	if (r < 0)
		return r;
	for (;;) {
		struct timespec pause = { .tv_sec = 1U << tries };

		while (!may_call(run) && !atomic_load(run->config->stop))
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		r = qumulo_wait(run->config->qumulo, &call, qumulo_get_entries(run->config->qumulo, &call, ref, RECONCILE_BATCH, *after ? after : NULL),
				ret_page);
		if (r < 0) {
			(void)fail(run, r, "cannot ask the cluster: %s", strerror(-r));
			break;
		}
		if ((ret_page->outcome != UPSTREAM_AWAY && ret_page->outcome != UPSTREAM_BUSY && ret_page->outcome != UPSTREAM_UNCLEAR) ||
		    ++tries == RECONCILE_TRIES || atomic_load(run->config->stop))
			break;
		if (pause.tv_sec < ret_page->retry_after_s)
			pause.tv_sec = ret_page->retry_after_s;
		upstream_reply_fini(ret_page);
		nanosleep(&pause, NULL);	/* a signal ends it, which is as well */
	}
	free(ref);
	return r;
}

/* One page, and the files on it. */
static int compare_page(struct run *run, struct walk *walk, const char *dir, const char *after)
{
	struct upstream_reply page;
	int r = fetch(run, dir, after, &page);

	if (r == -ENAMETOOLONG) {
		walk_skip(walk);
		return 0;
	}
	if (r < 0)
		return r;
	switch (page.outcome) {
	case UPSTREAM_DONE:
		r = walk_page(walk, &page, on_entry, run);
		if (r == -ENOSPC) {
			run->totals->errors++;
			run->config->error(run->config->arg, dir, "more directories than can be kept in mind: not all below it was looked at");
			r = 0;
		} else if (r == -ELOOP) {
			run->totals->errors++;
			run->config->error(run->config->arg, dir, "the cluster does not list all of it: a page names itself as the next one");
			walk_skip(walk);
			r = 0;
		}
		break;
	case UPSTREAM_AWAY:
	case UPSTREAM_BUSY:
	case UPSTREAM_UNCLEAR:
		r = fail(run, -EHOSTUNREACH, "the cluster does not answer: %s", page.text);
		break;
	case UPSTREAM_UNAUTHORISED:
		r = fail(run, -EACCES, "the cluster does not accept the credentials: %s", page.text);
		break;
	case UPSTREAM_MISSING:
		walk_skip(walk);
		break;
	default:
		run->totals->errors++;
		run->config->error(run->config->arg, dir, *page.error_class ? page.error_class : page.text);
		walk_skip(walk);
	}
	upstream_reply_fini(&page);
	if (r == 0 && !ask_all(run))
		r = run->error ? run->error : -ECANCELED;
	for (size_t i = 0; r == 0 && i < run->count; i++)
		compare_entry(run, &run->items[i]);
	drop_items(run);
	return r == 0 ? run->error : r;
}

static int compare_upstream(struct run *run)
{
	struct reconcile_place *place = run->place;
	const char *dir, *after;
	json_t *saved;
	int r = 0;

	if (!place->walk && walk_open(run->config->path, true, &place->walk) < 0)
		return fail(run, -ENOMEM, "out of memory");
	while (r == 0 && walk_next(place->walk, &dir, &after)) {
		struct reconcile_totals before = *run->totals;

		if (atomic_load(run->config->stop))
			return -ECANCELED;
		saved = walk_save(place->walk);
		if (!saved)
			return fail(run, -ENOMEM, "out of memory");
		r = compare_page(run, place->walk, dir, after);
		if (r < 0) {
			/* The page counts as not begun. */
			*run->totals = before;
			walk_close(place->walk);
			if (walk_load(saved, &place->walk) < 0)
				place->walk = NULL;
		} else {
			run->config->progress(run->config->arg, run->totals, place);
		}
		json_decref(saved);
	}
	return r;
}

/* ---- all of it ---- */

int reconcile_run(const struct reconcile_config *config, struct reconcile_totals *totals, struct reconcile_place *place,
		  char ret_why[RECONCILE_WHY_BYTES])
{
	struct run run = { .config = config, .totals = totals, .place = place, .why = ret_why };
	int r = 0;

	*ret_why = '\0';
	run.items = calloc(UPSTREAM_ENTRIES_MAX, sizeof(*run.items));
	if (!run.items)
		return fail(&run, -ENOMEM, "out of memory");
	if (!place->walking)
		r = compare_rows(&run);
	if (r == 0) {
		place->walking = true;
		r = compare_upstream(&run);
	}
	free(run.items);
	return r;
}

void reconcile_place_fini(struct reconcile_place *place)
{
	free(place->after_path);
	walk_close(place->walk);
	*place = (struct reconcile_place){ .walking = false };
}

uint64_t reconcile_findings(const struct reconcile_totals *totals)
{
	uint64_t n = 0;

	for (int i = 0; i < RECONCILE_KINDS; i++)
		n += totals->kinds[i];
	return n;
}

const char *reconcile_kind_name(enum reconcile_kind kind)
{
	static const char *const names[] = { "unlocked", "weaker", "gone", "undated", "stranger" };

	return names[kind];
}

const char *reconcile_kind_advice(enum reconcile_kind kind)
{
	static const char *const advice[] = {
		"--fix pushes it",
		"--fix pushes it",
		"look who took it away on the cluster, and whether root names the share's directory",
		"extend it to a date, or mount with push_undated",
		"somebody else locked it there; wormctl commit locks it here as well",
	};

	return advice[kind];
}
