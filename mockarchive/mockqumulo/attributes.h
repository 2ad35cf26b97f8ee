/* A file as the interface shows it. */
#ifndef WORMFS_ATTRIBUTES_H
#define WORMFS_ATTRIBUTES_H

#include "mockarchive/mockqumulo/mock.h"

/* The whole object; with `lock` where that was asked for. NULL: out of memory. */
json_t *attributes_json(struct exchange *x, const struct found *found, bool with_lock);
/* The ETag of a reply about this file. */
void attributes_etag(struct exchange *x, const struct found *found);
/* If-Match is absent or matches; else the request was refused. */
bool attributes_match(struct exchange *x, const struct found *found);
/* A regular file whose lock is in force. */
bool attributes_locked(const struct exchange *x, const struct found *found);
/* What a directory has below it, at once. */
uint64_t attributes_children(const struct found *found);

#endif
