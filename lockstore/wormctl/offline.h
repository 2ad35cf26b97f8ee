/* What can be said about a share when no daemon runs: from the records on its files and from the ledger. */
#ifndef WORMFS_WORMCTL_OFFLINE_H
#define WORMFS_WORMCTL_OFFLINE_H

#include <jansson.h>

#include "lockstore/wormctl/paths.h"

/* Keeps the ledger and the key of the share that was asked last. */
struct offline;

int offline_open(const struct wormctl *ctl, struct offline **ret_offline);
void offline_close(struct offline *offline);

/* As user.worm.explain, with "enforced":false and nothing in "refused". Locked if record or ledger say so.
 * An error: neither could be read. */
int offline_explain(struct offline *offline, const struct target *target, json_t **ret_file, struct failure *f);

/* {"state_dir","mounted":false,"ledger":{"state":"ok|missing|damaged","locked":N,"pending":N},
 *  "problems":[text,...]}. NULL: out of memory. */
json_t *offline_health(struct share *share);

/* "settling", "retained", "expired" or "appendable": what user.worm.state would say of a locked file. */
const char *record_state_name(const struct lock_record *rec, int64_t now_s);

#endif
