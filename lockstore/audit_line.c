/* Lines are put together by hand, so that the bytes that are hashed are the bytes that are written. */
#include "lockstore/audit_line.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
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

/* A JSON string, or null. *ret_lossy: some bytes were no UTF-8. */
static void put_string(FILE *out, const char *text, bool *ret_lossy)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned n;

	if (!text || !*text) {
		fputs("null", out);
		return;
	}
	putc('"', out);
	for (; *p; p += n ? n : 1) {
		n = utf8_len(p);
		if (n == 0) {
			fputs("\\ufffd", out);
			if (ret_lossy)
				*ret_lossy = true;
		} else if (*p == '"' || *p == '\\') {
			putc('\\', out);
			putc(*p, out);
		} else if (*p < 0x20 || *p == 0x7f) {
			fprintf(out, "\\u%04x", *p);
		} else {
			fwrite(p, 1, n, out);
		}
	}
	putc('"', out);
}

static int put_path(FILE *out, const char *path)
{
	bool lossy = false;
	char *encoded;
	int r;

	fputs(",\"path\":", out);
	if (path && !*path) {
		fputs("\"\"", out);	/* the share's root */
		return 0;
	}
	put_string(out, path, &lossy);
	if (!lossy)
		return 0;
	r = control_path_encode(path, &encoded);
	if (r < 0)
		return r;
	fputs(",\"path_encoded\":", out);
	put_string(out, encoded, NULL);
	free(encoded);
	return 0;
}

static void put_time(FILE *out, int64_t t_s, int ms)
{
	time_t t = t_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm)) {
		fputs("null", out);
		return;
	}
	fprintf(out, "\"%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		tm.tm_sec);
	if (ms >= 0)
		fprintf(out, ".%03d", ms);
	fputs("Z\"", out);
}

static void put_key(FILE *out, const struct file_key *key)
{
	fputs(",\"key\":", out);
	if (!key || key->len == 0) {
		fputs("null", out);
		return;
	}
	putc('"', out);
	for (unsigned i = 0; i < key->len; i++)
		fprintf(out, "%02x", key->bytes[i]);
	putc('"', out);
}

static void put_result(FILE *out, int result)
{
	const char *name = result == 0 ? "OK" : strerrorname_np(-result);

	if (name)
		fprintf(out, ",\"result\":\"%s\"", name);
	else
		fprintf(out, ",\"result\":\"errno %d\"", -result);
}

/* ---- lines ---- */

static int hash_of(const char *bytes, size_t len_bytes, char ret_hash[AUDIT_HASH_CHARS + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n;

	if (!EVP_Digest(bytes, len_bytes, digest, &n, EVP_sha256(), NULL))
		return -EIO;
	for (unsigned i = 0; i < AUDIT_HASH_CHARS / 2; i++)
		sprintf(ret_hash + 2 * i, "%02x", digest[i]);
	return 0;
}

static int put_body(FILE *out, uint64_t seq, const struct audit_times *times, const struct audit_entry *entry, uint64_t count,
		    const char *prev)
{
	int r;

	fprintf(out, SEQ_FIELD "%llu,\"clock\":", (unsigned long long)seq);
	put_time(out, times->clock_s, -1);
	fputs(",\"wall\":", out);
	put_time(out, times->wall_ns / 1000000000, (int)(times->wall_ns / 1000000 % 1000));
	fprintf(out, ",\"boot\":%lld.%03d,\"uid\":%u,\"gid\":%u,\"pid\":", (long long)(times->boot_ns / 1000000000),
		(int)(times->boot_ns / 1000000 % 1000), entry->uid, entry->gid);
	if (entry->pid)
		fprintf(out, "%d", entry->pid);
	else
		fputs("null", out);
	fputs(",\"comm\":", out);
	put_string(out, entry->comm, NULL);
	fprintf(out, ",\"event\":\"%s\"", audit_event_name(entry->event));
	r = put_path(out, entry->path);
	if (r < 0)
		return r;
	put_key(out, entry->key);
	if (entry->serial)
		fprintf(out, ",\"serial\":%llu", (unsigned long long)entry->serial);
	else
		fputs(",\"serial\":null", out);
	put_result(out, entry->result);
	fputs(",\"detail\":", out);
	put_string(out, entry->detail, NULL);
	fprintf(out, ",\"count\":%llu" PREV_FIELD "%s\"", (unsigned long long)count, prev);
	return 0;
}

int audit_line_format(uint64_t seq, const struct audit_times *times, const struct audit_entry *entry, uint64_t count,
		      const char *prev, char **ret_line, size_t *ret_len_bytes, char ret_hash[AUDIT_HASH_CHARS + 1])
{
	char *line = NULL, hash[AUDIT_HASH_CHARS + 1];
	size_t len;
	FILE *out;
	int r;

	out = open_memstream(&line, &len);
	if (!out)
		return -ENOMEM;
	r = put_body(out, seq, times, entry, count, prev);
	if (fflush(out) != 0)
		r = -ENOMEM;
	if (r == 0)
		r = hash_of(line, len, hash);
	if (r == 0)
		fprintf(out, HASH_FIELD "%s\"}\n", hash);
	if (fclose(out) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0) {
		free(line);
		return r;
	}
	memcpy(ret_hash, hash, sizeof(hash));
	*ret_line = line;
	*ret_len_bytes = len;
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
