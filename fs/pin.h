/* Pins: the mark on every directory above a locked file, so that the question "may this directory be
 * renamed?" is one look at the directory itself, also without the database, also for locks that another
 * gateway set. Whoever has the pin has pinned parents. */
#ifndef WORMFS_PIN_H
#define WORMFS_PIN_H

#include <stdbool.h>

#include "fs/inode.h"
#include "fs/wormfs.h"

/* Before a file is locked: every directory that is known to name it. rename_lock held for reading. */
int pin_parents(struct wormfs *fs, struct inode *ino);

/* -EPERM: a locked file lies below; 0: none does, and a pin left over is gone. -EIO: nobody can say.
 * rename_lock held for writing. */
int pin_check_rename(struct wormfs *fs, struct inode *dir);

/* True when the directory has the pin. */
bool pin_is_set(struct wormfs *fs, struct inode *dir);

#endif
