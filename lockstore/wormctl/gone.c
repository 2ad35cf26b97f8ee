/* Twice while a daemon runs: what is gone in the first look may have been deleted a moment ago, and its line, which is older
 * than the deed, is read before the second. */
#include "lockstore/wormctl/gone.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/wormctl/strangers.h"

struct gone {
	struct subject *subject;
	const struct verifier_options *options;
	struct verifier_totals *totals;
	bool tells;
	uint64_t found;
};

static int mark_row(void *arg, const struct ledger_row *row)
{
	struct gone *gone = arg;

	return atomic_load(gone->options->stop) ? -ECANCELED : testimony_mark(gone->options->testimony, row->rec.serial);
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (!len || !path[len] || path[len] == '/');
}

/* 1: it is nowhere. */
static int is_gone(struct subject *s, const char *path, const struct file_key *key, uint64_t serial)
{
	struct verify_record record = { 0 };
	int fd, r = subject_open_row(s, path, key, &fd);

	if (r == -ESTALE && strangers_read_record(s, fd, &record) == 0 && record.state == RECORD_GOOD && record.rec.serial == serial)
		r = 0;		/* restored with its record */
	if (fd >= 0)
		close(fd);
	if (r != -ENOENT && r != -ESTALE)
		return r;
	return !subject_is_elsewhere(s, key);	/* moved, and without a row: strangers_find() tells */
}

static int on_unmarked(void *arg, const char *path, const struct file_key *key, uint64_t serial, int64_t locked_s, uint64_t seq)
{
	char what[VERIFY_TEXT_BYTES];
	struct gone *gone = arg;
	int r;

	if (atomic_load(gone->options->stop))
		return -ECANCELED;
	if (!is_below(path, gone->subject->path) || locked_s < gone->options->since_s)
		return 0;
	r = is_gone(gone->subject, path, key, serial);
	if (r < 0 && gone->tells) {
		gone->totals->errors++;
		gone->options->error(gone->options->arg, path, strerror(-r));
	}
	gone->found += r != 0;
	if (r != 1 || !gone->tells)
		return r != 0;
	snprintf(what, sizeof(what), "line %llu of the audit log says that it was locked, none that it was deleted; it is gone, and the "
		 "ledger does not know it", (unsigned long long)seq);
	gone->totals->kinds[VERIFY_MISSING]++;
	gone->options->finding(gone->options->arg, path, VERIFY_MISSING, what);
	return 1;
}

int gone_find(struct subject *subject, const struct verifier_options *options, struct verifier_totals *totals, struct failure *f)
{
	static const struct ledger_filter all;
	struct gone gone = { .subject = subject, .options = options, .totals = totals, .tells = !subject->online };
	int r;

	if (!options->testimony)
		return 0;
	r = ledger_each(subject->ledger, &all, mark_row, &gone);
	if (r == 0)
		r = testimony_each_unmarked(options->testimony, on_unmarked, &gone);
	if (r == 0 && subject->online && gone.found) {
		(void)subject_sync(subject);	/* a log that lags is read as it is */
		r = testimony_refresh(options->testimony, INT64_MAX);
		gone.tells = true;
		if (r == 0)
			r = testimony_each_unmarked(options->testimony, on_unmarked, &gone);
	}
	if (r < 0 && r != -ECANCELED)
		fail(f, r, "cannot look for what only the audit log of %s knows: %s", quoted(subject_name(subject)), strerror(-r));
	return r;
}
