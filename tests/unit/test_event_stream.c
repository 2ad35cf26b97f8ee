/* From the threads that note events to those who are told: in order, none twice, what is missing counted. */
#include "unit.h"

#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lockstore/events/beegfs.h"
#include "lockstore/events/event_stream.h"

struct fixture {
	char *dir, ring[4096], file[4096], socket[4096];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = temp_dir_make();
	snprintf(f->ring, sizeof(f->ring), "%s/ring", f->dir);
	snprintf(f->file, sizeof(f->file), "%s/lines", f->dir);
	snprintf(f->socket, sizeof(f->socket), "%s/socket", f->dir);
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

static struct event_stream *open_stream(struct fixture *f, const char *sink, bool strict, size_t queue_bytes)
{
	struct event_stream_options options = { .ring_path = f->ring, .ring_bytes = EVENT_RING_BYTES_MIN, .queue_bytes = queue_bytes,
						.strict = strict, .sinks = &sink, .nsinks = sink != NULL };
	struct event_ring_found found;
	struct event_stream *stream;

	assert_int_equal(event_stream_open(&options, &stream, &found), 0);
	return stream;
}

static void put(struct event_stream *stream, unsigned thread, unsigned n)
{
	struct event ev = { .type = EVENT_CREATE, .has = EVENT_HAS_PATH | EVENT_HAS_ACTOR, .actor = { thread, 0, n }, .time_ns = n };
	char path[64];

	ev.path = event_text(path, snprintf(path, sizeof(path), "t%u/%u", thread, n));
	event_stream_put(stream, &ev);
}

static bool wait_until(bool (*condition)(void *arg), void *arg)
{
	for (int i = 0; i < 10000; i++) {
		if (condition(arg))
			return true;
		usleep(1000);
	}
	return false;
}

/* ---- lines of a file ---- */

struct lines {
	uint64_t count, lost, next_seq;
	int64_t last_of_thread[8];
};

static struct lines read_lines(const char *path, uint64_t first_seq)
{
	struct lines lines = { .next_seq = first_seq };
	FILE *in = fopen(path, "re");
	static char line[EVENT_JSON_MAX];

