/* What the mount of an archive does at each FUSE operation. */
#ifndef WORMFS_MOCKARCHIVE_OPS_H
#define WORMFS_MOCKARCHIVE_OPS_H

#include "mockarchive/call.h"

extern const struct fuse_lowlevel_ops archive_operations;
/* Of this process; set before anything is served. */
extern struct archive *the_archive;

/* show.c: what an offline file looks like. */
/* Without what rules make of it. Archive time. */
int64_t show_file(struct archive *a, uint64_t id, struct stat *st);
void show_stat(struct archive *a, struct inode *ino, struct stat *st);
void show_statvfs(struct archive *a, struct statvfs *ret);
/* The value of an attribute that the archive serves: length; -ENODATA: it has none; -ENOENT: not one
 * of ours. */
ssize_t show_xattr(struct archive *a, uint64_t id, const char *name, bool is_root, char *buf, size_t len_bytes);

/* dotfile.c: dCache's files of commands. Node ids from DOTFILE_FIRST on are theirs. */
#define DOTFILE_FIRST (UINT64_C(1) << 62)
static inline bool is_dotfile(fuse_ino_t nodeid) { return nodeid >= DOTFILE_FIRST; }
/* True: it was one, and is answered. */
bool dotfile_lookup(struct archive *a, fuse_req_t req, fuse_ino_t parent, const char *name);
void dotfile_forget(fuse_ino_t nodeid, uint64_t nlookup);
void dotfile_getattr(fuse_req_t req, fuse_ino_t nodeid);
/* Also utimens and truncate, which touch(1) does. */
void dotfile_setattr(struct archive *a, fuse_req_t req, fuse_ino_t nodeid);
void dotfile_open(struct archive *a, fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void dotfile_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset);
void dotfile_close_all(void);

#endif
