/* The system's log: a datagram an event, to the socket of a syslog daemon or of systemd's journal. Not by syslog(3), which is
 * one connection for the whole process and blocks: a log that does not read would hold up whoever else logs. */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_sink.h"

#define SYSLOG_SOCKET "/dev/log"
#define IDENTIFIER "wormfs"

struct syslog_sink {
	int facility;
	char packet[EVENT_JSON_MAX + EVENT_PATH_MAX + 512];
};

static const struct { const char *name; int facility; } facilities[] = {
	{ "auth", LOG_AUTH }, { "authpriv", LOG_AUTHPRIV }, { "daemon", LOG_DAEMON }, { "user", LOG_USER }, { "local0", LOG_LOCAL0 },
	{ "local1", LOG_LOCAL1 }, { "local2", LOG_LOCAL2 }, { "local3", LOG_LOCAL3 }, { "local4", LOG_LOCAL4 }, { "local5", LOG_LOCAL5 },
	{ "local6", LOG_LOCAL6 }, { "local7", LOG_LOCAL7 },
};

/* FACILITY[@SOCKET] */
static int parse(const char *where, int *ret_facility, const char **ret_path)
{
	const char *at = strchrnul(where, '@');

	for (size_t i = 0; i < sizeof(facilities) / sizeof(facilities[0]); i++) {
		if (strlen(facilities[i].name) != (size_t)(at - where) || memcmp(facilities[i].name, where, at - where) != 0)
			continue;
		*ret_facility = facilities[i].facility;
		*ret_path = *at ? at + 1 : SYSLOG_SOCKET;
		return **ret_path == '/' && event_sink_path_fits(*ret_path) ? 0 : -EINVAL;
	}
	return -EINVAL;
}

static int check_syslog(const char *where)
{
	const char *path;
	int facility;

	return parse(where, &facility, &path);
}

static int severity(const struct event *ev)
{
	if (ev->type == EVENT_GAP || ev->type == EVENT_TAMPER)
		return LOG_ERR;
	return (ev->has & EVENT_HAS_ERROR && ev->error) || ev->flags & EVENT_REFUSED ? LOG_WARNING : LOG_INFO;
}

static int send_datagram(struct event_sink *sink, const struct event *ev, const char *packet, size_t len)
{
	if (send(sink->fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return errno == EWOULDBLOCK || errno == ENOBUFS ? -EAGAIN : -errno;
	event_sink_delivered(sink, ev->seq + (ev->type == EVENT_GAP ? ev->lost : 1), 1);
	return 0;
}

static int connect_syslog(struct event_sink *sink)
{
	struct syslog_sink *own = sink->own;
	const char *path;
	int r = parse(sink->where, &own->facility, &path);

	return r < 0 ? r : event_sink_socket_to(sink, SOCK_DGRAM, path);
}

/* As syslog(3) writes it: <PRI>Mmm dd hh:mm:ss IDENT[PID]: TEXT, local time (RFC 3164, glibc misc/syslog.c). */
static int send_syslog(struct event_sink *sink, const struct event *ev)
{
	struct event_counts counts = event_sink_counts(sink);
	struct syslog_sink *own = sink->own;
	time_t second = ev->time_ns / 1000000000;
	char date[32];
	struct tm tm;
	size_t len;

	localtime_r(&second, &tm);
	strftime(date, sizeof(date), "%b %e %H:%M:%S", &tm);
	len = sprintf(own->packet, "<%d>%s " IDENTIFIER "[%d]: ", own->facility | severity(ev), date, (int)getpid());
	len += event_json_format(&sink->json, ev, &counts, own->packet + len) - 1;
	return send_datagram(sink, ev, own->packet, len);
}

/* ---- systemd's journal: its native protocol ---- */

static int check_journald(const char *where)
{
	return *where == '/' && event_sink_path_fits(where) ? 0 : -EINVAL;
}

static int connect_journald(struct event_sink *sink)
{
	return event_sink_socket_to(sink, SOCK_DGRAM, sink->where);
}

/* A field a line; of bytes that may be a newline: name, newline, length, bytes. Source: systemd, docs/JOURNAL_NATIVE_PROTOCOL.md */
static int send_journald(struct event_sink *sink, const struct event *ev)
{
	struct event_counts counts = event_sink_counts(sink);
	struct syslog_sink *own = sink->own;
	char *out = own->packet;

	out += sprintf(out, "PRIORITY=%d\nSYSLOG_IDENTIFIER=" IDENTIFIER "\nWORMFS_SEQ=%" PRIu64 "\nWORMFS_TYPE=%s\nMESSAGE=", severity(ev), ev->seq,
		       event_type_name(ev->type));
	out += event_json_format(&sink->json, ev, &counts, out);
	if (ev->has & EVENT_HAS_PATH) {
		uint64_t len = htole64(ev->path.len + 1);

		out += sprintf(out, "WORMFS_PATH\n");
		memcpy(out, &len, sizeof(len));
		out += sizeof(len);
		*out++ = '/';
		memcpy(out, ev->path.bytes, ev->path.len);
		out += ev->path.len;
		*out++ = '\n';
	}
	return send_datagram(sink, ev, own->packet, out - own->packet);
}

static void disconnect_socket(struct event_sink *sink)
{
	close(sink->fd);
}

const struct event_sink_kind event_sink_syslog = {
	.name = "syslog", .where = "FACILITY[@SOCKET]", .own_bytes = sizeof(struct syslog_sink), .check = check_syslog,
	.connect = connect_syslog, .send = send_syslog, .disconnect = disconnect_socket,
};

const struct event_sink_kind event_sink_journald = {
	.name = "journald", .where = "SOCKET", .own_bytes = sizeof(struct syslog_sink), .check = check_journald,
	.connect = connect_journald, .send = send_journald, .disconnect = disconnect_socket,
};
