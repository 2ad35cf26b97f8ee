/* A flood of refusals: what is counted, whom it is counted for, and that nothing of it is lost or counted twice. */
#include "tests/unit/unit.h"

#include "lockstore/audit.h"
#include "lockstore/audit_flood.h"

#define USERS 3000
#define USER 5000	/* the first of them */
#define SECOND INT64_C(1000000000)

struct sums {
	uint64_t of[USERS], of_user_and_event[USERS][2], crowd[2], all;
	unsigned lines, destroyed;
};

static struct sums sums;

static void see(void *arg, void *entry, const struct audit_flood_id *id, uint64_t count)
{
	unsigned kind = id->event == AUDIT_DENY_UNLINK;

	CHECK("a sum of none is no line", count > 0);
	sums.lines++;
	sums.all += count;
	if (id->uid == AUDIT_FLOOD_CROWD) {
		CHECK("a crowd has no entry", !entry);
		sums.crowd[kind] += count;
		return;
	}
	assert_in_range(id->uid, USER, USER + USERS - 1);
	sums.of[id->uid - USER] += count;
	sums.of_user_and_event[id->uid - USER][kind] += count;
}

static void destroy(void *entry)
{
	sums.destroyed++;
	free(entry);
}

static int set_up(void **state)
{
	memset(&sums, 0, sizeof(sums));
	*state = audit_flood_open();
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	audit_flood_close(*state, destroy);
	return 0;
}

/* As audit.c does. True: it has a line of its own. */
static bool refuse(struct audit_flood *flood, unsigned user, enum audit_event event, uint64_t file, int64_t now_ns)
{
	struct audit_flood_id id = { .file = file, .uid = USER + user, .event = event };
	bool counted;
	void *entry;

	if (audit_flood_count(flood, &id))
		return false;
	entry = malloc(1);
	assert_non_null(entry);
	if (!audit_flood_begin(flood, &id, entry, now_ns, &counted))
		free(entry);
	return !counted;
}

static void test_of_many_users_each_is_counted_for_himself_or_for_nobody(void **state)
{
	struct audit_flood *flood = *state;
	unsigned own = 0, sums_max = AUDIT_FLOOD_SLOTS + AUDIT_FLOOD_OVERFLOWS + AUDIT_EVENTS;

	for (unsigned round = 0; round < 3; round++)
		for (unsigned user = 0; user < USERS; user++)
			own += refuse(flood, user, user % 2 ? AUDIT_DENY_UNLINK : AUDIT_DENY_OPEN_WRITE, 7, 0);
	CHECK_INT("lines are bounded", own, AUDIT_FLOOD_SLOTS);
	audit_flood_sweep(flood, 0, true, see, NULL, destroy);
	CHECK("so are sums", sums.lines <= sums_max);
	CHECK_INT("none is lost, none counted twice", own + sums.all, 3 * USERS);
	for (unsigned user = 0; user < USERS; user++) {
		CHECK("nobody has more than he did", sums.of[user] <= 3);
		CHECK_INT("nor what he did not", sums.of_user_and_event[user][user % 2 == 0], 0);
	}
	CHECK_INT("the crowd", sums.crowd[0] + sums.crowd[1], 3 * (USERS - AUDIT_FLOOD_SLOTS - AUDIT_FLOOD_OVERFLOWS));
	CHECK("by what it did", sums.crowd[0] > 0 && sums.crowd[1] > 0);
	CHECK_INT("nothing is left to sweep", audit_flood_active(flood), 0);
	CHECK_INT("nor to free", sums.destroyed, AUDIT_FLOOD_SLOTS);
}

/* So that some want the same place in the table. */
static uint64_t scattered(uint64_t n)
{
	n = (n + 1) * 6364136223846793005u;
	return n ^ n >> 29;
}

static void test_who_is_still_counted_gets_no_second_line_when_others_go(void **state)
{
	struct audit_flood *flood = *state;
	int64_t half_ns = AUDIT_REPEAT_S * SECOND / 2;

	for (unsigned user = 0; user < AUDIT_FLOOD_SLOTS; user++)
		CHECK("a line", refuse(flood, user, AUDIT_DENY_UNLINK, scattered(user), user % 2 * half_ns));
	audit_flood_sweep(flood, 2 * half_ns, false, see, NULL, destroy);
	CHECK_INT("half of them were quiet for long enough", audit_flood_active(flood), AUDIT_FLOOD_SLOTS / 2);
	for (unsigned user = 1; user < AUDIT_FLOOD_SLOTS; user += 2)
		CHECK("no line for who had not", !refuse(flood, user, AUDIT_DENY_UNLINK, scattered(user), 2 * half_ns));
	for (unsigned user = 0; user < AUDIT_FLOOD_SLOTS; user += 2)
		CHECK("a line for who had", refuse(flood, user, AUDIT_DENY_UNLINK, scattered(user), 2 * half_ns));
}

static void test_sums_stay_exact_while_slots_come_and_go(void **state)
{
	struct audit_flood *flood = *state;
	uint64_t own = 0, did = 0, random = 1;
	int64_t now_ns = 0;

	for (unsigned second = 0; second < 200; second++) {
		for (unsigned i = 0; i < 300; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			own += refuse(flood, (random >> 33) % 900, AUDIT_DENY_OPEN_WRITE, random >> 60, now_ns);
			did++;
		}
		now_ns += SECOND;
		audit_flood_sweep(flood, now_ns, false, see, NULL, destroy);
	}
	audit_flood_sweep(flood, now_ns, true, see, NULL, destroy);
	CHECK_INT("none is lost, none counted twice", own + sums.all, did);
	CHECK_INT("nothing is left", audit_flood_active(flood), 0);
}

static void test_what_goes_on_is_one_sum_each_while(void **state)
{
	struct audit_flood *flood = *state;
	int64_t window = AUDIT_REPEAT_S * SECOND;

	CHECK("the first has a line", refuse(flood, 1, AUDIT_DENY_UNLINK, 7, 0));
	for (int i = 0; i < 5; i++)
		CHECK("those that follow have none", !refuse(flood, 1, AUDIT_DENY_UNLINK, 7, 0));
	audit_flood_sweep(flood, window - 1, false, see, NULL, destroy);
	CHECK_INT("not before its time", sums.lines, 0);
	audit_flood_sweep(flood, window, false, see, NULL, destroy);
	CHECK_INT("a sum", sums.of[1], 5);
	CHECK("it is counted on", !refuse(flood, 1, AUDIT_DENY_UNLINK, 7, window));
	audit_flood_sweep(flood, 2 * window, false, see, NULL, destroy);
	CHECK_INT("of what came since", sums.of[1], 6);
	audit_flood_sweep(flood, 3 * window, false, see, NULL, destroy);
	CHECK_INT("no line of nothing", sums.lines, 2);
	CHECK("when it was quiet, it has a line again", refuse(flood, 1, AUDIT_DENY_UNLINK, 7, 3 * window));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_of_many_users_each_is_counted_for_himself_or_for_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_is_still_counted_gets_no_second_line_when_others_go, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sums_stay_exact_while_slots_come_and_go, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_goes_on_is_one_sum_each_while, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("audit_flood", tests, NULL, NULL);
}
