/* The state directory of a share: who it is, its ledger, journal and key, and the locks that keep a
 * second daemon away. */
#ifndef WORMFS_STATE_H
#define WORMFS_STATE_H

#include <limits.h>

#include "fs/wormfs.h"

/* In fs->state_made: what is new, and goes with a start that fails. */
#define STATE_MADE_AUDIT 64
#define STATE_MADE_CLOCK 128
#define STATE_MADE_EVENTS 4096

/* Opens or makes everything in it; fs->root_fd, ns and lower are set. -errno after one line on stderr
 * that says what, which, and what to do. */
int state_open(struct wormfs *fs);
/* `clean`: everything that was locked is in the ledger. */
void state_close(struct wormfs *fs, bool clean);

/* The start failed after all: takes away what state_open() made. Before state_close(). */
void state_undo(struct wormfs *fs);

/* The ledger may lack locks (lost database, power cut): true until a reindex. */
bool state_needs_reindex(struct wormfs *fs);

/* What a person does about fs->ledger_damaged: one line, STATE_DAMAGE_BYTES at most. */
#define STATE_DAMAGE_BYTES (PATH_MAX + 200)
void state_explain_damage(struct wormfs *fs, char text[STATE_DAMAGE_BYTES]);

/* Rebuilds the ledger from the files; one at a time, the next waits. -EIO with fs->ledger_damaged: in vain. */
struct reindex_stats;
int state_reindex(struct wormfs *fs, int (*progress)(void *arg, const struct reindex_stats *so_far), void *arg,
		  struct reindex_stats *ret_stats);

/* One line on stderr: "wormfs: " and the text. For everything that ends in exit 2. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
