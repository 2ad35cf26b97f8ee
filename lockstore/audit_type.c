#include "lockstore/audit_type.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* "%s" is what it happened to: file or directory. */
struct kind {
	const char *type, *detail_type;
};

static const struct kind of_audit[AUDIT_EVENTS] = {
	[AUDIT_CREATE] = { "create", "create_%s" },
	[AUDIT_DENY_OPEN_WRITE] = { "create", "open_%s_write" },
	[AUDIT_DENY_LINK] = { "create", "link_%s" },
	[AUDIT_DENY_WRITE] = { "write", "write_%s" },
	[AUDIT_DENY_TRUNCATE] = { "write", "truncate_%s" },
	[AUDIT_DENY_UNLINK] = { "delete", "delete_%s" },
	[AUDIT_DELETE_EXPIRED] = { "delete", "delete_expired_%s" },
	[AUDIT_DELETE_PRIVILEGED] = { "delete", "delete_privileged_%s" },
	[AUDIT_DENY_RENAME] = { "rename", "rename_%s" },
	[AUDIT_DENY_SETATTR] = { "set_attributes", "set_attributes_%s" },
	[AUDIT_DENY_XATTR] = { "set_attributes", "set_xattr_%s" },
	[AUDIT_ADJUST] = { "set_attributes", "adjust_%s" },
	[AUDIT_COMMIT] = { "worm", "commit_%s" },
	[AUDIT_EXTEND] = { "worm", "extend_%s" },
	[AUDIT_SHORTEN] = { "worm", "shorten_%s" },
	[AUDIT_HOLD_ADD] = { "worm", "hold_add_%s" },
	[AUDIT_HOLD_RELEASE] = { "worm", "hold_release_%s" },
	[AUDIT_DENY_REQUEST] = { "worm", "request_%s" },
	[AUDIT_PUSH] = { "worm", "push_%s" },
	[AUDIT_TAMPER] = { "worm", "tamper_%s" },
	/* All others: "config", and their own name. */
};

/* What the operation of a refusal says more exactly. */
static const struct {
	const char *op;		/* guard_op_name(), with the ':' behind it */
	struct kind kind;
	bool directory;
} of_refusal[] = {
	{ "rename-dir:", { "rename", "rename_%s" }, true },
	{ "chmod", { "set_security", "set_security_%s" }, false },	/* chmod-readonly, too */
	{ "chown:", { "set_security", "set_security_%s" }, false },
	{ "utimens:", { "set_attributes", "set_times_%s" }, false },
	{ "setflags:", { "set_attributes", "set_flags_%s" }, false },
	{ "commit:", { "worm", "commit_%s" }, false },
	{ "extend:", { "worm", "extend_%s" }, false },
	{ "hold:", { "worm", "hold_add_%s" }, false },
	{ "release:", { "worm", "hold_release_%s" }, false },
	{ "append-only:", { "worm", "append_only_%s" }, false },
};

static const struct kind of_event[EVENT_TYPES] = {
	[EVENT_CREATE] = { "create", "create_%s" },
	[EVENT_MKDIR] = { "create", "create_%s" },
	[EVENT_MKNOD] = { "create", "create_node" },
	[EVENT_SYMLINK] = { "create", "create_symlink" },
	[EVENT_HARDLINK] = { "create", "link_%s" },
	[EVENT_OPEN_READ] = { "create", "open_%s_read" },
	[EVENT_OPEN_WRITE] = { "create", "open_%s_write" },
	[EVENT_OPEN_READ_WRITE] = { "create", "open_%s_write" },
	[EVENT_OPEN_BLOCKED] = { "create", "open_%s_write" },
	[EVENT_CLOSE_WRITE] = { "close", "close_%s_modified" },
	[EVENT_LAST_WRITER_CLOSED] = { "close", "close_%s_last_writer" },
	[EVENT_FLUSH] = { "write", "flush_%s" },
	[EVENT_TRUNCATE] = { "write", "truncate_%s" },
	[EVENT_WRITE] = { "write", "write_%s" },
	[EVENT_ALLOCATE] = { "write", "allocate_%s" },
	[EVENT_UNLINK] = { "delete", "delete_%s" },
	[EVENT_RMDIR] = { "delete", "delete_%s" },
	[EVENT_RENAME] = { "rename", "rename_%s" },
	[EVENT_SETATTR] = { "set_attributes", "set_attributes_%s" },	/* which ones is told of a refused one only */
	[EVENT_ACL_SET] = { "set_security", "set_acl_%s" },
	[EVENT_XATTR_SET] = { "set_attributes", "set_xattr_%s" },
	[EVENT_XATTR_REMOVED] = { "set_attributes", "remove_xattr_%s" },
	[EVENT_COMMITTED] = { "worm", "commit_%s" },
	[EVENT_RETENTION_EXTENDED] = { "worm", "extend_%s" },
	[EVENT_RETENTION_SHORTENED] = { "worm", "shorten_%s" },
	[EVENT_HOLD_PLACED] = { "worm", "hold_add_%s" },
	[EVENT_HOLD_RELEASED] = { "worm", "hold_release_%s" },
	[EVENT_DELETED_EXPIRED] = { "delete", "delete_expired_%s" },
	[EVENT_DELETED_PRIVILEGED] = { "delete", "delete_privileged_%s" },
	[EVENT_TAMPER] = { "worm", "tamper_%s" },
	[EVENT_APPEND_ONLY] = { "worm", "append_only_%s" },
};

