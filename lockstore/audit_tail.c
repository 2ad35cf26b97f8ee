#include "lockstore/audit_tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/audit_files.h"
#include "lockstore/whole_write.h"

#define TORN_SHOWN_BYTES 2048	/* of a torn line, kept in its event */

/* ---- lines ---- */

void audit_batch_begin(struct audit_batch *batch, const struct audit_tail *tail)
{
	*batch = (struct audit_batch){ .seq = tail->seq };
	memcpy(batch->prev, tail->prev, sizeof(batch->prev));
}

int audit_batch_add(struct audit_batch *batch, const struct audit_times *times, const struct audit_entry *entry, uint64_t count)
{
	char *line, *bytes, hash[AUDIT_HASH_CHARS + 1];
	size_t len;
	int r;

	r = audit_line_format(batch->seq + 1, times, entry, count, batch->prev, &line, &len, hash);
	if (r < 0)
		return r;
	if (batch->len + len > batch->size) {
		bytes = realloc(batch->bytes, (batch->len + len) * 2);
		if (!bytes) {
			free(line);
			return -ENOMEM;
		}
		batch->bytes = bytes;
		batch->size = (batch->len + len) * 2;
	}
	memcpy(batch->bytes + batch->len, line, len);
	free(line);
	batch->len += len;
	batch->seq++;
	batch->lines++;
	memcpy(batch->prev, hash, sizeof(hash));
	return 0;
}

/* ---- the file ---- */

/* Back to whole lines that are written. */
static int cut(struct audit_tail *tail)
{
	if (ftruncate(tail->fd, tail->size_bytes) < 0) {
		tail->torn = true;
		return -errno;
	}
	tail->torn = false;
	return 0;
}

static int open_file(struct audit_tail *tail)
{
	struct stat st;
	int fd, r;

	fd = openat(tail->dir_fd, AUDIT_FILE, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -EBADMSG : fsync(tail->dir_fd) < 0 ? -errno : 0;
	if (r < 0) {
		close(fd);
		return r;
	}
	if (tail->fd >= 0)
		close(tail->fd);
	tail->fd = fd;
	tail->size_bytes = st.st_size;
	return 0;
}

/* Under the next number, and on with an empty file. Failing, the log goes on in the old one. */
static void rotate(struct audit_tail *tail)
{
	char name[sizeof(AUDIT_FILE) + 16];
	int r;

	snprintf(name, sizeof(name), AUDIT_FILE ".%u", tail->next_number);
	if (fdatasync(tail->fd) < 0 ||
	    renameat2(tail->dir_fd, AUDIT_FILE, tail->dir_fd, name, RENAME_NOREPLACE) < 0) {
		tail->next_number += errno == EEXIST;	/* somebody else's: with the next line it is the next number */
		return;
	}
	r = open_file(tail);
	if (r < 0) {
		(void)renameat2(tail->dir_fd, name, tail->dir_fd, AUDIT_FILE, RENAME_NOREPLACE);	/* still open, whatever its name */
		return;
	}
	tail->next_number++;
	tail->unsynced = false;
}

const char *audit_tail_look(struct audit_tail *tail)
{
	struct stat named, st;

	if (fstat(tail->fd, &st) < 0)
		return NULL;
	if (fstatat(tail->dir_fd, AUDIT_FILE, &named, AT_SYMLINK_NOFOLLOW) < 0 || named.st_ino != st.st_ino || named.st_dev != st.st_dev) {
		if (open_file(tail) < 0)
			return NULL;	/* asked again in a moment */
		return "the log file was moved or removed while it was written";
	}
	if (!tail->torn && (uint64_t)st.st_size != tail->size_bytes) {
		tail->size_bytes = st.st_size;
		return "the log file was changed by somebody else while it was written";
	}
	return NULL;
}

int audit_tail_sync(struct audit_tail *tail)
{
	if (fdatasync(tail->fd) < 0)
		return -errno;
	tail->unsynced = false;
	return 0;
}

static int64_t boot_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);	/* fails only for a clock that does not exist */
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int audit_tail_write(struct audit_tail *tail, const struct audit_batch *batch, bool sync)
{
	int r = 0;

	if (tail->torn)
		r = cut(tail);
	if (r == 0) {
		r = whole_write(tail->fd, batch->bytes, batch->len);
		if (r == 0 && sync && fdatasync(tail->fd) < 0)
			r = -errno;
		if (r < 0)
			(void)cut(tail);	/* remembered as torn */
	}
	if (r < 0)
		return r;
	tail->size_bytes += batch->len;
	tail->seq = batch->seq;
	memcpy(tail->prev, batch->prev, sizeof(tail->prev));
	if (sync) {
		tail->unsynced = false;
	} else if (!tail->unsynced) {
		tail->unsynced = true;
		tail->unsynced_ns = boot_ns();
	}
	if (tail->rotate_bytes && tail->size_bytes >= tail->rotate_bytes)
		rotate(tail);
	return 0;
}

