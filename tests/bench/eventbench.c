/* Events a second from threads that note them to a file, a FIFO and a UNIX socket of JSON lines, and how many were dropped; and what
 * noting one costs who does it. Usage: eventbench DIR [EVENTS] [RATE]. One line of JSON. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_stream.h"

#define THREADS 2
#define RING_BYTES (64ULL << 20)

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

struct putter {
	struct event_stream *stream;
	uint64_t count;
	double rate;		/* events a second, 0: as fast as it goes */
	double busy_s;		/* of which it was noting */
};

/* What a create looks like. */
static void *put_many(void *arg)
{
	struct putter *p = arg;
	double begin = now_s();

	for (uint64_t n = 0; n < p->count; n++) {
		struct event ev = {
			.type = EVENT_CREATE, .has = EVENT_HAS_NODE | EVENT_HAS_PARENT | EVENT_HAS_NLINK | EVENT_HAS_MODE | EVENT_HAS_SIZE |
			EVENT_HAS_MTIME | EVENT_HAS_ACTOR | EVENT_HAS_OPEN_FLAGS | EVENT_HAS_COMM | EVENT_HAS_PATH | EVENT_HAS_OWNER,
			.node = { n, 7, 0 }, .parent = { 2, 7, 0 }, .nlink = 1, .mode = 0100644, .time_ns = 1700000000000000000 + n,
			.actor = { 1000, 1000, 4711 }, .comm = { "rsync", 5 },
		};
		char path[64];

		ev.path = event_text(path, snprintf(path, sizeof(path), "projects/2026/data set/file-%llu.dat", (unsigned long long)n));
		event_stream_put(p->stream, &ev);
		if (p->rate && n % 100 == 99) {	/* in bursts of 100 */
			double ahead_s = (n + 1) / p->rate - (now_s() - begin);

			if (ahead_s > 0)
				usleep(ahead_s * 1e6);
		}
	}
	p->busy_s = now_s() - begin;
	return NULL;
}

enum kind { TO_FILE, TO_FIFO, TO_SOCKET };

/* Reads until the end and looks at nothing. */
static void *read_all(void *arg)
{
	static char buf[1 << 18];
	int from = *(int *)arg, fd = from;
	struct stat st;

	if (fstat(from, &st) == 0 && S_ISSOCK(st.st_mode))
		fd = accept4(from, NULL, NULL, SOCK_CLOEXEC);
	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	if (fd != from && fd >= 0)
		close(fd);
	return NULL;
}

/* What a reader reads from; -1: it cannot be. */
static int reader_open(enum kind kind, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (kind == TO_FIFO) {
		if (mkfifo(path, 0600) < 0)
			return -1;
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);	/* before the sink, which is the first and the last writer */
		return fd;
	}
	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int run(const char *dir, enum kind kind, uint64_t events, double rate, const char *name, const char *before)
{
	char ring[4096], sink[4200];
	const char *path;
	pthread_t reader;
	int fd = -1;
	const char *sinks[] = { sink };
	struct event_stream_options options = { .ring_path = ring, .ring_bytes = RING_BYTES, .strict = rate == 0, .sinks = sinks, .nsinks = 1 };
	struct event_ring_found found;
	const struct event_consumer *consumer;
	struct event_stream *stream;
	struct event_ring_stats stats;
	struct putter putters[THREADS];
	pthread_t threads[THREADS];
	double begin, seconds;
	uint64_t dropped;

	snprintf(ring, sizeof(ring), "%s/bench.ring", dir);
	snprintf(sink, sizeof(sink), "json:%s%s/bench.jsonl", kind == TO_SOCKET ? "unix:" : "", dir);
	path = sink + strlen(kind == TO_SOCKET ? "json:unix:" : "json:");
	unlink(ring);
	unlink(path);
	if (kind != TO_FILE) {
		fd = reader_open(kind, path);
		if (fd < 0)
			return 1;
	}
	if (event_stream_open(&options, &stream, &found) < 0)
		return 1;
	if (fd >= 0) {
		if (kind == TO_FIFO) {	/* there is a writer soon: wait for what it writes */
			struct event ev = { .type = EVENT_MOUNT };

			event_stream_put(stream, &ev);
			do
				usleep(1000);
			while (atomic_load(&event_ring_consumers(event_stream_ring(stream))->sent) == 0);
			fcntl(fd, F_SETFL, 0);
		}
		pthread_create(&reader, NULL, read_all, &fd);
	}
	begin = now_s();
	for (unsigned i = 0; i < THREADS; i++) {
		putters[i] = (struct putter){ stream, events / THREADS, rate / THREADS, 0 };
		pthread_create(&threads[i], NULL, put_many, &putters[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	consumer = event_ring_consumers(event_stream_ring(stream));
	do {
		usleep(1000);
		event_ring_stats(event_stream_ring(stream), &stats);
	} while (stats.next_seq <= stats.noted || atomic_load(&consumer->seq) < stats.next_seq);
	seconds = now_s() - begin;
	dropped = stats.dropped + atomic_load(&consumer->dropped);
	printf("%s\"%s\":{\"events\":%llu,\"seconds\":%.3f,\"events_per_s\":%.0f,\"dropped\":%llu}", before, name,
	       (unsigned long long)(events / THREADS * THREADS), seconds, events / seconds, (unsigned long long)dropped);
	event_stream_close(stream);
	if (fd >= 0) {
		pthread_join(reader, NULL);
		close(fd);
	}
	unlink(ring);
	unlink(path);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t events = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000000;
	double rate = argc > 3 ? atof(argv[3]) : 205000;	/* 200,000 and what the pauses take */

	if (argc < 2) {
		fprintf(stderr, "usage: eventbench DIR [EVENTS] [RATE]\n");
		return 2;
	}
	/* Flat out, where who notes waits rather than loses; then at a rate that nobody waits for. */
	if (run(argv[1], TO_FILE, events, 0, "flat_out", "{") || run(argv[1], TO_FIFO, events, 0, "flat_out_to_a_FIFO", ",") ||
	    run(argv[1], TO_SOCKET, events, 0, "flat_out_to_a_socket", ",") || run(argv[1], TO_FILE, events, rate, "paced", ","))
		return 2;
	puts("}");
	return 0;
}
