/* The 64 bytes on a locked file, and the key that vouches for them.
 *
 * The MAC is looked at before any field is believed. A context of the crypto library costs more to
 * make than a MAC does, so each key keeps a few that are keyed already; a thread borrows one for the
 * time of one MAC, and makes its own when all are taken. */
#include "lockstore/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "lockstore/whole_write.h"

#define MAC_OFFSET 48
#define MAC_BYTES RECORD_MAC_BYTES
#define DIGEST_BYTES 32
#define POOL_CONTEXTS 16	/* threads that find a ready context; more only cost time */

#define SETTLE_SHIFT 1
#define SETTLE_MINUTES 59	/* numbers above are minutes, from one on */
#define SETTLE_LAST (SETTLE_MINUTES + RECORD_SETTLE_MAX_S / 60)

struct pooled {
	atomic_flag taken;	/* who set it owns ctx until it clears it */
	EVP_MAC_CTX *ctx;
};

struct record_key {
	EVP_MAC_CTX *keyed;	/* never used for a MAC: what new contexts are copied from */
	struct pooled pool[POOL_CONTEXTS];
};

static void put_u16(uint8_t *p, uint16_t v)
{
	for (int i = 0; i < 2; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void put_u64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint64_t get_u64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static int compute_mac(EVP_MAC_CTX *ctx, const uint8_t *bytes, size_t len_bytes, uint8_t ret_mac[MAC_BYTES])
{
	uint8_t digest[DIGEST_BYTES];
	size_t len = 0;

	/* No key given: starts again with the one that the context has. Source: EVP_MAC(3), EVP_MAC_init. */
	if (!EVP_MAC_init(ctx, NULL, 0, NULL) || !EVP_MAC_update(ctx, bytes, len_bytes) ||
	    !EVP_MAC_final(ctx, digest, &len, sizeof(digest)) || len != sizeof(digest))
		return -EIO;
	memcpy(ret_mac, digest, MAC_BYTES);
	return 0;
}

int record_key_mac(struct record_key *key, const void *bytes, size_t len_bytes, uint8_t ret_mac[MAC_BYTES])
{
	EVP_MAC_CTX *ctx;
	int r;

	for (size_t i = 0; i < POOL_CONTEXTS; i++) {
		if (atomic_flag_test_and_set_explicit(&key->pool[i].taken, memory_order_acquire))
			continue;
		r = compute_mac(key->pool[i].ctx, bytes, len_bytes, ret_mac);
		atomic_flag_clear_explicit(&key->pool[i].taken, memory_order_release);
		return r;
	}
	ctx = EVP_MAC_CTX_dup(key->keyed);
	if (!ctx)
		return -EIO;
	r = compute_mac(ctx, bytes, len_bytes, ret_mac);
	EVP_MAC_CTX_free(ctx);
	return r;
}

static int key_new(const uint8_t secret[RECORD_KEY_BYTES], struct record_key **ret_key)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	struct record_key *key = calloc(1, sizeof(*key));
	EVP_MAC *mac = NULL;
	int r;

	if (!key) {
		r = -ENOMEM;
		goto out;
	}
	r = -EIO;
	mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (!mac)
		goto out;
	key->keyed = EVP_MAC_CTX_new(mac);	/* takes a reference of its own */
	if (!key->keyed || !EVP_MAC_init(key->keyed, secret, RECORD_KEY_BYTES, params))
		goto out;
	for (size_t i = 0; i < POOL_CONTEXTS; i++) {
		atomic_flag_clear(&key->pool[i].taken);
		key->pool[i].ctx = EVP_MAC_CTX_dup(key->keyed);
		if (!key->pool[i].ctx)
			goto out;
	}
	*ret_key = key;
	key = NULL;
	r = 0;
out:
	record_key_close(key);
	EVP_MAC_free(mac);
	return r;
}

static int fsync_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	int fd = -1, r = 0;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	free(dir);
	return r;
}

/* A key is never replaced: it appears by link(2), which unlike rename(2) fails when another daemon
 * of the same share has just made one. Then that one is the key. */
static int key_file_create(const char *path)
{
	uint8_t secret[RECORD_KEY_BYTES];
	char *temporary = NULL;
	int fd = -1, r;

	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		temporary = NULL;
		r = -ENOMEM;
		goto out;
	}
	if (getrandom(secret, sizeof(secret), 0) != sizeof(secret)) {
		r = -EIO;
		goto out;
	}
	fd = mkostemp(temporary, O_CLOEXEC);	/* mode 0600. Source: mkostemp(3) */
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = whole_write(fd, secret, sizeof(secret));
	if (r < 0)
		goto out_unlink;
	if (fsync(fd) < 0) {
		r = -errno;
		goto out_unlink;
	}
	if (link(temporary, path) < 0 && errno != EEXIST) {
		r = -errno;
		goto out_unlink;
	}
	r = fsync_directory_of(path);
out_unlink:
	(void)unlink(temporary);	/* a leftover is a second name or an unused key: ugly, no danger */
out:
	if (fd >= 0)
		close(fd);
	OPENSSL_cleanse(secret, sizeof(secret));
	free(temporary);
	return r;
}

