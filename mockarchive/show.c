/* How an offline file looks: stat, statvfs, and the attributes by which the archives it stands for tell their states. */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "mockarchive/ops.h"

/* ---- stat ---- */

static uint64_t blocks_of(const struct archive *a, const struct file *f, uint64_t size)
{
	switch (a->set.st_blocks) {
	case BLOCKS_0:
		return 0;
	case BLOCKS_1:
		return size ? 1 : 0;	/* as Lustre: tar takes 0 for a hole (LU-3864) */
	case BLOCKS_STUB:
		return f->stub_bytes ? (f->stub_bytes + 511) / 512 : size ? 1 : 0;
	default:
		return (size + 511) / 512;
	}
}

/* What rules make of it. Without the lock. */
static void show_faults(struct archive *a, struct inode *ino, uint64_t size_bytes, int64_t now_ns, struct stat *st)
{
	struct fault_query query = { .point = FAULT_GETATTR, .can = FAULT_DO_SIZE | FAULT_DO_MTIME | FAULT_DO_BLOCKS, .copy = FAULT_COPY_FINAL,
				     .size_bytes = size_bytes, .now_ns = now_ns };
	unsigned rules, enabled;
	struct fault_verdict v;
	uint64_t fired;
	char *path;

	faults_count(a->faults, &rules, &enabled, &fired);
	if (!enabled || inode_path(a->fs, ino, &path) < 0)
		return;
	query.path = path;
	faults_ask(a->faults, &query, &v);
	free(path);
	if (v.did & FAULT_DO_SIZE)
		st->st_size = st->st_size + v.size_delta_bytes > 0 ? st->st_size + v.size_delta_bytes : 0;
	if (v.did & FAULT_DO_MTIME)
		st->st_mtim.tv_sec += v.mtime_delta_s;
	if (v.did & FAULT_DO_BLOCKS)
		st->st_blocks = v.blocks;
}

int64_t show_file(struct archive *a, uint64_t id, struct stat *st)
{
	uint64_t size = st->st_size;
	int64_t now_ns;
	struct file *f;

	pthread_mutex_lock(&a->lock);
	now_ns = clock_now_locked(a);
	f = file_find_locked(a, id);
	if (f && f->flag_final)
		st->st_mode |= S_ISVTX;
	if (f && f->offline) {
		st->st_blocks = blocks_of(a, f, size);
		if (a->set.st_size != SIZE_LOGICAL)
			st->st_size = a->set.st_size == SIZE_ZERO ? 0 : f->stub_bytes;
	}
	/* In the middle of a recall or a release the lower file has other times for a moment, and st may be from there. */
	if (f && f->nwriters == 0 && (f->offline || f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD))
		st->st_mtim = (struct timespec){ f->mtime_ns / ARCHIVE_NS, f->mtime_ns % ARCHIVE_NS };
	/* What the archive does to the lower file is no change of it. */
	if (f && f->ctime_ns && f->nwriters == 0)
		st->st_ctim = (struct timespec){ f->ctime_ns / ARCHIVE_NS, f->ctime_ns % ARCHIVE_NS };
	pthread_mutex_unlock(&a->lock);
	return now_ns;
}

void show_stat(struct archive *a, struct inode *ino, struct stat *st)
{
	uint64_t size = st->st_size;
	int64_t now_ns = show_file(a, ino->nodeid, st);

	show_faults(a, ino, size, now_ns, st);
}

void show_statvfs(struct archive *a, struct statvfs *ret)
{
	struct fault_query query = { .point = FAULT_STATFS, .can = FAULT_DO_STATFS, .path = "", .copy = FAULT_COPY_FINAL, .size_bytes = -1 };
	uint64_t total, free_bytes, unit;
	struct fault_verdict v;

	if (fstatvfs(a->fs->root_fd, ret) < 0)
		memset(ret, 0, sizeof(*ret));
	unit = ret->f_frsize ? ret->f_frsize : 4096;
	ret->f_frsize = unit;
	total = ret->f_blocks * unit;
	free_bytes = ret->f_bavail * unit;
	pthread_mutex_lock(&a->lock);
	query.now_ns = clock_now_locked(a);
	if (a->set.cache_bytes) {
		total = a->set.cache_bytes;
		free_bytes = a->online_bytes < total ? total - a->online_bytes : 0;
	}
	if (a->set.total_bytes)
		total = a->set.total_bytes;
	if (a->set.has_free)
		free_bytes = a->set.free_bytes;
	pthread_mutex_unlock(&a->lock);
	faults_ask(a->faults, &query, &v);
	if (v.did & FAULT_DO_STATFS && v.statfs_total_bytes >= 0)
		total = v.statfs_total_bytes;
	if (v.did & FAULT_DO_STATFS && v.statfs_free_bytes >= 0)
		free_bytes = v.statfs_free_bytes;
	ret->f_blocks = total / unit;
	ret->f_bfree = ret->f_bavail = (free_bytes < total ? free_bytes : total) / unit;
}

