/* Lines are put together by hand, so that the bytes that are hashed are the bytes that are written. */
#include "lockstore/audit_line.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lockstore/control.h"

#define HASH_FIELD ",\"hash\":\""
#define PREV_FIELD ",\"prev\":\""
#define SEQ_FIELD "{\"seq\":"

static const char *const names[AUDIT_EVENTS] = {
	[AUDIT_COMMIT] = "commit", [AUDIT_EXTEND] = "extend", [AUDIT_SHORTEN] = "shorten",
	[AUDIT_HOLD_ADD] = "hold_add", [AUDIT_HOLD_RELEASE] = "hold_release",
	[AUDIT_DELETE_EXPIRED] = "delete_expired", [AUDIT_DELETE_PRIVILEGED] = "delete_privileged",
	[AUDIT_DENY_OPEN_WRITE] = "deny_open_write", [AUDIT_DENY_WRITE] = "deny_write",
	[AUDIT_DENY_TRUNCATE] = "deny_truncate", [AUDIT_DENY_UNLINK] = "deny_unlink", [AUDIT_DENY_RENAME] = "deny_rename",
	[AUDIT_DENY_LINK] = "deny_link", [AUDIT_DENY_SETATTR] = "deny_setattr", [AUDIT_DENY_XATTR] = "deny_xattr",
	[AUDIT_DENY_REQUEST] = "deny_request",
	[AUDIT_CLOCK_START] = "clock_start", [AUDIT_CLOCK_SKEWED] = "clock_skewed", [AUDIT_CLOCK_OK] = "clock_ok",
	[AUDIT_CLOCK_ACCEPT] = "clock_accept", [AUDIT_POLICY_CHANGE] = "policy_change", [AUDIT_VERIFY] = "verify",
	[AUDIT_MOUNT] = "mount", [AUDIT_UNMOUNT] = "unmount", [AUDIT_TAMPER] = "tamper",
	[AUDIT_LEDGER_FAILING] = "ledger_failing", [AUDIT_LEDGER_OK] = "ledger_ok",
	[AUDIT_LOG_LOST] = "log_lost", [AUDIT_LOG_TORN] = "log_torn",
	[AUDIT_CREATE] = "create", [AUDIT_ADJUST] = "adjust", [AUDIT_PUSH] = "push",
};
_Static_assert(AUDIT_EVENTS <= 64, "sets of events are 64 bits");

const char *audit_event_name(enum audit_event event)
{
	return (unsigned)event < AUDIT_EVENTS ? names[event] : "unknown";
}

int audit_event_parse(const char *name, size_t len_bytes, enum audit_event *ret_event)
{
	for (int i = 0; i < AUDIT_EVENTS; i++) {
		if (strlen(names[i]) != len_bytes || memcmp(names[i], name, len_bytes) != 0)
			continue;
		*ret_event = i;
		return 0;
	}
	return -EINVAL;
}

/* ---- text ---- */

/* Bytes of the UTF-8 character at p, 0: none there. Source: RFC 3629 section 4. */
static unsigned utf8_len(const unsigned char *p)
{
	unsigned n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	for (unsigned i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;	/* also the NUL at the end */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* The put_ functions write at `out`, where format_bound() has made room, and return what comes after. */

static char *put(char *out, const char *text)
{
	return stpcpy(out, text);
}

static char *put_u64(char *out, uint64_t n)
{
	char digits[20];
	unsigned len = 0;

	do
		digits[len++] = '0' + n % 10;
	while ((n /= 10) != 0);
	while (len)
		*out++ = digits[--len];
	return out;
}

static char *put_padded(char *out, unsigned n, unsigned width)
{
	for (unsigned i = width; i > 0; i--, n /= 10)
		out[i - 1] = '0' + n % 10;
	return out + width;
}

static char *put_hex(char *out, const uint8_t *bytes, size_t len)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = hex[bytes[i] >> 4];
		*out++ = hex[bytes[i] & 15];
	}
	return out;
}

