/* What is written on lower files, and how it is reached. Needs a $TMPDIR with xattrs. */
#include "tests/unit/unit.h"

#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "lockstore/lower.h"

static char *dir;
static enum lower_namespace ns;	/* what this user may set */

static int set_up(void **state)
{
	dir = temp_dir_make();
	ns = geteuid() == 0 ? LOWER_TRUSTED : LOWER_USER;
	return 0;
}

static int tear_down(void **state)
{
	temp_dir_remove(dir);
	return 0;
}

static int open_in(const char *name, int flags)
{
	int fd = open(path_in(dir, name), flags | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void make_dir(const char *name)
{
	assert_int_equal(mkdir(path_in(dir, name), 0700), 0);
}

static void test_names(void **state)
{
	static const struct { const char *name; bool ours; } cases[] = {
		{ "trusted.wormfs", true }, { "trusted.wormfs.pin", true }, { "trusted.wormfs.share", true },
		{ "user.wormfs", true }, { "user.wormfs.pin", true }, { "user.wormfs.anything", true },
		{ "user.wormfsx", false }, { "user.wormf", false }, { "user.worm.until", false },
		{ "security.wormfs", false }, { "wormfs", false }, { "", false }, { "USER.wormfs", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(cases[i].name, lower_xattr_is_ours(cases[i].name), cases[i].ours);
	for (int n = LOWER_TRUSTED; n <= LOWER_USER; n++) {
		CHECK("the record is ours", lower_xattr_is_ours(lower_xattr_record((enum lower_namespace)n)));
		CHECK("the pin is ours", lower_xattr_is_ours(lower_xattr_pin((enum lower_namespace)n)));
		CHECK("a wished retention is ours", lower_xattr_is_ours(lower_xattr_until((enum lower_namespace)n)));
		CHECK("the share's id is ours", lower_xattr_is_ours(lower_xattr_share((enum lower_namespace)n)));
	}
}

static void check_xattrs(const char *promise, int fd)
{
	const char *name = lower_xattr_record(ns);
	char buf[256];
	ssize_t n;

	CHECK_INT(promise, lower_getxattr(fd, name, buf, sizeof(buf)), -ENODATA);
	CHECK_INT(promise, lower_removexattr(fd, name), -ENODATA);
	CHECK_INT(promise, lower_setxattr(fd, name, "", 0, XATTR_REPLACE), -ENODATA);
	CHECK_INT(promise, lower_setxattr(fd, name, "12345", 5, 0), 0);
	CHECK_INT(promise, lower_setxattr(fd, name, "x", 1, XATTR_CREATE), -EEXIST);
	CHECK_INT(promise, lower_getxattr(fd, name, NULL, 0), 5);
	CHECK_INT(promise, lower_getxattr(fd, name, buf, 4), -ERANGE);
	CHECK_INT(promise, lower_getxattr(fd, name, buf, sizeof(buf)), 5);
	CHECK(promise, memcmp(buf, "12345", 5) == 0);
	n = lower_listxattr(fd, buf, sizeof(buf));
	CHECK_INT(promise, n, lower_listxattr(fd, NULL, 0));
	CHECK(promise, n > 0 && memmem(buf, (size_t)n, name, strlen(name) + 1));
	CHECK_INT(promise, lower_listxattr(fd, buf, 1), -ERANGE);
	CHECK_INT(promise, lower_removexattr(fd, name), 0);
	CHECK_INT(promise, lower_getxattr(fd, name, NULL, 0), -ENODATA);
}

static void test_any_descriptor(void **state)
{
	static const struct { const char *promise, *name; int flags; } cases[] = {
		{ "open for writing",          "file", O_RDWR },
		{ "open for reading",          "file", O_RDONLY },
		{ "O_PATH",                    "file", O_PATH },
		{ "directory",                 "d", O_RDONLY | O_DIRECTORY },
		{ "O_PATH of a directory",     "d", O_PATH | O_DIRECTORY },
	};

	write_file(path_in(dir, "file"), "", 0);
	make_dir("d");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = open_in(cases[i].name, cases[i].flags);

		check_xattrs(cases[i].promise, fd);
		close(fd);
	}
}

static void test_symbolic_link(void **state)
{
	int fd, file;

	write_file(path_in(dir, "target"), "", 0);
	assert_int_equal(symlink("target", path_in(dir, "link")), 0);
	fd = open_in("link", O_PATH | O_NOFOLLOW);
	file = open_in("target", O_RDONLY);
	/* A link has no user. attributes. Source: xattr(7). */
	if (ns == LOWER_TRUSTED)
		check_xattrs("a link itself", fd);
	CHECK_INT("a link's target has one", lower_setxattr(file, lower_xattr_record(ns), "1", 1, 0), 0);
	CHECK("but not the link", lower_getxattr(fd, lower_xattr_record(ns), NULL, 0) < 0);
	close(fd);
	close(file);
}

static void test_bad_descriptor(void **state)
{
	CHECK_INT("get", lower_getxattr(987, "user.a", NULL, 0), -EBADF);
	CHECK_INT("set", lower_setxattr(987, "user.a", "", 0, 0), -EBADF);
	CHECK_INT("remove", lower_removexattr(987, "user.a"), -EBADF);
	CHECK_INT("list", lower_listxattr(987, NULL, 0), -EBADF);
	CHECK_INT("at", lower_getxattr_at(987, "a", "user.a", NULL, 0), -EBADF);
}

static void check_at(void)
{
	int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = open_in("at", O_RDONLY);
	const char *name = lower_xattr_record(ns);
	char buf[8];

	CHECK_INT("none yet", lower_getxattr_at(dirfd, "at", name, buf, sizeof(buf)), -ENODATA);
	CHECK_INT("set", lower_setxattr(fd, name, "abc", 3, 0), 0);
	CHECK_INT("got by name", lower_getxattr_at(dirfd, "at", name, buf, sizeof(buf)), 3);
	CHECK("what was set", memcmp(buf, "abc", 3) == 0);
	CHECK_INT("its size", lower_getxattr_at(dirfd, "at", name, NULL, 0), 3);
	CHECK_INT("too small", lower_getxattr_at(dirfd, "at", name, buf, 2), -ERANGE);
	CHECK_INT("no such file", lower_getxattr_at(dirfd, "none", name, buf, sizeof(buf)), -ENOENT);
	CHECK("a link is not followed", lower_getxattr_at(dirfd, "atlink", name, buf, sizeof(buf)) < 0);
	CHECK_INT("removed", lower_removexattr(fd, name), 0);
	close(fd);
	close(dirfd);
}

static void test_by_name(void **state)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 464, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(filter), .filter = filter };
	int status;
	pid_t pid;

	write_file(path_in(dir, "at"), "", 0);
	assert_int_equal(symlink("at", path_in(dir, "atlink")), 0);
	/* A kernel before 6.13, by a filter, in a process of its own because it stays. It goes first: ours has
	 * not found out yet which kernel it runs on. */
	pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
			_exit(77);
		if (syscall(464, 0, "", 0, "", NULL, 0) != -1 || errno != ENOSYS)
			_exit(78);
		check_at();
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		print_message("SKIPPED, no seccomp filters: the way of kernels before 6.13\n");
	else
		CHECK_INT("the way of kernels before 6.13", status, 0);
	check_at();
}

static void key_of(const char *name, struct file_key *ret_key)
{
	int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = open_in(name, O_PATH | O_NOFOLLOW);
	struct file_key by_fd;

	CHECK_INT("a key by name", lower_file_key(dirfd, name, ret_key), 0);
	CHECK_INT("a key by descriptor", lower_file_key(fd, "", &by_fd), 0);
	CHECK("are one", file_key_equal(ret_key, &by_fd));
	close(fd);
	close(dirfd);
}

static void test_key(void **state)
{
	struct file_key a, b, c, again, link_key;

	write_file(path_in(dir, "key-a"), "a", 1);
	write_file(path_in(dir, "key-b"), "a", 1);
	key_of("key-a", &a);
	key_of("key-b", &b);
	CHECK("two files, two keys", !file_key_equal(&a, &b));
	assert_int_equal(link(path_in(dir, "key-a"), path_in(dir, "key-a2")), 0);
	key_of("key-a2", &again);
	CHECK("two names of one file, one key", file_key_equal(&a, &again));
	assert_int_equal(rename(path_in(dir, "key-a2"), path_in(dir, "key-a3")), 0);
	write_file(path_in(dir, "key-a3"), "more", 4);
	key_of("key-a3", &again);
	CHECK("renamed and written, the same key", file_key_equal(&a, &again));
	assert_int_equal(symlink("key-a", path_in(dir, "key-link")), 0);
	key_of("key-link", &link_key);
	CHECK("a link is itself", !file_key_equal(&a, &link_key));
	/* The inode number is given out again at once on ext4. */
	assert_int_equal(unlink(path_in(dir, "key-b")), 0);
	write_file(path_in(dir, "key-b"), "a", 1);
	key_of("key-b", &c);
	CHECK("deleted and made anew, another key", !file_key_equal(&b, &c));
	CHECK_INT("no such file", lower_file_key(AT_FDCWD, "/nonexistent", &c), -ENOENT);
}

static void test_key_without_handle(void **state)
{
	struct file_key a, b, none = { .len = 0 };

	/* proc cannot be exported, so it has no handles. */
	CHECK_INT("a file without a handle has a key", lower_file_key(AT_FDCWD, "/proc/self/status", &a), 0);
	CHECK("which is no handle", !file_key_is_handle(&a));
	CHECK_INT("again", lower_file_key(AT_FDCWD, "/proc/self/status", &b), 0);
	CHECK("it is the same", file_key_equal(&a, &b));
	CHECK_INT("of another", lower_file_key(AT_FDCWD, "/proc/self/maps", &b), 0);
	CHECK("it is another", !file_key_equal(&a, &b));
	write_file(path_in(dir, "handle"), "", 0);
	CHECK_INT("where there are handles", lower_file_key(AT_FDCWD, path_in(dir, "handle"), &a), 0);
	CHECK("the key is one", file_key_is_handle(&a));
	CHECK("no key is none", !file_key_is_handle(&none));
}

static int is_pinned(const char *name)
{
	int fd = open_in(name, O_PATH | O_DIRECTORY);
	ssize_t n = lower_getxattr(fd, lower_xattr_pin(ns), NULL, 0);

	close(fd);
	assert_true(n >= 0 || n == -ENODATA);
	return n >= 0;
}

static int pin(const char *root, const char *name)
{
	int root_fd = open_in(root, O_PATH | O_DIRECTORY), fd = open_in(name, O_PATH | O_DIRECTORY);
	int r = lower_pin(root_fd, fd, ns);

	close(root_fd);
	close(fd);
	return r;
}

static void test_pin(void **state)
{
	uint64_t pins = 99;
	int root_fd, fd;

	make_dir("p");
	make_dir("p/a");
	make_dir("p/a/b");
	make_dir("p/a/b/c");
	make_dir("p/x");
	CHECK_INT("a directory is pinned", pin("p", "p/a/b"), 0);
	CHECK("itself", is_pinned("p/a/b"));
	CHECK("the one above", is_pinned("p/a"));
	CHECK("the root", is_pinned("p"));
	CHECK("not above the root", !is_pinned("."));
	CHECK("not below", !is_pinned("p/a/b/c"));
	CHECK("not beside", !is_pinned("p/x"));
	CHECK_INT("again", pin("p", "p/a/b"), 0);
	CHECK_INT("the root itself", pin("p", "p"), 0);

	/* The promise of a pin saves the way up: with p/a/b pinned nobody looks at p/a. */
	fd = open_in("p/a", O_RDONLY);
	assert_int_equal(lower_removexattr(fd, lower_xattr_pin(ns)), 0);
	close(fd);
	CHECK_INT("below a pin", pin("p", "p/a/b/c"), 0);
	CHECK("it is pinned", is_pinned("p/a/b/c"));
	CHECK("and the way up ends at the first pin", !is_pinned("p/a"));

	root_fd = open_in("p", O_PATH | O_DIRECTORY);
	fd = open_in("p/a/b/c", O_PATH | O_DIRECTORY);
	CHECK_INT("a repair looks behind it", lower_pin_repair(root_fd, fd, ns, &pins), 0);
	CHECK_INT("sets what is missing", pins, 1);
	CHECK("there", is_pinned("p/a"));
	CHECK_INT("a second one", lower_pin_repair(root_fd, fd, ns, &pins), 0);
	CHECK_INT("has nothing to do", pins, 0);
	close(root_fd);
	close(fd);
}

/* The way up from it leads to "/" without a mount on it, as it does in a share that is no mount. */
static bool is_on_root_mount(void)
{
	struct statx here, root;

	assert_int_equal(statx(AT_FDCWD, dir, 0, STATX_MNT_ID, &here), 0);
	assert_int_equal(statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &root), 0);
	return here.stx_mnt_id == root.stx_mnt_id;
}

