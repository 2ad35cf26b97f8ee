/* The guard. What WORM means, said of every operation and state, so that no row of the table can be loosened by a slip: T45 of
 * worm-semantics.md shows that what it says is what happens. */
#include "tests/unit/unit.h"

#include "fs/guard.h"

static const enum guard_state locked[] = { GUARD_CLOSING, GUARD_SETTLING, GUARD_RETAINED, GUARD_EXPIRED, GUARD_APPENDABLE };
static const enum guard_op data[] = { GUARD_OPEN_WRITE, GUARD_TRUNCATE };
static const enum guard_op data_on_handle[] = { GUARD_WRITE, GUARD_FTRUNCATE, GUARD_FALLOCATE, GUARD_COPY_TO };
static const enum guard_op of_wormfs[] = { GUARD_EXTEND, GUARD_HOLD, GUARD_RELEASE };

static bool is_one_of(enum guard_op op, const enum guard_op *ops, size_t nops)
{
	for (size_t i = 0; i < nops; i++)
		if (ops[i] == op)
			return true;
	return false;
}

static void test_the_data_of_a_locked_file_does_not_change(void **state)
{
	for (size_t s = 0; s < ARRAY_SIZE(locked); s++) {
		for (size_t i = 0; i < ARRAY_SIZE(data); i++)
			CHECK_INT(guard_op_name(data[i]), guard_verdict(locked[s], data[i]), -EPERM);
		/* A writer from before the close goes on until it leaves. */
		for (size_t i = 0; i < ARRAY_SIZE(data_on_handle); i++)
			CHECK_INT(guard_op_name(data_on_handle[i]), guard_verdict(locked[s], data_on_handle[i]),
				  locked[s] == GUARD_CLOSING ? 0 : -EPERM);
		CHECK_INT("only an append-only file takes more", guard_verdict(locked[s], GUARD_OPEN_APPEND),
			  locked[s] == GUARD_APPENDABLE ? 0 : -EPERM);
	}
}

static void test_a_locked_file_keeps_its_names(void **state)
{
	for (size_t s = 0; s < ARRAY_SIZE(locked); s++) {
		CHECK_INT("unlink", guard_verdict(locked[s], GUARD_UNLINK), locked[s] == GUARD_EXPIRED ? 0 : -EPERM);
		CHECK_INT("rename", guard_verdict(locked[s], GUARD_RENAME), locked[s] == GUARD_SETTLING ? 0 : -EPERM);
		CHECK_INT("replace", guard_verdict(locked[s], GUARD_REPLACE), -EPERM);
		CHECK_INT("link", guard_verdict(locked[s], GUARD_LINK), -EPERM);
	}
	CHECK_INT("a directory above one", guard_verdict(GUARD_PINNED, GUARD_RENAME_DIR), -EPERM);
	CHECK_INT("what a hold waits for", guard_verdict(GUARD_HELD, GUARD_UNLINK), -EPERM);
	CHECK_INT("likewise by another", guard_verdict(GUARD_HELD, GUARD_REPLACE), -EPERM);
}

static void test_who_cannot_tell_refuses_all_but_reading(void **state)
{
	for (int op = 0; op < GUARD_OPS; op++)
		CHECK_INT(guard_op_name(op), guard_verdict(GUARD_UNREADABLE, op), op == GUARD_OPEN_READ ? 0 : -EIO);
}

static void test_what_is_no_state_or_operation_is_refused(void **state)
{
	CHECK_INT("a state of no name", guard_verdict(GUARD_STATES, GUARD_OPEN_READ), -EIO);
	CHECK_INT("an operation of no name", guard_verdict(GUARD_OPEN, GUARD_OPS), -EIO);
	CHECK_INT("a negative state", guard_verdict((enum guard_state)-1, GUARD_WRITE), -EIO);
	CHECK_INT("a negative operation", guard_verdict(GUARD_OPEN, (enum guard_op)-1), -EIO);
}

static void test_reading_is_never_refused_and_an_open_file_is_ordinary(void **state)
{
	for (int s = 0; s < GUARD_STATES; s++)
		CHECK_INT(guard_state_name(s), guard_verdict(s, GUARD_OPEN_READ), 0);
	for (int op = 0; op < GUARD_OPS; op++)
		CHECK_INT(guard_op_name(op), guard_verdict(GUARD_OPEN, op),
			  is_one_of(op, of_wormfs, ARRAY_SIZE(of_wormfs)) ? -EINVAL : 0);
}

/* No row may answer a success of its own: only 0, and errors that the table has names for. */
static void test_each_row_has_a_name_and_a_verdict_of_the_four(void **state)
{
	for (int op = 0; op < GUARD_OPS; op++) {
		CHECK("an operation has a name", guard_op_name(op) && *guard_op_name(op));
		for (int other = 0; other < op; other++)
			CHECK("and it is its own", strcmp(guard_op_name(op), guard_op_name(other)) != 0);
		for (int s = 0; s < GUARD_STATES; s++) {
			int verdict = guard_verdict(s, op);

			CHECK(guard_op_name(op), verdict == 0 || verdict == -EPERM || verdict == -EIO || verdict == -EINVAL);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_data_of_a_locked_file_does_not_change),
		cmocka_unit_test(test_a_locked_file_keeps_its_names),
		cmocka_unit_test(test_who_cannot_tell_refuses_all_but_reading),
		cmocka_unit_test(test_what_is_no_state_or_operation_is_refused),
		cmocka_unit_test(test_reading_is_never_refused_and_an_open_file_is_ordinary),
		cmocka_unit_test(test_each_row_has_a_name_and_a_verdict_of_the_four),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
