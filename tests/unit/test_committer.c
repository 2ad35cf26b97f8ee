/* The committer: what it carries, and what happens while the ledger fails. The ledger is made to fail
 * by SQLite itself (query_only, or no more pages), so the errors are real ones. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "lockstore/committer.h"
#include "lockstore/ledger_private.h"

static char *dir;
static struct ledger *ledger;
static struct journal *journal;
static struct committer *committer;

static int set_up(void **state)
{
	dir = temp_dir_make();
	CHECK_INT("a ledger", ledger_open(dir, LEDGER_CREATE, NULL, &ledger), 0);
	CHECK_INT("a journal", journal_open(dir, &journal), 0);
	CHECK_INT("a committer", committer_start(ledger, journal, &committer), 0);
	return 0;
}

static int tear_down(void **state)
{
	committer_stop(committer);
	journal_close(journal);
	ledger_close(ledger);
	committer = NULL;
	temp_dir_remove(dir);
	return 0;
}

static void ledger_sql(const char *sql)
{
	pthread_mutex_lock(&ledger->writer.lock);
	assert_int_equal(sqlite3_exec(ledger->writer.db, sql, NULL, NULL, NULL), SQLITE_OK);
	pthread_mutex_unlock(&ledger->writer.lock);
}

static void break_ledger(void)
{
	ledger_sql("PRAGMA query_only=1");
}

static void heal_ledger(void)
{
	ledger_sql("PRAGMA query_only=0");
}

static struct file_key key_of(uint64_t n)
{
	struct file_key key = { .len = 8 };

	memcpy(key.bytes, &n, sizeof(n));
	return key;
}

static int count_slot(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
		      const char *path, const struct lock_record *rec)
{
	++*(unsigned *)arg;
	return 0;
}

static unsigned slots_taken(void)
{
	unsigned n = 0;

	CHECK_INT("the journal", journal_each(journal, count_slot, &n), 0);
	return n;
}

static uint64_t rows(void)
{
	uint64_t n = 0;

	CHECK_INT("counted", ledger_count(ledger, &(struct ledger_filter){ 0 }, &n), 0);
	return n;
}

/* As the close path does: noted in the journal, then handed over from memory that goes away. */
static int push_put(uint64_t n)
{
	char *path = NULL, *rule = strdup("rule");
	uint8_t *sha256 = malloc(32);
	struct file_key key = key_of(n);
	journal_slot slot;
	int r;

	assert_true(asprintf(&path, "dir/file-%06llu", (unsigned long long)n) > 0);
	memset(sha256, 7, 32);
	assert_int_equal(journal_add(journal, &key, path, &slot), 0);
	struct ledger_row row = { .key = key, .path = path, .rule = rule, .sha256 = sha256,
				  .rec = { .until_s = 100, .serial = n } };

	journal_mark_locked(journal, slot, &row.rec, NULL);
	r = committer_put(committer, &row, slot);
	memset(path, 'X', strlen(path));
	memset(rule, 'X', strlen(rule));
	memset(sha256, 'X', 32);
	free(path);
	free(rule);
	free(sha256);
	return r;
}

static int push_pending(uint64_t n)
{
	struct ledger_pending pending = { .key = key_of(n), .path = "pending", .reason = PENDING_IDLE, .due_s = 5 };
	journal_slot slot;

	assert_int_equal(journal_add(journal, &pending.key, "pending", &slot), 0);
	return committer_pending_put(committer, &pending, slot);
}

static void flush(void)
{
	CHECK_INT("all is in the ledger", committer_flush(committer, 20000), 0);
}

static struct committer_status status(void)
{
	struct committer_status s;

	committer_status(committer, &s);
	return s;
}

static int check_row(void *arg, const struct ledger_row *row)
{
	CHECK_STR("path", row->path, "dir/file-000001");
	CHECK_STR("rule", row->rule, "rule");
	CHECK("digest", row->sha256 && row->sha256[0] == 7 && row->sha256[31] == 7);
	CHECK("record", row->rec.until_s == 100 && row->rec.serial == 1);
	return 0;
}

