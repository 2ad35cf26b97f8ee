/* The switches of the archive, one table: what a profile sets, what --set and the control port change. Values are guarded by
 * who owns the struct. */
#ifndef WORMFS_SETTINGS_H
#define WORMFS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting_trigger { TRIGGER_OPEN, TRIGGER_READ, TRIGGER_EXPLICIT };
enum setting_answer { ANSWER_ERRNO, ANSWER_BLOCK, ANSWER_BLOCK_ERRNO };
enum setting_flag { FLAG_NONE = 0, FLAG_FINAL = 1, FLAG_REPLICA = 2, FLAG_BOTH = 3 };
enum setting_size { SIZE_LOGICAL, SIZE_ZERO, SIZE_STUB };
enum setting_blocks { BLOCKS_0, BLOCKS_1, BLOCKS_STUB, BLOCKS_FULL };
enum setting_seek { SEEK_SAYS_DATA, SEEK_SAYS_HOLE, SEEK_NOT_IMPLEMENTED };
enum setting_access { ACCESS_NORMAL, ACCESS_DENIED, ACCESS_RECALL };
enum setting_when { WHEN_CLOSE, WHEN_EXPLICIT };
enum setting_full { FULL_ERRNO, FULL_WAIT, FULL_OVER };
enum setting_release { RELEASE_ARCHIVED, RELEASE_PRESSURE, RELEASE_EXPLICIT };
enum { XATTRS_EOS = 1, XATTRS_DMF = 2, XATTRS_LUSTRE = 4, XATTRS_WORMFS = 8, XATTRS_DOS = 16 };

struct settings {
	char profile[24];
	int trigger, answer;
	int read_errno, nonblock_errno, lost_errno, damaged_errno, unavailable_errno;	/* positive; nonblock 0: as others */
	int64_t block_ns;
	int flag, st_size, st_blocks, seek;
	int access;
	unsigned xattrs;
	bool dotfiles;
	int archive_when, release_when, cache_full;
	int64_t archive_idle_ns, archive_delay_ns, recall_delay_ns, replica_delay_ns, release_delay_ns, keep_ns;
	bool replica, verify, recall_any;
	uint64_t preview_bytes;
	int64_t drives, queue_limit, tape_files;
	int64_t mount_ns, seek_ns, rewind_ns;
	uint64_t rate_bytes_s;
	uint64_t cache_bytes, total_bytes, free_bytes;	/* 0: no limit; statvfs as the store's */
	bool has_free;
};

#define SETTING_VALUE_BYTES 128
#define SETTING_ERROR_BYTES 256

void settings_init(struct settings *s);	/* profile eth-lts */
/* -ENOENT, -EINVAL, and one line. */
int settings_set(struct settings *s, const char *key, const char *value, char error[SETTING_ERROR_BYTES]);
int settings_get(const struct settings *s, const char *key, char *ret_value, size_t len_bytes);
int settings_each(const struct settings *s, int (*fn)(void *arg, const char *key, const char *value, const char *takes, const char *help),
		  void *arg);
int settings_profile(struct settings *s, const char *name);
int settings_each_profile(int (*fn)(void *arg, const char *name, const char *help), void *arg);

/* "5s", "100ms", "2m", "1h", "1d", "0"; a bare number is seconds, with a fraction. -EINVAL. */
int settings_parse_duration(const char *text, int64_t *ret_ns);
/* "EIO", or a number; positive. -EINVAL. */
int settings_parse_errno(const char *text, int *ret_errno);
const char *settings_errno_name(int number);	/* "EIO"; the number for what has no name */

#endif
