/* BeeGFS's listeners, 7 and 8. 7: a packet an event, one way; nobody there: dropped, and counted in the next packet that
 * gets through. 8: the listener says from which number on it wants them, and may ask again for what the ring still has. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lockstore/events/beegfs.h"
#include "lockstore/events/event_sink.h"

#define NODE_ID 1	/* of the metadata server that we play */
#define V8_MAJOR 2
#define V8_MINOR 0
#define INPUT_BYTES 64	/* no request of a listener is longer */

static uint64_t number_after(const struct event *ev)
{
	return ev->seq + (ev->type == EVENT_GAP ? ev->lost : 1);
}

static int send_packet(struct event_sink *sink, const void *packet, size_t len)
{
	ssize_t n = send(sink->fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n == (ssize_t)len)
		return 0;
	return n >= 0 || errno == ENOTCONN ? -EPIPE : errno == EWOULDBLOCK || errno == ENOBUFS ? -EAGAIN : -errno;
}

static void disconnect_socket(struct event_sink *sink)
{
	close(sink->fd);
}

/* ---- 7 ---- */

static int connect7(struct event_sink *sink)
{
	return event_sink_socket(sink, SOCK_SEQPACKET);
}

static int send7(struct event_sink *sink, const struct event *ev)
{
	struct event_counts counts = event_sink_counts(sink);
	char packet[BEEGFS_PACKET_MAX];
	size_t len;
	int r;

	r = beegfs7_encode(ev, counts.dropped, counts.missed, packet, sizeof(packet), &len);
	if (r == 0)
		r = send_packet(sink, packet, len);
	if (r == 0)
		event_sink_delivered(sink, number_after(ev), 1);
	return r;
}

const struct event_sink_kind event_sink_beegfs7 = {
	.name = "beegfs7", .where = "[unix:]SOCKET", .live = true, .connect = connect7, .send = send7, .disconnect = disconnect_socket,
};

/* ---- 8 ---- */

struct beegfs8_sink {
	bool greeted, streaming;
	uint64_t from;		/* first number of the stream */
};

static int send8(struct event_sink *sink, const struct beegfs8_packet *packet, const struct event *ev, size_t size)
{
	char buf[BEEGFS_PACKET_MAX];
	size_t len;
	int r = beegfs8_encode(packet, ev, buf, size < sizeof(buf) ? size : sizeof(buf), &len);

	return r < 0 ? r : send_packet(sink, buf, len);
}

static int connect8(struct event_sink *sink)
{
	struct beegfs8_packet hello = { .kind = BEEGFS8_HANDSHAKE_RESPONSE, .major = V8_MAJOR, .minor = V8_MINOR, .node = NODE_ID };
	struct beegfs8_sink *own = sink->own;
	int r;

	own->greeted = own->streaming = false;
	r = event_sink_socket(sink, SOCK_SEQPACKET);
	if (r < 0)
		return r;
	r = send8(sink, &hello, NULL, BEEGFS_PACKET_MAX);
	if (r < 0)
		close(sink->fd);
	return r;
}

static bool wants8(struct event_sink *sink)
{
	return ((struct beegfs8_sink *)sink->own)->streaming;
}

static int end_stream(struct event_sink *sink, enum beegfs8_reason reason)
{
	struct beegfs8_packet end = { .kind = BEEGFS8_SEND_CLOSE, .reason = reason };

	((struct beegfs8_sink *)sink->own)->streaming = false;
	return send8(sink, &end, NULL, BEEGFS_PACKET_MAX);
}

/* The stream has come to what was overwritten before it got there. */
static bool is_behind(struct event_sink *sink, const struct event *ev)
{
	struct beegfs8_sink *own = sink->own;

	return ev->type == EVENT_GAP || ev->msn > own->from;
}

static int send_event8(struct event_sink *sink, const struct event *ev, size_t max)
{
	struct beegfs8_packet packet = { .kind = BEEGFS8_SEND_MESSAGE, .msn = ev->msn };
	struct beegfs8_sink *own = sink->own;
	bool is_sent = event_beegfs8(ev->type, ev->flags, ev->has & EVENT_HAS_ERROR) >= 0;
	int r;

	if (!own->streaming)
		return -EAGAIN;
	if (ev->type == EVENT_GAP && ev->msn) {		/* one without was not in the ring: overwritten */
		own->from = ev->msn + ev->lost;	/* shows as a jump of the numbers */
		return -EOPNOTSUPP;
	}
	if (is_behind(sink, ev)) {
		r = end_stream(sink, BEEGFS8_STREAM_CRASHED);
		return r == 0 ? -EAGAIN : r == -EAGAIN ? -ENOBUFS : r;	/* who is not told would wait for ever */
	}
	if (!is_sent)
		return -EOPNOTSUPP;
	r = send8(sink, &packet, ev, max);
	if (r == 0 || r == -EMSGSIZE)
		own->from = ev->msn + 1;
	if (r == 0)
		event_sink_delivered(sink, number_after(ev), 1);
	return r;
}

