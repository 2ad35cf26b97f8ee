/* The one share that a command is about: of PATH, of --state-dir, of the working directory, or the one that is mounted. */
#ifndef WORMFS_WORMCTL_ONE_SHARE_H
#define WORMFS_WORMCTL_ONE_SHARE_H

#include "lockstore/wormctl/share.h"

struct one_share {
	struct share *share;
	char *path;		/* of PATH, from the share's root; NULL: all of it */
	/* its own */
	struct share given;
	struct shares *shares;
};

/* path NULL: none was given. The caller ends it with one_share_fini(), also after an error. */
int one_share_find(struct one_share *one, const struct wormctl *ctl, const char *path, struct failure *f);
void one_share_fini(struct one_share *one);

#endif