/* A JSON string, or null; at most 6 bytes for each and 2. *ret_lossy: some bytes were no UTF-8. */
static char *put_string(char *out, const char *text, bool *ret_lossy)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned n;

	if (!text || !*text)
		return put(out, "null");
	*out++ = '"';
	for (; *p; p += n ? n : 1) {
		n = utf8_len(p);
		if (n == 0) {
			out = put(out, "\\ufffd");
			if (ret_lossy)
				*ret_lossy = true;
		} else if (*p == '"' || *p == '\\') {
			*out++ = '\\';
			*out++ = *p;
		} else if (*p < 0x20 || *p == 0x7f) {
			out = put(out, "\\u00");
			out = put_hex(out, p, 1);
		} else {
			memcpy(out, p, n);
			out += n;
		}
	}
	*out++ = '"';
	return out;
}

static int put_path(char **out, const char *path)
{
	bool lossy = false;
	char *encoded;
	int r;

	*out = put(*out, ",\"path\":");
	if (path && !*path) {
		*out = put(*out, "\"\"");	/* the share's root */
		return 0;
	}
	*out = put_string(*out, path, &lossy);
	if (!lossy)
		return 0;
	r = control_path_encode(path, &encoded);
	if (r < 0)
		return r;
	*out = put(*out, ",\"path_encoded\":");
	*out = put_string(*out, encoded, NULL);
	free(encoded);
	return 0;
}

static char *put_time(char *out, int64_t t_s, int ms)
{
	time_t t = t_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		return put(out, "null");
	*out++ = '"';
	out = put_padded(out, tm.tm_year + 1900, 4);
	*out++ = '-';
	out = put_padded(out, tm.tm_mon + 1, 2);
	*out++ = '-';
	out = put_padded(out, tm.tm_mday, 2);
	*out++ = 'T';
	out = put_padded(out, tm.tm_hour, 2);
	*out++ = ':';
	out = put_padded(out, tm.tm_min, 2);
	*out++ = ':';
	out = put_padded(out, tm.tm_sec, 2);
	if (ms >= 0) {
		*out++ = '.';
		out = put_padded(out, ms, 3);
	}
	return put(out, "Z\"");
}

static char *put_key(char *out, const struct file_key *key)
{
	if (!key || key->len == 0)
		return put(out, ",\"key\":null");
	out = put(out, ",\"key\":\"");
	out = put_hex(out, key->bytes, key->len);
	*out++ = '"';
	return out;
}

static char *put_result(char *out, int result)
{
	const char *name = result == 0 ? "OK" : strerrorname_np(-result);

	out = put(out, ",\"result\":\"");
	if (name) {
		out = put(out, name);
	} else {
		out = put(out, "errno ");
		out = put_u64(out, -result);
	}
	*out++ = '"';
	return out;
}

/* A number, or null for 0. */
static char *put_number(char *out, const char *field, uint64_t n)
{
	out = put(out, field);
	return n ? put_u64(out, n) : put(out, "null");
}

/* ---- lines ---- */

static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;		/* looking it up costs as much as hashing a line; never freed */

