/* What of the audit log or the event stream is which event type and detail type, in the way that OneFS splits them: few types
 * ("create", "delete", "rename"), and a detail type that says what exactly and to what ("open_file_write", "rename_directory").
 * An open is a "create" there, too. What OneFS has nothing for is "worm" (locks) or "config" (the share itself). Pure; any thread. */
#ifndef WORMFS_AUDIT_TYPE_H
#define WORMFS_AUDIT_TYPE_H

#include <stdbool.h>

#include "lockstore/audit_line.h"
#include "lockstore/events/event.h"

#define AUDIT_DETAIL_TYPE_BYTES 64

struct audit_type {
	const char *type;				/* "create" */
	char detail_type[AUDIT_DETAIL_TYPE_BYTES];	/* "open_file_write" */
	bool config;					/* of the share, not of a file */
	bool directory;
};

/* detail: of the line; of a refusal it begins with the operation ("rename-dir: pinned"). NULL: none. */
void audit_type_of_line(enum audit_event event, const char *detail, struct audit_type *ret);
void audit_type_of_event(const struct event *ev, struct audit_type *ret);

/* Globs, ':' between them, of types and detail types; "protocol" and "config" are all of one kind. */
bool audit_type_matches(const struct audit_type *type, const char *globs);

#endif
