/* Between control.c and the files that answer its verbs; nobody else includes it. */
#ifndef WORMFS_CONTROL_PRIVATE_H
#define WORMFS_CONTROL_PRIVATE_H

#include <jansson.h>

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

enum verb_who {
	WHO_ANYBODY,		/* who may connect at all: root, the daemon's own user, who has a role */
	WHO_PRIVILEGED,		/* root and the daemon's own user */
	WHO_HOLDS,		/* and hold_role */
	WHO_APPROVES,		/* and whom -o approve names */
};

struct verb {
	const char *name;
	bool has_path;
	json_t *(*run)(struct client *client, json_t *request, struct inode *ino);
	enum verb_who who;
};

json_t *control_ok(void);
/* text NULL: what strerror says. */
json_t *control_error(int r, const char *text);
/* Takes json. -errno: the client is gone. */
int control_send(struct client *client, json_t *json);

/* Why a privileged request failed, when it is that nobody could have proved it; else NULL. */
const char *control_audit_refusal(struct wormfs *fs);

/* The last one has no name. */
extern const struct verb control_hold_verbs[], control_privilege_verbs[];

#endif