static void fetch_sha256(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static int hash_of(const char *bytes, size_t len_bytes, char ret_hash[AUDIT_HASH_CHARS + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n;

	pthread_once(&sha256_once, fetch_sha256);
	if (!sha256 || !EVP_Digest(bytes, len_bytes, digest, &n, sha256, NULL) || n != AUDIT_HASH_CHARS / 2)
		return -EIO;
	*put_hex(ret_hash, digest, n) = '\0';
	return 0;
}

static size_t length_of(const char *text)
{
	return text ? strlen(text) : 0;
}

/* Of the path: 6 a byte as a string, and encoded 3 a byte, of which any may be escaped. */
static size_t format_bound(const struct audit_entry *entry)
{
	return 1024 + 12 * length_of(entry->path) + 6 * (length_of(entry->comm) + length_of(entry->detail)) +
	       2 * (entry->key ? entry->key->len : 0);
}

static int put_body(char **ret_out, uint64_t seq, const struct audit_times *times, const struct audit_entry *entry, uint64_t count,
		    const char *prev)
{
	char *out = *ret_out;
	int r;

	out = put(out, SEQ_FIELD);
	out = put_u64(out, seq);
	out = put(out, ",\"clock\":");
	out = put_time(out, times->clock_s, -1);
	out = put(out, ",\"wall\":");
	out = put_time(out, times->wall_ns / 1000000000, (int)(times->wall_ns / 1000000 % 1000));
	out = put(out, ",\"boot\":");
	out = put_u64(out, times->boot_ns / 1000000000);
	*out++ = '.';
	out = put_padded(out, times->boot_ns / 1000000 % 1000, 3);
	out = put(out, ",\"uid\":");
	out = put_u64(out, entry->uid);
	out = put(out, ",\"gid\":");
	out = put_u64(out, entry->gid);
	out = put_number(out, ",\"pid\":", entry->pid);
	out = put(out, ",\"comm\":");
	out = put_string(out, entry->comm, NULL);
	out = put(out, ",\"event\":\"");
	out = put(out, audit_event_name(entry->event));
	*out++ = '"';
	r = put_path(&out, entry->path);
	if (r < 0)
		return r;
	out = put_key(out, entry->key);
	out = put_number(out, ",\"serial\":", entry->serial);
	out = put_result(out, entry->result);
	out = put(out, ",\"detail\":");
	out = put_string(out, entry->detail, NULL);
	out = put(out, ",\"count\":");
	out = put_u64(out, count);
	out = put(out, PREV_FIELD);
	out = put(out, prev);
	*out++ = '"';
	*ret_out = out;
	return 0;
}

int audit_line_format(uint64_t seq, const struct audit_times *times, const struct audit_entry *entry, uint64_t count,
		      const char *prev, char **ret_line, size_t *ret_len_bytes, char ret_hash[AUDIT_HASH_CHARS + 1])
{
	char *line = malloc(format_bound(entry)), *out = line, hash[AUDIT_HASH_CHARS + 1];
	int r;

	if (!line)
		return -ENOMEM;
	r = put_body(&out, seq, times, entry, count, prev);
	if (r == 0)
		r = hash_of(line, out - line, hash);
	if (r < 0) {
		free(line);
		return r;
	}
	out = put(out, HASH_FIELD);
	out = put(out, hash);
	out = put(out, "\"}\n");
	memcpy(ret_hash, hash, sizeof(hash));
	*ret_line = line;
	*ret_len_bytes = out - line;
	return 0;
}

static bool take_hash(const char *text, char ret_hash[AUDIT_HASH_CHARS + 1])
{
	for (int i = 0; i < AUDIT_HASH_CHARS; i++)
		if (!strchr("0123456789abcdef", text[i]) || !text[i])
			return false;
	memcpy(ret_hash, text, AUDIT_HASH_CHARS);
	ret_hash[AUDIT_HASH_CHARS] = '\0';
	return true;
}

/* The end of every line has one length: ,"prev":"<64>","hash":"<64>"} */
int audit_line_check(const char *line, size_t len_bytes, struct audit_link *ret_link)
{
	const size_t hash_at = strlen(HASH_FIELD) + AUDIT_HASH_CHARS + 2, prev_at = strlen(PREV_FIELD) + AUDIT_HASH_CHARS + 1;
	const size_t seq_at = strlen(SEQ_FIELD);
	struct audit_link link = { 0 };
	char hash[AUDIT_HASH_CHARS + 1];
	const char *p;
	int r;

	if (len_bytes < seq_at + 1 + prev_at + hash_at || memchr(line, '\0', len_bytes) || memcmp(line, SEQ_FIELD, seq_at) != 0)
		return -EBADMSG;
	for (p = line + seq_at; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(link.seq, 10, &link.seq) || __builtin_add_overflow(link.seq, *p - '0', &link.seq))
			return -EBADMSG;
	p = line + len_bytes - hash_at;
	if (memcmp(p, HASH_FIELD, strlen(HASH_FIELD)) != 0 || !take_hash(p + strlen(HASH_FIELD), link.hash) ||
	    memcmp(line + len_bytes - 2, "\"}", 2) != 0)
		return -EBADMSG;
	p -= prev_at;
	if (memcmp(p, PREV_FIELD, strlen(PREV_FIELD)) != 0 || !take_hash(p + strlen(PREV_FIELD), link.prev))
		return -EBADMSG;
	r = hash_of(line, len_bytes - hash_at, hash);
	if (r < 0)
		return r;
	*ret_link = link;
	return strcmp(hash, link.hash) == 0 ? 0 : -EILSEQ;
}
