/* The thread of a sink. Always true: consumer->seq is the oldest event that the consumer may not have got; what the buffer
 * holds comes after it, and a lost connection begins there again (a live kind drops instead, and counts).
 *
 * Every number that a consumer is passed over with is counted once, when it is passed: by the gap that tells of it, be it in the
 * ring (the queue was full, a kill) or made here of what was overwritten. */
#include "lockstore/events/event_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/thread.h"

#define BUFFER_BYTES 262144
#define NICE 10		/* a burst of requests goes first, the ring keeps what they do */

static const struct event_sink_kind *const kinds[] = {
	&event_sink_json, &event_sink_beegfs7, &event_sink_beegfs8, &event_sink_beegfs8_long, &event_sink_cloudevents,
	&event_sink_cloudevents_batch, &event_sink_syslog, &event_sink_journald,
};

const struct event_sink_kind *event_sink_kind_at(size_t i)
{
	return i < sizeof(kinds) / sizeof(kinds[0]) ? kinds[i] : NULL;
}

static const struct event_sink_kind *find_kind(const char *spec, const char **ret_where)
{
	const char *colon = strchr(spec, ':');

	for (size_t i = 0; colon && event_sink_kind_at(i); i++) {
		if (strncmp(kinds[i]->name, spec, colon - spec) != 0 || kinds[i]->name[colon - spec] != '\0')
			continue;
		*ret_where = colon + 1;
		return colon[1] ? kinds[i] : NULL;
	}
	return NULL;
}

/* BeeGFS strips exactly "unix:", so that unix:///x is ///x. */
static const char *socket_path(const char *where)
{
	return strncmp(where, "unix:", 5) == 0 ? where + 5 : where;
}

int event_sink_check(const char *spec)
{
	const char *where;
	const struct event_sink_kind *kind = find_kind(spec, &where);

	if (!kind)
		return -EINVAL;
	if (strlen(spec) >= sizeof(((struct event_consumer *)0)->name))
		return -EINVAL;
	if (kind->check)
		return kind->check(where);
	/* Absolute: a daemon goes to the root directory. */
	if (socket_path(where)[0] != '/' && !(kind == &event_sink_json && strcmp(where, "-") == 0))
		return -EINVAL;
	if ((kind != &event_sink_json || socket_path(where) != where) &&
	    (!*socket_path(where) || strlen(socket_path(where)) >= sizeof(((struct sockaddr_un *)0)->sun_path)))
		return -EINVAL;
	return 0;
}

const char *event_sink_file(const char *spec)
{
	const char *where;
	const struct event_sink_kind *kind = find_kind(spec, &where);

	return kind == &event_sink_json && where[0] == '/' ? where : NULL;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void say(struct event_sink *sink, bool warning, const char *what, int error)
{
	char text[400];

	if (!sink->opt.say)
		return;
	snprintf(text, sizeof(text), "events to '%s': %s%s%s", sink->spec, what, error ? ": " : "", error ? strerror(error) : "");
	sink->opt.say(sink->opt.arg, warning, text);
}

static void set_error(struct event_sink *sink, int error)
{
	struct timespec t;

	if (atomic_load(&sink->consumer->error) != error || !atomic_load(&sink->consumer->since_ns)) {
		clock_gettime(CLOCK_REALTIME, &t);
		atomic_store(&sink->consumer->since_ns, t.tv_sec * 1000000000LL + t.tv_nsec);
	}
	atomic_store(&sink->consumer->error, error);
}

/* ---- for kinds ---- */

void event_sink_say(struct event_sink *sink, const char *what, int error)
{
	say(sink, true, what, error);
}

void event_sink_delivered(struct event_sink *sink, uint64_t next, uint64_t sent)
{
	atomic_store_explicit(&sink->consumer->seq, next, memory_order_release);
	if (!sent)
		return;
	atomic_fetch_add_explicit(&sink->consumer->sent, sent, memory_order_relaxed);
	if (!sink->kind->lazy)
		return;
	set_error(sink, 0);
	if (sink->said_error)
		say(sink, false, "connected", 0);
	sink->said_error = 0;
}

uint64_t event_sink_seq(const struct event_sink *sink)
{
	return atomic_load_explicit(&sink->consumer->seq, memory_order_acquire);
}

struct event_counts event_sink_counts(const struct event_sink *sink)
{
	return (struct event_counts){ .dropped = atomic_load(&sink->consumer->dropped), .missed = atomic_load(&sink->consumer->missed) };
}

static void set_lost(struct event_sink *sink, uint64_t first, uint64_t next)
{
	sink->lost_first = first;
	sink->lost = next > first ? next - first : 0;
}

static void count_lost(struct event_sink *sink, uint64_t first, uint64_t lost)
{
	uint64_t next = first + lost, from = first > sink->counted ? first : sink->counted;

	if (next <= from)
		return;		/* told once more: the connection broke meanwhile */
	atomic_fetch_add(&sink->consumer->dropped, next - from);
	sink->counted = next;
}

void event_sink_rewind(struct event_sink *sink, uint64_t seq)
{
	sink->len = sink->done = 0;
	set_lost(sink, 0, 0);
	if (event_ring_seek(sink->ring, seq, &sink->cursor) < 0)
		sink->cursor = (struct event_cursor){ .pos = 0, .seq = seq };	/* the next read finds the oldest, or says why not */
	else
		set_lost(sink, seq, sink->cursor.seq);
}

int event_sink_seek_msn(struct event_sink *sink, uint64_t msn)
{
	uint64_t seq = event_sink_seq(sink);
	struct event_ring_stats stats;
	int r;

	sink->len = sink->done = 0;
	set_lost(sink, 0, 0);
	r = event_ring_seek_msn(sink->ring, msn, &sink->cursor);
	if (r < 0)
		return r;
	event_ring_stats(sink->ring, &stats);
	if (stats.oldest_seq > seq) {
		count_lost(sink, seq, stats.oldest_seq - seq);
		event_sink_delivered(sink, stats.oldest_seq, 0);
	}
	return 0;
}

bool event_sink_path_fits(const char *path)
{
	return *path && strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path);
}

