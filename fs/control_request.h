/* Requests of the control socket (lockstore/control.h), as somebody sent them: which verb, who may ask it, and its
 * arguments, each of the type that the verb's row in the table says. Nothing is done before all of that is right. Pure:
 * no file, no clock, no daemon; a request belongs to the thread that reads it. */
#ifndef WORMFS_FS_CONTROL_REQUEST_H
#define WORMFS_FS_CONTROL_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/retention.h"
#include "lockstore/verify.h"

#define CONTROL_REASON_MAX_BYTES 1024
#define CONTROL_ERROR_BYTES 128

/* The names are in control_request.c, in this order. */
enum control_verb {
	CONTROL_MOUNT, CONTROL_EXPLAIN, CONTROL_COMMIT, CONTROL_APPEND, CONTROL_EXTEND,
	CONTROL_CLOCK_ACCEPT, CONTROL_SYNC, CONTROL_LOWER, CONTROL_REINDEX,
	CONTROL_POLICY, CONTROL_POLICY_TEST, CONTROL_POLICY_RELOAD, CONTROL_VERIFIED,
	CONTROL_HOLD, CONTROL_RELEASE, CONTROL_ORDER_NEW, CONTROL_ORDER_ADD, CONTROL_ORDER_RUN, CONTROL_ORDER_DROP,
	CONTROL_DELETE, CONTROL_SHORTEN, CONTROL_EXPIRE, CONTROL_REQUESTS, CONTROL_APPROVE,
	CONTROL_PUSH_RETRY,
	CONTROL_QUOTA, CONTROL_QUOTA_RECOUNT,
	CONTROL_VERBS,
};

enum control_who {
	WHO_ANYBODY,		/* who may connect at all: root, the daemon's own user, who has a role */
	WHO_PRIVILEGED,		/* root and the daemon's own user */
	WHO_HOLDS,		/* and hold_role */
	WHO_APPROVES,		/* and whom -o approve names */
};

/* Texts are the request's own and end with it. What the verb has no argument for is zero. */
struct control_request {
	enum control_verb verb;
	char *path;			/* decoded, relative to the share */
	char **paths;			/* likewise */
	size_t npaths;
	const char *case_name;		/* a name that a hold may have */
	const char *reason;		/* at most CONTROL_REASON_MAX_BYTES */
	const char *below;
	struct retention until;
	bool future, tree, release, again, closing;	/* closing: true when it is not given */
	int64_t order, id;		/* as sent: 0 and less name nothing */
	uint64_t from;
	bool has_uid, has_gid, has_size;
	uint32_t uid, gid;
	uint64_t size_bytes;
	uint64_t files, bytes, errors;
	uint64_t kinds[VERIFY_KINDS];
	json_t *json;
};

/* Which verb? -EINVAL: not a JSON object with a "verb". -ENOSYS: there is no such verb, *ret_unknown is its name (the
 * request's own). In every case control_request_close() is due. */
int control_request_open(const char *line, size_t len_bytes, struct control_request *ret_request, const char **ret_unknown);
/* Its arguments. -EINVAL and one sentence: one is missing or not what the verb wants. -ENOMEM. Once a request. */
int control_request_check(struct control_request *request, char error[CONTROL_ERROR_BYTES]);
void control_request_close(struct control_request *request);

const char *control_verb_name(enum control_verb verb);
enum control_who control_verb_who(enum control_verb verb);
/* Its path names a file or directory that is there, and is looked up before the verb is run. */
bool control_verb_has_file(enum control_verb verb);

#endif