static void test_pin_outside(void **state)
{
	if (!is_on_root_mount()) {
		print_message("skipped: $TMPDIR is on a mount of its own, whose root is taken for the share's\n");
		skip();
	}
	make_dir("q");
	make_dir("q/a");
	make_dir("r");
	CHECK_INT("a directory that is not below the root", pin("q", "r"), -EXDEV);
	CHECK("is not pinned", !is_pinned("r"));
	CHECK_INT("nor the one above the root", pin("q/a", "q"), -EXDEV);
	CHECK("is not pinned either", !is_pinned("q"));
}

/* Topmost first: a failure half-way leaves pins only where all parents have theirs. */
static void test_pin_order(void **state)
{
	int fd, r, flags = FS_IMMUTABLE_FL;

	make_dir("o");
	make_dir("o/a");
	make_dir("o/a/b");
	make_dir("o/a/b/c");
	fd = open_in("o/a/b", O_RDONLY | O_DIRECTORY);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
		print_message("SKIPPED, no immutable flag here: %s\n", strerror(errno));
		close(fd);
		return;
	}
	r = pin("o", "o/a/b/c");
	flags = 0;
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);	/* first of all: nobody could remove it */
	close(fd);
	CHECK_INT("a pin that cannot be set", r, -EPERM);
	CHECK("those above it are set", is_pinned("o") && is_pinned("o/a"));
	CHECK("those below it are not", !is_pinned("o/a/b") && !is_pinned("o/a/b/c"));
}

