/* The record on the file: its bytes, its MAC, its key. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <unistd.h>

#include "lockstore/record.h"

static char *dir;

static int set_up(void **state)
{
	dir = temp_dir_make();
	return 0;
}

static int tear_down(void **state)
{
	temp_dir_remove(dir);
	return 0;
}

/* Bytes 0, 1, 2 ... 31. */
static struct record_key *open_known_key(void)
{
	const char *path = path_in(dir, "key");
	struct record_key *key = NULL;
	uint8_t bytes[RECORD_KEY_BYTES];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	write_file(path, bytes, sizeof(bytes));
	CHECK_INT("a key of 32 bytes and mode 0600 opens", record_key_open(path, false, &key), 0);
	return key;
}

static const struct lock_record sample = {
	.flags = RECORD_APPEND, .mode = WORM_COMPLIANCE, .holds = 0x0102, .rule = 0x0304,
	.committed_s = 1893456000, .until_s = INT64_C(0x1122334455667788), .serial = UINT64_C(0xfedcba9876543210),
	.size_bytes = 4096, .mtime_ns = -2,
};

static void check_same(const char *promise, const struct lock_record *a, const struct lock_record *b)
{
	CHECK(promise, a->flags == b->flags && a->mode == b->mode && a->holds == b->holds && a->rule == b->rule);
	CHECK(promise, a->committed_s == b->committed_s && a->until_s == b->until_s && a->serial == b->serial);
	CHECK(promise, a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns);
}

/* The MAC was computed by another program:
 * python3 -c 'import hmac,hashlib; b=bytes.fromhex("<bytes 0-47>");
 *             print(hmac.new(bytes(range(32)), b, hashlib.sha256).hexdigest()[:32])' */
static const uint8_t sample_bytes[RECORD_BYTES] = {
	1, 1, 1, 0, 0x02, 0x01, 0x04, 0x03,
	0x80, 0xd8, 0xdb, 0x70, 0, 0, 0, 0,
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
	0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
	0x00, 0x10, 0, 0, 0, 0, 0, 0,
	0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xf1, 0xd4, 0x7f, 0x0c, 0xe5, 0xcf, 0xfa, 0x95,
	0xd8, 0x0f, 0x41, 0x7e, 0x80, 0x68, 0xf0, 0x30,
};

static void test_layout(void **state)
{
	struct record_key *key = open_known_key();
	uint8_t bytes[RECORD_BYTES];

	CHECK_INT("a record is encoded", record_encode(key, &sample, bytes), 0);
	for (size_t i = 0; i < RECORD_BYTES; i++)
		if (bytes[i] != sample_bytes[i])
			fail_msg("byte %zu: got %02x, want %02x", i, bytes[i], sample_bytes[i]);
	record_key_close(key);
}

static void test_round_trip(void **state)
{
	static const struct lock_record cases[] = {
		{ 0 },
		{ .until_s = INT64_MIN }, { .until_s = INT64_MAX }, { .until_s = -1 },
		{ .until_s = INT64_C(1) << 31 }, { .until_s = INT64_C(1) << 32 }, { .until_s = INT64_C(3187296000) },
		{ .holds = UINT16_MAX, .rule = UINT16_MAX, .serial = UINT64_MAX, .size_bytes = UINT64_MAX },
		{ .committed_s = INT64_MIN, .mtime_ns = INT64_MIN }, { .committed_s = INT64_MAX, .mtime_ns = INT64_MAX },
		{ .mode = WORM_COMPLIANCE }, { .flags = RECORD_APPEND },
	};
	struct record_key *key = open_known_key();
	uint8_t bytes[RECORD_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lock_record rec = sample;

		CHECK_INT("encodes", record_encode(key, &cases[i], bytes), 0);
		CHECK_INT("decodes", record_decode(key, bytes, sizeof(bytes), &rec), 0);
		check_same("what is decoded is what was encoded", &rec, &cases[i]);
	}
	record_key_close(key);
}

