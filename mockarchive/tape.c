/* Where the data is: the tape directory (one file a copy), the replica directory (the same tree as the mount) and the lower
 * files. Nothing here knows of states or time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/ops.h"
#include "lockstore/committer.h"
#include "lockstore/ledger.h"
#include "lockstore/lower.h"
#include "mockarchive/archive_private.h"

#define CHUNK_BYTES (1024 * 1024)
#define REPLICA_TEMPORARY ".mockarchive-copy"
#define TEMPORARY_BYTES 40
#define LEDGER_WAIT_MS 2000
#define LOCK_WAIT_MS 500	/* for a lock that is about to be complete */
#define LOCK_PAUSE_MS 5

static int64_t mtime_of(const struct stat *st)
{
	return st->st_mtim.tv_sec * ARCHIVE_NS + st->st_mtim.tv_nsec;
}

static int set_mtime(int fd, int64_t mtime_ns)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { mtime_ns / ARCHIVE_NS, mtime_ns % ARCHIVE_NS } };

	if (t[1].tv_nsec < 0) {		/* before 1970 */
		t[1].tv_nsec += ARCHIVE_NS;
		t[1].tv_sec--;
	}
	return futimens(fd, t) < 0 ? -errno : 0;
}

static int write_all(int fd, const char *buf, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t done = pwrite(fd, buf, n, at);

		if (done < 0 && errno != EINTR)
			return -errno;
		if (done > 0) {
			buf += done;
			n -= done;
			at += done;
		}
	}
	return 0;
}

/* The size that a fault gives the copy. */
static int cut_or_grow(int fd, const struct fault_verdict *v, uint64_t size_bytes)
{
	int64_t size = size_bytes;

	if (v->did & FAULT_DO_CORRUPT)
		size = fault_corrupt_size(&v->corrupt, size);
	else if (v->did & FAULT_DO_REPLICA && v->replica == FAULT_REPLICA_SHORT)
		size /= 2;
	return size != (int64_t)size_bytes && ftruncate(fd, size) < 0 ? -errno : 0;
}

static void spoil(const struct fault_verdict *v, off_t at, char *buf, size_t n)
{
	if (v->did & FAULT_DO_CORRUPT)
		fault_corrupt_bytes(&v->corrupt, at, buf, n);
	else if (v->did & FAULT_DO_REPLICA && v->replica == FAULT_REPLICA_DIFFER && at == 0 && n > 0)
		buf[0] ^= 1;
}

