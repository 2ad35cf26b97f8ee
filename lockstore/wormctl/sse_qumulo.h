/* An event in the form of Qumulo's change notification: which of its types it is, below a directory that is watched. Pure. */
#ifndef WORMFS_WORMCTL_SSE_QUMULO_H
#define WORMFS_WORMCTL_SSE_QUMULO_H

#include "lockstore/events/event.h"

#define SSE_QUMULO_BYTES (2 * (6 * EVENT_PATH_MAX + 256))

/* Bit i: type i is wanted. -EINVAL: a name that Qumulo does not have. NULL: all. */
int sse_qumulo_filter(const char *names, uint32_t *ret_types);

/* The list of JSON, into SSE_QUMULO_BYTES; 0: nothing that Qumulo tells, or nothing that is wanted. *ret_over: the directory itself is gone. */
size_t sse_qumulo_format(const struct event *ev, const char *dir, bool recursive, uint32_t types, char *out, bool *ret_over);

#endif
