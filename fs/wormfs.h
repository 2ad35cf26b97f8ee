/* The daemon's one object: what a mounted share is made of. Made by main.c, read by every module;
 * after `ready` only the fields that name a lock change.
 *
 * Lock order: hold_lock, rename_lock, then inode.lock (two of them: by address), then one of the leaves: the inode
 * table's shards, names_lock, the descriptor cache, limits.lock, the ledger, the journal, the audit queue, the clock. No lock is held across
 * fuse_reply_*(): after the reply a FORGET may come. */
#ifndef WORMFS_WORMFS_H
#define WORMFS_WORMFS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/guard.h"
#include "fs/options.h"
#include "lockstore/clock.h"
#include "lockstore/committer.h"
#include "lockstore/journal.h"
#include "lockstore/ledger.h"
#include "lockstore/lower.h"
#include "lockstore/policy.h"
#include "lockstore/record.h"

struct fuse_session;
struct inode_table;
struct descriptor_cache;
struct staging;
struct linger;
struct control;
struct audit;
struct trail;
struct timekeeper;
struct hold_orders;
struct role;
struct digest;
struct push;
struct tier;
struct events;
struct shortage;
struct quota_listener;
struct quota_providers;
struct quota_limits;

/* What the lower filesystem can do, found out at mount by trying (lower_probe.c). */
struct lower_features {
	bool xattr;		/* records on the files; else the ledger is written in the close path */
	bool handles;		/* open_by_handle_at works; else an inode keeps a descriptor */
	bool leases;		/* F_SETLEASE tells whether somebody can still write; else no passthrough for writers */
	bool birth_time;
	bool fine_times;	/* two changes of a file never leave the same ctime (multigrain, Linux 6.13) */
	char filesystem[32];	/* "ext4", or the magic number */
};

struct wormfs {
	struct options opt;
	char *share;		/* absolute path, resolved */
	char *mountpoint;	/* likewise */
	char *state_dir;	/* likewise */
	char share_id[40];	/* UUID, on the share's root */
	bool shared;		/* others change the share below this mount */
	bool is_root;		/* callers' ids can be taken on */
	enum lower_namespace ns;
	struct lower_features lower;

	int root_fd;		/* O_DIRECTORY of the share, opened before the mount covers it */
	dev_t root_dev;
	dev_t mount_dev;	/* constant from session_open() on: with limits what callers see as st_dev, else root_dev */
	double timeout_s;	/* of names and attributes in the kernel */

	const struct tier *tier;	/* constant: NULL in wormfs, see tier.h */
	struct fuse_session *se;
	bool io_uring, passthrough, splice;	/* in use; why not is in the text beside it */
	char io_uring_why[120], passthrough_why[120];
	atomic_bool served_by_ring;	/* a request came over io_uring: none but FORGETs come through /dev/fuse */
	atomic_bool ready;	/* the kernel has said what it offers: these are final */

	struct inode_table *inodes;
	struct descriptor_cache *descriptors;
	struct staging *staging;	/* of the mount options */
	bool has_rules;			/* constant: -o rules=FILE; see rule.c */
	struct policy *policy;		/* policy_lock, a leaf: the rules in force */
	struct policy_rule mount_rule;	/* constant: the mount options as a rule */
	char *rules_path;		/* constant: absolute, or NULL */
	pthread_mutex_t policy_lock;
	pthread_mutex_t reload_lock;	/* one reload at a time */
	pthread_t hup_thread;
	bool hup_running;
	atomic_bool rule_stopping;
	struct record_key *key;
	struct clock_source *clock;
	struct ledger *ledger;
	struct journal *journal;
	struct committer *committer;
	struct linger *linger;
	struct control *control;
	struct audit *audit;	/* NULL: switched off */
	struct trail *trail;
	struct events *events;	/* NULL: switched off */
	struct shortage *shortage;
	struct quota_listener *quota_listener;	/* NULL: not asked for */
	struct quota_providers *quota_providers;	/* NULL: none */
	struct quota_limits *limits;	/* constant once it serves. NULL: no -o quota */
	struct timekeeper *timekeeper;
	struct hold_orders *holds;
	struct role *hold_role, *approve;
	enum privdel privdel;	/* in force: "never" may have been chosen by an earlier mount */
	struct digest *digest;	/* NULL: digest=off */
	struct push *push;	/* NULL: nothing is pushed */
	int64_t last_mounted_s;	/* wall time: start of the daemon before this one, 0: none */
	int state_lock_fd;	/* flock(2) */
	unsigned state_made;	/* what this start made, to be taken away if it fails (state.c) */

	/* Held for reading by whoever locks a file (the directories above must stand still while they
	 * are pinned) or renames a file; for writing by whoever renames a directory. */
	pthread_rwlock_t rename_lock;
	/* inode.parent, inode.name and inode.aliases of every inode. */
	pthread_mutex_t names_lock;
	/* One change of holds at a time: name in the ledger and count in the record are two writes. */
	pthread_mutex_t hold_lock;
	/* Serial numbers: [serial_next, serial_end) are reserved in the ledger. */
	pthread_mutex_t serial_lock;
	uint64_t serial_next, serial_end;

	atomic_uint pin_epoch;		/* pins that inodes remember from an older one count for nothing */
	atomic_bool ledger_rows;	/* the ledger has, or had, a row: "no record" must be asked there, too */
	atomic_bool unpinned_locks;	/* a file was locked whose directory nobody knew: ask all directories */
	atomic_bool no_noreplace;	/* the lower filesystem has no RENAME_NOREPLACE */
	atomic_bool ledger_failed;	/* a look-up failed: said once */
	atomic_bool ledger_damaged;	/* SQLite said so after the last reindex */

	atomic_uint orders_placing, orders_coming;	/* orders that enforce something (hold.h) */

	/* Since mount, for the status command. */
	atomic_ullong n_locked;
	atomic_uint n_writers, n_closing, n_bad_records, n_suspect;
	atomic_ullong n_refused[GUARD_OPS];
};

#endif
