/* Which share a path belongs to, where its state is kept, and how to talk to its daemon. */
#ifndef WORMFS_WORMCTL_SHARE_H
#define WORMFS_WORMCTL_SHARE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lockstore/ledger.h"
#include "lockstore/lower.h"
#include "lockstore/wormctl/client.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

#define SHARE_ID_MAX_BYTES 64

/* A share that this run has met. Belongs to its struct shares. */
struct share {
	char *dir;		/* the mount point; when it is not mounted, the root of the share itself */
	char *inside;		/* what of the share `dir` shows: "" = all, else a directory (a bind mount) */
	bool mounted;
	char *lower_dir;	/* root of the share below the mount, when it was met there, else NULL */
	enum lower_namespace ns;	/* with lower_dir */
	json_t *mount;		/* user.worm.mount; NULL: not mounted, or the caller may not read it */
	char *id;		/* "" = not known */
	char *state_dir;	/* NULL: not known */
	bool state_dir_given;	/* by --state-dir: trusted */
	struct failure failure;	/* of asking the mount: then there is nothing else, and nobody gets this share */
	struct client *client;
	int client_error;	/* of the last try to connect; 1 before the first */
};

struct shares;

int shares_open(const struct wormctl *ctl, struct shares **ret_shares);
void shares_close(struct shares *shares);

/* A path as the user wrote it, found in its share. */
struct place {
	struct share *share;
	char *real;		/* absolute; through the mount if there is one */
	char *path;		/* relative to the share's root, "" = the root: as ledger and daemon know it */
};
void place_fini(struct place *place);

/* The last component is not followed when it is a symbolic link (unless a '/' comes after it).
 * may_miss: also what does not exist any more, for the ledger may still know it. */
int shares_find(struct shares *shares, const char *path, bool may_miss, struct place *ret_place, struct failure *f);

/* Every mount of wormfs, once each, in order of mount. fn gets the share, or NULL and why not. A non-zero
 * return ends the walk and is returned. */
typedef int (*share_fn)(void *arg, const char *mount_point, struct share *share, const struct failure *f);
int shares_each_mount(struct shares *shares, share_fn fn, void *arg);

/* The daemon of a share. share->client is kept open. *f says what to do about it. */
int share_client(struct share *share, struct client **ret_client, struct failure *f);

/* Waits until the ledger has what the daemon did; no daemon: nothing to wait for. */
int share_sync(struct share *share, struct failure *f);

/* The ledger, with `flags` of ledger_open(). */
int share_ledger(struct share *share, int flags, struct ledger **ret_ledger, struct failure *f);

/* Takes the lock that a daemon of the share has: while the caller has it, none starts. -EBUSY: there is one. He closes *ret_fd. */
int share_keep_daemons_away(const struct share *share, int *ret_fd, struct failure *f);

/* Where the MAC key is. The caller frees it. NULL: out of memory, or no state directory is known. */
char *share_key_path(const struct share *share, const struct wormctl *ctl);

/* UTC seconds by the daemon's clock as it was when the share was met, else the wall's. */
int64_t share_now_s(const struct share *share);

/* dir + '/' + name, without a double slash; either may be "". NULL: out of memory. */
char *path_join(const char *dir, const char *name);

#endif