/* Deeper than the descriptors it may hold, and than PATH_MAX. */
static void test_pin_deep(void **state)
{
	enum { DEPTH = 300 };
	char name[] = "a-name-of-some-length";
	int root_fd, fds[2], n = 0;

	make_dir("deep");
	root_fd = open_in("deep", O_PATH | O_DIRECTORY);
	fds[0] = open_in("deep", O_PATH | O_DIRECTORY);
	for (int i = 0; i < DEPTH; i++) {
		assert_int_equal(mkdirat(fds[0], name, 0700), 0);
		fds[1] = openat(fds[0], name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(fds[1] >= 0);
		close(fds[0]);
		fds[0] = fds[1];
	}
	CHECK_INT("a deep directory is pinned", lower_pin(root_fd, fds[0], ns), 0);
	for (;;) {
		struct stat here, root;

		CHECK("every one on the way has its pin", lower_getxattr(fds[0], lower_xattr_pin(ns), NULL, 0) >= 0);
		assert_int_equal(fstat(fds[0], &here), 0);
		assert_int_equal(fstat(root_fd, &root), 0);
		if (here.st_ino == root.st_ino)
			break;
		fds[1] = openat(fds[0], "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fds[0]);
		fds[0] = fds[1];
		n++;
	}
	CHECK_INT("all of them", n, DEPTH);
	close(fds[0]);
	close(root_fd);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_any_descriptor),
		cmocka_unit_test(test_symbolic_link),
		cmocka_unit_test(test_bad_descriptor),
		cmocka_unit_test(test_by_name),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_key_without_handle),
		cmocka_unit_test(test_pin),
		cmocka_unit_test(test_pin_outside),
		cmocka_unit_test(test_pin_order),
		cmocka_unit_test(test_pin_deep),
		cmocka_unit_test(test_no_descriptor_is_left),
	};

	fds_at_start = count_fds();
	return cmocka_run_group_tests_name("lower", tests, set_up, tear_down);
}