static void test_every_changed_byte_is_seen(void **state)
{
	struct record_key *key = open_known_key();
	struct lock_record rec = sample;
	uint8_t bytes[RECORD_BYTES];

	for (size_t i = 0; i < RECORD_BYTES; i++)
		for (int bit = 0; bit < 8; bit++) {
			memcpy(bytes, sample_bytes, sizeof(bytes));
			bytes[i] ^= (uint8_t)(1 << bit);
			CHECK_INT("a flipped bit is seen", record_decode(key, bytes, sizeof(bytes), &rec), -EBADMSG);
		}
	check_same("and nothing came out", &rec, &sample);
	CHECK_INT("the unchanged one passes", record_decode(key, sample_bytes, RECORD_BYTES, &rec), 0);
	record_key_close(key);
}

static void test_wrong_length(void **state)
{
	static const size_t lengths[] = { 0, 1, 48, 63, 65, 128 };
	struct record_key *key = open_known_key();
	uint8_t bytes[128] = { 0 };
	struct lock_record rec;

	memcpy(bytes, sample_bytes, RECORD_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		CHECK_INT("no record has this length", record_decode(key, bytes, lengths[i], &rec), -EBADMSG);
	record_key_close(key);
}

/* Records of a later program, with a good MAC. Computed likewise. */
static void test_unknown_kinds(void **state)
{
	static const struct { const char *promise; size_t at; uint8_t value; uint8_t mac[16]; } cases[] = {
		{ "a newer version", 0, 2, {
			0x44, 0x1d, 0x85, 0xc9, 0x87, 0x72, 0x42, 0x37,
			0x3e, 0x58, 0x19, 0x50, 0x67, 0x7a, 0x9d, 0xcc } },
		{ "version 0", 0, 0, {
			0x54, 0xd8, 0xd2, 0xdd, 0xe4, 0x91, 0x22, 0x1c,
			0xa0, 0xc6, 0xbd, 0xb7, 0x23, 0xed, 0x19, 0xa7 } },
		{ "a settle time that we cannot read", 1, 241, {
			0x62, 0xdd, 0x78, 0x2f, 0x9d, 0x99, 0xfb, 0xc7,
			0x55, 0xa4, 0xa9, 0xde, 0xd0, 0x5a, 0x77, 0x8f } },
		{ "an unknown mode", 2, 2, {
			0x76, 0xd1, 0x36, 0x52, 0x7b, 0x9d, 0x68, 0x9e,
			0x01, 0xd2, 0x49, 0xe5, 0x85, 0x5b, 0x9f, 0x55 } },
	};
	struct record_key *key = open_known_key();
	struct lock_record rec;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t bytes[RECORD_BYTES];

		memcpy(bytes, sample_bytes, sizeof(bytes));
		bytes[cases[i].at] = cases[i].value;
		CHECK_INT("without its MAC it is damaged", record_decode(key, bytes, sizeof(bytes), &rec), -EBADMSG);
		memcpy(bytes + 48, cases[i].mac, 16);
		CHECK_INT(cases[i].promise, record_decode(key, bytes, sizeof(bytes), &rec), -EPROTO);
	}
	record_key_close(key);
}

/* T50. The byte was zero before there were generations: such a record is of generation 0, bit for bit. */
static void test_generations(void **state)
{
	struct record_key *key = open_known_key();
	struct lock_record rec = sample, got;
	uint8_t bytes[RECORD_BYTES];

	CHECK_INT("a record from before", record_decode(key, sample_bytes, sizeof(sample_bytes), &got), 0);
	CHECK_INT("is of generation 0", got.generation, 0);
	rec.generation = RECORD_GENERATION_MAX;
	CHECK_INT("the last one is encoded", record_encode(key, &rec, bytes), 0);
	CHECK_INT("and decoded", record_decode(key, bytes, sizeof(bytes), &got), 0);
	CHECK_INT("as it was", got.generation, RECORD_GENERATION_MAX);
	bytes[3] = 0;
	CHECK_INT("nobody turns it back", record_decode(key, bytes, sizeof(bytes), &got), -EBADMSG);
	record_key_close(key);
}

