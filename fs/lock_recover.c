/* After a crash: what an earlier daemon left in the journal. A slot that says LOCKED, or whose file has
 * a record, is carried into the ledger; a writer that never closed leaves an interrupted file. */
#include "fs/lock.h"

#include <errno.h>

#include "fs/descriptor.h"
#include "fs/lock_private.h"
#include "fs/rule.h"
#include "fs/log.h"
#include "fs/trail.h"


struct recovery {
	struct wormfs *fs;
	unsigned locked, interrupted;
};

static int recover_one(void *arg, journal_slot slot, enum journal_state state, const struct file_key *key,
		       const char *path, const struct lock_record *rec)
{
	struct recovery *recovery = arg;
	struct wormfs *fs = recovery->fs;
	struct inode *ino = NULL;
	struct file_key found;
	struct stat st;
	int64_t btime_ns;
	int fd, r;

	r = *path ? inode_walk(fs, path, &ino) : -ENOENT;
	if (r == 0 && (inode_key(fs, ino, &found) < 0 || !file_key_equal(&found, key))) {
		inode_put(fs, ino);
		ino = NULL;
		r = -ENOENT;
	}
	if (r < 0) {	/* unlinked or renamed since: a rename would have been noted, had it locked the file */
		if (state == JOURNAL_LOCKED)
			log_warning("'%s' was being locked when the daemon ended, and is not there under this name; "
				    "if it was renamed below the mount run wormctl reindex", path);
		journal_free(fs->journal, slot);
		return 0;
	}
	pthread_mutex_lock(&ino->lock);
	ino->suspect = true;	/* a difference is a writer that went on after its first close: settled below */
	lock_load_locked(fs, ino);
	ino->suspect = false;
	fd = descriptor_get(fs, ino);
	r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
	descriptor_put(fs, ino, fd);
	ino->slot = slot;
	if (r < 0 || (ino->phase != LOCK_COMMITTED && ino->phase != LOCK_NONE)) {
		ino->slot = JOURNAL_NO_SLOT;	/* unreadable: said already; the slot is asked again next time */
	} else if (ino->phase == LOCK_COMMITTED) {
		/* Programs may still hold what the dead mount gave them, and passthrough still works. */
		recovery->locked++;
		trail_commit_locked(fs, ino, path, "found locked after the daemon was killed", 0);
		ino->phase = LOCK_CLOSING;
		ino->mappable = true;
		atomic_fetch_add(&fs->n_closing, 1);
		if (lock_settle_locked(fs, ino) < 0)
			lock_linger_locked(fs, ino);
	} else if (st.st_size > 0 && st.st_ctim.tv_sec >= fs->last_mounted_s) {	/* else nothing was written to it */
		recovery->interrupted++;
		ino->released_s = clock_source_now_s(fs->clock);
		/* Not its close, but there was none. */
		ino->seal_failed = rule_or_mount_locked(fs, ino, &st)->set.commit != COMMIT_IDLE;
		lock_put_pending_locked(fs, ino);
		ino->seal_failed = false;
		rule_forget_locked(ino);
	} else {
		journal_free(fs->journal, slot);
		ino->slot = JOURNAL_NO_SLOT;
	}
	pthread_mutex_unlock(&ino->lock);
	inode_put(fs, ino);
	return 0;
}

int lock_recover(struct wormfs *fs)
{
	struct recovery recovery = { .fs = fs };
	int r;

	r = journal_each(fs->journal, recover_one, &recovery);
	if (recovery.locked || recovery.interrupted)
		log_info("the last daemon did not end cleanly: %u locks carried into the ledger, %u interrupted writers "
			 "left files that are not locked (user.worm.state shows them as pending)",
			 recovery.locked, recovery.interrupted);
	return r;
}