static void test_carries_over(void **state)
{
	struct file_key one = key_of(1), two = key_of(2);
	struct ledger_row bare = { .key = two, .path = "bare" };
	uint64_t n = 99;

	CHECK_INT("nothing to do is done", committer_flush(committer, 0), 0);
	CHECK_INT("put", push_put(1), 0);
	CHECK_INT("put, without rule, digest and slot", committer_put(committer, &bare, JOURNAL_NO_SLOT), 0);
	flush();
	CHECK_INT("it is in the ledger", ledger_find(ledger, &one, check_row, NULL), 0);
	CHECK_INT("so is the other", ledger_find(ledger, &two, NULL, NULL), 0);
	CHECK_INT("its slot is free", slots_taken(), 0);
	CHECK_INT("counted", status().written, 2);
	CHECK_INT("nothing waits", status().queued, 0);
	CHECK_INT("nothing is wrong", status().error, 0);
	CHECK_STR("nor said", status().message, "");
	CHECK_INT("removed", committer_remove(committer, &one), 0);
	flush();
	CHECK_INT("it is gone", ledger_find(ledger, &one, NULL, NULL), -ENOENT);

	CHECK_INT("pending", push_pending(3), 0);
	CHECK_INT("pending", push_pending(4), 0);
	CHECK_INT("pending", push_pending(5), 0);
	flush();
	CHECK_INT("they are", (ledger_pending_count(ledger, &n), n), 3);
	CHECK_INT("their slots are free", slots_taken(), 0);
	CHECK_INT("one is no more", committer_pending_remove(committer, &bare.key), 0);
	bare.key = key_of(3);
	CHECK_INT("one is not any more", committer_pending_remove(committer, &bare.key), 0);
	CHECK_INT("one is locked", push_put(4), 0);
	bare.key = key_of(5);
	CHECK_INT("one is deleted", committer_remove(committer, &bare.key), 0);
	flush();
	CHECK_INT("none is pending", (ledger_pending_count(ledger, &n), n), 0);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	signals++;
}

static void test_takes_no_signals(void **state)
{
	struct sigaction action = { .sa_handler = count_signal };
	sigset_t usr1, old;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &usr1, &old), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	CHECK_INT("put", push_put(1), 0);
	flush();
	CHECK_INT("a signal is left to the other threads", signals, 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
	CHECK_INT("which get it", signals, 1);
}

static void test_keeps_order(void **state)
{
	/* The last word on each key counts, over many batches. */
	for (uint64_t i = 0; i < 6000; i++) {
		struct file_key key = key_of(i % 100);
		struct ledger_row row = { .key = key, .path = "x", .rec = { .until_s = (int64_t)i } };

		if (i / 100 % 2)
			CHECK_INT("remove", committer_remove(committer, &key), 0);
		else
			CHECK_INT("put", committer_put(committer, &row, JOURNAL_NO_SLOT), 0);
	}
	flush();
	CHECK_INT("removed last, none is there", rows(), 0);
	CHECK_INT("all were written", status().written, 6000);
}

static void test_stop_carries_the_rest(void **state)
{
	for (uint64_t i = 0; i < 3000; i++)
		CHECK_INT("put", push_put(i), 0);
	committer_stop(committer);
	committer = NULL;
	CHECK_INT("what was queued is in the ledger", rows(), 3000);
	CHECK_INT("and its slots are free", slots_taken(), 0);
	committer_stop(NULL);
}

static void test_failing_ledger_is_tried_again(void **state)
{
	struct timespec before, after;

	CHECK_INT("put", push_put(1), 0);
	flush();
	break_ledger();
	CHECK_INT("put does not fail", push_put(2), 0);
	CHECK_INT("put does not fail", push_put(3), 0);
	CHECK_INT("a flush says what is wrong", committer_flush(committer, 20000), -EROFS);
	CHECK_INT("so does the status", status().error, -EROFS);
	CHECK("in words", strlen(status().message) > 10);
	CHECK_INT("they wait", status().queued, 2);
	CHECK_INT("nothing is dropped", status().dropped, 0);
	CHECK_INT("their slots are kept", slots_taken(), 2);
	/* The back-off has come to two seconds. */
	clock_gettime(CLOCK_MONOTONIC, &before);
	CHECK_INT("still", committer_flush(committer, 20000), -EROFS);
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK("a flush does not wait for the back-off",
	      after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) / 1e9 < 1.5);
	heal_ledger();
	flush();
	CHECK_INT("nothing is lost", rows(), 3);
	CHECK_INT("nothing is wrong any more", status().error, 0);
	CHECK_STR("nor said", status().message, "");
	CHECK_INT("the slots are free", slots_taken(), 0);
}

static void test_heals_by_itself(void **state)
{
	struct timespec pause = { .tv_nsec = 10 * 1000000 };

	break_ledger();
	CHECK_INT("put", push_put(1), 0);
	for (int i = 0; !status().error && i < 1000; i++)
		nanosleep(&pause, NULL);
	CHECK_INT("it fails", status().error, -EROFS);
	heal_ledger();
	for (int i = 0; status().queued && i < 500; i++)
		nanosleep(&pause, NULL);
	CHECK_INT("after the back-off it is tried again, unasked", status().written, 1);
}

