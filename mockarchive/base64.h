/* Base64 (RFC 4648) of names that are no UTF-8. Pure. */
#ifndef WORMFS_MOCKARCHIVE_BASE64_H
#define WORMFS_MOCKARCHIVE_BASE64_H

#include <stddef.h>
#include <sys/types.h>

/* The caller frees it; NULL: no memory. */
char *base64_encode(const void *bytes, size_t len_bytes);
/* Bytes in `buf`, or -EINVAL: no Base64, or more than size_bytes. */
ssize_t base64_decode(const char *text, void *buf, size_t size_bytes);

#endif