	for (int i = 0; i < 8; i++)
		lines.last_of_thread[i] = -1;
	assert_non_null(in);
	while (fgets(line, sizeof(line), in)) {
		json_t *root = json_loads(line, 0, NULL), *event;
		int64_t thread, n;

		assert_non_null(root);
		event = json_object_get(root, "Event");
		assert_int_equal(json_integer_value(json_object_get(root, "Seq")), lines.next_seq);
		if (strcmp(json_string_value(json_object_get(event, "Type")), "Gap") == 0) {
			lines.lost += json_integer_value(json_object_get(event, "Lost"));
			lines.next_seq += json_integer_value(json_object_get(event, "Lost"));
			json_decref(root);
			continue;
		}
		thread = json_integer_value(json_object_get(event, "Uid"));
		n = json_integer_value(json_object_get(event, "Pid"));
		/* Of one thread they come as they were put. */
		assert_true(n > lines.last_of_thread[thread]);
		lines.last_of_thread[thread] = n;
		lines.count++;
		lines.next_seq++;
		json_decref(root);
	}
	fclose(in);
	return lines;
}

struct putter {
	struct event_stream *stream;
	unsigned thread, count;
};

static void *put_many(void *arg)
{
	struct putter *p = arg;

	for (unsigned n = 0; n < p->count; n++)
		put(p->stream, p->thread, n);
	return NULL;
}

static void put_from_threads(struct event_stream *stream, unsigned count)
{
	struct putter putters[4];
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++) {
		putters[i] = (struct putter){ stream, i, count };
		assert_int_equal(pthread_create(&threads[i], NULL, put_many, &putters[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static void test_strict_loses_nothing(void **state)
{
	struct fixture *f = *state;
	struct event_stream *stream;
	struct lines lines;
	char sink[4200];

	snprintf(sink, sizeof(sink), "json:%s", f->file);
	stream = open_stream(f, sink, true, 65536);
	put_from_threads(stream, 20000);	/* more than queue and ring hold */
	assert_int_equal(event_stream_sync(stream, 10000), 0);
	event_stream_close(stream);
	lines = read_lines(f->file, 1);
	assert_int_equal(lines.count, 80000);
	assert_int_equal(lines.lost, 0);
}

static void test_a_full_queue_drops_and_counts(void **state)
{
	struct fixture *f = *state;
	struct event_stream *stream = open_stream(f, NULL, false, 65536);
	struct event_ring_stats stats;
	struct event_cursor cursor;
	uint64_t overwritten, records = 0, lost = 0, first, next, noted = 0;
	char *buf = malloc(65536);
	ssize_t len;

	do {	/* until the writer could not keep up once */
		CHECK("a writer that keeps up so often, or nobody counts what is dropped", noted < 200 * 80000);
		put_from_threads(stream, 20000);
		assert_int_equal(event_stream_sync(stream, 10000), 0);
		noted += 80000;
		event_ring_stats(event_stream_ring(stream), &stats);
	} while (stats.dropped == 0);
	assert_int_equal(stats.noted, noted);
	assert_int_equal(stats.next_seq, noted + 1);	/* each has a number, also what was dropped */
	assert_int_equal(event_ring_seek(event_stream_ring(stream), 0, &cursor), 0);
	first = next = cursor.seq;
	while ((len = event_ring_read(event_stream_ring(stream), &cursor, buf, 65536, &overwritten)) > 0) {
		for (ssize_t done = 0, n; done < len; done += n) {
			struct event ev;

			n = event_ring_record(buf + done, len - done, &ev);
			assert_true(n > 0 && ev.seq == next);
			next += ev.type == EVENT_GAP ? ev.lost : 1;
			records += ev.type != EVENT_GAP;
			lost += ev.type == EVENT_GAP ? ev.lost : 0;
		}
	}
	assert_int_equal(records + lost, noted + 1 - first);
	if (first == 1)
		assert_int_equal(lost, stats.dropped);
	free(buf);
	event_stream_close(stream);
}

static void test_a_file_goes_on_where_it_ended(void **state)
{
	struct fixture *f = *state;
	struct event_stream *stream;
	struct lines lines;
	char sink[4200];
	int fd;

	snprintf(sink, sizeof(sink), "json:%s", f->file);
	stream = open_stream(f, sink, false, 0);
	for (unsigned n = 0; n < 100; n++)
		put(stream, 0, n);
	event_stream_close(stream);
	assert_int_equal(read_lines(f->file, 1).count, 100);
	/* Killed within a line, and before the ring knew what the file has. */
	fd = open(f->file, O_RDWR);
	assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_END) - 10), 0);
	close(fd);
	stream = open_stream(f, sink, false, 0);
	for (unsigned n = 100; n < 200; n++)
		put(stream, 0, n);
	event_stream_close(stream);
	lines = read_lines(f->file, 1);
	assert_int_equal(lines.count, 200);
}

/* ---- sockets ---- */

static int listen_on(const char *path, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	unlink(path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static int accept_within(int fd, int timeout_ms)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&wait, 1, timeout_ms), 1);
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC);
}

static ssize_t receive(int fd, void *buf, size_t size)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&wait, 1, 10000), 1);
	return recv(fd, buf, size, 0);
}

static bool has_dropped_50(void *arg)
{
	return atomic_load(&event_ring_consumers(event_stream_ring(arg))[0].dropped) == 50;
}

static void test_beegfs7_counts_what_nobody_heard(void **state)
{
	struct fixture *f = *state;
	char sink[4200], buf[BEEGFS_PACKET_MAX];
	struct beegfs7_packet packet = { 0 };
	struct event_stream *stream;
	uint64_t received = 0;
	int listener, fd;

	snprintf(sink, sizeof(sink), "beegfs7:unix:%s", f->socket);
	stream = open_stream(f, sink, false, 0);
	for (unsigned n = 0; n < 50; n++)	/* nobody is there */
		put(stream, 0, n);
	assert_true(wait_until(has_dropped_50, stream));
	listener = listen_on(f->socket, SOCK_SEQPACKET);
	fd = accept_within(listener, 3000);
	for (unsigned n = 50; n < 150; n++)
		put(stream, 0, n);
	while (received < 100) {
		ssize_t n = receive(fd, buf, sizeof(buf));

		assert_int_equal(beegfs7_decode(buf, n, &packet), 0);
		assert_int_equal(packet.dropped, 50);
		received++;
	}
	/* It ends: what is sent afterwards is dropped. It reads what had come. */
	shutdown(fd, SHUT_RDWR);
	for (unsigned n = 150; n < 250; n++)
		put(stream, 0, n);
	assert_int_equal(event_stream_sync(stream, 5000), 0);
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		received++;
	close(fd);
	fd = accept_within(listener, 3000);
	put(stream, 0, 250);
	while (packet.texts.path.len == 0 || strncmp(packet.texts.path.bytes, "/t0/250", 8) != 0) {
		ssize_t n = receive(fd, buf, sizeof(buf));

		assert_true(n > 0);
		assert_int_equal(beegfs7_decode(buf, n, &packet), 0);
		received++;
	}
	assert_int_equal(received + packet.dropped, 251);
	close(fd);
	close(listener);
	event_stream_close(stream);
}