static void test_full_disk(void **state)
{
	ledger_sql("PRAGMA max_page_count=30");
	for (uint64_t i = 0; i < 2000; i++)
		CHECK_INT("put", push_put(i), 0);
	CHECK_INT("the disk is full", committer_flush(committer, 20000), -ENOSPC);
	CHECK("said so", strstr(status().message, "full"));
	CHECK_INT("a batch is all or nothing", rows(), status().written);
	CHECK_INT("what is not in the ledger keeps its slot", slots_taken(), 2000 - rows());
	ledger_sql("PRAGMA max_page_count=100000");
	flush();
	CHECK_INT("with room all is there", rows(), 2000);
	CHECK_INT("and all slots are free", slots_taken(), 0);
}

static void test_full_queue_drops_and_counts(void **state)
{
	enum { MORE = 100 };
	struct committer_status s;

	break_ledger();
	CHECK_INT("put", push_put(0), 0);
	CHECK_INT("it fails", committer_flush(committer, 20000), -EROFS);
	for (uint64_t i = 1; i < COMMITTER_QUEUE_MAX; i++)
		CHECK_INT("put", push_put(i), 0);
	CHECK_INT("the queue is full", status().queued, COMMITTER_QUEUE_MAX);
	CHECK_INT("nothing is dropped yet", status().dropped, 0);
	for (uint64_t i = 0; i < MORE; i++)
		CHECK_INT("a put does not wait", push_put(COMMITTER_QUEUE_MAX + i), 0);
	CHECK_INT("nor a pending file", push_pending(99999), 0);
	CHECK_INT("nor what has no slot", committer_remove(committer, &(struct file_key){ .len = 1 }), 0);
	s = status();
	CHECK_INT("the newest are dropped, and counted", s.dropped, MORE + 2);
	CHECK_INT("the queue is as it was", s.queued, COMMITTER_QUEUE_MAX);
	CHECK_INT("every slot is kept", slots_taken(), COMMITTER_QUEUE_MAX + MORE + 1);
	heal_ledger();
	flush();
	CHECK_INT("what was queued is there", rows(), COMMITTER_QUEUE_MAX);
	CHECK_INT("the dropped are still missed", status().dropped, MORE + 2);
	CHECK_INT("and keep their slots", slots_taken(), MORE + 1);

	/* A reindex began here; while it runs, two more are dropped. */
	break_ledger();
	for (uint64_t i = 0; i < COMMITTER_QUEUE_MAX; i++)
		CHECK_INT("put", push_put(i), 0);
	CHECK_INT("it fails again", committer_flush(committer, 20000), -EROFS);
	CHECK_INT("put", push_put(200001), 0);
	CHECK_INT("put", push_put(200002), 0);
	heal_ledger();
	flush();
	committer_forget_dropped(committer, s.dropped);
	CHECK_INT("what was dropped since is not forgotten", status().dropped, 2);
	CHECK_INT("nor its slots", slots_taken(), 2);
	committer_forget_dropped(committer, 1);
	CHECK_INT("in their order", status().dropped, 1);
	CHECK_INT("with their slots", slots_taken(), 1);
	committer_forget_dropped(committer, UINT64_MAX);
	CHECK_INT("nothing is missing", status().dropped, 0);
	CHECK_INT("all slots are free", slots_taken(), 0);
	CHECK_INT("put", push_put(5), 0);
	flush();
}

static void *push_many(void *arg)
{
	for (uint64_t i = 0; i < 4000; i++)
		if (push_put((uintptr_t)arg * 100000 + i) < 0)
			return (void *)1;
	return NULL;
}

/* More than the queue holds, from many threads, while the ledger is slow but well: pushers wait. */
static void test_full_queue_waits(void **state)
{
	pthread_t threads[6];
	void *failed;

	CHECK_INT("the ledger is held", ledger_begin(ledger), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, push_many, (void *)(i + 1)), 0);
	for (int i = 0; status().queued < COMMITTER_QUEUE_MAX && i < 10000; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	CHECK_INT("the queue is full", status().queued, COMMITTER_QUEUE_MAX);
	CHECK_INT("a flush has its time", committer_flush(committer, 50), -ETIMEDOUT);
	ledger_rollback(ledger);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		CHECK("no push fails", !failed);
	}
	flush();
	CHECK_INT("all are there", rows(), 6 * 4000);
	CHECK_INT("none was dropped", status().dropped, 0);
	CHECK_INT("no slot is left", slots_taken(), 0);
}

