/* Who asks: noted where a request enters a thread (a FUSE handler, a control client), read where something is said
 * about it. A thread that nobody entered works for the daemon itself. */
#ifndef WORMFS_ACTOR_H
#define WORMFS_ACTOR_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <sys/types.h>

#include "fs/wormfs.h"

#define ACTOR_COMM_BYTES 16	/* TASK_COMM_LEN of Linux, with the NUL */

struct actor {
	uid_t uid;
	gid_t gid;
	pid_t pid;	/* a thread's, as the daemon sees it; 0: of another PID namespace, or the kernel itself */
};

void actor_set(uid_t uid, gid_t gid, pid_t pid);
/* The peer of a UNIX socket, for the rest of this thread's life. */
void actor_set_peer(int fd);
struct actor actor_get(void);
/* A number that differs between two FUSE requests of this thread; 0: it serves none. */
unsigned actor_request(void);

/* The command's name, "" when it is not known. A pid that was asked within the last second costs no system call.
 * Ask before the reply: the process waits for it, and cannot be gone. */
void actor_comm(char ret_comm[ACTOR_COMM_BYTES]);

/* libfuse cancels a ring's thread wherever it is when the session ends (pthread_cancel in its fuse_uring.c, 3.18); what wakes it is
 * an eventfd. Inside a handler it would take our locks with it, and what a release was about to record. From here on it is not. */
extern _Thread_local bool actor_sheltered;
void actor_shelter(void);

/* The daemon's object: every handler begins here. */
static inline struct wormfs *wormfs_of(fuse_req_t req)
{
	if (!actor_sheltered)
		actor_shelter();
	return fuse_req_userdata(req);
}

/* For handlers that change something or may be refused: the daemon's object, and the caller is noted. */
static inline struct wormfs *wormfs_for(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	actor_set(ctx->uid, ctx->gid, ctx->pid);
	return wormfs_of(req);
}

#endif