/* ---- open and close ---- */

/* What is no whole line at the end of the file, as text that shows every byte. */
static void say_torn(struct audit_tail *tail, uint64_t at, char *ret, size_t size)
{
	uint8_t bytes[TORN_SHOWN_BYTES / 3];
	ssize_t n = pread(tail->fd, bytes, sizeof(bytes), at);
	size_t len;

	len = snprintf(ret, size, "torn: %llu bytes at offset %llu were no whole line and are taken out of it: ",
		       (unsigned long long)(tail->size_bytes - at), (unsigned long long)at);
	for (ssize_t i = 0; i < n && len + 4 < size; i++) {
		if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '%')
			ret[len++] = bytes[i];
		else
			len += snprintf(ret + len, size - len, "%%%02X", bytes[i]);
	}
	ret[len] = '\0';
}

static int append_now(struct audit_tail *tail, const struct audit_times *times, const struct audit_entry *entry)
{
	struct audit_batch batch;
	int r;

	audit_batch_begin(&batch, tail);
	r = audit_batch_add(&batch, times, entry, 1);
	if (r == 0)
		r = audit_tail_write(tail, &batch, true);
	free(batch.bytes);
	return r;
}

static int recover_torn(struct audit_tail *tail, uint64_t whole_bytes, const struct audit_times *times, struct audit_recovery *recovery)
{
	char detail[TORN_SHOWN_BYTES + 128];
	struct audit_entry entry = { .event = AUDIT_LOG_TORN, .detail = detail };
	int r;

	if (whole_bytes == tail->size_bytes)
		return 0;
	recovery->torn_bytes = tail->size_bytes - whole_bytes;
	say_torn(tail, whole_bytes, detail, sizeof(detail));
	tail->size_bytes = whole_bytes;
	r = cut(tail);
	return r < 0 ? r : append_now(tail, times, &entry);
}

static int recover_head(struct audit_tail *tail, bool damaged, const struct audit_options *o, const struct audit_times *times,
			struct audit_recovery *recovery)
{
	char detail[160];
	struct audit_entry entry = { .event = AUDIT_TAMPER, .result = -EBADMSG, .detail = detail };

	if (o->head_seq > tail->seq) {
		recovery->missing = o->head_seq - tail->seq;
		snprintf(detail, sizeof(detail), "audit log: lines %llu to %llu are missing", (unsigned long long)tail->seq + 1,
			 (unsigned long long)o->head_seq);
		tail->seq = o->head_seq;
		snprintf(tail->prev, sizeof(tail->prev), "%s", o->head_hash ? o->head_hash : AUDIT_NO_HASH);
	} else if (damaged || (o->head_seq && o->head_seq == tail->seq && o->head_hash && strcmp(o->head_hash, tail->prev) != 0)) {
		recovery->damaged = true;
		snprintf(detail, sizeof(detail), "audit log: the last line (%llu) is not the one that was written",
			 (unsigned long long)tail->seq);
	} else {
		return 0;
	}
	return append_now(tail, times, &entry);
}

/* Where the log ends, and what the last daemon left there. */
static int recover(struct audit_tail *tail, const struct audit_options *options, const struct audit_times *times,
		   struct audit_recovery *recovery)
{
	struct audit_end end;
	int r;

	r = audit_files_end(tail->dir_fd, &end);
	if (r < 0)
		return r;
	tail->next_number = end.next_number;
	r = open_file(tail);
	if (r < 0)
		return r;
	tail->seq = end.link.seq;
	memcpy(tail->prev, end.link.hash, sizeof(tail->prev));
	r = recover_torn(tail, end.whole_bytes, times, recovery);
	return r < 0 ? r : recover_head(tail, end.damaged, options, times, recovery);
}

int audit_tail_open(struct audit_tail *tail, const struct audit_options *options, const struct audit_times *times,
		    struct audit_recovery *recovery)
{
	audit_tail_init(tail);
	tail->rotate_bytes = options->rotate_bytes;
	tail->dir_fd = open(options->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return tail->dir_fd < 0 ? -errno : recover(tail, options, times, recovery);
}

void audit_tail_init(struct audit_tail *tail)
{
	*tail = (struct audit_tail){ .dir_fd = -1, .fd = -1 };
}

void audit_tail_close(struct audit_tail *tail)
{
	if (tail->fd >= 0)
		close(tail->fd);
	if (tail->dir_fd >= 0)
		close(tail->dir_fd);
	audit_tail_init(tail);
}
