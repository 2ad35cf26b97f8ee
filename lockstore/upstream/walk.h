/* A walk through a directory tree of a cluster, a page of a directory at a time. Keeps where it is, asks nobody: the caller
 * fetches the page that walk_next() names and gives it to walk_page(). Pure; one thread.
 *
 * What is still to be read is a stack of (directory, where in it), so memory grows with depth, not with the size of the tree, and
 * what is in the stack is all that a walk needs to go on after a restart. */
#ifndef WORMFS_UPSTREAM_WALK_H
#define WORMFS_UPSTREAM_WALK_H

#include <jansson.h>
#include <stdbool.h>

#include "lockstore/upstream/reply.h"

#define WALK_PAGE_ENTRIES 500		/* asked for; the server may give fewer */
#define WALK_STACK_MAX 200000		/* directories that wait */

struct walk;

/* path: where it begins, without '/' at its ends, "" = the root of what the caller walks. -ENOMEM. */
int walk_open(const char *path, bool recursive, struct walk **ret_walk);
void walk_close(struct walk *walk);

/* One more directory, read after the one of walk_next(), whose page may be on its way. -ENOSPC: too many wait. */
int walk_add(struct walk *walk, const char *path);

/* The page to fetch: a directory, and the key behind which its page begins ("": the first). false: the walk is over.
 * The pointers live until walk_page() or walk_skip(). */
bool walk_next(const struct walk *walk, const char **ret_path, const char **ret_after);

/* An entry that is no directory. path: as the walk's. Non-zero ends walk_page() early, which returns it; the page counts as read. */
typedef int (*walk_fn)(void *arg, const char *path, const struct upstream_entry *entry);

/* The server's reply (UPSTREAM_ENTRIES, done) to the page of walk_next(). -ENOSPC: too many directories wait; the page counts as read, and not all
 * of it was seen. -ELOOP: it names itself as the next one; nothing was taken from it, and walk_skip() goes on without the rest of the directory. */
int walk_page(struct walk *walk, const struct upstream_reply *page, walk_fn fn, void *arg);

/* Passes over the directory of walk_next(): it is gone, or may not be read. */
void walk_skip(struct walk *walk);

/* The stack, as JSON, and back. -EBADMSG: not such JSON. NULL: out of memory. */
json_t *walk_save(const struct walk *walk);
int walk_load(const json_t *saved, struct walk **ret_walk);

#endif
