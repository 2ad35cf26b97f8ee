/* The clock of its own: what setting the system's date gains (T31), and what is left of its state after an accident. */
#include "tests/unit/unit.h"

#include <time.h>

#include "lockstore/own_clock.h"
#include "lockstore/record.h"

#define NS INT64_C(1000000000)
#define T0 INT64_C(1800000000)		/* when each test begins, by the system's date */
#define DAY 86400
#define YEAR (365 * DAY)

static char *dir;
static struct record_key *key;

/* The machine: a date that anybody may set, a boottime that nobody may, and the name of this boot. */
static struct {
	int64_t wall_ns, boot_ns;
	unsigned boot;
} machine;

static int64_t wall_ns(void *arg)
{
	return machine.wall_ns;
}

static int64_t boot_ns(void *arg)
{
	return machine.boot_ns;
}

static void boot_id(void *arg, char ret_boot_id[OWN_CLOCK_BOOT_ID_BYTES])
{
	memset(ret_boot_id, 0, OWN_CLOCK_BOOT_ID_BYTES);
	snprintf(ret_boot_id, OWN_CLOCK_BOOT_ID_BYTES, "boot-%u", machine.boot);
}

static const struct own_clock_seam seam = { .wall_ns = wall_ns, .boot_ns = boot_ns, .boot_id = boot_id };

static int set_up(void **state)
{
	dir = temp_dir_make();
	machine.wall_ns = T0 * NS;
	machine.boot_ns = 1000 * NS;
	machine.boot = 1;
	return record_key_open(path_in(dir, "key"), true, &key);
}

static int tear_down(void **state)
{
	record_key_close(key);
	temp_dir_remove(dir);
	return 0;
}

static void pass(int64_t s)
{
	machine.wall_ns += s * NS;
	machine.boot_ns += s * NS;
}

/* As the daemon does while it runs, in steps of a minute; for long times of a few hours. */
static void run(struct own_clock *clock, int64_t s)
{
	int64_t step_s = s > 7200 ? 4 * 3600 : 60;
	bool written;

	for (; s > 0; s -= step_s) {
		pass(s < step_s ? s : step_s);
		CHECK_INT("a tick", own_clock_tick(clock, &written), 0);
	}
}

/* A daemon that is killed, or a machine without power: nothing more is written. */
static void end_at_once(struct own_clock *clock)
{
	const char *path = path_in(dir, OWN_CLOCK_FILE);
	char bytes[8192];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, bytes, sizeof(bytes));

	assert_true(n > 0);
	close(fd);
	own_clock_close(clock);
	write_file(path, bytes, n);
}

static enum own_clock_start started;

static struct own_clock *start(int64_t floor_s)
{
	struct own_clock *clock;

	CHECK_INT("the clock opens", own_clock_open(dir, key, floor_s, &seam, &clock, &started), 0);
	return clock;
}

static void reboot(int64_t off_s)
{
	machine.boot++;
	machine.boot_ns = 5 * NS;
	machine.wall_ns += off_s * NS;
}

static struct own_clock_status status_of(struct own_clock *clock)
{
	struct own_clock_status status;

	own_clock_status(clock, &status);
	return status;
}

static void test_it_begins_with_the_systems_date_and_goes_on_with_it(void **state)
{
	struct own_clock *clock = start(0);

	CHECK_INT("first", started, OWN_CLOCK_FIRST);
	CHECK_INT("now", own_clock_now_s(clock), T0);
	run(clock, 3600);
	CHECK_INT("an hour later", own_clock_now_s(clock), T0 + 3600);
	own_clock_close(clock);
	pass(100);
	clock = start(0);
	CHECK_INT("a daemon later, in the same boot", started, OWN_CLOCK_SAME_BOOT);
	CHECK_INT("no second is lost", own_clock_now_s(clock), T0 + 3700);
	own_clock_close(clock);
	reboot(7200);
	clock = start(0);
	CHECK_INT("after a boot", started, OWN_CLOCK_NEW_BOOT);
	CHECK_INT("the time that it was off has passed", own_clock_now_s(clock), T0 + 3700 + 7200);
	CHECK("all is well", !status_of(clock).skewed);
	own_clock_close(clock);
}

