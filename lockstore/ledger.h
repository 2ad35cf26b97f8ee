/* The ledger: every lock of a share in one SQLite database (WAL), to list, filter and explain.
 *
 * The lock itself is the record on the file (record.h); the ledger may lag behind it, never the other
 * way round, except for names of holds, which only the ledger has. A file is locked if either says so.
 * Errors of SQLite become errnos here and nowhere else: -EIO damaged or unreadable, -ENOSPC full,
 * -EROFS read-only, -EBUSY another process holds it, -EBADMSG not a ledger or of a newer schema.
 * Any thread may call, but only of the process that opened it: SQLite's locks do not survive a fork,
 * so a daemon opens it after it has become one. Changes wait for each other; look-ups and listings do not wait for changes, and
 * see what is committed (a thread inside ledger_begin() sees its own changes, too). Paths are relative to the share's root,
 * without a leading or trailing '/', any bytes but NUL (stored as BLOB). */
#ifndef WORMFS_LEDGER_H
#define WORMFS_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lockstore/case_name.h"
#include "lockstore/file_key.h"
#include "lockstore/record.h"

#define LEDGER_FILE "ledger.db"		/* in the state directory */
#define LEDGER_SCHEMA_VERSION 5		/* PRAGMA user_version; migrations are a table in ledger_schema.c */
#define LEDGER_CASE_MAX_BYTES CASE_NAME_MAX_BYTES	/* name of a legal hold, see case_name.h */

struct ledger;

enum ledger_open_flags {
	LEDGER_CREATE = 1 << 0,	/* make it if it is missing */
	LEDGER_READONLY = 1 << 1,
};

/* share_id (NULL: do not check) must be the one it was made for: -EXDEV otherwise, also when it was made
 * without one. -ENOENT: no such directory, or no ledger and not LEDGER_CREATE. -EOPNOTSUPP: the filesystem
 * of state_dir cannot map shared memory. A read-only open works beside a daemon, and on a read-only
 * filesystem when no daemon has it open; -EROFS: it has an older schema, which only a writer upgrades.
 * After a failure ledger_error(NULL) says why. On failure nothing is created that was not there.
 * The caller owns *ret_ledger and ends it with ledger_close(). */
int ledger_open(const char *state_dir, int flags, const char *share_id, struct ledger **ret_ledger);
void ledger_close(struct ledger *ledger);

/* One sentence about the last error of this handle, for the log and the status command; it lives until
 * the calling thread asks again. NULL: about this thread's last ledger_open() that failed. */
const char *ledger_error(struct ledger *ledger);

/* Is the lock to be pushed to a cluster (ledger_push.h)? ASK: whoever pushes asks the rule of the file, and the cluster what it has:
 * rows made from the files, since nobody knows what was pushed before. */
enum ledger_push { LEDGER_PUSH_NO, LEDGER_PUSH_YES, LEDGER_PUSH_ASK };

/* A locked file. Pointers in a row handed to a callback live until it returns. */
struct ledger_row {
	struct file_key key;
	const char *path;
	struct lock_record rec;
	uid_t uid;		/* owner of the file when it was locked */
	gid_t gid;
	uint32_t holds;		/* number of names in the ledger (rec.holds is the file's own count) */
	const char *rule;	/* name of the rule; "" = mount options; NULL in ledger_put(): as it was */
	const uint8_t *sha256;	/* 32 bytes, or NULL while it is pending, or for good: */
	bool no_digest;		/* none is wanted (ledger_digest_set()); not for ledger_put() */
	/* ledger_put() and committer_put() only: holds that come with the lock (-o hold=CASE, its rule, orders for what comes),
	 * '\n' between their names, added in the same transaction when the file does not have them yet (at committed_s,
	 * by whoever gave the order, else uid 0); NULL: none. */
	const char *hold;
	enum ledger_push push;	/* in ledger_put(): a row that is there keeps what it has, but YES goes over all */
};

/* Several changes in one durable transaction (synchronous=FULL). Not nested: -EINVAL. rollback never fails,
 * and does nothing without a transaction of this thread; after a commit that failed all is rolled back.
 * begin and end belong to one thread; changes by others wait in between, so keep it short. */