static void test_encode_refuses_what_decode_would(void **state)
{
	struct record_key *key = open_known_key();
	struct lock_record rec = sample;
	uint8_t bytes[RECORD_BYTES] = { 42 };

	rec.flags = 0xf0;
	CHECK_INT("an unknown flag", record_encode(key, &rec, bytes), -EINVAL);
	rec = sample;
	rec.mode = 2;
	CHECK_INT("an unknown mode", record_encode(key, &rec, bytes), -EINVAL);
	CHECK_INT("and no byte is written", bytes[0], 42);
	record_key_close(key);
}

static void test_settle_time(void **state)
{
	static const struct { uint32_t settle_s; bool said; } cases[] = {
		{ 0, true }, { 1, true }, { 59, true }, { 60, true }, { 61, false }, { 120, true }, { 3540, true }, { 3600, true },
		{ 3601, false }, { 3660, false }, { UINT32_MAX, false },
	};
	struct record_key *key = open_known_key();
	struct lock_record rec = sample, got;
	uint8_t bytes[RECORD_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int flags = record_settle_flags(cases[i].settle_s);

		CHECK_INT("can be said", flags >= 0, cases[i].said);
		if (flags < 0)
			continue;
		rec.flags = flags;
		CHECK_INT("encodes", record_encode(key, &rec, bytes), 0);
		CHECK_INT("decodes", record_decode(key, bytes, sizeof(bytes), &got), 0);
		CHECK_INT("as so many seconds", record_settles_until(&got) - got.committed_s, cases[i].settle_s);
	}
	rec.committed_s = INT64_MAX - 1;
	CHECK("the end of time is none too early", record_settles_until(&rec) == INT64_MAX);
	record_key_close(key);
}

static void test_key_file(void **state)
{
	static const struct { const char *promise; size_t len; mode_t mode; int want; } cases[] = {
		{ "mode 0600",                 32, 0600, 0 },
		{ "mode 0400",                 32, 0400, 0 },
		{ "readable by the group",     32, 0640, -EPERM },
		{ "readable by others",        32, 0604, -EPERM },
		{ "writable by the group",     32, 0620, -EPERM },
		{ "executable by others",      32, 0601, -EPERM },
		{ "empty",                     0, 0600, -EBADMSG },
		{ "too short",                 31, 0600, -EBADMSG },
		{ "too long",                  33, 0600, -EBADMSG },
		{ "much too long",             4096, 0600, -EBADMSG },
		{ "long and readable",         33, 0644, -EPERM },
	};
	static const uint8_t bytes[4096];
	struct record_key *key = (void *)&key;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *path = path_in(dir, "cases.key");

		(void)unlink(path);
		write_file(path, bytes, cases[i].len);
		assert_int_equal(chmod(path, cases[i].mode), 0);
		for (int create = 0; create < 2; create++) {
			key = (void *)&key;
			CHECK_INT(cases[i].promise, record_key_open(path, create, &key), cases[i].want);
			if (cases[i].want == 0)
				record_key_close(key);
			else
				CHECK("a failure leaves the output alone", key == (void *)&key);
		}
	}
	CHECK_INT("missing", record_key_open(path_in(dir, "none.key"), false, &key), -ENOENT);
	CHECK_INT("missing, and its directory too", record_key_open(path_in(dir, "no/none.key"), true, &key), -ENOENT);
	CHECK_INT("a directory", record_key_open(dir, true, &key), -EBADMSG);
	assert_int_equal(mkfifo(path_in(dir, "fifo.key"), 0600), 0);
	CHECK_INT("a FIFO does not stop us", record_key_open(path_in(dir, "fifo.key"), false, &key), -EBADMSG);
	if (geteuid() == 0) {
		write_file(path_in(dir, "foreign.key"), bytes, 32);
		assert_int_equal(chown(path_in(dir, "foreign.key"), 65534, 65534), 0);
		CHECK_INT("owned by somebody else", record_key_open(path_in(dir, "foreign.key"), false, &key), -EPERM);
	}
	record_key_close(NULL);
}