static void test_T31_ten_years_forward_in_the_same_boot_gain_a_day(void **state)
{
	struct own_clock *clock = start(0);

	run(clock, 3600);
	machine.wall_ns += 10 * YEAR * NS;
	CHECK_INT("nothing at once", own_clock_now_s(clock), T0 + 3600);
	run(clock, 60);
	CHECK("a day at most", own_clock_now_s(clock) <= T0 + 3660 + OWN_CLOCK_BUDGET_S);
	CHECK("and it says so", status_of(clock).skewed);
	run(clock, 30 * DAY);
	CHECK("after a month a day and 138 s an hour", own_clock_now_s(clock) <= T0 + 3660 + 30 * DAY + OWN_CLOCK_BUDGET_S + 30 * 24 * 138 + 1);
	CHECK("which it does gain", own_clock_now_s(clock) > T0 + 30 * DAY + OWN_CLOCK_BUDGET_S);
	own_clock_close(clock);
	clock = start(0);
	CHECK("a daemon that is started again gains nothing", own_clock_now_s(clock) <= T0 + 3660 + 30 * DAY + OWN_CLOCK_BUDGET_S + 30 * 24 * 138 + 60);
	own_clock_close(clock);
}

static void test_T31_ten_years_forward_across_a_boot_gain_a_day(void **state)
{
	struct own_clock *clock = start(0);

	run(clock, 3600);
	own_clock_close(clock);
	reboot(10 * YEAR);
	clock = start(0);
	CHECK_INT("a day", own_clock_now_s(clock), T0 + 3600 + OWN_CLOCK_BUDGET_S);
	CHECK("and it says so", status_of(clock).skewed);
	CHECK_INT("what is not believed is remembered", status_of(clock).behind_s, 10 * YEAR - OWN_CLOCK_BUDGET_S);
	CHECK_INT("nothing is left to believe", status_of(clock).budget_s, 0);
	own_clock_close(clock);
	reboot(10 * YEAR);
	clock = start(0);
	CHECK("the next boot gains nothing", own_clock_now_s(clock) < T0 + 3600 + OWN_CLOCK_BUDGET_S + 60);
	/* Set right again: the clock does not run after a date that is gone. */
	machine.wall_ns = own_clock_now_s(clock) * NS;
	run(clock, 10 * DAY);
	CHECK("it agrees", llabs(status_of(clock).behind_s) <= OWN_CLOCK_TOLERANCE_S && !status_of(clock).skewed);
	own_clock_close(clock);
}

static void test_T31_ten_years_back_change_nothing(void **state)
{
	struct own_clock *clock = start(0);

	run(clock, 3600);
	machine.wall_ns -= 10 * YEAR * NS;
	run(clock, 3600);
	CHECK_INT("in the same boot", own_clock_now_s(clock), T0 + 7200);
	CHECK("and it says so", status_of(clock).skewed);
	own_clock_close(clock);
	reboot(-10 * YEAR);
	clock = start(0);
	CHECK_INT("across a boot", own_clock_now_s(clock), T0 + 7200);
	own_clock_close(clock);
}

static void test_T31_a_boot_is_known_by_its_id_however_long_it_has_been_up(void **state)
{
	struct own_clock *clock = start(0);

	own_clock_close(clock);
	reboot(DAY / 2);
	machine.boot_ns += 5000 * NS;	/* more than when the clock was stored */
	machine.wall_ns += 5000 * NS;
	clock = start(0);
	CHECK_INT("another boot", started, OWN_CLOCK_NEW_BOOT);
	CHECK_INT("which has caught up", own_clock_now_s(clock), machine.wall_ns / NS);
	own_clock_close(clock);
}

static void test_T31_a_date_moved_at_every_daily_boot_gains_14_days_a_year_and_a_day(void **state)
{
	int64_t true_s = 0, first_s;
	struct own_clock *clock = start(0);

	first_s = own_clock_now_s(clock);
	for (int day = 0; day < 365; day++) {
		run(clock, DAY - 600);
		own_clock_close(clock);
		reboot(600 + 30 * DAY);		/* off for ten minutes, and a month ahead */
		true_s += DAY;
		clock = start(0);
	}
	CHECK("it gained", own_clock_now_s(clock) - first_s > true_s);
	CHECK("no more than 14 days a year and the day of the budget",
	      own_clock_now_s(clock) - first_s - true_s <= 14 * DAY + OWN_CLOCK_BUDGET_S);
	own_clock_close(clock);
}

