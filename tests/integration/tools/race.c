/* race DIR ROUNDS after|hammer|rename: one thread creates, writes and closes a file, another tries to change it.
 * What begins after close(2) has returned 0 must not succeed.
 *
 *   after    the other thread starts its attempt the moment close has returned; the closing thread makes
 *            one of its own straight away, too
 *   rename   likewise, of the rename from a staging name that follows the close at once
 *   hammer   the other thread opens for writing over and over, before, during and after the close
 *
 * Prints one JSON object: rounds, attempts (begun after the close), violations, the first of them, and how
 * often each errno was the answer. Exit 0 when the run came to its end, whatever it found. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *dir;
static long rounds;
static bool hammer, renames;

static atomic_long created;	/* number of the round whose file is there */
static atomic_long closed;	/* likewise, whose close has returned */
static atomic_long answered;	/* likewise, whose attempt is over */
static atomic_bool stop;

static atomic_long attempts, violations, by_errno[256], before;
static char first[256];
static pthread_mutex_t first_lock = PTHREAD_MUTEX_INITIALIZER;

static void name_of(long round, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%ld/%ld", dir, round / 1000, round);
}

/* Every way to become a writer or to change the name; 0 when it worked. */
static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int try_truncate(const char *path, int unused)
{
	return truncate(path, 0) < 0 ? -errno : 0;
}

static int try_unlink(const char *path, int unused)
{
	return unlink(path) < 0 ? -errno : 0;
}

static int try_rename(const char *path, int unused)
{
	char to[4096];

	snprintf(to, sizeof(to), "%s.moved", path);
	return rename(path, to) < 0 ? -errno : 0;
}

static const struct {
	const char *name;
	int (*try)(const char *path, int flags);
	int flags;
} tries[] = {
	{ "open O_WRONLY", try_open, O_WRONLY },
	{ "open O_RDWR", try_open, O_RDWR },
	{ "open O_WRONLY|O_TRUNC", try_open, O_WRONLY | O_TRUNC },
	{ "open O_RDONLY|O_TRUNC", try_open, O_RDONLY | O_TRUNC },
	{ "open O_WRONLY|O_APPEND", try_open, O_WRONLY | O_APPEND },
	{ "open O_RDWR|O_CREAT", try_open, O_RDWR | O_CREAT },
	{ "truncate", try_truncate, 0 },
	{ "unlink", try_unlink, 0 },
	{ "rename", try_rename, 0 },
};
#define TRIES (sizeof(tries) / sizeof(tries[0]))

static void count(long round, size_t which, int r, const char *who)
{
	atomic_fetch_add(&attempts, 1);
	atomic_fetch_add(&by_errno[-r & 255], 1);
	if (r == 0 && atomic_fetch_add(&violations, 1) == 0) {
		pthread_mutex_lock(&first_lock);
		snprintf(first, sizeof(first), "round %ld, %s by the %s thread", round, tries[which].name, who);
		pthread_mutex_unlock(&first_lock);
	}
}

static void *other(void *arg)
{
	char path[4096];

	for (long round = 1; round <= rounds; round++) {
		size_t which = round % TRIES;

		name_of(round, path, sizeof(path));
		for (unsigned spins = 0; atomic_load(hammer ? &created : &closed) < round; spins++) {
			if (atomic_load(&stop))
				return NULL;
			if (spins > 2000)
				sched_yield();
		}
		if (!hammer) {
			count(round, which, tries[which].try(path, tries[which].flags), "other");
		} else {
			bool after;

			do {
				int r;

				after = atomic_load(&closed) >= round;	/* read before the call begins */
				r = try_open(path, O_WRONLY);
				if (after)
					count(round, 0, r, "other");
				else
					atomic_fetch_add(&before, 1);
			} while (!after && !atomic_load(&stop));
		}
		atomic_store(&answered, round);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	char path[4096], staging[4104], data[] = "report";
	pthread_t thread;
	bool comma = false;

	if (argc != 4)
		return 2;
	dir = argv[1];
	rounds = atol(argv[2]);
	hammer = strcmp(argv[3], "hammer") == 0;
	renames = strcmp(argv[3], "rename") == 0;
	if (pthread_create(&thread, NULL, other, NULL))
		return 2;
	for (long round = 1; round <= rounds; round++) {
		int fd;

		if (round == 1 || round % 1000 == 0) {
			snprintf(path, sizeof(path), "%s/%ld", dir, round / 1000);
			if (mkdir(path, 0755) < 0)
				goto fail;
		}
		name_of(round, path, sizeof(path));
		snprintf(staging, sizeof(staging), "%s%s", path, renames ? ".part" : "");
		fd = open(staging, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, data, 6) != 6)
			goto fail;
		atomic_store(&created, round);
		if (close(fd) < 0 || (renames && rename(staging, path) < 0))
			goto fail;
		atomic_store(&closed, round);
		if (!hammer) {
			size_t which = (round / TRIES) % TRIES;

			count(round, which, tries[which].try(path, tries[which].flags), "closing");
		}
		while (atomic_load(&answered) < round)
			sched_yield();
	}
	pthread_join(thread, NULL);
	printf("{\"rounds\": %ld, \"attempts\": %ld, \"before\": %ld, \"violations\": %ld, \"first\": \"%s\", \"errnos\": {",
	       rounds, attempts, before, violations, first);
	for (int e = 0; e < 256; e++) {
		if (!by_errno[e])
			continue;
		printf("%s\"%s\": %ld", comma ? ", " : "", e ? strerrorname_np(e) : "OK", by_errno[e]);
		comma = true;
	}
	puts("}}");
	return 0;
fail:
	fprintf(stderr, "race: %s: %s\n", path, strerror(errno));
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	return 1;
}
