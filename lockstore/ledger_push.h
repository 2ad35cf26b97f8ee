/* Locks that a cluster is to have as well: what was sent, what waits, what failed. Part of the row of a file.
 *
 * What waits is not written down but follows from the row: an end later than the one that was proven, a hold that was not, a
 * release that somebody asked for. So what is put, extended, held or released is waiting from the same transaction on, and what
 * failed is waiting still. Times to try again are wall time in milliseconds. Any thread. */
#ifndef WORMFS_LEDGER_PUSH_H
#define WORMFS_LEDGER_PUSH_H

#include "lockstore/ledger.h"

#define LEDGER_PUSH_TEXT_BYTES 256

/* SENT: a request was, or is about to be; no proof came. */
enum ledger_pushed_hold { LEDGER_HOLD_NOT_PUSHED, LEDGER_HOLD_PUSHED, LEDGER_HOLD_SENT };

enum ledger_push_state {
	LEDGER_PUSH_PENDING,	/* not proven, or something is new since */
	LEDGER_PUSH_LOCKED,	/* proven */
	LEDGER_PUSH_FAILED,	/* refused; tried again now and then */
	LEDGER_PUSH_SETTLED,	/* nothing can be sent, push_error says why; not tried again before something changes */
};

struct ledger_push_row {
	int64_t id;
	struct file_key key;
	const char *path;
	int64_t until_s;
	uint16_t rule;			/* of the record */
	enum ledger_push push;
	bool held;
	bool has_pushed_until;
	int64_t pushed_until_s;		/* proven, or settled */
	enum ledger_pushed_hold pushed_hold;
	bool release;
	bool waits;
	enum ledger_push_state state;
	int64_t due_ms;
	unsigned tries;
	int status;			/* of the last answer, 0: none came */
	const char *class, *error;	/* NULL: none */
};
typedef int (*ledger_push_fn)(void *arg, const struct ledger_push_row *row);

struct ledger_push_cursor {
	int64_t due_ms, id;
};
#define LEDGER_PUSH_CURSOR_START ((struct ledger_push_cursor){ INT64_MIN, INT64_MIN })

#define LEDGER_PUSH_PAGE 512
/* At most LEDGER_PUSH_PAGE rows that wait and are due at now_ms, behind *cursor, which is moved; the longest due first.
 * fn may change the ledger; its non-zero return ends the page and is returned. *ret_n: how many there were. */
int ledger_push_due(struct ledger *ledger, int64_t now_ms, struct ledger_push_cursor *cursor, ledger_push_fn fn, void *arg,
		    unsigned *ret_n);
/* When the first row that waits is due. -ENOENT: none waits. */
int ledger_push_next_due(struct ledger *ledger, int64_t *ret_due_ms);

/* Lists in order of id, at most `limit` rows with ids above after_id (INT64_MIN: all). state < 0: all that are to be pushed. */
int ledger_push_list(struct ledger *ledger, int state, int64_t after_id, unsigned limit, ledger_push_fn fn, void *arg);
/* -ENOENT: no row. */
int ledger_push_find(struct ledger *ledger, const struct file_key *key, ledger_push_fn fn, void *arg);
/* What a row says in a word: "pending", "locked", "failed"; "off": it is not to be pushed. */
const char *ledger_push_state_name(const struct ledger_push_row *row);
int ledger_push_count(struct ledger *ledger, uint64_t *ret_waiting, uint64_t *ret_failed);

/* Before a hold is sent: from here on its release has to be sent, too. */
int ledger_push_sending_hold(struct ledger *ledger, const struct file_key *key);

struct ledger_push_result {
	bool until;		/* until_s is proven */
	int64_t until_s;
	bool hold, release;	/* likewise the hold, or that there is none */
	bool keep_hold;		/* a release was asked for, and is not sent: the hold stands for a lock without an end */
};
/* Proven. The row may be gone meanwhile: 0. */
int ledger_push_done(struct ledger *ledger, const struct file_key *key, const struct ledger_push_result *result);
/* until_s cannot be sent, and why; what else waits goes on waiting. */
int ledger_push_settle(struct ledger *ledger, const struct file_key *key, int64_t until_s, const char *error);
/* Not done. state: PENDING or FAILED. */
int ledger_push_failed(struct ledger *ledger, const struct file_key *key, enum ledger_push_state state, int64_t due_ms, unsigned tries, int status,
		       const char *class, const char *error);
/* Its rule says that it is not pushed. */
int ledger_push_unwanted(struct ledger *ledger, const struct file_key *key);
/* This file is due now, tries are forgotten; one that was not to be pushed is from now on. all: also what was proven is asked for
 * and, where the cluster has it no more, sent again. -ENOENT: no row. */
int ledger_push_again(struct ledger *ledger, const struct file_key *key, bool all);
/* Likewise all that failed. */
int ledger_push_retry(struct ledger *ledger, uint64_t *ret_n);
/* Who steps the system's date back leaves rows that are due in a far future: those beyond max_due_ms are due now. */
int ledger_push_not_beyond(struct ledger *ledger, int64_t max_due_ms);

#endif