static void send_request(int fd, const struct beegfs8_packet *request)
{
	char buf[64];
	size_t len;

	assert_int_equal(beegfs8_encode(request, NULL, buf, sizeof(buf), &len), 0);
	assert_int_equal(send(fd, buf, len, 0), len);
}

static struct beegfs8_packet receive8(int fd, char *buf)
{
	struct beegfs8_packet packet;
	ssize_t n = receive(fd, buf, BEEGFS_PACKET_MAX);

	assert_true(n > 0);
	assert_int_equal(beegfs8_decode(buf, n, &packet), 0);
	return packet;
}

static void greet(int fd, char *buf)
{
	assert_int_equal(receive8(fd, buf).kind, BEEGFS8_HANDSHAKE_RESPONSE);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_HANDSHAKE_REQUEST, .major = 2 });
}

static void test_beegfs8_streams_from_where_it_is_asked(void **state)
{
	struct fixture *f = *state;
	char sink[4200], buf[BEEGFS_PACKET_MAX];
	struct beegfs8_packet packet;
	struct event_stream *stream;
	int listener = listen_on(f->socket, SOCK_SEQPACKET), fd;

	snprintf(sink, sizeof(sink), "beegfs8:%s", f->socket);
	stream = open_stream(f, sink, false, 0);
	fd = accept_within(listener, 3000);
	for (unsigned n = 1; n <= 100; n++)
		put(stream, 0, n);
	assert_int_equal(event_stream_sync(stream, 5000), 0);
	greet(fd, buf);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_REQUEST_RANGE });
	packet = receive8(fd, buf);
	assert_true(packet.kind == BEEGFS8_SEND_RANGE && packet.msn == 101 && packet.oldest == 1);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_REQUEST_NEWEST });
	packet = receive8(fd, buf);
	assert_true(packet.kind == BEEGFS8_SEND_NEWEST && packet.msn == 101);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_STREAM_START, .msn = 40 });
	for (unsigned n = 40; n <= 100; n++) {
		packet = receive8(fd, buf);
		assert_true(packet.kind == BEEGFS8_SEND_MESSAGE && packet.msn == n);
	}
	put(stream, 0, 101);	/* and what comes */
	assert_int_equal(receive8(fd, buf).msn, 101);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_CLOSE_REQUEST });
	packet = receive8(fd, buf);
	assert_true(packet.kind == BEEGFS8_SEND_CLOSE && packet.reason == BEEGFS8_ACKNOWLEDGED);
	close(fd);
	/* A listener that was killed asks for the rest. */
	put(stream, 0, 102);
	fd = accept_within(listener, 3000);
	greet(fd, buf);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_STREAM_START, .msn = 102 });
	assert_int_equal(receive8(fd, buf).msn, 102);
	/* A number that is not there ends the stream, and it may ask again. */
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_STREAM_START, .msn = 4711 });
	packet = receive8(fd, buf);
	assert_true(packet.kind == BEEGFS8_SEND_CLOSE && packet.reason == BEEGFS8_STREAM_CRASHED);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_STREAM_START, .msn = 1 });
	assert_int_equal(receive8(fd, buf).msn, 1);
	close(fd);
	/* Who asks before he greets is sent away. */
	fd = accept_within(listener, 3000);
	assert_int_equal(receive8(fd, buf).kind, BEEGFS8_HANDSHAKE_RESPONSE);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_REQUEST_RANGE });
	packet = receive8(fd, buf);
	assert_true(packet.kind == BEEGFS8_SEND_CLOSE && packet.reason == BEEGFS8_PROTOCOL_ERROR);
	assert_int_equal(receive(fd, buf, sizeof(buf)), 0);
	close(fd);
	close(listener);
	event_stream_close(stream);
}

