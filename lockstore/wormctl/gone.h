/* Locked files that only the audit log knows: neither the ledger nor the share has them any more. */
#ifndef WORMFS_WORMCTL_GONE_H
#define WORMFS_WORMCTL_GONE_H

#include "lockstore/wormctl/verifier.h"

/* As strangers_find(). */
int gone_find(struct subject *subject, const struct verifier_options *options, struct verifier_totals *totals, struct failure *f);

#endif
