/* What a reply of a cluster's REST interface says: status, headers and body in, an outcome and the fields that we use
 * out. Pure functions; any thread. Status first, then error_class, never the description; unknown keys, other orders
 * and missing parts are borne. */
#ifndef WORMFS_UPSTREAM_REPLY_H
#define WORMFS_UPSTREAM_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UPSTREAM_REPLY_MAX_BYTES (1 << 20)	/* a longer body is none */
#define UPSTREAM_RETRY_AFTER_MAX_S 60
#define UPSTREAM_ENTRIES_MAX 1000		/* of one page */
#define UPSTREAM_CLASS_BYTES 64
#define UPSTREAM_TEXT_BYTES 200
#define UPSTREAM_ETAG_BYTES 128
#define UPSTREAM_TOKEN_MAX_BYTES 8192

/* What was asked, which decides what a body of 200 must have. */
enum upstream_question { UPSTREAM_LOGIN, UPSTREAM_WHO_AM_I, UPSTREAM_VERSION, UPSTREAM_ATTRIBUTES, UPSTREAM_SET_LOCK,
			 UPSTREAM_ENTRIES, UPSTREAM_RESOLVE };

enum upstream_outcome {
	UPSTREAM_DONE,		/* 2xx, and the body has what was asked for */
	UPSTREAM_UNCLEAR,	/* 2xx, and it has not (no lock, no JSON, cut short, too long): read back */
	UPSTREAM_UNAUTHORISED,	/* 401: log in once and ask again; the client does, so this is the second one */
	UPSTREAM_DENIED,	/* 403: no privilege, or no access to this file */
	UPSTREAM_MISSING,	/* 404: no such name */
	UPSTREAM_CHANGED,	/* 412: not the version that was named: read again, ask again */
	UPSTREAM_IS_LOCKED,	/* 4xx of a locked file: read the lock back */
	UPSTREAM_REFUSED,	/* any other 4xx: the same question will have the same answer */
	UPSTREAM_BUSY,		/* 408, 425, 429: later; retry_after_s says when, if it said so */
	UPSTREAM_AWAY,		/* no answer, 5xx, or a redirect, which is not followed: later */
};

/* A lock, or what is wanted of one. */
struct upstream_lock {
	bool has_until;
	int64_t until_s;	/* whole seconds; of an answer rounded down */
	bool hold;
};

struct upstream_entry {
	char *name, *path, *id, *type;	/* NULL: not said */
};

struct upstream_reply {
	enum upstream_outcome outcome;
	int status;			/* 0: there was no answer */
	bool open;			/* AWAY, UNCLEAR: it may have been carried out all the same */
	uint16_t cut_port;		/* its connection was cut, with all that was on it: the local port; 0: not so */
	char error_class[UPSTREAM_CLASS_BYTES];	/* "": none */
	char text[UPSTREAM_TEXT_BYTES];	/* of a failure: one line for a person, printable; never decided upon */
	unsigned retry_after_s;		/* 0: not said; at most UPSTREAM_RETRY_AFTER_MAX_S */
	int64_t date_s;			/* the cluster's clock; 0: not said */
	char etag[UPSTREAM_ETAG_BYTES];	/* quotes and all; "": none */
	/* ATTRIBUTES, SET_LOCK */
	bool has_lock;
	struct upstream_lock lock;
	char *path, *id, *type, *size, *modification_time, *change_time, *data_revision;	/* NULL: not said */
	unsigned num_links;		/* 0: not said */
	/* LOGIN: a secret; upstream_reply_fini() wipes it */
	char *token;
	/* VERSION: "Qumulo Core 7.2.1" */
	char *version;
	/* WHO_AM_I */
	char *who;
	char **privileges;
	size_t nprivileges;
	/* ENTRIES; RESOLVE: id and path of each */
	struct upstream_entry *entries;
	size_t nentries;
	char *after;			/* the cursor of the next page, as it is to be sent; NULL: the last one */
};

/* The table: status and class to outcome. */
enum upstream_outcome upstream_classify(int status, const char *error_class);
const char *upstream_outcome_name(enum upstream_outcome outcome);

/* The reply of `status` with this body (not ended by NUL). Headers are put in by the caller. -ENOMEM.
 * *ret_reply is the caller's in any case, and ends with upstream_reply_fini(). */
int upstream_reply_parse(enum upstream_question question, int status, const char *body, size_t len_bytes,
			 struct upstream_reply *ret_reply);
void upstream_reply_fini(struct upstream_reply *reply);
bool upstream_reply_has_privilege(const struct upstream_reply *reply, const char *name);

/* One header line, not ended by NUL: ETag, Retry-After and Date are taken into the reply, the rest is passed over. */
void upstream_reply_header(struct upstream_reply *reply, const char *line, size_t len_bytes);

/* "2024-10-08T21:53:46.493886743Z": 0 to 9 digits of a fraction, rounded down. -EINVAL: not this form. */
int upstream_time_parse(const char *text, int64_t *ret_s);

/* The proof: the lock ends at or after what is wanted, and holds if a hold is wanted. What is not wanted may be there. */
bool upstream_lock_covers(const struct upstream_lock *have, const struct upstream_lock *want);

/* False: the reply says that it is about another file than the one at `path` (without a slash in front) below `root`, so its lock proves
 * nothing. Where that cannot be told it is true: no path in the reply, a name that is no UTF-8, a file of several names, of which
 * the cluster chooses one. */
bool upstream_reply_is_of(const struct upstream_reply *reply, const char *root, const char *path);

#endif
