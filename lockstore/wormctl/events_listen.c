/* The listening side of BeeGFS's event protocols: what beegfs-event-listener is to a metadata server. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lockstore/events/event_json.h"
#include "lockstore/wormctl/events.h"

#define PACKET_BYTES 65536

struct listener {
	uint64_t from, count, seen;
	bool ends;
};

/* ---- a packet as JSON ---- */

/* A string from any bytes, and a twin in base64 as in the lines of a sink. */
static int set_text(json_t *object, const char *key, const char *twin, const struct event_text *text)
{
	static char escaped[6 * UINT16_MAX + 3];
	bool valid;
	size_t len;
	json_t *value;

	escaped[0] = '"';
	len = event_json_escape(text->bytes, text->len, escaped + 1, &valid);
	escaped[len + 1] = '"';
	value = json_loadb(escaped, len + 2, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!value || json_object_set_new(object, key, value) < 0)
		return -ENOMEM;
	if (valid || !twin)
		return 0;
	len = event_json_base64(text->bytes, text->len, escaped);
	return json_object_set_new(object, twin, json_stringn(escaped, len)) < 0 ? -ENOMEM : 0;
}

static json_t *event_object(const char *type, const struct beegfs_texts *texts)
{
	json_t *event = json_pack("{s:s}", "Type", type ? type : "Unknown");

	if (event && (set_text(event, "Path", "PathBase64", &texts->path) < 0 || set_text(event, "EntryId", NULL, &texts->entry_id) < 0 ||
		      set_text(event, "ParentEntryId", NULL, &texts->parent_id) < 0 ||
		      set_text(event, "TargetPath", "TargetPathBase64", &texts->target) < 0 ||
		      set_text(event, "TargetParentId", NULL, &texts->target_parent_id) < 0)) {
		json_decref(event);
		return NULL;
	}
	return event;
}

static json_t *packet7_json(const struct beegfs7_packet *p)
{
	return json_pack("{s:i, s:i, s:I, s:I, s:I, s:o}", "VersionMajor", p->major, "VersionMinor", p->minor, "PacketSize", (json_int_t)p->size,
			 "Dropped", (json_int_t)p->dropped, "Missed", (json_int_t)p->missed, "Event",
			 event_object(beegfs7_type_name(p->type), &p->texts));
}

static json_t *packet8_json(const struct beegfs8_packet *p, size_t len)
{
	static const char *const kinds[] = { "", "HandshakeRequest", "HandshakeResponse", "RequestNewest", "Newest", "RequestRange", "Range",
					     "StreamStart", "Message", "CloseRequest", "Close" };
	json_t *event, *json;

	if (p->kind == BEEGFS8_SEND_MESSAGE) {
		event = event_object(beegfs8_type_name(p->event.type), &p->event.texts);
		json = json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "VersionMajor", 2, "VersionMinor", 0, "PacketSize",
				 (json_int_t)len, "Msn", (json_int_t)p->msn, "Links", (json_int_t)p->event.links, "UserId",
				 (json_int_t)p->event.uid, "Timestamp", (json_int_t)p->event.time_ns, "Flags", (json_int_t)p->event.flags,
				 "Event", event);
		return json;
	}
	json = json_pack("{s:s, s:I}", "Packet", kinds[p->kind], "PacketSize", (json_int_t)len);
	if (!json)
		return NULL;
	if (p->kind == BEEGFS8_HANDSHAKE_REQUEST || p->kind == BEEGFS8_HANDSHAKE_RESPONSE) {
		json_object_set_new(json, "VersionMajor", json_integer(p->major));
		json_object_set_new(json, "VersionMinor", json_integer(p->minor));
	}
	if (p->kind == BEEGFS8_HANDSHAKE_RESPONSE) {
		json_object_set_new(json, "Node", json_integer(p->node));
		json_object_set_new(json, "BuddyGroup", json_integer(p->buddy_group));
	}
	if (p->kind == BEEGFS8_SEND_NEWEST || p->kind == BEEGFS8_SEND_RANGE || p->kind == BEEGFS8_STREAM_START)
		json_object_set_new(json, "Msn", json_integer(p->msn));
	if (p->kind == BEEGFS8_SEND_RANGE)
		json_object_set_new(json, "Oldest", json_integer(p->oldest));
	if (p->kind == BEEGFS8_SEND_CLOSE)
		json_object_set_new(json, "Reason", json_integer(p->reason));
	return json;
}

/* -EBADMSG: neither version's. */
static int packet_json(const void *buf, size_t len, json_t **ret_json)
{
	struct beegfs7_packet seven;
	struct beegfs8_packet eight;
	int r;

	if (beegfs7_decode(buf, len, &seven) == 0) {
		*ret_json = packet7_json(&seven);
		return 0;
	}
	r = beegfs8_decode(buf, len, &eight);
	if (r == 0)
		*ret_json = packet8_json(&eight, len);
	return r == -EPROTO ? -EBADMSG : r;
}

/* ---- listen ---- */