/* ---- extended attributes ---- */

/* include/uapi/linux/lustre/lustre_user.h: enum hsm_states */
enum { HS_EXISTS = 1, HS_DIRTY = 2, HS_RELEASED = 4, HS_ARCHIVED = 8, HS_LOST = 0x40 };

static unsigned lustre_flags(const struct file *f, enum archive_state shown)
{
	unsigned flags = 0;

	if (f->copy[COPY_TAPE] != ARCHIVE_COPY_NONE)
		flags |= HS_EXISTS | HS_ARCHIVED;
	if (f->copy[COPY_TAPE] == ARCHIVE_COPY_STALE)
		flags |= HS_DIRTY;
	if (f->offline)
		flags |= HS_RELEASED;
	if (shown == ARCHIVE_LOST)
		flags |= HS_LOST;
	return flags;
}

static ssize_t lustre_text(const struct file *f, enum archive_state shown, char *buf, size_t len)
{
	static const struct { unsigned bit; const char *name; } names[] = {
		{ HS_RELEASED, " released" }, { HS_EXISTS, " exists" }, { HS_DIRTY, " dirty" }, { HS_ARCHIVED, " archived" }, { HS_LOST, " lost" },
	};
	unsigned flags = lustre_flags(f, shown);
	size_t n = snprintf(buf, len, "(0x%08x)", flags);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (flags & names[i].bit)
			n += snprintf(buf + n, len - n, "%s", names[i].name);
	if (flags & HS_ARCHIVED)
		n += snprintf(buf + n, len - n, ", archive_id:1");
	return n;
}

/* trusted.hsm: lustre_idl.h, struct hsm_attrs: u32 compat, u32 flags, u64 archive id, u64 version, little endian. */
static ssize_t lustre_binary(const struct file *f, enum archive_state shown, char *buf)
{
	uint32_t head[2] = { 0, htole32(lustre_flags(f, shown)) };
	uint64_t tail[2] = { htole64(1), htole64(f->version) };

	memcpy(buf, head, sizeof(head));
	memcpy(buf + sizeof(head), tail, sizeof(tail));
	return sizeof(head) + sizeof(tail);
}

static const char *dmf_state(enum archive_state shown, int *ret_number)
{
	static const struct { const char *name; int number; } states[ARCHIVE_STATES] = {
		[ARCHIVE_WRITING] = { "REG", 0 }, [ARCHIVE_RESIDENT] = { "REG", 0 }, [ARCHIVE_FAILED_ARCHIVE] = { "REG", 0 },
		[ARCHIVE_ARCHIVING] = { "MIG", 1 }, [ARCHIVE_DUAL] = { "DUL", 2 }, [ARCHIVE_RELEASED] = { "OFL", 3 },
		[ARCHIVE_LOST] = { "OFL", 3 }, [ARCHIVE_DAMAGED] = { "OFL", 3 }, [ARCHIVE_UNAVAILABLE] = { "OFL", 3 },
		[ARCHIVE_FAILED_RECALL] = { "OFL", 3 }, [ARCHIVE_RECALLING] = { "UNM", 4 }, [ARCHIVE_PARTIAL] = { "PAR", 6 },
	};

	*ret_number = states[shown].number;
	return states[shown].name;
}

/* SGI_DMI_DMFATTR: version, pad, state[2], flags[2], bfid[16], big endian as on the machines it comes from (xfsdump, hsmapi.c). */
static ssize_t dmf_binary(const struct file *f, enum archive_state shown, char *buf)
{
	uint64_t id = htobe64(f->id);
	int number;

	dmf_state(shown, &number);
	memset(buf, 0, 22);
	buf[0] = 1;
	buf[3] = number;
	memcpy(buf + 14, &id, sizeof(id));
	return 22;
}

static ssize_t dos_attributes(const struct file *f, char *buf)
{
	/* winnt.h: FILE_ATTRIBUTE_ARCHIVE 0x20, _OFFLINE 0x1000, _RECALL_ON_DATA_ACCESS 0x400000 */
	uint32_t bits = htole32(0x20 | (f->offline ? 0x1000 | 0x400000 : 0));

	memcpy(buf, &bits, sizeof(bits));
	return sizeof(bits);
}

