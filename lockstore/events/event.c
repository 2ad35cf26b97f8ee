/* The compact form: type, flags, which fields, the time, then those fields in the order of their bits. */
#include "lockstore/events/event.h"

#include <errno.h>
#include <string.h>

#define FIXED_BYTES 16

static const struct {
	const char *name;
	int beegfs7, beegfs8;	/* -1: BeeGFS has none */
} types[EVENT_TYPES] = {
	[EVENT_FLUSH] = { "Flush", 0, 1 },
	[EVENT_TRUNCATE] = { "Truncate", 1, 2 },
	[EVENT_SETATTR] = { "SetAttr", 2, 3 },
	[EVENT_CLOSE_WRITE] = { "CloseAfterWrite", 3, 4 },
	[EVENT_CREATE] = { "Create", 4, 5 },
	[EVENT_MKDIR] = { "MKdir", 5, 6 },
	[EVENT_MKNOD] = { "MKnod", 6, 7 },
	[EVENT_SYMLINK] = { "Symlink", 7, 8 },
	[EVENT_RMDIR] = { "RMdir", 8, 9 },
	[EVENT_UNLINK] = { "Unlink", 9, 10 },
	[EVENT_HARDLINK] = { "Hardlink", 10, 11 },
	[EVENT_RENAME] = { "Rename", 11, 12 },
	[EVENT_OPEN_READ] = { "OpenRead", 12, 13 },
	[EVENT_OPEN_WRITE] = { "OpenWrite", -1, 14 },
	[EVENT_OPEN_READ_WRITE] = { "OpenReadWrite", -1, 15 },
	[EVENT_LAST_WRITER_CLOSED] = { "LastWriterClosed", 3, 16 },
	[EVENT_OPEN_BLOCKED] = { "OpenBlocked", -1, 17 },
	[EVENT_WRITE] = { "Write", -1, -1 },
	[EVENT_ALLOCATE] = { "Allocate", -1, -1 },
	[EVENT_XATTR_SET] = { "XattrSet", 2, 3 },
	[EVENT_XATTR_REMOVED] = { "XattrRemoved", 2, 3 },
	[EVENT_ACL_SET] = { "AclSet", 2, 3 },
	[EVENT_COMMITTED] = { "Committed", -1, -1 },
	[EVENT_RETENTION_EXTENDED] = { "RetentionExtended", -1, -1 },
	[EVENT_RETENTION_SHORTENED] = { "RetentionShortened", -1, -1 },
	[EVENT_HOLD_PLACED] = { "HoldPlaced", -1, -1 },
	[EVENT_HOLD_RELEASED] = { "HoldReleased", -1, -1 },
	[EVENT_DELETED_EXPIRED] = { "DeletedExpired", -1, -1 },
	[EVENT_DELETED_PRIVILEGED] = { "DeletedPrivileged", -1, -1 },
	[EVENT_TAMPER] = { "Tamper", -1, -1 },
	[EVENT_APPEND_ONLY] = { "AppendOnly", -1, -1 },
	[EVENT_MOUNT] = { "Mount", -1, -1 },
	[EVENT_UNMOUNT] = { "Unmount", -1, -1 },
	[EVENT_CLOCK] = { "Clock", -1, -1 },
	[EVENT_POLICY_CHANGED] = { "PolicyChanged", -1, -1 },
	[EVENT_VERIFIED] = { "Verified", -1, -1 },
	[EVENT_LEDGER] = { "Ledger", -1, -1 },
	[EVENT_AUDIT] = { "Audit", -1, -1 },
	[EVENT_QUOTA] = { "Quota", -1, -1 },
	[EVENT_ARCHIVE_STATE] = { "ArchiveState", -1, -1 },
	[EVENT_ARCHIVE_FLAG] = { "ArchiveFlag", -1, -1 },
	[EVENT_ARCHIVE_FAULT] = { "ArchiveFault", -1, -1 },
	[EVENT_ARCHIVE_REQUEST] = { "ArchiveRequest", -1, -1 },
	[EVENT_ARCHIVE_COPY] = { "ArchiveCopy", -1, -1 },
	[EVENT_ARCHIVE_PIN] = { "ArchivePin", -1, -1 },
	[EVENT_ARCHIVE_DRIVE] = { "ArchiveDrive", -1, -1 },
	[EVENT_ARCHIVE_CLOCK] = { "ArchiveClock", -1, -1 },
	[EVENT_ARCHIVE_SETTING] = { "ArchiveSetting", -1, -1 },
	[EVENT_ARCHIVE_NAME] = { "ArchiveName", -1, -1 },
	[EVENT_GAP] = { "Gap", -1, -1 },
};

const char *event_type_name(unsigned type)
{
	return type < EVENT_TYPES ? types[type].name : NULL;
}

unsigned event_type_parse(const char *name)
{
	for (unsigned type = 1; type < EVENT_TYPES; type++)
		if (types[type].name && strcmp(types[type].name, name) == 0)
			return type;
	return 0;
}

int event_beegfs7(unsigned type, unsigned flags, bool failed)
{
	return failed || type >= EVENT_TYPES || !types[type].name ? -1 : types[type].beegfs7;
}