int ledger_begin(struct ledger *ledger);
int ledger_commit(struct ledger *ledger);
void ledger_rollback(struct ledger *ledger);

/* Without ledger_begin() each of these is a transaction of its own. */

/* Inserts, or merges into the row of the same key: the newer generation's date and in the same generation the
 * later one, the stricter mode, the first committed_s and serial win; path, owner, size, mtime, rule and rec.holds are taken from `row`, as is the
 * digest; the old digest stays when `row` has none and size and mtime are the same. Append-only is kept
 * only while both say so. `holds` is not taken: the names count. Another key at the same path is left
 * alone: paths are not unique (hard links, files replaced below). A serial that is not given out yet is
 * never given out any more. -EINVAL: no key, or no path. */
int ledger_put(struct ledger *ledger, const struct ledger_row *row);

/* Takes the row away with its holds; 0 also when there is none. */
int ledger_remove(struct ledger *ledger, const struct file_key *key);

/* Later dates only (retention_is_later): -EPERM otherwise, 0 when equal, -ENOENT without a row. */
int ledger_extend(struct ledger *ledger, const struct file_key *key, int64_t until_s);

/* -EEXIST: the file has this hold already. -EINVAL: not a name. -ENOENT: no row. */
int ledger_hold_add(struct ledger *ledger, const struct file_key *key, const char *case_name,
		    uid_t by, int64_t at_s);
/* -ENOENT: no such hold on it. */
int ledger_hold_release(struct ledger *ledger, const struct file_key *key, const char *case_name);

/* The count that the record on the file has now. 0 also when there is no row. */
int ledger_set_rec_holds(struct ledger *ledger, const struct file_key *key, uint16_t holds);

typedef int (*ledger_hold_fn)(void *arg, const char *case_name, uid_t by, int64_t at_s);
/* In order of name. A non-zero return of fn ends the walk and is returned. */
int ledger_holds(struct ledger *ledger, const struct file_key *key, ledger_hold_fn fn, void *arg);

typedef int (*ledger_row_fn)(void *arg, const struct ledger_row *row);
/* Calls fn once; -ENOENT: no row. fn may be NULL to ask only whether there is one. */
int ledger_find(struct ledger *ledger, const struct file_key *key, ledger_row_fn fn, void *arg);

/* Which rows; zero-initialised = all of them. */
struct ledger_filter {
	const char *prefix;	/* path of a file or directory; NULL or "" = all. "a" covers "a" and "a/...", not "a1" */
	const char *hold;	/* under this hold; NULL = any or none */
	int state;		/* enum ledger_state */
	int64_t now_s;		/* what `state` compares with */
	bool by_uid;
	uid_t uid;
	bool by_expiry;		/* until_s < expires_before_s; infinite and unspecified never match */
	int64_t expires_before_s;
	const char *rule;	/* NULL = any */
	/* ledger_each() only: go on behind this row (it need not be there any more); NULL = from the start. */
	const char *after_path;
	const struct file_key *after_key;	/* with after_path */
};
enum ledger_state { LEDGER_ANY, LEDGER_RETAINED, LEDGER_EXPIRED, LEDGER_HELD };
/* RETAINED: now < until, or infinite, or unspecified. EXPIRED: until has passed and no hold. HELD: a hold
 * by name, or counted in the record (the names may be lost with a ledger). */

/* In order of path (bytes), paged by a keyset cursor: constant memory for any number of rows, and the
 * pages (1,000 rows) are read before fn is called, so a long listing blocks nobody, and fn may change
 * the ledger. */
int ledger_each(struct ledger *ledger, const struct ledger_filter *filter, ledger_row_fn fn, void *arg);
int ledger_count(struct ledger *ledger, const struct ledger_filter *filter, uint64_t *ret_count);

/* 1: some row lies at or below directory `path`, 0: none. One index look-up whatever the number. */
int ledger_has_below(struct ledger *ledger, const char *path);

/* Digests of the data. The worker of the daemon walks along the rows that have none. */
struct ledger_undigested {
	int64_t id;		/* the cursor: rises with the order in which rows came */
	struct file_key key;
	const char *path;
	uint64_t size_bytes;	/* as locked: what the digest must be of */
	int64_t mtime_ns;
};
#define LEDGER_UNDIGESTED_MAX 64	/* a page */
typedef int (*ledger_undigested_fn)(void *arg, const struct ledger_undigested *file);
/* At most LEDGER_UNDIGESTED_MAX rows whose digest is missing, with ids above after_id (INT64_MIN: the first), in order of id.
 * fn may change the ledger; its non-zero return ends the page and is returned. */
