/* Numbers of bytes as people write them. Pure. */
#ifndef WORMFS_BYTE_SIZE_H
#define WORMFS_BYTE_SIZE_H

#include <stdint.h>

/* "4096", "64K", "1M", "2g": K M G T P of 1024. *ret_end is behind it. -EINVAL: no number, or too large. */
int byte_size_parse(const char *text, uint64_t *ret_bytes, const char **ret_end);

#endif
