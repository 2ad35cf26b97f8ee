/* The mocks' HTTP server, seen by a client that speaks over a bare socket. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "mockarchive/http_cert.h"
#include "mockarchive/http_listen.h"
#include "mockarchive/http_server.h"
#include "mockarchive/http_url.h"
#include "tests/unit/unit.h"

#define DEADLINE_MS 10000

/* ---- the client ---- */

static int dial(const struct http_server *server)
{
	const char *address = http_server_address(server);
	int fd;

	if (strncmp(address, "unix:", 5) == 0) {
		struct sockaddr_un a = { .sun_family = AF_UNIX };

		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		strcpy(a.sun_path, address + 5);
		assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	} else {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

		a.sin_port = htons((in_port_t)atoi(strrchr(address, ':') + 1));
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	}
	return fd;
}

static void say(int fd, const char *text)
{
	size_t len = strlen(text);

	assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

/* Appends what comes until `want` is in it; false: the connection ended without. */
static bool hear(int fd, char *buf, size_t size, const char *want)
{
	size_t len = strlen(buf);

	while (!want || !strstr(buf, want)) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&pfd, 1, DEADLINE_MS) <= 0)
			fail_msg("nothing came within %d ms after: %s", DEADLINE_MS, buf);
		assert_true(len < size - 1);
		n = recv(fd, buf + len, size - 1 - len, 0);
		if (n <= 0)
			return want == NULL;
		len += n;
		buf[len] = '\0';
	}
	return true;
}

/* One request on a connection of its own that the server is told to close; all that came. */
static const char *ask(const struct http_server *server, const char *request)
{
	static char buf[1 << 16];
	int fd = dial(server);

	buf[0] = '\0';
	say(fd, request);
	hear(fd, buf, sizeof(buf), NULL);
	close(fd);
	return buf;
}

static const char *get(const struct http_server *server, const char *target)
{
	char request[8192];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target);
	return ask(server, request);
}

/* ---- the server ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct http_request *deferred;
	struct http_stream *stream;
	unsigned handled, gone;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void on_gone(void *owner)
{
	pthread_mutex_lock(&seen.lock);
	seen.gone++;
	pthread_cond_broadcast(&seen.changed);
	pthread_mutex_unlock(&seen.lock);
}

#define WAIT_UNTIL(condition) do {									\
	struct timespec until_;										\
	clock_gettime(CLOCK_REALTIME, &until_);								\
	until_.tv_sec += DEADLINE_MS / 1000;								\
	pthread_mutex_lock(&seen.lock);									\
	while (!(condition))										\
		if (pthread_cond_timedwait(&seen.changed, &seen.lock, &until_))				\
			fail_msg("never: %s", #condition);						\
	pthread_mutex_unlock(&seen.lock);								\
} while (0)

static void echo(struct http_request *req)
{
	const char *header = http_request_header(req, "x-test");
	size_t len;
	const char *body = http_request_body(req, &len);

	http_reply_json(req, 200, json_pack("{s:s, s:s, s:s*, s:s*, s:s%, s:I}", "method", http_request_method(req),
		"path", http_request_path(req), "query", http_request_query(req), "header", header, "body", body, len,
		"connection", (json_int_t)http_request_connection(req)));
}

static void shaped(struct http_request *req, const struct http_shape *shape)
{
	http_request_set_shape(req, shape);
	http_request_add_header(req, "X-Shape", "yes");
	http_reply(req, 200, "text/plain", "0123456789", 10);
}

static void handler(void *owner, struct http_request *req)
{
	const char *path = http_request_path(req);

	if (strcmp(path, "/drop") == 0) {
		http_reply_drop(req);
	} else if (strcmp(path, "/cut") == 0) {
		shaped(req, &(struct http_shape){ .cut = true, .cut_bytes = 4 });
	} else if (strcmp(path, "/chunked") == 0) {
		shaped(req, &(struct http_shape){ .chunked = true });
	} else if (strcmp(path, "/pieces") == 0) {
		shaped(req, &(struct http_shape){ .chunked = true, .piece_bytes = 4, .pause_ms = 30 });
	} else if (strcmp(path, "/late") == 0) {
		shaped(req, &(struct http_shape){ .delay_ms = 100 });
	} else if (strcmp(path, "/late-drop") == 0) {
		http_request_set_shape(req, &(struct http_shape){ .delay_ms = 50 });
		http_reply_drop(req);
	} else if (strcmp(path, "/uid") == 0) {
		unsigned uid = 0;
		int r = http_request_peer_uid(req, &uid);

		http_reply_json(req, 200, json_pack("{s:i, s:i}", "r", r, "uid", (int)uid));
	} else if (strcmp(path, "/defer") == 0) {
		pthread_mutex_lock(&seen.lock);
		seen.deferred = req;
		pthread_cond_broadcast(&seen.changed);
		pthread_mutex_unlock(&seen.lock);
	} else if (strcmp(path, "/stream") == 0) {
		struct http_stream_options options = { .status = 200, .content_type = "text/event-source", .buffer_max_bytes = 1000,
			.keepalive = ": keepalive\n\n", .keepalive_ms = 20, .gone = on_gone };
		struct http_stream *stream;

		assert_int_equal(http_reply_stream(req, &options, &stream), 0);
		pthread_mutex_lock(&seen.lock);
		seen.stream = stream;
		pthread_cond_broadcast(&seen.changed);
		pthread_mutex_unlock(&seen.lock);
	} else {
		echo(req);
	}
}

static struct http_server *start_at(const char *listen, unsigned threads)
{
	struct http_server_options options = { .listen = listen, .threads = threads, .body_max_bytes = 1000, .handler = handler };
	struct http_server *server;

	assert_int_equal(http_server_open(&options, &server), 0);
	memset(&seen.deferred, 0, sizeof(seen) - offsetof(__typeof__(seen), deferred));
	return server;
}

static struct http_server *start(void)
{
	return start_at("127.0.0.1:0", 2);
}

static struct http_request *take_deferred(void)
{
	struct http_request *req;

	WAIT_UNTIL(seen.deferred);
	req = seen.deferred;
	seen.deferred = NULL;
	return req;
}

/* ---- promises ---- */