static void test_beegfs8_numbers_jump_only_where_events_are_lost(void **state)
{
	struct fixture *f = *state;
	char sink[4200], buf[BEEGFS_PACKET_MAX], name[1000];
	struct event locked = { .type = EVENT_COMMITTED }, longest = { .type = EVENT_CREATE, .has = EVENT_HAS_PATH };
	struct event_stream *stream;
	struct event_ring_stats stats;
	int listener = listen_on(f->socket, SOCK_SEQPACKET), fd;

	snprintf(sink, sizeof(sink), "beegfs8:%s", f->socket);
	stream = open_stream(f, sink, false, 0);
	fd = accept_within(listener, 3000);
	greet(fd, buf);
	send_request(fd, &(struct beegfs8_packet){ .kind = BEEGFS8_STREAM_START, .msn = 1 });
	for (unsigned n = 1; n <= 10; n++) {
		put(stream, 0, n);
		event_stream_put(stream, &locked);	/* not for BeeGFS */
		assert_int_equal(receive8(fd, buf).msn, n);
	}
	memset(name, 'x', sizeof(name));
	longest.path = event_text(name, sizeof(name));	/* a packet above 1024 bytes would stop its own listener */
	event_stream_put(stream, &longest);
	put(stream, 0, 12);
	assert_int_equal(receive8(fd, buf).msn, 12);
	event_ring_stats(event_stream_ring(stream), &stats);
	assert_int_equal(atomic_load(&event_ring_consumers(event_stream_ring(stream))[0].dropped), 1);
	assert_int_equal(stats.next_msn, 13);
	close(fd);
	close(listener);
	event_stream_close(stream);
}

static void test_a_socket_of_lines_is_whole_over_connections(void **state)
{
	struct fixture *f = *state;
	int listener = listen_on(f->socket, SOCK_STREAM), fd;
	struct event_stream *stream;
	char sink[4200], buf[4096];
	uint64_t next = 1;
	FILE *in;

	snprintf(sink, sizeof(sink), "json:unix:%s", f->socket);
	stream = open_stream(f, sink, false, 0);
	for (int round = 0; round < 3; round++) {
		fd = accept_within(listener, 3000);
		for (unsigned n = 0; n < 100; n++)
			put(stream, 0, round * 100 + n);
		in = fdopen(fd, "r");
		for (unsigned n = 0; n < 100; n++, next++) {
			json_t *root;

			assert_non_null(fgets(buf, sizeof(buf), in));
			root = json_loads(buf, 0, NULL);
			assert_int_equal(json_integer_value(json_object_get(root, "Seq")), next);
			json_decref(root);
		}
		fclose(in);
	}
	close(listener);
	event_stream_close(stream);
}

static bool stalls(void *arg)
{
	struct event_ring_stats stats;

	event_ring_stats(event_stream_ring(arg), &stats);
	return stats.noted > stats.next_seq;
}

struct ending {
	atomic_bool ends;
};

static bool give_up(void *arg)
{
	return atomic_load(&((struct ending *)arg)->ends);
}

static void test_strict_waits_for_the_consumer_and_ends_all_the_same(void **state)
{
	struct fixture *f = *state;
	struct ending ending = { false };
	char sink[4200];
	const char *sinks[] = { sink };
	struct event_stream_options options = { .ring_path = f->ring, .ring_bytes = EVENT_RING_BYTES_MIN, .queue_bytes = 65536,
						.strict = true, .sinks = sinks, .nsinks = 1, .give_up = give_up, .arg = &ending };
	struct event_ring_found found;
	struct event_stream *stream;
	struct event_ring_stats stats;
	struct putter putter;
	pthread_t thread;

	snprintf(sink, sizeof(sink), "json:unix:%s", f->socket);	/* nobody will ever be there */
	assert_int_equal(event_stream_open(&options, &stream, &found), 0);
	putter = (struct putter){ stream, 0, 50000 };
	assert_int_equal(pthread_create(&thread, NULL, put_many, &putter), 0);
	assert_true(wait_until(stalls, stream));
	usleep(50000);
	event_ring_stats(event_stream_ring(stream), &stats);
	assert_int_equal(stats.oldest_seq, 1);		/* nothing is overwritten */
	assert_int_equal(stats.dropped, 0);
	atomic_store(&ending.ends, true);
	pthread_join(thread, NULL);
	event_stream_close(stream);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_strict_loses_nothing), TEST(test_a_full_queue_drops_and_counts), TEST(test_a_file_goes_on_where_it_ended),
		TEST(test_beegfs7_counts_what_nobody_heard), TEST(test_beegfs8_streams_from_where_it_is_asked),
		TEST(test_beegfs8_numbers_jump_only_where_events_are_lost), TEST(test_a_socket_of_lines_is_whole_over_connections),
		TEST(test_strict_waits_for_the_consumer_and_ends_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
