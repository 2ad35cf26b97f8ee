/* Do the witnesses of a lock agree? The file itself, the record on it, the row of the ledger and the audit log each say
 * what they know about one locked file; verify_compare() names every disagreement. Pure: no file, no clock; any thread. */
#ifndef WORMFS_VERIFY_H
#define WORMFS_VERIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lockstore/case_name.h"
#include "lockstore/record.h"
#include "lockstore/sha256.h"

enum verify_kind {
	VERIFY_DATA,		/* the digest is another one */
	VERIFY_EDITED,		/* size or modification time */
	VERIFY_REPLACED,	/* another file has its name */
	VERIFY_MISSING,		/* it is nowhere */
	VERIFY_MOVED,		/* it is there, but not under its name */
	VERIFY_STRIPPED,	/* no record on the file, a row in the ledger */
	VERIFY_UNVERIFIABLE,	/* the record does not verify */
	VERIFY_DIFFERS,		/* record and ledger say different things */
	VERIFY_FOREIGN,		/* a good record on the file, no row in the ledger */
	VERIFY_COPIED,		/* the same record on two files */
	VERIFY_UNLOGGED,	/* the audit log covers the time of its lock, and has no line of it */
	VERIFY_LOG,		/* the audit log itself is not as it was written */
	VERIFY_KINDS,
};

/* What the file says. */
struct verify_file {
	enum {
		FILE_THERE, FILE_REPLACED, FILE_MOVED, FILE_MISSING,
		FILE_RESTORED,	/* another file, with a copy of the record: its own row, or the lack of one, speaks for it */
	} where;
	uint64_t size_bytes;	/* FILE_THERE only, like the rest */
	int64_t mtime_ns;
	bool has_digest;	/* it was read */
	uint8_t sha256[SHA256_BYTES];
};

/* What the record on the file says. */
struct verify_record {
	enum {
		RECORD_NOT_ASKED,	/* the filesystem has no xattrs, or the file is not there */
		RECORD_NONE, RECORD_GOOD, RECORD_BAD,
		RECORD_NEWER,		/* good, of a version that we do not know */
	} state;
	struct lock_record rec;		/* RECORD_GOOD */
};

/* What the ledger says. */
struct verify_row {
	bool there;
	struct lock_record rec;
	uint32_t holds;			/* by name */
	bool has_digest;
	uint8_t sha256[SHA256_BYTES];
	bool retained;			/* by now, or a hold */
};

/* The first name of a hold that the ledger and the audit log do not agree about. */
struct verify_hold {
	enum {
		HOLD_AGREES,
		HOLD_NOT_IN_LEDGER,	/* placed by line `seq`, and not released */
		HOLD_RELEASED,		/* by line `seq`, and in the ledger */
		HOLD_NOT_IN_LOG,	/* in the ledger, and the log should have a line of it */
	} what;
	char name[CASE_NAME_MAX_BYTES + 1];
	uint64_t seq;
	unsigned more;			/* names beside it */
};

/* What the audit log says (witness.h). All zero: it is not asked, or it cannot know. */
struct verify_log {
	bool unlogged;			/* there should be a line of the lock */
	bool dated, deleted;
	bool retained;			/* by its date, by now, and it was not deleted */
	int64_t until_s;		/* with `dated`: by its last line, `seq` */
	uint64_t seq;
	struct verify_hold hold;
};

struct verify_words {
	struct verify_file file;
	struct verify_record record;
	struct verify_row row;
	struct verify_log log;
};

#define VERIFY_TEXT_BYTES 400
#define VERIFY_FILE_MAX 7
/* `what` lives until fn returns. */
typedef void (*verify_fn)(void *arg, enum verify_kind kind, const char *what);
/* Calls fn for each disagreement, at most VERIFY_FILE_MAX times. An expired file without a hold that is gone is none: it may have been deleted. What was not
 * read (no digest in the ledger, or has_digest false) is not compared. */
void verify_compare(const struct verify_words *words, verify_fn fn, void *arg);

const char *verify_kind_name(enum verify_kind kind);	/* "data" */
const char *verify_kind_advice(enum verify_kind kind);	/* what to do, half a sentence */

/* The same for copies of a record, however often it was extended or held since; for others but by chance (2^-64) not. */
uint64_t verify_record_identity(const struct lock_record *rec);

#endif
