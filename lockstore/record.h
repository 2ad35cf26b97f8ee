/* The lock record: what is written on the locked file itself, in one xattr.
 *
 * 64 bytes, little endian, because that is what fits beside the inode in ext4's default 256-byte inode
 * (measured: 64 bytes cost no block, 68 cost one). Layout, offsets in bytes:
 *   0 version (1)   1 flags (bit 0), settle time (bits 1-7)   2 mode   3 generation   4 holds u16   6 rule u16   8 committed_s i64
 *   16 until_s i64   24 serial u64   32 size_bytes u64   40 mtime_ns i64   48 mac[16]
 * The MAC is HMAC-SHA256 over bytes 0-47, cut to 128 bits (RFC 2104 section 5). */
#ifndef WORMFS_RECORD_H
#define WORMFS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/retention.h"

#define RECORD_BYTES 64
#define RECORD_VERSION 1
#define RECORD_KEY_BYTES 32
#define RECORD_GENERATION_MAX 255

enum record_flags {
	RECORD_APPEND = 1 << 0,	/* append-only: bytes below the end are locked, the end may grow */
	RECORD_SETTLE = 0xfe,	/* a number: how long times, mode, owner, attributes and name may be set after the lock */
};
/* What that number can say: 0 to 59 seconds, or whole minutes up to an hour. */
#define RECORD_SETTLE_MAX_S 3600
/* RECORD_SETTLE bits for so many seconds. -EINVAL: cannot be said. */
int record_settle_flags(uint32_t settle_s);

struct lock_record {
	uint8_t flags;		/* enum record_flags */
	uint8_t mode;		/* enum worm_mode */
	uint8_t generation;	/* how often its date was made earlier: of two records of a file the higher one is newer */
	uint16_t holds;		/* number of legal holds; their names are in the ledger */
	uint16_t rule;		/* number of the rule in the ledger; 0 = mount options */
	int64_t committed_s;
	int64_t until_s;	/* or RETENTION_UNSPECIFIED, RETENTION_INFINITE */
	uint64_t serial;
	uint64_t size_bytes;	/* of the data when it was locked */
	int64_t mtime_ns;	/* likewise, since 1970 */
};

/* The MAC key of a share. Any thread may use one at the same time. */
struct record_key;

/* Reads `path` (exactly 32 bytes, not readable by others), or, with `create`, makes it from the
 * kernel's random source (mode 0600, written whole: temporary name, fsync, link; when two create at
 * once, both get the same one).
 * -ENOENT: missing and not create. -EPERM: group, others or an owner who is neither root nor we may
 * read it. -EBADMSG: wrong length, or no regular file. */
int record_key_open(const char *path, bool create, struct record_key **ret_key);
void record_key_close(struct record_key *key);

/* HMAC-SHA256 of any bytes by the key, cut to 128 bits; for other state of the share. They must not begin like a record
 * of MAC length (48 bytes): longer is enough. 0 or -EIO. */
#define RECORD_MAC_BYTES 16
int record_key_mac(struct record_key *key, const void *bytes, size_t len_bytes, uint8_t ret_mac[RECORD_MAC_BYTES]);

/* 0, -EIO (the crypto library failed) or -EINVAL (a flag or mode that record_decode() would not know). */
int record_encode(struct record_key *key, const struct lock_record *rec, uint8_t ret_bytes[RECORD_BYTES]);

/* -EBADMSG: wrong length or MAC. -EPROTO: MAC right, but a version, flag or mode we do not know.
 * -EIO: the crypto library failed. All mean: locked, and nobody may change it until somebody has looked. */
int record_decode(struct record_key *key, const void *bytes, size_t len_bytes, struct lock_record *ret_rec);

/* committed_s and the settle time; committed_s itself without one. */
int64_t record_settles_until(const struct lock_record *rec);

/* True while retention or a hold keeps the file from being deleted. */
bool record_is_retained(const struct lock_record *rec, int64_t now_s);

#endif
