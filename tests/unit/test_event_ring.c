/* The ring on disk: bounded, with numbers that tell what is missing, whole after a kill at any moment. */
#include "unit.h"

#include <signal.h>
#include <sys/mman.h>

#include "lockstore/events/event_ring.h"

struct fixture {
	char *dir, path[4096];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = temp_dir_make();
	snprintf(f->path, sizeof(f->path), "%s/" EVENT_RING_FILE, f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	temp_dir_remove(f->dir);
	free(f);
	return 0;
}

static struct event_ring *open_ring(struct fixture *f, uint64_t bytes, struct event_ring_found *found)
{
	struct event_ring_found nobody;
	struct event_ring *ring;

	assert_int_equal(event_ring_open(f->path, bytes, &ring, found ? found : &nobody), 0);
	return ring;
}

/* Its path says which it is. */
static void put(struct event_ring *ring, uint64_t n, enum event_type type)
{
	char path[64], body[256];
	struct event ev = { .type = type, .has = EVENT_HAS_PATH };

	ev.path = event_text(path, snprintf(path, sizeof(path), "file %020llu %.*s", (unsigned long long)n, (int)(n % 30),
					    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
	event_encode(&ev, body);
	event_ring_note(ring);
	if (event_ring_append(ring, body, event_size(&ev)) == -ENOBUFS) {
		assert_int_equal(event_ring_flush(ring), 0);
		assert_int_equal(event_ring_append(ring, body, event_size(&ev)), 0);
	}
}

static uint64_t number_in(const struct event *ev)
{
	return strtoull(ev->path.bytes + 5, NULL, 10);
}

struct seen {
	uint64_t records, gaps, lost, overwritten, first, last, next;
};

/* From `from` to the end; every number is there, or in a gap, or overwritten. */
static struct seen read_all(struct event_ring *ring, uint64_t from)
{
	struct event_cursor cursor;
	struct seen seen = { 0 };
	uint64_t overwritten;
	char *buf = malloc(65536);
	ssize_t len;

	assert_int_equal(event_ring_seek(ring, from, &cursor), 0);
	seen.next = cursor.seq;
	while ((len = event_ring_read(ring, &cursor, buf, 65536, &overwritten)) > 0) {
		seen.overwritten += overwritten;
		seen.next += overwritten;
		for (ssize_t done = 0, n; done < len; done += n) {
			struct event ev;

			n = event_ring_record(buf + done, len - done, &ev);
			assert_true(n > 0);
			if (seen.records + seen.gaps == 0)
				seen.first = ev.seq;
			assert_true(ev.seq == seen.next);
			seen.last = ev.seq;
			if (ev.type == EVENT_GAP) {
				seen.gaps++;
				seen.lost += ev.lost;
				seen.next += ev.lost;
				continue;
			}
			seen.records++;
			seen.next++;
		}
	}
	assert_int_equal(len, 0);
	free(buf);
	return seen;
}

static void test_keeps_what_fits_and_says_what_is_gone(void **state)
{
	struct event_ring *ring = open_ring(*state, EVENT_RING_BYTES_MIN, NULL);
	struct event_ring_stats stats;
	struct event_cursor cursor;
	struct seen seen;

	seen = read_all(ring, 0);
	assert_int_equal(seen.records, 0);
	assert_int_equal(seen.next, 1);
	for (uint64_t n = 1; n <= 50000; n++)
		put(ring, n, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	event_ring_stats(ring, &stats);
	assert_int_equal(stats.next_seq, 50001);
	assert_int_equal(stats.noted, 50000);
	assert_true(stats.oldest_seq > 1 && stats.used_bytes <= stats.bytes);
	/* All but a segment of 16 and a batch is used. */
	assert_true(stats.used_bytes > stats.bytes / 8 * 5);
	seen = read_all(ring, 0);
	assert_int_equal(seen.first, stats.oldest_seq);
	assert_int_equal(seen.last, 50000);
	assert_int_equal(seen.records, 50001 - stats.oldest_seq);
	/* A reader that fell behind is told how far. */
	cursor = (struct event_cursor){ .pos = 0, .seq = 1, .msn = 1 };
	char *buf = malloc(65536);
	uint64_t overwritten;
	assert_true(event_ring_read(ring, &cursor, buf, 65536, &overwritten) > 0);
	assert_int_equal(overwritten, stats.oldest_seq - 1);
	free(buf);
	event_ring_close(ring);
}

static void test_seeks_any_number(void **state)
{
	struct event_ring *ring = open_ring(*state, EVENT_RING_BYTES_MIN, NULL);
	struct event_ring_stats stats;
	struct event_cursor cursor;
	uint64_t overwritten, msn = 0;
	char *buf = malloc(65536);
	struct event ev;

	for (uint64_t n = 1; n <= 20000; n++)
		put(ring, n, n % 3 ? EVENT_CREATE : EVENT_COMMITTED);	/* a third is not for BeeGFS */
	event_ring_note(ring);
	for (int i = 1; i < 10; i++)
		event_ring_note(ring);
	assert_int_equal(event_ring_append_gap(ring, 10, 0, "test"), 0);
	put(ring, 20011, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	event_ring_stats(ring, &stats);
	for (uint64_t n = stats.oldest_seq; n <= 20000; n += 37) {
		assert_int_equal(event_ring_seek(ring, n, &cursor), 0);
		assert_int_equal(cursor.seq, n);
		assert_true(event_ring_read(ring, &cursor, buf, 65536, &overwritten) > 0);
		assert_true(event_ring_record(buf, 65536, &ev) > 0);
		assert_int_equal(number_in(&ev), n);
		if (ev.type == EVENT_CREATE)
			msn = ev.msn;
	}
	assert_int_equal(event_ring_seek_msn(ring, msn, &cursor), 0);
	assert_true(event_ring_read(ring, &cursor, buf, 65536, &overwritten) > 0);
	assert_true(event_ring_record(buf, 65536, &ev) > 0);
	assert_int_equal(ev.msn, msn);
	for (uint64_t n = 20001; n <= 20010; n++) {	/* in a gap: the gap */
		assert_int_equal(event_ring_seek(ring, n, &cursor), 0);
		assert_int_equal(cursor.seq, 20001);
	}
	assert_int_equal(event_ring_seek(ring, 20011, &cursor), 0);
	assert_int_equal(cursor.seq, 20011);
	assert_int_equal(event_ring_seek(ring, UINT64_MAX, &cursor), 0);
	assert_int_equal(cursor.seq, 20012);
	assert_int_equal(event_ring_seek(ring, 0, &cursor), 0);
	assert_int_equal(cursor.seq, stats.oldest_seq);
	free(buf);
	event_ring_close(ring);
}

static void test_goes_on_after_a_close(void **state)
{
	struct event_ring_found found;
	struct event_ring *ring = open_ring(*state, EVENT_RING_BYTES_MIN, NULL);
	struct seen seen;

	for (uint64_t n = 1; n <= 100; n++)
		put(ring, n, EVENT_CREATE);
	event_ring_close(ring);
	ring = open_ring(*state, EVENT_RING_BYTES_MIN, &found);
	assert_true(!found.lost && !found.power && !found.damaged && !found.resized);
	assert_int_equal(event_ring_session(ring), 2);
	put(ring, 101, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	seen = read_all(ring, 0);
	assert_int_equal(seen.records, 101);
	event_ring_close(ring);
	/* Another size: older events are gone, numbers go on. */
	ring = open_ring(*state, EVENT_RING_BYTES_MIN * 3, &found);
	assert_true(found.resized && !found.lost);
	put(ring, 102, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	seen = read_all(ring, 0);
	assert_int_equal(seen.first, 102);
	event_ring_close(ring);
}

/* A child writes until it is killed; what it had noted and not written is a gap, and nothing else is missing. */
static void test_a_kill_loses_only_what_was_not_written_and_counts_it(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t *noted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t total = 0;

	for (int round = 0; round < 20; round++) {
		struct event_ring_found found;
		struct event_ring_stats stats;
		struct event_ring *ring;
		struct seen seen;
		int status;
		pid_t pid;

		atomic_store(noted, 0);
		pid = fork();
		if (pid == 0) {
			ring = open_ring(f, EVENT_RING_BYTES_MIN, NULL);
			for (uint64_t n = 1;; n++) {
				put(ring, n, EVENT_CREATE);
				atomic_store(noted, n);
				if (n % 97 == 0 && event_ring_flush(ring) < 0)
					_exit(1);
			}
		}
		while (atomic_load(noted) < 200 + (uint64_t)round * 701)
			sched_yield();
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		ring = open_ring(f, EVENT_RING_BYTES_MIN, &found);
		event_ring_stats(ring, &stats);
		total += atomic_load(noted);
		/* It may have noted one more than it told us. */
		assert_true(stats.noted >= total && stats.noted <= total + 1);
		total = stats.noted;
		assert_int_equal(stats.next_seq, total + 1);
		assert_true(!found.damaged && !found.power && found.lost <= 98);
		seen = read_all(ring, 0);
		assert_int_equal(seen.next, total + 1);
		event_ring_close(ring);
	}
	munmap((void *)noted, 4096);
}

static void test_a_torn_record_ends_the_ring_and_is_counted(void **state)
{
	struct fixture *f = *state;
	struct event_ring_found found;
	struct event_ring *ring = open_ring(f, EVENT_RING_BYTES_MIN, NULL);
	struct seen seen;
	int fd;

	for (uint64_t n = 1; n <= 100; n++)
		put(ring, n, EVENT_CREATE);
	event_ring_close(ring);
	fd = open(f->path, O_RDWR);
	assert_int_equal(pwrite(fd, "!", 1, 16384 + 4096), 1);
	close(fd);
	ring = open_ring(f, EVENT_RING_BYTES_MIN, &found);
	assert_true(found.damaged && found.lost > 0 && found.lost < 100);
	seen = read_all(ring, 0);
	assert_int_equal(seen.records + seen.lost, 100);
	event_ring_close(ring);
	fd = open(f->path, O_RDWR);	/* not ours */
	assert_int_equal(pwrite(fd, "other", 5, 0), 5);
	close(fd);
	assert_int_equal(event_ring_open(f->path, EVENT_RING_BYTES_MIN, &ring, &found), -EBADMSG);
}

static void test_the_power_going_jumps_the_numbers(void **state)
{
	struct fixture *f = *state;
	struct event_ring_found found;
	struct event_ring *before = open_ring(f, EVENT_RING_BYTES_MIN, NULL), *ring;
	char boot_id[37] = "not the one of this machine's start";
	struct seen seen;
	int fd;

	put(before, 1, EVENT_CREATE);
	assert_int_equal(event_ring_flush(before), 0);
	fd = open(f->path, O_RDWR);
	assert_int_equal(pwrite(fd, boot_id, 36, 16 + 8 + 4 + 4), 36);
	close(fd);
	/* As after a reset: nobody has closed it. */
	ring = open_ring(f, EVENT_RING_BYTES_MIN, &found);
	assert_true(found.power);
	assert_int_equal(found.lost, EVENT_RING_JUMP);
	put(ring, 2, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	seen = read_all(ring, 0);
	assert_int_equal(seen.records, 2);
	assert_int_equal(seen.last, 2 + EVENT_RING_JUMP);
	event_ring_close(ring);
	event_ring_close(before);
}

static void test_another_process_reads_along(void **state)
{
	struct fixture *f = *state;
	struct event_ring *ring = open_ring(f, EVENT_RING_BYTES_MIN, NULL);
	int status;
	pid_t pid;

	put(ring, 1, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	pid = fork();
	if (pid == 0) {
		struct event_cursor cursor = { 0 };
		struct event_ring *mine;
		uint64_t next = 1, overwritten;
		char *buf = malloc(65536);
		ssize_t len;

		if (event_ring_open_readonly(f->path, &mine) < 0)
			_exit(2);
		cursor.seq = 1;
		while (next <= 300000) {
			len = event_ring_read(mine, &cursor, buf, 65536, &overwritten);
			if (len < 0)
				_exit(3);
			next += overwritten;
			for (ssize_t done = 0, n; done < len; done += n) {
				struct event ev;

				n = event_ring_record(buf + done, len - done, &ev);
				/* What was copied while it was overwritten would be another one. */
				if (n <= 0 || ev.seq != next || number_in(&ev) != next)
					_exit(4);
				next++;
			}
		}
		_exit(0);
	}
	for (uint64_t n = 2; n <= 300000; n++)
		put(ring, n, EVENT_CREATE);
	assert_int_equal(event_ring_flush(ring), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	event_ring_close(ring);
}

static void test_consumers_are_remembered(void **state)
{
	struct event_ring *ring = open_ring(*state, EVENT_RING_BYTES_MIN, NULL);
	struct event_consumer *a, *b;
	char name[32];
	bool is_new;

	a = event_ring_consumer(ring, "json:/a", &is_new);
	assert_true(is_new);
	atomic_store(&a->seq, 17);
	b = event_ring_consumer(ring, "json:/b", &is_new);
	assert_true(is_new && a != b);
	event_ring_close(ring);
	ring = open_ring(*state, EVENT_RING_BYTES_MIN, NULL);
	for (int i = 0; i < EVENT_RING_CONSUMERS - 2; i++) {
		snprintf(name, sizeof(name), "json:/%d", i);
		(void)event_ring_consumer(ring, name, &is_new);
		assert_true(is_new);
	}
	a = event_ring_consumer(ring, "json:/a", &is_new);
	assert_true(!is_new);
	assert_int_equal(atomic_load(&a->seq), 17);
	/* One more than there is room for takes the place of who was not there lately. */
	(void)event_ring_consumer(ring, "json:/more", &is_new);
	assert_true(is_new);
	(void)event_ring_consumer(ring, "json:/a", &is_new);
	assert_true(!is_new);
	(void)event_ring_consumer(ring, "json:/b", &is_new);
	assert_true(is_new);
	event_ring_close(ring);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_keeps_what_fits_and_says_what_is_gone), TEST(test_seeks_any_number), TEST(test_goes_on_after_a_close),
		TEST(test_a_kill_loses_only_what_was_not_written_and_counts_it), TEST(test_a_torn_record_ends_the_ring_and_is_counted),
		TEST(test_the_power_going_jumps_the_numbers), TEST(test_another_process_reads_along), TEST(test_consumers_are_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
