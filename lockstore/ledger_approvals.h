/* Privileged requests that wait for a second person (-o approve=...): kept in the ledger until somebody approves, or
 * their time is over. Threads, transactions and errors as in ledger.h. */
#ifndef WORMFS_LEDGER_APPROVALS_H
#define WORMFS_LEDGER_APPROVALS_H

#include "lockstore/ledger.h"

#define APPROVALS_MAX 1000	/* that wait at once */
#define APPROVAL_REASON_MAX_BYTES 1024

struct approval {
	int64_t id;
	const char *verb;	/* "delete" or "shorten" */
	struct file_key key;	/* the file that was meant, whatever has its path later */
	const char *path;
	int64_t until_s;	/* shorten: the new end */
	const char *reason;
	uid_t by;
	int64_t at_s, expires_s;
};

/* `id` is not read. -ENOSPC: APPROVALS_MAX wait already. */
int ledger_approval_new(struct ledger *ledger, const struct approval *approval, int64_t *ret_id);
typedef int (*ledger_approval_fn)(void *arg, const struct approval *approval);
/* By id; id 0: all, else that one (-ENOENT: none). They are read before fn is called. */
int ledger_approvals(struct ledger *ledger, int64_t id, ledger_approval_fn fn, void *arg);
/* -ENOENT: somebody else took it. */
int ledger_approval_take(struct ledger *ledger, int64_t id);
/* Those whose time is over. */
int ledger_approvals_expire(struct ledger *ledger, int64_t now_s);

#endif
