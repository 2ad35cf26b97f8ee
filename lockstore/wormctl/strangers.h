/* What the rows of the ledger cannot tell: locked files that it does not know, and records that two files carry. The MAC does
 * not bind a record to its file, since a copy made by a backup must stay locked. */
#ifndef WORMFS_WORMCTL_STRANGERS_H
#define WORMFS_WORMCTL_STRANGERS_H

#include "lockstore/wormctl/verifier.h"

/* The record on an O_PATH descriptor. -errno: it cannot be read at all. */
int strangers_read_record(const struct subject *subject, int fd, struct verify_record *ret);

/* It carries the record that `rec` was, however often it was extended since. */
bool strangers_is_copy(const struct subject *subject, int fd, const struct lock_record *rec);

/* Goes through the ledger for its records (8 bytes of memory each), then through the tree at subject->path for files that
 * carry one. As verifier_run(). */
int strangers_find(struct subject *subject, const struct verifier_options *options, struct verifier_totals *totals,
		   const struct verifier_cursor *cursor, struct failure *f);

#endif
