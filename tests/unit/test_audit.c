/* The audit log: its chain, what is found when somebody changes it, and what happens when it cannot be written. */
#include "tests/unit/unit.h"

#include <jansson.h>
#include <pthread.h>
#include <signal.h>

#include "lockstore/audit.h"
#include "lockstore/audit_files.h"

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

static struct audit_recovery recovered;

static struct audit *open_log(struct audit_options options)
{
	struct audit *audit;

	options.state_dir = options.state_dir ? options.state_dir : dir;
	options.success = options.failure = AUDIT_ALL;
	CHECK_INT("the log opens", audit_open(&options, &audit, &recovered), 0);
	return audit;
}

static void put(struct audit *audit, enum audit_event event, int result, const char *path)
{
	struct file_key key = { .len = 2, .bytes = { 0xab, 0x01 } };

	audit_put(audit, &(struct audit_entry){ .event = event, .result = result, .uid = 1000, .gid = 100, .pid = 42, .comm = "cp",
						.path = path, .key = &key, .serial = 7, .detail = "close" });
}

static void log_with(int n)
{
	struct audit *audit = open_log((struct audit_options){ 0 });
	char path[32];

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "file%d", i);
		put(audit, AUDIT_COMMIT, 0, path);
	}
	audit_close(audit);
}

/* The whole file; the caller frees it. */
static char *slurp(const char *name, size_t *ret_len)
{
	FILE *f = fopen(path_in(dir, name), "r");
	char *text = NULL;
	size_t size = 0;

	assert_non_null(f);
	*ret_len = getdelim(&text, &size, '\0', f);
	assert_int_equal(feof(f) || *ret_len > 0, 1);
	fclose(f);
	return text;
}

static struct {
	enum audit_finding finding;
	char file[32], sentence[256];
	uint64_t line, seq, count;
} first;

static void note(void *arg, enum audit_finding finding, const struct audit_at *at, uint64_t seq, const char *sentence)
{
	if (first.count++)
		return;
	first.finding = finding;
	first.line = at->line;
	first.seq = seq;
	snprintf(first.file, sizeof(first.file), "%s", at->file ? at->file : "");
	snprintf(first.sentence, sizeof(first.sentence), "%s", sentence);
}

static struct audit_verified verify_in(const char *where, uint64_t head_seq, const char *head_hash)
{
	struct audit_head head = { .seq = head_seq };
	struct audit_verified v;

	memset(&first, 0, sizeof(first));
	snprintf(head.hash, sizeof(head.hash), "%s", head_hash ? head_hash : "");
	CHECK_INT("the log can be verified", audit_files_verify(where, 1, &head, head_seq != 0, note, NULL, &v), 0);
	return v;
}

static struct audit_verified verify(uint64_t head_seq, const char *head_hash)
{
	return verify_in(dir, head_seq, head_hash);
}

/* ---- lines ---- */

