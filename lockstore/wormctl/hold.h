/* What hold.c and hold_show.c share. */
#ifndef WORMFS_WORMCTL_HOLD_H
#define WORMFS_WORMCTL_HOLD_H

#include "lockstore/wormctl/wormctl.h"

/* argv[0] is "list" or "show". An exit code. */
int run_hold_show(struct wormctl *ctl, int argc, char **argv);

#endif