/* All of `from`. ret may be NULL; its checksums are of what was read, before it was spoiled. */
static int copy_data(int from, int to, const struct fault_verdict *v, struct tape_result *ret)
{
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	char *buf = malloc(CHUNK_BYTES);
	uint32_t adler = adler32(0, NULL, 0);
	off_t at = 0;
	ssize_t n;
	int r = 0;

	if (!sha || !buf || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
		r = -ENOMEM;
	while (r == 0 && (n = pread(from, buf, CHUNK_BYTES, at)) != 0) {
		if (n < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (ret) {
			adler = adler32(adler, (unsigned char *)buf, n);
			EVP_DigestUpdate(sha, buf, n);
		}
		if (to >= 0) {
			spoil(v, at, buf, n);
			r = write_all(to, buf, n, at);
		}
		at += n;
	}
	if (r == 0 && to >= 0)
		r = cut_or_grow(to, v, at);
	if (r == 0 && ret) {
		ret->size_bytes = at;
		ret->adler32 = adler;
		EVP_DigestFinal_ex(sha, ret->sha256, NULL);
	}
	EVP_MD_CTX_free(sha);
	free(buf);
	return r;
}

/* Another descriptor of what fd leads to. Who is not root cannot open a file for writing that its mode protects, and the archive moves
 * data in all of them: it owns the file, and gives itself the right for that moment. */
static int reopen(int fd, int flags)
{
	char path[40];
	struct stat st;
	int to, r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	to = open(path, flags | O_CLOEXEC);
	if (to >= 0)
		return to;
	if (errno != EACCES || fstat(fd, &st) < 0 || st.st_uid != geteuid())
		return -EACCES;
	if (chmod(path, (st.st_mode & 07777) | S_IRUSR | S_IWUSR) < 0)
		return -errno;
	to = open(path, flags | O_CLOEXEC);
	r = to < 0 ? -errno : to;
	if (chmod(path, st.st_mode & 07777) < 0)
		log_warning("cannot give a file its mode %04o back: %s", st.st_mode & 07777, strerror(errno));
	return r;
}

int tape_open(struct archive *a, const char *path, int flags)
{
	int fd = lower_open(a->fs->root_fd, path, flags | O_NOFOLLOW | O_CLOEXEC, false), at;

	if (fd != -EACCES || flags & O_PATH)
		return fd;
	at = lower_open(a->fs->root_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, false);
	if (at < 0)
		return at;
	fd = reopen(at, flags);
	close(at);
	return fd;
}

/* The lower file of this id. */
static int open_lower(struct archive *a, uint64_t id, const char *path, int flags, struct stat *ret_st)
{
	int fd = tape_open(a, path, flags);

	if (fd < 0)
		return fd;
	if (fstat(fd, ret_st) < 0 || ret_st->st_ino != id) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

/* ---- tape ---- */

int tape_write(struct archive *a, uint64_t id, const char *path, const char *name, const struct fault_verdict *v, struct tape_result *ret)
{
	struct stat st, after;
	int from, to, r;

	from = open_lower(a, id, path, O_RDONLY, &st);
	if (from < 0)
		return from;
	to = openat(a->tape_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = to < 0 ? -errno : copy_data(from, to, v, ret);
	if (r == 0 && (fstat(from, &after) < 0 || after.st_size != st.st_size || mtime_of(&after) != mtime_of(&st) ||
		       (off_t)ret->size_bytes != st.st_size))
		r = -ESTALE;	/* somebody wrote while it was copied */
	ret->mtime_ns = mtime_of(&st);
	if (to >= 0 && close(to) < 0 && r == 0)
		r = -errno;
	close(from);
	if (r < 0)
		tape_remove(a, name);
	return r;
}

int tape_verify(struct archive *a, const char *name, const struct tape_result *want)
{
	static const struct fault_verdict none;
	struct tape_result got = { 0 };
	int fd = openat(a->tape_fd, name, O_RDONLY | O_CLOEXEC), r;

	r = fd < 0 ? -errno : copy_data(fd, -1, &none, &got);
	if (fd >= 0)
		close(fd);
	if (r == 0 && (got.size_bytes != want->size_bytes || memcmp(got.sha256, want->sha256, sizeof(got.sha256)) != 0))
		r = -EBADMSG;
	return r;
}

int tape_from_replica(struct archive *a, const char *path, const char *name)
{
	static const struct fault_verdict none;
	int from = lower_open(a->replica_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, false), to, r;

	if (from < 0)
		return from;
	to = openat(a->tape_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = to < 0 ? -errno : copy_data(from, to, &none, NULL);
	if (to >= 0 && close(to) < 0 && r == 0)
		r = -errno;
	close(from);
	return r;
}

void tape_remove(struct archive *a, const char *name)
{
	if (*name && unlinkat(a->tape_fd, name, 0) < 0 && errno != ENOENT)
		log_warning("cannot remove a file from tape: %s", strerror(errno));
}

/* ---- the replica directory ---- */

/* The directory that `path` lies in, and its last part. */
static int parent_open(int dir_fd, const char *path, bool make, const char **ret_leaf)
{
	int fd = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), next;
	const char *slash;
	char name[NAME_MAX + 1];

	while (fd >= 0 && (slash = strchr(path, '/'))) {
		size_t n = slash - path;

		if (n > NAME_MAX) {
			close(fd);
			return -ENAMETOOLONG;
		}
		memcpy(name, path, n);
		name[n] = '\0';
		if (make && mkdirat(fd, name, 0755) < 0 && errno != EEXIST) {
			next = -1;
		} else {
			next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		}
		if (next < 0) {
			int r = -errno;

			close(fd);
			return r;
		}
		close(fd);
		fd = next;
		path = slash + 1;
	}
	*ret_leaf = path;
	return fd < 0 ? -errno : fd;
}

static mode_t flagged_mode(mode_t mode, bool flagged)
{
	return (mode & 07777 & ~S_ISVTX) | (flagged ? S_ISVTX : 0);
}

/* One a file: several drives move data at once. */
static void replica_temporary(uint64_t id, char ret_name[TEMPORARY_BYTES])
{
	snprintf(ret_name, TEMPORARY_BYTES, REPLICA_TEMPORARY ".%llx", (unsigned long long)id);
}

int tape_replicate(struct archive *a, uint64_t id, const char *path, const char *name, bool flagged, const struct fault_verdict *v)
{
	char temporary[TEMPORARY_BYTES];
	struct stat st;
	int from, source = -1, to = -1, r;

	from = open_lower(a, id, path, name ? O_PATH : O_RDONLY, &st);
	if (from < 0)
		return from;
	if (name)
		source = openat(a->tape_fd, name, O_RDONLY | O_CLOEXEC);
	if (name && source < 0) {
		close(from);
		return -ENODATA;
	}
	replica_temporary(id, temporary);
	to = openat(a->replica_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);	/* never over a user's */
	r = to < 0 ? -errno : copy_data(name ? source : from, to, v, NULL);
	if (r == 0 && geteuid() == 0 && fchown(to, st.st_uid, st.st_gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(to, flagged_mode(st.st_mode, flagged)) < 0)
		r = -errno;
	if (r == 0)
		r = set_mtime(to, mtime_of(&st));
	if (to >= 0 && close(to) < 0 && r == 0)
		r = -errno;
	if (r < 0 && to >= 0)
		(void)unlinkat(a->replica_fd, temporary, 0);
	if (source >= 0)
		close(source);
	close(from);
	return r;
}

/* As a whole: who looks at the size before it is all there would believe it. */
int replica_place(struct archive *a, uint64_t id, const char *path)
{
	char temporary[TEMPORARY_BYTES];
	const char *leaf;
	int dir, r;

	replica_temporary(id, temporary);
	dir = path ? parent_open(a->replica_fd, path, true, &leaf) : -ECANCELED;
	r = dir < 0 ? dir : renameat(a->replica_fd, temporary, dir, leaf) < 0 ? -errno : 0;
	if (r < 0)
		(void)unlinkat(a->replica_fd, temporary, 0);	/* overwritten by the next one */
	if (dir >= 0)
		close(dir);
	return r;
}

/* Only what no file of the mount has as its name: the replica has the same tree, so that name is the user's there too. */
void replica_tidy(struct archive *a)
{
	int fd = openat(a->replica_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned long long id;
	struct dirent *ent;
	struct stat st;

	while (dir && (ent = readdir(dir))) {
		char name[TEMPORARY_BYTES];

		if (sscanf(ent->d_name, REPLICA_TEMPORARY ".%llx", &id) != 1)
			continue;
		replica_temporary(id, name);
		if (strcmp(name, ent->d_name) == 0 && fstatat(a->fs->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			(void)unlinkat(a->replica_fd, name, 0);		/* what stays makes one replica fail, and is told then */
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

void replica_remove(struct archive *a, const char *path)
{
	const char *leaf;
	int dir = parent_open(a->replica_fd, path, false, &leaf);

	if (dir < 0)
		return;
	if (unlinkat(dir, leaf, 0) < 0 && errno == EISDIR)
		(void)unlinkat(dir, leaf, AT_REMOVEDIR);	/* with what nobody knows in it, it stays */
	close(dir);
}

int replica_rename(struct archive *a, const char *from, const char *to, bool exchange)
{
	const char *from_leaf, *to_leaf;
	int from_dir = parent_open(a->replica_fd, from, false, &from_leaf), to_dir, r;

	if (from_dir < 0)
		return from_dir;
	to_dir = parent_open(a->replica_fd, to, true, &to_leaf);
	r = to_dir < 0 ? to_dir : renameat2(from_dir, from_leaf, to_dir, to_leaf, exchange ? RENAME_EXCHANGE : 0) < 0 ? -errno : 0;
	close(from_dir);
	if (to_dir >= 0)
		close(to_dir);
	return r;
}

int replica_chmod(struct archive *a, const char *path, bool flagged)
{
	const char *leaf;
	struct stat st;
	int dir = parent_open(a->replica_fd, path, false, &leaf), fd, r;

	if (dir < 0)
		return dir;
	fd = openat(dir, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	r = fd < 0 || fstat(fd, &st) < 0 || fchmod(fd, flagged_mode(st.st_mode, flagged)) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	close(dir);
	return r;
}

/* Spoils a file where it lies: a copy that went bad without anybody hearing of it. */
int tape_spoil(int dir_fd, const char *path, const struct fault_corrupt *corrupt)
{
	struct fault_corrupt c = *corrupt;
	char *buf = malloc(CHUNK_BYTES);
	const char *leaf;
	struct stat st;
	off_t at = 0;
	ssize_t n;
	int dir, fd, r;

	dir = parent_open(dir_fd, path, false, &leaf);
	fd = dir < 0 ? -1 : openat(dir, leaf, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	r = !buf ? -ENOMEM : dir < 0 ? dir : fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0)
		c.size_bytes = st.st_size;
	while (r == 0 && (n = pread(fd, buf, CHUNK_BYTES, at)) > 0) {
		fault_corrupt_bytes(&c, at, buf, n);
		r = write_all(fd, buf, n, at);
		at += n;
	}
	if (r == 0 && fault_corrupt_size(&c, st.st_size) != st.st_size && ftruncate(fd, fault_corrupt_size(&c, st.st_size)) < 0)
		r = -errno;
	if (r == 0)
		r = set_mtime(fd, mtime_of(&st));
	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	free(buf);
	return r;
}

/* ---- the lower file ---- */

/* Its inode, referenced. */
static int find_inode(struct archive *a, uint64_t id, const char *path, struct inode **ret_ino)
{
	int r = inode_walk(a->fs, path, ret_ino);

	if (r == 0 && (*ret_ino)->nodeid != id) {
		inode_put(a->fs, *ret_ino);
		r = -ESTALE;
	}
	return r;
}

/* The lower file that an open handle leads to; another descriptor of it. */
static int open_unnamed(struct archive *a, struct inode *ino, int flags, struct stat *ret_st)
{
	int fd = -ESTALE;

	pthread_mutex_lock(&ino->lock);
	for (struct handle *h = ino->handles; h && fd < 0; h = h->next)
		if (handle_need_fd_locked(a->fs, h) == 0)
			fd = reopen(h->fd, flags);
	pthread_mutex_unlock(&ino->lock);
	if (fd >= 0 && (fstat(fd, ret_st) < 0 || ret_st->st_ino != ino->ino)) {
		close(fd);
		fd = -ESTALE;
	}
	return fd;
}

int tape_read(struct archive *a, uint64_t id, const char *path, const char *name, int64_t mtime_ns, const struct fault_verdict *v)
{
	char *buf = malloc(CHUNK_BYTES);
	int from = -1, to = -1, r;
	struct inode *ino = NULL;
	struct stat st;
	off_t at = 0;
	ssize_t n = 0;

	/* "replica:" and a path, or the name of a tape file. */
	from = strncmp(name, "/", 1) == 0 ? lower_open(a->replica_fd, name + 1, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, false) :
	       openat(a->tape_fd, name, O_RDONLY | O_CLOEXEC);
	r = !buf ? -ENOMEM : from < 0 ? -EIO : 0;
	if (r == 0 && path)
		r = find_inode(a, id, path, &ino);
	else if (r == 0 && !(ino = inode_get(a->fs, id)))
		r = -ESTALE;
	if (r < 0)
		goto out;
	to = path ? open_lower(a, id, path, O_RDWR, &st) : open_unnamed(a, ino, O_RDWR, &st);
	r = to < 0 ? to : 0;
	while (r == 0 && (n = pread(from, buf, CHUNK_BYTES, at)) != 0) {
		if (n < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		spoil(v, at, buf, n);
		/* Whoever looks at a locked file holds its lock: he sees the size and time that its record has. */
		pthread_mutex_lock(&ino->lock);
		r = write_all(to, buf, n, at);
		if (r == 0)
			r = set_mtime(to, mtime_ns);
		pthread_mutex_unlock(&ino->lock);
		at += n;
	}
	if (r == 0) {
		pthread_mutex_lock(&ino->lock);
		if (at != st.st_size && ftruncate(to, at) < 0)	/* a copy that was cut or grown on tape */
			r = -errno;
		if (r == 0)
			r = cut_or_grow(to, v, at);
		if (r == 0)
			r = set_mtime(to, mtime_ns);
		pthread_mutex_unlock(&ino->lock);
	}
out:
	inode_put(a->fs, ino);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	free(buf);
	return r;
}

int tape_punch_fd(int fd, uint64_t keep_bytes, int64_t mtime_ns)
{
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size > keep_bytes && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, keep_bytes, st.st_size - keep_bytes) < 0) {
		r = -errno;
		if (r == -EOPNOTSUPP)	/* filesystems without holes that are made: cut, and grow again */
			r = ftruncate(fd, keep_bytes) < 0 || ftruncate(fd, st.st_size) < 0 ? -errno : 0;
	}
	return r < 0 ? r : set_mtime(fd, mtime_ns);
}

/* A locked file: its lock must be complete, and the ledger have the digest of what is about to go. */
static int ready_to_go(struct archive *a, struct inode *ino, uint64_t size_bytes, int64_t mtime_ns, const unsigned char *sha256)
{
	struct wormfs *fs = a->fs;
	enum lock_phase phase;
	struct file_key key;
	bool append;
	int r;

	if (!fs->has_rules && fs->opt.commit == COMMIT_NEVER)
		return 0;
	pthread_mutex_lock(&ino->lock);
	lock_load_locked(fs, ino);
	phase = ino->phase;
	append = ino->rec && ino->rec->flags & RECORD_APPEND;
	pthread_mutex_unlock(&ino->lock);
	if (phase == LOCK_CLOSING)
		return -EBUSY;
	if (append)
		return -EPERM;	/* it grows */
	if (phase != LOCK_COMMITTED || !fs->digest || !sha256)
		return 0;
	(void)committer_flush(fs->committer, LEDGER_WAIT_MS);	/* the row is looked for in any case */
	r = inode_key(fs, ino, &key);
	if (r == 0)
		r = ledger_digest_set(fs->ledger, &key, size_bytes, mtime_ns, sha256);
	return r == -ENOENT ? -EBUSY : r;
}

int tape_punch(struct archive *a, uint64_t id, const char *path, uint64_t keep_bytes, int64_t mtime_ns, const unsigned char *sha256)
{
	struct inode *ino;
	struct stat st;
	int fd = -1, r;

	r = find_inode(a, id, path, &ino);
	if (r < 0)
		return r;
	fd = open_lower(a, id, path, O_RDONLY, &st);
	r = fd < 0 ? fd : ready_to_go(a, ino, st.st_size, mtime_ns, sha256);
	for (int waited_ms = 0; r == -EBUSY && waited_ms < LOCK_WAIT_MS; waited_ms += LOCK_PAUSE_MS) {
		usleep(LOCK_PAUSE_MS * 1000);
		r = ready_to_go(a, ino, st.st_size, mtime_ns, sha256);
	}
	if (r == 0) {	/* a writer of our own would keep the lock from being complete */
		close(fd);
		fd = open_lower(a, id, path, O_RDWR, &st);
		r = fd < 0 ? fd : 0;
	}
	if (r == 0) {
		pthread_mutex_lock(&ino->lock);
		r = ino->nwriters > 0 ? -EBUSY : tape_punch_fd(fd, keep_bytes, mtime_ns);
		pthread_mutex_unlock(&ino->lock);
	}
	if (fd >= 0)
		close(fd);
	inode_put(a->fs, ino);
	return r;
}
