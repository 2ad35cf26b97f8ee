/* reindex: rebuilds the ledger from the records on the files, by the daemon when it runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/ledger_limits.h"
#include "lockstore/record.h"
#include "lockstore/reindex.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

struct view {
	bool tty;		/* stderr shows progress */
	bool line;		/* a progress line is on the screen */
	time_t last_s;
};

/* Names as the protocol has them. */
static const struct { const char *name, *text; size_t offset; } fields[] = {
#define FIELD(name, text) { #name, text, offsetof(struct reindex_stats, name) }
	FIELD(files, "files seen"),
	FIELD(locked, "locked"),
	FIELD(added, "new to the ledger"),
	FIELD(bad, "with a record that does not verify"),
	FIELD(changed, "changed below the mount"),
	FIELD(missing, "in the ledger but not there"),
	FIELD(pins, "pins set again on directories"),
	FIELD(errors, "could not be read"),
#undef FIELD
};

static uint64_t field_value(const struct reindex_stats *stats, size_t i)
{
	uint64_t value;

	memcpy(&value, (const char *)stats + fields[i].offset, sizeof(value));
	return value;
}

static void clear_line(struct view *view)
{
	if (view->line)
		fputs("\r\033[K", stderr);
	view->line = false;
}

static void show_progress(struct view *view, uint64_t files, uint64_t locked)
{
	time_t now = time(NULL);

	if (!view->tty || now == view->last_s)
		return;
	view->last_s = now;
	view->line = true;
	fprintf(stderr, "\r\033[K%llu files, %llu locked", (unsigned long long)files, (unsigned long long)locked);
}

static void on_daemon_progress(void *arg, const json_t *progress)
{
	show_progress(arg, json_get_int(progress, "files"), json_get_int(progress, "locked"));
}

static int on_progress(void *arg, const struct reindex_stats *so_far)
{
	show_progress(arg, so_far->files, so_far->locked);
	return 0;
}

static void on_problem(void *arg, const char *path, const char *what)
{
	clear_line(arg);
	complain("%s: %s", quoted(path), what);
}

static int by_daemon(struct client *client, const struct share *share, struct view *view,
		     struct reindex_stats *ret_stats, struct failure *f)
{
	struct reindex_stats stats;
	json_t *answer;
	int r;

	r = client_call(client, json_pack("{s:s}", "verb", "reindex"), on_daemon_progress, view, &answer);
	clear_line(view);
	if (r < 0)
		return fail(f, r, "cannot reindex %s: %s", quoted(share->dir),
			    *client_error(client) ? client_error(client) : strerror(-r));
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint64_t value = json_get_int(json_object_get(answer, "stats"), fields[i].name);

		memcpy((char *)&stats + fields[i].offset, &value, sizeof(value));
	}
	json_decref(answer);
	*ret_stats = stats;
	return 0;
}

static int offline(const struct wormctl *ctl, struct share *share, struct view *view,
		   struct reindex_stats *ret_stats, struct failure *f)
{
	char *key_path = share_key_path(share, ctl);
	struct ledger *ledger = NULL;
	struct record_key *key = NULL;
	int root_fd = -1, lock_fd = -1, r;

	if (!key_path)
		return fail(f, -ENOMEM, "out of memory");
	r = record_key_open(key_path, false, &key);
	if (r == -ENOENT) {
		fail(f, r, "there is no key at %s, and no record can be verified without it: get it back from the backup, "
		     "or name it with --key FILE", quoted(key_path));
		goto out;
	}
	if (r < 0) {
		fail(f, r, "cannot use the key %s: %s", quoted(key_path),
		     r == -EPERM ? "others may read it; run: chmod 600" : r == -EBADMSG ? "it is not 32 bytes long" : strerror(-r));
		goto out;
	}
	root_fd = open(share->lower_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0) {
		r = fail(f, -errno, "cannot open %s: %s", quoted(share->lower_dir), strerror(errno));
		goto out;
	}
	r = share_keep_daemons_away(share, &lock_fd, f);
	if (r == 0)
		r = share_ledger(share, LEDGER_CREATE, &ledger, f);
	if (r == 0 && ledger_meta_set(ledger, LEDGER_LIMITS_CLEAN, "0") < 0)	/* a mount with limits counts anew */
		r = fail(f, -EIO, "cannot write to the ledger: %s", ledger_error(ledger));
	if (r < 0)
		goto out;
	r = reindex(ledger, key, root_fd, share->ns, on_problem, on_progress, view, ret_stats);
	clear_line(view);
	if (r < 0)
		fail(f, r, "cannot reindex %s: %s", quoted(share->dir), *ledger_error(ledger) ? ledger_error(ledger) :
		     strerror(-r));
out:
	ledger_close(ledger);
	record_key_close(key);
	if (root_fd >= 0)
		close(root_fd);
	if (lock_fd >= 0)
		close(lock_fd);
	free(key_path);
	return r;
}

static void print_stats(const struct wormctl *ctl, const struct reindex_stats *stats)
{
	json_t *object = ctl->json ? json_object() : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (object)
			json_object_set_new(object, fields[i].name, json_integer(field_value(stats, i)));
		else
			printf("%12llu %s\n", (unsigned long long)field_value(stats, i), fields[i].text);
	}
	if (ctl->json)
		(void)print_json(object);
}

static int run_reindex(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { 0 } };
	struct view view = { .tty = isatty(STDERR_FILENO) };
	struct reindex_stats stats = { 0 };
	struct shares *shares = NULL;
	struct client *client;
	struct place place;
	struct failure f;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = common_option(ctl, &command_reindex, c, argv);
		if (r >= 0)
			return r;
	}
	if (argc - optind != 1)
		return wrong_usage(&command_reindex, argc == optind ? "which share? PATH is missing" : "one share at a time");
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	r = shares_find(shares, argv[optind], false, &place, &f);
	if (r == 0) {
		r = share_client(place.share, &client, &f);
		if (r == 0)
			r = by_daemon(client, place.share, &view, &stats, &f);
		else if (!place.share->mounted && client_is_absence(r))
			r = offline(ctl, place.share, &view, &stats, &f);
		place_fini(&place);
	}
	shares_close(shares);
	if (r < 0) {
		complain("%s", f.text);
		return EXIT_COULD_NOT;
	}
	print_stats(ctl, &stats);
	if (stats.errors)
		return finish_output(EXIT_COULD_NOT);
	return finish_output(stats.bad || stats.changed || stats.missing ? EXIT_NO : EXIT_YES);
}

const struct command command_reindex = {
	.name = "reindex",
	.summary = "rebuild the ledger from the files",
	.help =
	"Usage: wormctl reindex [--json] PATH\n"
	"\n"
	"Reads the lock records on all files of the share that PATH is in, and writes what is missing into\n"
	"the ledger: after the database was lost, rolled back or could not be written for a while, after a\n"
	"restore of the share, or after a power cut. Nothing is ever unlocked by it. What does not verify, was\n"
	"changed below the mount or is gone is counted and named: by the daemon in its log, without a\n"
	"daemon here.\n"
	"Only root, or the user who runs the daemon, may.\n"
	"\n"
	"      --json         one JSON object: files, locked, added, bad, changed, missing, pins,\n"
	"                     errors (numbers of files; pins: of directories)\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"      --key FILE     the key of the share, where the mount had -o key=FILE (for both: only\n"
	"                     when nothing is mounted)\n"
	"\n"
	"Example:\n"
	"  wormctl reindex /srv/share\n"
	"\n"
	"Exit codes: 0 all records are good, 1 some file is bad, changed or missing, 2 could not read all.\n",
	.run = run_reindex,
};
