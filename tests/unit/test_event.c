/* An event: its compact form, its line of JSON, and what BeeGFS's two protocols make of it, byte for byte. */
#include "unit.h"

#include <jansson.h>

#include "lockstore/events/beegfs.h"
#include "lockstore/events/event_json.h"
#include "lockstore/retention.h"

static struct event_text text(const char *s)
{
	return event_text(s, strlen(s));
}

/* The rename of /a to /b that BeeGFS 7.4.7's own listener was shown. */
static struct event rename_event(void)
{
	return (struct event){
		.type = EVENT_RENAME, .has = EVENT_HAS_NODE | EVENT_HAS_PARENT | EVENT_HAS_TARGET_PARENT | EVENT_HAS_PATH | EVENT_HAS_TARGET |
		EVENT_HAS_ACTOR | EVENT_HAS_NLINK, .node = { 0, 0x5A9EB0A7, 0 }, .parent = { 1, 0, 0 }, .target_parent = { 1, 0, 0 },
		.path = text("a"), .target = text("b"), .actor = { 1000, 100, 42 }, .nlink = 1, .time_ns = 0x1122334455667788, .seq = 7, .msn = 5,
	};
}

/* 80 as a hexadecimal dump of 40 bytes. */
static size_t unhex(const char *hex, unsigned char *out)
{
	size_t n = 0;
	unsigned byte;

	for (; hex[2 * n]; n++) {
		assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
		out[n] = byte;
	}
	return n;
}

static const char golden7[] =
	"010000004d000000000000000000000000000000000000000b0000000c000000"
	"302d35413945423041372d310004000000726f6f7400020000002f6100020000"
	"002f620004000000726f6f7400";

static const char golden8[] =
	"086576656e7473000500000000000000" "4f00"		/* message 5, 79 bytes */
	"0200" "00000000" "0100000000000000" "0c000000"		/* format 2, no flags, one link, rename */
	"0c000000302d35413945423041372d3100" "04000000726f6f7400" "020000002f6100" "020000002f6200" "04000000726f6f7400"
	"e8030000" "8877665544332211";				/* uid 1000, the time */

static void test_golden_packets(void **state)
{
	unsigned char want[256], got[256];
	struct event ev = rename_event();
	struct beegfs8_packet message = { .kind = BEEGFS8_SEND_MESSAGE, .msn = 5 }, back8;
	struct beegfs7_packet back7;
	size_t want_len, len;

	want_len = unhex(golden7, want);
	assert_int_equal(beegfs7_encode(&ev, 0, 0, got, sizeof(got), &len), 0);
	assert_int_equal(len, 77);
	assert_int_equal(len, want_len);
	assert_memory_equal(got, want, len);
	assert_int_equal(beegfs7_size(&ev), 77);
	assert_int_equal(beegfs7_decode(got, len, &back7), 0);
	CHECK_STR("the name of the type", beegfs7_type_name(back7.type), "Rename");
	assert_int_equal(back7.texts.path.len, 2);
	assert_memory_equal(back7.texts.path.bytes, "/a", 3);
	assert_memory_equal(back7.texts.target_parent_id.bytes, "root", 5);

	want_len = unhex(golden8, want);
	assert_int_equal(beegfs8_encode(&message, &ev, got, sizeof(got), &len), 0);
	assert_int_equal(len, 18 + 79);
	assert_int_equal(len, want_len);
	assert_memory_equal(got, want, len);
	assert_int_equal(beegfs8_decode(got, len, &back8), 0);
	assert_int_equal(back8.kind, BEEGFS8_SEND_MESSAGE);
	assert_int_equal(back8.msn, 5);
	assert_int_equal(back8.event.uid, 1000);
	assert_true(back8.event.time_ns == 0x1122334455667788);
	CHECK_STR("the name of the type", beegfs8_type_name(back8.event.type), "Rename");
}

