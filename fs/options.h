/* The command line. Every option is in one table (option_table.c) that --help prints, too. */
#ifndef WORMFS_OPTIONS_H
#define WORMFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstore/events/event_sink.h"
#include "lockstore/lower.h"
#include "lockstore/policy.h"
#include "lockstore/retention.h"

#define QUOTA_PROVIDERS_MAX 4	/* -o quota_notify */

enum privdel { PRIVDEL_OFF, PRIVDEL_ON, PRIVDEL_NEVER };

struct options {
	char *share;			/* as given */
	char *mountpoint;		/* as given, or NULL: over the share */
	bool foreground, debug, remount;

	enum commit_trigger commit;
	uint32_t idle_s;		/* COMMIT_IDLE */
	struct retention retention, min, max;
	bool has_retention, has_min, has_max;
	enum worm_mode mode;
	char *hold;			/* case, or NULL */
	char *hold_role;		/* role.h, or NULL */
	enum privdel privdel;
	char *approve;			/* role.h, or NULL */
	char *staging;			/* globs */
	uint32_t staging_idle_s;
	bool sync_close;
	bool atime_api;			/* the access time is the retention */
	int shared;			/* 0 no, 1 yes, -1 auto */
	char *state, *key, *clock, *rules;	/* or NULL */
	bool audit;
	uint64_t audit_success, audit_failure;	/* sets of AUDIT_SET() */
	uint32_t audit_rotate_mib;	/* 0: never */
	char *audit_anchor;		/* or NULL */
	uint32_t settle_s;		/* after a lock, see policy.h */
	char *push, *push_root, *push_credentials, *push_ca, *push_undated;	/* or NULL */
	bool push_insecure;
	uint32_t push_wait_s, push_retry_s, push_connections, push_in_flight;
	bool events, events_strict;
	bool events_types[EVENT_TYPES];
	uint32_t events_ring_mib;
	char *quota;			/* file of limits of our own, or NULL */
	bool quota_hit_count, quota_listen;
	char *quota_providers[QUOTA_PROVIDERS_MAX];
	unsigned quota_nproviders;
	char *events_sinks[EVENT_SINKS_MAX];
	unsigned events_nsinks;
	char *events_credentials, *events_ca;	/* or NULL */
	bool digest;			/* SHA-256 of locked files, in the background */
	uint32_t digest_rate;		/* MiB/s, 0: no limit */
	bool passthrough, io_uring, splice;	/* wanted where the machine has it */
	uint32_t threads, uring_depth, descriptors;
	int xattr_ns;			/* enum lower_namespace, or -1: by privilege */
	bool allow_other, allow_other_given;
	bool ro, noatime;
	int dev, suid, exec;		/* 0, 1, -1: as the share's own mount */
	char *kernel_options;		/* what mount(2) is given, comma separated */
};

/* Fills *ret from the command line. 0; 1: --help or --version was asked and printed; -EINVAL after one
 * line on stderr that says what, which, and what to do. The caller ends it with options_fini() in all cases. */
int options_parse(int argc, char **argv, struct options *ret);
void options_fini(struct options *options);

#endif
