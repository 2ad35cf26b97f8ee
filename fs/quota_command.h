/* The program of -o quota_notify=command:/PATH: started once a notice, without a shell, its only argument is its own name, what happened
 * is in its environment. It has /dev/null for input and output, the daemon's stderr, and no other descriptor. One thread. */
#ifndef WORMFS_QUOTA_COMMAND_H
#define WORMFS_QUOTA_COMMAND_H

#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#define QUOTA_COMMAND_CHILDREN 4	/* of one provider at once */
#define QUOTA_COMMAND_TIMEOUT_MS 30000	/* then it is killed, with all of its process group */

struct quota_command {
	const char *path;	/* the caller's */
	unsigned n_children;
	struct { pid_t pid; int pidfd; int64_t kill_at_ms; } children[QUOTA_COMMAND_CHILDREN];
};

/* -EBUSY: so many run already. Other errors: it could not be started. */
int quota_command_start(struct quota_command *command, char *const *env, int64_t now_ms);
/* What poll(2) waits for: QUOTA_COMMAND_CHILDREN entries are enough. Returns how many; *timeout_ms becomes shorter where it must. */
unsigned quota_command_poll(const struct quota_command *command, int64_t now_ms, struct pollfd *ret_fds, int *timeout_ms);
/* Reaps those that ended, and kills those whose time is over. Returns how many; *ret_failed of them were killed, or had an exit
 * status that is not 0. */
unsigned quota_command_reap(struct quota_command *command, int64_t now_ms, unsigned *ret_failed);
/* Kills and reaps all that are left. Returns how many. */
unsigned quota_command_end(struct quota_command *command);

#endif
