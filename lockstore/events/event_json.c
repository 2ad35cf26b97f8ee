#include "lockstore/events/event_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "lockstore/events/beegfs.h"
#include "lockstore/retention.h"

/* Bytes of the UTF-8 character at `s`, 0: it is none. RFC 3629: no surrogates, nothing above U+10FFFF, no longer forms. */
static unsigned utf8_bytes(const unsigned char *s, const unsigned char *end)
{
	unsigned n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	if (n == 0 || end - s < n)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

size_t event_json_escape(const char *text, size_t len, char *out, bool *ret_valid)
{
	static const char hex[] = "0123456789abcdef", shorts[32] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r' };
	const unsigned char *s = (const unsigned char *)(text ? text : ""), *end = s + len;
	char *start = out;

	*ret_valid = true;
	while (s < end) {
		unsigned n;

		if (*s >= 0x20 && *s < 0x7f) {
			if (*s == '"' || *s == '\\')
				*out++ = '\\';
			*out++ = *s++;
			continue;
		}
		if (*s < 0x20 || *s == 0x7f) {
			*out++ = '\\';
			if (*s < 0x20 && shorts[*s]) {
				*out++ = shorts[*s++];
				continue;
			}
			*out++ = 'u';
			*out++ = '0';
			*out++ = '0';
			*out++ = hex[*s >> 4];
			*out++ = hex[*s++ & 15];
			continue;
		}
		n = utf8_bytes(s, end);
		if (n == 0) {
			*ret_valid = false;
			memcpy(out, "\xef\xbf\xbd", 3);
			out += 3;
			s++;
			continue;
		}
		memcpy(out, s, n);
		out += n;
		s += n;
	}
	return out - start;
}

size_t event_json_base64(const char *bytes, size_t len, char *out)
{
	return EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)bytes, len);
}

/* ---- a line ---- */

#define LITERAL(out, text) (memcpy((out), (text), sizeof(text) - 1), (out) + sizeof(text) - 1)

static char *put_number(char *out, uint64_t n)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
				    "4950515253545556575859606162636465666768697071727374757677787980818283848586878889909192939495969798"
				    "99";
	char digits[20], *at = digits + sizeof(digits);

	for (; n >= 100; n /= 100)
		memcpy(at -= 2, pairs + n % 100 * 2, 2);
	if (n >= 10)
		memcpy(at -= 2, pairs + n * 2, 2);
	else
		*--at = '0' + n;
	while (at < digits + sizeof(digits))
		*out++ = *at++;
	return out;
}

static char *put_signed(char *out, int64_t n)
{
	if (n >= 0)
		return put_number(out, n);
	*out++ = '-';
	return put_number(out, -(uint64_t)n);
}

#define KEY(out, key) LITERAL(out, ",\"" key "\":")

static char *put_quoted(char *out, const char *text)
{
	size_t len = strlen(text);

	*out++ = '"';
	memcpy(out, text, len);
	out += len;
	*out++ = '"';
	return out;
}

/* Bytes from outside, after `slash`. `twin`: ,"key": of its exact bytes when it is no UTF-8. */
static char *put_bytes(char *out, const char *twin, bool slash, const struct event_text *text)
{
	char with_slash[EVENT_PATH_MAX + 1];
	bool valid;

	*out++ = '"';
	if (slash)
		*out++ = '/';
	out += event_json_escape(text->bytes, text->len, out, &valid);
	*out++ = '"';
	if (valid || !twin)
		return out;
	with_slash[0] = '/';
	memcpy(with_slash + slash, text->bytes, text->len);
	out = stpcpy(out, twin);
	*out++ = '"';
	out += event_json_base64(with_slash, text->len + slash, out);
	*out++ = '"';
	return out;
}

