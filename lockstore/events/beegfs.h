/* BeeGFS's two socket protocols for file events, byte for byte: version 1.0 (BeeGFS 7.0 to 7.4) is a packet an event, one way;
 * version 2.0 (BeeGFS 8) is framed, and a listener asks for where it left off. AF_UNIX, SOCK_SEQPACKET, one packet a message;
 * the listener binds, wormfs connects, as a metadata server does. All integers little endian, packed. A string is a u32
 * length, its bytes, and a NUL that is not counted. Pure; any thread. */
#ifndef WORMFS_BEEGFS_H
#define WORMFS_BEEGFS_H

#include "lockstore/events/event.h"

#define BEEGFS_PACKET_MAX (2 * EVENT_PATH_MAX + 512)	/* no packet of ours is longer */
#define BEEGFS8_PACKET_USUAL 1024	/* the receive buffer of BeeGFS 8's own listener: what is longer stops it */
#define BEEGFS8_EVENT_FLAGS_NONE 0

/* Texts of a packet. They point into it. */
struct beegfs_texts {
	struct event_text entry_id, parent_id, path, target, target_parent_id;
};

struct beegfs7_packet {
	uint16_t major, minor;
	uint32_t size;
	uint64_t dropped, missed;
	uint32_t type;
	struct beegfs_texts texts;
};

/* Bytes of the packet, whatever the event's type. */
size_t beegfs7_size(const struct event *ev);
/* -EOPNOTSUPP: BeeGFS 7 has no such event. -EMSGSIZE: longer than `size`. */
int beegfs7_encode(const struct event *ev, uint64_t dropped, uint64_t missed, void *buf, size_t size, size_t *ret_len);
/* -EBADMSG: not a packet of version 1.0, or one whose parts do not fit its length. */
int beegfs7_decode(const void *buf, size_t len, struct beegfs7_packet *ret);
/* The name of its type; NULL: it has none. */
const char *beegfs7_type_name(uint32_t type);

enum beegfs8_kind {
	BEEGFS8_HANDSHAKE_REQUEST = 1, BEEGFS8_HANDSHAKE_RESPONSE, BEEGFS8_REQUEST_NEWEST, BEEGFS8_SEND_NEWEST, BEEGFS8_REQUEST_RANGE,
	BEEGFS8_SEND_RANGE, BEEGFS8_STREAM_START, BEEGFS8_SEND_MESSAGE, BEEGFS8_CLOSE_REQUEST, BEEGFS8_SEND_CLOSE,
};

enum beegfs8_reason {
	BEEGFS8_ACKNOWLEDGED, BEEGFS8_STREAM_CRASHED, BEEGFS8_SOCKET_ERROR, BEEGFS8_PROTOCOL_ERROR, BEEGFS8_SUBSCRIBER_CLOSED,
};

struct beegfs8_event {
	uint32_t flags;			/* 1: mirrored, 2: from the secondary; 0 from us */
	uint64_t links;
	uint32_t type, uid;
	int64_t time_ns;
	struct beegfs_texts texts;
};

struct beegfs8_packet {
	enum beegfs8_kind kind;
	uint16_t major, minor;		/* handshakes */
	uint32_t node;			/* response */
	uint16_t buddy_group;
	uint64_t msn;			/* newest, range: the next one; stream start, message */
	uint64_t oldest;		/* range */
	uint8_t reason;			/* close */
	struct beegfs8_event event;	/* message */
};

/* `packet->event` is not looked at: a message is made of `ev`, whose number is packet->msn. As above. */
int beegfs8_encode(const struct beegfs8_packet *packet, const struct event *ev, void *buf, size_t size, size_t *ret_len);
/* -EBADMSG: not a packet; -EPROTO: of a kind that is not known, to be passed over. */
int beegfs8_decode(const void *buf, size_t len, struct beegfs8_packet *ret);
const char *beegfs8_type_name(uint32_t type);

#endif