int ledger_undigested_each(struct ledger *ledger, int64_t after_id, ledger_undigested_fn fn, void *arg);
int ledger_undigested_count(struct ledger *ledger, uint64_t *ret_count);
/* sha256 NULL: none is wanted, the row is not missing one any more. -ENOENT: no such row, or its size and time are not
 * these any more (then nothing was changed). */
int ledger_digest_set(struct ledger *ledger, const struct file_key *key, uint64_t size_bytes, int64_t mtime_ns,
		      const uint8_t sha256[32]);

/* Sums for a report: one call of fn a group, in the order of its name. */
enum ledger_group { LEDGER_BY_STATE, LEDGER_BY_MODE, LEDGER_BY_RULE, LEDGER_BY_HOLD, LEDGER_BY_EXPIRY, LEDGER_BY_DIGEST };
/* Names: state "held", "retained" or "expired" (once each file, the first that fits, as now_s has it); mode as worm_mode_name(); the rule ("" =
 * mount options); the hold (a file counts under each of its holds); expiry "infinite", "unspecified" or the month
 * "2030-01"; digest "known" or "pending". A non-zero return of fn ends the walk and is returned. */
typedef int (*ledger_group_fn)(void *arg, const char *name, uint64_t files, uint64_t bytes);
int ledger_group(struct ledger *ledger, enum ledger_group by, int64_t now_s, ledger_group_fn fn, void *arg);

/* Files that were written but are not locked: staging names, interrupted writers, idle triggers. */
enum ledger_pending_reason { PENDING_STAGING = 1, PENDING_INTERRUPTED = 2, PENDING_IDLE = 3 };
struct ledger_pending {
	struct file_key key;
	const char *path;
	enum ledger_pending_reason reason;
	int64_t since_s;	/* last seen change */
	int64_t due_s;		/* not swept before this moment */
};
typedef int (*ledger_pending_fn)(void *arg, const struct ledger_pending *pending);
int ledger_pending_put(struct ledger *ledger, const struct ledger_pending *pending);	/* one a key: replaces */
int ledger_pending_remove(struct ledger *ledger, const struct file_key *key);
/* Those with due_s <= now_s (INT64_MAX: all), oldest first, at most `limit`. fn may change the ledger. */
int ledger_pending_each(struct ledger *ledger, int64_t now_s, unsigned limit, ledger_pending_fn fn, void *arg);
/* -ENOENT: it is not pending. */
int ledger_pending_find(struct ledger *ledger, const struct file_key *key, enum ledger_pending_reason *ret_reason,
			int64_t *ret_due_s);
int ledger_pending_count(struct ledger *ledger, uint64_t *ret_count);

/* Small named values. get: -ENOENT: none; the caller frees *ret_value. */
int ledger_meta_get(struct ledger *ledger, const char *name, char **ret_value);
int ledger_meta_set(struct ledger *ledger, const char *name, const char *value);

/* Rules have numbers in records (u16, never 0). The number that this name has, or from now on has for ever: the same in
 * every ledger as long as no two names meet at one number. Inside ledger_begin() as outside. -EOVERFLOW: all are taken. */
int ledger_rule_number(struct ledger *ledger, const char *name, uint16_t *ret_number);
/* -ENOENT: no rule of that number was ever in force here. The caller frees *ret_name. */
int ledger_rule_name(struct ledger *ledger, uint16_t number, char **ret_name);

/* Serial numbers. Reserves `n` in a durable transaction and returns the first: no number is ever given
 * twice, also after a power cut; what a crash leaves unused is skipped. -EINVAL: n is 0, or inside
 * ledger_begin(): what is rolled back would be given again. -EOVERFLOW: beyond INT64_MAX. */
int ledger_reserve_serials(struct ledger *ledger, uint64_t n, uint64_t *ret_first);

/* PRAGMA quick_check. -EIO: damaged; ledger_error() says where. */
int ledger_check(struct ledger *ledger);

#endif