int event_sink_socket(struct event_sink *sink, int type)
{
	return event_sink_socket_to(sink, type, socket_path(sink->where));
}

int event_sink_socket_to(struct event_sink *sink, int type, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	sink->fd = fd;
	return 0;
}

/* ---- connection ---- */

static void lost(struct event_sink *sink, int error)
{
	int64_t now = now_ms();

	sink->kind->disconnect(sink);
	sink->fd = -1;
	set_error(sink, error);
	/* At once, and then once a second: one that is there and goes at once is not asked more often. */
	sink->next_try_ms = now - sink->connected_ms >= EVENT_RETRY_MS ? now : sink->connected_ms + EVENT_RETRY_MS;
	if (!sink->kind->live || sink->opt.strict)
		event_sink_rewind(sink, event_sink_seq(sink));
	if (sink->kind->lazy) {
		sink->next_try_ms = now + sink->retry_ms;
		if (sink->said_error != error && !atomic_load(&sink->stopping))
			say(sink, true, "not delivered, events wait in the ring and are sent again", error);
		sink->said_error = error;
		return;
	}
	say(sink, true, "the connection is gone", error);
	sink->said_error = error;
}

static void try_to_connect(struct event_sink *sink)
{
	int64_t now = now_ms();
	int r;

	if (now < sink->next_try_ms)
		return;
	sink->next_try_ms = now + EVENT_RETRY_MS;
	r = sink->kind->connect(sink);
	if (r < 0) {
		sink->fd = -1;
		set_error(sink, -r);
		if (sink->said_error != -r)
			say(sink, true, sink->kind->live && !sink->opt.strict ? "nobody is there, what happens is dropped and counted"
									      : "nobody is there, events wait in the ring", -r);
		sink->said_error = -r;
		return;
	}
	sink->connected_ms = now;
	if (sink->kind->lazy && sink->said_error)
		return;
	set_error(sink, 0);
	if (sink->said_error)
		say(sink, false, "connected", 0);
	sink->said_error = 0;
}

/* ---- events ---- */

/* Fills the buffer. What was overwritten before it got there, or does not verify, is to be told of first. */
static void read_more(struct event_sink *sink)
{
	uint64_t first = sink->cursor.seq, overwritten;
	struct event_cursor end;
	ssize_t n;

	sink->len = sink->done = 0;
	n = event_ring_read(sink->ring, &sink->cursor, sink->buf, BUFFER_BYTES, &overwritten);
	set_lost(sink, first, first + overwritten);
	if (n > 0)
		sink->len = n;
	/* Overwritten while it was read and no mark has told, or a bad disk: go on behind it. */
	if (n != -EBADMSG || event_ring_seek(sink->ring, UINT64_MAX, &end) < 0)
		return;
	set_lost(sink, first, end.seq);
	sink->cursor = end;
	say(sink, true, "records of the ring do not verify, they are passed over and counted", 0);
}