static void test_a_machine_that_was_off_for_days_catches_up(void **state)
{
	struct own_clock *clock = start(0);

	run(clock, 600);
	own_clock_close(clock);
	reboot(3 * DAY);
	clock = start(0);
	CHECK_INT("a day is believed", status_of(clock).behind_s, 2 * DAY);
	CHECK("it says so", status_of(clock).skewed);
	run(clock, 60 * DAY);
	CHECK("in the end it agrees", !status_of(clock).skewed && status_of(clock).behind_s <= OWN_CLOCK_TOLERANCE_S);
	own_clock_close(clock);
}

static void test_it_never_goes_back(void **state)
{
	struct own_clock *clock = start(0);
	int64_t last_s = own_clock_now_s(clock), now_s;
	unsigned seed = 4711;

	for (int i = 0; i < 1000; i++) {
		int what = rand_r(&seed) % 8;

		if (what == 0)
			machine.wall_ns += (rand_r(&seed) % (20 * DAY) - 10 * DAY) * NS;
		else if (what == 1) {
			own_clock_close(clock);
			reboot(rand_r(&seed) % (2 * DAY) - DAY);
			clock = start(0);
		} else if (what == 2) {		/* the state is as old as its last write */
			end_at_once(clock);
			clock = start(0);
		} else {
			run(clock, rand_r(&seed) % 7200);
		}
		now_s = own_clock_now_s(clock);
		if (now_s < last_s)
			fail_msg("round %d of seed 4711: it went back by %lld s", i, (long long)(last_s - now_s));
		last_s = now_s;
	}
	own_clock_close(clock);
}

static void test_a_power_cut_loses_a_minute_at_most_and_the_ledger_knows_better(void **state)
{
	struct own_clock *clock = start(0);
	int64_t before_s;

	run(clock, 3600);
	pass(59);
	before_s = own_clock_now_s(clock);
	end_at_once(clock);
	reboot(-DAY);		/* and the date is set back on the way */
	clock = start(0);
	CHECK("the last minute", own_clock_now_s(clock) >= before_s - 60);
	end_at_once(clock);
	clock = start(before_s);
	CHECK_INT("or not even that", own_clock_now_s(clock), before_s);
	own_clock_close(clock);
}

static void test_accept_takes_the_date_over_once(void **state)
{
	struct own_clock *clock = start(0);
	int64_t gained_s = -1;

	CHECK_INT("nothing to accept", own_clock_accept(clock, &gained_s), -EALREADY);
	machine.wall_ns -= DAY * NS;
	CHECK_INT("it never goes back", own_clock_accept(clock, &gained_s), -EALREADY);
	CHECK_INT("the output is left alone", gained_s, -1);
	machine.wall_ns += 31 * DAY * NS;
	CHECK_INT("a month", own_clock_accept(clock, &gained_s), 0);
	CHECK_INT("gained", gained_s, 30 * DAY);
	CHECK_INT("it is the system's date", own_clock_now_s(clock), machine.wall_ns / NS);
	machine.wall_ns += YEAR * NS;
	run(clock, 60);
	CHECK("and from then on not", own_clock_now_s(clock) <= T0 + 30 * DAY + 60 + OWN_CLOCK_BUDGET_S);
	own_clock_close(clock);
}

/* ---- its state ---- */

static void damage(off_t at, size_t len)
{
	int fd = open(path_in(dir, OWN_CLOCK_FILE), O_WRONLY | O_CLOEXEC);
	char junk[256];

	memset(junk, 0x5a, sizeof(junk));
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, junk, len, at), len);
	close(fd);
}

static void test_a_torn_write_leaves_the_other_slot(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct own_clock *clock = start(0);

		run(clock, 3600);
		own_clock_close(clock);
		damage(4096 * i + 40, 30);
		clock = start(0);
		CHECK_INT("the same boot", started, OWN_CLOCK_SAME_BOOT);
		CHECK_INT("and no second lost", own_clock_now_s(clock), T0 + 3600 * (i + 1));
		own_clock_close(clock);
	}
}

static void test_a_state_that_is_lost_begins_with_what_the_ledger_knows(void **state)
{
	struct own_clock *clock = start(0);

	run(clock, 3600);
	own_clock_close(clock);
	machine.wall_ns += 10 * YEAR * NS;
	damage(0, 200);
	damage(4096, 200);
	clock = start(T0 + 3600);
	CHECK_INT("damaged", started, OWN_CLOCK_LOST);
	CHECK_INT("a day is believed", own_clock_now_s(clock), T0 + 3600 + OWN_CLOCK_BUDGET_S);
	own_clock_close(clock);
	assert_int_equal(unlink(path_in(dir, OWN_CLOCK_FILE)), 0);
	machine.wall_ns = (T0 - YEAR) * NS;
	clock = start(T0 + 7200);
	CHECK_INT("missing", started, OWN_CLOCK_LOST);
	CHECK_INT("never earlier", own_clock_now_s(clock), T0 + 7200);
	own_clock_close(clock);
}

