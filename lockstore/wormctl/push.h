/* The subcommands of `wormctl push` that have a page of their own. */
#ifndef WORMFS_WORMCTL_PUSH_H
#define WORMFS_WORMCTL_PUSH_H

#include "lockstore/wormctl/wormctl.h"

extern const struct command command_push_status, command_push_list, command_push_retry, command_push_check, command_push_setup,
	command_push_reconcile;

#endif