static void set_type(const struct kind *kind, const char *name, bool directory, struct audit_type *ret)
{
	const char *mark = kind->type ? strstr(kind->detail_type, "%s") : NULL;

	ret->config = !kind->type;
	ret->type = kind->type ? kind->type : "config";
	ret->directory = directory;
	if (!kind->type)
		snprintf(ret->detail_type, sizeof(ret->detail_type), "%s", name);
	else if (!mark)
		snprintf(ret->detail_type, sizeof(ret->detail_type), "%s", kind->detail_type);
	else
		snprintf(ret->detail_type, sizeof(ret->detail_type), "%.*s%s%s", (int)(mark - kind->detail_type), kind->detail_type,
			 directory ? "directory" : "file", mark + 2);
}

/* `kind` where the operation says no more. */
static const struct kind *refused_kind(const struct kind *kind, const char *detail, size_t len, bool *ret_directory)
{
	for (size_t i = 0; i < sizeof(of_refusal) / sizeof(of_refusal[0]); i++) {
		size_t n = strlen(of_refusal[i].op);

		if (len < n || memcmp(detail, of_refusal[i].op, n) != 0)
			continue;
		*ret_directory |= of_refusal[i].directory;
		return &of_refusal[i].kind;
	}
	return kind;
}

void audit_type_of_line(enum audit_event event, const char *detail, struct audit_type *ret)
{
	const struct kind *kind = &of_audit[event];
	bool directory = false;

	if (detail && (event == AUDIT_DENY_RENAME || event == AUDIT_DENY_SETATTR || event == AUDIT_DENY_REQUEST))
		kind = refused_kind(kind, detail, strlen(detail), &directory);
	set_type(kind, audit_event_name(event), directory, ret);
}

void audit_type_of_event(const struct event *ev, struct audit_type *ret)
{
	const struct kind *kind = &of_event[ev->type];
	char name[AUDIT_DETAIL_TYPE_BYTES];
	const char *camel = event_type_name(ev->type);
	bool directory = ev->flags & EVENT_DIRECTORY || ev->type == EVENT_MKDIR || ev->type == EVENT_RMDIR ||
			 (ev->has & EVENT_HAS_MODE && (ev->mode & 0170000) == 0040000);
	size_t n = 0;

	/* "PolicyChanged" is "policy_changed" here. */
	for (camel = camel ? camel : "unknown"; *camel && n < sizeof(name) - 2; camel++) {
		if (*camel >= 'A' && *camel <= 'Z' && n)
			name[n++] = '_';
		name[n++] = *camel >= 'A' && *camel <= 'Z' ? (char)(*camel - 'A' + 'a') : *camel;
	}
	name[n] = '\0';
	if (ev->flags & EVENT_REFUSED && ev->has & EVENT_HAS_DETAIL)
		kind = refused_kind(kind, ev->detail.bytes, ev->detail.len, &directory);
	set_type(kind, name, directory, ret);
}

bool audit_type_matches(const struct audit_type *type, const char *globs)
{
	char copy[512], *glob, *save = NULL;

	snprintf(copy, sizeof(copy), "%s", globs);	/* who reads the option has looked at its length */
	for (glob = strtok_r(copy, ":", &save); glob; glob = strtok_r(NULL, ":", &save))
		if (strcmp(glob, "protocol") == 0 ? !type->config : strcmp(glob, "config") == 0 ? type->config :
		    fnmatch(glob, type->type, 0) == 0 || fnmatch(glob, type->detail_type, 0) == 0)
			return true;
	return false;
}
