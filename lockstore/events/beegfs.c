/* Source of the formats: facts of ThinkParQ/beegfs 7.0 to 8.3.1, checked with the listener of 7.4.7; the golden packets are
 * in tests/unit/test_event.c. */
#include "lockstore/events/beegfs.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define V7_FIXED 28
#define V8_MAGIC "events"	/* with its NUL */
#define V8_HEADER 8
#define V8_EVENT_FORMAT 2

/* ---- writing: the caller has checked that it fits ---- */

static char *put16(char *out, uint16_t n)
{
	n = htole16(n);
	memcpy(out, &n, 2);
	return out + 2;
}

static char *put32(char *out, uint32_t n)
{
	n = htole32(n);
	memcpy(out, &n, 4);
	return out + 4;
}

static char *put64(char *out, uint64_t n)
{
	n = htole64(n);
	memcpy(out, &n, 8);
	return out + 8;
}

static char *put_string(char *out, const struct event_text *text, bool slash)
{
	out = put32(out, text->len + slash);
	if (slash)
		*out++ = '/';
	memcpy(out, text->bytes, text->len);
	out += text->len;
	*out++ = '\0';
	return out;
}

struct ids {
	char entry[EVENT_ENTRY_ID_BYTES], parent[EVENT_ENTRY_ID_BYTES], target_parent[EVENT_ENTRY_ID_BYTES];
	struct beegfs_texts texts;
	bool path_slash, target_slash;	/* paths are of the mount, ours begin without '/'; a link's text is no path */
};

static struct event_text id_text(char *buf, const struct event_node *node, bool known)
{
	return event_text(buf, known ? event_entry_id(node, buf) : 0);
}

static size_t collect(const struct event *ev, struct ids *ids)
{
	struct beegfs_texts *t = &ids->texts;

	t->entry_id = id_text(ids->entry, &ev->node, ev->has & EVENT_HAS_NODE);
	t->parent_id = id_text(ids->parent, &ev->parent, ev->has & EVENT_HAS_PARENT);
	t->target_parent_id = id_text(ids->target_parent, &ev->target_parent, ev->has & EVENT_HAS_TARGET_PARENT);
	t->path = ev->has & EVENT_HAS_PATH ? ev->path : event_text("", 0);
	t->target = ev->has & EVENT_HAS_TARGET ? ev->target : event_text("", 0);
	ids->path_slash = ev->has & EVENT_HAS_PATH;
	ids->target_slash = ev->has & EVENT_HAS_TARGET && ev->type != EVENT_SYMLINK;
	return 5 * 5 + t->entry_id.len + t->parent_id.len + t->target_parent_id.len + t->path.len + ids->path_slash + t->target.len +
	       ids->target_slash;
}

static char *put_strings(char *out, const struct ids *ids)
{
	out = put_string(out, &ids->texts.entry_id, false);
	out = put_string(out, &ids->texts.parent_id, false);
	out = put_string(out, &ids->texts.path, ids->path_slash);
	out = put_string(out, &ids->texts.target, ids->target_slash);
	return put_string(out, &ids->texts.target_parent_id, false);
}

/* ---- reading ---- */

struct reader {
	const char *at, *end;
	bool bad;
};

static const char *take(struct reader *in, size_t n)
{
	const char *at = in->at;

	if (in->bad || (size_t)(in->end - at) < n) {
		in->bad = true;
		return NULL;
	}
	in->at += n;
	return at;
}

static uint16_t take16(struct reader *in)
{
	const char *at = take(in, 2);
	uint16_t n = 0;

	if (at)
		memcpy(&n, at, 2);
	return le16toh(n);
}

static uint32_t take32(struct reader *in)
{
	const char *at = take(in, 4);
	uint32_t n = 0;

	if (at)
		memcpy(&n, at, 4);
	return le32toh(n);
}

static uint64_t take64(struct reader *in)
{
	const char *at = take(in, 8);
	uint64_t n = 0;

	if (at)
		memcpy(&n, at, 8);
	return le64toh(n);
}