static int send_request(int fd, enum beegfs8_kind kind, uint64_t msn)
{
	struct beegfs8_packet packet = { .kind = kind, .major = 2, .msn = msn };
	char buf[32];
	size_t len;
	int r = beegfs8_encode(&packet, NULL, buf, sizeof(buf), &len);

	if (r == 0 && send(fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		r = -errno;
	return r;
}

static int print_event(struct listener *l, json_t *json)
{
	int r = print_json(json);

	if (fflush(stdout) != 0)
		r = -errno;
	l->seen++;
	l->ends |= l->count && l->seen >= l->count;
	return r;
}

/* Version 8 asks: handshake, range, and the stream from where we are. */
static int take8(struct listener *l, int fd, const struct beegfs8_packet *p, size_t len)
{
	int r = 0;

	switch (p->kind) {
	case BEEGFS8_HANDSHAKE_RESPONSE:
		r = send_request(fd, BEEGFS8_HANDSHAKE_REQUEST, 0);
		return r < 0 ? r : send_request(fd, BEEGFS8_REQUEST_RANGE, 0);
	case BEEGFS8_SEND_RANGE:
		if (l->from == UINT64_MAX || l->from > p->msn)
			l->from = p->msn;
		if (l->from < p->oldest) {
			complain("events %llu to %llu are gone: the oldest is %llu", (unsigned long long)l->from,
				 (unsigned long long)p->oldest - 1, (unsigned long long)p->oldest);
			l->from = p->oldest;
		}
		return send_request(fd, BEEGFS8_STREAM_START, l->from);
	case BEEGFS8_SEND_MESSAGE:
		if (p->msn > l->from)
			complain("events %llu to %llu are lost", (unsigned long long)l->from, (unsigned long long)p->msn - 1);
		l->from = p->msn + 1;
		return print_event(l, packet8_json(p, len));
	case BEEGFS8_SEND_CLOSE:
		return send_request(fd, BEEGFS8_REQUEST_RANGE, 0);	/* it goes on with the oldest */
	default:
		return 0;
	}
}

/* Until the peer goes. */
static int serve(struct listener *l, int fd)
{
	static char buf[PACKET_BYTES];
	struct beegfs7_packet seven;
	struct beegfs8_packet eight;
	int r = 0;

	while (r == 0 && !l->ends) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (beegfs7_decode(buf, n, &seven) == 0) {
			r = print_event(l, packet7_json(&seven));
			continue;
		}
		switch (beegfs8_decode(buf, n, &eight)) {
		case 0:
			r = take8(l, fd, &eight, n);
			break;
		case -EPROTO:
			break;		/* a kind that came later */
		default:
			complain("a packet of %zd bytes is of neither version: the connection is closed", n);
			return 0;
		}
	}
	/* The peer is gone: it will come again. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

/* -EADDRINUSE: somebody listens there. A socket that nobody listens on is taken away, nothing else is. */
static int make_socket(const char *path, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 || errno != ECONNREFUSED) {
			close(fd);
			return -EADDRINUSE;
		}
		(void)unlink(path);	/* else bind says so */
	}
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0 ? -errno : 0;
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int events_listen(const char *path, uint64_t from, uint64_t count)
{
	struct listener l = { .from = from, .count = count };
	int listen_fd = -1, fd, r;

	if (strncmp(path, "unix:", 5) == 0)
		path += 5;
	r = make_socket(path, &listen_fd);
	if (r < 0) {
		complain("cannot listen on %s: %s", quoted(path), r == -EADDRINUSE ? "somebody listens there already, or it is a file" : strerror(-r));
		return EXIT_COULD_NOT;
	}
	while (r == 0 && !l.ends) {
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
			r = -errno;
		if (fd < 0)
			continue;
		r = serve(&l, fd);
		close(fd);
	}
	close(listen_fd);
	(void)unlink(path);
	if (r < 0)
		complain("cannot print what came: %s", strerror(-r));
	return r < 0 ? EXIT_COULD_NOT : EXIT_YES;
}

/* ---- decode ---- */

static int print_packet(const char *buf, size_t len, const char *where)
{
	json_t *json;
	int r = packet_json(buf, len, &json);

	if (r < 0) {
		complain("%s: %zu bytes that are a packet of neither version", where, len);
		return r;
	}
	return print_json(json);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Spaces between the bytes are fine. -EINVAL: no hexadecimal. */
static int unhex(const char *line, char *out, size_t *ret_len)
{
	size_t len = 0;

	for (; *line && *line != '\n'; line++) {
		if (*line == ' ' || *line == '\t' || *line == '\r')
			continue;
		if (digit(line[0]) < 0 || digit(line[1]) < 0 || len == PACKET_BYTES)
			return -EINVAL;
		out[len++] = digit(line[0]) << 4 | digit(line[1]);
		line++;
	}
	*ret_len = len;
	return 0;
}

int events_decode(const char *file, bool raw)
{
	FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
	char *line = NULL, *buf = malloc(PACKET_BYTES), where[64];
	size_t size = 0, len, number = 0;
	bool good = true;

	if (!in || !buf) {
		complain("cannot read %s: %s", quoted(file), strerror(errno));
		free(buf);
		return EXIT_COULD_NOT;
	}
	if (raw) {
		len = fread(buf, 1, PACKET_BYTES, in);
		good = print_packet(buf, len, quoted(file)) == 0;
	}
	while (!raw && getline(&line, &size, in) > 0) {
		snprintf(where, sizeof(where), "line %zu", ++number);
		if (unhex(line, buf, &len) < 0) {
			complain("%s: write a packet a line, in hexadecimal", where);
			good = false;
		} else if (len > 0) {
			good &= print_packet(buf, len, where) == 0;
		}
	}
	free(line);
	free(buf);
	if (in != stdin)
		fclose(in);
	return good ? EXIT_YES : EXIT_NO;
}
