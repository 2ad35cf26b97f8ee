/* crash write DIR TAG THREADS ACKS   writes files until the filesystem goes away; after each close(2) (or
 *                                   rename) that returned 0 it appends "NAME SEED SIZE" to the file ACKS
 * crash verify DIR ACKS             compares each acknowledged file with what was written, and tries to open
 *                                   it for writing; prints one JSON object
 *
 * The contents follow from the seed, so nothing but ACKS is needed afterwards. ACKS must lie elsewhere. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_BYTES 70000

static const char *dir, *tag;
static int acks;

static void fill(uint64_t seed, char *buf, size_t len)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[i] = x >> 24;
	}
}

static int write_all(int fd, const char *buf, size_t len, size_t step)
{
	while (len > 0) {
		ssize_t n = write(fd, buf, len < step ? len : step);

		if (n < 0)
			return -1;
		buf += n;
		len -= n;
	}
	return 0;
}

/* One file, in one of the ways that programs write. 0 when every call returned 0. */
static int write_file(int kind, const char *path, const char *temp, const char *buf, size_t len)
{
	const char *name = kind == 4 ? temp : path;
	int fd = open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644), second;

	if (fd < 0)
		return -1;
	switch (kind) {
	case 0:					/* at once */
	case 4:					/* under a staging name */
		if (write_all(fd, buf, len, len) < 0)
			goto fail;
		break;
	case 1:					/* in pieces */
		if (write_all(fd, buf, len, 1000) < 0)
			goto fail;
		break;
	case 2:					/* and synced */
		if (write_all(fd, buf, len, len) < 0 || fsync(fd) < 0)
			goto fail;
		break;
	case 3: {				/* through a mapping */
		char *map;

		if (ftruncate(fd, len) < 0)
			goto fail;
		map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			goto fail;
		memcpy(map, buf, len);
		if (msync(map, len, MS_SYNC) < 0 || munmap(map, len) < 0)
			goto fail;
		break;
	}
	case 5:					/* half before, half after a duplicate was closed */
		second = dup(fd);
		if (second < 0 || write_all(fd, buf, len / 2, len) < 0 || close(second) < 0 ||
		    write_all(fd, buf + len / 2, len - len / 2, len) < 0)
			goto fail;
		break;
	}
	if (close(fd) < 0)
		return -1;
	return kind == 4 ? rename(temp, path) : 0;
fail:
	close(fd);
	return -1;
}

static void *writer(void *arg)
{
	long thread = (long)arg;
	char path[4096], temp[4096], line[256], *buf = malloc(SIZE_MAX_BYTES);

	for (long n = 0; buf; n++) {
		uint64_t seed = (strtoull(tag, NULL, 36) * 64 + thread) * 1000003 + n;
		size_t len = 1 + seed * 2654435761u % (n % 7 ? 5000 : SIZE_MAX_BYTES - 1);
		int bytes;

		fill(seed, buf, len);
		snprintf(path, sizeof(path), "%s/d%ld/%s-%ld-%ld", dir, thread, tag, thread, n);
		snprintf(temp, sizeof(temp), "%s/d%ld/%s-%ld-%ld.part", dir, thread, tag, thread, n);
		if (write_file(n % 6, path, temp, buf, len) < 0) {
			if (errno == ENOSPC)
				fprintf(stderr, "crash: %s: no space\n", path);
			break;
		}
		bytes = snprintf(line, sizeof(line), "d%ld/%s-%ld-%ld %llu %zu\n", thread, tag, thread, n,
				 (unsigned long long)seed, len);
		if (write(acks, line, bytes) != bytes)
			abort();
	}
	free(buf);
	return NULL;
}

static int run_writers(long threads)
{
	pthread_t t[64];
	char path[4096];

	for (long i = 0; i < threads && i < 64; i++) {
		snprintf(path, sizeof(path), "%s/d%ld", dir, i);
		if (mkdir(path, 0755) < 0 && errno != EEXIST) {
			perror(path);
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	for (long i = 0; i < threads && i < 64; i++)
		if (pthread_create(&t[i], NULL, writer, (void *)i))
			return 1;
	for (long i = 0; i < threads && i < 64; i++)
		pthread_join(t[i], NULL);
	return 0;
}

static int verify(const char *acks_path)
{
	FILE *f = fopen(acks_path, "r");
	char name[512], path[4096], first[1024] = "", *want = malloc(SIZE_MAX_BYTES), *have = malloc(SIZE_MAX_BYTES + 1);
	unsigned long long seed;
	long files = 0, lost = 0, differ = 0, writable = 0, other = 0;
	size_t len;

	if (!f || !want || !have)
		return 2;
	while (fscanf(f, "%511s %llu %zu", name, &seed, &len) == 3) {
		ssize_t n;
		int fd;

		files++;
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			if (!lost++)
				snprintf(first, sizeof(first), "%s: %s", name, strerrorname_np(errno));
			continue;
		}
		n = read(fd, have, SIZE_MAX_BYTES + 1);
		close(fd);
		fill(seed, want, len);
		if ((n < 0 || (size_t)n != len || memcmp(have, want, len)) && !differ++)
			snprintf(first, sizeof(first), "%s: %zd bytes instead of %zu, or other ones", name, n, len);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			close(fd);
			if (!writable++)
				snprintf(first, sizeof(first), "%s: opens for writing", name);
		} else if (errno != EPERM && !other++) {
			snprintf(first, sizeof(first), "%s: refused with %s", name, strerrorname_np(errno));
		}
	}
	printf("{\"files\": %ld, \"lost\": %ld, \"differ\": %ld, \"writable\": %ld, \"other\": %ld, \"first\": \"%s\"}\n",
	       files, lost, differ, writable, other, first);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "write") == 0) {
		dir = argv[2];
		tag = argv[3];
		acks = open(argv[5], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		return acks < 0 ? 2 : run_writers(atol(argv[4]));
	}
	if (argc == 4 && strcmp(argv[1], "verify") == 0) {
		dir = argv[2];
		return verify(argv[3]);
	}
	return 2;
}
