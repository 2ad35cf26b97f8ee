/* JSON lines to a file, a FIFO, stdout or a UNIX stream socket. Lines leave whole and in order: a connection that breaks
 * within a line begins the next one with that line. A file tells by its last line where it ends, so not even a kill of
 * the daemon repeats or loses one there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_sink.h"
#include "lockstore/events/stdout_lines.h"

#define OUT_BYTES 262144
#define LINES 2048
#define TIME_CHARS 30	/* of "2026-11-26T01:02:03.123456789Z" */

struct json_sink {
	struct { size_t end; uint64_t next; } line[LINES];	/* of what is in `out` */
	unsigned nlines, lines_out;
	size_t len, out_len;		/* out_len of len bytes have left */
	bool is_socket;
	struct stdout_lines out_lines;	/* where it is stdout, which quota_notify may write to as well */
	dev_t dev;
	ino_t ino;			/* of the file: a rotated one is opened anew */
	time_t looked_s;
	char out[OUT_BYTES + EVENT_JSON_MAX];
};

static bool is_stdout(const struct event_sink *sink)
{
	return strcmp(sink->where, "-") == 0;
}

/* ,"KEY":N of a line of ours; 0: not there. */
static uint64_t number_of(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Whether the event that the line has is the ring's of that number: it may be of another share, or of a ring that is gone. One that the
 * ring has no more is believed. */
static bool is_of_ring(struct event_sink *sink, const char *line, uint64_t seq, uint64_t next)
{
	size_t size = EVENT_BYTES_MAX + EVENT_JSON_MAX, at = 0;
	char *buf = malloc(size + EVENT_JSON_MAX);
	struct event_cursor cursor;
	struct event_ring_stats stats;
	uint64_t overwritten, newer = 0;
	struct event_json json = { 0 };
	struct event ev;
	bool same = false;
	ssize_t len;

	event_ring_stats(sink->ring, &stats);
	if (next <= stats.oldest_seq) {
		free(buf);
		return true;
	}
	if (!buf)
		return false;
	len = event_ring_seek(sink->ring, seq, &cursor) == 0 ? event_ring_read(sink->ring, &cursor, buf, size, &overwritten) : 0;
	if (len > 0 && event_ring_next(buf, len, &at, &ev, &newer) > 0 && ev.seq == seq) {
		static const char key[] = ",\"Time\":\"";
		const struct event_counts none = { 0 };
		char *text = buf + size, *ours;
		const char *theirs = strstr(line, key);

		text[event_json_format(&json, &ev, &none, text) - 1] = '\0';
		ours = strstr(text, key);
		same = theirs && ours && strncmp(theirs, ours, sizeof(key) - 1 + TIME_CHARS) == 0;
	}
	free(buf);
	return same;
}

/* What a kill or a full disk left of a last line is taken away; the whole one before it says what the file has. */
static int resume_file(struct event_sink *sink, off_t size)
{
	size_t want = size < EVENT_JSON_MAX * 2 ? size : EVENT_JSON_MAX * 2;
	char *tail = malloc(want + 1), *end, *line;
	struct event_ring_stats stats;
	uint64_t seq, next;
	ssize_t n;
	int fd, r = 0;

	if (!tail)
		return -ENOMEM;
	fd = open(sink->where, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : pread(fd, tail, want, size - want);
	if (n < 0) {
		r = -errno;
		goto out;
	}
	tail[n] = '\0';
	end = memrchr(tail, '\n', n);
	if (end ? end + 1 != tail + n : n > 0) {
		if (!end && (off_t)n < size) {
			r = -EFBIG;	/* no line of ours is that long: not our file */
			goto out;
		}
		if (ftruncate(sink->fd, size - n + (end ? end + 1 - tail : 0)) < 0) {
			r = -errno;
			goto out;
		}
	}
	if (!end)
		goto out;
	*end = '\0';
	line = memrchr(tail, '\n', end - tail);
	line = line ? line + 1 : tail;
	seq = number_of(line, ",\"Seq\":");
	next = seq + (strstr(line, "\"Type\":\"Gap\"") ? number_of(line, ",\"Lost\":") : 1);
	event_ring_stats(sink->ring, &stats);
	if (seq && next <= stats.next_seq && is_of_ring(sink, line, seq, next))
		event_sink_delivered(sink, next, 0);
	else
		event_sink_say(sink, "its last line is of another ring of events: it goes on with what it has not got of this one", 0);
out:
	if (fd >= 0)
		close(fd);
	free(tail);
	return r;
}

static int open_file(struct event_sink *sink)
{
	struct json_sink *own = sink->own;
	struct stat st;

	sink->fd = open(sink->where, O_WRONLY | O_NONBLOCK | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	if (sink->fd < 0 || fstat(sink->fd, &st) < 0)
		return -errno;
	sink->is_file = S_ISREG(st.st_mode);
	own->dev = st.st_dev;
	own->ino = st.st_ino;
	return sink->is_file ? resume_file(sink, st.st_size) : 0;
}

static int open_stdout(struct event_sink *sink)
{
	struct json_sink *own = sink->own;
	int r = stdout_lines_open(&own->out_lines);

	if (r < 0)
		return r;
	sink->fd = own->out_lines.fd;
	sink->is_file = own->out_lines.is_file;
	return 0;
}

static int connect_json(struct event_sink *sink)
{
	struct json_sink *own = sink->own;
	int r;

	own->nlines = own->lines_out = 0;
	own->len = own->out_len = 0;
	own->is_socket = strncmp(sink->where, "unix:", 5) == 0;
	sink->is_file = false;
	if (own->is_socket)
		r = event_sink_socket(sink, SOCK_STREAM);
	else
		r = is_stdout(sink) ? open_stdout(sink) : open_file(sink);
	if (r < 0) {
		if (sink->fd >= 0 && !is_stdout(sink))
			close(sink->fd);
		return r;
	}
	event_sink_rewind(sink, event_sink_seq(sink));
	return 0;
}

/* Whole lines that have left. */
static void count_lines(struct event_sink *sink)
{
	struct json_sink *own = sink->own;
	unsigned before = own->lines_out;

	while (own->lines_out < own->nlines && own->line[own->lines_out].end <= own->out_len)
		own->lines_out++;
	if (own->lines_out > before)
		event_sink_delivered(sink, own->line[own->lines_out - 1].next, own->lines_out - before);
}

static bool was_rotated(struct event_sink *sink)
{
	struct json_sink *own = sink->own;
	time_t now = time(NULL);
	struct stat st;

	if (!sink->is_file || is_stdout(sink) || now == own->looked_s)
		return false;
	own->looked_s = now;
	return stat(sink->where, &st) < 0 || st.st_ino != own->ino || st.st_dev != own->dev;
}

static ssize_t write_out(struct event_sink *sink, const char *buf, size_t len)
{
	struct json_sink *own = sink->own;
	ssize_t n;

	if (is_stdout(sink)) {
		n = stdout_lines_write(&own->out_lines, buf, len);
		return n == -EBUSY ? -EAGAIN : n;
	}
	n = own->is_socket ? send(sink->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(sink->fd, buf, len);
	return n < 0 ? -errno : n;
}

static int flush_json(struct event_sink *sink)
{
	struct json_sink *own = sink->own;
	ssize_t n;
	int r;

	if (own->out_len == 0 && own->len > 0 && was_rotated(sink)) {
		close(sink->fd);
		r = open_file(sink);
		if (r < 0)
			return r;
	}
	while (own->out_len < own->len) {
		n = write_out(sink, own->out + own->out_len, own->len - own->out_len);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		own->out_len += n;
		count_lines(sink);
	}
	own->nlines = own->lines_out = 0;
	own->len = own->out_len = 0;
	return 0;
}

static int send_json(struct event_sink *sink, const struct event *ev)
{
	struct event_counts counts = event_sink_counts(sink);
	struct json_sink *own = sink->own;
	int r;

	if (own->nlines == LINES || own->len >= OUT_BYTES) {
		r = flush_json(sink);
		if (r < 0)
			return r;
	}
	own->len += event_json_format(&sink->json, ev, &counts, own->out + own->len);
	own->line[own->nlines].end = own->len;
	own->line[own->nlines++].next = ev->seq + (ev->type == EVENT_GAP ? ev->lost : 1);
	return 0;
}

static void disconnect_json(struct event_sink *sink)
{
	struct json_sink *own = sink->own;

	if (is_stdout(sink))
		stdout_lines_close(&own->out_lines);
	else if (sink->fd >= 0)
		close(sink->fd);
}

const struct event_sink_kind event_sink_json = {
	.name = "json", .where = "FILE, FIFO, - (stdout, with -f), or unix:SOCKET", .own_bytes = sizeof(struct json_sink),
	.connect = connect_json, .send = send_json, .flush = flush_json, .disconnect = disconnect_json,
};