static struct event_text take_string(struct reader *in)
{
	uint32_t len = take32(in);
	const char *at;

	if (len > UINT16_MAX) {
		in->bad = true;
		return event_text("", 0);
	}
	at = take(in, len + 1);
	if (!at || at[len] != '\0') {
		in->bad = true;
		return event_text("", 0);
	}
	return event_text(at, len);
}

static void take_strings(struct reader *in, struct beegfs_texts *ret)
{
	ret->entry_id = take_string(in);
	ret->parent_id = take_string(in);
	ret->path = take_string(in);
	ret->target = take_string(in);
	ret->target_parent_id = take_string(in);
}

/* ---- version 7 ---- */

size_t beegfs7_size(const struct event *ev)
{
	struct ids ids;

	return V7_FIXED + collect(ev, &ids);
}

int beegfs7_encode(const struct event *ev, uint64_t dropped, uint64_t missed, void *buf, size_t size, size_t *ret_len)
{
	int type = event_beegfs7(ev->type, ev->flags, ev->has & EVENT_HAS_ERROR && ev->error);
	char *out = buf;
	struct ids ids;
	size_t len;

	if (type < 0)
		return -EOPNOTSUPP;
	len = V7_FIXED + collect(ev, &ids);
	if (len > size)
		return -EMSGSIZE;
	out = put16(out, 1);
	out = put16(out, 0);
	out = put32(out, len);
	out = put64(out, dropped);
	out = put64(out, missed);
	out = put32(out, type);
	(void)put_strings(out, &ids);
	*ret_len = len;
	return 0;
}

int beegfs7_decode(const void *buf, size_t len, struct beegfs7_packet *ret)
{
	struct reader in = { .at = buf, .end = (const char *)buf + len };
	struct beegfs7_packet p;

	p.major = take16(&in);
	p.minor = take16(&in);
	p.size = take32(&in);
	if (in.bad || p.major != 1 || p.minor != 0 || p.size != len)
		return -EBADMSG;
	p.dropped = take64(&in);
	p.missed = take64(&in);
	p.type = take32(&in);
	take_strings(&in, &p.texts);
	if (in.bad || in.at != in.end)
		return -EBADMSG;
	*ret = p;
	return 0;
}

const char *beegfs7_type_name(uint32_t type)
{
	/* The numbers moved by one, and reading has no number of its own after them. */
	return type == 12 ? "Read" : type < 12 ? event_type_name(type + 1) : NULL;
}

/* ---- version 8 ---- */

static size_t body_bytes(enum beegfs8_kind kind)
{
	switch (kind) {
	case BEEGFS8_HANDSHAKE_REQUEST: return 4;
	case BEEGFS8_HANDSHAKE_RESPONSE: return 10;
	case BEEGFS8_SEND_NEWEST: return 8;
	case BEEGFS8_SEND_RANGE: return 16;
	case BEEGFS8_STREAM_START: return 8;
	case BEEGFS8_SEND_MESSAGE: return 10;	/* and the event */
	case BEEGFS8_SEND_CLOSE: return 1;
	default: return 0;
	}
}

static char *put_event(char *out, const struct event *ev, uint32_t type, const struct ids *ids)
{
	out = put16(out, V8_EVENT_FORMAT);
	out = put32(out, BEEGFS8_EVENT_FLAGS_NONE);
	out = put64(out, ev->has & EVENT_HAS_NLINK ? ev->nlink : 1);
	out = put32(out, type);
	out = put_strings(out, ids);
	out = put32(out, ev->has & EVENT_HAS_ACTOR ? ev->actor.uid : 0);
	return put64(out, ev->time_ns);
}

