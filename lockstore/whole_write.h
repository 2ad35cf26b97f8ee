/* write(2) until all is written: it may take a part, or be interrupted. */
#ifndef WORMFS_WHOLE_WRITE_H
#define WORMFS_WHOLE_WRITE_H

#include <stddef.h>

/* 0, or -errno: some of it may be written. Nothing is synced. Any thread. */
int whole_write(int fd, const void *bytes, size_t len_bytes);

#endif