static void test_golden_frames(void **state)
{
	static const struct {
		const char *what, *hex;
		struct beegfs8_packet packet;
	} cases[] = {
		{ "handshake request", "016576656e74730002000000", { .kind = BEEGFS8_HANDSHAKE_REQUEST, .major = 2 } },
		{ "handshake response", "026576656e747300020000000100000000" "00",
		  { .kind = BEEGFS8_HANDSHAKE_RESPONSE, .major = 2, .node = 1 } },
		{ "request newest", "036576656e747300", { .kind = BEEGFS8_REQUEST_NEWEST } },
		{ "newest", "046576656e7473000900000000000000", { .kind = BEEGFS8_SEND_NEWEST, .msn = 9 } },
		{ "request range", "056576656e747300", { .kind = BEEGFS8_REQUEST_RANGE } },
		{ "range", "066576656e74730009000000000000000300000000000000", { .kind = BEEGFS8_SEND_RANGE, .msn = 9, .oldest = 3 } },
		{ "stream start", "076576656e7473000300000000000000", { .kind = BEEGFS8_STREAM_START, .msn = 3 } },
		{ "close request", "096576656e747300", { .kind = BEEGFS8_CLOSE_REQUEST } },
		{ "close", "0a6576656e74730003", { .kind = BEEGFS8_SEND_CLOSE, .reason = BEEGFS8_PROTOCOL_ERROR } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned char want[64], got[64];
		struct beegfs8_packet back;
		size_t want_len = unhex(cases[i].hex, want), len;

		CHECK_INT(cases[i].what, beegfs8_encode(&cases[i].packet, NULL, got, sizeof(got), &len), 0);
		CHECK_INT(cases[i].what, len, want_len);
		CHECK(cases[i].what, memcmp(got, want, len) == 0);
		CHECK_INT(cases[i].what, beegfs8_decode(got, len, &back), 0);
		CHECK_INT(cases[i].what, back.kind, cases[i].packet.kind);
		CHECK_INT(cases[i].what, back.msn, cases[i].packet.msn);
		CHECK_INT(cases[i].what, back.oldest, cases[i].packet.oldest);
		CHECK_INT(cases[i].what, back.reason, cases[i].packet.reason);
		CHECK_INT(cases[i].what, beegfs8_decode(got, len - 1, &back), -EBADMSG);
		CHECK_INT(cases[i].what, beegfs8_encode(&cases[i].packet, NULL, got, len - 1, &len), -EMSGSIZE);
	}
}

static void test_smallest_packets(void **state)
{
	struct event ev = { .type = EVENT_FLUSH };
	struct beegfs8_packet message = { .kind = BEEGFS8_SEND_MESSAGE };
	char buf[128];
	size_t len;

	assert_int_equal(beegfs7_encode(&ev, 0, 0, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, 53);
	assert_int_equal(beegfs8_encode(&message, &ev, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, 18 + 55);
}

static void test_what_beegfs_is_told(void **state)
{
	static const struct {
		const char *what;
		enum event_type type;
		unsigned flags;
		bool failed;
		int v7, v8;
	} cases[] = {
		{ "flush", EVENT_FLUSH, 0, false, 0, 1 },
		{ "rename", EVENT_RENAME, 0, false, 11, 12 },
		{ "reading has a number of its own in 7", EVENT_OPEN_READ, 0, false, 12, 13 },
		{ "writing opens are new in 8", EVENT_OPEN_READ_WRITE, 0, false, -1, 15 },
		{ "the last writer is any writer in 7", EVENT_LAST_WRITER_CLOSED, 0, false, 3, 16 },
		{ "an ACL is an attribute", EVENT_ACL_SET, 0, false, 2, 3 },
		{ "a lock is nobody's business", EVENT_COMMITTED, 0, false, -1, -1 },
		{ "a gap shows by the numbers", EVENT_GAP, 0, false, -1, -1 },
		{ "what failed did not happen", EVENT_UNLINK, 0, true, -1, -1 },
		{ "nor what was refused", EVENT_UNLINK, EVENT_REFUSED, true, -1, -1 },
		{ "but a refused open is blocked", EVENT_OPEN_WRITE, EVENT_REFUSED, true, -1, 17 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(cases[i].what, event_beegfs7(cases[i].type, cases[i].flags, cases[i].failed), cases[i].v7);
		CHECK_INT(cases[i].what, event_beegfs8(cases[i].type, cases[i].flags, cases[i].failed), cases[i].v8);
	}
	for (unsigned type = 1; type < EVENT_TYPES; type++)
		if (event_type_name(type))
			CHECK_INT(event_type_name(type), event_type_parse(event_type_name(type)), type);
	assert_int_equal(event_type_parse("Nothing"), 0);
}

static struct event full_event(void)
{
	return (struct event){
		.type = EVENT_SETATTR, .flags = EVENT_REFUSED, .has = EVENT_HAS_ALL, .time_ns = 1, .node = { 1, 2, 3 }, .parent = { 4, 5, 6 },
		.target_parent = { 7, 8, 9 }, .nlink = 10, .mode = 0100644, .size_before = 11, .size = 12, .mtime_ns = -13,
		.actor = { 14, 15, 16 }, .open_flags = 17, .error = EPERM, .until_before_s = RETENTION_UNSPECIFIED,
		.until_s = RETENTION_INFINITE, .state = { EVENT_STATE_OPEN, EVENT_STATE_RETAINED }, .serial = 18, .lost = 19,
		.owner = { 20, 21 }, .quota = { EVENT_QUOTA_USER, EVENT_QUOTA_BYTES_HARD, { 0 }, 22, 23, 24, 25, 26, 27 }, .comm = text("cp"), .path = text("p"), .target = text(""), .detail = text("d"),
	};
}

static void test_compact_form(void **state)
{
	struct event ev = full_event(), back;
	char buf[EVENT_BYTES_MAX];
	size_t len = event_size(&ev);

	event_encode(&ev, buf);
	assert_int_equal(event_decode(buf, len, &back), 0);
	assert_true(back.node.generation == 2 && back.target_parent.dev == 9 && back.mtime_ns == -13 && back.actor.pid == 16);
	assert_true(back.until_s == RETENTION_INFINITE && back.state.after == EVENT_STATE_RETAINED && back.lost == 19 && back.owner.gid == 21);
	assert_true(back.comm.len == 2 && back.detail.len == 1 && *back.detail.bytes == 'd' && back.target.len == 0);
	for (size_t cut = 0; cut < len; cut++)
		assert_true(event_decode(buf, cut, &back) < 0);
	assert_int_equal(event_decode(buf, len + 1, &back), -EBADMSG);
	buf[7] |= 0x80;		/* a field of the future */
	assert_int_equal(event_decode(buf, len, &back), -EPROTO);
}

/* Parsed by somebody else's parser, who rejects what is not valid. */
static json_t *line_of(const struct event *ev)
{
	static char line[EVENT_JSON_MAX];
	struct event_counts counts = { 3, 4 };
	struct event_json json = { 0 };
	size_t len = event_json_format(&json, ev, &counts, line);
	json_error_t error;
	json_t *root;

	assert_true(len > 0 && len <= EVENT_JSON_MAX && line[len - 1] == '\n');
	assert_null(memchr(line, '\n', len - 1));
	root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		fail_msg("%s in %.*s", error.text, (int)len, line);
	return root;
}

static const char *event_string(json_t *root, const char *key)
{
	return json_string_value(json_object_get(json_object_get(root, "Event"), key));
}

static void test_json_line(void **state)
{
	struct event ev = rename_event();
	json_t *root = line_of(&ev);

	assert_int_equal(json_integer_value(json_object_get(root, "PacketSize")), 77);
	assert_int_equal(json_integer_value(json_object_get(root, "Dropped")), 3);
	assert_int_equal(json_integer_value(json_object_get(root, "Missed")), 4);
	assert_int_equal(json_integer_value(json_object_get(root, "Seq")), 7);
	assert_string_equal(event_string(root, "Type"), "Rename");
	assert_string_equal(event_string(root, "Path"), "/a");
	assert_string_equal(event_string(root, "EntryId"), "0-5A9EB0A7-1");
	assert_string_equal(event_string(root, "ParentEntryId"), "root");
	assert_string_equal(event_string(root, "TargetPath"), "/b");
	assert_string_equal(event_string(root, "TargetParentId"), "root");
	assert_string_equal(json_string_value(json_object_get(root, "Time")), "2009-02-14T10:00:16.436508552Z");
	json_decref(root);
	ev = full_event();
	root = line_of(&ev);
	assert_string_equal(event_string(root, "Until"), "infinite");
	assert_string_equal(event_string(root, "UntilBefore"), "unspecified");
	assert_string_equal(event_string(root, "State"), "retained");
	assert_string_equal(event_string(root, "Error"), "EPERM");
	assert_true(json_is_true(json_object_get(json_object_get(root, "Event"), "Refused")));
	json_decref(root);
}

static void test_any_name_is_valid_json(void **state)
{
	static const struct {
		const char *name, *path, *base64;
	} cases[] = {
		{ "a\nb", "/a\nb", NULL },
		{ "say \"hi\"\\", "/say \"hi\"\\", NULL },
		{ "\x01\x1f\x7f\t", "/\x01\x1f\x7f\t", NULL },
		{ "gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80", "/gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80", NULL },
		{ "\xff", "/\xef\xbf\xbd", "L/8=" },
		{ "\xc0\xaf", "/\xef\xbf\xbd\xef\xbf\xbd", "L8Cv" },		/* overlong '/' */
		{ "\xed\xa0\x80", "/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "L+2ggA==" },	/* a surrogate */
		{ "\xf4\x90\x80\x80z", "/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz", "L/SQgIB6" },	/* above U+10FFFF */
		{ "caf\xe9", "/caf\xef\xbf\xbd", "L2NhZuk=" },	/* Latin-1; a character that is cut short */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct event ev = { .type = EVENT_CREATE, .has = EVENT_HAS_PATH, .path = text(cases[i].name) };
		json_t *root = line_of(&ev);

		CHECK_STR(cases[i].path, event_string(root, "Path"), cases[i].path);
		if (cases[i].base64)
			CHECK_STR("the exact bytes", event_string(root, "PathBase64"), cases[i].base64);
		else
			CHECK("no twin where none is needed", !event_string(root, "PathBase64"));
		json_decref(root);
	}
}

static void test_the_longest_line_fits(void **state)
{
	static char path[EVENT_PATH_MAX], detail[EVENT_DETAIL_MAX], comm[EVENT_COMM_MAX];
	struct event ev = full_event();

	for (int byte = 1; byte < 256; byte += 0xfe) {	/* six bytes each; and three, and the twin */
		memset(path, byte, sizeof(path));
		memset(detail, byte, sizeof(detail));
		memset(comm, byte, sizeof(comm));
		ev.path = ev.target = event_text(path, sizeof(path));
		ev.detail = event_text(detail, sizeof(detail));
		ev.comm = event_text(comm, sizeof(comm));
		assert_true(event_size(&ev) <= EVENT_BYTES_MAX);
		json_decref(line_of(&ev));
		assert_true(beegfs7_size(&ev) <= BEEGFS_PACKET_MAX);
	}
}

static void test_a_quota_is_said_with_whose_and_what(void **state)
{
	struct event ev = full_event(), back;
	char buf[EVENT_BYTES_MAX];
	json_t *line, *in;

	ev.type = EVENT_QUOTA;
	event_encode(&ev, buf);
	assert_int_equal(event_decode(buf, event_size(&ev), &back), 0);
	assert_memory_equal(&back.quota, &ev.quota, sizeof(ev.quota));
	line = line_of(&back);
	in = json_object_get(line, "Event");
	assert_string_equal(json_string_value(json_object_get(in, "Type")), "Quota");
	assert_string_equal(json_string_value(json_object_get(in, "Quota")), "user");
	assert_string_equal(json_string_value(json_object_get(in, "Warning")), "bytes-hard");
	assert_int_equal(json_integer_value(json_object_get(in, "DeviceMajor")), 22);
	assert_int_equal(json_integer_value(json_object_get(in, "DeviceMinor")), 23);
	assert_int_equal(json_integer_value(json_object_get(in, "Count")), 24);
	assert_int_equal(json_integer_value(json_object_get(in, "QuotaId")), 25);
	json_decref(line);
	ev.quota.kind = ev.quota.warning = 255;		/* a ring may say anything */
	line = line_of(&ev);
	assert_string_equal(json_string_value(json_object_get(json_object_get(line, "Event"), "Quota")), "");
	json_decref(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_packets), cmocka_unit_test(test_golden_frames), cmocka_unit_test(test_smallest_packets),
		cmocka_unit_test(test_what_beegfs_is_told), cmocka_unit_test(test_compact_form), cmocka_unit_test(test_json_line),
		cmocka_unit_test(test_any_name_is_valid_json), cmocka_unit_test(test_the_longest_line_fits),
		cmocka_unit_test(test_a_quota_is_said_with_whose_and_what),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