static void *push_one_more(void *arg)
{
	CHECK_INT("put", push_put(777777), 0);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

/* Who waits when the ledger begins to fail does not wait for ever. */
static void test_waiting_pusher_is_let_go(void **state)
{
	atomic_bool done = false;
	pthread_t thread;

	CHECK_INT("the ledger is held", ledger_begin(ledger), 0);
	for (uint64_t i = 0; i < COMMITTER_QUEUE_MAX; i++)
		CHECK_INT("put", push_put(i), 0);
	assert_int_equal(pthread_create(&thread, NULL, push_one_more, &done), 0);
	nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000000 }, NULL);
	CHECK("it waits", !atomic_load(&done));
	break_ledger();
	ledger_rollback(ledger);
	assert_int_equal(pthread_join(thread, NULL), 0);
	CHECK_INT("it goes, and is counted", status().dropped, 1);
	heal_ledger();
	flush();
}

static void test_invalid_event_blocks_nobody(void **state)
{
	struct ledger_row bad = { .key = key_of(1), .path = "/absolute" };
	journal_slot slot;

	assert_int_equal(journal_add(journal, &bad.key, "x", &slot), 0);
	CHECK_INT("put", committer_put(committer, &bad, slot), 0);
	CHECK_INT("put", push_put(2), 0);
	flush();
	CHECK_INT("the other is there", rows(), 1);
	CHECK_INT("the bad one is counted", status().dropped, 1);
	CHECK_INT("and keeps its slot", slots_taken(), 1);
	CHECK_INT("one was written", status().written, 1);
}

static void test_stop_gives_up_on_a_failing_ledger(void **state)
{
	struct timespec before, after;

	break_ledger();
	for (uint64_t i = 0; i < 5; i++)
		CHECK_INT("put", push_put(i), 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	committer_stop(committer);
	clock_gettime(CLOCK_MONOTONIC, &after);
	committer = NULL;
	CHECK("it does not wait for a back-off", after.tv_sec - before.tv_sec < 5);
	CHECK_INT("the journal has them for the next start", slots_taken(), 5);
	heal_ledger();
	CHECK_INT("the ledger has not", rows(), 0);
}

/* A killed daemon: every file that was pushed is in the ledger, or still in the journal. */
static int note_key(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
		    const char *path, const struct lock_record *rec)
{
	uint64_t n;

	memcpy(&n, key->bytes, sizeof(n));
	((bool *)arg)[n] = state == JOURNAL_LOCKED;
	return 0;
}

static void test_kill(void **state)
{
	enum { MAX = 200000 };
	static bool seen[MAX];

	for (int round = 0; round < 5; round++) {
		uint64_t n = 0, said = 0;
		int fds[2], wait_status;
		pid_t pid;

		tear_down(state);
		dir = temp_dir_make();
		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (pid == 0) {
			if (ledger_open(dir, LEDGER_CREATE, NULL, &ledger) < 0 || journal_open(dir, &journal) < 0 ||
			    committer_start(ledger, journal, &committer) < 0)
				_exit(1);
			for (; n < MAX; n++)
				if (push_put(n) < 0 || write(fds[1], &n, sizeof(n)) != sizeof(n))
					_exit(1);
			pause();
		}
		close(fds[1]);
		while (said < 1000 + (uint64_t)round * 500)
			assert_int_equal(read(fds[0], &said, sizeof(said)), sizeof(said));
		assert_int_equal(kill(pid, SIGKILL), 0);
		while (read(fds[0], &n, sizeof(n)) == sizeof(n))
			said = n;
		assert_int_equal(waitpid(pid, &wait_status, 0), pid);
		CHECK("it was killed", WIFSIGNALED(wait_status));
		close(fds[0]);
		CHECK_INT("the ledger opens", ledger_open(dir, 0, NULL, &ledger), 0);
		CHECK_INT("the journal, too", journal_open(dir, &journal), 0);
		memset(seen, 0, sizeof(seen));
		CHECK_INT("the journal", journal_each(journal, note_key, seen), 0);
		for (n = 0; n <= said; n++) {
			struct file_key key = key_of(n);

			if (!seen[n])
				CHECK_INT("a file is in the journal or in the ledger", ledger_find(ledger, &key, NULL, NULL), 0);
		}
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_carries_over),
		TEST(test_takes_no_signals),
		TEST(test_keeps_order),
		TEST(test_stop_carries_the_rest),
		TEST(test_failing_ledger_is_tried_again),
		TEST(test_heals_by_itself),
		TEST(test_full_disk),
		TEST(test_full_queue_drops_and_counts),
		TEST(test_full_queue_waits),
		TEST(test_waiting_pusher_is_let_go),
		TEST(test_invalid_event_blocks_nobody),
		TEST(test_stop_gives_up_on_a_failing_ledger),
		TEST(test_kill),
	};

	return cmocka_run_group_tests_name("committer", tests, NULL, NULL);
}
