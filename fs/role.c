/* Lists of users and groups, and who a peer is. The ids come from the socket alone. */
#include "fs/role.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct role {
	struct {
		bool is_group;
		unsigned id;
	} member[ROLE_MEMBERS_MAX];
	size_t count;
};

static bool parse_number(const char *text, unsigned *ret_id)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || n >= (uid_t)-1)
		return false;
	*ret_id = n;
	return true;
}

static bool find_user(const char *name, unsigned *ret_id)
{
	const struct passwd *pw = getpwnam(name);

	if (pw)
		*ret_id = pw->pw_uid;
	return pw || parse_number(name, ret_id);
}

static bool find_group(const char *name, unsigned *ret_id)
{
	const struct group *gr = getgrnam(name);

	if (gr)
		*ret_id = gr->gr_gid;
	return gr || parse_number(name, ret_id);
}

int role_parse(const char *text, struct role **ret_role, const char **ret_bad)
{
	struct role *role = calloc(1, sizeof(*role));
	const char *p = text ? text : "";
	char name[256];

	if (!role)
		return -ENOMEM;
	while (*p) {
		size_t len = strcspn(p, ":");
		bool group = *p == '@', good = len > group && len < sizeof(name) && role->count < ROLE_MEMBERS_MAX;

		if (good) {
			memcpy(name, p + group, len - group);
			name[len - group] = '\0';
			role->member[role->count].is_group = group;
			good = group ? find_group(name, &role->member[role->count].id) : find_user(name, &role->member[role->count].id);
		}
		if (!good || (p[len] == ':' && !p[len + 1])) {
			*ret_bad = p;
			free(role);
			return -EINVAL;
		}
		role->count++;
		p += len + (p[len] == ':');
	}
	*ret_role = role;
	return 0;
}

void role_free(struct role *role)
{
	free(role);
}

bool role_is_empty(const struct role *role)
{
	return !role || role->count == 0;
}

bool role_has(const struct role *role, const struct peer *peer)
{
	for (size_t i = 0; role && i < role->count; i++) {
		if (!role->member[i].is_group && role->member[i].id == peer->uid)
			return true;
		for (size_t g = 0; role->member[i].is_group && g < peer->ngroups; g++)
			if (role->member[i].id == peer->groups[g])
				return true;
	}
	return false;
}

int peer_of_socket(int fd, struct peer *ret_peer)
{
	gid_t groups[PEER_GROUPS_MAX];
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	memset(ret_peer, 0, sizeof(*ret_peer));
	ret_peer->pid = cred.pid;
	ret_peer->uid = cred.uid;
	ret_peer->groups[0] = cred.gid;
	ret_peer->ngroups = 1;
	len = sizeof(groups) - sizeof(gid_t);
	/* Supplementary ones, as they were at connect(2). Source: socket(7); more than fit: ERANGE, and they count for nothing. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0) {
		memcpy(ret_peer->groups + 1, groups, len);
		ret_peer->ngroups += len / sizeof(gid_t);
	}
	return 0;
}
