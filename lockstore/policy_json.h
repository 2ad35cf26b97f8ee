/* Rules as JSON, for the daemon's answers and for wormctl alike:
 *   rule: {"name","line","conditions":[text,...],"given":[name,...],"settings":{"commit","retention","min","max","mode",
 *          "append","staging","hold":[...],"digest","push"}}      settings: with everything inherited, as text but for hold
 *   test: {"rule":name or "mount options","line":N,"earlier":[{"rule","why"},...],"earlier_left_out":N,"would":sentence,
 *          "until":text or null,"settings":{...}}
 * Long texts are cut at POLICY_JSON_TEXT_BYTES, so that a rule fits into a line of the control protocol. */
#ifndef WORMFS_POLICY_JSON_H
#define WORMFS_POLICY_JSON_H

#include <jansson.h>

#include "lockstore/policy.h"

#define POLICY_JSON_TEXT_BYTES 1000
#define POLICY_JSON_EARLIER_MAX 100
#define POLICY_OF_MOUNT "mount options"

/* NULL: out of memory. */
json_t *policy_rule_json(const struct policy *policy, size_t i);
json_t *policy_settings_json(const struct policy_settings *set);
/* What would become of this file if it were written at now_s. -EIO etc.: as policy_match(). The caller owns *ret_json. */
int policy_test_json(const struct policy *policy, const struct policy_file *file, int64_t now_s, json_t **ret_json);

#endif
