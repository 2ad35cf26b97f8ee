/* The journal of open writers: which files are being written, or are locked but not yet in the ledger.
 *
 * A file in the state directory, mapped shared: a note costs a copy into memory and no system call, and
 * what is in the page cache survives SIGKILL of the daemon. Slots of JOURNAL_SLOT_BYTES; the file grows
 * by JOURNAL_CHUNK_SLOTS and each chunk is mapped once, so a slot never moves. A slot's state byte is
 * written last (release), so that a kill in the middle leaves it free. Not a defence against a power
 * cut: then `wormctl reindex` finds the locks on the files.
 * Any thread may call; one mutex guards the list of free slots, each slot belongs to who added it. */
#ifndef WORMFS_JOURNAL_H
#define WORMFS_JOURNAL_H

#include <stdint.h>

#include "lockstore/file_key.h"
#include "lockstore/record.h"

#define JOURNAL_FILE "writers.journal"
#define JOURNAL_SLOT_BYTES 1024
#define JOURNAL_CHUNK_SLOTS 256
#define JOURNAL_MAX_SLOTS 65536		/* 64 MiB, the first is the header; -ENOSPC beyond */

enum journal_state {
	JOURNAL_FREE = 0,
	JOURNAL_WRITING = 1,	/* a writer is open; its close has not been acknowledged */
	JOURNAL_LOCKED = 2,	/* the record is on the file; the ledger may not have it yet */
};

struct journal;
typedef uint32_t journal_slot;
#define JOURNAL_NO_SLOT UINT32_MAX

/* Keeps what an earlier daemon left: read it with journal_each(), then free those slots.
 * -EBADMSG: not a journal or of another version. -EBUSY: another daemon has it open. -ENOSPC etc. */
int journal_open(const char *state_dir, struct journal **ret_journal);
void journal_close(struct journal *journal);

/* A path longer than the slot (816 bytes) is kept as "" (the file is then found by its key).
 * -ENOSPC, -EIO: the file cannot grow; the caller refuses the writer. */
int journal_add(struct journal *journal, const struct file_key *key, const char *path, journal_slot *ret_slot);
/* The path may have changed since journal_add(): renamed while it was written. NULL: keep. */
void journal_mark_locked(struct journal *journal, journal_slot slot, const struct lock_record *rec, const char *path);
void journal_free(struct journal *journal, journal_slot slot);	/* JOURNAL_NO_SLOT: nothing */

typedef int (*journal_fn)(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
			  const char *path, const struct lock_record *rec);
/* At start-up, before slots are added: a slot that its owner is changing meanwhile may be shown half
 * changed. `rec` is NULL unless LOCKED. fn may free the slot it is shown; a non-zero return ends the walk
 * and is returned. */
int journal_each(struct journal *journal, journal_fn fn, void *arg);

#endif
