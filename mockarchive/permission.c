#include "mockarchive/permission.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/descriptor.h"

#define GROUPS_MAX 65536	/* NGROUPS_MAX, linux/limits.h */

static bool in_group(fuse_req_t req, gid_t gid)
{
	gid_t *groups;
	bool found = fuse_req_ctx(req)->gid == gid;
	int n;

	if (found)
		return true;
	n = fuse_req_getgroups(req, 0, NULL);
	if (n <= 0 || n > GROUPS_MAX)
		return false;
	groups = calloc(n, sizeof(*groups));
	if (!groups)
		return false;
	n = fuse_req_getgroups(req, n, groups);
	for (int i = 0; i < n && !found; i++)
		found = groups[i] == gid;
	free(groups);
	return found;
}

static int may_stat(fuse_req_t req, const struct stat *st, int mask)
{
	mode_t mode = st->st_mode;
	uid_t uid = fuse_req_ctx(req)->uid;

	if (uid == 0)
		return mask & X_OK && S_ISREG(mode) && !(mode & 0111) ? -EACCES : 0;
	if (uid == st->st_uid)
		mode >>= 6;
	else if (in_group(req, st->st_gid))
		mode >>= 3;
	return (mode & mask) == (mode_t)mask ? 0 : -EACCES;
}

static int stat_node(struct wormfs *fs, fuse_ino_t nodeid, struct stat *ret_st)
{
	struct inode *ino = inode_get(fs, nodeid);
	int r = ino ? inode_stat_now(fs, ino, ret_st) : -ESTALE;

	inode_put(fs, ino);
	return r;
}

int permission_may(struct wormfs *fs, fuse_req_t req, fuse_ino_t nodeid, int mask)
{
	struct stat st;
	int r;

	if (fuse_req_ctx(req)->uid == 0 && !(mask & X_OK))
		return 0;
	r = stat_node(fs, nodeid, &st);
	return r < 0 ? r : may_stat(req, &st, mask);
}

int permission_change_name(struct wormfs *fs, fuse_req_t req, fuse_ino_t parent, const char *name)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	struct stat dir, st;
	struct inode *ino;
	int fd, r;

	if (uid == 0)
		return 0;
	r = stat_node(fs, parent, &dir);
	if (r == 0)
		r = may_stat(req, &dir, W_OK | X_OK);
	if (r < 0 || !name || !(dir.st_mode & S_ISVTX) || dir.st_uid == uid)
		return r;
	ino = inode_get(fs, parent);
	fd = ino ? descriptor_get(fs, ino) : -ESTALE;
	r = fd < 0 ? fd : fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_uid == uid ? 0 : -EPERM;
	if (fd >= 0)
		descriptor_put(fs, ino, fd);
	inode_put(fs, ino);
	return r;
}

int permission_setattr(struct wormfs *fs, fuse_req_t req, fuse_ino_t nodeid, const struct stat *attr, int to_set, bool handle)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	struct stat st;
	int r;

	if (uid == 0)
		return 0;
	r = stat_node(fs, nodeid, &st);
	if (r < 0)
		return r;
	if (to_set & FUSE_SET_ATTR_MODE && uid != st.st_uid)
		return -EPERM;
	if (to_set & FUSE_SET_ATTR_UID && attr->st_uid != st.st_uid)
		return -EPERM;
	if (to_set & FUSE_SET_ATTR_GID && (uid != st.st_uid || (attr->st_gid != st.st_gid && !in_group(req, attr->st_gid))))
		return -EPERM;
	if (to_set & FUSE_SET_ATTR_SIZE && !handle)
		r = may_stat(req, &st, W_OK);
	if (r == 0 && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME) && uid != st.st_uid) {
		bool now = (!(to_set & FUSE_SET_ATTR_ATIME) || to_set & FUSE_SET_ATTR_ATIME_NOW) &&
			   (!(to_set & FUSE_SET_ATTR_MTIME) || to_set & FUSE_SET_ATTR_MTIME_NOW);

		r = now ? may_stat(req, &st, W_OK) : -EPERM;
	}
	return r;
}