static void test_a_line_says_who_did_what_to_which_file(void **state)
{
	struct audit *audit = open_log((struct audit_options){ 0 });
	char *text, *line;
	json_error_t error;
	json_t *json;
	size_t len;

	put(audit, AUDIT_COMMIT, 0, "a \"b\"\n/\xff\xc3\xa4\\");
	put(audit, AUDIT_DENY_UNLINK, -EPERM, "x");
	audit_close(audit);
	text = slurp(AUDIT_FILE, &len);
	line = strtok(text, "\n");
	json = json_loads(line, 0, &error);
	assert_non_null(json);
	CHECK_INT("seq", json_integer_value(json_object_get(json, "seq")), 1);
	CHECK_INT("uid", json_integer_value(json_object_get(json, "uid")), 1000);
	CHECK_INT("gid", json_integer_value(json_object_get(json, "gid")), 100);
	CHECK_INT("pid", json_integer_value(json_object_get(json, "pid")), 42);
	CHECK_STR("comm", json_string_value(json_object_get(json, "comm")), "cp");
	CHECK_STR("event", json_string_value(json_object_get(json, "event")), "commit");
	CHECK_STR("a path of any bytes", json_string_value(json_object_get(json, "path")), "a \"b\"\n/\xef\xbf\xbd\xc3\xa4\\");
	CHECK_STR("and exactly", json_string_value(json_object_get(json, "path_encoded")), "a%20\"b\"%0A/%FF%C3%A4\\");
	CHECK_STR("key", json_string_value(json_object_get(json, "key")), "ab01");
	CHECK_INT("serial", json_integer_value(json_object_get(json, "serial")), 7);
	CHECK_STR("result", json_string_value(json_object_get(json, "result")), "OK");
	CHECK_STR("detail", json_string_value(json_object_get(json, "detail")), "close");
	CHECK("boot time", json_is_real(json_object_get(json, "boot")));
	CHECK_STR("the first one follows nothing", json_string_value(json_object_get(json, "prev")), AUDIT_NO_HASH);
	line = strtok(NULL, "\n");
	CHECK("a refusal has its errno", strstr(line, "\"event\":\"deny_unlink\"") && strstr(line, "\"result\":\"EPERM\""));
	CHECK("and follows the first", strstr(line, json_string_value(json_object_get(json, "hash"))));
	json_decref(json);
	free(text);
	CHECK_INT("it verifies", verify(0, NULL).findings, 0);
}

static void test_events_have_names(void **state)
{
	enum audit_event event;

	for (int i = 0; i < AUDIT_EVENTS; i++) {
		const char *name = audit_event_name(i);

		CHECK_INT(name, audit_event_parse(name, strlen(name), &event), 0);
		CHECK_INT(name, event, i);
	}
	CHECK_INT("no such event", audit_event_parse("commi", 5, &event), -EINVAL);
	CHECK_INT("nor this", audit_event_parse("", 0, &event), -EINVAL);
}

static void test_only_what_is_chosen_is_written(void **state)
{
	struct audit_options options = { .state_dir = dir, .success = AUDIT_SET(AUDIT_COMMIT), .failure = AUDIT_SET(AUDIT_DENY_LINK) };
	struct audit *audit;

	CHECK_INT("opens", audit_open(&options, &audit, NULL), 0);
	CHECK("chosen", audit_wants(audit, AUDIT_COMMIT, 0));
	CHECK("not its failure", !audit_wants(audit, AUDIT_COMMIT, -EIO));
	put(audit, AUDIT_COMMIT, 0, "a");
	put(audit, AUDIT_EXTEND, 0, "a");
	put(audit, AUDIT_DENY_LINK, -EPERM, "a");
	put(audit, AUDIT_DENY_UNLINK, -EPERM, "a");
	CHECK_INT("privileged requests always", audit_put_sync(audit, &(struct audit_entry){ .event = AUDIT_SHORTEN }), 0);
	audit_close(audit);
	CHECK_INT("three lines", verify(0, NULL).last_seq, 3);
	CHECK("no log wants nothing", !audit_wants(NULL, AUDIT_COMMIT, 0));
	audit_put(NULL, &(struct audit_entry){ 0 });
	CHECK_INT("and stops nothing", audit_put_sync(NULL, &(struct audit_entry){ 0 }), 0);
	CHECK_INT("nor this", audit_flush(NULL, 1), 0);
	audit_close(NULL);
}

/* ---- what somebody did to it: T43 ---- */

static char *lines[16];
static size_t nlines;

static void read_lines(void)
{
	size_t len;
	char *text = slurp(AUDIT_FILE, &len), *save = NULL;

	nlines = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		lines[nlines++] = strdup(line);
	free(text);
}

static void write_lines(const char *order)
{
	FILE *f = fopen(path_in(dir, AUDIT_FILE), "w");

	for (; *order; order++)
		fprintf(f, "%s\n", lines[*order - 'a']);
	fclose(f);
}