int event_beegfs8(unsigned type, unsigned flags, bool failed)
{
	if (type >= EVENT_TYPES || !types[type].name)
		return -1;
	if (failed)
		return flags & EVENT_REFUSED && type >= EVENT_OPEN_READ && type <= EVENT_OPEN_READ_WRITE ? EVENT_OPEN_BLOCKED : -1;
	return types[type].beegfs8;
}

bool event_is_of_all_names(unsigned type)
{
	switch (type) {
	case EVENT_SETATTR: case EVENT_XATTR_SET: case EVENT_XATTR_REMOVED: case EVENT_ACL_SET: case EVENT_TRUNCATE: case EVENT_FLUSH:
	case EVENT_OPEN_READ: case EVENT_OPEN_WRITE: case EVENT_OPEN_READ_WRITE: case EVENT_CLOSE_WRITE: case EVENT_LAST_WRITER_CLOSED:
		return true;
	default:
		return false;
	}
}

bool event_is_missed(const struct event *ev)
{
	return ev->flags & EVENT_HARD_LINKS && event_is_of_all_names(ev->type) && event_beegfs7(ev->type, ev->flags, ev->has & EVENT_HAS_ERROR) >= 0;
}

const char *event_state_name(unsigned state)
{
	static const char *const names[EVENT_STATES] = {
		[EVENT_STATE_UNKNOWN] = "", [EVENT_STATE_OPEN] = "open", [EVENT_STATE_CLOSING] = "closing",
		[EVENT_STATE_RETAINED] = "retained", [EVENT_STATE_EXPIRED] = "expired", [EVENT_STATE_APPENDABLE] = "appendable",
		[EVENT_STATE_UNREADABLE] = "unreadable", [EVENT_STATE_PINNED] = "pinned", [EVENT_STATE_HELD] = "held",
		[EVENT_STATE_SETTLING] = "settling",
	};

	return state < EVENT_STATES ? names[state] : "";
}

const char *event_quota_kind_name(unsigned kind)
{
	static const char *const names[EVENT_QUOTA_KINDS] = {
		[EVENT_QUOTA_USER] = "user", [EVENT_QUOTA_GROUP] = "group", [EVENT_QUOTA_PROJECT] = "project",
		[EVENT_QUOTA_DIRECTORY] = "directory", [EVENT_QUOTA_RULE] = "rule", [EVENT_QUOTA_SOME] = "some",
		[EVENT_QUOTA_FILESYSTEM] = "filesystem",
	};

	return kind < EVENT_QUOTA_KINDS ? names[kind] : NULL;
}

const char *event_quota_warning_name(unsigned warning)
{
	static const char *const names[EVENT_QUOTA_WARNINGS] = {
		[EVENT_QUOTA_NONE] = "none", [EVENT_QUOTA_FILES_HARD] = "files-hard", [EVENT_QUOTA_FILES_GRACE] = "files-grace",
		[EVENT_QUOTA_FILES_SOFT] = "files-soft", [EVENT_QUOTA_BYTES_HARD] = "bytes-hard",
		[EVENT_QUOTA_BYTES_GRACE] = "bytes-grace", [EVENT_QUOTA_BYTES_SOFT] = "bytes-soft",
		[EVENT_QUOTA_FILES_HARD_BELOW] = "files-hard-below", [EVENT_QUOTA_FILES_SOFT_BELOW] = "files-soft-below",
		[EVENT_QUOTA_BYTES_HARD_BELOW] = "bytes-hard-below", [EVENT_QUOTA_BYTES_SOFT_BELOW] = "bytes-soft-below",
		[EVENT_QUOTA_FILES_ADVISORY] = "files-advisory", [EVENT_QUOTA_BYTES_ADVISORY] = "bytes-advisory",
		[EVENT_QUOTA_REFUSED] = "refused", [EVENT_QUOTA_FILES_ADVISORY_BELOW] = "files-advisory-below",
		[EVENT_QUOTA_BYTES_ADVISORY_BELOW] = "bytes-advisory-below",
	};

	return warning < EVENT_QUOTA_WARNINGS ? names[warning] : NULL;
}

/* ---- compact form ---- */

/* Each with the size that the compiler knows: copies by a table of sizes took half of the time. In the order of their bits. */
#define SCALARS(EACH) \
	EACH(NODE, node) EACH(PARENT, parent) EACH(TARGET_PARENT, target_parent) EACH(NLINK, nlink) EACH(MODE, mode) \
	EACH(SIZE_BEFORE, size_before) EACH(SIZE, size) EACH(MTIME, mtime_ns) EACH(ACTOR, actor) EACH(OPEN_FLAGS, open_flags) \
	EACH(ERROR, error) EACH(UNTIL_BEFORE, until_before_s) EACH(UNTIL, until_s) EACH(STATE, state) EACH(SERIAL, serial) \
	EACH(LOST, lost) EACH(OWNER, owner) EACH(QUOTA, quota)