static void test_key_is_made(void **state)
{
	struct record_key *a = NULL, *b = NULL, *other = NULL;
	uint8_t bytes[RECORD_BYTES];
	struct lock_record rec;
	struct stat st;

	CHECK_INT("a key is made", record_key_open(path_in(dir, "a.key"), true, &a), 0);
	assert_int_equal(stat(path_in(dir, "a.key"), &st), 0);
	CHECK_INT("of 32 bytes", st.st_size, 32);
	CHECK_INT("for the owner alone", st.st_mode & 07777, 0600);
	CHECK_INT("under one name", st.st_nlink, 1);
	CHECK_INT("which is there the next time", record_key_open(path_in(dir, "a.key"), true, &b), 0);
	CHECK_INT("a second file gets its own", record_key_open(path_in(dir, "b.key"), true, &other), 0);
	CHECK_INT("one encodes", record_encode(a, &sample, bytes), 0);
	CHECK_INT("the same key decodes", record_decode(b, bytes, sizeof(bytes), &rec), 0);
	CHECK_INT("another key does not", record_decode(other, bytes, sizeof(bytes), &rec), -EBADMSG);
	record_key_close(a);
	record_key_close(b);
	record_key_close(other);
}

/* Several daemons of one share start at once: all must end up with one key. */
static void make_key_once(void)
{
	const char *path = path_in(dir, "race.key");
	uint8_t bytes[8][RECORD_BYTES];
	int fds[2], start[2], status;
	char c;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(start), 0);
	for (int i = 0; i < 8; i++) {
		if (fork() == 0) {
			struct record_key *key;
			uint8_t b[RECORD_BYTES];

			close(start[1]);
			(void)!read(start[0], &c, 1);	/* the end of the pipe is the start for all */
			if (record_key_open(path, true, &key) < 0 || record_encode(key, &sample, b) < 0 ||
			    write(fds[1], b, sizeof(b)) != sizeof(b))
				_exit(1);
			_exit(0);
		}
	}
	close(start[0]);
	close(start[1]);
	for (int i = 0; i < 8; i++) {
		assert_true(wait(&status) > 0);
		CHECK_INT("every one gets a key", status, 0);
		assert_int_equal(read(fds[0], bytes[i], RECORD_BYTES), RECORD_BYTES);
		assert_memory_equal(bytes[i], bytes[0], RECORD_BYTES);
	}
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(unlink(path), 0);
}

static void test_key_is_made_once(void **state)
{
	for (int i = 0; i < 20; i++)
		make_key_once();
}

/* More threads than ready contexts, one key. */
static void *encode_often(void *arg)
{
	struct lock_record rec = sample, out;
	uint8_t bytes[RECORD_BYTES];

	for (uint64_t i = 0; i < 3000; i++) {
		rec.serial = i;
		if (record_encode(arg, &rec, bytes) < 0 || record_decode(arg, bytes, sizeof(bytes), &out) < 0 ||
		    out.serial != i)
			return (void *)1;
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct record_key *key = open_known_key();
	pthread_t threads[24];
	void *failed;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, encode_often, key), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		CHECK("threads do not mix their MACs", !failed);
	}
	record_key_close(key);
}

static void test_is_retained(void **state)
{
	static const struct { const char *promise; uint16_t holds; int64_t until_s, now_s; bool want; } cases[] = {
		{ "before the date",               0, 100, 99, true },
		{ "at the date it is over",        0, 100, 100, false },
		{ "after the date",                0, 100, 101, false },
		{ "a hold goes on",                1, 100, 101, true },
		{ "a hold beside a date",          1, 100, 99, true },
		{ "unspecified",                   0, INT64_MIN, INT64_MAX, true },
		{ "infinite",                      0, INT64_MAX, INT64_MAX, true },
		{ "a date far away",               0, INT64_MAX - 1, INT64_MAX - 2, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lock_record rec = { .holds = cases[i].holds, .until_s = cases[i].until_s };

		CHECK_INT(cases[i].promise, record_is_retained(&rec, cases[i].now_s), cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_changed_byte_is_seen),
		cmocka_unit_test(test_wrong_length),
		cmocka_unit_test(test_unknown_kinds),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_encode_refuses_what_decode_would),
		cmocka_unit_test(test_settle_time),
		cmocka_unit_test(test_key_file),
		cmocka_unit_test(test_key_is_made),
		cmocka_unit_test(test_key_is_made_once),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_is_retained),
	};

	return cmocka_run_group_tests_name("record", tests, set_up, tear_down);
}