static char *put_time(struct event_json *state, char *out, int64_t ns)
{
	time_t second = ns / 1000000000;
	unsigned part = ns % 1000000000;
	struct tm tm;

	if (second != state->second || !state->date[0]) {
		gmtime_r(&second, &tm);
		strftime(state->date, sizeof(state->date), "%Y-%m-%dT%H:%M:%S", &tm);
		state->second = second;
	}
	out = put_quoted(KEY(out, "Time"), state->date);
	out[-1] = '.';	/* over the quote */
	for (int i = 8; i >= 0; i--, part /= 10)
		out[i] = '0' + part % 10;
	out += 9;
	*out++ = 'Z';
	*out++ = '"';
	return out;
}

static char *put_node(char *out, const struct event_node *node, bool known)
{
	*out++ = '"';
	if (known)
		out += event_entry_id(node, out);
	*out++ = '"';
	return out;
}

static char *put_until(char *out, int64_t until_s)
{
	char text[RETENTION_TEXT_BYTES];

	retention_format_until(until_s, text);
	return put_quoted(out, text);
}

/* "EPERM". strerrorname_np() is glibc's, since 2.32. */
static char *put_error(char *out, uint32_t error)
{
	const char *name = strerrorname_np(error);
	char number[24];

	snprintf(number, sizeof(number), "errno %" PRIu32, error);
	return put_quoted(KEY(out, "Error"), name ? name : number);
}

static char *put_quota(char *out, const struct event_quota *quota)
{
	const char *kind = event_quota_kind_name(quota->kind), *warning = event_quota_warning_name(quota->warning);

	out = put_quoted(KEY(out, "Quota"), kind ? kind : "");
	out = put_quoted(KEY(out, "Warning"), warning ? warning : "");
	if (quota->kind <= EVENT_QUOTA_PROJECT)
		out = put_number(KEY(out, "QuotaId"), quota->id);
	out = put_number(KEY(out, "DeviceMajor"), quota->major);
	out = put_number(KEY(out, "DeviceMinor"), quota->minor);
	out = put_number(KEY(out, "Count"), quota->count);
	if (quota->limit) {
		out = put_number(KEY(out, "Used"), quota->used);
		out = put_number(KEY(out, "Limit"), quota->limit);
	}
	return out;
}