static void test_T43_a_flipped_dropped_reordered_or_cut_line_is_found_and_located(void **state)
{
	static const struct {
		const char *promise, *order;
		enum audit_finding finding;
		uint64_t line, seq, findings;
	} cases[] = {
		{ "as it was",               "abcdef", 0, 0, 0, 0 },
		{ "a line dropped",          "abdef", AUDIT_MISSING, 3, 4, 1 },
		{ "two lines dropped",       "adef", AUDIT_MISSING, 2, 4, 1 },
		{ "the first line dropped",  "bcdef", AUDIT_MISSING, 1, 2, 1 },
		{ "two lines swapped",       "abdcef", AUDIT_MISSING, 3, 4, 2 },
		{ "a line twice",            "abbcdef", AUDIT_REORDERED, 3, 2, 1 },
		{ "the last line cut",       "abcde", AUDIT_CUT, 5, 5, 1 },
		{ "all but one cut",         "a", AUDIT_CUT, 1, 1, 1 },
		{ "everything cut",          "", AUDIT_CUT, 0, 0, 1 },
	};
	char head[AUDIT_HASH_CHARS + 1];
	size_t n;

	log_with(6);
	n = strlen("{\"seq\":6");
	read_lines();
	CHECK_INT("six lines", nlines, 6);
	memcpy(head, lines[5] + strlen(lines[5]) - 2 - AUDIT_HASH_CHARS, AUDIT_HASH_CHARS);
	head[AUDIT_HASH_CHARS] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct audit_verified v;

		write_lines(cases[i].order);
		v = verify(6, head);
		CHECK_INT(cases[i].promise, v.findings, cases[i].findings);
		if (!v.findings)
			continue;
		CHECK_INT(cases[i].promise, first.finding, cases[i].finding);
		CHECK_INT(cases[i].promise, first.line, cases[i].line);
		CHECK_INT(cases[i].promise, first.seq, cases[i].seq);
	}
	/* Every byte of a line, one after the other. */
	for (size_t i = 0; i < strlen(lines[2]); i++) {
		struct audit_verified v;

		lines[2][i] ^= 1;
		write_lines("abcdef");
		lines[2][i] ^= 1;
		v = verify(6, head);
		CHECK("a flipped bit is found", v.findings >= 1);
		CHECK_INT("where it is", first.line, 3);
		CHECK_STR("in which file", first.file, AUDIT_FILE);
	}
	/* The last line, and with a hash that fits again: who remembers the head sees it. */
	CHECK("a number to change", n < strlen(lines[5]));
	lines[5][n + 20] ^= 1;
	write_lines("abcdef");
	CHECK("the last line", verify(6, head).findings >= 1);
	lines[5][n + 20] ^= 1;
	for (size_t i = 0; i < nlines; i++)
		free(lines[i]);
}

static void test_a_line_replaced_with_a_hash_that_fits_breaks_the_chain_behind_it(void **state)
{
	char *line, hash[AUDIT_HASH_CHARS + 1];
	struct audit_link link;
	size_t len;

	log_with(4);
	read_lines();
	CHECK_INT("a line of ours", audit_line_check(lines[1], strlen(lines[1]), &link), 0);
	CHECK_INT("another one in its place",
		  audit_line_format(2, &(struct audit_times){ 0 }, &(struct audit_entry){ .event = AUDIT_COMMIT, .path = "forged" }, 1,
				    link.prev, &line, &len, hash), 0);
	line[len - 1] = '\0';
	free(lines[1]);
	lines[1] = line;
	write_lines("abcd");
	CHECK_INT("is found", verify(0, NULL).findings, 1);
	CHECK_INT("by the line behind it", first.line, 3);
	CHECK_INT("as what it is", first.finding, AUDIT_UNCHAINED);
	for (size_t i = 0; i < nlines; i++)
		free(lines[i]);
}

/* ---- the daemon's own accidents ---- */

