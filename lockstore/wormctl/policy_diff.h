/* What differs between two files of rules. */
#ifndef WORMFS_WORMCTL_POLICY_DIFF_H
#define WORMFS_WORMCTL_POLICY_DIFF_H

#include <stdbool.h>

#include "lockstore/policy.h"

/* Prints it; EXIT_NO when they differ, EXIT_YES when not. */
int policy_diff_print(const struct policy *old, const struct policy *new, bool json);

#endif