/* What beegfs-event-listener does not know. */
static char *put_ours(char *out, const struct event *ev)
{
	if (ev->has & EVENT_HAS_NODE) {
		out = put_number(KEY(out, "Inode"), ev->node.ino);
		out = put_number(KEY(out, "Generation"), ev->node.generation);
		out = put_number(KEY(out, "Device"), ev->node.dev);
	}
	if (ev->has & EVENT_HAS_NLINK)
		out = put_number(KEY(out, "Links"), ev->nlink);
	if (ev->has & EVENT_HAS_MODE)
		out = put_number(KEY(out, "Mode"), ev->mode);
	if (ev->has & EVENT_HAS_OWNER) {
		out = put_number(KEY(out, "Owner"), ev->owner.uid);
		out = put_number(KEY(out, "Group"), ev->owner.gid);
	}
	if (ev->has & EVENT_HAS_SIZE_BEFORE)
		out = put_number(KEY(out, "SizeBefore"), ev->size_before);
	if (ev->has & EVENT_HAS_SIZE)
		out = put_number(KEY(out, "Size"), ev->size);
	if (ev->has & EVENT_HAS_MTIME)
		out = put_signed(KEY(out, "MtimeNs"), ev->mtime_ns);
	if (ev->has & EVENT_HAS_ACTOR) {
		out = put_number(KEY(out, "Uid"), ev->actor.uid);
		out = put_number(KEY(out, "Gid"), ev->actor.gid);
		out = put_signed(KEY(out, "Pid"), ev->actor.pid);
	}
	if (ev->has & EVENT_HAS_COMM)
		out = put_bytes(KEY(out, "Command"), NULL, false, &ev->comm);
	if (ev->has & EVENT_HAS_OPEN_FLAGS)
		out = put_number(KEY(out, "OpenFlags"), ev->open_flags);
	if (ev->has & EVENT_HAS_ERROR && ev->error)
		out = put_error(out, ev->error);
	if (ev->has & EVENT_HAS_STATE && ev->state.before)
		out = put_quoted(KEY(out, "StateBefore"), event_state_name(ev->state.before));
	if (ev->has & EVENT_HAS_STATE && ev->state.after)
		out = put_quoted(KEY(out, "State"), event_state_name(ev->state.after));
	if (ev->has & EVENT_HAS_UNTIL_BEFORE)
		out = put_until(KEY(out, "UntilBefore"), ev->until_before_s);
	if (ev->has & EVENT_HAS_UNTIL)
		out = put_until(KEY(out, "Until"), ev->until_s);
	if (ev->has & EVENT_HAS_SERIAL)
		out = put_number(KEY(out, "Serial"), ev->serial);
	if (ev->has & EVENT_HAS_LOST)
		out = put_number(KEY(out, "Lost"), ev->lost);
	if (ev->has & EVENT_HAS_QUOTA)
		out = put_quota(out, &ev->quota);
	if (ev->has & EVENT_HAS_ARCHIVE_BEFORE)
		out = put_bytes(KEY(out, "ArchiveStateBefore"), NULL, false, &ev->archive_before);
	if (ev->has & EVENT_HAS_ARCHIVE)
		out = put_bytes(KEY(out, "ArchiveState"), NULL, false, &ev->archive);
	if (ev->has & EVENT_HAS_FAULT)
		out = put_bytes(KEY(out, "Fault"), NULL, false, &ev->fault);
	if (ev->has & EVENT_HAS_DETAIL)
		out = put_bytes(KEY(out, "Detail"), ",\"DetailBase64\":", false, &ev->detail);
	if (ev->flags & EVENT_REFUSED)
		out = LITERAL(out, ",\"Refused\":true");
	if (ev->flags & EVENT_EXCHANGE)
		out = LITERAL(out, ",\"Exchange\":true");
	if (ev->flags & EVENT_DIRECTORY)
		out = LITERAL(out, ",\"Directory\":true");
	if (ev->flags & EVENT_CUT)
		out = LITERAL(out, ",\"PathCut\":true");
	if (ev->flags & EVENT_UPPER_BOUND)
		out = LITERAL(out, ",\"AtMost\":true");
	return out;
}

size_t event_json_format(struct event_json *state, const struct event *ev, const struct event_counts *counts, char *buf)
{
	/* What a symbolic link says is not a path of the share. */
	bool is_link_text = ev->type == EVENT_SYMLINK;
	char *out = buf;

	out = LITERAL(out, "{\"VersionMajor\":1,\"VersionMinor\":0");
	out = put_number(KEY(out, "PacketSize"), beegfs7_size(ev));
	out = put_number(KEY(out, "Dropped"), counts->dropped);
	out = put_number(KEY(out, "Missed"), counts->missed);
	out = put_number(KEY(out, "Seq"), ev->seq);
	out = put_number(KEY(out, "Session"), ev->session);
	out = put_time(state, out, ev->time_ns);
	out = LITERAL(out, ",\"Event\":{\"Type\":\"");
	out = stpcpy(out, event_type_name(ev->type));
	*out++ = '"';
	out = put_bytes(KEY(out, "Path"), ",\"PathBase64\":", ev->has & EVENT_HAS_PATH, &ev->path);
	out = put_node(KEY(out, "EntryId"), &ev->node, ev->has & EVENT_HAS_NODE);
	out = put_node(KEY(out, "ParentEntryId"), &ev->parent, ev->has & EVENT_HAS_PARENT);
	out = put_bytes(KEY(out, "TargetPath"), ",\"TargetPathBase64\":", ev->has & EVENT_HAS_TARGET && !is_link_text, &ev->target);
	out = put_node(KEY(out, "TargetParentId"), &ev->target_parent, ev->has & EVENT_HAS_TARGET_PARENT);
	out = put_ours(out, ev);
	out = LITERAL(out, "}}\n");
	return out - buf;
}