static void append(const char *name, const char *bytes, size_t len)
{
	int fd = open(path_in(dir, name), O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static void test_a_torn_last_line_is_kept_as_an_event_and_the_chain_goes_on(void **state)
{
	struct audit_verified v;
	char *text;
	size_t len;

	log_with(3);
	append(AUDIT_FILE, "{\"seq\":4,\"clo\0\"", 15);
	v = verify(0, NULL);
	CHECK("it is seen", v.torn);
	CHECK_INT("as torn, which is no tampering", v.findings, 0);
	CHECK_INT("and where", first.line, 4);
	log_with(1);
	CHECK_INT("its bytes are counted", recovered.torn_bytes, 15);
	v = verify(0, NULL);
	CHECK_INT("all is well after the next start", v.findings, 0);
	CHECK_INT("which wrote two lines", v.last_seq, 5);
	CHECK("nothing is torn any more", !v.torn);
	text = slurp(AUDIT_FILE, &len);
	CHECK("what was there is kept", strstr(text, "\"event\":\"log_torn\"") && strstr(text, "{\\\"seq\\\":4,\\\"clo%00\\\""));
	free(text);
}

static void test_a_log_that_lost_its_end_says_so_for_ever(void **state)
{
	struct audit *audit;
	char hash[AUDIT_HASH_CHARS + 1];
	struct audit_verified v;

	log_with(6);
	v = verify(0, NULL);
	memcpy(hash, v.last_hash, sizeof(hash));
	read_lines();
	write_lines("abc");
	CHECK_INT("seen at once", verify(6, hash).findings, 1);
	audit = open_log((struct audit_options){ .head_seq = 6, .head_hash = hash });
	CHECK_INT("and at the next start", recovered.missing, 3);
	put(audit, AUDIT_COMMIT, 0, "later");
	audit_close(audit);
	v = verify(0, NULL);
	CHECK_INT("and ever after", v.findings, 1);
	CHECK_INT("as a gap", first.finding, AUDIT_MISSING);
	CHECK_INT("in front of the line that tells it", first.seq, 7);
	assert_int_equal(unlink(path_in(dir, AUDIT_FILE)), 0);
	audit = open_log((struct audit_options){ .head_seq = 8, .head_hash = v.last_hash });
	CHECK_INT("a log that is gone likewise", recovered.missing, 8);
	audit_close(audit);
	for (size_t i = 0; i < nlines; i++)
		free(lines[i]);
}

static void test_a_last_line_that_was_changed_is_said_at_the_next_start(void **state)
{
	log_with(3);
	read_lines();
	lines[2][20] ^= 1;
	write_lines("abc");
	log_with(1);
	CHECK("said", recovered.damaged);
	CHECK_INT("and found", verify(0, NULL).findings, 1);
	CHECK_INT("where it is", first.line, 3);
	for (size_t i = 0; i < nlines; i++)
		free(lines[i]);
}

static void test_a_kill_at_any_time_leaves_a_log_that_verifies(void **state)
{
	for (int round = 0; round < 10; round++) {
		int fds[2];
		char byte;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (pid == 0) {
			struct audit *audit = open_log((struct audit_options){ 0 });

			for (int i = 0;; i++) {
				put(audit, AUDIT_COMMIT, 0, "file");
				if (i % 64 == 0)
					sched_yield();
				if (i == 500 && write(fds[1], "", 1) != 1)
					_exit(1);
			}
		}
		close(fds[1]);
		assert_int_equal(read(fds[0], &byte, 1), 1);
		assert_int_equal(audit_flush(NULL, 0), 0);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(fds[0]);
		CHECK_INT("after a kill", verify(0, NULL).findings, 0);
	}
	log_with(1);
	CHECK_INT("and after the next start", verify(0, NULL).findings, 0);
}

/* ---- rotation ---- */

static void test_a_log_that_is_rotated_is_one_chain(void **state)
{
	struct audit *audit = open_log((struct audit_options){ .rotate_bytes = 2000 });
	struct audit_verified v;

	for (int i = 0; i < 40; i++)
		CHECK_INT("a line", audit_put_sync(audit, &(struct audit_entry){ .event = AUDIT_MOUNT }), 0);
	audit_close(audit);
	CHECK("there are older files", access(path_in(dir, AUDIT_FILE ".3"), F_OK) == 0);
	v = verify(0, NULL);
	CHECK_INT("nothing is missing", v.findings, 0);
	CHECK_INT("of all lines", v.lines, 40);
	/* A kill between the rename and the new file. */
	assert_int_equal(rename(path_in(dir, AUDIT_FILE), path_in(dir, AUDIT_FILE ".4711")), 0);
	log_with(1);
	v = verify(0, NULL);
	CHECK_INT("the chain goes on", v.findings, 0);
	CHECK_INT("by one line", v.last_seq, 41);
	assert_int_equal(unlink(path_in(dir, AUDIT_FILE ".2")), 0);
	v = verify(0, NULL);
	CHECK_INT("a file that is gone is a gap", v.findings, 1);
	CHECK_STR("seen in the next file", first.file, AUDIT_FILE ".3");
	assert_int_equal(unlink(path_in(dir, AUDIT_FILE ".1")), 0);
	CHECK_INT("old files moved away", verify(0, NULL).findings, 1);
	CHECK_INT("are fine for who says so", audit_files_verify(dir, first.seq, NULL, 0, note, NULL, &v), 0);
	CHECK_INT("likewise", v.findings, 0);
	CHECK_INT("one file alone", audit_files_verify(path_in(dir, AUDIT_FILE ".4"), 0, NULL, 0, note, NULL, &v), 0);
	CHECK("is a chain", v.findings == 0 && v.lines > 1);
}

static void test_a_log_that_is_rotated_replaces_nothing(void **state)
{
	struct audit *audit = open_log((struct audit_options){ .rotate_bytes = 2000 });
	char *mine = strdup(path_in(dir, AUDIT_FILE ".2")), kept[8] = "";
	int fd;

	write_file(mine, "mine\n", 5);
	for (int i = 0; i < 40; i++)
		CHECK_INT("a line", audit_put_sync(audit, &(struct audit_entry){ .event = AUDIT_MOUNT }), 0);
	audit_close(audit);
	fd = open(mine, O_RDONLY | O_CLOEXEC);
	CHECK_INT("what was there", read(fd, kept, sizeof(kept)), 5);
	close(fd);
	CHECK_STR("is there still", kept, "mine\n");
	CHECK("it is rotated all the same", access(path_in(dir, AUDIT_FILE ".3"), F_OK) == 0);
	assert_int_equal(unlink(mine), 0);
	free(mine);
	CHECK_INT("and no line is lost", verify(0, NULL).lines, 40);
}

static void test_heads_are_read_as_they_are_written(void **state)
{
	static const struct { const char *text; int want; } cases[] = {
		{ "7:" AUDIT_NO_HASH, 0 }, { "7 " AUDIT_NO_HASH "\n", 0 }, { "7:" AUDIT_NO_HASH " 1795546800\n", 0 },
		{ "0:" AUDIT_NO_HASH, -EINVAL }, { "7:abc", -EINVAL }, { "", -EINVAL }, { "seven:" AUDIT_NO_HASH, -EINVAL },
		{ "7", -EINVAL },
	};
	struct audit_head head;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(cases[i].text, audit_head_parse(cases[i].text, &head), cases[i].want);
		if (cases[i].want == 0)
			CHECK("its parts", head.seq == 7 && strcmp(head.hash, AUDIT_NO_HASH) == 0);
	}
}

static void test_a_log_that_is_moved_or_changed_meanwhile_says_so(void **state)
{
	struct audit *audit = open_log((struct audit_options){ 0 });
	size_t len;
	char *text;

	put(audit, AUDIT_COMMIT, 0, "a");
	CHECK_INT("written", audit_flush(audit, 10000), 0);
	assert_int_equal(rename(path_in(dir, AUDIT_FILE), path_in(dir, "elsewhere")), 0);
	for (int i = 0; i < 200 && access(path_in(dir, AUDIT_FILE), F_OK) < 0; i++) {
		put(audit, AUDIT_COMMIT, 0, "b");
		usleep(20000);
	}
	audit_close(audit);
	text = slurp(AUDIT_FILE, &len);
	CHECK("the new file tells it", strstr(text, "\"event\":\"tamper\"") && strstr(text, "moved or removed"));
	free(text);
	CHECK("and lines are missing", verify(0, NULL).findings >= 1);
}

/* ---- flood: T47 ---- */

static void refuse(struct audit *audit, uid_t uid, uint64_t file, const char *path)
{
	if (!audit_is_repeat(audit, uid, file, AUDIT_DENY_OPEN_WRITE, 1))
		audit_put(audit, &(struct audit_entry){ .event = AUDIT_DENY_OPEN_WRITE, .result = -EPERM, .uid = uid, .path = path,
							.file = file, .op = 1, .repeats = true });
}

static int sum_up(void *arg, const struct audit_at *at, const char *line, size_t len, bool whole)
{
	const char *count = strstr(line, "\"count\":");

	*(uint64_t *)arg += strtoull(count + strlen("\"count\":"), NULL, 10);
	return 0;
}

static void test_T47_a_million_refusals_are_a_few_lines_and_none_is_lost(void **state)
{
	struct audit *audit = open_log((struct audit_options){ 0 });
	struct audit_status status;
	uint64_t counted = 0;

	for (int i = 0; i < 1000000; i++)
		refuse(audit, 1000, 4711, "a");
	for (int i = 0; i < 3; i++)
		refuse(audit, 1001, 4711, "a");
	for (int i = 0; i < 50000; i++)
		refuse(audit, 1002, i, "one of many");
	audit_flush(audit, 10000);
	audit_status(audit, &status);
	CHECK_INT("nothing is lost", status.lost, 0);
	audit_close(audit);
	CHECK("the log is bounded", verify(0, NULL).lines < 3000);
	CHECK_INT("it verifies", verify(0, NULL).findings, 0);
	CHECK_INT("it can be read", audit_files_each(dir, sum_up, &counted), 0);
	CHECK_INT("every refusal is counted", counted, 1050003);
}

static void *put_many(void *arg)
{
	for (int i = 0; i < 20000; i++)
		put(arg, AUDIT_COMMIT, 0, "from a thread");
	return NULL;
}

static void test_many_threads_and_what_is_lost_is_told(void **state)
{
	struct audit *audit = open_log((struct audit_options){ 0 });
	struct audit_status status;
	pthread_t threads[4];
	uint64_t counted = 0;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, put_many, audit), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	CHECK_INT("written", audit_flush(audit, 30000), 0);
	audit_status(audit, &status);
	audit_close(audit);
	CHECK_INT("it verifies", verify(0, NULL).findings, 0);
	CHECK_INT("it can be read", audit_files_each(dir, sum_up, &counted), 0);
	CHECK_INT("every entry is a line, or told as lost", counted, 80000);
}