static void test_a_state_that_another_key_vouches_for_is_none(void **state)
{
	struct own_clock *clock = start(0);

	run(clock, 600);
	own_clock_close(clock);
	record_key_close(key);
	assert_int_equal(unlink(path_in(dir, "key")), 0);
	assert_int_equal(record_key_open(path_in(dir, "key"), true, &key), 0);
	clock = start(T0 + 500);
	CHECK_INT("lost", started, OWN_CLOCK_LOST);
	own_clock_close(clock);
}

static void test_a_state_that_cannot_be_written(void **state)
{
	struct own_clock *clock = (void *)&clock;
	struct record_key *k = key;
	bool written = true;

	CHECK_INT("no directory", own_clock_open(path_in(dir, "nowhere"), k, 0, &seam, &clock, &started), -ENOENT);
	CHECK("the output is left alone", clock == (void *)&clock);
	if (!may_mount())
		return;
	assert_int_equal(mkdir(path_in(dir, "small"), 0700), 0);
	assert_int_equal(mount("none", path_in(dir, "small"), "tmpfs", 0, "size=8k"), 0);
	write_file(path_in(dir, "small/filler"), "x", 1);
	CHECK_INT("room for one slot", own_clock_open(path_in(dir, "small"), k, 0, &seam, &clock, &started), 0);
	machine.wall_ns += YEAR * NS;
	pass(60);
	CHECK_INT("and none for the other", own_clock_tick(clock, &written), -ENOSPC);
	CHECK("nothing is written", !written);
	CHECK_INT("and nothing believed that is not stored", own_clock_now_s(clock), T0 + 60);
	CHECK_INT("the state says so", status_of(clock).error, -ENOSPC);
	CHECK_INT("nor accepted", own_clock_accept(clock, &(int64_t){ 0 }), -ENOSPC);
	CHECK_INT("it stands where it stood", own_clock_now_s(clock), T0 + 60);
	assert_int_equal(unlink(path_in(dir, "small/filler")), 0);
	CHECK_INT("with room again", own_clock_tick(clock, &written), 0);
	CHECK_INT("it gains its day", own_clock_now_s(clock), T0 + 60 + OWN_CLOCK_BUDGET_S);
	own_clock_close(clock);
	assert_int_equal(umount(path_in(dir, "small")), 0);
}

static void test_the_systems_own_time(void **state)
{
	struct own_clock *clock;

	CHECK_INT("opens", own_clock_open(dir, key, 0, NULL, &clock, &started), 0);
	CHECK("it is now", llabs(own_clock_now_s(clock) - time(NULL)) <= 1);
	own_clock_close(clock);
	CHECK_INT("again", own_clock_open(dir, key, 0, NULL, &clock, &started), 0);
	CHECK_INT("within the same boot", started, OWN_CLOCK_SAME_BOOT);
	own_clock_close(clock);
	own_clock_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_it_begins_with_the_systems_date_and_goes_on_with_it),
		TEST(test_T31_ten_years_forward_in_the_same_boot_gain_a_day),
		TEST(test_T31_ten_years_forward_across_a_boot_gain_a_day),
		TEST(test_T31_ten_years_back_change_nothing),
		TEST(test_T31_a_boot_is_known_by_its_id_however_long_it_has_been_up),
		TEST(test_T31_a_date_moved_at_every_daily_boot_gains_14_days_a_year_and_a_day),
		TEST(test_a_machine_that_was_off_for_days_catches_up),
		TEST(test_it_never_goes_back),
		TEST(test_a_power_cut_loses_a_minute_at_most_and_the_ledger_knows_better),
		TEST(test_accept_takes_the_date_over_once),
		TEST(test_a_torn_write_leaves_the_other_slot),
		TEST(test_a_state_that_is_lost_begins_with_what_the_ledger_knows),
		TEST(test_a_state_that_another_key_vouches_for_is_none),
		TEST(test_a_state_that_cannot_be_written),
		TEST(test_the_systems_own_time),
	};

	return cmocka_run_group_tests_name("own clock", tests, NULL, NULL);
}