static int key_file_read(const char *path, uint8_t ret_secret[RECORD_KEY_BYTES])
{
	uint8_t bytes[RECORD_KEY_BYTES + 1];
	struct stat st;
	ssize_t n;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);	/* a FIFO must not stop the mount */
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		r = -errno;
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		r = -EBADMSG;
		goto out;
	}
	if ((st.st_mode & 077) || (st.st_uid != 0 && st.st_uid != geteuid())) {
		r = -EPERM;
		goto out;
	}
	n = pread(fd, bytes, sizeof(bytes), 0);
	if (n < 0) {
		r = -errno;
		goto out;
	}
	if (n != RECORD_KEY_BYTES) {
		r = -EBADMSG;
		goto out;
	}
	memcpy(ret_secret, bytes, RECORD_KEY_BYTES);
	r = 0;
out:
	OPENSSL_cleanse(bytes, sizeof(bytes));
	close(fd);
	return r;
}

int record_key_open(const char *path, bool create, struct record_key **ret_key)
{
	uint8_t secret[RECORD_KEY_BYTES];
	int r;

	r = key_file_read(path, secret);
	if (r == -ENOENT && create) {
		r = key_file_create(path);
		if (r == 0)
			r = key_file_read(path, secret);
	}
	if (r == 0)
		r = key_new(secret, ret_key);
	OPENSSL_cleanse(secret, sizeof(secret));
	return r;
}

void record_key_close(struct record_key *key)
{
	if (!key)
		return;
	for (size_t i = 0; i < POOL_CONTEXTS; i++)
		EVP_MAC_CTX_free(key->pool[i].ctx);
	EVP_MAC_CTX_free(key->keyed);
	free(key);
}

static bool flags_are_known(uint8_t flags)
{
	return flags >> SETTLE_SHIFT <= SETTLE_LAST;	/* RECORD_APPEND is the only other */
}

int record_settle_flags(uint32_t settle_s)
{
	if (settle_s <= SETTLE_MINUTES)
		return (int)settle_s << SETTLE_SHIFT;
	if (settle_s > RECORD_SETTLE_MAX_S || settle_s % 60)
		return -EINVAL;
	return (int)(SETTLE_MINUTES + settle_s / 60) << SETTLE_SHIFT;
}

int64_t record_settles_until(const struct lock_record *rec)
{
	int n = (rec->flags & RECORD_SETTLE) >> SETTLE_SHIFT;
	int64_t settle_s = n <= SETTLE_MINUTES ? n : INT64_C(60) * (n - SETTLE_MINUTES), until_s;

	return __builtin_add_overflow(rec->committed_s, settle_s, &until_s) ? INT64_MAX : until_s;
}

int record_encode(struct record_key *key, const struct lock_record *rec, uint8_t ret_bytes[RECORD_BYTES])
{
	uint8_t b[RECORD_BYTES] = { 0 };
	int r;

	if (!flags_are_known(rec->flags) || rec->mode > WORM_COMPLIANCE)
		return -EINVAL;
	b[0] = RECORD_VERSION;
	b[1] = rec->flags;
	b[2] = rec->mode;
	b[3] = rec->generation;
	put_u16(b + 4, rec->holds);
	put_u16(b + 6, rec->rule);
	put_u64(b + 8, (uint64_t)rec->committed_s);
	put_u64(b + 16, (uint64_t)rec->until_s);
	put_u64(b + 24, rec->serial);
	put_u64(b + 32, rec->size_bytes);
	put_u64(b + 40, (uint64_t)rec->mtime_ns);
	r = record_key_mac(key, b, MAC_OFFSET, b + MAC_OFFSET);
	if (r < 0)
		return r;
	memcpy(ret_bytes, b, sizeof(b));
	return 0;
}

int record_decode(struct record_key *key, const void *bytes, size_t len_bytes, struct lock_record *ret_rec)
{
	const uint8_t *b = bytes;
	uint8_t mac[MAC_BYTES];
	int r;

	if (len_bytes != RECORD_BYTES)
		return -EBADMSG;
	r = record_key_mac(key, b, MAC_OFFSET, mac);
	if (r < 0)
		return r;
	if (CRYPTO_memcmp(mac, b + MAC_OFFSET, MAC_BYTES) != 0)
		return -EBADMSG;
	if (b[0] != RECORD_VERSION || !flags_are_known(b[1]) || b[2] > WORM_COMPLIANCE)
		return -EPROTO;
	*ret_rec = (struct lock_record){
		.flags = b[1],
		.mode = b[2],
		.generation = b[3],
		.holds = get_u16(b + 4),
		.rule = get_u16(b + 6),
		.committed_s = (int64_t)get_u64(b + 8),
		.until_s = (int64_t)get_u64(b + 16),
		.serial = get_u64(b + 24),
		.size_bytes = get_u64(b + 32),
		.mtime_ns = (int64_t)get_u64(b + 40),
	};
	return 0;
}

bool record_is_retained(const struct lock_record *rec, int64_t now_s)
{
	return rec->holds > 0 || rec->until_s == RETENTION_UNSPECIFIED || rec->until_s == RETENTION_INFINITE ||
	       now_s < rec->until_s;
}