/* ---- a full disk ---- */

static void test_T33_a_log_that_cannot_be_written_stops_privileged_requests_and_tells_the_gap(void **state)
{
	const char *small = path_in(dir, "small");
	struct audit_entry entry = { .event = AUDIT_DELETE_PRIVILEGED, .path = "a" };
	struct audit_verified v;
	struct audit_status status;
	struct audit *audit;
	char filler[4300], where[4200], *junk = calloc(1, 300000);
	uint64_t counted = 0;

	if (!may_mount())
		return free(junk);
	snprintf(where, sizeof(where), "%s", small);
	snprintf(filler, sizeof(filler), "%s/filler", where);
	assert_int_equal(mkdir(where, 0700), 0);
	assert_int_equal(mount("none", where, "tmpfs", 0, "size=128k"), 0);
	audit = open_log((struct audit_options){ .state_dir = where });
	CHECK_INT("there is room", audit_put_sync(audit, &entry), 0);
	{
		int fd = open(filler, O_WRONLY | O_CREAT, 0600);

		while (write(fd, junk, 4096) > 0)
			;
		close(fd);
	}
	for (int i = 0; i < 20000; i++)
		put(audit, AUDIT_COMMIT, 0, "a file with a name");
	CHECK_INT("no room: the request is refused", audit_put_sync(audit, &entry), -ENOSPC);
	audit_status(audit, &status);
	CHECK_INT("the state says so", status.error, -ENOSPC);
	CHECK("what did not fit is counted", status.lost > 0 && status.queued > 0);
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(mount("none", where, NULL, MS_REMOUNT, "size=64m"), 0);
	CHECK_INT("with room again it is written", audit_flush(audit, 10000), 0);
	CHECK_INT("and requests are served", audit_put_sync(audit, &entry), 0);
	audit_status(audit, &status);
	CHECK_INT("the state says so", status.error, 0);
	audit_close(audit);
	v = verify_in(where, 0, NULL);
	CHECK_INT("the chain is whole", v.findings, 0);
	CHECK_INT("it can be read", audit_files_each(where, sum_up, &counted), 0);
	CHECK_INT("every entry is a line or told as lost, the refused request is neither", counted, 20002);
	assert_int_equal(umount(where), 0);
	free(junk);
}

