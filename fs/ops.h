/* The FUSE operations, one file a noun. Each translates a request, calls what does the work, and
 * replies exactly once. */
#ifndef WORMFS_OPS_H
#define WORMFS_OPS_H

#include <errno.h>
#include <fuse_lowlevel.h>

#include "fs/actor.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/wormfs.h"

#define LIBFUSE_HAS_TMPFILE (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17))
#define LIBFUSE_HAS_STATX (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18))
#define LIBFUSE_HAS_PASSTHROUGH (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17))

/* Seconds that the kernel may believe in attributes: none while somebody may write past it. */
double attr_timeout_locked(struct wormfs *fs, struct inode *ino);
double entry_timeout(struct wormfs *fs);

/* handle.c. Makes the handle of an open lower file and fills fi. ino->lock held; takes fd in all cases. `st`: the file was
 * made by this open, and looks so; NULL: it was there before, and O_TRUNC has changed its data. */
int handle_open_locked(struct wormfs *fs, fuse_req_t req, struct inode *ino, int fd, const struct stat *st,
		       struct fuse_file_info *fi, struct handle **ret_handle);
void handle_close(struct wormfs *fs, struct handle *h);
/* A small locked file is read once and then comes from the page cache of the mount, which is twice as
 * fast as passthrough (its OPEN need not touch the lower file at all). Its pages never change. */
bool handle_cached_locked(const struct inode *ino);
/* The descriptor of a handle, which a reader of a small locked file gets at its first use. */
int handle_fd(struct wormfs *fs, struct handle *h);
/* Before the last name of a file goes: from then on only a descriptor leads to it. */
int handle_need_fd_locked(struct wormfs *fs, struct handle *h);
/* open.c. Opens an existing file as fi asks: the guard, then the lower file. Takes ino->lock. */
int handle_open_existing(struct wormfs *fs, fuse_req_t req, struct inode *ino, struct fuse_file_info *fi,
			 struct handle **ret_handle);
/* Flags for the lower open(2). */
int handle_lower_flags(int flags);

/* Fills an entry for the kernel and counts the look-up; undo with inode_forget() when the reply fails. */
void entry_fill(struct wormfs *fs, struct inode *ino, const struct stat *st, struct fuse_entry_param *e);

/* session.c */
void op_init(void *userdata, struct fuse_conn_info *conn);

/* namespace.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t req, fuse_ino_t nodeid);

/* rename.c */
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
	       unsigned int flags);

/* attributes.c */
void op_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t nodeid);
void op_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned int cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
	      const void *in, size_t in_len, size_t out_len);
#if LIBFUSE_HAS_STATX
void op_statx(fuse_req_t req, fuse_ino_t nodeid, int flags, int mask, struct fuse_file_info *fi);
#endif

/* open.c */
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
#if LIBFUSE_HAS_TMPFILE
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
#endif

/* data.c */
void op_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi);
void op_write_buf(fuse_req_t req, fuse_ino_t nodeid, struct fuse_bufvec *in, off_t offset, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t offset, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_offset, struct fuse_file_info *in_fi, fuse_ino_t out,
			off_t out_offset, struct fuse_file_info *out_fi, size_t len, int flags);

/* directory.c */
void op_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);

/* xattr.c */
void op_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size, int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name);

#endif
