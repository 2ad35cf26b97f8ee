/* Faults on command: a list of rules, each with an id, what it matches, when it fires and what it does. Whoever can
 * misbehave (a FUSE operation, a phase of an archive or recall, a REST endpoint) asks at a *point*, says which actions
 * it can carry out there, and carries out the verdict. A rule fires only where one of its actions can be carried out, so
 * its hit counter says what really happened.
 * Any thread may call. Times are the archive's clock, nanoseconds since 1970. Nothing here waits or touches a file. */
#ifndef WORMFS_MOCKARCHIVE_FAULT_H
#define WORMFS_MOCKARCHIVE_FAULT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAULT_RULES_MAX 256
#define FAULT_ID_BYTES 64		/* [A-Za-z0-9._-], with its NUL */
#define FAULT_WHY_BYTES 256		/* one line for a person */
#define FAULT_CORRUPT_BYTES_MAX 1024	/* random bytes that one corruption flips */
#define FAULT_FIRED_MAX 4		/* rules that one verdict can name; more fire all the same */

/* Where a fault can happen. fault_point_name(): operations are "open", "read"..., phases "archive.copy", "recall.flag"...,
 * endpoints "rest.stage", "dav.get"... */
enum fault_point {
	/* FUSE operations, asked by the thread that answers them */
	FAULT_OPEN, FAULT_READ, FAULT_WRITE, FAULT_CREATE, FAULT_CLOSE, FAULT_FSYNC, FAULT_GETATTR, FAULT_SETATTR, FAULT_TRUNCATE,
	FAULT_UNLINK, FAULT_RENAME, FAULT_LINK, FAULT_MKDIR, FAULT_RMDIR, FAULT_READDIR, FAULT_LOOKUP, FAULT_ACCESS, FAULT_LSEEK,
	FAULT_XATTR, FAULT_STATFS,
	/* Phases of a job, in their order */
	FAULT_ARCHIVE_QUEUE,	/* accepted, waits for a drive */
	FAULT_ARCHIVE_MOUNT,	/* tape mounted and sought */
	FAULT_ARCHIVE_COPY,	/* bytes go to the replica */
	FAULT_ARCHIVE_VERIFY,	/* the copy is compared */
	FAULT_ARCHIVE_RELEASE,	/* disk blocks are given back */
	FAULT_ARCHIVE_FLAG,	/* the sticky bit is set */
	FAULT_RECALL_QUEUE, FAULT_RECALL_MOUNT,
	FAULT_RECALL_COPY,	/* bytes come back from the replica */
	FAULT_RECALL_FLAG,	/* the sticky bit is cleared */
	FAULT_EVICT,		/* a recalled or pinned copy stays on disk: an action here lets it go too early */
	/* Endpoints of the tape REST API and its data path */
	FAULT_REST_WELLKNOWN, FAULT_REST_STAGE, FAULT_REST_STATUS, FAULT_REST_CANCEL, FAULT_REST_DELETE, FAULT_REST_RELEASE,
	FAULT_REST_ARCHIVEINFO, FAULT_DAV_GET, FAULT_DAV_HEAD, FAULT_DAV_PROPFIND, FAULT_DAV_PUT,
	FAULT_POINTS
};

/* What a rule can do; a bit each, for fault_query.can and fault_verdict.did. */
enum fault_action {
	FAULT_DO_ERRNO = 1 << 0,	/* verdict.error */
	FAULT_DO_DELAY = 1 << 1,	/* verdict.delay_ns, with its jitter; delays of several rules add up */
	FAULT_DO_RATE = 1 << 2,		/* verdict.rate_bytes_s; the slowest of several */
	FAULT_DO_HANG = 1 << 3,		/* until the rule is gone: faults_has_number(verdict.hang_number) */
	FAULT_DO_CORRUPT = 1 << 4,	/* verdict.corrupt */
	FAULT_DO_CRASH = 1 << 5,	/* SIGKILL of the whole mock at this point */
	FAULT_DO_LOSE = 1 << 6,		/* the copy on tape is lost from now on */
	FAULT_DO_FLAG = 1 << 7,		/* verdict.flag */
	FAULT_DO_REPLICA = 1 << 8,	/* verdict.replica */
	FAULT_DO_ENOSPC = 1 << 9,	/* no byte beyond verdict.enospc_at_bytes of a file */
	FAULT_DO_STATFS = 1 << 10,	/* verdict.statfs_* */
	FAULT_DO_SIZE = 1 << 11,	/* st_size is off by verdict.size_delta_bytes */
	FAULT_DO_MTIME = 1 << 12,	/* st_mtime is off by verdict.mtime_delta_s */
	FAULT_DO_EVICT = 1 << 13,	/* the disk copy goes at once, pinned or not */
	FAULT_DO_HTTP_STATUS = 1 << 14,	/* verdict.http_status, with an RFC 7807 body */
	FAULT_DO_REST = 1 << 15,	/* verdict.rest: an answer that breaks its own rules */
	FAULT_DO_HOLE = 1 << 16,	/* lseek says that all of the file is a hole (GNU tar and cp believe it) */
	FAULT_DO_BLOCKS = 1 << 17,	/* st_blocks is verdict.blocks */
};

