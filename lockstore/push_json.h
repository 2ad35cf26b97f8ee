/* What a row says of its way to a cluster, as JSON: for the daemon and for wormctl. */
#ifndef WORMFS_PUSH_JSON_H
#define WORMFS_PUSH_JSON_H

#include <jansson.h>

#include "lockstore/ledger_push.h"

/* {"state":"pending|locked|failed|off","until" and "hold" (what the cluster has),"want","want_hold","status","error_class","error",
 *  "attempts","next_try"}. NULL: out of memory. */
json_t *push_row_json(const struct ledger_push_row *row);

#endif
