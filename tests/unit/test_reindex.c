/* The ledger made again from the records on the files. Needs a $TMPDIR with xattrs. */
#include "tests/unit/unit.h"

#include <sys/resource.h>
#include <sys/time.h>

#include "lockstore/reindex.h"

static char *dir, *state_dir;
static enum lower_namespace ns;
static struct record_key *key;
static struct ledger *ledger;
static int root_fd;

static int set_up(void **state)
{
	may_mount();	/* before root_fd is opened: it sees the mounts of its own namespace */
	dir = temp_dir_make();
	state_dir = temp_dir_make();
	ns = geteuid() == 0 ? LOWER_TRUSTED : LOWER_USER;
	root_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root_fd >= 0);
	CHECK_INT("a key", record_key_open(path_in(state_dir, "key"), true, &key), 0);
	CHECK_INT("a ledger", ledger_open(state_dir, LEDGER_CREATE, NULL, &ledger), 0);
	return 0;
}

static int tear_down(void **state)
{
	ledger_close(ledger);
	record_key_close(key);
	close(root_fd);
	temp_dir_remove(dir);
	temp_dir_remove(state_dir);
	return 0;
}

/* With this record, size and mtime filled in. */
static void lock_at(int dirfd, const char *name, struct lock_record rec)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	uint8_t bytes[RECORD_BYTES];
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, name, strlen(name)), strlen(name));
	assert_int_equal(fstat(fd, &st), 0);
	rec.size_bytes = (uint64_t)st.st_size;
	rec.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	assert_int_equal(record_encode(key, &rec, bytes), 0);
	CHECK_INT(name, lower_setxattr(fd, lower_xattr_record(ns), bytes, sizeof(bytes), 0), 0);
	close(fd);
}

static void lock_file(const char *name)
{
	lock_at(root_fd, name, (struct lock_record){ .until_s = 100, .committed_s = 50, .serial = 3, .holds = 1 });
}

static void make_dir(const char *name)
{
	assert_int_equal(mkdirat(root_fd, name, 0700), 0);
}