static const struct {
	uint32_t bit;
	uint16_t offset, max;
} texts[] = {
	{ EVENT_HAS_COMM, offsetof(struct event, comm), EVENT_COMM_MAX },
	{ EVENT_HAS_PATH, offsetof(struct event, path), EVENT_PATH_MAX },
	{ EVENT_HAS_TARGET, offsetof(struct event, target), EVENT_PATH_MAX },
	{ EVENT_HAS_DETAIL, offsetof(struct event, detail), EVENT_DETAIL_MAX },
	{ EVENT_HAS_ARCHIVE_BEFORE, offsetof(struct event, archive_before), EVENT_ARCHIVE_MAX },
	{ EVENT_HAS_ARCHIVE, offsetof(struct event, archive), EVENT_ARCHIVE_MAX },
	{ EVENT_HAS_FAULT, offsetof(struct event, fault), EVENT_FAULT_MAX },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct event_text *text_of(const struct event *ev, size_t i)
{
	return (const struct event_text *)((const char *)ev + texts[i].offset);
}

size_t event_size(const struct event *ev)
{
	size_t len = FIXED_BYTES;

#define ADD(bit, field) len += ev->has & EVENT_HAS_##bit ? sizeof(ev->field) : 0;
	SCALARS(ADD)
#undef ADD
	for (size_t i = 0; i < COUNT(texts); i++)
		if (ev->has & texts[i].bit)
			len += sizeof(uint16_t) + text_of(ev, i)->len;
	return len;
}

void event_encode(const struct event *ev, void *buf)
{
	char *out = buf;

	memcpy(out, &ev->type, 2);
	memcpy(out + 2, &ev->flags, 2);
	memcpy(out + 4, &ev->has, 4);
	memcpy(out + 8, &ev->time_ns, 8);
	out += FIXED_BYTES;
#define PUT(bit, field) \
	if (ev->has & EVENT_HAS_##bit) { \
		memcpy(out, &ev->field, sizeof(ev->field)); \
		out += sizeof(ev->field); \
	}
	SCALARS(PUT)
#undef PUT
	for (size_t i = 0; i < COUNT(texts); i++) {
		const struct event_text *text = text_of(ev, i);

		if (!(ev->has & texts[i].bit))
			continue;
		memcpy(out, &text->len, 2);
		if (text->len)		/* an empty one may have no bytes at all */
			memcpy(out + 2, text->bytes, text->len);
		out += 2 + text->len;
	}
}

void event_peek(const void *buf, uint16_t *ret_type, uint16_t *ret_flags, uint32_t *ret_has)
{
	memcpy(ret_type, buf, 2);
	memcpy(ret_flags, (const char *)buf + 2, 2);
	memcpy(ret_has, (const char *)buf + 4, 4);
}

int event_decode(const void *buf, size_t len, struct event *ret)
{
	const char *in = buf, *end = in + len;
	struct event ev = { 0 };

	if (len < FIXED_BYTES)
		return -EBADMSG;
	event_peek(buf, &ev.type, &ev.flags, &ev.has);
	memcpy(&ev.time_ns, in + 8, 8);
	in += FIXED_BYTES;
	if (ev.has & ~(uint32_t)EVENT_HAS_ALL || !event_type_name(ev.type))
		return -EPROTO;
#define GET(bit, field) \
	if (ev.has & EVENT_HAS_##bit) { \
		if ((size_t)(end - in) < sizeof(ev.field)) \
			return -EBADMSG; \
		memcpy(&ev.field, in, sizeof(ev.field)); \
		in += sizeof(ev.field); \
	}
	SCALARS(GET)
#undef GET
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct event_text *text = (struct event_text *)((char *)&ev + texts[i].offset);

		if (!(ev.has & texts[i].bit))
			continue;
		if (end - in < 2)
			return -EBADMSG;
		memcpy(&text->len, in, 2);
		text->bytes = in + 2;
		if (text->len > texts[i].max || end - text->bytes < text->len)
			return -EBADMSG;
		in = text->bytes + text->len;
	}
	if (in != end)
		return -EBADMSG;
	*ret = ev;
	return 0;
}

/* As "%X" has it: this is most of what an event costs, otherwise. */
static char *put_hex(char *out, uint32_t n)
{
	static const char hex[] = "0123456789ABCDEF";
	int shift = n ? (31 - __builtin_clz(n)) / 4 * 4 : 0;

	for (; shift >= 0; shift -= 4)
		*out++ = hex[n >> shift & 15];
	return out;
}

size_t event_entry_id(const struct event_node *node, char ret_text[EVENT_ENTRY_ID_BYTES])
{
	char *out;

	if (node->ino == 1 && node->dev == 0)
		return strlen(strcpy(ret_text, "root"));
	/* 64 bits of inode number in two of three 32-bit numbers: the upper half rarely is anything, and goes into the
	 * generation, which is a hash. */
	out = put_hex(ret_text, node->ino);
	*out++ = '-';
	out = put_hex(out, node->generation ^ (uint32_t)(node->ino >> 32));
	*out++ = '-';
	out = put_hex(out, node->dev + 1);
	*out = '\0';
	return out - ret_text;
}