static ssize_t eos(const struct archive *a, const struct file *f, const char *name, char *buf, size_t len)
{
	bool on_tape = f->copy[COPY_TAPE] == ARCHIVE_COPY_GOOD, recalling = f->base == ARCHIVE_RECALLING;

	if (strcmp(name, "sys.archive.file_id") == 0)
		return snprintf(buf, len, "%llu", (unsigned long long)f->id);
	if (strcmp(name, "sys.archive.storage_class") == 0)
		return snprintf(buf, len, "mockarchive");
	if (strcmp(name, "sys.eos.btime") == 0)
		return snprintf(buf, len, "%lld.0", (long long)(f->mtime_ns / ARCHIVE_NS));
	if (strcmp(name, "sys.cta.archive.objectstore.id") == 0)
		return f->base == ARCHIVE_ARCHIVING ? snprintf(buf, len, "ArchiveRequest-%llx", (unsigned long long)f->id) : -ENODATA;
	if (strcmp(name, "sys.cta.objectstore.id") == 0)
		return recalling ? snprintf(buf, len, "RetrieveRequest-%llx", (unsigned long long)f->id) : -ENODATA;
	if (strcmp(name, "sys.archive.error") == 0)
		return f->base == ARCHIVE_FAILED_ARCHIVE ? snprintf(buf, len, "%s", f->error_text) : -ENODATA;
	if (strcmp(name, "sys.retrieve.error") == 0)
		return f->base == ARCHIVE_FAILED_RECALL ? snprintf(buf, len, "%s", f->error_text) : -ENODATA;
	if (strcmp(name, "sys.retrieve.req_id") == 0)
		return recalling ? snprintf(buf, len, "%s", f->request_id) : -ENODATA;
	if (strcmp(name, "sys.retrieve.req_time") == 0)
		return recalling ? snprintf(buf, len, "%lld", (long long)(f->request_ns / ARCHIVE_NS)) : -ENODATA;
	if (strcmp(name, "sys.retrieve.evict_counter") == 0)
		return on_tape && !f->offline ? snprintf(buf, len, "%u", f->evict_counter) : -ENODATA;
	return -ENODATA;
}

static ssize_t own(const struct archive *a, const struct file *f, const char *name, enum archive_state shown, char *buf, size_t len)
{
	char tape[16];

	if (strcmp(name, "state") == 0)
		return snprintf(buf, len, "%s", archive_state_name(shown));
	if (strcmp(name, "copies") == 0)
		return snprintf(buf, len, "tape:%s replica:%s", archive_copy_state_name(f->copy[COPY_TAPE]),
				archive_copy_state_name(f->copy[COPY_REPLICA]));
	if (strcmp(name, "tape") == 0)
		return f->volume ? snprintf(buf, len, "%s", volume_name(f->volume, tape)) : -ENODATA;
	if (strcmp(name, "error") == 0)
		return f->error ? snprintf(buf, len, "%s", f->error_text) : -ENODATA;
	if (strcmp(name, "adler32") == 0)
		return f->has_checksum ? snprintf(buf, len, "%08x", f->adler32) : -ENODATA;
	return -ENODATA;
}

static ssize_t show_locked(const struct archive *a, const struct file *f, const char *name, bool is_root, char *buf, size_t len)
{
	enum archive_state shown = archive_shown_locked(a, f);
	unsigned families = a->set.xattrs;
	int number;

	if (families & XATTRS_WORMFS && strncmp(name, "user.wormfs.archive.", 20) == 0)
		return own(a, f, name + 20, shown, buf, len);
	if (families & XATTRS_LUSTRE && strcmp(name, "user.lustre.hsm_state") == 0)
		return lustre_text(f, shown, buf, len);
	if (families & XATTRS_LUSTRE && is_root && strcmp(name, "trusted.hsm") == 0)
		return lustre_binary(f, shown, buf);
	if (families & XATTRS_DMF && strcmp(name, "user.dmf.state") == 0)
		return snprintf(buf, len, "%s", dmf_state(shown, &number));
	if (families & XATTRS_DMF && is_root && strcmp(name, "trusted.SGI_DMI_DMFATTR") == 0)
		return dmf_binary(f, shown, buf);
	if (families & XATTRS_DOS && (strcmp(name, "user.smb3.dosattrib") == 0 || strcmp(name, "user.cifs.dosattrib") == 0))
		return dos_attributes(f, buf);
	/* What vfs_tsmsm of Samba looks for beside the blocks. */
	if (families & XATTRS_DOS && strcmp(name, "dmapi.IBMObj") == 0)
		return f->offline ? snprintf(buf, len, "1") : -ENODATA;
	if (families & XATTRS_EOS && strncmp(name, "sys.", 4) == 0)
		return eos(a, f, name, buf, len);
	return -ENOENT;
}

ssize_t show_xattr(struct archive *a, uint64_t id, const char *name, bool is_root, char *buf, size_t len_bytes)
{
	ssize_t n = -ENOENT;
	struct file *f;

	pthread_mutex_lock(&a->lock);
	f = file_find_locked(a, id);
	if (f)
		n = show_locked(a, f, name, is_root, buf, len_bytes);
	pthread_mutex_unlock(&a->lock);
	return n;
}