enum fault_copy { FAULT_COPY_ANY, FAULT_COPY_FINAL, FAULT_COPY_REPLICA };
enum fault_hang { FAULT_HANG_NONE, FAULT_HANG_KILLABLE, FAULT_HANG_UNKILLABLE };
enum fault_flag { FAULT_FLAG_NONE, FAULT_FLAG_NEVER_SET, FAULT_FLAG_NEVER_CLEARED, FAULT_FLAG_EARLY, FAULT_FLAG_WRONG_COPY };
enum fault_replica { FAULT_REPLICA_NONE, FAULT_REPLICA_SKIP, FAULT_REPLICA_DIFFER, FAULT_REPLICA_SHORT };
enum fault_rest {
	FAULT_REST_NONE, FAULT_REST_BAD_JSON, FAULT_REST_EMPTY, FAULT_REST_WRONG_ID, FAULT_REST_CANCELED, FAULT_REST_MISSING_PATH,
	FAULT_REST_EXPIRED, FAULT_REST_DROP
};
enum fault_corrupt_how { FAULT_CORRUPT_NONE, FAULT_CORRUPT_FLIP, FAULT_CORRUPT_ZERO, FAULT_CORRUPT_TRUNCATE, FAULT_CORRUPT_EXTEND };

struct fault_corrupt {
	enum fault_corrupt_how how;
	int64_t offset_bytes;	/* -1: anywhere, chosen by the rule's seed */
	int64_t len_bytes;	/* flip: bytes to flip; zero: length of the range; extend: bytes added */
	uint64_t seed;		/* where "anywhere" is, this time */
	int64_t size_bytes;	/* of the whole file when it was decided */
};

/* What is about to happen. Zero or NULL: not known here, and a rule that asks for it does not match. */
struct fault_query {
	enum fault_point point;
	unsigned can;		/* FAULT_DO_ bits that the caller carries out here */
	const char *path;	/* from the root of the mount, with or without its first '/' */
	enum fault_copy copy;
	bool has_caller;	/* uid, pid are known */
	uid_t uid;
	pid_t pid;
	int64_t size_bytes;	/* of the file; -1: not known */
	int64_t offset_bytes;	/* of this read or write */
	int64_t len_bytes;	/* 0: no byte range here; a rule with a range does not look at it then */
	int64_t now_ns;
};

struct fault_verdict {
	unsigned did;			/* FAULT_DO_ bits to carry out; 0: nothing happens */
	int error;			/* negative errno */
	int64_t delay_ns;
	int64_t rate_bytes_s;
	enum fault_hang hang;
	uint64_t hang_number;
	struct fault_corrupt corrupt;
	enum fault_flag flag;
	enum fault_replica replica;
	enum fault_rest rest;
	int http_status;
	int64_t enospc_at_bytes;
	int64_t statfs_total_bytes, statfs_free_bytes;	/* -1: as it is */
	int64_t size_delta_bytes, mtime_delta_s, blocks;
	unsigned nfired;		/* names in `fired` */
	char fired[FAULT_FIRED_MAX][FAULT_ID_BYTES];
};

struct faults;

/* Called once for each rule that fires, by the thread that asked, with no lock held. */
typedef void fault_fired_fn(void *arg, const char *id, const struct fault_query *query, const struct fault_verdict *verdict);
/* Called after any change of the list, with no lock held: who hangs looks again. */
typedef void fault_changed_fn(void *arg);

int faults_open(fault_fired_fn *fired, fault_changed_fn *changed, void *arg, struct faults **ret_faults);
void faults_close(struct faults *faults);

/* Fills *ret_verdict; .did is 0 where nothing fires, which without rules costs one load. */
void faults_ask(struct faults *faults, const struct fault_query *query, struct fault_verdict *ret_verdict);
/* Is there an enabled rule that may fire at this point? */
bool faults_covers(struct faults *faults, enum fault_point point);
/* Is the rule that made somebody hang still there and enabled? */
bool faults_has_number(struct faults *faults, uint64_t number, int64_t now_ns);
/* Spoils `len_bytes` of a file that stand at `offset_bytes` in it, as the verdict says. Truncation and extension are
 * the caller's: fault_corrupt_size() is the size to make of `size_bytes`. */
void fault_corrupt_bytes(const struct fault_corrupt *corrupt, int64_t offset_bytes, void *bytes, size_t len_bytes);
int64_t fault_corrupt_size(const struct fault_corrupt *corrupt, int64_t size_bytes);

/* Rules as JSON (docs/mockarchive.md, "Faults"). `ret_why` has FAULT_WHY_BYTES.
 * add: *ret_id is the id given or made up. -EINVAL: ret_why says which field; -EEXIST: the id is taken; -ENOSPC: FAULT_RULES_MAX. */
int faults_add(struct faults *faults, const json_t *rule, int64_t now_ns, char ret_id[FAULT_ID_BYTES], char *ret_why);
/* Fields that are given replace the rule's ("match", "when", "do" as a whole); its counters go on unless "hits" is 0.
 * -ENOENT, -EINVAL. */
int faults_change(struct faults *faults, const char *id, const json_t *fields, int64_t now_ns, char *ret_why);
int faults_remove(struct faults *faults, const char *id);	/* -ENOENT */
void faults_clear(struct faults *faults);
/* New references; rules whose ttl is over are gone. NULL: no such rule (get), no memory. */
json_t *faults_get(struct faults *faults, const char *id, int64_t now_ns);
json_t *faults_list(struct faults *faults, int64_t now_ns);
/* Rules that are enabled, and how often any fired since faults_open(). */
void faults_count(struct faults *faults, unsigned *ret_rules, unsigned *ret_enabled, uint64_t *ret_fired);
const char *fault_point_name(enum fault_point point);

#endif
