/* A section of limits as JSON: the daemon's answer, and what wormctl makes of the ledger's rows. */
#ifndef WORMFS_LIMIT_JSON_H
#define WORMFS_LIMIT_JSON_H

#include <jansson.h>

#include "lockstore/limit.h"

/* {"section","section_encoded" (control_path_encode, where the bytes are no UTF-8),"state","until":RFC3339|null,"grace":seconds,"changes":N,
 *  "bytes":{"used","since" (over soft, seconds since 1970 by the clock of retention; 0: not),"advisory","soft","hard"}, "files":{...}}; null: no such limit. NULL: out of memory. */
json_t *limit_json(const struct limit_section *section, const struct limit_usage *usage, int64_t now_s);

#endif
