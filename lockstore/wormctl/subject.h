/* A whole share, or a part of it, as verify, report and export look at it: the ledger, the key, and the files below
 * the mount. With a daemon the root of the share comes from it (the mount may cover it), without one it is opened here. */
#ifndef WORMFS_WORMCTL_SUBJECT_H
#define WORMFS_WORMCTL_SUBJECT_H

#include <pthread.h>
#include <stdint.h>

#include "lockstore/ledger.h"
#include "lockstore/lower.h"
#include "lockstore/record.h"
#include "lockstore/wormctl/share.h"

struct subject {
	struct share *share;
	char *path;			/* from the share's root, "" = all */
	bool online;			/* a daemon runs */
	int64_t now_s;			/* by its clock */
	struct ledger *ledger;		/* for reading */
	int root_fd;			/* with SUBJECT_DATA and SUBJECT_FILES, else -1 */
	struct record_key *key;		/* with SUBJECT_FILES, else NULL */
	enum lower_namespace ns;
	bool has_records;		/* the filesystem has xattrs */
	pthread_mutex_t client_lock;	/* one request at a time */
};

enum subject_parts {
	SUBJECT_LEDGER,			/* nothing else */
	SUBJECT_DATA,			/* and the files */
	SUBJECT_FILES,			/* and the key, for their records */
};

/* path NULL: the share that the working directory is in, or the only one that is mounted, or what --state-dir names (then
 * without files). The ledger has everything that was closed before; when it lags, that is said. The caller ends
 * *ret with subject_close(), also after a failure. */
int subject_open(const struct wormctl *ctl, struct shares *shares, const char *path, enum subject_parts parts,
		 struct subject *ret, struct failure *f);
void subject_close(struct subject *subject);

/* Waits until the ledger has the changes of locks until now; not for files that are closing. Any thread. */
int subject_sync(struct subject *subject);

/* user.worm.state of a path by the daemon, "" when it cannot be had; any thread. The caller frees it; NULL: no memory. */
char *subject_state(struct subject *subject, const char *path);

/* Opens a locked file of the ledger, O_PATH, at its path. -ENOENT: nothing there. -ESTALE: another file is there, and
 * *ret_fd is open on it (else -1). */
int subject_open_row(const struct subject *subject, const char *path, const struct file_key *key, int *ret_fd);

/* It is not under its name: is it anywhere? Its handle says so, where we may use it. */
bool subject_is_elsewhere(const struct subject *subject, const struct file_key *key);

/* The name of the share for people. */
const char *subject_name(const struct subject *subject);

#endif
