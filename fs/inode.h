/* Inodes: what the kernel's node ids mean, for as long as it remembers them.
 *
 * One struct per lower inode, found by node id. The node id of a file on the share's own filesystem is
 * its inode number, so that an NFS handle that outlives the kernel's caches, or the daemon, can still be
 * resolved; the generation is made of the birth time. An inode keeps the lower file handle, not a
 * descriptor, which is why a million of them cost memory only: see descriptor.h. */
#ifndef WORMFS_INODE_H
#define WORMFS_INODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lockstore/file_key.h"
#include "lockstore/journal.h"
#include "lockstore/record.h"

struct wormfs;
struct handle;
struct data_stamp;
struct file_handle;
struct policy;

/* What this daemon knows of the lock. */
enum lock_phase {
	LOCK_UNKNOWN,		/* not asked yet */
	LOCK_NONE,		/* no record, no row */
	LOCK_CLOSING,		/* record written, writers from before still there */
	LOCK_COMMITTED,
	LOCK_UNREADABLE,	/* refuse every change with EIO */
};

/* Another name of a hard-linked file: its directory is pinned with the first. */
struct inode_alias {
	struct inode *parent;
	char *name;
	struct inode_alias *next;
};

struct inode {
	uint64_t nodeid;		/* constant */
	uint64_t ino;			/* constant: of the lower file, with dev */
	int64_t btime_ns;		/* lock: changes when the number is used again for another file */
	/* Set once; inode_handle() gets it. NULL and no fd: the inode has a name that leads to it, see inode_handle.c. */
	_Atomic(struct file_handle *) handle;
	uint32_t dev_index;		/* constant: which st_dev (inode_table); 0 = the share's own */
	int fd;				/* constant: O_PATH where there are no handles, else -1 */

	struct inode *hash_next;	/* shard */
	uint64_t nlookup;		/* shard: what FORGET pays back */
	uint32_t refs;			/* shard: pointers to this, and 1 while nlookup > 0 */
	bool gone;			/* shard: its last name was taken away; what has its number next is another file */
	int32_t descriptor_slot;	/* descriptor cache; -1: none */

	struct inode *parent;		/* names_lock; counted. NULL: root, or not known */
	char *name;			/* names_lock */
	struct inode_alias *aliases;	/* names_lock; counted */

	_Atomic int16_t limit_place;	/* which limited directory it is in: quota_limit.c; 0: not asked yet */
	atomic_uint pinned_at;		/* directories: the pin was seen when fs->pin_epoch was this */

	pthread_mutex_t lock;		/* guards the rest; system calls on this file are made under it */
	mode_t type;			/* S_IFMT */
	uint8_t phase;			/* enum lock_phase */
	bool dirty;			/* a writer that is gone changed it, and it is not locked */
	bool seal_failed;		/* likewise, and its close(2) said why */
	bool mappable;			/* a writer had passthrough and could map the file: a mapping may outlive it */
	bool no_capability;		/* made by us, and nobody gave it security.capability since */
	bool lock_at_close;		/* asked for while it was written */
	bool suspect;			/* changed below the mount since it was locked */
	bool preloaded;			/* the kernel was given its data: open.c */
	bool lingering;			/* on the list of linger.c, which holds a reference */
	int64_t released_s;		/* by the clock of retention: when the last writer left */
	int64_t idle_due_s;		/* commit=idle: locked from this moment on, 0: not waiting */
	struct lock_record *rec;	/* CLOSING and COMMITTED */
	char *seal_holds;		/* names counted in rec that the ledger does not have yet, '\n' between; NULL: none */
	struct data_stamp *mapped;	/* no writer and not locked, but a mapping still stores: as the last writer left it */
	struct handle *handles;		/* all open handles */
	unsigned nwriters;		/* of these, those that may write */
	struct policy *policy;		/* the rules that its writers found in force; counted. NULL: none, or no -o rules */
	journal_slot slot;		/* of the writers, until the ledger has the lock */
	int backing_id;			/* passthrough: shared by all handles; 0: none */
	bool backing_writes;		/* the kernel's reference for it is a writer's description */
	bool backing_is_root;		/* it writes with root's credentials */
	unsigned nbacking;		/* handles that use it */
	unsigned ncached;		/* handles that go through the page cache of the mount */
};

struct inode_table;
int inode_table_open(struct wormfs *fs);	/* makes the root inode, too */
void inode_table_close(struct wormfs *fs);

