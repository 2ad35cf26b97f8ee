/* First what each value may be, then the table. */
#include "fs/option_table.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/quota_provider.h"
#include "fs/role.h"
#include "lockstore/staging.h"
#include "lockstore/audit.h"
#include "lockstore/case_name.h"
#include "lockstore/upstream/plan.h"
#include "lockstore/upstream/pusher.h"

int option_set_string(struct options *o, const char *value, long offset)
{
	char **field = (char **)((char *)o + offset);

	free(*field);
	*field = strdup(value);
	return *field ? 0 : -ENOMEM;
}

static int parse_u32(const char *value, uint32_t min, uint32_t max, uint32_t *ret)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (errno || *end || end == value || value[0] == '-' || n < min || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int set_commit(struct options *o, const char *value, long arg)
{
	return commit_trigger_parse(value, &o->commit, &o->idle_s);
}

enum { SET_RETENTION, SET_MIN, SET_MAX };

static int set_retention(struct options *o, const char *value, long which)
{
	struct retention r;
	int ret = retention_parse(value, &r);

	if (ret < 0)
		return ret;
	if (which == SET_RETENTION) {
		o->retention = r;
		o->has_retention = true;
	} else if (r.kind != RETENTION_PERIOD) {
		return -EINVAL;
	} else if (which == SET_MIN) {
		o->min = r;
		o->has_min = true;
	} else {
		o->max = r;
		o->has_max = true;
	}
	return 0;
}

static int set_mode(struct options *o, const char *value, long arg)
{
	return worm_mode_parse(value, &o->mode);
}

static int set_hold(struct options *o, const char *value, long arg)
{
	if (!case_name_is_valid(value))
		return -EINVAL;
	return option_set_string(o, value, offsetof(struct options, hold));
}

static int set_role(struct options *o, const char *value, long offset)
{
	struct role *role;
	const char *bad;
	int r = role_parse(value, &role, &bad);

	if (r < 0)
		return r;
	role_free(role);
	return option_set_string(o, value, offset);
}

static int set_privdel(struct options *o, const char *value, long arg)
{
	static const char *const names[] = { [PRIVDEL_OFF] = "off", [PRIVDEL_ON] = "on", [PRIVDEL_NEVER] = "never" };

	for (int i = 0; i < 3; i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		o->privdel = (enum privdel)i;
		return 0;
	}
	return -EINVAL;
}

static int set_staging(struct options *o, const char *value, long arg)
{
	struct staging *staging;
	int r = staging_open(value, &staging);

	if (r < 0)
		return r;
	staging_close(staging);
	return option_set_string(o, value, offsetof(struct options, staging));
}

static int set_sync(struct options *o, const char *value, long arg)
{
	o->sync_close = strcmp(value, "close") == 0;
	return o->sync_close || strcmp(value, "follow") == 0 ? 0 : -EINVAL;
}

static int set_atime_api(struct options *o, const char *value, long arg)
{
	o->atime_api = strcmp(value, "on") == 0;
	return o->atime_api || strcmp(value, "off") == 0 ? 0 : -EINVAL;
}

static int set_shared(struct options *o, const char *value, long arg)
{
	static const char *const names[] = { "no", "yes", "auto" };
	static const int values[] = { 0, 1, -1 };

	for (int i = 0; i < 3; i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		o->shared = values[i];
		return 0;
	}
	return -EINVAL;
}

static int set_auto(struct options *o, const char *value, long offset)
{
	bool *field = (bool *)((char *)o + offset);

	*field = strcmp(value, "auto") == 0;
	return *field || strcmp(value, "no") == 0 ? 0 : -EINVAL;
}

static int set_audit(struct options *o, const char *value, long arg)
{
	o->audit = strcmp(value, "on") == 0;
	return o->audit || strcmp(value, "off") == 0 ? 0 : -EINVAL;
}

/* Names or globs of events, ':' between them; "none". */
static int set_audit_events(struct options *o, const char *value, long offset)
{
	uint64_t *field = (uint64_t *)((char *)o + offset), set = 0;
	char *copy, *glob, *save = NULL;
	int r = 0;

	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	for (glob = strtok_r(copy, ":", &save); glob && r == 0; glob = strtok_r(NULL, ":", &save)) {
		uint64_t before = set;

		for (int event = 0; event < AUDIT_EVENTS; event++)
			if (strcmp(glob, "all") == 0 || fnmatch(glob, audit_event_name(event), 0) == 0)
				set |= AUDIT_SET(event);
		if (set == before && strcmp(value, "none") != 0)
			r = -EINVAL;
	}
	free(copy);
	if (r == 0 && !*value)
		r = -EINVAL;
	if (r == 0)
		*field = set;
	return r;
}

static int set_audit_rotate(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 0, 1048576, &o->audit_rotate_mib);
}

