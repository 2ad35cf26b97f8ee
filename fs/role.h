/* Who may do what beside root and the daemon's own user: "alice:@legal", names or numbers of users and @groups. */
#ifndef WORMFS_ROLE_H
#define WORMFS_ROLE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ROLE_MEMBERS_MAX 64
#define PEER_GROUPS_MAX 256

/* Who is at the other end of a socket, as the kernel says it. */
struct peer {
	pid_t pid;
	uid_t uid;
	gid_t groups[PEER_GROUPS_MAX];	/* more are not looked at */
	size_t ngroups;
};

struct role;

/* NULL or "": nobody. Names are looked up now, once. -EINVAL: *ret_bad is the part that is no user or group, or there are
 * more than ROLE_MEMBERS_MAX; it lives as long as `text`. */
int role_parse(const char *text, struct role **ret_role, const char **ret_bad);
void role_free(struct role *role);
bool role_has(const struct role *role, const struct peer *peer);	/* role NULL: false */
bool role_is_empty(const struct role *role);

/* -errno: the socket has no peer that the kernel knows. */
int peer_of_socket(int fd, struct peer *ret_peer);

#endif