static void make_file(const char *name)
{
	int fd = openat(root_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static char problems[8192];

static void note_problem(void *arg, const char *path, const char *what)
{
	strncat(problems, path, sizeof(problems) - strlen(problems) - 1);
	strncat(problems, ": ", sizeof(problems) - strlen(problems) - 1);
	strncat(problems, what, sizeof(problems) - strlen(problems) - 1);
	strncat(problems, "\n", sizeof(problems) - strlen(problems) - 1);
}

static struct reindex_stats run(void)
{
	struct reindex_stats stats;
	int r;

	problems[0] = '\0';
	r = reindex(ledger, key, root_fd, ns, note_problem, NULL, NULL, &stats);
	if (r != 0)
		fail_msg("reindex: got %d (%s)", r, ledger_error(ledger));
	return stats;
}

static int append_path(void *arg, const struct ledger_row *row)
{
	strcat(arg, row->path);
	strcat(arg, ";");
	return 0;
}

static void check_ledger(const char *promise, const char *want)
{
	char got[4096] = "";

	CHECK_INT(promise, ledger_each(ledger, &(struct ledger_filter){ 0 }, append_path, got), 0);
	CHECK_STR(promise, got, want);
}

static int is_pinned(const char *name)
{
	int fd = openat(root_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ssize_t n = lower_getxattr(fd, lower_xattr_pin(ns), NULL, 0);

	close(fd);
	return n >= 0;
}

static int check_row(void *arg, const struct ledger_row *row)
{
	CHECK_INT("until", row->rec.until_s, 100);
	CHECK_INT("committed", row->rec.committed_s, 50);
	CHECK_INT("serial", row->rec.serial, 3);
	CHECK_INT("holds in the record", row->rec.holds, 1);
	CHECK_INT("owner", row->uid, geteuid());
	CHECK_INT("size", row->rec.size_bytes, strlen("b/one"));
	return 0;
}

static void test_rebuilds(void **state)
{
	struct reindex_stats stats;
	struct file_key file_key;

	CHECK_INT("an empty share", run().files, 0);
	make_dir("b");
	make_dir("b/c");
	make_dir("empty");
	make_dir("plain");
	lock_file("b/one");
	lock_file("b/c/two\n\xff");
	lock_file("zero");
	make_file("plain/unlocked");
	make_file("unlocked");
	stats = run();
	CHECK_STR("nothing is wrong", problems, "");
	CHECK_INT("files", stats.files, 5);
	CHECK_INT("locked", stats.locked, 3);
	CHECK_INT("new in the ledger", stats.added, 3);
	CHECK("nothing else", !stats.bad && !stats.changed && !stats.missing && !stats.stripped && !stats.errors);
	check_ledger("all are listed, any bytes in a name", "b/c/two\n\xff;b/one;zero;");
	CHECK_INT("key", lower_file_key(root_fd, "b/one", &file_key), 0);
	CHECK_INT("with all that the record says", ledger_find(ledger, &file_key, check_row, NULL), 0);
	CHECK_INT("pins", stats.pins, 3);
	CHECK("above a locked file", is_pinned("b/c") && is_pinned("b") && is_pinned("."));
	CHECK("nowhere else", !is_pinned("empty") && !is_pinned("plain"));
	stats = run();
	CHECK_INT("again: locked", stats.locked, 3);
	CHECK_INT("none is new", stats.added, 0);
	CHECK_INT("nothing is to be pinned", stats.pins, 0);
}

static void test_keeps_what_the_ledger_knows(void **state)
{
	struct reindex_stats stats;
	struct file_key file_key;
	uint64_t first;

	lock_file("f");
	run();
	CHECK_INT("key", lower_file_key(root_fd, "f", &file_key), 0);
	CHECK_INT("hold", ledger_hold_add(ledger, &file_key, "case", 0, 0), 0);
	CHECK_INT("extended", ledger_extend(ledger, &file_key, 5000), 0);
	stats = run();
	CHECK_INT("one", stats.locked, 1);
	CHECK_INT("the hold stays", ledger_hold_release(ledger, &file_key, "case"), 0);
	CHECK_INT("the later date, too", ledger_extend(ledger, &file_key, 4999), -EPERM);
	CHECK_INT("a serial on a file is not given again", (ledger_reserve_serials(ledger, 1, &first), first), 4);
}

static void test_bad_records(void **state)
{
	struct reindex_stats stats;
	uint8_t bytes[200] = { 1 };
	int fd;

	make_dir("d");
	lock_file("d/good");
	lock_file("d/flipped");
	fd = openat(root_fd, "d/flipped", O_RDONLY | O_CLOEXEC);
	CHECK_INT("read", lower_getxattr(fd, lower_xattr_record(ns), bytes, sizeof(bytes)), RECORD_BYTES);
	bytes[20] ^= 1;
	CHECK_INT("flipped", lower_setxattr(fd, lower_xattr_record(ns), bytes, RECORD_BYTES, 0), 0);
	close(fd);
	make_dir("e");
	make_file("e/short");
	fd = openat(root_fd, "e/short", O_RDONLY | O_CLOEXEC);
	CHECK_INT("short", lower_setxattr(fd, lower_xattr_record(ns), bytes, 3, 0), 0);
	close(fd);
	make_file("e/long");
	fd = openat(root_fd, "e/long", O_RDONLY | O_CLOEXEC);
	CHECK_INT("long", lower_setxattr(fd, lower_xattr_record(ns), bytes, sizeof(bytes), 0), 0);
	close(fd);
	make_file("e/empty");
	fd = openat(root_fd, "e/empty", O_RDONLY | O_CLOEXEC);
	CHECK_INT("empty", lower_setxattr(fd, lower_xattr_record(ns), "", 0, 0), 0);
	close(fd);
	stats = run();
	CHECK_INT("bad", stats.bad, 4);
	CHECK_INT("good", stats.locked, 1);
	check_ledger("only the good one is in the ledger", "d/good;");
	CHECK("each is told", strstr(problems, "d/flipped: ") && strstr(problems, "e/short: ") &&
	      strstr(problems, "e/long: ") && strstr(problems, "e/empty: "));
	CHECK("and its directory is pinned all the same", is_pinned("e"));
}

static void test_changed_below(void **state)
{
	struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct reindex_stats stats;
	int fd;

	lock_file("untouched");
	lock_file("longer");
	lock_file("touched");
	lock_at(root_fd, "append", (struct lock_record){ .flags = RECORD_APPEND });
	lock_at(root_fd, "append-cut", (struct lock_record){ .flags = RECORD_APPEND });
	fd = openat(root_fd, "longer", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(utimensat(root_fd, "touched", times, 0), 0);
	fd = openat(root_fd, "append", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	fd = openat(root_fd, "append-cut", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 1), 0);
	close(fd);
	stats = run();
	CHECK_INT("changed", stats.changed, 3);
	CHECK_INT("all are still locked", stats.locked, 5);
	CHECK("told", strstr(problems, "longer: ") && strstr(problems, "touched: ") && strstr(problems, "append-cut: "));
	CHECK("an append-only file may grow", !strstr(problems, "append: "));
}

static void test_missing_and_moved(void **state)
{
	struct reindex_stats stats;
	int fd;

	make_dir("d");
	make_dir("e");
	lock_file("d/deleted");
	lock_file("d/moved");
	lock_file("d/replaced");
	lock_file("d/stripped");
	lock_file("d/stays");
	make_dir("f");
	lock_file("f/gone with its directory");
	run();
	assert_int_equal(unlinkat(root_fd, "d/deleted", 0), 0);
	assert_int_equal(renameat(root_fd, "d/moved", root_fd, "e/moved"), 0);
	assert_int_equal(unlinkat(root_fd, "d/replaced", 0), 0);
	make_file("d/replaced");
	fd = openat(root_fd, "d/stripped", O_RDONLY | O_CLOEXEC);
	CHECK_INT("stripped", lower_removexattr(fd, lower_xattr_record(ns)), 0);
	close(fd);
	assert_int_equal(unlinkat(root_fd, "f/gone with its directory", 0), 0);
	assert_int_equal(unlinkat(root_fd, "f", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("d", root_fd, "f"), 0);
	stats = run();
	CHECK_INT("missing", stats.missing, 3);
	CHECK_INT("stripped", stats.stripped, 1);
	CHECK_INT("found", stats.locked, 2);
	CHECK_INT("none new", stats.added, 0);
	CHECK_INT("no errors", stats.errors, 0);
	CHECK("told", strstr(problems, "d/deleted: ") && strstr(problems, "d/replaced: ") &&
	      strstr(problems, "d/stripped: ") && strstr(problems, "f/gone with its directory: "));
	check_ledger("rows are kept, the moved one has its new path",
		     "d/deleted;d/replaced;d/stays;d/stripped;e/moved;f/gone with its directory;");
	CHECK("where it is now is pinned", is_pinned("e"));
}

/* After a restore: a directory has its pin, the one above lacks it. */
static void test_repairs_pins(void **state)
{
	int fd;

	make_dir("a");
	make_dir("a/b");
	make_dir("a/b/c");
	lock_file("a/b/c/f");
	run();
	fd = openat(root_fd, "a", O_RDONLY | O_CLOEXEC);
	CHECK_INT("a pin is lost", lower_removexattr(fd, lower_xattr_pin(ns)), 0);
	close(fd);
	CHECK_INT("one is set", run().pins, 1);
	CHECK("that one", is_pinned("a"));
}

static void test_stays_in_the_share(void **state)
{
	struct reindex_stats stats;
	char *outside = temp_dir_make();
	int fd;

	fd = open(outside, O_PATH | O_DIRECTORY | O_CLOEXEC);
	lock_at(fd, "elsewhere", (struct lock_record){ 0 });
	close(fd);
	assert_int_equal(symlinkat(outside, root_fd, "link"), 0);
	assert_int_equal(symlinkat("link/elsewhere", root_fd, "link2"), 0);
	assert_int_equal(mkfifoat(root_fd, "fifo", 0600), 0);
	lock_file("here");
	make_dir("mounted");
	make_file("covered");
	if (may_mount()) {
		assert_int_equal(mount(outside, path_in(dir, "mounted"), NULL, MS_BIND, NULL), 0);
		assert_int_equal(mount("tmpfs", path_in(dir, "mounted"), "tmpfs", 0, "size=100k"), 0);
	}
	stats = run();
	CHECK_INT("links and mounts are not followed", stats.locked, 1);
	CHECK_INT("without errors", stats.errors, 0);
	if (may_mount()) {
		assert_int_equal(umount(path_in(dir, "mounted")), 0);
		CHECK_INT("nor a bind mount of the same filesystem", run().locked, 1);
		assert_int_equal(umount(path_in(dir, "mounted")), 0);
	}
	temp_dir_remove(outside);
}

enum { DEPTH = 200 };

/* d000/d001/..., each with a locked file, two side directories with one each, and an empty one. */
static void make_deep(int *fds)
{
	char name[32];

	fds[0] = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < DEPTH; i++) {
		lock_at(fds[i], "locked", (struct lock_record){ .until_s = i });
		for (int side = 0; side < 3; side++) {
			snprintf(name, sizeof(name), "%c-side", side == 0 ? 'a' : side == 1 ? 'x' : 'e');
			assert_int_equal(mkdirat(fds[i], name, 0700), 0);
			snprintf(name, sizeof(name), "%c-side/locked", side == 0 ? 'a' : 'x');
			if (side < 2)
				lock_at(fds[i], name, (struct lock_record){ 0 });
		}
		snprintf(name, sizeof(name), "directory-%03d", i);
		assert_int_equal(mkdirat(fds[i], name, 0700), 0);
		fds[i + 1] = openat(fds[i], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(fds[i + 1] >= 0);
	}
}

static void close_deep(int *fds)
{
	for (int i = 0; i <= DEPTH; i++)
		close(fds[i]);
}

static int check_deep_row(void *arg, const struct ledger_row *row)
{
	unsigned *n = arg;
	int fd = dup(root_fd), next;
	char path[8192], *save = NULL;
	struct file_key file_key;

	++*n;
	/* The path must lead to the file, component by component: it is longer than PATH_MAX. */
	snprintf(path, sizeof(path), "%s", row->path);
	for (char *part = strtok_r(path, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		next = openat(fd, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			fail_msg("%s: %s", row->path, part);
		close(fd);
		fd = next;
	}
	CHECK_INT("key", lower_file_key(fd, "", &file_key), 0);
	CHECK("the path leads to the file", file_key_equal(&file_key, &row->key));
	close(fd);
	return 0;
}

static void test_deep_with_few_descriptors(void **state)
{
	struct rlimit old, few = { 100, 100 };
	struct reindex_stats stats;
	int fds[DEPTH + 1];
	unsigned n = 0;

	make_deep(fds);
	close_deep(fds);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	stats = run();
	CHECK_STR("nothing is wrong", problems, "");
	CHECK_INT("every file is found, once", stats.files, 3 * DEPTH);
	CHECK_INT("and locked", stats.locked, 3 * DEPTH);
	CHECK_INT("and new", stats.added, 3 * DEPTH);
	CHECK_INT("pins above all", stats.pins, 3 * DEPTH);
	CHECK_INT("listed", ledger_each(ledger, &(struct ledger_filter){ 0 }, check_deep_row, &n), 0);
	CHECK_INT("all", n, 3 * DEPTH);
	stats = run();
	CHECK_INT("nothing is missing the second time", stats.missing + stats.added + stats.pins + stats.errors, 0);
	CHECK_INT("the question, too", reindex_has_record_below(root_fd, ns, UINT64_MAX), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* Moves directories while the walk is at the bottom, told by the bad record there. */
static struct { int *fds; bool both; } mover;

static void move_when_deep(void *arg, const char *path, const char *what)
{
	static char name[2][32];

	note_problem(arg, path, what);
	if (!strstr(path, "bottom"))
		return;
	/* Directory 100 lies among those that are closed by then: its parent 99 must be found again. */
	snprintf(name[0], sizeof(name[0]), "directory-%03d", 100);
	assert_int_equal(renameat(mover.fds[100], name[0], root_fd, "moved-100"), 0);
	if (mover.both) {
		snprintf(name[1], sizeof(name[1]), "directory-%03d", 99);
		assert_int_equal(renameat(mover.fds[99], name[1], root_fd, "moved-99"), 0);
	}
}

static void run_while_moving(bool both, struct reindex_stats *stats)
{
	int fds[DEPTH + 1], fd;

	make_deep(fds);
	fd = openat(fds[DEPTH], "bottom", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK_INT("bad", lower_setxattr(fd, lower_xattr_record(ns), "bad", 3, 0), 0);
	close(fd);
	mover.fds = fds;
	mover.both = both;
	problems[0] = '\0';
	CHECK_INT("reindex", reindex(ledger, key, root_fd, ns, move_when_deep, NULL, NULL, stats), 0);
	close_deep(fds);
}

static void test_moved_meanwhile(void **state)
{
	struct reindex_stats stats;

	run_while_moving(false, &stats);
	CHECK_INT("the parent is found by its path", stats.errors, 0);
	CHECK("every file was seen", stats.files >= 3 * DEPTH + 1);
}

static void test_moved_away_meanwhile(void **state)
{
	struct reindex_stats stats;
	struct ledger_filter top = { .prefix = "a-side" };
	uint64_t n = 0;

	run_while_moving(true, &stats);
	CHECK_INT("one directory cannot be had again", stats.errors, 1);
	CHECK("it is told", strstr(problems, "directory-099: "));
	CHECK("the others go on", stats.files >= 3 * DEPTH - 2);
	CHECK_INT("up to the root", (ledger_count(ledger, &top, &n), n), 1);
}

/* Wider and fuller than a batch, and than a buffer of the kernel. */
static void test_many(void **state)
{
	struct reindex_stats stats;
	char name[64];

	for (int d = 0; d < 3; d++) {
		snprintf(name, sizeof(name), "wide-%d", d);
		make_dir(name);
		for (int i = 0; i < 1100; i++) {
			snprintf(name, sizeof(name), "wide-%d/some-locked-file-%d", d, i);
			lock_file(name);
		}
	}
	stats = run();
	CHECK_INT("all", stats.locked, 3300);
	CHECK_INT("new", stats.added, 3300);
	CHECK_STR("nothing is wrong", problems, "");
	CHECK_INT("again", run().added, 0);
}

static void test_hard_links(void **state)
{
	struct reindex_stats stats;

	lock_file("a");
	assert_int_equal(linkat(root_fd, "a", root_fd, "b", 0), 0);
	stats = run();
	CHECK_INT("two names", stats.locked, 2);
	CHECK_INT("one file", stats.added, 1);
}

static void test_other_key(void **state)
{
	struct record_key *other = NULL;
	struct reindex_stats stats;

	lock_file("a");
	CHECK_INT("another key", record_key_open(path_in(state_dir, "other"), true, &other), 0);
	CHECK_INT("reindex", reindex(ledger, other, root_fd, ns, NULL, NULL, NULL, &stats), 0);
	CHECK_INT("no record verifies", stats.bad, 1);
	check_ledger("so none is believed", "");
	record_key_close(other);
}

static int cancel(void *arg, const struct reindex_stats *so_far)
{
	return so_far->files >= 1024;
}

static void test_cancel(void **state)
{
	struct reindex_stats stats = { .files = 77 };
	char name[32];

	CHECK_INT("not yet", reindex(ledger, key, root_fd, ns, NULL, cancel, NULL, &stats), 0);
	stats.files = 77;
	for (int i = 0; i < 1030; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
	}
	CHECK_INT("stopped", reindex(ledger, key, root_fd, ns, NULL, cancel, NULL, &stats), -ECANCELED);
	CHECK_INT("the output stays", stats.files, 77);
}

static void test_ledger_errors(void **state)
{
	struct ledger *reader = NULL;
	struct reindex_stats stats;

	lock_file("a");
	CHECK_INT("a ledger to read", ledger_open(state_dir, LEDGER_READONLY, NULL, &reader), 0);
	CHECK_INT("takes no rows", reindex(reader, key, root_fd, ns, NULL, NULL, NULL, &stats), -EROFS);
	ledger_close(reader);
}

static void test_no_xattrs(void **state)
{
	struct reindex_stats stats;
	int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	CHECK_INT("no xattrs, nothing to find", reindex(ledger, key, fd, ns, NULL, NULL, NULL, &stats), -EOPNOTSUPP);
	close(fd);
}

static void test_unreadable(void **state)
{
	struct reindex_stats stats;
	char *own_dir;
	int status, r;
	pid_t pid;

	problems[0] = '\0';
	make_dir("open");
	make_dir("shut");
	ns = LOWER_USER;
	lock_file("open/f");
	lock_file("shut/f");
	assert_int_equal(fchmodat(root_fd, "shut", 0, 0), 0);
	own_dir = temp_dir_make();	/* a ledger of its own: none survives a fork */
	if (geteuid() == 0) {
		assert_int_equal(chown(own_dir, 65534, 65534), 0);
		assert_int_equal(fchownat(root_fd, ".", 65534, 65534, 0), 0);
		assert_int_equal(fchownat(root_fd, "open", 65534, 65534, 0), 0);
		assert_int_equal(fchownat(root_fd, "open/f", 65534, 65534, 0), 0);
	}
	pid = fork();
	if (pid == 0) {
		if (geteuid() == 0) {
			if (setgid(65534) < 0 || setuid(65534) < 0)
				_exit(1);
			if (access(own_dir, W_OK) < 0)
				_exit(77);
		}
		if (ledger_open(own_dir, LEDGER_CREATE, NULL, &ledger) < 0 ||
		    reindex(ledger, key, root_fd, ns, note_problem, NULL, NULL, &stats) < 0)
			_exit(1);
		ledger_close(ledger);
		if (stats.locked != 1 || stats.errors != 1 || !strstr(problems, "shut: "))
			_exit(2);
		/* As a directory has its entries: the record first, or first what says that nobody can know. */
		r = reindex_has_record_below(root_fd, ns, 100);
		_exit(r == 1 || r == -EACCES ? 0 : 3);
	}
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	temp_dir_remove(own_dir);
	if (WEXITSTATUS(status) == 77) {
		print_message("SKIPPED, nobody else reaches $TMPDIR: a directory that cannot be read\n");
		return;
	}
	CHECK_INT("what cannot be read is counted, the rest goes on", WEXITSTATUS(status), 0);
	if (geteuid() != 0) {
		assert_int_equal(fchmodat(root_fd, "shut", 0700, 0), 0);
		return;
	}
	assert_int_equal(unlinkat(root_fd, "open/f", 0), 0);
	pid = fork();
	if (pid == 0) {
		assert_int_equal(setuid(65534), 0);
		_exit(-reindex_has_record_below(root_fd, ns, 100));
	}
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK_INT("who cannot look does not say none", WEXITSTATUS(status), EACCES);
}

static void test_has_record_below(void **state)
{
	static const struct { const char *promise; const char *dir; uint64_t max; int want; } cases[] = {
		{ "none",                                      "plain", 100, 0 },
		{ "none, and just as many as allowed",         "plain", 2, 0 },
		{ "one more than allowed",                     "plain", 1, 1 },
		{ "empty",                                     "empty", 0, 0 },
		{ "in it",                                     "locked", 100, 1 },
		{ "far below",                                 "a", 100, 1 },
		{ "one that does not verify",                  "bad", 100, 1 },
	};
	int fd;

	make_dir("plain");
	make_file("plain/f");
	make_dir("plain/d");
	make_dir("empty");
	make_dir("locked");
	lock_file("locked/f");
	make_dir("a");
	make_dir("a/b");
	make_dir("a/b/c");
	lock_file("a/b/c/f");
	make_dir("bad");
	make_file("bad/f");
	fd = openat(root_fd, "bad/f", O_RDONLY | O_CLOEXEC);
	CHECK_INT("bad", lower_setxattr(fd, lower_xattr_record(ns), "", 0, 0), 0);
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (int flags = O_PATH; flags >= 0; flags -= O_PATH) {
			fd = openat(root_fd, cases[i].dir, flags | O_DIRECTORY | O_CLOEXEC);
			assert_true(fd >= 0);
			CHECK_INT(cases[i].promise, reindex_has_record_below(fd, ns, cases[i].max), cases[i].want);
			close(fd);
		}
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int fds_at_start;

static void test_no_descriptor_is_left(void **state)
{
	CHECK_INT("open descriptors at the end", count_fds(), fds_at_start);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rebuilds),
		TEST(test_keeps_what_the_ledger_knows),
		TEST(test_bad_records),
		TEST(test_changed_below),
		TEST(test_missing_and_moved),
		TEST(test_repairs_pins),
		TEST(test_stays_in_the_share),
		TEST(test_deep_with_few_descriptors),
		TEST(test_moved_meanwhile),
		TEST(test_moved_away_meanwhile),
		TEST(test_many),
		TEST(test_hard_links),
		TEST(test_other_key),
		TEST(test_cancel),
		TEST(test_ledger_errors),
		TEST(test_no_xattrs),
		TEST(test_unreadable),
		TEST(test_has_record_below),
		cmocka_unit_test(test_no_descriptor_is_left),
	};

	fds_at_start = count_fds();
	return cmocka_run_group_tests_name("reindex", tests, NULL, NULL);
}