int beegfs8_encode(const struct beegfs8_packet *packet, const struct event *ev, void *buf, size_t size, size_t *ret_len)
{
	size_t len = V8_HEADER + body_bytes(packet->kind), event_len = 0;
	struct ids ids;
	char *out = buf;
	int type = -1;

	if (packet->kind == BEEGFS8_SEND_MESSAGE) {
		type = event_beegfs8(ev->type, ev->flags, ev->has & EVENT_HAS_ERROR && ev->error);
		if (type < 0)
			return -EOPNOTSUPP;
		event_len = 30 + collect(ev, &ids);
	}
	len += event_len;
	if (len > size || event_len > UINT16_MAX)
		return -EMSGSIZE;
	*out++ = packet->kind;
	memcpy(out, V8_MAGIC, sizeof(V8_MAGIC));
	out += sizeof(V8_MAGIC);
	switch (packet->kind) {
	case BEEGFS8_HANDSHAKE_REQUEST:
	case BEEGFS8_HANDSHAKE_RESPONSE:
		out = put16(out, packet->major);
		out = put16(out, packet->minor);
		if (packet->kind == BEEGFS8_HANDSHAKE_REQUEST)
			break;
		out = put32(out, packet->node);
		(void)put16(out, packet->buddy_group);
		break;
	case BEEGFS8_SEND_NEWEST:
	case BEEGFS8_STREAM_START:
		(void)put64(out, packet->msn);
		break;
	case BEEGFS8_SEND_RANGE:
		out = put64(out, packet->msn);
		(void)put64(out, packet->oldest);
		break;
	case BEEGFS8_SEND_MESSAGE:
		out = put64(out, packet->msn);
		out = put16(out, event_len);
		(void)put_event(out, ev, type, &ids);
		break;
	case BEEGFS8_SEND_CLOSE:
		*out = packet->reason;
		break;
	default:
		break;
	}
	*ret_len = len;
	return 0;
}

static void take_event(struct reader *in, struct beegfs8_event *ret)
{
	uint16_t length = take16(in), format;

	if (!in->bad && length != in->end - in->at)
		in->bad = true;
	format = take16(in);
	in->bad |= format != V8_EVENT_FORMAT;
	ret->flags = take32(in);
	ret->links = take64(in);
	ret->type = take32(in);
	take_strings(in, &ret->texts);
	ret->uid = take32(in);
	ret->time_ns = take64(in);
}

int beegfs8_decode(const void *buf, size_t len, struct beegfs8_packet *ret)
{
	struct reader in = { .at = buf, .end = (const char *)buf + len };
	const char *header = take(&in, V8_HEADER);
	struct beegfs8_packet p = { 0 };

	if (!header || memcmp(header + 1, V8_MAGIC, sizeof(V8_MAGIC)) != 0)
		return -EBADMSG;
	if (header[0] < BEEGFS8_HANDSHAKE_REQUEST || header[0] > BEEGFS8_SEND_CLOSE)
		return -EPROTO;
	p.kind = header[0];
	switch (p.kind) {
	case BEEGFS8_HANDSHAKE_REQUEST:
	case BEEGFS8_HANDSHAKE_RESPONSE:
		p.major = take16(&in);
		p.minor = take16(&in);
		if (p.kind == BEEGFS8_HANDSHAKE_REQUEST)
			break;
		p.node = take32(&in);
		p.buddy_group = take16(&in);
		break;
	case BEEGFS8_SEND_NEWEST:
	case BEEGFS8_STREAM_START:
		p.msn = take64(&in);
		break;
	case BEEGFS8_SEND_RANGE:
		p.msn = take64(&in);
		p.oldest = take64(&in);
		break;
	case BEEGFS8_SEND_MESSAGE:
		p.msn = take64(&in);
		take_event(&in, &p.event);
		break;
	case BEEGFS8_SEND_CLOSE: {
		const char *reason = take(&in, 1);

		p.reason = reason ? *reason : 0;
		break;
	}
	default:
		break;
	}
	if (in.bad || in.at != in.end)
		return -EBADMSG;
	*ret = p;
	return 0;
}

const char *beegfs8_type_name(uint32_t type)
{
	static const char *const later[] = { [18] = "StripePatternChanged", [19] = "InodeLocked" };

	return type == 18 || type == 19 ? later[type] : type < 18 ? event_type_name(type) : NULL;
}