static void test_a_log_that_cannot_be_opened(void **state)
{
	struct audit_options options = { .state_dir = path_in(dir, "nowhere") };
	struct audit *audit = (void *)&options;

	CHECK_INT("no such directory", audit_open(&options, &audit, NULL), -ENOENT);
	options.state_dir = dir;
	assert_int_equal(mkdir(path_in(dir, AUDIT_FILE), 0700), 0);
	CHECK_INT("a directory in its place", audit_open(&options, &audit, NULL), -EISDIR);
	CHECK("a failure leaves the output alone", audit == (void *)&options);
}

static uint64_t anchored_seq;
static char anchored_hash[AUDIT_HASH_CHARS + 1];

static void note_anchor(void *arg, uint64_t seq, const char *hash)
{
	anchored_seq = seq;
	snprintf(anchored_hash, sizeof(anchored_hash), "%s", hash);
}

static int64_t fixed_clock(void *arg)
{
	return 86400;
}

static void test_the_head_is_anchored_at_the_latest_at_close(void **state)
{
	struct audit *audit = open_log((struct audit_options){ .anchor = note_anchor, .now_s = fixed_clock });
	struct audit_verified v;
	size_t len;
	char *text;

	anchored_seq = 0;
	put(audit, AUDIT_COMMIT, 0, "a");
	audit_close(audit);
	v = verify(1, anchored_hash);
	CHECK_INT("the last line", anchored_seq, 1);
	CHECK_STR("and its hash", anchored_hash, v.last_hash);
	CHECK_INT("by which it verifies", v.findings, 0);
	text = slurp(AUDIT_FILE, &len);
	CHECK("the clock of retention is in the line", strstr(text, "\"clock\":\"1970-01-02T00:00:00Z\""));
	free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_line_says_who_did_what_to_which_file),
		TEST(test_events_have_names),
		TEST(test_only_what_is_chosen_is_written),
		TEST(test_T43_a_flipped_dropped_reordered_or_cut_line_is_found_and_located),
		TEST(test_a_line_replaced_with_a_hash_that_fits_breaks_the_chain_behind_it),
		TEST(test_a_torn_last_line_is_kept_as_an_event_and_the_chain_goes_on),
		TEST(test_a_log_that_lost_its_end_says_so_for_ever),
		TEST(test_a_last_line_that_was_changed_is_said_at_the_next_start),
		TEST(test_a_kill_at_any_time_leaves_a_log_that_verifies),
		TEST(test_a_log_that_is_rotated_is_one_chain),
		TEST(test_a_log_that_is_rotated_replaces_nothing),
		TEST(test_heads_are_read_as_they_are_written),
		TEST(test_a_log_that_is_moved_or_changed_meanwhile_says_so),
		TEST(test_T47_a_million_refusals_are_a_few_lines_and_none_is_lost),
		TEST(test_many_threads_and_what_is_lost_is_told),
		TEST(test_T33_a_log_that_cannot_be_written_stops_privileged_requests_and_tells_the_gap),
		TEST(test_a_log_that_cannot_be_opened),
		TEST(test_the_head_is_anchored_at_the_latest_at_close),
	};

	return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