/* The next event; 0 bytes of the buffer: a gap that the ring does not have. False: there is none. */
static bool current(struct event_sink *sink, struct event *ret, size_t *ret_size)
{
	uint64_t newer = 0;
	size_t at;
	ssize_t n;

	for (;;) {
		if (sink->lost) {
			event_ring_overwritten(sink->ring, sink->lost_first, sink->lost, ret);
			*ret_size = 0;
			return true;
		}
		if (sink->done >= sink->len) {
			read_more(sink);
			if (sink->done >= sink->len && !sink->lost)
				return false;
			continue;
		}
		at = sink->done;
		n = event_ring_next(sink->buf, sink->len, &at, ret, &newer);
		if (newer)	/* of a newer version: its daemon ran before this one */
			atomic_fetch_add(&sink->consumer->dropped, newer);
		newer = 0;
		sink->done = n > 0 ? at - n : sink->len;
		if (n > 0) {
			*ret_size = n;
			return true;
		}
	}
}

static void pass(struct event_sink *sink, const struct event *ev, size_t size)
{
	if (ev->type == EVENT_GAP && !(ev->flags & EVENT_UPPER_BOUND))	/* how many a power cut took nobody knows */
		count_lost(sink, ev->seq, ev->lost);
	if (size == 0)
		set_lost(sink, 0, 0);
	sink->done += size;
}

static uint64_t number_after(const struct event *ev)
{
	return ev->seq + (ev->type == EVENT_GAP ? ev->lost : 1);
}

/* Until there is nothing more, or the consumer takes no more. 0, -EAGAIN, or the connection is gone. */
static int pump(struct event_sink *sink)
{
	struct event ev;
	size_t size;
	int r = 0;

	while (r == 0 && atomic_load_explicit(&sink->stopping, memory_order_relaxed) < 2 && current(sink, &ev, &size)) {
		if (ev.seq >= sink->looked_at && event_is_missed(&ev))
			atomic_fetch_add(&sink->consumer->missed, 1);
		sink->looked_at = ev.seq >= sink->looked_at ? ev.seq + 1 : sink->looked_at;	/* once, however often it is sent */
		r = sink->kind->send(sink, &ev);
		if (r == -EMSGSIZE)
			atomic_fetch_add(&sink->consumer->dropped, 1);
		if (r == -EMSGSIZE || r == -EOPNOTSUPP) {
			if (!sink->kind->flush)
				event_sink_delivered(sink, number_after(&ev), 0);
			r = 0;
		}
		if (r < 0)
			break;
		pass(sink, &ev, size);
		if (sink->done >= sink->len && sink->kind->flush)
			r = sink->kind->flush(sink);
	}
	if (r == 0 && sink->kind->flush)
		r = sink->kind->flush(sink);
	return r;
}

/* Nobody is there to be told live. */
static void drop_all(struct event_sink *sink)
{
	struct event ev;
	size_t size;

	while (current(sink, &ev, &size)) {
		if (event_beegfs7(ev.type, ev.flags, ev.has & EVENT_HAS_ERROR) >= 0)
			atomic_fetch_add(&sink->consumer->dropped, 1);
		event_sink_delivered(sink, number_after(&ev), 0);
		pass(sink, &ev, size);
	}
}