static int set_settle(struct options *o, const char *value, long arg)
{
	return settle_parse(value, &o->settle_s);
}

/* Given as often as wanted: each adds something. */
static int set_events(struct options *o, const char *value, long arg)
{
	if (strcmp(value, "off") == 0) {
		o->events = false;
		return 0;
	}
	if (strcmp(value, "on") != 0 && strcmp(value, "strict") != 0) {
		if (event_sink_check(value) < 0 || o->events_nsinks == EVENT_SINKS_MAX)
			return -EINVAL;
		for (unsigned i = 0; i < o->events_nsinks; i++)
			if (strcmp(o->events_sinks[i], value) == 0)
				return -EINVAL;
		o->events_sinks[o->events_nsinks] = strdup(value);
		if (!o->events_sinks[o->events_nsinks])
			return -ENOMEM;
		o->events_nsinks++;
	}
	o->events = true;
	o->events_strict |= strcmp(value, "strict") == 0;
	return 0;
}

/* Likewise. */
static int set_quota_notify(struct options *o, const char *value, long arg)
{
	int r = quota_provider_check(value);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < o->quota_nproviders; i++)
		if (strcmp(o->quota_providers[i], value) == 0)
			return -EINVAL;
	if (o->quota_nproviders == QUOTA_PROVIDERS_MAX)
		return -EINVAL;
	o->quota_providers[o->quota_nproviders] = strdup(value);
	if (!o->quota_providers[o->quota_nproviders])
		return -ENOMEM;
	o->quota_nproviders++;
	return 0;
}

static int set_events_types(struct options *o, const char *value, long arg)
{
	bool types[EVENT_TYPES] = { [EVENT_GAP] = true };
	char *copy = strdup(value), *glob, *save = NULL;
	bool bad = !*value;

	if (!copy)
		return -ENOMEM;
	for (glob = strtok_r(copy, ":", &save); glob && !bad; glob = strtok_r(NULL, ":", &save)) {
		bad = true;
		for (unsigned type = 1; type < EVENT_TYPES; type++) {
			const char *name = event_type_name(type);

			if (!name || (strcmp(glob, "all") != 0 && fnmatch(glob, name, 0) != 0))
				continue;
			types[type] = true;
			bad = false;
		}
	}
	free(copy);
	if (bad)
		return -EINVAL;
	memcpy(o->events_types, types, sizeof(types));
	return 0;
}

static int set_events_ring(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, 1048576, &o->events_ring_mib);
}

static int set_digest(struct options *o, const char *value, long arg)
{
	o->digest = strcmp(value, "on") == 0;
	return o->digest || strcmp(value, "off") == 0 ? 0 : -EINVAL;
}

static int set_digest_rate(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 0, 1048576, &o->digest_rate);
}

static int set_staging_idle(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, 315360000, &o->staging_idle_s);
}

static int set_threads(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, 64, &o->threads);
}

static int set_uring_depth(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, 256, &o->uring_depth);
}

static int set_descriptors(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 16, 65536, &o->descriptors);
}

static int set_xattr(struct options *o, const char *value, long arg)
{
	if (strcmp(value, "auto") == 0)
		o->xattr_ns = -1;
	else if (strcmp(value, "trusted") == 0)
		o->xattr_ns = LOWER_TRUSTED;
	else if (strcmp(value, "user") == 0)
		o->xattr_ns = LOWER_USER;
	else
		return -EINVAL;
	return 0;
}

static int set_push_wait(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 0, 3600, &o->push_wait_s);
}

static int set_push_retry(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, 3600, &o->push_retry_s);
}

static int set_push_connections(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, QUMULO_CONNECTIONS_MAX, &o->push_connections);
}

static int set_push_in_flight(struct options *o, const char *value, long arg)
{
	return parse_u32(value, 1, QUMULO_IN_FLIGHT_MAX, &o->push_in_flight);
}

static int set_push_undated(struct options *o, const char *value, long arg)
{
	struct push_undated undated;

	if (push_undated_parse(value, &undated) < 0)
		return -EINVAL;
	return option_set_string(o, value, offsetof(struct options, push_undated));
}

static int set_push_root(struct options *o, const char *value, long arg)
{
	if (endpoint_check_root(value) < 0)
		return -EINVAL;
	return option_set_string(o, value, offsetof(struct options, push_root));
}

