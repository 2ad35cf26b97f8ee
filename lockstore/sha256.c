/* Owns one buffer and one context a call. A file is read once, from its start to its end, in chunks of
 * CHUNK_BYTES; nothing is kept in between. */
#include "lockstore/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES (1 << 20)
#define DIRECT_ALIGN_BYTES 4096		/* memory and offsets; no device asks for more than its page. Source: open(2), O_DIRECT */
#define PAGE_BYTES 4096			/* at least: a larger page is asked about more than once */

void sha256_pace_init(struct sha256_pace *pace, uint64_t bytes_a_second)
{
	pthread_mutex_init(&pace->lock, NULL);
	pace->bytes_a_second = bytes_a_second;
	pace->free_at_ns = 0;
}

void sha256_pace_fini(struct sha256_pace *pace)
{
	pthread_mutex_destroy(&pace->lock);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* After `bytes` were read: waits until the rate is kept. What was not used while nobody read is not saved up. */
static void keep_pace(struct sha256_pace *pace, uint64_t bytes)
{
	int64_t now, until;

	if (!pace || !pace->bytes_a_second)
		return;
	pthread_mutex_lock(&pace->lock);
	now = now_ns();
	if (pace->free_at_ns < now)
		pace->free_at_ns = now;
	pace->free_at_ns += (int64_t)((double)bytes * 1e9 / (double)pace->bytes_a_second);
	until = pace->free_at_ns;
	pthread_mutex_unlock(&pace->lock);
	if (until > now) {
		struct timespec t = { until / 1000000000, until % 1000000000 };

		(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);	/* a signal makes it shorter */
	}
}

int sha256_open(int fd, enum sha256_source source)
{
	static const int flags[] = { O_DIRECT | O_NOATIME, O_DIRECT, O_NOATIME, 0 };
	int opened = -1, error = 0;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (size_t i = source == SHA256_OF_DISK ? 0 : 2; i < 4 && opened < 0; i++) {
		opened = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags[i]);
		/* EPERM: O_NOATIME is for the owner. EINVAL: no O_DIRECT here. Source: open(2) */
		error = errno;
		if (opened < 0 && error != EPERM && error != EINVAL)
			break;
	}
	return opened < 0 ? -error : opened;
}

/* Whether the chunk was in the page cache before we read it. Whoever cannot tell leaves it there. */
static bool is_cold(int fd, off_t at, size_t len)
{
	unsigned char pages[CHUNK_BYTES / PAGE_BYTES];
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, at);
	bool cold;

	if (map == MAP_FAILED)
		return false;
	cold = mincore(map, len, pages) == 0;
	for (size_t i = 0; cold && i < (len + PAGE_BYTES - 1) / PAGE_BYTES; i++)
		cold = !(pages[i] & 1);
	munmap(map, len);
	return cold;
}

static int read_chunk(int fd, uint8_t *buf, off_t at, size_t *ret_len)
{
	size_t len = 0;
	ssize_t n;

	/* O_DIRECT: only the last read of a file may be short, and no other may begin in the middle of a block. */
	while (len < CHUNK_BYTES) {
		n = pread(fd, buf + len, CHUNK_BYTES - len, at + (off_t)len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		len += (size_t)n;
		if (n == 0 || len % DIRECT_ALIGN_BYTES)
			break;
	}
	*ret_len = len;
	return 0;
}

static int digest_chunks(int fd, enum sha256_source source, struct sha256_pace *pace, const atomic_bool *stop,
			 EVP_MD_CTX *ctx, uint8_t *buf, uint64_t *ret_size_bytes)
{
	bool direct = fcntl(fd, F_GETFL) & O_DIRECT, cold = false;
	size_t len = CHUNK_BYTES;
	struct stat st;
	off_t at = 0;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* Without O_DIRECT the cache is asked to let go first: what is clean and not mapped is read from the disk. */
	if (source == SHA256_OF_DISK && !direct)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);	/* else the cache is what we see */
	for (; len == CHUNK_BYTES; at += (off_t)len) {
		if (stop && atomic_load(stop))
			return -ECANCELED;
		if (!direct)
			cold = at < st.st_size && is_cold(fd, at, st.st_size - at < CHUNK_BYTES ? (size_t)(st.st_size - at) : CHUNK_BYTES);
		r = read_chunk(fd, buf, at, &len);
		if (r == -EINVAL && direct) {	/* opened so, but not read so: a filesystem that has it for some files only */
			if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT) < 0)
				return -errno;
			direct = false;
			r = read_chunk(fd, buf, at, &len);
		}
		if (r < 0)
			return r;
		if (!EVP_DigestUpdate(ctx, buf, len))
			return -EIO;
		if (cold)
			(void)posix_fadvise(fd, at, (off_t)len, POSIX_FADV_DONTNEED);	/* only a hint */
		keep_pace(pace, len);
	}
	*ret_size_bytes = (uint64_t)at;
	return 0;
}

int sha256_file(int fd, enum sha256_source source, struct sha256_pace *pace, const atomic_bool *stop,
		uint8_t ret_sha256[SHA256_BYTES], uint64_t *ret_size_bytes)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint64_t size_bytes = 0;
	void *buf = NULL;
	int r;

	if (!ctx || posix_memalign(&buf, DIRECT_ALIGN_BYTES, CHUNK_BYTES) != 0) {
		r = -ENOMEM;
		goto out;
	}
	r = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) ? 0 : -EIO;
	if (r == 0)
		r = digest_chunks(fd, source, pace, stop, ctx, buf, &size_bytes);
	if (r == 0 && !EVP_DigestFinal_ex(ctx, ret_sha256, NULL))
		r = -EIO;
	if (r == 0 && ret_size_bytes)
		*ret_size_bytes = size_bytes;
out:
	free(buf);
	EVP_MD_CTX_free(ctx);
	return r;
}

void sha256_format(const uint8_t sha256[SHA256_BYTES], char ret_text[SHA256_TEXT_BYTES])
{
	for (int i = 0; i < SHA256_BYTES; i++)
		sprintf(ret_text + 2 * i, "%02x", sha256[i]);
}

void sha256_print_line(FILE *out, const uint8_t sha256[SHA256_BYTES], const char *path)
{
	char text[SHA256_TEXT_BYTES];

	sha256_format(sha256, text);
	fprintf(out, "%s%s  ", path[strcspn(path, "\n\r\\")] ? "\\" : "", text);
	for (; *path; path++) {
		switch (*path) {
		case '\n': fputs("\\n", out); break;
		case '\r': fputs("\\r", out); break;
		case '\\': fputs("\\\\", out); break;
		default: fputc(*path, out);
		}
	}
	fputc('\n', out);
}
