/* What must be so before a lock can reach a cluster, asked once: connection, version, who we are, the clock, the directory that
 * the share is. Each answer is a line for a person, with what to do about it. */
#ifndef WORMFS_UPSTREAM_CHECK_H
#define WORMFS_UPSTREAM_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/upstream/qumulo.h"

#define UPSTREAM_CHECK_CLOCK_S 60	/* a difference that is no warning yet */
#define UPSTREAM_CHECK_TEXT_BYTES 400

enum upstream_check_state {
	UPSTREAM_CHECK_GOOD,
	UPSTREAM_CHECK_NOTE,	/* chosen so, or worth knowing */
	UPSTREAM_CHECK_WARNING,	/* locks go out, and something about them is not as it should be */
	UPSTREAM_CHECK_FAILED,	/* no lock of ours will be taken */
	UPSTREAM_CHECK_UNKNOWN,	/* could not be asked */
};

enum upstream_check_name { UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_VERSION, UPSTREAM_CHECK_PRIVILEGE, UPSTREAM_CHECK_ROOT,
			   UPSTREAM_CHECK_CLOCK, UPSTREAM_CHECKS };

struct upstream_finding {
	enum upstream_check_state state;
	char what[UPSTREAM_CHECK_TEXT_BYTES];
	char todo[UPSTREAM_CHECK_TEXT_BYTES];	/* "": nothing */
};

struct upstream_check {
	/* as the client was opened with */
	const struct endpoint *endpoint;
	const char *ca_file;
	bool insecure;
	const char *root;	/* of the share on the cluster; NULL: not asked about */
	bool has_inode;		/* the root of the share below the mount is known */
	uint64_t inode;
	/* the answers, by enum upstream_check_name */
	bool logged_in;		/* the credentials were accepted */
	/* upstream_check_start(): called when all is answered; error: what came back was no answer at all (-ENOMEM) */
	void (*done)(struct upstream_check *check, int error);
	void *arg;
	/* ours */
	struct qumulo *qumulo;
	struct qumulo_call call;
	int64_t before_s;
	struct upstream_finding findings[UPSTREAM_CHECKS];
};

/* Three calls, one after the other, among whatever else the client does; done() comes out of qumulo_run(), and not when the client is closed before.
 * What the cluster says, also nothing, is in the findings. -ENOMEM, -EAGAIN: not begun. The check lives until then. */
int upstream_check_start(struct qumulo *qumulo, struct upstream_check *check);
/* The same, and waits for it. */
int upstream_check_run(struct qumulo *qumulo, struct upstream_check *check);

/* "connection", "version", "privilege", "root", "clock"; "ok", "note", "warning", "failed", "unknown". */
const char *upstream_check_name_text(enum upstream_check_name name);
const char *upstream_check_state_text(enum upstream_check_state state);
/* The worst of them. */
enum upstream_check_state upstream_check_worst(const struct upstream_check *check);

#endif