enum { FLAG_RO, FLAG_RW, FLAG_NOATIME, FLAG_ATIME, FLAG_DEV, FLAG_NODEV, FLAG_SUID, FLAG_NOSUID, FLAG_EXEC, FLAG_NOEXEC,
       FLAG_ALLOW_OTHER, FLAG_NO_ALLOW_OTHER, FLAG_REMOUNT, FLAG_PUSH_INSECURE, FLAG_QUOTA_HIT_COUNT, FLAG_QUOTA_LISTEN, FLAG_IGNORED };

static int set_flag(struct options *o, const char *value, long flag)
{
	switch (flag) {
	case FLAG_RO: o->ro = true; break;
	case FLAG_RW: o->ro = false; break;
	case FLAG_NOATIME: o->noatime = true; break;
	case FLAG_ATIME: o->noatime = false; break;
	case FLAG_DEV: o->dev = 1; break;
	case FLAG_NODEV: o->dev = 0; break;
	case FLAG_SUID: o->suid = 1; break;
	case FLAG_NOSUID: o->suid = 0; break;
	case FLAG_EXEC: o->exec = 1; break;
	case FLAG_NOEXEC: o->exec = 0; break;
	case FLAG_ALLOW_OTHER: o->allow_other = o->allow_other_given = true; break;
	case FLAG_NO_ALLOW_OTHER: o->allow_other = false; o->allow_other_given = true; break;
	case FLAG_REMOUNT: o->remount = true; break;
	case FLAG_PUSH_INSECURE: o->push_insecure = true; break;
	case FLAG_QUOTA_HIT_COUNT: o->quota_hit_count = true; break;
	case FLAG_QUOTA_LISTEN: o->quota_listen = true; break;
	}
	return 0;
}

#define STRING(field) option_set_string, offsetof(struct options, field)
#define AUTO(field) set_auto, offsetof(struct options, field)