/* The inode of a node id, referenced; NULL: the kernel asks for something it forgot. */
struct inode *inode_get(struct wormfs *fs, uint64_t nodeid);
struct inode *inode_ref(struct wormfs *fs, struct inode *ino);
void inode_put(struct wormfs *fs, struct inode *ino);	/* NULL is fine */

/* The inode of `name` in `parent` (whose descriptor is dirfd), referenced, with its attributes; name ""
 * is dirfd itself, and then parent is NULL. Remembers parent and name. -ENOENT and what lstat says. */
int inode_lookup(struct wormfs *fs, struct inode *parent, int dirfd, const char *name,
		 struct inode **ret_ino, struct stat *ret_st);

/* The same for a file that was just made, whose open descriptor is fd: fewer system calls. */
int inode_created(struct wormfs *fs, struct inode *parent, int dirfd, const char *name, int fd,
		  struct inode **ret_ino, struct stat *ret_st);

/* The inode at a path relative to the share ("" = root), symbolic links not followed, referenced, with
 * all directories on the way known. */
int inode_walk(struct wormfs *fs, const char *path, struct inode **ret_ino);

/* One more (or n less) that the kernel will pay back. */
void inode_lookup_count(struct wormfs *fs, struct inode *ino);
void inode_forget(struct wormfs *fs, uint64_t nodeid, uint64_t nlookup);

/* For an NFS handle after the kernel and we forgot: by inode number. -ESTALE: cannot be found so. */
int inode_resurrect(struct wormfs *fs, uint64_t nodeid, struct inode **ret_ino, struct stat *ret_st);

uint64_t inode_generation(const struct inode *ino);

/* Name and parent changed (rename), or one more of them (link). */
void inode_moved(struct wormfs *fs, struct inode *ino, struct inode *from, const char *old_name,
		 struct inode *to, const char *new_name);
/* The last name is gone. */
void inode_gone(struct wormfs *fs, struct inode *ino);
/* A name is gone: another one takes its place. */
void inode_unlinked(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name);
void inode_linked(struct wormfs *fs, struct inode *ino, struct inode *parent, const char *name);

/* Path relative to the share, "" for the root. The caller frees *ret_path. -ENOENT: not known,
 * -ENAMETOOLONG never: any depth. */
int inode_path(struct wormfs *fs, struct inode *ino, char **ret_path);
/* The path without allocating: it ends where `buf` ends (so `size` is where a name may be added), no NUL. With its
 * parent, when it has one. -ENOENT: not known; -ENAMETOOLONG. */
struct inode_place {
	const char *path;
	size_t len;
	bool has_parent, parent_root;
	uint64_t parent_ino, parent_generation;
	uint32_t parent_dev;
};
int inode_place(struct wormfs *fs, struct inode *ino, char *buf, size_t size, struct inode_place *ret);

/* The same for every name that is known; fn runs without a lock. A negative return of fn ends it and is returned.
 * -ENOENT: none is known. */
int inode_each_path(struct wormfs *fs, struct inode *ino, int (*fn)(void *arg, const char *path), void *arg);
/* The parent, referenced, or NULL; and a copy of the name (NULL for ret_name: not wanted). */
struct inode *inode_parent(struct wormfs *fs, struct inode *ino, char **ret_name);

/* The inode of a key, by its handle, referenced; it may have no known name. -ESTALE: gone. */
int inode_by_key(struct wormfs *fs, const struct file_key *key, struct inode **ret_ino, struct stat *ret_st);
int inode_key(struct wormfs *fs, struct inode *ino, struct file_key *ret_key);
/* The inode of a row of the ledger: by its key, else by its path if that leads to the same file. -ESTALE: it does not. */
int inode_of_row(struct wormfs *fs, const struct file_key *key, const char *path, struct inode **ret_ino);

uint64_t inode_table_count(struct wormfs *fs);
/* The lower file handle of an inode whose `fd` is -1, for as long as the inode lives. -errno: cannot be had. */
int inode_handle(struct wormfs *fs, struct inode *ino, struct file_handle **ret_handle);

/* What the lower file says now. By its name where that is known, which costs one system call: a descriptor of
 * a file that was not used lately costs two more. flags: AT_STATX_*. */
int inode_statx_now(struct wormfs *fs, struct inode *ino, int flags, unsigned mask, struct statx *ret_stx);
int inode_stat_now(struct wormfs *fs, struct inode *ino, struct stat *ret_st);
/* statx as a struct stat, plus birth time (0 where there is none). name "" with an O_PATH fd. */
int inode_stat(int dirfd, const char *name, struct stat *ret_st, int64_t *ret_btime_ns);

#endif