static int send_usual8(struct event_sink *sink, const struct event *ev)
{
	return send_event8(sink, ev, BEEGFS8_PACKET_USUAL);
}

static int send_long8(struct event_sink *sink, const struct event *ev)
{
	return send_event8(sink, ev, BEEGFS_PACKET_MAX);
}

static int start_stream(struct event_sink *sink, uint64_t msn)
{
	struct beegfs8_sink *own = sink->own;
	struct event_ring_stats stats;
	int r;

	event_ring_stats(sink->ring, &stats);
	if (msn < stats.oldest_msn || msn > stats.next_msn)
		return end_stream(sink, BEEGFS8_STREAM_CRASHED);
	r = event_sink_seek_msn(sink, msn);
	if (r < 0)
		return end_stream(sink, BEEGFS8_STREAM_CRASHED);
	own->streaming = true;
	own->from = msn;
	return 0;
}

static int answer(struct event_sink *sink, const struct beegfs8_packet *request)
{
	struct beegfs8_sink *own = sink->own;
	struct event_ring_stats stats;
	int r;

	if (!own->greeted && request->kind != BEEGFS8_HANDSHAKE_REQUEST) {
		(void)end_stream(sink, BEEGFS8_PROTOCOL_ERROR);	/* and that was it */
		return -EPROTO;
	}
	event_ring_stats(sink->ring, &stats);
	switch (request->kind) {
	case BEEGFS8_HANDSHAKE_REQUEST:
		own->greeted = true;
		if (request->major != V8_MAJOR || request->minor != V8_MINOR)	/* it knows ours, and stays or goes */
			event_sink_say(sink, "the listener speaks another version of the protocol, and is served all the same", 0);
		return 0;
	case BEEGFS8_REQUEST_NEWEST:
		return send8(sink, &(struct beegfs8_packet){ .kind = BEEGFS8_SEND_NEWEST, .msn = stats.next_msn }, NULL, BEEGFS_PACKET_MAX);
	case BEEGFS8_REQUEST_RANGE:
		return send8(sink, &(struct beegfs8_packet){ .kind = BEEGFS8_SEND_RANGE, .msn = stats.next_msn, .oldest = stats.oldest_msn },
			     NULL, BEEGFS_PACKET_MAX);
	case BEEGFS8_STREAM_START:
		return start_stream(sink, request->msn);
	case BEEGFS8_CLOSE_REQUEST:
		r = end_stream(sink, BEEGFS8_ACKNOWLEDGED);
		return r < 0 ? r : -ESHUTDOWN;
	default:
		return 0;	/* what only we may say is passed over, as what is not known */
	}
}

static int input8(struct event_sink *sink)
{
	struct beegfs8_packet request;
	char buf[INPUT_BYTES];
	ssize_t n;
	int r = 0;

	while (r == 0) {
		n = recv(sink->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0)
			return errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -EPIPE;
		r = beegfs8_decode(buf, n, &request);
		if (r == 0)
			r = answer(sink, &request);
		else if (r == -EPROTO)
			r = 0;
		else
			(void)end_stream(sink, BEEGFS8_PROTOCOL_ERROR);	/* and that was it */
	}
	return r == -EAGAIN ? -ENOBUFS : r;	/* an answer that does not leave: it would wait for ever */
}

const struct event_sink_kind event_sink_beegfs8 = {
	.name = "beegfs8", .where = "[unix:]SOCKET", .own_bytes = sizeof(struct beegfs8_sink), .connect = connect8, .send = send_usual8,
	.input = input8, .wants = wants8, .disconnect = disconnect_socket,
};

const struct event_sink_kind event_sink_beegfs8_long = {
	.name = "beegfs8-long", .where = "[unix:]SOCKET; also packets above 1024 bytes", .own_bytes = sizeof(struct beegfs8_sink),
	.connect = connect8, .send = send_long8, .input = input8, .wants = wants8, .disconnect = disconnect_socket,
};
