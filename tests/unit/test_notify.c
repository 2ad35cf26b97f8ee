/* The event stream of a cluster, as it may come: in any pieces, with any line ending, and broken. */
#include "tests/unit/unit.h"

#include "lockstore/upstream/notify.h"

static char seen[65536];
static int answer;

static int on_event(void *arg, const struct notify_event *event)
{
	size_t len = strlen(seen);

	snprintf(seen + len, sizeof(seen) - len, "%d:%s;", event->kind, event->path);
	return answer;
}

static int feed(const char *text, size_t piece)
{
	struct notify *notify;
	size_t len = strlen(text);
	int r = 0;

	seen[0] = '\0';
	assert_int_equal(notify_open(on_event, NULL, &notify), 0);
	for (size_t at = 0; at < len && r == 0; at += piece)
		r = notify_feed(notify, text + at, len - at < piece ? len - at : piece);
	if (r == -EBADMSG)
		CHECK("what is wrong is said", *notify_error(notify));
	notify_close(notify);
	return r;
}

static void test_events_come_out_however_the_stream_is_cut(void **state)
{
	static const struct { const char *promise, *stream, *want; int error; } cases[] = {
		{ "a file that was added", "data: [{\"type\":\"child_file_added\",\"path\":\"a/b\",\"spine\":[\"2\",\"3\"],\"stream_name\":null}]\n\n", "0:a/b;", 0 },
		{ "a file that was moved here", "data:[{\"type\":\"child_file_moved_to\",\"path\":\"/x/\"}]\n\n", "0:x;", 0 },
		{ "comments are no events", ": watching\n\n: keepalive\n\n", "", 0 },
		{ "several in one list", "data: [{\"type\":\"child_data_written\",\"path\":\"a\"},{\"type\":\"child_dir_moved_to\",\"path\":\"d\"}]\n\n", "1:a;3:d;", 0 },
		{ "CR, and CRLF", "data: [{\"type\":\"self_removed\"}]\r\rdata: [{\"type\":\"child_file_removed\",\"path\":\"q\"}]\r\n\r\n", "5:;2:q;", 0 },
		{ "a list over two data lines", "data: [{\"type\":\"child_file_added\",\ndata: \"path\":\"a\"}]\n\n", "0:a;", 0 },
		{ "two lists without an empty line", "data: [{\"type\":\"child_file_added\",\"path\":\"a\"}]\ndata: [{\"type\":\"child_file_added\",\"path\":\"b\"}]\n\n", "0:a;0:b;", 0 },
		{ "other fields, an unknown type", "id: 7\nevent: x\nretry: 5\ndata: [{\"type\":\"child_new_thing\",\"path\":\"a\"}]\n\n", "6:a;", 0 },
		{ "an empty list, empty data", "data: []\n\ndata:\n\ndata\n\n", "", 0 },
		{ "a mark of byte order", "\xef\xbb\xbf" "data: [{\"type\":\"child_file_added\",\"path\":\"a\"}]\n\n", "0:a;", 0 },
		{ "names with escapes", "data: [{\"type\":\"child_file_added\",\"path\":\"a\\n\\u00e4\"}]\n\n", "0:a\n\xc3\xa4;", 0 },
		{ "an event without its end is none yet", "data: [{\"type\":\"child_file_added\",\"path\":\"a\"}]\n", "", 0 },
		{ "a server that gives up", "data: {\"error_class\":\"fs_watcher_missed_events_error\"}\n\n", "", -EBADMSG },
		{ "a server that gives up without a word", "data: {\"error_class\":\"\"}\r\n\r\n", "", -EBADMSG },
		{ "no JSON", "data: hello\n\n", "", -EBADMSG },
		{ "a name with a NUL", "data: [{\"type\":\"child_file_added\",\"path\":\"a\\u0000b\"}]\n\n", "", -EBADMSG },
		{ "no type", "data: [{\"path\":\"a\"}]\n\n", "", -EBADMSG },
		{ "no object", "data: [1]\n\n", "", -EBADMSG },
	};
	static const size_t pieces[] = { 1, 2, 7, 100000 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t k = 0; k < ARRAY_SIZE(pieces); k++) {
			CHECK_INT(cases[i].promise, feed(cases[i].stream, pieces[k]), cases[i].error);
			CHECK_STR(cases[i].promise, seen, cases[i].want);
		}
}

static void test_an_event_without_end_is_not_gathered_for_ever(void **state)
{
	struct notify *notify;
	char piece[4096];
	int r = 0, n = 0;

	memset(piece, 'x', sizeof(piece));
	assert_int_equal(notify_open(on_event, NULL, &notify), 0);
	for (; r == 0 && n < 10000; n++)
		r = notify_feed(notify, piece, sizeof(piece));
	CHECK_INT("a line without end", r, -E2BIG);
	CHECK_INT("is given up at its bound", n, NOTIFY_EVENT_MAX_BYTES / (int)sizeof(piece) + 1);
	CHECK("and it is said", strstr(notify_error(notify), "bytes") != NULL);
	notify_restart(notify);
	for (r = 0, n = 0; r == 0 && n < 100000; n++)
		r = notify_feed(notify, "data: 1234567890\n", 17);
	CHECK_INT("lines without end", r, -E2BIG);
	notify_restart(notify);
	seen[0] = '\0';
	CHECK_INT("a new stream is read", notify_feed(notify, "data: [{\"type\":\"self_removed\"}]\n\n", 33), 0);
	CHECK_STR("from its beginning", seen, "5:;");
	notify_close(notify);
}

static void test_the_first_line_says_that_nothing_is_missed_any_more(void **state)
{
	struct notify *notify;

	assert_int_equal(notify_open(on_event, NULL, &notify), 0);
	CHECK_INT("half a line", notify_feed(notify, ": watch", 7), 0);
	CHECK("is none", !notify_is_registered(notify));
	CHECK_INT("its end", notify_feed(notify, "ing\n", 4), 0);
	CHECK("registered", notify_is_registered(notify));
	notify_restart(notify);
	CHECK("not in the next stream", !notify_is_registered(notify));
	answer = -ENOSPC;
	CHECK_INT("who gets an event may end it", notify_feed(notify, "data: [{\"type\":\"self_removed\"},{\"type\":\"self_removed\"}]\n\n", 57), -ENOSPC);
	answer = 0;
	notify_close(notify);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_come_out_however_the_stream_is_cut),
		cmocka_unit_test(test_an_event_without_end_is_not_gathered_for_ever),
		cmocka_unit_test(test_the_first_line_says_that_nothing_is_missed_any_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