static void wait_for_news(struct event_sink *sink, bool blocked)
{
	struct pollfd fds[2] = { { .fd = sink->wake_fd, .events = POLLIN }, { .fd = sink->fd } };
	int64_t wait = sink->fd >= 0 ? -1 : sink->next_try_ms - now_ms();
	char byte[512];
	uint64_t n;
	int r = 0;

	if (sink->is_file)
		fds[1].fd = -1;
	fds[1].events = (blocked ? POLLOUT : 0) | POLLIN;
	if (poll(fds, 2, sink->fd >= 0 ? -1 : wait < 0 ? 0 : (int)wait) < 0)
		return;
	if (fds[0].revents)
		(void)!read(sink->wake_fd, &n, sizeof(n));	/* only resets it */
	if (sink->fd < 0 || !(fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
		return;
	if (sink->kind->input) {
		r = sink->kind->input(sink);
	} else if (fds[1].revents & (POLLHUP | POLLERR)) {
		r = -EPIPE;
	} else {
		ssize_t got = recv(sink->fd, byte, sizeof(byte), MSG_DONTWAIT);

		r = got > 0 || (got < 0 && (errno == EAGAIN || errno == ENOTSOCK)) ? 0 : -EPIPE;
	}
	if (r < 0 && r != -EAGAIN)
		lost(sink, -r);
}

static void *sink_thread(void *arg)
{
	struct event_sink *sink = arg;
	int r, stopping;

	if (!sink->opt.strict)
		(void)setpriority(PRIO_PROCESS, 0, NICE);	/* of this thread alone (Linux); else it is as urgent as requests */
	for (;;) {
		stopping = atomic_load(&sink->stopping);
		if (stopping > 1 || (stopping && sink->fd < 0 && sink->next_try_ms))
			break;	/* one that has just begun tries once */
		r = 0;
		if (sink->fd < 0)
			try_to_connect(sink);
		if (sink->fd >= 0 && (!sink->kind->wants || sink->kind->wants(sink)))
			r = pump(sink);
		if (r < 0 && r != -EAGAIN) {
			lost(sink, -r);
			continue;	/* once more, at once */
		}
		if (sink->fd < 0 && sink->kind->live && !sink->opt.strict)
			drop_all(sink);
		if (stopping && r == 0)
			break;
		wait_for_news(sink, r == -EAGAIN);
	}
	if (sink->fd >= 0)
		sink->kind->disconnect(sink);
	sink->fd = -1;
	return NULL;
}

/* ---- life ---- */

static void free_sink(struct event_sink *sink)
{
	if (sink->wake_fd >= 0)
		close(sink->wake_fd);
	free(sink->own);
	free(sink->buf);
	free(sink->spec);
	free(sink);
}

int event_sink_start(const char *spec, const struct event_sink_options *opt, struct event_sink **ret_sink)
{
	struct event_sink *sink = calloc(1, sizeof(*sink));
	struct event_ring_stats stats;
	bool is_new;
	int r = -ENOMEM;

	if (!sink)
		return -ENOMEM;
	sink->fd = sink->wake_fd = -1;
	sink->opt = *opt;
	sink->ring = opt->ring;
	sink->spec = strdup(spec);
	sink->kind = sink->spec ? find_kind(sink->spec, &sink->where) : NULL;
	sink->buf = malloc(BUFFER_BYTES);
	if (!sink->spec || !sink->buf)
		goto fail;
	r = sink->kind ? 0 : -EINVAL;
	if (r < 0)
		goto fail;
	if (sink->kind->own_bytes) {
		sink->own = calloc(1, sink->kind->own_bytes);
		r = sink->own ? 0 : -ENOMEM;
	}
	if (r == 0) {
		sink->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = sink->wake_fd < 0 ? -errno : 0;
	}
	if (r < 0)
		goto fail;
	sink->consumer = event_ring_consumer(sink->ring, spec, &is_new);
	event_ring_stats(sink->ring, &stats);
	if (is_new || event_sink_seq(sink) > stats.next_seq)
		atomic_store(&sink->consumer->seq, stats.next_seq);	/* a new one gets what comes */
	sink->counted = event_sink_seq(sink);
	event_sink_rewind(sink, event_sink_seq(sink));
	r = thread_start(&sink->thread, sink->kind->name, sink_thread, sink);
	if (r < 0)
		goto fail;
	*ret_sink = sink;
	return 0;
fail:
	free_sink(sink);
	return r;
}

void event_sink_wake(struct event_sink *sink)
{
	uint64_t one = 1;

	(void)!write(sink->wake_fd, &one, sizeof(one));	/* full: it is awake */
}

void event_sink_stop(struct event_sink *sink, unsigned grace_ms)
{
	struct timespec deadline;

	if (!sink)
		return;
	atomic_store(&sink->stopping, grace_ms ? 1 : 2);
	event_sink_wake(sink);
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += grace_ms / 1000;
	deadline.tv_nsec += grace_ms % 1000 * 1000000L;
	if (deadline.tv_nsec >= 1000000000L) {
		deadline.tv_nsec -= 1000000000L;
		deadline.tv_sec++;
	}
	if (!grace_ms || pthread_timedjoin_np(sink->thread, NULL, &deadline) != 0) {
		atomic_store(&sink->stopping, 2);
		event_sink_wake(sink);
		pthread_join(sink->thread, NULL);
	}
	free_sink(sink);
}
