/* Between control.c and the files that answer its verbs; nobody else includes it. */
#ifndef WORMFS_CONTROL_PRIVATE_H
#define WORMFS_CONTROL_PRIVATE_H

#include <jansson.h>

#include "fs/control_request.h"
#include "fs/inode.h"
#include "fs/role.h"
#include "fs/wormfs.h"

/* A connection. Its thread alone uses it. */
struct client {
	struct wormfs *fs;
	int fd;
	struct peer peer;
	bool privileged;	/* root or the daemon's own user */
	int pass_fd;			/* with the answer that is made now; -1: none. Not ours to close */
	struct client *next;
};

/* What a verb does, when it is allowed and its arguments are right. `ino`: of its path, for verbs that have a file. */
typedef json_t *(*control_run)(struct client *client, const struct control_request *request, struct inode *ino);
struct control_deed {
	enum control_verb verb;
	control_run run;	/* NULL: the end of the table */
};

json_t *control_ok(void);
/* text NULL: what strerror says. */
json_t *control_error(int r, const char *text);
/* Takes json. -errno: the client is gone. */
int control_send(struct client *client, json_t *json);

/* Why a privileged request failed, when it is that nobody could have proved it; else NULL. */
const char *control_audit_refusal(struct wormfs *fs);

extern const struct control_deed control_hold_deeds[], control_privilege_deeds[], control_push_deeds[], control_quota_deeds[];

#endif