const struct option_row option_rows[] = {
	{ "rules", "FILE", "rules for parts of the share, wormfs.rules(5): what they do not say comes from\n"
	  "these options; read again on SIGHUP and by wormctl policy reload [none]", STRING(rules) },
	{ "commit", "close|idle:N|chmod|explicit|never", "when a written file is locked; idle: N seconds (1-315360000) after its last\n"
	  "change, for trees exported over NFS; chmod: by chmod -w; explicit: on request\n"
	  "only; never: a plain passthrough [close]", set_commit, 0 },
	{ "retention", "PERIOD|DATE|infinite|unspecified", "how long a lock lasts: 90s 12h 30d 2w 6mo 7y 1y6mo, 2030-01-01,\n"
	  "2030-01-01T12:00:00Z; unspecified: until somebody sets a date [unspecified]", set_retention, SET_RETENTION },
	{ "min", "PERIOD", "shortest retention; a shorter one is raised to it at commit, and\n"
	  "an explicit request is refused with EINVAL [0s]", set_retention, SET_MIN },
	{ "max", "PERIOD", "longest retention, likewise [100y]", set_retention, SET_MAX },
	{ "mode", "governance|compliance", "kept in every record. compliance: nobody will ever delete early or lower it;\n"
	  "needs min, retention and max [governance]", set_mode, 0 },
	{ "hold", "CASE", "put every file that is locked from now on under this legal hold [none]", set_hold, 0 },
	{ "hold_role", "USER:@GROUP...", "who may place and release legal holds beside root and the daemon's own user; the control\n"
	  "socket is then open to all, and asks the kernel who they are [nobody]", set_role, offsetof(struct options, hold_role) },
	{ "privdel", "off|on|never", "on: root may delete and shorten what is locked in governance mode, over the control socket, with a\n"
	  "reason, never past a hold; never: nobody ever may on this share again [off]", set_privdel, 0 },
	{ "approve", "USER:@GROUP...", "wormctl delete and shorten wait until one of these, and not who asked, approves; nobody else\n"
	  "can [no second person]", set_role, offsetof(struct options, approve) },
	{ "staging", "GLOB:GLOB...", "names not locked at close but by the rename to another name; \"staging=\" for\n"
	  "none [" STAGING_DEFAULT "]", set_staging, 0 },
	{ "staging_idle", "N", "seconds (1-315360000) after which an idle staging or interrupted file is\n"
	  "locked under its own name [86400]", set_staging_idle, 0 },
	{ "settle", "N", "seconds (0-59, or whole minutes up to 3600) after the lock in which times, mode, owner,\n"
	  "attributes and name may still be set: unzip, smbd and others do that after their last close [0]", set_settle, 0 },
	{ "sync", "follow|close", "follow: the lock is as durable as the writer's own fsync made the data;\n"
	  "close: on stable storage before close(2) returns [follow]", set_sync, 0 },
	{ "atime_api", "off|on", "on: the access time is the retention, as SnapLock and Gluster have it: set ahead\n"
	  "it is asked for before the lock and extended after it, and stat shows it [off]", set_atime_api, 0 },
	{ "shared", "auto|no|yes", "yes: others change the share below this mount (another gateway): short\n"
	  "timeouts; auto: no when mounted over the share itself, else yes [auto]", set_shared, 0 },
	{ "state", "DIR", "where ledger, key and control socket live [/var/lib/wormfs/ID as root,\n"
	  "$XDG_STATE_HOME/wormfs/ID otherwise; ID is kept on the share]", STRING(state) },
	{ "key", "FILE", "32 bytes, mode 0600; gateways of one share use the same [STATE/key]", STRING(key) },
	{ "clock", "own|wall|file:PATH", "own: nobody ends retention by setting the system's date; wall: that date, file: plus\n"
	  "the seconds in PATH; these two for tests and CI, not in compliance mode [own]", STRING(clock) },
	{ "audit", "on|off", "a chained line for each change and each refusal in STATE/audit.log; with commit=never\n"
	  "there is none [on]", set_audit, 0 },
	{ "audit_success", "EVENT:EVENT...", "which events are written when they succeed: names or globs, see wormfs(8), all,\n"
	  "none [all]", set_audit_events, offsetof(struct options, audit_success) },
	{ "audit_failure", "EVENT:EVENT...", "likewise for what was refused or failed, such as deny_*:tamper [all]",
	  set_audit_events, offsetof(struct options, audit_failure) },
	{ "audit_rotate", "N", "MiB (0-1048576) at which audit.log becomes audit.log.1, .2 and so on; 0: never;\n"
	  "nothing is ever deleted [64]", set_audit_rotate, 0 },
	{ "audit_anchor", "FILE", "also append the head of the chain to this file, hourly and at unmount: on another\n"
	  "machine, or where nobody can rewrite it [none; the system's log has it]", STRING(audit_anchor) },
	{ "events", "off|on|strict|KIND:WHERE", "tell every change, lock and refusal: on: keep them in a ring, for wormctl events; KIND:WHERE: and\n"
	  "send them to json:FILE, json:- (stdout, with -f), json:unix:SOCKET, beegfs7:SOCKET, beegfs8:SOCKET,\n"
	  "cloudevents:URL, cloudevents-batch:URL, syslog:FACILITY or journald:SOCKET (give events= up to 8 times); strict: who changes something waits rather than lose an event [off]", set_events, 0 },
	{ "events_types", "TYPE:TYPE...", "which: names or globs, see docs/events.md, all [all but OpenRead]", set_events_types, 0 },
	{ "events_credentials", "FILE", "for cloudevents: token, or user and password, mode 0600, as push_credentials [none]",
	  STRING(events_credentials) },
	{ "events_ca", "FILE", "likewise: PEM with the certificate that the receiver's is signed by, or that itself [the\n"
	  "system's]", STRING(events_ca) },
	{ "events_ring", "N", "MiB (1-1048576) of the ring of events in STATE/events.ring [64]", set_events_ring, 0 },
	{ "quota", "FILE", "limits of wormfs's own for directories, users and rules, see docs/quota.md; read at mount. Files that\n"
	  "are not locked get no passthrough then [none]", STRING(quota) },
	{ "quota_hit_count", NULL, "count in user.quota_hit_count of a file how often it ran out of quota or room", set_flag,
	  FLAG_QUOTA_HIT_COUNT },
	{ "quota_listen", NULL, "also tell the warnings of the kernel's own quotas of the share's filesystem (limits, grace\n"
	  "times), which it multicasts; in the first network namespace only", set_flag, FLAG_QUOTA_LISTEN },
	{ "quota_notify", "stdout|netlink|command:/PATH|http[s]://HOST...", "who runs out of quota or room is told there: JSON lines, with -f; a program that is\n"
	  "run, with what happened in its environment; a POST of JSON; the\n"
	  "kernel's quota warnings, for quota_nld and its like (give quota_notify= up to 4 times) [none]", set_quota_notify, 0 },
	{ "digest", "on|off", "take the SHA-256 of every locked file, by and by, with the lowest priority: what\n"
	  "wormctl verify compares with [on]", set_digest, 0 },
	{ "digest_rate", "N", "read no more than N MiB/s for that (0-1048576); 0: no limit [0]", set_digest_rate, 0 },
	{ "push", "qumulo:HOST[:PORT][/PREFIX]", "tell a Qumulo cluster of every lock, too, from a queue that outlives daemon and\n"
	  "cluster; PORT is 8000, or 443 with a prefix such as /api [none]", STRING(push) },
	{ "push_root", "/PATH", "what the share is called on the cluster; needed with push", set_push_root, 0 },
	{ "push_credentials", "FILE", "token, or user and password, mode 0600: see wormfs(8) [the environment:\n"
	  CREDENTIALS_ENV_TOKEN ", or " CREDENTIALS_ENV_USER " and " CREDENTIALS_ENV_PASSWORD "]", STRING(push_credentials) },
	{ "push_ca", "FILE", "PEM with the certificate that the cluster's is signed by, or that itself [the\n"
	  "system's]", STRING(push_ca) },
	{ "push_insecure", NULL, "do not verify the cluster's certificate; said at every mount", set_flag, FLAG_PUSH_INSECURE },
	{ "push_wait", "N", "close(2) waits N seconds (0-3600) at most for the cluster to have the lock; it never\n"
	  "fails for the cluster's sake [0]", set_push_wait, 0 },
	{ "push_undated", "fail|hold|DATE", "what a retention without a date (infinite, unspecified) becomes on the cluster:\n"
	  "nothing, and shown as failed; a legal hold; or this date, for ever [fail]", set_push_undated, 0 },
	{ "push_retry", "N", "longest pause in seconds (1-3600) before what failed is tried again; 60 times that\n"
	  "after a refusal [60]", set_push_retry, 0 },
	{ "push_connections", "N", "1-256 connections to the cluster [24]", set_push_connections, 0 },
	{ "push_in_flight", "N", "1-4096 requests on their way at a time [128]", set_push_in_flight, 0 },
	{ "passthrough", "auto|no", "reads, writes and mmap in the kernel (Linux 6.9, libfuse 3.17, root) [auto]", AUTO(passthrough) },
	{ "io_uring", "auto|no", "requests over io_uring (Linux 6.14, libfuse 3.18, fuse.enable_uring) [auto]", AUTO(io_uring) },
	{ "splice", "auto|no", "move pages instead of copying where neither of them is in use [auto]", AUTO(splice) },
	{ "threads", "N", "1-64 worker threads for /dev/fuse [10]", set_threads, 0 },
	{ "uring_depth", "N", "1-256 requests in flight a CPU over io_uring [8]", set_uring_depth, 0 },
	{ "descriptors", "N", "16-65536 descriptors of the share kept open as a cache [512]", set_descriptors, 0 },
	{ "xattr", "auto|trusted|user", "where the record is written on a file [auto: trusted as root, else user]", set_xattr, 0 },
	{ "allow_other", NULL, "other users may use the mount [on for root]", set_flag, FLAG_ALLOW_OTHER },
	{ "no_allow_other", NULL, "they may not", set_flag, FLAG_NO_ALLOW_OTHER },
	{ "ro", NULL, "read-only mount", set_flag, FLAG_RO },
	{ "rw", NULL, NULL, set_flag, FLAG_RW },
	{ "noatime", NULL, "reading does not change access times of the share", set_flag, FLAG_NOATIME },
	{ "atime", NULL, NULL, set_flag, FLAG_ATIME },
	{ "relatime", NULL, NULL, set_flag, FLAG_ATIME },
	{ "dev", NULL, NULL, set_flag, FLAG_DEV },
	{ "nodev", NULL, "with nosuid and noexec: as mount(8) has them [as the share's own mount]", set_flag, FLAG_NODEV },
	{ "suid", NULL, NULL, set_flag, FLAG_SUID },
	{ "nosuid", NULL, NULL, set_flag, FLAG_NOSUID },
	{ "exec", NULL, NULL, set_flag, FLAG_EXEC },
	{ "noexec", NULL, NULL, set_flag, FLAG_NOEXEC },
	{ "remount", NULL, "change ro, rw, nodev, nosuid, noexec of a mount that is there", set_flag, FLAG_REMOUNT },
	{ "default_permissions", NULL, NULL, set_flag, FLAG_IGNORED },	/* always on */
	{ "defaults", NULL, NULL, set_flag, FLAG_IGNORED },
};

const size_t option_nrows = sizeof(option_rows) / sizeof(option_rows[0]);
