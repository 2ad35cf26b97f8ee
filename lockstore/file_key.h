/* Which file: the identity that survives rename, remount and a lost path.
 *
 * The bytes are the lower file handle (name_to_handle_at: 4 bytes type, then the handle) or, where the
 * lower filesystem has none, st_dev, st_ino and birth time. Two keys are the same file when and only
 * when length and bytes are equal. Plain values: copy them, compare them, store them as a blob. */
#ifndef WORMFS_FILE_KEY_H
#define WORMFS_FILE_KEY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FILE_KEY_MAX_BYTES 136	/* 4 + MAX_HANDLE_SZ (128), rounded to 8. Source: linux/exportfs.h */

struct file_key {
	uint8_t len;
	uint8_t bytes[FILE_KEY_MAX_BYTES];
};

static inline bool file_key_equal(const struct file_key *a, const struct file_key *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

#endif
