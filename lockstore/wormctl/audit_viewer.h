/* wormctl audit viewer: who did what, in the shape that isi_audit_viewer prints. From the audit log, or from the ring of events. */
#ifndef WORMFS_WORMCTL_AUDIT_VIEWER_H
#define WORMFS_WORMCTL_AUDIT_VIEWER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lockstore/wormctl/output.h"

#define AUDIT_VIEWER_TYPES_MAX 511	/* bytes of --type */

struct audit_viewer {
	int64_t start_ns, end_ns;	/* by the system's date; [start, end) */
	const char *types;		/* audit_type_matches(); NULL: all */
	bool success, failure;		/* only these; both or none: all */
	bool by_uid;
	uid_t uid;
	const char *path;		/* at and below, from the share's root; NULL or "": all */
	bool json;			/* the objects alone */
	bool events;			/* from the ring */
	uint64_t found, left_out;	/* left_out: lines or events that could not be read, or are missing */
};

/* "2030-01-01 12:00:00", with 'T' or ' ', without a zone UTC; a date alone: its first second. -EINVAL. */
int audit_viewer_moment(const char *text, int64_t *ret_ns);
int audit_viewer_run(struct audit_viewer *viewer, const char *state_dir, struct failure *f);

#endif
