/* The files of an audit log, read: AUDIT_FILE.1, .2 and so on, then AUDIT_FILE, one chain through all of them. A
 * daemon may be writing the last one meanwhile. */
#ifndef WORMFS_AUDIT_FILES_H
#define WORMFS_AUDIT_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstore/audit_line.h"

struct audit_end {
	struct audit_link link;		/* of the last line; seq 0 and AUDIT_NO_HASH: there is none */
	uint64_t whole_bytes;		/* of AUDIT_FILE: what comes after is no whole line */
	bool damaged;			/* the last line does not verify */
	unsigned next_number;		/* for the next file that is rotated away */
};
/* Where the log ends. -ENOENT never: then it is empty. */
int audit_files_end(int dir_fd, struct audit_end *ret_end);

struct audit_at {
	const char *file;		/* "audit.log.3" */
	uint64_t line;			/* from 1 */
	uint64_t offset_bytes;
};
/* Every line, without its newline; whole: it had one. A non-zero return of fn ends the walk and is returned.
 * `where`: a state directory, or one file, such as an export. -ENOENT: there is no log in the directory. */
typedef int (*audit_line_fn)(void *arg, const struct audit_at *at, const char *line, size_t len_bytes, bool whole);
int audit_files_each(const char *where, audit_line_fn fn, void *arg);

enum audit_finding {
	AUDIT_NOT_A_LINE,		/* what is there is none of our lines */
	AUDIT_CHANGED,			/* its hash is not that of its bytes */
	AUDIT_MISSING,			/* the number is higher than the next one: lines before it are gone */
	AUDIT_REORDERED,		/* the number is lower: it stood elsewhere, or twice */
	AUDIT_UNCHAINED,		/* the number is right, but it does not follow this line before it */
	AUDIT_CUT,			/* the end is missing: `head` knows later lines, or another last one */
	AUDIT_TORN,			/* a last line without its end: a kill or a power cut. Not counted in `findings` */
};
struct audit_verified {
	uint64_t lines, findings;
	uint64_t first_seq, last_seq;	/* 0: no line */
	char last_hash[AUDIT_HASH_CHARS + 1];
	bool torn;
};
typedef void (*audit_finding_fn)(void *arg, enum audit_finding finding, const struct audit_at *at, uint64_t seq,
				 const char *sentence);
/* The head of the chain as somebody remembered it: the ledger, a line of the system's log, an anchor file. */
struct audit_head {
	uint64_t seq;
	char hash[AUDIT_HASH_CHARS + 1];
};
#define AUDIT_META_HEAD "audit_head"	/* in the ledger: ledger_meta_get() */
#define AUDIT_META_OFF "audit_off"	/* likewise: the head when the share was mounted without a log last */
/* "SEQ HASH" or "SEQ:HASH", what follows is not looked at. -EINVAL. */
int audit_head_parse(const char *text, struct audit_head *ret_head);

/* Walks the whole chain. first_seq: the line it should begin with: 1, unless older files were moved away; 0: any.
 * Each of the heads must be in it. -errno: could not. */
int audit_files_verify(const char *where, uint64_t first_seq, const struct audit_head *heads, size_t nheads,
		       audit_finding_fn fn, void *arg, struct audit_verified *ret_verified);
/* The same, and gives each line that is one of ours and stands where it belongs, after what was found about it, to `each`;
 * a non-zero return of `each` ends the walk and is returned. */
int audit_files_read(const char *where, uint64_t first_seq, const struct audit_head *heads, size_t nheads, audit_finding_fn fn,
		     audit_line_fn each, void *arg, struct audit_verified *ret_verified);

#endif
