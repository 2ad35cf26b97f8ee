/* SHA-256 of the data of a file, for the daemon's worker, for verify and for export. Any thread; a pace may
 * be shared by several. */
#ifndef WORMFS_SHA256_H
#define WORMFS_SHA256_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SHA256_BYTES 32
#define SHA256_TEXT_BYTES 65	/* lower case hexadecimal, and a NUL */

/* So many bytes a second, for all who share it together. */
struct sha256_pace {
	pthread_mutex_t lock;
	uint64_t bytes_a_second;	/* constant; 0: no limit */
	int64_t free_at_ns;		/* lock; CLOCK_MONOTONIC: when the next chunk may be read */
};
void sha256_pace_init(struct sha256_pace *pace, uint64_t bytes_a_second);
void sha256_pace_fini(struct sha256_pace *pace);

/* How the data is read. Neither leaves pages in the cache that were not there before, so far as the kernel can tell. */
enum sha256_source {
	SHA256_OF_DATA,	/* as it is, the page cache included: it was written a moment ago */
	SHA256_OF_DISK,	/* what is on the disk, where the filesystem has O_DIRECT: a page in the cache would hide
			 * a bit that flipped below it */
};

/* Opens again what `fd` (O_PATH is enough) is open on, for sha256_file(): for reading, without a change of the access
 * time where that is permitted. The caller closes what is returned; -errno. /proc must be there. */
int sha256_open(int fd, enum sha256_source source);

/* From the first byte to the end, which is returned, too: a file that was cut has fewer bytes than its record says.
 * pace, stop and ret_size_bytes may be NULL; *stop is looked at between two chunks of 1 MiB: -ECANCELED.
 * -EIO etc.: cannot be read. */
int sha256_file(int fd, enum sha256_source source, struct sha256_pace *pace, const atomic_bool *stop,
		uint8_t ret_sha256[SHA256_BYTES], uint64_t *ret_size_bytes);

/* A line of a list that `sha256sum -c` reads. A name with a newline, a carriage return or a backslash has them escaped, and a
 * backslash before the line. Source: coreutils manual, "md5sum invocation" (9.1 and newer read \\r). */
void sha256_print_line(FILE *out, const uint8_t sha256[SHA256_BYTES], const char *path);

void sha256_format(const uint8_t sha256[SHA256_BYTES], char ret_text[SHA256_TEXT_BYTES]);

#endif