static void the_path_stays_as_it_came(void **state)
{
	struct http_server *server = start();

	CHECK("nothing is decoded", strstr(get(server, "/v1/files/%2Fa%2fb%20c/x?q=%41+1&r"),
		"\"path\":\"/v1/files/%2Fa%2fb%20c/x\",\"query\":\"q=%41+1&r\""));
	CHECK("no question mark, no query", !strstr(get(server, "/a"), "query"));
	CHECK("an empty query is one", strstr(get(server, "/a?"), "\"query\":\"\""));
	http_server_close(server);
}

static void a_connection_is_kept_and_numbered(void **state)
{
	struct http_server *server = start();
	char buf[4096] = "";
	int fd = dial(server);

	say(fd, "PUT /one HTTP/1.1\r\nHost: x\r\nX-Test: yes\r\nContent-Length: 3\r\n\r\na\r\n");
	CHECK("one", hear(fd, buf, sizeof(buf), "{\"method\":\"PUT\",\"path\":\"/one\",\"header\":\"yes\",\"body\":\"a\\r\\n\",\"connection\":1}"));
	say(fd, "POST /two HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
	CHECK("two", hear(fd, buf, sizeof(buf), "\"body\":\"abc\",\"connection\":1}"));
	CHECK("a date is sent", strstr(buf, "\r\nDate: "));
	close(fd);
	CHECK("another connection, another number", strstr(get(server, "/three"), "\"connection\":2}"));
	http_server_close(server);
}

static void a_body_over_the_limit_is_answered_413(void **state)
{
	struct http_server *server = start();
	char request[4096];
	int n;

	CHECK("announced", strstr(ask(server, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"), " 413 "));
	n = sprintf(request, "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", 1001);
	memset(request + n, 'a', 1001);
	strcpy(request + n + 1001, "\r\n0\r\n\r\n");
	CHECK("found out", strstr(ask(server, request), " 413 "));
	n = sprintf(request, "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n");
	memset(request + n, 'a', 1000);
	request[n + 1000] = '\0';
	CHECK("the limit itself is allowed", strstr(ask(server, request), " 200 "));
	http_server_close(server);
}

static void nonsense_is_refused_and_costs_nothing(void **state)
{
	static const char *requests[] = { "GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" };
	struct http_server *server = start();

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		int fd = dial(server);
		char buf[4096] = "";

		say(fd, requests[i]);
		shutdown(fd, SHUT_WR);
		hear(fd, buf, sizeof(buf), NULL);
		CHECK(requests[i], !strstr(buf, " 200 "));
		close(fd);
	}
	CHECK("it goes on", strstr(get(server, "/"), " 200 "));
	http_server_close(server);
}

static void an_answer_may_come_later_from_another_thread(void **state)
{
	struct http_server *server = start();
	char buf[4096] = "";
	int fd = dial(server);

	say(fd, "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
	http_reply_json(take_deferred(), 202, json_pack("{s:b}", "later", 1));
	CHECK("it comes", hear(fd, buf, sizeof(buf), "{\"later\":true}"));
	say(fd, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
	CHECK("and the connection goes on", hear(fd, buf, sizeof(buf), "\"path\":\"/next\""));
	/* The client goes while its answer is owed. */
	say(fd, "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(seen.deferred);
	close(fd);
	http_reply_json(take_deferred(), 202, json_pack("{s:b}", "later", 1));
	/* The server closes while an answer is owed. */
	fd = dial(server);
	say(fd, "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(seen.deferred);
	http_server_close(server);
	http_reply_json(take_deferred(), 202, json_pack("{s:b}", "later", 1));
	close(fd);
}

static void a_reply_comes_in_the_shape_that_was_asked_for(void **state)
{
	struct http_server *server = start();
	struct timespec before, after;
	const char *reply;

	CHECK_STR("dropped: nothing at all", get(server, "/drop"), "");
	CHECK_STR("dropped later", get(server, "/late-drop"), "");
	reply = get(server, "/cut");
	CHECK("cut: the length is promised", strstr(reply, "Content-Length: 10\r\n"));
	CHECK_STR("and not kept", strstr(reply, "\r\n\r\n"), "\r\n\r\n0123");
	reply = get(server, "/chunked");
	CHECK("chunked", strstr(reply, "Transfer-Encoding: chunked\r\n") && strstr(reply, "\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"));
	CHECK("a header of the handler's", strstr(reply, "X-Shape: yes\r\n"));
	clock_gettime(CLOCK_MONOTONIC, &before);
	reply = get(server, "/pieces");
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK("in pieces", strstr(reply, "\r\n\r\n4\r\n0123\r\n4\r\n4567\r\n2\r\n89\r\n0\r\n\r\n"));
	CHECK("with pauses", (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 55);
	clock_gettime(CLOCK_MONOTONIC, &before);
	reply = get(server, "/late");
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK("late", (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 95);
	CHECK("but whole", strstr(reply, "0123456789"));
	http_server_close(server);
}

static void delayed_replies_are_served_in_parallel(void **state)
{
	enum { CLIENTS = 200 };
	struct http_server *server = start();
	struct timespec before, after;
	int fds[CLIENTS];

	clock_gettime(CLOCK_MONOTONIC, &before);
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = dial(server);
		say(fds[i], "GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
	}
	for (int i = 0; i < CLIENTS; i++) {
		char buf[4096] = "";

		CHECK("each is answered", hear(fds[i], buf, sizeof(buf), "0123456789"));
		close(fds[i]);
	}
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK("200 times 100 ms are far from 20 s", after.tv_sec - before.tv_sec < 5);
	http_server_close(server);
}

static void a_stream_carries_what_is_pushed(void **state)
{
	struct http_server *server = start();
	char buf[65536] = "", big[600];
	int fd = dial(server), r;

	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(seen.stream);
	CHECK("the head comes before any event", hear(fd, buf, sizeof(buf), "Content-Type: text/event-source\r\n"));
	CHECK_INT("push", http_stream_push(seen.stream, "data: 1\n\n", 9), 0);
	CHECK("it comes at once", hear(fd, buf, sizeof(buf), "data: 1\n\n"));
	CHECK("and a sign of life", hear(fd, buf, sizeof(buf), ": keepalive\n\n"));
	memset(big, 'x', sizeof(big));
	/* Nobody reads: first the sockets are full, then the buffer. */
	for (unsigned i = 0; (r = http_stream_push(seen.stream, big, sizeof(big))) == 0; )
		if (++i % 64 == 0)
			sched_yield();
	CHECK_INT("a client that is behind is told from one that is gone", r, -ENOBUFS);
	CHECK("not yet gone", seen.gone == 0);
	close(fd);
	WAIT_UNTIL(seen.gone == 1);
	CHECK_INT("gone", http_stream_push(seen.stream, big, 1), -EPIPE);
	http_stream_end(seen.stream);
	http_server_close(server);
}

static void the_end_of_a_stream_comes_after_its_last_bytes(void **state)
{
	struct http_server *server = start();
	char buf[4096] = "";
	int fd = dial(server);

	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(seen.stream);
	CHECK_INT("push", http_stream_push(seen.stream, "data: last\n\n", 12), 0);
	http_stream_end(seen.stream);
	CHECK("all of it", hear(fd, buf, sizeof(buf), "data: last\n\n"));
	CHECK("and the end", hear(fd, buf, sizeof(buf), "\r\n0\r\n\r\n"));
	WAIT_UNTIL(seen.gone == 1);
	close(fd);
	http_server_close(server);
}

static void a_client_that_goes_in_silence_is_noticed(void **state)
{
	struct http_server *server = start();
	int fd = dial(server);

	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(seen.stream);
	close(fd);
	WAIT_UNTIL(seen.gone == 1);
	http_stream_end(seen.stream);
	/* And one that the server itself cuts. */
	seen.stream = NULL;
	fd = dial(server);
	say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(seen.stream);
	http_server_close(server);
	CHECK_INT("told", seen.gone, 2);
	CHECK_INT("gone", http_stream_push(seen.stream, "x", 1), -EPIPE);
	http_stream_end(seen.stream);
	close(fd);
}

static void it_listens_where_it_is_told_and_only_on_loopback(void **state)
{
	static const struct { const char *spec; bool remote; int want; } cases[] = {
		{ "127.0.0.1:0", false, 0 }, { "127.9.9.9:0", false, 0 }, { "localhost:0", false, 0 }, { "[::1]:0", false, 0 },
		{ "0.0.0.0:0", false, -EPERM }, { "[::]:0", false, -EPERM }, { "192.0.2.1:0", false, -EPERM }, { "0.0.0.0:0", true, 0 },
		{ "example.org:80", false, -EINVAL }, { "127.0.0.1", false, -EINVAL }, { "127.0.0.1:65536", false, -EINVAL },
		{ "127.0.0.1:", false, -EINVAL }, { "127.0.0.1:-1", false, -EINVAL }, { "::1:0", false, -EINVAL }, { "unix:", false, -EINVAL },
		{ "", false, -EINVAL }, { "192.0.2.1:0", true, -EADDRNOTAVAIL },
	};
	char text[HTTP_LISTEN_TEXT_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = -1, r = http_listen(cases[i].spec, cases[i].remote, &fd, text);

		if (r == -EAFNOSUPPORT || (r == -EADDRNOTAVAIL && strcmp(cases[i].spec, "[::1]:0") == 0)) {
			print_message("SKIPPED, no IPv6 here: %s\n", cases[i].spec);
			continue;
		}
		CHECK_INT(cases[i].spec, r, cases[i].want);
		CHECK("the port is a real one", r < 0 || !strstr(text, ":0"));
		if (fd >= 0)
			close(fd);
	}
}

static void a_unix_socket_is_private_and_knows_its_peer(void **state)
{
	char *dir = temp_dir_make(), spec[256], want[64];
	struct http_server *server, *second;
	struct http_server_options options = { .listen = spec, .handler = handler };
	struct stat st;
	int fd;

	snprintf(spec, sizeof(spec), "unix:%s", path_in(dir, "socket"));
	/* One that a killed server left. */
	fd = -1;
	char text[HTTP_LISTEN_TEXT_BYTES];
	CHECK_INT("first", http_listen(spec, false, &fd, text), 0);
	close(fd);
	server = start_at(spec, 1);
	CHECK_INT("it is there", lstat(path_in(dir, "socket"), &st), 0);
	CHECK_INT("and its owner's", st.st_mode & 07777, 0600);
	snprintf(want, sizeof(want), "{\"r\":0,\"uid\":%u}", getuid());
	CHECK("the peer", strstr(get(server, "/uid"), want));
	CHECK_INT("one in use stays", http_server_open(&options, &second), -EADDRINUSE);
	CHECK("and works", strstr(get(server, "/a%20b"), "/a%20b"));
	http_server_close(server);
	CHECK_INT("it goes with the server", lstat(path_in(dir, "socket"), &st), -1);
	temp_dir_remove(dir);
}

static void a_certificate_that_is_none_is_refused(void **state)
{
	struct http_server_options options = { .listen = "127.0.0.1:0", .handler = handler, .cert_pem = "x", .key_pem = "y" };
	struct http_server *server;
	char *cert, *key;

	CHECK_INT("refused", http_server_open(&options, &server), -EBADMSG);
	CHECK_INT("made", http_cert_make("mock", "192.0.2.7", 30, &cert, &key), 0);
	CHECK("not a name", http_cert_make("mock", "a,IP:192.0.2.8", 30, &cert, &key) < 0);
	options.cert_pem = cert;
	options.key_pem = key;
	CHECK_INT("accepted", http_server_open(&options, &server), 0);
	http_server_close(server);
	free(cert);
	free(key);
}

static void percent_encoding_goes_both_ways(void **state)
{
	static const struct { const char *text, *want; int r; } cases[] = {
		{ "%2Fa%2fb%20c", "/a/b c", 0 }, { "a+b", "a+b", 0 }, { "", "", 0 }, { "%", NULL, -EINVAL }, { "%4", NULL, -EINVAL },
		{ "%4g", NULL, -EINVAL }, { "%ff", "\xff", 0 }, { "a%2", NULL, -EINVAL },
	};
	char *text;
	size_t len;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(cases[i].text, http_percent_decode(cases[i].text, strlen(cases[i].text), &text, &len), cases[i].r);
		if (cases[i].r < 0)
			continue;
		CHECK_STR(cases[i].text, text, cases[i].want);
		free(text);
	}
	CHECK_INT("a NUL counts", http_percent_decode("a%00b", 5, &text, &len), 0);
	CHECK_INT("three bytes", len, 3);
	free(text);
	text = http_percent_encode("/a b\xff~", 6);
	CHECK_STR("all but the unreserved", text, "%2Fa%20b%FF~");
	free(text);
}

static void a_query_is_read_by_name(void **state)
{
	static const struct { const char *query, *name, *want; int r; } cases[] = {
		{ "a=1&b=%2F", "b", "/", 0 }, { "a=1&b", "b", "", 0 }, { "a=1&b=", "b", "", 0 }, { "a=1", "b", NULL, -ENOENT },
		{ NULL, "b", NULL, -ENOENT }, { "", "b", NULL, -ENOENT }, { "b=%zz", "b", NULL, -EINVAL }, { "b=%00", "b", NULL, -EINVAL },
		{ "%62=x", "b", "x", 0 }, { "b=1&b=2", "b", "1", 0 }, { "%zz=1&b=2", "b", "2", 0 }, { "&&b=a=c", "b", "a=c", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *value = NULL;

		CHECK_INT(cases[i].query ? cases[i].query : "none", http_query_get(cases[i].query, cases[i].name, &value), cases[i].r);
		if (cases[i].want)
			CHECK_STR(cases[i].query, value, cases[i].want);
		free(value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_path_stays_as_it_came),
		cmocka_unit_test(a_connection_is_kept_and_numbered),
		cmocka_unit_test(a_body_over_the_limit_is_answered_413),
		cmocka_unit_test(nonsense_is_refused_and_costs_nothing),
		cmocka_unit_test(an_answer_may_come_later_from_another_thread),
		cmocka_unit_test(a_reply_comes_in_the_shape_that_was_asked_for),
		cmocka_unit_test(delayed_replies_are_served_in_parallel),
		cmocka_unit_test(a_stream_carries_what_is_pushed),
		cmocka_unit_test(the_end_of_a_stream_comes_after_its_last_bytes),
		cmocka_unit_test(a_client_that_goes_in_silence_is_noticed),
		cmocka_unit_test(it_listens_where_it_is_told_and_only_on_loopback),
		cmocka_unit_test(a_unix_socket_is_private_and_knows_its_peer),
		cmocka_unit_test(a_certificate_that_is_none_is_refused),
		cmocka_unit_test(percent_encoding_goes_both_ways),
		cmocka_unit_test(a_query_is_read_by_name),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
