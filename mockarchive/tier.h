/* What fs/ tells the archive of this process (ops.h): fs/tier.h filled in, but for start, mounted and stop, which are main.c's. */
#ifndef WORMFS_MOCKARCHIVE_TIER_H
#define WORMFS_MOCKARCHIVE_TIER_H

struct tier;
void tier_init(struct tier *tier);

#endif
